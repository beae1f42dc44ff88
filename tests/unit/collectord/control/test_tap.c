/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "collectord/control/tap.h"
#include "collectord/settings.h"
#include "libtelemetry/otlp.h"
#include "libtelemetry/otlp_json.h"

#define RESOURCE "{\"attributes\":[{\"key\":\"service.name\",\"value\":{\"stringValue\":\"checkout\"}},{\"key\":\"region\",\"value\":{\"stringValue\":\"eu\"}}]}"
static const char spans[] =
        "{\"resourceSpans\":[{\"resource\":" RESOURCE ",\"scopeSpans\":[{\"scope\":{\"name\":\"s\"},\"spans\":["
        "{\"traceId\":\"5b8efff798038103d269b633813fc60c\",\"spanId\":\"eee19b7ec3c1b174\",\"name\":\"GET /cart\",\"kind\":2,"
        "\"startTimeUnixNano\":\"1700000000123000000\",\"endTimeUnixNano\":\"1700000000135300000\",\"status\":{\"code\":2,\"message\":\"gone\"},"
        "\"attributes\":[{\"key\":\"http.status\",\"value\":{\"intValue\":\"502\"}},{\"key\":\"ok\",\"value\":{\"boolValue\":false}}]},"
        "{\"traceId\":\"5b8efff798038103d269b633813fc60d\",\"spanId\":\"eee19b7ec3c1b175\",\"name\":\"query\","
        "\"startTimeUnixNano\":\"1700000000124000000\",\"endTimeUnixNano\":\"1700000000124000500\"}]}]}]}";
static const char logs[] =
        "{\"resourceLogs\":[{\"resource\":" RESOURCE ",\"scopeLogs\":[{\"logRecords\":["
        "{\"timeUnixNano\":\"1700000000123000000\",\"severityNumber\":18,\"body\":{\"stringValue\":\"disk\\n\\u001b[31mfull \\u009b1m\"},"
        "\"attributes\":[{\"key\":\"path\",\"value\":{\"stringValue\":\"/a b\"}},{\"key\":\"x\",\"value\":{\"doubleValue\":0.1}}]},"
        "{\"severityText\":\"Warning\",\"body\":{\"kvlistValue\":{\"values\":[{\"key\":\"k\",\"value\":{\"arrayValue\":{\"values\":"
        "[{\"intValue\":\"1\"},{\"stringValue\":\"two\"}]}}}]}}},"
        "{\"severityNumber\":9,\"eventName\":\"login\",\"body\":{\"stringValue\":\"hello\"}}]}]}]}";
static const char metrics[] =
        "{\"resourceMetrics\":[{\"resource\":" RESOURCE ",\"scopeMetrics\":[{\"metrics\":["
        "{\"name\":\"depth\",\"unit\":\"1\",\"gauge\":{\"dataPoints\":[{\"timeUnixNano\":\"1700000000123000000\",\"asDouble\":0.5,"
        "\"attributes\":[{\"key\":\"q\",\"value\":{\"stringValue\":\"a\"}}]},{\"timeUnixNano\":\"1700000000123000000\",\"asInt\":\"-7\","
        "\"attributes\":[{\"key\":\"q\",\"value\":{\"stringValue\":\"b\"}}]}]}},"
        "{\"name\":\"took\",\"unit\":\"s\",\"histogram\":{\"aggregationTemporality\":2,\"dataPoints\":[{\"timeUnixNano\":\"1700000000123000000\","
        "\"count\":\"3\",\"sum\":1.25,\"min\":0.25,\"bucketCounts\":[\"3\"]}]}}]}]}]}";

/* A record of that document. The caller frees it. */
static struct record *record_of(enum tel_signal signal, const char *json) {
        char error[TEL_OTLP_ERROR_MAX];
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *body = tel_buf_new(NULL, 64);
        assert_int_equal(tel_otlp_from_json(signal, json, strlen(json), body, 1 << 20, error), 0);
        struct record *r = calloc(1, sizeof(*r) + body->len);
        assert_non_null(r);
        r->sequence = 1;
        r->received_ns = 1700000001 * TEL_NS_PER_S;
        r->body_bytes = (uint32_t)body->len;
        r->items = (uint32_t)tel_otlp_items(signal, body->data, body->data + body->len);
        r->signal = (uint8_t)signal;
        r->encoding = RECORD_OTLP;
        r->source = SOURCE_FRAMES;
        memcpy(r->body, body->data, body->len);
        return r;
}

