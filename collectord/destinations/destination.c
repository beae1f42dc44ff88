/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <sys/random.h>

#include "collectord/clock.h"
#include "collectord/destinations/batch.h"
#include "collectord/destinations/destination.h"
#include "collectord/destinations/retry.h"
#include "libtelemetry/log.h"

#define EGRESS_WAIT_NS (100 * TEL_NS_PER_MS)       /* before a body is tried again that found no room in the egress budget */
/* Between two requests that are due by time alone: at a timeout of 0 a request for each record would cost more than the records. Far below what anybody
 * waits for: COL-BAT-02 wants 200 ms, design.md 20 ms with a hung remote. */
#define SPACING_NS (8 * TEL_NS_PER_MS)
#define PATIENCE 8                                 /* answers of "not now" to one shipment, some minutes, before others are tried in its place */
#define SHIPMENTS_MAX(d) ((unsigned)(d)->in_flight + 4)        /* of a lane; what a failing one may pin */
#define LEARNED_TRIES 16                           /* accepted requests before twice what a 413 taught is tried */
#define REFUSALS_MAX 24                            /* 400s in a row, none accepted between: more than bisecting one bad item of 2,000 takes */
#define REFUSAL_REST_NS (60 * TEL_NS_PER_S)        /* so long a 400 is then taken as meant for the whole batch */
#define BATCH_BYTES_MIN 1024u                      /* what a receiver's 413 teaches goes no lower */

/* One request: a batch on its way. */
enum shipment_state {
        SHIPMENT_NONE,                             /* no such step */
        SHIPMENT_READY,                            /* to be sent */
        SHIPMENT_SENDING,
        SHIPMENT_WAITING,                          /* failed; to be sent again when the lane's pause is over */
        SHIPMENT_OVER,                             /* settled; the struct is gone */
        SHIPMENT_STATES,
};
enum shipment_event { SHIPMENT_ON_SEND, SHIPMENT_ON_FAILED, SHIPMENT_ON_SPLIT, SHIPMENT_ON_CANCEL, SHIPMENT_ON_SETTLED, SHIPMENT_EVENTS };

/* Row: where it is. Column: what happened. */
static const enum shipment_state shipment_next[SHIPMENT_STATES][SHIPMENT_EVENTS] = {
        [SHIPMENT_READY] = { [SHIPMENT_ON_SEND] = SHIPMENT_SENDING, [SHIPMENT_ON_SETTLED] = SHIPMENT_OVER, [SHIPMENT_ON_FAILED] = SHIPMENT_WAITING },
        [SHIPMENT_SENDING] = { [SHIPMENT_ON_FAILED] = SHIPMENT_WAITING, [SHIPMENT_ON_SPLIT] = SHIPMENT_READY, [SHIPMENT_ON_CANCEL] = SHIPMENT_WAITING,
                               [SHIPMENT_ON_SETTLED] = SHIPMENT_OVER },
        [SHIPMENT_WAITING] = { [SHIPMENT_ON_SEND] = SHIPMENT_SENDING, [SHIPMENT_ON_FAILED] = SHIPMENT_WAITING, [SHIPMENT_ON_SETTLED] = SHIPMENT_OVER },
};

struct lane;

struct shipment {
        struct shipment *next;                     /* of its lane, oldest first */
        struct lane *lane;
        struct batch *batch;
        struct body body;                          /* while SENDING: what waits holds no memory but its pins */
        struct transfer *transfer;                 /* while SENDING */
        enum shipment_state state;
        uint64_t first_ns;                         /* of the first attempt; 0: none yet */
        unsigned turned_away;                      /* answered, but with "not now" */
        uint64_t not_before_ns;                    /* after PATIENCE of them others go first, in case it is this one that cannot pass */
        bool heard;                                /* bytes of it went out in an attempt that failed: the receiver may have it */
};

/* One signal of a destination. */
struct lane {
        struct destination *destination;
        enum tel_signal signal;
        struct reader *reader;
        struct endpoint *endpoint;
        uv_timer_t timer;
        uint64_t timer_ns;                         /* when it fires; 0: not armed */
        struct retry retry;
        struct shipment *shipments;
        uint64_t taken_ns;                         /* when the last batch was taken */
        uint64_t egress_until_ns;                  /* no room for a body before */
        size_t bytes_max_learned;                  /* by 413; 0: nothing learned */
        unsigned learned_accepted;                 /* requests accepted since */
        unsigned refusals;                         /* 400s since the last accepted request */
        uint64_t refusal_rest_ns;                  /* no splitting for 400 before */
        bool stopped;                              /* while stopping: its attempt failed, it will not try again */
        enum reader_state shown;                   /* the state that was last told */
        struct destination_stats stats;
        struct tel_log_repeat failed_log, refused_log, partial_log, egress_log;
};

