/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>

#include "collectord/control/tap.h"
#include "collectord/settings.h"
#include "libtelemetry/cursor.h"
#include "libtelemetry/otlp.h"
#include "libtelemetry/otlp_json.h"
#include "libtelemetry/utf8.h"

/* Field numbers that the walk needs; the tables of otlp_schema.c have them by name only. */
enum {
        RESOURCE_OF = 1,                           /* ResourceSpans, ... .resource */
        DOWN = 2,                                  /* ... .scope_spans, ScopeSpans.spans, and likewise for the other signals */
        SPAN_TRACE_ID = 1, SPAN_SPAN_ID = 2, SPAN_NAME = 5, SPAN_KIND = 6, SPAN_START = 7, SPAN_END = 8, SPAN_STATUS = 15,
        STATUS_MESSAGE = 2, STATUS_CODE = 3,
        LOG_TIME = 1, LOG_SEVERITY = 2, LOG_SEVERITY_TEXT = 3, LOG_BODY = 5, LOG_TRACE_ID = 9, LOG_SPAN_ID = 10,
                LOG_OBSERVED = 11, LOG_EVENT = 12,
        METRIC_NAME = 1, METRIC_UNIT = 3,
        POINT_TIME = 3, POINT_DOUBLE = 4, POINT_INT = 6, POINT_COUNT = 4, POINT_SUM = 5, POINT_MIN = 11, POINT_MAX = 12,
        KEY_VALUE_KEY = 1, KEY_VALUE_VALUE = 2,
        ANY_STRING = 1, ANY_BOOL = 2, ANY_INT = 3, ANY_DOUBLE = 4, ANY_ARRAY = 5, ANY_LIST = 6, ANY_BYTES = 7,
        LIST_VALUES = 1,
};
#define SHOWN_DEPTH_MAX 4                          /* nested values deeper than this are shown as an ellipsis: a line is for reading */
#define PADDED_LENGTH 4                            /* bytes of a length that is filled in later: 256 MiB, far above a record */
#define STOP (-ECANCELED)                          /* from the visitor: enough for now; never leaves this file */

struct bytes {
        const uint8_t *at, *end;
};

/* ---- reading ---- */

/* The last field of that number and wire type, which is the one that counts. */
static bool field_find(struct bytes m, uint32_t number, enum tel_wire wire, struct tel_field *ret) {
        struct tel_field f;
        bool found = false;
        for (const uint8_t *p = m.at; p < m.end && tel_field_get(p, m.end, &f) == 0; p = f.end)
                if (f.number == number && f.wire == wire) {
                        *ret = f;
                        found = true;
                }
        return found;
}

/* The bytes of a string, bytes or message field; empty when it is absent. */
static struct bytes field_bytes(struct bytes m, uint32_t number) {
        struct tel_field f;
        return field_find(m, number, TEL_WIRE_BYTES, &f) ? (struct bytes){ f.at, f.end } : (struct bytes){ NULL, NULL };
}

static uint64_t field_number(struct bytes m, uint32_t number, enum tel_wire wire) {
        struct tel_field f;
        return field_find(m, number, wire, &f) ? f.value : 0;
}

static size_t bytes_len(struct bytes b) {
        return (size_t)(b.end - b.at);
}

static bool bytes_are(struct bytes b, const char *text, size_t n) {
        return bytes_len(b) == n && (n == 0 || memcmp(b.at, text, n) == 0);
}

static double double_of(uint64_t bits) {
        double d;
        memcpy(&d, &bits, sizeof(d));
        return d;
}

/* The value of an AnyValue: the last member of its oneof. */
static bool any_get(struct bytes any, struct tel_field *ret) {
        struct tel_field f;
        bool found = false;
        for (const uint8_t *p = any.at; p < any.end && tel_field_get(p, any.end, &f) == 0; p = f.end)
                if (f.number <= ANY_BYTES) {
                        *ret = f;
                        found = true;
                }
        return found;
}

static uint32_t attributes_number(enum tel_message message) {
        switch (message) {
        case TEL_MSG_RESOURCE:
        case TEL_MSG_EXPONENTIAL_POINT:
                return 1;
        case TEL_MSG_LOG_RECORD:
                return 6;
        case TEL_MSG_NUMBER_POINT:
        case TEL_MSG_SUMMARY_POINT:
                return 7;
        case TEL_MSG_SPAN:
        case TEL_MSG_HISTOGRAM_POINT:
                return 9;
        default:
                return 0;
        }
}

