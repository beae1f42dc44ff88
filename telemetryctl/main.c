/* SPDX-License-Identifier: Apache-2.0 */
/* telemetryctl: asks collectord over its control socket. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "libtelemetry/client.h"
#include "telemetryctl/conversation.h"

enum { EXIT_USAGE = 2 };

static const char usage[] =
        "usage: telemetryctl [--socket PATH] [--json] VERB [ARGUMENTS]\n";

static const char help[] =
        "Asks collectord what it does.\n"
        "\n"
        "  --socket PATH   its control socket; else control.sock in the runtime directory, then " CONVERSATION_SYSTEM_PATH "\n"
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
        "\n"
        "Exit status: 0 answered, 1 no connection or an error of the daemon, 2 bad usage.\n";

struct arguments {
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
        *ret = (struct arguments){ 0 };
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
        if (optind == argc) {
                fprintf(stderr, "telemetryctl: no verb\n%stry telemetryctl --help\n", usage);
                return EXIT_USAGE;
        }
        ret->words = argv + optind;
        ret->n = (size_t)(argc - optind);
        return -1;
}

/* The socket that was named; else ours, then the system's: people mostly ask a daemon that runs as another user. */
static int connect_somewhere(const char *named, char path[static 256]) {
        int r = named ? snprintf(path, 256, "%s", named) : tel_runtime_path("control.sock", path, 256);
        if (r < 0)
                return r;
        int fd = conversation_open(path);
        if (fd >= 0 || named)
                return fd;
        int system = conversation_open(CONVERSATION_SYSTEM_PATH);
        if (system >= 0 || system == -EACCES)      /* there is one, so it is the one that was meant */
                snprintf(path, 256, "%s", CONVERSATION_SYSTEM_PATH);
        return system >= 0 || system == -EACCES ? system : fd;
}

static void explain(const char *path, int error) {
        const char *hint = "is collectord running? --socket PATH names another socket; listen.control of its configuration says which";
        if (error == -EACCES)
                hint = "only collectord's own user, its group and root may ask it";
        else if (error == -ECONNREFUSED)
                hint = "nobody listens there any more: collectord is not running, or was killed";
        fprintf(stderr, "telemetryctl: cannot connect to '%s': %s\n  %s\n", path, strerror(-error), hint);
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
        int fd = connect_somewhere(a.socket, path);
        if (fd < 0) {
                explain(path, fd);
                return EXIT_FAILURE;
        }
        r = conversation_run(fd, line, (size_t)n, STDOUT_FILENO);
        close(fd);
        if (r == -EPIPE)                           /* `telemetryctl tap | head`: whoever read it has enough */
                return EXIT_SUCCESS;
        if (r < 0) {
                fprintf(stderr, "telemetryctl: '%s': %s\n", path, r == -ECONNRESET
                        ? "collectord closed the connection" : strerror(-r));
                return EXIT_FAILURE;
        }
        return r == CONVERSATION_ERROR ? EXIT_FAILURE : EXIT_SUCCESS;
}
