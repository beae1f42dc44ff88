/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* HTTP/1.1 server: libmicrohttpd on the daemon's loop, for the OTLP listener and for web. It knows neither.
 * Bodies stream into a counted buffer; what is over a bound is answered and never held.
 * May touch: its listening socket, its connections, one timer; logs what happens to its connections as a whole.
 * Source: RFC 9110, RFC 9112. */
#include <uv.h>

#include "libtelemetry/buf.h"

#define HTTP_POOL_BYTES (64u << 10)                /* of a connection, head and answer's head within; 512 idle ones then cost 37 MB (1 MB pools: 528) */
#define HTTP_OVERFLOW_MAX 64                       /* connections over the limit that are still heard, to be told 503; more wait in the kernel */
#define HTTP_STALLED_NS TEL_NS_PER_S               /* a request without progress for so long may be closed for a new connection */
#define HTTP_PAUSE_NS (100 * TEL_NS_PER_MS)        /* until the next accept() when there are no descriptors */
#define HTTP_ERROR_MAX 256                         /* bytes of an error text, with its NUL */

struct http_server;

struct http_settings {
        const char *name;                          /* for error texts and log lines: "otlp_http", "web" */
        const char *address;                       /* ADDRESS:PORT */
        int fd;                                    /* a listening socket that was handed over (systemd), or -1: bind address */
        unsigned connections_max;                  /* at once; at the limit the one that waits longest for its peer is closed for the new one */
        uint64_t idle_ns;                          /* a connection without progress, or a request that takes longer than this to arrive, is closed;
                                                    * counted in whole seconds for the former */
        size_t body_max;                           /* of one request */
        struct tel_budget *budget;                 /* bodies being received */
};

/* A request that is whole. Strings are valid for the call. */
struct http_view {
        const char *method, *path;
        const char *content_type, *content_encoding, *accept_encoding, *query;  /* NULL when absent */
        struct tel_buf *body;                      /* borrowed; NULL when there is none */
};

/* What the handler answers. */
struct http_reply {
        unsigned status;
        const char *content_type;                  /* a constant, NULL: none */
        const char *allow;                         /* Allow header with 405; NULL: none */
        unsigned retry_after_s;                    /* 0: none */
        struct tel_buf *body;                      /* taken; NULL: empty */
        bool gzip;                                 /* body is gzip */
        bool close;
};

struct http_server_stats {
        unsigned connections, connections_peak;    /* open now */
        uint64_t requests;                         /* that became whole */
        uint64_t evicted;                          /* connections closed for a new one at the limit */
        uint64_t timeouts;                         /* connections closed because a request did not become whole */
};

/* Called once for every request; answers synchronously. What the server refuses itself (too large, no memory, limit, too slow) goes to
 * refused. No callback may end the server. */
struct http_handler {
        void (*request)(void *ctx, const struct http_view *view, struct http_reply *reply);
        /* reply->status is 413, 503 or 408 and retry_after_s is set for 503: fills in the body for it. view->body is NULL, and so is whatever had
         * not been read yet. */
        void (*refused)(void *ctx, const struct http_view *view, struct http_reply *reply);
        /* The figures changed. May be NULL. */
        void (*changed)(void *ctx, const struct http_server_stats *now);
        void *ctx;
        /* How long to leave further bytes unread, in ms; 0: read on. Asked after each turn; peers feel it as a slow network. NULL: never. */
        unsigned (*pace_ms)(void *ctx);
};

/* Returns 0 or -errno: -EADDRINUSE and so on; reterr (HTTP_ERROR_MAX bytes) names the address and why. */
int http_server_new(uv_loop_t *loop, const struct http_settings *settings, const struct http_handler *handler, struct http_server **ret,
                    char *reterr);
/* The port it listens on (settings may say 0). */
uint16_t http_server_port(const struct http_server *s);
void http_server_get_stats(const struct http_server *s, struct http_server_stats *ret);
/* Closes the listening socket. What is being received and answered goes on; each answer then ends its connection. */
void http_server_quiesce(struct http_server *s);
/* Closes everything. Its uv handles close in the next turn of the loop, and free it. Accepts NULL, returns NULL. */
struct http_server *http_server_free(struct http_server *s);
