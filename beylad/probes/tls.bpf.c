/* SPDX-License-Identifier: Dual BSD/GPL */
/* TLS: plaintext from the libraries that encrypt it.
 *
 * Which connection a session carries:
 * - A call of the library that moves bytes of a socket itself: the sockets probe sees both at once. That is certain.
 * - A library that is handed the bytes (Node, asyncio: "memory BIO") moves none. The program receives, then gives what came to the session, on
 *   the same thread. So the first call of the library after the thread received TLS records takes that connection (`last_in`), whatever session
 *   it is for: no later call can take it by mistake. One such pair may still be chance (a call that had another reason), so the session has
 *   its connection only when the last two pairs named the same one. For a client one is enough while nothing contradicted it: it sends its
 *   first plaintext after a handshake, so after at least one answer; its first call of all, which begins that handshake, never takes any.
 *   Two that differ after plaintext was handed on: the session is given up. A pair before which the thread received on several connections can only
 *   confirm. Plaintext of a session without connection is counted, not sent.
 * - Go: the connection is a member of tls.Conn.
 *
 * Uprobes may be preempted, and others run on their CPU meanwhile: there is no scratch per CPU here. */
#include "beylad/probes/frames.bpf.h"
#include "beylad/probes/site.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Value of the map `guesses`, by session: the connection of a session as far as threads tell. */
struct guess {
        __u64 connection;
        __u32 flags;                               /* enum guess_flags */
        __u32 pairs;                               /* in a row that named the connection */
};
enum guess_flags {
        GUESS_CLIENT = 1,
        GUESS_BEGUN = 2,                           /* a call was made */
        GUESS_DOUBT = 4,                           /* pairs named different connections */
        GUESS_SHOWN = 8,                           /* plaintext was handed on under it */
        GUESS_GIVEN_UP = 16,
};
#define PAIRS_ENOUGH 2
#define SEVERAL (1ull << 63)                       /* in last_in: the thread received on others too since the last call */
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, PROBE_SESSIONS_MAX); __type(key, struct probe_session_key); __type(value, struct guess);
         __uint(map_flags, BPF_F_NO_PREALLOC); } guesses SEC(".maps");

/* A call that runs: its arguments, and the stack pointer it entered with, which tells its return from others'. */
struct call {
        __u64 session, sp, buffer, size, length_at, start_ns;
        __u32 flags, zero;                         /* enum site_flags; sp 0: none runs */
};
/* The call that runs on a thread, and one inside it that counts too: Node tells its program within SSL_read that the handshake is done, and the
 * program writes at once, there or elsewhere. */
struct running {
        struct call outer, inner;
};
struct { __uint(type, BPF_MAP_TYPE_TASK_STORAGE); __uint(map_flags, BPF_F_NO_PREALLOC); __type(key, int); __type(value, struct running); } calls SEC(".maps");
#define LIBRARY_BYTES 16384u                       /* of stack a library needs for itself: 5.4 KB were seen; what lies deeper is the program, called back */
#define NESTED_BYTES 131072u                       /* of stack between a call and one inside it: 23 KB were seen; beyond, it is another fiber's */

#define FOLLOW_STEPS_MAX (1u << 17)                /* of one call, two or three for each frame of HTTP/2; what is behind them is not followed any more */
#define FOLLOW_STEPS_OLD 8192u                     /* likewise, before bpf_loop */

/* Plaintext on its way to the ring. */
struct plain {
        __u64 connection, buffer, offset, start_ns, now;
        __u64 left;                                /* bytes not yet in an event */
        __u64 wanted;                              /* of them, how many to capture, or to follow */
        __u32 run, passed;                         /* of the next event: bytes to capture, and bytes behind them that are passed over */
        __u32 turn, flags;                         /* flags: enum probe_data_flags */
        __u32 opens;                               /* it opened a request's turn, and no event of it was tried yet */
        struct probe_frames frames;                /* of the session's direction */
        __u32 heads;                               /* requests that begin in the run, as the frames tell. And no byte between: verifiers before 6.4 want to
                                                    * see every one written that a function is handed */
};

/* ---- the ring ---- */

