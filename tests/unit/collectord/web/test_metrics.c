/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "collectord/clock.h"
#include "collectord/stats.h"
#include "collectord/web/metrics.h"

#define SERIES_MAX 4096

/* Enough of a daemon: spools, and destinations that never get a turn of the loop. */
struct fixture {
        struct daemon d;
        struct tel_buf *out;
};

static const char document[] =
        "{ \"destinations\": { \"hub\": { \"type\": \"otlp\", \"url\": \"http://127.0.0.1:1\" }, \"sink\": { \"type\": \"null\" } } }";

static int setup(void **state) {
        struct fixture *f = calloc(1, sizeof(*f));
        char error[TEL_CONFIG_ERROR_MAX];
        assert_non_null(f);
        clock_start();
        stats.start_ns = stats.reload_ok_ns = clock_now_ns();
        assert_int_equal(uv_loop_init(&f->d.loop), 0);
        assert_int_equal(settings_parse("test", document, strlen(document), &f->d.settings, error), 0);
        struct spools_events none = { 0 };
        assert_int_equal(spools_new(&(struct spools_settings){ 1 << 20, 1 << 16 }, segment_store_memory_new(),
                                    &none, &f->d.spools), 0);
        f->d.egress.limit = 1 << 20;
        struct destinations_options o = { .loop = &f->d.loop, .spools = f->d.spools, .egress = &f->d.egress };
        assert_int_equal(destinations_new(&o, &f->d.destinations), 0);
        assert_int_equal(destinations_configure(f->d.destinations, &f->d.settings), 0);
        f->out = tel_buf_new(NULL, 1 << 16);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        struct fixture *f = *state;
        f->d.destinations = destinations_free(f->d.destinations);
        while (uv_run(&f->d.loop, UV_RUN_DEFAULT) != 0)
                ;
        assert_int_equal(uv_loop_close(&f->d.loop), 0);
        f->d.spools = spools_free(f->d.spools);
        settings_done(&f->d.settings);
        f->out = tel_buf_unref(f->out);
        free(f);
        return 0;
}

static char *metrics_text(struct fixture *f) {
        f->out->len = 0;
        assert_int_equal(metrics_put(&f->d, clock_now_ns(), f->out), 0);
        assert_int_equal(tel_buf_append(f->out, "", 1, METRICS_BYTES_MAX), 0);
        return (char *)f->out->data;
}

static void append_one(struct fixture *f, enum tel_signal signal) {
        uint8_t *body;
        struct record head = { .received_ns = clock_now_ns(), .body_bytes = 4, .items = 3,
                               .signal = (uint8_t)signal, .encoding = RECORD_OTLP };
        spool_begin(f->d.spools, signal);
        assert_int_equal(spool_reserve(f->d.spools, &head, clock_now_ns(), &body), 0);
        memset(body, 0, 4);
        spool_commit(f->d.spools, clock_now_ns());
}

/* ---- a strict reader of the format ---- */

/* A name as the format has it. Returns what is behind it. */
static const char *name_end(const char *p) {
        assert_true(isalpha((unsigned char)*p) || *p == '_');
        while (isalnum((unsigned char)*p) || *p == '_')
                p++;
        return p;
}

static void check_value(const char *p, const char *end) {
        char *stop;
        assert_true(p < end && !isspace((unsigned char)*p));
        strtod(p, &stop);
        assert_ptr_equal(stop, end);
}

/* {a="x",b="y"} with exactly the names of labels. Returns what is behind it. */
static const char *check_labels(const char *p, const char *labels) {
        if (*labels == '\0')
                return p;
        assert_int_equal(*p++, '{');
        while (*labels) {
                size_t n = strcspn(labels, " ");
                assert_memory_equal(p, labels, n);
                assert_memory_equal(p + n, "=\"", 2);
                for (p += n + 2; *p != '"'; p++) {
                        assert_true((unsigned char)*p >= ' ');
                        if (*p == '\\') {
                                p++;
                                assert_true(*p == '\\' || *p == '"' || *p == 'n');
                        }
                }
                labels += n + (labels[n] == ' ');
                p++;
                assert_int_equal(*p++, *labels ? ',' : '}');
        }
        return p;
}

