/* SPDX-License-Identifier: Apache-2.0 */
#include <microhttpd.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "collectord/http/linger.h"
#include "collectord/http/listen.h"
#include "collectord/http/server.h"
#include "libtelemetry/log.h"

/* We accept ourselves (MHD_add_connection): so running out of descriptors pauses instead of spinning, and a connection over the limit finds the
 * one that makes room for it. MHD reads, parses and answers. */

enum { ACCEPT_BURST = 16 };                        /* connections in one turn of the loop, then the others have theirs */
enum { RUNS_MAX = 16 };                            /* MHD_run() in one turn: each reads up to half a pool from every connection that has bytes */
#define LOOK_NS (2 * TEL_NS_PER_S)                 /* a whole head comes at once; what has not come by then is looked at */
enum { RETRY_AFTER_S = 1 };                        /* memory comes back as fast as bodies are handled */

enum phase {
        PHASE_FRESH,                               /* accepted, no request line yet */
        PHASE_IDLE,                                /* answered; the next request line has not come */
        PHASE_HEAD,                                /* request line read, head not whole */
        PHASE_BODY,
        PHASE_ANSWER,                              /* the answer is with MHD */
};

struct connection {
        struct connection *previous, *next;
        struct http_server *server;
        struct MHD_Connection *mhd;
        int fd;                                    /* MHD's */
        enum phase phase;
        uint64_t since_ns;                         /* when the wait for its peer began: IDLE and FRESH, or HEAD (BODY keeps it) */
        uint64_t progress_ns;                      /* the last time it was seen to move */
        uint64_t look_ns;                          /* when to look whether a peer that sent no whole head has left; 0: not again */
        bool over;                                 /* over the limit: told 503, then closed */
        bool dying;                                /* shut down; MHD closes it in its next run */
        bool linger;                               /* answered before the request was whole */
        bool half_closed;                          /* the peer ended its side */
        /* The request. */
        const char *method, *path;                 /* in the pool; NULL before the head is whole */
        char *query;                               /* heap */
        struct tel_buf *body;
        size_t length;                             /* of the body, or SIZE_MAX: unknown */
        size_t dropped;                            /* bytes of a refused body */
        unsigned refused;                          /* 413 or 503, to be said once it has come; 0: none */
};

struct http_server {
        uv_loop_t *loop;
        uv_poll_t accept;                          /* the listening socket */
        uv_poll_t poll;                            /* MHD's epoll descriptor */
        uv_timer_t timer;
        unsigned handles;                          /* of these, not closed yet */
        int fd;                                    /* listening; -1: closed */
        uint16_t port;
        struct MHD_Daemon *mhd;
        struct http_settings settings;             /* name and address are only borrowed by http_server_new() */
        char name[32];
        struct http_handler handler;
        struct connection *first;
        unsigned n, dying;                         /* connections; those that were shut down */
        bool admit_over;                           /* the connection being added is over the limit */
        bool running, changed, ending;
        uint64_t sweep_ns;                         /* earliest deadline of a connection; 0: none */
        uint64_t resume_ns;                        /* accept() is paused until then; 0: it is not */
        uint64_t paced_requests;                   /* of stats.requests, when pacing was last asked */
        uint64_t paced_ns;                         /* connections are left unread until then; 0: they are not */
        struct lingers lingers;
        struct http_server_stats stats;
        struct tel_log_repeat log_descriptors, log_limit;
};

static uint64_t now_of(const struct http_server *s) {
        return uv_now(s->loop) * TEL_NS_PER_MS;
}

/* ---- Deadlines ---- */

/* MHD closes a connection without any bytes for idle_ns. Here: what trickles. The first byte of a request line cannot be seen, only the whole
 * line; a connection kept alive may send its first byte just before MHD would close it, hence twice. */
static uint64_t deadline_of(const struct connection *c) {
        uint64_t idle = c->server->settings.idle_ns;
        if (c->look_ns)
                return c->look_ns;
        switch (c->phase) {
        case PHASE_FRESH: case PHASE_HEAD: case PHASE_BODY:
                return tel_add_sat(c->since_ns, idle);
        case PHASE_IDLE:
                return tel_add_sat(tel_add_sat(c->since_ns, idle), idle);
        case PHASE_ANSWER:
                break;
        }
        return UINT64_MAX;
}

