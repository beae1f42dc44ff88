/* SPDX-License-Identifier: Apache-2.0 */
/* Header blocks of one direction, each behind a byte with its length; length 255 is a gap within the block that follows. In one piece and byte by
 * byte they say the same and leave the same table, which keeps to its bounds. */
#include "beylad/protocols/hpack.h"

struct heard {
        struct hpack hpack;
        uint64_t hash;
        size_t fields;
};

static void mix(struct heard *h, const void *bytes, size_t n) {
        const uint8_t *b = bytes;
        for (size_t i = 0; i < n; i++)
                h->hash = (h->hash ^ b[i]) * 0x100000001b3u;
        h->hash = (h->hash ^ (bytes ? n : SIZE_MAX)) * 0x100000001b3u;
}

static void on_field(void *ctx, const struct hpack_field *f) {
        struct heard *h = ctx;
        assert(f->name_len <= HPACK_NAME_MAX && f->value_len <= HPACK_VALUE_MAX);
        assert((f->name || f->name_len == 0) && (f->value || f->value_len == 0));
        mix(h, f->name, f->name_len);
        mix(h, f->value, f->value_len);
        h->fields++;
}

/* Each piece in memory of exactly its size, so that a sanitizer sees a read behind it. */
static int feed(struct heard *h, const uint8_t *block, size_t n, size_t piece) {
        for (size_t at = 0; at < n; at += piece) {
                size_t len = TEL_MIN(piece, n - at);
                uint8_t *copy = malloc(len);
                memcpy(copy, block + at, len);
                int r = hpack_data(&h->hpack, copy, len, on_field, h);
                free(copy);
                assert(r == 0 || r == -EBADMSG);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void check(const struct heard *a, const struct heard *b, int r_a, int r_b) {
        const struct hpack *h = &a->hpack;
        assert(r_a == r_b && a->hash == b->hash && a->fields == b->fields);
        assert(h->size == b->hpack.size && h->count == b->hpack.count && h->limit == b->hpack.limit && h->partial == b->hpack.partial);
        assert(h->size <= h->limit && h->limit <= HPACK_TABLE_MAX && h->count <= h->room && h->room <= HPACK_TABLE_MAX / 32);
        assert(h->name.room <= HPACK_NAME_MAX && h->value.room <= HPACK_VALUE_MAX);
        assert(r_a == 0 || (h->count == 0 && h->partial && h->stage == HPACK_FIELD));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        struct heard whole = { .fields = 0 }, bytes = { .fields = 0 };
        hpack_init(&whole.hpack);
        hpack_init(&bytes.hpack);
        for (size_t at = 0; at < n;) {
                size_t len = data[at++], gap = len == 255;
                if (gap && at < n)
                        len = data[at++];
                len = TEL_MIN(len, n - at);
                int r_whole = feed(&whole, data + at, len, n), r_bytes = feed(&bytes, data + at, len, 1);
                check(&whole, &bytes, r_whole, r_bytes);
                if (gap) {
                        hpack_forget(&whole.hpack);
                        hpack_forget(&bytes.hpack);
                } else if (r_whole == 0) {
                        r_whole = hpack_end(&whole.hpack);
                        r_bytes = hpack_end(&bytes.hpack);
                }
                check(&whole, &bytes, r_whole, r_bytes);
                at += len;
        }
        hpack_done(&whole.hpack);
        hpack_done(&bytes.hpack);
        return 0;
}
