/* SPDX-License-Identifier: Dual BSD/GPL */
#pragma once
/* Capture: the bytes of one call, from one buffer or a list of them, into as few events as hold them. */
#include "beylad/probes/frames.bpf.h"
#include "beylad/probes/shared.bpf.h"

/* An event is put together here, one place a CPU: tracepoints of the kernel run with preemption off. The data is twice as long as it is
 * used, so that every masked offset plus every length lies inside: what the verifier can follow. */
struct scratch {
        struct probe_data event;
        __u8 data[2 * PROBE_CAPTURE_MAX];
        struct probe_frames frames;                /* of the connection's direction, while it is captured */
};
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, struct scratch); } scratches SEC(".maps");

static __always_inline struct scratch *scratch_get(void) {
        __u32 cpu = bpf_get_smp_processor_id();
        return bpf_map_lookup_elem(&scratches, &cpu);
}

/* Where the bytes of a call lie in the program's memory: one buffer, or a list of them. */
struct call {
        __u64 base, len;                           /* the buffer, or the piece of the list that is being copied */
        __u64 iov;                                 /* next piece */
        __u32 n_iov;
        __u32 left;                                /* bytes of the call that are not yet in an event */
        __u32 wanted;                              /* of them, how many to capture, or to follow */
        __u32 most;                                /* to capture when it cannot be followed */
        __u32 fill;                                /* in the scratch */
        __u32 passed;                              /* bytes behind them that are passed over */
        __u32 heads;                               /* requests that begin in the scratch, when the frames of HTTP/2 are followed */
        bool opens;                                /* the call opened a turn in the direction of requests */
};

/* Hands on what is in the scratch. last: the event also stands for all bytes of the call that were not captured.
 * A function of its own, which the verifier looks at once, and not for every state of every caller. */
__noinline int emit(struct call *c, __u32 last) {
        struct scratch *s = scratch_get();
        if (!c || !s)
                return 0;
        struct probe_data *e = &s->event;
        __u32 fill = c->fill;
        if (fill > PROBE_CAPTURE_MAX)
                return 0;
        e->captured = fill;
        e->bytes = last ? c->left : fill + c->passed;
        e->head.size = sizeof(*e) + fill;
        if (last)
                e->head.flags |= PROBE_END;
        if (bpf_ringbuf_output(&events, s, sizeof(*e) + fill, wake_flags(switches_get())) < 0) {
                count(PROBE_COUNT_LOST, 1);
                count(PROBE_COUNT_LOST_BYTES, e->bytes);
                if (frames_are_followed(&s->frames))
                        count(PROBE_COUNT_LOST_REQUESTS, c->heads);
                else if (c->opens && e->head.flags & PROBE_TURN)   /* of the pieces of a call the first alone */
                        count(PROBE_COUNT_LOST_REQUESTS, 1);
        } else {
                count(PROBE_COUNT_EVENTS, 1);
                /* Nobody can tell what began here: as good as lost. */
                if (c->opens && !fill && (e->head.flags & (PROBE_TURN | PROBE_UNREADABLE)) == (PROBE_TURN | PROBE_UNREADABLE))
                        count(PROBE_COUNT_LOST_REQUESTS, 1);
        }
        /* What follows is the same call, further on. */
        e->offset += e->bytes;
        e->seq += e->bytes;
        e->head.flags &= ~(PROBE_TURN | PROBE_UNREADABLE);
        c->left -= e->bytes;
        c->fill = c->passed = c->heads = 0;
        return 0;
}

/* What a call without user memory (sendfile) moved belongs to the payload that was announced, or nobody can tell. */
static __always_inline bool passed_unseen(struct call *c, struct probe_frames *f) {
        __u32 n = c->wanted;
        if (!frames_are_followed(f) || c->iov || (f->skip ? f->skip : f->copy) < n)
                return false;
        if (f->skip)
                f->skip -= n;
        else
                f->copy -= n;
        c->passed += n;
        c->wanted = 0;
        return true;
}

static __always_inline void call_advance(struct call *c, __u64 n) {
        c->base += n;
        c->len -= n;
        c->wanted -= n;
}

