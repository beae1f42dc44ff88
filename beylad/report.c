/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/report.h"

#include <jansson.h>
#include <unistd.h>

#include "beylad/stats.h"

static size_t resident_bytes(void) {
        unsigned long size = 0, resident = 0;
        FILE *f = fopen("/proc/self/statm", "re");
        if (f) {
                if (fscanf(f, "%lu %lu", &size, &resident) != 2)
                        resident = 0;
                fclose(f);
        }
        return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static void json_line(json_t *o, FILE *to) {
        json_dumpf(o, to, JSON_COMPACT);
        fputc('\n', to);
        json_decref(o);
}

/* Requests whose existence is known and that became no span: seen in part, or lost before they were seen. */
static uint64_t lost_requests(const struct report *r) {
        return r->tracer.contexts.lost + r->counters.values[PROBE_COUNT_LOST_REQUESTS];
}

static const char *way_out(const struct report *r) {
        if (r->output.connected)
                return "collectord";
        return *r->settings->otlp_endpoint ? "otlp_endpoint" : "waiting for collectord";
}

/* The ports as they were written. */
static void inject_line(const struct report *r, char *out, size_t n) {
        size_t used = (size_t)snprintf(out, n, "%s", r->inject ? inject_text(r->inject) : "off");
        for (size_t i = 0; r->inject && i < r->settings->inject.ports.n && used < n; i++)
                used += (size_t)snprintf(out + used, n - used, "%s%s", i ? ", " : "; ports ", r->settings->inject.ports.values[i]);
}

void report_status(const struct report *r, bool json, FILE *to) {
        char inject[INJECT_TEXT_MAX + 256];
        inject_line(r, inject, sizeof(inject));
        if (json) {
                json_line(json_pack("{s:i, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:I, s:I}", "pid", (int)getpid(), "processes", (json_int_t)discover_count(r->discover),
                                    "spans", (json_int_t)r->tracer.contexts.spans, "lost", (json_int_t)lost_requests(r), "observes",
                                    budget_step_name(r->budget->step), "output", way_out(r), "sockets", probes_family_text(r->probes, FAMILY_SOCKETS),
                                    "inject", inject, "resident_bytes", (json_int_t)resident_bytes(), "map_bytes", (json_int_t)r->counters.map_bytes), to);
                return;
        }
        fprintf(to, "beylad %s, pid %d, %zu processes observed (%s), %zu MB resident, %llu MB of maps\n", SUITE_VERSION, (int)getpid(),
                discover_count(r->discover), budget_step_name(r->budget->step), resident_bytes() / 1000000,
                (unsigned long long)r->counters.map_bytes / 1000000);
        fprintf(to, "spans   %llu (%llu server, %llu client), %llu requests lost, %llu clients with an ambiguous parent\n",
                (unsigned long long)r->tracer.contexts.spans, (unsigned long long)r->tracer.contexts.servers,
                (unsigned long long)r->tracer.contexts.clients, (unsigned long long)lost_requests(r), (unsigned long long)r->tracer.contexts.ambiguous);
        fprintf(to, "output  %s, %zu requests waiting (%zu kB), %llu dropped\n", way_out(r), r->output.waiting, r->output.waiting_bytes / 1000,
                (unsigned long long)r->output.dropped);
        for (int f = 0; f < PROBE_FAMILIES; f++)
                fprintf(to, "%-7s %s\n", probe_family_name(f), probes_family_text(r->probes, f));
        fprintf(to, "inject  %s\n", inject);
}

void report_stats(const struct report *r, bool json, FILE *to) {
        struct tls_probes_stats tls = { 0 };
        if (r->tls)
                tls_probes_get_stats(r->tls, &tls);
        struct inject_stats inject = { 0 };
        if (r->inject)
                inject_get_stats(r->inject, &inject);
        const uint64_t *out = inject.outcomes;
        const struct connections_stats *c = &r->tracer.connections;
        const struct contexts_stats *x = &r->tracer.contexts;
        const uint64_t *k = r->counters.values;
        const struct { const char *name; uint64_t value; } rows[] = {
                { "spans", x->spans }, { "spans_server", x->servers }, { "spans_client", x->clients }, { "spans_open", x->open }, { "spans_held", x->held },
                { "requests_lost", lost_requests(r) }, { "requests_lost_ring", k[PROBE_COUNT_LOST_REQUESTS] }, { "requests_lost_parts", x->lost },
                { "parents_joined", x->joined }, { "parents_adopted", x->adopted }, { "parents_ambiguous", x->ambiguous },
                { "inject_sent", out[PROBE_OUTCOME_SENT] }, { "inject_own", out[PROBE_OUTCOME_OWN] }, { "inject_split", out[PROBE_OUTCOME_SPLIT] },
                { "inject_other", out[PROBE_OUTCOME_OTHER] }, { "inject_unknown", out[PROBE_OUTCOME_UNKNOWN] },
                { "inject_unobserved", out[PROBE_OUTCOME_UNOBSERVED] }, { "inject_busy", out[PROBE_OUTCOME_BUSY] },
                { "inject_connections", out[PROBE_OUTCOME_SOCKETS] }, { "inject_connections_left", out[PROBE_OUTCOME_LEFT] },
                { "inject_connections_full", out[PROBE_OUTCOME_FULL] },
                { "inject_run_ns", inject.run_ns }, { "inject_runs", inject.runs },
                { "spans_injected", x->injected }, { "spans_split", x->split },
                { "spans_unsampled", r->tracer.unsampled }, { "spans_ignored", r->tracer.ignored },
                { "connections", c->open }, { "connections_opened", c->opened }, { "connections_evicted", c->evicted },
                { "connections_unknown", c->unknown }, { "connections_encrypted", c->encrypted }, { "gaps", c->gaps }, { "gap_bytes", c->gap_bytes },
                { "events", k[PROBE_COUNT_EVENTS] }, { "events_lost", k[PROBE_COUNT_LOST] }, { "events_lost_bytes", k[PROBE_COUNT_LOST_BYTES] },
                { "events_malformed", r->tracer.malformed }, { "calls", k[PROBE_COUNT_CALLS] }, { "unreadable", k[PROBE_COUNT_UNREADABLE] },
                { "no_state", k[PROBE_COUNT_NO_STATE] }, { "programs_missed", r->counters.missed }, { "programs_run_ns", r->counters.run_ns },
                { "programs_runs", r->counters.runs }, { "map_bytes", r->counters.map_bytes }, { "resident_bytes", resident_bytes() },
                { "processes", discover_count(r->discover) }, { "processes_attached", stats.processes.attached },
                { "processes_ended", stats.processes.ended }, { "processes_failures", stats.processes.failures },
                { "processes_full", stats.processes.full }, { "tls_libraries", tls.libraries }, { "tls_sites", tls.sites },
                { "output_queued_spans", stats.spans.sent }, { "output_queued_points", stats.spans.points }, { "output_bytes", r->output.bytes },
                { "output_frames", r->output.frames }, { "output_acknowledged", r->output.acknowledged }, { "output_posted", r->output.posted },
                { "output_failures", r->output.failures }, { "output_dropped", r->output.dropped },
                { "output_dropped_spans", r->output.dropped_spans }, { "output_waiting", r->output.waiting },
                { "metrics_series", r->tracer.red.series }, { "metrics_overflowed", r->tracer.red.overflowed },
                { "budget_step", stats.budget_step }, { "reloads", stats.reloads }, { "wakeups", stats.wakeups },
        };
        json_t *o = json ? json_object() : NULL;
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++)
                if (json)
                        json_object_set_new(o, rows[i].name, json_integer((json_int_t)rows[i].value));
                else
                        fprintf(to, "%-24s %llu\n", rows[i].name, (unsigned long long)rows[i].value);
        if (json)
                json_line(o, to);
}

