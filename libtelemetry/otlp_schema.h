/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* The messages of OTLP as one table: what the walker checks, and what the JSON reader and writer translate.
 * May touch: nothing; constant data.
 * Source: opentelemetry-proto 1.9, trace.proto, metrics.proto, logs.proto, common.proto, resource.proto (numbers, types);
 * OTLP specification, "JSON Protobuf Encoding" (names, hex ids, enums as integers). */
#include "libtelemetry/cursor.h"

enum tel_signal {
        TEL_TRACES,
        TEL_METRICS,
        TEL_LOGS,
        TEL_PROFILES,
        TEL_SIGNALS,                               /* how many there are */
};

enum tel_message {
        TEL_MSG_NONE,
        TEL_MSG_TRACES_REQUEST, TEL_MSG_RESOURCE_SPANS, TEL_MSG_SCOPE_SPANS, TEL_MSG_SPAN,
        TEL_MSG_EVENT, TEL_MSG_LINK, TEL_MSG_STATUS,
        TEL_MSG_METRICS_REQUEST, TEL_MSG_RESOURCE_METRICS, TEL_MSG_SCOPE_METRICS, TEL_MSG_METRIC,
        TEL_MSG_GAUGE, TEL_MSG_SUM, TEL_MSG_HISTOGRAM, TEL_MSG_EXPONENTIAL_HISTOGRAM, TEL_MSG_SUMMARY,
        TEL_MSG_NUMBER_POINT, TEL_MSG_HISTOGRAM_POINT, TEL_MSG_EXPONENTIAL_POINT, TEL_MSG_SUMMARY_POINT,
        TEL_MSG_BUCKETS, TEL_MSG_QUANTILE, TEL_MSG_EXEMPLAR,
        TEL_MSG_LOGS_REQUEST, TEL_MSG_RESOURCE_LOGS, TEL_MSG_SCOPE_LOGS, TEL_MSG_LOG_RECORD,
        TEL_MSG_RESOURCE, TEL_MSG_SCOPE, TEL_MSG_ENTITY_REF,
        TEL_MSG_KEY_VALUE, TEL_MSG_ANY_VALUE, TEL_MSG_ARRAY_VALUE, TEL_MSG_KEY_VALUE_LIST,
        TEL_MESSAGES,
};

/* How a value lies on the wire and in JSON. */
enum tel_type {
        TEL_TYPE_NONE,                             /* no such field: unknown, kept as it is */
        TEL_TYPE_STRING,                           /* UTF-8 */
        TEL_TYPE_BYTES,                            /* base64 in JSON */
        TEL_TYPE_TRACE_ID,                         /* 16 bytes or none; hex in JSON */
        TEL_TYPE_SPAN_ID,                          /* 8 bytes or none; hex in JSON */
        TEL_TYPE_BOOL,                             /* varint kinds from here */
        TEL_TYPE_INT32,
        TEL_TYPE_SINT32,                           /* zigzag */
        TEL_TYPE_UINT32,
        TEL_TYPE_ENUM,
        TEL_TYPE_INT64,                            /* a string in JSON, like every 64-bit integer */
        TEL_TYPE_UINT64,
        TEL_TYPE_FIXED32,
        TEL_TYPE_FIXED64,
        TEL_TYPE_SFIXED64,
        TEL_TYPE_DOUBLE,
        TEL_TYPE_MESSAGE,
};

static inline bool tel_type_is_number(uint8_t type) {
        return type >= TEL_TYPE_BOOL && type <= TEL_TYPE_DOUBLE;
}

/* The wire type of a kind of value that is one. */
static inline enum tel_wire tel_type_wire(uint8_t type) {
        static const uint8_t wires[] = {
                [TEL_TYPE_STRING] = TEL_WIRE_BYTES, [TEL_TYPE_BYTES] = TEL_WIRE_BYTES, [TEL_TYPE_TRACE_ID] = TEL_WIRE_BYTES,
                [TEL_TYPE_SPAN_ID] = TEL_WIRE_BYTES, [TEL_TYPE_MESSAGE] = TEL_WIRE_BYTES,
                [TEL_TYPE_BOOL] = TEL_WIRE_VARINT, [TEL_TYPE_INT32] = TEL_WIRE_VARINT, [TEL_TYPE_SINT32] = TEL_WIRE_VARINT,
                [TEL_TYPE_UINT32] = TEL_WIRE_VARINT, [TEL_TYPE_ENUM] = TEL_WIRE_VARINT, [TEL_TYPE_INT64] = TEL_WIRE_VARINT,
                [TEL_TYPE_UINT64] = TEL_WIRE_VARINT, [TEL_TYPE_FIXED32] = TEL_WIRE_FIXED32,
                [TEL_TYPE_FIXED64] = TEL_WIRE_FIXED64, [TEL_TYPE_SFIXED64] = TEL_WIRE_FIXED64, [TEL_TYPE_DOUBLE] = TEL_WIRE_FIXED64,
        };
        return wires[type];
}

enum tel_role {                                    /* what the walker does with a field besides checking it */
        TEL_ROLE_NONE,
        TEL_ROLE_TIME,                             /* fixed64 nanoseconds since 1970: widens the time range of the record */
        TEL_ROLE_POINTS,                           /* data points: the items of a metric */
};

enum tel_presence {                                /* whether a zero that is written says something */
        TEL_PRESENCE_NONE,                         /* zero is what absent means */
        TEL_PRESENCE_OPTIONAL,                     /* proto3 optional, or a message: zero and absent differ */
        TEL_PRESENCE_ONEOF,                        /* a member of the message's oneof: likewise, and of several the last one counts */
};

struct tel_enum_name {
        const char *name;
        int32_t value;
};

struct tel_schema_field {
        const char *json;                          /* lowerCamelCase; NULL where there is no such field */
        uint8_t type;                              /* enum tel_type */
        uint8_t message;                           /* enum tel_message, for TEL_TYPE_MESSAGE */
        uint8_t repeated;                          /* numbers may also lie packed */
        uint8_t role;                              /* enum tel_role */
        uint8_t presence;                          /* enum tel_presence */
        const struct tel_enum_name *names;         /* for TEL_TYPE_ENUM, ends with a NULL name */
};

#define TEL_SCHEMA_FIELDS 17                       /* the highest field number of OTLP is 16, Span.flags */

struct tel_schema_message {
        const char *name;
        struct tel_schema_field fields[TEL_SCHEMA_FIELDS];   /* by number; 0 is no field */
};

extern const struct tel_schema_message tel_schema[TEL_MESSAGES];

/* The request message of a signal; TEL_MSG_NONE for profiles, whose body is not OTLP. */
enum tel_message tel_schema_request(enum tel_signal signal);
/* "traces", "metrics", "logs", "profiles". */
const char *tel_signal_name(enum tel_signal signal);
/* The signal of a name, or TEL_SIGNALS. */
enum tel_signal tel_signal_by_name(const char *name);
