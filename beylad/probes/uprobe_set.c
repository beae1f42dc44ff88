/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/probes/uprobe_set.h"

#include <bpf/bpf.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ENDING_THREADS_MAX 16                      /* links ended side by side: what waits, waits for the same */

/* An attached program: one site, or all of a program in a file. */
struct hook {
        struct bpf_link *link;                     /* NULL: */
        int fd;                                    /* the link's descriptor */
};

struct file {
        struct uprobe_file who;
        struct hook *hooks;                        /* NULL: this number is free */
        size_t n_hooks, n_sites;
        uint32_t users;
};

struct process {
        uint32_t pid;
        uint32_t n;
        uint16_t files[UPROBE_PROCESS_FILES_MAX];
};

struct uprobe_set {
        const struct bpf_program *const *programs;
        size_t n_programs;
        int uses;
        bool multi;
        struct file *files;
        size_t files_max;
        struct process *processes;
        size_t n_processes, processes_room;
        struct uprobe_file nothing[UPROBE_NOTHING_MAX];
};

bool uprobe_plan_add(struct uprobe_plan *plan, const struct uprobe_plan_site *site) {
        if (plan->n == UPROBE_PLAN_SITES_MAX)
                return false;
        plan->sites[plan->n++] = *site;
        return true;
}

int uprobe_file_read(int fd, struct uprobe_file *ret) {
        struct stat st;
        if (fstat(fd, &st) < 0)
                return -errno;
        *ret = (struct uprobe_file){ .device = st.st_dev, .inode = st.st_ino, .size = (uint64_t)st.st_size,
                                     .changed_ns = (uint64_t)st.st_mtim.tv_sec * TEL_NS_PER_S + (uint64_t)st.st_mtim.tv_nsec };
        return 0;
}

/* ---- uprobe_multi ---- */

/* What bpf(2) takes to create such a link; our headers may be older than the kernel. Source: Linux include/uapi/linux/bpf.h. */
struct multi_attributes {
        uint32_t program, target, type, flags;
        uint64_t path, offsets, counters, cookies;
        uint32_t n, multi_flags, pid, zero;
};
#define MULTI_TYPE 48u                             /* BPF_TRACE_UPROBE_MULTI */
#define MULTI_RETURN 1u                            /* BPF_F_UPROBE_MULTI_RETURN */

static int multi_link(int program, const char *path, const uint64_t *offsets, const uint64_t *cookies, uint32_t n, bool on_return) {
        struct multi_attributes a = { .program = (uint32_t)program, .type = MULTI_TYPE, .path = (uintptr_t)path, .offsets = (uintptr_t)offsets,
                                      .cookies = (uintptr_t)cookies, .n = n, .multi_flags = on_return ? MULTI_RETURN : 0 };
        int fd = (int)syscall(SYS_bpf, BPF_LINK_CREATE, &a, sizeof(a));
        return fd < 0 ? -errno : fd;
}

/* A kernel that knows it looks at the path first, and "/" is no file. */
static bool multi_works(void) {
        const struct bpf_insn insns[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K }, { .code = BPF_JMP | BPF_EXIT } };
        LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = (enum bpf_attach_type)MULTI_TYPE);
        uint64_t offset = 0;
        int program = bpf_prog_load(BPF_PROG_TYPE_KPROBE, NULL, "GPL", insns, TEL_ARRAY_LEN(insns), &options);
        if (program < 0)
                return false;
        int link = multi_link(program, "/", &offset, NULL, 1, false);
        close(program);
        if (link >= 0)
                close(link);
        return link == -EBADF;
}

bool uprobe_set_prepare(struct bpf_object *object) {
        struct bpf_program *program;
        if (!multi_works())
                return false;
        bpf_object__for_each_program(program, object)
                bpf_program__set_expected_attach_type(program, (enum bpf_attach_type)MULTI_TYPE);
        return true;
}

/* ---- ending ---- */

static void hook_end(const struct hook *h) {
        if (h->link)
                bpf_link__destroy(h->link);
        else
                close(h->fd);
}

struct ending {
        size_t n;
        struct hook hooks[];
};

static void *end_hooks(void *arg) {
        struct ending *e = arg;
        for (size_t i = 0; i < e->n; i++)
                hook_end(&e->hooks[i]);
        free(e);
        return NULL;
}

/* Ends a file's hooks on a thread, which the caller may wait for. False: there is no thread, and it is done. */
static bool file_end(struct file *f, pthread_t *ret) {
        struct ending *e = malloc(sizeof(*e) + f->n_hooks * sizeof(f->hooks[0]));
        bool started = false;
        if (e) {
                e->n = f->n_hooks;
                memcpy(e->hooks, f->hooks, f->n_hooks * sizeof(f->hooks[0]));
                started = pthread_create(ret, NULL, end_hooks, e) == 0;
                if (!started)
                        free(e);
        }
        for (size_t i = 0; i < f->n_hooks && !started; i++)
                hook_end(&f->hooks[i]);
        free(f->hooks);
        *f = (struct file){ 0 };
        return started;
}

