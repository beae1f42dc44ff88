/* SPDX-License-Identifier: Apache-2.0 */
#include "collectord/spool/spool_private.h"

int spools_new(const struct spools_settings *settings, struct segment_store *store, const struct spools_events *events, struct spools **ret) {
        struct spools *s = calloc(1, sizeof(*s));
        if (!s)
                return -ENOMEM;
        s->store = store;
        s->events = *events;
        spools_resize(s, settings);
        for (size_t i = 0; i < TEL_SIGNALS; i++)
                s->of[i].end = s->of[i].visible = 1;
        *ret = s;
        return 0;
}

void spools_resize(struct spools *s, const struct spools_settings *settings) {
        s->budget.limit = settings->memory_bytes;
        s->history_bytes = settings->history_bytes;
}

static void segment_close(struct spools *s, struct spool *spool, struct segment *seg) {
        assert(seg->pins == 0);
        if (seg->previous)
                seg->previous->next = seg->next;
        else
                spool->head = seg->next;
        if (seg->next)
                seg->next->previous = seg->previous;
        else
                spool->tail = seg->previous;
        for (struct reader *r = spool->readers; r; r = r->next)
                if (r->segment == seg)
                        r->segment = NULL;
        if (s->append.open && seg == s->append.tail) {     /* nothing was written into it yet: the append begins behind its neighbour */
                s->append.tail = seg->previous;
                s->append.used = seg->previous ? seg->previous->used : 0;
        }
        tel_budget_credit(&s->budget, seg->charged);
        s->store->close(s->store, seg);
}

struct spools *spools_free(struct spools *s) {
        if (!s)
                return NULL;
        for (size_t i = 0; i < TEL_SIGNALS; i++) {
                assert(!s->of[i].readers);
                while (s->of[i].head)
                        segment_close(s, &s->of[i], s->of[i].head);
        }
        s->store->free(s->store);
        free(s);
        return NULL;
}

/* ---- What may go ---- */

/* Every reader is done with it: it is history. */
static bool segment_is_read(const struct spool *spool, const struct segment *seg) {
        if (seg->pins > 0)
                return false;
        for (const struct reader *r = spool->readers; r; r = r->next)
                if (r->position < seg->end_sequence)
                        return false;
        return true;
}

/* The open append wrote into it, and may yet be undone. */
static bool segment_in_append(const struct spools *s, const struct spool *spool, const struct segment *seg) {
        if (!s->append.open || spool != &s->of[s->append.signal])
                return false;
        return seg->first_sequence >= spool->visible || (seg == s->append.tail && seg->used > s->append.used);
}

/* The oldest history segment of all spools; *ret_bytes: all history. */
static struct segment *history_oldest(struct spools *s, size_t *ret_bytes, struct spool **ret_spool) {
        struct segment *oldest = NULL;
        size_t bytes = 0;
        for (size_t i = 0; i < TEL_SIGNALS; i++) {
                struct spool *spool = &s->of[i];
                for (struct segment *seg = spool->head; seg && segment_is_read(spool, seg); seg = seg->next) {
                        if (segment_in_append(s, spool, seg))
                                break;
                        bytes += seg->charged;
                        if (seg == spool->head && (!oldest || segment_record(seg, 0)->received_ns < segment_record(oldest, 0)->received_ns)) {
                                oldest = seg;
                                *ret_spool = spool;
                        }
                }
        }
        if (ret_bytes)
                *ret_bytes = bytes;
        return oldest;
}

void spools_collect(struct spools *s) {
        for (;;) {
                size_t bytes;
                struct spool *spool;
                struct segment *seg = history_oldest(s, &bytes, &spool);
                if (!seg || bytes <= s->history_bytes)
                        return;
                segment_close(s, spool, seg);
        }
}

