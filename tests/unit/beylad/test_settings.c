/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/settings.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "beylad/selection.h"
#include "libtelemetry/log.h"

static int parse(const char *text, struct settings *ret, char *err) {
        err[0] = '\0';
        return settings_parse("c.json", text, strlen(text), ret, err);
}

/* Finished. */
static void parse_good(const char *text, struct settings *ret) {
        char err[TEL_CONFIG_ERROR_MAX];
        if (parse(text, ret, err) < 0)
                fail_msg("%s\n%s", err, text);
        assert_int_equal(settings_finish(ret), 0);
}

static char *print(const struct settings *s) {
        char *text = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&text, &n);
        assert_int_equal(tel_config_print(settings_table, s, f), 0);
        fclose(f);
        return text;
}

/* Every default is one that the table itself accepts; nothing secret is kept unless a document says so. */
static void test_empty_document(void **state) {
        (void)state;
        struct settings s;
        parse_good("{}", &s);
        assert_int_equal(s.open_ports.n, 1);
        assert_string_equal(s.open_ports.values[0], "1-65535");
        assert_string_equal(s.executables, "");
        assert_string_equal(s.service_name, "");
        assert_string_equal(s.service_namespace, "");
        assert_string_equal(s.host.name, "");
        assert_int_equal(s.routes.patterns.n, 0);
        assert_int_equal(s.routes.ignored.n, 0);
        assert_int_equal(s.routes.ignore_mode, IGNORE_ALL);
        assert_int_equal(s.routes.unmatched, UNMATCHED_HEURISTIC);
        assert_int_equal(s.routes.cardinality, 10);
        assert_int_equal(s.headers.n, 0);
        assert_false(s.query);
        assert_true(s.db_text);
        assert_int_equal(s.sampler.name, SAMPLER_PARENT_ON);
        assert_true(s.traces.enabled);
        assert_true(s.metrics.enabled);
        assert_int_equal(s.metrics.interval_ns, 60 * TEL_NS_PER_S);
        assert_int_equal(s.metrics.series, 2000);
        assert_int_equal(s.metrics.idle_ns, 300 * TEL_NS_PER_S);
        assert_int_equal(s.printer, PRINTER_DISABLED);
        assert_string_equal(s.collector, SETTINGS_COLLECTOR);
        assert_string_equal(s.otlp_endpoint, "");
        assert_string_equal(s.listen.control, "beylad.sock");
        assert_int_equal(s.budget.cpu, 0);
        assert_int_equal(s.budget.probe_cpu, 0);
        assert_int_equal(s.budget.period_ns, 10 * TEL_NS_PER_S);
        assert_int_equal(s.technique, TECHNIQUE_AUTO);
        assert_string_equal(s.proc, "/proc");
        assert_int_equal(s.log_level, TEL_LOG_INFO);
        settings_done(&s);
}

/* The built-in document observes every listener but the suite's own programs. */
static void test_builtin(void **state) {
        (void)state;
        struct settings s;
        struct selection *l;
        char err[TEL_CONFIG_ERROR_MAX];
        assert_int_equal(settings_load(NULL, &s, err), 0);
        assert_int_equal(settings_finish(&s), 0);
        assert_int_equal(selection_new(&s, &l), 0);
        assert_true(selection_any(l));
        assert_true(selection_port(l, 1));
        assert_true(selection_port(l, 65535));
        assert_false(selection_port(l, 0));
        assert_false(selection_executable(l, "/usr/bin/python3"));
        assert_true(selection_excluded(l, "/usr/bin/collectord"));
        assert_true(selection_excluded(l, "beylad"));
        assert_false(selection_excluded(l, "/usr/bin/beylad-shop"));
        assert_false(selection_excluded(l, "/opt/collectord/shop"));
        selection_free(l);
        settings_done(&s);
}