static void phase_set(struct connection *c, enum phase phase) {
        struct http_server *s = c->server;
        c->phase = phase;
        c->progress_ns = now_of(s);
        c->look_ns = phase == PHASE_FRESH || phase == PHASE_HEAD ? c->progress_ns + TEL_MIN(LOOK_NS, s->settings.idle_ns / 2) : 0;
        if (phase != PHASE_BODY)                   /* a request has one deadline from its first byte to its last */
                c->since_ns = c->progress_ns;
        uint64_t deadline = deadline_of(c);
        if (deadline != UINT64_MAX && (s->sweep_ns == 0 || deadline < s->sweep_ns))
                s->sweep_ns = deadline;
}

/* MHD sees the hang-up and closes it in its next run. */
static void connection_shutdown(struct connection *c) {
        c->dying = true;
        c->server->dying++;
        shutdown(c->fd, SHUT_RDWR);
}

/* MHD reads once for an edge of epoll: when a peer ends its side right behind its request, both come with one edge and the end stays unseen.
 * This makes another edge. What is left in MHD's buffer is served before it reads again. */
static void half_closed_check(struct connection *c) {
        char byte;
        if (!c->half_closed && recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0) {
                c->half_closed = true;
                shutdown(c->fd, SHUT_RD);
        }
}

/* ---- Answers ---- */

static void on_body_sent(void *ctx) {
        tel_buf_unref(ctx);
}

static bool header_add(struct MHD_Response *response, const char *name, const char *value) {
        return !value || MHD_add_response_header(response, name, value) == MHD_YES;
}

/* Queues reply and takes its body. MHD_NO closes the connection. */
static enum MHD_Result answer(struct connection *c, struct http_reply *reply) {
        struct http_server *s = c->server;
        struct tel_buf *b = TEL_TAKE(reply->body);
        struct MHD_Response *response = NULL;
        char retry[16];
        if (b && b->len == 0)
                b = tel_buf_unref(b);
        response = b ? MHD_create_response_from_buffer_with_free_callback_cls(b->len, b->data, on_body_sent, b)
                     : MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
        if (!response) {
                tel_buf_unref(b);
                return MHD_NO;
        }
        bool close_it = reply->close || c->over || s->fd < 0;
        bool ok = header_add(response, MHD_HTTP_HEADER_CONTENT_TYPE, reply->content_type) &&
                  header_add(response, MHD_HTTP_HEADER_ALLOW, reply->allow) &&
                  header_add(response, MHD_HTTP_HEADER_CONTENT_ENCODING, reply->gzip ? "gzip" : NULL) &&
                  header_add(response, MHD_HTTP_HEADER_CONNECTION, close_it ? "close" : NULL) &&
                  header_add(response, MHD_HTTP_HEADER_RETRY_AFTER, reply->retry_after_s ? TEL_LOGF(retry, "%u", reply->retry_after_s) : NULL);
        enum MHD_Result r = ok ? MHD_queue_response(c->mhd, reply->status, response) : MHD_NO;
        MHD_destroy_response(response);
        phase_set(c, PHASE_ANSWER);
        return r;
}

static struct http_view view_of(struct connection *c) {
        struct http_view v = { .method = c->method ? c->method : "", .path = c->path ? c->path : "", .query = c->query };
        if (c->path) {                             /* the head is whole */
                v.content_type = MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_TYPE);
                v.content_encoding = MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_ENCODING);
                v.accept_encoding = MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT_ENCODING);
        }
        return v;
}

static struct http_reply refusal(struct connection *c, unsigned status) {
        struct http_view view = view_of(c);
        struct http_reply reply = { .status = status, .retry_after_s = status == MHD_HTTP_SERVICE_UNAVAILABLE ? RETRY_AFTER_S : 0 };
        c->body = tel_buf_unref(c->body);
        c->server->handler.refused(c->server->handler.ctx, &view, &reply);
        return reply;
}

/* Answers between head and end of a request, which MHD has no call for: nothing of an answer is on the wire yet, so we write it ourselves, at one
 * go or not at all. The connection must end behind it. */
static void answer_raw(struct connection *c, unsigned status) {
        struct http_reply reply = refusal(c, status);
        char head[512], retry[48] = "", type[128] = "";
        size_t len = reply.body ? reply.body->len : 0;
        if (reply.retry_after_s)
                snprintf(retry, sizeof(retry), "Retry-After: %u\r\n", reply.retry_after_s);
        if (reply.content_type)
                snprintf(type, sizeof(type), "Content-Type: %s\r\n", reply.content_type);
        int n = snprintf(head, sizeof(head), "HTTP/1.1 %u %s\r\nConnection: close\r\nContent-Length: %zu\r\n%s%s\r\n", status,
                         MHD_get_reason_phrase_for(status), len, retry, type);
        struct iovec parts[] = { { head, (size_t)n }, { len ? reply.body->data : NULL, len } };
        sendmsg(c->fd, &(struct msghdr){ .msg_iov = parts, .msg_iovlen = TEL_ARRAY_LEN(parts) }, MSG_DONTWAIT | MSG_NOSIGNAL);
        tel_buf_unref(reply.body);
        c->linger = true;
}

