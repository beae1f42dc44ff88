/* SPDX-License-Identifier: Apache-2.0 */
#include <float.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>
#include "libtelemetry/json.h"

/* The tokens of text, a letter each, up to the first error (!) or the end (.). */
static void tokens(const char *text, char *ret, size_t room) {
        static const char letters[] = {
                [TEL_JSON_ERROR] = '!', [TEL_JSON_END] = '.', [TEL_JSON_OBJECT] = '{', [TEL_JSON_OBJECT_END] = '}',
                [TEL_JSON_ARRAY] = '[', [TEL_JSON_ARRAY_END] = ']', [TEL_JSON_KEY] = 'k', [TEL_JSON_STRING] = 's',
                [TEL_JSON_NUMBER] = '0', [TEL_JSON_TRUE] = 't', [TEL_JSON_FALSE] = 'f', [TEL_JSON_NULL] = 'n',
        };
        struct tel_json j;
        tel_json_init(&j, text, strlen(text));
        for (size_t i = 0; i + 1 < room; i++) {
                enum tel_json_token token = tel_json_next(&j);
                ret[i] = letters[token];
                ret[i + 1] = '\0';
                if (token == TEL_JSON_ERROR || token == TEL_JSON_END) {
                        assert_int_equal(tel_json_next(&j), token);
                        return;
                }
        }
}

static void expect_tokens(const char *text, const char *wanted) {
        char got[64];
        tokens(text, got, sizeof(got));
        if (strcmp(got, wanted) != 0)
                fail_msg("%s: %s, wanted %s", text, got, wanted);
}

/* Every kind of value comes as its token, with blanks between them or without, and the end stays the end. */
static void test_tokens(void **state) {
        (void)state;
        expect_tokens("{}", "{}.");
        expect_tokens(" [ ] \r\n\t", "[].");
        expect_tokens("{\"a\":1,\"b\":[true,false,null],\"c\":{\"d\":\"e\"}}", "{k0k[tfn]k{ks}}.");
        expect_tokens(" { \"a\" : -1.5e+3 , \"b\" : [ ] } ", "{k0k[]}.");
        expect_tokens("\"alone\"", "s.");
        expect_tokens("0", "0.");
}

/* What RFC 8259 does not allow is an error where it stands. */
static void test_malformed(void **state) {
        static const char *const texts[] = {
                "", " ", "{", "[", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "{,}", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{\"a\" 1}", "{a:1}",
                "{1:1}", "{\"a\":1]", "[1}", "{} {}", "1 2", "]", "}", "tru", "truex", "nul", "True", "NaN", "'a'", "01", "-", "-a", "1.", ".5",
                "1e", "1e+", "+1", "0x1", "\"", "\"a", "\"\\", "\"\\\"", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"a\nb\"", "\"\x01\"", "\"\x80\"",
                "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xe2\x82\"", "\"12345678\xff\"", "\xef\xbb\xbf{}", "// no\n{}",
        };
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(texts); i++) {
                char got[64];
                tokens(texts[i], got, sizeof(got));
                if (got[strlen(got) - 1] != '!')
                        fail_msg("%s: no error: %s", texts[i], got);
        }
}

/* A NUL inside the length is a byte like any other, and none that may follow a document or stand in a string. */
static void test_nul_is_no_end(void **state) {
        struct tel_json j;
        (void)state;
        tel_json_init(&j, "{}\0", 3);
        assert_int_equal(tel_json_next(&j), TEL_JSON_OBJECT);
        assert_int_equal(tel_json_next(&j), TEL_JSON_OBJECT_END);
        assert_int_equal(tel_json_next(&j), TEL_JSON_ERROR);
        tel_json_init(&j, "\"a\0b\"", 5);
        assert_int_equal(tel_json_next(&j), TEL_JSON_ERROR);
        tel_json_init(&j, "\"\\\0\"", 4);
        assert_int_equal(tel_json_next(&j), TEL_JSON_ERROR);
        tel_json_init(&j, NULL, 0);
        assert_int_equal(tel_json_next(&j), TEL_JSON_ERROR);
}

