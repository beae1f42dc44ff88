# SPDX-License-Identifier: Apache-2.0
"""Real servers that beylad observes, each with its own account of what it served: nginx and its access log, redis-server and its counters,
postgres and its log, nghttpd and what it prints, programs of ours that write a line a request."""
import collections
import contextlib
import hashlib
import http.client
import http.server
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from env.daemon import ROOT
from env.servers import PROGRAMS, Server
from env.wait import free_port, until

PLAIN_ENV = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith(("BEYLA_", "OTEL_", "PG"))}


def built(name, command, product):
    """programs/NAME, copied to a folder that outlives the run and built there by command, unless product is there for these very files."""
    source, folder = PROGRAMS / name, Path(os.environ.get("SUITE_CACHE", ROOT / "build/cache")).absolute() / name
    digest = hashlib.sha256()
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(source)).encode() + b"\0" + path.read_bytes())
    mark = folder / ".built"
    if not (folder / product).exists() or not mark.exists() or mark.read_text() != digest.hexdigest():
        shutil.copytree(source, folder, dirs_exist_ok=True)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0 and (folder / product).exists(), f"{command}: {(done.stdout + done.stderr)[-3000:]}"
        mark.write_text(digest.hexdigest())
    return folder


def needs(*programs):
    """Skips where one is not installed."""
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")


# ---- HTTP ----

