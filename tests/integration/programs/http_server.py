# SPDX-License-Identifier: Apache-2.0
"""A server on Python's http.server that logs what it did with each request, as JSON lines: the oracle for who observes it.

    /items/N            a short text                      /bytes/N      a body of N bytes
    /status/CODE        that status                       /chunked/N    N chunks of 10 bytes
    /close/N            N bytes, until the connection ends /slow/MS/... after MS milliseconds
    /call/REST          asks --upstream for /REST and answers its body; --calls says by which library
    POST, PUT           the body is read and its size answered

Times are CLOCK_REALTIME nanoseconds: begun when the request line was read, ended when the last byte was written."""
import argparse
import http.client
import http.server
import json
import os
import socket
import socketserver
import ssl
import threading
import time
import urllib.request

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--log", required=True)
parser.add_argument("--protocol", default="HTTP/1.1")
parser.add_argument("--certificate")
parser.add_argument("--key")
parser.add_argument("--upstream")
parser.add_argument("--calls", choices=("urllib", "requests", "http.client"), default="urllib")
parser.add_argument("--serial", action="store_true", help="one connection after the other, on one thread")
options = parser.parse_args()
log = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
kept = threading.local()                           # per thread: the session or connection to the upstream


def ask(path, headers):
    url = options.upstream + path
    if options.calls == "urllib":
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return answer.read()
    if options.calls == "requests":
        import requests
        if not hasattr(kept, "session"):
            kept.session = requests.Session()
            kept.session.trust_env = False
        return kept.session.get(url, headers=headers, timeout=30).content
    if not hasattr(kept, "connection"):
        kept.connection = http.client.HTTPConnection(options.upstream.split("//")[1], timeout=30)
    kept.connection.request("GET", path, headers=headers)
    return kept.connection.getresponse().read()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = options.protocol
    timeout = 60

    def setup(self):
        super().setup()
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending = None

    def parse_request(self):                       # the request line was just read
        self.begun = time.time_ns()
        self.request_bytes = self.response_bytes = 0
        return super().parse_request()

    def note(self, status, until_close=False):
        record = {"method": self.command, "path": self.path.partition("?")[0], "status": status, "request_bytes": self.request_bytes,
                  "response_bytes": self.response_bytes, "peer": self.client_address[0], "peer_port": self.client_address[1],
                  "thread": threading.get_native_id(), "begun": self.begun, "ended": time.time_ns()}
        if until_close:
            self.pending = record
        else:
            os.write(log, (json.dumps(record) + "\n").encode())

    def read_body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            left = int(self.headers.get("Content-Length", 0))
            while left > 0 and (got := self.rfile.read(min(left, 65536))):
                self.request_bytes += len(got)
                left -= len(got)
            return left == 0
        while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
            self.request_bytes += len(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline() not in (b"\r\n", b"\n", b""):
            pass                                   # trailers
        return True

    def answer(self, body, status=200, headers=()):
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and body:
            self.wfile.write(body)
            self.response_bytes = len(body)
        self.note(status)

    def answer_chunked(self, n):
        self.send_response_only(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for i in range(n):
            self.wfile.write(b"a\r\n" + b"%010d" % i + b"\r\n")
            self.response_bytes += 10
        self.wfile.write(b"0\r\n\r\n")
        self.note(200)

    def answer_until_close(self, n):
        self.send_response_only(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"c" * n)
        self.response_bytes = n
        self.close_connection = True
        self.note(200, until_close=True)

    def serve(self):
        _, what, *rest = self.path.partition("?")[0].split("/", 2)
        rest = rest[0] if rest else ""
        if not self.read_body():
            self.close_connection = True
            return
        if what == "bytes":
            self.answer(b"b" * int(rest))
        elif what == "status":
            self.answer(b"" if rest in ("204", "304") else f"status {rest}".encode(), int(rest))
        elif what == "chunked":
            self.answer_chunked(int(rest))
        elif what == "close":
            self.answer_until_close(int(rest))
        elif what == "slow":
            time.sleep(int(rest.split("/")[0]) / 1000)
            self.answer(b"slow")
        elif what == "call":
            self.answer(ask("/" + rest, {k: v for k, v in self.headers.items() if k.lower() in ("traceparent", "tracestate")}))
        elif self.request_bytes:
            self.answer(b"%d bytes" % self.request_bytes)
        else:
            self.answer(f"this is {self.path}".encode())

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = do_PURGE = serve

    def log_message(self, *args):
        pass


class Server(http.server.HTTPServer if options.serial else http.server.ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True

    def server_bind(self):                         # without the look-up of the host's name
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address

    def finish_request(self, request, client_address):
        """On the thread of the connection: the handshake belongs there, or a slow client would stop all others."""
        if options.certificate:
            request.settimeout(60)
            request = context.wrap_socket(request, server_side=True)
        handler = Handler(request, client_address, self)
        if options.certificate:
            try:
                request.unwrap()
            except (OSError, ValueError):
                pass
            request.close()
        if handler.pending:
            self.shutdown_request(request)
            handler.pending["ended"] = time.time_ns()
            os.write(log, (json.dumps(handler.pending) + "\n").encode())

    def handle_error(self, request, client_address):
        pass                                       # clients that reset, among others: what was answered stands in the log


if options.certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.certificate, options.key)
with Server(("127.0.0.1", options.port), Handler) as server:
    server.serve_forever()
