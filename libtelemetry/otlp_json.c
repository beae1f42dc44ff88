/* SPDX-License-Identifier: Apache-2.0 */
/* JSON -> protobuf. The way back is otlp_json_print.c. */
#include <math.h>
#include <stdio.h>

#include "libtelemetry/cursor.h"
#include "libtelemetry/otlp_json.h"

/* What one message may be inside of: below the request at most Metric, points, Exemplar and KeyValue come before the first
 * AnyValue (8), and every further AnyValue brings a KeyValueList and a KeyValue along. */
#define FRAMES_MAX (8 + 3 * TEL_OTLP_DEPTH_MAX)

/* Lengths come before bodies, but are known after them. A message begins with one byte for its length (narrow). Once it reaches 128
 * bytes, four take its place (wide); that moves less than 128 bytes, because what encloses a wide message is wide already. A wide
 * slot is filled with the final length, padded to four bytes, and one pass at the end closes the gaps: every byte moves once,
 * whatever the nesting. */
#define NARROW_MAX 127
#define WIDE 4
#define BODY_MAX ((1u << 7 * WIDE) - 1)            /* what four bytes of a varint can say: 256 MiB, ten times a request */

#define HEAD_MAX (2 + TEL_VARINT_MAX)              /* bytes of a tag and a length or number */

/* Escaped numbers, ids and enum names are unescaped here. The longest enum name has 35 characters, and an escape is six bytes. */
#define SCALAR_MAX 256

struct frame {                                     /* a message being written, or a packed field */
        const struct tel_schema_field *array;      /* whose elements come next; NULL between the members of an object */
        size_t body;                               /* where the body begins in the output */
        size_t saved;                              /* bytes that the last pass takes from the body */
        uint32_t seen;                             /* a bit for each field that lies in the body */
        uint8_t message;                           /* TEL_MSG_NONE: packed */
        uint8_t number;                            /* of the field that is being written */
        uint8_t last;                              /* of the last key that was known */
        uint8_t any;                               /* AnyValues around and with this one */
        /* Where each field begins, from body, and how much the last pass takes from it: what a later equal key takes back. */
        struct {
                uint32_t at, saved;
        } fields[TEL_SCHEMA_FIELDS];
};

struct reader {
        struct tel_json json;
        struct tel_buf *out;
        size_t max;                                /* bytes of out in the end */
        size_t slack;                              /* bytes that the last pass may take, at most: out holds so many more until then */
        unsigned depth;                            /* frames in use; the first is the request */
        unsigned wide;                             /* the first so many of them have a wide slot */
        char *error;                               /* TEL_OTLP_ERROR_MAX bytes */
        /* The key that followed this one in the last message of its kind: objects in a list look alike. */
        uint8_t next[TEL_MESSAGES][TEL_SCHEMA_FIELDS];
        struct frame frames[FRAMES_MAX];
};

static const char *const expected[] = {
        [TEL_TYPE_STRING] = "a string", [TEL_TYPE_BYTES] = "a base64 string",
        [TEL_TYPE_TRACE_ID] = "32 hexadecimal digits", [TEL_TYPE_SPAN_ID] = "16 hexadecimal digits",
        [TEL_TYPE_BOOL] = "true or false", [TEL_TYPE_INT32] = "a 32-bit integer", [TEL_TYPE_SINT32] = "a 32-bit integer",
        [TEL_TYPE_UINT32] = "an unsigned 32-bit integer", [TEL_TYPE_ENUM] = "a number or a name of the enumeration",
        [TEL_TYPE_INT64] = "a 64-bit integer", [TEL_TYPE_UINT64] = "an unsigned 64-bit integer",
        [TEL_TYPE_FIXED32] = "an unsigned 32-bit integer", [TEL_TYPE_FIXED64] = "an unsigned 64-bit integer",
        [TEL_TYPE_SFIXED64] = "a 64-bit integer", [TEL_TYPE_DOUBLE] = "a number", [TEL_TYPE_MESSAGE] = "an object",
};

