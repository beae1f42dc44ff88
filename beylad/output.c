/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/output.h"

#include <poll.h>
#include <stdio.h>

#include "beylad/output_http.h"
#include "libtelemetry/log.h"

#define FLUSH_PAUSE_NS (200 * TEL_NS_PER_MS)       /* at the stop, between two tries to post: there is no time for long pauses */
#define FLUSH_SLICE_MS 20                          /* at the stop, when both ways have work: turns of one before the other is looked at */

struct body {
        struct body *next;
        enum tel_frame_kind kind;
        bool theirs;                               /* the endpoint may have it: it is never given to collectord */
        size_t n;
        uint8_t bytes[];
};

struct client_poll {
        uv_poll_t poll;
        struct output *output;
};

/* What a frame that the client keeps holds: the client counts frames, people count spans. */
struct kept {
        uint32_t items;
        uint32_t kind;                             /* enum tel_frame_kind */
};
#define KEPT_MAX 65536u                            /* frames: of an 8 MiB backlog each would have 128 bytes */

struct output {
        uv_loop_t *loop;
        uv_timer_t timer;
        struct tel_client *client;                 /* NULL: no collector */
        struct client_poll *poll;                  /* of poll_fd; NULL: there is no connection */
        int poll_fd, poll_events;
        struct output_http *http;                  /* NULL: no endpoint */
        struct body *first, *last;                 /* what waits here, oldest first */
        struct body *posting;                      /* taken out of there; its bytes still count */
        size_t n, bytes;

        uint64_t away_after_ns;
        uint64_t good_ns;                          /* when collectord was last seen to take what it is given */
        uint64_t connected_ns;                     /* since when the present connection stands; 0: there is none */
        uint64_t reconnects, acknowledged;         /* the client's, as they were looked at last */
        struct kept *kept;                         /* a ring of KEPT_MAX, in the order of the client's; made with the client */
        uint32_t kept_first, kept_n;
        uint64_t kept_acknowledged, kept_dropped;  /* the client's counts that kept goes by */
        bool proven;                               /* something was acknowledged on the present connection */
        bool away, flushing;
        uint64_t failed_ns;                        /* the last try to post failed then */

        struct output_stats stats;                 /* but for what the client counts */
        struct tel_log_repeat log_dropped, log_failed, log_refused, log_away, log_back;
};

/* ---- What waits ---- */

static size_t cost(const struct body *b) {
        return sizeof(*b) + b->n;
}

static void body_forget(struct output *o, struct body *b) {
        o->n--;
        o->bytes -= cost(b);
        free(b);
}

static void count_items(struct output *o, enum tel_frame_kind kind, uint64_t items) {
        *(kind == TEL_FRAME_TRACES ? &o->stats.dropped_spans : &o->stats.dropped_points) += items;
}

static uint64_t body_items(const struct body *b) {
        return tel_otlp_items(b->kind == TEL_FRAME_TRACES ? TEL_TRACES : TEL_METRICS, b->bytes, b->bytes + b->n);
}

static void body_drop(struct output *o, struct body *b) {
        o->stats.dropped++;
        o->stats.dropped_bytes += b->n;
        count_items(o, b->kind, body_items(b));
        body_forget(o, b);
}

static struct body *queue_take(struct output *o) {
        struct body *b = o->first;
        o->first = b->next;
        if (!o->first)
                o->last = NULL;
        return b;
}

static void queue_put_back(struct output *o, struct body *b) {
        b->next = o->first;
        o->first = b;
        if (!o->last)
                o->last = b;
}

static void say_dropped(struct output *o, uint64_t dropped, const char *error) {
        char text[24];
        tel_log_repeated(&o->log_dropped, uv_hrtime(), TEL_LOG_WARN, "the oldest spans and metrics are dropped: nobody takes them",
                         { "dropped", TEL_LOGF(text, "%llu", (unsigned long long)dropped) }, { "err", error });
}

