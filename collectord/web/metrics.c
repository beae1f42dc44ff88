/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "collectord/clock.h"
#include "collectord/report.h"
#include "collectord/stats.h"
#include "collectord/web/metrics.h"

/* ---- writing ---- */

struct writer {
        const struct daemon *d;
        uint64_t now_ns;
        struct report_process process;
        struct tel_buf *out;
        const char *family;                        /* being written */
        const char *labels;                        /* its label names */
        int error;                                 /* sticks */
};

static void put(struct writer *w, const char *bytes, size_t n) {
        if (w->error == 0)
                w->error = tel_buf_append(w->out, bytes, n, METRICS_BYTES_MAX);
}

static void put_string(struct writer *w, const char *s) {
        put(w, s, strlen(s));
}

static void put_label_value(struct writer *w, const char *value) {
        for (const char *p = value; *p; p++)
                if (*p == '\\' || *p == '"')
                        put(w, (const char[]){ '\\', *p }, 2);
                else if (*p == '\n')
                        put_string(w, "\\n");
                else
                        put(w, p, 1);
}

/* name{a="x",b="y"} value: the values of the family's labels, in their order. */
static void put_sample(struct writer *w, const char *value, va_list labels) {
        const char *name = w->labels, *before = "{";
        put_string(w, w->family);
        while (*name) {
                size_t n = strcspn(name, " ");
                put_string(w, before);
                put(w, name, n);
                put_string(w, "=\"");
                put_label_value(w, va_arg(labels, const char *));
                put_string(w, "\"");
                before = ",";
                name += n + (name[n] == ' ');
        }
        put_string(w, *w->labels ? "} " : " ");
        put_string(w, value);
        put_string(w, "\n");
}

static void put_count(struct writer *w, uint64_t value, ...) {
        char out[24];
        va_list labels;
        va_start(labels, value);
        snprintf(out, sizeof(out), "%" PRIu64, value);
        put_sample(w, out, labels);
        va_end(labels);
}

/* Nanoseconds as seconds, exactly. */
static void put_seconds(struct writer *w, int64_t ns, ...) {
        char out[32];
        va_list labels;
        uint64_t magnitude = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
        va_start(labels, ns);
        snprintf(out, sizeof(out), "%s%llu.%09llu", ns < 0 ? "-" : "", magnitude / TEL_NS_PER_S, magnitude % TEL_NS_PER_S);
        put_sample(w, out, labels);
        va_end(labels);
}

/* ---- what there is to walk over ---- */

static const enum tel_signal otel_signals[] = { TEL_TRACES, TEL_METRICS, TEL_LOGS };

#define EACH_DESTINATION(w, dest) \
        size_t i_ = 0; (dest = (w)->d->destinations ? destinations_get((w)->d->destinations, i_) : NULL); i_++
#define EACH_SIGNAL(signal) enum tel_signal signal = 0; signal < TEL_SIGNALS; signal++

static const char *name_of(const struct destination *d) {
        return destination_settings(d)->name;
}

/* ---- receivers ---- */

enum received { ACCEPTED, REFUSED, FAILED };

static void put_received(struct writer *w, enum tel_signal signal, enum received what) {
        for (enum transport t = 0; t < TRANSPORTS; t++) {
                uint64_t n = what == ACCEPTED ? stats.receiver[t][signal].accepted
                             : what == REFUSED ? stats.receiver[t][signal].refused : stats.receiver[t][signal].failed;
                put_count(w, n, t == TRANSPORT_HTTP ? "otlp" : "frames", transport_names[t]);
        }
}
#define RECEIVED(name_, signal_, what_) static void put_##name_(struct writer *w) { put_received(w, signal_, what_); }
RECEIVED(accepted_spans, TEL_TRACES, ACCEPTED)
RECEIVED(accepted_points, TEL_METRICS, ACCEPTED)
RECEIVED(accepted_logs, TEL_LOGS, ACCEPTED)
RECEIVED(refused_spans, TEL_TRACES, REFUSED)
RECEIVED(refused_points, TEL_METRICS, REFUSED)
RECEIVED(refused_logs, TEL_LOGS, REFUSED)
RECEIVED(failed_spans, TEL_TRACES, FAILED)
RECEIVED(failed_points, TEL_METRICS, FAILED)
RECEIVED(failed_logs, TEL_LOGS, FAILED)

