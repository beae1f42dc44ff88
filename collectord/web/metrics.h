/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Metrics: the daemon's own figures as Prometheus text 0.0.4. Every family stands in one table, with its type,
 * labels and help, and in docs/metrics.md.
 * A figure the daemon does not know has no sample. Counters exist at 0 from the start.
 * May touch: reads the daemon, stats, the clock and /proc/self.
 * Source: Prometheus, "Exposition formats". */
#include "collectord/daemon.h"

#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"
#define METRICS_BYTES_MAX (8u << 20)               /* 64 destinations with 4 signals, 40 samples each of 150 bytes, stay far below */

/* Appends all. Returns 0, or tel_buf_append()'s errors. */
int metrics_put(const struct daemon *d, uint64_t now_ns, struct tel_buf *out);

/* The table, for the check of docs/metrics.md: family i; NULL behind the last. */
struct metrics_family {
        const char *name, *type;                   /* "counter" or "gauge" */
        const char *labels;                        /* names, in the order they are written, with blanks between; "" : none */
        const char *help;
};
const struct metrics_family *metrics_family(size_t i);
