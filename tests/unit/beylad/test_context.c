/* SPDX-License-Identifier: Apache-2.0 */
/* Context: who is whose parent. A wrong one is worse than none, so half of these tests are about when there must be none. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "beylad/context.h"
#include "beylad/sampler.h"

#define MS TEL_NS_PER_MS
#define SPANS_MAX 20000

static struct sampler sampler;
static struct contexts *t;
static struct process *processes[2];
static struct span heard[SPANS_MAX];               /* exchange: its number, in the test's own count */
static size_t n_heard;

static void on_span(void *ctx, const struct span *s) {
        (void)ctx;
        assert_true(n_heard < SPANS_MAX);
        heard[n_heard] = *s;
        heard[n_heard++].exchange = (struct exchange *)(uintptr_t)s->exchange->request_bytes;
}

static int set_up(void **state) {
        (void)state;
        sampler_init(&sampler, SAMPLER_PARENT_ON, 1);
        t = contexts_new(&sampler, on_span, NULL);
        n_heard = 0;
        for (size_t i = 0; i < 2; i++) {
                processes[i] = calloc(1, sizeof(struct process));
                processes[i]->refs = 1;
                processes[i]->pid = 100 + (uint32_t)i;
        }
        return 0;
}

static int tear_down(void **state) {
        (void)state;
        t = contexts_free(t);
        for (size_t i = 0; i < 2; i++) {
                assert_int_equal(processes[i]->refs, 1);
                process_unref(processes[i]);
        }
        return 0;
}

/* A connection of process p between two ports of this host. */
static struct connection *connect_ports(size_t p, uint16_t local, uint16_t remote) {
        static uint64_t id;
        struct connection *c = calloc(1, sizeof(*c));
        c->sink = contexts_sink(t);
        c->id = ++id;
        c->process = process_ref(processes[p]);
        c->family = AF_INET;
        c->local.ip[15] = c->remote.ip[15] = 1;
        c->local.port = local;
        c->remote.port = remote;
        c->whole = true;
        c->refs = 1;
        return c;
}

/* A request that begins and is asked at time ms, by thread tid or goroutine work. number tells it apart in heard[]. */
static struct exchange *ask(struct connection *c, enum exchange_role role, int number, uint64_t ms, uint32_t tid, uint64_t work, uint64_t parent,
                            const char *traceparent) {
        struct chunk k = { .start_ns = ms * MS, .end_ns = ms * MS, .tid = tid, .work = work, .work_parent = parent, .seq = (uint32_t)number, .has_seq = false };
        struct exchange *x = exchange_begin(c, EXCHANGE_HTTP, role, &k);
        assert_non_null(x);
        x->request_bytes = number;
        if (traceparent)
                exchange_set_traceparent(x, traceparent, strlen(traceparent));
        exchange_asked(x, &k);
        return x;
}

static void answer(struct exchange *x, uint64_t ms) {
        exchange_end(x, &(struct chunk){ .end_ns = ms * MS });
}

static const struct span *span_of(int number) {
        for (size_t i = 0; i < n_heard; i++)
                if ((uintptr_t)heard[i].exchange == (uintptr_t)number)
                        return &heard[i];
        fail_msg("exchange %d was not handed on", number);
        return NULL;
}

static bool is_child(int child, int parent) {
        const struct span *c = span_of(child), *p = span_of(parent);
        return memcmp(c->parent_span_id, p->span_id, 8) == 0 && memcmp(c->trace_id, p->trace_id, 16) == 0;
}

static bool is_root(int number) {
        static const uint8_t none[8];
        return memcmp(span_of(number)->parent_span_id, none, 8) == 0;
}

/* One request after the other on a server connection; each ends before the next. */
static void serve_once(struct connection *c, int number, uint32_t tid, uint64_t work) {
        answer(ask(c, EXCHANGE_SERVER, number, 1, tid, work, 0, NULL), 2);
}

/* ---- by thread ---- */

static void test_child_by_thread(void **state) {
        (void)state;
        struct connection *in = connect_ports(0, 80, 5000), *out = connect_ports(0, 6000, 81);
        struct exchange *server = ask(in, EXCHANGE_SERVER, 1, 10, 7, 0, 0, NULL);
        struct exchange *client = ask(out, EXCHANGE_CLIENT, 2, 11, 7, 0, 0, NULL);
        struct exchange *other = ask(out, EXCHANGE_CLIENT, 3, 11, 8, 0, 0, NULL);      /* another thread: nobody's child */
        answer(client, 12);
        answer(other, 12);
        answer(server, 13);
        contexts_release(t, UINT64_MAX);
        assert_true(is_child(2, 1));
        assert_true(is_root(1));
        assert_true(is_root(3));
        connection_unref(in);
        connection_unref(out);
}

