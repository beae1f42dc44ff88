/* SPDX-License-Identifier: Apache-2.0 */
#include "libtelemetry/line_server.h"

#include <poll.h>
#include <unistd.h>

#include "libtelemetry/frame.h"

struct tel_line_peer {
        struct tel_line_peer *next;
        struct tel_line_server *server;
        uv_pipe_t pipe;
        struct tel_line_stream *stream;            /* runs now; NULL: none */
        bool eof;                                  /* nothing more will come */
        bool closing;
        unsigned writes;                           /* under way */
        size_t used;
        char in[];                                 /* what has come and was not run yet: line_max bytes */
};

struct tel_line_server {
        struct tel_line_server_options options;
        uv_pipe_t listener;
        char path[108];
        bool own_path;
        unsigned n_peers, handles;                 /* handles: what the close callbacks still count down */
        struct tel_line_peer *peers;
};

static void peer_run(struct tel_line_peer *p);

/* ---- life of a connection ---- */

static void server_release(struct tel_line_server *s) {
        if (--s->handles > 0)
                return;
        if (s->options.closed)
                s->options.closed(s->options.ctx);
        free(s);
}

static void stream_end(struct tel_line_peer *p) {
        struct tel_line_stream *stream = TEL_TAKE(p->stream);
        if (stream)
                stream->end(stream);
}

static void peer_closed(uv_handle_t *handle) {
        struct tel_line_peer *p = handle->data;
        struct tel_line_server *s = p->server;
        stream_end(p);
        free(p);
        server_release(s);
}

/* The stream stays until the handle is closed: it may be what is just writing. */
static void peer_close(struct tel_line_peer *p) {
        if (p->closing)
                return;
        p->closing = true;
        struct tel_line_peer **at = &p->server->peers;
        while (*at != p)
                at = &(*at)->next;
        *at = p->next;
        p->server->n_peers--;
        uv_close((uv_handle_t *)&p->pipe, peer_closed);
}

/* Whether the peer is gone altogether. One that only ended its writing side still reads: `echo tap | socat - ...`. */
static bool peer_gone(const struct tel_line_peer *p) {
        int fd;
        if (uv_fileno((const uv_handle_t *)&p->pipe, &fd) < 0)
                return true;
        struct pollfd polled = { .fd = fd };
        return poll(&polled, 1, 0) > 0 && (polled.revents & (POLLHUP | POLLERR)) != 0;
}

/* ---- writing ---- */

struct output {
        uv_write_t request;
        struct tel_line_peer *peer;
        char *text;                                /* either this, heap, */
        struct tel_buf *buf;                       /* or this */
};

static void output_free(struct output *o) {
        free(o->text);
        tel_buf_unref(o->buf);
        free(o);
}

static void on_written(uv_write_t *request, int status) {
        struct output *o = tel_container_of(request, struct output, request);
        struct tel_line_peer *p = o->peer;
        output_free(o);
        p->writes--;
        if (status < 0)
                peer_close(p);
        else
                peer_run(p);
}

/* Takes text or buf, of n bytes; where there is neither, memory was short. A peer that cannot be written to is closed. */
static void peer_write(struct tel_line_peer *p, char *text, struct tel_buf *buf, size_t n) {
        struct output *o = calloc(1, sizeof(*o));
        uv_buf_t bytes = uv_buf_init(buf ? (char *)buf->data : text, (unsigned)n);
        if (o)
                *o = (struct output){ .peer = p, .text = text, .buf = buf };
        if (!o || !bytes.base || p->closing || uv_write(&o->request, (uv_stream_t *)&p->pipe, &bytes, 1, on_written) < 0) {
                free(text);
                tel_buf_unref(buf);
                free(o);
                peer_close(p);
                return;
        }
        p->writes++;
}

void tel_line_peer_write(struct tel_line_peer *p, struct tel_buf *buf) {
        peer_write(p, NULL, buf, buf->len);
}

bool tel_line_peer_has_room(const struct tel_line_peer *p) {
        return !p->closing && uv_stream_get_write_queue_size((const uv_stream_t *)&p->pipe) < p->server->options.queue_max;
}

static void peer_say(struct tel_line_peer *p, const char *text) {
        peer_write(p, strdup(text), NULL, strlen(text));
}

