/* SPDX-License-Identifier: Apache-2.0 */
/* Our own spans and logs, encoded by nanopb. The rest of otlp.h, which handles requests of others, is in otlp.c. */
#include <pb_encode.h>
#include <strings.h>
#include <sys/random.h>

#include "libtelemetry/otlp.h"
#include "libtelemetry/utf8.h"
#include "proto/otlp.pb.h"

/* OTLP takes only UTF-8 and receivers refuse what is not: every stray byte becomes this, so the rest of the text arrives. */
static const char replacement[] = "\xef\xbf\xbd";  /* U+FFFD */

/* The length of text once repaired. */
static size_t repaired_len(const char *text, size_t n) {
        if (tel_utf8_valid(text, n))
                return n;
        size_t len = 0;
        const uint8_t *p = (const uint8_t *)text, *end = p + n;
        while (p < end) {
                size_t k = tel_utf8_sequence(p, end);
                len += k ? k : sizeof(replacement) - 1;
                p += k ? k : 1;
        }
        return len;
}

static bool repaired_write(pb_ostream_t *s, const char *text, size_t n) {
        const uint8_t *p = (const uint8_t *)text, *end = p + n, *from = p;
        while (p < end) {
                size_t k = tel_utf8_sequence(p, end);
                if (k == 0) {
                        if (!pb_write(s, from, (size_t)(p - from)) ||
                            !pb_write(s, (const pb_byte_t *)replacement, sizeof(replacement) - 1))
                                return false;
                        from = p + 1;
                }
                p += k ? k : 1;
        }
        return pb_write(s, from, (size_t)(p - from));
}

/* Encode callback of every string field; arg is the text. */
static bool text_put(pb_ostream_t *s, const pb_field_t *field, void *const *arg) {
        const char *text = *arg;
        size_t n = strlen(text), len = repaired_len(text, n);
        if (!pb_encode_tag_for_field(s, field) || !pb_encode_varint(s, len))
                return false;
        return len == n ? pb_write(s, (const pb_byte_t *)text, n) : repaired_write(s, text, n);
}

/* The callback that writes text, or nothing when it is NULL. */
static pb_callback_t text_field(const char *text) {
        return (pb_callback_t){ .funcs.encode = text ? text_put : NULL, .arg = (void *)text };
}

struct attributes {
        const struct tel_attribute *at;
        size_t n;
};

/* Encode callback of every repeated KeyValue; arg is a struct attributes. */
static bool attributes_put(pb_ostream_t *s, const pb_field_t *field, void *const *arg) {
        const struct attributes *a = *arg;
        for (size_t i = 0; i < a->n; i++) {
                if (!a->at[i].key || !a->at[i].value)
                        continue;
                telemetry_otlp_KeyValue m = {
                        .key = text_field(a->at[i].key),
                        .has_value = true, .value.string_value = text_field(a->at[i].value),
                };
                if (!pb_encode_tag_for_field(s, field) || !pb_encode_submessage(s, telemetry_otlp_KeyValue_fields, &m))
                        return false;
        }
        return true;
}

static pb_callback_t attributes_field(const struct attributes *a) {
        return (pb_callback_t){ .funcs.encode = attributes_put, .arg = (void *)a };
}

/* Appends a message. Measured first, so that out grows once and holds whole messages only. */
static int message_put(struct tel_buf *out, const pb_msgdesc_t *fields, const void *message, size_t max) {
        size_t n = 0;
        bool done = pb_get_encoded_size(&n, fields, message);
        assert(done);                              /* a stream that only counts is never full */
        int r = tel_buf_reserve(out, n, max);
        if (r < 0)
                return r;
        pb_ostream_t s = pb_ostream_from_buffer(out->data + out->len, n);
        done = pb_encode(&s, fields, message);
        assert(done && s.bytes_written == n);
        out->len += n;
        return 0;
}

/* Copies an id of n bytes, or draws one when it is all zero, which OTLP holds for no id. */
static int id_fill(uint8_t *to, const uint8_t *from, size_t n) {
        static const uint8_t none[16];
        memcpy(to, from, n);
        while (memcmp(to, none, n) == 0)
                if (getrandom(to, n, 0) != (ssize_t)n)         /* at most 256 bytes come whole, signals or not */
                        return -errno;
        return 0;
}

