/* SPDX-License-Identifier: Dual BSD/GPL */
#pragma once
/* Site: the kernel side of site.h, and how a Go program's net.Conn leads to a socket. */
#include "beylad/probes/shared.bpf.h"
#include "beylad/probes/site.h"

struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, SITE_USES_MAX); __type(key, struct site_use); __type(value, __u32);
         __uint(map_flags, BPF_F_NO_PREALLOC); } uses SEC(".maps");

/* Registers that kernel.h leaves out. */
struct pt_regs___site { unsigned long flags; } KERNEL_TYPE;
struct socket___site { struct file *file; } KERNEL_TYPE;

/* True: the process that runs does not use this file under this number. */
static __always_inline bool site_is_foreign(__u64 cookie, __u32 tgid) {
        struct site_use use = { .tgid = tgid, .file = SITE_FILE(cookie) };
        return !bpf_map_lookup_elem(&uses, &use);
}

#if defined(__TARGET_ARCH_x86)
#define SITE_FLAG_CARRY 1u
#define SITE_FLAG_ZERO 64u

/* Go's stack is about to grow: the branch is taken (below or equal), and the function will begin again. */
static __always_inline bool site_is_repeated(__u64 cookie, struct pt_regs *ctx) {
        return SITE_FLAGS(cookie) & SITE_CHECK && ((struct pt_regs___site *)ctx)->flags & (SITE_FLAG_CARRY | SITE_FLAG_ZERO);
}
#endif

/* ---- Go ---- */

#define GO_WRAPPED_MAX 3                           /* net.Conn in net.Conn: tls.Conn in a TCP connection, and one wrapper of the program's own */

/* net.netFD, up to what is read. The same since Go 1.17. Source: Go's src/net/fd_posix.go, src/internal/poll/fd_unix.go. */
struct go_net_fd {
        __u64 mutex[2];
        __s64 sysfd;
        __u64 poll[4];
        __s64 family, sotype;
};

/* The cookie of the socket that fd, taken for a *net.netFD, has; 0: it is none, or nobody asked for its cookie yet. The memory may be anything:
 * what it says of itself must be what the kernel says of the socket, and a socket's file must be its own. */
static __noinline __u64 go_socket(__u64 fd) {
        struct go_net_fd n;
        struct files_struct *files = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), files);
        struct fdtable *table = BPF_CORE_READ(files, fdt);
        struct file **all = BPF_CORE_READ(table, fd), *file;
        if (bpf_probe_read_user(&n, sizeof(n), (void *)fd) < 0 || n.sysfd < 0 || n.sysfd >= BPF_CORE_READ(table, max_fds) || n.sotype != SOCK_STREAM)
                return 0;
        if (bpf_probe_read_kernel(&file, sizeof(file), all + n.sysfd) < 0 || !file)
                return 0;
        struct socket *socket = BPF_CORE_READ(file, private_data);
        if (BPF_CORE_READ((struct socket___site *)socket, file) != file)
                return 0;
        struct sock *sk = BPF_CORE_READ(socket, sk);
        if (BPF_CORE_READ(sk, __sk_common.skc_family) != n.family || BPF_CORE_READ(sk, sk_type) != n.sotype)
                return 0;
        return BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
}

/* The connection behind a net.Conn. data: the second word of that interface: a pointer to a struct that begins with a *net.netFD (net.TCPConn,
 * net.UnixConn) or with a net.Conn (tls.Conn, most wrappers). */
static __always_inline __u64 go_connection(__u64 data) {
        for (int i = 0; i < GO_WRAPPED_MAX; i++) {
                __u64 words[2];
                if (bpf_probe_read_user(words, sizeof(words), (void *)data) < 0)
                        return 0;
                __u64 connection = go_socket(words[0]);
                if (connection)
                        return connection;
                data = words[1];
        }
        return 0;
}
