/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/control.h"

#include <stdarg.h>
#include <unistd.h>

#include "libtelemetry/config.h"
#include "libtelemetry/frame.h"
#include "libtelemetry/json.h"
#include "libtelemetry/log.h"
#include "libtelemetry/unix_listen.h"

#define WORDS_MAX 8                                /* of a line: json, a verb, its argument, and some to complain about */

struct connection {
        struct connection *next;
        struct control *owner;
        uv_pipe_t pipe;
        char in[CONTROL_LINE_MAX];                 /* what has come and was not run yet */
        size_t used;
        bool eof;                                  /* nothing more will come */
        bool closing;
        unsigned writes;                           /* under way */
};

struct control {
        uv_loop_t *loop;
        struct control_verbs verbs;
        uv_pipe_t listener;
        char path[108];
        bool own_path;
        unsigned connections, handles;             /* handles: what the close callbacks still count down */
        struct connection *list;
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

void control_error(FILE *to, bool json, const char *format, ...) {
        char text[TEL_CONFIG_ERROR_MAX + CONTROL_ERROR_MAX], clean[sizeof(text)];
        va_list args;
        va_start(args, format);
        vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        tel_frame_text(clean, sizeof(clean), text, sizeof(text));      /* it may quote the line */
        for (char *p = clean; *p; p++)             /* an error is one line */
                if ((unsigned char)*p < 0x20 || *p == 0x7f)
                        *p = ' ';
        if (!json) {
                fprintf(to, "error: %s\n", clean);
                return;
        }
        fputs("{\"error\":\"", to);
        for (const char *p = clean; *p; p++)
                fprintf(to, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
        fputs("\"}\n", to);
}

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
                control_error(c->to, c->json, "explain expects a process id, got '%.40s'", c->argument);
        else
                c->verbs->explain(c->verbs->ctx, (uint32_t)pid, c->json, c->to);
}

static void run_loglevel(const struct call *c) {
        enum tel_log_level level;
        if (c->argument && tel_log_level_parse(c->argument, &level) < 0) {
                control_error(c->to, c->json, "'%.40s' is no level; expected error, warn, info or debug", c->argument);
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
                control_error(c->to, c->json, "%s", error);
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
                control_error(to, false, "a line is text, this one holds a zero byte");
                return;
        }
        size_t n_words = line_split(line, words, WORDS_MAX), at = 0;
        c.json = n_words > 0 && strcmp(words[0], "json") == 0;
        at += c.json;
        if (at == n_words) {
                control_error(to, c.json, "no verb; try help");
                return;
        }
        const char *name = words[at++];
        c.argument = at < n_words ? words[at] : NULL;
        for (const struct verb *v = verbs; v->name; v++) {
                if (strcmp(v->name, name) != 0 || (v->there && !v->there(to_verbs)))
                        continue;
                if (n_words - at > (*v->argument != '\0'))
                        control_error(to, c.json, "%s takes %s", name, *v->argument ? "one argument" : "no argument");
                else if (!c.argument && *v->argument && *v->argument != '[')
                        control_error(to, c.json, "%s expects %s", name, v->argument);
                else
                        v->run(&c);
                return;
        }
        control_error(to, c.json, "unknown verb '%.60s'; try help", name);
}

/* ---- life of a connection ---- */

static void connection_settle(struct connection *c);

static void control_release(struct control *k) {
        if (--k->handles == 0)
                free(k);
}

static void connection_closed(uv_handle_t *handle) {
        struct connection *c = handle->data;
        struct control *k = c->owner;
        free(c);
        control_release(k);
}

static void connection_close(struct connection *c) {
        if (c->closing)
                return;
        c->closing = true;
        struct connection **at = &c->owner->list;
        while (*at != c)
                at = &(*at)->next;
        *at = c->next;
        c->owner->connections--;
        uv_close((uv_handle_t *)&c->pipe, connection_closed);
}

struct output {
        uv_write_t request;
        struct connection *connection;
        char *text;
};

static void on_written(uv_write_t *request, int status) {
        struct output *o = tel_container_of(request, struct output, request);
        struct connection *c = o->connection;
        free(o->text);
        free(o);
        c->writes--;
        if (status < 0)
                connection_close(c);
        else
                connection_settle(c);
}

/* Takes text, from malloc(). A connection that cannot be written to is closed. */
static void connection_write(struct connection *c, char *text, size_t n) {
        struct output *o = text ? calloc(1, sizeof(*o)) : NULL;
        uv_buf_t bytes = uv_buf_init(text, (unsigned)n);
        if (o)
                *o = (struct output){ .connection = c, .text = text };
        if (!o || uv_write(&o->request, (uv_stream_t *)&c->pipe, &bytes, 1, on_written) < 0) {
                free(text);
                free(o);
                connection_close(c);
                return;
        }
        c->writes++;
}

static void connection_refuse(struct connection *c, const char *why) {
        char *text;
        int n = asprintf(&text, "error: %s\n\n", why);
        c->eof = true;
        c->used = 0;
        connection_write(c, n < 0 ? NULL : text, n < 0 ? 0 : (size_t)n);
}

/* Takes the next line out, without its end. What came before the end of the stream counts as one. Returns false when there is none. */
static bool line_take(struct connection *c, char line[static CONTROL_LINE_MAX + 1], size_t *ret_len) {
        const char *end = memchr(c->in, '\n', c->used);
        if (!end && !(c->eof && c->used > 0))
                return false;
        size_t n = end ? (size_t)(end - c->in) : c->used, taken = n + (end != NULL);
        memcpy(line, c->in, n);
        memmove(c->in, c->in + taken, c->used - taken);
        c->used -= taken;
        if (n > 0 && line[n - 1] == '\r')
                n--;
        line[n] = '\0';
        *ret_len = n;
        return true;
}

static void line_run(struct connection *c, char *line, size_t n) {
        char *text = NULL;
        size_t bytes = 0;
        FILE *to = open_memstream(&text, &bytes);
        if (!to) {
                connection_close(c);
                return;
        }
        control_run(&c->owner->verbs, line, n, to);
        fputs("\n", to);
        bool failed = ferror(to) != 0;
        failed |= fclose(to) != 0;
        if (failed) {
                free(text);
                connection_close(c);
                return;
        }
        connection_write(c, text, bytes);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret) {
        struct connection *c = handle->data;
        (void)suggested;
        *ret = uv_buf_init(c->in + c->used, (unsigned)(sizeof(c->in) - c->used));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
        struct connection *c = stream->data;
        (void)buf;
        if (n == 0)
                return;
        if (n < 0 && n != UV_EOF) {
                connection_close(c);
                return;
        }
        c->eof = n < 0;
        c->used += n > 0 ? (size_t)n : 0;
        connection_settle(c);
}

/* Runs the lines that came, in order while the peer reads their answers; reads while there is room; closes once all is said. */
static void connection_settle(struct connection *c) {
        char line[CONTROL_LINE_MAX + 1];
        size_t n;
        while (!c->closing && uv_stream_get_write_queue_size((uv_stream_t *)&c->pipe) < CONTROL_QUEUE_MAX && line_take(c, line, &n))
                if (n > 0)
                        line_run(c, line, n);
        if (!c->closing && !c->eof && c->used == sizeof(c->in) && !memchr(c->in, '\n', c->used)) {
                snprintf(line, sizeof(line), "a line has at most %d bytes", CONTROL_LINE_MAX - 1);
                connection_refuse(c, line);
        }
        if (c->closing)
                return;
        if (c->eof && c->used == 0 && c->writes == 0)
                connection_close(c);
        else if (c->eof || c->used == sizeof(c->in))
                uv_read_stop((uv_stream_t *)&c->pipe);
        else
                uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read);
}

