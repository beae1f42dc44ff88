/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Pipeline: what happens to a request on its way from a door into the spools: checked, cut into records, given its identity.
 * A request becomes visible to the readers as a whole, or not at all.
 * May touch: memory only; the caller passes the time in. */
#include "collectord/pipeline/identity.h"
#include "collectord/spool/spool.h"
#include "libtelemetry/otlp.h"

struct pipeline {
        struct spools *spools;                     /* borrowed */
        struct identity identity;                  /* embedded; replaced at reload */
};

struct origin {
        uint8_t source;                            /* enum source_kind */
        uint32_t producer;                         /* which connection; for `tap` and the page */
};

/* Submits an Export*ServiceRequest of signal. ret is always filled: items handed on, items rejected, the error text.
 * Returns 0 (see ret->rejected for a partial success; when every item was rejected nothing is kept), -EBADMSG (malformed), -EMSGSIZE (can never
 * fit), -EAGAIN (the spools are full: come back), -ENOMEM. */
int pipeline_submit(struct pipeline *p, enum tel_signal signal, const uint8_t *body, size_t n, const struct origin *origin, uint64_t now_ns,
                    struct tel_otlp_result *ret);

/* How long a door should leave its peers unread, in ms, because readers that keep up cannot send as fast as it takes in; 0: go on. Memory then
 * stays near PIPELINE_FREE_BYTES instead of filling the buffer, which is for outages. A destination that fails, or works off an outage, does not count. */
unsigned pipeline_pace_ms(const struct pipeline *p, uint64_t now_ns);
#define PIPELINE_FREE_BYTES (4u << 20)             /* waiting for one reader: some requests of each destination */
#define PIPELINE_PACE_MAX_MS 20                    /* a slow destination costs the doors no more than that a turn */
