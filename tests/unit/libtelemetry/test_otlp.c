/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "libtelemetry/cursor.h"
#include "libtelemetry/otlp.h"
#include "libtelemetry/otlp_json.h"

#define SPACE_MAX (64u << 20)

/* Records as they came out of a cut, one behind the other. */
struct taken {
        struct tel_buf *bytes;
        struct tel_otlp_record records[4096];
        size_t n;
        int refuse_at;                             /* the record at which the receiver has no room; -1: never */
};

static int take(void *ctx, const struct tel_otlp_record *record, uint8_t **ret) {
        struct taken *t = ctx;
        if ((int)t->n == t->refuse_at)
                return -EAGAIN;
        assert_true(t->n < TEL_ARRAY_LEN(t->records));
        assert_int_equal(tel_buf_reserve(t->bytes, record->bytes, SPACE_MAX), 0);
        *ret = t->bytes->data + t->bytes->len;
        memset(*ret, 0xee, record->bytes);
        t->bytes->len += record->bytes;
        t->records[t->n++] = *record;
        return 0;
}

static void taken_init(struct taken *t) {
        *t = (struct taken){ .bytes = tel_buf_new(NULL, 0), .refuse_at = -1 };
        assert_non_null(t->bytes);
}

static void taken_done(struct taken *t) {
        tel_buf_unref(t->bytes);
}

static struct tel_buf *wire(enum tel_signal signal, const char *json) {
        struct tel_buf *b = tel_buf_new(NULL, 0);
        char error[TEL_OTLP_ERROR_MAX] = "";
        int r = tel_otlp_from_json(signal, json, strlen(json), b, SPACE_MAX, error);
        if (r < 0)
                fail_msg("%s", error);
        return b;
}

static const char *json_of(enum tel_signal signal, const uint8_t *at, size_t n, struct tel_buf *out) {
        out->len = 0;
        assert_int_equal(tel_otlp_to_json(tel_schema_request(signal), at, n, out, SPACE_MAX), 0);
        assert_int_equal(tel_buf_append(out, "", 1, SPACE_MAX), 0);
        return (const char *)out->data;
}

static struct tel_otlp_attribute added[2];
static uint8_t added_wire[2][64];

static void added_init(void) {
        static const char *const keys[] = { "host.name", "service.instance.id" }, *const values[] = { "rig", "i-1" };
        for (size_t i = 0; i < 2; i++) {
                size_t n = tel_otlp_attribute_put(added_wire[i], sizeof(added_wire[i]), 1, keys[i], values[i]);
                added[i] = (struct tel_otlp_attribute){ keys[i], strlen(keys[i]), added_wire[i], n };
        }
}

static const struct tel_otlp_limits wide = { 1000, 512u << 10 };

/* What a request becomes, as JSON. */
static void assert_cut(enum tel_signal signal, const char *in, const char *out, size_t items) {
        struct taken t;
        struct tel_otlp_result result;
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *body = wire(signal, in), *text = tel_buf_new(NULL, 0);
        taken_init(&t);
        assert_int_equal(tel_otlp_cut(signal, body->data, body->len, added, 2, &wide, take, &t, &result), 0);
        assert_int_equal(result.items, items);
        assert_string_equal(json_of(signal, t.bytes->data, t.bytes->len, text), out);
        taken_done(&t);
}

/* COL-ID-01: the attributes are added where they are absent, whatever the shape of the Resource. */
static void test_splice(void **state) {
        (void)state;
        added_init();
#define HOST "{\"key\":\"host.name\",\"value\":{\"stringValue\":\"rig\"}}"
#define INSTANCE "{\"key\":\"service.instance.id\",\"value\":{\"stringValue\":\"i-1\"}}"
#define SPANS "\"scopeSpans\":[{\"spans\":[{\"name\":\"a\"}]}]"
        assert_cut(TEL_TRACES, "{\"resourceSpans\":[{" SPANS "}]}",
                   "{\"resourceSpans\":[{\"resource\":{\"attributes\":[" HOST "," INSTANCE "]}," SPANS "}]}", 1);
        assert_cut(TEL_TRACES, "{\"resourceSpans\":[{\"resource\":{}," SPANS ",\"schemaUrl\":\"u\"}]}",
                   "{\"resourceSpans\":[{\"resource\":{\"attributes\":[" HOST "," INSTANCE "]}," SPANS ",\"schemaUrl\":\"u\"}]}", 1);
        assert_cut(TEL_TRACES, "{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"host.name\",\"value\":{\"intValue\":1}}],\"droppedAttributesCount\":3}," SPANS "}]}",
                   "{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"host.name\",\"value\":{\"intValue\":\"1\"}}," INSTANCE "],\"droppedAttributesCount\":3}," SPANS "}]}", 1);
        assert_cut(TEL_TRACES, "{\"resourceSpans\":[{\"resource\":{\"attributes\":[" INSTANCE "," HOST "]}," SPANS "}]}",
                   "{\"resourceSpans\":[{\"resource\":{\"attributes\":[" INSTANCE "," HOST "]}," SPANS "}]}", 1);
        assert_cut(TEL_LOGS, "{\"resourceLogs\":[{\"scopeLogs\":[{\"logRecords\":[{},{}]}]}]}",
                   "{\"resourceLogs\":[{\"resource\":{\"attributes\":[" HOST "," INSTANCE "]},\"scopeLogs\":[{\"logRecords\":[{},{}]}]}]}", 2);
}

