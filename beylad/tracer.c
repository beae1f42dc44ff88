/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/tracer.h"

#include "beylad/printer.h"
#include "beylad/route.h"
#include "beylad/sampler.h"
#include "beylad/span.h"

struct tracer {
        struct tracer_options options;
        struct protocol_options protocol_options;
        const char *headers[SETTINGS_HEADERS_MAX + 1];
        struct sampler sampler;
        struct routes *routes;
        struct contexts *contexts;
        struct connections *connections;
        struct red *red;
        struct red_options red_options;            /* that red was made with */
        struct spans *spans;
        bool traces, user_agent;
        int64_t real_offset_ns;                    /* of the release that runs */
        uint64_t swept_ns;
        struct tracer_stats stats;
};

/* ---- out ---- */

static void set_route(struct tracer *t, struct exchange *x) {
        char route[ROUTE_MAX];
        const char *path = exchange_get(x, FIELD_PATH);
        const struct process *p = x->connection->process;
        if (x->kind != EXCHANGE_HTTP || !path)
                return;
        /* What a program asks for is another's API, and another's number of routes. */
        size_t n = route_of(t->routes, (uint64_t)x->role << 32 | (p ? p->pid : 0), path, route, sizeof(route));
        if (n > 0)
                exchange_set(x, FIELD_ROUTE, route, n);
}

static void on_span(void *ctx, const struct span *s) {
        struct tracer *t = ctx;
        struct exchange *x = s->exchange;
        const char *path = exchange_get(x, FIELD_PATH);
        unsigned ignored = x->kind == EXCHANGE_HTTP && path ? route_ignored(t->routes, path) : 0;
        if (x->role == EXCHANGE_SERVER && x->connection->process)
                x->connection->process->requests++;
        if (!t->user_agent)                        /* a header like any other: by allow list */
                x->fields[FIELD_USER_AGENT] = 0;
        set_route(t, x);
        if (t->red && !(ignored & ROUTE_IGNORE_METRICS))
                red_observe(t->red, x, t->real_offset_ns);
        if (!t->traces || ignored & ROUTE_IGNORE_TRACES) {
                t->stats.ignored++;
                return;
        }
        if (!s->sampled) {
                t->stats.unsampled++;
                return;
        }
        if (t->options.settings->printer != PRINTER_DISABLED)
                printer_span(t->options.print_to, (enum printer)t->options.settings->printer, s, t->real_offset_ns);
        if (t->options.request)
                spans_add(t->spans, s, t->real_offset_ns);
}

static void on_spans(void *ctx, const uint8_t *body, size_t n, size_t spans) {
        struct tracer *t = ctx;
        t->options.request(t->options.ctx, TEL_FRAME_TRACES, body, n, spans);
}

static void on_points(void *ctx, const uint8_t *body, size_t n, size_t points) {
        struct tracer *t = ctx;
        t->options.request(t->options.ctx, TEL_FRAME_METRICS, body, n, points);
}

/* ---- life ---- */

static int make_routes(const struct settings *s, struct routes **ret, char *reterr) {
        char error[ROUTE_PATTERN_MAX + 64] = "";
        struct routes_options options = {
                .patterns = (const char *const *)s->routes.patterns.values, .n_patterns = s->routes.patterns.n,
                .ignored = (const char *const *)s->routes.ignored.values, .n_ignored = s->routes.ignored.n,
                .ignore_mode = (enum ignore_mode)s->routes.ignore_mode, .unmatched = (enum unmatched_route)s->routes.unmatched,
                .children_max = (size_t)s->routes.cardinality,
        };
        int r = routes_new(&options, ret, error);
        if (r < 0)
                snprintf(reterr, TRACER_ERROR_MAX, "routes: %s", error[0] ? error : strerror(-r));
        return r;
}

int tracer_configure(struct tracer *t, const struct settings *s, char *reterr) {
        struct red_options options = { .series_max = (size_t)s->metrics.series, .idle_ns = s->metrics.idle_ns };
        bool metrics = s->metrics.enabled && t->options.request;
        bool anew = metrics != (t->red != NULL) || memcmp(&options, &t->red_options, sizeof(options)) != 0;
        struct routes *routes = NULL;
        struct red *red = NULL;
        double ratio = 1;
        int r = make_routes(s, &routes, reterr);
        if (r < 0)
                return r;
        if (anew && metrics && !(red = red_new(&options))) {
                routes_free(routes);
                snprintf(reterr, TRACER_ERROR_MAX, "out of memory");
                return -ENOMEM;
        }
        routes_free(t->routes);
        t->routes = routes;
        if (anew) {
                red_free(t->red);
                t->red = red;
                t->red_options = options;
        }
        memset(t->headers, 0, sizeof(t->headers));
        t->user_agent = false;
        for (size_t i = 0; i < s->headers.n && i < SETTINGS_HEADERS_MAX; i++) {
                t->headers[i] = s->headers.values[i];
                t->user_agent = t->user_agent || strcmp(t->headers[i], "user-agent") == 0;
        }
        t->protocol_options = (struct protocol_options){ .headers = t->headers, .query = s->query, .db_text = s->db_text };
        t->traces = s->traces.enabled;
        settings_sampler_ratio(s->sampler.argument, &ratio);
        sampler_init(&t->sampler, (enum sampler_kind)s->sampler.name, ratio);
        t->options.settings = s;
        return 0;
}

