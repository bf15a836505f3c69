#!/usr/bin/env python3
"""Checks which names each module of src/ may use, and that no two modules use each other.

A module, called a room here, is a top-level module of the crate: a directory of src/ or a file
beside them. Comments and tests are ignored.
"""

import re
import sys
from pathlib import Path

SRC = Path(__file__).resolve().parent.parent / "src"

# The patterns that must not occur in the files below a path.
CLOCK = r"Instant::now|SystemTime::now"
FORBIDDEN = {
    "protocol": [r"std::net|std::io|mio::|rustls", CLOCK],
    "handshake": [r"std::net|std::io|mio::|rustls", CLOCK],
    "plain_http": [r"std::net|std::io|mio::|rustls", CLOCK],
    "proxy": [r"std::io|mio::|rustls", CLOCK],
    "event": [r"mio::|rustls", CLOCK],
    "connection": [r"mio::Poll|Poll::new|rustls", CLOCK],
    "reactor": [r"\bPoll\b|mio::|rustls", CLOCK],
    "transport": [r"mio::Poll|Poll::new"],
    "": [r"\b(println|eprintln|dbg)!"],
}

# The feature modules of connection/. They must not refer to the modules in KNOT.
FEATURES = ["peer", "send", "limits", "deflate"]
KNOT = r"(super|connection)::(api|core|entry|shared)\b"

# Rooms that only tests use.
TEST_ROOMS = ["client_frames", "simulation"]

# In the modules above the time is an argument. Only these files may read the clock.
ALLOWED = {("connection/shared.rs", CLOCK)}


def code(path):
    """Returns the code of a file, without comments, the contents of strings, and unit tests."""
    text = path.read_text()
    text = re.sub(
        r"""//[^\n]*|r#"(?s:.*?)"#|b?'(?:[^'\\\n]|\\[^\n]+?)'(?!\w)|"(?:[^"\\]|\\(?s:.))*\"""",
        lambda found: "" if found.group().startswith("//") else '""',
        text,
    )
    # The tests module is the last item of its file.
    return re.split(r"#\[cfg\(test\)\]\s*(?:pub\([^)]*\) )?mod tests \{", text)[0]


def is_test(path):
    parts = path.relative_to(SRC).parts
    return "tests" in parts or path.name == "tests.rs" or room_of(path) in TEST_ROOMS


def room_of(path):
    return path.relative_to(SRC).parts[0].removesuffix(".rs")


def named(text):
    """Yields the rooms that a text refers to."""
    for start in re.finditer(r"\bcrate::", text):
        rest = text[start.end():]
        if rest.startswith("{"):
            depth, end = 0, 0
            for end, char in enumerate(rest):
                depth += (char == "{") - (char == "}")
                if depth == 0:
                    break
            inside = rest[1:end]
            while re.search(r"\{[^{}]*\}", inside):
                inside = re.sub(r"\{[^{}]*\}", "", inside)
            yield from re.findall(r"(?:^|,)\s*(\w+)", inside)
        else:
            yield re.match(r"\w*", rest).group()


def front_door():
    """Returns the room of each name that src/lib.rs exports."""
    found = {}
    for room, names in re.findall(r"pub use (\w+)::([^;]*);", code(SRC / "lib.rs")):
        for name in re.findall(r"\w+", names):
            found[name] = room
    return found


def circles(arrows):
    """Returns the sets of rooms that refer to each other, directly or through others."""
    reach = {room: set(to) for room, to in arrows.items()}
    changed = True
    while changed:
        changed = False
        for room, to in reach.items():
            more = set().union(*(reach.get(other, set()) for other in to)) - to
            if more:
                to |= more
                changed = True
    found = {frozenset(o for o in reach if o in reach[r] and r in reach[o]) for r in reach if r in reach[r]}
    return [sorted(circle) for circle in found]


def main():
    broken = []
    arrows = {}
    because = {}
    exported = front_door()
    rooms = {room_of(path) for path in SRC.rglob("*.rs")} - {"lib"}
    for path in sorted(SRC.rglob("*.rs")):
        if is_test(path):
            continue
        name = str(path.relative_to(SRC))
        text = code(path)
        for below, patterns in FORBIDDEN.items():
            if below and not name.startswith((below + "/", below + ".rs")):
                continue
            for pattern in patterns:
                if (name, pattern) in ALLOWED:
                    continue
                for found in re.finditer(pattern, text):
                    broken.append(f"src/{name}: {found.group()} does not belong in {below or 'src'}")
        if name.startswith(tuple(f"connection/{feature}" for feature in FEATURES)):
            for found in re.finditer(KNOT, text):
                broken.append(f"src/{name}: {found.group()} does not belong in a feature of connection/")
        room = room_of(path)
        if room == "lib":
            continue
        for other in named(text):
            other = exported.get(other, other)
            if other in rooms and other != room:
                arrows.setdefault(room, set()).add(other)
                because.setdefault((room, other), name)
    for circle in circles(arrows):
        broken.append(f"these rooms name each other: {', '.join(circle)}")
        broken += [
            f"  {room} -> {other} (src/{because[room, other]})"
            for room in circle
            for other in circle
            if other in arrows.get(room, ())
        ]
    if "--arrows" in sys.argv:
        for room in sorted(arrows):
            print(f"{room} -> {', '.join(sorted(arrows[room]))}")
    print(*broken, sep="\n", file=sys.stderr)
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
