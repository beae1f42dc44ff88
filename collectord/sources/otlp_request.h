/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* One OTLP/HTTP request, from method, path, types and bytes to records and an answer. No socket: what is tested and fuzzed is this.
 * May touch: memory only.
 * Source: OTLP specification 1.9, "OTLP/HTTP Request", "Response", "Failures"; google.rpc.Status (rpc/status.proto). */
#include "collectord/http/server.h"
#include "collectord/pipeline/pipeline.h"

struct otlp_door {
        struct pipeline *pipeline;
        size_t body_max;                           /* before and after decompression */
};

/* Answers every request with a status, a Content-Type like the request's, and an Export*ServiceResponse or a google.rpc.Status. Counts it in stats.
 * 200 taken, or in part (partial_success) . 400 malformed, all items malformed, or an empty body that is said to be JSON (as the OpenTelemetry
 * Collector has it; an empty protobuf body is a request without resources: 200) . 404, 405 . 413 larger than body_max before or after
 * decompression or as protobuf, or than the buffer can ever hold . 415 neither protobuf nor JSON, or an unknown Content-Encoding . 503 with
 * Retry-After: the spool is full while every reader keeps up, or there is no memory. */
void otlp_request(struct otlp_door *door, const struct http_view *view, uint64_t now_ns, struct http_reply *reply);
/* The answer to a request that was refused before it was whole (408, 413, 503): reply->status is set, the body is filled in. */
void otlp_refused(const struct http_view *view, struct http_reply *reply);