/* The AnyValue of the attribute key in a message. */
static bool attribute_find(enum tel_message message, struct bytes m, const char *key, struct bytes *ret) {
        struct tel_field f;
        size_t n = strlen(key);
        for (const uint8_t *p = m.at; p < m.end && tel_field_get(p, m.end, &f) == 0; p = f.end) {
                struct bytes kv = { f.at, f.end };
                if (f.number != attributes_number(message) || f.wire != TEL_WIRE_BYTES ||
                    !bytes_are(field_bytes(kv, KEY_VALUE_KEY), key, n))
                        continue;
                *ret = field_bytes(kv, KEY_VALUE_VALUE);
                return true;
        }
        return false;
}

/* ---- writing text ---- */

struct text {                                      /* errors stick, so that a line is written without asking after each word */
        struct tel_buf *out;
        size_t max;                                /* bytes out may hold */
        int error;
};

static void put(struct text *t, const void *bytes, size_t n) {
        if (t->error == 0 && n > 0)
                t->error = tel_buf_append(t->out, bytes, n, t->max);
}

static void put_string(struct text *t, const char *s) {
        put(t, s, strlen(s));
}

TEL_PRINTF(2, 3) static void put_format(struct text *t, const char *format, ...) {
        char out[128];                             /* numbers and short words only */
        va_list args;
        va_start(args, format);
        vsnprintf(out, sizeof(out), format, args);
        va_end(args);
        put_string(t, out);
}

/* Text from outside, at most max bytes of it. What a terminal would obey instead of showing (C0, DEL, C1) is
 * written as an escape. Returns the columns it takes, near enough for padding: one per character. */
static size_t put_shown(struct text *t, struct bytes b, size_t max, bool quoted) {
        static const char *const named[] = { ['\n'] = "\\n", ['\r'] = "\\r", ['\t'] = "\\t" };
        const uint8_t *limit = bytes_len(b) > max ? b.at + max : b.end;
        size_t columns = 0;
        const uint8_t *p = b.at, *plain = b.at;
        while (p < limit) {
                size_t n = tel_utf8_sequence(p, b.end);
                bool control = *p < 0x20 || *p == 0x7f || (n == 2 && p[0] == 0xc2 && p[1] < 0xa0);
                if (n > 0 && !control && !(quoted && (*p == '"' || *p == '\\'))) {
                        p += n;
                        columns++;
                        continue;
                }
                put(t, plain, (size_t)(p - plain));
                if (*p < TEL_ARRAY_LEN(named) && named[*p])
                        put_string(t, named[*p]);
                else if (*p == '"' || *p == '\\')
                        put_format(t, "\\%c", *p);
                else
                        put_format(t, "\\x%02x", n == 2 ? p[1] : *p);
                columns += 4;
                p += n > 0 ? n : 1;
                plain = p;
        }
        put(t, plain, (size_t)(p - plain));
        if (p < b.end)
                put_string(t, "…");
        return columns;
}

/* In quotes where a reader could not tell where it ends. */
static void put_word(struct text *t, struct bytes b, size_t max) {
        bool quote = b.at == b.end;
        for (const uint8_t *p = b.at; p < b.end && !quote; p++)
                quote = *p <= ' ' || strchr("\"=,{}[]", *p) != NULL;
        put_string(t, quote ? "\"" : "");
        put_shown(t, b, max, quote);
        put_string(t, quote ? "\"" : "");
}

static void put_hex(struct text *t, struct bytes b, size_t max) {
        const uint8_t *limit = bytes_len(b) > max ? b.at + max : b.end;
        for (const uint8_t *p = b.at; p < limit; p++)
                put_format(t, "%02x", *p);
        if (limit < b.end)
                put_string(t, "…");
}

static void put_double(struct text *t, double v) {
        char out[32];
        snprintf(out, sizeof(out), "%.15g", v);
        if (strtod(out, NULL) != v)                /* 15 digits are what people write; 17 when they do not read back */
                snprintf(out, sizeof(out), "%.17g", v);
        put_string(t, out);
}

static void put_any(struct text *t, struct bytes any, size_t max, bool bare, unsigned depth);

