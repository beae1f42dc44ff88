# SPDX-License-Identifier: Apache-2.0
"""beylad and real servers of each protocol: what it saw is what the server itself counted or logged."""
import collections
import re
import shutil
import subprocess
import sys
from email.utils import formatdate

import pytest

from env.beylad import close, codes, has_socket_hooks, nothing_lost, of_query, operations
from env.beylad_servers import PLAIN_ENV, POSTGRES_ENV, Nginx, Upstream, http_get, in_threads, needs
from env.servers import PROGRAMS
from env.wait import until


# ---- nginx ----

@pytest.fixture
def upstream(ends):
    return ends(Upstream())


@pytest.fixture
def nginx(tmp_path, upstream, ends):
    needs("nginx")
    return ends(Nginx(tmp_path, upstream.port)).start()


def of_access(line):
    return line["method"], line["path"], int(line["status"]), int(line["body"])


def of_span(span):
    return span["http.request.method"], span["url.path"], span["http.response.status_code"], span["http.response.body.size"]


@pytest.mark.techniques("auto", "syscall")
def test_nginx_serves_files_by_sendfile(nginx, observe):
    sizes = {"small": 10, "page": 5000, "large": 1 << 20}
    for name, n in sizes.items():
        (nginx.files / name).write_bytes(b"f" * n)
    b = observe([nginx.port]).attached(nginx.pid)
    later = {"If-Modified-Since": formatdate(2e9, usegmt=True)}
    mix = [("GET", "/small", None, None), ("GET", "/large", None, None), ("HEAD", "/large", None, None), ("GET", "/none", None, None),
           ("GET", "/page", later, None), ("GET", "/page", {"Range": "bytes=100-299"}, None), ("GET", "/moved", None, None),
           ("POST", "/small", None, b"p" * 3000), ("GET", "/large", {"Connection": "close"}, None)]
    calls = in_threads([lambda: http_get(nginx.port, mix * 5) for _ in range(8)])
    expected = 8 * 5 * len(mix)
    assert sum(map(len, calls)) == expected
    log, spans = nginx.records(expected), b.servers(expected)
    assert len(b.settled()) == expected
    assert collections.Counter(map(of_span, spans)) == collections.Counter(map(of_access, log))
    # Refused before all of it was read, the length of a body may stay unknown; a wrong one is never given.
    assert {s.get("http.request.body.size") for s in spans if s["http.request.method"] == "POST"} <= {3000, None}
    assert {s["status"] for s in spans} == {"UNSET"}
    nothing_lost(b)


def test_nginx_hands_on_to_an_upstream(nginx, upstream, observe):
    """Eight clients at once on two event loops: each upstream call is a span; none has a wrong parent."""
    b = observe([nginx.port]).attached(nginx.pid)

    def client(n):
        return http_get(nginx.port, [(("GET", "POST")[i % 2], f"/proxy/wait/{(n + i) % 4 * 7}/{n}/{i}{'/fail' if i % 5 == 0 else ''}", None,
                                      b"b" * (i * 50) if i % 2 else None) for i in range(25)])
    answers = in_threads([lambda n=n: client(n) for n in range(8)])
    assert sum(map(len, answers)) == 200
    log = {line["path"]: line for line in nginx.records(200)}
    b.servers(200), b.clients(200)
    b.settled()
    servers = {s["url.path"]: s for s in b.servers()}
    clients = b.clients()
    assert len(b.servers()) == len(servers) == len(log) == 200
    for path, span in servers.items():
        assert of_span(span) == of_access(log[path])
        assert span.get("http.request.body.size", 0) == int(log[path]["asked"] or 0)
        assert span["status"] == ("ERROR" if path.endswith("/fail") else "UNSET")
    close([(s.seconds, float(log[path]["seconds"])) for path, s in servers.items()], 0.002)        # nginx's clock ticks in milliseconds
    assert collections.Counter(re.sub(r"http://[^/]*", "", c["url.full"]) for c in clients) == collections.Counter(path for _, path in upstream.asked)
    by_id = {s["span_id"]: s for s in servers.values()}
    wrong = [c for c in clients if c["parent_span_id"] and "/proxy" + re.sub(r"http://[^/]*", "", c["url.full"]) != by_id[c["parent_span_id"]]["url.path"]]
    assert wrong == []
    assert all(c["parent_span_id"] or c["links"] for c in clients)
    nothing_lost(b)


def test_nginx_one_request_at_a_time_is_the_parent_of_its_call(nginx, upstream, observe):
    b = observe([nginx.port]).attached(nginx.pid)
    assert [a[0] for a in http_get(nginx.port, [("GET", f"/proxy/wait/2/{i}", None, None) for i in range(30)])] == [200] * 30
    clients = b.clients(30)
    servers = {s["span_id"]: s for s in b.servers(30)}
    assert len(b.settled()) == 60
    for c in clients:
        assert servers[c["parent_span_id"]]["url.path"] == "/proxy" + re.sub(r"http://[^/]*", "", c["url.full"])
        assert servers[c["parent_span_id"]]["trace_id"] == c["trace_id"]


