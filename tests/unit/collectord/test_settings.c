/* SPDX-License-Identifier: Apache-2.0 */
#include "collectord/settings.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "libtelemetry/log.h"

static int parse(const char *text, struct settings *ret, char *err) {
        err[0] = '\0';
        return settings_parse("c.json", text, strlen(text), ret, err);
}

static void parse_good(const char *text, struct settings *ret) {
        char err[TEL_CONFIG_ERROR_MAX];
        if (parse(text, ret, err) < 0)
                fail_msg("%s\n%s", err, text);
}

static char *print(const struct settings *s) {
        char *text = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&text, &n);
        assert_int_equal(tel_config_print(settings_table, s, f), 0);
        fclose(f);
        return text;
}

/* Each row of the table has a sentence, and every default is one that the table itself accepts. */
static void test_empty_document(void **state) {
        (void)state;
        struct settings s;
        parse_good("{}", &s);
        assert_string_equal(s.listen.otlp_http, "127.0.0.1:4318");
        assert_string_equal(s.listen.web, "127.0.0.1:12345");
        assert_string_equal(s.listen.frames, "frames.sock");
        assert_string_equal(s.listen.control, "control.sock");
        assert_int_equal(s.listen.otlp_connections, 512);
        assert_int_equal(s.listen.otlp_idle_ns, 30 * TEL_NS_PER_S);
        assert_int_equal(s.listen.otlp_body_bytes, 20 << 20);
        assert_int_equal(s.listen.frames_connections, 64);
        assert_int_equal(s.listen.frames_users.n, 0);
        assert_string_equal(s.host.name, "");
        assert_int_equal(s.host.labels.n, 0);
        assert_int_equal(s.destinations.n, 0);
        assert_int_equal(s.buffer.memory, 100000000);
        assert_int_equal(s.buffer.history, 4000000);
        assert_int_equal(s.buffer.ingest, 24000000);
        assert_int_equal(s.buffer.egress, 16000000);
        assert_int_equal(s.stop_timeout_ns, 10 * TEL_NS_PER_S);
        assert_int_equal(s.log_level, TEL_LOG_INFO);
        settings_done(&s);
}

static void test_destination_defaults(void **state) {
        (void)state;
        struct settings s;
        parse_good("{\"destinations\": {\"hub\": {\"url\": \"https://otel.example\"}}}", &s);
        const struct destination_settings *d = s.destinations.items;
        assert_string_equal(d->name, "hub");
        assert_int_equal(d->type, DESTINATION_OTLP);
        assert_true(d->enabled && d->anchor);
        assert_int_equal(d->signals, 1 << TEL_TRACES | 1 << TEL_METRICS | 1 << TEL_LOGS);
        assert_int_equal(d->from, 1 << SOURCE_OTLP | 1 << SOURCE_FRAMES);
        assert_int_equal(d->compression, COMPRESSION_GZIP);
        assert_int_equal(d->encoding, OTLP_ENCODING_PROTOBUF);
        assert_int_equal(d->timeout_ns, 10 * TEL_NS_PER_S);
        assert_int_equal(d->batch.items, 1000);
        assert_int_equal(d->batch.max_items, 2000);
        assert_int_equal(d->batch.max_bytes, 1000000);
        assert_true(d->batch.timeout_ns == SETTINGS_BY_SIGNAL);
        assert_int_equal(settings_batch_timeout(d, TEL_TRACES), 2 * TEL_NS_PER_S);
        assert_int_equal(settings_batch_timeout(d, TEL_METRICS), 10 * TEL_NS_PER_S);
        assert_int_equal(settings_batch_timeout(d, TEL_LOGS), 10 * TEL_NS_PER_S);
        assert_int_equal(d->retry.initial_ns, 5 * TEL_NS_PER_S);
        assert_int_equal(d->retry.max_ns, 30 * TEL_NS_PER_S);
        assert_true(d->retry.give_up_ns == SETTINGS_NEVER);
        assert_int_equal(d->in_flight, 4);
        assert_int_equal(d->max_age_ns + d->max_lag.bytes + d->max_lag.age_ns, 0);
        assert_int_equal(d->drop.n, 0);
        settings_done(&s);
}

