/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "libtelemetry/client.h"

/* A receiver that does what the test says, on a real socket in a folder of its own. */
struct peer {
        char folder[32], path[64];
        int listener, fd;
        uint8_t *in;                               /* what came on the present connection; frames up to at were looked at */
        size_t n, at;
        uint64_t now_ns;                           /* what the client is told */
};

#define IN_MAX (40u << 20)

static void peer_listen(struct peer *p) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        memcpy(a.sun_path, p->path, sizeof(p->path));
        p->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_int_equal(bind(p->listener, (struct sockaddr *)&a, sizeof(a)), 0);
        assert_int_equal(listen(p->listener, 8), 0);
}

static void peer_hang_up(struct peer *p) {
        if (p->fd >= 0)
                close(p->fd);
        p->fd = -1;
        p->n = p->at = 0;
}

static void peer_stop(struct peer *p) {
        peer_hang_up(p);
        close(p->listener);
        unlink(p->path);
}

static int peer_setup(void **state) {
        struct peer *p = calloc(1, sizeof(*p));
        p->in = malloc(IN_MAX);
        p->fd = -1;
        p->now_ns = 1000 * TEL_NS_PER_S;
        strcpy(p->folder, "/tmp/client-XXXXXX");
        if (!mkdtemp(p->folder))
                return -1;
        snprintf(p->path, sizeof(p->path), "%s/frames.sock", p->folder);
        peer_listen(p);
        *state = p;
        return 0;
}

static int peer_teardown(void **state) {
        struct peer *p = *state;
        peer_stop(p);
        rmdir(p->folder);
        free(p->in);
        free(p);
        return 0;
}

static struct tel_client *client_of(struct peer *p, size_t backlog) {
        struct tel_client *c = tel_client_new(&(struct tel_client_options){ .path = p->path, .name = "test", .version = "9", .backlog_bytes = backlog });
        assert_non_null(c);
        return c;
}

static void peer_accept(struct peer *p) {
        p->fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        assert_true(p->fd >= 0);
}

/* Takes at most max bytes that are there. Returns how many. */
static size_t peer_take(struct peer *p, size_t max) {
        ssize_t n = recv(p->fd, p->in + p->n, TEL_MIN(max, IN_MAX - p->n), 0);
        p->n += n > 0 ? (size_t)n : 0;
        return n > 0 ? (size_t)n : 0;
}

/* Client and peer by turns until nothing moves any more. */
static void pump(struct peer *p, struct tel_client *c) {
        do
                assert_int_equal(tel_client_step(c, p->now_ns), 0);
        while (peer_take(p, IN_MAX) > 0);
}

/* The next whole frame; kind 0 when there is none. */
static struct tel_frame peer_next(struct peer *p) {
        struct tel_frame f = { 0 };
        enum tel_frame_error e;
        int r = tel_frame_parse(p->in + p->at, p->n - p->at, &f, &e);
        assert_true(r >= 0);
        if (r == TEL_FRAME_MORE)
                return (struct tel_frame){ 0 };
        p->at += TEL_FRAME_HEAD + f.len;
        return f;
}

static struct tel_frame peer_expect(struct peer *p, uint8_t kind, uint64_t sequence) {
        struct tel_frame f = peer_next(p);
        assert_int_equal(f.kind, kind);
        assert_int_equal(f.sequence, sequence);
        return f;
}

static void peer_expect_none(struct peer *p) {
        assert_int_equal(peer_next(p).kind, 0);
        assert_int_equal(p->at, p->n);
}

static void peer_send(struct peer *p, uint8_t kind, uint64_t sequence, const void *body, size_t n) {
        uint8_t wire[TEL_FRAME_HEAD + TEL_FRAME_SMALL_MAX];
        tel_frame_head(wire, kind, sequence, body, (uint32_t)n);
        if (n > 0)
                memcpy(wire + TEL_FRAME_HEAD, body, n);
        assert_int_equal(send(p->fd, wire, TEL_FRAME_HEAD + n, MSG_NOSIGNAL), TEL_FRAME_HEAD + n);
}