/* Another process may have a thread of the same number in a recording of two hosts; here it is the same tid by chance. */
static void test_threads_are_of_a_process(void **state) {
        (void)state;
        struct connection *in = connect_ports(0, 80, 5000), *out = connect_ports(1, 6000, 81);
        struct exchange *server = ask(in, EXCHANGE_SERVER, 1, 10, 7, 0, 0, NULL);
        answer(ask(out, EXCHANGE_CLIENT, 2, 11, 7, 0, 0, NULL), 12);
        answer(server, 13);
        contexts_release(t, UINT64_MAX);
        assert_true(is_root(2));
        connection_unref(in);
        connection_unref(out);
}

/* With several requests open on one thread nobody can tell: links to all of them, and no parent. */
static void test_several_open_give_links(void **state) {
        (void)state;
        struct connection *a = connect_ports(0, 80, 5000), *b = connect_ports(0, 80, 5001), *out = connect_ports(0, 6000, 81);
        struct exchange *one = ask(a, EXCHANGE_SERVER, 1, 10, 7, 0, 0, NULL), *two = ask(b, EXCHANGE_SERVER, 2, 10, 7, 0, 0, NULL);
        struct exchange *client = ask(out, EXCHANGE_CLIENT, 3, 11, 7, 0, 0, NULL);
        struct contexts_stats s;
        answer(two, 12);
        answer(ask(out, EXCHANGE_CLIENT, 4, 13, 7, 0, 0, NULL), 13);       /* one is open; but it may be the other's late work */
        answer(client, 14);
        answer(one, 15);
        contexts_release(t, UINT64_MAX);
        assert_true(is_root(3));
        assert_int_equal(span_of(3)->n_links, 2);
        for (size_t i = 0; i < 2; i++) {
                const struct span *candidate = span_of(memcmp(span_of(3)->links[i].span_id, span_of(1)->span_id, 8) == 0 ? 1 : 2);
                assert_memory_equal(span_of(3)->links[i].span_id, candidate->span_id, 8);
                assert_memory_equal(span_of(3)->links[i].trace_id, candidate->trace_id, 16);
        }
        assert_true(is_root(4));
        assert_int_equal(span_of(4)->n_links, 1);
        assert_memory_equal(span_of(4)->links[0].span_id, span_of(1)->span_id, 8);
        contexts_get_stats(t, &s);
        assert_int_equal(s.ambiguous, 2);
        connection_unref(a);
        connection_unref(b);
        connection_unref(out);
}

/* Event loops hand work to each other: once one thread served two at once, a call on another thread may be anybody's. */
static void test_event_loops_share_work(void **state) {
        (void)state;
        struct connection *a = connect_ports(0, 80, 5000), *b = connect_ports(0, 80, 5001), *c = connect_ports(0, 80, 5002), *out = connect_ports(0, 6000, 81);
        struct exchange *one = ask(a, EXCHANGE_SERVER, 1, 10, 7, 0, 0, NULL), *two = ask(b, EXCHANGE_SERVER, 2, 10, 7, 0, 0, NULL);
        struct exchange *three = ask(c, EXCHANGE_SERVER, 3, 10, 8, 0, 0, NULL);
        answer(ask(out, EXCHANGE_CLIENT, 4, 11, 8, 0, 0, NULL), 12);       /* the first's work, on the third's thread */
        answer(one, 13);
        answer(two, 13);
        answer(ask(out, EXCHANGE_CLIENT, 5, 14, 8, 0, 0, NULL), 15);       /* still: late work of theirs */
        answer(three, 16);
        one = ask(a, EXCHANGE_SERVER, 6, 20, 7, 0, 0, NULL);
        answer(ask(out, EXCHANGE_CLIENT, 7, 21, 7, 0, 0, NULL), 22);       /* alone in the whole program */
        answer(one, 23);
        contexts_release(t, UINT64_MAX);
        assert_true(is_root(4));
        assert_int_equal(span_of(4)->n_links, 1);
        assert_true(is_root(5));
        assert_true(is_child(7, 6));
        assert_int_equal(processes[0]->open_requests, 0);
        connection_unref(a);
        connection_unref(b);
        connection_unref(c);
        connection_unref(out);
}

/* That a program runs event loops may show after a call was begun, and before its span is handed on. */
static void test_event_loops_show_later(void **state) {
        (void)state;
        struct connection *a = connect_ports(0, 80, 5000), *b = connect_ports(0, 80, 5001), *c = connect_ports(0, 80, 5002), *out = connect_ports(0, 6000, 81);
        struct exchange *zero = ask(a, EXCHANGE_SERVER, 1, 5, 7, 0, 0, NULL);
        struct contexts_stats s;
        answer(ask(out, EXCHANGE_CLIENT, 2, 6, 7, 0, 0, NULL), 7);         /* alone: certain whatever shows */
        answer(zero, 8);
        struct exchange *one = ask(a, EXCHANGE_SERVER, 3, 10, 7, 0, 0, NULL), *two = ask(b, EXCHANGE_SERVER, 4, 10, 8, 0, 0, NULL);
        answer(ask(out, EXCHANGE_CLIENT, 5, 11, 8, 0, 0, NULL), 12);       /* the first's work, on the second's thread */
        struct exchange *three = ask(c, EXCHANGE_SERVER, 6, 13, 7, 0, 0, NULL);
        answer(one, 14);
        answer(two, 14);
        answer(three, 14);
        contexts_release(t, UINT64_MAX);
        assert_true(is_child(2, 1));
        assert_true(is_root(5));
        assert_int_equal(span_of(5)->n_links, 1);
        assert_memory_equal(span_of(5)->links[0].span_id, span_of(4)->span_id, 8);
        contexts_get_stats(t, &s);
        assert_int_equal(s.ambiguous, 1);
        connection_unref(a);
        connection_unref(b);
        connection_unref(c);
        connection_unref(out);
}

