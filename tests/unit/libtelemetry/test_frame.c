/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "libtelemetry/cursor.h"
#include "libtelemetry/frame.h"
#include "libtelemetry/otlp.h"

/* One frame of each kind, written by a program of its own from docs/protocol.md: what no release may change. */
static const struct golden {
        uint8_t kind;
        uint64_t sequence;
        uint32_t len;
        const char *hex;
} golden[] = {
        { TEL_FRAME_HELLO, 0, 42,
          "544c4d46010100000000002a3de9688d00000000000000000a066261636b75701203312e321a06686f73742d61209221"
          "2a10000102030405060708090a0b0c0d0e0f"
        },
        { TEL_FRAME_TRACES, 1, 87,
          "544c4d460102000000000057e4b3f0f300000000000000010a550a1a0a180a0c736572766963652e6e616d6512080a06"
          "6261636b7570123712350a100102030405060708090a0b0c0d0e0f10120811121314151617182a0372756e3001390000"
          "2a36fe9c9717410065f753fe9c9717"
        },
        { TEL_FRAME_METRICS, 2, 63,
          "544c4d46010300000000003f39b667b500000000000000020a3d0a1a0a180a0c736572766963652e6e616d6512080a06"
          "6261636b7570121f121d0a0566696c65732a140a121900002a36fe9c971721000000000000f83f"
        },
        { TEL_FRAME_LOGS, 3, 74,
          "544c4d46010400000000004a8064014300000000000000030a480a1a0a180a0c736572766963652e6e616d6512080a06"
          "6261636b7570122a12280900002a36fe9c971710111a056572726f722a0b0a096469736b2066756c6c5900002a36fe9c"
          "9717"
        },
        { TEL_FRAME_PROFILE, 4, 51,
          "544c4d460105000000000033acb04c4000000000000000040a066261636b7570120c0a06726567696f6e120265751900"
          "002a36fe9c97172100e4358a009d97172a057070726f6632020a00"
        },
        { TEL_FRAME_STATUS, 0, 14,
          "544c4d46010600000000000e0e03e9b60000000000000000080310b009180220ac022a026f6b"
        },
        { TEL_FRAME_ACK, 4, 0,
          "544c4d460107000000000000000000000000000000000004"
        },
        { TEL_FRAME_ERROR, 0, 20,
          "544c4d460108000000000014821430490000000000000000080910071a0e6d616c666f726d656420626f6479"
        },
        { TEL_FRAME_BYE, 0, 0,
          "544c4d460109000000000000000000000000000000000000"
        },
};

static size_t unhex(const char *hex, uint8_t *out) {
        size_t n = 0;
        for (unsigned byte; sscanf(hex + 2 * n, "%2x", &byte) == 1; n++)
                out[n] = (uint8_t)byte;
        return n;
}

static const struct golden *golden_of(uint8_t kind) {
        for (size_t i = 0; i < TEL_ARRAY_LEN(golden); i++)
                if (golden[i].kind == kind)
                        return &golden[i];
        fail();
        return NULL;
}

/* The frame of kind with this body is, byte for byte, the golden one. */
static void assert_golden(uint8_t kind, const void *body, size_t n) {
        uint8_t want[256], head[TEL_FRAME_HEAD];
        const struct golden *g = golden_of(kind);
        size_t len = unhex(g->hex, want);
        tel_frame_head(head, kind, g->sequence, body, (uint32_t)n);
        assert_int_equal(len, sizeof(head) + n);
        assert_memory_equal(want, head, sizeof(head));
        if (n > 0)
                assert_memory_equal(want + sizeof(head), body, n);
}

static const struct tel_frame_hello hello = {
        .name = "backup", .version = "1.2", .host = "host-a", .pid = 4242, .epoch = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 },
};
static const struct tel_frame_status status = {
        .dropped_frames = 3, .dropped_bytes = 1200, .waiting_frames = 2, .waiting_bytes = 300, .text = "ok",
};
static const struct tel_frame_error_body error = { .code = TEL_FRAME_ERROR_BODY, .sequence = 7, .text = "malformed body" };

