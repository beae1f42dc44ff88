/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "beylad/output.h"
#include "beylad/output_http.h"
#include "libtelemetry/log.h"
#include "libtelemetry/writer.h"

#define MS TEL_NS_PER_MS

/* ---- A collectord and an endpoint, on a thread of their own ---- */

#define BODIES_MAX 128
#define IN_MAX (4u << 20)
#define HTTP_CONNECTIONS 4

struct arrived {
        unsigned id;                               /* of the body */
        bool metrics;                              /* by frame kind, or by path */
};

struct peer {
        int fd;
        uint8_t *in;
        size_t n;
};

struct world {
        pthread_t thread;
        pthread_mutex_t lock;                      /* around everything below */
        bool stop;
        char folder[32], path[64];
        int frames_listener, http_listener, wake[2];
        uint16_t port;
        struct peer frames, http[HTTP_CONNECTIONS];

        bool ack;                                  /* frames are acknowledged */
        bool refuse;                               /* each connection is answered with an ERROR */
        int status;                                /* of each HTTP answer; 0: the connection is closed instead */
        const char *headers, *answer;              /* of the HTTP answer */
        size_t answer_len;

        struct arrived frame[BODIES_MAX], post[BODIES_MAX];
        size_t n_frames, n_posts, hellos, statuses;
        char request[512];                         /* head of the last HTTP request */
};

/* Ids of our bodies are the names of their spans and metrics: "body-7;". */
static unsigned id_of(const uint8_t *body, size_t n) {
        const char *at = memmem(body, n, "body-", 5);
        return at ? (unsigned)strtoul(at + 5, NULL, 10) : 0;
}

static void peer_close(struct peer *p) {
        if (p->fd >= 0)
                close(p->fd);
        p->fd = -1;
        p->n = 0;
}

static void frames_answer(struct world *w, uint8_t kind, uint64_t sequence, const void *body, size_t n) {
        uint8_t wire[TEL_FRAME_HEAD + TEL_FRAME_SMALL_MAX];
        tel_frame_head(wire, kind, sequence, body, (uint32_t)n);
        if (n > 0)
                memcpy(wire + TEL_FRAME_HEAD, body, n);
        (void)!send(w->frames.fd, wire, TEL_FRAME_HEAD + n, MSG_NOSIGNAL);
}

static void frame_take(struct world *w, const struct tel_frame *f) {
        w->hellos += f->kind == TEL_FRAME_HELLO;
        w->statuses += f->kind == TEL_FRAME_STATUS;
        if (f->kind != TEL_FRAME_TRACES && f->kind != TEL_FRAME_METRICS)
                return;
        unsigned id = id_of(f->body, f->len);
        size_t i = 0;
        while (i < w->n_frames && w->frame[i].id != id)        /* resent ones are one */
                i++;
        if (i == w->n_frames && i < BODIES_MAX)
                w->frame[w->n_frames++] = (struct arrived){ id, f->kind == TEL_FRAME_METRICS };
        if (w->ack)
                frames_answer(w, TEL_FRAME_ACK, f->sequence, NULL, 0);
}

static bool peer_read(struct peer *p) {
        ssize_t n = recv(p->fd, p->in + p->n, IN_MAX - p->n, 0);
        if (n <= 0) {
                peer_close(p);
                return false;
        }
        p->n += (size_t)n;
        return true;
}

static void frames_read(struct world *w) {
        struct tel_frame f;
        enum tel_frame_error error;
        size_t at = 0;
        if (!peer_read(&w->frames))
                return;
        while (tel_frame_parse(w->frames.in + at, w->frames.n - at, &f, &error) == 0) {
                frame_take(w, &f);
                at += TEL_FRAME_HEAD + f.len;
        }
        memmove(w->frames.in, w->frames.in + at, w->frames.n - at);
        w->frames.n -= at;
        if (w->refuse) {
                uint8_t body[TEL_FRAME_SMALL_MAX];
                struct tel_frame_error_body e = { .code = TEL_FRAME_ERROR_PEER, .text = "not you" };
                frames_answer(w, TEL_FRAME_ERROR, 0, body, tel_frame_error_put(body, &e));
                peer_close(&w->frames);
        }
}

