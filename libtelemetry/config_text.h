/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Config text: what comes before the values. A document without its comments, the place of a key in it, and ${} inside strings.
 * Private to config*.c; the names lack tel_ so that telemetry.map keeps them inside the library.
 * May touch: the files it is told to read, the environment. */
#include "libtelemetry/config.h"

#define CONFIG_WHY_MAX 192                         /* bytes of a reason; the place before it takes the rest of an error */

struct config_text {
        char *name;                                /* for errors: the file as the user named it */
        char *text;                                /* of len bytes; comments are blanks, so every offset is that of the original */
        size_t len;
};
struct config_place {
        unsigned line, column;                     /* from 1; column in bytes */
};

/* Copies and strips. Returns 0, -ENOMEM, or -EINVAL with the place and the reason: a # comment, a document that is too large or too deep. */
int config_text_init(struct config_text *t, const char *name, const char *text, size_t n, struct config_place *reterr_at,
                     char reterr_why[static CONFIG_WHY_MAX]);
void config_text_done(struct config_text *t);

/* The place of path, or of the deepest object around it that this text has. Returns how many bytes of path were found. */
size_t config_text_find(const struct config_text *t, const char *path, struct config_place *ret);
/* The path of the last key or list entry that begins before offset, and its place. */
void config_text_before(const struct config_text *t, size_t offset, struct tel_config_path *ret, struct config_place *ret_at);

/* A regular file of at most max bytes; *ret is heap, with a NUL behind it. Returns 0, -errno; the reason is always filled. */
int config_file_read(const char *path, size_t max, char **ret, size_t *ret_len, char reterr_why[static CONFIG_WHY_MAX]);
/* raw with its ${} replaced; *ret is heap. Returns 0, -ENOMEM, or -EINVAL with the reason. */
int config_expand(const char *raw, char **ret, char reterr_why[static CONFIG_WHY_MAX]);
