# SPDX-License-Identifier: Apache-2.0
"""collectord as a process: started with a document of its own, asked over its sockets, stopped and looked at for what it left."""
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from env import otlp
from env.http import Client
from env.wait import free_port, until

ROOT = Path(__file__).resolve().parents[3]
SANITIZER = re.compile(r"(AddressSanitizer|LeakSanitizer|UndefinedBehaviorSanitizer|runtime error:|Assertion .* failed|SUMMARY: )")
LEDGER = ("filtered", "delivered", "rejected", "in_flight", "waiting")


def binary(name="collectord"):
    """build/bin/NAME; COLLECTORD names another collectord, whose folder holds the others too."""
    own = Path(os.environ.get("COLLECTORD", ROOT / "build/bin/collectord")).absolute()
    return own if name == "collectord" else own.parent / name


def sanitized():
    """Built with sanitizers: slower, larger, and memory is not its own."""
    global _sanitized
    if _sanitized is None:
        _sanitized = b"__asan_init" in binary().read_bytes()
    return _sanitized


_sanitized = None


class Died(AssertionError):
    pass


class Sample:
    def __init__(self, name, labels, value):
        self.name, self.labels, self.value = name, labels, value

    def __repr__(self):
        return f"{self.name}{self.labels} {self.value}"


class Metrics(list):
    """Samples of one scrape."""

    def named(self, name, **labels):
        return [s for s in self if s.name == name and all(s.labels.get(k) == v for k, v in labels.items())]

    def sum(self, name, **labels):
        found = self.named(name, **labels)
        assert found, f"no sample {name} {labels}; there are {sorted({s.name for s in self})}"
        return sum(s.value for s in found)


_SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*",?)*)\})? (\S+)$')
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"')


def parse_metrics(text):
    """Prometheus text format 0.0.4, strictly: a HELP and a TYPE before the samples of a family, families in one piece."""
    samples, families, current = Metrics(), {}, None
    assert text.endswith("\n"), "the last line has no newline"
    for line in text.split("\n")[:-1]:
        if line.startswith("# "):
            word, name, rest = line[2:].split(" ", 2)
            assert word in ("HELP", "TYPE"), line
            if name != current:
                assert name not in families, f"family {name} comes twice"
                families[name], current = set(), name
            assert word not in families[name], f"{word} {name} twice"
            families[name].add(word)
            if word == "TYPE":
                assert rest in ("counter", "gauge", "histogram", "summary", "untyped"), line
            continue
        match = _SAMPLE.match(line)
        assert match, f"not a sample: {line!r}"
        family = re.sub(r"_(bucket|sum|count)$", "", match[1])
        assert current in (match[1], family), f"sample {match[1]} stands in family {current}"
        assert families[current] == {"HELP", "TYPE"}, f"{current} has only {families[current]}"
        labels = {k: v.replace("\\n", "\n").replace('\\"', '"').replace("\\\\", "\\") for k, v in _LABEL.findall(match[2] or "")}
        samples.append(Sample(match[1], labels, float(match[3])))
    return samples


