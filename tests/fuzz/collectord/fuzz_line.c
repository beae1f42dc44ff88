/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of the frame socket: what is taken is a request that the door takes, of one item for the short form. */
#include "collectord/sources/line.h"

static int space(void *ctx, const struct tel_otlp_record *record, uint8_t **ret) {
        struct tel_buf *b = ctx;
        b->len = 0;
        if (tel_buf_reserve(b, record->bytes, SIZE_MAX / 2) < 0)
                return -ENOMEM;
        *ret = b->data;
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = tel_buf_new(NULL, 0), *record = tel_buf_new(NULL, 0);
        struct tel_otlp_limits limits = { 1000, 512u << 10 };
        struct tel_otlp_result result;
        enum tel_signal signal;
        char error[TEL_OTLP_ERROR_MAX] = "";
        if (!out || !record || n > LINE_BYTES_MAX)
                return 0;
        int r = line_parse((const char *)data, n, 1, out, 1 << 20, &signal, error);
        if (r < 0) {
                if (r == -EBADMSG && !error[0])
                        abort();
                return 0;
        }
        if (tel_otlp_cut(signal, out->data, out->len, NULL, 0, &limits, space, record, &result) < 0 || result.rejected)
                abort();
        return 0;
}