/* No reader that keeps up still needs it. */
static bool segment_may_be_trimmed(const struct spools *s, const struct spool *spool, const struct segment *seg, uint64_t now_ns) {
        if (seg->pins > 0 || segment_in_append(s, spool, seg))
                return false;
        for (const struct reader *r = spool->readers; r; r = r->next)
                if (r->position < seg->end_sequence && reader_keeps_up(r, now_ns))
                        return false;
        return true;
}

/* Gives up the oldest segment that may go. Returns false when there is none. */
static bool trim_oldest(struct spools *s, uint64_t now_ns) {
        struct segment *oldest = NULL;
        struct spool *from = NULL;
        for (size_t i = 0; i < TEL_SIGNALS; i++) {
                struct segment *seg = s->of[i].head;
                while (seg && !segment_may_be_trimmed(s, &s->of[i], seg, now_ns))
                        seg = seg->next;
                if (seg && (!oldest || segment_record(seg, 0)->received_ns < segment_record(oldest, 0)->received_ns)) {
                        oldest = seg;
                        from = &s->of[i];
                }
        }
        if (!oldest)
                return false;
        for (struct reader *r = from->readers; r; r = r->next)
                if (r->position < oldest->end_sequence)
                        reader_trim(r, oldest, now_ns);
        segment_close(s, from, oldest);
        return true;
}

/* Charges bytes to the budget, making room as the header says. */
static int charge(struct spools *s, size_t bytes, uint64_t now_ns) {
        while (!tel_budget_charge(&s->budget, bytes)) {
                struct spool *spool;
                struct segment *seg = history_oldest(s, NULL, &spool);
                if (seg)
                        segment_close(s, spool, seg);
                else if (!trim_oldest(s, now_ns) && !(s->events.release && s->events.release(s->events.ctx)))
                        return -EAGAIN;
        }
        return 0;
}

/* ---- Appending ---- */

void spool_begin(struct spools *s, enum tel_signal signal) {
        assert(!s->append.open);
        struct segment *tail = s->of[signal].tail;
        s->append.open = true;
        s->append.signal = signal;
        s->append.tail = tail;
        s->append.used = tail ? tail->used : 0;
        s->append.items = 0;
}

/* Makes the segment's charge cover used bytes. It must not go itself while room is made for it. */
static int segment_charge(struct spools *s, struct segment *seg, size_t used, uint64_t now_ns) {
        size_t charged = sizeof(*seg) + tel_align(used, SEGMENT_PAGE);
        if (charged <= seg->charged)
                return 0;
        seg->pins++;
        int r = charge(s, charged - seg->charged, now_ns);
        seg->pins--;
        if (r == 0)
                seg->charged = charged;
        return r;
}

/* A new tail with room for one record of size bytes, charged for it. */
static int segment_open(struct spools *s, struct spool *spool, size_t size, uint64_t now_ns, struct segment **ret) {
        struct segment *seg;
        int r = s->store->open(s->store, size, &seg);
        if (r < 0)
                return r;
        seg->first_sequence = seg->end_sequence = spool->end;
        r = segment_charge(s, seg, size, now_ns);
        if (r < 0) {
                s->store->close(s->store, seg);
                return r;
        }
        seg->previous = spool->tail;               /* linked only now: making room must not find an empty segment */
        if (spool->tail)
                spool->tail->next = seg;
        else
                spool->head = seg;
        spool->tail = seg;
        *ret = seg;
        return 0;
}

int spool_reserve(struct spools *s, const struct record *head, uint64_t now_ns, uint8_t **ret_body) {
        assert(s->append.open && head->signal == s->append.signal);
        struct spool *spool = &s->of[head->signal];
        size_t size = record_size(head->body_bytes);
        if (size + sizeof(struct segment) + SEGMENT_PAGE > s->budget.limit)
                return -EMSGSIZE;
        struct segment *seg = spool->tail;
        /* The sequences inside a segment have no gap, so nothing is appended to one whose successor was trimmed. A tail that cannot grow within the
         * budget may be what has to go: then the record opens a segment of its own. */
        if (!seg || seg->capacity - seg->used < size || seg->end_sequence != spool->end || segment_charge(s, seg, seg->used + size, now_ns) < 0) {
                int r = segment_open(s, spool, size, now_ns, &seg);
                if (r < 0)
                        return r;
        }
        struct record *record = segment_record(seg, seg->used);
        *record = *head;
        record->sequence = spool->end++;
        record->zero = 0;
        seg->used += size;
        seg->end_sequence = spool->end;
        s->append.items += head->items;
        *ret_body = record->body;
        return 0;
}

