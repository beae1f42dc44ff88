/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/environment.h"

#include <stdarg.h>

#include "beylad/pairs.h"
#include "libtelemetry/log.h"
#include "libtelemetry/utf8.h"

#define PREFIX_BEYLA "BEYLA_"
#define PREFIX_EBPF "OTEL_EBPF_"
#define PREFIX_OTLP "OTEL_EXPORTER_OTLP_"
#define GLOB_DEPTH_MAX 8                           /* braces inside each other */

struct call {
        struct settings *settings;
        const char *name, *value;                  /* of the variable */
        environment_warn_fn warn;
        void *ctx;
        char *reterr;
};

struct row {
        const char *name;                          /* behind the prefix; with whole: all of it */
        bool whole;
        int (*set)(const struct call *c, size_t offset);       /* 0, -EINVAL (expected() was called) or -ENOMEM */
        size_t offset;                             /* in struct settings, for set() */
        const char *text;                          /* for the documentation */
};

static void warn(const struct call *c, const char *why) {
        if (c->warn)
                c->warn(c->ctx, c->name, why);
}

/* The value is none of what there is. */
TEL_PRINTF(2, 3) static int expected(const struct call *c, const char *fmt, ...) {
        char what[200];
        va_list args;
        va_start(args, fmt);
        vsnprintf(what, sizeof(what), fmt, args);
        va_end(args);
        snprintf(c->reterr, TEL_CONFIG_ERROR_MAX, "environment %s: expected %s, got \"%.100s\"", c->name, what, c->value);
        return -EINVAL;
}

/* ---- how values are set ---- */

static int string_replace(char **at, const char *text) {
        char *copy = strdup(text);
        if (!copy)
                return -ENOMEM;
        free(*at);
        *at = copy;
        return 0;
}

static int set_string(const struct call *c, size_t offset) {
        return string_replace((char **)((char *)c->settings + offset), c->value);
}

static int set_ports(const struct call *c, size_t offset) {
        return settings_strings_set((struct tel_config_strings *)((char *)c->settings + offset), *c->value ? c->value : NULL);
}

static int set_glob(const struct call *c, size_t offset) {
        char regex[SETTINGS_REGEX_MAX + 1];
        int r = environment_glob(c->value, regex, sizeof(regex));
        if (r == -ENAMETOOLONG)
                return expected(c, "a shorter glob");
        if (r < 0)
                return expected(c, "a glob such as \"*/python3\" or \"*/{node,ruby}\"");
        return string_replace((char **)((char *)c->settings + offset), regex);
}

static int set_duration(const struct call *c, size_t offset) {
        uint64_t ns;
        if (tel_config_parse_duration(c->value, &ns) < 0 || ns < TEL_NS_PER_S || ns > 24 * 3600 * TEL_NS_PER_S)
                return expected(c, "a duration from 1s to 24h, such as \"60s\" or \"1m30s\"");
        *(uint64_t *)((char *)c->settings + offset) = ns;
        return 0;
}

/* Milliseconds. What the specification does not understand it ignores with a warning. */
static int set_milliseconds(const struct call *c, size_t offset) {
        char *end;
        unsigned long long ms = strtoull(c->value, &end, 10);
        if (*c->value < '0' || *c->value > '9' || *end || ms < 1000 || ms > 3600 * 1000)
                warn(c, "ignored: expected milliseconds, from 1000 to 3600000");
        else
                *(uint64_t *)((char *)c->settings + offset) = ms * TEL_NS_PER_MS;
        return 0;
}

/* As Go's strconv.ParseBool() has it. */
static bool bool_read(const char *text, bool *ret) {
        static const char *const words[][2] = { { "false", "true" }, { "0", "1" }, { "f", "t" } };
        for (size_t i = 0; i < TEL_ARRAY_LEN(words); i++)
                for (int v = 0; v < 2; v++)
                        if (strcasecmp(text, words[i][v]) == 0) {
                                *ret = v;
                                return true;
                        }
        return false;
}

static int set_system_wide(const struct call *c, size_t offset) {
        bool on;
        if (!bool_read(c->value, &on))
                return expected(c, "true or false");
        return on ? string_replace((char **)((char *)c->settings + offset), "/") : 0;
}

static int set_print(const struct call *c, size_t offset) {
        bool on;
        if (!bool_read(c->value, &on))
                return expected(c, "true or false");
        *(int *)((char *)c->settings + offset) = on ? PRINTER_TEXT : PRINTER_DISABLED;
        return 0;
}

