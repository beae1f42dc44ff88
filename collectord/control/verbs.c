/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdarg.h>

#include "collectord/control/verbs.h"
#include "collectord/report.h"
#include "collectord/report_text.h"
#include "libtelemetry/line_server.h"
#include "libtelemetry/log.h"

struct call {
        struct daemon *daemon;
        bool json;
        char **words;                              /* behind the verb */
        size_t n;
        uint64_t now_ns;
        FILE *out;
        struct tap_request *tap;
};

struct verb {
        const char *name, *arguments, *help;
        int (*run)(struct call *c);                /* 0 or VERBS_TAP */
};
static const struct verb verbs[];

/* Refuses the call, which is answered with that. */
TEL_PRINTF(2, 3) static int fail(struct call *c, const char *format, ...) {
        va_list args;
        va_start(args, format);
        tel_line_verror(c->out, c->json, format, args);
        va_end(args);
        return 0;
}

int verbs_split(char *line, char **words, size_t max) {
        size_t n = 0;
        char *from = line, *to = line;
        for (;;) {
                char quote = '\0';
                while (*from == ' ' || *from == '\t')
                        from++;
                if (*from == '\0')
                        return (int)n;
                if (n == max)
                        return -E2BIG;
                words[n++] = to;
                while (*from && (quote || (*from != ' ' && *from != '\t'))) {
                        if (*from == quote && quote) {
                                quote = '\0';
                                from++;
                        } else if (!quote && (*from == '"' || *from == '\'')) {
                                quote = *from++;
                        } else {
                                if (*from == '\\' && quote != '\'' && from[1])
                                        from++;
                                *to++ = *from++;
                        }
                }
                if (quote)
                        return -EINVAL;
                bool last = *from == '\0';         /* the end of this word may lie on it */
                from += !last;
                *to++ = '\0';
                if (last)
                        return (int)n;
        }
}

/* ---- the verbs ---- */

/* An object, or the elements of an array, a line each. Takes report. */
static int answer(struct call *c, json_t *report, void (*text)(const json_t *report, FILE *to)) {
        size_t i;
        json_t *o;
        if (!report) {
                tel_line_error(c->out, c->json, "out of memory");
        } else if (!c->json) {
                text(report, c->out);
        } else if (json_is_object(report)) {
                json_dumpf(report, c->out, JSON_COMPACT);
                fputs("\n", c->out);
        } else {
                json_array_foreach(report, i, o) {
                        json_dumpf(o, c->out, JSON_COMPACT);
                        fputs("\n", c->out);
                }
        }
        json_decref(report);
        return 0;
}

static int run_help(struct call *c) {
        for (const struct verb *v = verbs; v->name; v++) {
                char usage[128];
                if (c->json) {
                        json_auto_t *o = json_pack("{ss ss ss}", "verb", v->name, "arguments", v->arguments,
                                                   "help", v->help);
                        if (o)
                                json_dumpf(o, c->out, JSON_COMPACT);
                        fputs("\n", c->out);
                        continue;
                }
                snprintf(usage, sizeof(usage), "%s%s%s", v->name, *v->arguments ? " " : "", v->arguments);
                if (strlen(usage) > 22)
                        fprintf(c->out, "%s\n%-23s%s\n", usage, "", v->help);
                else
                        fprintf(c->out, "%-22s %s\n", usage, v->help);
        }
        if (!c->json)
                fputs("json VERB ...          the answer as JSON, an object a line\n"
                      "D is a duration: 30s, 5m, 1h. FILTER is key=value, key!=value or key~text; several must all hold.\n"
                      "An answer ends with an empty line.\n",
                      c->out);
        return 0;
}

static int run_status(struct call *c) {
        return answer(c, report_status(c->daemon, c->now_ns), report_text_status);
}

static int run_destinations(struct call *c) {
        return answer(c, report_destinations(c->daemon, c->now_ns), report_text_destinations);
}

static int run_sources(struct call *c) {
        return answer(c, report_sources(c->daemon, c->now_ns), report_text_sources);
}

/* The value of option at words[*i], which moves onto it. Returns whether it is a duration; else the error was
 * written. */
static bool duration_option(struct call *c, size_t *i, uint64_t *ret) {
        const char *option = c->words[*i];
        const char *value = *i + 1 < c->n ? c->words[++*i] : NULL;
        if (value && tel_config_parse_duration(value, ret) == 0)
                return true;
        if (value)
                fail(c, "%s expects a duration such as 30s, 5m or 1h, got '%.40s'", option, value);
        else
                fail(c, "%s expects a duration such as 30s, 5m or 1h", option);
        return false;
}

static int run_lost(struct call *c) {
        uint64_t since = 0;
        for (size_t i = 0; i < c->n; i++) {
                if (strcmp(c->words[i], "--since") != 0)
                        return fail(c, "lost takes --since D, not '%.60s'", c->words[i]);
                if (!duration_option(c, &i, &since))
                        return 0;
                since = c->now_ns > since ? c->now_ns - since : 0;
        }
        return answer(c, report_lost(c->daemon, since), report_text_lost);
}

