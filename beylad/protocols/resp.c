/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/protocols/resp.h"

enum resp_state { RESP_TYPE, RESP_LINE, RESP_NUMBER, RESP_BODY };

/* What a level above the first is. The first one holds the answer. */
enum resp_kind {
        KIND_STREAM,                               /* "*?": ends with "." */
        KIND_STRING,                               /* "$?": ends with ";0" */
        KIND_ATTRIBUTE,                            /* "|": the value it speaks of comes behind it */
};

void resp_reset(struct resp *r) {
        r->state = RESP_TYPE;
        r->top = '\0';
        r->level = 0;
        r->need[0] = 1;
        r->cr = r->inside = r->watch = r->keep = r->null = false;
        r->word_len = 0;
}

enum resp_result resp_number_read(struct resp_number *n, const uint8_t **p, const uint8_t *end) {
        while (*p < end) {
                uint8_t c = *(*p)++;
                if (n->cr)
                        return c == '\n' && (n->digits > 0 || n->streamed) ? RESP_DONE : RESP_BAD;
                if (c >= '0' && c <= '9' && !n->streamed) {
                        if (++n->digits > 19)
                                return RESP_BAD;
                        n->value = 10 * n->value + (c - '0');
                } else if (c == '\r')
                        n->cr = true;
                else if (c == '-' && n->digits == 0 && !n->negative)
                        n->negative = true;
                else if (c == '?' && n->digits == 0 && !n->negative)
                        n->streamed = true;
                else
                        return RESP_BAD;
        }
        return RESP_MORE;
}

static bool push(struct resp *r, enum resp_kind kind, uint64_t need) {
        if (r->level + 1 == RESP_LEVELS_MAX)
                return false;
        r->level++;
        r->kinds[r->level] = kind;
        r->need[r->level] = need;
        return true;
}

/* A value is whole, and with it perhaps those around it. */
static enum resp_result value_done(struct resp *r) {
        r->state = RESP_TYPE;
        r->keep = false;
        if (--r->need[r->level] > 0)
                return RESP_MORE;
        if (r->level == 0)
                return RESP_DONE;
        if (r->kinds[r->level] == KIND_ATTRIBUTE)
                r->level--;
        return RESP_MORE;
}

static enum resp_result level_done(struct resp *r) {
        r->level--;
        return value_done(r);
}

/* The first byte of a value, or of what ends a streamed one. */
static enum resp_result value_begin(struct resp *r, uint8_t type) {
        bool streamed = r->level > 0 && r->kinds[r->level] == KIND_STREAM;
        bool first = r->level == 0 && !r->top && type != '|';
        if ((r->level > 0 && r->kinds[r->level] == KIND_STRING) != (type == ';'))
                return RESP_BAD;
        r->type = type;
        if (type == '.') {
                r->state = RESP_LINE;
                return streamed && r->need[r->level] == 0 ? RESP_MORE : RESP_BAD;
        }
        if (streamed && r->need[r->level] == 0)
                r->need[r->level] = 1;
        switch (type) {
        case '+': case '-': case '(': case ',': case '#': case '_':
                r->state = RESP_LINE;
                r->cr = false;
                break;
        case ':': case '$': case '=': case '!': case '*': case '~': case '%': case '|': case ';': case '>':
                if (type == '>' && !first)
                        return RESP_BAD;
                r->state = RESP_NUMBER;
                r->number = (struct resp_number){ 0 };
                break;
        default:
                return RESP_BAD;
        }
        if (!first)
                return RESP_MORE;
        r->top = type;
        r->keep = type == '+' || type == '-' || type == '!';
        return RESP_BEGUN;
}

static void keep(struct resp *r, const uint8_t *p, size_t n) {
        n = TEL_MIN(n, (size_t)(RESP_WORD_MAX - r->word_len));
        memcpy(r->word + r->word_len, p, n);
        r->word_len += (uint8_t)n;
}

/* The rest of a line, and what it ends. */
static enum resp_result read_line(struct resp *r, const uint8_t **p, const uint8_t *end) {
        if (!r->cr) {
                const uint8_t *cr = memchr(*p, '\r', (size_t)(end - *p));
                size_t n = (size_t)((cr ? cr : end) - *p);
                if (r->keep)
                        keep(r, *p, n);
                if (n > 0 && (r->type == '.' || r->type == '_'))
                        return RESP_BAD;
                *p += n;
                if (!cr)
                        return RESP_MORE;
                (*p)++;
                r->cr = true;
        }
        if (*p == end)
                return RESP_MORE;
        if (*(*p)++ != '\n')
                return RESP_BAD;
        r->cr = false;
        if (r->type == '_' && r->top == '_')
                r->null = true;
        return r->type == '.' ? level_done(r) : value_done(r);
}