static void put_receiver_requests(struct writer *w) {
        for (enum transport t = 0; t < TRANSPORTS; t++)
                for (size_t i = 0; i < TEL_ARRAY_LEN(otel_signals); i++)
                        put_count(w, stats.receiver[t][otel_signals[i]].requests, transport_names[t],
                                  tel_signal_name(otel_signals[i]));
}

static void put_receiver_bytes(struct writer *w) {
        for (enum transport t = 0; t < TRANSPORTS; t++)
                for (size_t i = 0; i < TEL_ARRAY_LEN(otel_signals); i++)
                        put_count(w, stats.receiver[t][otel_signals[i]].bytes, transport_names[t],
                                  tel_signal_name(otel_signals[i]));
}

/* ---- exporters, under the names that dashboards know ---- */

enum exported { SENT, SEND_FAILED, ENQUEUE_FAILED };

/* Every item that ended is in one of the three, but those a destination did not want. */
static uint64_t exported(const struct ledger *l, enum exported what) {
        uint64_t after_sending = l->dropped[DROP_REFUSED] + l->dropped[DROP_TOO_LARGE] + l->dropped[DROP_GIVE_UP];
        if (what == SENT)
                return l->delivered;
        return what == SEND_FAILED ? l->rejected + after_sending : report_dropped(l) - after_sending;
}

static void put_exported(struct writer *w, enum tel_signal signal, enum exported what) {
        const struct destination *d;
        for (EACH_DESTINATION(w, d))
                if (destination_reader(d, signal))
                        put_count(w, exported(reader_ledger(destination_reader(d, signal)), what), name_of(d));
}
#define EXPORTED(name_, signal_, what_) static void put_##name_(struct writer *w) { put_exported(w, signal_, what_); }
EXPORTED(sent_spans, TEL_TRACES, SENT)
EXPORTED(sent_points, TEL_METRICS, SENT)
EXPORTED(sent_logs, TEL_LOGS, SENT)
EXPORTED(send_failed_spans, TEL_TRACES, SEND_FAILED)
EXPORTED(send_failed_points, TEL_METRICS, SEND_FAILED)
EXPORTED(send_failed_logs, TEL_LOGS, SEND_FAILED)
EXPORTED(enqueue_failed_spans, TEL_TRACES, ENQUEUE_FAILED)
EXPORTED(enqueue_failed_points, TEL_METRICS, ENQUEUE_FAILED)
EXPORTED(enqueue_failed_logs, TEL_LOGS, ENQUEUE_FAILED)

/* What may wait for a reader: its own bound, or all of the budget that the spools share. */
static uint64_t buffer_limit(const struct writer *w, const struct destination *d) {
        uint64_t lag = destination_settings(d)->max_lag.bytes;
        uint64_t budget = w->d->spools ? spools_budget(w->d->spools)->limit : 0;
        return lag != 0 && lag < budget ? lag : budget;
}

static void put_queue_size(struct writer *w) {
        const struct destination *d;
        for (EACH_DESTINATION(w, d)) {
                uint64_t bytes = 0;
                for (EACH_SIGNAL(signal))
                        bytes += destination_reader(d, signal) ? reader_waiting_bytes(destination_reader(d, signal)) : 0;
                put_count(w, bytes, name_of(d));
        }
}

static void put_queue_capacity(struct writer *w) {
        const struct destination *d;
        for (EACH_DESTINATION(w, d)) {
                uint64_t bytes = 0;
                for (EACH_SIGNAL(signal))
                        bytes += destination_reader(d, signal) ? buffer_limit(w, d) : 0;
                put_count(w, w->d->spools ? TEL_MIN(bytes, (uint64_t)spools_budget(w->d->spools)->limit) : 0, name_of(d));
        }
}

