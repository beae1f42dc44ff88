/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Control: the line socket. One verb a line; readable text back, or NDJSON after the word `json`.
 * May touch: its listening Unix socket and its connections; reads the daemon, and asks it to reload. */
#include "collectord/daemon.h"

#define CONTROL_LINE_MAX 4096                      /* bytes of one command */
#define CONTROL_CONNECTIONS_MAX 32                 /* people and scripts, not traffic */
#define CONTROL_QUEUE_MAX (256u << 10)             /* bytes a peer may leave unread before its next line waits, or its tap pauses */
#define CONTROL_BYTES_MAX (8u << 20)               /* of all taps together: each may queue CONTROL_QUEUE_MAX, and a whole record as JSON now and then */

/* path: absolute; a stale socket there is replaced. fd: handed over by systemd, or -1. Returns 0 or -errno; reterr (256 bytes) names the path and why. */

int control_new(struct daemon *d, const char *path, int fd, struct control **ret, char *reterr);
/* Records of signal became visible: live taps hear of them. */
void control_wake(struct control *c, enum tel_signal signal);
struct control *control_free(struct control *c);
