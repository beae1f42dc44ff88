/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/probes/go.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "beylad/elf_file.h"
#include "beylad/probes/go.skel.h"
#include "beylad/probes/go_code.h"
#include "beylad/probes/uprobe_set.h"

#define GO_CONN_OFFSET 80                          /* of conn in net/http.persistConn, since Go 1.17; the kernel side checks what it finds */
#define GO_TLS_ALONE (-8)                          /* of g, where the program has no other thread-local variable */

enum program { ON_ROUND_TRIP, ON_HTTP_HANDLER, ON_GRPC_HANDLER, PROGRAMS };

struct go_probes {
        struct go_bpf *bpf;
        struct uprobe_set *set;
        const struct bpf_program *programs[PROGRAMS];
};

/* An executable that is looked at. */
struct look {
        struct elf_file *elf;
        unsigned minor;                            /* of Go 1.x; 0: unknown */
        bool experiments;                          /* built with some: structs may differ */
        struct go_report *report;
        struct uprobe_plan plan;
        uint8_t code[SITE_CODE_MAX];
};

#define SAY(l, ...) uprobe_report((l)->report->text, sizeof((l)->report->text), __VA_ARGS__)

/* Where runtime.g has goid and parentGoid (0: not yet). From the debugging information that each of these compilers wrote. */
static const struct {
        unsigned minor;
        uint32_t goid, parent;
} goroutines[] = {
        { 17, 152, 0 }, { 18, 152, 0 }, { 19, 152, 0 }, { 20, 152, 0 }, { 21, 152, 272 }, { 22, 152, 272 }, { 23, 160, 280 }, { 24, 160, 280 },
        { 25, 152, 272 }, { 26, 152, 280 },
};

enum { NEW_PROC, SYSTEM_STACK, ROUND_TRIP, HTTP_HANDLER, X_HTTP_HANDLER, GRPC_HANDLER, GRPC_DELETE, MAP_DELETE, FUNCTIONS };

static struct code code_of(struct look *l, const struct elf_function *f) {
        size_t n = f->address ? (size_t)TEL_MIN(f->size, (uint64_t)SITE_CODE_MAX) : 0;
        return (struct code){ l->code, n ? elf_file_code(l->elf, f->address, l->code, n) : 0, f->address };
}

/* "go1.26.8", "devel go1.27-0a1b2c", "go1.24.1 X:swissmap". */
static void version_read(struct look *l) {
        char *version = l->report->version, *at;
        _Static_assert(GO_VERSION_MAX == ELF_GO_VERSION_MAX, "one goes into the other");
        if (elf_file_go_version(l->elf, version) < 0) {
                snprintf(version, GO_VERSION_MAX, "unknown");
                return;
        }
        l->experiments = strstr(version, " X:") || strstr(version, "devel");
        at = strstr(version, "go1.");
        if (at)
                l->minor = (unsigned)TEL_MIN(strtoul(at + 4, NULL, 10), 999ul);
}

static bool goroutine_table(const struct look *l, uint32_t *ret_goid, uint32_t *ret_parent) {
        for (size_t i = 0; i < TEL_ARRAY_LEN(goroutines); i++)
                if (goroutines[i].minor == l->minor) {
                        *ret_goid = goroutines[i].goid;
                        *ret_parent = goroutines[i].parent;
                        return true;
                }
        return false;
}

/* The code that the program runs is believed before our table, which is for versions whose code does not tell. */
static bool goroutine_read(struct look *l, const struct elf_function *new_proc, uint32_t *ret_goid, uint32_t *ret_parent) {
        uint32_t goid = 0, parent = 0;
        struct code code = code_of(l, new_proc);
        bool known = goroutine_table(l, &goid, &parent);
        if (go_code_goroutine(&code, ret_goid, ret_parent) == 0) {
                bool same = *ret_goid == goid && *ret_parent == parent;
                SAY(l, "  goroutines: goid at %" PRIu32 ", parent at %" PRIu32 " of runtime.g, by the code of runtime.newproc1%s", *ret_goid, *ret_parent,
                    !known ? "" : same ? ", as this version has them" : "; this version has them elsewhere");
                return true;
        }
        if (known && !l->experiments && go_code_stores_at(&code, goid)) {
                *ret_goid = goid;
                *ret_parent = parent;
                SAY(l, "  goroutines: goid at %" PRIu32 " of runtime.g, as this version has it%s", goid,
                    parent ? "" : "; before Go 1.21 a goroutine does not know who started it");
                return true;
        }
        SAY(l, "! goroutines: where runtime.g has the goid is not known for this build%s", code.n ? "" : ": runtime.newproc1 was not found");
        return false;
}

