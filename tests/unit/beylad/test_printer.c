/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <jansson.h>

#include "beylad/printer.h"
#include "beylad/span.h"
#include "libtelemetry/otlp_json.h"
#include "tests/unit/beylad/made.h"

#define OFFSET_NS 1700000000000000000ll

static char printed[65536];

static const char *print(enum printer as, const struct made *m) {
        char *text = NULL;
        size_t n = 0;
        FILE *to = open_memstream(&text, &n);
        assert_non_null(to);
        printer_span(to, as, &m->span, OFFSET_NS);
        fclose(to);
        assert_true(n < sizeof(printed));
        memcpy(printed, text, n + 1);
        free(text);
        return printed;
}

/* The attributes of the same span's OTLP encoding, as the object the printer should have. */
static json_t *otlp_attributes(const struct made *m) {
        static uint8_t buffer[1 << 20];
        struct tel_writer w;
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *b = tel_buf_new(NULL, 0);
        struct tel_field span;
        json_t *out = json_object(), *at;
        size_t i;
        tel_writer_init(&w, buffer, sizeof(buffer));
        span_put(&m->span, OFFSET_NS, &w);
        assert_int_equal(tel_field_get(w.at, w.end, &span), 0);
        assert_int_equal(tel_otlp_to_json(TEL_MSG_SPAN, span.at, span.value, b, 1 << 20), 0);
        json_t *json = json_loadb((const char *)b->data, b->len, 0, NULL);
        assert_non_null(json);
        json_array_foreach(json_object_get(json, "attributes"), i, at) {
                json_t *value = json_object_get(at, "value"), *v;
                const char *key = json_string_value(json_object_get(at, "key"));
                if ((v = json_object_get(value, "stringValue")) || (v = json_object_get(value, "boolValue")))
                        json_object_set(out, key, v);
                else if ((v = json_object_get(value, "intValue")))
                        json_object_set_new(out, key, json_integer(strtoll(json_string_value(v), NULL, 10)));
                else if ((v = json_object_get(json_object_get(value, "arrayValue"), "values")))
                        json_object_set_new(out, key, json_pack("[O]", json_object_get(json_array_get(v, 0), "stringValue")));
                else
                        fail_msg("%s has no value", key);
        }
        json_decref(json);
        return out;
}

/* One object, on one line, with the attributes of the OTLP encoding. */
static json_t *print_json(const struct made *m) {
        const char *line = print(PRINTER_JSON, m);
        json_error_t error;
        assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
        json_t *json = json_loads(line, JSON_REJECT_DUPLICATES, &error);
        if (!json)
                fail_msg("%s: %s", error.text, line);
        json_t *want = otlp_attributes(m);
        assert_true(json_object_size(want) > 0);
        assert_true(json_equal(json_object_get(json, "attributes"), want));
        json_decref(want);
        return json;
}

/* A whole line, to the byte: scripts depend on its keys. */
static void test_json_whole(void **state) {
        struct made m;
        (void)state;
        made_http(&m, EXCHANGE_SERVER, "GET", "/users/7", "/users/:id", 200);
        m.span.n_links = 2;
        m.span.links[0] = (struct span_link){ { 1 }, { 2 }, false };
        m.span.links[1] = (struct span_link){ { 3 }, { 4 }, false };
        assert_string_equal(print(PRINTER_JSON, &m),
                "{\"name\":\"GET /users/:id\",\"kind\":\"SERVER\",\"service\":\"shop\",\"pid\":42,\"start_unix_nano\":1700000001000000000,"
                "\"end_unix_nano\":1700000001250000000,\"trace_id\":\"aa000000000000000000000000000001\",\"span_id\":\"bb00000000000002\","
                "\"parent_span_id\":\"\",\"links\":[{\"trace_id\":\"01000000000000000000000000000000\",\"span_id\":\"0200000000000000\"},"
                "{\"trace_id\":\"03000000000000000000000000000000\",\"span_id\":\"0400000000000000\"}],"
                "\"attributes\":{\"http.request.method\":\"GET\",\"http.response.status_code\":200,\"url.path\":\"/users/7\",\"url.scheme\":\"http\","
                "\"http.route\":\"/users/:id\",\"network.protocol.version\":\"1.1\",\"server.address\":\"10.0.0.1\",\"server.port\":8080,"
                "\"client.address\":\"10.0.0.2\",\"client.port\":50000},\"status\":\"UNSET\"}\n");
        made_done(&m);
}

/* Every kind with every text: quotes, backslashes, controls of the process' own names; and no process at all. */
static void test_json_any(void **state) {
        static char key[] = "service.name", value[] = "a\"b\\c\n\x01\xff\xc3\xa9";
        (void)state;
        for (int kind = EXCHANGE_HTTP; kind <= EXCHANGE_DB; kind++)
                for (int role = EXCHANGE_SERVER; role <= EXCHANGE_CLIENT; role++) {
                        struct made m;
                        made_init(&m, kind, role);
                        for (int f = 0; f < EXCHANGE_FIELDS; f++)
                                made_set(&m, f, "x\"y\\z\xc3\xa9");
                        made_set(&m, FIELD_PATH, "/\"\\");
                        exchange_add_header(m.x, "x-a", 3, "\"q\"", 3);
                        m.x->status = 500;
                        m.x->failed = m.x->unobserved = true;
                        m.x->batch = 2;
                        m.x->request_bytes = m.x->response_bytes = INT64_MAX;
                        m.span.parent_span_id[0] = 0xcc;
                        m.process.attributes[0] = (struct process_attribute){ key, value };
                        json_t *json = print_json(&m);
                        assert_string_equal(json_string_value(json_object_get(json, "service")), "a\"b\\c\n\x01?\xc3\xa9");
                        assert_string_equal(json_string_value(json_object_get(json, "status")), "ERROR");
                        assert_string_equal(json_string_value(json_object_get(json, "parent_span_id")), "cc00000000000000");
                        json_decref(json);
                        m.connection.process = NULL;
                        m.connection.family = 0;
                        json = print_json(&m);
                        assert_string_equal(json_string_value(json_object_get(json, "service")), "unknown");
                        assert_int_equal(json_integer_value(json_object_get(json, "pid")), 0);
                        json_decref(json);
                        made_done(&m);
                }
}

static void test_text(void **state) {
        struct made m;
        (void)state;
        made_http(&m, EXCHANGE_CLIENT, "GET", "/", NULL, 503);
        m.span.parent_span_id[7] = 9;
        assert_string_equal(print(PRINTER_TEXT, &m), "2023-11-14T22:13:21.000000Z shop CLIENT \"GET\" 503 250.000ms "
                            "trace=aa000000000000000000000000000001 span=bb00000000000002 parent=0000000000000009\n");
        m.x->status = -1;
        m.span.parent_span_id[7] = 0;
        m.span.n_links = 3;
        m.process.n_attributes = 0;
        assert_string_equal(print(PRINTER_TEXT, &m), "2023-11-14T22:13:21.000000Z shopd CLIENT \"GET\" - 250.000ms "
                            "trace=aa000000000000000000000000000001 span=bb00000000000002 links=3\n");
        m.x->unobserved = true;
        assert_non_null(strstr(print(PRINTER_TEXT, &m), "\"GET\" unobserved 250"));
        made_set(&m, FIELD_ERROR, "timeout");
        assert_non_null(strstr(print(PRINTER_TEXT, &m), "\"GET\" timeout 250"));
        assert_string_equal(print(PRINTER_DISABLED, &m), "");
        made_done(&m);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_json_whole),
                cmocka_unit_test(test_json_any),
                cmocka_unit_test(test_text),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
