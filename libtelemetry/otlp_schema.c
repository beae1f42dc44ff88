/* SPDX-License-Identifier: Apache-2.0 */
#include "libtelemetry/otlp_schema.h"

static const struct tel_enum_name span_kinds[] = {
        { "SPAN_KIND_UNSPECIFIED", 0 }, { "SPAN_KIND_INTERNAL", 1 }, { "SPAN_KIND_SERVER", 2 }, { "SPAN_KIND_CLIENT", 3 },
        { "SPAN_KIND_PRODUCER", 4 }, { "SPAN_KIND_CONSUMER", 5 }, { NULL, 0 },
};
static const struct tel_enum_name status_codes[] = {
        { "STATUS_CODE_UNSET", 0 }, { "STATUS_CODE_OK", 1 }, { "STATUS_CODE_ERROR", 2 }, { NULL, 0 },
};
static const struct tel_enum_name temporalities[] = {
        { "AGGREGATION_TEMPORALITY_UNSPECIFIED", 0 }, { "AGGREGATION_TEMPORALITY_DELTA", 1 },
        { "AGGREGATION_TEMPORALITY_CUMULATIVE", 2 }, { NULL, 0 },
};
static const struct tel_enum_name severities[] = {
        { "SEVERITY_NUMBER_UNSPECIFIED", 0 },
        { "SEVERITY_NUMBER_TRACE", 1 }, { "SEVERITY_NUMBER_TRACE2", 2 }, { "SEVERITY_NUMBER_TRACE3", 3 }, { "SEVERITY_NUMBER_TRACE4", 4 },
        { "SEVERITY_NUMBER_DEBUG", 5 }, { "SEVERITY_NUMBER_DEBUG2", 6 }, { "SEVERITY_NUMBER_DEBUG3", 7 }, { "SEVERITY_NUMBER_DEBUG4", 8 },
        { "SEVERITY_NUMBER_INFO", 9 }, { "SEVERITY_NUMBER_INFO2", 10 }, { "SEVERITY_NUMBER_INFO3", 11 }, { "SEVERITY_NUMBER_INFO4", 12 },
        { "SEVERITY_NUMBER_WARN", 13 }, { "SEVERITY_NUMBER_WARN2", 14 }, { "SEVERITY_NUMBER_WARN3", 15 }, { "SEVERITY_NUMBER_WARN4", 16 },
        { "SEVERITY_NUMBER_ERROR", 17 }, { "SEVERITY_NUMBER_ERROR2", 18 }, { "SEVERITY_NUMBER_ERROR3", 19 }, { "SEVERITY_NUMBER_ERROR4", 20 },
        { "SEVERITY_NUMBER_FATAL", 21 }, { "SEVERITY_NUMBER_FATAL2", 22 }, { "SEVERITY_NUMBER_FATAL3", 23 }, { "SEVERITY_NUMBER_FATAL4", 24 },
        { NULL, 0 },
};

#define F(json_, kind_, ...) { .json = json_, .type = TEL_TYPE_##kind_, ##__VA_ARGS__ }
#define MSG(json_, message_, ...) { .json = json_, .type = TEL_TYPE_MESSAGE, .message = TEL_MSG_##message_, ##__VA_ARGS__ }
#define LIST(json_, message_, ...) MSG(json_, message_, .repeated = 1, ##__VA_ARGS__)
#define ATTRIBUTES LIST("attributes", KEY_VALUE)
#define TIME(json_) F(json_, FIXED64, .role = TEL_ROLE_TIME)
#define POINTS(message_) LIST("dataPoints", message_, .role = TEL_ROLE_POINTS)
#define VALUE(json_, kind_) F(json_, kind_, .presence = TEL_PRESENCE_ONEOF)
#define OPTIONAL(json_) F(json_, DOUBLE, .presence = TEL_PRESENCE_OPTIONAL)
#define ENUM(json_, names_) F(json_, ENUM, .names = names_)

