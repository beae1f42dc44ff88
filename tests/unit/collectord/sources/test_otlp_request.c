/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>
#include <libdeflate.h>
#include <zstd.h>

#include "collectord/sources/otlp_request.h"
#include "collectord/spool/reader.h"
#include "collectord/stats.h"
#include "libtelemetry/cursor.h"

#define PROTOBUF "application/x-protobuf"
#define JSON "application/json"
#define BODY_MAX (1u << 20)

static const uint64_t now = 1700000000 * TEL_NS_PER_S;

/* resourceLogs / scopeLogs / one logRecord with a body "hi", as protobuf; field 1, 2, 2 for each signal. */
static const char log_wire[] = "\x0a\x0c\x12\x0a\x12\x08\x2a\x06\x0a\x04high";
/* The same with a second record, whose trace id has one byte. */
static const char log_wire_mixed[] = "\x0a\x11\x12\x0f\x12\x08\x2a\x06\x0a\x04high\x12\x03\x4a\x01x";
static const char log_wire_bad[] = "\x0a\x07\x12\x05\x12\x03\x4a\x01x";
static const char log_json[] = "{\"resourceLogs\":[{\"scopeLogs\":[{\"logRecords\":[{\"body\":{\"stringValue\":\"high\"}}]}]}]}";

struct bench {
        struct pipeline pipeline;
        struct tel_budget ingest;
        struct otlp_door door;
        struct http_reply reply;
};

static void bench_init(struct bench *b, size_t memory) {
        *b = (struct bench){ .ingest = { .limit = 4 * BODY_MAX } };
        assert_int_equal(spools_new(&(struct spools_settings){ memory, 0 }, segment_store_memory_new(), &(struct spools_events){ 0 },
                                    &b->pipeline.spools), 0);
        b->door = (struct otlp_door){ .pipeline = &b->pipeline, .body_max = BODY_MAX };
        stats = (struct stats){ 0 };
}

/* Ends the bench; nothing may be held of the ingest budget. */
static void bench_done(struct bench *b) {
        tel_buf_unref(b->reply.body);
        assert_int_equal(b->ingest.used, 0);
        spools_free(b->pipeline.spools);
}

struct ask {
        const char *method, *path, *type, *coding;
        const void *body;
        size_t n;
};

static unsigned ask(struct bench *b, const struct ask *a) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *body = NULL;
        if (a->n > 0) {
                body = tel_buf_new(&b->ingest, a->n);
                assert_non_null(body);
                assert_int_equal(tel_buf_append(body, a->body, a->n, a->n), 0);
        }
        struct http_view view = { .method = a->method, .path = a->path, .content_type = a->type, .content_encoding = a->coding, .body = body };
        tel_buf_unref(b->reply.body);
        b->reply = (struct http_reply){ 0 };
        otlp_request(&b->door, &view, now, &b->reply);
        return b->reply.status;
}

static unsigned post(struct bench *b, const char *path, const char *type, const char *coding, const void *body, size_t n) {
        return ask(b, &(struct ask){ "POST", path, type, coding, body, n });
}

static void assert_body(const struct bench *b, const char *type, const void *want, size_t n) {
        assert_string_equal(b->reply.content_type, type);
        assert_int_equal(b->reply.body ? b->reply.body->len : 0, n);
        if (n > 0)
                assert_memory_equal(b->reply.body->data, want, n);
}

/* The body is google.rpc.Status with that code and some message, in that encoding. */
static void assert_status(const struct bench *b, const char *type, unsigned code) {
        const struct tel_buf *body = b->reply.body;
        assert_string_equal(b->reply.content_type, type);
        assert_non_null(body);
        if (strcmp(type, JSON) == 0) {
                char want[32];
                int n = snprintf(want, sizeof(want), "{\"code\":%u,\"message\":\"", code);
                assert_true(body->len > (size_t)n + 2);
                assert_memory_equal(body->data, want, (size_t)n);
                assert_memory_equal(body->data + body->len - 2, "\"}", 2);
                return;
        }
        struct tel_field f, g;
        assert_int_equal(tel_field_get(body->data, body->data + body->len, &f), 0);
        assert_true(f.number == 1 && f.wire == TEL_WIRE_VARINT && f.value == code);
        assert_int_equal(tel_field_get(f.end, body->data + body->len, &g), 0);
        assert_true(g.number == 2 && g.wire == TEL_WIRE_BYTES && g.value > 0);
        assert_ptr_equal(g.end, body->data + body->len);
}

