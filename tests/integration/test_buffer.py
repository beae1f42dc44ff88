# SPDX-License-Identifier: Apache-2.0
"""The buffer: what waits while a receiver is away, what goes when it is full, and that the ledger says so exactly."""
import random
import re
import signal
import threading
import time

import pytest

from env import otlp
from env.daemon import sanitized
from env.destinations import document, local, remote
from env.sink import (close_mid_response, close_without_answer, garbage, hang, ok, partial_success, poison, slow_answer, status, too_large_over)
from env.wait import until

PB = {"Content-Type": otlp.PROTOBUF}


def fill(d, names, per_request=20, pad=1000, kind="logs", patient=False):
    """Posts names in order on one connection; all must be taken. patient: a 503 is tried again."""
    with d.client() as c:
        for i in range(0, len(names), per_request):
            body = otlp.MAKE[kind](names[i:i + per_request], pad=pad).SerializeToString()

            def taken():
                answer = c.request("POST", f"/v1/{kind}", PB, body)
                assert answer.status == 200 or (patient and answer.status == 503), answer
                return answer.status == 200
            until("the buffer to take it", taken)


def numbers(sink, kind="logs"):
    return [int(n.split()[1]) for n in sink.names(kind)]


@pytest.mark.row("COL-BUF-01", "COL-BUF-05", "COL-BUF-08", "COL-K8S-05")
def test_an_outage_that_fits_loses_nothing_and_drains_oldest_first(collectord, hub):
    d = collectord({**document(hub=remote(hub, in_flight=1)), "buffer": {"memory": "20MB"}})
    names = [f"n {i}" for i in range(10_000)]
    fill(d, names[:20])
    hub.wait(lambda s: s.items() == 20)
    d.wait_drained()                               # its answer has come too
    hub.down()
    fill(d, names[20:])
    row = d.ledger()["hub", "logs"]
    assert row["waiting"] + row["in_flight"] == 9980
    assert d.status()["budgets"]["spool"]["bytes"] > 10_000_000
    hub.up()
    hub.wait(lambda s: s.items() >= 10_000, timeout=30)
    d.wait_drained()
    assert numbers(hub) == list(range(10_000)), "each exactly once, oldest first"
    row = d.ledger()["hub", "logs"]
    assert (row["delivered"], row["dropped"]) == (10_000, 0) and not d.lost()


@pytest.mark.row("COL-BUF-08")
def test_a_lost_reply_repeats_what_was_in_flight_and_counts_it(collectord, hub):
    d = collectord(document(hub=remote(hub, in_flight=1)))
    hub.script([close_mid_response(), close_without_answer(), ok()])
    names = [f"n {i}" for i in range(500)]
    fill(d, names)
    hub.wait(lambda s: set(s.names()) == set(names))
    ledger = d.wait_drained()["hub", "logs"]
    received = sum(r.items for r in hub.received())
    assert ledger["delivered"] == 500
    assert received - 500 == ledger["resent"], "what came twice is counted, no more and no less"
    assert d.metrics().sum("collectord_items_resent_total", destination="hub", signal="logs") == ledger["resent"]


