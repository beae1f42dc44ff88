/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Tracer: events in, requests for collectord out. The one way every event goes, from the kernel or from a recording:
 * connections -> protocols -> contexts -> routes -> spans, metrics, printer.
 * May touch: memory, and the stream it prints to. Times are CLOCK_BOOTTIME and come as arguments. */
#include <stdio.h>

#include "beylad/connection.h"
#include "beylad/context.h"
#include "beylad/red.h"
#include "beylad/settings.h"
#include "libtelemetry/frame.h"

#define TRACER_IDLE_NS (120 * TEL_NS_PER_S)        /* of a Unix socket, whose end nobody tells: as long as the slowest requests people wait for */
#define TRACER_ERROR_MAX 512                       /* bytes of an error text, with its NUL */

struct tracer;

struct tracer_options {
        const struct settings *settings;           /* finished; borrowed until tracer_free() */
        FILE *print_to;                            /* for settings.printer; never NULL */
        /* A request body for collectord; borrowed for the call. items: spans or data points. NULL: nothing is encoded. */
        void (*request)(void *ctx, enum tel_frame_kind kind, const uint8_t *body, size_t n, size_t items);
        /* As in connection.h; NULL: nobody listens. */
        void (*verdict)(void *ctx, uint64_t connection, const struct probe_verdict *v);
        void (*gone)(void *ctx, uint64_t connection);
        /* Ciphertext of p passes and its plaintext was never seen. */
        void (*tls_wanted)(void *ctx, struct process *p);
        void *ctx;
};

struct tracer_stats {
        struct connections_stats connections;
        struct contexts_stats contexts;
        struct red_stats red;
        uint64_t unsampled, ignored;               /* spans left out by the sampler, by routes.ignored or because traces are off */
        uint64_t malformed;                        /* events that are none: of a damaged recording */
};

/* Returns 0, -ENOMEM or -EINVAL (reterr, TRACER_ERROR_MAX). */
int tracer_new(const struct tracer_options *options, struct tracer **ret, char *reterr);
struct tracer *tracer_free(struct tracer *t);
/* DATA, OPEN, SHUT, CALLER or INJECT. process: whose event it is; NULL: nobody observed. */
void tracer_event(struct tracer *t, struct process *process, const struct probe_head *e);
/* Other settings (borrowed instead of the old ones) for what comes: connections, open requests and totals stay. Metrics begin anew when their
 * own settings changed. Returns 0 or negative (reterr): the old ones stay. */
int tracer_configure(struct tracer *t, const struct settings *s, char *reterr);
void tracer_process_ended(struct tracer *t, const struct process *p, uint64_t now_ns);
/* Only metrics from now on, or spans too. */
void tracer_set_traces(struct tracer *t, bool on);
/* All events up to now_ns were given: what has waited long enough goes out. UINT64_MAX: everything. real_offset_ns makes boot time real time. */
void tracer_release(struct tracer *t, uint64_t now_ns, int64_t real_offset_ns);
/* Metrics go out. */
void tracer_metrics(struct tracer *t, uint64_t now_ns, int64_t real_offset_ns);
/* Whether something waits that only time will move. */
bool tracer_is_waiting(const struct tracer *t);
void tracer_get_stats(const struct tracer *t, struct tracer_stats *ret);
