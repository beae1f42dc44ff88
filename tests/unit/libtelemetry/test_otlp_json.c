/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>
#include "libtelemetry/cursor.h"
#include "libtelemetry/otlp_json.h"

#define TEXT_MAX (1u << 20)

/* Documents around one object of interest. */
#define SPAN(inside) "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{" inside "}]}]}]}"
#define LOG(inside) "{\"resourceLogs\":[{\"scopeLogs\":[{\"logRecords\":[{" inside "}]}]}]}"
#define METRIC(inside) "{\"resourceMetrics\":[{\"scopeMetrics\":[{\"metrics\":[{" inside "}]}]}]}"
#define POINT(inside) METRIC("\"gauge\":{\"dataPoints\":[{" inside "}]}")
#define HISTOGRAM(inside) METRIC("\"histogram\":{\"dataPoints\":[{" inside "}]}")

static struct tel_buf *convert(enum tel_signal signal, const char *text) {
        struct tel_buf *out = tel_buf_new(NULL, 0);
        char error[TEL_OTLP_ERROR_MAX] = "";
        int r = tel_otlp_from_json(signal, text, strlen(text), out, TEXT_MAX, error);
        if (r < 0)
                fail_msg("%s: %d %s", text, r, error);
        return out;
}

/* The protobuf of text, in hex. */
static void expect_wire(enum tel_signal signal, const char *text, const char *wanted) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = convert(signal, text);
        char hex[1024] = "";
        for (size_t i = 0; i < out->len; i++)
                sprintf(hex + 2 * i, "%02x", out->data[i]);
        if (strcmp(hex, wanted) != 0)
                fail_msg("%s: %s, wanted %s", text, hex, wanted);
}

/* text becomes protobuf, and that becomes the JSON wanted. */
static void expect_json(enum tel_signal signal, const char *text, const char *wanted) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *wire = convert(signal, text);
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = tel_buf_new(NULL, 0);
        assert_int_equal(tel_otlp_to_json(tel_schema_request(signal), wire->data, wire->len, out, TEXT_MAX), 0);
        if (out->len != strlen(wanted) || memcmp(out->data, wanted, out->len) != 0)
                fail_msg("%s: %.*s, wanted %s", text, (int)out->len, (const char *)out->data, wanted);
}

static void expect_same(enum tel_signal signal, const char *text) {
        expect_json(signal, text, text);
}

/* text is refused, the error is as given, and nothing is left in the output. */
static void expect_error(enum tel_signal signal, const char *text, const char *wanted) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = tel_buf_new(NULL, 0);
        char error[TEL_OTLP_ERROR_MAX] = "";
        assert_int_equal(tel_buf_append(out, "before", 6, TEXT_MAX), 0);
        int r = tel_otlp_from_json(signal, text, strlen(text), out, TEXT_MAX, error);
        if (r != -EBADMSG || strcmp(error, wanted) != 0)
                fail_msg("%s: %d %s, wanted %s", text, r, error, wanted);
        assert_int_equal(out->len, 6);
}

/* The specification's own example of a span arrives with every field it has. */
static void test_span(void **state) {
        (void)state;
        expect_same(TEL_TRACES,
                    "{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"service.name\",\"value\":{\"stringValue\":\"my.service\"}}]},"
                    "\"scopeSpans\":[{\"scope\":{\"name\":\"my.library\",\"version\":\"1.0.0\"},\"spans\":[{"
                    "\"traceId\":\"5b8efff798038103d269b633813fc60c\",\"spanId\":\"eee19b7ec3c1b174\",\"parentSpanId\":\"eee19b7ec3c1b173\","
                    "\"name\":\"I'm a server span\",\"kind\":2,\"startTimeUnixNano\":\"1544712660000000000\","
                    "\"endTimeUnixNano\":\"1544712661000000000\",\"attributes\":[{\"key\":\"my.span.attr\",\"value\":{\"stringValue\":\"v\"}}],"
                    "\"events\":[{\"timeUnixNano\":\"1544712660000000001\",\"name\":\"e\"}],\"links\":[{\"spanId\":\"00f067aa0ba902b7\","
                    "\"flags\":257}],\"status\":{\"message\":\"no\",\"code\":2},\"flags\":4294967295}]}],\"schemaUrl\":\"https://a\"}]}");
}

