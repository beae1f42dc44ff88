/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "libtelemetry/cursor.h"
#include "libtelemetry/otlp.h"
#include "libtelemetry/utf8.h"

/* The three signals have one shape: request.resource_x = 1, resource_x.resource = 1, resource_x.scope_x = 2, scope_x.scope = 1,
 * scope_x.items = 2. The schema says which messages stand there. */
enum { FIELD_RESOURCE_X = 1, FIELD_RESOURCE = 1, FIELD_SCOPE_X = 2, FIELD_ITEM = 2, FIELD_ATTRIBUTE = 1, FIELD_KEY = 1 };

/* What one cut writes may be at most so many times its input: a large Resource is repeated in each of its records, and a peer could
 * make megabytes stand for gigabytes. Honest requests stay below 2. */
#define GROWTH_MAX 8
#define GROWTH_FREE (64u << 10)

enum fault { FAULT_NONE, FAULT_WIRE, FAULT_CUT, FAULT_UTF8, FAULT_ID, FAULT_DEPTH };

/* What a check saw: times and points to keep, or the place of the first fault. */
struct check {
        uint64_t time_min_ns, time_max_ns;
        size_t points;
        enum fault fault;
        enum tel_message message;
        uint32_t field;
        uint64_t got;                              /* the length that was wrong */
};

static int check_fail(struct check *c, enum fault fault, enum tel_message m, uint32_t field, uint64_t got) {
        c->fault = fault;
        c->message = m;
        c->field = field;
        c->got = got;
        return -EBADMSG;
}

static void check_time(struct check *c, uint64_t ns) {
        if (ns == 0)
                return;
        if (c->time_min_ns == 0 || ns < c->time_min_ns)
                c->time_min_ns = ns;
        if (ns > c->time_max_ns)
                c->time_max_ns = ns;
}

/* Packed numbers: whole ones only. */
static bool packed_ok(enum tel_type type, const uint8_t *p, const uint8_t *end) {
        switch (type) {
        case TEL_TYPE_DOUBLE: case TEL_TYPE_FIXED64: case TEL_TYPE_SFIXED64:
                return (end - p) % 8 == 0;
        case TEL_TYPE_FIXED32:
                return (end - p) % 4 == 0;
        default:
                for (uint64_t v; p < end;) {
                        p = tel_varint_get(p, end, &v);
                        if (!p)
                                return false;
                }
                return true;
        }
}

static int check_message(const uint8_t *p, const uint8_t *end, enum tel_message m, unsigned depth, struct check *c);

/* A length-delimited value the schema knows: [at, end). */
static inline int check_bytes(const uint8_t *at, const uint8_t *end, uint32_t number, const struct tel_schema_field *s, enum tel_message m,
                              unsigned depth, struct check *c) {
        size_t len = (size_t)(end - at);
        switch ((enum tel_type)s->type) {
        case TEL_TYPE_MESSAGE:
                c->points += s->role == TEL_ROLE_POINTS;
                if (depth == 0)
                        return check_fail(c, FAULT_DEPTH, m, number, 0);
                return check_message(at, end, (enum tel_message)s->message, depth - 1, c);
        case TEL_TYPE_STRING:
                return tel_utf8_valid(at, len) ? 0 : check_fail(c, FAULT_UTF8, m, number, 0);
        case TEL_TYPE_TRACE_ID:
                return len == 16 || len == 0 ? 0 : check_fail(c, FAULT_ID, m, number, len);
        case TEL_TYPE_SPAN_ID:
                return len == 8 || len == 0 ? 0 : check_fail(c, FAULT_ID, m, number, len);
        case TEL_TYPE_NONE: case TEL_TYPE_BYTES:
                return 0;
        default:
                return s->repeated && packed_ok((enum tel_type)s->type, at, end) ? 0 : check_fail(c, FAULT_WIRE, m, number, TEL_WIRE_BYTES);
        }
}

/* Walks one message of the schema to its last byte. depth counts what may still nest. The walk sees every byte of every request, so it reads
 * the fields itself instead of through tel_field_get(). */
