/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/beylad/protocols/harness.h"

/* What the sink heard, in order. */
struct heard {
        char text[1024];
        bool refuse;
        struct exchange *ended;
};

static void hear(struct heard *h, const char *what) {
        strcat(strcat(h->text, what), " ");
}

static bool on_begun(void *ctx, struct exchange *x, const struct chunk *at) {
        struct heard *h = ctx;
        (void)x, (void)at;
        hear(h, "begun");
        return !h->refuse;
}

static void on_asked(void *ctx, struct exchange *x, const struct chunk *at) {
        (void)at;
        assert_int_equal(x->state, EXCHANGE_ASKED);
        hear(ctx, "asked");
}

static void on_ended(void *ctx, struct exchange *x) {
        struct heard *h = ctx;
        assert_int_equal(x->connection->open_exchanges, 0);
        h->ended = x;
        hear(h, "ended");
}

static void on_dropped(void *ctx, struct exchange *x, bool counted) {
        (void)x;
        hear(ctx, counted ? "counted" : "uncounted");
}

static void on_lost(void *ctx, struct connection *c, uint64_t n) {
        (void)c, (void)n;
        hear(ctx, "lost");
}

struct fixture {
        struct heard heard;
        struct exchange_sink sink;
        struct connection *c;
};

static int setup(void **state) {
        struct fixture *f = calloc(1, sizeof(*f));
        f->sink = (struct exchange_sink){ &f->heard, on_begun, on_asked, on_ended, on_dropped, on_lost };
        f->c = calloc(1, sizeof(*f->c) + HARNESS_TABLE_ROOM);
        f->c->sink = &f->sink;
        f->c->refs = 1;
        *state = f;
        return 0;
}

static int teardown(void **state) {
        struct fixture *f = *state;
        assert_int_equal(f->c->refs, 1);
        assert_int_equal(f->c->open_exchanges, 0);
        connection_unref(f->c);
        free(f);
        return 0;
}

static const struct chunk first = { .start_ns = 10, .end_ns = 20, .seq = 7, .has_seq = true };

/* A server's exchange starts when its request was read, a client's when the call that sends it begins. */
static void test_life(void **state) {
        struct fixture *f = *state;
        struct exchange *x = exchange_begin(f->c, EXCHANGE_HTTP, EXCHANGE_SERVER, &first);
        assert_int_equal(x->start_ns, 20);
        assert_int_equal(x->seq, 7);
        assert_true(x->has_seq);
        assert_int_equal(x->status, -1);
        assert_int_equal(x->request_bytes, -1);
        assert_int_equal(x->response_bytes, -1);
        assert_int_equal(f->c->refs, 2);
        assert_int_equal(f->c->open_exchanges, 1);
        exchange_asked(x, &first);
        exchange_answered(x, &(struct chunk){ .end_ns = 30 });
        exchange_answered(x, &(struct chunk){ .end_ns = 40 });         /* once */
        exchange_end(x, &(struct chunk){ .end_ns = 50 });
        assert_ptr_equal(f->heard.ended, x);
        assert_int_equal(x->answer_ns, 30);
        assert_int_equal(x->end_ns, 50);
        assert_null(exchange_free(x));

        x = exchange_begin(f->c, EXCHANGE_DB, EXCHANGE_CLIENT, &first);
        assert_int_equal(x->start_ns, 10);
        f->c->last_ns = 60;
        exchange_end(x, NULL);                     /* the connection's last call counts */
        assert_int_equal(x->end_ns, 60);
        exchange_free(x);
        assert_string_equal(f->heard.text, "begun asked ended begun ended ");
        assert_null(exchange_free(NULL));
}

/* Clocks of two calls may cross: an exchange never ends before it starts. */
static void test_ends_after_start(void **state) {
        struct fixture *f = *state;
        struct exchange *x = exchange_begin(f->c, EXCHANGE_HTTP, EXCHANGE_SERVER, &first);
        exchange_end(x, &(struct chunk){ .end_ns = 15 });
        assert_int_equal(x->end_ns, 20);
        exchange_free(x);
}