/* [a, b] and {key=value, key=value}; at most max bytes, near enough. */
static void put_list(struct text *t, struct bytes list, size_t max, bool keys, unsigned depth) {
        struct tel_field f;
        size_t start = t->out->len;
        const char *before = "";
        put_string(t, keys ? "{" : "[");
        for (const uint8_t *p = list.at; p < list.end && tel_field_get(p, list.end, &f) == 0 && t->error == 0; p = f.end) {
                struct bytes element = { f.at, f.end };
                if (f.number != LIST_VALUES || f.wire != TEL_WIRE_BYTES)
                        continue;
                put_string(t, before);
                before = ", ";
                if (t->out->len - start >= max || depth >= SHOWN_DEPTH_MAX) {
                        put_string(t, "…");
                        break;
                }
                if (keys) {
                        put_word(t, field_bytes(element, KEY_VALUE_KEY), TAP_VALUE_MAX);
                        put_string(t, "=");
                        element = field_bytes(element, KEY_VALUE_VALUE);
                }
                put_any(t, element, TAP_VALUE_MAX, false, depth + 1);
        }
        put_string(t, keys ? "}" : "]");
}

/* bare: a string stands without quotes, because nothing follows that it could run into. */
static void put_any(struct text *t, struct bytes any, size_t max, bool bare, unsigned depth) {
        struct tel_field f = { 0 };
        if (!any_get(any, &f))
                return;
        struct bytes b = { f.at, f.end };
        switch (f.number) {
        case ANY_STRING:
                if (bare)
                        put_shown(t, b, max, false);
                else
                        put_word(t, b, max);
                break;
        case ANY_BOOL:
                put_string(t, f.value ? "true" : "false");
                break;
        case ANY_INT:
                put_format(t, "%" PRId64, (int64_t)f.value);
                break;
        case ANY_DOUBLE:
                put_double(t, double_of(f.value));
                break;
        case ANY_ARRAY:
        case ANY_LIST:
                put_list(t, b, max, f.number == ANY_LIST, depth);
                break;
        case ANY_BYTES:
                put_hex(t, b, max);
                break;
        }
}

/* ---- the walk ---- */

struct item {                                      /* where the visitor is */
        const struct record *record;
        struct bytes resource;                     /* Resource */
        struct bytes metric;                       /* Metric, of a point */
        struct bytes at;                           /* Span, LogRecord or point */
        enum tel_message message;                  /* of at */
};
struct visit {
        struct item item;
        int (*fn)(void *ctx, const struct item *item); /* 1: keep, 0: leave out; negative ends the walk */
        void *ctx;
        struct text *kept;                         /* what is kept, as protobuf; NULL: nobody wants it */
};

/* The message in field f of message, when it is on the way to the items; else TEL_MSG_NONE. */
static enum tel_message way_down(enum tel_message message, const struct tel_field *f) {
        if (f->wire != TEL_WIRE_BYTES || f->number >= TEL_SCHEMA_FIELDS)
                return TEL_MSG_NONE;
        const struct tel_schema_field *field = &tel_schema[message].fields[f->number];
        switch (message) {
        case TEL_MSG_TRACES_REQUEST:
        case TEL_MSG_METRICS_REQUEST:
        case TEL_MSG_LOGS_REQUEST:
                return field->message;
        case TEL_MSG_RESOURCE_SPANS:
        case TEL_MSG_RESOURCE_METRICS:
        case TEL_MSG_RESOURCE_LOGS:
        case TEL_MSG_SCOPE_SPANS:
        case TEL_MSG_SCOPE_METRICS:
        case TEL_MSG_SCOPE_LOGS:
                return f->number == DOWN ? field->message : TEL_MSG_NONE;
        case TEL_MSG_METRIC:
                return field->presence == TEL_PRESENCE_ONEOF ? field->message : TEL_MSG_NONE;
        default:
                return field->role == TEL_ROLE_POINTS ? field->message : TEL_MSG_NONE;
        }
}

static bool is_item(enum tel_message message) {
        return message == TEL_MSG_SPAN || message == TEL_MSG_LOG_RECORD || message == TEL_MSG_NUMBER_POINT ||
               message == TEL_MSG_HISTOGRAM_POINT || message == TEL_MSG_EXPONENTIAL_POINT || message == TEL_MSG_SUMMARY_POINT;
}

static int visit_message(struct visit *v, enum tel_message message, struct bytes m);

/* A message with items below: its head gets a length of fixed width that is filled in behind. Returns 1 when
 * something in it was kept. */
