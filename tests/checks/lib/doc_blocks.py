# SPDX-License-Identifier: Apache-2.0
"""The fenced blocks of README.md and docs/, for the check that reads them and the test that runs them.

A block says by its language what it is:

    ```sh                a script; tests/integration/test_docs.py runs it whole with bash -euo pipefail
    ```console           `$ command` lines, each run, each followed by what it prints. `...` in an expected line stands for any text, a line
                         of its own that is `...` for any lines
    ```sh background     goes on running while the rest of the page is followed, and is stopped at its end
    ```sh terminal       needs a terminal; its standard input is one
    ```sh probes         needs what beylad needs, root and BPF; left out where they are not to be had
    ```text              not a command: a picture, an output
    ```json c ini ...    a file
"""
import re
from pathlib import Path

COMMANDS = {"sh", "console"}
FILES = {"text", "json", "c", "cmake", "python", "ini", "nix", "yaml", "diff", "proto"}
FLAGS = {"background", "terminal", "probes"}

# What the pages show and another test runs, or the run of the tests itself is: command -> where.
ELSEWHERE = {
    "scripts/run": "tests/integration/test_run.py",
    "scripts/test": "scripts/test",
}

FENCE = re.compile(r"^(?P<indent> *)```(?P<info>.*)$")


class Block:
    def __init__(self, path, line, info):
        words = info.split()
        self.path, self.line = path, line                  # of the fence
        self.language = words[0] if words else ""
        self.flags = set(words[1:])
        self.rows = []

    @property
    def where(self):
        return f"{self.path}:{self.line}"

    @property
    def text(self):
        return "\n".join(self.rows) + "\n"

    @property
    def runs(self):
        return self.language in COMMANDS

    def steps(self):
        """(script, expected output or None) of each command; those of ELSEWHERE are left out."""
        if self.language == "sh":
            kept = "\n".join(row for row in self.rows if row.split("#")[0].strip() not in ELSEWHERE)
            return [(kept + "\n", None)] if re.search(r"^\s*[^\s#]", kept, re.M) else []
        steps = []
        for row in self.rows:
            if row.startswith("$ "):
                steps.append([row[2:], []])
            elif row.startswith("> ") and steps and not steps[-1][1]:
                steps[-1][0] += "\n" + row[2:]
            elif steps:
                steps[-1][1].append(row)
            else:
                raise ValueError(f"{self.where}: a console block begins with `$ `")
        return [(command + "\n", expected) for command, expected in steps if command.strip() not in ELSEWHERE]


def pages(root):
    root = Path(root)
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def blocks(root, page):
    """(blocks, rows outside of blocks as (number, row)) of one page."""
    found, outside, current = [], [], None
    for number, row in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = FENCE.match(row)
        if fence and current is None:
            current = Block(page.relative_to(root), number, fence["info"])
        elif fence and not fence["info"].strip():
            found.append(current)
            current = None
        elif current is not None:
            current.rows.append(row)
        else:
            outside.append((number, row))
    if current is not None:
        raise ValueError(f"{current.where}: a block without an end")
    return found, outside


def matches(expected, printed):
    """Whether printed is what the rows of a console block say, with their `...`."""
    pattern = ""
    for row in expected:
        if row.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*?".join(re.escape(part) for part in row.rstrip().split("...")) + r"[ \t]*\n"
    if printed and not printed.endswith("\n"):
        printed += "\n"
    return re.fullmatch(pattern, printed) is not None
