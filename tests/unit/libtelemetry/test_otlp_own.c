/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "libtelemetry/cursor.h"
#include "libtelemetry/otlp.h"

/* The nth field of a number within a message; fails when there is none. */
static struct tel_field nth(struct tel_field in, uint32_t number, unsigned n) {
        struct tel_field f;
        for (const uint8_t *p = in.at; p < in.at + in.value; p = f.end) {
                assert_int_equal(tel_field_get(p, in.at + in.value, &f), 0);
                if (f.number == number && n-- == 0)
                        return f;
        }
        fail_msg("no field %u", number);
        return f;
}

static struct tel_field first(struct tel_field in, uint32_t number) {
        return nth(in, number, 0);
}

static unsigned count(struct tel_field in, uint32_t number) {
        struct tel_field f;
        unsigned n = 0;
        for (const uint8_t *p = in.at; p < in.at + in.value; p = f.end) {
                assert_int_equal(tel_field_get(p, in.at + in.value, &f), 0);
                n += f.number == number;
        }
        return n;
}

static struct tel_field whole(const struct tel_buf *b) {
        return (struct tel_field){ .at = b->data, .value = b->len };
}

static void assert_text(struct tel_field f, const char *want) {
        assert_int_equal(f.wire, TEL_WIRE_BYTES);
        assert_int_equal(f.value, strlen(want));
        assert_memory_equal(f.at, want, strlen(want));
}

/* The nth KeyValue of field number is key = the string value. */
static void assert_attribute(struct tel_field in, uint32_t number, unsigned n, const char *key, const char *value) {
        struct tel_field kv = nth(in, number, n);
        assert_text(first(kv, 1), key);
        assert_text(first(first(kv, 2), 1), value);
}

/* Request -> resource -> scope -> the one item. */
static struct tel_field item(const struct tel_buf *b) {
        return first(first(first(whole(b), 1), 2), 2);
}

/* A span with everything set has everything in its place. */
static void test_span_whole(void **state) {
        (void)state;
        const struct tel_attribute a[] = { { "http.route", "/x" }, { NULL, "x" }, { "absent", NULL }, { "empty", "" } };
        const struct tel_span span = {
                .service = "shop", .name = "GET /x", .trace_id = { 1, 2, [15] = 3 }, .span_id = { 4, [7] = 5 }, .parent_span_id = { 6 },
                .kind = 2, .start_ns = 1000, .end_ns = 2000, .status = 2, .status_message = "no", .attributes = a, .n_attributes = 4,
        };
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *b = tel_buf_new(NULL, 0);
        assert_int_equal(tel_otlp_span_put(b, &span, 4096), 0);
        assert_attribute(first(first(whole(b), 1), 1), 1, 0, "service.name", "shop");
        struct tel_field s = item(b);
        assert_int_equal(first(s, 1).value, 16);
        assert_memory_equal(first(s, 1).at, span.trace_id, 16);
        assert_int_equal(first(s, 2).value, 8);
        assert_memory_equal(first(s, 2).at, span.span_id, 8);
        assert_memory_equal(first(s, 4).at, span.parent_span_id, 8);
        assert_text(first(s, 5), "GET /x");
        assert_int_equal(first(s, 6).value, 2);
        assert_int_equal(first(s, 7).wire, TEL_WIRE_FIXED64);
        assert_int_equal(first(s, 7).value, 1000);
        assert_int_equal(first(s, 8).value, 2000);
        assert_int_equal(count(s, 9), 2);
        assert_attribute(s, 9, 0, "http.route", "/x");
        assert_attribute(s, 9, 1, "empty", "");
        assert_text(first(first(s, 15), 2), "no");
        assert_int_equal(first(first(s, 15), 3).value, 2);
}

/* What is not given is absent; ids are drawn, and drawn anew. */
static void test_span_bare(void **state) {
        (void)state;
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *b = tel_buf_new(NULL, 0);
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *second = tel_buf_new(NULL, 0);
        assert_int_equal(tel_otlp_span_put(b, &(struct tel_span){ 0 }, 4096), 0);
        assert_int_equal(tel_otlp_span_put(second, &(struct tel_span){ 0 }, 4096), 0);
        struct tel_field s = item(b), t = item(second);
        assert_int_equal(count(first(whole(b), 1), 1), 0);
        static const uint32_t absent[] = { 4, 5, 6, 7, 8, 9, 15 };
        for (size_t i = 0; i < TEL_ARRAY_LEN(absent); i++)
                assert_int_equal(count(s, absent[i]), 0);
        assert_int_equal(first(s, 1).value, 16);
        assert_int_equal(first(s, 2).value, 8);
        assert_memory_not_equal(first(s, 1).at, (uint8_t[16]){ 0 }, 16);
        assert_memory_not_equal(first(s, 1).at, first(t, 1).at, 16);
        assert_memory_not_equal(first(s, 2).at, first(t, 2).at, 8);
}

/* A log has its body, both severities, its time twice, and its attributes. */
static void test_log(void **state) {
        (void)state;
        const struct tel_attribute a[] = { { "disk", "sda" } };
        const struct tel_log log = { .service = "backup", .body = "disk full", .level = "WARNING", .time_ns = 42, .attributes = a, .n_attributes = 1 };
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *b = tel_buf_new(NULL, 0);
        assert_int_equal(tel_otlp_log_put(b, &log, 4096), 0);
        assert_attribute(first(first(whole(b), 1), 1), 1, 0, "service.name", "backup");
        struct tel_field l = item(b);
        assert_int_equal(first(l, 1).value, 42);
        assert_int_equal(first(l, 11).value, 42);
        assert_int_equal(first(l, 2).value, 13);
        assert_text(first(l, 3), "WARNING");
        assert_text(first(first(l, 5), 1), "disk full");
        assert_attribute(l, 6, 0, "disk", "sda");
        b->len = 0;
        assert_int_equal(tel_otlp_log_put(b, &(struct tel_log){ .body = "" }, 4096), 0);
        assert_int_equal(first(item(b), 2).value, 9);
        assert_text(first(first(item(b), 5), 1), "");
        b->len = 0;
        assert_int_equal(tel_otlp_log_put(b, &(struct tel_log){ 0 }, 4096), 0);
        assert_int_equal(count(item(b), 5), 0);
}

