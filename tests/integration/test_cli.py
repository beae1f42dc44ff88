# SPDX-License-Identifier: Apache-2.0
"""The process: arguments, documents good and bad, signals, systemd's side of things, and the lines it logs."""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from env import otlp
from env.daemon import binary
from env.destinations import document, local, remote
from env.wait import free_port, until

ACTIVATE = Path(__file__).parent / "programs/activate.py"


def run(*args, env=None, timeout=20):
    return subprocess.run([binary(), *args], capture_output=True, text=True, timeout=timeout, env={**os.environ, **(env or {})})


def write(tmp_path, text, name="config.json"):
    path = tmp_path / name
    path.write_text(text if isinstance(text, str) else json.dumps(text, indent=2))
    return path


# ---- arguments ----

@pytest.mark.row("GEN-07")
def test_help_and_version_go_to_stdout_and_exit_0():
    ran = run("--help")
    assert (ran.returncode, ran.stderr) == (0, "")
    for option in ("--config", "--check", "--print-config", "--log-level", "--version", "--help"):
        assert option in ran.stdout
    ran = run("--version")
    assert ran.returncode == 0 and re.fullmatch(r"collectord \d+\.\d+\.\d+\n", ran.stdout) and ran.stderr == ""


@pytest.mark.row("GEN-07")
@pytest.mark.parametrize("args", [["--nonsense"], ["-x"], ["stray"], ["--config"], ["--log-level", "loud"], ["--log-level"], ["--check", "stray"]])
def test_bad_usage_exits_2_with_the_usage_on_stderr(args):
    ran = run(*args)
    assert ran.returncode == 2 and ran.stdout == "" and "Usage:" in ran.stderr


@pytest.mark.row("GEN-07", "COL-CFG-01")
def test_check_says_whether_a_document_is_good(tmp_path):
    assert run("--check").returncode == 0
    good = write(tmp_path, {"destinations": {"hub": {"url": "https://otel.example"}}})
    ran = run("--check", "--config", good)
    assert (ran.returncode, ran.stderr) == (0, "")
    bad = write(tmp_path, '{\n  "buffer": { "memory": "much" }\n}', "bad.json")
    ran = run("--check", "--config", bad)
    assert ran.returncode == 1 and f"{bad}:2:" in ran.stderr and "buffer.memory" in ran.stderr
    ran = run("--check", "--config", tmp_path / "none.json")
    assert ran.returncode == 1 and "none.json" in ran.stderr and "No such file" in ran.stderr


@pytest.mark.row("GEN-07", "COL-K8S-06", "COL-CFG-01")
def test_print_config_shows_every_value_and_no_secret_and_can_be_read_again(tmp_path):
    path = write(tmp_path, {"destinations": {"hub": {"url": "https://otel.example", "headers": {"X-Key": "s3cret-1"}, "auth": {"bearer": "s3cret-2"}}},
                            "host": {"labels": {"a": "b"}}})
    ran = run("--print-config", "--config", path)
    assert ran.returncode == 0 and "s3cret" not in ran.stdout
    doc = json.loads(ran.stdout)
    assert doc["buffer"]["memory"] == "100MB" and doc["destinations"]["hub"]["compression"] == "gzip" and doc["listen"]["otlp_http"] == "127.0.0.1:4318"
    again = run("--print-config", "--config", write(tmp_path, ran.stdout, "again.json"))
    assert again.returncode == 0 and json.loads(again.stdout) == doc
    builtin = json.loads(run("--print-config").stdout)
    assert builtin["destinations"]["local"]["url"] == "http://localhost:4320" and builtin["destinations"]["local"]["compression"] == "none"
    assert run("--print-docs").stdout.startswith("#") and json.loads(run("--print-schema").stdout)["$schema"]


# ---- documents ----