static int visit_inner(struct visit *v, enum tel_message message, const struct tel_field *f) {
        size_t head = 0;
        if (v->kept) {
                uint8_t tag[TEL_VARINT_MAX + PADDED_LENGTH] = { 0 };
                uint8_t *end = tel_varint_put(tag, (uint64_t)f->number << 3 | TEL_WIRE_BYTES);
                head = v->kept->out->len;
                put(v->kept, tag, (size_t)(end - tag) + PADDED_LENGTH);
        }
        size_t body = v->kept ? v->kept->out->len : 0;
        int r = visit_message(v, message, (struct bytes){ f->at, f->end });
        if (!v->kept || v->kept->error < 0)
                return r;
        if (r == 0) {
                v->kept->out->len = head;
                return 0;
        }
        size_t n = v->kept->out->len - body;
        uint8_t *length = v->kept->out->data + body - PADDED_LENGTH;
        for (unsigned i = 0; i < PADDED_LENGTH; i++)
                length[i] = (uint8_t)((n >> 7 * i & 0x7f) | (i + 1 < PADDED_LENGTH ? 0x80 : 0));
        return r;
}

/* Recurses at most six deep: request, resource, scope, metric, data, point. Returns 1 when an item in m was kept,
 * 0 when none was, or an error. */
static int visit_message(struct visit *v, enum tel_message message, struct bytes m) {
        struct tel_field f;
        int any = 0;
        if (message == TEL_MSG_RESOURCE_SPANS || message == TEL_MSG_RESOURCE_METRICS || message == TEL_MSG_RESOURCE_LOGS)
                v->item.resource = field_bytes(m, RESOURCE_OF);
        if (message == TEL_MSG_METRIC)
                v->item.metric = m;
        for (const uint8_t *p = m.at; p < m.end; p = f.end) {
                int r = tel_field_get(p, m.end, &f);
                if (r < 0)
                        return r;
                enum tel_message below = way_down(message, &f);
                if (is_item(below)) {
                        v->item.at = (struct bytes){ f.at, f.end };
                        v->item.message = below;
                        r = v->fn(v->ctx, &v->item);
                } else if (below != TEL_MSG_NONE) {
                        r = visit_inner(v, below, &f);
                }
                if (r < 0)
                        return r;
                any |= r;
                if (v->kept && (below == TEL_MSG_NONE || (is_item(below) && r > 0)))
                        put(v->kept, p, (size_t)(f.end - p));
                if (v->kept && v->kept->error < 0)
                        return v->kept->error;
        }
        return any;
}

/* ---- the filter ---- */

int tap_filter_add(struct tap_filter *f, const char *word, char *reterr) {
        size_t key = strcspn(word, "=~!");
        const char *rest = word + key;
        struct tap_term t = { .operator = *rest == '=' ? TAP_EQUAL : *rest == '~' ? TAP_CONTAINS : TAP_NOT_EQUAL };
        if (key == 0 || *rest == '\0' || (*rest == '!' && rest[1] != '=')) {
                snprintf(reterr, TAP_ERROR_MAX,
                         "'%.60s' is no term of a filter; expected key=value, key!=value or key~text", word);
                return -EINVAL;
        }
        rest += *rest == '!' ? 2 : 1;
        t.value_len = strlen(rest);
        if (f->n == TAP_TERMS_MAX || key + t.value_len + 2 > sizeof(f->text) - f->used) {
                snprintf(reterr, TAP_ERROR_MAX, "a filter holds at most %d terms and %d bytes", TAP_TERMS_MAX,
                         TAP_FILTER_MAX);
                return -E2BIG;
        }
        t.key = memcpy(f->text + f->used, word, key);
        t.value = memcpy(f->text + f->used + key + 1, rest, t.value_len);
        f->text[f->used + key] = '\0';
        f->text[f->used + key + 1 + t.value_len] = '\0';
        f->used += key + t.value_len + 2;
        f->terms[f->n++] = t;
        return 0;
}

static bool text_matches(const struct tap_term *t, struct bytes b) {
        if (t->operator == TAP_CONTAINS)
                return t->value_len == 0 || (b.at && memmem(b.at, bytes_len(b), t->value, t->value_len) != NULL);
        return bytes_are(b, t->value, t->value_len) == (t->operator == TAP_EQUAL);
}

static bool string_matches(const struct tap_term *t, const char *s) {
        return text_matches(t, (struct bytes){ (const uint8_t *)s, (const uint8_t *)s + strlen(s) });
}

