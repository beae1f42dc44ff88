/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>

#include "collectord/clock.h"
#include "collectord/http/server.h"
#include "collectord/report.h"
#include "collectord/web/metrics.h"
#include "collectord/web/page.h"
#include "collectord/web/web.h"

#define CONNECTIONS_MAX 64                         /* a few browsers, scrapers and probes */
#define IDLE_NS (60 * TEL_NS_PER_S)                /* longer than scrapes are usually apart, so that scrapers keep their connection */
#define BODY_MAX 4096                              /* POST /-/reload needs none, but clients may send one */
#define REPLY_MAX (8u << 20)                       /* of a page: 64 destinations and 256 losses are far below */

struct web {
        struct daemon *d;
        struct http_server *server;
};

/* ---- answers ---- */

/* Copies into the reply. Without memory the reply keeps no body, and the status says so. */
static void reply_bytes(struct http_reply *reply, unsigned status, const char *type, const char *bytes, size_t n) {
        struct tel_buf *body = tel_buf_new(NULL, n > 0 ? n : 1);
        if (!body || tel_buf_append(body, bytes, n, REPLY_MAX) < 0) {
                tel_buf_unref(body);
                reply->status = 500;
                return;
        }
        reply->status = status;
        reply->content_type = type;
        reply->body = body;
}

TEL_PRINTF(3, 4) static void reply_text(struct http_reply *reply, unsigned status, const char *format, ...) {
        char text[TEL_CONFIG_ERROR_MAX + 128];
        va_list args;
        va_start(args, format);
        vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        reply_bytes(reply, status, "text/plain; charset=utf-8", text, strlen(text));
}

/* Takes o. */
static void reply_json(struct http_reply *reply, unsigned status, json_t *o) {
        TEL_CLEANUP_FREE char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
        json_decref(o);
        if (text)
                reply_bytes(reply, status, "application/json", text, strlen(text));
        else
                reply_text(reply, 500, "out of memory\n");
}

/* ---- routes ---- */

static void get_page(struct web *w, const struct http_view *view, struct http_reply *reply) {
        uint64_t now = clock_now_ns();
        json_auto_t *status = report_status(w->d, now), *destinations = report_destinations(w->d, now),
                *sources = report_sources(w->d, now);
        json_auto_t *lost = report_lost(w->d, 0);
        TEL_CLEANUP_FREE char *text = NULL;
        size_t n = 0;
        (void)view;
        FILE *f = status && destinations && sources && lost ? open_memstream(&text, &n) : NULL;
        if (f)
                page_put(&(struct page_parts){ status, destinations, sources, lost }, f);
        if (f && fclose(f) == 0)
                reply_bytes(reply, 200, "text/html; charset=utf-8", text, n);
        else
                reply_text(reply, 500, "out of memory\n");
}

static void get_metrics(struct web *w, const struct http_view *view, struct http_reply *reply) {
        struct tel_buf *body = tel_buf_new(NULL, 64 << 10);
        (void)view;
        if (!body || metrics_put(w->d, clock_now_ns(), body) < 0) {
                tel_buf_unref(body);
                reply_text(reply, 500, "out of memory\n");
                return;
        }
        *reply = (struct http_reply){ .status = 200, .content_type = METRICS_TYPE, .body = body };
}

static void get_ready(struct web *w, const struct http_view *view, struct http_reply *reply) {
        bool ready = daemon_ready(w->d);
        (void)view;
        reply_text(reply, ready ? 200 : 503, "collectord is %s: %s\n", ready ? "ready" : "not ready",
                   service_state_name(w->d->state));
}

/* A destination that is away makes the daemon DEGRADED, not unhealthy: a restart would not bring it back, and
 * would cost the buffer. */
static void get_healthy(struct web *w, const struct http_view *view, struct http_reply *reply) {
        bool healthy = w->d->state != SERVICE_FAILED && w->d->state != SERVICE_STOPPED;
        (void)view;
        reply_text(reply, healthy ? 200 : 503, "collectord is %s: %s\n", healthy ? "healthy" : "not healthy",
                   service_state_name(w->d->state));
}

static void post_reload(struct web *w, const struct http_view *view, struct http_reply *reply) {
        char error[TEL_CONFIG_ERROR_MAX] = "";
        (void)view;
        if (daemon_reload(w->d, error) < 0)
                reply_text(reply, 400, "%s\n", error);
        else
                reply_text(reply, 200, "reloaded\n");
}

