/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Reader: a position in one spool, the batches it has in flight, and its ledger. A destination is one reader per signal it takes.
 * May touch: memory only; no clock, the caller passes realtime nanoseconds in. */
#include "collectord/spool/spool.h"

#define READER_KEEPS_UP_NS (30 * TEL_NS_PER_S)     /* a reader that does not fail keeps up while its oldest waiting record is younger */
/* ... and while what waits, beyond a few requests, would be gone within READER_DRAIN_NS at the pace it was taken since it began to wait. So a destination that
 * answers, but slowly, is told from one that is merely behind a burst: the one loses its oldest, for the other the door waits. */
#define READER_DRAIN_NS (10 * TEL_NS_PER_S)
#define READER_PACE_BYTES (4u << 20)               /* less than that, or than an eighth of the budget, says nothing about pace */
#define READER_PACE_NS (5 * TEL_NS_PER_S)          /* so long the pace is not known yet */
#define READER_BURST_NS (2 * TEL_NS_PER_S)         /* so long a reader that does not fail may be over max_lag.bytes: one large request, not a lag */
#define READER_IN_FLIGHT_PART 10                   /* of the budget, at most one part in so many may be in flight, because that cannot be trimmed */
#define BATCH_RECORDS_MAX 4096                     /* of one request: bounds its list when records are tiny */

enum reader_state {                                /* derived, never stored */
        READER_FLOWING,                            /* keeps up */
        READER_BUFFERING,                          /* fails, lag grows */
        READER_DROPPING,                           /* was trimmed past */
        READER_FLUSHING,                           /* succeeds with the lag of an outage */
};
const char *reader_state_name(enum reader_state s);

struct reader_settings {
        const char *destination;                   /* name, for the ledger; copied */
        uint64_t from;                             /* bits of enum source_kind; others are filtered */
        uint64_t max_lag_bytes, max_lag_age_ns;    /* 0: no bound */
        uint64_t max_age_ns;                       /* 0: no bound */
};

/* Records taken together, pinned until settled. Or, after a split inside one record, bytes of its own. */
struct batch_part {
        const struct record *record;
        struct segment *segment;
};
struct batch {
        struct batch *previous, *next;             /* in flight, of its reader */
        struct reader *reader;
        struct batch_part *parts;
        size_t n;
        struct tel_buf *own;                       /* body in place of the only part's; NULL: the parts as they are */
        uint64_t items;
        size_t bytes;                              /* of the bodies */
};

/* What became of a batch, in items. The sum is batch->items. */
struct settlement {
        uint64_t delivered, rejected, filtered, dropped;
        enum drop_reason reason;                   /* of dropped */
        const char *text;                          /* for the lines of loss; NULL: none */
};

/* Begins at the end of the spool: what came before was not offered. Returns 0 or -ENOMEM. */
int reader_new(struct spools *s, enum tel_signal signal, const struct reader_settings *settings, struct reader **ret);
/* Gives up what is waiting, with reason. Batches in flight must be settled before. Accepts NULL, returns NULL. */
struct reader *reader_free(struct reader *r, enum drop_reason reason, uint64_t now_ns);
void reader_configure(struct reader *r, const struct reader_settings *settings);

/* Drops what max_lag and max_age no longer allow. Called by take; call it on a timer as well when nothing is taken. */
void reader_expire(struct reader *r, uint64_t now_ns);
/* The next records into one batch: at most items_max items and bytes_max bytes (0: no limit), at least one record.
 * Returns 0, -EAGAIN (nothing waits), -ENOBUFS (enough is in flight), -ENOMEM. */
int reader_take(struct reader *r, uint64_t items_max, size_t bytes_max, uint64_t now_ns, struct batch **ret);
/* Ends a batch: its items move to where the settlement says, its pins go. Takes batch. */
void reader_settle(struct reader *r, struct batch *batch, const struct settlement *s, uint64_t now_ns);
/* Cuts a batch of several records in two halves; batch keeps the first. Returns 0, -ENOMEM, or -EINVAL: a single record. */
int batch_split(struct batch *batch, struct batch **ret_second);
/* Cuts a batch of one record in two bodies: batch keeps first with items_first, the other gets second and the rest of the items. Takes both
 * on success. Returns 0 or -ENOMEM. */
int batch_split_own(struct batch *batch, struct tel_buf *first, uint64_t items_first, struct tel_buf *second, struct batch **ret_second);

/* Tells the reader how its last attempt went: what its state and its keeping up are derived from. */
void reader_succeeded(struct reader *r);
void reader_failed(struct reader *r, uint64_t now_ns);
void reader_refused(struct reader *r);             /* the receiver answers, but finally no: items are being lost until it accepts again */
void reader_resent(struct reader *r, uint64_t items);                  /* counted beside the sum */

enum reader_state reader_state(const struct reader *r);
bool reader_keeps_up(const struct reader *r, uint64_t now_ns);
const struct ledger *reader_ledger(const struct reader *r);
const char *reader_destination(const struct reader *r);
enum tel_signal reader_signal(const struct reader *r);
size_t reader_waiting_bytes(const struct reader *r);
uint64_t reader_oldest_ns(const struct reader *r); /* realtime at the door of the oldest waiting record; 0: nothing waits */
uint64_t reader_failed_since_ns(const struct reader *r);               /* realtime; 0: the last attempt succeeded */
/* Everything below is finished: accepted, or given up with a line in the ledger. */
uint64_t reader_committed(const struct reader *r);
