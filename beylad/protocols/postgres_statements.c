/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/protocols/postgres_statements.h"

struct slot {
        struct statement *s;
        uint32_t used;                             /* clock of the last use */
        uint8_t len;
        char name[STATEMENT_NAME_MAX];
};

struct statements {
        struct statement *unnamed[STATEMENT_KINDS];/* nearly all portals, and what is used once */
        uint32_t n, clock;
        uint32_t *keys;                            /* of slots; apart, so that looking for one reads a kilobyte at most */
        struct slot *slots;
        uint32_t room;
};

struct statement *statement_new(const struct sql *q) {
        size_t text = q->text_len;
        if (text > STATEMENT_TEXT_MAX)
                for (text = STATEMENT_TEXT_MAX; text > 0 && ((uint8_t)q->text[text] & 0xc0) == 0x80;)
                        text--;
        struct statement *s = malloc(sizeof(*s) + q->table_len + text);
        if (!s)
                return NULL;
        *s = (struct statement){ .refs = 1, .operation = q->operation, .table_len = (uint16_t)q->table_len, .text_len = (uint16_t)text };
        memcpy(s->bytes, q->table, q->table_len);
        memcpy(s->bytes + q->table_len, q->text, text);
        return s;
}

struct statement *statement_ref(struct statement *s) {
        if (s)
                s->refs++;
        return s;
}

struct statement *statement_unref(struct statement *s) {
        if (s && --s->refs == 0)
                free(s);
        return NULL;
}

/* FNV-1a of the name, the kind with it. */
static uint32_t key_of(enum statement_kind kind, const uint8_t *name, size_t n) {
        uint32_t h = 2166136261u ^ kind;
        for (size_t i = 0; i < n; i++)
                h = (h ^ name[i]) * 16777619u;
        return (h & ~1u) | kind;
}

static struct slot *find(struct statements *t, enum statement_kind kind, const uint8_t *name, size_t n) {
        uint32_t key = key_of(kind, name, n);
        for (uint32_t i = 0; i < t->n; i++)
                if (t->keys[i] == key && t->slots[i].len == n && memcmp(t->slots[i].name, name, n) == 0)
                        return &t->slots[i];
        return NULL;
}

static void take_out(struct statements *t, uint32_t i) {
        statement_unref(t->slots[i].s);
        t->n--;
        t->slots[i] = t->slots[t->n];
        t->keys[i] = t->keys[t->n];
}

static bool grow(struct statements *t) {
        uint32_t room = t->room ? 2 * t->room : 8;
        uint32_t *keys = realloc(t->keys, room * sizeof(*keys));
        if (!keys)
                return false;
        t->keys = keys;
        struct slot *slots = realloc(t->slots, room * sizeof(*slots));
        if (!slots)
                return false;
        t->slots = slots;
        t->room = room;
        return true;
}

static void add(struct statements *t, enum statement_kind kind, const uint8_t *name, size_t n, struct statement *s) {
        if (t->n == STATEMENTS_MAX) {
                uint32_t oldest = 0;
                for (uint32_t i = 1; i < t->n; i++)
                        if (t->clock - t->slots[i].used > t->clock - t->slots[oldest].used)
                                oldest = i;
                take_out(t, oldest);
        }
        if (t->n == t->room && !grow(t))
                return;
        struct slot *slot = &t->slots[t->n];
        *slot = (struct slot){ .s = statement_ref(s), .used = ++t->clock, .len = (uint8_t)n };
        memcpy(slot->name, name, n);
        t->keys[t->n] = key_of(kind, name, n);
        t->n++;
}

void statements_put(struct statements **table, enum statement_kind kind, const uint8_t *name, size_t n, struct statement *s) {
        if (!*table && s)
                *table = calloc(1, sizeof(**table));
        struct statements *t = *table;
        if (!t)
                return;
        n = TEL_MIN(n, (size_t)STATEMENT_NAME_MAX);
        if (n == 0) {
                struct statement *old = t->unnamed[kind];
                t->unnamed[kind] = statement_ref(s);
                statement_unref(old);
                return;
        }
        struct slot *slot = find(t, kind, name, n);
        if (slot && s) {
                struct statement *old = slot->s;
                slot->s = statement_ref(s);
                slot->used = ++t->clock;
                statement_unref(old);
        } else if (slot)
                take_out(t, (uint32_t)(slot - t->slots));
        else if (s)
                add(t, kind, name, n, s);
}

struct statement *statements_get(struct statements *t, enum statement_kind kind, const uint8_t *name, size_t n) {
        if (!t || n == 0)
                return t ? t->unnamed[kind] : NULL;
        struct slot *slot = find(t, kind, name, TEL_MIN(n, (size_t)STATEMENT_NAME_MAX));
        if (!slot)
                return NULL;
        slot->used = ++t->clock;
        return slot->s;
}

struct statements *statements_free(struct statements *t) {
        if (!t)
                return NULL;
        while (t->n > 0)
                take_out(t, t->n - 1);
        for (size_t i = 0; i < STATEMENT_KINDS; i++)
                statement_unref(t->unnamed[i]);
        free(t->keys);
        free(t->slots);
        free(t);
        return NULL;
}
