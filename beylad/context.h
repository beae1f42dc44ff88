/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Context: which exchange caused which. Gives every exchange its trace, its parent or its links, and holds it until that is certain.
 *
 * A server exchange begins a trace, or goes on with one: that of its traceparent, else that of the client exchange at the other end of its
 * connection when that end is on this host (same addresses, same TCP sequence number). A client exchange belongs to the server exchange
 * that is open on its goroutine, or on its thread when exactly one is; with several open there it gets links, marked ambiguous, and no
 * parent: a wrong parent is worse than none.
 * The ids that the kernel side wrote into a request are those of its span, and its trace that of the exchanges above it, unless they have one
 * already: then the span has a link to them.
 * Finished exchanges wait CONTEXT_HOLD_NS, because the other end's event may still be in the ring; then they are resolved and handed on.
 * May touch: memory, and random bytes for ids. Times are arguments. */
#include "beylad/connection.h"

#define CONTEXT_HOLD_NS (100 * TEL_NS_PER_MS)      /* twice the longest time an event waits in the ring */
#define CONTEXT_OPEN_MAX 20000                     /* exchanges open at once: about 10 MB; one more is counted as lost */
#define CONTEXT_HELD_MAX 16384                     /* finished and waiting, about 15 MB: what 0.1 s of the busiest HTTP server gives; above it the
                                                    * oldest does not wait any longer */
#define CONTEXT_LINKS_MAX 8                        /* of one span: with more candidates a link says nothing */
#define CONTEXT_ADOPT_MAX 1000                     /* spans that may share one foreign (trace, parent) before new ones start traces of their own */
#define CONTEXT_AGE_MAX_NS (300 * TEL_NS_PER_S)    /* of an open exchange as a parent */

struct span_link {
        uint8_t trace_id[16], span_id[8];
        bool other_trace;                          /* it is the parent, but in a trace of its own; else one of several that may be it */
};

/* A finished exchange and its place. */
struct span {
        struct exchange *exchange;
        uint8_t trace_id[16], span_id[8], parent_span_id[8];           /* parent all zero: none */
        bool sampled;
        struct span_link links[CONTEXT_LINKS_MAX]; /* candidates for a parent, when several were possible */
        size_t n_links;
};

/* Heard for each exchange, in the order they ended; the span and its exchange are borrowed for the call. */
typedef void (*context_span_fn)(void *ctx, const struct span *span);

struct sampler;
struct contexts;

struct contexts_stats {
        uint64_t spans;                            /* handed on, server and client */
        uint64_t servers, clients;
        uint64_t lost;                             /* requests that were seen in part, or of whose existence alone we know */
        uint64_t ambiguous;                        /* clients with links instead of a parent */
        uint64_t joined;                           /* servers whose parent was found at the other end of the connection */
        uint64_t adopted;                          /* servers whose parent came in traceparent */
        uint64_t injected;                         /* clients whose ids are in the request they sent */
        uint64_t split;                            /* exchanges whose parent is known, and in another trace than those ids say: they have a link */
        size_t open, held;
};

struct contexts *contexts_new(const struct sampler *sampler, context_span_fn span, void *ctx);
struct contexts *contexts_free(struct contexts *t);
const struct exchange_sink *contexts_sink(struct contexts *t);
/* Goroutine task is about to use a connection: the next client exchange there belongs to it. */
void contexts_caller(struct contexts *t, const struct probe_task *task, uint64_t connection);
/* Goroutine task was started to serve x, which was asked, and serves nothing else. */
void contexts_handler(struct contexts *t, const struct probe_task *task, struct exchange *x);
/* What the kernel side writes into requests that are sent for the one that c carries now has this trace. */
void contexts_serve(const struct connection *c, const uint8_t trace_id[static 16]);
/* Hands on what has waited long enough. now_ns: boot time up to which all events were seen; UINT64_MAX: everything. */
void contexts_release(struct contexts *t, uint64_t now_ns);
void contexts_get_stats(const struct contexts *t, struct contexts_stats *ret);
