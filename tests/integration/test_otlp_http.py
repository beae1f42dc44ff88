# SPDX-License-Identifier: Apache-2.0
"""The OTLP/HTTP listener: what it takes, what it answers, and what slow or hostile peers cannot do to the others."""
import gzip
import json
import os
import random
import select
import subprocess
import threading
import time
import zlib

import pytest
import zstandard
from google.rpc.status_pb2 import Status

from env import otlp
from env.daemon import sanitized
from env.destinations import document, local, remote
from env.http import compose
from env.sink import hang, ok
from env.wait import until

PB, JSON = {"Content-Type": otlp.PROTOBUF}, {"Content-Type": otlp.JSON}
EMPTY_JSON = {"traces": b'{"resourceSpans":[]}', "metrics": b'{"resourceMetrics":[]}', "logs": b'{"resourceLogs":[]}'}


@pytest.fixture
def d(collectord, consumer):
    daemon = collectord(document(local=local(consumer)))
    daemon.consumer = consumer
    return daemon


def check_error(answer):
    """Every 4xx and 5xx carries a google.rpc.Status in the encoding that Content-Type says, with a reason to read."""
    if answer.type == otlp.PROTOBUF:
        status = Status.FromString(answer.body)
        code, message = status.code, status.message
    else:
        assert answer.type == otlp.JSON, answer
        doc = json.loads(answer.body)
        code, message = doc["code"], doc["message"]
    assert code > 0 and message, answer
    return message


# ---- what is answered ----

@pytest.mark.row("COL-OTLP-01", "COL-OTLP-02")
@pytest.mark.parametrize("signal", otlp.SIGNALS)
def test_full_success_is_200_with_an_empty_response_in_the_same_encoding(d, signal):
    message = otlp.MAKE[signal](["a"])
    answer = d.post(signal, message)
    assert (answer.type, answer.body) == (otlp.PROTOBUF, b"")
    answer = d.post(signal, message, type=otlp.JSON)
    assert (answer.type, json.loads(answer.body)) == (otlp.JSON, {})
    d.post(signal, otlp.to_json(message), type="Application/JSON; charset=utf-8")
    d.consumer.wait(lambda s: s.names(signal) == ["a", "a", "a"])


@pytest.mark.row("COL-OTLP-02")
@pytest.mark.parametrize("signal", otlp.SIGNALS)
def test_a_request_without_resources_is_a_success(d, signal):
    assert d.post(signal, b"").status == 200
    assert json.loads(d.post(signal, EMPTY_JSON[signal], type=otlp.JSON).body) == {}
    assert json.loads(d.post(signal, b"{}", type=otlp.JSON).body) == {}


@pytest.mark.row("COL-OTLP-03")
@pytest.mark.parametrize("header", [["-H", "Content-Type: application/json"], []])
def test_the_curl_lines_of_the_quickstart_are_answered_with_200(d, header):
    ran = subprocess.run(["curl", "-sS", "--noproxy", "*", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST",
                          f"http://localhost:{d.otlp_port}/v1/traces", *header, "-d", '{"resourceSpans":[]}'], capture_output=True, text=True, timeout=20)
    assert (ran.stdout, ran.stderr) == ("200", "")


@pytest.mark.row("COL-OTLP-03")
@pytest.mark.parametrize("type", [None, "application/x-www-form-urlencoded", "text/plain", "application/x-protobuf"])
@pytest.mark.parametrize("blank", [b"", b" \r\n\t"])
def test_a_body_that_begins_with_a_brace_is_json_whatever_the_type(d, type, blank):
    with d.client() as c:
        answer = c.request("POST", "/v1/traces", {"Content-Type": type}, blank + otlp.to_json(otlp.traces(["x"])))
    assert (answer.status, answer.type) == (200, otlp.JSON), answer
    d.consumer.wait_names(["x"])


@pytest.mark.row("COL-OTLP-03")
def test_protobuf_that_begins_like_blank_json_is_protobuf(d):
    """A first resource of 123 bytes makes a body begin with LF and a brace."""
    for n in range(200):
        body = otlp.traces([f"n{n}"], service="s" * n).SerializeToString()
        if body.startswith(b"\n{"):
            d.post("traces", body)
            d.consumer.wait_names([f"n{n}"])
            return
    pytest.fail("no such body was made")


