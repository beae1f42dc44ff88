# SPDX-License-Identifier: Apache-2.0
"""A scripted OTLP/HTTP receiver. It checks what it gets as strictly as a real one, records all of it, and misbehaves on demand.

    sink.behave(status(503, {"Retry-After": "1"}))         from now on
    sink.behave(hang(), signal="traces")                   for one signal only
    sink.script([status(503), close_mid_response()])       one answer each, then as before
    sink.down() / sink.up()                                refuse connections / listen again

Anything that no correct sender would send goes to sink.violations, and the fixture fails the test with it."""
import gzip
import io
import select
import socket
import ssl
import threading
import time
import zlib

from env import otlp
from env.http import Closed, Malformed, Stream
from env.wait import free_port


# ---- behaviours: called with the connection and the whole request ----

def ok():
    def behaviour(c, r):
        c.answer(200, {"Content-Type": r.type}, b"{}" if r.json else b"")
    return behaviour


def status(code, headers=None, body=b""):
    def behaviour(c, r):
        c.answer(code, {"Content-Type": "text/plain", **(headers or {})}, body)
    return behaviour


def bare_2xx(code):
    """A success without an OTLP body, as some receivers send it."""
    def behaviour(c, r):
        c.answer(code, {}, b"" if code == 204 else b"thanks")
    return behaviour


def partial_success(rejected, message=""):
    def behaviour(c, r):
        answer = otlp.RESPONSE[r.signal]()
        setattr(answer.partial_success, otlp.REJECTED[r.signal], rejected)
        answer.partial_success.error_message = message
        if r.json:
            text = '{"partialSuccess":{"%s":"%d","errorMessage":"%s"}}' % (
                {"traces": "rejectedSpans", "metrics": "rejectedDataPoints", "logs": "rejectedLogRecords"}[r.signal], rejected, message)
            c.answer(200, {"Content-Type": otlp.JSON}, text.encode())
        c.answer(200, {"Content-Type": otlp.PROTOBUF}, answer.SerializeToString())
    return behaviour


def hang():
    """Takes the request and never answers."""
    def behaviour(c, r):
        c.wait_for_change()
        c.close()
    return behaviour


def hold():
    """Answers once the behaviour changes, by the new one."""
    def behaviour(c, r):
        c.wait_for_change()
        c.sink.behaviours[r.signal](c, r)
    return behaviour


def slow_answer(seconds, then=None):
    def behaviour(c, r):
        c.pause(seconds)
        (then or ok())(c, r)
    return behaviour


