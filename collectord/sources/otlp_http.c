/* SPDX-License-Identifier: Apache-2.0 */
#include "collectord/clock.h"
#include "collectord/sources/otlp_http.h"
#include "collectord/sources/otlp_request.h"
#include "collectord/stats.h"

struct otlp_http {
        struct http_server *server;
        struct otlp_door door;
        bool quiet;                                /* stopping: what would be taken now could be too late to be sent */
};

static void on_request(void *ctx, const struct http_view *view, struct http_reply *reply) {
        struct otlp_http *o = ctx;
        if (o->quiet) {
                *reply = (struct http_reply){ .status = 503, .retry_after_s = 1, .close = true };
                otlp_refused(view, reply);
                return;
        }
        otlp_request(&o->door, view, clock_now_ns(), reply);
}

static void on_refused(void *ctx, const struct http_view *view, struct http_reply *reply) {
        (void)ctx;
        otlp_refused(view, reply);
}

static unsigned pace_ms(void *ctx) {
        struct otlp_http *o = ctx;
        return pipeline_pace_ms(o->door.pipeline, clock_now_ns());
}

static void on_changed(void *ctx, const struct http_server_stats *now) {
        (void)ctx;
        stats.http_connections = now->connections;
        stats.http_connections_peak = now->connections_peak;
        stats.http_evicted = now->evicted;
        stats.http_timeouts = now->timeouts;
}

int otlp_http_new(uv_loop_t *loop, const struct otlp_http_options *options, struct otlp_http **ret, char *reterr) {
        const struct settings *from = options->settings;
        struct otlp_http *o = calloc(1, sizeof(*o));
        if (!o) {
                strcpy(reterr, "listen otlp_http: not enough memory");
                return -ENOMEM;
        }
        o->door = (struct otlp_door){ .pipeline = options->pipeline, .body_max = from->listen.otlp_body_bytes };
        const struct http_settings http = {
                .name = "otlp_http", .address = from->listen.otlp_http, .fd = options->fd,
                .connections_max = (unsigned)from->listen.otlp_connections, .idle_ns = from->listen.otlp_idle_ns,
                .body_max = from->listen.otlp_body_bytes, .budget = options->ingest,
        };
        const struct http_handler handler = { .request = on_request, .refused = on_refused, .changed = on_changed, .pace_ms = pace_ms, .ctx = o };
        int r = http_server_new(loop, &http, &handler, &o->server, reterr);
        if (r < 0) {
                free(o);
                return r;
        }
        *ret = o;
        return 0;
}

uint16_t otlp_http_port(const struct otlp_http *o) {
        return http_server_port(o->server);
}

unsigned otlp_http_connections(const struct otlp_http *o) {
        struct http_server_stats s;
        http_server_get_stats(o->server, &s);
        return s.connections;
}

void otlp_http_quiesce(struct otlp_http *o) {
        if (!o)
                return;
        o->quiet = true;
        http_server_quiesce(o->server);
}

struct otlp_http *otlp_http_free(struct otlp_http *o) {
        if (!o)
                return NULL;
        http_server_free(o->server);               /* no callback comes after it */
        free(o);
        return NULL;
}
