/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/settings.h"

#include "libtelemetry/json.h"
#include "libtelemetry/log.h"

#define BUILTIN \
        "{\n" \
        "  // What runs without a file: every program that listens on a port is observed, and collectord on this machine is told.\n" \
        "  \"open_ports\": [\"default\"],\n" \
        "  \"collector\": \"" SETTINGS_COLLECTOR "\"\n" \
        "}\n"

const char settings_builtin[] = BUILTIN;

const char settings_intro[] =
        "beylad reads one document, `--config FILE` or the one that `BEYLA_CONFIG_PATH` names. Without either the built-in document below is\n"
        "used. [Environment](#environment) variables with the names of Grafana Beyla and OpenTelemetry come on top of both.\n"
        "`beylad --check` says whether all of it is good, and `beylad --print-config` prints every value in effect. This page is the output of\n"
        "`beylad --print-docs`, from the same tables as the readers.\n\n"
        "```json\n"
        "{\n"
        "  \"open_ports\": [\"80\", \"8000-8100\"],\n"
        "  \"executables\": \"(^|/)(node|python3)$\",   // either rule selects a process\n"
        "  \"service_namespace\": \"shop\",\n"
        "  \"routes\": { \"patterns\": [\"/users/{id}\", \"/static/*\"], \"ignored\": [\"/healthz\"] },\n"
        "  \"headers\": [\"x-request-id\"],\n"
        "  \"sampler\": { \"name\": \"parentbased_traceidratio\", \"argument\": \"0.1\" }\n"
        "}\n"
        "```\n"
        "The built-in document:\n"
        "```json\n" BUILTIN "```\n\n"
        "Bodies are never captured, query strings and headers only where this document says so, and of database queries only the text without\n"
        "its literals.\n";

const char *const settings_sampler_names[SAMPLERS + 1] = {
        [SAMPLER_ALWAYS_ON] = "always_on", [SAMPLER_ALWAYS_OFF] = "always_off", [SAMPLER_RATIO] = "traceidratio",
        [SAMPLER_PARENT_ON] = "parentbased_always_on", [SAMPLER_PARENT_OFF] = "parentbased_always_off",
        [SAMPLER_PARENT_RATIO] = "parentbased_traceidratio",
};
const char *const settings_printer_names[] = { [PRINTER_DISABLED] = "disabled", [PRINTER_TEXT] = "text", [PRINTER_JSON] = "json", NULL };
static const char *const ignore_names[] = { [IGNORE_ALL] = "all", [IGNORE_TRACES] = "traces", [IGNORE_METRICS] = "metrics", NULL };
static const char *const unmatched_names[] = {
        [UNMATCHED_HEURISTIC] = "heuristic", [UNMATCHED_PATH] = "path", [UNMATCHED_WILDCARD] = "wildcard", [UNMATCHED_UNSET] = "unset", NULL,
};
static const char *const technique_names[] = {
        [TECHNIQUE_AUTO] = "auto", [TECHNIQUE_SOCKET] = "socket", [TECHNIQUE_SYSCALL] = "syscall", NULL,
};
static const char *const log_level_names[] = {
        [TEL_LOG_ERROR] = "error", [TEL_LOG_WARN] = "warn", [TEL_LOG_INFO] = "info", [TEL_LOG_DEBUG] = "debug", NULL,
};

#define S ((int64_t)TEL_NS_PER_S)
#define HOUR (3600 * S)

/* A row: KEY(BOOL, query, "query", .fallback = ...). */
#define KEY(type_, member_, key_, ...) { .key = key_, .type = TEL_CONFIG_##type_, .offset = offsetof(struct settings, member_), __VA_ARGS__ }
/* An object whose members lie in the struct around it. */
#define GROUP(key_, table_, text_) { .key = key_, .type = TEL_CONFIG_OBJECT, .table = table_, .text = text_ }
#define END { .key = NULL }

static const struct tel_config_key host_table[] = {
        KEY(STRING, host.name, "name", .fallback = "\"\"", .text = "`host.name` of this machine; `\"\"` is the one of the kernel."),
        END,
};

