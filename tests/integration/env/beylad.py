# SPDX-License-Identifier: Apache-2.0
"""beylad as a process: started as root with a document of its own, its spans read from its printer, its counters from its control socket."""
import collections
import functools
import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

from env.daemon import SANITIZER, binary
from env.wait import SLACK, until


@functools.lru_cache
def why_not():
    """Why beylad cannot observe anything here, or None. A test that needs it skips with this reason."""
    if os.geteuid() != 0:
        return "needs root: CAP_BPF and CAP_PERFMON"
    if not Path("/sys/kernel/btf/vmlinux").exists():
        return "the kernel has no BTF"
    tried = subprocess.run([str(binary("beylad")), "--explain", str(os.getpid())], capture_output=True, text=True)
    for line in tried.stdout.splitlines():
        if line.startswith("no  sockets"):
            reason = line[len("no  sockets"):].strip()
            # Only what this machine lacks is a reason to skip; a program that the kernel finds wrong is a failure: it says "Permission denied".
            assert re.search("not permitted|No such (file|process)", reason), f"the probes do not load: {reason}"
            return f"the probes cannot be loaded: {reason}"
    return None if tried.returncode == 0 else f"beylad --explain fails: {tried.stderr.strip()}"


@functools.lru_cache
def has_socket_hooks():
    """Whether this kernel has the tracepoints of the technique `socket`, by its own list of types."""
    types = Path("/sys/kernel/btf/vmlinux")
    return types.exists() and b"\0btf_trace_sock_send_length\0" in types.read_bytes()


class Span(dict):
    """One line of the JSON printer; attributes are reached with []: span["http.route"]."""

    def __getitem__(self, key):
        return dict.__getitem__(self, key) if key in self else self["attributes"][key]

    def get(self, key, fallback=None):
        return dict.get(self, key, dict.get(self, "attributes").get(key, fallback))

    @property
    def seconds(self):
        return (self["end_unix_nano"] - self["start_unix_nano"]) / 1e9

    @property
    def server(self):
        return self["kind"] == "SERVER"


