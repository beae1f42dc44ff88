# SPDX-License-Identifier: Apache-2.0
"""scripts/run, as a newcomer meets it: up, shown, a first record as printed, Ctrl-C. It builds into build/, so it runs only where build/ is what is tested."""
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from env.beylad import why_not
from env.daemon import ROOT, binary
from env.wait import free_port, until

RUN = ROOT / "scripts/run"
WHOLE = "Ctrl-C"                                   # the last thing it prints before it waits


class Run:
    def __init__(self, *arguments, script=RUN, env=None, user=None, cwd="/"):
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "HOME")}
        self.become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"] if user else []
        self.process = subprocess.Popen([*self.become, str(script), *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        env={**kept, **(env or {})}, cwd=cwd, start_new_session=True)
        self.rows = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for row in self.process.stdout:
            self.rows.append(row.decode(errors="replace").rstrip("\n"))

    @property
    def text(self):
        return "\n".join(self.rows)

    def wait_shown(self):
        until("scripts/run to show all", lambda: any(row.strip() == WHOLE for row in self.rows) or self.process.poll() is not None, 300)
        assert self.process.poll() is None, self.text
        return self

    def printed_command(self, word):
        return next(row.strip() for row in self.rows if row.startswith("  ") and word in row)

    def ctrl_c(self):
        """As a terminal does: to the whole foreground group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def ended(self, timeout=30):
        status = self.process.wait(timeout)
        self.reader.join(timeout)
        return status

    def daemon_pids(self):
        """Processes whose parent is the script and whose program is a daemon's."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                parent = int(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1])
                if parent == self.process.pid and os.readlink(f"/proc/{pid}/exe").startswith(str(ROOT / "build/bin")):
                    found.append(int(pid))
            except (OSError, IndexError):
                continue
        return found

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.ended()


@pytest.fixture
def config(tmp_path):
    """A document like the built-in one, on free ports: whoever runs the tests may use the usual ones."""
    path = tmp_path / "config.json"
    path.write_text('{ "listen": { "otlp_http": "127.0.0.1:%d", "web": "127.0.0.1:%d" },\n'
                    '  "destinations": { "local": { "type": "otlp", "url": "http://localhost:%d", "max_lag": { "bytes": "4MB" }, "anchor": false } } }\n'
                    % (free_port(), free_port(), free_port()))
    tmp_path.chmod(0o755)
    path.chmod(0o644)
    return path


@pytest.fixture
def runtime(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


@pytest.fixture
def script():
    if binary().resolve() != (ROOT / "build/bin/collectord").resolve():
        pytest.fail(f"scripts/run builds build/, but the tests look at {binary()}")
    started = []

    def start(*arguments, **options):
        started.append(Run(*map(str, arguments), **options))
        return started[-1]
    yield start
    for run in started:
        run.end()


def shell(command, become=()):
    """As another terminal of the same user, with nothing of ours in its environment."""
    done = subprocess.run([*become, "bash", "-c", command], capture_output=True, text=True, timeout=20, env={"PATH": os.environ["PATH"]}, cwd="/")
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def assert_first_record(run):
    """The lines it prints work as they stand, and `tap` shows what they sent."""
    assert '"ok":true' in shell(run.printed_command("socat"), run.become)
    shell(run.printed_command("curl"), run.become)
    # tap goes on for ever: it is read until both have come.
    tap = subprocess.Popen([*run.become, "bash", "-c", f"exec {run.printed_command('tap --back')}"], stdout=subprocess.PIPE, text=True,
                           env={"PATH": os.environ["PATH"]}, cwd="/")
    killer = threading.Timer(20, tap.kill)
    killer.start()
    seen = [tap.stdout.readline() for _ in range(2)]
    killer.cancel()
    tap.kill()
    tap.wait()
    assert " me " in seen[0] and "hello from curl" in seen[1], seen


def test_a_newcomer_sees_all_and_ctrl_c_stops_all(script, config, runtime):
    run = script("--config", config, env={"RUNTIME_DIRECTORY": str(runtime)}).wait_shown()
    assert re.search(r"RUNNING|DEGRADED", run.text), run.text
    page = re.search(r"The page: +(http://\S+)", run.text)[1]
    assert "<html" in shell(f"curl -sf {page}").lower()
    assert_first_record(run)
    pids = run.daemon_pids()
    assert len(pids) == (1 if why_not() else 2), "collectord, and beylad where it can observe anything"
    assert all(os.getpgid(pid) != os.getpgid(run.process.pid) for pid in pids), "Ctrl-C would reach the daemon twice, and the second ends it at once, unflushed"
    run.ctrl_c()
    assert run.ended() == 0, run.text
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    assert "collectord has stopped" in run.text


def test_all_is_on_the_screen_within_a_minute_of_building(script, config, runtime):
    script("--config", config, env={"RUNTIME_DIRECTORY": str(runtime)}).wait_shown().end()     # everything is built now
    begun = time.monotonic()
    script("--config", config, env={"RUNTIME_DIRECTORY": str(runtime)}).wait_shown()
    assert time.monotonic() - begun < 60


def test_sigterm_stops_all_too(script, config, runtime):
    run = script("--config", config, env={"RUNTIME_DIRECTORY": str(runtime)}).wait_shown()
    run.process.terminate()
    assert run.ended() == 0, run.text


def test_a_taken_port_gives_the_error_of_collectord(script, config, runtime):
    port = int(re.search(r"otlp_http\": \"127.0.0.1:(\d+)", config.read_text())[1])
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        run = script("--config", config, env={"RUNTIME_DIRECTORY": str(runtime)})
        assert run.ended(300) == 1, run.text
    assert f"127.0.0.1:{port}" in run.text and "in use" in run.text, run.text
    assert "collectord ended with status 1" in run.text


def test_a_bad_document_is_named_and_nothing_starts(script, tmp_path, runtime):
    bad = tmp_path / "bad.json"
    bad.write_text('{\n  "listen": { "otlp": "127.0.0.1:1" }\n}\n')
    run = script("--config", bad, env={"RUNTIME_DIRECTORY": str(runtime)})
    assert run.ended(300) == 1
    assert f"{bad}:2" in run.text or ("bad.json" in run.text and "line 2" in run.text), run.text
    assert "listen.otlp" in run.text


def test_a_daemon_that_dies_ends_the_script(script, config, runtime):
    run = script("--config", config, env={"RUNTIME_DIRECTORY": str(runtime)}).wait_shown()
    os.kill(run.daemon_pids()[0], signal.SIGKILL)
    assert run.ended() == 1
    assert "collectord ended with status 137" in run.text


def test_bad_usage_exits_2():
    done = subprocess.run([str(RUN), "--no-such-option"], capture_output=True, text=True)
    assert done.returncode == 2 and "usage:" in done.stderr


@pytest.fixture
def tree_of_nobody(root, tmp_path_factory):
    """(user, copy of the tree that belongs to it)."""
    user = pwd.getpwnam("nobody")
    runtime = f"/tmp/collectord-{user.pw_uid}"
    copy = Path(tempfile.mkdtemp(prefix="spoke."))
    shutil.rmtree(runtime, ignore_errors=True)
    shutil.copytree(ROOT, copy, dirs_exist_ok=True, ignore=lambda folder, names: {n for n in names if n.startswith((".git", "build", "__pycache__"))})
    subprocess.run(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", copy], check=True)
    yield user, copy
    shutil.rmtree(copy)
    shutil.rmtree(runtime, ignore_errors=True)


def test_an_ordinary_user_runs_it_too(script, config, tree_of_nobody):
    """Without a runtime directory of the session: it is /tmp/collectord-UID, for the user alone."""
    user, copy = tree_of_nobody
    own = copy / "mine.json"
    own.write_text(config.read_text())
    own.chmod(0o644)
    run = script("--config", own, script=copy / "scripts/run", user=user, env={"HOME": str(copy)}, cwd=copy).wait_shown()
    assert f"UNIX-CONNECT:/tmp/collectord-{user.pw_uid}/frames.sock" in run.printed_command("socat")
    assert os.stat(f"/tmp/collectord-{user.pw_uid}").st_mode & 0o777 == 0o700
    assert_first_record(run)
    run.ctrl_c()
    assert run.ended() == 0, run.text
