#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What inject costs, by the kernel's statistics: ns a run of each of its programs, and of a request. Needs root, bpftool and a build.
  venv/bin/python tests/bench/beylad/inject.py [REQUESTS]"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "integration"))
from env.beylad import Beylad  # noqa: E402
from env.inject import Caller, Cgroup, Recorder  # noqa: E402

NAMES = ("on_message", "on_socket", "on_sent", "on_received", "on_closed")


def programs():
    shown = json.loads(subprocess.run(["bpftool", "-j", "prog", "show"], capture_output=True, check=True).stdout)
    return {p["name"]: (p.get("run_time_ns", 0), p.get("run_cnt", 0)) for p in shown if p.get("name") in NAMES}


def measure(what, keep_alive, act, requests):
    cgroup, recorder = Cgroup(), Recorder()
    d = None
    try:
        caller = Caller(cgroup.popen)
        with tempfile.TemporaryDirectory() as folder:
            d = Beylad(folder, ports=[caller.port], config={"budget": {"probe_cpu": 6400}, "printer": "disabled", "inject": {
                "cgroup": str(cgroup.path), "ports": [str(recorder.port)], "keep_alive": keep_alive}}).start().attached(caller.pid)
            before, sent = programs(), d.stats()["inject_sent"]
            act(caller, recorder.port, requests)
            after, sent = programs(), d.stats()["inject_sent"] - sent
            print(f"{what}: {requests} requests, {sent} of them changed")
            total = 0
            for name in NAMES:
                ns, runs = (after[name][i] - before[name][i] for i in (0, 1))
                total += ns
                print(f"  {name:12} {runs / requests:6.2f} runs/request {ns / max(runs, 1):7.0f} ns/run {ns / requests:7.0f} ns/request")
            print(f"  {'all':12} {total / requests:44.0f} ns/request")
            d.kill()
    finally:
        if d:
            d.kill()
        cgroup.stop()
        recorder.stop()


def many(caller, port, n):
    caller.do(do="http", port=port, requests=[{"path": "/x", "headers": {"User-Agent": "bench/1.0", "Accept": "*/*"}}] * n)


def each(caller, port, n):
    for _ in range(n // 100):
        caller.do(do="requests", port=port, requests=[{"path": "/x"}] * 100)


n = int(sys.argv[1]) if len(sys.argv) > 1 else 10000
measure("keep_alive, one connection", True, many, n)
measure("the first of a connection, one connection", False, many, n)
measure("the first of a connection, a connection each", False, each, n // 5)
