/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "collectord/settings.h"
#include "collectord/spool/reader.h"
#include "collectord/spool/spool.h"

#define SECOND TEL_NS_PER_S
static const uint64_t start_ns = 1700000000 * SECOND;

struct heard {
        unsigned appended, lost;
        uint64_t lost_items;
        struct loss last;
};

static void on_appended(void *ctx, enum tel_signal signal) {
        (void)signal;
        ((struct heard *)ctx)->appended++;
}

static void on_lost(void *ctx, const struct reader *r, const struct loss *l) {
        struct heard *h = ctx;
        (void)r;
        h->lost++;
        h->lost_items += l->items;
        h->last = *l;
}

static struct spools *spools_of(size_t memory, size_t history, struct heard *heard) {
        struct spools *s;
        *heard = (struct heard){ 0 };
        struct spools_events events = { .appended = on_appended, .lost = on_lost, .ctx = heard };
        assert_int_equal(spools_new(&(struct spools_settings){ memory, history }, segment_store_memory_new(), &events, &s), 0);
        return s;
}

static struct reader *reader_of(struct spools *s, enum tel_signal signal, const char *name) {
        struct reader *r;
        assert_int_equal(reader_new(s, signal, &(struct reader_settings){ .destination = name, .from = UINT64_MAX }, &r), 0);
        return r;
}

static int append(struct spools *s, enum tel_signal signal, size_t bytes, uint32_t items, uint8_t source, uint64_t now) {
        uint8_t *body;
        spool_begin(s, signal);
        int r = spool_reserve(s, &(struct record){ .signal = signal, .encoding = RECORD_OTLP, .source = source, .body_bytes = (uint32_t)bytes,
                                                   .items = items, .received_ns = now }, now, &body);
        if (r < 0) {
                spool_abort(s);
                return r;
        }
        memset(body, 'x', bytes);
        spool_commit(s, now);
        return 0;
}

/* Appends records of 100 KB until there is no room; gives up, with 0, where there always is. step: between two of them. */
static int fill(struct spools *s, uint64_t *now, uint64_t step) {
        int r = 0;
        for (unsigned i = 0; i < 1000 && r == 0; i++, *now += step)
                r = append(s, TEL_LOGS, 100 << 10, 1, SOURCE_OTLP, *now);
        return r;
}

static void settle(struct reader *r, struct batch *b, uint64_t now) {
        reader_settle(r, b, &(struct settlement){ .delivered = b->items }, now);
}

static void assert_balanced(const struct reader *r) {
        assert_int_equal(ledger_sum(reader_ledger(r)), reader_ledger(r)->offered);
}

/* What is appended is read once, in order, by each reader. */
static void test_two_readers(void **state) {
        (void)state;
        struct heard heard;
        struct spools *s = spools_of(10 << 20, 0, &heard);
        struct reader *a = reader_of(s, TEL_LOGS, "a"), *b = reader_of(s, TEL_LOGS, "b");
        for (uint32_t i = 1; i <= 5; i++)
                assert_int_equal(append(s, TEL_LOGS, 100, i, SOURCE_OTLP, start_ns + i), 0);
        assert_int_equal(heard.appended, 5);
        struct batch *batch;
        assert_int_equal(reader_take(a, 6, 0, start_ns, &batch), 0);
        assert_int_equal(batch->n, 3);             /* 1 + 2 + 3 items */
        assert_int_equal(batch->parts[2].record->sequence, 3);
        settle(a, batch, start_ns);
        assert_int_equal(reader_take(a, 0, 250, start_ns, &batch), 0);
        assert_int_equal(batch->n, 2);
        settle(a, batch, start_ns);
        assert_int_equal(reader_take(a, 0, 0, start_ns, &batch), -EAGAIN);
        assert_int_equal(reader_take(b, 0, 0, start_ns, &batch), 0);
        assert_int_equal(batch->n, 5);
        assert_int_equal(batch->items, 15);
        assert_int_equal(reader_committed(b), 1);
        settle(b, batch, start_ns);
        assert_int_equal(reader_committed(b), 6);
        assert_balanced(a);
        assert_balanced(b);
        reader_free(a, DROP_REMOVED, start_ns);
        reader_free(b, DROP_REMOVED, start_ns);
        spools_free(s);
}

