/* SPDX-License-Identifier: Apache-2.0 */
#include "collectord/settings.h"

#include "libtelemetry/client.h"
#include "libtelemetry/log.h"

#define BUILTIN \
        "{\n" \
        "  // What runs without a file: the consumer on this machine, and nothing leaves it.\n" \
        "  \"destinations\": {\n" \
        "    \"local\": {\n" \
        "      \"type\": \"otlp\", \"url\": \"http://localhost:4320\", \"from\": [\"otlp\", \"frames\"],\n" \
        "      \"compression\": \"none\", \"batch\": { \"timeout\": \"0s\" }, \"in_flight\": 1,   // in order, at once\n" \
        "      \"max_lag\": { \"bytes\": \"4MB\", \"age\": \"30s\" }, \"anchor\": false,\n" \
        "      // beylad sees the requests to the consumer too; sent there, each would make the next.\n" \
        "      \"drop\": [ { \"resource\": \"telemetry.sdk.name\", \"equals\": \"beyla\" } ]\n" \
        "    }\n" \
        "  }\n" \
        "}\n"

const char settings_builtin[] = BUILTIN;

const char settings_intro[] =
        "collectord reads one document, `--config FILE`. Without it the built-in document below is used; `collectord --check --config FILE` says\n"
        "whether a file is good, and `collectord --print-config` prints every value in effect. This page is the output of\n"
        "`collectord --print-docs`, from the same table as the reader.\n\n"
        "```json\n"
        "{\n"
        "  \"listen\": { \"otlp_http\": \"0.0.0.0:4318\" },\n"
        "  \"host\": { \"labels\": { \"environment\": \"production\" } },\n"
        "  \"destinations\": {\n"
        "    \"hub\": {\n"
        "      \"type\": \"otlp\", \"url\": \"https://otel.example\",\n"
        "      \"headers\": { \"X-Scope-OrgID\": \"anonymous\" },\n"
        "      \"auth\": { \"bearer_file\": \"/run/credentials/collectord.service/token\" }\n"
        "    }\n"
        "  },\n"
        "  \"buffer\": { \"memory\": \"100MB\" }   // what waits while a destination is away\n"
        "}\n"
        "```\n"
        "The built-in document:\n"
        "```json\n" BUILTIN "```\n";

const char *const source_kind_names[SOURCE_KINDS + 1] = { [SOURCE_OTLP] = "otlp", [SOURCE_FRAMES] = "frames" };

static const char *const signal_names[] = { [TEL_TRACES] = "traces", [TEL_METRICS] = "metrics", [TEL_LOGS] = "logs", NULL };
static const char *const type_names[] = { [DESTINATION_OTLP] = "otlp", [DESTINATION_NULL] = "null", NULL };
static const char *const compression_names[] = {
        [COMPRESSION_NONE] = "none", [COMPRESSION_GZIP] = "gzip", [COMPRESSION_DEFAULT] = "default", NULL,
};
static const char *const encoding_names[] = { [OTLP_ENCODING_PROTOBUF] = "protobuf", [OTLP_ENCODING_JSON] = "json", NULL };
static const char *const log_level_names[] = {
        [TEL_LOG_ERROR] = "error", [TEL_LOG_WARN] = "warn", [TEL_LOG_INFO] = "info", [TEL_LOG_DEBUG] = "debug", NULL,
};
static const struct tel_config_word by_signal_word[] = { { "default", SETTINGS_BY_SIGNAL }, { NULL, 0 } };
static const struct tel_config_word by_place_word[] = { { "default", SETTINGS_BY_PLACE }, { NULL, 0 } };
static const struct tel_config_word never_word[] = { { "never", SETTINGS_NEVER }, { NULL, 0 } };

#define MS ((int64_t)TEL_NS_PER_MS)
#define S ((int64_t)TEL_NS_PER_S)
#define HOUR (3600 * S)
#define MB 1000000ll
#define MIB (1ll << 20)
#define TB 1000000000000ll

