/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/discover.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "beylad/stats.h"
#include "libtelemetry/log.h"

#define BUCKETS 4096u
#define TLS_LOOKS 3                                /* at a process whose libraries may not be mapped yet: 1 s, 5 s and 30 s after it was found */
static const uint64_t tls_look_ns[TLS_LOOKS] = { 1 * TEL_NS_PER_S, 5 * TEL_NS_PER_S, 30 * TEL_NS_PER_S };

/* A process that is observed, or wants to be. */
struct observed {
        struct observed *next;                     /* in its bucket */
        uint32_t pid;
        struct process *process;                   /* NULL: a fork nobody has heard of yet, or one that cannot be read */
        struct process *parent;                    /* of a fork: whose identity it has if it is gone before it could be read */
        uint32_t port;                             /* it was selected by; 0: by its executable */
        dev_t device;                              /* of its executable, with inode: another one is another program */
        ino_t inode;
        struct probe_target target;
        bool warned;                               /* of its failure */
        uint64_t due_ns, wait_ns;                  /* next look; UINT64_MAX: none */
        unsigned looks;
        uint64_t found_ns;
        char tls[256], go[256];                    /* what attaching said, its beginning */
};

struct pending {
        uint32_t pid;
        uint64_t due_ns;
};

struct discover {
        struct discover_options options;
        const struct selection *selection;
        bool paused;
        uint32_t generation;                       /* of the targets from now on */
        struct observed *buckets[BUCKETS];
        size_t n;
        struct pending pending[DISCOVER_PENDING_MAX];
        size_t n_pending;
        bool scan;                                 /* more was executed than pending holds: look at all */
        uint64_t scan_ns;
        bool full_logged;
        struct probe_found *listeners;             /* of one scan */
        size_t n_listeners, room;
};

struct discover *discover_new(const struct discover_options *options) {
        struct discover *d = calloc(1, sizeof(*d));
        if (d)
                d->options = *options;
        return d;
}

static struct observed **bucket_of(struct discover *d, uint32_t pid) {
        return &d->buckets[pid * 2654435761u >> 20 & (BUCKETS - 1)];
}

static struct observed *find(struct discover *d, uint32_t pid) {
        struct observed *o = *bucket_of(d, pid);
        while (o && o->pid != pid)
                o = o->next;
        return o;
}

static struct observed *observed_new(struct discover *d, uint32_t pid, uint32_t port) {
        if (d->n >= PROBE_TARGETS_MAX) {
                stats.processes.full++;
                if (!d->full_logged)
                        tel_log(TEL_LOG_WARN, "too many processes to observe; the others are left out", { "limit", "4096" });
                d->full_logged = true;
                return NULL;
        }
        struct observed *o = calloc(1, sizeof(*o));
        if (!o)
                return NULL;
        o->pid = pid;
        o->port = port;
        o->due_ns = UINT64_MAX;
        o->target.generation = d->generation;
        o->next = *bucket_of(d, pid);
        *bucket_of(d, pid) = o;
        d->n++;
        return o;
}

/* ended: the process or its program is no more; else it is only no longer wanted. */
static void observed_free(struct discover *d, struct observed *o) {
        struct observed **at = bucket_of(d, o->pid);
        while (*at != o)
                at = &(*at)->next;
        *at = o->next;
        d->n--;
        probes_target_remove(d->options.probes, o->pid);
        if (d->options.tls)
                tls_probes_detach(d->options.tls, o->pid);
        if (d->options.go)
                go_probes_detach(d->options.go, o->pid);
        if (o->process) {
                stats.processes.ended++;
                d->options.ended(d->options.ctx, o->process);
        }
        process_unref(o->process);
        process_unref(o->parent);
        free(o);
}

struct discover *discover_free(struct discover *d) {
        if (!d)
                return NULL;
        for (size_t i = 0; i < BUCKETS; i++)
                while (d->buckets[i])
                        observed_free(d, d->buckets[i]);
        free(d->listeners);
        free(d);
        return NULL;
}

/* ---- attaching ---- */

static void failed(struct observed *o, const char *what, const char *cause, uint64_t now_ns) {
        char pid[16];
        stats.processes.failures++;
        o->wait_ns = o->wait_ns ? TEL_MIN(2 * o->wait_ns, (uint64_t)DISCOVER_RETRY_MAX_NS) : DISCOVER_RETRY_MIN_NS;
        o->due_ns = now_ns + o->wait_ns;
        if (!o->warned)
                tel_log(TEL_LOG_WARN, "cannot observe a process; it runs on untouched, and is tried again",
                        { "pid", TEL_LOGF(pid, "%u", o->pid) }, { "what", what }, { "err", cause });
        o->warned = true;
}