/* A thread that serves and calls out while only others serve does their work. One that never serves is nobody's loop. */
static void test_serving_threads_that_work_for_others(void **state) {
        (void)state;
        for (int serving = 0; serving < 2; serving++) {
                struct connection *a = connect_ports((size_t)serving, 80, 5000), *b = connect_ports((size_t)serving, 80, 5001);
                struct connection *out = connect_ports((size_t)serving, 6000, 81);
                uint32_t tid = serving ? 8 : 9;
                int n = 10 * serving;
                serve_once(b, n + 1, 8, 0);
                struct exchange *one = ask(a, EXCHANGE_SERVER, n + 2, 10, 7, 0, 0, NULL);
                answer(ask(out, EXCHANGE_CLIENT, n + 3, 11, tid, 0, 0, NULL), 12);
                assert_int_equal(processes[serving]->multiplexes, serving);
                struct exchange *two = ask(b, EXCHANGE_SERVER, n + 4, 13, 8, 0, 0, NULL);
                answer(ask(out, EXCHANGE_CLIENT, n + 5, 14, 8, 0, 0, NULL), 15);
                answer(one, 16);
                answer(two, 16);
                contexts_release(t, UINT64_MAX);
                assert_true(is_root(n + 3));
                assert_int_equal(span_of(n + 5)->n_links, serving);
                assert_int_equal(is_root(n + 5), serving);
                connection_unref(a);
                connection_unref(b);
                connection_unref(out);
        }
}

static void test_an_old_request_is_no_parent(void **state) {
        (void)state;
        struct connection *in = connect_ports(0, 80, 5000), *out = connect_ports(0, 6000, 81);
        struct exchange *server = ask(in, EXCHANGE_SERVER, 1, 10, 7, 0, 0, NULL);  /* a stream that never ends */
        answer(ask(out, EXCHANGE_CLIENT, 2, 10 + CONTEXT_AGE_MAX_NS / MS + 1, 7, 0, 0, NULL), 400000);
        answer(server, 400001);
        contexts_release(t, UINT64_MAX);
        assert_true(is_root(2));
        connection_unref(in);
        connection_unref(out);
}

/* ---- by goroutine ---- */

static void test_child_by_goroutine(void **state) {
        (void)state;
        struct connection *in = connect_ports(0, 80, 5000), *out = connect_ports(0, 6000, 81);
        /* Goroutines move between threads, and one thread runs many. */
        struct exchange *server = ask(in, EXCHANGE_SERVER, 1, 10, 7, 33, 2, NULL);
        answer(ask(out, EXCHANGE_CLIENT, 2, 11, 8, 33, 2, NULL), 12);
        answer(ask(out, EXCHANGE_CLIENT, 3, 11, 7, 34, 2, NULL), 12);
        answer(server, 13);
        contexts_release(t, UINT64_MAX);
        assert_true(is_child(2, 1));
        assert_true(is_root(3));
        connection_unref(in);
        connection_unref(out);
}

/* A goroutine started by the serving one belongs to its first request; later it may be an older one's, still at work. */
static void test_child_of_a_goroutine(void **state) {
        (void)state;
        struct connection *in = connect_ports(0, 80, 5000), *late = connect_ports(0, 80, 5001), *out = connect_ports(0, 6000, 81);
        struct exchange *server = ask(in, EXCHANGE_SERVER, 1, 10, 7, 33, 2, NULL);
        answer(ask(out, EXCHANGE_CLIENT, 2, 11, 8, 50, 33, NULL), 12);
        answer(server, 13);
        server = ask(in, EXCHANGE_SERVER, 3, 20, 7, 33, 2, NULL);
        answer(ask(out, EXCHANGE_CLIENT, 4, 21, 8, 51, 33, NULL), 22);
        answer(server, 23);
        late->whole = false;                       /* what it carried before we came nobody knows */
        server = ask(late, EXCHANGE_SERVER, 5, 30, 7, 34, 2, NULL);
        answer(ask(out, EXCHANGE_CLIENT, 6, 31, 8, 52, 34, NULL), 32);
        answer(server, 33);
        contexts_release(t, UINT64_MAX);
        assert_true(is_child(2, 1));
        assert_true(is_root(4));
        assert_int_equal(span_of(4)->n_links, 1);
        assert_memory_equal(span_of(4)->links[0].span_id, span_of(3)->span_id, 8);
        assert_true(is_root(6));
        assert_int_equal(span_of(6)->n_links, 1);
        connection_unref(in);
        connection_unref(late);
        connection_unref(out);
}