BAD = {
    "syntax": ('{\n  "buffer": {\n}', 3, ["JSON"]),
    "hash comment": ('{\n  # no\n}', 2, ["//"]),
    "unknown key": ('{\n\n  "destinatons": {}\n}', 3, ["destinatons", "destinations"]),
    "nested unknown key": ('{ "destinations": {\n "hub": { "url": "http://x",\n "compresion": "gzip" } } }', 3, ["destinations.hub.compresion", "compression"]),
    "duplicate key": ('{ "buffer": {},\n "buffer": {} }', 2, ["buffer", "already"]),
    "wrong type": ('{ "buffer":\n { "memory": true } }', 2, ["buffer.memory", "true"]),
    "size": ('{ "buffer":\n { "memory": "100 parsecs" } }', 2, ["buffer.memory", "100 parsecs"]),
    "size out of range": ('{ "buffer":\n { "memory": "1KB" } }', 2, ["buffer.memory", "1MB"]),
    "duration": ('{\n "stop_timeout": "soon" }', 2, ["stop_timeout", "soon"]),
    "number of connections": ('{ "listen": {\n "otlp_connections": 0 } }', 2, ["listen.otlp_connections"]),
    "enum": ('{\n "log_level": "loud" }', 2, ["log_level", "loud", "debug"]),
    "unknown signal": ('{ "destinations": { "a": { "url": "http://x",\n "signals": ["spans"] } } }', 2, ["destinations.a.signals", "spans", "traces"]),
    "unknown source": ('{ "destinations": { "a": { "url": "http://x",\n "from": ["journald"] } } }', 2, ["destinations.a.from", "journald"]),
    "no url": ('{ "destinations": {\n "a": {} } }', 2, ["destinations.a.url"]),
    "bad url": ('{ "destinations": { "a": {\n "url": "ftp://x" } } }', 2, ["destinations.a.url", "http"]),
    "url with a user": ('{ "destinations": { "a": {\n "url": "http://me:pw@x" } } }', 2, ["destinations.a.url", "auth"]),
    "unset variable": ('{ "destinations": { "a": {\n "url": "http://${NOT_SET_ANYWHERE}" } } }', 2, ["NOT_SET_ANYWHERE", "not set"]),
    "missing file": ('{ "destinations": { "a": { "url": "http://x", "auth":\n { "bearer": "${file:/no/such/file}" } } } }', 2, ["/no/such/file"]),
    "two kinds of auth": ('{ "destinations": { "a": { "url": "http://x",\n "auth": { "bearer": "t", "username": "u" } } } }', 2, ["auth.username", "bearer"]),
    "header": ('{ "destinations": { "a": { "url": "http://x",\n "headers": { "Content-Type": "x" } } } }', 2, ["Content-Type"]),
    "cert without key": ('{ "destinations": { "a": { "url": "https://x",\n "tls": { "cert_file": "x" } } } }', 2, ["tls.cert_file", "key_file"]),
    "batch": ('{ "destinations": { "a": { "url": "http://x",\n "batch": { "items": 10, "max_items": 5 } } } }', 2, ["batch.max_items"]),
    "address": ('{ "listen": {\n "otlp_http": "localhost" } }', 2, ["listen.otlp_http", "127.0.0.1:4318"]),
    "port taken twice": ('{ "listen": {\n "otlp_http": ":4000",\n "web": "127.0.0.1:4000" } }', 3, ["listen.web", "4000"]),
    "loop": ('{ "destinations": { "a": {\n "url": "http://localhost:4318" } } }', 2, ["destinations.a.url", "listen.otlp_http"]),
    "name": ('{ "destinations": {\n "a b": { "url": "http://x" } } }', 2, ["a b"]),
    "not an object": ('[]', 1, ["object"]),
    "empty": ('', 1, []),
    "not text": ('{"log_level": "\udcff"}', 1, []),
    "deep": ('[' * 100, 1, []),
}


@pytest.mark.row("COL-CFG-02", "COL-CFG-04", "COL-CFG-05", "COL-CFG-06", "GEN-07")
@pytest.mark.parametrize("name", BAD)
def test_a_bad_document_is_refused_with_file_line_key_and_what_was_expected(tmp_path, name):
    text, line, words = BAD[name]
    path = tmp_path / "config.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    for args in (["--check"], []):
        ran = run(*args, "--config", path)
        assert ran.returncode == 1, ran
        assert len(ran.stderr.splitlines()) == 1 and ran.stdout == "", ran
        assert f"{path}:{line}:" in ran.stderr, ran.stderr
        for word in words:
            assert word in ran.stderr, ran.stderr