static const char *document(enum tel_signal signal) {
        return signal == TEL_TRACES ? spans : signal == TEL_LOGS ? logs : metrics;
}

/* What a tap with up to two terms prints of a record; in a static buffer. */
static const char *tapped(enum tel_signal signal, bool json, const char *first, const char *second) {
        static char out[16384];
        char error[TAP_ERROR_MAX];
        static struct tap_filter filter;
        memset(&filter, 0, sizeof(filter));
        if (first)
                assert_int_equal(tap_filter_add(&filter, first, error), 0);
        if (second)
                assert_int_equal(tap_filter_add(&filter, second, error), 0);
        TEL_CLEANUP_FREE struct record *record = record_of(signal, document(signal));
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *text = tel_buf_new(NULL, 64);
        struct tap_progress p = { .lines_left = UINT64_MAX, .bytes_soft = SIZE_MAX / 2 };
        assert_int_equal(tap_print(&filter, json, record, &p, text), 0);
        assert_true(text->len < sizeof(out));
        memcpy(out, text->data, text->len);
        out[text->len] = '\0';
        return out;
}

static size_t lines_of(const char *text) {
        size_t n = 0;
        for (; *text; text++)
                n += *text == '\n';
        return n;
}

static size_t matches(enum tel_signal signal, const char *first, const char *second) {
        return lines_of(tapped(signal, false, first, second));
}

/* Each kind of item is one line with what people look for first. */
static void test_text(void **state) {
        (void)state;
        const char *text = tapped(TEL_TRACES, false, NULL, NULL);
        assert_non_null(strstr(text,
                               "2023-11-14T22:13:20.123Z span   checkout         \"GET /cart\" 12.3ms error gone kind=server "
                                     "trace_id=5b8efff798038103d269b633813fc60c span_id=eee19b7ec3c1b174 http.status=502 ok=false\n"));
        assert_non_null(strstr(text, " query 500ns unset trace_id="));
        text = tapped(TEL_METRICS, false, NULL, NULL);
        assert_non_null(strstr(text, "metric checkout         depth{q=a} 0.5 1\n"));
        assert_non_null(strstr(text, "depth{q=b} -7 1\n"));
        assert_non_null(strstr(text, "took count=3 sum=1.25 min=0.25 s\n"));
        text = tapped(TEL_LOGS, false, NULL, NULL);
        assert_non_null(strstr(text, "log    checkout         INFO  [login] hello\n"));
        assert_non_null(strstr(text, "Warning {k=[1, two]}\n"));
        assert_non_null(strstr(text, "2023-11-14T22:13:21.000Z log"));       /* a record without a time has that of the door */
}

/* Nothing that came from outside can move the cursor, colour the terminal or begin a line. */
static void test_terminal_is_safe(void **state) {
        (void)state;
        const char *text = tapped(TEL_LOGS, false, NULL, NULL);
        assert_int_equal(lines_of(text), 3);
        assert_null(strchr(text, '\x1b'));
        assert_null(strstr(text, "\xc2\x9b"));
        assert_non_null(strstr(text, "ERROR disk\\n\\x1b[31mfull \\x9b1m path=\"/a b\" x=0.1\n"));
}

