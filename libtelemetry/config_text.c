/* SPDX-License-Identifier: Apache-2.0 */
#include "libtelemetry/config_text.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libtelemetry/buf.h"
#include "libtelemetry/utf8.h"

static bool is_word_byte(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

static bool is_blank(char c) {
        return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void path_put(struct tel_config_path *p, const char *bytes, size_t n) {
        n = TEL_MIN(n, sizeof(p->text) - 1 - p->len);
        for (size_t i = 0; i < n; i++)             /* a path ends in log lines: no control bytes */
                p->text[p->len++] = (unsigned char)bytes[i] < 0x20 || bytes[i] == 0x7f ? '?' : bytes[i];
        p->text[p->len] = '\0';
}

void tel_config_path_key(struct tel_config_path *p, const char *key, size_t n) {
        bool word = n > 0;
        for (size_t i = 0; i < n && word; i++)
                word = is_word_byte(key[i]);
        if (!word)
                path_put(p, "[\"", 2);
        else if (p->len > 0)
                path_put(p, ".", 1);
        path_put(p, key, n);
        if (!word)
                path_put(p, "\"]", 2);
}

void tel_config_path_index(struct tel_config_path *p, size_t index) {
        char text[TEL_CONFIG_VALUE_MAX];
        int n = snprintf(text, sizeof(text), "[%zu]", index);
        path_put(p, text, (size_t)n);
}

void tel_config_path_cut(struct tel_config_path *p, size_t len) {
        assert(len <= p->len);
        p->len = len;
        p->text[len] = '\0';
}

static void place_of_offset(const char *text, size_t offset, struct config_place *ret) {
        *ret = (struct config_place){ .line = 1, .column = 1 };
        for (size_t i = 0; i < offset; i++) {
                if (text[i] == '\n')
                        *ret = (struct config_place){ .line = ret->line + 1, .column = 1 };
                else
                        ret->column++;
        }
}

/* The offset behind the string that begins at text[at]; n when it does not end. */
static size_t string_end(const char *text, size_t n, size_t at) {
        for (at++; at < n && text[at] != '"'; at++)
                if (text[at] == '\\')
                        at++;
        return at < n ? at + 1 : n;
}

static size_t line_end(const char *text, size_t n, size_t at) {
        const char *end = memchr(text + at, '\n', n - at);
        return end ? (size_t)(end - text) : n;
}

/* Blanks the comments. Returns NULL, or the reason why the byte at *ret_at cannot stand there. */
static const char *strip(char *text, size_t n, size_t *ret_at) {
        unsigned depth = 0;
        for (size_t at = 0, end; at < n; at = end) {
                char c = text[at];
                end = at + 1;
                *ret_at = at;
                if (c == '"') {
                        end = string_end(text, n, at);
                } else if (c == '#') {
                        return "'#' does not start a comment, use '//'";
                } else if (c == '/' && at + 1 < n && text[at + 1] == '*') {
                        return "'/*' does not start a comment, use '//' on each line";
                } else if (c == '/' && at + 1 < n && text[at + 1] == '/') {
                        end = line_end(text, n, at);
                        memset(text + at, ' ', end - at);
                } else if (c == '{' || c == '[') {
                        /* Before jansson, which recurses 2048 deep, sees it. */
                        if (++depth > TEL_CONFIG_DEPTH_MAX)
                                return "too many objects and lists inside each other";
                } else if ((c == '}' || c == ']') && depth > 0) {
                        depth--;
                }
        }
        return NULL;
}

int config_text_init(struct config_text *t, const char *name, const char *text, size_t n, struct config_place *reterr_at,
                     char reterr_why[static CONFIG_WHY_MAX]) {
        *reterr_at = (struct config_place){ .line = 1, .column = 1 };
        if (n > TEL_CONFIG_FILE_MAX) {
                snprintf(reterr_why, CONFIG_WHY_MAX, "a document has at most %u bytes, this one %zu", TEL_CONFIG_FILE_MAX, n);
                return -EINVAL;
        }
        *t = (struct config_text){ .name = strdup(name), .text = malloc(n + 1), .len = n };
        if (!t->name || !t->text) {
                config_text_done(t);
                return -ENOMEM;
        }
        if (n > 0)
                memcpy(t->text, text, n);
        t->text[n] = '\0';
        size_t at = 0;
        const char *why = strip(t->text, n, &at);
        if (!why)
                return 0;
        place_of_offset(t->text, at, reterr_at);
        snprintf(reterr_why, CONFIG_WHY_MAX, "%s", why);
        config_text_done(t);
        return -EINVAL;
}

void config_text_done(struct config_text *t) {
        free(t->name);
        free(t->text);
        *t = (struct config_text){ 0 };
}

/* A walk over the keys and list entries in the order of the text. The text is JSON, at least as far as the walk goes; behind a mistake the
 * walk may be wrong but stays inside the text and the levels. */
struct walk {
        const struct config_text *t;
        size_t at;                                 /* the next byte to look at */
        struct tel_config_path path;               /* of the last key or entry */
        size_t start;                              /* and where it begins */
        unsigned depth;
        bool key_next;                             /* a string now is a key, not a value */
        struct {
                size_t path_len, index;
                bool list;
        } levels[TEL_CONFIG_DEPTH_MAX];
};

static void walk_begin_entry(struct walk *w) {
        size_t at = w->at;
        while (at < w->t->len && is_blank(w->t->text[at]))
                at++;
        w->start = at;
        tel_config_path_cut(&w->path, w->levels[w->depth - 1].path_len);
        tel_config_path_index(&w->path, w->levels[w->depth - 1].index++);
}

static void walk_begin_key(struct walk *w, size_t from, size_t to) {
        const char *raw = w->t->text + from;
        w->start = from;
        w->key_next = false;
        tel_config_path_cut(&w->path, w->levels[w->depth - 1].path_len);
        json_t *decoded = NULL;
        if (memchr(raw, '\\', to - from))
                decoded = json_loadb(raw, to - from, JSON_DECODE_ANY, NULL);
        if (decoded)
                tel_config_path_key(&w->path, json_string_value(decoded), json_string_length(decoded));
        else
                tel_config_path_key(&w->path, raw + 1, to - from >= 2 ? to - from - 2 : 0);
        json_decref(decoded);
}

/* Goes to the next key or entry. Returns false at the end. */
static bool walk_next(struct walk *w) {
        const char *text = w->t->text;
        while (w->at < w->t->len) {
                size_t from = w->at++;
                char c = text[from];
                bool in_list = w->depth > 0 && w->levels[w->depth - 1].list;
                if (c == '"') {
                        w->at = string_end(text, w->t->len, from);
                        if (w->key_next && w->depth > 0) {
                                walk_begin_key(w, from, w->at);
                                return true;
                        }
                } else if (c == '{' || c == '[') {
                        assert(w->depth < TEL_CONFIG_DEPTH_MAX);           /* strip() counted them */
                        w->levels[w->depth].path_len = w->path.len;
                        w->levels[w->depth].index = 0;
                        w->levels[w->depth++].list = c == '[';
                        w->key_next = c == '{';
                } else if ((c == '}' || c == ']') && w->depth > 0) {
                        tel_config_path_cut(&w->path, w->levels[--w->depth].path_len);
                        w->key_next = false;
                } else if (c == ',' && !in_list) {
                        w->key_next = true;
                }
                if (c == '[' || (c == ',' && in_list)) {
                        walk_begin_entry(w);
                        return true;
                }
        }
        return false;
}

size_t config_text_find(const struct config_text *t, const char *path, struct config_place *ret) {
        struct walk w = { .t = t };
        size_t start = 0, found = 0, len = strlen(path);
        while (start < t->len && is_blank(t->text[start]))
                start++;
        while (found < len && walk_next(&w)) {
                size_t n = w.path.len;
                bool around = n > found && n <= len && memcmp(path, w.path.text, n) == 0 &&
                              (path[n] == '\0' || path[n] == '.' || path[n] == '[');
                if (around) {
                        start = w.start;
                        found = n;
                }
        }
        place_of_offset(t->text, start < t->len ? start : 0, ret);
        return found;
}

void config_text_before(const struct config_text *t, size_t offset, struct tel_config_path *ret, struct config_place *ret_at) {
        struct walk w = { .t = t };
        size_t start = 0;
        *ret = (struct tel_config_path){ 0 };
        while (walk_next(&w) && w.start < offset) {
                *ret = w.path;
                start = w.start;
        }
        place_of_offset(t->text, start, ret_at);
}

static void closep(int *fd) {
        if (*fd >= 0)
                close(*fd);
}

static int file_fail(int r, char *reterr_why, const char *why) {
        snprintf(reterr_why, CONFIG_WHY_MAX, "%s", why ? why : strerror(-r));
        return r;
}

int config_file_read(const char *path, size_t max, char **ret, size_t *ret_len, char reterr_why[static CONFIG_WHY_MAX]) {
        struct stat st;
        /* O_NONBLOCK: a FIFO without a writer must not hold us before fstat() can refuse it. */
        TEL_CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0 || fstat(fd, &st) < 0)
                return file_fail(-errno, reterr_why, NULL);
        if (!S_ISREG(st.st_mode))
                return file_fail(-EINVAL, reterr_why, "not a regular file");
        /* The bound and not st_size, which is 0 for files of /proc and old for one that grows. Untouched pages cost nothing. */
        TEL_CLEANUP_FREE char *text = malloc(max + 2);
        if (!text)
                return file_fail(-ENOMEM, reterr_why, NULL);
        size_t len = 0;
        while (len <= max) {
                ssize_t n = read(fd, text + len, max + 1 - len);
                if (n == 0)
                        break;
                if (n > 0)
                        len += (size_t)n;
                else if (errno != EINTR)
                        return file_fail(-errno, reterr_why, NULL);
        }
        if (len > max) {
                snprintf(reterr_why, CONFIG_WHY_MAX, "more than %zu bytes", max);
                return -EFBIG;
        }
        text[len] = '\0';
        char *fitting = realloc(text, len + 1);
        *ret = fitting ? fitting : text;
        *ret_len = len;
        text = NULL;
        return 0;
}

/* Values are printed as JSON and sent as UTF-8, so nothing else may come in by a side door. */
static bool is_text(const char *bytes, size_t n) {
        return !memchr(bytes, '\0', n) && tel_utf8_valid(bytes, n);
}

static int why_fail(char *why, const char *fmt, ...) TEL_PRINTF(2, 3);
static int why_fail(char *why, const char *fmt, ...) {
        va_list args;
        va_start(args, fmt);
        vsnprintf(why, CONFIG_WHY_MAX, fmt, args);
        va_end(args);
        return -EINVAL;
}

static int append(struct tel_buf *b, const char *bytes, size_t n, char *why) {
        int r = tel_buf_append(b, bytes, n, TEL_CONFIG_STRING_MAX);
        if (r == -EMSGSIZE)
                return why_fail(why, "a string has at most %u bytes", TEL_CONFIG_STRING_MAX);
        return r;
}

static int expand_file(struct tel_buf *b, const char *path, char *why) {
        TEL_CLEANUP_FREE char *text = NULL;
        char reason[CONFIG_WHY_MAX];
        size_t n = 0;
        int r = config_file_read(path, TEL_CONFIG_STRING_MAX, &text, &n, reason);
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                return why_fail(why, "cannot read '%.100s': %.60s", path, reason);
        if (n > 0 && text[n - 1] == '\n')
                n--;
        if (n > 0 && text[n - 1] == '\r')
                n--;
        if (!is_text(text, n))
                return why_fail(why, "'%.100s' is not UTF-8 text", path);
        return append(b, text, n, why);
}

static int expand_variable(struct tel_buf *b, const char *name, char *why) {
        size_t n = strlen(name);
        bool good = n > 0 && !(name[0] >= '0' && name[0] <= '9');
        for (size_t i = 0; i < n && good; i++)
                good = is_word_byte(name[i]) && name[i] != '-';
        if (!good)
                return why_fail(why, "expected ${NAME} or ${file:/path}, got '${%.60s}'", name);
        const char *value = getenv(name);
        if (!value)
                return why_fail(why, "environment variable '%.100s' is not set", name);
        if (!is_text(value, strlen(value)))
                return why_fail(why, "environment variable '%.100s' is not UTF-8 text", name);
        return append(b, value, strlen(value), why);
}

/* at: behind "${". *ret_end: behind "}". */
static int expand_one(struct tel_buf *b, const char *at, const char **ret_end, char *why) {
        const char *close = strchr(at, '}');
        if (!close)
                return why_fail(why, "'${' lacks its '}'; a literal '$' is written '$$'");
        TEL_CLEANUP_FREE char *name = strndup(at, (size_t)(close - at));
        if (!name)
                return -ENOMEM;
        *ret_end = close + 1;
        if (strncmp(name, "file:", 5) == 0)
                return expand_file(b, name + 5, why);
        return expand_variable(b, name, why);
}

int config_expand(const char *raw, char **ret, char reterr_why[static CONFIG_WHY_MAX]) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *b = tel_buf_new(NULL, 0);
        if (!b)
                return -ENOMEM;
        while (*raw) {
                size_t plain = strcspn(raw, "$");
                int r = append(b, raw, plain, reterr_why);
                raw += plain;
                if (r == 0 && raw[0] == '$' && raw[1] == '{') {
                        r = expand_one(b, raw + 2, &raw, reterr_why);
                } else if (r == 0 && raw[0] == '$') {
                        /* One that begins nothing stays, so that a regular expression may end in it. */
                        r = append(b, "$", 1, reterr_why);
                        raw += raw[1] == '$' ? 2 : 1;
                }
                if (r < 0)
                        return r;
        }
        char *text = b->len ? strndup((const char *)b->data, b->len) : strdup("");
        if (!text)
                return -ENOMEM;
        *ret = text;
        return 0;
}