/* Status by method, path, types and body, and the encoding and code of what is said about it. code 0: full success. */
static void test_status_table(void **state) {
#define S(text) text, sizeof(text) - 1
        static const struct {
                struct ask ask;
                unsigned status;
                const char *type;
                unsigned code;
        } rows[] = {
                { { "POST", "/v1/traces", PROTOBUF, NULL, S("") }, 200, PROTOBUF, 0 },
                { { "POST", "/v1/metrics", PROTOBUF, NULL, S("") }, 200, PROTOBUF, 0 },
                { { "POST", "/v1/logs", PROTOBUF, NULL, S("") }, 200, PROTOBUF, 0 },
                { { "POST", "/v1/logs", PROTOBUF, NULL, S(log_wire) }, 200, PROTOBUF, 0 },
                { { "POST", "/v1/logs", "Application/X-Protobuf; charset=utf-8", NULL, S(log_wire) }, 200, PROTOBUF, 0 },
                { { "POST", "/v1/logs", " application/x-protobuf ;v=1", "identity", S(log_wire) }, 200, PROTOBUF, 0 },
                { { "POST", "/v1/logs", JSON, NULL, S(log_json) }, 200, JSON, 0 },
                { { "POST", "/v1/logs", "APPLICATION/JSON;charset=utf-8", NULL, S(log_json) }, 200, JSON, 0 },
                { { "POST", "/v1/traces", JSON, NULL, S("{\"resourceSpans\":[]}") }, 200, JSON, 0 },
                { { "POST", "/v1/traces", NULL, NULL, S("{\"resourceSpans\":[]}") }, 200, JSON, 0 },
                { { "POST", "/v1/traces", "application/x-www-form-urlencoded", NULL, S(" \r\n\t{\"resourceSpans\":[]}") }, 200, JSON, 0 },
                { { "POST", "/v1/traces", PROTOBUF, NULL, S(" {\"resourceSpans\":[]}") }, 200, JSON, 0 },
                { { "POST", "/v1/traces", JSON, NULL, S("{}") }, 200, JSON, 0 },
                { { "POST", "/v1/traces", JSON, NULL, S("") }, 400, JSON, 3 },
                { { "POST", "/v1/traces", JSON, NULL, S("  ") }, 400, JSON, 3 },
                { { "POST", "/v1/traces", JSON, NULL, S("[]") }, 400, JSON, 3 },
                { { "POST", "/v1/traces", JSON, NULL, S("{\"resourceSpans\":[}") }, 400, JSON, 3 },
                { { "POST", "/v1/traces", PROTOBUF, NULL, S("{\"resourceSpans\":[}") }, 400, JSON, 3 },
                { { "POST", "/v1/logs", PROTOBUF, NULL, S("garbage") }, 400, PROTOBUF, 3 },
                { { "POST", "/v1/logs", PROTOBUF, NULL, S("\x0a\x7f") }, 400, PROTOBUF, 3 },
                { { "POST", "/v1/logs", PROTOBUF, NULL, S(log_wire_bad) }, 400, PROTOBUF, 3 },
                { { "POST", "/v1/logs", JSON, NULL, S(log_wire) }, 400, JSON, 3 },
                { { "POST", "/v1/logs", PROTOBUF, "gzip", S(log_wire) }, 400, PROTOBUF, 3 },
                { { "POST", "/v1/logs", PROTOBUF, "gzip", S("") }, 400, PROTOBUF, 3 },
                { { "POST", "/v1/logs", JSON, NULL, S("\x1f\x8b\x08") }, 400, JSON, 3 },
                { { "POST", "/", PROTOBUF, NULL, S(log_wire) }, 404, PROTOBUF, 5 },
                { { "POST", "/v1/logs/", JSON, NULL, S("{}") }, 404, JSON, 5 },
                { { "POST", "/v1/profiles", NULL, NULL, S("{}") }, 404, JSON, 5 },
                { { "GET", "/metrics", NULL, NULL, S("") }, 404, JSON, 5 },
                { { "GET", "/v1/logs", NULL, NULL, S("") }, 405, JSON, 12 },
                { { "PUT", "/v1/logs", PROTOBUF, NULL, S(log_wire) }, 405, PROTOBUF, 12 },
                { { "OPTIONS", "/v1/logs", JSON, NULL, S("") }, 405, JSON, 12 },
                { { "POST", "/v1/logs", "text/plain", NULL, S("hello") }, 415, JSON, 3 },
                { { "POST", "/v1/logs", "application/x-protobuffer", NULL, S(log_wire) }, 415, JSON, 3 },
                { { "POST", "/v1/logs", NULL, NULL, S(log_wire) }, 415, JSON, 3 },
                { { "POST", "/v1/logs", NULL, NULL, S("") }, 415, JSON, 3 },
                { { "POST", "/v1/logs", PROTOBUF, "br", S(log_wire) }, 415, PROTOBUF, 3 },
        };
        struct bench b;
        (void)state;
        bench_init(&b, 8 << 20);
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++) {
                unsigned status = ask(&b, &rows[i].ask);
                if (status != rows[i].status)
                        fail_msg("row %zu: %u in place of %u", i, status, rows[i].status);
                if (rows[i].code)
                        assert_status(&b, rows[i].type, rows[i].code);
                else
                        assert_body(&b, rows[i].type, "{}", strcmp(rows[i].type, JSON) == 0 ? 2 : 0);
                assert_true((b.reply.allow != NULL) == (status == 405));
                assert_int_equal(b.reply.retry_after_s, 0);
        }
        bench_done(&b);