/* Frames leave the client from its oldest on, acknowledged or dropped. */
static void kept_settle(struct output *o) {
        struct tel_client_stats s;
        tel_client_get_stats(o->client, &s);
        uint64_t acknowledged = s.acknowledged - o->kept_acknowledged, dropped = s.dropped_frames - o->kept_dropped;
        o->kept_acknowledged = s.acknowledged;
        o->kept_dropped = s.dropped_frames;
        for (uint64_t i = 0; i < acknowledged + dropped && o->kept_n > 0; i++) {
                const struct kept *k = &o->kept[o->kept_first];
                if (i >= acknowledged)
                        count_items(o, (enum tel_frame_kind)k->kind, k->items);
                o->kept_first = (o->kept_first + 1) % KEPT_MAX;
                o->kept_n--;
        }
        if (dropped > 0)
                say_dropped(o, s.dropped_frames, s.connect_error ? strerror(s.connect_error) : s.last_error_text);
}

static void queue_make_room(struct output *o, size_t bytes) {
        if (o->bytes + bytes <= OUTPUT_QUEUE_MAX)
                return;
        while (o->first && o->bytes + bytes > OUTPUT_QUEUE_MAX)
                body_drop(o, queue_take(o));
        say_dropped(o, o->stats.dropped, o->stats.error);
}

/* ---- The client on the loop ---- */

static void pump(struct output *o);

static void on_client(uv_poll_t *handle, int status, int events) {
        (void)status, (void)events;                /* an error shows in the client's next step */
        pump(tel_container_of(handle, struct client_poll, poll)->output);
}

static void client_poll_closed(uv_handle_t *handle) {
        free(tel_container_of((uv_poll_t *)handle, struct client_poll, poll));
}

static void client_unwatch(struct output *o) {
        if (!o->poll)
                return;
        uv_poll_stop(&o->poll->poll);
        uv_close((uv_handle_t *)&o->poll->poll, client_poll_closed);
        o->poll = NULL;
        o->poll_fd = -1;
}

/* After every call that may have closed or opened the client's socket: a number that closed and came back is another socket. */
static void client_watch(struct output *o) {
        int fd = tel_client_fd(o->client);
        if (fd != o->poll_fd)
                client_unwatch(o);
        if (fd < 0)
                return;
        short wanted = tel_client_events(o->client);
        int events = (wanted & POLLIN ? UV_READABLE : 0) | (wanted & POLLOUT ? UV_WRITABLE : 0);
        if (!o->poll) {
                struct client_poll *p = calloc(1, sizeof(*p));
                if (!p || uv_poll_init(o->loop, &p->poll, fd) < 0) {
                        free(p);
                        return;                    /* the timer steps the client until there is memory */
                }
                p->output = o;
                o->poll = p;
                o->poll_fd = fd;
                o->poll_events = 0;
        }
        if (events != o->poll_events && uv_poll_start(&o->poll->poll, events, on_client) == 0)
                o->poll_events = events;
}

static void client_step(struct output *o) {
        client_watch(o);                           /* tel_client_send() may have closed it */
        tel_client_step(o->client, uv_hrtime());
        kept_settle(o);
        client_watch(o);
}

/* ---- Which way ---- */

/* Looks at what the client says. Collectord is away when for away_after_ns it was not seen to take anything, though it was asked to. */
static void client_judge(struct output *o, uint64_t now_ns) {
        struct tel_client_stats s;
        tel_client_get_stats(o->client, &s);
        if (!s.connected || o->connected_ns == 0 || s.reconnects != o->reconnects) {
                o->connected_ns = s.connected ? now_ns : 0;
                o->proven = false;
        }
        o->reconnects = s.reconnects;
        if (s.acknowledged != o->acknowledged) {
                o->acknowledged = s.acknowledged;
                o->proven = s.connected;
                o->good_ns = now_ns;
        }
        o->proven = o->proven || (o->connected_ns && now_ns - o->connected_ns >= OUTPUT_SETTLE_NS);
        if (o->proven && s.waiting_frames == 0)
                o->good_ns = now_ns;
        bool away = o->http && (now_ns - o->good_ns >= o->away_after_ns || (o->flushing && !s.connected));
        if (away && !o->away)
                tel_log_repeated(&o->log_away, now_ns, TEL_LOG_WARN, "collectord is away: spans and metrics go to the endpoint",
                                 { "err", s.connect_error ? strerror(s.connect_error) : s.last_error_text });
        if (!away && o->away)
                tel_log_repeated(&o->log_back, now_ns, TEL_LOG_INFO, "collectord takes spans and metrics again");
        o->away = away;
}

