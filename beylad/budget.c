/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/budget.h"

/* Whether part of wall is above percent, in hundredths of the bound: 100 is the bound itself. */
static bool is_above(uint64_t part_ns, uint64_t wall_ns, uint32_t percent, uint32_t hundredths) {
        return percent > 0 && part_ns / 1000 * 100 > wall_ns / 1000 * percent / 100 * hundredths;
}

enum budget_step budget_bounds(struct budget *b, uint32_t cpu_percent, uint32_t probe_percent) {
        b->cpu_percent = cpu_percent;
        b->probe_percent = probe_percent;
        b->good = 0;
        if (cpu_percent == 0 && probe_percent == 0)
                b->step = BUDGET_FULL;
        return b->step;
}

enum budget_step budget_period(struct budget *b, uint64_t wall_ns, uint64_t cpu_ns, uint64_t probe_ns) {
        if (wall_ns == 0)
                return b->step;
        if (is_above(cpu_ns, wall_ns, b->cpu_percent, 100) || is_above(probe_ns, wall_ns, b->probe_percent, 100)) {
                b->good = 0;
                b->step += b->step < BUDGET_DETACHED;
        } else if (is_above(cpu_ns, wall_ns, b->cpu_percent, 50) || is_above(probe_ns, wall_ns, b->probe_percent, 50))
                b->good = 0;
        else if (b->step > BUDGET_FULL && ++b->good >= BUDGET_BACK_PERIODS) {
                b->good = 0;
                b->step--;
        }
        return b->step;
}

const char *budget_step_name(enum budget_step s) {
        static const char *const names[BUDGET_STEPS] = {
                [BUDGET_FULL] = "everything", [BUDGET_HEADS] = "heads only", [BUDGET_METRICS] = "metrics only", [BUDGET_DETACHED] = "nothing",
        };
        return names[s];
}