/* What runs without a file: the local consumer, and no one else. */
static void test_builtin(void **state) {
        (void)state;
        char err[TEL_CONFIG_ERROR_MAX];
        struct settings s;
        assert_int_equal(settings_load(NULL, &s, err), 0);
        assert_int_equal(s.destinations.n, 1);
        const struct destination_settings *d = s.destinations.items;
        const struct drop_rule *rule = d->drop.items;
        assert_string_equal(d->name, "local");
        assert_string_equal(d->url, "http://localhost:4320");
        assert_int_equal(d->compression, COMPRESSION_NONE);
        assert_int_equal(settings_batch_timeout(d, TEL_LOGS), 0);
        assert_int_equal(d->from, 1 << SOURCE_OTLP | 1 << SOURCE_FRAMES);
        assert_int_equal(d->in_flight, 1);
        assert_int_equal(d->max_lag.bytes, 4000000);
        assert_int_equal(d->max_lag.age_ns, 30 * TEL_NS_PER_S);
        assert_false(d->anchor);
        assert_int_equal(d->drop.n, 1);
        assert_string_equal(rule->resource, "telemetry.sdk.name");
        assert_string_equal(rule->equals, "beyla");
        settings_done(&s);
}

/* Every key, none at its default, as the printer writes it. */
static const char full[] =
        "{\"listen\": {\"otlp_http\": \"[::1]:1\", \"web\": \":2\", \"frames\": \"/run/f\", \"control\": \"c\", \"otlp_connections\": 3, \"otlp_idle\": \"4s\",\n"
        "  \"otlp_body\": \"5MB\", \"frames_connections\": 6, \"frames_users\": [\"ann\"]},\n"
        " \"host\": {\"name\": \"h\", \"labels\": {\"a.b\": \"c\"}},\n"
        " \"destinations\": {\"x\": {\"type\": \"otlp\", \"url\": \"http://a/b\", \"traces_url\": \"https://t/?q=1\", \"metrics_url\": \"http://m\",\n"
        "   \"logs_url\": \"http://l\", \"enabled\": false, \"signals\": [\"metrics\"], \"from\": [\"frames\"], \"compression\": \"none\",\n"
        "   \"encoding\": \"json\", \"headers\": {\"X-A\": \"<secret>\"},\n"
        "   \"auth\": {\"username\": \"u\", \"password\": \"<secret>\", \"bearer\": \"\", \"bearer_file\": \"\"},\n"
        "   \"tls\": {\"ca_file\": \"ca\", \"cert_file\": \"cert\", \"key_file\": \"key\", \"server_name\": \"s\", \"insecure_skip_verify\": true},\n"
        "   \"timeout\": \"7s\", \"batch\": {\"items\": 8, \"max_items\": 9, \"max_bytes\": \"64KiB\", \"timeout\": \"10ms\"},\n"
        "   \"retry\": {\"initial\": \"11s\", \"max\": \"12s\", \"give_up\": \"13s\"}, \"in_flight\": 14, \"max_age\": \"15s\",\n"
        "   \"max_lag\": {\"bytes\": \"16B\", \"age\": \"17s\"}, \"anchor\": false, \"drop\": [{\"resource\": \"r\", \"equals\": \"\"}]},\n"
        "  \"y\": {\"type\": \"null\", \"url\": \"\", \"traces_url\": \"\", \"metrics_url\": \"\", \"logs_url\": \"\", \"enabled\": true,\n"
        "   \"signals\": [\"traces\", \"logs\"], \"from\": [\"otlp\", \"frames\"], \"compression\": \"gzip\", \"encoding\": \"protobuf\", \"headers\": {},\n"
        "   \"auth\": {\"username\": \"\", \"password\": \"\", \"bearer\": \"<secret>\", \"bearer_file\": \"\"},\n"
        "   \"tls\": {\"ca_file\": \"\", \"cert_file\": \"\", \"key_file\": \"\", \"server_name\": \"\", \"insecure_skip_verify\": false},\n"
        "   \"timeout\": \"10s\", \"batch\": {\"items\": 1, \"max_items\": 0, \"max_bytes\": \"1MB\", \"timeout\": \"default\"},\n"
        "   \"retry\": {\"initial\": \"5s\", \"max\": \"30s\", \"give_up\": \"never\"}, \"in_flight\": 1, \"max_age\": \"0s\",\n"
        "   \"max_lag\": {\"bytes\": \"0B\", \"age\": \"0s\"}, \"anchor\": true, \"drop\": []}},\n"
        " \"buffer\": {\"memory\": \"18MB\", \"history\": \"19KB\", \"ingest\": \"20MB\", \"egress\": \"21MB\"},\n"
        " \"stop_timeout\": \"22s\", \"log_level\": \"debug\"}";

