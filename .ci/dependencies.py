#!/usr/bin/env python3
"""Checks the dependencies of this crate, offline: sources, licences, versions, banned crates.

The script reads only Cargo.lock and the manifests, and takes a second. It cannot know advisories
that are newer than its lists: `cargo deny check` queries the advisory database (deny.toml has the
same rules, and more).
"""

import json
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# The oldest versions without the listed defects (docs/security.md, "Dependencies").
FLOORS = {
    "bytes": ("1.11.1", "RUSTSEC-2026-0007: integer overflow"),
    "http": ("1.0.0", "RUSTSEC-2019-0033: integer overflow; the API of 1"),
    "mio": ("1.0.0", "RUSTSEC-2024-0019: tokens after deregistration"),
    "rustls": ("0.23.18", "RUSTSEC-2024-0399, -0336: a panic, an endless loop"),
    "rustls-webpki": ("0.103.13", "RUSTSEC-2026-0104, -0099, -0098, 2023-0053: a panic, names, CPU"),
    "slab": ("0.4.11", "RUSTSEC-2025-0047: out of bounds"),
}
# Crates that must not become dependencies, and the reasons.
BANNED = {
    "atty": "RUSTSEC-2021-0145; std has it",
    "h2": "HTTP/2 is not spoken; what it costs is to be looked at first",
    "openssl": "TLS is rustls's",
    "openssl-sys": "TLS is rustls's",
    "rustls-pemfile": "RUSTSEC-2025-0134: unmaintained; rustls reads PEM",
    "webpki": "RUSTSEC-2023-0052; it is rustls-webpki now",
}
# Licences that any kind of program can satisfy with a notice.
LICENCES = {"Apache-2.0", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "Unicode-3.0", "Zlib"}
# Two versions of these are allowed until the crates that need them agree on one.
TWICE = {"syn", "untrusted"}


def metadata():
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--all-features"]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def is_allowed(expression):
    """Returns whether the licences above satisfy an SPDX expression."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def either():
        allowed = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            # The right-hand side is parsed even if the left-hand side is allowed.
            allowed = both() or allowed
        return allowed

    def both():
        allowed = single()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            allowed = single() and allowed
        return allowed

    def single():
        token = tokens.pop(0)
        if token == "(":
            allowed = either()
            tokens.pop(0)
            return allowed
        if tokens and tokens[0] == "WITH":
            # An exception only adds permissions.
            del tokens[:2]
        return token in LICENCES

    return either()


def number(version):
    return tuple(int(part) for part in version.split("-")[0].split("+")[0].split("."))


def reached(data):
    """Returns the packages built into a program with this crate, without tools and tests."""
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    root = next(package["id"] for package in data["packages"] if package["name"] == "wsloop")
    found, open_ids = set(), [root]
    while open_ids:
        current = open_ids.pop()
        if current in found:
            continue
        found.add(current)
        for dependency in nodes[current]["deps"]:
            kinds = dependency["dep_kinds"]
            unix = [kind for kind in kinds if "windows" not in (kind["target"] or "")]
            if any(kind["kind"] in (None, "build") for kind in unix):
                open_ids.append(dependency["pkg"])
    return found


def main():
    data = metadata()
    ours = set(data["workspace_members"])
    built = reached(data)
    faults, versions, sources = [], {}, set()
    for package in data["packages"]:
        name, version = package["name"], package["version"]
        shown = f"{name} {version}"
        if package["id"] in ours:
            continue
        # Only Cargo's default registry is configured, so all packages must name the same source.
        sources.add(package["source"])
        if not (package["source"] or "").startswith("registry+"):
            faults.append(f"{shown} is not from a registry: {package['source']}")
        if name in BANNED:
            faults.append(f"{shown}: {BANNED[name]}")
        floor, why = FLOORS.get(name, ("0", ""))
        if number(version) < number(floor):
            faults.append(f"{shown} is older than {floor}: {why}")
        if package["id"] in built:
            if not is_allowed(package["license"] or "none"):
                faults.append(f"{shown} has the licence {package['license']}")
            versions.setdefault(name, []).append(version)
    for name, found in versions.items():
        if len(found) > 1 and name not in TWICE:
            faults.append(f"{name} comes in several versions: {', '.join(sorted(found))}")
    if len(sources) > 1:
        faults.append(f"crates come from several places: {', '.join(map(str, sources))}")
    for line in faults:
        print(f"FAILED: {line}")
    if faults:
        sys.exit("the dependencies are not what they may be")
    print(f"{len(versions)} crates are built in, of {len(data['packages'])} with tests and tools")


if __name__ == "__main__":
    main()
