# SPDX-License-Identifier: Apache-2.0
"""What beylad sees of each kind of TLS, against the server's own account, and what --explain says of it. Where nothing can be seen there is no span,
none is invented, and the connections are counted."""
import collections
import json
import re
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from env.beylad import close, nothing_lost, of_query, operations
from env.beylad_servers import PLAIN_ENV, Nginx, Redis, Upstream, built, http_get, in_threads, needs, postgres
from env.daemon import binary
from env.servers import PROGRAMS
from env.wait import until
from test_beylad_protocols import STATEMENTS, both_ends_of

pytestmark = pytest.mark.row("BEY-10")


@pytest.fixture
def trust(certificates):
    return ssl.create_default_context(cafile=certificates.path("ca.pem"))


@pytest.fixture
def own_python(tmp_path):
    """The interpreter at a path of its own, because the tests run on the same one."""
    return Path(shutil.copy(Path(sys.executable).resolve(), tmp_path / "python"))


def explained(pid):
    """{technique: (whether it works, how or why not)} by beylad --explain."""
    out = subprocess.run([binary("beylad"), "--explain", str(pid)], capture_output=True, text=True, timeout=30, env=PLAIN_ENV)
    assert out.returncode == 0, out.stderr
    found = {}
    for line in out.stdout.splitlines()[1:]:
        match = re.match(r"(yes|no) +(\S+) +(.*)", line)
        if match:
            last = match[2]
            found[last] = (match[1] == "yes", match[3])
        else:
            found[last] = (found[last][0], found[last][1] + "\n" + line.strip())
    return found


def reads(pid, library):
    """--explain says that the plaintext of this process is seen, and by which library."""
    works, how = explained(pid)["TLS"]
    assert works and re.search(library, how), how


def not_read(b, connections, why, others=False):
    """{pid: connections}: they were encrypted by what cannot be seen. No span comes of them, each is counted, and --explain says why.
    others: what the programs encrypt by other libraries would be seen."""
    def counted():
        return {p["pid"]: p["encrypted"] for p in b.processes()}
    until("all connections to be counted", lambda: sum(counted().values()) >= sum(connections.values()))
    assert b.settled(1.0) == [] and counted() == connections and b.stats()["connections_encrypted"] == sum(connections.values())
    nothing_lost(b)
    text = b.control("processes")
    for pid, n in connections.items():
        assert re.search(rf"^{pid} .* 0 requests{', TLS' if others else ''}, {n} connections encrypted and not read$", text, re.M), text
        works, how = explained(pid)["TLS"]
        assert works == others and re.search(why, how), how


# ---- PostgreSQL ----

@pytest.fixture(scope="module")
def cluster(certificates):
    def encrypt(p):
        for name in ("good.pem", "good.key"):
            to = p.folder / "data" / name
            shutil.copy(certificates.path(name), to)
            shutil.chown(to, p.folder.owner(), p.folder.group())
            to.chmod(0o600)
        with (p.folder / "data/postgresql.conf").open("a") as f:
            f.write("ssl = on\nssl_cert_file = 'good.pem'\nssl_key_file = 'good.key'\n")
    with postgres(prepare=encrypt) as p:
        yield p


