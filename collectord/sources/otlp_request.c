/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#include "collectord/sources/inflate.h"
#include "collectord/sources/otlp_request.h"
#include "collectord/stats.h"
#include "libtelemetry/cursor.h"
#include "libtelemetry/otlp_json.h"

#define TYPE_PROTOBUF "application/x-protobuf"
#define TYPE_JSON "application/json"
#define ANSWER_MAX 2048                            /* bytes of an answer: an error text, every byte of it escaped as \u00xx, and what stands around */
#define RETRY_AFTER_S 1                            /* the spool and the ingest budget move within a request's time */

enum encoding { ENCODING_UNKNOWN, ENCODING_PROTOBUF, ENCODING_JSON };

/* google.rpc.Code, of google/rpc/code.proto. */
enum { CODE_INVALID_ARGUMENT = 3, CODE_DEADLINE_EXCEEDED = 4, CODE_NOT_FOUND = 5, CODE_RESOURCE_EXHAUSTED = 8, CODE_UNIMPLEMENTED = 12,
       CODE_UNAVAILABLE = 14 };

static const struct {
        unsigned status, code;
        const char *refused;                       /* the text when the server refuses by itself */
} statuses[] = {
        { 400, CODE_INVALID_ARGUMENT, NULL },
        { 404, CODE_NOT_FOUND, NULL },
        { 405, CODE_UNIMPLEMENTED, NULL },
        { 408, CODE_DEADLINE_EXCEEDED, "the request did not become whole in time" },
        { 413, CODE_RESOURCE_EXHAUSTED, "the body is too large" },
        { 415, CODE_INVALID_ARGUMENT, NULL },
        { 503, CODE_UNAVAILABLE, "too many connections or too much in receipt: come back" },
};

static const struct {
        const char *path, *rejected;               /* the name of partialSuccess' count in JSON */
} doors[] = {
        [TEL_TRACES] = { "/v1/traces", "rejectedSpans" },
        [TEL_METRICS] = { "/v1/metrics", "rejectedDataPoints" },
        [TEL_LOGS] = { "/v1/logs", "rejectedLogRecords" },
};

struct call {
        struct otlp_door *door;
        const struct http_view *view;
        struct http_reply *reply;
        uint64_t now_ns;
        enum tel_signal signal;                    /* TEL_SIGNALS: another path */
        enum encoding encoding;                    /* of the request as far as it is known, and of the answer */
};

static enum tel_signal signal_of(const char *path) {
        for (enum tel_signal s = 0; s < TEL_ARRAY_LEN(doors); s++)
                if (doors[s].path && strcmp(path, doors[s].path) == 0)
                        return s;
        return TEL_SIGNALS;
}

/* What the header says; parameters ("; charset=utf-8") do not matter. */
static enum encoding encoding_of_type(const char *type) {
        if (!type)
                return ENCODING_UNKNOWN;
        type += strspn(type, " \t");
        size_t n = strcspn(type, "; \t");
        if (n == strlen(TYPE_PROTOBUF) && strncasecmp(type, TYPE_PROTOBUF, n) == 0)
                return ENCODING_PROTOBUF;
        if (n == strlen(TYPE_JSON) && strncasecmp(type, TYPE_JSON, n) == 0)
                return ENCODING_JSON;
        return ENCODING_UNKNOWN;
}

/* A body whose first non-blank byte is '{' is JSON whatever the header says: curl -d sends it as a form. '{' begins no protobuf field (wire
 * type 3), nor do the blanks but one: "\n{" begins every request with a first resource of 123 bytes, so there the header counts. */
static enum encoding encoding_of_body(enum encoding type, const uint8_t *body, size_t n) {
        size_t i = 0;
        if (type == ENCODING_PROTOBUF && n > 0 && body[0] == '\n')
                return type;
        while (i < n && (body[i] == ' ' || body[i] == '\t' || body[i] == '\r' || body[i] == '\n'))
                i++;
        return i < n && body[i] == '{' ? ENCODING_JSON : type;
}

/* ---- Answers ---- */

/* Bytes for a message with a number as field 1 and a text as field 2: google.rpc.Status, and Export*PartialSuccess alike. */
static size_t number_text_len(uint64_t number, size_t text) {
        return 1 + tel_varint_len(number) + tel_bytes_head_len(2, text) + text;
}

static uint8_t *number_text_put(uint8_t *p, uint64_t number, const char *text, size_t n) {
        *p++ = 1 << 3 | TEL_WIRE_VARINT;
        p = tel_bytes_head_put(tel_varint_put(p, number), 2, n);
        memcpy(p, text, n);
        return p + n;
}

