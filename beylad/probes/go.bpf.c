/* SPDX-License-Identifier: Dual BSD/GPL */
/* Go: which goroutine is about to use a connection of net/http's client pool. Its bytes are written by another goroutine, that of the
 * connection's write loop, which knows nothing of who asked. */
#include "beylad/probes/site.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#if defined(__TARGET_ARCH_x86)
/* net/http.(*persistConn).roundTrip(req): the receiver is in rax. slot: offset of its conn, a net.Conn. */
SEC("uprobe")
int on_go_round_trip(struct pt_regs *ctx) {
        __u64 cookie = bpf_get_attach_cookie(ctx), data = 0;
        __u32 tgid = bpf_get_current_pid_tgid() >> 32;
        struct probe_target *t;
        if (site_is_foreign(cookie, tgid) || site_is_repeated(cookie, ctx) || !(t = target_get(tgid)))
                return 0;
        if (bpf_probe_read_user(&data, sizeof(data), (void *)(ctx->ax + SITE_SLOT(cookie) + sizeof(data))) < 0)
                return 0;
        struct probe_caller e = { .connection = go_connection(data) };
        if (!e.connection)
                return 0;
        head_set(&e.head, PROBE_CALLER, 0, sizeof(e), bpf_ktime_get_boot_ns());
        task_get(t, &e.task);
        if (bpf_ringbuf_output(&events, &e, sizeof(e), wake_flags(switches_get())) < 0)
                count(PROBE_COUNT_LOST, 1);
        else
                count(PROBE_COUNT_EVENTS, 1);
        return 0;
}
#endif
