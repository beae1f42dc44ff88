/* SPDX-License-Identifier: Apache-2.0 */
/* collectord: arguments, settings, loop, exit. */
#include <curl/curl.h>
#include <getopt.h>
#include <malloc.h>
#include <stdio.h>

#include "collectord/clock.h"
#include "collectord/daemon.h"
#include "libtelemetry/log.h"

static const char usage[] =
        "Usage: collectord [OPTION]...\n"
        "Receives telemetry, keeps it, and sends it on. Without --config the built-in local default runs:\n"
        "OTLP on 127.0.0.1:4318, the page on 127.0.0.1:12345, one destination http://localhost:4320.\n"
        "\n"
        "  --config FILE       the document to use\n"
        "  --check             check the document and exit: 0 good, 1 not\n"
        "  --print-config      print every value in effect as JSON and exit; secrets are hidden\n"
        "  --print-docs        print the reference of all keys (docs/config.md) and exit\n"
        "  --print-schema      print the JSON schema of the document and exit\n"
        "  --log-level LEVEL   error, warn, info or debug, instead of the document's\n"
        "  --version           print the version and exit\n"
        "  --help              print this and exit\n";

enum action { RUN, CHECK, PRINT_CONFIG, PRINT_DOCS, PRINT_SCHEMA, VERSION, HELP, BAD };

static enum action parse(int argc, char **argv, struct daemon *d) {
        static const struct option options[] = {
                { "config", required_argument, NULL, 'c' }, { "check", no_argument, NULL, CHECK }, { "print-config", no_argument, NULL, PRINT_CONFIG },
                { "print-docs", no_argument, NULL, PRINT_DOCS }, { "print-schema", no_argument, NULL, PRINT_SCHEMA },
                { "log-level", required_argument, NULL, 'l' }, { "version", no_argument, NULL, VERSION }, { "help", no_argument, NULL, HELP }, { 0 },
        };
        enum action action = RUN;
        enum tel_log_level level;
        for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
                if (o == 'c')
                        d->config_path = optarg;
                else if (o == 'l' && tel_log_level_parse(optarg, &level) == 0)
                        d->log_level = (int)level;
                else if (o == 'l' || o == '?') {
                        if (o == 'l')
                                fprintf(stderr, "collectord: --log-level '%s': expected error, warn, info or debug\n", optarg);
                        return BAD;
                } else
                        action = (enum action)o;
        }
        if (optind < argc) {
                fprintf(stderr, "collectord: unexpected argument '%s'\n", argv[optind]);
                return BAD;
        }
        return action;
}

int main(int argc, char **argv) {
        struct daemon d = { .log_level = -1 };
        char error[TEL_CONFIG_ERROR_MAX];
        enum action action = parse(argc, argv, &d);
        switch (action) {
        case BAD:
                fputs(usage, stderr);
                return 2;
        case HELP:
                fputs(usage, stdout);
                return 0;
        case VERSION:
                puts("collectord " SUITE_VERSION);
                return 0;
        case PRINT_DOCS:
                return tel_config_print_markdown(settings_table, SETTINGS_TITLE, settings_intro, stdout) < 0;
        case PRINT_SCHEMA:
                return tel_config_print_schema(settings_table, SETTINGS_TITLE, stdout) < 0;
        default:
                break;
        }
        if (settings_load(d.config_path, &d.settings, error) < 0) {
                fprintf(stderr, "collectord: %s\n", error);
                return 1;
        }
        if (action == CHECK || action == PRINT_CONFIG) {
                int r = action == PRINT_CONFIG ? tel_config_print(settings_table, &d.settings, stdout) : 0;
                settings_done(&d.settings);
                return r < 0;
        }
        /* Large bodies go back to the system when they are done with; left to itself malloc would learn to keep them. */
        mallopt(M_MMAP_THRESHOLD, 512 << 10);
        mallopt(M_TRIM_THRESHOLD, 1 << 20);
        clock_start();
        tel_log_open("collectord", d.log_level < 0 ? (enum tel_log_level)d.settings.log_level : (enum tel_log_level)d.log_level);
        curl_global_init(CURL_GLOBAL_DEFAULT);
        int status = daemon_run(&d);
        settings_done(&d.settings);
        curl_global_cleanup();
        return status;
}
