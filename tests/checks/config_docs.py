# SPDX-License-Identifier: Apache-2.0
"""The references of the documents, and their schemas, are what the binaries print: they and the readers come from one table each."""
import difflib
import itertools
import json
import subprocess

from lib import tree

PRINTED = {
    "docs/config.md": ("collectord", "--print-docs"),
    "docs/config.schema.json": ("collectord", "--print-schema"),
    "docs/config-beylad.md": ("beylad", "--print-docs"),
    "docs/config-beylad.schema.json": ("beylad", "--print-schema"),
}


def main():
    args = tree.arguments(__doc__)
    failures = tree.Failures()
    for name, (daemon, option) in PRINTED.items():
        again = f"regenerate it: build/bin/{daemon} {option} > {name}"
        try:
            printed = subprocess.run([args.build / "bin" / daemon, option], check=True, capture_output=True, text=True).stdout
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
            failures.add(name, f"is not what {daemon} prints; {again}")
    failures.end(f"{len(PRINTED)} references and schemas are what the binaries print")


if __name__ == "__main__":
    main()