static __always_inline void fill(struct probe_data *e, const struct plain *p, const struct probe_target *t, __u32 captured) {
        bool last = p->wanted <= p->run + p->passed;
        head_set(&e->head, PROBE_DATA, p->flags | (last ? PROBE_END : 0), sizeof(*e) + captured, p->now);
        task_get(t, &e->task);
        e->connection = p->connection;
        e->start_ns = p->start_ns;
        e->offset = p->offset;
        e->bytes = last ? p->left : p->run + p->passed;
        e->captured = captured;
        e->seq = 0;
        e->turn = p->turn;
}

/* The ring takes sizes that are known beforehand only: the next larger of a few, and the head says how much of it counts. Returns what was
 * captured, -1 when the ring is full. */
#define EMIT_ROOM(room)                                                                                                                    \
        static __always_inline long emit_##room(const struct plain *p, const struct probe_target *t, __u32 n) {                           \
                struct {                                                                                                                   \
                        struct probe_data data;                                                                                            \
                        __u8 bytes[room];                                                                                                  \
                } *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);                                                                        \
                if (!e)                                                                                                                    \
                        return -1;                                                                                                         \
                if (n > room)                                                                                                              \
                        n = room;                                                                                                          \
                fill(&e->data, p, t, n);                                                                                                   \
                /* Verifiers before 6.4 want to see the bound on the very value that is passed. */                                         \
                if (n && ({ barrier_var(n); n <= room; }) && bpf_probe_read_user(e->bytes, n, (void *)p->buffer) < 0) {                    \
                        e->data.head.flags |= PROBE_UNREADABLE;                                                                            \
                        e->data.head.size = sizeof(e->data);                                                                               \
                        e->data.captured = 0;                                                                                              \
                        count(PROBE_COUNT_UNREADABLE, 1);                                                                                  \
                }                                                                                                                          \
                bpf_ringbuf_submit(e, wake_flags(switches_get()));                                                                         \
                return n;                                                                                                                  \
        }
EMIT_ROOM(256)
EMIT_ROOM(1024)
EMIT_ROOM(4096)
EMIT_ROOM(16384)                                   /* PROBE_CAPTURE_MAX, and what a TLS record carries */

/* One event. */
static __noinline int emit(struct plain *p, struct probe_target *t) {
        __u32 n = p->run;
        long r = n <= 256 ? emit_256(p, t, n) : n <= 1024 ? emit_1024(p, t, n) : n <= 4096 ? emit_4096(p, t, n) : emit_16384(p, t, n);
        __u64 bytes = p->run + p->passed;
        if (r < 0) {
                count(PROBE_COUNT_LOST, 1);
                count(PROBE_COUNT_LOST_BYTES, bytes);
                if (frames_are_followed(&p->frames))
                        count(PROBE_COUNT_LOST_REQUESTS, p->heads);
                else if (p->opens)                 /* of the pieces of a call the first alone */
                        count(PROBE_COUNT_LOST_REQUESTS, 1);
        } else
                count(PROBE_COUNT_EVENTS, 1);
        p->opens = false;
        p->flags &= ~PROBE_TURN;
        p->offset += bytes;
        p->left -= bytes;
        p->buffer += bytes;
        p->wanted -= bytes < p->wanted ? bytes : p->wanted;
        p->run = p->passed = p->heads = 0;
        return 0;
}

/* The next piece of HTTP/2's frames; an event ends where a payload was passed over, or when it is full. Returns 1 when all is followed.
 * A function of its own, which the verifier looks at once. */
