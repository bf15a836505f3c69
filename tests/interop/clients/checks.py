"""What the clients in Python share: the checks' names, and how their results are printed."""

import contextlib
import signal
import sys

BASE, AUTHORITY, ID = sys.argv[1:4]
LIMIT = 20
TEXT = "grüße 🦀"
BYTES = bytes(range(256))
LARGE = bytes((at * 7 + (at >> 8) * 13) & 255 for at in range(1 << 20))
LONG = "a" * 200_000


def url(name, path="/"):
    return f"{BASE}{path}?id={ID}.{name}"


def tell(name, result, note=""):
    print(name, result, " ".join(str(note).split()), sep="\t", flush=True)


def late(*_):
    raise TimeoutError("nothing comes")


signal.signal(signal.SIGALRM, late)


@contextlib.contextmanager
def check(name):
    """Tells how a check ends."""
    notes = []
    signal.alarm(LIMIT)
    try:
        yield notes.append
    except Exception as error:  # whatever a client fails with is the result
        tell(name, "no", f"{type(error).__name__}: {error}")
    else:
        tell(name, "yes", notes[0] if notes else "")
    finally:
        signal.alarm(0)


def expect(found, wanted):
    assert found == wanted, f"{str(found)[:80]!r} and not {str(wanted)[:80]!r}"


def expect_compressed(info):
    expect(info["deflate"], True)
    assert info["sent"] < 20_000, info
    assert info["received"] < 20_000, info