static void test_filter_words(void **state) {
        (void)state;
        assert_int_equal(matches(TEL_TRACES, "service=checkout", NULL), 2);
        assert_int_equal(matches(TEL_TRACES, "service!=checkout", NULL), 0);
        assert_int_equal(matches(TEL_TRACES, "name~cart", NULL), 1);
        assert_int_equal(matches(TEL_TRACES, "name=GET /cart", "status=error"), 1);
        assert_int_equal(matches(TEL_TRACES, "name=query", "status=error"), 0);
        assert_int_equal(matches(TEL_TRACES, "trace_id=5B8EFFF798038103D269B633813FC60D", NULL), 1);
        assert_int_equal(matches(TEL_TRACES, "trace_id~5b8efff7", NULL), 2);
        assert_int_equal(matches(TEL_TRACES, "span_id!=eee19b7ec3c1b174", NULL), 1);
        assert_int_equal(matches(TEL_METRICS, "name=depth", NULL), 2);
        assert_int_equal(matches(TEL_METRICS, "name=depth", "q=b"), 1);
        assert_int_equal(matches(TEL_LOGS, "source=frames", NULL), 3);
        assert_int_equal(matches(TEL_LOGS, "source=otlp", NULL), 0);
        assert_int_equal(matches(TEL_LOGS, "name=login", NULL), 1);
        assert_int_equal(matches(TEL_LOGS, "body~disk", NULL), 1);
        assert_int_equal(matches(TEL_LOGS, "body={k=[1, two]}", NULL), 1);     /* a structured body is compared as it is shown */
        assert_int_equal(matches(TEL_LOGS, "body=", NULL), 0);
}

/* A level holds for all its spellings and numbers, and for records that have only a text. */
static void test_filter_level(void **state) {
        (void)state;
        assert_int_equal(matches(TEL_LOGS, "level=error", NULL), 1);
        assert_int_equal(matches(TEL_LOGS, "severity=ERR", NULL), 1);
        assert_int_equal(matches(TEL_LOGS, "level=warn", NULL), 1);
        assert_int_equal(matches(TEL_LOGS, "level!=info", NULL), 2);
        assert_int_equal(matches(TEL_LOGS, "level~arn", NULL), 1);
        assert_int_equal(matches(TEL_TRACES, "level=error", NULL), 0);         /* no such thing on a span: an attribute that is not there */
        assert_int_equal(matches(TEL_TRACES, "level!=error", NULL), 2);
}

/* Attributes of the item, then of its resource; what is absent equals nothing. */
static void test_filter_attributes(void **state) {
        (void)state;
        assert_int_equal(matches(TEL_TRACES, "http.status=502", NULL), 1);
        assert_int_equal(matches(TEL_TRACES, "http.status!=502", NULL), 1);
        assert_int_equal(matches(TEL_TRACES, "http.status~50", NULL), 1);
        assert_int_equal(matches(TEL_TRACES, "ok=false", NULL), 1);
        assert_int_equal(matches(TEL_TRACES, "region=eu", NULL), 2);
        assert_int_equal(matches(TEL_TRACES, "region=us", NULL), 0);
        assert_int_equal(matches(TEL_TRACES, "nothing=", NULL), 0);
        assert_int_equal(matches(TEL_TRACES, "nothing~", NULL), 0);
        assert_int_equal(matches(TEL_TRACES, "nothing!=x", NULL), 2);
        assert_int_equal(matches(TEL_LOGS, "x=0.1", NULL), 1);
        assert_int_equal(matches(TEL_LOGS, "x=1e-1", NULL), 1);
        assert_int_equal(matches(TEL_LOGS, "path=/a b", NULL), 1);
}

static void test_filter_errors(void **state) {
        static struct tap_filter f;
        static char long_word[TAP_FILTER_MAX + 8];
        char error[TAP_ERROR_MAX];
        (void)state;
        assert_int_equal(tap_filter_add(&f, "service", error), -EINVAL);
        assert_string_equal(error, "'service' is no term of a filter; expected key=value, key!=value or key~text");
        assert_int_equal(tap_filter_add(&f, "=x", error), -EINVAL);
        assert_int_equal(tap_filter_add(&f, "a!b", error), -EINVAL);
        assert_int_equal(tap_filter_add(&f, "", error), -EINVAL);
        memset(long_word, 'x', sizeof(long_word) - 1);
        long_word[1] = '=';
        assert_int_equal(tap_filter_add(&f, long_word, error), -E2BIG);
        for (size_t i = 0; i < TAP_TERMS_MAX; i++)
                assert_int_equal(tap_filter_add(&f, "a=b", error), 0);
        assert_int_equal(tap_filter_add(&f, "a=b", error), -E2BIG);
}

