# SPDX-License-Identifier: Apache-2.0
"""Installs the build under test, as a packager does."""
import subprocess

from env.daemon import binary


def install(prefix):
    """Puts the build into prefix and returns prefix."""
    build = binary().parent.parent
    done = subprocess.run(["cmake", "--install", str(build), "--prefix", str(prefix)], capture_output=True, text=True)
    assert done.returncode == 0, f"cmake --install {build}:\n{done.stdout}{done.stderr}"
    return prefix
