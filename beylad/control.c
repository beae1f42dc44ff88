/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/control.h"

#include "libtelemetry/config.h"
#include "libtelemetry/line_server.h"
#include "libtelemetry/log.h"

#define WORDS_MAX 8                                /* of a line: json, a verb, its argument, and some to complain about */

struct control {
        struct control_verbs verbs;
        struct tel_line_server *server;
        struct tel_log_repeat accept_log;
};

/* ---- verbs ---- */

struct call {
        const struct control_verbs *verbs;
        bool json;
        const char *argument;                      /* NULL: none */
        FILE *to;
};

struct verb {
        const char *name, *argument, *help;        /* argument: "" none, "[X]" may be left out */
        bool (*there)(const struct control_verbs *v);          /* NULL: always */
        void (*run)(const struct call *c);
};
static const struct verb verbs[];

static void run_help(const struct call *c) {
        for (const struct verb *v = verbs; v->name; v++) {
                char usage[64];
                if (v->there && !v->there(c->verbs))
                        continue;
                snprintf(usage, sizeof(usage), "%s%s%s", v->name, *v->argument ? " " : "", v->argument);
                if (c->json)
                        fprintf(c->to, "{\"verb\":\"%s\",\"arguments\":\"%s\",\"help\":\"%s\"}\n", v->name, v->argument, v->help);
                else
                        fprintf(c->to, "%-22s %s\n", usage, v->help);
        }
        if (!c->json)
                fputs("json VERB ...          the answer as JSON, an object a line\nAn answer ends with an empty line.\n", c->to);
}

static bool has_status(const struct control_verbs *v) {
        return v->status != NULL;
}

static void run_status(const struct call *c) {
        c->verbs->status(c->verbs->ctx, c->json, c->to);
}

static bool has_stats(const struct control_verbs *v) {
        return v->stats != NULL;
}

static void run_stats(const struct call *c) {
        c->verbs->stats(c->verbs->ctx, c->json, c->to);
}

static bool has_processes(const struct control_verbs *v) {
        return v->processes != NULL;
}

static void run_processes(const struct call *c) {
        c->verbs->processes(c->verbs->ctx, c->json, c->to);
}

static bool has_explain(const struct control_verbs *v) {
        return v->explain != NULL;
}

static void run_explain(const struct call *c) {
        char *end;
        unsigned long pid = strtoul(c->argument, &end, 10);
        if (*c->argument < '1' || *c->argument > '9' || *end || pid > INT32_MAX)
                tel_line_error(c->to, c->json, "explain expects a process id, got '%.40s'", c->argument);
        else
                c->verbs->explain(c->verbs->ctx, (uint32_t)pid, c->json, c->to);
}

static void run_loglevel(const struct call *c) {
        enum tel_log_level level;
        if (c->argument && tel_log_level_parse(c->argument, &level) < 0) {
                tel_line_error(c->to, c->json, "'%.40s' is no level; expected error, warn, info or debug", c->argument);
                return;
        }
        if (c->argument)
                tel_log_set_level(level);
        const char *name = tel_log_level_name(tel_log_get_level());
        fprintf(c->to, c->json ? "{\"log_level\":\"%s\"}\n" : "log level %s\n", name);
}

static bool has_reload(const struct control_verbs *v) {
        return v->reload != NULL;
}

static void run_reload(const struct call *c) {
        char error[TEL_CONFIG_ERROR_MAX] = "";
        if (c->verbs->reload(c->verbs->ctx, error) < 0)
                tel_line_error(c->to, c->json, "%s", error);
        else
                fputs(c->json ? "{\"reloaded\":true}\n" : "reloaded\n", c->to);
}

static const struct verb verbs[] = {
        { "help", "", "this list", NULL, run_help },
        { "status", "", "what is observed and where it goes", has_status, run_status },
        { "stats", "", "counters: events, losses, connections, spans, cost", has_stats, run_stats },
        { "processes", "", "each observed process: name, language, port, how it is probed", has_processes, run_processes },
        { "explain", "PID", "what can be observed of a process, and what not and why", has_explain, run_explain },
        { "loglevel", "[LEVEL]", "shows or sets it: error, warn, info, debug", NULL, run_loglevel },
        { "reload", "", "reads the configuration again; a bad one is refused and changes nothing", has_reload, run_reload },
        { NULL, NULL, NULL, NULL, NULL },
};

/* Cuts line into words at blanks. Returns how many there are, at most max. */
static size_t line_split(char *line, const char **words, size_t max) {
        size_t n = 0;
        char *rest = line;
        for (char *word; n < max && (word = strsep(&rest, " \t"));)
                if (*word)
                        words[n++] = word;
        return n;
}

void control_run(const struct control_verbs *to_verbs, char *line, size_t n, FILE *to) {
        const char *words[WORDS_MAX];
        struct call c = { .verbs = to_verbs, .to = to };
        if (memchr(line, '\0', n)) {
                tel_line_error(to, false, "a line is text, this one holds a zero byte");
                return;
        }
        size_t n_words = line_split(line, words, WORDS_MAX), at = 0;
        c.json = n_words > 0 && strcmp(words[0], "json") == 0;
        at += c.json;
        if (at == n_words) {
                tel_line_error(to, c.json, "no verb; try help");
                return;
        }
        const char *name = words[at++];
        c.argument = at < n_words ? words[at] : NULL;
        for (const struct verb *v = verbs; v->name; v++) {
                if (strcmp(v->name, name) != 0 || (v->there && !v->there(to_verbs)))
                        continue;
                if (n_words - at > (*v->argument != '\0'))
                        tel_line_error(to, c.json, "%s takes %s", name, *v->argument ? "one argument" : "no argument");
                else if (!c.argument && *v->argument && *v->argument != '[')
                        tel_line_error(to, c.json, "%s expects %s", name, v->argument);
                else
                        v->run(&c);
                return;
        }
        tel_line_error(to, c.json, "unknown verb '%.60s'; try help", name);
}

/* ---- the socket ---- */

static struct tel_line_stream *on_line(void *ctx, char *line, size_t n, FILE *to) {
        struct control *k = ctx;
        control_run(&k->verbs, line, n, to);
        return NULL;
}

static void on_accept_failed(void *ctx, const char *why) {
        struct control *k = ctx;
        tel_log_repeated(&k->accept_log, uv_hrtime(), TEL_LOG_ERROR, "cannot accept a control connection", { "err", why });
}

int control_new(const struct control_options *options, struct control **ret, char *reterr) {
        static_assert(CONTROL_ERROR_MAX >= TEL_UNIX_LISTEN_ERROR_MAX, "what tel_line_server_new() writes");
        struct control *k = calloc(1, sizeof(*k));
        if (!k) {
                snprintf(reterr, CONTROL_ERROR_MAX, "out of memory");
                return -ENOMEM;
        }
        k->verbs = options->verbs;
        const struct tel_line_server_options lines = {
                .loop = options->loop, .path = options->path, .fd = options->fd,
                .line_max = CONTROL_LINE_MAX, .peers_max = CONTROL_CONNECTIONS_MAX, .queue_max = CONTROL_QUEUE_MAX,
                .ctx = k, .run = on_line, .accept_failed = on_accept_failed, .closed = free,
        };
        int r = tel_line_server_new(&lines, &k->server, reterr);
        if (r < 0)
                free(k);
        else
                *ret = k;
        return r;
}

struct control *control_free(struct control *k) {
        if (k)
                tel_line_server_free(k->server);
        return NULL;
}
