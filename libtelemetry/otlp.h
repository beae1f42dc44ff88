/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* OTLP request bodies as raw protobuf: walked once, cut into records, Resource attributes spliced in, nothing decoded.
 * What is not in the schema (unknown fields) goes through bit for bit.
 * May touch: the bytes it is given. No allocation but through the caller.
 * Source: OTLP specification 1.9 (requests, partial success), opentelemetry-proto 1.9. */
#include "libtelemetry/buf.h"
#include "libtelemetry/otlp_schema.h"

#define TEL_OTLP_DEPTH_MAX 64                      /* nested AnyValues; deeper ones are refused, they cost stack in every reader */
#define TEL_OTLP_ADDED_MAX 32                      /* attributes that can be spliced in: host, instance and configured labels */
#define TEL_OTLP_ERROR_MAX 160                     /* bytes of an error text, with its NUL */

/* An attribute that every Resource without its key receives. */
struct tel_otlp_attribute {
        const char *key;                           /* borrowed */
        size_t key_len;
        const uint8_t *wire;                       /* the KeyValue with tag and length, as field 1 of Resource has it; borrowed */
        size_t wire_len;
};

struct tel_otlp_limits {
        size_t items_max;                          /* items in one record; a single larger cut unit travels alone */
        size_t bytes_max;                          /* bytes of one record; likewise */
};

/* What a record holds. An item is a span, a log record or a data point; a cut unit is a span, a log record or a metric. */
struct tel_otlp_record {
        size_t bytes;                              /* of the body that is about to be written */
        size_t items;
        uint64_t time_min_ns, time_max_ns;         /* realtime, over the items that carry a time; both 0 when none does */
};

struct tel_otlp_result {
        size_t records, items;                     /* handed on */
        size_t rejected;                           /* items left out, because they alone were malformed */
        char error[TEL_OTLP_ERROR_MAX];            /* the first rejection, or why the whole request was refused */
};

/* Asked for room for one record, in order. Sets *ret_space to record->bytes writable bytes. A negative answer ends the cut
 * and is returned from it. */
typedef int (*tel_otlp_record_fn)(void *ctx, const struct tel_otlp_record *record, uint8_t **ret_space);

/* Checks body (an Export*ServiceRequest of signal), and writes it as records of at most limits, each a request of its own,
 * adding to each Resource what it lacks of added. Resources without any item are left out: they carry no telemetry.
 * A malformed item is left out and counted; anything malformed around the items refuses the whole.
 * Returns 0, -EBADMSG (ret->error says what and where), or what fn answered. ret is always filled.
 * On failure the caller undoes the records it was given. */
int tel_otlp_cut(enum tel_signal signal, const uint8_t *body, size_t n, const struct tel_otlp_attribute *added, size_t n_added,
                 const struct tel_otlp_limits *limits, tel_otlp_record_fn fn, void *ctx, struct tel_otlp_result *ret);

/* One ResourceSpans, ResourceMetrics or ResourceLogs of a checked body. */
struct tel_otlp_resource {
        const uint8_t *at;                         /* its tag */
        const uint8_t *end;
        const uint8_t *attributes;                 /* the Resource message; NULL when absent */
        const uint8_t *attributes_end;
};

/* The next resource at *at, which moves behind it. Returns false at the end. For bodies that tel_otlp_cut() wrote. */
bool tel_otlp_resource_next(const uint8_t **at, const uint8_t *end, struct tel_otlp_resource *ret);
/* Items (spans, log records, data points) in [at, end), resources of a checked body. */
size_t tel_otlp_items(enum tel_signal signal, const uint8_t *at, const uint8_t *end);
/* Finds a string attribute of a resource. Returns its bytes, not terminated, or NULL. */
const char *tel_otlp_resource_get(const struct tel_otlp_resource *r, const char *key, size_t *ret_len);

/* Writes KeyValue{key, string value} as field number of its parent into out[0..n). Returns the bytes it takes (as snprintf
 * does: more than n means it did not fit and nothing is written). */
size_t tel_otlp_attribute_put(uint8_t *out, size_t n, uint32_t number, const char *key, const char *value);

/* Our own spans and logs, for programs that have no SDK: one request with one item. Strings are borrowed, NULL means absent. */
struct tel_attribute {
        const char *key, *value;
};

#define TEL_ATTRIBUTES_MAX 32                      /* of one own span or log */

struct tel_span {
        const char *service;                       /* service.name of the resource */
        const char *name;
        uint8_t trace_id[16], span_id[8], parent_span_id[8];  /* all zero: trace and span id are drawn at random, parent absent */
        int kind;                                  /* 1 internal, 2 server, 3 client, 4 producer, 5 consumer; 0 unspecified */
        uint64_t start_ns, end_ns;                 /* realtime */
        int status;                                /* 0 unset, 1 ok, 2 error */
        const char *status_message;
        const struct tel_attribute *attributes;
        size_t n_attributes;
};

struct tel_log {
        const char *service;
        const char *body;
        const char *level;                         /* trace debug info warn error fatal; NULL means info */
        uint64_t time_ns;                          /* realtime */
        const struct tel_attribute *attributes;
        size_t n_attributes;
};

/* Appends the Export*ServiceRequest to out. Returns 0, -EINVAL (unknown level, too many attributes), or tel_buf_reserve()'s errors. */
int tel_otlp_span_put(struct tel_buf *out, const struct tel_span *span, size_t max);
int tel_otlp_log_put(struct tel_buf *out, const struct tel_log *log, size_t max);
/* The severity number of a level name in any case ("warn", "warning", "err", ...), or 0. Source: OTLP logs data model, severity. */
int tel_otlp_severity(const char *level);
