/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Red: rate, errors and duration of every exchange, sampled or not, as cumulative histograms, one series for each set of attributes of each
 * process.
 *
 *     http.server.request.duration, http.client.request.duration              s
 *     http.server.request.body.size, http.server.response.body.size           By, where the size is known; http.client likewise
 *     rpc.server.duration, rpc.client.duration                                s
 *     db.client.operation.duration, db.server.operation.duration              s
 *
 * The RPC names are those of Beyla and of the conventions up to 1.38 (there in ms; Beyla has seconds, and so have we: one unit for all
 * durations). Later conventions call them rpc.server.call.duration; a rename in collectord does that.
 * An exchange whose answer ended out of sight counts in a series of its own (beylad.unobserved=true): its duration is not the true one.
 * May touch: memory only. Times come as arguments.
 * Source: opentelemetry-proto 1.9, metrics.proto; conventions for HTTP, RPC and database metrics; overflow: metrics SDK, "Cardinality limits". */
#include "beylad/attributes.h"

#define RED_SERIES_MAX 2000                        /* default: about 1.2 MB; the OpenTelemetry SDKs take as many for one instrument */
#define RED_OVERFLOW_MAX 512                       /* series beside them that hold what came too late, one for each process and kind */
#define RED_IDLE_NS (300 * TEL_NS_PER_S)           /* default: as Beyla forgets them */
#define RED_BYTES_MAX (512u << 10)                 /* of one request: what collectord keeps as one record */

struct red;

struct red_options {
        size_t series_max;                         /* 0: RED_SERIES_MAX */
        uint64_t idle_ns;                          /* a series without an exchange for so long is forgotten; 0: RED_IDLE_NS */
};

struct red_stats {
        size_t series;                             /* now, overflow series included */
        uint64_t forgotten;                        /* series: idle */
        uint64_t overflowed;                       /* exchanges counted in an overflow series */
        uint64_t lost;                             /* exchanges in no series: over RED_OVERFLOW_MAX, or out of memory */
};

/* Hears of each request: body is borrowed for the call, points data points are in it. */
typedef void (*red_fn)(void *ctx, const uint8_t *body, size_t n, size_t points);

struct red *red_new(const struct red_options *options);                /* NULL: out of memory */
struct red *red_free(struct red *r);               /* accepts NULL */
/* Counts a finished exchange. real_offset_ns is what makes boot time real time. */
void red_observe(struct red *r, const struct exchange *x, int64_t real_offset_ns);
/* Forgets idle series, and hands on all others as requests of at most RED_BYTES_MAX. now_ns: boot time. */
void red_encode(struct red *r, uint64_t now_ns, int64_t real_offset_ns, red_fn fn, void *ctx);
void red_get_stats(const struct red *r, struct red_stats *ret);