@pytest.mark.row("COL-CFG-02", "COL-CFG-04", "COL-CFG-05")
def test_a_good_document_may_use_every_form(tmp_path):
    token = write(tmp_path, "from-a-file\n", "token")
    path = write(tmp_path, '{ // a comment\n "stop_timeout": "1m30s", // "another"\n "buffer": { "memory": "64MiB", "history": 1000000, "ingest": "30MB" },\n'
                           ' "destinations": { "hub": { "url": "http://${HUB}/a//b", "timeout": "1500ms", "max_age": "7d", "retry": { "give_up": "never", "initial": "1h", "max": "1h" },\n'
                           f' "auth": {{ "bearer": "${{file:{token}}}" }}, "headers": {{ "X": "$$5${{EMPTY}}" }} }} }} }}')
    ran = run("--print-config", "--config", path, env={"HUB": "hub.example:4318", "EMPTY": ""})
    assert ran.returncode == 0, ran.stderr
    doc = json.loads(ran.stdout)
    hub = doc["destinations"]["hub"]
    assert hub["url"] == "http://hub.example:4318/a//b" and hub["timeout"] in ("1500ms", "1s500ms") and doc["buffer"]["history"] in ("1MB", 1000000)
    assert doc["buffer"]["memory"] == "64MiB" and hub["max_age"] in ("7d", "168h") and hub["retry"]["give_up"] == "never"


@pytest.mark.row("COL-CFG-07")
def test_import_merges_documents_and_a_value_twice_is_an_error(tmp_path):
    write(tmp_path, {"destinations": {"a": {"url": "http://a"}}, "buffer": {"memory": "50MB"}}, "more.json")
    path = write(tmp_path, {"import": ["more.json"], "destinations": {"b": {"url": "http://b"}}, "buffer": {"history": "1MB"}})
    doc = json.loads(run("--print-config", "--config", path).stdout)
    assert set(doc["destinations"]) == {"a", "b"} and (doc["buffer"]["memory"], doc["buffer"]["history"]) == ("50MB", "1MB")
    write(tmp_path, {"import": ["more.json"], "buffer": {"memory": "60MB"}})
    ran = run("--check", "--config", path)
    assert ran.returncode == 1 and "buffer.memory" in ran.stderr and "already" in ran.stderr


# ---- start ----

@pytest.mark.row("COL-OTLP-11", "COL-MSG-01")
@pytest.mark.parametrize("listener", ["otlp_http", "web"])
def test_a_port_in_use_is_named_and_exits_1(collectord, listener):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        d = collectord({"destinations": {}, "listen": {listener: f"127.0.0.1:{port}"}}, ready=False)
        assert d.ended(10) == 1
        line = d.log_lines("cannot listen")[0]
        assert line["level"] == "error" and f"127.0.0.1:{port}" in line["err"] and "use" in line["err"]
        d.check_log()
        assert not d.frames_path.exists() and not d.control_path.exists()


@pytest.mark.row("COL-MSG-01", "COL-BUF-03", "COL-SVC-03", "GEN-09", "GEN-13")
def test_the_lines_of_a_life(collectord, hub, consumer):
    d = collectord(document(local=local(consumer), hub=remote(hub)))
    start = d.log_lines("starting")[0]
    assert start["config"] == str(d.config_path) and start["version"] and start["host"] and start["instance"]
    assert {line["listener"] for line in d.log_lines("listening")} == {"otlp_http", "web", "frames", "control"}
    assert [line["address"] for line in d.log_lines("listening", listener="otlp_http")] == [f"127.0.0.1:{d.otlp_port}"]
    d.wait_log("connection test ok", destination="hub")
    d.post("logs", otlp.logs(["payload text"]))
    hub.wait_names(["payload text"])
    d.stop()
    texts = [line["msg"] for line in d.log_lines()]
    assert texts[0] == "starting" and texts[-1] == "stopped" and "stopping" in texts
    for line in d.log().splitlines():
        assert re.fullmatch(r'ts=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z level=(error|warn|info|debug) msg="[^"]+"( [a-z_0-9]+=("([^"\\]|\\.)*"|[^ "]+))*', line), line
    assert "payload" not in d.log()