struct destination {
        struct destination *next;
        struct destinations *all;
        const struct destination_settings *settings;
        char name[LOSS_DESTINATION];
        struct lane *lanes[TEL_SIGNALS];
        struct transfer *probe;                    /* the connection test */
        bool keep;                                 /* while configuring */
};

struct destinations {
        struct destinations_options options;
        struct transfers *transfers;
        struct encoder *encoder;
        struct destination *first;
        void (*flushed)(void *ctx);                /* set while stopping */
        void *flushed_ctx;
};

static void lane_pump(struct lane *l);

/* For log lines: a destination may have URLs for single signals only. */
static const char *shown_url(const struct destination_settings *d) {
        for (enum tel_signal s = 0; !*d->url && s < TEL_SIGNALS; s++)
                if (d->urls[s] && *d->urls[s])
                        return d->urls[s];
        return d->url;
}

/* ---- States ---- */

static void shipment_step(struct shipment *s, enum shipment_event event) {     /* the only writer of s->state */
        enum shipment_state to = shipment_next[s->state][event];
        assert(to != SHIPMENT_NONE);
        s->state = to;
}

static void lane_show_state(struct lane *l) {
        enum reader_state now = reader_state(l->reader);
        if (now == l->shown)
                return;
        char waiting[32];
        bool bad = now == READER_BUFFERING || now == READER_DROPPING;
        tel_log(bad ? TEL_LOG_WARN : TEL_LOG_INFO, "destination state", { "destination", l->destination->name },
                { "signal", tel_signal_name(l->signal) }, { "from", reader_state_name(l->shown) }, { "to", reader_state_name(now) },
                { "waiting", TEL_LOGF(waiting, "%llu", (unsigned long long)reader_ledger(l->reader)->waiting) },
                { bad ? "err" : "url", bad ? l->stats.last_error : shown_url(l->destination->settings) });
        l->shown = now;
        if (l->destination->all->options.state_changed)
                l->destination->all->options.state_changed(l->destination->all->options.ctx);
}

/* ---- Shipments ---- */

static struct shipment *shipment_new(struct lane *l, struct shipment *after, struct batch *batch) {
        struct shipment *s = calloc(1, sizeof(*s));
        if (!s)
                return NULL;
        s->lane = l;
        s->batch = batch;
        s->state = SHIPMENT_READY;
        struct shipment **at = after ? &after->next : &l->shipments;
        while (!after && *at)
                at = &(*at)->next;
        s->next = *at;
        *at = s;
        return s;
}

/* Settles the batch and ends the shipment. */
static void shipment_end(struct shipment *s, const struct settlement *settlement) {
        struct lane *l = s->lane;
        shipment_step(s, SHIPMENT_ON_SETTLED);
        for (struct shipment **at = &l->shipments; *at; at = &(*at)->next)
                if (*at == s) {
                        *at = s->next;
                        break;
                }
        body_done(&s->body);
        reader_settle(l->reader, s->batch, settlement, clock_now_ns());
        free(s);
}

static void shipment_drop(struct shipment *s, enum drop_reason reason, const char *text) {
        uint64_t filtered = s->body.filtered;      /* 0 when it waits: what would have been filtered is dropped with the rest */
        shipment_end(s, &(struct settlement){ .dropped = s->batch->items - filtered, .filtered = filtered, .reason = reason, .text = text });
}

/* ---- Answers ---- */

static void note_failure(struct lane *l, const char *text, uint64_t now) {
        l->stats.failures++;
        l->stats.last_failure_ns = now;
        snprintf(l->stats.last_error, sizeof(l->stats.last_error), "%s", text);
}