/* ---- what goes wrong ---- */

/* The token is not what field can be. */
static int refuse(struct reader *r, const struct tel_schema_field *field, const char *wanted) {
        unsigned line, column;
        tel_json_where(&r->json, &line, &column);
        snprintf(r->error, TEL_OTLP_ERROR_MAX, "line %u, column %u: %s: expected %s", line, column, field->json, wanted);
        return -EBADMSG;
}

/* The text is not JSON, or not a document of ours: reason says it when the reader did not. */
static int refuse_text(struct reader *r, const char *reason) {
        unsigned line, column;
        tel_json_where(&r->json, &line, &column);
        snprintf(r->error, TEL_OTLP_ERROR_MAX, "line %u, column %u: %s", line, column, r->json.error ? r->json.error : reason);
        return -EBADMSG;
}

/* ---- the bytes ---- */

/* The outermost narrow message outgrows its byte. What lies behind the byte is short: see NARROW_MAX. */
static int widen(struct reader *r) {
        struct tel_buf *out = r->out;
        size_t body = r->frames[r->wide].body;
        int rc = tel_buf_reserve(out, WIDE - 1, r->max + r->slack + WIDE - 1 + HEAD_MAX);
        if (rc < 0)
                return rc;
        memmove(out->data + body + WIDE - 1, out->data + body, out->len - body);
        out->len += WIDE - 1;
        r->slack += WIDE - 1;
        for (unsigned i = r->wide++; i < r->depth; i++)
                r->frames[i].body += WIDE - 1;
        return 0;
}

/* Makes room for at most n bytes, in every message around. Heads are asked for at their longest, and so may pass the limit here;
 * what was really written is measured in the end. */
static inline int room(struct reader *r, size_t n) {
        while (r->wide < r->depth && r->out->len + n - r->frames[r->wide].body > NARROW_MAX) {
                int rc = widen(r);
                if (rc < 0)
                        return rc;
        }
        size_t limit = r->max + r->slack + HEAD_MAX;
        if (n <= r->out->capacity - r->out->len && r->out->len + n <= limit)
                return 0;
        return tel_buf_reserve(r->out, n, limit);
}

static inline void tag_put(struct reader *r, unsigned number, enum tel_wire wire) {
        uint8_t *p = r->out->data + r->out->len;
        r->out->len = (size_t)(tel_varint_put(p, number << 3 | wire) - r->out->data);
}

/* A number as type has it on the wire, with its tag unless it lies in a packed field. */
static int number_put(struct reader *r, uint8_t type, uint64_t value) {
        const struct frame *frame = &r->frames[r->depth - 1];
        int rc = room(r, HEAD_MAX);
        if (rc < 0)
                return rc;
        if (frame->message != TEL_MSG_NONE)
                tag_put(r, frame->number, tel_type_wire(type));
        uint8_t *p = r->out->data + r->out->len;
        switch (tel_type_wire(type)) {
        case TEL_WIRE_FIXED32:
                tel_le32_put(p, (uint32_t)value);
                r->out->len += 4;
                return 0;
        case TEL_WIRE_FIXED64:
                tel_le64_put(p, value);
                r->out->len += 8;
                return 0;
        default:
                r->out->len = (size_t)(tel_varint_put(p, value) - r->out->data);
                return 0;
        }
}

/* Room for a length-delimited value of at most n bytes. Returns where to write it, or NULL with an error in *ret. */
static uint8_t *bytes_begin(struct reader *r, size_t n, int *ret) {
        *ret = n > BODY_MAX ? -EMSGSIZE : room(r, HEAD_MAX + n);
        if (*ret < 0)
                return NULL;
        tag_put(r, r->frames[r->depth - 1].number, TEL_WIRE_BYTES);
        return r->out->data + r->out->len + tel_varint_len(n);
}