static void http_read(struct world *w, struct peer *p) {
        char head[512];
        if (!peer_read(p))
                return;
        const char *end = memmem(p->in, p->n, "\r\n\r\n", 4), *length = end ? strcasestr((char *)p->in, "content-length: ") : NULL;
        if (!length)
                return;
        size_t head_len = (size_t)(end + 4 - (char *)p->in), n = strtoul(length + 16, NULL, 10);
        if (p->n - head_len < n)
                return;
        snprintf(w->request, sizeof(w->request), "%.*s", (int)head_len, p->in);
        if (w->n_posts < BODIES_MAX)
                w->post[w->n_posts++] = (struct arrived){ id_of(p->in + head_len, n), strncmp(w->request, "POST /v1/metrics", 16) == 0 };
        p->n = 0;
        if (w->status == 0) {
                peer_close(p);
                return;
        }
        int k = snprintf(head, sizeof(head), "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n%s\r\n", w->status, w->answer_len, w->headers);
        (void)!send(p->fd, head, (size_t)k, MSG_NOSIGNAL);
        if (w->answer_len > 0)
                (void)!send(p->fd, w->answer, w->answer_len, MSG_NOSIGNAL);
}

static void accept_into(int listener, struct peer *p) {
        peer_close(p);
        p->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
}

static void *world_run(void *arg) {
        struct world *w = arg;
        for (unsigned next = 0;;) {
                struct pollfd fds[4 + HTTP_CONNECTIONS];
                pthread_mutex_lock(&w->lock);
                fds[0] = (struct pollfd){ w->wake[0], POLLIN, 0 };
                fds[1] = (struct pollfd){ w->frames_listener, POLLIN, 0 };
                fds[2] = (struct pollfd){ w->frames.fd, POLLIN, 0 };
                fds[3] = (struct pollfd){ w->http_listener, POLLIN, 0 };
                for (size_t i = 0; i < HTTP_CONNECTIONS; i++)
                        fds[4 + i] = (struct pollfd){ w->http[i].fd, POLLIN, 0 };
                bool stop = w->stop;
                pthread_mutex_unlock(&w->lock);
                if (stop)
                        return NULL;
                poll(fds, TEL_ARRAY_LEN(fds), -1);
                pthread_mutex_lock(&w->lock);
                if (fds[0].revents) {              /* descriptors changed: look again */
                        uint8_t byte;
                        (void)!read(w->wake[0], &byte, 1);
                } else {
                        if (fds[2].revents)
                                frames_read(w);
                        for (size_t i = 0; i < HTTP_CONNECTIONS; i++)
                                if (fds[4 + i].revents)
                                        http_read(w, &w->http[i]);
                        if (fds[1].revents)
                                accept_into(w->frames_listener, &w->frames);
                        if (fds[3].revents)
                                accept_into(w->http_listener, &w->http[next++ % HTTP_CONNECTIONS]);
                }
                pthread_mutex_unlock(&w->lock);
        }
}

static void world_wake(struct world *w) {
        assert_int_equal(write(w->wake[1], "x", 1), 1);
}

static void frames_up(struct world *w) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        memcpy(a.sun_path, w->path, sizeof(w->path));
        pthread_mutex_lock(&w->lock);
        w->frames_listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(w->frames_listener, (struct sockaddr *)&a, sizeof(a)), 0);
        assert_int_equal(listen(w->frames_listener, 8), 0);
        pthread_mutex_unlock(&w->lock);
        world_wake(w);
}

/* As kill -9 does it. */
static void frames_down(struct world *w) {
        pthread_mutex_lock(&w->lock);
        peer_close(&w->frames);
        close(w->frames_listener);
        w->frames_listener = -1;
        unlink(w->path);
        pthread_mutex_unlock(&w->lock);
        world_wake(w);
}