/* The sum over a destination's signals of one member of its stats. */
static void put_summed(struct writer *w, uint64_t (*member)(const struct destination_stats *s)) {
        const struct destination *d;
        for (EACH_DESTINATION(w, d)) {
                uint64_t sum = 0;
                for (EACH_SIGNAL(signal))
                        sum += destination_stats(d, signal) ? member(destination_stats(d, signal)) : 0;
                put_count(w, sum, name_of(d));
        }
}

static void put_per_signal(struct writer *w, uint64_t (*member)(const struct destination_stats *s)) {
        const struct destination *d;
        for (EACH_DESTINATION(w, d))
                for (EACH_SIGNAL(signal))
                        if (destination_stats(d, signal))
                                put_count(w, member(destination_stats(d, signal)), name_of(d), tel_signal_name(signal));
}

#define MEMBER(name_) static uint64_t member_##name_(const struct destination_stats *s) { return s->name_; }
#define SUMMED(name_) MEMBER(name_) static void put_##name_(struct writer *w) { put_summed(w, member_##name_); }
#define PER_SIGNAL(name_) MEMBER(name_) static void put_##name_(struct writer *w) { put_per_signal(w, member_##name_); }
SUMMED(in_flight)
SUMMED(batch_by_size)
SUMMED(batch_by_timeout)
PER_SIGNAL(requests)
PER_SIGNAL(failures)
PER_SIGNAL(sent_bytes)
PER_SIGNAL(raw_bytes)
PER_SIGNAL(splits)

static void put_statuses(struct writer *w) {
        static const char *const classes[] = { "none", "1xx", "2xx", "3xx", "4xx", "5xx" };
        const struct destination *d;
        for (EACH_DESTINATION(w, d))
                for (EACH_SIGNAL(signal))
                        for (size_t c = 0; destination_stats(d, signal) && c < TEL_ARRAY_LEN(classes); c++)
                                put_count(w, destination_stats(d, signal)->status_codes[c], name_of(d),
                                          tel_signal_name(signal), classes[c]);
}

static void put_request_seconds(struct writer *w) {
        const struct destination *d;
        for (EACH_DESTINATION(w, d))
                for (EACH_SIGNAL(signal))
                        if (destination_stats(d, signal))
                                put_seconds(w, (int64_t)destination_stats(d, signal)->duration_sum_ns, name_of(d),
                                            tel_signal_name(signal));
}

/* Destinations that were never reached have no sample. */
static void put_last_success(struct writer *w) {
        const struct destination *d;
        for (EACH_DESTINATION(w, d))
                for (EACH_SIGNAL(signal))
                        if (destination_stats(d, signal) && destination_stats(d, signal)->last_success_ns != 0)
                                put_seconds(w, (int64_t)clock_wall_ns(destination_stats(d, signal)->last_success_ns),
                                            name_of(d), tel_signal_name(signal));
}

/* ---- the ledger ---- */

static void put_items_total(struct writer *w) {
        const struct destination *d;
        for (EACH_DESTINATION(w, d))
                for (EACH_SIGNAL(signal)) {
                        const struct reader *r = destination_reader(d, signal);
                        if (!r)
                                continue;
                        const struct ledger *l = reader_ledger(r);
                        const char *name = name_of(d), *s = tel_signal_name(signal);
                        put_count(w, l->offered, name, s, "offered", "");
                        put_count(w, l->filtered, name, s, "filtered", "");
                        put_count(w, l->delivered, name, s, "delivered", "");
                        put_count(w, l->rejected, name, s, "rejected", "");
                        for (enum drop_reason reason = 0; reason < DROP_REJECTED; reason++)
                                put_count(w, l->dropped[reason], name, s, "dropped", drop_reason_name(reason));
                }
}