static int check_message(const uint8_t *p, const uint8_t *end, enum tel_message m, unsigned depth, struct check *c) {
        static const struct tel_schema_field unknown = { .type = TEL_TYPE_NONE };
        const struct tel_schema_field *fields = tel_schema[m].fields;
        while (p < end) {
                uint64_t tag, value;
                p = tel_varint_get(p, end, &tag);
                if (!p || tag < 8 || tag > UINT32_MAX)
                        return check_fail(c, FAULT_CUT, m, 0, 0);
                uint32_t number = (uint32_t)tag >> 3, wire = tag & 7;
                const struct tel_schema_field *s = number < TEL_SCHEMA_FIELDS ? &fields[number] : &unknown;
                if (wire == TEL_WIRE_BYTES) {
                        p = tel_varint_get(p, end, &value);
                        if (!p || value > (uint64_t)(end - p))
                                return check_fail(c, FAULT_CUT, m, 0, 0);
                        int r = check_bytes(p, p + value, number, s, m, depth, c);
                        if (r < 0)
                                return r;
                        p += value;
                        continue;
                }
                if (wire == TEL_WIRE_VARINT)
                        p = tel_varint_get(p, end, &value);
                else if (wire == TEL_WIRE_FIXED64)
                        p = end - p < 8 ? NULL : (value = tel_le64_get(p), p + 8);
                else
                        p = wire != TEL_WIRE_FIXED32 || end - p < 4 ? NULL : p + 4;
                if (!p)
                        return check_fail(c, FAULT_CUT, m, 0, 0);
                if (s->type != TEL_TYPE_NONE && wire != tel_type_wire(s->type))
                        return check_fail(c, FAULT_WIRE, m, number, wire);
                if (s->role == TEL_ROLE_TIME)
                        check_time(c, value);
        }
        return 0;
}

/* Levels below a request: resource_x, scope_x, item, then attributes; each nested AnyValue is three more at most (kvlist). */
#define CHECK_DEPTH (3 * TEL_OTLP_DEPTH_MAX + 8)

static void fault_text(const struct check *c, char out[static TEL_OTLP_ERROR_MAX]) {
        static const char *const what[] = {
                [FAULT_NONE] = "", [FAULT_WIRE] = "a value of another wire type", [FAULT_CUT] = "malformed or cut short",
                [FAULT_UTF8] = "expected UTF-8", [FAULT_ID] = "expected an id of the right length or none",
                [FAULT_DEPTH] = "nested too deep",
        };
        const struct tel_schema_message *m = &tel_schema[c->message];
        const char *field = c->field && m->fields[c->field].json ? m->fields[c->field].json : "";
        if (c->fault == FAULT_ID)
                snprintf(out, TEL_OTLP_ERROR_MAX, "%s.%s: %s, got %llu bytes", m->name, field, what[c->fault], (unsigned long long)c->got);
        else
                snprintf(out, TEL_OTLP_ERROR_MAX, "%s%s%s: %s", m->name, *field ? "." : "", field, what[c->fault]);
}

/* ---- One resource_x ---- */

struct resource_x {
        const uint8_t *tag, *at, *end;             /* the field, its first byte, the byte behind it */
        const uint8_t *resource_tag;               /* the last Resource, to be extended; NULL when there is none */
        const uint8_t *resource_at, *resource_end;
        size_t added;                              /* bytes of attributes to splice in */
        uint32_t missing;                          /* bit i: attribute i of added */
        size_t rest;                               /* bytes of the fields that are not scope_x, before splicing */
};

struct cut {
        enum tel_message request, resource_x, scope_x, item;
        const struct tel_otlp_attribute *attributes;
        size_t n_attributes;
        const struct tel_otlp_limits *limits;
        tel_otlp_record_fn fn;
        void *ctx;
        struct tel_otlp_result *result;
        size_t written, written_max;               /* bytes of all records so far, and their bound */
        /* The group: whole resources that lie side by side and fit one record. */
        const uint8_t *group, *group_end;
        struct tel_otlp_record record;
};

static uint32_t missing_attributes(const struct cut *cut, const uint8_t *p, const uint8_t *end, uint32_t missing) {
        for (struct tel_field f; p < end && missing; p = f.end) {
                struct tel_field k;
                if (tel_field_get(p, end, &f) < 0)
                        break;
                if (f.number != FIELD_ATTRIBUTE || f.wire != TEL_WIRE_BYTES || f.at == f.end ||
                    tel_field_get(f.at, f.end, &k) < 0 || k.number != FIELD_KEY || k.wire != TEL_WIRE_BYTES)
                        continue;
                for (uint32_t bits = missing; bits; bits &= bits - 1) {
                        unsigned i = (unsigned)__builtin_ctz(bits);
                        if (cut->attributes[i].key_len == k.value && memcmp(cut->attributes[i].key, k.at, k.value) == 0)
                                missing &= ~(1u << i);
                }
        }
        return missing;
}