@pytest.mark.row("COL-OTLP-06")
@pytest.mark.parametrize("method,path,headers,body,status", [
    ("GET", "/v1/traces", {}, b"", 405), ("PUT", "/v1/logs", PB, b"", 405), ("DELETE", "/v1/metrics", {}, b"", 405), ("OPTIONS", "/v1/traces", {}, b"", 405),
    ("POST", "/", PB, b"", 404), ("POST", "/v1/trace", PB, b"", 404), ("POST", "/v1/traces/", PB, b"", 404), ("GET", "/v1/nothing", {}, b"", 404),
    ("POST", "/v1/traces", {"Content-Type": "text/plain"}, b"\x0a\x00", 415), ("POST", "/v1/traces", {}, b"\x0a\x00", 415),
    ("POST", "/v1/traces", {"Content-Type": "application/x-protobuffer"}, b"\x0a\x00", 415),
    ("POST", "/v1/traces", {**PB, "Content-Encoding": "br"}, b"\x0a\x00", 415), ("POST", "/v1/traces", {**PB, "Content-Encoding": "gzip, gzip"}, b"\x0a\x00", 415),
    ("POST", "/v1/traces", PB, b"\x0a", 400), ("POST", "/v1/traces", PB, b"\x0a\x05abc", 400), ("POST", "/v1/logs", PB, b"\xff" * 20, 400),
    ("POST", "/v1/metrics", PB, b"this is no protobuf at all", 400), ("POST", "/v1/traces", PB, b"\x0b\x0c", 400),
    ("POST", "/v1/traces", JSON, b"", 400), ("POST", "/v1/traces", JSON, b"[]", 400), ("POST", "/v1/traces", JSON, b"{", 400),
    ("POST", "/v1/traces", JSON, b'{"resourceSpans":{}}', 400), ("POST", "/v1/traces", JSON, b'{"resourceSpans":[]} x', 400),
    ("POST", "/v1/traces", JSON, b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":1}]}]}]}', 400),
    ("POST", "/v1/traces", JSON, b"{},{}", 400), ("POST", "/v1/traces", JSON, b"\xff\xfe{\0}\0", 400),
])
def test_each_wrong_request_has_its_status_and_a_reason(d, method, path, headers, body, status):
    with d.client() as c:
        answer = c.request(method, path, headers, body)
        assert answer.status == status, answer
        check_error(answer)
        if status == 405:
            assert answer.headers["allow"] == "POST"
        # The connection goes on: what was wrong was the request, not the HTTP.
        assert c.request("POST", "/v1/traces", PB, otlp.traces(["after"]).SerializeToString()).status == 200
    d.consumer.wait_names(["after"])


@pytest.mark.row("COL-OTLP-13", "COL-HTTP-02")
def test_what_was_accepted_and_refused_is_counted_by_signal_and_transport(d):
    d.post("traces", otlp.traces(["a", "b"]))
    d.post("metrics", otlp.metrics(["a"], points=5))
    d.post("logs", otlp.logs(["a", "b", "c"]), type=otlp.JSON)
    d.post("logs", b"\xff", expect=400)
    d.lines({"log": "x"})
    m = d.metrics()
    assert m.sum("otelcol_receiver_accepted_spans_total", transport="http") == 2
    assert m.sum("otelcol_receiver_accepted_metric_points_total", transport="http") == 5
    assert m.sum("otelcol_receiver_accepted_log_records_total", transport="http") == 3
    assert m.sum("otelcol_receiver_accepted_log_records_total", transport="lines") == 1
    assert m.sum("otelcol_receiver_refused_log_records_total", transport="http") == 1
    assert m.sum("collectord_http_responses_total", code="200") == 3 and m.sum("collectord_http_responses_total", code="400") == 1


# ---- compression ----

def deflated(body):
    return zlib.compress(body)


CODINGS = {"gzip": gzip.compress, "zstd": zstandard.compress, "deflate": deflated, "GZIP": gzip.compress, "x-gzip": gzip.compress}


@pytest.mark.row("COL-OTLP-05")
@pytest.mark.parametrize("coding", ["gzip", "zstd", "deflate", "GZIP"])
@pytest.mark.parametrize("type", [otlp.PROTOBUF, otlp.JSON])
def test_compressed_bodies_are_read(d, coding, type):
    message = otlp.logs([f"{coding} {i}" for i in range(300)])
    body = message.SerializeToString() if type == otlp.PROTOBUF else otlp.to_json(message)
    d.post("logs", CODINGS[coding](body), type=type, headers={"Content-Encoding": coding})
    d.consumer.wait(lambda s: s.names("logs") == [f"{coding} {i}" for i in range(300)])


@pytest.mark.row("COL-OTLP-05")
@pytest.mark.parametrize("header", [None, "identity", "", "deflate"])
def test_gzip_is_recognised_whatever_the_header_says(d, header):
    headers = {} if header is None else {"Content-Encoding": header}
    d.post("traces", gzip.compress(otlp.traces(["zipped"]).SerializeToString()), headers=headers)
    d.consumer.wait_names(["zipped"])


@pytest.mark.row("COL-OTLP-05")
def test_several_gzip_members_are_one_body(d):
    body = otlp.traces(["one", "two"]).SerializeToString()
    d.post("traces", gzip.compress(body[:40]) + gzip.compress(body[40:]), headers={"Content-Encoding": "gzip"})
    d.consumer.wait_names(["one", "two"])


@pytest.mark.row("COL-OTLP-05", "COL-OTLP-06")
@pytest.mark.parametrize("coding", ["gzip", "zstd", "deflate"])
@pytest.mark.parametrize("spoil", [lambda z: z[:-1], lambda z: z[:len(z) // 2], lambda z: z + b"trailing", lambda z: b"plain", lambda z: b"",
                                   lambda z: z[:12] + bytes(x ^ 255 for x in z[12:])],
                         ids=["cut by one", "cut in half", "something behind", "not compressed", "empty", "garbled"])
def test_a_damaged_compressed_body_is_400(d, coding, spoil):
    body = CODINGS[coding](otlp.traces(["x"] * 50).SerializeToString())
    spoiled = spoil(body)
    answer = d.post("traces", spoiled, headers={"Content-Encoding": coding}, expect=None)
    if spoiled == b"" and answer.status == 200:    # an empty body is an empty request, however it is said to be packed
        return
    assert answer.status == 400, answer
    check_error(answer)
    assert not d.consumer.received()


@pytest.mark.row("COL-OTLP-05")
def test_a_gzip_body_that_was_cut_is_400_whatever_its_last_bytes_claim(d):
    """The last four bytes of gzip are the size; of a body that was cut they are any four."""
    whole = gzip.compress(otlp.logs(["x"], pad=200_000).SerializeToString())
    answer = d.post("logs", whole[:100_000] + (40_000_000).to_bytes(4, "little"), headers={"Content-Encoding": "gzip"}, expect=None)
    assert answer.status == 400, answer


# ---- sizes ----

@pytest.mark.row("COL-OTLP-06")
def test_the_largest_body_passes_and_a_byte_more_is_413(collectord, consumer):
    d = collectord({**document(local=local(consumer)), "listen": {"otlp_body": "64KiB"}})
    limit = 64 << 10
    body = otlp.logs(["x"], pad=limit - 200).SerializeToString()
    body += otlp.field(2000, b"\0" * (limit - len(body) - 5))           # an unknown field of the request fills it up
    while len(body) < limit:
        body += otlp.varint(2001 << 3) + b"\0"
    body = body[:limit] if len(body) == limit else None
    if body is not None:
        assert d.post("logs", body).status == 200
    for extra in (1, 10_000_000):
        with d.client() as c:                      # by its Content-Length, without reading it
            c.send(f"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: {otlp.PROTOBUF}\r\nContent-Length: {limit + extra}\r\n\r\n".encode())
            answer = c.answer()
            assert answer.status == 413
            check_error(answer)
    with d.client() as c:                          # chunked: while it is read
        c.send(f"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: {otlp.PROTOBUF}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        try:
            for _ in range(limit // 1000 + 2):
                c.send(b"3e8\r\n" + bytes(1000) + b"\r\n")
            c.send(b"0\r\n\r\n")
        except OSError:
            pass                                   # it may close before we are done
        answer = c.answer()
        assert answer.status == 413
    answer = d.post("logs", gzip.compress(bytes(limit + 1)), headers={"Content-Encoding": "gzip"}, expect=413)
    check_error(answer)
    assert d.post("logs", otlp.logs(["after"])).status == 200


@pytest.mark.row("COL-OTLP-05", "COL-OTLP-06")
@pytest.mark.parametrize("coding", ["gzip", "zstd", "deflate"])
def test_a_bomb_is_413_and_costs_little_memory(d, coding):
    """1 GB of zeros in about 1 MB (deflate's best is 1:1030; zstd needs less)."""
    block = bytes(1 << 20)
    if coding == "zstd":
        packer = zstandard.ZstdCompressor().compressobj()
    else:
        packer = zlib.compressobj(9, zlib.DEFLATED, 31 if coding == "gzip" else 15)
    bomb = b"".join(packer.compress(block) for _ in range(1000)) + packer.flush()
    d.post("traces", otlp.traces(["warm"]))
    before, peak, done = d.rss(), [0], threading.Event()

    def watch():
        while not done.is_set():
            peak[0] = max(peak[0], d.rss())
            time.sleep(0.002)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        answer = d.post("traces", bomb, headers={"Content-Encoding": coding}, expect=413)
    finally:
        done.set()
        watcher.join()
    check_error(answer)
    assert sanitized() or peak[0] - before < 25e6, f"{(peak[0] - before) / 1e6:.1f} MB"
    d.consumer.wait_names(["warm"])


@pytest.mark.row("COL-OTLP-06")
def test_20_mib_of_empty_objects_is_400_and_cheap(d):
    d.post("traces", otlp.traces(["warm"]))
    before, cpu = d.rss(), d.cpu_s()
    body = b'{"resourceSpans":[' + b"{}," * ((20 << 20) // 3 - 20) + b"}"
    check_error(d.post("traces", body, type=otlp.JSON, expect=400))
    if not sanitized():
        assert d.cpu_s() - cpu < 0.5
        assert d.rss() - before < 60e6


# ---- JSON ----

def span_json(**fields):
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "x", **fields}]}]}]}).encode()