/* An aborted append leaves nothing: not in the spool, not in a ledger, not in the sequence. */
static void test_abort(void **state) {
        (void)state;
        struct heard heard;
        struct spools *s = spools_of(10 << 20, 0, &heard);
        struct reader *r = reader_of(s, TEL_TRACES, "a");
        assert_int_equal(append(s, TEL_TRACES, 1000, 1, SOURCE_OTLP, start_ns), 0);
        uint8_t *body;
        spool_begin(s, TEL_TRACES);
        for (int i = 0; i < 5; i++)                /* across a segment's end */
                assert_int_equal(spool_reserve(s, &(struct record){ .signal = TEL_TRACES, .body_bytes = 500 << 10, .items = 7, .received_ns = start_ns }, start_ns, &body), 0);
        spool_abort(s);
        assert_int_equal(spool_end(s, TEL_TRACES), 2);
        assert_int_equal(reader_ledger(r)->offered, 1);
        assert_int_equal(append(s, TEL_TRACES, 1000, 1, SOURCE_OTLP, start_ns), 0);
        struct batch *batch;
        assert_int_equal(reader_take(r, 0, 0, start_ns, &batch), 0);
        assert_int_equal(batch->n, 2);
        settle(r, batch, start_ns);
        reader_free(r, DROP_REMOVED, start_ns);
        spools_free(s);
}

/* COL-BUF-04: a full spool gives up the oldest, and the ledger says exactly which. */
static void test_drop_oldest(void **state) {
        (void)state;
        struct heard heard;
        struct spools *s = spools_of(4 << 20, 0, &heard);
        struct reader *dead = reader_of(s, TEL_LOGS, "dead");
        reader_failed(dead, start_ns);
        for (uint32_t i = 0; i < 100; i++)
                assert_int_equal(append(s, TEL_LOGS, 100 << 10, 10, SOURCE_OTLP, start_ns + i * SECOND), 0);
        assert_true(spools_budget(s)->used <= 4 << 20);
        assert_true(heard.lost_items > 0);
        assert_balanced(dead);
        assert_int_equal(reader_ledger(dead)->dropped[DROP_BUFFER_FULL], heard.lost_items);
        assert_int_equal(reader_state(dead), READER_DROPPING);
        struct batch *batch;
        assert_int_equal(reader_take(dead, 0, 1, start_ns, &batch), 0);
        /* What is left begins right behind what was lost. */
        assert_int_equal(batch->parts[0].record->received_ns, heard.last.received_max_ns + SECOND);
        assert_int_equal(losses_get(spools_losses(s), 0)->received_min_ns, start_ns);
        uint64_t left = (100 - heard.lost_items / 10);
        assert_int_equal(reader_ledger(dead)->waiting + batch->items, left * 10);
        assert_true(left * (100 << 10) > 5 * (4 << 20) / 10);  /* most of the budget holds records, not overhead */
        settle(dead, batch, start_ns);
        reader_succeeded(dead);
        assert_int_equal(reader_state(dead), READER_FLUSHING);
        while (reader_take(dead, 0, 0, start_ns, &batch) == 0)
                settle(dead, batch, start_ns);
        assert_int_equal(reader_state(dead), READER_FLOWING);
        assert_balanced(dead);
        reader_free(dead, DROP_REMOVED, start_ns);
        spools_free(s);
}

/* A full spool whose readers keep up refuses instead of dropping; one that takes nothing for a while loses. */
static void test_refuse_or_drop(void **state) {
        (void)state;
        struct heard heard;
        struct spools *s = spools_of(4 << 20, 0, &heard);
        struct reader *r = reader_of(s, TEL_LOGS, "a");
        uint64_t now = start_ns;
        assert_int_equal(fill(s, &now, 0), -EAGAIN);
        assert_int_equal(heard.lost, 0);
        assert_int_equal(append(s, TEL_LOGS, 100 << 10, 1, SOURCE_OTLP, start_ns + READER_PACE_NS), -EAGAIN);
        assert_int_equal(append(s, TEL_LOGS, 100 << 10, 1, SOURCE_OTLP, start_ns + READER_PACE_NS + TEL_NS_PER_MS), 0);
        assert_true(heard.lost > 0);
        assert_int_equal(reader_state(r), READER_DROPPING);
        assert_balanced(r);
        assert_int_equal(append(s, TEL_LOGS, 5 << 20, 1, SOURCE_OTLP, start_ns), -EMSGSIZE);
        reader_free(r, DROP_REMOVED, start_ns);
        spools_free(s);
}

