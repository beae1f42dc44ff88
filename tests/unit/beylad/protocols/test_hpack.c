/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "beylad/protocols/hpack.h"

/* Header blocks of one direction, as hex; spaces are for the reader. */
struct heard {
        char text[16384];
        size_t used;
        size_t fields;
};

static void on_field(void *ctx, const struct hpack_field *f) {
        struct heard *h = ctx;
        h->fields++;
        assert_true(f->name_len <= HPACK_NAME_MAX && f->value_len <= HPACK_VALUE_MAX);
        h->used += (size_t)snprintf(h->text + h->used, sizeof(h->text) - h->used, "%.*s: %.*s\n", f->name ? (int)f->name_len : 1,
                                    f->name ? (const char *)f->name : "?", f->value ? (int)f->value_len : 1,
                                            f->value ? (const char *)f->value : "?");
        assert_true(h->used < sizeof(h->text));
}

static size_t unhex(const char *hex, uint8_t *out) {
        size_t n = 0;
        while (*hex) {
                unsigned v;
                if (*hex == ' ') {
                        hex++;
                        continue;
                }
                assert_int_equal(sscanf(hex, "%2x", &v), 1);
                out[n++] = (uint8_t)v;
                hex += 2;
        }
        return n;
}

/* One block in pieces of at most `piece` bytes, each in memory of exactly its size. */
static int feed(struct hpack *h, struct heard *to, const uint8_t *bytes, size_t n, size_t piece) {
        for (size_t at = 0; at < n; at += piece) {
                size_t len = TEL_MIN(piece, n - at);
                uint8_t *copy = malloc(len);
                memcpy(copy, bytes + at, len);
                int r = hpack_data(h, copy, len, on_field, to);
                free(copy);
                if (r < 0)
                        return r;
        }
        return hpack_end(h);
}

static int feed_hex(struct hpack *h, struct heard *to, const char *hex) {
        uint8_t bytes[8192];
        return feed(h, to, bytes, unhex(hex, bytes), SIZE_MAX / 2);
}

struct block {
        const char *hex, *expected;
        uint32_t size, count;                      /* of the table, afterwards */
};

/* The blocks say what they must and leave the table as they must, in pieces of every size. */
static void assert_blocks(const struct block *blocks, size_t n) {
        for (size_t piece = 1; piece < 130; piece++) {
                struct hpack h;
                hpack_init(&h);
                for (size_t i = 0; i < n; i++) {
                        struct heard heard = { .used = 0 };
                        uint8_t bytes[1024];
                        assert_int_equal(feed(&h, &heard, bytes, unhex(blocks[i].hex, bytes), piece), 0);
                        assert_string_equal(heard.text, blocks[i].expected);
                        assert_int_equal(h.size, blocks[i].size);
                        assert_int_equal(h.count, blocks[i].count);
                        assert_false(h.partial);
                }
                hpack_done(&h);
        }
}

static void assert_bad(const char *before, const char *hex) {
        for (size_t piece = 1; piece < 4; piece++) {
                struct heard heard = { .used = 0 };
                struct hpack h;
                uint8_t bytes[1024];
                hpack_init(&h);
                if (before)
                        assert_int_equal(feed_hex(&h, &heard, before), 0);
                assert_int_equal(feed(&h, &heard, bytes, unhex(hex, bytes), piece == 3 ? sizeof(bytes) : piece), -EBADMSG);
                assert_true(h.partial && h.count == 0 && h.stage == HPACK_FIELD);
                hpack_done(&h);
        }
}

/* ---- RFC 7541, appendix C ---- */

