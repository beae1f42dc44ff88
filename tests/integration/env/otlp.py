# SPDX-License-Identifier: Apache-2.0
"""OTLP messages: small ones with known names, random ones with everything the schema has, and readers of both encodings.
Everything rests on the opentelemetry-proto package, none of it on the code under test."""
import base64
import json
import os
import random
import struct

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor as F
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest, ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

SIGNALS = ("traces", "metrics", "logs")
REQUEST = {"traces": ExportTraceServiceRequest, "metrics": ExportMetricsServiceRequest, "logs": ExportLogsServiceRequest}
RESPONSE = {"traces": ExportTraceServiceResponse, "metrics": ExportMetricsServiceResponse, "logs": ExportLogsServiceResponse}
REJECTED = {"traces": "rejected_spans", "metrics": "rejected_data_points", "logs": "rejected_log_records"}
PROTOBUF, JSON = "application/x-protobuf", "application/json"
ADDED = ("host.name", "service.instance.id")
START_NS = 1_760_000_000_000_000_000


# ---- small messages with names to look for ----

def attribute(owner, key, value):
    kv = owner.add()
    kv.key = key
    if isinstance(value, bool):
        kv.value.bool_value = value
    elif isinstance(value, int):
        kv.value.int_value = value
    elif isinstance(value, float):
        kv.value.double_value = value
    elif isinstance(value, bytes):
        kv.value.bytes_value = value
    else:
        kv.value.string_value = value


def resource_of(parent, service, attributes):
    if service is not None:
        attribute(parent.resource.attributes, "service.name", service)
    for key, value in (attributes or {}).items():
        attribute(parent.resource.attributes, key, value)


def traces(names, service="test", attributes=None, pad=0):
    request = ExportTraceServiceRequest()
    rs = request.resource_spans.add()
    resource_of(rs, service, attributes)
    scope = rs.scope_spans.add()
    scope.scope.name = "tests"
    for i, name in enumerate(names):
        span = scope.spans.add(name=name, kind=1, trace_id=os.urandom(16), span_id=os.urandom(8),
                               start_time_unix_nano=START_NS + i, end_time_unix_nano=START_NS + i + 1000)
        if pad:
            attribute(span.attributes, "pad", padding(pad))
    return request


def logs(bodies, service="test", attributes=None, pad=0):
    request = ExportLogsServiceRequest()
    rl = request.resource_logs.add()
    resource_of(rl, service, attributes)
    scope = rl.scope_logs.add()
    scope.scope.name = "tests"
    for i, body in enumerate(bodies):
        record = scope.log_records.add(time_unix_nano=START_NS + i, severity_number=9)
        record.body.string_value = body
        if pad:
            attribute(record.attributes, "pad", padding(pad))
    return request


def metrics(names, service="test", attributes=None, pad=0, points=1):
    request = ExportMetricsServiceRequest()
    rm = request.resource_metrics.add()
    resource_of(rm, service, attributes)
    scope = rm.scope_metrics.add()
    scope.scope.name = "tests"
    for name in names:
        metric = scope.metrics.add(name=name)
        for i in range(points):
            point = metric.gauge.data_points.add(time_unix_nano=START_NS + i, as_double=i + 0.5)
            if pad:
                attribute(point.attributes, "pad", padding(pad))
    return request


MAKE = {"traces": traces, "metrics": metrics, "logs": logs}