/* --print-config says the same as the document, apart from secrets, and is a document itself. */
static void test_print_reads_back(void **state) {
        (void)state;
        struct settings a, b;
        parse_good(full, &a);
        char *first = print(&a);
        json_t *want = json_loads(full, 0, NULL), *got = json_loads(first, 0, NULL);
        assert_true(json_equal(want, got));
        parse_good(first, &b);
        char *second = print(&b);
        assert_string_equal(first, second);
        const struct destination_settings *d = b.destinations.items;
        assert_string_equal(d->urls[TEL_TRACES], "https://t/?q=1");
        assert_int_equal(d->retry.give_up_ns, 13 * TEL_NS_PER_S);
        json_decref(want);
        json_decref(got);
        free(first);
        free(second);
        settings_done(&a);
        settings_done(&b);
}

/* Passwords, tokens and header values are in no output. */
static void test_secrets(void **state) {
        (void)state;
        struct settings s;
        parse_good("{\"destinations\": {\"a\": {\"url\": \"http://a\", \"headers\": {\"X\": \"hunter1\"}, \"auth\": {\"bearer\": \"hunter2\"}},"
                   " \"b\": {\"url\": \"http://a\", \"auth\": {\"username\": \"u\", \"password\": \"hunter3\"}}}}", &s);
        char *text = print(&s);
        assert_null(strstr(text, "hunter"));
        free(text);
        settings_done(&s);
}

/* "default" compression looks at the hosts of all URLs in use. */
static void test_compression(void **state) {
        (void)state;
        static const struct {
                const char *keys;
                int compression;
        } rows[] = {
                { "\"url\": \"http://localhost:4320\"", COMPRESSION_NONE }, { "\"url\": \"http://LOCALHOST\"", COMPRESSION_NONE },
                { "\"url\": \"http://127.8.9.1:1/x\"", COMPRESSION_NONE }, { "\"url\": \"https://[::1]:44\"", COMPRESSION_NONE },
                { "\"url\": \"http://localhost.example\"", COMPRESSION_GZIP }, { "\"url\": \"http://127.example\"", COMPRESSION_GZIP },
                { "\"url\": \"http://[::2]\"", COMPRESSION_GZIP }, { "\"type\": \"null\"", COMPRESSION_GZIP },
                { "\"url\": \"http://localhost\", \"logs_url\": \"http://far\"", COMPRESSION_GZIP },
                { "\"url\": \"http://localhost\", \"logs_url\": \"http://far\", \"signals\": [\"traces\"]", COMPRESSION_NONE },
                { "\"url\": \"http://localhost\", \"compression\": \"gzip\"", COMPRESSION_GZIP },
                { "\"url\": \"http://far\", \"compression\": \"none\"", COMPRESSION_NONE },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++) {
                char document[256];
                struct settings s;
                snprintf(document, sizeof(document), "{\"destinations\": {\"x\": {%s}}}", rows[i].keys);
                parse_good(document, &s);
                assert_int_equal(((struct destination_settings *)s.destinations.items)->compression, rows[i].compression);
                settings_done(&s);
        }
}

/* Refused, with exactly this text, and nothing is left in the struct. */
static void assert_refused(const char *document, const char *expected) {
        char err[TEL_CONFIG_ERROR_MAX];
        struct settings s, empty = { 0 };
        if (parse(document, &s, err) != -EINVAL)
                fail_msg("accepted: %s", document);
        assert_string_equal(err, expected);
        assert_memory_equal(&s, &empty, sizeof(s));
}

