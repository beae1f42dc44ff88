/* SPDX-License-Identifier: Dual BSD/GPL */
#pragma once
/* Kernel: the members of kernel structs that our BPF programs read, by name; libbpf finds where they are in the running kernel (CO-RE).
 * A whole vmlinux.h would tie the build to one machine. Included by *.bpf.c only. */
#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

#define KERNEL_TYPE __attribute__((preserve_access_index))
typedef _Bool bool;
#define true 1
#define false 0
#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define IPPROTO_TCP 6
#define MSG_PEEK 2
#define MSG_ERRQUEUE 0x2000
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_FIN_WAIT1 4
#define TCP_CLOSE 7
#define TCP_CLOSE_WAIT 8
#define TCP_LAST_ACK 9
#define TCP_LISTEN 10
#define TCP_CLOSING 11

struct ns_common { unsigned int inum; } KERNEL_TYPE;
struct net { struct ns_common ns; } KERNEL_TYPE;
typedef struct KERNEL_TYPE { struct net *net; } possible_net_t;
struct kernel_in6 { __u8 bytes[16]; };
typedef struct { long long counter; } kernel_atomic64;

struct sock_common {
        __u32 skc_daddr, skc_rcv_saddr;
        __be16 skc_dport;
        __u16 skc_num;
        unsigned short skc_family;
        volatile unsigned char skc_state;
        possible_net_t skc_net;
        struct kernel_in6 skc_v6_daddr, skc_v6_rcv_saddr;
        kernel_atomic64 skc_cookie;
} KERNEL_TYPE;
struct sock {
        struct sock_common __sk_common;
        __u16 sk_type;
        struct socket *sk_socket;
} KERNEL_TYPE;
struct socket;
struct tcp_sock { __u32 write_seq, snd_una, copied_seq, rcv_nxt; __u64 bytes_received; } KERNEL_TYPE;
struct unix_sock { struct sock *peer; } KERNEL_TYPE;
struct socket { struct sock *sk; } KERNEL_TYPE;
struct inode { unsigned long i_ino; } KERNEL_TYPE;
struct file { void *private_data; struct inode *f_inode; } KERNEL_TYPE;
struct fdtable { unsigned int max_fds; struct file **fd; } KERNEL_TYPE;
struct files_struct { struct fdtable *fdt; } KERNEL_TYPE;

#if defined(__TARGET_ARCH_x86)
struct pt_regs { unsigned long orig_ax, di, si, dx, r10, r8, r9, ip, sp, ax, bx, cx, r14, bp; } KERNEL_TYPE;
struct thread_struct { unsigned long fsbase; } KERNEL_TYPE;
#endif
struct io_uring_task;
struct task_struct {
        int pid, tgid;
        struct task_struct *real_parent, *group_leader;
        struct thread_struct thread;
        struct files_struct *files;
        struct io_uring_task *io_uring;
} KERNEL_TYPE;

struct seq_file;
struct bpf_iter_meta { struct seq_file *seq; } KERNEL_TYPE;
struct bpf_iter__task_file {
        struct bpf_iter_meta *meta;
        struct task_struct *task;
        __u32 fd;
        struct file *file;
} KERNEL_TYPE;

/* User memory, as the system calls define it (64-bit programs). */
struct user_iovec { __u64 base, len; };
struct user_message { __u64 name; __u32 name_len, pad; __u64 iov, iov_len; };
