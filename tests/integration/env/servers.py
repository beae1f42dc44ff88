# SPDX-License-Identifier: Apache-2.0
"""Servers to be observed: real ones, as processes of their own, with the log they keep themselves as the oracle.

    @pytest.fixture
    def server(tmp_path, request):
        yield from started(tmp_path, request)

    s = server([sys.executable, "-m", "http.server", PORT])        # PORT becomes the number; LOG the path of the access log
    s.url, s.port, s.pid, s.output(), s.records()"""
import concurrent.futures
import http.client
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from env.wait import free_port, until

PORT, LOG, FOLDER = "{port}", "{log}", "{folder}"
PROGRAMS = Path(__file__).resolve().parents[1] / "programs"


def listening(port):
    """Whether a TCP socket listens on port: read from the kernel, because a connection would be seen by who observes the server."""
    wanted = f":{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as f:
                if any(c[1].endswith(wanted) and c[3] == "0A" for c in map(str.split, f)):
                    return True
        except OSError:
            pass                                   # a kernel without IPv6
    return False


class Record(dict):
    """One line of an access log in JSON; its members are attributes too."""
    __getattr__ = dict.__getitem__


class Server:
    """One server. command: its program and arguments, in which PORT, LOG and FOLDER are replaced; port 0: it has none."""

    def __init__(self, folder, command, port=None, env=None, cwd=None, scheme="http", wrap=()):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port() if port is None else port
        self.log_path, self.output_path = self.folder / "access.log", self.folder / "output"
        self.command = [*wrap, *(str(c).replace(PORT, str(self.port)).replace(LOG, str(self.log_path)).replace(FOLDER, str(self.folder))
                                 for c in command)]
        self.env, self.cwd, self.scheme = dict(env or {}), cwd or self.folder, scheme
        self.process = None

    # ---- life ----

    def start(self, ready=True, timeout=30):
        env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith(("BEYLA_", "OTEL_"))}
        env.update({"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **self.env})
        with open(self.output_path, "ab") as output:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, cwd=self.cwd,
                                            start_new_session=True)
        return self.ready(timeout) if ready else self

    def ready(self, timeout=30):
        """Waits until it listens."""
        def listens():
            assert self.running, f"{self.command[0]} ended with {self.process.returncode}: {self.output()[-2000:]}"
            return not self.port or listening(self.port)
        until(f"{self.command} to listen on {self.port}", listens, timeout)
        return self

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self, timeout=10):
        """SIGTERM, and SIGKILL to it and what it started when that does not end it."""
        if self.process is None:
            return
        if self.running:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)        # its own session: workers that outlived it, and nobody else
        except ProcessLookupError:
            pass
        self.process.wait()

    # ---- what it is and says ----

    @property
    def pid(self):
        return self.process.pid

    def pids(self):
        """Its own and those of all it started, that still run."""
        found, parents = [self.pid], {}
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit():
                    parents[int(entry)] = int(Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                pass                               # it ended meanwhile
        for pid in found:                          # the list grows while it is walked
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def output(self):
        return self.output_path.read_text(errors="replace") if self.output_path.exists() else ""

    def log_lines(self):
        """Whole lines of its access log."""
        return self.log_path.read_text(errors="replace").split("\n")[:-1] if self.log_path.exists() else []

    def records(self, count=None, timeout=10):
        """The access log of a program that writes JSON; waits until it has count lines."""
        if count is not None:
            until(f"{count} lines in the access log of {self.command[:3]}", lambda: len(self.log_lines()) >= count, timeout)
        return [Record(json.loads(line)) for line in self.log_lines()]

    def rss(self):
        """Resident bytes of its first process."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def started(tmp_path, request):
    """For a fixture: server(command, ...) starts one and returns it; start=False leaves that to the test. All are stopped at the end, and the
    output of each is shown when the test failed."""
    servers = []

    def make(command, start=True, **options):
        servers.append(Server(tmp_path / f"server{len(servers)}", command, **options))
        return servers[-1].start() if start else servers[-1]
    yield make
    failed = getattr(request.node, "report_call", None) is None or request.node.report_call.failed
    for s in reversed(servers):
        s.stop()
        if failed and s.output():
            request.node.add_report_section("call", f"output of {s.folder.name}", s.output()[-8000:])


def python_server(*args):
    """The command of programs/http_server.py, which logs each request as it saw it."""
    return [sys.executable, PROGRAMS / "http_server.py", "--port", PORT, "--log", LOG, *args]


def on_threads(n, work, items):
    """work(item) for each, n at once; the first exception is raised."""
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        return list(pool.map(work, items))


def ask(port, *requests, headers=None, tls=None):
    """(method, path) or (method, path, body) each, on one connection; it is opened again when the server closes it. Returns the statuses."""
    c = http.client.HTTPSConnection("localhost", port, timeout=30, context=tls) if tls else http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    found = []
    for method, path, *body in requests:
        c.request(method, path, body=body[0] if body else None, headers=headers or {})
        answer = c.getresponse()
        answer.read()
        found.append(answer.status)
    c.close()
    return found


class Nowhere(http.server.ThreadingHTTPServer):
    """Takes OTLP and forgets it: {"collector": "", "otlp_endpoint": nowhere.url}. Without a place to send to, beylad waits for one when it ends."""
    daemon_threads = True

    class RequestHandlerClass(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response_only(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    def __init__(self):
        super().__init__(("127.0.0.1", free_port()), self.RequestHandlerClass)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.config = {"collector": "", "otlp_endpoint": self.url}
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.shutdown()
        self.server_close()
