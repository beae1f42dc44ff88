/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/protocols/http1_line.h"

#include "beylad/protocols/http_common.h"

static const uint8_t spoiled[1];

/* ---- gathering ---- */

void http1_line_reset(struct http1_line *l) {
        free(l->buffer);
        *l = (struct http1_line){ 0 };
}

static bool grow(struct http1_line *l, size_t total) {
        if (total <= l->room || l->room == HTTP1_LINE_MAX)
                return true;
        size_t room = TEL_MIN(TEL_MAX(tel_align(total, 128), (size_t)2 * l->room), (size_t)HTTP1_LINE_MAX);
        uint8_t *buffer = realloc(l->buffer, room);
        if (!buffer)
                return false;
        l->buffer = buffer;
        l->room = (uint32_t)room;
        return true;
}

static void add(struct http1_line *l, const uint8_t *data, size_t n) {
        if (l->spoiled || !grow(l, l->n + n)) {
                l->spoiled = true;
                return;
        }
        size_t fits = TEL_MIN(n, (size_t)(HTTP1_LINE_MAX - l->n));
        memcpy(l->buffer + l->n, data, fits);
        l->n += (uint32_t)fits;
        if (fits == n)
                return;
        l->cut = true;
        uint8_t *tail = l->buffer + HTTP1_LINE_MAX - HTTP1_LINE_TAIL;
        size_t k = TEL_MIN(n - fits, (size_t)HTTP1_LINE_TAIL);
        memmove(tail, tail + k, HTTP1_LINE_TAIL - k);
        memcpy(tail + HTTP1_LINE_TAIL - k, data + n - k, k);
}

static struct http1_text gathered(struct http1_line *l) {
        struct http1_text t = { l->buffer, l->n };
        if (l->spoiled)
                return (struct http1_text){ spoiled, sizeof(spoiled) };
        while (t.n > 0 && (t.bytes[t.n - 1] == '\n' || t.bytes[t.n - 1] == '\r'))
                t.n--;
        for (size_t i = 0; l->folded && i < t.n; i++)
                if (l->buffer[i] == '\r' || l->buffer[i] == '\n')
                        l->buffer[i] = ' ';
        return t;
}

static bool is_space(uint8_t c) {
        return c == ' ' || c == '\t';
}

/* Whether the line whose LF is data[end - 1] has nothing in it. */
static bool is_empty(const struct http1_line *l, const uint8_t *data, size_t end) {
        size_t total = l->n + end;
        return !l->spoiled && (total == 1 || (total == 2 && (l->n == 1 ? l->buffer[0] : data[0]) == '\r'));
}

size_t http1_line_take(struct http1_line *l, const uint8_t *data, size_t n, bool fields, struct http1_text *ret) {
        size_t end = 0;
        *ret = (struct http1_text){ 0 };
        if (l->held) {
                l->held = false;
                if (!is_space(data[0])) {
                        *ret = gathered(l);
                        return 0;
                }
                l->folded = true;
        }
        for (;;) {
                const uint8_t *lf = memchr(data + end, '\n', n - end);
                if (!lf) {
                        add(l, data, n);
                        return n;
                }
                end = (size_t)(lf - data) + 1;
                if (!fields || is_empty(l, data, end))
                        break;
                if (end == n) {
                        add(l, data, n);
                        l->held = true;
                        return n;
                }
                if (!is_space(data[end]))
                        break;
                l->folded = true;
        }
        if (!l->buffer && !l->spoiled && !l->folded && end <= HTTP1_LINE_MAX) {
                size_t len = end - 1;
                while (len > 0 && data[len - 1] == '\r')
                        len--;
                *ret = (struct http1_text){ data, len };
        } else {
                add(l, data, end);
                *ret = gathered(l);
        }
        return end;
}

/* ---- taking apart ---- */

/* How much of the beginning of data is text, whatever its case: all of it (MATCH_REQUEST), as far as data goes, or not. */
static enum protocol_match begins(const uint8_t *data, size_t n, const char *text) {
        size_t len = strlen(text);
        for (size_t i = 0; i < len; i++) {
                if (i == n)
                        return MATCH_MORE;
                uint8_t c = data[i] >= 'A' && data[i] <= 'Z' ? data[i] | 0x20 : data[i];
                if (c != (uint8_t)text[i])
                        return MATCH_NO;
        }
        return MATCH_REQUEST;
}

static bool is_digit(uint8_t c) {
        return c >= '0' && c <= '9';
}

/* "HTTP/1.1 200": case matters, so that nothing but HTTP says so. */
static enum protocol_match match_answer(const uint8_t *data, size_t n) {
        static const char form[] = "HTTP/1.0 100";   /* a digit stands for any behind the first seven bytes */
        for (size_t i = 0; i < sizeof(form) - 1; i++) {
                if (i == n)
                        return MATCH_MORE;
                if (i >= 7 && is_digit((uint8_t)form[i]) ? !is_digit(data[i]) : data[i] != (uint8_t)form[i])
                        return MATCH_NO;
        }
        return MATCH_ANSWER;
}