def the_span(d):
    d.consumer.wait_names(["x"], "traces")
    return [item for _, _, item in otlp.walk(d.consumer.accepted("traces")[-1].message)][-1]


@pytest.mark.row("COL-OTLP-04")
@pytest.mark.parametrize("given,field,expected", [
    ({"traceId": "5b8efff798038103d269b633813fc60c"}, "trace_id", bytes.fromhex("5b8efff798038103d269b633813fc60c")),
    ({"traceId": "5B8EFFF798038103D269B633813FC60C"}, "trace_id", bytes.fromhex("5b8efff798038103d269b633813fc60c")),
    ({"spanId": "eee19b7ec3c1b174"}, "span_id", bytes.fromhex("eee19b7ec3c1b174")), ({"traceId": ""}, "trace_id", b""), ({"traceId": None}, "trace_id", b""),
    ({"startTimeUnixNano": "1544712660000000000"}, "start_time_unix_nano", 1544712660000000000),
    ({"startTimeUnixNano": 1544712660000000000}, "start_time_unix_nano", 1544712660000000000),
    ({"endTimeUnixNano": "18446744073709551615"}, "end_time_unix_nano", 2 ** 64 - 1), ({"endTimeUnixNano": 18446744073709551615}, "end_time_unix_nano", 2 ** 64 - 1),
    ({"kind": 2}, "kind", 2), ({"kind": "SPAN_KIND_SERVER"}, "kind", 2), ({"kind": "2"}, "kind", 2), ({"kind": 99}, "kind", 99), ({"flags": 257}, "flags", 257),
    ({"flags": "257"}, "flags", 257), ({"trace_state": "a=b"}, "trace_state", ""), ({"traceState": "a=b"}, "trace_state", "a=b"),
    ({"unknown": {"deep": [1, {"er": None}]}}, "name", "x"), ({"kind": None}, "kind", 0), ({"droppedAttributesCount": 3}, "dropped_attributes_count", 3),
])
def test_json_values_are_read_in_every_form_that_is_allowed(d, given, field, expected):
    d.post("traces", span_json(**given), type=otlp.JSON)
    assert getattr(the_span(d), field) == expected


