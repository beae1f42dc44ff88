/* SPDX-License-Identifier: Apache-2.0 */
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collectord/clock.h"
#include "collectord/sources/frame_socket.h"
#include "collectord/sources/line.h"
#include "collectord/stats.h"
#include "libtelemetry/cursor.h"
#include "libtelemetry/json.h"
#include "libtelemetry/log.h"
#include "libtelemetry/unix_listen.h"

#define PRODUCERS_MAX 256                          /* epochs remembered; one of a producer that is away is forgotten first */
#define READ_BYTES (64u << 10)                     /* room offered to one read */
#define WRITE_QUEUE_MAX (256u << 10)               /* acknowledgements and replies a peer may leave unread before it is not read either */
#define PAUSE_MS 100                               /* before a record is offered again to a full spool */
#define UNFINISHED_NS (30 * TEL_NS_PER_S)          /* a frame or line that began is whole by then, or its peer goes: it holds memory others wait for */
#define SWEEP_MS 5000                              /* how often that is looked at, while there is one */
#define USERS_MAX 64

enum peer_mode { PEER_NEW, PEER_FRAMES, PEER_LINES, PEER_CLOSING };

/* What is known of an epoch: sequences up to last are in the spool. */
struct producer {
        uint8_t epoch[TEL_FRAME_EPOCH];
        uint64_t last, used_ns;
        uint64_t dropped_frames;                   /* as it said in STATUS: cumulative over its connections */
        unsigned connections;
};

struct peer {
        struct peer *next;
        struct frame_socket *owner;
        uv_pipe_t pipe;
        enum peer_mode mode;
        bool reading, eof;
        bool held;                                 /* what lies in `in` was turned away before: count it once */
        uint64_t unfinished_ns;                    /* when the frame or line that is not whole yet began; 0: none */
        bool deaf;                                 /* it no longer takes our answers; what it has sent still counts */
        bool paused;                               /* not read for a while: the spools were full for what lies in `in`, or records go out more slowly */
        struct tel_buf *in;                        /* what has come and is not taken yet */
        size_t taken;                              /* bytes of in that are done with */
        struct producer *producer;                 /* after HELLO */
        uint64_t sequence;                         /* the last one on this connection */
        uint64_t acknowledge;                      /* to be told; 0: nothing new */
        uint32_t id;
        struct frame_peer view;
};

struct frame_socket {
        uv_loop_t *loop;
        uv_pipe_t listener;
        uv_timer_t timer;                          /* wakes paused peers */
        uv_timer_t sweep;                          /* ends peers that never finish; runs while one has begun */
        struct pipeline *pipeline;
        struct tel_budget *ingest;
        char path[108];
        bool own_path, closing;
        unsigned connections_max, connections, handles;
        uint32_t next_id;
        uid_t users[USERS_MAX];
        size_t n_users;
        gid_t group;                               /* of the socket; members may write */
        struct peer *peers;
        struct producer producers[PRODUCERS_MAX];
        size_t n_producers;
        struct tel_log_repeat refused_log, error_log, limit_log, accept_log, pause_log;
};

static void peer_take(struct peer *p);

/* ---- Writing ---- */

struct outgoing {
        uv_write_t write;
        struct peer *peer;
        uint8_t bytes[];
};

static void peer_close(struct peer *p);
static void peer_read(struct peer *p);

static void on_written(uv_write_t *write, int status) {
        struct outgoing *o = tel_container_of(write, struct outgoing, write);
        struct peer *p = o->peer;
        free(o);
        p->deaf = p->deaf || status < 0;
        if (p->mode == PEER_CLOSING && uv_stream_get_write_queue_size((uv_stream_t *)&p->pipe) == 0)
                peer_close(p);
        else
                peer_read(p);
}

static void peer_write(struct peer *p, const void *bytes, size_t n) {
        if (uv_is_closing((uv_handle_t *)&p->pipe) || p->deaf)
                return;
        struct outgoing *o = malloc(sizeof(*o) + n);
        if (!o) {
                peer_close(p);
                return;
        }
        o->peer = p;
        memcpy(o->bytes, bytes, n);
        uv_buf_t buf = uv_buf_init((char *)o->bytes, (unsigned)n);
        if (uv_write(&o->write, (uv_stream_t *)&p->pipe, &buf, 1, on_written) < 0) {
                free(o);
                peer_close(p);
        }
}

