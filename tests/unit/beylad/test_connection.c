/* SPDX-License-Identifier: Apache-2.0 */
/* Connection: events in, with losses and splits, and what the protocol hears of them. The protocol here is a toy of the test's own: a request
 * is "Q" to a newline, an answer "A" to a newline, "U\n" upgrades, "Bn" announces n * 10000 bytes that nobody needs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "beylad/connection.h"

#define TCP_FIN_WAIT1 4
#define TCP_CLOSE 7
#define NS 1000

static struct {
        char text[8192];
        size_t used;
        struct probe_verdict verdict;
        unsigned verdicts, gone;
        bool opens;                                /* the latest chunk's opens_call */
} heard;

TEL_PRINTF(1, 2) static void say(const char *format, ...) {
        va_list args;
        va_start(args, format);
        heard.used += (size_t)vsnprintf(heard.text + heard.used, sizeof(heard.text) - heard.used, format, args);
        va_end(args);
        assert_true(heard.used < sizeof(heard.text));
}

/* ---- the toy ---- */

struct toy {
        struct connection *c;
        char way[DIRECTIONS];
        uint64_t skip[DIRECTIONS];
};

static enum protocol_match toy_match(const uint8_t *data, size_t n) {
        if (data[0] == 'M')
                return n < 3 ? MATCH_MORE : data[2] == 'Q' ? MATCH_REQUEST : MATCH_NO;
        return data[0] == 'Q' || data[0] == 'U' || data[0] == 'B' ? MATCH_REQUEST : data[0] == 'A' ? MATCH_ANSWER : MATCH_NO;
}

static void toy_start(void *state, struct connection *c, const struct protocol_options *options, enum exchange_role role) {
        struct toy *t = state;
        (void)options;
        t->c = c;
        say("%s ", role == EXCHANGE_SERVER ? "server" : "client");
}

static int toy_data(void *state, const struct chunk *k) {
        struct toy *t = state;
        say("%s%s@%llu:%.*s ", k->direction == DIRECTION_IN ? "in" : "out", k->turn ? "!" : "", (unsigned long long)k->end_ns / NS, (int)TEL_MIN(k->n, (size_t)8),
            (const char *)k->data);
        heard.opens = k->opens_call;
        if (k->data[0] == 'U')
                connection_upgraded(t->c);
        if (k->data[0] == 'B')
                t->skip[k->direction] = (uint64_t)(k->data[1] - '0') * 10000;
        return k->data[0] == 'E' ? -EPROTO : 0;
}

static void toy_gap(void *state, const struct chunk *k, uint64_t bytes) {
        struct toy *t = state;
        t->skip[k->direction] -= TEL_MIN(bytes, t->skip[k->direction]);
        say("gap-%s%s:%llu ", k->direction == DIRECTION_IN ? "in" : "out", k->turn ? "!" : "", (unsigned long long)bytes);
}

static void toy_end(void *state, enum direction d, uint64_t now_ns) {
        (void)state, (void)now_ns;
        say("end-%s ", d == DIRECTION_IN ? "in" : "out");
}

static uint64_t toy_skip(const void *state, enum direction d) {
        return ((const struct toy *)state)->skip[d];
}

static void toy_done(void *state) {
        (void)state;
        say("done ");
}

static const struct protocol toy = { "toy", sizeof(struct toy), toy_match, toy_start, toy_data, toy_gap, toy_end, toy_skip, toy_done, NULL };
static const struct protocol *const table[] = { &toy, NULL };

/* ---- the table ---- */

static void on_verdict(void *ctx, uint64_t connection, const struct probe_verdict *v) {
        (void)ctx, (void)connection;
        heard.verdict = *v;
        heard.verdicts++;
}

static void on_gone(void *ctx, uint64_t connection) {
        (void)ctx, (void)connection;
        heard.gone++;
}

static struct connections *t;
static struct process *process;
static uint64_t offsets[2];
static uint32_t seqs[2];
static uint64_t now;
static int kernel_last;                            /* direction of the latest call, as the kernel side keeps it; -1: none */
static uint32_t kernel_turn;