static void http_up(struct world *w) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(w->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t len = sizeof(a);
        int on = 1;
        pthread_mutex_lock(&w->lock);
        w->http_listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        setsockopt(w->http_listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        assert_int_equal(bind(w->http_listener, (struct sockaddr *)&a, sizeof(a)), 0);
        assert_int_equal(listen(w->http_listener, 8), 0);
        assert_int_equal(getsockname(w->http_listener, (struct sockaddr *)&a, &len), 0);
        w->port = ntohs(a.sin_port);
        pthread_mutex_unlock(&w->lock);
        world_wake(w);
}

static void http_down(struct world *w) {
        pthread_mutex_lock(&w->lock);
        shutdown(w->http_listener, SHUT_RDWR);     /* the thread's poll() holds it open: closed alone it would still take a connection */
        close(w->http_listener);
        w->http_listener = -1;
        for (size_t i = 0; i < HTTP_CONNECTIONS; i++)
                peer_close(&w->http[i]);
        pthread_mutex_unlock(&w->lock);
        world_wake(w);
}

static int world_setup(void **state) {
        struct world *w = calloc(1, sizeof(*w));
        tel_log_set_level(TEL_LOG_ERROR);
        pthread_mutex_init(&w->lock, NULL);
        strcpy(w->folder, "/tmp/output-XXXXXX");
        if (!mkdtemp(w->folder) || pipe(w->wake) < 0)
                return -1;
        snprintf(w->path, sizeof(w->path), "%s/frames.sock", w->folder);
        w->frames_listener = w->http_listener = w->frames.fd = -1;
        w->frames.in = malloc(IN_MAX);
        for (size_t i = 0; i < HTTP_CONNECTIONS; i++) {
                w->http[i].fd = -1;
                w->http[i].in = malloc(IN_MAX);
        }
        w->ack = true;
        w->status = 200;
        w->headers = w->answer = "";
        pthread_create(&w->thread, NULL, world_run, w);
        *state = w;
        return 0;
}

static int world_teardown(void **state) {
        struct world *w = *state;
        pthread_mutex_lock(&w->lock);
        w->stop = true;
        pthread_mutex_unlock(&w->lock);
        world_wake(w);
        pthread_join(w->thread, NULL);
        peer_close(&w->frames);
        free(w->frames.in);
        for (size_t i = 0; i < HTTP_CONNECTIONS; i++) {
                peer_close(&w->http[i]);
                free(w->http[i].in);
        }
        int fds[] = { w->frames_listener, w->http_listener, w->wake[0], w->wake[1] };
        for (size_t i = 0; i < TEL_ARRAY_LEN(fds); i++)
                if (fds[i] >= 0)
                        close(fds[i]);
        unlink(w->path);
        rmdir(w->folder);
        free(w);
        return 0;
}

/* ---- The output under test ---- */

struct bench {
        uv_loop_t loop;
        uv_timer_t tick;
        struct output *output;
        char endpoint[64];
};

static void on_tick(uv_timer_t *timer) {
        (void)timer;                               /* only so that the loop turns and conditions are looked at */
}

static void bench_open(struct bench *b, struct world *w, bool collector, bool endpoint) {
        char error[OUTPUT_ERROR_MAX] = "";
        assert_int_equal(uv_loop_init(&b->loop), 0);
        uv_timer_init(&b->loop, &b->tick);
        uv_timer_start(&b->tick, on_tick, 5, 5);
        snprintf(b->endpoint, sizeof(b->endpoint), "http://127.0.0.1:%u/", w->port);
        struct output_options o = { .collector = collector ? w->path : "", .endpoint = endpoint ? b->endpoint : NULL, .away_ns = 400 * MS };
        if (output_new(&b->loop, &o, &b->output, error) < 0)
                fail_msg("%s", error);
}

static void bench_close(struct bench *b) {
        b->output = output_free(b->output);
        uv_close((uv_handle_t *)&b->tick, NULL);
        uv_run(&b->loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&b->loop), 0);          /* nothing was left open */
}

static struct output_stats stats_of(const struct bench *b) {
        struct output_stats s;
        output_get_stats(b->output, &s);
        return s;
}

/* A request with one span or point, of about `bytes` bytes, named "body-<id>". */
static size_t body_make(uint8_t *out, size_t room, unsigned id, bool metrics, size_t bytes) {
        char name[32];
        struct tel_writer w;
        size_t item;
        tel_writer_init(&w, out, room);
        size_t resource = tel_writer_begin(&w), scope = tel_writer_begin(&w);
        snprintf(name, sizeof(name), "body-%u;", id);
        item = tel_writer_begin(&w);
        if (metrics) {
                size_t gauge = tel_writer_begin(&w), point = tel_writer_begin(&w);
                tel_writer_fixed64(&w, 3, 1);
                tel_writer_end(&w, 1, point);
                tel_writer_end(&w, 5, gauge);
                tel_writer_text(&w, 1, name);
        } else {
                char *filler = malloc(bytes + 1);
                memset(filler, 'x', bytes);
                tel_writer_text(&w, 5, name);
                tel_writer_bytes(&w, 3, filler, bytes);        /* trace state */
                free(filler);
        }
        tel_writer_end(&w, 2, item);
        tel_writer_end(&w, 2, scope);
        tel_writer_end(&w, 1, resource);
        assert_false(w.full);
        memmove(out, w.at, tel_writer_len(&w));
        return tel_writer_len(&w);
}