/* "default" is every port, but not for who chose executables; what is written is what is meant. */
static void test_default_ports(void **state) {
        (void)state;
        static const struct { const char *text; size_t n; } cases[] = {
                { "{}", 1 },
                { "{\"executables\": \"node\"}", 0 },
                { "{\"executables\": \"node\", \"open_ports\": [\"80\"]}", 1 },
                { "{\"open_ports\": []}", 0 },
                { "{\"open_ports\": [\"default\"], \"executables\": \"x\"}", 0 },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++) {
                struct settings s;
                parse_good(cases[i].text, &s);
                assert_int_equal(s.open_ports.n, cases[i].n);
                assert_int_equal(settings_finish(&s), 0);      /* twice is once */
                assert_int_equal(s.open_ports.n, cases[i].n);
                settings_done(&s);
        }
}

static void test_selection(void **state) {
        (void)state;
        struct settings s;
        struct selection *l;
        parse_good("{\"open_ports\": [\"80\", \" 4320, 8080 \", \"9000-9002,\", \"\"], \"executables\": \"(^|/)(claude|node|python3)\","
                   " \"exclude\": \"/opt/\"}", &s);
        assert_int_equal(selection_new(&s, &l), 0);
        settings_done(&s);                                     /* nothing of it is kept */
        static const uint32_t in[] = { 80, 4320, 8080, 9000, 9001, 9002 }, out[] = { 0, 79, 81, 8999, 9003, 65535, 65536 };
        for (size_t i = 0; i < TEL_ARRAY_LEN(in); i++)
                assert_true(selection_port(l, in[i]));
        for (size_t i = 0; i < TEL_ARRAY_LEN(out); i++)
                assert_false(selection_port(l, out[i]));
        assert_true(selection_executable(l, "/usr/bin/python3.11"));
        assert_false(selection_executable(l, "/usr/bin/mypython3"));
        assert_true(selection_excluded(l, "/opt/node"));
        assert_true(selection_any(l));
        selection_free(l);
        parse_good("{\"open_ports\": [\"\"], \"exclude\": \"\"}", &s);
        assert_int_equal(selection_new(&s, &l), 0);
        assert_false(selection_any(l));                        /* nothing is observed */
        assert_false(selection_excluded(l, ""));
        selection_free(l);
        settings_done(&s);
        assert_null(selection_free(NULL));
}

/* Names of headers are compared without case; an endpoint becomes the base URL that paths are appended to. */
static void test_finish(void **state) {
        (void)state;
        static const char *const endpoints[][2] = {
                { "localhost:4318", "http://localhost:4318" }, { "http://localhost:4318/", "http://localhost:4318" },
                { "https://otel.example/base//", "https://otel.example/base" }, { "[::1]:4318", "http://[::1]:4318" }, { "", "" },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(endpoints); i++) {
                struct settings s;
                char text[200];
                snprintf(text, sizeof(text), "{\"headers\": [\"X-Request-ID\", \"accept\"], \"otlp_endpoint\": \"%s\"}", endpoints[i][0]);
                parse_good(text, &s);
                assert_string_equal(s.headers.values[0], "x-request-id");
                assert_string_equal(s.headers.values[1], "accept");
                assert_string_equal(s.otlp_endpoint, endpoints[i][1]);
                assert_int_equal(settings_finish(&s), 0);
                assert_string_equal(s.otlp_endpoint, endpoints[i][1]);
                settings_done(&s);
        }
}

