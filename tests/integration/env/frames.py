# SPDX-License-Identifier: Apache-2.0
"""The frame protocol, written from docs/protocol.md alone: it shares no line with the code under test."""
import os
import select
import socket
import struct
import time

HELLO, TRACES, METRICS, LOGS, PROFILE, STATUS, ACK, ERROR, BYE = range(1, 10)
KIND = {"traces": TRACES, "metrics": METRICS, "logs": LOGS}
HEAD = 24


def _table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ 0x82F63B78 if n & 1 else n >> 1
        table.append(n)
    return table


_TABLE = _table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def frame(kind, sequence=0, body=b"", *, magic=b"TLMF", version=1, flags=0, length=None, crc=None):
    """A frame; any field of the head may be made wrong."""
    return magic + struct.pack(">BBHIIQ", version, kind, flags, len(body) if length is None else length,
                               crc32c(body) if crc is None else crc, sequence) + body


def _varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def _bytes(number, value):
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def hello_body(name="test", version=None, host=None, pid=None, epoch=None):
    out = _bytes(1, name.encode())
    if version is not None:
        out += _bytes(2, version.encode())
    if host is not None:
        out += _bytes(3, host.encode())
    if pid is not None:
        out += _varint(4 << 3) + _varint(pid)
    return out + _bytes(5, os.urandom(16) if epoch is None else epoch)


def status_body(dropped_frames=0, dropped_bytes=0, waiting_frames=0, waiting_bytes=0, text=""):
    out = b""
    for number, value in enumerate((dropped_frames, dropped_bytes, waiting_frames, waiting_bytes), 1):
        if value:
            out += _varint(number << 3) + _varint(value)
    return out + (_bytes(5, text.encode()) if text else b"")


class Frame:
    def __init__(self, kind, sequence, body):
        self.kind, self.sequence, self.body = kind, sequence, body

    def error(self):
        """(code, sequence, text) of an ERROR."""
        code = sequence = at = 0
        text = ""

        def varint(at):
            value = shift = 0
            while True:
                byte = self.body[at]
                value |= (byte & 127) << shift
                shift += 7
                at += 1
                if byte < 128:
                    return value, at
        while at < len(self.body):
            tag, at = varint(at)
            value, at = varint(at)
            if tag == 1 << 3:
                code = value
            elif tag == 2 << 3:
                sequence = value
            elif tag == 3 << 3 | 2:
                text = self.body[at:at + value].decode()
                at += value
            else:
                raise AssertionError(f"unknown field {tag:#x} in an ERROR")
        return code, sequence, text

    def __repr__(self):
        return f"<ERROR {self.error()}>" if self.kind == ERROR else f"<frame {self.kind} sequence {self.sequence} {len(self.body)} bytes>"


class Connection:
    """One connection to the frame socket: what goes out is up to the caller, what comes in is checked."""

    def __init__(self, path, timeout=10):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(str(path))
        self.buffer = b""
        self.ended = False

    def send(self, data):
        self.sock.sendall(data)

    def hello(self, **fields):
        self.send(frame(HELLO, 0, hello_body(**fields)))

    def read(self, timeout=10):
        """The next frame, or None at the end of the connection."""
        deadline = time.monotonic() + timeout
        while len(self.buffer) < HEAD or len(self.buffer) < HEAD + struct.unpack(">I", self.buffer[8:12])[0]:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                raise AssertionError(f"no frame within {timeout} s; {len(self.buffer)} bytes came")
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                assert not self.buffer, f"the connection ended inside a frame: {self.buffer!r}"
                self.ended = True
                return None
            self.buffer += data
        magic, version, kind, flags, length, crc, sequence = struct.unpack(">4sBBHIIQ", self.buffer[:HEAD])
        body = self.buffer[HEAD:HEAD + length]
        self.buffer = self.buffer[HEAD + length:]
        assert (magic, version, flags) == (b"TLMF", 1, 0), f"a malformed head: {magic!r} {version} {flags}"
        assert kind in (ACK, ERROR), f"a receiver does not send kind {kind}"
        assert crc == crc32c(body), "checksum mismatch"
        assert length == 0 if kind == ACK else 0 < length <= 1024
        return Frame(kind, sequence, body)

    def acknowledged(self, sequence, timeout=10):
        """Waits for an ACK of sequence or above; returns how many ACKs came."""
        n = 0
        while True:
            got = self.read(timeout)
            assert got is not None and got.kind == ACK, f"expected ACK {sequence}, got {got}"
            n += 1
            if got.sequence >= sequence:
                return n

    def error(self, timeout=10):
        """Skips ACKs up to the ERROR, checks that the connection closes behind it, returns (code, sequence, text)."""
        got = self.read(timeout)
        while got is not None and got.kind == ACK:
            got = self.read(timeout)
        assert got is not None and got.kind == ERROR, f"expected ERROR, got {got}"
        assert self.read(timeout) is None, "the connection goes on behind an ERROR"
        return got.error()

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Producer:
    """A producer as the protocol asks for: keeps what is unacknowledged and sends it again, byte for byte, after a reconnect."""

    def __init__(self, path, name="test"):
        self.path, self.name = path, name
        self.epoch = os.urandom(16)
        self.next = 1
        self.waiting = {}                          # sequence -> bytes, in order
        self.sent_twice = 0
        self.connection = None

    def connect(self):
        self.connection = Connection(self.path)
        self.connection.hello(name=self.name, epoch=self.epoch, pid=os.getpid())
        for data in list(self.waiting.values()):
            self.sent_twice += 1
            self.connection.send(data)

    def send(self, kind, body):
        """Queues a frame, and writes it while connected."""
        data = frame(kind, self.next, body)
        self.waiting[self.next] = data
        self.next += 1
        if self.connection:
            self.connection.send(data)
        return self.next - 1

    def take(self, timeout=0.0):
        """Reads what is there. False: the connection ended."""
        while self.connection.buffer or select.select([self.connection.sock], [], [], timeout)[0]:
            got = self.connection.read()
            if got is None:
                self.connection = None
                return False
            assert got.kind == ACK, got
            for sequence in [s for s in self.waiting if s <= got.sequence]:
                del self.waiting[sequence]
            timeout = 0.0                          # something came: what else is there now
        return True