@pytest.mark.row("GEN-09")
def test_under_the_journal_each_line_has_its_priority(collectord, tmp_path):
    """JOURNAL_STREAM names our stderr; where no journal takes the fields, each line begins with <N>."""
    if os.path.exists("/run/systemd/journal/socket"):
        pytest.skip("a journal runs here and would take the lines")
    d = collectord({"destinations": {}}, start=False)
    d.log_path.touch()
    st = d.log_path.stat()
    d.extra_env["JOURNAL_STREAM"] = f"{st.st_dev}:{st.st_ino}"
    d.start()
    d.stop()
    prefixes = {re.match(r"<(\d)>ts=.* level=(\w+) ", line).groups() for line in d.log().splitlines()}
    assert prefixes == {("6", "info"), ("4", "warn")}


@pytest.mark.row("GEN-07")
def test_the_log_level_of_the_command_line_wins(collectord):
    d = collectord({"destinations": {}, "log_level": "debug"}, args=["--log-level", "error"])
    assert d.log() == ""
    assert d.control("loglevel") == "log level error"


# ---- signals ----

@pytest.mark.row("GEN-08", "COL-MSG-01")
def test_sighup_with_a_bad_document_keeps_the_old_one(collectord, hub):
    d = collectord(document(hub=remote(hub)))
    for bad in ('{\n "destinations": {\n  "hub": { "url": "nonsense" } } }', "", '{ "buffer": { "memory": 5 } }'):
        d.config_path.write_text(bad)
        before = len(d.log_lines("reload refused"))
        d.signal(signal.SIGHUP)
        until("it to be refused", lambda: len(d.log_lines("reload refused")) > before)
        assert str(d.config_path) in d.log_lines("reload refused")[-1]["err"]
    d.config_path.unlink()
    status, text = d.get("/-/reload", "POST")
    assert status >= 400 and str(d.config_path) in text
    d.post("logs", otlp.logs(["still"]))
    hub.wait_names(["still"])
    m = d.metrics()
    assert m.sum("collectord_reload_failures_total") == 4 and m.sum("collectord_reloads_total") == 0
    assert m.sum("alloy_config_last_load_successful") == 0
    assert d.get("/-/ready")[0] == 200


@pytest.mark.row("GEN-08")
def test_a_reload_says_which_keys_need_a_restart(collectord):
    d = collectord({"destinations": {}})
    before = d.otlp_port
    d.write_config({"destinations": {}, "listen": {**d.config["listen"], "otlp_http": f"127.0.0.1:{free_port()}"}, "log_level": "warn"})
    assert d.control("reload") == "reloaded"
    assert d.wait_log("takes effect at a restart only", key="listen.otlp_http")
    d.config["listen"]["otlp_http"] = f"127.0.0.1:{before}"
    assert d.post("logs", otlp.logs(["x"])).status == 200
    assert d.control("loglevel") == "log level warn"


# ---- systemd ----

class Notify:
    """NOTIFY_SOCKET."""

    def __init__(self, path):
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(0)
        self.seen = []

    def read(self):
        try:
            while True:
                message = dict(line.split("=", 1) for line in self.socket.recv(65536).decode().splitlines())
                self.seen.append((time.monotonic(), message))
        except BlockingIOError:
            return self.seen

    def wait(self, key, value=None, after=0):
        return until(f"{key}={value or '...'}", lambda: [i for i, (_, m) in enumerate(self.read()) if i >= after and key in m and value in (None, m[key])])[0]


@pytest.fixture
def notify(tmp_path):
    n = Notify(tmp_path / "notify")
    yield n
    n.socket.close()


@pytest.mark.row("COL-SVC-03", "COL-SVC-01", "COL-SVC-02", "GEN-08")
def test_systemd_is_told_of_each_state(collectord, hub, notify):
    d = collectord(document(hub=remote(hub)), env={"NOTIFY_SOCKET": notify.path}, start=False)
    d.start(ready=False)
    ready = notify.wait("READY", "1")
    assert d.get("/-/ready")[0] == 200, "READY=1 before the listeners are bound"
    with socket.create_connection(("127.0.0.1", d.otlp_port)):
        pass
    assert d.lines({"log": "x"})[0]["ok"]
    notify.wait("STATUS")
    assert any(m["STATUS"].startswith("RUNNING") for _, m in notify.read() if "STATUS" in m)
    hub.down()
    d.post("logs", otlp.logs(["a"]))
    until("DEGRADED", lambda: any(m.get("STATUS", "").startswith("DEGRADED") for _, m in notify.read()))
    hub.up()
    until("RUNNING again", lambda: notify.read()[-1][1].get("STATUS", "").startswith("RUNNING"))
    before = len(notify.read())
    d.signal(signal.SIGHUP)
    reloading = notify.wait("RELOADING", "1", before)
    assert int(notify.seen[reloading][1]["MONOTONIC_USEC"]) > 0
    notify.wait("READY", "1", reloading)
    d.signal(signal.SIGTERM)
    notify.wait("STOPPING", "1")
    assert d.ended() == 0
    assert ready >= 0 and not [m for _, m in notify.seen if "WATCHDOG" in m]