static const struct tel_config_key routes_table[] = {
        KEY(STRINGS, routes.patterns, "patterns", .fallback = "[]", .n_max = SETTINGS_PATTERNS_MAX,
            .text = "Paths with segments that vary: `\"/users/{id}\"`, `\"/users/:id\"` or `\"/users/*\"`; a `*` at the end stands "
                    "for one segment or more. A path that fits one has it as `http.route`."),
        KEY(STRINGS, routes.ignored, "ignored", .fallback = "[]", .n_max = SETTINGS_PATTERNS_MAX,
            .text = "Patterns of paths whose requests are left out."),
        KEY(ENUM, routes.ignore_mode, "ignore_mode", .fallback = "\"all\"", .names = ignore_names,
            .text = "What ignored paths are left out of: `\"traces\"`, `\"metrics\"`, or `\"all\"`, both."),
        KEY(ENUM, routes.unmatched, "unmatched", .fallback = "\"heuristic\"", .names = unmatched_names,
            .text = "`http.route` of a path that fits no pattern: `\"heuristic\"` puts `*` for segments that look like data, `\"path\"` is "
                    "the path itself, `\"wildcard\"` is `/**`, `\"unset\"` is none."),
        /* 1000 different words at one place of a path are data by any measure, and each is kept. */
        KEY(INT, routes.cardinality, "cardinality", .fallback = "10", .unit = "segments", .min = 1, .max = 1000,
            .text = "With `\"heuristic\"`: so many different segments at one place of a path are kept apart, then they become `*`."),
        END,
};

static const struct tel_config_key sampler_table[] = {
        KEY(ENUM, sampler.name, "name", .fallback = "\"parentbased_always_on\"", .names = settings_sampler_names,
            .text = "Which traces are kept, by OpenTelemetry's names; the `parentbased_` ones do what the caller's `traceparent` says, "
                    "where there is one. Metrics count every request."),
        KEY(STRING, sampler.argument, "argument", .fallback = "\"\"",
            .text = "Of the samplers by ratio: which part of the traces is kept, `\"0.25\"`; `\"\"` is all."),
        END,
};

static const struct tel_config_key traces_table[] = {
        KEY(BOOL, traces.enabled, "enabled", .fallback = "true", .text = "Whether spans are sent."),
        END,
};

static const struct tel_config_key metrics_table[] = {
        KEY(BOOL, metrics.enabled, "enabled", .fallback = "true", .text = "Whether metrics of the requests are sent."),
        KEY(DURATION, metrics.interval_ns, "interval", .fallback = "\"60s\"", .min = 1 * S, .max = HOUR, .text = "Between two sends."),
        /* A series of a histogram is about 300 bytes: the largest bound is 30 MB. */
        KEY(INT, metrics.series, "series", .fallback = "2000", .unit = "series", .min = 1, .max = 100000,
            .text = "Series at once, of all services; a request that would make one more is counted in a series of its process with "
                    "`otel.metric.overflow`."),
        KEY(DURATION, metrics.idle_ns, "idle", .fallback = "\"5m\"", .min = 1 * S, .max = 24 * HOUR,
            .text = "A series without a request for so long is forgotten."),
        END,
};

static const struct tel_config_key listen_table[] = {
        KEY(STRING, listen.control, "control", .fallback = "\"beylad.sock\"",
            .text = "Socket for people and scripts: a path, or a name in the runtime directory; `\"\"` is off."),
        END,
};

static const struct tel_config_key inject_table[] = {
        KEY(STRING, inject.cgroup, "cgroup", .fallback = "\"\"",
            .text = "Programs in this cgroup of version 2 and below: a folder such as `\"/sys/fs/cgroup/shop.slice\"`, never the root; `\"\"` is off."),
        KEY(STRINGS, inject.ports, "ports", .fallback = "[]", .n_max = SETTINGS_PORTS_MAX,
            .text = "Requests to these TCP ports: `\"80\"`, `\"8000-8100\"`, or several with commas in one string."),
        KEY(BOOL, inject.keep_alive, "keep_alive", .fallback = "false",
            .text = "Every request of a connection; else the first alone, which is the safe half: docs/beylad.md says why."),
        END,
};

static const struct tel_config_key budget_table[] = {
        /* In percent of one core, so a machine of 64 may spend 6400. */
        KEY(INT, budget.cpu, "cpu", .fallback = "0", .unit = "percent of one core", .min = 0, .max = 6400,
            .text = "CPU time of beylad itself; above it less is captured, and that is said. `0` is no bound."),
        KEY(INT, budget.probe_cpu, "probe_cpu", .fallback = "0", .unit = "percent of one core", .min = 0, .max = 6400,
            .text = "CPU time of the probes, which the observed programs pay; likewise. `0` is no bound."),
        /* Less than 100 ms is two looks at the ring. */
        KEY(DURATION, budget.period_ns, "period", .fallback = "\"10s\"", .min = S / 10, .max = HOUR,
            .text = "Between two looks at both. One above a bound is a step down, six in a row far below are a step back; a short one "
                    "punishes bursts."),
        END,
};

