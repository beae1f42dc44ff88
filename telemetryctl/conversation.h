/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Conversation: one line to a control socket, and its answer on a descriptor.
 * May touch: one socket, the descriptor it writes to, stderr for an error.
 * Protocol: docs/control.md. */
#include "libtelemetry/base.h"

#define CONVERSATION_LINE_MAX 4096                 /* bytes of a line, its newline too; the daemon takes no more */

/* The words as one line that the daemon cuts into the same words again; json goes in front. Returns its length,
 * or -E2BIG, or -EINVAL: a word holds a newline. */
ssize_t conversation_line(char out[static CONVERSATION_LINE_MAX], bool json, char *const *words, size_t n);

/* Connects to path. Returns the descriptor or -errno. */
int conversation_open(const char *path);

enum conversation_end { CONVERSATION_ANSWERED, CONVERSATION_ERROR };   /* ERROR: the answer begins with an error */
/* Sends the line and copies the answer to out, or an error to stderr, until the daemon closes; the empty line
 * behind it is left out.
 * Returns an enum conversation_end, or -errno: -ECONNRESET when it closed without an answer, -EPIPE when nobody
 * reads out any more. */
int conversation_run(int fd, const char *line, size_t n, int out);
