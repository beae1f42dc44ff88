/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Linger: an answer that was sent before the request was whole must still be read. Closing a socket with unread bytes resets it, and the
 * reset overtakes the answer; so the peer's remaining bytes are read and dropped for a moment, as nginx does (lingering_close).
 * May touch: the sockets it is given, a timer for each. */
#include <uv.h>

#include "libtelemetry/base.h"

#define LINGER_MAX 32                              /* sockets at once; more are closed at once: a courtesy must not hold descriptors */
#define LINGER_NS (2 * TEL_NS_PER_S)               /* nginx waits 5 s for the next byte; a peer that was refused has no claim to more */
#define LINGER_BYTES_MAX (64u << 20)               /* dropped of one socket */

struct lingering;
struct lingers {                                   /* zeroed to begin */
        struct lingering *first;
        size_t n;
};

/* Sends the end of our side and reads fd to its end; closes it whatever happens. Takes fd. */
void linger_begin(struct lingers *all, uv_loop_t *loop, int fd);
/* Closes all now; the handles free themselves in the next turn of the loop and no longer know all. */
void lingers_done(struct lingers *all);