static const struct metrics_family *family_named(const char *name, size_t n) {
        const struct metrics_family *f;
        for (size_t i = 0; (f = metrics_family(i)); i++)
                if (strlen(f->name) == n && memcmp(f->name, name, n) == 0)
                        return f;
        return NULL;
}

static void check_head(const char *line, const char *word, const struct metrics_family *f, const char *rest) {
        char expected[512];
        snprintf(expected, sizeof(expected), "# %s %s %s\n", word, f->name, rest);
        assert_memory_equal(line, expected, strlen(expected));
}

/* Each family: HELP, TYPE, then its samples, once and together. No series twice. */
static void test_format(void **state) {
        static char *series[SERIES_MAX];
        static const struct metrics_family *seen[256];
        char *text = metrics_text(*state);
        size_t n_series = 0, n_seen = 0, samples = 1;
        const struct metrics_family *family = NULL;
        for (char *line = text, *next; *line; line = next) {
                char *end = strchr(line, '\n');
                assert_non_null(end);
                next = end + 1;
                if (strncmp(line, "# HELP ", 7) == 0) {
                        assert_true(samples > 0);  /* of the family before */
                        family = family_named(line + 7, (size_t)(name_end(line + 7) - line - 7));
                        assert_non_null(family);
                        check_head(line, "HELP", family, family->help);
                        for (size_t i = 0; i < n_seen; i++)
                                assert_ptr_not_equal(seen[i], family);
                        seen[n_seen++] = family;
                        check_head(next, "TYPE", family, family->type);
                        next = strchr(next, '\n') + 1;
                        samples = 0;
                        continue;
                }
                assert_non_null(family);
                const char *p = name_end(line);
                assert_int_equal(strlen(family->name), p - line);
                assert_memory_equal(line, family->name, strlen(family->name));
                p = check_labels(p, family->labels);
                assert_int_equal(*p, ' ');
                check_value(p + 1, end);
                assert_true(n_series < SERIES_MAX);
                series[n_series++] = strndup(line, (size_t)(p - line));
                samples++;
        }
        assert_true(samples > 0 && n_seen > 70);
        for (size_t i = 0; i < n_series; i++)
                for (size_t k = 0; k < i; k++)
                        assert_string_not_equal(series[i], series[k]);
        for (size_t i = 0; i < n_series; i++)
                free(series[i]);
}

/* The table itself: counters and only they end in _total, names and help are what the format allows. */
static void test_table(void **state) {
        const struct metrics_family *f;
        (void)state;
        for (size_t i = 0; (f = metrics_family(i)); i++) {
                size_t n = strlen(f->name);
                bool total = n > 6 && strcmp(f->name + n - 6, "_total") == 0;
                assert_ptr_equal(family_named(f->name, n), f);
                assert_true(strcmp(f->type, "counter") == 0 ? total : strcmp(f->type, "gauge") == 0 && !total);
                assert_int_equal(*name_end(f->name), '\0');
                assert_null(strpbrk(f->help, "\n\\|"));
        }
}

static double value_of(const char *text, const char *series) {
        char line[256];
        snprintf(line, sizeof(line), "\n%s ", series);
        const char *p = strstr(text, line);
        if (!p)
                fail_msg("no series %s", series);
        return strtod(p + strlen(line), NULL);
}