/* Finds the Resource in a checked resource_x, and what it lacks. */
static void resource_x_read(const struct cut *cut, const struct tel_field *field, const uint8_t *tag, struct resource_x *ret) {
        struct resource_x x = { .tag = tag, .at = field->at, .end = field->end };
        x.missing = cut->n_attributes == 32 ? UINT32_MAX : (1u << cut->n_attributes) - 1;
        struct tel_field f;
        for (const uint8_t *p = x.at; p < x.end; p = f.end) {
                if (tel_field_get(p, x.end, &f) < 0)
                        break;
                if (f.number != FIELD_SCOPE_X)
                        x.rest += (size_t)(f.end - p);
                if (f.number != FIELD_RESOURCE || f.wire != TEL_WIRE_BYTES)
                        continue;
                x.missing = missing_attributes(cut, f.at, f.end, x.missing);
                x.resource_tag = p;
                x.resource_at = f.at;
                x.resource_end = f.end;
        }
        for (uint32_t bits = x.missing; bits; bits &= bits - 1)
                x.added += cut->attributes[__builtin_ctz(bits)].wire_len;
        *ret = x;
}

/* By how many bytes splicing lengthens the fields inside resource_x. */
static size_t resource_x_growth(const struct resource_x *x) {
        if (x->added == 0)
                return 0;
        if (!x->resource_tag)
                return tel_bytes_head_len(FIELD_RESOURCE, x->added) + x->added;
        size_t len = (size_t)(x->resource_end - x->resource_at);
        size_t old_head = (size_t)(x->resource_at - x->resource_tag);
        return tel_bytes_head_len(FIELD_RESOURCE, len + x->added) + x->added - old_head;
}

static uint8_t *put(uint8_t *to, const uint8_t *from, const uint8_t *end) {
        memcpy(to, from, (size_t)(end - from));
        return to + (end - from);
}

static uint8_t *put_added(uint8_t *to, const struct cut *cut, uint32_t missing) {
        for (uint32_t bits = missing; bits; bits &= bits - 1) {
                const struct tel_otlp_attribute *a = &cut->attributes[__builtin_ctz(bits)];
                to = put(to, a->wire, a->wire + a->wire_len);
        }
        return to;
}

/* The Resource that is to be extended: its old bytes, then the added ones. */
static uint8_t *put_resource(uint8_t *to, const struct cut *cut, const struct resource_x *x) {
        to = tel_bytes_head_put(to, FIELD_RESOURCE, (size_t)(x->resource_end - x->resource_at) + x->added);
        if (x->resource_tag)
                to = put(to, x->resource_at, x->resource_end);
        return put_added(to, cut, x->missing);
}

/* A whole resource_x, spliced. */
static uint8_t *put_resource_x(uint8_t *to, const struct cut *cut, const struct resource_x *x) {
        if (x->added == 0)
                return put(to, x->tag, x->end);
        to = tel_bytes_head_put(to, FIELD_RESOURCE_X, (size_t)(x->end - x->at) + resource_x_growth(x));
        if (!x->resource_tag)
                return put(put_resource(to, cut, x), x->at, x->end);
        to = put(to, x->at, x->resource_tag);
        return put(put_resource(to, cut, x), x->resource_end, x->end);
}

/* ---- Records of whole resources ---- */

static int record_space(struct cut *cut, const struct tel_otlp_record *record, uint8_t **ret) {
        if (record->bytes > cut->written_max - cut->written) {
                snprintf(cut->result->error, sizeof(cut->result->error),
                         "the request would grow over %zu bytes when cut: its resources are too large for so many items", cut->written_max);
                return -EMSGSIZE;
        }
        int r = cut->fn(cut->ctx, record, ret);
        if (r < 0)
                return r;
        cut->written += record->bytes;
        cut->result->records++;
        cut->result->items += record->items;
        return 0;
}