static int set_track_headers(const struct call *c, size_t offset) {
        bool on;
        (void)offset;
        if (!bool_read(c->value, &on))
                return expected(c, "true or false");
        if (!on)
                warn(c, "has no effect: traceparent is always read");
        return 0;
}

static int set_printer(const struct call *c, size_t offset) {
        int *at = (int *)((char *)c->settings + offset);
        for (int i = 0; settings_printer_names[i]; i++)
                if (strcasecmp(c->value, settings_printer_names[i]) == 0) {
                        *at = i;
                        return 0;
                }
        if (strcasecmp(c->value, "json_indent") == 0) {
                warn(c, "json_indent is not supported, json is used");
                *at = PRINTER_JSON;
        } else if (strcasecmp(c->value, "counter") == 0)
                warn(c, "counter is not supported, nothing is printed; `beylad.sock` answers `stats`");
        else
                return expected(c, "disabled, text or json");
        return 0;
}

static int set_log_level(const struct call *c, size_t offset) {
        for (int level = TEL_LOG_ERROR; level <= TEL_LOG_DEBUG; level++)
                if (strcasecmp(c->value, tel_log_level_name((enum tel_log_level)level)) == 0) {
                        *(int *)((char *)c->settings + offset) = level;
                        return 0;
                }
        return expected(c, "error, warn, info or debug");
}

static int set_sampler(const struct call *c, size_t offset) {
        for (int i = 0; i < SAMPLERS; i++)
                if (strcmp(c->value, settings_sampler_names[i]) == 0) {
                        *(int *)((char *)c->settings + offset) = i;
                        return 0;
                }
        warn(c, "ignored: no sampler of this name; expected always_on, always_off, traceidratio, or one of them behind parentbased_");
        return 0;
}

static int set_ratio(const struct call *c, size_t offset) {
        double ratio;
        if (settings_sampler_ratio(c->value, &ratio) == 0)
                return set_string(c, offset);
        warn(c, "ignored: expected a number from 0 to 1");
        return 0;
}

/* The whole URL of traces: its base, since metrics go to the same place. */
static int set_traces_endpoint(const struct call *c, size_t offset) {
        static const char path[] = "/v1/traces";
        char **at = (char **)((char *)c->settings + offset);
        const char *scheme = strstr(c->value, "://"), *slash = strchr(scheme ? scheme + 3 : c->value, '/');
        size_t n = strlen(c->value);
        if (slash && slash[1] && (n < sizeof(path) || strcmp(c->value + n - (sizeof(path) - 1), path) != 0))
                return expected(c, "a URL that ends in /v1/traces");
        int r = string_replace(at, c->value);
        if (r == 0 && slash && slash[1])
                (*at)[n - (sizeof(path) - 1)] = '\0';
        return r;
}

static int set_protocol(const struct call *c, size_t offset) {
        (void)offset;
        if (strcmp(c->value, "http/protobuf") != 0)
                warn(c, "has no effect: OTLP is sent as http/protobuf; for grpc let collectord send it");
        return 0;
}

static int set_resource(const struct call *c, size_t offset) {
        struct settings *s = c->settings;
        const struct { const char *key; char **at; } ours[] = {
                { "service.name", &s->service_name }, { "service.namespace", &s->service_namespace }, { "host.name", &s->host.name },
        };
        const char *at = c->value, *end = at + strlen(at);
        struct pair pair;
        bool others = false;
        (void)offset;
        while (pairs_next(&at, end, &pair)) {
                size_t i = 0;
                while (i < TEL_ARRAY_LEN(ours) && strcmp(ours[i].key, pair.key) != 0)
                        i++;
                others |= i == TEL_ARRAY_LEN(ours);
                if (i < TEL_ARRAY_LEN(ours) && pair.value[0] && string_replace(ours[i].at, pair.value) < 0)
                        return -ENOMEM;
        }
        if (others)
                warn(c, "only service.name, service.namespace and host.name of it have an effect; collectord adds others (host.labels)");
        return 0;
}

static int set_nothing(const struct call *c, size_t offset) {
        (void)c, (void)offset;
        return 0;
}

/* ---- the names ---- */

#define AT(member) offsetof(struct settings, member)

