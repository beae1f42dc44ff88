/* SPDX-License-Identifier: Apache-2.0 */
#include "collectord/destinations/retry.h"

#include "libtelemetry/retry_after.h"

void retry_failed(struct retry *r, uint64_t now_ns, uint64_t after_ns, uint32_t random) {
        after_ns = TEL_MIN(after_ns, TEL_RETRY_AFTER_MAX_NS);
        if (now_ns < r->until_ns) {
                r->until_ns = TEL_MAX(r->until_ns, now_ns + after_ns);
                return;
        }
        r->interval_ns = r->interval_ns ? TEL_MIN(r->interval_ns + r->interval_ns / 2, r->max_ns) : r->initial_ns;
        /* Between half and one and a half of the interval, so that a fleet does not come back in one instant. */
        uint64_t jittered = r->interval_ns / 2 + r->interval_ns / 1024 * (random % 1024);
        r->until_ns = now_ns + TEL_MAX(jittered, after_ns);
}

void retry_succeeded(struct retry *r) {
        r->interval_ns = 0;
        r->until_ns = 0;
}