static void test_drop(void **state) {
        struct fixture *f = *state;
        exchange_drop(exchange_begin(f->c, EXCHANGE_HTTP, EXCHANGE_SERVER, &first), false);
        exchange_drop(exchange_begin(f->c, EXCHANGE_HTTP, EXCHANGE_SERVER, &first), true);
        f->heard.refuse = true;                    /* over a bound of the sink's: counted there */
        assert_null(exchange_begin(f->c, EXCHANGE_HTTP, EXCHANGE_SERVER, &first));
        assert_string_equal(f->heard.text, "begun uncounted begun counted begun counted ");
}

static void set(struct exchange *x, const char *text, size_t n) {
        assert_int_equal(exchange_set(x, FIELD_PATH, text, n), 0);
}

static void test_texts(void **state) {
        struct fixture *f = *state;
        static const struct {
                const char *given, *kept;
        } rows[] = {
                { "/a", "/a" }, { "", "" }, { "a\r\nb\x7f\x1b[0m", "a??b??[0m" }, { "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80" },
                { "\xff\xfe", "??" }, { "\xc0\xaf", "??" }, { "\xed\xa0\x80", "???" }, { "\xf4\x90\x80\x80", "????" }, { "a\xc3", "a?" }, { "\xe2\x82", "??" },
        };
        struct exchange *x = exchange_begin(f->c, EXCHANGE_HTTP, EXCHANGE_SERVER, &first);
        assert_null(exchange_get(x, FIELD_PATH));
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++) {
                set(x, rows[i].given, strlen(rows[i].given));
                assert_string_equal(exchange_get(x, FIELD_PATH), rows[i].kept);
        }
        set(x, "a\0b", 3);                         /* a NUL would end the text for whoever reads it */
        assert_string_equal(exchange_get(x, FIELD_PATH), "a?b");
        assert_int_equal(exchange_set(x, FIELD_METHOD, "GET", 3), 0);
        assert_string_equal(exchange_get(x, FIELD_METHOD), "GET");
        assert_string_equal(exchange_get(x, FIELD_PATH), "a?b");
        exchange_drop(x, false);
}

/* The cut lies between two characters, wherever it falls. */
static void test_cut(void **state) {
        struct fixture *f = *state;
        struct exchange *x = exchange_begin(f->c, EXCHANGE_HTTP, EXCHANGE_SERVER, &first);
        for (size_t before = EXCHANGE_FIELD_MAX - 5; before <= EXCHANGE_FIELD_MAX + 1; before++) {
                char long_text[EXCHANGE_FIELD_MAX + 32];
                memset(long_text, 'a', sizeof(long_text));
                memcpy(long_text + before, "\xf0\x9f\x98\x80", 4);
                set(x, long_text, sizeof(long_text));
                const char *kept = exchange_get(x, FIELD_PATH);
                size_t n = strlen(kept);
                assert_memory_equal(kept, long_text, n);
                assert_int_equal(n, before + 4 <= EXCHANGE_FIELD_MAX ? EXCHANGE_FIELD_MAX : TEL_MIN(before, (size_t)EXCHANGE_FIELD_MAX));
        }
        char noise[2 * EXCHANGE_FIELD_MAX];
        memset(noise, 0x80, sizeof(noise));
        set(x, noise, sizeof(noise));
        assert_int_equal(strlen(exchange_get(x, FIELD_PATH)), EXCHANGE_FIELD_MAX);
        exchange_drop(x, false);
}

static void test_headers(void **state) {
        struct fixture *f = *state;
        struct exchange *x = exchange_begin(f->c, EXCHANGE_HTTP, EXCHANGE_SERVER, &first);
        for (unsigned i = 0; i < EXCHANGE_HEADERS_MAX + 3; i++) {
                char value[16];
                int n = snprintf(value, sizeof(value), "v%u", i);
                exchange_add_header(x, "x-name", 6, value, (size_t)n);
        }
        assert_int_equal(x->n_headers, EXCHANGE_HEADERS_MAX);
        assert_memory_equal(x->text + x->headers[0] - 1, "x-name\0v0", 10);
        assert_memory_equal(x->text + x->headers[EXCHANGE_HEADERS_MAX - 1] - 1, "x-name\0v15", 11);
        exchange_drop(x, false);
}

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define SPAN "b7ad6b7169203331"

