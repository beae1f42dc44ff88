# SPDX-License-Identifier: Apache-2.0
"""Nothing is lost in silence: spans and counted losses are the requests that the server counted itself, at any load and whatever ends in the midst of it."""
import contextlib
import ctypes
import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest

from env import otlp
from env.daemon import sanitized
from env.destinations import document, remote
from env.servers import FOLDER, ask, on_threads, python_server
from env.wait import stays, until

NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    log_format own '$request_method $uri $status $body_bytes_sent';
    access_log {log} own;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    keepalive_requests 1000000;
    server {{ listen 127.0.0.1:{port} backlog=1024{http2}; location / {{ return 200 "served $uri\\n"; }} }}
}}
"""


def nginx_started(server, http2=""):
    for program in ("nginx", "ab", "wrk", "h2load"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    s = server(["nginx", "-c", f"{FOLDER}/nginx.conf"], start=False)
    (s.folder / "nginx.conf").write_text(NGINX.format(folder=s.folder, log=s.log_path, port=s.port, http2=http2))
    s.start()
    until("its worker", lambda: len(s.pids()) == 2)
    return s


@pytest.fixture
def nginx(server):
    """An nginx with one worker, and an access log with a line for each request."""
    return nginx_started(server)


@pytest.fixture
def observe(beylad, nowhere):
    """observe(server) is a beylad that observes all of its processes, and whose spans only the test reads."""
    def make(s, **config):
        d = beylad([s.port], config={**nowhere.config, **config})
        for pid in s.pids():
            d.attached(pid)
        return d
    return make


def load(s, requests, connections=16, keepalive=True, path="/load"):
    """Exactly so many requests by ab; those it completed."""
    ran = subprocess.run(["ab", "-q", "-n", str(requests), "-c", str(connections), *(["-k"] if keepalive else []), f"{s.url}{path}"],
                         capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return int(re.search(r"Complete requests:\s+(\d+)", ran.stdout)[1])


def counted(s):
    return len(s.log_lines())


def balance(d):
    """Spans of servers, losses, and requests that are not over."""
    stats = d.stats()
    return stats["spans_server"] + stats["spans_held"], stats["requests_lost"], stats["spans_open"]


def balanced(d, requests, timeout=20):
    """Waits until every event was read, and checks the equation. Returns (spans, losses)."""
    def settled():
        spans, lost, left = balance(d)
        return d.stats()["spans_held"] == 0 and left == 0 and spans + lost + left >= requests
    try:
        until("every request to be a span or a loss", settled, timeout)
    except AssertionError:
        pass                                       # the figures say more
    spans, lost, left = balance(d)
    assert spans + lost + left == requests and left == 0, f"{spans} spans + {lost} lost + {left} open != {requests}; stats: {d.stats()}"
    stays("the equation", lambda: sum(balance(d)) == requests, 0.5)
    return spans, lost


def balanced_at_the_end(d, s, requests):
    """The same once the server is gone, and with it every connection of which the end was lost."""
    s.stop()
    spans, lost = balanced(d, requests)
    until("its connections to be forgotten", lambda: d.stats()["connections"] == 0)
    assert len(d.servers(spans)) == spans


# ---- the equation ----

@pytest.mark.techniques("auto", "syscall")
@pytest.mark.row("BEY-07", "BEY-19")
@pytest.mark.parametrize("keepalive", [True, False], ids=["keep-alive", "new connections"])
def test_at_moderate_load_nothing_is_lost(observe, nginx, keepalive):
    d = observe(nginx)
    n = load(nginx, 10_000, keepalive=keepalive)
    assert n == 10_000 == until("the access log", lambda: counted(nginx) >= n and counted(nginx))
    assert balanced(d, n) == (n, 0)
    found = d.servers(n)
    assert len(found) == n and {(x["url.path"], x["http.response.status_code"], x["http.response.body.size"]) for x in found} == {("/load", 200, 13)}
    assert d.stats()["gaps"] == 0 == d.stats()["events_lost"]


@pytest.mark.row("BEY-07", "BEY-19")
def test_threads_of_a_python_server_at_moderate_load(observe, server):
    s = server(python_server())
    d = observe(s)
    n = sum(map(len, on_threads(16, lambda i: ask(s.port, *[("GET", f"/load/{i}")] * 250), range(16))))
    assert len(s.records(n)) == n == 4_000 and balanced(d, n) == (n, 0)


class Flood:
    """wrk on a server until end()."""

    def __init__(self, s, connections=32):
        self.process = subprocess.Popen(["wrk", "-t", "1", "-c", str(connections), "-d", "300s", f"{s.url}/flood"], stdout=subprocess.DEVNULL)

    def end(self):
        assert self.process.poll() is None, "wrk ended early"
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)


def held_open(d, s):
    """Connections with a request that does not end."""
    held = [socket.create_connection(("127.0.0.1", s.port)) for _ in range(50)]
    for c in held:
        c.sendall(b"GET /held HTTP/1.1\r\nHost: x\r\n")
    until("their requests to be open", lambda: d.stats()["spans_open"] == 50)
    return held


@contextlib.contextmanager
def asleep(d):
    """beylad is stopped meanwhile: the ring fills."""
    d.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        d.process.send_signal(signal.SIGCONT)


def until_counted(s, more):
    """Waits until the server has served so many more."""
    begun = counted(s)
    until(f"{more} more requests", lambda: counted(s) >= begun + more, 30)


def quiet(s):
    """Requests served, once none came for half a second."""
    last, since = -1, time.monotonic()
    while time.monotonic() - since < 0.5:
        if (now := counted(s)) != last:
            last, since = now, time.monotonic()
        time.sleep(0.02)
    return last


@pytest.mark.row("BEY-19")
@pytest.mark.parametrize("stops", [1, 3])
def test_a_ring_that_overflows_is_counted_to_the_last_request(observe, nginx, stops):
    """beylad sleeps while nginx is flooded: what found the ring full was never seen, and is counted nevertheless."""
    d = observe(nginx)
    flood = Flood(nginx)
    for _ in range(stops):
        until_counted(nginx, 1000)
        with asleep(d):
            until_counted(nginx, 40_000)           # the ring holds fewer
    flood.end()
    n = quiet(nginx)
    spans, lost = balanced(d, n, 40)
    stats = d.stats()
    assert lost > 0 and spans > 0 and stats["events_lost"] >= stats["requests_lost_ring"] > 0, stats
    assert stats["events_lost_bytes"] > stats["events_lost"]
    more = load(nginx, 1000)                       # and then all is as before
    assert balanced(d, n + more) == (spans + more, lost)
    balanced_at_the_end(d, nginx, n + more)


@pytest.mark.row("BEY-19")
def test_a_ring_that_overflows_with_new_connections(observe, nginx):
    d = observe(nginx)
    until_running = threading.Thread(target=load, args=(nginx, 60_000), kwargs={"keepalive": False})
    until_running.start()
    try:
        until_counted(nginx, 1000)
        with asleep(d):
            until_counted(nginx, 40_000)
    finally:
        until_running.join()
    n = quiet(nginx)
    spans, lost = balanced(d, n, 40)
    assert lost > 0 and spans > 0
    balanced_at_the_end(d, nginx, n)


@pytest.mark.row("BEY-19")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("streams", [1, 10])
def test_a_ring_that_overflows_over_http2(observe, server, certificates, streams, tls):
    """One call may bring several requests: each that finds the ring full is counted."""
    keys = f"ssl; ssl_certificate {certificates.path('good.pem')}; ssl_certificate_key {certificates.path('good.key')}" if tls else ""
    s = nginx_started(server, f" http2 {keys}")
    d = observe(s)
    flood = subprocess.Popen(["h2load", "-n", "70000", "-c", "4", "-m", str(streams), f"{'https' if tls else 'http'}://127.0.0.1:{s.port}/flood"],
                             stdout=subprocess.DEVNULL)
    until_counted(s, 1000)
    with asleep(d):
        until_counted(s, 50_000)
    assert flood.wait(60) == 0
    n = quiet(s)
    assert n == 70_000
    spans, lost = balanced(d, n, 40)
    assert lost > 0 and spans > 0
    balanced_at_the_end(d, s, n)


@pytest.mark.row("BEY-19")
def test_the_end_of_a_connection_that_finds_the_ring_full_comes_later(observe, nginx):
    """What was open on it is over, and the connection forgotten; else both would stay until the sweep."""
    d = observe(nginx)
    held = held_open(d, nginx)
    flood = Flood(nginx)
    until_counted(nginx, 1000)
    with asleep(d):
        until_counted(nginx, 40_000)
        for c in held:
            c.close()
        until_counted(nginx, 1000)
    flood.end()
    until("nothing to be open", lambda: d.stats()["spans_open"] == 0)
    until("every connection to be forgotten", lambda: d.stats()["connections"] == 0)
    assert d.stats()["events_lost"] > 0


@pytest.mark.row("BEY-19")
def test_ends_of_connections_that_waited_are_heard_of_under_steady_load(observe, nginx):
    """The ring is never quiet for a second; the queue of lost ends is read all the same."""
    d = observe(nginx)
    held = held_open(d, nginx)
    with asleep(d):
        subprocess.run(["ab", "-q", "-k", "-n", "40000", "-c", "4", f"{nginx.url}/flood"], check=True, stdout=subprocess.DEVNULL)
        for c in held:
            c.close()
    # Not asked meanwhile: whoever asks for stats empties the ring, and then it looks quiet.
    with socket.create_connection(("127.0.0.1", nginx.port)) as c:
        for _ in range(200):
            c.sendall(b"GET /steady HTTP/1.1\r\nHost: x\r\n\r\n")
            assert c.recv(1000)
            time.sleep(0.02)
        assert d.stats()["spans_open"] <= 1


# ---- lives ----

class Client(threading.Thread):
    """Asks again and again on one connection, each time for a path of its own, and remembers when."""

    def __init__(self, s, name):
        super().__init__(daemon=True)
        self.port, self.label, self.asked, self.over, self.failure = s.port, name, [], threading.Event(), None
        self.start()

    def run(self):
        try:
            c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
            while not self.over.is_set():
                path, begun = f"/{self.label}/{len(self.asked)}", time.time_ns()
                c.request("GET", path)
                c.getresponse().read()
                self.asked.append((path, begun, time.time_ns()))
                self.over.wait(0.001)
            c.close()
        except OSError as e:
            self.failure = e

    def end(self):
        self.over.set()
        self.join()
        assert self.failure is None, self.failure
        return self.asked


@pytest.mark.row("BEY-19")
def test_a_restart_in_the_midst_of_the_load(observe, nginx):
    """Requests while beylad is away are not its own; those that lay within a life are all there, once."""
    clients = [Client(nginx, f"c{i}") for i in range(4)]
    lives = []
    for _ in range(2):
        d = observe(nginx)
        begun = time.time_ns()
        until_counted(nginx, 1000)
        ended = time.time_ns()
        d.stop()
        stats_spans = [(x["url.path"], x["start_unix_nano"]) for x in d.spans(where=lambda x: x.server)]
        lives.append((begun, ended, stats_spans))
        until_counted(nginx, 200)
    asked = [a for c in clients for a in c.end()]
    assert quiet(nginx) == len(asked)
    seen = [path for _, _, spans in lives for path, _ in spans]
    assert len(seen) == len(set(seen)) and set(seen) <= {path for path, _, _ in asked}
    for begun, ended, spans in lives:
        within = {path for path, a, b in asked if a > begun and b < ended}
        assert len(within) > 500 and within <= {path for path, _ in spans}, sorted(within - {path for path, _ in spans})[:5]


@pytest.mark.row("BEY-19")
def test_two_lives_balance_each_against_the_server(observe, nginx):
    """With the same connections open all the time."""
    held = [http.client.HTTPConnection("127.0.0.1", nginx.port, timeout=20) for _ in range(20)]

    def round_of(n):
        for i in range(n):
            for c in held:
                c.request("GET", "/held")
                c.getresponse().read()
        return n * len(held)
    for turn in range(2):
        before = quiet(nginx)
        d = observe(nginx)
        n = round_of(25) + load(nginx, 1000)
        assert quiet(nginx) - before == n
        assert balanced(d, n) == (n, 0)
        d.stop()
        round_of(5)
    for c in held:
        c.close()


@pytest.mark.row("BEY-14")
def test_every_span_arrives_over_a_restart_and_a_kill_of_collectord(collectord, hub, beylad, nginx):
    """What collectord had not acknowledged when it was killed is sent again; requests go on meanwhile."""
    c = collectord(document(hub=remote(hub)))
    d = beylad([nginx.port], config={"collector": str(c.frames_path)})
    for pid in nginx.pids():
        d.attached(pid)
    clients = [Client(nginx, f"c{i}") for i in range(2)]
    until_counted(nginx, 500)
    c.stop()                                       # gives what it has away
    until_counted(nginx, 500)
    c.start()
    until_counted(nginx, 500)
    asked = {path for client in clients for path, _, _ in client.end()}
    balanced(d, quiet(nginx))                      # what it acknowledges must be given away before it is killed: its buffer is in memory
    until("the last frame to be acknowledged", lambda: d.stats()["output_waiting"] == 0)
    until("collectord to have given all away", lambda: c.drained() or None)
    c.process.send_signal(signal.SIGSTOP)          # from here on it acknowledges nothing
    clients = [Client(nginx, f"d{i}") for i in range(2)]
    until_counted(nginx, 500)
    c.kill()
    until_counted(nginx, 500)
    c.start()
    asked |= {path for client in clients for path, _, _ in client.end()}
    n = quiet(nginx)
    assert balanced(d, n) == (n, 0) and len(asked) == n

    def paths(h):
        return [a.value.string_value for r in h.accepted("traces") for _, _, span in otlp.walk(r.message) for a in span.attributes if a.key == "url.path"]
    hub.wait(lambda h: set(paths(h)) >= asked, 20, f"{n} spans")
    ids = [span.span_id for r in hub.accepted("traces") for _, _, span in otlp.walk(r.message)]
    assert set(paths(hub)) == asked and len(set(ids)) == n
    assert d.stats()["output_dropped"] == 0
    until("the last frame to be acknowledged", lambda: d.stats()["output_waiting"] == 0)


# ---- what it leaves behind ----

BPF = {"prog": 13, "map": 14, "link": 30}          # commands of bpf(2) that open an object by its id: linux/bpf.h, enum bpf_cmd
NR_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]


def bpf_exists(kind, number):
    libc = ctypes.CDLL(None, use_errno=True)
    attr = ctypes.create_string_buffer(number.to_bytes(4, "little"), 128)
    fd = libc.syscall(NR_BPF, BPF[kind], attr, 128)
    if fd >= 0:
        os.close(fd)
        return True
    assert ctypes.get_errno() == 2, os.strerror(ctypes.get_errno())
    return False


def bpf_objects(pid):
    """{(kind, id)} of what the process holds open."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fdinfo"):
        try:
            text = Path(f"/proc/{pid}/fdinfo/{fd}").read_text()
        except OSError:
            continue
        found |= {(kind, int(number)) for kind, number in re.findall(r"^(prog|map|link)_id:\s+(\d+)$", text, re.M)}
    return found