__noinline int follow_once(struct plain *p) {
        __u8 bytes[FRAME_HEADER] = {};             /* verifiers before 6.4 want it written before the kernel writes it */
        struct probe_target *t = target_get(bpf_get_current_pid_tgid() >> 32);
        if (!p || !t)
                return 1;
        __u64 done = p->run + p->passed, ahead = p->wanted - done;
        if (done >= p->wanted || p->frames.state == PROBE_FRAMES_NONE)
                return 1;
        __u32 n = frames_piece(&p->frames, ahead);
        if (p->frames.skip) {
                p->frames.skip -= n;
                p->passed += n;
                if (!p->frames.skip)
                        emit(p, t);
                return 0;
        }
        if (p->passed || p->run >= PROBE_CAPTURE_MAX) {
                emit(p, t);
                return 0;
        }
        if (n > PROBE_CAPTURE_MAX - p->run)
                n = PROBE_CAPTURE_MAX - p->run;
        if (!p->frames.copy) {
                if (n > sizeof(bytes) || bpf_probe_read_user(bytes, n, (void *)(p->buffer + p->run)) < 0) {
                        p->frames.state = PROBE_FRAMES_NONE;
                        return 1;
                }
                if (frames_captured(&p->frames, bytes, n))
                        p->heads++;
        } else
                p->frames.copy -= n;
        p->run += n;
        return 0;
}

static long follow_step(__u32 i, void *context) {
        (void)i;
        return follow_once(context) != 0;
}

/* Before 5.17 there is no bpf_loop: a walk over a map with so many values is the same. */
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, FOLLOW_STEPS_OLD); __type(key, __u32); __type(value, __u64); } steps SEC(".maps");

static long follow_walk(void *map, const void *key, void *value, void *context) {
        return follow_once(context) != 0;
}

/* How many of the bytes the user side wants; -1: nothing of this connection. */
static __always_inline long wanted(const struct plain *p) {
        struct probe_switches *s = switches_get();
        __u32 max = s && s->capture_max < PROBE_CALL_MAX ? s->capture_max : PROBE_CALL_MAX;
        __u64 connection = p->connection;
        struct probe_verdict *v = bpf_map_lookup_elem(&verdicts, &connection);
        if (v && v->ignore)
                return -1;
        if (v && p->offset + p->left <= (p->flags & PROBE_OUT ? v->skip_out : v->skip_in))
                return 0;
        return p->left < max ? p->left : max;
}

/* Hands on what frames tell, but the end. most: of what they tell nothing of. */
static __always_inline void follow(struct probe_frames *f, struct plain *p, __u64 most) {
        p->wanted = p->left;
        p->frames = *f;
        if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_loop))
                bpf_loop(FOLLOW_STEPS_MAX, follow_step, p, 0);
        else
                bpf_for_each_map_elem(&steps, follow_walk, p, 0);
        if (p->run + p->passed < p->wanted) {
                p->frames.state = PROBE_FRAMES_NONE;
                p->wanted = p->wanted < most ? p->wanted : most;
                p->passed = 0;
        }
        *f = p->frames;
}

/* p->left bytes of plaintext passed a session. */
static __noinline int passed(struct probe_session *s, struct plain *p, struct probe_target *t) {
        bool out = p->flags & PROBE_OUT, turn = s->last != 1 + out;
        if (!s->last)
                s->asks = out;
        bool opens = turn && out == s->asks;
        p->offset = out ? s->out : s->in;
        s->turn += turn && !out;
        s->last = 1 + out;
        if (out)
                s->out += p->left;
        else
                s->in += p->left;
        p->turn = s->turn;
        p->flags |= PROBE_PLAIN | (turn ? PROBE_TURN : 0);
        if (!p->connection) {                      /* nobody can tell whose it is: counted, not sent */
                if (opens)
                        count(PROBE_COUNT_LOST_REQUESTS, 1);
                return 0;
        }
        long n = wanted(p);
        if (n < 0)
                return 0;
        count(PROBE_COUNT_CALLS, 1);
        p->opens = opens;
        p->wanted = p->buffer ? n : 0;
        p->run = p->passed = p->heads = 0;
        if (p->buffer && s->frames[out].state != PROBE_FRAMES_NONE)
                follow(&s->frames[out], p, n);
        for (__u32 i = 0; i < PROBE_CALL_MAX / PROBE_CAPTURE_MAX && (i ? p->wanted : p->left); i++) {
                if (!p->passed)
                        p->run = p->wanted < PROBE_CAPTURE_MAX ? p->wanted : PROBE_CAPTURE_MAX;
                emit(p, t);
        }
        return 0;
}

/* ---- sessions ---- */

