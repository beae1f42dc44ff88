/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Destination: one reader per signal it takes, and what drives each: when a batch is due, how many requests are under way, when to try again.
 * Its state is derived from its readers.
 * May touch: timers; transfers; the daemon's clock. Logs what happens to it. */
#include <uv.h>

#include "collectord/destinations/encode_otlp.h"
#include "collectord/destinations/transfer.h"
#include "collectord/settings.h"
#include "collectord/spool/reader.h"

struct destination;
struct destinations;

/* Everything destinations share. */
struct destinations_options {
        uv_loop_t *loop;
        struct spools *spools;                     /* borrowed */
        struct tel_budget *egress;                 /* borrowed */
        void (*state_changed)(void *ctx);          /* some reader changed its state: STATUS= and DEGRADED may differ */
        void *ctx;
};

int destinations_new(const struct destinations_options *options, struct destinations **ret);
struct destinations *destinations_free(struct destinations *ds);

/* Makes what the settings list (already checked) the set of destinations: keeps those that go on with their positions and ledgers, changes their settings,
 * adds new ones at the end of the spools, and removes others (what they still had to send is a loss with reason "removed"). settings is borrowed until the
 * next call. Returns 0 or -ENOMEM. */
int destinations_configure(struct destinations *ds, const struct settings *settings);
/* The buffer is full and nothing else may go: gives up the oldest batch that waits to be sent again (reason buffer_full), so that batches of dead
 * destinations pin no memory others need. Returns false when there is none. */
bool destinations_release(struct destinations *ds);
/* Records of signal became visible. */
void destinations_wake(struct destinations *ds, enum tel_signal signal);
/* Stop: sends what waits at once, batches or not. done is called when nothing is left or under way. */
void destinations_flush(struct destinations *ds, void (*done)(void *ctx), void *ctx);
/* Gives up all that is unsent (reason "stop"). Returns the items. */
uint64_t destinations_give_up(struct destinations *ds);
/* True when a remote destination (an anchor) is not FLOWING. */
bool destinations_degraded(const struct destinations *ds);

struct destination_stats {                         /* of one reader of a destination */
        uint64_t requests, failures;               /* attempts; those that ended other than SENT */
        uint64_t sent_bytes, raw_bytes;            /* on the wire; before compression */
        uint64_t splits;
        uint64_t batch_by_size, batch_by_timeout;  /* why batches were sent */
        uint64_t status_codes[6];                  /* 0: no answer; 1: 1xx ... 5: 5xx */
        unsigned in_flight;                        /* requests under way now */
        uint64_t last_success_ns, last_failure_ns; /* daemon's clock; 0: never */
        uint64_t next_attempt_ns;                  /* while waiting to retry; 0: not */
        uint64_t duration_sum_ns;
        char last_error[TRANSFER_TEXT];            /* "" : none yet */
};

/* For status, metrics and the page: destination i, NULL behind the last. */
const struct destination *destinations_get(const struct destinations *ds, size_t i);
const struct destination_settings *destination_settings(const struct destination *d);
/* The worst of its readers: DROPPING, BUFFERING, FLUSHING, FLOWING in this order. */
enum reader_state destination_state(const struct destination *d);
/* NULL when it does not take the signal. */
const struct reader *destination_reader(const struct destination *d, enum tel_signal signal);
const struct destination_stats *destination_stats(const struct destination *d, enum tel_signal signal);
