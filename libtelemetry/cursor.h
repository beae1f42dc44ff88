/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Cursor: fixed-width fields and protobuf varints, read from and written to bounded memory.
 * May touch: the bytes it is given. Nothing here allocates or fails in silence: a read that does not fit says so.
 * Varints and tags: Protocol Buffers "Encoding" (protobuf.dev/programming-guides/encoding). */
#include "libtelemetry/base.h"

#define TEL_VARINT_MAX 10                          /* bytes of the longest 64-bit varint */

enum tel_wire {                                    /* the low three bits of a tag */
        TEL_WIRE_VARINT = 0,
        TEL_WIRE_FIXED64 = 1,
        TEL_WIRE_BYTES = 2,
        TEL_WIRE_FIXED32 = 5,
};

static inline uint16_t tel_be16_get(const uint8_t *p) {
        return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t tel_be32_get(const uint8_t *p) {
        uint32_t v;
        memcpy(&v, p, 4);
        return __builtin_bswap32(v);
}

static inline uint64_t tel_be64_get(const uint8_t *p) {
        uint64_t v;
        memcpy(&v, p, 8);
        return __builtin_bswap64(v);
}

static inline void tel_be16_put(uint8_t *p, uint16_t v) {
        p[0] = (uint8_t)(v >> 8);
        p[1] = (uint8_t)v;
}

static inline void tel_be32_put(uint8_t *p, uint32_t v) {
        v = __builtin_bswap32(v);
        memcpy(p, &v, 4);
}

static inline void tel_be64_put(uint8_t *p, uint64_t v) {
        v = __builtin_bswap64(v);
        memcpy(p, &v, 8);
}

static inline uint64_t tel_le64_get(const uint8_t *p) {
        uint64_t v;
        memcpy(&v, p, 8);
        return v;
}

static inline void tel_le64_put(uint8_t *p, uint64_t v) {
        memcpy(p, &v, 8);
}

static inline uint32_t tel_le32_get(const uint8_t *p) {
        uint32_t v;
        memcpy(&v, p, 4);
        return v;
}

static inline void tel_le32_put(uint8_t *p, uint32_t v) {
        memcpy(p, &v, 4);
}

/* Bytes the varint of v takes: 1 to 10. */
static inline size_t tel_varint_len(uint64_t v) {
        return (size_t)(70 - __builtin_clzll(v | 1)) / 7;
}

/* Writes v at p, which has room for tel_varint_len(v). Returns the byte behind it. */
static inline uint8_t *tel_varint_put(uint8_t *p, uint64_t v) {
        while (v >= 0x80) {
                *p++ = (uint8_t)(v | 0x80);
                v >>= 7;
        }
        *p++ = (uint8_t)v;
        return p;
}

/* A varint at p, before end. Returns the byte behind it, or NULL: cut short, or longer than 64 bits. */
const uint8_t *tel_varint_get_slow(const uint8_t *p, const uint8_t *end, uint64_t *ret);

static inline const uint8_t *tel_varint_get(const uint8_t *p, const uint8_t *end, uint64_t *ret) {
        if (p < end && !(*p & 0x80)) {             /* nearly all of them: tags, lengths, enums */
                *ret = *p;
                return p + 1;
        }
        return tel_varint_get_slow(p, end, ret);
}

/* One field of a protobuf message. For TEL_WIRE_BYTES value is the length and at its first byte; for the fixed kinds at
 * points at the bytes and value holds them. */
struct tel_field {
        uint32_t number;
        enum tel_wire wire;
        uint64_t value;
        const uint8_t *at;                         /* first byte of the value */
        const uint8_t *end;                        /* first byte behind the field */
};

/* Reads the field at p, before end. Returns 0, or -EBADMSG: number 0, a group, an unknown wire type, or cut short. */
int tel_field_get(const uint8_t *p, const uint8_t *end, struct tel_field *ret);

/* Bytes that tag and length of a length-delimited field take, without its body. */
static inline size_t tel_bytes_head_len(uint32_t number, size_t body) {
        return tel_varint_len((uint64_t)number << 3) + tel_varint_len(body);
}

static inline uint8_t *tel_bytes_head_put(uint8_t *p, uint32_t number, size_t body) {
        return tel_varint_put(tel_varint_put(p, (uint64_t)number << 3 | TEL_WIRE_BYTES), body);
}