/* The last word: the connection closes behind it. */
static void peer_refuse(struct tel_line_peer *p, const char *why) {
        char text[64];
        snprintf(text, sizeof(text), "error: %s\n\n", why);
        p->eof = true;
        p->used = 0;
        stream_end(p);
        peer_say(p, text);
}

void tel_line_verror(FILE *to, bool json, const char *format, va_list args) {
        char text[TEL_LINE_ERROR_MAX], clean[sizeof(text)];
        vsnprintf(text, sizeof(text), format, args);
        tel_frame_text(clean, sizeof(clean), text, sizeof(text));      /* it may quote the line */
        fputs(json ? "{\"error\":\"" : "error: ", to);
        for (const char *p = clean; *p; p++) {
                bool control = (unsigned char)*p < 0x20 || *p == 0x7f;
                if (json && control)
                        fprintf(to, "\\u%04x", (unsigned)*p);
                else if (json && (*p == '"' || *p == '\\'))
                        fprintf(to, "\\%c", *p);
                else
                        fputc(control ? ' ' : *p, to);         /* an error is one line */
        }
        fputs(json ? "\"}\n" : "\n", to);
}

void tel_line_error(FILE *to, bool json, const char *format, ...) {
        va_list args;
        va_start(args, format);
        tel_line_verror(to, json, format, args);
        va_end(args);
}

/* ---- lines ---- */

static bool line_waits(const struct tel_line_peer *p) {
        return memchr(p->in, '\n', p->used) != NULL || (p->eof && p->used > 0);
}

/* Takes the next line out, without its end. What came before the end of the stream counts as one. Returns false when there is none. */
static bool line_take(struct tel_line_peer *p, char line[static TEL_LINE_MAX + 1], size_t *ret_len) {
        const char *end = memchr(p->in, '\n', p->used);
        if (!end && !(p->eof && p->used > 0))
                return false;
        size_t n = end ? (size_t)(end - p->in) : p->used, taken = n + (end != NULL);
        memcpy(line, p->in, n);
        memmove(p->in, p->in + taken, p->used - taken);
        p->used -= taken;
        if (n > 0 && line[n - 1] == '\r')
                n--;
        line[n] = '\0';
        *ret_len = n;
        return true;
}

static void line_run(struct tel_line_peer *p, char *line, size_t n) {
        const struct tel_line_server_options *o = &p->server->options;
        char *text = NULL;
        size_t bytes = 0;
        FILE *to = open_memstream(&text, &bytes);
        if (!to) {
                peer_close(p);
                return;
        }
        p->stream = o->run(o->ctx, line, n, to);
        if (!p->stream)
                fputs("\n", to);
        bool failed = ferror(to) != 0;
        failed |= fclose(to) != 0;
        if (!failed && bytes > 0) {
                peer_write(p, text, NULL, bytes);
                return;
        }
        free(text);
        if (failed)
                peer_close(p);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret) {
        struct tel_line_peer *p = handle->data;
        (void)suggested;
        *ret = uv_buf_init(p->in + p->used, (unsigned)(p->server->options.line_max - p->used));
}

static void on_read(uv_stream_t *pipe, ssize_t n, const uv_buf_t *buf) {
        struct tel_line_peer *p = pipe->data;
        (void)buf;
        if (n == 0)
                return;
        if (n < 0 && (n != UV_EOF || (p->stream && peer_gone(p)))) {
                peer_close(p);
                return;
        }
        p->eof = n < 0;
        p->used += n > 0 ? (size_t)n : 0;
        peer_run(p);
}

/* Reads while there is room, and closes once all is said. */
static void peer_settle(struct tel_line_peer *p) {
        const size_t line_max = p->server->options.line_max;
        if (!p->closing && !p->eof && p->used == line_max && !line_waits(p)) {
                char why[48];
                snprintf(why, sizeof(why), "a line has at most %zu bytes", line_max - 1);
                peer_refuse(p, why);
        }
        if (p->closing)
                return;
        if (p->eof && p->used == 0 && !p->stream && p->writes == 0)
                peer_close(p);
        else if (p->eof || p->used == line_max)
                uv_read_stop((uv_stream_t *)&p->pipe);
        else
                uv_read_start((uv_stream_t *)&p->pipe, on_alloc, on_read);
}

