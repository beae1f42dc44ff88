/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libtelemetry/log.h"

#define TIME_NS 1795246941123456789ull             /* 2026-11-21T07:42:21.123456789Z */
#define FORMAT(out, msg, ...) \
        tel_log_format(out, sizeof(out), TIME_NS, TEL_LOG_INFO, msg, (const struct tel_log_field[]){ __VA_ARGS__ }, \
                       TEL_ARRAY_LEN(((const struct tel_log_field[]){ __VA_ARGS__ })))

/* What fn writes to stderr, as a string. */
static char captured[16384];
static void capture(void (*fn)(void)) {
        fflush(stderr);
        int saved = dup(STDERR_FILENO), pair[2];
        assert_int_equal(pipe2(pair, O_CLOEXEC | O_NONBLOCK), 0);
        dup2(pair[1], STDERR_FILENO);
        fn();
        dup2(saved, STDERR_FILENO);
        close(saved);
        close(pair[1]);
        ssize_t n = read(pair[0], captured, sizeof(captured) - 1);
        captured[n > 0 ? n : 0] = '\0';
        close(pair[0]);
}

/* The line of the header's example. */
static void test_format(void **state) {
        (void)state;
        char out[TEL_LOG_LINE_MAX];
        size_t n = FORMAT(out, "listening", { "address", "127.0.0.1:4318" });
        assert_string_equal(out, "ts=2026-11-21T07:42:21.123456789Z level=info msg=\"listening\" address=127.0.0.1:4318");
        assert_int_equal(n, strlen(out));
}

/* Values are quoted when they must be, and nothing in them can end the line or the quotes. */
static void test_quoting(void **state) {
        (void)state;
        static const struct {
                const char *value, *want;
        } cases[] = {
                { "plain", "k=plain" }, { "", "k=\"\"" }, { NULL, "k=\"\"" }, { "a b", "k=\"a b\"" }, { "a=b", "k=\"a=b\"" },
                { "say \"hi\"", "k=\"say \\\"hi\\\"\"" }, { "c:\\x", "k=\"c:\\\\x\"" }, { "a\nb\tc\r", "k=\"a\\nb\\tc\\r\"" },
                { "\x1b[31m", "k=\"\\u001b[31m\"" }, { "\x7f", "k=\"\\u007f\"" }, { "caf\xc3\xa9", "k=caf\xc3\xa9" },
                { "bad\xff", "k=\"bad\xef\xbf\xbd\"" },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++) {
                char out[TEL_LOG_LINE_MAX], want[128];
                FORMAT(out, "m\n\"", { "k", cases[i].value });
                assert_string_equal(strstr(out, "msg="), TEL_LOGF(want, "msg=\"m\\n\\\"\" %s", cases[i].want));
        }
}

/* A long value is cut and says so; the fields behind it are still there, and every quote is closed. */
static void test_cut(void **state) {
        (void)state;
        char out[TEL_LOG_LINE_MAX], big[5000];
        memset(big, 'x', sizeof(big) - 1);
        big[sizeof(big) - 1] = '\0';
        big[0] = ' ';
        FORMAT(out, big, { "k", "v" });
        assert_non_null(strstr(out, "xxx...\" k=v"));
        size_t n = FORMAT(out, big, { "a", big }, { "b", big }, { "c", "d" });
        assert_true(n < sizeof(out));
        assert_int_equal(out[n - 1], '"');
        assert_non_null(strstr(out, "x...\" a=\" xx"));
        for (size_t i = 0; i + 2 < sizeof(big); i += 2)
                memcpy(big + i, "\xc3\xa9", 2);
        FORMAT(out, big);
        assert_non_null(strstr(out, "\xc3\xa9...\""));
}

/* A buffer of any size is never written past. */
static void test_any_room(void **state) {
        (void)state;
        for (size_t room = 0; room < 200; room++) {
                TEL_CLEANUP_FREE char *out = malloc(room ? room : 1);
                size_t n = tel_log_format(out, room, TIME_NS, TEL_LOG_WARN, "a message", (struct tel_log_field[]){ { "k", "a b" } }, 1);
                assert_true(room == 0 ? n == 0 : n < room && out[n] == '\0');
        }
}

