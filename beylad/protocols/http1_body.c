/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/protocols/http1_body.h"

#include "beylad/protocols/http_common.h"

#define LENGTH_DIGITS_MAX 18                       /* of Content-Length, so that sums fit */
#define SIZE_DIGITS_MAX 15                         /* of a chunk's size, likewise */
#define REST_OF_CONNECTION (1ull << 40)            /* bytes: more than one carries */

enum { SAID_LENGTH = 1, SAID_CHUNKED = 2, SAID_CODED = 4, SAID_NONSENSE = 8 };

/* ---- the head ---- */

void http1_body_reset(struct http1_body *b) {
        *b = (struct http1_body){ 0 };
}

/* One number, even when it is said several times (section 6.3). */
void http1_body_length(struct http1_body *b, struct http1_text value) {
        struct http1_text one;
        while (http1_list_next(&value, &one)) {
                uint64_t n = 0;
                size_t i = 0;
                for (; i < one.n && one.bytes[i] >= '0' && one.bytes[i] <= '9'; i++)
                        n = i < LENGTH_DIGITS_MAX ? n * 10 + (uint64_t)(one.bytes[i] - '0') : n;
                bool good = i == one.n && i > 0 && i <= LENGTH_DIGITS_MAX && (!(b->said & SAID_LENGTH) || n == b->length);
                b->said |= good ? SAID_LENGTH : SAID_NONSENSE;
                b->length = n;
        }
}

/* The last coding frames the body (section 6.1). */
void http1_body_codings(struct http1_body *b, struct http1_text value) {
        struct http1_text one;
        while (http1_list_next(&value, &one)) {
                const uint8_t *parameters = memchr(one.bytes, ';', one.n);
                size_t n = parameters ? (size_t)(parameters - one.bytes) : one.n;
                while (n > 0 && (one.bytes[n - 1] == ' ' || one.bytes[n - 1] == '\t'))
                        n--;
                if (n == 0 || http_equal(one.bytes, n, "identity"))
                        continue;
                b->said = (uint8_t)(b->said & ~(SAID_CHUNKED | SAID_CODED));
                b->said |= http_equal(one.bytes, n, "chunked") ? SAID_CHUNKED : SAID_CODED;
        }
}

/* Section 6.3, from rule 4 on. */
enum http1_body_kind http1_body_begin(struct http1_body *b, bool request) {
        b->part = PART_SIZE;
        b->left = 0;
        if (b->said & SAID_CHUNKED)
                b->kind = BODY_CHUNKED;
        else if (b->said & SAID_CODED)
                b->kind = request ? BODY_UNKNOWN : BODY_CLOSE;
        else if (b->said & SAID_NONSENSE)
                b->kind = BODY_UNKNOWN;
        else if (b->said & SAID_LENGTH) {
                b->kind = b->length > 0 ? BODY_LENGTH : BODY_NONE;
                b->left = b->length;
        } else
                b->kind = request ? BODY_NONE : BODY_CLOSE;
        return b->kind;
}

/* ---- the body ---- */

static int hex(uint8_t c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        c |= 0x20;
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The line with a chunk's size ends. */
static enum http1_body_result chunk_begin(struct http1_body *b) {
        if (b->digits == 0 || b->digits > SIZE_DIGITS_MAX)
                return HTTP1_BODY_LOST;
        b->part = b->left > 0 ? PART_DATA : PART_TRAILERS;
        b->blank = true;
        b->line_bytes = 0;
        return HTTP1_BODY_MORE;
}

/* One byte that is not of a chunk's data. */
static enum http1_body_result read_frame(struct http1_body *b, uint8_t c) {
        int digit = hex(c);
        if (++b->line_bytes > HTTP1_TRAILERS_MAX)
                return HTTP1_BODY_LOST;
        switch (b->part) {
        case PART_SIZE:
                if (digit >= 0) {
                        b->left = b->left << 4 | (unsigned)digit;
                        b->digits += b->digits <= SIZE_DIGITS_MAX;
                        return HTTP1_BODY_MORE;
                }
                if (c == '\n')
                        return chunk_begin(b);
                b->part = PART_EXTENSION;
                return b->digits > 0 && (c == ';' || c == ' ' || c == '\t' || c == '\r') ? HTTP1_BODY_MORE : HTTP1_BODY_LOST;
        case PART_EXTENSION:
                return c == '\n' ? chunk_begin(b) : HTTP1_BODY_MORE;
        case PART_DATA_END:
                if (c == '\n') {
                        b->part = PART_SIZE;
                        b->left = b->digits = 0;
                }
                return c == '\n' || c == '\r' ? HTTP1_BODY_MORE : HTTP1_BODY_LOST;
        default:
                if (c == '\n' && b->blank)
                        return HTTP1_BODY_WHOLE;
                b->blank = c == '\n' || (c == '\r' && b->blank);
                return HTTP1_BODY_MORE;
        }
}

/* Counts what can be counted of n bytes, and returns how many that are. */
static uint64_t count(struct http1_body *b, uint64_t n) {
        uint64_t taken = b->kind == BODY_CLOSE ? n : TEL_MIN(n, b->left);
        b->bytes = TEL_MIN(tel_add_sat(b->bytes, taken), (uint64_t)INT64_MAX);
        b->left -= b->kind == BODY_CLOSE ? 0 : taken;
        if (b->kind == BODY_CHUNKED && b->left == 0)
                b->part = PART_DATA_END;
        return taken;
}

enum http1_body_result http1_body_read(struct http1_body *b, const uint8_t *data, size_t n, size_t *ret_used) {
        size_t used = 0;
        enum http1_body_result r = HTTP1_BODY_MORE;
        while (used < n && r == HTTP1_BODY_MORE) {
                if (b->kind == BODY_CHUNKED && b->part != PART_DATA)
                        r = read_frame(b, data[used++]);
                else {
                        used += (size_t)count(b, n - used);
                        r = b->kind == BODY_LENGTH && b->left == 0 ? HTTP1_BODY_WHOLE : HTTP1_BODY_MORE;
                }
        }
        *ret_used = used;
        return r;
}

enum http1_body_result http1_body_miss(struct http1_body *b, uint64_t n, uint64_t *ret_over) {
        if (b->kind == BODY_CHUNKED && (b->part != PART_DATA || n > b->left))
                return HTTP1_BODY_LOST;
        uint64_t over = n - count(b, n);
        if (b->kind != BODY_LENGTH || b->left > 0)
                return HTTP1_BODY_MORE;
        *ret_over = over;
        return HTTP1_BODY_WHOLE;
}

uint64_t http1_body_rest(const struct http1_body *b) {
        if (b->kind == BODY_CLOSE)
                return REST_OF_CONNECTION;
        return b->kind == BODY_LENGTH || (b->kind == BODY_CHUNKED && b->part == PART_DATA) ? b->left : 0;
}