/* Ends what bytes_begin(r, n) began: the value turned out to have got bytes. */
static void bytes_end(struct reader *r, size_t n, size_t got) {
        uint8_t *length = r->out->data + r->out->len;
        uint8_t *value = tel_varint_put(length, got);
        if (tel_varint_len(got) != tel_varint_len(n))
                memmove(value, length + tel_varint_len(n), got);
        r->out->len = (size_t)(value + got - r->out->data);
}

/* Begins a message, or a packed field (TEL_MSG_NONE), as field number of the current message. */
static int open_frame(struct reader *r, const struct tel_schema_field *field) {
        const struct frame *parent = &r->frames[r->depth - 1];
        unsigned any = parent->any + (field->message == TEL_MSG_ANY_VALUE);
        if (any > TEL_OTLP_DEPTH_MAX)
                return refuse(r, field, "at most 64 AnyValues inside each other");
        assert(r->depth < FRAMES_MAX);
        int rc = room(r, 3);
        if (rc < 0)
                return rc;
        tag_put(r, parent->number, TEL_WIRE_BYTES);
        r->out->data[r->out->len++] = 0;
        struct frame *frame = &r->frames[r->depth++];
        frame->array = field->type == TEL_TYPE_MESSAGE ? NULL : field;
        frame->body = r->out->len;
        frame->saved = 0;
        frame->seen = 0;
        frame->message = field->message;
        frame->number = frame->last = 0;
        frame->any = (uint8_t)any;
        return 0;
}

/* Ends the current message: fills its slot and tells the parent what the last pass will take. */
static void close_frame(struct reader *r) {
        struct frame *frame = &r->frames[--r->depth];
        uint8_t *body = r->out->data + frame->body;
        size_t n = r->out->len - frame->body - frame->saved;
        if (r->depth >= r->wide) {
                assert(n <= NARROW_MAX && frame->saved == 0);
                body[-1] = (uint8_t)n;
                return;
        }
        assert(n <= BODY_MAX);
        for (int i = 0; i < WIDE; i++)
                body[i - WIDE] = (uint8_t)(n >> 7 * i & 0x7f) | (i < WIDE - 1 ? 0x80 : 0);
        r->wide = r->depth;
        r->slack -= tel_varint_len(n) - 1;
        r->frames[r->depth - 1].saved += frame->saved + WIDE - tel_varint_len(n);
}

/* Takes the bytes of a field back. The fields behind it move up: each of them lies behind every later value of this field, so that
 * it moves at most once for each of its siblings. */
static void field_drop(struct reader *r, struct frame *frame, unsigned number) {
        struct tel_buf *out = r->out;
        uint32_t at = frame->fields[number].at, behind = (uint32_t)(out->len - frame->body);
        frame->seen &= ~(1u << number);
        for (unsigned i = 1; i < TEL_SCHEMA_FIELDS; i++)
                if (frame->seen >> i & 1 && frame->fields[i].at > at)
                        behind = TEL_MIN(behind, frame->fields[i].at);
        for (unsigned i = 1; i < TEL_SCHEMA_FIELDS; i++)
                if (frame->seen >> i & 1 && frame->fields[i].at > at)
                        frame->fields[i].at -= behind - at;
        memmove(out->data + frame->body + at, out->data + frame->body + behind, out->len - frame->body - behind);
        out->len -= behind - at;
        r->slack -= frame->fields[number].saved;
        frame->saved -= frame->fields[number].saved;
}

/* Begins the value of a key: earlier ones of the same key, or of the same oneof, were not the last. (Members of a oneof are dropped as
 * they come: one that is set, replaced, and whose successor is then set to null does not return.) */
static void field_begin(struct reader *r, unsigned number) {
        struct frame *frame = &r->frames[r->depth - 1];
        const struct tel_schema_field *fields = tel_schema[frame->message].fields;
        if (frame->seen >> number & 1)
                field_drop(r, frame, number);
        if (fields[number].presence == TEL_PRESENCE_ONEOF && frame->seen)
                for (unsigned i = 1; i < TEL_SCHEMA_FIELDS; i++)
                        if (frame->seen >> i & 1 && fields[i].presence == TEL_PRESENCE_ONEOF)
                                field_drop(r, frame, i);
        frame->number = (uint8_t)number;
        frame->fields[number].at = (uint32_t)(r->out->len - frame->body);
        frame->fields[number].saved = (uint32_t)frame->saved;
}