/* Resources without items are left out; data points are the items of metrics. */
static void test_items(void **state) {
        (void)state;
        added_init();
        assert_cut(TEL_TRACES, "{\"resourceSpans\":[{},{\"scopeSpans\":[{}]},{" SPANS "},{}]}",
                   "{\"resourceSpans\":[{\"resource\":{\"attributes\":[" HOST "," INSTANCE "]}," SPANS "}]}", 1);
        assert_cut(TEL_METRICS, "{\"resourceMetrics\":[{\"resource\":{\"attributes\":[" HOST "," INSTANCE "]},\"scopeMetrics\":[{\"metrics\":["
                   "{\"name\":\"a\",\"gauge\":{\"dataPoints\":[{\"asInt\":\"1\"},{\"asInt\":\"2\"}]}},{\"name\":\"b\",\"summary\":{\"dataPoints\":[{}]}}]}]}]}",
                   "{\"resourceMetrics\":[{\"resource\":{\"attributes\":[" HOST "," INSTANCE "]},\"scopeMetrics\":[{\"metrics\":["
                   "{\"name\":\"a\",\"gauge\":{\"dataPoints\":[{\"asInt\":\"1\"},{\"asInt\":\"2\"}]}},{\"name\":\"b\",\"summary\":{\"dataPoints\":[{}]}}]}]}]}", 3);
        struct tel_otlp_result result;
        struct taken t;
        taken_init(&t);
        assert_int_equal(tel_otlp_cut(TEL_LOGS, NULL, 0, added, 2, &wide, take, &t, &result), 0);
        assert_int_equal(t.n, 0);
        taken_done(&t);
}

/* A request of many resources and scopes, cut by items and by bytes: every record is a request, within the limits, and together they hold
 * every item once, in order. */
