/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Resp: reads the values a redis-server sends, byte by byte, and tells where one ends. Of what they hold it keeps the first bytes of a simple
 * string or an error and, when asked, the first element of an array; values of keys are passed over.
 * Source: redis.io, "Redis serialization protocol specification": RESP2, RESP3, attributes, streamed strings and aggregates.
 * May touch: memory only, and allocates none. */
#include "libtelemetry/base.h"

#define RESP_WORD_MAX 32                           /* bytes kept: "ERR unknown subcommand" and every word we ask for is shorter */
#define RESP_LEVELS_MAX 8                          /* streamed aggregates and attributes in each other; plain nesting costs nothing */
#define RESP_VALUES_MAX (1ull << 40)               /* values announced and still to come: far more than memory holds */
#define RESP_BYTES_MAX (1ull << 40)                /* of one string; a redis-server refuses more than 512 MB unless told otherwise */

enum resp_result {
        RESP_MORE,                                 /* all bytes were read */
        RESP_BEGUN,                                /* the first byte of an answer was read: top is known */
        RESP_DONE,                                 /* an answer is whole */
        RESP_BAD,                                  /* this is no RESP */
};

/* A decimal number up to CRLF: of digits, or "?", which announces a streamed value. */
struct resp_number {
        uint64_t value;
        uint8_t digits;
        bool negative, streamed, cr;
};
enum resp_result resp_number_read(struct resp_number *n, const uint8_t **p, const uint8_t *end);     /* MORE, DONE or BAD */

struct resp {
        uint8_t state;                             /* of resp.c */
        uint8_t type;                              /* of the value being read */
        uint8_t top;                               /* of the answer; '\0': none began */
        uint8_t level;
        uint8_t kinds[RESP_LEVELS_MAX];
        uint64_t need[RESP_LEVELS_MAX];            /* values still to come at each level */
        uint64_t left;                             /* of the string being read, with its CRLF */
        struct resp_number number;
        bool cr;
        bool inside;                               /* of an aggregate that is the answer */
        bool watch;                                /* the caller's, when an answer has begun: keep its first element */
        bool keep;                                 /* the value being read goes to word */
        bool null;                                 /* the answer is a null, or began with an empty aggregate */
        uint8_t word_len;
        char word[RESP_WORD_MAX];                  /* first bytes of the answer, or of its first element; no NUL at its end */
        uint64_t integer;                          /* the last one that came */
};

/* As new: the next byte begins an answer. */
void resp_reset(struct resp *r);
/* Reads from *p and moves it. After RESP_DONE the next call begins the next answer; until then what was kept is there. */
enum resp_result resp_read(struct resp *r, const uint8_t **p, const uint8_t *end);
/* Bytes, at most resp_left(), that nobody captured. RESP_MORE or RESP_DONE. */
enum resp_result resp_skip(struct resp *r, uint64_t bytes);
/* Bytes of a string whose contents do not matter, with its CRLF. */
uint64_t resp_left(const struct resp *r);

static inline bool resp_is(const struct resp *r, const char *word) {
        return strlen(word) == r->word_len && memcmp(r->word, word, r->word_len) == 0;
}
static inline bool resp_begins(const struct resp *r, const char *words) {
        return r->word_len >= strlen(words) && memcmp(r->word, words, strlen(words)) == 0;
}
