# SPDX-License-Identifier: Apache-2.0
"""The control socket and telemetryctl: every verb, by hand as with socat, and as JSON."""
import json
import os
import re
import socket
import subprocess
import time

import pytest

from env import otlp
from env.daemon import binary
from env.destinations import document, local, remote
from env.sink import ok, status
from env.wait import until


@pytest.fixture
def d(collectord, consumer, hub):
    daemon = collectord(document(local=local(consumer), hub=remote(hub)))
    daemon.consumer, daemon.hub = consumer, hub
    return daemon


def ctl(d, *args, check=True, timeout=20):
    ran = subprocess.run([binary("telemetryctl"), "--socket", d.control_path, *args], capture_output=True, text=True, timeout=timeout)
    assert not check or ran.returncode == 0, (args, ran.stdout, ran.stderr)
    return ran


class Tap:
    """A tap that runs."""

    def __init__(self, d, line):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(d.control_path))
        self.sock.sendall(line.encode() + b"\n")
        self.text = ""

    def until(self, pattern):
        while not re.search(pattern, self.text):
            data = self.sock.recv(65536)
            assert data, f"the tap ended without {pattern!r}: {self.text!r}"
            self.text += data.decode()
        return self.text

    def to_end(self):
        while data := self.sock.recv(65536):
            self.text += data.decode()
            if self.text.endswith("\n\n") or self.text == "\n":
                break
        return self.text

    def close(self):
        self.sock.close()


@pytest.mark.row("IPC-08")
def test_the_socket_is_for_the_daemons_user_and_group(d):
    assert os.stat(d.control_path).st_mode & 0o7 == 0


@pytest.mark.row("IPC-08")
def test_help_lists_every_verb_and_each_is_understood(d):
    verbs = [row["verb"] for row in d.control_json("help")]
    assert {"help", "status", "destinations", "sources", "lost", "tap", "loglevel", "reload"} <= set(verbs)
    text = d.control("help")
    for verb in verbs:
        assert re.search(rf"^{verb}\b", text, re.M)
        if verb not in ("tap",):
            assert not d.control(verb).startswith("error"), verb


@pytest.mark.row("IPC-08")
def test_socat_can_ask(d):
    ran = subprocess.run(f"printf 'status\\njson loglevel\\n' | socat - UNIX-CONNECT:{d.control_path}", shell=True, capture_output=True, text=True, timeout=20)
    assert ran.stderr == "" and "RUNNING" in ran.stdout and '{"log_level":"info"}' in ran.stdout


@pytest.mark.row("IPC-08")
@pytest.mark.parametrize("line", ["nonsense", "status please", "json nonsense", "json", "tap --nonsense", "tap --back", "tap --back soon", "tap --for x", "tap =x", "lost --since",
                                  "lost --since x", "lost 5m", "loglevel loud", "loglevel info warn", 'tap "open', "\x01\x02", "é" * 10, "x" * 4000])
def test_wrong_lines_are_answered_with_an_error_and_the_connection_goes_on(d, line):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(str(d.control_path))
        s.sendall(line.encode() + b"\nstatus\n")
        s.shutdown(socket.SHUT_WR)
        got = b""
        while data := s.recv(65536):
            got += data
    first, rest = got.decode().split("\n\n", 1)
    if line.startswith("json"):
        assert json.loads(first)["error"]
    else:
        assert first.startswith("error: ") and "\n" not in first
    assert "RUNNING" in rest
    assert all(c.isprintable() or c == "\n" for c in got.decode())


@pytest.mark.row("IPC-08")
def test_a_line_without_end_is_refused(d):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(str(d.control_path))
        s.sendall(b"x" * 10000)
        assert s.recv(1000).startswith(b"error: a line has at most")
    assert "RUNNING" in d.control("status")


@pytest.mark.row("IPC-08", "COL-SVC-01")
def test_status_tells_state_listeners_and_buffer(d):
    text = d.control("status")
    for part in ("RUNNING", str(d.otlp_port), str(d.web_port), str(d.frames_path), str(d.control_path), "local", "hub", "FLOWING", str(d.config_path)):
        assert part in text, part
    status_ = d.status()
    assert status_["ready"] is True and status_["process"]["pid"] == d.process.pid
    assert status_["listen"] == {"otlp_http": f"127.0.0.1:{d.otlp_port}", "web": f"127.0.0.1:{d.web_port}", "frames": str(d.frames_path), "control": str(d.control_path)}
    assert [x["name"] for x in status_["destinations"]] == ["local", "hub"]
    assert json.loads(d.get("/api/v1/status")[1])["instance"] == status_["instance"]


