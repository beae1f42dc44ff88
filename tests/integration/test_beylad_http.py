# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.x as beylad sees it, against Python's http.server: what each server logged of a request is what its span must say."""
import collections
import http.client
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading

import pytest

from env import otlp
from env.daemon import binary, stopwatch
from env.destinations import document, local, remote
from env.http import Client, compose
from env.servers import PORT, ask, on_threads, python_server
from env.wait import SLACK, until

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECRETS = ("s3cr3t-body", "s3cr3t-answer", "s3cr3t-query", "s3cr3t-header", "s3cr3t-cookie")


@pytest.fixture
def observe(beylad, nowhere):
    """observe(ports) is beylad(ports) whose spans only the test reads."""
    return lambda *args, config=None, **options: beylad(*args, config={**nowhere.config, **(config or {})}, **options)


def by_connection(found, port, time):
    """{port of the client: what came on its connections, in the order of time}"""
    groups = collections.defaultdict(list)
    for f in sorted(found, key=time):
        groups[port(f)].append(f)
    return groups


def pairs(spans, records):
    """Each span with the record of the same request: those of one connection in order, and as many."""
    a = by_connection(spans, lambda s: s["client.port"], lambda s: s["start_unix_nano"])
    b = by_connection(records, lambda r: r.peer_port, lambda r: r.begun)
    assert {k: len(v) for k, v in a.items()} == {k: len(v) for k, v in b.items()}
    return [pair for k in a for pair in zip(a[k], b[k])]


