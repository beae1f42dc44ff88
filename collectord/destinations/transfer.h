/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Transfer: POSTs bodies by libcurl's multi interface on the daemon's loop. CURLcode and HTTP status become an outcome here and go no further.
 * May touch: curl's sockets and timer, certificate and token files. Names are resolved in curl's own thread, never on the loop.
 * Source: OTLP specification, "OTLP/HTTP Response" (which answers are final). */
#include <uv.h>

#include "collectord/destinations/body.h"
#include "collectord/settings.h"

#define TRANSFER_ANSWER_MAX (64u << 10)            /* bytes of an answer that are kept; Export*ServiceResponse is far smaller */
#define TRANSFER_ANSWER_READ_MAX (1u << 20)        /* a receiver that sends more is cut off; its status counts */
#define TRANSFER_TEXT 160

enum outcome {
        OUTCOME_SENT,                              /* 2xx */
        OUTCOME_RETRY,                             /* 429, 502, 503, 504, no connection, no answer in time */
        OUTCOME_SPLIT,                             /* 413, 400: a part of it may pass */
        OUTCOME_REFUSED,                           /* any other answer: final */
};

struct transfer_result {
        enum outcome outcome;
        unsigned status;                           /* HTTP; 0: no answer */
        uint64_t retry_after_ns;                   /* 0: not named */
        const uint8_t *answer;                     /* borrowed for the call */
        size_t answer_bytes;
        size_t wire_bytes;                         /* body bytes as they were sent */
        uint64_t took_ns;
        char text[TRANSFER_TEXT];                  /* "HTTP 503", "connection refused", ...: for logs and the ledger */
};
typedef void (*transfer_fn)(void *ctx, const struct transfer_result *result);

struct transfers;                                  /* the curl multi on a loop */
struct endpoint;                                   /* one URL with its headers, TLS and pool of handles */
struct transfer;                                   /* one request under way */

int transfers_new(uv_loop_t *loop, struct transfers **ret);
struct transfers *transfers_free(struct transfers *t);

/* url: whole. settings: headers, auth, tls, timeout; copied. Returns 0, -ENOMEM, or -EINVAL. */
int endpoint_new(struct transfers *t, const char *url, const struct destination_settings *settings, struct endpoint **ret);
struct endpoint *endpoint_free(struct endpoint *e);    /* no transfer may be under way */

/* Starts a POST. body is borrowed until fn was called, which happens exactly once unless it is cancelled. Never calls fn before it returns. */
int transfer_start(struct endpoint *e, const struct body *body, transfer_fn fn, void *ctx, struct transfer **ret);
void transfer_cancel(struct transfer *t);
/* Connects (with TLS when the URL says so) and closes again: the test at start. */
int transfer_connect(struct endpoint *e, transfer_fn fn, void *ctx, struct transfer **ret);
