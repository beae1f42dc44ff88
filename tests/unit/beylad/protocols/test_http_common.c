/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/beylad/protocols/harness.h"

#include "beylad/protocols/http_common.h"

static void test_names(void **state) {
        static const struct {
                const char *name;
                enum http_name expected;
        } rows[] = {
                { "Host", HTTP_HOST }, { "HOST", HTTP_HOST }, { "User-Agent", HTTP_USER_AGENT }, { "traceparent", HTTP_TRACEPARENT },
                { "content-TYPE", HTTP_CONTENT_TYPE }, { "Content-Length", HTTP_CONTENT_LENGTH }, { "Transfer-Encoding", HTTP_TRANSFER_ENCODING },
                { "upgrade", HTTP_UPGRADE }, { "expect", HTTP_EXPECT }, { "", HTTP_OTHER }, { "Hos", HTTP_OTHER }, { "Hosts", HTTP_OTHER },
                { "User_Agent", HTTP_OTHER }, { "tracestate", HTTP_OTHER }, { "Transfer-Encodings-and-more", HTTP_OTHER },
        };
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++)
                assert_int_equal(http_name_of(rows[i].name, strlen(rows[i].name)), rows[i].expected);
        assert_int_equal(http_name_of("Hos\0", 4), HTTP_OTHER);
        assert_true(http_equal("AbC", 3, "abc"));
        assert_false(http_equal("AbC", 3, "abcd"));
        assert_false(http_equal("AbC", 3, "ab"));
        assert_true(http_equal("", 0, ""));
        assert_false(http_equal("@[", 2, "`{"));   /* letters alone have two cases */
}

static void test_grpc(void **state) {
        static const char *const yes[] = { "application/grpc", "application/grpc+proto", "Application/gRPC;charset=utf-8", "application/grpc ; x" };
        static const char *const no[] = { "application/grpc-web", "application/grpc-web+proto", "application/grp", "application/json", "" };
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(yes); i++)
                assert_true(http_is_grpc(yes[i], strlen(yes[i])));
        for (size_t i = 0; i < TEL_ARRAY_LEN(no); i++)
                assert_false(http_is_grpc(no[i], strlen(no[i])));
}

static bool on_begun(void *ctx, struct exchange *x, const struct chunk *at) {
        (void)ctx, (void)x, (void)at;
        return true;
}

static void on_dropped(void *ctx, struct exchange *x, bool counted) {
        (void)ctx, (void)x, (void)counted;
}

static const struct exchange_sink sink = { .begun = on_begun, .dropped = on_dropped };

static const char *or_none(const char *text) {
        return text ? text : "-";
}

static void test_targets(void **state) {
        static const struct {
                const char *target, *path, *query, *host, *scheme;
                bool queries;
        } rows[] = {
                { "/a/b", "/a/b", "-", "-", "-", true },
                { "/a?b?c", "/a", "b?c", "-", "-", true },
                { "/a?b", "/a", "-", "-", "-", false },
                { "/a?", "/a", "", "-", "-", true },
                { "?a", "/", "a", "-", "-", true },
                { "*", "*", "-", "-", "-", true },
                { "//host/a", "//host/a", "-", "-", "-", true },
                { "/http://x/a", "/http://x/a", "-", "-", "-", true },
                { "http://h", "/", "-", "h", "http", true },
                { "HTTPS://h:1/a?b", "/a", "b", "h:1", "https", true },
                { "http://u:p@h/a@b", "/a@b", "-", "h", "http", true },
                { "http://u@p@h/", "/", "-", "h", "http", true },
                { "ws://h/a", "/a", "-", "h", "-", true },
                { "http:/h/a", "http:/h/a", "-", "-", "-", true },
                { "http://", "/", "-", "", "http", true },
                { "", "/", "-", "-", "-", true },
        };
        static const char *const none[] = { NULL };
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++) {
                const struct protocol_options options = { .headers = none, .query = rows[i].queries };
                struct connection c = { .sink = &sink, .refs = 1 };
                struct exchange *x = exchange_begin(&c, EXCHANGE_HTTP, EXCHANGE_SERVER, &(struct chunk){ 0 });
                uint32_t seen = 0;
                http_request_target(x, &options, &seen, rows[i].target, strlen(rows[i].target));
                assert_string_equal(exchange_get(x, FIELD_PATH), rows[i].path);
                assert_string_equal(or_none(exchange_get(x, FIELD_QUERY)), rows[i].query);
                assert_string_equal(or_none(exchange_get(x, FIELD_HOST)), rows[i].host);
                assert_string_equal(or_none(exchange_get(x, FIELD_SCHEME)), rows[i].scheme);
                assert_int_equal(http_request_field(x, &options, &seen, "Host", 4, "other", 5), HTTP_HOST);
                assert_string_equal(exchange_get(x, FIELD_HOST), strcmp(rows[i].host, "-") == 0 ? "other" : rows[i].host);
                c.tls = i % 2 ? TLS_PLAIN : TLS_SEEN;
                http_request_scheme(x);            /* what the request said stands */
                assert_string_equal(exchange_get(x, FIELD_SCHEME), strcmp(rows[i].scheme, "-") != 0 ? rows[i].scheme : i % 2 ? "https" : "http");
                exchange_drop(x, false);
        }
}

/* The second of two traceparents takes the first with it, even one that is not valid; a third changes nothing. */
static void test_traceparents(void **state) {
        static const char *const values[] = { "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "nonsense" };
        static const char *const none[] = { NULL };
        static const struct protocol_options options = { .headers = none };
        (void)state;
        for (unsigned order = 0; order < 8; order++) {
                struct connection c = { .sink = &sink, .refs = 1 };
                struct exchange *x = exchange_begin(&c, EXCHANGE_HTTP, EXCHANGE_SERVER, &(struct chunk){ 0 });
                uint32_t seen = 0;
                for (unsigned i = 0; i < 3; i++) {
                        const char *value = values[order >> i & 1];
                        http_request_field(x, &options, &seen, "Traceparent", 11, value, strlen(value));
                        assert_int_equal(x->parent.present, i == 0 && !(order & 1));
                }
                exchange_drop(x, false);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_grpc),
                cmocka_unit_test(test_targets),
                cmocka_unit_test(test_traceparents),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
