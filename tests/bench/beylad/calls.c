/* SPDX-License-Identifier: Apache-2.0 */
/* Calls: what a system call costs a program that nobody observes.
 *     calls KIND [CHUNKS]
 * Prints nanoseconds for each turn, as long as they took in the quickest tenth of the chunks, which nothing else disturbed. KIND: getppid |
 * zero (read of /dev/zero) | pipe (write, read) | unix (write and read of a socketpair) | tcp (four calls: there and back over loopback) |
 * connect (socket, connect, accept, three setsockopt, two closes) | fork (fork, exit, wait). */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHUNKS_MAX 1000

static int a, b, listener;
static struct sockaddr_in at;

static void check(int ok, const char *what) {
        if (!ok) {
                perror(what);
                exit(1);
        }
}

static void listen_tcp(void) {
        socklen_t n = sizeof(at);
        at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        listener = socket(AF_INET, SOCK_STREAM, 0);
        check(bind(listener, (struct sockaddr *)&at, n) == 0 && listen(listener, 64) == 0, "listen");
        check(getsockname(listener, (struct sockaddr *)&at, &n) == 0, "getsockname");
}

static void connect_tcp(void) {
        int one = 1;
        struct linger hard = { .l_onoff = 1 };     /* closes by reset: no port stays taken for a minute */
        a = socket(AF_INET, SOCK_STREAM, 0);
        check(connect(a, (struct sockaddr *)&at, sizeof(at)) == 0, "connect");
        b = accept(listener, NULL, NULL);
        check(b >= 0, "accept");
        setsockopt(a, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        setsockopt(b, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        setsockopt(a, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
}

static void open_none(void) {
}
static void open_zero(void) {
        a = open("/dev/zero", O_RDONLY);
}
static void open_pipe(void) {
        int fd[2];
        check(pipe(fd) == 0, "pipe");
        a = fd[1], b = fd[0];
}
static void open_unix(void) {
        int fd[2];
        check(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0, "socketpair");
        a = fd[0], b = fd[1];
}
static void open_tcp(void) {
        listen_tcp();
        connect_tcp();
}

static char byte[64];
static void turn_getppid(void) {
        syscall(SYS_getppid);
}
static void turn_zero(void) {
        check(read(a, byte, 1) == 1, "read");
}
static void turn_pair(void) {
        check(write(a, byte, sizeof(byte)) == sizeof(byte) && read(b, byte, sizeof(byte)) == sizeof(byte), "pair");
}
static void turn_tcp(void) {
        turn_pair();
        check(write(b, byte, sizeof(byte)) == sizeof(byte) && read(a, byte, sizeof(byte)) == sizeof(byte), "tcp");
}
static void turn_connect(void) {
        connect_tcp();
        close(a);
        close(b);
}
static void turn_fork(void) {
        pid_t pid = fork();
        if (pid == 0)
                _exit(0);
        check(pid > 0 && waitpid(pid, NULL, 0) == pid, "fork");
}

static const struct {
        const char *name;
        void (*open)(void), (*turn)(void);
        unsigned turns;                            /* of a chunk: some milliseconds */
} kinds[] = {
        { "getppid", open_none, turn_getppid, 20000 }, { "zero", open_zero, turn_zero, 20000 }, { "pipe", open_pipe, turn_pair, 5000 },
        { "unix", open_unix, turn_pair, 4000 }, { "tcp", open_tcp, turn_tcp, 500 }, { "connect", listen_tcp, turn_connect, 100 },
        { "fork", open_none, turn_fork, 20 },
};

static int by_value(const void *x, const void *y) {
        double p = *(const double *)x, q = *(const double *)y;
        return p < q ? -1 : p > q;
}

static double now_ns(void) {
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

int main(int argc, char **argv) {
        static double took[CHUNKS_MAX];
        unsigned chunks = argc > 2 ? (unsigned)atoi(argv[2]) : 300;
        for (size_t k = 0; argc > 1 && k < sizeof(kinds) / sizeof(kinds[0]); k++) {
                if (strcmp(kinds[k].name, argv[1]) != 0)
                        continue;
                check(chunks > 0 && chunks <= CHUNKS_MAX, "chunks");
                kinds[k].open();
                for (unsigned c = 0; c < chunks; c++) {
                        double start = now_ns();
                        for (unsigned i = 0; i < kinds[k].turns; i++)
                                kinds[k].turn();
                        took[c] = (now_ns() - start) / kinds[k].turns;
                }
                qsort(took, chunks, sizeof(*took), by_value);
                printf("%.2f\n", took[chunks / 10]);
                return 0;
        }
        fprintf(stderr, "usage: calls getppid|zero|pipe|unix|tcp|connect|fork [CHUNKS]\n");
        return 2;
}
