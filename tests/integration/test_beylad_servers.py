# SPDX-License-Identifier: Apache-2.0
"""beylad and servers in several languages: each request and each outgoing call against the server's own record. Slow: they are built first."""
import collections
import json
import re
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from env.beylad import close, nothing_lost
from env.beylad_servers import PLAIN_ENV, Upstream, built, http_get, in_threads
from env.servers import PROGRAMS
from env.wait import until
from test_beylad_tls import not_read

pytestmark = pytest.mark.slow


@pytest.fixture
def upstream(certificates):
    """upstream(tls): who is asked by /call/..."""
    started = []

    def make(tls=False):
        started.append(Upstream(certificates.server_context("good") if tls else None))
        return started[-1]
    yield make
    for u in started:
        u.stop()


@pytest.fixture
def trust(certificates):
    return ssl.create_default_context(cafile=certificates.path("ca.pem"))


@pytest.fixture(scope="module")
def node():
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    return built("node", ["npm", "ci", "--no-audit", "--no-fund"], "node_modules")


@pytest.fixture(scope="module")
def java():
    if not shutil.which("mvn"):
        pytest.skip("mvn is not installed")
    folder = built("java", ["mvn", "-q", "-B", "package"], "target/dependency")
    return ["java", "-Xmx128m", "-cp", f"{folder}/target/classes:{folder}/target/dependency/*"]


@pytest.fixture(scope="module")
def hyper():
    if not shutil.which("cargo"):
        pytest.skip("cargo is not installed")
    return built("hyper", ["cargo", "build", "--release", "--locked", "-q"], "target/release/observed-hyper") / "target/release/observed-hyper"


# ---- what holds for each ----

MIX = [("GET", "/size/0", None, None), ("GET", "/size/10", None, None), ("GET", "/size/100000", None, None), ("POST", "/echo", None, b"e" * 5000),
       ("PUT", "/echo", None, b"e"), ("GET", "/status/404", None, None), ("DELETE", "/status/500", None, None), ("GET", "/none", None, None)]


def of_record(r):
    return r["method"], r["path"], r["status"], r["asked"], r["body"]


def of_span(s):
    return (s["http.request.method"], s["url.path"], s.get("http.response.status_code"), s.get("http.request.body.size", 0),
            s.get("http.response.body.size", 0))


def serves(s, b, tls=None):
    """Ten clients on a connection each: every request is one span, and what it says is what the server wrote down."""
    before = len(b.settled())
    begun = len(s.records())
    in_threads([lambda: http_get(s.port, MIX * 3, tls) for _ in range(10)])
    count = 10 * 3 * len(MIX)
    records = s.records(begun + count)[begun:]
    b.spans(before + count)
    spans = b.settled()[before:]
    assert {x["kind"] for x in spans} == {"SERVER"}
    assert collections.Counter(map(of_span, spans)) == collections.Counter(map(of_record, records))
    assert {x["url.scheme"] for x in spans} == {"https" if tls else "http"}
    assert {x["status"] for x in spans if x["http.response.status_code"] == 500} == {"ERROR"}
    nothing_lost(b)


def path_of(client):
    """The path at our server whose call this is."""
    return re.sub(r"https?://[^/]*/wait", "/call", client["url.full"])


def calls_out(s, b, upstream, at_once, tls=None, clients=True):
    """at_once clients whose every request calls out: each call is a span, none has a wrong parent. Returns how many have one, links, neither."""
    before, asked, begun = len(b.settled()), len(upstream.asked), len(s.records())
    each = 4 if at_once > 1 else 40
    in_threads([lambda n=n: http_get(s.port, [("GET", f"/call/{(n + i) % 5 * 5}/{n}/{i}/{at_once}", None, None) for i in range(each)], tls)
                for n in range(at_once)])
    count = at_once * each
    records = {r["path"]: r for r in s.records(begun + count)[begun:]}
    b.spans(before + count * (1 + clients), timeout=20)
    spans = b.settled()[before:]
    servers, out = {x["span_id"]: x for x in spans if x.server}, [x for x in spans if not x.server]
    assert len(servers) == len(records) == count and len(out) == clients * count
    for x in servers.values():
        assert of_span(x) == of_record(records[x["url.path"]])
    if at_once == 1:                               # else the server's threads wait for a CPU between its clock and its calls
        close([(x.seconds, records[x["url.path"]]["seconds"]) for x in servers.values()], 0.001, 0.75)
    if clients:
        expected = collections.Counter(path.replace("/wait", "/call", 1) for _, path in upstream.asked[asked:])
        assert collections.Counter(map(path_of, out)) == expected
        assert {(x["http.response.status_code"], x["http.response.body.size"]) for x in out} == {(200, 100)}
        wrong = [(path_of(x), servers[x["parent_span_id"]]["url.path"]) for x in out
                 if x["parent_span_id"] and servers[x["parent_span_id"]]["url.path"] != path_of(x)]
        assert wrong == [], f"{len(wrong)} of {len(out)} calls have a wrong parent: {wrong[:5]}"
        for x in out:
            assert not (x["parent_span_id"] and x["links"])
    nothing_lost(b)
    parents, links = sum(bool(x["parent_span_id"]) for x in out), sum(bool(x["links"]) for x in out)
    print(f"{at_once} at once: {len(out)} calls, {parents} with a parent, {links} with links")
    return parents, links, len(out) - parents - links