static void on_sent(struct shipment *s, const struct transfer_result *r, uint64_t now) {
        struct lane *l = s->lane;
        char message[200], count[24];
        uint64_t rejected;
        decode_otlp_answer(r->answer, r->answer_bytes, &rejected, message, sizeof(message));
        rejected = TEL_MIN(rejected, s->body.items);
        if (rejected > 0 || message[0])
                tel_log_repeated(&l->partial_log, now, rejected ? TEL_LOG_WARN : TEL_LOG_INFO, "partial success", { "destination", l->destination->name },
                                 { "signal", tel_signal_name(l->signal) }, { "rejected", TEL_LOGF(count, "%llu", (unsigned long long)rejected) },
                                 { "message", message });
        l->stats.last_success_ns = now;
        l->refusals = 0;
        if (l->bytes_max_learned && ++l->learned_accepted >= LEARNED_TRIES) {
                l->learned_accepted = 0;
                l->bytes_max_learned = l->bytes_max_learned > SIZE_MAX / 4 ? 0 : 2 * l->bytes_max_learned;
        }
        retry_succeeded(&l->retry);
        shipment_end(s, &(struct settlement){ .delivered = s->body.items - rejected, .rejected = rejected, .filtered = s->body.filtered, .text = message });
        reader_succeeded(l->reader);
}

static void on_failed(struct shipment *s, const char *text, uint64_t after_ns, uint64_t now) {
        struct lane *l = s->lane;
        const struct destination_settings *d = l->destination->settings;
        uint32_t random;
        if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
                random = (uint32_t)now;
        note_failure(l, text, now);
        reader_failed(l->reader, now);
        l->retry.initial_ns = d->retry.initial_ns;
        l->retry.max_ns = d->retry.max_ns;
        retry_failed(&l->retry, now, after_ns, random);
        tel_log_repeated(&l->failed_log, now, TEL_LOG_WARN, "sending failed, will retry", { "destination", l->destination->name },
                         { "signal", tel_signal_name(l->signal) }, { "url", shown_url(d) }, { "err", text });
        l->stopped = l->destination->all->flushed != NULL;
        if (d->retry.give_up_ns != SETTINGS_NEVER && tel_add_sat(s->first_ns, d->retry.give_up_ns) <= now) {
                shipment_drop(s, DROP_GIVE_UP, text);
                return;
        }
        body_done(&s->body);                       /* made again at the next attempt: a destination that is down must not hold the egress of others */
        if (s->turned_away >= PATIENCE && d->in_flight > 1)    /* with one in flight the order matters more */
                s->not_before_ns = now + d->retry.max_ns;
        shipment_step(s, SHIPMENT_ON_FAILED);
}

static void on_refused(struct shipment *s, enum drop_reason reason, const struct transfer_result *r, uint64_t now) {
        struct lane *l = s->lane;
        char items[24], text[TRANSFER_TEXT + 64];
        size_t printable = 0;
        while (printable < TEL_MIN(r->answer_bytes, (size_t)60) && r->answer[printable] >= 0x20 && r->answer[printable] < 0x7f)
                printable++;
        snprintf(text, sizeof(text), "%s%s%.*s", r->text, printable ? ": " : "", (int)printable, (const char *)r->answer);
        note_failure(l, r->text, now);
        tel_log_repeated(&l->refused_log, now, TEL_LOG_ERROR, "refused, dropping data", { "destination", l->destination->name },
                         { "signal", tel_signal_name(l->signal) }, { "url", shown_url(l->destination->settings) },
                         { "items", TEL_LOGF(items, "%llu", (unsigned long long)s->batch->items) }, { "err", text });
        retry_succeeded(&l->retry);
        shipment_drop(s, reason, text);
        reader_refused(l->reader);
}

/* Halves the batch. Returns 0, -EINVAL when it holds a single item, or -ENOMEM/-ENOBUFS. */
static int shipment_split(struct shipment *s) {
        struct lane *l = s->lane;
        struct batch *second;
        int r = batch_split(s->batch, &second);
        if (r == -EINVAL) {
                struct tel_buf *one, *two;
                uint64_t items;
                r = encode_otlp_halves(s->batch, &one, &items, &two);
                if (r == 0) {
                        r = batch_split_own(s->batch, one, items, two, &second);
                        if (r < 0) {
                                tel_buf_unref(one);
                                tel_buf_unref(two);
                        }
                }
        }
        if (r < 0)
                return r;
        body_done(&s->body);
        l->stats.splits++;
        struct shipment *behind = shipment_new(l, s, second);
        if (!behind) {
                reader_settle(l->reader, second, &(struct settlement){ .dropped = second->items, .reason = DROP_REFUSED, .text = "out of memory" }, clock_now_ns());
                return 0;
        }
        behind->first_ns = s->first_ns;
        return 0;
}