@pytest.mark.row("COL-SVC-03")
def test_the_watchdog_is_fed_at_half_its_time(collectord, notify):
    d = collectord({"destinations": {}}, env={"NOTIFY_SOCKET": notify.path, "WATCHDOG_USEC": "300000"})
    beats = until("five beats", lambda: (b := [at for at, m in notify.read() if m.get("WATCHDOG") == "1"]) and len(b) >= 5 and b)
    assert (beats[4] - beats[0]) / 4 < 0.3
    assert d.running


@pytest.mark.row("COL-SVC-01", "COL-OTLP-11")
def test_a_failed_start_is_never_ready(collectord, notify):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        d = collectord({"destinations": {}, "listen": {"otlp_http": f"127.0.0.1:{taken.getsockname()[1]}"}}, env={"NOTIFY_SOCKET": notify.path}, ready=False)
        assert d.ended() == 1
    assert not [m for _, m in notify.read() if "READY" in m]
    assert d.log_lines("service state", to="FAILED")


@pytest.mark.row("IPC-10")
@pytest.mark.parametrize("which", [("frames", "control", "otlp_http", "web"), ("frames",), ("otlp_http",), ("control", "frames")])
def test_sockets_of_systemd_are_used(collectord, consumer, tmp_path, which):
    d = collectord(document(local=local(consumer)), start=False)
    d.runtime.mkdir(mode=0o755)
    addresses = {"frames": d.frames_path, "control": d.control_path, "otlp_http": f"127.0.0.1:{d.otlp_port}", "web": f"127.0.0.1:{d.web_port}"}
    d.wrap = [sys.executable, str(ACTIVATE), *(f"{n}={addresses[n]}" for n in which), "--"]
    d.start()
    d.post("traces", otlp.traces(["over http"]))
    assert d.lines({"log": "over a line"}) == [{"ok": True, "items": 1}]
    assert d.status()["state"] == "RUNNING"
    consumer.wait_names(["over http", "over a line"])
    d.stop()
    for name in which:                             # what systemd made stays: it hands it over again
        if name in ("frames", "control"):
            assert addresses[name].exists()


@pytest.mark.row("IPC-10")
def test_a_socket_of_an_unknown_name_is_said_and_left(collectord, consumer, tmp_path):
    d = collectord(document(local=local(consumer)), start=False)
    d.runtime.mkdir(mode=0o755)
    d.wrap = [sys.executable, str(ACTIVATE), f"mystery={tmp_path}/m.sock", f"frames={d.frames_path}", "--"]
    d.start()
    assert d.log_lines("socket of an unknown name", name="mystery")
    assert d.lines({"log": "x"})[0]["ok"]
    consumer.wait_names(["x"])


@pytest.mark.row("IPC-10")
def test_systemd_socket_activate_starts_it_at_the_first_connection(collectord, consumer):
    tool = "/usr/bin/systemd-socket-activate"
    if not os.path.exists(tool):
        pytest.skip("systemd-socket-activate is not installed")
    d = collectord(document(local=local(consumer)), start=False)
    d.runtime.mkdir(mode=0o755)
    d.wrap = [tool, "-l", str(d.frames_path), "--fdname=frames", f"--setenv=RUNTIME_DIRECTORY={d.runtime}"]
    d.start(ready=False)
    until("the socket", d.frames_path.exists)
    assert d.lines({"log": "woke it"}, timeout=15) == [{"ok": True, "items": 1}]
    consumer.wait_names(["woke it"])


# ---- bad days ----