static int group_flush(struct cut *cut) {
        if (!cut->group)
                return 0;
        uint8_t *to;
        int r = record_space(cut, &cut->record, &to);
        if (r < 0)
                return r;
        uint8_t *first = to;
        struct tel_field f;
        for (const uint8_t *p = cut->group; p < cut->group_end; p = f.end) {
                struct resource_x x;
                r = tel_field_get(p, cut->group_end, &f);
                assert(r == 0);                    /* walked before */
                if (f.number != FIELD_RESOURCE_X) {
                        to = put(to, p, f.end);
                        continue;
                }
                resource_x_read(cut, &f, p, &x);
                to = put_resource_x(to, cut, &x);
        }
        assert((size_t)(to - first) == cut->record.bytes);
        cut->group = NULL;
        return 0;
}

static void record_time(struct tel_otlp_record *record, const struct check *c) {
        if (c->time_min_ns && (!record->time_min_ns || c->time_min_ns < record->time_min_ns))
                record->time_min_ns = c->time_min_ns;
        record->time_max_ns = TEL_MAX(record->time_max_ns, c->time_max_ns);
}

/* Adds [tag, end), bytes long once written, to the group; begins a new record when it does not fit. */
static int group_add(struct cut *cut, const uint8_t *tag, const uint8_t *end, size_t bytes, size_t items, const struct check *c) {
        if (cut->group && (cut->record.bytes + bytes > cut->limits->bytes_max || cut->record.items + items > cut->limits->items_max)) {
                int r = group_flush(cut);
                if (r < 0)
                        return r;
        }
        if (!cut->group) {
                cut->group = tag;
                cut->record = (struct tel_otlp_record){ 0 };
        }
        cut->group_end = end;
        cut->record.bytes += bytes;
        cut->record.items += items;
        record_time(&cut->record, c);
        return 0;
}

/* ---- Records of a part of one resource: it is too large, or some of its items are malformed ---- */

/* A place inside a resource_x: at the field p; when that is a scope_x, at its item field (NULL: its first). */
struct place {
        const uint8_t *p, *item;
};

static bool item_ok(const struct cut *cut, const struct tel_field *f, struct check *c, size_t *ret_items) {
        size_t points = c->points;
        if (f->wire != TEL_WIRE_BYTES || check_message(f->at, f->end, cut->item, CHECK_DEPTH, c) < 0) {
                *ret_items = TEL_MAX(c->points - points, (size_t)1);
                return false;
        }
        *ret_items = cut->item == TEL_MSG_METRIC ? c->points - points : 1;
        return true;
}

struct part {
        struct tel_otlp_record record;             /* bytes: of the scope_x fields written so far, with their heads */
        size_t units;
        bool full;
};

/* Measures the items of one scope_x from place->item on that still fit part. Moves place->item to the first that does not and sets
 * part->full, or to NULL at the end. *ret_inner: bytes inside the shortened scope_x; 0 when no item of it fits. */
static void part_measure(const struct cut *cut, const struct tel_field *scope, struct place *place, struct part *part, size_t *ret_inner) {
        size_t rest = 0, items_bytes = 0, units = 0;
        struct tel_field f;
        const uint8_t *from = place->item ? place->item : scope->at;
        for (const uint8_t *p = scope->at; p < scope->end; p = f.end) {
                if (tel_field_get(p, scope->end, &f) < 0)
                        break;
                if (f.number != FIELD_ITEM)
                        rest += (size_t)(f.end - p);
        }
        place->item = NULL;
        for (const uint8_t *p = from; p < scope->end; p = f.end) {
                struct check c = { 0 };
                size_t items;
                if (tel_field_get(p, scope->end, &f) < 0)
                        break;
                if (f.number != FIELD_ITEM || !item_ok(cut, &f, &c, &items))
                        continue;
                size_t bytes = (size_t)(f.end - p);
                if (part->units + units > 0 && (part->record.bytes + rest + items_bytes + bytes > cut->limits->bytes_max ||
                                                part->record.items + items > cut->limits->items_max)) {
                        place->item = p;
                        part->full = true;
                        break;
                }
                items_bytes += bytes;
                units++;
                part->record.items += items;
                record_time(&part->record, &c);
        }
        part->units += units;
        *ret_inner = units ? rest + items_bytes : 0;
        if (units)
                part->record.bytes += tel_bytes_head_len(FIELD_SCOPE_X, rest + items_bytes) + rest + items_bytes;
}

