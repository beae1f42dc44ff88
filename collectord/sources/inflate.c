/* SPDX-License-Identifier: Apache-2.0 */
#include <isa-l/igzip_lib.h>
#include <libdeflate.h>
#include <strings.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "collectord/sources/inflate.h"
#include "libtelemetry/cursor.h"

#define GZIP_MEMBERS_MAX 1024                      /* each begins a table of its own; bgzip's blocks of 64 KB reach it at 64 MB */
#define GZIP_MEMBER_MIN 18                         /* bytes of head and trailer */
#define DEFLATE_RATIO_MAX 1032                     /* the most that deflate can give for a byte */
#define FIRST_GUESS 4                              /* times the input, where nothing tells the length: protobuf packs 3 to 8 times */
#define OUTPUT_MIN 256u                            /* of a buffer, so that an empty body has one */
#define ZSTD_WINDOW_LOG_MAX 23                     /* 8 MB: what RFC 8878, 3.1.1.1.2, asks every decoder to support */

enum content_coding content_coding_of(const char *header, const uint8_t *body, size_t n) {
        static const struct {
                const char *name;
                enum content_coding coding;
        } names[] = {
                { "", CODING_IDENTITY }, { "identity", CODING_IDENTITY }, { "gzip", CODING_GZIP }, { "x-gzip", CODING_GZIP },
                { "zstd", CODING_ZSTD }, { "deflate", CODING_DEFLATE },
        };
        if (n >= 2 && body[0] == 0x1f && body[1] == 0x8b)  /* no protobuf (wire type 7) and no JSON begins so */
                return CODING_GZIP;
        if (!header)
                return CODING_IDENTITY;
        header += strspn(header, " \t");
        size_t len = strlen(header);
        while (len > 0 && (header[len - 1] == ' ' || header[len - 1] == '\t'))
                len--;
        for (size_t i = 0; i < TEL_ARRAY_LEN(names); i++)
                if (strlen(names[i].name) == len && strncasecmp(header, names[i].name, len) == 0)
                        return names[i].coding;
        return CODING_UNKNOWN;
}

/* Makes room behind out->len: twice what there is, at most max in all. Returns -EMSGSIZE when max is full. */
static int grow(struct tel_buf *out, size_t max) {
        if (out->capacity >= max)
                return -EMSGSIZE;
        return tel_buf_reserve(out, TEL_MIN(out->capacity * 2, max) - out->len, max);
}

static int output_new(size_t guess, size_t max, struct tel_budget *budget, struct tel_buf **ret) {
        if (max == 0)
                return -EMSGSIZE;
        guess = TEL_MIN(TEL_MAX(guess, (size_t)OUTPUT_MIN), max);
        struct tel_buf *out = tel_buf_new(budget, guess);
        if (!out)
                return -ENOBUFS;
        *ret = out;
        return 0;
}

typedef enum libdeflate_result (*deflate_fn)(struct libdeflate_decompressor *d, const void *in, size_t n, void *out, size_t n_out,
                                             size_t *ret_read, size_t *ret_written);

/* One member, again with twice the room as often as it takes: the sum of the attempts is at most twice the last. */
static int member_inflate(deflate_fn fn, struct libdeflate_decompressor *d, const uint8_t *in, size_t n, size_t max, struct tel_buf *out,
                          size_t *ret_read) {
        for (;;) {
                size_t written;
                switch (fn(d, in, n, out->data + out->len, out->capacity - out->len, ret_read, &written)) {
                case LIBDEFLATE_SUCCESS:
                        out->len += written;
                        return 0;
                case LIBDEFLATE_INSUFFICIENT_SPACE: {
                        int r = grow(out, max);
                        if (r < 0)
                                return r;
                        break;
                }
                default:
                        return -EBADMSG;
                }
        }
}

/* The first member claims to be larger than max. Unpacks it into a window that is thrown away, to tell a bomb (-EMSGSIZE) from a damaged or cut body
 * (-EBADMSG), whose last bytes claim anything; 0 when neither. Costs no memory and at most the time of max bytes. */
static int gzip_measure(const uint8_t *body, size_t n, size_t max) {
        uint8_t window[64 << 10];
        struct inflate_state state;
        isal_inflate_init(&state);
        state.crc_flag = ISAL_GZIP;
        state.next_in = (uint8_t *)body;           /* only read: the interface lacks a const */
        state.avail_in = (uint32_t)n;
        while (state.block_state != ISAL_BLOCK_FINISH) {
                state.next_out = window;
                state.avail_out = sizeof(window);
                if (isal_inflate(&state) != ISAL_DECOMP_OK || (state.avail_in == 0 && state.avail_out == sizeof(window)))
                        return -EBADMSG;
                if (state.total_out > max)
                        return -EMSGSIZE;
                if (state.avail_in == 0 && state.avail_out > 0 && state.block_state != ISAL_BLOCK_FINISH)
                        return -EBADMSG;           /* cut short */
        }
        return 0;
}

