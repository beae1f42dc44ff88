/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Ring: reads a BPF ring buffer, mapped once. libbpf's reader maps the data twice in a row, and all of it counts as our memory; here the one record
 * that reaches over the end is copied. Source: Linux, Documentation/bpf/ringbuf.rst and kernel/bpf/ringbuf.c.
 * May touch: mmap(2) of the map's descriptor. */
#include "libtelemetry/base.h"

struct ring;

/* fd: the map, of bytes (a power of two, at least a page), borrowed; readable for poll(2) when it wakes. record_max: of one record; a longer one is passed
 * over. Returns 0, -EINVAL or -errno. */
int ring_new(int fd, size_t bytes, size_t record_max, struct ring **ret);
struct ring *ring_free(struct ring *r);

/* One record, aligned to 8 bytes, borrowed for the call. Returns whether to go on. */
typedef bool (*ring_record_fn)(void *ctx, const void *data, size_t n);
/* Hands on what is whole, in order; what is handed on is free for the kernel again after the call. */
void ring_consume(struct ring *r, ring_record_fn record, void *ctx);
