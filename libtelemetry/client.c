/* SPDX-License-Identifier: Apache-2.0 */
#include "libtelemetry/client.h"

#include <poll.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define RUNTIME_PATH_MAX sizeof(((struct sockaddr_un *)NULL)->sun_path)
#define WRITE_FRAMES 64                            /* of one sendmsg(2): small frames then cost a fraction of a call each */
#define READ_BYTES 4096                            /* 170 ACKs, and more than the longest frame a receiver sends */
#define READS_MAX 16                               /* of one step: a peer that talks without end does not hold the caller */
#define STATUS_TEXT sizeof(((struct tel_frame_status *)NULL)->text)

/* One frame of the backlog as it goes on the wire, each time the same bytes. */
struct entry {
        struct entry *next;
        uint64_t sequence;
        size_t len;                                /* of bytes: head and body */
        uint8_t bytes[];
};

struct tel_client {
        struct sockaddr_un addresses[2];           /* tried in this order */
        size_t n_addresses;
        struct tel_frame_hello hello;
        uint64_t random;                           /* state of the jitter's generator, never 0 */

        /* What is unacknowledged, oldest first. Bytes count with the entry around them, so that backlog_bytes is what is spent. */
        struct entry *first, *last;
        size_t backlog_bytes, backlog_used;
        uint64_t sequence;                         /* the last one given out */
        uint64_t sent_sequence;                    /* the highest one that was wholly written, on any connection */

        /* The connection; without one fd is -1. */
        int fd;
        uint64_t now_ns;                           /* of the last step */
        uint64_t connected_ns, retry_ns;           /* when it came about; when to try again */
        uint64_t delay_ns;                         /* the longest the next wait may be */
        bool connected_before;
        struct entry *writing;                     /* the next frame to write here; NULL: all are written */
        size_t offset;                             /* bytes of it that are written */
        uint8_t control[TEL_FRAME_HEAD + TEL_FRAME_SMALL_MAX];         /* HELLO, STATUS: goes between two frames of the backlog */
        size_t control_len, control_offset;
        uint8_t in[READ_BYTES];
        size_t in_len;

        char status_text[STATUS_TEXT];
        bool status_wanted;
        uint64_t status_ns;                        /* earliest time of the next STATUS about losses */
        uint64_t told_dropped;                     /* dropped_frames as the last STATUS had them */
        uint64_t errors;                           /* ERROR frames that refused the connection, since the start */
        bool refused;                              /* a frame was refused since the last flush */
        struct tel_client_stats stats;
};

/* ---- Begin and end ---- */

int tel_runtime_path(const char *name, char *out, size_t n) {
        const char *own = getenv("RUNTIME_DIRECTORY"), *user = getenv("XDG_RUNTIME_DIR");
        int len;
        if (own && *own)
                len = snprintf(out, n, "%.*s/%s", (int)strcspn(own, ":"), own, name);
        else if (geteuid() == 0)
                len = snprintf(out, n, "/run/collectord/%s", name);
        else if (user && *user)
                len = snprintf(out, n, "%s/collectord/%s", user, name);
        else
                len = snprintf(out, n, "/tmp/collectord-%u/%s", (unsigned)geteuid(), name);
        return len < 0 || (size_t)len >= n ? -ENAMETOOLONG : 0;
}

static int address_add(struct tel_client *c, const char *path) {
        struct sockaddr_un *a = &c->addresses[c->n_addresses];
        if (strlen(path) >= sizeof(a->sun_path))
                return -ENAMETOOLONG;
        a->sun_family = AF_UNIX;
        memcpy(a->sun_path, path, strlen(path) + 1);
        c->n_addresses++;
        return 0;
}

static int addresses_fill(struct tel_client *c, const char *path) {
        if (path)
                return address_add(c, path);
        char own[RUNTIME_PATH_MAX];
        int r = tel_runtime_path(TEL_CLIENT_SOCKET, own, sizeof(own));
        if (r < 0)
                return r;
        r = address_add(c, own);
        if (r < 0 || strcmp(own, TEL_CLIENT_SYSTEM_PATH) == 0)
                return r;
        return address_add(c, TEL_CLIENT_SYSTEM_PATH);
}

