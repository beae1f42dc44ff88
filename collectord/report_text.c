/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdarg.h>

#include "collectord/report_text.h"

#define COLUMNS_MAX 12
#define ERROR_COLUMNS 60                           /* of an error text in a line of a table, so that tables keep to 120 columns */

/* ---- values ---- */

const char *report_bytes(char out[static REPORT_HUMAN_MAX], const json_t *bytes) {
        static const char *const units[] = { "B", "kB", "MB", "GB", "TB" };
        double v = json_number_value(bytes);
        size_t unit = 0;
        while (v >= 999.5 && unit + 1 < TEL_ARRAY_LEN(units)) {
                v /= 1000;
                unit++;
        }
        snprintf(out, REPORT_HUMAN_MAX, unit > 0 && v < 99.95 ? "%.1f %s" : "%.0f %s", v, units[unit]);
        return out;
}

const char *report_age(char out[static REPORT_HUMAN_MAX], const json_t *seconds) {
        double s = json_number_value(seconds);
        unsigned long long whole = s > 0 ? (unsigned long long)s : 0;
        if (!json_is_number(seconds))
                snprintf(out, REPORT_HUMAN_MAX, "-");
        else if (s > 0 && s < 0.9995)
                snprintf(out, REPORT_HUMAN_MAX, "%.3gms", s * 1e3);
        else if (whole < 60)
                snprintf(out, REPORT_HUMAN_MAX, "%llus", whole);
        else if (whole < 3600)
                snprintf(out, REPORT_HUMAN_MAX, "%llum%02llus", whole / 60, whole % 60);
        else if (whole < 86400)
                snprintf(out, REPORT_HUMAN_MAX, "%lluh%02llum", whole / 3600, whole / 60 % 60);
        else
                snprintf(out, REPORT_HUMAN_MAX, "%llud%02lluh", whole / 86400, whole / 3600 % 24);
        return out;
}

const char *report_count(char out[static REPORT_HUMAN_MAX], const json_t *n) {
        char digits[REPORT_HUMAN_MAX];
        int len = snprintf(digits, sizeof(digits), "%" JSON_INTEGER_FORMAT, json_integer_value(n));
        size_t at = 0;
        for (int i = 0; i < len; i++) {
                if (i > 0 && (len - i) % 3 == 0)
                        out[at++] = ',';
                out[at++] = digits[i];
        }
        out[at] = '\0';
        return out;
}

const char *report_rate(char out[static REPORT_HUMAN_MAX], const json_t *per_second) {
        double v = json_number_value(per_second);
        if (!json_is_number(per_second))
                return "-";
        snprintf(out, REPORT_HUMAN_MAX, v > 0 && v < 99.95 ? "%.1f/s" : "%.0f/s", v);
        return out;
}

const char *report_reasons(char out[static REPORT_REASONS_MAX], const json_t *dropped_by) {
        const char *reason;
        json_t *n;
        size_t at = 0;
        json_object_foreach((json_t *)(uintptr_t)dropped_by, reason, n)
                if (json_integer_value(n) > 0 && at < REPORT_REASONS_MAX)
                        at += (size_t)snprintf(out + at, REPORT_REASONS_MAX - at, "%s%" JSON_INTEGER_FORMAT " %s",
                                               at > 0 ? ", " : "",
                                               json_integer_value(n), reason);
        return at > 0 ? out : "-";
}

const char *report_string(const json_t *s) {
        return json_is_string(s) ? json_string_value(s) : "-";
}

static const json_t *get(const json_t *o, const char *key) {
        return json_object_get(o, key);
}

/* ---- tables ---- */

struct table {
        const char *const *heads;                  /* NULL ends them; one that begins with '>' stands right */
        json_t *rows;                              /* of arrays of strings; NULL: out of memory */
};

static size_t columns_of(const char *s) {
        size_t n = 0;
        for (; *s; s++)
                n += ((uint8_t)*s & 0xc0) != 0x80; /* all bytes of UTF-8 that begin a character */
        return n;
}

static void row_begin(struct table *t) {
        if (!t->rows)
                t->rows = json_array();
        json_array_append_new(t->rows, json_array());
}

static void cell(struct table *t, const char *text) {
        json_array_append_new(json_array_get(t->rows, json_array_size(t->rows) - 1), json_string(text));
}

static void pad(FILE *to, const char *text, size_t width, bool right, bool last) {
        size_t n = columns_of(text);
        int blanks = n < width ? (int)(width - n) : 0;
        if (right)
                fprintf(to, "%*s%s", blanks, "", text);
        else
                fprintf(to, "%s%*s", text, last ? 0 : blanks, "");
        fputs(last ? "\n" : "  ", to);
}

