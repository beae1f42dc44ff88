/* SPDX-License-Identifier: Apache-2.0 */
/* What a peer may send: the head at every cut, and the small bodies, both as they come and behind a head with the right checksum. */
#include "libtelemetry/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* What reads once must be written and read again as the same. */
#define ROUND_TRIP(name_, type_) \
        do { \
                struct type_ a, b; \
                uint8_t out[TEL_FRAME_SMALL_MAX], again[TEL_FRAME_SMALL_MAX]; \
                memset(&a, 0, sizeof(a)); \
                memset(&b, 0, sizeof(b)); \
                if (tel_frame_##name_##_get(body, n, &a) < 0) \
                        break; \
                size_t len = tel_frame_##name_##_put(out, &a); \
                int r = tel_frame_##name_##_get(out, len, &b); \
                assert(r == 0); \
                size_t len_again = tel_frame_##name_##_put(again, &b); \
                assert(len == len_again && memcmp(out, again, len) == 0); \
        } while (0)

static void bodies(const uint8_t *body, size_t n) {
        ROUND_TRIP(hello, tel_frame_hello);
        ROUND_TRIP(status, tel_frame_status);
        ROUND_TRIP(error, tel_frame_error_body);
}

/* A stream: every frame in turn. What a prefix is refused for, the whole is refused for too. */
static void stream(const uint8_t *data, size_t n) {
        size_t at = 0;
        for (;;) {
                struct tel_frame f = { 0 };
                enum tel_frame_error e = 0, early = 0;
                int r = tel_frame_parse(data + at, n - at, &f, &e);
                for (size_t cut = 0; cut <= TEL_MIN(n - at, (size_t)TEL_FRAME_HEAD); cut++) {
                        struct tel_frame g;
                        int s = tel_frame_parse(data + at, cut, &g, &early);
                        assert(s != -EBADMSG || (r == -EBADMSG && early == e));
                        assert(s != 0 || (r == 0 && f.len == 0));
                }
                if (r != 0)
                        break;
                assert(f.len <= n - at - TEL_FRAME_HEAD && f.kind >= TEL_FRAME_HELLO && f.kind <= TEL_FRAME_BYE);
                bodies(f.body, f.len);
                at += TEL_FRAME_HEAD + f.len;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        stream(data, n);
        bodies(data, n);
        if (n == 0)
                return 0;
        uint8_t *wire = malloc(TEL_FRAME_HEAD + n);
        assert(wire);
        tel_frame_head(wire, data[0], n, data + 1, (uint32_t)(n - 1));
        memcpy(wire + TEL_FRAME_HEAD, data + 1, n - 1);
        stream(wire, TEL_FRAME_HEAD + n - 1);
        assert(tel_crc32c(0, data, n) == tel_crc32c_portable(0, data, n));
        free(wire);
        return 0;
}
