/* SPDX-License-Identifier: Dual BSD/GPL */
/* Inject: a traceparent in HTTP/1 requests that programs of one cgroup send to chosen ports.
 *
 * - Which sockets: those that connect, from that cgroup, to one of the ports (on_socket). No others ever pass on_message.
 * - Which bytes: the first request of a connection begins with it, the next one where the one before ended by its Content-Length; at the begin of
 *   a message, with its whole head in it. What is not exactly so is left as it is, and so is all that comes after it.
 * - How long: a socket is taken out of the hash within the very call that sends the last request of interest (on_socket, as TCP is about to
 *   build a packet): unless every request is wanted, that is the first, and no answer ever comes to a socket that is in the hash.
 * - Which trace: that of the request the thread serves, when exactly one is open on it (and, in a program whose threads serve several at once, in
 *   the whole program): context.c's rule, kept here a second time because the request does not wait. A thread that serves none, or several, begins
 *   a trace. A thread that serves what cannot be read here (TLS, HTTP/2, Go) changes nothing: it might cut a trace in two.
 *   A request is open from its first byte to the last of its answer; where that cannot be told, until the next one on its connection or its end.
 *
 * on_message may be preempted, so scratch memory is taken, and given back. */
#include <asm/unistd.h>

#include "beylad/probes/shared.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define HEAD_MAX 8192u                             /* bytes of a head; longer ones are split by most programs anyway */
#define SOCKETS_MAX 16384u                         /* connections at once: as many as the user side knows */
#define SERVING_MAX 16384u                         /* threads that serve at once */

struct { __uint(type, BPF_MAP_TYPE_SOCKHASH); __uint(max_entries, SOCKETS_MAX); __type(key, __u64); __type(value, __u64); } connected SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_CGROUP_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u32); } cgroups SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, struct probe_inject_rules); } rules SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, PROBE_OUTCOMES); __type(key, __u32); __type(value, __u64); } outcomes SEC(".maps");

/* A socket that connected. */
struct outgoing {
        __u64 connection;
        __u64 left;                                /* bytes of the request that is being sent, from the begin of the call that runs */
        __u64 in_call;                             /* of the call that runs: bytes that passed on_message */
        __u64 head;                                /* bytes that the request which began in this call added to left; 0: none began */
        __u32 tid;                                 /* who runs it */
        __u8 done;                                 /* left alone for good */
        __u8 asked;                                /* we asked TCP to tell on_socket when it sends */
        __u8 zero[2];
};
struct { __uint(type, BPF_MAP_TYPE_SK_STORAGE); __uint(map_flags, BPF_F_NO_PREALLOC); __type(key, int); __type(value, struct outgoing); } outgoings SEC(".maps");

struct worker { __u32 tgid, tid; };

/* A connection that carries requests to a program. */
struct incoming {
        struct worker by;                          /* who read the begin of the request */
        __s64 left;                                /* of the request: bytes to come */
        __s64 answer_left;                         /* of the answer: bytes to come, or one of the two below */
        __u32 open;                                /* a request is */
        __u32 answered;                            /* bytes of the answer were sent */
        __u32 is_head;                             /* the method is HEAD: no body answers it */
        __u32 zero;
};
#define ANSWER_UNKNOWN (-1)
#define ANSWER_CHUNKED (-2)
struct { __uint(type, BPF_MAP_TYPE_SK_STORAGE); __uint(map_flags, BPF_F_NO_PREALLOC); __type(key, int); __type(value, struct incoming); } incomings SEC(".maps");

/* What a thread serves. */
struct serving {
        __u64 connection;
        __u8 trace_id[16];
        __u32 open;                                /* requests */
        __u32 overlaps;                            /* of its process when it began */
        __u8 has_parent, sampled;                  /* trace_id came with the request, with this flag; else it was drawn */
        __u8 shared;                               /* another was open on the thread meanwhile */
        __u8 crowded;                              /* others were open in the process when it began */
        __u8 unreadable;                           /* and trace_id not set */
        __u8 zero[3];
};
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, SERVING_MAX); __type(key, struct worker); __type(value, struct serving);
         __uint(map_flags, BPF_F_NO_PREALLOC); } servings SEC(".maps");

