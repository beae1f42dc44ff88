/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/protocols/sql.h"

#define WORD_MAX 24                                /* bytes of the longest word of the table below, and one */
#define DEPTH_MAX 64                               /* parentheses whose kind is remembered: a bit each */

/* ---- tokens ---- */

enum token { TOKEN_END, TOKEN_WORD, TOKEN_QUOTED, TOKEN_LITERAL, TOKEN_MARK };

struct scanner {
        const uint8_t *at, *end;
        bool whole;
        const uint8_t *token;                      /* the last one: token..at */
        bool space;                                /* white space or a comment stood before it */
        bool operand;                              /* it ends a value: a sign behind it is an operator */
};

static bool is_space(uint8_t c) {
        return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(uint8_t c) {
        return c >= '0' && c <= '9';
}

static bool is_word_start(uint8_t c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80;
}

static bool is_word(uint8_t c) {
        return is_word_start(c) || is_digit(c) || c == '$';
}

static uint8_t peek(const struct scanner *s, size_t n) {
        return (size_t)(s->end - s->at) > n ? s->at[n] : '\0';
}

/* White space and comments; those in slashes nest. */
static void skip_space(struct scanner *s) {
        s->space = false;
        for (;; s->space = true) {
                if (s->at < s->end && is_space(*s->at))
                        s->at++;
                else if (peek(s, 0) == '-' && peek(s, 1) == '-') {
                        const uint8_t *line = memchr(s->at, '\n', (size_t)(s->end - s->at));
                        s->at = line ? line + 1 : s->end;
                } else if (peek(s, 0) == '/' && peek(s, 1) == '*') {
                        unsigned depth = 0;
                        do {
                                if (peek(s, 0) == '/' && peek(s, 1) == '*') {
                                        depth++;
                                        s->at += 2;
                                } else if (peek(s, 0) == '*' && peek(s, 1) == '/') {
                                        depth--;
                                        s->at += 2;
                                } else
                                        s->at++;
                        } while (depth > 0 && s->at < s->end);
                } else
                        return;
        }
}

/* From behind the opening quote to behind the closing one; a doubled quote is part of it, with escapes also what follows a backslash. */
static void skip_quoted(struct scanner *s, uint8_t quote, bool escapes) {
        while (s->at < s->end) {
                uint8_t c = *s->at++;
                if (c == '\\' && escapes && s->at < s->end)
                        s->at++;
                else if (c == quote) {
                        if (peek(s, 0) != quote)
                                return;
                        s->at++;
                }
        }
}

/* $tag$ ... $tag$, at the first "$". Returns false when none begins here. */
static bool skip_dollar(struct scanner *s) {
        const uint8_t *tag = s->at, *p = s->at + 1;
        if (p < s->end && is_word_start(*p))
                while (p < s->end && is_word(*p) && *p != '$')
                        p++;
        if (p == s->end || *p != '$')
                return false;
        size_t n = (size_t)(p + 1 - tag);
        const uint8_t *close = memmem(p + 1, (size_t)(s->end - p - 1), tag, n);
        s->at = close ? close + n : s->end;
        return true;
}

static void skip_number(struct scanner *s) {
        while (s->at < s->end && (is_word(*s->at) || *s->at == '.')) {
                bool exponent = (*s->at | 0x20) == 'e' && (peek(s, 1) == '+' || peek(s, 1) == '-') && is_digit(peek(s, 2));
                s->at += exponent ? 2 : 1;
        }
}

static bool begins_number(const struct scanner *s, size_t n) {
        return is_digit(peek(s, n)) || (peek(s, n) == '.' && is_digit(peek(s, n + 1)));
}

/* A word, or what a word may introduce: E'..', B'..', X'..', N'..', U&'..', U&"..". */
static enum token scan_word(struct scanner *s) {
        while (s->at < s->end && is_word(*s->at))
                s->at++;
        uint8_t first = *s->token | 0x20;
        if (s->at - s->token != 1)
                return TOKEN_WORD;
        if (peek(s, 0) == '\'' && (first == 'e' || first == 'b' || first == 'x' || first == 'n')) {
                s->at++;
                skip_quoted(s, '\'', first == 'e');
                return TOKEN_LITERAL;
        }
        if (first == 'u' && peek(s, 0) == '&' && (peek(s, 1) == '\'' || peek(s, 1) == '"')) {
                uint8_t quote = peek(s, 1);
                s->at += 2;
                skip_quoted(s, quote, false);
                return quote == '"' ? TOKEN_QUOTED : TOKEN_LITERAL;
        }
        return TOKEN_WORD;
}

static enum token scan_any(struct scanner *s) {
        bool sign = !s->operand && (*s->at == '-' || *s->at == '+') && begins_number(s, 1);
        if (is_word_start(*s->at))
                return scan_word(s);
        if (sign || begins_number(s, 0)) {
                s->at += sign;
                skip_number(s);
                return TOKEN_LITERAL;
        }
        if (*s->at == '$' && is_digit(peek(s, 1))) {
                s->at++;
                while (is_digit(peek(s, 0)))
                        s->at++;
                return TOKEN_LITERAL;
        }
        if (*s->at == '$' && skip_dollar(s))
                return TOKEN_LITERAL;
        uint8_t c = *s->at++;
        if (c == '\'' || c == '"') {
                skip_quoted(s, c, false);
                return c == '"' ? TOKEN_QUOTED : TOKEN_LITERAL;
        }
        return TOKEN_MARK;
}

/* The next token is token..at. A word that the end of the text may have cut counts as the end. */
static enum token scan(struct scanner *s) {
        skip_space(s);
        if (s->at >= s->end)
                return TOKEN_END;
        s->token = s->at;
        enum token t = scan_any(s);
        s->at = TEL_MIN(s->at, s->end);
        if (!s->whole && s->at == s->end && (t == TOKEN_WORD || t == TOKEN_QUOTED))
                return TOKEN_END;
        s->operand = t != TOKEN_MARK || *s->token == ')' || *s->token == ']';
        return t;
}

/* ---- words ---- */

enum word_flags {
        VERB = 1,                                  /* begins a statement */
        MAIN = 2,                                  /* begins the statement behind WITH, and what a parenthesis makes a query */
        NOISE = 4,                                 /* may stand between a word that announces a table and the table */
        ANNOUNCES = 8,                             /* as a verb: a table comes next */
        DEFINES = 16,                              /* as a verb: its TABLE announces one */
        DEFINES_ON = 32,                           /* as a verb: so does its ON: CREATE INDEX i ON t */
        NOT_FROM = 64,                             /* as a verb: its FROM announces none */
};

static const struct word {
        const char *name;
        unsigned flags;
} words[] = {                                      /* sorted by name; the verbs are those of PostgreSQL 18 and of its replication protocol */
        { "ABORT", VERB }, { "ALTER", VERB | DEFINES }, { "ANALYZE", VERB | NOISE | ANNOUNCES }, { "BASE_BACKUP", VERB }, { "BEGIN", VERB },
        { "BINARY", NOISE }, { "CALL", VERB }, { "CHECKPOINT", VERB }, { "CLOSE", VERB }, { "CLUSTER", VERB | ANNOUNCES },
        { "COMMENT", VERB }, { "COMMIT", VERB }, { "COPY", VERB | ANNOUNCES }, { "CREATE", VERB | DEFINES | DEFINES_ON },
        { "CREATE_REPLICATION_SLOT", VERB }, { "DEALLOCATE", VERB }, { "DECLARE", VERB }, { "DELETE", VERB | MAIN }, { "DISCARD", VERB },
        { "DO", VERB }, { "DROP", VERB | DEFINES | DEFINES_ON }, { "DROP_REPLICATION_SLOT", VERB }, { "END", VERB }, { "EXECUTE", VERB },
        { "EXISTS", NOISE }, { "EXPLAIN", VERB }, { "FETCH", VERB | NOT_FROM }, { "FREEZE", NOISE }, { "FULL", NOISE }, { "GRANT", VERB | NOT_FROM },
        { "IDENTIFY_SYSTEM", VERB }, { "IF", NOISE }, { "IMPORT", VERB | NOT_FROM }, { "INSERT", VERB | MAIN }, { "LATERAL", NOISE },
        { "LISTEN", VERB }, { "LOAD", VERB }, { "LOCK", VERB | ANNOUNCES }, { "MERGE", VERB | MAIN }, { "MOVE", VERB | NOT_FROM },
        { "NOT", NOISE }, { "NOTIFY", VERB }, { "ONLY", NOISE }, { "PREPARE", VERB }, { "READ_REPLICATION_SLOT", VERB }, { "REASSIGN", VERB },
        { "REFRESH", VERB }, { "REINDEX", VERB | DEFINES }, { "RELEASE", VERB }, { "RESET", VERB }, { "REVOKE", VERB | NOT_FROM },
        { "ROLLBACK", VERB }, { "SAVEPOINT", VERB }, { "SECURITY", VERB }, { "SELECT", VERB | MAIN }, { "SET", VERB }, { "SHOW", VERB | NOT_FROM },
        { "START", VERB }, { "START_REPLICATION", VERB }, { "TABLE", VERB | MAIN | NOISE | ANNOUNCES }, { "TIMELINE_HISTORY", VERB },
        { "TRUNCATE", VERB | ANNOUNCES }, { "UNLISTEN", VERB }, { "UPDATE", VERB | MAIN | ANNOUNCES }, { "VACUUM", VERB | ANNOUNCES },
        { "VALUES", VERB | MAIN }, { "VERBOSE", NOISE }, { "WITH", VERB | MAIN },
};

static int word_compare(const void *key, const void *row) {
        return strcmp(key, ((const struct word *)row)->name);
}

/* The word in upper case, or "" when it is longer than any we know. */
static void word_fold(const uint8_t *p, size_t n, char out[static WORD_MAX]) {
        if (n >= WORD_MAX)
                n = 0;
        for (size_t i = 0; i < n; i++)
                out[i] = (char)(p[i] >= 'a' && p[i] <= 'z' ? p[i] - 0x20 : p[i]);
        out[n] = '\0';
}

/* ---- verb and table ---- */

enum finding {
        FIND_VERB,                                 /* the statement did not begin yet */
        FIND_ANNOUNCED,                            /* its verb is known; no word that announces a table came yet */
        FIND_TABLE,                                /* the table comes next */
        FIND_NAME,                                 /* a part of its name came: a dot and more may follow */
        FIND_DONE,
};

struct finder {
        struct sql *out;
        enum finding state;
        unsigned verb;                             /* flags of the verb */
        bool with;                                 /* the main verb is still to come */
        bool after_from;                           /* what follows FROM may be a function */
        bool after_dot;
        bool opened;                               /* the last token was "(" */
        bool distinct;                             /* the last token was DISTINCT: IS DISTINCT FROM */
        unsigned depth;
        uint64_t queries;                          /* bit i: the parenthesis of depth i holds a query */
};

static void table_add(struct finder *f, const uint8_t *p, size_t n) {
        if (n > SQL_TABLE_MAX - f->out->table_len) {
                f->out->table_len = 0;             /* a part of a name would be a wrong name */
                f->state = FIND_DONE;
                return;
        }
        memcpy(f->out->table + f->out->table_len, p, n);
        f->out->table_len += n;
        f->state = FIND_NAME;
}

static void announce(struct finder *f, bool from) {
        f->state = FIND_TABLE;
        f->after_from = from;
        f->after_dot = false;
        f->out->table_len = 0;
}

static bool from_counts(const struct finder *f) {
        if (f->distinct || (f->verb & NOT_FROM))
                return false;
        return f->depth == 0 || (f->depth < DEPTH_MAX && (f->queries >> f->depth & 1));    /* else EXTRACT(YEAR FROM x) */
}

/* A word that begins the statement, or the one behind WITH. */
static void find_verb(struct finder *f, const struct word *w) {
        unsigned flags = w ? w->flags : 0;
        f->verb = flags;
        f->with = f->state == FIND_VERB && w && strcmp(w->name, "WITH") == 0;
        f->out->operation = flags & VERB ? w->name : NULL;
        if (f->state == FIND_VERB)
                f->state = flags & VERB ? FIND_ANNOUNCED : FIND_DONE;
        if (f->state == FIND_ANNOUNCED && (flags & ANNOUNCES))
                announce(f, false);
}

static bool announces(const struct finder *f, const char *name, bool opened) {
        if (strcmp(name, "INTO") == 0)
                return true;
        if (strcmp(name, "UPDATE") == 0)
                return opened;                     /* WITH x AS (UPDATE t */
        return ((f->verb & DEFINES) && strcmp(name, "TABLE") == 0) || ((f->verb & DEFINES_ON) && strcmp(name, "ON") == 0);
}

static void find_in_word(struct finder *f, const uint8_t *p, size_t n, bool opened) {
        char name[WORD_MAX];
        word_fold(p, n, name);
        const struct word *w = bsearch(name, words, TEL_ARRAY_LEN(words), sizeof(*words), word_compare);
        unsigned flags = w ? w->flags : 0;
        if (opened && (flags & MAIN) && f->depth < DEPTH_MAX)
                f->queries |= 1ull << f->depth;
        if (f->state == FIND_VERB || (f->with && f->depth == 0 && (flags & MAIN)))
                find_verb(f, w);
        else if (f->state == FIND_TABLE && (flags & MAIN) && !(flags & NOISE))
                f->state = FIND_ANNOUNCED;         /* FROM (SELECT */
        else if (f->state == FIND_TABLE && !(flags & NOISE))
                table_add(f, p, n);
        else if (f->state == FIND_ANNOUNCED && strcmp(name, "FROM") == 0 && from_counts(f))
                announce(f, true);
        else if (f->state == FIND_ANNOUNCED && announces(f, name, opened))
                announce(f, false);
        f->distinct = strcmp(name, "DISTINCT") == 0;
}

static void find_in_mark(struct finder *f, uint8_t c) {
        if (c == '(') {
                f->depth++;
                f->opened = true;
                if (f->depth < DEPTH_MAX)
                        f->queries &= ~(1ull << f->depth);
                if (f->state == FIND_TABLE && !f->after_from)
                        f->state = FIND_ANNOUNCED; /* COPY (SELECT, RETURNS TABLE (a int) */
        } else if (c == ')')
                f->depth -= f->depth > 0;
        else if (c == ';' && f->depth == 0 && f->state != FIND_VERB) {
                f->state = FIND_DONE;              /* what else the text holds is not looked at */
                f->with = false;
        } else if (f->state == FIND_TABLE)
                f->state = FIND_ANNOUNCED;
}

static void find(struct finder *f, enum token t, const uint8_t *p, size_t n) {
        bool opened = f->opened;
        f->opened = false;
        if (f->state == FIND_NAME) {
                if (t == TOKEN_MARK && *p == '.' && !f->after_dot) {
                        f->after_dot = true;
                        table_add(f, p, n);
                        return;
                }
                if (f->after_dot && (t == TOKEN_WORD || t == TOKEN_QUOTED)) {
                        f->after_dot = false;
                        table_add(f, p, n);
                        return;
                }
                bool function = f->after_from && t == TOKEN_MARK && *p == '(';
                if (function || f->after_dot)
                        f->out->table_len = 0;     /* FROM generate_series(1, 3) */
                f->state = function ? FIND_ANNOUNCED : FIND_DONE;
        }
        if (t == TOKEN_WORD)
                find_in_word(f, p, n, opened);
        else if (t == TOKEN_QUOTED && f->state == FIND_TABLE)
                table_add(f, p, n);
        else if (t == TOKEN_MARK)
                find_in_mark(f, *p);
        else if (f->state == FIND_VERB)
                f->state = FIND_DONE;
        if (t != TOKEN_WORD)
                f->distinct = false;
}

/* ---- text ---- */

struct writer {
        struct sql *out;
        bool full;                                 /* one token did not fit: no later one is written */
        bool literal;                              /* the last token written is ? */
        bool comma, comma_space;                   /* a comma behind ? waits: it goes when another ? follows */
};

static void put(struct writer *w, const void *p, size_t n, bool space) {
        struct sql *out = w->out;
        space = space && out->text_len > 0;
        if (w->full || n + space > SQL_TEXT_MAX - out->text_len) {
                w->full = true;
                return;
        }
        if (space)
                out->text[out->text_len++] = ' ';
        memcpy(out->text + out->text_len, p, n);
        out->text_len += n;
}

/* VALUES (?), (?), (?) -> VALUES (?) */
static void join_rows(struct sql *out) {
        static const char *const repeated[] = { "(?), (?)", "(?),(?)" };
        for (size_t i = 0; i < TEL_ARRAY_LEN(repeated); i++) {
                size_t n = strlen(repeated[i]);
                if (out->text_len >= n && memcmp(out->text + out->text_len - n, repeated[i], n) == 0)
                        out->text_len -= n - 3;
        }
}

static void write_token(struct writer *w, enum token t, const uint8_t *p, size_t n, bool space) {
        bool is_comma = t == TOKEN_MARK && *p == ',';
        if (w->literal && is_comma && !w->comma) {
                w->comma = true;
                w->comma_space = space;
                return;
        }
        if (w->comma && t == TOKEN_LITERAL) {
                w->comma = false;
                return;
        }
        if (w->comma)
                put(w, ",", 1, w->comma_space);
        w->comma = false;
        w->literal = t == TOKEN_LITERAL;
        put(w, w->literal ? (const uint8_t *)"?" : p, w->literal ? 1 : n, space);
        if (t == TOKEN_MARK && *p == ')' && !w->full)
                join_rows(w->out);
}

void sql_read(const void *bytes, size_t n, bool whole, bool keep_text, struct sql *ret) {
        struct scanner s = { .at = bytes, .end = (const uint8_t *)bytes + TEL_MIN(n, (size_t)SQL_READ_MAX), .whole = whole && n <= SQL_READ_MAX };
        struct finder f = { .out = ret };
        struct writer w = { .out = ret };
        enum token t;
        ret->operation = NULL;
        ret->table_len = ret->text_len = 0;
        while ((f.state != FIND_DONE || f.with || (keep_text && !w.full)) && (t = scan(&s)) != TOKEN_END) {
                size_t len = (size_t)(s.at - s.token);
                if (f.state != FIND_DONE || f.with)
                        find(&f, t, s.token, len);
                if (keep_text && !w.full)
                        write_token(&w, t, s.token, len, s.space);
        }
        if (f.state == FIND_NAME && f.after_dot)
                ret->table_len = 0;                /* cut in the middle of the name */
}
