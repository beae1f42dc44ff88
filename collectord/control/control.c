/* SPDX-License-Identifier: Apache-2.0 */
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "collectord/clock.h"
#include "collectord/control/control.h"
#include "collectord/control/verbs.h"
#include "libtelemetry/log.h"
#include "libtelemetry/unix_listen.h"

#define TAP_CHUNK (64u << 10)                      /* bytes of one write of a tap */
#define TAP_PAUSE_MS 50                            /* live taps print at most so often: 20 times a second looks alive, and costs little under load */

/* A tap is a position in each spool, like a reader, but it pins nothing: what is trimmed before it was printed is
 * skipped, and said. */
struct tap {
        struct tap_request request;
        struct {
                uint64_t next;                     /* sequence of the next record */
                size_t item;                       /* of it, the next to look at */
                uint64_t end;                      /* a tap that does not follow ends here */
                uint64_t items_before;             /* of all records before next, since the start */
        } at[TEL_SIGNALS];
        unsigned turn;                             /* the signal that goes first next time, so that none starves another */
};

struct connection {
        struct connection *next;
        struct control *owner;
        uv_pipe_t pipe;
        char in[CONTROL_LINE_MAX];                 /* what has come and was not run yet */
        size_t used;
        bool eof;                                  /* nothing more will come */
        bool closing;
        unsigned writes;                           /* under way */
        struct tap *tap;                           /* runs now; NULL: none */
};

struct control {
        struct daemon *daemon;
        uv_pipe_t listener;
        uv_timer_t timer;                          /* runs while records wait for live taps */
        char path[108];
        bool own_path, closing;
        unsigned connections, handles;             /* handles: what the close callbacks still count down */
        struct connection *list;
        struct tel_budget budget;
        struct tel_log_repeat accept_log;
};

static void connection_run(struct connection *c);
static void on_timer(uv_timer_t *timer);

/* ---- life of a connection ---- */

static void control_release(struct control *k) {
        if (--k->handles == 0)
                free(k);
}

static void connection_closed(uv_handle_t *handle) {
        struct connection *c = handle->data;
        struct control *k = c->owner;
        free(c->tap);
        free(c);
        control_release(k);
}

static void connection_close(struct connection *c) {
        if (c->closing)
                return;
        c->closing = true;
        struct connection **at = &c->owner->list;
        while (*at != c)
                at = &(*at)->next;
        *at = c->next;
        c->owner->connections--;
        uv_close((uv_handle_t *)&c->pipe, connection_closed);
}

/* Whether the peer is gone altogether. One that only ended its writing side still reads: `echo tap | socat - ...`. */
static bool connection_gone(const struct connection *c) {
        int fd;
        if (uv_fileno((const uv_handle_t *)&c->pipe, &fd) < 0)
                return true;
        struct pollfd p = { .fd = fd };
        return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR)) != 0;
}

/* ---- writing ---- */

struct output {
        uv_write_t request;
        struct connection *connection;
        char *text;                                /* either this, heap, */
        struct tel_buf *buf;                       /* or this */
};

static void output_free(struct output *o) {
        free(o->text);
        tel_buf_unref(o->buf);
        free(o);
}

static void on_written(uv_write_t *request, int status) {
        struct output *o = request->data;
        struct connection *c = o->connection;
        output_free(o);
        c->writes--;
        if (status < 0)
                connection_close(c);
        else
                connection_run(c);
}

static size_t queued(const struct connection *c) {
        return uv_stream_get_write_queue_size((const uv_stream_t *)&c->pipe);
}

/* Takes text or buf. A connection that cannot be written to is closed. */
static void connection_write(struct connection *c, char *text, struct tel_buf *buf, size_t n) {
        struct output *o = calloc(1, sizeof(*o));
        if (!o || c->closing) {
                free(text);
                tel_buf_unref(buf);
                free(o);
                connection_close(c);
                return;
        }
        *o = (struct output){ .connection = c, .text = text, .buf = buf };
        o->request.data = o;
        uv_buf_t bytes = uv_buf_init(text ? text : (char *)buf->data, (unsigned)n);
        if (uv_write(&o->request, (uv_stream_t *)&c->pipe, &bytes, 1, on_written) < 0) {
                output_free(o);
                connection_close(c);
                return;
        }
        c->writes++;
}