static void test_everything_set(void **state) {
        (void)state;
        struct settings s;
        parse_good("{ // a comment\n"
                   "\"service_name\": \"shop\", \"service_namespace\": \"web\", \"host\": {\"name\": \"h1\"},\n"
                   "\"routes\": {\"patterns\": [\"/users/{id}\", \"/static/*\"], \"ignored\": [\"/healthz\"], \"ignore_mode\": \"traces\","
                   " \"unmatched\": \"wildcard\", \"cardinality\": 3},\n"
                   "\"query\": true, \"db_text\": false, \"sampler\": {\"name\": \"parentbased_traceidratio\", \"argument\": \"0.25\"},\n"
                   "\"traces\": {\"enabled\": false}, \"metrics\": {\"enabled\": false, \"interval\": \"5s\", \"series\": 7, \"idle\": \"1m\"},\n"
                   "\"printer\": \"json\", \"collector\": \"/run/c.sock\", \"listen\": {\"control\": \"\"},\n"
                   "\"budget\": {\"cpu\": 2, \"probe_cpu\": 5, \"period\": \"500ms\"}, \"technique\": \"syscall\", \"proc\": \"/host/proc\", \"log_level\": \"debug\"}", &s);
        assert_string_equal(s.service_name, "shop");
        assert_string_equal(s.service_namespace, "web");
        assert_string_equal(s.host.name, "h1");
        assert_string_equal(s.routes.patterns.values[1], "/static/*");
        assert_string_equal(s.routes.ignored.values[0], "/healthz");
        assert_int_equal(s.routes.ignore_mode, IGNORE_TRACES);
        assert_int_equal(s.routes.unmatched, UNMATCHED_WILDCARD);
        assert_int_equal(s.routes.cardinality, 3);
        assert_true(s.query);
        assert_false(s.db_text);
        assert_int_equal(s.sampler.name, SAMPLER_PARENT_RATIO);
        assert_string_equal(s.sampler.argument, "0.25");
        assert_false(s.traces.enabled);
        assert_false(s.metrics.enabled);
        assert_int_equal(s.metrics.interval_ns, 5 * TEL_NS_PER_S);
        assert_int_equal(s.metrics.series, 7);
        assert_int_equal(s.metrics.idle_ns, 60 * TEL_NS_PER_S);
        assert_int_equal(s.printer, PRINTER_JSON);
        assert_string_equal(s.collector, "/run/c.sock");
        assert_string_equal(s.listen.control, "");
        assert_int_equal(s.budget.cpu, 2);
        assert_int_equal(s.budget.probe_cpu, 5);
        assert_int_equal(s.budget.period_ns, 500 * TEL_NS_PER_MS);
        assert_int_equal(s.technique, TECHNIQUE_SYSCALL);
        assert_string_equal(s.proc, "/host/proc");
        assert_int_equal(s.log_level, TEL_LOG_DEBUG);
        settings_done(&s);
}

/* Ports as bits: the ends of ranges, and of words. */
static void test_ports_bits(void **state) {
        static char first[] = "1, 63-64", second[] = "8000-8100,65535", *values[] = { first, second };
        const struct tel_config_strings list = { .values = values, .n = 2 };
        static uint64_t bits[65536 / 64];
        (void)state;
        memset(bits, 0xff, sizeof(bits));
        settings_ports_bits(&list, bits);
        for (unsigned port = 0; port < 65536; port++) {
                bool there = port == 1 || port == 63 || port == 64 || (port >= 8000 && port <= 8100) || port == 65535;
                assert_int_equal(bits[port / 64] >> port % 64 & 1, there);
        }
}

