/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Made: finished exchanges as the parsers and context would leave them, for the tests of what comes out.
 *
 *     struct made m;
 *     made_init(&m, EXCHANGE_HTTP, EXCHANGE_SERVER);
 *     made_set(&m, FIELD_METHOD, "GET");
 *     ...
 *     made_done(&m); */
#include <arpa/inet.h>

#include "beylad/context.h"

struct made {
        struct process process;
        struct protocol protocol;
        struct connection connection;
        struct exchange *x;
        struct span span;
};

static inline struct probe_address made_address(const char *ip, uint16_t port) {
        struct probe_address a = { .port = port };
        char mapped[64];
        snprintf(mapped, sizeof(mapped), "%s%s", strchr(ip, ':') ? "" : "::ffff:", ip);
        assert_int_equal(inet_pton(AF_INET6, mapped, a.ip), 1);
        return a;
}

/* A process "shop", pid 42, with three attributes in its resource. */
static inline void made_process(struct process *p) {
        static char keys[][16] = { "service.name", "host.name", "process.pid" }, values[][16] = { "shop", "h1", "42" };
        memset(p, 0, sizeof(*p));
        p->refs = 1;
        p->pid = 42;
        strcpy(p->name, "shopd");
        for (size_t i = 0; i < TEL_ARRAY_LEN(keys); i++)
                p->attributes[p->n_attributes++] = (struct process_attribute){ keys[i], values[i] };
}

/* From 10.0.0.2:50000 to 10.0.0.1:8080, whoever serves; boot time 1 s to 1.25 s. */
static inline void made_init(struct made *m, enum exchange_kind kind, enum exchange_role role) {
        memset(m, 0, sizeof(*m));
        made_process(&m->process);
        m->protocol.name = kind == EXCHANGE_DB ? "redis" : "http/1.1";
        m->connection = (struct connection){ .process = &m->process, .protocol = &m->protocol, .family = AF_INET, .refs = 1 };
        m->connection.local = role == EXCHANGE_SERVER ? made_address("10.0.0.1", 8080) : made_address("10.0.0.2", 50000);
        m->connection.remote = role == EXCHANGE_SERVER ? made_address("10.0.0.2", 50000) : made_address("10.0.0.1", 8080);
        m->x = calloc(1, sizeof(*m->x));
        m->x->connection = connection_ref(&m->connection);
        m->x->protocol = &m->protocol;
        m->x->kind = kind;
        m->x->role = role;
        m->x->state = EXCHANGE_ENDED;
        m->x->start_ns = TEL_NS_PER_S;
        m->x->end_ns = TEL_NS_PER_S + 250 * TEL_NS_PER_MS;
        m->x->request_bytes = m->x->response_bytes = m->x->status = -1;
        m->span = (struct span){ .exchange = m->x, .trace_id = { 0xaa, [15] = 1 }, .span_id = { 0xbb, [7] = 2 }, .sampled = true };
}

static inline void made_set(struct made *m, enum exchange_field field, const char *text) {
        assert_int_equal(exchange_set(m->x, field, text, strlen(text)), 0);
}

static inline void made_http(struct made *m, enum exchange_role role, const char *method, const char *path, const char *route, int status) {
        made_init(m, EXCHANGE_HTTP, role);
        made_set(m, FIELD_METHOD, method);
        made_set(m, FIELD_PATH, path);
        made_set(m, FIELD_SCHEME, "http");
        made_set(m, FIELD_VERSION, "1.1");
        if (route)
                made_set(m, FIELD_ROUTE, route);
        m->x->status = status;
}

static inline void made_done(struct made *m) {
        m->x = exchange_free(m->x);
        assert_int_equal(m->connection.refs, 1);
        assert_int_equal(m->process.refs, 1);      /* whoever kept the process let it go */
}
