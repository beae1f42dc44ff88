/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "beylad/span.h"
#include "libtelemetry/otlp.h"
#include "libtelemetry/otlp_json.h"
#include "libtelemetry/utf8.h"
#include "tests/unit/beylad/made.h"

#define OFFSET_NS 1700000000000000000ll

/* ---- reading what came out, by code that knows nothing of the encoder ---- */

static char text[4u << 20];

static const char *json(const uint8_t *body, size_t n) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *b = tel_buf_new(NULL, 0);
        assert_int_equal(tel_otlp_to_json(TEL_MSG_TRACES_REQUEST, body, n, b, sizeof(text) - 1), 0);
        memcpy(text, b->data, b->len);
        text[b->len] = '\0';
        return text;
}

static int on_record(void *ctx, const struct tel_otlp_record *record, uint8_t **ret_space) {
        static uint8_t space[SPANS_BYTES_MAX + 4096];
        (void)ctx;
        assert_true(record->bytes <= sizeof(space));
        *ret_space = space;
        return 0;
}

/* What the receiver will find: the number of spans, all well-formed. */
static size_t checked_items(const uint8_t *body, size_t n) {
        struct tel_otlp_limits limits = { SIZE_MAX, SIZE_MAX };
        struct tel_otlp_result result;
        assert_int_equal(tel_otlp_cut(TEL_TRACES, body, n, NULL, 0, &limits, on_record, NULL, &result), 0);
        assert_int_equal(result.rejected, 0);
        return result.items;
}

struct got {
        size_t requests, spans, resources;
        const char *last;                          /* request, as JSON */
};

static void on_spans(void *ctx, const uint8_t *body, size_t n, size_t spans) {
        struct got *g = ctx;
        struct tel_otlp_resource r;
        const uint8_t *at = body;
        assert_true(n <= SPANS_BYTES_MAX);
        assert_true(spans <= SPANS_MAX);
        assert_int_equal(checked_items(body, n), spans);
        g->requests++;
        g->spans += spans;
        for (g->resources = 0; tel_otlp_resource_next(&at, body + n, &r); g->resources++)
                ;
        g->last = json(body, n);
}

static const char *span_text;

/* The one span of m, as OTLP/JSON. */
static const char *span_json(const struct made *m) {
        struct got g = { 0 };
        struct spans *b = spans_new(&(struct spans_options){ on_spans, &g });
        spans_add(b, &m->span, OFFSET_NS);
        assert_int_equal(spans_waiting(b), 1);
        spans_finish(b);
        spans_free(b);
        span_text = strstr(g.last, "\"spans\":[");
        assert_non_null(span_text);
        return span_text;
}

#define T(key, value) "{\"key\":\"" key "\",\"value\":{\"stringValue\":\"" value "\"}}"
#define I(key, value) "{\"key\":\"" key "\",\"value\":{\"intValue\":\"" #value "\"}}"
#define L(key, value) "{\"key\":\"" key "\",\"value\":{\"arrayValue\":{\"values\":[{\"stringValue\":\"" value "\"}]}}}"

static void assert_has(const char *in, const char *what) {
        if (!strstr(in, what))
                fail_msg("no %s in %s", what, in);
}

static void assert_has_not(const char *in, const char *what) {
        if (strstr(in, what))
                fail_msg("%s in %s", what, in);
}

/* ---- tests ---- */