const struct tel_config_key settings_table[] = {
        KEY(STRINGS, open_ports, "open_ports", .fallback = "[\"default\"]", .n_max = SETTINGS_PORTS_MAX,
            .text = "Programs that listen on these TCP ports are observed: `\"80\"`, `\"8000-8100\"`, or several with commas in one string. "
                    "`[\"default\"]` is every port where `executables` is `\"\"`, else none."),
        KEY(STRING, executables, "executables", .fallback = "\"\"",
            .text = "Programs are observed whose executable has this POSIX extended regular expression in its path, whether they listen or not; "
                    "`\"\"` is none. One of `open_ports` and `executables` is enough."),
        KEY(STRING, exclude, "exclude", .fallback = "\"(^|/)(collectord|beylad|profd|telemetryctl)$\"",
            .text = "Programs whose executable has this in its path are never observed; `\"\"` is none."),
        KEY(STRING, service_name, "service_name", .fallback = "\"\"",
            .text = "`service.name` of everything observed; `\"\"` is each program's own `OTEL_SERVICE_NAME`, the `service.name` of its "
                    "`OTEL_RESOURCE_ATTRIBUTES`, or its name."),
        KEY(STRING, service_namespace, "service_namespace", .fallback = "\"\"",
            .text = "`service.namespace` of everything observed; `\"\"` is that of the program's `OTEL_RESOURCE_ATTRIBUTES`, if any."),
        GROUP("host", host_table, "What is said about this machine."),
        GROUP("routes", routes_table, "How paths become `http.route`, which names spans and series."),
        KEY(STRINGS, headers, "headers", .fallback = "[]", .n_max = SETTINGS_HEADERS_MAX,
            .text = "Names of request headers that become attributes, `http.request.header.NAME`. No others are kept."),
        KEY(BOOL, query, "query", .fallback = "false", .text = "Whether query strings become attributes, `url.query`."),
        KEY(BOOL, db_text, "db_text", .fallback = "true",
            .text = "Whether texts of database queries become attributes, `db.query.text`, with `?` for every literal."),
        GROUP("sampler", sampler_table, "Which traces are kept."),
        GROUP("traces", traces_table, "A span for each request."),
        GROUP("metrics", metrics_table, "Rate, errors and duration of the requests."),
        KEY(ENUM, printer, "printer", .fallback = "\"disabled\"", .names = settings_printer_names,
            .text = "Spans on standard output, too: `\"text\"` is a line for people, `\"json\"` an object a line."),
        KEY(STRING, collector, "collector", .fallback = "\"" SETTINGS_COLLECTOR "\"",
            .text = "Frame socket of collectord: a path, or a name in the runtime directory. `\"" SETTINGS_COLLECTOR "\"` is also looked for in "
                    "`/run/collectord`. `\"\"` is off."),
        KEY(STRING, otlp_endpoint, "otlp_endpoint", .fallback = "\"\"",
            .text = "OTLP/HTTP endpoint for when `collector` is off or away, `\"localhost:4318\"` or a base URL; `/v1/traces` and "
                    "`/v1/metrics` are appended. `\"\"` is none."),
        GROUP("listen", listen_table, "Where beylad is asked."),
        GROUP("inject", inject_table, "Which requests get a `traceparent` on their way out. It changes what programs send: docs/beylad.md has the dangers."),
        GROUP("budget", budget_table, "What the observation may cost."),
        KEY(ENUM, technique, "technique", .fallback = "\"auto\"", .names = technique_names,
            .text = "How sockets are watched: `\"socket\"` by hooks inside of them, which kernels have from 6.3 on, `\"syscall\"` by the end of system "
                    "calls, `\"auto\"` the first of both that the kernel takes."),
        KEY(STRING, proc, "proc", .fallback = "\"/proc\"", .text = "Where the processes of this machine are found."),
        KEY(ENUM, log_level, "log_level", .fallback = "\"info\"", .names = log_level_names, .text = "Least important log lines to write."),
        END,
};