#undef S
}

/* Every signal takes its own request, in both encodings. */
static void test_signals(void **state) {
        static const struct {
                const char *path, *json;
                enum tel_signal signal;
                const char *wire;
                size_t n;
        } rows[] = {
                { "/v1/traces", "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"name\":\"a\"},{\"name\":\"b\"}]}]}]}", TEL_TRACES,
                  "\x0a\x0c\x12\x0a\x12\x03\x2a\x01\x61\x12\x03\x2a\x01\x62", 14 },
                { "/v1/metrics", "{\"resourceMetrics\":[{\"scopeMetrics\":[{\"metrics\":[{\"name\":\"m\",\"gauge\":{\"dataPoints\":[{},{}]}}]}]}]}",
                  TEL_METRICS, "\x0a\x0d\x12\x0b\x12\x09\x0a\x01m\x2a\x04\x0a\x00\x0a\x00", 15 },
                { "/v1/logs", "{\"resourceLogs\":[{\"scopeLogs\":[{\"logRecords\":[{},{}]}]}]}", TEL_LOGS, "\x0a\x06\x12\x04\x12\x00\x12\x00", 8 },
        };
        struct bench b;
        (void)state;
        bench_init(&b, 8 << 20);
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++) {
                assert_int_equal(post(&b, rows[i].path, JSON, NULL, rows[i].json, strlen(rows[i].json)), 200);
                assert_body(&b, JSON, "{}", 2);
                assert_int_equal(stats.receiver[TRANSPORT_HTTP][rows[i].signal].accepted, 2);
                assert_int_equal(post(&b, rows[i].path, PROTOBUF, NULL, rows[i].wire, rows[i].n), 200);
                assert_body(&b, PROTOBUF, "", 0);
                assert_int_equal(stats.receiver[TRANSPORT_HTTP][rows[i].signal].accepted, 4);
                assert_int_equal(stats.receiver[TRANSPORT_HTTP][rows[i].signal].requests, 2);
                assert_int_equal(stats.receiver[TRANSPORT_HTTP][rows[i].signal].bytes, strlen(rows[i].json) + rows[i].n);
        }
        bench_done(&b);
}

