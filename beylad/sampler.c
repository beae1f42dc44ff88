/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/sampler.h"

#include "libtelemetry/cursor.h"

void sampler_init(struct sampler *s, enum sampler_kind kind, double ratio) {
        ratio = ratio > 0 ? TEL_MIN(ratio, 1.0) : 0;       /* NaN counts as 0 */
        s->kind = kind;
        s->bound = (uint64_t)(ratio * (double)(1ull << 63));
}

static bool ratio_decide(const struct sampler *s, const uint8_t *trace_id) {
        return tel_be64_get(trace_id + 8) >> 1 < s->bound;
}

void sampler_rules(const struct sampler *s, struct probe_inject_rules *ret) {
        bool ratio = s->kind == SAMPLER_RATIO || s->kind == SAMPLER_PARENT_RATIO, on = s->kind == SAMPLER_ALWAYS_ON || s->kind == SAMPLER_PARENT_ON;
        ret->bound = s->bound;
        ret->root = ratio ? PROBE_ROOT_RATIO : on ? PROBE_ROOT_ON : PROBE_ROOT_OFF;
        ret->parent_based = s->kind == SAMPLER_PARENT_ON || s->kind == SAMPLER_PARENT_OFF || s->kind == SAMPLER_PARENT_RATIO;
}

bool sampler_decide(const struct sampler *s, const uint8_t trace_id[static 16], const bool *parent_sampled) {
        switch (s->kind) {
        case SAMPLER_ALWAYS_ON:
                return true;
        case SAMPLER_ALWAYS_OFF:
                return false;
        case SAMPLER_RATIO:
                return ratio_decide(s, trace_id);
        case SAMPLER_PARENT_ON:
                return parent_sampled ? *parent_sampled : true;
        case SAMPLER_PARENT_OFF:
                return parent_sampled ? *parent_sampled : false;
        case SAMPLER_PARENT_RATIO:
                return parent_sampled ? *parent_sampled : ratio_decide(s, trace_id);
        case SAMPLERS:
                break;
        }
        assert(false);                             /* settings know no other name */
        return false;
}
