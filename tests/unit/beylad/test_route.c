/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "beylad/route.h"

static struct routes *routes_of(const struct routes_options *o) {
        struct routes *r = NULL;
        char error[ROUTE_PATTERN_MAX + 64];
        assert_int_equal(routes_new(o, &r, error), 0);
        return r;
}

static const char *route_for(struct routes *r, uint64_t owner, const char *path) {
        static char out[ROUTE_MAX];
        memset(out, 'x', sizeof(out));
        size_t n = route_of(r, owner, path, out, sizeof(out));
        assert_int_equal(n, strlen(out));
        return out;
}

/* Each text: path, then its route, by a learner that has seen nothing before. */
static void assert_routes(const struct routes_options *o, const char *const (*rows)[2], size_t n) {
        for (size_t i = 0; i < n; i++) {
                struct routes *r = routes_of(o);
                assert_string_equal(route_for(r, 1, rows[i][0]), rows[i][1]);
                routes_free(r);
        }
}

/* What stays, because a program chose it. */
static void test_names(void **state) {
        static const char *const names[] = {
                "users", "v1", "v2.1", "v1beta1", "v1alpha1", "v2preview", "api", "oauth2", "s3", "mp3", "x509", "sha256", "utf8", "index.html", "style.css",
                "get-all-users", "getUserProfile", ".well-known", "openid-configuration", "rhythm", "web3", "deadbeef", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                "@angular", "~root", "a:b", "k8s", "http2",
        };
        struct routes *r = routes_of(&(struct routes_options){ .children_max = 100 });
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(names); i++) {
                char path[64];
                snprintf(path, sizeof(path), "/%s", names[i]);
                assert_string_equal(route_for(r, 1, path), path);
        }
        routes_free(r);
}

/* What goes, because a client chose it. */
static void test_data(void **state) {
        static const char *const data[] = {
                "7", "1234", "2024-01-31", "10.0.0.1", "2024-01-31T10:00:00Z", "f47ac10b-58cc-4372-a567-0e02b2c3d479", "deadbee7", "507f1f77bcf86cd799439011",
                "bob@example.org", "aB3dE5fG", "order-1234", "order-42", "user_123", "a%20b", "key=value", "caf\xc3\xa9", "xkcdrtplm",
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "eyJhbGciOiJIUzI1NiJ9", "app.3f2a1b9c.js", "jquery-3.6.0.min.js", "[id]", "v1.2.3.4.5.6.7", "*",
        };
        struct routes *r = routes_of(&(struct routes_options){ 0 });
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(data); i++) {
                char path[128];
                snprintf(path, sizeof(path), "/users/%s/orders", data[i]);
                if (strcmp(route_for(r, 1, path), "/users/*/orders") != 0)
                        fail_msg("%s", path);
        }
        routes_free(r);
}

/* The forms of a request target, and what is not part of a path. */
static void test_forms(void **state) {
        static const char *const rows[][2] = {
                { "/", "/" }, { "", "" }, { "*", "" }, { "example.org:443", "" }, { "users", "" }, { "http://example.org", "/" },
                { "http://example.org/users/7?x=/y", "/users/*" }, { "https://example.org?x", "/" }, { "/users?x=7", "/users" }, { "/users#7", "/users" },
                { "//users///7", "/users/*" }, { "/users/", "/users/" }, { "/users/7/", "/users/*/" }, { "/a;jsessionid=12/b", "/a/b" }, { "/;x/", "/" },
                { "/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p", "/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p" },
                { "/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/", "/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/*" },
        };
        (void)state;
        assert_routes(&(struct routes_options){ 0 }, rows, TEL_ARRAY_LEN(rows));
}

/* Patterns come first, the most specific one wins in whatever order they stand, and what fits none is learned. */
static void test_patterns(void **state) {
        static const char *const orders[2][7] = {
                { "/users/{id}", "/users/me", "/users/:id/*", "/users/:id/orders/{order}", "/static/*", "/*/b/c", "/" },
                { "/", "/*/b/c", "/static/*", "/users/:id/orders/{order}", "/users/:id/*", "/users/me", "/users/{id}" },
        };
        static const char *const rows[][2] = {
                { "/users/7", "/users/{id}" }, { "/users/anybody", "/users/{id}" }, { "/users/me", "/users/me" }, { "/users/me/", "/users/me" },
                { "/users/7/x/y", "/users/:id/*" }, { "/users/7/orders", "/users/:id/*" }, { "/users/7/orders/8", "/users/:id/orders/{order}" },
                { "/users/7/orders/8/9", "/users/:id/*" }, { "/static/a/b/c?d", "/static/*" }, { "/static", "/static" }, { "/a/b/c", "/*/b/c" },
                { "/a/b/c/d", "/a/b/c/d" }, { "/", "/" }, { "/users", "/users" }, { "/users/1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6/7/8", "/users/:id/*" },
        };
        (void)state;
        for (size_t i = 0; i < 2; i++)
                assert_routes(&(struct routes_options){ .patterns = orders[i], .n_patterns = 7 }, rows, TEL_ARRAY_LEN(rows));
}