static void on_split(struct shipment *s, const struct transfer_result *r, uint64_t now) {
        struct lane *l = s->lane;
        bool too_large = r->status == 413;
        if (too_large) {
                l->bytes_max_learned = TEL_MAX(s->body.raw_bytes / 2, (size_t)BATCH_BYTES_MIN);
                l->learned_accepted = 0;
        } else if (++l->refusals > REFUSALS_MAX) {
                l->refusals = 0;
                l->refusal_rest_ns = now + REFUSAL_REST_NS;
        }
        int split = !too_large && now < l->refusal_rest_ns ? -EINVAL : shipment_split(s);
        if (split == -EINVAL) {
                on_refused(s, too_large ? DROP_TOO_LARGE : DROP_REFUSED, r, now);
                return;
        }
        if (split < 0) {                           /* no memory to cut it now: it will be refused, and cut, once more */
                l->egress_until_ns = now + EGRESS_WAIT_NS;
                body_done(&s->body);
        }
        note_failure(l, r->text, now);
        retry_succeeded(&l->retry);
        shipment_step(s, SHIPMENT_ON_SPLIT);
}

static void on_answer(void *ctx, const struct transfer_result *r) {
        struct shipment *s = ctx;
        struct lane *l = s->lane;
        uint64_t now = clock_now_ns();
        s->transfer = NULL;
        l->stats.in_flight--;
        l->stats.sent_bytes += r->wire_bytes;
        l->stats.duration_sum_ns += r->took_ns;
        l->stats.status_codes[TEL_MIN(r->status / 100, 5u)]++;
        switch (r->outcome) {
        case OUTCOME_SENT:
                on_sent(s, r, now);
                break;
        case OUTCOME_RETRY:
                s->turned_away += r->status != 0;
                s->heard = s->heard || (r->wire_bytes > 0 && r->status < 300); /* an answer of 503 says it was not taken; half a 200 does not */
                on_failed(s, r->text, r->retry_after_ns, now);
                break;
        case OUTCOME_SPLIT:
                on_split(s, r, now);
                break;
        case OUTCOME_REFUSED:
                on_refused(s, DROP_REFUSED, r, now);
                break;
        }
        lane_show_state(l);
        lane_pump(l);
}

/* ---- Sending ---- */

/* Returns 0 when the shipment is on its way or over, -ENOBUFS when there is no room for its body now. */
static int shipment_send(struct shipment *s, uint64_t now) {
        struct lane *l = s->lane;
        const struct destination_settings *d = l->destination->settings;
        char text[128];
        /* A lane with nothing under way always gets its one body: else destinations that hang could keep it silent for ever. */
        int r = encode_otlp(l->destination->all->encoder, d, s->batch, l->stats.in_flight == 0, &s->body);
        if (r < 0) {
                tel_log_repeated(&l->egress_log, now, TEL_LOG_WARN, "no memory for a request body (buffer.egress), waiting", { "destination", d->name });
                return -ENOBUFS;
        }
        if (s->body.bytes == 0 || d->type == DESTINATION_NULL) {
                shipment_end(s, &(struct settlement){ .delivered = s->body.items, .filtered = s->body.filtered });
                return 0;
        }
        if (s->heard)
                reader_resent(l->reader, s->body.items);
        if (!s->first_ns)
                s->first_ns = now;
        l->stats.requests++;
        l->stats.raw_bytes += s->body.raw_bytes;
        r = transfer_start(l->endpoint, &s->body, on_answer, s, &s->transfer);
        if (r < 0) {
                on_failed(s, TEL_LOGF(text, "cannot start a request: %s%s%s", strerror(-r), *d->auth.bearer_file ? ": " : "", d->auth.bearer_file), 0, now);
                return 0;
        }
        shipment_step(s, SHIPMENT_ON_SEND);
        l->stats.in_flight++;
        return 0;
}

