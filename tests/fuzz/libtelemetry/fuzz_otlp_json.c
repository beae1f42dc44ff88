/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include "libtelemetry/cursor.h"
#include "libtelemetry/otlp_json.h"
#include "libtelemetry/utf8.h"

/* First byte: '0', '1', '2' choose the signal of a JSON document that follows, '3', '4', '5' the signal of protobuf.
 * Of every document that is taken: its protobuf is canonical (shortest lengths, known fields, each singular one and each oneof once,
 * UTF-8); it fits exactly into its own size; written as JSON and read again it has the same size, and from then on text and bytes
 * stay the same. Of protobuf only what can be written must be read again. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define OUT_MAX (1u << 22)
#define CHECK(condition)                                                                                               \
        do                                                                                                             \
                if (!(condition)) {                                                                                    \
                        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                \
                        abort();                                                                                       \
                }                                                                                                      \
        while (0)

static void check_message(enum tel_message message, const uint8_t *p, const uint8_t *end);

static void check_field(const struct tel_schema_field *field, const struct tel_field *f, const uint8_t *tag) {
        if (f->wire == TEL_WIRE_BYTES)
                CHECK(f->at - tag == (ptrdiff_t)tel_bytes_head_len(f->number, (size_t)f->value));
        switch (field->type) {
        case TEL_TYPE_NONE:
                CHECK(!"a field outside the schema");
                break;
        case TEL_TYPE_MESSAGE:
                CHECK(f->wire == TEL_WIRE_BYTES);
                check_message(field->message, f->at, f->end);
                break;
        case TEL_TYPE_STRING:
                CHECK(f->wire == TEL_WIRE_BYTES && tel_utf8_valid(f->at, (size_t)f->value));
                break;
        case TEL_TYPE_TRACE_ID:
        case TEL_TYPE_SPAN_ID:
                CHECK(f->wire == TEL_WIRE_BYTES && f->value == (field->type == TEL_TYPE_TRACE_ID ? 16 : 8));
                break;
        default:
                CHECK((f->wire == TEL_WIRE_BYTES) == (field->type == TEL_TYPE_BYTES || field->repeated));
                CHECK(f->value || field->presence);
                CHECK(f->wire != TEL_WIRE_VARINT || (size_t)(f->end - f->at) == tel_varint_len(f->value));
                break;
        }
}

static void check_message(enum tel_message message, const uint8_t *p, const uint8_t *end) {
        uint32_t seen = 0, last = 0;
        unsigned members = 0;
        while (p < end) {
                struct tel_field f;
                CHECK(tel_field_get(p, end, &f) == 0 && f.number < TEL_SCHEMA_FIELDS);
                const struct tel_schema_field *field = &tel_schema[message].fields[f.number];
                check_field(field, &f, p);
                bool element = field->repeated && f.number == last && (field->type == TEL_TYPE_MESSAGE || field->type == TEL_TYPE_STRING);
                CHECK(element || !(seen >> f.number & 1));         /* lists lie in one piece */
                members += field->presence == TEL_PRESENCE_ONEOF;
                CHECK(members <= 1);
                seen |= 1u << f.number;
                last = f.number;
                p = f.end;
        }
}

static struct tel_buf *to_json(enum tel_signal signal, const struct tel_buf *wire) {
        struct tel_buf *out = tel_buf_new(NULL, 0);
        CHECK(tel_otlp_to_json(tel_schema_request(signal), wire->data, wire->len, out, OUT_MAX) == 0);
        return out;
}

static struct tel_buf *from_json(enum tel_signal signal, const struct tel_buf *text) {
        struct tel_buf *out = tel_buf_new(NULL, 0);
        CHECK(tel_otlp_from_json(signal, (const char *)text->data, text->len, out, OUT_MAX, NULL) == 0);
        CHECK(text->len == 2 || tel_otlp_json_signal((const char *)text->data, text->len) == signal);
        if (out->len > 0)
                check_message(tel_schema_request(signal), out->data, out->data + out->len);
        return out;
}

static bool same(const struct tel_buf *a, const struct tel_buf *b) {
        return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

/* From JSON that we wrote on, nothing may change any more. */
static struct tel_buf *check_fixed(enum tel_signal signal, const struct tel_buf *text) {
        struct tel_buf *wire = from_json(signal, text);
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *text_again = to_json(signal, wire);
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *wire_again = from_json(signal, text_again);
        CHECK(same(wire, wire_again));
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *text_third = to_json(signal, wire_again);
        CHECK(same(text_again, text_third));
        return wire;
}

static void check_document(enum tel_signal signal, const char *text, size_t n) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *wire = tel_buf_new(NULL, 0), *tight = tel_buf_new(NULL, 0);
        char error[TEL_OTLP_ERROR_MAX] = "";
        int r = tel_otlp_from_json(signal, text, n, wire, OUT_MAX, error);
        CHECK(r == 0 || (r == -EBADMSG && wire->len == 0 && error[0] && memchr(error, '\0', sizeof(error))));
        if (r < 0)
                return;
        if (wire->len > 0)
                check_message(tel_schema_request(signal), wire->data, wire->data + wire->len);
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *written = to_json(signal, wire);
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *again = check_fixed(signal, written);
        CHECK(again->len == wire->len);
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *written_again = to_json(signal, again);
        CHECK(same(written, written_again));
        r = tel_otlp_from_json(signal, text, n, tight, wire->len, NULL);
        CHECK(r == 0 ? same(tight, wire) : r == -EMSGSIZE && tight->len == 0);
        /* Escapes and base64 need room for their text until they are read, and never more than that. */
        tight->len = 0;
        CHECK(tel_otlp_from_json(signal, text, n, tight, wire->len + n, NULL) == 0 && same(tight, wire));
        if (wire->len == 0)
                return;
        tight->len = 0;
        CHECK(tel_otlp_from_json(signal, text, n, tight, wire->len - 1, NULL) == -EMSGSIZE && tight->len == 0);
}

static void check_protobuf(enum tel_signal signal, const uint8_t *body, size_t n) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *text = tel_buf_new(NULL, 0);
        int r = tel_otlp_to_json(tel_schema_request(signal), body, n, text, OUT_MAX);
        CHECK(r == 0 || (r == -EBADMSG && text->len == 0));
        if (r == 0)
                tel_buf_unref(check_fixed(signal, text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        if (n == 0 || n > 1 << 16 || data[0] < '0' || data[0] > '5')
                return -1;
        enum tel_signal signal = (enum tel_signal)((data[0] - '0') % 3);
        TEL_CLEANUP_FREE uint8_t *copy = malloc(n);        /* without the first byte: a read behind the end is seen */
        memcpy(copy, data + 1, n - 1);
        TEL_CLEANUP_FREE uint8_t *exact = realloc(TEL_TAKE(copy), n > 1 ? n - 1 : 1);
        if (data[0] < '3')
                check_document(signal, (const char *)exact, n - 1);
        else
                check_protobuf(signal, exact, n - 1);
        return 0;
}