static int hello_fill(struct tel_client *c, const struct tel_client_options *o) {
        struct tel_frame_hello *h = &c->hello;
        char host[sizeof(h->host)] = "";
        const char *name = o->name && *o->name ? o->name : program_invocation_short_name;
        const char *version = o->version ? o->version : "";
        gethostname(host, sizeof(host) - 1);
        tel_frame_text(h->name, sizeof(h->name), *name ? name : "unknown", SIZE_MAX);
        tel_frame_text(h->version, sizeof(h->version), version, SIZE_MAX);
        tel_frame_text(h->host, sizeof(h->host), host, sizeof(host));
        h->pid = (uint32_t)getpid();
        if (getrandom(h->epoch, sizeof(h->epoch), 0) != (ssize_t)sizeof(h->epoch) ||
            getrandom(&c->random, sizeof(c->random), 0) != (ssize_t)sizeof(c->random))
                return -errno;
        c->random |= 1;
        return 0;
}

struct tel_client *tel_client_new(const struct tel_client_options *options) {
        struct tel_client_options o = options ? *options : (struct tel_client_options){ 0 };
        struct tel_client *c = calloc(1, sizeof(*c));
        if (!c)
                return NULL;
        c->fd = -1;
        c->backlog_bytes = o.backlog_bytes ? o.backlog_bytes : TEL_CLIENT_BACKLOG;
        c->delay_ns = 2 * TEL_CLIENT_RETRY_MIN_NS;
        int r = addresses_fill(c, o.path);
        if (r >= 0)
                r = hello_fill(c, &o);
        if (r >= 0)
                return c;
        tel_client_free(c);
        errno = -r;
        return NULL;
}

struct tel_client *tel_client_free(struct tel_client *c) {
        if (!c)
                return NULL;
        if (c->fd >= 0) {
                /* Only between two frames is a BYE a frame; elsewhere the receiver is right to count a short one. */
                if (c->stats.connected && c->offset == 0 && c->control_offset == c->control_len) {
                        uint8_t bye[TEL_FRAME_HEAD];
                        tel_frame_head(bye, TEL_FRAME_BYE, 0, NULL, 0);
                        (void)!send(c->fd, bye, sizeof(bye), MSG_NOSIGNAL);    /* a courtesy: nothing depends on it */
                }
                close(c->fd);
        }
        while (c->first) {
                struct entry *e = c->first;
                c->first = e->next;
                free(e);
        }
        free(c);
        return NULL;
}

/* ---- Backlog ---- */

static size_t entry_cost(size_t len) {
        return sizeof(struct entry) + len;
}

/* Takes the entry behind before (NULL: the first one) out of the backlog and frees it. The caller counts it. */
static void entry_remove(struct tel_client *c, struct entry *before) {
        struct entry **at = before ? &before->next : &c->first, *e = *at;
        *at = e->next;
        if (c->last == e)
                c->last = before;
        if (c->writing == e) {
                c->writing = e->next;
                c->offset = 0;
        }
        c->backlog_used -= entry_cost(e->len);
        c->stats.waiting_frames--;
        c->stats.waiting_bytes -= e->len;
        free(e);
}

static void entry_drop(struct tel_client *c, struct entry *before) {
        c->stats.dropped_frames++;
        c->stats.dropped_bytes += (before ? before->next : c->first)->len;
        entry_remove(c, before);
}

static void client_disconnect(struct tel_client *c, uint64_t now_ns);

/* Drops the oldest until len more bytes fit. A frame half on the wire is passed over, because the peer waits for its rest; when only that one
 * is left, the connection goes with it. */
static void backlog_make_room(struct tel_client *c, size_t len) {
        while (c->backlog_bytes - c->backlog_used < entry_cost(len)) {
                struct entry *before = c->offset > 0 && c->first == c->writing ? c->first : NULL;
                if (before && !before->next) {
                        client_disconnect(c, c->now_ns);
                        before = NULL;
                }
                entry_drop(c, before);
        }
}

int tel_client_send(struct tel_client *c, enum tel_frame_kind kind, const void *body, size_t n) {
        if (kind < TEL_FRAME_TRACES || kind > TEL_FRAME_PROFILE)
                return -EINVAL;
        if (n > TEL_FRAME_BODY_MAX || entry_cost(TEL_FRAME_HEAD + n) > c->backlog_bytes)
                return -EMSGSIZE;
        size_t len = TEL_FRAME_HEAD + n;
        struct entry *e = malloc(entry_cost(len));
        if (!e)
                return -ENOMEM;
        backlog_make_room(c, len);
        e->next = NULL;
        e->sequence = ++c->sequence;
        e->len = len;
        tel_frame_head(e->bytes, (uint8_t)kind, e->sequence, body, (uint32_t)n);
        if (n > 0)
                memcpy(e->bytes + TEL_FRAME_HEAD, body, n);
        if (c->last)
                c->last->next = e;
        else
                c->first = e;
        c->last = e;
        if (!c->writing)
                c->writing = e;
        c->backlog_used += entry_cost(len);
        c->stats.waiting_frames++;
        c->stats.waiting_bytes += len;
        return 0;
}