/* The whole request of a server span, to the byte. */
static void test_server_whole(void **state) {
        struct made m;
        struct got g = { 0 };
        (void)state;
        made_http(&m, EXCHANGE_SERVER, "GET", "/users/7", "/users/*", 200);
        made_set(&m, FIELD_HOST, "shop.example:80");
        made_set(&m, FIELD_USER_AGENT, "curl/8");
        made_set(&m, FIELD_QUERY, "a=b");
        m.x->request_bytes = 0;
        m.x->response_bytes = 1234;
        m.span.parent_span_id[0] = 0xcc;
        struct spans *b = spans_new(&(struct spans_options){ on_spans, &g });
        spans_add(b, &m.span, OFFSET_NS);
        spans_finish(b);
        spans_finish(b);
        assert_int_equal(g.requests, 1);
        assert_string_equal(g.last,
                "{\"resourceSpans\":[{\"resource\":{\"attributes\":[" T("service.name", "shop") "," T("host.name", "h1") "," I("process.pid", 42) "]},"
                "\"scopeSpans\":[{\"scope\":{\"name\":\"beylad\",\"version\":\"" SUITE_VERSION "\"},\"spans\":[{"
                "\"traceId\":\"aa000000000000000000000000000001\",\"spanId\":\"bb00000000000002\",\"parentSpanId\":\"cc00000000000000\","
                "\"name\":\"GET /users/*\",\"kind\":2,\"startTimeUnixNano\":\"1700000001000000000\",\"endTimeUnixNano\":\"1700000001250000000\","
                "\"attributes\":[" T("http.request.method", "GET") "," I("http.response.status_code", 200) "," I("http.request.body.size", 0) ","
                I("http.response.body.size", 1234) "," T("url.path", "/users/7") "," T("url.query", "a=b") "," T("url.scheme", "http") ","
                T("http.route", "/users/*") "," T("network.protocol.version", "1.1") "," T("user_agent.original", "curl/8") ","
                T("server.address", "shop.example") "," I("server.port", 80) "," T("client.address", "10.0.0.2") "," I("client.port", 50000)
                "],\"flags\":1}]}]}]}");
        spans_free(b);
        made_done(&m);
}

/* A client has the whole URL and the other end, and no server's attributes. */
static void test_client(void **state) {
        struct made m;
        (void)state;
        made_http(&m, EXCHANGE_CLIENT, "POST", "/pay", NULL, 404);
        made_set(&m, FIELD_HOST, "[2001:db8::1]");
        made_set(&m, FIELD_QUERY, "x=1");
        m.connection.family = AF_INET6;
        m.connection.remote = made_address("2001:db8::1", 80);
        const char *s = span_json(&m);
        assert_has(s, "\"name\":\"POST\",\"kind\":3");
        assert_has(s, T("url.full", "http://[2001:db8::1]/pay?x=1"));
        assert_has(s, T("server.address", "2001:db8::1") "," I("server.port", 80));
        assert_has(s, T("network.peer.address", "2001:db8::1") "," I("network.peer.port", 80));
        assert_has(s, T("error.type", "404"));
        assert_has(s, "\"status\":{\"code\":2}");
        assert_has_not(s, "url.path");
        assert_has_not(s, "client.address");
        made_set(&m, FIELD_ROUTE, "/pay");
        s = span_json(&m);
        assert_has(s, "\"name\":\"POST /pay\"");
        assert_has(s, T("url.template", "/pay"));
        made_set(&m, FIELD_HOST, "");
        assert_has(span_json(&m), T("url.full", "http://[2001:db8::1]:80/pay?x=1"));
        m.connection.remote = made_address("192.0.2.1", 8080);
        assert_has(span_json(&m), T("url.full", "http://192.0.2.1:8080/pay?x=1"));
        made_set(&m, FIELD_PATH, "https://bob:secret@pay.example:99/x");
        s = span_json(&m);
        assert_has(s, T("url.full", "https://REDACTED:REDACTED@pay.example:99/x?x=1"));
        assert_has_not(s, "secret");
        made_set(&m, FIELD_PATH, "pay.example:443");
        made_set(&m, FIELD_METHOD, "CONNECT");
        assert_has_not(span_json(&m), "url.full");
        made_done(&m);
}

/* How the server is named: by Host, with or without port and brackets, else by the connection. */
static void test_server_address(void **state) {
        static const struct {
                const char *host, *want;
                bool client, https;
        } rows[] = {
                { NULL, T("server.address", "10.0.0.1") "," I("server.port", 8080), false, false },
                { "", T("server.address", "10.0.0.1") "," I("server.port", 8080), false, false },
                { "a.example", T("server.address", "a.example") "," I("server.port", 8080), false, false },
                { "a.example:81", T("server.address", "a.example") "," I("server.port", 81), false, false },
                { "[::1]:81", T("server.address", "::1") "," I("server.port", 81), false, false },
                { "::1", T("server.address", "::1") "," I("server.port", 8080), false, false },
                { "u:p@a.example", T("server.address", "a.example") "," I("server.port", 8080), false, false },
                { "a.example:70000", T("server.address", "a.example") "," I("server.port", 8080), false, false },
                { "a.example:8x", T("server.address", "a.example") "," I("server.port", 8080), false, false },
                { NULL, T("server.address", "10.0.0.1") "," I("server.port", 8080), true, false },
                { "a.example", T("server.address", "a.example") "," I("server.port", 80), true, false },
                { "a.example", T("server.address", "a.example") "," I("server.port", 443), true, true },
                { "a.example:81", T("server.address", "a.example") "," I("server.port", 81), true, false },
        };
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++) {
                struct made m;
                made_http(&m, rows[i].client ? EXCHANGE_CLIENT : EXCHANGE_SERVER, "GET", "/", "/", 200);
                if (rows[i].https)
                        made_set(&m, FIELD_SCHEME, "https");
                if (rows[i].host)
                        made_set(&m, FIELD_HOST, rows[i].host);
                assert_has(span_json(&m), rows[i].want);
                made_done(&m);
        }
}

