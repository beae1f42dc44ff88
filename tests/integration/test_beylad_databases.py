# SPDX-License-Identifier: Apache-2.0
"""redis-py and psycopg as clients, against redis-server's counters and PostgreSQL's log: each command and statement is a span at both ends, and
within a handler of a Flask service its parent is that handler's request."""
import collections
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from env.beylad import codes, nothing_lost, of_query, operations
from env.beylad_servers import PLAIN_ENV, in_threads
from env.servers import PORT, PROGRAMS, ask
from env.wait import until

pytestmark = pytest.mark.slow

COMMANDS = ["SET", "GET", "LPUSH", "INCR", "HSET", "MGET", "EXPIRE", "DEL"]


@pytest.fixture
def client(tmp_path):
    """client(arguments): programs/databases.py on an interpreter of its own path, because the tests run on the same one; go() lets it begin."""
    own = Path(shutil.copy(Path(sys.executable).resolve(), tmp_path / "python"))
    site = [p for p in sys.path if p.endswith("site-packages")]
    started = []

    def make(*arguments):
        env = {**PLAIN_ENV, "PYTHONPATH": ":".join(site), "PYTHONDONTWRITEBYTECODE": "1"}
        p = subprocess.Popen([own, PROGRAMS / "databases.py", *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, env=env)
        p.rule = {"executables": f"^{re.escape(str(own))}$"}
        p.go = lambda: p.communicate("go\n", timeout=60)
        started.append(p)
        return p
    yield make
    for p in started:
        p.kill()
        p.wait()


@pytest.mark.parametrize("mode", ["single", "pipeline", "transaction"])
def test_redis_py(redis, observe, client, mode):
    pytest.importorskip("redis")
    p = client("redis", mode, redis.port, 50)
    b = observe([redis.port], p.rule).attached(redis.pid).attached(p.pid)
    redis.cli("CONFIG", "RESETSTAT")
    out, _ = p.go()
    assert p.returncode == 0, out
    commands, errors = redis.counts()
    asked = collections.Counter({k: n for k, n in commands.items() if k not in ("INFO", "CONFIG RESETSTAT", "COMMAND DOCS")})
    assert asked["SET"] == asked["MGET"] == 50 == errors["WRONGTYPE"] and errors["ERR"] >= 50
    asked["CLIENT"] += errors["ERR"] - 50          # how redis-py begins: what this server does not know it refuses, and does not count as a call
    assert asked["EXEC"] == asked["MULTI"] == (50 if mode == "transaction" else 0)
    b.clients(sum(asked.values()))
    until("both ends", lambda: len([s for s in b.servers() if s["db.operation.name"] in asked]) >= sum(asked.values()))
    spans = [s for s in b.settled() if s["db.operation.name"] not in ("INFO", "CONFIG RESETSTAT", "COMMAND DOCS")]
    clients, servers = [s for s in spans if not s.server], [s for s in spans if s.server]
    assert {s["pid"] for s in clients} == {p.pid} and {s["pid"] for s in servers} == {redis.pid}
    assert operations(clients) == operations(servers) == asked
    assert {s["db.system.name"] for s in spans} == {"redis"}
    assert codes(clients) == codes(servers)
    if mode != "transaction":                      # there the answers are within EXEC's
        assert {k: n for k, n in codes(clients).items() if k in errors} == errors
    parents = {s["span_id"]: s for s in clients}
    for s in servers:
        assert parents[s["parent_span_id"]]["db.operation.name"] == s["db.operation.name"] and s["trace_id"] == parents[s["parent_span_id"]]["trace_id"]
    nothing_lost(b)


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_psycopg(cluster, observe, client, mode):
    pytest.importorskip("psycopg")
    p = client("postgres", mode, cluster.port, 30)
    b = observe([cluster.port], p.rule).attached(cluster.pid).attached(p.pid)
    mark, count = cluster.mark(), 30 * 7
    out, _ = p.go()
    assert p.returncode == 0, out
    log = cluster.statements(mark, count)
    assert len(log) == count and any("$1" in text for text, _, _ in log) == (mode != "simple")
    b.servers(count), b.clients(count)
    assert len(b.settled()) == 2 * count
    expected = collections.Counter((text.split()[0], re.search(r"(?:FROM|INTO|UPDATE) (\w+)", text)[1], code)
                                   for text, _, code in log)
    assert expected["INSERT", "things", "23505"] == expected["SELECT", "nothing", "42P01"] == expected["SELECT", "things", "22012"] == 30
    for spans in (b.clients(), b.servers()):
        assert collections.Counter(map(of_query, spans)) == expected
        assert {(s["db.system.name"], s["db.namespace"], s["status"] == "ERROR") for s in spans if s.get("db.response.status_code")} == \
            {("postgresql", "postgres", True)}
        assert {s["db.query.text"] for s in spans} == {
            "DELETE FROM things WHERE id = ?", "INSERT INTO things VALUES (?)", "SELECT * FROM nothing WHERE id = ?", "SELECT ? / (? - id) FROM things",
            "SELECT name FROM things WHERE id = ?", "UPDATE things SET name = ? WHERE id = ?"}
    assert {s["pid"] for s in b.clients()} == {p.pid}
    parents = {s["span_id"]: s for s in b.clients()}
    assert all(of_query(parents[s["parent_span_id"]]) == of_query(s) for s in b.servers())
    nothing_lost(b)


@pytest.fixture
def service(server, redis, cluster):
    """On 16 threads, its connections are made."""
    pytest.importorskip("gunicorn")
    for i in range(8):
        cluster.client("psql", "-q", "-c", f"CREATE TABLE IF NOT EXISTS things_{i} (id int PRIMARY KEY, name text)")
    s = server([sys.executable, "-m", "gunicorn", "--chdir", PROGRAMS, "--bind", f"127.0.0.1:{PORT}", "--worker-class", "gthread", "--threads", "16",
                "--workers", "1", "--keep-alive", "60", "databases:app"], env={"REDIS_PORT": str(redis.port), "POSTGRES_PORT": str(cluster.port)})
    until("its worker", lambda: len(s.pids()) == 2, 20)
    redis.cli("SET", "number", "1")
    return s


def test_queries_of_a_flask_handler_belong_to_its_request(service, redis, cluster, observe):
    """Eight clients at once: which command or table is asked for tells whose request it was."""
    s, rounds = service, 15
    b = observe([s.port, redis.port, cluster.port])
    for pid in (*s.pids(), redis.pid, cluster.pid):
        b.attached(pid)
    redis.cli("CONFIG", "RESETSTAT")
    mark = cluster.mark()
    commands = ["SET", "GET", "INCR", "HSET", "MGET", "DEL", "SET", "GET"]
    assert {status for statuses in in_threads([lambda i=i: ask(s.port, *[("GET", path) for k in range(rounds) for path in
                                                                          (f"/redis/{commands[i]}/{i}-{k}", f"/postgres/{i}/{k}")]) for i in range(8)])
            for status in statuses} == {200}
    count = 8 * rounds
    log = [text for text, _, code in cluster.statements(mark, count) if "things_" in text]
    counts, _ = redis.counts()
    ours = set(s.pids())

    def of(path_or_pid):
        return b.spans(where=path_or_pid)
    fronts = {x["span_id"]: x for x in b.spans(2 * count, lambda x: x.server and x["pid"] in ours)}
    b.settled()
    fronts = {x["span_id"]: x for x in of(lambda x: x.server and x["pid"] in ours)}
    calls = [x for x in of(lambda x: not x.server and x["pid"] in ours) if x.get("db.collection.name") or x["db.operation.name"] in commands]
    assert len(fronts) == 2 * count == len(calls)
    assert len(log) == count == sum(1 for x in calls if x["db.system.name"] == "postgresql")
    assert operations(x for x in calls if x["db.system.name"] == "redis") == {c: counts[c] for c in set(commands)}
    taken = set()
    for x in calls:
        front = fronts[x["parent_span_id"]]
        words = front["url.path"].split("/")
        what = x["db.operation.name"] if words[1] == "redis" else x["db.collection.name"].removeprefix("things_")
        assert words[2] == what and x["trace_id"] == front["trace_id"] and not x["links"], (x, front)
        assert front["start_unix_nano"] <= x["start_unix_nano"] and x["end_unix_nano"] <= front["end_unix_nano"]
        taken.add(front["span_id"])
    assert taken == set(fronts)                    # each request has its own query
    nothing_lost(b)