/* As many levels as the stack has are fine, one more is an error. */
static void test_depth(void **state) {
        char text[2 * TEL_JSON_DEPTH_MAX + 2];
        struct tel_json j;
        (void)state;
        memset(text, '[', TEL_JSON_DEPTH_MAX + 1);
        memset(text + TEL_JSON_DEPTH_MAX, ']', TEL_JSON_DEPTH_MAX);
        tel_json_init(&j, text, 2 * TEL_JSON_DEPTH_MAX);
        assert_int_equal(tel_json_skip(&j, tel_json_next(&j)), 0);
        assert_int_equal(tel_json_next(&j), TEL_JSON_END);
        memset(text, '[', TEL_JSON_DEPTH_MAX + 1);
        tel_json_init(&j, text, TEL_JSON_DEPTH_MAX + 1);
        assert_int_equal(tel_json_skip(&j, tel_json_next(&j)), -EBADMSG);
        assert_string_equal(j.error, "objects and arrays are nested too deep");
}

/* Skipping leaves the reader behind the value, whatever it is, also from its key. */
static void test_skip(void **state) {
        static const char text[] = "[{\"a\":[1,{\"b\":[]}],\"c\":{}},\"x\",2]";
        struct tel_json j;
        (void)state;
        tel_json_init(&j, text, strlen(text));
        assert_int_equal(tel_json_next(&j), TEL_JSON_ARRAY);
        assert_int_equal(tel_json_next(&j), TEL_JSON_OBJECT);
        assert_int_equal(tel_json_skip(&j, tel_json_next(&j)), 0);
        assert_int_equal(tel_json_next(&j), TEL_JSON_KEY);
        assert_true(tel_json_key_is(&j, "c"));
        assert_int_equal(tel_json_skip(&j, tel_json_next(&j)), 0);
        assert_int_equal(tel_json_next(&j), TEL_JSON_OBJECT_END);
        assert_int_equal(tel_json_skip(&j, tel_json_next(&j)), 0);
        assert_int_equal(tel_json_skip(&j, tel_json_next(&j)), 0);
        assert_int_equal(tel_json_skip(&j, tel_json_next(&j)), -EBADMSG);
        assert_int_equal(tel_json_next(&j), TEL_JSON_END);
}

/* Errors and tokens are found by line and column. */
static void test_where(void **state) {
        static const char text[] = "{\n  \"a\": 1,\n  \"b\": \"x\xff\"\n}";
        struct tel_json j;
        unsigned line, column;
        (void)state;
        tel_json_init(&j, text, strlen(text));
        tel_json_next(&j);
        tel_json_next(&j);
        tel_json_next(&j);
        tel_json_where(&j, &line, &column);
        assert_int_equal(line, 2);
        assert_int_equal(column, 8);
        tel_json_next(&j);
        assert_int_equal(tel_json_next(&j), TEL_JSON_ERROR);
        tel_json_where(&j, &line, &column);
        assert_int_equal(line, 3);
        assert_int_equal(column, 10);
        assert_string_equal(j.error, "a string is not UTF-8");
}

static void expect_unescaped(const char *text, const char *wanted, size_t n) {
        char got[64];
        assert_int_equal(tel_json_unescape(text, strlen(text), got), n);
        assert_memory_equal(got, wanted, n);
}

/* Escapes become their characters, halves of a pair one character, and U+0000 a byte. */
static void test_unescape(void **state) {
        char out[16];
        (void)state;
        expect_unescaped("", "", 0);
        expect_unescaped("plain text", "plain text", 10);
        expect_unescaped("\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t", 8);
        expect_unescaped("a\\u0000b", "a\0b", 3);
        expect_unescaped("\\u00e9\\u20AC\\ud83d\\uDE00", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9);
        expect_unescaped("\xc3\xa9", "\xc3\xa9", 2);
        assert_int_equal(tel_json_unescape("\\ud83d", 6, out), -EBADMSG);
        assert_int_equal(tel_json_unescape("\\ud83dx", 7, out), -EBADMSG);
        assert_int_equal(tel_json_unescape("\\ud83d\\n", 8, out), -EBADMSG);
        assert_int_equal(tel_json_unescape("\\ud83d\\u0041", 12, out), -EBADMSG);
        assert_int_equal(tel_json_unescape("\\ude00", 6, out), -EBADMSG);
        assert_int_equal(tel_json_unescape("\\q", 2, out), -EBADMSG);
        assert_int_equal(tel_json_unescape("\\u00", 4, out), -EBADMSG);
        assert_int_equal(tel_json_unescape("\\", 1, out), -EBADMSG);
        assert_int_equal(tel_json_unescape("\xff", 1, out), -EBADMSG);
}