/* Ends the value of the current message's key. What was not written (zero, no elements) cannot be taken back. */
static void field_end(struct reader *r) {
        struct frame *frame = &r->frames[r->depth - 1];
        unsigned number = frame->number;
        if (r->out->len - frame->body == frame->fields[number].at)
                return;
        frame->seen |= 1u << number;
        frame->fields[number].saved = (uint32_t)frame->saved - frame->fields[number].saved;
}

/* The last pass: gives every length its shortest form and moves the bytes between them together. */
static void close_gaps(struct tel_buf *out, size_t start, enum tel_message request) {
        struct {
                const uint8_t *end;                /* where the message will end */
                uint8_t message;
        } open[FRAMES_MAX];
        unsigned depth = 0;
        uint8_t *to = out->data + start;           /* where the next run goes */
        const uint8_t *p = to, *run = to, *end = out->data + out->len;
        open[0].message = request;
        while (p < end) {
                while (depth && to + (p - run) == open[depth].end)
                        depth--;
                uint64_t tag, n;
                p = tel_varint_get(p, end, &tag);
                if ((tag & 7) != TEL_WIRE_BYTES) {
                        p = (tag & 7) == TEL_WIRE_VARINT ? tel_varint_get(p, end, &n) : p + ((tag & 7) == TEL_WIRE_FIXED32 ? 4 : 8);
                        continue;
                }
                const struct tel_schema_field *field = &tel_schema[open[depth].message].fields[tag >> 3];
                bool wide = (*p & 0x80) && (field->type == TEL_TYPE_MESSAGE || tel_type_is_number(field->type));
                const uint8_t *slot = p;
                p = tel_varint_get(p, end, &n);
                if (!wide) {
                        p += n;                    /* nothing narrow holds anything wide */
                        continue;
                }
                memmove(to, run, (size_t)(slot - run));
                to = tel_varint_put(to + (slot - run), n);
                run = p;
                if (field->type == TEL_TYPE_MESSAGE) {
                        depth++;
                        open[depth].end = to + n;
                        open[depth].message = field->message;
                } else {
                        p += n;
                }
        }
        memmove(to, run, (size_t)(end - run));
        out->len = (size_t)(to + (end - run) - out->data);
}

/* ---- values ---- */

/* The characters of a number, id or enum name, whether it comes as a number or in quotes. They lie in the document or in space. */
static bool scalar_text(struct reader *r, enum tel_json_token token, char space[static SCALAR_MAX], const char **ret, size_t *ret_len) {
        *ret = r->json.text;
        *ret_len = r->json.len;
        if (token == TEL_JSON_NUMBER)
                return true;
        if (token != TEL_JSON_STRING)
                return false;
        if (!r->json.escaped)
                return true;
        ssize_t n = r->json.len > SCALAR_MAX ? -EBADMSG : tel_json_unescape(r->json.text, r->json.len, space);
        *ret = space;
        *ret_len = (size_t)n;
        return n >= 0;
}

/* The value of an integer as its wire carries it. */
static bool integer_wire(uint8_t type, bool negative, uint64_t magnitude, uint64_t *ret) {
        int64_t v = (int64_t)(negative ? 0 - magnitude : magnitude);
        uint64_t sign = negative;                  /* the negative side has one more */
        switch (type) {
        case TEL_TYPE_INT32:
        case TEL_TYPE_ENUM:
        case TEL_TYPE_SINT32:
                *ret = type == TEL_TYPE_SINT32 ? (uint32_t)v << 1 ^ (uint32_t)(v >> 63) : (uint64_t)v;
                return magnitude <= INT32_MAX + sign;
        case TEL_TYPE_INT64:
        case TEL_TYPE_SFIXED64:
                *ret = (uint64_t)v;
                return magnitude <= INT64_MAX + sign;
        case TEL_TYPE_UINT32:
        case TEL_TYPE_FIXED32:
                *ret = magnitude;
                return !negative && magnitude <= UINT32_MAX;
        default:
                *ret = magnitude;
                return !negative;
        }
}

