/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Line server: a Unix socket to which people and scripts write lines, each answered in its turn; an empty line ends an answer. What a line
 * means is the caller's. What still comes when a peer has ended its side is answered, then the connection closes.
 * May touch: its listening socket and its connections, on the caller's loop. Never logs. The program ignores SIGPIPE.
 * It needs libuv: part of telemetry_daemon, which the daemons link, not of the library that every program may use. */
#include <stdarg.h>
#include <stdio.h>
#include <uv.h>

#include "libtelemetry/buf.h"
#include "libtelemetry/unix_listen.h"

#define TEL_LINE_MAX 4096                          /* the most that line_max may be: a line is copied to the stack */

struct tel_line_server;
struct tel_line_peer;                              /* one connection; the server's, and there while its stream is */

/* An answer that goes on when its line was run. The owner is the server from the return of run() on, to end(). */
struct tel_line_stream {
        /* Writes while the peer has room. Returns whether all was said; else it is called again once the peer has read, and by
         * tel_line_server_pump(). */
        bool (*pump)(struct tel_line_stream *s, struct tel_line_peer *to);
        /* Frees it: all was said, or the peer is gone, or may no longer be served. Called once. */
        void (*end)(struct tel_line_stream *s);
        bool endless;                              /* the peer's next line ends it; else that line waits for its end */
};

struct tel_line_server_options {
        uv_loop_t *loop;
        const char *path;                          /* absolute; a stale socket there is replaced, one that answers is not */
        int fd;                                    /* handed over by systemd, or -1; taken, and path is not touched then */
        size_t line_max;                           /* bytes of one line, its newline too; a longer one is refused and ends the connection */
        unsigned peers_max;                        /* connections; one more is refused with a line */
        size_t queue_max;                          /* bytes a peer may leave unread before its next line waits, or its stream pauses */
        void *ctx;
        /* Runs one line, of n bytes without its end and a NUL behind; it may be cut up in place. What is written to `to`, in lines of which
         * none is empty, is the answer. Returns NULL, or a stream that continues it. */
        struct tel_line_stream *(*run)(void *ctx, char *line, size_t n, FILE *to);
        void (*accept_failed)(void *ctx, const char *why);
        void (*closed)(void *ctx);                 /* the last call after tel_line_server_free(): ctx and its budgets may go */
};

/* Returns 0 or -errno; reterr (TEL_UNIX_LISTEN_ERROR_MAX) names the path and why. ctx is not called after a failure. */
int tel_line_server_new(const struct tel_line_server_options *options, struct tel_line_server **ret, char *reterr);
/* There may be news for streams: each is pumped, and what belongs to peers that left without a word is closed. */
void tel_line_server_pump(struct tel_line_server *s);
/* Closes; memory goes with the next turns of the loop. Accepts NULL, returns NULL. */
struct tel_line_server *tel_line_server_free(struct tel_line_server *s);

/* For pump(): whether the peer takes more, and more for it. Takes buf; a peer that cannot be written to is closed. */
bool tel_line_peer_has_room(const struct tel_line_peer *p);
void tel_line_peer_write(struct tel_line_peer *p, struct tel_buf *buf);

/* An error as the answer: "error: text", or {"error":"text"}; one line whatever the text holds, cut at TEL_LINE_ERROR_MAX. */
#define TEL_LINE_ERROR_MAX 768                     /* bytes with the NUL: a message of the configuration and what stands around it */
TEL_PRINTF(3, 4) void tel_line_error(FILE *to, bool json, const char *format, ...);
TEL_PRINTF(3, 0) void tel_line_verror(FILE *to, bool json, const char *format, va_list args);
