/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Verbs: what the control socket understands. A line in, an answer out; who carries them is not known here.
 * docs/control.md describes each.
 * May touch: reads the daemon; the log level; asks the daemon to reload. */
#include <stdio.h>

#include "collectord/control/tap.h"
#include "collectord/daemon.h"

#define VERBS_WORDS_MAX 64                         /* of a line: a tap with every option and a full filter has fewer */
#define VERBS_TAP 1                                /* verbs_run(): the line asks for a tap, which the caller runs */

/* What `tap` was asked for. */
struct tap_request {
        bool json, follow, back;
        uint64_t signals;                          /* bits of enum tel_signal */
        uint64_t back_ns;                          /* with back: UINT64_MAX: everything the buffer holds */
        uint64_t lines;                            /* UINT64_MAX: no bound */
        struct tap_filter filter;                  /* points into itself: never copied */
};

/* Runs one line, without its newline; it is cut up in place. Everything, errors too, is written to out, but not
 * the empty line behind it.
 * Returns 0, or VERBS_TAP: *ret_tap is filled and nothing was written. */
int verbs_run(struct daemon *d, char *line, uint64_t now_ns, FILE *out, struct tap_request *ret_tap);

/* Cuts a line into words at blanks. "..." and '...' hold a word together, and \ before a character takes it as it
 * is, but not inside '...'.
 * Returns how many, -E2BIG (more than max) or -EINVAL (a quote is open). The words are in line. */
int verbs_split(char *line, char **words, size_t max);
