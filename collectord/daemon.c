/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "collectord/clock.h"
#include "collectord/control/control.h"
#include "collectord/daemon.h"
#include "collectord/stats.h"
#include "collectord/web/web.h"
#include "libtelemetry/client.h"
#include "libtelemetry/log.h"

enum { LISTEN_OTLP_HTTP, LISTEN_WEB, LISTEN_FRAMES, LISTEN_CONTROL, LISTENERS };
static const char *const listener_names[LISTENERS] = { "otlp_http", "web", "frames", "control" };

struct daemon_private {
        uv_signal_t term, interrupt, hangup;
        uv_timer_t stop_timer, watchdog;
        uv_check_t turns;
        uint64_t watchdog_ms;
        int fds[LISTENERS];                        /* handed over by systemd, or -1 */
        uint64_t delivered_at_stop;
        bool stop_begun;
        struct tel_log_repeat lost_log[DROP_REASONS][TEL_SIGNALS];
};

const char *service_state_name(enum service_state s) {
        static const char *const names[] = {
                [SERVICE_STARTING] = "STARTING", [SERVICE_RUNNING] = "RUNNING", [SERVICE_DEGRADED] = "DEGRADED", [SERVICE_STOPPING] = "STOPPING",
                [SERVICE_STOPPED] = "STOPPED", [SERVICE_FAILED] = "FAILED",
        };
        return names[s];
}

bool daemon_ready(const struct daemon *d) {
        return d->state == SERVICE_RUNNING || d->state == SERVICE_DEGRADED;
}

/* ---- State ---- */

static void tell_systemd(const struct daemon *d, const char *before) {
        sd_notifyf(0, "%sSTATUS=%s, %zu destinations, buffer %zu of %zu MB", before, service_state_name(d->state), d->settings.destinations.n,
                   d->spools ? spools_budget(d->spools)->used / 1000000 : 0, (size_t)(d->settings.buffer.memory / 1000000));
}

static void set_state(struct daemon *d, enum service_state to) {
        if (d->state == to)
                return;
        tel_log(TEL_LOG_INFO, "service state", { "from", service_state_name(d->state) }, { "to", service_state_name(to) });
        d->state = to;
        tell_systemd(d, "");
}

static void on_destinations_changed(void *ctx) {
        struct daemon *d = ctx;
        if (daemon_ready(d))
                set_state(d, destinations_degraded(d->destinations) ? SERVICE_DEGRADED : SERVICE_RUNNING);
}

/* ---- Joints ---- */

static void on_appended(void *ctx, enum tel_signal signal) {
        struct daemon *d = ctx;
        if (d->destinations)
                destinations_wake(d->destinations, signal);
        if (d->control)
                control_wake(d->control, signal);
}

static bool on_release(void *ctx) {
        struct daemon *d = ctx;
        return d->destinations && destinations_release(d->destinations);
}

static void on_lost(void *ctx, const struct reader *r, const struct loss *l) {
        struct daemon *d = ctx;
        char items[24], age[24];
        if (l->reason == DROP_REFUSED || l->reason == DROP_TOO_LARGE || l->reason == DROP_REJECTED)
                return;                            /* the destination says it, with the answer */
        struct tel_log_repeat *repeat = &d->private->lost_log[l->reason][l->signal];
        if (l->reason == DROP_STOP || l->reason == DROP_REMOVED)
                *repeat = (struct tel_log_repeat){ 0 };    /* said once for each signal of a destination, and there is no later line to wait for */
        tel_log_repeated(repeat, clock_now_ns(), TEL_LOG_WARN, "data dropped", { "destination", reader_destination(r) },
                         { "signal", tel_signal_name(l->signal) }, { "reason", drop_reason_name(l->reason) },
                         { "items", TEL_LOGF(items, "%llu", (unsigned long long)l->items) },
                         { "age_s", TEL_LOGF(age, "%llu", (unsigned long long)((l->first_ns - TEL_MIN(l->received_min_ns, l->first_ns)) / TEL_NS_PER_S)) });
}

