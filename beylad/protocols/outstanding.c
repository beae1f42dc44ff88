/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/protocols/outstanding.h"

#include "beylad/connection.h"

void outstanding_init(struct outstanding *o, struct connection *c, enum exchange_role role) {
        *o = (struct outstanding){ .connection = c, .role = role, .exact = c->whole };
}

void outstanding_done(struct outstanding *o) {
        outstanding_drop(o, false);
        free(o->ring);
        o->ring = NULL;
        o->room = 0;
}

bool outstanding_turn(struct outstanding *o, const struct chunk *at) {
        bool asking = at->direction == outstanding_asks(o), turn = at->turn || asking != o->asking;
        o->asking = asking;
        if (asking && turn)
                o->turn++;
        o->exact = o->exact && o->turn > 0;        /* turn 0: joined at an answer */
        return turn;
}

void outstanding_missing(struct outstanding *o) {
        o->missing = true;
        o->exact = false;
}

void outstanding_early(struct outstanding *o) {
        o->early = o->exact && o->role == EXCHANGE_CLIENT ? o->early + 1 : 0;
}

bool outstanding_take_early(struct outstanding *o) {
        if (!o->exact || o->early == 0) {
                o->early_in_row = 0;
                return false;
        }
        o->early--;
        o->exact = ++o->early_in_row < OUTSTANDING_EARLY_MAX;
        return true;
}

/* ---- the ring ---- */

static bool grow(struct outstanding *o) {
        uint32_t room = o->room ? 2 * o->room : 8;
        struct outstanding_entry *ring = malloc(room * sizeof(*ring));
        if (!ring)
                return false;
        for (uint32_t i = 0; i < o->n; i++)
                ring[(o->first + i) & (room - 1)] = *outstanding_at(o, i);
        free(o->ring);
        o->ring = ring;
        o->room = room;
        return true;
}

static struct outstanding_entry *append(struct outstanding *o, uint8_t what, struct exchange *x) {
        o->n++;
        struct outstanding_entry *e = outstanding_last(o);
        *e = (struct outstanding_entry){ .x = x, .turn = o->turn, .what = what };
        return e;
}

/* One more in the run at the end. The last place is kept for a run, so there is one when the others are taken; NULL: no memory even for it. */
static struct outstanding_entry *run(struct outstanding *o) {
        struct outstanding_entry *e = outstanding_last(o);
        if (e && e->what == OUTSTANDING_RUN) {
                e->turn = o->turn;
                return e;
        }
        return o->n < o->room || grow(o) ? append(o, OUTSTANDING_RUN, NULL) : NULL;
}

static bool room_for_one(struct outstanding *o) {
        return o->n < OUTSTANDING_MAX - 1 && (o->n < o->room || grow(o));
}

struct outstanding_entry *outstanding_push(struct outstanding *o, uint8_t what) {
        return room_for_one(o) ? append(o, what, NULL) : run(o);
}

struct outstanding_entry *outstanding_begin(struct outstanding *o, uint8_t what, const struct chunk *at) {
        if (!room_for_one(o)) {
                connection_lost(o->connection, 1);
                return run(o);
        }
        struct exchange *x = exchange_begin(o->connection, EXCHANGE_DB, o->role, at);
        return x ? append(o, what, x) : run(o);
}

static void shrink(struct outstanding *o) {
        if (o->n > 0 || o->room <= OUTSTANDING_KEPT)
                return;
        free(o->ring);
        o->ring = NULL;
        o->room = 0;
}

struct exchange *outstanding_pop(struct outstanding *o) {
        struct exchange *x = outstanding_first(o)->x;
        o->first++;
        o->n--;
        shrink(o);
        return x;
}

struct exchange *outstanding_pop_last(struct outstanding *o) {
        struct exchange *x = outstanding_last(o)->x;
        o->n--;
        shrink(o);
        return x;
}

/* ---- what becomes of them ---- */

