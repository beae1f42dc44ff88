/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Output: where requests go. Frames to collectord; OTLP/HTTP to an endpoint when no collectord is named, or while it is away for more than
 * OUTPUT_AWAY_NS. A request goes one way only: one that either side may have is never given to the other.
 * May touch: the frame socket, curl's sockets, two timers on the caller's loop, the monotonic clock.
 *
 * With collectord alone its client is the queue: it keeps what is not acknowledged and sends it again after a reconnect, so a killed
 * collectord loses nothing that the queue can hold. With an endpoint beside it, requests wait here while collectord is not connected. */
#include <uv.h>

#include "libtelemetry/client.h"

#define OUTPUT_QUEUE_MAX (8u << 20)                /* bytes that wait here, likewise in the client: the oldest go first, counted */
#define OUTPUT_AWAY_NS (5 * TEL_NS_PER_S)          /* a restart of collectord takes less */
#define OUTPUT_SETTLE_NS (100 * TEL_NS_PER_MS)     /* a connection is believed in when it stood for so long: a refusal comes at once */
#define OUTPUT_ERROR_MAX 256                       /* bytes of an error text, with its NUL */

struct output;

struct output_options {
        const char *collector;                     /* path of the frame socket, or a name in the runtime directory; NULL or "": none.
                                                    * TEL_CLIENT_SOCKET, which is everybody's default: TEL_CLIENT_SYSTEM_PATH as well */
        const char *endpoint;                      /* base URL as OTEL_EXPORTER_OTLP_ENDPOINT has it; NULL or "": none. One of the two is set */
        const char *name, *version;                /* of the producer; NULL: "beylad", ours */
        uint64_t away_ns;                          /* 0: OUTPUT_AWAY_NS */
};

struct output_stats {
        bool connected;                            /* to collectord */
        bool away;                                 /* requests go to the endpoint, because collectord is */
        uint64_t frames, acknowledged;             /* requests given to collectord's client, and those it has */
        uint64_t posted;                           /* requests the endpoint took */
        uint64_t bytes;                            /* of all requests given to either */
        uint64_t posts, failures;                  /* tries to post, and those of them that failed */
        uint64_t dropped, dropped_bytes;           /* requests given up: the queue was full, refused for good, or left at the end */
        uint64_t dropped_spans, dropped_points;    /* in them */
        size_t waiting, waiting_bytes;             /* requests here and in the client */
        char error[OUTPUT_ERROR_MAX];              /* what went wrong last with the endpoint; "": nothing yet */
};

/* Returns 0 or negative; reterr says why (OUTPUT_ERROR_MAX). Succeeds while both are away. Either way some memory goes with the next turns of
 * the loop. */
int output_new(uv_loop_t *loop, const struct output_options *options, struct output **ret, char *reterr);
/* Closes at once; what waits is dropped. Its memory goes with the next turns of the loop. Accepts NULL, returns NULL. */
struct output *output_free(struct output *o);

/* Queues a copy of body. kind: TEL_FRAME_TRACES or TEL_FRAME_METRICS. Never blocks. What cannot be kept is dropped and counted.
 * Returns 0, -EINVAL (kind), -EMSGSIZE (over the queue) or -ENOMEM. */
int output_send(struct output *o, enum tel_frame_kind kind, const void *body, size_t n);
/* Tells collectord how we are. Without one: nothing. */
void output_status(struct output *o, const char *text);
/* At the stop: blocks until all that waits is delivered, or timeout_ms passed. Works without the loop, so it may be called from it.
 * Returns 0 or -ETIMEDOUT. */
int output_flush(struct output *o, unsigned timeout_ms);
void output_get_stats(const struct output *o, struct output_stats *ret);
