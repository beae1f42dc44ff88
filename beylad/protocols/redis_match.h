/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Redis match: Redis told from others by its first bytes. Lines of words are what many protocols send (POP3, IRC, NATS), and an array of
 * strings may be a command or an answer: only what can be nothing else counts.
 * May touch: memory only. */
#include "beylad/protocols/protocol.h"

/* struct protocol's match. */
enum protocol_match redis_match(const uint8_t *data, size_t n);
