/* SPDX-License-Identifier: Apache-2.0 */
/* Pace: HTTP/1.1 requests at a fixed rate, whatever the server does with them (open loop), and how long each answer took.
 *     pace PORT RATE SECONDS CONNECTIONS
 * A request goes out when it is due, on a connection that is idle. Prints one line of JSON; times in microseconds: `late` is from due to
 * sent (our own delay), the others from sent to the last byte of the answer. Answers are small, with Content-Length. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 1024
#define ANSWER_MAX 4096

struct peer {
        int fd;
        uint64_t sent_ns;                          /* 0: idle */
        size_t n;
        char answer[ANSWER_MAX];
};
static struct peer peers[CONNECTIONS_MAX];
static const char request[] = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";

static uint64_t now_ns(void) {
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void fail(const char *what) {
        fprintf(stderr, "pace: %s: %s\n", what, strerror(errno));
        exit(1);
}

static int open_peer(uint16_t port) {
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
        if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
                fail("connect");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        return fd;
}

/* Whether the whole answer is there. */
static int is_whole(const struct peer *p) {
        const char *end = memmem(p->answer, p->n, "\r\n\r\n", 4), *at;
        if (!end)
                return 0;
        for (at = p->answer; at < end && strncasecmp(at, "\r\ncontent-length:", 17) != 0;)
                at++;
        if (at == end || strncmp(p->answer, "HTTP/1.1 200", 12) != 0) {
                errno = EPROTO;
                fail("answer");
        }
        return p->n >= (size_t)(end + 4 - p->answer) + strtoul(at + 17, NULL, 10);
}

static int by_value(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
        return x < y ? -1 : x > y;
}

static double quantile(const uint64_t *sorted, size_t n, double q) {
        return n ? (double)sorted[(size_t)((double)(n - 1) * q)] / 1000 : 0;
}

/* Reads what is there. Returns the time the answer took once it is whole, else 0. */
static uint64_t receive(struct peer *p) {
        ssize_t n = recv(p->fd, p->answer + p->n, sizeof(p->answer) - 1 - p->n, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
                return 0;
        if (n <= 0)
                fail("receive");
        p->n += (size_t)n;
        p->answer[p->n] = '\0';
        if (!p->sent_ns || !is_whole(p))
                return 0;
        uint64_t took = now_ns() - p->sent_ns;
        p->sent_ns = 0;
        p->n = 0;
        return took;
}

int main(int argc, char **argv) {
        if (argc != 5)
                return fprintf(stderr, "usage: pace PORT RATE SECONDS CONNECTIONS\n"), 2;
        uint64_t rate = strtoul(argv[2], NULL, 10), total = rate * strtoul(argv[3], NULL, 10);
        size_t n_peers = strtoul(argv[4], NULL, 10), next = 0, sent = 0, answered = 0;
        uint64_t *took = calloc(total, sizeof(*took)), *late = calloc(total, sizeof(*late));
        int poll = epoll_create1(0);
        if (!took || !late || poll < 0 || n_peers == 0 || n_peers > CONNECTIONS_MAX || rate == 0)
                fail("start");
        prctl(PR_SET_TIMERSLACK, 1);
        for (size_t i = 0; i < n_peers; i++) {
                peers[i].fd = open_peer((uint16_t)atoi(argv[1]));
                epoll_ctl(poll, EPOLL_CTL_ADD, peers[i].fd, &(struct epoll_event){ .events = EPOLLIN, .data.ptr = &peers[i] });
        }
        uint64_t start = now_ns() + 1000000, last = start;
        while (answered < total) {
                uint64_t now = now_ns(), due = start + sent * 1000000000u / rate;
                if (now > last + 10u * 1000000000u && now > due) {
                        errno = ETIMEDOUT;
                        fail("no answer for 10 s");
                }
                while (sent < total && due <= now) {
                        size_t tried = 0;
                        while (tried < n_peers && peers[next].sent_ns) {
                                next = (next + 1) % n_peers;
                                tried++;
                        }
                        if (tried == n_peers)
                                break;
                        struct peer *p = &peers[next];
                        p->sent_ns = now_ns();
                        late[sent++] = p->sent_ns - due;
                        if (send(p->fd, request, sizeof(request) - 1, MSG_NOSIGNAL) != sizeof(request) - 1)
                                fail("send");
                        next = (next + 1) % n_peers;
                        due = start + sent * 1000000000u / rate;
                }
                now = now_ns();
                uint64_t wait = sent == total || due <= now ? 1000000 : due - now;
                struct timespec timeout = { .tv_sec = (time_t)(wait / 1000000000u), .tv_nsec = (long)(wait % 1000000000u) };
                struct epoll_event ready[64];
                int n = epoll_pwait2(poll, ready, 64, &timeout, NULL);
                for (int i = 0; i < n; i++) {
                        uint64_t t = receive(ready[i].data.ptr);
                        if (t) {
                                took[answered++] = t;
                                last = now_ns();
                        }
                }
        }
        qsort(took, total, sizeof(*took), by_value);
        qsort(late, total, sizeof(*late), by_value);
        printf("{\"answered\":%zu,\"seconds\":%.6f,\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"p999\":%.3f,\"max\":%.3f,\"late_p99\":%.3f}\n", answered,
               (double)(last - start) / 1e9, quantile(took, total, 0.5), quantile(took, total, 0.9), quantile(took, total, 0.99),
               quantile(took, total, 0.999), quantile(took, total, 1), quantile(late, total, 0.99));
        return 0;
}
