/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "libtelemetry/utf8.h"

static void test_valid(void **state) {
        static const struct {
                const char *bytes;
                bool valid;
        } cases[] = {
                { "", true }, { "plain text, longer than eight bytes", true }, { "\xc3\xa9", true }, { "\xe2\x82\xac", true }, { "\xf0\x9f\x98\x80", true },
                { "\xf4\x8f\xbf\xbf", true }, { "\xc3", false }, { "\xe2\x82", false }, { "\xc0\xaf", false }, { "\xe0\x80\x80", false }, { "\xf0\x80\x80\x80", false },
                { "\xed\xa0\x80", false }, { "\xf4\x90\x80\x80", false }, { "\xff", false }, { "\x80", false }, { "eight by\x80", false },
        };
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++)
                assert_int_equal(tel_utf8_valid(cases[i].bytes, strlen(cases[i].bytes)), cases[i].valid);
}

static void test_printable(void **state) {
        char out[8];
        (void)state;
        assert_int_equal(tel_utf8_printable(out, sizeof(out), "abc\xe2\x82\xac\xe2\x82\xac", 9), 6);
        assert_string_equal(out, "abc\xe2\x82\xac");
        assert_int_equal(tel_utf8_printable(out, 1, "abc", 3), 0);
        assert_string_equal(out, "");
        assert_int_equal(tel_utf8_printable(out, sizeof(out), "\x1b[m\x7f\xc0\xaf", 6), 6);
        assert_string_equal(out, "?[m???");
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_valid), cmocka_unit_test(test_printable) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