/* A Unix socket has no address that we know: its transport is said, and nothing is made up. */
static void test_unix(void **state) {
        struct made m;
        (void)state;
        made_http(&m, EXCHANGE_SERVER, "GET", "/", "/", 200);
        m.connection.family = AF_UNIX;
        assert_has(span_json(&m), T("network.transport", "unix"));
        assert_has_not(span_text, "address");
        m.connection.family = 0;
        assert_has_not(span_json(&m), "network.transport");
        assert_has_not(span_text, "address");
        made_done(&m);
}

/* A method nobody knows has few values: _OTHER, its own text beside it, HTTP in the name. Case counts. */
static void test_methods(void **state) {
        static const char *const known[] = { "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY" };
        struct made m;
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(known); i++) {
                char want[64];
                made_http(&m, EXCHANGE_SERVER, known[i], "/", "/", 200);
                snprintf(want, sizeof(want), "\"name\":\"%s /\"", known[i]);
                assert_has(span_json(&m), want);
                assert_has_not(span_text, "original\",\"value\":{\"stringValue\":\"");
                made_done(&m);
        }
        made_http(&m, EXCHANGE_SERVER, "get", "/", "/", 200);
        assert_has(span_json(&m), "\"name\":\"HTTP /\"");
        assert_has(span_text, T("http.request.method", "_OTHER") "," T("http.request.method_original", "get"));
        made_done(&m);
}

/* What is an error, by kind, role and status. */
static void test_status(void **state) {
        static const struct {
                enum exchange_kind kind;
                enum exchange_role role;
                int status;
                bool db_failed;
                const char *error;                 /* FIELD_ERROR */
                bool failed;
                const char *type;                  /* error.type, NULL: none */
        } rows[] = {
                { EXCHANGE_HTTP, EXCHANGE_SERVER, 200, false, NULL, false, NULL },
                { EXCHANGE_HTTP, EXCHANGE_SERVER, 404, false, NULL, false, NULL },
                { EXCHANGE_HTTP, EXCHANGE_SERVER, 499, false, NULL, false, NULL },
                { EXCHANGE_HTTP, EXCHANGE_SERVER, 500, false, NULL, true, "500" },
                { EXCHANGE_HTTP, EXCHANGE_CLIENT, 399, false, NULL, false, NULL },
                { EXCHANGE_HTTP, EXCHANGE_CLIENT, 400, false, NULL, true, "400" },
                { EXCHANGE_HTTP, EXCHANGE_CLIENT, 200, false, "connection_reset", true, "connection_reset" },
                { EXCHANGE_HTTP, EXCHANGE_CLIENT, -1, false, "timeout", true, "timeout" },
                { EXCHANGE_HTTP, EXCHANGE_CLIENT, -1, false, NULL, false, NULL },
                { EXCHANGE_RPC, EXCHANGE_SERVER, 0, false, NULL, false, NULL },
                { EXCHANGE_RPC, EXCHANGE_SERVER, 1, false, NULL, false, NULL },
                { EXCHANGE_RPC, EXCHANGE_SERVER, 2, false, NULL, true, "UNKNOWN" },
                { EXCHANGE_RPC, EXCHANGE_SERVER, 4, false, NULL, true, "DEADLINE_EXCEEDED" },
                { EXCHANGE_RPC, EXCHANGE_SERVER, 5, false, NULL, false, NULL },
                { EXCHANGE_RPC, EXCHANGE_SERVER, 12, false, NULL, true, "UNIMPLEMENTED" },
                { EXCHANGE_RPC, EXCHANGE_SERVER, 13, false, NULL, true, "INTERNAL" },
                { EXCHANGE_RPC, EXCHANGE_SERVER, 14, false, NULL, true, "UNAVAILABLE" },
                { EXCHANGE_RPC, EXCHANGE_SERVER, 15, false, NULL, true, "DATA_LOSS" },
                { EXCHANGE_RPC, EXCHANGE_SERVER, 16, false, NULL, false, NULL },
                { EXCHANGE_RPC, EXCHANGE_CLIENT, 5, false, NULL, true, "NOT_FOUND" },
                { EXCHANGE_RPC, EXCHANGE_CLIENT, 4711, false, NULL, true, "4711" },
                { EXCHANGE_RPC, EXCHANGE_SERVER, 4711, false, NULL, false, NULL },
                { EXCHANGE_RPC, EXCHANGE_CLIENT, -1, false, NULL, false, NULL },
                { EXCHANGE_DB, EXCHANGE_CLIENT, -1, false, NULL, false, NULL },
                { EXCHANGE_DB, EXCHANGE_CLIENT, -1, true, NULL, true, "_OTHER" },
                { EXCHANGE_DB, EXCHANGE_CLIENT, -1, false, "timeout", true, "timeout" },
        };
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++) {
                struct made m;
                char want[128];
                made_init(&m, rows[i].kind, rows[i].role);
                m.x->status = rows[i].status;
                m.x->failed = rows[i].db_failed;
                if (rows[i].error)
                        made_set(&m, FIELD_ERROR, rows[i].error);
                const char *s = span_json(&m);
                assert_int_equal(strstr(s, "\"status\":{\"code\":2}") != NULL, rows[i].failed);
                assert_int_equal(strstr(s, "error.type") != NULL, rows[i].type != NULL);
                assert_int_equal(strstr(s, "status_code") != NULL, rows[i].status >= 0);       /* never one that nobody sent */
                snprintf(want, sizeof(want), "{\"key\":\"error.type\",\"value\":{\"stringValue\":\"%s\"}}", rows[i].type ? rows[i].type : "");
                if (rows[i].type)
                        assert_has(s, want);
                made_done(&m);
        }
}

