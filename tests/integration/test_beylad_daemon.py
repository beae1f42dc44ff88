# SPDX-License-Identifier: Apache-2.0
"""beylad as a daemon: what its control socket answers and changes, a recording made live, programs that run others, and what it gives up when it costs
too much."""
import json
import signal
import subprocess
import sys

import pytest

from env.beylad import Span
from env.daemon import binary
from env.destinations import document, remote
from env.servers import PORT, ask, python_server
from env.wait import until
from test_beylad_exact import nginx_started


def shown(d, verb):
    """The one line of a verb's answer in JSON."""
    [line] = [x for x in d.control(f"json {verb}").splitlines() if x]
    return json.loads(line)


# ---- the control socket ----

def test_status_stats_and_explain_say_the_same(observe, server):
    s = server(python_server())
    d = observe([s.port]).attached(s.pid)
    ask(s.port, *[("GET", f"/items/{i}") for i in range(10)])
    d.servers(10)
    status, stats = shown(d, "status"), d.stats()
    assert (status["pid"], status["processes"], status["spans"], status["lost"], status["observes"]) == (d.process.pid, 1, 10, 0, "everything")
    assert (stats["processes"], stats["spans_server"], stats["spans_client"], stats["requests_lost"], stats["connections_opened"]) == (1, 10, 0, 0, 1)
    text = d.control("status")
    assert f"pid {d.process.pid}, 1 processes observed (everything)" in text and "spans   10 (10 server, 0 client), 0 requests lost" in text, text
    [p] = d.processes()
    assert (p["pid"], p["port"], p["requests"], p["language"]) == (s.pid, s.port, 10, "python")
    explained = shown(d, f"explain {s.pid}")
    techniques = {t["what"]: t for t in explained["techniques"]}
    assert explained["pid"] == s.pid and explained["language"] == "python" and techniques["sockets"]["works"], explained
    assert any(str(s.port) in t["how"] and t["works"] for t in techniques.values()), explained
    assert "error" in shown(d, "explain 4194304")


def test_a_reload_observes_what_is_wanted_now_and_a_bad_one_changes_nothing(observe, server):
    first, second = server(python_server()), server(python_server())
    d = observe([first.port]).attached(first.pid)
    d.config["open_ports"] = ["no port"]
    d.write_config()
    assert "open_ports" in shown(d, "reload")["error"]
    ask(first.port, ("GET", "/before"))
    d.servers(1)
    d.config["open_ports"] = [str(second.port)]
    d.write_config()
    assert shown(d, "reload") == {"reloaded": True}
    d.attached(second.pid)
    ask(first.port, ("GET", "/first"))
    ask(second.port, ("GET", "/second"))
    d.servers(2)
    assert [x["url.path"] for x in d.settled()] == ["/before", "/second"] and [p["pid"] for p in d.processes()] == [second.pid]
    d.config["open_ports"] = [str(first.port)]
    d.write_config()
    d.process.send_signal(signal.SIGHUP)
    d.attached(first.pid)
    assert [p["pid"] for p in d.processes()] == [first.pid] and d.stats()["reloads"] == 2


# ---- recordings ----

def test_what_was_recorded_replays_to_the_same_spans(observe, server, tmp_path):
    """Names, times, attributes, processes and who belongs to whom: all comes out of the file again."""
    back = server(python_server())
    front = server(python_server("--upstream", back.url), env={"OTEL_SERVICE_NAME": "front"})
    path = tmp_path / "recording"
    d = observe([front.port, back.port], args=["--record", str(path)]).attached(front.pid).attached(back.pid)
    ask(front.port, *[("GET", f"/call/items/{i}") for i in range(20)], ("POST", "/echo", b"x" * 100_000))
    live = d.spans(61)
    d.stop()
    assert len(live) == 61
    ran = subprocess.run([binary("beylad"), "--replay", str(path)], capture_output=True, text=True, timeout=30)
    assert ran.returncode == 0, ran.stderr
    replayed = [Span(json.loads(line)) for line in ran.stdout.splitlines()]

    def told(spans):
        return sorted((x["start_unix_nano"], x["end_unix_nano"], x["name"], x["service"], x["pid"], x["kind"], sorted(map(str, x["attributes"].items())))
                      for x in spans)
    assert told(replayed) == told(live) and {x["service"] for x in replayed} >= {"front"}
    ids = {x["span_id"]: x for x in replayed}
    assert sum(x["parent_span_id"] in ids for x in replayed) == 40         # each call, and what it was answered by


# ---- programs that run others ----

# Serves one request, closes all and runs a program that calls out.
RUNS_A_CLIENT = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204); self.end_headers()
s = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
s.handle_request()
client = "import sys, time, urllib.request as r; [r.urlopen(sys.argv[1]).read() for _ in range(20)]; print('called', flush=True); time.sleep(600)"
os.execv(sys.executable, [sys.executable, "-c", client, sys.argv[2]])
"""

# Serves one request, and leaves its listener to the next program.
RUNS_A_SERVER = """
import http.server, os, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204); self.end_headers()
s = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler, bind_and_activate=len(sys.argv) == 2)
if len(sys.argv) > 2:
    s.socket = socket.socket(fileno=int(sys.argv[2]))
    print("again", flush=True)
    s.serve_forever()
