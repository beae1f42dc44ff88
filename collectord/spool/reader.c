/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "collectord/spool/spool_private.h"

const char *reader_state_name(enum reader_state s) {
        static const char *const names[] = {
                [READER_FLOWING] = "FLOWING", [READER_BUFFERING] = "BUFFERING", [READER_DROPPING] = "DROPPING", [READER_FLUSHING] = "FLUSHING",
        };
        return names[s];
}

int reader_new(struct spools *s, enum tel_signal signal, const struct reader_settings *settings, struct reader **ret) {
        struct reader *r = calloc(1, sizeof(*r));
        if (!r)
                return -ENOMEM;
        r->spools = s;
        r->signal = signal;
        r->position = s->of[signal].visible;
        reader_configure(r, settings);
        struct reader **at = &s->of[signal].readers;
        while (*at)
                at = &(*at)->next;
        *at = r;
        *ret = r;
        return 0;
}

void reader_configure(struct reader *r, const struct reader_settings *settings) {
        r->settings = *settings;
        snprintf(r->destination, sizeof(r->destination), "%s", settings->destination);
        r->settings.destination = r->destination;
}

/* ---- Where it stands ---- */

/* The record at the position; NULL when the reader is at the end. Finds the segment again when it was trimmed or left behind. */
static struct record *reader_record(struct reader *r) {
        const struct spool *spool = &r->spools->of[r->signal];
        if (r->position >= spool->visible)
                return NULL;
        if (!r->segment || r->position >= r->segment->end_sequence || r->offset >= r->segment->used) {
                r->segment = spool->head;
                while (r->segment && r->segment->end_sequence <= r->position)
                        r->segment = r->segment->next;
                r->offset = 0;
                if (!r->segment)
                        return NULL;
                r->position = TEL_MAX(r->position, r->segment->first_sequence);
                while (segment_record(r->segment, r->offset)->sequence < r->position)
                        r->offset = segment_step(r->segment, r->offset);
        }
        return segment_record(r->segment, r->offset);
}

/* The next record the reader wants, at its position; filtered ones are stepped over. */
static struct record *reader_next(struct reader *r) {
        struct record *record;
        while ((record = reader_record(r)) && !reader_wants(r, record)) {
                r->offset = segment_step(r->segment, r->offset);
                r->position++;
        }
        return record;
}

/* Takes the record at the position from what is waiting. */
static void reader_step(struct reader *r, const struct record *record) {
        assert(r->ledger.waiting >= record->items && r->waiting_bytes >= record->body_bytes);
        r->ledger.waiting -= record->items;
        r->waiting_bytes -= record->body_bytes;
        r->offset = segment_step(r->segment, r->offset);
        r->position++;
}

void reader_offer(struct reader *r, const struct record *record) {
        r->ledger.offered += record->items;
        if (reader_wants(r, record)) {
                if (r->busy_since_ns == 0) {
                        r->busy_since_ns = record->received_ns;
                        r->busy_bytes = 0;
                }
                r->ledger.waiting += record->items;
                r->waiting_bytes += record->body_bytes;
        } else
                r->ledger.filtered += record->items;
}

/* ---- Losing ---- */

static void loss_note(struct loss *loss, const struct record *record) {
        if (loss->records == 0 || record->received_ns < loss->received_min_ns)
                loss->received_min_ns = record->received_ns;
        loss->received_max_ns = TEL_MAX(loss->received_max_ns, record->received_ns);
        loss->records++;
        loss->items += record->items;
        loss->bytes += record->body_bytes;
}

static void reader_lost(struct reader *r, struct loss *loss, enum drop_reason reason, const char *text, uint64_t now_ns) {
        if (loss->records == 0)
                return;
        loss->signal = r->signal;
        loss->reason = reason;
        loss->first_ns = loss->last_ns = now_ns;
        snprintf(loss->destination, sizeof(loss->destination), "%s", r->destination);
        snprintf(loss->text, sizeof(loss->text), "%s", text ? text : "");
        losses_add(&r->spools->losses, loss);
        if (r->spools->events.lost)
                r->spools->events.lost(r->spools->events.ctx, r, loss);
}

/* Gives up the record at the position. */
static void reader_drop(struct reader *r, const struct record *record, enum drop_reason reason, struct loss *loss) {
        loss_note(loss, record);
        r->ledger.dropped[reason] += record->items;
        reader_step(r, record);
}