/* C.1: 10 and 1337 behind a prefix of 5 bits (size updates have one), 42 in an octet (a length, here). */
static void test_integers(void **state) {
        (void)state;
        struct heard heard = { .used = 0 };
        struct hpack h;
        hpack_init(&h);
        assert_int_equal(feed_hex(&h, &heard, "2a"), 0);
        assert_int_equal(h.limit, 10);
        assert_int_equal(feed_hex(&h, &heard, "3f 9a0a"), 0);
        assert_int_equal(h.limit, 1337);
        assert_int_equal(feed_hex(&h, &heard, "00 01 61 2a 303132333435363738393031323334353637383930313233343536373839303132333435363738393031"), 0);
        assert_string_equal(heard.text, "a: 012345678901234567890123456789012345678901\n");
        hpack_done(&h);
}

/* C.2: each form of a field. */
static void test_fields(void **state) {
        (void)state;
        static const struct block insert = { "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
                "custom-key: custom-header\n", 55, 1 };
        static const struct block literal = { "040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path\n", 0, 0 };
        static const struct block never = { "1008 7061 7373 776f 7264 0673 6563 7265 74", "password: secret\n", 0, 0 };
        static const struct block indexed = { "82", ":method: GET\n", 0, 0 };
        assert_blocks(&insert, 1);
        assert_blocks(&literal, 1);
        assert_blocks(&never, 1);
        assert_blocks(&indexed, 1);
}

#define REQUEST_1 ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n"
#define REQUEST_2 REQUEST_1 "cache-control: no-cache\n"
#define REQUEST_3 ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value\n"

/* C.3: requests without Huffman code. */
static void test_requests(void **state) {
        (void)state;
        static const struct block blocks[] = {
                { "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", REQUEST_1, 57, 1 },
                { "8286 84be 5808 6e6f 2d63 6163 6865", REQUEST_2, 110, 2 },
                { "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", REQUEST_3, 164, 3 },
                { "be bf c0", "custom-key: custom-value\ncache-control: no-cache\n:authority: www.example.com\n", 164, 3 },
        };
        assert_blocks(blocks, TEL_ARRAY_LEN(blocks));
}

/* C.4: the same with it. */
static void test_requests_huffman(void **state) {
        (void)state;
        static const struct block blocks[] = {
                { "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", REQUEST_1, 57, 1 },
                { "8286 84be 5886 a8eb 1064 9cbf", REQUEST_2, 110, 2 },
                { "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", REQUEST_3, 164, 3 },
                { "be bf c0", "custom-key: custom-value\ncache-control: no-cache\n:authority: www.example.com\n", 164, 3 },
        };
        assert_blocks(blocks, TEL_ARRAY_LEN(blocks));
}

#define ANSWER_1 ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com\n"
#define ANSWER_2 ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com\n"
#define ANSWER_3 ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\nlocation: https://www.example.com\ncontent-encoding: gzip\n" \
        "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n"
#define TABLE_1 "location: https://www.example.com\ndate: Mon, 21 Oct 2013 20:13:21 GMT\ncache-control: private\n:status: 302\n"
#define TABLE_2 ":status: 307\nlocation: https://www.example.com\ndate: Mon, 21 Oct 2013 20:13:21 GMT\ncache-control: private\n"
#define TABLE_3 "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\ncontent-encoding: gzip\ndate: Mon, 21 Oct 2013 20:13:22 GMT\n"

/* C.5: answers, in a table of 256 bytes, so that entries are evicted. The update in front makes it so. */
static void test_answers(void **state) {
        (void)state;
        static const struct block blocks[] = {
                { "3fe101 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474"
                  "7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", ANSWER_1, 222, 4 },
                { "be bf c0 c1", TABLE_1, 222, 4 },
                { "4803 3330 37c1 c0bf", ANSWER_2, 222, 4 },
                { "be bf c0 c1", TABLE_2, 222, 4 },
                { "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48"
                  "514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
                  ANSWER_3, 215, 3 },
                { "be bf c0", TABLE_3, 215, 3 },
        };
        assert_blocks(blocks, TEL_ARRAY_LEN(blocks));
}

