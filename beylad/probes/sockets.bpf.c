/* SPDX-License-Identifier: Dual BSD/GPL */
/* Sockets: what observed programs send and receive on stream sockets, and when their connections end.
 *
 * No system call is traced. sock_send_length and sock_recv_length fire inside the call, with the socket and the result; the call's
 * arguments still lie in the registers it entered with. Other programs pay one lookup, and only where they use sockets. */
#include <asm/unistd.h>

#include "beylad/probes/capture.bpf.h"
#include "beylad/probes/sock.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The connection's ends, before its first event. */
static __always_inline bool open_emit(struct sock *sk, struct probe_socket *at, __u64 now) {
        struct probe_open e = {};
        struct sock_common *k = &sk->__sk_common;
        head_set(&e.head, PROBE_OPEN, (at->flags & PROBE_SOCKET_PASSIVE ? PROBE_PASSIVE : 0) | (at->flags & PROBE_SOCKET_WHOLE ? PROBE_WHOLE : 0),
                 sizeof(e), now);
        e.connection = at->connection;
        e.family = SOCK(k, skc_family);
        e.netns = BPF_CORE_READ(k, skc_net.net, ns.inum);
        if (e.family == AF_INET) {
                e.local.ip[10] = e.local.ip[11] = e.remote.ip[10] = e.remote.ip[11] = 0xff;
                __u32 local = SOCK(k, skc_rcv_saddr), remote = SOCK(k, skc_daddr);
                __builtin_memcpy(e.local.ip + 12, &local, 4);
                __builtin_memcpy(e.remote.ip + 12, &remote, 4);
        } else if (e.family == AF_INET6) {
                BPF_CORE_READ_INTO(&e.local.ip, k, skc_v6_rcv_saddr);
                BPF_CORE_READ_INTO(&e.remote.ip, k, skc_v6_daddr);
        } else {
                struct sock *peer = BPF_CORE_READ((struct unix_sock *)sk, peer);
                if (peer)
                        e.peer = sock_peer_name(peer);
        }
        if (e.family != AF_UNIX) {
                e.local.port = SOCK(k, skc_num);
                e.remote.port = bpf_ntohs(SOCK(k, skc_dport));
        }
        if (bpf_ringbuf_output(&events, &e, sizeof(e), wake_flags(switches_get())) < 0) {
                count(PROBE_COUNT_LOST, 1);
                return false;                      /* the next call tries again */
        }
        count(PROBE_COUNT_EVENTS, 1);
        return true;
}

/* Who serves: the end whose port is listened on; of a Unix socket the one that receives first. */
static __always_inline void socket_init(struct sock *sk, struct probe_socket *at, __u32 bytes, bool out) {
        struct tcp_sock *tcp = sock_tcp(sk);
        bool is_unix = SOCK(sk, __sk_common.skc_family) == AF_UNIX;
        struct probe_port port = { .netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum), .port = SOCK(sk, __sk_common.skc_num) };
        __u32 *listeners = is_unix ? NULL : bpf_map_lookup_elem(&ports, &port);
        at->connection = sock_name(sk);
        if (is_unix ? !out : listeners && *listeners)
                at->flags |= PROBE_SOCKET_PASSIVE;
        /* Of what came, what the program took by now is what this call brought. */
        if (tcp && SOCK(tcp, bytes_received) - (SOCK(tcp, rcv_nxt) - SOCK(tcp, copied_seq)) == (out ? 0 : bytes))
                at->flags |= PROBE_SOCKET_WHOLE;
}

/* Its process was let go, and is observed again: the user side has forgotten the connection, and the calls since were not seen. As if it had
 * been opened before beylad came. */
static __always_inline void socket_again(struct probe_socket *at, __u32 generation) {
        at->generation = generation;
        at->in = at->out = 0;
        at->turn = 0;
        at->last = 0;
        at->flags &= ~(PROBE_SOCKET_OPENED | PROBE_SOCKET_WHOLE | PROBE_SOCKET_IGNORED);
}

/* Whether the TLS library itself moves the bytes, and not the program that it called back: that runs far deeper on the stack. */
static __always_inline bool is_inside_call(const struct probe_thread *thread) {
#if defined(__TARGET_ARCH_x86)
        struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
        return thread->session && thread->sp - regs->sp < PROBE_TLS_STACK_MAX;
#else
        return thread->session;
#endif
}

