# SPDX-License-Identifier: Apache-2.0
"""The traceparent that beylad writes into requests, against what a server that nobody observes got, byte for byte."""
import hashlib
import http.client
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from env.beylad import Beylad
from env.beylad_servers import Nginx, Redis
from env.daemon import binary
from env.inject import Caller, Cgroup, Recorder, cgroup_mount
from env.wait import until

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ANSWER = len(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + b"r" * 10)


def digest(data):
    return hashlib.sha256(data).hexdigest()


def body_of(n):
    return bytes(i % 251 for i in range(n))


@pytest.fixture
def cgroup():
    if cgroup_mount() is None:
        pytest.skip("no cgroup of version 2 is mounted")
    c = Cgroup()
    yield c
    c.stop()


@pytest.fixture
def recorder():
    r = Recorder()
    yield r
    r.stop()


@pytest.fixture
def injecting(beylad, cgroup, recorder, nowhere):
    """injecting(*ports, keep_alive=...): beylad that observes what listens on ports and changes what is sent to the recorder."""
    def make(*ports, keep_alive=False, to=None, config=None, **options):
        inject = {"cgroup": str(cgroup.path), "ports": [str(to or recorder.port)], "keep_alive": keep_alive}
        d = beylad(ports=ports, config={**nowhere.config, "inject": inject, **(config or {})}, **options)
        assert d.control("status").find(f"cgroup {cgroup.path}, {'every' if keep_alive else 'the first'} request of a connection") > 0, d.control("status")
        return d
    return make


@pytest.fixture
def caller(cgroup):
    return Caller(cgroup.popen)


def assert_ids(d, got, spans=None):
    """Each traceparent names exactly one exported client span, by trace and span id, and that is the span of this very request."""
    injected = [g for g in got if g.ids]
    clients = spans or d.clients()
    ids = [(s["trace_id"], s["span_id"]) for s in clients]
    for g in injected:
        assert g.ids[2] == "01"
        assert ids.count(g.ids[:2]) == 1, (g.head, ids)
        assert clients[ids.index(g.ids[:2])]["url.full"].endswith(g.path), g.head
    assert len({g.ids[:2] for g in injected}) == len(injected)


# ---- what is changed, and what is not ----

def test_a_request_gets_one_line_and_its_span_these_ids(injecting, caller, recorder, cgroup):
    d = injecting(caller.port).attached(caller.pid)
    assert caller.do(do="http", port=recorder.port, requests=[{"path": "/a", "headers": {"X-Mine": "1"}}])[0][0] == 200
    assert caller.do(do="requests", port=recorder.port, requests=[{"path": "/b"}, {"path": "/c", "method": "PUT", "body": 9}]) == [200, 200]
    d.clients(3)
    assert [g.path for g in recorder.got] == ["/a", "/b", "/c"] and all(g.ids for g in recorder.got)
    assert recorder.got[0].as_sent.startswith(b"GET /a HTTP/1.1\r\nHost: ") and recorder.got[0].as_sent.endswith(b"X-Mine: 1\r\n\r\n")
    assert recorder.got[2].body == body_of(9)
    assert_ids(d, recorder.got)
    assert len({g.ids[0] for g in recorder.got}) == 3          # nothing is served: each begins a trace
    assert all(s["parent_span_id"] == "" and s["links"] == [] for s in d.clients())
    s = d.stats()
    assert (s["inject_sent"], s["spans_injected"], s["spans_split"], s["inject_connections"], s["inject_connections_left"]) == (3, 3, 0, 3, 3)
    explained = d.control(f"explain {caller.pid}")
    assert f"yes traceparent it is in cgroup {cgroup.path}" in explained, explained


