/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Retry: when to try again, from outcomes and the time. No timer and no clock.
 * May touch: its struct.
 * Source: OTLP specification, "OTLP/HTTP Throttling" and "All Other Responses"; RFC 9110 section 10.2.3 (Retry-After). */
#include "libtelemetry/base.h"

struct retry {
        uint64_t initial_ns, max_ns;               /* settings */
        uint64_t interval_ns;                      /* the next pause before jitter; 0: the last attempt succeeded */
        uint64_t until_ns;                         /* no attempt before */
};

/* An attempt failed: sets until_ns to now plus the interval with jitter, or to now plus after_ns when the receiver named one
 * (0: it did not; never more than RETRY_AFTER_MAX_NS), and lengthens the interval by half. random: any number. A failure while a pause is already under
 * way (several requests were in flight) changes nothing but a longer after_ns. */
void retry_failed(struct retry *r, uint64_t now_ns, uint64_t after_ns, uint32_t random);
void retry_succeeded(struct retry *r);
#define RETRY_AFTER_MAX_NS (10 * 60 * TEL_NS_PER_S) /* a receiver that asks for more is asked again sooner: it may have been restarted */

/* The value of a Retry-After header: seconds or an HTTP date, relative to wall_ns (realtime). 0: malformed, negative or past. */
uint64_t retry_after_parse(const char *value, uint64_t wall_ns);
