/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Budget: how much observing may cost, and what is given up when it costs more: first the bytes that only detail needs, then spans (the
 * metrics stay), then all of it. Goes back a step at a time once the cost is far below.
 * May touch: memory only. */
#include "libtelemetry/base.h"

enum budget_step {
        BUDGET_FULL,
        BUDGET_HEADS,                              /* only the first BUDGET_HEAD_BYTES of each call are captured */
        BUDGET_METRICS,                            /* no spans */
        BUDGET_DETACHED,                           /* nothing is observed */
        BUDGET_STEPS,
};
#define BUDGET_HEAD_BYTES 1024u                    /* holds the head of nearly every request */
#define BUDGET_BACK_PERIODS 6                      /* good ones before a step back */

struct budget {
        uint32_t cpu_percent, probe_percent;       /* of one core: beylad's own, and its programs' in the kernel; 0: no bound */
        enum budget_step step;
        unsigned good;                             /* periods below half of the bounds in a row */
};

/* Other bounds. Without any, everything is observed again. Returns the step from now on. */
enum budget_step budget_bounds(struct budget *b, uint32_t cpu_percent, uint32_t probe_percent);
/* One period of wall_ns went by, in which beylad took cpu_ns and its probes took probe_ns. Returns the step from now on. */
enum budget_step budget_period(struct budget *b, uint64_t wall_ns, uint64_t cpu_ns, uint64_t probe_ns);
const char *budget_step_name(enum budget_step s);  /* "everything", "heads only", "metrics only", "nothing" */