static __always_inline struct probe_session *session_get(const struct probe_session_key *key) {
        struct probe_session *s = bpf_map_lookup_elem(&sessions, key), fresh = {};
        if (s)
                return s;
        if (bpf_map_update_elem(&sessions, key, &fresh, BPF_NOEXIST) < 0)
                count(PROBE_COUNT_NO_STATE, 1);
        return bpf_map_lookup_elem(&sessions, key);
}

static __always_inline void session_forget(const struct probe_session_key *key) {
        bpf_map_delete_elem(&sessions, key);
        bpf_map_delete_elem(&guesses, key);
}

/* A call for the session. last_in: what its thread received TLS records on since the last call of any session. */
static __always_inline void guess_call(const struct probe_session_key *key, __u64 last_in) {
        struct guess *g = bpf_map_lookup_elem(&guesses, key), fresh = {};
        __u64 connection = last_in & ~SEVERAL;
        if (!g && connection) {
                if (bpf_map_update_elem(&guesses, key, &fresh, BPF_NOEXIST) < 0)
                        count(PROBE_COUNT_NO_STATE, 1);
                g = bpf_map_lookup_elem(&guesses, key);
        }
        if (!g)
                return;
        bool first = !(g->flags & GUESS_BEGUN);
        g->flags |= GUESS_BEGUN;
        if (!connection || g->flags & GUESS_GIVEN_UP || (first && g->flags & GUESS_CLIENT))
                return;
        if (g->connection == connection)
                g->pairs += g->pairs < PAIRS_ENOUGH;
        else if (last_in & SEVERAL)
                return;                            /* it may confirm, no more */
        else if (g->flags & GUESS_SHOWN) {
                g->flags |= GUESS_GIVEN_UP;
                count(PROBE_COUNT_NO_STATE, 1);
        } else {
                g->flags |= g->connection ? GUESS_DOUBT : 0;
                g->connection = connection;
                g->pairs = 1;
        }
}

/* The connection of a session, if it is certain; else 0. Plaintext is about to be handed on under it. */
static __always_inline __u64 session_connection(const struct probe_session_key *key, const struct probe_session *s) {
        if (s->connection)
                return s->connection;
        struct guess *g = bpf_map_lookup_elem(&guesses, key);
        if (!g || g->flags & GUESS_GIVEN_UP || g->pairs < ((g->flags & (GUESS_CLIENT | GUESS_DOUBT)) == GUESS_CLIENT ? 1 : PAIRS_ENOUGH))
                return 0;
        g->flags |= GUESS_SHOWN;
        return g->connection;
}

#if defined(__TARGET_ARCH_x86)

/* ---- C libraries ---- */

/* Inside the call that runs: does it count too? Not what repeats it, and not what the library calls on another session: that is TLS in TLS, of
 * which the plaintext is ciphertext. */
static __always_inline bool counts_inside(const struct call *outer, __u64 session, __u32 flags, __u64 depth) {
        if (flags & SITE_NO_DATA)
                return false;
        return depth > LIBRARY_BYTES || (session == outer->session && (outer->flags & SITE_NO_DATA || (flags ^ outer->flags) & SITE_OUT));
}

