/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Http1 line: the lines of a head, out of chunks that may end anywhere, and the first ones taken apart.
 * A line that lies whole in one chunk is used where it is; only one that is split or folded over several lines is copied.
 * May touch: memory only. Source: RFC 9112, sections 2.2 (line ends), 3 (request line), 4 (status line), 5.2 (folding). */
#include "beylad/exchange.h"
#include "beylad/protocols/protocol.h"

#define HTTP1_LINE_MAX (2 * EXCHANGE_FIELD_MAX + 256)  /* bytes kept: method, path and query at their longest. What is longer is cut: its */
#define HTTP1_LINE_TAIL 16                         /* last bytes are kept too, because the version stands there */
#define HTTP1_METHOD_MAX 20                        /* "UPDATEREDIRECTREF" is the longest that is registered */

struct http1_text {
        const uint8_t *bytes;
        size_t n;
};

struct http1_line {
        uint8_t *buffer;                           /* what earlier chunks had of it, as it came; NULL: nothing */
        uint32_t n, room;
        bool held;                                 /* it is whole unless the next line goes on with it */
        bool folded, cut;
        bool spoiled;                              /* there was no memory for it */
};

/* The line that begins, or goes on, at data; n > 0. fields: lines that begin with white space continue the one before.
 * Returns how many bytes were used. ret->bytes NULL: it is not whole yet; else it is, without its line end, valid until
 * http1_line_reset(), which the caller owes. A line there was no memory for is a single NUL. */
size_t http1_line_take(struct http1_line *l, const uint8_t *data, size_t n, bool fields, struct http1_text *ret);
void http1_line_reset(struct http1_line *l);

/* What a message begins with; as match() of struct protocol. */
enum protocol_match http1_match(const uint8_t *data, size_t n);

struct http1_request_line {
        struct http1_text method, target, version; /* version: "1.1" */
};
/* cut: the line was. Returns 0 or -EPROTO. */
int http1_request_line_parse(struct http1_text line, bool cut, struct http1_request_line *ret);
/* Returns the status, 100 to 999, or -EPROTO. */
int http1_status_line_parse(struct http1_text line);
/* "name: value", without white space around either. Returns 0 or -EPROTO. */
int http1_field_parse(struct http1_text line, struct http1_text *ret_name, struct http1_text *ret_value);
/* The next element of a comma-separated list, trimmed; takes it off the list. Returns false when there is none. */
bool http1_list_next(struct http1_text *list, struct http1_text *ret);
