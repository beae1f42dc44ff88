/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>
#include <libdeflate.h>
#include <zstd.h>

#include "collectord/sources/inflate.h"
#include "libtelemetry/cursor.h"

#define MAX (1u << 20)

static uint8_t text[64 << 10];                     /* what is compressed: neither all the same nor random */

static int setup(void **state) {
        (void)state;
        for (size_t i = 0; i < sizeof(text); i++)
                text[i] = (uint8_t)(i * i >> 7);
        return 0;
}

static size_t gzip(const void *in, size_t n, uint8_t *out, size_t room) {
        struct libdeflate_compressor *c = libdeflate_alloc_compressor(6);
        size_t r = libdeflate_gzip_compress(c, in, n, out, room);
        libdeflate_free_compressor(c);
        assert_true(r > 0);
        return r;
}

static size_t zlib(const void *in, size_t n, uint8_t *out, size_t room) {
        struct libdeflate_compressor *c = libdeflate_alloc_compressor(6);
        size_t r = libdeflate_zlib_compress(c, in, n, out, room);
        libdeflate_free_compressor(c);
        assert_true(r > 0);
        return r;
}

static int inflate(enum content_coding coding, const uint8_t *body, size_t n, size_t max, struct tel_budget *budget, struct tel_buf **ret) {
        return inflate_body(coding, body, n, max, budget, ret);
}

/* Whatever comes, comes out again, and the budget is even afterwards. */
static void check(enum content_coding coding, const uint8_t *body, size_t n, const void *want, size_t len) {
        struct tel_budget budget = { 0 };
        struct tel_buf *out = NULL;
        assert_int_equal(inflate(coding, body, n, MAX, &budget, &out), 0);
        assert_int_equal(out->len, len);
        assert_memory_equal(out->data, want, len);
        tel_buf_unref(out);
        assert_int_equal(budget.used, 0);
}

static void check_fails(enum content_coding coding, const uint8_t *body, size_t n, size_t max, int error) {
        struct tel_budget budget = { 0 };
        struct tel_buf *out = NULL;
        assert_int_equal(inflate(coding, body, n, max, &budget, &out), error);
        assert_null(out);
        assert_int_equal(budget.used, 0);
        assert_true(budget.peak <= max + sizeof(struct tel_buf));
}

/* The header's word in any case, blanks around it, and gzip's magic over whatever it says. */
static void test_coding(void **state) {
        const uint8_t plain[] = "{}", magic[] = { 0x1f, 0x8b };
        (void)state;
        assert_int_equal(content_coding_of(NULL, plain, 2), CODING_IDENTITY);
        assert_int_equal(content_coding_of("", plain, 2), CODING_IDENTITY);
        assert_int_equal(content_coding_of(" GZip ", plain, 2), CODING_GZIP);
        assert_int_equal(content_coding_of("x-gzip", plain, 2), CODING_GZIP);
        assert_int_equal(content_coding_of("zstd", plain, 2), CODING_ZSTD);
        assert_int_equal(content_coding_of("deflate", plain, 2), CODING_DEFLATE);
        assert_int_equal(content_coding_of("br", plain, 2), CODING_UNKNOWN);
        assert_int_equal(content_coding_of("gzip, gzip", plain, 2), CODING_UNKNOWN);
        assert_int_equal(content_coding_of("gzi", plain, 2), CODING_UNKNOWN);
        assert_int_equal(content_coding_of(NULL, magic, 2), CODING_GZIP);
        assert_int_equal(content_coding_of("br", magic, 2), CODING_GZIP);
        assert_int_equal(content_coding_of("identity", magic, 1), CODING_IDENTITY);
}

/* gzip, zlib and zstd give back what went in, an empty body too. */
static void test_round_trip(void **state) {
        static uint8_t z[128 << 10];
        (void)state;
        for (size_t n = 0; n <= sizeof(text); n = n ? n * 4 : 1) {
                check(CODING_GZIP, z, gzip(text, n, z, sizeof(z)), text, n);
                check(CODING_DEFLATE, z, zlib(text, n, z, sizeof(z)), text, n);
                check(CODING_ZSTD, z, ZSTD_compress(z, sizeof(z), text, n, 3), text, n);
        }
}

