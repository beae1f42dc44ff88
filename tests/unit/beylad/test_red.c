/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "beylad/red.h"
#include "libtelemetry/otlp.h"
#include "libtelemetry/otlp_json.h"
#include "tests/unit/beylad/made.h"

#define OFFSET_NS 1700000000000000000ll

static char text[16u << 20];

struct got {
        size_t requests, points, largest, resources;
        size_t text_len;
};

static int on_record(void *ctx, const struct tel_otlp_record *record, uint8_t **ret_space) {
        static uint8_t space[RED_BYTES_MAX + 4096];
        (void)ctx;
        assert_true(record->bytes <= sizeof(space));
        *ret_space = space;
        return 0;
}

/* Checks a request as a receiver does, and appends it to text as a line of OTLP/JSON. */
static void on_request(void *ctx, const uint8_t *body, size_t n, size_t points) {
        struct tel_otlp_limits limits = { SIZE_MAX, SIZE_MAX };
        struct tel_otlp_result result;
        struct tel_otlp_resource r;
        struct got *g = ctx;
        const uint8_t *at = body;
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *b = tel_buf_new(NULL, 0);
        assert_true(n <= RED_BYTES_MAX);
        assert_int_equal(tel_otlp_cut(TEL_METRICS, body, n, NULL, 0, &limits, on_record, NULL, &result), 0);
        assert_int_equal(result.rejected, 0);
        assert_int_equal(result.items, points);
        while (tel_otlp_resource_next(&at, body + n, &r))
                g->resources++;
        g->requests++;
        g->points += points;
        g->largest = TEL_MAX(g->largest, n);
        assert_int_equal(tel_otlp_to_json(TEL_MSG_METRICS_REQUEST, body, n, b, sizeof(text)), 0);
        assert_true(g->text_len + b->len + 2 < sizeof(text));
        memcpy(text + g->text_len, b->data, b->len);
        g->text_len += b->len;
        text[g->text_len++] = '\n';
        text[g->text_len] = '\0';
}

static struct got encode(struct red *r, uint64_t now_ns) {
        struct got g = { 0 };
        text[0] = '\0';
        red_encode(r, now_ns, OFFSET_NS, on_request, &g);
        return g;
}

static void assert_has(const char *what) {
        if (!strstr(text, what))
                fail_msg("no %s in %s", what, text);
}

static void assert_has_not(const char *what) {
        if (strstr(text, what))
                fail_msg("%s in %s", what, text);
}

static struct red *red_of(size_t series_max) {
        struct red *r = red_new(&(struct red_options){ .series_max = series_max });
        assert_non_null(r);
        return r;
}

static struct red_stats stats_of(const struct red *r) {
        struct red_stats s;
        red_get_stats(r, &s);
        return s;
}

#define T(key, value) "{\"key\":\"" key "\",\"value\":{\"stringValue\":\"" value "\"}}"
#define I(key, value) "{\"key\":\"" key "\",\"value\":{\"intValue\":\"" #value "\"}}"
#define DURATION_BOUNDS "\"explicitBounds\":[0,0.005,0.01,0.025,0.05,0.075,0.1,0.25,0.5,0.75,1,2.5,5,7.5,10]"

