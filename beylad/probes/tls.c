/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/probes/tls.h"

#include <bpf/bpf.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "beylad/elf_file.h"
#include "beylad/maps_file.h"
#include "beylad/probes/go_code.h"
#include "beylad/probes/tls_marks.h"
#include "beylad/probes/tls.skel.h"
#include "beylad/probes/uprobe_set.h"

#define PROC "/proc"
#define MARKS_BYTES_MAX (256ull << 20)             /* read of all files of a process for marks of libraries that cannot be probed: some 0.1 s */
#define CODE_UNKNOWN 512                           /* bytes looked at of a function whose size nobody tells */

enum program { ON_CALL, ON_RETURN, ON_BEGIN, ON_END, ON_GO_WRITE, ON_GO_READ, ON_GO_CLOSE, PROGRAMS };

struct tls_probes {
        struct tls_bpf *bpf;
        struct uprobe_set *set;
        const struct bpf_program *programs[PROGRAMS];
};

/* A file that is looked at. */
struct look {
        struct elf_file *elf;
        const char *path;
        struct uprobe_plan plan;
        struct tls_report *report;
        bool found;                                /* it has a TLS library */
        bool failed;                               /* which cannot be probed: the report says why */
        uint8_t code[SITE_CODE_MAX];
};

#define SAY(l, ...) uprobe_report((l)->report->text, sizeof((l)->report->text), __VA_ARGS__)

/* A finding that keeps a library from being probed. */
#define FAIL(l, format, ...)                                                                   \
        do {                                                                                   \
                SAY(l, "! %s: " format, (l)->path, __VA_ARGS__);                               \
                (l)->failed = true;                                                            \
        } while (0)

/* ---- C libraries ---- */

struct c_function {
        const char *name;
        enum program program;                      /* ON_CALL: its return too */
        uint32_t flags;                            /* enum site_flags */
        unsigned arguments;                        /* enum site_register: those the program reads */
};

#define THREE (SITE_RDI | SITE_RSI | SITE_RDX)

/* SSL_set_connect_state and its sister are part of every session's begin; SSL_connect() and SSL_accept() call them themselves. */
static const struct c_function openssl[] = {
        { "SSL_read", ON_CALL, 0, THREE },
        { "SSL_write", ON_CALL, SITE_OUT, THREE },
        { "SSL_read_ex", ON_CALL, SITE_LENGTH_4, THREE | SITE_RCX },
        { "SSL_write_ex", ON_CALL, SITE_OUT | SITE_LENGTH_4, THREE | SITE_RCX },
        { "SSL_write_ex2", ON_CALL, SITE_OUT | SITE_LENGTH_5, THREE | SITE_R8 },
        { "SSL_do_handshake", ON_CALL, SITE_NO_DATA, SITE_RDI },
        { "SSL_connect", ON_CALL, SITE_NO_DATA, SITE_RDI },
        { "SSL_accept", ON_CALL, SITE_NO_DATA, SITE_RDI },
        { "SSL_set_connect_state", ON_BEGIN, SITE_CLIENT, SITE_RDI },
        { "SSL_set_accept_state", ON_BEGIN, 0, SITE_RDI },
        { "SSL_free", ON_END, 0, SITE_RDI },
};

static const struct c_function gnutls[] = {
        { "gnutls_record_recv", ON_CALL, SITE_LONG, THREE },
        { "gnutls_record_send", ON_CALL, SITE_OUT | SITE_LONG, THREE },
        { "gnutls_record_send2", ON_CALL, SITE_OUT | SITE_LONG, THREE },
        { "gnutls_handshake", ON_CALL, SITE_NO_DATA, SITE_RDI },
        { "gnutls_deinit", ON_END, 0, SITE_RDI },
};

static struct code code_of(struct look *l, uint64_t address, uint64_t size) {
        size_t n = (size_t)TEL_MIN(size ? size : CODE_UNKNOWN, (uint64_t)SITE_CODE_MAX);
        return (struct code){ l->code, elf_file_code(l->elf, address, l->code, n), address };
}