s.handle_request()
os.set_inheritable(s.fileno(), True)
os.execv(sys.executable, [sys.executable, sys.argv[0], sys.argv[1], str(s.fileno())])
"""


def test_a_program_that_runs_another_one_is_observed_no_more(observe, server):
    """beylad is asleep meanwhile: the kernel side alone has to look away."""
    back = server(python_server())
    s = server([sys.executable, "-c", RUNS_A_CLIENT, PORT, back.url])
    d = observe([s.port]).attached(s.pid)
    until("beylad to be quiet", lambda: d.settled() == [])
    calls = d.stats()["calls"]
    d.process.send_signal(signal.SIGSTOP)
    try:
        ask(s.port, ("GET", "/last"))
        until("the next program to have called", lambda: "called" in s.output())
    finally:
        d.process.send_signal(signal.SIGCONT)
    until("the program to be forgotten", lambda: d.processes() == [], 5)
    assert [x["url.path"] for x in d.settled()] == ["/last"] and len(back.records(20)) == 20
    assert d.stats()["calls"] - calls < 10         # those of the one request and its answer


def test_a_listener_that_is_left_to_the_next_program_is_observed(observe, server, tmp_path):
    (tmp_path / "program.py").write_text(RUNS_A_SERVER)
    s = server([sys.executable, tmp_path / "program.py", PORT])
    d = observe([s.port]).attached(s.pid)
    ask(s.port, ("GET", "/first"))
    until("the next program", lambda: "again" in s.output())
    until("it to be attached", lambda: d.stats()["processes_attached"] == 2)
    ask(s.port, ("GET", "/second"))
    d.servers(2)
    assert [x["url.path"] for x in d.settled()] == ["/first", "/second"] and d.stats()["processes_ended"] == 1


# A process for each request, gone once it has answered.
FORKS = """
import os, socket, sys
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    c, _ = s.accept()
    if os.fork() == 0:
        c.recv(65536)
        c.sendall(b"HTTP/1.1 204 No Content\\r\\n\\r\\n")
        os._exit(0)
    c.close()
    os.wait()
"""


def test_a_process_that_is_gone_before_it_is_read_has_the_identity_of_its_parent(observe, server):
    s = server([sys.executable, "-c", FORKS, PORT], env={"OTEL_SERVICE_NAME": "forks"})
    d = observe([s.port]).attached(s.pid)
    d.process.send_signal(signal.SIGSTOP)
    try:
        for i in range(10):
            assert ask(s.port, ("GET", f"/{i}")) == [204]
    finally:
        d.process.send_signal(signal.SIGCONT)
    spans = d.servers(10)
    assert sorted(x["url.path"] for x in d.settled()) == [f"/{i}" for i in range(10)]
    assert {x["service"] for x in spans} == {"forks"} and len({x["pid"] for x in spans} - {s.pid}) == 10
    until("all of them to be forgotten", lambda: [p["pid"] for p in d.processes()] == [s.pid], 5)


# ---- the budget ----

@pytest.mark.slow
def test_what_costs_too_much_is_given_up_step_by_step_and_comes_back(collectord, hub, beylad, server):
    """A period is 10 s: first bytes beyond 1 KB of a call go, then spans, then all; after six good ones in a row a step is taken back."""
    nginx, s = nginx_started(server), server(python_server())
    c = collectord(document(hub=remote(hub)))
    d = beylad([nginx.port, s.port], config={"collector": str(c.frames_path), "printer": "disabled", "budget": {"cpu": 1}, "metrics": {"interval": "1s"}})
    for pid in (*nginx.pids(), s.pid):
        d.attached(pid)

    def observes(what, timeout):
        until(f"beylad to observe {what}", lambda: shown(d, "status")["observes"] == what, timeout, 0.5)      # an answer costs, too
        until("collectord to know", lambda: f"observes {what}: beylad took" in c.control("json sources"))

    def long_head():
        """What one request with a head of 3 KB becomes: (spans handed on, spans left out, requests seen in part)."""
        before = d.stats()
        assert ask(s.port, ("GET", "/long"), headers={"X-Long": "x" * 3000}) == [200]
        until("it to be known", lambda: d.stats()["spans_held"] == 0 and d.stats()["spans"] + d.stats()["requests_lost_parts"] >
              before["spans"] + before["requests_lost_parts"])
        after = d.stats()
        return tuple(after[k] - before[k] for k in ("output_queued_spans", "spans_ignored", "requests_lost_parts"))
    assert long_head() == (1, 0, 0)
    load = subprocess.Popen(["wrk", "-t", "1", "-c", "4", "-d", "600", f"{nginx.url}/load"], stdout=subprocess.DEVNULL)
    try:
        observes("heads only", 40)
        load.send_signal(signal.SIGSTOP)
        until("no request to be under way", lambda: d.stats()["spans_held"] == 0)
        assert long_head() == (0, 0, 1)
        load.send_signal(signal.SIGCONT)
        observes("metrics only", 20)
        load.send_signal(signal.SIGSTOP)
        until("no request to be under way", lambda: d.stats()["spans_held"] == 0)
        before = d.stats()
        ask(s.port, ("GET", "/metrics-only"))
        until("its span to be left out", lambda: d.stats()["spans_ignored"] == before["spans_ignored"] + 1)
        assert d.stats()["output_queued_spans"] == before["output_queued_spans"]
        load.send_signal(signal.SIGCONT)
        observes("nothing", 20)
        assert d.processes() == []
        calls = d.stats()["calls"]
        ask(s.port, ("GET", "/nothing"))
        assert d.stats()["calls"] == calls
    finally:
        load.kill()
        load.wait()
    observes("metrics only", 90)
    d.attached(s.pid)