/* A fault names line, key and what was expected. */
static void test_bad_documents(void **state) {
        (void)state;
        static const struct { const char *text, *where, *what; } cases[] = {
                { "{\n\"open_ports\": [\"80\", \"0\"]}", "c.json:2:", "key 'open_ports[1]': expected ports from 1 to 65535" },
                { "{\"open_ports\": [\"65536\"]}", "c.json:1:", "got \"65536\"" },
                { "{\"open_ports\": [\"90-80\"]}", "c.json:1:", "got \"90-80\"" },
                { "{\"open_ports\": [\"80-\"]}", "c.json:1:", "open_ports[0]" },
                { "{\"open_ports\": [\"80, http\"]}", "c.json:1:", "got \"http\"" },
                { "{\"open_ports\": [\"80x\"]}", "c.json:1:", "open_ports[0]" },
                { "{\"open_ports\": [\"default\", \"80\"]}", "c.json:1:", "got \"default\"" },
                { "{\"open_ports\": \"80\"}", "c.json:1:", "open_ports" },
                { "{\"inject\": {\"cgroup\": \"x\", \"ports\": [\"80\"]}}", "c.json:1:", "key 'inject.cgroup': expected a path from '/'" },
                { "{\"inject\": {\"cgroup\": \"/x\"}}", "c.json:1:", "key 'inject.ports': expected at least one port" },
                { "{\"inject\": {\"cgroup\": \"/x\", \"ports\": [\"80\", \"http\"]}}", "c.json:1:", "key 'inject.ports[1]': expected ports" },
                { "{\"inject\": {\"cgroup\": \"/x\", \"ports\": [\"80\"]}, \"traces\": {\"enabled\": false}}", "c.json:1:", "expected traces.enabled" },
                { "{\"executables\": \"(node\"}", "c.json:1:", "key 'executables': expected a POSIX extended regular expression" },
                { "{\"exclude\": \"[a\"}", "c.json:1:", "key 'exclude'" },
                { "{\"executables\": \"((a{99}){99}){99}\"}", "c.json:1:", "repeat too often" },
                { "{\"executables\": \"(a)\\\\1\"}", "c.json:1:", "references like \\1" },
                { "{\"routes\": {\n\"patterns\": [\"users\"]}}", "c.json:2:", "key 'routes.patterns[0]': expected a path" },
                { "{\"routes\": {\"ignored\": [\"/a\", \"\"]}}", "c.json:1:", "routes.ignored[1]" },
                { "{\"routes\": {\"unmatched\": \"none\"}}", "c.json:1:", "routes.unmatched" },
                { "{\"routes\": {\"cardinality\": 0}}", "c.json:1:", "routes.cardinality" },
                { "{\"headers\": [\"x y\"]}", "c.json:1:", "headers[0]" },
                { "{\"headers\": [\"Cookie\"]}", "c.json:1:", "holds a secret" },
                { "{\"headers\": [\"AUTHORIZATION\"]}", "c.json:1:", "holds a secret" },
                { "{\"headers\": [\"a\", \"A\"]}", "c.json:1:", "key 'headers[1]': \"A\" stands there twice" },
                { "{\"sampler\": {\"name\": \"jaeger_remote\"}}", "c.json:1:", "parentbased_traceidratio" },
                { "{\"sampler\": {\"argument\": \"1.5\"}}", "c.json:1:", "key 'sampler.argument': expected a number from 0 to 1" },
                { "{\"sampler\": {\"argument\": \"nan\"}}", "c.json:1:", "sampler.argument" },
                { "{\"collector\": \"run/frames.sock\"}", "c.json:1:", "key 'collector'" },
                { "{\"listen\": {\"control\": \"a/b\"}}", "c.json:1:", "listen.control" },
                { "{\"otlp_endpoint\": \"ftp://x\"}", "c.json:1:", "key 'otlp_endpoint'" },
                { "{\"otlp_endpoint\": \"http://user:geheim@x\"}", "c.json:1:", "user name" },
                { "{\"otlp_endpoint\": \"http://x/?a=b\"}", "c.json:1:", "otlp_endpoint" },
                { "{\"otlp_endpoint\": \"http://\"}", "c.json:1:", "otlp_endpoint" },
                { "{\"otlp_endpoint\": \"x y\"}", "c.json:1:", "blank" },
                { "{\"otlp_endpoint\": \"x:99999\"}", "c.json:1:", "otlp_endpoint" },
                { "{\"proc\": \"proc\"}", "c.json:1:", "key 'proc'" },
                { "{\"budget\": {\"cpu\": -1}}", "c.json:1:", "budget.cpu" },
                { "{\"metrics\": {\"interval\": \"100ms\"}}", "c.json:1:", "metrics.interval" },
                { "{\"printer\": \"counter\"}", "c.json:1:", "printer" },
                { "{\"technique\": \"kprobe\"}", "c.json:1:", "technique" },
                { "{\"open_port\": []}", "c.json:1:", "open_port" },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++) {
                struct settings s;
                char err[TEL_CONFIG_ERROR_MAX];
                if (parse(cases[i].text, &s, err) == 0)
                        fail_msg("accepted: %s", cases[i].text);
                if (!strstr(err, cases[i].where) || !strstr(err, cases[i].what) || strstr(err, "geheim"))
                        fail_msg("%s\n%s", err, cases[i].text);
                assert_null(s.proc);                           /* empty on failure */
        }
}