static bool integer_value(const struct tel_schema_field *field, const char *text, size_t n, uint64_t *ret) {
        for (const struct tel_enum_name *e = field->names; e && e->name; e++)
                if (strlen(e->name) == n && memcmp(e->name, text, n) == 0) {
                        *ret = (uint64_t)e->value;
                        return true;
                }
        bool negative;
        uint64_t magnitude;
        return tel_json_integer(text, n, &negative, &magnitude) == 0 && integer_wire(field->type, negative, magnitude, ret);
}

static bool double_value(enum tel_json_token token, const char *text, size_t n, uint64_t *ret) {
        static const struct {
                const char *name;
                double value;
        } names[] = { { "NaN", NAN }, { "Infinity", INFINITY }, { "-Infinity", -INFINITY } };
        double v;
        if (tel_json_double(text, n, &v) == 0) {
                memcpy(ret, &v, sizeof(v));
                return true;
        }
        for (size_t i = 0; token == TEL_JSON_STRING && i < TEL_ARRAY_LEN(names); i++)
                if (strlen(names[i].name) == n && memcmp(names[i].name, text, n) == 0) {
                        memcpy(ret, &names[i].value, sizeof(v));
                        return true;
                }
        return false;
}

static int read_number(struct reader *r, const struct tel_schema_field *field, enum tel_json_token token) {
        char space[SCALAR_MAX];
        const char *text;
        size_t n;
        uint64_t value = token == TEL_JSON_TRUE;
        bool known = token == TEL_JSON_TRUE || token == TEL_JSON_FALSE;
        if (field->type != TEL_TYPE_BOOL)
                known = scalar_text(r, token, space, &text, &n) &&
                        (field->type == TEL_TYPE_DOUBLE ? double_value(token, text, n, &value) : integer_value(field, text, n, &value));
        if (!known)
                return refuse(r, field, expected[field->type]);
        /* Zero is what an absent field means, but in a oneof it says which member is set. -0.0 has a bit, and is written. */
        return value || field->presence || field->repeated ? number_put(r, field->type, value) : 0;
}

static int read_id(struct reader *r, const struct tel_schema_field *field, enum tel_json_token token) {
        size_t bytes = field->type == TEL_TYPE_TRACE_ID ? 16 : 8, n;
        char space[SCALAR_MAX];
        const char *text;
        if (token != TEL_JSON_STRING || !scalar_text(r, token, space, &text, &n) || (n && n != 2 * bytes))
                return refuse(r, field, expected[field->type]);
        if (n == 0)
                return 0;
        uint8_t id[16];
        for (size_t i = 0; i < n; i++) {
                char c = text[i], letter = c | 0x20;
                if (!((c >= '0' && c <= '9') || (letter >= 'a' && letter <= 'f')))
                        return refuse(r, field, expected[field->type]);
                uint8_t digit = (uint8_t)(c <= '9' ? c - '0' : letter - 'a' + 10);
                id[i / 2] = i % 2 ? id[i / 2] | digit : (uint8_t)(digit << 4);
        }
        int rc;
        uint8_t *to = bytes_begin(r, bytes, &rc);
        if (!to)
                return rc;
        memcpy(to, id, bytes);
        bytes_end(r, bytes, bytes);
        return 0;
}