static void test_errors(void **state) {
        (void)state;
        static const struct {
                const char *document, *error;
        } rows[] = {
                { "{\"destinatons\": {}}", "c.json:1:2: unknown key 'destinatons', did you mean 'destinations'?" },
                { "{\"destinations\": {\"a\": {\n\"type\": \"oltp\"}}}", "c.json:2:1: key 'destinations.a.type': expected one of \"otlp\", \"null\", got \"oltp\"" },
                { "{\"log_level\": \"loud\"}", "c.json:1:2: key 'log_level': expected one of \"error\", \"warn\", \"info\", \"debug\", got \"loud\"" },
                { "{\"listen\": {\n\"otlp_http\": \"4318\"}}", "c.json:2:1: key 'listen.otlp_http': expected an address like \"127.0.0.1:4318\", \"[::1]:4318\" or \":4318\", got \"4318\"" },
                { "{\"listen\": {\"web\": \"::1:80\"}}", "c.json:1:13: key 'listen.web': expected an address like \"127.0.0.1:4318\", \"[::1]:4318\" or \":4318\", got \"::1:80\"" },
                { "{\"listen\": {\"otlp_http\": \":7\",\n \"web\": \"10.0.0.1:7\"}}", "c.json:2:2: key 'listen.web': port 7 is taken by listen.otlp_http" },
                { "{\"listen\": {\"otlp_http\": \"localhost:12345\"}}", "c.json:1:2: key 'listen.web': port 12345 is taken by listen.otlp_http" },
                { "{\"listen\": {\"frames\": \"s\",\n\"control\": \"s\"}}", "c.json:2:1: key 'listen.control': \"s\" is taken by listen.frames" },
                { "{\"listen\": {\"frames\": \"a/b\"}}", "c.json:1:13: key 'listen.frames': expected a path from '/' or a name without '/', got \"a/b\"" },
                { "{\"listen\": {\"frames_users\": [\"a\",\n\"\"]}}", "c.json:2:1: key 'listen.frames_users[1]': expected the name of a user, got \"\"" },
                { "{\"listen\": {\"otlp_connections\": 0}}", "c.json:1:13: key 'listen.otlp_connections': expected an integer from 1 to 65536, got 0" },
                { "{\"host\": {\"labels\": {\n\"\": \"x\"}}}", "c.json:2:1: key 'host.labels[\"\"]': expected a name of an attribute" },
                { "{\"buffer\": {\"memory\": \"10KB\"}}", "c.json:1:13: key 'buffer.memory': expected a size from 1MB to 1TB, got 10KB" },
                { "{\"buffer\": {\"memory\": \"3MB\"}}", "c.json:1:2: key 'buffer.history': 4MB is more than buffer.memory, 3MB" },
                { "{\"buffer\": {\"ingest\": \"2MB\"}}", "c.json:1:13: key 'buffer.ingest': 2MB is less than listen.otlp_body, 20MiB" },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++)
                assert_refused(rows[i].document, rows[i].error);
}