static bool hex_matches(const struct tap_term *t, struct bytes id) {
        char hex[2 * 16 + 1] = "";
        for (size_t i = 0; i < TEL_MIN(bytes_len(id), (size_t)16); i++)
                snprintf(hex + 2 * i, 3, "%02x", id.at[i]);
        bool equal = strcasecmp(hex, t->value) == 0;
        return t->operator == TAP_CONTAINS ? strcasestr(hex, t->value) != NULL : equal == (t->operator == TAP_EQUAL);
}

/* A string is compared byte by byte, a double by its value, everything else as it is shown. */
static bool any_matches(const struct tap_term *t, struct bytes any) {
        struct tel_field f;
        double wanted;
        if (!any_get(any, &f))
                return text_matches(t, (struct bytes){ NULL, NULL });
        if (f.number == ANY_STRING)
                return text_matches(t, (struct bytes){ f.at, f.end });
        if (f.number == ANY_DOUBLE && t->operator != TAP_CONTAINS && tel_json_double(t->value, t->value_len, &wanted) == 0)
                return (double_of(f.value) == wanted) == (t->operator == TAP_EQUAL);
        uint8_t space[2 * TAP_BODY_MAX];           /* a longer value is compared as far as it is shown */
        struct tel_buf scratch = { .data = space, .capacity = sizeof(space), .refs = 1 };
        struct text shown = { .out = &scratch, .max = sizeof(space) };
        put_any(&shown, any, TAP_BODY_MAX, true, 0);
        return text_matches(t, (struct bytes){ space, space + scratch.len });
}

/* The first number of the range of four that n is in: INFO2 is INFO. Source: OTLP logs data model, SeverityNumber. */
static uint64_t severity_range(uint64_t n) {
        return n == 0 || n > 24 ? 0 : (n - 1) / 4 * 4 + 1;
}

static const char *severity_name(uint64_t n) {
        static const char *const names[] = { "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL" };
        return n == 0 || n > 24 ? "-" : names[(n - 1) / 4];
}

/* level=warn holds for every spelling of it, by the number; a record without a number is judged by its text. */
static bool level_matches(const struct tap_term *t, struct bytes log) {
        uint64_t number = field_number(log, LOG_SEVERITY, TEL_WIRE_VARINT);
        struct bytes text = field_bytes(log, LOG_SEVERITY_TEXT);
        uint64_t wanted = (uint64_t)tel_otlp_severity(t->value);
        char shown[32];
        snprintf(shown, sizeof(shown), "%.*s", text.at ? (int)TEL_MIN(bytes_len(text), sizeof(shown) - 1) : 0,
                 text.at ? (const char *)text.at : "");
        if (t->operator == TAP_CONTAINS)
                return strcasestr(*shown ? shown : severity_name(number), t->value) != NULL;
        if (severity_range(number) == 0)
                number = (uint64_t)tel_otlp_severity(shown);
        bool equal = wanted != 0 ? severity_range(number) == severity_range(wanted) : strcasecmp(shown, t->value) == 0;
        return equal == (t->operator == TAP_EQUAL);
}

static const char *status_name(struct bytes span) {
        static const char *const names[] = { "unset", "ok", "error" };
        uint64_t code = field_number(field_bytes(span, SPAN_STATUS), STATUS_CODE, TEL_WIRE_VARINT);
        return code < TEL_ARRAY_LEN(names) ? names[code] : "unknown";
}

static const char *source_name(const struct record *r) {
        return r->source < SOURCE_KINDS ? source_kind_names[r->source] : "unknown";
}

static struct bytes item_name(const struct item *i) {
        if (i->message == TEL_MSG_SPAN)
                return field_bytes(i->at, SPAN_NAME);
        return i->message == TEL_MSG_LOG_RECORD ? field_bytes(i->at, LOG_EVENT) : field_bytes(i->metric, METRIC_NAME);
}

/* The words with a meaning of their own. Returns whether key is one for this kind of item; else it names an
 * attribute. */
static bool pseudo_matches(const struct tap_term *t, const struct item *i, bool *ret) {
        bool span = i->message == TEL_MSG_SPAN, log = i->message == TEL_MSG_LOG_RECORD;
        if (strcmp(t->key, "name") == 0)
                *ret = text_matches(t, item_name(i));
        else if (strcmp(t->key, "source") == 0)
                *ret = string_matches(t, source_name(i->record));
        else if (log && (strcmp(t->key, "level") == 0 || strcmp(t->key, "severity") == 0))
                *ret = level_matches(t, i->at);
        else if (log && strcmp(t->key, "body") == 0)
                *ret = any_matches(t, field_bytes(i->at, LOG_BODY));
        else if (span && strcmp(t->key, "status") == 0)
                *ret = string_matches(t, status_name(i->at));
        else if ((span || log) && strcmp(t->key, "trace_id") == 0)
                *ret = hex_matches(t, field_bytes(i->at, span ? SPAN_TRACE_ID : LOG_TRACE_ID));
        else if ((span || log) && strcmp(t->key, "span_id") == 0)
                *ret = hex_matches(t, field_bytes(i->at, span ? SPAN_SPAN_ID : LOG_SPAN_ID));
        else
                return false;
        return true;
}

