/* SPDX-License-Identifier: Apache-2.0 */
/* The way back: protobuf -> JSON. */
#include <math.h>

#include "libtelemetry/cursor.h"
#include "libtelemetry/otlp_json.h"

struct writer {
        struct tel_buf *out;
        size_t max;
};

static int text_put(struct writer *w, const char *text) {
        return tel_buf_append(w->out, text, strlen(text), w->max);
}

static int hex_put(struct writer *w, const uint8_t *p, size_t n) {
        static const char hex[] = "0123456789abcdef";
        int rc = tel_buf_reserve(w->out, 2 * n + 2, w->max);
        if (rc < 0)
                return rc;
        uint8_t *to = w->out->data + w->out->len;
        *to++ = '"';
        for (size_t i = 0; i < n; i++) {
                *to++ = (uint8_t)hex[p[i] >> 4];
                *to++ = (uint8_t)hex[p[i] & 15];
        }
        *to = '"';
        w->out->len += 2 * n + 2;
        return 0;
}

static int base64_put(struct writer *w, const uint8_t *p, size_t n) {
        static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        size_t chars = (n + 2) / 3 * 4;
        int rc = tel_buf_reserve(w->out, chars + 2, w->max);
        if (rc < 0)
                return rc;
        uint8_t *to = w->out->data + w->out->len;
        *to++ = '"';
        for (size_t i = 0; i < n; i += 3) {
                size_t left = n - i;
                uint32_t bits = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (left > 2 ? p[i + 2] : 0);
                *to++ = (uint8_t)alphabet[bits >> 18];
                *to++ = (uint8_t)alphabet[bits >> 12 & 63];
                *to++ = left > 1 ? (uint8_t)alphabet[bits >> 6 & 63] : '=';
                *to++ = left > 2 ? (uint8_t)alphabet[bits & 63] : '=';
        }
        *to = '"';
        w->out->len += chars + 2;
        return 0;
}

/* A decimal number, in quotes as every 64-bit integer of ProtoJSON is, or bare. */
static int decimal_put(struct writer *w, bool negative, uint64_t magnitude, bool quotes) {
        char text[24], *end = text + sizeof(text), *p = end;
        if (quotes)
                *--p = '"';
        do
                *--p = (char)('0' + magnitude % 10);
        while (magnitude /= 10);
        if (negative)
                *--p = '-';
        if (quotes)
                *--p = '"';
        return tel_buf_append(w->out, p, (size_t)(end - p), w->max);
}

static int double_put(struct writer *w, uint64_t bits) {
        double v;
        memcpy(&v, &bits, sizeof(v));
        if (isnan(v))
                return text_put(w, "\"NaN\"");
        if (isinf(v))
                return text_put(w, v < 0 ? "\"-Infinity\"" : "\"Infinity\"");
        return tel_json_double_put(w->out, v, w->max);
}

static int number_text_put(struct writer *w, uint8_t type, uint64_t v) {
        int64_t sign = 0;                          /* the value again, for the signed ones */
        switch (type) {
        case TEL_TYPE_BOOL:
                return text_put(w, v ? "true" : "false");
        case TEL_TYPE_DOUBLE:
                return double_put(w, v);
        case TEL_TYPE_UINT32:
        case TEL_TYPE_FIXED32:
                return decimal_put(w, false, (uint32_t)v, false);
        case TEL_TYPE_UINT64:
        case TEL_TYPE_FIXED64:
                return decimal_put(w, false, v, true);
        case TEL_TYPE_INT64:
        case TEL_TYPE_SFIXED64:
                sign = (int64_t)v;
                return decimal_put(w, sign < 0, sign < 0 ? 0 - v : v, true);
        case TEL_TYPE_SINT32:
                sign = (int32_t)((uint32_t)v >> 1 ^ (0 - ((uint32_t)v & 1)));
                break;
        default:                                   /* int32, enum: the upper half only repeats the sign */
                sign = (int32_t)(uint32_t)v;
                break;
        }
        return decimal_put(w, sign < 0, (uint64_t)(sign < 0 ? -sign : sign), false);
}

static int message_put(struct writer *w, enum tel_message message, const uint8_t *at, const uint8_t *end, unsigned any);

static int value_put(struct writer *w, const struct tel_schema_field *field, const struct tel_field *f, unsigned any) {
        switch (field->type) {
        case TEL_TYPE_STRING:
                return tel_json_string_put(w->out, (const char *)f->at, (size_t)f->value, w->max);
        case TEL_TYPE_BYTES:
                return base64_put(w, f->at, (size_t)f->value);
        case TEL_TYPE_TRACE_ID:
        case TEL_TYPE_SPAN_ID:
                if (f->value != 0 && f->value != (field->type == TEL_TYPE_TRACE_ID ? 16 : 8))
                        return -EBADMSG;
                return hex_put(w, f->at, (size_t)f->value);
        case TEL_TYPE_MESSAGE:
                return message_put(w, field->message, f->at, f->end, any);
        default:
                return number_text_put(w, field->type, f->value);
        }
}