def assert_same(spans, records, server, scheme="http"):
    """Spans say what the server logged, request by request."""
    matched = pairs(spans, records)
    for s, r in matched:
        known = r.method if r.method != "PURGE" else "_OTHER"
        assert (s["http.request.method"], s["url.path"], s["http.response.status_code"]) == (known, r.path, r.status), (s, r)
        assert s.get("http.request.method_original") == (None if known == r.method else r.method)
        assert (s["http.request.body.size"], s["http.response.body.size"]) == (r.request_bytes, r.response_bytes), (s, r)
        assert (s["client.address"], s["server.port"], s["url.scheme"]) == (r.peer, server.port, scheme), s
        assert (s["pid"], s["kind"], s["network.protocol.version"]) == (server.pid, "SERVER", s["network.protocol.version"])
        assert s["status"] == ("ERROR" if r.status >= 500 else "UNSET") and s.get("error.type") == (str(r.status) if r.status >= 500 else None), s
        assert not s.get("beylad.unobserved"), s
        # The first byte was received before the server read the line, the last one sent before it noted the end.
        assert s["start_unix_nano"] <= r.begun + 50_000 * SLACK and s["end_unix_nano"] <= r.ended + 50_000 * SLACK, (s, r)
    # A thread that has to wait for a processor between the call and its own clock is not what is measured here.
    off = sorted(abs(s.seconds * 1e9 - (r.ended - r.begun)) for s, r in matched)
    assert off[len(off) * 9 // 10] < 1_000_000 * SLACK, f"duration off by {off[len(off) // 2] / 1e6} ms (median), {off[-1] / 1e6} ms (worst)"


def all_kinds(protocol):
    """One request of each kind that such a server answers."""
    kinds = [("GET", "/items/1"), ("GET", "/"), ("HEAD", "/bytes/1000"), ("GET", "/bytes/0"), ("GET", "/bytes/300000"), ("POST", "/echo", b"x"),
             ("POST", "/echo", b"y" * 200_000), ("PUT", "/echo/1", b"z" * 70_000), ("DELETE", "/items/7"), ("OPTIONS", "/items"), ("PATCH", "/p", b"q" * 9),
             ("PURGE", "/cache"), ("GET", "/status/404"), ("GET", "/status/500"), ("GET", "/status/204"), ("GET", "/status/304"), ("GET", "/slow/30"),
             ("GET", "/close/5000"), ("GET", "/caf%C3%A9/a%20b"), ("GET", "/" + "long" * 200)]
    return kinds + ([("GET", "/chunked/0"), ("GET", "/chunked/50"), ("POST", "/echo", iter([b"abc", b"d" * 5000, b"e"]))] if protocol == "HTTP/1.1" else [])


# ---- one server ----

@pytest.mark.techniques("auto", "syscall")
@pytest.mark.row("BEY-07", "BEY-11")
@pytest.mark.parametrize("threads", ["serial", "threads"])
@pytest.mark.parametrize("protocol", ["HTTP/1.0", "HTTP/1.1"])
def test_each_request_becomes_one_span_that_says_what_the_server_logged(observe, server, protocol, threads):
    s = server(python_server("--protocol", protocol, *(["--serial"] if threads == "serial" else [])))
    d = observe([s.port]).attached(s.pid)
    rounds = 5
    for _ in range(rounds):
        ask(s.port, *all_kinds(protocol))
    records = s.records(rounds * len(all_kinds(protocol)))
    spans = d.servers(len(records))
    assert len(spans) == len(records) == len(d.settled()) and d.clients() == []
    assert_same(spans, records, s)
    routes = {span["url.path"]: span["http.route"] for span in spans}
    assert routes["/items/1"] == routes["/items/7"] == "/items/*" and routes["/echo"] == "/echo" and routes["/"] == "/"
    assert {span["name"] for span in spans if span["url.path"] == "/items/1"} == {"GET /items/*"}
    assert {span["name"] for span in spans if span["url.path"] == "/cache"} == {"HTTP /cache"}
    assert d.stats()["requests_lost"] == 0


@pytest.mark.techniques("auto", "syscall")
@pytest.mark.row("BEY-07")
def test_ipv6_and_what_is_no_stream(observe, server):
    """A server on [::] with a client by each protocol; datagrams of the same process that look like requests are none."""
    s = server([sys.executable, "-u", "-m", "http.server", PORT, "--bind", "::"])
    d = observe([s.port]).attached(s.pid)
    for host, family in (("::1", "::1"), ("127.0.0.1", "127.0.0.1")):
        c = http.client.HTTPConnection(host, s.port, timeout=10)
        c.request("GET", f"/none/{family}")
        port = c.sock.getsockname()[1]
        assert c.getresponse().status == 404
        span = d.servers(1 if family == "::1" else 2)[-1]
        assert (span["client.address"], span["client.port"], span["url.path"]) == (family, port, f"/none/{family}"), span
    program = ("import socket, sys\n"
               "l = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
               "u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(l.getsockname())\n"
               "print('ready', flush=True)\n"
               "while True:\n"
               "    u.sendto(b'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n', u.recvfrom(1000)[1])\n")
    other = server([sys.executable, "-c", program, PORT])
    e = observe([other.port]).attached(other.pid)
    calls = e.stats()["calls"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as u:
        u.settimeout(5)
        for _ in range(10):
            u.sendto(b"GET /datagram HTTP/1.1\r\nHost: x\r\n\r\n", ("127.0.0.1", other.port))
            assert u.recv(100).startswith(b"HTTP/1.1 200")
    assert e.settled() == [] and e.stats()["calls"] == calls


WHOLE_CALLS = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    c, _ = listener.accept()
    while data := c.recv(1 << 20):
        head, _, body = data.partition(b"\\r\\n\\r\\n")
        missing = int(head.rpartition(b"Content-Length: ")[2]) - len(body)
        while missing:
            missing -= len(c.recv(missing))
        c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
    c.close()
"""


@pytest.mark.row("BEY-10")
def test_a_body_that_looks_like_tls_in_the_midst_of_a_call(observe, server):
    """The kernel side hands a call on in pieces of 16 KiB: what a later piece begins with says nothing of the connection."""
    s = server([sys.executable, "-c", WHOLE_CALLS, PORT])
    d = observe([s.port]).attached(s.pid)
    head = b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n"
    body = bytearray(b"a" * 20000)
    body[16384 - len(head):16387 - len(head)] = b"\x16\x03\x01"
    with socket.create_connection(("127.0.0.1", s.port)) as c:
        c.sendall(head + body)
        assert c.recv(1000)
        for i in range(5):
            c.sendall(b"GET /after HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            assert c.recv(1000)
    assert len(d.servers(6)) == 6
    assert d.stats()["connections_encrypted"] == 0


@pytest.mark.row("BEY-07")
def test_a_stock_http_server_and_its_own_log(observe, server, tmp_path):
    """python -m http.server as it is: HTTP/1.0, files, the log on stderr."""
    files = tmp_path / "files"
    files.mkdir()
    for size in (0, 1, 4096, 1_000_000):
        (files / f"{size}.bin").write_bytes(b"f" * size)
    s = server([sys.executable, "-m", "http.server", PORT, "--bind", "127.0.0.1"], cwd=files)
    d = observe([s.port]).attached(s.pid)
    wanted = [("GET", f"/{size}.bin") for size in (0, 1, 4096, 1_000_000)] + [("HEAD", "/4096.bin"), ("GET", "/none"), ("GET", "/"), ("POST", "/", b"no")]
    for _ in range(10):
        ask(s.port, *wanted)
    n = 10 * len(wanted)
    spans = d.servers(n)
    lines = until("the log", lambda: (found := re.findall(r'"(\w+) (\S+) HTTP/1\.\d" (\d+) -', s.output())) and len(found) >= n and found)
    assert [(x["http.request.method"], x["url.path"], str(x["http.response.status_code"])) for x in sorted(spans, key=lambda x: x["start_unix_nano"])] == lines
    for x in spans:
        if re.fullmatch(r"/\d+\.bin", x["url.path"]):
            assert x["http.response.body.size"] == (0 if x["http.request.method"] == "HEAD" else int(x["url.path"][1:-4])), x
    assert len(d.settled()) == n


@pytest.mark.techniques("auto", "syscall")
@pytest.mark.row("BEY-10", "BEY-07")
def test_tls_on_20_connections_at_once(observe, server, certificates):
    """Python reads by SSL_read_ex. Each connection asks for paths of its own; none may turn up at another."""
    s = server(python_server("--certificate", certificates.path("good.pem"), "--key", certificates.path("good.key")), scheme="https")
    d = observe([s.port]).attached(s.pid)
    trust = ssl.create_default_context(cafile=str(certificates.ca))
    n = 25
    on_threads(20, lambda c: ask(s.port, *[("POST", f"/echo/{c}/{i}", b"t" * (c * 1000 + i + 1)) if i % 3 == 0 else ("GET", f"/bytes/{c * 1000 + i}")
                                           for i in range(n)], tls=trust), range(20))
    spans = d.servers(20 * n, timeout=20)
    assert len(d.settled()) == 20 * n
    matched = pairs(spans, s.records(20 * n))
    for x, r in matched:
        assert (x["url.path"], x["http.request.method"], x["http.response.status_code"], x["url.scheme"]) == (r.path, r.method, r.status, "https"), (x, r)
        assert (x["http.request.body.size"], x["http.response.body.size"]) == (r.request_bytes, r.response_bytes), (x, r)
    assert d.stats()["requests_lost"] == 0


@pytest.mark.row("BEY-10")
def test_tls_of_connections_older_than_beylad(observe, server, certificates):
    s = server(python_server("--certificate", certificates.path("good.pem"), "--key", certificates.path("good.key")), scheme="https")
    trust = ssl.create_default_context(cafile=str(certificates.ca))
    old = [http.client.HTTPSConnection("localhost", s.port, timeout=20, context=trust) for _ in range(10)]

    def one(c, path):
        c.request("GET", path)
        return c.getresponse().read()
    for i, c in enumerate(old):
        one(c, f"/before/{i}")
    d = observe([s.port]).attached(s.pid)
    for turn in range(3):
        for i, c in enumerate(old):
            one(c, f"/after/{turn}/{i}")
    spans = d.servers(30)
    assert sorted(x["url.path"] for x in spans) == sorted(f"/after/{t}/{i}" for t in range(3) for i in range(10))
    assert {x["url.scheme"] for x in spans} == {"https"}
    for c in old:
        c.close()


@pytest.mark.row("BEY-07")
def test_expect_100_continue(observe, server):
    s = server(python_server())
    d = observe([s.port]).attached(s.pid)
    body = b"e" * 30_000
    with Client(s.port) as c:
        for i in range(5):
            c.send(f"POST /echo/{i} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n".encode())
            assert c.stream.line() == b"HTTP/1.1 100 Continue" and c.stream.headers() == []
            c.send(body)
            assert c.answer().status == 200
    assert_same(d.servers(5), s.records(5), s)
    assert len(d.settled()) == 5


@pytest.mark.row("BEY-07")
@pytest.mark.parametrize("depth", [2, 10, 100])
def test_pipelining(observe, server, depth):
    """Requests behind each other in one segment; the answers come in order."""
    s = server(python_server())
    d = observe([s.port]).attached(s.pid)
    rounds = 5
    with Client(s.port) as c:
        for turn in range(rounds):
            c.send(b"".join(compose("GET", f"/bytes/{turn * 1000 + i}", {"Content-Length": None}) for i in range(depth)))
            for i in range(depth):
                assert len(c.answer().body) == turn * 1000 + i
    spans, records = d.servers(rounds * depth), s.records(rounds * depth)
    assert len(d.settled()) == rounds * depth
    for x, r in pairs(spans, records):
        assert (x["url.path"], x["http.response.status_code"], x["http.response.body.size"]) == (r.path, 200, r.response_bytes), (x, r)
        assert x["end_unix_nano"] <= r.ended + 50_000 * SLACK


# ---- connections and servers, older and younger ----

@pytest.mark.techniques("auto", "syscall")
@pytest.mark.row("BEY-07", "BEY-01")
def test_connections_older_than_beylad(observe, server):
    """100 keep-alive connections, half of which carried a request before: every later request is seen, and on the right side."""
    s = server(python_server())
    old = [Client(s.port) for _ in range(100)]
    for i, c in enumerate(old[:50]):
        assert c.request("GET", f"/before/{i}").status == 200
    d = observe([s.port]).attached(s.pid)
    for turn in range(3):
        for i, c in enumerate(old):
            assert c.request("GET", f"/bytes/{turn * 100 + i}").status == 200
    spans = d.spans(300)
    assert len(d.settled()) == 300 and {x["kind"] for x in spans} == {"SERVER"}
    assert_same(spans, [r for r in s.records(350) if not r.path.startswith("/before")], s)
    for c in old:
        c.close()


@pytest.mark.row("BEY-01", "BEY-03")
def test_a_server_younger_than_beylad_is_seen_within_5_s_and_forgotten_when_it_ends(observe, server):
    s = server(python_server(), start=False)
    d = observe([s.port])
    assert d.processes() == []
    s.start()
    took = stopwatch()
    d.attached(s.pid, timeout=5)
    assert took() < 5
    ask(s.port, *[("GET", f"/items/{i}") for i in range(20)])
    assert_same(d.servers(20), s.records(20), s)
    assert f"pid={s.pid} " in next(line for line in d.log().splitlines() if '"attached to process"' in line)
    assert f"port={s.port}" in d.log() and "executable=" in d.log()
    s.stop()
    until("the process to be forgotten", lambda: d.processes() == [], 5)
    assert d.stats()["processes_ended"] == 1


@pytest.mark.row("BEY-01")
def test_only_servers_on_the_given_ports_are_observed(observe, server):
    """Ports in a list, in ranges and by the environment; the others leave no trace."""
    observed, other = [server(python_server()) for _ in range(2)], server(python_server())
    d = observe(env={"BEYLA_OPEN_PORT": f"{observed[0].port}, {observed[1].port}-{observed[1].port}"}, config={"open_ports": []})
    for s in observed:
        d.attached(s.pid)
    for s in (*observed, other):
        ask(s.port, *[("GET", f"/at/{s.port}")] * 10)
    other.records(10)
    assert {x["server.port"] for x in d.servers(20)} == {s.port for s in observed}
    assert len(d.settled()) == 20 and {p["pid"] for p in d.processes()} == {s.pid for s in observed}


# ---- two services ----

@pytest.mark.row("BEY-08", "BEY-17")
@pytest.mark.parametrize("library", ["urllib", "requests", "http.client"])
def test_two_services_that_call_each_other_share_traces(observe, server, library):
    """Server, its client call, and the server that is called: one trace of three spans, nested in time, 1,000 times in all."""
    back = server(python_server())
    front = server(python_server("--upstream", back.url, "--calls", library))
    d = observe([front.port, back.port]).attached(front.pid).attached(back.pid)
    n, threads = 334, 4
    on_threads(threads, lambda t: ask(front.port, *[("GET", f"/call/items/{i}") for i in range(t, n, threads)]), range(threads))
    spans = d.spans(3 * n, timeout=30)
    assert len(d.settled()) == 3 * n and d.stats()["requests_lost"] == 0 == d.stats()["parents_ambiguous"]
    traces = collections.defaultdict(dict)
    for x in spans:
        role = "client" if x["kind"] == "CLIENT" else "front" if x["pid"] == front.pid else "back"
        assert role not in traces[x["trace_id"]], "two requests in one trace"
        traces[x["trace_id"]][role] = x
    assert len(traces) == n
    called = collections.Counter()
    for t in traces.values():
        outer, call, inner = t["front"], t["client"], t["back"]
        assert outer["parent_span_id"] == "" and call["parent_span_id"] == outer["span_id"] and inner["parent_span_id"] == call["span_id"]
        assert outer["url.path"] == "/call" + inner["url.path"], "a call of another request"
        assert call["url.full"] == back.url + inner["url.path"] and call["http.response.status_code"] == 200
        assert (call["server.address"], call["server.port"], call["pid"]) == ("127.0.0.1", back.port, front.pid)
        assert outer["start_unix_nano"] <= call["start_unix_nano"] <= inner["start_unix_nano"], "a server starts before its client"
        # The call that sends the last byte may return after the client has read it: by as long as another thread takes the processor.
        assert inner["end_unix_nano"] <= call["end_unix_nano"] + 20_000_000 and call["end_unix_nano"] <= outer["end_unix_nano"], "ends in the wrong order"
        called[inner["url.path"]] += 1
    assert called == {f"/items/{i}": 1 for i in range(n)}


@pytest.mark.row("BEY-08")
def test_a_traceparent_is_adopted_and_a_bad_one_is_not(observe, server):
    back = server(python_server())
    front = server(python_server("--upstream", back.url))
    d = observe([front.port, back.port]).attached(front.pid).attached(back.pid)
    ask(front.port, ("GET", "/call/items/1"), headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    spans = d.spans(3)
    assert {x["trace_id"] for x in spans} == {TRACE}
    outer, call, inner = (next(x for x in spans if k(x)) for k in (lambda x: x["parent_span_id"] == PARENT, lambda x: x["kind"] == "CLIENT",
                                                                  lambda x: x["pid"] == back.pid))
    # The program hands the header on as it came; what is seen of the call is nearer than what the header names.
    assert call["parent_span_id"] == outer["span_id"] and inner["parent_span_id"] == call["span_id"]
    bad = [f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{PARENT}", f"ff-{TRACE}-{PARENT}-01", f"00-{TRACE[:-1]}g-{PARENT}-01",
           "", "x" * 500, f"00-{TRACE.upper()}-{PARENT}-01"]
    for value in bad:
        ask(back.port, ("GET", "/bad"), headers={"traceparent": value})
    found = d.spans(len(bad), lambda x: x.get("url.path") == "/bad")
    assert all(x["trace_id"].lower() != TRACE and x["parent_span_id"] == "" for x in found) and len({x["trace_id"] for x in found}) == len(bad)
    ask(back.port, ("GET", "/unsampled"), headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    until("the unsampled request to be left out", lambda: d.stats()["spans_unsampled"] == 1)
    assert not d.spans(where=lambda x: x.get("url.path") == "/unsampled")


# ---- what is not kept ----

def private_requests(s):
    """Secrets in every place a request has but its path."""
    body = f"{{'password': '{SECRETS[0]}'}}".encode()
    with Client(s.port) as c:
        headers = {"X-Token": SECRETS[3], "Cookie": f"id={SECRETS[4]}", "Authorization": f"Bearer {SECRETS[3]}", "X-Request-Id": "r-17", "Content-Length": None}
        c.send(compose("POST", f"/echo?token={SECRETS[2]}&a=1", {**headers, "Content-Length": str(len(body))}, body))
        assert c.answer().status == 200
        c.send(compose("POST", f"/echo?token={SECRETS[2]}&a=1", {**headers, "Transfer-Encoding": "chunked"}, b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)))
        assert c.answer().status == 200
        answer = c.request("GET", f"/{'a' * 10}?{SECRETS[1]}", headers)
        assert SECRETS[1].encode() in answer.body            # the server repeats it in the answer's body


def all_output(d, c, hub):
    """Everything that leaves beylad: what is printed and logged, and what collectord got, in the buffer and at its destination."""
    text = d.spans_path.read_text() + d.log() + d.control("processes") + d.control("stats") + c.control("json tap --back 5m --no-follow")
    return text + "".join(str(r.message) for r in hub.received())


@pytest.mark.row("BEY-18")
def test_bodies_queries_and_headers_stay_out(collectord, beylad, hub, server):
    s = server(python_server())
    c = collectord(document(hub=remote(hub)))
    d = beylad([s.port], config={"collector": str(c.frames_path), "metrics": {"interval": "1s"}}).attached(s.pid)
    private_requests(s)
    spans = d.servers(3)
    hub.wait(lambda h: h.items("traces") >= 3 and h.items("metrics") > 0, 15)
    assert [x["http.request.body.size"] for x in spans][:2] == [len(f"{{'password': '{SECRETS[0]}'}}")] * 2
    out = all_output(d, c, hub)
    assert "/echo" in out and not [x for x in SECRETS if x in out] and "r-17" not in out
    for x in spans:
        assert not [k for k in x["attributes"] if "header" in k or "query" in k], x


@pytest.mark.row("BEY-18")
def test_what_is_allowed_becomes_attributes_and_nothing_else(collectord, beylad, hub, server):
    s = server(python_server())
    c = collectord(document(hub=remote(hub)))
    d = beylad([s.port], config={"collector": str(c.frames_path), "query": True, "headers": ["X-Request-Id", "x-absent"]}).attached(s.pid)
    private_requests(s)
    spans = d.servers(3)
    hub.wait(lambda h: h.items("traces") >= 3, 15)
    for x in spans[:2]:
        assert x["url.query"].endswith("a=1") and x["url.path"] == "/echo", x
        assert [k for k in x["attributes"] if "header" in k] == ["http.request.header.x-request-id"] and "r-17" in str(x["http.request.header.x-request-id"])
    out = all_output(d, c, hub)
    assert not [x for x in (SECRETS[0], SECRETS[3], SECRETS[4]) if x in out]


# ---- clients that misbehave ----

def reset(sock):
    """Ends a connection by RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def fed_slowly(s, path, pause):
    """One byte in each segment, so that the server reads them one by one."""
    with Client(s.port) as c:
        for byte in compose("POST", path, {"Content-Length": "20"}, b"b" * 20):
            c.send(bytes([byte]))
            pause.wait(0.001)
        assert c.answer().status == 200


@pytest.mark.row("BEY-07")
def test_half_closed_and_one_byte_at_a_time(observe, server):
    s = server(python_server())
    d = observe([s.port]).attached(s.pid)
    for i in range(10):
        with Client(s.port) as c:
            c.send(compose("GET", f"/slow/{i + 10}"))
            c.sock.shutdown(socket.SHUT_WR)
            assert c.answer().status == 200
    pause = threading.Event()
    for i in range(5):
        fed_slowly(s, f"/echo/{i}", pause)
    spans, records = d.servers(15), s.records(15)
    assert len(d.settled()) == 15
    for x, r in pairs(spans, records):
        assert (x["url.path"], x["http.response.status_code"], x["http.request.body.size"]) == (r.path, 200, r.request_bytes), (x, r)
        if r.path.startswith("/echo"):             # from its first byte, not from when the head was whole
            assert x.seconds > 0.05 and x["start_unix_nano"] < r.begun
    assert d.stats()["requests_lost"] == 0


@pytest.mark.row("BEY-07", "BEY-19")
def test_slowloris_holds_nothing_up_and_is_no_request(observe, server):
    s = server(python_server())
    d = observe([s.port]).attached(s.pid)
    held = [Client(s.port) for _ in range(100)]
    for i, c in enumerate(held):
        c.send(b"GET /never HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * i)
    ask(s.port, *[("GET", f"/items/{i}") for i in range(50)])
    for c in held:
        c.send(b"b")
    ask(s.port, *[("GET", f"/items/{i}") for i in range(50)])
    assert_same(d.servers(100), s.records(100), s)
    for c in held[:50]:
        c.close()
    for c in held[50:]:
        reset(c.sock)
    until("their connections to be forgotten", lambda: d.stats()["connections"] == 0 == d.stats()["spans_open"])
    assert len(d.settled()) == 100 and d.stats()["requests_lost"] == 0


@pytest.mark.techniques("auto", "syscall")
@pytest.mark.row("BEY-07")
def test_resets_in_the_middle_of_requests_and_answers(observe, server):
    """Without an answer there is no status, and no made-up one; an answer that was cut short has its status and an error."""
    s = server(python_server())
    d = observe([s.port]).attached(s.pid)
    for i in range(10):
        c = Client(s.port)
        c.send(f"POST /cut/{i} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n".encode() + b"x" * 100)
        until("the server to read the head", lambda: d.stats()["spans_open"] == 1)
        reset(c.sock)
        until("the request to end", lambda: d.stats()["spans_open"] == 0)
    for i in range(10):
        c = Client(s.port)
        c.send(compose("GET", f"/bytes/{50_000_000 + i}"))
        assert c.sock.recv(1000)
        reset(c.sock)
    spans = d.servers(20)
    assert len(d.settled()) == 20
    for x in spans:
        if x["url.path"].startswith("/cut"):
            assert x["error.type"] == "connection_reset" and x.get("http.response.status_code") is None and x.get("http.request.body.size") is None, x
        else:
            assert (x["http.response.status_code"], x["error.type"]) == (200, "response_ended") and x["http.response.body.size"] < 50_000_000, x
    ask(s.port, ("GET", "/still"))
    assert d.servers(21)[-1]["url.path"] == "/still" and d.stats()["requests_lost"] == 0


GARBAGE = [b"\x00" * 100, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\r\n" * 50 + b"?", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\xff" * 70000,
           b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET " + b"/" * 70000 + b" HTTP/1.1\r\n\r\n", b"*3\r\n$3\r\nSET\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"\x00\x00\x00\x08\x04\xd2\x16\x2f"]


@pytest.mark.row("BEY-07", "BEY-19")
def test_garbage_hurts_nobody(observe, server):
    """Whatever is sent: no more spans than the server gave answers, and requests beside it are seen as ever."""
    s = server(python_server())
    d = observe([s.port]).attached(s.pid)
    answered = 0
    for i, data in enumerate(GARBAGE * 5):
        with Client(s.port) as c:
            try:
                c.send(data)
                c.sock.shutdown(socket.SHUT_WR)
                answered += c.stream.to_end().startswith(b"HTTP/")
            except OSError:
                pass                               # a server may well reset them
        ask(s.port, ("GET", f"/between/{i}"))
    n = len(GARBAGE) * 5
    d.spans(n, lambda x: x["url.path"].startswith("/between"))
    spans = d.settled()
    between = [x for x in spans if x["url.path"].startswith("/between")]
    assert [x["url.path"] for x in sorted(between, key=lambda x: x["start_unix_nano"])] == [f"/between/{i}" for i in range(n)]
    assert_same(between, s.records(n), s)
    assert {x["kind"] for x in spans} == {"SERVER"} and len(spans) - n <= answered


# ---- to the end ----

@pytest.mark.row("BEY-12", "BEY-14", "BEY-17", "ACC-SC2")
def test_from_the_request_to_the_consumer_in_less_than_5_s(collectord, beylad, consumer, hub, server):
    """beylad, collectord and its destinations, at their default intervals; and telemetryctl shows the spans as they pass."""
    s = server(python_server(), env={"OTEL_SERVICE_NAME": "shop", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"})
    c = collectord(document(local=local(consumer, drop=[]), hub=remote(hub)))
    d = beylad([s.port], config={"collector": str(c.frames_path), "host": {"name": "host-7"}, "service_namespace": "mall"}).attached(s.pid)
    tap = subprocess.Popen([binary("telemetryctl"), "--socket", c.control_path, "--json", "tap", "traces", "--for", "3"],
                           stdout=subprocess.PIPE, text=True)
    until("the tap to be there", lambda: c.status().get("taps", 1))
    took = []
    for i in range(3):
        ask(s.port, ("GET", f"/items/{i}?q={SECRETS[2]}"))
        since = stopwatch()
        for receiver in (consumer, hub):
            receiver.wait(lambda r, n=i + 1: r.items("traces") >= n, 5)
        took.append(since())
    assert max(took) < 5, took
    out, _ = tap.communicate(timeout=20)
    assert tap.returncode == 0 and out.count("GET /items/*") >= 3 and SECRETS[2] not in out
    for receiver in (consumer, hub):
        found = [(top, span) for r in receiver.accepted("traces") for top, _, span in otlp.walk(r.message)]
        for top, span in found:
            resource = otlp.resource_attributes(top)
            assert {k: resource.get(k) for k in ("service.name", "service.namespace", "host.name", "process.pid", "telemetry.sdk.name",
                                                 "telemetry.sdk.language", "deployment.environment.name")} == \
                {"service.name": "shop", "service.namespace": "mall", "host.name": "host-7", "process.pid": s.pid, "telemetry.sdk.name": "beyla",
                 "telemetry.sdk.language": "python", "deployment.environment.name": "test"}, resource
            assert resource["service.instance.id"] and span.kind == 2 and len(span.trace_id) == 16 and len(span.span_id) == 8
        printed = {x["span_id"]: x for x in d.servers(3)}
        assert {span.span_id.hex() for _, span in found} == set(printed)
        for _, span in found:
            x = printed[span.span_id.hex()]
            assert (span.name, span.start_time_unix_nano, span.end_time_unix_nano) == (x["name"], x["start_unix_nano"], x["end_unix_nano"])
            assert {a.key: a.value.string_value or a.value.int_value for a in span.attributes} == x["attributes"]


@pytest.mark.row("BEY-13")
def test_red_metrics_count_every_request(collectord, beylad, hub, server):
    back = server(python_server())
    front = server(python_server("--upstream", back.url))
    c = collectord(document(hub=remote(hub)))
    d = beylad([front.port, back.port], config={"collector": str(c.frames_path), "metrics": {"interval": "1s"}}).attached(front.pid).attached(back.pid)
    ask(back.port, *[("GET", f"/items/{i}") for i in range(200)], *[("GET", "/status/500")] * 20, *[("POST", "/echo", b"m" * 1000)] * 30)
    ask(front.port, *[("GET", f"/call/items/{i}") for i in range(50)])
    spans = d.spans(200 + 20 + 30 + 150)

    def complete(h):
        server, client = otlp.histogram(h, "http.server.request.duration"), otlp.histogram(h, "http.client.request.duration")
        return sum(n for n, _ in server.values()) >= 350 and sum(n for n, _ in client.values()) >= 50
    hub.wait(complete, 20)
    server_side, client_side = otlp.histogram(hub, "http.server.request.duration"), otlp.histogram(hub, "http.client.request.duration")
    counts = collections.Counter((x["http.request.method"], x["http.route"], x["http.response.status_code"], x["server.port"]) for x in spans if x.server)
    sums = collections.Counter()
    for x in spans:
        if x.server:
            sums[x["http.request.method"], x["http.route"], x["http.response.status_code"], x["server.port"]] += x.seconds
    got = {}
    for key, value in server_side.items():
        a = dict(key)
        got[a["http.request.method"], a["http.route"], a["http.response.status_code"], a["server.port"]] = value
        assert a.get("error.type") == ("500" if a["http.response.status_code"] == 500 else None) and "url.path" not in a
    assert {k: n for k, (n, _) in got.items()} == counts and sum(counts.values()) == 350 == len(back.records(300)) + len(front.records(50))
    for k, (_, total) in got.items():
        assert total == pytest.approx(sums[k], rel=1e-6)
    assert sum(n for n, _ in client_side.values()) == 50
    sizes = otlp.histogram(hub, "http.server.request.body.size")
    assert sum(total for _, total in sizes.values()) == 30 * 1000 and sum(n for n, _ in sizes.values()) == 350