def close_mid_response():
    def behaviour(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 1000\r\n\r\nhalf")
        c.close()
    return behaviour


def close_without_answer():
    def behaviour(c, r):
        c.close()
    return behaviour


def garbage(data=b"\x00\x16\x03 this is no HTTP\r\n\r\n"):
    def behaviour(c, r):
        c.send(data)
        c.close()
    return behaviour


def huge_answer(size, code=200):
    def behaviour(c, r):
        c.note(code)
        c.send(f"HTTP/1.1 {code} X\r\nContent-Type: application/octet-stream\r\nContent-Length: {size}\r\n\r\n".encode())
        try:
            block = bytes(65536)
            for _ in range(size // len(block)):
                c.send(block)
            c.send(bytes(size % len(block)))
        except OSError:                            # the peer had enough
            c.close()
    return behaviour


def too_large_over(limit):
    """413 for bodies of more than limit bytes before compression."""
    def behaviour(c, r):
        (status(413) if len(r.body) > limit else ok())(c, r)
    return behaviour


def poison(name, body=b"cannot take it"):
    """400 for every request that holds an item of that name."""
    def behaviour(c, r):
        (status(400, body=body) if name in otlp.names(r.message) else ok())(c, r)
    return behaviour


# ---- what was received ----

class Request:
    def __init__(self, method, path, headers, wire, body, signal, message, at, peer):
        self.method, self.path, self.wire, self.body, self.signal, self.message, self.at, self.peer = \
            method, path, wire, body, signal, message, at, peer
        self.all_headers = headers
        self.headers = dict(headers)
        self.type = self.headers.get("content-type")
        self.json = self.type == otlp.JSON
        self.status = None                         # what it was answered; None: nothing
        self.items = otlp.count(message)
        self.names = otlp.names(message)

    @property
    def accepted(self):
        return self.status is not None and 200 <= self.status < 300

    def __repr__(self):
        return f"<{self.signal} {self.items} items, {len(self.wire)} bytes: {self.status}>"


class Violation(Exception):
    pass


def need(condition, what):
    if not condition:
        raise Violation(what)


def decompress(encoding, wire):
    if encoding is None:
        return wire
    need(encoding == "gzip", f"Content-Encoding {encoding!r}")
    unpack = zlib.decompressobj(wbits=31)
    body = unpack.decompress(wire) + unpack.flush()
    need(unpack.eof and not unpack.unused_data, "the gzip member is not whole, or something lies behind it")
    need(body == gzip.GzipFile(fileobj=io.BytesIO(wire)).read(), "two gzip readers differ")
    return body


def check_request(line, headers, wire, paths, at, peer):
    """The request as a strict receiver sees it; Violation says what no correct sender does."""
    method, _, rest = line.partition(" ")
    path, _, version = rest.rpartition(" ")
    need(method == "POST", f"method {method!r}")
    need(version == "HTTP/1.1", f"version {version!r}")
    need(path in paths, f"path {path!r}, expected one of {list(paths)}")
    signal = paths[path]
    for name in ("host", "content-type", "content-length", "content-encoding", "authorization", "transfer-encoding", "user-agent"):
        need(sum(n == name for n, _ in headers) <= 1, f"header {name} twice")
    names = dict(headers)
    need("host" in names and names["host"], "no Host")
    need(names.get("user-agent", "").startswith("collectord/"), f"User-Agent {names.get('user-agent')!r}")
    need(names.get("content-type") in (otlp.PROTOBUF, otlp.JSON), f"Content-Type {names.get('content-type')!r}")
    need("transfer-encoding" not in names, "chunked, although the length is known")
    need("expect" not in names, "Expect")
    body = decompress(names.get("content-encoding"), wire)
    need(body, "an empty body")
    try:
        if names["content-type"] == otlp.JSON:
            message = otlp.from_json(signal, body)
        else:
            message = otlp.REQUEST[signal].FromString(body)
    except Exception as e:
        raise Violation(f"the body is no {otlp.REQUEST[signal].DESCRIPTOR.name}: {e}") from e
    need(any(True for _ in otlp.walk(message)), "a request without an item")
    return Request(method, path, headers, wire, body, signal, message, at, peer)


class Connection:
    def __init__(self, sink, sock, peer):
        self.sink, self.sock, self.peer = sink, sock, peer
        self.request = None                        # the one being answered
        self.open = True

    def send(self, data):
        self.sock.sendall(data)

    def note(self, code):
        """Records the status before the bytes go, so that who sees the effect of an answer also sees it here."""
        with self.sink.lock:
            self.request.status = code
            self.sink.lock.notify_all()

    def answer(self, code, headers, body):
        self.note(code)
        lines = [f"HTTP/1.1 {code} X"] + [f"{n}: {v}" for n, v in headers.items() if v is not None]
        if code != 204:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def pause(self, seconds):
        """Waits, but not longer than the sink lives."""
        self.sink.stopped.wait(seconds)

    def wait_for_change(self):
        """Until the behaviour changes, the sink ends, or the peer leaves."""
        begun = self.sink.generation
        while self.sink.generation == begun and not self.sink.stopped.is_set():
            if select.select([self.sock], [], [], 0.02)[0]:
                try:
                    if not self.sock.recv(1, socket.MSG_PEEK):
                        return
                except (OSError, ValueError):
                    return

    def close(self):
        self.open = False
        try:
            self.sock.close()
        except OSError:
            pass


class Sink:
    def __init__(self, name="sink", tls=None, port=None, host="127.0.0.1"):
        self.name, self.tls, self.host = name, tls, host
        self.port = port or free_port()
        self.paths = {f"/v1/{s}": s for s in otlp.SIGNALS}
        self.lock = threading.Condition()
        self.requests, self.violations, self.tls_errors = [], [], []
        self.connections_made = 0
        self.behaviours = {s: ok() for s in otlp.SIGNALS}
        self.queue = []
        self.generation = 0
        self.read_rate = None                      # bytes a second; None: as they come
        self.stopped = threading.Event()
        self.listener = None
        self.live = set()
        self.up()

    @property
    def url(self):
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    # ---- control ----

    def up(self):
        if self.listener:
            return self
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, self.port))
        listener.listen(128)
        self.listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return self

    def down(self):
        """Closes the listener and every connection: what follows is refused."""
        listener, self.listener = self.listener, None
        if listener:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self.lock:
            self.generation += 1
            live = list(self.live)
        for sock in live:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        return self

    def stop(self):
        self.stopped.set()
        self.down()

    def behave(self, behaviour, signal=None):
        with self.lock:
            for s in [signal] if signal else otlp.SIGNALS:
                self.behaviours[s] = behaviour
            self.generation += 1
        return self

    def script(self, behaviours):
        with self.lock:
            self.queue = list(behaviours)
            self.generation += 1
        return self

    # ---- what came ----

    def received(self, signal=None):
        with self.lock:
            return [r for r in self.requests if signal in (None, r.signal)]

    def accepted(self, signal=None):
        return [r for r in self.received(signal) if r.accepted]

    def names(self, signal=None):
        """Names of all accepted items, in the order they came."""
        return [n for r in self.accepted(signal) for n in r.names]

    def items(self, signal=None):
        return sum(r.items for r in self.accepted(signal))

    def wait(self, condition, timeout=10, what=None):
        """Waits until condition(self) is true; returns it."""
        deadline = time.monotonic() + timeout
        with self.lock:
            while True:
                got = condition(self)
                if got:
                    return got
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"{self.name}: waited {timeout} s for {what or 'requests'}; "
                                         f"came: {self.requests[-20:]}, violations: {self.violations}")
                self.lock.wait(min(left, 0.25))

    def wait_names(self, names, signal=None, timeout=10):
        """Waits until every one of names was accepted."""
        wanted = set(names)
        return self.wait(lambda s: wanted <= set(s.names(signal)), timeout, f"{len(wanted)} names, such as {sorted(wanted)[:3]}")

    # ---- serving ----

    def _accept(self, listener):
        while True:
            try:
                sock, peer = listener.accept()
            except OSError:
                return
            self.connections_made += 1
            threading.Thread(target=self._serve, args=(sock, peer), daemon=True).start()

    def _serve(self, sock, peer):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self.tls:
                sock.settimeout(10)
                try:
                    sock = self.tls.wrap_socket(sock, server_side=True)
                except (ssl.SSLError, OSError) as e:
                    self.tls_errors.append(str(e))
                    sock.close()
                    return
                sock.settimeout(None)
            with self.lock:
                self.live.add(sock)
            connection = Connection(self, sock, peer)
            stream = Stream(sock)
            if self.read_rate:
                stream.chunk = max(self.read_rate // 50, 1)
                stream.pause = lambda: self.stopped.wait(0.02)
            while connection.open and self._one(connection, stream):
                pass
        except OSError:
            pass
        finally:
            with self.lock:
                self.live.discard(sock)
            try:
                sock.close()
            except OSError:
                pass

    def _one(self, connection, stream):
        """One request. False at the end of the connection."""
        try:
            line = stream.line().decode("latin-1")
            headers = stream.headers()
            length = dict(headers).get("content-length", "")
            need(length.isdigit(), f"Content-Length {length!r}")
            wire = stream.exactly(int(length))
            need(not stream.buffer, f"{len(stream.buffer)} bytes behind the body, before the answer")
            request = check_request(line, headers, wire, self.paths, time.monotonic(), connection.peer)
        except Closed:
            return False
        except (Violation, Malformed) as e:
            if self.listener and not (isinstance(e, Malformed) and "ended" in str(e)):     # a sender may end a request it gave up
                with self.lock:
                    self.violations.append(f"{self.name}: {e}")
                    self.lock.notify_all()
            try:
                connection.send(b"HTTP/1.1 400 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            except OSError:
                pass
            return False
        with self.lock:
            behaviour = self.queue.pop(0) if self.queue else self.behaviours[request.signal]
            self.requests.append(request)
            self.lock.notify_all()
        connection.request = request
        try:
            behaviour(connection, request)
        except OSError:
            pass
        return connection.open
