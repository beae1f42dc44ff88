/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/clock.h"

#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static uint64_t read_clock(clockid_t id) {
        struct timespec t;
        clock_gettime(id, &t);
        return (uint64_t)t.tv_sec * TEL_NS_PER_S + (uint64_t)t.tv_nsec;
}

uint64_t clock_boot_ns(void) {
        return read_clock(CLOCK_BOOTTIME);
}

int64_t clock_real_offset_ns(void) {
        uint64_t tightest = UINT64_MAX;
        int64_t offset = 0;
        for (int i = 0; i < 3; i++) {
                uint64_t before = clock_boot_ns(), real = read_clock(CLOCK_REALTIME), after = clock_boot_ns();
                if (after - before < tightest) {
                        tightest = after - before;
                        offset = (int64_t)(real - (before + tightest / 2));
                }
        }
        return offset;
}

int clock_jump_fd(void) {
        int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
        if (fd < 0)
                return -errno;
        clock_jump_rearm(fd);
        return fd;
}

void clock_jump_rearm(int fd) {
        uint64_t expirations;
        struct itimerspec never = { .it_value = { .tv_sec = (time_t)1 << 40 } };
        (void)!read(fd, &expirations, sizeof(expirations));        /* ECANCELED: that is the jump */
        timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL);
}