class Beylad:
    """One daemon in a folder of its own. ports: open_ports; config: further keys of the document; technique: the key of that name."""

    def __init__(self, folder, ports=(), config=None, args=(), env=None, technique="auto"):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.runtime = self.folder / "run"
        self.config = {"open_ports": [str(p) for p in ports], "printer": "json", "collector": str(self.folder / "nobody.sock"),
                       "exclude": "", "technique": technique, **(config or {})}
        self.config_path = self.folder / "beylad.json"
        self.spans_path, self.log_path = self.folder / "spans", self.folder / "log"
        self.args, self.extra_env = list(args), dict(env or {})
        self.process = None
        self._read_to, self._rest, self._spans = 0, b"", []
        self.write_config()

    def write_config(self):
        self.config_path.write_text(json.dumps(self.config, indent=2))

    # ---- life ----

    def start(self, ready=True):
        self.runtime.mkdir(mode=0o755, exist_ok=True)
        env = {k: v for k, v in os.environ.items() if k not in ("NOTIFY_SOCKET", "JOURNAL_STREAM", "XDG_RUNTIME_DIR")
               and not k.lower().endswith("_proxy") and not k.startswith(("BEYLA_", "OTEL_"))}
        env.update({"RUNTIME_DIRECTORY": str(self.runtime), "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0", "UBSAN_OPTIONS": "print_stacktrace=1"})
        env.update(self.extra_env)
        with open(self.log_path, "ab") as log, open(self.spans_path, "ab") as spans:
            self.process = subprocess.Popen([str(binary("beylad")), "--config", str(self.config_path), *self.args],
                                            stdin=subprocess.DEVNULL, stdout=spans, stderr=log, env=env, cwd=self.folder)
        if ready:
            until("beylad to answer", self.is_ready, 30)
        return self

    def is_ready(self):
        assert self.process.poll() is None, f"beylad ended with {self.process.returncode}: {self.log()[-2000:]}"
        try:
            return "observing" in self.log() and self.control("status")
        except OSError:
            return False

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self, timeout=20):
        if self.running:
            self.process.send_signal(signal.SIGTERM)
        if self.process is not None:
            assert self.process.wait(timeout) == 0, f"beylad ended with {self.process.returncode}: {self.log()[-2000:]}"

    def kill(self):
        if self.running:
            self.process.kill()
            self.process.wait()

    # ---- what it says ----

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def check_log(self):
        found = SANITIZER.search(self.log())
        assert not found, self.log()[max(0, found.start() - 500):found.start() + 4000]

    def control(self, verb, timeout=10):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(timeout)
            s.connect(str(self.runtime / "beylad.sock"))
            s.sendall(verb.encode() + b"\n")
            s.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: s.recv(65536), b"")).decode()

    def stats(self):
        return json.loads(self.control("json stats"))

    def processes(self):
        return [json.loads(line) for line in self.control("json processes").splitlines() if line]

    def attached(self, pid, timeout=10):
        """Waits until pid is observed; returns self."""
        until(f"process {pid} to be observed", lambda: any(p["pid"] == pid for p in self.processes()), timeout)
        return self

    def spans(self, count=None, where=None, timeout=10):
        """Spans printed since the start, those of where (a function) only; waits for count of them. More than count are returned, too."""
        def found():
            self._read()
            return [s for s in self._spans if where is None or where(s)]
        if count is not None:
            deadline = time.monotonic() + timeout * min(SLACK, 10)
            while len(found()) < count and time.monotonic() < deadline:
                assert self.running, f"beylad ended: {self.log()[-2000:]}"
                time.sleep(0.02)
            assert len(found()) >= count, f"{len(found())} of {count} spans after {timeout} s; stats: {self.stats()}; latest: {self._spans[-3:]}"
        return found()

    def servers(self, count=None, timeout=10):
        return self.spans(count, lambda s: s["kind"] == "SERVER", timeout)

    def clients(self, count=None, timeout=10):
        return self.spans(count, lambda s: s["kind"] == "CLIENT", timeout)

    def settled(self, quiet=0.5, timeout=20):
        """All spans once none has come for quiet seconds and none is held back."""
        deadline, last, since = time.monotonic() + timeout * min(SLACK, 10), -1, time.monotonic()
        while True:
            now, n = time.monotonic(), len(self.spans())
            if n != last:
                last, since = n, now
            elif now - since > quiet and self.stats()["spans_held"] == 0:
                return self.spans()
            assert now < deadline, "spans go on coming"
            time.sleep(0.05)

    def _read(self):
        with open(self.spans_path, "rb") as f:
            f.seek(self._read_to)
            data = f.read()
        self._read_to += len(data)
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        self._spans += [Span(json.loads(line)) for line in lines]


# ---- what tests hold spans against ----

def nothing_lost(b):
    stats = b.stats()
    assert (stats["requests_lost"], stats["events_lost"], stats["events_malformed"]) == (0, 0, 0), stats


def close(pairs, seconds, share=0.95):
    """Whether for nearly all pairs of durations both are the same within seconds: who is preempted between two clocks says nothing."""
    seconds *= SLACK
    far = [p for p in pairs if abs(p[0] - p[1]) > seconds]
    assert pairs and len(far) <= len(pairs) * (1 - share) + 1, f"{len(far)} of {len(pairs)} durations are off by more than {seconds} s: {far[:5]}"


def operations(spans):
    return collections.Counter(s["db.operation.name"] for s in spans)


def codes(spans):
    return collections.Counter(s["db.response.status_code"] for s in spans if s["status"] == "ERROR")


def of_query(span):
    return span.get("db.operation.name"), span.get("db.collection.name"), span.get("db.response.status_code")