@pytest.mark.row("COL-BUF-02", "COL-BUF-03", "COL-BUF-05", "COL-BUF-06", "COL-BUF-07", "COL-SVC-01", "COL-SVC-02", "COL-MSG-01")
def test_the_states_of_an_outage_that_fits(collectord, hub):
    d = collectord({**document(hub=remote(hub, in_flight=1, batch={"timeout": "0s", "items": 100, "max_items": 100})), "buffer": {"memory": "20MB"}})
    assert d.state("hub") == "FLOWING" and d.status()["state"] == "RUNNING"
    hub.down()
    fill(d, [f"n {i}" for i in range(100)])
    d.wait_state("hub", "BUFFERING")
    assert d.status()["state"] == "DEGRADED" and d.get("/-/ready")[0] == 200 and d.get("/-/healthy")[0] == 200
    m = d.metrics()
    shown = {s.labels["state"]: s.value for s in m.named("collectord_buffer_state", destination="hub", signal="logs")}
    assert shown == {"FLOWING": 0, "BUFFERING": 1, "DROPPING": 0, "FLUSHING": 0}
    assert m.sum("collectord_buffer_state", destination="hub", signal="traces", state="FLOWING") == 1
    assert m.sum("collectord_service_state", state="DEGRADED") == 1
    line = d.wait_log("destination state", destination="hub", to="BUFFERING")
    assert line["from"] == "FLOWING" and line["signal"] == "logs" and line["err"]
    fill(d, [f"n {i}" for i in range(100, 3000)])
    hub.behave(slow_answer(0.05))
    hub.up()
    d.wait_state("hub", "FLUSHING")
    assert d.status()["state"] == "DEGRADED"
    hub.behave(status(503))                        # it flaps
    d.wait_state("hub", "BUFFERING")
    hub.behave(ok())
    d.wait_state("hub", "FLOWING")
    until("RUNNING", lambda: d.status()["state"] == "RUNNING")
    hub.wait(lambda s: set(numbers(s)) == set(range(3000)))
    steps = [(line["from"], line["to"]) for line in d.log_lines("destination state", destination="hub", signal="logs")]
    assert steps == [("FLOWING", "BUFFERING"), ("BUFFERING", "FLUSHING"), ("FLUSHING", "BUFFERING"), ("BUFFERING", "FLUSHING"), ("FLUSHING", "FLOWING")]
    states = [line["to"] for line in d.log_lines("service state")]
    assert states == ["RUNNING", "DEGRADED", "RUNNING"]


@pytest.mark.row("COL-BUF-04", "COL-BUF-05", "COL-BUF-02", "COL-BUF-07", "COL-MSG-01")
def test_a_full_buffer_gives_up_the_oldest_and_says_exactly_which(collectord, hub):
    d = collectord({**document(hub=remote(hub, in_flight=1, batch={"timeout": "0s", "max_bytes": "16KiB"})), "buffer": {"memory": "3MB", "history": "0"}})
    fill(d, [f"n {i}" for i in range(20)])
    hub.wait(lambda s: s.items() == 20)
    d.wait_drained()                               # its answer has come too
    hub.down()
    fill(d, [f"n {i}" for i in range(20, 10_000)])
    d.wait_state("hub", "DROPPING")
    row = d.ledger()["hub", "logs"]
    dropped = row["dropped_by"]["buffer_full"]
    assert dropped > 5000 and row["dropped"] == dropped
    assert d.status()["budgets"]["spool"]["bytes"] <= 3_000_000
    assert d.status()["state"] == "DEGRADED"
    warned = d.log_lines("data dropped", destination="hub")
    assert len(warned) == 1 and (warned[0]["signal"], warned[0]["reason"]) == ("logs", "buffer_full")
    hub.behave(slow_answer(0.01))
    hub.up()
    d.wait_state("hub", "FLUSHING")
    hub.behave(ok())
    d.wait_state("hub", "FLOWING", timeout=30)
    row = d.wait_drained()["hub", "logs"]
    got = numbers(hub)
    assert len(got) == len(set(got)) and got == sorted(got), "oldest first, none twice"
    lost = sorted(set(range(10_000)) - set(got))
    # What went is one piece. Before it there is only what was delivered, and the one segment (1 MiB) in which the request in flight lies.
    assert lost == list(range(lost[0], lost[-1] + 1))
    assert lost[0] <= 20 + (1 << 20) // 1000 and 9_999 in got
    assert len(lost) == row["dropped_by"]["buffer_full"] == row["dropped"] == dropped
    assert row["delivered"] == len(got)
    assert sum(x["items"] for x in d.lost()) == len(lost)
    assert {(x["destination"], x["signal"], x["reason"]) for x in d.lost()} == {("hub", "logs", "buffer_full")}
    m = d.metrics()
    assert m.sum("collectord_items_total", destination="hub", signal="logs", outcome="dropped", reason="buffer_full") == len(lost)
    assert m.sum("otelcol_exporter_enqueue_failed_log_records_total", exporter="hub") == len(lost)