/* The first line of a report that names a failure, or nothing. */
static const char *failure_line(const char *text, char *out, size_t n) {
        for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL)
                if (line[0] == '!') {
                        snprintf(out, n, "%.*s", (int)strcspn(line, "\n"), line);
                        return out;
                }
        return NULL;
}

/* Plaintext and goroutines, as far as the program has them. Sets the flags of its target. Returns whether all that is there could be attached. */
static bool attach_libraries(struct discover *d, struct observed *o, uint64_t now_ns) {
        struct tls_report tls;
        struct go_report go;
        char line[256];
        bool good = true;
        if (o->process->is_32bit) {
                failed(o, "its calls", "it is a 32-bit program, which the probes cannot read", now_ns);
                o->due_ns = UINT64_MAX;            /* that will not change */
                return false;
        }
        if (d->options.go && go_probes_attach(d->options.go, o->pid, &go) >= 0) {
                snprintf(o->go, sizeof(o->go), "%.255s", go.text);
                if (go.goroutines)
                        o->target = (struct probe_target){ .flags = o->target.flags | go.target.flags, .g_tls = go.target.g_tls,
                                                           .g_goid = go.target.g_goid, .g_parent = go.target.g_parent,
                                                           .generation = o->target.generation };
        }
        if (d->options.tls) {
                /* The flag comes first: the first handshake may be under way. */
                int r = tls_probes_attach(d->options.tls, o->pid, &tls);
                if (r > 0)
                        o->target.flags |= PROBE_TARGET_TLS;
                snprintf(o->tls, sizeof(o->tls), "%.255s", tls.text);
                if (r != -ESRCH && (r < 0 || tls.failed > 0)) {
                        failed(o, "TLS library", failure_line(tls.text, line, sizeof(line)) ? line : strerror(r < 0 ? -r : EIO), now_ns);
                        good = false;
                }
        }
        int r = probes_target_set(d->options.probes, o->pid, &o->target);
        if (r < 0) {
                failed(o, "target map", strerror(-r), now_ns);
                return false;
        }
        return good;
}

static void look_again(struct observed *o) {
        if (o->due_ns == UINT64_MAX && o->looks < TLS_LOOKS)
                o->due_ns = o->found_ns + tls_look_ns[o->looks];
}

static int exe_stat(struct discover *d, uint32_t pid, struct stat *ret) {
        char path[300];
        snprintf(path, sizeof(path), "%s/%u/exe", d->options.process->proc, pid);
        return stat(path, ret) < 0 ? -errno : 0;
}

/* Reads who it is and observes it. Returns false when it is gone; o is freed then. */
static bool attach(struct discover *d, struct observed *o, uint64_t now_ns) {
        char pid[16], port[16];
        struct stat st;
        o->due_ns = UINT64_MAX;
        if (!o->process) {
                struct process *p = NULL;
                int r = process_read(o->pid, d->options.process, &p);
                if (r == -ESRCH && o->parent)
                        r = process_copy(o->parent, o->pid, &p);   /* it is gone already: who it was, its parent tells */
                if (r == -ESRCH) {
                        observed_free(d, o);
                        return false;
                } else if (r < 0) {
                        failed(o, "/proc", strerror(-r), now_ns);
                        return true;
                }
                if (exe_stat(d, o->pid, &st) == 0) {
                        o->device = st.st_dev;
                        o->inode = st.st_ino;
                }
                o->process = p;
                o->process->port = o->port;
                o->found_ns = now_ns;
                stats.processes.attached++;
                d->options.found(d->options.ctx, p);
                tel_log(TEL_LOG_INFO, "attached to process", { "pid", TEL_LOGF(pid, "%u", o->pid) }, { "executable", p->exe }, { "name", p->name },
                        { "port", TEL_LOGF(port, "%u", o->port) });
        }
        if (attach_libraries(d, o, now_ns)) {
                if (o->warned)
                        tel_log(TEL_LOG_INFO, "a process that could not be observed is observed now", { "pid", TEL_LOGF(pid, "%u", o->pid) });
                o->warned = false;
                o->wait_ns = 0;
        }
        if (!o->process->is_32bit)
                look_again(o);
        return true;
}

/* ---- who belongs ---- */

static bool read_exe(uint32_t pid, const char *proc, char *out, size_t n) {
        char path[300];
        snprintf(path, sizeof(path), "%s/%u/exe", proc, pid);
        ssize_t len = readlink(path, out, n - 1);
        if (len < 0)
                return false;                      /* gone, or a thread of the kernel */
        out[len] = '\0';
        return true;
}

