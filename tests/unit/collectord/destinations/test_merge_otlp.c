/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "collectord/destinations/merge_otlp.h"
#include "libtelemetry/otlp_json.h"

#define TEXT_MAX (8u << 20)

static struct tel_buf *wire(const char *json) {
        struct tel_buf *b = tel_buf_new(NULL, 0);
        char error[TEL_OTLP_ERROR_MAX] = "";
        if (tel_otlp_from_json(TEL_LOGS, json, strlen(json), b, TEXT_MAX, error) < 0)
                fail_msg("%s: %s", json, error);
        return b;
}

/* Merges bodies, given as JSON or (when they do not begin with a brace) as raw bytes, and returns the JSON of what came out. */
static char *merged(const char *const *bodies, size_t n, size_t *ret_bytes) {
        struct tel_buf *in[64];
        struct body b = { .pieces = calloc(n, sizeof(struct iovec)) };
        for (size_t i = 0; i < n; i++) {
                in[i] = wire(bodies[i]);
                b.pieces[b.n++] = (struct iovec){ in[i]->data, in[i]->len };
                b.bytes += in[i]->len;
        }
        assert_int_equal(merge_otlp(&b), 0);
        struct tel_buf *out = tel_buf_new(NULL, b.bytes + 1), *text = tel_buf_new(NULL, 0);
        for (size_t i = 0; i < b.n; i++)
                assert_int_equal(tel_buf_append(out, b.pieces[i].iov_base, b.pieces[i].iov_len, TEXT_MAX), 0);
        assert_int_equal(out->len, b.bytes);
        assert_int_equal(tel_otlp_to_json(TEL_MSG_LOGS_REQUEST, out->data, out->len, text, TEXT_MAX), 0);
        char *json = strndup((char *)text->data, text->len);
        if (ret_bytes)
                *ret_bytes = out->len;
        for (size_t i = 0; i < n; i++)
                tel_buf_unref(in[i]);
        tel_buf_unref(out);
        tel_buf_unref(text);
        free(b.pieces);
        free(b.heads);
        return json;
}

static void assert_merged(const char *const *bodies, size_t n, const char *expected) {
        char *json = merged(bodies, n, NULL);
        assert_string_equal(json, expected);
        free(json);
}

#define RES(name) "\"resource\":{\"attributes\":[{\"key\":\"r\",\"value\":{\"stringValue\":\"" name "\"}}]}"
#define SCOPE(name, items) "{\"scope\":{\"name\":\"" name "\"},\"logRecords\":[" items "]}"
#define ITEM(name) "{\"eventName\":\"" name "\"}"
#define X(res, scopes) "{" RES(res) ",\"scopeLogs\":[" scopes "]}"
#define REQ(list) "{\"resourceLogs\":[" list "]}"

/* Equal neighbours become one, on both levels; others stay apart, and the order is kept. */
static void test_merge(void **state) {
        (void)state;
        assert_merged((const char *[]){ REQ(X("a", SCOPE("s", ITEM("1")))), REQ(X("a", SCOPE("s", ITEM("2") "," ITEM("3")))) }, 2,
                      REQ(X("a", SCOPE("s", ITEM("1") "," ITEM("2") "," ITEM("3")))));
        assert_merged((const char *[]){ REQ(X("a", SCOPE("s", ITEM("1")))), REQ(X("a", SCOPE("t", ITEM("2")))), REQ(X("a", SCOPE("t", ITEM("3")))) }, 3,
                      REQ(X("a", SCOPE("s", ITEM("1")) "," SCOPE("t", ITEM("2") "," ITEM("3")))));
        assert_merged((const char *[]){ REQ(X("a", SCOPE("s", ITEM("1")))), REQ(X("b", SCOPE("s", ITEM("2")))), REQ(X("a", SCOPE("s", ITEM("3")))) }, 3,
                      REQ(X("a", SCOPE("s", ITEM("1"))) "," X("b", SCOPE("s", ITEM("2"))) "," X("a", SCOPE("s", ITEM("3")))));
}

