/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Selection: which processes are observed, ready to be asked for each new listener and executable.
 * A process is observed when it listens on a selected port or its executable is selected, and is not excluded.
 * May touch: memory only. */
#include "beylad/settings.h"

struct selection;

/* s is finished; nothing of it is kept. Returns 0, -EINVAL (a text that settings_check() refuses) or -ENOMEM. */
int selection_new(const struct settings *s, struct selection **ret);
struct selection *selection_free(struct selection *l);
/* Whether anything can be observed at all. */
bool selection_any(const struct selection *l);
bool selection_port(const struct selection *l, uint32_t port);
/* exe: its path. */
bool selection_executable(const struct selection *l, const char *exe);
bool selection_excluded(const struct selection *l, const char *exe);
