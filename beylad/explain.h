/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Explain: what can be seen of one process, by which technique, and what not and why. For --explain and the verb.
 * May touch: /proc and the executables it names; reads the parts it is given. */
#include <stdio.h>

#include "beylad/probes/inject.h"
#include "beylad/probes/probes.h"
#include "beylad/process.h"
#include "beylad/selection.h"

struct explain_options {
        struct probes *probes;                     /* NULL: they could not be loaded, why says why */
        const char *why;
        const struct selection *selection;
        const struct process_options *process;
        const char *inject_cgroup;                 /* the setting; "": off */
        const struct inject *inject;               /* NULL: nothing is attached, or not by this process */
};

/* Lines "yes|no  what: how or why". Returns 0, or -errno when there is no such process (said on `to`). */
int explain_process(uint32_t pid, const struct explain_options *options, bool json, FILE *to);
