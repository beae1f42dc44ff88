/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Frame socket: producers' frames, and lines for people. A connection whose first byte is `{` speaks lines, any other frames.
 * May touch: its listening Unix socket and its connections, the clock.
 * Protocol: docs/protocol.md. */
#include <uv.h>

#include "collectord/pipeline/pipeline.h"
#include "collectord/settings.h"

struct frame_socket;

struct frame_socket_options {
        const struct settings *settings;           /* listen.frames_*; copied */
        const char *path;                          /* absolute; a stale socket there is replaced */
        int fd;                                    /* handed over by systemd, or -1 */
        struct pipeline *pipeline;                 /* borrowed */
        struct tel_budget *ingest;                 /* borrowed: unfinished frames */
};

/* Returns 0 or -errno; reterr (256 bytes) names the path and why. */
int frame_socket_new(uv_loop_t *loop, const struct frame_socket_options *options, struct frame_socket **ret, char *reterr);
void frame_socket_quiesce(struct frame_socket *f);
struct frame_socket *frame_socket_free(struct frame_socket *f);

/* For `sources`: connection i, or false behind the last. */
struct frame_peer {
        uint32_t pid, uid;
        char name[64], version[32], host[256];     /* from HELLO; "" for lines */
        bool lines;
        uint64_t frames, items, duplicates, connected_ns;
        uint64_t dropped_frames;                   /* as it said in STATUS */
        char status[512];
};
bool frame_socket_peer(const struct frame_socket *f, size_t i, struct frame_peer *ret);