/* ---- Starting ---- */

static void take_descriptors(struct daemon_private *p) {
        char **names = NULL;
        int n = sd_listen_fds_with_names(1, &names);
        for (size_t i = 0; i < LISTENERS; i++)
                p->fds[i] = -1;
        for (int k = 0; k < n; k++) {
                size_t i = 0;
                while (i < LISTENERS && strcmp(names[k], listener_names[i]) != 0)
                        i++;
                if (i < LISTENERS && p->fds[i] < 0)
                        p->fds[i] = SD_LISTEN_FDS_START + k;
                else {
                        tel_log(TEL_LOG_WARN, "a socket of an unknown name was handed over; expected FileDescriptorName= otlp_http, web, frames or control",
                                { "name", names[k] });
                        close(SD_LISTEN_FDS_START + k);
                }
                free(names[k]);
        }
        free(names);
}

/* The folder of a socket path; ours to make when it is the runtime directory. */
static int make_runtime_directory(const char *path) {
        struct stat st;
        char folder[108];
        snprintf(folder, sizeof(folder), "%s", path);
        char *slash = strrchr(folder, '/');
        if (!slash || slash == folder)
                return 0;
        *slash = '\0';
        if (mkdir(folder, geteuid() == 0 ? 0755 : 0700) == 0)
                return 0;
        int error = errno;
        if (error != EEXIST || lstat(folder, &st) < 0)
                return -error;
        /* Below /tmp another user could have been first. */
        return S_ISDIR(st.st_mode) && (st.st_uid == geteuid() || geteuid() == 0) ? 0 : -EPERM;
}

static int socket_path(const char *name, char *out, size_t n, char *reterr) {
        if (name[0] == '/') {
                snprintf(out, n, "%s", name);
                return strlen(name) < n ? 0 : -ENAMETOOLONG;
        }
        int r = tel_runtime_path(name, out, n);
        if (r == 0)
                r = make_runtime_directory(out);
        if (r < 0)
                snprintf(reterr, 256, "runtime directory of '%.60s': %s", name, strerror(-r));
        return r;
}

static void log_bound(const char *name, const char *address) {
        tel_log(TEL_LOG_INFO, "listening", { "listener", name }, { "address", address });
}

/* The document may leave the port to the system. */
static void log_bound_port(const char *name, const char *address, uint16_t port) {
        char host[256], bound[300];
        uint16_t configured;
        bool v6 = settings_address(address, host, sizeof(host), &configured) == 0 && strchr(host, ':');
        log_bound(name, TEL_LOGF(bound, "%s%s%s:%u", v6 ? "[" : "", host, v6 ? "]" : "", port));
}

static int open_otlp(struct daemon *d, char *reterr) {
        struct otlp_http_options options = { .settings = &d->settings, .fd = d->private->fds[LISTEN_OTLP_HTTP], .pipeline = &d->pipeline, .ingest = &d->ingest };
        if (!*d->settings.listen.otlp_http && options.fd < 0)
                return 0;
        int r = otlp_http_new(&d->loop, &options, &d->otlp_http, reterr);
        if (r == 0)
                log_bound_port("otlp_http", d->settings.listen.otlp_http, otlp_http_port(d->otlp_http));
        return r;
}

static int open_web(struct daemon *d, char *reterr) {
        if (!*d->settings.listen.web && d->private->fds[LISTEN_WEB] < 0)
                return 0;
        int r = web_new(d, d->settings.listen.web, d->private->fds[LISTEN_WEB], &d->web, reterr);
        if (r == 0)
                log_bound_port("web", d->settings.listen.web, web_port(d->web));
        return r;
}