/* Shipments that may no longer be sent at all, because their records are too old. */
static void expire_shipments(struct lane *l, uint64_t now) {
        const struct destination_settings *d = l->destination->settings;
        for (struct shipment *s = l->shipments, *next; s; s = next) {
                next = s->next;
                uint64_t age = now - TEL_MIN(now, s->batch->parts[s->batch->n - 1].record->received_ns);
                if (s->state == SHIPMENT_SENDING)
                        continue;
                if (d->max_age_ns && age > d->max_age_ns)
                        shipment_drop(s, DROP_MAX_AGE, l->stats.last_error);
                else if (d->max_lag.age_ns && age > d->max_lag.age_ns)
                        shipment_drop(s, DROP_MAX_LAG, l->stats.last_error);
        }
}

/* The first shipment that may be sent now; *ret_due_ns: when the next one may. *ret_n: all of the lane. */
static struct shipment *shipment_unsent(const struct lane *l, uint64_t now, uint64_t *ret_due_ns, unsigned *ret_n) {
        struct shipment *first = NULL;
        *ret_due_ns = UINT64_MAX;
        *ret_n = 0;
        for (struct shipment *s = l->shipments; s; s = s->next) {
                ++*ret_n;
                if (s->state == SHIPMENT_SENDING)
                        continue;
                if (s->not_before_ns > now && !l->destination->all->flushed)
                        *ret_due_ns = TEL_MIN(*ret_due_ns, s->not_before_ns);
                else if (!first)
                        first = s;
        }
        return first;
}

/* The next batch, when one is due. *ret_due_ns: when to look again. */
static struct shipment *take(struct lane *l, uint64_t now, uint64_t *ret_due_ns) {
        const struct destination_settings *d = l->destination->settings;
        enum batch_cause cause = batch_due(l->reader, d, now, ret_due_ns);
        bool flushing = l->destination->all->flushed != NULL;
        if (cause == BATCH_NONE && !(flushing && *ret_due_ns != UINT64_MAX))
                return NULL;
        if (cause == BATCH_TIMEOUT && now < l->taken_ns + SPACING_NS && !flushing) {
                *ret_due_ns = l->taken_ns + SPACING_NS;
                return NULL;
        }
        size_t bytes_max = d->batch.max_bytes;
        if (l->bytes_max_learned && (!bytes_max || l->bytes_max_learned < bytes_max))
                bytes_max = l->bytes_max_learned;
        struct batch *batch;
        int r = reader_take(l->reader, (uint64_t)d->batch.max_items, bytes_max, now, &batch);
        *ret_due_ns = UINT64_MAX;
        if (r < 0) {
                if (r != -EAGAIN)
                        *ret_due_ns = now + EGRESS_WAIT_NS;
                return NULL;
        }
        struct shipment *s = shipment_new(l, NULL, batch);
        if (!s) {
                reader_settle(l->reader, batch, &(struct settlement){ .dropped = batch->items, .reason = DROP_REFUSED, .text = "out of memory" }, now);
                return NULL;
        }
        l->taken_ns = now;
        l->stats.batch_by_size += cause == BATCH_SIZE;
        l->stats.batch_by_timeout += cause != BATCH_SIZE;
        return s;
}

static void on_lane_timer(uv_timer_t *timer) {
        struct lane *l = tel_container_of(timer, struct lane, timer);
        l->timer_ns = 0;
        lane_pump(l);
}

static void lane_arm(struct lane *l, uint64_t at_ns, uint64_t now) {
        if (at_ns == l->timer_ns || (at_ns == UINT64_MAX && l->timer_ns == 0))
                return;
        l->timer_ns = at_ns == UINT64_MAX ? 0 : at_ns;
        if (at_ns == UINT64_MAX)
                uv_timer_stop(&l->timer);
        else
                uv_timer_start(&l->timer, on_lane_timer, at_ns > now ? (at_ns - now) / TEL_NS_PER_MS + 1 : 0, 0);
}

static void check_flushed(struct destinations *ds);

/* No attempt before. */
static uint64_t lane_wait_until(const struct lane *l) {
        return TEL_MAX(l->retry.until_ns, l->egress_until_ns);
}

