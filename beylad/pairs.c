/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/pairs.h"

#include "libtelemetry/utf8.h"

static int hex(char c) {
        return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

/* Takes the blanks off both ends, decodes %XX, and keeps what fits. A '%' that begins nothing stays. */
static void text_read(char out[static PAIRS_TEXT_MAX], const char *from, const char *to) {
        char decoded[PAIRS_TEXT_MAX + 3];          /* so that the character on the bound is whole */
        size_t n = 0;
        while (from < to && (*from == ' ' || *from == '\t'))
                from++;
        while (to > from && (to[-1] == ' ' || to[-1] == '\t'))
                to--;
        while (from < to && n < sizeof(decoded)) {
                int high = *from == '%' && to - from >= 3 ? hex(from[1]) : -1, low = high < 0 ? -1 : hex(from[2]);
                decoded[n++] = low < 0 ? *from : (char)(high << 4 | low);
                from += low < 0 ? 1 : 3;
        }
        tel_utf8_printable(out, PAIRS_TEXT_MAX, decoded, n);
}

bool pairs_next(const char **at, const char *end, struct pair *ret) {
        while (*at < end) {
                const char *from = *at;
                const char *comma = memchr(from, ',', (size_t)(end - from)), *to = comma ? comma : end;
                const char *equals = memchr(from, '=', (size_t)(to - from));
                *at = comma ? comma + 1 : end;
                if (!equals)
                        continue;
                text_read(ret->key, from, equals);
                text_read(ret->value, equals + 1, to);
                if (ret->key[0])
                        return true;
        }
        return false;
}
