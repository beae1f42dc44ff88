/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "collectord/http/server.h"

#define BODY_MAX (256u << 10)
#define WAIT_MS 10000                              /* for what must happen; only a defect reaches it */

/* ---- A server, and clients that are plain sockets, in one loop ---- */

struct bench {
        uv_loop_t loop;
        struct http_server *server;
        struct tel_budget budget;
        struct http_server_stats told;
        unsigned requests, refused;
        size_t last_body;
        char last_query[64];
        bool close_next;
        unsigned pace_ms;
};

static struct tel_buf *text_buf(const char *text) {
        struct tel_buf *b = tel_buf_new(NULL, strlen(text));
        tel_buf_append(b, text, strlen(text), strlen(text));
        return b;
}

/* Answers METHOD PATH LENGTH SUM, or what the path asks for. */
static void on_request(void *ctx, const struct http_view *view, struct http_reply *reply) {
        struct bench *b = ctx;
        unsigned sum = 0;
        char line[128];
        size_t n = view->body ? view->body->len : 0;
        for (size_t i = 0; i < n; i++)
                sum = sum * 31 + view->body->data[i];
        b->requests++;
        b->last_body = n;
        snprintf(b->last_query, sizeof(b->last_query), "%s", view->query ? view->query : "(none)");
        reply->status = 200;
        reply->content_type = "text/plain";
        reply->close = b->close_next;
        if (strcmp(view->path, "/large") == 0) {
                reply->body = tel_buf_new(&b->budget, 4 << 20);
                memset(reply->body->data, 'L', 4 << 20);
                reply->body->len = 4 << 20;
                return;
        }
        if (strcmp(view->path, "/empty") == 0)
                return;
        if (strcmp(view->path, "/headers") == 0) {
                reply->status = 405;
                reply->allow = "POST";
                reply->retry_after_s = 7;
                reply->gzip = true;
        }
        snprintf(line, sizeof(line), "<%s %s %zu %u %s>", view->method, view->path, n, sum, view->content_type ? view->content_type : "-");
        reply->body = text_buf(line);
}

static void on_refused(void *ctx, const struct http_view *view, struct http_reply *reply) {
        struct bench *b = ctx;
        char line[64];
        assert_null(view->body);
        assert_true((reply->status == 503) == (reply->retry_after_s > 0));
        b->refused++;
        reply->content_type = "text/plain";
        snprintf(line, sizeof(line), "<refused %u>", reply->status);
        reply->body = text_buf(line);
}

static unsigned pace_ms(void *ctx) {
        return ((struct bench *)ctx)->pace_ms;
}

static void on_changed(void *ctx, const struct http_server_stats *now) {
        ((struct bench *)ctx)->told = *now;
}

static void bench_init(struct bench *b, unsigned connections_max, uint64_t idle_ns) {
        char error[HTTP_ERROR_MAX];
        *b = (struct bench){ .budget = { .limit = 8 << 20 } };
        assert_int_equal(uv_loop_init(&b->loop), 0);
        const struct http_settings settings = { .name = "test", .address = "127.0.0.1:0", .fd = -1, .connections_max = connections_max,
                                                .idle_ns = idle_ns, .body_max = BODY_MAX, .budget = &b->budget };
        const struct http_handler handler = { .request = on_request, .refused = on_refused, .changed = on_changed, .pace_ms = pace_ms, .ctx = b };
        assert_int_equal(http_server_new(&b->loop, &settings, &handler, &b->server, error), 0);
}

/* Ends the server in the middle of whatever goes on; nothing may remain. */
static void bench_done(struct bench *b) {
        b->server = http_server_free(b->server);
        uv_run(&b->loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&b->loop), 0);
        assert_int_equal(b->budget.used, 0);
}

struct client {
        int fd;
        char *in;
        size_t n, room;
        bool eof, reset;
};