/* JSON is a request with the items that pass and all that is around them: it can be sent again. */
static void test_json_can_be_sent_again(void **state) {
        static const char *const names[] = { "name=query", "name=login", "q=b" };
        (void)state;
        for (enum tel_signal signal = TEL_TRACES; signal <= TEL_LOGS; signal++) {
                const char *term = signal == TEL_TRACES ? names[0] : signal == TEL_LOGS ? names[1] : names[2];
                char all[16384], error[TEL_OTLP_ERROR_MAX];
                snprintf(all, sizeof(all), "%s", tapped(signal, true, NULL, NULL));
                assert_int_equal(lines_of(all), 1);
                const char *some = tapped(signal, true, term, NULL);
                assert_int_equal(lines_of(some), 1);
                assert_true(strlen(some) < strlen(all));
                assert_non_null(strstr(some, "\"region\""));
                assert_int_equal(tel_otlp_json_signal(some, strlen(some)), signal);
                TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *body = tel_buf_new(NULL, 64);
                assert_int_equal(tel_otlp_from_json(signal, some, strlen(some), body, 1 << 20, error), 0);
                assert_int_equal(tel_otlp_items(signal, body->data, body->data + body->len), 1);
                assert_string_equal(tapped(signal, true, "name=nobody", NULL), "");
        }
}

/* A tap that must pause in the middle of a record goes on behind the last line, and says each item once. */
static void test_pauses(void **state) {
        (void)state;
        struct tap_filter f = { .n = 0 };
        TEL_CLEANUP_FREE struct record *record = record_of(TEL_LOGS, logs);
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *text = tel_buf_new(NULL, 64);
        struct tap_progress p = { .lines_left = UINT64_MAX, .bytes_soft = 1 };
        assert_int_equal(tap_print(&f, false, record, &p, text), TAP_MORE);
        assert_int_equal(p.item, 1);
        p.bytes_soft = text->len + 1;
        assert_int_equal(tap_print(&f, false, record, &p, text), TAP_MORE);
        assert_int_equal(p.item, 2);
        p.bytes_soft = SIZE_MAX / 2;
        assert_int_equal(tap_print(&f, false, record, &p, text), 0);
        assert_int_equal(tel_buf_append(text, "", 1, 1 << 20), 0);
        assert_string_equal((const char *)text->data, tapped(TEL_LOGS, false, NULL, NULL));
}

static void test_line_bound(void **state) {
        (void)state;
        struct tap_filter f = { .n = 0 };
        for (int json = 0; json < 2; json++) {
                TEL_CLEANUP_FREE struct record *record = record_of(TEL_LOGS, logs);
                TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *text = tel_buf_new(NULL, 64);
                struct tap_progress p = { .lines_left = 1, .bytes_soft = SIZE_MAX / 2 };
                assert_int_equal(tap_print(&f, json != 0, record, &p, text), json ? 0 : TAP_MORE);
                assert_int_equal(p.lines_left, 0);
                size_t len = text->len;
                assert_int_equal(tap_print(&f, json != 0, record, &p, text), TAP_MORE);
                assert_int_equal(text->len, len);
        }
}

/* Over the budget nothing half is left behind. */
static void test_budget(void **state) {
        (void)state;
        struct tap_filter f = { .n = 0 };
        struct tel_budget budget = { .limit = 200 };
        for (int json = 0; json < 2; json++) {
                TEL_CLEANUP_FREE struct record *record = record_of(TEL_LOGS, logs);
                TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *text = tel_buf_new(&budget, 16);
                struct tap_progress p = { .lines_left = UINT64_MAX, .bytes_soft = SIZE_MAX / 2 };
                assert_int_equal(tap_print(&f, json != 0, record, &p, text), -ENOBUFS);
                assert_true(text->len == 0 || text->data[text->len - 1] == '\n');
        }
        assert_int_equal(budget.used, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_text), cmocka_unit_test(test_terminal_is_safe), cmocka_unit_test(test_filter_words),
                cmocka_unit_test(test_filter_level), cmocka_unit_test(test_filter_attributes),
                        cmocka_unit_test(test_filter_errors),
                cmocka_unit_test(test_json_can_be_sent_again), cmocka_unit_test(test_pauses),
                        cmocka_unit_test(test_line_bound),
                cmocka_unit_test(test_budget),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
