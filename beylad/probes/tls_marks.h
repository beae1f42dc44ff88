/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* TLS marks: which TLS library is built into a file whose functions have no names, by what such a library leaves among its constants. A word for
 * people: nothing is probed by it. May touch: the descriptor it is given. */
#include "libtelemetry/base.h"

/* The name of the library ("BoringSSL"), or NULL: none of those we know left a mark. Reads at most *left bytes from fd and takes what it read off
 * that, so that several files can share a bound. The file may be anything and may change meanwhile. */
const char *tls_marks_find(int fd, uint64_t *left);
