/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Daemon: builds the parts, joins them with callbacks, runs the loop, ends them in reverse.
 *
 *     probes (ring) -> discover (whose event?) -> tracer -> output
 *
 * May touch: everything. */
#include "beylad/arguments.h"

/* Runs until SIGTERM or SIGINT. Returns the exit status: 0, or 1 after saying why. */
int daemon_run(const struct arguments *arguments);
/* --replay: the recording through the tracer, spans on stdout. --explain: what can be observed of a process. Exit status likewise. */
int daemon_replay(const struct arguments *arguments);
int daemon_explain(const struct arguments *arguments);