/* C.6: the same with Huffman code. */
static void test_answers_huffman(void **state) {
        (void)state;
        static const struct block blocks[] = {
                { "3fe101 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae"
                  "82ae 43d3", ANSWER_1, 222, 4 },
                { "be bf c0 c1", TABLE_1, 222, 4 },
                { "4883 640e ffc1 c0bf", ANSWER_2, 222, 4 },
                { "be bf c0 c1", TABLE_2, 222, 4 },
                { "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af"
                  "2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07", ANSWER_3, 215, 3 },
                { "be bf c0", TABLE_3, 215, 3 },
        };
        assert_blocks(blocks, TEL_ARRAY_LEN(blocks));
}

/* ---- Huffman code ---- */

/* Appendix B, in the order of symbols; the last is EOS. */
static const uint32_t codes[257] = {
        0x1ff8, 0x7fffd8, 0xfffffe2, 0xfffffe3, 0xfffffe4, 0xfffffe5, 0xfffffe6, 0xfffffe7,
        0xfffffe8, 0xffffea, 0x3ffffffc, 0xfffffe9, 0xfffffea, 0x3ffffffd, 0xfffffeb, 0xfffffec,
        0xfffffed, 0xfffffee, 0xfffffef, 0xffffff0, 0xffffff1, 0xffffff2, 0x3ffffffe, 0xffffff3,
        0xffffff4, 0xffffff5, 0xffffff6, 0xffffff7, 0xffffff8, 0xffffff9, 0xffffffa, 0xffffffb,
        0x14, 0x3f8, 0x3f9, 0xffa, 0x1ff9, 0x15, 0xf8, 0x7fa,
        0x3fa, 0x3fb, 0xf9, 0x7fb, 0xfa, 0x16, 0x17, 0x18,
        0x0, 0x1, 0x2, 0x19, 0x1a, 0x1b, 0x1c, 0x1d,
        0x1e, 0x1f, 0x5c, 0xfb, 0x7ffc, 0x20, 0xffb, 0x3fc,
        0x1ffa, 0x21, 0x5d, 0x5e, 0x5f, 0x60, 0x61, 0x62,
        0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a,
        0x6b, 0x6c, 0x6d, 0x6e, 0x6f, 0x70, 0x71, 0x72,
        0xfc, 0x73, 0xfd, 0x1ffb, 0x7fff0, 0x1ffc, 0x3ffc, 0x22,
        0x7ffd, 0x3, 0x23, 0x4, 0x24, 0x5, 0x25, 0x26,
        0x27, 0x6, 0x74, 0x75, 0x28, 0x29, 0x2a, 0x7,
        0x2b, 0x76, 0x2c, 0x8, 0x9, 0x2d, 0x77, 0x78,
        0x79, 0x7a, 0x7b, 0x7ffe, 0x7fc, 0x3ffd, 0x1ffd, 0xffffffc,
        0xfffe6, 0x3fffd2, 0xfffe7, 0xfffe8, 0x3fffd3, 0x3fffd4, 0x3fffd5, 0x7fffd9,
        0x3fffd6, 0x7fffda, 0x7fffdb, 0x7fffdc, 0x7fffdd, 0x7fffde, 0xffffeb, 0x7fffdf,
        0xffffec, 0xffffed, 0x3fffd7, 0x7fffe0, 0xffffee, 0x7fffe1, 0x7fffe2, 0x7fffe3,
        0x7fffe4, 0x1fffdc, 0x3fffd8, 0x7fffe5, 0x3fffd9, 0x7fffe6, 0x7fffe7, 0xffffef,
        0x3fffda, 0x1fffdd, 0xfffe9, 0x3fffdb, 0x3fffdc, 0x7fffe8, 0x7fffe9, 0x1fffde,
        0x7fffea, 0x3fffdd, 0x3fffde, 0xfffff0, 0x1fffdf, 0x3fffdf, 0x7fffeb, 0x7fffec,
        0x1fffe0, 0x1fffe1, 0x3fffe0, 0x1fffe2, 0x7fffed, 0x3fffe1, 0x7fffee, 0x7fffef,
        0xfffea, 0x3fffe2, 0x3fffe3, 0x3fffe4, 0x7ffff0, 0x3fffe5, 0x3fffe6, 0x7ffff1,
        0x3ffffe0, 0x3ffffe1, 0xfffeb, 0x7fff1, 0x3fffe7, 0x7ffff2, 0x3fffe8, 0x1ffffec,
        0x3ffffe2, 0x3ffffe3, 0x3ffffe4, 0x7ffffde, 0x7ffffdf, 0x3ffffe5, 0xfffff1, 0x1ffffed,
        0x7fff2, 0x1fffe3, 0x3ffffe6, 0x7ffffe0, 0x7ffffe1, 0x3ffffe7, 0x7ffffe2, 0xfffff2,
        0x1fffe4, 0x1fffe5, 0x3ffffe8, 0x3ffffe9, 0xffffffd, 0x7ffffe3, 0x7ffffe4, 0x7ffffe5,
        0xfffec, 0xfffff3, 0xfffed, 0x1fffe6, 0x3fffe9, 0x1fffe7, 0x1fffe8, 0x7ffff3,
        0x3fffea, 0x3fffeb, 0x1ffffee, 0x1ffffef, 0xfffff4, 0xfffff5, 0x3ffffea, 0x7ffff4,
        0x3ffffeb, 0x7ffffe6, 0x3ffffec, 0x3ffffed, 0x7ffffe7, 0x7ffffe8, 0x7ffffe9, 0x7ffffea,
        0x7ffffeb, 0xffffffe, 0x7ffffec, 0x7ffffed, 0x7ffffee, 0x7ffffef, 0x7fffff0, 0x3ffffee,
        0x3fffffff,
};

