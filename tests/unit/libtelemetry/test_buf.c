/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "libtelemetry/buf.h"

/* A charge that would pass the limit changes nothing; the peak remembers the most. */
static void test_budget_limit(void **state) {
        (void)state;
        struct tel_budget b = { .limit = 100 };
        assert_true(tel_budget_charge(&b, 60));
        assert_true(tel_budget_charge(&b, 40));
        assert_false(tel_budget_charge(&b, 1));
        assert_int_equal(b.used, 100);
        tel_budget_credit(&b, 70);
        assert_int_equal(b.used, 30);
        assert_int_equal(b.peak, 100);
        assert_false(tel_budget_charge(&b, SIZE_MAX));
        assert_true(tel_budget_charge(NULL, SIZE_MAX));
}

/* A budget without a limit still counts, and still refuses what would wrap around. */
static void test_budget_unlimited(void **state) {
        (void)state;
        struct tel_budget b = { 0 };
        assert_true(tel_budget_charge(&b, SIZE_MAX - 1));
        assert_false(tel_budget_charge(&b, 2));
        assert_int_equal(b.used, SIZE_MAX - 1);
}

/* Everything a buffer is charged, its head included, comes back with the last reference. */
static void test_charge_and_credit(void **state) {
        (void)state;
        struct tel_budget b = { .limit = 4096 };
        struct tel_buf *x = tel_buf_new(&b, 100);
        assert_non_null(x);
        assert_int_equal(b.used, sizeof(*x) + 100);
        assert_ptr_equal(tel_buf_ref(x), x);
        assert_null(tel_buf_unref(x));
        assert_int_equal(b.used, sizeof(*x) + 100);
        assert_null(tel_buf_unref(x));
        assert_int_equal(b.used, 0);
        assert_null(tel_buf_unref(NULL));
        assert_null(tel_buf_ref(NULL));
}

/* A buffer that does not fit is not made, and charges nothing. */
static void test_new_over_budget(void **state) {
        (void)state;
        struct tel_budget b = { .limit = sizeof(struct tel_buf) + 99 };
        assert_null(tel_buf_new(&b, 100));
        assert_int_equal(b.used, 0);
        b.limit = sizeof(struct tel_buf) - 1;
        assert_null(tel_buf_new(&b, 0));
        assert_int_equal(b.used, 0);
}

/* Growth keeps the bytes, doubles, and stops at max. */
static void test_append_grows_to_max(void **state) {
        (void)state;
        struct tel_budget b = { 0 };
        struct tel_buf *x = tel_buf_new(&b, 0);
        for (unsigned i = 0; i < 1000; i++)
                assert_int_equal(tel_buf_append(x, &(uint8_t){ (uint8_t)i }, 1, 1000), 0);
        assert_int_equal(tel_buf_append(x, "x", 1, 1000), -EMSGSIZE);
        assert_int_equal(tel_buf_append(x, "x", 0, 1000), 0);
        assert_int_equal(x->len, 1000);
        assert_int_equal(x->capacity, 1000);
        assert_int_equal(b.used, sizeof(*x) + 1000);
        for (unsigned i = 0; i < 1000; i++)
                assert_int_equal(x->data[i], (uint8_t)i);
        assert_int_equal(tel_buf_reserve(x, SIZE_MAX, SIZE_MAX), -EMSGSIZE);
        assert_int_equal(tel_buf_reserve(x, 0, 10), -EMSGSIZE);        /* already longer than this max */
        tel_buf_unref(x);
        assert_int_equal(b.used, 0);
}

/* When doubling is over the budget the exact need may still fit; when that does not either, the buffer stays as it was. */
static void test_reserve_near_budget(void **state) {
        (void)state;
        struct tel_budget b = { .limit = sizeof(struct tel_buf) + 150 };
        struct tel_buf *x = tel_buf_new(&b, 100);
        assert_int_equal(tel_buf_append(x, (char[100]){ "abc" }, 100, 1000), 0);
        assert_int_equal(tel_buf_append(x, "0123456789", 10, 1000), 0);
        assert_int_equal(x->capacity, 110);
        assert_int_equal(tel_buf_reserve(x, 41, 1000), -ENOBUFS);
        assert_int_equal(x->len, 110);
        assert_memory_equal(x->data, "abc", 4);
        assert_int_equal(b.used, sizeof(*x) + 110);
        tel_buf_unref(x);
        assert_int_equal(b.used, 0);
}

/* Trimming gives back what lies behind the bytes, also when there are none, and the buffer can grow again. */
static void test_trim(void **state) {
        (void)state;
        struct tel_budget b = { 0 };
        struct tel_buf *x = tel_buf_new(&b, 100);
        tel_buf_append(x, "abc", 3, 100);
        tel_buf_trim(x);
        assert_int_equal(x->capacity, 3);
        assert_int_equal(b.used, sizeof(*x) + 3);
        tel_buf_trim(x);
        assert_memory_equal(x->data, "abc", 3);
        x->len = 0;
        tel_buf_trim(x);
        assert_null(x->data);
        assert_int_equal(b.used, sizeof(*x));
        assert_int_equal(tel_buf_append(x, "de", 2, 100), 0);
        assert_memory_equal(x->data, "de", 2);
        tel_buf_unref(x);
        assert_int_equal(b.used, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_budget_limit),
                cmocka_unit_test(test_budget_unlimited),
                cmocka_unit_test(test_charge_and_credit),
                cmocka_unit_test(test_new_over_budget),
                cmocka_unit_test(test_append_grows_to_max),
                cmocka_unit_test(test_reserve_near_budget),
                cmocka_unit_test(test_trim),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
