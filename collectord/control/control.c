/* SPDX-License-Identifier: Apache-2.0 */
#include "collectord/control/control.h"

#include "collectord/clock.h"
#include "collectord/control/verbs.h"
#include "libtelemetry/line_server.h"
#include "libtelemetry/log.h"

#define TAP_CHUNK (64u << 10)                      /* bytes of one write of a tap */
#define TAP_PAUSE_MS 50                            /* live taps print at most so often: 20 times a second looks alive, and costs little under load */

/* A tap is a position in each spool, like a reader, but it pins nothing: what is trimmed before it was printed is
 * skipped, and said. */
struct tap {
        struct tel_line_stream stream;
        struct control *owner;
        struct tap *next;
        struct tap_request request;
        struct {
                uint64_t next;                     /* sequence of the next record */
                size_t item;                       /* of it, the next to look at */
                uint64_t end;                      /* a tap that does not follow ends here */
                uint64_t items_before;             /* of all records before next, since the start */
        } at[TEL_SIGNALS];
        unsigned turn;                             /* the signal that goes first next time, so that none starves another */
};

struct control {
        struct daemon *daemon;
        struct tel_line_server *server;
        uv_timer_t timer;                          /* runs while records wait for live taps */
        bool closing;
        unsigned handles;                          /* server and timer: what their close callbacks still count down */
        struct tap *taps;
        struct tel_budget budget;
        struct tel_log_repeat accept_log;
};

static void on_timer(uv_timer_t *timer) {
        struct control *k = timer->data;
        tel_line_server_pump(k->server);
}

/* ---- taps ---- */

static int sum_items(void *ctx, const struct record *r) {
        *(uint64_t *)ctx += r->items;
        return 0;
}

struct back {
        uint64_t since_ns, sequence;               /* of the first record that is not older; begin with the end of the spool */
};

static int find_back(void *ctx, const struct record *r) {
        struct back *b = ctx;
        if (r->received_ns < b->since_ns)
                return 0;
        b->sequence = r->sequence;
        return 1;
}

static uint64_t items_from(const struct spools *s, enum tel_signal signal, uint64_t sequence) {
        uint64_t sum = 0;
        spool_walk(s, signal, sequence, sum_items, &sum);
        return sum;
}

struct fill {                                      /* one chunk in the making */
        struct tap *tap;
        const struct spools *spools;
        enum tel_signal signal;
        struct tel_buf *out;
        bool alone;                                /* nothing else is charged to the budget: what does not fit now never will */
};

/* What a tap cannot show is said in its own stream: a comment line, or an object that is no request. */
static void tap_note(const struct fill *f, uint64_t items, const char *why) {
        char line[200];
        int n = snprintf(line, sizeof(line),
                         f->tap->request.json ? "{\"skipped\":%llu,\"signal\":\"%s\",\"reason\":\"%s\"}\n"
                                              : "# skipped %llu items of %s: %s\n",
                         (unsigned long long)items, tel_signal_name(f->signal), why);
        tel_buf_append(f->out, line, (size_t)n, f->out->len + sizeof(line));
}

/* 1: enough for now. */
static int tap_record(void *ctx, const struct record *r) {
        struct fill *f = ctx;
        struct tap *t = f->tap;
        __auto_type at = &t->at[f->signal];
        if (r->sequence >= at->end)
                return 1;
        if (r->sequence > at->next) {              /* trimmed before it was their turn */
                struct spool_stats stats_of;
                spool_get_stats(f->spools, f->signal, &stats_of);
                uint64_t before = stats_of.appended_items - items_from(f->spools, f->signal, r->sequence);
                tap_note(f, before - at->items_before, "you read too slowly");
                at->items_before = before;
                at->next = r->sequence;
                at->item = 0;
        }
        struct tap_progress progress = { .item = at->item, .lines_left = t->request.lines, .bytes_soft = TAP_CHUNK };
        int rc = tap_print(&t->request.filter, t->request.json, r, &progress, f->out);
        t->request.lines = progress.lines_left;
        at->item = progress.item;
        bool too_long = rc == -EMSGSIZE || (rc == -ENOBUFS && f->alone && f->out->len == 0);
        if (rc == TAP_MORE || (!too_long && (rc == -ENOBUFS || rc == -ENOMEM)))
                return 1;
        if (rc < 0)
                tap_note(f, r->items, too_long ? "too long for one line" : "they cannot be read");
        at->items_before += r->items;
        at->next = r->sequence + 1;
        at->item = 0;
        return f->out->len >= TAP_CHUNK || t->request.lines == 0;
}

static bool tap_finished(const struct tap *t, const struct spools *s) {
        bool left = false;
        for (enum tel_signal signal = 0; signal < TEL_SIGNALS; signal++)
                if (t->request.signals >> signal & 1)
                        left |= t->at[signal].next < TEL_MIN(t->at[signal].end, spool_end(s, signal)) || t->request.follow;
        return t->request.lines == 0 || !left;
}