static void peer_acknowledge(struct peer *p) {
        uint8_t head[TEL_FRAME_HEAD];
        if (p->acknowledge == 0)
                return;
        tel_frame_head(head, TEL_FRAME_ACK, p->acknowledge, NULL, 0);
        p->acknowledge = 0;
        peer_write(p, head, sizeof(head));
}

/* Closes when everything written has gone out. */
static void peer_finish(struct peer *p) {
        p->mode = PEER_CLOSING;
        if (uv_stream_get_write_queue_size((uv_stream_t *)&p->pipe) == 0)
                peer_close(p);
        else
                peer_read(p);
}

/* Counts, tells the peer, and ends the connection. */
static void peer_error(struct peer *p, enum tel_frame_error error, uint64_t sequence, const char *text) {
        uint8_t wire[TEL_FRAME_HEAD + TEL_FRAME_SMALL_MAX];
        char number[16], pid[16];
        struct tel_frame_error_body body = { .code = (uint32_t)error, .sequence = sequence };
        stats.frame_errors[error]++;
        snprintf(body.text, sizeof(body.text), "%s%s%.200s", tel_frame_error_name(error), text ? ": " : "", text ? text : "");
        tel_log_repeated(&p->owner->error_log, clock_now_ns(), TEL_LOG_WARN, "frame connection refused", { "producer", p->view.name },
                         { "pid", TEL_LOGF(pid, "%u", p->view.pid) }, { "error", TEL_LOGF(number, "%d", (int)error) }, { "err", body.text });
        peer_acknowledge(p);
        size_t n = tel_frame_error_put(wire + TEL_FRAME_HEAD, &body);
        tel_frame_head(wire, TEL_FRAME_ERROR, 0, wire + TEL_FRAME_HEAD, (uint32_t)n);
        peer_write(p, wire, TEL_FRAME_HEAD + n);
        peer_finish(p);
}

/* ---- Producers ---- */

static struct producer *producer_find(struct frame_socket *f, const uint8_t epoch[static TEL_FRAME_EPOCH]) {
        struct producer *oldest = NULL;
        for (size_t i = 0; i < f->n_producers; i++) {
                struct producer *p = &f->producers[i];
                if (memcmp(p->epoch, epoch, TEL_FRAME_EPOCH) == 0)
                        return p;
                if (p->connections == 0 && (!oldest || p->used_ns < oldest->used_ns))
                        oldest = p;
        }
        if (f->n_producers < PRODUCERS_MAX)
                oldest = &f->producers[f->n_producers++];
        if (oldest) {
                *oldest = (struct producer){ 0 };
                memcpy(oldest->epoch, epoch, TEL_FRAME_EPOCH);
        }
        return oldest;
}

static void peer_hello(struct peer *p, const struct tel_frame *frame) {
        struct tel_frame_hello h;
        char pid[16], uid[16];
        if (p->producer || tel_frame_hello_get(frame->body, frame->len, &h) < 0) {
                peer_error(p, TEL_FRAME_ERROR_HELLO, 0, p->producer ? "a second one" : "malformed");
                return;
        }
        p->producer = producer_find(p->owner, h.epoch);
        if (!p->producer) {
                peer_error(p, TEL_FRAME_ERROR_LIMIT, 0, "too many producers");
                return;
        }
        p->producer->connections++;
        p->producer->used_ns = clock_now_ns();
        snprintf(p->view.name, sizeof(p->view.name), "%s", h.name);
        snprintf(p->view.version, sizeof(p->view.version), "%s", h.version);
        snprintf(p->view.host, sizeof(p->view.host), "%s", h.host);
        tel_log(TEL_LOG_INFO, "producer connected", { "producer", h.name }, { "version", h.version }, { "pid", TEL_LOGF(pid, "%u", p->view.pid) },
                { "uid", TEL_LOGF(uid, "%u", p->view.uid) });
}

/* ---- Frames ---- */

