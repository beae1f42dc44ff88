/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Stats: own counters that have no other home. Plain numbers that their owners raise; status, stats and our own metrics read them.
 * What connections, contexts, red, output and the probes count themselves stands in their own structs.
 * May touch: memory only. */
#include "libtelemetry/base.h"

struct stats {
        uint64_t wakeups;                          /* turns of the loop */
        struct {
                uint64_t attached, ended;          /* processes: observed since the start; of them, those that are no more */
                uint64_t failures;                 /* attaches that failed; tried again */
                uint64_t full;                     /* processes left out, because PROBE_TARGETS_MAX are observed */
        } processes;
        struct {
                uint64_t sent, points;             /* spans and data points handed to output */
        } spans;
        uint64_t reloads, reload_failures;
        uint32_t budget_step;                      /* how far the budgets have stepped the observation down; 0: not at all */
};

extern struct stats stats;                         /* one per process */
