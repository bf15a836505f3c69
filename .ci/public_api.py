#!/usr/bin/env python3
"""Compares the public interface with docs/public-api.txt, an item a line; --write writes that file.

The crate public-api reads the JSON of rustdoc. That is an unstable output, which a stable compiler
gives with RUSTC_BOOTSTRAP=1; its format depends on the compiler, so another compiler than the one
that the file names only prints a note.
"""

import difflib
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LISTING = ROOT / "docs" / "public-api.txt"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def listing():
    """Returns the lines of the interface, the compiler first."""
    rustdoc = ["cargo", "rustdoc", "--quiet", "-p", "wsloop", "--lib", "--all-features", "--"]
    rustdoc += ["-Zunstable-options", "--output-format", "json", "--cap-lints", "allow"]
    # A directory of its own: the flag would make everything else there compile again.
    target = TARGET / "public-api"
    env = os.environ | {"RUSTC_BOOTSTRAP": "1", "CARGO_TARGET_DIR": str(target)}
    subprocess.run(rustdoc, cwd=ROOT, check=True, env=env)
    document = target / "doc" / "wsloop.json"
    manifest = ROOT / ".ci" / "public-api" / "Cargo.toml"
    tool = ["cargo", "run", "--quiet", "--locked", "--manifest-path", str(manifest), str(document)]
    env = os.environ | {"CARGO_TARGET_DIR": str(target / "tool")}
    items = subprocess.run(tool, check=True, env=env, stdout=subprocess.PIPE, text=True).stdout
    version = json.loads(document.read_text())["format_version"]
    return [f"# rustdoc JSON format {version}"] + items.splitlines()


def main():
    now = listing()
    if "--write" in sys.argv:
        LISTING.write_text("\n".join(now) + "\n")
        return 0
    recorded = LISTING.read_text().splitlines()
    if recorded[:1] != now[:1]:
        print(f"not comparable: {LISTING.name} is of {recorded[:1]}, this compiler gives {now[:1]}")
        return 0
    changes = list(difflib.unified_diff(recorded, now, LISTING.name, "now", lineterm="", n=0))
    print(*changes, sep="\n")
    if changes:
        print("the public interface differs from its listing: .ci/public_api.py --write", file=sys.stderr)
    return bool(changes)


if __name__ == "__main__":
    sys.exit(main())
