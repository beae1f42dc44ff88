# SPDX-License-Identifier: Apache-2.0
"""Every package of scripts/packages stands in docs/dependencies.md with its reason, and no other does."""
import re

from lib import tree


def main():
    args = tree.arguments(__doc__)
    failures = tree.Failures()
    wanted = {}
    for number, line in tree.lines(args.root / "scripts/packages"):
        words = line.split()
        if words and not line.startswith("#"):
            if words[1] in wanted:
                failures.add("scripts/packages", f"{words[1]} stands there twice", number)
            wanted[words[1]] = number
    told = {}
    for number, line in tree.lines(args.root / "docs/dependencies.md"):
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 3 and cells[1] and not cells[1].startswith(("---", "Debian")):
            told.update((package, number) for package in re.findall(r"`([^`]+)`", cells[1]))
    for package, number in sorted(wanted.items()):
        if package not in told:
            failures.add("scripts/packages", f"{package} has no row in docs/dependencies.md", number)
    for package, number in sorted(told.items()):
        if package not in wanted:
            failures.add("docs/dependencies.md", f"{package} is not in scripts/packages", number)
    failures.end(f"{len(wanted)} packages, each with its reason")


if __name__ == "__main__":
    main()