static bool term_holds(const struct tap_term *t, const struct item *i) {
        struct bytes value;
        bool holds;
        if (pseudo_matches(t, i, &holds))
                return holds;
        bool service = strcmp(t->key, "service") == 0;
        if ((!service && attribute_find(i->message, i->at, t->key, &value)) ||
            attribute_find(TEL_MSG_RESOURCE, i->resource, service ? "service.name" : t->key, &value))
                return any_matches(t, value);
        return t->operator == TAP_NOT_EQUAL;       /* what is not there equals nothing and contains nothing */
}

static bool filter_holds(const struct tap_filter *f, const struct item *i) {
        for (size_t k = 0; k < f->n; k++)
                if (!term_holds(&f->terms[k], i))
                        return false;
        return true;
}

/* ---- one line an item ---- */

static void put_time(struct text *t, uint64_t ns) {
        char out[40];
        time_t s = (time_t)(ns / TEL_NS_PER_S);
        struct tm tm;
        if (!gmtime_r(&s, &tm))
                return;
        size_t n = strftime(out, sizeof(out), "%Y-%m-%dT%H:%M:%S", &tm);
        put(t, out, n);
        put_format(t, ".%03uZ ", (unsigned)(ns % TEL_NS_PER_S / TEL_NS_PER_MS));
}

static void put_duration(struct text *t, uint64_t ns) {
        if (ns < 1000)
                put_format(t, "%" PRIu64 "ns", ns);
        else if (ns < TEL_NS_PER_MS)
                put_format(t, "%.3gµs", (double)ns / 1e3);
        else if (ns < TEL_NS_PER_S)
                put_format(t, "%.3gms", (double)ns / 1e6);
        else
                put_format(t, "%.*fs", ns < 100 * TEL_NS_PER_S ? 2 : 0, (double)ns / 1e9);
}

/* Attributes as key=value, each with before in front, until the line that began at start is long enough. */
static void put_attributes(struct text *t, const struct item *i, size_t start, const char *first, const char *before) {
        struct tel_field f;
        for (const uint8_t *p = i->at.at; p < i->at.end && tel_field_get(p, i->at.end, &f) == 0 &&
             t->error == 0; p = f.end) {
                struct bytes kv = { f.at, f.end };
                if (f.number != attributes_number(i->message) || f.wire != TEL_WIRE_BYTES)
                        continue;
                put_string(t, first);
                first = before;
                if (t->out->len - start >= TAP_LINE_MAX) {
                        put_string(t, "…");
                        return;
                }
                put_word(t, field_bytes(kv, KEY_VALUE_KEY), TAP_VALUE_MAX);
                put_string(t, "=");
                put_any(t, field_bytes(kv, KEY_VALUE_VALUE), TAP_VALUE_MAX, false, 0);
        }
}

static void put_head(struct text *t, const struct item *i, uint64_t time_ns, const char *what) {
        struct bytes service = { NULL, NULL };
        put_time(t, time_ns != 0 ? time_ns : i->record->received_ns);
        put_format(t, "%-6s ", what);
        struct tel_field f;
        if (attribute_find(TEL_MSG_RESOURCE, i->resource, "service.name", &service) && any_get(service, &f) &&
            f.number == ANY_STRING)
                service = (struct bytes){ f.at, f.end };
        else
                service = (struct bytes){ (const uint8_t *)"-", (const uint8_t *)"-" + 1 };
        size_t columns = put_shown(t, service, 64, false);
        put_format(t, "%*s", columns < 16 ? (int)(17 - columns) : 1, "");
}

static void put_ids(struct text *t, struct bytes trace, struct bytes span) {
        if (bytes_len(trace) > 0) {
                put_string(t, " trace_id=");
                put_hex(t, trace, 16);
        }
        if (bytes_len(span) > 0) {
                put_string(t, " span_id=");
                put_hex(t, span, 8);
        }
}

