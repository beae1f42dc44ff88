/* SPDX-License-Identifier: Apache-2.0 */
/* Compressed bodies, by the first byte gzip, zstd or zlib. Whatever comes out is within the bound, a bound below it refuses it, and nothing
 * stays charged. What we compress ourselves comes back. */
#include <libdeflate.h>

#include "collectord/sources/inflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define MAX (1u << 20)

static int inflate(enum content_coding coding, const uint8_t *data, size_t n, size_t max, size_t *ret_len) {
        struct tel_budget budget = { 0 };
        struct tel_buf *out = NULL;
        int r = inflate_body(coding, data, n, max, &budget, &out);
        assert(r == 0 || r == -EBADMSG || r == -EMSGSIZE);
        assert((r == 0) == (out != NULL) && budget.peak <= max + sizeof(*out));
        if (out) {
                assert(out->len <= max);
                *ret_len = out->len;
        }
        tel_buf_unref(out);
        assert(budget.used == 0);
        return r;
}

static void round_trip(const uint8_t *data, size_t n) {
        static uint8_t z[256 << 10];
        struct libdeflate_compressor *c = libdeflate_alloc_compressor(1);
        size_t len = libdeflate_gzip_compress(c, data, n, z, sizeof(z)), half = n / 2;
        struct tel_buf *out = NULL;
        libdeflate_free_compressor(c);
        if (len == 0)
                return;
        int r = inflate_body(CODING_GZIP, z, len, n ? n : 1, NULL, &out);
        assert(r == 0 && out->len == n && (n == 0 || memcmp(out->data, data, n) == 0));
        tel_buf_unref(out);
        if (half > 0)
                assert(inflate(CODING_GZIP, z, len, half, &half) == -EMSGSIZE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        static const enum content_coding codings[] = { CODING_GZIP, CODING_ZSTD, CODING_DEFLATE };
        size_t len = 0, again = 0;
        if (n < 1)
                return 0;
        enum content_coding coding = codings[data[0] % TEL_ARRAY_LEN(codings)];
        if (inflate(coding, data + 1, n - 1, MAX, &len) == 0 && len > 0) {
                assert(inflate(coding, data + 1, n - 1, len, &again) == 0 && again == len);
                assert(inflate(coding, data + 1, n - 1, len - 1, &again) == -EMSGSIZE);
        }
        (void)content_coding_of("gzip", data, n);
        round_trip(data, n);
        return 0;
}