static void peer_ack(struct peer *p, uint64_t sequence) {
        peer_send(p, TEL_FRAME_ACK, sequence, NULL, 0);
}

static void peer_error(struct peer *p, uint32_t code, uint64_t sequence) {
        uint8_t body[TEL_FRAME_SMALL_MAX];
        struct tel_frame_error_body e = { .code = code, .sequence = sequence, .text = "as the test says" };
        peer_send(p, TEL_FRAME_ERROR, 0, body, tel_frame_error_put(body, &e));
}

static struct tel_frame_status peer_expect_status(struct peer *p) {
        struct tel_frame_status s;
        struct tel_frame f = peer_expect(p, TEL_FRAME_STATUS, 0);
        assert_int_equal(tel_frame_status_get(f.body, f.len, &s), 0);
        return s;
}

static struct tel_client_stats stats_of(struct tel_client *c) {
        struct tel_client_stats s;
        tel_client_get_stats(c, &s);
        return s;
}

static void queue(struct tel_client *c, const char *text) {
        assert_int_equal(tel_client_send(c, TEL_FRAME_LOGS, text, strlen(text)), 0);
}

/* The client's next connection, once its wait is over; HELLO is read. */
static void reconnect(struct peer *p, struct tel_client *c) {
        if (p->fd >= 0)
                peer_hang_up(p);
        tel_client_step(c, p->now_ns);
        if (tel_client_fd(c) < 0) {
                p->now_ns = TEL_MAX(p->now_ns, tel_client_timeout_ns(c));
                tel_client_step(c, p->now_ns);
        }
        peer_accept(p);
        pump(p, c);
        peer_expect(p, TEL_FRAME_HELLO, 0);
}

/* HELLO first, then the frames in order from sequence 1, and nothing is forgotten before its ACK. */
static void test_send_and_ack(void **state) {
        struct peer *p = *state;
        struct tel_client *c = client_of(p, 0);
        queue(c, "one");
        queue(c, "two");
        assert_int_equal(tel_client_timeout_ns(c), 0);         /* a step is due at once */
        tel_client_step(c, p->now_ns);
        peer_accept(p);
        pump(p, c);
        struct tel_frame_hello h;
        struct tel_frame f = peer_expect(p, TEL_FRAME_HELLO, 0);
        assert_int_equal(tel_frame_hello_get(f.body, f.len, &h), 0);
        assert_string_equal(h.name, "test");
        assert_string_equal(h.version, "9");
        assert_int_equal(h.pid, getpid());
        assert_true(h.host[0]);
        f = peer_expect(p, TEL_FRAME_LOGS, 1);
        assert_memory_equal(f.body, "one", f.len);
        peer_expect(p, TEL_FRAME_LOGS, 2);
        peer_expect_none(p);
        assert_true(stats_of(c).connected);
        assert_int_equal(stats_of(c).waiting_frames, 2);
        assert_int_equal(stats_of(c).waiting_bytes, 2 * (TEL_FRAME_HEAD + 3));
        assert_int_equal(tel_client_events(c), POLLIN);
        peer_ack(p, 1);
        pump(p, c);
        assert_int_equal(stats_of(c).waiting_frames, 1);
        queue(c, "three");
        assert_int_equal(tel_client_events(c), POLLIN | POLLOUT);
        pump(p, c);
        peer_expect(p, TEL_FRAME_LOGS, 3);
        peer_ack(p, 3);                            /* cumulative */
        pump(p, c);
        struct tel_client_stats s = stats_of(c);
        assert_int_equal(s.waiting_frames, 0);
        assert_int_equal(s.waiting_bytes, 0);
        assert_int_equal(s.sent, 3);
        assert_int_equal(s.acknowledged, 3);
        assert_int_equal(s.resent, 0);
        tel_client_free(c);
}