def test_postgres_both_ends(cluster, observe, certificates):
    """psql's first connection is older than its being observed, the second is not: SSLRequest, the handshake and all."""
    b = observe([cluster.port], {"executables": "/psql$"}).attached(cluster.pid)
    mark = cluster.mark()
    psql = subprocess.Popen([cluster.bin / "psql", "-X", "-q", "-A", "-t", *cluster.where(), "postgres"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True,
                            env={**PLAIN_ENV, "PGSSLMODE": "verify-full", "PGSSLROOTCERT": certificates.path("ca.pem"), "PGGSSENCMODE": "disable"})
    b.attached(psql.pid)
    reads(psql.pid, "libssl.*OpenSSL")
    ask_tls = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid();\n"
    half = "".join(text.format(i=i) + ";\n" for i in range(10) for text, _, _ in STATEMENTS)
    out, _ = psql.communicate(ask_tls + half + f"\\c postgres tester 127.0.0.1 {cluster.port}\n" + ask_tls + half, timeout=30)
    assert re.findall("^[tf]$", out, re.M) == ["t", "t"], out
    count = 2 + 20 * len(STATEMENTS)
    log = cluster.statements(mark, count)
    b.servers(count), b.clients(count)
    assert len(b.settled()) == 2 * count == 2 * len(log)
    known = {text.split("{")[0]: (operation, table) for text, operation, table in [*STATEMENTS, (ask_tls.strip("\n;"), "SELECT", "pg_stat_ssl")]}
    expected = collections.Counter((*next(v for k, v in known.items() if text.startswith(k)), code) for text, _, code in log)
    assert expected["SELECT", "nothing", "42P01"] == expected["INSERT", "things", "23505"] == expected["SELECT", None, "22012"] == 20
    assert collections.Counter(map(of_query, b.servers())) == expected == collections.Counter(map(of_query, b.clients()))
    assert {s["db.namespace"] for s in b.servers()} == {"postgres"} and {s["pid"] for s in b.clients()} == {psql.pid}
    seconds = [s.seconds for s in sorted(b.servers(), key=lambda s: s["start_unix_nano"])]
    close([(ours, theirs) for ours, (_, theirs, _) in zip(seconds, log) if theirs is not None], 0.001)
    nothing_lost(b)


@pytest.mark.parametrize("mode", ["simple", "prepared"])
def test_postgres_four_connections_at_once(cluster, observe, tmp_path, mode):
    script = tmp_path / "script"
    script.write_text("\\set id random(1, 1000000)\nSELECT name FROM things WHERE id = :id;\nUPDATE things SET name = 'x' WHERE id = :id;\n")
    b = observe([cluster.port]).attached(cluster.pid)
    reads(cluster.pid, "libssl.*OpenSSL")
    mark = cluster.mark()
    subprocess.run([cluster.bin / "pgbench", *cluster.where(), "-n", "-M", mode, "-c", "4", "-t", "50", "-f", script, "postgres"], check=True,
                   capture_output=True, timeout=60, env={**PLAIN_ENV, "PGSSLMODE": "require"})
    log = cluster.statements(mark, 400)
    b.servers(400)
    spans = b.settled()
    assert collections.Counter(of_query(s) for s in spans if s.get("db.collection.name") == "things") == {
        ("SELECT", "things", None): 200, ("UPDATE", "things", None): 200}
    assert len(spans) == len(log)
    nothing_lost(b)


# ---- Redis ----

class TlsRedis(Redis):
    """Its one port is TLS."""

    def __init__(self, folder, certificates):
        super().__init__(folder)
        self.command[self.command.index("--port"):self.command.index("--port") + 2] = [
            "--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no", "--tls-cert-file", certificates.path("good.pem"),
            "--tls-key-file", certificates.path("good.key"), "--tls-ca-cert-file", certificates.path("ca.pem")]
        self.tls = ["--tls", "--cacert", certificates.path("ca.pem")]

    def cli(self, *args, input=None, unix=True):
        """By the Unix socket: what is asked to keep the books is no part of them."""
        return super().cli(*args, input=input, unix=unix)


@pytest.fixture
def redis(tmp_path, ends, certificates):
    needs("redis-server", "redis-cli", "redis-benchmark")
    return ends(TlsRedis(tmp_path, certificates)).start()


def test_redis_pipelined_by_commandstats(redis, observe):
    b = observe([redis.port]).attached(redis.pid)
    reads(redis.pid, "libssl.*OpenSSL")
    redis.cli("CONFIG", "RESETSTAT")
    redis.benchmark(*redis.tls, "-P", "16", "-c", "8", "-n", "2000", "-t", "set,get,incr,lpush,mset")
    commands, errors = redis.counts()
    until("the last of them", lambda: operations(b.servers())["INFO"] == 2)
    ours = {"CONFIG RESETSTAT", "INFO", "COMMAND DOCS"}
    spans = [s for s in b.settled() if s["db.operation.name"] not in ours]
    commands = {name: n for name, n in commands.items() if name not in ours}
    assert commands["SET"] == 2000 and sum(commands.values()) > 10000 and not errors
    assert operations(spans) == commands
    assert {s["kind"] for s in spans} == {"SERVER"} and {s.get("network.transport") for s in spans} == {None}
    nothing_lost(b)


def test_redis_cli_as_a_client(redis, observe):
    b = observe([redis.port], {"executables": "/redis-cli$"}).attached(redis.pid)
    cli = subprocess.Popen(["redis-cli", "-p", str(redis.port), *redis.tls], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=PLAIN_ENV)
    b.attached(cli.pid)
    reads(cli.pid, "libssl.*OpenSSL")
    _, servers = both_ends_of(redis, cli, b)
    assert {s["parent_span_id"] for s in servers} == {""}            # sequence numbers are the ciphertext's: nothing tells which is whose
    nothing_lost(b)


# ---- nginx ----

SIZES = {"empty": 0, "small": 10, "page": 5000, "large": 300_000}


@pytest.fixture
def nginx(tmp_path, certificates):
    needs("nginx")
    n = Nginx(tmp_path, tls=(certificates.path("good.pem"), certificates.path("good.key")))
    for name, size in SIZES.items():
        (n.files / name).write_bytes(b"f" * size)
    try:
        yield n.start()
    finally:
        n.stop()


def of_access(line):
    return line["method"], line["path"], int(line["status"]), int(line["body"]), line["protocol"]


def of_span(s):
    return (s["http.request.method"], s["url.path"], s["http.response.status_code"], s["http.response.body.size"],
            {"1.1": "HTTP/1.1", "2": "HTTP/2.0"}[s["network.protocol.version"]])


def test_nginx_http_1(nginx, observe, trust):
    b = observe([nginx.port]).attached(nginx.pid)
    reads(nginx.pid, "libssl.*OpenSSL")
    mix = [("GET", f"/{name}", None, None) for name in SIZES] + [("HEAD", "/large", None, None), ("GET", "/none", None, None), ("GET", "/moved", None, None),
                                                                 ("GET", "/page", {"Range": "bytes=100-299"}, None), ("POST", "/small", None, b"p" * 3000)]
    in_threads([lambda: http_get(nginx.port, mix * 5, trust) for _ in range(8)])
    count = 8 * 5 * len(mix)
    log, spans = nginx.records(count), b.servers(count)
    assert len(b.settled()) == count
    assert collections.Counter(map(of_span, spans)) == collections.Counter(map(of_access, log))
    assert {s["url.scheme"] for s in spans} == {"https"}
    nothing_lost(b)


def test_nginx_http_2(nginx, observe, tmp_path):
    needs("h2load")
    b = observe([nginx.port]).attached(nginx.pid)
    paths = ["/empty", "/small", "/page", "/none", "/moved"]
    urls = tmp_path / "urls"
    urls.write_text("".join(f"{nginx.url}{path}\n" for path in paths))
    done = subprocess.run(["h2load", "-n", "1000", "-c", "4", "-m", "10", "-i", urls], capture_output=True, text=True, timeout=60, env=PLAIN_ENV)
    assert "1000 done" in done.stdout, done.stdout + done.stderr
    log, spans = nginx.records(1000), b.servers(1000)
    assert len(b.settled()) == 1000
    assert collections.Counter(map(of_span, spans)) == collections.Counter(map(of_access, log))
    assert {s["url.scheme"] for s in spans} == {"https"} and {of_access(line)[4] for line in log} == {"HTTP/2.0"}
    nothing_lost(b)


# ---- curl ----

def gets(b, client, nginx, paths, protocol):
    """client was observed and has asked nginx for paths: both ends of each request are there, and what they say is what nginx logged."""
    b.spans(2 * len(paths))
    spans = b.settled()
    assert len(spans) == 2 * len(paths)
    log = collections.Counter(map(of_access, nginx.records(len(paths))))
    assert collections.Counter(path for _, path, *_ in log.elements()) == collections.Counter(paths)
    servers, clients = [s for s in spans if s.server], [s for s in spans if not s.server]
    assert collections.Counter(map(of_span, servers)) == log
    assert {s["parent_span_id"] for s in servers} == {""}            # curl sends no traceparent
    assert {s["pid"] for s in clients} == {client.pid} and {s["network.protocol.version"] for s in clients} == {protocol}
    assert collections.Counter((s["url.full"], s["http.response.status_code"], s["http.response.body.size"]) for s in clients) == collections.Counter(
        (f"https://localhost:{nginx.port}{path}", status, size) for _, path, status, size, _ in log.elements())
    nothing_lost(b)


@pytest.mark.parametrize("protocol", ["1.1", "2"])
def test_curl_by_openssl(nginx, observe, certificates, protocol):
    """The program waits for its list of addresses, because it would be gone before it is found."""
    needs("curl")
    b = observe([nginx.port], {"executables": "/curl$"}).attached(nginx.pid)
    curl = subprocess.Popen(["curl", "-sS", "-K", "-", "--cacert", certificates.path("ca.pem"), "--http1.1" if protocol == "1.1" else "--http2"],
                            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=PLAIN_ENV)
    b.attached(curl.pid)
    reads(curl.pid, "libssl.*OpenSSL")
    paths = [f"/{name}" for name in [*SIZES, "none"]] * 10
    curl.communicate("".join(f'url = "https://localhost:{nginx.port}{path}"\noutput = /dev/null\n' for path in paths), timeout=30)
    assert curl.returncode == 0
    gets(b, curl, nginx, paths, protocol)


@pytest.mark.parametrize("library", ["libcurl-gnutls.so.4", "libcurl.so.4"])
def test_libcurl_by_gnutls_and_by_openssl(nginx, observe, own_python, certificates, library):
    """What git and many others use. The TLS library is there from the start, or comes with libcurl."""
    client = subprocess.Popen([own_python, PROGRAMS / "curl_client.py", library, certificates.path("ca.pem"), f"https://localhost:{nginx.port}/none", "40"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=PLAIN_ENV)
    until("the library to be mapped", lambda: library.split(".")[0] + ".so" in Path(f"/proc/{client.pid}/maps").read_text())
    b = observe([nginx.port], {"executables": f"^{re.escape(str(own_python))}$"}).attached(nginx.pid).attached(client.pid)
    reads(client.pid, "libgnutls.*GnuTLS" if "gnutls" in library else "libssl.*OpenSSL")
    out, _ = client.communicate("go\n", timeout=60)
    assert out.split() == ["404"] * 40
    gets(b, client, nginx, [f"/none/{i}" for i in range(40)], "2")


# ---- a server on GnuTLS ----

def test_gnutls_serv(server, observe, certificates):
    """Its pages differ in length, and it says how many connections it took: one for each request."""
    needs("gnutls-serv", "curl")
    s = server(["gnutls-serv", "--http", "--x509keyfile", certificates.path("good.key"), "--x509certfile", certificates.path("good.pem"), "-p", "{port}"])
    b = observe([s.port]).attached(s.pid)
    reads(s.pid, "libgnutls.*GnuTLS")
    expected = collections.Counter()
    for i in range(20):
        got = subprocess.run(["curl", "-sS", "--cacert", certificates.path("ca.pem"), f"https://localhost:{s.port}/items/{i}?{'q' * i}", "-o", "/dev/null",
                              "-H", "X-Padding: " + "p" * i * 50, "-w", "%{http_code} %{size_download}"], capture_output=True, text=True, check=True,
                             timeout=20, env=PLAIN_ENV).stdout.split()
        expected["GET", f"/items/{i}", int(got[0]), int(got[1])] += 1
    b.servers(20)
    spans = b.settled()
    assert collections.Counter((x["http.request.method"], x["url.path"], x["http.response.status_code"], x["http.response.body.size"])
                               for x in spans) == expected
    assert len(spans) == 20 == s.output().count("* Accepted connection")
    nothing_lost(b)


# ---- TLS in memory, on an event loop ----

def asks_for_bytes(port, tls):
    """{(path, status, size)}: what eight clients at once asked /bytes/ for, on a connection each."""
    paths = [[f"/bytes/{(t * 25 + i) * 37}" for i in range(25)] for t in range(8)]
    answers = in_threads([lambda t=t: http_get(port, [("GET", path, None, None) for path in paths[t]], tls) for t in range(8)])
    return collections.Counter((path, status, n) for t in range(8) for path, (status, n, _) in zip(paths[t], answers[t]))


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_asyncio_as_a_server(server, observe, certificates, trust, tmp_path, loop):
    pytest.importorskip("uvicorn")
    s = server([sys.executable, "-m", "uvicorn", "--app-dir", PROGRAMS, "--host", "127.0.0.1", "--port", "{port}", "--no-access-log", "--loop", loop,
                "--http", "h11", "--ssl-certfile", certificates.path("good.pem"), "--ssl-keyfile", certificates.path("good.key"),
                "frameworks:fastapi_app"], env={"UPSTREAM": "http://127.0.0.1:9", "LOG": str(tmp_path / "log")})
    b = observe([s.port]).attached(s.pid)
    reads(s.pid, "libssl.*OpenSSL")
    expected = asks_for_bytes(s.port, trust)
    b.servers(200)
    spans = b.settled()
    logged = collections.Counter(f"GET {path} {status}" for path, status, _ in expected.elements())
    until("the log", lambda: collections.Counter((tmp_path / "log").read_text().split("\n")[:-1]) == logged)
    assert collections.Counter((x["url.path"], x["http.response.status_code"], x["http.response.body.size"]) for x in spans) == expected
    assert {(x["url.scheme"], x["kind"]) for x in spans} == {("https", "SERVER")}
    nothing_lost(b)


@pytest.mark.slow
def test_asyncio_as_a_client(server, observe, certificates, tmp_path):
    pytest.importorskip("aiohttp")
    u = Upstream(certificates.server_context("good"))
    try:
        s = server([sys.executable, PROGRAMS / "frameworks.py", "{port}"],
                   env={"UPSTREAM": f"https://localhost:{u.port}", "LOG": str(tmp_path / "log"), "SSL_CERT_FILE": certificates.path("ca.pem")})
        b = observe([s.port]).attached(s.pid)
        in_threads([lambda t=t: http_get(s.port, [("GET", f"/call/items/{t}/{i}", None, None) for i in range(20)]) for t in range(8)])
        b.clients(160)
        spans = b.settled()
    finally:
        u.stop()
    clients = [x for x in spans if not x.server]
    assert len(u.asked) == 160 == len(clients) == len(spans) - len(clients)
    assert collections.Counter(x["url.full"] for x in clients) == collections.Counter(f"https://localhost:{u.port}{path}" for _, path in u.asked)
    assert {(x["http.response.status_code"], x["http.response.body.size"]) for x in clients} == {(200, 100)}
    servers = {x["span_id"]: x["url.path"] for x in spans if x.server}
    for x in clients:
        path = "/call/" + x["url.full"].split("/", 3)[3]
        assert servers[x["parent_span_id"]] == path if x["parent_span_id"] else x["links"], x
    nothing_lost(b)


# ---- what cannot be seen ----

@pytest.mark.slow
def test_grpc_with_its_own_boringssl_is_counted_and_not_read(own_python, server, observe, certificates):
    grpc = pytest.importorskip("grpc")
    where = {"PYTHONPATH": str(Path(grpc.__file__).parents[1])}
    ends = [certificates.path(name) for name in ("good.pem", "good.key")]
    s = server([own_python, PROGRAMS / "grpc_program.py", "server", "{port}", "{log}", *ends], env=where)
    client = subprocess.Popen([own_python, PROGRAMS / "grpc_program.py", "client", str(s.port), "100", certificates.path("ca.pem")],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**PLAIN_ENV, **where})
    b = observe([s.port], {"executables": f"^{re.escape(str(own_python))}$"}).attached(s.pid).attached(client.pid)
    client.stdin.write("go\n")
    client.stdin.flush()
    made = [json.loads(client.stdout.readline()) for _ in range(100)]
    # The client is still there: what is counted of it goes with it. Python's ssl has libssl, which grpcio does not use.
    assert {m["method"]: m["code"] for m in made} == {"Echo": 0, "Slow": 0, "Missing": 5, "Broken": 13, "Unknown": 12} and len(s.records(80)) == 80
    not_read(b, {s.pid: 1, client.pid: 1}, r"\? \S*/cygrpc\S*: BoringSSL is built in", others=True)
    client.communicate(timeout=30)


@pytest.mark.slow
def test_rustls_is_counted_and_not_read(server, observe, certificates, trust):
    if not shutil.which("cargo"):
        pytest.skip("cargo is not installed")
    program = built("hyper", ["cargo", "build", "--release", "--locked", "-q"], "target/release/observed-hyper") / "target/release/observed-hyper"
    s = server([program, "{port}", "{log}", "http://127.0.0.1:9", certificates.path("good.pem"), certificates.path("good.key")])
    b = observe([s.port]).attached(s.pid)
    in_threads([lambda: http_get(s.port, [("GET", "/size/10", None, None), ("POST", "/echo", None, b"e" * 5000)] * 5, trust) for _ in range(7)])
    assert len(s.records(70)) == 70
    not_read(b, {s.pid: 7}, "observed-hyper: rustls is built in")