/* A destination that answers, but slowly, loses its oldest when the buffer is full; one that is behind a burst for a moment does not. */
static void test_slow_is_not_behind(void **state) {
        (void)state;
        struct heard heard;
        struct spools *s = spools_of(20 << 20, 0, &heard);
        struct reader *r = reader_of(s, TEL_LOGS, "slow");
        struct batch *b;
        uint64_t now = start_ns;
        assert_int_equal(fill(s, &now, TEL_NS_PER_MS), -EAGAIN);       /* 20 MB within 200 ms: a burst */
        for (unsigned i = 0; i < 4; i++) {         /* 200 KB/s */
                assert_int_equal(reader_take(r, 0, 400 << 10, now, &b), 0);
                now += 2 * SECOND;
                settle(r, b, now);
        }
        assert_int_equal(append(s, TEL_LOGS, 100 << 10, 1, SOURCE_OTLP, now), 0);
        assert_int_equal(heard.last.reason, DROP_BUFFER_FULL);
        assert_balanced(r);
        reader_free(r, DROP_REMOVED, now);

        r = reader_of(s, TEL_LOGS, "quick");       /* 4 MB/s */
        heard = (struct heard){ 0 };
        assert_int_equal(fill(s, &now, 0), -EAGAIN);
        for (unsigned i = 0; i < 40; i++) {
                assert_int_equal(reader_take(r, 0, 800 << 10, now, &b), 0);
                now += SECOND / 5;
                settle(r, b, now);
                assert_int_equal(fill(s, &now, 0), -EAGAIN);
        }
        assert_int_equal(heard.lost, 0);
        reader_free(r, DROP_REMOVED, now);
        spools_free(s);
}

/* A dead reader never costs a healthy one a record, and bytes in flight stay. */
static void test_independent(void **state) {
        (void)state;
        struct heard heard;
        struct spools *s = spools_of(4 << 20, 0, &heard);
        struct reader *dead = reader_of(s, TEL_TRACES, "dead"), *well = reader_of(s, TEL_TRACES, "well");
        reader_failed(dead, start_ns);
        struct batch *pinned = NULL, *batch;
        for (uint32_t i = 0; i < 200; i++) {
                assert_int_equal(append(s, TEL_TRACES, 50 << 10, 1, SOURCE_OTLP, start_ns + i * SECOND), 0);
                if (i == 0)
                        assert_int_equal(reader_take(dead, 0, 0, start_ns, &pinned), 0);
                assert_int_equal(reader_take(well, 0, 0, start_ns + i * SECOND, &batch), 0);
                assert_int_equal(batch->n, 1);
                settle(well, batch, start_ns);
        }
        assert_int_equal(reader_ledger(well)->delivered, 200);
        assert_int_equal(pinned->parts[0].record->sequence, 1);
        assert_int_equal(pinned->parts[0].record->body[49 << 10], 'x');
        assert_int_equal(reader_committed(dead), 1);
        settle(dead, pinned, start_ns);
        assert_balanced(dead);
        reader_free(dead, DROP_REMOVED, start_ns);
        reader_free(well, DROP_REMOVED, start_ns);
        spools_free(s);
}

/* The spool with the oldest head is trimmed, whichever signal asks for room. */
static void test_oldest_of_all(void **state) {
        (void)state;
        struct heard heard;
        struct spools *s = spools_of(4 << 20, 0, &heard);
        struct reader *logs = reader_of(s, TEL_LOGS, "d"), *traces = reader_of(s, TEL_TRACES, "d");
        reader_failed(logs, start_ns);
        reader_failed(traces, start_ns);
        assert_int_equal(append(s, TEL_LOGS, 100, 3, SOURCE_OTLP, start_ns), 0);
        for (uint32_t i = 1; heard.lost == 0; i++)
                assert_int_equal(append(s, TEL_TRACES, 50 << 10, 1, SOURCE_OTLP, start_ns + i), 0);
        const struct loss *first = losses_get(spools_losses(s), 0);
        assert_int_equal(first->signal, TEL_LOGS);
        assert_int_equal(first->items, 3);
        assert_int_equal(append(s, TEL_LOGS, 100, 1, SOURCE_OTLP, start_ns + SECOND), 0);
        assert_int_equal(reader_ledger(logs)->waiting, 1);
        assert_balanced(logs);
        reader_free(logs, DROP_REMOVED, start_ns);
        reader_free(traces, DROP_REMOVED, start_ns);
        spools_free(s);
}