def padding(n):
    """Text that gzip cannot make small, so that sizes on the wire are what they seem."""
    return base64.b64encode(os.urandom(n * 3 // 4 + 1))[:n].decode()


# ---- reading ----

def walk(request):
    """(resource container, scope container, item) of each span, metric or log record, in order."""
    for top in request.ListFields()[0][1] if request.ListFields() else ():
        inner = next((value for field, value in top.ListFields() if field.name.startswith("scope_")), ())
        for scope in inner:
            items = next((value for field, value in scope.ListFields() if field.name in ("spans", "metrics", "log_records")), ())
            for item in items:
                yield top, scope, item


def name_of(item):
    return item.body.string_value if item.DESCRIPTOR.name == "LogRecord" else item.name


def names(request):
    return [name_of(item) for _, _, item in walk(request)]


def points(metric):
    which = metric.WhichOneof("data")
    return len(getattr(metric, which).data_points) if which else 0


def count(request):
    """Items as the ledger counts them: spans, log records, data points."""
    return sum(points(item) if item.DESCRIPTOR.name == "Metric" else 1 for _, _, item in walk(request))


def histogram(receiver, name):
    """{attributes: (count, sum)} of the newest point of each series."""
    found = {}
    for r in receiver.accepted("metrics"):
        for _, _, metric in walk(r.message):
            if metric.name == name:
                for p in metric.histogram.data_points:
                    assert metric.histogram.aggregation_temporality == 2, "not cumulative"
                    key = tuple(sorted((a.key, a.value.string_value or a.value.int_value) for a in p.attributes))
                    assert p.count == sum(p.bucket_counts)
                    found[key] = (p.count, p.sum)
    return found


def resource_attributes(top):
    return {kv.key: getattr(kv.value, kv.value.WhichOneof("value")) if kv.value.WhichOneof("value") else None for kv in top.resource.attributes}


def signal_of(request):
    return next(s for s in SIGNALS if isinstance(request, REQUEST[s]))


# ---- OTLP/JSON, which is ProtoJSON but for the ids ----

_IDS = {"traceId", "spanId", "parentSpanId"}


def _ids(value, change):
    if isinstance(value, list):
        return [_ids(v, change) for v in value]
    if isinstance(value, dict):
        return {k: change(v) if k in _IDS and isinstance(v, str) else _ids(v, change) for k, v in value.items()}
    return value


def to_json(request):
    doc = json_format.MessageToDict(request, use_integers_for_enums=True)
    return json.dumps(_ids(doc, lambda v: base64.b64decode(v).hex())).encode()


def from_json(signal, text):
    doc = json.loads(text)
    return json_format.ParseDict(_ids(doc, lambda v: base64.b64encode(bytes.fromhex(v)).decode()), REQUEST[signal]())


# ---- raw protobuf, by hand ----

def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, payload):
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def fields(data):
    """[(number, wire type, value bytes, whole bytes)] of one message."""
    at, out = 0, []

    def read_varint(at):
        shift = value = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value, at
    while at < len(data):
        begin = at
        tag, at = read_varint(at)
        if tag & 7 == 0:
            value_at = at
            _, at = read_varint(at)
            value = data[value_at:at]
        elif tag & 7 == 1:
            value, at = data[at:at + 8], at + 8
        elif tag & 7 == 5:
            value, at = data[at:at + 4], at + 4
        elif tag & 7 == 2:
            n, at = read_varint(at)
            value, at = data[at:at + n], at + n
        else:
            raise ValueError(f"wire type {tag & 7}")
        if at > len(data):
            raise ValueError("a field runs over the end")
        out.append((tag >> 3, tag & 7, value, data[begin:at]))
    return out


# ---- random messages ----

class Generator:
    """Random requests over the whole schema, with unknown fields at every depth. without: names of fields to leave out."""

    def __init__(self, seed, without=()):
        self.random = random.Random(seed)
        self.without = set(without)

    def text(self):
        alphabet = "abcdefgh .-_/{}\"\\\n\té漢🎉\u0000\u007f"
        return "".join(self.random.choice(alphabet) for _ in range(self.random.choice((0, 1, 5, 20, 200))))

    def unknown(self):
        r = self.random
        number = r.choice((100, 2047, 19000 - 1, 536870911))
        kind = r.randrange(4)
        if kind == 0:
            return varint(number << 3) + varint(r.getrandbits(64))
        if kind == 1:
            return varint(number << 3 | 1) + r.randbytes(8)
        if kind == 2:
            return varint(number << 3 | 5) + r.randbytes(4)
        return field(number, r.randbytes(r.randrange(0, 40)))

    def scalar(self, f):
        r = self.random
        if f.type == F.TYPE_STRING:
            return self.text()
        if f.type == F.TYPE_BYTES:
            if f.name == "trace_id":
                return r.choice((r.randbytes(16), r.randbytes(16), b""))
            if f.name in ("span_id", "parent_span_id"):
                return r.choice((r.randbytes(8), r.randbytes(8), b""))
            return r.randbytes(r.randrange(0, 30))
        if f.type == F.TYPE_BOOL:
            return r.random() < 0.5
        if f.type == F.TYPE_ENUM:
            return r.choice([v.number for v in f.enum_type.values] + [77])
        if f.type in (F.TYPE_DOUBLE, F.TYPE_FLOAT):
            return r.choice((0.0, -0.0, 1.5, float("inf"), float("-inf"), struct.unpack("<d", r.randbytes(8))[0]))
        bits = 32 if f.type in (F.TYPE_INT32, F.TYPE_UINT32, F.TYPE_SINT32, F.TYPE_FIXED32, F.TYPE_SFIXED32) else 64
        signed = f.type in (F.TYPE_INT32, F.TYPE_INT64, F.TYPE_SINT32, F.TYPE_SINT64, F.TYPE_SFIXED32, F.TYPE_SFIXED64)
        value = r.choice((0, 1, r.getrandbits(bits - 1), (1 << (bits - 1)) - 1))
        return -value if signed and r.random() < 0.3 else value

    def fill(self, message, depth=0):
        r = self.random
        chosen = {o.name: r.choice([f for f in o.fields if f.name not in self.without] + [None]) for o in message.DESCRIPTOR.oneofs if not o.name.startswith("_")}
        for f in message.DESCRIPTOR.fields:
            if f.containing_oneof and not f.containing_oneof.name.startswith("_") and chosen[f.containing_oneof.name] is not f:
                continue
            if f.name in self.without or (r.random() < 0.25 and not f.containing_oneof):
                continue
            if f.message_type:
                if depth > 7:
                    continue
                if f.is_repeated:
                    for _ in range(r.randrange(0, 3)):
                        self.fill(getattr(message, f.name).add(), depth + 1)
                else:
                    self.fill(getattr(message, f.name), depth + 1)
                    getattr(message, f.name).SetInParent()
            elif f.is_repeated:
                getattr(message, f.name).extend(self.scalar(f) for _ in range(r.randrange(0, 4)))
            else:
                setattr(message, f.name, self.scalar(f))
        if r.random() < 0.3:
            message.MergeFromString(self.unknown())

    def request(self, signal, marker, items=4):
        """A request whose resources all carry test.marker, and which holds items in every scope (a resource without any is left out)."""
        request = REQUEST[signal]()
        top_field = request.DESCRIPTOR.fields[0]
        for _ in range(self.random.randrange(1, 4)):
            top = getattr(request, top_field.name).add()
            self.fill(top, 1)
            scope_field = next(f for f in top.DESCRIPTOR.fields if f.name.startswith("scope_"))
            top.ClearField(scope_field.name)
            del top.resource.attributes[:]
            attribute(top.resource.attributes, "test.marker", marker)
            for i in range(self.random.randrange(0, 3)):
                kv = top.resource.attributes.add()
                kv.key = f"k{i}"
                self.fill(kv.value, 5)
            for _ in range(self.random.randrange(1, 3)):
                scope = getattr(top, scope_field.name).add()
                self.fill(scope, 2)
                item_field = next(f for f in scope.DESCRIPTOR.fields if f.name in ("spans", "metrics", "log_records"))
                scope.ClearField(item_field.name)
                for _ in range(self.random.randrange(1, items)):
                    item = getattr(scope, item_field.name).add()
                    self.fill(item, 3)
                    if signal == "metrics" and points(item) == 0:
                        item.gauge.data_points.add(as_int=1)
        return request