static void send_body(struct bench *b, unsigned id, bool metrics) {
        uint8_t body[256];
        size_t n = body_make(body, sizeof(body), id, metrics, 0);
        assert_int_equal(output_send(b->output, metrics ? TEL_FRAME_METRICS : TEL_FRAME_TRACES, body, n), 0);
}

/* Turns the loop until what holds, at most 10 s. */
#define UNTIL(what) \
        do { \
                uint64_t end_ns = uv_hrtime() + 10000 * MS; \
                bool holds = false; \
                while (!holds) { \
                        uv_run(&b.loop, UV_RUN_ONCE); \
                        pthread_mutex_lock(&w->lock); \
                        holds = (what); \
                        pthread_mutex_unlock(&w->lock); \
                        if (!holds && uv_hrtime() > end_ns) \
                                fail_msg("never: %s", #what); \
                } \
        } while (0)

static void turn_for(struct bench *b, uint64_t ns) {
        uint64_t end_ns = uv_hrtime() + ns;
        while (uv_hrtime() < end_ns)
                uv_run(&b->loop, UV_RUN_ONCE);
}

#define SET(member, value) (pthread_mutex_lock(&w->lock), w->member = (value), pthread_mutex_unlock(&w->lock))

static bool has(const struct arrived *at, size_t n, unsigned id) {
        while (n > 0)
                if (at[--n].id == id)
                        return true;
        return false;
}

/* ---- tests ---- */

static void test_urls(void **state) {
        static const char *const rows[][2] = {
                { "localhost:4318", "http://localhost:4318/v1/traces" }, { "http://localhost:4318", "http://localhost:4318/v1/traces" },
                { "http://localhost:4318/", "http://localhost:4318/v1/traces" }, { "https://otel.example", "https://otel.example/v1/traces" },
                { "https://otel.example/base", "https://otel.example/base/v1/traces" }, { "https://otel.example/base//", "https://otel.example/base/v1/traces" },
                { "[::1]:4318", "http://[::1]:4318/v1/traces" }, { "HTTP://h", "http://h/v1/traces" }, { "http://h?key=1", "http://h/v1/traces?key=1" },
        };
        static const char *const bad[] = { "", "http://", "grpc://h:1", "unix:///x", "http://h:99999", "ftp://h" };
        char url[OUTPUT_HTTP_URL_MAX], longest[OUTPUT_HTTP_URL_MAX + 10];
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++) {
                assert_int_equal(output_http_url(rows[i][0], TEL_FRAME_TRACES, url), 0);
                assert_string_equal(url, rows[i][1]);
        }
        assert_int_equal(output_http_url("h", TEL_FRAME_METRICS, url), 0);
        assert_string_equal(url, "http://h/v1/metrics");
        for (size_t i = 0; i < TEL_ARRAY_LEN(bad); i++)
                assert_int_equal(output_http_url(bad[i], TEL_FRAME_TRACES, url), -EINVAL);
        memset(longest, 'a', sizeof(longest));
        for (size_t n = sizeof(longest) - 40; n < sizeof(longest); n++) {
                longest[n] = '\0';
                memcpy(longest, "http://h/", 9);
                if (output_http_url(longest, TEL_FRAME_TRACES, url) == 0)
                        assert_true(strlen(url) < sizeof(url));
                longest[n] = 'a';
        }
}