/* net/http's writing goroutine is not the one that asks: the probe in the transport says who does, once for each request. */
static void test_caller(void **state) {
        (void)state;
        struct connection *in = connect_ports(0, 80, 5000), *out = connect_ports(0, 6000, 81);
        struct exchange *server = ask(in, EXCHANGE_SERVER, 1, 10, 7, 33, 2, NULL);
        contexts_caller(t, &(struct probe_task){ 33, 2 }, out->id);
        answer(ask(out, EXCHANGE_CLIENT, 2, 11, 8, 90, 91, NULL), 12);
        answer(ask(out, EXCHANGE_CLIENT, 3, 11, 8, 90, 91, NULL), 12);
        answer(server, 13);
        contexts_release(t, UINT64_MAX);
        assert_true(is_child(2, 1));
        assert_true(is_root(3));
        connection_unref(in);
        connection_unref(out);
}

/* Hundreds at once, each on a connection of its own: nobody's announcement makes room for another's. */
static void test_many_callers(void **state) {
        (void)state;
        static struct connection *in[200], *out[200];
        static struct exchange *servers[200];
        for (int i = 0; i < 200; i++) {
                in[i] = connect_ports(0, 80, (uint16_t)(5000 + i));
                out[i] = connect_ports(0, (uint16_t)(6000 + i), 81);
                servers[i] = ask(in[i], EXCHANGE_SERVER, 1000 + i, 10, 7, (uint64_t)(33 + i), 2, NULL);
                contexts_caller(t, &(struct probe_task){ (uint64_t)(33 + i), 2 }, out[i]->id);
        }
        for (int i = 0; i < 200; i++) {
                answer(ask(out[i], EXCHANGE_CLIENT, 2000 + i, 11, 8, 900, 901, NULL), 12);
                answer(ask(out[i], EXCHANGE_CLIENT, 3000 + i, 11, 8, 900, 901, NULL), 12);
                answer(servers[i], 13);
        }
        contexts_release(t, UINT64_MAX);
        for (int i = 0; i < 200; i++) {
                assert_true(is_child(2000 + i, 1000 + i));
                assert_true(is_root(3000 + i));    /* it was announced once */
                connection_unref(in[i]);
                connection_unref(out[i]);
        }
}

/* Streams of HTTP/2 are read by one goroutine and served by one each; what such a one starts works for its stream. */
static void test_handlers(void **state) {
        (void)state;
        struct connection *in = connect_ports(0, 80, 5000), *out = connect_ports(0, 6000, 81);
        struct exchange *servers[3];
        for (int i = 0; i < 3; i++) {
                servers[i] = ask(in, EXCHANGE_SERVER, 1 + i, 10, 7, 20, 19, NULL);
                contexts_handler(t, &(struct probe_task){ (uint64_t)(31 + i), 19 }, servers[i]);
        }
        contexts_handler(t, &(struct probe_task){ 0, 0 }, servers[2]);         /* says nothing */
        answer(ask(out, EXCHANGE_CLIENT, 12, 11, 8, 32, 19, NULL), 12);
        answer(ask(out, EXCHANGE_CLIENT, 13, 11, 8, 90, 33, NULL), 12);
        answer(ask(out, EXCHANGE_CLIENT, 14, 11, 8, 20, 19, NULL), 12);
        answer(servers[0], 13);
        answer(ask(out, EXCHANGE_CLIENT, 11, 14, 8, 31, 19, NULL), 15);        /* it was reset, and goes on */
        struct exchange *client = ask(out, EXCHANGE_CLIENT, 15, 16, 8, 32, 19, NULL);
        contexts_handler(t, &(struct probe_task){ 99, 19 }, client);           /* nobody serves a call out */
        answer(client, 17);
        answer(servers[1], 18);
        answer(servers[2], 18);
        contexts_release(t, UINT64_MAX);
        assert_true(is_child(12, 2) && is_child(13, 3) && is_child(15, 2));
        assert_true(is_root(14) && span_of(14)->n_links == 0);
        assert_true(is_root(11) && span_of(11)->n_links == 0);
        connection_unref(in);
        connection_unref(out);
}

/* net/http has a goroutine for each request of HTTP/2 it sends, whenever the serving one starts it. */
static void test_calls_by_http2(void **state) {
        (void)state;
        struct connection *in = connect_ports(0, 80, 5000), *out = connect_ports(0, 6000, 81);
        out->protocol = &protocol_http2;
        serve_once(in, 1, 7, 33);
        struct exchange *server = ask(in, EXCHANGE_SERVER, 2, 10, 7, 33, 19, NULL);
        answer(ask(out, EXCHANGE_CLIENT, 3, 11, 8, 90, 33, NULL), 12);
        answer(server, 13);
        contexts_release(t, UINT64_MAX);
        assert_true(is_child(3, 2));
        connection_unref(in);
        connection_unref(out);
}

