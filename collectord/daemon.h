/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Daemon: builds the parts in order, joins them with callbacks, ends them in reverse. The only one that knows them all.
 * May touch: everything, through the parts; signals; systemd's notify socket. */
#include <uv.h>

#include "collectord/destinations/destination.h"
#include "collectord/pipeline/pipeline.h"
#include "collectord/settings.h"
#include "collectord/sources/frame_socket.h"
#include "collectord/sources/otlp_http.h"
#include "collectord/spool/spool.h"

struct control;
struct web;

enum service_state { SERVICE_STARTING, SERVICE_RUNNING, SERVICE_DEGRADED, SERVICE_STOPPING, SERVICE_STOPPED, SERVICE_FAILED };
const char *service_state_name(enum service_state s);

struct daemon {
        uv_loop_t loop;
        const char *config_path;                   /* NULL: the built-in document */
        int log_level;                             /* -1: as the document says; else from --log-level */
        struct settings settings;
        enum service_state state;
        struct tel_budget ingest, egress;
        struct spools *spools;
        struct pipeline pipeline;
        struct destinations *destinations;
        struct otlp_http *otlp_http;
        struct frame_socket *frames;
        struct control *control;
        struct web *web;
        char frames_path[108], control_path[108];
        uint16_t web_port;                         /* what web is bound to, for status; web_new() sets it, settings may say 0 */
        struct daemon_private *private;
};

/* Runs until stopped. Returns the exit status. */
int daemon_run(struct daemon *d);
/* Reads the document again, checks it whole, then swaps. Returns 0 or -EINVAL with reterr (TEL_CONFIG_ERROR_MAX) filled; the old one stays. */
int daemon_reload(struct daemon *d, char *reterr);
/* Every listener is bound and the state is RUNNING or DEGRADED. */
bool daemon_ready(const struct daemon *d);