/* Members and frames that follow each other are one body. */
static void test_members(void **state) {
        static uint8_t z[256 << 10];
        (void)state;
        size_t n = gzip(text, 40000, z, sizeof(z));
        n += gzip("", 0, z + n, sizeof(z) - n);
        n += gzip(text + 40000, sizeof(text) - 40000, z + n, sizeof(z) - n);
        check(CODING_GZIP, z, n, text, sizeof(text));
        n = ZSTD_compress(z, sizeof(z), text, 40000, 3);
        n += ZSTD_compress(z + n, sizeof(z) - n, text + 40000, sizeof(text) - 40000, 3);
        check(CODING_ZSTD, z, n, text, sizeof(text));
}

/* More members than anybody sends are refused, because each costs tables of its own. */
static void test_members_bounded(void **state) {
        static uint8_t z[64 << 10];
        size_t n = 0;
        (void)state;
        for (int i = 0; i < 1024; i++)
                n += gzip("", 0, z + n, sizeof(z) - n);
        check(CODING_GZIP, z, n, "", 0);
        n += gzip("", 0, z + n, sizeof(z) - n);
        check_fails(CODING_GZIP, z, n, MAX, -EBADMSG);
}

/* Every prefix of a body is refused, and so is a byte behind its end. */
static void test_cut_and_garbage(void **state) {
        static uint8_t z[4][1024];
        (void)state;
        const size_t n[] = { gzip(text, 600, z[0], 900), zlib(text, 600, z[1], 900), ZSTD_compress(z[2], 900, text, 600, 3) };
        const enum content_coding coding[] = { CODING_GZIP, CODING_DEFLATE, CODING_ZSTD };
        for (int i = 0; i < 3; i++) {
                for (size_t cut = 0; cut < n[i]; cut++) {
                        struct tel_buf *out = NULL;
                        int r = inflate(coding[i], z[i], cut, MAX, NULL, &out);
                        assert_true(r == -EBADMSG || r == -EMSGSIZE);  /* the last bytes of a cut gzip are no length */
                        assert_null(out);
                }
                z[i][n[i]] = 'x';
                struct tel_buf *out = NULL;
                int r = inflate(coding[i], z[i], n[i] + 1, MAX, NULL, &out);
                assert_true(r == -EBADMSG || r == -EMSGSIZE);
                assert_null(out);
        }
}

/* max bytes pass, one more does not, and no more than max is ever allocated. */
static void test_max(void **state) {
        static uint8_t z[128 << 10];
        (void)state;
        for (int i = 0; i < 3; i++) {
                enum content_coding coding = i == 0 ? CODING_GZIP : i == 1 ? CODING_DEFLATE : CODING_ZSTD;
                size_t n = i == 0 ? gzip(text, 50000, z, sizeof(z)) : i == 1 ? zlib(text, 50000, z, sizeof(z))
                                  : ZSTD_compress(z, sizeof(z), text, 50000, 3);
                struct tel_buf *out = NULL;
                assert_int_equal(inflate(coding, z, n, 50000, NULL, &out), 0);
                assert_int_equal(out->capacity, 50000);
                tel_buf_unref(out);
                check_fails(coding, z, n, 49999, -EMSGSIZE);
                check_fails(coding, z, n, 0, -EMSGSIZE);
        }
}

/* The length at the end of a gzip body is a claim: a small one costs attempts, a large one no memory, and one over max is looked into: a bomb is too
 * large, a damaged body is damaged. */
static void test_lying_length(void **state) {
        static uint8_t z[128 << 10];
        struct tel_budget budget = { 0 };
        struct tel_buf *out = NULL;
        (void)state;
        size_t n = gzip(text, sizeof(text), z, sizeof(z));
        tel_le32_put(z + n - 4, 1);
        assert_int_equal(inflate(CODING_GZIP, z, n, MAX, NULL, &out), -EBADMSG);       /* libdeflate compares in the end */
        check_fails(CODING_GZIP, z, n, 1000, -EMSGSIZE);
        tel_le32_put(z + n - 4, MAX + 1);
        assert_int_equal(inflate(CODING_GZIP, z, n, MAX, NULL, &out), -EBADMSG);
        assert_int_equal(inflate(CODING_GZIP, z, n / 2, 1000, NULL, &out), -EMSGSIZE);
        tel_le32_put(z + n / 2 - 4, MAX + 1);
        assert_int_equal(inflate(CODING_GZIP, z, n / 2, MAX, NULL, &out), -EBADMSG);
        n = gzip("a", 1, z, sizeof(z));
        tel_le32_put(z + n - 4, MAX);
        assert_int_equal(inflate(CODING_GZIP, z, n, MAX, &budget, &out), -EBADMSG);
        assert_true(budget.peak < 64 << 10);
        n = gzip(text, sizeof(text), z, sizeof(z));  /* a true small one behind a large member */
        n += gzip("b", 1, z + n, sizeof(z) - n);
        assert_int_equal(inflate(CODING_GZIP, z, n, MAX, NULL, &out), 0);
        assert_int_equal(out->len, sizeof(text) + 1);
        tel_buf_unref(out);
}

