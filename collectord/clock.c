/* SPDX-License-Identifier: Apache-2.0 */
#include <time.h>

#include "collectord/clock.h"

static uint64_t base_ns;                           /* realtime minus boottime at the start */

static uint64_t read_ns(clockid_t id) {
        struct timespec t;
        clock_gettime(id, &t);
        return (uint64_t)t.tv_sec * TEL_NS_PER_S + (uint64_t)t.tv_nsec;
}

void clock_start(void) {
        base_ns = read_ns(CLOCK_REALTIME) - read_ns(CLOCK_BOOTTIME);
}

uint64_t clock_now_ns(void) {
        return base_ns + read_ns(CLOCK_BOOTTIME);
}

int64_t clock_skew_ns(void) {
        return (int64_t)(read_ns(CLOCK_REALTIME) - clock_now_ns());
}

uint64_t clock_wall_ns(uint64_t daemon_ns) {
        return daemon_ns + (uint64_t)clock_skew_ns();
}
