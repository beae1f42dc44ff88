# SPDX-License-Identifier: Apache-2.0
"""What a receiver can do, and what must follow; that destinations do not notice each other; what the settings of one change."""
import base64
import email.utils
import json
import threading
import time

import pytest

from env import otlp
from env.destinations import document, local, remote
from env.sink import (bare_2xx, close_mid_response, close_without_answer, garbage, hang, huge_answer, ok, partial_success, poison, slow_answer, status,
                      too_large_over)
from env.wait import free_port, stays, until


def gaps(requests):
    return [b.at - a.at for a, b in zip(requests, requests[1:])]


def row(d, destination="hub", signal="logs"):
    return d.ledger()[destination, signal]


# ---- answers that pass ----

@pytest.mark.row("COL-K8S-03")
@pytest.mark.parametrize("code", [429, 502, 503, 504])
def test_a_passing_status_is_tried_again_with_growing_pauses(collectord, hub, code):
    d = collectord(document(hub=remote(hub, retry={"initial": "100ms", "max": "400ms"})))
    hub.script([status(code)] * 5)
    d.post("logs", otlp.logs(["a"]))
    hub.wait_names(["a"])
    tries = hub.received("logs")
    assert [r.status for r in tries] == [code] * 5 + [200]
    # Intervals of 100, 150, 225, 338, 400 ms, each with jitter between half and one and a half.
    for gap, interval in zip(gaps(tries), (0.1, 0.15, 0.225, 0.3375, 0.4)):
        assert interval * 0.49 <= gap <= interval * 1.5 + 0.25, gaps(tries)
    assert len({r.wire for r in tries}) == 1, "the body changed between two tries"
    d.wait_drained()
    # Each answer said that nothing was taken, so nothing can be there twice.
    assert row(d)["delivered"] == 1 and row(d)["resent"] == 0 and row(d)["requests"]["failed"] == 5
    assert d.log_lines("sending failed, will retry", destination="hub", err=f"HTTP {code}")


