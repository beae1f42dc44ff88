# SPDX-License-Identifier: Apache-2.0
"""For tests of the traceparent that beylad writes into requests: a cgroup of our own, programs in it, and a server that keeps what it got,
byte for byte, and that nobody observes: it runs in the test itself."""
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from env.servers import PROGRAMS
from env.wait import free_port, until

LINE = re.compile(rb"traceparent: 00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])\r\n")
NUMBERS = itertools.count()


def cgroup_mount():
    """Where cgroups of version 2 are, or None."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    return None


class Cgroup:
    def __init__(self):
        self.path = cgroup_mount() / f"beylad-test-{os.getpid()}-{next(NUMBERS)}"
        self.path.mkdir()
        self.running = []

    def popen(self, args, **options):
        """A program that is in the cgroup from its first instruction."""
        procs = str(self.path / "cgroup.procs")

        def enter():
            with open(procs, "w") as f:
                f.write("0")
        p = subprocess.Popen([str(a) for a in args], preexec_fn=enter, **options)
        self.running.append(p)
        return p

    @property
    def wrap(self):
        """In front of a command: it runs in the cgroup."""
        return ["sh", "-c", f'echo 0 > {self.path}/cgroup.procs; exec "$@"', "sh"]

    def stop(self):
        for p in self.running:
            p.kill()
            p.wait()
        if self.path.exists():
            until("the cgroup to be empty", lambda: not (self.path / "cgroup.procs").read_text())
            self.path.rmdir()


class Caller:
    """programs/caller.py: a server that calls out for each request, and a client that does what it is told. The port it serves on selects it."""

    def __init__(self, popen, *args):
        self.port = free_port()
        env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith("OTEL_")}
        self.process = popen([sys.executable, str(PROGRAMS / "caller.py"), str(self.port), *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        assert self.process.stdout.readline() == "ready\n"

    @property
    def pid(self):
        return self.process.pid

    def tell(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self

    def hear(self):
        answer = json.loads(self.process.stdout.readline())
        assert "error" not in answer, answer
        return answer["result"]

    def do(self, **command):
        return self.tell(**command).hear()

    def stop(self):
        self.process.kill()
        self.process.wait()


class Got:
    """One request as it was on the wire."""

    def __init__(self, head, body):
        self.head, self.body = head, body
        found = LINE.findall(head)
        self.count = head.lower().count(b"\r\ntraceparent:")
        self.ids = tuple(x.decode() for x in found[0]) if len(found) == 1 and self.count == 1 else None
        self.path = head.split(b" ")[1].decode() if b" " in head else ""

    @property
    def as_sent(self):
        """The head without our line, which stands behind the first."""
        first, rest = self.head.split(b"\r\n", 1)
        assert self.ids and LINE.match(rest), self.head
        return first + b"\r\n" + LINE.sub(b"", rest, count=1)


class Recorder:
    """HTTP/1.1 by hand: /size/N answers N bytes; /wait/MS answers after that time; /slow/MS waits before it reads the body."""

    def __init__(self):
        self.port, self.got, self.threads, self.sockets = free_port(), [], [], []
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(256)
        self.thread = threading.Thread(target=self.accept)
        self.thread.start()

    def accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets.append(s)
            self.threads.append(threading.Thread(target=self.serve, args=(s,)))
            self.threads[-1].start()

    def serve(self, s):
        try:
            with s, s.makefile("rb") as f:
                while self.one(s, f):
                    pass
        except (OSError, ValueError):
            pass

    def one(self, s, f):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = f.readline()
            if not line:
                return False
            head += line
        path = head.split(b" ")[1].decode()
        verb, _, number = path.strip("/").partition("/")
        number = int(re.match(r"\d*", number)[0] or 0)
        if verb == "slow":
            time.sleep(number / 1000)
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
        body = f.read(int(length[1])) if length else b""
        while re.search(rb"\r\ntransfer-encoding: *chunked", head, re.I):
            n = int(f.readline(), 16)
            body += f.read(n)
            f.readline()
            if n == 0:
                break
        self.got.append(Got(head, body))
        if verb == "wait":
            time.sleep(number / 1000)
        answer = b"r" * (number if verb == "size" else 10)
        s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
        return True

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()
        for s in self.sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for t in self.threads:
            t.join()