/* Does what can be done now: a stream goes on, lines are run in order while the peer reads their answers. */
static void peer_run(struct tel_line_peer *p) {
        char line[TEL_LINE_MAX + 1];
        size_t n;
        while (!p->closing) {
                if (p->stream) {
                        bool cut = p->stream->endless && line_waits(p);
                        if (!cut && (!p->stream->pump(p->stream, p) || p->closing))
                                break;
                        stream_end(p);
                        peer_say(p, "\n");
                } else if (tel_line_peer_has_room(p) && line_take(p, line, &n)) {
                        if (n > 0)
                                line_run(p, line, n);
                } else {
                        break;
                }
        }
        peer_settle(p);
}

/* ---- life of the socket ---- */

/* Streams whose peer left without a word. */
static void close_gone(struct tel_line_server *s) {
        struct tel_line_peer *next;
        for (struct tel_line_peer *p = s->peers; p; p = next) {
                next = p->next;
                if (p->stream && p->eof && peer_gone(p))
                        peer_close(p);
        }
}

static void on_connection(uv_stream_t *listener, int status) {
        struct tel_line_server *s = listener->data;
        struct tel_line_peer *p = status < 0 ? NULL : calloc(1, sizeof(*p) + s->options.line_max);
        if (!p) {
                s->options.accept_failed(s->options.ctx, status < 0 ? uv_strerror(status) : "out of memory");
                return;
        }
        p->server = s;
        uv_pipe_init(s->options.loop, &p->pipe, 0);
        p->pipe.data = p;
        s->handles++;
        s->n_peers++;
        p->next = s->peers;
        s->peers = p;
        if (uv_accept(listener, (uv_stream_t *)&p->pipe) < 0) {
                peer_close(p);
                return;
        }
        if (s->n_peers > s->options.peers_max)
                close_gone(s);
        if (s->n_peers > s->options.peers_max)
                peer_refuse(p, "too many connections");
        peer_settle(p);
}

static void listener_closed(uv_handle_t *handle) {
        server_release(handle->data);
}

int tel_line_server_new(const struct tel_line_server_options *options, struct tel_line_server **ret, char *reterr) {
        assert(options->line_max > 0 && options->line_max <= TEL_LINE_MAX);
        struct tel_line_server *s = calloc(1, sizeof(*s));
        if (!s) {
                snprintf(reterr, TEL_UNIX_LISTEN_ERROR_MAX, "out of memory");
                if (options->fd >= 0)
                        close(options->fd);
                return -ENOMEM;
        }
        s->options = *options;
        s->own_path = options->fd < 0;
        snprintf(s->path, sizeof(s->path), "%s", options->path);
        int fd = s->own_path ? tel_unix_listen(options->path, 0660, reterr) : options->fd;
        if (fd < 0) {
                free(s);
                return fd;
        }
        uv_pipe_init(options->loop, &s->listener, 0);
        s->listener.data = s;
        s->handles = 1;
        int r = uv_pipe_open(&s->listener, fd);
        if (r < 0)
                close(fd);
        else
                r = uv_listen((uv_stream_t *)&s->listener, (int)options->peers_max, on_connection);
        if (r < 0) {
                snprintf(reterr, TEL_UNIX_LISTEN_ERROR_MAX, "socket '%.180s': %s", options->path, uv_strerror(r));
                s->options.closed = NULL;
                tel_line_server_free(s);
                return r;
        }
        s->options.path = s->path;
        *ret = s;
        return 0;
}

void tel_line_server_pump(struct tel_line_server *s) {
        struct tel_line_peer *next;
        close_gone(s);
        for (struct tel_line_peer *p = s->peers; p; p = next) {
                next = p->next;
                if (p->stream)
                        peer_run(p);
        }
}

struct tel_line_server *tel_line_server_free(struct tel_line_server *s) {
        if (!s)
                return NULL;
        if (s->own_path)
                unlink(s->path);
        while (s->peers)
                peer_close(s->peers);
        uv_close((uv_handle_t *)&s->listener, listener_closed);
        return NULL;
}
