/* SPDX-License-Identifier: Dual BSD/GPL */
/* Go: which goroutine is about to use a connection of net/http's client pool. Its bytes are written by another goroutine, that of the
 * connection's write loop, which knows nothing of who asked. And which goroutine serves which stream of HTTP/2, that another one has read. */
#include "beylad/probes/site.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#if defined(__TARGET_ARCH_x86)
#define GO_CONN_DATA 24                            /* of the net.Conn in http2serverConn, and in grpc-go 1.85's http2Server */

static __always_inline void hand_out(const void *e, __u64 n) {
        if (bpf_ringbuf_output(&events, (void *)e, n, wake_flags(switches_get())) < 0)
                count(PROBE_COUNT_LOST, 1);
        else
                count(PROBE_COUNT_EVENTS, 1);
}

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
        hand_out(&e, sizeof(e));
        return 0;
}

static __always_inline __u64 user_word(__u64 at) {
        __u64 v = 0;
        bpf_probe_read_user(&v, sizeof(v), (void *)at);
        return v;
}

/* The id of the stream that net/http's HTTP/2 serves for sc with the answer rw; 0: these are not what they should be. The same in net/http and
 * golang.org/x/net/http2 since Go 1.17. Source: h2_bundle.go: responseWriter.rws, responseWriterState.stream, stream.sc and id. */
static __always_inline __u32 stream_of_http(__u64 sc, __u64 rw) {
        __u64 stream = user_word(user_word(rw));
        return user_word(stream) == sc ? (__u32)user_word(stream + sizeof(stream)) : 0;
}

/* The goroutine that runs was started to serve stream of the connection behind data, the second word of a net.Conn. */
static __always_inline int handler(__u32 tgid, __u32 stream, __u64 data) {
        struct probe_handler e = { .stream = stream };
        struct probe_target *t = target_get(tgid);
        if (!t || !stream || !(e.connection = go_connection(data)))
                return 0;
        head_set(&e.head, PROBE_HANDLER, 0, sizeof(e), bpf_ktime_get_boot_ns());
        task_get(t, &e.task);
        hand_out(&e, sizeof(e));
        return 0;
}

/* net/http.(*http2serverConn).runHandler(rw): rax, rbx. Its third word begins a net.Conn. */
SEC("uprobe")
int on_go_http_handler(struct pt_regs *ctx) {
        __u64 cookie = bpf_get_attach_cookie(ctx), sc = ctx->ax;
        __u32 tgid = bpf_get_current_pid_tgid() >> 32;
        if (site_is_foreign(cookie, tgid) || site_is_repeated(cookie, ctx))
                return 0;
        return handler(tgid, stream_of_http(sc, ctx->bx), user_word(sc + GO_CONN_DATA));
}

/* google.golang.org/grpc.(*Server).handleStream(t, stream): t is an interface, whose data is in rcx: an http2Server, which has a net.Conn where
 * net/http has one; stream is in rdi. slot: where it has its id. */
SEC("uprobe")
int on_go_grpc_handler(struct pt_regs *ctx) {
        __u64 cookie = bpf_get_attach_cookie(ctx), server = ctx->cx;
        __u32 tgid = bpf_get_current_pid_tgid() >> 32;
        if (site_is_foreign(cookie, tgid) || site_is_repeated(cookie, ctx))
                return 0;
        return handler(tgid, (__u32)user_word(ctx->di + SITE_SLOT(cookie)), user_word(server + GO_CONN_DATA));
}
#endif
