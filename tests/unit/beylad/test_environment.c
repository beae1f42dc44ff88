/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/environment.h"

#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#include "beylad/arguments.h"
#include "libtelemetry/log.h"

/* What was warned about: "NAME: why\n" for each. */
static char warned[4096];

static void on_warning(void *ctx, const char *name, const char *why) {
        assert_ptr_equal(ctx, warned);
        size_t n = strlen(warned);
        snprintf(warned + n, sizeof(warned) - n, "%s: %s\n", name, why);
}

#define ENV(...) ((char **)(const char *[]){ __VA_ARGS__, NULL })

/* document under env; the command line says nothing. */
static int apply(const char *document, char *const *env, struct settings *ret, char *err) {
        warned[0] = err[0] = '\0';
        assert_int_equal(settings_parse("c.json", document, strlen(document), ret, err), 0);
        int r = environment_apply(env, ret, on_warning, warned, err);
        if (r == 0)
                assert_int_equal(settings_finish(ret), 0);
        return r;
}

static void apply_good(const char *document, char *const *env, struct settings *ret) {
        char err[TEL_CONFIG_ERROR_MAX];
        if (apply(document, env, ret, err) < 0)
                fail_msg("%s", err);
}

static void assert_ports(const struct settings *s, const char *expected) {
        if (!expected) {
                assert_int_equal(s->open_ports.n, 0);
                return;
        }
        assert_int_equal(s->open_ports.n, 1);
        assert_string_equal(s->open_ports.values[0], expected);
}

/* The seeds' module: open ports and a name. */
static void test_module(void **state) {
        (void)state;
        struct settings s;
        apply_good("{}", ENV("PATH=/bin", "BEYLA_OPEN_PORT=4320,8080", "BEYLA_SERVICE_NAME=workstation-services",
                             "OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318"), &s);
        assert_ports(&s, "4320,8080");
        assert_string_equal(s.executables, "");
        assert_string_equal(s.service_name, "workstation-services");
        assert_string_equal(s.otlp_endpoint, "http://localhost:4318");
        assert_string_equal(s.collector, SETTINGS_COLLECTOR);
        assert_string_equal(warned, "");
        settings_done(&s);
}

/* What is selected replaces the default of all ports; nothing selected is nothing observed. */
static void test_selection_replaces_the_default(void **state) {
        (void)state;
        struct settings s;
        apply_good("{}", ENV("X=y"), &s);
        assert_ports(&s, "1-65535");
        settings_done(&s);
        apply_good("{}", ENV("BEYLA_OPEN_PORT="), &s);
        assert_ports(&s, NULL);
        settings_done(&s);
        apply_good("{}", ENV("BEYLA_EXECUTABLE_NAME=(claude|node)"), &s);
        assert_ports(&s, NULL);
        assert_string_equal(s.executables, "(claude|node)");
        settings_done(&s);
        apply_good("{}", ENV("BEYLA_OPEN_PORT=80", "OTEL_EBPF_EXECUTABLE_PATH=node"), &s);
        assert_ports(&s, "80");
        assert_string_equal(s.executables, "node");
        settings_done(&s);
        apply_good("{\"open_ports\": [\"81\"]}", ENV("BEYLA_EXECUTABLE_NAME=node"), &s);
        assert_ports(&s, "81");                                /* a document that says ports means them */
        settings_done(&s);
        apply_good("{\"open_ports\": [\"81\", \"82\"]}", ENV("BEYLA_OPEN_PORT=9000-9010"), &s);
        assert_ports(&s, "9000-9010");
        settings_done(&s);
        apply_good("{\"open_ports\": [\"81\"]}", ENV("BEYLA_OPEN_PORT="), &s);
        assert_ports(&s, NULL);
        settings_done(&s);
}