@pytest.mark.row("COL-K8S-03")
@pytest.mark.parametrize("behaviour", [close_mid_response, close_without_answer, garbage, lambda: garbage(b"\r\n\r\n"),
                                       lambda: garbage(b"HTTP/1.1 2000 OK\r\n\r\n"), lambda: garbage(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n")],
                         ids=["close mid-response", "close without answer", "binary garbage", "empty lines", "bad status line", "bad length"])
def test_what_is_no_answer_is_tried_again(collectord, hub, behaviour):
    d = collectord(document(hub=remote(hub)))
    hub.script([behaviour()] * 3)
    d.post("logs", otlp.logs(["a"]))
    hub.wait_names(["a"])
    tries = hub.received("logs")
    assert len(tries) == 4
    assert min(gaps(tries)) > 0.02
    d.wait_drained()
    assert row(d)["delivered"] == 1 and row(d)["dropped"] == 0
    assert row(d)["resent"] == 3, "it may be there four times"


@pytest.mark.row("COL-K8S-03")
def test_a_receiver_that_never_answers_is_left_after_the_timeout_and_tried_again(collectord, hub):
    d = collectord(document(hub=remote(hub, timeout="300ms")))
    hub.script([hang(), hang()])
    d.post("logs", otlp.logs(["a"]))
    hub.wait_names(["a"])
    assert len(hub.received()) == 3
    assert all(gap > 0.3 for gap in gaps(hub.received()))
    assert "time" in d.wait_log("sending failed, will retry", destination="hub")["err"].lower()


@pytest.mark.row("COL-K8S-03", "COL-BUF-03")
def test_a_refused_connection_is_tried_again_and_said_once(collectord, hub):
    d = collectord(document(hub=remote(hub)))
    hub.down()
    d.post("logs", otlp.logs(["a"]))
    until("some attempts", lambda: row(d)["requests"]["failed"] >= 5)
    assert len(d.log_lines("sending failed, will retry", destination="hub")) == 1
    hub.up()
    hub.wait_names(["a"])


@pytest.mark.row("COL-K8S-03")
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured_in_both_forms(collectord, hub, form):
    d = collectord(document(hub=remote(hub)))
    until("a second to begin", lambda: time.time() % 1 < 0.05)
    value = "1" if form == "seconds" else email.utils.formatdate(int(time.time()) + 2, usegmt=True)
    hub.script([status(429, {"Retry-After": value})])
    d.post("logs", otlp.logs(["a"]))
    hub.wait_names(["a"])
    gap = gaps(hub.received())[0]
    assert (0.95 if form == "seconds" else 1.2) < gap < 3.0, gap


@pytest.mark.row("COL-K8S-03")
@pytest.mark.parametrize("value", ["-5", "soon", "", "1.5x", "Thu, 01 Jan 1970 00:00:00 GMT", "\x7f"])
def test_a_retry_after_that_says_nothing_leaves_the_own_pause(collectord, hub, value):
    d = collectord(document(hub=remote(hub)))
    hub.script([status(503, {"Retry-After": value})])
    d.post("logs", otlp.logs(["a"]))
    hub.wait_names(["a"])
    assert gaps(hub.received())[0] < 1


@pytest.mark.row("COL-K8S-03")
def test_while_it_fails_one_request_at_a_time_finds_out(collectord, hub):
    d = collectord(document(hub=remote(hub, batch={"timeout": "0s", "items": 1, "max_items": 1}, retry={"initial": "200ms", "max": "200ms"})))
    hub.behave(status(503))
    for i in range(20):
        d.post("logs", otlp.logs([f"n{i}"]))
    until("to fail", lambda: d.state("hub") == "BUFFERING")
    begun = len(hub.received())
    until("some more tries", lambda: len(hub.received()) >= begun + 4)
    assert min(gaps(hub.received()[begun:])) > 0.09
    hub.behave(ok())
    hub.wait_names([f"n{i}" for i in range(20)])


@pytest.mark.row("COL-K8S-03", "COL-BUF-08")
@pytest.mark.parametrize("code", [200, 201, 202, 204])
def test_every_2xx_is_a_success_with_any_body(collectord, hub, code):
    d = collectord(document(hub=remote(hub)))
    hub.behave(bare_2xx(code))
    d.post("logs", otlp.logs(["a"]))
    d.post("traces", otlp.traces(["b"]))
    hub.wait_names(["a", "b"])
    d.wait_drained()
    assert row(d)["delivered"] == 1 and row(d)["rejected"] == 0 and len(hub.received()) == 2


@pytest.mark.row("COL-K8S-03")
@pytest.mark.parametrize("code,delivered", [(200, 1), (500, 0)])
def test_a_huge_answer_is_cut_off_and_its_status_counts(collectord, hub, code, delivered):
    d = collectord(document(hub=remote(hub)))
    hub.behave(huge_answer(64 << 20, code))
    before = d.rss()
    d.post("logs", otlp.logs(["a"]))
    ledger = d.wait_drained()
    assert ledger["hub", "logs"]["delivered"] == delivered
    assert len(hub.received()) == 1
    assert d.rss() - before < 30e6


@pytest.mark.row("COL-K8S-03")
def test_a_slow_reader_gets_it_all(collectord, hub):
    d = collectord(document(hub=remote(hub, compression="none", timeout="20s")))
    hub.read_rate = 400_000
    d.post("logs", otlp.logs([f"n{i}" for i in range(20)], pad=20_000))
    hub.wait_names([f"n{i}" for i in range(20)], timeout=15)
    assert row(d)["dropped"] == 0


# ---- answers that are final ----

@pytest.mark.row("COL-K8S-03")
@pytest.mark.parametrize("code", [301, 401, 403, 404, 405, 408, 415, 500, 501])
def test_a_final_status_drops_and_counts_and_the_next_is_tried(collectord, hub, code):
    d = collectord(document(hub=remote(hub)))
    hub.behave(status(code, {"Location": f"http://127.0.0.1:{hub.port}/v1/logs"}, b"the reason it gives"))
    d.post("logs", otlp.logs(["a", "b", "c"]))
    until("it to be given up", lambda: row(d)["dropped_by"]["refused"] == 3)
    assert len(hub.received()) == 1, "tried again"
    loss = d.lost()[-1]
    assert (loss["destination"], loss["signal"], loss["reason"], loss["items"]) == ("hub", "logs", "refused", 3)
    assert str(code) in loss["text"] and "the reason it gives" in loss["text"]
    line = d.wait_log("refused, dropping data", destination="hub")
    assert str(code) in line["err"]
    m = d.metrics()
    assert m.sum("collectord_items_total", destination="hub", signal="logs", outcome="dropped", reason="refused") == 3
    assert m.sum("otelcol_exporter_send_failed_log_records_total", exporter="hub") == 3
    assert m.sum("collectord_destination_status_total", destination="hub", signal="logs", code=f"{code // 100}xx") == 1
    hub.behave(ok())
    d.post("logs", otlp.logs(["d"]))
    hub.wait_names(["d"])


@pytest.mark.row("COL-K8S-03")
@pytest.mark.parametrize("n", [1, 8, 100, 1000])
@pytest.mark.parametrize("records", ["in one request", "in many"])
def test_of_a_refused_batch_only_the_poison_is_lost(collectord, hub, n, records):
    d = collectord(document(hub=remote(hub, batch={"timeout": "300ms", "items": 2000})))
    names = [f"n{i}" for i in range(n)]
    names[n // 3] = "poison"
    hub.behave(poison("poison"))
    size = n if records == "in one request" else max(n // 20, 1)
    for i in range(0, n, size):
        d.post("logs", otlp.logs(names[i:i + size]))
    until("an end", lambda: d.drained() and row(d)["offered"] == n)
    assert row(d)["delivered"] == n - 1 and row(d)["dropped_by"]["refused"] == 1
    assert sorted(hub.names()) == sorted(set(names) - {"poison"})
    assert [(x["reason"], x["items"]) for x in d.lost()] == [("refused", 1)]
    assert len(hub.received()) < 4 * max(n.bit_length(), 1) + 25


@pytest.mark.row("COL-K8S-03")
@pytest.mark.parametrize("signal", otlp.SIGNALS)
def test_poison_is_isolated_in_every_signal(collectord, hub, signal):
    d = collectord(document(hub=remote(hub)))
    hub.behave(poison("poison"))
    names = [f"n{i}" for i in range(30)] + ["poison"] + [f"m{i}" for i in range(10)]
    d.post(signal, otlp.MAKE[signal](names))
    hub.wait_names(set(names) - {"poison"}, signal)
    d.wait_drained()
    assert row(d, signal=signal)["dropped_by"]["refused"] == 1


@pytest.mark.row("COL-K8S-03")
def test_a_receiver_that_answers_400_to_everything_is_not_asked_for_each_item(collectord, hub):
    d = collectord(document(hub=remote(hub, batch={"timeout": "0s"})))
    hub.behave(status(400))
    for i in range(5):
        d.post("logs", otlp.logs([f"{i}.{k}" for k in range(1000)]))
    until("an end", lambda: d.drained() and row(d)["offered"] == 5000)
    assert row(d)["dropped_by"]["refused"] == 5000
    assert len(hub.received()) < 200


@pytest.mark.row("COL-K8S-03", "COL-LOC-02")
def test_a_413_is_split_until_it_fits_and_what_never_fits_is_dropped_alone(collectord, hub):
    d = collectord(document(hub=remote(hub, compression="none", batch={"timeout": "200ms"})))
    hub.behave(too_large_over(20_000))
    names = [f"n{i}" for i in range(60)]
    message = otlp.logs(names, pad=3_000)
    otlp.attribute(message.resource_logs[0].scope_logs[0].log_records[17].attributes, "huge", otlp.padding(30_000))
    d.post("logs", message)
    hub.wait_names(set(names) - {"n17"})
    d.wait_drained()
    assert row(d)["delivered"] == 59 and row(d)["dropped_by"] == {**row(d)["dropped_by"], "too_large": 1, "refused": 0}
    assert sorted(hub.names()) == sorted(set(names) - {"n17"})
    loss = d.lost()[-1]
    assert (loss["reason"], loss["items"]) == ("too_large", 1) and "413" in loss["text"]
    assert d.log_lines("refused, dropping data", destination="hub", items="1")
    # It learned: what comes next fits more or less at once.
    before = len(hub.received())
    d.post("logs", otlp.logs(["late"] * 10, pad=1_000))
    hub.wait(lambda s: s.names().count("late") == 10)
    assert len(hub.received()) - before <= 3


@pytest.mark.row("COL-K8S-09")
@pytest.mark.parametrize("signal", otlp.SIGNALS)
@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_partial_success_is_counted_as_rejected_and_never_sent_again(collectord, hub, signal, encoding):
    d = collectord(document(hub=remote(hub, encoding=encoding)))
    hub.behave(partial_success(2, "too old"))
    d.post(signal, otlp.MAKE[signal]([f"n{i}" for i in range(5)]))
    hub.wait(lambda s: s.items(signal) == 5)
    d.wait_drained()
    r = row(d, signal=signal)
    assert (r["delivered"], r["rejected"], r["dropped"]) == (3, 2, 0)
    assert len(hub.received()) == 1
    loss = d.lost()[-1]
    assert (loss["reason"], loss["items"], loss["text"]) == ("rejected", 2, "too old")
    for _ in range(3):
        d.post(signal, otlp.MAKE[signal](["x"] * 2))
    d.wait_drained()
    said = d.log_lines("partial success", destination="hub", signal=signal)
    assert [(x["rejected"], x["message"]) for x in said] == [("2", "too old")], "said more than once a minute"


@pytest.mark.row("COL-K8S-09")
def test_a_warning_without_rejections_loses_nothing(collectord, hub):
    d = collectord(document(hub=remote(hub)))
    hub.behave(partial_success(0, "please use a newer schema"))
    d.post("logs", otlp.logs(["a"]))
    hub.wait_names(["a"])
    d.wait_drained()
    assert row(d)["delivered"] == 1 and not d.lost()
    assert d.wait_log("partial success", destination="hub")["level"] == "info"


@pytest.mark.row("COL-K8S-09")
def test_more_rejections_than_items_cannot_upset_the_ledger(collectord, hub):
    d = collectord(document(hub=remote(hub)))
    hub.script([partial_success(10 ** 12, "nonsense"), partial_success(-5, "nonsense")])
    d.post("logs", otlp.logs(["a"]))
    d.post("traces", otlp.traces(["a"]))
    hub.wait_names(["a"], "logs")
    hub.wait_names(["a"], "traces")
    d.wait_drained()


# ---- TLS ----

def tls_sink(sink, certificates, name, **options):
    return sink("hub", tls=certificates.server_context(name, **options))


@pytest.mark.row("COL-K8S-07", "COL-K8S-01", "COL-K8S-08")
def test_https_with_an_authority_of_ones_own(collectord, sink, certificates):
    hub = tls_sink(sink, certificates, "good")
    d = collectord(document(hub=remote(hub, tls={"ca_file": certificates.path("ca.pem")}), named=remote(hub, url=f"https://localhost:{hub.port}",
                                                                                                tls={"ca_file": certificates.path("ca.pem")})))
    d.post("traces", otlp.traces(["a"]))
    hub.wait(lambda s: s.names() == ["a", "a"])
    assert {line["destination"] for line in d.log_lines("connection test ok")} == {"hub", "named"}


@pytest.mark.row("COL-K8S-07", "COL-K8S-08")
@pytest.mark.parametrize("certificate,ca,says", [("wrong_host", True, ("name", "match")), ("self_signed", True, ("self", "certificate")),
                                                 ("good", False, ("certificate",))])
def test_a_wrong_certificate_is_named_and_nothing_is_sent(collectord, sink, certificates, certificate, ca, says):
    hub = tls_sink(sink, certificates, certificate)
    d = collectord(document(hub=remote(hub, tls={"ca_file": certificates.path("ca.pem")} if ca else {})))
    error = d.wait_log("connection test failed", destination="hub")["err"]
    d.post("traces", otlp.traces(["a"]))
    error += d.wait_log("sending failed, will retry", destination="hub")["err"]
    assert any(word in error.lower() for word in says), error
    assert "certificate" in error.lower() or "ssl" in error.lower(), error
    until("it to be tried again", lambda: row(d, signal="traces")["requests"]["failed"] >= 2)
    assert not hub.received() and row(d, signal="traces")["dropped"] == 0


@pytest.mark.row("COL-K8S-07")
def test_server_name_and_skip_verify(collectord, sink, certificates):
    hub = tls_sink(sink, certificates, "wrong_host")
    d = collectord(document(named=remote(hub, tls={"ca_file": certificates.path("ca.pem"), "server_name": "other.example"}),
                            careless=remote(hub, tls={"insecure_skip_verify": True})))
    d.post("traces", otlp.traces(["a"]))
    hub.wait(lambda s: s.names() == ["a", "a"])
    assert all(r.headers["host"] in (f"127.0.0.1:{hub.port}", f"127.0.0.1:{hub.port}") for r in hub.accepted())


@pytest.mark.row("COL-K8S-07")
def test_a_client_certificate_is_shown(collectord, sink, certificates):
    hub = tls_sink(sink, certificates, "good", client_ca=True)
    ca = {"ca_file": certificates.path("ca.pem")}
    d = collectord(document(known=remote(hub, tls={**ca, "cert_file": certificates.path("client.pem"), "key_file": certificates.path("client.key")}),
                            unknown=remote(hub, tls=ca)))
    d.post("traces", otlp.traces(["a"]))
    hub.wait_names(["a"])
    d.wait_drained("known")
    until("the other to fail", lambda: row(d, "unknown", "traces")["requests"]["failed"] >= 1)
    assert row(d, "unknown", "traces")["delivered"] == 0 and len(hub.accepted()) == 1


# ---- what a request says ----

SECRET = "s3cr3t-Zx9"


@pytest.mark.row("COL-K8S-06")
def test_headers_and_credentials_are_sent_and_never_shown(collectord, sink, tmp_path):
    token = tmp_path / "token"
    token.write_text(f"{SECRET}-file\n")
    s = sink()
    d = collectord(document(
        headers=remote(s, headers={"X-Scope-OrgID": "anonymous", "X-Api-Key": f"{SECRET}-header"}),
        basic=remote(s, auth={"username": "me", "password": f"{SECRET}-password"}),
        bearer=remote(s, auth={"bearer": "${TOKEN}"}), file=remote(s, auth={"bearer_file": str(token)}),
        own=remote(s, headers={"Authorization": f"Token {SECRET}"})), env={"TOKEN": f"{SECRET}-env"}, args=["--log-level", "debug"])
    d.post("logs", otlp.logs(["a"]))
    s.wait(lambda s: len(s.accepted()) == 5)
    seen = {r.headers.get("authorization", r.headers.get("x-api-key")) for r in s.accepted()}
    assert seen == {f"{SECRET}-header", f"Bearer {SECRET}-env", f"Bearer {SECRET}-file", f"Token {SECRET}",
                    "Basic " + base64.b64encode(f"me:{SECRET}-password".encode()).decode()}
    assert [r.headers["x-scope-orgid"] for r in s.accepted() if "x-scope-orgid" in r.headers] == ["anonymous"]
    token.write_text(f"{SECRET}-renewed")
    d.post("logs", otlp.logs(["b"]))
    s.wait(lambda s: len(s.accepted()) == 10)
    assert any(r.headers.get("authorization") == f"Bearer {SECRET}-renewed" for r in s.accepted())
    shown = d.log() + d.get("/")[1] + d.get("/metrics")[1] + d.get("/api/v1/status")[1] + d.get("/api/v1/destinations")[1]
    shown += "".join(d.control(v) for v in ("status", "destinations", "sources", "lost"))
    assert SECRET not in shown
    s.down()
    d.post("logs", otlp.logs(["c"]))
    until("an error", lambda: row(d, "basic")["requests"]["failed"])
    assert SECRET not in d.log() + d.control("destinations")


@pytest.mark.row("COL-K8S-06")
def test_a_token_file_that_is_missing_is_named_and_waited_for(collectord, hub, tmp_path):
    token = tmp_path / "token"
    d = collectord(document(hub=remote(hub, auth={"bearer_file": str(token)})))
    d.post("logs", otlp.logs(["a"]))
    assert str(token) in d.wait_log("sending failed, will retry", destination="hub")["err"]
    token.write_text("now")
    hub.wait_names(["a"])
    assert hub.accepted()[0].headers["authorization"] == "Bearer now"


@pytest.mark.row("COL-K8S-06", "COL-LOC-02")
def test_compression_is_none_on_this_machine_and_gzip_where_it_is_asked_for(collectord, sink):
    plain, packed = sink("plain"), sink("packed")
    d = collectord(document(plain={"url": plain.url, "batch": {"timeout": "0s"}}, packed=remote(packed)))
    d.post("logs", otlp.logs(["a"] * 100))
    for s in (plain, packed):
        s.wait(lambda s: s.items() == 100)
    assert "content-encoding" not in plain.accepted()[0].headers and packed.accepted()[0].headers["content-encoding"] == "gzip"


@pytest.mark.row("COL-LOC-02")
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_json_to_receivers_that_want_it(collectord, hub, compression):
    d = collectord(document(hub=remote(hub, encoding="json", compression=compression)))
    sent = {}
    for signal in otlp.SIGNALS:
        sent[signal] = otlp.MAKE[signal](["a", "b\u0001\"\\é🎉"])
        d.post(signal, sent[signal])
    for signal in otlp.SIGNALS:
        hub.wait(lambda s: s.items(signal) == 2)
        request = hub.accepted(signal)[0]
        assert request.json
        assert [item for _, _, item in otlp.walk(request.message)] == [item for _, _, item in otlp.walk(sent[signal])]


@pytest.mark.row("COL-K8S-12", "COL-K8S-01")
def test_each_signal_may_have_its_own_url_and_the_path_is_appended_once(collectord, sink):
    base, own = sink("base"), sink("own")
    own.paths = {"/insert/opentelemetry?x=1": "logs"}
    base.paths["/prefix/v1/traces"] = "traces"
    d = collectord(document(a=remote(base, url=f"{base.url}/prefix", signals=["traces"]), b=remote(base, url=f"{base.url}/v1/traces", signals=["traces"]),
                            c=remote(base, url=f"{base.url}/", signals=["metrics", "logs"], logs_url=f"{own.url}/insert/opentelemetry?x=1")))
    d.post("traces", otlp.traces(["t"]))
    d.post("metrics", otlp.metrics(["m"]))
    d.post("logs", otlp.logs(["l"]))
    own.wait_names(["l"], "logs")
    base.wait(lambda s: sorted(r.path for r in s.accepted()) == ["/prefix/v1/traces", "/v1/metrics", "/v1/traces"])


@pytest.mark.row("COL-K8S-01")
def test_signals_from_and_drop_choose_what_is_sent(collectord, sink):
    s = {n: sink(n) for n in ("traces", "frames", "otlp", "drop")}
    d = collectord(document(traces=remote(s["traces"], signals=["traces"]), frames=remote(s["frames"], **{"from": ["frames"]}),
                            otlp=remote(s["otlp"], **{"from": ["otlp"]}),
                            drop=remote(s["drop"], drop=[{"resource": "telemetry.sdk.name", "equals": "beyla"}, {"resource": "service.name", "equals": "noisy"}])))
    d.post("traces", otlp.traces(["kept"]))
    beyla = otlp.traces(["beyla"], attributes={"telemetry.sdk.name": "beyla"})
    both = otlp.traces(["kept too"], service="noisy.not")
    both.MergeFrom(beyla)
    d.post("traces", both)
    d.post("logs", otlp.logs(["noisy"], service="noisy"))
    d.lines({"log": "line"})
    s["frames"].wait_names(["line"])
    s["otlp"].wait_names(["kept", "kept too", "beyla", "noisy"])
    s["drop"].wait_names(["kept", "kept too", "line"])
    s["traces"].wait_names(["kept", "kept too", "beyla"])
    d.wait_drained()
    assert sorted(s["drop"].names()) == ["kept", "kept too", "line"]
    assert sorted(s["frames"].names()) == ["line"] and "line" not in s["otlp"].names() and not s["traces"].received("logs")
    ledger = d.ledger()
    assert ledger["drop", "traces"]["filtered"] == 1 and ledger["drop", "logs"]["filtered"] == 1
    assert ledger["frames", "traces"]["filtered"] == 3 and ("traces", "logs") not in ledger


@pytest.mark.row("COL-LOC-07")
def test_spans_of_beylad_do_not_go_to_the_local_consumer_but_to_remote_ones(collectord, consumer, hub):
    d = collectord(document(local=local(consumer), hub=remote(hub)))
    d.post("traces", otlp.traces(["loop"], attributes={"telemetry.sdk.name": "beyla"}))
    d.post("traces", otlp.traces(["other"]))
    hub.wait_names(["loop", "other"])
    consumer.wait_names(["other"])
    assert consumer.names() == ["other"]


# ---- batching ----

@pytest.mark.row("COL-BAT-01", "COL-BAT-05")
def test_a_batch_goes_at_its_items_or_at_its_timeout(collectord, hub):
    d = collectord(document(hub=remote(hub, batch={"items": 100, "max_items": 150, "timeout": "1s"})))
    for i in range(10):
        d.post("logs", otlp.logs([f"{i}.{k}" for k in range(10)]))
    full = time.monotonic()
    hub.wait(lambda s: s.items() == 100, timeout=0.8)
    assert len(hub.received()) == 1
    d.post("logs", otlp.logs(["rest"]))
    begun = time.monotonic()
    stays("nothing before the timeout", lambda: hub.items() == 100 or time.monotonic() - begun > 0.85, 0.8)
    hub.wait_names(["rest"])
    assert 0.85 < hub.received()[-1].at - begun < 1.6
    assert full < begun
    for i in range(7):
        d.post("logs", otlp.logs([f"x{i}.{k}" for k in range(60)]))
    hub.wait(lambda s: s.items() == 521)
    assert max(r.items for r in hub.accepted()) <= 150
    m = d.metrics()
    assert m.sum("otelcol_processor_batch_batch_size_trigger_send_total") >= 1
    assert m.sum("otelcol_processor_batch_timeout_trigger_send_total") >= 1


@pytest.mark.row("COL-BAT-05")
def test_no_limit_of_items_and_many_records_in_one_request(collectord, hub):
    d = collectord(document(hub=remote(hub, batch={"items": 5000, "max_items": 0, "max_bytes": "4MB", "timeout": "700ms"})))
    for i in range(50):
        d.post("logs", otlp.logs([f"{i}.{k}" for k in range(50)]))
    hub.wait(lambda s: s.items() == 2500)
    assert len(hub.received()) == 1


@pytest.mark.row("COL-BAT-02", "COL-BAT-05", "COL-LOC-01")
def test_the_local_consumer_waits_for_no_batch(collectord, consumer, hub):
    d = collectord(document(local=local(consumer), hub=remote(hub, batch={"timeout": "2s"})))
    with d.client() as c:
        for i in range(20):
            begun = time.monotonic()
            assert c.request("POST", "/v1/logs", {"Content-Type": otlp.PROTOBUF}, otlp.logs([f"n{i}"]).SerializeToString()).status == 200
            consumer.wait_names([f"n{i}"])
            assert consumer.received()[-1].at - begun < 0.2
    assert not hub.received()


@pytest.mark.row("COL-BAT-03", "COL-BAT-01")
def test_the_default_batch_of_traces_goes_after_two_seconds(collectord, hub):
    d = collectord(document(hub={"url": hub.url}))
    begun = time.monotonic()
    d.post("traces", otlp.traces(["a"]))
    d.post("logs", otlp.logs(["a"]))
    hub.wait_names(["a"], "traces")
    assert 1.9 < hub.received("traces")[0].at - begun < 2.5
    assert not hub.received("logs"), "logs have ten"


@pytest.mark.slow
@pytest.mark.row("COL-BAT-01", "COL-BAT-03")
def test_the_default_batch_of_metrics_and_logs_goes_after_ten_seconds(collectord, hub):
    d = collectord(document(hub={"url": hub.url}))
    begun = time.monotonic()
    d.post("metrics", otlp.metrics(["a"]))
    d.post("logs", otlp.logs(["a"]))
    for signal in ("metrics", "logs"):
        hub.wait_names(["a"], signal, timeout=15)
        assert 9.8 < hub.received(signal)[0].at - begun < 10.8


@pytest.mark.row("COL-LOC-02")
@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_5_mib_reach_the_consumer_in_parts_below_1_mib(collectord, consumer, encoding):
    d = collectord(document(local=local(consumer, encoding=encoding)))
    names = [f"n{i}" for i in range(1700)]
    body = otlp.logs(names, pad=3200)
    assert len(body.SerializeToString()) > 5 << 20
    consumer.behave(too_large_over((1 << 20) - 1))
    d.post("logs", body)
    consumer.wait(lambda s: len(s.names()) == 1700, timeout=20)
    assert consumer.names() == names
    assert max(len(r.body) for r in consumer.received()) < 1 << 20
    assert not [r for r in consumer.received() if r.status == 413]


@pytest.mark.row("COL-LOC-05")
def test_records_keep_their_order_at_the_local_consumer(collectord, consumer):
    d = collectord(document(local=local(consumer)))
    consumer.script([status(503), ok(), close_mid_response(), ok(), slow_answer(0.2)])
    with d.client() as c:
        for i in range(300):
            assert c.request("POST", "/v1/logs", {"Content-Type": otlp.PROTOBUF}, otlp.logs([f"n{i}"]).SerializeToString()).status == 200
    consumer.wait(lambda s: len(s.names()) >= 300)
    assert consumer.names() == [f"n{i}" for i in range(300)]


# ---- independence ----

@pytest.mark.row("COL-LOC-04", "COL-BAT-02", "COL-K8S-10")
def test_the_consumer_is_served_at_once_while_the_hub_hangs(collectord, consumer, hub):
    d = collectord(document(local=local(consumer), hub=remote(hub, in_flight=4, batch={"timeout": "10ms"})))
    hub.behave(hang())
    sent = {}
    with d.client() as c:
        begun = time.monotonic()
        for i in range(200):                       # 1,000 spans a second
            while time.monotonic() < begun + i * 0.01:
                pass
            sent[f"{i}.0"] = time.monotonic()
            assert c.request("POST", "/v1/traces", {"Content-Type": otlp.PROTOBUF},
                             otlp.traces([f"{i}.{k}" for k in range(10)]).SerializeToString()).status == 200
    consumer.wait(lambda s: s.items() == 2000)
    arrived = {n: r.at for r in consumer.accepted() for n in r.names}
    late = sorted(arrived[n] - at for n, at in sent.items())
    print(f"p50 {late[len(late) // 2] * 1e3:.1f} ms, p99 {late[len(late) * 99 // 100] * 1e3:.1f} ms")
    assert late[len(late) * 99 // 100] < 0.2       # COL-BAT-02; the bench measures against 20 ms
    assert hub.items() == 0
    hub.behave(ok())
    hub.wait(lambda s: len(set(s.names())) == 2000)


@pytest.mark.row("COL-LOC-04")
def test_the_hub_does_not_notice_that_the_consumer_refuses(collectord, consumer, hub):
    d = collectord(document(local=local(consumer), hub=remote(hub)))
    consumer.down()
    worst = 0
    for i in range(50):
        begun = time.monotonic()
        d.post("logs", otlp.logs([f"n{i}"]))
        hub.wait_names([f"n{i}"])
        worst = max(worst, hub.received()[-1].at - begun)
    assert worst < 0.5
    assert d.state("hub") == "FLOWING" and d.state("local") == "BUFFERING"
    assert d.status()["state"] == "RUNNING", "the consumer is no remote destination"


@pytest.mark.row("COL-LOC-06", "COL-LOC-04")
def test_delivery_resumes_within_a_second_of_the_consumers_return(collectord, consumer):
    d = collectord(document(local=local(consumer)))
    consumer.down()
    d.post("logs", otlp.logs(["first"]))
    until("the pauses to be at their longest", lambda: row(d, "local")["requests"]["failed"] >= 8, timeout=15)
    for i in range(3):
        consumer.up()
        back = time.monotonic()
        consumer.wait(lambda s: s.accepted(), timeout=5)
        assert consumer.accepted()[0].at - back < 1.0
        consumer.down()
        consumer.requests.clear()
        d.post("logs", otlp.logs([f"n{i}"]))
        until("failures", lambda: row(d, "local")["requests"]["next_attempt_s"] is not None)
    consumer.up()
    consumer.wait_names(["n2"])


@pytest.mark.row("COL-LOC-03")
@pytest.mark.parametrize("family", ["127.0.0.1", "::1"])
def test_localhost_is_found_on_either_family_without_delay(collectord, sink, family):
    if family == "::1":
        import socket
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 on this machine")
        with socket.socket(socket.AF_INET6) as listener:
            listener.bind(("::1", 0))
            listener.listen(8)
            d = collectord(document(local={"url": f"http://localhost:{listener.getsockname()[1]}", "batch": {"timeout": "0s"}}))
            begun = time.monotonic()
            d.post("logs", otlp.logs(["a"]))
            listener.settimeout(5)
            connection, _ = listener.accept()
            connection.close()
            assert time.monotonic() - begun < 0.3
        return
    s = sink()
    d = collectord(document(local=local(s, url=f"http://localhost:{s.port}")))
    begun = time.monotonic()
    d.post("logs", otlp.logs(["a"]))
    s.wait_names(["a"])
    assert s.accepted()[0].at - begun < 0.2


@pytest.mark.row("COL-LOC-04")
def test_max_lag_bounds_what_waits_for_the_consumer_and_pins_nothing(collectord, consumer, hub):
    d = collectord(document(local=local(consumer, max_lag={"bytes": "100KB", "age": "0s"}), hub=remote(hub)))
    consumer.down()
    for i in range(100):
        d.post("logs", otlp.logs([f"n{i}"], pad=10_000))
    hub.wait(lambda s: s.items() == 100)
    r = row(d, "local")
    assert r["waiting_bytes"] <= 100_000 and r["dropped_by"]["max_lag"] > 80
    assert d.state("local") == "DROPPING"
    consumer.up()
    d.wait_drained()
    kept = [int(n[1:]) for n in consumer.names()]
    assert 99 in kept and len(kept) == 100 - row(d, "local")["dropped"]
    lost = sorted(set(range(100)) - set(kept))
    assert lost == list(range(lost[0], lost[-1] + 1)), "not one piece, the oldest that waited"
    assert row(d)["delivered"] == 100 and row(d)["dropped"] == 0


@pytest.mark.row("COL-LOC-04")
@pytest.mark.parametrize("key,reason", [("max_age", "max_age"), ("max_lag", "max_lag")])
def test_what_waited_too_long_is_given_up_and_counted(collectord, hub, key, reason):
    over = {"max_age": "1s"} if key == "max_age" else {"max_lag": {"bytes": 0, "age": "1s"}}
    d = collectord(document(hub=remote(hub, **over)))
    hub.down()
    d.post("logs", otlp.logs(["old"] * 3))
    until("it to be given up", lambda: row(d)["dropped_by"][reason] == 3, timeout=5)
    hub.up()
    d.post("logs", otlp.logs(["new"]))
    hub.wait_names(["new"])
    assert hub.names() == ["new"]
    assert [(x["reason"], x["items"]) for x in d.lost()] == [(reason, 3)]


@pytest.mark.row("COL-K8S-05")
def test_give_up_drops_a_request_that_failed_too_long_and_never_keeps_it(collectord, sink):
    plain, patient = sink("plain"), sink("patient")
    retry = {"initial": "50ms", "max": "100ms"}
    d = collectord(document(plain=remote(plain, retry={**retry, "give_up": "500ms"}), patient=remote(patient, retry={**retry, "give_up": "never"})))
    plain.down()
    patient.down()
    d.post("logs", otlp.logs(["a"]))
    until("one to give up", lambda: row(d, "plain")["dropped_by"]["give_up"] == 1)
    assert row(d, "patient")["in_flight"] + row(d, "patient")["waiting"] == 1
    patient.up()
    patient.wait_names(["a"])


@pytest.mark.row("COL-K8S-10", "COL-K8S-04")
def test_several_destinations_with_settings_of_their_own_do_not_touch_each_other(collectord, sink):
    s = {n: sink(n) for n in ("langfuse", "phoenix", "mlflow")}
    s["langfuse"].paths = {"/api/public/otel/v1/traces": "traces"}
    d = collectord(document(
        langfuse=remote(s["langfuse"], url=s["langfuse"].url + "/api/public/otel", signals=["traces"], auth={"username": "pk", "password": "sk"},
                        batch={"items": 100, "max_items": 200, "timeout": "100ms"}, in_flight=5),
        phoenix=remote(s["phoenix"], batch={"items": 1, "max_items": 50, "timeout": "0s"}), mlflow=remote(s["mlflow"], in_flight=4)))
    s["phoenix"].down()
    s["mlflow"].behave(status(500))
    names = [f"n{i}" for i in range(500)]
    for i in range(0, 500, 20):
        d.post("traces", otlp.traces(names[i:i + 20]))
    s["langfuse"].wait(lambda s: sorted(s.names()) == sorted(names))
    assert max(r.items for r in s["langfuse"].accepted()) <= 200
    d.wait_drained("mlflow")
    s["phoenix"].up()
    s["phoenix"].wait(lambda s: sorted(s.names()) == sorted(names))
    assert max(r.items for r in s["phoenix"].accepted()) <= 50
    ledger = d.wait_drained()
    assert ledger["mlflow", "traces"]["dropped_by"]["refused"] == 500 and ledger["langfuse", "traces"]["resent"] == 0


@pytest.mark.row("COL-K8S-04")
@pytest.mark.parametrize("in_flight", [1, 4])
def test_in_flight_bounds_the_requests_at_once(collectord, hub, in_flight):
    d = collectord(document(hub=remote(hub, in_flight=in_flight, batch={"timeout": "0s", "items": 10, "max_items": 10})))
    now, peak, lock = [0], [0], threading.Lock()

    def counting(c, r):
        with lock:
            now[0] += 1
            peak[0] = max(peak[0], now[0])
        c.pause(0.03)
        with lock:
            now[0] -= 1
        ok()(c, r)
    hub.behave(counting)
    for i in range(40):
        d.post("logs", otlp.logs([f"{i}.{k}" for k in range(10)]))
    hub.wait(lambda s: s.items() == 400)
    assert peak[0] == in_flight
    assert hub.connections_made <= in_flight + 1, "connections are kept"     # and the test at start


@pytest.mark.row("COL-K8S-08", "COL-MSG-01")
def test_the_connection_is_tested_at_start_and_failure_is_not_fatal(collectord, hub, sink):
    away = sink("away")
    away.down()
    d = collectord(document(hub=remote(hub), away=remote(away), nowhere={"url": f"http://no-such-host.invalid:{free_port()}"}))
    assert d.wait_log("connection test ok", destination="hub")["url"] == hub.url
    assert "refused" in d.wait_log("connection test failed", destination="away")["err"].lower() or "connect" in d.wait_log(
        "connection test failed", destination="away")["err"].lower()
    assert d.wait_log("connection test failed", destination="nowhere", timeout=20)["err"]
    d.post("logs", otlp.logs(["a"]))
    hub.wait_names(["a"])


@pytest.mark.row("COL-K8S-11")
def test_a_name_that_cannot_be_looked_up_does_not_hold_up_others(collectord, hub):
    d = collectord(document(hub=remote(hub), nowhere={"url": "http://no-such-host.invalid:4318", "batch": {"timeout": "0s"}, "retry": {"initial": "10ms", "max": "10ms"}}))
    for i in range(30):
        begun = time.monotonic()
        d.post("logs", otlp.logs([f"n{i}"]))
        hub.wait_names([f"n{i}"])
        assert time.monotonic() - begun < 1


@pytest.mark.row("COL-K8S-02")
def test_without_a_remote_destination_it_says_so_and_runs(collectord, consumer):
    d = collectord(document(local=local(consumer)))
    assert d.log_lines("running local-only")[0]["level"] == "warn"
    assert d.status()["state"] == "RUNNING" and d.get("/-/healthy")[0] == 200
    d.post("logs", otlp.logs(["a"]))
    consumer.wait_names(["a"])


def test_a_null_destination_counts_and_sends_nothing(collectord):
    d = collectord(document(void={"type": "null", "batch": {"timeout": "0s"}}))
    d.post("logs", otlp.logs(["a"] * 7))
    d.wait_drained()
    assert row(d, "void")["delivered"] == 7


def test_a_disabled_destination_is_left_out(collectord, hub):
    d = collectord(document(off=remote(hub, enabled=False)))
    d.post("logs", otlp.logs(["a"]))
    assert d.ledger() == {} and not hub.received() and hub.connections_made == 0


# ---- reload ----

@pytest.mark.row("GEN-08", "COL-K8S-10")
@pytest.mark.parametrize("how", ["SIGHUP", "http", "control"])
def test_a_reload_adds_removes_and_changes_destinations_and_keeps_positions(collectord, sink, how):
    import signal as signals
    s = {n: sink(n) for n in ("stays", "changes", "moved", "goes", "comes")}
    d = collectord(document(stays=remote(s["stays"]), changes=remote(s["changes"]), goes=remote(s["goes"])))
    for n in ("stays", "changes", "goes"):
        s[n].down()
    for i in range(10):
        d.post("logs", otlp.logs([f"before {i}"]))
    until("failures", lambda: all(r["requests"]["failed"] for (_, sig), r in d.ledger().items() if sig == "logs"))
    d.write_config(document(comes=remote(s["comes"]), changes=remote(s["moved"], compression="none"), stays=remote(s["stays"])))
    if how == "SIGHUP":
        d.signal(signals.SIGHUP)
    elif how == "http":
        assert d.get("/-/reload", "POST")[0] == 200
    else:
        assert d.control("reload") == "reloaded"
    d.wait_log("configuration reloaded")
    until("the new set", lambda: {x["name"] for x in d.control_json("destinations")} == {"stays", "changes", "comes"})
    d.post("logs", otlp.logs(["after"]))
    before = [f"before {i}" for i in range(10)]
    s["stays"].up()
    s["stays"].wait_names([*before, "after"])
    s["moved"].wait_names([*before, "after"])
    s["comes"].wait_names(["after"])
    assert sorted(s["stays"].names()) == sorted([*before, "after"]) and s["comes"].names() == ["after"]
    assert "content-encoding" not in s["moved"].accepted()[0].headers
    s["goes"].up()
    d.wait_drained()
    assert not s["goes"].received() and not s["changes"].received()
    lost = [x for x in d.lost() if x["destination"] == "goes"]
    assert sum(x["items"] for x in lost) == 10 and {x["reason"] for x in lost} == {"removed"}
    assert row(d, "stays")["offered"] == 11 and row(d, "comes")["offered"] == 1


@pytest.mark.row("GEN-08")
def test_reloading_over_and_over_under_load_loses_nothing(collectord, sink):
    a, b = sink("a"), sink("b")
    d = collectord(document(a=remote(a), b=remote(b)))
    stop, posted = threading.Event(), []

    def post():
        i = 0
        with d.client() as c:
            while not stop.is_set():
                assert c.request("POST", "/v1/logs", {"Content-Type": otlp.PROTOBUF}, otlp.logs([f"n{i}"]).SerializeToString()).status == 200
                posted.append(f"n{i}")
                i += 1
    thread = threading.Thread(target=post)
    thread.start()
    try:
        for i in range(30):
            d.write_config(document(a=remote(a, in_flight=1 + i % 4, compression=("gzip", "none")[i % 2]), b=remote(b, batch={"timeout": f"{i}ms"})))
            assert d.control("reload") == "reloaded"
    finally:
        stop.set()
        thread.join()
    for s in (a, b):
        s.wait(lambda s: set(s.names()) == set(posted), timeout=20, what=f"{len(posted)} names")
    ledger = d.wait_drained()
    for (name, sig), r in ledger.items():
        if sig == "logs":
            assert r["delivered"] == len(posted) and r["dropped"] == 0


def test_json_answers_are_json(collectord, hub):
    """The figures are the same over HTTP and over the control socket."""
    d = collectord(document(hub=remote(hub)))
    d.post("logs", otlp.logs(["a"]))
    hub.wait_names(["a"])
    d.wait_drained()
    web = json.loads(d.get("/api/v1/destinations")[1])
    line = d.control_json("destinations")
    for doc in (web, line):
        for signal in doc[0]["signals"]:
            signal["requests"] = None
    assert web == line