static bool first_key_is(const char *text, const char *name) {
        struct tel_json j;
        tel_json_init(&j, text, strlen(text));
        assert_int_equal(tel_json_next(&j), TEL_JSON_OBJECT);
        assert_int_equal(tel_json_next(&j), TEL_JSON_KEY);
        return tel_json_key_is(&j, name);
}

/* A key is its characters, however they are spelled; never a prefix. */
static void test_key_is(void **state) {
        (void)state;
        assert_true(first_key_is("{\"name\":1}", "name"));
        assert_true(first_key_is("{\"n\\u0061me\":1}", "name"));
        assert_false(first_key_is("{\"n\\u0061m\":1}", "name"));
        assert_false(first_key_is("{\"n\\u0061mes\":1}", "name"));
        assert_false(first_key_is("{\"nam\":1}", "name"));
        assert_false(first_key_is("{\"names\":1}", "name"));
        assert_true(first_key_is("{\"\":1}", ""));
}

static void expect_integer(const char *text, int wanted, bool negative, uint64_t magnitude) {
        bool got_negative = false;
        uint64_t got = 0;
        int r = tel_json_integer(text, strlen(text), &got_negative, &got);
        if (r != wanted || got_negative != negative || got != magnitude)
                fail_msg("%s: %d %d %llu", text, r, got_negative, (unsigned long long)got);
}

/* Integers are exact over 64 bits in every spelling; fractions and more bits are no integers. */
static void test_integer(void **state) {
        (void)state;
        expect_integer("0", 0, false, 0);
        expect_integer("-0", 0, false, 0);
        expect_integer("0.000e-400", 0, false, 0);
        expect_integer("18446744073709551615", 0, false, UINT64_MAX);
        expect_integer("18446744073709551616", -ERANGE, false, 0);
        expect_integer("-9223372036854775808", 0, true, (uint64_t)INT64_MAX + 1);
        expect_integer("1e3", 0, false, 1000);
        expect_integer("1.0", 0, false, 1);
        expect_integer("1.2300E+2", 0, false, 123);
        expect_integer("12300e-2", 0, false, 123);
        expect_integer("1844674407370955161.5e1", 0, false, UINT64_MAX);
        expect_integer("1844674407370955161500000000e-8", 0, false, UINT64_MAX);
        expect_integer("1844674407370955161500000000e-7", -ERANGE, false, 0);
        expect_integer("1000000000000000000000000000e-27", 0, false, 1);
        expect_integer("1.5", -ERANGE, false, 0);
        expect_integer("1e-1", -ERANGE, false, 0);
        expect_integer("1e20", -ERANGE, false, 0);
        expect_integer("1e99999999999999999999", -ERANGE, false, 0);
        expect_integer("0e99999999999999999999", 0, false, 0);
        expect_integer("", -EBADMSG, false, 0);
        expect_integer(" 1", -EBADMSG, false, 0);
        expect_integer("1 ", -EBADMSG, false, 0);
        expect_integer("01", -EBADMSG, false, 0);
        expect_integer("0x10", -EBADMSG, false, 0);
        expect_integer("abc", -EBADMSG, false, 0);
}

static void expect_double(const char *text, double wanted) {
        double got = -12345;
        assert_int_equal(tel_json_double(text, strlen(text), &got), 0);
        if (memcmp(&got, &wanted, sizeof(got)) != 0)
                fail_msg("%s: %.17g", text, got);
}

/* Doubles are rounded once, to the nearest, even where only the 700th digit decides. */
static void test_double(void **state) {
        char text[1200];
        double v;
        (void)state;
        expect_double("0", 0.0);
        expect_double("-0", -0.0);
        expect_double("0.1", 0.1);
        expect_double("-12.5e-1", -1.25);
        expect_double("9007199254740993", 9007199254740992.0);
        expect_double("9007199254740993.0000000000000000000001", 9007199254740994.0);
        expect_double("1.7976931348623157e308", DBL_MAX);
        expect_double("4.9406564584124654e-324", 0x1p-1074);
        expect_double("1e-400", 0.0);
        expect_double("0.30000000000000004", 0.1 + 0.2);
        expect_double("123456789012345678901234567890", 123456789012345678901234567890.0);
        expect_double("0e999999999999", 0.0);
        /* Halfway between 1 and the next double, and a digit a thousand places further. */
        int n = snprintf(text, sizeof(text), "1.00000000000000011102230246251565404236316680908203125");
        expect_double(text, 1.0);
        memset(text + n, '0', 1000);
        memcpy(text + n + 1000, "1", 2);
        expect_double(text, 1.0 + DBL_EPSILON);
        assert_int_equal(tel_json_double("1e400", 5, &v), -ERANGE);
        assert_int_equal(tel_json_double("-1e99999999999", 14, &v), -ERANGE);
        assert_int_equal(tel_json_double("NaN", 3, &v), -EBADMSG);
        assert_int_equal(tel_json_double("1,5", 3, &v), -EBADMSG);
        assert_int_equal(tel_json_double("", 0, &v), -EBADMSG);
}

