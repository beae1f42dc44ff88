/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Retry: when to try again, from outcomes and the time. No timer and no clock.
 * May touch: its struct.
 * Source: OTLP specification, "OTLP/HTTP Throttling" and "All Other Responses". */
#include "libtelemetry/base.h"

struct retry {
        uint64_t initial_ns, max_ns;               /* settings */
        uint64_t interval_ns;                      /* the next pause before jitter; 0: the last attempt succeeded */
        uint64_t until_ns;                         /* no attempt before */
};

/* An attempt failed: sets until_ns to now plus the interval with jitter, or to now plus after_ns when the receiver named one
 * (0: it did not; never more than TEL_RETRY_AFTER_MAX_NS), and lengthens the interval by half. random: any number. A failure while a pause is already under
 * way (several requests were in flight) changes nothing but a longer after_ns. */
void retry_failed(struct retry *r, uint64_t now_ns, uint64_t after_ns, uint32_t random);
void retry_succeeded(struct retry *r);