def test_out_of_descriptors_is_said_once_and_survived(collectord, consumer):
    d = collectord(document(local=local(consumer)))
    d.post("logs", otlp.logs(["before"]))
    consumer.wait_names(["before"])
    subprocess.run(["prlimit", f"--pid={d.process.pid}", f"--nofile={d.descriptors() + 3}:"], check=True)
    open_ones = []
    try:
        for _ in range(30):
            s = socket.create_connection(("127.0.0.1", d.otlp_port), timeout=5)
            open_ones.append(s)
            u = socket.socket(socket.AF_UNIX)
            u.connect(str(d.frames_path))
            open_ones.append(u)
        until("it to say so", lambda: [line for line in d.log_lines() if "descriptor" in json.dumps(line) or "too many open files" in json.dumps(line).lower()])
        cpu, begun = d.cpu_s(), time.monotonic()
        until("some time to pass", lambda: time.monotonic() - begun > 1)
        assert d.cpu_s() - cpu < 0.5, "it spins"
    finally:
        for s in open_ones:
            s.close()
    subprocess.run(["prlimit", f"--pid={d.process.pid}", "--nofile=1024:"], check=True)

    def works():
        try:
            return d.post("logs", otlp.logs(["after"]), expect=None).status == 200 and d.lines({"log": "line after"})[0]["ok"]
        except (OSError, Exception):
            d.check_alive()
            return False
    until("it to work again", works, timeout=15)
    consumer.wait_names(["after", "line after"])
    said = [line for line in d.log_lines() if "descriptor" in json.dumps(line) or "too many open files" in json.dumps(line).lower()]
    assert len(said) <= 4, said


@pytest.mark.row("COL-SVC-03")
def test_it_is_ready_within_a_second(collectord):
    begun = time.monotonic()
    collectord(document(nowhere={"url": "http://10.255.255.1:4318"}))
    assert time.monotonic() - begun < 1.5


@pytest.mark.row("COL-CFG-01")
def test_without_a_document_the_built_in_one_runs(tmp_path):
    """Needs its default ports; where something holds them, it says so and that is the test."""
    env = {**{k: v for k, v in os.environ.items() if k != "NOTIFY_SOCKET"}, "RUNTIME_DIRECTORY": str(tmp_path)}
    with subprocess.Popen([binary()], env=env, stderr=subprocess.PIPE, text=True) as p:
        line = ""
        while "service state" not in line:
            line = p.stderr.readline()
            assert line, "it ended"
        if "FAILED" in line:
            assert p.wait(10) == 1
            return
        p.send_signal(signal.SIGTERM)
        rest = p.stderr.read()
        assert p.wait(20) == 0, rest
    assert "running local-only" in rest or "RUNNING" in line


@pytest.mark.row("IPC-01")
@pytest.mark.parametrize("variable", ["RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"])
def test_where_the_runtime_directory_is(root, tmp_path, variable):
    """As another user, XDG_RUNTIME_DIR counts when systemd named none; the folder is made, for this user alone."""
    import shutil
    import tempfile
    folder = Path(tempfile.mkdtemp(prefix="runtime-"))
    folder.chmod(0o777)
    program = folder / "collectord"
    shutil.copy(binary(), program)
    libraries = binary().parent.parent / "lib"
    shutil.copytree(libraries, folder / "lib", symlinks=True, ignore=shutil.ignore_patterns("*.a"))
    path = folder / "config.json"
    path.write_text(json.dumps({"destinations": {}, "listen": {"otlp_http": "127.0.0.1:0", "web": ""}}))
    wanted = folder / "own" if variable == "RUNTIME_DIRECTORY" else folder / "collectord.d" / "collectord"
    value = folder / "own" if variable == "RUNTIME_DIRECTORY" else folder / "collectord.d"
    if variable == "XDG_RUNTIME_DIR":
        value.mkdir()
        value.chmod(0o777)
    try:
        with subprocess.Popen([program, "--config", path], env={variable: str(value), "PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": str(folder / "lib")}, user="nobody", group="nogroup", extra_groups=[],
                              stderr=subprocess.PIPE, text=True, cwd="/") as p:
            until("the socket", lambda: (wanted / "frames.sock").exists() or p.poll() is not None)
            assert p.poll() is None, p.stderr.read()
            assert (wanted / "control.sock").exists() and wanted.stat().st_mode & 0o777 == 0o700
            p.terminate()
            assert p.wait(20) == 0, p.stderr.read()
    finally:
        shutil.rmtree(folder)