/* Where several set the same thing the last one wins. */
static const struct row rows[] = {
        { "CONFIG_PATH", false, set_nothing, 0, "the document, where there is no `--config`" },
        { "OPEN_PORT", false, set_ports, AT(open_ports), "`open_ports`; an empty one selects no port" },
        { "OTEL_GO_AUTO_TARGET_EXE", true, set_glob, AT(executables), "`executables`, as a glob" },
        { "SYSTEM_WIDE", false, set_system_wide, AT(executables), "deprecated; `true` is every executable" },
        { "EXECUTABLE_NAME", false, set_string, AT(executables), "`executables`" },
        { "EXECUTABLE_PATH", false, set_string, AT(executables), "`executables`" },
        { "AUTO_TARGET_EXE", false, set_glob, AT(executables), "`executables`, as a glob of the whole path: `*/python3`, `*/{node,ruby}`" },
        { "OTEL_RESOURCE_ATTRIBUTES", true, set_resource, 0, "`service_name`, `service_namespace`, `host.name`; other attributes are not used" },
        { "SERVICE_NAME", false, set_string, AT(service_name), "`service_name`" },
        { "OTEL_SERVICE_NAME", true, set_string, AT(service_name), "`service_name`" },
        { "SERVICE_NAMESPACE", false, set_string, AT(service_namespace), "`service_namespace`" },
        { "HOSTNAME", false, set_string, AT(host.name), "`host.name`" },
        { "PRINT_TRACES", false, set_print, AT(printer), "deprecated; `true` is `printer` `text`" },
        { "TRACE_PRINTER", false, set_printer, AT(printer), "`printer`" },
        { "LOG_LEVEL", false, set_log_level, AT(log_level), "`log_level`" },
        { "BPF_TRACK_REQUEST_HEADERS", false, set_track_headers, 0, "accepted: `traceparent` is always read" },
        { "OTEL_METRIC_EXPORT_INTERVAL", true, set_milliseconds, AT(metrics.interval_ns), "`metrics.interval`, in milliseconds" },
        { "METRICS_INTERVAL", false, set_duration, AT(metrics.interval_ns), "`metrics.interval`" },
        { "METRICS_TTL", false, set_duration, AT(metrics.idle_ns), "`metrics.idle`" },
        { "OTEL_TRACES_SAMPLER", true, set_sampler, AT(sampler.name), "`sampler.name`" },
        { "OTEL_TRACES_SAMPLER_ARG", true, set_ratio, AT(sampler.argument), "`sampler.argument`" },
        { PREFIX_OTLP "ENDPOINT", true, set_string, AT(otlp_endpoint), "`otlp_endpoint`" },
        { PREFIX_OTLP "TRACES_ENDPOINT", true, set_traces_endpoint, AT(otlp_endpoint),
          "`otlp_endpoint`, without the `/v1/traces` at its end; metrics go there, too" },
        { PREFIX_OTLP "PROTOCOL", true, set_protocol, 0, "accepted: `http/protobuf` is what is sent" },
        { PREFIX_OTLP "TRACES_PROTOCOL", true, set_protocol, 0, "likewise" },
        { PREFIX_OTLP "METRICS_PROTOCOL", true, set_protocol, 0, "likewise" },
};

/* What Beyla 3.3 and OBI 0.12 know and we do not, so that nobody takes it for a typing error. A name that ends in '_' stands for all that
 * begin so. Source: the `env` tags of their configuration structs. */
static const struct {
        const char *names, *why;
} foreign[] = {
        { "PROMETHEUS_ INTERNAL_METRICS_ INTERNAL_OTEL_METRICS", "collectord serves metrics" },
        { "METRICS_ METRIC_ TRACES_ OTLP_TRACES_ BACKOFF_ INSECURE_SKIP_VERIFY DEFAULT_OTLP_GRPC_PORT EXTRA_SPAN_RESOURCE_ATTRIBUTES "
          "EXTRA_RESOURCE_ATTRIBUTES RESOURCE_ SDK_ TOPOLOGY_SPANS ALLOW_SERVICE_GRAPH_SELF_REFERENCES",
          "collectord batches, retries and exports" },
        { "KUBE_ K8S_ SERVICE_NAME_TEMPLATE METADATA_", "there are no Kubernetes metadata but what the cgroup says" },
        { "NETWORK_ STATS_ GEOIP_ REVERSE_DNS_ NAME_RESOLVER_ RENAME_UNRESOLVED_HOSTS RENAME_UNRESOLVED_HOSTS_ HOSTNAME_DNS_RESOLUTION",
          "network flows are not observed" },
        { "BPF_CONTEXT_PROPAGATION BPF_ENABLE_CONTEXT_PROPAGATION BPF_TC_BACKEND BPF_DISABLE_BLACK_BOX_CP OVERRIDE_BPF_LOOP_ENABLED",
          "requests are changed only where the document says so (inject); both ends on one host are joined without that" },
        { "BPF_", "the probes have their own bounds" },
        { "TARGET_PID AUTO_TARGET_LANGUAGE EXCLUDE_OTEL_INSTRUMENTED_SERVICES EXCLUDE_OTEL_INSTRUMENTED_SERVICES_SPAN_METRICS MIN_PROCESS_AGE "
          "DISCOVERY_POLL_INTERVAL PROCESSES_INTERVAL PROCESS_CONTEXT_POLL_INTERVAL",
          "processes are selected by open_ports, executables and exclude" },
        { "HTTP_ HEURISTIC_SQL_DETECT SENSITIVE_QUERY_PARAMS_ COUCHBASE_ ROUTE_HARVESTER_TIMEOUT JAVA_ROUTE_HARVEST_DELAY", NULL },
        { "SKIP_GO_SPECIFIC_TRACERS USE_OTEL_SDK_FOR_JAVA JAVAAGENT_ NODEJS_ INSTRUMENT_ EXTERNAL_WEBHOOK_", NULL },
        { "CHANNEL_ SHUTDOWN_TIMEOUT ENFORCE_SYS_CAPS PROFILE_PORT LOG_CONFIG LOG_FORMAT PROTOCOL_DEBUG_PRINT FORCE_BPF_MAP_READER "
          "HEALTH_CHECK_ HOST_ID HOST_ID_FETCH_TIMEOUT GENFILES_", NULL },
};