/* A request of a first resource of 123 bytes begins with "\n{", and is protobuf all the same. */
static void test_newline_brace_is_protobuf(void **state) {
        uint8_t body[125] = "\x0a\x7b\x1a\x79";        /* schema_url of 121 bytes */
        struct bench b;
        (void)state;
        memset(body + 4, 'u', 121);
        bench_init(&b, 8 << 20);
        assert_int_equal(post(&b, "/v1/logs", PROTOBUF, NULL, body, sizeof(body)), 200);
        assert_body(&b, PROTOBUF, "", 0);
        assert_int_equal(post(&b, "/v1/logs", NULL, NULL, "\n{}", 3), 200);
        assert_body(&b, JSON, "{}", 2);
        bench_done(&b);
}

/* Malformed items are told in the answer with their number; the rest is kept. When there is no rest, the request is malformed. */
static void test_partial_success(void **state) {
        struct bench b;
        struct tel_field partial, f;
        (void)state;
        bench_init(&b, 8 << 20);
        assert_int_equal(post(&b, "/v1/logs", PROTOBUF, NULL, log_wire_mixed, sizeof(log_wire_mixed) - 1), 200);
        assert_string_equal(b.reply.content_type, PROTOBUF);
        const uint8_t *end = b.reply.body->data + b.reply.body->len;
        assert_int_equal(tel_field_get(b.reply.body->data, end, &partial), 0);
        assert_true(partial.number == 1 && partial.wire == TEL_WIRE_BYTES && partial.end == end);
        assert_int_equal(tel_field_get(partial.at, partial.end, &f), 0);
        assert_true(f.number == 1 && f.wire == TEL_WIRE_VARINT && f.value == 1);
        assert_int_equal(tel_field_get(f.end, partial.end, &f), 0);
        assert_true(f.number == 2 && f.wire == TEL_WIRE_BYTES && f.value > 0 && f.end == end);
        assert_int_equal(stats.receiver[TRANSPORT_HTTP][TEL_LOGS].accepted, 1);
        assert_int_equal(stats.receiver[TRANSPORT_HTTP][TEL_LOGS].refused, 1);
        assert_int_equal(post(&b, "/v1/logs", PROTOBUF, NULL, log_wire_bad, sizeof(log_wire_bad) - 1), 400);
        assert_int_equal(stats.receiver[TRANSPORT_HTTP][TEL_LOGS].refused, 2);
        bench_done(&b);
}

/* gzip, zstd and deflate bodies of either encoding; gzip also where the header does not say so. */
static void test_compressed(void **state) {
        uint8_t z[512];
        struct bench b;
        struct libdeflate_compressor *c = libdeflate_alloc_compressor(6);
        (void)state;
        bench_init(&b, 8 << 20);
        size_t n = libdeflate_gzip_compress(c, log_wire, sizeof(log_wire) - 1, z, sizeof(z));
        assert_int_equal(post(&b, "/v1/logs", PROTOBUF, "gzip", z, n), 200);
        assert_int_equal(post(&b, "/v1/logs", PROTOBUF, NULL, z, n), 200);
        assert_int_equal(post(&b, "/v1/logs", PROTOBUF, "gzip", z, n - 1), 400);
        n = libdeflate_gzip_compress(c, log_json, sizeof(log_json) - 1, z, sizeof(z));
        assert_int_equal(post(&b, "/v1/logs", NULL, "gzip", z, n), 200);
        assert_body(&b, JSON, "{}", 2);
        n = libdeflate_gzip_compress(c, "", 0, z, sizeof(z));
        assert_int_equal(post(&b, "/v1/logs", PROTOBUF, "gzip", z, n), 200);
        n = libdeflate_zlib_compress(c, log_wire, sizeof(log_wire) - 1, z, sizeof(z));
        assert_int_equal(post(&b, "/v1/logs", PROTOBUF, "deflate", z, n), 200);
        n = ZSTD_compress(z, sizeof(z), log_wire, sizeof(log_wire) - 1, 3);
        assert_int_equal(post(&b, "/v1/logs", PROTOBUF, "zstd", z, n), 200);
        assert_int_equal(stats.receiver[TRANSPORT_HTTP][TEL_LOGS].accepted, 5);
        libdeflate_free_compressor(c);
        bench_done(&b);
}

