/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Ledger: what became of every item that was offered to a reader, and a line for every loss.
 *   offered = filtered + delivered + rejected + in flight + waiting + dropped(reason), in items, at any time.
 * May touch: memory only; the caller passes the time in. */
#include "libtelemetry/base.h"
#include "libtelemetry/otlp_schema.h"

enum drop_reason {
        DROP_BUFFER_FULL,                          /* the oldest made room */
        DROP_MAX_LAG,                              /* the destination's max_lag */
        DROP_MAX_AGE,                              /* the destination's max_age */
        DROP_REFUSED,                              /* a final answer: 400, 401, 404, ... */
        DROP_TOO_LARGE,                            /* 413 for a single item */
        DROP_GIVE_UP,                              /* retry.give_up passed */
        DROP_STOP,                                 /* unsent when stop_timeout ended */
        DROP_REMOVED,                              /* the destination left the configuration */
        DROP_REJECTED,                             /* lines only: partial_success of the receiver; counted in ledger.rejected */
        DROP_REASONS,
};
const char *drop_reason_name(enum drop_reason r);  /* "buffer_full", ...: as in metrics and `lost` */

struct ledger {
        uint64_t offered, filtered, delivered, rejected, in_flight, waiting;
        uint64_t dropped[DROP_REASONS];
        uint64_t resent;                           /* items sent again after a failure: possible duplicates at the receiver; beside the sum */
};

/* The sum on the right of the equation; equal to offered unless there is a defect. */
uint64_t ledger_sum(const struct ledger *l);

#define LOSS_LINES 256                             /* kept; older lines go, their items stay in the counters */
#define LOSS_TEXT 96
#define LOSS_DESTINATION 64
#define LOSS_MERGE_NS (10 * TEL_NS_PER_S)          /* losses of one kind within it share a line, so a long outage leaves others visible */

struct loss {
        uint64_t first_ns, last_ns;                /* realtime: when it was given up */
        uint64_t received_min_ns, received_max_ns; /* realtime: when it had come in */
        uint64_t records, items, bytes;
        enum tel_signal signal;
        enum drop_reason reason;
        char destination[LOSS_DESTINATION];
        char text[LOSS_TEXT];                      /* the answer or error, when there is one */
};

struct losses {
        struct loss lines[LOSS_LINES];
        size_t first, n;                           /* ring: oldest line and how many */
};

/* Adds to the line of the same destination, signal, reason and text when that one is fresh, else begins one. */
void losses_add(struct losses *l, const struct loss *loss);
/* Line i, oldest first; NULL behind the last. */
const struct loss *losses_get(const struct losses *l, size_t i);