void reader_trim(struct reader *r, const struct segment *segment, uint64_t now_ns) {
        struct loss loss = { 0 };
        for (size_t offset = 0; offset < segment->used; offset = segment_step(segment, offset)) {
                const struct record *record = segment_record(segment, offset);
                if (record->sequence < r->position || !reader_wants(r, record))
                        continue;
                loss_note(&loss, record);
                r->ledger.dropped[DROP_BUFFER_FULL] += record->items;
                r->ledger.waiting -= record->items;
                r->waiting_bytes -= record->body_bytes;
        }
        /* An unfinished batch may lie before the segment; what lies between it and here was lost already or is in another batch. */
        if (r->position < segment->first_sequence) {
                /* The reader still waits for older, pinned records: they stay, and it steps over the gap when it gets here. */
        } else
                r->position = segment->end_sequence;
        r->segment = NULL;
        r->dropping_until = r->spools->of[r->signal].visible;
        reader_lost(r, &loss, DROP_BUFFER_FULL, NULL, now_ns);
}

/* Drops from the position on until within max_lag.bytes. A burst is no lag: a reader that does not fail has a moment to take it. */
void reader_enforce_lag(struct reader *r, uint64_t now_ns) {
        struct loss loss = { 0 };
        struct record *record;
        if (r->settings.max_lag_bytes == 0 || r->waiting_bytes <= r->settings.max_lag_bytes)
                return;
        if (!r->failed_since_ns && tel_add_sat(reader_oldest_ns(r), READER_BURST_NS) >= now_ns)
                return;
        while (r->waiting_bytes > r->settings.max_lag_bytes && (record = reader_next(r)))
                reader_drop(r, record, DROP_MAX_LAG, &loss);
        r->dropping_until = r->spools->of[r->signal].visible;
        reader_lost(r, &loss, DROP_MAX_LAG, NULL, now_ns);
}

static void expire(struct reader *r, uint64_t limit_ns, enum drop_reason reason, uint64_t now_ns) {
        struct loss loss = { 0 };
        struct record *record;
        while (limit_ns && (record = reader_next(r)) && tel_add_sat(record->received_ns, limit_ns) < now_ns)
                reader_drop(r, record, reason, &loss);
        if (loss.records && r->failed_since_ns)
                r->dropping_until = r->spools->of[r->signal].visible;
        reader_lost(r, &loss, reason, NULL, now_ns);
}

void reader_expire(struct reader *r, uint64_t now_ns) {
        expire(r, r->settings.max_age_ns, DROP_MAX_AGE, now_ns);
        expire(r, r->settings.max_lag_age_ns, DROP_MAX_LAG, now_ns);
        reader_enforce_lag(r, now_ns);
}

struct reader *reader_free(struct reader *r, enum drop_reason reason, uint64_t now_ns) {
        if (!r)
                return NULL;
        assert(!r->flight);
        struct loss loss = { 0 };
        struct record *record;
        while ((record = reader_next(r)))
                reader_drop(r, record, reason, &loss);
        reader_lost(r, &loss, reason, NULL, now_ns);
        for (struct reader **at = &r->spools->of[r->signal].readers; *at; at = &(*at)->next)
                if (*at == r) {
                        *at = r->next;
                        break;
                }
        spools_collect(r->spools);
        free(r);
        return NULL;
}

/* ---- Batches ---- */

static void flight_add(struct reader *r, struct batch *after, struct batch *b) {
        struct batch *last = after;
        if (!after)
                for (last = r->flight; last && last->next; last = last->next)
                        ;
        b->reader = r;
        b->previous = last;
        b->next = last ? last->next : r->flight;
        if (b->next)
                b->next->previous = b;
        if (last)
                last->next = b;
        else
                r->flight = b;
}

static void batch_free(struct batch *b) {
        struct reader *r = b->reader;
        for (size_t i = 0; i < b->n; i++) {
                assert(b->parts[i].segment->pins > 0);
                b->parts[i].segment->pins--;
        }
        if (b->previous)
                b->previous->next = b->next;
        else if (r->flight == b)
                r->flight = b->next;
        if (b->next)
                b->next->previous = b->previous;
        tel_buf_unref(b->own);
        free(b->parts);
        free(b);
}

