# SPDX-License-Identifier: Apache-2.0
"""Every source file says its licence in its first lines, leans on no place of one machine, and names an issue beside what is unfinished."""
import re

from lib import tree

SOURCES = (".c", ".h", ".py", ".go", ".sh", ".proto", ".js", ".nix")
TEXTS = SOURCES + (".md", ".txt", ".cmake", ".json", ".yaml", ".yml", ".in", ".options")
SPDX = "SPDX-License-Identifier: Apache-2.0"
# BPF programs, and what only they include: the kernel lends its helpers to GPL-compatible programs alone.
KERNEL_SPDX = "SPDX-License-Identifier: Dual BSD/GPL"
KERNEL = re.compile(r"\.bpf\.[ch]$|/probes/kernel\.h$")
MACHINE = re.compile(r"(?<![\w$}.])/(?:work|root|home/(?!\.\.\.)\w+|Users/\w+)/")
UNFINISHED = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK")) + r")\b(?!.*#\d+)")


def is_script(path):
    with open(path, "rb") as f:
        return f.read(2) == b"#!"


def main():
    args = tree.arguments(__doc__)
    failures = tree.Failures()
    seen = 0
    for path in tree.files(args.root):
        full = args.root / path
        script = full.is_file() and is_script(full)
        if not full.is_file() or not (script or path.name.endswith(TEXTS) or path.name == "CMakeLists.txt"):
            continue
        seen += 1
        rows = full.read_text(encoding="utf-8").splitlines()
        licence = KERNEL_SPDX if KERNEL.search(str(path)) else SPDX
        if (script or path.name.endswith(SOURCES)) and not any(licence in row for row in rows[:3]):
            failures.add(path, f"no '{licence}' in the first three lines")
        for number, row in enumerate(rows, 1):
            if MACHINE.search(row):
                failures.add(path, "a path of one machine", number)
            if UNFINISHED.search(row):
                failures.add(path, f"'{UNFINISHED.search(row)[1]}' without the number of an issue, #N", number)
    if seen == 0:
        failures.add(args.root, "no file was found")
    failures.end(f"{seen} files")


if __name__ == "__main__":
    main()
