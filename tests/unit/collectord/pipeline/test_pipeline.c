/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>
#include <systemd/sd-id128.h>

#include "collectord/pipeline/pipeline.h"
#include "collectord/spool/reader.h"
#include "libtelemetry/cursor.h"

static const uint64_t now = 1700000000 * TEL_NS_PER_S;
static const struct origin origin = { .source = SOURCE_OTLP, .producer = 7 };

/* ---- Bodies ---- */

struct body {
        uint8_t bytes[256 << 10];
        size_t n;
};

/* Appends in[0..n) as field number of out. */
static void put(struct body *out, uint32_t number, const void *in, size_t n) {
        assert_true(out->n + n + 16 < sizeof(out->bytes));
        uint8_t *p = tel_bytes_head_put(out->bytes + out->n, number, n);
        memcpy(p, in, n);
        out->n = (size_t)(p + n - out->bytes);
}

static void put_body(struct body *out, uint32_t number, const struct body *in) {
        put(out, number, in->bytes, in->n);
}

/* One log record at second i with text of len bytes. */
static void put_log(struct body *scope, unsigned i, size_t len) {
        static struct body record, value;
        static uint8_t text[128 << 10];
        record.n = value.n = 0;
        record.bytes[record.n++] = 1 << 3 | TEL_WIRE_FIXED64;
        tel_le64_put(record.bytes + record.n, i * TEL_NS_PER_S);
        record.n += 8;
        memset(text, 'a', len);
        put(&value, 1, text, len);
        put_body(&record, 5, &value);
        put_body(scope, 2, &record);
}

/* A request: one resource with host.name when given, n logs of len bytes each. bad: one of them has a trace id of the wrong length. */
static void logs(struct body *out, const char *host, unsigned n, size_t len, bool bad) {
        static struct body scope, resource_logs, resource;
        scope.n = resource_logs.n = resource.n = out->n = 0;
        if (host) {
                resource.n = tel_otlp_attribute_put(resource.bytes, sizeof(resource.bytes), 1, "host.name", host);
                put_body(&resource_logs, 1, &resource);
        }
        for (unsigned i = 1; i <= n; i++)
                put_log(&scope, i, len);
        if (bad)
                put(&scope, 2, "\x4a\x01x", 3);
        put_body(&resource_logs, 2, &scope);
        put_body(out, 1, &resource_logs);
}

/* ---- A pipeline to submit to ---- */

struct bench {
        struct pipeline pipeline;
        unsigned appended;
};

static void on_appended(void *ctx, enum tel_signal signal) {
        struct bench *b = ctx;
        assert_int_equal(signal, TEL_LOGS);
        b->appended++;
}

static void bench_init(struct bench *b, size_t memory) {
        char key[] = "environment", value[] = "test", *keys[] = { key }, *values[] = { value };
        const struct tel_config_map labels = { keys, values, 1 };
        const struct spools_events events = { .appended = on_appended, .ctx = b };
        *b = (struct bench){ 0 };
        assert_int_equal(spools_new(&(struct spools_settings){ memory, memory }, segment_store_memory_new(), &events, &b->pipeline.spools), 0);
        assert_int_equal(identity_init(&b->pipeline.identity, "box", "0000", &labels), 0);
}

static void bench_done(struct bench *b) {
        spools_free(b->pipeline.spools);
        identity_done(&b->pipeline.identity);
}

struct seen {
        unsigned records;
        uint64_t items;
        struct record heads[8];
        uint8_t first[64 << 10];
};

static int on_record(void *ctx, const struct record *r) {
        struct seen *s = ctx;
        assert_true(s->records < TEL_ARRAY_LEN(s->heads));
        if (s->records == 0 && r->body_bytes <= sizeof(s->first))
                memcpy(s->first, r->body, r->body_bytes);
        s->heads[s->records++] = *r;
        s->items += r->items;
        return 0;
}