/* How many records fit, from the position on. Moves nothing. */
static size_t count_fitting(const struct reader *r, const struct record *first, uint64_t items_max, size_t bytes_max) {
        uint64_t items = 0;
        size_t bytes = 0, n = 0;
        const struct segment *seg = r->segment;
        size_t offset = r->offset;
        assert(first == segment_record(seg, offset));
        for (; seg && n < BATCH_RECORDS_MAX; seg = seg->next, offset = 0)
                for (; offset < seg->used && n < BATCH_RECORDS_MAX; offset = segment_step(seg, offset)) {
                        const struct record *record = segment_record(seg, offset);
                        if (record->sequence >= r->spools->of[r->signal].visible)
                                return n;
                        if (!reader_wants(r, record))
                                continue;
                        if (n > 0 && ((items_max && items + record->items > items_max) || (bytes_max && bytes + record->body_bytes > bytes_max)))
                                return n;
                        items += record->items;
                        bytes += record->body_bytes;
                        n++;
                }
        return n;
}

int reader_take(struct reader *r, uint64_t items_max, size_t bytes_max, uint64_t now_ns, struct batch **ret) {
        reader_expire(r, now_ns);
        struct record *record = reader_next(r);
        if (!record)
                return -EAGAIN;
        struct spools *s = r->spools;
        /* One batch is always allowed, or a reader could wait for the others for ever. */
        if (r->flight && s->in_flight_bytes + record->body_bytes > s->budget.limit / READER_IN_FLIGHT_PART)
                return -ENOBUFS;
        size_t n = count_fitting(r, record, items_max, bytes_max);
        struct batch *b = calloc(1, sizeof(*b));
        if (!b)
                return -ENOMEM;
        b->parts = calloc(n, sizeof(*b->parts));
        if (!b->parts) {
                free(b);
                return -ENOMEM;
        }
        while (b->n < n && (record = reader_next(r))) {
                b->parts[b->n++] = (struct batch_part){ record, r->segment };
                r->segment->pins++;
                b->items += record->items;
                b->bytes += record->body_bytes;
                reader_step(r, record);
        }
        if (r->waiting_bytes == 0)
                r->busy_since_ns = 0;
        r->ledger.in_flight += b->items;
        s->in_flight_bytes += b->bytes;
        flight_add(r, NULL, b);
        *ret = b;
        return 0;
}

static void settle_loss(struct reader *r, const struct batch *b, uint64_t items, enum drop_reason reason, const char *text, uint64_t now_ns) {
        struct loss loss = { 0 };
        if (items == 0)
                return;
        for (size_t i = 0; i < b->n; i++)
                loss_note(&loss, b->parts[i].record);
        loss.items = items;
        loss.bytes = b->bytes;
        reader_lost(r, &loss, reason, text, now_ns);
}

void reader_settle(struct reader *r, struct batch *b, const struct settlement *s, uint64_t now_ns) {
        assert(b->reader == r && s->delivered + s->rejected + s->filtered + s->dropped == b->items);
        struct ledger *l = &r->ledger;
        l->in_flight -= b->items;
        l->delivered += s->delivered;
        l->rejected += s->rejected;
        l->filtered += s->filtered;
        l->dropped[s->reason] += s->dropped;
        if (s->dropped && r->failed_since_ns)
                r->dropping_until = r->spools->of[r->signal].visible;
        settle_loss(r, b, s->dropped, s->reason, s->text, now_ns);
        settle_loss(r, b, s->rejected, DROP_REJECTED, s->text, now_ns);
        assert(r->spools->in_flight_bytes >= b->bytes);
        r->spools->in_flight_bytes -= b->bytes;
        r->busy_bytes += b->bytes;
        batch_free(b);
        spools_collect(r->spools);
}

/* A second batch of the same reader, behind the first in flight, with parts [from, n) pinned once more when shared. */
static struct batch *batch_behind(struct batch *b, size_t from, bool shared) {
        struct batch *second = calloc(1, sizeof(*second));
        if (!second)
                return NULL;
        second->n = b->n - from;
        second->parts = calloc(second->n, sizeof(*second->parts));
        if (!second->parts) {
                free(second);
                return NULL;
        }
        memcpy(second->parts, b->parts + from, second->n * sizeof(*second->parts));
        for (size_t i = 0; shared && i < second->n; i++)
                second->parts[i].segment->pins++;
        flight_add(b->reader, b, second);
        return second;
}

