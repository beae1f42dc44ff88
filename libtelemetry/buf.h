/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Buf: counted bytes, charged to a budget from birth to the last unref, so the sum of the budgets bounds the memory.
 * May touch: memory only. One thread. */
#include "libtelemetry/base.h"

/* A limit in bytes that several buffers share. The owner outlives every buffer charged to it. */
struct tel_budget {
        size_t limit;                              /* bytes; 0 means no limit */
        size_t used;                               /* bytes charged now */
        size_t peak;                               /* the most that was ever charged */
};

/* Returns false, and charges nothing, when bytes more would pass the limit. */
bool tel_budget_charge(struct tel_budget *b, size_t bytes);
void tel_budget_credit(struct tel_budget *b, size_t bytes);

/* Bytes that are written by one owner until they are shared, and only read after. */
struct tel_buf {
        struct tel_budget *budget;                 /* NULL: not charged */
        uint8_t *data;
        size_t len;                                /* bytes filled */
        size_t capacity;                           /* bytes allocated behind data */
        unsigned refs;
};

/* An empty buffer with room for capacity bytes. NULL: over the budget or out of memory. */
struct tel_buf *tel_buf_new(struct tel_budget *budget, size_t capacity);
struct tel_buf *tel_buf_ref(struct tel_buf *b);
/* Drops one reference and frees the bytes with the last; accepts NULL. Returns NULL. */
struct tel_buf *tel_buf_unref(struct tel_buf *b);

/* Makes room for more bytes behind len; doubles, but never past max bytes in all. Only the single owner may call it.
 * Returns 0, -EMSGSIZE (len + more is over max), -ENOBUFS (over the budget) or -ENOMEM; the contents stay as they were. */
int tel_buf_reserve(struct tel_buf *b, size_t more, size_t max);
/* tel_buf_reserve(), then copies. Same errors. */
int tel_buf_append(struct tel_buf *b, const void *bytes, size_t n, size_t max);
/* Gives back what lies behind len. */
void tel_buf_trim(struct tel_buf *b);

static inline void tel_buf_unrefp(struct tel_buf **b) {
        *b = tel_buf_unref(*b);
}
