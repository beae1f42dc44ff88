# SPDX-License-Identifier: Apache-2.0
"""docs/config.md and docs/config.schema.json are what the binary prints: they and the reader of the document come from one table."""
import difflib
import itertools
import json
import subprocess

from lib import tree

PRINTED = {"docs/config.md": "--print-docs", "docs/config.schema.json": "--print-schema"}


def main():
    args = tree.arguments(__doc__)
    failures = tree.Failures()
    for name, option in PRINTED.items():
        again = f"regenerate it: build/bin/collectord {option} > {name}"
        try:
            printed = subprocess.run([args.build / "bin/collectord", option], check=True, capture_output=True, text=True).stdout
        except (OSError, subprocess.CalledProcessError) as e:
            failures.add(name, f"cannot be compared: {e}")
            continue
        if name.endswith(".json"):
            json.loads(printed)
        path = args.root / name
        if not path.is_file():
            failures.add(name, f"is missing; {again}")
            continue
        kept = path.read_text(encoding="utf-8")
        if kept != printed:
            for row in itertools.islice(difflib.unified_diff(kept.splitlines(), printed.splitlines(), name, option, lineterm="", n=0), 20):
                print(row)
            failures.add(name, f"is not what collectord prints; {again}")
    failures.end("docs/config.md and docs/config.schema.json are what collectord prints")


if __name__ == "__main__":
    main()