static struct seen *look(struct bench *b) {
        static struct seen s;
        s = (struct seen){ 0 };
        spool_walk(b->pipeline.spools, TEL_LOGS, 1, on_record, &s);
        return &s;
}

static void assert_attribute(const struct seen *s, const char *key, const char *want) {
        const uint8_t *at = s->first;
        struct tel_otlp_resource r;
        size_t n;
        assert_true(tel_otlp_resource_next(&at, s->first + s->heads[0].body_bytes, &r));
        const char *got = tel_otlp_resource_get(&r, key, &n);
        assert_non_null(got);
        assert_int_equal(n, strlen(want));
        assert_memory_equal(got, want, n);
}

/* ---- Submitting ---- */

/* A record's head says what is in it, where it came from and when, and its resource has host, instance and labels. */
static void test_submit(void **state) {
        static struct body body;
        struct bench b;
        struct tel_otlp_result result;
        (void)state;
        bench_init(&b, 8 << 20);
        logs(&body, NULL, 3, 10, false);
        assert_int_equal(pipeline_submit(&b.pipeline, TEL_LOGS, body.bytes, body.n, &origin, now, &result), 0);
        assert_int_equal(result.items, 3);
        assert_int_equal(result.rejected, 0);
        struct seen *s = look(&b);
        assert_int_equal(s->records, 1);
        const struct record *r = &s->heads[0];
        assert_int_equal(r->sequence, 1);
        assert_int_equal(r->items, 3);
        assert_int_equal(r->received_ns, now);
        assert_int_equal(r->time_min_ns, 1 * TEL_NS_PER_S);
        assert_int_equal(r->time_max_ns, 3 * TEL_NS_PER_S);
        assert_int_equal(r->producer, 7);
        assert_int_equal(r->source, SOURCE_OTLP);
        assert_int_equal(r->encoding, RECORD_OTLP);
        assert_int_equal(r->signal, TEL_LOGS);
        assert_attribute(s, "host.name", "box");
        assert_attribute(s, "service.instance.id", "0000");
        assert_attribute(s, "environment", "test");
        bench_done(&b);
}

/* What the peer said about itself stands. */
static void test_own_host_name_stays(void **state) {
        static struct body body;
        struct bench b;
        struct tel_otlp_result result;
        (void)state;
        bench_init(&b, 8 << 20);
        logs(&body, "theirs", 1, 10, false);
        assert_int_equal(pipeline_submit(&b.pipeline, TEL_LOGS, body.bytes, body.n, &origin, now, &result), 0);
        struct seen *s = look(&b);
        assert_attribute(s, "host.name", "theirs");
        assert_attribute(s, "environment", "test");
        bench_done(&b);
}

/* A large request is cut into records of at most a thousand items, which become visible at once. */
static void test_cut(void **state) {
        static struct body body;
        struct bench b;
        struct tel_otlp_result result;
        (void)state;
        bench_init(&b, 8 << 20);
        logs(&body, NULL, 2500, 40, false);
        assert_int_equal(pipeline_submit(&b.pipeline, TEL_LOGS, body.bytes, body.n, &origin, now, &result), 0);
        assert_int_equal(result.records, 3);
        struct seen *s = look(&b);
        assert_int_equal(s->records, 3);
        assert_int_equal(s->items, 2500);
        for (unsigned i = 0; i < s->records; i++)
                assert_true(s->heads[i].items <= RECORD_ITEMS_MAX);
        assert_int_equal(b.appended, 1);
        bench_done(&b);
}