/* Plans a probe at an address; with a return the site takes two. */
static void plan_site(struct look *l, const char *name, enum program program, uint32_t flags, uint32_t slot, uint64_t address) {
        struct uprobe_plan_site s = { .program = program, .flags = flags, .slot = slot };
        snprintf(s.name, sizeof(s.name), "%s", name);
        if (elf_file_offset(l->elf, address, &s.offset) < 0) {
                FAIL(l, "%s lies outside of the file", name);
                return;
        }
        bool room = uprobe_plan_add(&l->plan, &s);
        if (program == ON_CALL) {
                s.program = ON_RETURN;
                s.on_return = true;
                room = room && uprobe_plan_add(&l->plan, &s);
        }
        if (!room)
                FAIL(l, "no room to probe %s", name);
}

static void plan_c(struct look *l, const struct c_function *c, const struct elf_function *at) {
        struct uprobe_site site;
        struct code code = code_of(l, at->address, at->size);
        int r = code.n ? uprobe_site_c(&code, c->arguments, &site) : -EBADMSG;
        if (r < 0) {
                FAIL(l, "the code of %s cannot be read: %s", c->name, strerror(-r));
                return;
        }
        SAY(l, "  %s: %s", c->name, site.text);
        plan_site(l, c->name, c->program, c->flags, 0, site.address);
}

/* OpenSSL 3 compiles SSL_read and SSL_read_ex to a few instructions around one inner function, and none of them is cheap to probe: the inner
 * one is, and stands for both. It takes what SSL_read_ex takes, and returns a positive number when it worked. plain, ex: indices. */
static bool plan_inner(struct look *l, const struct elf_function *f, size_t plain, size_t ex) {
        struct uprobe_site site;
        if (!f[ex].address)
                return false;
        struct code code = code_of(l, f[ex].address, f[ex].size);
        if (uprobe_site_c(&code, openssl[ex].arguments, &site) < 0 || site.emulated)
                return false;
        uint64_t inner = uprobe_site_callee(&code, openssl[ex].arguments);
        if (!inner)
                return false;
        if (f[plain].address) {
                code = code_of(l, f[plain].address, f[plain].size);
                if (uprobe_site_callee(&code, SITE_RDI | SITE_RSI) != inner)
                        return false;
        }
        code = code_of(l, inner, 0);
        if (!code.n || uprobe_site_c(&code, openssl[ex].arguments, &site) < 0 || !site.emulated)
                return false;
        SAY(l, "  %s, %s: %s of what both call", openssl[plain].name, openssl[ex].name, site.text);
        plan_site(l, openssl[ex].name, ON_CALL, openssl[ex].flags, 0, site.address);
        return true;
}

static void look_openssl(struct look *l) {
        enum { READ, WRITE, READ_EX, WRITE_EX };   /* indices in openssl */
        struct elf_function f[TEL_ARRAY_LEN(openssl)];
        bool done[TEL_ARRAY_LEN(openssl)] = { false };
        for (size_t i = 0; i < TEL_ARRAY_LEN(openssl); i++)
                f[i] = (struct elf_function){ .name = openssl[i].name };
        int n = elf_file_functions(l->elf, f, TEL_ARRAY_LEN(openssl));
        if (n < 0 || !(f[READ].address || f[READ_EX].address) || !(f[WRITE].address || f[WRITE_EX].address))
                return;
        l->found = true;
        SAY(l, "%s: OpenSSL, %d of %zu functions", l->path, n, TEL_ARRAY_LEN(openssl));
        done[READ] = done[READ_EX] = plan_inner(l, f, READ, READ_EX);
        done[WRITE] = done[WRITE_EX] = plan_inner(l, f, WRITE, WRITE_EX);
        for (size_t i = 0; i < TEL_ARRAY_LEN(openssl); i++)
                if (f[i].address && !done[i])
                        plan_c(l, &openssl[i], &f[i]);
                else if (!f[i].address)
                        SAY(l, "  %s: it has none", openssl[i].name);
}

