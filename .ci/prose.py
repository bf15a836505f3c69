#!/usr/bin/env python3
"""Checks the text of this repository: links, anchors and the width of lines.

Every tracked Markdown file:
  - A relative link or image leads to an existing file or directory. An `#anchor` leads to a heading
    (by GitHub's rules for anchors) or to an explicit `id`.
  - A line of prose has at most 120 characters. Tables and code blocks are exempt.

Every tracked Rust file below src/, tests/, examples/ and benches/:
  - A line that is a comment (`//!`, `///`, `//`) has at most 100 characters. Tables are exempt.

A line that is long because of one address (a URL, or the target of a link) is exempt everywhere.

Usage: .ci/prose.py [PATH]...

With paths, only those files are checked. Each violation is printed as `path:line: text`. The exit
status is 1 if there is any.
"""

import html
import os
import re
import subprocess
import sys
import unicodedata
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROSE = 120
COMMENT = 100
RUST = ("src/", "tests/", "examples/", "benches/")

FENCE = re.compile(r"^(?:[ ]{0,3}|(?:>[ ]?|[-*+][ ]+|\d+[.)][ ]+|[ ])*)(`{3,}|~{3,})(.*)$")
ATX = re.compile(r"^ {0,3}(#{1,6})(?:[ \t]+(.*?))?[ \t]*$")
CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
INLINE = re.compile(
    r"\]\(\s*(<[^<>]*>|(?:[^()\s]|\([^()\s]*\))*)"
    r"(?:\s+(?:\"[^\"]*\"|'[^']*'|\([^()]*\)))?\s*\)"
)
DEFINITION = re.compile(r"^ {0,3}\[([^\]^][^\]]*)\]:\s*(<[^<>]*>|\S+)")
ATTRIBUTE = re.compile(
    r"<(?:a|img|source|link)\b[^>]*?\b(?:href|src)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", re.I
)
IDENTIFIER = re.compile(r"<\w+\b[^>]*?\b(?:id|name)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", re.I)
COMMENTED = re.compile(r"<!--.*?-->")
SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:|^//")
ADDRESS = re.compile(r"https?://\S+|\]\([^()\s]+\)")
# The Unicode categories that an anchor keeps: letters, marks, numbers, connectors such as `_`.
KEPT = {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd", "Nl", "No", "Pc"}
TABLE = re.compile(r"^[ >]*\|")


def tracked(*patterns):
    """Returns the tracked files that match, sorted, without those deleted in the working tree."""
    out = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, check=True, stdout=subprocess.PIPE
    ).stdout
    names = [name.decode("utf-8", "surrogateescape") for name in out.split(b"\0") if name]
    return sorted(name for name in names if os.path.isfile(os.path.join(ROOT, name)))


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read().splitlines()


def without_code(line):
    """Blanks the code spans of a line, so that their contents are not taken for links."""
    return CODE_SPAN.sub(lambda span: " " * len(span.group(0)), line)


def classify(lines):
    """Yields the number, the text and the kind of each line: `prose`, `table` or `code`."""
    fence = None
    indented = False
    front = bool(lines) and lines[0].strip() == "---"
    for number, line in enumerate(lines, 1):
        if front:
            front = number == 1 or line.strip() not in ("---", "...")
            yield number, line, "code"
            continue
        found = FENCE.match(line)
        if fence is None and found and not (found[1][0] == "`" and "`" in found[2]):
            fence = found[1]
            yield number, line, "code"
        elif fence is not None:
            same = found and found[1][0] == fence[0] and len(found[1]) >= len(fence)
            if same and not found[2].strip():
                fence = None
            yield number, line, "code"
        elif line.startswith("    ") and (number == 1 or not lines[number - 2].strip() or indented):
            # An indented block starts after a blank line or continues one; inside a list it is
            # prose.
            indented = not in_list(lines, number - 1)
            yield number, line, "code" if indented else "prose"
            continue
        elif TABLE.match(line):
            yield number, line, "table"
        else:
            yield number, line, "prose"
        indented = False


def in_list(lines, index):
    """Returns whether an indented line belongs to an item of a list above it."""
    for line in reversed(lines[:index]):
        if re.match(r"^ {0,3}(?:[-*+]|\d+[.)])[ \t]", line):
            return True
        if line.strip() and not line.startswith(" "):
            return False
    return False


def plain(heading):
    """Returns the displayed text of a heading: without markup, and links reduced to their text."""
    text = COMMENTED.sub("", heading)
    spans = []

    def keep(span):
        spans.append(span.group(2).strip())
        return f"\0{len(spans) - 1}\0"

    text = CODE_SPAN.sub(keep, text)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])", r"\1", text)
    text = re.sub(r"<[^>]+>", "", text)
    text = re.sub(r"(\*\*|__)(.+?)\1", r"\2", text)
    text = re.sub(r"\*(.+?)\*", r"\1", text)
    text = re.sub(r"(?<!\w)_(.+?)_(?!\w)", r"\1", text)
    text = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)
    text = html.unescape(text)
    return re.sub("\0(\\d+)\0", lambda found: spans[int(found[1])], text)


