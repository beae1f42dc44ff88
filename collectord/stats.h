/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Stats: own counters. Plain numbers that their owners raise; /metrics, status and the page read them.
 * May touch: memory only. Readers' ledgers and the spools keep their own (spool/ledger.h). */
#include "libtelemetry/frame.h"
#include "libtelemetry/otlp_schema.h"

enum transport { TRANSPORT_HTTP, TRANSPORT_FRAMES, TRANSPORT_LINES, TRANSPORTS };
extern const char *const transport_names[TRANSPORTS];   /* "http", "frames", "lines" */

/* Answers of the OTLP listener that are counted one by one; others under 0. */
enum { STATS_HTTP_CODES = 12 };
extern const unsigned stats_http_codes[STATS_HTTP_CODES];

struct stats {
        struct {
                uint64_t accepted, refused, failed;        /* items: in the spool; rejected by us (malformed); turned away (503) - in requests where items are unknown */
                uint64_t requests, bytes;          /* bodies as they came */
        } receiver[TRANSPORTS][TEL_SIGNALS];
        uint64_t http_codes[STATS_HTTP_CODES];
        uint64_t http_connections, http_connections_peak, http_evicted, http_timeouts;
        uint64_t frames_connections, frames_total, frames_duplicate, frames_refused_peers, frames_paused;
        uint64_t frame_errors[TEL_FRAME_ERRORS];
        uint64_t producers_dropped_frames;         /* as producers told in STATUS */
        uint64_t reloads, reload_failures;
        uint64_t reload_ok_ns;                     /* realtime of the last good load */
        uint64_t reload_failed_ns;                 /* realtime of the last refused one; 0: none. Later than reload_ok_ns: the document is newer than what runs */
        uint64_t start_ns;
        uint64_t wakeups;                          /* turns of the loop */
};

extern struct stats stats;                         /* one per process */

void stats_http_code(unsigned code);
