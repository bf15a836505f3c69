"""Shared by the measurements in this directory: servers, loads and CPU times of processes."""

import glob
import json
import os
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
CORES = sorted(os.sched_getaffinity(0))


def build():
    """Builds the server and the load generator with the profile of the comparison in peers."""
    subprocess.run(
        ["cargo", "build", "--quiet", "--profile", "peers", "-p", "wsloop-peers"]
        + ["--bin", "load", "--bin", "server-wsloop"],
        cwd=ROOT,
        check=True,
    )


def pinned(cores, program, args):
    path = os.path.join(TARGET, "peers", program)
    return ["taskset", "-c", ",".join(map(str, cores)), path, *map(str, args)]


class Server:
    """A wsloop server pinned to `cores`; it is killed at the end of the `with` block."""

    def __init__(self, cores, *args):
        command = pinned(cores, "server-wsloop", ["--listen", "127.0.0.1:0", *args])
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().split()[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def start_load(self, cores, *args):
        """Starts a load; pass the result to `figures` to wait for it."""
        args = ["--connect", self.address, "--server-pid", self.process.pid, *args]
        return subprocess.Popen(pinned(cores, "load", args), stdout=subprocess.PIPE, text=True)

    def load(self, cores, *args):
        """Runs a load; returns its figures."""
        return figures(self.start_load(cores, *args))

    def cpu(self):
        """Returns the CPU time of all threads so far, in seconds."""
        nanos = 0
        for path in glob.glob(f"/proc/{self.process.pid}/task/*/schedstat"):
            with open(path) as file:
                nanos += int(file.read().split()[0])
        return nanos / 1e9

    def cpu_share(self, seconds):
        """Returns the share of a core that the server uses during `seconds`."""
        cpu, begin = self.cpu(), time.monotonic()
        time.sleep(seconds)
        return (self.cpu() - cpu) / (time.monotonic() - begin)


def figures(load):
    """Waits for a load and returns its figures."""
    output, _ = load.communicate()
    if load.returncode != 0:
        raise SystemExit("the load failed")
    return json.loads(output)


def table(head, rows):
    """Prints a table in Markdown; all columns but the first are numbers."""
    print("| " + " | ".join(head) + " |")
    print("|---|" + "---:|" * (len(head) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()
