/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Merge: adjacent resources of a joined body that are equal byte for byte become one, and so do equal scopes inside; the items keep their order.
 * An exporter that sends a few spans at a time repeats its Resource with each: to a hub that is most of the bytes.
 * The pieces stay where they are; only heads with new lengths are written.
 * May touch: memory only. Source: protobuf encoding (lengths), opentelemetry-proto (resource_x, scope_x). */
#include "collectord/destinations/body.h"

/* Rewrites the pieces of b, which are whole resource_x fields of checked requests. What is not in the usual order of fields, or has fields outside the
 * schema around its items, is left as it is. Returns 0, or -ENOMEM with b unchanged. */
int merge_otlp(struct body *b);