int uprobe_set_new(const struct bpf_program *const *programs, size_t n, int uses, size_t files_max, bool multi, struct uprobe_set **ret) {
        struct uprobe_set *s = calloc(1, sizeof(*s));
        if (s)
                s->files = calloc(files_max, sizeof(*s->files));
        if (!s || !s->files) {
                free(s);
                return -ENOMEM;
        }
        assert(files_max <= UINT16_MAX && n <= UPROBE_PROGRAMS_MAX);
        s->programs = programs;
        s->n_programs = n;
        s->uses = uses;
        s->files_max = files_max;
        s->multi = multi;
        *ret = s;
        return 0;
}

struct uprobe_set *uprobe_set_free(struct uprobe_set *s) {
        pthread_t threads[ENDING_THREADS_MAX];
        size_t n = 0;
        if (!s)
                return NULL;
        for (size_t i = 0; i < s->files_max; i++) {
                if (!s->files[i].hooks || !file_end(&s->files[i], &threads[n]))
                        continue;
                if (++n == ENDING_THREADS_MAX)
                        while (n)
                                pthread_join(threads[--n], NULL);
        }
        while (n)
                pthread_join(threads[--n], NULL);
        free(s->files);
        free(s->processes);
        free(s);
        return NULL;
}

/* ---- files ---- */

int uprobe_set_find(const struct uprobe_set *s, const struct uprobe_file *file) {
        for (size_t i = 0; i < s->files_max; i++)
                if (s->files[i].hooks && s->files[i].who.inode == file->inode && s->files[i].who.device == file->device)
                        return (int)i;             /* a probed file keeps its inode: the number is not used for another */
        return -ENOENT;
}

static int attach_fail(const struct uprobe_plan_site *site, int r, char *reterr) {
        snprintf(reterr, UPROBE_ERROR_MAX, "a %s of %s at offset 0x%" PRIx64 ": %s", site->on_return ? "uretprobe" : "uprobe", site->name,
                 site->offset, strerror(-r));
        return r;
}

/* All sites of one program: one link. */
static int attach_multi(struct uprobe_set *s, struct file *f, size_t number, const char *path, const struct uprobe_plan *plan, unsigned program,
                        char *reterr) {
        uint64_t offsets[UPROBE_PLAN_SITES_MAX], cookies[UPROBE_PLAN_SITES_MAX];
        const struct uprobe_plan_site *first = NULL;
        uint32_t n = 0;
        for (size_t i = 0; i < plan->n; i++) {
                const struct uprobe_plan_site *site = &plan->sites[i];
                if (site->program != program)
                        continue;
                first = first ? first : site;
                offsets[n] = site->offset;
                cookies[n++] = SITE_COOKIE(number, site->flags, site->slot);
        }
        if (!first)
                return 0;
        int fd = multi_link(bpf_program__fd(s->programs[program]), path, offsets, cookies, n, first->on_return);
        if (fd < 0)
                return attach_fail(first, fd, reterr);
        f->hooks[f->n_hooks++] = (struct hook){ .fd = fd };
        f->n_sites += n;
        return 0;
}

static int attach_one(struct uprobe_set *s, struct file *f, size_t number, const char *path, const struct uprobe_plan_site *site, char *reterr) {
        LIBBPF_OPTS(bpf_uprobe_opts, options, .retprobe = site->on_return, .bpf_cookie = SITE_COOKIE(number, site->flags, site->slot));
        struct bpf_link *link = bpf_program__attach_uprobe_opts(s->programs[site->program], -1, path, site->offset, &options);
        if (!link)
                return attach_fail(site, -errno, reterr);
        f->hooks[f->n_hooks++] = (struct hook){ .link = link };
        f->n_sites++;
        return 0;
}

int uprobe_set_attach(struct uprobe_set *s, const struct uprobe_file *file, int fd, const struct uprobe_plan *plan, char *reterr) {
        char path[64];
        size_t number = 0;
        int r = 0;
        while (number < s->files_max && s->files[number].hooks)
                number++;
        if (number == s->files_max) {
                snprintf(reterr, UPROBE_ERROR_MAX, "%zu files are probed, and no more can be", s->files_max);
                return -ENOSPC;
        }
        struct file f = { .who = *file, .hooks = calloc(TEL_MAX(plan->n, (size_t)1), sizeof(*f.hooks)) };
        if (!f.hooks) {
                snprintf(reterr, UPROBE_ERROR_MAX, "no memory");
                return -ENOMEM;
        }
        /* By descriptor: the file that was looked at, whatever its path is by now. */
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        for (unsigned i = 0; i < s->n_programs && s->multi && r == 0; i++)
                r = attach_multi(s, &f, number, path, plan, i, reterr);
        for (size_t i = 0; i < plan->n && !s->multi && r == 0; i++)
                r = attach_one(s, &f, number, path, &plan->sites[i], reterr);
        if (r < 0) {
                for (size_t i = 0; i < f.n_hooks; i++)
                        hook_end(&f.hooks[i]);
                free(f.hooks);
                return r;
        }
        s->files[number] = f;
        return (int)number;
}