@pytest.mark.row("IPC-08")
def test_destinations_tell_figures_and_the_last_error(d):
    d.hub.behave(status(503))
    d.post("logs", otlp.logs(["a"]))
    until("a failure", lambda: d.ledger()["hub", "logs"]["requests"]["failed"] >= 2)
    row = d.ledger()["hub", "logs"]
    assert row["state"] == "BUFFERING" and row["requests"]["last_error"] == "HTTP 503" and row["requests"]["answers"]["5xx"] >= 2
    text = d.control("destinations")
    assert "BUFFERING" in text and "HTTP 503" in text and d.hub.url in text
    d.hub.behave(ok())
    d.hub.wait_names(["a"])
    d.wait_state("hub", "FLOWING")
    assert d.ledger()["hub", "logs"]["requests"]["last_success_s"] is not None


@pytest.mark.row("IPC-08")
def test_sources_tell_listeners_rates_and_producers(d):
    d.post("traces", otlp.traces(["a"] * 5))
    rows = d.control_json("sources")
    http = next(r for r in rows if r["transport"] == "http")
    assert next(s for s in http["signals"] if s["signal"] == "traces")["accepted"] == 5
    assert {r["transport"] for r in rows if r["type"] == "listener"} == {"http", "frames", "lines"}
    assert "http" in d.control("sources")


@pytest.mark.row("IPC-08", "COL-BUF-04")
def test_lost_tells_each_loss_and_since_limits_it(d):
    assert d.control("lost") == "nothing was lost" and d.lost() == []
    d.hub.behave(status(404, body=b"no such tenant"))
    begun = time.monotonic()
    d.post("logs", otlp.logs(["a"] * 3))
    until("the loss", d.lost)
    loss = d.lost()[0]
    assert (loss["destination"], loss["signal"], loss["reason"], loss["items"], loss["records"]) == ("hub", "logs", "refused", 3, 1)
    assert "404" in loss["text"] and "no such tenant" in loss["text"] and loss["first"] <= loss["last"] and loss["received_first"] <= loss["last"]
    text = d.control("lost")
    assert "refused" in text and "hub" in text
    assert len(d.control_json("lost --since 1h")) == 1
    until("it to be older than a moment", lambda: not d.control_json("lost --since 1s") or time.monotonic() - begun < 1)
    assert "refused" in ctl(d, "lost").stdout


@pytest.mark.row("IPC-08")
def test_loglevel_is_told_and_changed_without_a_restart(d):
    assert d.control("loglevel") == "log level info"
    assert d.control("loglevel debug") == "log level debug"
    d.lines({"log": "x"})
    d.wait_log("peer connected")
    assert d.control("loglevel error") == "log level error"
    assert d.control_json("loglevel") == [{"log_level": "error"}]


@pytest.mark.row("IPC-08", "GEN-08")
def test_reload_says_what_is_wrong(d):
    good = d.config_path.read_text()
    d.config_path.write_text('{\n  "destinatons": {}\n}')
    answer = d.control("reload")
    assert answer.startswith("error: ") and f"{d.config_path}:2" in answer and "destinatons" in answer and "destinations" in answer
    assert "error" in d.control_json("reload")[0]
    assert "REFUSED" in d.control("status")
    d.config_path.write_text(good)
    assert d.control_json("reload") == [{"reloaded": True}]
    assert "REFUSED" not in d.control("status")


# ---- tap ----

@pytest.mark.row("IPC-08")
def test_a_tap_follows_what_comes(d):
    tap = Tap(d, "tap logs")
    until("it to run", lambda: d.status())
    for i in range(3):
        d.post("logs", otlp.logs([f"live {i}"]))
        d.post("traces", otlp.traces([f"span {i}"]))
        tap.until(f"live {i}")
    assert "span" not in tap.text
    tap.close()
    assert d.control("loglevel").startswith("log level")