static void test_pattern_validity(void **state) {
        static const char *const good[] = { "/", "/a", "/{id}", "/:id", "/a/*", "/a/**", "/{rest...}", "/1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6" };
        static const char *const bad[] = { "", "a", "*", "http://a/b", "/a?b", "/1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6/7" };
        char longest[ROUTE_PATTERN_MAX + 1], error[ROUTE_PATTERN_MAX + 64];
        struct routes *r = NULL;
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(good); i++)
                assert_true(route_pattern_valid(good[i]));
        for (size_t i = 0; i < TEL_ARRAY_LEN(bad); i++)
                assert_false(route_pattern_valid(bad[i]));
        memset(longest, 'a', sizeof(longest));
        longest[0] = '/';
        longest[ROUTE_PATTERN_MAX] = '\0';
        assert_false(route_pattern_valid(longest));
        const char *all[] = { "/ok", longest };
        assert_int_equal(routes_new(&(struct routes_options){ .ignored = all, .n_ignored = 2 }, &r, error), -EINVAL);
        assert_non_null(strstr(error, "pattern '/aaaa"));
        longest[ROUTE_PATTERN_MAX - 1] = '\0';
        r = routes_of(&(struct routes_options){ .patterns = all, .n_patterns = 2 });
        assert_string_equal(route_for(r, 1, longest), longest);
        routes_free(r);
}

/* The eleventh different segment of a place makes it data, what was learned below it goes, and other places stay as they are. */
static void test_children(void **state) {
        struct routes *r = routes_of(&(struct routes_options){ 0 });
        char path[64];
        (void)state;
        for (unsigned i = 0; i < 10; i++) {
                snprintf(path, sizeof(path), "/users/name%c/orders", 'a' + i);
                assert_string_equal(route_for(r, 1, path), path);
        }
        assert_string_equal(route_for(r, 1, "/users/namea/orders"), "/users/namea/orders");
        assert_string_equal(route_for(r, 1, "/users/namek/orders"), "/users/*/orders");
        assert_string_equal(route_for(r, 1, "/users/namea/orders"), "/users/*/orders");
        assert_string_equal(route_for(r, 1, "/other/namea/orders"), "/other/namea/orders");
        assert_string_equal(route_for(r, 2, "/users/namek/orders"), "/users/namek/orders");     /* another process learns for itself */
        assert_string_equal(route_for(r, 1, "/users"), "/users");
        routes_free(r);
        r = routes_of(&(struct routes_options){ .children_max = 2 });
        assert_string_equal(route_for(r, 1, "/a"), "/a");
        assert_string_equal(route_for(r, 1, "/b"), "/b");
        assert_string_equal(route_for(r, 1, "/c"), "/*");
        routes_free(r);
}

/* What was asked for often before stays: an API with many resources keeps the names of those that matter. */
static void test_kept(void **state) {
        struct routes *r = routes_of(&(struct routes_options){ 0 });
        char path[64];
        (void)state;
        for (unsigned i = 0; i < ROUTE_KEEP; i++)
                assert_string_equal(route_for(r, 1, "/orders/list"), "/orders/list");
        for (unsigned i = 0; i < 50; i++) {
                snprintf(path, sizeof(path), "/rare%c%c", 'a' + i / 26, 'a' + i % 26);
                route_for(r, 1, path);
        }
        assert_string_equal(route_for(r, 1, "/orders/list"), "/orders/list");
        assert_string_equal(route_for(r, 1, "/rareaa"), "/*");
        routes_free(r);
}