static void pending_add(struct discover *d, uint32_t pid, uint64_t now_ns) {
        if (d->n_pending == DISCOVER_PENDING_MAX) {
                d->scan = true;
                d->scan_ns = now_ns + DISCOVER_EXEC_NS;
                return;
        }
        d->pending[d->n_pending++] = (struct pending){ pid, now_ns + DISCOVER_EXEC_NS };
}

/* Whether o speaks of a process that is gone, of a number that another has now, or of a program it no longer runs. */
static bool is_stale(struct discover *d, const struct observed *o) {
        struct stat st;
        uint64_t start = 0;
        int r = process_start_ticks(o->pid, d->options.process->proc, &start);
        if (r < 0 || !o->process)
                return r == -ESRCH;
        return start != o->process->start_ticks || (exe_stat(d, o->pid, &st) == 0 && (st.st_ino != o->inode || st.st_dev != o->device));
}

bool discover_check(struct discover *d, uint64_t now_ns) {
        bool any = false;
        for (size_t i = 0; i < BUCKETS; i++)
                for (struct observed *o = d->buckets[i], *next; o; o = next) {
                        uint32_t pid = o->pid;
                        next = o->next;
                        if (!is_stale(d, o))
                                continue;
                        observed_free(d, o);
                        pending_add(d, pid, now_ns);
                        any = true;
                }
        return any;
}

/* Observes pid when it belongs: by port (0: none of its ports is selected) or by its executable. */
static void consider(struct discover *d, uint32_t pid, uint32_t port, uint64_t now_ns) {
        char exe[PROCESS_TEXT_MAX];
        struct observed *known = find(d, pid);
        if (pid == (uint32_t)getpid() || (known && !is_stale(d, known)))
                return;
        if (known)
                observed_free(d, known);
        bool readable = read_exe(pid, d->options.process->proc, exe, sizeof(exe));
        if (!readable && (errno != EACCES || !port))
                return;
        if (readable && (selection_excluded(d->selection, exe) || (!port && !selection_executable(d->selection, exe))))
                return;
        struct observed *o = observed_new(d, pid, port);
        if (o)
                attach(d, o, now_ns);
}

static void on_listener(void *ctx, const struct probe_found *f) {
        struct discover *d = ctx;
        if (d->n_listeners == d->room) {
                size_t room = d->room ? 2 * d->room : 256;
                struct probe_found *more = room <= 1u << 20 ? reallocarray(d->listeners, room, sizeof(*more)) : NULL;
                if (!more)
                        return;                    /* what is left out here is found when it speaks up */
                d->listeners = more;
                d->room = room;
        }
        d->listeners[d->n_listeners++] = *f;
}

static int by_inode(const void *a, const void *b) {
        const struct probe_found *x = a, *y = b;
        return x->inode < y->inode ? -1 : x->inode > y->inode;
}

static int list(struct discover *d, uint32_t pid) {
        d->n_listeners = 0;
        return probes_find_listeners(d->options.probes, pid, on_listener, d);
}

static void consider_listeners(struct discover *d, uint64_t now_ns) {
        for (size_t i = 0; i < d->n_listeners; i++)
                if (selection_port(d->selection, d->listeners[i].port))
                        consider(d, d->listeners[i].tgid, d->listeners[i].port, now_ns);
}

/* Every process, for the start and for when too much happened at once. */
static int scan(struct discover *d, bool count_ports, uint64_t now_ns) {
        int r = list(d, 0);
        if (r < 0)
                return r;
        qsort(d->listeners, d->n_listeners, sizeof(d->listeners[0]), by_inode);
        for (size_t i = 0; count_ports && i < d->n_listeners; i++)
                if (i == 0 || d->listeners[i].inode != d->listeners[i - 1].inode)      /* shared ones count once */
                        probes_port_add(d->options.probes, d->listeners[i].netns, d->listeners[i].port);
        consider_listeners(d, now_ns);
        DIR *dir = opendir(d->options.process->proc);
        if (!dir)
                return -errno;
        for (struct dirent *e; (e = readdir(dir)) != NULL;)
                if (e->d_name[0] >= '1' && e->d_name[0] <= '9')
                        consider(d, (uint32_t)strtoul(e->d_name, NULL, 10), 0, now_ns);
        closedir(dir);
        return 0;
}

void discover_pause(struct discover *d, bool on, uint64_t now_ns) {
        d->paused = on;
        d->generation += on;
        for (size_t i = 0; on && i < BUCKETS; i++)
                while (d->buckets[i])
                        observed_free(d, d->buckets[i]);
        d->n_pending = on ? 0 : d->n_pending;
        d->scan = !on;
        d->scan_ns = now_ns;
}