/* A row: KEY(BOOL, struct lag_settings, bytes, "bytes", .fallback = ...). The struct is where the offset counts from. */
#define KEY(type_, in_, member_, key_, ...) { .key = key_, .type = TEL_CONFIG_##type_, .offset = offsetof(in_, member_), __VA_ARGS__ }
/* An object whose members lie in the struct around it. */
#define GROUP(key_, table_, text_) { .key = key_, .type = TEL_CONFIG_OBJECT, .table = table_, .text = text_ }
#define END { .key = NULL }

/* Bounds that hold for more than one row. A wait of more than an hour is a typing error; one of 0 between two tries, or a request that
 * gets 0 to finish, is a busy loop. A size above 1 TB is a typing error. Counts stop where the machine does: descriptors (connections),
 * one curl handle each (in_flight), one pass per record (labels, headers, drop rules). */
static const struct tel_config_key listen_table[] = {
        KEY(STRING, struct settings, listen.otlp_http, "otlp_http", .fallback = "\"127.0.0.1:4318\"",
            .text = "ADDRESS:PORT where OTLP/HTTP is received (`/v1/traces`, `/v1/metrics`, `/v1/logs`); "
                    "`\":4318\"` is every address, `\"\"` is off."),
        KEY(STRING, struct settings, listen.web, "web", .fallback = "\"127.0.0.1:12345\"",
            .text = "ADDRESS:PORT of the page, `/metrics` and `/-/ready`; `\"\"` is off."),
        KEY(STRING, struct settings, listen.frames, "frames", .fallback = "\"" TEL_CLIENT_SOCKET "\"",
            .text = "Socket for frames and JSON lines: a path, or a name in the runtime directory; `\"\"` is "
                    "off."),
        KEY(STRING, struct settings, listen.control, "control", .fallback = "\"control.sock\"",
            .text = "Socket for telemetryctl: a path, or a name in the runtime directory; `\"\"` is off."),
        KEY(INT, struct settings, listen.otlp_connections, "otlp_connections", .fallback = "512", .unit = "connections", .min = 1, .max = 65536,
            .text = "OTLP/HTTP connections at once; further ones are refused."),
        KEY(DURATION, struct settings, listen.otlp_idle_ns, "otlp_idle", .fallback = "\"30s\"", .min = 1 * S, .max = HOUR,
            .text = "An OTLP/HTTP connection without a byte for so long is closed."),
        /* Below 64KiB exporters' ordinary batches are refused; a body is held whole, so 256 MiB of one is the end of a small machine. */
        KEY(SIZE, struct settings, listen.otlp_body_bytes, "otlp_body", .fallback = "\"20MiB\"", .min = 64 << 10, .max = 256 * MIB,
            .text = "Largest body of one request, before and after decompression; a larger one is refused."),
        KEY(INT, struct settings, listen.frames_connections, "frames_connections", .fallback = "64", .unit = "connections", .min = 1, .max = 4096,
            .text = "Connections to the frame socket at once; further ones are refused."),
        KEY(STRINGS, struct settings, listen.frames_users, "frames_users", .fallback = "[]", .n_max = 64,
            .text = "Names of users that may write to the frame socket, beside root, collectord's own user "
                    "and the group of the socket."),
        END,
};

static const struct tel_config_key host_table[] = {
        KEY(STRING, struct settings, host.name, "name", .fallback = "\"\"",
            .text = "`host.name` of this machine; `\"\"` is the one in /etc/hostname."),
        KEY(MAP, struct settings, host.labels, "labels", .fallback = "{}", .n_max = 64,
            .text = "Attributes added to every resource that lacks them."),
        END,
};

static const struct tel_config_key auth_table[] = {
        KEY(STRING, struct auth_settings, username, "username", .fallback = "\"\"",
            .text = "User name of basic authentication; excludes both bearer keys."),
        KEY(SECRET, struct auth_settings, password, "password", .fallback = "\"\"",
            .text = "Password that goes with `username`."),
        KEY(SECRET, struct auth_settings, bearer, "bearer", .fallback = "\"\"",
            .text = "Token sent as `Authorization: Bearer`."),
        KEY(STRING, struct auth_settings, bearer_file, "bearer_file", .fallback = "\"\"",
            .text = "File that holds the token; it is read again for each request, so the token may change."),
        END,
};

