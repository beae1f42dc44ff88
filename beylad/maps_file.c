/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/maps_file.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

static const char deleted[] = " (deleted)";

/* One line: "start-end perms offset major:minor inode   path". False: it is no file, or not executable. */
static bool line_parse(char *line, struct mapped_file *ret) {
        char perms[5];
        int path = 0;
        struct mapped_file f = { 0 };
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64 " %n", &f.start, &f.end, perms, &f.offset, &f.major, &f.minor,
                   &f.inode, &path) != 7 ||
            !path || strlen(perms) != 4 || perms[2] != 'x' || !f.inode || f.end <= f.start || line[path] != '/')
                return false;
        f.path = line + path;
        size_t n = strcspn(f.path, "\n");
        if (n >= sizeof(deleted) - 1 && memcmp(f.path + n - (sizeof(deleted) - 1), deleted, sizeof(deleted) - 1) == 0) {
                n -= sizeof(deleted) - 1;
                f.deleted = true;
        }
        f.path[n] = '\0';
        if (n == 0 || n >= MAPS_PATH_MAX)
                return false;
        *ret = f;
        return true;
}

static bool known(const struct maps_file *m, const struct mapped_file *f) {
        for (size_t i = m->n; i-- > 0;)            /* a file's mappings stand beside each other */
                if (m->files[i].inode == f->inode && m->files[i].major == f->major && m->files[i].minor == f->minor)
                        return true;
        return false;
}

static int add(struct maps_file *m, const struct mapped_file *f) {
        if (m->n % 32 == 0) {
                struct mapped_file *more = realloc(m->files, (m->n + 32) * sizeof(*more));
                if (!more)
                        return -ENOMEM;
                m->files = more;
        }
        m->files[m->n] = *f;
        m->files[m->n].path = strdup(f->path);
        if (!m->files[m->n].path)
                return -ENOMEM;
        m->n++;
        return 0;
}

int maps_file_parse(FILE *in, struct maps_file *ret) {
        TEL_CLEANUP(maps_file_done) struct maps_file m = MAPS_FILE_EMPTY;
        char line[MAPS_PATH_MAX + 256];
        errno = 0;
        for (unsigned lines = 0; lines < MAPS_LINES_MAX && fgets(line, sizeof(line), in); lines++) {
                struct mapped_file f;
                if (!line_parse(line, &f) || known(&m, &f))
                        continue;
                if (m.n == MAPS_FILES_MAX) {
                        m.cut = true;
                        break;
                }
                int r = add(&m, &f);
                if (r < 0)
                        return r;
        }
        if (ferror(in))
                return errno ? -errno : -EIO;
        *ret = m;
        m = MAPS_FILE_EMPTY;
        return 0;
}

int maps_file_read(const char *proc, uint32_t pid, struct maps_file *ret) {
        char path[256];
        snprintf(path, sizeof(path), "%s/%" PRIu32 "/maps", proc, pid);
        FILE *in = fopen(path, "re");
        if (!in)
                return errno == ENOENT ? -ESRCH : -errno;
        int r = maps_file_parse(in, ret);
        fclose(in);
        return r;
}

void maps_file_done(struct maps_file *m) {
        for (size_t i = 0; i < m->n; i++)
                free(m->files[i].path);
        free(m->files);
        *m = MAPS_FILE_EMPTY;
}

/* A regular file, for reading. What it is is looked at before it is opened: opening a device may do something. */
static int open_regular(const char *path, uint64_t inode) {
        char self[64];
        struct stat st;
        int r, place = open(path, O_PATH | O_CLOEXEC);
        if (place < 0)
                return -errno;
        if (fstat(place, &st) < 0)
                r = -errno;
        else if (!S_ISREG(st.st_mode))
                r = -ENOEXEC;
        else if (inode && st.st_ino != inode)
                r = -ESTALE;
        else {
                snprintf(self, sizeof(self), "/proc/self/fd/%d", place);
                r = open(self, O_RDONLY | O_CLOEXEC);
                r = r < 0 ? -errno : r;
        }
        close(place);
        return r;
}

int maps_file_open(const char *proc, uint32_t pid, const struct mapped_file *file) {
        char path[MAPS_PATH_MAX + 256];
        snprintf(path, sizeof(path), "%s/%" PRIu32 "/map_files/%" PRIx64 "-%" PRIx64, proc, pid, file->start, file->end);
        int r = open_regular(path, 0);
        if (r >= 0 || r == -ENOEXEC)
                return r;
        /* Without CAP_CHECKPOINT_RESTORE that door is shut. What the path leads to may be another file by now. */
        snprintf(path, sizeof(path), "%s/%" PRIu32 "/root%s", proc, pid, file->path);
        return open_regular(path, file->inode);
}