@pytest.mark.row("IPC-08")
def test_a_tap_looks_back_and_ends_when_it_does_not_follow(d):
    d.post("logs", otlp.logs(["one", "two"]))
    d.post("traces", otlp.traces(["three"]))
    d.consumer.wait_names(["one", "two", "three"])
    text = d.control("tap --back 5m --no-follow")
    assert all(n in text for n in ("one", "two", "three"))
    assert "one" not in d.control("tap traces --back 5m --no-follow")
    assert d.control("tap --no-follow logs --for 1").count("\n") == 0
    tap = Tap(d, "tap logs --back 5m")
    tap.until("two")
    d.post("logs", otlp.logs(["then live"]))
    tap.until("then live")
    tap.close()


@pytest.mark.row("IPC-08")
@pytest.mark.parametrize("term,shown", [("service=cart", {"a"}), ("service!=cart", {"b", "c"}), ("service.name=pay", {"b", "c"}), ("color=red", {"a", "b"}), ("color~e", {"a", "b"}),
                                        ("color=red service=pay", {"b"}), ("name~c", {"c"}), ("name=a", {"a"}), ("nothing=x", set())])
def test_a_tap_shows_what_passes_its_filter(d, term, shown):
    for name, service, color in (("a", "cart", "red"), ("b", "pay", "red"), ("c", "pay", "blu")):
        message = otlp.traces([name], service=service)
        otlp.attribute(message.resource_spans[0].scope_spans[0].spans[0].attributes, "color", color)
        d.post("traces", message)
    got = [json.loads(line) for line in d.control(f"json tap traces --no-follow {term}").splitlines()]
    assert {n for doc in got for n in otlp.names(otlp.from_json("traces", json.dumps(doc)))} == shown


@pytest.mark.row("IPC-08", "COL-OTLP-10")
@pytest.mark.parametrize("signal", otlp.SIGNALS)
def test_what_a_json_tap_shows_can_be_posted_again(d, signal):
    message = otlp.MAKE[signal](["again", "and again"])
    d.post(signal, message)
    d.consumer.wait_names(["again"], signal)
    line = d.control(f"json tap {signal} --no-follow")
    d.post(signal, line.encode(), type=otlp.JSON)
    d.consumer.wait(lambda s: s.names(signal) == ["again", "and again"] * 2)
    first, second = (r.message for r in d.consumer.accepted(signal))
    assert first == second


@pytest.mark.row("IPC-08")
def test_a_tap_that_is_not_read_holds_up_nothing(d):
    tap = Tap(d, "tap")
    for i in range(300):
        d.post("logs", otlp.logs([f"{i}.{k}" for k in range(20)], pad=500))
    d.consumer.wait(lambda s: s.items() == 6000)
    assert "RUNNING" in d.control("status")
    assert d.rss() < 200e6
    tap.close()


@pytest.mark.row("IPC-08")
def test_a_tap_prints_nothing_that_a_terminal_would_obey(d):
    d.post("logs", otlp.logs(["red \x1b[31m alert \x07\r\n second line \u009b"]))
    text = d.control("tap logs --no-follow")
    assert "alert" in text and not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u0080-\u009f]", text)


# ---- telemetryctl ----

@pytest.mark.row("IPC-08")
def test_telemetryctl_asks_every_verb(d):
    for verb in ("help", "status", "destinations", "sources", "lost", "loglevel"):
        assert ctl(d, verb).stdout
        for line in ctl(d, "--json", verb).stdout.splitlines():
            json.loads(line)
    assert ctl(d, "reload").stdout == "reloaded\n"
    d.post("logs", otlp.logs(["tapped"]))
    assert "tapped" in ctl(d, "tap", "logs", "--no-follow", "body~tap").stdout
    assert "RUNNING" in ctl(d, "status").stdout


@pytest.mark.row("IPC-08")
def test_telemetryctl_follows_a_tap(d):
    with subprocess.Popen([binary("telemetryctl"), "--socket", d.control_path, "tap", "logs", "--for", "2"], stdout=subprocess.PIPE, text=True) as p:
        until("two lines", lambda: p.poll() is not None or d.post("logs", otlp.logs(["followed"])) is None, step=0.05)
        assert p.stdout.read().count("followed") == 2 and p.returncode == 0