/* Too large before or after decompression is 413, and the bomb is never unpacked. */
static void test_too_large(void **state) {
        const size_t zeros = 64 << 20;
        uint8_t *plain = calloc(1, zeros), *z = malloc(1 << 20);
        struct libdeflate_compressor *c = libdeflate_alloc_compressor(6);
        struct bench b;
        (void)state;
        bench_init(&b, 8 << 20);
        assert_int_equal(post(&b, "/v1/logs", PROTOBUF, NULL, plain, BODY_MAX + 1), 413);
        assert_status(&b, PROTOBUF, 8);
        size_t n = libdeflate_gzip_compress(c, plain, zeros, z, 1 << 20);
        assert_int_equal(post(&b, "/v1/logs", PROTOBUF, "gzip", z, n), 413);
        assert_status(&b, PROTOBUF, 8);
        assert_int_equal(b.reply.retry_after_s, 0);
        libdeflate_free_compressor(c);
        free(plain);
        free(z);
        bench_done(&b);
}

/* JSON that becomes much larger as protobuf: bucket counts of two bytes are eight. It is bounded like any other unpacking. */
static void test_json_grows(void **state) {
        struct bench b;
        struct tel_buf *text = tel_buf_new(NULL, 0);
        (void)state;
        static const char head[] = "{\"resourceMetrics\":[{\"scopeMetrics\":[{\"metrics\":[{\"histogram\":{\"dataPoints\":[{\"bucketCounts\":[0";
        static const char tail[] = "]}]}}]}]}]}";
        assert_int_equal(tel_buf_append(text, head, sizeof(head) - 1, BODY_MAX), 0);
        for (size_t i = 0; i < BODY_MAX / 4; i++)
                assert_int_equal(tel_buf_append(text, ",0", 2, BODY_MAX), 0);
        assert_int_equal(tel_buf_append(text, tail, sizeof(tail) - 1, BODY_MAX), 0);
        bench_init(&b, 8 << 20);
        assert_int_equal(post(&b, "/v1/metrics", JSON, NULL, text->data, text->len), 413);
        assert_status(&b, JSON, 8);
        tel_buf_unref(text);
        bench_done(&b);
}

/* What a body becomes when it is unpacked is not charged to the budget that received it: a full budget refuses no body it holds. */
static void test_unpacked_beside_ingest(void **state) {
        static const char json[] = "{\"resourceLogs\":[{\"scopeLogs\":[{\"logRecords\":[{\"eventName\":\"a\"}]}]}]}";
        uint8_t z[4096];
        struct bench b;
        struct libdeflate_compressor *c = libdeflate_alloc_compressor(6);
        (void)state;
        bench_init(&b, 8 << 20);
        size_t n = libdeflate_gzip_compress(c, json, sizeof(json) - 1, z, sizeof(z));
        b.ingest.limit = sizeof(struct tel_buf) + n;
        assert_int_equal(post(&b, "/v1/logs", JSON, "gzip", z, n), 200);
        assert_int_equal(stats.receiver[TRANSPORT_HTTP][TEL_LOGS].accepted, 1);
        libdeflate_free_compressor(c);
        bench_done(&b);
}

/* A request with one log record of about 150 KB. */
static const uint8_t *large_log(size_t *ret_n) {
        enum { TEXT = 149968 };
        static uint8_t body[20 + TEXT] = "\x0a\xe0\x93\x09\x12\xdc\x93\x09\x12\xd8\x93\x09\x2a\xd4\x93\x09\x0a\xd0\x93\x09";
        memset(body + 20, 'a', TEXT);
        *ret_n = sizeof(body);
        return body;
}