# ---- Redis ----

@pytest.mark.techniques("auto", "syscall")
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_redis_pipelined_by_commandstats(redis, observe, unix):
    b = observe([redis.port]).attached(redis.pid)
    redis.cli("CONFIG", "RESETSTAT")
    redis.benchmark("-P", "16", "-c", "8", "-n", "4000", "-t", "set,get,incr,lpush,mset,zadd", unix=unix)
    redis.cli(input="SET key text\nINCR key\nLPUSH key x\nHSET h f v\nGET key\nSET key\nEXPIRE key soon\n", unix=unix)
    commands, errors = redis.counts()
    until("the last of them", lambda: operations(b.servers())["INFO"] == 2)
    spans = [s for s in b.settled() if s["db.operation.name"] not in ("INFO", "COMMAND DOCS") and s["db.operation.name"] != "CONFIG RESETSTAT"]
    for name in ("INFO", "COMMAND DOCS", "CONFIG RESETSTAT"):
        commands.pop(name, None)
    assert commands["SET"] == 4002 and sum(commands.values()) > 24000
    assert operations(spans) == commands
    assert codes(spans) == errors and errors["WRONGTYPE"] == 1 and errors["ERR"] == 3
    assert {s["kind"] for s in spans} == {"SERVER"}
    benchmark = [s for s in spans if s["db.operation.name"] == "MSET"]
    assert {s.get("network.transport") for s in benchmark} == {"unix" if unix else None}
    nothing_lost(b)


def test_redis_in_a_burst(redis, observe):
    """More than may wait for its place in a trace comes before beylad looks once: what has been read is handed on meanwhile."""
    b = observe([redis.port]).attached(redis.pid)
    redis.cli("CONFIG", "RESETSTAT")
    redis.benchmark("-P", "16", "-c", "8", "-n", "24000", "-t", "set,get,incr,lpush")
    called = sum(redis.counts()[0].values()) + 2   # the two INFO that asked
    b.settled(1.0, 60)
    stats = b.stats()
    assert called > 96000
    if stats["events_lost"] == 0:
        assert (stats["spans_server"], stats["requests_lost"]) == (called, 0)
    else:                                          # a machine too slow for this: a call that was lost counts once, whatever it held
        assert stats["requests_lost"] > 0 and stats["spans_server"] + stats["requests_lost"] <= called


def both_ends_of(redis, cli, b):
    """(spans of redis-cli, spans of redis-server) of 150 commands, of which 50 fail."""
    cli.communicate("\n".join(f"SET key:{i} {i}\nGET key:{i}\nLPUSH key:{i} x" for i in range(50)) + "\n", timeout=30)
    expected = {"SET": 50, "GET": 50, "LPUSH": 50}

    def ours(spans):
        return [s for s in spans if s["db.operation.name"] in expected]
    until("300 spans", lambda: len(ours(b.spans())) >= 300)
    spans = ours(b.settled())
    clients, servers = [s for s in spans if not s.server], [s for s in spans if s.server]
    assert {s["pid"] for s in clients} == {cli.pid} and {s["pid"] for s in servers} == {redis.pid}
    assert operations(clients) == operations(servers) == expected
    assert codes(clients) == codes(servers) == {"WRONGTYPE": 50}
    return clients, servers


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_redis_cli_as_a_client(redis, observe, unix):
    """Every command is a client span of redis-cli and a server span of redis-server; over TCP the one is the other's parent."""
    b = observe([redis.port], {"executables": "/redis-cli$"}).attached(redis.pid)
    where = ["-s", str(redis.socket)] if unix else ["-p", str(redis.port)]
    cli = subprocess.Popen(["redis-cli", *where], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=PLAIN_ENV)
    b.attached(cli.pid)
    clients, servers = both_ends_of(redis, cli, b)
    if not unix:
        parents = {s["span_id"]: s for s in clients}
        for s in servers:
            assert parents[s["parent_span_id"]]["name"] == s["name"]
            assert parents[s["parent_span_id"]]["start_unix_nano"] <= s["start_unix_nano"]
    nothing_lost(b)


# ---- PostgreSQL ----

