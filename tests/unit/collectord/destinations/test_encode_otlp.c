/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>
#include <libdeflate.h>

#include "collectord/destinations/batch.h"
#include "collectord/destinations/encode_otlp.h"
#include "libtelemetry/otlp.h"
#include "libtelemetry/otlp_json.h"

#define NOW (1700000000 * TEL_NS_PER_S)

struct rig {
        struct spools *spools;
        struct reader *reader;
        struct encoder *encoder;
        struct tel_budget egress;
        struct drop_rule rule;
        struct destination_settings settings;
};

static int setup(void **state) {
        struct rig *g = calloc(1, sizeof(*g));
        assert_int_equal(spools_new(&(struct spools_settings){ 10 << 20, 0 }, segment_store_memory_new(), &(struct spools_events){ 0 }, &g->spools), 0);
        assert_int_equal(reader_new(g->spools, TEL_LOGS, &(struct reader_settings){ .destination = "d", .from = UINT64_MAX }, &g->reader), 0);
        g->encoder = encoder_new(&g->egress);
        g->rule = (struct drop_rule){ (char *)"telemetry.sdk.name", (char *)"beyla" };
        *state = g;
        return 0;
}

static int teardown(void **state) {
        struct rig *g = *state;
        reader_free(g->reader, DROP_STOP, NOW);
        spools_free(g->spools);
        encoder_free(g->encoder);
        assert_int_equal(g->egress.used, 0);
        free(g);
        return 0;
}

static void append(struct rig *g, const char *json, uint32_t items) {
        struct tel_buf *b = tel_buf_new(NULL, 0);
        char error[TEL_OTLP_ERROR_MAX];
        uint8_t *to;
        assert_int_equal(tel_otlp_from_json(TEL_LOGS, json, strlen(json), b, 1 << 20, error), 0);
        spool_begin(g->spools, TEL_LOGS);
        assert_int_equal(spool_reserve(g->spools, &(struct record){ .signal = TEL_LOGS, .encoding = RECORD_OTLP, .body_bytes = (uint32_t)b->len, .items = items,
                                                                    .received_ns = NOW }, NOW, &to), 0);
        memcpy(to, b->data, b->len);
        spool_commit(g->spools, NOW);
        tel_buf_unref(b);
}

static struct batch *take(struct rig *g) {
        struct batch *b;
        assert_int_equal(reader_take(g->reader, 0, 0, NOW, &b), 0);
        return b;
}

static struct tel_buf *joined(const struct body *b) {
        struct tel_buf *out = tel_buf_new(NULL, b->bytes + 1);
        for (size_t i = 0; i < b->n; i++)
                assert_int_equal(tel_buf_append(out, b->pieces[i].iov_base, b->pieces[i].iov_len, SIZE_MAX / 2), 0);
        assert_int_equal(out->len, b->bytes);
        return out;
}

static void assert_json(const uint8_t *bytes, size_t n, const char *json) {
        struct tel_buf *text = tel_buf_new(NULL, 0);
        assert_int_equal(tel_otlp_to_json(TEL_MSG_LOGS_REQUEST, bytes, n, text, 1 << 20), 0);
        assert_int_equal(tel_buf_append(text, "", 1, 1 << 20), 0);
        assert_string_equal((char *)text->data, json);
        tel_buf_unref(text);
}

static void settle(struct rig *g, struct batch *b) {
        reader_settle(g->reader, b, &(struct settlement){ .delivered = b->items }, NOW);
}

#define LOG(name) "{\"resource\":{\"attributes\":[{\"key\":\"telemetry.sdk.name\",\"value\":{\"stringValue\":\"" name "\"}}]},\"scopeLogs\":[{\"logRecords\":[{\"eventName\":\"" name "\"}]}]}"
#define REQUEST(list) "{\"resourceLogs\":[" list "]}"

/* Records join to one request, whose bytes lie where they are. */
static void test_join(void **state) {
        struct rig *g = *state;
        struct body body;
        append(g, REQUEST(LOG("a")), 1);
        append(g, REQUEST(LOG("b") "," LOG("c")), 2);
        struct batch *b = take(g);
        assert_int_equal(encode_otlp(g->encoder, &g->settings, b, false, &body), 0);
        assert_int_equal(body.items, 3);
        assert_int_equal(body.n, 2);
        assert_ptr_equal(body.pieces[0].iov_base, b->parts[0].record->body);
        struct tel_buf *out = joined(&body);
        assert_json(out->data, out->len, REQUEST(LOG("a") "," LOG("b") "," LOG("c")));
        tel_buf_unref(out);
        body_done(&body);
        settle(g, b);
}

