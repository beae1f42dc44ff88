/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/probes/probes.h"

#include <bpf/bpf.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "beylad/probes/process.skel.h"
#include "beylad/probes/ring.h"
#include "beylad/probes/sockets.skel.h"
#include "beylad/probes/syscalls.skel.h"
#include "beylad/probes/uring.skel.h"

static const struct {
        const char *name;
        size_t offset;                             /* in struct probe_maps */
} shared[] = {
        { "events", offsetof(struct probe_maps, events) }, { "targets", offsetof(struct probe_maps, targets) },
        { "verdicts", offsetof(struct probe_maps, verdicts) }, { "ports", offsetof(struct probe_maps, ports) },
        { "counters", offsetof(struct probe_maps, counters) }, { "sockets", offsetof(struct probe_maps, sockets) },
        { "threads", offsetof(struct probe_maps, threads) }, { "sessions", offsetof(struct probe_maps, sessions) },
        { "pending", offsetof(struct probe_maps, pending) }, { "shuts", offsetof(struct probe_maps, shuts) },
        { "switches", offsetof(struct probe_maps, switches) },
};

struct family {
        struct bpf_object *object;
        struct bpf_link *links[8];
        size_t n_links;
        bool works;
        char text[PROBE_ERROR_MAX];
};

struct probes {
        struct probe_maps maps;
        struct sockets_bpf *sockets;               /* one of these two */
        struct syscalls_bpf *syscalls;
        struct process_bpf *process;
        struct uring_bpf *uring;
        struct family families[PROBE_FAMILIES];
        struct probe_switches switches;
        struct ring *ring;
        probes_event_fn event;
        void *ctx;
        unsigned turn;                             /* events of this consume */
        int n_cpus;
        uint64_t *per_cpu;                         /* n_cpus values, for counters */
};

static int *map_fd(struct probe_maps *maps, size_t i) {
        return (int *)((char *)maps + shared[i].offset);
}

int probe_share(struct bpf_object *object, const struct probe_maps *maps) {
        for (size_t i = 0; i < TEL_ARRAY_LEN(shared); i++) {
                struct bpf_map *map = bpf_object__find_map_by_name(object, shared[i].name);
                int fd = *map_fd((struct probe_maps *)maps, i);
                if (!map || fd < 0)
                        continue;
                int r = bpf_map__reuse_fd(map, fd);
                if (r < 0)
                        return r;
        }
        return 0;
}

const char *probe_family_name(enum probe_family f) {
        static const char *const names[] = { [FAMILY_SOCKETS] = "sockets", [FAMILY_PROCESS] = "process", [FAMILY_URING] = "io_uring" };
        return names[f];
}

/* ---- loading ---- */

/* The kernel's last words on why it refused, for people: libbpf prints them, and they would be lost. */
static char last_words[PROBE_ERROR_MAX];

TEL_PRINTF(2, 0) static int on_libbpf_print(enum libbpf_print_level level, const char *format, va_list args) {
        if (level == LIBBPF_WARN) {
                char line[PROBE_ERROR_MAX];
                vsnprintf(line, sizeof(line), format, args);
                line[strcspn(line, "\n")] = '\0';
                if (strncmp(line, "libbpf: ", 8) == 0 && !last_words[0])
                        snprintf(last_words, sizeof(last_words), "%s", line + 8);
        }
        return 0;
}

static int family_fail(struct family *f, const char *what, int r) {
        snprintf(f->text, sizeof(f->text), "%s: %s%s%.150s", what, strerror(-r), last_words[0] ? ": " : "", last_words);
        return r;
}

static int family_attach(struct family *f) {
        struct bpf_program *program;
        bpf_object__for_each_program(program, f->object) {
                if (bpf_program__type(program) == BPF_PROG_TYPE_TRACING && bpf_program__expected_attach_type(program) == BPF_TRACE_ITER)
                        continue;                  /* run when asked */
                if (f->n_links == TEL_ARRAY_LEN(f->links) || !bpf_program__autoload(program))
                        continue;
                struct bpf_link *link = bpf_program__attach(program);
                if (!link) {
                        int r = -errno;
                        char what[96];
                        snprintf(what, sizeof(what), "attaching %s", bpf_program__section_name(program));
                        return family_fail(f, what, r);
                }
                f->links[f->n_links++] = link;
        }
        return 0;
}

