/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Retry after: how long a receiver asks to be left alone.
 * May touch: nothing. It needs libcurl for dates: part of telemetry_daemon.
 * Source: RFC 9110, section 10.2.3. */
#include "libtelemetry/base.h"

#define TEL_RETRY_AFTER_MAX_NS (10 * 60 * TEL_NS_PER_S)        /* a receiver that asks for more is asked again sooner: it may have been restarted */

/* The value of a Retry-After header, seconds or an HTTP date, as a wait from real_ns on, at most TEL_RETRY_AFTER_MAX_NS. 0: malformed, negative
 * or past. */
uint64_t tel_retry_after(const char *value, uint64_t real_ns);