static void put_items(struct writer *w) {
        const struct destination *d;
        for (EACH_DESTINATION(w, d))
                for (EACH_SIGNAL(signal)) {
                        const struct reader *r = destination_reader(d, signal);
                        if (!r)
                                continue;
                        put_count(w, reader_ledger(r)->waiting, name_of(d), tel_signal_name(signal), "waiting");
                        put_count(w, reader_ledger(r)->in_flight, name_of(d), tel_signal_name(signal), "in_flight");
                }
}

static void put_resent(struct writer *w) {
        const struct destination *d;
        for (EACH_DESTINATION(w, d))
                for (EACH_SIGNAL(signal))
                        if (destination_reader(d, signal))
                                put_count(w, reader_ledger(destination_reader(d, signal))->resent, name_of(d),
                                          tel_signal_name(signal));
}

static void put_buffer_state(struct writer *w) {
        const struct destination *d;
        for (EACH_DESTINATION(w, d))
                for (EACH_SIGNAL(signal))
                        for (enum reader_state s = READER_FLOWING; destination_reader(d, signal) &&
                             s <= READER_FLUSHING; s++)
                                put_count(w, reader_state(destination_reader(d, signal)) == s, name_of(d),
                                          tel_signal_name(signal), reader_state_name(s));
}

static void put_buffer_bytes(struct writer *w) {
        const struct destination *d;
        for (EACH_DESTINATION(w, d))
                for (EACH_SIGNAL(signal))
                        if (destination_reader(d, signal))
                                put_count(w, reader_waiting_bytes(destination_reader(d, signal)), name_of(d),
                                          tel_signal_name(signal));
}

static void put_buffer_limit(struct writer *w) {
        const struct destination *d;
        for (EACH_DESTINATION(w, d))
                for (EACH_SIGNAL(signal))
                        if (destination_reader(d, signal))
                                put_count(w, buffer_limit(w, d), name_of(d), tel_signal_name(signal));
}

static int64_t age_of(const struct writer *w, uint64_t at_ns) {
        return at_ns != 0 && w->now_ns > at_ns ? (int64_t)(w->now_ns - at_ns) : 0;
}

static void put_buffer_oldest(struct writer *w) {
        const struct destination *d;
        for (EACH_DESTINATION(w, d))
                for (EACH_SIGNAL(signal))
                        if (destination_reader(d, signal))
                                put_seconds(w, age_of(w, reader_oldest_ns(destination_reader(d, signal))),
                                            name_of(d), tel_signal_name(signal));
}

/* ---- spools and budgets ---- */

static void put_spool(struct writer *w, uint64_t (*member)(const struct spool_stats *s)) {
        for (enum tel_signal signal = 0; w->d->spools && signal < TEL_SIGNALS; signal++) {
                struct spool_stats s;
                spool_get_stats(w->d->spools, signal, &s);
                put_count(w, member(&s), tel_signal_name(signal));
        }
}
#define SPOOL(name_) \
        static uint64_t spool_##name_(const struct spool_stats *s) { return s->name_; } \
        static void put_spool_##name_(struct writer *w) { put_spool(w, spool_##name_); }
SPOOL(bytes)
SPOOL(segments)
SPOOL(records)
SPOOL(appended_items)

static void put_spool_oldest(struct writer *w) {
        for (enum tel_signal signal = 0; w->d->spools && signal < TEL_SIGNALS; signal++) {
                struct spool_stats s;
                spool_get_stats(w->d->spools, signal, &s);
                put_seconds(w, age_of(w, s.oldest_ns), tel_signal_name(signal));
        }
}

#define BUDGET(name_, member_) \
        static void put_budget_##name_(struct writer *w) { \
                put_count(w, w->d->ingest.member_, "ingest"); \
                put_count(w, w->d->egress.member_, "egress"); \
                if (w->d->spools) \
                        put_count(w, spools_budget(w->d->spools)->member_, "spool"); \
        }
BUDGET(bytes, used)
BUDGET(limit, limit)
BUDGET(peak, peak)

