/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/protocols/postgres_wire.h"

#include "libtelemetry/cursor.h"

#define IDENTIFIER_MAX 63                          /* bytes of a name the server keeps: NAMEDATALEN */

/* ---- reading ---- */

void wire_begin(struct wire *w, uint8_t type) {
        w->type = type;
        w->head[0] = type;
        w->head_len = 1;
}

void wire_next(struct wire *w) {
        free(w->kept);
        *w = (struct wire){ 0 };
}

static enum wire_result body_begin(struct wire *w, wire_want_fn want) {
        bool startup = w->type == WIRE_STARTUP;
        uint32_t len = tel_be32_get(w->head + !startup);
        if (len < 4 || len - 4 > (startup ? WIRE_STARTUP_MAX : WIRE_BODY_MAX))
                return WIRE_BAD;
        w->len = w->left = len - 4;
        w->want = want(w->type, w->len);
        if (w->want == UINT32_MAX)
                return WIRE_BAD;
        w->want = TEL_MIN(w->want, w->len);
        w->head_len = WIRE_HEAD;
        return WIRE_DONE;
}

static void keep(struct wire *w, const uint8_t *p, uint32_t n) {
        uint32_t more = TEL_MIN(n, w->want - w->body_len);
        if (more == 0 || w->cut)
                return;
        if (!w->kept)
                w->kept = malloc(w->want);
        if (!w->kept) {
                w->cut = true;
                return;
        }
        memcpy(w->kept + w->body_len, p, more);
        w->body_len += more;
}

enum wire_result wire_read(struct wire *w, const uint8_t **p, const uint8_t *end, wire_want_fn want) {
        uint8_t head = w->type == WIRE_STARTUP ? WIRE_HEAD - 1 : WIRE_HEAD;
        if (!wire_in_body(w)) {
                while (w->head_len < head && *p < end)
                        w->head[w->head_len++] = *(*p)++;
                if (w->head_len < head)
                        return WIRE_MORE;
                if (body_begin(w, want) == WIRE_BAD)
                        return WIRE_BAD;
                if ((size_t)(end - *p) >= w->len) {        /* all of it is here: no copy */
                        w->body = *p;
                        w->body_len = w->want;
                        w->left = 0;
                        *p += w->len;
                        return WIRE_DONE;
                }
        }
        uint32_t n = (uint32_t)TEL_MIN((size_t)(end - *p), (size_t)w->left);
        keep(w, *p, n);
        *p += n;
        w->left -= n;
        w->body = w->kept;
        return w->left > 0 ? WIRE_MORE : WIRE_DONE;
}

enum wire_result wire_skip(struct wire *w, uint32_t bytes) {
        w->cut = w->cut || (bytes > 0 && w->body_len < w->want);
        w->left -= bytes;
        w->body = w->kept;
        return w->left > 0 ? WIRE_MORE : WIRE_DONE;
}

bool wire_string(const uint8_t *body, uint32_t n, uint32_t *pos, const uint8_t **ret, uint32_t *ret_len) {
        const uint8_t *nul = *pos < n ? memchr(body + *pos, '\0', n - *pos) : NULL;
        if (!nul)
                return false;
        *ret = body + *pos;
        *ret_len = (uint32_t)(nul - *ret);
        *pos += *ret_len + 1;
        return true;
}

bool wire_ask_fits(uint8_t type, uint32_t len) {
        switch (type) {
        case WIRE_STARTUP:
                return len >= 4;
        case 'S': case 'H': case 'X': case 'c':    /* Sync, Flush, Terminate, CopyDone */
                return len == 0;
        case 'Q': case 'f':                        /* Query, CopyFail: a string */
                return len >= 1;
        case 'C': case 'D':                        /* Close, Describe: a byte and a string */
                return len >= 2;
        case 'E':                                  /* Execute: a string, a number of rows */
                return len >= 5;
        case 'P':                                  /* Parse: two strings, a number of types */
                return len >= 4;
        case 'B':                                  /* Bind: two strings, three numbers */
                return len >= 8;
        case 'F':                                  /* FunctionCall: a number, three short ones */
                return len >= 10;
        case 'p': case 'd':                        /* PasswordMessage and its kin, CopyData */
                return true;
        default:
                return false;
        }
}