/* ACKs that come one byte at a time count with their last byte. */
static void test_acks_byte_by_byte(void **state) {
        struct peer *p = *state;
        struct tel_client *c = client_of(p, 0);
        queue(c, "one");
        queue(c, "two");
        reconnect(p, c);
        uint8_t wire[2 * TEL_FRAME_HEAD];
        tel_frame_head(wire, TEL_FRAME_ACK, 1, NULL, 0);
        tel_frame_head(wire + TEL_FRAME_HEAD, TEL_FRAME_ACK, 2, NULL, 0);
        for (size_t i = 0; i < sizeof(wire); i++) {
                assert_int_equal(stats_of(c).acknowledged, i / TEL_FRAME_HEAD);
                assert_int_equal(send(p->fd, wire + i, 1, 0), 1);
                tel_client_step(c, p->now_ns);
        }
        assert_int_equal(stats_of(c).acknowledged, 2);
        tel_client_free(c);
}

/* A frame larger than the socket's buffer goes out in parts, byte for byte, with others around it. */
static void test_partial_writes(void **state) {
        struct peer *p = *state;
        struct tel_client *c = client_of(p, 0);
        size_t n = 3u << 20;
        TEL_CLEANUP_FREE uint8_t *body = malloc(n);
        for (size_t i = 0; i < n; i++)
                body[i] = (uint8_t)(i * 31 + (i >> 11));
        queue(c, "before");
        assert_int_equal(tel_client_send(c, TEL_FRAME_PROFILE, body, n), 0);
        for (int i = 0; i < 1000; i++)
                queue(c, "behind");
        tel_client_step(c, p->now_ns);
        peer_accept(p);
        for (unsigned i = 0; p->n < n; i++) {
                peer_take(p, 1 + i * 7919 % 65536);
                tel_client_step(c, p->now_ns);
                tel_client_status(c, "in between"); /* a STATUS never lands inside a frame */
        }
        pump(p, c);
        peer_expect(p, TEL_FRAME_HELLO, 0);
        uint64_t sequence = 1;
        for (struct tel_frame f = peer_next(p); f.kind; f = peer_next(p)) {
                if (f.kind == TEL_FRAME_STATUS)
                        continue;
                assert_int_equal(f.kind, sequence == 2 ? TEL_FRAME_PROFILE : TEL_FRAME_LOGS);
                assert_int_equal(f.sequence, sequence++);
                if (f.kind == TEL_FRAME_PROFILE)
                        assert_memory_equal(f.body, body, n);
        }
        assert_int_equal(sequence, 1003);
        assert_int_equal(stats_of(c).sent, 1002);
        tel_client_free(c);
}

/* After a reconnect what is unacknowledged is sent again, in order, from its first byte, within the same epoch; nothing else is. */
static void test_reconnect_resends(void **state) {
        struct peer *p = *state;
        struct tel_client *c = client_of(p, 0);
        for (int i = 1; i <= 5; i++)
                queue(c, "frame");
        tel_client_step(c, p->now_ns);
        peer_accept(p);
        pump(p, c);
        struct tel_frame_hello first, second;
        struct tel_frame f = peer_expect(p, TEL_FRAME_HELLO, 0);
        tel_frame_hello_get(f.body, f.len, &first);
        peer_ack(p, 2);
        peer_hang_up(p);                           /* the ACK is still in the socket: it counts */
        tel_client_step(c, p->now_ns);
        assert_int_equal(tel_client_fd(c), -1);
        assert_int_equal(tel_client_events(c), 0);
        assert_false(stats_of(c).connected);
        assert_int_equal(stats_of(c).acknowledged, 2);
        queue(c, "new");
        p->now_ns = tel_client_timeout_ns(c) - 1;
        tel_client_step(c, p->now_ns);
        assert_int_equal(tel_client_fd(c), -1);    /* not before its time */
        p->now_ns++;
        tel_client_step(c, p->now_ns);
        peer_accept(p);
        pump(p, c);
        f = peer_expect(p, TEL_FRAME_HELLO, 0);
        tel_frame_hello_get(f.body, f.len, &second);
        assert_memory_equal(first.epoch, second.epoch, TEL_FRAME_EPOCH);
        for (uint64_t i = 3; i <= 6; i++)
                peer_expect(p, TEL_FRAME_LOGS, i);
        peer_expect_none(p);
        peer_ack(p, 6);
        pump(p, c);
        struct tel_client_stats s = stats_of(c);
        assert_int_equal(s.sent, 6);
        assert_int_equal(s.resent, 3);
        assert_int_equal(s.acknowledged, 6);
        assert_int_equal(s.reconnects, 1);
        tel_client_free(c);
        struct tel_client *other = client_of(p, 0);
        reconnect(p, other);
        f = (p->at = 0, peer_next(p));
        tel_frame_hello_get(f.body, f.len, &second);
        assert_memory_not_equal(first.epoch, second.epoch, TEL_FRAME_EPOCH);   /* another producer */
        tel_client_free(other);
}