void spool_commit(struct spools *s, uint64_t now_ns) {
        assert(s->append.open);
        struct spool *spool = &s->of[s->append.signal];
        enum tel_signal signal = s->append.signal;
        bool any = spool->end > spool->visible;
        struct segment *seg = s->append.tail ? s->append.tail : spool->head;
        size_t offset = s->append.tail ? s->append.used : 0;
        for (; seg; seg = seg->next, offset = 0)
                for (; offset < seg->used; offset = segment_step(seg, offset))
                        for (struct reader *r = spool->readers; r; r = r->next)
                                reader_offer(r, segment_record(seg, offset));
        spool->appended_items += s->append.items;
        spool->visible = spool->end;
        s->append.open = false;
        for (struct reader *r = spool->readers; r; r = r->next)
                reader_enforce_lag(r, now_ns);
        spools_collect(s);
        if (any && s->events.appended)
                s->events.appended(s->events.ctx, signal);
}

void spool_abort(struct spools *s) {
        assert(s->append.open);
        struct spool *spool = &s->of[s->append.signal];
        struct segment *tail = s->append.tail;
        s->append.open = false;
        while (spool->tail && spool->tail != tail)
                segment_close(s, spool, spool->tail);
        if (tail && tail->used > s->append.used) {
                tail->used = s->append.used;       /* the pages stay charged: they were written */
                tail->end_sequence = spool->visible;
        }
        spool->end = spool->visible;
}

/* ---- Looking ---- */

size_t spools_lag(const struct spools *s, uint64_t now_ns) {
        size_t lag = 0;
        for (size_t i = 0; i < TEL_SIGNALS; i++)
                for (const struct reader *r = s->of[i].readers; r; r = r->next)
                        if (r->waiting_bytes > lag && reader_keeps_up(r, now_ns) && reader_state(r) == READER_FLOWING)
                                lag = r->waiting_bytes;
        return lag;
}

int spool_walk(const struct spools *s, enum tel_signal signal, uint64_t from, spool_walk_fn fn, void *ctx) {
        const struct spool *spool = &s->of[signal];
        for (const struct segment *seg = spool->head; seg; seg = seg->next) {
                if (seg->end_sequence <= from)
                        continue;
                for (size_t offset = 0; offset < seg->used; offset = segment_step(seg, offset)) {
                        const struct record *record = segment_record(seg, offset);
                        int r = record->sequence >= from ? fn(ctx, record) : 0;
                        if (r != 0)
                                return r;
                }
        }
        return 0;
}

uint64_t spool_end(const struct spools *s, enum tel_signal signal) {
        return s->of[signal].visible;
}

void spool_get_stats(const struct spools *s, enum tel_signal signal, struct spool_stats *ret) {
        const struct spool *spool = &s->of[signal];
        *ret = (struct spool_stats){ .appended_records = spool->visible - 1, .appended_items = spool->appended_items };
        for (const struct segment *seg = spool->head; seg; seg = seg->next) {
                ret->bytes += seg->charged;
                ret->segments++;
                ret->records += seg->end_sequence - seg->first_sequence;
        }
        if (spool->head)
                ret->oldest_ns = segment_record(spool->head, 0)->received_ns;
}

const struct tel_budget *spools_budget(const struct spools *s) {
        return &s->budget;
}

const struct losses *spools_losses(const struct spools *s) {
        return &s->losses;
}