/* Prints and ends it. */
static void table_print(struct table *t, const char *indent, FILE *to) {
        size_t width[COLUMNS_MAX] = { 0 }, n = 0, i;
        json_t *row;
        for (; t->heads[n]; n++)
                width[n] = columns_of(t->heads[n]) - (t->heads[n][0] == '>');
        json_array_foreach(t->rows, i, row)
                for (size_t c = 0; c < n; c++)
                        width[c] = TEL_MAX(width[c], columns_of(report_string(json_array_get(row, c))));
        fputs(indent, to);
        for (size_t c = 0; c < n; c++)
                pad(to, t->heads[c] + (t->heads[c][0] == '>'), width[c], t->heads[c][0] == '>', c + 1 == n);
        json_array_foreach(t->rows, i, row) {
                fputs(indent, to);
                for (size_t c = 0; c < n; c++)
                        pad(to, report_string(json_array_get(row, c)), width[c], t->heads[c][0] == '>', c + 1 == n);
        }
        json_decref(t->rows);
        t->rows = NULL;
}

/* At most n columns of text, in out. */
static const char *cut(char *out, size_t size, const char *text, size_t n) {
        size_t at = 0;
        for (; text[at] && at + 4 < size; at++)
                if (((uint8_t)text[at] & 0xc0) != 0x80 && n-- == 0) {
                        memcpy(out + at, "…", sizeof("…"));
                        return out;
                } else {
                        out[at] = text[at];
                }
        out[at] = '\0';
        return out;
}

/* ---- verbs ---- */

static void status_budgets(const json_t *budgets, FILE *to) {
        static const char *const names[] = { "spool", "ingest", "egress" };
        static const char *const texts[] = { "buffer", "bodies in", "bodies out" };
        char a[REPORT_HUMAN_MAX], b[REPORT_HUMAN_MAX], c[REPORT_HUMAN_MAX];
        for (size_t i = 0; i < TEL_ARRAY_LEN(names); i++) {
                const json_t *o = get(budgets, names[i]);
                fprintf(to, "%-12s %s of %s, at most %s so far\n", texts[i], report_bytes(a, get(o, "bytes")),
                        report_bytes(b, get(o, "limit_bytes")),
                        report_bytes(c, get(o, "peak_bytes")));
        }
}

static void status_spools(const json_t *spools, FILE *to) {
        static const char *const heads[] = { "SPOOL", ">HELD", ">RECORDS", ">SEGMENTS", ">OLDEST", ">ITEMS SO FAR", NULL };
        struct table t = { .heads = heads };
        char out[REPORT_HUMAN_MAX];
        size_t i;
        json_t *o;
        json_array_foreach(spools, i, o) {
                row_begin(&t);
                cell(&t, report_string(get(o, "signal")));
                cell(&t, report_bytes(out, get(o, "bytes")));
                cell(&t, report_count(out, get(o, "records")));
                cell(&t, report_count(out, get(o, "segments")));
                cell(&t, report_age(out, get(o, "oldest_s")));
                cell(&t, report_count(out, get(o, "appended_items")));
        }
        table_print(&t, "", to);
}

static void status_destinations(const json_t *destinations, FILE *to) {
        static const char *const heads[] = { "DESTINATION", "STATE", ">UNFINISHED", ">DELIVERED", ">REJECTED",
                                             ">DROPPED", NULL };
        struct table t = { .heads = heads };
        char out[REPORT_HUMAN_MAX];
        size_t i;
        json_t *o;
        if (json_array_size(destinations) == 0) {
                fputs("no destination: what comes in stays in the buffer until it is trimmed\n", to);
                return;
        }
        json_array_foreach(destinations, i, o) {
                row_begin(&t);
                cell(&t, report_string(get(o, "name")));
                cell(&t, report_string(get(o, "state")));
                cell(&t, report_count(out, get(o, "unfinished")));
                cell(&t, report_count(out, get(o, "delivered")));
                cell(&t, report_count(out, get(o, "rejected")));
                cell(&t, report_count(out, get(o, "dropped")));
        }
        table_print(&t, "", to);
}

