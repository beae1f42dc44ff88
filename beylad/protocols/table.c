/* SPDX-License-Identifier: Apache-2.0 */
/* Table: the protocols, in the order of trial: those whose first bytes are told for certain come first. */
#include "beylad/protocols/protocol.h"

const struct protocol *const protocol_table[] = { &protocol_http1, &protocol_http2, &protocol_redis, &protocol_postgres, NULL };