void uprobe_set_trim(struct uprobe_set *s) {
        pthread_t thread;
        for (size_t i = 0; i < s->files_max; i++)
                if (s->files[i].hooks && !s->files[i].users && file_end(&s->files[i], &thread))
                        pthread_detach(thread);
}

/* ---- processes ---- */

static struct process *process_find(const struct uprobe_set *s, uint32_t pid) {
        for (size_t i = 0; i < s->n_processes; i++)
                if (s->processes[i].pid == pid)
                        return &s->processes[i];
        return NULL;
}

static struct process *process_add(struct uprobe_set *s, uint32_t pid) {
        if (s->n_processes == s->processes_room) {
                size_t room = s->processes_room ? s->processes_room * 2 : 16;
                struct process *more = realloc(s->processes, room * sizeof(*more));
                if (!more)
                        return NULL;
                s->processes = more;
                s->processes_room = room;
        }
        s->processes[s->n_processes] = (struct process){ .pid = pid };
        return &s->processes[s->n_processes++];
}

int uprobe_set_use(struct uprobe_set *s, uint32_t pid, int number) {
        struct site_use use = { .tgid = pid, .file = (uint32_t)number };
        uint32_t one = 1;
        struct process *p = process_find(s, pid);
        assert(number >= 0 && (size_t)number < s->files_max && s->files[number].hooks);
        for (uint32_t i = 0; p && i < p->n; i++)
                if (p->files[i] == number)
                        return 0;
        if (p ? p->n == UPROBE_PROCESS_FILES_MAX : s->n_processes == PROBE_TARGETS_MAX)
                return -ENOSPC;
        if (!p && !(p = process_add(s, pid)))
                return -ENOMEM;
        if (bpf_map_update_elem(s->uses, &use, &one, BPF_ANY) < 0) {
                int r = -errno;
                if (!p->n)
                        s->n_processes--;          /* it was the last */
                return r == -E2BIG ? -ENOSPC : r;
        }
        p->files[p->n++] = (uint16_t)number;
        s->files[number].users++;
        return 0;
}

size_t uprobe_set_used(const struct uprobe_set *s, uint32_t pid) {
        const struct process *p = process_find(s, pid);
        return p ? p->n : 0;
}

bool uprobe_set_leave(struct uprobe_set *s, uint32_t pid) {
        struct process *p = process_find(s, pid);
        if (!p)
                return false;
        for (uint32_t i = 0; i < p->n; i++) {
                struct site_use use = { .tgid = pid, .file = p->files[i] };
                bpf_map_delete_elem(s->uses, &use);
                assert(s->files[p->files[i]].users > 0);
                s->files[p->files[i]].users--;
        }
        *p = s->processes[--s->n_processes];
        uprobe_set_trim(s);
        return true;
}

void uprobe_set_count(const struct uprobe_set *s, uint32_t *ret_files, uint32_t *ret_processes, uint32_t *ret_sites) {
        *ret_files = *ret_sites = 0;
        *ret_processes = (uint32_t)s->n_processes;
        for (size_t i = 0; i < s->files_max; i++)
                if (s->files[i].hooks) {
                        ++*ret_files;
                        *ret_sites += (uint32_t)s->files[i].n_sites;
                }
}

/* ---- files with nothing ---- */

static size_t nothing_place(const struct uprobe_file *file) {
        return (size_t)((file->inode * 0x9e3779b97f4a7c15ull ^ file->device) >> 17) % UPROBE_NOTHING_MAX;
}

void uprobe_set_note_nothing(struct uprobe_set *s, const struct uprobe_file *file) {
        s->nothing[nothing_place(file)] = *file;
}

bool uprobe_set_has_nothing(const struct uprobe_set *s, const struct uprobe_file *file) {
        const struct uprobe_file *at = &s->nothing[nothing_place(file)];
        return file->inode && at->inode == file->inode && at->device == file->device && at->size == file->size && at->changed_ns == file->changed_ns;
}

/* ---- reports ---- */

void uprobe_report(char *text, size_t room, const char *format, ...) {
        size_t used = strlen(text);
        va_list args;
        va_start(args, format);
        int n = vsnprintf(text + used, room - used, format, args);
        va_end(args);
        if (n < 0 || (size_t)n + 1 >= room - used) {
                text[used] = '\0';
                return;
        }
        for (char *c = text + used; *c; c++)
                if ((unsigned char)*c < ' ' || *c == 0x7f)
                        *c = '?';
        text[used + (size_t)n] = '\n';
        text[used + (size_t)n + 1] = '\0';
}