/* ---- life of the socket ---- */

static void on_connection(uv_stream_t *listener, int status) {
        struct control *k = listener->data;
        struct connection *c = status < 0 ? NULL : calloc(1, sizeof(*c));
        if (!c) {
                tel_log_repeated(&k->accept_log, uv_hrtime(), TEL_LOG_ERROR, "cannot accept a control connection",
                                 { "err", status < 0 ? uv_strerror(status) : "out of memory" });
                return;
        }
        c->owner = k;
        uv_pipe_init(k->loop, &c->pipe, 0);
        c->pipe.data = c;
        k->handles++;
        k->connections++;
        c->next = k->list;
        k->list = c;
        if (uv_accept(listener, (uv_stream_t *)&c->pipe) < 0) {
                connection_close(c);
                return;
        }
        if (k->connections > CONTROL_CONNECTIONS_MAX)
                connection_refuse(c, "too many connections");
        if (!c->closing)
                connection_settle(c);
}

static void listener_closed(uv_handle_t *handle) {
        control_release(handle->data);
}

int control_new(const struct control_options *options, struct control **ret, char *reterr) {
        struct control *k = calloc(1, sizeof(*k));
        if (!k) {
                snprintf(reterr, CONTROL_ERROR_MAX, "out of memory");
                return -ENOMEM;
        }
        static_assert(CONTROL_ERROR_MAX >= TEL_UNIX_LISTEN_ERROR_MAX, "what tel_unix_listen() writes");
        k->loop = options->loop;
        k->verbs = options->verbs;
        k->own_path = options->fd < 0;
        snprintf(k->path, sizeof(k->path), "%s", options->path);
        int fd = k->own_path ? tel_unix_listen(options->path, 0660, reterr) : options->fd;
        if (fd < 0) {
                free(k);
                return fd;
        }
        uv_pipe_init(k->loop, &k->listener, 0);
        k->listener.data = k;
        k->handles = 1;
        int r = uv_pipe_open(&k->listener, fd);
        if (r < 0)
                close(fd);
        else
                r = uv_listen((uv_stream_t *)&k->listener, CONTROL_CONNECTIONS_MAX, on_connection);
        if (r < 0) {
                snprintf(reterr, CONTROL_ERROR_MAX, "socket '%.180s': %s", options->path, uv_strerror(r));
                control_free(k);
                return r;
        }
        *ret = k;
        return 0;
}

struct control *control_free(struct control *k) {
        if (!k)
                return NULL;
        if (k->own_path)
                unlink(k->path);
        while (k->list)
                connection_close(k->list);
        uv_close((uv_handle_t *)&k->listener, listener_closed);
        return NULL;
}