/* ---- listeners ---- */

static void put_http_codes(struct writer *w) {
        for (size_t i = 0; i < STATS_HTTP_CODES; i++) {
                char code[16];
                snprintf(code, sizeof(code), "%u", stats_http_codes[i]);
                put_count(w, stats.http_codes[i], stats_http_codes[i] == 0 ? "other" : code);
        }
}

static void put_http_connections(struct writer *w) {
        if (w->d->otlp_http)
                put_count(w, otlp_http_connections(w->d->otlp_http));
}

static void put_frame_errors(struct writer *w) {
        for (enum tel_frame_error e = 1; e < TEL_FRAME_ERRORS; e++)
                put_count(w, stats.frame_errors[e], tel_frame_error_name(e));
}

#define PLAIN(name_, value_) static void put_##name_(struct writer *w) { put_count(w, value_); }
PLAIN(http_peak, stats.http_connections_peak)
PLAIN(http_evicted, stats.http_evicted)
PLAIN(http_timeouts, stats.http_timeouts)
PLAIN(frames_connections, stats.frames_connections)
PLAIN(frames_total, stats.frames_total)
PLAIN(frames_duplicate, stats.frames_duplicate)
PLAIN(frames_refused, stats.frames_refused_peers)
PLAIN(frames_paused, stats.frames_paused)
PLAIN(producers_dropped, stats.producers_dropped_frames)

/* ---- the daemon and its process ---- */

PLAIN(reloads, stats.reloads)
PLAIN(reload_failures, stats.reload_failures)
PLAIN(wakeups, stats.wakeups)
PLAIN(load_successful, stats.reload_failed_ns <= stats.reload_ok_ns)

static void put_load_time(struct writer *w) {
        if (stats.reload_ok_ns != 0)
                put_seconds(w, (int64_t)stats.reload_ok_ns);
}

static void put_build(struct writer *w) {
        put_count(w, 1, SUITE_VERSION);
}

static void put_service_state(struct writer *w) {
        for (enum service_state s = SERVICE_STARTING; s <= SERVICE_FAILED; s++)
                put_count(w, w->d->state == s, service_state_name(s));
}

static void put_skew(struct writer *w) {
        put_seconds(w, clock_skew_ns());
}

/* Components are the listeners and the destinations; a destination that does not get its items through is
 * unhealthy. */
static void put_components(struct writer *w) {
        const struct daemon *d = w->d;
        uint64_t healthy = (d->otlp_http != NULL) + (d->frames != NULL) + (d->control != NULL) + (d->web != NULL),
                unhealthy = 0;
        const struct destination *destination;
        for (EACH_DESTINATION(w, destination)) {
                enum reader_state s = destination_state(destination);
                bool bad = s == READER_BUFFERING || s == READER_DROPPING;
                unhealthy += bad;
                healthy += !bad;
        }
        put_count(w, healthy, "healthy");
        put_count(w, unhealthy, "unhealthy");
        put_count(w, 0, "unknown");
        put_count(w, 0, "exited");
}

static void put_uptime(struct writer *w) {
        put_seconds(w, age_of(w, stats.start_ns));
}

static void put_start(struct writer *w) {
        if (stats.start_ns != 0)
                put_seconds(w, (int64_t)stats.start_ns);
}

static void put_cpu(struct writer *w) {
        put_seconds(w, (int64_t)w->process.cpu_ns);
}

#define PROCESS(name_) \
        static void put_##name_(struct writer *w) { \
                if (w->process.name_ != 0) \
                        put_count(w, w->process.name_); \
        }
PROCESS(resident_bytes)
PROCESS(open_fds)
PROCESS(max_fds)

/* ---- the table ---- */

struct family {
        struct metrics_family is;
        void (*put)(struct writer *w);
};
#define COUNTER(name_, labels_, put_, help_) { { name_, "counter", labels_, help_ }, put_ }
#define GAUGE(name_, labels_, put_, help_) { { name_, "gauge", labels_, help_ }, put_ }

