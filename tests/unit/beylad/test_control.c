/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/control.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "libtelemetry/config.h"
#include "libtelemetry/line_server.h"
#include "libtelemetry/log.h"
#include "tests/unit/libtelemetry/line_client.h"

/* ---- a daemon of a few words ---- */

static const char ctx[] = "ctx";
static bool reload_fails;

static void say(void *c, const char *verb, bool json, FILE *to) {
        assert_ptr_equal(c, ctx);
        fprintf(to, json ? "{\"%s\":true}\n" : "%s of us\n", verb);
}

static void on_status(void *c, bool json, FILE *to) {
        say(c, "status", json, to);
}

static void on_stats(void *c, bool json, FILE *to) {
        say(c, "stats", json, to);
}

static void on_processes(void *c, bool json, FILE *to) {
        say(c, "processes", json, to);
}

static void on_explain(void *c, uint32_t pid, bool json, FILE *to) {
        assert_ptr_equal(c, ctx);
        if (pid == 404)
                tel_line_error(to, json, "no process \"%u\"", pid);
        else
                fprintf(to, json ? "{\"pid\":%u}\n" : "process %u\n", pid);
}

static int on_reload(void *c, char *reterr) {
        assert_ptr_equal(c, ctx);
        snprintf(reterr, TEL_CONFIG_ERROR_MAX, "c.json:3: no\nsuch key");
        return reload_fails ? -EINVAL : 0;
}

static const struct control_verbs all = {
        .ctx = (void *)ctx, .status = on_status, .stats = on_stats, .processes = on_processes, .explain = on_explain, .reload = on_reload,
};

/* ---- lines ---- */

static char *run_n(const struct control_verbs *verbs, const char *line, size_t n) {
        char *text = NULL, copy[256];
        size_t len = 0;
        FILE *to = open_memstream(&text, &len);
        memcpy(copy, line, n);
        copy[n] = '\0';
        control_run(verbs, copy, n, to);
        fclose(to);
        return text;
}

static void assert_run(const struct control_verbs *verbs, const char *line, const char *expected) {
        char *text = run_n(verbs, line, strlen(line));
        if (strcmp(text, expected) != 0)
                fail_msg("%s: \"%s\", expected \"%s\"", line, text, expected);
        free(text);
}

static void test_verbs(void **state) {
        (void)state;
        static const char *const cases[][2] = {
                { "status", "status of us\n" },
                { "json status", "{\"status\":true}\n" },
                { " \t json\tstats ", "{\"stats\":true}\n" },
                { "processes", "processes of us\n" },
                { "explain 42", "process 42\n" },
                { "json explain 4194304", "{\"pid\":4194304}\n" },
                { "explain 404", "error: no process \"404\"\n" },
                { "json explain 404", "{\"error\":\"no process \\\"404\\\"\"}\n" },
                { "explain", "error: explain expects PID\n" },
                { "explain x", "error: explain expects a process id, got 'x'\n" },
                { "explain 0", "error: explain expects a process id, got '0'\n" },
                { "explain 4294967296", "error: explain expects a process id, got '4294967296'\n" },
                { "explain 1 2", "error: explain takes one argument\n" },
                { "status now", "error: status takes no argument\n" },
                { "reload", "reloaded\n" },
                { "json reload", "{\"reloaded\":true}\n" },
                { "", "error: no verb; try help\n" },
                { "json", "{\"error\":\"no verb; try help\"}\n" },
                { "destroy", "error: unknown verb 'destroy'; try help\n" },
                { "a\x1b[m", "error: unknown verb 'a [m'; try help\n" },
                { "json \"\\\xff", "{\"error\":\"unknown verb '\\\"\\\\?'; try help\"}\n" },
        };
        reload_fails = false;
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++)
                assert_run(&all, cases[i][0], cases[i][1]);
        reload_fails = true;
        assert_run(&all, "reload", "error: c.json:3: no such key\n");
        char *text = run_n(&all, "sta\0tus", 7);
        assert_string_equal(text, "error: a line is text, this one holds a zero byte\n");
        free(text);
}

static void test_loglevel(void **state) {
        (void)state;
        tel_log_set_level(TEL_LOG_WARN);
        assert_run(&all, "loglevel", "log level warn\n");
        assert_run(&all, "json loglevel debug", "{\"log_level\":\"debug\"}\n");
        assert_int_equal(tel_log_get_level(), TEL_LOG_DEBUG);
        assert_run(&all, "loglevel loud", "error: 'loud' is no level; expected error, warn, info or debug\n");
        assert_int_equal(tel_log_get_level(), TEL_LOG_DEBUG);
        tel_log_set_level(TEL_LOG_INFO);
}

