# SPDX-License-Identifier: Apache-2.0
"""A reload of beylad, by SIGHUP and by its control socket: what was changed holds from then on, for connections that are open, too; a document that
is wrong is refused with its reason and changes nothing."""
import http.client
import json
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest

from env.servers import ask, python_server
from env.wait import until


@pytest.fixture
def observe(beylad, nowhere):
    return lambda ports, **config: beylad(ports, config={**nowhere.config, **config})


def by_control(d):
    assert d.control("reload") == "reloaded\n\n"


def by_signal(d):
    before = d.stats()["reloads"]
    d.process.send_signal(signal.SIGHUP)
    until("the reload", lambda: d.stats()["reloads"] > before)


def changed(d, reload=by_control, **config):
    d.config.update(config)
    d.write_config()
    reload(d)


class Held:
    """A connection that stays open; each request has a path of its own."""

    def __init__(self, s):
        self.s, self.n = s, 0
        self.connection = http.client.HTTPConnection("127.0.0.1", s.port, timeout=20)

    def ask(self, path=None, **headers):
        self.n += 1
        path = path or f"/items/{self.s.port}-{self.n}"
        self.connection.request("GET", path, headers=headers)
        self.connection.getresponse().read()
        return path.split("?")[0]


@pytest.mark.row("BEY-01")
@pytest.mark.parametrize("reload", [by_control, by_signal])
def test_other_ports_are_observed_on_connections_that_are_open(observe, server, reload):
    a, b = server(python_server()), server(python_server())
    held = {s.port: Held(s) for s in (a, b)}
    d = observe([a.port]).attached(a.pid)
    expected = []
    for observed in ([a], [b], [a, b], [a], []):
        if expected:
            changed(d, reload, open_ports=[str(s.port) for s in observed])
            until("who is observed", lambda: {p["pid"] for p in d.processes()} == {s.pid for s in observed}, 5)
        for s in (a, b):
            paths = [held[s.port].ask() for _ in range(5)]
            expected += [(path, s.port, s.pid) for path in paths] if s in observed else []
        d.spans(len(expected))
    spans = d.settled()
    assert sorted((x["url.path"], x["server.port"], x["pid"]) for x in spans) == sorted(expected)
    assert {(x["kind"], x["http.response.status_code"]) for x in spans} == {("SERVER", 200)} and d.stats()["requests_lost"] == 0


@pytest.mark.row("BEY-01")
def test_executables_and_exclusions(observe, server, tmp_path):
    """The interpreter at a path of its own, because the tests run on the same one."""
    own = Path(shutil.copy(Path(sys.executable).resolve(), tmp_path / "observed-python"))
    s = server([own, *python_server()[1:]])
    d = observe([])
    assert d.processes() == []
    changed(d, executables=f"^{re.escape(str(own))}$")
    d.attached(s.pid, 5)
    ask(s.port, ("GET", "/items/1"))
    d.spans(1)
    changed(d, by_signal, exclude="/observed-python$")
    until("it to be left", lambda: d.processes() == [], 5)
    ask(s.port, ("GET", "/items/2"))
    changed(d, by_signal, exclude="")
    d.attached(s.pid, 5)
    ask(s.port, ("GET", "/items/3"))
    d.spans(2)
    assert [x["url.path"] for x in d.settled()] == ["/items/1", "/items/3"]


@pytest.mark.row("BEY-16")
def test_routes_headers_and_queries_change_for_the_next_request(observe, server):
    s = server(python_server())
    held = Held(s)
    d = observe([s.port], routes={"patterns": ["/items/{id}"]}).attached(s.pid)

    def said(path):
        held.ask(path, **{"X-Tenant": "blue", "X-Other": "green"})
        x = d.spans(len(d.spans()) + 1)[-1]
        return x["http.route"], x.get("http.request.header.x-tenant"), x.get("http.request.header.x-other"), x.get("url.query")
    assert said("/items/17?a=b") == ("/items/{id}", None, None, None)
    changed(d, routes={"patterns": ["/{kind}/{id}"], "ignored": ["/status/*"]}, headers=["X-Tenant"], query=True)
    assert said("/items/17?a=b") == ("/{kind}/{id}", ["blue"], None, "a=b")
    held.ask("/status/204")                        # ignored from now on
    until("it to be left out", lambda: d.stats()["spans_ignored"] == 1)
    changed(d, by_signal, routes={"unmatched": "wildcard"}, headers=["X-Other"], query=False)
    assert said("/items/17?a=b") == ("/**", None, ["green"], None)
    assert said("/status/200") == ("/**", None, ["green"], None)
    assert len(d.settled()) == 4 and len(s.records(5)) == 5 and d.stats()["reloads"] == 2


WRONG = {"no JSON": ('{"open_ports": [', r"json:1:16: not JSON"), "an unknown key": ('{"open_prots": []}', r"open_prots"),
         "a port": ('{"open_ports": ["80-70"]}', r"open_ports\[0\].*ports from 1 to 65535"),
         "a regular expression": ('{"executables": "("}', r"executables.*regular expression"),
         "a secret header": ('{"headers": ["Cookie"]}', r"headers\[0\].*secret"), "a pattern": ('{"routes": {"patterns": ["x"]}}', r"routes\.patterns\[0\]"),
         "a bound": ('{"budget": {"cpu": -1}}', r"budget\.cpu")}


@pytest.mark.row("BEY-01")
def test_a_wrong_document_is_refused_and_changes_nothing(observe, server):
    s = server(python_server())
    held = Held(s)
    d = observe([s.port], headers=["X-Tenant"], routes={"patterns": ["/items/{id}"]}).attached(s.pid)
    before, observed = d.stats(), d.processes()
    for n, (what, (text, why)) in enumerate(WRONG.items(), 1):
        d.config_path.write_text(text)
        answer = d.control("reload")
        assert answer.startswith("error: ") and str(d.config_path) in answer and re.search(why, answer), (what, answer)
        assert re.search(why, json.loads(d.control("json reload"))["error"]), what
        d.process.send_signal(signal.SIGHUP)
        until(f"the refusal of {what}", lambda: d.log().count("reload refused, the old configuration stays") == n)
        refused = [line for line in d.log().splitlines() if "reload refused" in line][-1]
        assert re.search(why, refused) and "level=error" in refused, refused
        held.ask(f"/items/{n}", **{"X-Tenant": "blue"})
        x = d.spans(n)[-1]
        assert (x["http.route"], x["http.request.header.x-tenant"]) == ("/items/{id}", ["blue"]), what
    d.config_path.unlink()
    assert re.search("No such file", d.control("reload"))
    assert d.stats()["reloads"] == before["reloads"] and [p["pid"] for p in d.processes()] == [p["pid"] for p in observed]
    changed(d, headers=[])                         # and a right one holds again
    held.ask("/items/last", **{"X-Tenant": "blue"})
    assert d.spans(len(WRONG) + 1)[-1].get("http.request.header.x-tenant") is None