static int open_frames(struct daemon *d, char *reterr) {
        struct frame_socket_options options = { .settings = &d->settings, .path = d->frames_path, .fd = d->private->fds[LISTEN_FRAMES],
                                                .pipeline = &d->pipeline, .ingest = &d->ingest };
        if (!*d->settings.listen.frames)
                return 0;
        int r = socket_path(d->settings.listen.frames, d->frames_path, sizeof(d->frames_path), reterr);
        if (r == 0)
                r = frame_socket_new(&d->loop, &options, &d->frames, reterr);
        if (r == 0)
                log_bound("frames", d->frames_path);
        return r;
}

static int open_control(struct daemon *d, char *reterr) {
        if (!*d->settings.listen.control)
                return 0;
        int r = socket_path(d->settings.listen.control, d->control_path, sizeof(d->control_path), reterr);
        if (r == 0)
                r = control_new(d, d->control_path, d->private->fds[LISTEN_CONTROL], &d->control, reterr);
        if (r == 0)
                log_bound("control", d->control_path);
        return r;
}

static int open_listeners(struct daemon *d) {
        static int (*const open[])(struct daemon *, char *) = { open_control, open_web, open_frames, open_otlp };
        char error[256] = "";
        for (size_t i = 0; i < TEL_ARRAY_LEN(open); i++) {
                int r = open[i](d, error);
                if (r < 0) {
                        tel_log(TEL_LOG_ERROR, "cannot listen", { "err", error[0] ? error : strerror(-r) });
                        return r;
                }
        }
        return 0;
}

static int init_identity(const struct settings *s, struct identity *ret) {
        char host[256], instance[37];
        if (*s->host.name)
                snprintf(host, sizeof(host), "%s", s->host.name);
        else
                identity_host(host, sizeof(host));
        identity_instance(host, instance);
        return identity_init(ret, host, instance, &s->host.labels);
}

static int build(struct daemon *d) {
        struct segment_store *store = segment_store_memory_new();
        struct spools_settings memory = { d->settings.buffer.memory, d->settings.buffer.history };
        struct spools_events events = { .appended = on_appended, .lost = on_lost, .release = on_release, .ctx = d };
        struct destinations_options options = { .loop = &d->loop, .egress = &d->egress, .state_changed = on_destinations_changed, .ctx = d };
        d->ingest.limit = d->settings.buffer.ingest;
        d->egress.limit = d->settings.buffer.egress;
        int r = store ? spools_new(&memory, store, &events, &d->spools) : -ENOMEM;
        if (r < 0)
                return r;
        d->pipeline.spools = options.spools = d->spools;
        r = init_identity(&d->settings, &d->pipeline.identity);
        if (r == 0)
                r = destinations_new(&options, &d->destinations);
        if (r == 0)
                r = destinations_configure(d->destinations, &d->settings);
        if (r < 0)
                tel_log(TEL_LOG_ERROR, "cannot start", { "err", strerror(-r) });
        return r;
}

static bool has_remote(const struct settings *s) {
        const struct destination_settings *list = s->destinations.items;
        for (size_t i = 0; i < s->destinations.n; i++)
                if (list[i].enabled && list[i].anchor)
                        return true;
        return false;
}

/* GEN-13: what this machine has, in one line. */
static void log_start(const struct daemon *d) {
        char notify[8], journal[8];
        tel_log(TEL_LOG_INFO, "starting", { "version", SUITE_VERSION }, { "config", d->config_path ? d->config_path : "built-in" },
                { "host", d->pipeline.identity.host }, { "instance", d->pipeline.identity.instance },
                { "systemd", TEL_LOGF(notify, "%s", getenv("NOTIFY_SOCKET") ? "yes" : "no") },
                { "journal", TEL_LOGF(journal, "%s", getenv("JOURNAL_STREAM") ? "yes" : "no") });
        if (!has_remote(&d->settings))
                tel_log(TEL_LOG_WARN, "no remote destination is configured, running local-only");
}

/* ---- Reloading ---- */

static void warn_restart(const char *key, const char *before, const char *after) {
        if (strcmp(before, after) != 0)
                tel_log(TEL_LOG_WARN, "this key takes effect at a restart only", { "key", key }, { "now", before }, { "new", after });
}

