# SPDX-License-Identifier: Apache-2.0
"""What the checks share: arguments, the files of the tree, and how a failure is told."""
import argparse
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
SKIPPED_FOLDERS = {".git", "__pycache__", ".pytest_cache", "node_modules", "corpus", "fixtures"}


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--root", type=pathlib.Path, default=ROOT, help="the tree (the one of this file)")
    parser.add_argument("--build", type=pathlib.Path, help="folder of a build (ROOT/build)")
    args = parser.parse_args()
    args.root = args.root.resolve()
    args.build = (args.build or args.root / "build").resolve()
    return args


def files(root, *suffixes):
    """Every file of the tree whose name ends so, as paths from root, sorted. Builds, caches and captured data are left out."""
    for folder, folders, names in os.walk(root):
        at_root = pathlib.Path(folder) == pathlib.Path(root)
        folders[:] = sorted(d for d in folders if d not in SKIPPED_FOLDERS and not (at_root and d.startswith("build")))
        for name in sorted(names):
            if not suffixes or name.endswith(suffixes):
                yield (pathlib.Path(folder) / name).relative_to(root)


def lines(path):
    """(number, line) from 1."""
    return enumerate(path.read_text(encoding="utf-8").splitlines(), 1)


class Failures:
    """Collects them, prints each as file:line: text, and is the exit status."""

    def __init__(self):
        self.count = 0

    def add(self, where, text, line=None):
        self.count += 1
        print(f"{where}:{line}: {text}" if line else f"{where}: {text}")

    def end(self, good):
        if self.count:
            sys.exit(f"{self.count} found")
        print(good)