/* Read records stay while bytes are free, up to the history, and go before anything unread does. */
static void test_history(void **state) {
        (void)state;
        struct heard heard;
        struct spools *s = spools_of(8 << 20, 4 << 20, &heard);
        struct reader *r = reader_of(s, TEL_LOGS, "a");
        struct batch *batch;
        for (uint32_t i = 0; i < 100; i++) {
                assert_int_equal(append(s, TEL_LOGS, 100 << 10, 1, SOURCE_OTLP, start_ns + i), 0);
                assert_int_equal(reader_take(r, 0, 0, start_ns, &batch), 0);
                settle(r, batch, start_ns);
        }
        struct spool_stats stats;
        spool_get_stats(s, TEL_LOGS, &stats);
        assert_in_range(stats.bytes, 3 << 20, 4 << 20);
        reader_failed(r, start_ns);
        for (uint32_t i = 0; i < 60; i++)
                assert_int_equal(append(s, TEL_LOGS, 100 << 10, 1, SOURCE_OTLP, start_ns + 1000 + i), 0);
        assert_int_equal(heard.lost, 0);
        reader_free(r, DROP_REMOVED, start_ns);
        assert_int_equal(heard.lost, 1);
        assert_int_equal(heard.last.reason, DROP_REMOVED);
        spools_free(s);
}

/* max_lag by bytes and age, max_age, and `from`: each with its own place in the ledger. */
static void test_bounds(void **state) {
        (void)state;
        struct heard heard;
        struct spools *s = spools_of(8 << 20, 0, &heard);
        struct reader *r;
        assert_int_equal(reader_new(s, TEL_LOGS, &(struct reader_settings){ .destination = "local", .from = 1 << SOURCE_OTLP,
                .max_lag_bytes = 1000, .max_lag_age_ns = 30 * SECOND, .max_age_ns = 3600 * SECOND }, &r), 0);
        for (uint32_t i = 0; i < 15; i++)
                assert_int_equal(append(s, TEL_LOGS, 100, 1, SOURCE_OTLP, start_ns), 0);
        assert_int_equal(append(s, TEL_LOGS, 100, 4, SOURCE_FRAMES, start_ns), 0);
        const struct ledger *l = reader_ledger(r);
        reader_expire(r, start_ns + READER_BURST_NS);
        assert_int_equal(l->waiting, 15);          /* a burst, and it does not fail */
        reader_failed(r, start_ns);
        reader_expire(r, start_ns);
        assert_int_equal(l->dropped[DROP_MAX_LAG], 5);
        assert_int_equal(l->filtered, 4);
        assert_int_equal(l->waiting, 10);
        reader_expire(r, start_ns + 30 * SECOND);
        assert_int_equal(l->waiting, 10);
        reader_expire(r, start_ns + 31 * SECOND);
        assert_int_equal(l->waiting, 0);
        assert_int_equal(l->dropped[DROP_MAX_LAG], 15);
        assert_int_equal(append(s, TEL_LOGS, 100, 1, SOURCE_OTLP, start_ns), 0);
        reader_expire(r, start_ns + 3601 * SECOND);
        assert_int_equal(l->dropped[DROP_MAX_AGE], 1);
        assert_balanced(r);
        reader_free(r, DROP_REMOVED, start_ns);
        spools_free(s);
}

/* Splitting keeps order, items and pins. */
static void test_split(void **state) {
        (void)state;
        struct heard heard;
        struct spools *s = spools_of(8 << 20, 0, &heard);
        struct reader *r = reader_of(s, TEL_LOGS, "a");
        struct batch *first, *second, *third;
        for (uint32_t i = 0; i < 5; i++)
                assert_int_equal(append(s, TEL_LOGS, 100, i + 1, SOURCE_OTLP, start_ns), 0);
        assert_int_equal(reader_take(r, 0, 0, start_ns, &first), 0);
        assert_int_equal(batch_split(first, &second), 0);
        assert_int_equal(first->items, 3);
        assert_int_equal(second->items, 12);
        assert_int_equal(second->parts[0].record->sequence, 3);
        assert_int_equal(batch_split(first, &third), 0);
        assert_int_equal(batch_split(first, &third), -EINVAL);
        assert_int_equal(third->items, 2);
        settle(r, first, start_ns);
        assert_int_equal(reader_committed(r), 2);
        struct tel_buf *one = tel_buf_new(NULL, 10), *two = tel_buf_new(NULL, 10);
        struct batch *fourth;
        assert_int_equal(batch_split_own(third, one, 1, two, &fourth), 0);
        assert_int_equal(fourth->items, 1);
        settle(r, third, start_ns);
        assert_int_equal(reader_committed(r), 2);
        reader_settle(r, fourth, &(struct settlement){ .dropped = 1, .reason = DROP_REFUSED, .text = "HTTP 400" }, start_ns);
        assert_int_equal(reader_committed(r), 3);
        assert_string_equal(heard.last.text, "HTTP 400");
        settle(r, second, start_ns);
        assert_balanced(r);
        assert_int_equal(reader_ledger(r)->delivered, 14);
        reader_free(r, DROP_REMOVED, start_ns);
        spools_free(s);
}