/* Decodes base64 where it lies. Both alphabets, padding optional. Returns the bytes, or -EBADMSG. Source: RFC 4648. */
static ssize_t base64_decode(uint8_t *text, size_t n) {
        if (n % 4 == 0 && n > 0 && text[n - 1] == '=')
                n -= text[n - 2] == '=' ? 2 : 1;
        if (n % 4 == 1)
                return -EBADMSG;
        uint8_t *to = text;
        uint32_t bits = 0;
        for (size_t i = 0; i < n; i++) {
                uint8_t c = text[i];
                uint32_t v;
                if (c >= 'A' && c <= 'Z')
                        v = c - 'A';
                else if (c >= 'a' && c <= 'z')
                        v = c - 'a' + 26;
                else if (c >= '0' && c <= '9')
                        v = c - '0' + 52;
                else if (c == '+' || c == '-')
                        v = 62;
                else if (c == '/' || c == '_')
                        v = 63;
                else
                        return -EBADMSG;
                bits = bits << 6 | v;
                if (i % 4)
                        *to++ = (uint8_t)(bits >> (6 - 2 * (i % 4)));
        }
        return to - text;
}

/* A string or, in base64, bytes. */
static int read_bytes(struct reader *r, const struct tel_schema_field *field, enum tel_json_token token) {
        if (token != TEL_JSON_STRING)
                return refuse(r, field, expected[field->type]);
        const char *text = r->json.text;
        size_t n = r->json.len;
        if (n == 0 && !field->presence && !field->repeated)
                return 0;
        int rc;
        uint8_t *to = bytes_begin(r, n, &rc);
        if (!to)
                return rc;
        ssize_t got = (ssize_t)n;
        if (r->json.escaped)
                got = tel_json_unescape(text, n, (char *)to);
        else
                memcpy(to, text, n);
        if (got < 0)
                return refuse(r, field, "a string without lone surrogates");
        if (field->type == TEL_TYPE_BYTES)
                got = base64_decode(to, (size_t)got);
        if (got < 0)
                return refuse(r, field, expected[field->type]);
        bytes_end(r, n, (size_t)got);
        return 0;
}

/* ---- structure ---- */

/* A value that is no list: an element, or all of the field. Messages go on until their brace closes. */
static int read_single(struct reader *r, const struct tel_schema_field *field, enum tel_json_token token) {
        if (token == TEL_JSON_ERROR)
                return refuse_text(r, NULL);
        switch (field->type) {
        case TEL_TYPE_MESSAGE:
                return token == TEL_JSON_OBJECT ? open_frame(r, field) : refuse(r, field, expected[field->type]);
        case TEL_TYPE_STRING:
        case TEL_TYPE_BYTES:
                return read_bytes(r, field, token);
        case TEL_TYPE_TRACE_ID:
        case TEL_TYPE_SPAN_ID:
                return read_id(r, field, token);
        default:
                return read_number(r, field, token);
        }
}

/* The number of the field that the last key names, or 0. */
static unsigned field_find(struct reader *r, struct frame *frame) {
        const struct tel_json *j = &r->json;
        const struct tel_schema_field *fields = tel_schema[frame->message].fields;
        unsigned guess = r->next[frame->message][frame->last];
        if (j->len == 0)
                return 0;
        for (unsigned i = guess ? 0 : 1; i < TEL_SCHEMA_FIELDS; i++) {
                unsigned number = i ? i : guess;
                const char *name = fields[number].json;
                if (!name || (j->escaped ? !tel_json_key_is(j, name)
                                         : name[0] != j->text[0] || strncmp(name, j->text, j->len) != 0 || name[j->len] != '\0'))
                        continue;
                r->next[frame->message][frame->last] = (uint8_t)number;
                frame->last = (uint8_t)number;
                return number;
        }
        return 0;
}

