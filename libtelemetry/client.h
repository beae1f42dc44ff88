/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Client: sends frames to collectord. It connects, says HELLO, keeps what is not acknowledged, and resends it after a reconnect, so that a
 * restart of either end loses nothing the backlog can hold. The oldest go when it is full, counted and told in STATUS.
 * Works without any loop: the caller polls tel_client_fd() for tel_client_events() and calls tel_client_step(); or it just calls
 * tel_client_flush() now and then.
 * May touch: one non-blocking socket and the monotonic clock (through now_ns arguments where given). One thread. */
#include "libtelemetry/frame.h"
#include "libtelemetry/otlp.h"

struct tel_client;

struct tel_client_options {
        const char *path;                          /* of the frame socket; NULL: tel_runtime_path(TEL_CLIENT_SOCKET), and TEL_CLIENT_SYSTEM_PATH
                                                    * while nobody listens there: most producers run as another user than collectord */
        const char *name;                          /* producer name in HELLO; NULL: the program's */
        const char *version;
        size_t backlog_bytes;                      /* unacknowledged bytes kept; 0: TEL_CLIENT_BACKLOG */
};

#define TEL_CLIENT_SOCKET "frames.sock"            /* its name in a runtime directory */
#define TEL_CLIENT_SYSTEM_PATH "/run/collectord/" TEL_CLIENT_SOCKET
#define TEL_CLIENT_BACKLOG (8u << 20)              /* design: what a producer may hold while collectord is away */
#define TEL_CLIENT_RETRY_MIN_NS (100 * TEL_NS_PER_MS)
#define TEL_CLIENT_RETRY_MAX_NS (5 * TEL_NS_PER_S)
#define TEL_CLIENT_STATUS_NS TEL_NS_PER_S          /* between STATUS frames that only say a loss grew: an overflow loses thousands a second */

struct tel_client_stats {
        bool connected;                            /* HELLO was sent on the present connection */
        uint64_t sent, acknowledged;               /* frames, each once, however often it was written */
        uint64_t resent;                           /* written again on a later connection */
        uint64_t dropped_frames, dropped_bytes;    /* given up unacknowledged: the oldest because the backlog was full, or refused for good.
                                                    * One that was written before may still have arrived */
        uint64_t refused_frames;                   /* those of dropped_frames that an ERROR named */
        size_t waiting_frames, waiting_bytes;      /* queued or unacknowledged, heads included */
        uint64_t reconnects;
        int connect_error;                         /* errno of the last attempt to connect, 0 when it succeeded */
        uint32_t last_error;                       /* enum tel_frame_error of the last ERROR frame, 0: none */
        char last_error_text[256];
};

/* Where the daemons' sockets lie: $RUNTIME_DIRECTORY (the first, when it names several), else /run/collectord as root, else
 * $XDG_RUNTIME_DIR/collectord, else /tmp/collectord-$UID. Writes dir + "/" + name. Returns 0 or -ENAMETOOLONG. Creates nothing. */
int tel_runtime_path(const char *name, char *out, size_t n);

/* NULL, with errno: ENOMEM, ENAMETOOLONG (path), or what getrandom(2) said. options may be NULL. Connects in the first step or flush, so
 * it also succeeds while collectord is away. */
struct tel_client *tel_client_new(const struct tel_client_options *options);
/* Says BYE when connected and between two frames, and closes at once; what is unacknowledged is lost. Call tel_client_flush() first.
 * Accepts NULL, returns NULL. */
struct tel_client *tel_client_free(struct tel_client *c);

/* Queues one frame of kind (TRACES, METRICS, LOGS, PROFILE) with a copy of body. Never blocks, writes nothing yet.
 * Returns 0, -EMSGSIZE (over the frame limit or the whole backlog), -EINVAL (kind), -ENOMEM. */
int tel_client_send(struct tel_client *c, enum tel_frame_kind kind, const void *body, size_t n);
int tel_client_span(struct tel_client *c, const struct tel_span *span);
int tel_client_log(struct tel_client *c, const struct tel_log *log);
/* Queues a STATUS with text (cut at 511 bytes) and the counters; the newest one replaces an unsent one, and is said again after a
 * reconnect. Losses are told without being asked, each TEL_CLIENT_STATUS_NS while they grow. Returns 0. */
int tel_client_status(struct tel_client *c, const char *text);

/* For loops. fd is -1 while there is no connection; events are POLLIN/POLLOUT; timeout is the monotonic time of the next step, UINT64_MAX: none.
 * The fd may change with every step. */
int tel_client_fd(const struct tel_client *c);
short tel_client_events(const struct tel_client *c);
uint64_t tel_client_timeout_ns(const struct tel_client *c);
/* Connects, writes and reads what is possible without blocking. Returns 0; a broken connection is not an error but a reconnect later. */
int tel_client_step(struct tel_client *c, uint64_t now_ns);

/* Blocks until everything queued is acknowledged or timeout_ms passed. Returns 0, -ETIMEDOUT, or -EPROTO when the peer answered ERROR: at
 * once when it refused the connection (a later call tries again), at the end when it refused single frames since the last flush. */
int tel_client_flush(struct tel_client *c, unsigned timeout_ms);
void tel_client_get_stats(const struct tel_client *c, struct tel_client_stats *ret);