/* COL-LOC-07: resources that a rule names are left out, and counted as filtered. */
static void test_drop(void **state) {
        struct rig *g = *state;
        struct body body;
        g->settings.drop = (struct tel_config_list){ &g->rule, 1 };
        append(g, REQUEST(LOG("beyla")), 1);
        append(g, REQUEST(LOG("a") "," LOG("beyla") "," LOG("b") "," LOG("beyla")), 4);
        struct batch *b = take(g);
        assert_int_equal(encode_otlp(g->encoder, &g->settings, b, false, &body), 0);
        assert_int_equal(body.items, 2);
        assert_int_equal(body.filtered, 3);
        struct tel_buf *out = joined(&body);
        assert_json(out->data, out->len, REQUEST(LOG("a") "," LOG("b")));
        tel_buf_unref(out);
        body_done(&body);
        settle(g, b);
        append(g, REQUEST(LOG("beyla")), 1);
        b = take(g);
        assert_int_equal(encode_otlp(g->encoder, &g->settings, b, false, &body), 0);
        assert_int_equal(body.bytes, 0);
        assert_int_equal(body.items, 0);
        body_done(&body);
        settle(g, b);
}

/* gzip holds exactly the joined bytes; JSON is the OTLP/JSON of them. */
static void test_encodings(void **state) {
        struct rig *g = *state;
        struct body body;
        uint8_t raw[4096];
        size_t n;
        append(g, REQUEST(LOG("a")), 1);
        append(g, REQUEST(LOG("b")), 1);
        struct batch *b = take(g);
        g->settings.compression = COMPRESSION_GZIP;
        assert_int_equal(encode_otlp(g->encoder, &g->settings, b, false, &body), 0);
        assert_string_equal(body.content_encoding, "gzip");
        assert_string_equal(body.content_type, "application/x-protobuf");
        struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
        assert_int_equal(libdeflate_gzip_decompress(d, body.pieces[0].iov_base, body.bytes, raw, sizeof(raw), &n), LIBDEFLATE_SUCCESS);
        assert_int_equal(n, body.raw_bytes);
        assert_json(raw, n, REQUEST(LOG("a") "," LOG("b")));
        assert_true(g->egress.used > 0);
        body_done(&body);
        g->settings.encoding = OTLP_ENCODING_JSON;
        assert_int_equal(encode_otlp(g->encoder, &g->settings, b, false, &body), 0);
        assert_string_equal(body.content_type, "application/json");
        assert_int_equal(libdeflate_gzip_decompress(d, body.pieces[0].iov_base, body.bytes, raw, sizeof(raw), &n), LIBDEFLATE_SUCCESS);
        assert_int_equal(n, strlen(REQUEST(LOG("a") "," LOG("b"))));
        assert_memory_equal(raw, REQUEST(LOG("a") "," LOG("b")), n);
        body_done(&body);
        libdeflate_free_decompressor(d);
        g->egress.limit = g->egress.used + 100;
        assert_int_equal(encode_otlp(g->encoder, &g->settings, b, false, &body), -ENOBUFS);
        assert_int_equal(encode_otlp(g->encoder, &g->settings, b, true, &body), 0);
        assert_true(body.bytes > 0);
        body_done(&body);
        settle(g, b);
}

