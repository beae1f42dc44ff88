/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
#pragma once
/* Event: what the kernel side hands to the user side, in the ring buffer and in maps. Both sides include this file; a recording (--record)
 * holds these very bytes. Fixed-width members, host byte order, no pointers, no padding but what is named. */
#include <linux/types.h>

#define PROBE_CAPTURE_MAX 16384u                   /* bytes of one event; a longer call becomes several events */
#define PROBE_CALL_MAX (4u * PROBE_CAPTURE_MAX)    /* bytes captured of one call; the rest is counted, and known to be missing. HTTP/2: frames.bpf.h */
#define PROBE_IOVECS_MAX 1024u                     /* of one readv, writev, sendmsg: UIO_MAXIOV, what the kernel takes. Node writes three for each stream
                                                    * of HTTP/2 that has an answer */
#define PROBE_RING_BYTES (4u << 20)                /* 0.1 s of the busiest server measured here, and bursts of large bodies over HTTP/2 */
#define PROBE_TARGETS_MAX 4096u                    /* processes observed at once */
#define PROBE_VERDICTS_MAX 16384u                  /* connections the user side has told something about */
#define PROBE_CONNECTIONS_MAX 16384u               /* with the technique by system calls, connections whose state is kept: as many as verdicts */

enum probe_kind {
        PROBE_DATA = 1,                            /* struct probe_data and the captured bytes */
        PROBE_OPEN = 2,                            /* struct probe_open: once per connection, before its first PROBE_DATA */
        PROBE_SHUT = 3,                            /* struct probe_shut: the program or the network ended the connection */
        PROBE_PROCESS = 4,                         /* struct probe_process: fork, exec, exit, listen */
        PROBE_CALLER = 5,                          /* struct probe_caller: a Go goroutine is about to use a connection of a pool */
        PROBE_NOTE = 6,                            /* user side only, in recordings: struct probe_note */
        PROBE_HANDLER = 7,                         /* struct probe_handler: a Go goroutine begins to serve one stream of HTTP/2 */
        PROBE_INJECT = 8,                          /* struct probe_inject: a request that goes out got a traceparent, or will */
};

/* Every event begins so. */
struct probe_head {
        __u8 kind;                                 /* enum probe_kind */
        __u8 flags;                                /* of the kind */
        __u16 zero;
        __u32 tgid, tid;                           /* as beylad's own /proc names them */
        __u32 size;                                /* of the event, the captured bytes included */
        __u64 time_ns;                             /* CLOCK_BOOTTIME */
};

/* Who did it, finer than the thread. */
struct probe_task {
        __u64 work;                                /* goid of the goroutine; 0: the thread is all that is known */
        __u64 parent;                              /* goid of the goroutine that started it; 0: unknown */
};

enum probe_data_flags {
        PROBE_OUT = 1,                             /* the program sent; else it received */
        PROBE_PLAIN = 2,                           /* plaintext of TLS, from the library; else what the socket carried */
        PROBE_END = 4,                             /* last event of its call */
        PROBE_EOF = 8,                             /* received 0 bytes: the peer will send no more */
        PROBE_TURN = 16,                           /* first bytes of this direction after the other one, or of the connection */
        PROBE_SEQ = 32,                            /* seq is set */
        PROBE_UNREADABLE = 64,                     /* the user memory could not be read: bytes counts, captured is short */
        PROBE_CIPHER = 128,                        /* the first TLS record of a connection: no more of its ciphertext will come */
};

/* One call that moved bytes, or a part of it. head.time_ns is its end. */
struct probe_data {
        struct probe_head head;
        struct probe_task task;
        __u64 connection;                          /* socket cookie: unique until the next boot */
        __u64 start_ns;                            /* the call began; head.time_ns where that is not known */
        __u64 offset;                              /* bytes of this direction (and of this side of TLS) seen before this event */
        __u32 bytes;                               /* moved; those behind captured are not here */
        __u32 captured;                            /* bytes that follow this struct */
        __u32 seq;                                 /* TCP sequence number of the first byte: the same at both ends of a connection */
        __u32 turn;                                /* of the connection: how often it began to receive so far */
};