/* A key of an object, and its value or the beginning of it. */
static int read_member(struct reader *r) {
        struct frame *frame = &r->frames[r->depth - 1];
        unsigned number = field_find(r, frame);
        enum tel_json_token token = tel_json_next(&r->json);
        if (number == 0)
                return tel_json_skip(&r->json, token) < 0 ? refuse_text(r, NULL) : 0;
        if (token == TEL_JSON_NULL) {
                if (frame->seen >> number & 1)
                        field_drop(r, frame, number);
                return 0;
        }
        const struct tel_schema_field *field = &tel_schema[frame->message].fields[number];
        field_begin(r, number);
        if (field->repeated) {
                if (token != TEL_JSON_ARRAY)
                        return token == TEL_JSON_ERROR ? refuse_text(r, NULL) : refuse(r, field, "an array");
                if (tel_type_is_number(field->type))
                        return open_frame(r, field);
                frame->array = field;
                return 0;
        }
        int rc = read_single(r, field, token);
        if (rc == 0 && field->type != TEL_TYPE_MESSAGE)
                field_end(r);
        return rc;
}

static void end_array(struct reader *r) {
        struct frame *frame = &r->frames[r->depth - 1];
        frame->array = NULL;
        if (frame->message == TEL_MSG_NONE) {
                size_t body = frame->body;
                close_frame(r);
                frame--;
                if (r->out->len == body)           /* no elements, no field */
                        r->out->len = frame->body + frame->fields[frame->number].at;
        }
        field_end(r);
}

static void end_object(struct reader *r) {
        close_frame(r);
        if (!r->frames[r->depth - 1].array)
                field_end(r);
}

static int read_document(struct reader *r) {
        if (tel_json_next(&r->json) != TEL_JSON_OBJECT)
                return refuse_text(r, "expected an object");
        for (;;) {
                struct frame *frame = &r->frames[r->depth - 1];
                enum tel_json_token token = tel_json_next(&r->json);
                int rc = 0;
                if (frame->array && token != TEL_JSON_ARRAY_END)
                        rc = read_single(r, frame->array, token);
                else if (frame->array)
                        end_array(r);
                else if (token == TEL_JSON_KEY)
                        rc = read_member(r);
                else if (token != TEL_JSON_OBJECT_END)
                        rc = refuse_text(r, NULL);
                else if (r->depth == 1)
                        break;
                else
                        end_object(r);
                if (rc < 0)
                        return rc;
        }
        return tel_json_next(&r->json) == TEL_JSON_END ? 0 : refuse_text(r, NULL);
}

int tel_otlp_from_json(enum tel_signal signal, const char *text, size_t n, struct tel_buf *out, size_t max, char *reterr_error) {
        struct reader r;                           /* 35 KiB, most of it never touched: so it is not cleared as a whole */
        char error[TEL_OTLP_ERROR_MAX] = "";
        size_t start = out->len;
        tel_json_init(&r.json, text, n);
        r.out = out;
        r.max = TEL_MIN(max, start + BODY_MAX);
        r.slack = 0;
        r.depth = r.wide = 1;                      /* the request itself has no length */
        r.error = reterr_error ? reterr_error : error;
        memset(r.next, 0, sizeof(r.next));
        memset(&r.frames[0], 0, sizeof(r.frames[0]));
        r.frames[0].body = start;
        r.frames[0].message = (uint8_t)tel_schema_request(signal);
        int rc = r.frames[0].message == TEL_MSG_NONE ? refuse_text(&r, "profiles have no OTLP/JSON here") : read_document(&r);
        if (rc == 0 && r.frames[0].saved)
                close_gaps(out, start, r.frames[0].message);
        if (rc == 0 && out->len > max)
                rc = -EMSGSIZE;
        if (rc < 0)
                out->len = start;
        return rc;
}

enum tel_signal tel_otlp_json_signal(const char *text, size_t n) {
        struct tel_json j;
        tel_json_init(&j, text, n);
        if (tel_json_next(&j) != TEL_JSON_OBJECT)
                return TEL_SIGNALS;
        while (tel_json_next(&j) == TEL_JSON_KEY) {
                for (enum tel_signal s = 0; s < TEL_SIGNALS; s++) {
                        const char *name = tel_schema[tel_schema_request(s)].fields[1].json;
                        if (name && tel_json_key_is(&j, name))
                                return s;
                }
                if (tel_json_skip(&j, tel_json_next(&j)) < 0)
                        break;
        }
        return TEL_SIGNALS;
}
