/* SPDX-License-Identifier: Apache-2.0 */
#include "collectord/destinations/merge_otlp.h"
#include "libtelemetry/cursor.h"

/* resource_x and scope_x have one shape: 1 is what the items share, 2 are the items (scopes, or spans, metrics, log records), 3 is the schema URL. */
enum { FIELD_SHARED = 1, FIELD_ITEMS = 2, FIELD_SCHEMA = 3, FIELD_RESOURCE_X = 1 };
#define HEAD_MAX 12                                /* a tag of one byte and a length of five, rounded up for a look at the heap */

struct bytes {
        const uint8_t *at;
        size_t n;
};

/* A resource_x or scope_x field. */
struct level {
        struct bytes whole;                        /* with its head */
        struct bytes shared, items, schema;        /* fields with their heads; items lie side by side */
        bool plain;                                /* exactly these fields, in this order */
};

struct levels {
        struct level *list;
        size_t n, room;
};

static struct level level_read(const uint8_t *tag, const struct tel_field *field) {
        struct level l = { .whole = { tag, (size_t)(field->end - tag) }, .plain = field->wire == TEL_WIRE_BYTES };
        struct bytes *const parts[] = { [FIELD_SHARED] = &l.shared, [FIELD_ITEMS] = &l.items, [FIELD_SCHEMA] = &l.schema };
        uint32_t last = 0;
        struct tel_field f;
        for (const uint8_t *p = field->at; l.plain && p < field->end; p = f.end) {
                if (tel_field_get(p, field->end, &f) < 0 || f.number > FIELD_SCHEMA || f.number < last || f.wire != TEL_WIRE_BYTES ||
                    (f.number == last && f.number != FIELD_ITEMS)) {
                        l.plain = false;
                        break;
                }
                struct bytes *part = parts[f.number];
                if (!part->at)
                        part->at = p;
                part->n += (size_t)(f.end - p);
                last = f.number;
        }
        l.plain = l.plain && l.items.n > 0;
        return l;
}

static int levels_add(struct levels *all, const struct level *l) {
        if (all->n == all->room) {
                size_t room = all->room ? 2 * all->room : 16;
                struct level *list = realloc(all->list, room * sizeof(*list));
                if (!list)
                        return -ENOMEM;
                all->list = list;
                all->room = room;
        }
        all->list[all->n++] = *l;
        return 0;
}

static void levels_done(struct levels *all) {
        free(all->list);
}

/* Every field `number` in [at, end). */
static int levels_read(struct levels *all, const uint8_t *at, const uint8_t *end, uint32_t number) {
        struct tel_field f;
        for (const uint8_t *p = at; p < end; p = f.end) {
                if (tel_field_get(p, end, &f) < 0)
                        return 0;                  /* checked before: nothing comes here */
                struct level l = level_read(p, &f);
                l.plain = l.plain && f.number == number;
                int r = levels_add(all, &l);
                if (r < 0)
                        return r;
        }
        return 0;
}

static bool bytes_equal(struct bytes a, struct bytes b) {
        return a.n == b.n && (a.n == 0 || memcmp(a.at, b.at, a.n) == 0);
}

static bool may_merge(const struct level *a, const struct level *b) {
        return a->plain && b->plain && bytes_equal(a->shared, b->shared) && bytes_equal(a->schema, b->schema);
}

/* How many levels from i on are one. */
static size_t run_of(const struct levels *all, size_t i) {
        size_t n = 1;
        while (i + n < all->n && may_merge(&all->list[i], &all->list[i + n]))
                n++;
        return n;
}

/* ---- Writing ---- */

struct out {
        struct iovec *pieces;
        size_t n, room;
        size_t bytes;
        uint8_t *heads;                            /* one block; the pieces point into it */
        size_t heads_used, heads_room;
};

static void out_piece(struct out *o, const void *at, size_t n) {
        struct iovec *last = o->n ? &o->pieces[o->n - 1] : NULL;
        if (n == 0)
                return;
        o->bytes += n;
        if (last && (const uint8_t *)last->iov_base + last->iov_len == (const uint8_t *)at) {
                last->iov_len += n;
                return;
        }
        assert(o->n < o->room);
        o->pieces[o->n++] = (struct iovec){ (void *)at, n };
}

static void out_head(struct out *o, uint32_t number, size_t inner) {
        uint8_t *at = o->heads + o->heads_used;
        assert(o->heads_used + HEAD_MAX <= o->heads_room);
        size_t n = (size_t)(tel_bytes_head_put(at, number, inner) - at);
        o->heads_used += n;
        out_piece(o, at, n);
}

