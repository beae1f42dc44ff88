/* SPDX-License-Identifier: Dual BSD/GPL */
#pragma once
/* Shared: the maps that all our BPF objects use together (probe_share() joins them by name), and what every program does. */
#include "beylad/probes/kernel.h"

#include "beylad/probes/event.h"

struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, PROBE_RING_BYTES); } events SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, PROBE_TARGETS_MAX); __type(key, __u32); __type(value, struct probe_target);
         __uint(map_flags, BPF_F_NO_PREALLOC); } targets SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, PROBE_VERDICTS_MAX); __type(key, __u64); __type(value, struct probe_verdict);
         __uint(map_flags, BPF_F_NO_PREALLOC); } verdicts SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, PROBE_PORTS_MAX); __type(key, struct probe_port); __type(value, __u32);
         __uint(map_flags, BPF_F_NO_PREALLOC); } ports SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, PROBE_COUNTERS); __type(key, __u32); __type(value, __u64); } counters SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_SK_STORAGE); __uint(map_flags, BPF_F_NO_PREALLOC); __type(key, int); __type(value, struct probe_socket); } sockets SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_TASK_STORAGE); __uint(map_flags, BPF_F_NO_PREALLOC); __type(key, int); __type(value, struct probe_thread); } threads SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, PROBE_SESSIONS_MAX); __type(key, struct probe_session_key); __type(value, struct probe_session);
         __uint(map_flags, BPF_F_NO_PREALLOC); } sessions SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, PROBE_PENDING_MAX); __type(key, struct probe_pending_key); __type(value, struct probe_data);
         __uint(map_flags, BPF_F_NO_PREALLOC); } pending SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_QUEUE); __uint(max_entries, PROBE_SHUTS_MAX); __type(value, struct probe_shut); } shuts SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, struct probe_switches); } switches SEC(".maps");

static __always_inline void count(__u32 which, __u64 n) {
        __u64 *v = bpf_map_lookup_elem(&counters, &which);
        if (v)
                __sync_fetch_and_add(v, n);        /* uprobes may be preempted by others on their CPU */
}

static __always_inline struct probe_switches *switches_get(void) {
        __u32 zero = 0;
        return bpf_map_lookup_elem(&switches, &zero);
}

static __always_inline struct probe_target *target_get(__u32 tgid) {
        return bpf_map_lookup_elem(&targets, &tgid);
}

/* The user side polls the ring while it is busy and is woken when it sleeps, or when an eighth of the ring waits; then once for each eighth
 * that is written, because a wake-up is an interrupt, dearer to the program than the event. */
static __always_inline __u64 wake_flags(struct probe_switches *s) {
        if (s && s->wake) {
                s->wake = 0;
                return BPF_RB_FORCE_WAKEUP;
        }
        if (!s || bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) <= PROBE_RING_BYTES / 8)
                return BPF_RB_NO_WAKEUP;
        __u64 at = bpf_ringbuf_query(&events, BPF_RB_PROD_POS);
        if (at - s->woken_at <= PROBE_RING_BYTES / 8)
                return BPF_RB_NO_WAKEUP;
        s->woken_at = at;
        return BPF_RB_FORCE_WAKEUP;
}

/* The IPv4 or IPv6 socket that a file is; NULL: it is another thing. For iterators. */
static __always_inline struct sock *inet_sock_of(struct file *file) {
        struct socket *socket = bpf_sock_from_file(file);
        if (!socket || !socket->sk)
                return NULL;
        __u16 family = socket->sk->__sk_common.skc_family;
        return family == AF_INET || family == AF_INET6 ? socket->sk : NULL;
}

static __always_inline void head_set(struct probe_head *h, __u8 kind, __u8 flags, __u32 size, __u64 now) {
        __u64 id = bpf_get_current_pid_tgid();
        h->kind = kind;
        h->flags = flags;
        h->zero = 0;
        h->tgid = id >> 32;
        h->tid = (__u32)id;
        h->size = size;
        h->time_ns = now;
}

/* The goroutine that runs on this thread: Go keeps its g in the thread's local storage. Source: Go's runtime/tls_amd64.s, runtime2.go. */
static __always_inline void task_get(const struct probe_target *t, struct probe_task *ret) {
        ret->work = ret->parent = 0;
#if defined(__TARGET_ARCH_x86)
        if (!(t->flags & PROBE_TARGET_GO))
                return;
        struct task_struct *task = (struct task_struct *)bpf_get_current_task();
        __u64 base = BPF_CORE_READ(task, thread.fsbase), g = 0;
        if (bpf_probe_read_user(&g, sizeof(g), (void *)(base + t->g_tls)) < 0 || !g)
                return;
        bpf_probe_read_user(&ret->work, sizeof(ret->work), (void *)(g + t->g_goid));
        if (t->g_parent)
                bpf_probe_read_user(&ret->parent, sizeof(ret->parent), (void *)(g + t->g_parent));
#endif
}