/* However many different paths come, a process has at most so many routes, and the ones it had stay. */
static void test_distinct(void **state) {
        static char seen[ROUTE_DISTINCT_MAX + 10][ROUTE_MAX];
        struct routes *r = routes_of(&(struct routes_options){ 0 });
        size_t n = 0;
        (void)state;
        for (unsigned i = 0; i < 1000; i++) {
                char path[64];
                size_t k = 0;
                snprintf(path, sizeof(path), "/p%c/q%c/r%c", 'a' + i / 100, 'a' + i / 10 % 10, 'a' + i % 10);
                const char *route = route_for(r, 1, path);
                while (k < n && strcmp(seen[k], route) != 0)
                        k++;
                if (k == n) {
                        assert_true(n < TEL_ARRAY_LEN(seen));
                        strcpy(seen[n++], route);
                }
        }
        assert_int_equal(n, ROUTE_DISTINCT_MAX + 1);
        assert_string_equal(route_for(r, 1, "/pa/qa/ra"), "/pa/qa/ra");
        assert_string_equal(route_for(r, 1, "/pj/qj/rj"), "/*");
        routes_free(r);
}

/* More processes than there is room for: the one quiet longest begins anew, nobody else. */
static void test_owners(void **state) {
        struct routes *r = routes_of(&(struct routes_options){ .children_max = 1 });
        (void)state;
        for (uint64_t owner = 0; owner < ROUTE_OWNERS_MAX; owner++)
                route_for(r, owner, "/first");
        route_for(r, 0, "/first");                 /* now 1 is the one */
        assert_string_equal(route_for(r, 12345, "/second"), "/second");
        assert_string_equal(route_for(r, 0, "/second"), "/*");
        assert_string_equal(route_for(r, 2, "/second"), "/*");
        assert_string_equal(route_for(r, 1, "/second"), "/second");
        routes_free(r);
}

static void test_unmatched(void **state) {
        static const char *const pattern[] = { "/users/{id}" };
        static char longest[2000];
        struct routes_options o = { .patterns = pattern, .n_patterns = 1 };
        struct routes *r;
        (void)state;
        o.unmatched = UNMATCHED_PATH;
        r = routes_of(&o);
        assert_string_equal(route_for(r, 1, "/a//7/?x"), "/a//7/");
        assert_string_equal(route_for(r, 1, "http://h"), "/");
        memset(longest, 'a', sizeof(longest) - 1);
        memcpy(longest, "/first/", 7);
        assert_string_equal(route_for(r, 1, longest), "/first/*");
        routes_free(r);
        o.unmatched = UNMATCHED_WILDCARD;
        r = routes_of(&o);
        assert_string_equal(route_for(r, 1, "/a/7"), "/**");
        routes_free(r);
        o.unmatched = UNMATCHED_UNSET;
        r = routes_of(&o);
        assert_string_equal(route_for(r, 1, "/a/7"), "");
        assert_string_equal(route_for(r, 1, "/users/7"), "/users/{id}");
        routes_free(r);
}

static void test_ignored(void **state) {
        static const char *const ignored[] = { "/health", "/internal/*" };
        static const unsigned want[] = {
                [IGNORE_ALL] = ROUTE_IGNORE_TRACES | ROUTE_IGNORE_METRICS, [IGNORE_TRACES] = ROUTE_IGNORE_TRACES, [IGNORE_METRICS] = ROUTE_IGNORE_METRICS,
        };
        (void)state;
        for (int mode = IGNORE_ALL; mode <= IGNORE_METRICS; mode++) {
                struct routes *r = routes_of(&(struct routes_options){ .ignored = ignored, .n_ignored = 2, .ignore_mode = mode });
                assert_int_equal(route_ignored(r, "/health"), want[mode]);
                assert_int_equal(route_ignored(r, "/health/?probe=1"), want[mode]);
                assert_int_equal(route_ignored(r, "http://h/internal/a/b"), want[mode]);
                assert_int_equal(route_ignored(r, "/internal"), 0);
                assert_int_equal(route_ignored(r, "/healthy"), 0);
                assert_int_equal(route_ignored(r, "*"), 0);
                routes_free(r);
        }
        struct routes *r = routes_of(&(struct routes_options){ 0 });
        assert_int_equal(route_ignored(r, "/health"), 0);
        routes_free(r);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names), cmocka_unit_test(test_data), cmocka_unit_test(test_forms), cmocka_unit_test(test_patterns),
                cmocka_unit_test(test_pattern_validity), cmocka_unit_test(test_children), cmocka_unit_test(test_kept), cmocka_unit_test(test_distinct),
                cmocka_unit_test(test_owners), cmocka_unit_test(test_unmatched), cmocka_unit_test(test_ignored),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