/* Two exchanges of one series: the whole request. */
static void test_whole(void **state) {
        struct made m;
        struct red *r = red_of(0);
        (void)state;
        made_http(&m, EXCHANGE_SERVER, "GET", "/users/7", "/users/*", 200);
        m.x->response_bytes = 33;
        red_observe(r, m.x, OFFSET_NS);            /* 250 ms: on the bound, so below it */
        m.x->end_ns += 1;
        red_observe(r, m.x, OFFSET_NS);
        struct got g = encode(r, 9 * TEL_NS_PER_S);
        assert_int_equal(g.requests, 1);
        assert_int_equal(g.points, 2);
#define ATTRIBUTES "\"attributes\":[" T("http.request.method", "GET") "," I("http.response.status_code", 200) "," T("url.scheme", "http") "," \
                   T("http.route", "/users/*") "," T("network.protocol.version", "1.1") "," I("server.port", 8080) "]"
        assert_string_equal(text,
                "{\"resourceMetrics\":[{\"resource\":{\"attributes\":[" T("service.name", "shop") "," T("host.name", "h1") "," I("process.pid", 42) "]},"
                "\"scopeMetrics\":[{\"scope\":{\"name\":\"beylad\",\"version\":\"" SUITE_VERSION "\"},\"metrics\":["
                "{\"name\":\"http.server.response.body.size\",\"description\":\"Size of HTTP server response bodies.\",\"unit\":\"By\",\"histogram\":{"
                "\"dataPoints\":[{\"startTimeUnixNano\":\"1700000001000000000\",\"timeUnixNano\":\"1700000009000000000\",\"count\":\"2\",\"sum\":66,"
                "\"bucketCounts\":[\"0\",\"0\",\"2\",\"0\",\"0\",\"0\",\"0\",\"0\",\"0\",\"0\",\"0\"],"
                "\"explicitBounds\":[0,32,64,128,256,512,1024,2048,4096,8192]," ATTRIBUTES "}],\"aggregationTemporality\":2}},"
                "{\"name\":\"http.server.request.duration\",\"description\":\"Duration of HTTP server requests.\",\"unit\":\"s\",\"histogram\":{"
                "\"dataPoints\":[{\"startTimeUnixNano\":\"1700000001000000000\",\"timeUnixNano\":\"1700000009000000000\",\"count\":\"2\",\"sum\":0.500000001,"
                "\"bucketCounts\":[\"0\",\"0\",\"0\",\"0\",\"0\",\"0\",\"0\",\"1\",\"1\",\"0\",\"0\",\"0\",\"0\",\"0\",\"0\",\"0\"],"
                DURATION_BOUNDS "," ATTRIBUTES "}],\"aggregationTemporality\":2}}]}]}]}\n");
        red_free(r);
        made_done(&m);
}

/* Each bound is in the bucket below it, and one more is in the next. */
static void test_bounds(void **state) {
        static const uint64_t ms[] = { 0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000 };
        static const int64_t sizes[] = { 0, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192 };
        struct made m;
        struct red *r = red_of(0);
        (void)state;
        made_http(&m, EXCHANGE_CLIENT, "PUT", "/", NULL, 200);
        for (size_t i = 0; i < TEL_ARRAY_LEN(ms); i++)
                for (unsigned more = 0; more < 2; more++) {
                        m.x->end_ns = m.x->start_ns + ms[i] * TEL_NS_PER_MS + more;
                        m.x->request_bytes = i < TEL_ARRAY_LEN(sizes) ? sizes[i] + (int64_t)more : -1;
                        red_observe(r, m.x, OFFSET_NS);
                }
        encode(r, 20 * TEL_NS_PER_S);
        assert_has("\"count\":\"30\"");
        assert_has("\"bucketCounts\":[\"1\",\"2\",\"2\",\"2\",\"2\",\"2\",\"2\",\"2\",\"2\",\"2\",\"2\",\"2\",\"2\",\"2\",\"2\",\"1\"]");
        assert_has("\"http.client.request.body.size\"");
        assert_has("\"bucketCounts\":[\"1\",\"2\",\"2\",\"2\",\"2\",\"2\",\"2\",\"2\",\"2\",\"2\",\"1\"]");
        assert_has_not("response.body.size");
        red_free(r);
        made_done(&m);
}

/* Every kind and role has its metric; what has many values is in none. */
static void test_kinds(void **state) {
        static const struct {
                enum exchange_kind kind;
                enum exchange_role role;
                const char *name;
        } rows[] = {
                { EXCHANGE_HTTP, EXCHANGE_SERVER, "\"http.server.request.duration\"" }, { EXCHANGE_HTTP, EXCHANGE_CLIENT, "\"http.client.request.duration\"" },
                { EXCHANGE_RPC, EXCHANGE_SERVER, "\"rpc.server.duration\"" }, { EXCHANGE_RPC, EXCHANGE_CLIENT, "\"rpc.client.duration\"" },
                { EXCHANGE_DB, EXCHANGE_SERVER, "\"db.server.operation.duration\"" }, { EXCHANGE_DB, EXCHANGE_CLIENT, "\"db.client.operation.duration\"" },
        };
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++) {
                struct made m;
                struct red *r = red_of(0);
                made_init(&m, rows[i].kind, rows[i].role);
                for (int f = 0; f < EXCHANGE_FIELDS; f++)
                        made_set(&m, f, "seen");
                made_set(&m, FIELD_METHOD, "BREW");
                for (int f = 0; f < EXCHANGE_FIELDS; f++)
                        if (f == FIELD_PATH || f == FIELD_QUERY || f == FIELD_USER_AGENT || f == FIELD_DB_TEXT)
                                made_set(&m, f, "/many");
                exchange_add_header(m.x, "x-id", 4, "many", 4);
                m.x->status = 200;
                red_observe(r, m.x, OFFSET_NS);
                encode(r, 2 * TEL_NS_PER_S);
                assert_has(rows[i].name);
                assert_has_not("many");
                assert_has_not("BREW");
                assert_has_not("10.0.0.2");        /* nor who asked */
                if (rows[i].kind == EXCHANGE_HTTP)
                        assert_has(T("http.request.method", "_OTHER"));
                if (rows[i].role == EXCHANGE_SERVER)
                        assert_has_not("server.address");      /* any client may make one up */
                else
                        assert_has(T("server.address", "seen"));
                red_free(r);
                made_done(&m);
        }
}

