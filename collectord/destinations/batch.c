/* SPDX-License-Identifier: Apache-2.0 */
#include "collectord/destinations/batch.h"

enum batch_cause batch_due(const struct reader *r, const struct destination_settings *d, uint64_t now_ns, uint64_t *ret_due_ns) {
        uint64_t waiting = reader_ledger(r)->waiting, oldest = reader_oldest_ns(r);
        *ret_due_ns = UINT64_MAX;
        if (oldest == 0)
                return BATCH_NONE;
        if (waiting >= (uint64_t)d->batch.items || (d->batch.max_bytes && reader_waiting_bytes(r) >= d->batch.max_bytes))
                return BATCH_SIZE;
        uint64_t due = tel_add_sat(oldest, settings_batch_timeout(d, reader_signal(r)));
        if (due <= now_ns)
                return BATCH_TIMEOUT;
        *ret_due_ns = due;
        return BATCH_NONE;
}