/* Bytes that are no UTF-8 would have the record refused: they become U+FFFD and the rest arrives. */
static void test_text_repaired(void **state) {
        (void)state;
        const struct tel_attribute a[] = { { "k\xff", "\xc3" } };
        const struct tel_log log = { .body = "\xe9t\xe9 \xc3\xa9", .attributes = a, .n_attributes = 1 };
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *b = tel_buf_new(NULL, 0);
        assert_int_equal(tel_otlp_log_put(b, &log, 4096), 0);
        assert_text(first(first(item(b), 5), 1), "\xef\xbf\xbdt\xef\xbf\xbd \xc3\xa9");
        assert_attribute(item(b), 6, 0, "k\xef\xbf\xbd", "\xef\xbf\xbd");
}

/* What cannot be encoded is refused with out untouched. */
static void test_refused(void **state) {
        (void)state;
        struct tel_attribute a[TEL_ATTRIBUTES_MAX + 1];
        for (size_t i = 0; i < TEL_ARRAY_LEN(a); i++)
                a[i] = (struct tel_attribute){ "k", "v" };
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *b = tel_buf_new(NULL, 0);
        assert_int_equal(tel_buf_append(b, "before", 6, 100), 0);
        assert_int_equal(tel_otlp_log_put(b, &(struct tel_log){ .level = "loud" }, 4096), -EINVAL);
        assert_int_equal(tel_otlp_log_put(b, &(struct tel_log){ .level = "" }, 4096), -EINVAL);
        assert_int_equal(tel_otlp_log_put(b, &(struct tel_log){ .attributes = a, .n_attributes = TEL_ATTRIBUTES_MAX + 1 }, 4096), -EINVAL);
        assert_int_equal(tel_otlp_span_put(b, &(struct tel_span){ .attributes = a, .n_attributes = TEL_ATTRIBUTES_MAX + 1 }, 4096), -EINVAL);
        assert_int_equal(tel_otlp_span_put(b, &(struct tel_span){ .kind = 6 }, 4096), -EINVAL);
        assert_int_equal(tel_otlp_span_put(b, &(struct tel_span){ .status = -1 }, 4096), -EINVAL);
        assert_int_equal(tel_otlp_log_put(b, &(struct tel_log){ .body = "0123456789" }, 20), -EMSGSIZE);
        assert_int_equal(b->len, 6);
        assert_int_equal(tel_otlp_log_put(b, &(struct tel_log){ .attributes = a, .n_attributes = TEL_ATTRIBUTES_MAX }, 4096), 0);
        assert_memory_equal(b->data, "before", 6);
}

static int take_record(void *ctx, const struct tel_otlp_record *record, uint8_t **ret_space) {
        assert_int_equal(record->items, 1);
        assert_true(record->bytes <= 4096);
        *ret_space = ctx;
        return 0;
}

/* What we write passes the door that every request passes, repaired texts and odd attributes included. */
static void test_passes_the_door(void **state) {
        (void)state;
        static uint8_t space[4096];
        const struct tel_attribute a[] = { { "k\xff", "\xc3" }, { "empty", "" } };
        const struct tel_otlp_limits limits = { 1000, 4096 };
        struct tel_otlp_result result;
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *b = tel_buf_new(NULL, 0);
        assert_int_equal(tel_otlp_span_put(b, &(struct tel_span){ .service = "s", .name = "n\xff", .end_ns = 5, .status_message = "",
                                                                  .attributes = a, .n_attributes = 2 }, 4096), 0);
        assert_int_equal(tel_otlp_cut(TEL_TRACES, b->data, b->len, NULL, 0, &limits, take_record, space, &result), 0);
        assert_int_equal(result.items, 1);
        assert_int_equal(result.rejected, 0);
        b->len = 0;
        assert_int_equal(tel_otlp_log_put(b, &(struct tel_log){ .body = "\xff", .attributes = a, .n_attributes = 2 }, 4096), 0);
        assert_int_equal(tel_otlp_cut(TEL_LOGS, b->data, b->len, NULL, 0, &limits, take_record, space, &result), 0);
        assert_int_equal(result.items, 1);
        assert_int_equal(result.rejected, 0);
}

/* Level names of loggers and of syslog, in any case. */
static void test_severity(void **state) {
        (void)state;
        static const struct {
                const char *name;
                int number;
        } cases[] = {
                { "trace", 1 }, { "Debug", 5 }, { "INFO", 9 }, { "notice", 10 }, { "warn", 13 }, { "Warning", 13 }, { "err", 17 },
                { "ERROR", 17 }, { "crit", 18 }, { "fatal", 21 }, { "", 0 }, { "infos", 0 }, { "9", 0 },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++)
                assert_int_equal(tel_otlp_severity(cases[i].name), cases[i].number);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_span_whole),
                cmocka_unit_test(test_span_bare),
                cmocka_unit_test(test_log),
                cmocka_unit_test(test_text_repaired),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_passes_the_door),
                cmocka_unit_test(test_severity),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
