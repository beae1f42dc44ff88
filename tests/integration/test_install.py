# SPDX-License-Identifier: Apache-2.0
"""What `cmake --install` leaves: the binaries run from there, and a C program builds against the library with pkg-config alone."""
import json
import os
import shutil
import subprocess

import pytest

from env.daemon import ROOT
from env.destinations import document, local, remote
from env.install import install


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    return install(tmp_path_factory.mktemp("prefix"))


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, **options)
    assert done.returncode == 0, f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def environment(prefix, **more):
    """Nothing of the tree or the build is found through it."""
    return dict({k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")},
                PKG_CONFIG_PATH=str(prefix / "lib/pkgconfig"), LD_LIBRARY_PATH=str(prefix / "lib"), **more)


@pytest.fixture(scope="module")
def send(prefix, tmp_path_factory):
    """examples/send.c, built as docs/library.md says, away from the tree."""
    folder = tmp_path_factory.mktemp("send")
    shutil.copy(ROOT / "examples/send.c", folder)
    run("sh", "-c", "cc -Wall -Wextra -Werror -o send send.c $(pkg-config --cflags --libs telemetry)", cwd=folder, env=environment(prefix))
    return folder / "send"


def test_the_example_is_a_program_of_some_twenty_lines():
    text = (ROOT / "examples/send.c").read_text()
    main = text[text.index("int main("):]
    assert len(main.splitlines()) <= 25


def test_an_installed_c_program_sends_a_span_and_a_log(prefix, send, collectord, consumer, hub):
    d = collectord(document(local=local(consumer), hub=remote(hub)))
    subprocess.run([send], check=True, env=environment(prefix, RUNTIME_DIRECTORY=str(d.runtime)), timeout=20)
    for receiver in (consumer, hub):
        receiver.wait_names(["copy"], "traces")
        receiver.wait_names(["disk full"], "logs")


def test_the_program_says_so_when_nobody_listens(prefix, send, tmp_path):
    done = subprocess.run([send], env=environment(prefix, RUNTIME_DIRECTORY=str(tmp_path)), capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert "0 of 2 frames acknowledged" in done.stderr


def test_installed_binaries_run_and_say_their_version(prefix):
    version = run(prefix / "bin/collectord", "--version", env=environment(prefix)).split()[1]
    assert run(prefix / "bin/telemetryctl", "--version", env=environment(prefix)).split()[1] == version
    assert run("pkg-config", "--modversion", "telemetry", env=environment(prefix)).strip() == version
    assert json.loads(run(prefix / "bin/collectord", "--print-schema", env=environment(prefix)))


def test_every_header_compiles_alone(prefix, tmp_path):
    headers = sorted((prefix / "include/libtelemetry").glob("*.h"))
    assert headers
    for header in headers:
        source = tmp_path / "one.c"
        source.write_text(f"#include <libtelemetry/{header.name}>\nint main(void) {{ return 0; }}\n")
        run("sh", "-c", f"cc -Wall -Wextra -Werror -fsyntax-only {source} $(pkg-config --cflags telemetry)", env=environment(prefix))


def test_only_tel_names_leave_the_library(prefix):
    symbols = [line.split()[-1].split("@")[0] for line in run("nm", "-D", "--defined-only", prefix / "lib/libtelemetry.so").splitlines()]
    assert symbols and all(name.startswith("tel_") for name in symbols), symbols