/* All kinds of metrics keep their numbers, whatever their size and sign. */
static void test_metrics(void **state) {
        (void)state;
        expect_same(TEL_METRICS, METRIC("\"name\":\"a\",\"sum\":{\"dataPoints\":[{\"timeUnixNano\":\"18446744073709551615\","
                                        "\"asInt\":\"-9223372036854775808\"}],\"aggregationTemporality\":2,\"isMonotonic\":true}"));
        expect_same(TEL_METRICS, HISTOGRAM("\"count\":\"3\",\"sum\":0,\"bucketCounts\":[\"1\",\"0\",\"2\"],"
                                           "\"explicitBounds\":[0.5,-0.0],\"min\":0,\"max\":-1.5"));
        expect_same(TEL_METRICS, METRIC("\"exponentialHistogram\":{\"dataPoints\":[{\"scale\":-2147483648,\"positive\":{\"offset\":2147483647,"
                                        "\"bucketCounts\":[\"18446744073709551615\",\"0\"]},\"negative\":{},\"zeroThreshold\":1e-9}]}"));
        expect_same(TEL_METRICS, METRIC("\"summary\":{\"dataPoints\":[{\"sum\":\"NaN\",\"quantileValues\":[{\"quantile\":0.5,\"value\":"
                                        "\"Infinity\"},{\"value\":\"-Infinity\"},{}]}]}"));
        expect_same(TEL_METRICS, POINT("\"asDouble\":0,\"exemplars\":[{\"timeUnixNano\":\"1\",\"spanId\":\"00f067aa0ba902b7\",\"asInt\":\"0\"}]"));
}

/* Values of every kind, also inside of each other, in a log. */
static void test_values(void **state) {
        (void)state;
        expect_same(TEL_LOGS, LOG("\"severityNumber\":9,\"body\":{\"kvlistValue\":{\"values\":[{\"key\":\"a\",\"value\":{\"arrayValue\":{\"values\":["
                                  "{\"stringValue\":\"\"},{\"boolValue\":false},{\"intValue\":\"0\"},{\"doubleValue\":0},{\"arrayValue\":{}},"
                                  "{\"kvlistValue\":{}},{\"bytesValue\":\"\"},{\"bytesValue\":\"+/8=\"},{}]}}}]}}"));
        expect_same(TEL_LOGS, LOG("\"body\":{\"stringValue\":\"a\\u0000b\\\"\\n\xf0\x9f\x98\x80\"}"));
}

/* Zeros are left out but where they choose the member of a oneof; empty messages and elements stay. */
static void test_wire(void **state) {
        (void)state;
        expect_wire(TEL_TRACES, "{}", "");
        expect_wire(TEL_TRACES, "{\"resourceSpans\":[]}", "");
        expect_wire(TEL_TRACES, "{\"resourceSpans\":[{},{}]}", "0a000a00");
        expect_wire(TEL_LOGS, "{\"resourceLogs\":[{\"resource\":{}}]}", "0a020a00");
        expect_wire(TEL_LOGS, LOG("\"body\":{},\"flags\":0,\"severityText\":\"\",\"severityNumber\":0,\"traceId\":\"\""), "0a06120412022a00");
        expect_wire(TEL_LOGS, LOG("\"body\":{\"intValue\":\"0\"}"), "0a0812061204" "2a02" "1800");
        expect_wire(TEL_LOGS, LOG("\"body\":{\"boolValue\":false}"), "0a0812061204" "2a02" "1000");
        expect_wire(TEL_METRICS, METRIC("\"gauge\":{}"), "0a06120412022a00");
        expect_wire(TEL_METRICS, HISTOGRAM("\"bucketCounts\":[],\"explicitBounds\":[1,\"2.5\"]"),
                    "0a1a12181216" "4a14" "0a12" "3a10" "000000000000f03f" "0000000000000440");
        expect_wire(TEL_TRACES, SPAN("\"flags\":\"1\",\"kind\":-1"), "0a15" "1213" "1211" "850101000000" "30ffffffffffffffffff01");
        expect_wire(TEL_TRACES, "{\"resourceSpans\":[{\"resource\":{\"entityRefs\":[{\"idKeys\":[\"\",\"a\"]}]}}]}", "0a090a07" "1a05" "1a00" "1a0161");
}

