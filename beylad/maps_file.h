/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Maps file: which files a process has mapped as code, from /proc/PID/maps, and how to get at the very file that is mapped: a container has
 * paths of its own, and an upgraded library is no longer the one at its path.
 * May touch: files below /proc, and what they lead to, for reading.
 * Source: proc_pid_maps(5), proc_pid_map_files(5). */
#include <stdio.h>
#include <sys/types.h>

#include "libtelemetry/base.h"

#define MAPS_FILES_MAX 512                         /* different files of one process: large desktop programs have 250 */
#define MAPS_LINES_MAX (1u << 20)                  /* of one process: four times what the kernel allows where people raised its limit */
#define MAPS_PATH_MAX 4096                         /* bytes of a path with its NUL: the kernel's own bound */

/* A file of which a process has mapped a part executable. */
struct mapped_file {
        uint64_t start, end;                       /* addresses of the first such mapping */
        uint64_t offset;                           /* of it in the file */
        uint32_t major, minor;                     /* of its device, as the line has them: not always those of stat(2) */
        uint64_t inode;
        char *path;                                /* as the process would name it; " (deleted)" removed */
        bool deleted;
};

struct maps_file {
        struct mapped_file *files;
        size_t n;
        bool cut;                                  /* there were more than MAPS_FILES_MAX */
};

#define MAPS_FILE_EMPTY ((struct maps_file){ 0 })

/* Reads what in holds; lines that make no sense are left out. 0, -ENOMEM, or -errno of reading. */
int maps_file_parse(FILE *in, struct maps_file *ret);
/* Of a process below proc ("/proc"). 0, -ESRCH: it is gone, -errno. A kernel thread has none. */
int maps_file_read(const char *proc, uint32_t pid, struct maps_file *ret);
void maps_file_done(struct maps_file *m);          /* accepts an empty one */
/* Opens the file that is mapped: by /proc/PID/map_files, else by its path inside /proc/PID/root, if that is still the same file. Returns a
 * descriptor for reading or -errno (-ESTALE: another file has its path now, -ENOEXEC: no regular file). */
int maps_file_open(const char *proc, uint32_t pid, const struct mapped_file *file);