static void give_to_client(struct output *o, struct body *b) {
        int r = tel_client_send(o->client, b->kind, b->bytes, b->n);
        kept_settle(o);                            /* it may have made room first */
        if (r < 0) {
                body_drop(o, b);
                return;
        }
        if (o->kept_n < KEPT_MAX)
                o->kept[(o->kept_first + o->kept_n++) % KEPT_MAX] = (struct kept){ (uint32_t)body_items(b), b->kind };
        o->stats.frames++;
        o->stats.bytes += b->n;
        body_forget(o, b);
}

/* Hands to the client what may go there, oldest first. What the endpoint may have stays. */
static void give_all_to_client(struct output *o) {
        struct body *b = TEL_TAKE(o->first);
        o->last = NULL;
        while (b) {
                struct body *next = b->next;
                if (!b->theirs)
                        give_to_client(o, b);
                else {
                        b->next = NULL;
                        if (o->last)
                                o->last->next = b;
                        else
                                o->first = b;
                        o->last = b;
                }
                b = next;
        }
}

/* Whether the first of the queue is to be posted, and from when on. */
static bool post_wanted(const struct output *o, uint64_t *ret_due_ns) {
        if (!o->http || !o->first || output_http_busy(o->http) || (o->client && !o->away && !o->first->theirs))
                return false;
        *ret_due_ns = o->flushing ? (o->failed_ns ? o->failed_ns + FLUSH_PAUSE_NS : 0) : output_http_until_ns(o->http);
        return true;
}

static void post_next(struct output *o, uint64_t now_ns) {
        uint64_t due_ns;
        while (post_wanted(o, &due_ns) && due_ns <= now_ns) {
                o->posting = queue_take(o);
                o->stats.posts++;
                if (output_http_post(o->http, o->posting->kind, o->posting->bytes, o->posting->n) == 0)
                        return;
                o->stats.failures++;
                body_drop(o, TEL_TAKE(o->posting));
        }
}

static void timer_set(struct output *o, uint64_t now_ns);

/* Moves what can be moved. Everything that may change something ends here. */
static void pump(struct output *o) {
        uint64_t now_ns = uv_hrtime();
        if (o->client) {
                client_step(o);
                client_judge(o, now_ns);
                if (o->first && (!o->http || (o->proven && !o->away))) {
                        give_all_to_client(o);
                        client_step(o);
                }
        }
        post_next(o, now_ns);
        timer_set(o, now_ns);
}

static void on_timer(uv_timer_t *timer) {
        pump(tel_container_of(timer, struct output, timer));
}

static void timer_set(struct output *o, uint64_t now_ns) {
        uint64_t due_ns = UINT64_MAX, post_ns;
        if (o->client) {
                due_ns = tel_client_timeout_ns(o->client);
                if (o->http && o->connected_ns && !o->proven)
                        due_ns = TEL_MIN(due_ns, o->connected_ns + OUTPUT_SETTLE_NS);
                if (o->first && o->http && !o->away)
                        due_ns = TEL_MIN(due_ns, o->good_ns + o->away_after_ns);
                if (tel_client_fd(o->client) >= 0 && !o->poll)
                        due_ns = TEL_MIN(due_ns, now_ns + OUTPUT_SETTLE_NS);
        }
        if (post_wanted(o, &post_ns))
                due_ns = TEL_MIN(due_ns, post_ns);
        if (due_ns == UINT64_MAX) {
                uv_timer_stop(&o->timer);
                return;
        }
        uint64_t wait_ms = due_ns > now_ns ? (due_ns - now_ns + TEL_NS_PER_MS - 1) / TEL_NS_PER_MS : 1;
        uv_update_time(o->loop);
        uv_timer_start(&o->timer, on_timer, wait_ms, 0);
}

/* ---- Answers of the endpoint ---- */

