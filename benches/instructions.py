#!/usr/bin/env python3
"""Counts the instructions of the cases in benches/instructions.rs with callgrind.

    benches/instructions.py --check     compares with benches/instructions.txt
    benches/instructions.py --record    writes benches/instructions.txt

The check fails if a case grew by more than the tolerance, and suggests a new record if one shrank
by more. The counts depend on the tools that the record names; with other tools the check only
prints. Needs valgrind, and gungraun-runner in the version of gungraun in Cargo.lock.
"""

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RECORD = os.path.join(ROOT, "benches", "instructions.txt")
# One codegen unit, so that the counts of one function do not depend on other functions.
BENCH = ["cargo", "bench", "--quiet", "--profile", "peers", "-p", "wsloop-benches", "--bench", "instructions"]
# The growth that is allowed for a case, in percent.
TOLERANCE = 3.0


def output(*command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def tools():
    """Returns the tools that the counts depend on besides the code and Cargo.lock, by name."""
    # Valgrind emulates the same processor everywhere, except for AVX2, which depends on the host.
    with open("/proc/cpuinfo") as file:
        avx2 = re.search(r"^flags\s*:.*\bavx2\b", file.read(), re.MULTILINE)
    return {
        "rustc": output("rustc", "--version").strip().removeprefix("rustc "),
        "target": f"{platform.machine()}{', AVX2' if avx2 else ''}",
        "libc": " ".join(platform.libc_ver()),
        "valgrind": output("valgrind", "--version").strip().removeprefix("valgrind-"),
    }


def instructions(summary):
    """Returns the instructions of one case, from its gungraun summary."""
    for profile in summary["profiles"]:
        if profile["tool"] == "Callgrind":
            return profile["data"]["total"]["metrics"]["Ir"]["values"]["new"]
    sys.exit("callgrind did not run")


def allow_descriptors():
    """Raises the limit of descriptors: a process may hold both ends of every connection."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def count():
    """Builds and runs the cases; returns their counts by name."""
    allow_descriptors()
    counts = {}
    for line in output(*BENCH, "--", "--output-format=json").splitlines():
        summary = json.loads(line)
        counts[f"{summary['function_name']}/{summary['id']}"] = instructions(summary)
    return counts


def load():
    """Returns the record: the tools and the counts, each by name."""
    used, counts = {}, {}
    with open(RECORD) as file:
        for line in file:
            if tool := re.fullmatch(r"# (\w+): (.*)\n", line):
                used[tool[1]] = tool[2]
            elif not line.startswith("#"):
                name, number = line.split()
                counts[name] = int(number)
    return used, counts


def record(used, counts):
    width = max(map(len, counts))
    with open(RECORD, "w") as file:
        file.write("# Instructions, written by benches/instructions.py --record\n")
        file.writelines(f"# {tool}: {version}\n" for tool, version in used.items())
        file.writelines(f"{name:{width}} {counts[name]:10}\n" for name in sorted(counts))


def check(used, counts):
    """Prints the comparison; returns the failures and the remarks."""
    recorded_with, recorded = load()
    failures, remarks = [], []
    width = max(map(len, counts | recorded))
    print(f"{'instructions':{width}} {'recorded':>10} {'now':>10} {'difference':>10}")
    for name in sorted(counts | recorded):
        before, now = recorded.get(name), counts.get(name)
        if before is None or now is None:
            print(f"{name:{width}} {before or '-':>10} {now or '-':>10}")
            failures.append(f"{name} is {'not on record' if before is None else 'gone'}")
            continue
        percent = (now - before) / before * 100
        print(f"{name:{width}} {before:10} {now:10} {percent:+9.2f}%")
        if percent > TOLERANCE:
            failures.append(f"{name} grew by {percent:.1f} %")
        elif percent < -TOLERANCE:
            remarks.append(f"{name} shrank by {-percent:.1f} %: record anew, to hold on to it")
    changed = [tool for tool in used if used[tool] != recorded_with.get(tool)]
    if changed:
        for tool in changed:
            remarks.append(f"{tool} is {used[tool]}, and was {recorded_with.get(tool)}")
        remarks += failures
        remarks.append("other tools than the record's: nothing is held against these counts")
        failures = []
    return failures, remarks


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="compare with the record")
    action.add_argument("--record", action="store_true", help="write the record anew")
    arguments = parser.parse_args()
    used, counts = tools(), count()
    if arguments.record:
        record(used, counts)
        return
    failures, remarks = check(used, counts)
    for line in remarks:
        print(line)
    for line in failures:
        print(f"FAILED: {line}")
    if failures:
        sys.exit(f"more than {TOLERANCE:g} % above the record, or not comparable with it")


if __name__ == "__main__":
    main()
