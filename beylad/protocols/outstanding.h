/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Outstanding: what a connection was asked and has not been answered yet, in order; for protocols that answer in order. Also whose turn it is,
 * and what becomes of the open exchanges when bytes are missing: what is certain ends, what is not is dropped and counted.
 * May touch: memory only. */
#include "beylad/protocols/protocol.h"

#define OUTSTANDING_MAX 4096                       /* at once: a redis-server that reads 16 KiB at a time has at most 2730 before it answers.
                                                    * What clients send above it is counted as lost, and its answers are passed over */
#define OUTSTANDING_KEPT 64                        /* room that stays while nothing is outstanding */

/* `what` of an entry is the protocol's but for this one: things without an exchange of their own, beyond a bound. They were counted. */
#define OUTSTANDING_RUN 255

/* How answers are followed: one after the other; behind missing bytes, where the next one begins with what comes; or not, until a turn. */
enum answer_state { ANSWER_READ, ANSWER_GAP, ANSWER_LOST };

struct outstanding_entry {
        struct exchange *x;                        /* NULL: none */
        uint32_t n;                                /* the protocol's */
        uint32_t turn;                             /* of those who ask, in which it came */
        uint8_t what;
        bool whole;                                /* all of it was sent, so it will be answered; else it is no request, and no loss */
};

struct outstanding {
        struct connection *connection;
        enum exchange_role role;
        struct outstanding_entry *ring;
        uint32_t room;                             /* a power of two, or 0 */
        uint32_t first, n;                         /* entry i is ring[(first + i) % room]; first is counted on, so that first + i names it for good */
        uint32_t turn;                             /* counts on when the asking direction begins after the other one */
        bool asking;                               /* the last bytes were of the asking direction */
        bool overlaps;                             /* it has asked before everything was answered: a new turn says nothing of older ones */
        uint64_t seen_ns;                          /* end of the last call that carried answers */
        bool missing;                              /* messages were missed: what has no answer may have had one */
        enum answer_state answer_state;
        bool answer_tentative;                     /* found again, and nothing of it was read to its end yet */
        bool adrift;                               /* answers are missing: what is outstanding is settled when the next turn begins */
        bool asks_ended, answers_ended;
        uint64_t answers_ended_ns;
        bool exact;                                /* no message was missed: an answer without a request has overtaken it */
        uint32_t early;                            /* such answers; of a client, whose reading thread was quicker than its writing one */
        uint32_t early_in_row;                     /* requests that took one without any other in between */
};
#define OUTSTANDING_EARLY_MAX 4                    /* in a row: then it is something else, and not exact */

void outstanding_init(struct outstanding *o, struct connection *c, enum exchange_role role);
/* Open exchanges end uncounted. */
void outstanding_done(struct outstanding *o);

static inline enum direction outstanding_asks(const struct outstanding *o) {
        return o->role == EXCHANGE_SERVER ? DIRECTION_IN : DIRECTION_OUT;
}

/* Bytes are missing that were more than the rest of a value of known length. */
void outstanding_missing(struct outstanding *o);
/* An answer came and nothing is outstanding. */
void outstanding_early(struct outstanding *o);
/* A request is whole: whether an answer that came before is its own. */
bool outstanding_take_early(struct outstanding *o);

/* Bytes came, or are missing, in a direction. Returns whether they begin a turn. */
bool outstanding_turn(struct outstanding *o, const struct chunk *at);

/* The oldest and the youngest entry, or NULL; valid until the next push. */
static inline struct outstanding_entry *outstanding_at(struct outstanding *o, uint32_t i) {
        return &o->ring[(o->first + i) & (o->room - 1)];
}
static inline struct outstanding_entry *outstanding_first(struct outstanding *o) {
        return o->n > 0 ? outstanding_at(o, 0) : NULL;
}
static inline struct outstanding_entry *outstanding_last(struct outstanding *o) {
        return o->n > 0 ? outstanding_at(o, o->n - 1) : NULL;
}
/* The entry that had this name, first + i, when it was pushed; NULL: it is gone. */
static inline struct outstanding_entry *outstanding_named(struct outstanding *o, uint32_t name) {
        return name - o->first < o->n ? outstanding_at(o, name - o->first) : NULL;
}
static inline uint32_t outstanding_last_name(const struct outstanding *o) {
        return o->first + o->n - 1;
}

/* An entry without exchange. Over a bound: the run at its end, whose n the caller counts on. NULL: out of memory. */
struct outstanding_entry *outstanding_push(struct outstanding *o, uint8_t what);
/* An entry with an exchange that begins at `at`; likewise, and counted as lost then. */
struct outstanding_entry *outstanding_begin(struct outstanding *o, uint8_t what, const struct chunk *at);
/* The oldest or the youngest leaves; its exchange is the caller's. */
struct exchange *outstanding_pop(struct outstanding *o);
struct exchange *outstanding_pop_last(struct outstanding *o);

/* Whether at most one of them has an exchange. */
bool outstanding_is_single(struct outstanding *o);
/* All leave; counted: those that are whole were requests that are lost from sight. */
void outstanding_drop(struct outstanding *o, bool counted);
/* When answers are missing, and what follows cannot be told apart: the oldest ends unobserved when a part of its answer was seen, the others are
 * dropped and counted. Call it when the next turn begins: until then what is seen still belongs to them. */
void outstanding_settle(struct outstanding *o);
/* Before bytes of answers are read. Returns whether they begin an answer, or are passed over: the parser begins anew. */
bool outstanding_answers_found(struct outstanding *o, bool turn);
/* What was read since is no answer. */
void outstanding_answers_lost(struct outstanding *o);
/* Bytes of answers are missing, more than the rest of a value of known length; turn: the other side has had one since. */
void outstanding_answers_gap(struct outstanding *o, bool turn);
/* A direction ended. After the second nothing is outstanding: what was whole ends, as failed when those who answer left before those who
 * ask did and nothing was missing, else unobserved. */
void outstanding_end(struct outstanding *o, enum direction direction, uint64_t now_ns);
/* x ends, its last bytes out of sight: at the last answer that was seen. */
void outstanding_end_unobserved(const struct outstanding *o, struct exchange *x);