static bool begins_with(const char *text, const char *with) {
        return strncmp(text, with, strlen(with)) == 0;
}

/* The value of name (n bytes of it behind prefix) in env, or NULL. */
static const char *value_of(char *const *env, const char *prefix, const char *name, const char **ret_entry) {
        size_t n = strlen(prefix), m = strlen(name);
        for (; *env; env++)
                if (strncmp(*env, prefix, n) == 0 && strncmp(*env + n, name, m) == 0 && (*env)[n + m] == '=') {
                        *ret_entry = *env;
                        return *env + n + m + 1;
                }
        return NULL;
}

/* OTEL_EBPF_X before BEYLA_X before BEYLA_OTEL_X, as Beyla maps them; one that is not empty before one that is. */
static const char *value_find(char *const *env, const struct row *row, const char **ret_entry) {
        static const char *const prefixes[] = { PREFIX_EBPF, PREFIX_BEYLA, PREFIX_BEYLA "OTEL_" };
        const char *empty = NULL, *empty_entry = NULL;
        if (row->whole)
                return value_of(env, "", row->name, ret_entry);
        for (size_t i = 0; i < TEL_ARRAY_LEN(prefixes); i++) {
                const char *value = value_of(env, prefixes[i], row->name, ret_entry);
                if (value && *value)
                        return value;
                if (value && !empty) {
                        empty = value;
                        empty_entry = *ret_entry;
                }
        }
        *ret_entry = empty_entry;
        return empty;
}

static bool is_row(const char *name, bool whole) {
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++)
                if (rows[i].whole == whole && strcmp(rows[i].name, name) == 0)
                        return true;
        return false;
}

/* Whether names, separated by blanks, has tail. */
static bool has_name(const char *names, const char *tail) {
        for (size_t n; *names; names += n + (names[n] == ' ')) {
                n = strcspn(names, " ");
                if (strncmp(names, tail, n) == 0 && (names[n - 1] == '_' || tail[n] == '\0'))
                        return true;
        }
        return false;
}

/* Says why a name of the environment has no effect, when it is one of ours. */
static void look_at(const char *entry, environment_warn_fn warn_fn, void *ctx) {
        char name[128], why[200];
        size_t n = strcspn(entry, "=");
        if (entry[n] == '\0')
                return;
        tel_utf8_printable(name, sizeof(name), entry, TEL_MIN(n, sizeof(name) - 1));
        bool ebpf = begins_with(name, PREFIX_EBPF), beyla = begins_with(name, PREFIX_BEYLA);
        if (begins_with(name, PREFIX_OTLP) && !is_row(name, true)) {
                warn_fn(ctx, name, "not supported: collectord exports with headers, TLS and timeouts (destinations)");
                return;
        }
        if (!ebpf && !beyla)
                return;
        const char *tail = name + strlen(ebpf ? PREFIX_EBPF : PREFIX_BEYLA);
        tail += begins_with(tail, "OTEL_") ? 5 : 0;
        if (is_row(tail, false))
                return;
        for (size_t i = 0; i < TEL_ARRAY_LEN(foreign); i++)
                if (has_name(foreign[i].names, tail)) {
                        snprintf(why, sizeof(why), "not supported%s%s", foreign[i].why ? ": " : "", foreign[i].why ? foreign[i].why : "");
                        warn_fn(ctx, name, why);
                        return;
                }
        warn_fn(ctx, name, "unknown: beylad has no such name, nor has Beyla");
}

