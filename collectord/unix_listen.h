/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Unix listen: the listening sockets of frames and control.
 * May touch: the path it is given. */
#include "libtelemetry/base.h"

/* A non-blocking listening stream socket at path, with mode. A stale socket there is replaced; one that answers is not.
 * Returns the descriptor, or -errno with reterr (256 bytes) naming path and reason. */
int unix_listen(const char *path, unsigned mode, char *reterr);
