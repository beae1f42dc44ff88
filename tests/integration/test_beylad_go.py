# SPDX-License-Identifier: Apache-2.0
"""beylad and programs in Go, each with and without symbols: net/http in all its protocols, grpc-go, go-redis and pgx, against what the program
or the database wrote down itself. Slow: they are built first."""
import collections
import json
import re
import shutil
import ssl
import subprocess

import pytest

from env.beylad import close, nothing_lost
from env.beylad_servers import PLAIN_ENV, Upstream, built, http_get, in_threads, needs, postgres
from test_beylad_servers import calls_out, of_record, of_span, path_of, serves

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["symbols", "stripped"])
def go(request):
    """The folder of the programs."""
    if not shutil.which("go"):
        pytest.skip("go is not installed")
    flags = {"symbols": "", "stripped": "-s -w"}
    build = " && ".join(f"go build -trimpath -ldflags '{f}' -o bin/{name}/ ./..." for name, f in flags.items())
    return built("go", ["sh", "-c", build], "bin/stripped/web") / "bin" / request.param


@pytest.fixture
def upstream(certificates, ends):
    return lambda tls=False: ends(Upstream(certificates.server_context("good") if tls else None))


@pytest.fixture
def trust(certificates):
    return ssl.create_default_context(cafile=certificates.path("ca.pem"))


@pytest.fixture
def web(go, server, certificates):
    """web(kind, upstream): a server, which asks that URL."""
    def make(kind, upstream="http://127.0.0.1:9"):
        return server([go / "web", kind, "{port}", "{log}", upstream, *(certificates.path(n) for n in ("good.key", "good.pem", "ca.pem"))])
    return make


class Asker:
    """A client of ours that does what a line on its stdin says, and then says "ok"."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=PLAIN_ENV)
        self.pid = self.process.pid

    def ask(self, line):
        """The lines it wrote before the "ok"."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return list(iter(lambda: self.process.stdout.readline().strip() or pytest.fail("the client ended"), "ok"))

    def stop(self):
        self.process.kill()
        self.process.communicate()


def url_of(s, kind):
    return f"https://localhost:{s.port}" if kind == "https" else f"http://127.0.0.1:{s.port}"


# ---- net/http ----

@pytest.mark.parametrize("kind, tls_upstream", [("http", False), ("http", True), ("https", False), ("https", True)])
def test_http1(web, upstream, observe, trust, kind, tls_upstream):
    """A request is read, and what it calls is asked, by the goroutine of its connection: every call out has its parent."""
    u = upstream(tls_upstream)
    s = web(kind, f"https://localhost:{u.port}" if tls_upstream else f"http://127.0.0.1:{u.port}")
    tls = trust if kind == "https" else None
    b = observe([s.port]).attached(s.pid)
    serves(s, b, tls)
    assert calls_out(s, b, u, 1, tls) == (40, 0, 0)
    assert calls_out(s, b, u, 50, tls) == (200, 0, 0)


def h2load(url, urls, paths, count, at_once=10):
    urls.write_text("".join(f"{url}{p}\n" for p in paths))
    done = subprocess.run(["h2load", "-n", str(count), "-c", "4", "-m", str(at_once), "-i", urls], capture_output=True, text=True, timeout=60, env=PLAIN_ENV)
    assert f"{count} done" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["https", "h2c", "xh2c"])
def test_http2(web, observe, tmp_path, kind):
    """Forty streams at once on four connections; by ALPN where there is TLS."""
    needs("h2load")
    s = web(kind)
    b = observe([s.port]).attached(s.pid)
    h2load(url_of(s, kind), tmp_path / "urls", ["/size/0", "/size/10", "/size/1000", "/size/20000", "/status/404", "/status/500", "/wait/3", "/none"], 800)
    records = s.records(800)
    b.servers(800)
    spans = b.settled()
    assert collections.Counter(map(of_span, spans)) == collections.Counter(map(of_record, records))
    assert {r["version"] for r in records} == {x["network.protocol.version"] for x in spans} == {"2"}
    assert {x["url.scheme"] for x in spans} == {"https" if kind == "https" else "http"}
    assert {x["status"] for x in spans if x["http.response.status_code"] == 500} == {"ERROR"}
    nothing_lost(b)