static void test_rpc(void **state) {
        struct made m;
        (void)state;
        made_init(&m, EXCHANGE_RPC, EXCHANGE_CLIENT);
        made_set(&m, FIELD_METHOD, "POST");
        made_set(&m, FIELD_PATH, "/shop.Cart/Add");
        made_set(&m, FIELD_RPC_SERVICE, "shop.Cart");
        made_set(&m, FIELD_RPC_METHOD, "Add");
        m.x->status = 0;
        exchange_add_header(m.x, "X-Id", 4, "7", 1);
        assert_has(span_json(&m), "\"name\":\"shop.Cart/Add\",\"kind\":3");
        assert_has(span_text, T("rpc.system", "grpc") "," I("rpc.grpc.status_code", 0) "," T("rpc.service", "shop.Cart") "," T("rpc.method", "Add"));
        assert_has(span_text, L("rpc.grpc.request.metadata.x-id", "7"));
        assert_has_not(span_text, "http.");
        assert_has_not(span_text, "\"status\":");
        made_done(&m);
        made_init(&m, EXCHANGE_RPC, EXCHANGE_SERVER);
        assert_has(span_json(&m), "\"name\":\"grpc\"");
        made_set(&m, FIELD_RPC_METHOD, "unknown");
        assert_has(span_json(&m), "\"name\":\"unknown\"");
        made_done(&m);
}

static void test_db(void **state) {
        struct made m;
        (void)state;
        made_init(&m, EXCHANGE_DB, EXCHANGE_CLIENT);
        assert_has(span_json(&m), "\"name\":\"redis\"");
        made_set(&m, FIELD_DB_OPERATION, "SELECT");
        assert_has(span_json(&m), "\"name\":\"SELECT\"");
        made_set(&m, FIELD_DB_COLLECTION, "orders");
        made_set(&m, FIELD_DB_NAMESPACE, "shop");
        made_set(&m, FIELD_DB_TEXT, "SELECT * FROM orders WHERE id = ?");
        made_set(&m, FIELD_DB_STATUS, "42P01");
        m.x->failed = true;
        m.x->batch = 3;
        assert_has(span_json(&m), "\"name\":\"SELECT orders\",\"kind\":3");
        assert_has(span_text, T("db.system.name", "redis") "," I("db.operation.batch.size", 3) "," T("db.operation.name", "SELECT") ","
                              T("db.collection.name", "orders") "," T("db.namespace", "shop") ","
                              T("db.query.text", "SELECT * FROM orders WHERE id = ?") "," T("db.response.status_code", "42P01") ","
                              T("error.type", "42P01") "," T("server.address", "10.0.0.1") "," I("server.port", 8080));
        m.x->batch = 1;
        m.connection.protocol = NULL;              /* the connection is closed; a span waits a while before it is written */
        assert_has_not(span_json(&m), "batch");
        assert_has(span_text, T("db.system.name", "redis"));
        made_done(&m);
}

