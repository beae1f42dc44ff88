# SPDX-License-Identifier: Apache-2.0
"""Requests that beylad must not lose sight of in silence."""
import signal
import socket
import subprocess
import sys
import time

import pytest

from env.wait import until
from test_beylad_exact import balanced, nginx, nginx_started, observe, quiet, until_counted  # noqa: F401

WHOLE_CALLS = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
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


def test_a_body_that_looks_like_tls_in_the_midst_of_a_call(beylad):
    """The kernel side hands a call on in pieces of 16 KiB: what a later piece begins with says nothing of the connection."""
    p = subprocess.Popen([sys.executable, "-c", WHOLE_CALLS], stdout=subprocess.PIPE, text=True)
    try:
        port = int(p.stdout.readline())
        d = beylad([port]).attached(p.pid)
        head = b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n"
        body = bytearray(b"a" * 20000)
        body[16384 - len(head):16387 - len(head)] = b"\x16\x03\x01"
        with socket.create_connection(("127.0.0.1", port)) as c:
            c.sendall(head + body)
            assert c.recv(1000)
            for i in range(5):
                c.sendall(b"GET /after HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
                assert c.recv(1000)
        assert len(d.servers(6)) == 6
        assert d.stats()["connections_encrypted"] == 0
    finally:
        p.kill()
        p.wait()


def test_ends_of_connections_that_waited_are_heard_of_under_steady_load(observe, nginx):  # noqa: F811
    """The ring is never quiet for a second; the queue of lost ends is read all the same."""
    d = observe(nginx)
    held = [socket.create_connection(("127.0.0.1", nginx.port)) for _ in range(50)]
    for c in held:
        c.sendall(b"GET /held HTTP/1.1\r\nHost: x\r\n")
    until("their requests to be open", lambda: d.stats()["spans_open"] == 50)
    d.process.send_signal(signal.SIGSTOP)
    try:
        subprocess.run(["ab", "-q", "-k", "-n", "40000", "-c", "4", f"{nginx.url}/flood"], check=True, stdout=subprocess.DEVNULL)
        for c in held:
            c.close()
    finally:
        d.process.send_signal(signal.SIGCONT)
    # Not asked meanwhile: whoever asks for stats empties the ring, and then it looks quiet.
    with socket.create_connection(("127.0.0.1", nginx.port)) as c:
        for _ in range(200):
            c.sendall(b"GET /steady HTTP/1.1\r\nHost: x\r\n\r\n")
            assert c.recv(1000)
            time.sleep(0.02)
        assert d.stats()["spans_open"] <= 1


@pytest.mark.parametrize("streams", [1, 10])
def test_a_ring_that_overflows_over_http2_by_tls(observe, server, certificates, streams):  # noqa: F811
    """As test_a_ring_that_overflows_over_http2, encrypted."""
    s = nginx_started(server, f" ssl http2; ssl_certificate {certificates.path('good.pem')}; ssl_certificate_key {certificates.path('good.key')}")
    d = observe(s)
    flood = subprocess.Popen(["h2load", "-n", "70000", "-c", "4", "-m", str(streams), f"https://127.0.0.1:{s.port}/flood"], stdout=subprocess.DEVNULL)
    until_counted(s, 1000)
    d.process.send_signal(signal.SIGSTOP)
    try:
        until_counted(s, 50_000)
    finally:
        d.process.send_signal(signal.SIGCONT)
    assert flood.wait(60) == 0
    assert quiet(s) == 70_000
    spans, lost = balanced(d, 70_000, 10)
    assert lost > 0 and spans > 0