def called(s, b, client, at_once, each, upstream):
    """What client asks of s at once on one connection, s asks of upstream: spans by what they are; none has a wrong parent."""
    before, begun, asked = len(b.settled()), len(s.records()), len(upstream.records())
    client.ask(f"{at_once} {each}")
    count = at_once * each
    records = {r["path"]: r for r in s.records(begun + count)[begun:]}
    b.spans(before + 2 * count)
    spans = b.settled()[before:]
    servers, out = {x["span_id"]: x for x in spans if x.server}, [x for x in spans if not x.server]
    assert (len(records), len(servers), len(out)) == (count, count, count)
    for x in servers.values():
        assert of_span(x) == of_record(records[x["url.path"]])
    if at_once == 1:
        close([(x.seconds, records[x["url.path"]]["seconds"]) for x in servers.values()], 0.001, 0.75)
    assert collections.Counter(map(path_of, out)) == collections.Counter(
        r["path"].replace("/wait", "/call", 1) for r in upstream.records(asked + count)[asked:])
    wrong = [(path_of(x), x["parent_span_id"], x["links"]) for x in out if servers.get(x["parent_span_id"], {"url.path": 0})["url.path"] != path_of(x)]
    assert wrong == [], f"{len(wrong)} of {len(out)} calls have another parent, or none: {wrong[:5]}"
    nothing_lost(b)
    return spans


@pytest.mark.parametrize("kind, behind", [("https", "http"), ("h2c", "https"), ("xh2c", "http"), ("https", "https")])
def test_http2_calls_out(go, web, observe, ends, certificates, kind, behind):
    """Streams of one connection are served by a goroutine each; with TLS behind them, their calls share one connection, too."""
    u = web(behind)
    s = web(kind, url_of(u, behind))
    b = observe([s.port]).attached(s.pid)
    client = ends(Asker([go / "web", "ask", url_of(s, kind), certificates.path("ca.pem")]))
    called(s, b, client, 1, 40, u)
    spans = called(s, b, client, 50, 4, u)
    assert {x["network.protocol.version"] for x in spans if x.server} == {"2"}
    assert {x["network.protocol.version"] for x in spans if not x.server} == {"2" if behind == "https" else "1.1"}


def test_http1_calls_out_by_http2(web, observe):
    """The transport of HTTP/2 has a goroutine for each request, which the serving one starts."""
    u = web("https")
    s = web("http", url_of(u, "https"))
    b = observe([s.port]).attached(s.pid)

    class Client:
        def ask(self, line):
            at_once, each = map(int, line.split())
            in_threads([lambda n=n: http_get(s.port, [("GET", f"/call/{(n + i) % 5 * 5}/{n}/{i}/{at_once}", None, None) for i in range(each)])
                        for n in range(at_once)])
    called(s, b, Client(), 1, 40, u)
    called(s, b, Client(), 50, 4, u)


# ---- gRPC ----

UNARY, STREAMS = ["Echo", "Slow", "Missing", "Broken", "Other"], ["Count", "Sum", "Chat", "Breaks"]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_grpc(go, server, observe, ends, certificates, tls):
    """Each call is a span at both ends, with the status that both wrote down; what is joined, is joined to a call of that name."""
    keys = [certificates.path(n) for n in ("good.key", "good.pem")] if tls else []
    s = server([go / "rpc", "server", "{port}", "{log}", "http://127.0.0.1:9", *keys])
    client = ends(Asker([go / "rpc", "client", str(s.port), *([certificates.path("ca.pem")] if tls else [])]))
    b = observe([s.port], {"executables": f"^{re.escape(str(go))}/rpc$"}).attached(s.pid).attached(client.pid)
    made = [json.loads(line) for line in client.ask(f"20 5 {' '.join(UNARY + STREAMS)}")]
    count = 20 * 5 * 9
    assert len(made) == count
    records = s.records(count)
    b.spans(2 * count)
    spans = b.settled()
    expected = collections.Counter((c["method"], c["code"]) for c in made)
    assert expected == collections.Counter((r["method"], r["code"]) for r in records)
    assert {code for _, code in expected} == {0, 5, 10, 12, 13}
    by_id = {x["span_id"]: x for x in spans if not x.server}
    for kind in ("SERVER", "CLIENT"):
        of_kind = [x for x in spans if x["kind"] == kind]
        assert collections.Counter((x["rpc.method"], x["rpc.grpc.status_code"]) for x in of_kind) == expected
        assert {(x["rpc.system"], x["rpc.service"]) for x in of_kind} == {("grpc", "package.Service")}
    # Of the server 13 and 12 are its own failures; to the client every status but 0 is one.
    assert {x["rpc.grpc.status_code"] for x in spans if x.server and x["status"] == "ERROR"} == {12, 13}
    assert {x["rpc.grpc.status_code"] for x in spans if not x.server and x["status"] == "ERROR"} == {5, 10, 12, 13}
    for x in spans:
        if x.server and x["parent_span_id"]:
            assert by_id[x["parent_span_id"]]["rpc.method"] == x["rpc.method"]
    joined = sum(bool(x["parent_span_id"]) for x in spans if x.server)
    print(f"{joined} of {count} joined")
    assert tls or joined > 0                       # sequence numbers are those of the ciphertext
    nothing_lost(b)


