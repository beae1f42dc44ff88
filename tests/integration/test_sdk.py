# SPDX-License-Identifier: Apache-2.0
"""Real input: an unmodified program with a stock SDK, and messages with everything the schema has, compared field by field at both receivers."""
import gzip
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from env import otlp
from env.destinations import document, local, remote

PROGRAM = Path(__file__).parent / "programs/sdk.py"


def without_added(top, keys=otlp.ADDED):
    """A copy of a resource container without the attributes that collectord may add."""
    copy = type(top)()
    copy.CopyFrom(top)
    kept = [kv for kv in copy.resource.attributes if kv.key not in keys]
    del copy.resource.attributes[:]
    copy.resource.attributes.extend(kept)
    return copy


def flat(requests, signal):
    """{what an item says with all around it, serialized: how often}: independent of how requests were cut, joined and ordered."""
    found = {}
    for message in requests:
        for top, scope, item in otlp.walk(message):
            lone_top, lone_scope = without_added(top), type(scope)()
            lone_scope.CopyFrom(scope)
            for f in lone_top.DESCRIPTOR.fields:
                if f.name.startswith("scope_"):
                    lone_top.ClearField(f.name)
            for f in lone_scope.DESCRIPTOR.fields:
                if f.name in ("spans", "metrics", "log_records"):
                    lone_scope.ClearField(f.name)
            key = tuple(m.SerializeToString(deterministic=True) for m in (lone_top, lone_scope, item))
            found[key] = found.get(key, 0) + 1
    return found