/* The law of conservation over a long random life: readers that fail, lag, split, come and go, in a small budget. */
static void test_conservation(void **state) {
        (void)state;
        struct heard heard;
        struct spools *s = spools_of(3 << 20, 1 << 20, &heard);
        enum { READERS = 5 };
        struct reader *r[READERS] = { NULL };
        struct batch *flight[READERS][4] = { { NULL } };
        uint64_t now = start_ns, refused = 0;
        srand(7);
        for (unsigned step = 0; step < 60000; step++) {
                unsigned i = (unsigned)rand() % READERS, k = (unsigned)rand() % 4;
                now += (uint64_t)(rand() % 200) * TEL_NS_PER_MS;
                if (!r[i])
                        assert_int_equal(reader_new(s, (enum tel_signal)(i % 3), &(struct reader_settings){ .destination = "x", .from = i == 1 ? 1 : 3,
                                .max_lag_bytes = i == 2 ? 300000 : 0, .max_lag_age_ns = i == 3 ? 20 * SECOND : 0 }, &r[i]), 0);
                switch (rand() % 6) {
                case 0: case 1: {
                        int got = append(s, (enum tel_signal)(rand() % 3), (size_t)(rand() % 60000), (uint32_t)(rand() % 50), (uint8_t)(rand() % 2), now);
                        assert_true(got == 0 || got == -EAGAIN);
                        refused += got != 0;
                        break;
                }
                case 2:
                        if (!flight[i][k])
                                (void)reader_take(r[i], (uint64_t)(rand() % 500), (size_t)(rand() % 200000), now, &flight[i][k]);
                        break;
                case 3:
                        if (flight[i][k]) {
                                uint64_t items = flight[i][k]->items, lost = items / 3;
                                reader_settle(r[i], flight[i][k], &(struct settlement){ .delivered = items - lost, .dropped = lost, .reason = DROP_REFUSED }, now);
                                flight[i][k] = NULL;
                        }
                        break;
                case 4:
                        if (rand() % 2)
                                reader_failed(r[i], now);
                        else
                                reader_succeeded(r[i]);
                        break;
                default:
                        if (flight[i][k] && !flight[i][(k + 1) % 4])
                                (void)batch_split(flight[i][k], &flight[i][(k + 1) % 4]);
                        else if (rand() % 500 == 0) {
                                for (k = 0; k < 4; k++)
                                        if (flight[i][k]) {
                                                settle(r[i], flight[i][k], now);
                                                flight[i][k] = NULL;
                                        }
                                r[i] = reader_free(r[i], DROP_REMOVED, now);
                        }
                }
                assert_true(spools_budget(s)->used <= 3 << 20);
                for (i = 0; i < READERS; i++)
                        if (r[i]) {
                                assert_balanced(r[i]);
                                (void)reader_oldest_ns(r[i]);
                        }
        }
        assert_true(heard.lost_items > 1000);
        assert_true(refused > 0);
        for (unsigned i = 0; i < READERS; i++) {
                for (unsigned k = 0; k < 4; k++)
                        if (flight[i][k])
                                settle(r[i], flight[i][k], now);
                reader_free(r[i], DROP_REMOVED, now);
        }
        spools_free(s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_two_readers), cmocka_unit_test(test_abort), cmocka_unit_test(test_drop_oldest),
                cmocka_unit_test(test_refuse_or_drop), cmocka_unit_test(test_slow_is_not_behind), cmocka_unit_test(test_independent), cmocka_unit_test(test_oldest_of_all),
                cmocka_unit_test(test_history), cmocka_unit_test(test_bounds), cmocka_unit_test(test_split),
                cmocka_unit_test(test_conservation),
        };
        return cmocka_run_group_tests_name("spool", tests, NULL, NULL);
}
