/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/arguments.h"

#include <getopt.h>
#include <stdio.h>

#include "libtelemetry/log.h"

const char arguments_usage[] =
        "Usage: beylad [OPTION]...\n"
        "Makes traces and metrics of the requests that programs on this machine serve and send, unmodified, and tells collectord.\n"
        "Without --config the built-in default runs: every program that listens on a port is observed. Names of the environment\n"
        "(BEYLA_*, OTEL_EBPF_*, OTEL_*; docs/config-beylad.md lists them) come on top of the document, these options on top of both.\n"
        "\n"
        "  --config FILE       the document to use\n"
        "  --check             check the document and the environment and exit: 0 good, 1 not\n"
        "  --print-config      print every value in effect as JSON and exit\n"
        "  --print-docs        print the reference of all keys (docs/config-beylad.md) and exit\n"
        "  --print-schema      print the JSON schema of the document and exit\n"
        "  --print FORMAT      print each span on standard output: text, json or disabled\n"
        "  --record FILE       also write the events of the probes to FILE\n"
        "  --replay FILE       read events from such a FILE instead of probing; needs no privileges\n"
        "  --explain PID       say what can be observed of a process, and what not and why, and exit\n"
        "  --log-level LEVEL   error, warn, info or debug, instead of the document's\n"
        "  --version           print the version and exit\n"
        "  --help              print this and exit\n";

enum option_value { OPTION_CONFIG = 256, OPTION_LOG_LEVEL, OPTION_PRINT, OPTION_RECORD, OPTION_REPLAY, OPTION_EXPLAIN };

static enum arguments_action bad(const char *option, const char *value, const char *expected) {
        fprintf(stderr, "beylad: %s '%s': expected %s\n", option, value, expected);
        return ARGUMENTS_BAD;
}

/* One option with its value. Returns ARGUMENTS_BAD, or RUN to go on. */
static enum arguments_action option_read(int option, char *value, struct arguments *a) {
        enum tel_log_level level;
        char *end;
        unsigned long pid;
        switch (option) {
        case OPTION_CONFIG:
                a->config_path = value;
                return ARGUMENTS_RUN;
        case OPTION_RECORD:
                a->record_path = value;
                return ARGUMENTS_RUN;
        case OPTION_REPLAY:
                a->replay_path = value;
                return ARGUMENTS_RUN;
        case OPTION_LOG_LEVEL:
                if (tel_log_level_parse(value, &level) < 0)
                        return bad("--log-level", value, "error, warn, info or debug");
                a->log_level = (int)level;
                return ARGUMENTS_RUN;
        case OPTION_PRINT:
                for (a->printer = 0; settings_printer_names[a->printer]; a->printer++)
                        if (strcmp(settings_printer_names[a->printer], value) == 0)
                                return ARGUMENTS_RUN;
                return bad("--print", value, "text, json or disabled");
        case OPTION_EXPLAIN:
                pid = strtoul(value, &end, 10);
                if (*value < '1' || *value > '9' || *end || pid > INT32_MAX)
                        return bad("--explain", value, "a process id");
                a->explain_pid = (uint32_t)pid;
                return ARGUMENTS_RUN;
        default:
                return ARGUMENTS_BAD;              /* getopt_long() said why */
        }
}

enum arguments_action arguments_read(int argc, char **argv, struct arguments *ret) {
        static const struct option options[] = {
                { "config", required_argument, NULL, OPTION_CONFIG }, { "check", no_argument, NULL, ARGUMENTS_CHECK },
                { "print-config", no_argument, NULL, ARGUMENTS_PRINT_CONFIG }, { "print-docs", no_argument, NULL, ARGUMENTS_PRINT_DOCS },
                { "print-schema", no_argument, NULL, ARGUMENTS_PRINT_SCHEMA }, { "print", required_argument, NULL, OPTION_PRINT },
                { "record", required_argument, NULL, OPTION_RECORD }, { "replay", required_argument, NULL, OPTION_REPLAY },
                { "explain", required_argument, NULL, OPTION_EXPLAIN }, { "log-level", required_argument, NULL, OPTION_LOG_LEVEL },
                { "version", no_argument, NULL, ARGUMENTS_VERSION }, { "help", no_argument, NULL, ARGUMENTS_HELP }, { 0 },
        };
        *ret = (struct arguments){ .action = ARGUMENTS_RUN, .log_level = -1, .printer = -1 };
        optind = 0;                                /* from the beginning, also a second time */
        for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
                if (o > ARGUMENTS_RUN && o < ARGUMENTS_BAD)
                        ret->action = (enum arguments_action)o;
                else if (option_read(o, optarg, ret) == ARGUMENTS_BAD)
                        return ret->action = ARGUMENTS_BAD;
        }
        if (optind < argc) {
                fprintf(stderr, "beylad: unexpected argument '%s'\n", argv[optind]);
                return ret->action = ARGUMENTS_BAD;
        }
        if (ret->replay_path && (ret->record_path || ret->explain_pid)) {
                fprintf(stderr, "beylad: --replay excludes %s\n", ret->record_path ? "--record" : "--explain");
                return ret->action = ARGUMENTS_BAD;
        }
        return ret->action;
}

const char *arguments_config_path(const struct arguments *a, char *const *environment) {
        return a->config_path ? a->config_path : environment_config_path(environment);
}

int arguments_load(const struct arguments *a, char *const *environment, environment_warn_fn warn, void *ctx, struct settings *ret,
                   char *reterr) {
        TEL_CLEANUP(settings_done) struct settings s = { 0 };
        *ret = s;
        int r = settings_load(arguments_config_path(a, environment), &s, reterr);
        if (r == 0)
                r = environment_apply(environment, &s, warn, ctx, reterr);
        if (r == 0 && (r = settings_finish(&s)) < 0)
                snprintf(reterr, TEL_CONFIG_ERROR_MAX, "out of memory");
        if (r < 0)
                return r;
        s.log_level = a->log_level < 0 ? s.log_level : a->log_level;
        s.printer = a->printer < 0 ? s.printer : a->printer;
        *ret = s;
        s = (struct settings){ 0 };
        return 0;
}