static int json_print(struct tel_buf *b, const char *fmt, ...) TEL_PRINTF(2, 3);
static int json_print(struct tel_buf *b, const char *fmt, ...) {
        char text[96];                             /* constants and a number */
        va_list args;
        va_start(args, fmt);
        int n = vsnprintf(text, sizeof(text), fmt, args);
        va_end(args);
        assert((size_t)n < sizeof(text));
        return tel_buf_append(b, text, (size_t)n, ANSWER_MAX);
}

/* Without memory the answer goes without a body: its status says the most. */
static void reply_body(struct http_reply *reply, enum encoding encoding, struct tel_buf *body) {
        reply->content_type = encoding == ENCODING_PROTOBUF ? TYPE_PROTOBUF : TYPE_JSON;
        reply->body = body;
}

/* An error, as google.rpc.Status in the request's encoding; JSON when that is unknown, for somebody may read it. */
static void reply_status(struct http_reply *reply, enum encoding encoding, unsigned status, const char *message) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *b = tel_buf_new(NULL, 0);
        size_t i = 0, n = strlen(message);
        int r = -ENOMEM;
        while (statuses[i].status != status && i < TEL_ARRAY_LEN(statuses) - 1)
                i++;
        if (b && encoding == ENCODING_PROTOBUF) {
                r = tel_buf_reserve(b, number_text_len(statuses[i].code, n), ANSWER_MAX);
                if (r == 0)
                        b->len = (size_t)(number_text_put(b->data, statuses[i].code, message, n) - b->data);
        } else if (b) {
                r = json_print(b, "{\"code\":%u,\"message\":", statuses[i].code);
                r = r < 0 ? r : tel_json_string_put(b, message, n, ANSWER_MAX);
                r = r < 0 ? r : json_print(b, "}");
        }
        reply->status = status;
        if (status == 503)
                reply->retry_after_s = RETRY_AFTER_S;
        reply_body(reply, encoding, r == 0 ? TEL_TAKE(b) : NULL);
}

/* Export*ServiceResponse: empty when all was taken, else with partial_success = 1 { rejected_... = 1, error_message = 2 }. */
static void reply_success(const struct call *c, const struct tel_otlp_result *result) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *b = tel_buf_new(NULL, 0);
        size_t n = strlen(result->error), partial = number_text_len(result->rejected, n);
        int r = b ? 0 : -ENOMEM;
        if (b && c->encoding == ENCODING_JSON && result->rejected == 0)
                r = json_print(b, "{}");
        else if (b && c->encoding == ENCODING_JSON) {
                r = json_print(b, "{\"partialSuccess\":{\"%s\":\"%zu\",\"errorMessage\":", doors[c->signal].rejected, result->rejected);
                r = r < 0 ? r : tel_json_string_put(b, result->error, n, ANSWER_MAX);
                r = r < 0 ? r : json_print(b, "}}");
        } else if (b && result->rejected > 0) {
                r = tel_buf_reserve(b, tel_bytes_head_len(1, partial) + partial, ANSWER_MAX);
                if (r == 0)
                        b->len = (size_t)(number_text_put(tel_bytes_head_put(b->data, 1, partial), result->rejected, result->error, n) - b->data);
        }
        c->reply->status = 200;
        reply_body(c->reply, c->encoding, r == 0 ? TEL_TAKE(b) : NULL);
}

/* ---- The way of a body ---- */

static void fail(const struct call *c, unsigned status, const char *message) {
        reply_status(c->reply, c->encoding, status, message);
        if (c->signal == TEL_SIGNALS || status == 408)
                return;
        if (status == 503)                         /* items are not known, so one for the request */
                stats.receiver[TRANSPORT_HTTP][c->signal].failed++;
        else
                stats.receiver[TRANSPORT_HTTP][c->signal].refused++;
}

/* What a body becomes on its way (unpacked, and from JSON) is not charged to the ingest budget: requests are answered one after the other, so there is one
 * of each at any time, and body_max bounds it. Charged, a large body would have to fit twice into the budget that receives it. */
static void fail_memory(const struct call *c) {
        fail(c, 503, "not enough memory: come back");
}