static int family_load(struct probes *p, enum probe_family which, struct bpf_object *object, const char *hooks) {
        struct family *f = &p->families[which];
        f->object = object;
        last_words[0] = '\0';
        int r = probe_share(object, &p->maps);
        if (r == 0)
                r = bpf_object__load(object);
        if (r < 0)
                return family_fail(f, "loading", r);
        r = family_attach(f);
        if (r < 0)
                return r;
        snprintf(f->text, sizeof(f->text), "%s", hooks);
        f->works = true;
        return 0;
}

static void family_end(struct family *f) {
        for (size_t i = 0; i < f->n_links; i++)
                bpf_link__destroy(f->links[i]);
        f->n_links = 0;
        f->object = NULL;
}

/* Both techniques: the first object that is loaded makes the shared maps. */
static int load_source(struct probes *p, struct bpf_object *object, struct bpf_map *scratches, const char *hooks) {
        int r = bpf_map__set_max_entries(scratches, (uint32_t)p->n_cpus);
        if (r == 0)
                r = family_load(p, FAMILY_SOCKETS, object, hooks);
        for (size_t i = 0; r == 0 && i < TEL_ARRAY_LEN(shared); i++)
                *map_fd(&p->maps, i) = bpf_object__find_map_fd_by_name(object, shared[i].name);
        return r;
}

static int load_by_socket(struct probes *p) {
        p->sockets = sockets_bpf__open();
        if (!p->sockets)
                return -errno;
        return load_source(p, p->sockets->obj, p->sockets->maps.scratches, "tp_btf sock_send_length, sock_recv_length, inet_sock_set_state");
}

/* Connections that are there already get their names. */
static int name_sockets(struct probes *p) {
        struct bpf_link *link = bpf_program__attach_iter(p->syscalls->progs.name_sockets, NULL);
        char nothing[64];
        if (!link)
                return -errno;
        int fd = bpf_iter_create(bpf_link__fd(link)), r = fd < 0 ? fd : 0;
        ssize_t n = 0;
        while (fd >= 0 && ((n = read(fd, nothing, sizeof(nothing))) > 0 || (n < 0 && errno == EINTR)))
                ;
        if (n < 0)
                r = -errno;
        if (fd >= 0)
                close(fd);
        bpf_link__destroy(link);
        return r;
}

static int load_by_syscall(struct probes *p) {
        p->syscalls = syscalls_bpf__open();
        if (!p->syscalls)
                return -errno;
        int r = load_source(p, p->syscalls->obj, p->syscalls->maps.scratches,
                            "tp_btf sys_exit, inet_sock_set_state; io_uring, sendmmsg and recvmmsg are not seen");
        if (r == 0) {
                last_words[0] = '\0';
                r = name_sockets(p);
                if (r < 0)
                        family_fail(&p->families[FAMILY_SOCKETS], "iter/task_file", r);
        }
        return r;
}

static int load_sockets(struct probes *p, enum probe_technique technique) {
        struct family *f = &p->families[FAMILY_SOCKETS];
        char why[PROBE_ERROR_MAX] = "";
        if (technique != PROBE_TECHNIQUE_SYSCALL) {
                int r = load_by_socket(p);
                if (r == 0 || technique == PROBE_TECHNIQUE_SOCKET)
                        return r;
                memcpy(why, f->text, sizeof(why));
                family_end(f);
                sockets_bpf__destroy(p->sockets);
                p->sockets = NULL;
        }
        int r = load_by_syscall(p);
        size_t n = strlen(f->text);
        if (*why)
                snprintf(f->text + n, sizeof(f->text) - n, " (technique socket: %s)", why);
        return r;
}

static int load_process(struct probes *p) {
        p->process = process_bpf__open();
        return p->process ? family_load(p, FAMILY_PROCESS, p->process->obj, "tp_btf sched_process_fork, exec, exit; iter/task_file") : -errno;
}

static int load_uring(struct probes *p) {
        if (p->syscalls) {
                snprintf(p->families[FAMILY_URING].text, PROBE_ERROR_MAX, "needs tp_btf sock_send_length");
                return -EOPNOTSUPP;
        }
        p->uring = uring_bpf__open();
        if (!p->uring)
                return -errno;
        int r = bpf_map__set_max_entries(p->uring->maps.scratches, (uint32_t)p->n_cpus);
        return r < 0 ? r : family_load(p, FAMILY_URING, p->uring->obj, "tp_btf io_uring_complete");
}