def test_grpc_durations(go, server, observe, ends):
    s = server([go / "rpc", "server", "{port}", "{log}", "http://127.0.0.1:9"])
    client = ends(Asker([go / "rpc", "client", str(s.port)]))
    b = observe([s.port], {"executables": f"^{re.escape(str(go))}/rpc$"}).attached(s.pid).attached(client.pid)
    made = [json.loads(line) for line in client.ask("1 40 Slow Chat")]
    b.spans(160)
    spans = sorted(b.settled(), key=lambda x: x["start_unix_nano"])
    assert len(spans) == 160
    close([(x.seconds, r["seconds"]) for x, r in zip([x for x in spans if x.server], s.records(80))], 0.001, 0.75)
    close([(x.seconds, c["seconds"]) for x, c in zip([x for x in spans if not x.server], made)], 0.001, 0.75)


def test_grpc_calls_out(go, server, web, observe, ends):
    """A handler that asks by HTTP: many at once on one connection."""
    u = web("http")
    s = server([go / "rpc", "server", "{port}", "{log}", url_of(u, "http")])
    client = ends(Asker([go / "rpc", "client", str(s.port)]))
    b = observe([s.port]).attached(s.pid)
    for at_once, each in ((1, 20), (50, 4)):
        before, asked = len(b.settled()), len(u.records())
        client.ask(f"{at_once} {each} Call")
        count = at_once * each
        b.spans(before + 2 * count)
        spans = b.settled()[before:]
        servers, out = {x["span_id"]: x for x in spans if x.server}, [x for x in spans if not x.server]
        assert len(servers) == len(out) == count
        assert collections.Counter(re.sub("https?://[^/]*", "", x["url.full"]) for x in out) == collections.Counter(
            r["path"] for r in u.records(asked + count)[asked:])
        # Each call has a parent of its own, within whose time it is: what it asked for is not in what is seen of a gRPC call.
        parents = [servers.get(x["parent_span_id"]) for x in out]
        assert None not in parents and len({x["parent_span_id"] for x in out}) == count, f"{parents.count(None)} of {count} have no parent"
        for x, p in zip(out, parents):
            assert p["start_unix_nano"] <= x["start_unix_nano"] and x["end_unix_nano"] <= p["end_unix_nano"]
            assert p.seconds - x.seconds < 0.05 or at_once > 1
        nothing_lost(b)


# ---- databases ----

@pytest.fixture(scope="module")
def cluster():
    with postgres("others (id int)") as p:
        yield p


@pytest.fixture
def store(go, server, redis, cluster):
    s = server([go / "store", "{port}", "{log}", str(redis.port), f"postgres://tester@127.0.0.1:{cluster.port}/postgres?sslmode=disable&pool_max_conns=20"])
    s.redis = redis
    return s


def asked_of_store(s, b, store, kinds, hows, at_once, each, begun):
    """(spans by path of the request they belong to, all client spans, records)"""
    paths = [f"/{store}/{kind}/{how}/{{n}}" for kind in kinds for how in hows]
    in_threads([lambda n=n: http_get(s.port, [("GET", paths[(n + i) % len(paths)].format(n=n * each + i), None, None) for i in range(each)])
                for n in range(at_once)])
    count = at_once * each
    b.servers(count)
    spans = b.settled()
    servers, out = {x["span_id"]: x for x in spans if x.server}, [x for x in spans if not x.server]
    records = s.records(begun + count)[begun:]
    assert collections.Counter(x["url.path"] for x in servers.values()) == collections.Counter(r["path"] for r in records)
    children = collections.defaultdict(list)
    for x in sorted(out, key=lambda x: x["start_unix_nano"]):
        if x["parent_span_id"]:
            p = servers[x["parent_span_id"]]
            assert p["trace_id"] == x["trace_id"] and p["start_unix_nano"] <= x["start_unix_nano"] and x["end_unix_nano"] <= p["end_unix_nano"]
            children[p["url.path"]].append(x)
    nothing_lost(b)
    return children, out, records


def of_children(children):
    return collections.Counter((path.split("/")[2], tuple(x["db.operation.name"] for x in spans)) for path, spans in children.items())


COMMANDS = {"text": ["SET", "GET", "APPEND"], "list": ["LPUSH", "LRANGE", "LPOP"], "hash": ["HSET", "HGET"], "fails": ["EXISTS", "LPUSH", "STRLEN"]}


