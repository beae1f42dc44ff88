# SPDX-License-Identifier: Apache-2.0
"""To the end: programs as they are, beylad, collectord, and a real trace store, which is asked by its own API for what it made of them. Slow: Jaeger
is built first."""
import sys

import pytest

from env.daemon import stopwatch
from env.destinations import document
from env.jaeger import Jaeger
from env.servers import PORT, PROGRAMS, ask, on_threads, python_server
from env.wait import until

pytestmark = [pytest.mark.slow, pytest.mark.row("ACC-SC2", "BEY-08", "BEY-12")]

GUNICORN = [sys.executable, "-m", "gunicorn", "--chdir", PROGRAMS, "--bind", f"127.0.0.1:{PORT}", "--worker-class", "gthread", "--threads", "8",
            "--keep-alive", "60", "frameworks:flask_app"]
SECONDS_MAX = 5                                    # from the request to the store's answer


@pytest.fixture
def jaeger(tmp_path):
    store = Jaeger(tmp_path / "jaeger")
    try:
        yield store.start(timeout=30)
    finally:
        store.stop()


@pytest.fixture
def chain(server, jaeger, collectord, beylad):
    """(front, back, collectord): Flask under gunicorn, what it calls, and who observes both; intervals are the default ones."""
    back = server(python_server(), env={"OTEL_SERVICE_NAME": "stock"})
    front = server([*GUNICORN], env={"UPSTREAM": back.url, "OTEL_SERVICE_NAME": "shop"}, start=False)
    front.env["LOG"] = str(front.log_path)
    front.start()
    until("its worker", lambda: len(front.pids()) == 2)
    c = collectord(document(jaeger={"url": jaeger.otlp}))
    d = beylad([front.port, back.port], config={"collector": str(c.frames_path)})
    for pid in (*front.pids(), back.pid):
        d.attached(pid)
    ask(front.port, ("GET", "/bytes/1"))           # Flask is loaded
    return front, back, c


def tags(of):
    return {tag["key"]: tag["value"] for tag in of["tags"]}


def as_tree(trace):
    """{span id: (service, kind, tags, parent's span id or None)} of a trace as Jaeger has it."""
    found = {}
    for span in trace["spans"]:
        assert span["traceID"] == trace["traceID"] and len(span["references"]) <= 1 and not span.get("warnings"), span
        parent = [r["spanID"] for r in span["references"] if r["refType"] == "CHILD_OF" and r["traceID"] == trace["traceID"]]
        assert len(parent) == len(span["references"]), span
        found[span["spanID"]] = (trace["processes"][span["processID"]]["serviceName"], tags(span)["span.kind"], tags(span), *(parent or [None]))
    return found


def assert_call(trace, path, front, back):
    """Server of shop > its client > server of stock, of the request for path, and nothing else."""
    tree = as_tree(trace)
    assert len(tree) == len(trace["spans"]) == 3, trace
    (outer, root), = [(i, x) for i, x in tree.items() if x[3] is None]
    (call, out), = [(i, x) for i, x in tree.items() if x[3] == outer]
    (_, inner), = [(i, x) for i, x in tree.items() if x[3] == call]
    assert [x[:2] for x in (root, out, inner)] == [("shop", "server"), ("shop", "client"), ("stock", "server")]
    assert (root[2]["url.path"], out[2]["url.full"], inner[2]["url.path"]) == (f"/call{path}", back.url + path, path)
    assert {x[2]["http.response.status_code"] for x in (root, out, inner)} == {200}
    spans = {span["spanID"]: span for span in trace["spans"]}
    processes = trace["processes"]
    pids = {kind: tags(processes[spans[i]["processID"]])["process.pid"] for kind, i in (("outer", outer), ("call", call))}
    assert pids["outer"] == pids["call"] and int(pids["outer"]) in front.pids()[1:]
    # Jaeger counts in microseconds.
    assert spans[outer]["startTime"] <= spans[call]["startTime"] and spans[outer]["duration"] >= spans[call]["duration"]


def trace_of(jaeger, path):
    """The one trace that the store has of the request for path, or None while it is not whole."""
    found = [t for t in jaeger.traces("shop") if any(tags(s).get("url.path") == f"/call{path}" for s in t["spans"])]
    assert len(found) <= 1, f"{len(found)} traces of one request"
    return found[0] if found and len(found[0]["spans"]) >= 3 else None


def arrives(jaeger, front, back, path):
    """Asks for path; the seconds until the store has its trace whole."""
    since = stopwatch()
    assert ask(front.port, ("GET", f"/call{path}")) == [200]
    trace = until(f"the trace of {path} in Jaeger", lambda: trace_of(jaeger, path), SECONDS_MAX, 0.05)
    took = since()
    assert_call(trace, path, front, back)
    return took


def test_one_request_is_one_trace_in_jaeger_in_less_than_5_s(chain, jaeger):
    front, back, c = chain
    took = [arrives(jaeger, front, back, f"/items/{i}") for i in range(5)]
    # collectord is another process meanwhile: what beylad knows goes to the new one, once.
    c.stop()
    c.start()
    took += [arrives(jaeger, front, back, f"/items/again/{i}") for i in range(5)]
    print(f"{min(took):.2f} to {max(took):.2f} s from the request to the store")
    assert jaeger.services() == {"shop", "stock"} and max(took) < SECONDS_MAX


def test_what_is_asked_while_collectord_is_away_is_there_once(chain, jaeger):
    front, back, c = chain
    arrives(jaeger, front, back, "/items/before")
    c.stop()
    paths = [f"/items/away/{i}" for i in range(20)]
    assert ask(front.port, *[("GET", f"/call{path}") for path in paths]) == [200] * 20
    c.start()
    since = stopwatch()
    arrives(jaeger, front, back, "/items/after")
    traces = until("all", lambda: found if all(found := [trace_of(jaeger, path) for path in paths]) else None, SECONDS_MAX, 0.1)
    assert since() < SECONDS_MAX
    for path, trace in zip(paths, traces):
        assert_call(trace, path, front, back)


def test_many_at_once_are_a_trace_each(chain, jaeger):
    front, back, _ = chain
    paths = [f"/slow/{(t * 7 + i) % 30}/r{t}-{i}" for t in range(8) for i in range(10)]
    on_threads(8, lambda t: ask(front.port, *[("GET", f"/call{path}") for path in paths[t * 10:t * 10 + 10]]), range(8))

    def complete():
        found = [t for t in jaeger.traces("shop") if len(t["spans"]) == 3]
        return found if len(found) >= len(paths) else None
    traces = until("80 traces", complete, SECONDS_MAX + 3, 0.1)
    by_path = {tags(s)["url.path"][len("/call"):]: t for t in traces for s in t["spans"] if tags(s).get("url.path", "").startswith("/call")}
    assert sorted(by_path) == sorted(paths) and len({t["traceID"] for t in traces}) == len(paths) == len(traces)
    for path, trace in by_path.items():
        assert_call(trace, path, front, back)
