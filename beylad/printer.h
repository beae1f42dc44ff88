/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Printer: a span as one line, for people or for programs. Names and attributes are those of the OTLP encoding: both come from attributes.c.
 * May touch: the stream it is given.
 *
 * PRINTER_TEXT, columns by what people look for first (time, service, kind, name, status, duration, ids):
 *     2026-11-21T07:42:21.123456Z shop SERVER "GET /users/:id" 200 1.234ms trace=4bf92f3577b34da6a3ce929d0e0e4736 span=00f067aa0ba902b7 parent=...
 * PRINTER_JSON, one object a line, keys in this order, of which none is left out:
 *     {"name":"GET /users/:id","kind":"SERVER","service":"shop","pid":42,"start_unix_nano":1,"end_unix_nano":2,"trace_id":"...","span_id":"...",
 *      "parent_span_id":"","links":[{"trace_id":"...","span_id":"..."}],"attributes":{"http.response.status_code":200},"status":"UNSET"} */
#include <stdio.h>

#include "beylad/context.h"
#include "beylad/settings.h"

/* Writes nothing for PRINTER_DISABLED. The caller flushes. */
void printer_span(FILE *to, enum printer as, const struct span *s, int64_t real_offset_ns);
