# SPDX-License-Identifier: Apache-2.0
"""beylad's limit to its own cost, with a load that is too much for it: it gives up detail, then spans, then observing, says each in its log and to
collectord, and comes back when the load is over; with the same connections, and the same account of requests."""
import http.client
import json
import re
import subprocess

import pytest

from env import otlp
from env.beylad_servers import Nginx, needs
from env.destinations import document, remote
from env.wait import until

STEPS = ["everything", "heads only", "metrics only", "nothing"]


@pytest.fixture
def nginx(tmp_path):
    needs("nginx", "wrk")
    s = Nginx(tmp_path, workers=1)
    (s.files / "page").write_bytes(b"p" * 100)
    try:
        yield s.start()
    finally:
        s.stop()


@pytest.fixture
def load(nginx):
    """load(): wrk until load.end()."""
    class Load:
        process = None

        def __call__(self):
            self.process = subprocess.Popen(["wrk", "-t", "1", "-c", "16", "-d", "60s", f"{nginx.url}/page"], stdout=subprocess.DEVNULL)

        def end(self):
            if self.process:
                self.process.terminate()
                self.process.wait(10)
    one = Load()
    yield one
    one.end()


def said(d):
    """The steps of its log: [(from, to, why)]."""
    lines = [line for line in d.log().splitlines() if "the budget changes what is observed" in line]
    return [re.search(r'from="?([a-z ]+?)"? to="?([a-z ]+?)"? why="(.*)"', line).groups() for line in lines]


@pytest.mark.parametrize("cpu, probe_cpu", [(4, 0), (0, 2)], ids=["beylad", "probes"])
def test_a_load_above_the_budget_is_met_by_observing_less_until_it_is_over(nginx, load, hub, collectord, beylad, cpu, probe_cpu):
    c = collectord(document(hub=remote(hub)))
    d = beylad([nginx.port], config={"collector": str(c.frames_path), "printer": "disabled", "metrics": {"interval": "1s"},
                                     "budget": {"cpu": cpu, "probe_cpu": probe_cpu, "period": "150ms"}}).attached(nginx.pid)
    held = http.client.HTTPConnection("127.0.0.1", nginx.port, timeout=20)

    def ask(path):
        held.request("GET", path)
        assert held.getresponse().read()

    def told():
        """What collectord has of it, by STATUS."""
        return [p["status"] for s in c.control_json("sources") for p in (s.get("producers") or [s]) if p.get("name") == "beylad" and p.get("status")]
    ask("/before")
    until("its span", lambda: d.stats()["spans_server"] == 1)
    assert d.stats()["budget_step"] == 0
    load()
    statuses = []

    def stepped_to(step):
        statuses.extend(s for s in told() if s not in statuses)
        return any(to == STEPS[step] for _, to, _ in said(d))
    for step in (1, 2, 3):
        until(f"observing {STEPS[step]}", lambda: stepped_to(step), 10)
    until("nobody to be observed", lambda: d.processes() == [])
    before = d.stats()
    ask("/unseen")
    load.end()
    until("observing everything again", lambda: stepped_to(0), 20)     # from its log: to ask beylad costs it what is measured here
    assert d.stats()["budget_step"] == 0
    until("the server to be found again", lambda: {p["pid"] for p in d.processes()} >= {nginx.pid})
    steps = said(d)
    first_down = [(a, b) for a, b, _ in steps][:3]
    assert first_down == list(zip(STEPS, STEPS[1:])), steps
    assert [(a, b) for a, b, _ in steps][-3:] == [(b, a) for a, b in list(zip(STEPS, STEPS[1:]))[::-1]], steps
    for _, to, why in steps:
        assert re.fullmatch(rf"observes {to}: beylad took \d+\.\d % of a core, its probes \d+\.\d %; the budget is {cpu} % and {probe_cpu} %", why)
    until("collectord to have been told", lambda: stepped_to(0) and any(s.startswith("observes everything") for s in told()))
    assert {why for _, _, why in steps} >= set(statuses) and any(s.startswith("observes nothing") for s in statuses), statuses
    # And then all is as it was, on a connection that was open all the time, too.
    until("what was held back", lambda: d.stats()["spans_held"] == 0)
    spans, lost = d.stats()["spans_server"], d.stats()["requests_lost"]
    for i in range(10):
        ask(f"/after/{i}")
    until("their spans", lambda: d.stats()["spans_server"] >= spans + 10)
    assert (d.stats()["spans_server"], d.stats()["requests_lost"]) == (spans + 10, lost) and before["processes"] == 0
    # Metrics count what was observed, spans what was observed and not held back; what was not observed is neither.
    stats = until("the last spans to be sent", lambda: (n := d.stats())["output_queued_spans"] + n["spans_ignored"] == n["spans_server"] and n)
    assert stats["spans_ignored"] > 0 and stats["spans_server"] + stats["requests_lost"] < len(nginx.log_lines())
    hub.wait(lambda h: sum(n for n, _ in otlp.histogram(h, "http.server.request.duration").values()) == stats["spans_server"], 10)


def test_without_a_bound_everything_is_observed_at_once(nginx, load, observe):
    """However high the load still is."""
    d = observe([nginx.port], {"printer": "disabled", "budget": {"cpu": 2, "period": "100ms"}}).attached(nginx.pid)
    load()
    until("nobody to be observed", lambda: any(to == "nothing" for _, to, _ in said(d)))
    d.config["budget"]["cpu"] = 0
    d.write_config()
    assert d.control("reload") == "reloaded\n\n"
    assert said(d)[-1][1:] == ("everything", "observes everything: the budget has no bound any more")
    spans = d.stats()["spans_server"]
    until("requests to be seen", lambda: d.stats()["spans_server"] > spans + 1000)
    assert json.loads(d.control("json status"))["observes"] == "everything" and len(said(d)) >= 4