int tel_client_span(struct tel_client *c, const struct tel_span *span) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *b = tel_buf_new(NULL, 0);
        if (!b)
                return -ENOMEM;
        int r = tel_otlp_span_put(b, span, TEL_FRAME_BODY_MAX);
        return r < 0 ? r : tel_client_send(c, TEL_FRAME_TRACES, b->data, b->len);
}

int tel_client_log(struct tel_client *c, const struct tel_log *log) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *b = tel_buf_new(NULL, 0);
        if (!b)
                return -ENOMEM;
        int r = tel_otlp_log_put(b, log, TEL_FRAME_BODY_MAX);
        return r < 0 ? r : tel_client_send(c, TEL_FRAME_LOGS, b->data, b->len);
}

int tel_client_status(struct tel_client *c, const char *text) {
        tel_frame_text(c->status_text, sizeof(c->status_text), text ? text : "", SIZE_MAX);
        c->status_wanted = true;
        return 0;
}

/* ---- Connection ---- */

/* The next wait: between half of delay_ns and all of it, so that producers that lost the same receiver do not come back as one. */
static uint64_t retry_wait_ns(struct tel_client *c) {
        c->random ^= c->random << 13;              /* xorshift64, Marsaglia 2003 */
        c->random ^= c->random >> 7;
        c->random ^= c->random << 17;
        uint64_t half = c->delay_ns / 2;
        c->delay_ns = TEL_MIN(c->delay_ns * 2, TEL_CLIENT_RETRY_MAX_NS);
        return half + c->random % (half + 1);
}

/* Something got through: the next wait is a short one. */
static void client_progress(struct tel_client *c) {
        c->delay_ns = 2 * TEL_CLIENT_RETRY_MIN_NS;
}

static void client_disconnect(struct tel_client *c, uint64_t now_ns) {
        if (c->fd < 0)
                return;
        close(c->fd);
        c->fd = -1;
        c->stats.connected = false;
        c->writing = c->first;
        c->offset = 0;
        c->control_len = c->control_offset = 0;
        c->in_len = 0;
        /* A connection that stood for long ended by a restart; one that ended at once may end so again. */
        if (now_ns - c->connected_ns >= TEL_CLIENT_RETRY_MAX_NS)
                client_progress(c);
        c->retry_ns = tel_add_sat(now_ns, retry_wait_ns(c));
}

static void control_put(struct tel_client *c, enum tel_frame_kind kind, size_t body_len) {
        tel_frame_head(c->control, (uint8_t)kind, 0, c->control + TEL_FRAME_HEAD, (uint32_t)body_len);
        c->control_len = TEL_FRAME_HEAD + body_len;
        c->control_offset = 0;
}

/* A local connect(2) answers at once; -EAGAIN means that the listener's queue is full. */
static int client_connect(struct tel_client *c, uint64_t now_ns) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        int r = fd < 0 ? -errno : -ENOENT, why = -r;
        for (size_t i = 0; fd >= 0 && r < 0 && i < c->n_addresses; i++) {
                r = connect(fd, (struct sockaddr *)&c->addresses[i], sizeof(c->addresses[i])) < 0 ? -errno : 0;
                if (r != -ENOENT)
                        why = -r;                  /* "permission denied" on one says more than "no such file" on the other */
        }
        c->stats.connect_error = why;
        if (r < 0) {
                if (fd >= 0)
                        close(fd);
                c->retry_ns = tel_add_sat(now_ns, retry_wait_ns(c));
                return r;
        }
        c->fd = fd;
        c->connected_ns = now_ns;
        c->stats.reconnects += c->connected_before;
        c->connected_before = true;
        control_put(c, TEL_FRAME_HELLO, tel_frame_hello_put(c->control + TEL_FRAME_HEAD, &c->hello));
        /* The receiver may be a new one that knows nothing of us. */
        c->status_wanted = c->status_wanted || c->status_text[0] || c->stats.dropped_frames > 0;
        return 0;
}