/* keys stand in line 2 of a destination "a" whose url is good; the error begins with the place and the path of the destination. */
static void test_destination_errors(void **state) {
        (void)state;
        static const struct {
                const char *keys, *error;
        } rows[] = {
                { "\"signals\": []", "2:1: key 'destinations.a.signals': names no signal; to send nothing use \"enabled\": false" },
                { "\"from\": []", "2:1: key 'destinations.a.from': names no source; to send nothing use \"enabled\": false" },
                { "\"signals\": [\"profiles\"]", "2:13: key 'destinations.a.signals[0]': expected one of \"traces\", \"metrics\", \"logs\", got \"profiles\"" },
                { "\"logs_url\": \"ftp://x\"", "2:1: key 'destinations.a.logs_url': expected a URL that begins with http:// or https://" },
                { "\"logs_url\": \"otel.example:4318\"", "2:1: key 'destinations.a.logs_url': expected a URL that begins with http:// or https://" },
                { "\"logs_url\": \"http://\"", "2:1: key 'destinations.a.logs_url': the URL has no host" },
                { "\"logs_url\": \"https://:80/x\"", "2:1: key 'destinations.a.logs_url': the URL has no host" },
                { "\"logs_url\": \"http://a:0\"", "2:1: key 'destinations.a.logs_url': the URL has no valid host and port" },
                { "\"logs_url\": \"http://a:65536\"", "2:1: key 'destinations.a.logs_url': the URL has no valid host and port" },
                { "\"logs_url\": \"http://a:\"", "2:1: key 'destinations.a.logs_url': the URL has no valid host and port" },
                { "\"logs_url\": \"http://[::1\"", "2:1: key 'destinations.a.logs_url': the URL has no valid host and port" },
                { "\"logs_url\": \"http://[]/\"", "2:1: key 'destinations.a.logs_url': the URL has no valid host and port" },
                { "\"logs_url\": \"http://u:p@a\"", "2:1: key 'destinations.a.logs_url': the URL holds a user name; use auth.username and auth.password" },
                { "\"logs_url\": \"http://a/ b\"", "2:1: key 'destinations.a.logs_url': the URL holds a blank, or a byte that is not ASCII; write it as %XX" },
                { "\"logs_url\": \"http://a/#b\"", "2:1: key 'destinations.a.logs_url': the URL holds a '#', which is never sent" },
                { "\"logs_url\": \"http://localhost:4318/v1/logs\"", "2:1: key 'destinations.a.logs_url': leads back to listen.otlp_http, 127.0.0.1:4318" },
                { "\"headers\": {\"a b\": \"\"}", "2:13: key 'destinations.a.headers[\"a b\"]': expected the name of a header: letters, digits and !#$%&'*+-.^_`|~" },
                { "\"headers\": {\"a\": \"x\\r\\nb: c\"}", "2:13: key 'destinations.a.headers.a': the value holds a line break or another control byte" },
                { "\"headers\": {\"content-type\": \"x\"}", "2:13: key 'destinations.a.headers.content-type': this header follows from the other keys" },
                { "\"headers\": {\"A\": \"x\", \"a\": \"y\"}", "2:23: key 'destinations.a.headers.a': is the same header as 'A'" },
                { "\"headers\": {\"authorization\": \"x\"}, \"auth\": {\"bearer\": \"y\"}", "2:13: key 'destinations.a.headers.authorization': excludes auth, which sets this header too" },
                { "\"auth\": {\"bearer\": \"x\", \"bearer_file\": \"y\"}", "2:25: key 'destinations.a.auth.bearer_file': excludes bearer: one token only" },
                { "\"auth\": {\"username\": \"x\", \"bearer\": \"y\"}", "2:10: key 'destinations.a.auth.username': excludes bearer: basic or bearer, not both" },
                { "\"auth\": {\"username\": \"x\", \"bearer_file\": \"y\"}", "2:10: key 'destinations.a.auth.username': excludes bearer_file: basic or bearer, not both" },
                { "\"auth\": {\"password\": \"x\"}", "2:10: key 'destinations.a.auth.password': needs username" },
                { "\"auth\": {\"username\": \"a:b\"}", "2:10: key 'destinations.a.auth.username': a user name of basic authentication holds no ':'" },
                { "\"auth\": {\"bearer\": \"a\\n\"}", "2:10: key 'destinations.a.auth.bearer': holds a line break or another control byte" },
                { "\"tls\": {\"cert_file\": \"x\"}", "2:9: key 'destinations.a.tls.cert_file': needs key_file" },
                { "\"tls\": {\"key_file\": \"x\"}", "2:9: key 'destinations.a.tls.key_file': needs cert_file" },
                { "\"batch\": {\"max_items\": 999}", "2:11: key 'destinations.a.batch.max_items': 999 is less than batch.items, 1000" },
                { "\"batch\": {\"max_bytes\": \"17MB\"}", "2:11: key 'destinations.a.batch.max_bytes': 17MB is more than buffer.egress, 16MB" },
                { "\"batch\": {\"timeout\": \"soon\"}", "2:11: key 'destinations.a.batch.timeout': expected a duration like \"15s\" or \"default\", got \"soon\"" },
                { "\"retry\": {\"initial\": \"5s\", \"max\": \"4s\"}", "2:28: key 'destinations.a.retry.max': 4s is less than retry.initial, 5s" },
                { "\"drop\": [{\"resource\": \"x\"}]", "2:10: key 'destinations.a.drop[0].equals': expected a string, got nothing" },
                { "\"drop\": [{\"resource\": \"\", \"equals\": \"\"}]", "2:11: key 'destinations.a.drop[0].resource': expected the name of a resource attribute, got \"\"" },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++) {
                char document[512], expected[TEL_CONFIG_ERROR_MAX];
                snprintf(document, sizeof(document), "{\"destinations\": {\"a\": {\"url\": \"http://good\",\n%s}}}", rows[i].keys);
                snprintf(expected, sizeof(expected), "c.json:%s", rows[i].error);
                assert_refused(document, expected);
        }
}