bool wire_answer_fits(uint8_t type, uint32_t len) {
        switch (type) {
        case '1': case '2': case '3': case 'n': case 's': case 'I': case 'c':
                return len == 0;
        case 'Z':
                return len == 1;
        case 'C': case 'E': case 'N':              /* strings */
                return len >= 1;
        case 'S': case 'T': case 't': case 'D':    /* two strings; a short number and what follows */
                return len >= 2;
        case 'G': case 'H': case 'W':
                return len >= 3;
        case 'R': case 'V':
                return len >= 4;
        case 'A':
                return len >= 6;
        case 'K': case 'v':
                return len >= 8;
        case 'd':
                return true;
        default:
                return false;
        }
}

/* ---- telling it from others ---- */

static bool is_text(const uint8_t *p, size_t n) {
        for (size_t i = 0; i < n; i++)
                if ((p[i] < 0x20 && !(p[i] >= '\t' && p[i] <= '\r')) || p[i] == 0x7f)
                        return false;
        return true;
}

static bool is_upper(uint8_t c) {
        return c >= 'A' && c <= 'Z';
}

/* A query: text that begins like one, up to its NUL. */
static enum protocol_match match_query(const uint8_t *p, size_t n, bool whole) {
        const uint8_t *nul = memchr(p, '\0', n);
        size_t len = nul ? (size_t)(nul - p) : n, i = 0;
        if (!is_text(p, len) || (whole && !nul))
                return MATCH_NO;
        while (i < len && (p[i] == ' ' || (p[i] >= '\t' && p[i] <= '\r')))
                i++;
        if (i < len && !((p[i] | 0x20) >= 'a' && (p[i] | 0x20) <= 'z') && !memchr("(;-/", p[i], 4))
                return MATCH_NO;
        return nul || len >= 4 ? MATCH_REQUEST : MATCH_MORE;
}

/* A name up to its NUL, then what comes behind it: *ret. */
static enum protocol_match match_name(const uint8_t *p, size_t n, size_t *ret) {
        const uint8_t *nul = memchr(p, '\0', n);
        size_t len = nul ? (size_t)(nul - p) : n;
        if (!is_text(p, len) || len > IDENTIFIER_MAX)
                return MATCH_NO;
        *ret = len + 1;
        return nul ? MATCH_REQUEST : MATCH_MORE;
}

static enum protocol_match match_execute(uint32_t len, const uint8_t *p, size_t n) {
        size_t behind;
        enum protocol_match m = match_name(p, n, &behind);
        if (m == MATCH_REQUEST && behind + 4 != len)
                return MATCH_NO;
        return m;
}

/* "S" or "P" and a name, which is all. */
static enum protocol_match match_target(uint32_t len, const uint8_t *p, size_t n) {
        size_t behind;
        if (n == 0)
                return MATCH_MORE;
        if (p[0] != 'S' && p[0] != 'P')
                return MATCH_NO;
        enum protocol_match m = match_name(p + 1, n - 1, &behind);
        return m == MATCH_REQUEST && behind + 1 != len ? MATCH_NO : m;
}

enum protocol_match wire_match_ask(uint8_t type, uint32_t len, const uint8_t *body, size_t n) {
        size_t behind = 0;
        enum protocol_match m;
        if (!wire_ask_fits(type, len))
                return MATCH_NO;
        n = TEL_MIN(n, (size_t)len);
        switch (type) {
        case 'Q': {
                const uint8_t *nul = memchr(body, '\0', n);
                return nul && nul + 1 != body + len ? MATCH_NO : match_query(body, n, n == len);
        }
        case 'P':
                m = match_name(body, n, &behind);
                return m == MATCH_REQUEST ? match_query(body + behind, n - behind, false) : m;
        case 'B':
                m = match_name(body, n, &behind);
                return m == MATCH_REQUEST ? match_name(body + behind, n - behind, &behind) : m;
        case 'E':
                return match_execute(len, body, n);
        case 'C': case 'D':
                return match_target(len, body, n);
        default:
                return MATCH_NO;
        }
}

