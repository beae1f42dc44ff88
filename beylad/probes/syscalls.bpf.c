/* SPDX-License-Identifier: Dual BSD/GPL */
/* Syscalls: the events of sockets.bpf.c for kernels that lack its hooks (before 6.3). The end of every system call is seen, of every program:
 * the number of the call, then one lookup, says that it is none of ours. The descriptor leads to the socket; at the end of a call it may have
 * become another's only if the program closed it on another thread meanwhile.
 *
 * Not seen: io_uring, sendmmsg and recvmmsg. */
#define SOCK_BY_CALL
#include "beylad/probes/sockets.bpf.c"

#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define TS_COMPAT 2                                /* a call of a 32-bit program: its numbers are others */

struct inode___mode { __u16 i_mode; } KERNEL_TYPE;
struct thread_info { __u32 status; } KERNEL_TYPE;
struct task_struct___compat { struct thread_info thread_info; } KERNEL_TYPE;

static __always_inline struct sock *descriptor_sock(struct task_struct *task, __u64 fd) {
        struct fdtable *table = BPF_CORE_READ(task, files, fdt);
        struct file **all = BPF_CORE_READ(table, fd), *file = NULL;
        if (fd >= BPF_CORE_READ(table, max_fds) || bpf_probe_read_kernel(&file, sizeof(file), all + fd) < 0 || !file)
                return NULL;
        struct inode___mode *inode = (struct inode___mode *)BPF_CORE_READ(file, f_inode);
        if ((BPF_CORE_READ(inode, i_mode) & S_IFMT) != S_IFSOCK)
                return NULL;
        struct socket *socket = BPF_CORE_READ(file, private_data);
        return BPF_CORE_READ(socket, sk);
}

#if defined(__TARGET_ARCH_x86)
/* Whether a call moves bytes, from which descriptor or to which. */
static __always_inline bool call_moves(const struct pt_regs *regs, bool *out, __u64 *fd) {
        *fd = (__u32)regs->di;
        *out = false;
        switch (regs->orig_ax) {
        case __NR_recvfrom:
                return regs->dx && !(regs->r10 & (MSG_PEEK | MSG_ERRQUEUE));
        case __NR_recvmsg:
                return !(regs->dx & (MSG_PEEK | MSG_ERRQUEUE));
        case __NR_read:
                return regs->dx;                   /* who asks for nothing gets 0, and it is no end */
        case __NR_readv: case __NR_preadv2:
                return true;
        case __NR_write: case __NR_writev: case __NR_pwritev2: case __NR_sendto: case __NR_sendmsg: case __NR_sendfile:
                return *out = true;
        case __NR_splice:                          /* one of both is a pipe */
                return true;
        }
        return false;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_call, struct pt_regs *regs, long ret) {
        struct task_struct *task = bpf_get_current_task_btf();
        __u64 fd;
        bool out;
        if (ret < 0 || !call_moves(regs, &out, &fd) || !target_get(bpf_get_current_pid_tgid() >> 32))
                return 0;
        if (BPF_CORE_READ((struct task_struct___compat *)task, thread_info.status) & TS_COMPAT)
                return 0;
        struct sock *sk = descriptor_sock(task, fd);
        if (!sk && regs->orig_ax == __NR_splice) {
                out = true;
                sk = descriptor_sock(task, (__u32)regs->dx);
        }
        return sk ? moved(sk, (int)ret, out) : 0;
}
#endif

/* Connections that are older than we are get their name. Run once. */
SEC("iter/task_file")
int name_sockets(struct bpf_iter__task_file *ctx) {
        struct file *file = ctx->file;
        if (!ctx->task || !file)
                return 0;
        struct sock *sk = inet_sock_of(file);
        if (sk)
                bpf_get_socket_cookie(sk);
        return 0;
}