static const struct tel_config_key tls_table[] = {
        KEY(STRING, struct tls_settings, ca_file, "ca_file", .fallback = "\"\"",
            .text = "PEM file of the authorities to trust instead of the system's."),
        KEY(STRING, struct tls_settings, cert_file, "cert_file", .fallback = "\"\"",
            .text = "PEM file of the client certificate; needs `key_file`."),
        KEY(STRING, struct tls_settings, key_file, "key_file", .fallback = "\"\"",
            .text = "PEM file of the key of `cert_file`."),
        KEY(STRING, struct tls_settings, server_name, "server_name", .fallback = "\"\"",
            .text = "Name the server's certificate must bear, where it is not the URL's host."),
        KEY(BOOL, struct tls_settings, insecure_skip_verify, "insecure_skip_verify", .fallback = "false",
            .text = "Accepts any certificate: whoever answers can read and change what is sent."),
        END,
};

static const struct tel_config_key batch_table[] = {
        KEY(INT, struct batch_settings, items, "items", .fallback = "1000", .unit = "items", .min = 1, .max = 1000000,
            .text = "A request is sent once so many spans, data points or log records wait."),
        KEY(INT, struct batch_settings, max_items, "max_items", .fallback = "2000", .unit = "items", .min = 0, .max = 1000000,
            .text = "One request holds at most so many; `0` is no limit."),
        /* A record with long attributes has kilobytes: below 16KiB each request would hold one. */
        KEY(SIZE, struct batch_settings, max_bytes, "max_bytes", .fallback = "\"1000KB\"", .min = 16 << 10, .max = 256 * MIB,
            .text = "One request has at most so many bytes before compression; the default suits consumers "
                    "that refuse more than 1 MiB."),
        KEY(DURATION, struct batch_settings, timeout_ns, "timeout", .fallback = "\"default\"", .min = 0, .max = HOUR, .words = by_signal_word,
            .text = "A request is sent once its oldest record waited so long; `\"0s\"` is at once, "
                    "`\"default\"` is 2s for traces and 10s for metrics and logs."),
        END,
};

static const struct tel_config_key retry_table[] = {
        KEY(DURATION, struct retry_settings, initial_ns, "initial", .fallback = "\"default\"", .min = 10 * MS, .max = HOUR, .words = by_place_word,
            .text = "Wait after the first failure; each further one lengthens it by half, with jitter. `\"default\"` is 5s, or 200ms where "
                    "every URL names this machine."),
        KEY(DURATION, struct retry_settings, max_ns, "max", .fallback = "\"default\"", .min = 10 * MS, .max = HOUR, .words = by_place_word,
            .text = "Longest wait between two tries, before jitter. `\"default\"` is 30s, or 600ms where every URL names this machine."),
        KEY(DURATION, struct retry_settings, give_up_ns, "give_up", .fallback = "\"never\"", .words = never_word,
            .text = "A request that failed for so long is given up and counted; with `\"never\"` it waits in "
                    "the buffer while there is room."),
        END,
};

static const struct tel_config_key lag_table[] = {
        KEY(SIZE, struct lag_settings, bytes, "bytes", .fallback = "0",
            .text = "The oldest records beyond so many unsent bytes are given up and counted; `0` is no bound "
                    "of its own."),
        KEY(DURATION, struct lag_settings, age_ns, "age", .fallback = "\"0s\"",
            .text = "Records that wait for longer are given up and counted; `\"0s\"` is no bound."),
        END,
};

static const struct tel_config_key drop_table[] = {
        KEY(STRING, struct drop_rule, resource, "resource", .text = "Name of a resource attribute."),
        KEY(STRING, struct drop_rule, equals, "equals",
            .text = "The string value at which records of that resource are not sent."),
        END,
};