/* What differs in one attribute is another series; what differs in none is the same; an unobserved end is apart. */
static void test_series(void **state) {
        struct made m, other;
        struct red *r = red_of(0);
        (void)state;
        made_http(&m, EXCHANGE_SERVER, "GET", "/a", "/a", 200);
        made_http(&other, EXCHANGE_SERVER, "GET", "/b", "/a", 200);
        red_observe(r, m.x, OFFSET_NS);
        other.connection.process = &m.process;
        red_observe(r, other.x, OFFSET_NS);        /* another path, the same route */
        assert_int_equal(stats_of(r).series, 1);
        other.connection.process = &other.process;
        red_observe(r, other.x, OFFSET_NS);
        assert_int_equal(stats_of(r).series, 2);
        m.x->status = 201;
        red_observe(r, m.x, OFFSET_NS);
        assert_int_equal(stats_of(r).series, 3);
        made_set(&m, FIELD_ROUTE, "/c");
        red_observe(r, m.x, OFFSET_NS);
        assert_int_equal(stats_of(r).series, 4);
        m.x->unobserved = true;
        red_observe(r, m.x, OFFSET_NS);
        assert_int_equal(stats_of(r).series, 5);
        struct got g = encode(r, 2 * TEL_NS_PER_S);
        assert_int_equal(g.resources, 2);
        assert_int_equal(g.points, 5);
        assert_has("beylad.unobserved");
        red_free(r);
        made_done(&m);
        made_done(&other);
}

/* Over the bound there is one series more for each process and kind, and the sums stay right. */
static void test_overflow(void **state) {
        struct made m, client;
        struct red *r = red_of(10);
        char route[32];
        (void)state;
        made_http(&m, EXCHANGE_SERVER, "GET", "/", "/", 200);
        made_http(&client, EXCHANGE_CLIENT, "GET", "/", NULL, 200);
        for (unsigned i = 0; i < 50; i++) {
                snprintf(route, sizeof(route), "/%u", i);
                made_set(&m, FIELD_ROUTE, route);
                red_observe(r, m.x, OFFSET_NS);
                red_observe(r, m.x, OFFSET_NS);
        }
        red_observe(r, client.x, OFFSET_NS);
        assert_int_equal(stats_of(r).series, 12);
        assert_int_equal(stats_of(r).overflowed, 81);
        encode(r, 2 * TEL_NS_PER_S);
        assert_has("\"count\":\"80\"");
        assert_has("\"attributes\":[{\"key\":\"otel.metric.overflow\",\"value\":{\"boolValue\":true}}]");
        assert_has("http.client.request.duration");
        made_set(&m, FIELD_ROUTE, "/3");           /* one that was there before still counts in its own */
        red_observe(r, m.x, OFFSET_NS);
        encode(r, 2 * TEL_NS_PER_S);
        assert_has("\"count\":\"3\"");
        red_free(r);
        made_done(&m);
        made_done(&client);
}

/* Texts that are too long for a key go the same way, and when there are too many processes, the exchange is counted as lost. */
static void test_too_much(void **state) {
        static char big[1001];
        struct made m;
        struct red *r = red_of(1);
        (void)state;
        memset(big, 'x', sizeof(big) - 1);
        made_http(&m, EXCHANGE_SERVER, "GET", "/", "/", 200);
        made_set(&m, FIELD_ROUTE, big);
        red_observe(r, m.x, OFFSET_NS);
        assert_int_equal(stats_of(r).overflowed, 1);
        for (size_t i = 0; i < RED_OVERFLOW_MAX + 20; i++) {
                struct process *p = calloc(1, sizeof(*p));
                p->refs = 1;
                m.connection.process = p;
                red_observe(r, m.x, OFFSET_NS);
                process_unref(p);
        }
        assert_int_equal(stats_of(r).series, RED_OVERFLOW_MAX + 1);
        assert_int_equal(stats_of(r).lost, 20);
        m.connection.process = &m.process;
        red_free(r);
        made_done(&m);
}