/* Numbers come in quotes or bare, enums by number, digits or name, ids in either case, bytes in both alphabets. */
static void test_spellings(void **state) {
        (void)state;
        expect_json(TEL_TRACES, SPAN("\"startTimeUnixNano\":1544712660000000000,\"endTimeUnixNano\":18446744073709551615"),
                    SPAN("\"startTimeUnixNano\":\"1544712660000000000\",\"endTimeUnixNano\":\"18446744073709551615\""));
        expect_json(TEL_TRACES, SPAN("\"kind\":\"SPAN_KIND_CLIENT\",\"droppedAttributesCount\":\"7\",\"droppedLinksCount\":1e3"),
                    SPAN("\"kind\":3,\"droppedAttributesCount\":7,\"droppedLinksCount\":1000"));
        expect_json(TEL_TRACES, SPAN("\"kind\":\"3\",\"status\":{\"code\":99}"), SPAN("\"kind\":3,\"status\":{\"code\":99}"));
        expect_json(TEL_TRACES, SPAN("\"spanId\":\"EEE19B7ec3c1b174\""), SPAN("\"spanId\":\"eee19b7ec3c1b174\""));
        expect_json(TEL_LOGS, LOG("\"body\":{\"bytesValue\":\"-_8\"}"), LOG("\"body\":{\"bytesValue\":\"+/8=\"}"));
        expect_json(TEL_LOGS, LOG("\"body\":{\"bytesValue\":\"+\\/8=\"}"), LOG("\"body\":{\"bytesValue\":\"+/8=\"}"));
        expect_json(TEL_LOGS, LOG("\"b\\u006fdy\":{\"intValue\":\"\\u0031\\u0030\"}"), LOG("\"body\":{\"intValue\":\"10\"}"));
        expect_json(TEL_METRICS, POINT("\"asDouble\":\"1.5e1\""), POINT("\"asDouble\":15"));
        expect_json(TEL_METRICS, POINT("\"asInt\":1.0"), POINT("\"asInt\":\"1\""));
}

/* Keys in snake case and unknown keys say nothing, at any depth, and null is as good as absent. */
static void test_ignored(void **state) {
        (void)state;
        expect_json(TEL_TRACES, "{\"resource_spans\":[{}],\"x\":{\"y\":[{\"z\":null}]},\"resourceSpans\":[{\"scope_spans\":1,\"\":2}]}",
                    "{\"resourceSpans\":[{}]}");
        expect_json(TEL_TRACES, SPAN("\"trace_id\":\"no\",\"Name\":\"no\",\"nam\":\"no\",\"names\":\"no\",\"name\":\"yes\""), SPAN("\"name\":\"yes\""));
        expect_json(TEL_LOGS, LOG("\"traceId\":null,\"body\":null,\"attributes\":null,\"flags\":null"), LOG(""));
        expect_json(TEL_TRACES, "{\"resourceSpans\":null}", "{}");
}

/* Of equal keys the last one stands alone, be it shorter, longer, zero, null, a list or a message with much behind it. */
static void test_last_key_wins(void **state) {
        (void)state;
        expect_json(TEL_TRACES, SPAN("\"name\":\"long name\",\"kind\":1,\"name\":\"b\",\"kind\":2"), SPAN("\"name\":\"b\",\"kind\":2"));
        expect_json(TEL_TRACES, SPAN("\"name\":\"a\",\"kind\":1,\"name\":\"\""), SPAN("\"kind\":1"));
        expect_json(TEL_TRACES, SPAN("\"name\":\"a\",\"kind\":1,\"name\":null"), SPAN("\"kind\":1"));
        expect_json(TEL_TRACES, SPAN("\"name\":\"\",\"name\":\"a\",\"name\":\"b\""), SPAN("\"name\":\"b\""));
        expect_json(TEL_TRACES, SPAN("\"attributes\":[{\"key\":\"a\"},{\"key\":\"b\"}],\"name\":\"n\",\"attributes\":[{\"key\":\"c\"}]"),
                    SPAN("\"name\":\"n\",\"attributes\":[{\"key\":\"c\"}]"));
        expect_json(TEL_TRACES, SPAN("\"status\":{\"message\":\"m\"},\"status\":{\"code\":1}"), SPAN("\"status\":{\"code\":1}"));
        expect_json(TEL_TRACES, SPAN("\"attributes\":[{}],\"attributes\":[]"), SPAN(""));
        expect_json(TEL_METRICS, HISTOGRAM("\"bucketCounts\":[1,2,3],\"count\":6,\"bucketCounts\":[4]"),
                    HISTOGRAM("\"count\":\"6\",\"bucketCounts\":[\"4\"]"));
        expect_json(TEL_LOGS, "{\"resourceLogs\":[{},{}],\"resourceLogs\":[{\"schemaUrl\":\"a\"}]}", "{\"resourceLogs\":[{\"schemaUrl\":\"a\"}]}");
}