int tel_otlp_span_put(struct tel_buf *out, const struct tel_span *span, size_t max) {
        if (span->n_attributes > TEL_ATTRIBUTES_MAX || span->kind < 0 || span->kind > 5 || span->status < 0 || span->status > 2)
                return -EINVAL;
        const struct attributes resource = { &(struct tel_attribute){ "service.name", span->service }, 1 };
        const struct attributes attributes = { span->attributes, span->n_attributes };
        telemetry_otlp_ExportTraceServiceRequest m = { .resource_spans_count = 1 };
        telemetry_otlp_ResourceSpans *rs = &m.resource_spans[0];
        rs->has_resource = span->service != NULL;
        rs->resource.attributes = attributes_field(&resource);
        rs->scope_spans_count = 1;
        rs->scope_spans[0].spans_count = 1;
        telemetry_otlp_Span *s = &rs->scope_spans[0].spans[0];
        s->trace_id.size = sizeof(span->trace_id);
        s->span_id.size = sizeof(span->span_id);
        int r = id_fill(s->trace_id.bytes, span->trace_id, sizeof(span->trace_id));
        if (r < 0)
                return r;
        r = id_fill(s->span_id.bytes, span->span_id, sizeof(span->span_id));
        if (r < 0)
                return r;
        if (memcmp(span->parent_span_id, (uint8_t[8]){ 0 }, 8) != 0) {
                s->parent_span_id.size = sizeof(span->parent_span_id);
                memcpy(s->parent_span_id.bytes, span->parent_span_id, sizeof(span->parent_span_id));
        }
        s->name = text_field(span->name);
        s->kind = (uint32_t)span->kind;
        s->start_time_unix_nano = span->start_ns;
        s->end_time_unix_nano = span->end_ns;
        s->attributes = attributes_field(&attributes);
        s->has_status = span->status != 0 || span->status_message;
        s->status.code = (uint32_t)span->status;
        s->status.message = text_field(span->status_message);
        return message_put(out, telemetry_otlp_ExportTraceServiceRequest_fields, &m, max);
}

int tel_otlp_log_put(struct tel_buf *out, const struct tel_log *log, size_t max) {
        const char *level = log->level ? log->level : "info";
        int severity = tel_otlp_severity(level);
        if (severity == 0 || log->n_attributes > TEL_ATTRIBUTES_MAX)
                return -EINVAL;
        const struct attributes resource = { &(struct tel_attribute){ "service.name", log->service }, 1 };
        const struct attributes attributes = { log->attributes, log->n_attributes };
        telemetry_otlp_ExportLogsServiceRequest m = { .resource_logs_count = 1 };
        telemetry_otlp_ResourceLogs *rl = &m.resource_logs[0];
        rl->has_resource = log->service != NULL;
        rl->resource.attributes = attributes_field(&resource);
        rl->scope_logs_count = 1;
        rl->scope_logs[0].log_records_count = 1;
        telemetry_otlp_LogRecord *l = &rl->scope_logs[0].log_records[0];
        l->time_unix_nano = log->time_ns;
        l->observed_time_unix_nano = log->time_ns;             /* who makes the record is who observes it */
        l->severity_number = (uint32_t)severity;
        l->severity_text = text_field(level);
        l->has_body = log->body != NULL;
        l->body.string_value = text_field(log->body);
        l->attributes = attributes_field(&attributes);
        return message_put(out, telemetry_otlp_ExportLogsServiceRequest_fields, &m, max);
}

int tel_otlp_severity(const char *level) {
        /* The first number of each range of the OTLP logs data model, then syslog's names as its appendix B maps them, then what loggers
         * call the same things. */
        static const struct {
                const char *name;
                int number;
        } levels[] = {
                { "trace", 1 }, { "debug", 5 }, { "info", 9 }, { "warn", 13 }, { "error", 17 }, { "fatal", 21 },
                { "informational", 9 }, { "notice", 10 }, { "warning", 13 }, { "err", 17 }, { "critical", 18 }, { "crit", 18 },
                { "alert", 19 }, { "emergency", 21 }, { "emerg", 21 },
                { "information", 9 }, { "dbg", 5 }, { "severe", 17 }, { "panic", 21 },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(levels); i++)
                if (strcasecmp(levels[i].name, level) == 0)
                        return levels[i].number;
        return 0;
}
