/* SPDX-License-Identifier: Apache-2.0 */
/* What a peer may post: the first byte says the signal and what the rest is (protobuf, JSON, a gzip body as it is, bytes that we compress).
 * Either the request is refused and leaves nothing, or every record in the spool is a body that the cutter takes again with the same items. */
#include <libdeflate.h>

#include "collectord/sources/otlp_request.h"
#include "collectord/stats.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define BODY_MAX (256u << 10)

struct seen {
        uint64_t items, records;
};

static int on_space(void *ctx, const struct tel_otlp_record *record, uint8_t **ret_space) {
        static uint8_t space[8 << 20];
        struct seen *s = ctx;
        assert(record->bytes <= sizeof(space));
        s->items += record->items;
        s->records++;
        *ret_space = space;
        return 0;
}

static int on_record(void *ctx, const struct record *record) {
        static const struct tel_otlp_limits limits = { RECORD_ITEMS_MAX, RECORD_BYTES_MAX };
        struct seen again = { 0 }, *all = ctx;
        struct tel_otlp_result result;
        int r = tel_otlp_cut(record->signal, record->body, record->body_bytes, NULL, 0, &limits, on_space, &again, &result);
        assert(r == 0 && result.rejected == 0 && again.items == record->items);
        assert(tel_otlp_items(record->signal, record->body, record->body + record->body_bytes) == record->items);
        all->items += record->items;
        all->records++;
        return 0;
}

static void check_reply(const struct http_reply *reply) {
        assert(reply->content_type && (reply->status == 503) == (reply->retry_after_s > 0));
        bool json = strcmp(reply->content_type, "application/json") == 0;
        assert(reply->body || (!json && reply->status == 200));
        if (json)
                assert(reply->body->len >= 2 && reply->body->data[0] == '{' && reply->body->data[reply->body->len - 1] == '}');
        if (reply->status != 200)
                assert(reply->body->len > 0);
}

static struct tel_buf *body_of(unsigned kind, const uint8_t *data, size_t n, struct tel_budget *budget) {
        struct tel_buf *b = tel_buf_new(budget, n + 64);
        assert(b);
        if (kind == 3) {
                struct libdeflate_compressor *c = libdeflate_alloc_compressor(1);
                b->len = libdeflate_gzip_compress(c, data, n, b->data, b->capacity);
                libdeflate_free_compressor(c);
        } else
                tel_buf_append(b, data, n, n);
        return b;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        static const char *const paths[] = { "/v1/traces", "/v1/metrics", "/v1/logs" };
        static const char *const types[] = { "application/x-protobuf", "application/json", NULL, "application/x-protobuf" };
        static const char *const codings[] = { NULL, NULL, "gzip", NULL };
        struct pipeline pipeline = { 0 };
        struct tel_budget ingest = { .limit = 8 * BODY_MAX };
        struct otlp_door door = { .pipeline = &pipeline, .body_max = BODY_MAX };
        struct http_reply reply = { 0 };
        struct seen seen = { 0 };
        char key[] = "k", value[] = "v", *keys[] = { key }, *values[] = { value };
        if (n < 1 || n > BODY_MAX)
                return 0;
        enum tel_signal signal = data[0] % 3;
        unsigned kind = data[0] / 3 % 4;
        int r = spools_new(&(struct spools_settings){ 32 << 20, 32 << 20 }, segment_store_memory_new(), &(struct spools_events){ 0 }, &pipeline.spools);
        assert(r == 0);
        r = identity_init(&pipeline.identity, "host", "instance", &(struct tel_config_map){ keys, values, 1 });
        assert(r == 0);
        struct tel_buf *body = body_of(kind, data + 1, n - 1, &ingest);
        const struct http_view view = { .method = "POST", .path = paths[signal], .content_type = types[kind], .content_encoding = codings[kind],
                                        .body = body };
        uint64_t accepted = stats.receiver[TRANSPORT_HTTP][signal].accepted;
        otlp_request(&door, &view, 1, &reply);
        check_reply(&reply);
        r = spool_walk(pipeline.spools, signal, 1, on_record, &seen);
        assert(r == 0 && seen.items == stats.receiver[TRANSPORT_HTTP][signal].accepted - accepted);
        assert(reply.status == 200 || seen.records == 0);
        tel_buf_unref(reply.body);
        tel_buf_unref(body);
        assert(ingest.used == 0);
        spools_free(pipeline.spools);
        identity_done(&pipeline.identity);
        return 0;
}
