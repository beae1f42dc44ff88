/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Json: a bounded pull reader for text from outside (RFC 8259), and the escaping that writers need.
 * It builds no tree: its memory is the struct, whatever the text holds. Own config and control use jansson.
 * May touch: the bytes it is given. */
#include "libtelemetry/buf.h"

/* Objects and arrays inside each other. OTLP's 64 AnyValues need up to four levels each ({"kvlistValue":{"values":[{"value":),
 * what encloses the first one 14, and the rest is for unknown keys inside. */
#define TEL_JSON_DEPTH_MAX 320

enum tel_json_token {
        TEL_JSON_ERROR,                            /* malformed: error and at say what and where */
        TEL_JSON_END,                              /* the document is over */
        TEL_JSON_OBJECT, TEL_JSON_OBJECT_END,
        TEL_JSON_ARRAY, TEL_JSON_ARRAY_END,
        TEL_JSON_KEY,                              /* text/len as for a string; its value is the next token */
        TEL_JSON_STRING,                           /* text/len are the raw bytes between the quotes, UTF-8; escaped: they hold a \ */
        TEL_JSON_NUMBER,                           /* text/len are its characters, checked against the grammar */
        TEL_JSON_TRUE, TEL_JSON_FALSE, TEL_JSON_NULL,
};

struct tel_json {
        const char *start, *at, *end;
        const char *token;                         /* private: where the last token, or the error, begins */
        const char *text;                          /* of the last key, string or number; borrowed from the document */
        size_t len;
        bool escaped;
        const char *error;                         /* a constant sentence */
        unsigned depth;
        uint8_t expect;                            /* private */
        uint8_t stack[TEL_JSON_DEPTH_MAX];         /* private: what encloses us */
};

void tel_json_init(struct tel_json *j, const char *text, size_t n);
/* The next token. After TEL_JSON_ERROR or TEL_JSON_END it stays there. */
enum tel_json_token tel_json_next(struct tel_json *j);
/* Skips the value that token began (whole objects and arrays). Returns 0 or -EBADMSG. */
int tel_json_skip(struct tel_json *j, enum tel_json_token token);
/* Unescapes a key or string into out, which has room for len bytes (never more). Returns the bytes written, or -EBADMSG (bad
 * escape, lone surrogate, not UTF-8). */
ssize_t tel_json_unescape(const char *text, size_t len, char *out);
/* Whether the last key equals name, escapes seen through. */
bool tel_json_key_is(const struct tel_json *j, const char *name);
/* The value of a number's characters, exactly; 1.0 and 1e3 are integers, too. The text may come from a string.
 * Returns 0, -EBADMSG (not the grammar of a JSON number), or -ERANGE (a fraction, or over 64 bits). */
int tel_json_integer(const char *text, size_t len, bool *ret_negative, uint64_t *ret_magnitude);
/* Likewise, as the nearest double, whatever the locale says. -ERANGE: too large to be finite. */
int tel_json_double(const char *text, size_t len, double *ret);
/* Line (from 1) and column (from 1, in bytes) of the last token, for error texts. */
void tel_json_where(const struct tel_json *j, unsigned *ret_line, unsigned *ret_column);

/* Appends bytes as a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. Errors of tel_buf_append(). */
int tel_json_string_put(struct tel_buf *out, const char *bytes, size_t n, size_t max);
/* Appends the shortest number that reads back as v, which is finite. Errors of tel_buf_append(). */
int tel_json_double_put(struct tel_buf *out, double v, size_t max);
