/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Lossy: a conversation of which one call finds the ring full. What the kernel side and the connection make of that: the next event of its
 * direction shows the gap; a lost call that opened a turn of requests is counted where it was lost. Spans and counted losses are added up. */
#include "harness.h"

struct lossy {
        struct exchange_sink sink;
        unsigned open, spans, lost;
        uint64_t start_ns, end_ns;                 /* of the last span */
};

static inline bool lossy_begun(void *ctx, struct exchange *x, const struct chunk *at) {
        (void)x, (void)at;
        ((struct lossy *)ctx)->open++;
        return true;
}

static inline void lossy_ended(void *ctx, struct exchange *x) {
        struct lossy *l = ctx;
        l->open--;
        l->spans++;
        l->start_ns = x->start_ns;
        l->end_ns = x->end_ns;
        exchange_free(x);
}

static inline void lossy_dropped(void *ctx, struct exchange *x, bool counted) {
        struct lossy *l = ctx;
        (void)x;
        l->open--;
        l->lost += counted;
}

static inline void lossy_lost(void *ctx, struct connection *c, uint64_t n) {
        (void)c;
        ((struct lossy *)ctx)->lost += (unsigned)n;
}

/* A parser and its connection, for tests that feed it themselves. */
struct lossy_parser {
        struct connection *connection;
        void *state;
};

static inline struct lossy_parser lossy_start(struct lossy *l, const struct protocol *p, enum exchange_role role) {
        static const struct protocol_options options;
        struct lossy_parser made = { calloc(1, sizeof(*made.connection)), calloc(1, p->size) };
        *l = (struct lossy){ .sink = { l, lossy_begun, harness_asked, lossy_ended, lossy_dropped, lossy_lost } };
        made.connection->sink = &l->sink;
        made.connection->refs = 1;
        made.connection->whole = true;
        p->start(made.state, made.connection, &options, role);
        return made;
}

static inline void lossy_finish(struct lossy *l, const struct protocol *p, struct lossy_parser made) {
        p->done(made.state);
        assert_int_equal(l->open, 0);
        free(made.state);
        connection_unref(made.connection);
}

/* Runs the calls, of IN and OUT only, then both ends. missing: which one is lost; n: none. */
static inline void lossy_run(struct lossy *l, const struct protocol *p, enum exchange_role role, const struct call *calls, size_t n, size_t missing) {
        struct lossy_parser made = lossy_start(l, p, role);
        enum direction asks = role == EXCHANGE_SERVER ? DIRECTION_IN : DIRECTION_OUT;
        uint64_t gap[DIRECTIONS] = { 0, 0 };
        int last = -1;
        for (size_t i = 0; i < n; i++) {
                struct chunk at = { .direction = harness_direction(&calls[i]), .start_ns = (i + 1) * HARNESS_NS, .end_ns = (i + 1) * HARNESS_NS + 500 };
                uint8_t *copy = malloc(calls[i].n);
                memcpy(copy, calls[i].bytes, calls[i].n);
                at.turn = last != (int)at.direction;
                last = (int)at.direction;
                if (i == missing) {
                        gap[at.direction] = calls[i].n;
                        l->lost += at.turn && at.direction == asks;
                } else {
                        if (gap[at.direction] > 0)
                                p->gap(made.state, &at, gap[at.direction]);
                        gap[at.direction] = 0;
                        at.data = copy;
                        at.n = calls[i].n;
                        assert_int_equal(p->data(made.state, &at), 0);
                }
                free(copy);
        }
        p->end(made.state, DIRECTION_IN, (n + 1) * HARNESS_NS);
        p->end(made.state, DIRECTION_OUT, (n + 1) * HARNESS_NS);
        assert_int_equal(l->open, 0);
        lossy_finish(l, p, made);
}

/* Loses each call in turn, as the server and as the client see it: always `requests` in all, at most one of them not a span. */
static inline void assert_any_call_lost(const struct protocol *p, const struct call *calls, size_t n, unsigned requests) {
        struct call *turned = calloc(n, sizeof(*turned));
        for (size_t i = 0; i < n; i++) {
                turned[i] = calls[i];
                turned[i].what ^= 1;               /* in <-> out */
        }
        for (size_t i = 0; i <= n; i++) {
                struct lossy served, called;
                lossy_run(&served, p, EXCHANGE_SERVER, calls, n, i);
                lossy_run(&called, p, EXCHANGE_CLIENT, turned, n, i);
                if (served.spans + served.lost != requests || called.spans + called.lost != requests)
                        print_error("call %zu lost: served %u spans and %u lost, called %u and %u\n", i, served.spans, served.lost, called.spans, called.lost);
                assert_int_equal(served.spans + served.lost, requests);
                assert_int_equal(called.spans + called.lost, requests);
                assert_true(served.lost <= 1 && called.lost <= 1);
        }
        free(turned);
}
