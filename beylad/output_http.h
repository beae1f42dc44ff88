/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Output over OTLP/HTTP: POSTs one request after the other by libcurl's multi interface on the caller's loop, and knows when to try again.
 * May touch: curl's sockets and timer, the monotonic clock (and the real one, for a Retry-After that is a date). Names are resolved in curl's
 * own thread, never on the loop.
 * Source: OTLP specification 1.9, "OTLP/HTTP Response" and "OTLP/HTTP Throttling"; protocol exporter, "Endpoint URLs for OTLP/HTTP". */
#include <uv.h>

#include "libtelemetry/frame.h"

#define OUTPUT_HTTP_TIMEOUT_MS 10000               /* of one request: OTEL_EXPORTER_OTLP_TIMEOUT's default */
#define OUTPUT_HTTP_RETRY_MIN_NS TEL_NS_PER_S      /* the first pause; each further one is twice as long */
#define OUTPUT_HTTP_RETRY_MAX_NS (30 * TEL_NS_PER_S)
#define OUTPUT_HTTP_ANSWER_MAX 4096                /* bytes of an answer that are kept: Export*ServiceResponse is far smaller */
#define OUTPUT_HTTP_ANSWER_READ_MAX (1u << 20)     /* a receiver that sends more is cut off; its status counts */
#define OUTPUT_HTTP_URL_MAX 2048
#define OUTPUT_HTTP_TEXT 160

enum output_http_outcome {
        OUTPUT_HTTP_SENT,                          /* 2xx */
        OUTPUT_HTTP_UNREACHED,                     /* no connection: the receiver cannot have it */
        OUTPUT_HTTP_RETRY,                         /* 429, 502, 503, 504, or the connection broke: it may have it */
        OUTPUT_HTTP_REFUSED,                       /* any other answer: final */
};

struct output_http_result {
        enum output_http_outcome outcome;
        unsigned status;                           /* HTTP; 0: no answer */
        uint64_t rejected;                         /* items that a 2xx says it did not take (partial success) */
        char text[OUTPUT_HTTP_TEXT];               /* "HTTP 503", "Connection refused", ...: for logs */
};
typedef void (*output_http_fn)(void *ctx, const struct output_http_result *result);

struct output_http;

/* endpoint: see output_http_url(). fn hears of each post once. Returns 0, -EINVAL (not a URL, or not http) or -ENOMEM, -ENOTSUP (a libcurl
 * that would resolve names on the loop). */
int output_http_new(uv_loop_t *loop, const char *endpoint, output_http_fn fn, void *ctx, struct output_http **ret);
/* A post under way is cancelled without a word. Memory goes with the next turns of the loop. Accepts NULL, returns NULL. */
struct output_http *output_http_free(struct output_http *h);

/* Starts a POST; body is borrowed until fn was called. Only while none is under way. Never calls fn before it returns. Returns 0 or -ENOMEM. */
int output_http_post(struct output_http *h, enum tel_frame_kind kind, const void *body, size_t n);
bool output_http_busy(const struct output_http *h);
/* Monotonic time before which nothing should be posted: pauses after failures. */
uint64_t output_http_until_ns(const struct output_http *h);
/* Without the loop: waits at most timeout_ms for something to happen to the post under way, and handles it. */
void output_http_wait(struct output_http *h, int timeout_ms);

/* "localhost:4318", "http://localhost:4318", "https://otel.example/base/" -> the URL of a kind: "http://localhost:4318/v1/traces".
 * out: OUTPUT_HTTP_URL_MAX bytes. Returns 0 or -EINVAL: no host, another scheme than http and https, or too long. */
int output_http_url(const char *endpoint, enum tel_frame_kind kind, char *out);