static void look_gnutls(struct look *l) {
        struct elf_function f[TEL_ARRAY_LEN(gnutls)];
        for (size_t i = 0; i < TEL_ARRAY_LEN(gnutls); i++)
                f[i] = (struct elf_function){ .name = gnutls[i].name };
        int n = elf_file_functions(l->elf, f, TEL_ARRAY_LEN(gnutls));
        if (n < 0 || !f[0].address || !f[1].address)
                return;
        l->found = true;
        SAY(l, "%s: GnuTLS, %d of %zu functions", l->path, n, TEL_ARRAY_LEN(gnutls));
        for (size_t i = 0; i < TEL_ARRAY_LEN(gnutls); i++)
                if (f[i].address)
                        plan_c(l, &gnutls[i], &f[i]);
                else
                        SAY(l, "  %s: it has none", gnutls[i].name);
}

/* ---- Go ---- */

static void plan_go_entry(struct look *l, const struct elf_function *at, enum program program, unsigned arguments) {
        struct uprobe_site site;
        bool check = false;
        struct code code = code_of(l, at->address, at->size);
        int r = code.n ? go_code_entry(&code, arguments, &site, &check) : -EBADMSG;
        if (r < 0) {
                FAIL(l, "%s does not begin as Go's functions do since 1.17", at->name);
                return;
        }
        SAY(l, "  %s: %s", at->name, site.text);
        plan_site(l, at->name, program, check ? SITE_CHECK : 0, 0, site.address);
}

static void plan_go_read(struct look *l, const struct elf_function *at, uint64_t memmove, uint64_t reader_read) {
        static const uint32_t flags[] = { [GO_READ_COPY] = 0, [GO_READ_READER] = SITE_READER, [GO_READ_RETURN] = SITE_RETURN };
        struct go_read read;
        struct code code = code_of(l, at->address, at->size);
        int r = code.n ? go_code_read(&code, memmove, reader_read, &read) : -EBADMSG;
        if (r < 0) {
                FAIL(l, "in the code of %s the place where plaintext is copied was not found", at->name);
                return;
        }
        SAY(l, "  %s: %s%s", at->name, read.sites[0].text,
            read.kind != GO_READ_RETURN ? "" : ", and every other return: the place where plaintext is copied was not found");
        for (size_t i = 0; i < read.n_sites; i++)
                plan_site(l, at->name, ON_GO_READ, flags[read.kind], read.slot, read.sites[i].address);
}

static void look_go(struct look *l) {
        enum { READ, WRITE, CLOSE, MEMMOVE, READER_READ };
        struct elf_function f[] = {
                [READ] = { .name = "crypto/tls.(*Conn).Read" },
                [WRITE] = { .name = "crypto/tls.(*Conn).writeRecordLocked" },
                [CLOSE] = { .name = "crypto/tls.(*Conn).Close" },
                [MEMMOVE] = { .name = "runtime.memmove" },
                [READER_READ] = { .name = "bytes.(*Reader).Read" },
        };
        char version[ELF_GO_VERSION_MAX];
        int n = elf_file_go_functions(l->elf, f, TEL_ARRAY_LEN(f));
        if (elf_file_go_version(l->elf, version) < 0)
                snprintf(version, sizeof(version), "Go of unknown version");
        if (n < 0) {
                l->found = true;
                FAIL(l, "%s: its table of functions cannot be read: %s", version, strerror(-n));
                return;
        }
        if (!f[READ].address || !f[WRITE].address)
                return;                            /* the program does no TLS */
        l->found = true;
        SAY(l, "%s: crypto/tls, %s", l->path, version);
        plan_go_entry(l, &f[WRITE], ON_GO_WRITE, SITE_RAX | SITE_RBX | SITE_RCX | SITE_RDI);
        plan_go_read(l, &f[READ], f[MEMMOVE].address, f[READER_READ].address);
        if (f[CLOSE].address)
                plan_go_entry(l, &f[CLOSE], ON_GO_CLOSE, SITE_RAX);
}

/* ---- files ---- */

/* Looks for all there is to probe in a file. */
static void look_file(struct look *l) {
        if (elf_file_is_go(l->elf))
                look_go(l);
        look_openssl(l);
        look_gnutls(l);
        if (l->found || !strstr(l->path, "/lib"))
                return;
        const char *name = strrchr(l->path, '/') + 1;
        if (strncmp(name, "libssl", 6) == 0 || strncmp(name, "libgnutls.", 10) == 0) {
                l->found = true;
                FAIL(l, "%s", "it names no function we know");
        }
}

