/* SPDX-License-Identifier: Apache-2.0 */
#include "collectord/spool/ledger.h"

const char *drop_reason_name(enum drop_reason r) {
        static const char *const names[DROP_REASONS] = {
                [DROP_BUFFER_FULL] = "buffer_full", [DROP_MAX_LAG] = "max_lag", [DROP_MAX_AGE] = "max_age", [DROP_REFUSED] = "refused",
                [DROP_TOO_LARGE] = "too_large", [DROP_GIVE_UP] = "give_up", [DROP_STOP] = "stop", [DROP_REMOVED] = "removed", [DROP_REJECTED] = "rejected",
        };
        assert(r < DROP_REASONS);
        return names[r];
}

uint64_t ledger_sum(const struct ledger *l) {
        uint64_t sum = l->filtered + l->delivered + l->rejected + l->in_flight + l->waiting;
        for (size_t i = 0; i < DROP_REASONS; i++)
                sum += l->dropped[i];
        return sum;
}

void losses_add(struct losses *l, const struct loss *loss) {
        for (size_t i = l->n; i > 0; i--) {
                struct loss *line = &l->lines[(l->first + i - 1) % LOSS_LINES];
                if (line->signal != loss->signal || line->reason != loss->reason || strcmp(line->destination, loss->destination) != 0 ||
                    strcmp(line->text, loss->text) != 0)
                        continue;
                if (loss->last_ns > line->last_ns && loss->last_ns - line->last_ns > LOSS_MERGE_NS)
                        break;
                line->last_ns = TEL_MAX(line->last_ns, loss->last_ns);
                line->received_min_ns = TEL_MIN(line->received_min_ns, loss->received_min_ns);
                line->received_max_ns = TEL_MAX(line->received_max_ns, loss->received_max_ns);
                line->records += loss->records;
                line->items += loss->items;
                line->bytes += loss->bytes;
                return;
        }
        if (l->n == LOSS_LINES) {
                l->first = (l->first + 1) % LOSS_LINES;
                l->n--;
        }
        l->lines[(l->first + l->n++) % LOSS_LINES] = *loss;
}

const struct loss *losses_get(const struct losses *l, size_t i) {
        return i < l->n ? &l->lines[(l->first + i) % LOSS_LINES] : NULL;
}