@pytest.mark.row("IPC-08", "GEN-07")
def test_telemetryctl_finds_the_socket_and_names_what_is_wrong(d, tmp_path):
    env = {**os.environ, "RUNTIME_DIRECTORY": str(d.runtime)}
    ran = subprocess.run([binary("telemetryctl"), "status"], env=env, capture_output=True, text=True, timeout=20)
    assert ran.returncode == 0 and "RUNNING" in ran.stdout
    ran = ctl(d, "nonsense", check=False)
    assert ran.returncode == 1 and "unknown verb" in ran.stdout + ran.stderr
    for args in ([], ["--nonsense"], ["--socket"]):
        ran = subprocess.run([binary("telemetryctl"), *args], capture_output=True, text=True, timeout=20)
        assert ran.returncode == 2 and "usage" in ran.stderr
    for args in (["--help"], ["--version"]):
        assert subprocess.run([binary("telemetryctl"), *args], capture_output=True, timeout=20).returncode == 0
    ran = subprocess.run([binary("telemetryctl"), "--socket", tmp_path / "none.sock", "status"], capture_output=True, text=True, timeout=20)
    assert ran.returncode == 1 and "none.sock" in ran.stderr


@pytest.mark.row("IPC-08")
def test_telemetryctl_asks_the_daemon_that_is_named(d):
    """Another one beside collectord in the runtime directory: a socket that says what it was asked."""
    env = {**os.environ, "RUNTIME_DIRECTORY": str(d.runtime)}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(d.runtime / "beylad.sock"))
        listener.listen()
        listener.settimeout(20)
        with subprocess.Popen([binary("telemetryctl"), "--json", "beylad", "explain", "42"], env=env, stdout=subprocess.PIPE, text=True) as p:
            peer, _ = listener.accept()
            with peer, peer.makefile("rw") as file:
                assert file.readline() == "json explain 42\n"
                file.write('{"pid":42}\n\n')
            assert p.stdout.read() == '{"pid":42}\n' and p.wait(20) == 0
    ran = subprocess.run([binary("telemetryctl"), "beylad", "status"], env=env, capture_output=True, text=True, timeout=20)
    assert ran.returncode == 1 and "beylad.sock" in ran.stderr and "beylad is not running" in ran.stderr
    ran = subprocess.run([binary("telemetryctl"), "collectord", "status"], env=env, capture_output=True, text=True, timeout=20)
    assert ran.returncode == 0 and "RUNNING" in ran.stdout
    ran = subprocess.run([binary("telemetryctl"), "beylad"], env=env, capture_output=True, text=True, timeout=20)
    assert ran.returncode == 2 and "no verb" in ran.stderr


# ---- the web listener ----

@pytest.mark.row("COL-HTTP-01", "COL-HTTP-02")
def test_the_own_http_answers(d):
    d.post("traces", otlp.traces(["a"]))
    assert d.get("/-/ready")[0] == 200 and d.get("/-/healthy")[0] == 200
    assert d.get("/-/reload", "POST")[0] == 200 and d.get("/-/reload")[0] == 405
    assert d.get("/nothing")[0] == 404 and d.get("/metrics", "POST")[0] == 405
    page = d.get("/")
    assert page[0] == 200 and "<html" in page[1].lower() and "hub" in page[1] and "RUNNING" in page[1]
    m = d.metrics()
    for name in ("otelcol_receiver_accepted_spans_total", "otelcol_exporter_sent_spans_total", "otelcol_exporter_send_failed_spans_total", "otelcol_exporter_queue_size",
                 "otelcol_exporter_queue_capacity", "process_resident_memory_bytes", "collectord_build_info", "collectord_buffer_state",
                 "otelcol_processor_batch_timeout_trigger_send_total", "process_cpu_seconds_total"):
        assert m.named(name), name
    assert len({(s.name, tuple(sorted(s.labels.items()))) for s in m}) == len(m), "a sample twice"
    d.hub.wait_names(["a"])
    d.wait_drained()
    assert d.metrics().sum("otelcol_exporter_sent_spans_total", exporter="hub") == 1


@pytest.mark.row("COL-HTTP-01")
def test_the_page_shows_no_markup_of_others(collectord, hub):
    d = collectord(document(hub=remote(hub)))
    hub.behave(status(404, body=b"<script>alert(1)</script>"))
    d.post("logs", otlp.logs(["a"]))
    until("the loss", d.lost)
    page = d.get("/")[1]
    assert "<script>alert" not in page and "&lt;script" in page