/* OTEL_EBPF_ before BEYLA_, one that is set before one that is empty; OpenTelemetry's own name before both. */
static void test_precedence(void **state) {
        (void)state;
        struct settings s;
        apply_good("{\"service_name\": \"file\"}", ENV("BEYLA_OPEN_PORT=1", "OTEL_EBPF_OPEN_PORT=2"), &s);
        assert_ports(&s, "2");
        assert_string_equal(s.service_name, "file");
        settings_done(&s);
        apply_good("{}", ENV("OTEL_EBPF_OPEN_PORT=", "BEYLA_OPEN_PORT=1"), &s);
        assert_ports(&s, "1");
        settings_done(&s);
        apply_good("{\"service_name\": \"file\"}", ENV("BEYLA_SERVICE_NAME="), &s);
        assert_string_equal(s.service_name, "file");           /* empty is not set */
        settings_done(&s);
        apply_good("{}", ENV("OTEL_SERVICE_NAME=otel", "BEYLA_SERVICE_NAME=beyla", "OTEL_RESOURCE_ATTRIBUTES=service.name=attribute"), &s);
        assert_string_equal(s.service_name, "otel");
        settings_done(&s);
        apply_good("{}", ENV("BEYLA_OTEL_METRICS_TTL=10m", "OTEL_METRIC_EXPORT_INTERVAL=5000", "BEYLA_METRICS_INTERVAL=7s"), &s);
        assert_int_equal(s.metrics.idle_ns, 600 * TEL_NS_PER_S);
        assert_int_equal(s.metrics.interval_ns, 7 * TEL_NS_PER_S);
        settings_done(&s);
        apply_good("{}", ENV("BEYLA_OPEN_PORT=1", "BEYLA_OPEN_PORT=2"), &s);
        assert_ports(&s, "1");                                 /* as getenv(3) */
        settings_done(&s);
}

static void test_each_name(void **state) {
        (void)state;
        struct settings s;
        apply_good("{}", ENV("OTEL_EBPF_SERVICE_NAMESPACE=shop", "BEYLA_HOSTNAME=h1", "BEYLA_TRACE_PRINTER=TEXT", "BEYLA_LOG_LEVEL=DEBUG",
                             "BEYLA_BPF_TRACK_REQUEST_HEADERS=true", "OTEL_METRIC_EXPORT_INTERVAL=15000", "OTEL_TRACES_SAMPLER=traceidratio",
                             "OTEL_TRACES_SAMPLER_ARG=0.1", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "BEYLA_CONFIG_PATH=/x"), &s);
        assert_string_equal(s.service_namespace, "shop");
        assert_string_equal(s.host.name, "h1");
        assert_int_equal(s.printer, PRINTER_TEXT);
        assert_int_equal(s.log_level, TEL_LOG_DEBUG);
        assert_int_equal(s.metrics.interval_ns, 15 * TEL_NS_PER_S);
        assert_int_equal(s.sampler.name, SAMPLER_RATIO);
        assert_string_equal(s.sampler.argument, "0.1");
        assert_string_equal(warned, "");
        settings_done(&s);
        apply_good("{}", ENV("BEYLA_PRINT_TRACES=1", "BEYLA_SYSTEM_WIDE=True"), &s);
        assert_int_equal(s.printer, PRINTER_TEXT);
        assert_string_equal(s.executables, "/");               /* somewhere in every path */
        assert_ports(&s, NULL);
        settings_done(&s);
        apply_good("{}", ENV("BEYLA_PRINT_TRACES=false", "BEYLA_SYSTEM_WIDE=0", "BEYLA_TRACE_PRINTER=json"), &s);
        assert_int_equal(s.printer, PRINTER_JSON);
        assert_ports(&s, "1-65535");
        settings_done(&s);
        apply_good("{}", ENV("OTEL_RESOURCE_ATTRIBUTES=service.name=a%20b, service.namespace = n ,host.name=h"), &s);
        assert_string_equal(s.service_name, "a b");
        assert_string_equal(s.service_namespace, "n");
        assert_string_equal(s.host.name, "h");
        assert_string_equal(warned, "");
        settings_done(&s);
}

static void test_endpoints(void **state) {
        (void)state;
        static const struct { const char *env, *endpoint; } cases[] = {
                { "OTEL_EXPORTER_OTLP_ENDPOINT=localhost:4318", "http://localhost:4318" },
                { "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://h:4318/v1/traces", "http://h:4318" },
                { "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://h/base/v1/traces", "https://h/base" },
                { "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://h:4318", "http://h:4318" },
                { "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://h:4318/", "http://h:4318" },
                { "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=h:4318/v1/traces", "http://h:4318" },
        };
        struct settings s;
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++) {
                apply_good("{}", ENV(cases[i].env), &s);
                assert_string_equal(s.otlp_endpoint, cases[i].endpoint);
                settings_done(&s);
        }
        apply_good("{}", ENV("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://b/v1/traces", "OTEL_EXPORTER_OTLP_ENDPOINT=http://a"), &s);
        assert_string_equal(s.otlp_endpoint, "http://b");      /* the particular one wins */
        settings_done(&s);
}

