/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "libtelemetry/cursor.h"

/* Fixed-width fields lie as their names say and read back what was put. */
static void test_fixed_width(void **state) {
        (void)state;
        uint8_t b[8];
        tel_be16_put(b, 0x0102);
        assert_memory_equal(b, "\x01\x02", 2);
        assert_int_equal(tel_be16_get(b), 0x0102);
        tel_be32_put(b, 0x01020304);
        assert_memory_equal(b, "\x01\x02\x03\x04", 4);
        assert_int_equal(tel_be32_get(b), 0x01020304);
        tel_be64_put(b, 0x0102030405060708);
        assert_memory_equal(b, "\x01\x02\x03\x04\x05\x06\x07\x08", 8);
        assert_int_equal(tel_be64_get(b), 0x0102030405060708);
        tel_le32_put(b, 0x01020304);
        assert_memory_equal(b, "\x04\x03\x02\x01", 4);
        assert_int_equal(tel_le32_get(b), 0x01020304);
        tel_le64_put(b, 0x0102030405060708);
        assert_memory_equal(b, "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
        assert_int_equal(tel_le64_get(b), 0x0102030405060708);
        memset(b, 0xff, sizeof(b));
        assert_int_equal(tel_be16_get(b), UINT16_MAX);
        assert_int_equal(tel_be32_get(b), UINT32_MAX);
}

/* Around every power of two: the length is as promised, the value comes back, and no shorter input is taken. */
static void test_varint_round_trip(void **state) {
        (void)state;
        for (unsigned bit = 0; bit <= 64; bit++)
                for (int around = -1; around <= 1; around++) {
                        uint64_t v = (bit == 64 ? 0 : 1ull << bit) + (uint64_t)(int64_t)around, got = ~v;
                        uint8_t b[TEL_VARINT_MAX];
                        uint8_t *end = tel_varint_put(b, v);
                        size_t n = (size_t)(end - b);
                        assert_int_equal(n, tel_varint_len(v));
                        for (size_t cut = 0; cut < n; cut++)
                                assert_null(tel_varint_get(b, b + cut, &got));
                        assert_ptr_equal(tel_varint_get(b, end, &got), end);
                        assert_true(got == v);
                }
}

/* Ten bytes hold 64 bits and no more; an eleventh byte is never read. Padded forms are legal protobuf. */
static void test_varint_limits(void **state) {
        (void)state;
        static const uint8_t most[] = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", over[] = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
                             longer[] = "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", padded[] = "\x81\x80\x80\x00";
        uint64_t v = 7;
        assert_ptr_equal(tel_varint_get(most, most + 10, &v), most + 10);
        assert_true(v == UINT64_MAX);
        v = 7;
        assert_null(tel_varint_get(over, over + 10, &v));
        assert_null(tel_varint_get(longer, longer + 11, &v));
        assert_int_equal(v, 7);                    /* written on success only */
        assert_ptr_equal(tel_varint_get(padded, padded + 4, &v), padded + 4);
        assert_int_equal(v, 1);
}

static struct tel_field field_of(const char *bytes, size_t n) {
        struct tel_field f = { 0 };
        const uint8_t *p = (const uint8_t *)bytes;
        for (size_t cut = 0; cut < n; cut++)       /* whatever is cut short is refused */
                assert_int_equal(tel_field_get(p, p + cut, &f), -EBADMSG);
        assert_int_equal(f.number, 0);
        assert_int_equal(tel_field_get(p, p + n, &f), 0);
        assert_ptr_equal(f.end, p + n);
        return f;
}

/* Each wire type gives its number, value, first byte and end. */
static void test_field_kinds(void **state) {
        (void)state;
        struct tel_field f = field_of("\x08\x96\x01", 3);
        assert_int_equal(f.number, 1);
        assert_int_equal(f.wire, TEL_WIRE_VARINT);
        assert_int_equal(f.value, 150);
        f = field_of("\x11\x01\x00\x00\x00\x00\x00\x00\x80", 9);
        assert_int_equal(f.number, 2);
        assert_int_equal(f.wire, TEL_WIRE_FIXED64);
        assert_true(f.value == 0x8000000000000001);
        f = field_of("\x1a\x03" "abc", 5);
        assert_int_equal(f.number, 3);
        assert_int_equal(f.wire, TEL_WIRE_BYTES);
        assert_int_equal(f.value, 3);
        assert_memory_equal(f.at, "abc", 3);
        f = field_of("\x25\xff\xff\xff\xff", 5);
        assert_int_equal(f.number, 4);
        assert_int_equal(f.wire, TEL_WIRE_FIXED32);
        assert_int_equal(f.value, UINT32_MAX);
        f = field_of("\xf8\xff\xff\xff\x0f\x00", 6);       /* the highest number protobuf has */
        assert_int_equal(f.number, (1u << 29) - 1);
        f = field_of("\x22\x00", 2);
        assert_int_equal(f.value, 0);
}

/* Number 0, groups, unknown wire types, numbers past 29 bits and lengths past the end are refused. */
static void test_field_refused(void **state) {
        (void)state;
        static const struct {
                const char *bytes;
                size_t n;
        } bad[] = {
                { "\x00\x00", 2 }, { "\x02\x00", 2 }, { "\x0b", 1 }, { "\x0c", 1 }, { "\x0e\x00", 2 }, { "\x0f\x00", 2 },
                { "\x80\x80\x80\x80\x10\x00", 6 }, { "\x0a\x05" "abcd", 6 }, { "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11 }, { "", 0 },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(bad); i++) {
                struct tel_field f = { .number = 77 };
                const uint8_t *p = (const uint8_t *)bad[i].bytes;
                assert_int_equal(tel_field_get(p, p + bad[i].n, &f), -EBADMSG);
                assert_int_equal(f.number, 77);
        }
}

/* The head of a length-delimited field takes the bytes that its length says and reads back. */
static void test_bytes_head(void **state) {
        (void)state;
        static const size_t lengths[] = { 0, 1, 127, 128, 16383, 16384, 1u << 20 };
        static const uint32_t numbers[] = { 1, 15, 16, 2047, 2048, (1u << 29) - 1 };
        for (size_t i = 0; i < TEL_ARRAY_LEN(lengths); i++)
                for (size_t k = 0; k < TEL_ARRAY_LEN(numbers); k++) {
                        uint8_t b[2 * TEL_VARINT_MAX];
                        uint8_t *end = tel_bytes_head_put(b, numbers[k], lengths[i]);
                        uint64_t tag, len;
                        assert_int_equal(end - b, tel_bytes_head_len(numbers[k], lengths[i]));
                        assert_ptr_equal(tel_varint_get(tel_varint_get(b, end, &tag), end, &len), end);
                        assert_int_equal(tag, (uint64_t)numbers[k] << 3 | TEL_WIRE_BYTES);
                        assert_int_equal(len, lengths[i]);
                }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_fixed_width),
                cmocka_unit_test(test_varint_round_trip),
                cmocka_unit_test(test_varint_limits),
                cmocka_unit_test(test_field_kinds),
                cmocka_unit_test(test_field_refused),
                cmocka_unit_test(test_bytes_head),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
