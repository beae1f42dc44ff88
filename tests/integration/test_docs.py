# SPDX-License-Identifier: Apache-2.0
"""Follows the pages: every command block of README.md and docs/ is run, in order, against a collectord started for the page.
tests/checks/lib/doc_blocks.py says how blocks are written; tests/checks/docs_commands.py sees to it that no command stands outside of one."""
import os
import pty
import re
import signal
import subprocess
import sys
import threading

import pytest

from env.beylad import why_not
from env.daemon import ROOT, binary
from env.destinations import document, local
from env.install import install
from env.wait import free_port, until

sys.path.insert(0, str(ROOT / "tests/checks"))
from lib import doc_blocks  # noqa: E402

STEP_SECONDS = 60
PAGES = [p for p in doc_blocks.pages(ROOT) if p.is_file() and any(b.runs and b.steps() for b in doc_blocks.blocks(ROOT, p)[0])]


class Reader:
    """Follows a page in a folder of its own, which looks like the top of the tree; paths and ports are those of the test."""

    def __init__(self, folder, prefix, daemon, sink):
        self.folder, self.daemon = folder, daemon
        self.running = []
        folder.mkdir()
        for entry in ROOT.iterdir():
            if not entry.name.startswith((".", "build")):
                (folder / entry.name).symlink_to(entry)
        (folder / "build").mkdir()
        (folder / "build/bin").symlink_to(binary().parent)
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.replaced = {
            "/run/collectord": str(daemon.runtime), "/tmp/": f"{self.temporary}/",
            "127.0.0.1:4318": f"127.0.0.1:{daemon.otlp_port}", "localhost:4318": f"127.0.0.1:{daemon.otlp_port}",
            "127.0.0.1:12345": f"127.0.0.1:{daemon.web_port}", "localhost:12345": f"127.0.0.1:{daemon.web_port}",
            "localhost:4320": f"127.0.0.1:{sink.port}",
        }
        port = free_port()
        self.replaced.update({"http.server 8000": f"http.server {port}", "127.0.0.1:8000": f"127.0.0.1:{port}"})
        self.env = dict(os.environ, RUNTIME_DIRECTORY=str(daemon.runtime), RUNTIME=str(daemon.runtime), TERM="dumb", LC_ALL="C.UTF-8",
                        PATH=f"{binary().parent}:{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
                        PKG_CONFIG_PATH=str(prefix / "lib/pkgconfig"), LD_LIBRARY_PATH=str(prefix / "lib"),
                        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{daemon.otlp_port}")

    def here(self, text):
        return re.sub("|".join(map(re.escape, self.replaced)), lambda shown: self.replaced[shown[0]], text)

    def start(self, script, stdin=subprocess.DEVNULL):
        return subprocess.Popen(["bash", "-euo", "pipefail", "-c", self.here(script)], cwd=self.folder, env=self.env, stdin=stdin,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)

    def background(self, block, script):
        process = self.start(script)
        said = []
        threading.Thread(target=lambda: said.extend(iter(process.stdout.readline, b"")), daemon=True).start()
        self.running.append((block, process, said))
        # A listener among them is there before the page goes on.
        for path in [word.split(":", 1)[1].split(",")[0] for word in self.here(script).split() if word.startswith("UNIX-LISTEN:")]:
            until(f"{block.where}: {path}", lambda p=path: os.path.exists(p) or process.poll() is not None)

    def step(self, block, script, expected):
        master = None
        if "terminal" in block.flags:
            master, slave = pty.openpty()
            process = self.start(script, slave)
            os.close(slave)
            os.write(master, b'{"log":"typed"}\n\x04')
        else:
            process = self.start(script)
        try:
            printed = process.communicate(timeout=STEP_SECONDS)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            self.stop(process)
            printed = process.communicate()[0].decode(errors="replace")
            pytest.fail(f"{block.where}: does not end within {STEP_SECONDS} s:\n{script}\n{printed}")
        finally:
            if master is not None:
                os.close(master)
        assert process.returncode == 0, f"{block.where}: status {process.returncode}\n{script}\n{printed}"
        if expected:
            wanted = [self.here(row) for row in expected]
            assert doc_blocks.matches(wanted, printed), f"{block.where}: the page says\n" + "\n".join(wanted) + f"\n\nand it prints\n{printed}"

    def follow(self, page):
        for block in doc_blocks.blocks(ROOT, page)[0]:
            if not block.runs or ("probes" in block.flags and why_not()):
                continue
            for script, expected in block.steps():
                if "background" in block.flags:
                    self.background(block, script)
                else:
                    self.step(block, script, expected)

    @staticmethod
    def stop(process):
        try:
            os.killpg(process.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass

    def end(self):
        """Stops what runs in the background, none of which may have failed by itself."""
        failed = [(b, s) for b, p, s in self.running if p.poll() not in (None, 0)]
        for _, process, _ in self.running:
            self.stop(process)
            process.wait()
        assert not failed, "\n".join(f"{b.where}: failed: {b''.join(s).decode(errors='replace')}" for b, s in failed)


@pytest.fixture(scope="session")
def prefix(tmp_path_factory):
    return install(tmp_path_factory.mktemp("prefix"))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_of_the_page_works(page, tmp_path, prefix, collectord, consumer):
    daemon = collectord(document(local=local(consumer)))
    reader = Reader(tmp_path / "page", prefix, daemon, consumer)
    try:
        reader.follow(page)
    finally:
        reader.end()


def test_the_pages_hold_commands():
    """An empty list of pages would pass in silence."""
    assert {"README.md", "docs/protocol.md"} <= {str(p.relative_to(ROOT)) for p in PAGES}


def test_expected_output_is_compared():
    assert doc_blocks.matches(['{"ok":true,...}', "...", "end"], '{"ok":true,"items":1}\na\nb\nend\n')
    assert not doc_blocks.matches(['{"ok":true,"items":1}'], '{"ok":false}\n')
    assert not doc_blocks.matches(["a"], "a\nb\n")
