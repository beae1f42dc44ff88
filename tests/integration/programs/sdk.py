# SPDX-License-Identifier: Apache-2.0
"""A program as people write it: OpenTelemetry's SDK with its stock exporter over http/protobuf, configured by the environment alone.
It also writes what the exporter posted, byte for byte, to the folder in argv[1], so that a test can compare."""
import logging
import sys
from pathlib import Path

import requests
from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics._internal.aggregation import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

folder = Path(sys.argv[1])
posted = 0
real_send = requests.Session.send


def recording_send(self, request, **options):
    """Notes the body, and sends it as it is."""
    global posted
    posted += 1
    signal = request.url.rsplit("/", 1)[1]
    encoding = request.headers.get("Content-Encoding", "identity")
    (folder / f"{posted:03}.{signal}.{encoding}").write_bytes(request.body)
    answer = real_send(self, request, **options)
    assert answer.status_code == 200, (answer.status_code, answer.content)
    return answer


requests.Session.send = recording_send


def spans():
    provider = TracerProvider(span_limits=SpanLimits(max_attributes=4, max_events=3, max_links=2, max_event_attributes=1))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    tracer = provider.get_tracer("shop", "1.2.3", schema_url="https://opentelemetry.io/schemas/1.27.0", attributes={"scope.key": "v"})
    remote = SpanContext(0x1234567890abcdef1234567890abcdef, 0x1234567890abcdef, True, TraceFlags(1), TraceState([("vendor", "a1"), ("other", "b2")]))
    parent = trace.set_span_in_context(trace.NonRecordingSpan(remote))
    with tracer.start_as_current_span("GET /cart", parent, SpanKind.SERVER, links=[Link(remote, {"why": "retry"}), Link(remote), Link(remote)]) as span:
        span.set_attributes({"text": "é漢🎉", "int": -(2 ** 53), "float": 0.1, "flag": True, "dropped": "the oldest goes",
                             "list": ["a", "b"], "empty": ""})
        for i in range(5):
            span.add_event(f"event {i}", {"n": i, "dropped": i})
        with tracer.start_as_current_span("SELECT", kind=SpanKind.CLIENT) as inner:
            try:
                raise ValueError("no such table")
            except ValueError as e:
                inner.record_exception(e)
                inner.set_status(Status(StatusCode.ERROR, "no such table"))
    for i in range(50):
        with tracer.start_as_current_span(f"batch {i}", kind=SpanKind.INTERNAL):
            pass
    provider.shutdown()
    return tracer


def points():
    exporter = OTLPMetricExporter()
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=60000)
    provider = MeterProvider([reader], views=[View(instrument_name="latency.exp", aggregation=ExponentialBucketHistogramAggregation())])
    meter = provider.get_meter("shop", "1.2.3", schema_url="https://opentelemetry.io/schemas/1.27.0")
    counter = meter.create_counter("orders", "1", "orders placed")
    level = meter.create_up_down_counter("queue")
    histogram = meter.create_histogram("latency", "ms")
    exponential = meter.create_histogram("latency.exp", "ms")
    meter.create_observable_gauge("temperature", [lambda _: [metrics.Observation(21.5, {"room": "a"}), metrics.Observation(-3, {"room": "b"})]])
    tracer = TracerProvider().get_tracer("exemplars")
    with tracer.start_as_current_span("sampled"):              # exemplars point at it
        for i in range(20):
            counter.add(i, {"kind": "book"})
            level.add(-i)
            histogram.record(i * 1.7, {"route": "/cart"})
            exponential.record(2.0 ** i)
    provider.shutdown()


def records():
    provider = LoggerProvider()
    set_logger_provider(provider)
    provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    logger = logging.getLogger("shop")
    logger.addHandler(LoggingHandler(logging.DEBUG, provider))
    logger.setLevel(logging.DEBUG)
    with TracerProvider().get_tracer("shop").start_as_current_span("with logs"):
        logger.info("order %s placed", 17, extra={"order.id": 17, "note": "é漢🎉"})
        logger.error("cannot charge")
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        logger.exception("failed")
    provider.shutdown()


spans()
points()
records()
print(posted, "requests posted")