@pytest.mark.row("COL-BUF-01", "COL-BUF-04")
def test_the_signals_share_one_budget_and_the_oldest_of_all_goes_first(collectord, hub):
    d = collectord({**document(hub=remote(hub, in_flight=1, batch={"timeout": "0s", "max_bytes": "16KiB"})), "buffer": {"memory": "4MB", "history": "0"}})
    hub.down()
    fill(d, [f"n {i}" for i in range(1500)], kind="traces")
    fill(d, [f"n {i}" for i in range(6000)], kind="logs")
    ledger = d.ledger()
    assert ledger["hub", "traces"]["dropped"] > 400 and ledger["hub", "logs"]["dropped"] > 1000      # the first segment of traces is in flight
    hub.up()
    d.wait_drained()
    for kind, n in (("traces", 1500), ("logs", 6000)):
        lost = sorted(set(range(n)) - set(numbers(hub, kind)))
        assert lost == list(range(lost[0], lost[-1] + 1)) and len(lost) == d.ledger()["hub", kind]["dropped"]


@pytest.mark.row("COL-BUF-04", "COL-LOC-04", "COL-BUF-07")
def test_what_one_destination_loses_another_has(collectord, hub, consumer):
    d = collectord({**document(local=local(consumer), hub=remote(hub)), "buffer": {"memory": "2MB", "history": "0"}})
    hub.down()
    names = [f"n {i}" for i in range(6000)]
    fill(d, names, patient=True)                   # the consumer's own pace, while it keeps up, is no reason to drop
    consumer.wait(lambda s: numbers(s) == list(range(6000)))
    row = d.ledger()["hub", "logs"]
    assert row["dropped_by"]["buffer_full"] > 3000
    assert d.ledger()["local", "logs"]["dropped"] == 0 and d.state("local") == "FLOWING"
    hub.up()
    d.wait_drained()
    assert d.ledger()["hub", "logs"]["delivered"] == len(set(numbers(hub)))


