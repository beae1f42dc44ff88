/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Clock: events carry CLOCK_BOOTTIME, telemetry carries real time. One offset joins them, so that spans of one host keep their order.
 * May touch: the clocks. */
#include "libtelemetry/base.h"

#define CLOCK_SAMPLE_NS (10 * TEL_NS_PER_S)        /* between two looks at the offset: NTP slews by at most 5 us in that time */

uint64_t clock_boot_ns(void);
/* Real time minus boot time, from the tightest of three pairs of readings. */
int64_t clock_real_offset_ns(void);
/* A descriptor that becomes readable when somebody sets the clock; clock_jump_rearm() makes it wait for the next time. -errno: none. */
int clock_jump_fd(void);
void clock_jump_rearm(int fd);