static void get_status(struct web *w, const struct http_view *view, struct http_reply *reply) {
        (void)view;
        reply_json(reply, 200, report_status(w->d, clock_now_ns()));
}

static void get_destinations(struct web *w, const struct http_view *view, struct http_reply *reply) {
        (void)view;
        reply_json(reply, 200, report_destinations(w->d, clock_now_ns()));
}

static void get_sources(struct web *w, const struct http_view *view, struct http_reply *reply) {
        (void)view;
        reply_json(reply, 200, report_sources(w->d, clock_now_ns()));
}

/* ?since=1h: only the losses of the last hour. */
static void get_lost(struct web *w, const struct http_view *view, struct http_reply *reply) {
        uint64_t now = clock_now_ns(), back;
        const char *query = view->query && *view->query ? view->query : NULL;
        if (!query) {
                reply_json(reply, 200, report_lost(w->d, 0));
        } else if (strncmp(query, "since=", 6) == 0 && tel_config_parse_duration(query + 6, &back) == 0) {
                reply_json(reply, 200, report_lost(w->d, now > back ? now - back : 0));
        } else {
                reply_json(reply, 400, json_pack("{ss}",
                                                 "error", "expected ?since=D with a duration such as 30s, 5m or 1h"));
        }
}

static const struct route {
        const char *path;
        bool post;                                 /* POST alone; else GET and HEAD */
        void (*answer)(struct web *w, const struct http_view *view, struct http_reply *reply);
} routes[] = {
        { "/", false, get_page },
        { "/metrics", false, get_metrics },
        { "/-/ready", false, get_ready },
        { "/-/healthy", false, get_healthy },
        { "/-/reload", true, post_reload },
        { "/api/v1/status", false, get_status },
        { "/api/v1/destinations", false, get_destinations },
        { "/api/v1/sources", false, get_sources },
        { "/api/v1/lost", false, get_lost },
};

static void on_request(void *ctx, const struct http_view *view, struct http_reply *reply) {
        bool get = strcmp(view->method, "GET") == 0 || strcmp(view->method, "HEAD") == 0,
                post = strcmp(view->method, "POST") == 0;
        for (size_t i = 0; i < TEL_ARRAY_LEN(routes); i++) {
                const struct route *r = &routes[i];
                if (strcmp(r->path, view->path) != 0)
                        continue;
                if (r->post ? post : get) {
                        r->answer(ctx, view, reply);
                        return;
                }
                reply_text(reply, 405, "%s takes %s\n", r->path, r->post ? "POST" : "GET");
                reply->allow = r->post ? "POST" : "GET, HEAD";
                return;
        }
        reply_text(reply, 404, "nothing here; try /, /metrics, /-/ready, /-/healthy or /api/v1/status\n");
}

static void on_refused(void *ctx, const struct http_view *view, struct http_reply *reply) {
        (void)ctx;
        (void)view;
        reply_text(reply, reply->status, "%s\n", reply->status == 413 ? "too large" : reply->status == 408
                   ? "too slow" : "busy; come again");
}

/* ---- life ---- */

int web_new(struct daemon *d, const char *address, int fd, struct web **ret, char *reterr) {
        struct web *w = calloc(1, sizeof(*w));
        if (!w) {
                snprintf(reterr, 256, "listen web: out of memory");
                return -ENOMEM;
        }
        w->d = d;
        struct http_settings settings = {
                .name = "web", .address = address, .fd = fd, .connections_max = CONNECTIONS_MAX, .idle_ns = IDLE_NS,
                        .body_max = BODY_MAX,
                .budget = &d->ingest,
        };
        struct http_handler handler = { .request = on_request, .refused = on_refused, .ctx = w };
        int r = http_server_new(&d->loop, &settings, &handler, &w->server, reterr);
        if (r < 0) {
                free(w);
                return r;
        }
        d->web_port = http_server_port(w->server);
        *ret = w;
        return 0;
}

uint16_t web_port(const struct web *w) {
        return http_server_port(w->server);
}

struct web *web_free(struct web *w) {
        if (w) {
                w->d->web_port = 0;
                http_server_free(w->server);
        }
        free(w);
        return NULL;
}