static int set_up(void **state) {
        static const struct exchange_sink nobody;
        static const struct protocol_options options;
        (void)state;
        memset(&heard, 0, sizeof(heard));
        memset(offsets, 0, sizeof(offsets));
        seqs[0] = 1000, seqs[1] = 5000;
        now = 0;
        kernel_last = -1;
        kernel_turn = 0;
        process = calloc(1, sizeof(*process));
        process->refs = 1;
        t = connections_new(&(struct connections_options){ .sink = &nobody, .protocol_options = &options, .protocols = table, .verdict = on_verdict,
                                                           .gone = on_gone });
        return 0;
}

static int tear_down(void **state) {
        (void)state;
        t = connections_free(t);
        assert_int_equal(process->refs, 1);        /* every connection gave its reference back */
        process_unref(process);
        return 0;
}

/* The kernel side's account of a call. Returns whether it opened a turn. */
static bool counted(bool out, uint32_t bytes) {
        bool turn = kernel_last != (int)out;
        kernel_last = out;
        kernel_turn += turn && !out;
        offsets[out] += bytes;
        seqs[out] += bytes;
        return turn;
}

/* Another connection: the counts begin anew. */
static void another(void) {
        offsets[0] = offsets[1] = 0;
        kernel_last = -1;
        kernel_turn = 0;
}

/* A call that moved text and `more` bytes behind it that were not captured. */
static void moved(uint64_t id, bool out, const char *text, uint32_t more, uint8_t flags) {
        struct probe_data d = { .head = { .kind = PROBE_DATA, .flags = flags | (out ? PROBE_OUT : 0) | PROBE_SEQ, .tgid = 1, .tid = 1, .time_ns = ++now * NS },
                                .connection = id, .offset = offsets[out], .bytes = (uint32_t)strlen(text) + more, .captured = (uint32_t)strlen(text),
                                .seq = seqs[out] };
        d.head.size = (uint32_t)(sizeof(d) + d.captured);
        d.start_ns = d.head.time_ns;
        if (d.bytes > 0 && counted(out, d.bytes))
                d.head.flags |= PROBE_TURN;
        d.turn = kernel_turn;
        connections_data(t, process, &d, (const uint8_t *)text);
}

static void in(const char *text) {
        moved(1, false, text, 0, 0);
}

static void out(const char *text) {
        moved(1, true, text, 0, 0);
}

static void shut(uint64_t id, uint32_t tcp_state) {
        connections_shut(t, &(struct probe_shut){ .head = { .kind = PROBE_SHUT, .time_ns = ++now * NS }, .connection = id, .state = tcp_state });
}

/* ---- tests ---- */

/* Who receives requests serves; who sends them asks; an answer alone tells, too. */
static void test_roles(void **state) {
        (void)state;
        in("Q1\n");
        out("A1\n");
        assert_string_equal(heard.text, "server in!@1:Q1\n out!@2:A1\n ");
        heard.used = 0;
        another();
        moved(2, true, "Q1\n", 0, 0);
        another();
        moved(3, true, "A1\n", 0, 0);
        another();
        moved(4, false, "A1\n", 0, 0);
        assert_string_equal(heard.text, "client out!@3:Q1\n server out!@4:A1\n client in!@5:A1\n ");
}

/* First bytes that come one at a time are kept until they tell, and carry the time of the first call. */
static void test_first_bytes_split(void **state) {
        (void)state;
        in("M");
        in("x");
        in("Q");
        in("\n");
        assert_string_equal(heard.text, "server in!@1:Mx in@3:Q in@4:\n ");
}

/* What matches nothing is looked at again at each turn, a few times; then the kernel side is told to leave it alone. */
static void test_unknown_is_ignored(void **state) {
        struct connections_stats s;
        (void)state;
        for (int i = 0; i < CONNECTION_TRIES; i++) {
                assert_int_equal(heard.verdicts, 0);
                i % 2 ? out("zzz") : in("zzz");
        }
        assert_int_equal(heard.verdict.ignore, 1);
        in("Q1\n");
        assert_string_equal(heard.text, "");
        connections_get_stats(t, &s);
        assert_int_equal(s.unknown, 1);
}

