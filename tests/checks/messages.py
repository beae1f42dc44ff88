# SPDX-License-Identifier: Apache-2.0
"""Every message that a daemon logs stands in docs/messages.md, and every message there is in the code, at the same level.
A message is the string literal behind the level in tel_log(LEVEL, "..."), tel_log_repeated(..., LEVEL, "...") and their _fields forms."""
import re

from lib import tree

# The level is one word, or `a ? TEL_LOG_X : TEL_LOG_Y`: then the table names both, "X or Y".
CALL = re.compile(r'\btel_log(?:_repeated)?(?:_fields)?\s*\((?P<before>[^;"]*?)"(?P<text>(?:[^"\\]|\\.)*)"', re.S)
LEVEL = re.compile(r"\bTEL_LOG_(ERROR|WARN|INFO|DEBUG)\b")
ANY_CALL = re.compile(r"\btel_log(?:_repeated)?(?:_fields)?\s*\(")
ROW = re.compile(r"^\| `(?P<text>[^`]+)` \| (?P<levels>[a-z, or]+) \|")


def without_comments(text):
    return re.sub(r"/\*.*?\*/|//[^\n]*", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)


def in_code(root, failures):
    """text -> (levels, "file:line")"""
    found = {}
    daemons = ("collectord", "beylad", "profd")
    for path in (root / daemon / file for daemon in daemons for file in tree.files(root / daemon, ".c", ".h")):
        name = path.relative_to(root)
        text = without_comments(path.read_text(encoding="utf-8"))
        for any_call in ANY_CALL.finditer(text):
            line = text.count("\n", 0, any_call.start()) + 1
            call = CALL.match(text, any_call.start())
            levels = set(level.lower() for level in LEVEL.findall(call["before"])) if call else set()
            if not call or not levels:
                failures.add(name, "a log call whose level and message are not written in it: docs/messages.md cannot be checked", line)
                continue
            before = found.setdefault(call["text"], (set(), name, line))
            before[0].update(levels)
    return found


def in_docs(path):
    found = {}
    for number, line in tree.lines(path):
        row = ROW.match(line)
        if row:
            found[row["text"]] = (set(re.findall(r"error|warn|info|debug", row["levels"])), number)
    return found


def main():
    args = tree.arguments(__doc__)
    failures = tree.Failures()
    docs = in_docs(args.root / "docs/messages.md")
    code = in_code(args.root, failures)
    for text, (levels, name, line) in sorted(code.items()):
        if text not in docs:
            failures.add(name, f"message '{text}' has no row in docs/messages.md", line)
        elif docs[text][0] != levels:
            failures.add("docs/messages.md", f"'{text}' is logged as {', '.join(sorted(levels))} ({name}:{line})", docs[text][1])
    for text, (_, number) in sorted(docs.items()):
        if text not in code:
            failures.add("docs/messages.md", f"nothing logs '{text}'", number)
    if not code:
        failures.add("collectord", "no log call was found")
    failures.end(f"{len(code)} messages, all in docs/messages.md")


if __name__ == "__main__":
    main()
