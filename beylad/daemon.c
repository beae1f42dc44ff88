/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/daemon.h"

#include <curl/curl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>
#include <uv.h>

#include "beylad/budget.h"
#include "beylad/clock.h"
#include "beylad/control.h"
#include "beylad/discover.h"
#include "beylad/explain.h"
#include "beylad/output.h"
#include "beylad/probes/inject.h"
#include "beylad/probes/uprobe_site.h"
#include "beylad/recording.h"
#include "beylad/report.h"
#include "beylad/sampler.h"
#include "beylad/selection.h"
#include "beylad/stats.h"
#include "beylad/tracer.h"
#include "libtelemetry/client.h"
#include "libtelemetry/log.h"

#define TICK_MS 50                                 /* between two looks at the ring while it is busy: CONTEXT_HOLD_NS counts on it */
#define QUIET_TICKS 20                             /* looks that found nothing before the next event has to wake us */
#define DRAIN_ROUNDS 256                           /* PROBES_TURN_MAX each: then the loop sees to the others */
#define STOP_FLUSH_MS 5000

struct daemon {
        const struct arguments *arguments;
        struct settings settings;
        struct process_options process;
        char host[256];
        uv_loop_t loop;
        uv_signal_t term, interrupt, hangup;
        uv_poll_t ring, jump;
        uv_timer_t tick, metrics, cost, slow;
        int jump_fd;
        struct probes *probes;
        struct tls_probes *tls;
        struct go_probes *go;
        struct inject *inject;                     /* NULL: not wanted */
        struct selection *selection;
        struct discover *discover;
        struct tracer *tracer;
        struct output *output;
        struct control *control;
        struct recording *recording;
        struct budget budget;
        int64_t real_offset_ns;
        unsigned quiet;
        uint64_t seen_ns;                          /* time of the last event */
        uint64_t discover_due_ns, period_ns, period_cpu_ns, period_probe_ns;
        int stats_fd;                              /* while it is open the kernel measures the probes */
        bool stopping;
};

/* ---- joints ---- */

static void on_request(void *ctx, enum tel_frame_kind kind, const uint8_t *body, size_t n, size_t items) {
        struct daemon *d = ctx;
        int r = output_send(d->output, kind, body, n);
        if (r == 0)                                /* else output counts it as dropped */
                *(kind == TEL_FRAME_TRACES ? &stats.spans.sent : &stats.spans.points) += items;
}

static void on_verdict(void *ctx, uint64_t connection, const struct probe_verdict *v) {
        struct daemon *d = ctx;
        probes_verdict_set(d->probes, connection, v);
}

static void on_gone(void *ctx, uint64_t connection) {
        struct daemon *d = ctx;
        probes_verdict_remove(d->probes, connection);
}

static void on_tls_wanted(void *ctx, struct process *p) {
        struct daemon *d = ctx;
        discover_tls_wanted(d->discover, p->pid, clock_boot_ns());
        d->discover_due_ns = 0;
}

static void on_found(void *ctx, struct process *p) {
        struct daemon *d = ctx;
        if (d->recording)
                recording_process(d->recording, p, clock_boot_ns());
}

static void on_process_ended(void *ctx, struct process *p) {
        struct daemon *d = ctx;
        if (d->tracer)
                tracer_process_ended(d->tracer, p, clock_boot_ns());
        if (d->inject)
                inject_forget(d->inject, p->pid);
}

static void on_event(void *ctx, const struct probe_head *e) {
        struct daemon *d = ctx;
        d->seen_ns = TEL_MAX(d->seen_ns, e->time_ns);
        if (e->kind == PROBE_PROCESS) {
                if (d->recording)
                        recording_event(d->recording, e);
                discover_event(d->discover, (const struct probe_process *)e, e->time_ns);
                d->discover_due_ns = 0;
                return;
        }
        /* The end of a connection is told by whoever runs at the moment. */
        struct process *p = e->kind == PROBE_SHUT ? NULL : discover_find(d->discover, e->tgid, e->time_ns);
        if (d->recording)
                recording_event(d->recording, e);
        tracer_event(d->tracer, p, e);
}

/* ---- turns ---- */