/* A connection joined in the middle of something is followed from its next request on. */
static void test_joined_late(void **state) {
        (void)state;
        in("half of something");
        in("Q not at a turn\n");
        out("and an answer");
        in("Q1\n");
        assert_string_equal(heard.text, "server in!@4:Q1\n ");
}

static void test_lost_events_are_gaps(void **state) {
        struct connections_stats s;
        (void)state;
        connections_open(t, process, &(struct probe_open){ .head = { .kind = PROBE_OPEN, .flags = PROBE_PASSIVE }, .connection = 1, .family = 2 });
        in("Q1\n");
        counted(true, 700);                        /* an answer nobody saw, and the first part of the next request */
        counted(false, 10);
        in("Q2\n");
        out("A2\n");
        assert_string_equal(heard.text, "server in!@1:Q1\n gap-in!:10 in@2:Q2\n gap-out!:700 out!@3:A2\n ");
        heard.used = 0;
        counted(false, 5);                         /* a whole request, and its answer */
        counted(true, 5);
        in("Q4\n");
        assert_string_equal(heard.text, "gap-in!:5 in!@4:Q4\n ");
        connections_get_stats(t, &s);
        assert_int_equal(s.gaps, 3);
        assert_int_equal(s.gap_bytes, 715);
}

/* Bytes taken by a call that nobody sees (splice) move TCP's count alone; on sending, other threads do, too. */
static void test_unseen_calls_are_gaps(void **state) {
        (void)state;
        in("Q1\n");
        seqs[0] += 33;
        in("Q2\n");
        out("A1\n");
        seqs[1] += 44;
        out("A2\n");
        assert_string_equal(heard.text, "server in!@1:Q1\n gap-in:33 in@2:Q2\n out!@3:A1\n out@4:A2\n ");
}

static void test_bytes_behind_the_captured(void **state) {
        (void)state;
        moved(1, false, "Q1\n", 5000, 0);
        moved(1, true, "", 300, 0);                /* nothing captured at all: sendfile */
        assert_string_equal(heard.text, "server in!@1:Q1\n gap-in:5000 gap-out!:300 ");
}

/* The kernel side saw a turn of which the other half never came. */
static void test_turn_by_the_kernel(void **state) {
        (void)state;
        in("Q1\n");
        moved(1, false, "Q2\n", 0, PROBE_TURN);
        assert_string_equal(heard.text, "server in!@1:Q1\n in!@2:Q2\n ");
}

/* Where a call begins is known from the end of the one before, if nothing was lost between. */
static void test_beginnings_of_calls(void **state) {
        (void)state;
        in("Q1\n");
        assert_true(heard.opens);
        in("Q2\n");
        assert_false(heard.opens);                 /* the first was not the last piece of its call */
        moved(1, false, "Q3\n", 70000, PROBE_END);
        assert_false(heard.opens);
        moved(1, false, "Q4\n", 0, PROBE_END);
        assert_true(heard.opens);
        counted(false, 10);
        moved(1, false, "Q5\n", 0, PROBE_END);
        assert_false(heard.opens);                 /* what was lost may have been pieces of this call */
        moved(1, true, "A1\n", 0, PROBE_END);
        counted(true, 10);
        moved(1, true, "A2\n", 0, PROBE_TURN);
        assert_true(heard.opens);
}

static void test_ends(void **state) {
        struct connections_stats s;
        (void)state;
        in("Q1\n");
        shut(1, TCP_FIN_WAIT1);                    /* shutdown(SHUT_WR): the other direction goes on */
        shut(1, TCP_FIN_WAIT1);
        in("Q2\n");
        moved(1, false, "", 0, PROBE_EOF);
        assert_string_equal(heard.text, "server in!@1:Q1\n end-out in@4:Q2\n end-in ");
        assert_int_equal(heard.gone, 0);
        shut(1, TCP_CLOSE);
        assert_string_equal(heard.text, "server in!@1:Q1\n end-out in@4:Q2\n end-in done ");
        assert_int_equal(heard.gone, 1);
        shut(1, TCP_CLOSE);
        shut(77, TCP_CLOSE);                       /* never heard of */
        connections_get_stats(t, &s);
        assert_int_equal(s.open, 0);
}

