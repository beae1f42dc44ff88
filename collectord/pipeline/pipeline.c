/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "collectord/pipeline/pipeline.h"

struct submission {
        struct spools *spools;
        uint64_t now_ns;
        struct record head;                        /* what its records share; last, for its body is open-ended */
};

static int on_record(void *ctx, const struct tel_otlp_record *record, uint8_t **ret_space) {
        struct submission *s = ctx;
        struct record head = s->head;
        if (record->bytes > UINT32_MAX || record->items > UINT32_MAX)
                return -EMSGSIZE;
        head.body_bytes = (uint32_t)record->bytes;
        head.items = (uint32_t)record->items;
        head.time_min_ns = record->time_min_ns;
        head.time_max_ns = record->time_max_ns;
        return spool_reserve(s->spools, &head, s->now_ns, ret_space);
}

static const char *reason(int r) {
        switch (r) {
        case -EAGAIN:
                return "the buffer is full and every destination keeps up: come back";
        case -EMSGSIZE:
                return "an item is larger than the buffer";
        case -ENOMEM:
                return "out of memory";
        default:
                return "refused";
        }
}

int pipeline_submit(struct pipeline *p, enum tel_signal signal, const uint8_t *body, size_t n, const struct origin *origin, uint64_t now_ns,
                    struct tel_otlp_result *ret) {
        static const struct tel_otlp_limits limits = { .items_max = RECORD_ITEMS_MAX, .bytes_max = RECORD_BYTES_MAX };
        struct submission s = {
                .spools = p->spools, .now_ns = now_ns,
                .head = { .received_ns = now_ns, .signal = (uint8_t)signal, .encoding = RECORD_OTLP, .source = origin->source,
                          .producer = origin->producer },
        };
        /* What can never fit must not empty the buffer in the attempt. An eighth for heads and page ends. */
        if (n + n / 8 > spools_budget(p->spools)->limit) {
                *ret = (struct tel_otlp_result){ 0 };
                snprintf(ret->error, sizeof(ret->error), "%s", reason(-EMSGSIZE));
                return -EMSGSIZE;
        }
        spool_begin(p->spools, signal);
        int r = tel_otlp_cut(signal, body, n, p->identity.attributes, p->identity.n, &limits, on_record, &s, ret);
        if (r < 0) {
                spool_abort(p->spools);
                ret->records = ret->items = 0;     /* nothing was handed on after all */
                if (*ret->error == '\0' || r == -EAGAIN || r == -ENOMEM)       /* else it says which item or bound */
                        snprintf(ret->error, sizeof(ret->error), "%s", reason(r));
                return r;
        }
        if (ret->items == 0 && ret->rejected > 0) {        /* what is left are metrics without points: the request is malformed as a whole */
                spool_abort(p->spools);
                ret->records = 0;
        } else
                spool_commit(p->spools, now_ns);
        return 0;
}

unsigned pipeline_pace_ms(const struct pipeline *p, uint64_t now_ns) {
        size_t lag = spools_lag(p->spools, now_ns);
        return lag <= PIPELINE_FREE_BYTES ? 0 : (unsigned)TEL_MIN(1 + (lag - PIPELINE_FREE_BYTES) / (1u << 20), (size_t)PIPELINE_PACE_MAX_MS);
}