/* What cannot be is an error that names the variable; what the specification lets us ignore is a warning. */
static void test_bad_values(void **state) {
        (void)state;
        static const struct { const char *env, *error; } bad[] = {
                { "BEYLA_OPEN_PORT=http", "environment BEYLA_OPEN_PORT: expected ports from 1 to 65535" },
                { "OTEL_EBPF_OPEN_PORT=1-0", "environment OTEL_EBPF_OPEN_PORT: " },
                { "BEYLA_EXECUTABLE_NAME=(", "environment BEYLA_EXECUTABLE_NAME: expected a POSIX" },
                { "BEYLA_EXECUTABLE_NAME=\xff", "environment BEYLA_EXECUTABLE_NAME: expected UTF-8" },
                { "BEYLA_AUTO_TARGET_EXE={a", "environment BEYLA_AUTO_TARGET_EXE: expected a glob" },
                { "BEYLA_TRACE_PRINTER=xml", "expected disabled, text or json, got \"xml\"" },
                { "BEYLA_LOG_LEVEL=loud", "expected error, warn, info or debug" },
                { "BEYLA_METRICS_INTERVAL=soon", "expected a duration" },
                { "BEYLA_METRICS_INTERVAL=1ms", "expected a duration" },
                { "BEYLA_PRINT_TRACES=maybe", "expected true or false" },
                { "BEYLA_SERVICE_NAME=\xff", "expected UTF-8" },
                { "OTEL_EXPORTER_OTLP_ENDPOINT=ftp://x", "environment OTEL_EXPORTER_OTLP_ENDPOINT: expected" },
                { "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://x/other", "expected a URL that ends in /v1/traces" },
        };
        static const struct { const char *env, *warning; } ignored[] = {
                { "OTEL_TRACES_SAMPLER=jaeger_remote", "OTEL_TRACES_SAMPLER: ignored" },
                { "OTEL_TRACES_SAMPLER_ARG=2", "OTEL_TRACES_SAMPLER_ARG: ignored" },
                { "OTEL_METRIC_EXPORT_INTERVAL=1s", "OTEL_METRIC_EXPORT_INTERVAL: ignored" },
                { "OTEL_METRIC_EXPORT_INTERVAL=10", "OTEL_METRIC_EXPORT_INTERVAL: ignored" },
                { "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_EXPORTER_OTLP_PROTOCOL: has no effect" },
                { "BEYLA_TRACE_PRINTER=counter", "BEYLA_TRACE_PRINTER: counter is not supported" },
                { "BEYLA_BPF_TRACK_REQUEST_HEADERS=false", "traceparent is always read" },
                { "OTEL_RESOURCE_ATTRIBUTES=team=a", "only service.name, service.namespace and host.name" },
        };
        struct settings s;
        char err[TEL_CONFIG_ERROR_MAX];
        for (size_t i = 0; i < TEL_ARRAY_LEN(bad); i++) {
                assert_int_equal(apply("{}", ENV(bad[i].env), &s, err), -EINVAL);
                if (!strstr(err, bad[i].error))
                        fail_msg("%s: %s", bad[i].env, err);
                settings_done(&s);
        }
        for (size_t i = 0; i < TEL_ARRAY_LEN(ignored); i++) {
                struct settings plain;
                apply_good("{}", ENV(ignored[i].env), &s);
                if (!strstr(warned, ignored[i].warning))
                        fail_msg("%s: %s", ignored[i].env, warned);
                apply_good("{}", ENV("X="), &plain);
                assert_true(tel_config_equal(settings_table, &s, &plain));
                settings_done(&s);
                settings_done(&plain);
        }
}