/* Writes one scope_x with its valid items in [from, until); NULL means its first, and its end. */
static uint8_t *part_put(uint8_t *to, const struct cut *cut, const struct tel_field *scope, const uint8_t *from, const uint8_t *until, size_t inner) {
        if (inner == 0)
                return to;
        to = tel_bytes_head_put(to, FIELD_SCOPE_X, inner);
        struct tel_field f;
        for (const uint8_t *p = scope->at; p < scope->end; p = f.end) {
                struct check c = { 0 };
                size_t items;
                if (tel_field_get(p, scope->end, &f) < 0)
                        break;
                bool in_range = (!from || p >= from) && (!until || p < until);
                if (f.number != FIELD_ITEM || (in_range && item_ok(cut, &f, &c, &items)))
                        to = put(to, p, f.end);
        }
        return to;
}

/* Everything of a resource_x that is not a scope_x, spliced. */
static uint8_t *put_rest(uint8_t *to, const struct cut *cut, const struct resource_x *x) {
        struct tel_field f;
        if (x->added && !x->resource_tag)
                to = put_resource(to, cut, x);
        for (const uint8_t *p = x->at; p < x->end; p = f.end) {
                if (tel_field_get(p, x->end, &f) < 0)
                        break;
                if (p == x->resource_tag && x->added)
                        to = put_resource(to, cut, x);
                else if (f.number != FIELD_SCOPE_X)
                        to = put(to, p, f.end);
        }
        return to;
}

/* The scope_x fields of a part, from start on: measured when to is NULL, written else. Both passes take the same items, because the same
 * bytes and limits decide. Returns the place behind the part. */
static struct place part_walk(const struct cut *cut, const struct resource_x *x, struct place start, struct part *part, uint8_t **to) {
        struct place at = start;
        struct tel_field f;
        for (; at.p < x->end && !part->full; at.p = part->full ? at.p : f.end) {
                if (tel_field_get(at.p, x->end, &f) < 0)
                        break;
                if (f.number != FIELD_SCOPE_X || f.wire != TEL_WIRE_BYTES)
                        continue;
                const uint8_t *from = at.item;
                size_t inner;
                part_measure(cut, &f, &at, part, &inner);
                if (to)
                        *to = part_put(*to, cut, &f, from, at.item, inner);
        }
        return at;
}

static int resource_x_cut(struct cut *cut, const struct resource_x *x) {
        size_t rest = x->rest + resource_x_growth(x);
        struct place at = { .p = x->at };
        while (at.p < x->end) {
                struct part part = { 0 }, again = { 0 };
                struct place next = part_walk(cut, x, at, &part, NULL);
                if (part.units == 0)
                        break;
                size_t inner = rest + part.record.bytes;
                uint8_t *to;
                part.record.bytes = tel_bytes_head_len(FIELD_RESOURCE_X, inner) + inner;
                int r = record_space(cut, &part.record, &to);
                if (r < 0)
                        return r;
                uint8_t *end = to + part.record.bytes;
                to = put_rest(tel_bytes_head_put(to, FIELD_RESOURCE_X, inner), cut, x);
                part_walk(cut, x, at, &again, &to);
                assert(to == end);
                at = next;
        }
        return 0;
}

/* ---- The request ---- */

struct scan {
        size_t units, items, rejected;
        struct check check;                        /* times of the good items */
};

static int scope_scan(struct cut *cut, const struct tel_field *scope, struct scan *s) {
        struct tel_field f;
        for (const uint8_t *p = scope->at; p < scope->end; p = f.end) {
                if (tel_field_get(p, scope->end, &f) < 0)
                        return check_fail(&s->check, FAULT_CUT, cut->scope_x, 0, 0);
                if (f.number != FIELD_ITEM) {
                        if (f.number >= TEL_SCHEMA_FIELDS || !tel_schema[cut->scope_x].fields[f.number].json)
                                continue;
                        if (f.wire != TEL_WIRE_BYTES)
                                return check_fail(&s->check, FAULT_WIRE, cut->scope_x, f.number, f.wire);
                        if (check_bytes(f.at, f.end, f.number, &tel_schema[cut->scope_x].fields[f.number], cut->scope_x, CHECK_DEPTH, &s->check) < 0)
                                return -EBADMSG;
                        continue;
                }
                struct check c = s->check;
                size_t items;
                if (item_ok(cut, &f, &c, &items)) {
                        s->check = c;
                        s->units++;
                        s->items += items;
                        continue;
                }
                if (s->rejected == 0 && cut->result->rejected == 0)
                        fault_text(&c, cut->result->error);
                s->rejected += items;
        }
        return 0;
}