# ---- Node ----

@pytest.fixture
def node_server(node, server, certificates, upstream):
    """node_server(kind, out): (server, upstream)"""
    def make(kind, out="http", tls_upstream=False):
        u = upstream(tls_upstream)
        ends = [certificates.path(n) for n in ("good.key", "good.pem", "ca.pem")] if kind in ("https", "http2s") or tls_upstream else []
        url = f"https://localhost:{u.port}" if tls_upstream else f"http://127.0.0.1:{u.port}"
        return server(["node", str(node / "server.js"), kind, out, "{port}", "{log}", url, *ends], cwd=node), u
    return make


@pytest.mark.parametrize("kind, out, tls_upstream", [("http", "http", False), ("express", "undici", False), ("https", "http", False), ("http", "https", True),
                                                     ("https", "undici", True)])
def test_node(node_server, observe, trust, kind, out, tls_upstream):
    s, u = node_server(kind, out, tls_upstream)
    tls = trust if kind == "https" else None
    b = observe([s.port]).attached(s.pid)
    serves(s, b, tls)
    assert calls_out(s, b, u, 1, tls) == (40, 0, 0)
    parents, links, neither = calls_out(s, b, u, 50, tls)
    assert links > 0 and neither == 0


@pytest.mark.parametrize("tls", [False, True], ids=["h2c", "tls"])
@pytest.mark.parametrize("size, whole", [(500, True), (5000, False)])
def test_node_http2(node_server, observe, size, whole, tls):
    """Node writes the answers of all streams in one call, and their ends in the next. What is beyond the bytes captured of a call hides how long
    some answers were, but no request and no status: nghttp2 sends the headers of all answers first."""
    if not shutil.which("h2load"):
        pytest.skip("h2load is not installed")
    s, _ = node_server("http2s" if tls else "http2")
    b = observe([s.port]).attached(s.pid)
    done = subprocess.run(["h2load", "-n", "400", "-c", "4", "-m", "20", f"{'https' if tls else 'http'}://127.0.0.1:{s.port}/size/{size}"],
                          capture_output=True, text=True, timeout=60, env=PLAIN_ENV)
    assert "400 succeeded" in done.stdout, done.stdout
    records = collections.Counter(map(of_record, s.records(400)))
    until("all to be seen or counted", lambda: (n := b.stats())["spans_server"] + n["requests_lost"] >= 400 and n["spans_open"] == 0)
    spans = b.settled()
    stats = b.stats()
    assert sum(records.values()) == 400 == len(spans) + stats["requests_lost"]
    assert {(x["http.request.method"], x["url.path"]) for x in spans} <= {("GET", f"/size/{size}")}
    assert stats["events_lost"] == 0
    said = collections.Counter((x.get("http.response.status_code"), x.get("http.response.body.size"), x.get("beylad.unobserved")) for x in spans)
    print(f"{len(spans)} of 400 are spans: {said}")
    if whole:
        assert collections.Counter(map(of_span, spans)) == records
    else:
        assert len(spans) == 400 and set(said) <= {(200, size, None), (200, None, None)}, said


# ---- Java ----

@pytest.mark.parametrize("out", ["url", "client"])
def test_java_http_server(java, server, observe, upstream, out):
    u = upstream()
    s = server([*java, "Sun", out, "{port}", "{log}", f"http://127.0.0.1:{u.port}"])
    b = observe([s.port]).attached(s.pid)
    serves(s, b)
    parents, links, neither = calls_out(s, b, u, 50)
    if out == "url":                               # on the thread that serves
        assert (parents, links, neither) == (200, 0, 0)