static bool on_record(void *ctx, const void *data, size_t n) {
        struct probes *p = ctx;
        const struct probe_head *e = data;
        if (n >= sizeof(*e) && e->size >= sizeof(*e) && e->size <= n)
                p->event(p->ctx, e);
        return ++p->turn < PROBES_TURN_MAX;
}

/* What usually is the matter, where the error number alone says little. */
static const char *advice(int r) {
        if (r == -EPERM || r == -EACCES)
                return "; beylad needs CAP_BPF and CAP_PERFMON (root has them), and a kernel that allows bpf(2)";
        if (r == -ESRCH || r == -ENOENT || r == -EINVAL)
                return "; beylad needs a kernel of 5.15 or later with BTF";
        return "";
}

/* The kernel side sets wake to 0 at any time; everything else is ours. */
static void switches_write(struct probes *p) {
        uint32_t zero = 0;
        p->switches.wake = 1;
        bpf_map_update_elem(p->maps.switches, &zero, &p->switches, BPF_ANY);
}

int probes_new(enum probe_technique technique, probes_event_fn event, void *ctx, struct probes **ret, char *reterr) {
        struct probes *p = calloc(1, sizeof(*p));
        if (!p)
                return -ENOMEM;
        p->event = event;
        p->ctx = ctx;
        p->n_cpus = libbpf_num_possible_cpus();
        p->per_cpu = calloc((size_t)TEL_MAX(p->n_cpus, 1), sizeof(uint64_t));
        memset(&p->maps, 0xff, sizeof(p->maps));   /* -1 each */
        libbpf_set_print(on_libbpf_print);
        int r = p->n_cpus < 0 ? p->n_cpus : !p->per_cpu ? -ENOMEM : load_sockets(p, technique);
        enum probe_family failed = FAMILY_SOCKETS;
        if (r == 0) {
                probes_capture_max(p, PROBE_CALL_MAX);
                r = load_process(p);
                failed = FAMILY_PROCESS;
        }
        if (r == 0) {
                /* Without it programs on io_uring are seen by their bytes' number alone, and explain says so. */
                p->switches.uring = load_uring(p) == 0;
                switches_write(p);
                r = ring_new(p->maps.events, PROBE_RING_BYTES, sizeof(struct probe_data) + PROBE_CAPTURE_MAX, &p->ring);
        }
        if (r < 0) {
                snprintf(reterr, PROBE_ERROR_MAX, "probes of %s: %.120s%.100s", probe_family_name(failed),
                         p->families[failed].text[0] ? p->families[failed].text : strerror(-r), advice(r));
                probes_free(p);
                return r;
        }
        *ret = p;
        return 0;
}

struct probes *probes_free(struct probes *p) {
        if (!p)
                return NULL;
        ring_free(p->ring);
        for (size_t i = 0; i < PROBE_FAMILIES; i++)
                family_end(&p->families[i]);
        process_bpf__destroy(p->process);
        uring_bpf__destroy(p->uring);
        sockets_bpf__destroy(p->sockets);
        syscalls_bpf__destroy(p->syscalls);
        free(p->per_cpu);
        free(p);
        return NULL;
}

const char *probes_family_text(const struct probes *p, enum probe_family f) {
        return p->families[f].text;
}

bool probes_family_works(const struct probes *p, enum probe_family f) {
        return p->families[f].works;
}

const struct probe_maps *probes_maps(const struct probes *p) {
        return &p->maps;
}

/* ---- maps ---- */

int probes_target_set(struct probes *p, uint32_t tgid, const struct probe_target *t) {
        return bpf_map_update_elem(p->maps.targets, &tgid, t, BPF_ANY);
}

int probes_target_get(struct probes *p, uint32_t tgid, struct probe_target *ret) {
        return bpf_map_lookup_elem(p->maps.targets, &tgid, ret);
}

void probes_target_remove(struct probes *p, uint32_t tgid) {
        bpf_map_delete_elem(p->maps.targets, &tgid);
}

void probes_verdict_set(struct probes *p, uint64_t connection, const struct probe_verdict *v) {
        bpf_map_update_elem(p->maps.verdicts, &connection, v, BPF_ANY);    /* full: it goes on capturing */
}