/* An aggregate of n values began, in the place of one. */
static enum resp_result aggregate_begin(struct resp *r, uint64_t n) {
        bool first = r->level == 0 && !r->inside;
        if (r->type == '%' || r->type == '|')
                n *= 2;
        if (n > RESP_VALUES_MAX || r->need[r->level] > RESP_VALUES_MAX)
                return RESP_BAD;
        if (r->type == '|') {
                r->state = RESP_TYPE;
                return n == 0 || push(r, KIND_ATTRIBUTE, n) ? RESP_MORE : RESP_BAD;
        }
        r->need[r->level] += n;
        enum resp_result done = value_done(r);
        r->inside = r->inside || r->level == 0;
        r->keep = first && r->watch && n > 0;
        r->null = r->null || (first && n == 0);
        return done;
}

/* A number is whole: an integer, or how much of something follows. */
static enum resp_result number_done(struct resp *r) {
        const struct resp_number *n = &r->number;
        bool string = r->type == '$' || r->type == '=' || r->type == '!' || r->type == ';';
        if (r->type == ':') {
                r->integer = n->value;
                return n->streamed ? RESP_BAD : value_done(r);
        }
        if (n->negative) {                         /* "$-1", "*-1": RESP2's nulls */
                r->null = r->null || (r->level == 0 && !r->inside);
                return n->value == 1 && (r->type == '$' || r->type == '*') ? value_done(r) : RESP_BAD;
        }
        if (n->streamed) {
                r->state = RESP_TYPE;
                r->keep = false;
                r->inside = r->inside || r->level == 0;
                bool may = r->type == '$' || r->type == '*' || r->type == '~' || r->type == '%';
                return may && push(r, r->type == '$' ? KIND_STRING : KIND_STREAM, r->type == '$') ? RESP_MORE : RESP_BAD;
        }
        if (!string)
                return aggregate_begin(r, n->value);
        if (n->value > RESP_BYTES_MAX)
                return RESP_BAD;
        if (r->type == ';' && n->value == 0)
                return level_done(r);
        r->left = n->value + 2;
        r->state = RESP_BODY;
        return RESP_MORE;
}

static enum resp_result body_done(struct resp *r) {
        if (r->type != ';')
                return value_done(r);
        r->state = RESP_TYPE;                      /* the next part of a streamed string */
        return RESP_MORE;
}

static enum resp_result read_body(struct resp *r, const uint8_t **p, const uint8_t *end) {
        if (r->left > 2) {
                size_t n = (size_t)TEL_MIN((uint64_t)(end - *p), r->left - 2);
                if (r->keep)
                        keep(r, *p, n);
                *p += n;
                r->left -= n;
        }
        for (; r->left <= 2 && *p < end; (*p)++) {
                if (**p != (r->left == 2 ? '\r' : '\n'))
                        return RESP_BAD;
                if (--r->left == 0) {
                        (*p)++;
                        return body_done(r);
                }
        }
        return RESP_MORE;
}

enum resp_result resp_read(struct resp *r, const uint8_t **p, const uint8_t *end) {
        enum resp_result result = RESP_MORE;
        if (r->need[0] == 0)
                resp_reset(r);
        while (*p < end && result == RESP_MORE)
                switch (r->state) {
                case RESP_TYPE:
                        result = value_begin(r, *(*p)++);
                        break;
                case RESP_LINE:
                        result = read_line(r, p, end);
                        break;
                case RESP_NUMBER:
                        result = resp_number_read(&r->number, p, end);
                        if (result == RESP_DONE)
                                result = number_done(r);
                        break;
                case RESP_BODY:
                        result = read_body(r, p, end);
                        break;
                }
        return result;
}

enum resp_result resp_skip(struct resp *r, uint64_t bytes) {
        r->left -= bytes;
        if (r->keep)
                r->word_len = 0;                   /* not the word it was */
        return r->left > 0 ? RESP_MORE : body_done(r);
}

uint64_t resp_left(const struct resp *r) {
        return r->state == RESP_BODY ? r->left : 0;
}