/* ---- Writing ---- */

static bool losses_untold(const struct tel_client *c) {
        return c->stats.dropped_frames != c->told_dropped;
}

static bool status_due(const struct tel_client *c) {
        return c->status_wanted || (losses_untold(c) && c->now_ns >= c->status_ns);
}

static void status_put(struct tel_client *c) {
        struct tel_frame_status s = {
                .dropped_frames = c->stats.dropped_frames, .dropped_bytes = c->stats.dropped_bytes,
                .waiting_frames = c->stats.waiting_frames, .waiting_bytes = c->stats.waiting_bytes,
        };
        memcpy(s.text, c->status_text, sizeof(s.text));
        control_put(c, TEL_FRAME_STATUS, tel_frame_status_put(c->control + TEL_FRAME_HEAD, &s));
        c->status_wanted = false;
        c->told_dropped = c->stats.dropped_frames;
        c->status_ns = tel_add_sat(c->now_ns, TEL_CLIENT_STATUS_NS);
}

/* Returns 1 when all of control is written, 0 when the socket is full, or what broke the connection. */
static int control_write(struct tel_client *c) {
        ssize_t n = send(c->fd, c->control + c->control_offset, c->control_len - c->control_offset, MSG_NOSIGNAL);
        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        c->control_offset += (size_t)n;
        if (c->control_offset < c->control_len)
                return 0;
        c->control_len = c->control_offset = 0;
        c->stats.connected = true;                 /* the first one was the HELLO */
        return 1;
}

static void entries_written(struct tel_client *c, size_t n) {
        while (n > 0) {
                struct entry *e = c->writing;
                size_t part = TEL_MIN(n, e->len - c->offset);
                c->offset += part;
                n -= part;
                if (c->offset < e->len)
                        return;
                c->offset = 0;
                c->writing = e->next;
                if (e->sequence > c->sent_sequence) {
                        c->sent_sequence = e->sequence;
                        c->stats.sent++;
                } else
                        c->stats.resent++;
        }
}

/* Likewise for the frames from writing on, as many as one call takes. Returns 1 when it took them all. */
static int entries_write(struct tel_client *c) {
        struct iovec v[WRITE_FRAMES];
        struct msghdr m = { .msg_iov = v };
        size_t total = 0, offset = c->offset, frames_max = status_due(c) ? 1 : WRITE_FRAMES;
        for (struct entry *e = c->writing; e && m.msg_iovlen < frames_max; e = e->next, offset = 0) {
                v[m.msg_iovlen++] = (struct iovec){ e->bytes + offset, e->len - offset };
                total += e->len - offset;
        }
        ssize_t n = sendmsg(c->fd, &m, MSG_NOSIGNAL);
        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        entries_written(c, (size_t)n);
        return (size_t)n == total;
}

static int client_write(struct tel_client *c) {
        for (;;) {
                int r;
                if (c->control_len == 0 && c->offset == 0 && status_due(c))
                        status_put(c);
                if (c->control_len > 0)
                        r = control_write(c);
                else if (c->writing)
                        r = entries_write(c);
                else
                        return 0;
                if (r <= 0)
                        return r;
        }
}

/* ---- Reading ---- */

static int on_ack(struct tel_client *c, uint64_t sequence) {
        if (sequence > c->sent_sequence)
                return -EPROTO;                    /* of a frame it cannot have: believing it would lose one */
        /* A frame half resent stays until its rest is out: the receiver acknowledges it once more. */
        while (c->first && c->first->sequence <= sequence && !(c->first == c->writing && c->offset > 0)) {
                entry_remove(c, NULL);
                c->stats.acknowledged++;
                client_progress(c);
        }
        return 0;
}

/* Whether code speaks of the bytes of one frame, so that the same bytes would be refused again. */
static bool error_is_final(uint32_t code) {
        return code == TEL_FRAME_ERROR_BODY || code == TEL_FRAME_ERROR_KIND || code == TEL_FRAME_ERROR_LENGTH;
}

