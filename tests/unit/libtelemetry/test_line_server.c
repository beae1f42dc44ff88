/* SPDX-License-Identifier: Apache-2.0 */
#include "libtelemetry/line_server.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/libtelemetry/line_client.h"

#define LINE_MAX_BYTES 32
#define PEERS_MAX 3
#define QUEUE_MAX (256u << 10)
#define CHUNK (16u << 10)

/* ---- a server of a few words ----
 * `big` answers half a MiB; `count` is a stream of `chunks` chunks; `flow` one without an end; `news` one that says `news` when there is some.
 * All else comes back as it is. */

struct server {
        uv_loop_t loop;
        struct tel_line_server *lines;
        struct tel_budget budget;
        char path[64];
        unsigned runs, streams, closed;            /* lines run; streams that have not ended; calls of closed() */
        unsigned chunks, news;
};

struct stream {
        struct tel_line_stream base;
        struct server *server;
        enum { COUNT, FLOW, NEWS } kind;
        unsigned left;
};

static bool pump(struct tel_line_stream *base, struct tel_line_peer *to) {
        struct stream *s = tel_container_of(base, struct stream, base);
        unsigned *left = s->kind == NEWS ? &s->server->news : &s->left;
        while (tel_line_peer_has_room(to) && *left > 0) {
                struct tel_buf *b = tel_buf_new(&s->server->budget, CHUNK);
                memset(b->data, s->kind == NEWS ? 'n' : 'c', CHUNK);
                b->len = s->kind == NEWS ? 2 : CHUNK;
                b->data[b->len - 1] = '\n';
                tel_line_peer_write(to, b);
                *left -= s->kind != FLOW;
        }
        return s->kind == COUNT && s->left == 0;
}

static void end(struct tel_line_stream *base) {
        struct stream *s = tel_container_of(base, struct stream, base);
        s->server->streams--;
        free(s);
}

static struct tel_line_stream *run(void *ctx, char *line, size_t n, FILE *to) {
        static const char *const kinds[] = { "count", "flow", "news" };
        struct server *s = ctx;
        assert_int_equal(line[n], '\0');
        s->runs++;
        for (unsigned i = 0; i < TEL_ARRAY_LEN(kinds); i++) {
                if (strcmp(line, kinds[i]) != 0)
                        continue;
                struct stream *stream = calloc(1, sizeof(*stream));
                *stream = (struct stream){ { pump, end, i != COUNT }, s, i, s->chunks };
                s->streams++;
                return &stream->base;
        }
        if (strcmp(line, "big") == 0)
                for (int i = 0; i < 512; i++)
                        fprintf(to, "%01023d\n", i);
        else
                fprintf(to, "%s\n", line);
        return NULL;
}

static void accept_failed(void *ctx, const char *why) {
        (void)ctx;
        fail_msg("%s", why);
}

static void closed(void *ctx) {
        struct server *s = ctx;
        assert_int_equal(s->streams, 0);
        assert_int_equal(s->budget.used, 0);
        s->closed++;
}

static struct tel_line_server_options options_of(struct server *s) {
        return (struct tel_line_server_options){
                .loop = &s->loop, .path = s->path, .fd = -1, .line_max = LINE_MAX_BYTES, .peers_max = PEERS_MAX, .queue_max = QUEUE_MAX,
                .ctx = s, .run = run, .accept_failed = accept_failed, .closed = closed,
        };
}

static int setup(void **state) {
        static struct server s;
        char error[TEL_UNIX_LISTEN_ERROR_MAX] = "";
        s = (struct server){ .chunks = 3 };
        snprintf(s.path, sizeof(s.path), "/tmp/telemetry.lines.%d", (int)getpid());
        uv_loop_init(&s.loop);
        const struct tel_line_server_options options = options_of(&s);
        int r = tel_line_server_new(&options, &s.lines, error);
        if (r < 0)
                print_error("%s\n", error);
        *state = &s;
        return r;
}

static void stop(struct server *s) {
        unsigned before = s->closed;
        s->lines = tel_line_server_free(s->lines);
        uv_run(&s->loop, UV_RUN_DEFAULT);
        assert_int_equal(s->closed, before + 1);
}

static int teardown(void **state) {
        struct server *s = *state;
        if (s->lines)
                stop(s);
        return uv_loop_close(&s->loop) < 0 || access(s->path, F_OK) == 0;      /* its socket goes with it */
}

