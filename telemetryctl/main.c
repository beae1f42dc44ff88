/* SPDX-License-Identifier: Apache-2.0 */
/* telemetryctl: asks collectord, or another daemon of the suite, over its control socket. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "libtelemetry/client.h"
#include "telemetryctl/conversation.h"

enum { EXIT_USAGE = 2 };

static const char usage[] =
        "usage: telemetryctl [--socket PATH] [--json] [beylad] VERB [ARGUMENTS]\n";

static const char help[] =
        "Asks collectord what it does, or beylad.\n"
        "\n"
        "  --socket PATH   its control socket; else control.sock (beylad.sock) in the runtime directory, then in\n"
        "                  /run/collectord (/run/beylad, /run/collectord)\n"
        "  --json          the answer as JSON, an object a line\n"
        "  --version       prints the version\n"
        "  --help          prints this\n"
        "\n"
        "  telemetryctl status\n"
        "  telemetryctl destinations\n"
        "  telemetryctl lost --since 1h\n"
        "  telemetryctl tap traces --back 5m service=checkout\n"
        "  telemetryctl tap logs level=error 'body~timed out'\n"
        "  telemetryctl help             every verb, from the daemon\n"
        "  telemetryctl beylad status\n"
        "  telemetryctl beylad explain 4711\n"
        "  telemetryctl beylad help\n"
        "\n"
        "Exit status: 0 answered, 1 no connection or an error of the daemon, 2 bad usage.\n";

/* Who can be asked. A daemon is named in front of the verb, collectord need not be. */
static const struct daemon {
        const char *name, *socket;                 /* socket: its name in the runtime directory */
        const char *system[2];                     /* where it is when it runs as another user; NULL: nowhere else */
} daemons[] = {
        { "collectord", "control.sock", { "/run/collectord/control.sock", NULL } },
        { "beylad", "beylad.sock", { "/run/beylad/beylad.sock", "/run/collectord/beylad.sock" } },
};

struct arguments {
        const struct daemon *daemon;
        const char *socket;
        bool json;
        char **words;
        size_t n;
};

/* Returns -1 to go on, or an exit status. Options of the verb stand behind it and are left to the daemon. */
static int arguments_read(int argc, char **argv, struct arguments *ret) {
        static const struct option options[] = {
                { "socket", required_argument, NULL, 's' }, { "json", no_argument, NULL, 'j' },
                        { "version", no_argument, NULL, 'v' },
                { "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 },
        };
        int option;
        *ret = (struct arguments){ .daemon = &daemons[0] };
        while ((option = getopt_long(argc, argv, "+h", options, NULL)) != -1) {
                switch (option) {
                case 's':
                        ret->socket = optarg;
                        break;
                case 'j':
                        ret->json = true;
                        break;
                case 'v':
                        puts("telemetryctl " SUITE_VERSION);
                        return EXIT_SUCCESS;
                case 'h':
                        printf("%s%s", usage, help);
                        return EXIT_SUCCESS;
                default:
                        fputs(usage, stderr);
                        return EXIT_USAGE;
                }
        }
        for (size_t i = 0; i < TEL_ARRAY_LEN(daemons) && optind < argc; i++)
                if (strcmp(argv[optind], daemons[i].name) == 0) {
                        ret->daemon = &daemons[i];
                        optind++;
                        break;
                }
        if (optind == argc) {
                fprintf(stderr, "telemetryctl: no verb\n%stry telemetryctl --help\n", usage);
                return EXIT_USAGE;
        }
        ret->words = argv + optind;
        ret->n = (size_t)(argc - optind);
        return -1;
}

/* The socket that was named; else ours, then the system's: people mostly ask a daemon that runs as another user. */
static int connect_somewhere(const struct arguments *a, char path[static 256]) {
        int r = a->socket ? snprintf(path, 256, "%s", a->socket) : tel_runtime_path(a->daemon->socket, path, 256);
        if (r < 0)
                return r;
        int fd = conversation_open(path);
        for (size_t i = 0; fd < 0 && !a->socket && i < TEL_ARRAY_LEN(a->daemon->system) && a->daemon->system[i]; i++) {
                int system = conversation_open(a->daemon->system[i]);
                if (system < 0 && system != -EACCES)
                        continue;
                snprintf(path, 256, "%s", a->daemon->system[i]);       /* there is one, so it is the one that was meant */
                return system;
        }
        return fd;
}

static void explain(const struct daemon *d, const char *path, int error) {
        fprintf(stderr, "telemetryctl: cannot connect to '%s': %s\n  ", path, strerror(-error));
        if (error == -EACCES)
                fprintf(stderr, "only %s's own user, its group and root may ask it\n", d->name);
        else if (error == -ECONNREFUSED)
                fprintf(stderr, "nobody listens there any more: %s is not running, or was killed\n", d->name);
        else
                fprintf(stderr, "is %s running? --socket PATH names another socket; listen.control of its configuration says which\n", d->name);
}

/* Everything read so far was written at once, so there is nothing to finish. */
static void on_interrupt(int number) {
        (void)number;
        _exit(EXIT_SUCCESS);
}

int main(int argc, char **argv) {
        struct arguments a;
        char line[CONVERSATION_LINE_MAX], path[256] = "";
        int r = arguments_read(argc, argv, &a);
        if (r >= 0)
                return r;
        ssize_t n = conversation_line(line, a.json, a.words, a.n);
        if (n < 0) {
                fprintf(stderr, "telemetryctl: %s\n", n == -E2BIG ? "the arguments are too long"
                        : "an argument holds a line break");
                return EXIT_USAGE;
        }
        signal(SIGPIPE, SIG_IGN);
        if (strcmp(a.words[0], "tap") == 0)
                signal(SIGINT, on_interrupt);
        int fd = connect_somewhere(&a, path);
        if (fd < 0) {
                explain(a.daemon, path, fd);
                return EXIT_FAILURE;
        }
        r = conversation_run(fd, line, (size_t)n, STDOUT_FILENO);
        close(fd);
        if (r == -EPIPE)                           /* `telemetryctl tap | head`: whoever read it has enough */
                return EXIT_SUCCESS;
        if (r < 0) {
                fprintf(stderr, "telemetryctl: '%s': %s%s\n", path, r == -ECONNRESET ? a.daemon->name : "",
                        r == -ECONNRESET ? " closed the connection" : strerror(-r));
                return EXIT_FAILURE;
        }
        return r == CONVERSATION_ERROR ? EXIT_FAILURE : EXIT_SUCCESS;
}