static void submit(const struct call *c, const uint8_t *body, size_t n) {
        const struct origin origin = { .source = SOURCE_OTLP };
        struct tel_otlp_result result;
        int r = pipeline_submit(c->door->pipeline, c->signal, body, n, &origin, c->now_ns, &result);
        if (r == 0 && (result.items > 0 || result.rejected == 0)) {
                stats.receiver[TRANSPORT_HTTP][c->signal].accepted += result.items;
                stats.receiver[TRANSPORT_HTTP][c->signal].refused += result.rejected;
                reply_success(c, &result);
        } else if (r == 0 || r == -EBADMSG)
                fail(c, 400, result.error);
        else
                fail(c, r == -EMSGSIZE ? 413 : 503, result.error);
        if (r == 0 && result.items == 0 && result.rejected > 1)        /* fail() counted one */
                stats.receiver[TRANSPORT_HTTP][c->signal].refused += result.rejected - 1;
}

static void submit_json(const struct call *c, const uint8_t *text, size_t n, struct tel_buf **owner) {
        char error[TEL_OTLP_ERROR_MAX] = "";
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = tel_buf_new(NULL, 0);
        int r = out ? tel_otlp_from_json(c->signal, (const char *)text, n, out, c->door->body_max, error) : -ENOMEM;
        *owner = tel_buf_unref(*owner);            /* text is done with */
        if (r == 0)
                submit(c, out->data, out->len);
        else if (r == -EBADMSG)
                fail(c, 400, error);
        else if (r == -EMSGSIZE)
                fail(c, 413, "the body is too large");
        else
                fail_memory(c);
}

/* n bytes that are no longer compressed; owner holds them, or NULL when the view does. */
static void on_plain(struct call *c, const uint8_t *body, size_t n, struct tel_buf **owner) {
        c->encoding = encoding_of_body(c->encoding, body, n);
        if (c->encoding == ENCODING_UNKNOWN)
                fail(c, 415, "expected Content-Type " TYPE_PROTOBUF " or " TYPE_JSON);
        else if (c->encoding == ENCODING_PROTOBUF)
                submit(c, body, n);                /* an empty one is a request without resources */
        else if (n == 0)
                fail(c, 400, "expected a JSON object, got an empty body");     /* as the OpenTelemetry Collector does */
        else
                submit_json(c, body, n, owner);
}

static void on_body(struct call *c, const uint8_t *body, size_t n) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *plain = NULL;
        if (n > c->door->body_max) {
                fail(c, 413, "the body is too large");
                return;
        }
        enum content_coding coding = content_coding_of(c->view->content_encoding, body, n);
        if (coding == CODING_UNKNOWN) {
                fail(c, 415, "expected Content-Encoding gzip, zstd, deflate or none");
                return;
        }
        if (coding == CODING_IDENTITY) {
                on_plain(c, body, n, &plain);
                return;
        }
        int r = inflate_body(coding, body, n, c->door->body_max, NULL, &plain);
        if (r == 0)
                on_plain(c, plain->data, plain->len, &plain);
        else if (r == -EBADMSG)
                fail(c, 400, "malformed or cut short: the compressed body");
        else if (r == -EMSGSIZE)
                fail(c, 413, "the body is too large once it is unpacked");
        else
                fail_memory(c);
}

void otlp_request(struct otlp_door *door, const struct http_view *view, uint64_t now_ns, struct http_reply *reply) {
        struct call c = { .door = door, .view = view, .reply = reply, .now_ns = now_ns, .signal = signal_of(view->path),
                          .encoding = encoding_of_type(view->content_type) };
        const struct tel_buf *body = view->body;
        if (c.signal == TEL_SIGNALS)
                fail(&c, 404, "expected /v1/traces, /v1/metrics or /v1/logs");
        else if (strcmp(view->method, "POST") != 0) {
                reply_status(reply, c.encoding, 405, "expected POST");
                reply->allow = "POST";
        } else {
                size_t n = body ? body->len : 0;
                stats.receiver[TRANSPORT_HTTP][c.signal].requests++;
                stats.receiver[TRANSPORT_HTTP][c.signal].bytes += n;
                on_body(&c, n ? body->data : (const uint8_t *)"", n);
        }
        stats_http_code(reply->status);
}

void otlp_refused(const struct http_view *view, struct http_reply *reply) {
        struct call c = { .view = view, .reply = reply, .signal = signal_of(view->path), .encoding = encoding_of_type(view->content_type) };
        unsigned status = reply->status;
        size_t i = 0;
        while (statuses[i].status != status && i < TEL_ARRAY_LEN(statuses) - 1)
                i++;
        fail(&c, status, statuses[i].refused ? statuses[i].refused : "refused");
        stats_http_code(status);
}