static void test_cut(void **state) {
        (void)state;
        enum { SPANS_MAX = 5000 };
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *json = tel_buf_new(NULL, 0);
        unsigned name = 0;
        srand(3);
#define ADD(...) ({ char s_[160]; int n_ = snprintf(s_, sizeof(s_), __VA_ARGS__); assert_int_equal(tel_buf_append(json, s_, (size_t)n_, SPACE_MAX), 0); })
        ADD("{\"resourceSpans\":[");
        for (unsigned r = 0; r < 12; r++) {
                ADD("%s{\"resource\":{\"attributes\":[{\"key\":\"r\",\"value\":{\"intValue\":%u}}]},\"schemaUrl\":\"s%u\",\"scopeSpans\":[", r ? "," : "", r, r);
                unsigned scopes = 1 + (unsigned)rand() % 5;
                for (unsigned s = 0; s < scopes; s++) {
                        unsigned spans = (unsigned)rand() % 200;
                        ADD("%s{\"scope\":{\"name\":\"scope%u.%u\"},\"spans\":[", s ? "," : "", r, s);
                        for (unsigned i = 0; i < spans; i++, name++)
                                ADD("%s{\"name\":\"%u\",\"startTimeUnixNano\":\"%u\",\"traceState\":\"%*s\"}", i ? "," : "", name, 1000 + name, rand() % 90, "");
                        ADD("]}");
                }
                ADD("]}");
        }
        ADD("]}");
        assert_int_equal(tel_buf_append(json, "", 1, SPACE_MAX), 0);
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *body = wire(TEL_TRACES, (const char *)json->data), *text = tel_buf_new(NULL, 0);
        added_init();
        static const struct tel_otlp_limits limits[] = { { 1000, 512u << 10 }, { 100, 512u << 10 }, { 7, 512u << 10 }, { 1, 1 }, { 1000, 3000 }, { 33, 900 } };
        for (size_t k = 0; k < TEL_ARRAY_LEN(limits); k++) {
                struct taken t;
                struct tel_otlp_result result;
                taken_init(&t);
                assert_int_equal(tel_otlp_cut(TEL_TRACES, body->data, body->len, added, 2, &limits[k], take, &t, &result), 0);
                assert_int_equal(result.items, name);
                assert_int_equal(result.records, t.n);
                unsigned next = 0;
                const uint8_t *at = t.bytes->data;
                for (size_t i = 0; i < t.n; i++) {
                        assert_true(t.records[i].items <= limits[k].items_max || t.records[i].items == 1);
                        assert_int_equal(tel_otlp_items(TEL_TRACES, at, at + t.records[i].bytes), t.records[i].items);
                        assert_int_equal(t.records[i].time_min_ns, 1000 + next);
                        const char *p = json_of(TEL_TRACES, at, t.records[i].bytes, text);
                        while ((p = strstr(p, "\"name\":\""))) {
                                p += 8;
                                if (*p == 's')
                                        continue;
                                assert_int_equal(strtoul(p, NULL, 10), next++);
                        }
                        assert_int_equal(t.records[i].time_max_ns, 1000 + next - 1);
                        struct tel_otlp_resource r;
                        const uint8_t *q = at;
                        while (tel_otlp_resource_next(&q, at + t.records[i].bytes, &r)) {
                                size_t len;
                                const char *host = tel_otlp_resource_get(&r, "host.name", &len);
                                assert_memory_equal(host, "rig", len);
                                assert_null(tel_otlp_resource_get(&r, "none", &len));
                        }
                        at += t.records[i].bytes;
                }
                assert_int_equal(next, name);
                taken_done(&t);
        }
}

/* COL-OTLP-08: a malformed item is left out and counted; the valid rest is kept, in order. */
static void test_partial(void **state) {
        (void)state;
        added_init();
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *body = wire(TEL_TRACES, "{\"resourceSpans\":[{\"resource\":{},\"scopeSpans\":[{\"spans\":["
                "{\"name\":\"a\",\"traceId\":\"00112233445566778899aabbccddeeff\"},{\"name\":\"b\"},{\"name\":\"c\",\"traceId\":\"ff112233445566778899aabbccddeeff\"}]}]},"
                "{\"scopeSpans\":[{\"spans\":[{\"name\":\"d\"}]}]}]}"), *text = tel_buf_new(NULL, 0);
        /* Make the first id one byte short: its length byte, and a field of one byte that nobody knows in its place. */
        uint8_t *id = memmem(body->data, body->len, "\x0a\x10\x00\x11\x22", 5);
        assert_non_null(id);
        id[1] = 14;
        id[16] = 0x78;                             /* field 15, varint: status, which is a message */
        id[17] = 1;
        struct taken t;
        struct tel_otlp_result result;
        taken_init(&t);
        assert_int_equal(tel_otlp_cut(TEL_TRACES, body->data, body->len, added, 2, &wide, take, &t, &result), 0);
        assert_int_equal(result.items, 3);
        assert_int_equal(result.rejected, 1);
        assert_string_equal(result.error, "Span.traceId: expected an id of the right length or none, got 14 bytes");
        const char *out = json_of(TEL_TRACES, t.bytes->data, t.bytes->len, text);
        assert_null(strstr(out, "\"a\""));
        assert_non_null(strstr(out, "\"b\""));
        assert_true(strstr(out, "\"b\"") < strstr(out, "\"c\"") && strstr(out, "\"c\"") < strstr(out, "\"d\""));
        taken_done(&t);
}