static bool tls_read(struct look *l, const struct elf_function *system_stack, int32_t *ret) {
        uint64_t size, align;
        struct code code = code_of(l, system_stack);
        if (go_code_tls(&code, ret) == 0)
                return true;
        if (elf_file_tls(l->elf, &size, &align) && size == sizeof(uint64_t)) {
                *ret = GO_TLS_ALONE;
                return true;
        }
        SAY(l, "! goroutines: where a thread keeps its g was not found");
        return false;
}

/* A probe at the begin of f. arguments: enum site_register, those the program reads. */
static void entry_plan(struct look *l, const struct elf_function *f, unsigned arguments, struct uprobe_plan_site s) {
        struct uprobe_site site;
        bool check = false;
        struct code code = code_of(l, f);
        if (!code.n || go_code_entry(&code, arguments, &site, &check) < 0 || elf_file_offset(l->elf, site.address, &s.offset) < 0) {
                SAY(l, "! %s does not begin as Go's functions do since 1.17", f->name);
                return;
        }
        s.flags |= check ? SITE_CHECK : 0;
        snprintf(s.name, sizeof(s.name), "%s", f->name);
        if (uprobe_plan_add(&l->plan, &s))
                SAY(l, "  %s: %s", f->name, site.text);
}

static void requests_plan(struct look *l, const struct elf_function *f) {
        struct uprobe_plan_site http = { .program = ON_HTTP_HANDLER }, grpc = { .program = ON_GRPC_HANDLER };
        if (f[ROUND_TRIP].address)
                entry_plan(l, &f[ROUND_TRIP], SITE_RAX, (struct uprobe_plan_site){ .program = ON_ROUND_TRIP, .slot = GO_CONN_OFFSET });
        else
                SAY(l, "  net/http: the program has no client");
        for (size_t i = HTTP_HANDLER; i <= X_HTTP_HANDLER; i++)
                if (f[i].address)
                        entry_plan(l, &f[i], SITE_RAX | SITE_RBX, http);
        if (!f[GRPC_HANDLER].address)
                return;
        struct code code = code_of(l, &f[GRPC_DELETE]);
        if (go_code_deleted_key(&code, f[MAP_DELETE].address, &grpc.slot) == 0)
                entry_plan(l, &f[GRPC_HANDLER], SITE_RCX | SITE_RDI, grpc);
        else
                SAY(l, "! %s: where a stream has its id is not known for this build", f[GRPC_HANDLER].name);
}

static void look_program(struct look *l) {
        struct go_report *r = l->report;
        struct elf_function f[FUNCTIONS] = {
                [NEW_PROC] = { .name = "runtime.newproc1" },
                [SYSTEM_STACK] = { .name = "runtime.systemstack" },
                [ROUND_TRIP] = { .name = "net/http.(*persistConn).roundTrip" },
                [HTTP_HANDLER] = { .name = "net/http.(*http2serverConn).runHandler" },
                [X_HTTP_HANDLER] = { .name = "golang.org/x/net/http2.(*serverConn).runHandler" },
                [GRPC_HANDLER] = { .name = "google.golang.org/grpc.(*Server).handleStream" },
                [GRPC_DELETE] = { .name = "google.golang.org/grpc/internal/transport.(*http2Server).deleteStream" },
                [MAP_DELETE] = { .name = "runtime.mapdelete_fast32" },
        };
        if (!elf_file_is_go(l->elf)) {
                SAY(l, "no Go program");
                return;
        }
        r->go = true;
        version_read(l);
        SAY(l, "Go program, version %s", r->version);
        if (!elf_file_is_x86_64(l->elf)) {
                SAY(l, "! only x86-64 is known");
                return;
        }
        if (l->minor && l->minor < 17) {
                SAY(l, "! before Go 1.17 arguments are passed on the stack: goroutines are not told apart");
                return;
        }
        int n = elf_file_go_functions(l->elf, f, FUNCTIONS);
        if (n < 0) {
                SAY(l, "! its table of functions cannot be read: %s", strerror(-n));
                return;
        }
        uint32_t goid, parent;
        int32_t tls;
        if (goroutine_read(l, &f[NEW_PROC], &goid, &parent) && tls_read(l, &f[SYSTEM_STACK], &tls)) {
                r->target = (struct probe_target){ .flags = PROBE_TARGET_GO, .g_tls = tls, .g_goid = goid, .g_parent = parent };
                r->goroutines = true;
                requests_plan(l, f);
        }
}