static void on_posted(void *ctx, const struct output_http_result *result) {
        struct output *o = ctx;
        struct body *b = TEL_TAKE(o->posting);
        uint64_t now_ns = uv_hrtime();
        if (result->outcome != OUTPUT_HTTP_SENT) {
                o->stats.failures++;
                snprintf(o->stats.error, sizeof(o->stats.error), "%s", result->text);
        }
        switch (result->outcome) {
        case OUTPUT_HTTP_SENT:
                o->failed_ns = 0;
                o->stats.posted++;
                o->stats.bytes += b->n;
                if (result->rejected > 0) {
                        char rejected[24];
                        count_items(o, b->kind, result->rejected);
                        tel_log_repeated(&o->log_refused, now_ns, TEL_LOG_WARN, "the endpoint took a request, but for some items",
                                         { "items", TEL_LOGF(rejected, "%llu", (unsigned long long)result->rejected) });
                }
                body_forget(o, b);
                break;
        case OUTPUT_HTTP_RETRY:
                b->theirs = true;
                /* fall through */
        case OUTPUT_HTTP_UNREACHED:
                o->failed_ns = now_ns;
                tel_log_repeated(&o->log_failed, now_ns, TEL_LOG_WARN, "the endpoint takes nothing; trying again", { "err", result->text });
                queue_put_back(o, b);
                break;
        case OUTPUT_HTTP_REFUSED:
                tel_log_repeated(&o->log_refused, now_ns, TEL_LOG_ERROR, "the endpoint refused a request: it is dropped", { "err", result->text });
                body_drop(o, b);
                break;
        }
        pump(o);
}

/* ---- Begin and end ---- */

static int client_open(struct output *o, const struct output_options *options, char *reterr) {
        const char *path = options->collector;
        char whole[256];
        if (strcmp(path, TEL_CLIENT_SOCKET) == 0)
                path = NULL;
        else if (!strchr(path, '/')) {
                int r = tel_runtime_path(path, whole, sizeof(whole));
                if (r < 0) {
                        snprintf(reterr, OUTPUT_ERROR_MAX, "collector '%.100s': %s", path, strerror(-r));
                        return r;
                }
                path = whole;
        }
        o->client = tel_client_new(&(struct tel_client_options){ .path = path, .name = options->name ? options->name : "beylad",
                                                                 .version = options->version ? options->version : SUITE_VERSION });
        int r = o->client ? 0 : -errno;
        if (r == 0 && !(o->kept = calloc(KEPT_MAX, sizeof(o->kept[0]))))
                r = -ENOMEM;
        if (r == 0)
                return 0;
        snprintf(reterr, OUTPUT_ERROR_MAX, "collector '%.100s': %s", options->collector, strerror(-r));
        return r;
}

static void output_closed(uv_handle_t *handle) {
        free(tel_container_of((uv_timer_t *)handle, struct output, timer));
}

struct output *output_free(struct output *o) {
        if (!o)
                return NULL;
        o->http = output_http_free(o->http);
        if (o->client)
                client_unwatch(o);
        o->client = tel_client_free(o->client);
        free(o->kept);
        if (o->posting)
                body_drop(o, TEL_TAKE(o->posting));
        while (o->first)
                body_drop(o, queue_take(o));
        uv_close((uv_handle_t *)&o->timer, output_closed);
        return NULL;
}

int output_new(uv_loop_t *loop, const struct output_options *options, struct output **ret, char *reterr) {
        bool collector = options->collector && *options->collector, endpoint = options->endpoint && *options->endpoint;
        if (!collector && !endpoint) {
                snprintf(reterr, OUTPUT_ERROR_MAX, "neither a collector nor an endpoint is named");
                return -EINVAL;
        }
        struct output *o = calloc(1, sizeof(*o));
        if (!o) {
                snprintf(reterr, OUTPUT_ERROR_MAX, "out of memory");
                return -ENOMEM;
        }
        o->loop = loop;
        o->poll_fd = -1;
        o->away_after_ns = options->away_ns ? options->away_ns : OUTPUT_AWAY_NS;
        o->good_ns = uv_hrtime();                  /* a collectord that is just starting, too, has its time */
        uv_timer_init(loop, &o->timer);
        int r = collector ? client_open(o, options, reterr) : 0;
        if (r == 0 && endpoint) {
                r = output_http_new(loop, options->endpoint, on_posted, o, &o->http);
                if (r < 0)
                        snprintf(reterr, OUTPUT_ERROR_MAX, "endpoint '%.100s': %s", options->endpoint,
                                 r == -EINVAL ? "expected http://HOST:PORT or https://HOST:PORT" : strerror(-r));
        }
        if (r < 0) {
                output_free(o);
                return r;
        }
        pump(o);                                   /* connects */
        *ret = o;
        return 0;
}