/* Of several members of a oneof the last one stands; optional fields of a histogram are no oneof. */
static void test_last_member_wins(void **state) {
        (void)state;
        expect_json(TEL_LOGS, LOG("\"body\":{\"stringValue\":\"a\",\"intValue\":\"5\"}"), LOG("\"body\":{\"intValue\":\"5\"}"));
        expect_json(TEL_LOGS, LOG("\"body\":{\"intValue\":\"5\",\"stringValue\":\"\"}"), LOG("\"body\":{\"stringValue\":\"\"}"));
        expect_json(TEL_LOGS, LOG("\"body\":{\"stringValue\":\"a\",\"intValue\":null}"), LOG("\"body\":{\"stringValue\":\"a\"}"));
        expect_json(TEL_METRICS, METRIC("\"gauge\":{\"dataPoints\":[{}]},\"name\":\"n\",\"sum\":{}"), METRIC("\"name\":\"n\",\"sum\":{}"));
        expect_json(TEL_METRICS, POINT("\"asInt\":1,\"asDouble\":2"), POINT("\"asDouble\":2"));
        expect_json(TEL_METRICS, HISTOGRAM("\"max\":3,\"min\":0,\"sum\":1"), HISTOGRAM("\"sum\":1,\"min\":0,\"max\":3"));
}

/* A wrong value is told with its place, its key and what it should have been. */
static void test_errors(void **state) {
        (void)state;
        expect_error(TEL_TRACES, "{\"resourceSpans\":[\n {\"scopeSpans\":[{\"spans\":[{\"traceId\":\"W47/95gDgQPSabYzgT/GDA==\"}]}]}]}",
                     "line 2, column 38: traceId: expected 32 hexadecimal digits");
        expect_error(TEL_TRACES, "{\"resourceSpans\":{}}", "line 1, column 18: resourceSpans: expected an array");
        expect_error(TEL_TRACES, "{\"resourceSpans\":[null]}", "line 1, column 19: resourceSpans: expected an object");
        expect_error(TEL_TRACES, "{\"resourceSpans\":[[]]}", "line 1, column 19: resourceSpans: expected an object");
        expect_error(TEL_TRACES, "{\"resourceSpans\":[{\"schemaUrl\":1}]}", "line 1, column 32: schemaUrl: expected a string");
        expect_error(TEL_TRACES, "{\"resourceSpans\":[{\"schemaUrl\":\"\\ud800\"}]}",
                     "line 1, column 32: schemaUrl: expected a string without lone surrogates");
        expect_error(TEL_TRACES, "{\"resourceSpans\":[{\"x\":tru}]}", "line 1, column 24: expected a value");
        expect_error(TEL_TRACES, "[]", "line 1, column 1: expected an object");
        expect_error(TEL_TRACES, "null", "line 1, column 1: expected an object");
        expect_error(TEL_TRACES, "", "line 1, column 1: the document ends too early");
        expect_error(TEL_TRACES, "{} x", "line 1, column 4: nothing may follow the document");
        expect_error(TEL_TRACES, "{\"resourceSpans\":[{}", "line 1, column 21: the document ends too early");
        expect_error(TEL_PROFILES, "{}", "line 1, column 1: profiles have no OTLP/JSON here");
}