static void test_options(void **state) {
        char error[OUTPUT_ERROR_MAX] = "", longest[300];
        struct output *o = NULL;
        uv_loop_t loop;
        (void)state;
        uv_loop_init(&loop);
        assert_int_equal(output_new(&loop, &(struct output_options){ .collector = "", .endpoint = "" }, &o, error), -EINVAL);
        assert_non_null(strstr(error, "neither"));
        assert_int_equal(output_new(&loop, &(struct output_options){ .endpoint = "grpc://x" }, &o, error), -EINVAL);
        assert_non_null(strstr(error, "grpc://x"));
        memset(longest, 'x', sizeof(longest) - 1);
        longest[0] = '/';
        longest[sizeof(longest) - 1] = '\0';
        assert_int_equal(output_new(&loop, &(struct output_options){ .collector = longest }, &o, error), -ENAMETOOLONG);
        longest[0] = 'x';
        assert_int_equal(output_new(&loop, &(struct output_options){ .collector = longest }, &o, error), -ENAMETOOLONG);
        assert_null(o);
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&loop), 0);
}

/* Collectord alone: what is sent arrives in order; what was not acknowledged when it was killed arrives at the next one; once each. */
static void test_collectord(void **state) {
        struct world *w = *state;
        struct bench b;
        frames_up(w);
        bench_open(&b, w, true, false);
        assert_int_equal(output_send(b.output, TEL_FRAME_LOGS, "", 0), -EINVAL);
        send_body(&b, 1, false);
        send_body(&b, 2, true);
        output_status(b.output, "observes 2 processes");
        UNTIL(w->n_frames == 2 && w->statuses == 1);
        assert_int_equal(w->frame[0].id, 1);
        assert_false(w->frame[0].metrics);
        assert_true(w->frame[1].metrics);
        UNTIL(stats_of(&b).acknowledged == 2 && stats_of(&b).waiting == 0);
        assert_true(stats_of(&b).connected);
        SET(ack, false);
        send_body(&b, 3, false);
        UNTIL(w->n_frames == 3);
        frames_down(w);
        send_body(&b, 4, false);
        turn_for(&b, 300 * MS);
        send_body(&b, 5, false);
        assert_int_equal(stats_of(&b).waiting, 3);
        assert_false(stats_of(&b).connected);
        SET(n_frames, 0);
        SET(ack, true);
        frames_up(w);
        UNTIL(stats_of(&b).waiting == 0);
        assert_int_equal(w->n_frames, 3);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(w->frame[i].id, 3 + i);
        assert_int_equal(stats_of(&b).frames, 5);
        assert_int_equal(stats_of(&b).dropped, 0);
        bench_close(&b);
}

/* An endpoint alone: each kind to its path, one after the other. */
static void test_http(void **state) {
        struct world *w = *state;
        struct bench b;
        http_up(w);
        bench_open(&b, w, false, true);
        send_body(&b, 1, false);
        send_body(&b, 2, true);
        send_body(&b, 3, false);
        UNTIL(stats_of(&b).posted == 3);
        assert_int_equal(w->n_posts, 3);
        for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(w->post[i].id, i + 1);
                assert_int_equal(w->post[i].metrics, i == 1);
        }
        assert_non_null(strstr(w->request, "POST /v1/traces HTTP/1.1\r\n"));
        assert_non_null(strstr(w->request, "Content-Type: application/x-protobuf\r\n"));
        assert_null(strstr(w->request, "Expect"));
        assert_int_equal(stats_of(&b).waiting, 0);
        assert_int_equal(stats_of(&b).failures, 0);
        bench_close(&b);
}

/* 503 is tried again, not before Retry-After says so; 400 is final; a broken connection is tried again; rejected items are counted. */
static void test_http_answers(void **state) {
        struct world *w = *state;
        struct bench b;
        http_up(w);
        bench_open(&b, w, false, true);
        SET(headers, "Retry-After: 2\r\n");
        SET(status, 503);
        uint64_t start_ns = uv_hrtime();
        send_body(&b, 1, false);
        UNTIL(stats_of(&b).failures == 1);
        assert_string_equal(stats_of(&b).error, "HTTP 503");
        SET(status, 200);
        SET(headers, "");
        UNTIL(stats_of(&b).posted == 1);
        assert_true(uv_hrtime() - start_ns >= 2000 * MS);
        assert_int_equal(w->n_posts, 2);
        SET(status, 400);
        send_body(&b, 2, true);
        UNTIL(stats_of(&b).dropped == 1);
        assert_int_equal(stats_of(&b).dropped_points, 1);
        assert_int_equal(stats_of(&b).dropped_spans, 0);
        SET(status, 0);
        send_body(&b, 3, false);
        UNTIL(stats_of(&b).failures >= 3);
        SET(answer, "\x0a\x04\x08\x05\x12\x00");
        SET(answer_len, 6);
        SET(status, 200);
        UNTIL(stats_of(&b).posted == 2);
        assert_int_equal(stats_of(&b).dropped_spans, 5);
        assert_int_equal(stats_of(&b).waiting, 0);
        bench_close(&b);
}