/* Sends what may be sent now, and arms the timer for what comes later. Called after every event. */
static void lane_pump(struct lane *l) {
        uint64_t now = clock_now_ns(), next = UINT64_MAX;
        expire_shipments(l, now);
        reader_expire(l->reader, now);
        l->stats.next_attempt_ns = now < l->retry.until_ns ? l->retry.until_ns : 0;
        while (now >= lane_wait_until(l) && !l->stopped) {
                /* While it fails, one request at a time finds out whether it still does. */
                unsigned limit = reader_failed_since_ns(l->reader) ? 1 : (unsigned)l->destination->settings->in_flight;
                if (l->stats.in_flight >= limit)
                        break;
                uint64_t due_ns = UINT64_MAX;
                unsigned n;
                struct shipment *s = shipment_unsent(l, now, &due_ns, &n);
                if (!s && n < SHIPMENTS_MAX(l->destination->settings))
                        s = take(l, now, &next);
                if (!s) {
                        next = TEL_MIN(next, due_ns);
                        break;
                }
                if (shipment_send(s, now) < 0)     /* no room beside what is under way: the next answer brings it */
                        break;
        }
        if (now < lane_wait_until(l) && (l->shipments || reader_ledger(l->reader)->waiting > 0))
                next = lane_wait_until(l);
        lane_arm(l, l->stopped ? UINT64_MAX : next, now);
        lane_show_state(l);
        if (l->destination->all->flushed)
                check_flushed(l->destination->all);
}

bool destinations_release(struct destinations *ds) {
        struct shipment *oldest = NULL;
        for (struct destination *d = ds->first; d; d = d->next)
                for (enum tel_signal i = 0; i < TEL_SIGNALS; i++)
                        for (struct shipment *s = d->lanes[i] ? d->lanes[i]->shipments : NULL; s; s = s->next)
                                if (s->state != SHIPMENT_SENDING &&
                                    (!oldest || s->batch->parts[0].record->received_ns < oldest->batch->parts[0].record->received_ns))
                                        oldest = s;
        if (oldest)
                shipment_drop(oldest, DROP_BUFFER_FULL, oldest->lane->stats.last_error);
        return oldest != NULL;
}

void destinations_wake(struct destinations *ds, enum tel_signal signal) {
        for (struct destination *d = ds->first; d; d = d->next)
                if (d->lanes[signal])
                        lane_pump(d->lanes[signal]);
}

/* ---- Building ---- */

static void signal_url(const struct destination_settings *d, enum tel_signal signal, char *out, size_t n) {
        char path[32];
        if (d->urls[signal] && *d->urls[signal]) {
                snprintf(out, n, "%s", d->urls[signal]);
                return;
        }
        size_t len = strlen(d->url);
        while (len > 0 && d->url[len - 1] == '/')
                len--;
        size_t path_len = (size_t)snprintf(path, sizeof(path), "/v1/%s", tel_signal_name(signal));
        bool whole = len >= path_len && memcmp(d->url + len - path_len, path, path_len) == 0;
        snprintf(out, n, "%.*s%s", (int)len, d->url, whole ? "" : path);
}

static int lane_endpoint(struct lane *l) {
        char url[2048];
        const struct destination_settings *d = l->destination->settings;
        struct endpoint *e = NULL;
        if (d->type != DESTINATION_NULL) {
                signal_url(d, l->signal, url, sizeof(url));
                int r = endpoint_new(l->destination->all->transfers, url, d, &e);
                if (r < 0)
                        return r;
        }
        endpoint_free(l->endpoint);
        l->endpoint = e;
        return 0;
}

static struct reader_settings lane_reader_settings(const struct destination *d) {
        return (struct reader_settings){ .destination = d->name, .from = d->settings->from, .max_lag_bytes = d->settings->max_lag.bytes,
                                         .max_lag_age_ns = d->settings->max_lag.age_ns, .max_age_ns = d->settings->max_age_ns };
}

static void lane_closed(uv_handle_t *handle) {
        free(tel_container_of((uv_timer_t *)handle, struct lane, timer));
}

/* Stops what is under way; the shipments wait to be sent again. */
static void lane_cancel(struct lane *l) {
        for (struct shipment *s = l->shipments; s; s = s->next)
                if (s->state == SHIPMENT_SENDING) {
                        transfer_cancel(s->transfer);
                        s->transfer = NULL;
                        s->heard = true;
                        shipment_step(s, SHIPMENT_ON_CANCEL);
                        body_done(&s->body);
                        l->stats.in_flight--;
                }
}

static struct lane *lane_free(struct lane *l, enum drop_reason reason) {
        if (!l)
                return NULL;
        lane_cancel(l);
        while (l->shipments)
                shipment_drop(l->shipments, reason, l->stats.last_error);
        endpoint_free(l->endpoint);
        reader_free(l->reader, reason, clock_now_ns());
        uv_close((uv_handle_t *)&l->timer, lane_closed);
        return NULL;
}

