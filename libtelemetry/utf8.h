/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Utf8: whether bytes are UTF-8, and making them printable. Source: RFC 3629 (no overlong forms, no surrogates, nothing above U+10FFFF).
 * May touch: the bytes it is given. */
#include "libtelemetry/base.h"

/* Bytes of the valid sequence at p, before end: 1 to 4; 0 when there is none. */
static inline size_t tel_utf8_sequence(const uint8_t *p, const uint8_t *end) {
        size_t left = (size_t)(end - p);
        if (p[0] < 0x80)
                return 1;
        if (p[0] < 0xc2 || left < 2 || (p[1] & 0xc0) != 0x80)
                return 0;
        if (p[0] < 0xe0)
                return 2;
        if (left < 3 || (p[2] & 0xc0) != 0x80)
                return 0;
        if (p[0] < 0xf0)
                return (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ? 0 : 3;
        if (left < 4 || p[0] > 0xf4 || (p[3] & 0xc0) != 0x80 || (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
                return 0;
        return 4;
}

static inline bool tel_utf8_valid(const void *bytes, size_t n) {
        const uint8_t *p = bytes, *end = p + n;
        while (p < end) {
                uint64_t eight;                    /* most text is ASCII: eight bytes at a time */
                while (end - p >= 8 && (memcpy(&eight, p, 8), !(eight & 0x8080808080808080ull)))
                        p += 8;
                while (p < end && *p < 0x80)
                        p++;
                if (p == end)
                        return true;
                size_t k = tel_utf8_sequence(p, end);
                if (k == 0)
                        return false;
                p += k;
        }
        return true;
}

/* Copies n bytes as printable UTF-8: what is none, and controls, become '?'; cut between characters. out_n: at least 1. Returns the length. */
static inline size_t tel_utf8_printable(char *out, size_t out_n, const void *bytes, size_t n) {
        const uint8_t *p = bytes, *end = p + n;
        size_t used = 0;
        while (p < end) {
                size_t len = tel_utf8_sequence(p, end);
                if (used + TEL_MAX(len, (size_t)1) >= out_n)
                        break;
                if (len == 0 || *p < 0x20 || *p == 0x7f)
                        out[used++] = '?';
                else {
                        memcpy(out + used, p, len);
                        used += len;
                }
                p += TEL_MAX(len, (size_t)1);
        }
        out[used] = '\0';
        return used;
}
