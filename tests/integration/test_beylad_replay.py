# SPDX-License-Identifier: Apache-2.0
"""beylad --replay: recordings through the same code as live events, without root and without a kernel that allows BPF. The recordings are
those the fuzzer starts from; each holds a conversation whose spans are known."""
import json
import subprocess

import pytest

from env.daemon import ROOT, binary

RECORDINGS = ROOT / "tests/fuzz/corpus/recording"


def replay(path, *args, stdin=None):
    return subprocess.run([binary("beylad"), "--replay", str(path), *args], stdin=stdin, capture_output=True, text=True, timeout=30)


def spans(path):
    got = replay(path)
    assert got.returncode == 0, got.stderr
    return [json.loads(line) for line in got.stdout.splitlines()]


@pytest.mark.row("BEY-07")
def test_http():
    users, upload = spans(RECORDINGS / "http")
    assert users["name"] == "GET /users/*" and users["kind"] == "SERVER" and users["service"] == "shop" and users["pid"] == 42
    assert users["attributes"]["url.path"] == "/users/4711" and users["attributes"]["http.response.status_code"] == 404
    assert users["attributes"]["client.port"] == 50007 and users["attributes"]["server.port"] == 8080
    assert users["end_unix_nano"] - users["start_unix_nano"] == 1_000_000
    assert upload["attributes"]["http.request.body.size"] == 5000     # none of which was captured
    assert upload["attributes"]["http.response.body.size"] == 2


@pytest.mark.row("BEY-22")
def test_databases():
    first, second, query = spans(RECORDINGS / "databases")
    assert [s["name"] for s in (first, second)] == ["SET", "GET"]
    assert {s["attributes"]["db.system.name"] for s in (first, second)} == {"redis"}
    assert query["attributes"]["db.system.name"] == "postgresql" and query["attributes"]["db.query.text"] == "SELECT ?"


@pytest.mark.row("BEY-09")
def test_http2():
    [span] = spans(RECORDINGS / "http2")
    assert span["name"] == "GET /" and span["attributes"]["network.protocol.version"] == "2"
    assert span["attributes"]["http.response.status_code"] == 200


def test_goroutines_of_streams():
    """Three streams read by one goroutine; two are known to be served by one each, which call out on connections of a pool and of their own."""
    found = spans(RECORDINGS / "streams")
    servers = {s["span_id"]: s["attributes"]["url.path"] for s in found if s["kind"] == "SERVER"}
    parents = {s["attributes"]["url.full"].rpartition("/for/")[2]: servers.get(s["parent_span_id"]) for s in found if s["kind"] == "CLIENT"}
    assert sorted(servers.values()) == ["/a", "/b", "/c"]
    assert parents == {"a": "/a", "b": "/b", "nobody": None}
    assert not any(s["links"] for s in found)


def test_text_and_standard_input():
    with open(RECORDINGS / "databases", "rb") as f:
        got = replay("-", "--print", "text", stdin=f)
    assert got.returncode == 0, got.stderr
    assert [line.split(" ")[1:3] for line in got.stdout.splitlines()] == [["cache", "SERVER"], ["cache", "SERVER"], ["db", "SERVER"]]


@pytest.mark.parametrize("damage, words", [
    (lambda b: b"", "is no recording"), (lambda b: b"x" + b[1:], "is no recording"), (lambda b: b[:-1], "cut short"),
    (lambda b: b[:24] + b"\xff" * 24 + b[48:], "an event that is cut short or none"),
])
def test_damaged(tmp_path, damage, words):
    (tmp_path / "damaged").write_bytes(damage((RECORDINGS / "http").read_bytes()))
    got = replay(tmp_path / "damaged")
    assert got.returncode == 1
    assert words in got.stderr and "damaged" in got.stderr, got.stderr


def test_missing():
    got = replay("/nowhere/at/all")
    assert got.returncode == 1 and "/nowhere/at/all" in got.stderr
