/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Batch: when what waits in a reader is worth a request. No timer and no clock.
 * May touch: nothing; a rule over numbers. */
#include "collectord/settings.h"
#include "collectord/spool/reader.h"

enum batch_cause {
        BATCH_NONE,                                /* not yet */
        BATCH_SIZE,                                /* enough items or bytes */
        BATCH_TIMEOUT,                             /* the oldest has waited long enough */
};

/* Whether a batch is due now. When not, *ret_due_ns is when it will be by time alone (UINT64_MAX: nothing waits). */
enum batch_cause batch_due(const struct reader *r, const struct destination_settings *d, uint64_t now_ns, uint64_t *ret_due_ns);