static int on_error(struct tel_client *c, const struct tel_frame *f) {
        struct tel_frame_error_body e;
        if (tel_frame_error_get(f->body, f->len, &e) < 0)
                return -EPROTO;
        c->stats.last_error = e.code;
        memcpy(c->stats.last_error_text, e.text, sizeof(e.text));
        struct entry *before = NULL, *at = c->first;
        while (at && at->sequence < e.sequence) {
                before = at;
                at = at->next;
        }
        if (!error_is_final(e.code) || !at || at->sequence != e.sequence) {
                c->errors++;
                return -ECONNRESET;
        }
        entry_drop(c, before);
        c->stats.refused_frames++;
        c->refused = true;
        client_progress(c);
        return -ECONNRESET;
}

/* Handles the whole frames in in[0..in_len) and moves the rest to the front. */
static int frames_take(struct tel_client *c) {
        size_t at = 0;
        int r = 0;
        for (;;) {
                struct tel_frame f = { 0 };
                enum tel_frame_error error;
                r = tel_frame_parse(c->in + at, c->in_len - at, &f, &error);
                if (r < 0)
                        return r;
                if (f.kind != 0 && f.kind != TEL_FRAME_ACK && f.kind != TEL_FRAME_ERROR)
                        return -EPROTO;            /* not a receiver; said before its body comes, so in is always long enough */
                if (r == TEL_FRAME_MORE)
                        break;
                r = f.kind == TEL_FRAME_ACK ? on_ack(c, f.sequence) : on_error(c, &f);
                if (r < 0)
                        return r;
                at += TEL_FRAME_HEAD + f.len;
        }
        memmove(c->in, c->in + at, c->in_len - at);
        c->in_len -= at;
        return 0;
}

static int client_read(struct tel_client *c) {
        for (int i = 0; i < READS_MAX; i++) {
                ssize_t n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, 0);
                if (n < 0)
                        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
                if (n == 0)
                        return -ECONNRESET;
                c->in_len += (size_t)n;
                int r = frames_take(c);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* ---- Loop ---- */

int tel_client_step(struct tel_client *c, uint64_t now_ns) {
        c->now_ns = now_ns;
        if (c->fd < 0 && (now_ns < c->retry_ns || client_connect(c, now_ns) < 0))
                return 0;
        int r = client_write(c);
        int read = client_read(c);                 /* also when writing failed: the peer may have said why, and what it has */
        if (r < 0 || read < 0)
                client_disconnect(c, now_ns);
        return 0;
}

int tel_client_fd(const struct tel_client *c) {
        return c->fd;
}

short tel_client_events(const struct tel_client *c) {
        if (c->fd < 0)
                return 0;
        return c->control_len > 0 || c->writing || status_due(c) ? POLLIN | POLLOUT : POLLIN;
}

uint64_t tel_client_timeout_ns(const struct tel_client *c) {
        if (c->fd < 0)
                return c->retry_ns;
        /* Once its time has come only the socket can hold it up, and tel_client_events() asks for that. */
        return losses_untold(c) && !status_due(c) ? c->status_ns : UINT64_MAX;
}

static uint64_t monotonic_ns(void) {
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * TEL_NS_PER_S + (uint64_t)ts.tv_nsec;
}

int tel_client_flush(struct tel_client *c, unsigned timeout_ms) {
        uint64_t now_ns = monotonic_ns(), deadline_ns = tel_add_sat(now_ns, timeout_ms * TEL_NS_PER_MS);
        uint64_t errors = c->errors;
        for (;; now_ns = monotonic_ns()) {
                tel_client_step(c, now_ns);
                if (c->errors != errors)
                        return -EPROTO;
                if (!c->first && !c->status_wanted && c->control_len == 0) {
                        int r = c->refused ? -EPROTO : 0;
                        c->refused = false;
                        return r;
                }
                if (now_ns >= deadline_ns)
                        return -ETIMEDOUT;
                uint64_t wait_ns = TEL_MIN(deadline_ns, tel_client_timeout_ns(c));
                wait_ns = wait_ns > now_ns ? wait_ns - now_ns : 0;
                /* Rounded up, so that the step behind the wait finds its time come; a day at most, as poll's int would overflow. */
                int wait_ms = (int)TEL_MIN((wait_ns + TEL_NS_PER_MS - 1) / TEL_NS_PER_MS, 86400000ull);
                struct pollfd p = { .fd = c->fd, .events = tel_client_events(c) };     /* a negative fd is only a wait */
                if (poll(&p, 1, wait_ms) < 0 && errno != EINTR)
                        return -errno;
        }
}

void tel_client_get_stats(const struct tel_client *c, struct tel_client_stats *ret) {
        *ret = c->stats;
}