def test_curl_gets_one_too(injecting, recorder, cgroup):
    d = injecting(config={"executables": "/curl$"})
    p = cgroup.popen(["curl", "-sS", "-K", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    d.attached(p.pid)
    out, _ = p.communicate(f"url = http://127.0.0.1:{recorder.port}/size/1000000\n".encode(), timeout=20)
    assert out == b"r" * 1000000
    d.clients(1)
    assert len(recorder.got) == 1 and recorder.got[0].ids
    assert_ids(d, recorder.got)


def test_other_programs_and_other_ports_are_left_alone(injecting, caller, recorder, cgroup):
    outside, other = Caller(subprocess.Popen), Recorder()
    try:
        d = injecting(caller.port, outside.port).attached(caller.pid).attached(outside.pid)
        outside.do(do="http", port=recorder.port, requests=[{"path": "/outside"}])
        caller.do(do="http", port=other.port, requests=[{"path": "/other"}])
        caller.do(do="http", port=recorder.port, requests=[{"path": "/here"}])
        d.clients(3)
        assert [(g.path, g.count) for g in recorder.got + other.got] == [("/outside", 0), ("/here", 1), ("/other", 0)]
        assert d.stats()["inject_connections"] == 1
        assert f"no  traceparent it is not in cgroup {cgroup.path}" in d.control(f"explain {outside.pid}")
    finally:
        outside.stop()
        other.stop()


@pytest.mark.parametrize("keep_alive", [False, True])
def test_an_own_traceparent_stays_the_only_one(injecting, caller, recorder, keep_alive):
    d = injecting(caller.port, keep_alive=keep_alive).attached(caller.pid)
    own = f"00-{TRACE}-{SPAN}-01"
    caller.do(do="http", port=recorder.port, requests=[{"path": "/1", "headers": {"TraceParent": own}}, {"path": "/2"}])
    caller.do(do="requests", port=recorder.port, requests=[{"path": "/3", "headers": {"traceparent": own}}])
    d.clients(3)
    assert [g.count for g in recorder.got] == [1, int(keep_alive), 1]
    assert all(own.encode() in g.head for g in (recorder.got[0], recorder.got[2]))
    assert d.stats()["inject_own"] == 2
    assert sorted(s["trace_id"] == TRACE for s in d.clients()) == [False, True, True]


@pytest.mark.parametrize("keep_alive", [False, True])
def test_keep_alive_connections(injecting, caller, recorder, keep_alive):
    """Of a connection the first request, or with inject.keep_alive each, behind bodies of any length."""
    d = injecting(caller.port, keep_alive=keep_alive).attached(caller.pid)
    sizes = [0, 1, 100, 16384, 65536, 1000000, 0, 8191, 300000, 0]
    plan = [{"path": f"/{i}", "body": n} for i, n in enumerate(sizes)]
    assert [a[0] for a in caller.do(do="http", port=recorder.port, requests=plan)] == [200] * len(sizes)
    d.clients(len(sizes))
    assert [g.count for g in recorder.got] == [1 if keep_alive else int(i == 0) for i in range(len(sizes))]
    assert [digest(g.body) for g in recorder.got] == [digest(body_of(n)) for n in sizes]
    assert_ids(d, recorder.got)
    spans = sorted(d.clients(), key=lambda s: s["start_unix_nano"])
    assert [s["http.request.body.size"] for s in spans] == sizes
    assert [s["http.response.body.size"] for s in spans] == [10] * len(sizes)
    assert d.stats()["requests_lost"] == 0


@pytest.mark.parametrize("keep_alive", [False, True])
def test_bodies_that_are_sent_bit_by_bit(injecting, caller, recorder, keep_alive):
    """A call that does not wait takes a part, and the program sends the rest again: not a byte is lost, doubled or taken for a request."""
    d = injecting(caller.port, keep_alive=keep_alive).attached(caller.pid)
    plan = [{"path": f"/slow/100/{i}", "body": n} for i, n in enumerate([1000000, 1, 700000, 300000])]
    calls = caller.do(do="nonblocking", port=recorder.port, requests=plan)
    assert calls[0] > 1 and calls[2] > 1, calls
    d.clients(len(plan))
    assert [digest(g.body) for g in recorder.got] == [digest(body_of(r["body"])) for r in plan]
    assert [g.count for g in recorder.got] == ([1, 1, 1, 1] if keep_alive else [1, 0, 0, 0])
    assert_ids(d, recorder.got)
    assert sorted(s["http.request.body.size"] for s in d.clients()) == sorted(r["body"] for r in plan)


def test_behind_a_chunked_body_nothing_is_certain(injecting, caller, recorder):
    d = injecting(caller.port, keep_alive=True).attached(caller.pid)
    plan = [{"path": "/1"}, {"path": "/2", "body": 70000, "chunked": True, "method": "POST"}, {"path": "/3"}]
    caller.do(do="http", port=recorder.port, requests=plan)
    d.clients(3)
    assert [g.count for g in recorder.got] == [1, 1, 0]
    assert recorder.got[1].body == body_of(70000)
    assert_ids(d, recorder.got)
    assert d.stats()["inject_connections_left"] == 1


def test_a_head_in_pieces_is_left_alone(injecting, caller, recorder):
    d = injecting(caller.port, keep_alive=True).attached(caller.pid)
    whole = "GET /whole HTTP/1.1\r\nHost: x\r\n\r\n"
    caller.do(do="raw", port=recorder.port, sends=["GET /cut HTTP/1.1\r\n", "Host: x\r\n\r\n"], answer=ANSWER)
    caller.do(do="raw", port=recorder.port, sends=["GET /long HTTP/1.1\r\nX: " + "y" * 9000 + "\r\n\r\n"], answer=ANSWER)
    caller.do(do="raw", port=recorder.port, sends=[whole * 2], answer=2 * ANSWER)           # two at once
    caller.do(do="raw", port=recorder.port, sends=[whole.replace("\r\n", "\n", 1)], answer=ANSWER)
    caller.do(do="raw", port=recorder.port, sends=[whole], answer=ANSWER)
    assert [(g.path, g.count) for g in recorder.got] == [("/cut", 0), ("/long", 0), ("/whole", 0), ("/whole", 0), ("/whole", 0), ("/whole", 1)]
    s = d.stats()
    assert (s["inject_split"], s["inject_other"], s["inject_sent"]) == (2, 2, 1)


def test_a_body_that_looks_like_a_request_is_a_body(injecting, caller, recorder):
    d = injecting(caller.port, keep_alive=True).attached(caller.pid)
    inner = "GET /inner HTTP/1.1\r\nHost: x\r\n\r\n"
    head = f"POST /outer HTTP/1.1\r\nHost: x\r\nContent-Length: {2 * len(inner)}\r\n\r\n"
    caller.do(do="raw", port=recorder.port, sends=[head, inner, inner], answer=ANSWER)
    assert [(g.path, g.body.decode()) for g in recorder.got] == [("/outer", 2 * inner)]
    assert d.stats()["inject_sent"] == 1


def test_redis_on_the_port_is_untouched(injecting, caller, cgroup, tmp_path):
    redis = Redis(tmp_path).start()
    try:
        d = injecting(caller.port, redis.port, to=redis.port, keep_alive=True).attached(caller.pid)
        assert caller.do(do="raw", port=redis.port, sends=["*1\r\n$4\r\nPING\r\n", "*2\r\n$4\r\nECHO\r\n$5\r\nGET /\r\n"], answer=18) == "+PONG\r\n$5\r\nGET /\r\n"
        assert d.stats()["inject_other"] == 1 and d.stats()["inject_sent"] == 0
    finally:
        redis.stop()


# ---- no stalls ----

@pytest.mark.parametrize("keep_alive", [False, True])
def test_large_answers_do_not_stall(injecting, caller, recorder, keep_alive):
    d = injecting(caller.port, keep_alive=keep_alive).attached(caller.pid)
    begun = time.monotonic()
    answers = caller.do(do="http", port=recorder.port, requests=[{"path": "/size/1000000"}] * 20)
    assert [a[1] for a in answers] == [1000000] * 20
    assert time.monotonic() - begun < 5
    d.clients(20)
    assert_ids(d, recorder.got)


@pytest.mark.parametrize("keep_alive", [False, True])
def test_a_thread_that_waits_to_read_gets_the_answer(injecting, caller, recorder, keep_alive):
    d = injecting(caller.port, keep_alive=keep_alive).attached(caller.pid)
    size = ANSWER - len("10") - 10 + len("1000000") + 1000000
    for _ in range(10):
        assert caller.do(do="reader", port=recorder.port, path="/size/1000000", answer=size) == size
    assert [g.count for g in recorder.got] == [1] * 10
    d.clients(10)
    assert_ids(d, recorder.got)


def test_what_waits_is_counted_right(injecting, caller, recorder):
    """Kernels that miscount it (FIONREAD) do so for sockets in a hash: ours is out of it before the answer comes."""
    d = injecting(caller.port).attached(caller.pid)
    for _ in range(20):
        said, was = caller.do(do="waiting", port=recorder.port, path="/size/1000")
        assert said == was > 1000
    assert d.stats()["inject_sent"] == 20


def test_nginx_hands_large_answers_on(injecting, cgroup, recorder, tmp_path):
    """nginx asks how much waits (FIONREAD), and stops reading when it is nothing."""
    nginx = Nginx(tmp_path, recorder.port, workers=1)
    nginx.command = cgroup.wrap + nginx.command
    nginx.start()
    try:
        d = injecting(nginx.port)
        until("nginx to be observed", lambda: len(d.processes()) >= 2)
        begun = time.monotonic()
        for i in range(5):
            c = http.client.HTTPConnection("127.0.0.1", nginx.port, timeout=20)
            c.request("GET", f"/proxy/size/{1000000 + i}")
            assert len(c.getresponse().read()) == 1000000 + i
            c.close()
        assert time.monotonic() - begun < 5
        assert recorder.got[0].ids
        d.spans(1, lambda s: s["span_id"] == recorder.got[0].ids[1])
        assert_ids(d, recorder.got[:1])
    finally:
        nginx.stop()


@pytest.mark.parametrize("keep_alive", [False, True])
def test_connections_outlive_beylad(injecting, caller, recorder, keep_alive):
    d = injecting(caller.port, keep_alive=keep_alive).attached(caller.pid)
    for name in "abc":
        caller.do(do="http", keep=name, port=recorder.port, requests=[{"path": "/1"}])
    caller.tell(do="http", keep="a", port=recorder.port, requests=[{"path": "/wait/300"}] + [{"path": "/size/1000000", "body": 1000000}] * 5)
    until("the request to be under way", lambda: len(recorder.got) == 4)
    d.kill()
    d.process = None                               # its end is no failure here
    begun = time.monotonic()
    assert [a[1] for a in caller.hear()] == [10] + [1000000] * 5
    for name in "bc":
        assert caller.do(do="http", keep=name, port=recorder.port, requests=[{"path": "/size/1000000"}])[0][1] == 1000000
    assert time.monotonic() - begun < 5
    assert [g.count for g in recorder.got[:3]] == [1, 1, 1]

    def unchanged():
        """The kernel lets go of what a dead process held in its own time."""
        caller.do(do="http", keep="b", port=recorder.port, requests=[{"path": "/last"}])
        return recorder.got[-1].count == 0
    until("requests to go out as they are", unchanged)
    said, was = caller.do(do="waiting", port=recorder.port, path="/size/1000")
    assert said == was > 1000 and recorder.got[-1].count == 0


# ---- whose trace ----

def ask_all(port, paths, headers=lambda i: {}):
    """All at once, each on its own connection."""
    def one(i):
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        c.request("GET", paths[i], headers=headers(i))
        status = c.getresponse()
        status.read()
        c.close()
        return status.status
    with ThreadPoolExecutor(len(paths)) as pool:
        assert list(pool.map(one, range(len(paths)))) == [200] * len(paths)


def servers_by_path(d, n):
    spans = d.servers(n)
    assert len(spans) == n
    return {s["url.path"]: s for s in spans}


@pytest.mark.parametrize("foreign", [False, True])
def test_fifty_at_once_each_in_its_own_trace(injecting, caller, recorder, foreign):
    d = injecting(caller.port).attached(caller.pid)
    traces = [f"{i + 1:032x}" for i in range(50)]
    paths = [f"/call/{recorder.port}/wait/{20 + i % 7}/{i}-a+wait/1/{i}-b" for i in range(50)]
    ask_all(caller.port, paths, (lambda i: {"traceparent": f"00-{traces[i]}-{SPAN}-01"}) if foreign else lambda i: {})
    served = servers_by_path(d, 50)
    d.clients(100)
    assert len(recorder.got) == 100 and all(g.ids for g in recorder.got)
    assert_ids(d, recorder.got)
    clients = {s["span_id"]: s for s in d.clients()}
    for g in recorder.got:
        i = int(g.path.rsplit("/", 1)[1].split("-")[0])
        server = served[paths[i]]
        assert g.ids[0] == server["trace_id"], "the trace of another request"
        assert clients[g.ids[1]]["parent_span_id"] == server["span_id"]
        assert not foreign or g.ids[0] == traces[i]
    s = d.stats()
    assert (s["spans_split"], s["parents_ambiguous"], s["requests_lost"]) == (0, 0, 0)


def test_an_event_loop_gives_its_trace_to_no_other(injecting, cgroup, recorder):
    """One after the other each call has the trace of its request; of many at once, answers under way among them, none has another's."""
    caller = Caller(cgroup.popen, "asyncio")
    d = injecting(caller.port).attached(caller.pid)
    for i in range(5):
        ask_all(caller.port, [f"/call/{recorder.port}/alone/{i}"])
    served = servers_by_path(d, 5)
    assert [g.ids[0] for g in recorder.got] == [served[f"/call/{recorder.port}{g.path}"]["trace_id"] for g in recorder.got]
    # An answer is under way when another request comes; then a call is made for the first.
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask_all, caller.port, [f"/stream/{recorder.port}/wait/1/first"])
        until("its answer to be under way", lambda: recorder.got[-1].path.endswith("pause"))
        ask_all(caller.port, [f"/call/{recorder.port}/wait/500/second"])
        first.result()
    ask_all(caller.port, [f"/{verb}/{recorder.port}/wait/{5 + i % 20}/{verb}-{i}" for i in range(30) for verb in ("stream", "call")])
    served = {s["url.path"]: s["trace_id"] for s in d.servers(67)}
    d.clients(len(recorder.got))
    assert all(g.ids for g in recorder.got)
    assert_ids(d, recorder.got)
    of = {trace: path for path, trace in served.items()}
    wrong = [(g.path, of[g.ids[0]]) for g in recorder.got if g.ids[0] in of and "pause" not in g.path and not of[g.ids[0]].endswith(g.path)]
    assert wrong == []
    assert not [g for g in recorder.got if "pause" in g.path and "/call/" in of.get(g.ids[0], "")]


def test_what_is_joined_on_this_host_stays_one_trace(injecting, cgroup, caller, recorder):
    """A program outside the cgroup calls one in it, which calls out: its span, the server's and the call's are one trace."""
    front = Caller(subprocess.Popen)
    try:
        d = injecting(caller.port, front.port).attached(caller.pid).attached(front.pid)
        ask_all(front.port, [f"/call/{caller.port}/call/{recorder.port}/end"])
        d.spans(4)
        assert len({s["trace_id"] for s in d.spans()}) == 1 and recorder.got[0].ids[0] == d.spans()[0]["trace_id"]
        assert sorted(s["parent_span_id"] == "" for s in d.spans()) == [False, False, False, True]
    finally:
        front.stop()


@pytest.mark.parametrize("sampler, traced", [("traceidratio", False), ("parentbased_traceidratio", True), ("parentbased_always_off", True), ("always_off", False)])
def test_the_flag_says_what_is_exported(injecting, caller, recorder, sampler, traced):
    """traced: every second request carries a traceparent, half of which are sampled."""
    d = injecting(caller.port, config={"sampler": {"name": sampler, "argument": "0.5"}}).attached(caller.pid)
    headers = lambda i: {"traceparent": f"00-{i * 7919 + 1:032x}-{SPAN}-0{i // 2 % 2}"} if traced and i % 2 else {}
    ask_all(caller.port, [f"/call/{recorder.port}/{i}" for i in range(40)], headers)
    until("all to be handed on", lambda: d.stats()["spans"] == 80)
    d.settled()
    exported = {(s["trace_id"], s["span_id"]) for s in d.clients()}
    assert len(recorder.got) == 40
    assert all((g.ids[2] == "01") == (g.ids[:2] in exported) for g in recorder.got)
    for g in recorder.got:
        i = int(g.path[1:])
        by_ratio = "ratio" in sampler and int(g.ids[0][16:], 16) < 1 << 63
        assert (g.ids[2] == "01") == (bool(i // 2 % 2) if traced and i % 2 else by_ratio), g.head
    assert len({g.ids[2] for g in recorder.got}) == 1 + (sampler != "always_off")
    assert d.stats()["spans_split"] == 0


# ---- settings ----

def refused(tmp_path, **inject):
    d = Beylad(tmp_path / "refused", ports=[1], config={"inject": inject})
    try:
        d.start(ready=False)
        assert d.process.wait(20) != 0
        return d.log()
    finally:
        d.kill()


def test_the_root_is_refused(beylad, cgroup, tmp_path):
    assert "is the root cgroup" in refused(tmp_path, cgroup=str(cgroup_mount()), ports=["80"])
    assert "no folder of a cgroup of version 2" in refused(tmp_path, cgroup=str(tmp_path), ports=["80"])
    assert "'inject.ports': expected at least one port" in refused(tmp_path, cgroup=str(cgroup.path), ports=[])


def test_off_unless_asked_for(beylad, caller, recorder, nowhere):
    d = beylad(ports=[caller.port], config=nowhere.config).attached(caller.pid)
    caller.do(do="http", port=recorder.port, requests=[{"path": "/"}])
    d.clients(1)
    assert recorder.got[0].count == 0
    assert "inject  off" in d.control("status") and d.stats()["inject_connections"] == 0
    assert "no  traceparent its requests go out as they are" in d.control(f"explain {caller.pid}")


def test_a_reload_turns_it_off_and_a_cgroup_that_comes_again_is_used(beylad, recorder, nowhere):
    gone = Cgroup()
    gone.path.rmdir()
    try:
        d = beylad(ports=["1-65535"], config={**nowhere.config, "inject": {"cgroup": str(gone.path), "ports": [str(recorder.port)]}})
        assert "No such file" in d.control("status")
        for i in range(2):
            gone.path.mkdir()
            d.control("reload")
            caller = Caller(gone.popen)
            d.attached(caller.pid)
            caller.do(do="http", port=recorder.port, requests=[{"path": f"/{i}"}])
            caller.stop()
            until("the cgroup to be empty", lambda: not (gone.path / "cgroup.procs").read_text())
            gone.path.rmdir()
        gone.path.mkdir()
        d.config["inject"] = {}
        d.write_config()
        assert d.control("reload") == "reloaded\n\n"
        caller = Caller(gone.popen)
        d.attached(caller.pid)
        caller.do(do="http", port=recorder.port, requests=[{"path": "/off"}])
        assert [(g.path, g.count) for g in recorder.got] == [("/0", 1), ("/1", 1), ("/off", 0)]
    finally:
        gone.stop()


@pytest.mark.slow
def test_the_budget_takes_it_away_and_connections_go_on(injecting, caller, recorder):
    """Each 10 s a step: bytes, spans, all. Without spans a traceparent names nothing."""
    d = injecting(caller.port, keep_alive=True, config={"budget": {"probe_cpu": 1}}).attached(caller.pid)

    def off():
        answers = caller.do(do="http", keep="a", port=recorder.port, requests=[{"path": "/size/100"}] * 500)
        assert [a[1] for a in answers] == [100] * 500
        return "inject  off: the budget" in d.control("status")
    until("the budget to be spent", off, 60)
    assert recorder.got[0].count == 1
    caller.do(do="http", keep="a", port=recorder.port, requests=[{"path": "/size/1000000"}] * 5)
    caller.do(do="http", port=recorder.port, requests=[{"path": "/new"}])
    assert [g.count for g in recorder.got[-6:]] == [0] * 6


def test_a_recording_has_the_ids(injecting, caller, recorder, tmp_path):
    d = injecting(caller.port, args=["--record", str(tmp_path / "recording")]).attached(caller.pid)
    ask_all(caller.port, [f"/call/{recorder.port}/{i}" for i in range(10)])
    d.spans(20)
    live = {(s["trace_id"], s["span_id"]) for s in d.clients()}
    d.stop()
    again = subprocess.run([binary("beylad"), "--replay", str(tmp_path / "recording")], capture_output=True, text=True, timeout=30, check=True).stdout
    assert live == {g.ids[:2] for g in recorder.got}
    assert all(f'"trace_id":"{trace}","span_id":"{span}"' in again for trace, span in live)