/* Returns false when the spool is full and the frame must be offered again. */
static bool peer_data(struct peer *p, const struct tel_frame *frame, enum tel_signal signal) {
        struct tel_otlp_result result = { 0 };
        struct origin origin = { .source = SOURCE_FRAMES, .producer = p->id };
        if (frame->sequence <= p->sequence) {
                peer_error(p, TEL_FRAME_ERROR_SEQUENCE, frame->sequence, NULL);
                return true;
        }
        if (frame->sequence <= p->producer->last) {        /* sent again after a reconnect */
                p->view.duplicates++;
                stats.frames_duplicate++;
                p->sequence = frame->sequence;
                p->acknowledge = frame->sequence;
                return true;
        }
        int r = pipeline_submit(p->owner->pipeline, signal, frame->body, frame->len, &origin, clock_now_ns(), &result);
        if (r == -EAGAIN || r == -ENOMEM) {
                stats.receiver[TRANSPORT_FRAMES][signal].failed += !p->held;
                p->held = true;
                return false;
        }
        p->held = false;
        stats.receiver[TRANSPORT_FRAMES][signal].requests++;
        stats.receiver[TRANSPORT_FRAMES][signal].bytes += frame->len;
        stats.receiver[TRANSPORT_FRAMES][signal].accepted += r == 0 ? result.items : 0;
        stats.receiver[TRANSPORT_FRAMES][signal].refused += result.rejected + (r < 0);
        p->sequence = p->producer->last = frame->sequence;
        if (r < 0) {
                peer_error(p, TEL_FRAME_ERROR_BODY, frame->sequence, result.error);
                return true;
        }
        p->view.items += result.items;
        p->acknowledge = frame->sequence;
        return true;
}

static void peer_status(struct peer *p, const struct tel_frame *frame) {
        struct tel_frame_status s;
        if (tel_frame_status_get(frame->body, frame->len, &s) < 0) {
                peer_error(p, TEL_FRAME_ERROR_BODY, frame->sequence, "malformed status");
                return;
        }
        if (s.dropped_frames > p->producer->dropped_frames) {
                stats.producers_dropped_frames += s.dropped_frames - p->producer->dropped_frames;
                p->producer->dropped_frames = s.dropped_frames;
        }
        p->view.dropped_frames = s.dropped_frames;
        snprintf(p->view.status, sizeof(p->view.status), "%s", s.text);
}

static bool peer_frame(struct peer *p, const struct tel_frame *frame) {
        static const enum tel_signal signal_of[] = { [TEL_FRAME_TRACES] = TEL_TRACES, [TEL_FRAME_METRICS] = TEL_METRICS, [TEL_FRAME_LOGS] = TEL_LOGS };
        if (!p->producer && frame->kind != TEL_FRAME_HELLO) {
                peer_error(p, TEL_FRAME_ERROR_HELLO, frame->sequence, "expected HELLO first");
                return true;
        }
        switch (frame->kind) {
        case TEL_FRAME_HELLO:
                peer_hello(p, frame);
                break;
        case TEL_FRAME_TRACES: case TEL_FRAME_METRICS: case TEL_FRAME_LOGS:
                if (!peer_data(p, frame, signal_of[frame->kind]))
                        return false;
                break;
        case TEL_FRAME_STATUS:
                peer_status(p, frame);
                break;
        case TEL_FRAME_BYE:
                peer_acknowledge(p);
                peer_finish(p);
                break;
        default:
                peer_error(p, TEL_FRAME_ERROR_KIND, frame->sequence, "not one that this receiver takes");
        }
        p->view.frames++;
        stats.frames_total++;
        return true;
}

/* One frame of what lies in `in`. Returns whether there may be another. */
static bool take_frame(struct peer *p) {
        struct tel_frame frame;
        enum tel_frame_error error;
        const uint8_t *at = p->in->data + p->taken;
        size_t n = p->in->len - p->taken;
        int r = tel_frame_parse(at, n, &frame, &error);
        if (r == TEL_FRAME_MORE) {
                /* Room for the whole frame is taken at once, or not at all: two large ones that grow side by side could each hold what the other
                 * needs. Who gets none waits with what it has. */
                size_t whole = TEL_FRAME_HEAD + (n >= TEL_FRAME_HEAD ? frame.len : 0);
                if (whole > n && tel_buf_reserve(p->in, p->taken + whole - p->in->len, p->taken + whole) < 0)
                        p->paused = true;
                return false;
        }
        if (r < 0) {
                peer_error(p, error, n >= TEL_FRAME_HEAD ? tel_be64_get(at + 16) : 0, NULL);
                return false;
        }
        if (!peer_frame(p, &frame)) {
                p->paused = true;
                return false;
        }
        p->taken += TEL_FRAME_HEAD + frame.len;
        return true;
}

