#!/usr/bin/env python3
"""Counts the echo example's system calls per message, with strace -c.

    benches/syscalls.py [CONNECTIONS [ROUNDS [SIZE [DEPTH]]]]

Each of CONNECTIONS (64) sends DEPTH (1) text messages of SIZE (20) bytes at once, ROUNDS (500)
times, and waits for the replies each time. What the start of the server and the opening handshakes
cost is counted in a run of no rounds and taken off. Needs strace.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frame(size):
    """A masked text frame; the key is zero."""
    if size < 126:
        head = bytes([0x81, 0x80 | size])
    elif size < 65536:
        head = bytes([0x81, 0xFE]) + size.to_bytes(2, "big")
    else:
        head = bytes([0x81, 0xFF]) + size.to_bytes(8, "big")
    return head + bytes(4) + b"x" * size


def read_exactly(sock, size):
    while size:
        chunk = sock.recv(min(size, 1 << 20))
        if not chunk:
            sys.exit("the server closed")
        size -= len(chunk)


def load(port, connections, rounds, size, depth):
    """Runs the load; every reply is read before the next round."""
    socks = []
    for _ in range(connections):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(REQUEST)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += sock.recv(1)
        socks.append(sock)
    batch = frame(size) * depth
    for _ in range(rounds):
        for sock in socks:
            sock.sendall(batch)
        for sock in socks:
            read_exactly(sock, len(batch) - 4 * depth)
    for sock in socks:
        sock.close()


def count(connections, rounds, size, depth):
    """Returns the calls of one run, by name."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    echo = os.path.join(TARGET, "release", "examples", "echo")
    with tempfile.NamedTemporaryFile("r") as counts:
        strace = subprocess.Popen(
            ["strace", "-c", "-U", "name,calls", "-o", counts.name, echo, f"127.0.0.1:{port}"],
            stderr=subprocess.DEVNULL,
        )
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        load(port, connections, rounds, size, depth)
        children = f"/proc/{strace.pid}/task/{strace.pid}/children"
        with open(children) as file:
            os.kill(int(file.read().split()[0]), signal.SIGTERM)
        strace.wait()
        lines = re.findall(r"^(\w+) +(\d+)$", counts.read(), re.MULTILINE)
    return {name: int(calls) for name, calls in lines if name != "total"}


def main():
    if not shutil.which("strace"):
        sys.exit("strace is missing: apt-get install strace")
    subprocess.run(
        ["cargo", "build", "--quiet", "--release", "--example", "echo"], cwd=ROOT, check=True
    )
    numbers = [int(arg) for arg in sys.argv[1:]] + [64, 500, 20, 1][len(sys.argv) - 1 :]
    connections, rounds, size, depth = numbers
    base = count(connections, 0, size, depth)
    full = count(connections, rounds, size, depth)
    messages = connections * rounds * depth
    print(f"{connections} connections, {messages} messages of {size} bytes, {depth} at once")
    total = 0
    for name in sorted(full, key=full.get, reverse=True):
        calls = full[name] - base.get(name, 0)
        if calls > messages / 10000:
            total += calls
            print(f"  {name:12} {calls / messages:8.4f} per message")
    print(f"  {'all':12} {total / messages:8.4f} per message")


if __name__ == "__main__":
    main()
