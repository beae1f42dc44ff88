/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "collectord/sources/line.h"
#include "libtelemetry/json.h"
#include "libtelemetry/otlp_json.h"

/* The strings of a short form, unescaped side by side in one heap block no longer than the line. */
struct short_form {
        struct tel_log log;
        struct tel_attribute attributes[TEL_ATTRIBUTES_MAX];
        char *heap, *end;
};

static int fail(char *reterr, const char *what) {
        snprintf(reterr, TEL_OTLP_ERROR_MAX, "%s", what);
        return -EBADMSG;
}

/* A NUL-terminated copy of the last key or value. */
static const char *keep(struct short_form *f, const struct tel_json *j, enum tel_json_token token) {
        char *at = f->end;
        ssize_t n;
        switch (token) {
        case TEL_JSON_TRUE:
                n = (ssize_t)strlen(strcpy(at, "true"));
                break;
        case TEL_JSON_FALSE:
                n = (ssize_t)strlen(strcpy(at, "false"));
                break;
        case TEL_JSON_NUMBER:
                memcpy(at, j->text, j->len);
                n = (ssize_t)j->len;
                break;
        default:
                n = tel_json_unescape(j->text, j->len, at);
        }
        if (n < 0 || memchr(at, '\0', (size_t)n))
                return NULL;                       /* a NUL would cut the string in silence */
        at[n] = '\0';
        f->end = at + n + 1;
        return at;
}

static int short_field(struct short_form *f, struct tel_json *j, char *reterr) {
        const char *key = keep(f, j, TEL_JSON_KEY);
        if (!key)
                return fail(reterr, "a key is not valid text");
        enum tel_json_token token = tel_json_next(j);
        if (token == TEL_JSON_ERROR)
                return -EBADMSG;
        if (token == TEL_JSON_NULL)
                return 0;
        if (token == TEL_JSON_OBJECT || token == TEL_JSON_ARRAY) {
                snprintf(reterr, TEL_OTLP_ERROR_MAX, "'%.60s': expected a string, a number or a boolean; nested values need a whole OTLP/JSON request", key);
                return -EBADMSG;
        }
        const char *value = keep(f, j, token);
        if (!value) {
                snprintf(reterr, TEL_OTLP_ERROR_MAX, "'%.60s': not valid text", key);
                return -EBADMSG;
        }
        if (strcmp(key, "log") == 0)
                f->log.body = value;
        else if (strcmp(key, "level") == 0)
                f->log.level = value;
        else if (strcmp(key, "service") == 0)
                f->log.service = value;
        else if (f->log.n_attributes == TEL_ATTRIBUTES_MAX)
                return fail(reterr, "too many keys: at most 32 besides log, level and service");
        else
                f->attributes[f->log.n_attributes++] = (struct tel_attribute){ key, value };
        return 0;
}

static int short_parse(struct short_form *f, const char *text, size_t n, char *reterr) {
        struct tel_json j;
        enum tel_json_token token;
        int r = 0;
        tel_json_init(&j, text, n);
        if (tel_json_next(&j) != TEL_JSON_OBJECT)
                return fail(reterr, "expected a JSON object");
        while (r == 0 && (token = tel_json_next(&j)) == TEL_JSON_KEY)
                r = short_field(f, &j, reterr);
        if (r == 0)
                token = tel_json_next(&j);
        if (j.error) {
                unsigned line, column;
                tel_json_where(&j, &line, &column);
                snprintf(reterr, TEL_OTLP_ERROR_MAX, "column %u: %s", column, j.error);
                return -EBADMSG;
        }
        if (r < 0)
                return r;
        if (!f->log.body)
                return fail(reterr, "expected the key \"log\", or resourceSpans, resourceMetrics or resourceLogs");
        if (f->log.level && tel_otlp_severity(f->log.level) == 0) {
                snprintf(reterr, TEL_OTLP_ERROR_MAX, "level '%.40s': expected trace, debug, info, warn, error or fatal", f->log.level);
                return -EBADMSG;
        }
        return 0;
}

int line_parse(const char *text, size_t n, uint64_t now_ns, struct tel_buf *out, size_t max, enum tel_signal *ret_signal, char *reterr) {
        enum tel_signal signal = tel_otlp_json_signal(text, n);
        if (signal != TEL_SIGNALS) {
                int r = tel_otlp_from_json(signal, text, n, out, max, reterr);
                if (r < 0)
                        return r;
                *ret_signal = signal;
                return 0;
        }
        /* Each string is at most its text and a NUL, which takes the place of a quote, or of what follows a number; true and false have their letters. */
        TEL_CLEANUP_FREE char *heap = malloc(2 * n + 8);
        struct short_form f = { .heap = heap, .end = heap };
        if (!heap)
                return -ENOBUFS;
        int r = short_parse(&f, text, n, reterr);
        if (r < 0)
                return r;
        f.log.attributes = f.attributes;
        f.log.time_ns = now_ns;
        r = tel_otlp_log_put(out, &f.log, max);
        if (r < 0) {
                snprintf(reterr, TEL_OTLP_ERROR_MAX, "cannot encode the log: %s", strerror(-r));
                return r == -EMSGSIZE || r == -ENOBUFS ? r : -EBADMSG;
        }
        *ret_signal = TEL_LOGS;
        return 0;
}