const char *environment_config_path(char *const *env) {
        const char *entry, *path = value_find(env, &rows[0], &entry);
        return path && *path ? path : NULL;
}

int environment_apply(char *const *env, struct settings *s, environment_warn_fn warn_fn, void *ctx, char *reterr) {
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++) {
                char name[64];
                struct tel_config_fault fault;
                const char *entry, *value = value_find(env, rows + i, &entry);
                if (!value || (*value == '\0' && rows[i].set != set_ports))
                        continue;
                snprintf(name, sizeof(name), "%.*s", (int)strcspn(entry, "="), entry);
                struct call c = { .settings = s, .name = name, .value = value, .warn = warn_fn, .ctx = ctx, .reterr = reterr };
                int r = rows[i].set(&c, rows[i].offset);
                if (r == -ENOMEM)
                        snprintf(reterr, TEL_CONFIG_ERROR_MAX, "out of memory");
                if (r < 0)
                        return r;
                /* It was good before, so what is wrong now came with this name. */
                if (settings_check(s, &fault) < 0) {
                        snprintf(reterr, TEL_CONFIG_ERROR_MAX, "environment %s: %s", name, fault.text);
                        return -EINVAL;
                }
        }
        for (; *env && warn_fn; env++)
                look_at(*env, warn_fn, ctx);
        return 0;
}

int environment_print_markdown(FILE *to) {
        fputs("\n## Environment\n"
              "These names come on top of the document, and the command line comes on top of them. `BEYLA_X` may also be written `OTEL_EBPF_X`,\n"
              "which wins. An empty value counts as none. Where several names set one key, the one further down wins. A name with one of the\n"
              "two prefixes that is not listed here is warned about at the start.\n\n"
              "| Name | Sets |\n|---|---|\n", to);
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++)
                fprintf(to, "| `%s%s` | %s |\n", rows[i].whole ? "" : PREFIX_BEYLA, rows[i].name, rows[i].text);
        return ferror(to) ? -EIO : 0;
}

/* ---- globs ---- */

struct text {
        char *at;
        size_t left;                               /* its NUL not counted */
};

static int text_add(struct text *t, const char *bytes, size_t n) {
        if (n > t->left)
                return -ENAMETOOLONG;
        memcpy(t->at, bytes, n);
        t->at += n;
        t->left -= n;
        return 0;
}

static int text_add_literal(struct text *t, char c) {
        char escaped[2] = { '\\', c };
        return strchr("\\^$.[]|()*+?{}", c) ? text_add(t, escaped, 2) : text_add(t, &c, 1);
}

/* "[abc]", "[!a-z]" at *at. A '^' in front would negate, so it goes to the end; "[:" and the like have no meaning in globs. */
static int glob_class(const char **at, struct text *t) {
        const char *from = *at + 1, *to;
        bool negated = *from == '!', caret;
        from += negated;
        to = strchr(from, ']');
        caret = *from == '^' && !negated;
        if (!to || to == from || memchr(from, '[', (size_t)(to - from)) || memchr(from, '\\', (size_t)(to - from)))
                return -EINVAL;
        *at = to + 1;
        if (caret && to == from + 1)
                return text_add(t, "\\^", 2);
        int r = text_add(t, negated ? "[^" : "[", negated ? 2 : 1);
        if (r == 0)
                r = text_add(t, from + caret, (size_t)(to - from) - caret);
        return r < 0 ? r : text_add(t, caret ? "^]" : "]", caret ? 2 : 1);
}

int environment_glob(const char *glob, char *out, size_t n) {
        struct text t = { out, n - 1 };
        unsigned depth = 0;
        int r = text_add(&t, "^", 1);
        while (*glob && r == 0) {
                char c = *glob;
                if (c == '[') {
                        r = glob_class(&glob, &t);
                        continue;
                }
                glob++;
                if (c == '*')
                        r = text_add(&t, ".*", *glob == '*' ? 0 : 2);
                else if (c == '?')
                        r = text_add(&t, ".", 1);
                else if (c == '{')
                        r = ++depth > GLOB_DEPTH_MAX ? -EINVAL : text_add(&t, "(", 1);
                else if (c == '}' && depth > 0)
                        r = (depth--, text_add(&t, ")", 1));
                else if (c == ',' && depth > 0)
                        r = text_add(&t, "|", 1);
                else if (c == '\\' && *glob)
                        r = text_add_literal(&t, *glob++);
                else
                        r = text_add_literal(&t, c);
        }
        if (r == 0)
                r = depth > 0 ? -EINVAL : text_add(&t, "$", 1);
        if (r == 0)
                *t.at = '\0';
        return r;
}