/* ---- One request, as MHD hands it over ---- */

/* Bytes the body will have; SIZE_MAX: chunked. MHD has checked the digits. */
static size_t length_of(struct MHD_Connection *mhd) {
        if (MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_TRANSFER_ENCODING))
                return SIZE_MAX;
        const char *value = MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
        unsigned long long n = value ? strtoull(value, NULL, 10) : 0;
        return n < SIZE_MAX ? (size_t)n : SIZE_MAX - 1;
}

/* The head is whole: the last moment for an answer before the body is asked for. */
static enum MHD_Result on_head(struct connection *c, const char *method, const char *path) {
        c->method = method;
        c->path = path;
        c->length = length_of(c->mhd);
        unsigned status = 0;
        if (c->over)
                status = MHD_HTTP_SERVICE_UNAVAILABLE;
        else if (c->length != SIZE_MAX && c->length > c->server->settings.body_max)
                status = MHD_HTTP_CONTENT_TOO_LARGE;
        if (status == 0) {
                phase_set(c, PHASE_BODY);
                return MHD_YES;
        }
        c->linger = c->length > 0;
        struct http_reply reply = refusal(c, status);
        return answer(c, &reply);
}

static enum MHD_Result on_body(struct connection *c, const char *bytes, size_t n) {
        const struct http_settings *settings = &c->server->settings;
        c->progress_ns = now_of(c->server);
        if (c->refused == 0) {
                if (!c->body)
                        c->body = tel_buf_new(settings->budget, 0);
                /* The bound is what will come when that is known, so doubling ends at exactly that. */
                int r = c->body ? tel_buf_append(c->body, bytes, n, TEL_MIN(c->length, settings->body_max)) : -ENOBUFS;
                if (r == 0) {
                        if (c->body->len < c->length)  /* a peer that left with its last bytes would be waited for */
                                half_closed_check(c);
                        return MHD_YES;
                }
                c->refused = r == -EMSGSIZE ? MHD_HTTP_CONTENT_TOO_LARGE : MHD_HTTP_SERVICE_UNAVAILABLE;
                c->body = tel_buf_unref(c->body);
        }
        /* Most peers read no answer before they have written all; so much is read for their sake as an accepted body may have. */
        c->dropped += n;
        if (c->dropped <= settings->body_max)
                return MHD_YES;
        answer_raw(c, c->refused);
        return MHD_NO;
}

static enum MHD_Result on_whole(struct connection *c) {
        struct http_server *s = c->server;
        struct http_reply reply;
        s->stats.requests++;
        s->changed = true;
        if (c->refused)
                reply = refusal(c, c->refused);
        else {
                struct http_view view = view_of(c);
                view.body = c->body;
                reply = (struct http_reply){ 0 };
                s->handler.request(s->handler.ctx, &view, &reply);
                c->body = tel_buf_unref(c->body);  /* not while a slow peer reads the answer */
        }
        return answer(c, &reply);
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *mhd, const char *path, const char *method, const char *version,
                                  const char *bytes, size_t *n, void **request) {
        struct connection *c = *request;
        (void)ctx;
        (void)mhd;
        (void)version;
        if (!c)
                return MHD_NO;                     /* there was no memory to begin it */
        if (c->phase == PHASE_HEAD)
                return on_head(c, method, path);
        if (*n == 0)
                return on_whole(c);
        size_t len = *n;
        *n = 0;                                    /* taken */
        return on_body(c, bytes, len);
}

/* The request line was read. What this returns is *request above. */
static void *on_line(void *ctx, const char *uri, struct MHD_Connection *mhd) {
        (void)ctx;
        struct connection *c = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
        if (!c)
                return NULL;
        const char *query = strchr(uri, '?');
        c->query = query ? strdup(query + 1) : NULL;
        phase_set(c, PHASE_HEAD);
        return c;
}

static void request_done(struct connection *c) {
        c->body = tel_buf_unref(c->body);
        free(TEL_TAKE(c->query));
        c->method = c->path = NULL;
        c->length = c->dropped = 0;
        c->refused = 0;
}

