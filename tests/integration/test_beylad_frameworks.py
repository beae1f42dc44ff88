# SPDX-License-Identifier: Apache-2.0
"""Python's frameworks under beylad: what each logged is what the spans say, and with 50 requests at once that each call another service no span has
a wrong parent. A path of its own for each request tells which parent is the true one."""
import collections
import sys

import pytest

from env.beylad import close
from env.servers import LOG, PORT, PROGRAMS, ask, on_threads, python_server
from env.wait import until

GUNICORN = [sys.executable, "-m", "gunicorn", "--chdir", PROGRAMS, "--bind", f"127.0.0.1:{PORT}", "--timeout", "60", "--keep-alive", "60",
            "frameworks:flask_app"]
UVICORN = [sys.executable, "-m", "uvicorn", "--app-dir", PROGRAMS, "--host", "127.0.0.1", "--port", PORT, "--no-access-log", "frameworks:fastapi_app"]
# name: (command, processes that serve, whether a thread serves one request at a time: then no parent is ambiguous)
FRAMEWORKS = {
    "flask-sync": ([*GUNICORN, "--workers", "1"], 1, True),
    "flask-sync-4": ([*GUNICORN, "--workers", "4"], 4, True),
    "flask-gthread": ([*GUNICORN, "--workers", "1", "--worker-class", "gthread", "--threads", "50"], 1, True),
    "flask-gthread-4": ([*GUNICORN, "--workers", "4", "--worker-class", "gthread", "--threads", "16"], 4, True),
    "fastapi-asyncio": ([*UVICORN, "--loop", "asyncio", "--http", "h11"], 1, False),
    "fastapi-uvloop": ([*UVICORN, "--loop", "uvloop", "--http", "h11"], 1, False),
    "aiohttp": ([sys.executable, PROGRAMS / "frameworks.py", PORT], 1, False),
}

pytestmark = [pytest.mark.slow, pytest.mark.row("BEY-07", "BEY-08")]


@pytest.fixture
def services(server, beylad, nowhere, request):
    """(front on the framework, back, beylad that observes both, whether threads serve alone)"""
    command, processes, alone = FRAMEWORKS[request.param]
    back = server(python_server())
    front = server(command, env={"UPSTREAM": back.url, "LOG": LOG}, start=False)
    front.env["LOG"] = str(front.log_path)
    front.start()
    if processes > 1:
        until("its workers", lambda: len(front.pids()) == 1 + processes, 20)
    ask(front.port, ("GET", "/bytes/1"))           # the framework is loaded
    until("the first line", lambda: len(front.log_lines()) == 1)
    front.log_path.write_text("")
    d = beylad([front.port, back.port], config={**nowhere.config, "routes": {"unmatched": "path"}})
    for pid in (*front.pids(), back.pid):
        d.attached(pid)
    return front, back, d, alone


@pytest.mark.parametrize("services", FRAMEWORKS, indirect=True)
def test_50_at_once_that_call_out_have_no_wrong_parent(services):
    front, back, d, alone = services
    n, each = 50, 8
    on_threads(n, lambda t: ask(front.port, *[("GET", f"/call/slow/{(t * 7 + i) % 30}/r{t}-{i}") for i in range(each)]), range(n))
    total = n * each
    back.records(total)
    until("the log", lambda: len(front.log_lines()) >= total)
    d.spans(3 * total, timeout=30)
    spans, stats = d.settled(timeout=40), d.stats()
    assert stats["requests_lost"] == 0 and len(spans) == 3 * total, stats
    fronts = {x["url.path"]: x for x in spans if x.server and x["server.port"] == front.port}
    backs = {x["url.path"]: x for x in spans if x.server and x["server.port"] == back.port}
    clients = {"/" + x["url.full"].split("/", 3)[3]: x for x in spans if not x.server}
    assert len(fronts) == len(backs) == len(clients) == total
    assert collections.Counter(front.log_lines()) == collections.Counter(f"GET {path} {x['http.response.status_code']}" for path, x in fronts.items())
    wrong, ends, certain, ambiguous = [], [], 0, 0
    for path, call in clients.items():
        true, inner = fronts["/call" + path], backs[path]
        linked = {link["span_id"] for link in call["links"]}
        if call["parent_span_id"]:
            certain += 1
            if call["parent_span_id"] != true["span_id"] or call["trace_id"] != true["trace_id"]:
                wrong.append((path, call, true))
        else:
            ambiguous += 1
            assert linked, f"neither a parent nor a link: {call}"
        # Across the connection nothing is ever in doubt.
        assert inner["parent_span_id"] == call["span_id"] and inner["trace_id"] == call["trace_id"], (call, inner)
        assert call["start_unix_nano"] <= inner["start_unix_nano"]
        ends.append((max(inner["end_unix_nano"], call["end_unix_nano"]) / 1e9, call["end_unix_nano"] / 1e9))
        assert true["start_unix_nano"] <= call["start_unix_nano"] and call["end_unix_nano"] <= true["end_unix_nano"]
    print(f"{certain} certain, {ambiguous} ambiguous, {len(wrong)} wrong")
    close(ends, 0.001, 0.9)                        # who wrote the answer may be told so after who read it
    assert not wrong, f"{len(wrong)} wrong parents of {certain}, such as {wrong[0]}"
    assert stats["parents_ambiguous"] == ambiguous and (ambiguous == 0 if alone else certain + ambiguous == total)


@pytest.mark.parametrize("services", FRAMEWORKS, indirect=True)
def test_sizes_and_one_request_after_the_other(services):
    """Without others beside it even an event loop's client has a certain parent."""
    front, back, d, _ = services
    ask(front.port, *[("GET", f"/bytes/{size}") for size in (0, 1, 1000, 100_000)], *[("GET", f"/call/items/{i}") for i in range(10)], ("GET", "/nowhere"))
    until("the log", lambda: len(front.log_lines()) >= 15)
    d.spans(4 + 3 * 10 + 1)
    spans = d.settled()
    assert len(spans) == 35 and d.stats()["parents_ambiguous"] == 0 == d.stats()["requests_lost"]
    fronts = {x["url.path"]: x for x in spans if x.server and x["server.port"] == front.port}
    assert [fronts[f"/bytes/{size}"]["http.response.body.size"] for size in (0, 1, 1000, 100_000)] == [0, 1, 1000, 100_000]
    assert fronts["/nowhere"]["http.response.status_code"] == 404
    assert {x["pid"] for x in fronts.values()} <= set(front.pids())
    for x in spans:
        if not x.server:
            assert x["parent_span_id"] == fronts["/call/" + x["url.full"].split("/", 3)[3]]["span_id"]
