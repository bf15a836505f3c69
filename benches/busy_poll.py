#!/usr/bin/env python3
"""Measures the latency and the CPU time of `busy_poll`, for a 32-byte echo on one connection.

    benches/busy_poll.py [ROUNDS [SECONDS]]

The server sleeps at once, or spins for 50 us or 1 ms first. It is pinned to the first core and the
client to the second. The client either sends the next message when it has the reply, and sleeps or
spins while it waits, or sends at a fixed rate. At a fixed rate latency counts from the time at
which a message was due, so that a stall is charged to every message that it delays. Each of ROUNDS
(5) runs every case for SECONDS (3), one server after the other; the tables show medians over the
rounds. Needs Linux, two cores and taskset.
"""

import statistics
import sys

from runs import CORES, Server, build, table

SERVERS = {"sleeps": 0, "spins 50 us": 50, "spins 1 ms": 1000}
CLIENTS = {
    "the client sleeps": [],
    "the client spins": ["--spin"],
    "1,000 messages/s": ["--rate", 1000],
    "5,000 messages/s": ["--rate", 5000],
}
IDLE = "idle"


def measure(micros, client, seconds):
    """Returns the figures of one run: percentiles in microseconds, and shares of a core."""
    with Server(CORES[:1], "--busy-poll", micros) as server:
        if client == IDLE:
            # The server starts to spin only after its first event.
            server.load(CORES[1:2], "--connections", 1, "--size", 32, "--rounds", 100)
            return {"cpu": server.cpu_share(seconds)}
        args = ["--connections", 1, "--size", 32, "--warmup", 0.5, "--seconds", seconds]
        run = server.load(CORES[1:2], *args, *CLIENTS[client])
    latency = {name: nanos / 1000 for name, nanos in run["latency"].items()}
    return latency | {
        "throughput": run["throughput"],
        "cpu": run["cpu"] * run["throughput"] / 1e9,
        "steal": run["steal"],
        "wait": run["wait"],
        "unanswered": run.get("unanswered", 0),
    }


def main():
    numbers = [int(arg) for arg in sys.argv[1:]] + [5, 3][len(sys.argv) - 1 :]
    rounds, seconds = numbers
    if len(CORES) < 2:
        sys.exit("the server and the client need a core each")
    build()
    runs = {}
    for _ in range(rounds):
        for client in [*CLIENTS, IDLE]:
            for server, micros in SERVERS.items():
                runs.setdefault((client, server), []).append(measure(micros, client, seconds))

    def median(client, server, name):
        return statistics.median(run[name] for run in runs[client, server])

    print(f"Echo of 32 B, one connection, microseconds; medians of {rounds} rounds of {seconds} s.")
    print("CPU is the server's, of one core.\n")
    for client in CLIENTS:
        rows = []
        for server in SERVERS:
            times = [f"{median(client, server, name):.1f}" for name in ["p50", "p99", "p999", "max"]]
            each = f"{median(client, server, 'throughput'):,.0f}"
            rows.append([server, *times, each, f"{median(client, server, 'cpu'):.0%}"])
        table([client, "p50", "p99", "p99.9", "max", "messages/s", "CPU"], rows)
    rows = [[server, f"{median(IDLE, server, 'cpu'):.2%}"] for server in SERVERS]
    table(["no messages", "CPU"], rows)
    timed = [run for (client, _), each in runs.items() if client != IDLE for run in each]
    steal, wait = (max(run[name] for run in timed) for name in ["steal", "wait"])
    print(f"Taken by the hypervisor: {steal:.1%} of a core at most; by other processes, while the")
    print(f"server was ready: {wait:.1%}. Much of either spoils the figures.")
    unanswered = sum(run["unanswered"] for run in timed)
    if unanswered:
        print(f"{unanswered} messages were not answered: the server could not keep the rate.")


if __name__ == "__main__":
    main()