#define DEST struct destination_settings
static const struct tel_config_key destination_table[] = {
        KEY(ENUM, DEST, type, "type", .fallback = "\"otlp\"", .names = type_names,
            .text = "What is spoken: `\"otlp\"` is OTLP/HTTP, `\"null\"` counts records and drops them."),
        KEY(STRING, DEST, url, "url", .fallback = "\"\"",
            .text = "Base URL, http or https; `/v1/traces`, `/v1/metrics` and `/v1/logs` are appended, once."),
        KEY(STRING, DEST, urls[TEL_TRACES], "traces_url", .fallback = "\"\"",
            .text = "Whole URL for traces, instead of `url`."),
        KEY(STRING, DEST, urls[TEL_METRICS], "metrics_url", .fallback = "\"\"",
            .text = "Whole URL for metrics, instead of `url`."),
        KEY(STRING, DEST, urls[TEL_LOGS], "logs_url", .fallback = "\"\"",
            .text = "Whole URL for logs, instead of `url`."),
        KEY(BOOL, DEST, enabled, "enabled", .fallback = "true",
            .text = "False leaves the destination out; its keys are still checked."),
        KEY(ENUMS, DEST, signals, "signals", .fallback = "[\"traces\", \"metrics\", \"logs\"]", .names = signal_names,
            .text = "Signals that are sent."),
        KEY(ENUMS, DEST, from, "from", .fallback = "[\"otlp\", \"frames\"]", .names = source_kind_names,
            .text = "Sources whose records are sent: the OTLP listener, the frame socket."),
        KEY(ENUM, DEST, compression, "compression", .fallback = "\"default\"", .names = compression_names,
            .text = "Of request bodies; `\"default\"` is none where every URL names this machine (localhost, "
                    "127.*, [::1]), else gzip."),
        KEY(ENUM, DEST, encoding, "encoding", .fallback = "\"protobuf\"", .names = encoding_names,
            .text = "Of OTLP bodies."),
        KEY(MAP, DEST, headers, "headers", .fallback = "{}", .secret = true, .n_max = 32,
            .text = "Headers of each request; the values are secret."),
        KEY(OBJECT, DEST, auth, "auth", .table = auth_table,
            .text = "Authentication: basic or bearer, not both."),
        KEY(OBJECT, DEST, tls, "tls", .table = tls_table, .text = "TLS for https URLs."),
        KEY(DURATION, DEST, timeout_ns, "timeout", .fallback = "\"10s\"", .min = 100 * MS, .max = HOUR,
            .text = "Of one request, its answer included."),
        KEY(OBJECT, DEST, batch, "batch", .table = batch_table,
            .text = "When a request is sent, and how large it may be."),
        KEY(OBJECT, DEST, retry, "retry", .table = retry_table,
            .text = "What happens after a failure that may pass."),
        KEY(INT, DEST, in_flight, "in_flight", .fallback = "4", .unit = "requests", .min = 1, .max = 64,
            .text = "Requests at once, for each signal; `1` keeps records in order."),
        KEY(DURATION, DEST, max_age_ns, "max_age", .fallback = "\"0s\"",
            .text = "Records older than this are given up and counted; `\"0s\"` is never."),
        KEY(OBJECT, DEST, max_lag, "max_lag", .table = lag_table,
            .text = "How far this destination may fall behind before its own oldest records are given up."),
        KEY(BOOL, DEST, anchor, "anchor", .fallback = "true",
            .text = "Sources that can wait do so until this destination has the records; false for one that "
                    "may miss some."),
        KEY(LIST, DEST, drop, "drop", .fallback = "[]", .table = drop_table, .size = sizeof(struct drop_rule), .n_max = 64,
            .text = "Records that are not sent here: those whose resource matches any rule."),
        END,
};