/* Headers are lists, by lower-case name; one that came twice is one attribute. Upgrades and what ended out of sight are said. */
static void test_headers(void **state) {
        struct made m;
        char name[ATTRIBUTES_HEADER_MAX + 2];
        (void)state;
        made_http(&m, EXCHANGE_SERVER, "GET", "/", "/", 101);
        exchange_add_header(m.x, "X-Forwarded-For", 15, "192.0.2.1", 9);
        exchange_add_header(m.x, "accept", 6, "*/*", 3);
        exchange_add_header(m.x, "x-forwarded-for", 15, "192.0.2.2", 9);
        memset(name, 'n', sizeof(name));
        exchange_add_header(m.x, name, ATTRIBUTES_HEADER_MAX + 1, "too long", 8);
        made_set(&m, FIELD_UPGRADE, "websocket");
        m.x->unobserved = true;
        const char *s = span_json(&m);
        assert_has(s, L("http.request.header.x-forwarded-for", "192.0.2.1, 192.0.2.2") "," L("http.request.header.accept", "*/*"));
        assert_has(s, L("http.response.header.upgrade", "websocket"));
        assert_has(s, "{\"key\":\"beylad.unobserved\",\"value\":{\"boolValue\":true}}");
        assert_has_not(s, "too long");
        made_done(&m);
}

static void test_links(void **state) {
        struct made m;
        (void)state;
        made_http(&m, EXCHANGE_CLIENT, "GET", "/", NULL, 200);
        m.span.n_links = 2;
        m.span.links[0] = (struct span_link){ { 1 }, { 2 }, false };
        m.span.links[1] = (struct span_link){ { 3 }, { 4 }, true };
        m.span.sampled = false;
        const char *s = span_json(&m);
        assert_has(s, "\"links\":[{\"traceId\":\"01000000000000000000000000000000\",\"spanId\":\"0200000000000000\",\"attributes\":["
                      T("beylad.parent", "ambiguous") "]},{\"traceId\":\"03000000000000000000000000000000\",\"spanId\":\"0400000000000000\",\"attributes\":["
                      T("beylad.parent", "other_trace") "]}]");
        assert_has_not(s, "parentSpanId");
        assert_has_not(s, "\"flags\":1");
        made_done(&m);
}

/* Spans of several processes, interleaved: each process once, its spans in the order they came, whoever has no process apart. */
static void test_grouping(void **state) {
        struct made m[3];
        struct got g = { 0 };
        (void)state;
        static char key[] = "service.name", values[3][8] = { "a", "b", "c" };
        struct spans *b = spans_new(&(struct spans_options){ on_spans, &g });
        for (size_t i = 0; i < 3; i++) {
                made_http(&m[i], EXCHANGE_SERVER, "GET", "/", "/", 200);
                m[i].process.n_attributes = 1;
                m[i].process.attributes[0] = (struct process_attribute){ key, values[i] };
        }
        m[2].connection.process = NULL;
        for (uint8_t i = 0; i < 9; i++) {
                m[i % 3].span.span_id[0] = i;
                spans_add(b, &m[i % 3].span, 0);
        }
        spans_finish(b);
        assert_int_equal(g.resources, 3);
        assert_int_equal(g.spans, 9);
        const char *at = g.last;
        static const char *const order[] = { T("service.name", "a"), "\"spanId\":\"00", "\"spanId\":\"03", "\"spanId\":\"06", T("service.name", "b"),
                                             "\"spanId\":\"01", "\"spanId\":\"04", "\"spanId\":\"07", "\"spanId\":\"02", "\"spanId\":\"05", "\"spanId\":\"08" };
        for (size_t i = 0; i < TEL_ARRAY_LEN(order); i++) {
                at = strstr(at, order[i]);
                if (!at)
                        fail_msg("%s not in its place in %s", order[i], g.last);
        }
        spans_free(b);
        for (size_t i = 0; i < 3; i++)
                made_done(&m[i]);
}