/* A connection that ends inside a frame: the next one begins with the whole frame. */
static void test_close_inside_frame(void **state) {
        struct peer *p = *state;
        struct tel_client *c = client_of(p, 0);
        size_t n = 2u << 20;
        TEL_CLEANUP_FREE uint8_t *body = calloc(1, n);
        queue(c, "one");
        assert_int_equal(tel_client_send(c, TEL_FRAME_TRACES, body, n), 0);
        tel_client_step(c, p->now_ns);
        peer_accept(p);
        assert_true(peer_take(p, 1000) == 1000);
        tel_client_step(c, p->now_ns);
        assert_int_equal(stats_of(c).sent, 1);
        peer_ack(p, 1);
        reconnect(p, c);
        assert_int_equal(peer_expect(p, TEL_FRAME_TRACES, 2).len, n);
        peer_expect_none(p);
        assert_int_equal(stats_of(c).sent, 2);
        assert_int_equal(stats_of(c).resent, 0);
        tel_client_free(c);
}

/* An ACK that answers HELLO spares the resending of what the receiver has; one for a frame half resent waits for its rest. */
static void test_ack_after_hello(void **state) {
        struct peer *p = *state;
        struct tel_client *c = client_of(p, 0);
        size_t n = 2u << 20;
        TEL_CLEANUP_FREE uint8_t *body = calloc(1, n);
        for (int i = 0; i < 3; i++)
                assert_int_equal(tel_client_send(c, TEL_FRAME_TRACES, body, n), 0);
        reconnect(p, c);
        peer_hang_up(p);
        tel_client_step(c, p->now_ns);
        p->now_ns = tel_client_timeout_ns(c);
        tel_client_step(c, p->now_ns);             /* HELLO and the first part of frame 1 are out */
        peer_accept(p);
        peer_ack(p, 3);
        tel_client_step(c, p->now_ns);
        assert_int_equal(stats_of(c).acknowledged, 0);
        pump(p, c);
        peer_expect(p, TEL_FRAME_HELLO, 0);
        for (uint64_t i = 1; i <= 3; i++)
                peer_expect(p, TEL_FRAME_TRACES, i);
        peer_expect_none(p);
        peer_ack(p, 3);
        pump(p, c);
        assert_int_equal(stats_of(c).acknowledged, 3);
        tel_client_free(c);
}

/* The backlog drops its oldest, counts them, and says so in the STATUS behind the next HELLO. */
static void test_overflow_while_away(void **state) {
        struct peer *p = *state;
        peer_stop(p);
        struct tel_client *c = client_of(p, 4096);
        char body[1000] = "x";
        tel_client_step(c, p->now_ns);
        assert_int_equal(stats_of(c).connect_error, ENOENT);
        for (int i = 0; i < 10; i++)
                assert_int_equal(tel_client_send(c, TEL_FRAME_METRICS, body, sizeof(body)), 0);
        struct tel_client_stats s = stats_of(c);
        assert_int_equal(s.waiting_frames, 3);
        assert_int_equal(s.dropped_frames, 7);
        assert_int_equal(s.dropped_bytes, 7 * (sizeof(body) + TEL_FRAME_HEAD));
        peer_listen(p);
        p->now_ns = tel_client_timeout_ns(c);
        tel_client_step(c, p->now_ns);
        assert_int_equal(stats_of(c).connect_error, 0);
        peer_accept(p);
        pump(p, c);
        peer_expect(p, TEL_FRAME_HELLO, 0);
        struct tel_frame_status told = peer_expect_status(p);
        assert_int_equal(told.dropped_frames, 7);
        assert_int_equal(told.dropped_bytes, s.dropped_bytes);
        assert_int_equal(told.waiting_frames, 3);
        for (uint64_t i = 8; i <= 10; i++)
                peer_expect(p, TEL_FRAME_METRICS, i);
        peer_expect_none(p);
        assert_int_equal(tel_client_timeout_ns(c), UINT64_MAX);
        tel_client_free(c);
}