/* What a process serves. */
struct load {
        __u32 open, overlaps, multiplexes, zero;
};
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, PROBE_TARGETS_MAX); __type(key, __u32); __type(value, struct load);
         __uint(map_flags, BPF_F_NO_PREALLOC); } loads SEC(".maps");

/* A head that is being looked at; bytes twice as long as used, for the verifier. */
struct head {
        __u8 bytes[2 * HEAD_MAX];
        __u32 busy;                                /* taken */
        __u32 n;                                   /* bytes that are there */
        __u32 first;                               /* length of the first line; 0: not seen whole */
        __u32 end;                                 /* length of the head; 0: not seen whole */
        __u64 body;                                /* Content-Length */
        __u32 flags;                               /* enum head_flags */
        __u32 parent;                              /* where the value of traceparent begins */
};
enum head_flags {
        HEAD_ODD = 1,                              /* not what it should be */
        HEAD_PARENT = 2,                           /* has a traceparent */
        HEAD_LENGTH = 4,                           /* has a Content-Length */
        HEAD_CHUNKED = 8,                          /* has a Transfer-Encoding */
        HEAD_LAST = 16,                            /* Upgrade, Expect: what follows is not certain */
};
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, struct head); } heads SEC(".maps");

static __always_inline void outcome(__u32 which) {
        __u64 *v = bpf_map_lookup_elem(&outcomes, &which);
        if (v)
                __sync_fetch_and_add(v, 1);
}

/* ---- reading heads ---- */

static __always_inline struct head *head_take(void) {
        __u32 cpu = bpf_get_smp_processor_id();
        struct head *h = bpf_map_lookup_elem(&heads, &cpu);
        if (!h || __sync_lock_test_and_set(&h->busy, 1))
                return NULL;
        h->n = h->first = h->end = h->flags = h->parent = 0;
        h->body = 0;
        return h;
}

static __always_inline void head_give(struct head *h) {
        __sync_lock_test_and_set(&h->busy, 0);
}

static __always_inline __u8 byte_at(const struct head *h, __u32 at) {
        return h->bytes[at & (HEAD_MAX - 1)];
}

/* Whether the line at `at` has this name, lower case; another letter case is the same. */
#define NAME_IS(h, at, name) name_is(h, at, name, sizeof(name) - 1)
static __always_inline bool name_is(const struct head *h, __u32 at, const char *name, __u32 n) {
        const __u8 *p = h->bytes + (at & (HEAD_MAX - 1));
        if (at + n >= h->n)
                return false;
        for (__u32 i = 0; i < n; i++)
                if ((p[i] | 0x20) != name[i])
                        return false;
        return true;
}

static __always_inline __u32 value_at(const struct head *h, __u32 at) {
        for (__u32 i = 0; i < 4 && (byte_at(h, at) == ' ' || byte_at(h, at) == '\t'); i++)
                at++;
        return at;
}

/* Digits up to the end of the line; what else stands there, or a second one, is odd. */
__noinline int length_read(struct head *h, __u32 at) {
        __u64 v = 0;
        __u32 digits = 0;
        if (!h)
                return 0;
        at = value_at(h, at);
        for (; digits < 16; digits++, at++) {
                __u8 c = byte_at(h, at);
                if (c < '0' || c > '9')
                        break;
                v = v * 10 + (c - '0');
        }
        if (digits == 0 || digits == 16 || byte_at(h, at) != '\r' || h->flags & HEAD_LENGTH)
                h->flags |= HEAD_ODD;
        h->flags |= HEAD_LENGTH;
        h->body = v;
        return 0;
}

