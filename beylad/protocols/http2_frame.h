/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Http2 frame: the nine bytes every frame begins with, and how bytes that nobody announced are told to be HTTP/2.
 * Source: RFC 9113; sections are of it. May touch: the bytes it is given. */
#include "beylad/protocols/protocol.h"

#define HTTP2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"       /* section 3.4 */
#define HTTP2_PREFACE_LEN (sizeof(HTTP2_PREFACE) - 1)
#define HTTP2_HEAD 9

enum http2_type {                                  /* section 6 */
        HTTP2_DATA, HTTP2_HEADERS, HTTP2_PRIORITY, HTTP2_RST_STREAM, HTTP2_SETTINGS, HTTP2_PUSH_PROMISE, HTTP2_PING, HTTP2_GOAWAY,
        HTTP2_WINDOW_UPDATE, HTTP2_CONTINUATION,
        HTTP2_TYPES,                               /* others are skipped: section 5.5 */
};

enum http2_flag {
        HTTP2_END_STREAM = 0x1,
        HTTP2_ACK = 0x1,                           /* of SETTINGS and PING */
        HTTP2_END_HEADERS = 0x4,
        HTTP2_PADDED = 0x8,
        HTTP2_PRIORITIZED = 0x20,
};

struct http2_frame {
        uint32_t length;                           /* of the payload: 24 bits */
        uint8_t type, flags;
        uint32_t stream;                           /* 31 bits */
};

void http2_frame_parse(const uint8_t head[static HTTP2_HEAD], struct http2_frame *ret);
/* Whether the payload begins with the length of padding at its end. */
bool http2_frame_padded(const struct http2_frame *f);
/* Bytes of the payload before what matters: pad length, priority, promised stream; or all that matters of RST_STREAM and GOAWAY. */
uint32_t http2_frame_prefix(const struct http2_frame *f);
/* Whether an endpoint could take it: length and stream are what its type asks for. */
bool http2_frame_valid(const struct http2_frame *f);
/* Whether it is what senders do send, where bytes of another kind might stand: no unknown type or flag, the reserved bit zero, no more than
 * the default SETTINGS_MAX_FRAME_SIZE. Of random bytes one in 10 million passes, of text none. */
bool http2_frame_plausible(const uint8_t head[static HTTP2_HEAD], const struct http2_frame *f);
/* protocol_http2's. A connection that is older than beylad is told by a frame that can only be one of HTTP/2: HEADERS whose block begins as
 * those of requests or answers do, the server's SETTINGS, gRPC's DATA, and control frames before them. Which end serves is certain with the
 * first block that is read; where match() cannot see it, it says REQUEST. */
enum protocol_match http2_match(const uint8_t *data, size_t n);
/* "CANCEL" of 8: section 7. "_OTHER" for those it does not list, and for NO_ERROR, which says nothing. */
const char *http2_error_name(uint32_t code);
