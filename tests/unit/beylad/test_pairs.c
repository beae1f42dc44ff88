/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/pairs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* What comes out of text, as "key=value;" for each. */
static const char *read_all(const char *text, size_t n) {
        static char out[4096];
        struct pair pair;
        size_t used = 0;
        out[0] = '\0';
        for (const char *at = text; pairs_next(&at, text + n, &pair);)
                used += (size_t)snprintf(out + used, sizeof(out) - used, "%s=%s;", pair.key, pair.value);
        return out;
}

static void test_pairs(void **state) {
        (void)state;
        static const char *const cases[][2] = {
                { "", "" },
                { "a=b", "a=b;" },
                { "service.name=shop,team=web", "service.name=shop;team=web;" },
                { " a = b , c=d ", "a=b;c=d;" },
                { "a=", "a=;" },
                { "=b,c,,d=e", "d=e;" },                       /* no pairs */
                { "a=b=c", "a=b=c;" },
                { "a=x%2Cy%3Dz%20w", "a=x,y=z w;" },
                { "a=100%,b=%zz,c=%4", "a=100%;b=%zz;c=%4;" },
                { "a=%C3%A9", "a=\xc3\xa9;" },
                { "a=%ff%00b\n", "a=??b?;" },
                { "%61=b", "a=b;" },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++)
                assert_string_equal(read_all(cases[i][0], strlen(cases[i][0])), cases[i][1]);
        assert_string_equal(read_all("a=b\0c,d=e", 9), "a=b?c;d=e;");
}

/* Long texts are cut between characters. */
static void test_bounds(void **state) {
        (void)state;
        char text[2000] = "k=";
        struct pair pair;
        const char *at = text;
        for (size_t i = 0; i < 400; i++)
                strcat(text, "\xe2\x82\xac");                  /* 3 bytes: 85 of them are 255 */
        assert_true(pairs_next(&at, text + strlen(text), &pair));
        assert_int_equal(strlen(pair.value), 255);
        at = text;
        text[1] = 'x';
        text[2] = '=';
        memmove(text + 4, text + 3, strlen(text + 3) + 1);
        text[3] = 'a';
        assert_true(pairs_next(&at, text + strlen(text), &pair));
        assert_true(strlen(pair.value) <= 255 && strlen(pair.value) >= 253);
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_pairs), cmocka_unit_test(test_bounds) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