static enum protocol_match match_target(const uint8_t *t, size_t n, bool host) {
        static const char *const schemes[] = { "http://", "https://", "ws://", "wss://" };
        enum protocol_match open = MATCH_NO;
        if (n == 0)
                return MATCH_MORE;
        if (host)
                return is_digit(t[0]) || t[0] == '[' || ((t[0] | 0x20) >= 'a' && (t[0] | 0x20) <= 'z') ? MATCH_REQUEST : MATCH_NO;
        if (t[0] == '/')
                return MATCH_REQUEST;
        if (t[0] == '*')
                return n == 1 ? MATCH_MORE : t[1] == ' ' ? MATCH_REQUEST : MATCH_NO;
        for (size_t i = 0; i < TEL_ARRAY_LEN(schemes) && open != MATCH_REQUEST; i++) {
                enum protocol_match m = begins(t, n, schemes[i]);
                open = m == MATCH_NO ? open : m;
        }
        return open;
}

/* Where the version begins in a line without its end, or NULL: " HTTP/1.1" stands last. */
static const uint8_t *version_of(const uint8_t *line, size_t n) {
        while (n > 0 && (is_space(line[n - 1]) || line[n - 1] == '\r'))
                n--;
        return n > 9 && memcmp(line + n - 9, " HTTP/1.", 8) == 0 && is_digit(line[n - 1]) ? line + n - 3 : NULL;
}

/* "GET /": the method in capitals, as all that are registered. What has no version is HTTP/0.9, or Redis spoken by hand. */
static enum protocol_match match_request(const uint8_t *data, size_t n) {
        size_t i = 0;
        while (i < n && ((data[i] >= 'A' && data[i] <= 'Z') || data[i] == '-' || data[i] == '_'))
                i++;
        if (i > HTTP1_METHOD_MAX)
                return MATCH_NO;
        if (i == n)
                return MATCH_MORE;
        if (i < 3 || data[i] != ' ' || (i == 3 && memcmp(data, "PRI", 3) == 0))    /* PRI: HTTP/2's preface */
                return MATCH_NO;
        enum protocol_match m = match_target(data + i + 1, n - i - 1, i == 7 && memcmp(data, "CONNECT", 7) == 0);
        for (size_t k = i + 1; m == MATCH_REQUEST && k < n && data[k] != '\n'; k++)
                if ((data[k] < 0x20 && data[k] != '\r') || data[k] == 0x7f)
                        return MATCH_NO;
        const uint8_t *lf = memchr(data, '\n', n);
        return lf && (m != MATCH_REQUEST || !version_of(data, (size_t)(lf - data))) ? MATCH_NO : m;
}

enum protocol_match http1_match(const uint8_t *data, size_t n) {
        bool all = n >= PROTOCOL_MATCH_MAX;
        n = TEL_MIN(n, (size_t)PROTOCOL_MATCH_MAX);
        while (n > 0 && (*data == '\r' || *data == '\n')) {            /* RFC 9112 section 2.2: a server ignores them */
                data++;
                n--;
        }
        enum protocol_match answer = match_answer(data, n), request = match_request(data, n);
        if (answer == MATCH_ANSWER || request == MATCH_REQUEST)
                return answer == MATCH_ANSWER ? MATCH_ANSWER : MATCH_REQUEST;
        return !all && (answer == MATCH_MORE || request == MATCH_MORE) ? MATCH_MORE : MATCH_NO;
}

static struct http1_text trim(struct http1_text t) {
        while (t.n > 0 && is_space(t.bytes[t.n - 1]))
                t.n--;
        while (t.n > 0 && is_space(t.bytes[0])) {
                t.bytes++;
                t.n--;
        }
        return t;
}

int http1_request_line_parse(struct http1_text line, bool cut, struct http1_request_line *ret) {
        const uint8_t *version = version_of(line.bytes, line.n);
        if (!version || http1_match(line.bytes, line.n) != MATCH_REQUEST)
                return -EPROTO;
        const uint8_t *space = memchr(line.bytes, ' ', line.n);
        size_t method = (size_t)(space - line.bytes), end = (size_t)(version - line.bytes) - 6;
        if (cut)
                end = TEL_MIN(end, (size_t)(HTTP1_LINE_MAX - HTTP1_LINE_TAIL));
        ret->method = (struct http1_text){ line.bytes, method };
        ret->version = (struct http1_text){ version, 3 };
        ret->target = trim((struct http1_text){ space + 1, end - method - 1 });
        return ret->target.n > 0 ? 0 : -EPROTO;
}

int http1_status_line_parse(struct http1_text line) {
        const uint8_t *b = line.bytes;
        if (http1_match(b, line.n) != MATCH_ANSWER || (line.n > 12 && !is_space(b[12])) || b[9] == '0')
                return -EPROTO;
        return (b[9] - '0') * 100 + (b[10] - '0') * 10 + (b[11] - '0');
}

int http1_field_parse(struct http1_text line, struct http1_text *ret_name, struct http1_text *ret_value) {
        const uint8_t *colon = memchr(line.bytes, ':', line.n);
        if (!colon || is_space(line.bytes[0]))
                return -EPROTO;
        size_t at = (size_t)(colon - line.bytes);
        *ret_name = trim((struct http1_text){ line.bytes, at });
        *ret_value = trim((struct http1_text){ colon + 1, line.n - at - 1 });
        return ret_name->n > 0 ? 0 : -EPROTO;
}

bool http1_list_next(struct http1_text *list, struct http1_text *ret) {
        if (!list->bytes)
                return false;
        const uint8_t *comma = memchr(list->bytes, ',', list->n);
        size_t n = comma ? (size_t)(comma - list->bytes) : list->n;
        *ret = trim((struct http1_text){ list->bytes, n });
        *list = comma ? (struct http1_text){ comma + 1, list->n - n - 1 } : (struct http1_text){ 0 };
        return true;
}
