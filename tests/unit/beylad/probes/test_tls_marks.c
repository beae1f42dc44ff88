/* SPDX-License-Identifier: Apache-2.0 */
/* TLS marks: a library is named by what it left in a file, wherever it lies; a bound holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "beylad/probes/tls_marks.h"

#define TEST(f) cmocka_unit_test(f)
#define SIZE (200u << 10)

/* A file of zeros with text at an offset, and another behind it. */
static int file_with(const char *text, size_t at, const char *more) {
        int fd = memfd_create("marks", MFD_CLOEXEC);
        assert_true(fd >= 0 && ftruncate(fd, SIZE) == 0);
        assert_int_equal(pwrite(fd, text, strlen(text), (off_t)at), strlen(text));
        assert_int_equal(pwrite(fd, more, strlen(more), SIZE - 100), strlen(more));
        return fd;
}

static const char *find_in(const char *text, size_t at, const char *more) {
        uint64_t left = UINT64_MAX;
        int fd = file_with(text, at, more);
        const char *found = tls_marks_find(fd, &left);
        assert_int_equal(UINT64_MAX - left, SIZE);
        close(fd);
        return found;
}

static void test_each_library_has_its_name(void **state) {
        (void)state;
        assert_string_equal(find_in("../ssl/ssl_lib.c", 10, ""), "OpenSSL");
        assert_string_equal(find_in("third_party/boringssl/ssl/ssl_lib.cc", 10, "(compatible; BoringSSL)"), "BoringSSL");
        assert_string_equal(find_in("registry/src/rustls-0.23.1/src/conn.rs", 10, ""), "rustls");
}

/* What calls a library, or says its name, has not got it built in. */
static void test_others_have_none(void **state) {
        (void)state;
        assert_null(find_in("OpenSSL 3.0.17", 10, "BoringSSL"));
        assert_null(find_in("rustls", 0, "crypto/ssl_lib.h"));
}

/* Windows end anywhere: every place of a mark around the first two of them is as good as another. */
static void test_a_mark_across_two_windows(void **state) {
        (void)state;
        for (size_t window = 1; window <= 2; window++)
                for (size_t i = 0; i < 64; i++) {
                        const char *found = find_in("/rustls-0", (window << 16) - 48 + i, "");
                        assert_non_null(found);
                        assert_string_equal(found, "rustls");
                }
}

/* Several files share one bound; what lies behind it is not read. */
static void test_the_bound_holds(void **state) {
        (void)state;
        uint64_t left = SIZE + 1000;
        int fd = file_with("ssl/ssl_lib.c", 2000, "");
        assert_string_equal(tls_marks_find(fd, &left), "OpenSSL");
        assert_int_equal(left, 1000);
        assert_null(tls_marks_find(fd, &left));
        assert_int_equal(left, 0);
        assert_null(tls_marks_find(fd, &left));
        close(fd);
}

static void test_what_cannot_be_read_has_none(void **state) {
        (void)state;
        uint64_t left = 100;
        assert_null(tls_marks_find(-1, &left));
        assert_int_equal(left, 100);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_each_library_has_its_name), TEST(test_others_have_none), TEST(test_a_mark_across_two_windows), TEST(test_the_bound_holds),
                TEST(test_what_cannot_be_read_has_none),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