/* Codes of one length make one range: the largest of each length that appendix B has. */
static unsigned bits_of(uint32_t code) {
        static const struct { uint32_t last; unsigned bits; } ranges[] = {
                { 0x9, 5 }, { 0x2d, 6 }, { 0x7b, 7 }, { 0xfd, 8 }, { 0x3fc, 10 }, { 0x7fc, 11 }, { 0xffb, 12 }, { 0x1ffd, 13 }, { 0x3ffd, 14 },
                { 0x7ffe, 15 }, { 0x7fff2, 19 }, { 0xfffed, 20 }, { 0x1fffe8, 21 }, { 0x3fffeb, 22 }, { 0x7ffff4, 23 }, { 0xfffff5, 24 },
                { 0x1ffffef, 25 }, { 0x3ffffee, 26 }, { 0x7fffff0, 27 }, { 0xffffffe, 28 }, { 0x3fffffff, 30 },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(ranges); i++)
                if (code <= ranges[i].last)
                        return ranges[i].bits;
        fail();
        return 0;
}

/* "00 01 'a'", then a Huffman string of the symbols, padded with ones or zeros. Returns its length. */
static size_t huffman_block(uint8_t *out, const uint16_t *symbols, size_t n, bool ones) {
        size_t bits = 0;
        uint8_t coded[8192] = { 0 };
        for (size_t i = 0; i < n; i++)
                for (unsigned b = bits_of(codes[symbols[i]]); b-- > 0; bits++)
                        coded[bits / 8] |= (uint8_t)((codes[symbols[i]] >> b & 1) << (7 - bits % 8));
        for (; bits % 8 != 0; bits++)
                coded[bits / 8] |= (uint8_t)((ones ? 1 : 0) << (7 - bits % 8));
        size_t len = bits / 8, at = 3;
        memcpy(out, "\x00\x01" "a", 3);
        if (len < 127)
                out[at++] = (uint8_t)(0x80 | len);
        else {
                out[at++] = 0xff;
                len -= 127;
                for (; len >= 128; len >>= 7)
                        out[at++] = (uint8_t)(0x80 | (len & 0x7f));
                out[at++] = (uint8_t)len;
                len = bits / 8;
        }
        memcpy(out + at, coded, len);
        return at + len;
}