@pytest.mark.row("COL-OTLP-04")
@pytest.mark.parametrize("value,expected", [
    ({"intValue": "-9223372036854775808"}, -2 ** 63), ({"intValue": 5}, 5), ({"doubleValue": 1.5}, 1.5), ({"doubleValue": "1.5"}, 1.5), ({"doubleValue": 7}, 7.0),
    ({"doubleValue": "Infinity"}, float("inf")), ({"doubleValue": "-Infinity"}, float("-inf")), ({"bytesValue": "AP8="}, b"\0\xff"), ({"boolValue": True}, True),
    ({"stringValue": "a\u0000b\ud83c\udf89"}, "a\0b🎉"), ({"stringValue": "a", "unknown": 1}, "a"),
])
def test_json_attribute_values_are_read_in_every_form(d, value, expected):
    d.post("traces", span_json(attributes=[{"key": "k", "value": value}]), type=otlp.JSON)
    got = the_span(d).attributes[0].value
    assert getattr(got, got.WhichOneof("value")) == expected


@pytest.mark.row("COL-OTLP-04")
def test_of_two_equal_keys_the_last_one_counts(d):
    d.post("traces", b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"first","name":"x"}]}]}]}', type=otlp.JSON)
    assert the_span(d).name == "x"


@pytest.mark.row("COL-OTLP-04", "COL-OTLP-06")
@pytest.mark.parametrize("given", [{"traceId": "W47/95gDgQPSabYzgT/GDA=="}, {"traceId": "5b8e"}, {"traceId": "5b8efff798038103d269b633813fc60g"},
                                   {"startTimeUnixNano": "soon"}, {"startTimeUnixNano": -1}, {"kind": "SPAN_KIND_NONSENSE"}, {"flags": 1.5}, {"events": {}},
                                   {"attributes": [{"key": "k", "value": {"bytesValue": "no base64!"}}]}])
def test_wrong_json_values_are_400_and_say_where(d, given):
    answer = d.post("traces", span_json(**given), type=otlp.JSON, expect=400)
    assert "line 1" in check_error(answer)