/* An empty request is fine and leaves nothing; a malformed one is refused with a reason and leaves nothing either. */
static void test_empty_and_malformed(void **state) {
        static struct body body;
        struct bench b;
        struct tel_otlp_result result;
        (void)state;
        bench_init(&b, 8 << 20);
        assert_int_equal(pipeline_submit(&b.pipeline, TEL_LOGS, (const uint8_t *)"", 0, &origin, now, &result), 0);
        assert_int_equal(result.records, 0);
        logs(&body, NULL, 2500, 40, false);
        body.n = body.n > 100 ? body.n - 100 : 0;
        assert_int_equal(pipeline_submit(&b.pipeline, TEL_LOGS, body.bytes, body.n, &origin, now, &result), -EBADMSG);
        assert_true(*result.error != '\0');
        logs(&body, NULL, 2500, 40, false);                    /* a whole resource in records, then garbage behind it */
        memcpy(body.bytes + body.n, "\x0a\x7f", 2);
        body.n += 2;
        assert_int_equal(pipeline_submit(&b.pipeline, TEL_LOGS, body.bytes, body.n, &origin, now, &result), -EBADMSG);
        assert_int_equal(result.items, 0);
        assert_int_equal(look(&b)->records, 0);
        assert_int_equal(b.appended, 0);
        assert_int_equal(spool_end(b.pipeline.spools, TEL_LOGS), 1);
        bench_done(&b);
}

/* A malformed item is left out and counted; the rest is kept. */
static void test_partial(void **state) {
        static struct body body;
        struct bench b;
        struct tel_otlp_result result;
        (void)state;
        bench_init(&b, 8 << 20);
        logs(&body, NULL, 4, 10, true);
        assert_int_equal(pipeline_submit(&b.pipeline, TEL_LOGS, body.bytes, body.n, &origin, now, &result), 0);
        assert_int_equal(result.items, 4);
        assert_int_equal(result.rejected, 1);
        assert_true(*result.error != '\0');
        assert_int_equal(look(&b)->items, 4);
        logs(&body, NULL, 0, 0, true);             /* all of them: nothing is kept */
        assert_int_equal(pipeline_submit(&b.pipeline, TEL_LOGS, body.bytes, body.n, &origin, now, &result), 0);
        assert_int_equal(result.items, 0);
        assert_int_equal(result.rejected, 1);
        assert_int_equal(look(&b)->records, 1);
        static const uint8_t metrics[] = "\x0a\x10\x12\x0e\x12\x03\x0a\x01h\x12\x07\x2a\x05\x0a\x03\x31\x01\x01";   /* no points; a cut one */
        assert_int_equal(pipeline_submit(&b.pipeline, TEL_METRICS, metrics, sizeof(metrics) - 1, &origin, now, &result), 0);
        assert_int_equal(result.items, 0);
        assert_int_equal(result.rejected, 1);
        assert_int_equal(spool_end(b.pipeline.spools, TEL_METRICS), 1);
        bench_done(&b);
}

/* While a reader keeps up a full spool turns a request away as a whole, and says so; once it has read there is room again. */
static void test_full(void **state) {
        static struct body body;
        struct bench b;
        struct tel_otlp_result result;
        struct reader *reader;
        struct batch *batch;
        int r = 0;
        (void)state;
        bench_init(&b, 400 << 10);
        assert_int_equal(reader_new(b.pipeline.spools, TEL_LOGS, &(struct reader_settings){ .destination = "d", .from = UINT64_MAX }, &reader), 0);
        logs(&body, NULL, 1, 100 << 10, false);
        uint64_t end = 0;
        for (int i = 0; i < 100 && r == 0; i++) {
                end = spool_end(b.pipeline.spools, TEL_LOGS);
                r = pipeline_submit(&b.pipeline, TEL_LOGS, body.bytes, body.n, &origin, now, &result);
        }
        assert_int_equal(r, -EAGAIN);
        assert_true(*result.error != '\0');
        assert_int_equal(result.items, 0);
        assert_int_equal(spool_end(b.pipeline.spools, TEL_LOGS), end);
        while (reader_take(reader, 0, 0, now, &batch) == 0)
                reader_settle(reader, batch, &(struct settlement){ .delivered = batch->items }, now);
        assert_int_equal(pipeline_submit(&b.pipeline, TEL_LOGS, body.bytes, body.n, &origin, now, &result), 0);
        reader_free(reader, DROP_REMOVED, now);
        bench_done(&b);
}

