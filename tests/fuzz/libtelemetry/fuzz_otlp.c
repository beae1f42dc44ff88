/* SPDX-License-Identifier: Apache-2.0 */
/* The cut: whatever is taken comes out as records that are taken again, whole, with the same items; cutting them again changes nothing. */
#include "libtelemetry/otlp.h"

struct out {
        struct tel_buf *bytes;
        size_t items, records, at[1024], len[1024], item[1024];
};

static int space(void *ctx, const struct tel_otlp_record *record, uint8_t **ret) {
        struct out *o = ctx;
        if (o->records == TEL_ARRAY_LEN(o->at) || tel_buf_reserve(o->bytes, record->bytes, 8 << 20) < 0)
                return -EAGAIN;
        *ret = o->bytes->data + o->bytes->len;
        o->at[o->records] = o->bytes->len;
        o->len[o->records] = record->bytes;
        o->item[o->records++] = record->items;
        o->items += record->items;
        o->bytes->len += record->bytes;
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        static struct out first, again;
        static uint8_t wire[2][64];
        struct tel_otlp_attribute added[2] = { { "a", 1, wire[0], 0 }, { "bc", 2, wire[1], 0 } };
        struct tel_otlp_result result, second;
        if (n < 2)
                return 0;
        for (size_t i = 0; i < 2; i++)
                added[i].wire_len = tel_otlp_attribute_put(wire[i], sizeof(wire[i]), 1, added[i].key, "value");
        enum tel_signal signal = data[0] % 3;
        struct tel_otlp_limits limits = { 1 + data[1] % 7, 20u + 10u * data[1] };
        first = again = (struct out){ 0 };
        first.bytes = tel_buf_new(NULL, 0);
        again.bytes = tel_buf_new(NULL, 0);
        int r = tel_otlp_cut(signal, data + 2, n - 2, added, 2, &limits, space, &first, &result);
        if (r == -EBADMSG && !result.error[0])
                abort();
        for (size_t i = 0; r == 0 && i < first.records; i++) {
                const uint8_t *at = first.bytes->data + first.at[i];
                again.bytes->len = again.records = again.items = 0;
                if (tel_otlp_cut(signal, at, first.len[i], added, 2, &(struct tel_otlp_limits){ SIZE_MAX, SIZE_MAX }, space, &again, &second) < 0)
                        abort();
                if (second.rejected || again.records > 1 || again.items != first.item[i] || tel_otlp_items(signal, at, at + first.len[i]) != first.item[i])
                        abort();
                if (again.records == 1 && (again.len[0] != first.len[i] || memcmp(again.bytes->data, at, first.len[i]) != 0))
                        abort();
        }
        tel_buf_unref(first.bytes);
        tel_buf_unref(again.bytes);
        return 0;
}
