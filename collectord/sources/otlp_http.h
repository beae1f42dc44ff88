/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* OTLP/HTTP: the listener of SDKs. POST /v1/traces, /v1/metrics, /v1/logs in protobuf or JSON.
 * May touch: its HTTP server; the clock.
 * Source: OTLP specification 1.9, "OTLP/HTTP". */
#include <uv.h>

#include "collectord/pipeline/pipeline.h"
#include "collectord/settings.h"

struct otlp_http;

struct otlp_http_options {
        const struct settings *settings;           /* listen.otlp_*; copied */
        int fd;                                    /* handed over by systemd, or -1 */
        struct pipeline *pipeline;                 /* borrowed */
        struct tel_budget *ingest;                 /* borrowed */
};

/* Errors of http_server_new(). */
int otlp_http_new(uv_loop_t *loop, const struct otlp_http_options *options, struct otlp_http **ret, char *reterr);
uint16_t otlp_http_port(const struct otlp_http *o);
unsigned otlp_http_connections(const struct otlp_http *o);
void otlp_http_quiesce(struct otlp_http *o);
struct otlp_http *otlp_http_free(struct otlp_http *o);