/* The line at `at` begins. */
__noinline int line_read(struct head *h, __u32 at) {
        if (!h)
                return 0;
        __u8 c = byte_at(h, at) | 0x20;
        if (byte_at(h, at) == ' ' || byte_at(h, at) == '\t')
                h->flags |= HEAD_ODD;              /* a line that goes on with the one before: no one should send it any more */
        if (c == 't' && NAME_IS(h, at, "traceparent")) {
                h->flags |= h->flags & HEAD_PARENT || byte_at(h, at + 11) != ':' ? HEAD_PARENT | HEAD_ODD : HEAD_PARENT;
                h->parent = at + 12;
        } else if (c == 't' && NAME_IS(h, at, "transfer-encoding"))
                h->flags |= HEAD_CHUNKED;
        else if (c == 'c' && NAME_IS(h, at, "content-length")) {
                if (byte_at(h, at + 14) != ':')
                        h->flags |= HEAD_ODD;
                length_read(h, at + 15);
        } else if ((c == 'u' && NAME_IS(h, at, "upgrade")) || (c == 'e' && NAME_IS(h, at, "expect")))
                h->flags |= HEAD_LAST;
        return 0;
}

/* A line ends at `at`, with its '\n'. Returns 1 when there is no more to read. */
__noinline int line_end(struct head *h, __u32 at) {
        if (!h)
                return 1;
        if (at == 0 || byte_at(h, at - 1) != '\r') {
                h->flags |= HEAD_ODD;
                return 1;
        }
        if (!h->first)
                h->first = at + 1;
        if (at + 2 >= h->n)
                return 0;                          /* the rest comes later, or never */
        if (byte_at(h, at + 1) == '\r' && byte_at(h, at + 2) == '\n') {
                h->end = at + 3;
                return 1;
        }
        line_read(h, at + 1);
        return 0;
}

struct reading { struct head *h; };

/* Eight bytes: most have no '\n' among them. */
static long read_step(__u32 i, void *context) {
        struct head *h = ((struct reading *)context)->h;
        __u32 at = i * 8;
        if (at >= h->n)
                return 1;
        __u64 v = *(__u64 *)(h->bytes + (at & (HEAD_MAX - 8))) ^ 0x0a0a0a0a0a0a0a0aull;
        if (!((v - 0x0101010101010101ull) & ~v & 0x8080808080808080ull))
                return 0;
        for (__u32 k = 0; k < 8; k++)
                if (byte_at(h, at + k) == '\n' && at + k < h->n && line_end(h, at + k))
                        return 1;
        return 0;
}

static __always_inline void head_read(struct head *h) {
        struct reading r = { h };
        bpf_loop(HEAD_MAX / 8, read_step, &r, 0);
}

enum method { METHOD_NONE, METHOD_HEAD, METHOD_OTHER };

static __always_inline enum method method_of(const struct head *h) {
        __u64 w = *(const __u64 *)h->bytes;
#define STARTS(text) ((w & (~0ull >> (64 - 8 * (sizeof(text) - 1)))) == *(const __u64 *)(text "\0\0\0\0\0\0\0"))
        if (h->n < 8)
                return METHOD_NONE;
        if (STARTS("HEAD "))
                return METHOD_HEAD;
        if (STARTS("GET ") || STARTS("POST ") || STARTS("PUT ") || STARTS("DELETE ") || STARTS("PATCH ") || STARTS("OPTIONS "))
                return METHOD_OTHER;
        return METHOD_NONE;
}

/* "HTTP/1.0" or "HTTP/1.1" at the end of the first line. */
static __always_inline bool is_http1(const struct head *h) {
        const __u8 *p = h->bytes + ((h->first - 11) & (HEAD_MAX - 1));
        return h->first > 14 && p[0] == ' ' && p[1] == 'H' && p[2] == 'T' && p[3] == 'T' && p[4] == 'P' && p[5] == '/' && p[6] == '1' && p[7] == '.' &&
               (p[8] == '0' || p[8] == '1');
}

