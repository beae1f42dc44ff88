/* SPDX-License-Identifier: Apache-2.0 */
#include "libtelemetry/retry_after.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* Seconds or a date, up to the bound; nothing else says anything. */
static void test_parse(void **state) {
        (void)state;
        const uint64_t now = 1795000000ull * TEL_NS_PER_S;       /* Wed, 18 Nov 2026 11:06:40 GMT */
        static const struct { const char *value; uint64_t seconds; } cases[] = {
                { "7", 7 }, { " 12 \r\n", 12 }, { "0", 0 }, { "-5", 0 }, { "", 0 }, { "soon", 0 }, { "7.5", 0 }, { "7 apples", 0 }, { "99999999999999999999", 600 },
                { "86400", 600 }, { "Wed, 18 Nov 2026 11:06:55 GMT", 15 }, { "Wed, 18 Nov 2026 11:06:40 GMT", 0 }, { "Wed, 18 Nov 2026 11:00:00 GMT", 0 },
                { "Wednesday, 18-Nov-26 11:07:40 GMT", 60 }, { "Wed, 18 Nov 2027 11:06:55 GMT", 600 },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++)
                if (tel_retry_after(cases[i].value, now) != cases[i].seconds * TEL_NS_PER_S)
                        fail_msg("'%s': %llu", cases[i].value, (unsigned long long)(tel_retry_after(cases[i].value, now) / TEL_NS_PER_S));
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_parse) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