static void connection_say(struct connection *c, const char *text) {
        char *copy = strdup(text);
        if (copy)
                connection_write(c, copy, NULL, strlen(copy));
        else
                connection_close(c);
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

static void tap_start(struct tap *t, const struct spools *s, uint64_t now_ns) {
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
static bool tap_pump(struct connection *c) {
        struct control *k = c->owner;
        struct tap *t = c->tap;
        const struct spools *s = k->daemon->spools;
        while (!c->closing && queued(c) < CONTROL_QUEUE_MAX && !tap_finished(t, s)) {
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
                connection_write(c, NULL, f.out, f.out->len);
        }
        return !c->closing && tap_finished(t, s);
}

static void on_timer(uv_timer_t *timer) {
        struct control *k = timer->data;
        struct connection *next;
        for (struct connection *c = k->list; c; c = next) {
                next = c->next;
                if (c->tap && c->eof && connection_gone(c))
                        connection_close(c);
                else if (c->tap)
                        connection_run(c);
        }
}

void control_wake(struct control *k, enum tel_signal signal) {
        if (!k || k->closing || uv_is_active((uv_handle_t *)&k->timer))
                return;
        for (const struct connection *c = k->list; c; c = c->next)
                if (c->tap && (c->tap->request.signals >> signal & 1)) {
                        uv_timer_start(&k->timer, on_timer, TAP_PAUSE_MS, 0);
                        return;
                }
}

/* ---- lines ---- */

/* Takes the next line out, without its end. What came before the end of the stream counts as one. Returns false
 * when there is none. */
static bool line_take(struct connection *c, char line[static CONTROL_LINE_MAX + 1], size_t *ret_len) {
        const char *end = memchr(c->in, '\n', c->used);
        if (!end && !(c->eof && c->used > 0))
                return false;
        size_t n = end ? (size_t)(end - c->in) : c->used, taken = n + (end != NULL);
        memcpy(line, c->in, n);
        memmove(c->in, c->in + taken, c->used - taken);
        c->used -= taken;
        if (n > 0 && line[n - 1] == '\r')
                n--;
        line[n] = '\0';
        *ret_len = n;
        return true;
}

static void line_run(struct connection *c, char *line, size_t n) {
        struct daemon *d = c->owner->daemon;
        struct tap *tap = calloc(1, sizeof(*tap));
        char *text = NULL;
        size_t bytes = 0;
        FILE *out = open_memstream(&text, &bytes);
        if (!tap || !out) {
                free(tap);
                if (out)
                        fclose(out);
                free(text);
                connection_close(c);
                return;
        }
        uint64_t now = clock_now_ns();
        int r = 0;
        if (strlen(line) != n)
                verbs_error(out, false, "a line is text, this one holds a zero byte");
        else
                r = verbs_run(d, line, now, out, &tap->request);
        if (r != VERBS_TAP)
                fputs("\n", out);
        bool failed = fclose(out) != 0;
        if (r == VERBS_TAP && d->spools && !failed) {
                tap_start(tap, d->spools, now);
                c->tap = TEL_TAKE(tap);
        }
        free(tap);
        if (failed || bytes == 0) {
                free(text);
                if (failed || !c->tap)
                        connection_close(c);
                return;
        }
        connection_write(c, text, NULL, bytes);
}

/* Whether another line ends the tap: one that has no end of its own. */
static bool tap_is_endless(const struct tap *t) {
        return t->request.follow && t->request.lines == UINT64_MAX;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret) {
        struct connection *c = handle->data;
        (void)suggested;
        *ret = uv_buf_init(c->in + c->used, (unsigned)(sizeof(c->in) - c->used));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
        struct connection *c = stream->data;
        (void)buf;
        if (n == 0)
                return;
        if (n < 0 && (n != UV_EOF || (c->tap && connection_gone(c)))) {
                connection_close(c);
                return;
        }
        c->eof = n < 0;
        c->used += n > 0 ? (size_t)n : 0;
        connection_run(c);
}

/* Reads while there is room, and closes once all is said. */
static void connection_settle(struct connection *c) {
        if (c->closing)
                return;
        if (!c->eof && c->used == sizeof(c->in) && !memchr(c->in, '\n', c->used)) {
                char error[64];
                snprintf(error, sizeof(error), "error: a line has at most %d bytes\n\n", CONTROL_LINE_MAX - 1);
                connection_say(c, error);
                c->eof = true;
                c->used = 0;
                free(TEL_TAKE(c->tap));
        }
        if (c->closing)
                return;
        if (c->eof && c->used == 0 && !c->tap && c->writes == 0)
                connection_close(c);
        else if (c->eof || c->used == sizeof(c->in))
                uv_read_stop((uv_stream_t *)&c->pipe);
        else
                uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read);
}

/* Does what can be done now: a tap goes on, lines are run in order while the peer reads their answers. */
static void connection_run(struct connection *c) {
        char line[CONTROL_LINE_MAX + 1];
        size_t n;
        while (!c->closing) {
                bool waiting = memchr(c->in, '\n', c->used) != NULL || (c->eof && c->used > 0);
                if (c->tap) {
                        if (!(waiting && tap_is_endless(c->tap)) && !tap_pump(c))
                                break;
                        free(TEL_TAKE(c->tap));
                        connection_say(c, "\n");
                } else if (queued(c) < CONTROL_QUEUE_MAX && line_take(c, line, &n)) {
                        if (n > 0)
                                line_run(c, line, n);
                } else {
                        break;
                }
        }
        connection_settle(c);
}

/* ---- life of the socket ---- */

static void on_connection(uv_stream_t *listener, int status) {
        struct control *k = listener->data;
        if (status < 0) {
                tel_log_repeated(&k->accept_log, clock_now_ns(), TEL_LOG_ERROR,
                                 "cannot accept a control connection", { "err", uv_strerror(status) });
                return;
        }
        struct connection *c = calloc(1, sizeof(*c));
        if (!c)
                return;
        c->owner = k;
        uv_pipe_init(&k->daemon->loop, &c->pipe, 0);
        c->pipe.data = c;
        k->handles++;
        k->connections++;
        c->next = k->list;
        k->list = c;
        if (uv_accept(listener, (uv_stream_t *)&c->pipe) < 0) {
                connection_close(c);
                return;
        }
        struct connection *next;
        for (struct connection *old = c->next; old && k->connections > CONTROL_CONNECTIONS_MAX; old = next) {
                next = old->next;                  /* taps whose peer left without a word */
                if (old->eof && connection_gone(old))
                        connection_close(old);
        }
        if (k->connections > CONTROL_CONNECTIONS_MAX) {
                c->eof = true;
                connection_say(c, "error: too many connections\n\n");
                return;
        }
        connection_settle(c);
}

static void handle_closed(uv_handle_t *handle) {
        control_release(handle->data);
}

int control_new(struct daemon *d, const char *path, int fd, struct control **ret, char *reterr) {
        struct control *k = calloc(1, sizeof(*k));
        if (!k) {
                snprintf(reterr, 256, "out of memory");
                return -ENOMEM;
        }
        k->daemon = d;
        k->budget.limit = CONTROL_BYTES_MAX;
        k->own_path = fd < 0;
        snprintf(k->path, sizeof(k->path), "%s", path);
        fd = fd < 0 ? tel_unix_listen(path, 0660, reterr) : fd;
        if (fd < 0) {
                free(k);
                return fd;
        }
        uv_pipe_init(&d->loop, &k->listener, 0);
        uv_timer_init(&d->loop, &k->timer);
        k->listener.data = k->timer.data = k;
        k->handles = 2;
        int r = uv_pipe_open(&k->listener, fd);
        if (r < 0)
                close(fd);
        else
                r = uv_listen((uv_stream_t *)&k->listener, CONTROL_CONNECTIONS_MAX, on_connection);
        if (r < 0) {
                snprintf(reterr, 256, "socket '%.180s': %s", path, uv_strerror(r));
                control_free(k);
                return r;
        }
        *ret = k;
        return 0;
}

struct control *control_free(struct control *k) {
        if (!k)
                return NULL;
        k->closing = true;
        if (k->own_path)
                unlink(k->path);
        while (k->list)
                connection_close(k->list);
        uv_close((uv_handle_t *)&k->listener, handle_closed);
        uv_close((uv_handle_t *)&k->timer, handle_closed);
        return NULL;
}
