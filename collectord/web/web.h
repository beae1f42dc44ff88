/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Web: the daemon's own HTTP. /metrics, /-/ready, /-/healthy, /-/reload, /api/v1/status, and / with the figures of status.
 * May touch: its HTTP server; reads the daemon. */
#include "collectord/daemon.h"

int web_new(struct daemon *d, const char *address, int fd, struct web **ret, char *reterr);
uint16_t web_port(const struct web *w);
struct web *web_free(struct web *w);
