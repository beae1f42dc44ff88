/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Line: one line of the frame socket's line mode -> an Export*ServiceRequest. No socket.
 *   a whole OTLP/JSON request, or the short form {"log":"disk full","level":"error","service":"backup","anything":"else"}
 * May touch: memory only. docs/protocol.md describes it for its users. */
#include "libtelemetry/otlp.h"

#define LINE_BYTES_MAX (4u << 20)                        /* bytes: what people and scripts write; programs that send more have frames and HTTP */

/* Appends the protobuf to out, at most max bytes. Returns 0, or negative with reterr (TEL_OTLP_ERROR_MAX bytes): -EBADMSG, -EMSGSIZE, -ENOBUFS. */
int line_parse(const char *text, size_t n, uint64_t now_ns, struct tel_buf *out, size_t max, enum tel_signal *ret_signal, char *reterr);
