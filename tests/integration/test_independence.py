# SPDX-License-Identifier: Apache-2.0
"""That nobody holds what others need: a dead destination no body and no pins, a large item no lane, a reload nothing that did not change."""
import os
import signal
import time

import pytest

from env import frames, otlp
from env.destinations import document, local, remote
from env.sink import hang, ok, slow_answer, status, too_large_over
from env.wait import until


@pytest.mark.row("COL-K8S-10")
def test_dead_destinations_leave_the_egress_to_the_living(collectord, hub, sink):
    dead = [sink(f"dead{i}") for i in range(3)]
    for s in dead:
        s.behave(status(503))
    config = document(hub=remote(hub), **{f"dead{i}": remote(s) for i, s in enumerate(dead)})
    config["buffer"] = {"egress": "1MB"}
    d = collectord(config)
    for n in range(20):
        d.post("logs", otlp.logs([f"{n}.{i}" for i in range(400)], pad=1000))
        time.sleep(0.05)
    until("the living one to have all", lambda: hub.items("logs") == 8000, timeout=20)
    assert all(row["dropped"] == 0 for row in d.ledger().values())


@pytest.mark.row("COL-K8S-04")
def test_an_item_larger_than_the_egress_passes_alone(collectord, hub):
    config = document(hub=remote(hub))
    config["buffer"] = {"egress": "1MB"}
    d = collectord(config)
    big = otlp.logs(["big"])
    otlp.attribute(big.resource_logs[0].scope_logs[0].log_records[0].attributes, "blob", os.urandom(6 << 20))
    d.post("logs", big)
    d.post("logs", otlp.logs(["after"]))
    hub.wait_names(["big", "after"])


@pytest.mark.row("COL-BUF-04")
@pytest.mark.row("COL-LOC-04")
def test_batches_of_a_dead_destination_do_not_close_a_small_buffer(collectord, hub, consumer):
    hub.behave(status(503))
    config = document(local=local(consumer), hub=remote(hub))
    config["buffer"] = {"memory": "2MB", "history": "0"}
    d = collectord(config)
    for n in range(60):
        for s in otlp.SIGNALS:
            message = otlp.MAKE[s]([f"{s} {n} {i}" for i in range(50)], pad=1000)
            # 503 for a moment is right while the consumer has not taken what fills so small a buffer.
            until("the door to open", lambda: d.post(s, message, expect=None).status == 200, timeout=5)
    until("the consumer to have all", lambda: all(consumer.items(s) == 3000 for s in otlp.SIGNALS))
    lost = sum(line["items"] for line in d.lost() if line["destination"] == "hub")
    rows = [d.ledger()["hub", s] for s in otlp.SIGNALS]
    assert lost == sum(r["dropped"] for r in rows) > 0
    assert all(r["offered"] == r["dropped"] + r["waiting"] + r["in_flight"] for r in rows)


@pytest.mark.row("COL-BUF-04")
def test_a_request_that_can_never_fit_costs_nothing_that_is_kept(collectord, hub):
    hub.behave(status(503))
    config = document(hub=remote(hub))
    config["buffer"] = {"memory": "5MB", "history": "0"}
    d = collectord(config)
    d.post("logs", otlp.logs([f"keep {i}" for i in range(2000)], pad=1000))
    big = otlp.logs([f"n {i}" for i in range(8000)], pad=1000)
    d.post("logs", big, expect=413)
    peer = frames.Connection(d.frames_path)
    peer.hello(name="p")
    peer.send(frames.frame(frames.LOGS, 1, big.SerializeToString()))
    assert peer.error()[0] == 9
    assert d.ledger()["hub", "logs"]["offered"] == 2000 and d.ledger()["hub", "logs"]["dropped"] == 0


@pytest.mark.row("GEN-08")
def test_a_reload_lets_what_did_not_change_go_on(collectord, hub):
    hub.behave(slow_answer(1.5))
    d = collectord(document(hub=remote(hub)))
    d.post("logs", otlp.logs(["once"]))
    hub.wait(lambda s: s.received("logs"))
    for _ in range(5):
        d.signal(signal.SIGHUP)
        d.wait_log("configuration reloaded")
        time.sleep(0.1)
    d.wait_drained()
    assert len(hub.received("logs")) == 1
    assert d.ledger()["hub", "logs"]["delivered"] == 1 and d.ledger()["hub", "logs"]["resent"] == 0


@pytest.mark.row("COL-K8S-03")
def test_a_batch_is_split_even_when_others_hold_the_egress(collectord, hub, sink):
    hung = sink("hung")
    hung.behave(hang())
    config = document(hung=remote(hung, in_flight=8, timeout="30s", batch={"timeout": "0s", "max_items": 100, "items": 1}),
                      hub=remote(hub, compression="none"))
    config["buffer"] = {"egress": "1MB"}
    d = collectord(config)
    for n in range(8):
        d.post("logs", otlp.logs([f"fill {n} {i}" for i in range(100)], pad=1100))
    hub.wait(lambda s: s.items("logs") == 800)
    hub.behave(too_large_over(100_000))
    d.post("logs", otlp.logs([f"good {i}" for i in range(450)], pad=1000))
    until("every one to pass in parts", lambda: d.ledger()["hub", "logs"]["delivered"] == 1250)
    assert d.ledger()["hub", "logs"]["dropped"] == 0
    hung.down()


@pytest.mark.row("COL-K8S-03")
def test_one_request_that_is_always_put_off_does_not_hold_up_the_others(collectord, hub):
    def behaviour(c, r):
        (status(504) if "poison" in r.names else ok())(c, r)
    hub.behave(behaviour)
    d = collectord(document(hub=remote(hub)))
    d.post("logs", otlp.logs(["poison"]))
    hub.wait(lambda s: s.received("logs"))
    for n in range(20):
        d.post("logs", otlp.logs([f"good {n} {i}" for i in range(300)]))
    until("the others to pass", lambda: d.ledger()["hub", "logs"]["delivered"] == 6000, timeout=40)
    assert d.ledger()["hub", "logs"]["dropped"] == 0


@pytest.mark.row("IPC-04")
def test_producers_of_large_frames_leave_room_for_http(collectord, hub):
    d = collectord(document(hub=remote(hub)))
    peers = []
    for n in range(3):                             # each announces 15 MB, of a budget of 24
        peer = frames.Connection(d.frames_path)
        peer.hello(name=f"p{n}")
        peer.send(frames.frame(frames.LOGS, 1, b"", length=15_000_000, crc=0) + bytes(30_000))
        peers.append(peer)
    for n in range(5):
        d.post("logs", otlp.logs([f"y{n}.{i}" for i in range(200)], pad=400))
    hub.wait(lambda s: s.items("logs") == 1000)
    assert d.status()["budgets"]["ingest"]["bytes"] < 24_000_000
    for peer in peers:
        peer.close()