static void write_levels(void) {
        tel_log(TEL_LOG_ERROR, "one");
        tel_log(TEL_LOG_WARN, "two", { "a", "1" }, { "b", "2" });
        tel_log(TEL_LOG_INFO, "three");
        tel_log(TEL_LOG_DEBUG, "four");
}

/* Lines end in a newline, and what is above the level is not written. */
static void test_stderr(void **state) {
        (void)state;
        unsetenv("JOURNAL_STREAM");
        tel_log_open("test", TEL_LOG_WARN);
        assert_int_equal(tel_log_get_level(), TEL_LOG_WARN);
        capture(write_levels);
        assert_memory_equal(captured, "ts=", 3);
        assert_non_null(strstr(captured, " level=error msg=\"one\"\nts="));
        assert_non_null(strstr(captured, " level=warn msg=\"two\" a=1 b=2\n"));
        assert_null(strstr(captured, "three"));
        tel_log_set_level(TEL_LOG_DEBUG);
        capture(write_levels);
        assert_non_null(strstr(captured, " level=debug msg=\"four\"\n"));
}

static void write_longest(void) {
        static char big[3000];
        memset(big, 'x', sizeof(big) - 1);
        struct tel_log_field f[TEL_LOG_FIELDS_MAX];
        for (size_t i = 0; i < TEL_ARRAY_LEN(f); i++)
                f[i] = (struct tel_log_field){ "key", big };
        tel_log_fields(TEL_LOG_ERROR, big, f, TEL_ARRAY_LEN(f));
}

/* The longest line is one line within the bound. */
static void test_stderr_longest(void **state) {
        (void)state;
        capture(write_longest);
        assert_true(strlen(captured) <= TEL_LOG_LINE_MAX);
        assert_ptr_equal(strchr(captured, '\n'), captured + strlen(captured) - 1);
}