/* Once plaintext comes, it is a stream of its own, and ciphertext is nothing. */
static void test_plaintext_replaces_ciphertext(void **state) {
        (void)state;
        moved(1, false, "\x16\x03\x01", 0, PROBE_CIPHER);
        assert_int_equal(connections_find(t, 1)->tls, TLS_SEEN);
        offsets[0] = offsets[1] = 0;
        moved(1, false, "Q1\n", 0, PROBE_PLAIN);
        uint64_t plain = offsets[0];
        offsets[0] = 4711;
        in("ciphertext");
        offsets[0] = plain;
        moved(1, true, "A1\n", 0, PROBE_PLAIN);
        assert_string_equal(heard.text, "server in!@2:Q1\n out!@4:A1\n ");
        assert_int_equal(connections_find(t, 1)->tls, TLS_PLAIN);
}

/* STARTTLS, as PostgreSQL's SSLRequest: what was said in the clear is over, and the plaintext is looked at anew. */
static void test_plaintext_behind_clear_text(void **state) {
        (void)state;
        in("Q1\n");
        out("A1\n");
        another();
        moved(1, false, "Q2\n", 0, PROBE_PLAIN);
        moved(1, true, "A2\n", 0, PROBE_PLAIN);
        assert_string_equal(heard.text, "server in!@1:Q1\n out!@2:A1\n done server in!@3:Q2\n out!@4:A2\n ");
}

/* A connection counts as encrypted from its first record on, until its plaintext is seen; once, and for its process. */
static void test_encrypted_connections_are_counted(void **state) {
        struct connections_stats s;
        (void)state;
        moved(1, false, "\x16\x03\x01", 0, PROBE_CIPHER);
        moved(1, true, "\x16\x03\x03", 0, PROBE_CIPHER);
        connections_get_stats(t, &s);
        assert_int_equal(s.encrypted, 1);
        assert_int_equal(process->encrypted, 1);
        another();                                 /* plaintext counts anew */
        moved(1, false, "Q1\n", 0, PROBE_PLAIN);
        moved(1, true, "A1\n", 0, PROBE_PLAIN);
        connections_get_stats(t, &s);
        assert_int_equal(s.encrypted, 0);
        assert_int_equal(process->encrypted, 0);
        another();
        moved(2, false, "Q1\n", 0, PROBE_PLAIN);          /* read from its first byte on: never counted, so never taken back */
        another();
        moved(3, false, "\x16\x03\x01", 0, PROBE_CIPHER);
        shut(3, TCP_CLOSE);
        connections_get_stats(t, &s);
        assert_int_equal(s.encrypted, 1);
        assert_int_equal(process->encrypted, 1);
}

/* Bytes that a parser needs no more are told once, and only when they are many. */
static void test_skip_is_told(void **state) {
        (void)state;
        in("B0\n");
        assert_int_equal(heard.verdicts, 0);
        in("B2\n");
        assert_int_equal(heard.verdicts, 1);
        assert_int_equal(heard.verdict.skip_in, 6 + 20000);
        assert_int_equal(heard.verdict.skip_out, 0);
}

/* What a call moved beyond what was captured of it is a part of what may be skipped, and not skipped twice. */
static void test_skip_behind_a_short_capture(void **state) {
        (void)state;
        moved(1, true, "B2\n", 15000, 0);
        assert_int_equal(heard.verdict.skip_out, 3 + 20000);
}

static void test_upgrade_ends_the_parser(void **state) {
        (void)state;
        in("U\n");
        in("Q1\n");
        assert_string_equal(heard.text, "server in!@1:U\n done ");
        assert_int_equal(heard.verdict.ignore, 1);
}