static void expect_double_text(double v, const char *wanted) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = tel_buf_new(NULL, 0);
        assert_int_equal(tel_json_double_put(out, v, 64), 0);
        if (out->len != strlen(wanted) || memcmp(out->data, wanted, out->len) != 0)
                fail_msg("%.17g: %.*s, wanted %s", v, (int)out->len, (const char *)out->data, wanted);
        expect_double(wanted, v);
}

/* Doubles are written with the fewest digits that read back the same. */
static void test_double_put(void **state) {
        (void)state;
        expect_double_text(0, "0");
        expect_double_text(-0.0, "-0.0");
        expect_double_text(1, "1");
        expect_double_text(-1200, "-1200");
        expect_double_text(12.5, "12.5");
        expect_double_text(0.1, "0.1");
        expect_double_text(0.00125, "0.00125");
        expect_double_text(0.00001, "0.00001");
        expect_double_text(0.000001, "1e-6");
        expect_double_text(0.1 + 0.2, "0.30000000000000004");
        expect_double_text(9007199254740993.0, "9007199254740992");
        expect_double_text(12345678901234568.0, "12345678901234568");
        expect_double_text(1e16, "10000000000000000");
        expect_double_text(1e17, "1e17");
        expect_double_text(1.5e300, "1.5e300");
        expect_double_text(DBL_MAX, "1.7976931348623157e308");
        expect_double_text(0x1p-1074, "5e-324");
}

/* A locale with a comma changes nothing. Where none is installed, there is nothing to see. */
static void test_locale(void **state) {
        (void)state;
        if (!setlocale(LC_ALL, "de_DE.UTF-8") && !setlocale(LC_ALL, "fr_FR.UTF-8"))
                skip();
        expect_double_text(0.30000000000000004, "0.30000000000000004");
        expect_double_text(1.5e300, "1.5e300");
        setlocale(LC_ALL, "C");
}

static void expect_quoted(const char *bytes, size_t n, const char *wanted) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = tel_buf_new(NULL, 0);
        assert_int_equal(tel_json_string_put(out, bytes, n, 256), 0);
        assert_int_equal(out->len, strlen(wanted));
        assert_memory_equal(out->data, wanted, out->len);
}

/* Whatever bytes a string has, what is written is one line of JSON in UTF-8. */
static void test_string_put(void **state) {
        (void)state;
        expect_quoted("", 0, "\"\"");
        expect_quoted("a longer plain text", 19, "\"a longer plain text\"");
        expect_quoted("\"\\/\b\f\n\r\t", 8, "\"\\\"\\\\/\\b\\f\\n\\r\\t\"");
        expect_quoted("a\0b\x1f\x7f", 5, "\"a\\u0000b\\u001f\x7f\"");
        expect_quoted("\xc3\xa9\xf0\x9f\x98\x80", 6, "\"\xc3\xa9\xf0\x9f\x98\x80\"");
        expect_quoted("a\xff\xc3(\xe2\x82", 6, "\"a\xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbd\"");
}

/* Output ends at its limit with an error. */
static void test_string_put_bounded(void **state) {
        (void)state;
        for (size_t max = 0; max < 9; max++) {
                TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = tel_buf_new(NULL, 0);
                assert_int_equal(tel_json_string_put(out, "ab\x01", 3, max), -EMSGSIZE);
                assert_true(out->len <= max);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_tokens), cmocka_unit_test(test_malformed), cmocka_unit_test(test_nul_is_no_end),
                cmocka_unit_test(test_depth), cmocka_unit_test(test_skip), cmocka_unit_test(test_where),
                cmocka_unit_test(test_unescape), cmocka_unit_test(test_key_is), cmocka_unit_test(test_integer),
                cmocka_unit_test(test_double), cmocka_unit_test(test_double_put), cmocka_unit_test(test_locale),
                cmocka_unit_test(test_string_put), cmocka_unit_test(test_string_put_bounded),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
