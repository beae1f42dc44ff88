/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP/1.1 server whose sockets only io_uring touches. Usage: uring_server PORT MODE, where MODE says how bytes move:
 *   recv   RECV and SEND, accepted by a multishot ACCEPT      rw   READ and WRITE      msg   RECVMSG and SENDMSG      iov   READV and WRITEV
 *   probe  none: ends once it listens
 * Answers "GET /N ..." with N bytes, N at most ANSWER_MAX; writes a line for each request: {"path":"/N","bytes":N}.
 * Exit status 77: this kernel, or who started us, does not allow io_uring. */
#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS_MAX 64
#define ASKED_MAX 4096
#define ANSWER_MAX 65536

enum step { ACCEPTING, RECEIVING, SENDING };

struct client {
        int fd;
        enum step step;
        size_t asked, sent, answer;
        char in[ASKED_MAX + 1], out[ANSWER_MAX + 256];
        struct iovec iov;
        struct msghdr message;
};

static struct io_uring ring;
static struct client clients[CLIENTS_MAX];
static const char *mode;

static bool is_mode(const char *name) {
        return strcmp(mode, name) == 0;
}

static struct io_uring_sqe *get(void) {
        struct io_uring_sqe *e = io_uring_get_sqe(&ring);
        if (!e) {
                io_uring_submit(&ring);
                e = io_uring_get_sqe(&ring);
        }
        return e;
}

static void do_accept(int listener) {
        struct io_uring_sqe *e = get();
        if (is_mode("recv"))
                io_uring_prep_multishot_accept(e, listener, NULL, NULL, 0);
        else
                io_uring_prep_accept(e, listener, NULL, NULL, 0);
        io_uring_sqe_set_data(e, NULL);
}

static void move(struct client *c, enum step step, char *at, size_t n) {
        struct io_uring_sqe *e = get();
        bool out = step == SENDING;
        c->step = step;
        c->iov = (struct iovec){ at, n };
        c->message = (struct msghdr){ .msg_iov = &c->iov, .msg_iovlen = 1 };
        if (is_mode("recv"))
                out ? io_uring_prep_send(e, c->fd, at, n, 0) : io_uring_prep_recv(e, c->fd, at, n, 0);
        else if (is_mode("rw"))
                out ? io_uring_prep_write(e, c->fd, at, (unsigned)n, 0) : io_uring_prep_read(e, c->fd, at, (unsigned)n, 0);
        else if (is_mode("msg"))
                out ? io_uring_prep_sendmsg(e, c->fd, &c->message, 0) : io_uring_prep_recvmsg(e, c->fd, &c->message, 0);
        else
                out ? io_uring_prep_writev(e, c->fd, &c->iov, 1, 0) : io_uring_prep_readv(e, c->fd, &c->iov, 1, 0);
        io_uring_sqe_set_data(e, c);
}

static void receive(struct client *c) {
        move(c, RECEIVING, c->in + c->asked, ASKED_MAX - c->asked);
}

/* A request without a body ends with an empty line. */
static void received(struct client *c) {
        c->in[c->asked] = '\0';
        char *end = strstr(c->in, "\r\n\r\n");
        if (!end) {
                receive(c);
                return;
        }
        size_t n = strtoul(strchr(c->in, '/') + 1, NULL, 10);
        n = n < ANSWER_MAX ? n : ANSWER_MAX;
        int head = snprintf(c->out, 256, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", n);
        memset(c->out + head, 'x', n);
        printf("{\"path\":\"/%zu\",\"bytes\":%zu}\n", n, n);
        c->sent = 0;
        c->answer = (size_t)head + n;
        c->asked = 0;
        move(c, SENDING, c->out, c->answer);
}

static void accepted(int listener, int fd, bool more) {
        struct client *c = clients;
        while (c < clients + CLIENTS_MAX && c->fd >= 0)
                c++;
        if (c == clients + CLIENTS_MAX)
                exit(1);
        c->fd = fd;
        c->asked = 0;
        receive(c);
        if (!more)
                do_accept(listener);
}

static void completed(int listener, const struct io_uring_cqe *e) {
        struct client *c = io_uring_cqe_get_data(e);
        if (!c) {
                if (e->res < 0)
                        exit(1);
                accepted(listener, e->res, e->flags & IORING_CQE_F_MORE);
                return;
        }
        if (e->res <= 0) {
                close(c->fd);
                c->fd = -1;
                return;
        }
        if (c->step == RECEIVING) {
                c->asked += (size_t)e->res;
                received(c);
        } else if ((c->sent += (size_t)e->res) < c->answer)
                move(c, SENDING, c->out + c->sent, c->answer - c->sent);
        else
                receive(c);
}

int main(int argc, char **argv) {
        int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
        if (argc != 3 || listener < 0)
                return 2;
        struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        mode = argv[2];
        setvbuf(stdout, NULL, _IOLBF, 0);
        for (size_t i = 0; i < CLIENTS_MAX; i++)
                clients[i].fd = -1;
        int r = io_uring_queue_init(256, &ring, 0);
        if (r < 0) {
                fprintf(stderr, "io_uring: %s\n", strerror(-r));
                return 77;
        }
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (bind(listener, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(listener, 128) < 0)
                return 1;
        if (is_mode("probe"))
                return 0;
        do_accept(listener);
        for (;;) {
                struct io_uring_cqe *e;
                io_uring_submit(&ring);
                if (io_uring_wait_cqe(&ring, &e) < 0)
                        continue;
                struct io_uring_cqe copy = *e;
                io_uring_cqe_seen(&ring, e);
                completed(listener, &copy);
        }
}