/* Prints until the spools have nothing new or the peer has enough unread. Returns whether the tap is over. */
static bool tap_pump(struct tel_line_stream *stream, struct tel_line_peer *to) {
        struct tap *t = tel_container_of(stream, struct tap, stream);
        struct control *k = t->owner;
        const struct spools *s = k->daemon->spools;
        while (tel_line_peer_has_room(to) && !tap_finished(t, s)) {
                struct fill f = { .tap = t, .spools = s, .alone = k->budget.used == 0 };
                f.out = tel_buf_new(&k->budget, TAP_CHUNK);
                bool full = !f.out;                /* of the budget: others wait for their peers; try again in a while */
                for (unsigned i = 0; f.out && i < TEL_SIGNALS && f.out->len < TAP_CHUNK; i++) {
                        f.signal = (enum tel_signal)((t->turn + i) % TEL_SIGNALS);
                        if (t->request.signals >> f.signal & 1)
                                full |= spool_walk(s, f.signal, t->at[f.signal].next, tap_record, &f) != 0;
                }
                t->turn++;
                if (!f.out || f.out->len == 0) {
                        tel_buf_unref(f.out);
                        if (full && !tap_finished(t, s))
                                uv_timer_start(&k->timer, on_timer, TAP_PAUSE_MS, 0);
                        break;
                }
                tel_buf_trim(f.out);
                tel_line_peer_write(to, f.out);
        }
        return tap_finished(t, s);
}

static void tap_end(struct tel_line_stream *stream) {
        struct tap *t = tel_container_of(stream, struct tap, stream), **at = &t->owner->taps;
        while (*at != t)
                at = &(*at)->next;
        *at = t->next;
        free(t);
}

/* t->request is filled. */
static void tap_start(struct tap *t, struct control *k, uint64_t now_ns) {
        const struct spools *s = k->daemon->spools;
        uint64_t back = t->request.back ? t->request.back_ns : 0;
        for (enum tel_signal signal = 0; signal < TEL_SIGNALS; signal++) {
                struct spool_stats stats_of;
                struct back b = { .since_ns = now_ns > back ? now_ns - back : 0, .sequence = spool_end(s, signal) };
                if (t->request.back)
                        spool_walk(s, signal, 0, find_back, &b);
                spool_get_stats(s, signal, &stats_of);
                t->at[signal].next = b.sequence;
                t->at[signal].items_before = stats_of.appended_items - items_from(s, signal, b.sequence);
                t->at[signal].end = t->request.follow ? UINT64_MAX : spool_end(s, signal);
        }
        t->stream = (struct tel_line_stream){ .pump = tap_pump, .end = tap_end,
                                              .endless = t->request.follow && t->request.lines == UINT64_MAX };
        t->owner = k;
        t->next = k->taps;
        k->taps = t;
}

void control_wake(struct control *k, enum tel_signal signal) {
        if (!k || k->closing || uv_is_active((uv_handle_t *)&k->timer))
                return;
        for (const struct tap *t = k->taps; t; t = t->next)
                if (t->request.signals >> signal & 1) {
                        uv_timer_start(&k->timer, on_timer, TAP_PAUSE_MS, 0);
                        return;
                }
}

/* ---- the socket ---- */

static struct tel_line_stream *on_line(void *ctx, char *line, size_t n, FILE *to) {
        struct control *k = ctx;
        struct tap *tap = calloc(1, sizeof(*tap));
        uint64_t now = clock_now_ns();
        if (!tap)
                tel_line_error(to, false, "out of memory");
        else if (memchr(line, '\0', n))
                tel_line_error(to, false, "a line is text, this one holds a zero byte");
        else if (verbs_run(k->daemon, line, now, to, &tap->request) == VERBS_TAP) {
                tap_start(tap, k, now);
                return &tap->stream;
        }
        free(tap);
        return NULL;
}

static void on_accept_failed(void *ctx, const char *why) {
        struct control *k = ctx;
        tel_log_repeated(&k->accept_log, clock_now_ns(), TEL_LOG_ERROR, "cannot accept a control connection", { "err", why });
}

static void control_release(struct control *k) {
        if (--k->handles == 0)
                free(k);
}

static void on_server_closed(void *ctx) {
        control_release(ctx);
}

static void on_timer_closed(uv_handle_t *handle) {
        control_release(handle->data);
}

int control_new(struct daemon *d, const char *path, int fd, struct control **ret, char *reterr) {
        struct control *k = calloc(1, sizeof(*k));
        if (!k) {
                snprintf(reterr, TEL_UNIX_LISTEN_ERROR_MAX, "out of memory");
                return -ENOMEM;
        }
        k->daemon = d;
        k->budget.limit = CONTROL_BYTES_MAX;
        const struct tel_line_server_options lines = {
                .loop = &d->loop, .path = path, .fd = fd,
                .line_max = CONTROL_LINE_MAX, .peers_max = CONTROL_CONNECTIONS_MAX, .queue_max = CONTROL_QUEUE_MAX,
                .ctx = k, .run = on_line, .accept_failed = on_accept_failed, .closed = on_server_closed,
        };
        int r = tel_line_server_new(&lines, &k->server, reterr);
        if (r < 0) {
                free(k);
                return r;
        }
        uv_timer_init(&d->loop, &k->timer);
        k->timer.data = k;
        k->handles = 2;
        *ret = k;
        return 0;
}

struct control *control_free(struct control *k) {
        if (!k)
                return NULL;
        k->closing = true;
        tel_line_server_free(k->server);
        uv_close((uv_handle_t *)&k->timer, on_timer_closed);
        return NULL;
}