struct attaching {
        struct tls_probes *t;                      /* NULL: only look */
        uint32_t pid;
        struct tls_report *report;
        uint32_t libraries;
        uint64_t marks_left;                       /* bytes that may be read for marks */
        int error;                                 /* the first */
};

static void remember(struct attaching *a, int r) {
        a->report->failed++;
        if (!a->error)
                a->error = r;
}

static void use(struct attaching *a, const struct mapped_file *m, int number) {
        int r = uprobe_set_use(a->t->set, a->pid, number);
        if (r < 0) {
                uprobe_report(a->report->text, sizeof(a->report->text), "! %s: no room for another file of this process: %s", m->path, strerror(-r));
                remember(a, r);
        }
}

/* A file with nothing to probe: for people, whether it encrypts by something that cannot be. */
static void look_unseen(struct attaching *a, const struct mapped_file *m, const struct elf_file *elf) {
        const char *library = tls_marks_find(elf_file_fd(elf), &a->marks_left);
        if (!library)
                return;
        a->report->unseen++;
        uprobe_report(a->report->text, sizeof(a->report->text), "? %s: %s is built in and its functions have no names: what it encrypts is not seen",
                      m->path, library);
}

/* A file that nobody looked at yet. Takes fd. */
static void look_and_attach(struct attaching *a, const struct mapped_file *m, const struct uprobe_file *who, int fd) {
        TEL_CLEANUP(elf_file_freep) struct elf_file *elf = NULL;
        char error[UPROBE_ERROR_MAX];
        int r = elf_file_new(fd, &elf);
        if (r < 0)
                close(fd);
        TEL_CLEANUP_FREE struct look *l = elf && elf_file_is_x86_64(elf) ? calloc(1, sizeof(*l)) : NULL;
        if (l) {
                l->elf = elf;
                l->path = m->path;
                l->report = a->report;
                look_file(l);
        }
        if (!l || !l->found) {
                if (a->t)
                        uprobe_set_note_nothing(a->t->set, who);
                else if (l)
                        look_unseen(a, m, elf);
                return;
        }
        if (l->failed) {
                remember(a, -ENOTSUP);
                return;
        }
        if (!a->t) {
                a->libraries++;
                return;
        }
        r = uprobe_set_attach(a->t->set, who, elf_file_fd(elf), &l->plan, error);
        if (r < 0) {
                uprobe_report(a->report->text, sizeof(a->report->text), "! %s: %s", m->path, error);
                remember(a, r);
                return;
        }
        use(a, m, r);
}

static void attach_file(struct attaching *a, const struct mapped_file *m) {
        struct uprobe_file who;
        int fd = maps_file_open(PROC, a->pid, m);
        if (fd < 0)
                return;                            /* no regular file, or it went: nothing that runs is lost by it */
        int r = uprobe_file_read(fd, &who);
        if (r < 0 || (a->t && uprobe_set_has_nothing(a->t->set, &who))) {
                close(fd);
                return;
        }
        int known = a->t ? uprobe_set_find(a->t->set, &who) : -ENOENT;
        if (known < 0) {
                look_and_attach(a, m, &who, fd);
                return;
        }
        close(fd);
        uprobe_report(a->report->text, sizeof(a->report->text), "%s: probed already", m->path);
        use(a, m, known);
}

