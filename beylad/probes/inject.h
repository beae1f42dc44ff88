/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Inject: writes a traceparent into HTTP/1 requests that programs of one cgroup send to chosen ports. Off unless it is asked for, because it
 * changes what programs send.
 * Nothing is pinned: with the process end its programs and the hash of sockets, and connections go on as if they had never been there.
 * May touch: bpf(2), the cgroup's folder, two sockets of its own on the loopback while it tries the kernel, /proc/PID/cgroup. */
#include "beylad/probes/probes.h"

#define INJECT_TEXT_MAX 512                        /* bytes of a text, with its NUL */

struct inject_options {
        const char *cgroup;                        /* its folder; borrowed for the call */
        struct probe_inject_rules rules;
        const struct probe_maps *maps;             /* borrowed until inject_free() */
};

struct inject_stats {
        uint64_t outcomes[PROBE_OUTCOMES];         /* since inject_new(), all CPUs */
        uint64_t run_ns, runs;                     /* of its programs, while bpf statistics are on */
        bool miscounts;                            /* this kernel says wrong to who asks a socket in a hash how many bytes wait (FIONREAD) */
        bool works;                                /* it is attached now */
};

struct inject;

/* Attaches. Returns 0, also where the cgroup is not there yet (inject_check() tries again) or the kernel refuses (inject_text() says why);
 * -EINVAL when the folder is no cgroup of version 2, or is the root; -ENOMEM. reterr: INJECT_TEXT_MAX. */
int inject_new(const struct inject_options *options, struct inject **ret, char *reterr);
/* Whether it was made with these options. */
bool inject_is(const struct inject *t, const struct inject_options *options);
struct inject *inject_free(struct inject *t);      /* accepts NULL, returns NULL; every connection is left at once */
/* On or off: for the budget. Off leaves every connection at once; on takes those that come. */
void inject_pause(struct inject *t, bool paused);
/* A cgroup goes and comes again with its service: attaches to the one that has the name now. */
void inject_check(struct inject *t);
/* The process ended. */
void inject_forget(struct inject *t, uint32_t tgid);
/* How it fares: "cgroup /x", or why it is not on. */
const char *inject_text(const struct inject *t);
void inject_get_stats(const struct inject *t, struct inject_stats *ret);

/* Whether pid is in the cgroup or below: 1, 0, or -errno. */
int inject_contains(const char *cgroup, uint32_t pid);