struct list {
        bool json;
        FILE *to;
};

static void on_process(void *ctx, const struct process *p, const char *tls, const char *go) {
        const struct list *l = ctx;
        const char *language = process_language_name(p->language);
        if (l->json)
                json_line(json_pack("{s:I, s:s, s:s, s:I, s:s?, s:I, s:I, s:s, s:s}", "pid", (json_int_t)p->pid, "name", p->name, "executable", p->exe, "port",
                                    (json_int_t)p->port, "language", language, "requests", (json_int_t)p->requests, "encrypted",
                                    (json_int_t)p->encrypted, "tls", tls, "go", go), l->to);
        else {
                fprintf(l->to, "%-8u %-24s port %-6u %-8s %10llu requests%s", p->pid, p->name, p->port, language ? language : "-",
                        (unsigned long long)p->requests, *tls ? ", TLS" : "");
                if (p->encrypted > 0)
                        fprintf(l->to, ", %llu connections encrypted and not read", (unsigned long long)p->encrypted);
                fputc('\n', l->to);
        }
}

void report_processes(const struct report *r, bool json, FILE *to) {
        struct list l = { json, to };
        if (!json && discover_count(r->discover) == 0)
                fputs("no process is observed\n", to);
        discover_each(r->discover, on_process, &l);
}
