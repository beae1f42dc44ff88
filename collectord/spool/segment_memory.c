/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/mman.h>

#include "collectord/spool/segment.h"

/* One freed segment of the usual size is kept: a spool that is read as fast as it fills opens and closes one all the time, and fresh pages
 * cost a fault each. */
struct memory_store {
        struct segment_store store;
        struct segment *spare;
};

static void segment_destroy(struct segment *s) {
        munmap(s->base, s->capacity);
        free(s);
}

static int memory_open(struct segment_store *store, size_t bytes, struct segment **ret) {
        struct memory_store *m = tel_container_of(store, struct memory_store, store);
        size_t capacity = tel_align(TEL_MAX(bytes, (size_t)SEGMENT_BYTES), SEGMENT_PAGE);
        if (m->spare && capacity == m->spare->capacity) {
                *ret = TEL_TAKE(m->spare);
                return 0;
        }
        struct segment *s = calloc(1, sizeof(*s));
        if (!s)
                return -ENOMEM;
        s->capacity = capacity;
        s->base = mmap(NULL, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (s->base == MAP_FAILED) {
                free(s);
                return -ENOMEM;
        }
        *ret = s;
        return 0;
}

static void memory_close(struct segment_store *store, struct segment *s) {
        struct memory_store *m = tel_container_of(store, struct memory_store, store);
        if (m->spare || s->capacity != SEGMENT_BYTES) {
                segment_destroy(s);
                return;
        }
        *s = (struct segment){ .base = s->base, .capacity = s->capacity };
        m->spare = s;
}

static void memory_free(struct segment_store *store) {
        struct memory_store *m = tel_container_of(store, struct memory_store, store);
        if (m->spare)
                segment_destroy(m->spare);
        free(m);
}

struct segment_store *segment_store_memory_new(void) {
        struct memory_store *m = calloc(1, sizeof(*m));
        if (!m)
                return NULL;
        m->store = (struct segment_store){ .open = memory_open, .close = memory_close, .free = memory_free };
        return &m->store;
}
