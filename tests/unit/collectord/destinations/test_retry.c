/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "collectord/destinations/retry.h"
#include "libtelemetry/retry_after.h"

#define SECOND TEL_NS_PER_S

/* COL-K8S-03: 5 s at first, half as much again each time, at most 30 s, all with jitter between a half and one and a half. */
static void test_backoff(void **state) {
        (void)state;
        static const uint64_t interval_ms[] = { 5000, 7500, 11250, 16875, 25312, 30000, 30000 };
        for (uint32_t random = 0; random < 1024; random += 341) {
                struct retry r = { .initial_ns = 5 * SECOND, .max_ns = 30 * SECOND };
                uint64_t now = 1000 * SECOND;
                for (size_t i = 0; i < TEL_ARRAY_LEN(interval_ms); i++) {
                        retry_failed(&r, now, 0, random);
                        assert_in_range(r.until_ns - now, interval_ms[i] * TEL_NS_PER_MS / 2, interval_ms[i] * TEL_NS_PER_MS * 3 / 2 + TEL_NS_PER_MS);
                        now = r.until_ns;
                }
                retry_succeeded(&r);
                assert_int_equal(r.until_ns, 0);
                retry_failed(&r, now, 0, random);
                assert_in_range(r.until_ns - now, 2500 * TEL_NS_PER_MS, 7501 * TEL_NS_PER_MS);
        }
}

/* Several requests that fail together lengthen the pause once. */
static void test_together(void **state) {
        (void)state;
        struct retry r = { .initial_ns = 5 * SECOND, .max_ns = 30 * SECOND };
        retry_failed(&r, SECOND, 0, 512);
        uint64_t until = r.until_ns, interval = r.interval_ns;
        retry_failed(&r, SECOND + 1, 0, 512);
        assert_int_equal(r.until_ns, until);
        assert_int_equal(r.interval_ns, interval);
        retry_failed(&r, SECOND + 2, 60 * SECOND, 512);
        assert_int_equal(r.until_ns, 61 * SECOND + 2);
}

/* What the receiver names is honoured when it is longer than our own pause, up to the bound. */
static void test_retry_after(void **state) {
        (void)state;
        struct retry r = { .initial_ns = 5 * SECOND, .max_ns = 30 * SECOND };
        retry_failed(&r, SECOND, 20 * SECOND, 0);
        assert_int_equal(r.until_ns, 21 * SECOND);
        retry_succeeded(&r);
        retry_failed(&r, SECOND, 86400 * SECOND, 0);
        assert_int_equal(r.until_ns, SECOND + TEL_RETRY_AFTER_MAX_NS);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_backoff), cmocka_unit_test(test_together), cmocka_unit_test(test_retry_after),
        };
        return cmocka_run_group_tests_name("retry", tests, NULL, NULL);
}
