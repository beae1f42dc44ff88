/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Log: one line an event, to the journal when it listens (native fields, PRIORITY), else to stderr as logfmt.
 * May touch: stderr, the journal's socket, the clock. For daemons; the library itself never logs.
 * Line on stderr: ts=2026-11-21T07:42:21.123456789Z level=info msg="listening" address=127.0.0.1:4318
 * Source: sd_journal_send(3), systemd.exec(5) JOURNAL_STREAM; logfmt as Alloy writes it. */
#include <stdio.h>

#include "libtelemetry/base.h"

enum tel_log_level {                               /* ascending detail */
        TEL_LOG_ERROR,
        TEL_LOG_WARN,
        TEL_LOG_INFO,
        TEL_LOG_DEBUG,
};

#define TEL_LOG_FIELDS_MAX 12                      /* key/value pairs of one line */
#define TEL_LOG_LINE_MAX 2048                      /* bytes; longer values are cut and end in "..." */

/* Fields are pairs of strings: a key [a-z][a-z0-9_]*, then its value, NULL meaning "". Values are quoted when they must be. */
struct tel_log_field {
        const char *key, *value;
};

/* name: of the daemon, borrowed. Journal or stderr is decided here, once. */
void tel_log_open(const char *name, enum tel_log_level level);
void tel_log_set_level(enum tel_log_level level);
enum tel_log_level tel_log_get_level(void);
/* "error" "warn" "info" "debug" -> level. Returns 0 or -EINVAL. */
int tel_log_level_parse(const char *name, enum tel_log_level *ret);
const char *tel_log_level_name(enum tel_log_level level);

/* Writes one line now. */
void tel_log_fields(enum tel_log_level level, const char *msg, const struct tel_log_field *fields, size_t n);
/* tel_log(TEL_LOG_INFO, "listening", { "address", a }, { "limit", b }); */
#define tel_log(level, msg, ...) \
        tel_log_fields(level, msg, (const struct tel_log_field[]){ { NULL, NULL }, ##__VA_ARGS__ } + 1, \
                       TEL_ARRAY_LEN(((const struct tel_log_field[]){ { NULL, NULL }, ##__VA_ARGS__ })) - 1)

/* A repeating event: the first is written, the next ones are counted and written at most each minute with repeated=N. One static or
 * embedded struct per place and reason; zeroed to begin. */
struct tel_log_repeat {
        uint64_t next_ns;                          /* monotonic: earliest time of the next line */
        uint64_t suppressed;                       /* since the last line */
};
#define TEL_LOG_REPEAT_NS (60 * TEL_NS_PER_S)
/* Whether to write now. When true and *ret_repeated > 0, add it to the line. */
bool tel_log_repeat_due(struct tel_log_repeat *r, uint64_t now_ns, uint64_t *ret_repeated);
/* tel_log_fields() under a repeat; adds repeated=N itself. */
void tel_log_repeated_fields(struct tel_log_repeat *r, uint64_t now_ns, enum tel_log_level level, const char *msg,
                             const struct tel_log_field *fields, size_t n);
#define tel_log_repeated(r, now_ns, level, msg, ...) \
        tel_log_repeated_fields(r, now_ns, level, msg, (const struct tel_log_field[]){ { NULL, NULL }, ##__VA_ARGS__ } + 1, \
                                TEL_ARRAY_LEN(((const struct tel_log_field[]){ { NULL, NULL }, ##__VA_ARGS__ })) - 1)
/* Formats into a caller's buffer, for field values: TEL_LOGF(buf, "%zu", n). Returns buf. */
#define TEL_LOGF(buf, ...) (snprintf(buf, sizeof(buf), __VA_ARGS__), (const char *)(buf))

/* The line that tel_log_fields() would write to stderr, without newline, for tests and other sinks. Returns its length. */
size_t tel_log_format(char *out, size_t n, uint64_t realtime_ns, enum tel_log_level level, const char *msg,
                      const struct tel_log_field *fields, size_t n_fields);
