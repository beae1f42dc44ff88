/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Writer: protobuf from the back of a buffer to its front. A message's length is known by the time its head is written, so one pass gives
 * exact bytes, without allocating and without moving anything. Fields go in backwards: the last one first.
 *
 *     struct tel_writer w;
 *     tel_writer_init(&w, buffer, sizeof(buffer));
 *     size_t span = tel_writer_begin(&w);
 *     tel_writer_fixed64(&w, 8, end_ns);
 *     tel_writer_text(&w, 5, name);
 *     tel_writer_end(&w, 2, span);
 *     if (!w.full)
 *             send(w.at, tel_writer_len(&w));
 *
 * What does not fit sets full, and from then on nothing is written: one check at the end is enough.
 * May touch: the buffer it is given. Wire format: Protocol Buffers "Encoding". Attributes: opentelemetry-proto 1.9, common.proto. */
#include "libtelemetry/cursor.h"

struct tel_writer {
        uint8_t *begin;                            /* of the buffer */
        uint8_t *at;                               /* the first byte written; equals end while there is none */
        uint8_t *end;
        bool full;                                 /* something did not fit */
};

static inline void tel_writer_init(struct tel_writer *w, void *buffer, size_t n) {
        w->begin = buffer;
        w->at = w->end = w->begin + n;
        w->full = false;
}

/* Bytes written; they begin at w->at. */
static inline size_t tel_writer_len(const struct tel_writer *w) {
        return (size_t)(w->end - w->at);
}

/* Bytes that still fit. */
static inline size_t tel_writer_room(const struct tel_writer *w) {
        return (size_t)(w->at - w->begin);
}

/* Takes n bytes in front of what is written, for the caller to fill. NULL: they do not fit. */
static inline uint8_t *tel_writer_take(struct tel_writer *w, size_t n) {
        if (w->full || tel_writer_room(w) < n) {
                w->full = true;
                return NULL;
        }
        return w->at -= n;
}

/* Bytes as they are: fields that were written elsewhere. */
static inline void tel_writer_raw(struct tel_writer *w, const void *bytes, size_t n) {
        uint8_t *p = tel_writer_take(w, n);
        if (p && n > 0)
                memcpy(p, bytes, n);
}

static inline void tel_writer_varint(struct tel_writer *w, uint32_t number, uint64_t value) {
        uint64_t tag = (uint64_t)number << 3 | TEL_WIRE_VARINT;
        uint8_t *p = tel_writer_take(w, tel_varint_len(tag) + tel_varint_len(value));
        if (p)
                tel_varint_put(tel_varint_put(p, tag), value);
}

static inline void tel_writer_fixed64(struct tel_writer *w, uint32_t number, uint64_t value) {
        uint64_t tag = (uint64_t)number << 3 | TEL_WIRE_FIXED64;
        uint8_t *p = tel_writer_take(w, tel_varint_len(tag) + 8);
        if (p)
                tel_le64_put(tel_varint_put(p, tag), value);
}

static inline void tel_writer_fixed32(struct tel_writer *w, uint32_t number, uint32_t value) {
        uint64_t tag = (uint64_t)number << 3 | TEL_WIRE_FIXED32;
        uint8_t *p = tel_writer_take(w, tel_varint_len(tag) + 4);
        if (p)
                tel_le32_put(tel_varint_put(p, tag), value);
}

static inline void tel_writer_double(struct tel_writer *w, uint32_t number, double value) {
        uint64_t bits;
        memcpy(&bits, &value, 8);
        tel_writer_fixed64(w, number, bits);
}

static inline void tel_writer_bytes(struct tel_writer *w, uint32_t number, const void *bytes, size_t n) {
        uint8_t *p = tel_writer_take(w, tel_bytes_head_len(number, n) + n);
        if (p && n > 0)
                memcpy(tel_bytes_head_put(p, number, n), bytes, n);
        else if (p)
                tel_bytes_head_put(p, number, n);
}

static inline void tel_writer_text(struct tel_writer *w, uint32_t number, const char *text) {
        tel_writer_bytes(w, number, text, strlen(text));
}

/* A message, or a packed list: what is written between begin and end is its body. begin's answer is end's argument. */
static inline size_t tel_writer_begin(const struct tel_writer *w) {
        return tel_writer_len(w);
}

static inline void tel_writer_end(struct tel_writer *w, uint32_t number, size_t begin) {
        size_t body = tel_writer_len(w) - begin;
        uint8_t *p = tel_writer_take(w, tel_bytes_head_len(number, body));
        if (p)
                tel_bytes_head_put(p, number, body);
}

/* KeyValue{key, value} as field number of its parent, in one step each. Texts are UTF-8: the caller sees to that. */
void tel_writer_attribute_text(struct tel_writer *w, uint32_t number, const char *key, size_t key_len, const char *text, size_t n);
void tel_writer_attribute_int(struct tel_writer *w, uint32_t number, const char *key, size_t key_len, int64_t value);
void tel_writer_attribute_bool(struct tel_writer *w, uint32_t number, const char *key, size_t key_len, bool value);
/* An array with one text in it: what the conventions want for headers. */
void tel_writer_attribute_texts(struct tel_writer *w, uint32_t number, const char *key, size_t key_len, const char *text, size_t n);
