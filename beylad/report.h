/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Report: what the verbs of the control socket show, as text for people or as one JSON object a line.
 * May touch: reads the parts it is given, /proc/self; writes to the stream. */
#include <stdio.h>

#include "beylad/budget.h"
#include "beylad/discover.h"
#include "beylad/output.h"
#include "beylad/probes/inject.h"
#include "beylad/probes/probes.h"
#include "beylad/settings.h"
#include "beylad/tracer.h"

struct report {
        const struct settings *settings;
        const struct budget *budget;
        struct discover *discover;
        const struct probes *probes;
        const struct tls_probes *tls;              /* NULL: not there */
        const struct inject *inject;               /* NULL: not wanted */
        struct tracer_stats tracer;
        struct probe_counters counters;
        struct output_stats output;
};

void report_status(const struct report *r, bool json, FILE *to);
/* Every counter, "name value" lines; docs/beylad.md describes them. */
void report_stats(const struct report *r, bool json, FILE *to);
/* A line for each observed process. */
void report_processes(const struct report *r, bool json, FILE *to);
