#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write realistic OTLP requests for load: 32 variants of each signal, {traces,logs,metrics}-N-KK.pb. usage: payloads.py DIR N"""
import os, random, sys, time
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

rnd = random.Random(7)
def kv(dst, key, val):
    a = dst.add(); a.key = key
    if isinstance(val, int): a.value.int_value = val
    else: a.value.string_value = val
def res(r):
    for k, v in {"service.name": "checkout", "service.version": "1.4.2", "telemetry.sdk.name": "opentelemetry",
                 "telemetry.sdk.language": "python", "process.pid": 4242, "session.id": "4f1c-77"}.items(): kv(r.attributes, k, v)
def main(out, n, variant):
    os.makedirs(out, exist_ok=True)
    now = time.time_ns()
    t = ExportTraceServiceRequest(); rs = t.resource_spans.add(); res(rs.resource); ss = rs.scope_spans.add(); ss.scope.name = "http"
    for i in range(n):
        s = ss.spans.add(trace_id=rnd.randbytes(16), span_id=rnd.randbytes(8), parent_span_id=rnd.randbytes(8), name="GET /api/items/{id}", kind=2,
                         start_time_unix_nano=now + i*1000, end_time_unix_nano=now + i*1000 + rnd.randrange(10**5, 10**9))
        for k, v in {"http.request.method": "GET", "http.route": "/api/items/{id}", "url.path": f"/api/items/{rnd.randrange(10**6)}", "http.response.status_code": rnd.choice((200, 200, 200, 404, 500)),
                     "server.address": "127.0.0.1", "server.port": 8080, "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64)"}.items(): kv(s.attributes, k, v)
    l = ExportLogsServiceRequest(); rl = l.resource_logs.add(); res(rl.resource); sl = rl.scope_logs.add()
    for i in range(n):
        r = sl.log_records.add(time_unix_nano=now+i, severity_number=9, severity_text="INFO"); r.body.string_value = f"request {rnd.randrange(10**9)} handled in {rnd.randrange(900)} ms user=u{rnd.randrange(500)} path=/api/items/{rnd.randrange(10**6)} status=200"
        kv(r.attributes, "code.function", "handle"); kv(r.attributes, "thread.id", i % 8)
    m = ExportMetricsServiceRequest(); rm = m.resource_metrics.add(); res(rm.resource); sm = rm.scope_metrics.add()
    for i in range(n):
        x = sm.metrics.add(name=f"app.metric.{i}", unit="1"); x.sum.is_monotonic = True; x.sum.aggregation_temporality = 2
        p = x.sum.data_points.add(start_time_unix_nano=now, time_unix_nano=now+10**9, as_int=rnd.randrange(10**9)); kv(p.attributes, "route", f"/r{i%10}")
    for nm, msg in (("traces", t), ("logs", l), ("metrics", m)):
        open(f"{out}/{nm}-{n}-{variant:02d}.pb", "wb").write(msg.SerializeToString())
for variant in range(32): main(sys.argv[1], int(sys.argv[2]), variant)