class Collectord:
    """One daemon in a folder of its own. config: the document; listeners get free ports unless it names them."""

    def __init__(self, folder, config=None, args=(), env=None, wrap=(), raw_config=None):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.runtime = self.folder / "run"
        self.config_path = self.folder / "config.json"
        self.log_path = self.folder / "log"
        self.config = dict(config or {})
        listen = dict(self.config.get("listen") or {})
        for key in ("otlp_http", "web"):
            listen.setdefault(key, f"127.0.0.1:{free_port()}")
        self.config["listen"] = listen
        self.raw_config = raw_config
        self.args, self.extra_env, self.wrap = list(args), dict(env or {}), list(wrap)
        self.process = None
        self.write_config()

    # ---- life ----

    def write_config(self, config=None):
        if config is not None:
            self.config = dict(config, listen=config.get("listen") or self.config["listen"])
        self.config_path.write_text(self.raw_config if self.raw_config is not None else json.dumps(self.config, indent=2))

    def start(self, ready=True):
        self.runtime.mkdir(mode=0o755, exist_ok=True)
        env = {k: v for k, v in os.environ.items() if k not in ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "JOURNAL_STREAM", "XDG_RUNTIME_DIR")
               and not k.lower().endswith("_proxy")}
        env.update({"RUNTIME_DIRECTORY": str(self.runtime), "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0", "UBSAN_OPTIONS": "print_stacktrace=1"})
        env.update(self.extra_env)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([*self.wrap, str(binary()), "--config", str(self.config_path), *self.args],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd=self.folder)
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self, timeout=15):
        until("collectord to be ready", self.is_ready, timeout)

    def is_ready(self):
        self.check_alive()
        try:
            return self.get("/-/ready")[0] == 200
        except OSError:
            return False

    def check_alive(self):
        if self.process.poll() is not None:
            raise Died(f"collectord ended with {self.process.returncode}:\n{self.log()}")

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def ended(self, timeout=15):
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"collectord does not end within {timeout} s:\n{self.log()[-6000:]}") from None

    def stop(self, timeout=20):
        """SIGTERM; checks the exit and what was written."""
        if not self.running:
            return
        self.signal(signal.SIGTERM)
        status = self.ended(timeout)
        self.check_log()
        assert status == 0, f"exit status {status}:\n{self.log()[-6000:]}"

    def kill(self):
        if self.running:
            self.process.kill()
            self.process.wait()

    def check_log(self):
        found = SANITIZER.search(self.log())
        assert not found, f"in the log: {found[0]}\n{self.log()[-12000:]}"

    # ---- what it says ----

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_lines(self, text=None, **fields):
        """Lines of the log as dicts; those whose msg holds text and whose fields are as given."""
        found = []
        for line in self.log().splitlines():
            pairs = {k: json.loads(q) if q else v for k, q, v in re.findall(r'([a-z_]\w*)=(?:("(?:[^"\\]|\\.)*")|(\S*))', line)}
            if "msg" in pairs and (text is None or text in pairs["msg"]) and all(pairs.get(k) == v for k, v in fields.items()):
                found.append(pairs)
        return found

    def wait_log(self, text, timeout=10, **fields):
        return until(f"log line {text!r} {fields}", lambda: self.log_lines(text, **fields), timeout)[-1]

    # ---- its doors ----

    @staticmethod
    def _port(address):
        return int(address.rsplit(":", 1)[1])

    @property
    def otlp_port(self):
        return self._port(self.config["listen"]["otlp_http"])

    @property
    def web_port(self):
        return self._port(self.config["listen"]["web"])

    @property
    def frames_path(self):
        return self.runtime / "frames.sock"

    @property
    def control_path(self):
        return self.runtime / "control.sock"

    def client(self, timeout=20):
        """A raw connection to the OTLP listener."""
        return Client(self.otlp_port, timeout=timeout)

    def post(self, signal, message, type=otlp.PROTOBUF, headers=None, expect=200):
        """Posts to /v1/SIGNAL on a connection of its own. message: a protobuf message, or bytes. expect None: any status."""
        body = message if isinstance(message, bytes) else message.SerializeToString() if type == otlp.PROTOBUF else otlp.to_json(message)
        with self.client() as c:
            answer = c.request("POST", f"/v1/{signal}", {"Content-Type": type, "Connection": "close", **(headers or {})}, body)
        assert expect is None or answer.status == expect, f"expected {expect}, got {answer}"
        return answer

    def get(self, path, method="GET", timeout=10):
        """(status, body) from the daemon's own HTTP."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.web_port}{path}", method=method, data=b"" if method == "POST" else None)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()

    def metrics(self):
        status, text = self.get("/metrics")
        assert status == 200, text
        return parse_metrics(text)

    def lines(self, *lines, timeout=10):
        """Writes lines to the frame socket as socat would, ends, and returns the answers, decoded."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(timeout)
            s.connect(str(self.frames_path))
            for line in lines:
                data = line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
                s.sendall(data + b"\n")
            s.shutdown(socket.SHUT_WR)
            got = b""
            while data := s.recv(65536):
                got += data
        return [json.loads(line) for line in got.splitlines()]

    def control(self, command, timeout=10):
        """One verb; its answer up to the empty line that ends it, without it."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(timeout)
            s.connect(str(self.control_path))
            s.sendall(command.encode() + b"\n")
            got = b""
            while not (got == b"\n" or got.endswith(b"\n\n")):
                data = s.recv(65536)
                if not data:
                    break
                got += data
        return got.decode().rstrip("\n")

    def control_json(self, command):
        return [json.loads(line) for line in self.control(f"json {command}").splitlines()]

    def status(self):
        return self.control_json("status")[0]

    # ---- figures ----

    def ledger(self):
        """{(destination, signal): the figures of that reader}, checked: offered is the sum of what became of it."""
        found = {}
        for destination in self.control_json("destinations"):
            for row in destination["signals"]:
                balance = sum(row[k] for k in LEDGER) + sum(row["dropped_by"].values())
                assert row["offered"] == balance, f"the ledger does not balance: {destination['name']} {row}"
                assert row["dropped"] == sum(row["dropped_by"].values()), row
                found[destination["name"], row["signal"]] = row
        return found

    def metrics_ledger(self):
        """The same from /metrics: {(destination, signal): {"offered": n, ..., ("dropped", reason): n}}, checked likewise."""
        found = {}
        for s in self.metrics():
            if s.name == "collectord_items_total":
                outcome = s.labels["outcome"] if s.labels["outcome"] != "dropped" else ("dropped", s.labels["reason"])
            elif s.name == "collectord_items":
                outcome = s.labels["state"]
            else:
                continue
            row = found.setdefault((s.labels["destination"], s.labels["signal"]), {})
            assert outcome not in row, f"{outcome} twice"
            row[outcome] = int(s.value)
        for key, row in found.items():
            assert row["offered"] == sum(n for outcome, n in row.items() if outcome != "offered"), f"/metrics does not balance: {key} {row}"
        return found

    def state(self, destination):
        return next(d["state"] for d in self.control_json("destinations") if d["name"] == destination)

    def wait_state(self, destination, *states, timeout=10):
        return until(f"{destination} to be {' or '.join(states)}", lambda: (s := self.state(destination)) in states and s, timeout)

    def drained(self, destination=None):
        """Whether nothing waits or is under way."""
        return all(r["waiting"] + r["in_flight"] == 0 for (d, _), r in self.ledger().items() if destination in (None, d))

    def wait_drained(self, destination=None, timeout=20):
        until("nothing waits any more", lambda: self.drained(destination), timeout)
        return self.ledger()

    def lost(self):
        return self.control_json("lost")

    def rss(self):
        """Resident bytes."""
        return int(re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text(), re.M)[1]) * 1024

    def cpu_s(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


def stopwatch():
    begun = time.monotonic()
    return lambda: time.monotonic() - begun
