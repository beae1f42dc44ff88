# SPDX-License-Identifier: Apache-2.0
"""How beylad sees sockets: by hooks inside of them, or by system calls where the kernel has none. What it tells is the same."""
import collections
import json
import re
import socket
import subprocess
import sys

import pytest

from env.beylad import has_socket_hooks
from env.daemon import binary
from env.servers import PORT, PROGRAMS, Nowhere, started
from env.wait import until

CALLS = ("recv", "read", "readv", "recvmsg", "peek", "sendfile", "splice")
NOT_SEEN = "io_uring, sendmmsg and recvmmsg are not seen"
BOTH = pytest.mark.techniques("auto", "syscall")


@pytest.fixture
def server(tmp_path, request):
    yield from started(tmp_path, request)


@pytest.fixture
def observe(beylad):
    nowhere = Nowhere()
    yield lambda ports=(), config=None, **options: beylad(ports, {**nowhere.config, **(config or {})}, **options)
    nowhere.stop()


def ask(s, path):
    """One request on an open connection; returns the size of the answer's body."""
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    got = b""
    while b"\r\n\r\n" not in got:
        got += s.recv(65536)
    head, body = got.split(b"\r\n\r\n", 1)
    length, n = int(re.search(rb"content-length: (\d+)", head)[1]), len(body)
    while n < length:
        n += len(s.recv(65536))
    return n


def by_path(spans):
    return collections.Counter((s["url.path"], s["http.response.status_code"], s["http.response.body.size"], s.get("beylad.unobserved")) for s in spans)


@BOTH
@pytest.mark.parametrize("sizes", [(0, 1, 5000), (200_000,)])
def test_each_call_that_moves_bytes(server, observe, sizes):
    """What the kernel calls it, and how many pieces it is in, makes no difference to the request."""
    s = server([sys.executable, PROGRAMS / "calls_server.py", PORT])
    d = observe([s.port]).attached(s.pid)
    paths = [f"/{call}/{size}" for call in CALLS for size in sizes]
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", s.port)) as c:
            for path in paths:
                assert ask(c, path) == int(path.split("/")[2])
    d.servers(3 * len(paths))
    assert by_path(d.settled()) == {(p, 200, int(p.split("/")[2]), None): 3 for p in paths}
    assert d.stats()["requests_lost"] == 0 and d.stats()["gaps"] == 0


@BOTH
def test_unix_sockets_that_come_and_go(server, observe, tmp_path):
    """The kernel gives a new socket the memory of one that ended: it is another connection all the same."""
    path = tmp_path / "socket"
    s = server([sys.executable, PROGRAMS / "calls_server.py", PORT, path])
    d = observe([s.port]).attached(s.pid)
    until("the server's socket", path.exists)
    for i in range(200):
        with socket.socket(socket.AF_UNIX) as c:
            c.connect(str(path))
            ask(c, f"/recv/{i}")
    spans = d.servers(200)
    assert {p: n for (p, *_), n in by_path(spans).items()} == {f"/recv/{i}": 1 for i in range(200)}
    assert d.stats()["connections_opened"] == 200


@BOTH
def test_status_log_and_explain_name_the_technique(server, observe, technique):
    s = server([sys.executable, "-m", "http.server", PORT, "--bind", "127.0.0.1"])
    d = observe([s.port]).attached(s.pid)
    by_call = technique == "syscall" or not has_socket_hooks()
    hooks = "tp_btf sys_exit" if by_call else "tp_btf sock_send_length"
    explained = subprocess.run([str(binary("beylad")), "--config", str(d.config_path), "--explain", str(s.pid)], capture_output=True, text=True)
    texts = [json.loads(d.control("json status"))["sockets"], d.log(), d.control("status"), d.control(f"explain {s.pid}"), explained.stdout]
    for text in texts:
        assert hooks in text and (NOT_SEEN in text) == by_call, text


@pytest.mark.techniques("socket")
def test_a_technique_that_the_kernel_lacks_is_an_error_that_says_so(beylad, technique):
    if has_socket_hooks():
        assert "tp_btf sock_send_length" in beylad([1], {"collector": "/nowhere.sock"}).control("status")
        return
    d = beylad([1], {"collector": "/nowhere.sock"}, start=False)
    d.start(ready=False)
    assert d.process.wait(20) != 0 and "sock_send_length" in d.log()
    d.process = None