int batch_split(struct batch *b, struct batch **ret_second) {
        if (b->n < 2)
                return -EINVAL;
        struct batch *second = batch_behind(b, b->n / 2, false);
        if (!second)
                return -ENOMEM;
        b->n /= 2;
        for (size_t i = 0; i < second->n; i++) {
                second->items += second->parts[i].record->items;
                second->bytes += second->parts[i].record->body_bytes;
        }
        b->items -= second->items;
        b->bytes -= second->bytes;
        *ret_second = second;
        return 0;
}

int batch_split_own(struct batch *b, struct tel_buf *first, uint64_t items_first, struct tel_buf *second_body, struct batch **ret_second) {
        assert(b->n == 1 && items_first <= b->items);
        struct batch *second = batch_behind(b, 0, true);
        if (!second)
                return -ENOMEM;
        second->own = second_body;
        second->items = b->items - items_first;
        second->bytes = second_body->len;
        b->reader->spools->in_flight_bytes += first->len + second_body->len;
        b->reader->spools->in_flight_bytes -= b->bytes;
        tel_buf_unref(b->own);
        b->own = first;
        b->items = items_first;
        b->bytes = first->len;
        *ret_second = second;
        return 0;
}

/* ---- How it does ---- */

void reader_succeeded(struct reader *r) {
        if (r->failed_since_ns) {
                r->flush_until = r->spools->of[r->signal].visible;
                r->dropping_until = 0;
                r->busy_since_ns = 0;              /* an outage says nothing about its pace */
        }
        r->failed_since_ns = 0;
        r->refused = false;
}

void reader_refused(struct reader *r) {
        reader_succeeded(r);
        r->refused = true;
}

void reader_failed(struct reader *r, uint64_t now_ns) {
        if (r->failed_since_ns)
                return;
        r->failed_since_ns = now_ns;
        if (r->position >= r->dropping_until)
                r->dropping_until = 0;             /* an old loss, long caught up with */
}

void reader_resent(struct reader *r, uint64_t items) {
        r->ledger.resent += items;
}

enum reader_state reader_state(const struct reader *r) {
        if (r->failed_since_ns)
                return r->dropping_until > 0 ? READER_DROPPING : READER_BUFFERING;
        if (r->refused)
                return READER_DROPPING;
        if (reader_committed(r) < r->flush_until)
                return READER_FLUSHING;
        return r->position < r->dropping_until ? READER_DROPPING : READER_FLOWING;
}

/* What waits would take longer than READER_DRAIN_NS at the pace so far. */
static bool reader_is_slow(const struct reader *r, uint64_t now_ns) {
        uint64_t busy_ns = now_ns - TEL_MIN(r->busy_since_ns, now_ns);
        if (r->busy_since_ns == 0 || r->waiting_bytes <= TEL_MIN((size_t)READER_PACE_BYTES, r->spools->budget.limit / 8) || busy_ns <= READER_PACE_NS)
                return false;
        return (double)r->waiting_bytes * (double)busy_ns > (double)r->busy_bytes * (double)READER_DRAIN_NS;
}

bool reader_keeps_up(const struct reader *r, uint64_t now_ns) {
        if (r->failed_since_ns || reader_is_slow(r, now_ns))
                return false;
        uint64_t oldest = reader_oldest_ns(r);
        return oldest == 0 || tel_add_sat(oldest, READER_KEEPS_UP_NS) >= now_ns;
}

uint64_t reader_oldest_ns(const struct reader *r) {
        /* Finding the record moves only the cached place, so the reader is the same to everybody outside. */
        const struct record *record = reader_next((struct reader *)r);
        return record ? record->received_ns : 0;
}

uint64_t reader_committed(const struct reader *r) {
        return r->flight ? r->flight->parts[0].record->sequence : r->position;
}

const struct ledger *reader_ledger(const struct reader *r) {
        return &r->ledger;
}

const char *reader_destination(const struct reader *r) {
        return r->destination;
}

enum tel_signal reader_signal(const struct reader *r) {
        return r->signal;
}

size_t reader_waiting_bytes(const struct reader *r) {
        return r->waiting_bytes;
}

uint64_t reader_failed_since_ns(const struct reader *r) {
        return r->failed_since_ns;
}