static void apply(struct daemon *d, struct settings *new) {
        struct identity identity;
        struct spools_settings memory = { new->buffer.memory, new->buffer.history };
        warn_restart("listen.otlp_http", d->settings.listen.otlp_http, new->listen.otlp_http);
        warn_restart("listen.web", d->settings.listen.web, new->listen.web);
        warn_restart("listen.frames", d->settings.listen.frames, new->listen.frames);
        warn_restart("listen.control", d->settings.listen.control, new->listen.control);
        if (init_identity(new, &identity) == 0) {
                identity_done(&d->pipeline.identity);
                d->pipeline.identity = identity;
        }
        d->ingest.limit = new->buffer.ingest;
        d->egress.limit = new->buffer.egress;
        spools_resize(d->spools, &memory);
        if (destinations_configure(d->destinations, new) < 0)
                tel_log(TEL_LOG_ERROR, "out of memory while the destinations were changed");
        if (d->log_level < 0)
                tel_log_set_level((enum tel_log_level)new->log_level);
        settings_done(&d->settings);
        d->settings = *new;
        *new = (struct settings){ 0 };
}

int daemon_reload(struct daemon *d, char *reterr) {
        TEL_CLEANUP(settings_done) struct settings new = { 0 };
        sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)(uv_hrtime() / 1000));
        int r = settings_load(d->config_path, &new, reterr);
        if (r < 0) {
                stats.reload_failures++;
                stats.reload_failed_ns = clock_now_ns();
                tel_log(TEL_LOG_ERROR, "reload refused, the old configuration stays", { "err", reterr });
        } else {
                apply(d, &new);
                stats.reloads++;
                stats.reload_ok_ns = clock_now_ns();
                tel_log(TEL_LOG_INFO, "configuration reloaded", { "config", d->config_path ? d->config_path : "built-in" });
        }
        tell_systemd(d, "READY=1\n");
        on_destinations_changed(d);
        return r;
}

/* ---- Stopping ---- */

static uint64_t delivered(const struct daemon *d) {
        uint64_t sum = 0;
        const struct destination *to;
        for (size_t i = 0; (to = destinations_get(d->destinations, i)); i++)
                for (enum tel_signal s = 0; s < TEL_SIGNALS; s++)
                        if (destination_reader(to, s))
                                sum += reader_ledger(destination_reader(to, s))->delivered;
        return sum;
}

static void close_all(struct daemon *d) {
        struct daemon_private *p = d->private;
        d->otlp_http = otlp_http_free(d->otlp_http);
        d->frames = frame_socket_free(d->frames);
        d->control = control_free(d->control);
        d->web = web_free(d->web);
        d->destinations = destinations_free(d->destinations);
        uv_handle_t *handles[] = { (uv_handle_t *)&p->term, (uv_handle_t *)&p->interrupt, (uv_handle_t *)&p->hangup, (uv_handle_t *)&p->stop_timer,
                                   (uv_handle_t *)&p->watchdog, (uv_handle_t *)&p->turns };
        for (size_t i = 0; i < TEL_ARRAY_LEN(handles); i++)
                if (!uv_is_closing(handles[i]))
                        uv_close(handles[i], NULL);
}

static void finish_stop(struct daemon *d) {
        char sent[24], lost[24];
        uint64_t flushed = delivered(d) - d->private->delivered_at_stop, given_up = destinations_give_up(d->destinations);
        set_state(d, SERVICE_STOPPED);
        tel_log(given_up ? TEL_LOG_WARN : TEL_LOG_INFO, "stopped", { "flushed", TEL_LOGF(sent, "%llu", (unsigned long long)flushed) },
                { "lost", TEL_LOGF(lost, "%llu", (unsigned long long)given_up) });
        close_all(d);
}

static void on_stop_timer(uv_timer_t *timer) {
        struct daemon *d = timer->data;
        if (d->state == SERVICE_STOPPING)
                finish_stop(d);
}

