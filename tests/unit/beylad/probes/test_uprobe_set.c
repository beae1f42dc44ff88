/* SPDX-License-Identifier: Apache-2.0 */
/* What needs no kernel: the reports, the plans, and the memory of files with nothing to probe. */
#include "beylad/probes/uprobe_set.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

/* A report holds whole lines; one that finds no room is left out, and shorter ones still come. */
static void test_report_keeps_whole_lines(void **state) {
        char text[32] = "";
        (void)state;
        uprobe_report(text, sizeof(text), "%s: %d", "one", 1);
        uprobe_report(text, sizeof(text), "this line is far too long for it");
        uprobe_report(text, sizeof(text), "two");
        assert_string_equal(text, "one: 1\ntwo\n");
        for (int i = 0; i < 100; i++)
                uprobe_report(text, sizeof(text), "0123456789");
        assert_string_equal(text, "one: 1\ntwo\n0123456789\n");
        uprobe_report(text, sizeof(text), "12345678");
        assert_int_equal(strlen(text), 31);
        uprobe_report(text, sizeof(text), "%s", "");
        assert_int_equal(strlen(text), 31);
}

/* A path of the process may hold anything: it writes no line of its own and no terminal's commands. */
static void test_report_shows_no_control_characters(void **state) {
        char text[64] = "";
        (void)state;
        uprobe_report(text, sizeof(text), "/lib/%s", "a\n! b\x1b[31m\x7f");
        assert_string_equal(text, "/lib/a?! b?[31m?\n");
}

static void test_plan_is_bounded(void **state) {
        static struct uprobe_plan plan;
        struct uprobe_plan_site site = { .name = "SSL_read" };
        (void)state;
        for (size_t i = 0; i < UPROBE_PLAN_SITES_MAX; i++)
                assert_true(uprobe_plan_add(&plan, &site));
        assert_false(uprobe_plan_add(&plan, &site));
        assert_int_equal(plan.n, UPROBE_PLAN_SITES_MAX);
}

/* What had nothing to probe is not looked at again, unless it changed. */
static void test_files_with_nothing(void **state) {
        struct uprobe_set *s;
        struct uprobe_file file = { .device = 1, .inode = 2, .size = 3, .changed_ns = 4 }, other;
        (void)state;
        assert_int_equal(uprobe_set_new(NULL, 0, -1, 4, false, &s), 0);
        assert_false(uprobe_set_has_nothing(s, &file));
        uprobe_set_note_nothing(s, &file);
        assert_true(uprobe_set_has_nothing(s, &file));
        for (int i = 0; i < 4; i++) {
                other = file;
                *(i == 0 ? &other.device : i == 1 ? &other.inode : i == 2 ? &other.size : &other.changed_ns) += 1;
                assert_false(uprobe_set_has_nothing(s, &other));
        }
        for (uint64_t i = 0; i < 10 * UPROBE_NOTHING_MAX; i++) {
                other = (struct uprobe_file){ .device = 7, .inode = 100 + i };
                uprobe_set_note_nothing(s, &other);
                assert_true(uprobe_set_has_nothing(s, &other));
        }
        assert_int_equal(uprobe_set_find(s, &file), -ENOENT);
        assert_int_equal(uprobe_set_used(s, 1), 0);
        assert_false(uprobe_set_leave(s, 1));
        uprobe_set_free(s);
        assert_null(uprobe_set_free(NULL));
}

/* Two descriptors of one file are one file; a plan that cannot be attached leaves nothing, and says what failed. */
static void test_attach_that_fails(void **state) {
        static struct uprobe_plan plan;
        struct uprobe_plan_site site = { .name = "SSL_read", .offset = 0x1234 };
        struct uprobe_file a, b;
        struct uprobe_set *s;
        char error[UPROBE_ERROR_MAX] = "";
        uint32_t files, processes, sites;
        const struct bpf_program *programs[1] = { NULL };
        FILE *one = fopen("/proc/self/exe", "re"), *two = fopen("/proc/self/exe", "re");
        (void)state;
        assert_int_equal(uprobe_file_read(fileno(one), &a), 0);
        assert_int_equal(uprobe_file_read(fileno(two), &b), 0);
        assert_memory_equal(&a, &b, sizeof(a));
        assert_int_equal(uprobe_file_read(-1, &b), -EBADF);
        assert_int_equal(uprobe_set_new(programs, 1, -1, 1, true, &s), 0);
        assert_true(uprobe_plan_add(&plan, &site));
        assert_true(uprobe_set_attach(s, &a, fileno(one), &plan, error) < 0);
        assert_non_null(strstr(error, "a uprobe of SSL_read at offset 0x1234: "));
        uprobe_set_count(s, &files, &processes, &sites);
        assert_int_equal(files + processes + sites, 0);
        assert_int_equal(uprobe_set_find(s, &a), -ENOENT);
        uprobe_set_free(s);
        fclose(one);
        fclose(two);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_report_keeps_whole_lines),
                cmocka_unit_test(test_report_shows_no_control_characters),
                cmocka_unit_test(test_plan_is_bounded),
                cmocka_unit_test(test_files_with_nothing),
                cmocka_unit_test(test_attach_that_fails),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
