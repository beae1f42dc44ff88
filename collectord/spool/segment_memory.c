/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/mman.h>

#include "collectord/spool/segment.h"

/* Nothing is kept of a segment that was given back, not even for the next one: what is not in a spool is not in memory. Fresh pages cost a fault each,
 * which only counts at saturation. */

static int memory_open(struct segment_store *store, size_t bytes, struct segment **ret) {
        (void)store;
        struct segment *s = calloc(1, sizeof(*s));
        if (!s)
                return -ENOMEM;
        s->capacity = tel_align(TEL_MAX(bytes, (size_t)SEGMENT_BYTES), SEGMENT_PAGE);
        s->base = mmap(NULL, s->capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (s->base == MAP_FAILED) {
                free(s);
                return -ENOMEM;
        }
        *ret = s;
        return 0;
}

static void memory_close(struct segment_store *store, struct segment *s) {
        (void)store;
        munmap(s->base, s->capacity);
        free(s);
}

static void memory_free(struct segment_store *store) {
        free(store);
}

struct segment_store *segment_store_memory_new(void) {
        struct segment_store *s = malloc(sizeof(*s));
        if (!s)
                return NULL;
        *s = (struct segment_store){ .open = memory_open, .close = memory_close, .free = memory_free };
        return s;
}