void report_text_status(const json_t *s, FILE *to) {
        static const char *const listen[][2] = { { "otlp_http", "OTLP/HTTP" }, { "web", "page" },
                                                 { "frames", "frames" }, { "control", "control" } };
        const json_t *process = get(s, "process"), *reload = get(s, "reload");
        char a[REPORT_HUMAN_MAX], b[REPORT_HUMAN_MAX];
        double skew = json_number_value(get(s, "clock_skew_s"));
        fprintf(to, "%-12s %s, %s, up %s%s\n", report_string(get(s, "name")), report_string(get(s, "state")),
                report_string(get(s, "version")),
                report_age(a, get(s, "uptime_s")), json_is_true(get(s, "ready")) ? "" : ", not ready");
        fprintf(to, "%-12s %s (service.instance.id %s)\n", "host", report_string(get(s, "host")),
                report_string(get(s, "instance")));
        fprintf(to, "%-12s %s%s\n", "settings",
                json_is_string(get(s, "config")) ? report_string(get(s, "config")) : "built in",
                json_is_true(get(reload, "last_refused")) ? "; the last reload was REFUSED, the former ones go on" : "");
        fprintf(to, "%-12s pid %" JSON_INTEGER_FORMAT ", %s resident, %s of processor, %" JSON_INTEGER_FORMAT " descriptors\n", "process",
                json_integer_value(get(process, "pid")), report_bytes(a, get(process, "resident_bytes")),
                        report_age(b, get(process, "cpu_s")),
                json_integer_value(get(process, "open_fds")));
        for (size_t i = 0; i < TEL_ARRAY_LEN(listen); i++) {
                const json_t *where = get(get(s, "listen"), listen[i][0]);
                fprintf(to, "%-12s %s\n", listen[i][1], json_is_string(where) ? json_string_value(where) : "off");
        }
        if (fabs(skew) >= 1)
                fprintf(to, "%-12s the wall clock was set by %+.3f s since the start; ages and retries do not follow it\n", "clock", skew);
        status_budgets(get(s, "budgets"), to);
        status_spools(get(s, "spools"), to);
        status_destinations(get(s, "destinations"), to);
}

static void destination_notes(const json_t *o, FILE *to) {
        const json_t *requests = get(o, "requests");
        char a[REPORT_HUMAN_MAX], reasons[REPORT_REASONS_MAX], error[4 * ERROR_COLUMNS];
        const char *signal = report_string(get(o, "signal"));
        if (json_integer_value(get(o, "dropped")) > 0)
                fprintf(to, "  %s: dropped %s\n", signal, report_reasons(reasons, get(o, "dropped_by")));
        if (json_integer_value(get(o, "resent")) > 0)
                fprintf(to, "  %s: %s items were sent again after a failure; the receiver may have them twice\n", signal,
                        report_count(a, get(o, "resent")));
        if (!json_is_string(get(requests, "last_error")))
                return;
        fprintf(to, "  %s: failed %s ago: %s", signal, report_age(a, get(requests, "last_failure_s")),
                cut(error, sizeof(error), report_string(get(requests, "last_error")), ERROR_COLUMNS));
        if (json_is_number(get(requests, "next_attempt_s")))
                fprintf(to, "; next try in %s", report_age(a, get(requests, "next_attempt_s")));
        fputs("\n", to);
}

static void destination_row(struct table *t, const json_t *o) {
        static const char *const counts[] = { "delivered", "filtered", "rejected", "dropped" };
        const json_t *requests = get(o, "requests");
        char a[REPORT_HUMAN_MAX], b[REPORT_HUMAN_MAX], both[2 * REPORT_HUMAN_MAX + 4];
        row_begin(t);
        cell(t, report_string(get(o, "signal")));
        cell(t, report_string(get(o, "state")));
        cell(t, report_count(a, get(o, "waiting")));
        cell(t, report_bytes(a, get(o, "waiting_bytes")));
        cell(t, report_age(a, get(o, "oldest_s")));
        cell(t, report_count(a, get(o, "in_flight")));
        for (size_t i = 0; i < TEL_ARRAY_LEN(counts); i++)
                cell(t, report_count(a, get(o, counts[i])));
        snprintf(both, sizeof(both), "%s/%s", report_count(a, get(requests, "count")),
                 report_count(b, get(requests, "failed")));
        cell(t, both);
        cell(t, report_age(a, get(requests, "mean_s")));
}

void report_text_destinations(const json_t *destinations, FILE *to) {
        static const char *const heads[] = { "SIGNAL", "STATE", ">WAITING", ">BYTES", ">OLDEST", ">SENDING",
                                             ">DELIVERED", ">FILTERED", ">REJECTED",
                                             ">DROPPED", ">TRIES/FAILED", ">TOOK", NULL };
        size_t i, k;
        json_t *d, *o;
        if (json_array_size(destinations) == 0)
                fputs("no destination\n", to);
        json_array_foreach(destinations, i, d) {
                struct table t = { .heads = heads };
                fprintf(to, "%s  %s  %s  %s%s\n", report_string(get(d, "name")), report_string(get(d, "state")),
                        report_string(get(d, "type")), report_string(get(d, "url")),
                        json_is_true(get(d, "anchor")) ? "" : "  (not an anchor: nothing waits for it)");
                json_array_foreach(get(d, "signals"), k, o)
                        destination_row(&t, o);
                table_print(&t, "  ", to);
                json_array_foreach(get(d, "signals"), k, o)
                        destination_notes(o, to);
        }
}