STATEMENTS = [("INSERT INTO things VALUES ({i}, 'name')", "INSERT", "things"), ("SELECT name FROM things WHERE id = {i}", "SELECT", "things"),
              ("UPDATE things SET name = 'other' WHERE id = {i}", "UPDATE", "things"), ("SELECT * FROM nothing", "SELECT", "nothing"),
              ("INSERT INTO things VALUES ({i}, 'again')", "INSERT", "things"), ("SELECT 1/0", "SELECT", None), ("SELEKT", None, None),
              ("DELETE FROM things WHERE id = {i}", "DELETE", "things"), ("BEGIN", "BEGIN", None), ("COMMIT", "COMMIT", None)]


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_postgres_simple_queries_of_psql(cluster, observe, unix):
    """Both ends, statement by statement, against the log; psql's connection is older than its being observed."""
    b = observe([cluster.port], {"executables": "/psql$"}).attached(cluster.pid)
    mark = cluster.mark()
    psql = subprocess.Popen([cluster.bin / "psql", "-X", "-q", *cluster.where(unix), "postgres"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, text=True, env={**PLAIN_ENV, **POSTGRES_ENV})
    b.attached(psql.pid)
    psql.communicate("".join(text.format(i=i) + ";\n" for i in range(20) for text, _, _ in STATEMENTS), timeout=30)
    count = 20 * len(STATEMENTS)
    log = cluster.statements(mark, count)
    b.servers(count), b.clients(count)
    assert len(b.settled()) == 2 * count == 2 * len(log)
    known = {text.split("{")[0]: (operation, table) for text, operation, table in STATEMENTS}
    expected = collections.Counter((*next(v for k, v in known.items() if text.startswith(k)), code) for text, _, code in log)
    assert expected["SELECT", "nothing", "42P01"] == expected["INSERT", "things", "23505"] == expected["SELECT", None, "22012"] == 20
    assert collections.Counter(map(of_query, b.servers())) == expected
    assert collections.Counter(map(of_query, b.clients())) == expected
    assert {s["db.namespace"] for s in b.servers()} == {"postgres"}
    seconds = [s.seconds for s in sorted(b.servers(), key=lambda s: s["start_unix_nano"])]
    close([(ours, theirs) for ours, (_, theirs, _) in zip(seconds, log) if theirs is not None], 0.001)
    nothing_lost(b)


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_pgbench(cluster, observe, tmp_path, mode, unix):
    """Four clients at once; a statement that fails ends none of them."""
    script = tmp_path / "script"
    script.write_text("\\set id random(1, 1000000)\nSELECT name FROM things WHERE id = :id;\nUPDATE things SET name = 'x' WHERE id = :id;\n"
                      "DELETE FROM things WHERE id = :id;\n")
    b = observe([cluster.port]).attached(cluster.pid)
    mark = cluster.mark()
    cluster.client("pgbench", "-n", "-M", mode, "-c", "4", "-t", "100", "-f", script, unix=unix)
    log = cluster.statements(mark, 1200)
    b.servers(1200)
    spans = b.settled()
    expected = collections.Counter((text.split()[0], "things", code) for text, _, code in log if "things" in text)
    assert expected == {("SELECT", "things", None): 400, ("UPDATE", "things", None): 400, ("DELETE", "things", None): 400}
    assert collections.Counter(of_query(s) for s in spans if s.get("db.collection.name") == "things") == expected
    assert len(spans) == len(log)
    nothing_lost(b)


# ---- HTTP/2 ----

@pytest.fixture
def nghttpd(server, tmp_path, certificates):
    """nghttpd(tls): writes every header it receives; .paths() are those it was asked for."""
    needs("nghttpd", "h2load", "nghttp")
    files = tmp_path / "files"
    files.mkdir()
    for n in (0, 10, 1000, 20000):
        (files / f"{n}").write_bytes(b"f" * n)

    def make(tls):
        end = [certificates.path("good.key"), certificates.path("good.pem")] if tls else []
        s = server(["nghttpd", "-v", "--color", "-d", str(files), "-n", "2", *([] if tls else ["--no-tls"]), "{port}", *end])
        s.scheme = "https" if tls else "http"
        return s
    return make


def asked_paths(s):
    return collections.Counter(re.findall(r":path\S*: (\S+)", re.sub(r"\x1b\[[0-9;]*m", "", s.output())))


@pytest.mark.parametrize("tls", [False, True], ids=["h2c", "tls"])
def test_http2_concurrent_streams(nghttpd, observe, tmp_path, tls):
    s = nghttpd(tls)
    b = observe([s.port]).attached(s.pid)
    urls = tmp_path / "urls"
    paths = [f"/{n}" for n in (0, 10, 1000, 20000)] + ["/none/1", "/none/2"]
    urls.write_text("".join(f"{s.url}{p}\n" for p in paths))
    done = subprocess.run(["h2load", "-n", "1200", "-c", "4", "-m", "10", "-i", urls], capture_output=True, text=True, timeout=60, env=PLAIN_ENV)
    match = re.search(r"requests: \d+ total, \d+ started, (\d+) done.*?(\d+) 2xx, \d+ 3xx, (\d+) 4xx", done.stdout, re.S)
    assert match and match[1] == "1200", done.stdout + done.stderr
    b.servers(1200)
    assert len(b.settled()) == 1200
    counted = until("all in nghttpd's output", lambda: asked_paths(s) if sum(asked_paths(s).values()) >= 1200 else None)
    spans = b.servers()
    assert collections.Counter(x["url.path"] for x in spans) == counted
    assert collections.Counter(x["http.response.status_code"] // 100 for x in spans) == {2: int(match[2]), 4: int(match[3])}
    for x in spans:
        if not x["url.path"].startswith("/none"):
            assert x["http.response.body.size"] == int(x["url.path"][1:])
        assert (x["http.request.method"], x["network.protocol.version"], x["url.scheme"]) == ("GET", "2", "https" if tls else "http")
    nothing_lost(b)


@pytest.mark.parametrize("tls", [False, True], ids=["h2c", "tls"])
def test_nghttp_as_a_client(nghttpd, observe, tmp_path, tls):
    """nghttp posts on a connection; seen at both ends when it lives long enough to be found, so it is asked to send again and again."""
    s = nghttpd(tls)
    body = tmp_path / "body"
    body.write_bytes(b"p" * 20000)
    b = observe([s.port]).attached(s.pid)
    for _ in range(20):
        subprocess.run(["nghttp", "-n", "-m", "5", "-d", body, f"{s.url}/10"], check=True, capture_output=True, timeout=30, env=PLAIN_ENV)
    b.servers(100)
    spans = b.settled()
    assert len(spans) == 100 == asked_paths(s)["/10"]
    assert {(x["http.request.method"], x["http.request.body.size"]) for x in spans} == {("POST", 20000)}
    nothing_lost(b)


@pytest.mark.parametrize("mode", ["one", "cut", "file", "tls"])
def test_http2_calls_of_any_length(server, observe, tmp_path, certificates, mode):
    """A call that answers ten streams with 2 MB, and one that brings several bodies: all of it is captured but what DATA carries."""
    needs("h2load")
    s = server([sys.executable, PROGRAMS / "http2_bulk.py", "{port}", mode, "10", "200000", certificates.path("good.pem"), certificates.path("good.key")])
    s.scheme = "https" if mode == "tls" else "http"
    b = observe([s.port]).attached(s.pid)
    body = tmp_path / "body"
    body.write_bytes(b"b" * 150_000)
    done = subprocess.run(["h2load", "-n", "200", "-c", "2", "-m", "10", "-w", "24", "-W", "26", "-d", body, f"{s.url}/things"],
                          capture_output=True, text=True, timeout=60, env=PLAIN_ENV)
    assert "200 succeeded, 0 failed" in done.stdout, done.stdout + done.stderr
    b.servers(200)
    spans = b.settled()
    assert len(spans) == 200 == len(s.output().split("\n")) - 1
    assert {(x["http.request.method"], x["url.path"], x["http.response.status_code"], x["http.request.body.size"], x["http.response.body.size"])
            for x in spans} == {("POST", "/things", 200, 150_000, 200_000)}
    nothing_lost(b)


# ---- io_uring ----

@pytest.fixture(scope="module")
def uring_program(tmp_path_factory):
    program = tmp_path_factory.mktemp("uring") / "uring_server"
    if not shutil.which("gcc") or subprocess.run(["gcc", "-xc", "-fsyntax-only", "-"], input=b"#include <liburing.h>", capture_output=True).returncode:
        pytest.skip("gcc and liburing-dev are not there")
    subprocess.run(["gcc", "-O1", "-Wall", "-Wextra", "-Werror", PROGRAMS / "uring_server.c", "-o", program, "-luring"], check=True)
    tried = subprocess.run([program, "0", "probe"], timeout=20)
    if tried.returncode == 77:
        pytest.skip("io_uring is not allowed here")
    return program


@pytest.mark.techniques("auto")
@pytest.mark.skipif(not has_socket_hooks(), reason="the kernel has no hooks inside of sockets, and beylad says that it sees no io_uring then")
@pytest.mark.parametrize("mode", ["recv", "rw", "msg", "iov"])
def test_io_uring(server, observe, uring_program, mode):
    s = server([uring_program, "{port}", mode])
    b = observe([s.port]).attached(s.pid)
    sizes = [0, 1, 500, 3000, 60000]
    in_threads([lambda: http_get(s.port, [("GET", f"/{n}", None, None) for n in sizes * 10]) for _ in range(6)])
    b.servers(300)
    spans = b.settled()
    served = collections.Counter(re.findall(r'"path":"(\S+?)"', s.output()))
    assert sum(served.values()) == 300
    assert collections.Counter(x["url.path"] for x in spans) == served
    assert {(x["http.request.method"], x["http.response.status_code"]) for x in spans} == {("GET", 200)}
    assert all(x["http.response.body.size"] == int(x["url.path"][1:]) for x in spans)
    nothing_lost(b)