/* ---- by the connection's two ends ---- */

static struct exchange *ask_seq(struct connection *c, enum exchange_role role, int number, uint64_t ms, uint32_t tid, uint32_t seq) {
        struct chunk k = { .start_ns = ms * MS, .end_ns = ms * MS, .tid = tid, .seq = seq, .has_seq = true };
        struct exchange *x = exchange_begin(c, EXCHANGE_HTTP, role, &k);
        x->request_bytes = number;
        exchange_asked(x, &k);
        return x;
}

/* The server may be seen to read before the client's call returned; both orders join, and the client never begins after the server. */
static void test_two_ends(void **state) {
        (void)state;
        struct connection *client = connect_ports(0, 6000, 81), *server = connect_ports(1, 81, 6000);
        struct exchange *a = ask_seq(client, EXCHANGE_CLIENT, 1, 10, 7, 4711), *b = ask_seq(server, EXCHANGE_SERVER, 2, 11, 9, 4711);
        answer(b, 12);
        answer(a, 13);
        b = ask_seq(server, EXCHANGE_SERVER, 4, 20, 9, 4800);
        a = ask_seq(client, EXCHANGE_CLIENT, 3, 21, 7, 4800);
        assert_int_equal(a->start_ns, b->start_ns);
        answer(b, 22);
        answer(a, 23);
        a = ask_seq(client, EXCHANGE_CLIENT, 5, 30, 7, 4900);      /* not the same byte */
        b = ask_seq(server, EXCHANGE_SERVER, 6, 31, 9, 4901);
        answer(b, 32);
        answer(a, 33);
        contexts_release(t, UINT64_MAX);
        assert_true(is_child(2, 1));
        assert_true(is_child(4, 3));
        assert_true(is_root(6));
        connection_unref(client);
        connection_unref(server);
}