/* One step of copying: the next piece of the list, or as much of this piece as fits. Returns 1 when there is no more. For the verifier, like emit(). */
__noinline int copy_once(struct call *c) {
        struct scratch *s = scratch_get();
        struct user_iovec piece;
        if (!c || !s || !c->wanted)
                return 1;
        if (!c->len) {
                if (passed_unseen(c, &s->frames))
                        return 1;
                if (!c->n_iov || bpf_probe_read_user(&piece, sizeof(piece), (void *)c->iov) < 0) {
                        s->event.head.flags |= PROBE_UNREADABLE;
                        return 1;
                }
                c->iov += sizeof(piece);
                c->n_iov--;
                c->base = piece.base;
                c->len = piece.len;
                return 0;
        }
        bool follows = s->frames.state != PROBE_FRAMES_NONE;
        __u32 at = c->fill & (PROBE_CAPTURE_MAX - 1), room = PROBE_CAPTURE_MAX - at;
        __u64 n = c->len < c->wanted ? c->len : c->wanted;
        if (follows)
                n = frames_piece(&s->frames, n);
        if (follows && s->frames.skip) {
                s->frames.skip -= n;
                c->passed += n;
                call_advance(c, n);
                if (!s->frames.skip && c->wanted)
                        emit(c, false);
                return 0;
        }
        if (n > room)
                n = room;
        barrier_var(n);                            /* verifiers before 6.4 want to see the bound on this very value */
        if (n > PROBE_CAPTURE_MAX)
                return 1;
        if (bpf_probe_read_user(s->data + at, n, (void *)c->base) < 0) {
                count(PROBE_COUNT_UNREADABLE, 1);
                s->event.head.flags |= PROBE_UNREADABLE;
                return 1;
        }
        if (follows && frames_captured(&s->frames, s->data + at, n))
                c->heads++;
        c->fill += n;
        call_advance(c, n);
        if (follows && s->frames.state == PROBE_FRAMES_NONE && c->wanted > c->most)
                c->wanted = c->most;
        if (c->fill == PROBE_CAPTURE_MAX && c->wanted)
                emit(c, false);
        return 0;
}

/* A piece of the list is found, then copied: PROBE_IOVECS_MAX of them; two steps or three for each frame of HTTP/2. */
#ifdef SOCK_BY_CALL
#define CAPTURE_STEPS_MAX 8192u
/* bpf_loop is younger (5.17) than the kernels this is for: a walk over a map with so many values is the same. The call lies in a map, too,
 * one place a CPU: of its members the verifier then knows nothing, so one look at a step is enough for it. */
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, CAPTURE_STEPS_MAX); __type(key, __u32); __type(value, __u64); } steps SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, struct call); } copied SEC(".maps");

static long copy_walk(void *map, const void *key, void *value, void *context) {
        __u32 zero = 0;
        struct call *c = bpf_map_lookup_elem(&copied, &zero);
        return !c || copy_once(c) != 0;
}

static __always_inline void copy_all(struct call *c) {
        __u32 zero = 0;
        struct call *at = bpf_map_lookup_elem(&copied, &zero);
        if (!at)
                return;
        *at = *c;
        bpf_for_each_map_elem(&steps, copy_walk, NULL, 0);
        *c = *at;
}
#else
#define CAPTURE_STEPS_MAX (1u << 17)

static long copy_step(__u32 i, void *context) {
        (void)i;
        return copy_once(context) != 0;
}

static __always_inline void copy_all(struct call *c) {
        bpf_loop(CAPTURE_STEPS_MAX, copy_step, c, 0);
}
#endif

/* frames: where the direction stands; NULL: nobody can tell. What is not followed to the end of the call is not followed any more. */
static __always_inline void capture(struct scratch *s, struct call *c, struct probe_frames *frames) {
        bool follows = frames && frames->state != PROBE_FRAMES_NONE;
        if (follows)
                s->frames = *frames;
        else
                s->frames.state = PROBE_FRAMES_NONE;
        if (c->wanted)
                copy_all(c);
        if (follows) {
                if (c->wanted)
                        s->frames.state = PROBE_FRAMES_NONE;
                *frames = s->frames;
        }
        s->event.captured = c->fill;
}

static __always_inline bool is_tls_record(const struct scratch *s) {
        const __u8 *d = s->data;
        return s->event.captured >= 3 && d[0] >= 0x14 && d[0] <= 0x17 && d[1] == 3 && d[2] <= 4;
}