static int lane_new(struct destination *d, enum tel_signal signal) {
        struct lane *l = calloc(1, sizeof(*l));
        if (!l)
                return -ENOMEM;
        l->destination = d;
        l->signal = signal;
        struct reader_settings settings = lane_reader_settings(d);
        int r = lane_endpoint(l);
        if (r == 0)
                r = reader_new(d->all->options.spools, signal, &settings, &l->reader);
        if (r < 0) {
                endpoint_free(l->endpoint);
                free(l);
                return r;
        }
        uv_timer_init(d->all->options.loop, &l->timer);
        d->lanes[signal] = l;
        return 0;
}

static void on_probe(void *ctx, const struct transfer_result *r) {
        struct destination *d = ctx;
        d->probe = NULL;
        if (r->outcome == OUTCOME_SENT)
                tel_log(TEL_LOG_INFO, "connection test ok", { "destination", d->name }, { "url", shown_url(d->settings) });
        else
                tel_log(TEL_LOG_WARN, "connection test failed", { "destination", d->name }, { "url", shown_url(d->settings) }, { "err", r->text });
}

static void destination_probe(struct destination *d) {
        for (enum tel_signal s = 0; s < TEL_SIGNALS && !d->probe; s++)
                if (d->lanes[s] && d->lanes[s]->endpoint)
                        if (transfer_connect(d->lanes[s]->endpoint, on_probe, d, &d->probe) < 0)
                                return;
}

static void destination_cancel_probe(struct destination *d) {
        if (d->probe)
                transfer_cancel(d->probe);
        d->probe = NULL;
}

static void destination_free(struct destination *d, enum drop_reason reason) {
        destination_cancel_probe(d);
        for (enum tel_signal s = 0; s < TEL_SIGNALS; s++)
                lane_free(d->lanes[s], reason);
        free(d);
}

/* Makes an existing or new destination what its settings say. */
static int destination_configure(struct destination *d, const struct destination_settings *settings) {
        struct reader_settings reader;
        bool same = d->settings && settings_destination_equal(d->settings, settings);
        d->settings = settings;
        if (same)
                return 0;                          /* what is under way goes on */
        destination_cancel_probe(d);
        for (enum tel_signal s = 0; s < TEL_SIGNALS; s++) {
                bool wanted = settings->signals >> s & 1 && tel_schema_request(s) != TEL_MSG_NONE;
                int r = 0;
                if (!wanted)
                        d->lanes[s] = lane_free(d->lanes[s], DROP_REMOVED);
                else if (!d->lanes[s])
                        r = lane_new(d, s);
                else {
                        struct lane *l = d->lanes[s];
                        lane_cancel(l);
                        reader = lane_reader_settings(d);
                        reader_configure(l->reader, &reader);
                        retry_succeeded(&l->retry);
                        l->bytes_max_learned = 0;
                        r = lane_endpoint(l);
                }
                if (r < 0)
                        return r;
        }
        destination_probe(d);
        return 0;
}

static struct destination *find(struct destinations *ds, const char *name) {
        struct destination *d = ds->first;
        while (d && strcmp(d->name, name) != 0)
                d = d->next;
        return d;
}

static struct destination *add(struct destinations *ds, const char *name) {
        struct destination *d = calloc(1, sizeof(*d)), **at = &ds->first;
        if (!d)
                return NULL;
        d->all = ds;
        snprintf(d->name, sizeof(d->name), "%s", name);
        while (*at)
                at = &(*at)->next;
        *at = d;
        return d;
}

int destinations_configure(struct destinations *ds, const struct settings *settings) {
        const struct destination_settings *list = settings->destinations.items;
        for (struct destination *d = ds->first; d; d = d->next)
                d->keep = false;
        for (size_t i = 0; i < settings->destinations.n; i++) {
                if (!list[i].enabled)
                        continue;
                struct destination *d = find(ds, list[i].name);
                if (!d)
                        d = add(ds, list[i].name);
                if (!d)
                        return -ENOMEM;
                d->keep = true;
                int r = destination_configure(d, &list[i]);
                if (r < 0)
                        return r;
        }
        for (struct destination **at = &ds->first; *at;) {
                struct destination *d = *at;
                if (d->keep) {
                        at = &d->next;
                        continue;
                }
                *at = d->next;
                destination_free(d, DROP_REMOVED);
        }
        for (enum tel_signal s = 0; s < TEL_SIGNALS; s++)
                destinations_wake(ds, s);
        return 0;
}