class Upstream:
    """An HTTP/1.1 server inside the test: /wait/MS/... answers after that time. Who asked for what is in .asked, in the order of the answers."""

    def __init__(self, tls=None):
        self.asked = asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                wait = re.match(r"/wait/(\d+)", self.path)
                if wait:
                    time.sleep(int(wait[1]) / 1000)
                answer = b"u" * (100 + len(body))
                asked.append((self.command, self.path))
                self.send_response(503 if "/fail" in self.path else 200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_GET

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 256
        self.port = free_port()
        self.server = Server(("127.0.0.1", self.port), Handler)
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class Nginx(Server):
    """Static files below .files, /proxy/ handed on to an upstream on keep-alive connections."""

    FIELDS = "method:$request_method path:$uri status:$status body:$body_bytes_sent asked:$content_length protocol:$server_protocol seconds:$request_time"

    def __init__(self, folder, upstream_port=9, workers=2, tls=None):
        """tls: the files of certificate and key; then it speaks HTTP/2, too."""
        folder = Path(folder) / "nginx"
        self.files = folder / "files"
        self.files.mkdir(parents=True)
        port = free_port()
        fields = ",".join(f'"{name}":"{value}"' for name, value in (f.split(":", 1) for f in self.FIELDS.split()))
        conf = folder / "nginx.conf"
        conf.write_text(f"""
user root;
daemon off;
worker_processes {workers};
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    log_format own escape=json '{{{fields}}}';
    access_log {folder}/access.log own;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream behind {{ server 127.0.0.1:{upstream_port}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port}{" ssl http2" if tls else ""} backlog=512;
        {"ssl_certificate {}; ssl_certificate_key {};".format(*tls) if tls else ""}
        location / {{ root {self.files}; }}
        location /moved {{ return 301 /elsewhere; }}
        location /proxy/ {{ proxy_pass http://behind/; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
""")
        super().__init__(folder, ["nginx", "-p", folder, "-c", conf, "-e", folder / "error.log"], port, scheme="https" if tls else "http")
        self.log_path = self.folder / "access.log"


def http_get(port, requests, tls=None, timeout=30):
    """Sends requests (method, path, headers, body) one after the other on one connection; [(status, bytes of the body, seconds)]."""
    answers = []
    if tls:
        c = http.client.HTTPSConnection("localhost", port, timeout=timeout, context=tls)
    else:
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    for method, path, headers, body in requests:
        begun = time.monotonic()
        c.request(method, path, body, headers or {})
        answer = c.getresponse()
        n = len(answer.read())
        answers.append((answer.status, n, time.monotonic() - begun))
    c.close()
    return answers


def in_threads(calls):
    """Runs all calls at once; their results in order. The first exception goes on."""
    results = [None] * len(calls)

    def run(i):
        try:
            results[i] = (calls[i](), None)
        except Exception as e:
            results[i] = (None, e)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for _, e in results:
        if e:
            raise e
    return [r for r, _ in results]


# ---- Redis ----

class Redis(Server):
    def __init__(self, folder):
        folder = Path(folder) / "redis"
        folder.mkdir(parents=True)
        self.socket = folder / "redis.sock"
        port = free_port()
        super().__init__(folder, ["redis-server", "--port", port, "--bind", "127.0.0.1", "--unixsocket", self.socket, "--save", "", "--dir", folder], port)

    def cli(self, *args, input=None, unix=False):
        where = ["-s", self.socket] if unix else ["-p", str(self.port)]
        return subprocess.run(["redis-cli", *where, *args], input=input, capture_output=True, text=True, check=True, timeout=30, env=PLAIN_ENV).stdout

    def benchmark(self, *args, unix=False):
        where = ["-s", str(self.socket)] if unix else ["-h", "127.0.0.1", "-p", str(self.port)]
        subprocess.run(["redis-benchmark", *where, *args], capture_output=True, check=True, timeout=120, env=PLAIN_ENV)

    def counts(self):
        """{command: how often it was called or refused} and {error code: how often}. The asking itself is not in it: CONFIG RESETSTAT begins anew."""
        commands, errors = collections.Counter(), collections.Counter()
        for line in self.cli("INFO", "commandstats").splitlines() + self.cli("INFO", "errorstats").splitlines():
            match = re.match(r"cmdstat_([^:]+):calls=(\d+),.*rejected_calls=(\d+)", line)
            if match:
                commands[match[1].upper().replace("|", " ")] += int(match[2]) + int(match[3])
            match = re.match(r"errorstat_([^:]+):count=(\d+)", line)
            if match:
                errors[match[1]] += int(match[2])
        return commands, errors


# ---- PostgreSQL ----

POSTGRES_ENV = {"PGSSLMODE": "disable", "PGGSSENCMODE": "disable"}

@contextlib.contextmanager
def postgres(*tables, prepare=None):
    """A Postgres with these tables; prepare(it) comes before its start. Skips where there is none: making it takes two seconds, so it is for all tests of a
    module, and each looks at the log from where it begins."""
    try:
        p = Postgres()
    except (ValueError, KeyError) as e:
        pytest.skip(f"PostgreSQL or its user is not there: {e}")
    if prepare:
        prepare(p)
    try:
        p.start()
        p.client("psql", *(x for t in ("things (id int PRIMARY KEY, name text)", *tables) for x in ("-c", f"CREATE TABLE {t}")))
        yield p
    finally:
        p.stop()


class Postgres(Server):
    """A cluster of its own, as a user that is not root; every statement is in its log."""

    def __init__(self, user="postgres"):
        self.bin = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
        folder = Path(tempfile.mkdtemp(prefix="spoke-postgres-"))          # pytest's folders are closed to that user
        os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        as_user = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"]
        data = folder / "data"
        subprocess.run([*as_user, self.bin / "initdb", "-D", data, "-A", "trust", "-U", "tester", "--no-sync", "-E", "UTF8", "--locale=C"],
                       check=True, capture_output=True, cwd="/", env=PLAIN_ENV, timeout=60)
        super().__init__(folder, [self.bin / "postgres", "-D", data], wrap=as_user, cwd="/")
        (data / "postgresql.conf").open("a").write(f"""
listen_addresses = '127.0.0.1'
port = {self.port}
unix_socket_directories = '{folder}'
fsync = off
logging_collector = on
log_destination = 'jsonlog'
log_directory = '{folder}'
log_filename = 'server.log'
log_rotation_age = 0
log_rotation_size = 0
log_min_duration_statement = 0
max_connections = 40
autovacuum = off
""")
        self.log_path = folder / "server.json"

    def ready(self, timeout=30):
        def answers():
            assert self.running, self.output()
            return subprocess.run([self.bin / "pg_isready", "-h", self.folder, "-p", str(self.port)], capture_output=True, env=PLAIN_ENV).returncode == 0
        until("postgres to answer", answers, timeout)
        return self

    def where(self, unix=False):
        return ["-h", str(self.folder) if unix else "127.0.0.1", "-p", str(self.port), "-U", "tester"]

    def client(self, program, *args, unix=False, input=None, ok=True):
        where = self.where(unix)
        env = {**PLAIN_ENV, **POSTGRES_ENV}
        done = subprocess.run([self.bin / program, *where, *args, "postgres"], input=input, capture_output=True, text=True, env=env, timeout=60)
        assert not ok or done.returncode == 0, done.stderr
        return done

    def mark(self):
        """Where the log ends now; statements(mark) begins there."""
        return self.log_path.stat().st_size if self.log_path.exists() else 0

    def statements(self, mark, count, timeout=20):
        """[(text, seconds or None, SQLSTATE or None)] of what was executed, or refused, since mark; waits for count of them."""
        def read():
            with open(self.log_path, "rb") as f:
                f.seek(mark)
                lines = [json.loads(line) for line in f.read().splitlines(keepends=True) if line.endswith(b"\n")]
            found = []
            for line in lines:
                match = re.match(r"duration: ([\d.]+) ms  (?:statement|(parse|bind|execute) [^:]*): (.*)", line["message"], re.S)
                if match and match[2] in (None, "execute"):
                    found.append((match[3], float(match[1]) / 1000, None))
                elif line["error_severity"] == "ERROR":
                    found.append((line["statement"], None, line["state_code"]))
            return found
        until(f"{count} statements in the log of postgres", lambda: len(read()) >= count, timeout)
        return read()

    def stop(self, timeout=20):
        if self.running:
            self.process.send_signal(signal.SIGINT)        # ends without waiting for its clients
        super().stop(timeout)
        shutil.rmtree(self.folder, ignore_errors=True)