static size_t run_items(const struct levels *all, size_t i, size_t n) {
        size_t bytes = 0;
        for (size_t k = i; k < i + n; k++)
                bytes += all->list[k].items.n;
        return bytes;
}

/* The scopes of a run of resources, merged in turn: their bytes when o is NULL, else written. */
static size_t put_scopes(struct out *o, const struct levels *scopes) {
        size_t total = 0;
        for (size_t i = 0, n; i < scopes->n; i += n) {
                const struct level *first = &scopes->list[i];
                n = run_of(scopes, i);
                size_t inner = first->shared.n + run_items(scopes, i, n) + first->schema.n;
                total += n == 1 ? first->whole.n : tel_bytes_head_len(FIELD_ITEMS, inner) + inner;
                if (!o)
                        continue;
                if (n == 1) {
                        out_piece(o, first->whole.at, first->whole.n);
                        continue;
                }
                out_head(o, FIELD_ITEMS, inner);
                out_piece(o, first->shared.at, first->shared.n);
                for (size_t k = i; k < i + n; k++)
                        out_piece(o, scopes->list[k].items.at, scopes->list[k].items.n);
                out_piece(o, first->schema.at, first->schema.n);
        }
        return total;
}

/* A run of equal resources. */
static int put_run(struct out *o, const struct levels *resources, size_t i, size_t n) {
        const struct level *first = &resources->list[i];
        TEL_CLEANUP(levels_done) struct levels scopes = { 0 };
        int r = 0;
        for (size_t k = i; k < i + n && r == 0; k++) {
                struct bytes items = resources->list[k].items;
                r = levels_read(&scopes, items.at, items.at + items.n, FIELD_ITEMS);
        }
        if (r < 0)
                return r;
        out_head(o, FIELD_RESOURCE_X, first->shared.n + put_scopes(NULL, &scopes) + first->schema.n);
        out_piece(o, first->shared.at, first->shared.n);
        put_scopes(o, &scopes);
        out_piece(o, first->schema.at, first->schema.n);
        return 0;
}

/* Room for the pieces and heads of the whole: a scope that is merged gives its items and at most a head, what it shares and a schema. */
static int out_new(struct out *o, const struct levels *resources) {
        size_t scopes = 0;
        for (size_t i = 0; i < resources->n; i++) {
                const struct level *x = &resources->list[i];
                struct tel_field f;
                for (const uint8_t *p = x->items.at; x->plain && p < x->items.at + x->items.n; p = f.end) {
                        if (tel_field_get(p, x->items.at + x->items.n, &f) < 0)
                                break;
                        scopes++;
                }
        }
        o->room = 4 * (resources->n + scopes) + 1;
        o->heads_room = HEAD_MAX * (resources->n + scopes + 1);
        o->pieces = calloc(o->room, sizeof(*o->pieces));
        o->heads = malloc(o->heads_room);
        return o->pieces && o->heads ? 0 : -ENOMEM;
}

static void out_done(struct out *o) {
        free(o->pieces);
        free(o->heads);
}

static bool has_run(const struct levels *resources) {
        for (size_t i = 0; i + 1 < resources->n; i++)
                if (may_merge(&resources->list[i], &resources->list[i + 1]))
                        return true;
        return false;
}

int merge_otlp(struct body *b) {
        TEL_CLEANUP(levels_done) struct levels resources = { 0 };
        TEL_CLEANUP(out_done) struct out o = { 0 };
        int r = 0;
        for (size_t i = 0; i < b->n && r == 0; i++) {
                const uint8_t *at = b->pieces[i].iov_base;
                r = levels_read(&resources, at, at + b->pieces[i].iov_len, FIELD_RESOURCE_X);
        }
        if (r < 0 || !has_run(&resources))
                return r;
        r = out_new(&o, &resources);
        for (size_t i = 0, n; i < resources.n && r == 0; i += n) {
                n = run_of(&resources, i);
                if (n == 1)
                        out_piece(&o, resources.list[i].whole.at, resources.list[i].whole.n);
                else
                        r = put_run(&o, &resources, i, n);
        }
        if (r < 0)
                return r;
        free(b->pieces);
        free(b->heads);
        b->pieces = TEL_TAKE(o.pieces);
        b->heads = TEL_TAKE(o.heads);
        b->n = o.n;
        b->bytes = o.bytes;
        return 0;
}
