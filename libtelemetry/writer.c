/* SPDX-License-Identifier: Apache-2.0 */
#include "libtelemetry/writer.h"

/* Tags of common.proto: KeyValue.key, KeyValue.value, and the members of AnyValue. */
#define KEY_TAG (1u << 3 | TEL_WIRE_BYTES)
#define VALUE_TAG (2u << 3 | TEL_WIRE_BYTES)
#define STRING_TAG (1u << 3 | TEL_WIRE_BYTES)
#define BOOL_TAG (2u << 3 | TEL_WIRE_VARINT)
#define INT_TAG (3u << 3 | TEL_WIRE_VARINT)
#define ARRAY_NUMBER 5
#define ARRAY_VALUES_NUMBER 1

/* Everything of an attribute up to its AnyValue, whose bytes are value_len: all lengths are known, so it is written forwards in one piece.
 * Returns where the AnyValue's bytes go, or NULL. */
static uint8_t *attribute_head(struct tel_writer *w, uint32_t number, const char *key, size_t key_len, size_t value_len) {
        size_t body = 1 + tel_varint_len(key_len) + key_len + 1 + tel_varint_len(value_len) + value_len;
        uint8_t *p = tel_writer_take(w, tel_bytes_head_len(number, body) + body);
        if (!p)
                return NULL;
        p = tel_bytes_head_put(p, number, body);
        *p++ = KEY_TAG;
        p = tel_varint_put(p, key_len);
        memcpy(p, key, key_len);
        p += key_len;
        *p++ = VALUE_TAG;
        return tel_varint_put(p, value_len);
}

static uint8_t *string_put(uint8_t *p, const char *text, size_t n) {
        *p++ = STRING_TAG;
        p = tel_varint_put(p, n);
        if (n > 0)
                memcpy(p, text, n);
        return p + n;
}

void tel_writer_attribute_text(struct tel_writer *w, uint32_t number, const char *key, size_t key_len, const char *text, size_t n) {
        uint8_t *p = attribute_head(w, number, key, key_len, 1 + tel_varint_len(n) + n);
        if (p)
                string_put(p, text, n);
}

void tel_writer_attribute_int(struct tel_writer *w, uint32_t number, const char *key, size_t key_len, int64_t value) {
        uint8_t *p = attribute_head(w, number, key, key_len, 1 + tel_varint_len((uint64_t)value));
        if (p) {
                *p++ = INT_TAG;
                tel_varint_put(p, (uint64_t)value);
        }
}

void tel_writer_attribute_bool(struct tel_writer *w, uint32_t number, const char *key, size_t key_len, bool value) {
        uint8_t *p = attribute_head(w, number, key, key_len, 2);
        if (p) {
                p[0] = BOOL_TAG;
                p[1] = value;
        }
}

void tel_writer_attribute_texts(struct tel_writer *w, uint32_t number, const char *key, size_t key_len, const char *text, size_t n) {
        size_t any = 1 + tel_varint_len(n) + n, list = tel_bytes_head_len(ARRAY_VALUES_NUMBER, any) + any;
        uint8_t *p = attribute_head(w, number, key, key_len, tel_bytes_head_len(ARRAY_NUMBER, list) + list);
        if (p) {
                p = tel_bytes_head_put(p, ARRAY_NUMBER, list);
                p = tel_bytes_head_put(p, ARRAY_VALUES_NUMBER, any);
                string_put(p, text, n);
        }
}