/* Verbs that nobody answers are not there; help lists those that are, each on its line and as JSON. */
static void test_help(void **state) {
        (void)state;
        const struct control_verbs few = { .ctx = (void *)ctx, .status = on_status };
        assert_run(&few, "stats", "error: unknown verb 'stats'; try help\n");
        assert_run(&few, "reload", "error: unknown verb 'reload'; try help\n");
        for (int few_only = 0; few_only < 2; few_only++) {
                char *text = run_n(few_only ? &few : &all, "json help", 9), *rest = text;
                size_t n = 0;
                for (char *line; *(line = strsep(&rest, "\n")); n++) {
                        json_t *o = json_loads(line, 0, NULL);
                        assert_non_null(o);
                        assert_true(json_is_string(json_object_get(o, "verb")));
                        json_decref(o);
                }
                assert_int_equal(n, few_only ? 3 : 7);         /* help, status and loglevel; and stats, processes, explain, reload */
                free(text);
        }
        char *text = run_n(&all, "help", 4);
        assert_non_null(strstr(text, "explain PID            what"));
        assert_null(strstr(text, "\n\n"));
        free(text);
}

/* ---- the socket ---- */

struct server {
        uv_loop_t loop;
        struct control *control;
        char path[64];
};

static int setup(void **state) {
        static struct server s;
        char error[CONTROL_ERROR_MAX] = "";
        snprintf(s.path, sizeof(s.path), "/tmp/beylad.control.%d", (int)getpid());
        uv_loop_init(&s.loop);
        int r = control_new(&(struct control_options){ .loop = &s.loop, .path = s.path, .fd = -1, .verbs = all }, &s.control, error);
        if (r < 0)
                print_error("%s\n", error);
        reload_fails = false;
        *state = &s;
        return r;
}

static int teardown(void **state) {
        struct server *s = *state;
        control_free(s->control);
        uv_run(&s->loop, UV_RUN_DEFAULT);
        return uv_loop_close(&s->loop) < 0 || access(s->path, F_OK) == 0;      /* its socket goes with it */
}

#define TELL(fd, literal) line_tell(fd, literal, sizeof(literal) - 1)

static void test_conversation(void **state) {
        struct server *s = *state;
        char text[1024];
        struct stat st;
        assert_int_equal(stat(s->path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0660);
        int fd = line_client(s->path);
        TELL(fd, "sta");                                       /* a line in two parts, with a carriage return */
        uv_run(&s->loop, UV_RUN_NOWAIT);
        TELL(fd, "tus\r\n\n");
        line_hear(&s->loop, fd, 1, text, sizeof(text));
        assert_string_equal(text, "status of us\n\n");
        TELL(fd, "stats\njson explain 7\nexplain 404\n");      /* several at once, in order */
        line_hear(&s->loop, fd, 3, text, sizeof(text));
        assert_string_equal(text, "stats of us\n\n{\"pid\":7}\n\nerror: no process \"404\"\n\n");
        TELL(fd, "status\nreload");                            /* what stands before the end counts as a line */
        shutdown(fd, SHUT_WR);
        line_hear(&s->loop, fd, 99, text, sizeof(text));
        assert_string_equal(text, "status of us\n\nreloaded\n\n");
        close(fd);
}

static void test_long_line(void **state) {
        struct server *s = *state;
        char text[1024], line[CONTROL_LINE_MAX];
        memset(line, 'x', sizeof(line));
        int fd = line_client(s->path);
        line_tell(fd, line, sizeof(line) - 1);
        uv_run(&s->loop, UV_RUN_NOWAIT);
        TELL(fd, "\n");                                        /* just fits */
        line_hear(&s->loop, fd, 1, text, sizeof(text));
        assert_non_null(strstr(text, "unknown verb"));
        line_tell(fd, line, sizeof(line));
        line_hear(&s->loop, fd, 99, text, sizeof(text));
        assert_string_equal(text, "error: a line has at most 1023 bytes\n\n");
        close(fd);
}

static void test_connections_are_bounded(void **state) {
        struct server *s = *state;
        char text[64];
        int fds[CONTROL_CONNECTIONS_MAX];
        for (size_t i = 0; i < TEL_ARRAY_LEN(fds); i++) {
                fds[i] = line_client(s->path);
                TELL(fds[i], "status\n");
                line_hear(&s->loop, fds[i], 1, text, sizeof(text));
        }
        int more = line_client(s->path);
        line_hear(&s->loop, more, 99, text, sizeof(text));
        assert_string_equal(text, "error: too many connections\n\n");
        close(more);
        close(fds[0]);
        for (int i = 0; i < 10; i++)
                uv_run(&s->loop, UV_RUN_NOWAIT);
        more = line_client(s->path);
        TELL(more, "stats\n");
        line_hear(&s->loop, more, 1, text, sizeof(text));
        assert_string_equal(text, "stats of us\n\n");
        close(more);
        for (size_t i = 1; i < TEL_ARRAY_LEN(fds); i++)
                close(fds[i]);
}

#define SOCKET(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_verbs), cmocka_unit_test(test_loglevel), cmocka_unit_test(test_help),
                SOCKET(test_conversation), SOCKET(test_long_line), SOCKET(test_connections_are_bounded),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