/* Both: collectord has everything while it is there; when it is away for longer, the endpoint has what comes then; once it is back, it again.
 * No request goes both ways. */
static void test_both(void **state) {
        struct world *w = *state;
        struct bench b;
        frames_up(w);
        http_up(w);
        bench_open(&b, w, true, true);
        send_body(&b, 1, false);
        UNTIL(w->n_frames == 1 && stats_of(&b).waiting == 0);
        turn_for(&b, 600 * MS);                    /* silence is not absence */
        send_body(&b, 2, false);
        UNTIL(w->n_frames == 2);
        UNTIL(stats_of(&b).waiting == 0);
        frames_down(w);
        turn_for(&b, 50 * MS);
        uint64_t down_ns = uv_hrtime();
        send_body(&b, 3, false);
        UNTIL(w->n_posts == 1);
        assert_true(uv_hrtime() - down_ns >= 250 * MS);        /* it waited for collectord first */
        assert_true(stats_of(&b).away);
        send_body(&b, 4, true);
        UNTIL(w->n_posts == 2);
        frames_up(w);
        UNTIL(!stats_of(&b).away);
        send_body(&b, 5, false);
        UNTIL(w->n_frames == 3);
        UNTIL(stats_of(&b).waiting == 0);
        for (unsigned id = 1; id <= 5; id++)
                assert_int_equal(has(w->frame, w->n_frames, id) + has(w->post, w->n_posts, id), 1);
        assert_int_equal(w->n_posts, 2);
        assert_int_equal(stats_of(&b).dropped, 0);
        bench_close(&b);
}

/* A collectord that is back in time has what waited, and the endpoint has nothing. */
static void test_both_restart(void **state) {
        struct world *w = *state;
        struct bench b;
        http_up(w);
        bench_open(&b, w, true, true);
        for (unsigned id = 1; id <= 3; id++)
                send_body(&b, id, false);
        turn_for(&b, 100 * MS);
        frames_up(w);
        UNTIL(stats_of(&b).waiting == 0);
        assert_int_equal(w->n_frames, 3);
        assert_int_equal(w->n_posts, 0);
        bench_close(&b);
}

/* A collectord that takes nothing is as good as none: one that refuses us, one that never acknowledges. What it may have stays with it. */
static void test_both_useless(void **state) {
        struct world *w = *state;
        struct bench b;
        SET(refuse, true);
        frames_up(w);
        http_up(w);
        bench_open(&b, w, true, true);
        send_body(&b, 1, false);
        UNTIL(w->n_posts == 1);
        assert_int_equal(w->n_frames, 0);
        SET(refuse, false);
        SET(ack, false);
        UNTIL(!stats_of(&b).away);
        send_body(&b, 2, false);
        UNTIL(w->n_frames == 1);
        turn_for(&b, 500 * MS);
        send_body(&b, 3, false);
        UNTIL(w->n_posts == 2);
        assert_int_equal(w->post[1].id, 3);
        SET(ack, true);
        frames_down(w);
        frames_up(w);
        UNTIL(stats_of(&b).waiting == 0);          /* 2 was sent again, to collectord */
        assert_int_equal(w->n_posts, 2);
        bench_close(&b);
}

/* What the endpoint may have is not given to collectord; what it cannot have, is. */
static void test_both_unsure(void **state) {
        struct world *w = *state;
        struct bench b;
        http_up(w);
        SET(status, 504);
        bench_open(&b, w, true, true);
        send_body(&b, 1, false);
        UNTIL(w->n_posts == 1);
        UNTIL(stats_of(&b).failures == 1);
        http_down(w);
        send_body(&b, 2, false);
        UNTIL(stats_of(&b).failures == 2);         /* 1 again, and nobody was there */
        frames_up(w);
        UNTIL(w->n_frames == 1);
        assert_int_equal(w->frame[0].id, 2);
        SET(status, 200);
        http_up(w);
        UNTIL(stats_of(&b).waiting == 0);
        assert_int_equal(w->n_posts, 2);
        assert_int_equal(w->post[1].id, 1);
        assert_int_equal(w->n_frames, 1);
        bench_close(&b);
}

