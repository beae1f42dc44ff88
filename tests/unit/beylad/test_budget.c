/* SPDX-License-Identifier: Apache-2.0 */
/* Budget: steps down at once when a period is above a bound, and back only after several far below. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "beylad/budget.h"

#define WALL (10 * TEL_NS_PER_S)
#define PERCENT(p) (WALL / 100 * (p))

static void test_no_bounds(void **state) {
        struct budget b = { 0 };
        (void)state;
        for (int i = 0; i < 10; i++)
                assert_int_equal(budget_period(&b, WALL, PERCENT(300), PERCENT(300)), BUDGET_FULL);
}

static void test_down_step_by_step(void **state) {
        struct budget b = { .cpu_percent = 5 };
        (void)state;
        assert_int_equal(budget_period(&b, WALL, PERCENT(5), PERCENT(90)), BUDGET_FULL);   /* the bound itself is within; the other has none */
        assert_int_equal(budget_period(&b, WALL, PERCENT(6), 0), BUDGET_HEADS);
        assert_int_equal(budget_period(&b, WALL, PERCENT(6), 0), BUDGET_METRICS);
        assert_int_equal(budget_period(&b, WALL, PERCENT(6), 0), BUDGET_DETACHED);
        assert_int_equal(budget_period(&b, WALL, PERCENT(6), 0), BUDGET_DETACHED);
}

static void test_probes_count_too(void **state) {
        struct budget b = { .cpu_percent = 50, .probe_percent = 2 };
        (void)state;
        assert_int_equal(budget_period(&b, WALL, PERCENT(1), PERCENT(3)), BUDGET_HEADS);
}

/* Between half and the whole of the bound nothing moves; below, one step back after BUDGET_BACK_PERIODS in a row. */
static void test_back(void **state) {
        struct budget b = { .cpu_percent = 10, .step = BUDGET_METRICS };
        (void)state;
        for (int i = 0; i < 3 * BUDGET_BACK_PERIODS; i++)
                assert_int_equal(budget_period(&b, WALL, PERCENT(7), 0), BUDGET_METRICS);
        for (int i = 0; i < BUDGET_BACK_PERIODS - 1; i++)
                assert_int_equal(budget_period(&b, WALL, PERCENT(1), 0), BUDGET_METRICS);
        assert_int_equal(budget_period(&b, WALL, PERCENT(7), 0), BUDGET_METRICS);  /* a middling one: counted anew */
        for (int i = 0; i < BUDGET_BACK_PERIODS - 1; i++)
                assert_int_equal(budget_period(&b, WALL, PERCENT(1), 0), BUDGET_METRICS);
        assert_int_equal(budget_period(&b, WALL, PERCENT(1), 0), BUDGET_HEADS);
}

/* Other bounds begin anew to count; without bounds nothing would ever step back. */
static void test_other_bounds(void **state) {
        struct budget b = { .cpu_percent = 10, .step = BUDGET_DETACHED };
        (void)state;
        for (int i = 0; i < BUDGET_BACK_PERIODS - 1; i++)
                assert_int_equal(budget_period(&b, WALL, 0, 0), BUDGET_DETACHED);
        assert_int_equal(budget_bounds(&b, 0, 50), BUDGET_DETACHED);
        for (int i = 0; i < BUDGET_BACK_PERIODS - 1; i++)
                assert_int_equal(budget_period(&b, WALL, PERCENT(40), 0), BUDGET_DETACHED);
        assert_int_equal(budget_period(&b, WALL, PERCENT(40), 0), BUDGET_METRICS);
        assert_int_equal(budget_bounds(&b, 0, 0), BUDGET_FULL);
}

static void test_an_empty_period_says_nothing(void **state) {
        struct budget b = { .cpu_percent = 10 };
        (void)state;
        assert_int_equal(budget_period(&b, 0, 100, 100), BUDGET_FULL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_no_bounds), cmocka_unit_test(test_down_step_by_step), cmocka_unit_test(test_probes_count_too),
                cmocka_unit_test(test_back), cmocka_unit_test(test_other_bounds), cmocka_unit_test(test_an_empty_period_says_nothing),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
