/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Harness: a conversation, given as what each call moved, goes through one protocol; what came out is a text, one line an exchange. The
 * conversation runs whole, then once for every byte at which a call can be split in two, then byte by byte: the text must be the same.
 *
 *     static const struct call talk[] = { IN("GET / HTTP/1.1\r\n\r\n"), OUT("HTTP/1.1 204 No Content\r\n\r\n"), SHUT };
 *     assert_talk(&protocol_http1, EXCHANGE_SERVER, talk, TEL_ARRAY_LEN(talk),
 *                 "server http 204 [0,1] method=GET path=/ scheme=http version=1.1 request=0 response=0\n");
 *
 * [0,1]: begun in call 0, ended in call 1. Texts stand in the order of enum exchange_field. "lost 1" is a counted loss. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "beylad/connection.h"

struct call {
        enum { CALL_IN, CALL_OUT, CALL_GAP_IN, CALL_GAP_OUT, CALL_END_IN, CALL_END_OUT } what;
        const char *bytes;
        size_t n;                                  /* of bytes; GAP: how many are missing */
};
#define IN(text) { CALL_IN, text, sizeof(text) - 1 }
#define OUT(text) { CALL_OUT, text, sizeof(text) - 1 }
#define GAP_IN(n) { CALL_GAP_IN, NULL, n }
#define GAP_OUT(n) { CALL_GAP_OUT, NULL, n }
#define END_IN { CALL_END_IN, NULL, 0 }            /* the peer's FIN was read */
#define END_OUT { CALL_END_OUT, NULL, 0 }
#define SHUT END_IN, END_OUT

#define HARNESS_TEXT_MAX 65536
#define HARNESS_NS 1000                            /* call i begins at 1000 i + 1000 and ends 500 later */

struct harness {
        char text[HARNESS_TEXT_MAX];
        size_t used;
        unsigned open;                             /* exchanges begun and not yet ended or dropped */
        bool upgraded;                             /* what the protocol told the connection, in the last run */
        const struct protocol *switched;
        /* One run. */
        const struct protocol *protocol;
        struct exchange_sink sink;
        struct connection *connection;
        void *state;
        bool off;                                  /* the connection gives it no more bytes */
        uint32_t turns_lost;                       /* of the next gap: struct chunk's */
        bool goes_on;                              /* the next call comes right behind one of its direction: its first byte begins it */
};

static const char *const harness_fields[EXCHANGE_FIELDS] = {
        "method", "path", "query", "host", "scheme", "version", "route", "agent", "upgrade", "service", "rpc", "operation", "collection",
        "namespace", "text", "db_status", "error",
};
static struct harness *harness_now;                /* connection_upgraded() and connection_switch() have no context */

/* In connection.c's place, whose connections live in a table; weak, so that it wins where it is linked all the same. */
__attribute__((weak)) struct connection *connection_ref(struct connection *c) {
        c->refs++;
        return c;
}

__attribute__((weak)) struct connection *connection_unref(struct connection *c) {
        if (c && --c->refs == 0)
                free(c);
        return NULL;
}

__attribute__((weak)) void connection_lost(struct connection *c, uint64_t n) {
        c->sink->lost(c->sink->ctx, c, n);
}

__attribute__((weak)) void connection_upgraded(struct connection *c) {
        (void)c;
        harness_now->upgraded = true;
}

__attribute__((weak)) void connection_switch(struct connection *c, const struct protocol *to) {
        (void)c;
        harness_now->switched = to;
}

static inline void harness_add(struct harness *h, const char *format, ...) TEL_PRINTF(2, 3);
static inline void harness_add(struct harness *h, const char *format, ...) {
        va_list args;
        va_start(args, format);
        h->used += (size_t)vsnprintf(h->text + h->used, sizeof(h->text) - h->used, format, args);
        va_end(args);
        assert_true(h->used < sizeof(h->text));
}

static inline bool harness_begun(void *ctx, struct exchange *x, const struct chunk *at) {
        struct harness *h = ctx;
        (void)x, (void)at;
        h->open++;
        return true;
}

static inline void harness_asked(void *ctx, struct exchange *x, const struct chunk *at) {
        (void)ctx, (void)x, (void)at;
}

static inline void harness_ended(void *ctx, struct exchange *x) {
        struct harness *h = ctx;
        static const char *const kinds[] = { "http", "rpc", "db" };
        h->open--;
        harness_add(h, "%s %s ", x->role == EXCHANGE_SERVER ? "server" : "client", kinds[x->kind]);
        if (x->status >= 0)
                harness_add(h, "%d ", x->status);
        harness_add(h, "[%llu,%llu]", (unsigned long long)(x->start_ns / HARNESS_NS - 1), (unsigned long long)(x->end_ns / HARNESS_NS - 1));
        for (int f = 0; f < EXCHANGE_FIELDS; f++)
                if (exchange_get(x, f))
                        harness_add(h, " %s=%s", harness_fields[f], exchange_get(x, f));
        for (size_t i = 0; i < x->n_headers; i++)
                harness_add(h, " %s:%s", x->text + x->headers[i] - 1, x->text + x->headers[i] - 1 + strlen(x->text + x->headers[i] - 1) + 1);
        if (x->request_bytes >= 0)
                harness_add(h, " request=%lld", (long long)x->request_bytes);
        if (x->response_bytes >= 0)
                harness_add(h, " response=%lld", (long long)x->response_bytes);
        if (x->parent.present)
                harness_add(h, " parent=%02x..%02x%s", x->parent.trace_id[0], x->parent.span_id[7], x->parent.sampled ? "" : " unsampled");
        if (x->batch)
                harness_add(h, " batch=%u", x->batch);
        harness_add(h, "%s%s\n", x->failed ? " failed" : "", x->unobserved ? " unobserved" : "");
        exchange_free(x);
}