/* Losses while connected are told at once, and then each second while they grow. */
static void test_overflow_while_connected(void **state) {
        struct peer *p = *state;
        struct tel_client *c = client_of(p, 4096);
        char body[1000] = "x";
        reconnect(p, c);
        for (int i = 0; i < 4; i++)
                tel_client_send(c, TEL_FRAME_METRICS, body, sizeof(body));
        pump(p, c);
        assert_int_equal(peer_expect_status(p).dropped_frames, 1);
        while (peer_next(p).kind)
                ;
        tel_client_send(c, TEL_FRAME_METRICS, body, sizeof(body));
        pump(p, c);
        peer_expect(p, TEL_FRAME_METRICS, 5);
        peer_expect_none(p);
        assert_int_equal(tel_client_timeout_ns(c), p->now_ns + TEL_CLIENT_STATUS_NS);
        assert_int_equal(tel_client_events(c), POLLIN);        /* or a loop would spin until then */
        p->now_ns = tel_client_timeout_ns(c);
        pump(p, c);
        assert_int_equal(peer_expect_status(p).dropped_frames, 2);
        peer_expect_none(p);
        tel_client_free(c);
}

/* A frame half on the wire is passed over when the oldest go; when nothing else is left the connection goes instead of the stream's order. */
static void test_overflow_inside_frame(void **state) {
        struct peer *p = *state;
        size_t n = 1u << 20;
        struct tel_client *c = client_of(p, 3 * n);
        TEL_CLEANUP_FREE uint8_t *body = calloc(1, 3 * n);
        for (int i = 0; i < 2; i++)
                tel_client_send(c, TEL_FRAME_TRACES, body, n);
        tel_client_step(c, p->now_ns);             /* 1 is half out */
        peer_accept(p);
        for (int i = 0; i < 2; i++)
                tel_client_send(c, TEL_FRAME_TRACES, body, n);
        assert_int_equal(stats_of(c).dropped_frames, 2);
        pump(p, c);
        peer_expect(p, TEL_FRAME_HELLO, 0);
        peer_expect(p, TEL_FRAME_TRACES, 1);
        peer_expect_status(p);
        peer_expect(p, TEL_FRAME_TRACES, 4);
        peer_expect_none(p);
        peer_ack(p, 4);
        pump(p, c);
        tel_client_send(c, TEL_FRAME_TRACES, body, n);
        tel_client_step(c, p->now_ns);             /* 5 is half out, and leaves no room for the next */
        assert_int_equal(tel_client_send(c, TEL_FRAME_TRACES, body, 3 * n - 1000), 0);
        assert_int_equal(tel_client_fd(c), -1);
        assert_int_equal(stats_of(c).dropped_frames, 3);
        reconnect(p, c);
        assert_int_equal(peer_expect_status(p).dropped_frames, 3);
        peer_expect(p, TEL_FRAME_TRACES, 6);
        peer_expect_none(p);
        tel_client_free(c);
}

/* A frame whose body is refused is given up, counted and told; the ones around it arrive. */
static void test_error_about_body(void **state) {
        struct peer *p = *state;
        struct tel_client *c = client_of(p, 0);
        queue(c, "good");
        queue(c, "poison");
        queue(c, "good");
        reconnect(p, c);
        peer_ack(p, 1);
        peer_error(p, TEL_FRAME_ERROR_BODY, 2);
        reconnect(p, c);
        assert_int_equal(peer_expect_status(p).dropped_frames, 1);
        peer_expect(p, TEL_FRAME_LOGS, 3);
        peer_expect_none(p);
        peer_ack(p, 3);
        pump(p, c);
        struct tel_client_stats s = stats_of(c);
        assert_int_equal(s.last_error, TEL_FRAME_ERROR_BODY);
        assert_string_equal(s.last_error_text, "as the test says");
        assert_int_equal(s.acknowledged, 2);
        assert_int_equal(s.dropped_frames, 1);
        assert_int_equal(s.refused_frames, 1);
        assert_int_equal(s.waiting_frames, 0);
        assert_int_equal(tel_client_flush(c, 1000), -EPROTO);  /* one was refused since the last flush */
        assert_int_equal(tel_client_flush(c, 1000), 0);
        tel_client_free(c);
}