def slug(heading):
    """Returns the anchor that GitHub derives from a heading."""
    kept = []
    for character in plain(heading).strip().lower():
        if character == " ":
            kept.append("-")
        elif character == "-" or unicodedata.category(character) in KEPT:
            kept.append(character)
    return "".join(kept)


def headings(lines):
    """Yields the text of each heading."""
    before = ""
    for _, line, kind in classify(lines):
        if kind != "prose":
            before = ""
            continue
        found = ATX.match(line)
        if found:
            yield re.sub(r"(?:^|[ \t]+)#+$", "", found[2] or "")
            before = ""
        elif before and re.match(r"^ {0,3}(=+|-+)[ \t]*$", line):
            yield before
            before = ""
        else:
            before = "" if re.match(r"^ {0,3}(?:[-*+>]|\d+[.)])[ \t]", line) else line.strip()


def anchors(name, cache={}):
    """Returns the anchors of a Markdown file."""
    if name not in cache:
        lines, seen, found = read(name), {}, set()
        for heading in headings(lines):
            anchor = slug(heading)
            count = seen.get(anchor, 0)
            seen[anchor] = count + 1
            found.add(f"{anchor}-{count}" if count else anchor)
        for _, line, kind in classify(lines):
            if kind != "code":
                ids = IDENTIFIER.findall(without_code(line))
                found.update(double or single for double, single in ids)
        cache[name] = found
    return cache[name]


def targets(lines):
    """Yields the line number and the target of each link and image."""
    commented = False
    for number, line, kind in classify(lines):
        if kind == "code":
            continue
        text = COMMENTED.sub("", without_code(line))
        if commented:
            commented = "-->" not in text
            continue
        if "<!--" in text:
            text, commented = text.split("<!--")[0], True
        for found in INLINE.finditer(text):
            yield number, found[1].strip("<>")
        found = DEFINITION.match(text)
        if found:
            yield number, found[2].strip("<>")
        for double, single in ATTRIBUTE.findall(text):
            yield number, double or single


def broken(name, target):
    """Returns what is wrong with a link target, or `None`."""
    if not target or SCHEME.match(target):
        return None
    path, _, anchor = target.partition("#")
    path = urllib.parse.unquote(path.partition("?")[0])
    if path.startswith("/"):
        file = path.lstrip("/")
    else:
        file = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
    if file.startswith(".."):
        return f"the link {target} leads out of the repository"
    whole = os.path.join(ROOT, file)
    if not os.path.exists(whole):
        return f"the link {target} leads to no file"
    if not anchor or not file.endswith(".md"):
        return None
    if urllib.parse.unquote(anchor) not in anchors(file):
        return f"the link {target} leads to no heading of {file}"
    return None


def too_long(line, limit):
    """Returns whether a line is too long; an address that cannot be wrapped is exempt."""
    if len(line) <= limit:
        return False
    longest = max((len(found.group(0)) for found in ADDRESS.finditer(line)), default=0)
    return not (longest > 40 and len(line) - longest <= limit // 2)


def check_markdown(name):
    lines = read(name)
    for number, line, kind in classify(lines):
        if kind == "prose" and too_long(line.rstrip(), PROSE):
            yield number, f"{len(line.rstrip())} characters in a line of prose, {PROSE} are allowed"
    for number, target in targets(lines):
        fault = broken(name, target)
        if fault:
            yield number, fault


def check_rust(name):
    for number, line in enumerate(read(name), 1):
        text = line.strip()
        if not text.startswith("//") or TABLE.match(text.lstrip("/!")):
            continue
        if too_long(line.rstrip(), COMMENT):
            yield number, f"{len(line.rstrip())} characters in a comment, {COMMENT} are allowed"


def main():
    if sys.argv[1:] and sys.argv[1] in ("-h", "--help"):
        print(__doc__.strip())
        return 0
    if sys.argv[1:]:
        given = [os.path.relpath(os.path.abspath(path), ROOT) for path in sys.argv[1:]]
        markdown = [name for name in given if name.endswith(".md")]
        rust = [name for name in given if name.endswith(".rs")]
    else:
        markdown = tracked("*.md")
        rust = [name for name in tracked("*.rs") if name.startswith(RUST)]
    count = 0
    for names, check in ((markdown, check_markdown), (rust, check_rust)):
        for name in names:
            for number, text in sorted(check(name)):
                print(f"{name}:{number}: {text}")
                count += 1
    if count:
        print(f"{count} violations", file=sys.stderr)
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