/* ---- Lines ---- */

static void line_reply(struct peer *p, const struct tel_otlp_result *result, int r) {
        char head[96];
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = tel_buf_new(NULL, 256);
        if (!out)
                return;
        snprintf(head, sizeof(head), "{\"ok\":%s,\"items\":%zu", r == 0 ? "true" : "false", r == 0 ? result->items : 0);
        tel_buf_append(out, head, strlen(head), SIZE_MAX / 2);
        if (r == 0 && result->rejected) {
                snprintf(head, sizeof(head), ",\"rejected\":%zu", result->rejected);
                tel_buf_append(out, head, strlen(head), SIZE_MAX / 2);
        }
        if (result->error[0]) {
                tel_buf_append(out, ",\"error\":", 9, SIZE_MAX / 2);
                tel_json_string_put(out, result->error, strlen(result->error), SIZE_MAX / 2);
        }
        tel_buf_append(out, "}\n", 2, SIZE_MAX / 2);
        peer_write(p, out->data, out->len);
}

/* Returns false when the spool is full and the line must be offered again. */
static bool peer_line(struct peer *p, const char *text, size_t n) {
        struct tel_otlp_result result = { 0 };
        struct origin origin = { .source = SOURCE_FRAMES, .producer = p->id };
        enum tel_signal signal = TEL_LOGS;
        while (n > 0 && (text[n - 1] == '\r' || text[n - 1] == ' '))
                n--;
        if (n == 0)
                return true;
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *body = tel_buf_new(p->owner->ingest, 0);
        int r = body ? line_parse(text, n, clock_wall_ns(clock_now_ns()), body, 2 * LINE_BYTES_MAX, &signal, result.error) : -ENOBUFS;
        if (r == 0)
                r = pipeline_submit(p->owner->pipeline, signal, body->data, body->len, &origin, clock_now_ns(), &result);
        if (r == -EAGAIN || r == -ENOMEM || r == -ENOBUFS) {
                stats.receiver[TRANSPORT_LINES][signal].failed += !p->held;
                p->held = true;
                return false;
        }
        p->held = false;
        stats.receiver[TRANSPORT_LINES][signal].requests++;
        stats.receiver[TRANSPORT_LINES][signal].bytes += n;
        stats.receiver[TRANSPORT_LINES][signal].accepted += r == 0 ? result.items : 0;
        stats.receiver[TRANSPORT_LINES][signal].refused += result.rejected + (r < 0);
        p->view.frames++;
        p->view.items += r == 0 ? result.items : 0;
        line_reply(p, &result, r);
        return true;
}

static bool take_line(struct peer *p) {
        const char *at = (const char *)p->in->data + p->taken;
        size_t n = p->in->len - p->taken;
        const char *newline = memchr(at, '\n', n);
        size_t len = newline ? (size_t)(newline - at) : n;
        if (len > LINE_BYTES_MAX) {
                struct tel_otlp_result result = { 0 };
                snprintf(result.error, sizeof(result.error), "the line is longer than %u bytes", LINE_BYTES_MAX);
                line_reply(p, &result, -EMSGSIZE);
                peer_finish(p);
                return false;
        }
        if (!newline && !p->eof)
                return false;
        if (!peer_line(p, at, len)) {
                p->paused = true;
                return false;
        }
        p->taken += len + (newline ? 1 : 0);
        return true;
}

/* ---- Reading ---- */

static void on_timer(uv_timer_t *timer) {
        struct frame_socket *f = tel_container_of(timer, struct frame_socket, timer);
        if (f->closing)
                return;
        for (struct peer *p = f->peers, *next; p; p = next) {
                next = p->next;
                if (p->paused)
                        peer_take(p);
        }
}

static void peer_pause(struct peer *p, unsigned ms) {
        p->paused = true;
        if (!uv_is_active((uv_handle_t *)&p->owner->timer))
                uv_timer_start(&p->owner->timer, on_timer, ms, 0);
}

