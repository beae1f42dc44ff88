/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Redis commands: the names a redis-server knows, how many arguments they take, and which of them need care. Tells a command from an array
 * that only looks like one.
 * Source: COMMAND of Redis 7.0.15, and the commands that redis.io lists as added since, up to 8.4.
 * May touch: nothing. */
#include "libtelemetry/base.h"

#define REDIS_NAME_MAX 32                          /* bytes of a command's name; the longest known has 20, modules have longer ones */

enum redis_what {
        REDIS_PLAIN,
        REDIS_CONTAINER,                           /* the next argument belongs to the name: CONFIG GET */
        REDIS_CLIENT,                              /* likewise; CLIENT REPLY says whether answers come at all */
        REDIS_SELECT,
        REDIS_SUBSCRIBE,                           /* and its kin: answered by a confirmation for each channel */
        REDIS_MONITOR,
        REDIS_SYNC,                                /* the connection becomes a replication link */
        REDIS_EXEC,
        REDIS_DISCARD,
        REDIS_RESET,
};

struct redis_command {
        const char *name;
        int arity;                                 /* arguments with the name; negative: at least so many */
        enum redis_what what;
};

/* Whether the n characters can be a name, or an error's code: capitals, behind the first one also digits, "_", "-" and "." */
bool redis_is_name(const char *s, size_t n);
/* name: in upper case, ends with a NUL. NULL: not known. */
const struct redis_command *redis_command_find(const char *name);
static inline bool redis_command_takes(const struct redis_command *c, uint64_t args) {
        return c->arity < 0 ? args >= (uint64_t)-c->arity : args == (uint64_t)c->arity;
}
