/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include "libtelemetry/json.h"

/* The reader on any text. It ends, the tokens are balanced, what it hands out lies inside of the text, strings written again read the
 * same, and doubles survive. The input is copied, so that a read behind it is seen. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define CHECK(condition)                                                                                               \
        do                                                                                                             \
                if (!(condition)) {                                                                                    \
                        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                \
                        abort();                                                                                       \
                }                                                                                                      \
        while (0)

static void check_string(const struct tel_json *j) {
        TEL_CLEANUP_FREE char *plain = malloc(j->len + 1);
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = tel_buf_new(NULL, 0);
        ssize_t n = tel_json_unescape(j->text, j->len, plain);
        CHECK(j->escaped == (memchr(j->text, '\\', j->len) != NULL));
        CHECK(n >= 0 || j->escaped);               /* only a lone surrogate is left to find */
        if (n < 0)
                return;
        CHECK((size_t)n <= j->len);
        CHECK(tel_json_string_put(out, plain, (size_t)n, SIZE_MAX) == 0);
        struct tel_json quoted;
        tel_json_init(&quoted, (const char *)out->data, out->len);
        CHECK(tel_json_next(&quoted) == TEL_JSON_STRING && quoted.len <= 6 * (size_t)n);
        TEL_CLEANUP_FREE char *room = malloc(quoted.len + 1);
        CHECK(tel_json_unescape(quoted.text, quoted.len, room) == n && memcmp(room, plain, (size_t)n) == 0);
        CHECK(tel_json_next(&quoted) == TEL_JSON_END);
        if (memchr(plain, '\0', (size_t)n))
                return;
        plain[n] = '\0';
        CHECK(tel_json_key_is(j, plain));
}

/* Short numbers have strtod() as their judge: the program never sets a locale. */
static void check_number(const char *text, size_t n) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = tel_buf_new(NULL, 0);
        char terminated[512];
        bool negative;
        uint64_t magnitude;
        double v, again;
        int r = tel_json_double(text, n, &v), integer = tel_json_integer(text, n, &negative, &magnitude);
        CHECK(r != -EBADMSG && integer != -EBADMSG);
        if (n < sizeof(terminated)) {
                memcpy(terminated, text, n);
                terminated[n] = '\0';
                double wanted = strtod(terminated, NULL);
                CHECK(r < 0 ? isinf(wanted) : memcmp(&v, &wanted, sizeof(v)) == 0);
        }
        if (r < 0)
                return;
        if (integer == 0)
                CHECK(fabs(v) == (double)magnitude);
        CHECK(tel_json_double_put(out, v, 32) == 0);
        CHECK(tel_json_double((const char *)out->data, out->len, &again) == 0 && memcmp(&v, &again, sizeof(v)) == 0);
}

static void check_reader(const char *text, size_t n) {
        struct tel_json j;
        unsigned depth = 0, line, column;
        size_t tokens = 0;
        tel_json_init(&j, text, n);
        for (;; tokens++) {
                enum tel_json_token token = tel_json_next(&j);
                CHECK(j.at >= j.start && j.at <= j.end && j.token >= j.start && j.token <= j.end && tokens <= n);
                tel_json_where(&j, &line, &column);
                CHECK(line >= 1 && column >= 1);
                depth += token == TEL_JSON_OBJECT || token == TEL_JSON_ARRAY;
                depth -= token == TEL_JSON_OBJECT_END || token == TEL_JSON_ARRAY_END;
                CHECK(depth == j.depth || token == TEL_JSON_ERROR);
                if (token == TEL_JSON_STRING || token == TEL_JSON_KEY)
                        check_string(&j);
                if (token == TEL_JSON_NUMBER)
                        check_number(j.text, j.len);
                if (token == TEL_JSON_ERROR)
                        CHECK(j.error != NULL);
                if (token != TEL_JSON_ERROR && token != TEL_JSON_END)
                        continue;
                CHECK(token == TEL_JSON_ERROR || depth == 0);
                struct tel_json whole;             /* skipping the document comes to the same verdict */
                tel_json_init(&whole, text, n);
                bool good = tel_json_skip(&whole, tel_json_next(&whole)) == 0 && tel_json_next(&whole) == TEL_JSON_END;
                CHECK(good == (token == TEL_JSON_END));
                return;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = tel_buf_new(NULL, 0);
        if (n > 4096)                              /* tel_json_where() after each token makes long ones slow */
                return 0;
        TEL_CLEANUP_FREE char *text = malloc(n ? n : 1), *room = malloc(n ? n : 1);
        if (n)
                memcpy(text, data, n);
        check_reader(text, n);
        CHECK(tel_json_unescape(text, n, room) <= (ssize_t)n);
        CHECK(tel_json_string_put(out, text, n, SIZE_MAX) == 0);   /* any bytes become a string */
        struct tel_json j;
        tel_json_init(&j, (const char *)out->data, out->len);
        CHECK(tel_json_next(&j) == TEL_JSON_STRING && tel_json_next(&j) == TEL_JSON_END);
        if (n == 8) {
                double v;
                memcpy(&v, data, 8);
                TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *number = tel_buf_new(NULL, 0);
                if (!isfinite(v))
                        return 0;
                CHECK(tel_json_double_put(number, v, 32) == 0);
                check_number((const char *)number->data, number->len);
        }
        return 0;
}