int discover_select(struct discover *d, const struct selection *selection, uint64_t now_ns) {
        bool first = d->selection == NULL;
        d->selection = selection;
        if (d->paused)
                return 0;
        d->generation++;
        for (size_t i = 0; i < BUCKETS; i++)
                for (struct observed *o = d->buckets[i], *next; o; o = next) {
                        next = o->next;
                        const char *exe = o->process ? o->process->exe : "";
                        if (selection_excluded(selection, exe) || !((o->port && selection_port(selection, o->port)) || selection_executable(selection, exe)))
                                observed_free(d, o);
                }
        return scan(d, first, now_ns);
}

/* ---- what happens ---- */

static void on_fork(struct discover *d, uint32_t pid, uint32_t parent_pid, uint64_t now_ns) {
        struct observed *parent = find(d, parent_pid), *o = find(d, pid);
        if (!parent || o)
                return;
        o = observed_new(d, pid, parent->port);
        if (!o) {
                probes_target_remove(d->options.probes, pid);
                return;
        }
        struct process *known = parent->process ? parent->process : parent->parent;
        o->parent = known ? process_ref(known) : NULL;
        o->target = parent->target;
        /* Whose libraries are probed is known by process; the others are read when they are first heard of, most forks never are. */
        if (parent->target.flags & PROBE_TARGET_TLS)
                attach(d, o, now_ns);
}

void discover_event(struct discover *d, const struct probe_process *e, uint64_t now_ns) {
        struct observed *o = find(d, e->head.tgid);
        if (d->paused)
                return;
        switch (e->what) {
        case PROBE_FORK:
                on_fork(d, e->head.tgid, e->parent, now_ns);
                break;
        case PROBE_EXEC:
                if (o)
                        observed_free(d, o);
                pending_add(d, e->head.tgid, now_ns);
                break;
        case PROBE_EXIT:
                if (o)
                        observed_free(d, o);
                break;
        case PROBE_LISTEN:
                if (selection_port(d->selection, e->port))
                        consider(d, e->head.tgid, e->port, now_ns);
                break;
        }
}

struct process *discover_find(struct discover *d, uint32_t pid, uint64_t now_ns) {
        struct observed *o = find(d, pid);
        if (!o) {
                /* The kernel side observes it, so its parent was observed: the news of the fork was lost. */
                struct probe_target target;
                if (d->paused || probes_target_get(d->options.probes, pid, &target) < 0 || !(o = observed_new(d, pid, 0)))
                        return NULL;
                o->target = target;
        }
        if (!o->process && o->due_ns == UINT64_MAX) {      /* a fork that does something */
                if (!attach(d, o, now_ns))
                        return NULL;
        }
        return o->process;
}

void discover_tls_wanted(struct discover *d, uint32_t pid, uint64_t now_ns) {
        struct observed *o = find(d, pid);
        if (o && o->process && o->looks < TLS_LOOKS && o->due_ns > now_ns)
                o->due_ns = now_ns;
}

static uint64_t step_pending(struct discover *d, uint64_t now_ns) {
        size_t done = 0;
        while (done < d->n_pending && d->pending[done].due_ns <= now_ns) {
                uint32_t pid = d->pending[done++].pid;
                char exe[PROCESS_TEXT_MAX];
                if (find(d, pid) || !read_exe(pid, d->options.process->proc, exe, sizeof(exe)))
                        continue;
                if (selection_executable(d->selection, exe))
                        consider(d, pid, 0, now_ns);
                else if (!selection_excluded(d->selection, exe) && list(d, pid) == 0)
                        consider_listeners(d, now_ns);     /* systemd's socket activation hands listeners over */
        }
        d->n_pending -= done;
        memmove(d->pending, d->pending + done, d->n_pending * sizeof(d->pending[0]));
        return d->n_pending ? d->pending[0].due_ns : UINT64_MAX;
}

uint64_t discover_step(struct discover *d, uint64_t now_ns) {
        uint64_t next = step_pending(d, now_ns);
        if (d->scan && d->scan_ns <= now_ns) {
                d->scan = false;
                scan(d, false, now_ns);
        }
        if (d->scan)
                next = TEL_MIN(next, d->scan_ns);
        for (size_t i = 0; i < BUCKETS; i++)
                for (struct observed *o = d->buckets[i], *after; o; o = after) {
                        after = o->next;
                        if (o->due_ns <= now_ns) {
                                o->looks += o->looks < TLS_LOOKS;
                                if (!attach(d, o, now_ns))
                                        continue;
                        }
                        next = TEL_MIN(next, o->due_ns);
                }
        return next;
}

void discover_each(struct discover *d, discover_each_fn each, void *ctx) {
        for (size_t i = 0; i < BUCKETS; i++)
                for (struct observed *o = d->buckets[i]; o; o = o->next)
                        if (o->process)
                                each(ctx, o->process, o->tls, o->go);
}

size_t discover_count(const struct discover *d) {
        return d->n;
}