@pytest.mark.row("BEY-06", "BEY-10")
def test_kill_9_leaves_no_probe_and_an_unhurt_server(observe, server, certificates):
    """With uprobes in the server's TLS library, too."""
    s = server(python_server("--certificate", certificates.path("good.pem"), "--key", certificates.path("good.key")), scheme="https")
    d = observe(s)
    trust = ssl.create_default_context(cafile=str(certificates.ca))

    def load_tls(n):
        assert sum(map(len, on_threads(4, lambda i: ask(s.port, *[("GET", f"/load/{i}")] * (n // 4), tls=trust), range(4)))) == n
    load_tls(200)
    d.servers(200)
    held = bpf_objects(d.process.pid)
    assert {kind for kind, _ in held} == {"prog", "map", "link"} and len(held) > 10, held
    assert all(bpf_exists(*o) for o in held)
    d.kill()
    until("the kernel to drop all of it", lambda: not [o for o in held if bpf_exists(*o)], 20)
    load_tls(200)
    assert s.running and len(s.records(400)) == 400
    d.start()                                      # and the next life begins as the first did
    d.attached(s.pid)
    load_tls(100)
    d.servers(300)


@pytest.mark.techniques("auto", "syscall")
@pytest.mark.row("BEY-19")
def test_descriptors_and_memory_do_not_grow_with_connections(observe, nginx):
    d = observe(nginx)
    descriptors, resident = (lambda: len(os.listdir(f"/proc/{d.process.pid}/fd"))), (lambda: d.stats()["resident_bytes"])
    load(nginx, 5_000, keepalive=False)
    balanced(d, 5_000)
    before, bytes_before, maps_before = descriptors(), resident(), d.stats()["map_bytes"]
    load(nginx, 20_000, keepalive=False)
    assert balanced(d, 25_000) == (25_000, 0)
    until("the connections to be forgotten", lambda: d.stats()["connections"] == 0)
    until("the request for the numbers to be over", lambda: descriptors() <= before, 5)
    assert d.stats()["map_bytes"] <= maps_before * 1.01
    if not sanitized():                            # a sanitizer keeps what was freed
        assert resident() - bytes_before < 2_000_000, f"{bytes_before} -> {resident()}"