/* The first argument of each is the session, then buffer, size, and where the length goes. */
SEC("uprobe")
int on_tls_call(struct pt_regs *ctx) {
        __u64 cookie = bpf_get_attach_cookie(ctx);
        __u32 tgid = bpf_get_current_pid_tgid() >> 32, flags = SITE_FLAGS(cookie);
        struct probe_session_key key = { .session = ctx->di, .tgid = tgid };
        if (site_is_foreign(cookie, tgid))
                return 0;
        struct task_struct *task = bpf_get_current_task_btf();
        struct probe_thread *thread = bpf_task_storage_get(&threads, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
        struct running *running = bpf_task_storage_get(&calls, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
        if (!thread || !running || !key.session)
                return 0;
        struct call *call = &running->outer;
        if (thread->session && ctx->sp < call->sp && call->sp - ctx->sp <= NESTED_BYTES) {
                if (!counts_inside(call, key.session, flags, call->sp - ctx->sp))
                        return 0;
                call = &running->inner;
        } else {
                struct probe_session *s = session_get(&key);
                if (s && !s->connection)
                        guess_call(&key, thread->last_in);
                thread->last_in = 0;
                running->inner.sp = 0;
        }
        thread->session = key.session;
        thread->sp = ctx->sp;
        __u64 fourth = ctx->cx, fifth = ctx->r8;
        barrier_var(fourth);                       /* one load from ctx each: the verifier follows no chosen offset */
        barrier_var(fifth);
        call->session = key.session;
        call->sp = ctx->sp;
        call->buffer = ctx->si;
        call->size = ctx->dx;
        call->length_at = flags & SITE_LENGTH_4 ? fourth : flags & SITE_LENGTH_5 ? fifth : 0;
        call->start_ns = bpf_ktime_get_boot_ns();
        call->flags = flags;
        return 0;
}

/* How many bytes the call moved: not more than it was given, but GnuTLS is asked to go on by passing it nothing. */
static __always_inline __u64 returned(const struct pt_regs *ctx, const struct call *call) {
        __u64 n = 0, max = call->buffer ? call->size : 0x7fffffff;
        if (call->flags & SITE_NO_DATA || (__s32)ctx->ax <= 0)
                return 0;
        if (call->flags & SITE_LONG)
                n = ctx->ax;
        else if (!call->length_at)
                n = (__u32)ctx->ax;
        else if (bpf_probe_read_user(&n, sizeof(n), (void *)call->length_at) < 0)
                return 0;
        return n <= max ? n : 0;
}

SEC("uretprobe")
int on_tls_return(struct pt_regs *ctx) {
        __u32 tgid = bpf_get_current_pid_tgid() >> 32;
        struct task_struct *task = bpf_get_current_task_btf();
        struct probe_thread *thread = bpf_task_storage_get(&threads, task, NULL, 0);
        struct running *running = bpf_task_storage_get(&calls, task, NULL, 0);
        if (!thread || !running || !thread->session)
                return 0;
        /* The return address is gone from the stack. No match: a call that does not count, or one on another stack. */
        __u64 sp = ctx->sp - sizeof(__u64);
        struct call *call = sp == running->outer.sp ? &running->outer : &running->inner;
        if (sp != call->sp)
                return 0;
        struct probe_session_key key = { .session = call->session, .tgid = tgid };
        struct plain p = { .buffer = call->buffer, .start_ns = call->start_ns, .left = returned(ctx, call),
                           .flags = call->flags & SITE_OUT ? PROBE_OUT : 0 };
        call->sp = 0;
        thread->session = call == &running->outer ? 0 : running->outer.session;
        thread->sp = running->outer.sp;
        struct probe_session *s = p.left ? bpf_map_lookup_elem(&sessions, &key) : NULL;
        struct probe_target *t = target_get(tgid);
        if (!s || !t)
                return 0;
        p.connection = session_connection(&key, s);
        p.now = bpf_ktime_get_boot_ns();
        return passed(s, &p, t);
}

/* SSL_set_connect_state() and its sister: every session begins so. SSL_connect() and SSL_accept() call them, within what counts as a call. */
SEC("uprobe")
int on_tls_begin(struct pt_regs *ctx) {
        __u64 cookie = bpf_get_attach_cookie(ctx);
        struct probe_session_key key = { .session = ctx->di, .tgid = bpf_get_current_pid_tgid() >> 32 };
        struct guess fresh = {};
        if (site_is_foreign(cookie, key.tgid))
                return 0;
        struct probe_thread *thread = bpf_task_storage_get(&threads, bpf_get_current_task_btf(), NULL, 0);
        bool inside = thread && thread->session == key.session;
        bool client = SITE_FLAGS(cookie) & SITE_CLIENT;
        if (inside && !client)
                return 0;                          /* what the call began with stays; a client has received nothing yet */
        bpf_map_delete_elem(&sessions, &key);
        fresh.flags = (client ? GUESS_CLIENT : 0) | (inside ? GUESS_BEGUN : 0);
        if (bpf_map_update_elem(&guesses, &key, &fresh, BPF_ANY) < 0)
                count(PROBE_COUNT_NO_STATE, 1);
        return 0;
}

SEC("uprobe")
int on_tls_end(struct pt_regs *ctx) {
        __u64 cookie = bpf_get_attach_cookie(ctx);
        struct probe_session_key key = { .session = ctx->di, .tgid = bpf_get_current_pid_tgid() >> 32 };
        if (!site_is_foreign(cookie, key.tgid))
                session_forget(&key);
        return 0;
}

/* ---- Go ---- */

/* n bytes of plaintext at buffer, of the *tls.Conn c. */
static __always_inline int go_passed(__u64 c, __u64 buffer, __u64 n, __u32 tgid, __u32 flags) {
        struct probe_target *t = target_get(tgid);
        __u64 conn[2];
        if (!t || !c || !n || bpf_probe_read_user(conn, sizeof(conn), (void *)c) < 0)
                return 0;
        __u64 now = bpf_ktime_get_boot_ns();
        struct plain p = { .connection = go_connection(conn[1]), .buffer = buffer, .left = n, .start_ns = now, .now = now, .flags = flags };
        if (!p.connection)
                return 0;
        struct probe_session_key key = { .session = c, .tgid = tgid };
        struct probe_session *s = session_get(&key);
        if (s && s->connection != p.connection) {  /* new, or memory of a tls.Conn that nobody closed */
                struct probe_session fresh = { .connection = p.connection };
                bpf_map_update_elem(&sessions, &key, &fresh, BPF_EXIST);
                s = bpf_map_lookup_elem(&sessions, &key);
        }
        return s ? passed(s, &p, t) : 0;
}

/* crypto/tls.(*Conn).writeRecordLocked(type, data): rax, rbx, rcx and rdi. What Write() calls with the handshake done, for each part of the
 * data: the socket is known by then. */
SEC("uprobe")
int on_go_write(struct pt_regs *ctx) {
        __u64 cookie = bpf_get_attach_cookie(ctx);
        __u32 tgid = bpf_get_current_pid_tgid() >> 32;
        if ((__u8)ctx->bx != 0x17 || site_is_foreign(cookie, tgid) || site_is_repeated(cookie, ctx))
                return 0;                          /* 0x17: application data */
        return go_passed(ctx->ax, ctx->cx, ctx->di, tgid, PROBE_OUT);
}

/* In crypto/tls.(*Conn).Read, where the plaintext is copied to the caller. slot: of the stack pointer, where the receiver stands. */
SEC("uprobe")
int on_go_read(struct pt_regs *ctx) {
        __u64 cookie = bpf_get_attach_cookie(ctx), c[2] = {}, buffer = ctx->bx, n = ctx->cx, reader[4];
        __u32 tgid = bpf_get_current_pid_tgid() >> 32, flags = SITE_FLAGS(cookie);
        if (site_is_foreign(cookie, tgid) || bpf_probe_read_user(c, sizeof(c), (void *)(ctx->sp + SITE_SLOT(cookie))) < 0)
                return 0;
        if (flags & SITE_RETURN) {
                buffer = c[1];
                n = (__s64)ctx->ax > 0 ? ctx->ax : 0;
        } else if (flags & SITE_READER) {
                /* bytes.Reader: a slice, and how much of it was read. Source: Go's src/bytes/reader.go. */
                if (bpf_probe_read_user(reader, sizeof(reader), (void *)ctx->ax) < 0 || reader[3] >= reader[1])
                        return 0;
                buffer = reader[0] + reader[3];
                n = reader[1] - reader[3] < n ? reader[1] - reader[3] : n;
        }
        return go_passed(c[0], buffer, n, tgid, 0);
}

SEC("uprobe")
int on_go_close(struct pt_regs *ctx) {
        __u64 cookie = bpf_get_attach_cookie(ctx);
        struct probe_session_key key = { .session = ctx->ax, .tgid = bpf_get_current_pid_tgid() >> 32 };
        if (!site_is_foreign(cookie, key.tgid) && !site_is_repeated(cookie, ctx))
                bpf_map_delete_elem(&sessions, &key);
        return 0;
}
#endif