/* Values of the wrong kind or out of range are refused, never bent. */
static void test_refused(void **state) {
        static const struct {
                enum tel_signal signal;
                const char *text;
        } cases[] = {
                { TEL_TRACES, SPAN("\"spanId\":\"eee19b7ec3c1b17\"") },
                { TEL_TRACES, SPAN("\"spanId\":\"eee19b7ec3c1b1744\"") },
                { TEL_TRACES, SPAN("\"spanId\":\"eee19b7ec3c1b17g\"") },
                { TEL_TRACES, SPAN("\"spanId\":5") },
                { TEL_TRACES, SPAN("\"parentSpanId\":\"5b8efff798038103d269b633813fc60c\"") },
                { TEL_TRACES, SPAN("\"kind\":\"SERVER\"") },
                { TEL_TRACES, SPAN("\"kind\":2147483648") },
                { TEL_TRACES, SPAN("\"kind\":1.5") },
                { TEL_TRACES, SPAN("\"kind\":\"\"") },
                { TEL_TRACES, SPAN("\"kind\":true") },
                { TEL_TRACES, SPAN("\"flags\":-1") },
                { TEL_TRACES, SPAN("\"flags\":4294967296") },
                { TEL_TRACES, SPAN("\"startTimeUnixNano\":-1") },
                { TEL_TRACES, SPAN("\"startTimeUnixNano\":\"\"") },
                { TEL_TRACES, SPAN("\"startTimeUnixNano\":18446744073709551616") },
                { TEL_TRACES, SPAN("\"startTimeUnixNano\":\" 1\"") },
                { TEL_TRACES, SPAN("\"name\":{}") },
                { TEL_TRACES, SPAN("\"status\":[]") },
                { TEL_TRACES, SPAN("\"status\":\"ok\"") },
                { TEL_LOGS, LOG("\"body\":\"text\"") },
                { TEL_LOGS, LOG("\"body\":{\"boolValue\":\"true\"}") },
                { TEL_LOGS, LOG("\"body\":{\"boolValue\":1}") },
                { TEL_LOGS, LOG("\"body\":{\"intValue\":\"9223372036854775808\"}") },
                { TEL_LOGS, LOG("\"body\":{\"doubleValue\":\"nan\"}") },
                { TEL_LOGS, LOG("\"body\":{\"doubleValue\":1e999}") },
                { TEL_LOGS, LOG("\"body\":{\"bytesValue\":\"a\"}") },
                { TEL_LOGS, LOG("\"body\":{\"bytesValue\":\"a=\"}") },
                { TEL_LOGS, LOG("\"body\":{\"bytesValue\":\"ab=\"}") },
                { TEL_LOGS, LOG("\"body\":{\"bytesValue\":\"a b=\"}") },
                { TEL_LOGS, LOG("\"body\":{\"bytesValue\":\"a===\"}") },
                { TEL_LOGS, LOG("\"body\":{\"arrayValue\":[]}") },
                { TEL_METRICS, HISTOGRAM("\"bucketCounts\":[null]") },
                { TEL_METRICS, HISTOGRAM("\"bucketCounts\":[[1]]") },
                { TEL_METRICS, HISTOGRAM("\"bucketCounts\":1") },
        };
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++) {
                TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = tel_buf_new(NULL, 0);
                char error[TEL_OTLP_ERROR_MAX] = "";
                int r = tel_otlp_from_json(cases[i].signal, cases[i].text, strlen(cases[i].text), out, TEXT_MAX, error);
                if (r != -EBADMSG || !strstr(error, "expected"))
                        fail_msg("%s: %d %s", cases[i].text, r, error);
                assert_int_equal(tel_otlp_from_json(cases[i].signal, cases[i].text, strlen(cases[i].text), out, TEXT_MAX, NULL), -EBADMSG);
        }
}

/* A log whose body has n AnyValues inside each other, as lists of pairs: the longest way. */
static char *nested(unsigned n) {
        char *text = malloc(256 + n * 128), *p = text;
        assert_non_null(text);
        p += sprintf(p, "%s", "{\"resourceLogs\":[{\"scopeLogs\":[{\"logRecords\":[{\"body\":");
        for (unsigned i = 1; i < n; i++)
                p += sprintf(p, "%s", "{\"kvlistValue\":{\"values\":[{\"key\":\"abcdefghijklmnop\",\"value\":");
        p += sprintf(p, "%s", "{\"x\":[{\"y\":[]}],\"stringValue\":\"deep\"}");
        for (unsigned i = 1; i < n; i++)
                p += sprintf(p, "%s", "}]}}");
        sprintf(p, "%s", "}]}]}]}");
        return text;
}