/* What can never fit is another answer than come back. */
static void test_too_large(void **state) {
        static struct body body;
        struct bench b;
        struct tel_otlp_result result;
        (void)state;
        bench_init(&b, 64 << 10);
        logs(&body, NULL, 1, 100 << 10, false);
        assert_int_equal(pipeline_submit(&b.pipeline, TEL_LOGS, body.bytes, body.n, &origin, now, &result), -EMSGSIZE);
        assert_true(*result.error != '\0');
        bench_done(&b);
}

/* ---- Identity ---- */

/* A label of ours takes the place of what would be found out; an empty name is not sent; too many labels are refused. */
static void test_identity(void **state) {
        char *keys[TEL_OTLP_ADDED_MAX], *values[TEL_OTLP_ADDED_MAX], names[TEL_OTLP_ADDED_MAX][8];
        struct identity i;
        (void)state;
        char key[] = "host.name", value[] = "alias";
        keys[0] = key;
        values[0] = value;
        assert_int_equal(identity_init(&i, "box", "0000", &(struct tel_config_map){ keys, values, 1 }), 0);
        assert_int_equal(i.n, 2);
        assert_string_equal(i.attributes[0].key, "service.instance.id");
        assert_string_equal(i.attributes[1].key, "host.name");
        assert_memory_equal(i.attributes[1].wire + i.attributes[1].wire_len - 5, "alias", 5);
        assert_string_equal(i.host, "box");
        identity_done(&i);
        assert_int_equal(identity_init(&i, "", "", &(struct tel_config_map){ 0 }), 0);
        assert_int_equal(i.n, 0);
        identity_done(&i);
        for (size_t k = 0; k < TEL_OTLP_ADDED_MAX; k++) {
                snprintf(names[k], sizeof(names[k]), "k%zu", k);
                keys[k] = values[k] = names[k];
        }
        assert_int_equal(identity_init(&i, "box", "0000", &(struct tel_config_map){ keys, values, TEL_OTLP_ADDED_MAX - 2 }), 0);
        assert_int_equal(i.n, TEL_OTLP_ADDED_MAX);
        for (size_t k = 0; k < i.n; k++)
                assert_int_equal(strlen(i.attributes[k].key), i.attributes[k].key_len);
        identity_done(&i);
        assert_int_equal(identity_init(&i, "box", "0000", &(struct tel_config_map){ keys, values, TEL_OTLP_ADDED_MAX - 1 }), -E2BIG);
}

/* The instance is a UUID that stays, differs by host, and does not tell the machine id. */
static void test_instance(void **state) {
        char a[37], b[37], again[37], machine[SD_ID128_UUID_STRING_MAX] = "";
        sd_id128_t id;
        (void)state;
        identity_instance("one", a);
        identity_instance("two", b);
        identity_instance("one", again);
        assert_string_equal(a, again);
        assert_string_not_equal(a, b);
        assert_int_equal(strlen(a), 36);
        assert_int_equal(a[14], '4');
        assert_non_null(strchr("89ab", a[19]));
        if (sd_id128_get_machine(&id) >= 0)
                sd_id128_to_uuid_string(id, machine);
        assert_string_not_equal(a, machine);
}

static void test_host(void **state) {
        char host[64] = "", cut[3] = "";
        (void)state;
        identity_host(host, sizeof(host));
        assert_true(*host != '\0');
        assert_null(strpbrk(host, " \t\r\n"));
        identity_host(cut, sizeof(cut));
        assert_true(strlen(cut) <= 2 && strncmp(cut, host, strlen(cut)) == 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_submit),  cmocka_unit_test(test_own_host_name_stays), cmocka_unit_test(test_cut),
                cmocka_unit_test(test_empty_and_malformed), cmocka_unit_test(test_partial), cmocka_unit_test(test_full),
                cmocka_unit_test(test_too_large), cmocka_unit_test(test_identity), cmocka_unit_test(test_instance),
                cmocka_unit_test(test_host),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