@pytest.mark.row("COL-OTLP-01", "COL-OTLP-02", "COL-OTLP-10", "COL-LOC-01", "COL-K8S-01", "COL-ID-04")
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_stock_sdk_reaches_both_receivers_unchanged(collectord, hub, consumer, tmp_path, compression):
    d = collectord(document(local=local(consumer), hub=remote(hub)))
    folder = tmp_path / "posted"
    folder.mkdir()
    env = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{d.otlp_port}", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
           "OTEL_EXPORTER_OTLP_COMPRESSION": compression, "OTEL_SERVICE_NAME": "shop", "OTEL_METRICS_EXEMPLAR_FILTER": "always_on",
           "OTEL_RESOURCE_ATTRIBUTES": "session.id=5f3c,tool=claude-code,project=cart", "no_proxy": "*"}
    ran = subprocess.run([sys.executable, PROGRAM, folder], env=env, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0 and "Traceback" not in ran.stderr, ran.stderr
    sent = {s: [] for s in otlp.SIGNALS}
    for path in sorted(folder.iterdir()):
        _, signal, encoding = path.name.split(".")
        assert (encoding == "gzip") == (compression == "gzip")
        body = path.read_bytes()
        sent[signal].append(otlp.REQUEST[signal].FromString(gzip.decompress(body) if encoding == "gzip" else body))
    assert all(sent.values()), f"the SDK posted no {[s for s in sent if not sent[s]]}: {ran.stderr}"
    for s in (hub, consumer):
        for signal in otlp.SIGNALS:
            total = sum(otlp.count(m) for m in sent[signal])
            s.wait(lambda s: s.items(signal) >= total, what=f"{total} {signal}")
            assert flat([r.message for r in s.accepted(signal)], signal) == flat(sent[signal], signal)
            for r in s.accepted(signal):
                assert r.headers.get("content-encoding") == ("gzip" if s is hub else None)
                for top, _, _ in otlp.walk(r.message):
                    attributes = otlp.resource_attributes(top)
                    assert attributes["host.name"] and attributes["service.instance.id"]
                    assert (attributes["session.id"], attributes["tool"], attributes["project"]) == ("5f3c", "claude-code", "cart")
    # The program used what is easily lost; here are the fields by name, so that this test cannot pass on an empty input.
    spans = {span.name: span for m in (r.message for r in hub.accepted("traces")) for _, _, span in otlp.walk(m)}
    cart = spans["GET /cart"]
    assert cart.trace_state == "vendor=a1,other=b2" and cart.flags & 0x300 and cart.parent_span_id.hex() == "1234567890abcdef"
    assert cart.dropped_attributes_count == 3 and cart.dropped_events_count == 2 and cart.dropped_links_count == 1
    assert len(cart.events) == 3 and cart.events[0].dropped_attributes_count == 1 and len(cart.links) == 2
    assert spans["SELECT"].status.code == 2 and spans["SELECT"].events[0].name == "exception"
    metrics = {m.name: m for r in consumer.accepted("metrics") for _, _, m in otlp.walk(r.message)}
    assert metrics["orders"].sum.data_points[0].exemplars[0].trace_id and metrics["latency.exp"].exponential_histogram.data_points[0].positive.bucket_counts
    assert len(metrics["temperature"].gauge.data_points) == 2


def parts(body):
    """The raw bytes of each item with those of its scope and urls, in order, and of each Resource: [(resource, rest, scope, item)]."""
    out = []
    for number, wire, top, _ in otlp.fields(body):
        if (number, wire) != (1, 2):
            continue
        resource, rest, scopes = b"", [], []
        for number, wire, value, whole in otlp.fields(top):
            if (number, wire) == (1, 2):
                resource += value
            elif (number, wire) == (2, 2):
                scopes.append(value)
            else:
                rest.append(whole)
        for scope in scopes:
            around = b"".join(whole for number, wire, _, whole in otlp.fields(scope) if (number, wire) != (2, 2))
            for number, wire, value, _ in otlp.fields(scope):
                if (number, wire) == (2, 2):
                    out.append((resource, b"".join(rest), around, value))
    return out


@pytest.mark.row("COL-OTLP-10", "COL-BAT-04", "COL-LOC-05")
@pytest.mark.parametrize("signal", otlp.SIGNALS)
def test_random_messages_with_unknown_fields_arrive_bit_for_bit(collectord, hub, consumer, signal):
    """Everything but the Resource is the same bytes, in the same order; a Resource is the same bytes with attributes behind them."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    generator = otlp.Generator(seed)
    d = collectord(document(local=local(consumer), hub=remote(hub, in_flight=1)))
    sent = []
    for i in range(60):
        message = generator.request(signal, f"m{i}")
        body = message.SerializeToString()
        d.post(signal, body)
        sent += [(f"m{i}", *part) for part in parts(body)]
    for s in (consumer, hub):
        total = d.ledger()["hub", signal]["offered"]
        s.wait(lambda s: s.items(signal) >= total, what=f"{total} {signal}")
        got = [part for r in s.accepted(signal) for part in parts(r.body)]
        assert len(got) == len(sent)
        for (marker, resource, rest, scope, item), (got_resource, got_rest, got_scope, got_item) in zip(sent, got):
            assert got_item == item, f"{marker}: an item changed"
            assert got_scope == scope, f"{marker}: a scope changed"
            assert got_rest == rest, f"{marker}: what stands beside the resource changed"
            kept = [whole for number, _, _, whole in otlp.fields(resource)]
            now = [whole for number, _, _, whole in otlp.fields(got_resource)]
            added = list(now)
            for whole in kept:
                added.remove(whole)
            keys = {dict((n, v) for n, _, v, _ in otlp.fields(whole[2:]))[1].decode() for whole in added}
            assert keys == set(otlp.ADDED), f"{marker}: added {keys}"


@pytest.mark.row("COL-OTLP-10", "COL-OTLP-02", "COL-OTLP-04")
@pytest.mark.parametrize("signal", otlp.SIGNALS)
def test_json_and_protobuf_of_one_message_arrive_the_same(collectord, consumer, signal):
    d = collectord(document(local=local(consumer)))
    # References into the string table of the profiles signal, which the other signals may not hold.
    generator = otlp.Generator(17, without=("string_value_strindex", "key_strindex"))
    plain = []
    for i in range(25):
        message = generator.request(signal, f"m{i}")
        message.DiscardUnknownFields()             # JSON cannot name them
        body = otlp.to_json(message)
        if otlp.from_json(signal, body) != message:
            continue                               # NaN is never equal
        plain.append(message)
        d.post(signal, body, type=otlp.JSON)
    assert len(plain) >= 5
    total = sum(otlp.count(m) for m in plain)
    consumer.wait(lambda s: s.items(signal) >= total)
    assert flat([r.message for r in consumer.accepted(signal)], signal) == flat(plain, signal)