static int run_loglevel(struct call *c) {
        enum tel_log_level level;
        if (c->n > 1)
                return fail(c, "loglevel takes one level");
        if (c->n == 1) {
                if (tel_log_level_parse(c->words[0], &level) < 0)
                        return fail(c, "'%.40s' is no level; expected error, warn, info or debug", c->words[0]);
                tel_log_set_level(level);
        }
        const char *name = tel_log_level_name(tel_log_get_level());
        fprintf(c->out, c->json ? "{\"log_level\":\"%s\"}\n" : "log level %s\n", name);
        return 0;
}

static int run_reload(struct call *c) {
        char error[TEL_CONFIG_ERROR_MAX] = "";
        if (daemon_reload(c->daemon, error) < 0)
                return fail(c, "%s", error);
        fputs(c->json ? "{\"reloaded\":true}\n" : "reloaded\n", c->out);
        return 0;
}

/* One word of tap that begins with --. Returns whether it is well; else the error was written. */
static bool tap_option(struct call *c, size_t *i) {
        struct tap_request *t = c->tap;
        const char *option = c->words[*i];
        if (strcmp(option, "--no-follow") == 0) {
                t->follow = false;
                return true;
        }
        if (strcmp(option, "--back") == 0) {
                t->back = true;
                return duration_option(c, i, &t->back_ns);
        }
        if (strcmp(option, "--for") == 0) {
                const char *value = *i + 1 < c->n ? c->words[++*i] : "";
                char *end;
                t->lines = strtoull(value, &end, 10);
                if (*value >= '1' && *value <= '9' && *end == '\0' && t->lines < UINT64_MAX)
                        return true;
                fail(c, "--for expects a number of lines, got '%.40s'", value);
                return false;
        }
        fail(c, "tap has no option '%.60s'; try help", option);
        return false;
}

static int run_tap(struct call *c) {
        struct tap_request *t = c->tap;
        char error[TAP_ERROR_MAX];
        *t = (struct tap_request){ .json = c->json, .follow = true, .lines = UINT64_MAX };
        for (size_t i = 0; i < c->n; i++) {
                const char *word = c->words[i];
                enum tel_signal signal = tel_signal_by_name(word);
                if (signal < TEL_SIGNALS)
                        t->signals |= 1u << signal;
                else if (strncmp(word, "--", 2) == 0 && !tap_option(c, &i))
                        return 0;
                else if (strncmp(word, "--", 2) != 0 && tap_filter_add(&t->filter, word, error) < 0)
                        return fail(c, "%s", error);
        }
        if (t->signals == 0)
                t->signals = (1u << TEL_SIGNALS) - 1;
        if (!t->follow && !t->back) {              /* what else could it show */
                t->back = true;
                t->back_ns = UINT64_MAX;
        }
        return VERBS_TAP;
}

static const struct verb verbs[] = {
        { "help", "", "this list", run_help },
        { "status", "", "state, listeners, budgets, spools, a line for each destination", run_status },
        { "destinations", "", "each destination and signal: state, waiting, delivered, dropped, last error",
          run_destinations },
        { "sources", "", "listeners with what came in and how fast; producers on the frame socket", run_sources },
        { "lost", "[--since D]", "every loss: when, whose, how many, why", run_lost },
        { "tap", "[traces|metrics|logs|profiles] [--back D] [--for LINES] [--no-follow] [FILTER]",
          "items as they come in; --back shows first what the buffer still holds", run_tap },
        { "loglevel", "[LEVEL]", "shows or sets it: error, warn, info, debug", run_loglevel },
        { "reload", "", "reads the configuration again; a bad one is refused and changes nothing", run_reload },
        { NULL, NULL, NULL, NULL },
};

int verbs_run(struct daemon *d, char *line, uint64_t now_ns, FILE *out, struct tap_request *ret_tap) {
        char *words[VERBS_WORDS_MAX];
        int n = verbs_split(line, words, TEL_ARRAY_LEN(words));
        struct call c = { .daemon = d, .words = words, .now_ns = now_ns, .out = out, .tap = ret_tap };
        if (n == -E2BIG)
                return fail(&c, "more than %d words", VERBS_WORDS_MAX);
        if (n < 0)
                return fail(&c, "a quote is not closed");
        c.n = (size_t)n;
        if (c.n > 0 && strcmp(c.words[0], "json") == 0) {
                c.json = true;
                c.words++;
                c.n--;
        }
        if (c.n == 0)
                return fail(&c, "no verb; try help");
        const char *name = *c.words++;
        c.n--;
        for (const struct verb *v = verbs; v->name; v++) {
                if (strcmp(v->name, name) != 0)
                        continue;
                if (c.n > 0 && v->arguments[0] == '\0')
                        return fail(&c, "%s takes no argument", name);
                return v->run(&c);
        }
        return fail(&c, "unknown verb '%.60s'; try help", name);
}