/* Every golden frame parses, one byte at a time too, and is reported with its last byte. */
static void test_golden_parse(void **state) {
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(golden); i++) {
                uint8_t wire[256];
                enum tel_frame_error e;
                size_t n = unhex(golden[i].hex, wire);
                for (size_t cut = 0; cut < n; cut++) {
                        struct tel_frame f = { .body = wire };
                        assert_int_equal(tel_frame_parse(wire, cut, &f, &e), TEL_FRAME_MORE);
                        assert_int_equal(f.len, cut < TEL_FRAME_HEAD ? 0 : golden[i].len);
                        assert_int_equal(f.kind, cut < TEL_FRAME_HEAD ? 0 : golden[i].kind);
                }
                struct tel_frame f;
                assert_int_equal(tel_frame_parse(wire, n, &f, &e), 0);
                assert_int_equal(f.kind, golden[i].kind);
                assert_int_equal(f.sequence, golden[i].sequence);
                assert_int_equal(f.len, golden[i].len);
                assert_ptr_equal(f.body, wire + TEL_FRAME_HEAD);
                assert_int_equal(tel_frame_parse(wire, n + 1, &f, &e), 0);     /* what follows is the next frame's matter */
        }
}

/* Our encoders write the golden bytes. */
static void test_golden_encode(void **state) {
        (void)state;
        uint8_t body[TEL_FRAME_SMALL_MAX];
        assert_golden(TEL_FRAME_HELLO, body, tel_frame_hello_put(body, &hello));
        assert_golden(TEL_FRAME_STATUS, body, tel_frame_status_put(body, &status));
        assert_golden(TEL_FRAME_ERROR, body, tel_frame_error_put(body, &error));
        assert_golden(TEL_FRAME_ACK, NULL, 0);
        assert_golden(TEL_FRAME_BYE, NULL, 0);

        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *b = tel_buf_new(NULL, 0);
        struct tel_span span = { .service = "backup", .name = "run", .kind = 1,
                                 .start_ns = 1700000000000000000, .end_ns = 1700000000500000000 };
        for (uint8_t i = 0; i < 16; i++)
                span.trace_id[i] = (uint8_t)(i + 1);
        for (uint8_t i = 0; i < 8; i++)
                span.span_id[i] = (uint8_t)(i + 0x11);
        assert_int_equal(tel_otlp_span_put(b, &span, 4096), 0);
        assert_golden(TEL_FRAME_TRACES, b->data, b->len);
        b->len = 0;
        assert_int_equal(tel_otlp_log_put(b, &(struct tel_log){ .service = "backup", .body = "disk full", .level = "error",
                                                                .time_ns = 1700000000000000000 }, 4096), 0);
        assert_golden(TEL_FRAME_LOGS, b->data, b->len);
}

/* The bodies of the golden frames read back as what was meant. */
static void test_golden_decode(void **state) {
        (void)state;
        uint8_t w[256];
        struct tel_frame_hello h;
        struct tel_frame_status s;
        struct tel_frame_error_body e;
        size_t n = unhex(golden_of(TEL_FRAME_HELLO)->hex, w);
        assert_int_equal(tel_frame_hello_get(w + TEL_FRAME_HEAD, n - TEL_FRAME_HEAD, &h), 0);
        assert_memory_equal(&h, &hello, sizeof(h));
        n = unhex(golden_of(TEL_FRAME_STATUS)->hex, w);
        assert_int_equal(tel_frame_status_get(w + TEL_FRAME_HEAD, n - TEL_FRAME_HEAD, &s), 0);
        assert_memory_equal(&s, &status, sizeof(s));
        n = unhex(golden_of(TEL_FRAME_ERROR)->hex, w);
        assert_int_equal(tel_frame_error_get(w + TEL_FRAME_HEAD, n - TEL_FRAME_HEAD, &e), 0);
        assert_int_equal(e.code, error.code);
        assert_int_equal(e.sequence, error.sequence);
        assert_string_equal(e.text, error.text);
}

