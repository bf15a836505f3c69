"""Runs Autobahn cases against an echo server and compares each result with expected.json."""

import argparse
import contextlib
import fnmatch
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

from kosoku.cases import CASES

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXPECTED = ROOT / "conformance/expected.json"
REPORTS = ROOT / "target/conformance/reports"
SERVER_LOG = ROOT / "target/conformance/server.log"

# The cases of permessage-deflate.
NOT_BY_DEFAULT = ["12.*", "13.*"]

# Other results fail, even if expected.json contains them.
ACCEPTABLE = {"OK", "INFORMATIONAL"}

# Time limits. kosoku waits for an opening handshake without a limit, and a case may wait 1000 s for
# an echo. With compression kosoku needs minutes.
RUN_SECONDS_MAX = 600
RUN_COMPRESSED_SECONDS_MAX = 3600
START_SECONDS_MAX = 10
STOP_SECONDS_MAX = 5


class Unable(Exception):
    """The cases could not be run."""


def main():
    options = parse_options()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    try:
        cases = select(options.cases)
        if options.server:
            results, failures = run(options.server, cases), 0
        else:
            results, failures = run_with_own_server(cases, options.compressor)
        if options.update:
            update(results, options.cases)
        passed, deviating = compare(results, cases, options.cases)
    except (OSError, subprocess.CalledProcessError, Unable) as error:
        sys.exit(f"conformance: {error}")
    failures += deviating
    print(f"all reports: {shown(REPORTS / 'index.html')}")
    print(f"{passed} passed, {failures} failed")
    sys.exit(1 if failures else 0)


def parse_options():
    parser = argparse.ArgumentParser(prog="conformance/run", description=__doc__)
    parser.add_argument(
        "cases",
        nargs="*",
        metavar="CASE",
        help="ids or patterns such as '9.*'; without any, all but " + " and ".join(NOT_BY_DEFAULT),
    )
    parser.add_argument(
        "--server",
        metavar="ADDRESS",
        help="host:port of a running echo server, to test it instead of examples/conformance.rs",
    )
    parser.add_argument(
        "--compressor",
        choices=["dedicated", "shared"],
        default="dedicated",
        help="what examples/conformance.rs compresses everything with (default: %(default)s)",
    )
    parser.add_argument(
        "--update",
        action="store_true",
        help="write the results that are acceptable to expected.json before comparing",
    )
    return parser.parse_args()


def is_selected(case, patterns):
    if patterns:
        return any(fnmatch.fnmatchcase(case, pattern) for pattern in patterns)
    return not is_selected(case, NOT_BY_DEFAULT)


# Matches the ids here, because kosoku's patterns are prefixes: its `*.1` also matches 2.10.
def select(patterns):
    for pattern in patterns:
        if not fnmatch.filter(CASES, pattern):
            raise Unable(f"no case matches {pattern}")
    return {case for case in CASES if is_selected(case, patterns)}


def run_with_own_server(cases, compressor):
    subprocess.run(["cargo", "build", "--release", "--example", "conformance"], cwd=ROOT, check=True)
    target = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
    address = f"127.0.0.1:{free_port()}"
    with open(SERVER_LOG, "wb") as log:
        server = subprocess.Popen(
            [target / "release/examples/conformance", address, compressor],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_accepting(server, address)
        results = run(address, cases)
        status = server.poll()
    finally:
        stop(server)
    if status is None:
        return results, 0
    print(f"the server ended with status {status} while it was tested: {shown(SERVER_LOG)}")
    return results, 1


# Another process may take the port before the server binds it. The server then exits with an error.
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def wait_until_accepting(server, address):
    host, port = address.rsplit(":", 1)
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise Unable(f"the server ended with status {server.returncode}: {shown(SERVER_LOG)}")
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection((host, int(port))).close()
            return
        time.sleep(0.05)
    raise Unable(f"no server at {address} after {START_SECONDS_MAX} s: {shown(SERVER_LOG)}")


def stop(server):
    server.terminate()
    try:
        server.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


# Returns the entries of kosoku's index, by case. kosoku runs in its own process, so that a time
# limit can end it, and so that a crash of its native code does not prevent this script from
# stopping the server.
def run(address, cases):
    shutil.rmtree(REPORTS, ignore_errors=True)
    command = [pathlib.Path(sys.executable).parent / "kosoku", address, "--outdir", REPORTS]
    for case in naturally_sorted(cases):
        command += ["--include", case]
    compressed = any(is_selected(case, NOT_BY_DEFAULT) for case in cases)
    most = RUN_COMPRESSED_SECONDS_MAX if compressed else RUN_SECONDS_MAX
    try:
        kosoku = subprocess.run(command, capture_output=True, text=True, timeout=most)
    except subprocess.TimeoutExpired:
        message = f"the cases took more than {most} s; run a few at a time"
        raise Unable(message) from None
    # kosoku exits with 1 if cases failed, but also on errors of its own.
    index = REPORTS / "index.json"
    if kosoku.returncode not in (0, 1) or not index.exists():
        raise Unable(f"kosoku ended with status {kosoku.returncode}\n{kosoku.stderr}")
    # The index is grouped by the `Server` header, which a failed handshake lacks.
    by_server = json.loads(index.read_text())
    return {case: entry for entries in by_server.values() for case, entry in entries.items()}


def update(results, patterns):
    recorded = {
        case: behavior
        for case, behavior in read_expected().items()
        if case in results or not is_selected(case, patterns)
    }
    for case, entry in results.items():
        if is_acceptable(behavior_of(entry)):
            recorded[case] = behavior_of(entry)
    lines = [f'  "{case}": {json.dumps(recorded[case])}' for case in naturally_sorted(recorded)]
    EXPECTED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def compare(results, cases, patterns):
    expected = {c: b for c, b in read_expected().items() if is_selected(c, patterns)}
    passed = deviating = 0
    for case in naturally_sorted(expected.keys() | results.keys() | cases):
        entry, want = results.get(case), expected.get(case)
        got = behavior_of(entry) if entry else None
        if want and got == want and is_acceptable(got):
            passed += 1
            continue
        deviating += 1
        print(f"{case}: expected {in_words(want)}, got {in_words(got)}")
        if entry:
            explain(REPORTS / entry["reportfile"])
    return passed, deviating


def explain(report):
    case = json.loads(report.read_text())
    reasons = [
        case[reason]
        for behavior, reason in (("behavior", "result"), ("behaviorClose", "resultClose"))
        if case[behavior] != "OK" and case[reason]
    ]
    for reason in dict.fromkeys(reasons):
        print(f"    {reason}")
    print(f"    {shown(report)}")


def read_expected():
    return json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}


def behavior_of(entry):
    return {name: entry[name] for name in ("behavior", "behaviorClose")}


def is_acceptable(behavior):
    return ACCEPTABLE.issuperset(behavior.values())


def in_words(behavior):
    return f"{behavior['behavior']} (close: {behavior['behaviorClose']})" if behavior else "nothing"


def naturally_sorted(cases):
    return sorted(cases, key=lambda case: [int(part) for part in case.split(".")])


def shown(path):
    return os.path.relpath(path)


if __name__ == "__main__":
    main()
