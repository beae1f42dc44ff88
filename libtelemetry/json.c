/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include "libtelemetry/json.h"
#include "libtelemetry/utf8.h"

enum {                                             /* tel_json.expect: what may come next */
        EXPECT_VALUE,
        EXPECT_VALUE_OR_END,                       /* behind [ */
        EXPECT_KEY,                                /* behind , in an object */
        EXPECT_KEY_OR_END,                         /* behind { */
        EXPECT_COMMA_OR_END,                       /* behind a value; the end of the document when nothing encloses it */
        EXPECT_NOTHING,                            /* an error was reported */
};

enum { IN_ARRAY, IN_OBJECT };                      /* tel_json.stack */

#define ONES 0x0101010101010101ull
#define TOPS 0x8080808080808080ull

/* Marks (0x80) the bytes of x that are zero. Bytes above the lowest marked one may be marked in error. */
static inline uint64_t zero_bytes(uint64_t x) {
        return (x - ONES) & ~x & TOPS;
}

/* The first byte in [p, end) that a JSON string cannot hold as it is, or that begins a sequence of UTF-8. Strings are most of the
 * bytes of a document, so they are looked at eight at a time. */
static const char *plain_end(const char *p, const char *end) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        for (; end - p >= 8; p += 8) {
                uint64_t x;
                memcpy(&x, p, 8);
                uint64_t control = (x - 0x20 * ONES) & ~x & TOPS;
                uint64_t special = zero_bytes(x ^ '"' * ONES) | zero_bytes(x ^ '\\' * ONES) | control | (x & TOPS);
                if (special)
                        return p + __builtin_ctzll(special) / 8;
        }
#endif
        while (p < end && (uint8_t)*p >= 0x20 && (uint8_t)*p < 0x80 && *p != '"' && *p != '\\')
                p++;
        return p;
}

/* Bytes of the UTF-8 sequence at p, before end, or 0. */
static size_t utf8_len(const char *p, const char *end) {
        return tel_utf8_sequence((const uint8_t *)p, (const uint8_t *)end);
}