/* A record is halved by its items until each stands alone; nothing is lost on the way. */
static void test_halves(void **state) {
        struct rig *g = *state;
        append(g, REQUEST(LOG("a") "," LOG("b") "," LOG("c") "," LOG("d") "," LOG("e")), 5);
        struct batch *b = take(g), *second, *third;
        struct tel_buf *one, *two;
        uint64_t items;
        assert_int_equal(encode_otlp_halves(b, &one, &items, &two), 0);
        assert_true(items == 2 || items == 3);
        assert_int_equal(batch_split_own(b, one, items, two, &second), 0);
        assert_int_equal(b->items + second->items, 5);
        struct batch *larger = b->items == 3 ? b : second;
        assert_int_equal(encode_otlp_halves(larger, &one, &items, &two), 0);
        assert_int_equal(batch_split_own(larger, one, items, two, &third), 0);
        struct batch *single = larger->items == 1 ? larger : third;
        assert_int_equal(single->items, 1);
        assert_int_equal(encode_otlp_halves(single, &one, &items, &two), -EINVAL);
        struct body body;
        size_t bytes = 0;
        struct batch *all[] = { b, second, third };
        for (size_t i = 0; i < 3; i++) {
                assert_int_equal(encode_otlp(g->encoder, &g->settings, all[i], false, &body), 0);
                bytes += body.bytes;
                body_done(&body);
        }
        assert_int_equal(bytes, b->parts[0].record->body_bytes);
        for (size_t i = 0; i < 3; i++)
                settle(g, all[i]);
        assert_int_equal(reader_ledger(g->reader)->delivered, 5);
}

/* COL-K8S-09: what a 2xx says. */
static void test_answers(void **state) {
        (void)state;
        static const struct { const char *bytes; size_t n; uint64_t rejected; const char *message; } cases[] = {
                { "", 0, 0, "" }, { "{}", 2, 0, "" }, { "{\"partialSuccess\":{}}", 21, 0, "" },
                { "\x0a\x09\x08\x03\x12\x05" "oh no", 11, 3, "oh no" },
                { " {\"partialSuccess\":{\"rejectedSpans\":\"12\",\"errorMessage\":\"bad \\u0041\\n\"}}", 73, 12, "bad A " },
                { "{\"partialSuccess\":{\"rejectedLogRecords\":7}}", 43, 7, "" },
                { "{\"other\":{\"rejectedSpans\":7}}", 29, 0, "" }, { "{\"partialSuccess\":{\"rejectedSpans\":\"-1\"}}", 42, 0, "" },
                { "<html>ok</html>", 15, 0, "" }, { "\x0a\xff\xff", 3, 0, "" }, { "\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 13, 0, "" },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++) {
                uint64_t rejected;
                char message[64];
                decode_otlp_answer((const uint8_t *)cases[i].bytes, cases[i].n, &rejected, message, sizeof(message));
                if (rejected != cases[i].rejected || strcmp(message, cases[i].message) != 0)
                        fail_msg("case %zu: %llu '%s'", i, (unsigned long long)rejected, message);
        }
}

/* COL-BAT-01, COL-BAT-05: by items, by bytes, by the age of the oldest, or at once. */
static void test_due(void **state) {
        struct rig *g = *state;
        uint64_t due;
        g->settings.batch = (struct batch_settings){ .items = 3, .max_bytes = 1000, .timeout_ns = 5 * TEL_NS_PER_S };
        assert_int_equal(batch_due(g->reader, &g->settings, NOW, &due), BATCH_NONE);
        assert_int_equal(due, UINT64_MAX);
        append(g, REQUEST(LOG("a")), 1);
        assert_int_equal(batch_due(g->reader, &g->settings, NOW, &due), BATCH_NONE);
        assert_int_equal(due, NOW + 5 * TEL_NS_PER_S);
        assert_int_equal(batch_due(g->reader, &g->settings, due, &due), BATCH_TIMEOUT);
        append(g, REQUEST(LOG("a") "," LOG("b")), 2);
        assert_int_equal(batch_due(g->reader, &g->settings, NOW, &due), BATCH_SIZE);
        g->settings.batch = (struct batch_settings){ .items = 1000, .max_bytes = 100, .timeout_ns = 5 * TEL_NS_PER_S };
        assert_int_equal(batch_due(g->reader, &g->settings, NOW, &due), BATCH_SIZE);
        g->settings.batch = (struct batch_settings){ .items = 1000, .timeout_ns = 0 };
        assert_int_equal(batch_due(g->reader, &g->settings, NOW, &due), BATCH_TIMEOUT);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_join, setup, teardown), cmocka_unit_test_setup_teardown(test_drop, setup, teardown),
                cmocka_unit_test_setup_teardown(test_encodings, setup, teardown), cmocka_unit_test_setup_teardown(test_halves, setup, teardown),
                cmocka_unit_test(test_answers), cmocka_unit_test_setup_teardown(test_due, setup, teardown),
        };
        return cmocka_run_group_tests_name("encode_otlp", tests, NULL, NULL);
}