static void client_open(struct client *c) {
        *c = (struct client){ .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
        assert_true(c->fd >= 0);
}

static void client_connect(struct bench *b, struct client *c) {
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(http_server_port(b->server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        assert_int_equal(connect(c->fd, (struct sockaddr *)&to, sizeof(to)), 0);
        assert_int_equal(fcntl(c->fd, F_SETFL, O_NONBLOCK), 0);
}

static void client_init(struct bench *b, struct client *c) {
        client_open(c);
        client_connect(b, c);
}

static void client_done(struct client *c) {
        close(c->fd);
        free(c->in);
}

/* One turn: the loop, then what arrived. */
static void turn(struct bench *b, struct client *c) {
        uv_run(&b->loop, UV_RUN_NOWAIT);
        if (!c)
                return;
        for (;;) {
                if (c->room - c->n < 4096) {
                        c->room = c->room ? c->room * 2 : 16384;
                        c->in = realloc(c->in, c->room);
                        assert_non_null(c->in);
                }
                ssize_t n = recv(c->fd, c->in + c->n, c->room - c->n - 1, 0);
                if (n == 0)
                        c->eof = true;
                if (n < 0 && errno != EAGAIN)
                        c->eof = c->reset = true;
                if (n <= 0)
                        break;
                c->n += (size_t)n;
        }
        c->in[c->n] = '\0';
}

static uint64_t clock_ms(void) {
        return uv_hrtime() / TEL_NS_PER_MS;
}

/* Turns until cond holds, and fails when it does not within WAIT_MS. */
#define WAIT(b, c, cond) \
        do { \
                for (uint64_t end_ = clock_ms() + WAIT_MS; !(cond);) { \
                        turn(b, c); \
                        if (clock_ms() > end_) \
                                fail_msg("waited in vain for " #cond); \
                        if (!(cond)) \
                                usleep(200); \
                } \
        } while (0)

/* Turns for ms. */
static void run_for(struct bench *b, struct client *c, unsigned ms) {
        for (uint64_t end = clock_ms() + ms; clock_ms() < end; usleep(500))
                turn(b, c);
}

/* Writes all, turning while the socket is full. Stops where the peer hung up. */
static void client_send(struct bench *b, struct client *c, const void *bytes, size_t n) {
        for (size_t at = 0; at < n && !c->reset;) {
                ssize_t r = send(c->fd, (const char *)bytes + at, n - at, MSG_NOSIGNAL);
                if (r < 0 && errno != EAGAIN)
                        return;
                at += r > 0 ? (size_t)r : 0;
                if (at < n)
                        turn(b, c);
        }
}

static void client_say(struct bench *b, struct client *c, const char *text) {
        client_send(b, c, text, strlen(text));
}

static unsigned count(const struct client *c, const char *what) {
        unsigned n = 0;
        for (const char *p = c->in; p && (p = strstr(p, what)); p += strlen(what))
                n++;
        return n;
}

static bool has(const struct client *c, const char *what) {
        return count(c, what) > 0;
}

static void forget(struct client *c) {
        c->n = 0;
        if (c->in)
                c->in[0] = '\0';
}

/* ---- How requests may come ---- */

static const char simple[] = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Type: t/x\r\nContent-Length: 5\r\n\r\nhello";
static const char simple_answer[] = "<POST /a 5 99162322 t/x>";
static const char chunked[] = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Type: t/x\r\nTransfer-Encoding: chunked\r\n\r\n"
                              "2\r\nhe\r\n3;ext=1\r\nllo\r\n0\r\nTrailer: yes\r\n\r\n";

/* A request is answered and the connection serves the next one. */
static void test_keep_alive(void **state) {
        struct bench b;
        struct client c;
        (void)state;
        bench_init(&b, 8, 30 * TEL_NS_PER_S);
        client_init(&b, &c);
        for (unsigned i = 1; i <= 3; i++) {
                client_say(&b, &c, simple);
                WAIT(&b, &c, count(&c, simple_answer) == i);
        }
        client_say(&b, &c, "GET /p?x=1&y=%20 HTTP/1.1\r\nHost: x\r\n\r\n");
        WAIT(&b, &c, has(&c, "<GET /p 0 0 ->"));
        assert_string_equal(b.last_query, "x=1&y=%20");
        client_say(&b, &c, "POST /empty HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        WAIT(&b, &c, count(&c, "HTTP/1.1 200 OK") == 5);
        assert_string_equal(b.last_query, "(none)");
        assert_false(c.eof);
        assert_int_equal(b.told.requests, 5);
        assert_int_equal(b.told.connections, 1);
        client_done(&c);
        WAIT(&b, NULL, b.told.connections == 0);
        bench_done(&b);
}

/* Chunks, extensions and trailers, and a connection that goes on behind them. */
static void test_chunked(void **state) {
        struct bench b;
        struct client c;
        (void)state;
        bench_init(&b, 8, 30 * TEL_NS_PER_S);
        client_init(&b, &c);
        client_say(&b, &c, chunked);
        WAIT(&b, &c, count(&c, simple_answer) == 1);
        client_say(&b, &c, chunked);
        client_say(&b, &c, simple);
        WAIT(&b, &c, count(&c, simple_answer) == 3);
        client_done(&c);
        bench_done(&b);
}

/* Many requests in one write are answered in their order. */
static void test_pipelined(void **state) {
        static char wire[64 << 10];
        struct bench b;
        struct client c;
        size_t n = 0;
        (void)state;
        bench_init(&b, 8, 30 * TEL_NS_PER_S);
        client_init(&b, &c);
        for (unsigned i = 0; i < 200; i++)
                n += (size_t)sprintf(wire + n, "POST /%u HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", i);
        client_send(&b, &c, wire, n);
        WAIT(&b, &c, count(&c, "<POST /") == 200);
        const char *at = c.in;
        for (unsigned i = 0; i < 200; i++) {
                char want[32];
                snprintf(want, sizeof(want), "<POST /%u 5 ", i);
                at = strstr(at, want);
                assert_non_null(at);
        }
        client_done(&c);
        bench_done(&b);
}

/* A byte at a time, with and without chunks. */
static void test_byte_by_byte(void **state) {
        struct bench b;
        struct client c;
        (void)state;
        bench_init(&b, 8, 30 * TEL_NS_PER_S);
        client_init(&b, &c);
        const char *const wires[] = { simple, chunked };
        for (unsigned w = 0; w < 2; w++)
                for (const char *p = wires[w]; *p; p++) {
                        assert_int_equal(count(&c, simple_answer), w);
                        client_send(&b, &c, p, 1);
                        turn(&b, &c);
                        turn(&b, &c);
                }
        WAIT(&b, &c, count(&c, simple_answer) == 2);
        client_done(&c);
        bench_done(&b);
}

/* Bodies up to the limit, however they are cut on the way. */
static void test_random_cuts(void **state) {
        static char wire[1 << 20];
        struct bench b;
        struct client c;
        size_t n = 0;
        unsigned seed = 1, wanted = 0;
        (void)state;
        bench_init(&b, 8, 30 * TEL_NS_PER_S);
        client_init(&b, &c);
        const size_t lengths[] = { 1, 31000, 32768, 40000, 65536, 100000, BODY_MAX };
        for (size_t i = 0; i < TEL_ARRAY_LEN(lengths); i++, wanted++) {
                bool chunks = i % 2;
                n += (size_t)sprintf(wire + n, "POST /%zu HTTP/1.1\r\nHost: x\r\n", lengths[i]);
                n += chunks ? (size_t)sprintf(wire + n, "Transfer-Encoding: chunked\r\n\r\n%zx\r\n", lengths[i])
                            : (size_t)sprintf(wire + n, "Content-Length: %zu\r\n\r\n", lengths[i]);
                memset(wire + n, 'b', lengths[i]);
                n += lengths[i];
                n += chunks ? (size_t)sprintf(wire + n, "\r\n0\r\n\r\n") : 0;
        }
        for (size_t at = 0; at < n;) {
                size_t part = TEL_MIN((size_t)(rand_r(&seed) % 20000 + 1), n - at);
                client_send(&b, &c, wire + at, part);
                at += part;
                turn(&b, &c);
        }
        WAIT(&b, &c, count(&c, "<POST /") == wanted);
        for (size_t i = 0; i < TEL_ARRAY_LEN(lengths); i++) {
                char want[64];
                snprintf(want, sizeof(want), "<POST /%zu %zu ", lengths[i], lengths[i]);
                assert_true(has(&c, want));
        }
        client_done(&c);
        bench_done(&b);
}

/* Who asks is told to go on, and only then sends; who announces too much is told so in its place. */
static void test_expect_continue(void **state) {
        struct bench b;
        struct client c;
        (void)state;
        bench_init(&b, 8, 30 * TEL_NS_PER_S);
        client_init(&b, &c);
        client_say(&b, &c, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Type: t/x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        WAIT(&b, &c, has(&c, "HTTP/1.1 100 Continue\r\n\r\n"));
        assert_false(has(&c, "200 OK"));
        client_say(&b, &c, "hello");
        WAIT(&b, &c, has(&c, simple_answer));
        client_say(&b, &c, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n");
        WAIT(&b, &c, c.eof);
        assert_true(has(&c, "HTTP/1.1 413") && has(&c, "<refused 413>"));
        assert_int_equal(count(&c, "100 Continue"), 1);
        assert_false(c.reset);
        client_done(&c);
        bench_done(&b);
}

/* HTTP/1.0 ends with its answer, and so does who asks for it. */
static void test_close(void **state) {
        struct bench b;
        struct client c;
        (void)state;
        bench_init(&b, 8, 30 * TEL_NS_PER_S);
        client_init(&b, &c);
        client_say(&b, &c, "POST /a HTTP/1.0\r\nContent-Type: t/x\r\nContent-Length: 5\r\n\r\nhello");
        WAIT(&b, &c, c.eof);
        assert_true(has(&c, simple_answer) && !c.reset);
        client_done(&c);
        client_init(&b, &c);
        client_say(&b, &c, "POST /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: t/x\r\nContent-Length: 5\r\n\r\nhello");
        WAIT(&b, &c, c.eof);
        assert_true(has(&c, simple_answer) && !c.reset);
        client_done(&c);
        b.close_next = true;                       /* the handler may ask for it, too */
        client_init(&b, &c);
        client_say(&b, &c, simple);
        WAIT(&b, &c, c.eof);
        assert_true(has(&c, simple_answer) && has(&c, "Connection: close"));
        client_done(&c);
        bench_done(&b);
}

/* A peer that ends its side behind its request gets its answer. */
static void test_half_close(void **state) {
        struct bench b;
        struct client c;
        (void)state;
        bench_init(&b, 8, 30 * TEL_NS_PER_S);
        client_init(&b, &c);
        client_say(&b, &c, simple);
        shutdown(c.fd, SHUT_WR);
        WAIT(&b, &c, c.eof);
        assert_true(has(&c, simple_answer));
        client_done(&c);
        client_init(&b, &c);                       /* all of them, when there are several */
        for (int i = 0; i < 100; i++)
                client_say(&b, &c, simple);
        shutdown(c.fd, SHUT_WR);
        WAIT(&b, &c, c.eof);
        assert_int_equal(count(&c, simple_answer), 100);
        client_done(&c);
        bench_done(&b);
}

/* What the handler says stands in the head. */
static void test_reply_headers(void **state) {
        struct bench b;
        struct client c;
        (void)state;
        bench_init(&b, 8, 30 * TEL_NS_PER_S);
        client_init(&b, &c);
        client_say(&b, &c, "GET /headers HTTP/1.1\r\nHost: x\r\n\r\n");
        WAIT(&b, &c, has(&c, "<GET /headers"));
        assert_true(has(&c, "HTTP/1.1 405 ") && has(&c, "\r\nAllow: POST\r\n") && has(&c, "\r\nRetry-After: 7\r\n"));
        assert_true(has(&c, "\r\nContent-Encoding: gzip\r\n") && has(&c, "\r\nContent-Type: text/plain\r\n") && has(&c, "\r\nDate: "));
        client_done(&c);
        bench_done(&b);
}

/* What is no HTTP is 400 and ends the connection; the server goes on. */
static void test_malformed(void **state) {
        static const char *const wires[] = {
                "\x16\x03\x01\x02\x01\xfc\r\n\r\n", "POST\r\n\r\n", "POST /a HTTP/9.9\r\n\r\n",
                "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
                "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        };
        struct bench b;
        struct client c;
        (void)state;
        bench_init(&b, 8, 30 * TEL_NS_PER_S);
        for (size_t i = 0; i < TEL_ARRAY_LEN(wires); i++) {
                client_init(&b, &c);
                client_say(&b, &c, wires[i]);
                WAIT(&b, &c, c.eof);
                assert_false(has(&c, " 200 "));
                client_done(&c);
        }
        assert_int_equal(b.requests, 0);
        client_init(&b, &c);
        client_say(&b, &c, simple);
        WAIT(&b, &c, has(&c, simple_answer));
        client_done(&c);
        bench_done(&b);
}

/* ---- Bounds ---- */

/* Too large by its own announcement: told at once, and the answer arrives although the peer goes on writing. */
static void test_413_announced(void **state) {
        static char body[2 << 20];
        struct bench b;
        struct client c;
        (void)state;
        bench_init(&b, 8, 30 * TEL_NS_PER_S);
        client_init(&b, &c);
        client_say(&b, &c, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2097152\r\n\r\n");
        WAIT(&b, &c, has(&c, "<refused 413>"));
        client_send(&b, &c, body, sizeof(body));
        shutdown(c.fd, SHUT_WR);
        WAIT(&b, &c, c.eof);
        assert_false(c.reset);
        client_done(&c);
        client_init(&b, &c);                       /* and when it looks only after it has written all */
        client_say(&b, &c, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2097152\r\n\r\n");
        for (size_t at = 0; at < sizeof(body);) {
                ssize_t n = send(c.fd, body + at, sizeof(body) - at, MSG_NOSIGNAL);
                assert_true(n > 0 || errno == EAGAIN);
                at += n > 0 ? (size_t)n : 0;
                turn(&b, NULL);
        }
        WAIT(&b, &c, c.eof);
        assert_true(has(&c, "<refused 413>") && !c.reset);
        assert_true(b.budget.peak < 64 << 10);
        client_done(&c);
        bench_done(&b);
}

/* Too large chunk by chunk: dropped, told at the end, and the connection goes on. Far too large: told in between, and over. */
static void test_413_chunked(void **state) {
        static char body[BODY_MAX + 5000];
        struct bench b;
        struct client c;
        char head[128];
        (void)state;
        bench_init(&b, 8, 30 * TEL_NS_PER_S);
        client_init(&b, &c);
        snprintf(head, sizeof(head), "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%zx\r\n", sizeof(body));
        client_say(&b, &c, head);
        client_send(&b, &c, body, sizeof(body));
        run_for(&b, &c, 20);
        WAIT(&b, &c, b.budget.used == 0);          /* nothing is held of what is refused */
        client_say(&b, &c, "\r\n0\r\n\r\n");
        WAIT(&b, &c, has(&c, "<refused 413>"));
        client_say(&b, &c, simple);
        WAIT(&b, &c, has(&c, simple_answer));
        forget(&c);
        client_say(&b, &c, head);
        client_send(&b, &c, body, sizeof(body));
        for (int i = 0; i < 8 && !c.eof; i++) {
                snprintf(head, sizeof(head), "\r\n%zx\r\n", sizeof(body));
                client_say(&b, &c, head);
                client_send(&b, &c, body, sizeof(body));
        }
        shutdown(c.fd, SHUT_WR);
        WAIT(&b, &c, c.eof);
        assert_true(has(&c, "HTTP/1.1 413 ") && has(&c, "<refused 413>") && has(&c, "Connection: close") && !c.reset);
        client_done(&c);
        bench_done(&b);
}

/* Memory is taken for what arrived, not for what is announced; what is received in full is held exactly. */
static void test_no_memory_for_promises(void **state) {
        static char body[200000];
        struct bench b;
        struct client c;
        (void)state;
        bench_init(&b, 8, 30 * TEL_NS_PER_S);
        client_init(&b, &c);
        client_say(&b, &c, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n0123456789");
        WAIT(&b, &c, b.budget.used > 0);
        assert_true(b.budget.used < 1000);
        client_send(&b, &c, body, sizeof(body) - 10);
        WAIT(&b, &c, b.requests == 1);
        assert_int_equal(b.last_body, 200000);
        assert_true(b.budget.peak <= 200000 + sizeof(struct tel_buf));
        assert_int_equal(b.budget.used, 0);
        client_done(&c);
        bench_done(&b);
}

/* Over the budget is 503 with Retry-After, and the connection goes on. */
static void test_503_budget(void **state) {
        static char body[100000];
        struct bench b;
        struct client c;
        (void)state;
        bench_init(&b, 8, 30 * TEL_NS_PER_S);
        client_init(&b, &c);
        assert_true(tel_budget_charge(&b.budget, (8 << 20) - 50000));
        client_say(&b, &c, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
        client_send(&b, &c, body, sizeof(body));
        WAIT(&b, &c, has(&c, "<refused 503>"));
        assert_true(has(&c, "HTTP/1.1 503 ") && has(&c, "Retry-After: 1\r\n"));
        assert_int_equal(b.budget.used, (8 << 20) - 50000);
        tel_budget_credit(&b.budget, (8 << 20) - 50000);
        client_say(&b, &c, "POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
        client_send(&b, &c, body, sizeof(body));
        WAIT(&b, &c, has(&c, "<POST /b 100000 "));
        client_done(&c);
        bench_done(&b);
}

/* A peer that goes away in the middle of its body, or of a large answer, leaves nothing behind. */
static void test_gone(void **state) {
        struct bench b;
        struct client c;
        (void)state;
        bench_init(&b, 8, 30 * TEL_NS_PER_S);
        client_init(&b, &c);
        client_say(&b, &c, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n0123456789");
        WAIT(&b, &c, b.budget.used > 0);
        client_done(&c);
        WAIT(&b, NULL, b.budget.used == 0 && b.told.connections == 0);
        client_init(&b, &c);
        client_say(&b, &c, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
        WAIT(&b, NULL, b.requests == 1);
        assert_true(b.budget.used > 4 << 20);
        client_done(&c);
        WAIT(&b, NULL, b.budget.used == 0 && b.told.connections == 0);
        client_init(&b, &c);
        client_say(&b, &c, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
        WAIT(&b, &c, c.n > 4 << 20);
        assert_int_equal(b.budget.used, 0);
        client_done(&c);
        bench_done(&b);
}

/* ---- Time ---- */

/* A request that trickles is ended idle_ns after its first byte, wherever it is, and told so once it has said what it wants. */
static void test_trickle(void **state) {
        static const char *const heads[] = {
                "", "POST /a HTTP/1.1\r\nX: ", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n",
                "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n",
        };
        struct bench b;
        struct client c[TEL_ARRAY_LEN(heads)];
        (void)state;
        bench_init(&b, 8, TEL_NS_PER_S);
        uint64_t start = clock_ms(), end[TEL_ARRAY_LEN(heads)] = { 0 };
        for (size_t i = 0; i < TEL_ARRAY_LEN(heads); i++) {
                client_init(&b, &c[i]);
                client_say(&b, &c[i], heads[i]);
        }
        for (unsigned left = TEL_ARRAY_LEN(heads); left > 0 && clock_ms() - start < WAIT_MS; usleep(20000))
                for (size_t i = 0; i < TEL_ARRAY_LEN(heads); i++) {
                        if (end[i])
                                continue;
                        client_say(&b, &c[i], "A");
                        turn(&b, &c[i]);
                        if (c[i].eof) {
                                end[i] = clock_ms();
                                left--;
                        }
                }
        for (size_t i = 0; i < TEL_ARRAY_LEN(heads); i++) {
                assert_true(end[i] >= start + 950 && end[i] <= start + 2500);
                assert_true((strstr(c[i].in, "HTTP/1.1 408 ") != NULL) == (i > 0));
                client_done(&c[i]);
        }
        assert_int_equal(b.told.timeouts, TEL_ARRAY_LEN(heads));
        assert_int_equal(b.budget.used, 0);
        bench_done(&b);
}

/* One that has nothing to say is closed as well, first or between requests; then nothing wakes the loop any more. */
static void test_idle(void **state) {
        struct bench b;
        struct client silent, idle, stalled;
        (void)state;
        bench_init(&b, 8, TEL_NS_PER_S);
        client_init(&b, &silent);
        client_init(&b, &idle);
        client_init(&b, &stalled);
        client_say(&b, &idle, simple);
        client_say(&b, &stalled, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\nabc");
        WAIT(&b, &idle, has(&idle, simple_answer));
        WAIT(&b, &silent, silent.eof);
        WAIT(&b, &idle, idle.eof);
        WAIT(&b, &stalled, stalled.eof);
        assert_int_equal(silent.n, 0);
        assert_int_equal(count(&idle, "HTTP/1.1"), 1);
        assert_true(has(&stalled, "<refused 408>"));
        assert_int_equal(b.told.timeouts, 2);
        client_done(&silent);
        client_done(&idle);
        client_done(&stalled);
        WAIT(&b, NULL, b.told.connections == 0);
        WAIT(&b, NULL, uv_backend_timeout(&b.loop) == -1);
        bench_done(&b);
}

/* A connection that is used now and then lives on, beyond any deadline of a single request. */
static void test_used_now_and_then(void **state) {
        struct bench b;
        struct client c;
        (void)state;
        bench_init(&b, 8, TEL_NS_PER_S);
        client_init(&b, &c);
        for (unsigned i = 1; i <= 5; i++) {
                client_say(&b, &c, simple);
                run_for(&b, &c, 700);
                assert_int_equal(count(&c, simple_answer), i);
        }
        assert_false(c.eof);
        client_done(&c);
        bench_done(&b);
}

/* While the handler wants a pause nothing is read, not for a new connection either; then all goes on. */
static void test_pace(void **state) {
        struct bench b;
        struct client c, other;
        (void)state;
        bench_init(&b, 8, 30 * TEL_NS_PER_S);
        b.pace_ms = 300;
        client_init(&b, &c);
        client_say(&b, &c, simple);
        WAIT(&b, &c, has(&c, simple_answer));
        unsigned before = b.requests;
        client_say(&b, &c, simple);
        client_init(&b, &other);
        client_say(&b, &other, simple);
        run_for(&b, &c, 100);
        assert_int_equal(b.requests, before);
        b.pace_ms = 0;
        WAIT(&b, &c, count(&c, simple_answer) == 2);
        WAIT(&b, &other, has(&other, simple_answer));
        client_done(&c);
        client_done(&other);
        bench_done(&b);
}

/* A peer that does not read its answer is ended, too. */
static void test_unread_answer(void **state) {
        struct bench b;
        struct client c;
        int small = 4096;
        (void)state;
        bench_init(&b, 8, TEL_NS_PER_S);
        client_open(&c);
        setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
        client_connect(&b, &c);
        client_say(&b, &c, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
        WAIT(&b, NULL, b.told.connections == 0 && b.told.requests == 1);
        assert_int_equal(b.told.timeouts, 1);
        assert_int_equal(b.budget.used, 0);
        client_done(&c);
        bench_done(&b);
}

/* ---- Too many ---- */

/* At the limit the connection that has been idle longest goes for the new one. */
static void test_evict_idle(void **state) {
        struct bench b;
        struct client c[5];
        (void)state;
        bench_init(&b, 4, 30 * TEL_NS_PER_S);
        for (int i = 0; i < 4; i++) {
                client_init(&b, &c[i]);
                client_say(&b, &c[i], simple);
                WAIT(&b, &c[i], has(&c[i], simple_answer));
                run_for(&b, NULL, 5);
        }
        client_say(&b, &c[0], simple);             /* now the second has waited longest */
        WAIT(&b, &c[0], count(&c[0], simple_answer) == 2);
        client_init(&b, &c[4]);
        client_say(&b, &c[4], simple);
        WAIT(&b, &c[4], has(&c[4], simple_answer));
        WAIT(&b, &c[1], c[1].eof);
        for (int i = 0; i < 5; i++) {
                turn(&b, &c[i]);
                assert_true(c[i].eof == (i == 1));
                client_done(&c[i]);
        }
        assert_int_equal(b.told.evicted, 1);
        assert_int_equal(b.refused, 0);
        bench_done(&b);
}

/* While all are at work the new one is told 503 and closed; after a second without progress they are fair game. */
static void test_limit_busy(void **state) {
        struct bench b;
        struct client c[6];
        (void)state;
        bench_init(&b, 4, 30 * TEL_NS_PER_S);
        for (int i = 0; i < 4; i++) {
                client_init(&b, &c[i]);
                client_say(&b, &c[i], "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n");
                turn(&b, &c[i]);
        }
        client_init(&b, &c[4]);
        client_say(&b, &c[4], simple);
        WAIT(&b, &c[4], c[4].eof);
        assert_true(has(&c[4], "HTTP/1.1 503 ") && has(&c[4], "Retry-After: 1") && has(&c[4], "Connection: close") && !c[4].reset);
        assert_int_equal(b.told.evicted, 0);
        run_for(&b, NULL, 1100);
        client_say(&b, &c[0], "h");                /* progress */
        run_for(&b, NULL, 5);
        client_init(&b, &c[5]);
        client_say(&b, &c[5], simple);
        WAIT(&b, &c[5], has(&c[5], simple_answer));
        assert_int_equal(b.told.evicted, 1);
        client_say(&b, &c[0], "ello");
        WAIT(&b, &c[0], has(&c[0], "<POST /a 5 "));
        for (int i = 0; i < 6; i++)
                client_done(&c[i]);
        bench_done(&b);
}

/* Far more than the limit allows even to be told: they wait in the kernel, all are served in the end, and nothing spins. */
static void test_flood(void **state) {
        static struct client c[HTTP_OVERFLOW_MAX + 80];
        struct bench b;
        (void)state;
        bench_init(&b, 4, 30 * TEL_NS_PER_S);
        for (size_t i = 0; i < TEL_ARRAY_LEN(c); i++) {
                client_init(&b, &c[i]);
                client_say(&b, &c[i], "POST");     /* never idle, never whole */
        }
        run_for(&b, NULL, 300);
        assert_true(b.told.connections <= 4 + HTTP_OVERFLOW_MAX);
        for (size_t i = 0; i < TEL_ARRAY_LEN(c); i++)
                client_say(&b, &c[i], " /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        for (size_t i = 0; i < TEL_ARRAY_LEN(c); i++)
                WAIT(&b, &c[i], c[i].n > 0 || c[i].eof);
        for (size_t i = 0; i < TEL_ARRAY_LEN(c); i++)
                client_done(&c[i]);
        WAIT(&b, NULL, b.told.connections == 0);
        client_init(&b, &c[0]);
        client_say(&b, &c[0], simple);
        WAIT(&b, &c[0], has(&c[0], simple_answer));
        client_done(&c[0]);
        bench_done(&b);
}

static rlim_t descriptors_limit(rlim_t n) {
        struct rlimit l;
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &l), 0);
        rlim_t was = l.rlim_cur;
        l.rlim_cur = n;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &l), 0);
        return was;
}

/* The number of the next descriptor: a limit of just that leaves none. */
static rlim_t descriptors_used(void) {
        int fd = dup(0);
        assert_true(fd >= 0);
        close(fd);
        return (rlim_t)fd;
}

/* Valgrind keeps descriptors of its own and the limit for itself. scripts/test sets it. */
static bool under_valgrind(void) {
        return getenv("SUITE_VALGRIND") != NULL;
}

/* Without descriptors the loop sleeps, and who came in the meantime is served once there are some. */
static void test_no_descriptors(void **state) {
        struct bench b;
        struct client c;
        unsigned turns = 0;
        (void)state;
        if (under_valgrind())
                skip();
        bench_init(&b, 8, 30 * TEL_NS_PER_S);
        client_open(&c);
        uv_run(&b.loop, UV_RUN_NOWAIT);
        rlim_t was = descriptors_limit(descriptors_used());
        client_connect(&b, &c);
        client_say(&b, &c, simple);
        for (uint64_t end = clock_ms() + 500; clock_ms() < end; turns++)
                uv_run(&b.loop, UV_RUN_ONCE);
        assert_true(turns < 20);
        assert_int_equal(b.told.connections, 0);
        descriptors_limit(was);
        WAIT(&b, &c, has(&c, simple_answer));
        client_done(&c);
        bench_done(&b);
}

/* Without descriptors an idle connection gives its own to the new one. */
static void test_no_descriptors_but_idle(void **state) {
        struct bench b;
        struct client idle, c;
        (void)state;
        if (under_valgrind())
                skip();
        bench_init(&b, 8, 30 * TEL_NS_PER_S);
        client_open(&c);
        client_init(&b, &idle);
        client_say(&b, &idle, simple);
        WAIT(&b, &idle, has(&idle, simple_answer));
        rlim_t was = descriptors_limit(descriptors_used());
        client_connect(&b, &c);
        client_say(&b, &c, simple);
        WAIT(&b, &c, has(&c, simple_answer));
        WAIT(&b, &idle, idle.eof);
        assert_int_equal(b.told.evicted, 1);
        descriptors_limit(was);
        client_done(&c);
        client_done(&idle);
        bench_done(&b);
}

/* ---- Life ---- */

/* After quiesce nobody can connect; who is connected gets answers, each the last of its connection. */
static void test_quiesce(void **state) {
        struct bench b;
        struct client c, late;
        (void)state;
        bench_init(&b, 8, 30 * TEL_NS_PER_S);
        client_init(&b, &c);
        client_say(&b, &c, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Type: t/x\r\nContent-Length: 5\r\n\r\nhel");
        WAIT(&b, &c, b.budget.used > 0);
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(http_server_port(b.server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        http_server_quiesce(b.server);
        client_open(&late);
        assert_int_equal(connect(late.fd, (struct sockaddr *)&to, sizeof(to)), -1);
        assert_int_equal(errno, ECONNREFUSED);
        client_say(&b, &c, "lo");
        WAIT(&b, &c, c.eof);
        assert_true(has(&c, simple_answer) && has(&c, "Connection: close"));
        http_server_quiesce(b.server);             /* again is nothing */
        client_done(&late);
        client_done(&c);
        bench_done(&b);
}

/* The end may come while bodies arrive, answers leave and refused ones linger. */
static void test_free_at_work(void **state) {
        struct bench b;
        struct client c[4];
        (void)state;
        bench_init(&b, 8, 30 * TEL_NS_PER_S);
        for (int i = 0; i < 4; i++)
                client_init(&b, &c[i]);
        client_say(&b, &c[0], "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\nhello");
        client_say(&b, &c[1], "GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
        client_say(&b, &c[2], "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\nhello");
        client_say(&b, &c[3], "POS");
        WAIT(&b, &c[2], has(&c[2], "<refused 413>"));
        WAIT(&b, NULL, b.requests == 1 && b.told.connections <= 3);
        bench_done(&b);
        for (int i = 0; i < 4; i++)
                client_done(&c[i]);
        http_server_free(NULL);
}

static int try_listen(struct bench *b, const char *address, int fd, char *error) {
        const struct http_settings settings = { .name = "otlp_http", .address = address, .fd = fd, .connections_max = 4,
                                                .idle_ns = TEL_NS_PER_S, .body_max = BODY_MAX, .budget = &b->budget };
        const struct http_handler handler = { .request = on_request, .refused = on_refused, .ctx = b };
        *error = '\0';
        b->server = NULL;
        return http_server_new(&b->loop, &settings, &handler, &b->server, error);
}

/* Addresses in every spelling, and errors that name them. */
static void test_addresses(void **state) {
        static const char *const good[] = { "127.0.0.1:0", "localhost:0", ":0", "0.0.0.0:0", "[::1]:0", "[::]:0" };
        char error[HTTP_ERROR_MAX], address[32], want[96];
        struct bench b, second;
        struct client c;
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(good); i++) {
                b = (struct bench){ 0 };
                uv_loop_init(&b.loop);
                int r = try_listen(&b, good[i], -1, error);
                if (good[i][0] == '[' && (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL)) {        /* a host without IPv6 */
                        bench_done(&b);
                        continue;
                }
                assert_int_equal(r, 0);
                assert_true(http_server_port(b.server) > 0);
                if (good[i][0] != '[') {           /* the empty host takes IPv4 as well */
                        client_init(&b, &c);
                        client_say(&b, &c, simple);
                        WAIT(&b, &c, has(&c, simple_answer));
                        client_done(&c);
                }
                bench_done(&b);
        }
        bench_init(&b, 4, TEL_NS_PER_S);
        second = (struct bench){ 0 };
        uv_loop_init(&second.loop);
        snprintf(address, sizeof(address), "127.0.0.1:%u", http_server_port(b.server));
        snprintf(want, sizeof(want), "listen otlp_http: %s: address already in use", address);
        assert_int_equal(try_listen(&second, address, -1, error), -EADDRINUSE);
        assert_string_equal(error, want);
        assert_int_equal(try_listen(&second, "example.org:1", -1, error), -EINVAL);
        assert_non_null(strstr(error, "listen otlp_http: example.org:1: expected"));
        assert_int_equal(try_listen(&second, "127.0.0.1", -1, error), -EINVAL);
        assert_true(try_listen(&second, "192.0.2.1:0", -1, error) < 0);
        assert_int_equal(try_listen(&second, NULL, 0, error), -ENOTSOCK);
        assert_null(second.server);
        bench_done(&second);
        bench_done(&b);
}

/* A listening socket that was handed over is served; one that does not listen is refused. */
static void test_handed_over(void **state) {
        struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        char error[HTTP_ERROR_MAX];
        struct bench b = { 0 };
        struct client c;
        (void)state;
        uv_loop_init(&b.loop);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof(any)), 0);
        assert_int_equal(try_listen(&b, "ignored", fd, error), -EINVAL);
        assert_non_null(strstr(error, "listen otlp_http: "));
        assert_int_equal(listen(fd, 5), 0);
        assert_int_equal(try_listen(&b, "ignored", fd, error), 0);
        client_init(&b, &c);
        client_say(&b, &c, simple);
        WAIT(&b, &c, has(&c, simple_answer));
        client_done(&c);
        bench_done(&b);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_keep_alive), cmocka_unit_test(test_chunked), cmocka_unit_test(test_pipelined),
                cmocka_unit_test(test_byte_by_byte), cmocka_unit_test(test_random_cuts), cmocka_unit_test(test_expect_continue),
                cmocka_unit_test(test_close), cmocka_unit_test(test_half_close), cmocka_unit_test(test_reply_headers),
                cmocka_unit_test(test_malformed), cmocka_unit_test(test_413_announced), cmocka_unit_test(test_413_chunked),
                cmocka_unit_test(test_no_memory_for_promises), cmocka_unit_test(test_503_budget), cmocka_unit_test(test_gone),
                cmocka_unit_test(test_trickle), cmocka_unit_test(test_idle), cmocka_unit_test(test_used_now_and_then),
                cmocka_unit_test(test_pace), cmocka_unit_test(test_unread_answer), cmocka_unit_test(test_evict_idle),
                cmocka_unit_test(test_limit_busy), cmocka_unit_test(test_flood), cmocka_unit_test(test_no_descriptors),
                cmocka_unit_test(test_no_descriptors_but_idle), cmocka_unit_test(test_quiesce), cmocka_unit_test(test_free_at_work),
                cmocka_unit_test(test_addresses), cmocka_unit_test(test_handed_over),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