/* The value of a hexadecimal digit, or -1. */
static int hex_digit(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        c |= 0x20;
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The value of the four digits behind \u, or -1. */
static int32_t hex4(const char *p, const char *end) {
        if (end - p < 4)
                return -1;
        int32_t v = 0;
        for (int i = 0; i < 4; i++) {
                int digit = hex_digit(p[i]);
                if (digit < 0)
                        return -1;
                v = v << 4 | digit;
        }
        return v;
}

static const char *digits_end(const char *p, const char *end) {
        while (p < end && *p >= '0' && *p <= '9')
                p++;
        return p;
}

/* The byte behind the number at p, or NULL. Source: RFC 8259, section 6. */
static const char *number_end(const char *p, const char *end) {
        if (p < end && *p == '-')
                p++;
        const char *digits = p;
        p = digits_end(p, end);
        if (p == digits || (*digits == '0' && p - digits > 1))
                return NULL;
        if (p < end && *p == '.') {
                digits = ++p;
                p = digits_end(p, end);
                if (p == digits)
                        return NULL;
        }
        if (p < end && (*p | 0x20) == 'e') {
                p++;
                if (p < end && (*p == '+' || *p == '-'))
                        p++;
                digits = p;
                p = digits_end(p, end);
                if (p == digits)
                        return NULL;
        }
        return p;
}

void tel_json_init(struct tel_json *j, const char *text, size_t n) {
        /* The stack is written before it is read, so it needs no clearing. An empty body may have no bytes at all. */
        text = n ? text : "";
        j->start = j->at = j->token = j->text = text;
        j->end = text + n;
        j->len = 0;
        j->escaped = false;
        j->error = NULL;
        j->depth = 0;
        j->expect = EXPECT_VALUE;
}

static enum tel_json_token fail(struct tel_json *j, const char *at, const char *error) {
        j->token = at;
        j->error = error;
        j->expect = EXPECT_NOTHING;
        return TEL_JSON_ERROR;
}

static void skip_blanks(struct tel_json *j) {
        const char *p = j->at;
        while (p < j->end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r'))
                p++;
        j->at = p;
}

/* Checks the escape at p, a backslash. Returns the byte behind it, or NULL. */
static const char *escape_end(const char *p, const char *end) {
        if (end - p < 2)
                return NULL;
        if (p[1] == 'u')
                return hex4(p + 2, end) < 0 ? NULL : p + 6;
        return p[1] != '\0' && strchr("\"\\/bfnrt", p[1]) ? p + 2 : NULL;
}

/* The string whose opening quote is at j->at. Returns false after fail(). */
static bool read_string(struct tel_json *j) {
        const char *p = j->at + 1;
        j->text = p;
        j->escaped = false;
        for (;;) {
                p = plain_end(p, j->end);
                if (p == j->end)
                        return fail(j, j->at, "a string does not end"), false;
                if (*p == '"')
                        break;
                if ((uint8_t)*p < 0x20)
                        return fail(j, p, "a control character in a string must be escaped"), false;
                if (*p == '\\') {
                        const char *behind = escape_end(p, j->end);
                        if (!behind)
                                return fail(j, p, "unknown escape in a string"), false;
                        j->escaped = true;
                        p = behind;
                        continue;
                }
                size_t n = utf8_len(p, j->end);
                if (n == 0)
                        return fail(j, p, "a string is not UTF-8"), false;
                p += n;
        }
        j->len = (size_t)(p - j->text);
        j->at = p + 1;
        return true;
}

static enum tel_json_token read_key(struct tel_json *j) {
        if (*j->at != '"')
                return fail(j, j->at, "expected a key in quotes");
        if (!read_string(j))
                return TEL_JSON_ERROR;
        skip_blanks(j);
        if (j->at == j->end || *j->at != ':')
                return fail(j, j->at, "expected ':' behind a key");
        j->at++;
        j->expect = EXPECT_VALUE;
        return TEL_JSON_KEY;
}

static enum tel_json_token enter(struct tel_json *j, uint8_t kind) {
        if (j->depth == TEL_JSON_DEPTH_MAX)
                return fail(j, j->at, "objects and arrays are nested too deep");
        j->stack[j->depth++] = kind;
        j->at++;
        j->expect = kind == IN_OBJECT ? EXPECT_KEY_OR_END : EXPECT_VALUE_OR_END;
        return kind == IN_OBJECT ? TEL_JSON_OBJECT : TEL_JSON_ARRAY;
}

static enum tel_json_token leave(struct tel_json *j) {
        j->at++;
        j->expect = EXPECT_COMMA_OR_END;
        return j->stack[--j->depth] == IN_OBJECT ? TEL_JSON_OBJECT_END : TEL_JSON_ARRAY_END;
}

static enum tel_json_token read_word(struct tel_json *j, const char *word, enum tel_json_token token) {
        size_t n = strlen(word);
        if ((size_t)(j->end - j->at) < n || memcmp(j->at, word, n) != 0)
                return fail(j, j->at, "expected a value");
        j->at += n;
        j->expect = EXPECT_COMMA_OR_END;
        return token;
}

static enum tel_json_token read_number(struct tel_json *j) {
        const char *behind = number_end(j->at, j->end);
        if (!behind)
                return fail(j, j->at, "not a number");
        j->text = j->at;
        j->len = (size_t)(behind - j->at);
        j->escaped = false;
        j->at = behind;
        j->expect = EXPECT_COMMA_OR_END;
        return TEL_JSON_NUMBER;
}

static enum tel_json_token read_value(struct tel_json *j) {
        switch (*j->at) {
        case '"':
                if (!read_string(j))
                        return TEL_JSON_ERROR;
                j->expect = EXPECT_COMMA_OR_END;
                return TEL_JSON_STRING;
        case '{':
                return enter(j, IN_OBJECT);
        case '[':
                return enter(j, IN_ARRAY);
        case 't':
                return read_word(j, "true", TEL_JSON_TRUE);
        case 'f':
                return read_word(j, "false", TEL_JSON_FALSE);
        case 'n':
                return read_word(j, "null", TEL_JSON_NULL);
        case '-':
        case '0' ... '9':
                return read_number(j);
        default:
                return fail(j, j->at, "expected a value");
        }
}

enum tel_json_token tel_json_next(struct tel_json *j) {
        if (j->expect == EXPECT_NOTHING)
                return TEL_JSON_ERROR;
        skip_blanks(j);
        j->token = j->at;
        if (j->expect == EXPECT_COMMA_OR_END) {
                if (j->depth == 0)
                        return j->at == j->end ? TEL_JSON_END : fail(j, j->at, "nothing may follow the document");
                uint8_t inside = j->stack[j->depth - 1];
                if (j->at < j->end && *j->at == (inside == IN_OBJECT ? '}' : ']'))
                        return leave(j);
                if (j->at < j->end && *j->at != ',')
                        return fail(j, j->at, inside == IN_OBJECT ? "expected ',' or '}'" : "expected ',' or ']'");
                if (j->at < j->end)
                        j->at++;
                skip_blanks(j);
                j->token = j->at;
                j->expect = inside == IN_OBJECT ? EXPECT_KEY : EXPECT_VALUE;
        }
        if (j->at == j->end)
                return fail(j, j->at, "the document ends too early");
        if (j->expect == EXPECT_KEY || j->expect == EXPECT_KEY_OR_END)
                return j->expect == EXPECT_KEY_OR_END && *j->at == '}' ? leave(j) : read_key(j);
        return j->expect == EXPECT_VALUE_OR_END && *j->at == ']' ? leave(j) : read_value(j);
}

int tel_json_skip(struct tel_json *j, enum tel_json_token token) {
        if (token == TEL_JSON_KEY)
                token = tel_json_next(j);
        switch (token) {
        case TEL_JSON_ERROR:
        case TEL_JSON_END:
        case TEL_JSON_OBJECT_END:
        case TEL_JSON_ARRAY_END:
                return -EBADMSG;
        case TEL_JSON_OBJECT:
        case TEL_JSON_ARRAY:
                break;
        default:
                return 0;
        }
        for (unsigned outside = j->depth - 1; j->depth > outside;)
                if (tel_json_next(j) == TEL_JSON_ERROR)
                        return -EBADMSG;
        return 0;
}

/* Writes a character as UTF-8. Returns its bytes. */
static size_t utf8_put(char *out, uint32_t c) {
        if (c < 0x80) {
                out[0] = (char)c;
                return 1;
        }
        size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        for (size_t i = n - 1; i > 0; i--, c >>= 6)
                out[i] = (char)(0x80 | (c & 0x3f));
        out[0] = (char)((0xf00 >> n & 0xf0) | c);
        return n;
}

/* One character of a string at *p, escaped or not, which moves behind it. Returns its bytes in out, or 0: malformed. */
static size_t unescape_one(const char **p, const char *end, char out[static 4]) {
        static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
        if (**p != '\\') {
                size_t n = utf8_len(*p, end);
                memcpy(out, *p, n);
                *p += n;
                return n;
        }
        const char *behind = escape_end(*p, end);
        if (!behind)
                return 0;
        if ((*p)[1] != 'u') {
                out[0] = meant[strchr(letters, (*p)[1]) - letters];
                *p = behind;
                return 1;
        }
        uint32_t c = (uint32_t)hex4(*p + 2, end);
        if (c >= 0xd800 && c < 0xe000) {           /* UTF-16: a high half, and a low half right behind it */
                if (c >= 0xdc00 || end - behind < 6 || behind[0] != '\\' || behind[1] != 'u')
                        return 0;
                int32_t low = hex4(behind + 2, end);
                if (low < 0xdc00 || low > 0xdfff)
                        return 0;
                c = 0x10000 + ((c - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
                behind += 6;
        }
        *p = behind;
        return utf8_put(out, c);
}

ssize_t tel_json_unescape(const char *text, size_t len, char *out) {
        const char *p = text, *end = text + len;
        char *to = out;
        while (p < end) {
                const char *plain = plain_end(p, end);
                memcpy(to, p, (size_t)(plain - p));
                to += plain - p;
                p = plain;
                if (p == end)
                        break;
                char one[4];
                size_t n = unescape_one(&p, end, one);
                if (n == 0)
                        return -EBADMSG;
                memcpy(to, one, n);
                to += n;
        }
        return to - out;
}

bool tel_json_key_is(const struct tel_json *j, const char *name) {
        size_t n = strlen(name);
        if (!j->escaped)
                return j->len == n && memcmp(j->text, name, n) == 0;
        const char *p = j->text, *end = p + j->len;
        while (p < end) {
                char one[4];
                size_t got = unescape_one(&p, end, one);
                if (got == 0 || got > n || memcmp(one, name, got) != 0)
                        return false;
                name += got;
                n -= got;
        }
        return n == 0;
}

void tel_json_where(const struct tel_json *j, unsigned *ret_line, unsigned *ret_column) {
        unsigned line = 1;
        const char *begin = j->start, *newline;
        while ((newline = memchr(begin, '\n', (size_t)(j->token - begin)))) {
                line++;
                begin = newline + 1;
        }
        *ret_line = line;
        *ret_column = (unsigned)(j->token - begin) + 1;
}

/* The exponent behind the mantissa at p. Ones that no document can balance with digits are cut, so that sums do not overflow. */
static int64_t exponent_get(const char *p, const char *end) {
        if (p == end)
                return 0;
        p++;                                       /* e or E */
        bool negative = *p == '-';
        if (*p == '-' || *p == '+')
                p++;
        int64_t v = 0;
        for (; p < end; p++)
                v = TEL_MIN(v * 10 + (*p - '0'), (int64_t)1 << 48);
        return negative ? -v : v;
}

int tel_json_integer(const char *text, size_t len, bool *ret_negative, uint64_t *ret_magnitude) {
        const char *p = text, *end = text + len;
        if (number_end(p, end) != end || len == 0)
                return -EBADMSG;
        bool negative = *p == '-';
        p += negative;
        /* m * 10^exponent is the value; zeros wait, in case that nothing but zeros or the point follows. */
        uint64_t m = 0;
        int64_t zeros = 0, fraction = 0;
        bool behind_point = false;
        for (; p < end && (*p | 0x20) != 'e'; p++) {
                if (*p == '.') {
                        behind_point = true;
                        continue;
                }
                fraction += behind_point;
                if (*p == '0') {
                        zeros++;
                        continue;
                }
                for (zeros++; m && zeros > 0; zeros--)
                        if (__builtin_mul_overflow(m, 10, &m))
                                return -ERANGE;
                zeros = 0;
                if (__builtin_add_overflow(m, (uint64_t)(*p - '0'), &m))
                        return -ERANGE;
        }
        int64_t exponent = exponent_get(p, end) + zeros - fraction;
        if (m && exponent < 0)
                return -ERANGE;
        for (; m && exponent > 0; exponent--)
                if (__builtin_mul_overflow(m, 10, &m))
                        return -ERANGE;
        *ret_negative = negative && m;
        *ret_magnitude = m;
        return 0;
}

/* A double is told from its neighbours by at most 767 digits; whether anything follows them decides the last tie.
 * Source: Goldberg's bound as used by strtod() implementations (53 bits, smallest exponent -1074). */
#define DOUBLE_DIGITS_MAX 780

/* digits * 10^exponent, rounded once. Without a point in its text strtod() does not depend on the locale. */
static double double_slow(const char *digits, int n, int64_t exponent) {
        char text[DOUBLE_DIGITS_MAX + 24];
        int64_t e = TEL_MIN(exponent, (int64_t)100000);        /* as good as infinite, in both directions */
        e = TEL_MAX(e, (int64_t)-100000);
        snprintf(text, sizeof(text), "%.*se%d", n, digits, (int)e);
        return strtod(text, NULL);
}

int tel_json_double(const char *text, size_t len, double *ret) {
        static const double powers[] = { 1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
                                         1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };
        const char *p = text, *end = text + len;
        if (number_end(p, end) != end || len == 0)
                return -EBADMSG;
        bool negative = *p == '-', behind_point = false;
        p += negative;
        char digits[DOUBLE_DIGITS_MAX + 1];
        int n = 0;
        uint64_t m = 0;                            /* the same as digits, while it fits */
        int64_t exponent = 0;
        for (; p < end && (*p | 0x20) != 'e'; p++) {
                if (*p == '.') {
                        behind_point = true;
                        continue;
                }
                exponent -= behind_point;
                if (n == 0 && *p == '0')
                        continue;
                if (n < DOUBLE_DIGITS_MAX) {
                        digits[n++] = *p;
                        m = n <= 19 ? m * 10 + (uint64_t)(*p - '0') : m;
                        continue;
                }
                exponent++;
                if (*p != '0')
                        digits[DOUBLE_DIGITS_MAX - 1] = '1';   /* past what decides, but not nothing */
        }
        exponent += exponent_get(p, end);
        double v = 0;
        if (n > 0 && n <= 19 && m <= (uint64_t)1 << 53 && exponent >= -22 && exponent <= 22)
                v = exponent < 0 ? (double)m / powers[-exponent] : (double)m * powers[exponent];   /* both exact: one rounding */
        else if (n > 0)
                v = double_slow(digits, n, exponent);
        if (isinf(v))
                return -ERANGE;
        *ret = negative ? -v : v;
        return 0;
}

/* Appends the escape of c, which cannot stand in a string as it is. */
static int escape_put(struct tel_buf *out, uint8_t c, size_t max) {
        static const char hex[] = "0123456789abcdef";
        static const char letters[0x20] = { ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't' };
        if (c >= 0x80)
                return tel_buf_append(out, "\xef\xbf\xbd", 3, max);     /* U+FFFD */
        char letter = c < 0x20 ? letters[c] : (char)c;
        if (letter)
                return tel_buf_append(out, (char[]){ '\\', letter }, 2, max);
        return tel_buf_append(out, (char[]){ '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] }, 6, max);
}

int tel_json_string_put(struct tel_buf *out, const char *bytes, size_t n, size_t max) {
        const char *p = bytes, *end = bytes + n;
        int r = tel_buf_append(out, "\"", 1, max);
        while (r == 0 && p < end) {
                const char *run = p;
                while ((p = plain_end(p, end)) < end && (uint8_t)*p >= 0x80) {
                        size_t sequence = utf8_len(p, end);
                        if (sequence == 0)
                                break;
                        p += sequence;
                }
                r = tel_buf_append(out, run, (size_t)(p - run), max);
                if (r == 0 && p < end)
                        r = escape_put(out, (uint8_t)*p++, max);
        }
        return r < 0 ? r : tel_buf_append(out, "\"", 1, max);
}

/* The n significant digits of v, which is positive. Returns the decimal exponent of the first. The point of "%e" is the locale's
 * and may have several bytes, so it is stepped over. */
static int double_digits(double v, int n, char *out) {
        char text[64];
        snprintf(text, sizeof(text), "%.*e", n - 1, v);
        const char *e = strchr(text, 'e');
        out[0] = text[0];
        memcpy(out + 1, e - (n - 1), (size_t)n - 1);
        return atoi(e + 1);
}

int tel_json_double_put(struct tel_buf *out, double v, size_t max) {
        assert(isfinite(v));
        char digits[17], text[48];
        double magnitude = fabs(v);
        if (v == 0)                                /* -0 is an integer to some readers, and loses its sign */
                return signbit(v) ? tel_buf_append(out, "-0.0", 4, max) : tel_buf_append(out, "0", 1, max);
        /* 15 digits always survive decimal, double, decimal, and 17 tell every double. Subnormal ones may need fewer. */
        int n = isnormal(v) ? 15 : 1, exponent;
        for (;; n++) {
                exponent = double_digits(magnitude, n, digits);
                if (n == 17 || double_slow(digits, n, exponent - n + 1) == magnitude)
                        break;
        }
        while (n > 1 && digits[n - 1] == '0')
                n--;
        char *p = text;
        if (signbit(v))
                *p++ = '-';
        if (exponent >= n - 1 && exponent < 17) {  /* 1200 */
                p += sprintf(p, "%.*s%.*s", n, digits, exponent - n + 1, "0000000000000000");
        } else if (exponent >= 0 && exponent < 17) {           /* 12.5 */
                p += sprintf(p, "%.*s.%.*s", exponent + 1, digits, n - exponent - 1, digits + exponent + 1);
        } else if (exponent < 0 && exponent >= -5) {           /* 0.00125 */
                p += sprintf(p, "0.%.*s%.*s", -exponent - 1, "0000", n, digits);
        } else {
                p += sprintf(p, "%c%s%.*se%d", digits[0], n > 1 ? "." : "", n - 1, digits + 1, exponent);
        }
        return tel_buf_append(out, text, (size_t)(p - text), max);
}