@pytest.mark.row("COL-OTLP-04")
def test_nesting_without_end_is_400(d):
    for body in (b'{"a":' * 100000, b"[" * 1000000, b'{"resourceSpans":' + b"[{" * 5000):
        check_error(d.post("traces", body, type=otlp.JSON, expect=400))
    deep = otlp.field(1, b"")
    for _ in range(5000):                          # AnyValue.array_value.values, over and over
        deep = otlp.field(5, otlp.field(1, deep))
    attributes = otlp.field(1, otlp.field(1, b"k") + otlp.field(2, deep))
    body = otlp.field(1, otlp.field(1, attributes) + otlp.field(2, otlp.field(2, otlp.field(5, b"x"))))
    check_error(d.post("traces", body, expect=400))


# ---- partial success ----

def mixed(signal, good=3, bad=2):
    """Items of which some are malformed beyond doubt: ids of a wrong length; for metrics, text that is not UTF-8."""
    message = otlp.MAKE[signal]([f"good {i}" for i in range(good)])
    body = message.SerializeToString()
    scope_items = {"traces": [otlp.field(1, bytes(7)) + otlp.field(2, bytes(8)) + otlp.field(5, b"bad"), otlp.field(1, bytes(16)) + otlp.field(2, bytes(9))],
                   "logs": [otlp.field(9, bytes(3)) + otlp.field(5, otlp.field(1, b"bad")), otlp.field(10, bytes(9))],
                   "metrics": [otlp.field(1, b"\xff\xfe") + otlp.field(5, otlp.field(1, b"\x19" + bytes(8))),
                               otlp.field(1, b"\xc0") + otlp.field(5, otlp.field(1, b"\x19" + bytes(8)))]}[signal][:bad]
    return body + otlp.field(1, otlp.field(2, b"".join(otlp.field(2, item) for item in scope_items)))


@pytest.mark.row("COL-OTLP-08")
@pytest.mark.parametrize("signal", otlp.SIGNALS)
def test_malformed_items_are_rejected_alone_and_counted(d, signal):
    answer = d.post(signal, mixed(signal))
    partial = otlp.RESPONSE[signal].FromString(answer.body).partial_success
    assert getattr(partial, otlp.REJECTED[signal]) == 2 and partial.error_message
    d.consumer.wait_names([f"good {i}" for i in range(3)], signal)
    assert d.consumer.items(signal) == 3
    name = {"traces": "spans", "metrics": "metric_points", "logs": "log_records"}[signal]
    assert d.metrics().sum(f"otelcol_receiver_refused_{name}_total", transport="http") == 2
    assert d.metrics().sum(f"otelcol_receiver_accepted_{name}_total", transport="http") == 3


@pytest.mark.row("COL-OTLP-08")
def test_malformed_items_of_a_json_request_fail_it_whole_or_alone_but_never_in_silence(d):
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "good"}, {"name": "bad", "traceId": "12"}]}]}]}).encode()
    answer = d.post("traces", body, type=otlp.JSON, expect=None)
    if answer.status == 200:
        assert json.loads(answer.body)["partialSuccess"]["rejectedSpans"] == "1"
        d.consumer.wait_names(["good"])
    else:
        assert answer.status == 400 and check_error(answer)


@pytest.mark.row("COL-OTLP-08")
def test_a_request_of_malformed_items_only_is_no_success(d):
    answer = d.post("traces", otlp.field(1, otlp.field(2, otlp.field(2, otlp.field(1, bytes(5))))), expect=None)
    assert answer.status == 400 and check_error(answer) or otlp.RESPONSE["traces"].FromString(answer.body).partial_success.rejected_spans == 1
    assert not d.consumer.received()


# ---- HTTP ----

@pytest.mark.row("COL-OTLP-07")
def test_a_connection_carries_many_requests(d):
    with d.client() as c:
        for i in range(20):
            assert c.request("POST", "/v1/traces", PB, otlp.traces([f"n{i}"]).SerializeToString()).status == 200
        assert d.metrics().sum("collectord_http_connections") == 1
    d.consumer.wait(lambda s: s.names() == [f"n{i}" for i in range(20)])


@pytest.mark.row("COL-OTLP-07")
@pytest.mark.parametrize("size", [1, 7, 1000, 100000])
def test_chunked_bodies_are_read(d, size):
    body = otlp.logs([f"n{i}" for i in range(200 if size > 7 else 3)]).SerializeToString()
    chunks = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(body[i:i + size]), body[i:i + size]) for i in range(0, len(body), size))
    head = f"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: {otlp.PROTOBUF}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with d.client() as c:
        for _ in range(2):                         # the second shows that the first ended where it should
            c.send(head + chunks + b"0\r\nTrailer: x\r\n\r\n")
            assert c.answer().status == 200
    d.consumer.wait(lambda s: len(s.names()) == 2 * (200 if size > 7 else 3))