bool outstanding_is_single(struct outstanding *o) {
        unsigned exchanges = 0;
        for (uint32_t i = 0; i < o->n && exchanges < 2; i++) {
                const struct outstanding_entry *e = outstanding_at(o, i);
                exchanges += e->what == OUTSTANDING_RUN ? 2 : e->x != NULL;
        }
        return exchanges < 2;
}

void outstanding_drop(struct outstanding *o, bool counted) {
        while (o->n > 0) {
                bool whole = outstanding_first(o)->whole;
                struct exchange *x = outstanding_pop(o);
                if (x)
                        exchange_drop(x, counted && whole);
        }
}

void outstanding_end_unobserved(const struct outstanding *o, struct exchange *x) {
        x->unobserved = true;
        exchange_end(x, &(struct chunk){ .end_ns = o->seen_ns });
}

/* The oldest leaves, its answer or the rest of it out of sight. */
static void leave(struct outstanding *o, bool seen) {
        bool whole = outstanding_first(o)->whole;
        struct exchange *x = outstanding_pop(o);
        if (x && whole && (seen || x->answer_ns > 0))
                outstanding_end_unobserved(o, x);
        else if (x)
                exchange_drop(x, whole);
}

void outstanding_settle(struct outstanding *o) {
        struct outstanding_entry *e = o->adrift ? outstanding_first(o) : NULL;
        o->adrift = false;
        if (!e)
                return;
        leave(o, e->x && o->seen_ns > e->x->start_ns && outstanding_is_single(o));     /* whatever answer was seen since is its own */
        outstanding_drop(o, true);
}

bool outstanding_answers_found(struct outstanding *o, bool turn) {
        if (o->answer_state == ANSWER_READ)
                return false;
        if (o->answer_state == ANSWER_LOST && turn)
                outstanding_settle(o);
        /* Behind missing bytes an answer can only begin with a turn, or when there is but one to come. */
        bool single = outstanding_is_single(o), may_begin = turn || (o->answer_state == ANSWER_GAP && single);
        o->answer_state = may_begin ? ANSWER_READ : ANSWER_LOST;
        o->answer_tentative = may_begin;
        o->adrift = !may_begin || !single;         /* what is then left of several was answered out of sight */
        return true;
}

void outstanding_answers_lost(struct outstanding *o) {
        o->answer_state = ANSWER_LOST;
        o->adrift = true;
}

void outstanding_answers_gap(struct outstanding *o, bool turn) {
        outstanding_missing(o);
        if (!turn || o->overlaps) {
                outstanding_answers_lost(o);
                return;
        }
        /* The next answer is that of the oldest of this turn: what older turns asked was answered out of sight. */
        while (o->n > 0 && outstanding_first(o)->turn != o->turn)
                leave(o, false);
        o->answer_state = ANSWER_GAP;
}

void outstanding_end(struct outstanding *o, enum direction direction, uint64_t now_ns) {
        if (direction == outstanding_asks(o))
                o->asks_ended = true;
        else {
                o->answers_ended = true;
                o->answers_ended_ns = o->asks_ended ? UINT64_MAX : now_ns;
        }
        if (!o->asks_ended || !o->answers_ended)
                return;
        /* When both end at once nobody knows who left. */
        bool first = o->answers_ended_ns < now_ns && !o->missing;
        while (o->n > 0) {
                bool whole = outstanding_first(o)->whole;
                struct exchange *x = outstanding_pop(o);
                if (x && !whole && !x->failed)
                        exchange_drop(x, false);
                else if (x && first && !x->failed && x->answer_ns == 0) {
                        x->failed = true;
                        exchange_set(x, FIELD_ERROR, "_OTHER", 6);
                        exchange_end(x, &(struct chunk){ .end_ns = o->answers_ended_ns });
                } else if (x) {
                        x->unobserved = !x->failed;
                        exchange_end(x, NULL);
                }
        }
}