int destinations_new(const struct destinations_options *options, struct destinations **ret) {
        struct destinations *ds = calloc(1, sizeof(*ds));
        if (!ds)
                return -ENOMEM;
        ds->options = *options;
        ds->encoder = encoder_new(options->egress);
        int r = ds->encoder ? transfers_new(options->loop, &ds->transfers) : -ENOMEM;
        if (r < 0) {
                encoder_free(ds->encoder);
                free(ds);
                return r;
        }
        *ret = ds;
        return 0;
}

struct destinations *destinations_free(struct destinations *ds) {
        if (!ds)
                return NULL;
        ds->flushed = NULL;
        while (ds->first) {
                struct destination *d = ds->first;
                ds->first = d->next;
                destination_free(d, DROP_STOP);
        }
        transfers_free(ds->transfers);
        encoder_free(ds->encoder);
        free(ds);
        return NULL;
}

/* ---- Stopping ---- */

static bool lane_is_done(const struct lane *l) {
        return l->stopped ? l->stats.in_flight == 0 : !l->shipments && reader_ledger(l->reader)->waiting == 0;
}

static void check_flushed(struct destinations *ds) {
        for (struct destination *d = ds->first; d; d = d->next)
                for (enum tel_signal s = 0; s < TEL_SIGNALS; s++)
                        if (d->lanes[s] && !lane_is_done(d->lanes[s]))
                                return;
        void (*flushed)(void *) = ds->flushed;
        ds->flushed = NULL;
        flushed(ds->flushed_ctx);
}

void destinations_flush(struct destinations *ds, void (*done)(void *ctx), void *ctx) {
        ds->flushed = done;
        ds->flushed_ctx = ctx;
        for (struct destination *d = ds->first; d; d = d->next)
                for (enum tel_signal s = 0; s < TEL_SIGNALS; s++)
                        if (d->lanes[s] && ds->flushed) {
                                retry_succeeded(&d->lanes[s]->retry);  /* one more try, at once */
                                lane_pump(d->lanes[s]);
                        }
        if (ds->flushed)
                check_flushed(ds);
}

uint64_t destinations_give_up(struct destinations *ds) {
        uint64_t items = 0;
        ds->flushed = NULL;
        for (struct destination *d = ds->first; d; d = d->next) {
                destination_cancel_probe(d);
                for (enum tel_signal s = 0; s < TEL_SIGNALS; s++)
                        if (d->lanes[s]) {
                                const struct ledger *l = reader_ledger(d->lanes[s]->reader);
                                items += l->waiting + l->in_flight;
                                d->lanes[s] = lane_free(d->lanes[s], DROP_STOP);
                        }
        }
        return items;
}

/* ---- Looking ---- */

const struct destination *destinations_get(const struct destinations *ds, size_t i) {
        const struct destination *d = ds->first;
        while (d && i-- > 0)
                d = d->next;
        return d;
}

const struct destination_settings *destination_settings(const struct destination *d) {
        return d->settings;
}

enum reader_state destination_state(const struct destination *d) {
        static const unsigned badness[] = { [READER_FLOWING] = 0, [READER_FLUSHING] = 1, [READER_BUFFERING] = 2, [READER_DROPPING] = 3 };
        enum reader_state worst = READER_FLOWING;
        for (enum tel_signal s = 0; s < TEL_SIGNALS; s++)
                if (d->lanes[s] && badness[reader_state(d->lanes[s]->reader)] > badness[worst])
                        worst = reader_state(d->lanes[s]->reader);
        return worst;
}

bool destinations_degraded(const struct destinations *ds) {
        for (const struct destination *d = ds->first; d; d = d->next)
                if (d->settings->anchor && destination_state(d) != READER_FLOWING)
                        return true;
        return false;
}

const struct reader *destination_reader(const struct destination *d, enum tel_signal signal) {
        return d->lanes[signal] ? d->lanes[signal]->reader : NULL;
}

const struct destination_stats *destination_stats(const struct destination *d, enum tel_signal signal) {
        return d->lanes[signal] ? &d->lanes[signal]->stats : NULL;
}