static uint8_t last_value[HPACK_VALUE_MAX];
static size_t last_len;
static void on_value(void *ctx, const struct hpack_field *f) {
        (void)ctx;
        assert_non_null(f->value);
        memcpy(last_value, f->value, f->value_len);
        last_len = f->value_len;
}

/* Every symbol comes back, alone, thrice, and all of them in one string, in pieces of any size; wrong padding does not. */
static void test_huffman_symbols(void **state) {
        (void)state;
        static uint8_t block[8192];
        struct hpack h;
        uint16_t all[256];
        hpack_init(&h);
        for (uint16_t s = 0; s < 256; s++) {
                uint16_t thrice[3] = { s, s, s };
                all[s] = (uint16_t)(255 - s);
                for (size_t n = 1; n <= 3; n++) {
                        size_t len = huffman_block(block, thrice, n, true), cut = len / 2;
                        assert_int_equal(hpack_data(&h, block, cut, on_value, NULL), 0);
                        assert_int_equal(hpack_data(&h, block + cut, len - cut, on_value, NULL), 0);
                        assert_int_equal(hpack_end(&h), 0);
                        assert_int_equal(last_len, n);
                        for (size_t i = 0; i < n; i++)
                                assert_int_equal(last_value[i], s);
                        unsigned padding = (8 - bits_of(codes[s]) * (unsigned)n % 8) % 8;
                        if (padding != 0 && padding != 5) {        /* five zeros are '0' */
                                len = huffman_block(block, thrice, n, false);
                                assert_int_equal(hpack_data(&h, block, len, on_value, NULL), -EBADMSG);
                        }
                }
        }
        size_t len = huffman_block(block, all, 256, true);
        for (size_t piece = 1; piece <= len; piece++) {
                last_len = 0;
                for (size_t at = 0; at < len; at += piece)
                        assert_int_equal(hpack_data(&h, block + at, TEL_MIN(piece, len - at), on_value, NULL), 0);
                assert_int_equal(last_len, 256);
                for (unsigned i = 0; i < 256; i++)
                        assert_int_equal(last_value[i], 255 - i);
        }
        hpack_done(&h);
}

/* Section 5.2: padding of 8 bits or more, of other bits than ones, and EOS itself are errors. */
static void test_huffman_bad(void **state) {
        (void)state;
        assert_bad(NULL, "00 01 61 81 18");        /* "a" is 00011, then 000 */
        assert_bad(NULL, "00 01 61 82 1fff");      /* "a", then 11 ones */
        assert_bad(NULL, "00 01 61 81 ff");        /* 8 ones */
        assert_bad(NULL, "00 01 61 84 ffffffff");  /* EOS and two ones */
        assert_bad(NULL, "00 01 61 85 1fffffffff");        /* "a", EOS, padding */
}

/* ---- the table ---- */

/* An entry may take its name from one that its own insertion evicts: 4.4. */
static void test_name_of_evicted(void **state) {
        (void)state;
        static const struct block blocks[] = {
                { "3f15 400a 6375 7374 6f6d 2d6b 6579 0161", "custom-key: a\n", 43, 1 },       /* limit 52 */
                { "7e 036262 62", "custom-key: bbb\n", 45, 1 },
                { "be", "custom-key: bbb\n", 45, 1 },
                { "40 0163 1578 7878 7878 7878 7878 7878 7878 7878 7878 7878 7878", "c: xxxxxxxxxxxxxxxxxxxxx\n", 0, 0 },
                    /* 54: larger than the table */
        };
        assert_blocks(blocks, TEL_ARRAY_LEN(blocks));
}

/* Shrinking evicts, 0 empties, and what is inserted after growing again has the first index. */
static void test_size_updates(void **state) {
        (void)state;
        static const struct block blocks[] = {
                { "40 0161 0131 40 0162 0132 40 0163 0133", "a: 1\nb: 2\nc: 3\n", 102, 3 },
                { "3f26 be bf", "c: 3\nb: 2\n", 68, 2 },   /* 69 */
                { "20 3fe11f 40 0164 0134", "d: 4\n", 34, 1 },     /* 0, then 4096 */
                { "be", "d: 4\n", 34, 1 },
                { "20", "", 0, 0 },
        };
        assert_blocks(blocks, TEL_ARRAY_LEN(blocks));
        assert_bad("20 3fe11f 40 0164 0134", "bf");
}

