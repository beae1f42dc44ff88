# SPDX-License-Identifier: Apache-2.0
"""No C function has over 80 lines, unless it is a table or a dispatcher and stands below with its reason. Prints the ten longest."""
import re

from lib import tree

LINES_MAX = 80
# "file:function": the reason.
ALLOWED = {}

NAME = re.compile(r"([A-Za-z_]\w*)\s*\(")
NOT_NAMES = {"TEL_CLEANUP", "__attribute__", "__declspec"}


def functions(text):
    """(name, first line, lines) of each function. The style keeps everything but heads, braces and labels away from the left edge."""
    head, begin, kind = "", 0, None                         # kind: None outside, "function", or "other" for tables, structs, enums
    directive = False
    for number, row in enumerate(text.splitlines(), 1):
        if directive or row.startswith("#"):
            directive = row.endswith("\\")
            continue
        if kind:
            if row.startswith("}"):
                if kind == "function":
                    yield next(n for n in NAME.findall(head) if n not in NOT_NAMES), begin, number - begin + 1
                head, kind = "", None
            continue
        row = re.sub(r"/\*.*?\*/|//.*", "", row).rstrip()
        if not head and not re.match(r"[A-Za-z_]", row):
            continue
        if not head:
            begin = number
        head += row
        if head.endswith((";", "}")):                       # a declaration, or all in one line
            if re.search(r"\)\s*\{.*\}$", head):
                yield next(n for n in NAME.findall(head) if n not in NOT_NAMES), begin, number - begin + 1
            head = ""
        elif head.endswith("{"):
            kind = "function" if re.search(r"\)\s*\{$", head) else "other"


def main():
    args = tree.arguments(__doc__)
    failures = tree.Failures()
    found = []
    for path in tree.files(args.root, ".c", ".h"):
        for name, line, length in functions((args.root / path).read_text(encoding="utf-8")):
            found.append((length, f"{path}", line, name))
    found.sort(reverse=True)
    for length, path, line, name in found[:10]:
        print(f"{length:5} {path}:{line} {name}")
    known = set()
    for length, path, line, name in found:
        key = f"{path}:{name}"
        known.add(key)
        if length > LINES_MAX and key not in ALLOWED:
            failures.add(path, f"{name} has {length} lines, at most {LINES_MAX}", line)
        if length <= LINES_MAX and key in ALLOWED:
            failures.add(path, f"{name} has {length} lines: take it from the allow list", line)
    for key in sorted(set(ALLOWED) - known):
        failures.add("tests/checks/longest_functions.py", f"{key} is allowed and does not exist")
    if not found:
        failures.add(args.root, "no function was found")
    failures.end(f"{len(found)} functions, none over {LINES_MAX} lines")


if __name__ == "__main__":
    main()