@pytest.mark.row("COL-OTLP-07")
def test_pipelined_requests_are_answered_in_order(d):
    requests = [compose("POST", "/v1/traces", PB, otlp.traces(["a"]).SerializeToString()), compose("POST", "/v1/nothing", PB, b""),
                compose("POST", "/v1/logs", PB, b"\xff"), compose("GET", "/v1/logs"), compose("POST", "/v1/logs", JSON, EMPTY_JSON["logs"]),
                compose("POST", "/v1/traces", PB, otlp.traces(["b"]).SerializeToString())]
    with d.client() as c:
        c.send(b"".join(requests))
        assert [c.answer().status for _ in requests] == [200, 404, 400, 405, 200, 200]
    d.consumer.wait_names(["a", "b"])


@pytest.mark.row("COL-OTLP-07")
def test_a_request_may_come_a_byte_at_a_time(d):
    with d.client() as c:
        for byte in compose("POST", "/v1/traces", PB, otlp.traces(["slow"]).SerializeToString()):
            c.send(bytes([byte]))
        assert c.answer().status == 200
    d.consumer.wait_names(["slow"])


@pytest.mark.row("COL-OTLP-07")
def test_expect_100_continue_is_answered_before_the_body(d):
    body = otlp.traces(["expected"]).SerializeToString()
    with d.client() as c:
        request = compose("POST", "/v1/traces", {**PB, "Expect": "100-continue"}, body)
        c.send(request[:-len(body)])
        assert c.stream.line() == b"HTTP/1.1 100 Continue"
        assert c.stream.headers() == []
        c.send(body)
        assert c.answer().status == 200
    with d.client() as c:                          # no body is asked for that would not be taken
        c.send(compose("POST", "/v1/traces", {**PB, "Expect": "100-continue", "Content-Length": str(1 << 30)}))
        answer = c.answer()
        assert answer.status == 413 and answer.interim == []
    d.consumer.wait_names(["expected"])


@pytest.mark.row("COL-OTLP-07")
def test_http_1_0_is_answered_and_closed(d):
    with d.client() as c:
        answer = c.request("POST", "/v1/traces", PB, otlp.traces(["old"]).SerializeToString(), version="HTTP/1.0")
        assert answer.status == 200
        assert c.ended()
    with d.client() as c:
        answer = c.request("POST", "/v1/traces", {**PB, "Connection": "close"}, otlp.traces(["close"]).SerializeToString())
        assert answer.headers["connection"].lower() == "close"
        assert c.ended()
    d.consumer.wait_names(["old", "close"])


@pytest.mark.row("COL-OTLP-07")
@pytest.mark.parametrize("request_", [b"\x16\x03\x01\x02\x00\x01\x00", b"nonsense\r\n\r\n", b"POST /v1/traces HTTP/9.9\r\n\r\n", b"GET\r\n\r\n",
                                      b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
                                      b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
                                      b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                                      b"POST /v1/traces HTTP/1.1\r\n" + b"X: " + b"y" * 200000 + b"\r\n\r\n"],
                         ids=["tls", "nonsense", "version", "line", "negative length", "huge length", "chunk", "header"])
def test_what_is_no_http_ends_only_its_own_connection(d, request_):
    with d.client(timeout=5) as other, d.client(timeout=5) as c:
        assert other.request("POST", "/v1/traces", PB, b"").status == 200
        try:
            c.send(request_)
            c.sock.shutdown(1)
            status = c.answer().status
            assert 400 <= status < 600
        except (OSError, Exception) as e:          # closing without an answer is as good
            assert not isinstance(e, (AssertionError, TimeoutError)), e
        assert other.request("POST", "/v1/traces", PB, otlp.traces(["after"]).SerializeToString()).status == 200
    d.consumer.wait_names(["after"])


@pytest.mark.row("COL-OTLP-07")
def test_a_peer_that_leaves_inside_a_body_leaves_nothing_behind(d):
    for _ in range(20):
        with d.client() as c:
            c.send(compose("POST", "/v1/traces", PB, otlp.traces(["lost"] * 50).SerializeToString())[:-100])
    until("the connections to be gone", lambda: d.metrics().sum("collectord_http_connections") == 0)
    until("their bodies to be gone", lambda: d.metrics().sum("collectord_budget_bytes", budget="ingest") == 0)
    assert not d.consumer.received()


# ---- limits ----