struct probe_address {
        __u8 ip[16];                               /* IPv4 as ::ffff:a.b.c.d */
        __u16 port;                                /* host byte order */
        __u16 zero[3];
};

enum probe_open_flags {
        PROBE_PASSIVE = 1,                         /* the local port is one that is listened on: the program serves */
        PROBE_WHOLE = 2,                           /* TCP: the program received nothing before what comes now */
};

struct probe_open {
        struct probe_head head;                    /* flags: enum probe_open_flags */
        __u64 connection;
        __u64 peer;                                /* AF_UNIX: cookie of the other end, 0: unknown */
        struct probe_address local, remote;
        __u32 family;                              /* AF_INET, AF_INET6 or AF_UNIX */
        __u32 netns;                               /* inode of the network namespace */
};

struct probe_shut {
        struct probe_head head;
        __u64 connection;
        __u32 state;                               /* TCP state it went to: TCP_FIN_WAIT1 (4), TCP_CLOSE (7), TCP_LAST_ACK (9) */
        __u32 zero;
};

enum probe_process_what { PROBE_FORK = 1, PROBE_EXEC = 2, PROBE_EXIT = 3, PROBE_LISTEN = 4 };

struct probe_process {
        struct probe_head head;                    /* tgid: the process it happens to; for a fork the child */
        __u32 what;                                /* enum probe_process_what */
        __u32 parent;                              /* fork: tgid of the parent */
        __u32 port;                                /* listen: local port */
        __u32 netns;                               /* listen */
};

/* Goroutine head + task is about to send the next request of connection. */
struct probe_caller {
        struct probe_head head;
        struct probe_task task;
        __u64 connection;
};

/* Goroutine head + task was started to serve stream of connection, and nothing else. */
struct probe_handler {
        struct probe_head head;
        struct probe_task task;
        __u64 connection;
        __u32 stream;
        __u32 zero;
};

enum probe_inject_flags {
        PROBE_INJECT_SAMPLED = 1,                  /* the traceparent says so */
        PROBE_INJECT_SENT = 2,                     /* trace_id, span_id and seq are set: in the ring before the PROBE_DATA of its call */
        PROBE_INJECT_SERVED = 4,                   /* what is sent for the request that came on the connection has this trace_id; behind its PROBE_DATA */
};
#define PROBE_INJECT_BYTES 70u                     /* "traceparent: 00-<32 hex>-<16 hex>-<2 hex>\r\n" */

/* What the kernel side wrote into a request, or will. */
struct probe_inject {
        struct probe_head head;                    /* flags: enum probe_inject_flags */
        __u64 connection;
        __u64 server;                              /* SENT: connection of the request it is sent for; 0: for none */
        __u8 trace_id[16], span_id[8];
        __u32 seq;                                 /* TCP sequence number of the request's first byte */
        __u32 zero;
};

/* What discovery learned and the parsers need, so that a recording can be replayed elsewhere. Text: "key=value\n" lines. */
struct probe_note {
        struct probe_head head;                    /* tgid: the process it speaks of, 0: the whole recording; text follows */
};

/* ---- maps ---- */

enum probe_target_flags {
        PROBE_TARGET_GO = 1,                       /* the g_ members are set */
        PROBE_TARGET_TLS = 2,                      /* a TLS library of it is probed: threads remember their sockets */
};

/* Value of the map `targets`, by tgid. */
struct probe_target {
        __u32 flags;
        __s32 g_tls;                               /* of the pointer to the running g, from the thread's fs base */
        __u32 g_goid, g_parent;                    /* offsets in runtime.g; g_parent 0: this Go has none */
        __u32 generation;                          /* goes up each time processes are let go: what is known of their sockets is old then */
};