/* An ERROR about the connection loses nothing: all is sent again, later and later. */
static void test_error_about_connection(void **state) {
        struct peer *p = *state;
        struct tel_client *c = client_of(p, 0);
        queue(c, "one");
        uint64_t longest = 0;
        for (int i = 0; i < 12; i++) {
                reconnect(p, c);
                peer_expect(p, TEL_FRAME_LOGS, 1);
                peer_error(p, i % 2 ? TEL_FRAME_ERROR_CHECKSUM : TEL_FRAME_ERROR_LIMIT, i % 2);
                peer_hang_up(p);
                tel_client_step(c, p->now_ns);
                longest = TEL_MAX(longest, tel_client_timeout_ns(c) - p->now_ns);
        }
        assert_true(longest > TEL_CLIENT_RETRY_MAX_NS / 2 && longest <= TEL_CLIENT_RETRY_MAX_NS);
        assert_int_equal(stats_of(c).waiting_frames, 1);
        assert_int_equal(stats_of(c).dropped_frames, 0);
        assert_int_equal(stats_of(c).last_error, TEL_FRAME_ERROR_CHECKSUM);
        tel_client_free(c);
}

/* Nonsense from the other side ends the connection and never a frame: an ACK of what was not sent, a kind no receiver has, garbage. */
static void test_peer_nonsense(void **state) {
        struct peer *p = *state;
        struct tel_client *c = client_of(p, 0);
        uint8_t head[TEL_FRAME_HEAD];
        queue(c, "one");
        for (int i = 0; i < 5; i++) {
                reconnect(p, c);
                peer_expect(p, TEL_FRAME_LOGS, 1);
                if (i == 0)
                        peer_ack(p, 2);
                else if (i == 1)
                        peer_send(p, TEL_FRAME_BYE, 0, NULL, 0);
                else if (i == 2) {                 /* by its head alone: the body never comes */
                        tel_frame_head(head, TEL_FRAME_TRACES, 1, NULL, 0);
                        head[9] = 0x10;
                        send(p->fd, head, sizeof(head), 0);
                } else if (i == 3)
                        peer_send(p, TEL_FRAME_ERROR, 0, "\xff\xff", 2);
                else
                        send(p->fd, "HTTP/1.1 400\r\n", 14, 0);
                tel_client_step(c, p->now_ns);
                assert_int_equal(tel_client_fd(c), -1);
                assert_int_equal(stats_of(c).waiting_frames, 1);
        }
        reconnect(p, c);
        peer_ack(p, 1);
        pump(p, c);
        assert_int_equal(stats_of(c).acknowledged, 1);
        tel_client_free(c);
}

/* While nobody listens the waits grow from 100 ms to 5 s; one success makes them short again. */
static void test_backoff(void **state) {
        struct peer *p = *state;
        struct tel_client *c = client_of(p, 0);
        queue(c, "one");
        peer_stop(p);
        uint64_t high = 2 * TEL_CLIENT_RETRY_MIN_NS;
        for (int i = 0; i < 12; i++) {
                tel_client_step(c, p->now_ns);
                uint64_t wait = tel_client_timeout_ns(c) - p->now_ns;
                assert_in_range(wait, high / 2, high);
                high = TEL_MIN(high * 2, TEL_CLIENT_RETRY_MAX_NS);
                p->now_ns += wait;
        }
        peer_listen(p);
        reconnect(p, c);
        peer_ack(p, 1);
        pump(p, c);
        peer_hang_up(p);
        tel_client_step(c, p->now_ns);
        assert_in_range(tel_client_timeout_ns(c) - p->now_ns, TEL_CLIENT_RETRY_MIN_NS, 2 * TEL_CLIENT_RETRY_MIN_NS);
        assert_int_equal(stats_of(c).reconnects, 0);           /* the first connection was no reconnect */
        tel_client_free(c);
}