static void peer_no_room(struct peer *p) {
        stats.frames_paused++;
        tel_log_repeated(&p->owner->pause_log, clock_now_ns(), TEL_LOG_WARN, "buffer full, frame producers wait", { "producer", p->view.name });
        peer_pause(p, PAUSE_MS);
}

static void on_sweep(uv_timer_t *timer) {
        struct frame_socket *f = tel_container_of(timer, struct frame_socket, sweep);
        uint64_t now = clock_now_ns();
        bool any = false;
        for (struct peer *p = f->peers, *next; p; p = next) {
                next = p->next;
                if (p->unfinished_ns == 0 || p->mode == PEER_CLOSING)
                        continue;
                any = true;
                if (now - p->unfinished_ns < UNFINISHED_NS)
                        continue;
                p->in = tel_buf_unref(p->in);
                p->unfinished_ns = 0;
                if (p->mode == PEER_FRAMES)
                        peer_error(p, TEL_FRAME_ERROR_SHORT, 0, "not whole within 30 s");
                else
                        peer_close(p);
        }
        if (!any)
                uv_timer_stop(timer);
}

/* What is left behind the last whole frame or line has a deadline. What waits for room, in the spools or for its own bytes, has none: that is not the peer's doing. */
static void peer_note_unfinished(struct peer *p) {
        struct frame_socket *f = p->owner;
        bool unfinished = p->in && !p->held && !p->paused && (p->mode == PEER_FRAMES || p->mode == PEER_LINES || p->mode == PEER_NEW);
        if (!unfinished)
                p->unfinished_ns = 0;
        else if (p->unfinished_ns == 0) {
                p->unfinished_ns = clock_now_ns();
                if (!f->closing && !uv_is_active((uv_handle_t *)&f->sweep))
                        uv_timer_start(&f->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
        }
}

/* Takes every whole frame or line, then goes on reading, or ends. */
static void peer_take(struct peer *p) {
        p->paused = false;
        if (p->mode == PEER_NEW && p->in && p->in->len > 0) {
                p->mode = p->in->data[0] == '{' ? PEER_LINES : PEER_FRAMES;
                p->view.lines = p->mode == PEER_LINES;
        }
        while (p->in && p->taken < p->in->len &&
               ((p->mode == PEER_FRAMES && take_frame(p)) || (p->mode == PEER_LINES && take_line(p))))
                ;
        if (p->mode == PEER_FRAMES)
                peer_acknowledge(p);
        if (p->in && p->taken == p->in->len)
                p->in = tel_buf_unref(p->in);      /* an idle connection holds no buffer */
        else if (p->in && p->taken > 0) {
                memmove(p->in->data, p->in->data + p->taken, p->in->len - p->taken);
                p->in->len -= p->taken;
        }
        p->taken = 0;
        peer_note_unfinished(p);
        unsigned pace_ms = pipeline_pace_ms(p->owner->pipeline, clock_now_ns());
        if (p->paused)
                peer_no_room(p);
        else if (p->eof && p->mode != PEER_CLOSING) {
                if (p->mode == PEER_FRAMES && p->in)
                        stats.frame_errors[TEL_FRAME_ERROR_SHORT]++;
                peer_finish(p);
                return;
        } else if (pace_ms > 0)
                peer_pause(p, pace_ms);
        peer_read(p);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
        struct peer *p = handle->data;
        (void)suggested;
        if (!p->in)
                p->in = tel_buf_new(p->owner->ingest, READ_BYTES);
        /* What may lie here: one whole frame, whose room was taken with its head, or a line, and what the last read brought behind it. */
        if (!p->in || (p->in->capacity == p->in->len && tel_buf_reserve(p->in, READ_BYTES, TEL_FRAME_HEAD + TEL_FRAME_BODY_MAX + READ_BYTES) < 0)) {
                *buf = uv_buf_init(NULL, 0);
                return;
        }
        *buf = uv_buf_init((char *)p->in->data + p->in->len, (unsigned)TEL_MIN(p->in->capacity - p->in->len, (size_t)READ_BYTES));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
        struct peer *p = stream->data;
        (void)buf;
        if (n == UV_ENOBUFS) {                     /* the ingest budget is spent by others: wait for it */
                peer_no_room(p);
                peer_read(p);
                return;
        }
        if (n < 0 && n != UV_EOF) {
                peer_close(p);
                return;
        }
        if (n == UV_EOF)
                p->eof = true;
        else
                p->in->len += (size_t)n;
        if (p->in && p->in->len == 0)
                p->in = tel_buf_unref(p->in);
        peer_take(p);
}

/* Reads while the peer may send: not paused, and it takes our answers. */
static void peer_read(struct peer *p) {
        if (uv_is_closing((uv_handle_t *)&p->pipe))
                return;
        bool want = !p->owner->closing && p->mode != PEER_CLOSING && !p->eof && !p->paused &&
                    uv_stream_get_write_queue_size((uv_stream_t *)&p->pipe) < WRITE_QUEUE_MAX;
        if (want == p->reading)
                return;
        if (want && uv_read_start((uv_stream_t *)&p->pipe, on_alloc, on_read) < 0)
                peer_close(p);
        else if (!want)
                uv_read_stop((uv_stream_t *)&p->pipe);
        p->reading = want;
}

/* ---- Connections ---- */

static void owner_release(struct frame_socket *f) {
        if (--f->handles == 0)
                free(f);
}

static void peer_closed(uv_handle_t *handle) {
        struct peer *p = handle->data;
        struct frame_socket *f = p->owner;
        tel_buf_unref(p->in);
        free(p);
        owner_release(f);
}

static void peer_close(struct peer *p) {
        struct frame_socket *f = p->owner;
        if (uv_is_closing((uv_handle_t *)&p->pipe))
                return;
        for (struct peer **at = &f->peers; *at; at = &(*at)->next)
                if (*at == p) {
                        *at = p->next;
                        f->connections--;
                        break;
                }
        if (p->producer) {
                p->producer->connections--;
                p->producer->used_ns = clock_now_ns();
        }
        stats.frames_connections = f->connections;
        uv_close((uv_handle_t *)&p->pipe, peer_closed);
}

/* root, ourselves, the users of the configuration, and members of the socket's group. */
static bool peer_allowed(const struct frame_socket *f, const struct ucred *who) {
        if (who->uid == 0 || who->uid == geteuid())
                return true;
        for (size_t i = 0; i < f->n_users; i++)
                if (f->users[i] == who->uid)
                        return true;
        if (f->group == 0)                         /* root's own group says nothing */
                return false;
        if (who->gid == f->group)
                return true;
        gid_t groups[64];
        int n = TEL_ARRAY_LEN(groups);
        struct passwd *pw = getpwuid(who->uid);
        if (!pw || getgrouplist(pw->pw_name, who->gid, groups, &n) < 0)
                return false;
        for (int i = 0; i < n; i++)
                if (groups[i] == f->group)
                        return true;
        return false;
}

static void peer_admit(struct peer *p) {
        struct frame_socket *f = p->owner;
        struct ucred who = { .uid = (uid_t)-1 };
        socklen_t len = sizeof(who);
        uv_os_fd_t fd;
        char pid[16], uid[16];
        if (uv_fileno((uv_handle_t *)&p->pipe, &fd) == 0)
                (void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len);
        p->view.pid = (uint32_t)who.pid;
        p->view.uid = who.uid;
        if (!peer_allowed(f, &who)) {
                stats.frames_refused_peers++;
                tel_log_repeated(&f->refused_log, clock_now_ns(), TEL_LOG_WARN, "peer refused: its user may not write here (listen.frames_users)",
                                 { "pid", TEL_LOGF(pid, "%u", p->view.pid) }, { "uid", TEL_LOGF(uid, "%u", p->view.uid) });
                peer_error(p, TEL_FRAME_ERROR_PEER, 0, NULL);
                return;
        }
        if (f->connections > f->connections_max) {
                tel_log_repeated(&f->limit_log, clock_now_ns(), TEL_LOG_WARN, "too many frame connections (listen.frames_connections)",
                                 { "pid", TEL_LOGF(pid, "%u", p->view.pid) });
                peer_error(p, TEL_FRAME_ERROR_LIMIT, 0, "too many connections");
                return;
        }
        tel_log(TEL_LOG_DEBUG, "peer connected", { "pid", TEL_LOGF(pid, "%u", p->view.pid) }, { "uid", TEL_LOGF(uid, "%u", p->view.uid) });
        peer_read(p);
}

static void on_connection(uv_stream_t *listener, int status) {
        struct frame_socket *f = listener->data;
        if (status < 0) {
                tel_log_repeated(&f->accept_log, clock_now_ns(), TEL_LOG_ERROR, "cannot accept a frame connection", { "err", uv_strerror(status) });
                return;
        }
        struct peer *p = calloc(1, sizeof(*p));
        if (!p)
                return;
        p->owner = f;
        p->id = ++f->next_id;
        p->view.connected_ns = clock_now_ns();
        uv_pipe_init(f->loop, &p->pipe, 0);
        p->pipe.data = p;
        f->handles++;
        p->next = f->peers;
        f->peers = p;
        stats.frames_connections = ++f->connections;
        if (uv_accept(listener, (uv_stream_t *)&p->pipe) < 0) {
                peer_close(p);
                return;
        }
        peer_admit(p);
}

/* ---- Life ---- */

static int resolve_users(struct frame_socket *f, const struct tel_config_strings *users, char *reterr) {
        for (size_t i = 0; i < users->n && f->n_users < USERS_MAX; i++) {
                struct passwd *pw = getpwnam(users->values[i]);
                if (!pw) {
                        snprintf(reterr, 256, "listen.frames_users: no user '%.60s'", users->values[i]);
                        return -ENOENT;
                }
                f->users[f->n_users++] = pw->pw_uid;
        }
        return 0;
}

static void listener_closed(uv_handle_t *handle) {
        owner_release(handle->data);
}

int frame_socket_new(uv_loop_t *loop, const struct frame_socket_options *options, struct frame_socket **ret, char *reterr) {
        struct stat st;
        struct frame_socket *f = calloc(1, sizeof(*f));
        if (!f)
                return -ENOMEM;
        f->loop = loop;
        f->pipeline = options->pipeline;
        f->ingest = options->ingest;
        f->connections_max = (unsigned)options->settings->listen.frames_connections;
        snprintf(f->path, sizeof(f->path), "%s", options->path);
        int r = resolve_users(f, &options->settings->listen.frames_users, reterr);
        int fd = r < 0 ? r : options->fd >= 0 ? options->fd : tel_unix_listen(f->path, 0660, reterr);
        if (fd < 0) {
                free(f);
                return fd;
        }
        f->own_path = options->fd < 0;
        f->group = stat(f->path, &st) == 0 ? st.st_gid : 0;
        uv_pipe_init(loop, &f->listener, 0);
        uv_timer_init(loop, &f->timer);
        uv_timer_init(loop, &f->sweep);
        f->listener.data = f->timer.data = f->sweep.data = f;
        f->handles = 3;
        r = uv_pipe_open(&f->listener, fd);
        if (r == 0)
                r = uv_listen((uv_stream_t *)&f->listener, 128, on_connection);
        if (r < 0) {
                snprintf(reterr, 256, "socket '%.180s': %s", f->path, uv_strerror(r));
                frame_socket_free(f);
                return r;
        }
        *ret = f;
        return 0;
}

void frame_socket_quiesce(struct frame_socket *f) {
        if (!f || uv_is_closing((uv_handle_t *)&f->listener))
                return;
        if (f->own_path)
                unlink(f->path);
        uv_close((uv_handle_t *)&f->listener, listener_closed);
        /* A frame that is not acknowledged stays with its producer: better than one that was, and is too late for the last request out. */
        f->closing = true;
        for (struct peer *p = f->peers; p; p = p->next)
                peer_read(p);
}

struct frame_socket *frame_socket_free(struct frame_socket *f) {
        if (!f)
                return NULL;
        frame_socket_quiesce(f);
        while (f->peers)
                peer_close(f->peers);
        uv_close((uv_handle_t *)&f->timer, listener_closed);
        uv_close((uv_handle_t *)&f->sweep, listener_closed);
        return NULL;
}

bool frame_socket_peer(const struct frame_socket *f, size_t i, struct frame_peer *ret) {
        const struct peer *p = f ? f->peers : NULL;
        while (p && i-- > 0)
                p = p->next;
        if (p)
                *ret = p->view;
        return p != NULL;
}