/* Value of the map `verdicts`, by connection: what the user side needs no more of. */
struct probe_verdict {
        __u64 skip_in, skip_out;                   /* bytes below this offset need not be captured */
        __u32 ignore;                              /* the connection speaks nothing we know */
        __u32 zero;
};

/* Key of the map `ports`: where somebody listens. Value: __u32 1. */
struct probe_port {
        __u32 netns, port;                         /* port in host byte order */
};
#define PROBE_PORTS_MAX 8192u

/* Where one direction of a connection stands in the frames of HTTP/2. */
struct probe_frames {
        __u32 state;                               /* enum probe_frames_state */
        __u32 copy, skip;                          /* bytes of the frame's payload that come next: to be captured, or to be passed over */
        __u32 have;                                /* bytes of header: of a frame's first nine that came so far */
        __u8 header[16];
};
enum probe_frames_state {
        PROBE_FRAMES_FIRST = 0,                    /* in the first nine bytes: they tell */
        PROBE_FRAMES_ASKS = 1,                     /* they are followed; it began with the client's preface: HEADERS are requests */
        PROBE_FRAMES_ANSWERS = 2,                  /* they are followed, the other direction */
        PROBE_FRAMES_NONE = 3,                     /* not HTTP/2, or no longer followed */
};

/* Value of the map `sockets`, kept with the socket itself: it goes with it. */
struct probe_socket {
        __u64 connection;                          /* socket cookie; 0: not yet looked at */
        __u64 in, out;                             /* bytes seen */
        __u32 turn;
        __u8 last;                                 /* 0: nothing yet, 1: received, 2: sent */
        __u8 flags;                                /* enum probe_socket_flags */
        __u16 zero;
        struct probe_frames frames[2];             /* of what came in, and of what goes out */
        __u32 generation;                          /* the newest of the processes that used it */
        __u32 zero2;
};
enum probe_socket_flags {
        PROBE_SOCKET_OPENED = 1,                   /* PROBE_OPEN is in the ring */
        PROBE_SOCKET_PASSIVE = 2,
        PROBE_SOCKET_TLS = 4,                      /* carries TLS: its bytes are not captured */
        PROBE_SOCKET_IGNORED = 8,                  /* the verdict said so */
        PROBE_SOCKET_WHOLE = 16,
        PROBE_SOCKET_URING = 32,                   /* io_uring moved bytes of it: some may be pending */
};

/* Value of the map `threads`, kept with the thread: joins calls of a TLS library to the sockets they move. */
struct probe_thread {
        __u64 session;                             /* SSL *, gnutls_session_t or *tls.Conn of the call that runs now; 0: none */
        __u64 last_in;                             /* connection it received on last; bit 63: on others, too, since the last call of any
                                                    * session; 0: none */
        __u64 sp;                                  /* stack pointer where the call that runs began */
};

#define PROBE_TLS_STACK_MAX 16384u                 /* a TLS library's own system calls lie less deep below its call (5.4 KB seen); what is deeper is
                                                    * the program, called back (Node: 23 KB) */

/* Key and value of the map `sessions`: a TLS session and its connection. */
struct probe_session_key {
        __u64 session;
        __u32 tgid, zero;
};
struct probe_session {
        __u64 connection;                          /* 0: not known yet */
        __u64 in, out;                             /* plaintext bytes seen */
        __u32 turn;
        __u8 last;                                 /* 0: nothing yet, 1: received, 2: sent */
        __u8 asks;                                 /* the program sent first: its requests go out */
        __u8 zero[2];
        struct probe_frames frames[2];             /* of what came in, and of what went out */
};
#define PROBE_SESSIONS_MAX 16384u

/* The one value of the array `switches`: the user side writes, the kernel side obeys. */
struct probe_switches {
        __u32 wake;                                /* 1: the user side sleeps: the next event wakes it and sets 0. Else it polls */
        __u32 capture_max;                         /* bytes captured of one call, at most PROBE_CALL_MAX */
        __u32 uring;                               /* 1: completions of io_uring are seen */
        __u32 zero;
        __u64 woken_at;                            /* the kernel side's own: how far the ring was written when its fill last woke the user side */
};