static __always_inline int hex_of(__u8 c) {
        return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "00-<32 hex>-<16 hex>-<2 hex>\r": trace id and flag. What exchange.c may read and this does not is not known here. */
__noinline int parent_read(struct head *h, struct serving *s) {
        __u8 zero = 0;
        if (!h || !s)
                return -1;
        const __u8 *p = h->bytes + (value_at(h, h->parent) & (HEAD_MAX - 1));
        if (p[0] != '0' || p[1] != '0' || p[2] != '-' || p[35] != '-' || p[52] != '-' || p[55] != '\r')
                return -1;
        for (__u32 i = 0; i < 16; i++) {
                int high = hex_of(p[3 + 2 * i]), low = hex_of(p[4 + 2 * i]);
                if (high < 0 || low < 0)
                        return -1;
                s->trace_id[i] = high << 4 | low;
                zero |= s->trace_id[i];
        }
        if (!zero || hex_of(p[53]) < 0 || hex_of(p[54]) < 0)
                return -1;
        s->sampled = hex_of(p[54]) & 1;
        s->has_parent = 1;
        return 0;
}

/* The first or the last piece of the memory that the call that runs was given. False: it cannot be told. */
static __always_inline bool piece_of_call(struct user_iovec *ret, bool last) {
#if defined(__TARGET_ARCH_x86)
        struct task_struct *task = bpf_get_current_task_btf();
        struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
        struct user_message message;
        __u64 second = regs->si, third = regs->dx;
        if (task->io_uring)
                return false;                      /* the call may be another's */
        barrier_var(second);                       /* one load each: the verifier follows no chosen offset */
        barrier_var(third);
        switch (regs->orig_ax) {
        case __NR_read: case __NR_write: case __NR_recvfrom: case __NR_sendto:
                ret->base = second;
                ret->len = third;
                return true;
        case __NR_readv: case __NR_writev: case __NR_preadv2: case __NR_pwritev2:
                break;
        case __NR_recvmsg: case __NR_sendmsg:
                if (bpf_probe_read_user(&message, sizeof(message), (void *)second) < 0)
                        return false;
                second = message.iov;
                third = message.iov_len;
                break;
        default:
                return false;
        }
        if (last && third)
                second += (third - 1) * sizeof(*ret);
        return third && bpf_probe_read_user(ret, sizeof(*ret), (void *)second) == 0;
#else
        return false;
#endif
}

/* The first `bytes` of the call that runs, HEAD_MAX at most, as far as they lie in one piece. */
static __always_inline bool head_of_call(struct head *h, __u32 bytes) {
        struct user_iovec piece;
        if (!piece_of_call(&piece, false))
                return false;
        __u32 n = bytes < piece.len ? bytes : piece.len;
        if (n > HEAD_MAX)
                n = HEAD_MAX;
        if (n == 0 || bpf_probe_read_user(h->bytes, n, (void *)piece.base) < 0)
                return false;
        h->n = n;
        return true;
}

/* Whether the call that runs, which sent `bytes`, ended a chunked body. One that was not taken whole did not. */
static __always_inline bool ends_chunks(__u32 bytes) {
        struct user_iovec piece;
        __u64 tail = 0;
        if (!piece_of_call(&piece, true) || piece.len < 5 || piece.len > bytes || bpf_probe_read_user(&tail, 5, (void *)(piece.base + piece.len - 5)) < 0)
                return false;
        return tail == *(const __u64 *)"0\r\n\r\n\0\0";
}

static __always_inline void draw(__u8 *to, __u32 n) {
        for (__u32 i = 0; i < n; i += 4) {
                __u32 v = bpf_get_prandom_u32();
                __builtin_memcpy(to + i, &v, 4);
        }
        to[n - 1] |= !to[n - 1];                   /* not all zero */
}

static __always_inline void inject_set(struct probe_inject *e, __u64 connection, __u32 flags) {
        __builtin_memset(e, 0, sizeof(*e));
        head_set(&e->head, PROBE_INJECT, flags, sizeof(*e), bpf_ktime_get_boot_ns());
        e->connection = connection;
}

/* Returns false when the ring is full. */
static __always_inline bool inject_emit(struct probe_inject *e) {
        bool lost = bpf_ringbuf_output(&events, e, sizeof(*e), wake_flags(switches_get())) < 0;
        count(lost ? PROBE_COUNT_LOST : PROBE_COUNT_EVENTS, 1);
        return !lost;
}

/* ---- what is served ---- */

static __always_inline void request_end(struct incoming *in) {
        struct worker by = in->by;
        __u32 tgid = by.tgid;
        if (!__sync_lock_test_and_set(&in->open, 0))
                return;
        struct load *load = bpf_map_lookup_elem(&loads, &tgid);
        if (load && load->open)
                __sync_fetch_and_add(&load->open, -1);
        struct serving *s = bpf_map_lookup_elem(&servings, &by);
        if (s && (s->open <= 1 || __sync_fetch_and_add(&s->open, -1) <= 1))
                bpf_map_delete_elem(&servings, &by);
}

/* The user side hears of it now: the request may have spans before anything is sent for it. */
static __always_inline bool trace_begin(struct serving *s) {
        struct probe_inject e;
        draw(s->trace_id, sizeof(s->trace_id));
        inject_set(&e, s->connection, PROBE_INJECT_SERVED);
        __builtin_memcpy(e.trace_id, s->trace_id, sizeof(e.trace_id));
        return inject_emit(&e);
}

/* The program read the first `bytes` of a request. */
static __always_inline void request_begin(struct incoming *in, const struct probe_target *t, __u64 connection, __u32 bytes) {
        __u64 id = bpf_get_current_pid_tgid();
        struct worker by = { .tgid = id >> 32, .tid = (__u32)id };
        struct serving fresh = { .connection = connection, .open = 1, .unreadable = 1 };
        struct load none = {};
        struct head *h = head_take();
        in->left = in->is_head = 0;
        if (h) {
                if (!(t->flags & PROBE_TARGET_GO) && head_of_call(h, bytes)) {
                        head_read(h);
                        enum method m = method_of(h);
                        in->is_head = m == METHOD_HEAD;
                        in->left = (__s64)(h->end + h->body) - bytes;
                        if (m != METHOD_NONE && h->end && is_http1(h) && !(h->flags & (HEAD_ODD | HEAD_CHUNKED | HEAD_LAST)) && in->left >= 0)
                                fresh.unreadable = h->flags & HEAD_PARENT ? parent_read(h, &fresh) < 0 : 0;
                }
                head_give(h);
        }
        in->by = by;
        in->open = 1;
        in->answered = 0;
        in->answer_left = ANSWER_UNKNOWN;
        __u32 tgid = by.tgid;
        bpf_map_update_elem(&loads, &tgid, &none, BPF_NOEXIST);
        struct load *load = bpf_map_lookup_elem(&loads, &tgid);
        if (!load) {
                fresh.unreadable = 1;
                load = &none;
        } else {
                fresh.crowded = __sync_fetch_and_add(&load->open, 1) > 0;
                if (fresh.crowded)
                        __sync_fetch_and_add(&load->overlaps, 1);
                fresh.overlaps = load->overlaps;
        }
        struct serving *s = bpf_map_lookup_elem(&servings, &by);
        if (s) {
                __sync_fetch_and_add(&s->open, 1);
                s->shared = 1;
                s->unreadable |= fresh.unreadable;
                load->multiplexes = 1;
                return;
        }
        if (!fresh.unreadable && !fresh.has_parent)
                fresh.unreadable = !trace_begin(&fresh);
        bpf_map_update_elem(&servings, &by, &fresh, BPF_ANY);  /* full: a call out begins a trace */
}

static __always_inline bool is_in_cgroup(void) {
        return bpf_current_task_under_cgroup(&cgroups, 0) == 1;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(on_received, struct sock *sk, int ret, int flags) {
        __u32 tgid = bpf_get_current_pid_tgid() >> 32;
        struct probe_target *t = target_get(tgid);
        if (!t || ret <= 0 || flags & MSG_PEEK || sk->__sk_common.skc_family == AF_UNIX || !is_in_cgroup())
                return 0;
        struct probe_socket *at = bpf_sk_storage_get(&sockets, sk, NULL, 0);
        if (!at || !(at->flags & PROBE_SOCKET_PASSIVE))
                return 0;
        struct incoming *in = bpf_sk_storage_get(&incomings, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
        if (!in)
                return 0;
        if (in->open && (!in->answered || in->left > 0)) {
                in->left -= ret;
                if (in->left < 0) {                /* another request behind it, or a body of a length that is not known */
                        struct worker by = in->by;
                        struct serving *s = bpf_map_lookup_elem(&servings, &by);
                        if (s)
                                s->unreadable = 1;
                }
                return 0;
        }
        request_end(in);
        request_begin(in, t, at->connection, ret);
        return 0;
}

/* How long the answer is, of which the first `bytes` are sent now. Returns false for one that is not yet the answer (1xx). */
static __always_inline bool answer_begin(struct incoming *in, __u32 bytes) {
        struct head *h = head_take();
        bool final = true;
        if (!h)
                return true;
        if (head_of_call(h, bytes) && h->n > 12 && *(__u64 *)h->bytes << 8 == *(__u64 *)"HTTP/1.\0" << 8) {
                const __u8 *status = h->bytes + 9;
                final = status[0] != '1';
                head_read(h);
                if (h->end && !(h->flags & HEAD_ODD)) {
                        bool empty = in->is_head || (status[0] == '2' && status[2] == '4') || (status[0] == '3' && status[2] == '4');
                        in->answer_left = empty ? h->end : h->flags & HEAD_CHUNKED ? ANSWER_CHUNKED : h->flags & HEAD_LENGTH ? h->end + h->body
                                                                                                       : ANSWER_UNKNOWN;
                }
        }
        head_give(h);
        return final;
}

static __always_inline void answered(struct incoming *in, __u32 bytes) {
        if (!in->answered && !answer_begin(in, bytes))
                return;
        in->answered = 1;
        if (in->answer_left >= 0) {
                in->answer_left -= bytes;
                if (in->answer_left <= 0)
                        request_end(in);
        } else if (in->answer_left == ANSWER_CHUNKED && ends_chunks(bytes))
                request_end(in);
}

/* What the program's call came to: what it did not accept will be sent again. Behind a call that took a part the kernel may take the next ones
 * without asking on_message. */
static __always_inline void accepted(struct outgoing *out, int ret) {
        if (ret <= 0)
                out->left -= out->head;
        else if ((__u32)ret <= out->left)
                out->left -= (__u32)ret;
        else
                out->done = 1;                     /* a request began unseen */
        out->in_call = out->head = 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(on_sent, struct sock *sk, int ret, int flags) {
        __u32 tgid = bpf_get_current_pid_tgid() >> 32;
        if (!target_get(tgid) || sk->__sk_common.skc_family == AF_UNIX)
                return 0;
        struct outgoing *out = bpf_sk_storage_get(&outgoings, sk, NULL, 0);
        if (out) {
                if (!out->done)
                        accepted(out, ret);
                return 0;
        }
        struct incoming *in = bpf_sk_storage_get(&incomings, sk, NULL, 0);
        if (in && in->open && ret > 0)
                answered(in, ret);
        return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_closed, const struct sock *sk, const int from, const int to) {
        if (to != TCP_FIN_WAIT1 && to != TCP_LAST_ACK && to != TCP_CLOSE)
                return 0;
        struct incoming *in = bpf_sk_storage_get(&incomings, (void *)sk, NULL, 0);
        if (in)
                request_end(in);
        return 0;
}

/* ---- what is sent ---- */

static __always_inline int connecting(struct bpf_sock_ops *s) {
        __u32 zero = 0;
        __u32 port = bpf_ntohl(s->remote_port);
        struct probe_inject_rules *r = bpf_map_lookup_elem(&rules, &zero);
        struct bpf_sock *sk = s->sk;
        if (!r || !sk || bpf_skc_to_mptcp_sock(sk) || !(r->ports[(port >> 6) & 1023] >> (port & 63) & 1))
                return 1;
        struct outgoing *out = bpf_sk_storage_get(&outgoings, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
        if (!out) {
                outcome(PROBE_OUTCOME_FULL);
                return 1;
        }
        __u64 cookie = bpf_get_socket_cookie(s);
        out->connection = cookie;
        /* Another's sockmap may have it already; then it stays there. */
        bool taken = bpf_sock_hash_update(s, &connected, &cookie, BPF_NOEXIST) == 0;
        outcome(taken ? PROBE_OUTCOME_SOCKETS : PROBE_OUTCOME_FULL);
        out->asked = taken && !(s->bpf_sock_ops_cb_flags & BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
        if (out->asked)
                bpf_sock_ops_cb_flags_set(s, s->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
        return 1;
}

/* TCP is about to send. */
static __always_inline int sending(struct bpf_sock_ops *s) {
        struct bpf_sock *sk = s->sk;
        struct outgoing *out = sk ? bpf_sk_storage_get(&outgoings, sk, NULL, 0) : NULL;
        if (!out || !out->done)
                return 1;
        __u64 cookie = out->connection;
        if (bpf_map_delete_elem(&connected, &cookie) == 0)
                outcome(PROBE_OUTCOME_LEFT);
        if (out->asked)                            /* else another program did, and wants to go on hearing of it */
                bpf_sock_ops_cb_flags_set(s, s->bpf_sock_ops_cb_flags & ~BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
        out->asked = 0;
        return 1;
}

SEC("sockops")
int on_socket(struct bpf_sock_ops *s) {
        return s->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB ? connecting(s) : s->op == BPF_SOCK_OPS_HDR_OPT_LEN_CB ? sending(s) : 1;
}

/* The connection is left alone from now on. */
static __always_inline int leave(struct outgoing *out, enum probe_inject_outcome why) {
        outcome(why);
        out->done = 1;
        return SK_PASS;
}

/* The trace of what this thread sends now. Returns -1 when the kernel side cannot tell. */
static __always_inline int trace_of(struct probe_inject *e, const struct probe_inject_rules *r, const struct probe_target *t) {
        __u64 id = bpf_get_current_pid_tgid();
        struct worker by = { .tgid = id >> 32, .tid = (__u32)id };
        __u32 tgid = by.tgid;
        struct load *load = bpf_map_lookup_elem(&loads, &tgid);
        struct serving *s = bpf_map_lookup_elem(&servings, &by);
        bool mine = s && load && !s->shared && (!load->multiplexes || (!s->crowded && s->overlaps == load->overlaps));
        /* A goroutine runs on any thread. */
        if ((t->flags & PROBE_TARGET_GO && load && load->open) || (s && s->unreadable))
                return -1;
        if (mine)
                __builtin_memcpy(e->trace_id, s->trace_id, sizeof(e->trace_id));
        else
                draw(e->trace_id, sizeof(e->trace_id));
        e->server = mine ? s->connection : 0;
        if (probe_is_sampled(r, e->trace_id, mine && s->has_parent ? s->sampled : -1))
                e->head.flags |= PROBE_INJECT_SAMPLED;
        return 0;
}

static __always_inline void hex_put(__u8 *to, __u8 v) {
        __u8 high = v >> 4, low = v & 15;
        to[0] = high + (high < 10 ? '0' : 'a' - 10);
        to[1] = low + (low < 10 ? '0' : 'a' - 10);
}

static __always_inline void line_make(__u8 *line, const struct probe_inject *e) {
        __builtin_memcpy(line, "traceparent: 00-", 16);
        for (__u32 i = 0; i < 16; i++)
                hex_put(line + 16 + 2 * i, e->trace_id[i]);
        line[48] = '-';
        for (__u32 i = 0; i < 8; i++)
                hex_put(line + 49 + 2 * i, e->span_id[i]);
        line[65] = '-';
        line[66] = '0';
        line[67] = e->head.flags & PROBE_INJECT_SAMPLED ? '1' : '0';
        line[68] = '\r';
        line[69] = '\n';
}

/* Room at `at` of the message, and the line in it. Returns 0, or negative: the message is as it was. */
static __always_inline long line_put(struct sk_msg_md *msg, __u32 at, const struct probe_inject *e) {
        __u8 line[72];
        long r = bpf_msg_push_data(msg, at, PROBE_INJECT_BYTES, 0);
        if (r < 0)
                return r;
        r = bpf_msg_pull_data(msg, at, at + PROBE_INJECT_BYTES, 0);
        __u8 *data = msg->data, *end = msg->data_end;
        if (r < 0 || data + PROBE_INJECT_BYTES > end) {
                bpf_msg_pop_data(msg, at, PROBE_INJECT_BYTES, 0);
                return -1;
        }
        line_make(line, e);
        __builtin_memcpy(data, line, PROBE_INJECT_BYTES);
        return 0;
}

/* The request of this message may have a traceparent. first: length of its first line. */
static __always_inline void inject(struct sk_msg_md *msg, const struct outgoing *out, __u32 first, const struct probe_target *t,
                                   const struct probe_inject_rules *r) {
        struct tcp_sock *tcp = bpf_skc_to_tcp_sock(msg->sk);
        /* With an empty queue the head is taken whole, or nothing: a call that does not wait cannot end within our line. */
        if (!tcp || tcp->write_seq != tcp->snd_una) {
                outcome(PROBE_OUTCOME_BUSY);
                return;
        }
        struct probe_inject *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
        if (!e) {
                outcome(PROBE_OUTCOME_BUSY);       /* ids that nobody hears of lead nowhere */
                return;
        }
        inject_set(e, out->connection, PROBE_INJECT_SENT);
        e->seq = tcp->write_seq;
        draw(e->span_id, sizeof(e->span_id));
        int known = trace_of(e, r, t);
        if (known < 0 || line_put(msg, first, e) < 0) {
                bpf_ringbuf_discard(e, BPF_RB_NO_WAKEUP);
                outcome(known < 0 ? PROBE_OUTCOME_UNKNOWN : PROBE_OUTCOME_BUSY);
                return;
        }
        bpf_ringbuf_submit(e, wake_flags(switches_get()));
        count(PROBE_COUNT_EVENTS, 1);
        outcome(PROBE_OUTCOME_SENT);
}

/* The first bytes of the message, in one piece. */
static __always_inline bool head_of_message(struct sk_msg_md *msg, struct head *h) {
        __u32 n = msg->size < HEAD_MAX ? msg->size : HEAD_MAX;
        __u8 *data = msg->data, *end = msg->data_end;
        if (data + n > end) {
                if (bpf_msg_pull_data(msg, 0, n, 0) < 0)
                        return false;
                data = msg->data;
                end = msg->data_end;
                if (data + n > end)
                        return false;
        }
        if (n == 0 || n > HEAD_MAX || bpf_probe_read_kernel(h->bytes, n, data) < 0)
                return false;
        h->n = n;
        return true;
}

/* A request begins with this message. */
static __always_inline int request_out(struct sk_msg_md *msg, struct outgoing *out, struct head *h) {
        __u32 tgid = bpf_get_current_pid_tgid() >> 32, size = msg->size, zero = 0;
        struct probe_inject_rules *r = bpf_map_lookup_elem(&rules, &zero);
        struct probe_target *t = target_get(tgid);
        if (!t || !r)
                return leave(out, PROBE_OUTCOME_UNOBSERVED);
        if (!head_of_message(msg, h))
                return leave(out, PROBE_OUTCOME_BUSY);
        head_read(h);
        if (method_of(h) == METHOD_NONE || h->flags & HEAD_ODD || (h->first && !is_http1(h)))
                return leave(out, PROBE_OUTCOME_OTHER);
        if (!h->end)
                return leave(out, PROBE_OUTCOME_SPLIT);
        __u64 length = h->end + h->body;
        bool last = h->flags & (HEAD_CHUNKED | HEAD_LAST);
        if (size > length && !last)
                return leave(out, PROBE_OUTCOME_OTHER);        /* several at once */
        out->left += length;
        out->head = length;
        out->in_call += size;
        out->done = last || !r->keep_alive;
        if (h->flags & HEAD_PARENT)
                outcome(PROBE_OUTCOME_OWN);
        else
                inject(msg, out, h->first, t, r);
        return SK_PASS;
}

SEC("sk_msg")
int on_message(struct sk_msg_md *msg) {
        struct bpf_sock *sk = msg->sk;
        struct outgoing *out = sk ? bpf_sk_storage_get(&outgoings, sk, NULL, 0) : NULL;
        __u32 tid = (__u32)bpf_get_current_pid_tgid();
        if (!out || out->done)
                return SK_PASS;
        if (out->in_call && out->tid != tid)
                return leave(out, PROBE_OUTCOME_OTHER);        /* two send at once */
        out->tid = tid;
        if (out->left > out->in_call) {
                if (out->in_call + msg->size > out->left)
                        return leave(out, PROBE_OUTCOME_OTHER);        /* the next request behind the body */
                out->in_call += msg->size;
                return SK_PASS;
        }
        struct head *h = head_take();
        if (!h)
                return leave(out, PROBE_OUTCOME_BUSY);
        int r = request_out(msg, out, h);
        head_give(h);
        return r;
}
