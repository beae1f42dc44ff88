/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Segment: a stretch of a spool, filled from its beginning with records and given back as a whole.
 * segment_memory.c keeps them in anonymous memory. Another store (files) implements the same three calls.
 * May touch: memory. */
#include "collectord/spool/record.h"

#define SEGMENT_BYTES (1u << 20)                   /* two of the largest cut records; a hundredth of the default budget is given up at a time */
#define SEGMENT_PAGE 4096u                         /* what is charged: pages that were written */

struct segment {
        struct segment *previous, *next;           /* in the spool, oldest first */
        uint8_t *base;
        size_t capacity, used;                     /* bytes */
        size_t charged;                            /* of the budget, this struct and whole pages */
        uint64_t first_sequence, end_sequence;     /* of its records; end is one past the last */
        unsigned pins;                             /* batches that read it; a pinned segment stays */
};

struct segment_store {
        /* A segment with room for at least bytes. Returns 0 or -ENOMEM (a file store: any errno). */
        int (*open)(struct segment_store *store, size_t bytes, struct segment **ret);
        /* Gives the segment and its bytes back. */
        void (*close)(struct segment_store *store, struct segment *s);
        void (*free)(struct segment_store *store);
};

/* Anonymous memory, mapped and unmapped a segment at a time, so that what is trimmed really goes back. NULL: out of memory. */
struct segment_store *segment_store_memory_new(void);

/* The record at offset, and the offset behind it. */
static inline struct record *segment_record(const struct segment *s, size_t offset) {
        return (struct record *)(s->base + offset);
}

static inline size_t segment_step(const struct segment *s, size_t offset) {
        return offset + record_size(segment_record(s, offset)->body_bytes);
}