/* The elements of a packed field, which *first says is the first of the array. */
static int packed_put(struct writer *w, const struct tel_schema_field *field, const struct tel_field *f, bool *first) {
        enum tel_wire wire = tel_type_wire(field->type);
        for (const uint8_t *p = f->at; p < f->end; *first = false) {
                uint64_t v;
                if (wire == TEL_WIRE_VARINT) {
                        p = tel_varint_get(p, f->end, &v);
                        if (!p)
                                return -EBADMSG;
                } else {
                        size_t width = wire == TEL_WIRE_FIXED32 ? 4 : 8;
                        if ((size_t)(f->end - p) < width)
                                return -EBADMSG;
                        v = width == 4 ? tel_le32_get(p) : tel_le64_get(p);
                        p += width;
                }
                int rc = *first ? 0 : text_put(w, ",");
                if (rc == 0)
                        rc = number_text_put(w, field->type, v);
                if (rc < 0)
                        return rc;
        }
        return 0;
}

/* The elements of a repeated field from its first one at p on. Others may lie between them. */
static int list_put(struct writer *w, const struct tel_schema_field *field, uint32_t number, const uint8_t *p, const uint8_t *end,
                    unsigned any) {
        bool first = true;
        int rc = text_put(w, "[");
        while (rc == 0 && p < end) {
                struct tel_field f;
                rc = tel_field_get(p, end, &f);
                if (rc < 0)
                        return rc;
                p = f.end;
                if (f.number != number)
                        continue;
                if (f.wire == TEL_WIRE_BYTES && tel_type_is_number(field->type)) {
                        rc = packed_put(w, field, &f, &first);
                        continue;
                }
                if (f.wire != tel_type_wire(field->type))
                        return -EBADMSG;
                rc = first ? 0 : text_put(w, ",");
                if (rc == 0)
                        rc = value_put(w, field, &f, any);
                first = false;
        }
        return rc < 0 ? rc : text_put(w, "]");
}

/* Where each field of a message lies: the first element of a list, the last one of the rest, the last member of a oneof. */
static int fields_find(enum tel_message message, const uint8_t *p, const uint8_t *end, const uint8_t *ret[static TEL_SCHEMA_FIELDS]) {
        const struct tel_schema_field *fields = tel_schema[message].fields;
        unsigned member = 0;
        memset(ret, 0, TEL_SCHEMA_FIELDS * sizeof(*ret));
        while (p < end) {
                struct tel_field f;
                const uint8_t *at = p;
                int rc = tel_field_get(p, end, &f);
                if (rc < 0)
                        return rc;
                p = f.end;
                if (f.number >= TEL_SCHEMA_FIELDS || fields[f.number].type == TEL_TYPE_NONE)
                        continue;
                const struct tel_schema_field *field = &fields[f.number];
                if (field->repeated) {
                        ret[f.number] = ret[f.number] ? ret[f.number] : at;
                        continue;
                }
                if (f.wire != tel_type_wire(field->type))
                        return -EBADMSG;
                if (field->presence == TEL_PRESENCE_ONEOF) {
                        ret[member] = NULL;        /* 0 at first, which is no field */
                        member = f.number;
                }
                ret[f.number] = at;
        }
        return 0;
}

/* One scan finds the fields, and one more for each list among them (at most four) finds its elements; bodies of inner messages are
 * stepped over. So the time is linear in the bytes of each level, and levels are bounded. any: AnyValues around. */
static int message_put(struct writer *w, enum tel_message message, const uint8_t *at, const uint8_t *end, unsigned any) {
        const uint8_t *where[TEL_SCHEMA_FIELDS];
        any += message == TEL_MSG_ANY_VALUE;
        int rc = any > TEL_OTLP_DEPTH_MAX ? -EBADMSG : fields_find(message, at, end, where);
        const char *before = "{\"";
        for (uint32_t number = 1; rc == 0 && number < TEL_SCHEMA_FIELDS; number++) {
                const struct tel_schema_field *field = &tel_schema[message].fields[number];
                struct tel_field f;
                if (!where[number])
                        continue;
                rc = tel_field_get(where[number], end, &f);
                /* Zeros say nothing outside of a oneof: ProtoJSON leaves them out. */
                if (rc < 0 || (!field->repeated && !field->presence && field->type != TEL_TYPE_MESSAGE && f.value == 0))
                        continue;
                rc = text_put(w, before);
                if (rc == 0)
                        rc = text_put(w, field->json);
                if (rc == 0)
                        rc = text_put(w, "\":");
                if (rc == 0)
                        rc = field->repeated ? list_put(w, field, number, where[number], end, any) : value_put(w, field, &f, any);
                before = ",\"";
        }
        if (rc < 0)
                return rc;
        return text_put(w, before[0] == '{' ? "{}" : "}");
}

int tel_otlp_to_json(enum tel_message message, const uint8_t *body, size_t n, struct tel_buf *out, size_t max) {
        struct writer w = { .out = out, .max = max };
        size_t start = out->len;
        assert(message > TEL_MSG_NONE && message < TEL_MESSAGES);
        int rc = message_put(&w, message, body, n ? body + n : body, 0);        /* an empty body may be NULL */
        if (rc < 0)
                out->len = start;
        return rc;
}