static int make_parts(struct tracer *t, char *reterr) {
        int r = tracer_configure(t, t->options.settings, reterr);
        if (r < 0)
                return r;
        t->contexts = contexts_new(&t->sampler, on_span, t);
        t->spans = spans_new(&(struct spans_options){ .fn = on_spans, .ctx = t });
        if (!t->contexts || !t->spans)
                return -ENOMEM;
        t->connections = connections_new(&(struct connections_options){
                .sink = contexts_sink(t->contexts), .protocol_options = &t->protocol_options, .protocols = protocol_table,
                .verdict = t->options.verdict, .gone = t->options.gone, .ctx = t->options.ctx });
        return t->connections ? 0 : -ENOMEM;
}

int tracer_new(const struct tracer_options *options, struct tracer **ret, char *reterr) {
        struct tracer *t = calloc(1, sizeof(*t));
        if (!t)
                return -ENOMEM;
        t->options = *options;
        snprintf(reterr, TRACER_ERROR_MAX, "out of memory");
        int r = make_parts(t, reterr);
        if (r < 0) {
                tracer_free(t);
                return r;
        }
        *ret = t;
        return 0;
}

struct tracer *tracer_free(struct tracer *t) {
        if (!t)
                return NULL;
        connections_free(t->connections);
        contexts_free(t->contexts);
        spans_free(t->spans);
        red_free(t->red);
        routes_free(t->routes);
        free(t);
        return NULL;
}

void tracer_set_traces(struct tracer *t, bool on) {
        t->traces = on && t->options.settings->traces.enabled;
}

/* ---- in ---- */

/* Recordings may be damaged: the sizes are checked, what they hold is the parsers' to doubt. */
static bool is_whole(const struct probe_head *e) {
        static const size_t sizes[] = {
                [PROBE_DATA] = sizeof(struct probe_data), [PROBE_OPEN] = sizeof(struct probe_open), [PROBE_SHUT] = sizeof(struct probe_shut),
                [PROBE_CALLER] = sizeof(struct probe_caller), [PROBE_HANDLER] = sizeof(struct probe_handler),
                [PROBE_INJECT] = sizeof(struct probe_inject),
        };
        if (e->kind >= TEL_ARRAY_LEN(sizes) || sizes[e->kind] == 0 || e->size < sizes[e->kind])
                return false;
        const struct probe_data *d = (const struct probe_data *)e;
        return e->kind != PROBE_DATA || (d->captured <= e->size - sizeof(*d) && d->captured <= d->bytes && d->bytes < 1u << 31);
}

static void on_data(struct tracer *t, struct process *process, const struct probe_data *d) {
        connections_data(t->connections, process, d, (const uint8_t *)(d + 1));
        if (!(d->head.flags & PROBE_CIPHER) || !process || !t->options.tls_wanted)
                return;
        const struct connection *c = connections_find(t->connections, d->connection);
        if (c && c->tls == TLS_SEEN)
                t->options.tls_wanted(t->options.ctx, process);
}

static void on_inject(struct tracer *t, struct process *process, const struct probe_inject *e) {
        const struct connection *c = e->head.flags & PROBE_INJECT_SERVED ? connections_find(t->connections, e->connection) : NULL;
        if (c)
                contexts_serve(c, e->trace_id);
        if (e->head.flags & PROBE_INJECT_SENT)
                connections_inject(t->connections, process, e);
}

void tracer_event(struct tracer *t, struct process *process, const struct probe_head *e) {
        if (!is_whole(e)) {
                t->stats.malformed++;
                return;
        }
        switch (e->kind) {
        case PROBE_DATA:
                on_data(t, process, (const struct probe_data *)e);
                break;
        case PROBE_OPEN:
                connections_open(t->connections, process, (const struct probe_open *)e);
                break;
        case PROBE_INJECT:
                on_inject(t, process, (const struct probe_inject *)e);
                break;
        case PROBE_SHUT:
                connections_shut(t->connections, (const struct probe_shut *)e);
                break;
        case PROBE_CALLER: {
                const struct probe_caller *c = (const struct probe_caller *)e;
                contexts_caller(t->contexts, &c->task, c->connection);
                break;
        }
        case PROBE_HANDLER: {
                const struct probe_handler *h = (const struct probe_handler *)e;
                struct exchange *x = connections_find_stream(t->connections, h->connection, h->stream);
                if (x)
                        contexts_handler(t->contexts, &h->task, x);
                break;
        }
        }
}

void tracer_process_ended(struct tracer *t, const struct process *p, uint64_t now_ns) {
        connections_drop_process(t->connections, p, now_ns);
}

void tracer_release(struct tracer *t, uint64_t now_ns, int64_t real_offset_ns) {
        t->real_offset_ns = real_offset_ns;
        contexts_release(t->contexts, now_ns);
        spans_finish(t->spans);
        if (t->options.settings->printer != PRINTER_DISABLED)
                fflush(t->options.print_to);
        if (now_ns != UINT64_MAX && now_ns > t->swept_ns + TEL_NS_PER_S) {
                t->swept_ns = now_ns;
                connections_sweep(t->connections, now_ns, TRACER_IDLE_NS);
        }
}

void tracer_metrics(struct tracer *t, uint64_t now_ns, int64_t real_offset_ns) {
        if (t->red)
                red_encode(t->red, now_ns, real_offset_ns, on_points, t);
}

bool tracer_is_waiting(const struct tracer *t) {
        struct contexts_stats s;
        contexts_get_stats(t->contexts, &s);
        return s.held > 0;
}

void tracer_get_stats(const struct tracer *t, struct tracer_stats *ret) {
        *ret = t->stats;
        connections_get_stats(t->connections, &ret->connections);
        contexts_get_stats(t->contexts, &ret->contexts);
        if (t->red)
                red_get_stats(t->red, &ret->red);
}
