/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/probes/ring.h"

#include <linux/bpf.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

struct ring {
        _Atomic unsigned long *consumed;           /* bytes so far; its page is ours to write */
        const _Atomic unsigned long *produced;     /* the page before the data */
        const uint8_t *data;
        size_t page, bytes, record_max;
        uint8_t *whole;                            /* record_max bytes, for the record that reaches over the end */
};

int ring_new(int fd, size_t bytes, size_t record_max, struct ring **ret) {
        size_t page = (size_t)sysconf(_SC_PAGESIZE);
        if (bytes < page || (bytes & (bytes - 1)))
                return -EINVAL;
        struct ring *r = calloc(1, sizeof(*r));
        if (!r)
                return -ENOMEM;
        *r = (struct ring){ .page = page, .bytes = bytes, .record_max = record_max, .whole = malloc(record_max) };
        void *ours = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        void *theirs = ours == MAP_FAILED ? MAP_FAILED : mmap(NULL, page + bytes, PROT_READ, MAP_SHARED, fd, (off_t)page);
        int error = errno;
        r->consumed = ours == MAP_FAILED ? NULL : ours;
        r->produced = theirs == MAP_FAILED ? NULL : theirs;
        if (!r->whole || !r->produced) {
                error = r->whole ? error : ENOMEM;
                ring_free(r);
                return -error;
        }
        r->data = (const uint8_t *)theirs + page;
        *ret = r;
        return 0;
}

struct ring *ring_free(struct ring *r) {
        if (!r)
                return NULL;
        if (r->consumed)
                munmap((void *)r->consumed, r->page);
        if (r->produced)
                munmap((void *)(uintptr_t)r->produced, r->page + r->bytes);
        free(r->whole);
        free(r);
        return NULL;
}

/* The record whose header is at offset at, in one piece. */
static const void *record_at(const struct ring *r, size_t at, size_t n) {
        size_t from = (at + BPF_RINGBUF_HDR_SZ) & (r->bytes - 1), left = r->bytes - from;
        if (n <= left)
                return r->data + from;
        memcpy(r->whole, r->data + from, left);
        memcpy(r->whole + left, r->data, n - left);
        return r->whole;
}

void ring_consume(struct ring *r, ring_record_fn record, void *ctx) {
        unsigned long at = atomic_load_explicit(r->consumed, memory_order_relaxed);    /* nobody else writes it */
        bool more = true;
        while (more && at != atomic_load_explicit(r->produced, memory_order_acquire)) {
                const _Atomic uint32_t *header = (const _Atomic uint32_t *)(r->data + (at & (r->bytes - 1)));
                uint32_t head = atomic_load_explicit(header, memory_order_acquire), n = head & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
                if (head & BPF_RINGBUF_BUSY_BIT)
                        return;                    /* reserved, not yet written */
                if (!(head & BPF_RINGBUF_DISCARD_BIT) && n <= r->record_max)
                        more = record(ctx, record_at(r, at & (r->bytes - 1), n), n);
                at += (BPF_RINGBUF_HDR_SZ + (unsigned long)n + 7) & ~7ul;
                atomic_store_explicit(r->consumed, at, memory_order_release);
        }
}
