/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Talk: a fuzzer's input as a conversation for a protocol, run whole and run byte by byte. The same exchanges must come out, none may be open
 * when both ends have gone, and what the first bytes are must not be taken back.
 * Input: one byte, whose bit 0 is the role and bit 1 that the connection is older than what follows; then calls: a letter, two bytes of length (big-endian), and for "i" and "o" that many bytes.
 *   i, o  received, sent      I, O  so many bytes are missing      e, E  the receiving, the sending direction ends */
#include <stdio.h>

#include "beylad/connection.h"
#include "libtelemetry/cursor.h"

#define TALK_BYTES_MAX 4096                        /* of an input: three runs of it take some 50 us */
#define TALK_TEXT_MAX (TALK_BYTES_MAX * 64)        /* of what comes out: a command of six bytes makes the longest line for its length */

struct talk {
        struct exchange_sink sink;
        struct connection *connection;
        char *text;
        size_t used;
        unsigned open;
};

static inline void talk_add(struct talk *t, const char *format, ...) TEL_PRINTF(2, 3);
static inline void talk_add(struct talk *t, const char *format, ...) {
        va_list args;
        va_start(args, format);
        t->used += (size_t)vsnprintf(t->text + t->used, TALK_TEXT_MAX - t->used, format, args);
        va_end(args);
        if (t->used >= TALK_TEXT_MAX)
                abort();
}

static inline bool talk_begun(void *ctx, struct exchange *x, const struct chunk *at) {
        struct talk *t = ctx;
        (void)x, (void)at;
        return ++t->open % 13 != 0;                /* now and then it is over a bound */
}

static inline void talk_asked(void *ctx, struct exchange *x, const struct chunk *at) {
        (void)ctx, (void)x, (void)at;
}

static inline void talk_ended(void *ctx, struct exchange *x) {
        struct talk *t = ctx;
        t->open--;
        talk_add(t, "%llu-%llu-%llu %u%u%u", (unsigned long long)x->start_ns, (unsigned long long)x->answer_ns, (unsigned long long)x->end_ns, x->failed,
                 x->unobserved, x->batch);
        for (int f = 0; f < EXCHANGE_FIELDS; f++)
                if (exchange_get(x, f))
                        talk_add(t, " %d=%.40s", f, exchange_get(x, f));
        talk_add(t, "\n");
        exchange_free(x);
}

static inline void talk_dropped(void *ctx, struct exchange *x, bool counted) {
        struct talk *t = ctx;
        (void)x;
        t->open--;
        talk_add(t, counted ? "lost\n" : "");
}

static inline void talk_lost(void *ctx, struct connection *c, uint64_t n) {
        (void)c;
        talk_add(ctx, "lost %llu\n", (unsigned long long)n);
}

/* One run; pieces: bytes of a call at a time. Returns the text, the caller's. */
static inline char *talk_run(const struct protocol *p, const uint8_t *data, size_t n, size_t piece) {
        static const struct protocol_options options = { .db_text = true };
        struct talk t = { .sink = { &t, talk_begun, talk_asked, talk_ended, talk_dropped, talk_lost }, .text = malloc(TALK_TEXT_MAX) };
        void *state = calloc(1, p->size);
        const uint8_t *end = data + n;
        uint64_t now = 0;
        int last = -1;
        bool off = false;
        t.text[0] = '\0';
        /* As large as an entry of connection.c's table, which it is the beginning of there. */
        t.connection = calloc(1, sizeof(*t.connection) + 4096);
        t.connection->sink = &t.sink;
        t.connection->refs = 2;
        t.connection->whole = !(*data & 2);
        p->start(state, t.connection, &options, *data++ & 1 ? EXCHANGE_CLIENT : EXCHANGE_SERVER);
        for (; end - data >= 3; now++) {
                uint8_t what = data[0];
                size_t len = tel_be16_get(data + 1);
                struct chunk at = { .direction = (what | 0x20) == 'i' || what == 'e' ? DIRECTION_IN : DIRECTION_OUT, .start_ns = 10 * now, .end_ns = 10 * now + 5 };
                data += 3;
                at.turn = last != (int)at.direction;
                if (what == 'e' || what == 'E') {
                        p->end(state, at.direction, at.end_ns);
                        off = true;
                } else if (!off && (what == 'I' || what == 'O'))
                        p->gap(state, &at, len + 1);
                else if (what == 'i' || what == 'o')
                        for (len = TEL_MIN(len, (size_t)(end - data)); len > 0;) {
                                at.data = data;
                                at.n = TEL_MIN(len, piece);
                                off = off || p->data(state, &at) < 0;
                                data += at.n;
                                len -= at.n;
                                at.turn = false;
                        }
                last = (int)at.direction;
                t.connection->last_ns = at.end_ns;
        }
        for (int d = 0; d < DIRECTIONS; d++)
                p->end(state, d, 10 * now);
        if (t.open != 0)
                abort();
        p->done(state);
        free(state);
        if (t.connection->refs != 2 || t.connection->open_exchanges != 0)
                abort();
        free(t.connection);
        return t.text;
}

static inline void talk_check(const struct protocol *p, const uint8_t *data, size_t n) {
        if (n == 0 || n > TALK_BYTES_MAX)
                return;
        char *whole = talk_run(p, data, n, SIZE_MAX), *bytes = talk_run(p, data, n, 1), *pieces = talk_run(p, data, n, 7);
        if (strcmp(whole, bytes) != 0 || strcmp(whole, pieces) != 0)
                abort();
        free(whole);
        free(bytes);
        free(pieces);
        enum protocol_match last = MATCH_MORE;
        for (size_t k = 0; k <= TEL_MIN(n, (size_t)PROTOCOL_MATCH_MAX); k++) {
                enum protocol_match m = p->match(data, k);
                if ((last == MATCH_NO && m != MATCH_NO) || (m == MATCH_MORE && k == PROTOCOL_MATCH_MAX))
                        abort();
                last = m;
        }
}