/* ---- its peers ---- */

static void turn(struct server *s, unsigned times) {
        while (times-- > 0)
                uv_run(&s->loop, UV_RUN_NOWAIT);
}

#define TELL(fd, literal) line_tell(fd, literal, sizeof(literal) - 1)

static void assert_hears(struct server *s, int fd, unsigned answers, const char *expected) {
        char text[1024];
        line_hear(&s->loop, fd, answers, text, sizeof(text));
        assert_string_equal(text, expected);
}

#define TO_THE_END 99

/* ---- lines ---- */

/* However the bytes fall, each line is answered in its turn, and so is what stands before the end. */
static void test_every_split(void **state) {
        struct server *s = *state;
        static const char in[] = "one\r\n\n\r\ntwo words\ncount\nr\rest\n\nlast";
        const size_t n = sizeof(in) - 1;
        s->chunks = 0;
        for (size_t i = 0; i <= n; i++)
                for (size_t j = i; j <= n; j++) {
                        int fd = line_client(s->path);
                        line_tell(fd, in, i);
                        turn(s, 2);
                        line_tell(fd, in + i, j - i);
                        turn(s, 2);
                        line_tell(fd, in + j, n - j);
                        shutdown(fd, SHUT_WR);
                        assert_hears(s, fd, TO_THE_END, "one\n\ntwo words\n\n\nr\rest\n\nlast\n\n");
                        close(fd);
                }
        turn(s, 2);
}

/* The longest line just fits; one without an end is refused once it is too long, and nothing more is taken from that peer. */
static void test_endless_line(void **state) {
        struct server *s = *state;
        char line[LINE_MAX_BYTES + 1], answer[LINE_MAX_BYTES + 2];
        int fd = line_client(s->path);
        memset(line, 'x', sizeof(line));
        line[LINE_MAX_BYTES - 1] = '\n';
        snprintf(answer, sizeof(answer), "%.*s\n", LINE_MAX_BYTES, line);
        line_tell(fd, line, LINE_MAX_BYTES);
        assert_hears(s, fd, 1, answer);
        line[LINE_MAX_BYTES - 1] = 'x';
        line_tell(fd, line, LINE_MAX_BYTES - 1);
        turn(s, 5);
        assert_int_equal(recv(fd, answer, sizeof(answer), 0), -1);     /* one byte may still be its end */
        TELL(fd, "xx\nthis is not heard\n");
        assert_hears(s, fd, TO_THE_END, "error: a line has at most 31 bytes\n\n");
        assert_int_equal(s->runs, 1);
        close(fd);
        fd = line_client(s->path);
        TELL(fd, "news\n");
        turn(s, 5);
        assert_int_equal(s->streams, 1);
        line_tell(fd, line, LINE_MAX_BYTES);                                /* which ends a stream too */
        assert_hears(s, fd, TO_THE_END, "error: a line has at most 31 bytes\n\n");
        close(fd);
}

/* Whoever does not read has the next lines wait; nothing is lost, and others are served meanwhile. */
static void test_reader_that_does_not_read(void **state) {
        struct server *s = *state;
        char text[64];
        int slow = line_client(s->path), other = line_client(s->path);
        TELL(slow, "big\nbig\n");
        turn(s, 20);
        TELL(slow, "big\nlast\n");
        turn(s, 20);
        assert_int_equal(s->runs, 1);
        TELL(other, "hello\n");
        assert_hears(s, other, 1, "hello\n\n");
        assert_int_equal(s->runs, 2);
        assert_int_equal(line_hear(&s->loop, slow, 4, text, sizeof(text)), 3 * (512 * 1024 + 1) + 6);
        assert_int_equal(s->runs, 5);
        close(slow);
        close(other);
}

/* ---- streams ---- */

/* A stream with an end writes while there is room, the next line waits for it, and an empty line ends it. */
static void test_stream(void **state) {
        struct server *s = *state;
        char text[64];
        int fd = line_client(s->path);
        s->chunks = 100;
        TELL(fd, "count\nnext\n");
        turn(s, 20);
        assert_int_equal(s->streams, 1);
        assert_int_equal(s->runs, 1);
        assert_in_range(s->budget.used, QUEUE_MAX / 2, QUEUE_MAX + CHUNK);
        assert_int_equal(line_hear(&s->loop, fd, 2, text, sizeof(text)), 100 * CHUNK + 1 + 6);
        assert_int_equal(s->streams, 0);
        assert_int_equal(s->budget.used, 0);
        close(fd);
}

