/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "collectord/clock.h"
#include "collectord/report.h"
#include "collectord/stats.h"
#include "libtelemetry/frame.h"
#include "libtelemetry/log.h"

#define TEXT_MAX 640                               /* bytes of any text from outside: a producer's words have 512 */

/* ---- values ---- */

/* Text from outside: what is not UTF-8 becomes '?', what a terminal would obey becomes a blank. */
static json_t *text(const char *from) {
        char out[TEXT_MAX];
        size_t n = tel_frame_text(out, sizeof(out), from, SIZE_MAX);
        for (size_t i = 0; i < n; i++) {
                bool c1 = (uint8_t)out[i] == 0xc2 && (uint8_t)out[i + 1] < 0xa0;
                if ((uint8_t)out[i] < 0x20 || out[i] == 0x7f)
                        out[i] = ' ';
                else if (c1)
                        out[i] = out[i + 1] = ' ';
        }
        return json_string(out);
}

static json_t *text_or_null(const char *from) {
        return from && *from ? text(from) : json_null();
}

static json_t *seconds(uint64_t ns) {
        return json_real((double)(ns / TEL_NS_PER_MS) / 1e3);
}

static json_t *age(uint64_t at_ns, uint64_t now_ns) {
        return at_ns == 0 ? json_null() : seconds(now_ns > at_ns ? now_ns - at_ns : 0);
}

static json_t *time_or_null(uint64_t daemon_ns) {
        char out[REPORT_TIME_MAX];
        return daemon_ns == 0 ? json_null() : json_string(report_time(out, daemon_ns));
}

static json_t *count(uint64_t n) {
        return json_integer((json_int_t)n);
}

