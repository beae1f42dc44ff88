/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "collectord/sources/line.h"
#include "libtelemetry/otlp_json.h"

#define NOW 1700000000000000001ull

static void assert_line(const char *line, enum tel_signal signal, const char *json) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = tel_buf_new(NULL, 0), *text = tel_buf_new(NULL, 0);
        char error[TEL_OTLP_ERROR_MAX] = "";
        enum tel_signal got;
        int r = line_parse(line, strlen(line), NOW, out, 1 << 20, &got, error);
        if (r < 0)
                fail_msg("%s: %s", line, error);
        assert_int_equal(got, signal);
        assert_int_equal(tel_otlp_to_json(tel_schema_request(signal), out->data, out->len, text, 1 << 20), 0);
        assert_int_equal(tel_buf_append(text, "", 1, 1 << 20), 0);
        if (!strstr((char *)text->data, json))
                fail_msg("%s\nis  %s\nnot %s", line, (char *)text->data, json);
}

/* The short form: body, level and service have their places, the rest are attributes. */
static void test_short(void **state) {
        (void)state;
        assert_line("{\"log\":\"disk full\",\"level\":\"error\",\"service\":\"backup\"}", TEL_LOGS, "{\"key\":\"service.name\",\"value\":{\"stringValue\":\"backup\"}}");
        assert_line("{\"log\":\"disk full\",\"level\":\"error\",\"service\":\"backup\"}", TEL_LOGS, "\"severityNumber\":17");
        assert_line("{\"log\":\"disk full\"}", TEL_LOGS, "\"timeUnixNano\":\"1700000000000000001\"");
        assert_line("{\"log\":\"disk full\"}", TEL_LOGS, "\"body\":{\"stringValue\":\"disk full\"}");
        assert_line("{\"percent\":98.5,\"log\":\"x\",\"ok\":false,\"none\":null,\"path\":\"/var\\u00e9\\n\"}", TEL_LOGS,
                    "{\"key\":\"percent\",\"value\":{\"stringValue\":\"98.5\"}},{\"key\":\"ok\",\"value\":{\"stringValue\":\"false\"}},"
                    "{\"key\":\"path\",\"value\":{\"stringValue\":\"/var\xc3\xa9\\n\"}}");
}

/* A whole request of any signal goes as it is. */
static void test_request(void **state) {
        (void)state;
        assert_line("{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"name\":\"a\"}]}]}]}", TEL_TRACES, "\"name\":\"a\"");
        assert_line("{\"resourceMetrics\":[{\"scopeMetrics\":[{\"metrics\":[{\"name\":\"a\"}]}]}]}", TEL_METRICS, "\"name\":\"a\"");
        assert_line(" {\"resourceLogs\":[{\"scopeLogs\":[{\"logRecords\":[{\"eventName\":\"a\"}]}]}]}", TEL_LOGS, "\"eventName\":\"a\"");
}

/* What is wrong is named. */
static void test_refused(void **state) {
        (void)state;
        static const struct { const char *line, *error; } cases[] = {
                { "hello", "expected a JSON object" }, { "[]", "expected a JSON object" }, { "{}", "expected the key \"log\"" },
                { "{\"level\":\"info\"}", "expected the key \"log\"" }, { "{\"log\":{\"a\":1}}", "'log': expected a string" },
                { "{\"log\":\"a\",\"tags\":[1]}", "'tags': expected a string" }, { "{\"log\":\"a\",\"level\":\"loud\"}", "level 'loud': expected trace" },
                { "{\"log\":\"a\"", "column 11" }, { "{\"log\":\"a\"} x", "column" }, { "{\"log\":\"\\ud800\"}", "'log': not valid text" },
                { "{\"log\":\"a\\u0000b\"}", "'log': not valid text" }, { "{\"resourceLogs\":[{\"scopeLogs\":3}]}", "expected" },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++) {
                TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = tel_buf_new(NULL, 0);
                char error[TEL_OTLP_ERROR_MAX] = "";
                enum tel_signal signal;
                assert_int_equal(line_parse(cases[i].line, strlen(cases[i].line), NOW, out, 1 << 20, &signal, error), -EBADMSG);
                if (!strstr(error, cases[i].error))
                        fail_msg("%s: '%s'", cases[i].line, error);
        }
}

/* One key more than there is room for is refused, not cut. */
static void test_many_keys(void **state) {
        (void)state;
        char line[2048] = "{\"log\":\"a\"";
        for (unsigned i = 0; i < TEL_ATTRIBUTES_MAX; i++)
                strcat(line, ",\"k\":\"v\"");
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = tel_buf_new(NULL, 0);
        char error[TEL_OTLP_ERROR_MAX] = "";
        enum tel_signal signal;
        strcat(line, "}");
        assert_int_equal(line_parse(line, strlen(line), NOW, out, 1 << 20, &signal, error), 0);
        line[strlen(line) - 1] = '\0';
        strcat(line, ",\"k\":\"v\"}");
        assert_int_equal(line_parse(line, strlen(line), NOW, out, 1 << 20, &signal, error), -EBADMSG);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_short), cmocka_unit_test(test_request), cmocka_unit_test(test_refused), cmocka_unit_test(test_many_keys),
        };
        return cmocka_run_group_tests_name("line", tests, NULL, NULL);
}
