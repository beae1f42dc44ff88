/* SPDX-License-Identifier: Apache-2.0 */
/* beylad: arguments, settings, loop, exit. */
#include <stdio.h>
#include <unistd.h>

#include "beylad/arguments.h"
#include "beylad/daemon.h"

static void say(void *ctx, const char *name, const char *why) {
        (void)ctx;
        fprintf(stderr, "beylad: environment %s: %s\n", name, why);
}

/* --check, --print-config: what the daemon would run with. */
static int check(const struct arguments *a) {
        struct settings s;
        char error[TEL_CONFIG_ERROR_MAX];
        if (arguments_load(a, environ, say, NULL, &s, error) < 0) {
                fprintf(stderr, "beylad: %s\n", error);
                return 1;
        }
        int r = a->action == ARGUMENTS_PRINT_CONFIG ? tel_config_print(settings_table, &s, stdout) : 0;
        settings_done(&s);
        return r < 0;
}

int main(int argc, char **argv) {
        struct arguments a;
        switch (arguments_read(argc, argv, &a)) {
        case ARGUMENTS_BAD:
                fputs(arguments_usage, stderr);
                return 2;
        case ARGUMENTS_HELP:
                fputs(arguments_usage, stdout);
                return 0;
        case ARGUMENTS_VERSION:
                puts("beylad " SUITE_VERSION);
                return 0;
        case ARGUMENTS_PRINT_DOCS:
                return tel_config_print_markdown(settings_table, SETTINGS_TITLE, settings_intro, stdout) < 0 ||
                       environment_print_markdown(stdout) < 0;
        case ARGUMENTS_PRINT_SCHEMA:
                return tel_config_print_schema(settings_table, SETTINGS_TITLE, stdout) < 0;
        case ARGUMENTS_CHECK:
        case ARGUMENTS_PRINT_CONFIG:
                return check(&a);
        default:
                return a.replay_path ? daemon_replay(&a) : a.explain_pid ? daemon_explain(&a) : daemon_run(&a);
        }
}