/* The ring wraps and grows: the last of 3,000 entries are there, in order, the ones before are not. */
static void test_many_entries(void **state) {
        (void)state;
        struct heard heard = { .used = 0 };
        struct hpack h;
        hpack_init(&h);
        for (unsigned i = 0; i < 3000; i++) {
                char hex[64];
                snprintf(hex, sizeof(hex), "40 0161 04 %02x%02x%02x%02x", '0' + i / 1000, '0' + i / 100 % 10, '0' + i / 10 % 10, '0' + i % 10);
                heard.used = 0;
                assert_int_equal(feed_hex(&h, &heard, hex), 0);
        }
        assert_int_equal(h.count, 4096 / 37);
        assert_int_equal(h.size, 4096 / 37 * 37);
        for (unsigned i = 0; i < h.count; i++) {
                char expected[16], hex[16];
                heard.used = 0;
                if (62 + i < 127)
                        snprintf(hex, sizeof(hex), "%02x", 0x80 | (62 + i));
                else
                        snprintf(hex, sizeof(hex), "ff%02x", 62 + i - 127);
                assert_int_equal(feed_hex(&h, &heard, hex), 0);
                snprintf(expected, sizeof(expected), "a: %04u\n", 2999 - i);
                assert_string_equal(heard.text, expected);
        }
        assert_int_equal(feed_hex(&h, &heard, "ff2f"), -EBADMSG);  /* 174: one behind the last */
        hpack_done(&h);
}

/* After a gap old entries are unknown and new ones are not; indices count from the newest. An update to 0 makes all known again. */
static void test_forgotten(void **state) {
        (void)state;
        struct heard heard = { .used = 0 };
        struct hpack h;
        hpack_init(&h);
        assert_int_equal(feed_hex(&h, &heard, "40 0161 0131"), 0);
        assert_int_equal(hpack_data(&h, (const uint8_t *)"\x40\x01", 2, on_field, &heard), 0);
        hpack_forget(&h);                          /* within a field */
        heard.used = 0;
        assert_int_equal(feed_hex(&h, &heard, "be 82 40 0162 0132 be bf c0"), 0);
        assert_string_equal(heard.text, "?: ?\n:method: GET\nb: 2\nb: 2\n?: ?\n?: ?\n");
        heard.used = 0;
        assert_int_equal(feed_hex(&h, &heard, "7f01 0133 be bf"),
                0);      /* inserted under a name that is unknown (64): value 3 is known, the name is not */
        assert_string_equal(heard.text, "?: 3\n?: 3\nb: 2\n");
        heard.used = 0;
        assert_int_equal(feed_hex(&h, &heard, "20 3fe11f 40 0162 0132"), 0);
        assert_false(h.partial);
        assert_int_equal(feed_hex(&h, &heard, "bf"), -EBADMSG);
        hpack_done(&h);
}

/* A sender with a larger table than ours: what we had to let go is unknown, what we have stays exact, an entry that is too large takes its place. */
static void test_bound(void **state) {
        (void)state;
        struct heard heard = { .used = 0 };
        struct hpack h;
        static char big[2 * 20000 + 64];
        static uint8_t bytes[20064];
        hpack_init(&h);
        assert_int_equal(feed_hex(&h, &heard, "3fe1ff03 40 0161 0131"), 0);        /* 65536 */
        assert_int_equal(h.limit, HPACK_TABLE_MAX);
        assert_int_equal(h.limit_sender, 65536);
        assert_false(h.partial);
        size_t at = (size_t)snprintf(big, sizeof(big), "40 0162 7fa19b01");        /* 20000 = 127 + 19873 */
        memset(big + at, '7', 2 * 20000);
        for (size_t piece = 1; piece < 30000; piece += 7001) {
                heard.used = 0;
                assert_int_equal(feed(&h, &heard, bytes, unhex(big, bytes), piece), 0);
                assert_int_equal(heard.used, 3 + HPACK_VALUE_MAX + 1);
                assert_int_equal(h.count, 1);
                assert_true(h.partial && h.size <= HPACK_TABLE_MAX);
        }
        heard.used = 0;
        assert_int_equal(feed_hex(&h, &heard, "be bf"), 0);
        assert_string_equal(heard.text, "?: ?\n?: ?\n");
        heard.used = 0;
        assert_int_equal(feed_hex(&h, &heard, "40 0163 0133 be bf"), 0);
        assert_string_equal(heard.text, "c: 3\nc: 3\n?: ?\n");
        hpack_done(&h);
}