/* A -> B -> C on one host is one trace, whatever order the spans end in. */
static void test_chain(void **state) {
        (void)state;
        struct connection *b_in = connect_ports(0, 80, 5000), *b_out = connect_ports(0, 6000, 81), *c_in = connect_ports(1, 81, 6000);
        struct exchange *b = ask(b_in, EXCHANGE_SERVER, 1, 10, 7, 0, 0, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        struct exchange *call = ask_seq(b_out, EXCHANGE_CLIENT, 2, 11, 7, 99), *c = ask_seq(c_in, EXCHANGE_SERVER, 3, 12, 9, 99);
        answer(c, 13);
        answer(call, 14);
        answer(b, 15);
        contexts_release(t, UINT64_MAX);
        assert_true(is_child(2, 1));
        assert_true(is_child(3, 2));
        assert_int_equal(span_of(3)->trace_id[0], 0x0a);
        assert_int_equal(span_of(1)->parent_span_id[7], 0x31);
        connection_unref(b_in);
        connection_unref(b_out);
        connection_unref(c_in);
}

/* ---- traceparent ---- */

/* A proxy hands the header on as it came: what is seen here is nearer than what the header names. A program that sends one of its own has a
 * span of its own, which is the parent. */
static void test_headers_handed_on(void **state) {
        (void)state;
        static const char came[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        static const char own[] = "00-1bf7651916cd43dd8448eb211c80319c-c7ad6b7169203332-01";
        struct connection *in = connect_ports(0, 80, 5000), *out = connect_ports(0, 6000, 81);
        struct exchange *server = ask(in, EXCHANGE_SERVER, 1, 10, 7, 0, 0, came);
        answer(ask(out, EXCHANGE_CLIENT, 2, 11, 7, 0, 0, came), 12);
        answer(ask(out, EXCHANGE_CLIENT, 3, 11, 7, 0, 0, own), 12);
        answer(server, 13);
        contexts_release(t, UINT64_MAX);
        assert_true(is_child(2, 1));
        assert_int_equal(span_of(3)->trace_id[0], 0x1b);
        assert_int_equal(span_of(3)->parent_span_id[7], 0x32);
        connection_unref(in);
        connection_unref(out);
}

/* A client that sends the same traceparent for ever would make one giant trace. */
static void test_adoption_has_an_end(void **state) {
        (void)state;
        static const char same[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        struct connection *in = connect_ports(0, 80, 5000);
        size_t adopted = 0;
        for (int i = 1; i <= CONTEXT_ADOPT_MAX + 5; i++)
                answer(ask(in, EXCHANGE_SERVER, i, 10, 7, 0, 0, same), 11);
        contexts_release(t, UINT64_MAX);
        for (size_t i = 0; i < n_heard; i++)
                adopted += heard[i].trace_id[0] == 0x0a && heard[i].parent_span_id[7] == 0x31;
        assert_int_equal(adopted, CONTEXT_ADOPT_MAX);
        assert_int_equal(n_heard, CONTEXT_ADOPT_MAX + 5);
        connection_unref(in);
}

/* Nor one that sends it seldom, for hours. */
static void test_adoption_grows_old(void **state) {
        (void)state;
        static const char same[] = "00-2cf7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        static const uint64_t age_ms = CONTEXT_AGE_MAX_NS / TEL_NS_PER_MS;
        struct connection *in = connect_ports(0, 80, 5000);
        const uint64_t times[] = { 10, 10 + age_ms - 1, 10 + age_ms, 10 + 2 * age_ms };
        for (int i = 0; i < 4; i++)
                answer(ask(in, EXCHANGE_SERVER, i + 1, times[i], 7, 0, 0, same), times[i] + 1);
        contexts_release(t, UINT64_MAX);
        for (int i = 0; i < 4; i++)
                assert_int_equal(span_of(i + 1)->trace_id[0] == 0x2c && !is_root(i + 1), i < 2);
        connection_unref(in);
}

static void test_sampled_flag_is_inherited(void **state) {
        (void)state;
        struct connection *in = connect_ports(0, 80, 5000), *out = connect_ports(0, 6000, 81);
        struct exchange *server = ask(in, EXCHANGE_SERVER, 1, 10, 7, 0, 0, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");
        answer(ask(out, EXCHANGE_CLIENT, 2, 11, 7, 0, 0, NULL), 12);
        answer(server, 13);
        serve_once(in, 3, 7, 0);
        contexts_release(t, UINT64_MAX);
        assert_false(span_of(1)->sampled);
        assert_false(span_of(2)->sampled);
        assert_true(span_of(3)->sampled);
        connection_unref(in);
        connection_unref(out);
}

/* ---- waiting, bounds, losses ---- */

/* The other end's event may still be in the ring: a span waits, and then carries what came meanwhile. */
static void test_hold(void **state) {
        (void)state;
        struct connection *client = connect_ports(0, 6000, 81), *server = connect_ports(1, 81, 6000);
        struct exchange *b = ask_seq(server, EXCHANGE_SERVER, 2, 20, 9, 4800);
        answer(b, 22);
        contexts_release(t, 22 * MS + CONTEXT_HOLD_NS - 1);
        assert_int_equal(n_heard, 0);
        struct exchange *a = ask_seq(client, EXCHANGE_CLIENT, 1, 21, 7, 4800);
        answer(a, 23);
        contexts_release(t, 22 * MS + CONTEXT_HOLD_NS);
        assert_int_equal(n_heard, 1);
        contexts_release(t, 23 * MS + CONTEXT_HOLD_NS);
        assert_int_equal(n_heard, 2);
        assert_true(is_child(2, 1));
        connection_unref(client);
        connection_unref(server);
}

/* Too many at once: the oldest goes without waiting, and nothing is lost. */
static void test_held_has_a_bound(void **state) {
        struct contexts_stats s;
        (void)state;
        struct connection *in = connect_ports(0, 80, 5000);
        for (int i = 1; i <= CONTEXT_HELD_MAX + 3; i++)
                answer(ask(in, EXCHANGE_SERVER, i, 10, 7, 0, 0, NULL), 11);
        contexts_get_stats(t, &s);
        assert_int_equal(s.held, CONTEXT_HELD_MAX);
        assert_int_equal(n_heard, 3);
        contexts_release(t, UINT64_MAX);
        assert_int_equal(n_heard, CONTEXT_HELD_MAX + 3);
        contexts_get_stats(t, &s);
        assert_int_equal(s.lost, 0);
        connection_unref(in);
}

static void test_open_has_a_bound(void **state) {
        struct contexts_stats s;
        (void)state;
        struct connection *in = connect_ports(0, 80, 5000);
        struct exchange **open = calloc(CONTEXT_OPEN_MAX, sizeof(open[0]));
        for (int i = 0; i < CONTEXT_OPEN_MAX; i++)
                open[i] = ask(in, EXCHANGE_SERVER, i, 10, 7, 0, 0, NULL);
        assert_null(exchange_begin(in, EXCHANGE_HTTP, EXCHANGE_SERVER, &(struct chunk){ .end_ns = 1 }));
        contexts_get_stats(t, &s);
        assert_int_equal(s.lost, 1);
        assert_int_equal(s.open, CONTEXT_OPEN_MAX);
        for (int i = 0; i < CONTEXT_OPEN_MAX; i++)
                exchange_drop(open[i], i == 0);
        contexts_get_stats(t, &s);
        assert_int_equal(s.open, 0);
        assert_int_equal(s.lost, 2);
        assert_int_equal(in->open_exchanges, 0);
        free(open);
        connection_unref(in);
}

/* Fifty at once on an event loop, each calling out while others are open: every parent that is named is the right one. */
static void test_fifty_at_once(void **state) {
        (void)state;
        enum { N = 50 };
        struct connection *in[N], *out[N];
        struct exchange *server[N], *client[N];
        size_t links = 0;
        for (int i = 0; i < N; i++) {
                in[i] = connect_ports(0, 80, (uint16_t)(5000 + i));
                out[i] = connect_ports(0, (uint16_t)(6000 + i), 81);
                server[i] = ask(in[i], EXCHANGE_SERVER, 1 + i, 10, i < 25 ? 7 : 100 + (uint32_t)i, 0, 0, NULL);
        }
        for (int i = 0; i < N; i++)
                client[i] = ask(out[i], EXCHANGE_CLIENT, 101 + i, 11, i < 25 ? 7 : 100 + (uint32_t)i, 0, 0, NULL);
        for (int i = N - 1; i >= 0; i--) {
                answer(client[i], 12);
                answer(server[i], 13);
        }
        contexts_release(t, UINT64_MAX);
        for (int i = 0; i < N; i++) {
                if (!is_root(101 + i))
                        assert_true(is_child(101 + i, 1 + i));
                else
                        links += span_of(101 + i)->n_links > 0;
                connection_unref(in[i]);
                connection_unref(out[i]);
        }
        assert_true(links >= 25);                  /* those of the event loop at least; the program is known to run one */
}

/* ---- ids that the kernel side wrote into requests ---- */

#define T1 "11111111111111111111111111111111"
#define T2 "22222222222222222222222222222222"

/* A request by thread tid whose first byte has the number seq, with these ids put in: what TCP counts behind the call is larger by that. */
static struct exchange *ask_injected(struct connection *c, int number, uint64_t ms, uint32_t tid, uint32_t seq, uint8_t trace, uint8_t span) {
        c->injected = (struct injected){ .seq = seq, .sampled = true, .present = true };
        memset(c->injected.trace_id, trace, 16);
        memset(c->injected.span_id, span, 8);
        return ask_seq(c, EXCHANGE_CLIENT, number, ms, tid, seq + PROBE_INJECT_BYTES);
}

static bool in_trace(int number, uint8_t trace) {
        uint8_t id[16];
        memset(id, trace, sizeof(id));
        return memcmp(span_of(number)->trace_id, id, sizeof(id)) == 0;
}

static void serve(const struct connection *c, uint8_t trace) {
        uint8_t id[16];
        memset(id, trace, sizeof(id));
        contexts_serve(c, id);
}

/* The span has the ids that went out, and the request it was sent for is in that trace: also when another of its calls was handed on before. */
static void test_injected_ids_are_the_spans(void **state) {
        (void)state;
        struct connection *in = connect_ports(0, 80, 5000), *out = connect_ports(0, 6000, 81), *db = connect_ports(0, 6001, 82);
        struct exchange *server = ask(in, EXCHANGE_SERVER, 1, 10, 7, 0, 0, NULL);
        serve(in, 0x11);
        answer(ask(db, EXCHANGE_CLIENT, 2, 11, 7, 0, 0, NULL), 12);
        contexts_release(t, 500 * MS);
        answer(ask_injected(out, 3, 501, 7, 4000, 0x11, 0x33), 502);
        answer(ask_injected(out, 4, 503, 7, 5000, 0x11, 0x44), 504);
        answer(server, 505);
        contexts_release(t, UINT64_MAX);
        for (int i = 2; i <= 4; i++)
                assert_true(is_child(i, 1));
        assert_true(in_trace(1, 0x11));
        assert_int_equal(span_of(3)->span_id[0], 0x33);
        assert_int_equal(span_of(4)->span_id[7], 0x44);
        assert_true(span_of(3)->sampled);
        struct contexts_stats stats;
        contexts_get_stats(t, &stats);
        assert_int_equal(stats.injected, 2);
        assert_int_equal(stats.split, 0);
        connection_unref(in);
        connection_unref(out);
        connection_unref(db);
}

/* The kernel side knew of no request being served, and drew a trace: the request takes it, if it has none. One that has keeps it, and the call is
 * in the trace that went out, with a link. */
static void test_injected_trace_of_its_own(void **state) {
        (void)state;
        struct connection *in = connect_ports(0, 80, 5000), *out = connect_ports(0, 6000, 81);
        struct contexts_stats stats;
        struct exchange *server = ask(in, EXCHANGE_SERVER, 1, 10, 7, 0, 0, NULL);
        answer(ask_injected(out, 2, 11, 7, 4000, 0x11, 0x22), 12);
        answer(ask_injected(out, 3, 13, 7, 5000, 0x55, 0x33), 14);         /* a second one, drawn anew */
        answer(server, 15);
        server = ask(in, EXCHANGE_SERVER, 4, 20, 7, 0, 0, "00-" T2 "-3333333333333333-00");
        answer(ask_injected(out, 5, 21, 7, 6000, 0x66, 0x44), 22);
        answer(server, 23);
        contexts_release(t, UINT64_MAX);
        assert_true(is_child(2, 1) && in_trace(1, 0x11));
        for (int i = 3; i <= 5; i += 2) {
                assert_true(is_root(i) && in_trace(i, i == 3 ? 0x55 : 0x66));
                assert_int_equal(span_of(i)->n_links, 1);
                assert_true(span_of(i)->links[0].other_trace);
                assert_memory_equal(span_of(i)->links[0].span_id, span_of(i - (i == 3 ? 2 : 1))->span_id, 8);
        }
        assert_true(in_trace(4, 0x22));
        assert_true(span_of(5)->sampled);          /* as its traceparent says, whatever its parent's does */
        contexts_get_stats(t, &stats);
        assert_int_equal(stats.split, 2);
        connection_unref(in);
        connection_unref(out);
}

/* A caller on the same host that has no trace yet takes it, too; a second one of the same caller has a link. */
static void test_injected_trace_goes_up(void **state) {
        (void)state;
        struct connection *in = connect_ports(0, 80, 5000), *to[2], *at[2], *out = connect_ports(1, 6000, 83);
        struct exchange *root = ask(in, EXCHANGE_SERVER, 1, 10, 7, 0, 0, NULL);
        for (int i = 0; i < 2; i++) {
                to[i] = connect_ports(0, (uint16_t)(7000 + i), 81);
                at[i] = connect_ports(1, 81, (uint16_t)(7000 + i));
                struct exchange *call = ask_seq(to[i], EXCHANGE_CLIENT, 10 + i, 11, 7, 900), *served = ask_seq(at[i], EXCHANGE_SERVER, 20 + i, 12, 9, 900);
                serve(at[i], i ? 0x22 : 0x11);
                answer(ask_injected(out, 30 + i, 13, 9, 4000, i ? 0x22 : 0x11, (uint8_t)(1 + i)), 14);
                answer(served, 15);
                answer(call, 16);
        }
        answer(root, 17);
        contexts_release(t, UINT64_MAX);
        assert_true(is_child(10, 1) && is_child(20, 10) && is_child(30, 20) && in_trace(1, 0x11));
        assert_true(is_child(11, 1) && in_trace(11, 0x11));
        assert_true(is_root(21) && in_trace(21, 0x22) && is_child(31, 21));
        assert_true(span_of(21)->n_links == 1 && span_of(21)->links[0].other_trace);
        assert_memory_equal(span_of(21)->links[0].span_id, span_of(11)->span_id, 8);
        for (int i = 0; i < 2; i++) {
                connection_unref(to[i]);
                connection_unref(at[i]);
        }
        connection_unref(in);
        connection_unref(out);
}

/* What was put in counts for TCP: the request begins where it did. The other end has the traceparent, and joins. What does not fit the request is
 * of a call that failed. */
static void test_injected_bytes_and_the_other_end(void **state) {
        (void)state;
        struct connection *client = connect_ports(0, 6000, 81), *server = connect_ports(1, 81, 6000);
        struct chunk k = { .start_ns = 11 * MS, .end_ns = 11 * MS, .tid = 9, .seq = 4000, .has_seq = true };
        struct exchange *a = ask_injected(client, 1, 10, 7, 4000, 0x11, 0x22), *b = exchange_begin(server, EXCHANGE_HTTP, EXCHANGE_SERVER, &k);
        b->request_bytes = 2;
        exchange_set_traceparent(b, "00-" T1 "-2222222222222222-01", 55);
        exchange_asked(b, &k);
        answer(b, 12);
        answer(a, 13);
        struct exchange *c = ask_injected(client, 3, 20, 7, 5000, 0x11, 0x33);
        assert_false(client->injected.present);
        client->injected = (struct injected){ .seq = 6000, .present = true };
        struct exchange *d = ask_seq(client, EXCHANGE_CLIENT, 4, 21, 7, 6001);
        assert_true(c->injected.present && !d->injected.present);
        answer(c, 22);
        answer(d, 22);
        contexts_release(t, UINT64_MAX);
        assert_true(is_child(2, 1) && in_trace(2, 0x11));
        assert_false(in_trace(4, 0));
        struct contexts_stats stats;
        contexts_get_stats(t, &stats);
        assert_int_equal(stats.joined, 1);
        connection_unref(client);
        connection_unref(server);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_child_by_thread), TEST(test_threads_are_of_a_process), TEST(test_several_open_give_links), TEST(test_event_loops_share_work),
                TEST(test_event_loops_show_later), TEST(test_serving_threads_that_work_for_others), TEST(test_an_old_request_is_no_parent),
                TEST(test_child_by_goroutine), TEST(test_child_of_a_goroutine), TEST(test_caller), TEST(test_many_callers), TEST(test_handlers),
                TEST(test_calls_by_http2), TEST(test_two_ends), TEST(test_chain),
                TEST(test_headers_handed_on), TEST(test_adoption_has_an_end), TEST(test_adoption_grows_old), TEST(test_sampled_flag_is_inherited), TEST(test_hold),
                TEST(test_held_has_a_bound), TEST(test_open_has_a_bound), TEST(test_fifty_at_once),
                TEST(test_injected_ids_are_the_spans), TEST(test_injected_trace_of_its_own), TEST(test_injected_trace_goes_up),
                TEST(test_injected_bytes_and_the_other_end),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
