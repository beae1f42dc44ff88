/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Environment: the names that users of Beyla and of OpenTelemetry know, over the document. Names come as BEYLA_X and OTEL_EBPF_X; the
 * latter wins where both are set. A name with an empty value counts as not set, but for OPEN_PORT: there it selects no port.
 * May touch: the strings it is given. */
#include "beylad/settings.h"

/* Heard for each name that begins with BEYLA_ or OTEL_EBPF_, or that OpenTelemetry's exporters know, and has no effect here. */
typedef void (*environment_warn_fn)(void *ctx, const char *name, const char *why);

/* The document that the environment names (CONFIG_PATH), or NULL. Borrowed from env. */
const char *environment_config_path(char *const *env);
/* Changes what env says, and checks it. s is loaded, not finished. env ends with NULL; warn may be NULL.
 * Returns 0, -EINVAL (reterr, TEL_CONFIG_ERROR_MAX bytes: "environment BEYLA_X: expected ..., got ...") or -ENOMEM; s may be half changed. */
int environment_apply(char *const *env, struct settings *s, environment_warn_fn warn, void *ctx, char *reterr);
/* The section of docs/config-beylad.md. Returns 0 or -EIO. */
int environment_print_markdown(FILE *to);
/* A glob of Beyla's (AUTO_TARGET_EXE: * ? [] {a,b}, and \) as a POSIX extended regular expression that means the same for a whole text.
 * Returns 0, -EINVAL (a bracket or brace is open) or -ENAMETOOLONG. */
int environment_glob(const char *glob, char *out, size_t n);
