#!/usr/bin/env python3
"""Checks the links of the guide in the generated documentation.

A page of the guide defines its links as relative paths, for readers of the repository, and
docs/guide/rustdoc-links.txt defines the same labels for rustdoc. This script checks that

  - each relative link in target/doc/wsloop/guide leads to a generated file, and its anchor exists;
  - no link leads to a Markdown file, which happens where rustdoc-links.txt lacks a label.

Usage: .ci/doc_links.py [DIRECTORY]

The directory is that of `cargo doc`, by default target/doc. The exit status is 1 if a link is dead.
"""

import os
import re
import sys
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LINK = re.compile(r"<(?:a|img)\b[^>]*?\b(?:href|src)=\"([^\"]*)\"")
ID = re.compile(r"\bid=\"([^\"]*)\"")


def read(name, cache={}):
    if name not in cache:
        with open(name, encoding="utf-8") as file:
            cache[name] = file.read()
    return cache[name]


def main():
    doc = sys.argv[1] if sys.argv[1:] else os.path.join(ROOT, "target", "doc")
    guide = os.path.join(doc, "wsloop", "guide")
    pages = [os.path.join(path, name) for path, _, names in os.walk(guide) for name in names]
    pages = sorted(page for page in pages if page.endswith(".html"))
    links = dead = 0
    for page in pages:
        for target in LINK.findall(read(page)):
            if re.match(r"[a-z]+:", target) or not target:
                continue
            links += 1
            path, _, anchor = target.partition("#")
            path = urllib.parse.unquote(path.partition("?")[0])
            file = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
            if not os.path.isfile(file):
                fault = "leads to no file"
            elif file.endswith(".html") and "/src/" not in file and anchor and (
                urllib.parse.unquote(anchor) not in ID.findall(read(file))
            ):
                fault = "leads to no anchor"
            else:
                continue
            print(f"{os.path.relpath(page, doc)}: {target} {fault}")
            dead += 1
    print(f"{len(pages)} pages, {links} links, {dead} dead")
    return int(dead > 0 or not pages)


if __name__ == "__main__":
    sys.exit(main())
