/* SPDX-License-Identifier: Apache-2.0 */
/* Sends one span and one log line to collectord. docs/library.md goes through it. */
#include <libtelemetry/telemetry.h>
#include <stdio.h>
#include <time.h>

static uint64_t now_ns(void) {
        struct timespec ts;
        clock_gettime(CLOCK_REALTIME, &ts);
        return (uint64_t)ts.tv_sec * TEL_NS_PER_S + (uint64_t)ts.tv_nsec;
}

int main(void) {
        struct tel_client *c = tel_client_new(&(struct tel_client_options){ .name = "backup", .version = "1.0" });
        if (!c)
                return perror("telemetry"), 1;
        const struct tel_attribute disk[] = { { "disk", "/dev/sda1" }, { "job", "nightly" } };
        uint64_t start = now_ns();
        /* ... the work ... */
        tel_client_span(c, &(struct tel_span){ .service = "backup", .name = "copy", .kind = 1, .start_ns = start, .end_ns = now_ns(),
                                               .attributes = disk, .n_attributes = 2 });
        tel_client_log(c, &(struct tel_log){ .service = "backup", .body = "disk full", .level = "error", .time_ns = now_ns(),
                                             .attributes = disk, .n_attributes = 2 });
        int r = tel_client_flush(c, 2000);         /* milliseconds */
        struct tel_client_stats s;
        tel_client_get_stats(c, &s);
        fprintf(stderr, "%s: %ju of %ju frames acknowledged %s%s\n", r < 0 ? strerror(-r) : "done", (uintmax_t)s.acknowledged,
                (uintmax_t)s.acknowledged + s.waiting_frames + s.dropped_frames, s.last_error_text,
                s.connect_error ? strerror(s.connect_error) : "");
        tel_client_free(c);
        return r < 0;
}
