/* SPDX-License-Identifier: Dual BSD/GPL */
#pragma once
/* Sock: how sockets.bpf.c reaches a socket and what it keeps of it. Two ways:
 * - a hook hands the socket over: the kernel lets us read it directly, name it, and keep the state with it (sk_storage);
 * - SOCK_BY_CALL: it was found by its descriptor (syscalls.bpf.c), and is an address for the kernel. Members are read by CO-RE, and the state
 *   lies in a map by address. */
#include "beylad/probes/shared.bpf.h"

#ifndef SOCK_BY_CALL

#define SOCK(sk, member) ((sk)->member)

static __always_inline struct tcp_sock *sock_tcp(struct sock *sk) { return bpf_skc_to_tcp_sock(sk); }
static __always_inline __u64 sock_name(struct sock *sk) { return bpf_get_socket_cookie(sk); }
static __always_inline __u64 sock_peer_name(struct sock *sk) { return BPF_CORE_READ(sk, __sk_common.skc_cookie.counter); }
static __always_inline struct probe_socket *sock_state_get(struct sock *sk) { return bpf_sk_storage_get(&sockets, sk, NULL, 0); }
static __always_inline struct probe_socket *sock_state_make(struct sock *sk) {
        return bpf_sk_storage_get(&sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
}
static __always_inline void sock_state_end(struct sock *sk) { (void)sk; }          /* it goes with the socket */
static __always_inline void sock_note_state(struct sock *sk, int to) { (void)sk; (void)to; }

#else

#define SOCK(sk, member) BPF_CORE_READ(sk, member)
#define SOCK_NAMED_BY_INODE (1ull << 62)           /* no cookie comes so far; bit 63 is taken in struct probe_thread */

struct sock___protocol { __u16 sk_protocol; } KERNEL_TYPE;
struct socket___file { struct file *file; } KERNEL_TYPE;

/* The least recently used goes: the sockets whose end nobody tells us (Unix sockets, and those that were reset before they were closed). */
struct sock_state {
        struct probe_socket socket;
        __u64 inode;                               /* of the socket's file: another one at the same address is another socket */
};
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, PROBE_CONNECTIONS_MAX); __type(key, __u64); __type(value, struct sock_state); }
        states SEC(".maps");

static __always_inline __u64 sock_inode(struct sock *sk) {
        struct socket___file *socket = (struct socket___file *)BPF_CORE_READ(sk, sk_socket);
        struct file *file = BPF_CORE_READ(socket, file);
        return BPF_CORE_READ(file, f_inode, i_ino);
}

static __always_inline struct tcp_sock *sock_tcp(struct sock *sk) {
        return SOCK(sk, __sk_common.skc_family) != AF_UNIX && SOCK((struct sock___protocol *)sk, sk_protocol) == IPPROTO_TCP ? (struct tcp_sock *)sk : NULL;
}

/* TCP sockets have their cookie when they are connected (sock_note_state), or were given it when we began (name_sockets). */
static __always_inline __u64 sock_name(struct sock *sk) {
        __u64 cookie = SOCK(sk, __sk_common.skc_family) == AF_UNIX ? 0 : SOCK(sk, __sk_common.skc_cookie.counter);
        return cookie ? cookie : SOCK_NAMED_BY_INODE | sock_inode(sk);
}

static __always_inline __u64 sock_peer_name(struct sock *sk) {
        __u64 inode = sock_inode(sk);
        return inode ? SOCK_NAMED_BY_INODE | inode : 0;    /* 0: not accepted yet */
}

static __always_inline struct probe_socket *sock_state_make(struct sock *sk) {
        __u64 address = (__u64)sk, inode = sock_inode(sk);
        struct sock_state *s = bpf_map_lookup_elem(&states, &address), fresh = { .inode = inode };
        if (s && s->inode == inode)
                return &s->socket;
        bpf_map_update_elem(&states, &address, &fresh, BPF_ANY);
        s = bpf_map_lookup_elem(&states, &address);
        return s ? &s->socket : NULL;
}

/* For a TCP socket that a hook handed over. */
static __always_inline struct probe_socket *sock_state_get(struct sock *sk) {
        __u64 address = (__u64)sk, inode = sock_inode(sk);
        struct sock_state *s = bpf_map_lookup_elem(&states, &address);
        return s && (!inode || s->inode == inode) ? &s->socket : NULL;     /* 0: the program has closed it */
}

/* A reset connection that is still open may be read once more, and then needs its state. */
static __always_inline void sock_state_end(struct sock *sk) {
        __u64 address = (__u64)sk;
        if (!SOCK(sk, sk_socket))
                bpf_map_delete_elem(&states, &address);
}

static __always_inline void sock_note_state(struct sock *sk, int to) {
        if (to == TCP_ESTABLISHED)
                bpf_get_socket_cookie(sk);
}

#endif
