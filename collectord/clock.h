/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Clock: the daemon's own time. It starts at the realtime of the start and then runs with CLOCK_BOOTTIME, so ages, batches and retries never
 * notice when somebody sets the wall clock, and a sleep counts as time.
 * May touch: the clocks. Only daemon code at the edges calls it; everything below takes now_ns. */
#include "libtelemetry/base.h"

void clock_start(void);
/* Nanoseconds since 1970 as the daemon counts them. */
uint64_t clock_now_ns(void);
/* A time of the daemon as the wall clock has it now: for showing only. */
uint64_t clock_wall_ns(uint64_t daemon_ns);
/* Realtime minus the daemon's time: how far the wall clock was set since the start. */
int64_t clock_skew_ns(void);