/* Names that Beyla knows and we do not, and names that nobody knows, are told apart; those of others are left alone. */
static void test_names_without_effect(void **state) {
        (void)state;
        struct settings s;
        apply_good("{}", ENV("BEYLA_PROMETHEUS_PORT=9400", "OTEL_EBPF_KUBE_METADATA_ENABLE=true", "BEYLA_BPF_WAKEUP_LEN=500",
                             "BEYLA_HEURISTIC_SQL_DETECT=1", "BEYLA_OPEN_PROT=80", "OTEL_EBPF_=x", "OTEL_EXPORTER_OTLP_HEADERS=a=b",
                             "OTEL_TRACES_EXPORTER=otlp", "OTEL_PYTHON_LOG=x", "BEYLA", "BEYLAX=1", "BEYLA_OTEL_METRICS_FEATURES=application"), &s);
        assert_non_null(strstr(warned, "BEYLA_PROMETHEUS_PORT: not supported: collectord serves metrics\n"));
        assert_non_null(strstr(warned, "OTEL_EBPF_KUBE_METADATA_ENABLE: not supported: "));
        assert_non_null(strstr(warned, "BEYLA_BPF_WAKEUP_LEN: not supported: "));
        assert_non_null(strstr(warned, "BEYLA_HEURISTIC_SQL_DETECT: not supported\n"));
        assert_non_null(strstr(warned, "BEYLA_OTEL_METRICS_FEATURES: not supported: "));
        assert_non_null(strstr(warned, "BEYLA_OPEN_PROT: unknown"));
        assert_non_null(strstr(warned, "OTEL_EBPF_: unknown"));
        assert_non_null(strstr(warned, "OTEL_EXPORTER_OTLP_HEADERS: not supported"));
        assert_null(strstr(warned, "OTEL_TRACES_EXPORTER"));
        assert_null(strstr(warned, "PYTHON"));
        assert_null(strstr(warned, "BEYLAX"));
        settings_done(&s);
        assert_int_equal(settings_load(NULL, &s, warned), 0);
        assert_int_equal(environment_apply(ENV("BEYLA_NONSENSE=1", "OTEL_TRACES_SAMPLER=x"), &s, NULL, NULL, warned), 0);      /* nobody listens */
        settings_done(&s);
}

static bool glob_matches(const char *glob, const char *text) {
        char regex[256];
        regex_t r;
        assert_int_equal(environment_glob(glob, regex, sizeof(regex)), 0);
        assert_int_equal(regcomp(&r, regex, REG_EXTENDED | REG_NOSUB), 0);
        bool matches = regexec(&r, text, 0, NULL, 0) == 0;
        regfree(&r);
        return matches;
}

static void test_globs(void **state) {
        (void)state;
        static const struct { const char *glob, *yes, *no; } cases[] = {
                { "*/python3", "/usr/bin/python3", "/usr/bin/python3.11" },
                { "*/{node,ruby}", "/usr/bin/ruby", "/usr/bin/perl" },
                { "/opt/**/x", "/opt/a/b/x", "/opt/x" },
                { "/a.b", "/a.b", "/aXb" },
                { "/a+(b)|c$^", "/a+(b)|c$^", "/aab" },
                { "?", "x", "xy" },
                { "[abc]x", "bx", "dx" },
                { "[!abc]x", "dx", "bx" },
                { "[a-f]x", "ex", "gx" },
                { "[^a]", "^", "b" },
                { "[^]", "^", "x" },
                { "\\*", "*", "x" },
                { "a\\", "a\\", "a" },
                { "{a,{b,c}d}", "cd", "ad" },
                { "{a,}x", "x", "bx" },
                { "a,b}", "a,b}", "a" },
                { "", "", "x" },
        };
        char out[16];
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++)
                if (!glob_matches(cases[i].glob, cases[i].yes) || glob_matches(cases[i].glob, cases[i].no))
                        fail_msg("%s", cases[i].glob);
        assert_int_equal(environment_glob("{a", out, sizeof(out)), -EINVAL);
        assert_int_equal(environment_glob("[a", out, sizeof(out)), -EINVAL);
        assert_int_equal(environment_glob("[]", out, sizeof(out)), -EINVAL);
        assert_int_equal(environment_glob("[[:alpha:]]", out, sizeof(out)), -EINVAL);
        assert_int_equal(environment_glob("aaaaaaaaaaaaa", out, sizeof(out)), 0);      /* ^ 13 $ and the NUL: 16 */
        assert_int_equal(environment_glob("aaaaaaaaaaaaaa", out, sizeof(out)), -ENAMETOOLONG);
}

static void write_file(const char *path, const char *text) {
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fputs(text, f);
        assert_int_equal(fclose(f), 0);
}

