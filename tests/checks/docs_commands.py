# SPDX-License-Identifier: Apache-2.0
"""Every command that README.md and docs/ show is written so that tests/integration/test_docs.py runs it: in a sh or console block.
Links from one page to another, and to places in pages, lead somewhere. lib/doc_blocks.py describes the blocks."""
import re

from lib import doc_blocks, tree

PROMPT = re.compile(r"^\s*\$ \S")
SOCAT = re.compile(r"(^|\|)\s*socat\s")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*?)\s*$")


def anchors(root, page):
    """Anchors as forges make them of headings."""
    found = set()
    _, outside = doc_blocks.blocks(root, page)
    for _, row in outside:
        heading = HEADING.match(row)
        if heading:
            text = re.sub(r"[^\w\- ]", "", heading[1].lower().replace("`", ""))
            found.add(text.strip().replace(" ", "-"))
    return found


def check_blocks(failures, page, blocks, outside, seen):
    for block in blocks:
        if not block.language:
            failures.add(page, "a block without a language: sh or console for commands, text for what is none", block.line)
        elif block.language not in doc_blocks.COMMANDS | doc_blocks.FILES:
            failures.add(page, f"a block of '{block.language}': lib/doc_blocks.py does not know it", block.line)
        for flag in block.flags - doc_blocks.FLAGS:
            failures.add(page, f"'{flag}' behind the language: lib/doc_blocks.py does not know it", block.line)
        if block.runs:
            seen.update(row.lstrip("$ ").split("#")[0].strip() for row in block.rows)
            try:
                block.steps()
            except ValueError as e:
                failures.add(page, str(e), block.line)
        else:
            for number, row in enumerate(block.rows, block.line + 1):
                if PROMPT.match(row) or SOCAT.search(row):
                    failures.add(page, f"a command in a block of '{block.language}', which no test runs: {row.strip()[:60]}", number)
    before = ""
    for number, row in outside:
        if row.startswith("    ") and not before:
            failures.add(page, "an indented block: fence it and say its language, so that commands are seen", number)
        before = row.strip()


def check_links(failures, root, page, outside):
    count = 0
    for number, row in outside:
        for target in LINK.findall(re.sub(r"`[^`]*`", "", row)):
            if re.match(r"[a-z]+:", target):
                continue
            count += 1
            name, _, anchor = target.partition("#")
            path = (page.parent / name).resolve() if name else page
            if not path.exists():
                failures.add(page.relative_to(root), f"a link to {target}, which is not there", number)
            elif anchor and path.suffix == ".md" and anchor not in anchors(root, path):
                failures.add(page.relative_to(root), f"a link to {target}, where no heading is called so", number)
    return count


def main():
    args = tree.arguments(__doc__)
    failures = tree.Failures()
    seen, commands, links = set(), 0, 0
    for page in doc_blocks.pages(args.root):
        name = page.relative_to(args.root)
        if not page.is_file():
            failures.add(name, "is missing")
            continue
        try:
            blocks, outside = doc_blocks.blocks(args.root, page)
        except ValueError as e:
            failures.add(name, str(e))
            continue
        check_blocks(failures, name, blocks, outside, seen)
        commands += sum(block.runs for block in blocks)
        links += check_links(failures, args.root, page, outside)
    for command, where in doc_blocks.ELSEWHERE.items():
        if command not in seen:
            failures.add("tests/checks/lib/doc_blocks.py", f"'{command}' is run elsewhere, but no page shows it")
        if not (args.root / where).is_file():
            failures.add("tests/checks/lib/doc_blocks.py", f"{where}, which runs '{command}', is not there")
    failures.end(f"{commands} blocks of commands, {links} links")


if __name__ == "__main__":
    main()