/* A stream without an end says what is new when it is told to, and the next line ends it. */
static void test_endless_stream(void **state) {
        struct server *s = *state;
        char text[64] = "";
        int fd = line_client(s->path), other = line_client(s->path);
        TELL(fd, "news\n");
        TELL(other, "flow\n");
        turn(s, 10);
        s->news = 2;
        tel_line_server_pump(s->lines);
        turn(s, 5);
        assert_int_equal(recv(fd, text, sizeof(text), 0), 4);
        assert_string_equal(text, "n\nn\n");
        TELL(fd, "next\n");
        assert_hears(s, fd, 2, "\nnext\n\n");
        assert_int_equal(s->streams, 1);
        TELL(other, "\n");                                     /* an empty line does, too */
        assert_true(line_hear(&s->loop, other, 1, text, sizeof(text)) >= QUEUE_MAX);
        assert_int_equal(s->streams, 0);
        close(fd);
        close(other);
}

/* A peer that ended its side goes on listening to a stream; one that is gone is found when there is news, or when its place is needed. */
static void test_peer_that_is_gone(void **state) {
        struct server *s = *state;
        char text[64];
        int fds[PEERS_MAX];
        for (size_t i = 0; i < TEL_ARRAY_LEN(fds); i++) {
                fds[i] = line_client(s->path);
                TELL(fds[i], "news\n");
                shutdown(fds[i], SHUT_WR);
                turn(s, 5);
        }
        assert_int_equal(s->streams, PEERS_MAX);
        close(fds[0]);
        turn(s, 5);
        assert_int_equal(s->streams, PEERS_MAX);               /* nothing says that a peer which said all has left */
        int fd = line_client(s->path);
        TELL(fd, "hello\n");
        assert_hears(s, fd, 1, "hello\n\n");
        assert_int_equal(s->streams, PEERS_MAX - 1);
        close(fds[1]);
        s->news = 1;
        tel_line_server_pump(s->lines);
        turn(s, 5);
        assert_int_equal(s->streams, PEERS_MAX - 2);
        assert_int_equal(recv(fds[2], text, sizeof(text), 0), 2);
        close(fds[2]);
        close(fd);
}

/* ---- the socket ---- */

static void test_connections_are_bounded(void **state) {
        struct server *s = *state;
        int fds[PEERS_MAX];
        for (size_t i = 0; i < TEL_ARRAY_LEN(fds); i++) {
                fds[i] = line_client(s->path);
                TELL(fds[i], "hello\n");
                assert_hears(s, fds[i], 1, "hello\n\n");
        }
        int more = line_client(s->path);
        assert_hears(s, more, TO_THE_END, "error: too many connections\n\n");
        close(more);
        close(fds[0]);
        turn(s, 10);
        more = line_client(s->path);
        TELL(more, "hello\n");
        assert_hears(s, more, 1, "hello\n\n");
        close(more);
        for (size_t i = 1; i < TEL_ARRAY_LEN(fds); i++)
                close(fds[i]);
}

/* Peers may leave in the middle of an answer or a stream, and so may the server. */
static void test_closed_in_the_middle(void **state) {
        struct server *s = *state;
        static const char *const lines[] = { "big\n", "flow\n", "news\n", "half a li" };
        for (size_t i = 0; i < TEL_ARRAY_LEN(lines); i++) {
                int fd = line_client(s->path);
                line_tell(fd, lines[i], strlen(lines[i]));
                turn(s, 5);
                close(fd);
                turn(s, 5);
                assert_int_equal(s->streams, 0);
                assert_int_equal(s->budget.used, 0);
        }
        for (size_t i = 0; i < TEL_ARRAY_LEN(lines); i++) {
                const struct tel_line_server_options options = options_of(s);
                char error[TEL_UNIX_LISTEN_ERROR_MAX], text[16];
                int fd = line_client(s->path), other = line_client(s->path);
                line_tell(fd, lines[i], strlen(lines[i]));
                TELL(other, "flow\n");
                turn(s, 5);
                stop(s);
                line_hear(&s->loop, fd, TO_THE_END, text, sizeof(text));
                close(fd);
                close(other);
                assert_int_equal(tel_line_server_new(&options, &s->lines, error), 0);
        }
}

