/* SPDX-License-Identifier: Apache-2.0 */
/* A conversation in HTTP/2: a byte of options, then calls: a byte (1: out; 2: a gap; 4: the direction's end; 8: a turn), two bytes of length, and
 * what the call moved. In whole calls, byte by byte, and with what skip() offers left out, the exchanges are the same. Whatever comes, what is
 * open keeps to its bound, and nothing is open after both ends. */
#include "beylad/connection.h"
#include "beylad/protocols/http2_streams.h"

enum manner { WHOLE, BYTEWISE, SKIPPING, MANNERS };

struct run {
        struct exchange_sink sink;
        struct connection *connection;
        void *state;
        uint64_t hash;                             /* of all that was heard, in order */
        uint32_t open;
        bool off;
};

static void mix(struct run *r, const void *bytes, size_t n) {
        const uint8_t *b = bytes;
        for (size_t i = 0; i < n; i++)
                r->hash = (r->hash ^ b[i]) * 0x100000001b3u;
        r->hash = (r->hash ^ n) * 0x100000001b3u;
}

static bool on_begun(void *ctx, struct exchange *x, const struct chunk *at) {
        struct run *r = ctx;
        assert(at->end_ns == x->start_ns || x->role == EXCHANGE_CLIENT);
        assert(!at->data && at->n == 0);
        r->open++;
        mix(r, "b", 1);
        mix(r, &x->seq, sizeof(x->seq));
        return r->open <= HTTP2_STREAMS_MAX / 2;   /* a bound of who hears */
}

static void on_asked(void *ctx, struct exchange *x, const struct chunk *at) {
        assert(at->end_ns >= x->start_ns);
        assert(exchange_get(x, FIELD_METHOD) || exchange_get(x, FIELD_RPC_METHOD));
        mix(ctx, "a", 1);
}

static void on_ended(void *ctx, struct exchange *x) {
        struct run *r = ctx;
        assert(x->status >= -1 && x->status <= 999 && x->end_ns >= x->start_ns);
        assert(x->request_bytes >= -1 && x->response_bytes >= -1 && x->n_headers <= EXCHANGE_HEADERS_MAX);
        assert(x->text_len <= (EXCHANGE_FIELDS + 2 * EXCHANGE_HEADERS_MAX) * (EXCHANGE_FIELD_MAX + 1));
        assert((x->kind == EXCHANGE_RPC) == (exchange_get(x, FIELD_RPC_METHOD) != NULL));
        r->open--;
        for (int f = 0; f < EXCHANGE_FIELDS; f++)
                if (exchange_get(x, f))
                        mix(r, exchange_get(x, f), strlen(exchange_get(x, f)));
        mix(r, (int64_t[]){ x->kind, x->role, x->status, x->request_bytes, x->response_bytes, x->unobserved, x->parent.present, x->n_headers,
                            (int64_t)x->start_ns, (int64_t)x->answer_ns, (int64_t)x->end_ns }, 11 * sizeof(int64_t));
        exchange_free(x);
}

static void on_dropped(void *ctx, struct exchange *x, bool counted) {
        struct run *r = ctx;
        r->open--;
        mix(r, counted ? "l" : "d", 1);
        (void)x;
}

static void on_lost(void *ctx, struct connection *c, uint64_t n) {
        mix(ctx, &n, sizeof(n));
        (void)c;
}

static void check_match(const uint8_t *data, size_t n) {
        enum protocol_match whole = protocol_http2.match(data, TEL_MIN(n, (size_t)PROTOCOL_MATCH_MAX));
        assert(protocol_http2.match(data, n) == whole);
        for (size_t len = 0; len < n && len < PROTOCOL_MATCH_MAX; len++) {
                enum protocol_match part = protocol_http2.match(data, len);
                assert(part == MATCH_MORE || part == whole);
        }
        assert(n < PROTOCOL_MATCH_MAX || whole != MATCH_MORE);
}

/* The bytes of one call. Each piece in memory of exactly its size, so that a sanitizer sees a read behind it. */
static void run_bytes(struct run *r, struct chunk k, const uint8_t *data, size_t n, enum manner manner) {
        for (size_t at = 0; at < n && !r->off;) {
                uint64_t skip = protocol_http2.skip(r->state, k.direction);
                size_t piece = manner == WHOLE ? n : 1;
                k.seq = 1000 + (uint32_t)at;
                if (manner == SKIPPING && skip > 0) {
                        piece = TEL_MIN(n - at, (size_t)skip);
                        k.data = NULL;
                        k.n = 0;
                        protocol_http2.gap(r->state, &k, piece);
                } else {
                        uint8_t *copy = malloc(piece);
                        memcpy(copy, data + at, piece);
                        k.data = copy;
                        k.n = piece;
                        int e = protocol_http2.data(r->state, &k);
                        assert(e == 0 || (e == -EPROTO && r->open == 0));
                        r->off = e < 0;
                        free(copy);
                }
                assert(r->open == r->connection->open_exchanges && r->open <= HTTP2_STREAMS_MAX);
                k.turn = k.opens_call = false;
                at += piece;
        }
}

static uint64_t run(const uint8_t *data, size_t n, enum manner manner) {
        static const char *const headers[] = { "x-tenant", "content-type", NULL };
        struct protocol_options options = { .headers = headers, .query = data[0] & 2 };
        struct run r = { .sink = { &r, on_begun, on_asked, on_ended, on_dropped, on_lost }, .connection = calloc(1, sizeof(struct connection)) };
        uint64_t now = 1000;
        int last = -1;
        r.connection->sink = &r.sink;
        r.connection->refs = 2;                    /* one is ours, and never given back: connection.c would look for its table */
        r.state = calloc(1, protocol_http2.size);
        protocol_http2.start(r.state, r.connection, &options, data[0] & 1 ? EXCHANGE_CLIENT : EXCHANGE_SERVER);
        for (size_t at = 1; n - at >= 3;) {
                uint8_t what = data[at];
                size_t len = (size_t)data[at + 1] << 8 | data[at + 2];
                struct chunk k = { .direction = what & 1, .start_ns = now, .end_ns = now + 500, .turn = last != (what & 1) || what & 8,
                        .has_seq = true, .opens_call = what & 32 };
                at += 3;
                now += 1000;
                if (what & 4) {
                        protocol_http2.end(r.state, k.direction, now);
                        continue;
                }
                last = what & 1;
                r.connection->last_ns = k.end_ns;
                if (what & 2) {
                        if (!r.off)
                                protocol_http2.gap(r.state, &k, what & 16 ? len << 8 : len);
                        continue;
                }
                len = TEL_MIN(len, n - at);
                check_match(data + at, len);
                run_bytes(&r, k, data + at, len, manner);
                at += len;
        }
        protocol_http2.end(r.state, DIRECTION_IN, now);
        protocol_http2.end(r.state, DIRECTION_OUT, now);
        assert(r.open == 0 && r.connection->open_exchanges == 0);
        protocol_http2.done(r.state);
        assert(r.open == 0 && r.connection->refs == 2);
        free(r.state);
        free(r.connection);
        return r.hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        if (n < 1)
                return 0;
        uint64_t whole = run(data, n, WHOLE);
        assert(run(data, n, BYTEWISE) == whole);
        assert(run(data, n, SKIPPING) == whole);
        return 0;
}