static void step_discover(struct daemon *d, uint64_t now_ns) {
        if (d->budget.step == BUDGET_DETACHED || d->discover_due_ns > now_ns)
                return;
        d->discover_due_ns = discover_step(d->discover, now_ns);
        code_library_close();
}

/* Reads the ring dry, and hands on what has waited long enough: all events up to `now` were in the ring when it was read. While there is more,
 * all up to the last one were read, so that a full ring does not end as exchanges that wait all at once. */
static unsigned drain(struct daemon *d) {
        unsigned total = 0, n = PROBES_TURN_MAX;
        uint64_t now_ns = clock_boot_ns();
        for (unsigned i = 0; n == PROBES_TURN_MAX && i < DRAIN_ROUNDS; i++) {
                n = probes_consume(d->probes);
                total += n;
                tracer_release(d->tracer, n < PROBES_TURN_MAX ? now_ns : d->seen_ns, d->real_offset_ns);
        }
        stats.wakeups++;
        return total;
}

static void on_tick(uv_timer_t *timer);

static void be_busy(struct daemon *d) {
        d->quiet = 0;
        if (!uv_is_active((uv_handle_t *)&d->tick))
                uv_timer_start(&d->tick, on_tick, TICK_MS, TICK_MS);
}

static void on_tick(uv_timer_t *timer) {
        struct daemon *d = timer->data;
        uint64_t now_ns = clock_boot_ns();
        unsigned n = drain(d);
        step_discover(d, now_ns);
        d->quiet = n || tracer_is_waiting(d->tracer) || d->discover_due_ns < now_ns + TEL_NS_PER_S ? 0 : d->quiet + 1;
        if (d->quiet < QUIET_TICKS)
                return;
        uv_timer_stop(timer);
        probes_sleep(d->probes);
        if (drain(d) > 0)                          /* came between the last look and now: nobody was told */
                be_busy(d);
}

static void on_ring(uv_poll_t *poll, int status, int events) {
        struct daemon *d = poll->data;
        (void)status, (void)events;
        drain(d);
        step_discover(d, clock_boot_ns());
        be_busy(d);
}

static void on_jump(uv_poll_t *poll, int status, int events) {
        struct daemon *d = poll->data;
        (void)status, (void)events;
        clock_jump_rearm(d->jump_fd);
        d->real_offset_ns = clock_real_offset_ns();
}

static void on_metrics(uv_timer_t *timer) {
        struct daemon *d = timer->data;
        drain(d);
        tracer_metrics(d->tracer, clock_boot_ns(), d->real_offset_ns);
}

/* ---- budget ---- */