static int resource_x_scan(struct cut *cut, const struct tel_field *x, struct scan *s) {
        struct tel_field f;
        for (const uint8_t *p = x->at; p < x->end; p = f.end) {
                if (tel_field_get(p, x->end, &f) < 0)
                        return check_fail(&s->check, FAULT_CUT, cut->resource_x, 0, 0);
                if (f.number >= TEL_SCHEMA_FIELDS || !tel_schema[cut->resource_x].fields[f.number].json)
                        continue;
                if (f.wire != TEL_WIRE_BYTES)
                        return check_fail(&s->check, FAULT_WIRE, cut->resource_x, f.number, f.wire);
                int r = f.number == FIELD_SCOPE_X
                        ? scope_scan(cut, &f, s)
                        : check_bytes(f.at, f.end, f.number, &tel_schema[cut->resource_x].fields[f.number], cut->resource_x, CHECK_DEPTH, &s->check);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Checks one resource_x and hands it on, whole or in parts. */
static int resource_x_add(struct cut *cut, const uint8_t *tag, const struct tel_field *field, struct check *reterr) {
        struct scan s = { 0 };
        if (resource_x_scan(cut, field, &s) < 0) {
                *reterr = s.check;
                return -EBADMSG;
        }
        cut->result->rejected += s.rejected;
        if (s.units == 0)
                return group_flush(cut);
        struct resource_x x;
        resource_x_read(cut, field, tag, &x);
        size_t inner = (size_t)(x.end - x.at) + resource_x_growth(&x);
        size_t bytes = x.added ? tel_bytes_head_len(FIELD_RESOURCE_X, inner) + inner : (size_t)(x.end - x.tag);
        if (s.rejected == 0 && (s.units == 1 || (s.items <= cut->limits->items_max && bytes <= cut->limits->bytes_max)))
                return group_add(cut, tag, field->end, bytes, s.items, &s.check);
        int r = group_flush(cut);
        return r < 0 ? r : resource_x_cut(cut, &x);
}

int tel_otlp_cut(enum tel_signal signal, const uint8_t *body, size_t n, const struct tel_otlp_attribute *added, size_t n_added,
                 const struct tel_otlp_limits *limits, tel_otlp_record_fn fn, void *ctx, struct tel_otlp_result *ret) {
        assert(n_added <= TEL_OTLP_ADDED_MAX && tel_schema_request(signal) != TEL_MSG_NONE);
        *ret = (struct tel_otlp_result){ 0 };
        if (n == 0)
                return 0;                          /* an empty request is a good one, and body may be NULL */
        struct cut cut = { .request = tel_schema_request(signal), .attributes = added, .n_attributes = n_added, .limits = limits,
                           .fn = fn, .ctx = ctx, .result = ret, .written_max = n * GROWTH_MAX + GROWTH_FREE };
        cut.resource_x = (enum tel_message)tel_schema[cut.request].fields[FIELD_RESOURCE_X].message;
        cut.scope_x = (enum tel_message)tel_schema[cut.resource_x].fields[FIELD_SCOPE_X].message;
        cut.item = (enum tel_message)tel_schema[cut.scope_x].fields[FIELD_ITEM].message;
        struct tel_field f;
        for (const uint8_t *p = body, *end = body + n; p < end; p = f.end) {
                struct check c = { 0 };
                int r = 0;
                if (tel_field_get(p, end, &f) < 0) {
                        check_fail(&c, FAULT_CUT, cut.request, 0, 0);
                        r = -EBADMSG;
                } else if (f.number != FIELD_RESOURCE_X)
                        r = cut.group ? group_add(&cut, p, f.end, (size_t)(f.end - p), 0, &c) : 0;
                else if (f.wire != TEL_WIRE_BYTES) {
                        check_fail(&c, FAULT_WIRE, cut.request, FIELD_RESOURCE_X, f.wire);
                        r = -EBADMSG;
                } else
                        r = resource_x_add(&cut, p, &f, &c);
                if (r < 0) {
                        if (c.fault)
                                fault_text(&c, ret->error);
                        return r;
                }
        }
        return group_flush(&cut);
}

/* ---- Reading what was cut ---- */

bool tel_otlp_resource_next(const uint8_t **at, const uint8_t *end, struct tel_otlp_resource *ret) {
        struct tel_field f, g;
        for (const uint8_t *p = *at; p < end; p = f.end) {
                if (tel_field_get(p, end, &f) < 0)
                        break;
                if (f.number != FIELD_RESOURCE_X || f.wire != TEL_WIRE_BYTES)
                        continue;
                struct tel_otlp_resource r = { .at = p, .end = f.end };
                for (const uint8_t *q = f.at; q < f.end; q = g.end) {
                        if (tel_field_get(q, f.end, &g) < 0)
                                break;
                        if (g.number == FIELD_RESOURCE && g.wire == TEL_WIRE_BYTES) {
                                r.attributes = g.at;
                                r.attributes_end = g.end;
                        }
                }
                *at = f.end;
                *ret = r;
                return true;
        }
        *at = end;
        return false;
}

size_t tel_otlp_items(enum tel_signal signal, const uint8_t *at, const uint8_t *end) {
        enum tel_message m = tel_schema_request(signal);
        m = (enum tel_message)tel_schema[m].fields[FIELD_RESOURCE_X].message;
        m = (enum tel_message)tel_schema[m].fields[FIELD_SCOPE_X].message;
        m = (enum tel_message)tel_schema[m].fields[FIELD_ITEM].message;
        size_t items = 0;
        struct tel_field x, s, i;
        for (const uint8_t *p = at; p < end && tel_field_get(p, end, &x) == 0; p = x.end) {
                if (x.number != FIELD_RESOURCE_X || x.wire != TEL_WIRE_BYTES)
                        continue;
                for (const uint8_t *q = x.at; q < x.end && tel_field_get(q, x.end, &s) == 0; q = s.end) {
                        if (s.number != FIELD_SCOPE_X || s.wire != TEL_WIRE_BYTES)
                                continue;
                        for (const uint8_t *t = s.at; t < s.end && tel_field_get(t, s.end, &i) == 0; t = i.end) {
                                struct check c = { 0 };
                                if (i.number != FIELD_ITEM || i.wire != TEL_WIRE_BYTES)
                                        continue;
                                if (m == TEL_MSG_METRIC)
                                        check_message(i.at, i.end, m, CHECK_DEPTH, &c);
                                items += m == TEL_MSG_METRIC ? c.points : 1;
                        }
                }
        }
        return items;
}

const char *tel_otlp_resource_get(const struct tel_otlp_resource *r, const char *key, size_t *ret_len) {
        enum { FIELD_VALUE = 2, FIELD_STRING = 1 };
        size_t key_len = strlen(key);
        const char *found = NULL;
        struct tel_field a, f, v;
        for (const uint8_t *p = r->attributes; p && p < r->attributes_end && tel_field_get(p, r->attributes_end, &a) == 0; p = a.end) {
                bool key_is = false;
                if (a.number != FIELD_ATTRIBUTE || a.wire != TEL_WIRE_BYTES)
                        continue;
                for (const uint8_t *q = a.at; q < a.end && tel_field_get(q, a.end, &f) == 0; q = f.end) {
                        if (f.number == FIELD_KEY && f.wire == TEL_WIRE_BYTES)
                                key_is = f.value == key_len && memcmp(f.at, key, key_len) == 0;
                        else if (key_is && f.number == FIELD_VALUE && f.wire == TEL_WIRE_BYTES && f.at < f.end &&
                                 tel_field_get(f.at, f.end, &v) == 0 && v.number == FIELD_STRING && v.wire == TEL_WIRE_BYTES) {
                                found = (const char *)v.at;
                                *ret_len = v.value;
                        }
                }
        }
        return found;
}

size_t tel_otlp_attribute_put(uint8_t *out, size_t n, uint32_t number, const char *key, const char *value) {
        enum { FIELD_VALUE = 2, FIELD_STRING = 1 };
        size_t key_len = strlen(key), value_len = strlen(value);
        size_t any = tel_bytes_head_len(FIELD_STRING, value_len) + value_len;
        size_t inner = tel_bytes_head_len(FIELD_KEY, key_len) + key_len + tel_bytes_head_len(FIELD_VALUE, any) + any;
        size_t total = tel_bytes_head_len(number, inner) + inner;
        if (total > n)
                return total;
        out = tel_bytes_head_put(tel_bytes_head_put(out, number, inner), FIELD_KEY, key_len);
        out = put(out, (const uint8_t *)key, (const uint8_t *)key + key_len);
        out = tel_bytes_head_put(tel_bytes_head_put(out, FIELD_VALUE, any), FIELD_STRING, value_len);
        put(out, (const uint8_t *)value, (const uint8_t *)value + value_len);
        return total;
}
