/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Uprobe set: which files are probed, and for which processes. A file is probed once, for all processes that run it; the last one that leaves
 * takes the probes away. The kernel side hears of each pair of process and file in its map `uses` (site.h).
 *
 * To end a link the kernel waits until nobody runs its program: 0.1 s for each were measured. So all sites of a program in a file are one link
 * (uprobe_multi, Linux 6.6; before, each is one of its own, a perf event), and links are ended by threads.
 * May touch: bpf(2), perf_event_open(2), the descriptors it is given; it starts threads that end links and do nothing else. */
#include <bpf/libbpf.h>

#include "beylad/probes/event.h"
#include "beylad/probes/site.h"
#include "libtelemetry/base.h"

#define UPROBE_PLAN_SITES_MAX 40                   /* probes of one file: OpenSSL has 20 */
#define UPROBE_PROCESS_FILES_MAX 8                 /* probed files of one process; more than three were never seen */
#define UPROBE_NOTHING_MAX 2048                    /* files remembered as having nothing to probe; what is forgotten is looked at again */
#define UPROBE_PROGRAMS_MAX 8                      /* of one set */
#define UPROBE_NAME_MAX 64
#define UPROBE_ERROR_MAX 192

/* One probe that is to be put. */
struct uprobe_plan_site {
        unsigned program;                          /* index in the programs of the set */
        uint64_t offset;                           /* in the file */
        uint32_t flags, slot;                      /* of the cookie (site.h) */
        bool on_return;
        char name[UPROBE_NAME_MAX];                /* of the function, for errors */
};
struct uprobe_plan {
        struct uprobe_plan_site sites[UPROBE_PLAN_SITES_MAX];
        size_t n;
};
/* False: there is no more room. */
bool uprobe_plan_add(struct uprobe_plan *plan, const struct uprobe_plan_site *site);

/* Who a file is: uprobes belong to the inode. size and changed_ns: only for those that have nothing, which may come to have something. */
struct uprobe_file {
        uint64_t device, inode, size;
        uint64_t changed_ns;
};
int uprobe_file_read(int fd, struct uprobe_file *ret);                 /* 0 or -errno */

struct uprobe_set;

/* Before an object is loaded: its uprobes are to be attached in the best way this kernel has. Returns whether that is uprobe_multi. */
bool uprobe_set_prepare(struct bpf_object *object);
/* programs: n of them, borrowed, loaded. uses: the map's descriptor. files_max: files probed at once. multi: what uprobe_set_prepare() said. */
int uprobe_set_new(const struct bpf_program *const *programs, size_t n, int uses, size_t files_max, bool multi, struct uprobe_set **ret);
/* Takes all probes away, and waits for that. Accepts NULL, returns NULL. */
struct uprobe_set *uprobe_set_free(struct uprobe_set *s);

/* The number of a file that is probed, or -ENOENT. */
int uprobe_set_find(const struct uprobe_set *s, const struct uprobe_file *file);
/* Probes the file behind fd as planned: all or none. Nobody uses it yet: uprobe_set_use() follows, or uprobe_set_trim().
 * Returns its number; -ENOSPC, -ENOMEM, or -errno of the kernel; reterr (UPROBE_ERROR_MAX) then says which probe. */
int uprobe_set_attach(struct uprobe_set *s, const struct uprobe_file *file, int fd, const struct uprobe_plan *plan, char *reterr);
/* pid uses a file. 0 (also when it was known), -ENOSPC, -ENOMEM, or -errno. */
int uprobe_set_use(struct uprobe_set *s, uint32_t pid, int number);
/* How many files pid uses. */
size_t uprobe_set_used(const struct uprobe_set *s, uint32_t pid);
/* pid uses nothing any more. Returns whether it did. */
bool uprobe_set_leave(struct uprobe_set *s, uint32_t pid);
/* Takes away the probes of files that nobody uses. */
void uprobe_set_trim(struct uprobe_set *s);

void uprobe_set_note_nothing(struct uprobe_set *s, const struct uprobe_file *file);
bool uprobe_set_has_nothing(const struct uprobe_set *s, const struct uprobe_file *file);
void uprobe_set_count(const struct uprobe_set *s, uint32_t *ret_files, uint32_t *ret_processes, uint32_t *ret_sites);

/* Appends a line to a report's text of room bytes; without room for all of it, nothing. Control characters become '?'. */
void uprobe_report(char *text, size_t room, const char *format, ...) TEL_PRINTF(3, 4);