/* A request is closed by the number of spans, by its bytes, and by the number of processes; none is lost and none is over its bounds. */
static void test_bounds(void **state) {
        static char big[EXCHANGE_FIELD_MAX + 1];
        static struct made many[SPANS_PROCESSES_MAX + 50];
        struct made m;
        struct got g = { 0 };
        (void)state;
        struct spans *b = spans_new(&(struct spans_options){ on_spans, &g });
        made_http(&m, EXCHANGE_SERVER, "GET", "/", "/", 200);
        for (size_t i = 0; i < 2 * SPANS_MAX + 1; i++)
                spans_add(b, &m.span, 0);
        assert_int_equal(g.requests, 2);
        assert_int_equal(g.spans, 2 * SPANS_MAX);
        spans_finish(b);
        assert_int_equal(g.spans, 2 * SPANS_MAX + 1);
        made_done(&m);

        memset(big, 'x', EXCHANGE_FIELD_MAX);
        made_http(&m, EXCHANGE_CLIENT, big, "/", big, 200);
        for (int f = 0; f < EXCHANGE_FIELDS; f++)
                if (f != FIELD_PATH)
                        made_set(&m, f, big);
        for (size_t i = 0; i < EXCHANGE_HEADERS_MAX; i++)
                exchange_add_header(m.x, &"abcdefghijklmnop"[i], 1, big, EXCHANGE_FIELD_MAX);
        big[0] = '/';
        made_set(&m, FIELD_PATH, big);
        m.span.n_links = CONTEXT_LINKS_MAX;
        g = (struct got){ 0 };
        for (size_t i = 0; i < 200; i++)
                spans_add(b, &m.span, 0);
        spans_finish(b);
        assert_int_equal(g.spans, 200);
        assert_in_range(g.requests, 5, 20);
        made_done(&m);

        g = (struct got){ 0 };
        for (size_t i = 0; i < TEL_ARRAY_LEN(many); i++) {
                made_http(&many[i], EXCHANGE_SERVER, "GET", "/", "/", 200);
                spans_add(b, &many[i].span, 0);
        }
        spans_finish(b);
        assert_int_equal(g.requests, 2);
        assert_int_equal(g.resources, 50);
        assert_int_equal(g.spans, TEL_ARRAY_LEN(many));
        spans_add(b, &many[0].span, 0);
        spans_free(b);                             /* with a span in it: the process is let go */
        for (size_t i = 0; i < TEL_ARRAY_LEN(many); i++)
                made_done(&many[i]);
}

/* A resource of any bytes, as large as it may be, is UTF-8 and within its bound. */
static void test_resource_bytes(void **state) {
        struct process p;
        static char key[2000], value[4000];
        static uint8_t buffer[ATTRIBUTES_RESOURCE_MAX];
        struct tel_writer w;
        (void)state;
        made_process(&p);
        memset(key, 'k', sizeof(key) - 1);
        memset(value, 0xff, sizeof(value) - 1);
        for (size_t i = 0; i < PROCESS_ATTRIBUTES_MAX; i++)
                p.attributes[i] = (struct process_attribute){ key, value };
        p.n_attributes = PROCESS_ATTRIBUTES_MAX;
        tel_writer_init(&w, buffer, sizeof(buffer));
        attributes_put_resource(&p, &w);
        assert_false(w.full);
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *b = tel_buf_new(NULL, 0);
        struct tel_field resource;
        assert_int_equal(tel_field_get(w.at, w.end, &resource), 0);
        assert_int_equal(tel_otlp_to_json(TEL_MSG_RESOURCE, resource.at, resource.value, b, 1 << 20), 0);
        assert_true(tel_utf8_valid(b->data, b->len));
        assert_non_null(memmem(b->data, b->len, "{\"stringValue\":\"????", 20));
        assert_null(memmem(b->data, b->len, "\xef\xbf\xbd", 3));       /* it was UTF-8 before the JSON writer had it */
        assert_null(attributes_resource_get(&p, "service.name"));
        assert_null(attributes_resource_get(NULL, "service.name"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_server_whole), cmocka_unit_test(test_client), cmocka_unit_test(test_server_address),
                cmocka_unit_test(test_unix), cmocka_unit_test(test_methods), cmocka_unit_test(test_status), cmocka_unit_test(test_rpc),
                cmocka_unit_test(test_db), cmocka_unit_test(test_headers), cmocka_unit_test(test_links), cmocka_unit_test(test_grouping),
                cmocka_unit_test(test_bounds), cmocka_unit_test(test_resource_bytes),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
