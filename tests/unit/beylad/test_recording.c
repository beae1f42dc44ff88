/* SPDX-License-Identifier: Apache-2.0 */
/* Recording and tracer: events written to a file and read back give the spans they stand for; a damaged file is refused where it is
 * damaged, and what came before it is there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "beylad/recording.h"
#include "beylad/tracer.h"

#define REAL_OFFSET 1700000000000000000ll

static struct settings settings;
static char path[64];

static int set_up(void **state) {
        char error[TEL_CONFIG_ERROR_MAX];
        (void)state;
        assert_int_equal(settings_load(NULL, &settings, error), 0);
        assert_int_equal(settings_finish(&settings), 0);
        settings.printer = PRINTER_JSON;
        snprintf(path, sizeof(path), "/tmp/test_recording.XXXXXX");
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        close(fd);
        return 0;
}

static int tear_down(void **state) {
        (void)state;
        unlink(path);
        settings_done(&settings);
        return 0;
}

static void data(struct recording *r, uint64_t connection, bool out, uint64_t offset, uint64_t ms, const char *text) {
        struct { struct probe_data d; char text[512]; } e = { .d = {
                .head = { .kind = PROBE_DATA, .flags = (out ? PROBE_OUT : 0) | PROBE_TURN | PROBE_END, .tgid = 42, .tid = 43, .time_ns = ms * TEL_NS_PER_MS },
                .connection = connection, .start_ns = ms * TEL_NS_PER_MS, .offset = offset, .bytes = (uint32_t)strlen(text), .captured = (uint32_t)strlen(text) } };
        e.d.head.size = (uint32_t)(sizeof(e.d) + strlen(text));
        memcpy(e.text, text, strlen(text));
        recording_event(r, &e.d.head);
}

/* A conversation of process 42 on one connection. */
static void record(void) {
        struct recording *r = NULL;
        char error[RECORDING_ERROR_MAX];
        struct process *p = NULL;
        static const char note[] = "name=shop\nexe=/usr/bin/shop\nservice.name=shop\n";
        assert_int_equal(recording_create(path, REAL_OFFSET, &r, error), 0);
        assert_int_equal(process_from_note(42, note, sizeof(note) - 1, &p), 0);
        recording_process(r, p, 1);
        struct probe_open open = { .head = { .kind = PROBE_OPEN, .tgid = 42, .size = sizeof(open), .time_ns = 2 }, .connection = 7, .family = 2 };
        recording_event(r, &open.head);
        data(r, 7, false, 0, 10, "GET /users/4711 HTTP/1.1\r\nHost: x\r\n\r\n");
        data(r, 7, true, 0, 15, "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno");
        data(r, 7, false, 38, 20, "GET /b HTTP/1.1\r\nHost: x\r\n\r\n");
        data(r, 7, true, 47, 26, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        process_unref(p);
        assert_int_equal(recording_close(r), 0);
}

/* Replays the file; *ret_text is what was printed. Returns what the replay said. */
static int replay(char **ret_text, struct tracer_stats *ret, char *reterr) {
        struct tracer *t = NULL;
        char error[TRACER_ERROR_MAX];
        size_t n = 0;
        *ret_text = NULL;
        FILE *to = open_memstream(ret_text, &n), *from = fopen(path, "re");
        assert_int_equal(tracer_new(&(struct tracer_options){ .settings = &settings, .print_to = to }, &t, error), 0);
        int r = recording_replay(from, path, t, reterr);
        tracer_get_stats(t, ret);
        tracer_free(t);
        fclose(from);
        fclose(to);
        return r;
}

static void test_round_trip(void **state) {
        char *text, error[RECORDING_ERROR_MAX];
        struct tracer_stats s;
        struct stat st;
        (void)state;
        record();
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(replay(&text, &s, error), 0);
        assert_int_equal(s.contexts.spans, 2);
        assert_int_equal(s.contexts.lost, 0);
        assert_int_equal(s.malformed, 0);
        assert_non_null(strstr(text, "\"name\":\"GET /users/*\""));
        assert_non_null(strstr(text, "\"service\":\"shop\""));
        assert_non_null(strstr(text, "\"start_unix_nano\":1700000000010000000"));
        assert_non_null(strstr(text, "\"end_unix_nano\":1700000000015000000"));
        assert_non_null(strstr(text, "\"http.response.status_code\":404"));
        assert_non_null(strstr(text, "\"name\":\"GET /b\""));
        free(text);
}

/* The end of a process, or another program in it, ends who it was in a replay, too: its number may come again. */
static void test_ends_of_processes(void **state) {
        static const uint32_t ends[] = { PROBE_EXIT, PROBE_EXEC };
        static const char note[] = "name=shop\nexe=/usr/bin/shop\n";
        char *text, error[RECORDING_ERROR_MAX];
        struct tracer_stats s;
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(ends); i++) {
                struct recording *r = NULL;
                struct process *p = NULL;
                struct probe_process e = { .head = { .kind = PROBE_PROCESS, .tgid = 42, .size = sizeof(e), .time_ns = 20 * TEL_NS_PER_MS }, .what = ends[i] };
                assert_int_equal(recording_create(path, REAL_OFFSET, &r, error), 0);
                assert_int_equal(process_from_note(42, note, sizeof(note) - 1, &p), 0);
                recording_process(r, p, 1);
                process_unref(p);
                data(r, 7, false, 0, 10, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
                recording_event(r, &e.head);
                data(r, 8, false, 0, 30, "GET /b HTTP/1.1\r\nHost: x\r\n\r\n");
                data(r, 8, true, 0, 31, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                assert_int_equal(recording_close(r), 0);
                assert_int_equal(replay(&text, &s, error), 0);
                assert_int_equal(s.contexts.spans, 1);
                assert_non_null(strstr(text, "\"end_unix_nano\":1700000000020000000"));
                assert_null(strstr(text, "/b"));
                free(text);
        }
}

/* It holds what programs sent: nobody else may read it. */
static void test_mode(void **state) {
        struct recording *r = NULL;
        struct stat st;
        char error[RECORDING_ERROR_MAX];
        (void)state;
        unlink(path);
        assert_int_equal(recording_create(path, 0, &r, error), 0);
        assert_int_equal(recording_close(r), 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_int_equal(recording_create("/nowhere/at/all", 0, &r, error), -ENOENT);
        assert_non_null(strstr(error, "/nowhere/at/all"));
}

/* Cut at every byte: never a crash; the spans that were whole before the cut are there, and a cut inside an event is said. */
static void test_cut_anywhere(void **state) {
        char *text, error[RECORDING_ERROR_MAX];
        struct tracer_stats s;
        struct stat st;
        size_t refused = 0;
        (void)state;
        record();
        assert_int_equal(stat(path, &st), 0);
        for (off_t cut = st.st_size - 1; cut >= 0; cut--) {
                assert_int_equal(truncate(path, cut), 0);
                int r = replay(&text, &s, error);
                assert_true(r == 0 || r == -EBADMSG);
                if (r < 0) {
                        refused++;
                        assert_non_null(strstr(error, path));
                }
                assert_true(s.contexts.spans <= 2);
                free(text);
        }
        /* An end between two events is a recording that was ended there: the head and six events leave six such places. */
        assert_int_equal(refused, (size_t)st.st_size - 6);
}

static void test_not_a_recording(void **state) {
        char *text, error[RECORDING_ERROR_MAX];
        struct tracer_stats s;
        FILE *f = fopen(path, "we");
        (void)state;
        fputs("GET / HTTP/1.1\r\nthis is something else, and long enough for a head", f);
        fclose(f);
        assert_int_equal(replay(&text, &s, error), -EBADMSG);
        assert_non_null(strstr(error, "SPOKEREC"));
        free(text);
        record();
        f = fopen(path, "r+e");
        fseek(f, 8, SEEK_SET);
        fputc(2, f);                               /* of a later version */
        fclose(f);
        assert_int_equal(replay(&text, &s, error), -EBADMSG);
        assert_non_null(strstr(error, "version 1"));
        free(text);
}

/* Events whose own lengths lie are counted and left out. */
static void test_lying_lengths(void **state) {
        char *text, error[RECORDING_ERROR_MAX];
        struct tracer_stats s;
        struct recording *r = NULL;
        (void)state;
        record();
        assert_int_equal(recording_create(path, 0, &r, error), 0);
        struct probe_data d = { .head = { .kind = PROBE_DATA, .tgid = 42, .size = sizeof(d) }, .connection = 1, .bytes = 100, .captured = 100 };
        recording_event(r, &d.head);               /* captured lies behind its end */
        struct probe_shut shut = { .head = { .kind = PROBE_OPEN, .tgid = 42, .size = sizeof(shut) } };
        recording_event(r, &shut.head);            /* too short for its kind */
        struct probe_head none = { .kind = 200, .size = sizeof(none) };
        recording_event(r, &none);
        assert_int_equal(recording_close(r), 0);
        assert_int_equal(replay(&text, &s, error), 0);
        assert_int_equal(s.malformed, 3);
        free(text);
}

static void on_request(void *ctx, enum tel_frame_kind kind, const uint8_t *body, size_t n, size_t items) {
        (void)body, (void)n;
        *(size_t *)ctx += kind == TEL_FRAME_METRICS ? items : 0;
}

/* Settings are changed in place by a reload; metrics that were switched off stop, and switched on again begin anew. */
static void test_metrics_follow_the_settings(void **state) {
        char error[TRACER_ERROR_MAX];
        struct tracer *t = NULL;
        size_t points = 0;
        (void)state;
        record();
        settings.printer = PRINTER_DISABLED;
        assert_int_equal(tracer_new(&(struct tracer_options){ .settings = &settings, .print_to = stdout, .request = on_request, .ctx = &points }, &t, error), 0);
        FILE *from = fopen(path, "re");
        assert_int_equal(recording_replay(from, path, t, error), 0);
        fclose(from);
        assert_true(points > 0);
        points = 0;
        settings.metrics.enabled = false;
        assert_int_equal(tracer_configure(t, &settings, error), 0);
        tracer_metrics(t, 1, 0);
        assert_int_equal(points, 0);
        settings.metrics.enabled = true;
        assert_int_equal(tracer_configure(t, &settings, error), 0);
        tracer_metrics(t, 1, 0);
        assert_int_equal(points, 0);
        tracer_free(t);
}

/* What settings leave out of spans, of metrics, or of both; nothing else is touched. */
static void test_what_is_left_out(void **state) {
        static const struct { const char *document, *has, *has_not; uint64_t printed, unsampled, ignored; bool measured; } cases[] = {
                { "{}", "\"http.route\":\"/users/*\"", "curl/8", 1, 0, 0, true },
                { "{}", "\"url.path\":\"/users/4711\"", "secret", 1, 0, 0, true },
                { "{\"headers\": [\"User-Agent\"]}", "\"user_agent.original\":\"curl/8\"", "secret", 1, 0, 0, true },
                { "{\"query\": true}", "\"url.query\":\"key=secret\"", "curl/8", 1, 0, 0, true },
                { "{\"routes\": {\"patterns\": [\"/users/{id}\"]}}", "\"http.route\":\"/users/{id}\"", "curl/8", 1, 0, 0, true },
                { "{\"sampler\": {\"name\": \"always_off\"}}", "", "/users", 0, 1, 0, true },
                { "{\"traces\": {\"enabled\": false}}", "", "/users", 0, 0, 1, true },
                { "{\"routes\": {\"ignored\": [\"/users/*\"], \"ignore_mode\": \"traces\"}}", "", "/users", 0, 0, 1, true },
                { "{\"routes\": {\"ignored\": [\"/users/*\"], \"ignore_mode\": \"metrics\"}}", "/users/4711", "curl/8", 1, 0, 0, false },
                { "{\"routes\": {\"ignored\": [\"/users/*\"], \"ignore_mode\": \"all\"}}", "", "/users", 0, 0, 1, false },
        };
        static const char note[] = "name=shop\nexe=/usr/bin/shop\n";
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++) {
                char error[TEL_CONFIG_ERROR_MAX + TRACER_ERROR_MAX], *text = NULL;
                struct recording *r = NULL;
                struct process *p = NULL;
                struct tracer *t = NULL;
                struct tracer_stats s;
                size_t n = 0, points = 0;
                print_message("%s\n", cases[i].document);
                settings_done(&settings);
                assert_int_equal(settings_parse("x", cases[i].document, strlen(cases[i].document), &settings, error), 0);
                assert_int_equal(settings_finish(&settings), 0);
                settings.printer = PRINTER_JSON;
                assert_int_equal(recording_create(path, REAL_OFFSET, &r, error), 0);
                assert_int_equal(process_from_note(42, note, sizeof(note) - 1, &p), 0);
                recording_process(r, p, 1);
                process_unref(p);
                data(r, 7, false, 0, 10, "GET /users/4711?key=secret HTTP/1.1\r\nHost: x\r\nUser-Agent: curl/8\r\n\r\n");
                data(r, 7, true, 0, 15, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno");
                assert_int_equal(recording_close(r), 0);
                FILE *to = open_memstream(&text, &n), *from = fopen(path, "re");
                assert_int_equal(tracer_new(&(struct tracer_options){ .settings = &settings, .print_to = to, .request = on_request, .ctx = &points }, &t, error), 0);
                assert_int_equal(recording_replay(from, path, t, error), 0);
                tracer_get_stats(t, &s);
                tracer_free(t);
                fclose(from);
                fclose(to);
                assert_int_equal(strstr(text, "\"span_id\"") != NULL, cases[i].printed);
                assert_non_null(strstr(text, cases[i].has));
                assert_null(strstr(text, cases[i].has_not));
                assert_int_equal(s.unsampled, cases[i].unsampled);
                assert_int_equal(s.ignored, cases[i].ignored);
                assert_int_equal(points > 0, cases[i].measured);
                free(text);
        }
}

static void event(struct tracer *t, struct process *p, bool out, uint64_t ms, const char *text) {
        struct { struct probe_data d; char text[128]; } e = { .d = {
                .head = { .kind = PROBE_DATA, .flags = (out ? PROBE_OUT : 0) | PROBE_TURN | PROBE_END, .tgid = 42, .tid = 43, .time_ns = ms * TEL_NS_PER_MS },
                .connection = 7, .start_ns = ms * TEL_NS_PER_MS, .bytes = (uint32_t)strlen(text), .captured = (uint32_t)strlen(text) } };
        e.d.head.size = (uint32_t)(sizeof(e.d) + strlen(text));
        memcpy(e.text, text, strlen(text));
        tracer_event(t, p, &e.d.head);
}

/* An answer that lasts as long as its Unix socket, whose end nobody tells: it ended with its last byte, once that is long ago. */
static void test_quiet_connections_end(void **state) {
        static const char note[] = "name=shop\nexe=/usr/bin/shop\n";
        static const uint64_t last_ms = 1000, idle_ms = TRACER_IDLE_NS / TEL_NS_PER_MS;
        struct probe_open o = { .head = { .kind = PROBE_OPEN, .tgid = 42, .size = sizeof(o) }, .connection = 7, .family = AF_UNIX };
        char error[TRACER_ERROR_MAX], *text = NULL;
        struct tracer *t = NULL;
        struct process *p = NULL;
        struct tracer_stats stats;
        size_t n = 0;
        (void)state;
        FILE *to = open_memstream(&text, &n);
        assert_int_equal(process_from_note(42, note, sizeof(note) - 1, &p), 0);
        assert_int_equal(tracer_new(&(struct tracer_options){ .settings = &settings, .print_to = to }, &t, error), 0);
        tracer_event(t, p, &o.head);
        event(t, p, false, last_ms - 1, "GET /a HTTP/1.0\r\n\r\n");
        event(t, p, true, last_ms, "HTTP/1.0 200 OK\r\n\r\nabc");
        tracer_release(t, (last_ms + idle_ms) * TEL_NS_PER_MS, 0);
        tracer_get_stats(t, &stats);
        assert_int_equal(stats.connections.open, 1);
        tracer_release(t, (last_ms + idle_ms + 2000) * TEL_NS_PER_MS, 0);
        tracer_get_stats(t, &stats);
        assert_int_equal(stats.connections.open, 0);
        tracer_release(t, UINT64_MAX, 0);
        assert_non_null(strstr(text, "\"beylad.unobserved\":true"));
        assert_non_null(strstr(text, "\"end_unix_nano\":1000000000,"));
        tracer_free(t);
        process_unref(p);
        fclose(to);
        free(text);
}

/* With the end of its process a connection ends, and what was open on it. */
static void test_a_process_takes_its_connections_along(void **state) {
        static const char note[] = "name=shop\nexe=/usr/bin/shop\n";
        char error[TRACER_ERROR_MAX];
        struct tracer *t = NULL;
        struct process *p = NULL;
        struct tracer_stats stats;
        (void)state;
        settings.printer = PRINTER_DISABLED;
        assert_int_equal(process_from_note(42, note, sizeof(note) - 1, &p), 0);
        assert_int_equal(tracer_new(&(struct tracer_options){ .settings = &settings, .print_to = stdout }, &t, error), 0);
        event(t, p, false, 1, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
        tracer_process_ended(t, p, 5 * TEL_NS_PER_MS);
        tracer_release(t, UINT64_MAX, 0);
        tracer_get_stats(t, &stats);
        assert_int_equal(stats.connections.open, 0);
        assert_int_equal(stats.contexts.spans, 1);
        assert_int_equal(p->refs, 1);
        tracer_free(t);
        process_unref(p);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_round_trip), TEST(test_ends_of_processes), TEST(test_mode), TEST(test_cut_anywhere), TEST(test_not_a_recording), TEST(test_lying_lengths),
                TEST(test_metrics_follow_the_settings), TEST(test_what_is_left_out), TEST(test_quiet_connections_end), TEST(test_a_process_takes_its_connections_along),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
