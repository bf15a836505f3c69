#!/usr/bin/env python3
"""Compares two event loops on one address with a single event loop.

    benches/multicore.py [ROUNDS [SECONDS]]

Two client processes with 32 connections each produce the load; they sleep while they wait. The
kernel distributes connections by a hash, so the loops have roughly equal numbers of them. With four
or more cores, the server runs on the first two and the clients on the next two. Otherwise they
share all cores, and the table says so: the second loop can then use only the time in which the
clients are idle, and CPU time per message says more than messages per second. Each of ROUNDS (5)
runs every case for SECONDS (3); the table shows medians. Needs Linux and taskset.
"""

import statistics
import sys

from runs import CORES, Server, build, figures, table

CASES = {
    "20 B": ["--size", 20],
    "32 B, 16 at once": ["--size", 32, "--depth", 16],
    "16 KiB": ["--size", 16384, "--kind", "binary"],
}
CLIENTS = 2
APART = len(CORES) >= 4


def measure(loops, case, seconds):
    """Returns messages per second and microseconds of CPU time per message."""
    server_cores, client_cores = (CORES[:2], CORES[2:4]) if APART else (CORES, CORES)
    args = ["--connections", 32, "--warmup", 0.5, "--seconds", seconds, *CASES[case]]
    with Server(server_cores, "--loops", loops) as server:
        clients = [server.start_load(client_cores, *args) for _ in range(CLIENTS)]
        runs = [figures(client) for client in clients]
    throughput = sum(run["throughput"] for run in runs)
    # Each client counted all of the server's CPU time, but only its own messages.
    cpu = statistics.mean(run["cpu"] * run["throughput"] for run in runs)
    steal = statistics.mean(run["steal"] for run in runs)
    return {"throughput": throughput, "cpu": cpu / throughput / 1000, "steal": steal}


def main():
    numbers = [int(arg) for arg in sys.argv[1:]] + [5, 3][len(sys.argv) - 1 :]
    rounds, seconds = numbers
    build()
    runs = {}
    for _ in range(rounds):
        for case in CASES:
            for loops in [1, 2]:
                runs.setdefault((case, loops), []).append(measure(loops, case, seconds))

    def median(case, loops, name):
        return statistics.median(run[name] for run in runs[case, loops])

    where = "on cores of their own" if APART else f"on the same {len(CORES)} cores as the server"
    print(f"Echoes over 2 x 32 connections, two clients {where}; medians of {rounds} rounds of")
    print(f"{seconds} s. CPU is the server's.\n")
    rows = []
    for case in CASES:
        one, two = (median(case, loops, "throughput") for loops in [1, 2])
        ratio = statistics.median(
            after["throughput"] / before["throughput"]
            for before, after in zip(runs[case, 1], runs[case, 2])
        )
        cpus = [f"{median(case, loops, 'cpu'):.2f} us" for loops in [1, 2]]
        rows.append([case, f"{one:,.0f}", f"{two:,.0f}", f"{ratio:.2f}", *cpus])
    head = ["messages", "one loop, per second", "two loops", "ratio"]
    table([*head, "one loop, CPU of a message", "two loops"], rows)
    steal = max(run["steal"] for each in runs.values() for run in each)
    print(f"Taken by the hypervisor: {steal:.1%} of a core at most.")


if __name__ == "__main__":
    main()