/* Of several STATUS only the newest goes out, and it is said again to a new receiver. */
static void test_status(void **state) {
        struct peer *p = *state;
        struct tel_client *c = client_of(p, 0);
        tel_client_status(c, "starting");
        tel_client_status(c, "attached 3 probes");
        reconnect(p, c);
        assert_string_equal(peer_expect_status(p).text, "attached 3 probes");
        peer_expect_none(p);
        reconnect(p, c);
        assert_string_equal(peer_expect_status(p).text, "attached 3 probes");
        peer_expect_none(p);
        tel_client_free(c);
}

/* free() says BYE on a connection between frames, and not into the middle of one. */
static void test_bye(void **state) {
        struct peer *p = *state;
        struct tel_client *c = client_of(p, 0);
        queue(c, "one");
        reconnect(p, c);
        assert_null(tel_client_free(c));
        peer_take(p, IN_MAX);
        peer_expect(p, TEL_FRAME_LOGS, 1);
        peer_expect(p, TEL_FRAME_BYE, 0);
        peer_expect_none(p);
        peer_hang_up(p);

        size_t n = 2u << 20;
        TEL_CLEANUP_FREE uint8_t *body = calloc(1, n);
        c = client_of(p, 0);
        tel_client_send(c, TEL_FRAME_LOGS, body, n);
        tel_client_step(c, p->now_ns);
        peer_accept(p);
        tel_client_free(c);
        while (peer_take(p, IN_MAX) > 0)
                ;
        peer_expect(p, TEL_FRAME_HELLO, 0);
        assert_int_equal(peer_next(p).kind, 0);
        assert_true(p->n < n);
        assert_null(tel_client_free(NULL));
        assert_null(tel_client_free(client_of(p, 0)));         /* never connected */
}

/* What cannot be sent is refused at the call. */
static void test_send_refused(void **state) {
        struct peer *p = *state;
        struct tel_client *c = client_of(p, 1000);
        char body[1000] = "";
        assert_int_equal(tel_client_send(c, TEL_FRAME_HELLO, body, 1), -EINVAL);
        assert_int_equal(tel_client_send(c, TEL_FRAME_BYE, NULL, 0), -EINVAL);
        assert_int_equal(tel_client_send(c, TEL_FRAME_LOGS, body, sizeof(body)), -EMSGSIZE);
        assert_int_equal(tel_client_log(c, &(struct tel_log){ .level = "loud" }), -EINVAL);
        assert_int_equal(stats_of(c).waiting_frames, 0);
        assert_int_equal(tel_client_log(c, &(struct tel_log){ .body = "hello" }), 0);
        assert_int_equal(tel_client_span(c, &(struct tel_span){ .name = "run" }), 0);
        assert_int_equal(stats_of(c).waiting_frames, 2);
        tel_client_free(c);
        c = client_of(p, 32u << 20);
        TEL_CLEANUP_FREE uint8_t *big = calloc(1, TEL_FRAME_BODY_MAX + 1);
        assert_int_equal(tel_client_send(c, TEL_FRAME_LOGS, big, TEL_FRAME_BODY_MAX + 1), -EMSGSIZE);
        assert_int_equal(tel_client_send(c, TEL_FRAME_LOGS, big, TEL_FRAME_BODY_MAX), 0);
        tel_client_free(c);
}

/* A receiver of its own: takes count frames behind HELLO, and acknowledges each. */
static void *receiver(void *arg) {
        struct peer *p = arg;
        struct pollfd l = { .fd = p->listener, .events = POLLIN };
        poll(&l, 1, 10000);
        p->fd = accept(p->listener, NULL, NULL);
        for (;;) {
                struct tel_frame f = { 0 };
                enum tel_frame_error e;
                if (tel_frame_parse(p->in + p->at, p->n - p->at, &f, &e) == 0) {
                        p->at += TEL_FRAME_HEAD + f.len;
                        uint8_t ack[TEL_FRAME_HEAD];
                        tel_frame_head(ack, TEL_FRAME_ACK, f.sequence, NULL, 0);
                        if (f.sequence > 0)
                                send(p->fd, ack, sizeof(ack), MSG_NOSIGNAL);
                } else if (peer_take(p, 5000) == 0)
                        return NULL;
        }
}