static const struct tel_config_key buffer_table[] = {
        /* From 1MB: the least that holds one full request with the default of max_bytes. */
        KEY(SIZE, struct settings, buffer.memory, "memory", .fallback = "\"100MB\"", .min = MB, .max = TB,
            .text = "Records kept in memory for all destinations together; the oldest make room."),
        KEY(SIZE, struct settings, buffer.history, "history", .fallback = "\"4MB\"", .min = 0, .max = TB,
            .text = "Part of `memory` that keeps records after they were sent, for `tap --back` and the page, "
                    "while it is free."),
        KEY(SIZE, struct settings, buffer.ingest, "ingest", .fallback = "\"24MB\"", .min = MB, .max = TB,
            .text = "Requests and frames that are being received; at least `listen.otlp_body`."),
        KEY(SIZE, struct settings, buffer.egress, "egress", .fallback = "\"16MB\"", .min = MB, .max = TB,
            .text = "Requests that are being sent; at least each `batch.max_bytes`. Each signal of a destination may have one beside it."),
        END,
};

const struct tel_config_key settings_table[] = {
        GROUP("listen", listen_table, "Where collectord receives, and the bounds of it."),
        GROUP("host", host_table, "What is said about this machine."),
        KEY(NAMED, struct settings, destinations, "destinations", .fallback = "{}", .table = destination_table, .size = sizeof(DEST),
            .n_max = SETTINGS_DESTINATIONS_MAX, .text = "Where records go; NAME is free and stands in metrics, logs and telemetryctl."),
        GROUP("buffer", buffer_table, "Bounds of memory; their sum is what records may take."),
        KEY(DURATION, struct settings, stop_timeout_ns, "stop_timeout", .fallback = "\"10s\"", .min = 0, .max = HOUR,
            .text = "At a stop each destination gets one more try for what is unsent, and all together so long; what is left then is "
                    "given up and counted."),
        KEY(ENUM, struct settings, log_level, "log_level", .fallback = "\"info\"", .names = log_level_names,
            .text = "Least important log lines to write."),
        END,
};

/* A consumer on this machine is no farther than a connect(2): it is asked often, and has what waits within a second of its return (COL-LOC-06). */
static void resolve_retry(struct retry_settings *r, bool local) {
        bool by_place = r->max_ns == SETTINGS_BY_PLACE;
        if (by_place)
                r->max_ns = local ? 600 * TEL_NS_PER_MS : 30 * TEL_NS_PER_S;
        if (r->initial_ns == SETTINGS_BY_PLACE)
                r->initial_ns = TEL_MIN(local ? 200 * TEL_NS_PER_MS : 5 * TEL_NS_PER_S, r->max_ns);
        if (by_place)
                r->max_ns = TEL_MAX(r->max_ns, r->initial_ns);
}

static void resolve_defaults(struct settings *s) {
        struct destination_settings *all = s->destinations.items;
        for (size_t i = 0; i < s->destinations.n; i++) {
                bool local = settings_is_local(all + i);
                if (all[i].compression == COMPRESSION_DEFAULT)
                        all[i].compression = local ? COMPRESSION_NONE : COMPRESSION_GZIP;
                resolve_retry(&all[i].retry, local);
        }
}

static int hand_over(int r, struct settings *s, struct settings *ret) {
        *ret = (struct settings){ 0 };
        if (r < 0)
                return r;
        resolve_defaults(s);
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

bool settings_destination_equal(const struct destination_settings *a, const struct destination_settings *b) {
        return strcmp(a->name, b->name) == 0 && tel_config_equal(destination_table, a, b);
}

void settings_done(struct settings *s) {
        tel_config_done(settings_table, s, sizeof(*s));
}

uint64_t settings_batch_timeout(const struct destination_settings *d, enum tel_signal signal) {
        if (d->batch.timeout_ns != SETTINGS_BY_SIGNAL)
                return d->batch.timeout_ns;
        return (signal == TEL_TRACES ? 2 : 10) * TEL_NS_PER_S;     /* COL-BAT-03: spans are looked at while they are fresh */
}