@pytest.mark.parametrize("how", ["single", "pipeline"])
def test_go_redis(store, observe, how):
    """Each command is a span, as Redis counted them, with the request for which it was sent as parent, and so are the commands that go-redis
    says by itself to begin a connection. All of a pipeline belong to who sent it."""
    http_get(store.port, [("GET", "/redis/text/single/0", None, None)])       # the key that the failing kind needs
    begun = len(store.records(1))
    b = observe([store.port]).attached(store.pid)
    store.redis.cli("CONFIG", "RESETSTAT")
    children, out, records = asked_of_store(store, b, "redis", COMMANDS, [how], 50, 8, begun)
    commands, errors = store.redis.counts()
    ours = [x for x in out if x["db.operation.name"] not in ("HELLO", "CLIENT")]
    expected = collections.Counter(op for r in records for op in COMMANDS[r["path"].split("/")[2]])
    assert {name: n for name, n in commands.items() if name.partition(" ")[0] not in ("HELLO", "CLIENT", "CONFIG")} == expected
    assert commands["HELLO"] > 1 and commands["HELLO"] == sum(x["db.operation.name"] == "HELLO" for x in out)
    assert collections.Counter(x["db.operation.name"] for x in ours) == expected
    assert collections.Counter(x["db.response.status_code"] for x in out if x["status"] == "ERROR") == errors and errors["WRONGTYPE"] == 100
    assert {x["db.query.text"] for x in ours if x["db.operation.name"] == "HSET"} == {"HSET ? ? ?"}
    own = {path: [x for x in spans if x in ours] for path, spans in children.items()}
    assert of_children(own) == collections.Counter((kind, tuple(COMMANDS[kind])) for kind in (r["path"].split("/")[2] for r in records))
    assert sum(r["errors"] for r in records) == 100


STATEMENTS = {"write": [("INSERT", "things"), ("UPDATE", "things"), ("DELETE", "things")], "read": [("SELECT", "things"), ("SELECT", "others")],
              "fails": [("SELECT", "things")]}
TEXTS = {"INSERT INTO things VALUES (?)", "UPDATE things SET name = ? WHERE id = ?", "DELETE FROM things WHERE id = ?", "SELECT name FROM things WHERE id = ?",
         "SELECT id FROM others WHERE id = ?", "SELECT nothing FROM things"}


def table_of(text):
    return re.search("things|others", text)[0]


@pytest.mark.parametrize("how", ["simple", "exec", "prepared", "described"])
def test_pgx(store, observe, cluster, how):
    """Each statement is a span, as PostgreSQL logged them, with the request for which it was executed as parent."""
    b = observe([store.port]).attached(store.pid)
    mark = cluster.mark()
    children, out, records = asked_of_store(store, b, "postgres", STATEMENTS, [how], 50, 8, 0)
    kinds = [r["path"].split("/")[2] for r in records]
    expected = collections.Counter(statement for kind in kinds for statement in STATEMENTS[kind])
    log = [(text, seconds, code) for text, seconds, code in cluster.statements(mark, sum(expected.values())) if "ping" not in text]
    logged = collections.Counter((text.split()[0], table_of(text), code) for text, _, code in log)
    assert collections.Counter((op, table) for op, table, _ in logged.elements()) == expected
    assert logged["SELECT", "things", "42703"] == kinds.count("fails") > 100
    assert collections.Counter((x["db.operation.name"], x["db.collection.name"], x.get("db.response.status_code")) for x in out) == logged
    assert {x["db.query.text"].replace("( ? )", "(?)") for x in out} == TEXTS             # pgx puts spaces around the values it inserts itself
    assert of_children(children) == collections.Counter((kind, tuple(op for op, _ in STATEMENTS[kind])) for kind in kinds)
    assert sum(r["errors"] for r in records) == kinds.count("fails")


def test_pgx_durations(store, observe, cluster):
    """What pgx waits for a statement is what PostgreSQL takes for it; what the program takes for a request is what it measured."""
    b = observe([store.port]).attached(store.pid)
    mark = cluster.mark()
    _, out, records = asked_of_store(store, b, "postgres", ["write", "read"], ["simple"], 1, 40, 0)
    log = [seconds for text, seconds, _ in cluster.statements(mark, 100) if "ping" not in text]
    assert len(out) == len(log) == 100
    close([(x.seconds, seconds) for x, seconds in zip(sorted(out, key=lambda x: x["start_unix_nano"]), log)], 0.001, 0.75)
    servers = sorted(b.servers(), key=lambda x: x["start_unix_nano"])
    close([(x.seconds, r["seconds"]) for x, r in zip(servers, records)], 0.001, 0.75)