static int hand_over(int r, struct settings *s, struct settings *ret) {
        *ret = (struct settings){ 0 };
        if (r < 0)
                return r;
        *ret = *s;
        *s = (struct settings){ 0 };
        return 0;
}

int settings_load(const char *file, struct settings *ret, char *reterr) {
        TEL_CLEANUP(settings_done) struct settings s = { 0 };
        if (!file)
                return settings_parse("built-in", settings_builtin, sizeof(settings_builtin) - 1, ret, reterr);
        return hand_over(tel_config_load(settings_table, settings_check, file, &s, reterr), &s, ret);
}

int settings_parse(const char *file, const char *text, size_t n, struct settings *ret, char *reterr) {
        TEL_CLEANUP(settings_done) struct settings s = { 0 };
        return hand_over(tel_config_parse(settings_table, settings_check, file, text, n, &s, reterr), &s, ret);
}

void settings_done(struct settings *s) {
        tel_config_done(settings_table, s, sizeof(*s));
}

int settings_strings_set(struct tel_config_strings *s, const char *text) {
        char **values = calloc(1, sizeof(*values)), *copy = text ? strdup(text) : NULL;
        if (!values || (text && !copy)) {
                free(values);
                free(copy);
                return -ENOMEM;
        }
        for (size_t i = 0; i < s->n; i++)
                free(s->values[i]);
        free(s->values);
        values[0] = copy;
        *s = (struct tel_config_strings){ .values = values, .n = text != NULL };
        return 0;
}

bool settings_is_default_ports(const struct tel_config_strings *ports) {
        return ports->n == 1 && strcmp(ports->values[0], "default") == 0;
}

int settings_finish(struct settings *s) {
        if (settings_is_default_ports(&s->open_ports) && settings_strings_set(&s->open_ports, *s->executables ? NULL : "1-65535") < 0)
                return -ENOMEM;
        for (size_t i = 0; i < s->headers.n; i++)
                for (char *c = s->headers.values[i]; *c; c++)
                        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c | 0x20) : *c;
        size_t n = strlen(s->otlp_endpoint);
        while (n > 0 && s->otlp_endpoint[n - 1] == '/')        /* "/v1/traces" is appended */
                s->otlp_endpoint[--n] = '\0';
        if (n > 0 && !strstr(s->otlp_endpoint, "://")) {
                char *whole;
                if (asprintf(&whole, "http://%s", s->otlp_endpoint) < 0)
                        return -ENOMEM;
                free(s->otlp_endpoint);
                s->otlp_endpoint = whole;
        }
        return 0;
}

/* ---- values with a grammar of their own ---- */

static const char *skip_blanks(const char *p) {
        while (*p == ' ' || *p == '\t' || *p == ',')
                p++;
        return p;
}

/* Digits at *at: a port from 1. */
static bool port_read(const char **at, uint32_t *ret) {
        const char *p = *at;
        uint32_t v = 0;
        for (; *p >= '0' && *p <= '9' && v <= 65535; p++)
                v = v * 10 + (uint32_t)(*p - '0');
        if (v == 0 || v > 65535)
                return false;
        *at = p;
        *ret = v;
        return true;
}

int settings_range_next(const char **at, struct settings_range *ret) {
        struct settings_range range;
        const char *p = skip_blanks(*at);
        *at = p;
        if (*p == '\0')
                return 0;
        if (!port_read(&p, &range.first))
                return -EINVAL;
        range.last = range.first;
        if (*p == '-' && (p++, !port_read(&p, &range.last)))
                return -EINVAL;
        if (range.last < range.first || (*p && *p != ',' && *p != ' ' && *p != '\t'))
                return -EINVAL;
        *at = p;
        *ret = range;
        return 1;
}

void settings_ports_bits(const struct tel_config_strings *ports, uint64_t ret[static 65536 / 64]) {
        memset(ret, 0, 65536 / 8);
        for (size_t i = 0; i < ports->n; i++) {
                const char *at = ports->values[i];
                struct settings_range range;
                while (settings_range_next(&at, &range) > 0)
                        for (uint32_t port = range.first; port <= range.last; port++)
                                ret[port / 64] |= 1ull << port % 64;
        }
}

int settings_sampler_ratio(const char *argument, double *ret) {
        double v = 1;
        if (*argument && (tel_json_double(argument, strlen(argument), &v) < 0 || v < 0 || v > 1))
                return -EINVAL;
        *ret = v;
        return 0;
}
