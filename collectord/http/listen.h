/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Listen: a listening TCP socket from ADDRESS:PORT, without asking any resolver.
 * May touch: the one socket it makes or is given. */
#include "libtelemetry/base.h"

/* "127.0.0.1:4318", "[::1]:4318", "localhost:4318" (127.0.0.1), ":4318" (every address, IPv6 and IPv4). fd: a listening socket that was handed
 * over, or -1. name: of the listener, for the error text. The socket is close-on-exec and non-blocking.
 * Returns 0 or -errno; reterr (n bytes) is "listen NAME: ADDRESS: why". */
int http_listen(const char *name, const char *address, int fd, int *ret_fd, char *reterr, size_t n);
/* The port of a bound socket; 0 when it has none. */
uint16_t http_listen_port(int fd);
