/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* OTLP/JSON to protobuf and back, both by the table of otlp_schema.h, without a tree in between.
 * May touch: memory only.
 * Source: OTLP specification 1.9, "JSON Protobuf Encoding"; ProtoJSON (protobuf.dev/programming-guides/json). */
#include "libtelemetry/json.h"
#include "libtelemetry/otlp.h"

/* Reads one document: an Export*ServiceRequest of signal. Appends the protobuf to out, at most max bytes in all.
 * Unknown keys are ignored (snake_case ones are unknown), null means absent, of equal keys the last one wins, 64-bit integers come as
 * string or number, enums as number or name, ids as hex in either case.
 * Returns 0, -EBADMSG (error, at most TEL_OTLP_ERROR_MAX bytes, says line, column and what was expected; may be NULL), -EMSGSIZE (over
 * max, where a string with escapes or base64 counts as long as its text while it is read), -ENOBUFS or -ENOMEM. On failure out is as
 * long as before. A body over 256 MiB is over any max. */
int tel_otlp_from_json(enum tel_signal signal, const char *text, size_t n, struct tel_buf *out, size_t max, char *reterr_error);
/* Which signal a document is for, by the first known key of its object: resourceSpans, resourceMetrics, resourceLogs.
 * TEL_SIGNALS when it is none of them. */
enum tel_signal tel_otlp_json_signal(const char *text, size_t n);

/* Appends message (checked protobuf) as one line of OTLP/JSON without a newline. Fields outside the schema cannot be named and are
 * left out, and so are zeros that say nothing. Of a singular field that comes twice the last one is written; messages are not merged.
 * Returns 0, -EBADMSG, or tel_buf_append()'s errors; on failure out is as long as before. */
int tel_otlp_to_json(enum tel_message message, const uint8_t *body, size_t n, struct tel_buf *out, size_t max);