/* Document, environment, command line: each comes on top of the one before, in the document that any of them names. */
static void test_layers(void **state) {
        (void)state;
        char path[] = "/tmp/beylad.test.XXXXXX", other[] = "/tmp/beylad.test.XXXXXX", config[64], err[TEL_CONFIG_ERROR_MAX];
        struct settings s;
        struct arguments a;
        close(mkstemp(path));
        close(mkstemp(other));
        write_file(path, "{\"service_name\": \"one\", \"log_level\": \"warn\", \"printer\": \"text\"}");
        write_file(other, "{\"service_name\": \"two\"}");
        snprintf(config, sizeof(config), "BEYLA_CONFIG_PATH=%s", path);
        char *const *env = ENV(config, "BEYLA_LOG_LEVEL=error", "BEYLA_TRACE_PRINTER=json");
        assert_int_equal(arguments_read(1, ENV("beylad"), &a), ARGUMENTS_RUN);
        assert_string_equal(arguments_config_path(&a, env), path);
        assert_int_equal(arguments_load(&a, env, NULL, NULL, &s, err), 0);
        assert_string_equal(s.service_name, "one");
        assert_int_equal(s.log_level, TEL_LOG_ERROR);
        assert_int_equal(s.printer, PRINTER_JSON);
        settings_done(&s);
        assert_int_equal(arguments_read(7, ENV("beylad", "--config", other, "--print", "disabled", "--log-level", "debug"), &a), ARGUMENTS_RUN);
        assert_int_equal(arguments_load(&a, env, NULL, NULL, &s, err), 0);
        assert_string_equal(s.service_name, "two");
        assert_int_equal(s.log_level, TEL_LOG_DEBUG);
        assert_int_equal(s.printer, PRINTER_DISABLED);
        settings_done(&s);
        write_file(other, "{\n\"service_nam\": \"two\"}");
        assert_int_equal(arguments_load(&a, env, NULL, NULL, &s, err), -EINVAL);
        assert_non_null(strstr(err, ":2:"));
        assert_null(s.proc);
        unlink(path);
        unlink(other);
        assert_int_equal(arguments_load(&a, env, NULL, NULL, &s, err), -ENOENT);
        assert_non_null(strstr(err, other));
}

static void test_arguments(void **state) {
        (void)state;
        struct arguments a;
        assert_int_equal(arguments_read(3, ENV("beylad", "--record", "f"), &a), ARGUMENTS_RUN);
        assert_string_equal(a.record_path, "f");
        assert_int_equal(a.log_level, -1);
        assert_int_equal(a.printer, -1);
        assert_int_equal(arguments_read(3, ENV("beylad", "--replay", "f"), &a), ARGUMENTS_RUN);
        assert_string_equal(a.replay_path, "f");
        assert_int_equal(arguments_read(3, ENV("beylad", "--explain", "42"), &a), ARGUMENTS_RUN);
        assert_int_equal(a.explain_pid, 42);
        assert_int_equal(arguments_read(2, ENV("beylad", "--check"), &a), ARGUMENTS_CHECK);
        assert_int_equal(arguments_read(2, ENV("beylad", "--print-config"), &a), ARGUMENTS_PRINT_CONFIG);
        assert_int_equal(arguments_read(2, ENV("beylad", "--print-docs"), &a), ARGUMENTS_PRINT_DOCS);
        assert_int_equal(arguments_read(2, ENV("beylad", "--print-schema"), &a), ARGUMENTS_PRINT_SCHEMA);
        assert_int_equal(arguments_read(2, ENV("beylad", "--version"), &a), ARGUMENTS_VERSION);
        assert_int_equal(arguments_read(2, ENV("beylad", "--help"), &a), ARGUMENTS_HELP);
        static const char *const bad[][3] = {
                { "--explain", "0" }, { "--explain", "1x" }, { "--explain", "-1" },
                { "--print", "xml" }, { "--log-level", "loud" }, { "--nonsense" }, { "stray" },
                { "--config" }, { "--replay=f", "--record=g" }, { "--replay=f", "--explain=1" },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(bad); i++)
                if (arguments_read(bad[i][1] ? 3 : 2, ENV("beylad", bad[i][0], bad[i][1]), &a) != ARGUMENTS_BAD)
                        fail_msg("%s %s", bad[i][0], bad[i][1] ? bad[i][1] : "");
}

/* The page lists every name once. */
static void test_documentation(void **state) {
        (void)state;
        char *text = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&text, &n);
        assert_int_equal(environment_print_markdown(f), 0);
        fclose(f);
        static const char *const names[] = { "`BEYLA_OPEN_PORT`", "`OTEL_EXPORTER_OTLP_ENDPOINT`", "`OTEL_TRACES_SAMPLER`", "`BEYLA_CONFIG_PATH`" };
        for (size_t i = 0; i < TEL_ARRAY_LEN(names); i++) {
                const char *at = strstr(text, names[i]);
                assert_non_null(at);
                assert_null(strstr(at + 1, names[i]));
        }
        free(text);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_module), cmocka_unit_test(test_selection_replaces_the_default), cmocka_unit_test(test_precedence),
                cmocka_unit_test(test_each_name), cmocka_unit_test(test_endpoints), cmocka_unit_test(test_bad_values),
                cmocka_unit_test(test_names_without_effect), cmocka_unit_test(test_globs), cmocka_unit_test(test_layers),
                cmocka_unit_test(test_arguments), cmocka_unit_test(test_documentation),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