/* 64 AnyValues go through, both ways, and lengths around the bounds of one and two bytes are right; 65 are too many. */
static void test_depth(void **state) {
        (void)state;
        TEL_CLEANUP_FREE char *deep = nested(TEL_OTLP_DEPTH_MAX), *deeper = nested(TEL_OTLP_DEPTH_MAX + 1);
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *wire = convert(TEL_LOGS, deep), *text = tel_buf_new(NULL, 0);
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *again = tel_buf_new(NULL, 0);
        char error[TEL_OTLP_ERROR_MAX] = "";
        assert_int_equal(tel_otlp_to_json(TEL_MSG_LOGS_REQUEST, wire->data, wire->len, text, TEXT_MAX), 0);
        assert_int_equal(tel_otlp_from_json(TEL_LOGS, (char *)text->data, text->len, again, TEXT_MAX, error), 0);
        assert_int_equal(again->len, wire->len);
        assert_memory_equal(again->data, wire->data, wire->len);
        assert_int_equal(tel_otlp_from_json(TEL_LOGS, deeper, strlen(deeper), again, TEXT_MAX, error), -EBADMSG);
        assert_non_null(strstr(error, "value: expected at most 64 AnyValues inside each other"));
}

/* Lengths take as few bytes as they can on both sides of every bound, for a string, a message and a packed list. */
static void test_lengths(void **state) {
        static const size_t sizes[] = { 0, 1, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128, 129, 130,
                                        16370, 16375, 16376, 16377, 16378, 16379, 16380, 16381, 16382, 16383, 16384, 16385, 2097140, 2097152 };
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(sizes); i++) {
                size_t n = sizes[i], room = n + 256;
                TEL_CLEANUP_FREE char *text = malloc(room);
                TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = tel_buf_new(NULL, 0);
                int head = snprintf(text, room, "%s", "{\"resourceLogs\":[{\"scopeLogs\":[{\"schemaUrl\":\"");
                memset(text + head, 'a', n);
                snprintf(text + head + n, room - (size_t)head - n, "%s", "\"}]},{}]}");
                size_t url = n ? tel_bytes_head_len(3, n) + n : 0;
                size_t scope = tel_bytes_head_len(2, url) + url, resource = tel_bytes_head_len(1, scope) + scope;
                assert_int_equal(tel_otlp_from_json(TEL_LOGS, text, strlen(text), out, resource + 2, NULL), 0);
                assert_int_equal(out->len, resource + 2);
                struct tel_field f;
                assert_int_equal(tel_field_get(out->data, out->data + out->len, &f), 0);
                assert_int_equal(f.value, scope);
                assert_int_equal(tel_field_get(f.at, f.end, &f), 0);
                assert_int_equal(f.value, url);
                assert_memory_equal(out->data + resource, "\x0a", 2);
                out->len = 0;
                assert_int_equal(tel_otlp_from_json(TEL_LOGS, text, strlen(text), out, resource + 1, NULL), -EMSGSIZE);
        }
}

