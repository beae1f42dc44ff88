/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Http1 body: how long the body of a message is, by its head, and where it ends. Bytes are counted and not looked at.
 * May touch: memory only. Source: RFC 9112, sections 6 (length) and 7 (chunks). */
#include "beylad/protocols/http1_line.h"

#define HTTP1_TRAILERS_MAX 65536                   /* bytes of trailers, and of the extensions of a chunk: as much as of a head */

enum http1_body_kind {
        BODY_NONE,
        BODY_LENGTH,
        BODY_CHUNKED,
        BODY_CLOSE,                                /* until the connection ends */
        BODY_UNKNOWN,                              /* the head contradicts itself */
};
enum http1_body_part { PART_SIZE, PART_EXTENSION, PART_DATA, PART_DATA_END, PART_TRAILERS };

struct http1_body {
        uint8_t kind;
        uint8_t part;                              /* of chunks */
        uint8_t said;                              /* by the fields of the head; enum in http1_body.c */
        uint8_t digits;                            /* of the chunk's size */
        bool blank;                                /* nothing in this line of the trailers yet */
        uint32_t line_bytes;                       /* between two chunks, and of trailers */
        uint64_t length;                           /* Content-Length */
        uint64_t left;                             /* of the body or the chunk */
        uint64_t bytes;                            /* so far, without what frames them */
};

enum http1_body_result {
        HTTP1_BODY_MORE,
        HTTP1_BODY_WHOLE,
        HTTP1_BODY_LOST,                           /* where it ends cannot be known any more */
};

/* A head begins. */
void http1_body_reset(struct http1_body *b);
/* Values of Content-Length and Transfer-Encoding. */
void http1_body_length(struct http1_body *b, struct http1_text value);
void http1_body_codings(struct http1_body *b, struct http1_text value);
/* The head ends: sets and returns the kind. request: without a length it has none; an answer lasts until the end. */
enum http1_body_kind http1_body_begin(struct http1_body *b, bool request);
/* Reads from data, n > 0; used: how much of it. */
enum http1_body_result http1_body_read(struct http1_body *b, const uint8_t *data, size_t n, size_t *ret_used);
/* Bytes that nobody saw; ret_over: how many of them lie behind the body, when it is whole. */
enum http1_body_result http1_body_miss(struct http1_body *b, uint64_t n, uint64_t *ret_over);
/* How many bytes will come of which nothing but their number matters. */
uint64_t http1_body_rest(const struct http1_body *b);