static void test_destination_urls(void **state) {
        (void)state;
        struct settings s;
        assert_refused("{\"destinations\": {\n\"a\": {}}}", "c.json:2:1: key 'destinations.a.url': expected a URL, or one in traces_url for signal \"traces\"");
        assert_refused("{\"destinations\": {\n\"a\": {\"traces_url\": \"http://t\"}}}",
                       "c.json:2:1: key 'destinations.a.url': expected a URL, or one in metrics_url for signal \"metrics\"");
        assert_refused("{\"destinations\": {\"a\": {\"url\": \"http://t?x\"}}}",
                       "c.json:1:25: key 'destinations.a.url': a base URL has no '?', since /v1/traces and the like are appended; use traces_url, metrics_url, logs_url");
        parse_good("{\"destinations\": {\"a\": {\"traces_url\": \"http://t\", \"signals\": [\"traces\"]}, \"n\": {\"type\": \"null\"}}}", &s);
        settings_done(&s);
        /* A template may hold one that would loop, as long as it is off. */
        parse_good("{\"destinations\": {\"a\": {\"url\": \"http://localhost:4318\", \"enabled\": false}}}", &s);
        settings_done(&s);
}

/* 64 destinations are accepted, the next one is not. */
static void test_destinations_bound(void **state) {
        (void)state;
        for (size_t n = SETTINGS_DESTINATIONS_MAX; n <= SETTINGS_DESTINATIONS_MAX + 1; n++) {
                char document[4096], err[TEL_CONFIG_ERROR_MAX];
                size_t len = (size_t)snprintf(document, sizeof(document), "{\"destinations\": {");
                struct settings s;
                for (size_t i = 0; i < n; i++)
                        len += (size_t)snprintf(document + len, sizeof(document) - len, "%s\"d%zu\": {\"type\": \"null\"}", i ? "," : "", i);
                snprintf(document + len, sizeof(document) - len, "}}");
                assert_int_equal(parse(document, &s, err), n == SETTINGS_DESTINATIONS_MAX ? 0 : -EINVAL);
                if (n > SETTINGS_DESTINATIONS_MAX)
                        assert_string_equal(err, "c.json:1:2: key 'destinations': expected at most 64 entries, got 65");
                settings_done(&s);
        }
}

/* Port 0 is any free one, so two of them do not clash; "" is off. */
static void test_listen_without_clash(void **state) {
        (void)state;
        static const char *const documents[] = {
                "{\"listen\": {\"otlp_http\": \"127.0.0.1:0\", \"web\": \"127.0.0.1:0\"}}",
                "{\"listen\": {\"otlp_http\": \"\", \"web\": \"\", \"frames\": \"\", \"control\": \"\"}}",
                "{\"listen\": {\"otlp_http\": \"10.0.0.1:80\", \"web\": \"10.0.0.2:80\"}}",
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(documents); i++) {
                struct settings s;
                parse_good(documents[i], &s);
                settings_done(&s);
        }
}

static void test_address(void **state) {
        (void)state;
        static const struct {
                const char *text, *host;           /* NULL: refused */
                uint16_t port;
        } rows[] = {
                { "127.0.0.1:4318", "127.0.0.1", 4318 }, { "[::1]:4318", "::1", 4318 }, { "localhost:65535", "localhost", 65535 },
                { ":4318", "", 4318 }, { "a:0", "a", 0 }, { "", NULL, 0 }, { ":", NULL, 0 }, { "a", NULL, 0 }, { "a:", NULL, 0 },
                { "a:65536", NULL, 0 }, { "a:000001", NULL, 0 }, { "a:-1", NULL, 0 }, { "::1:80", NULL, 0 }, { "[::1]", NULL, 0 }, { "[::1]80", NULL, 0 },
                { "[::1", NULL, 0 }, { "[a]:1", NULL, 0 }, { "a b:1", NULL, 0 }, { "a:1 ", NULL, 0 }, { "a-name-of-20-letters:1", NULL, 0 },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++) {
                char host[16] = "";
                uint16_t port = 0;
                assert_int_equal(settings_address(rows[i].text, host, sizeof(host), &port), rows[i].host ? 0 : -EINVAL);
                assert_string_equal(host, rows[i].host ? rows[i].host : "");
                assert_int_equal(port, rows[i].port);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_empty_document), cmocka_unit_test(test_destination_defaults), cmocka_unit_test(test_builtin),
                cmocka_unit_test(test_print_reads_back), cmocka_unit_test(test_secrets), cmocka_unit_test(test_compression),
                cmocka_unit_test(test_errors), cmocka_unit_test(test_destination_errors), cmocka_unit_test(test_destination_urls),
                cmocka_unit_test(test_destinations_bound), cmocka_unit_test(test_listen_without_clash), cmocka_unit_test(test_address),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
