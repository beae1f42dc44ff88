/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Report: the figures of the daemon as JSON objects. The page, /api/v1 and the control socket all show these, so
 * a figure has one source.
 * Nothing secret is in them: URLs come without user, password and query; headers and auth not at all. Text from
 * outside (errors, producers' words) is valid UTF-8 without control characters, so it may be printed on a
 * terminal.
 * May touch: reads the daemon, stats, the clock and /proc/self. */
#include <jansson.h>

#include "collectord/daemon.h"

#define REPORT_RATE_WINDOW_NS (10 * TEL_NS_PER_S)  /* rates are over at least so long, where somebody asks so often */
#define REPORT_URL_MAX 512                         /* bytes of a URL as it is shown; a longer one is cut */
#define REPORT_TIME_MAX 32                         /* bytes of "2026-11-21T07:42:21.123Z" and more */

/* All return a new reference, or NULL: out of memory. docs/control.md lists the members. */
json_t *report_status(const struct daemon *d, uint64_t now_ns);        /* an object */
json_t *report_destinations(const struct daemon *d, uint64_t now_ns);  /* an array of objects, in the order of the settings */
json_t *report_sources(const struct daemon *d, uint64_t now_ns);       /* an array: listeners, then producers */
json_t *report_lost(const struct daemon *d, uint64_t since_ns);        /* an array, oldest first: losses at or after since_ns */

struct report_process {                            /* 0: the kernel did not say */
        uint64_t resident_bytes, open_fds, max_fds;
        uint64_t cpu_ns;
};
void report_process(struct report_process *ret);

/* Items given up, for every reason; what the receiver rejected is beside it. */
uint64_t report_dropped(const struct ledger *l);
/* url without what may be secret: user, password, query, fragment. */
const char *report_url(char out[static REPORT_URL_MAX], const char *url);
/* "2026-11-21T07:42:21.123Z" for a time of the daemon's clock, as the wall clock has it now. */
const char *report_time(char out[static REPORT_TIME_MAX], uint64_t daemon_ns);