/* A parser that was wrong about the protocol: the next turn is looked at anew. */
static void test_protocol_error(void **state) {
        (void)state;
        in("Q1\n");
        in("E\n");
        in("Q2 in the same turn\n");
        out("zz");
        in("Q3\n");
        assert_string_equal(heard.text, "server in!@1:Q1\n in@2:E\n done server in!@5:Q3\n ");
}

static void test_process_ends(void **state) {
        (void)state;
        in("Q1\n");
        moved(2, false, "Q1\n", 0, 0);
        connections_drop_process(t, process, 9 * NS);
        assert_int_equal(heard.gone, 2);
        assert_null(connections_find(t, 1));
}

/* The table has a bound; the connection that was quiet longest goes. */
static void test_the_oldest_goes(void **state) {
        struct connections_stats s;
        (void)state;
        for (uint64_t id = 1; id <= CONNECTIONS_MAX + 1; id++) {
                another();
                moved(id, false, "zz", 0, 0);
                if (id == 2)
                        moved(1, false, "zz", 0, 0);       /* 1 was used again: 2 is older */
        }
        connections_get_stats(t, &s);
        assert_int_equal(s.open, CONNECTIONS_MAX);
        assert_int_equal(s.evicted, 1);
        assert_non_null(connections_find(t, 1));
        assert_null(connections_find(t, 2));
}

/* Nobody tells the end of a Unix socket; TCP's is told, so it may be quiet for long. */
static void test_sweep(void **state) {
        (void)state;
        connections_open(t, process, &(struct probe_open){ .head = { .kind = PROBE_OPEN }, .connection = 1, .family = 1 });
        connections_open(t, process, &(struct probe_open){ .head = { .kind = PROBE_OPEN }, .connection = 2, .family = 2 });
        in("Q1\n");
        moved(2, false, "Q1\n", 0, 0);
        connections_sweep(t, 100 * NS, 200 * NS);
        assert_int_equal(heard.gone, 0);
        connections_sweep(t, 300 * NS, 200 * NS);
        assert_null(connections_find(t, 1));
        assert_non_null(connections_find(t, 2));
        connections_sweep(t, 3000 * NS, 200 * NS);
        assert_null(connections_find(t, 2));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* It comes before the connection's first event, and stays for the request that fits. Nobody keeps that of a process that is not observed. */
static void test_inject_before_the_first_bytes(void **state) {
        (void)state;
        struct probe_inject e = { .head = { .kind = PROBE_INJECT, .flags = PROBE_INJECT_SENT | PROBE_INJECT_SAMPLED }, .connection = 77, .seq = 9,
                                  .trace_id = { 1 }, .span_id = { 2 } };
        connections_inject(t, NULL, &e);
        assert_null(connections_find(t, 77));
        connections_inject(t, process, &e);
        struct connection *c = connections_find(t, 77);
        assert_non_null(c);
        connections_open(t, process, &(struct probe_open){ .connection = 77 });
        assert_ptr_equal(connections_find(t, 77), c);
        assert_true(c->injected.present && c->injected.sampled && c->injected.seq == 9 && c->injected.trace_id[0] == 1 && c->injected.span_id[0] == 2);
        e.seq = 10;
        connections_inject(t, process, &e);        /* the call failed, and was made again */
        assert_int_equal(c->injected.seq, 10);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_roles), TEST(test_first_bytes_split), TEST(test_unknown_is_ignored), TEST(test_joined_late), TEST(test_lost_events_are_gaps),
                TEST(test_unseen_calls_are_gaps), TEST(test_bytes_behind_the_captured), TEST(test_turn_by_the_kernel), TEST(test_beginnings_of_calls),
                TEST(test_ends),
                TEST(test_plaintext_replaces_ciphertext), TEST(test_plaintext_behind_clear_text), TEST(test_encrypted_connections_are_counted),
                TEST(test_skip_is_told), TEST(test_skip_behind_a_short_capture),
                TEST(test_upgrade_ends_the_parser), TEST(test_protocol_error),
                TEST(test_process_ends), TEST(test_the_oldest_goes), TEST(test_sweep), TEST(test_inject_before_the_first_bytes),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