const char *report_time(char out[static REPORT_TIME_MAX], uint64_t daemon_ns) {
        uint64_t wall = clock_wall_ns(daemon_ns);
        time_t s = (time_t)(wall / TEL_NS_PER_S);
        struct tm tm = { 0 };
        gmtime_r(&s, &tm);
        size_t n = strftime(out, REPORT_TIME_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(out + n, REPORT_TIME_MAX - n, ".%03uZ", (unsigned)(wall % TEL_NS_PER_S / TEL_NS_PER_MS));
        return out;
}

const char *report_url(char out[static REPORT_URL_MAX], const char *url) {
        const char *scheme = strstr(url, "://");
        const char *host = scheme ? scheme + 3 : url;
        size_t authority = strcspn(host, "/?#");
        const char *at = memrchr(host, '@', authority);
        const char *rest = at ? at + 1 : host;
        snprintf(out, REPORT_URL_MAX, "%.*s%.*s", (int)(host - url), url, (int)strcspn(rest, "?#"), rest);
        return out;
}

uint64_t report_dropped(const struct ledger *l) {
        uint64_t sum = 0;
        for (size_t i = 0; i < DROP_REASONS; i++)
                sum += l->dropped[i];
        return sum;
}

/* ---- the process ---- */

static uint64_t resident_bytes(void) {
        uint64_t pages = 0;
        FILE *f = fopen("/proc/self/statm", "re");
        if (!f)
                return 0;
        if (fscanf(f, "%*u %" SCNu64, &pages) != 1)
                pages = 0;
        fclose(f);
        return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t open_fds(void) {
        uint64_t n = 0;
        DIR *dir = opendir("/proc/self/fd");
        if (!dir)
                return 0;
        for (const struct dirent *e = readdir(dir); e; e = readdir(dir))
                n += e->d_name[0] != '.';
        closedir(dir);
        return n - 1;                              /* the one that reads */
}

void report_process(struct report_process *ret) {
        struct timespec cpu = { 0 };
        struct rlimit limit;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
        *ret = (struct report_process){
                .resident_bytes = resident_bytes(), .open_fds = open_fds(),
                .cpu_ns = (uint64_t)cpu.tv_sec * TEL_NS_PER_S + (uint64_t)cpu.tv_nsec,
        };
        if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
                ret->max_fds = limit.rlim_cur;
}

/* ---- status ---- */

static json_t *budget(const struct tel_budget *b) {
        return json_pack("{so so so}", "bytes", count(b->used), "limit_bytes", count(b->limit),
                         "peak_bytes", count(b->peak));
}

static json_t *spools(const struct spools *s, uint64_t now_ns) {
        json_t *array = json_array();
        for (enum tel_signal signal = 0; s && signal < TEL_SIGNALS; signal++) {
                struct spool_stats stats_of;
                spool_get_stats(s, signal, &stats_of);
                json_t *o = json_pack("{ss so so so so so so}", "signal", tel_signal_name(signal),
                                      "bytes", count(stats_of.bytes), "segments", count(stats_of.segments),
                                      "records", count(stats_of.records),
                                      "oldest_s", age(stats_of.oldest_ns, now_ns),
                                      "appended_records", count(stats_of.appended_records),
                                      "appended_items", count(stats_of.appended_items));
                if (json_array_append_new(array, o) < 0) {
                        json_decref(array);
                        return NULL;
                }
        }
        return array;
}

/* Where the listener really is: the settings' address with the port that was bound. */
static json_t *address(const char *setting, uint16_t port) {
        char host[256], out[300];
        uint16_t wanted;
        if (!setting || !*setting)
                return json_null();
        if (port == 0 || settings_address(setting, host, sizeof(host), &wanted) < 0)
                return text(setting);
        snprintf(out, sizeof(out), strchr(host, ':') ? "[%s]:%u" : "%s:%u", *host ? host : "0.0.0.0", port);
        return text(out);
}

static json_t *listeners(const struct daemon *d) {
        return json_pack("{so so so so}",
                         "otlp_http", d->otlp_http ? address(d->settings.listen.otlp_http, otlp_http_port(d->otlp_http)) : json_null(),
                         "web", d->web_port != 0 ? address(d->settings.listen.web, d->web_port) : json_null(),
                         "frames", d->frames ? text_or_null(d->frames_path) : json_null(),
                         "control", d->control ? text_or_null(d->control_path) : json_null());
}

/* One line a destination; report_destinations() has the rest. */
static json_t *destination_summary(const struct destination *d) {
        uint64_t waiting = 0, dropped = 0, delivered = 0, rejected = 0;
        for (enum tel_signal signal = 0; signal < TEL_SIGNALS; signal++) {
                const struct reader *r = destination_reader(d, signal);
                if (!r)
                        continue;
                const struct ledger *l = reader_ledger(r);
                waiting += l->waiting + l->in_flight;
                delivered += l->delivered;
                rejected += l->rejected;
                dropped += report_dropped(l);
        }
        return json_pack("{so ss so so so so}", "name", text(destination_settings(d)->name),
                         "state", reader_state_name(destination_state(d)), "unfinished", count(waiting),
                         "delivered", count(delivered), "rejected", count(rejected), "dropped", count(dropped));
}

static json_t *destination_summaries(const struct daemon *d) {
        json_t *array = json_array();
        const struct destination *destination;
        for (size_t i = 0; d->destinations && (destination = destinations_get(d->destinations, i)); i++)
                if (json_array_append_new(array, destination_summary(destination)) < 0) {
                        json_decref(array);
                        return NULL;
                }
        return array;
}

static json_t *process(void) {
        struct report_process p;
        report_process(&p);
        return json_pack("{si so so so so}", "pid", (int)getpid(), "resident_bytes", count(p.resident_bytes),
                         "cpu_s", seconds(p.cpu_ns), "open_fds", count(p.open_fds), "max_fds", count(p.max_fds));
}

json_t *report_status(const struct daemon *d, uint64_t now_ns) {
        static const struct tel_budget none;
        const struct tel_budget *spool = d->spools ? spools_budget(d->spools) : &none;
        json_t *reload = json_pack("{so so so sb}", "count", count(stats.reloads),
                                   "failures", count(stats.reload_failures),
                                   "last_good", time_or_null(stats.reload_ok_ns),
                                   "last_refused", stats.reload_failed_ns > stats.reload_ok_ns);
        json_t *budgets = json_pack("{so so so}", "spool", budget(spool), "ingest", budget(&d->ingest),
                                    "egress", budget(&d->egress));
        return json_pack("{ss ss ss sb so so so so sf so ss so so so so so so}", "name", "collectord",
                         "version", SUITE_VERSION, "state", service_state_name(d->state), "ready", daemon_ready(d),
                         "host", text_or_null(d->pipeline.identity.host),
                         "instance", text_or_null(d->pipeline.identity.instance),
                         "started", time_or_null(stats.start_ns), "uptime_s", age(stats.start_ns, now_ns),
                         "clock_skew_s", (double)(clock_skew_ns() / 1000000) / 1e3,
                         "config", text_or_null(d->config_path),
                         "log_level", tel_log_level_name(tel_log_get_level()), "reload", reload,
                         "listen", listeners(d), "process", process(), "budgets", budgets,
                         "spools", spools(d->spools, now_ns), "destinations", destination_summaries(d));
}

/* ---- destinations ---- */

static json_t *dropped_by_reason(const struct ledger *l) {
        json_t *o = json_object();
        for (enum drop_reason r = 0; r < DROP_REJECTED; r++)
                if (json_object_set_new(o, drop_reason_name(r), count(l->dropped[r])) < 0) {
                        json_decref(o);
                        return NULL;
                }
        return o;
}

static json_t *requests(const struct destination_stats *s, uint64_t now_ns) {
        const uint64_t *c = s->status_codes;
        json_t *codes = json_pack("{so so so so so so}", "none", count(c[0]), "1xx", count(c[1]), "2xx", count(c[2]),
                                  "3xx", count(c[3]), "4xx", count(c[4]), "5xx", count(c[5]));
        uint64_t finished = s->requests - s->in_flight, left = s->next_attempt_ns > now_ns ? s->next_attempt_ns - now_ns : 0;
        json_t *mean = finished > 0 ? json_real((double)s->duration_sum_ns / 1e9 / (double)finished) : json_null();
        json_t *wait = s->next_attempt_ns == 0 ? json_null() : seconds(left);
        return json_pack("{so so si so so so so so so so so so so}", "count", count(s->requests),
                         "failed", count(s->failures), "in_flight", (int)s->in_flight, "splits", count(s->splits),
                         "sent_bytes", count(s->sent_bytes), "raw_bytes", count(s->raw_bytes),
                         "took_s", seconds(s->duration_sum_ns), "answers", codes,
                         "last_success_s", age(s->last_success_ns, now_ns),
                         "last_failure_s", age(s->last_failure_ns, now_ns), "next_attempt_s", wait,
                         "last_error", text_or_null(s->last_error),
                         "mean_s", mean);
}

static json_t *destination_signal(const struct destination *d, enum tel_signal signal, uint64_t now_ns) {
        const struct reader *r = destination_reader(d, signal);
        const struct destination_stats *s = destination_stats(d, signal);
        const struct ledger *l = reader_ledger(r);
        return json_pack("{ss ss so so so so so so so so so so so so so so}", "signal", tel_signal_name(signal),
                         "state", reader_state_name(reader_state(r)), "offered", count(l->offered),
                         "filtered", count(l->filtered), "delivered", count(l->delivered),
                         "rejected", count(l->rejected), "in_flight", count(l->in_flight),
                         "waiting", count(l->waiting), "waiting_bytes", count(reader_waiting_bytes(r)),
                         "oldest_s", age(reader_oldest_ns(r), now_ns),
                         "failing_s", age(reader_failed_since_ns(r), now_ns), "resent", count(l->resent),
                         "dropped", count(report_dropped(l)), "dropped_by", dropped_by_reason(l),
                         "requests", s ? requests(s, now_ns) : json_null(),
                         "max_lag_bytes", count(destination_settings(d)->max_lag.bytes));
}

static json_t *destination(const struct destination *d, uint64_t now_ns) {
        static const char *const types[] = { [DESTINATION_OTLP] = "otlp", [DESTINATION_NULL] = "null" };
        const struct destination_settings *s = destination_settings(d);
        char url[REPORT_URL_MAX];
        json_t *signals = json_array();
        for (enum tel_signal signal = 0; signal < TEL_SIGNALS; signal++)
                if (destination_reader(d, signal) &&
                    json_array_append_new(signals, destination_signal(d, signal, now_ns)) < 0) {
                        json_decref(signals);
                        return NULL;
                }
        return json_pack("{so ss so sb ss so}", "name", text(s->name), "type", types[s->type],
                         "url", text_or_null(s->url ? report_url(url, s->url) : NULL), "anchor", s->anchor,
                         "state", reader_state_name(destination_state(d)), "signals", signals);
}

json_t *report_destinations(const struct daemon *d, uint64_t now_ns) {
        json_t *array = json_array();
        const struct destination *one;
        for (size_t i = 0; d->destinations && (one = destinations_get(d->destinations, i)); i++)
                if (json_array_append_new(array, destination(one, now_ns)) < 0) {
                        json_decref(array);
                        return NULL;
                }
        return array;
}

/* ---- sources ---- */

struct sample {                                    /* the counters at a time */
        uint64_t at_ns;
        uint64_t accepted[TRANSPORTS][TEL_SIGNALS];
};

/* A sample to count from, at least REPORT_RATE_WINDOW_NS old once the daemon is. Two are kept and move only when
 * somebody asks, so rates cost nothing while nobody looks, and several who look do not shorten each other's
 * window. */
static const struct sample *rate_base(uint64_t now_ns) {
        static struct sample older, newer;
        if (older.at_ns == 0)
                older.at_ns = newer.at_ns = stats.start_ns;
        if (now_ns >= newer.at_ns + REPORT_RATE_WINDOW_NS) {
                older = newer;
                newer.at_ns = now_ns;
                for (size_t t = 0; t < TRANSPORTS; t++)
                        for (size_t s = 0; s < TEL_SIGNALS; s++)
                                newer.accepted[t][s] = stats.receiver[t][s].accepted;
        }
        return &older;
}

static json_t *source_signals(enum transport t, const struct sample *base, uint64_t now_ns) {
        json_t *array = json_array();
        double window = now_ns > base->at_ns ? (double)(now_ns - base->at_ns) / 1e9 : 0;
        for (enum tel_signal s = 0; s < TEL_SIGNALS; s++) {
                uint64_t accepted = stats.receiver[t][s].accepted;
                json_t *rate = window > 0 ? json_real((double)(accepted - base->accepted[t][s]) / window) : json_null();
                json_t *o = json_pack("{ss so so so so so so}", "signal", tel_signal_name(s),
                                      "accepted", count(accepted), "refused", count(stats.receiver[t][s].refused),
                                      "failed", count(stats.receiver[t][s].failed),
                                      "requests", count(stats.receiver[t][s].requests),
                                      "bytes", count(stats.receiver[t][s].bytes), "per_s", rate);
                if (json_array_append_new(array, o) < 0) {
                        json_decref(array);
                        return NULL;
                }
        }
        return array;
}

static json_t *listener(const struct daemon *d, enum transport t, const struct sample *base, uint64_t now_ns) {
        bool http = t == TRANSPORT_HTTP;
        json_t *where = json_null();
        if (http && d->otlp_http)
                where = address(d->settings.listen.otlp_http, otlp_http_port(d->otlp_http));
        else if (!http && d->frames)
                where = text_or_null(d->frames_path);
        /* Frames and lines share a socket and its connections. */
        uint64_t connections = http ? (d->otlp_http ? otlp_http_connections(d->otlp_http) : 0) : stats.frames_connections;
        return json_pack("{ss ss ss so so so so}", "type", "listener",
                         "source", source_kind_names[http ? SOURCE_OTLP : SOURCE_FRAMES],
                         "transport", transport_names[t], "listen", where, "connections", count(connections),
                         "rate_window_s", age(base->at_ns, now_ns), "signals", source_signals(t, base, now_ns));
}

static json_t *producer(const struct frame_peer *p, uint64_t now_ns) {
        return json_pack("{ss so so so so so sb so so so so so so}", "type", "producer",
                         "name", text_or_null(p->name), "version", text_or_null(p->version),
                         "host", text_or_null(p->host), "pid", count(p->pid), "uid", count(p->uid),
                         "lines", p->lines, "frames", count(p->frames), "items", count(p->items),
                         "duplicates", count(p->duplicates), "connected_s", age(p->connected_ns, now_ns),
                         "dropped_frames", count(p->dropped_frames), "status", text_or_null(p->status));
}

json_t *report_sources(const struct daemon *d, uint64_t now_ns) {
        const struct sample *base = rate_base(now_ns);
        struct frame_peer peer;
        json_t *array = json_array();
        int r = 0;
        for (enum transport t = 0; r == 0 && t < TRANSPORTS; t++)
                r = json_array_append_new(array, listener(d, t, base, now_ns));
        for (size_t i = 0; r == 0 && d->frames && frame_socket_peer(d->frames, i, &peer); i++)
                r = json_array_append_new(array, producer(&peer, now_ns));
        if (r == 0)
                return array;
        json_decref(array);
        return NULL;
}

/* ---- losses ---- */

static json_t *loss(const struct loss *l) {
        return json_pack("{so so so ss ss so so so so so so}", "first", time_or_null(l->first_ns),
                         "last", time_or_null(l->last_ns), "destination", text(l->destination),
                         "signal", tel_signal_name(l->signal), "reason", drop_reason_name(l->reason),
                         "items", count(l->items), "records", count(l->records), "bytes", count(l->bytes),
                         "received_first", time_or_null(l->received_min_ns),
                         "received_last", time_or_null(l->received_max_ns), "text", text_or_null(l->text));
}

json_t *report_lost(const struct daemon *d, uint64_t since_ns) {
        json_t *array = json_array();
        const struct loss *l;
        for (size_t i = 0; d->spools && (l = losses_get(spools_losses(d->spools), i)); i++)
                if (l->last_ns >= since_ns && json_array_append_new(array, loss(l)) < 0) {
                        json_decref(array);
                        return NULL;
                }
        return array;
}
