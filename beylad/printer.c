/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/printer.h"

#include <inttypes.h>
#include <time.h>

#include "beylad/attributes.h"
#include "beylad/connection.h"
#include "libtelemetry/utf8.h"

static const char *kind_of(const struct span *s) {
        return s->exchange->role == EXCHANGE_SERVER ? "SERVER" : "CLIENT";
}

static void print_hex(FILE *to, const uint8_t *bytes, size_t n) {
        for (size_t i = 0; i < n; i++)
                fprintf(to, "%02x", bytes[i]);
}

static bool is_zero(const uint8_t *bytes, size_t n) {
        while (n > 0)
                if (bytes[--n])
                        return false;
        return true;
}

/* The bytes between two quotes, good for JSON and for a terminal alike: no controls, and what is not UTF-8 is "?". */
static void print_escaped(FILE *to, const char *text, size_t n) {
        const uint8_t *p = (const uint8_t *)text, *end = p + n;
        while (p < end) {
                size_t k = tel_utf8_sequence(p, end);
                if (k == 0)
                        fputc('?', to);
                else if (*p < 0x20 || *p == 0x7f)
                        fprintf(to, "\\u%04x", *p);
                else {
                        if (*p == '"' || *p == '\\')
                                fputc('\\', to);
                        fwrite(p, 1, k, to);
                }
                p += k ? k : 1;
        }
}

static void print_string(FILE *to, const char *text, size_t n) {
        fputc('"', to);
        print_escaped(to, text, n);
        fputc('"', to);
}

/* ---- JSON ---- */

static void print_value(FILE *to, const struct attribute *at) {
        switch ((enum attribute_type)at->type) {
        case ATTRIBUTE_TEXT:
                print_string(to, at->text, at->text_len);
                return;
        case ATTRIBUTE_INT:
                fprintf(to, "%" PRId64, at->number);
                return;
        case ATTRIBUTE_BOOL:
                fputs(at->number ? "true" : "false", to);
                return;
        case ATTRIBUTE_TEXTS:
                fputc('[', to);
                print_string(to, at->text, at->text_len);
                fputc(']', to);
                return;
        }
}

static void print_id(FILE *to, const char *key, const uint8_t *id, size_t n) {
        fprintf(to, ",\"%s\":\"", key);
        if (!is_zero(id, n))
                print_hex(to, id, n);
        fputc('"', to);
}

static void print_json(FILE *to, const struct span *s, const struct attributes *a, const char *service, int64_t real_offset_ns) {
        const struct exchange *x = s->exchange;
        const struct process *p = x->connection->process;
        fputs("{\"name\":", to);
        print_string(to, a->name, a->name_len);
        fprintf(to, ",\"kind\":\"%s\",\"service\":", kind_of(s));
        print_string(to, service, strlen(service));
        fprintf(to, ",\"pid\":%" PRIu32 ",\"start_unix_nano\":%" PRIu64 ",\"end_unix_nano\":%" PRIu64, p ? p->pid : 0,
                x->start_ns + (uint64_t)real_offset_ns, x->end_ns + (uint64_t)real_offset_ns);
        print_id(to, "trace_id", s->trace_id, sizeof(s->trace_id));
        print_id(to, "span_id", s->span_id, sizeof(s->span_id));
        print_id(to, "parent_span_id", s->parent_span_id, sizeof(s->parent_span_id));
        fputs(",\"links\":[", to);
        for (size_t i = 0; i < s->n_links; i++) {
                fputs(i ? ",{\"trace_id\":\"" : "{\"trace_id\":\"", to);
                print_hex(to, s->links[i].trace_id, sizeof(s->links[i].trace_id));
                fputs("\",\"span_id\":\"", to);
                print_hex(to, s->links[i].span_id, sizeof(s->links[i].span_id));
                fputs("\"}", to);
        }
        fputs("],\"attributes\":{", to);
        for (size_t i = 0; i < a->n; i++) {
                if (i)
                        fputc(',', to);
                print_string(to, a->at[i].key, a->at[i].key_len);
                fputc(':', to);
                print_value(to, &a->at[i]);
        }
        fprintf(to, "},\"status\":\"%s\"}\n", a->failed ? "ERROR" : "UNSET");
}

/* ---- Text ---- */

static void print_time(FILE *to, uint64_t real_ns) {
        time_t seconds = (time_t)(real_ns / TEL_NS_PER_S);
        struct tm tm;
        if (gmtime_r(&seconds, &tm))
                fprintf(to, "%04d-%02d-%02dT%02d:%02d:%02d.%06uZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                        (unsigned)(real_ns % TEL_NS_PER_S / 1000));
}

/* The number the protocol answered with, else why there is none. */
static void print_status(FILE *to, const struct exchange *x, const struct attributes *a) {
        if (x->status >= 0) {
                fprintf(to, " %d", x->status);
                return;
        }
        const struct attribute *error = attributes_find(a, "error.type");
        if (error) {
                fputc(' ', to);
                print_escaped(to, error->text, error->text_len);
        } else
                fputs(x->unobserved ? " unobserved" : " -", to);
}

static void print_text(FILE *to, const struct span *s, const struct attributes *a, const char *service, int64_t real_offset_ns) {
        const struct exchange *x = s->exchange;
        print_time(to, x->start_ns + (uint64_t)real_offset_ns);
        fputc(' ', to);
        print_escaped(to, service, strlen(service));
        fprintf(to, " %s ", kind_of(s));
        print_string(to, a->name, a->name_len);
        print_status(to, x, a);
        fprintf(to, " %.3fms trace=", (double)(x->end_ns - x->start_ns) / (double)TEL_NS_PER_MS);
        print_hex(to, s->trace_id, sizeof(s->trace_id));
        fputs(" span=", to);
        print_hex(to, s->span_id, sizeof(s->span_id));
        if (!is_zero(s->parent_span_id, sizeof(s->parent_span_id))) {
                fputs(" parent=", to);
                print_hex(to, s->parent_span_id, sizeof(s->parent_span_id));
        }
        if (s->n_links > 0)
                fprintf(to, " links=%zu", s->n_links);
        fputc('\n', to);
}

void printer_span(FILE *to, enum printer as, const struct span *s, int64_t real_offset_ns) {
        if (as == PRINTER_DISABLED)
                return;
        const struct process *p = s->exchange->connection->process;
        const char *service = attributes_resource_get(p, "service.name");
        struct attributes a;
        attributes_of(s->exchange, ATTRIBUTES_SPAN, &a);
        service = service ? service : p ? p->name : "unknown";
        if (as == PRINTER_JSON)
                print_json(to, s, &a, service, real_offset_ns);
        else
                print_text(to, s, &a, service, real_offset_ns);
}