/* Whoever looks at all mapped files, to attach or not. */
static int attach_all(struct attaching *a) {
        TEL_CLEANUP(maps_file_done) struct maps_file maps = MAPS_FILE_EMPTY;
        a->report->text[0] = '\0';
        a->report->libraries = a->report->failed = a->report->unseen = 0;
        a->marks_left = MARKS_BYTES_MAX;
        int r = maps_file_read(PROC, a->pid, &maps);
        if (r < 0) {
                uprobe_report(a->report->text, sizeof(a->report->text), "! /proc/%" PRIu32 "/maps: %s", a->pid, strerror(-r));
                return r;
        }
        for (size_t i = 0; i < maps.n; i++)
                attach_file(a, &maps.files[i]);
        if (maps.cut)
                uprobe_report(a->report->text, sizeof(a->report->text), "! more than %d files are mapped: the rest was not looked at", MAPS_FILES_MAX);
        if (a->t) {
                uprobe_set_trim(a->t->set);
                a->libraries = (uint32_t)uprobe_set_used(a->t->set, a->pid);
        }
        a->report->libraries = a->libraries;
        return a->libraries ? (int)a->libraries : a->error;
}

int tls_probes_attach(struct tls_probes *t, uint32_t pid, struct tls_report *ret) {
        TEL_CLEANUP_FREE struct tls_report *own = ret ? NULL : malloc(sizeof(*own));
        struct attaching a = { .t = t, .pid = pid, .report = ret ? ret : own };
        return a.report ? attach_all(&a) : -ENOMEM;
}

int tls_probes_inspect(uint32_t pid, struct tls_report *ret) {
        struct attaching a = { .pid = pid, .report = ret };
        return attach_all(&a);
}

/* Sessions of a process that ended, or that is let go: nobody else would remove them. */
static void forget_sessions(int map, uint32_t pid) {
        struct probe_session_key key, next;
        bool any = false;
        for (unsigned i = 0; i < 2 * PROBE_SESSIONS_MAX && bpf_map_get_next_key(map, any ? &key : NULL, &next) == 0; i++) {
                if (any && key.tgid == pid)
                        bpf_map_delete_elem(map, &key);
                key = next;
                any = true;
        }
        if (any && key.tgid == pid)
                bpf_map_delete_elem(map, &key);
}

void tls_probes_detach(struct tls_probes *t, uint32_t pid) {
        if (!uprobe_set_leave(t->set, pid))
                return;
        forget_sessions(bpf_map__fd(t->bpf->maps.sessions), pid);
        forget_sessions(bpf_map__fd(t->bpf->maps.guesses), pid);
}

void tls_probes_get_stats(const struct tls_probes *t, struct tls_probes_stats *ret) {
        uprobe_set_count(t->set, &ret->libraries, &ret->processes, &ret->sites);
}

/* ---- life ---- */

int tls_probes_new(const struct probe_maps *maps, struct tls_probes **ret, char *reterr) {
        struct tls_probes *t = calloc(1, sizeof(*t));
        const char *what = "opening";
        bool multi = false;
        if (!t)
                return -ENOMEM;
        t->bpf = tls_bpf__open();
        int r = t->bpf ? probe_share(t->bpf->obj, maps) : -errno;
        if (r == 0) {
                what = "loading";
                multi = uprobe_set_prepare(t->bpf->obj);
                r = tls_bpf__load(t->bpf);
        }
        if (r == 0) {
                const struct bpf_program *const programs[PROGRAMS] = {
                        [ON_CALL] = t->bpf->progs.on_tls_call, [ON_RETURN] = t->bpf->progs.on_tls_return,
                        [ON_BEGIN] = t->bpf->progs.on_tls_begin, [ON_END] = t->bpf->progs.on_tls_end,
                        [ON_GO_WRITE] = t->bpf->progs.on_go_write, [ON_GO_READ] = t->bpf->progs.on_go_read,
                        [ON_GO_CLOSE] = t->bpf->progs.on_go_close,
                };
                memcpy(t->programs, programs, sizeof(programs));
                r = uprobe_set_new(t->programs, PROGRAMS, bpf_map__fd(t->bpf->maps.uses), TLS_LIBRARIES_MAX, multi, &t->set);
        }
        if (r < 0) {
                snprintf(reterr, PROBE_ERROR_MAX, "probes of TLS libraries: %s: %s", what, strerror(-r));
                tls_probes_free(t);
                return r;
        }
        *ret = t;
        return 0;
}

struct tls_probes *tls_probes_free(struct tls_probes *t) {
        if (t) {
                uprobe_set_free(t->set);
                tls_bpf__destroy(t->bpf);
                free(t);
        }
        return NULL;
}