static void on_completed(void *ctx, struct MHD_Connection *mhd, void **request, enum MHD_RequestTerminationCode why) {
        struct connection *c = *request;
        (void)ctx;
        (void)mhd;
        if (!c)
                return;
        if (why == MHD_REQUEST_TERMINATED_TIMEOUT_REACHED) {
                c->server->stats.timeouts++;
                c->server->changed = true;
        }
        request_done(c);
        phase_set(c, PHASE_IDLE);
        if (why == MHD_REQUEST_TERMINATED_COMPLETED_OK)
                half_closed_check(c);
}

/* ---- Connections ---- */

static void connection_begin(struct http_server *s, struct MHD_Connection *mhd, void **context) {
        struct connection *c = calloc(1, sizeof(*c));
        *context = c;
        if (!c)
                return;                            /* its first request ends it */
        c->server = s;
        c->mhd = mhd;
        c->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        c->over = s->admit_over;
        c->next = s->first;
        if (c->next)
                c->next->previous = c;
        s->first = c;
        s->n++;
        phase_set(c, PHASE_FRESH);
}

static void connection_end(struct http_server *s, struct connection *c) {
        if (!c)
                return;
        int fd = c->linger && !s->ending ? dup(c->fd) : -1;    /* MHD closes its own next */
        if (fd >= 0)
                linger_begin(&s->lingers, s->loop, fd);
        if (c->previous)
                c->previous->next = c->next;
        else
                s->first = c->next;
        if (c->next)
                c->next->previous = c->previous;
        s->n--;
        s->dying -= c->dying;
        request_done(c);
        free(c);
        if (s->resume_ns)
                s->resume_ns = now_of(s);          /* there is room now */
}

static void on_connection(void *ctx, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode what) {
        struct http_server *s = ctx;
        if (what == MHD_CONNECTION_NOTIFY_STARTED)
                connection_begin(s, mhd, context);
        else
                connection_end(s, *context);
        s->stats.connections = s->n;
        s->stats.connections_peak = TEL_MAX(s->stats.connections_peak, s->n);
        s->changed = true;
}

/* Shuts down the connection that has waited longest for its peer. Returns false when none does. */
static bool evict(struct http_server *s) {
        struct connection *longest = NULL;
        uint64_t now_ns = now_of(s);
        for (struct connection *c = s->first; c; c = c->next) {
                if (c->dying || c->phase == PHASE_ANSWER || (c->phase != PHASE_IDLE && now_ns - c->progress_ns < HTTP_STALLED_NS))
                        continue;
                if (!longest || c->progress_ns < longest->progress_ns)
                        longest = c;
        }
        if (!longest)
                return false;
        connection_shutdown(longest);
        s->stats.evicted++;
        s->changed = true;
        return true;
}

/* Ends what did not become whole in time, and finds the next deadline. */
static void sweep(struct http_server *s, uint64_t now_ns) {
        s->sweep_ns = 0;
        for (struct connection *c = s->first; c; c = c->next) {
                if (c->look_ns && c->look_ns <= now_ns) {
                        c->look_ns = 0;
                        half_closed_check(c);
                }
                uint64_t deadline = c->dying ? UINT64_MAX : deadline_of(c);
                if (deadline <= now_ns) {
                        if (c->phase == PHASE_HEAD || c->phase == PHASE_BODY)      /* who has asked nothing is told nothing */
                                answer_raw(c, MHD_HTTP_REQUEST_TIMEOUT);
                        connection_shutdown(c);
                        s->stats.timeouts++;
                        s->changed = true;
                } else if (deadline != UINT64_MAX && (s->sweep_ns == 0 || deadline < s->sweep_ns))
                        s->sweep_ns = deadline;
        }
}

/* ---- The loop ---- */

static void on_timer(uv_timer_t *timer);
static void on_accept(uv_poll_t *poll, int status, int events);

