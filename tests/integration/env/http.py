# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 by hand, for both ends: reads messages from a socket byte by byte as the RFC has them, and says what is wrong with them."""
import socket


class Malformed(Exception):
    pass


class Closed(Exception):
    """The peer closed between two messages."""


class Stream:
    """A socket with a buffer. slow: bytes a second at most, for a reader that lags."""

    def __init__(self, sock):
        self.sock = sock
        self.buffer = b""
        self.chunk = 65536
        self.pause = None                          # called before each read

    def more(self):
        if self.pause:
            self.pause()
        data = self.sock.recv(self.chunk)
        if not data:
            return False
        self.buffer += data
        return True

    def line(self):
        while b"\r\n" not in self.buffer:
            if len(self.buffer) > 65536:
                raise Malformed("a line of more than 64 KiB")
            if not self.more():
                if self.buffer:
                    raise Malformed(f"the connection ended inside a line: {self.buffer[:80]!r}")
                raise Closed()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        if b"\n" in line or b"\r" in line:
            raise Malformed(f"a bare CR or LF: {line[:80]!r}")
        return line

    def exactly(self, n):
        parts, have = [self.buffer], len(self.buffer)
        self.buffer = b""
        while have < n:
            if not self.more():
                raise Malformed(f"the connection ended after {have} of {n} bytes of a body")
            parts.append(self.buffer)
            have += len(self.buffer)
            self.buffer = b""
        whole = b"".join(parts)
        self.buffer = whole[n:]
        return whole[:n]

    def to_end(self):
        while self.more():
            pass
        whole, self.buffer = self.buffer, b""
        return whole

    def headers(self):
        """[(lower-case name, value)] up to the empty line."""
        found = []
        while True:
            line = self.line()
            if not line:
                return found
            name, colon, value = line.partition(b":")
            if not colon or not name or name != name.strip() or b" " in name:
                raise Malformed(f"not a header: {line[:80]!r}")
            found.append((name.decode("ascii").lower(), value.strip(b" \t").decode("latin-1")))

    def chunked(self):
        body = b""
        while True:
            size = int(self.line().split(b";")[0], 16)
            body += self.exactly(size)
            if self.exactly(2) != b"\r\n":
                raise Malformed("no CRLF behind a chunk")
            if size == 0:
                return body


class Answer:
    def __init__(self, version, status, reason, headers, body, interim):
        self.version, self.status, self.reason, self.body, self.interim = version, status, reason, body, interim
        self.all_headers = headers
        self.headers = dict(headers)

    @property
    def type(self):
        return self.headers.get("content-type", "").split(";")[0]

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:200]!r}>"


def read_answer(stream, head_only=False):
    """One response; 1xx before it are counted in .interim."""
    interim = []
    while True:
        first = stream.line().decode("latin-1")
        version, _, rest = first.partition(" ")
        code, _, reason = rest.partition(" ")
        if version not in ("HTTP/1.0", "HTTP/1.1") or len(code) != 3 or not code.isdigit():
            raise Malformed(f"not a status line: {first!r}")
        headers = stream.headers()
        if code[0] != "1":
            break
        interim.append(int(code))
    names = dict(headers)
    if head_only or code in ("204", "304"):
        body = b""
    elif "chunked" in names.get("transfer-encoding", ""):
        body = stream.chunked()
    elif "content-length" in names:
        body = stream.exactly(int(names["content-length"]))
    else:
        body = stream.to_end()
    return Answer(version, int(code), reason, headers, body, interim)


class Client:
    """One connection to an HTTP server."""

    def __init__(self, port, host="127.0.0.1", timeout=20):
        self.sock = socket.create_connection((host, port), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = Stream(self.sock)

    def send(self, data):
        self.sock.sendall(data)

    def answer(self, head_only=False):
        return read_answer(self.stream, head_only)

    def request(self, method, path, headers=None, body=b"", version="HTTP/1.1"):
        self.send(compose(method, path, headers, body, version))
        return self.answer(head_only=method == "HEAD")

    def ended(self):
        """Whether the server closes: reads until it does, or the socket's timeout passes."""
        try:
            return self.sock.recv(65536) == b""
        except (ConnectionResetError, BrokenPipeError):
            return True
        except TimeoutError:
            return False

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def compose(method, path, headers=None, body=b"", version="HTTP/1.1"):
    fields = {"Host": "localhost", "Content-Length": str(len(body))} if version == "HTTP/1.1" or body else {}
    for name, value in (headers or {}).items():
        fields.pop(name, None)
        if value is not None:
            fields[name] = value
    head = f"{method} {path} {version}\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields.items()) + "\r\n"
    return head.encode("latin-1") + body