static inline void harness_dropped(void *ctx, struct exchange *x, bool counted) {
        struct harness *h = ctx;
        (void)x;
        h->open--;
        if (counted)
                harness_add(h, "lost 1\n");
}

static inline void harness_lost(void *ctx, struct connection *c, uint64_t n) {
        (void)c;
        harness_add(ctx, "lost %llu\n", (unsigned long long)n);
}

#define HARNESS_TABLE_ROOM 4096                    /* connection.c keeps more behind a connection */

static inline void harness_start(struct harness *h, const struct protocol *p, enum exchange_role role, const struct protocol_options *options) {
        *h = (struct harness){ .protocol = p, .sink = { h, harness_begun, harness_asked, harness_ended, harness_dropped, harness_lost } };
        harness_now = h;
        h->connection = calloc(1, sizeof(*h->connection) + HARNESS_TABLE_ROOM);
        h->connection->sink = &h->sink;
        h->connection->refs = 1;
        assert_true(p->size <= PROTOCOL_STATE_MAX);
        h->state = calloc(1, p->size);
        p->start(h->state, h->connection, options, role);
}

static inline enum direction harness_direction(const struct call *call) {
        return call->what == CALL_IN || call->what == CALL_GAP_IN || call->what == CALL_END_IN ? DIRECTION_IN : DIRECTION_OUT;
}

/* Call i, in pieces of at most `piece` bytes, the first of at most `first`. */
static inline void harness_call(struct harness *h, const struct call *call, size_t i, bool turn, size_t first, size_t piece) {
        struct chunk k = { .direction = harness_direction(call), .start_ns = (i + 1) * HARNESS_NS, .end_ns = (i + 1) * HARNESS_NS + 500,
                           .turn = turn, .opens_call = turn || h->goes_on, .tid = 7 };
        if (call->what == CALL_END_IN || call->what == CALL_END_OUT) {
                h->protocol->end(h->state, k.direction, k.end_ns);
                return;
        }
        h->connection->last_ns = k.end_ns;
        if (h->off)
                return;
        if (call->what == CALL_GAP_IN || call->what == CALL_GAP_OUT) {
                k.turns_lost = h->turns_lost;
                h->turns_lost = 0;
                h->protocol->gap(h->state, &k, call->n);
        }
        for (size_t done = 0; call->bytes && done < call->n && !h->off;) {
                size_t n = TEL_MIN(done == 0 ? first : piece, call->n - done);
                uint8_t *copy = malloc(n);         /* exactly as large, so that a sanitizer sees a read behind it */
                memcpy(copy, call->bytes + done, n);
                k.data = copy;
                k.n = n;
                h->off = h->protocol->data(h->state, &k) != 0 || h->upgraded || h->switched;
                free(copy);
                k.turn = k.opens_call = false;
                done += n;
        }
}

static inline void harness_finish(struct harness *h) {
        h->protocol->done(h->state);
        assert_int_equal(h->open, 0);
        free(h->state);
        connection_unref(h->connection);
}

/* Runs the calls; call `split` in two at byte `at` (split n: none); bytewise: each byte a call of its own. */
static inline void harness_run(struct harness *h, const struct protocol *p, enum exchange_role role, const struct protocol_options *options,
                               const struct call *calls, size_t n, size_t split, size_t at, bool bytewise) {
        int last = -1;
        harness_start(h, p, role, options);
        for (size_t i = 0; i < n; i++) {
                bool ending = calls[i].what == CALL_END_IN || calls[i].what == CALL_END_OUT;
                bool turn = !ending && last != (int)harness_direction(&calls[i]);
                h->goes_on = i > 0 && calls[i - 1].what == calls[i].what;
                last = ending ? last : (int)harness_direction(&calls[i]);
                harness_call(h, &calls[i], i, turn, bytewise ? 1 : i == split ? at : SIZE_MAX, bytewise ? 1 : SIZE_MAX);
        }
        harness_finish(h);
}

/* Runs every split and compares. options NULL: none. */
static inline void assert_talk_options(const struct protocol *p, enum exchange_role role, const struct protocol_options *options, const struct call *calls,
                                       size_t n, const char *expected) {
        static const char *const none[] = { NULL };
        static const struct protocol_options defaults = { .headers = none };
        struct harness *h = calloc(1, sizeof(*h));
        const struct protocol_options *o = options ? options : &defaults;
        harness_run(h, p, role, o, calls, n, n, 0, false);
        assert_string_equal(h->text, expected);
        for (size_t i = 0; i < n; i++)
                for (size_t at = 1; calls[i].bytes && at < calls[i].n; at++) {
                        harness_run(h, p, role, o, calls, n, i, at, false);
                        if (strcmp(h->text, expected) != 0)
                                print_error("call %zu split at byte %zu\n", i, at);
                        assert_string_equal(h->text, expected);
                }
        harness_run(h, p, role, o, calls, n, n, 0, true);
        assert_string_equal(h->text, expected);
        free(h);
}

static inline void assert_talk(const struct protocol *p, enum exchange_role role, const struct call *calls, size_t n, const char *expected) {
        assert_talk_options(p, role, NULL, calls, n, expected);
}
