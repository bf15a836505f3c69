#!/usr/bin/env python3
"""Checks that the cost per byte of hostile input does not grow with the size of the input.

    benches/linearity.py

Runs the cases of benches/linearity.rs with callgrind. Each shape comes in three sizes, each four
times the one before. Work that is linear in its input costs at most four times as many
instructions, and less if part of it is constant. A shape fails if its cost per byte grows by more
than the tolerance. Counts are only compared with each other, so there is no record, and the
versions of the tools do not matter. Needs valgrind, and gungraun-runner in the version of gungraun
in Cargo.lock.
"""

import json
import sys

from instructions import allow_descriptors, instructions, output

BENCH = ["cargo", "bench", "--quiet", "--bench", "linearity"]
# The factor between one size and the next.
STEP = 4
SIZES = 3
# How much the cost per byte may grow from one size to the next, in percent. Sorting adds 18 %;
# quadratic work would add 300 %.
TOLERANCE = 30.0


def count():
    """Builds and runs the cases; returns their counts by shape, in the order of the sizes."""
    allow_descriptors()
    counts = {}
    for line in output(*BENCH, "--", "--output-format=json").splitlines():
        summary = json.loads(line)
        shape, index = summary["id"].rsplit("_", 1)
        sizes = counts.setdefault(f"{summary['function_name']}/{shape}", {})
        sizes[int(index)] = instructions(summary)
    return {shape: [sizes[at] for at in sorted(sizes)] for shape, sizes in counts.items()}


def main():
    counts = count()
    failures = []
    width = max(map(len, counts))
    print(f"{'instructions':{width}} {'n':>12} {'4 n':>12} {'16 n':>12} {'for each byte':>18}")
    for shape, costs in sorted(counts.items()):
        if len(costs) != SIZES:
            failures.append(f"{shape} has {len(costs)} sizes")
            continue
        growth = [(more / STEP / less - 1) * 100 for less, more in zip(costs, costs[1:])]
        numbers = " ".join(f"{cost:12}" for cost in costs)
        print(f"{shape:{width}} {numbers} " + " ".join(f"{percent:+8.1f}%" for percent in growth))
        if max(growth) > TOLERANCE:
            failures.append(f"{shape} costs {max(growth):.0f} % more for each byte of a larger input")
    for line in failures:
        print(f"FAILED: {line}")
    if failures:
        sys.exit("hostile input may cost more than its size")


if __name__ == "__main__":
    main()