/* Long values behind each other: what an equal key takes back may itself be long, and so may what lies behind it. */
static void test_long_values(void **state) {
        static const char c100[] = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";
        char list[1024] = "\"0\"", event[512], status[256], text[4096], wanted[4096];
        (void)state;
        for (int i = 1; i < 200; i++)
                strcat(list, ",\"0\"");
        snprintf(text, sizeof(text), HISTOGRAM("\"bucketCounts\":[%s],\"flags\":1"), list);
        snprintf(wanted, sizeof(wanted), "%s", text);
        expect_json(TEL_METRICS, text, wanted);
        snprintf(event, sizeof(event), "{\"name\":\"%s\",\"attributes\":[{\"key\":\"%s\"}]}", c100, c100);
        snprintf(status, sizeof(status), "{\"message\":\"%s%s\"}", c100, c100);
        snprintf(text, sizeof(text), SPAN("\"events\":[%s,{}],\"name\":\"a\",\"status\":%s,\"events\":[%s],\"name\":\"bb\",\"status\":%s,\"status\":{}"),
                 event, status, event, status);
        snprintf(wanted, sizeof(wanted), SPAN("\"name\":\"bb\",\"events\":[%s],\"status\":{}"), event);
        expect_json(TEL_TRACES, text, wanted);
        snprintf(text, sizeof(text), SPAN("\"name\":\"\\u0063\\u0063\\u0063\\u0063\\u0063%s\""), c100);      /* 130 bytes for 105 */
        snprintf(wanted, sizeof(wanted), SPAN("\"name\":\"ccccc%s\""), c100);
        expect_json(TEL_TRACES, text, wanted);
        expect_same(TEL_LOGS, LOG("\"body\":{\"bytesValue\":\"AZaz09+/\"}"));
}

/* What is in the output before stays and counts towards the limit; a spent budget is told. */
static void test_output_bounds(void **state) {
        static const char text[] = "{\"resourceSpans\":[{},{},{}]}";
        struct tel_budget budget = { .limit = sizeof(struct tel_buf) + 4 };
        (void)state;
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = tel_buf_new(NULL, 0), *poor = tel_buf_new(&budget, 0);
        assert_int_equal(tel_buf_append(out, "ab", 2, TEXT_MAX), 0);
        assert_int_equal(tel_otlp_from_json(TEL_TRACES, text, strlen(text), out, 7, NULL), -EMSGSIZE);
        assert_int_equal(out->len, 2);
        assert_int_equal(tel_otlp_from_json(TEL_TRACES, text, strlen(text), out, 8, NULL), 0);
        assert_memory_equal(out->data, "ab\x0a\0\x0a\0\x0a", 8);
        assert_int_equal(tel_otlp_from_json(TEL_TRACES, text, strlen(text), poor, TEXT_MAX, NULL), -ENOBUFS);
        assert_int_equal(tel_otlp_to_json(TEL_MSG_TRACES_REQUEST, out->data + 2, 6, poor, TEXT_MAX), -ENOBUFS);
        assert_int_equal(tel_otlp_to_json(TEL_MSG_TRACES_REQUEST, out->data + 2, 6, out, 16), -EMSGSIZE);
        assert_int_equal(out->len, 8);
}

/* The first key that is known tells the signal. */
static void test_signal(void **state) {
        (void)state;
        static const struct {
                const char *text;
                enum tel_signal wanted;
        } cases[] = {
                { "{\"resourceSpans\":[]}", TEL_TRACES }, { "{\"x\":{\"resourceLogs\":1},\"resourceMetrics\":[]}", TEL_METRICS },
                { " {\"resourceLogs\" : 1", TEL_LOGS },   { "{}", TEL_SIGNALS },
                { "[\"resourceLogs\"]", TEL_SIGNALS },    { "{\"resource_logs\":[]}", TEL_SIGNALS },
                { "", TEL_SIGNALS },                      { "{\"x\":[}", TEL_SIGNALS },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++)
                assert_int_equal(tel_otlp_json_signal(cases[i].text, strlen(cases[i].text)), cases[i].wanted);
}

static void expect_text(enum tel_message message, const char *wire, size_t n, const char *wanted) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = tel_buf_new(NULL, 0);
        int r = tel_otlp_to_json(message, (const uint8_t *)wire, n, out, TEXT_MAX);
        assert_int_equal(r, wanted ? 0 : -EBADMSG);
        assert_int_equal(out->len, wanted ? strlen(wanted) : 0);
        if (wanted)
                assert_memory_equal(out->data, wanted, out->len);
}