/* Bounds of lists and texts: the last that fits, and the first that does not. */
static void test_bounds(void **state) {
        (void)state;
        for (int over = 0; over < 2; over++) {
                struct settings s;
                char err[TEL_CONFIG_ERROR_MAX], text[8192], *at = text + sprintf(text, "{\"open_ports\": [\"");
                for (int i = 0; i < SETTINGS_PORTS_MAX + over; i++)
                        at += sprintf(at, "%d,", i + 1);
                strcpy(at, "\"]}");
                assert_int_equal(parse(text, &s, err), over ? -EINVAL : 0);
                settings_done(&s);
                snprintf(text, sizeof(text), "{\"service_name\": \"%0*d\"}", SETTINGS_TEXT_MAX - 1 + over, 0);
                assert_int_equal(parse(text, &s, err), over ? -EINVAL : 0);
                settings_done(&s);
                snprintf(text, sizeof(text), "{\"executables\": \"%0*d\"}", SETTINGS_REGEX_MAX + over, 0);
                assert_int_equal(parse(text, &s, err), over ? -EINVAL : 0);
                settings_done(&s);
        }
}

/* What is printed is a document that means the same. */
static void test_print_reads_back(void **state) {
        (void)state;
        struct settings a, b;
        parse_good("{\"open_ports\": [\"80,443\"], \"headers\": [\"X-A\"], \"otlp_endpoint\": \"localhost:4318\", \"metrics\": {\"idle\": \"90s\"}}", &a);
        char *first = print(&a);
        parse_good(first, &b);
        assert_true(tel_config_equal(settings_table, &a, &b));
        free(first);
        settings_done(&a);
        settings_done(&b);
}

static void test_ratio(void **state) {
        (void)state;
        double v;
        static const char *const bad[] = { "-0.1", "1.01", "x", "0,5", " 1", "1e", "nan", "inf" };
        for (size_t i = 0; i < TEL_ARRAY_LEN(bad); i++)
                assert_int_equal(settings_sampler_ratio(bad[i], &v), -EINVAL);
        assert_int_equal(settings_sampler_ratio("", &v), 0);
        assert_true(v == 1);
        assert_int_equal(settings_sampler_ratio("0", &v), 0);
        assert_true(v == 0);
        assert_int_equal(settings_sampler_ratio("0.25", &v), 0);
        assert_true(v == 0.25);
}

/* Every key, in every depth, has its sentence and is in the schema. */
static void check_texts(const struct tel_config_key *table) {
        for (const struct tel_config_key *k = table; k->key; k++) {
                assert_non_null(k->text);
                assert_true(strlen(k->text) > 10 && k->text[strlen(k->text) - 1] == '.');
                if (k->table)
                        check_texts(k->table);
        }
}

static void test_documentation(void **state) {
        (void)state;
        char *text = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&text, &n);
        check_texts(settings_table);
        assert_int_equal(tel_config_print_schema(settings_table, SETTINGS_TITLE, f), 0);
        fclose(f);
        json_t *schema = json_loads(text, 0, NULL);
        assert_non_null(json_object_get(json_object_get(schema, "properties"), "open_ports"));
        json_decref(schema);
        free(text);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_empty_document), cmocka_unit_test(test_builtin), cmocka_unit_test(test_default_ports),
                cmocka_unit_test(test_selection), cmocka_unit_test(test_finish), cmocka_unit_test(test_everything_set),
                cmocka_unit_test(test_bad_documents), cmocka_unit_test(test_ports_bits), cmocka_unit_test(test_bounds), cmocka_unit_test(test_print_reads_back),
                cmocka_unit_test(test_ratio), cmocka_unit_test(test_documentation),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
