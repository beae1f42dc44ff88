/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "libtelemetry/otlp_json.h"
#include "libtelemetry/writer.h"

/* What w holds, as message in OTLP/JSON: read by code that knows nothing of the writer. */
static const char *json_of(const struct tel_writer *w, enum tel_message message) {
        static char text[65536];
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *b = tel_buf_new(NULL, 0);
        assert_false(w->full);
        assert_int_equal(tel_otlp_to_json(message, w->at, tel_writer_len(w), b, sizeof(text) - 1), 0);
        memcpy(text, b->data, b->len);
        text[b->len] = '\0';
        return text;
}

static void span_write(struct tel_writer *w) {
        static const uint8_t trace[16] = { 1, [15] = 2 }, span[8] = { 3, [7] = 4 };
        size_t request = tel_writer_begin(w), scopes = tel_writer_begin(w), at = tel_writer_begin(w), status;
        tel_writer_fixed32(w, 16, 1);
        status = tel_writer_begin(w);
        tel_writer_varint(w, 3, 2);
        tel_writer_text(w, 2, "no");
        tel_writer_end(w, 15, status);
        tel_writer_attribute_int(w, 9, "b", 1, -5);
        tel_writer_attribute_text(w, 9, "a", 1, "x", 1);
        tel_writer_fixed64(w, 8, UINT64_MAX);
        tel_writer_fixed64(w, 7, 1);
        tel_writer_varint(w, 6, 2);
        tel_writer_text(w, 5, "");
        tel_writer_bytes(w, 2, span, sizeof(span));
        tel_writer_bytes(w, 1, trace, sizeof(trace));
        tel_writer_end(w, 2, at);
        tel_writer_end(w, 2, scopes);
        tel_writer_end(w, 1, request);
}

/* Messages inside messages: each has the length of what was written in it, and fields stand in their order. */
static void test_nested(void **state) {
        (void)state;
        uint8_t buffer[512];
        struct tel_writer w;
        tel_writer_init(&w, buffer, sizeof(buffer));
        span_write(&w);
        assert_string_equal(json_of(&w, TEL_MSG_TRACES_REQUEST),
                            "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"traceId\":\"01000000000000000000000000000002\","
                            "\"spanId\":\"0300000000000004\",\"kind\":2,\"startTimeUnixNano\":\"1\","
                            "\"endTimeUnixNano\":\"18446744073709551615\",\"attributes\":[{\"key\":\"a\",\"value\":{\"stringValue\":\"x\"}},"
                            "{\"key\":\"b\",\"value\":{\"intValue\":\"-5\"}}],\"status\":{\"message\":\"no\",\"code\":2},\"flags\":1}]}]}]}");
        assert_ptr_equal(w.end, buffer + sizeof(buffer));
}

/* A body of every length around those where its length takes one byte more. */
static void test_lengths(void **state) {
        (void)state;
        static uint8_t buffer[40000], body[20000];
        static const size_t lengths[] = { 0, 1, 126, 127, 128, 129, 16382, 16383, 16384 };
        for (size_t i = 0; i < TEL_ARRAY_LEN(lengths); i++) {
                struct tel_writer w;
                struct tel_field outer, inner;
                tel_writer_init(&w, buffer, sizeof(buffer));
                size_t at = tel_writer_begin(&w);
                memset(body, (int)i + 1, sizeof(body));
                tel_writer_bytes(&w, 1, body, lengths[i]);
                tel_writer_end(&w, 16, at);            /* a tag of two bytes */
                assert_int_equal(tel_field_get(w.at, w.end, &outer), 0);
                assert_int_equal(outer.number, 16);
                assert_ptr_equal(outer.end, w.end);
                assert_int_equal(tel_field_get(outer.at, outer.end, &inner), 0);
                assert_int_equal(inner.value, lengths[i]);
                assert_memory_equal(inner.at, body, lengths[i]);
        }
}

/* Every kind of attribute, with short and long texts, reads back as it was given. */
static void test_attributes(void **state) {
        (void)state;
        static uint8_t buffer[4096];
        char text[301] = "", want[2048];
        struct tel_writer w;
        memset(text, 'y', 300);
        tel_writer_init(&w, buffer, sizeof(buffer));
        tel_writer_attribute_texts(&w, 1, "list", 4, text, 300);
        tel_writer_attribute_texts(&w, 1, "short", 5, "", 0);
        tel_writer_attribute_bool(&w, 1, "no", 2, false);
        tel_writer_attribute_bool(&w, 1, "yes", 3, true);
        tel_writer_attribute_int(&w, 1, "most", 4, INT64_MAX);
        tel_writer_attribute_int(&w, 1, "zero", 4, 0);
        tel_writer_attribute_text(&w, 1, "long", 4, text, 300);
        tel_writer_attribute_text(&w, 1, "empty", 5, "", 0);
        snprintf(want, sizeof(want),
                 "{\"attributes\":[{\"key\":\"empty\",\"value\":{\"stringValue\":\"\"}},{\"key\":\"long\",\"value\":{\"stringValue\":\"%s\"}},"
                 "{\"key\":\"zero\",\"value\":{\"intValue\":\"0\"}},{\"key\":\"most\",\"value\":{\"intValue\":\"9223372036854775807\"}},"
                 "{\"key\":\"yes\",\"value\":{\"boolValue\":true}},{\"key\":\"no\",\"value\":{\"boolValue\":false}},"
                 "{\"key\":\"short\",\"value\":{\"arrayValue\":{\"values\":[{\"stringValue\":\"\"}]}}},"
                 "{\"key\":\"list\",\"value\":{\"arrayValue\":{\"values\":[{\"stringValue\":\"%s\"}]}}}]}", text, text);
        assert_string_equal(json_of(&w, TEL_MSG_RESOURCE), want);
}

/* The smallest buffer that is enough is filled to its first byte; one byte less says full, and nothing before the buffer is touched. */
static void test_full(void **state) {
        (void)state;
        uint8_t buffer[512];
        struct tel_writer w;
        tel_writer_init(&w, buffer, sizeof(buffer));
        span_write(&w);
        size_t need = tel_writer_len(&w);
        for (size_t n = 0; n <= need; n++) {
                memset(buffer, 0xaa, sizeof(buffer));
                tel_writer_init(&w, buffer + 100, n);
                span_write(&w);
                assert_int_equal(w.full, n < need);
                for (size_t i = 0; i < 100; i++)
                        assert_int_equal(buffer[i], 0xaa);
                for (size_t i = 100 + n; i < sizeof(buffer); i++)
                        assert_int_equal(buffer[i], 0xaa);
                if (n == need)
                        assert_int_equal(tel_writer_room(&w), 0);
        }
        tel_writer_raw(&w, "x", 1);
        assert_true(w.full);
        assert_int_equal(tel_writer_len(&w), need);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_nested),
                cmocka_unit_test(test_lengths),
                cmocka_unit_test(test_attributes),
                cmocka_unit_test(test_full),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
