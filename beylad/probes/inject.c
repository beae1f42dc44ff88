/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/probes/inject.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "beylad/probes/inject.skel.h"

#define TRY_MS 1000                                /* for five bytes over the loopback */

struct inject {
        struct inject_options options;
        char *cgroup;
        struct inject_bpf *bpf;                    /* NULL: not attached */
        struct bpf_link *links[4];
        size_t n_links;
        uint64_t inode;                            /* of the cgroup it is attached to */
        bool paused;
        bool wrong;                                /* the folder is none that is ever used */
        bool refused;                              /* by the kernel: trying again is of no use */
        bool miscounts;
        struct inject_stats before;                /* of what was attached earlier */
        int n_cpus;
        uint64_t *per_cpu;                         /* n_cpus values */
        char text[INJECT_TEXT_MAX];
};

TEL_PRINTF(3, 4) static int fail(struct inject *t, int r, const char *format, ...) {
        va_list args;
        va_start(args, format);
        vsnprintf(t->text, sizeof(t->text), format, args);
        va_end(args);
        return r;
}

/* ---- the cgroup ---- */

/* Returns a descriptor of the folder, or -errno with the text set. */
static int cgroup_open(struct inject *t, uint64_t *ret_inode) {
        struct statfs fs;
        struct stat st;
        int fd = open(t->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        t->wrong = fd < 0 && errno == ENOTDIR;
        if (fd < 0)
                return fail(t, -errno, "%scgroup '%.200s': %s", t->wrong ? "inject." : "off: ", t->cgroup, strerror(errno));
        int r = fstatfs(fd, &fs) < 0 || fstat(fd, &st) < 0 ? -errno : 0;
        if (r < 0)
                fail(t, r, "off: cgroup '%.200s': %s", t->cgroup, strerror(-r));
        else if (fs.f_type != CGROUP2_SUPER_MAGIC)
                r = fail(t, -EINVAL, "inject.cgroup '%.200s' is no folder of a cgroup of version 2", t->cgroup);
        else if (faccessat(fd, "cgroup.type", F_OK, 0) < 0)            /* every cgroup has it but the root */
                r = fail(t, -EINVAL, "inject.cgroup '%.200s' is the root cgroup, which holds every program of this machine: name a cgroup below it", t->cgroup);
        t->wrong = r == -EINVAL;
        if (r < 0) {
                close(fd);
                return r;
        }
        *ret_inode = st.st_ino;
        return fd;
}

/* ---- what the kernel does with sockets in a hash ---- */

/* Two ends of a connection over the loopback. */
static int pair_open(int ret[static 2]) {
        struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t n = sizeof(at);
        int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), r = 0;
        ret[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ret[1] = -1;
        if (listener < 0 || ret[0] < 0 || bind(listener, (struct sockaddr *)&at, n) < 0 || listen(listener, 1) < 0 ||
            getsockname(listener, (struct sockaddr *)&at, &n) < 0 || connect(ret[0], (struct sockaddr *)&at, n) < 0 ||
            (ret[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
                r = -errno;
        if (listener >= 0)
                close(listener);
        return r;
}

/* Some kernels tell a program that nothing waits to be read (FIONREAD) while there is, for sockets in a hash: nginx then waits for ever. */
static int try_reading(struct inject *t, int map) {
        uint64_t key = 0, value;
        int ends[2], waiting = 0;
        char bytes[8];
        int r = pair_open(ends);
        if (r == 0) {
                struct pollfd readable = { .fd = ends[0], .events = POLLIN };
                value = (uint64_t)ends[0];
                if (bpf_map_update_elem(map, &key, &value, BPF_ANY) < 0)
                        r = -errno;
                else if (send(ends[1], "hello", 5, MSG_NOSIGNAL) != 5 || poll(&readable, 1, TRY_MS) != 1 || ioctl(ends[0], FIONREAD, &waiting) < 0 ||
                         recv(ends[0], bytes, sizeof(bytes), MSG_DONTWAIT) != 5)
                        r = -EIO;
                t->miscounts = waiting != 5;
                bpf_map_delete_elem(map, &key);
        }
        for (int i = 0; i < 2; i++)
                if (ends[i] >= 0)
                        close(ends[i]);
        return r < 0 ? fail(t, r, "off: trying a socket in a sockhash: %s", strerror(-r)) : 0;
}

/* ---- attaching ---- */

static void outcomes_add(const struct inject *t, struct inject_stats *ret) {
        struct bpf_program *program;
        if (!t->bpf)
                return;
        for (uint32_t i = 0; i < PROBE_OUTCOMES; i++)
                if (bpf_map_lookup_elem(bpf_map__fd(t->bpf->maps.outcomes), &i, t->per_cpu) == 0)
                        for (int cpu = 0; cpu < t->n_cpus; cpu++)
                                ret->outcomes[i] += t->per_cpu[cpu];
        bpf_object__for_each_program(program, t->bpf->obj) {
                struct bpf_prog_info info = { 0 };
                uint32_t size = sizeof(info);
                if (bpf_program__fd(program) < 0 || bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) < 0)
                        continue;
                ret->run_ns += info.run_time_ns;
                ret->runs += info.run_cnt;
        }
}

/* The kernel frees a hash when it comes to it, and holds on to the sockets until then. */
static void let_go(const struct inject *t) {
        int map = t->bpf ? bpf_map__fd(t->bpf->maps.connected) : -1;
        uint64_t key;
        for (uint32_t i = 0; map >= 0 && i < 2 * bpf_map__max_entries(t->bpf->maps.connected) && bpf_map_get_next_key(map, NULL, &key) == 0; i++)
                bpf_map_delete_elem(map, &key);
}

static void detach(struct inject *t) {
        outcomes_add(t, &t->before);
        for (size_t i = 0; i < t->n_links; i++)
                bpf_link__destroy(t->links[i]);
        t->n_links = 0;
        let_go(t);
        inject_bpf__destroy(t->bpf);
        t->bpf = NULL;
        t->inode = 0;
}

static int keep(struct inject *t, struct bpf_link *link, const char *what) {
        if (!link)
                return fail(t, -errno, "off: attaching %s: %s", what, strerror(errno));
        t->links[t->n_links++] = link;
        return 0;
}

static int load(struct inject *t) {
        int r = probe_share(t->bpf->obj, t->options.maps);
        if (r == 0)
                r = bpf_map__set_max_entries(t->bpf->maps.heads, (uint32_t)t->n_cpus);
        if (r == 0)
                r = inject_bpf__load(t->bpf);
        return r < 0 ? fail(t, r, "off: loading: %s", strerror(-r)) : 0;
}

/* Sockets come last: by then what is served is followed. */
static int attach_programs(struct inject *t, int cgroup) {
        struct inject_bpf *b = t->bpf;
        uint32_t zero = 0;
        int r = bpf_map_update_elem(bpf_map__fd(b->maps.cgroups), &zero, &cgroup, BPF_ANY);
        if (r == 0)
                r = bpf_map_update_elem(bpf_map__fd(b->maps.rules), &zero, &t->options.rules, BPF_ANY);
        if (r == 0)
                r = bpf_prog_attach(bpf_program__fd(b->progs.on_message), bpf_map__fd(b->maps.connected), BPF_SK_MSG_VERDICT, 0);
        if (r < 0)
                return fail(t, r, "off: sk_msg: %s", strerror(errno));
        r = try_reading(t, bpf_map__fd(b->maps.connected));
        if (r == 0)
                r = keep(t, bpf_program__attach(b->progs.on_received), "sock_recv_length");
        if (r == 0)
                r = keep(t, bpf_program__attach(b->progs.on_sent), "sock_send_length");
        if (r == 0)
                r = keep(t, bpf_program__attach(b->progs.on_closed), "inet_sock_set_state");
        return r < 0 ? r : keep(t, bpf_program__attach_cgroup(b->progs.on_socket, cgroup), "sockops");
}

/* Returns 0, or -errno with the text set and nothing attached. */
static int attach(struct inject *t) {
        uint64_t inode;
        int cgroup = cgroup_open(t, &inode);
        if (cgroup < 0)
                return cgroup;
        t->bpf = inject_bpf__open();
        int r = t->bpf ? load(t) : fail(t, -errno, "off: opening: %s", strerror(errno));
        if (r == 0)
                r = attach_programs(t, cgroup);
        close(cgroup);                             /* the link and the map have it */
        t->refused = r < 0;
        if (r < 0) {
                detach(t);
                return r;
        }
        t->inode = inode;
        snprintf(t->text, sizeof(t->text), "cgroup %.300s, %s request of a connection%s", t->cgroup, t->options.rules.keep_alive ? "every" : "the first",
                 t->options.rules.keep_alive && t->miscounts ? " (this kernel miscounts FIONREAD: programs that ask it stall)" : "");
        return 0;
}

int inject_new(const struct inject_options *options, struct inject **ret, char *reterr) {
        struct inject *t = calloc(1, sizeof(*t));
        snprintf(reterr, INJECT_TEXT_MAX, "out of memory");
        if (!t)
                return -ENOMEM;
        t->options = *options;
        t->cgroup = strdup(options->cgroup);
        t->n_cpus = TEL_MAX(libbpf_num_possible_cpus(), 1);
        t->per_cpu = calloc((size_t)t->n_cpus, sizeof(uint64_t));
        if (!t->cgroup || !t->per_cpu) {
                inject_free(t);
                return -ENOMEM;
        }
        attach(t);
        if (t->wrong) {
                snprintf(reterr, INJECT_TEXT_MAX, "%s", t->text);
                inject_free(t);
                return -EINVAL;
        }
        *ret = t;
        return 0;
}

bool inject_is(const struct inject *t, const struct inject_options *options) {
        return strcmp(t->cgroup, options->cgroup) == 0 && memcmp(&t->options.rules, &options->rules, sizeof(options->rules)) == 0;
}

struct inject *inject_free(struct inject *t) {
        if (!t)
                return NULL;
        detach(t);
        free(t->cgroup);
        free(t->per_cpu);
        free(t);
        return NULL;
}

void inject_pause(struct inject *t, bool paused) {
        if (t->paused == paused)
                return;
        t->paused = paused;
        detach(t);
        if (paused)
                snprintf(t->text, sizeof(t->text), "off: the budget");
        else
                attach(t);
}

void inject_check(struct inject *t) {
        struct stat st;
        if (t->paused || t->refused || (t->bpf && stat(t->cgroup, &st) == 0 && st.st_ino == t->inode))
                return;
        detach(t);
        attach(t);
}

/* ---- while it runs ---- */

void inject_forget(struct inject *t, uint32_t tgid) {
        if (t->bpf)
                bpf_map_delete_elem(bpf_map__fd(t->bpf->maps.loads), &tgid);
}

const char *inject_text(const struct inject *t) {
        return t->text;
}

void inject_get_stats(const struct inject *t, struct inject_stats *ret) {
        *ret = t->before;
        outcomes_add(t, ret);
        ret->miscounts = t->miscounts;
        ret->works = t->bpf != NULL;
}

/* ---- who is in it ---- */

/* Bytes of path that name the mount point of the hierarchy; 0: path is no cgroup. */
static size_t mount_of(const char *path) {
        char at[PATH_MAX];
        struct statfs fs;
        size_t n = strlen(path), found = 0;
        if (n >= sizeof(at))
                return 0;
        memcpy(at, path, n + 1);
        for (; n > 0; n--) {
                if (n != strlen(path) && at[n] != '/')
                        continue;
                at[n] = '\0';
                if (statfs(at, &fs) < 0 || fs.f_type != CGROUP2_SUPER_MAGIC)
                        break;
                found = n;
        }
        return found;
}

int inject_contains(const char *cgroup, uint32_t pid) {
        char path[64], line[PATH_MAX + 8];
        size_t mount = mount_of(cgroup), n = strlen(cgroup);
        int r = -ENOENT;
        if (mount == 0)
                return -ENOENT;
        while (n > mount && cgroup[n - 1] == '/')
                n--;
        snprintf(path, sizeof(path), "/proc/%u/cgroup", pid);
        FILE *f = fopen(path, "re");
        if (!f)
                return -errno;
        while (r < 0 && fgets(line, sizeof(line), f)) {
                if (strncmp(line, "0::", 3) != 0)
                        continue;
                const char *at = line + 3, *behind = at + (n - mount);
                r = strncmp(at, cgroup + mount, n - mount) == 0 && (*behind == '/' || *behind == '\n');
        }
        fclose(f);
        return r;
}
