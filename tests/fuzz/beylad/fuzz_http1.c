/* SPDX-License-Identifier: Apache-2.0 */
/* What a peer may send, and what may be missing of it: the first byte says the role, then come calls: a byte that says what (bit 0: sent;
 * bits 1 to 3: data, a gap, a gap of what it said it need not see, or an end; bit 4: it opens a turn in any case; from bit 5: turns lost in
 * a gap), a byte for the length, and the data. Whatever comes, every exchange that began has ended or was dropped when both directions have ended, and
 * the same calls in pieces give the same exchanges. */
#include "beylad/connection.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct heard {
        uint64_t hash;
        unsigned open;
        bool left;
};
static struct heard *heard_now;

static void mix(struct heard *h, const void *bytes, size_t n) {
        for (size_t i = 0; i < n; i++)
                h->hash = (h->hash ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3ull;
}

static void mix_number(struct heard *h, int64_t number) {
        mix(h, &number, sizeof(number));
}

static bool on_begun(void *ctx, struct exchange *x, const struct chunk *at) {
        struct heard *h = ctx;
        assert(x->state == EXCHANGE_OPEN && at->n > 0);
        h->open++;
        return true;
}

static void on_asked(void *ctx, struct exchange *x, const struct chunk *at) {
        (void)ctx, (void)at;
        assert(exchange_get(x, FIELD_METHOD) && exchange_get(x, FIELD_VERSION));
}

static void on_ended(void *ctx, struct exchange *x) {
        struct heard *h = ctx;
        h->open--;
        assert(x->status == -1 ? exchange_get(x, FIELD_ERROR) != NULL : x->status >= 101 && x->status <= 999);
        assert(x->end_ns >= x->start_ns && x->request_bytes >= -1 && x->response_bytes >= -1);
        const int64_t numbers[] = { x->start_ns, x->answer_ns, x->end_ns, x->status, x->request_bytes, x->response_bytes, x->unobserved };
        mix(h, numbers, sizeof(numbers));
        for (int f = 0; f < EXCHANGE_FIELDS; f++) {
                const char *text = exchange_get(x, f);
                mix_number(h, text ? (int64_t)strlen(text) : -1);
                mix(h, text ? text : "", text ? strlen(text) : 0);
                assert(!text || strlen(text) <= EXCHANGE_FIELD_MAX);
        }
        for (uint32_t i = 0; i < x->n_headers; i++) {
                const char *name = x->text + x->headers[i] - 1, *value = name + strlen(name) + 1;
                mix(h, name, strlen(name) + 1);
                mix(h, value, strlen(value) + 1);
        }
        mix(h, x->parent.trace_id, sizeof(x->parent.trace_id));
        exchange_free(x);
}

static void on_dropped(void *ctx, struct exchange *x, bool counted) {
        struct heard *h = ctx;
        (void)x;
        h->open--;
        if (counted)
                mix_number(h, 1);
}

static void on_lost(void *ctx, struct connection *c, uint64_t n) {
        (void)c;
        mix_number(ctx, (int64_t)n);
}

/* In connection.c's place, whose connections live in a table. */
__attribute__((weak)) struct connection *connection_ref(struct connection *c) {
        c->refs++;
        return c;
}

__attribute__((weak)) struct connection *connection_unref(struct connection *c) {
        c->refs--;
        return NULL;
}

__attribute__((weak)) void connection_lost(struct connection *c, uint64_t n) {
        c->sink->lost(c->sink->ctx, c, n);
}

__attribute__((weak)) void connection_upgraded(struct connection *c) {
        (void)c;
        heard_now->left = true;
}

__attribute__((weak)) void connection_switch(struct connection *c, const struct protocol *to) {
        (void)c, (void)to;
        heard_now->left = true;
}

/* Bytes that came, in pieces; each a copy of its own, so that a sanitizer sees a read behind it. */
static void feed(struct heard *h, void *state, struct chunk k, const uint8_t *bytes, size_t n, size_t piece) {
        for (size_t done = 0; done < n && !h->left;) {
                size_t m = TEL_MIN(piece, n - done);
                uint8_t *copy = malloc(m);
                assert(copy);
                memcpy(copy, bytes + done, m);
                k.data = copy;
                k.n = m;
                h->left = protocol_http1.data(state, &k) != 0 || h->left;
                free(copy);
                k.turn = false;
                done += m;
        }
}

static void run(struct heard *h, const uint8_t *data, size_t n, size_t piece) {
        static const char *const headers[] = { "x-a", NULL };
        static const struct protocol_options options = { .headers = headers, .query = true };
        static uint8_t state[PROTOCOL_STATE_MAX] __attribute__((aligned(16)));
        const struct exchange_sink sink = { h, on_begun, on_asked, on_ended, on_dropped, on_lost };
        struct connection c = { .sink = &sink, .refs = 1 };
        int last = -1;
        *h = (struct heard){ .hash = 0xcbf29ce484222325ull };
        heard_now = h;
        assert(protocol_http1.size <= sizeof(state));
        memset(state, 0, protocol_http1.size);
        protocol_http1.start(state, &c, &options, data[0] & 1 ? EXCHANGE_CLIENT : EXCHANGE_SERVER);
        uint64_t now = 0;
        for (size_t at = 1; at + 1 < n;) {
                uint8_t what = data[at] >> 1 & 7, turns = data[at] >> 5, length = data[at + 1];
                enum direction d = data[at] & 1 ? DIRECTION_OUT : DIRECTION_IN;
                struct chunk k = { .direction = d, .start_ns = now + 1, .end_ns = now + 9, .turn = last != (int)d || data[at] & 16 };
                at += 2;
                now += 10;
                last = what == 7 ? last : (int)d;
                c.last_ns = k.end_ns;
                if (what < 5) {
                        feed(h, state, k, data + at, TEL_MIN((size_t)length, n - at), piece);
                        at += TEL_MIN((size_t)length, n - at);
                } else if (what == 7)
                        protocol_http1.end(state, d, k.end_ns);
                else if (!h->left) {
                        k.turns_lost = turns;
                        protocol_http1.gap(state, &k, what == 6 ? 1 + protocol_http1.skip(state, d) - (length & 1) : 1u + length);
                }
        }
        protocol_http1.end(state, DIRECTION_IN, now);
        protocol_http1.end(state, DIRECTION_OUT, now);
        assert(h->open == 0 && c.open_exchanges == 0);
        protocol_http1.done(state);
        assert(h->open == 0 && c.refs == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        struct heard whole, pieces;
        if (n < 2)
                return 0;
        for (size_t m = 0; m <= TEL_MIN(n, (size_t)PROTOCOL_MATCH_MAX); m++)
                assert(protocol_http1.match(data, m) != MATCH_MORE || m < PROTOCOL_MATCH_MAX);
        run(&whole, data, n, SIZE_MAX);
        run(&pieces, data, n, 1 + data[0] / 2 % 16);
        assert(whole.hash == pieces.hash);
        run(&pieces, data, n, 1);
        assert(whole.hash == pieces.hash);
        return 0;
}