static int gzip_inflate(const uint8_t *body, size_t n, size_t max, struct tel_budget *budget, struct tel_buf **ret) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = NULL;
        if (n < GZIP_MEMBER_MIN)
                return -EBADMSG;
        size_t guess = tel_le32_get(body + n - 4); /* ISIZE, modulo 2^32: nearly always the truth, but only a claim */
        int r = guess > max ? gzip_measure(body, n, max) : 0;
        if (r < 0)
                return r;
        r = output_new(guess <= max ? TEL_MIN(guess, n * DEFLATE_RATIO_MAX) : n * FIRST_GUESS, max, budget, &out);
        if (r < 0)
                return r;
        struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
        if (!d)
                return -ENOMEM;
        unsigned members = 0;
        for (size_t at = 0, read; r == 0 && at < n; at += read)
                r = ++members > GZIP_MEMBERS_MAX ? -EBADMSG
                                                 : member_inflate(libdeflate_gzip_decompress_ex, d, body + at, n - at, max, out, &read);
        libdeflate_free_decompressor(d);
        if (r == 0)
                *ret = TEL_TAKE(out);
        return r;
}

static int zlib_inflate(const uint8_t *body, size_t n, size_t max, struct tel_budget *budget, struct tel_buf **ret) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = NULL;
        size_t read = 0;
        int r = output_new(n * FIRST_GUESS, max, budget, &out);
        if (r < 0)
                return r;
        struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
        if (!d)
                return -ENOMEM;
        r = member_inflate(libdeflate_zlib_decompress_ex, d, body, n, max, out, &read);
        libdeflate_free_decompressor(d);
        if (r < 0)
                return r;
        if (read != n)
                return -EBADMSG;
        *ret = TEL_TAKE(out);
        return 0;
}

static int zstd_error(size_t code) {
        switch (ZSTD_getErrorCode(code)) {
        case ZSTD_error_memory_allocation:
                return -ENOMEM;
        case ZSTD_error_frameParameter_windowTooLarge:
                return -EMSGSIZE;
        default:
                return -EBADMSG;
        }
}

static int zstd_run(ZSTD_DCtx *d, const uint8_t *body, size_t n, size_t max, struct tel_buf *out) {
        size_t left = ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
        ZSTD_inBuffer in = { body, n, 0 };
        if (ZSTD_isError(left))
                return zstd_error(left);
        for (;;) {
                uint8_t over;                      /* at max there may yet be frames without a byte: they pass, a byte does not */
                bool full = out->len == max;
                ZSTD_outBuffer to = { full ? &over : out->data, full ? 1 : out->capacity, full ? 0 : out->len };
                size_t read = in.pos, written = to.pos;
                left = ZSTD_decompressStream(d, &to, &in);
                if (ZSTD_isError(left))
                        return zstd_error(left);
                if (full && to.pos > 0)
                        return -EMSGSIZE;
                if (!full)
                        out->len = to.pos;
                if (in.pos == n && left == 0)
                        return 0;                  /* at the end of a frame, and of the body; further frames begin by themselves */
                if (in.pos == n && in.pos == read && to.pos == written)
                        return -EBADMSG;           /* cut short */
                if (out->len == out->capacity && out->len < max) {
                        int r = grow(out, max);
                        if (r < 0)
                                return r;
                }
        }
}

static int zstd_inflate(const uint8_t *body, size_t n, size_t max, struct tel_budget *budget, struct tel_buf **ret) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = NULL;
        unsigned long long size = ZSTD_getFrameContentSize(body, n);
        if (size == ZSTD_CONTENTSIZE_ERROR)
                return -EBADMSG;
        if (size == ZSTD_CONTENTSIZE_UNKNOWN)
                size = n * FIRST_GUESS;
        else if (size > max)
                return -EMSGSIZE;
        int r = output_new(size < SIZE_MAX ? (size_t)size : SIZE_MAX, max, budget, &out);
        if (r < 0)
                return r;
        ZSTD_DCtx *d = ZSTD_createDCtx();
        if (!d)
                return -ENOMEM;
        r = zstd_run(d, body, n, max, out);
        ZSTD_freeDCtx(d);
        if (r == 0)
                *ret = TEL_TAKE(out);
        return r;
}

int inflate_body(enum content_coding coding, const uint8_t *body, size_t n, size_t max, struct tel_budget *budget, struct tel_buf **ret) {
        switch (coding) {
        case CODING_GZIP:
                return gzip_inflate(body, n, max, budget, ret);
        case CODING_ZSTD:
                return zstd_inflate(body, n, max, budget, ret);
        case CODING_DEFLATE:
                return zlib_inflate(body, n, max, budget, ret);
        case CODING_IDENTITY:
        case CODING_UNKNOWN:
                break;
        }
        return -EINVAL;                            /* the caller has nothing to inflate */
}
