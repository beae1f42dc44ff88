/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Arguments: the command line, and the settings that come out of it, the environment and the document.
 * May touch: stdout and stderr while the command line is read; the environment and the document. */
#include "beylad/environment.h"

enum arguments_action {
        ARGUMENTS_RUN, ARGUMENTS_CHECK, ARGUMENTS_PRINT_CONFIG, ARGUMENTS_PRINT_DOCS, ARGUMENTS_PRINT_SCHEMA, ARGUMENTS_VERSION,
        ARGUMENTS_HELP, ARGUMENTS_BAD,
};

/* What daemon_run() is given; it loads the settings itself, for the start as for each reload. Texts are borrowed from argv. */
struct arguments {
        enum arguments_action action;
        const char *config_path;                   /* NULL: BEYLA_CONFIG_PATH of the environment, else the built-in document */
        int log_level;                             /* -1: as the document says; else from --log-level */
        int printer;                               /* -1: as the document says; else enum printer, from --print */
        const char *record_path;                   /* --record: events go there, too; NULL: nowhere */
        const char *replay_path;                   /* --replay: events come from there, and nothing is probed; NULL: from the kernel */
        uint32_t explain_pid;                      /* --explain: say what can be observed of it, and end; 0: run */
};

/* argv -> *ret. What is wrong with it is said on stderr. */
enum arguments_action arguments_read(int argc, char **argv, struct arguments *ret);
extern const char arguments_usage[];

/* The document, over it the environment, over it the command line; checked and finished. For the start and for each reload.
 * warn may be NULL. Returns 0 or negative; reterr holds TEL_CONFIG_ERROR_MAX bytes. On failure *ret is empty. */
int arguments_load(const struct arguments *a, char *const *environment, environment_warn_fn warn, void *ctx, struct settings *ret,
                   char *reterr);
/* The document that is read: config_path, else that of the environment; NULL: the built-in one. */
const char *arguments_config_path(const struct arguments *a, char *const *environment);