static uint64_t own_cpu_ns(void) {
        struct rusage u;
        getrusage(RUSAGE_SELF, &u);
        return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * TEL_NS_PER_S + (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
}

/* why: for people, here and in collectord's list of producers. */
static void apply_step(struct daemon *d, enum budget_step before, const char *why) {
        enum budget_step step = d->budget.step;
        tel_log(TEL_LOG_WARN, "the budget changes what is observed", { "from", budget_step_name(before) }, { "to", budget_step_name(step) }, { "why", why });
        output_status(d->output, why);
        stats.budget_step = step;
        probes_capture_max(d->probes, step >= BUDGET_HEADS ? BUDGET_HEAD_BYTES : PROBE_CALL_MAX);
        tracer_set_traces(d->tracer, step < BUDGET_METRICS);
        if (d->inject)                             /* a traceparent names a span */
                inject_pause(d->inject, step >= BUDGET_METRICS);
        if (step == BUDGET_DETACHED || before == BUDGET_DETACHED) {
                discover_pause(d->discover, step == BUDGET_DETACHED, clock_boot_ns());
                d->discover_due_ns = 0;
        }
        be_busy(d);
}

/* What the observed programs pay: those of inject count, too. */
static uint64_t probe_run_ns(struct daemon *d) {
        struct probe_counters counters;
        struct inject_stats inject = { 0 };
        probes_get_counters(d->probes, &counters);
        if (d->inject)
                inject_get_stats(d->inject, &inject);
        return counters.run_ns + inject.run_ns;
}

static void step_budget(struct daemon *d, uint64_t now_ns) {
        enum budget_step before = d->budget.step;
        char text[192];
        uint64_t cpu_ns = own_cpu_ns(), run_ns = probe_run_ns(d), wall_ns = now_ns - d->period_ns;
        uint64_t cpu = cpu_ns - d->period_cpu_ns, probe = run_ns - TEL_MIN(run_ns, d->period_probe_ns);     /* a reload may end some */
        bool first = d->period_ns == 0;
        d->period_ns = now_ns;
        d->period_cpu_ns = cpu_ns;
        d->period_probe_ns = run_ns;
        if (first || budget_period(&d->budget, wall_ns, cpu, probe) == before)
                return;
        snprintf(text, sizeof(text), "observes %s: beylad took %.1f %% of a core, its probes %.1f %%; the budget is %u %% and %u %%",
                 budget_step_name(d->budget.step), (double)cpu * 100 / (double)wall_ns, (double)probe * 100 / (double)wall_ns,
                 d->budget.cpu_percent, d->budget.probe_percent);
        apply_step(d, before, text);
}

static void on_cost(uv_timer_t *timer) {
        step_budget(timer->data, clock_boot_ns());
}

static void on_slow(uv_timer_t *timer) {
        struct daemon *d = timer->data;
        uint64_t now_ns = clock_boot_ns();
        d->real_offset_ns = clock_real_offset_ns();
        if (d->inject)
                inject_check(d->inject);
        if (discover_check(d->discover, now_ns))
                d->discover_due_ns = 0;
        code_library_close();
        if (d->discover_due_ns <= now_ns)
                be_busy(d);
}

/* ---- verbs ---- */

static void gather(struct daemon *d, struct report *r) {
        memset(r, 0, sizeof(*r));
        r->settings = &d->settings;
        r->budget = &d->budget;
        r->discover = d->discover;
        r->probes = d->probes;
        r->tls = d->tls;
        r->inject = d->inject;
        tracer_get_stats(d->tracer, &r->tracer);
        probes_get_counters(d->probes, &r->counters);
        output_get_stats(d->output, &r->output);
}

static void verb_status(void *ctx, bool json, FILE *to) {
        struct report r;
        gather(ctx, &r);
        report_status(&r, json, to);
}

static void verb_stats(void *ctx, bool json, FILE *to) {
        struct daemon *d = ctx;
        struct report r;
        drain(d);                                  /* what happened before the question is in the answer */
        gather(d, &r);
        report_stats(&r, json, to);
}

static void verb_processes(void *ctx, bool json, FILE *to) {
        struct report r;
        gather(ctx, &r);
        report_processes(&r, json, to);
}

static void verb_explain(void *ctx, uint32_t pid, bool json, FILE *to) {
        struct daemon *d = ctx;
        explain_process(pid, &(struct explain_options){ .probes = d->probes, .selection = d->selection, .process = &d->process,
                                                        .inject_cgroup = d->settings.inject.cgroup, .inject = d->inject }, json, to);
}

/* ---- reload ---- */

static void on_warning(void *ctx, const char *name, const char *why) {
        (void)ctx;
        tel_log(TEL_LOG_WARN, "a name of the environment has no effect", { "name", name }, { "why", why });
}

static void adopt(struct daemon *d, const struct settings *s) {
        d->settings = *s;
        d->process.proc = d->settings.proc;
        d->process.service_name = d->settings.service_name;
        d->process.service_namespace = d->settings.service_namespace;
        d->process.host = *d->settings.host.name ? d->settings.host.name : d->host;
}

/* Whether a part that a reload does not build anew was changed. */
static bool needs_restart(const struct settings *a, const struct settings *b) {
        return strcmp(a->collector, b->collector) != 0 || strcmp(a->otlp_endpoint, b->otlp_endpoint) != 0 ||
               strcmp(a->listen.control, b->listen.control) != 0 || strcmp(a->proc, b->proc) != 0;
}

static void start_periods(struct daemon *d);

/* What the settings want, in place of what there is. Returns 0, or negative with reterr (INJECT_TEXT_MAX) and all as it was: they name what is no
 * cgroup to use. */
static int open_inject(struct daemon *d, const struct settings *s, char *reterr) {
        struct inject_options options = { .cgroup = s->inject.cgroup, .maps = probes_maps(d->probes) };
        struct sampler sampler;
        double ratio = 1;
        struct inject *fresh = NULL;
        struct inject_stats now;
        if (!*s->inject.cgroup) {
                d->inject = inject_free(d->inject);
                return 0;
        }
        settings_ports_bits(&s->inject.ports, (uint64_t *)options.rules.ports);
        settings_sampler_ratio(s->sampler.argument, &ratio);
        sampler_init(&sampler, (enum sampler_kind)s->sampler.name, ratio);
        sampler_rules(&sampler, &options.rules);
        options.rules.keep_alive = s->inject.keep_alive;
        if (d->inject && inject_is(d->inject, &options)) {
                inject_check(d->inject);
                return 0;
        }
        int r = inject_new(&options, &fresh, reterr);
        if (r < 0)
                return r;
        inject_free(d->inject);
        d->inject = fresh;
        inject_get_stats(fresh, &now);
        if (now.works)
                tel_log(TEL_LOG_INFO, "requests get a traceparent", { "where", inject_text(fresh) });
        else
                tel_log(TEL_LOG_WARN, "requests get no traceparent yet", { "why", inject_text(fresh) });
        if (now.miscounts && options.rules.keep_alive)
                tel_log(TEL_LOG_WARN, "inject.keep_alive is dangerous on this kernel: it miscounts FIONREAD, and programs that ask it (nginx) stall");
        inject_pause(fresh, d->budget.step >= BUDGET_METRICS);
        return 0;
}

/* Connections, open requests and totals stay; what is not wanted any more is left, what is wanted now is found. */
static int reload(void *ctx, char *reterr) {
        struct daemon *d = ctx;
        struct settings s, old = d->settings;
        struct selection *selection = NULL;
        int r = arguments_load(d->arguments, environ, on_warning, NULL, &s, reterr);
        if (r == 0)
                r = selection_new(&s, &selection);
        if (r == 0 && (r = open_inject(d, &s, reterr)) < 0) {
                selection_free(selection);
                settings_done(&s);
        }
        if (r < 0) {
                stats.reload_failures++;
                return r;
        }
        drain(d);
        tracer_metrics(d->tracer, clock_boot_ns(), d->real_offset_ns);
        adopt(d, &s);
        r = tracer_configure(d->tracer, &d->settings, reterr);
        if (r < 0) {
                adopt(d, &old);
                selection_free(selection);
                settings_done(&s);
                stats.reload_failures++;
                return r;
        }
        tracer_set_traces(d->tracer, d->budget.step < BUDGET_METRICS);
        if (needs_restart(&old, &d->settings))
                tel_log(TEL_LOG_WARN, "collector, otlp_endpoint, listen and proc change with a restart only");
        discover_select(d->discover, selection, clock_boot_ns());
        selection_free(d->selection);
        d->selection = selection;
        settings_done(&old);
        enum budget_step before = d->budget.step;
        start_periods(d);
        if (d->budget.step != before)
                apply_step(d, before, "observes everything: the budget has no bound any more");
        tel_log_set_level(d->arguments->log_level < 0 ? (enum tel_log_level)d->settings.log_level : (enum tel_log_level)d->arguments->log_level);
        stats.reloads++;
        be_busy(d);
        tel_log(TEL_LOG_INFO, "configuration reloaded", { "config", arguments_config_path(d->arguments, environ) });
        return 0;
}

static void on_hangup(uv_signal_t *signal, int number) {
        struct daemon *d = signal->data;
        char error[TEL_CONFIG_ERROR_MAX];
        (void)number;
        sd_notify(0, "RELOADING=1");
        if (reload(d, error) < 0)
                tel_log(TEL_LOG_ERROR, "reload refused, the old configuration stays", { "err", error });
        sd_notify(0, "READY=1");
}

/* ---- life ---- */

static void on_stop(uv_signal_t *signal, int number) {
        struct daemon *d = signal->data;
        (void)number;
        if (d->stopping)
                return;
        d->stopping = true;
        sd_notify(0, "STOPPING=1");
        uv_stop(&d->loop);
}

/* The socket's path: absolute, or a name in the runtime directory. */
static int open_control(struct daemon *d, char *reterr) {
        char path[108];
        struct control_options options = { .loop = &d->loop, .path = d->settings.listen.control, .fd = -1,
                                           .verbs = { d, verb_status, verb_stats, verb_processes, verb_explain, reload } };
        if (!*options.path)
                return 0;
        if (*options.path != '/') {
                int r = tel_runtime_path(options.path, path, sizeof(path));
                if (r < 0) {
                        snprintf(reterr, CONTROL_ERROR_MAX, "control socket '%.100s': %s", options.path, strerror(-r));
                        return r;
                }
                options.path = path;
        }
        return control_new(&options, &d->control, reterr);
}

static int open_output(struct daemon *d, char *reterr) {
        if (!*d->settings.collector && !*d->settings.otlp_endpoint) {
                snprintf(reterr, OUTPUT_ERROR_MAX, "neither collector nor otlp_endpoint is set: expected one of them");
                return -EINVAL;
        }
        return output_new(&d->loop, &(struct output_options){ .collector = d->settings.collector, .endpoint = d->settings.otlp_endpoint },
                          &d->output, reterr);
}

/* Without these two sockets are still seen; what is missing is said by explain. */
static void open_libraries(struct daemon *d) {
        char error[PROBE_ERROR_MAX];
        if (tls_probes_new(probes_maps(d->probes), &d->tls, error) < 0)
                tel_log(TEL_LOG_WARN, "TLS libraries cannot be probed: encrypted requests are not seen", { "err", error });
        if (go_probes_new(probes_maps(d->probes), &d->go, error) < 0)
                tel_log(TEL_LOG_WARN, "Go programs cannot be probed: their outgoing requests have no parent", { "err", error });
}

static enum probe_technique technique(const struct daemon *d) {
        static_assert(TECHNIQUE_AUTO == (int)PROBE_TECHNIQUE_AUTO && TECHNIQUE_SOCKET == (int)PROBE_TECHNIQUE_SOCKET &&
                      TECHNIQUE_SYSCALL == (int)PROBE_TECHNIQUE_SYSCALL, "the same numbers");
        return (enum probe_technique)d->settings.technique;
}

static int build(struct daemon *d, char *reterr) {
        int r = selection_new(&d->settings, &d->selection);
        if (r == 0 && d->arguments->record_path)
                r = recording_create(d->arguments->record_path, d->real_offset_ns, &d->recording, reterr);
        if (r == 0)
                r = open_output(d, reterr);
        if (r == 0)
                r = tracer_new(&(struct tracer_options){ .settings = &d->settings, .print_to = stdout, .request = on_request,
                                                         .verdict = on_verdict, .gone = on_gone, .tls_wanted = on_tls_wanted, .ctx = d },
                               &d->tracer, reterr);
        if (r == 0)
                r = probes_new(technique(d), on_event, d, &d->probes, reterr);
        if (r < 0)
                return r;
        open_libraries(d);
        d->discover = discover_new(&(struct discover_options){ .probes = d->probes, .tls = d->tls, .go = d->go, .process = &d->process,
                                                               .found = on_found, .ended = on_process_ended, .ctx = d });
        r = d->discover ? open_inject(d, &d->settings, reterr) : -ENOMEM;
        return r < 0 ? r : open_control(d, reterr);
}

/* What the settings of metrics and budget start; anew after a reload. */
static void start_periods(struct daemon *d) {
        uint64_t interval_ms = d->settings.metrics.interval_ns / TEL_NS_PER_MS, period_ms = d->settings.budget.period_ns / TEL_NS_PER_MS;
        uv_timer_start(&d->metrics, on_metrics, interval_ms, interval_ms);
        budget_bounds(&d->budget, (uint32_t)d->settings.budget.cpu, (uint32_t)d->settings.budget.probe_cpu);
        d->period_ns = 0;                          /* the first look has nothing to compare with */
        if (d->budget.cpu_percent > 0 || d->budget.probe_percent > 0)
                uv_timer_start(&d->cost, on_cost, period_ms, period_ms);
        else
                uv_timer_stop(&d->cost);
        if (d->budget.probe_percent > 0 && d->stats_fd < 0)
                d->stats_fd = probes_measure();
        else if (d->budget.probe_percent == 0 && d->stats_fd >= 0) {
                close(d->stats_fd);
                d->stats_fd = -1;
        }
}

static void start_handles(struct daemon *d) {
        uv_timer_t *timers[] = { &d->tick, &d->metrics, &d->cost, &d->slow };
        uv_signal_t *signals[] = { &d->term, &d->interrupt, &d->hangup };
        static const int numbers[] = { SIGTERM, SIGINT, SIGHUP };
        for (size_t i = 0; i < TEL_ARRAY_LEN(timers); i++) {
                uv_timer_init(&d->loop, timers[i]);
                timers[i]->data = d;
        }
        for (size_t i = 0; i < TEL_ARRAY_LEN(signals); i++) {
                uv_signal_init(&d->loop, signals[i]);
                signals[i]->data = d;
                uv_signal_start(signals[i], i < 2 ? on_stop : on_hangup, numbers[i]);
        }
        start_periods(d);
        uv_timer_start(&d->slow, on_slow, CLOCK_SAMPLE_NS / TEL_NS_PER_MS, CLOCK_SAMPLE_NS / TEL_NS_PER_MS);
        uv_poll_init(&d->loop, &d->ring, probes_fd(d->probes));
        d->ring.data = d;
        uv_poll_start(&d->ring, UV_READABLE, on_ring);
        d->jump_fd = clock_jump_fd();
        if (d->jump_fd >= 0) {
                uv_poll_init(&d->loop, &d->jump, d->jump_fd);
                d->jump.data = d;
                uv_poll_start(&d->jump, UV_READABLE, on_jump);
        }
}

static void on_walk(uv_handle_t *handle, void *arg) {
        (void)arg;
        if (!uv_is_closing(handle))
                uv_close(handle, NULL);
}

static void end(struct daemon *d) {
        d->control = control_free(d->control);
        /* The links go first: nothing new comes, and programs run as if we had never been. */
        d->discover = discover_free(d->discover);
        d->inject = inject_free(d->inject);
        d->go = go_probes_free(d->go);
        d->tls = tls_probes_free(d->tls);
        if (d->tracer && d->output) {
                tracer_release(d->tracer, UINT64_MAX, d->real_offset_ns);
                tracer_metrics(d->tracer, clock_boot_ns(), d->real_offset_ns);
                if (output_flush(d->output, STOP_FLUSH_MS) < 0)
                        tel_log(TEL_LOG_WARN, "the latest spans and metrics could not be delivered before the end");
        }
        d->tracer = tracer_free(d->tracer);
        d->output = output_free(d->output);
        uv_walk(&d->loop, on_walk, NULL);
        uv_run(&d->loop, UV_RUN_DEFAULT);
        uv_loop_close(&d->loop);
        d->probes = probes_free(d->probes);
        d->selection = selection_free(d->selection);
        int r = recording_close(d->recording);
        if (r < 0)
                tel_log(TEL_LOG_ERROR, "the recording is not whole", { "path", d->arguments->record_path }, { "err", strerror(-r) });
        if (d->jump_fd >= 0)
                close(d->jump_fd);
        if (d->stats_fd >= 0)
                close(d->stats_fd);
        settings_done(&d->settings);
}

static int load(const struct arguments *a, struct daemon *d) {
        struct settings s;
        char error[TEL_CONFIG_ERROR_MAX];
        if (arguments_load(a, environ, on_warning, NULL, &s, error) < 0) {
                fprintf(stderr, "beylad: %s\n", error);
                return -EINVAL;
        }
        if (gethostname(d->host, sizeof(d->host) - 1) < 0)
                snprintf(d->host, sizeof(d->host), "localhost");
        d->arguments = a;
        d->jump_fd = d->stats_fd = -1;
        adopt(d, &s);
        return 0;
}

static void say_ready(const struct daemon *d) {
        char n[16];
        if (!selection_any(d->selection))
                tel_log(TEL_LOG_WARN, "nothing is selected: open_ports and executables are empty");
        tel_log(TEL_LOG_INFO, "observing", { "processes", TEL_LOGF(n, "%zu", discover_count(d->discover)) },
                { "sockets", probes_family_text(d->probes, FAMILY_SOCKETS) });
        sd_notify(0, "READY=1\nSTATUS=observing");
}

int daemon_run(const struct arguments *a) {
        struct daemon *d = calloc(1, sizeof(*d));
        char error[TRACER_ERROR_MAX + TEL_CONFIG_ERROR_MAX] = "";
        if (!d || load(a, d) < 0) {
                free(d);
                return 1;
        }
        tel_log_open("beylad", a->log_level < 0 ? (enum tel_log_level)d->settings.log_level : (enum tel_log_level)a->log_level);
        bool with_curl = *d->settings.otlp_endpoint;      /* else its libraries' set-up would cost megabytes for nothing */
        if (with_curl)
                curl_global_init(CURL_GLOBAL_DEFAULT);
        signal(SIGPIPE, SIG_IGN);
        d->real_offset_ns = clock_real_offset_ns();
        uv_loop_init(&d->loop);
        int r = build(d, error);
        if (r < 0)
                tel_log(TEL_LOG_ERROR, "cannot start", { "err", error[0] ? error : strerror(-r) });
        else {
                start_handles(d);
                r = discover_select(d->discover, d->selection, clock_boot_ns());
                if (r < 0)
                        tel_log(TEL_LOG_ERROR, "cannot list the listeners of this host", { "err", strerror(-r) });
                code_library_close();
                malloc_trim(0);                    /* reading the kernel's types took megabytes, once */
                say_ready(d);
                be_busy(d);
                uv_run(&d->loop, UV_RUN_DEFAULT);
                drain(d);
        }
        end(d);
        if (with_curl)
                curl_global_cleanup();
        free(d);
        return r < 0;
}

/* ---- without a loop ---- */

static void say_replayed(const struct tracer *t) {
        struct tracer_stats s;
        tracer_get_stats(t, &s);
        fprintf(stderr, "beylad: %llu spans, %llu requests seen in part, %llu connections, %llu gaps\n", (unsigned long long)s.contexts.spans,
                (unsigned long long)s.contexts.lost, (unsigned long long)s.connections.opened, (unsigned long long)s.connections.gaps);
}

int daemon_replay(const struct arguments *a) {
        struct daemon *d = calloc(1, sizeof(*d));
        struct tracer *t = NULL;
        char error[TRACER_ERROR_MAX] = "";
        FILE *from = NULL;
        int r = -ENOMEM;
        if (d && load(a, d) == 0) {
                if (d->settings.printer == PRINTER_DISABLED)
                        d->settings.printer = PRINTER_JSON;
                r = tracer_new(&(struct tracer_options){ .settings = &d->settings, .print_to = stdout }, &t, error);
                from = strcmp(a->replay_path, "-") == 0 ? stdin : fopen(a->replay_path, "re");
                if (r == 0 && !from) {
                        r = -errno;
                        snprintf(error, sizeof(error), "recording '%.150s': %s", a->replay_path, strerror(errno));
                }
                if (r == 0)
                        r = recording_replay(from, a->replay_path, t, error);
                if (r < 0)
                        fprintf(stderr, "beylad: %s\n", error);
                if (t)
                        say_replayed(t);
                settings_done(&d->settings);
        }
        tracer_free(t);
        if (from && from != stdin)
                fclose(from);
        free(d);
        return r < 0;
}

static void on_no_event(void *ctx, const struct probe_head *e) {
        (void)ctx, (void)e;
}

int daemon_explain(const struct arguments *a) {
        struct daemon *d = calloc(1, sizeof(*d));
        char error[PROBE_ERROR_MAX] = "";
        int r = -ENOMEM;
        if (d && load(a, d) == 0) {
                r = probes_new(technique(d), on_no_event, d, &d->probes, error);
                if (r < 0)
                        fprintf(stderr, "beylad: %s\n", error);      /* explain goes on: that nothing works is what it has to say */
                r = selection_new(&d->settings, &d->selection);
                if (r == 0)
                        r = explain_process(a->explain_pid, &(struct explain_options){ .probes = d->probes, .why = error, .selection = d->selection,
                                                                                      .process = &d->process, .inject_cgroup = d->settings.inject.cgroup },
                                            false, stdout);
                probes_free(d->probes);
                selection_free(d->selection);
                settings_done(&d->settings);
        }
        free(d);
        return r < 0;
}