/* What dashboards divide and rate exists at 0 before anything happened. */
static void test_zero_from_the_start(void **state) {
        static const char *const series[] = {
                "otelcol_receiver_accepted_spans_total{receiver=\"otlp\",transport=\"http\"}",
                "otelcol_receiver_refused_log_records_total{receiver=\"frames\",transport=\"lines\"}",
                "otelcol_exporter_sent_metric_points_total{exporter=\"hub\"}",
                "otelcol_exporter_enqueue_failed_spans_total{exporter=\"sink\"}",
                "collectord_items_total{destination=\"hub\",signal=\"logs\",outcome=\"dropped\",reason=\"buffer_full\"}",
                "collectord_destination_status_total{destination=\"hub\",signal=\"traces\",code=\"5xx\"}",
                "collectord_frames_errors_total{reason=\"checksum mismatch\"}",
                "collectord_http_responses_total{code=\"503\"}",
                "collectord_buffer_state{destination=\"hub\",signal=\"traces\",state=\"DROPPING\"}",
        };
        const char *text = metrics_text(*state);
        for (size_t i = 0; i < TEL_ARRAY_LEN(series); i++)
                assert_true(value_of(text, series[i]) == 0);
        assert_true(value_of(text,
                             "collectord_buffer_state{destination=\"hub\",signal=\"traces\",state=\"FLOWING\"}") == 1);
        assert_true(value_of(text, "process_resident_memory_bytes") > 0);
        assert_true(value_of(text, "process_open_fds") > 0);
        assert_true(value_of(text, "collectord_buffer_limit_bytes{destination=\"hub\",signal=\"traces\"}") == 1 << 20);
        assert_null(strstr(text, "collectord_destination_last_success_timestamp_seconds{"));   /* it was never reached */
}

static void test_ledger(void **state) {
        struct fixture *f = *state;
        append_one(f, TEL_LOGS);
        append_one(f, TEL_LOGS);
        const char *text = metrics_text(f);
        assert_true(value_of(text,
                             "collectord_items_total{destination=\"hub\",signal=\"logs\",outcome=\"offered\",reason=\"\"}") == 6);
        assert_true(value_of(text, "collectord_items{destination=\"hub\",signal=\"logs\",state=\"waiting\"}") == 6);
        assert_true(value_of(text, "collectord_items{destination=\"hub\",signal=\"logs\",state=\"in_flight\"}") == 0);
        assert_true(value_of(text, "otelcol_exporter_queue_size{exporter=\"hub\"}") == 8);
        assert_true(value_of(text, "collectord_spool_records{signal=\"logs\"}") == 2);
        assert_true(value_of(text, "collectord_spool_items_total{signal=\"logs\"}") == 6);
}

/* A failed reload shows until one succeeds. */
static void test_reload(void **state) {
        struct fixture *f = *state;
        assert_true(value_of(metrics_text(f), "alloy_config_last_load_successful") == 1);
        stats.reload_failed_ns = stats.reload_ok_ns + 1;
        assert_true(value_of(metrics_text(f), "alloy_config_last_load_successful") == 0);
        stats.reload_ok_ns += 2;
        assert_true(value_of(metrics_text(f), "alloy_config_last_load_successful") == 1);
}

/* A daemon that has no part yet still answers. */
static void test_without_parts(void **state) {
        static struct daemon empty;
        struct fixture *f = *state;
        f->out->len = 0;
        assert_int_equal(metrics_put(&empty, clock_now_ns(), f->out), 0);
        assert_true(f->out->len > 0);
}

/* docs/metrics.md has a row for each family, and the row says what the family says. */
static void test_documented(void **state) {
        char path[1024], row[1024];
        const char *end = strstr(__FILE__, "tests/unit/");
        const struct metrics_family *f;
        size_t n;
        (void)state;
        assert_non_null(end);
        snprintf(path, sizeof(path), "%.*sdocs/metrics.md", (int)(end - __FILE__), __FILE__);
        FILE *file = fopen(path, "re");
        assert_non_null(file);
        static char text[1 << 18];
        n = fread(text, 1, sizeof(text) - 1, file);
        fclose(file);
        text[n] = '\0';
        for (size_t i = 0; (f = metrics_family(i)); i++) {
                snprintf(row, sizeof(row), "\n| `%s` | %s | %s | %s |\n", f->name, f->type, f->labels, f->help);
                if (!strstr(text, row))
                        fail_msg("docs/metrics.md lacks this row:%s", row);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_table), cmocka_unit_test(test_documented),
                cmocka_unit_test_setup_teardown(test_format, setup, teardown),
                cmocka_unit_test_setup_teardown(test_zero_from_the_start, setup, teardown),
                cmocka_unit_test_setup_teardown(test_ledger, setup, teardown),
                        cmocka_unit_test_setup_teardown(test_reload, setup, teardown),
                cmocka_unit_test_setup_teardown(test_without_parts, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