static void producers_text(const json_t *sources, FILE *to) {
        static const char *const heads[] = { "PRODUCER", "VERSION", ">PID", ">UID", ">CONNECTED", ">FRAMES",
                                             ">ITEMS", ">TWICE", ">LOST THERE", "SAYS", NULL };
        struct table t = { .heads = heads };
        char a[REPORT_HUMAN_MAX], words[4 * ERROR_COLUMNS];
        size_t i;
        json_t *o;
        json_array_foreach(sources, i, o) {
                if (strcmp(report_string(get(o, "type")), "producer") != 0)
                        continue;
                row_begin(&t);
                cell(&t, json_is_true(get(o, "lines")) ? "(lines)"
                     : cut(words, sizeof(words), report_string(get(o, "name")), 24));
                cell(&t, cut(words, sizeof(words), report_string(get(o, "version")), 12));
                snprintf(a, sizeof(a), "%" JSON_INTEGER_FORMAT, json_integer_value(get(o, "pid")));
                cell(&t, a);
                snprintf(a, sizeof(a), "%" JSON_INTEGER_FORMAT, json_integer_value(get(o, "uid")));
                cell(&t, a);
                cell(&t, report_age(a, get(o, "connected_s")));
                cell(&t, report_count(a, get(o, "frames")));
                cell(&t, report_count(a, get(o, "items")));
                cell(&t, report_count(a, get(o, "duplicates")));
                cell(&t, report_count(a, get(o, "dropped_frames")));
                cell(&t, cut(words, sizeof(words), report_string(get(o, "status")), 30));
        }
        if (t.rows)
                table_print(&t, "", to);
        else
                fputs("no producer is connected to the frame socket\n", to);
}

void report_text_sources(const json_t *sources, FILE *to) {
        static const char *const heads[] = { "TRANSPORT", "SIGNAL", ">ACCEPTED", ">RATE", ">REFUSED",
                                             ">TURNED AWAY", ">REQUESTS", ">BYTES", NULL };
        struct table t = { .heads = heads };
        char a[REPORT_HUMAN_MAX];
        size_t i, k;
        json_t *o, *s;
        json_array_foreach(sources, i, o) {
                if (strcmp(report_string(get(o, "type")), "listener") != 0)
                        continue;
                fprintf(to, "%-6s %s, %" JSON_INTEGER_FORMAT " connections; rate over the last %s\n",
                        report_string(get(o, "transport")),
                        json_is_string(get(o, "listen")) ? report_string(get(o, "listen")) : "off",
                                json_integer_value(get(o, "connections")),
                        report_age(a, get(o, "rate_window_s")));
                json_array_foreach(get(o, "signals"), k, s) {
                        if (json_integer_value(get(s, "requests")) == 0 && json_integer_value(get(s, "failed")) == 0 &&
                            json_integer_value(get(s, "refused")) == 0)
                                continue;          /* nothing came, so a row would say nothing */
                        row_begin(&t);
                        cell(&t, report_string(get(o, "transport")));
                        cell(&t, report_string(get(s, "signal")));
                        cell(&t, report_count(a, get(s, "accepted")));
                        cell(&t, report_rate(a, get(s, "per_s")));
                        cell(&t, report_count(a, get(s, "refused")));
                        cell(&t, report_count(a, get(s, "failed")));
                        cell(&t, report_count(a, get(s, "requests")));
                        cell(&t, report_bytes(a, get(s, "bytes")));
                }
        }
        if (t.rows)
                table_print(&t, "", to);
        else
                fputs("nothing came in yet\n", to);
        producers_text(sources, to);
}

void report_text_lost(const json_t *lost, FILE *to) {
        static const char *const heads[] = { "LAST", "DESTINATION", "SIGNAL", ">ITEMS", ">BYTES", "REASON",
                                             "CAME IN FROM", "TEXT", NULL };
        struct table t = { .heads = heads };
        char a[REPORT_HUMAN_MAX], words[4 * ERROR_COLUMNS];
        size_t i;
        json_t *o;
        if (json_array_size(lost) == 0) {
                fputs("nothing was lost\n", to);
                return;
        }
        json_array_foreach(lost, i, o) {
                row_begin(&t);
                snprintf(a, sizeof(a), "%.19s", report_string(get(o, "last")));
                cell(&t, a);
                cell(&t, report_string(get(o, "destination")));
                cell(&t, report_string(get(o, "signal")));
                cell(&t, report_count(a, get(o, "items")));
                cell(&t, report_bytes(a, get(o, "bytes")));
                cell(&t, report_string(get(o, "reason")));
                snprintf(a, sizeof(a), "%.19s", report_string(get(o, "received_first")));
                cell(&t, a);
                cell(&t, cut(words, sizeof(words), report_string(get(o, "text")), 40));
        }
        table_print(&t, "", to);
        fputs("times are UTC\n", to);
}
