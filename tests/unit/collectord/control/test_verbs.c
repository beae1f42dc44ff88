/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include <jansson.h>

#include "collectord/control/verbs.h"
#include "libtelemetry/log.h"

static struct tap_request tap;

/* The answer to a line by a daemon that has no part yet; *ret_status is what verbs_run() said. The caller frees
 * it. */
static char *answer(const char *line, int *ret_status) {
        static struct daemon d;
        char copy[4096];
        char *text = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&text, &n);
        snprintf(copy, sizeof(copy), "%s", line);
        int r = verbs_run(&d, copy, 1700000000 * TEL_NS_PER_S, f, &tap);
        fclose(f);
        if (ret_status)
                *ret_status = r;
        return text;
}

static void assert_answer(const char *line, const char *expected) {
        TEL_CLEANUP_FREE char *text = answer(line, NULL);
        assert_string_equal(text, expected);
}

static void test_split(void **state) {
        static const struct {
                const char *line;
                int n;
                const char *words[4];
        } cases[] = {
                { "", 0, { NULL } },
                { "  \t ", 0, { NULL } },
                { "status", 1, { "status" } },
                { " a  b\tc ", 3, { "a", "b", "c" } },
                { "\"a b\" 'c d'e", 2, { "a b", "c de" } },
                { "body~\"disk full\"", 1, { "body~disk full" } },
                { "\"a \\\" \\\\ b\" 'c\\'", 2, { "a \" \\ b", "c\\" } },
                { "a\\ b \"\"", 2, { "a b", "" } },
                { "a \"b", -EINVAL, { NULL } },
                { "1 2 3 4 5", -E2BIG, { NULL } },
        };
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++) {
                char line[64], *words[4];
                snprintf(line, sizeof(line), "%s", cases[i].line);
                assert_int_equal(verbs_split(line, words, 4), cases[i].n);
                for (int k = 0; k < cases[i].n; k++)
                        assert_string_equal(words[k], cases[i].words[k]);
        }
}

static void test_errors(void **state) {
        (void)state;
        assert_answer("frob", "error: unknown verb 'frob'; try help\n");
        assert_answer("json frob", "{\"error\":\"unknown verb 'frob'; try help\"}\n");
        assert_answer("", "error: no verb; try help\n");
        assert_answer("json", "{\"error\":\"no verb; try help\"}\n");
        assert_answer("\x1b[31m\xff", "error: unknown verb ' [31m?'; try help\n");
        assert_answer("help me", "error: help takes no argument\n");
        assert_answer("status 'x", "error: a quote is not closed\n");
        assert_answer("lost --since", "error: --since expects a duration such as 30s, 5m or 1h\n");
        assert_answer("lost --since soon", "error: --since expects a duration such as 30s, 5m or 1h, got 'soon'\n");
        assert_answer("lost all", "error: lost takes --since D, not 'all'\n");
        assert_answer("loglevel loud", "error: 'loud' is no level; expected error, warn, info or debug\n");
        assert_answer("loglevel info debug", "error: loglevel takes one level\n");
        assert_answer("tap --for 0", "error: --for expects a number of lines, got '0'\n");
        assert_answer("tap --for -1", "error: --for expects a number of lines, got '-1'\n");
        assert_answer("tap --back", "error: --back expects a duration such as 30s, 5m or 1h\n");
        assert_answer("tap --sideways", "error: tap has no option '--sideways'; try help\n");
        assert_answer("tap checkout",
                      "error: 'checkout' is no term of a filter; expected key=value, key!=value or key~text\n");
}

/* An empty line ends an answer, so none has one inside; and terminals have 120 columns. */
static void test_answers_keep_their_shape(void **state) {
        static const char *const lines[] = { "help", "status", "destinations", "sources", "lost", "loglevel",
                                             "lost --since 1h" };
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(lines); i++) {
                TEL_CLEANUP_FREE char *text = answer(lines[i], NULL);
                assert_int_not_equal(text[0], '\n');
                assert_null(strstr(text, "\n\n"));
                assert_int_equal(text[strlen(text) - 1], '\n');
                for (const char *p = text; *p; p += strcspn(p, "\n") + 1)
                        assert_true(strcspn(p, "\n") <= 120);
        }
        assert_answer("lost", "nothing was lost\n");
}

/* Every line of a json answer is an object. */
static void test_json(void **state) {
        static const char *const lines[] = { "json help", "json status", "json destinations", "json sources",
                                             "json lost", "json loglevel" };
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(lines); i++) {
                TEL_CLEANUP_FREE char *text = answer(lines[i], NULL);
                char *save = NULL;
                for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                        json_auto_t *o = json_loads(line, 0, NULL);
                        assert_true(json_is_object(o));
                }
        }
}

static void test_loglevel(void **state) {
        (void)state;
        enum tel_log_level before = tel_log_get_level();
        assert_answer("loglevel debug", "log level debug\n");
        assert_int_equal(tel_log_get_level(), TEL_LOG_DEBUG);
        assert_answer("json loglevel warn", "{\"log_level\":\"warn\"}\n");
        assert_answer("loglevel", "log level warn\n");
        tel_log_set_level(before);
}

static void test_tap(void **state) {
        int r;
        (void)state;
        free(answer("tap", &r));
        assert_int_equal(r, VERBS_TAP);
        assert_true(tap.follow && !tap.back && !tap.json && tap.lines == UINT64_MAX && tap.filter.n == 0);
        assert_int_equal(tap.signals, (1u << TEL_SIGNALS) - 1);
        free(answer("json tap logs traces --back 5m --for 10 service=checkout 'body~disk full'", &r));
        assert_int_equal(r, VERBS_TAP);
        assert_true(tap.follow && tap.back && tap.json && tap.lines == 10 && tap.back_ns == 300 * TEL_NS_PER_S);
        assert_int_equal(tap.signals, 1u << TEL_LOGS | 1u << TEL_TRACES);
        assert_int_equal(tap.filter.n, 2);
        assert_string_equal(tap.filter.terms[1].value, "disk full");
        free(answer("tap --no-follow", &r));
        assert_true(!tap.follow && tap.back && tap.back_ns == UINT64_MAX);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_split), cmocka_unit_test(test_errors),
                        cmocka_unit_test(test_answers_keep_their_shape),
                cmocka_unit_test(test_json), cmocka_unit_test(test_loglevel), cmocka_unit_test(test_tap),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