/* Calls of a TLS library that move this socket's bytes tell which session it carries; those that move none find it by the thread, if anything
 * came: the end of a connection is given to no session. Returns true when the bytes are ciphertext, of no further use. */
static __always_inline bool tls_note(const struct probe_target *t, struct probe_socket *at, int moved, bool out) {
        if (!(t->flags & PROBE_TARGET_TLS))
                return at->flags & PROBE_SOCKET_TLS;
        struct probe_thread *thread = bpf_task_storage_get(&threads, bpf_get_current_task_btf(), NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
        if (!thread)
                return at->flags & PROBE_SOCKET_TLS;
        if (is_inside_call(thread)) {
                struct probe_session_key key = { .session = thread->session, .tgid = bpf_get_current_pid_tgid() >> 32 };
                struct probe_session *known = bpf_map_lookup_elem(&sessions, &key);
                if (known && !known->connection)
                        known->connection = at->connection;        /* what it has counted so far stays */
                else if (!known || known->connection != at->connection) {
                        struct probe_session fresh = { .connection = at->connection };
                        if (bpf_map_update_elem(&sessions, &key, &fresh, BPF_ANY) < 0)
                                count(PROBE_COUNT_NO_STATE, 1);
                }
                at->flags |= PROBE_SOCKET_TLS;
        } else if (!thread->session && moved && !out && at->flags & PROBE_SOCKET_TLS)
                thread->last_in = at->connection | (thread->last_in && thread->last_in != at->connection ? 1ull << 63 : 0);
        return at->flags & PROBE_SOCKET_TLS;
}

/* Sets how many of the bytes the user side still wants. */
static __always_inline void want(struct call *c, struct probe_socket *at, __u64 offset, __u32 bytes, bool out, bool turn) {
        struct probe_switches *s = switches_get();
        __u32 max = s ? s->capture_max : PROBE_CALL_MAX;
        bool follows = at->frames[out].state != PROBE_FRAMES_NONE;
        c->most = max;
        c->wanted = follows || bytes < max ? bytes : max;
        if (turn || bytes > 512) {                 /* below, capturing costs less than asking */
                __u64 connection = at->connection;
                struct probe_verdict *v = bpf_map_lookup_elem(&verdicts, &connection);
                if (v && v->ignore)
                        at->flags |= PROBE_SOCKET_IGNORED;
                if (v && !follows && offset + bytes <= (out ? v->skip_out : v->skip_in))
                        c->wanted = 0;
        }
}

static __always_inline void sequence_set(struct probe_data *e, struct sock *sk, __u32 bytes, bool out) {
        struct tcp_sock *tcp = sock_tcp(sk);
        if (!tcp)
                return;
        e->seq = (out ? SOCK(tcp, write_seq) : SOCK(tcp, copied_seq)) - bytes;
        e->head.flags |= PROBE_SEQ;
}

/* The arguments, by number of the system call. What has no buffer in user memory (sendfile, splice) is counted only. */
static __always_inline void call_read(struct call *c) {
#if defined(__TARGET_ARCH_x86)
        struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
        struct user_message message;
        switch (regs->orig_ax) {
        case __NR_read: case __NR_write: case __NR_recvfrom: case __NR_sendto:
                c->base = regs->si;
                c->len = regs->dx;
                break;
        case __NR_readv: case __NR_writev: case __NR_preadv2: case __NR_pwritev2:
                c->iov = regs->si;
                c->n_iov = regs->dx;
                break;
        case __NR_recvmsg: case __NR_sendmsg:
                if (bpf_probe_read_user(&message, sizeof(message), (void *)regs->si) == 0) {
                        c->iov = message.iov;
                        c->n_iov = message.iov_len;
                }
                break;
        }
#endif
}

/* Whether the bytes move for io_uring: in its own call, or in work it runs at the end of any other. Then the registers say nothing of them. */
static __always_inline bool is_uring(struct sock *sk) {
#if defined(__TARGET_ARCH_x86) && !defined(SOCK_BY_CALL)
        struct task_struct *task = bpf_get_current_task_btf();
        struct pt_regs *regs;
        struct file **files, *file = NULL;
        if (!task->io_uring)
                return false;
        regs = (struct pt_regs *)bpf_task_pt_regs(task);
        if (regs->orig_ax == __NR_io_uring_enter)
                return true;
        files = BPF_CORE_READ(task, files, fdt, fd);
        bpf_probe_read_kernel(&file, sizeof(file), files + (__u32)regs->di);
        return !file || BPF_CORE_READ(file, private_data) != (void *)BPF_CORE_READ(sk, sk_socket);
#else
        return false;
#endif
}

/* What io_uring moved and no completion has told the buffer of goes on without its bytes. */
static __always_inline void uring_flush(struct probe_pending_key *key) {
        struct probe_data *old = bpf_map_lookup_elem(&pending, key);
        if (!old)
                return;
        old->captured = 0;
        old->head.size = sizeof(*old);
        old->head.flags |= PROBE_END | PROBE_UNREADABLE;
        bool opens = old->head.zero && old->head.flags & PROBE_TURN;
        old->head.zero = 0;
        bool lost = bpf_ringbuf_output(&events, old, sizeof(*old), wake_flags(switches_get())) < 0;
        count(lost ? PROBE_COUNT_LOST : PROBE_COUNT_EVENTS, 1);
        if (opens)
                count(PROBE_COUNT_LOST_REQUESTS, 1);
        bpf_map_delete_elem(&pending, key);
}

/* Where the program's buffer is, only the completion knows: it takes the event from here. head.zero: whether it opens a request. */
static __always_inline void uring_keep(struct scratch *s, struct call *c) {
        struct probe_pending_key key = { .connection = s->event.connection, .out = s->event.head.flags & PROBE_OUT };
        struct probe_data fresh = s->event;
        fresh.bytes = c->left;
        fresh.captured = c->wanted;
        fresh.head.zero = c->opens;
        uring_flush(&key);
        if (bpf_map_update_elem(&pending, &key, &fresh, BPF_ANY) < 0) {
                count(PROBE_COUNT_NO_STATE, 1);
                if (c->opens && fresh.head.flags & PROBE_TURN)
                        count(PROBE_COUNT_LOST_REQUESTS, 1);
        }
}

static __always_inline void shut_emit(const struct probe_socket *at, __u32 state, __u64 now) {
        struct probe_shut e = { .connection = at->connection, .state = state };
        struct probe_pending_key in = { .connection = at->connection }, out = { .connection = at->connection, .out = PROBE_OUT };
        if (at->flags & PROBE_SOCKET_URING) {
                uring_flush(&in);
                uring_flush(&out);
        }
        head_set(&e.head, PROBE_SHUT, 0, sizeof(e), now);
        if (bpf_ringbuf_output(&events, &e, sizeof(e), wake_flags(switches_get())) == 0)
                count(PROBE_COUNT_EVENTS, 1);
        else if (bpf_map_push_elem(&shuts, &e, 0) < 0)
                count(PROBE_COUNT_LOST, 1);        /* the connection ends when it was quiet for long */
}

/* A program may read what came before a reset after it: no change of state will end that connection any more. */
static __always_inline int shut_late(struct sock *sk, struct probe_socket *at, __u64 now) {
        if (SOCK(sk, __sk_common.skc_family) == AF_UNIX || SOCK(sk, __sk_common.skc_state) != TCP_CLOSE || !(at->flags & PROBE_SOCKET_OPENED))
                return 0;
        at->flags &= ~PROBE_SOCKET_OPENED;
        shut_emit(at, TCP_CLOSE, now);
        return 0;
}

static __always_inline int moved(struct sock *sk, int ret, bool out) {
        __u32 tgid = bpf_get_current_pid_tgid() >> 32;
        struct probe_target *t = target_get(tgid);
        if (!t || ret < 0 || SOCK(sk, sk_type) != SOCK_STREAM)
                return 0;
        struct probe_socket *at = sock_state_make(sk);
        if (!at) {
                count(PROBE_COUNT_NO_STATE, 1);
                return 0;
        }
        if (at->generation < t->generation)
                socket_again(at, t->generation);
        if (!at->connection)
                socket_init(sk, at, ret, out);
        if (at->flags & PROBE_SOCKET_IGNORED || (!ret && (out || !(at->flags & PROBE_SOCKET_OPENED))))
                return 0;
        __u64 now = bpf_ktime_get_boot_ns();
        bool cipher = tls_note(t, at, ret, out);
        if (!(at->flags & PROBE_SOCKET_OPENED) && open_emit(sk, at, now))
                at->flags |= PROBE_SOCKET_OPENED;
        struct scratch *s = cipher && ret ? NULL : scratch_get();
        if (!s)
                return shut_late(sk, at, now);
        struct call c = { .left = ret };
        struct probe_data *e = &s->event;
        bool turn = ret && at->last != 1 + out;
        head_set(&e->head, PROBE_DATA, (out ? PROBE_OUT : 0) | (turn ? PROBE_TURN : 0) | (ret ? 0 : PROBE_EOF), 0, now);
        task_get(t, &e->task);
        e->connection = at->connection;
        e->start_ns = now;
        e->offset = out ? at->out : at->in;
        e->seq = 0;
        sequence_set(e, sk, ret, out);
        if (ret) {
                at->turn += turn && !out;
                at->last = 1 + out;
                if (out)
                        at->out += ret;
                else
                        at->in += ret;
                want(&c, at, e->offset, ret, out, turn);
                if (at->flags & PROBE_SOCKET_IGNORED)
                        return 0;
        }
        e->turn = at->turn;
        c.opens = turn && out != !!(at->flags & PROBE_SOCKET_PASSIVE);
        count(PROBE_COUNT_CALLS, 1);
        if (is_uring(sk)) {
                at->frames[out].state = PROBE_FRAMES_NONE;
                struct probe_switches *switches = switches_get();
                c.wanted = c.wanted < c.most ? c.wanted : c.most;
                if (switches && switches->uring && c.wanted) {
                        at->flags |= PROBE_SOCKET_URING;
                        uring_keep(s, &c);
                        return 0;
                }
        } else if (c.wanted)
                call_read(&c);
        capture(s, &c, &at->frames[out]);
        if (e->head.flags & PROBE_TURN && is_tls_record(s)) {        /* emit() takes the flag away with the first piece */
                e->head.flags |= PROBE_CIPHER;
                at->flags |= PROBE_SOCKET_TLS;
                tls_note(t, at, ret, out);
        }
        emit(&c, true);
        return shut_late(sk, at, now);
}

#ifndef SOCK_BY_CALL
SEC("tp_btf/sock_send_length")
int BPF_PROG(on_send, struct sock *sk, int ret, int flags) {
        return moved(sk, ret, true);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(on_receive, struct sock *sk, int ret, int flags) {
        return flags & (MSG_PEEK | MSG_ERRQUEUE) ? 0 : moved(sk, ret, false);
}
#endif

/* A listener comes or goes: how many there are on the port tells which end of a connection serves. */
static __always_inline void listener(const struct sock *sk, int by, __u64 now) {
        struct probe_port port = { .netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum), .port = sk->__sk_common.skc_num };
        struct probe_process e = { .what = PROBE_LISTEN, .port = port.port, .netns = port.netns };
        __u32 *listeners = bpf_map_lookup_elem(&ports, &port), one = 1;
        if (listeners && (by > 0 || *listeners))
                __sync_fetch_and_add(listeners, by);
        else if (by > 0)
                bpf_map_update_elem(&ports, &port, &one, BPF_ANY);
        if (by < 0)
                return;
        head_set(&e.head, PROBE_PROCESS, 0, sizeof(e), now);
        if (bpf_ringbuf_output(&events, &e, sizeof(e), BPF_RB_FORCE_WAKEUP) < 0)
                count(PROBE_COUNT_LOST, 1);
        else
                count(PROBE_COUNT_EVENTS, 1);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state, const struct sock *sk, const int from, const int to) {
        __u64 now = bpf_ktime_get_boot_ns();
        /* An accepted connection begins as a copy of its listener, which is listening. */
        if (to == TCP_LISTEN || (from == TCP_LISTEN && to == TCP_CLOSE)) {
                listener(sk, to == TCP_LISTEN ? 1 : -1, now);
                return 0;
        }
        sock_note_state((void *)sk, to);
        /* A Go program announces who uses a connection before its first byte: it has to have a name by then. */
        if (to == TCP_SYN_SENT && target_get(bpf_get_current_pid_tgid() >> 32))
                bpf_get_socket_cookie((void *)sk);
        if (to != TCP_FIN_WAIT1 && to != TCP_LAST_ACK && to != TCP_CLOSE)
                return 0;
        struct probe_socket *at = sock_state_get((void *)sk);
        if (!at)
                return 0;
        bool opened = at->flags & PROBE_SOCKET_OPENED;
        if (to == TCP_CLOSE)
                at->flags &= ~PROBE_SOCKET_OPENED;
        if (opened)
                shut_emit(at, to, now);
        if (to == TCP_CLOSE)
                sock_state_end((void *)sk);
        return 0;
}
