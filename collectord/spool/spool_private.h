/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* What spool.c and reader.c share, and nobody else includes.
 * May touch: memory only. */
#include "collectord/spool/reader.h"
#include "collectord/spool/spool.h"

struct spool {
        struct segment *head, *tail;               /* oldest, newest */
        struct reader *readers;
        uint64_t end;                              /* the sequence the next record will have */
        uint64_t visible;                          /* readers see what is below; less than end only inside an append */
        uint64_t appended_items;
};

struct spools {
        struct tel_budget budget;
        size_t history_bytes;
        size_t in_flight_bytes;                    /* of bodies in batches, all readers */
        struct segment_store *store;
        struct spools_events events;
        struct losses losses;
        struct spool of[TEL_SIGNALS];
        struct {                                   /* the open append */
                bool open;
                enum tel_signal signal;
                struct segment *tail;              /* as it was: NULL when the spool was empty */
                size_t used;
                uint64_t items;
        } append;
};

struct reader {
        struct reader *next;                       /* of the same spool */
        struct spools *spools;
        enum tel_signal signal;
        char destination[LOSS_DESTINATION];
        struct reader_settings settings;
        uint64_t position;                         /* sequence of the next record to take */
        struct segment *segment;                   /* where it lies, with offset; NULL: to be found again */
        size_t offset;
        size_t waiting_bytes;                      /* of wanted bodies from position on */
        uint64_t busy_since_ns;                    /* records have waited without a break since then; 0: none wait */
        uint64_t busy_bytes;                       /* settled since */
        struct batch *flight;                      /* unfinished batches, oldest first */
        struct ledger ledger;
        uint64_t failed_since_ns;                  /* 0: the last attempt succeeded */
        uint64_t dropping_until;                   /* DROPPING while position is below: set by a loss while it fails or lags */
        bool refused;                              /* the last answer was a final no */
        uint64_t flush_until;                      /* FLUSHING while committed is below: the spool's end at recovery */
};

/* Whether the reader is offered this record, or it is filtered. */
static inline bool reader_wants(const struct reader *r, const struct record *record) {
        return (r->settings.from >> record->source & 1) != 0;
}

/* Records [first, last] of s became visible. */
void reader_offer(struct reader *r, const struct record *record);
/* The records of segment that r has not taken are lost to it. */
void reader_trim(struct reader *r, const struct segment *segment, uint64_t now_ns);
void reader_enforce_lag(struct reader *r, uint64_t now_ns);
void segment_pin(struct segment *s);