/* A byte that cannot be right is refused as soon as it is there, with its own number, and not a byte earlier. */
static void test_refused_at_first_wrong_byte(void **state) {
        (void)state;
        static const struct {
                uint8_t kind;
                size_t at;
                uint8_t value;
                enum tel_frame_error error;
        } cases[] = {
                { TEL_FRAME_LOGS, 0, 'X', TEL_FRAME_ERROR_MAGIC }, { TEL_FRAME_LOGS, 1, 'X', TEL_FRAME_ERROR_MAGIC },
                { TEL_FRAME_LOGS, 3, 'f', TEL_FRAME_ERROR_MAGIC }, { TEL_FRAME_LOGS, 4, 0, TEL_FRAME_ERROR_VERSION },
                { TEL_FRAME_LOGS, 4, 2, TEL_FRAME_ERROR_VERSION }, { TEL_FRAME_LOGS, 5, 0, TEL_FRAME_ERROR_KIND },
                { TEL_FRAME_LOGS, 5, 10, TEL_FRAME_ERROR_KIND }, { TEL_FRAME_LOGS, 5, 255, TEL_FRAME_ERROR_KIND },
                { TEL_FRAME_LOGS, 6, 1, TEL_FRAME_ERROR_FLAGS }, { TEL_FRAME_LOGS, 7, 1, TEL_FRAME_ERROR_FLAGS },
                { TEL_FRAME_LOGS, 8, 2, TEL_FRAME_ERROR_LENGTH }, { TEL_FRAME_STATUS, 9, 1, TEL_FRAME_ERROR_LENGTH },
                { TEL_FRAME_HELLO, 10, 5, TEL_FRAME_ERROR_LENGTH }, { TEL_FRAME_BYE, 11, 1, TEL_FRAME_ERROR_LENGTH },
                { TEL_FRAME_ACK, 11, 1, TEL_FRAME_ERROR_LENGTH },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++) {
                uint8_t wire[TEL_FRAME_HEAD];
                tel_frame_head(wire, cases[i].kind, 1, NULL, 0);
                wire[cases[i].at] = cases[i].value;
                for (size_t n = 0; n <= sizeof(wire); n++) {
                        struct tel_frame f;
                        enum tel_frame_error e = 0;
                        int r = tel_frame_parse(wire, n, &f, &e);
                        assert_int_equal(r, n > cases[i].at ? -EBADMSG : TEL_FRAME_MORE);
                        assert_int_equal(e, n > cases[i].at ? cases[i].error : 0);
                }
        }
}

/* The longest body is taken, one byte more is not. */
static void test_length_limit(void **state) {
        (void)state;
        TEL_CLEANUP_FREE uint8_t *wire = calloc(1, TEL_FRAME_HEAD + TEL_FRAME_BODY_MAX);
        struct tel_frame f;
        enum tel_frame_error e;
        tel_frame_head(wire, TEL_FRAME_TRACES, 1, wire + TEL_FRAME_HEAD, TEL_FRAME_BODY_MAX);
        assert_int_equal(tel_frame_parse(wire, TEL_FRAME_HEAD + TEL_FRAME_BODY_MAX - 1, &f, &e), TEL_FRAME_MORE);
        assert_int_equal(tel_frame_parse(wire, TEL_FRAME_HEAD + TEL_FRAME_BODY_MAX, &f, &e), 0);
        assert_int_equal(f.len, TEL_FRAME_BODY_MAX);
        tel_be32_put(wire + 8, TEL_FRAME_BODY_MAX + 1);
        assert_int_equal(tel_frame_parse(wire, TEL_FRAME_HEAD, &f, &e), -EBADMSG);
        assert_int_equal(e, TEL_FRAME_ERROR_LENGTH);
}

