# SPDX-License-Identifier: Apache-2.0
"""The tools of the other tests, checked against what is known without collectord."""
import gzip
import socket

from env import frames, otlp
from env.http import Client, compose
from env.sink import ok, partial_success, poison, status, too_large_over

AGENT = {"User-Agent": "collectord/test", "Content-Type": otlp.PROTOBUF}


def test_crc32c_of_the_published_vectors():
    """RFC 3720, B.4."""
    assert frames.crc32c(bytes(32)) == 0x8A9136AA
    assert frames.crc32c(b"\xff" * 32) == 0x62A8AB43
    assert frames.crc32c(bytes(range(32))) == 0x46DD794E
    assert frames.crc32c(b"") == 0


def test_frames_are_those_of_the_documentation():
    hello = frames.frame(frames.HELLO, 0, frames.hello_body("backup", "1.2", "host-a", 4242, bytes(range(16))))
    assert hello == bytes.fromhex("544c4d46 01 01 0000 0000002a 3de9688d 0000000000000000 0a066261636b7570 1203312e32 1a06686f73742d61 209221"
                                  "2a10000102030405060708090a0b0c0d0e0f")
    assert frames.frame(frames.ACK, 4) == bytes.fromhex("544c4d46 01 07 0000 00000000 00000000 0000000000000004")


def test_json_and_back_is_the_same_message():
    for signal in otlp.SIGNALS:
        message = otlp.MAKE[signal](["a", "b"])
        assert otlp.from_json(signal, otlp.to_json(message)) == message


def test_random_messages_hold_unknown_fields_and_survive_a_parse():
    generator = otlp.Generator(1)
    for signal in otlp.SIGNALS:
        for i in range(30):
            request = generator.request(signal, f"m{i}")
            assert otlp.count(request) > 0
            assert otlp.REQUEST[signal].FromString(request.SerializeToString()) == request
            assert otlp.fields(request.SerializeToString())


def test_sink_takes_what_is_right_and_scripts_its_answers(sink):
    s = sink()
    body = otlp.traces(["one", "two"]).SerializeToString()
    with Client(s.port) as c:
        assert c.request("POST", "/v1/traces", AGENT, body).status == 200
        assert c.request("POST", "/v1/traces", {**AGENT, "Content-Encoding": "gzip"}, gzip.compress(body)).status == 200
        s.script([status(503, {"Retry-After": "3"}), partial_success(1, "no")])
        assert c.request("POST", "/v1/traces", AGENT, body).headers["retry-after"] == "3"
        answer = otlp.RESPONSE["traces"].FromString(c.request("POST", "/v1/traces", AGENT, body).body)
        assert (answer.partial_success.rejected_spans, answer.partial_success.error_message) == (1, "no")
        s.behave(poison("two"))
        assert c.request("POST", "/v1/traces", AGENT, body).status == 400
        s.behave(too_large_over(len(body) - 1))
        assert c.request("POST", "/v1/traces", AGENT, body).status == 413
        s.behave(ok())
        assert c.request("POST", "/v1/traces", {**AGENT, "Content-Type": otlp.JSON}, otlp.to_json(otlp.traces(["x"]))).status == 200
    assert s.names("traces") == ["one", "two"] * 3 + ["x"]
    assert [r.status for r in s.received()] == [200, 200, 503, 200, 400, 413, 200]


def test_sink_notes_what_no_correct_sender_sends(sink):
    s = sink()
    body = otlp.traces(["one"]).SerializeToString()
    wrong = [compose("PUT", "/v1/traces", AGENT, body), compose("POST", "/v1/trace", AGENT, body), compose("POST", "/v1/traces", AGENT, b"\xff"),
             compose("POST", "/v1/traces", AGENT, b""), compose("POST", "/v1/traces", {**AGENT, "Content-Type": "text/plain"}, body),
             compose("POST", "/v1/traces", {**AGENT, "Content-Encoding": "gzip"}, gzip.compress(body) + b"x"),
             compose("POST", "/v1/traces", AGENT, body) + b"more", compose("POST", "/v1/logs", AGENT, body[:-1])]
    for i, request in enumerate(wrong):
        with Client(s.port) as c:
            c.send(request)
            assert c.answer().status == 400, request
        assert len(s.violations) == i + 1, request
    s.violations.clear()
    assert not s.received()


def test_sink_refuses_while_it_is_down(sink):
    s = sink()
    s.down()
    with socket.socket() as c:
        assert c.connect_ex(("127.0.0.1", s.port)) != 0
    s.up()
    with Client(s.port) as c:
        assert c.request("POST", "/v1/traces", AGENT, otlp.traces(["x"]).SerializeToString()).status == 200
