/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/explain.h"

#include <jansson.h>

#include "beylad/probes/go.h"
#include "beylad/probes/tls.h"
#include "libtelemetry/log.h"

struct answer {
        bool json;
        FILE *to;
        json_t *rows;
};

static void row(struct answer *a, const char *what, bool works, const char *how) {
        if (a->json) {
                json_array_append_new(a->rows, json_pack("{s:s, s:b, s:s}", "what", what, "works", works, "how", how));
                return;
        }
        fprintf(a->to, "%-4s%-12s", works ? "yes" : "no", what);
        /* Further lines stand below the first. */
        for (const char *line = how; *line;) {
                size_t n = strcspn(line, "\n");
                fprintf(a->to, "%s%.*s\n", line == how ? "" : "                ", (int)n, line);
                line += n + (line[n] == '\n');
        }
        if (!*how)
                fputc('\n', a->to);
}

/* ---- which ports it listens on ---- */

struct ports {
        uint32_t pid, ports[16];
        size_t n;
};

static void on_listener(void *ctx, const struct probe_found *f) {
        struct ports *p = ctx;
        if (f->tgid != p->pid || p->n == TEL_ARRAY_LEN(p->ports))
                return;
        for (size_t i = 0; i < p->n; i++)
                if (p->ports[i] == f->port)
                        return;
        p->ports[p->n++] = f->port;
}

static void explain_selected(struct answer *a, uint32_t pid, const struct process *p, const struct explain_options *o) {
        struct ports ports = { .pid = pid };
        char text[256] = "";
        size_t used = 0;
        bool selected = false;
        if (o->probes)
                probes_find_listeners(o->probes, pid, on_listener, &ports);
        for (size_t i = 0; i < ports.n; i++) {
                selected = selected || selection_port(o->selection, ports.ports[i]);
                used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%u", i ? ", " : "", ports.ports[i]);
        }
        char how[512];
        if (selection_excluded(o->selection, p->exe))
                row(a, "selected", false, "the executable is excluded (key exclude)");
        else if (selected || selection_executable(o->selection, p->exe)) {
                snprintf(how, sizeof(how), selected ? "it listens on port %s" : "its executable matches%s", selected ? text : "");
                row(a, "selected", true, how);
        } else {
                snprintf(how, sizeof(how), "%s%s, none of it is in open_ports, and its executable does not match executables",
                         ports.n ? "it listens on port " : "it listens on no TCP port", text);
                row(a, "selected", false, how);
        }
}

static void explain_sockets(struct answer *a, const struct process *p, const struct explain_options *o) {
        if (p->is_32bit)
                row(a, "sockets", false, "a 32-bit program: the arguments of its calls lie elsewhere");
        else if (!o->probes)
                row(a, "sockets", false, o->why ? o->why : "the probes are not loaded");
        else
                row(a, "sockets", true, probes_family_text(o->probes, FAMILY_SOCKETS));
}

static void explain_tls(struct answer *a, uint32_t pid, const struct process *p) {
        struct tls_report tls = { 0 };
        int r = tls_probes_inspect(pid, &tls);
        if (r > 0)
                row(a, "TLS", tls.failed == 0, tls.text);
        else if (r == 0 && *tls.text)
                row(a, "TLS", false, tls.text);
        else if (r == 0)
                row(a, "TLS", false, p->language == LANGUAGE_JAVA
                                             ? "Java's own TLS (JSSE) encrypts inside the JVM, where no probe reaches: it is not seen"
                                             : "no OpenSSL, GnuTLS or Go crypto/tls is mapped: what it encrypts by other means is not seen");
        else
                row(a, "TLS", false, strerror(-r));
}

static void explain_parents(struct answer *a, uint32_t pid, const struct process *p) {
        struct go_report go = { 0 };
        int r = go_probes_inspect(pid, &go);
        if (r >= 0 && go.go) {
                row(a, "goroutines", go.goroutines, go.text);
                return;
        }
        bool loop = p->language == LANGUAGE_NODE;
        row(a, "parents", !loop, loop ? "one thread serves all: a request that calls out has its parent while it is the only one open, else links"
                                      : "by thread: a call out belongs to the request open on its thread; several open on one thread give links");
}

static void explain_inject(struct answer *a, uint32_t pid, const struct explain_options *o) {
        struct inject_stats s = { .works = true };
        char how[2048];
        if (!*o->inject_cgroup) {
                row(a, "traceparent", false, "its requests go out as they are (key inject)");
                return;
        }
        if (o->inject)
                inject_get_stats(o->inject, &s);
        int r = inject_contains(o->inject_cgroup, pid);
        if (!s.works)
                snprintf(how, sizeof(how), "%s", inject_text(o->inject));
        else if (r < 0)
                snprintf(how, sizeof(how), "cgroup %s: %s", o->inject_cgroup, strerror(-r));
        else
                snprintf(how, sizeof(how), "it is %sin cgroup %s%s", r ? "" : "not ", o->inject_cgroup,
                         r ? ": what it connects to inject.ports from now on gets one" : "");
        row(a, "traceparent", s.works && r == 1, how);
}

int explain_process(uint32_t pid, const struct explain_options *o, bool json, FILE *to) {
        struct answer a = { .json = json, .to = to, .rows = json ? json_array() : NULL };
        struct process *p = NULL;
        const char *language;
        int r = process_read(pid, o->process, &p);
        if (r < 0) {
                if (json) {
                        json_decref(a.rows);
                        json_t *e = json_pack("{s:I, s:s}", "pid", (json_int_t)pid, "error", strerror(-r));
                        json_dumpf(e, to, JSON_COMPACT);
                        json_decref(e);
                        fputc('\n', to);
                } else
                        fprintf(to, "error: process %u: %s\n", pid, strerror(-r));
                return r;
        }
        language = process_language_name(p->language);
        if (!json)
                fprintf(to, "process %u: %s (%s), language %s\n", pid, p->name, p->exe, language ? language : "unknown");
        explain_selected(&a, pid, p, o);
        explain_sockets(&a, p, o);
        explain_tls(&a, pid, p);
        explain_parents(&a, pid, p);
        explain_inject(&a, pid, o);
        if (json) {
                json_t *all = json_pack("{s:I, s:s, s:s, s:s?, s:o}", "pid", (json_int_t)pid, "name", p->name, "executable", p->exe, "language", language,
                                        "techniques", a.rows);
                json_dumpf(all, to, JSON_COMPACT);
                json_decref(all);
                fputc('\n', to);
        }
        process_unref(p);
        return 0;
}