static const struct family families[] = {
        GAUGE("collectord_build_info", "version", put_build, "Always 1; the version is the label."),
        GAUGE("collectord_service_state", "state", put_service_state, "1 for the state the daemon is in."),
        COUNTER("collectord_wakeups_total", "", put_wakeups, "Turns of the event loop."),
        GAUGE("collectord_clock_skew_seconds", "", put_skew, "How far the wall clock was set since the start."),
        COUNTER("collectord_reloads_total", "", put_reloads, "Configurations taken over by a reload."),
        COUNTER("collectord_reload_failures_total", "", put_reload_failures, "Configurations refused by a reload."),

        COUNTER("collectord_items_total", "destination signal outcome reason", put_items_total,
                "The ledger: items offered to a destination, and what became of them: filtered, delivered, rejected, dropped (with a reason)."),
        GAUGE("collectord_items", "destination signal state", put_items,
              "Items offered and not finished: offered is the sum of all outcomes and these."),
        COUNTER("collectord_items_resent_total", "destination signal", put_resent,
                "Items sent again after a failure: the receiver may have them twice. Beside the ledger's sum."),
        GAUGE("collectord_buffer_state", "destination signal state", put_buffer_state,
              "1 for the state: FLOWING, BUFFERING, DROPPING or FLUSHING."),
        GAUGE("collectord_buffer_bytes", "destination signal", put_buffer_bytes,
              "Bytes of bodies that wait for the destination."),
        GAUGE("collectord_buffer_limit_bytes", "destination signal", put_buffer_limit,
              "What may wait: max_lag.bytes of the destination, or buffer.memory, which all share."),
        GAUGE("collectord_buffer_oldest_seconds", "destination signal", put_buffer_oldest,
              "Age of the oldest record that waits; 0 when nothing does."),

        COUNTER("collectord_destination_requests_total", "destination signal", put_requests,
                "Requests sent, repeated ones too."),
        COUNTER("collectord_destination_failures_total", "destination signal", put_failures,
                "Requests that did not end well."),
        COUNTER("collectord_destination_status_total", "destination signal code", put_statuses,
                "Answers by class of HTTP status; none: no answer."),
        COUNTER("collectord_destination_request_seconds_total", "destination signal", put_request_seconds,
                "Time spent in finished requests."),
        COUNTER("collectord_destination_sent_bytes_total", "destination signal", put_sent_bytes,
                "Bytes of bodies on the wire."),
        COUNTER("collectord_destination_raw_bytes_total", "destination signal", put_raw_bytes,
                "The same bodies before compression."),
        COUNTER("collectord_destination_splits_total", "destination signal", put_splits,
                "Requests cut in halves after a 413 or 400."),
        GAUGE("collectord_destination_last_success_timestamp_seconds", "destination signal", put_last_success,
              "When a request last ended well."),

        GAUGE("collectord_spool_bytes", "signal", put_spool_bytes, "Bytes a spool holds of buffer.memory."),
        GAUGE("collectord_spool_segments", "signal", put_spool_segments, "Segments a spool holds."),
        GAUGE("collectord_spool_records", "signal", put_spool_records, "Records a spool holds."),
        GAUGE("collectord_spool_oldest_seconds", "signal", put_spool_oldest,
              "Age of the oldest record held; 0 when there is none."),
        COUNTER("collectord_spool_items_total", "signal", put_spool_appended_items, "Items that came into a spool."),
        GAUGE("collectord_budget_bytes", "budget", put_budget_bytes,
              "Bytes charged now: ingest (bodies coming in), egress (bodies going out), spool."),
        GAUGE("collectord_budget_limit_bytes", "budget", put_budget_limit, "The limit of each budget; 0: none."),
        GAUGE("collectord_budget_peak_bytes", "budget", put_budget_peak,
              "The most that was charged since the start."),

        COUNTER("collectord_receiver_requests_total", "transport signal", put_receiver_requests,
                "Bodies that came in."),
        COUNTER("collectord_receiver_bytes_total", "transport signal", put_receiver_bytes,
                "Bytes of those bodies, as they came."),
        COUNTER("collectord_http_responses_total", "code", put_http_codes, "Answers of the OTLP/HTTP listener."),
        GAUGE("collectord_http_connections", "", put_http_connections, "Connections to the OTLP/HTTP listener."),
        GAUGE("collectord_http_connections_peak", "", put_http_peak, "The most of them at once."),
        COUNTER("collectord_http_evicted_total", "", put_http_evicted,
                "Connections closed to make room for new ones."),
        COUNTER("collectord_http_timeouts_total", "", put_http_timeouts,
                "Connections closed because their peer did not go on."),
        GAUGE("collectord_frames_connections", "", put_frames_connections,
              "Connections to the frame socket, lines too."),
        COUNTER("collectord_frames_total", "", put_frames_total, "Frames that came in."),
        COUNTER("collectord_frames_duplicates_total", "", put_frames_duplicate,
                "Frames that had come before a reconnect, and were not taken again."),
        COUNTER("collectord_frames_refused_peers_total", "", put_frames_refused,
                "Connections refused because their user may not write."),
        COUNTER("collectord_frames_paused_total", "", put_frames_paused,
                "Times a producer was not read because the spool was full."),
        COUNTER("collectord_frames_errors_total", "reason", put_frame_errors,
                "Connections ended by an error, by what was wrong."),
        COUNTER("collectord_producers_dropped_frames_total", "", put_producers_dropped,
                "Frames producers said they had given up before they could send them."),

        COUNTER("otelcol_receiver_accepted_spans_total", "receiver transport", put_accepted_spans,
                "Spans taken into the buffer."),
        COUNTER("otelcol_receiver_accepted_metric_points_total", "receiver transport", put_accepted_points,
                "Data points taken into the buffer."),
        COUNTER("otelcol_receiver_accepted_log_records_total", "receiver transport", put_accepted_logs,
                "Log records taken into the buffer."),
        COUNTER("otelcol_receiver_refused_spans_total", "receiver transport", put_refused_spans,
                "Spans refused as malformed; a body that cannot be read counts 1."),
        COUNTER("otelcol_receiver_refused_metric_points_total", "receiver transport", put_refused_points,
                "Data points refused as malformed; likewise."),
        COUNTER("otelcol_receiver_refused_log_records_total", "receiver transport", put_refused_logs,
                "Log records refused as malformed; likewise."),
        COUNTER("otelcol_receiver_failed_spans_total", "receiver transport", put_failed_spans,
                "Requests with spans turned away to come again: there was no room."),
        COUNTER("otelcol_receiver_failed_metric_points_total", "receiver transport", put_failed_points,
                "Requests with data points turned away; likewise."),
        COUNTER("otelcol_receiver_failed_log_records_total", "receiver transport", put_failed_logs,
                "Requests with log records turned away; likewise."),
        COUNTER("otelcol_exporter_sent_spans_total", "exporter", put_sent_spans, "Spans the destination accepted."),
        COUNTER("otelcol_exporter_sent_metric_points_total", "exporter", put_sent_points,
                "Data points the destination accepted."),
        COUNTER("otelcol_exporter_sent_log_records_total", "exporter", put_sent_logs,
                "Log records the destination accepted."),
        COUNTER("otelcol_exporter_send_failed_spans_total", "exporter", put_send_failed_spans,
                "Spans given up after a final answer: rejected, refused, too_large, give_up."),
        COUNTER("otelcol_exporter_send_failed_metric_points_total", "exporter", put_send_failed_points,
                "Data points given up after a final answer; likewise."),
        COUNTER("otelcol_exporter_send_failed_log_records_total", "exporter", put_send_failed_logs,
                "Log records given up after a final answer; likewise."),
        COUNTER("otelcol_exporter_enqueue_failed_spans_total", "exporter", put_enqueue_failed_spans,
                "Spans given up in the buffer: buffer_full, max_lag, max_age, stop, removed."),
        COUNTER("otelcol_exporter_enqueue_failed_metric_points_total", "exporter", put_enqueue_failed_points,
                "Data points given up in the buffer; likewise."),
        COUNTER("otelcol_exporter_enqueue_failed_log_records_total", "exporter", put_enqueue_failed_logs,
                "Log records given up in the buffer; likewise."),
        GAUGE("otelcol_exporter_queue_size", "exporter", put_queue_size,
              "Bytes that wait for the destination, all signals."),
        GAUGE("otelcol_exporter_queue_capacity", "exporter", put_queue_capacity,
              "Bytes that may wait; buffer.memory is shared by all destinations."),
        GAUGE("otelcol_exporter_in_flight_requests", "exporter", put_in_flight, "Requests under way."),
        COUNTER("otelcol_processor_batch_timeout_trigger_send_total", "processor", put_batch_by_timeout,
                "Batches of a destination sent because they waited long enough."),
        COUNTER("otelcol_processor_batch_batch_size_trigger_send_total", "processor", put_batch_by_size,
                "Batches of a destination sent because they were full."),
        COUNTER("otelcol_process_uptime_seconds_total", "", put_uptime, "Time since the start."),
        GAUGE("otelcol_process_memory_rss_bytes", "", put_resident_bytes, "Resident memory."),
        COUNTER("otelcol_process_cpu_seconds_total", "", put_cpu, "Processor time, user and system."),

        GAUGE("alloy_build_info", "version", put_build,
              "Always 1; for dashboards made for Alloy. The version is collectord's."),
        GAUGE("alloy_config_last_load_successful", "", put_load_successful,
              "1 when the configuration in effect is the one last read."),
        GAUGE("alloy_config_last_load_success_timestamp_seconds", "", put_load_time,
              "When a configuration was last taken over."),
        COUNTER("alloy_config_load_failures_total", "", put_reload_failures, "Configurations refused by a reload."),
        GAUGE("alloy_component_controller_running_components", "health_type", put_components,
              "Listeners and destinations; a destination that is BUFFERING or DROPPING is unhealthy."),
        COUNTER("alloy_resources_process_cpu_seconds_total", "", put_cpu, "Processor time, user and system."),
        GAUGE("alloy_resources_process_resident_memory_bytes", "", put_resident_bytes, "Resident memory."),

        COUNTER("process_cpu_seconds_total", "", put_cpu, "Processor time, user and system."),
        GAUGE("process_resident_memory_bytes", "", put_resident_bytes, "Resident memory."),
        GAUGE("process_open_fds", "", put_open_fds, "Open file descriptors."),
        GAUGE("process_max_fds", "", put_max_fds, "The most there may be."),
        GAUGE("process_start_time_seconds", "", put_start, "Start of the process, in seconds since 1970."),
};

const struct metrics_family *metrics_family(size_t i) {
        return i < TEL_ARRAY_LEN(families) ? &families[i].is : NULL;
}

int metrics_put(const struct daemon *d, uint64_t now_ns, struct tel_buf *out) {
        struct writer w = { .d = d, .now_ns = now_ns, .out = out };
        report_process(&w.process);
        for (size_t i = 0; i < TEL_ARRAY_LEN(families) && w.error == 0; i++) {
                const struct metrics_family *f = &families[i].is;
                size_t start = out->len;
                w.family = f->name;
                w.labels = f->labels;
                put_string(&w, "# HELP ");
                put_string(&w, f->name);
                put_string(&w, " ");
                put_string(&w, f->help);
                put_string(&w, "\n# TYPE ");
                put_string(&w, f->name);
                put_string(&w, " ");
                put_string(&w, f->type);
                put_string(&w, "\n");
                size_t head = out->len;
                families[i].put(&w);
                if (out->len == head)              /* no sample: nothing is known, and a bare head says nothing */
                        out->len = start;
        }
        return w.error;
}
