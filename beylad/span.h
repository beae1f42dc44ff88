/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Spans: finished spans -> ExportTraceServiceRequest bodies, one ResourceSpans for each process. Each span is encoded at once, because its
 * exchange is borrowed, and put in its place when the request is written.
 * May touch: memory only. Times come as arguments. Source: opentelemetry-proto 1.9, trace.proto. */
#include "beylad/attributes.h"
#include "beylad/context.h"

#define SPANS_BYTES_MAX (512u << 10)               /* of one request: what collectord keeps as one record */
#define SPANS_MAX 1000                             /* in one request, likewise */
#define SPANS_PROCESSES_MAX 256                    /* in one request: looked through for each span of another process than the last one's */

struct spans;

/* Hears of each request: body is borrowed for the call, spans are in it. */
typedef void (*spans_fn)(void *ctx, const uint8_t *body, size_t n, size_t spans);

struct spans_options {
        spans_fn fn;
        void *ctx;
};

struct spans *spans_new(const struct spans_options *options);          /* NULL: out of memory */
struct spans *spans_free(struct spans *b);         /* accepts NULL; what was not finished is lost */
/* Adds s, sampled or not: the caller decides. real_offset_ns is what makes boot time real time. A full request is handed on first. */
void spans_add(struct spans *b, const struct span *s, int64_t real_offset_ns);
/* Hands on what is there; nothing when that is nothing. */
void spans_finish(struct spans *b);
size_t spans_waiting(const struct spans *b);

/* One span as field number 2 of ScopeSpans. For spans_add() and tests. */
void span_put(const struct span *s, int64_t real_offset_ns, struct tel_writer *w);