/* The one value of the array `rules` of inject.bpf.c. */
struct probe_inject_rules {
        __u64 ports[65536 / 64];                   /* a bit each: requests to these destination ports are changed */
        __u64 bound;                               /* struct sampler's */
        __u32 root;                                /* enum probe_root: a trace that begins here */
        __u32 parent_based;                        /* 1: a trace that came in keeps its flag */
        __u32 keep_alive, zero;                    /* 1: every request of a connection, else the first alone */
};
enum probe_root { PROBE_ROOT_OFF, PROBE_ROOT_ON, PROBE_ROOT_RATIO };
/* sampler_decide(), for the kernel side. parent: the flag of the trace that came in, -1: it begins here. */
static inline int probe_is_sampled(const struct probe_inject_rules *r, const __u8 *trace_id, int parent) {
        __u64 low = 0;
        if (parent >= 0 && r->parent_based)
                return parent;
        for (int i = 8; i < 16; i++)
                low = low << 8 | trace_id[i];
        return r->root == PROBE_ROOT_RATIO ? low >> 1 < r->bound : r->root == PROBE_ROOT_ON;
}

/* Indices of the per-CPU map `outcomes` of inject.bpf.c: requests that were looked at, and what became of them. */
enum probe_inject_outcome {
        PROBE_OUTCOME_SENT,                        /* with our traceparent */
        PROBE_OUTCOME_OWN,                         /* it has one of its own */
        PROBE_OUTCOME_SPLIT,                       /* the head did not come in one send, or is longer than 8 KB */
        PROBE_OUTCOME_OTHER,                       /* not HTTP/1, or not as it should be */
        PROBE_OUTCOME_UNKNOWN,                     /* its process serves a request that the kernel side cannot read */
        PROBE_OUTCOME_UNOBSERVED,                  /* its process is not observed */
        PROBE_OUTCOME_BUSY,                        /* bytes before it are still to be sent, or no room for the event or the header */
        PROBE_OUTCOME_SOCKETS,                     /* connections that were looked at */
        PROBE_OUTCOME_LEFT,                        /* of them, those that were taken out of the hash again before their end */
        PROBE_OUTCOME_FULL,                        /* connections for which there was no room */
        PROBE_OUTCOMES,
};

/* Key of the map `pending`: bytes that io_uring moved and whose completion has not come. Value: struct probe_data, captured: how many are wanted. */
struct probe_pending_key {
        __u64 connection;
        __u32 out, zero;
};
#define PROBE_PENDING_MAX 4096u                    /* operations between the socket and their completion: microseconds */

/* The queue `shuts` holds struct probe_shut that found the ring full: without them their connections would stay open for long. */
#define PROBE_SHUTS_MAX 8192u                      /* ends of connections while the ring is full: as many as verdicts, nearly */

/* What the list of listeners (iter/task_file) holds: a listening TCP socket of a process. */
struct probe_found {
        __u64 inode;                               /* of the socket: the same in every process that shares it */
        __u32 tgid, netns, port, zero;
};

/* Indices of the per-CPU map `counters`. */
enum probe_counter {
        PROBE_COUNT_EVENTS,                        /* in the ring buffer */
        PROBE_COUNT_LOST,                          /* events that found it full */
        PROBE_COUNT_LOST_BYTES,
        PROBE_COUNT_LOST_REQUESTS,                 /* calls that opened a request's turn, lost or unreadable: nobody else counts them */
        PROBE_COUNT_UNREADABLE,                    /* user memory that could not be read */
        PROBE_COUNT_NO_STATE,                      /* no room for the state of a connection */
        PROBE_COUNT_CALLS,                         /* of targets, that moved bytes */
        PROBE_COUNTERS,
};