def test_java_tls_is_counted_and_not_read(java, server, observe, upstream, tmp_path, certificates, trust):
    """JSSE encrypts in Java: no span, none invented; its connections are counted, and --explain says why."""
    subprocess.run(["openssl", "pkcs12", "-export", "-inkey", certificates.path("good.key"), "-in", certificates.path("good.pem"), "-out",
                    tmp_path / "keys", "-passout", "pass:secret"], check=True, capture_output=True)
    u = upstream()
    s = server([*java, "Sun", "url", "{port}", "{log}", f"http://127.0.0.1:{u.port}", str(tmp_path / "keys")])
    b = observe([s.port]).attached(s.pid)
    for _ in range(3):
        assert len(http_get(s.port, MIX, trust)) == len(MIX)
    assert len(s.records()) == 3 * len(MIX)
    not_read(b, {s.pid: 3}, "JSSE")


@pytest.mark.parametrize("out", ["own", "any"])
def test_java_netty(java, server, observe, upstream, out):
    u = upstream()
    s = server([*java, "Netty", out, "{port}", "{log}", f"http://127.0.0.1:{u.port}"])
    b = observe([s.port]).attached(s.pid)
    serves(s, b)
    calls_out(s, b, u, 1)
    calls_out(s, b, u, 50)


# ---- Rust ----

def test_rust_hyper(hyper, server, observe, upstream):
    u = upstream()
    s = server([hyper, "{port}", "{log}", f"http://127.0.0.1:{u.port}"])
    b = observe([s.port]).attached(s.pid)
    serves(s, b)
    calls_out(s, b, u, 1)
    calls_out(s, b, u, 50)


# ---- Python: TLS as a client, gRPC ----

@pytest.fixture
def own_python(tmp_path):
    """The interpreter at a path of its own, because the tests run on the same one."""
    return Path(shutil.copy(Path(sys.executable).resolve(), tmp_path / "python"))


def test_python_https_as_a_client(own_python, observe, upstream, certificates):
    u = upstream(True)
    client = subprocess.Popen([own_python, PROGRAMS / "https_client.py", f"https://localhost:{u.port}/wait/1", certificates.path("ca.pem"), "40"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=PLAIN_ENV)
    b = observe([], {"executables": f"^{re.escape(str(own_python))}$"}).attached(client.pid)
    out, _ = client.communicate("go\n", timeout=60)
    assert out.split() == ["200"] * 40
    b.clients(40)
    spans = b.settled()
    assert collections.Counter(x["url.full"] for x in spans) == collections.Counter(f"https://localhost:{u.port}{path}" for _, path in u.asked)
    assert {x["http.response.body.size"] for x in spans} == {100} and {x["kind"] for x in spans} == {"CLIENT"}
    nothing_lost(b)


def test_python_grpc(own_python, server, observe):
    grpc = pytest.importorskip("grpc")
    where = {"PYTHONPATH": str(Path(grpc.__file__).parents[1])}
    s = server([own_python, PROGRAMS / "grpc_program.py", "server", "{port}", "{log}"], env=where)
    client = subprocess.Popen([own_python, PROGRAMS / "grpc_program.py", "client", str(s.port), "200"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True, env={**PLAIN_ENV, **where})
    b = observe([s.port], {"executables": f"^{re.escape(str(own_python))}$"}).attached(s.pid).attached(client.pid)
    out, _ = client.communicate("go\n", timeout=60)
    made = [json.loads(line) for line in out.splitlines()]
    assert len(made) == 200

    def of(pid):
        return [x for x in b.spans() if x["pid"] == pid and x.get("rpc.method")]
    until("all", lambda: len(of(s.pid)) >= 200 and len(of(client.pid)) >= 200)
    b.settled()
    expected = collections.Counter((c["method"], str(c["code"])) for c in made)
    for pid in (s.pid, client.pid):
        assert collections.Counter((x["rpc.method"], str(x["rpc.grpc.status_code"])) for x in of(pid)) == expected
    assert collections.Counter((r["method"], str(r["code"])) for r in s.records()) == collections.Counter(
        {k: n for k, n in expected.items() if k[0] != "Unknown"})
    parents = {x["span_id"]: x for x in of(client.pid)}
    wrong = [x for x in of(s.pid) if x["parent_span_id"] and parents[x["parent_span_id"]]["rpc.method"] != x["rpc.method"]]
    assert wrong == []
    print(f"{sum(bool(x['parent_span_id']) for x in of(s.pid))} of 200 joined")