/* While the readers keep up, a full spool is 503 with Retry-After; what was accepted before stays. */
static void test_spool_full(void **state) {
        size_t n;
        const uint8_t *body = large_log(&n);
        struct reader *reader;
        struct bench b;
        unsigned status = 200, accepted = 0;
        (void)state;
        bench_init(&b, 1 << 20);
        assert_int_equal(reader_new(b.pipeline.spools, TEL_LOGS, &(struct reader_settings){ .destination = "d", .from = UINT64_MAX }, &reader), 0);
        for (; accepted < 100; accepted++) {
                status = post(&b, "/v1/logs", PROTOBUF, NULL, body, n);
                if (status != 200)
                        break;
        }
        assert_int_equal(status, 503);
        assert_true(accepted > 0);
        assert_status(&b, PROTOBUF, 14);
        assert_int_equal(b.reply.retry_after_s, 1);
        assert_int_equal(stats.receiver[TRANSPORT_HTTP][TEL_LOGS].accepted, accepted);
        assert_int_equal(stats.receiver[TRANSPORT_HTTP][TEL_LOGS].failed, 1);
        reader_free(reader, DROP_REMOVED, now);
        bench_done(&b);
}

/* What can never fit into the spools is 413, not come back. */
static void test_larger_than_the_spools(void **state) {
        size_t n;
        const uint8_t *body = large_log(&n);
        struct bench b;
        (void)state;
        bench_init(&b, 64 << 10);
        assert_int_equal(post(&b, "/v1/logs", PROTOBUF, NULL, body, n), 413);
        bench_done(&b);
}

/* The refusals of the server have bodies like all others, even before the head was read. */
static void test_refused(void **state) {
        static const struct {
                unsigned status, code;
        } rows[] = { { 408, 4 }, { 413, 8 }, { 503, 14 } };
        struct bench b;
        (void)state;
        bench_init(&b, 8 << 20);
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++) {
                struct http_view view = { .method = "", .path = "" };
                tel_buf_unref(b.reply.body);
                b.reply = (struct http_reply){ .status = rows[i].status };
                otlp_refused(&view, &b.reply);
                assert_int_equal(b.reply.status, rows[i].status);
                assert_status(&b, JSON, rows[i].code);
                tel_buf_unref(b.reply.body);
                view = (struct http_view){ .method = "POST", .path = "/v1/traces", .content_type = PROTOBUF };
                b.reply = (struct http_reply){ .status = rows[i].status };
                otlp_refused(&view, &b.reply);
                assert_status(&b, PROTOBUF, rows[i].code);
        }
        assert_int_equal(stats.receiver[TRANSPORT_HTTP][TEL_TRACES].failed, 1);
        assert_int_equal(stats.receiver[TRANSPORT_HTTP][TEL_TRACES].refused, 1);
        bench_done(&b);
}

/* Each answer is counted under its code. */
static void test_codes_counted(void **state) {
        struct bench b;
        uint64_t sum = 0;
        (void)state;
        bench_init(&b, 8 << 20);
        post(&b, "/v1/logs", PROTOBUF, NULL, "", 0);
        post(&b, "/v1/logs", PROTOBUF, NULL, "x", 1);
        post(&b, "/nowhere", PROTOBUF, NULL, "", 0);
        for (size_t i = 0; i < STATS_HTTP_CODES; i++) {
                unsigned code = stats_http_codes[i];
                sum += stats.http_codes[i];
                assert_int_equal(stats.http_codes[i], code == 200 || code == 400 || code == 404 ? 1 : 0);
        }
        assert_int_equal(sum, 3);
        bench_done(&b);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_status_table), cmocka_unit_test(test_signals), cmocka_unit_test(test_newline_brace_is_protobuf),
                cmocka_unit_test(test_partial_success), cmocka_unit_test(test_compressed), cmocka_unit_test(test_too_large),
                cmocka_unit_test(test_json_grows), cmocka_unit_test(test_unpacked_beside_ingest), cmocka_unit_test(test_spool_full),
                cmocka_unit_test(test_larger_than_the_spools), cmocka_unit_test(test_refused), cmocka_unit_test(test_codes_counted),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