/* Some megabytes of zeros as gzip of several members, whose last length says nothing. */
static void test_bomb(void **state) {
        const size_t zeros = 64 << 20;
        uint8_t *plain = calloc(1, zeros), *z = malloc(1 << 20);
        (void)state;
        size_t n = gzip(plain, zeros, z, 1 << 20);
        check_fails(CODING_GZIP, z, n, MAX, -EMSGSIZE);
        n += gzip("b", 1, z + n, (1 << 20) - n);
        check_fails(CODING_GZIP, z, n, MAX, -EMSGSIZE);
        n = zlib(plain, zeros, z, 1 << 20);
        check_fails(CODING_DEFLATE, z, n, MAX, -EMSGSIZE);
        n = ZSTD_compress(z, 1 << 20, plain, zeros, 3);
        check_fails(CODING_ZSTD, z, n, MAX, -EMSGSIZE);
        free(plain);
        free(z);
}

static size_t zstd_stream(uint8_t *out, size_t room, const void *in, size_t n, int window_log) {
        ZSTD_CCtx *c = ZSTD_createCCtx();
        ZSTD_inBuffer from = { in, n, 0 };
        ZSTD_outBuffer to = { out, room, 0 };
        ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, window_log);
        ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 0);
        ZSTD_compressStream2(c, &to, &from, ZSTD_e_continue);          /* else one call would know the length */
        while (ZSTD_compressStream2(c, &to, &from, ZSTD_e_end) > 0)
                ;
        ZSTD_freeCCtx(c);
        return to.pos;
}

/* Without a length in its head a frame grows the buffer as it goes; a window over 8 MB is refused before any memory is taken. */
static void test_zstd_stream(void **state) {
        static uint8_t z[128 << 10];
        (void)state;
        size_t n = zstd_stream(z, sizeof(z), text, sizeof(text), 23);
        check(CODING_ZSTD, z, n, text, sizeof(text));
        check_fails(CODING_ZSTD, z, n, 50000, -EMSGSIZE);
        n = zstd_stream(z, sizeof(z), text, sizeof(text), 27);
        check_fails(CODING_ZSTD, z, n, MAX, -EMSGSIZE);
}

/* Over the budget is another answer than too large: come back. */
static void test_budget(void **state) {
        static uint8_t z[128 << 10];
        struct tel_buf *out = NULL;
        (void)state;
        for (int i = 0; i < 3; i++) {
                struct tel_budget budget = { .limit = 30000 };
                enum content_coding coding = i == 0 ? CODING_GZIP : i == 1 ? CODING_DEFLATE : CODING_ZSTD;
                size_t n = i == 0 ? gzip(text, sizeof(text), z, sizeof(z)) : i == 1 ? zlib(text, sizeof(text), z, sizeof(z))
                                  : ZSTD_compress(z, sizeof(z), text, sizeof(text), 3);
                assert_int_equal(inflate(coding, z, n, MAX, &budget, &out), -ENOBUFS);
                assert_int_equal(budget.used, 0);
        }
        assert_int_equal(inflate(CODING_IDENTITY, z, 1, MAX, NULL, &out), -EINVAL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_coding),       cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_members),
                cmocka_unit_test(test_members_bounded), cmocka_unit_test(test_cut_and_garbage), cmocka_unit_test(test_max),
                cmocka_unit_test(test_lying_length), cmocka_unit_test(test_bomb),         cmocka_unit_test(test_zstd_stream),
                cmocka_unit_test(test_budget),
        };
        return cmocka_run_group_tests(tests, setup, NULL);
}
