/* SPDX-License-Identifier: Dual BSD/GPL */
/* Uring: the bytes that observed programs move by io_uring. The sockets probe saw how many, on which socket; the completion says from
 * which buffer. Operations whose completion the program asked not to see (IOSQE_CQE_SKIP_SUCCESS) are counted without their bytes. */
#include <linux/io_uring.h>

#include "beylad/probes/capture.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct io_ring_ctx;
struct io_kiocb { struct file *file; __u8 opcode; } KERNEL_TYPE;
struct io_sr_msg { void *buf; int len; } KERNEL_TYPE;       /* lies over the beginning of an io_kiocb, like the next */
struct io_rw { __u64 addr; __u32 len; } KERNEL_TYPE;

/* The buffer of a request. Returns whether it is an operation on a socket, and sets *out. */
static __always_inline bool request_read(struct io_kiocb *request, struct call *c, bool *out) {
        __u8 opcode = BPF_CORE_READ(request, opcode);
        struct user_message message;
        *out = opcode == IORING_OP_WRITE || opcode == IORING_OP_WRITEV || opcode == IORING_OP_SEND || opcode == IORING_OP_SENDMSG ||
               opcode == IORING_OP_SEND_ZC || opcode == IORING_OP_SENDMSG_ZC || opcode == IORING_OP_WRITE_FIXED;
        switch (opcode) {
        case IORING_OP_SEND: case IORING_OP_SEND_ZC: case IORING_OP_RECV:
                c->base = (__u64)BPF_CORE_READ((struct io_sr_msg *)request, buf);
                c->len = PROBE_CALL_MAX;           /* as far as it was used */
                return true;
        case IORING_OP_SENDMSG: case IORING_OP_SENDMSG_ZC: case IORING_OP_RECVMSG:
                if (bpf_probe_read_user(&message, sizeof(message), BPF_CORE_READ((struct io_sr_msg *)request, buf)) == 0) {
                        c->iov = message.iov;
                        c->n_iov = message.iov_len;
                }
                return true;
        case IORING_OP_READ: case IORING_OP_WRITE: case IORING_OP_READ_FIXED: case IORING_OP_WRITE_FIXED:
                c->base = BPF_CORE_READ((struct io_rw *)request, addr);
                c->len = PROBE_CALL_MAX;
                return true;
        case IORING_OP_READV: case IORING_OP_WRITEV:
                c->iov = BPF_CORE_READ((struct io_rw *)request, addr);
                c->n_iov = BPF_CORE_READ((struct io_rw *)request, len);
                return true;
        }
        return false;
}

SEC("tp_btf/io_uring_complete")
int BPF_PROG(on_complete, struct io_ring_ctx *ring, void *request) {
        struct probe_pending_key key = {};
        struct call c = {};
        bool out;
        if (!target_get(bpf_get_current_pid_tgid() >> 32) || !request_read(request, &c, &out))
                return 0;
        struct socket *socket = BPF_CORE_READ((struct io_kiocb *)request, file, private_data);
        struct sock *sk = BPF_CORE_READ(socket, sk);       /* of a file that is no socket: some number, and no connection has it */
        key.connection = BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
        key.out = out;
        struct probe_data *kept = bpf_map_lookup_elem(&pending, &key);
        struct scratch *s = scratch_get();
        if (!kept || !s)
                return 0;
        s->event = *kept;
        bpf_map_delete_elem(&pending, &key);
        c.left = s->event.bytes;
        c.wanted = s->event.captured;
        c.opens = s->event.head.zero;
        s->event.head.zero = 0;
        capture(s, &c, NULL);
        emit(&c, true);
        return 0;
}