void probes_verdict_remove(struct probes *p, uint64_t connection) {
        bpf_map_delete_elem(p->maps.verdicts, &connection);
}

void probes_port_add(struct probes *p, uint32_t netns, uint32_t port) {
        struct probe_port key = { netns, port };
        uint32_t listeners = 0;
        bpf_map_lookup_elem(p->maps.ports, &key, &listeners);
        listeners++;
        bpf_map_update_elem(p->maps.ports, &key, &listeners, BPF_ANY);
}

void probes_capture_max(struct probes *p, uint32_t bytes) {
        p->switches.capture_max = bytes;
        switches_write(p);
}

void probes_sleep(struct probes *p) {
        switches_write(p);
}

int probes_fd(const struct probes *p) {
        return p->maps.events;
}

/* Ends of connections that found the ring full: once all that came before them was read. */
static void take_late(struct probes *p) {
        struct probe_shut late;
        for (unsigned i = 0; i < PROBE_SHUTS_MAX && bpf_map_lookup_and_delete_elem(p->maps.shuts, NULL, &late) == 0; i++)
                p->event(p->ctx, &late.head);
}

unsigned probes_consume(struct probes *p) {
        p->turn = 0;
        ring_consume(p->ring, on_record, p);
        if (p->turn < PROBES_TURN_MAX)
                take_late(p);
        return p->turn;
}

/* ---- figures ---- */

static uint64_t map_bytes(int fd) {
        char path[64], line[128];
        unsigned long long bytes = 0;
        snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
        FILE *f = fopen(path, "re");
        while (f && fgets(line, sizeof(line), f))
                if (sscanf(line, "memlock: %llu", &bytes) == 1)
                        break;
        if (f)
                fclose(f);
        return bytes;
}

int probes_measure(void) {
        return bpf_enable_stats(BPF_STATS_RUN_TIME);
}

static void add_program(struct probe_counters *ret, const struct bpf_program *program) {
        struct bpf_prog_info info = { 0 };
        uint32_t size = sizeof(info);
        if (bpf_program__fd(program) < 0 || bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) < 0)
                return;
        ret->missed += info.recursion_misses;
        ret->run_ns += info.run_time_ns;
        ret->runs += info.run_cnt;
}

void probes_get_counters(struct probes *p, struct probe_counters *ret) {
        struct bpf_program *program;
        memset(ret, 0, sizeof(*ret));
        for (uint32_t i = 0; i < PROBE_COUNTERS; i++)
                if (bpf_map_lookup_elem(p->maps.counters, &i, p->per_cpu) == 0)
                        for (int cpu = 0; cpu < p->n_cpus; cpu++)
                                ret->values[i] += p->per_cpu[cpu];
        for (size_t i = 0; i < PROBE_FAMILIES; i++)
                if (p->families[i].object)
                        bpf_object__for_each_program(program, p->families[i].object)
                                add_program(ret, program);
        for (size_t i = 0; i < TEL_ARRAY_LEN(shared); i++)
                ret->map_bytes += map_bytes(*map_fd(&p->maps, i));
}

/* ---- the list of listeners ---- */

int probes_find_listeners(struct probes *p, uint32_t tgid, probes_found_fn found, void *ctx) {
        union bpf_iter_link_info info = { .task.pid = tgid };
        LIBBPF_OPTS(bpf_iter_attach_opts, options, .link_info = &info, .link_info_len = sizeof(info));
        struct probe_found buffer[256];
        int fd, r = 0;
        struct bpf_link *link = bpf_program__attach_iter(p->process->progs.list_listeners, tgid ? &options : NULL);
        if (!link && tgid)                         /* before 6.1 it lists those of all */
                link = bpf_program__attach_iter(p->process->progs.list_listeners, NULL);
        if (!link)
                return -errno;
        fd = bpf_iter_create(bpf_link__fd(link));
        for (ssize_t n; fd >= 0 && (n = read(fd, buffer, sizeof(buffer))) != 0;) {
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) {
                        r = -errno;
                        break;
                }
                for (size_t i = 0; i < (size_t)n / sizeof(buffer[0]); i++)
                        if (!tgid || buffer[i].tgid == tgid)
                                found(ctx, &buffer[i]);
        }
        if (fd >= 0)
                close(fd);
        else
                r = fd;
        bpf_link__destroy(link);
        return r;
}
