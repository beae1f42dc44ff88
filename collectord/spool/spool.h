/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Spool: the records of one signal in the order they came, for any number of readers. Four spools share one byte budget.
 * May touch: memory only. No socket, clock or log line; the caller passes the time in and acts on what comes back. One thread.
 *
 * What fills the budget, and what goes first when bytes are needed:
 *   1. history: segments every reader is done with, the oldest of all spools first (kept up to history bytes while they are free);
 *   2. the oldest segment of all spools that is not in flight and that no reader which keeps up still needs: it is trimmed, and a reader that
 *      had not read it lost exactly those records;
 *   3. batches of failing destinations that wait to be sent again, the oldest first (events.release);
 *   4. nothing: the door answers -EAGAIN, and its peer comes back. */
#include "collectord/spool/ledger.h"
#include "collectord/spool/segment.h"
#include "libtelemetry/buf.h"

struct spools;                                     /* opaque: spools_new() makes it, spools_free() ends it */
struct reader;

struct spools_settings {
        size_t memory_bytes;                       /* the budget of all four, every byte counted, overhead too */
        size_t history_bytes;                      /* what has been read stays up to so much */
};

/* The owner's ears. Both may be NULL. They must not append. */
struct spools_events {
        void (*appended)(void *ctx, enum tel_signal signal);                   /* records became visible to the readers */
        void (*lost)(void *ctx, const struct reader *r, const struct loss *l); /* a reader lost items; l is also in the losses */
        /* Everything that is left is in flight or needed by readers that keep up: can a batch be given up that only waits to be sent again? */
        bool (*release)(void *ctx);
        void *ctx;
};

/* Takes store. Returns 0 or -ENOMEM. */
int spools_new(const struct spools_settings *settings, struct segment_store *store, const struct spools_events *events, struct spools **ret);
/* Ends all; the readers must be gone. Accepts NULL, returns NULL. */
struct spools *spools_free(struct spools *s);
/* Another budget, after a reload. What is too much goes with the next append. */
void spools_resize(struct spools *s, const struct spools_settings *settings);

/* An append of several records that become visible together, or not at all. Only one at a time, and nothing else in between.
 * spool_reserve(): room for one record; head gives all but the sequence. *ret_body has head->body_bytes writable bytes.
 * Returns 0, -EMSGSIZE (larger than the budget can ever hold), -EAGAIN (no room while every reader keeps up), -ENOMEM. */
void spool_begin(struct spools *s, enum tel_signal signal);
int spool_reserve(struct spools *s, const struct record *head, uint64_t now_ns, uint8_t **ret_body);
void spool_commit(struct spools *s, uint64_t now_ns);
void spool_abort(struct spools *s);

/* Gives back history that is over its bound. Called when a reader moved. */
void spools_collect(struct spools *s);

/* Bytes waiting for the reader that is farthest behind, of those that keep up: how much faster records come in than they go out. */
size_t spools_lag(const struct spools *s, uint64_t now_ns);

/* Walking what lies in a spool: calls fn with every record whose sequence is at least from, oldest first, until fn answers other than 0, which
 * is returned. fn must not append or settle; the record is borrowed for the call. */
typedef int (*spool_walk_fn)(void *ctx, const struct record *record);
int spool_walk(const struct spools *s, enum tel_signal signal, uint64_t from, spool_walk_fn fn, void *ctx);
uint64_t spool_end(const struct spools *s, enum tel_signal signal);    /* the sequence the next record will have */

struct spool_stats {
        size_t bytes;                              /* charged to the budget */
        size_t segments, records;
        uint64_t oldest_ns;                        /* realtime at the door of the oldest record; 0: none */
        uint64_t appended_records, appended_items;
};
void spool_get_stats(const struct spools *s, enum tel_signal signal, struct spool_stats *ret);
const struct tel_budget *spools_budget(const struct spools *s);
const struct losses *spools_losses(const struct spools *s);
