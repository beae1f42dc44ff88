/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Unix listen: the listening sockets of the daemons.
 * May touch: the path it is given. */
#include "libtelemetry/base.h"

#define TEL_UNIX_LISTEN_ERROR_MAX 256              /* bytes of an error text, with its NUL */

/* A non-blocking listening stream socket at path, with mode. A stale socket there is replaced; one that answers is not.
 * Returns the descriptor, or -errno with reterr (TEL_UNIX_LISTEN_ERROR_MAX) naming path and reason. */
int tel_unix_listen(const char *path, unsigned mode, char *reterr);