/* A stale socket is replaced; one that answers is not, nor is a file of another kind. */
static void test_path(void **state) {
        struct server *s = *state;
        struct tel_line_server *second;
        struct stat st;
        char error[TEL_UNIX_LISTEN_ERROR_MAX];
        struct tel_line_server_options options = options_of(s);
        assert_int_equal(stat(s->path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0660);
        assert_int_equal(tel_line_server_new(&options, &second, error), -EADDRINUSE);
        assert_non_null(strstr(error, s->path));
        assert_non_null(strstr(error, "somebody listens there already"));
        stop(s);
        int stale = tel_unix_listen(s->path, 0600, error);
        assert_true(stale >= 0);
        close(stale);
        assert_int_equal(access(s->path, F_OK), 0);
        assert_int_equal(tel_line_server_new(&options, &s->lines, error), 0);
        stop(s);
        close(open(s->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        assert_int_equal(tel_line_server_new(&options, &second, error), -EEXIST);
        assert_int_equal(unlink(s->path), 0);
        options.path = "/nowhere/at/all.sock";
        assert_int_equal(tel_line_server_new(&options, &second, error), -ENOENT);
        assert_non_null(strstr(error, "/nowhere/at/all.sock"));
        assert_null(tel_line_server_free(NULL));
}

/* A socket that systemd handed over stays where it is; what is no socket is refused, and taken all the same. */
static void test_socket_handed_over(void **state) {
        struct server *s = *state;
        struct tel_line_server_options options = options_of(s);
        char error[TEL_UNIX_LISTEN_ERROR_MAX];
        unsigned before = s->closed;
        stop(s);
        options.fd = tel_unix_listen(s->path, 0600, error);
        assert_true(options.fd >= 0);
        assert_int_equal(tel_line_server_new(&options, &s->lines, error), 0);
        int fd = line_client(s->path);
        TELL(fd, "hello\n");
        assert_hears(s, fd, 1, "hello\n\n");
        close(fd);
        stop(s);
        assert_int_equal(unlink(s->path), 0);
        options.fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        assert_true(tel_line_server_new(&options, &s->lines, error) < 0);
        assert_non_null(strstr(error, s->path));
        uv_run(&s->loop, UV_RUN_DEFAULT);
        assert_int_equal(fcntl(options.fd, F_GETFD), -1);
        assert_int_equal(s->closed, before + 2);
}

/* ---- errors ---- */

static void assert_error(bool json, const char *text, const char *expected) {
        char out[2 * TEL_LINE_ERROR_MAX] = "";
        FILE *to = fmemopen(out, sizeof(out), "w");
        tel_line_error(to, json, "%s", text);
        fclose(to);
        assert_string_equal(out, expected);
}

/* One line of UTF-8 and no control byte, whatever was quoted. */
static void test_error(void **state) {
        (void)state;
        assert_error(false, "no verb", "error: no verb\n");
        assert_error(false, "a\nb\x1b[m\x7f\xff\"\\", "error: a b [m ?\"\\\n");
        assert_error(true, "no verb", "{\"error\":\"no verb\"}\n");
        assert_error(true, "a\nb\x1b[m\x7f\xff\"\\", "{\"error\":\"a\\u000ab\\u001b[m\\u007f?\\\"\\\\\"}\n");
        char text[1000] = "", cut[1000] = "";
        memset(text, 'x', sizeof(text) - 1);
        snprintf(cut, sizeof(cut), "error: %.*s\n", TEL_LINE_ERROR_MAX - 1, text);
        assert_error(false, text, cut);
}

#define SOCKET(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
        const struct CMUnitTest tests[] = {
                SOCKET(test_every_split), SOCKET(test_endless_line), SOCKET(test_reader_that_does_not_read),
                SOCKET(test_stream), SOCKET(test_endless_stream), SOCKET(test_peer_that_is_gone),
                SOCKET(test_connections_are_bounded), SOCKET(test_closed_in_the_middle), SOCKET(test_path), SOCKET(test_socket_handed_over),
                cmocka_unit_test(test_error),
        };
        signal(SIGPIPE, SIG_IGN);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
