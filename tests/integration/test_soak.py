# SPDX-License-Identifier: Apache-2.0
"""A minute of everything at once: all doors, bad input, a hub that fails in every way, reloads, taps. What was accepted arrives, the ledger balances,
and neither memory nor descriptors have grown. SOAK_SECONDS makes it longer."""
import os
import random
import signal
import socket
import threading
import time

import pytest

from env import otlp
from env.daemon import sanitized
from env.destinations import document, local, remote
from env.sink import close_mid_response, hang, ok, slow_answer, status
from env.wait import until

SECONDS = int(os.environ.get("SOAK_SECONDS", "60"))
GROWTH_BYTES = 24 << 20                            # over the warm state: malloc's arenas and the spool's few segments, not a leak of records


class Load:
    """Threads that send until told to end, and note what was accepted."""

    def __init__(self, daemon):
        self.daemon, self.stopped, self.lock = daemon, threading.Event(), threading.Lock()
        self.accepted, self.errors = {s: [] for s in otlp.SIGNALS}, []
        self.threads = []

    def run(self, work, seed):
        def loop():
            rng = random.Random(seed)
            n = 0
            while not self.stopped.is_set():
                n += 1
                try:
                    work(rng, f"{work.__name__}-{seed}-{n}")
                except Exception as e:             # noqa: BLE001: whatever it is fails the test
                    self.errors.append(f"{work.__name__}: {e!r}")
                    return
                self.stopped.wait(rng.uniform(0.001, 0.01))
        self.threads.append(threading.Thread(target=loop, daemon=True))
        self.threads[-1].start()

    def took(self, signal_name, names):
        with self.lock:
            self.accepted[signal_name] += names

    def http(self, rng, name):
        kind = rng.choice(otlp.SIGNALS)
        names = [f"{name}-{i}" for i in range(rng.choice((1, 5, 50)))]
        message = otlp.MAKE[kind](names, pad=rng.choice((0, 100)))
        answer = self.daemon.post(kind, message, type=rng.choice((otlp.PROTOBUF, otlp.JSON)), expect=None)
        assert answer.status in (200, 503), answer
        if answer.status == 200:
            self.took(kind, names)

    def lines(self, rng, name):
        answers = self.daemon.lines({"log": name, "service": "soak"}, "{bad", {"log": 1, "level": "nothing"})
        assert [a["ok"] for a in answers] == [True, False, False], answers
        self.took("logs", [name])

    def bad(self, rng, name):
        """Bodies that are none, requests that end early, frames that are none."""
        answer = self.daemon.post("traces", b"\x0a\xff\xff\x7f" + os.urandom(rng.randrange(2000)), expect=None)     # longer than it is
        assert answer.status in (400, 503), answer
        with socket.create_connection(("127.0.0.1", self.daemon.otlp_port), timeout=10) as s:
            s.sendall(b"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\nhalf")
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(str(self.daemon.frames_path))
            s.sendall(b"TLMF" + os.urandom(40))

    def looks(self, rng, name):
        self.daemon.metrics()
        self.daemon.ledger()
        assert self.daemon.get("/")[0] == 200
        self.daemon.control("tap logs --back 1s --no-follow --for 5")
        with socket.socket(socket.AF_UNIX) as s:       # a tap that is left in the middle
            s.connect(str(self.daemon.control_path))
            s.sendall(b"tap\n")
            s.settimeout(10)
            s.recv(100)

    def end(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join(30)
        assert not self.errors, self.errors


def misbehave(hub, rng):
    what = rng.randrange(6)
    if what == 0:
        hub.down()
        time.sleep(rng.uniform(0.1, 0.6))
        hub.up()
    else:
        hub.behave((ok(), status(503, {"Retry-After": "1"}), hang(), close_mid_response(), slow_answer(0.3))[what - 1])


@pytest.mark.slow
def test_everything_at_once_leaves_nothing_behind(collectord, consumer, hub):
    d = collectord(document(local=local(consumer), hub=remote(hub, timeout="1s")))
    load, rng = Load(d), random.Random(1)
    for seed, work in enumerate((load.http, load.http, load.lines, load.bad, load.looks)):
        load.run(work, seed)
    began, warm = time.monotonic(), None
    while time.monotonic() - began < SECONDS and not load.errors:
        misbehave(hub, rng)
        time.sleep(rng.uniform(0.2, 1.0))
        d.signal(signal.SIGHUP)
        d.check_alive()
        if warm is None and time.monotonic() - began > SECONDS / 4:
            warm = d.rss()
    load.end()
    hub.up().behave(ok())
    d.wait_drained("hub", timeout=120)
    grown = d.rss() - warm
    for kind in otlp.SIGNALS:
        missing = set(load.accepted[kind]) - set(hub.names(kind))
        assert not missing, f"{len(missing)} of {len(load.accepted[kind])} {kind} were accepted and did not arrive: {sorted(missing)[:5]}"
        assert set(hub.names(kind)) <= set(load.accepted[kind]), f"{kind} arrived that nobody sent"
    assert sum(map(len, load.accepted.values())) > 20 * SECONDS, "the load was too small to say anything"
    assert all(r["dropped"] + r["rejected"] == 0 for (name, _), r in d.ledger().items() if name == "hub")
    until("connections to end", lambda: d.descriptors() < 60, 60)
    if not sanitized():
        assert grown < GROWTH_BYTES, f"{grown >> 20} MiB more than when it was warm"
