/* SPDX-License-Identifier: Dual BSD/GPL */
/* Process: the lives of observed processes, and a list of every process's listeners. A child of an observed process is observed from
 * its first instruction; a process that runs another program is not, until the user side says so. */
#include "beylad/probes/shared.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct kernel_atomic { int counter; };
struct signal_struct { struct kernel_atomic live; } KERNEL_TYPE;
struct task_struct___signal { struct signal_struct *signal; } KERNEL_TYPE;

/* A fork of an observed process may serve at once, and its libraries are probed by process; an exec is any program's, and a wake-up is an
 * interrupt. */
static __always_inline void process_emit(__u32 tgid, __u32 what, __u32 parent) {
        struct probe_process e = { .what = what, .parent = parent };
        head_set(&e.head, PROBE_PROCESS, 0, sizeof(e), bpf_ktime_get_boot_ns());
        e.head.tgid = tgid;
        if (bpf_ringbuf_output(&events, &e, sizeof(e), what == PROBE_FORK ? BPF_RB_FORCE_WAKEUP : wake_flags(switches_get())) < 0)
                count(PROBE_COUNT_LOST, 1);
        else
                count(PROBE_COUNT_EVENTS, 1);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child) {
        __u32 from = parent->tgid, to = child->tgid;
        struct probe_target *t = target_get(from);
        if (!t || from == to)
                return 0;                          /* not ours, or a thread */
        struct probe_target copy = *t;
        if (bpf_map_update_elem(&targets, &to, &copy, BPF_ANY) < 0)
                count(PROBE_COUNT_NO_STATE, 1);
        process_emit(to, PROBE_FORK, from);
        return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task) {
        __u32 tgid = task->tgid;
        bpf_map_delete_elem(&targets, &tgid);
        process_emit(tgid, PROBE_EXEC, 0);
        return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task) {
        __u32 tgid = task->tgid;
        if (!target_get(tgid) || BPF_CORE_READ((struct task_struct___signal *)task, signal, live.counter) > 0)
                return 0;                          /* not ours, or other threads of it live on */
        bpf_map_delete_elem(&targets, &tgid);
        process_emit(tgid, PROBE_EXIT, 0);
        return 0;
}

/* ---- every listener of every process ---- */

SEC("iter/task_file")
int list_listeners(struct bpf_iter__task_file *ctx) {
        struct task_struct *task = ctx->task;
        struct file *file = ctx->file;
        if (!task || !file)
                return 0;
        struct sock *sk = inet_sock_of(file);
        if (!sk || sk->__sk_common.skc_state != TCP_LISTEN)
                return 0;
        struct probe_found f = { .inode = file->f_inode->i_ino, .tgid = task->tgid, .port = sk->__sk_common.skc_num };
        f.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
        bpf_seq_write(ctx->meta->seq, &f, sizeof(f));
        return 0;
}