static void timer_set(struct http_server *s) {
        MHD_UNSIGNED_LONG_LONG wait_ms;
        uint64_t due_ns = UINT64_MAX, now_ns = now_of(s);
        if (MHD_get_timeout(s->mhd, &wait_ms) == MHD_YES)
                due_ns = tel_add_sat(now_ns, TEL_MIN((uint64_t)wait_ms, UINT64_MAX / TEL_NS_PER_MS) * TEL_NS_PER_MS);
        if (s->paced_ns)
                due_ns = s->paced_ns;
        if (s->sweep_ns)
                due_ns = TEL_MIN(due_ns, s->sweep_ns);
        if (s->resume_ns)
                due_ns = TEL_MIN(due_ns, s->resume_ns);
        if (due_ns == UINT64_MAX)
                uv_timer_stop(&s->timer);
        else
                uv_timer_start(&s->timer, on_timer, due_ns > now_ns ? (due_ns - now_ns + TEL_NS_PER_MS - 1) / TEL_NS_PER_MS : 0, 0);
}

/* The handler may want a pause, because what it takes in goes out more slowly. */
static void pace(struct http_server *s) {
        if (s->stats.requests == s->paced_requests)
                return;                            /* nothing came in: there is nothing to slow down */
        s->paced_requests = s->stats.requests;
        unsigned pause_ms = s->handler.pace_ms && !s->ending ? s->handler.pace_ms(s->handler.ctx) : 0;
        if (pause_ms == 0)
                return;
        uv_update_time(s->loop);                   /* the turn itself took time */
        s->paced_ns = now_of(s) + pause_ms * TEL_NS_PER_MS;
        uv_poll_stop(&s->poll);
}

/* Lets MHD work until it waits for the network again, or has had its share; what is left comes with the timer, which is due at once then. */
static void turn(struct http_server *s) {
        MHD_UNSIGNED_LONG_LONG wait_ms;
        assert(!s->running);
        s->running = true;
        for (unsigned i = 0; i < RUNS_MAX; i++) {
                MHD_run(s->mhd);
                if (MHD_get_timeout(s->mhd, &wait_ms) != MHD_YES || wait_ms > 0)
                        break;
        }
        if (s->changed && s->handler.changed)
                s->handler.changed(s->handler.ctx, &s->stats);
        s->changed = s->running = false;
        pace(s);
        timer_set(s);
}

static void on_ready(uv_poll_t *poll, int status, int events) {
        (void)status;
        (void)events;
        turn(poll->data);
}

static void accept_pause(struct http_server *s) {
        uv_poll_stop(&s->accept);
        s->resume_ns = now_of(s) + HTTP_PAUSE_NS;
}

static void on_timer(uv_timer_t *timer) {
        struct http_server *s = timer->data;
        uint64_t now_ns = now_of(s);
        if (s->resume_ns && s->resume_ns <= now_ns) {
                s->resume_ns = 0;
                if (s->fd >= 0)
                        uv_poll_start(&s->accept, UV_READABLE, on_accept);
        }
        if (s->sweep_ns && s->sweep_ns <= now_ns)
                sweep(s, now_ns);
        if (s->paced_ns > now_ns) {
                timer_set(s);
                return;
        }
        if (s->paced_ns) {
                s->paced_ns = 0;
                uv_poll_start(&s->poll, UV_READABLE, on_ready);
        }
        turn(s);
}

/* There is no descriptor or memory for the one that waits in the kernel: another one goes for it, or it waits. */
static void accept_failed(struct http_server *s, int error) {
        char n[16];
        tel_log_repeated(&s->log_descriptors, now_of(s), TEL_LOG_ERROR, "cannot accept connections", { "listener", s->name },
                         { "err", uv_strerror(-error) }, { "connections", TEL_LOGF(n, "%u", s->n) });
        if (!evict(s))
                accept_pause(s);
}

static void limit_reached(struct http_server *s, const char *what) {
        char n[16];
        tel_log_repeated(&s->log_limit, now_of(s), TEL_LOG_WARN, "connection limit reached", { "listener", s->name },
                         { "limit", TEL_LOGF(n, "%u", s->settings.connections_max) }, { "action", what });
}

/* Accepts one connection. Returns false when no more are to be accepted now. */
static bool accept_one(struct http_server *s) {
        struct sockaddr_storage peer;
        socklen_t len = sizeof(peer);
        if (s->n >= s->settings.connections_max + HTTP_OVERFLOW_MAX) {
                limit_reached(s, "wait");
                if (!evict(s))
                        accept_pause(s);
                return false;
        }
        int fd = accept4(s->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
                if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                        accept_failed(s, errno);
                        return false;
                }
                return errno != EAGAIN;            /* others are about the one connection, which is gone */
        }
        s->admit_over = false;
        if (s->n - s->dying >= s->settings.connections_max) {
                s->admit_over = !evict(s);
                limit_reached(s, s->admit_over ? "refuse" : "evict");
        }
        MHD_add_connection(s->mhd, fd, (struct sockaddr *)&peer, len);         /* closes fd when it fails */
        return true;
}