/* W3C Trace Context, section 3.2. */
static void test_traceparent(void **state) {
        struct fixture *f = *state;
        static const struct {
                const char *value;
                bool valid, sampled;
        } rows[] = {
                { "00-" TRACE "-" SPAN "-01", true, true },
                { "00-" TRACE "-" SPAN "-00", true, false },
                { "00-" TRACE "-" SPAN "-03", true, true },            /* flags of later levels */
                { "00-" TRACE "-" SPAN "-fe", true, false },
                { "01-" TRACE "-" SPAN "-01", true, true },            /* a later version, as far as it is known */
                { "cc-" TRACE "-" SPAN "-01-what-comes", true, true },
                { "cc-" TRACE "-" SPAN "-01.what", false, false },
                { "cc-" TRACE "-" SPAN "-01-", true, true },
                { "00-" TRACE "-" SPAN "-01-", false, false },         /* version 00 has nothing behind the flags */
                { "00-" TRACE "-" SPAN "-01-x", false, false },
                { "ff-" TRACE "-" SPAN "-01", false, false },
                { "0-" TRACE "-" SPAN "-01", false, false },
                { "00-" TRACE "-" SPAN "-1", false, false },
                { "00-" TRACE "-" SPAN "-", false, false },
                { "00-" TRACE "-" SPAN, false, false },
                { "", false, false },
                { "00-00000000000000000000000000000000-" SPAN "-01", false, false },
                { "00-" TRACE "-0000000000000000-01", false, false },
                { "00-0AF7651916CD43DD8448EB211C80319C-" SPAN "-01", false, false },
                { "00-" TRACE "-B7AD6B7169203331-01", false, false },
                { "0X-" TRACE "-" SPAN "-01", false, false },
                { "00-" TRACE "-" SPAN "-0x", false, false },
                { "00_" TRACE "-" SPAN "-01", false, false },
                { "00-" TRACE "_" SPAN "-01", false, false },
                { "00-" TRACE "-" SPAN "_01", false, false },
                { "00-0af7651916cd43dd8448eb211c80319-" SPAN "-011", false, false },
                { " 00-" TRACE "-" SPAN "-01", false, false },         /* white space around it is the parser's to take off */
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++) {
                struct exchange *x = exchange_begin(f->c, EXCHANGE_HTTP, EXCHANGE_SERVER, &first);
                size_t n = strlen(rows[i].value);
                uint8_t *copy = malloc(n + (n == 0));  /* exactly as large, so that a sanitizer sees a read behind it */
                memcpy(copy, rows[i].value, n);
                exchange_set_traceparent(x, copy, n);
                if (x->parent.present != rows[i].valid || x->parent.sampled != rows[i].sampled)
                        print_error("%s\n", rows[i].value);
                assert_int_equal(x->parent.present, rows[i].valid);
                assert_int_equal(x->parent.sampled, rows[i].sampled);
                if (x->parent.present) {
                        assert_memory_equal(x->parent.trace_id, "\x0a\xf7\x65\x19\x16\xcd\x43\xdd\x84\x48\xeb\x21\x1c\x80\x31\x9c", 16);
                        assert_memory_equal(x->parent.span_id, "\xb7\xad\x6b\x71\x69\x20\x33\x31", 8);
                }
                free(copy);
                exchange_drop(x, false);
                f->heard.text[0] = '\0';
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_life, setup, teardown),
                cmocka_unit_test_setup_teardown(test_ends_after_start, setup, teardown),
                cmocka_unit_test_setup_teardown(test_drop, setup, teardown),
                cmocka_unit_test_setup_teardown(test_texts, setup, teardown),
                cmocka_unit_test_setup_teardown(test_cut, setup, teardown),
                cmocka_unit_test_setup_teardown(test_headers, setup, teardown),
                cmocka_unit_test_setup_teardown(test_traceparent, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