static void open_as_journal(void) {
        struct stat st;
        fstat(STDERR_FILENO, &st);
        char stream[64];
        setenv("JOURNAL_STREAM", TEL_LOGF(stream, "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino), 1);
        tel_log_open("test", TEL_LOG_INFO);
}

static void write_as_journal(void) {
        open_as_journal();
        if (access("/run/systemd/journal/socket", F_OK) < 0)
                write_levels();
}

/* A journal that cannot be reached natively still gets the priority, by prefix; one that is somebody else's gets nothing. */
static void test_journal_fallback(void **state) {
        (void)state;
        capture(write_as_journal);
        if (access("/run/systemd/journal/socket", F_OK) < 0) {
                assert_memory_equal(captured, "<3>ts=", 6);
                assert_non_null(strstr(captured, "\n<4>ts="));
                assert_non_null(strstr(captured, "\n<6>ts="));
        }
        setenv("JOURNAL_STREAM", "1:1", 1);
        tel_log_open("test", TEL_LOG_INFO);
        capture(write_levels);
        assert_memory_equal(captured, "ts=", 3);
        unsetenv("JOURNAL_STREAM");
        tel_log_open("test", TEL_LOG_INFO);
}

enum { NATIVE_GOOD, NATIVE_BAD, NATIVE_SKIP };

/* In a child with a /run of its own: plays the journal and looks at what it is sent. */
static int native_child(void) {
        struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/socket" };
        if ((unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) || mount("none", "/", "", MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("none", "/run", "tmpfs", 0, NULL) < 0)
                return NATIVE_SKIP;
        int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (mkdir("/run/systemd", 0755) < 0 || mkdir("/run/systemd/journal", 0755) < 0 || bind(s, (struct sockaddr *)&a, sizeof(a)) < 0)
                return NATIVE_SKIP;
        open_as_journal();
        tel_log(TEL_LOG_DEBUG, "not written");
        tel_log(TEL_LOG_WARN, "a message", { "unit_name", "x y" }, { "none", NULL });
        write_longest();
        char got[8192];
        ssize_t n = recv(s, got, sizeof(got) - 1, 0);
        got[n > 0 ? n : 0] = '\0';
        static const char *const want[] = { "PRIORITY=4\n", "SYSLOG_IDENTIFIER=test\n", "MESSAGE=a message\n", "UNIT_NAME=x y\n", "NONE=\n" };
        for (size_t i = 0; i < TEL_ARRAY_LEN(want); i++)
                if (!strstr(got, want[i]))
                        return NATIVE_BAD;
        n = recv(s, got, sizeof(got) - 1, 0);
        got[n > 0 ? n : 0] = '\0';
        if (!strstr(got, "PRIORITY=3\n") || !strstr(got, "xxx...\nKEY=xxx") || n > TEL_LOG_LINE_MAX + TEL_LOG_FIELDS_MAX)
                return NATIVE_BAD;
        return NATIVE_GOOD;
}

/* The journal gets its own fields: the message, the priority, who speaks, and ours in upper case. */
static void test_journal_native(void **state) {
        (void)state;
        pid_t child = fork();
        if (child == 0)
                _exit(native_child());
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == NATIVE_SKIP)
                skip();
        assert_int_equal(WEXITSTATUS(status), NATIVE_GOOD);
}

/* Level names read back, and nothing else does. */
static void test_level_names(void **state) {
        (void)state;
        enum tel_log_level got;
        for (enum tel_log_level l = TEL_LOG_ERROR; l <= TEL_LOG_DEBUG; l++) {
                assert_int_equal(tel_log_level_parse(tel_log_level_name(l), &got), 0);
                assert_int_equal(got, l);
        }
        assert_int_equal(tel_log_level_parse("INFO", &got), -EINVAL);
        assert_int_equal(tel_log_level_parse("", &got), -EINVAL);
}

/* The first of a repeating event is due at once, the next after a minute with what was kept back. */
static void test_repeat(void **state) {
        (void)state;
        struct tel_log_repeat r = { 0 };
        uint64_t n = 77, now = 5;
        assert_true(tel_log_repeat_due(&r, now, &n));
        assert_int_equal(n, 0);
        for (int i = 0; i < 10; i++)
                assert_false(tel_log_repeat_due(&r, now + (uint64_t)i, &n));
        assert_false(tel_log_repeat_due(&r, now + TEL_LOG_REPEAT_NS - 1, &n));
        assert_true(tel_log_repeat_due(&r, now + TEL_LOG_REPEAT_NS, &n));
        assert_int_equal(n, 11);
}

static struct tel_log_repeat repeat;
static uint64_t repeat_now;

static void write_repeated(void) {
        struct tel_log_field f[TEL_LOG_FIELDS_MAX];
        for (size_t i = 0; i < TEL_ARRAY_LEN(f); i++)
                f[i] = (struct tel_log_field){ "k", "v" };
        tel_log_repeated_fields(&repeat, repeat_now, TEL_LOG_INFO, "refused", f, TEL_ARRAY_LEN(f));
        tel_log_repeated(&repeat, repeat_now, TEL_LOG_INFO, "refused", { "peer", "7" });
        tel_log_repeated(&repeat, repeat_now, TEL_LOG_DEBUG, "below the level");
}

/* Lines under a repeat carry its count, and what the level hides is neither written nor counted. */
static void test_repeated_lines(void **state) {
        (void)state;
        capture(write_repeated);
        assert_null(strstr(captured, "repeated="));
        assert_null(strstr(captured, "peer="));
        repeat_now = TEL_LOG_REPEAT_NS;
        capture(write_repeated);
        assert_non_null(strstr(captured, "k=v repeated=1\n"));
        assert_int_equal(repeat.suppressed, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_format),
                cmocka_unit_test(test_quoting),
                cmocka_unit_test(test_cut),
                cmocka_unit_test(test_any_room),
                cmocka_unit_test(test_stderr),
                cmocka_unit_test(test_stderr_longest),
                cmocka_unit_test(test_journal_fallback),
                cmocka_unit_test(test_journal_native),
                cmocka_unit_test(test_level_names),
                cmocka_unit_test(test_repeat),
                cmocka_unit_test(test_repeated_lines),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
