/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Control: the line socket. One verb a line; readable text back, or NDJSON after the word `json`; an empty line ends each answer.
 * May touch: its listening Unix socket and its connections, the log level. Knows no daemon: answers come from callbacks. */
#include <stdio.h>
#include <uv.h>

#include "libtelemetry/base.h"

#define CONTROL_LINE_MAX 1024                      /* bytes of one command, its newline too: the longest verb has one argument */
#define CONTROL_CONNECTIONS_MAX 8                  /* people and scripts, not traffic */
#define CONTROL_QUEUE_MAX (256u << 10)             /* bytes a peer may leave unread before its next line waits */
#define CONTROL_ERROR_MAX 256                      /* bytes of an error text, with its NUL */

/* Each writes its whole answer: lines that end with a newline, none of them empty; with json an object a line. Where it cannot answer it
 * calls tel_line_error() and writes nothing else. NULL: there is no such verb. */
struct control_verbs {
        void *ctx;
        void (*status)(void *ctx, bool json, FILE *to);
        void (*stats)(void *ctx, bool json, FILE *to);
        void (*processes)(void *ctx, bool json, FILE *to);
        void (*explain)(void *ctx, uint32_t pid, bool json, FILE *to);
        /* Reads the document again. Returns 0, or negative with reterr (TEL_CONFIG_ERROR_MAX): the old one stays. */
        int (*reload)(void *ctx, char *reterr);
};

struct control_options {
        uv_loop_t *loop;
        const char *path;                          /* absolute; a stale socket there is replaced, one that answers is not */
        int fd;                                    /* handed over by systemd, or -1; path is not touched then */
        struct control_verbs verbs;
};

struct control;

/* Returns 0 or -errno; reterr (CONTROL_ERROR_MAX) names the path and why. */
int control_new(const struct control_options *options, struct control **ret, char *reterr);
/* Closes; its memory goes with the next turns of the loop. Accepts NULL, returns NULL. */
struct control *control_free(struct control *c);

/* Runs one line, without its newline; it is cut up in place. Everything but the empty line behind it goes to `to`. For the socket, and tests. */
void control_run(const struct control_verbs *verbs, char *line, size_t n, FILE *to);
