# SPDX-License-Identifier: Apache-2.0
"""caller.py PORT [threads|asyncio]: serves on PORT; GET /call/UPSTREAM/PATH asks 127.0.0.1:UPSTREAM for /PATH, without handing headers on, and
answers when it has its answer. Does what the lines of JSON on standard input say, and answers each with a line."""
import array
import asyncio
import fcntl
import hashlib
import http.client
import http.server
import json
import select
import socket
import struct
import sys
import termios
import threading

import requests


def digest(data):
    return hashlib.sha256(data).hexdigest()


def body_of(n):
    return bytes(i % 251 for i in range(n))


# ---- serving ----

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        _, _, port, path = self.path.split("/", 3)
        for again in path.split("+"):
            c = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
            c.request("GET", "/" + again)
            answer = c.getresponse().read()
            c.close()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


async def ask(port, path):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
    writer.close()
    return body


async def on_connection(reader, writer):
    """Streams: the answer begins before the call out is made, and ends behind it, when the path says so."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            _, verb, port, path = head.split(b" ")[1].decode().split("/", 3)
            if verb == "stream":
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
                await writer.drain()
                await ask(int(port), "wait/200/pause")
            body = await ask(int(port), path)
            if verb == "stream":
                writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def serve_asyncio(port, started):
    server = await asyncio.start_server(on_connection, "127.0.0.1", port, backlog=256)
    started.set()
    async with server:
        await server.serve_forever()


# ---- doing ----

connections = {}


def do_http(c):
    """Requests on one connection, which is kept under a name if it has one: [[status, length, digest of the answer]]."""
    h = connections.get(c.get("keep")) or http.client.HTTPConnection("127.0.0.1", c["port"], timeout=30)
    answers = []
    for r in c["requests"]:
        body = body_of(r.get("body", 0)) or None
        chunked = r.get("chunked", False)
        h.request(r.get("method", "POST" if body else "GET"), r["path"], iter([body[:7], body[7:]]) if chunked else body, r.get("headers", {}),
                  encode_chunked=chunked)
        a = h.getresponse()
        data = a.read()
        answers.append([a.status, len(data), digest(data)])
    if "keep" in c:
        connections[c["keep"]] = h
    else:
        h.close()
    return answers


def do_requests(c):
    """The same with the library requests, a connection for each."""
    return [requests.request(r.get("method", "GET"), f"http://127.0.0.1:{c['port']}{r['path']}", headers=r.get("headers"), data=body_of(r.get("body", 0)),
                             timeout=30).status_code for r in c["requests"]]


def do_raw(c):
    """Sends, each a call of its own, then reads until `answer` bytes came or the other end closes; their digest."""
    with socket.create_connection(("127.0.0.1", c["port"]), 30) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in c["sends"]:
            s.sendall(part.encode("latin-1"))
        data = b""
        while len(data) < c["answer"]:
            more = s.recv(65536)
            if not more:
                break
            data += more
        return data.decode("latin-1")


def do_nonblocking(c):
    """Requests with a body on one connection whose sends never wait: [how many calls each took]."""
    calls = []
    with socket.create_connection(("127.0.0.1", c["port"]), 30) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
        s.setblocking(False)
        for r in c["requests"]:
            left = f"POST {r['path']} HTTP/1.1\r\nHost: x\r\nContent-Length: {r['body']}\r\n\r\n".encode() + body_of(r["body"])
            n = 0
            while left:
                assert select.select([], [s], [], 30)[1]
                try:
                    left = left[s.send(left):]
                    n += 1
                except BlockingIOError:
                    pass
            data = b""
            while not data.endswith(b"\r\n\r\n" + b"r" * 10):
                assert select.select([s], [], [], 30)[0]
                data += s.recv(65536)
            calls.append(n)
    return calls


def do_waiting(c):
    """One request on a connection of its own; once the answer is there, how many bytes the kernel says wait (FIONREAD), and how many do."""
    with socket.create_connection(("127.0.0.1", c["port"]), 30) as s:
        s.sendall(f"GET {c['path']} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert select.select([s], [], [], 30)[0]
        n = array.array("i", [0])
        fcntl.ioctl(s, termios.FIONREAD, n)
        return [n[0], len(s.recv(65536))]


def do_reader(c):
    """A request while another thread waits in recv() since the connection began; how much that got."""
    with socket.create_connection(("127.0.0.1", c["port"])) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 20, 0))
        got = []

        def read():
            while sum(got) < c["answer"]:
                got.append(len(s.recv(65536)))
                if got[-1] == 0:
                    break
        reader = threading.Thread(target=read)
        reader.start()
        while open(f"/proc/self/task/{reader.native_id}/syscall").read().split()[0] != "45":       # recvfrom(2)
            pass
        s.sendall(f"GET {c['path']} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        reader.join(20)
        return sum(got)


def main():
    port, mode = int(sys.argv[1]), (sys.argv[2:] or ["threads"])[0]
    if mode == "asyncio":
        started = threading.Event()
        threading.Thread(target=asyncio.run, args=(serve_asyncio(port, started),), daemon=True).start()
        started.wait()
    else:
        threading.Thread(target=Server(("127.0.0.1", port), Handler).serve_forever, daemon=True).start()
    print("ready", flush=True)
    doing = {"http": do_http, "requests": do_requests, "raw": do_raw, "nonblocking": do_nonblocking, "waiting": do_waiting, "reader": do_reader}
    for line in sys.stdin:
        command = json.loads(line)
        try:
            print(json.dumps({"result": doing[command.pop("do")](command)}), flush=True)
        except Exception as e:                     # whatever it is, the test has to hear of it
            print(json.dumps({"error": repr(e)}), flush=True)


main()
