/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Http2 streams: the open requests of one connection, by stream id.
 * May touch: memory only. */
#include "beylad/exchange.h"

/* At once. Peers allow 100 to 256 as a rule (SETTINGS_MAX_CONCURRENT_STREAMS); the table takes 32 KiB then. */
#define HTTP2_STREAMS_MAX 1024u

struct http2_stream {
        uint32_t id;                               /* 0: the place is empty */
        uint16_t status;                           /* :status of the final answer; 0: none, or not known */
        uint16_t flags;                            /* the user's */
        struct exchange *exchange;
};

struct http2_streams {                             /* zeroed: empty */
        struct http2_stream *places;
        uint32_t room, count;                      /* room is a power of two, at least twice count */
};

/* NULL: not open. Valid until the next add or remove. */
struct http2_stream *http2_streams_find(const struct http2_streams *s, uint32_t id);
/* The id must not be there. NULL: over the bound or out of memory. */
struct http2_stream *http2_streams_add(struct http2_streams *s, uint32_t id, struct exchange *x);
/* Another stream may come to the place of this one. */
void http2_streams_remove(struct http2_streams *s, struct http2_stream *stream);
/* The stream at place *i or behind it, *i is its place; NULL: no more. To go on: *i + 1, or *i again when the stream was removed. */
struct http2_stream *http2_streams_next(const struct http2_streams *s, uint32_t *i);
void http2_streams_done(struct http2_streams *s);