static void put_span(struct text *t, const struct item *i, size_t start) {
        static const char *const kinds[] = { NULL, "internal", "server", "client", "producer", "consumer" };
        uint64_t from = field_number(i->at, SPAN_START, TEL_WIRE_FIXED64),
                to = field_number(i->at, SPAN_END, TEL_WIRE_FIXED64);
        uint64_t kind = field_number(i->at, SPAN_KIND, TEL_WIRE_VARINT);
        struct bytes message = field_bytes(field_bytes(i->at, SPAN_STATUS), STATUS_MESSAGE);
        put_head(t, i, from, "span");
        put_word(t, item_name(i), TAP_VALUE_MAX);
        put_string(t, " ");
        if (to >= from && from != 0)
                put_duration(t, to - from);
        else
                put_string(t, "-");
        put_format(t, " %s", status_name(i->at));
        if (bytes_len(message) > 0) {
                put_string(t, " ");
                put_word(t, message, TAP_VALUE_MAX);
        }
        if (kind < TEL_ARRAY_LEN(kinds) && kinds[kind])
                put_format(t, " kind=%s", kinds[kind]);
        put_ids(t, field_bytes(i->at, SPAN_TRACE_ID), field_bytes(i->at, SPAN_SPAN_ID));
        put_attributes(t, i, start, " ", " ");
}

static void put_log(struct text *t, const struct item *i, size_t start) {
        uint64_t time = field_number(i->at, LOG_TIME, TEL_WIRE_FIXED64),
                number = field_number(i->at, LOG_SEVERITY, TEL_WIRE_VARINT);
        struct bytes level = field_bytes(i->at, LOG_SEVERITY_TEXT), event = item_name(i);
        put_head(t, i, time != 0 ? time : field_number(i->at, LOG_OBSERVED, TEL_WIRE_FIXED64), "log");
        if (number == 0 && bytes_len(level) > 0)
                put_word(t, level, 16);
        else
                put_format(t, "%-5s", severity_name(number));
        put_string(t, " ");
        if (bytes_len(event) > 0) {
                put_string(t, "[");
                put_shown(t, event, TAP_VALUE_MAX, false);
                put_string(t, "] ");
        }
        put_any(t, field_bytes(i->at, LOG_BODY), TAP_BODY_MAX, true, 0);
        put_ids(t, field_bytes(i->at, LOG_TRACE_ID), field_bytes(i->at, LOG_SPAN_ID));
        put_attributes(t, i, start, " ", " ");
}

static void put_part(struct text *t, const struct item *i, uint32_t number, const char *name) {
        struct tel_field f;
        if (!field_find(i->at, number, TEL_WIRE_FIXED64, &f))
                return;
        put_string(t, name);
        put_double(t, double_of(f.value));
}

static void put_point(struct text *t, const struct item *i, size_t start) {
        bool number = i->message == TEL_MSG_NUMBER_POINT, exponential = i->message == TEL_MSG_EXPONENTIAL_POINT;
        struct bytes unit = field_bytes(i->metric, METRIC_UNIT);
        struct tel_field f;
        put_head(t, i, field_number(i->at, POINT_TIME, TEL_WIRE_FIXED64), "metric");
        put_word(t, item_name(i), TAP_VALUE_MAX);
        size_t before = t->out->len;
        put_attributes(t, i, start, "{", ", ");
        put_string(t, t->out->len > before ? "}" : "");
        if (!number) {
                put_format(t, " count=%" PRIu64, field_number(i->at, POINT_COUNT, TEL_WIRE_FIXED64));
                put_part(t, i, POINT_SUM, " sum=");
                if (i->message == TEL_MSG_HISTOGRAM_POINT || exponential) {
                        put_part(t, i, POINT_MIN, " min=");
                        put_part(t, i, POINT_MAX, " max=");
                }
        } else if (field_find(i->at, POINT_INT, TEL_WIRE_FIXED64, &f)) {
                put_format(t, " %" PRId64, (int64_t)f.value);
        } else if (field_find(i->at, POINT_DOUBLE, TEL_WIRE_FIXED64, &f)) {
                put_string(t, " ");
                put_double(t, double_of(f.value));
        } else {
                put_string(t, " no value");        /* a stale mark: flags say NO_RECORDED_VALUE */
        }
        if (bytes_len(unit) > 0) {
                put_string(t, " ");
                put_word(t, unit, 32);
        }
}

/* ---- a record ---- */

struct printing {
        const struct tap_filter *filter;
        struct tap_progress *progress;
        struct text *text;
        size_t item;                               /* index of the item the visitor is at */
};

