/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Connection: what is known of one socket of one observed process, and the parser its bytes go through.
 * Finds the protocol by the first bytes of a turn, tells bytes that nobody captured from bytes that came, and ends what is open when the
 * connection does. May touch: memory only; the caller passes events and the time in. */
#include "beylad/exchange.h"
#include "beylad/process.h"
#include "beylad/probes/event.h"
#include "beylad/protocols/protocol.h"

#define CONNECTIONS_MAX 16384                      /* at once; the one that was quiet longest goes. As many as the kernel side's verdicts */
#define CONNECTION_TRIES 8                         /* turns looked at before a connection is taken for none of our protocols */

enum connection_tls {
        TLS_NO,
        TLS_SEEN,                                  /* ciphertext passes; no plaintext was seen yet */
        TLS_PLAIN,                                 /* a library shows the plaintext; ciphertext is ignored */
};

struct connection {
        const struct exchange_sink *sink;
        uint64_t id;                               /* socket cookie; 0: none (tests) */
        struct process *process;                   /* referenced; NULL in tests */
        struct probe_address local, remote;
        uint32_t family, netns;                    /* family 0: nothing is known of the ends */
        uint64_t peer;                             /* AF_UNIX: cookie of the other end */
        enum connection_tls tls;
        const struct protocol *protocol;           /* NULL: not told apart yet, or ignored */
        uint64_t last_ns;                          /* end of the last call that moved bytes */
        uint32_t open_exchanges;
        bool passive;                              /* the program accepted it */
        bool whole;                                /* seen from its first byte */
        bool abandoned;                            /* forgotten while it lives, for want of room or of any sign of life */
        bool served;                               /* it carried a request to this program before */
        struct injected injected;                  /* into the request that comes next */
        struct context *serving;                   /* context.c's: the latest request to this program, while it is open */
        unsigned refs;                             /* the table's, and one for each exchange */
};

struct connections;                                /* the table: connections_new() makes it */

struct connections_options {
        const struct exchange_sink *sink;
        const struct protocol_options *protocol_options;
        const struct protocol *const *protocols;   /* NULL-terminated */
        /* The kernel side is told what it need not capture; may be NULL (replay). gone: forget the connection. */
        void (*verdict)(void *ctx, uint64_t connection, const struct probe_verdict *v);
        void (*gone)(void *ctx, uint64_t connection);
        void *ctx;
};

struct connections_stats {
        uint64_t open, opened, evicted;            /* connections */
        uint64_t gaps, gap_bytes;                  /* bytes that should have come and did not: ring losses, and calls nobody saw */
        uint64_t unknown;                          /* connections of no protocol we know */
        uint64_t encrypted;                        /* that carry TLS of which no plaintext was seen: of libraries we do not know, or not yet */
};

struct connections *connections_new(const struct connections_options *options);
struct connections *connections_free(struct connections *t);           /* accepts NULL; open exchanges end uncounted */
/* One event of the kernel side. process: whose it is, NULL: not observed any more, then only SHUT matters. */
void connections_data(struct connections *t, struct process *process, const struct probe_data *e, const uint8_t *captured);
void connections_open(struct connections *t, struct process *process, const struct probe_open *e);
void connections_inject(struct connections *t, struct process *process, const struct probe_inject *e);
void connections_shut(struct connections *t, const struct probe_shut *e);
/* All connections of a process that ended or is no longer observed. */
void connections_drop_process(struct connections *t, const struct process *process, uint64_t now_ns);
/* Connections quiet for idle_ns (TCP: twelve times that) are forgotten, what is open on them ends unobserved; at most a bounded number each time. */
void connections_sweep(struct connections *t, uint64_t now_ns, uint64_t idle_ns);
struct connection *connections_find(struct connections *t, uint64_t id);
/* The open exchange of a stream of a connection, or NULL. */
struct exchange *connections_find_stream(struct connections *t, uint64_t id, uint32_t stream);
void connections_get_stats(const struct connections *t, struct connections_stats *ret);

struct connection *connection_ref(struct connection *c);
struct connection *connection_unref(struct connection *c);