/* Called from inside a destination, which must not end there: the timer ends all in the next turn of the loop. */
static void on_flushed(void *ctx) {
        struct daemon *d = ctx;
        if (d->state == SERVICE_STOPPING)
                uv_timer_start(&d->private->stop_timer, on_stop_timer, 0, 0);
}

static void on_stop_signal(uv_signal_t *handle, int signum) {
        struct daemon *d = handle->data;
        if (d->private->stop_begun) {              /* asked twice: at once */
                if (d->state == SERVICE_STOPPING)
                        finish_stop(d);
                return;
        }
        d->private->stop_begun = true;
        sd_notify(0, "STOPPING=1");
        tel_log(TEL_LOG_INFO, "stopping", { "signal", signum == SIGTERM ? "SIGTERM" : "SIGINT" });
        set_state(d, SERVICE_STOPPING);
        otlp_http_quiesce(d->otlp_http);
        frame_socket_quiesce(d->frames);
        d->private->delivered_at_stop = delivered(d);
        uv_timer_start(&d->private->stop_timer, on_stop_timer, d->settings.stop_timeout_ns / TEL_NS_PER_MS, 0);
        destinations_flush(d->destinations, on_flushed, d);
}

static void on_hangup(uv_signal_t *handle, int signum) {
        char error[TEL_CONFIG_ERROR_MAX];
        struct daemon *d = handle->data;
        (void)signum;
        if (daemon_ready(d))                       /* not on its way out */
                (void)daemon_reload(d, error);
}

/* ---- Running ---- */

static void on_turn(uv_check_t *check) {
        (void)check;
        stats.wakeups++;
}

static void on_watchdog(uv_timer_t *timer) {
        tell_systemd(timer->data, "WATCHDOG=1\n");
}

static void start_handles(struct daemon *d) {
        struct daemon_private *p = d->private;
        uint64_t watchdog_us = 0;
        p->term.data = p->interrupt.data = p->hangup.data = p->stop_timer.data = p->watchdog.data = d;
        uv_signal_init(&d->loop, &p->term);
        uv_signal_init(&d->loop, &p->interrupt);
        uv_signal_init(&d->loop, &p->hangup);
        uv_timer_init(&d->loop, &p->stop_timer);
        uv_timer_init(&d->loop, &p->watchdog);
        uv_check_init(&d->loop, &p->turns);
        uv_check_start(&p->turns, on_turn);
        uv_unref((uv_handle_t *)&p->turns);
        uv_signal_start(&p->term, on_stop_signal, SIGTERM);
        uv_signal_start(&p->interrupt, on_stop_signal, SIGINT);
        uv_signal_start(&p->hangup, on_hangup, SIGHUP);
        if (sd_watchdog_enabled(0, &watchdog_us) > 0)
                uv_timer_start(&p->watchdog, on_watchdog, watchdog_us / 2000, watchdog_us / 2000);
}

int daemon_run(struct daemon *d) {
        struct daemon_private private = { 0 };
        d->private = &private;
        d->state = SERVICE_STARTING;
        signal(SIGPIPE, SIG_IGN);
        stats.start_ns = stats.reload_ok_ns = clock_now_ns();
        uv_loop_init(&d->loop);
        take_descriptors(&private);
        start_handles(d);
        int r = build(d);
        if (r == 0) {
                log_start(d);
                r = open_listeners(d);
        }
        if (r == 0) {
                set_state(d, destinations_degraded(d->destinations) ? SERVICE_DEGRADED : SERVICE_RUNNING);
                tell_systemd(d, "READY=1\n");
        } else {
                set_state(d, SERVICE_FAILED);
                close_all(d);
        }
        uv_run(&d->loop, UV_RUN_DEFAULT);
        d->spools = spools_free(d->spools);
        identity_done(&d->pipeline.identity);
        uv_loop_close(&d->loop);
        return r < 0 ? 1 : 0;
}