/* Protobuf in any order: lists in pieces, numbers packed or not, unknown fields, the last of a oneof, zeros that were written. */
static void test_to_json_of_foreign_protobuf(void **state) {
        (void)state;
        expect_text(TEL_MSG_BUCKETS, "\x10\x01\x08\x03\x12\x02\x02\x03\x12\0\x10\x04", 12, "{\"offset\":-2,\"bucketCounts\":[\"1\",\"2\",\"3\",\"4\"]}");
        expect_text(TEL_MSG_BUCKETS, "\x12\0\x08\0", 4, "{\"bucketCounts\":[]}");
        expect_text(TEL_MSG_ANY_VALUE, "\x0a\x01" "a\x10\x01", 5, "{\"boolValue\":true}");
        expect_text(TEL_MSG_STATUS, "\x18\x02\xa0\x06\x01\x12\x02hi\x0a\x01x\x18\x01", 14, "{\"message\":\"hi\",\"code\":1}");
        expect_text(TEL_MSG_ENTITY_REF, "\x1a\x01" "a\x12\x01t\x1a\x01" "b", 9, "{\"type\":\"t\",\"idKeys\":[\"a\",\"b\"]}");
        expect_text(TEL_MSG_STATUS, "\x12\x02\xff\"", 4, "{\"message\":\"\xef\xbf\xbd\\\"\"}");
        expect_text(TEL_MSG_SPAN, "", 0, "{}");
}

/* What no encoder writes is refused: cut fields, wrong wire types, ids of another length, packed bytes that are no whole numbers. */
static void test_to_json_refuses(void **state) {
        (void)state;
        expect_text(TEL_MSG_SPAN, "\x0a", 1, NULL);
        expect_text(TEL_MSG_SPAN, "\x0a\x05" "abc", 5, NULL);
        expect_text(TEL_MSG_SPAN, "\x0a\x03" "abc", 5, NULL);
        expect_text(TEL_MSG_SPAN, "\x28\x01", 2, NULL);
        expect_text(TEL_MSG_SPAN, "\x48\x01", 2, NULL);
        expect_text(TEL_MSG_SPAN, "\x4b", 1, NULL);
        expect_text(TEL_MSG_BUCKETS, "\x12\x01\xff", 3, NULL);
        expect_text(TEL_MSG_HISTOGRAM_POINT, "\x3a\x02\0\0", 4, NULL);
        expect_text(TEL_MSG_HISTOGRAM_POINT, "\x38\x01", 2, NULL);
}

/* Protobuf of n AnyValues inside each other, arrays of arrays. Returns where it begins in out, which ends with it. */
static const uint8_t *nested_wire(unsigned n, uint8_t *out, size_t room) {
        size_t len = 0;
        for (unsigned i = 1; i < n; i++)
                for (uint8_t number = 1; number <= 5; number += 4) {           /* values, then arrayValue around it */
                        size_t body = len;
                        len += tel_bytes_head_len(number, body);
                        assert_true(len <= room);
                        tel_bytes_head_put(out + room - len, number, body);
                }
        return out + room - len;
}

/* The writer stops at the same depth as the reader. */
static void test_to_json_depth(void **state) {
        uint8_t wire[1024];
        const uint8_t *end = wire + sizeof(wire);
        (void)state;
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = tel_buf_new(NULL, 0);
        const uint8_t *at = nested_wire(TEL_OTLP_DEPTH_MAX, wire, sizeof(wire));
        assert_int_equal(tel_otlp_to_json(TEL_MSG_ANY_VALUE, at, (size_t)(end - at), out, TEXT_MAX), 0);
        at = nested_wire(TEL_OTLP_DEPTH_MAX + 1, wire, sizeof(wire));
        assert_int_equal(tel_otlp_to_json(TEL_MSG_ANY_VALUE, at, (size_t)(end - at), out, TEXT_MAX), -EBADMSG);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_span), cmocka_unit_test(test_metrics), cmocka_unit_test(test_values), cmocka_unit_test(test_wire),
                cmocka_unit_test(test_spellings), cmocka_unit_test(test_ignored), cmocka_unit_test(test_last_key_wins),
                cmocka_unit_test(test_last_member_wins), cmocka_unit_test(test_errors), cmocka_unit_test(test_refused),
                cmocka_unit_test(test_depth), cmocka_unit_test(test_lengths), cmocka_unit_test(test_long_values), cmocka_unit_test(test_output_bounds),
                cmocka_unit_test(test_signal), cmocka_unit_test(test_to_json_of_foreign_protobuf), cmocka_unit_test(test_to_json_refuses),
                cmocka_unit_test(test_to_json_depth),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