/* What is no HPACK at all. */
static void test_bad(void **state) {
        (void)state;
        assert_bad(NULL, "80");                    /* index 0: 6.1 */
        assert_bad(NULL, "be");                    /* nothing is there */
        assert_bad("40 0161 0131", "bf");
        assert_bad(NULL, "7e 0131");               /* a name that is not there */
        assert_bad(NULL, "82 20");                 /* an update behind a field: 4.2 */
        assert_bad(NULL, "ffffffffff1f");          /* 2^33: 5.1 */
        assert_bad(NULL, "ffffffffffff7f");
        assert_bad(NULL, "ff8080808080808000");    /* zeros without end */
        assert_bad(NULL, "00 7fffffff0f");         /* a string of 32 MiB */
        assert_bad(NULL, "40");                    /* cut in a field */
        assert_bad(NULL, "ff");
        assert_bad(NULL, "40 0161");
        assert_bad(NULL, "40 0161 02 31");
}

/* Long names and values are cut, and no memory grows with them. */
static void test_long_strings(void **state) {
        (void)state;
        struct heard heard = { .used = 0 };
        struct hpack h;
        static uint8_t bytes[40000];
        size_t n = 0;
        hpack_init(&h);
        memcpy(bytes, "\x00\x7f\x81\x01", 4);      /* 127 + 129 = 256 */
        memset(bytes + 4, 'n', 256);
        n = 4 + 256;
        memcpy(bytes + n, "\xff\xa1\xea\x01", 4);  /* Huffman: 127 + 0x21 + 0x6a * 128 + 128 * 128 = 30112 */
        memset(bytes + n + 4, 0, 30112);           /* 240,896 bits: 48,179 times '0' (00000) and one 1 */
        n += 4 + 30112;
        bytes[n - 1] = 1;
        int whole = feed(&h, &heard, bytes, n, SIZE_MAX / 2);
        assert_int_equal(whole, 0);
        assert_int_equal(heard.fields, 1);
        assert_int_equal(heard.used, HPACK_NAME_MAX + 2 + HPACK_VALUE_MAX + 1);
        assert_true(h.name.room <= HPACK_NAME_MAX && h.value.room <= HPACK_VALUE_MAX);
        heard = (struct heard){ .used = 0 };
        assert_int_equal(feed(&h, &heard, bytes, n, 1), 0);
        assert_int_equal(heard.used, HPACK_NAME_MAX + 2 + HPACK_VALUE_MAX + 1);
        hpack_done(&h);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_integers),
                cmocka_unit_test(test_fields),
                cmocka_unit_test(test_requests),
                cmocka_unit_test(test_requests_huffman),
                cmocka_unit_test(test_answers),
                cmocka_unit_test(test_answers_huffman),
                cmocka_unit_test(test_huffman_symbols),
                cmocka_unit_test(test_huffman_bad),
                cmocka_unit_test(test_name_of_evicted),
                cmocka_unit_test(test_size_updates),
                cmocka_unit_test(test_many_entries),
                cmocka_unit_test(test_forgotten),
                cmocka_unit_test(test_bound),
                cmocka_unit_test(test_bad),
                cmocka_unit_test(test_long_strings),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