/* Nobody there: the newest 8 MiB are kept, the rest is counted, in requests and in spans. */
static void test_bound(void **state) {
        static uint8_t body[600 << 10];
        struct world *w = *state;
        struct bench b;
        w->port = 9;                               /* discard: nobody listens */
        for (unsigned with_endpoint = 0; with_endpoint < 2; with_endpoint++) {
                bench_open(&b, w, true, with_endpoint);
                for (unsigned id = 1; id <= 40; id++) {
                        size_t n = body_make(body, sizeof(body), id, false, 500 << 10);
                        assert_int_equal(output_send(b.output, TEL_FRAME_TRACES, body, n), 0);
                }
                struct output_stats s = stats_of(&b);
                assert_int_equal(s.waiting + s.dropped, 40);
                assert_int_equal(s.waiting, 16);
                assert_true(s.waiting_bytes <= OUTPUT_QUEUE_MAX);
                if (with_endpoint)
                        assert_int_equal(s.dropped_spans, 24);
                else {
                        frames_up(w);
                        UNTIL(stats_of(&b).waiting == 0);
                        assert_int_equal(w->n_frames, 16);
                        assert_int_equal(w->frame[15].id, 40);
                        frames_down(w);
                }
                bench_close(&b);
        }
        bench_open(&b, w, true, true);
        static uint8_t large[OUTPUT_QUEUE_MAX];
        assert_int_equal(output_send(b.output, TEL_FRAME_TRACES, large, sizeof(large)), -EMSGSIZE);
        assert_int_equal(stats_of(&b).dropped, 1);
        bench_close(&b);
}

/* At the stop, without the loop: to collectord when it is there, at once to the endpoint when it is not, and an end when nobody is. */
static void test_flush(void **state) {
        struct world *w = *state;
        struct bench b;
        frames_up(w);
        bench_open(&b, w, true, false);
        for (unsigned id = 1; id <= 3; id++)
                send_body(&b, id, false);
        assert_int_equal(output_flush(b.output, 5000), 0);
        assert_int_equal(w->n_frames, 3);
        assert_int_equal(output_flush(b.output, 0), 0);
        bench_close(&b);

        frames_down(w);
        http_up(w);
        bench_open(&b, w, true, true);
        for (unsigned id = 4; id <= 6; id++)
                send_body(&b, id, true);
        uint64_t start_ns = uv_hrtime();
        assert_int_equal(output_flush(b.output, 5000), 0);
        assert_true(uv_hrtime() - start_ns < 2000 * MS);
        assert_int_equal(w->n_posts, 3);
        bench_close(&b);

        SET(status, 503);
        bench_open(&b, w, false, true);
        send_body(&b, 7, false);
        start_ns = uv_hrtime();
        assert_int_equal(output_flush(b.output, 700), -ETIMEDOUT);
        assert_in_range(uv_hrtime() - start_ns, 690 * MS, 2000 * MS);
        assert_in_range(w->n_posts, 3 + 2, 3 + 5);             /* more than once, and not all the time */
        bench_close(&b);

        http_down(w);
        bench_open(&b, w, true, true);
        send_body(&b, 8, false);
        start_ns = uv_hrtime();
        assert_int_equal(output_flush(b.output, 300), -ETIMEDOUT);
        assert_in_range(uv_hrtime() - start_ns, 290 * MS, 2000 * MS);
        frames_up(w);                              /* and it is not too late yet */
        assert_int_equal(output_flush(b.output, 9000), 0);
        assert_true(has(w->frame, w->n_frames, 8));
        bench_close(&b);
}

int main(void) {
#define WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_urls), cmocka_unit_test(test_options), WORLD(test_collectord),
                WORLD(test_http), WORLD(test_http_answers), WORLD(test_both), WORLD(test_both_restart), WORLD(test_both_useless),
                WORLD(test_both_unsure), WORLD(test_bound), WORLD(test_flush),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