/* Malformed around the items: the whole is refused, and the text names the place. */
static void test_refused(void **state) {
        (void)state;
        static const struct { const char *bytes; size_t n; const char *error; } cases[] = {
                { "\x0a", 1, "ExportTraceServiceRequest: malformed or cut short" },
                { "\x0a\x05\x12", 3, "ExportTraceServiceRequest: malformed or cut short" },
                { "\x08\x01", 2, "ExportTraceServiceRequest.resourceSpans: a value of another wire type" },
                { "\x0b", 1, "ExportTraceServiceRequest: malformed or cut short" },
                { "\x00\x00", 2, "ExportTraceServiceRequest: malformed or cut short" },
                { "\x0a\x02\x0a\x05", 4, "ResourceSpans: malformed or cut short" },
                { "\x0a\x04\x12\x02\x12\x01", 6, "ScopeSpans: malformed or cut short" },
                { "\x0a\x03\x1a\x01\xff", 5, "ResourceSpans.schemaUrl: expected UTF-8" },
                { "\x0a\x05\x0a\x03\x0a\x01\x0a", 7, "KeyValue: malformed or cut short" },
                { "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11, "ExportTraceServiceRequest: malformed or cut short" },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++) {
                struct taken t;
                struct tel_otlp_result result;
                taken_init(&t);
                assert_int_equal(tel_otlp_cut(TEL_TRACES, (const uint8_t *)cases[i].bytes, cases[i].n, NULL, 0, &wide, take, &t, &result), -EBADMSG);
                assert_string_equal(result.error, cases[i].error);
                taken_done(&t);
        }
}

/* The receiver's refusal ends the cut and comes back. */
static void test_no_room(void **state) {
        (void)state;
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *body = wire(TEL_TRACES, "{\"resourceSpans\":[{" SPANS "},{" SPANS "},{" SPANS "}]}");
        struct taken t;
        struct tel_otlp_result result;
        taken_init(&t);
        t.refuse_at = 1;
        assert_int_equal(tel_otlp_cut(TEL_TRACES, body->data, body->len, NULL, 0, &(struct tel_otlp_limits){ 1, 1000 }, take, &t, &result), -EAGAIN);
        assert_int_equal(t.n, 1);
        taken_done(&t);
}

/* A large Resource with many small items would be repeated in each record: refused before it takes the buffer. */
static void test_growth(void **state) {
        (void)state;
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *json = tel_buf_new(NULL, 0);
        ADD("{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"");
        for (unsigned i = 0; i < 20000; i++)
                ADD("0123456789");
        ADD("\"}]},\"scopeSpans\":[{\"spans\":[");
        for (unsigned i = 0; i < 3000; i++)
                ADD("%s{}", i ? "," : "");
        ADD("]}]}]}");
        assert_int_equal(tel_buf_append(json, "", 1, SPACE_MAX), 0);
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *body = wire(TEL_TRACES, (const char *)json->data);
        struct taken t;
        struct tel_otlp_result result;
        taken_init(&t);
        assert_int_equal(tel_otlp_cut(TEL_TRACES, body->data, body->len, NULL, 0, &wide, take, &t, &result), 0);
        assert_int_equal(t.n, 3);
        taken_done(&t);
        taken_init(&t);
        assert_int_equal(tel_otlp_cut(TEL_TRACES, body->data, body->len, NULL, 0, &(struct tel_otlp_limits){ 10, 1000 }, take, &t, &result), -EMSGSIZE);
        assert_non_null(strstr(result.error, "too large for so many items"));
        taken_done(&t);
}

/* 64 AnyValues may nest, as lists of pairs, the longest way. */
static void test_depth(void **state) {
        (void)state;
        for (unsigned n = 60; n <= 80; n++) {
                uint8_t body[2048], *end = body + sizeof(body), *at = end;
#define WRAP(number) ({ size_t len_ = (size_t)(end - at); uint8_t head_[12]; uint8_t *h_ = tel_bytes_head_put(head_, number, len_); \
                        at -= h_ - head_; memcpy(at, head_, (size_t)(h_ - head_)); })
                for (unsigned i = 1; i < n; i++) {
                        WRAP(2);                   /* KeyValue.value */
                        WRAP(1);                   /* KeyValueList.values */
                        WRAP(6);                   /* AnyValue.kvlistValue */
                }
                WRAP(5);                           /* LogRecord.body */
                WRAP(2);
                WRAP(2);
                WRAP(1);
                struct taken t;
                struct tel_otlp_result result;
                taken_init(&t);
                assert_int_equal(tel_otlp_cut(TEL_LOGS, at, (size_t)(end - at), NULL, 0, &wide, take, &t, &result), 0);
                assert_int_equal(result.items, n <= TEL_OTLP_DEPTH_MAX + 3);
                taken_done(&t);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_splice), cmocka_unit_test(test_items), cmocka_unit_test(test_cut), cmocka_unit_test(test_partial),
                cmocka_unit_test(test_refused), cmocka_unit_test(test_no_room), cmocka_unit_test(test_growth), cmocka_unit_test(test_depth),
        };
        return cmocka_run_group_tests_name("otlp", tests, NULL, NULL);
}
