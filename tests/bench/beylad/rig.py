# SPDX-License-Identifier: Apache-2.0
"""What the bench starts and reads: servers, beylad with its collectord, loads, CPU time of processes. Everything ends with the bench."""
import http.client
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


class BenchError(Exception):
    """The bench cannot run; its text says why."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(what, condition, seconds=15):
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise BenchError(f"waited {seconds} s for {what}")
        time.sleep(0.01)
    return value


def cpu_seconds(pids):
    """Time on a core of all threads that live, to the nanosecond."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def cpu_seconds_of_all(pids):
    """User and system time of all threads, those that ended too, to 10 ms."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mb(pid, key):
    return int(re.search(rf"^{key}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)[1]) / 1024


def place(cores, realtime):
    """In the child: on these cores, and before every program that is not real-time."""
    if cores:
        os.sched_setaffinity(0, cores)
    if realtime:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


class Child:
    """A process on a set of cores; ended by stop()."""

    def __init__(self, args, cores=None, log=None, env=None, cwd=None, realtime=False):
        out = open(log, "ab") if log else subprocess.DEVNULL
        try:
            self.process = subprocess.Popen([str(a) for a in args], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, cwd=cwd,
                                            preexec_fn=lambda: place(cores, realtime))
        except FileNotFoundError as e:
            raise BenchError(f"{e.filename} is missing") from e
        self.pid = self.process.pid

    def running(self):
        return self.process.poll() is None

    def stop(self):
        if self.running():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Server:
    """One of servers/, with its own count of requests."""
    names = ("nginx", "go", "node", "python")

    def __init__(self, name, work, cores=None, realtime=False):
        self.name, self.port = name, free_port()
        folder = work / f"server-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        self.child = Child(self._command(folder, work), cores, folder / "log", cwd=folder, realtime=realtime)
        until(f"{name} to listen", self._listens)

    def _command(self, folder, work):
        if self.name == "nginx":
            text = (HERE / "servers/nginx.conf").read_text().replace("@PORT@", str(self.port)).replace("@FOLDER@", str(folder))
            (folder / "nginx.conf").write_text(text)
            return ["nginx", "-p", folder, "-c", folder / "nginx.conf"]
        return {"go": [work / "server-of-go", self.port], "node": ["node", HERE / "servers/server.js", self.port],
                "python": ["python3", HERE / "servers/server.py", self.port]}[self.name]

    def _listens(self):
        if not self.child.running():
            raise BenchError(f"{self.name} ended at once with {self.child.process.returncode}")
        try:
            return self.count() >= 0
        except OSError:
            return False

    @property
    def pids(self):
        """Those that answer: nginx's worker, else the process itself."""
        if self.name == "nginx":
            children = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text().split()
            return [int(c) for c in children]
        return [self.child.pid]

    def cpu(self):
        """Python has a thread for each connection, which ends with it."""
        return (cpu_seconds_of_all if self.name == "python" else cpu_seconds)(self.pids)

    def count(self):
        """Requests it has had, this one included."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            c.request("GET", "/count")
            text = c.getresponse().read().decode()
        finally:
            c.close()
        return int(text.split("requests")[1].split()[2]) if self.name == "nginx" else int(text)

    def stop(self):
        self.child.stop()


class Collectord:
    """Takes what beylad sends, and counts it."""

    def __init__(self, binary, work, cores=None):
        self.folder = work / "collectord"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.socket = self.folder / "frames.sock"
        config = {"listen": {"otlp_http": "", "web": "", "frames": str(self.socket), "control": ""}, "destinations": {"null": {"type": "null"}}}
        (self.folder / "config.json").write_text(json.dumps(config))
        self.child = Child([binary, "--config", self.folder / "config.json"], cores, self.folder / "log",
                           {"PATH": os.environ["PATH"], "RUNTIME_DIRECTORY": str(self.folder)})
        until("collectord to listen", lambda: self.child.running() and self.socket.exists())

    def stop(self):
        self.child.stop()


class Beylad:
    """One beylad, observing the servers given."""

    def __init__(self, binary, work, collectord, servers, cores=None, config=None):
        self.folder = work / "beylad"
        self.folder.mkdir(parents=True, exist_ok=True)
        document = {"open_ports": [str(s.port) for s in servers], "exclude": "", "collector": str(collectord.socket), **(config or {})}
        (self.folder / "config.json").write_text(json.dumps(document))
        self.child = Child([binary, "--config", self.folder / "config.json"], cores, self.folder / "log",
                           {"PATH": os.environ["PATH"], "RUNTIME_DIRECTORY": str(self.folder)})
        self.pid = self.child.pid
        wanted = {p for s in servers for p in s.pids}
        until("beylad to observe the servers", lambda: wanted <= self.processes(), 20)

    def control(self, verb):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(str(self.folder / "beylad.sock"))
            s.sendall(verb.encode() + b"\n")
            s.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: s.recv(65536), b"")).decode()

    def processes(self):
        if not self.child.running():
            raise BenchError(f"beylad ended with {self.child.process.returncode}: {(self.folder / 'log').read_text()[-500:]}")
        try:
            return {json.loads(line)["pid"] for line in self.control("json processes").splitlines() if line}
        except OSError:
            return set()

    def stats(self):
        return json.loads(self.control("json stats"))

    def settled(self):
        """Its counters once no span waits or is open, and all that was sent has been taken. Where the end of a connection was lost, a request
        stays open for minutes: then those of 10 s later, in which it is missing."""
        end = time.monotonic() + 10
        while True:
            s = self.stats()
            if s["spans_held"] == 0 and s["spans_open"] == 0 and s["output_waiting"] == 0 or time.monotonic() > end:
                return s
            time.sleep(0.02)

    def stop(self):
        self.child.stop()


def wrk(port, seconds, connections, cores=None):
    """Requests a second that were answered."""
    done = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"http://127.0.0.1:{port}/hello"], capture_output=True, text=True,
                          timeout=seconds + 30, preexec_fn=lambda: place(cores, False))
    found = re.search(r"^Requests/sec:\s+([0-9.]+)", done.stdout, re.M)
    if not found or "Non-2xx" in done.stdout:
        raise BenchError(f"wrk: {done.stdout} {done.stderr}")
    return float(found[1])


def pace(program, port, rate, seconds, connections, cores=None):
    """The line of pace.c. It runs before everything else on its core, so that it measures the server's delay and not its own; at rates that
    fill the core it must not, or nothing else there would run."""
    done = subprocess.run([program, str(port), str(rate), str(seconds), str(connections)], capture_output=True, text=True, timeout=seconds + 60,
                          preexec_fn=lambda: place(cores, rate <= 5000))
    if done.returncode:
        raise BenchError(done.stderr)
    return json.loads(done.stdout)


def interleave(off, on, rounds):
    """off on off on ... off, after a round that does not count. Returns the results of off and of on."""
    off()
    offs, ons = [off()], []
    for _ in range(rounds):
        ons.append(on())
        offs.append(off())
    return offs, ons


def ratios(offs, ons):
    """Each on-value over the mean of its two neighbours."""
    return [on * 2 / (offs[i] + offs[i + 1]) for i, on in enumerate(ons)]


def differences(offs, ons):
    return [on - (offs[i] + offs[i + 1]) / 2 for i, on in enumerate(ons)]


def noise(offs):
    """By how much two neighbouring off-rounds differ: what no beylad explains."""
    return statistics.median(abs(b - a) for a, b in zip(offs, offs[1:]))


def relative(values):
    middle = statistics.median(values)
    return [v / middle for v in values]


def spread(values, form="{:.3g}"):
    """Median (lowest-highest)."""
    low, middle, high = (form.format(v) for v in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})"