/* A schema URL is part of what must be equal. */
static void test_schema(void **state) {
        (void)state;
#define WITH_URL(url) "{" RES("a") ",\"scopeLogs\":[" SCOPE("s", ITEM("1")) "],\"schemaUrl\":\"" url "\"}"
        assert_merged((const char *[]){ REQ(WITH_URL("u")), REQ(WITH_URL("u")), REQ(WITH_URL("v")) }, 3,
                      REQ("{" RES("a") ",\"scopeLogs\":[" SCOPE("s", ITEM("1") "," ITEM("1")) "],\"schemaUrl\":\"u\"}," WITH_URL("v")));
#define SCOPE_URL(url) "{\"scope\":{\"name\":\"s\"},\"logRecords\":[" ITEM("1") "],\"schemaUrl\":\"" url "\"}"
        assert_merged((const char *[]){ REQ(X("a", SCOPE_URL("u"))), REQ(X("a", SCOPE_URL("v"))), REQ(X("a", SCOPE_URL("v"))) }, 3,
                      REQ(X("a", SCOPE_URL("u") ",{\"scope\":{\"name\":\"s\"},\"logRecords\":[" ITEM("1") "," ITEM("1") "],\"schemaUrl\":\"v\"}")));
}

/* Fields in another order, or unknown ones around the items, are left exactly as they came. */
static void test_unusual(void **state) {
        (void)state;
        static const uint8_t unknown[] = { 0x0a, 0x08, 0x12, 0x04, 0x12, 0x02, 0x08, 0x05, 0x20, 0x07 };       /* field 4 of resource_x */
        static const uint8_t late[] = { 0x0a, 0x0a, 0x12, 0x06, 0x12, 0x00, 0x0a, 0x02, 0x0a, 0x00, 0x0a, 0x00 };     /* scope and resource behind */
        const struct { const uint8_t *at; size_t n; } cases[] = { { unknown, sizeof(unknown) }, { late, sizeof(late) } };
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++) {
                struct body b = { .pieces = calloc(2, sizeof(struct iovec)), .n = 2, .bytes = 2 * cases[i].n };
                b.pieces[0] = b.pieces[1] = (struct iovec){ (void *)cases[i].at, cases[i].n };
                assert_int_equal(merge_otlp(&b), 0);
                assert_int_equal(b.bytes, 2 * cases[i].n);
                assert_null(b.heads);
                free(b.pieces);
        }
}

/* Many small requests of two programs, at random: what comes out is what a plain model merges, and it is much smaller. */
static void test_random(void **state) {
        (void)state;
        srand(11);
        for (unsigned round = 0; round < 300; round++) {
                char *bodies[60], expected[40000] = "{\"resourceLogs\":[";
                size_t n = 1 + (size_t)rand() % 60, sum = 0, out;
                int last_r = -1, last_s = -1;
                for (size_t i = 0; i < n; i++) {
                        int r = rand() % 5 == 0, s = rand() % 4 == 0, items = 1 + rand() % 3;
                        char list[400] = "", body[800];
                        for (int k = 0; k < items; k++)
                                sprintf(list + strlen(list), "%s{\"eventName\":\"%zu.%d\"}", k ? "," : "", i, k);
                        sprintf(body, "{\"resourceLogs\":[{\"resource\":{\"droppedAttributesCount\":%d},\"scopeLogs\":[{\"scope\":{\"name\":\"%d\"},\"logRecords\":[%s]}]}]}",
                                r + 1, s, list);
                        bodies[i] = strdup(body);
                        if (r == last_r && s == last_s)
                                sprintf(expected + strlen(expected), ",%s", list);
                        else if (r == last_r)
                                sprintf(expected + strlen(expected), "]},{\"scope\":{\"name\":\"%d\"},\"logRecords\":[%s", s, list);
                        else
                                sprintf(expected + strlen(expected), "%s{\"resource\":{\"droppedAttributesCount\":%d},\"scopeLogs\":[{\"scope\":{\"name\":\"%d\"},\"logRecords\":[%s",
                                        i ? "]}]}," : "", r + 1, s, list);
                        last_r = r;
                        last_s = s;
                        sum += strlen(body);
                }
                strcat(expected, "]}]}]}");
                char *json = merged((const char *const *)bodies, n, &out);
                assert_string_equal(json, expected);
                assert_true(out < sum);
                free(json);
                for (size_t i = 0; i < n; i++)
                        free(bodies[i]);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_merge), cmocka_unit_test(test_schema), cmocka_unit_test(test_unusual), cmocka_unit_test(test_random),
        };
        return cmocka_run_group_tests_name("merge_otlp", tests, NULL, NULL);
}