/* ---- In and out ---- */

int output_send(struct output *o, enum tel_frame_kind kind, const void *body, size_t n) {
        if (kind != TEL_FRAME_TRACES && kind != TEL_FRAME_METRICS)
                return -EINVAL;
        struct body *b = n <= OUTPUT_QUEUE_MAX - sizeof(*b) ? malloc(sizeof(*b) + n) : NULL;
        if (!b) {
                o->stats.dropped++;
                o->stats.dropped_bytes += n;
                count_items(o, kind, tel_otlp_items(kind == TEL_FRAME_TRACES ? TEL_TRACES : TEL_METRICS, body, (const uint8_t *)body + n));
                return n <= OUTPUT_QUEUE_MAX - sizeof(*b) ? -ENOMEM : -EMSGSIZE;
        }
        *b = (struct body){ .kind = kind, .n = n };
        memcpy(b->bytes, body, n);
        queue_make_room(o, cost(b));
        if (o->last)
                o->last->next = b;
        else
                o->first = b;
        o->last = b;
        o->n++;
        o->bytes += cost(b);
        pump(o);
        return 0;
}

void output_status(struct output *o, const char *text) {
        if (!o->client)
                return;
        tel_client_status(o->client, text);
        pump(o);
}

void output_get_stats(const struct output *o, struct output_stats *ret) {
        struct tel_client_stats s = { 0 };
        if (o->client)
                tel_client_get_stats(o->client, &s);
        *ret = o->stats;
        ret->connected = s.connected;
        ret->away = o->away;
        ret->acknowledged = s.acknowledged;
        ret->dropped += s.dropped_frames;
        ret->dropped_bytes += s.dropped_bytes;
        ret->waiting = o->n + s.waiting_frames;
        ret->waiting_bytes = o->bytes + s.waiting_bytes;
}

/* One wait of at most left_ms for whichever way has something under way. */
static void flush_wait(struct output *o, unsigned left_ms) {
        struct tel_client_stats s = { 0 };
        bool posting = o->http && (o->first || output_http_busy(o->http));
        if (o->client)
                tel_client_get_stats(o->client, &s);
        if (s.waiting_frames > 0) {
                client_unwatch(o);                 /* the flush may close its socket and open another */
                int r = tel_client_flush(o->client, posting ? TEL_MIN(left_ms, (unsigned)FLUSH_SLICE_MS) : left_ms);
                if (r == -EPROTO)
                        poll(NULL, 0, (int)TEL_MIN(left_ms, (unsigned)FLUSH_SLICE_MS));       /* refused: the client waits, too */
                posting = posting && r < 0;
        }
        if (o->http && output_http_busy(o->http))
                output_http_wait(o->http, s.waiting_frames > 0 ? 0 : (int)left_ms);
        else if (s.waiting_frames == 0)
                poll(NULL, 0, (int)TEL_MIN(left_ms, (unsigned)FLUSH_SLICE_MS));
}

int output_flush(struct output *o, unsigned timeout_ms) {
        uint64_t deadline_ns = uv_hrtime() + timeout_ms * TEL_NS_PER_MS;
        struct output_stats s;
        o->flushing = true;
        for (;;) {
                uint64_t now_ns = uv_hrtime();
                pump(o);
                output_get_stats(o, &s);
                if (s.waiting == 0 || now_ns >= deadline_ns)
                        break;
                flush_wait(o, (unsigned)((deadline_ns - now_ns + TEL_NS_PER_MS - 1) / TEL_NS_PER_MS));
        }
        o->flushing = false;
        return s.waiting == 0 ? 0 : -ETIMEDOUT;
}