/* flush() returns 0 once all is acknowledged. */
static void test_flush(void **state) {
        struct peer *p = *state;
        struct tel_client *c = client_of(p, 0);
        pthread_t t;
        assert_int_equal(tel_client_flush(c, 0), 0);           /* nothing to wait for */
        assert_int_equal(pthread_create(&t, NULL, receiver, p), 0);
        for (int i = 0; i < 2000; i++)
                assert_int_equal(tel_client_log(c, &(struct tel_log){ .service = "test", .body = "line" }), 0);
        assert_int_equal(tel_client_flush(c, 10000), 0);
        assert_int_equal(stats_of(c).acknowledged, 2000);
        tel_client_free(c);
        assert_int_equal(pthread_join(t, NULL), 0);
}

/* flush() gives up in time, with nothing lost, and tells a refusal from a silence. */
static void test_flush_fails(void **state) {
        struct peer *p = *state;
        struct tel_client *c = client_of(p, 0);
        queue(c, "one");
        assert_int_equal(tel_client_flush(c, 20), -ETIMEDOUT); /* connected, and nobody answers */
        peer_accept(p);
        peer_error(p, TEL_FRAME_ERROR_PEER, 0);
        assert_int_equal(tel_client_flush(c, 5000), -EPROTO);
        assert_int_equal(stats_of(c).waiting_frames, 1);
        assert_int_equal(stats_of(c).last_error, TEL_FRAME_ERROR_PEER);
        peer_stop(p);
        assert_int_equal(tel_client_flush(c, 20), -ETIMEDOUT);
        peer_listen(p);
        tel_client_free(c);
}

/* Without a path the runtime directory comes first; a path longer than a socket may have is refused with its errno. */
static void test_paths(void **state) {
        struct peer *p = *state;
        char out[128], small[8], lists[64], huge[200];
        snprintf(lists, sizeof(lists), "%s:/run/other", p->folder);
        setenv("RUNTIME_DIRECTORY", lists, 1);
        assert_int_equal(tel_runtime_path("frames.sock", out, sizeof(out)), 0);
        assert_string_equal(out, p->path);
        assert_int_equal(tel_runtime_path("frames.sock", small, sizeof(small)), -ENAMETOOLONG);
        struct tel_client *c = tel_client_new(NULL);
        assert_non_null(c);
        reconnect(p, c);
        struct tel_frame_hello h;
        struct tel_frame f = (p->at = 0, peer_next(p));
        assert_int_equal(tel_frame_hello_get(f.body, f.len, &h), 0);
        assert_string_equal(h.name, program_invocation_short_name);
        tel_client_free(c);
        unsetenv("RUNTIME_DIRECTORY");
        setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
        assert_int_equal(tel_runtime_path("x", out, sizeof(out)), 0);
        assert_string_equal(out, geteuid() == 0 ? "/run/collectord/x" : "/run/user/7/collectord/x");
        memset(huge, 'x', sizeof(huge) - 1);
        huge[sizeof(huge) - 1] = '\0';
        errno = 0;
        assert_null(tel_client_new(&(struct tel_client_options){ .path = huge }));
        assert_int_equal(errno, ENAMETOOLONG);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, peer_setup, peer_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_send_and_ack),
                TEST(test_acks_byte_by_byte),
                TEST(test_partial_writes),
                TEST(test_reconnect_resends),
                TEST(test_close_inside_frame),
                TEST(test_ack_after_hello),
                TEST(test_overflow_while_away),
                TEST(test_overflow_while_connected),
                TEST(test_overflow_inside_frame),
                TEST(test_error_about_body),
                TEST(test_error_about_connection),
                TEST(test_peer_nonsense),
                TEST(test_backoff),
                TEST(test_status),
                TEST(test_bye),
                TEST(test_send_refused),
                TEST(test_flush),
                TEST(test_flush_fails),
                TEST(test_paths),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
