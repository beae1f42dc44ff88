/* SPDX-License-Identifier: Apache-2.0 */
/* A field's place in the program says nothing in a line that many callers share. */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include "libtelemetry/log.h"

#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <time.h>
#include <unistd.h>

#include "libtelemetry/utf8.h"

/* Of one value: so long a message leaves room for its fields, and one long field for the others. */
#define VALUE_MAX 1024
#define CUT "..."
#define JOURNAL_SOCKET "/run/systemd/journal/socket"

static const struct {
        const char *name;
        char priority;                             /* syslog(3), as the journal counts it */
} levels[] = {
        [TEL_LOG_ERROR] = { "error", '3' },
        [TEL_LOG_WARN] = { "warn", '4' },
        [TEL_LOG_INFO] = { "info", '6' },
        [TEL_LOG_DEBUG] = { "debug", '7' },
};

static struct {
        const char *name;
        enum tel_log_level level;
        bool journal;                              /* stderr is the journal's stream */
        bool native;                               /* and its socket takes fields */
} log_state = { .name = "", .level = TEL_LOG_INFO };

/* Whether $JOURNAL_STREAM names the file that stderr is: it is inherited, so it may speak of an ancestor's stderr. */
static bool stderr_is_journal(void) {
        const char *stream = getenv("JOURNAL_STREAM");
        struct stat st;
        if (!stream || fstat(STDERR_FILENO, &st) < 0)
                return false;
        char own[64];
        snprintf(own, sizeof(own), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
        return strcmp(stream, own) == 0;
}

void tel_log_open(const char *name, enum tel_log_level level) {
        log_state.name = name;
        log_state.level = level;
        log_state.journal = stderr_is_journal();
        /* Asked here, because sd_journal_sendv() says that all is well when there is no socket, as under another root directory. */
        log_state.native = log_state.journal && access(JOURNAL_SOCKET, W_OK) == 0;
}

void tel_log_set_level(enum tel_log_level level) {
        log_state.level = level;
}

enum tel_log_level tel_log_get_level(void) {
        return log_state.level;
}

int tel_log_level_parse(const char *name, enum tel_log_level *ret) {
        for (size_t i = 0; i < TEL_ARRAY_LEN(levels); i++)
                if (strcmp(levels[i].name, name) == 0) {
                        *ret = (enum tel_log_level)i;
                        return 0;
                }
        return -EINVAL;
}

const char *tel_log_level_name(enum tel_log_level level) {
        assert((size_t)level < TEL_ARRAY_LEN(levels));
        return levels[level].name;
}

/* ---- logfmt ---- */

struct line {
        char *at;
        size_t n;                                  /* bytes that text may take; a NUL has room behind */
        size_t len;
};

static void line_put(struct line *l, const char *text, size_t n) {
        assert(n <= l->n - l->len);
        memcpy(l->at + l->len, text, n);
        l->len += n;
}

/* The character at p as it stands between quotes, into out. Returns the bytes it took from p. */
static size_t escape(const uint8_t *p, const uint8_t *end, char out[static 8], size_t *ret_len) {
        size_t k = tel_utf8_sequence(p, end);
        if (*p == '"' || *p == '\\')
                *ret_len = (size_t)sprintf(out, "\\%c", *p);
        else if (*p == '\n' || *p == '\r' || *p == '\t')
                *ret_len = (size_t)sprintf(out, "\\%c", *p == '\n' ? 'n' : *p == '\r' ? 'r' : 't');
        else if (*p < 0x20 || *p == 0x7f)
                *ret_len = (size_t)sprintf(out, "\\u%04x", *p);
        else if (k == 0)
                *ret_len = (size_t)sprintf(out, "\xef\xbf\xbd");               /* U+FFFD */
        else {
                memcpy(out, p, k);
                *ret_len = k;
        }
        return k ? k : 1;
}

static bool needs_quotes(const char *value) {
        if (!*value)
                return true;
        for (const uint8_t *p = (const uint8_t *)value; *p; p++)
                if (*p <= ' ' || *p == '=' || *p == '"' || *p == '\\' || *p == 0x7f)
                        return true;
        return !tel_utf8_valid(value, strlen(value));
}

/* Appends ` key=value`. What is too long is cut and ends in "..."; a pair whose start does not fit is left out. */
static void line_pair(struct line *l, const char *key, const char *value, bool quoted) {
        size_t key_len = strlen(key), gap = l->len ? 1 : 0;
        size_t around = gap + key_len + 1 + 2 + strlen(CUT);   /* besides the value: = and two quotes and the cut */
        if (l->n - l->len <= around)
                return;
        size_t room = TEL_MIN(l->n - l->len - around, (size_t)VALUE_MAX);
        line_put(l, " ", gap);
        line_put(l, key, key_len);
        line_put(l, quoted ? "=\"" : "=", quoted ? 2 : 1);
        const uint8_t *p = (const uint8_t *)value, *end = p + strlen(value);
        while (p < end) {
                char one[8];
                size_t len, took = escape(p, end, one, &len);
                if (len > room) {
                        line_put(l, CUT, strlen(CUT));
                        break;
                }
                line_put(l, one, len);
                room -= len;
                p += took;
        }
        line_put(l, "\"", quoted ? 1 : 0);
}

size_t tel_log_format(char *out, size_t n, uint64_t realtime_ns, enum tel_log_level level, const char *msg,
                      const struct tel_log_field *fields, size_t n_fields) {
        if (n == 0)
                return 0;
        struct line l = { .at = out, .n = n - 1 };
        char ts[48] = "";
        struct tm tm;
        time_t seconds = (time_t)(realtime_ns / TEL_NS_PER_S);
        if (gmtime_r(&seconds, &tm)) {
                size_t len = strftime(ts, sizeof(ts), "%Y-%m-%dT%H:%M:%S", &tm);
                snprintf(ts + len, sizeof(ts) - len, ".%09uZ", (unsigned)(realtime_ns % TEL_NS_PER_S));
        }
        line_pair(&l, "ts", ts, false);
        line_pair(&l, "level", tel_log_level_name(level), false);
        line_pair(&l, "msg", msg, true);
        for (size_t i = 0; i < n_fields; i++) {
                const char *value = fields[i].value ? fields[i].value : "";
                line_pair(&l, fields[i].key, value, needs_quotes(value));
        }
        out[l.len] = '\0';
        return l.len;
}

static void stderr_write(enum tel_log_level level, const char *msg, const struct tel_log_field *fields, size_t n) {
        char line[TEL_LOG_LINE_MAX];
        size_t len = 0;
        if (log_state.journal)                     /* it did not take the fields: the prefix at least keeps the priority (sd-daemon(3)) */
                len = (size_t)sprintf(line, "<%c>", levels[level].priority);
        struct timespec ts;
        clock_gettime(CLOCK_REALTIME, &ts);
        uint64_t now_ns = (uint64_t)ts.tv_sec * TEL_NS_PER_S + (uint64_t)ts.tv_nsec;
        len += tel_log_format(line + len, sizeof(line) - len, now_ns, level, msg, fields, n);
        line[len++] = '\n';                        /* in the place of the NUL */
        ssize_t r;
        do
                r = write(STDERR_FILENO, line, len);           /* one call, so lines of several processes never mix */
        while (r < 0 && errno == EINTR);
}

/* ---- journal ---- */

/* "KEY=value" at *at, which moves behind it; the value is cut when there is no room. Returns it as an iovec; empty when nothing fits. */
static struct iovec journal_field(char **at, const char *end, const char *key, const char *value) {
        char *p = *at;
        size_t key_len = strlen(key), value_len = strlen(value);
        if ((size_t)(end - p) < key_len + 1 + strlen(CUT))
                return (struct iovec){ 0 };
        size_t room = TEL_MIN((size_t)(end - p) - key_len - 1, (size_t)VALUE_MAX);
        for (size_t i = 0; i < key_len; i++)
                *p++ = key[i] >= 'a' && key[i] <= 'z' ? (char)(key[i] - 'a' + 'A') : key[i];
        *p++ = '=';
        if (value_len <= room)
                p = mempcpy(p, value, value_len);
        else {
                size_t cut = room - strlen(CUT);
                while (cut > 0 && (value[cut] & 0xc0) == 0x80)
                        cut--;                     /* between characters */
                p = mempcpy(p, value, cut);
                p = mempcpy(p, CUT, strlen(CUT));
        }
        struct iovec v = { .iov_base = *at, .iov_len = (size_t)(p - *at) };
        *at = p;
        return v;
}

static int journal_write(enum tel_log_level level, const char *msg, const struct tel_log_field *fields, size_t n) {
        char text[TEL_LOG_LINE_MAX], *at = text;
        const char *end = text + sizeof(text);
        struct iovec v[3 + TEL_LOG_FIELDS_MAX + 1];            /* tel_log_repeated_fields() adds one */
        int used = 0;
        v[used++] = journal_field(&at, end, "PRIORITY", (char[]){ levels[level].priority, '\0' });
        v[used++] = journal_field(&at, end, "SYSLOG_IDENTIFIER", log_state.name);
        v[used++] = journal_field(&at, end, "MESSAGE", msg);
        for (size_t i = 0; i < n; i++) {
                v[used] = journal_field(&at, end, fields[i].key, fields[i].value ? fields[i].value : "");
                used += v[used].iov_len > 0;
        }
        return sd_journal_sendv(v, used);
}

/* ---- calls ---- */

static void log_write(enum tel_log_level level, const char *msg, const struct tel_log_field *fields, size_t n) {
        if (log_state.native && journal_write(level, msg, fields, n) >= 0)
                return;
        stderr_write(level, msg, fields, n);
}

void tel_log_fields(enum tel_log_level level, const char *msg, const struct tel_log_field *fields, size_t n) {
        assert(n <= TEL_LOG_FIELDS_MAX);
        if (level <= log_state.level)
                log_write(level, msg, fields, n);
}

bool tel_log_repeat_due(struct tel_log_repeat *r, uint64_t now_ns, uint64_t *ret_repeated) {
        if (now_ns < r->next_ns) {
                r->suppressed++;
                return false;
        }
        *ret_repeated = r->suppressed;
        r->suppressed = 0;
        r->next_ns = tel_add_sat(now_ns, TEL_LOG_REPEAT_NS);
        return true;
}

void tel_log_repeated_fields(struct tel_log_repeat *r, uint64_t now_ns, enum tel_log_level level, const char *msg,
                             const struct tel_log_field *fields, size_t n) {
        assert(n <= TEL_LOG_FIELDS_MAX);
        uint64_t repeated;
        if (level > log_state.level || !tel_log_repeat_due(r, now_ns, &repeated))
                return;
        struct tel_log_field all[TEL_LOG_FIELDS_MAX + 1];
        char number[24];
        memcpy(all, fields, n * sizeof(*fields));
        if (repeated > 0)
                all[n++] = (struct tel_log_field){ "repeated", TEL_LOGF(number, "%ju", (uintmax_t)repeated) };
        log_write(level, msg, all, n);
}
