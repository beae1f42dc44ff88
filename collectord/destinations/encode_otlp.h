/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* OTLP out: a batch of records -> one Export*ServiceRequest. Records are joined by concatenation; nothing is decoded.
 * May touch: memory only. */
#include "collectord/destinations/body.h"
#include "collectord/settings.h"
#include "collectord/spool/reader.h"

struct encoder;                                    /* the compressor and a scratch buffer, shared by all destinations */
struct encoder *encoder_new(struct tel_budget *egress);
struct encoder *encoder_free(struct encoder *e);

/* Rules of settings: drop, encoding, compression. overdraw: the body is made even when the egress budget has no room, and not charged. Returns 0, -ENOBUFS (over the egress budget: try later) or -ENOMEM.
 * ret->items may be 0: everything was filtered, and there is nothing to send. */
int encode_otlp(struct encoder *e, const struct destination_settings *settings, const struct batch *batch, bool overdraw,
                struct body *ret);

/* Halves the only record of a batch by its items. Returns 0, -EINVAL (one item: it cannot be cut), -ENOBUFS or -ENOMEM. The halves are beside the egress budget. */
int encode_otlp_halves(const struct batch *batch, struct tel_buf **ret_first, uint64_t *ret_items_first, struct tel_buf **ret_second);

/* What a 2xx answer says: rejected items and the message. A body that is no Export*ServiceResponse (JSON or protobuf) means full success. */
void decode_otlp_answer(const uint8_t *answer, size_t n, uint64_t *ret_rejected, char *ret_message, size_t message_size);