/* Any single bit that turns over in body or checksum is found, and ret is left alone. */
static void test_checksum(void **state) {
        (void)state;
        uint8_t wire[TEL_FRAME_HEAD + 5] = { [TEL_FRAME_HEAD] = 'h', 'e', 'l', 'l', 'o' };
        tel_frame_head(wire, TEL_FRAME_LOGS, 1, wire + TEL_FRAME_HEAD, 5);
        for (size_t bit = 12 * 8; bit < sizeof(wire) * 8; bit++) {
                if (bit == 16 * 8)
                        bit = TEL_FRAME_HEAD * 8;          /* the sequence is not covered */
                struct tel_frame f = { .len = 77 };
                enum tel_frame_error e = 0;
                wire[bit / 8] ^= (uint8_t)(1u << bit % 8);
                assert_int_equal(tel_frame_parse(wire, sizeof(wire), &f, &e), -EBADMSG);
                assert_int_equal(e, TEL_FRAME_ERROR_CHECKSUM);
                assert_int_equal(f.len, 77);
                wire[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
}

/* Several frames of one read come out in order. */
static void test_many_in_one_read(void **state) {
        (void)state;
        uint8_t wire[1024];
        size_t n = 0, at = 0;
        for (size_t i = 0; i < TEL_ARRAY_LEN(golden); i++)
                n += unhex(golden[i].hex, wire + n);
        for (size_t i = 0; i < TEL_ARRAY_LEN(golden); i++) {
                struct tel_frame f;
                enum tel_frame_error e;
                assert_int_equal(tel_frame_parse(wire + at, n - at, &f, &e), 0);
                assert_int_equal(f.kind, golden[i].kind);
                at += TEL_FRAME_HEAD + f.len;
        }
        assert_int_equal(at, n);
}

static uint32_t crc_by_bits(uint32_t crc, const uint8_t *p, size_t n) {
        for (crc = ~crc; n > 0; n--) {
                crc ^= *p++;
                for (int i = 0; i < 8; i++)
                        crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
        }
        return ~crc;
}

/* RFC 3720 appendix B.4's examples, by both ways. */
static void test_crc_vectors(void **state) {
        (void)state;
        uint8_t zero[32] = { 0 }, ones[32], up[32], down[32];
        static const uint8_t read_pdu[48] = {
                0x01, 0xc0, [16] = 0x14, [22] = 0x04, [27] = 0x14, [31] = 0x18, [32] = 0x28, [40] = 0x02,
        };
        for (uint8_t i = 0; i < 32; i++) {
                ones[i] = 0xff;
                up[i] = i;
                down[i] = (uint8_t)(31 - i);
        }
        const struct {
                const void *bytes;
                size_t n;
                uint32_t crc;
        } cases[] = {
                { zero, 32, 0x8a9136aa }, { ones, 32, 0x62a8ab43 }, { up, 32, 0x46dd794e }, { down, 32, 0x113fdb5c },
                { read_pdu, 48, 0xd9963a56 }, { "123456789", 9, 0xe3069283 }, { NULL, 0, 0 },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++) {
                assert_int_equal(tel_crc32c(0, cases[i].bytes, cases[i].n), cases[i].crc);
                assert_int_equal(tel_crc32c_portable(0, cases[i].bytes, cases[i].n), cases[i].crc);
        }
}

/* Instruction, table and definition agree at every length and alignment, whole or in two parts. */
static void test_crc_ways_agree(void **state) {
        (void)state;
        uint8_t bytes[96];
        for (size_t i = 0; i < sizeof(bytes); i++)
                bytes[i] = (uint8_t)(i * 167 + 13);
        for (size_t at = 0; at < 8; at++)
                for (size_t n = 0; n <= sizeof(bytes) - 8; n++) {
                        uint32_t want = crc_by_bits(0, bytes + at, n);
                        assert_int_equal(tel_crc32c(0, bytes + at, n), want);
                        assert_int_equal(tel_crc32c_portable(0, bytes + at, n), want);
                        assert_int_equal(tel_crc32c(tel_crc32c_portable(0, bytes + at, n / 3), bytes + at + n / 3, n - n / 3), want);
                }
}

/* Texts at their bound come through whole; what is not UTF-8 or would end inside a character does not leave us. */
static void test_texts_put(void **state) {
        (void)state;
        uint8_t body[TEL_FRAME_SMALL_MAX];
        struct tel_frame_status s = status, got;
        memset(s.text, 'x', sizeof(s.text));       /* without a NUL */
        s.dropped_frames = s.dropped_bytes = s.waiting_frames = s.waiting_bytes = UINT64_MAX;
        size_t n = tel_frame_status_put(body, &s);
        assert_int_equal(tel_frame_status_get(body, n, &got), 0);
        assert_int_equal(strlen(got.text), sizeof(got.text) - 1);
        assert_true(got.waiting_bytes == UINT64_MAX);
        strcpy(s.text, "a\xff" "b\xc3");
        n = tel_frame_status_put(body, &s);
        assert_int_equal(tel_frame_status_get(body, n, &got), 0);
        assert_string_equal(got.text, "a?b?");
        char four[4];
        assert_int_equal(tel_frame_text(four, sizeof(four), "ab\xc3\xa9", SIZE_MAX), 2);
        assert_string_equal(four, "ab");
        assert_int_equal(tel_frame_text(four, sizeof(four), "abcdef", 1), 1);
        assert_string_equal(four, "a");
}

/* Appends field number of a message by hand. */
static size_t bytes_put(uint8_t *at, uint32_t number, const void *bytes, size_t n) {
        uint8_t *p = tel_bytes_head_put(at, number, n);
        memcpy(p, bytes, n);
        return (size_t)(p - at) + n;
}

/* What a peer may get wrong in a HELLO is refused; fields of a later version are skipped. */
static void test_hello_refused(void **state) {
        (void)state;
        uint8_t body[TEL_FRAME_SMALL_MAX];
        char text[300];
        struct tel_frame_hello h = { .pid = 77 };
        memset(text, 'x', sizeof(text));
        assert_int_equal(tel_frame_hello_get(NULL, 0, &h), -EBADMSG);
        size_t n = bytes_put(body, 1, "backup", 6);
        assert_int_equal(tel_frame_hello_get(body, n, &h), -EBADMSG);          /* no epoch */
        n = bytes_put(body, 5, hello.epoch, 16);
        assert_int_equal(tel_frame_hello_get(body, n, &h), -EBADMSG);          /* no name */
        n += bytes_put(body + n, 1, text, 64);
        assert_int_equal(tel_frame_hello_get(body, n, &h), -EBADMSG);          /* too long a name */
        n = bytes_put(body, 1, "backup", 6);
        assert_int_equal(tel_frame_hello_get(body, n + bytes_put(body + n, 5, hello.epoch, 15), &h), -EBADMSG);
        assert_int_equal(tel_frame_hello_get(body, n + bytes_put(body + n, 5, text, 17), &h), -EBADMSG);
        assert_int_equal(tel_frame_hello_get(body, n + bytes_put(body + n, 5, (uint8_t[16]){ 0 }, 16), &h), -EBADMSG);
        n += bytes_put(body + n, 5, hello.epoch, 16);
        size_t whole = n;
        assert_int_equal(tel_frame_hello_get(body, n + bytes_put(body + n, 3, "\xff", 1), &h), -EBADMSG);
        assert_int_equal(tel_frame_hello_get(body, n - 1, &h), -EBADMSG);      /* cut short */
        assert_int_equal(h.pid, 77);
        n += bytes_put(body + n, 99, "later", 5);
        assert_int_equal(tel_frame_hello_get(body, n, &h), 0);
        assert_string_equal(h.name, "backup");
        assert_int_equal(tel_frame_hello_get(body, whole + bytes_put(body + whole, 3, text, 255), &h), 0);
        assert_int_equal(strlen(h.host), 255);
        assert_int_equal(tel_frame_hello_get(body, whole + bytes_put(body + whole, 3, text, 256), &h), -EBADMSG);
}

/* Every number has its own name, and a number from outside never reads past the table. */
static void test_error_names(void **state) {
        (void)state;
        for (int a = 1; a < TEL_FRAME_ERRORS; a++)
                for (int b = a + 1; b <= TEL_FRAME_ERRORS; b++)
                        assert_string_not_equal(tel_frame_error_name((enum tel_frame_error)a), tel_frame_error_name((enum tel_frame_error)b));
        assert_string_equal(tel_frame_error_name((enum tel_frame_error)-1), "unknown error");
        assert_string_equal(tel_frame_error_name((enum tel_frame_error)0), "unknown error");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_golden_parse),
                cmocka_unit_test(test_golden_encode),
                cmocka_unit_test(test_golden_decode),
                cmocka_unit_test(test_refused_at_first_wrong_byte),
                cmocka_unit_test(test_length_limit),
                cmocka_unit_test(test_checksum),
                cmocka_unit_test(test_many_in_one_read),
                cmocka_unit_test(test_crc_vectors),
                cmocka_unit_test(test_crc_ways_agree),
                cmocka_unit_test(test_texts_put),
                cmocka_unit_test(test_hello_refused),
                cmocka_unit_test(test_error_names),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