static void on_accept(uv_poll_t *poll, int status, int events) {
        struct http_server *s = poll->data;
        (void)status;
        (void)events;
        for (int i = 0; i < ACCEPT_BURST && accept_one(s); i++)
                ;
        if (s->paced_ns)                           /* a new peer is no reason to read from all of them */
                timer_set(s);
        else
                turn(s);
}

/* ---- Life ---- */

static void on_closed(uv_handle_t *handle) {
        struct http_server *s = handle->data;
        if (--s->handles == 0 && s->ending)
                free(s);
}

static void listener_close(struct http_server *s) {
        if (s->fd < 0)
                return;
        if (s->accept.data)
                uv_close((uv_handle_t *)&s->accept, on_closed);        /* takes it out of the loop before the number can be another's */
        close(s->fd);
        s->fd = -1;
        s->resume_ns = 0;
}

static int mhd_start(struct http_server *s) {
        unsigned idle_s = (unsigned)((s->settings.idle_ns + TEL_NS_PER_S - 1) / TEL_NS_PER_S);
        s->mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, on_request, s,
                                  MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
                                  MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
                                  MHD_OPTION_URI_LOG_CALLBACK, on_line, s,
                                  MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_POOL_BYTES,
                                  /* Ours is below: this is room for those that were shut down and not closed yet. */
                                  MHD_OPTION_CONNECTION_LIMIT, s->settings.connections_max + HTTP_OVERFLOW_MAX + ACCEPT_BURST,
                                  MHD_OPTION_CONNECTION_TIMEOUT, idle_s, MHD_OPTION_END);
        return s->mhd ? 0 : -ENOMEM;
}

static int handles_start(struct http_server *s) {
        int r = uv_timer_init(s->loop, &s->timer);
        if (r < 0)
                return r;
        s->timer.data = s;
        s->handles++;
        r = uv_poll_init(s->loop, &s->poll, MHD_get_daemon_info(s->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd);
        if (r < 0)
                return r;
        s->poll.data = s;
        s->handles++;
        r = uv_poll_init(s->loop, &s->accept, s->fd);
        if (r < 0)
                return r;
        s->accept.data = s;
        s->handles++;
        r = uv_poll_start(&s->poll, UV_READABLE, on_ready);
        return r < 0 ? r : uv_poll_start(&s->accept, UV_READABLE, on_accept);
}

int http_server_new(uv_loop_t *loop, const struct http_settings *settings, const struct http_handler *handler, struct http_server **ret,
                    char *reterr) {
        int fd;
        int r = http_listen(settings->name, settings->address, settings->fd, &fd, reterr, HTTP_ERROR_MAX);
        if (r < 0)
                return r;
        struct http_server *s = calloc(1, sizeof(*s));
        if (!s) {
                close(fd);
                snprintf(reterr, HTTP_ERROR_MAX, "listen %s: %s", settings->name, uv_strerror(-ENOMEM));
                return -ENOMEM;
        }
        s->loop = loop;
        s->fd = fd;
        s->port = http_listen_port(fd);
        s->settings = *settings;
        s->handler = *handler;
        snprintf(s->name, sizeof(s->name), "%s", settings->name);
        s->settings.name = s->name;
        s->settings.address = NULL;
        r = mhd_start(s);
        if (r == 0)
                r = handles_start(s);
        if (r < 0) {
                snprintf(reterr, HTTP_ERROR_MAX, "listen %s: %s: %s", settings->name, settings->address, uv_strerror(r));
                http_server_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

uint16_t http_server_port(const struct http_server *s) {
        return s->port;
}

void http_server_get_stats(const struct http_server *s, struct http_server_stats *ret) {
        *ret = s->stats;
}

void http_server_quiesce(struct http_server *s) {
        listener_close(s);
}

struct http_server *http_server_free(struct http_server *s) {
        if (!s)
                return NULL;
        assert(!s->running && !s->ending);
        s->ending = true;
        listener_close(s);
        if (s->poll.data)
                uv_close((uv_handle_t *)&s->poll, on_closed);  /* before MHD closes its descriptor */
        MHD_stop_daemon(s->mhd);                               /* ends every connection, through on_connection() */
        lingers_done(&s->lingers);
        if (s->timer.data)
                uv_close((uv_handle_t *)&s->timer, on_closed);
        else
                free(s);                                       /* no handle was begun */
        return NULL;
}