@pytest.mark.row("COL-BUF-07", "COL-BUF-08", "COL-BUF-04")
@pytest.mark.parametrize("memory", ["1MB", "30MB"])
def test_the_ledger_balances_at_any_time_whatever_the_receivers_do(collectord, hub, consumer, memory):
    """Every figure adds up in every scrape, and in the end the ids at the receivers agree with it."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    quick = {"initial": "10ms", "max": "50ms"}
    d = collectord({**document(hub=remote(hub, timeout="300ms", retry=quick, batch={"timeout": "20ms", "items": 50, "max_items": 200}),
                               local=local(consumer, timeout="300ms", retry=quick, max_lag={"bytes": "200KB", "age": "1s"})),
                    "buffer": {"memory": memory, "history": "0"}})
    stop, posted, errors = threading.Event(), {s: 0 for s in otlp.SIGNALS}, []

    def post(kind):
        try:
            with d.client() as c:
                while not stop.is_set():
                    n = random.randrange(1, 40)
                    names = [f"n {posted[kind] + k}" for k in range(n)]
                    if random.random() < 0.05:
                        names[0] = "poison"
                    body = otlp.MAKE[kind](names, pad=random.randrange(0, 1500)).SerializeToString()
                    answer = c.request("POST", f"/v1/{kind}", PB, body)
                    if answer.status == 200:
                        posted[kind] += n
                    else:
                        assert answer.status == 503, answer
                        time.sleep(0.01)           # as it asks: the load, not a wait for something to happen
        except Exception as e:
            errors.append(repr(e))
    threads = [threading.Thread(target=post, args=(kind,)) for kind in otlp.SIGNALS]
    for t in threads:
        t.start()
    end = time.monotonic() + 6
    while time.monotonic() < end and not errors:
        for s in (hub, consumer):
            s.up()
            what = chance.choice([ok, ok, lambda: status(503), lambda: status(429, {"Retry-After": "0"}), lambda: status(400), lambda: status(404),
                                  lambda: too_large_over(2000), lambda: partial_success(1, "one"), hang, garbage, close_mid_response,
                                  close_without_answer, lambda: poison("poison"), lambda: slow_answer(0.05), None])
            s.behave(what()) if what else s.down()
        for _ in range(6):
            d.metrics_ledger()
            d.ledger()
    stop.set()
    for t in threads:
        t.join()
    assert not errors
    for s in (hub, consumer):
        s.up().behave(ok())
    ledger = d.wait_drained(timeout=30)
    metrics = d.metrics_ledger()
    lost = d.lost()
    for (destination, kind), row in ledger.items():
        s = hub if destination == "hub" else consumer
        assert row["offered"] == posted[kind] == metrics[destination, kind]["offered"]
        assert {r: n for r, n in row["dropped_by"].items()} == {o[1]: n for o, n in metrics[destination, kind].items() if isinstance(o, tuple)}
        assert row["delivered"] + row["rejected"] <= s.items(kind), "more counted than came"
        assert row["delivered"] + row["rejected"] + row["dropped"] == posted[kind]
        if len(lost) < 256:                        # no line has gone yet
            for reason in {x["reason"] for x in lost}:
                told = sum(x["items"] for x in lost if (x["destination"], x["signal"], x["reason"]) == (destination, kind, reason))
                assert told == (row["rejected"] if reason == "rejected" else row["dropped_by"][reason]), reason


@pytest.mark.row("COL-BUF-09", "GEN-08", "COL-MSG-01")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_sends_what_waits_and_says_how_much(collectord, hub, consumer, number):
    d = collectord(document(hub=remote(hub, batch={"timeout": "1h"}), local=local(consumer)))
    fill(d, [f"n {i}" for i in range(900)])
    consumer.wait(lambda s: s.items() == 900)
    d.wait_drained("local")
    assert not hub.received()
    d.signal(number)
    assert d.ended() == 0
    assert sorted(numbers(hub)) == list(range(900))
    line = d.log_lines("stopped")[-1]
    assert (line["flushed"], line["lost"]) == ("900", "0")
    assert not d.frames_path.exists() and not d.control_path.exists()


@pytest.mark.row("COL-BUF-09", "GEN-08")
def test_a_stop_under_load_loses_nothing_that_was_acknowledged(collectord, hub, sink):
    hub.behave(slow_answer(0.02))
    d = collectord(document(hub=remote(hub, batch={"timeout": "100ms"})))
    stop, taken = threading.Event(), []

    def post(k):
        i = 0
        try:
            with d.client() as c:
                while not stop.is_set():
                    if c.request("POST", "/v1/logs", PB, otlp.logs([f"n {k * 100000 + i}"]).SerializeToString()).status == 200:
                        taken.append(k * 100000 + i)
                    i += 1
        except Exception:                          # the listener goes: what follows was not acknowledged
            pass
    threads = [threading.Thread(target=post, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    until("some load", lambda: len(taken) > 500)
    d.signal(signal.SIGTERM)
    assert d.ended() == 0
    stop.set()
    for t in threads:
        t.join()
    assert set(taken) <= set(numbers(hub)), f"{len(set(taken) - set(numbers(hub)))} acknowledged records are missing"
    assert d.log_lines("stopped")[-1]["lost"] == "0"


@pytest.mark.row("COL-BUF-09", "GEN-08")
def test_stop_timeout_ends_a_flush_and_counts_the_rest_as_lost(collectord, hub):
    d = collectord({**document(hub=remote(hub, batch={"timeout": "1h"}, timeout="1m")), "stop_timeout": "700ms"})
    hub.behave(hang())
    fill(d, [f"n {i}" for i in range(300)])
    begun = time.monotonic()
    d.signal(signal.SIGTERM)
    assert d.ended(5) == 0
    assert 0.6 < time.monotonic() - begun < 2.5
    line = d.log_lines("stopped")[-1]
    assert (line["level"], line["flushed"], line["lost"]) == ("warn", "0", "300")


@pytest.mark.row("COL-BUF-09", "GEN-08")
def test_a_second_signal_ends_at_once(collectord, hub):
    d = collectord({**document(hub=remote(hub, batch={"timeout": "1h"}, timeout="1m")), "stop_timeout": "1m"})
    hub.behave(hang())
    fill(d, [f"n {i}" for i in range(100)])
    d.signal(signal.SIGTERM)
    d.wait_log("stopping")
    hub.wait(lambda s: s.received())
    d.signal(signal.SIGTERM)
    assert d.ended(3) == 0
    assert d.log_lines("stopped")[-1]["lost"] == "100"


@pytest.mark.row("COL-BUF-09", "GEN-08")
def test_a_stop_while_a_receiver_is_away_does_not_wait_for_it(collectord, hub, consumer):
    d = collectord(document(hub=remote(hub), local=local(consumer, batch={"timeout": "1h"})))
    hub.down()
    fill(d, [f"n {i}" for i in range(100)])
    d.wait_state("hub", "BUFFERING")
    begun = time.monotonic()
    d.signal(signal.SIGTERM)
    assert d.ended(5) == 0
    assert time.monotonic() - begun < 2
    assert sorted(numbers(consumer)) == list(range(100)), "the other was flushed"
    assert d.log_lines("stopped")[-1]["lost"] == "100"


@pytest.mark.row("COL-BUF-01")
def test_history_is_kept_only_while_bytes_are_free(collectord, hub):
    d = collectord({**document(hub=remote(hub)), "buffer": {"memory": "20MB", "history": "2MB"}})
    fill(d, [f"n {i}" for i in range(10_000)])
    hub.wait(lambda s: s.items() == 10_000)
    d.wait_drained()
    until("history within its bound", lambda: d.status()["budgets"]["spool"]["bytes"] <= 3_200_000)
    assert d.status()["budgets"]["spool"]["bytes"] > 500_000
    assert not d.lost()


@pytest.mark.row("COL-BUF-01")
def test_a_reload_may_change_the_budget(collectord, hub):
    d = collectord({**document(hub=remote(hub)), "buffer": {"memory": "20MB"}})
    hub.down()
    fill(d, [f"n {i}" for i in range(5000)])
    d.wait_state("hub", "BUFFERING")
    d.write_config({**document(hub=remote(hub)), "buffer": {"memory": "2MB", "history": "1MB"}})
    assert d.control("reload") == "reloaded"
    fill(d, [f"n {i}" for i in range(5000, 5020)])
    assert d.status()["budgets"]["spool"]["bytes"] <= 2_000_000
    hub.up()
    row = d.wait_drained()["hub", "logs"]
    assert row["dropped"] == 5020 - len(set(numbers(hub))) > 2000


@pytest.mark.row("COL-BUF-01")
def test_a_full_buffer_of_100_mb_stays_below_130_mb_resident(collectord, hub):
    if sanitized():
        pytest.skip("memory is not its own with sanitizers")
    d = collectord(document(hub=remote(hub, compression="none")))
    hub.down()
    body = otlp.logs([f"n {i}" for i in range(100)], pad=1000).SerializeToString()
    with d.client() as c:
        for _ in range(130_000_000 // len(body)):
            assert c.request("POST", "/v1/logs", PB, body).status == 200
    spool = d.status()["budgets"]["spool"]
    assert 95_000_000 < spool["bytes"] <= spool["limit_bytes"] == 100_000_000
    until("memory at rest", lambda: d.rss() <= 130_000_000, timeout=5)
    row = d.ledger()["hub", "logs"]
    assert row["dropped_by"]["buffer_full"] > 0
    hub.up()
    d.wait_drained(timeout=60)
    # What was freed went back to the system: history and the program itself are left.
    until("memory to go back", lambda: d.rss() <= 45_000_000, timeout=10)


@pytest.mark.row("COL-BUF-01", "COL-OTLP-13")
def test_status_and_metrics_show_the_buffer(collectord, hub):
    d = collectord(document(hub=remote(hub)))
    hub.down()
    fill(d, [f"n {i}" for i in range(3000)])
    d.wait_state("hub", "BUFFERING")
    m = d.metrics()
    assert m.sum("collectord_buffer_bytes", destination="hub", signal="logs") > 500_000
    assert m.sum("otelcol_exporter_queue_size", exporter="hub") > 500_000
    assert m.sum("otelcol_exporter_queue_capacity", exporter="hub") == 100_000_000
    assert m.sum("collectord_spool_bytes", signal="logs") > 900_000
    assert re.search(r"hub\s+BUFFERING", d.control("status"))


@pytest.mark.slow
@pytest.mark.row("COL-K8S-05", "COL-BUF-08")
def test_a_seven_minute_outage_loses_nothing(collectord, hub, consumer):
    d = collectord(document(hub={"url": hub.url, "compression": "gzip"}, local=local(consumer)))
    hub.down()
    begun, i = time.monotonic(), 0
    while time.monotonic() - begun < 7 * 60:
        fill(d, [f"n {i + k}" for k in range(20)])
        i += 20
        time.sleep(0.1)                            # the load: 200 a second
    hub.up()
    hub.wait(lambda s: len(set(s.names())) == i, timeout=90)
    assert d.wait_drained()["hub", "logs"]["dropped"] == 0