/* A series without an exchange for long is forgotten, but not before its last count went out; then it begins anew. */
static void test_idle(void **state) {
        struct made m;
        struct red *r = red_new(&(struct red_options){ .idle_ns = 10 * TEL_NS_PER_S });
        (void)state;
        made_http(&m, EXCHANGE_SERVER, "GET", "/", "/", 200);
        red_observe(r, m.x, OFFSET_NS);
        assert_int_equal(encode(r, 100 * TEL_NS_PER_S).points, 1);
        assert_int_equal(encode(r, 100 * TEL_NS_PER_S).points, 0);
        assert_int_equal(stats_of(r).forgotten, 1);
        assert_int_equal(m.process.refs, 1);
        m.x->start_ns = 200 * TEL_NS_PER_S;
        m.x->end_ns = 201 * TEL_NS_PER_S;
        red_observe(r, m.x, OFFSET_NS);
        assert_int_equal(encode(r, 211 * TEL_NS_PER_S).points, 1);
        assert_has("\"startTimeUnixNano\":\"1700000200000000000\"");
        assert_has("\"count\":\"1\"");
        assert_int_equal(encode(r, 211 * TEL_NS_PER_S).points, 1);     /* just 10 s */
        red_free(r);
        made_done(&m);
}

/* Wall clock set back: the time of a point is never before its start. */
static void test_clock_back(void **state) {
        struct made m;
        struct red *r = red_of(0);
        struct got g = { 0 };
        (void)state;
        made_http(&m, EXCHANGE_SERVER, "GET", "/", "/", 200);
        red_observe(r, m.x, OFFSET_NS);
        red_encode(r, 2 * TEL_NS_PER_S, OFFSET_NS - (int64_t)TEL_NS_PER_S * 3600, on_request, &g);
        assert_has("\"startTimeUnixNano\":\"1700000001000000000\",\"timeUnixNano\":\"1700000001000000000\"");
        red_free(r);
        made_done(&m);
}

/* As many series as there may be, of several processes: all come, in requests within the bound, and some are forgotten and found again. */
static void test_many(void **state) {
        static struct made m[4];
        struct red *r = red_of(0);
        char route[300];
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(m); i++) {
                made_http(&m[i], EXCHANGE_SERVER, "GET", "/", "/", 200);
                m[i].x->request_bytes = m[i].x->response_bytes = 1;
        }
        for (unsigned turn = 0; turn < 3; turn++) {
                for (unsigned i = 0; i < RED_SERIES_MAX; i++) {
                        struct made *at = &m[i % TEL_ARRAY_LEN(m)];
                        at->x->text_len = 0;       /* made_set() only appends */
                        made_set(at, FIELD_METHOD, "GET");
                        snprintf(route, sizeof(route), "/%0200u", i);
                        made_set(at, FIELD_ROUTE, route);
                        at->x->fields[FIELD_PATH] = at->x->fields[FIELD_SCHEME] = at->x->fields[FIELD_VERSION] = 0;
                        at->x->start_ns = at->x->end_ns = (turn * 1000 + 1) * TEL_NS_PER_S + (turn == 1 && i % 2 ? TEL_NS_PER_S * 900 : 0);
                        red_observe(r, at->x, OFFSET_NS);
                }
                struct got g = encode(r, (turn * 1000 + 2) * TEL_NS_PER_S);
                assert_int_equal(g.points, 3 * RED_SERIES_MAX);
                assert_in_range(g.requests, 4, 12);
                assert_in_range(g.largest, RED_BYTES_MAX / 2, RED_BYTES_MAX);
                assert_int_equal(stats_of(r).overflowed, 0);
                if (turn == 1)
                        assert_int_equal(encode(r, 2000 * TEL_NS_PER_S).points, 3 * RED_SERIES_MAX / 2);
        }
        red_free(r);
        for (size_t i = 0; i < TEL_ARRAY_LEN(m); i++)
                made_done(&m[i]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_whole), cmocka_unit_test(test_bounds), cmocka_unit_test(test_kinds), cmocka_unit_test(test_series),
                cmocka_unit_test(test_overflow), cmocka_unit_test(test_too_much), cmocka_unit_test(test_idle), cmocka_unit_test(test_clock_back),
                cmocka_unit_test(test_many),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