/* An error's fields: first the severity, in capitals or in the server's language, then the same in English (since 9.6) or the code. */
static bool match_fields(uint32_t len, const uint8_t *p, size_t n) {
        if (len < 20 || p[0] != 'S' || p[1] <= ' ')
                return false;
        size_t text = strnlen((const char *)p, n);
        return is_text(p, text) && (text + 1 >= n || p[text + 1] == 'V' || p[text + 1] == 'C');
}

/* Whether the body can be that of an answer; enough of it is there, or all. */
static bool match_answer(uint8_t type, uint32_t len, const uint8_t *body, size_t n) {
        if (!wire_answer_fits(type, len))
                return false;
        switch (type) {
        case '1': case '2': case '3': case 'n': case 's': case 'I':
                return true;
        case 'Z':
                return memchr("ITE", body[0], 3);
        case 'R':
                return tel_be32_get(body) <= 12;
        case 'E': case 'N':
                return match_fields(len, body, n);
        case 'C': {                                /* "SELECT 1" */
                size_t i = 0;
                while (i < n && is_upper(body[i]))
                        i++;
                return i >= 3 && i < n && (body[i] == ' ' || body[i] == '\0');
        }
        case 'T':                                  /* 1664: MaxTupleAttributeNumber */
                return tel_be16_get(body) <= 1664 && (len == 2 || (n > 3 && is_text(body + 2, strnlen((const char *)body + 2, n - 2))));
        case 't':
                return len == 2 + 4u * tel_be16_get(body);
        case 'G': case 'H':
                return body[0] <= 1 && len == 3 + 2u * tel_be16_get(body + 1);
        default:
                return false;
        }
}

static enum protocol_match match_startup(const uint8_t *data, size_t n) {
        static const uint8_t special[] = { 0x04, 0xd2, 0x16 };
        uint32_t len, code;
        if ((n > 1 && data[1] != 0) || (n > 4 && data[4] != 0 && data[4] != special[0]) || (n > 5 && data[5] != (data[4] ? special[1] : 3)))
                return MATCH_NO;
        if (n < 8)
                return MATCH_MORE;
        len = tel_be32_get(data);
        code = tel_be32_get(data + 4);
        if (code == WIRE_SSL || code == WIRE_GSSENC)
                return len == 8 ? MATCH_REQUEST : MATCH_NO;
        if (code == WIRE_CANCEL)
                return len >= 16 && len <= 272 ? MATCH_REQUEST : MATCH_NO;
        if (code >> 16 != 3 || len < 9 || len - 4 > WIRE_STARTUP_MAX)
                return MATCH_NO;
        for (size_t i = 8; i < TEL_MIN(n, (size_t)len); i++)           /* names and values, each with a NUL; the first is a name */
                if ((data[i] < ' ' && data[i] != '\0') || (i == 8 && data[i] != '_' && !((data[i] | 0x20) >= 'a' && (data[i] | 0x20) <= 'z')))
                        return MATCH_NO;
        return n >= TEL_MIN(len, 12u) ? MATCH_REQUEST : MATCH_MORE;
}

enum protocol_match wire_match(const uint8_t *data, size_t n) {
        static const char types[] = "QPBEDC123nsIZRNTtGH";
        if (n == 0)
                return MATCH_MORE;
        if (data[0] == 0)
                return match_startup(data, n);
        if (!memchr(types, data[0], sizeof(types) - 1) || (n > 1 && data[1] != 0))     /* "POST " is no Parse of 1.3 GB */
                return MATCH_NO;
        if (n < WIRE_HEAD)
                return MATCH_MORE;
        uint32_t len = tel_be32_get(data + 1);
        if (len < 4)
                return MATCH_NO;
        len -= 4;
        const uint8_t *body = data + WIRE_HEAD;
        size_t here = n - WIRE_HEAD;
        enum protocol_match more = n < PROTOCOL_MATCH_MAX ? MATCH_MORE : MATCH_NO;
        bool told = here >= TEL_MIN(len, 10u);
        if (wire_answer_fits(data[0], len) && !told)
                return more;
        if (told && match_answer(data[0], len, body, TEL_MIN(here, (size_t)len)))
                return MATCH_ANSWER;
        enum protocol_match m = wire_match_ask(data[0], len, body, here);
        if (m != MATCH_MORE)
                return m;
        return n < PROTOCOL_MATCH_MAX ? MATCH_MORE : MATCH_REQUEST;    /* a name as long as drivers make them */
}
