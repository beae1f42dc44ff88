/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Sampler: whether a trace is exported. The names and the argument of OTEL_TRACES_SAMPLER are read by settings.
 * May touch: its struct.
 * Source: OpenTelemetry specification 1.50, "Trace SDK", sections "ParentBased" and "Requirements for TraceIdRatioBased sampler algorithm":
 * deterministic by the trace id, and a higher ratio takes all that a lower one takes. The algorithm itself it leaves open; ours is the one of
 * the Go SDK (and so of Beyla), which decides as those of Python and Ruby do: the low 64 bits of the id, big-endian, below ratio * 2^64. */
#include "beylad/probes/event.h"
#include "beylad/settings.h"

struct sampler {
        enum sampler_kind kind;
        uint64_t bound;                            /* of the ratio kinds: ids whose upper 63 of the low 64 bits are below it */
};

/* ratio below 0 counts as 0, above 1 as 1; only the ratio kinds look at it. */
void sampler_init(struct sampler *s, enum sampler_kind kind, double ratio);
/* The same, for the kernel side. */
void sampler_rules(const struct sampler *s, struct probe_inject_rules *ret);
/* parent_sampled: the parent's flag, NULL: the span is a root. */
bool sampler_decide(const struct sampler *s, const uint8_t trace_id[static 16], const bool *parent_sampled);