@pytest.mark.row("COL-OTLP-12")
def test_connections_beyond_the_limit_get_503(collectord, consumer):
    d = collectord({**document(local=local(consumer)), "listen": {"otlp_connections": 8}})
    busy = [d.client() for _ in range(8)]
    try:
        for c in busy:
            c.send(f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: {otlp.PROTOBUF}\r\nContent-Length: 1000\r\n\r\nx".encode())
        until("all to be counted", lambda: d.metrics().sum("collectord_http_connections") == 8)
        with d.client() as c:
            answer = c.request("POST", "/v1/traces", PB, otlp.traces(["refused"]).SerializeToString())
            assert answer.status == 503 and int(answer.headers["retry-after"]) >= 1
            check_error(answer)
            assert c.ended()
    finally:
        for c in busy:
            c.close()

    def served():
        with d.client() as c:
            return c.request("POST", "/v1/traces", PB, otlp.traces(["served"]).SerializeToString()).status == 200
    until("room again", served)
    consumer.wait_names(["served"])
    assert "refused" not in consumer.names()


@pytest.mark.row("COL-OTLP-12")
def test_idle_connections_make_room_for_new_ones(collectord, consumer):
    d = collectord({**document(local=local(consumer)), "listen": {"otlp_connections": 8}})
    idle = [d.client() for _ in range(8)]
    for c in idle:
        assert c.request("POST", "/v1/traces", PB, b"").status == 200
    for i in range(3):
        d.post("traces", otlp.traces([f"n{i}"]))
    consumer.wait_names(["n0", "n1", "n2"])
    assert d.metrics().sum("collectord_http_evicted_total") >= 1
    assert [bool(select.select([c.sock], [], [], 0)[0]) for c in idle].count(True) >= 1, "none was closed"
    for c in idle:
        c.close()


@pytest.mark.row("COL-OTLP-12")
def test_slow_and_silent_peers_are_closed_and_the_rest_is_answered(collectord, consumer):
    d = collectord({**document(local=local(consumer)), "listen": {"otlp_idle": "1s"}})
    head = f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: {otlp.PROTOBUF}\r\nContent-Length: 100000\r\n\r\n".encode()
    peers = {name: d.client() for name in ("silent", "half a head", "half a body", "trickle of a head", "trickle of a body")}
    peers["half a head"].send(head[:30])
    peers["half a body"].send(head + b"x" * 100)
    peers["trickle of a body"].send(head)
    begun, closed = time.monotonic(), {}
    while len(closed) < len(peers) and time.monotonic() - begun < 8:
        d.post("traces", otlp.traces(["meanwhile"]))
        for name, c in peers.items():
            if name in closed:
                continue
            c.sock.settimeout(0.02)
            try:
                if "trickle" in name:
                    c.send(b"X" if "head" in name else b"\0")
                if c.sock.recv(65536) == b"":
                    closed[name] = time.monotonic() - begun
            except TimeoutError:
                pass
            except OSError:
                closed[name] = time.monotonic() - begun
    for c in peers.values():
        c.close()
    assert set(closed) == set(peers), f"still open after 8 s: {set(peers) - set(closed)}"
    assert min(closed.values()) > 0.8, closed
    assert max(closed.values()) < 4.5, closed
    assert d.metrics().sum("collectord_http_timeouts_total") >= 4


@pytest.mark.row("COL-BUF-01", "COL-OTLP-06")
def test_a_full_buffer_with_readers_that_keep_up_is_503_and_loses_nothing(collectord, hub):
    """A receiver that takes its time fails nothing; so the door is closed for a while instead of dropping."""
    d = collectord({**document(hub=remote(hub, in_flight=1, batch={"timeout": "0s"})), "buffer": {"memory": "1MB", "history": "0"}})
    hub.behave(hang())
    accepted, refused = [], None
    for i in range(200):
        answer = d.post("logs", otlp.logs([f"n{i}"], pad=20000), expect=None)
        if answer.status != 200:
            refused = answer
            break
        accepted.append(f"n{i}")
    assert refused is not None and refused.status == 503, refused
    assert int(refused.headers["retry-after"]) >= 1
    check_error(refused)
    assert len(accepted) > 10
    assert d.ledger()["hub", "logs"]["dropped"] == 0
    hub.behave(ok())                               # the hanging request is cut, tried again, and taken
    hub.wait_names(accepted, "logs")
    until("the door to open", lambda: d.post("logs", otlp.logs(["again"]), expect=None).status == 200)
    hub.wait_names(["again"])
    d.wait_drained()
    assert d.ledger()["hub", "logs"]["dropped"] == 0


@pytest.mark.row("COL-OTLP-06")
def test_too_much_in_receipt_is_503_until_it_is_gone(collectord, consumer):
    d = collectord({**document(local=local(consumer)), "listen": {"otlp_body": "900KB"}, "buffer": {"ingest": "1MB"}})
    half = [d.client() for _ in range(3)]
    for c in half:
        c.send(f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: {otlp.PROTOBUF}\r\nContent-Length: 800000\r\n\r\n".encode() + bytes(300000))
    until("the budget to be spent", lambda: d.metrics().sum("collectord_budget_bytes", budget="ingest") > 500000)
    answer = d.post("logs", otlp.logs(["x"], pad=700000), expect=None)
    assert answer.status == 503 and int(answer.headers["retry-after"]) >= 1, answer
    for c in half:
        c.close()
    until("room again", lambda: d.post("logs", otlp.logs(["after"], pad=700000), expect=None).status == 200)
    consumer.wait_names(["after"])


@pytest.mark.row("COL-BAT-01", "COL-OTLP-10")
def test_a_large_request_is_cut_between_items_and_stays_whole(collectord, consumer, hub):
    d = collectord(document(local=local(consumer), hub=remote(hub)))
    names = [f"n{i}" for i in range(7000)]
    d.post("traces", otlp.traces(names))
    d.post("logs", otlp.logs(["large", "small"], pad=800_000))
    for s in (consumer, hub):
        s.wait(lambda s: s.items("traces") == 7000 and s.items("logs") == 2)
        assert sorted(s.names("traces")) == sorted(names)
        assert max(r.items for r in s.accepted()) <= 2000
    assert consumer.names("traces") == names


# ---- identity ----

def resources(sink, signal):
    return [otlp.resource_attributes(top) for r in sink.accepted(signal) for top, _, _ in otlp.walk(r.message)]


@pytest.mark.row("COL-ID-01", "COL-ID-03")
@pytest.mark.parametrize("signal", otlp.SIGNALS)
def test_host_name_is_set_where_it_lacks_and_kept_where_it_is(collectord, consumer, signal):
    d = collectord(document(local=local(consumer)))
    d.post(signal, otlp.MAKE[signal](["a"]))
    d.post(signal, otlp.MAKE[signal](["b"], attributes={"host.name": "elsewhere", "service.instance.id": "mine"}))
    d.post(signal, otlp.MAKE[signal](["c"], attributes={"host.name": "elsewhere"}, service=None))
    consumer.wait_names(["a", "b", "c"], signal)
    a, b, c = resources(consumer, signal)
    with open("/etc/hostname") as f:
        assert a["host.name"] == (f.read().strip() or os.uname().nodename)
    assert (b["host.name"], b["service.instance.id"]) == ("elsewhere", "mine")
    assert c["host.name"] == "elsewhere" and c["service.instance.id"] == a["service.instance.id"]
    for r in consumer.accepted(signal):
        for top, _, _ in otlp.walk(r.message):
            keys = [kv.key for kv in top.resource.attributes]
            assert len(keys) == len(set(keys)), "an attribute twice"


@pytest.mark.row("COL-ID-01")
def test_a_request_without_any_resource_gets_one(d):
    d.post("traces", otlp.field(1, otlp.field(2, otlp.field(2, otlp.field(5, b"bare")))))
    d.consumer.wait_names(["bare"])
    assert set(resources(d.consumer, "traces")[0]) == set(otlp.ADDED)


@pytest.mark.row("COL-ID-02", "GEN-11")
def test_the_instance_is_stable_over_restarts_and_differs_between_hosts(collectord, sink):
    receivers = [sink(f"s{i}") for i in range(3)]
    names = ["host-a", "host-a", "host-b"]
    seen = []
    for s, name in zip(receivers, names):
        d = collectord({**document(local=local(s)), "host": {"name": name, "labels": {"environment": "lab", "service.name": "never"}}})
        d.post("logs", otlp.logs(["x"]))
        s.wait_names(["x"])
        attributes = resources(s, "logs")[0]
        assert attributes["host.name"] == name and attributes["environment"] == "lab" and attributes["service.name"] == "test"
        seen.append(attributes["service.instance.id"])
        d.stop()
    assert seen[0] == seen[1] != seen[2]
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        if os.path.exists(path):
            with open(path) as f:
                machine = f.read().strip()
            assert not machine or machine not in seen[0].replace("-", "")


# ---- many at once ----

@pytest.mark.row("COL-OTLP-07", "COL-OTLP-01")
def test_many_clients_at_once_lose_nothing(d):
    errors = []

    def client(k):
        try:
            with d.client() as c:
                for i in range(60):
                    signal = otlp.SIGNALS[(i + k) % 3]
                    body = otlp.MAKE[signal]([f"{k}.{i}"], pad=random.randrange(0, 3000)).SerializeToString()
                    headers = dict(PB)
                    if i % 4 == 0:
                        body, headers["Content-Encoding"] = gzip.compress(body, 1), "gzip"
                    assert c.request("POST", f"/v1/{signal}", headers, body).status == 200
        except Exception as e:
            errors.append(repr(e))
    threads = [threading.Thread(target=client, args=(k,)) for k in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    wanted = {f"{k}.{i}" for k in range(16) for i in range(60)}
    d.consumer.wait(lambda s: set(s.names()) == wanted, timeout=20)
    assert len(d.consumer.names()) == len(wanted)