static int print_item(void *ctx, const struct item *i) {
        struct printing *p = ctx;
        size_t index = p->item++;
        if (index < p->progress->item)
                return 0;
        if (p->progress->lines_left == 0 || p->text->out->len >= p->progress->bytes_soft)
                return STOP;
        p->progress->item = index + 1;
        if (!filter_holds(p->filter, i))
                return 0;
        size_t start = p->text->out->len;
        if (i->message == TEL_MSG_SPAN)
                put_span(p->text, i, start);
        else if (i->message == TEL_MSG_LOG_RECORD)
                put_log(p->text, i, start);
        else
                put_point(p->text, i, start);
        put_string(p->text, "\n");
        if (p->text->error < 0) {
                p->text->out->len = start;
                p->progress->item = index;
                return p->text->error;
        }
        if (p->progress->lines_left != UINT64_MAX)
                p->progress->lines_left--;
        return 0;
}

static int keep_item(void *ctx, const struct item *i) {
        return filter_holds(ctx, i);
}

/* The request with the items that pass, as one line. */
static int print_json(const struct tap_filter *f, const struct record *record, struct tap_progress *p,
                      struct tel_buf *out) {
        enum tel_message request = tel_schema_request(record->signal);
        struct bytes body = { record->body, record->body + record->body_bytes };
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *kept = NULL;
        size_t start = out->len, max = start + TAP_JSON_MAX;
        if (p->lines_left == 0)
                return TAP_MORE;
        if (f->n > 0) {
                /* The heads of kept messages may be longer than the original's, by less than PADDED_LENGTH for
                 * each; none is shorter than two bytes. */
                size_t kept_max = 4 * (size_t)record->body_bytes + 64;
                kept = tel_buf_new(out->budget, TEL_MIN((size_t)4096, kept_max));
                if (!kept)
                        return -ENOBUFS;
                struct text t = { .out = kept, .max = kept_max };
                struct visit v = { .item = { .record = record }, .fn = keep_item, .ctx = (void *)(uintptr_t)f, .kept = &t };
                int r = visit_message(&v, request, body);
                if (r <= 0)
                        return r;
                body = (struct bytes){ kept->data, kept->data + kept->len };
        }
        int r = tel_otlp_to_json(request, body.at, bytes_len(body), out, max - 1);
        if (r == 0)
                r = tel_buf_append(out, "\n", 1, max);
        if (r < 0)
                out->len = start;
        else if (p->lines_left != UINT64_MAX)
                p->lines_left--;
        return r;
}

/* A record that is no OTLP, whose inside nobody here can read: a line with what its head says. Filters cannot
 * hold for it. */
static int print_head(const struct tap_filter *f, bool json, const struct record *r, struct tap_progress *p,
                      struct tel_buf *out) {
        struct text t = { .out = out, .max = out->len + TAP_LINE_MAX };
        const char *signal = tel_signal_name(r->signal);
        if (f->n > 0)
                return 0;
        if (p->lines_left == 0)
                return TAP_MORE;
        size_t start = out->len;
        if (json) {
                put_format(&t, "{\"signal\":\"%s\",\"items\":%u,\"bytes\":%u}\n", signal, r->items, r->body_bytes);
        } else {
                put_time(&t, r->received_ns);
                put_format(&t, "%-6s %u items, %u bytes\n", signal, r->items, r->body_bytes);
        }
        if (t.error < 0)
                out->len = start;
        else if (p->lines_left != UINT64_MAX)
                p->lines_left--;
        return t.error;
}

int tap_print(const struct tap_filter *f, bool json, const struct record *record, struct tap_progress *p,
              struct tel_buf *out) {
        if (record->encoding != RECORD_OTLP || tel_schema_request(record->signal) == TEL_MSG_NONE)
                return print_head(f, json, record, p, out);
        if (json)
                return print_json(f, record, p, out);
        struct text t = { .out = out, .max = TEL_MAX(out->len, p->bytes_soft) + 8 * TAP_LINE_MAX };    /* one line more than asked, escapes and all */
        struct printing printing = { .filter = f, .progress = p, .text = &t };
        struct visit v = { .item = { .record = record }, .fn = print_item, .ctx = &printing };
        int r = visit_message(&v, tel_schema_request(record->signal),
                              (struct bytes){ record->body, record->body + record->body_bytes });
        return r == STOP ? TAP_MORE : TEL_MIN(r, 0);
}