/* Attaches what was planned, and lets pid use it. */
static int attach(struct go_probes *t, uint32_t pid, struct look *l) {
        char error[UPROBE_ERROR_MAX];
        struct uprobe_file who;
        int fd = elf_file_fd(l->elf), r = uprobe_file_read(fd, &who), number;
        if (r < 0)
                return r;
        number = uprobe_set_find(t->set, &who);
        if (number < 0)
                number = uprobe_set_attach(t->set, &who, fd, &l->plan, error);
        if (number < 0) {
                SAY(l, "! %s", error);
                return number;
        }
        r = uprobe_set_use(t->set, pid, number);
        if (r < 0) {
                SAY(l, "! no room for another process: %s", strerror(-r));
                uprobe_set_trim(t->set);
                return r;
        }
        return 1;
}

/* t NULL: only look. */
static int look_and_attach(struct go_probes *t, uint32_t pid, struct go_report *report) {
        TEL_CLEANUP(elf_file_freep) struct elf_file *elf = NULL;
        char path[64];
        *report = (struct go_report){ 0 };
        snprintf(path, sizeof(path), "/proc/%" PRIu32 "/exe", pid);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        int r = fd < 0 ? -errno : elf_file_new(fd, &elf);
        if (r < 0) {
                if (fd >= 0)
                        close(fd);
                if (r == -ENOEXEC)
                        return 0;
                uprobe_report(report->text, sizeof(report->text), "! %s: %s", path, strerror(-r));
                return r == -ENOENT ? -ESRCH : r;
        }
        TEL_CLEANUP_FREE struct look *l = calloc(1, sizeof(*l));
        if (!l)
                return -ENOMEM;
        l->elf = elf;
        l->report = report;
        look_program(l);
        r = !l->plan.n ? 0 : t ? attach(t, pid, l) : 1;
        report->attached = r == 1;
        return r;
}

int go_probes_attach(struct go_probes *t, uint32_t pid, struct go_report *ret) {
        TEL_CLEANUP_FREE struct go_report *own = ret ? NULL : malloc(sizeof(*own));
        return ret || own ? look_and_attach(t, pid, ret ? ret : own) : -ENOMEM;
}

int go_probes_inspect(uint32_t pid, struct go_report *ret) {
        return look_and_attach(NULL, pid, ret);
}

void go_probes_detach(struct go_probes *t, uint32_t pid) {
        uprobe_set_leave(t->set, pid);
}

int go_probes_new(const struct probe_maps *maps, struct go_probes **ret, char *reterr) {
        struct go_probes *t = calloc(1, sizeof(*t));
        const char *what = "opening";
        bool multi = false;
        if (!t)
                return -ENOMEM;
        t->bpf = go_bpf__open();
        int r = t->bpf ? probe_share(t->bpf->obj, maps) : -errno;
        if (r == 0) {
                what = "loading";
                multi = uprobe_set_prepare(t->bpf->obj);
                r = go_bpf__load(t->bpf);
        }
        if (r == 0) {
                t->programs[ON_ROUND_TRIP] = t->bpf->progs.on_go_round_trip;
                t->programs[ON_HTTP_HANDLER] = t->bpf->progs.on_go_http_handler;
                t->programs[ON_GRPC_HANDLER] = t->bpf->progs.on_go_grpc_handler;
                r = uprobe_set_new(t->programs, TEL_ARRAY_LEN(t->programs), bpf_map__fd(t->bpf->maps.uses), GO_PROGRAMS_MAX, multi, &t->set);
        }
        if (r < 0) {
                snprintf(reterr, PROBE_ERROR_MAX, "probes of Go programs: %s: %s", what, strerror(-r));
                go_probes_free(t);
                return r;
        }
        *ret = t;
        return 0;
}

struct go_probes *go_probes_free(struct go_probes *t) {
        if (t) {
                uprobe_set_free(t->set);
                go_bpf__destroy(t->bpf);
                free(t);
        }
        return NULL;
}