const struct tel_schema_message tel_schema[TEL_MESSAGES] = {
        [TEL_MSG_TRACES_REQUEST] = { "ExportTraceServiceRequest", { [1] = LIST("resourceSpans", RESOURCE_SPANS) } },
        [TEL_MSG_RESOURCE_SPANS] = { "ResourceSpans", {
                [1] = MSG("resource", RESOURCE), [2] = LIST("scopeSpans", SCOPE_SPANS), [3] = F("schemaUrl", STRING) } },
        [TEL_MSG_SCOPE_SPANS] = { "ScopeSpans", {
                [1] = MSG("scope", SCOPE), [2] = LIST("spans", SPAN), [3] = F("schemaUrl", STRING) } },
        [TEL_MSG_SPAN] = { "Span", {
                [1] = F("traceId", TRACE_ID), [2] = F("spanId", SPAN_ID), [3] = F("traceState", STRING),
                [4] = F("parentSpanId", SPAN_ID), [5] = F("name", STRING), [6] = ENUM("kind", span_kinds),
                [7] = TIME("startTimeUnixNano"), [8] = TIME("endTimeUnixNano"), [9] = ATTRIBUTES,
                [10] = F("droppedAttributesCount", UINT32), [11] = LIST("events", EVENT),
                [12] = F("droppedEventsCount", UINT32), [13] = LIST("links", LINK),
                [14] = F("droppedLinksCount", UINT32), [15] = MSG("status", STATUS), [16] = F("flags", FIXED32) } },
        [TEL_MSG_EVENT] = { "Event", {
                [1] = F("timeUnixNano", FIXED64), [2] = F("name", STRING), [3] = ATTRIBUTES,
                [4] = F("droppedAttributesCount", UINT32) } },
        [TEL_MSG_LINK] = { "Link", {
                [1] = F("traceId", TRACE_ID), [2] = F("spanId", SPAN_ID), [3] = F("traceState", STRING), [4] = ATTRIBUTES,
                [5] = F("droppedAttributesCount", UINT32), [6] = F("flags", FIXED32) } },
        [TEL_MSG_STATUS] = { "Status", { [2] = F("message", STRING), [3] = ENUM("code", status_codes) } },

        [TEL_MSG_METRICS_REQUEST] = { "ExportMetricsServiceRequest", { [1] = LIST("resourceMetrics", RESOURCE_METRICS) } },
        [TEL_MSG_RESOURCE_METRICS] = { "ResourceMetrics", {
                [1] = MSG("resource", RESOURCE), [2] = LIST("scopeMetrics", SCOPE_METRICS), [3] = F("schemaUrl", STRING) } },
        [TEL_MSG_SCOPE_METRICS] = { "ScopeMetrics", {
                [1] = MSG("scope", SCOPE), [2] = LIST("metrics", METRIC), [3] = F("schemaUrl", STRING) } },
        [TEL_MSG_METRIC] = { "Metric", {
                [1] = F("name", STRING), [2] = F("description", STRING), [3] = F("unit", STRING),
                [5] = MSG("gauge", GAUGE, .presence = TEL_PRESENCE_ONEOF), [7] = MSG("sum", SUM, .presence = TEL_PRESENCE_ONEOF),
                [9] = MSG("histogram", HISTOGRAM, .presence = TEL_PRESENCE_ONEOF),
                [10] = MSG("exponentialHistogram", EXPONENTIAL_HISTOGRAM, .presence = TEL_PRESENCE_ONEOF),
                [11] = MSG("summary", SUMMARY, .presence = TEL_PRESENCE_ONEOF), [12] = LIST("metadata", KEY_VALUE) } },
        [TEL_MSG_GAUGE] = { "Gauge", { [1] = POINTS(NUMBER_POINT) } },
        [TEL_MSG_SUM] = { "Sum", {
                [1] = POINTS(NUMBER_POINT), [2] = ENUM("aggregationTemporality", temporalities), [3] = F("isMonotonic", BOOL) } },
        [TEL_MSG_HISTOGRAM] = { "Histogram", {
                [1] = POINTS(HISTOGRAM_POINT), [2] = ENUM("aggregationTemporality", temporalities) } },
        [TEL_MSG_EXPONENTIAL_HISTOGRAM] = { "ExponentialHistogram", {
                [1] = POINTS(EXPONENTIAL_POINT), [2] = ENUM("aggregationTemporality", temporalities) } },
        [TEL_MSG_SUMMARY] = { "Summary", { [1] = POINTS(SUMMARY_POINT) } },
        [TEL_MSG_NUMBER_POINT] = { "NumberDataPoint", {
                [2] = F("startTimeUnixNano", FIXED64), [3] = TIME("timeUnixNano"), [4] = VALUE("asDouble", DOUBLE),
                [5] = LIST("exemplars", EXEMPLAR), [6] = VALUE("asInt", SFIXED64), [7] = ATTRIBUTES, [8] = F("flags", UINT32) } },
        [TEL_MSG_HISTOGRAM_POINT] = { "HistogramDataPoint", {
                [2] = F("startTimeUnixNano", FIXED64), [3] = TIME("timeUnixNano"), [4] = F("count", FIXED64),
                [5] = OPTIONAL("sum"), [6] = F("bucketCounts", FIXED64, .repeated = 1),
                [7] = F("explicitBounds", DOUBLE, .repeated = 1), [8] = LIST("exemplars", EXEMPLAR), [9] = ATTRIBUTES,
                [10] = F("flags", UINT32), [11] = OPTIONAL("min"), [12] = OPTIONAL("max") } },
        [TEL_MSG_EXPONENTIAL_POINT] = { "ExponentialHistogramDataPoint", {
                [1] = ATTRIBUTES, [2] = F("startTimeUnixNano", FIXED64), [3] = TIME("timeUnixNano"), [4] = F("count", FIXED64),
                [5] = OPTIONAL("sum"), [6] = F("scale", SINT32), [7] = F("zeroCount", FIXED64),
                [8] = MSG("positive", BUCKETS), [9] = MSG("negative", BUCKETS), [10] = F("flags", UINT32),
                [11] = LIST("exemplars", EXEMPLAR), [12] = OPTIONAL("min"), [13] = OPTIONAL("max"),
                [14] = F("zeroThreshold", DOUBLE) } },
        [TEL_MSG_SUMMARY_POINT] = { "SummaryDataPoint", {
                [2] = F("startTimeUnixNano", FIXED64), [3] = TIME("timeUnixNano"), [4] = F("count", FIXED64),
                [5] = F("sum", DOUBLE), [6] = LIST("quantileValues", QUANTILE), [7] = ATTRIBUTES, [8] = F("flags", UINT32) } },
        [TEL_MSG_BUCKETS] = { "Buckets", {
                [1] = F("offset", SINT32), [2] = F("bucketCounts", UINT64, .repeated = 1) } },
        [TEL_MSG_QUANTILE] = { "ValueAtQuantile", { [1] = F("quantile", DOUBLE), [2] = F("value", DOUBLE) } },
        [TEL_MSG_EXEMPLAR] = { "Exemplar", {
                [2] = F("timeUnixNano", FIXED64), [3] = VALUE("asDouble", DOUBLE), [4] = F("spanId", SPAN_ID),
                [5] = F("traceId", TRACE_ID), [6] = VALUE("asInt", SFIXED64), [7] = LIST("filteredAttributes", KEY_VALUE) } },

        [TEL_MSG_LOGS_REQUEST] = { "ExportLogsServiceRequest", { [1] = LIST("resourceLogs", RESOURCE_LOGS) } },
        [TEL_MSG_RESOURCE_LOGS] = { "ResourceLogs", {
                [1] = MSG("resource", RESOURCE), [2] = LIST("scopeLogs", SCOPE_LOGS), [3] = F("schemaUrl", STRING) } },
        [TEL_MSG_SCOPE_LOGS] = { "ScopeLogs", {
                [1] = MSG("scope", SCOPE), [2] = LIST("logRecords", LOG_RECORD), [3] = F("schemaUrl", STRING) } },
        [TEL_MSG_LOG_RECORD] = { "LogRecord", {
                [1] = TIME("timeUnixNano"), [2] = ENUM("severityNumber", severities), [3] = F("severityText", STRING),
                [5] = MSG("body", ANY_VALUE), [6] = ATTRIBUTES, [7] = F("droppedAttributesCount", UINT32),
                [8] = F("flags", FIXED32), [9] = F("traceId", TRACE_ID), [10] = F("spanId", SPAN_ID),
                [11] = TIME("observedTimeUnixNano"), [12] = F("eventName", STRING) } },

        [TEL_MSG_RESOURCE] = { "Resource", {
                [1] = ATTRIBUTES, [2] = F("droppedAttributesCount", UINT32), [3] = LIST("entityRefs", ENTITY_REF) } },
        [TEL_MSG_SCOPE] = { "InstrumentationScope", {
                [1] = F("name", STRING), [2] = F("version", STRING), [3] = ATTRIBUTES, [4] = F("droppedAttributesCount", UINT32) } },
        [TEL_MSG_ENTITY_REF] = { "EntityRef", {
                [1] = F("schemaUrl", STRING), [2] = F("type", STRING), [3] = F("idKeys", STRING, .repeated = 1),
                [4] = F("descriptionKeys", STRING, .repeated = 1) } },
        [TEL_MSG_KEY_VALUE] = { "KeyValue", { [1] = F("key", STRING), [2] = MSG("value", ANY_VALUE) } },
        [TEL_MSG_ANY_VALUE] = { "AnyValue", {
                [1] = VALUE("stringValue", STRING), [2] = VALUE("boolValue", BOOL), [3] = VALUE("intValue", INT64),
                [4] = VALUE("doubleValue", DOUBLE), [5] = MSG("arrayValue", ARRAY_VALUE, .presence = TEL_PRESENCE_ONEOF),
                [6] = MSG("kvlistValue", KEY_VALUE_LIST, .presence = TEL_PRESENCE_ONEOF), [7] = VALUE("bytesValue", BYTES) } },
        [TEL_MSG_ARRAY_VALUE] = { "ArrayValue", { [1] = LIST("values", ANY_VALUE) } },
        [TEL_MSG_KEY_VALUE_LIST] = { "KeyValueList", { [1] = LIST("values", KEY_VALUE) } },
};

static const char *const signal_names[TEL_SIGNALS] = { "traces", "metrics", "logs", "profiles" };

enum tel_message tel_schema_request(enum tel_signal signal) {
        static const enum tel_message request[TEL_SIGNALS] = { TEL_MSG_TRACES_REQUEST, TEL_MSG_METRICS_REQUEST, TEL_MSG_LOGS_REQUEST };
        assert(signal < TEL_SIGNALS);
        return request[signal];
}

const char *tel_signal_name(enum tel_signal signal) {
        assert(signal < TEL_SIGNALS);
        return signal_names[signal];
}

enum tel_signal tel_signal_by_name(const char *name) {
        for (enum tel_signal s = 0; s < TEL_SIGNALS; s++)
                if (strcmp(signal_names[s], name) == 0)
                        return s;
        return TEL_SIGNALS;
}
