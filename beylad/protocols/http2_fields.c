/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "beylad/protocols/http2_fields.h"

#include "beylad/protocols/http_common.h"

enum http2_header http2_header_of(const uint8_t *name, size_t n) {
#define NAME(text, header) { text, sizeof(text) - 1, header }
        static const struct { const char *name; size_t n; enum http2_header header; } names[] = {
                NAME(":path", HTTP2_PATH), NAME(":method", HTTP2_METHOD), NAME(":scheme", HTTP2_SCHEME), NAME(":status", HTTP2_STATUS),
                NAME(":authority", HTTP2_AUTHORITY), NAME(":protocol", HTTP2_PROTOCOL), NAME("content-type", HTTP2_CONTENT_TYPE),
                NAME("grpc-status", HTTP2_GRPC_STATUS),
        };
#undef NAME
        for (size_t i = 0; i < TEL_ARRAY_LEN(names); i++)
                if (names[i].n == n && memcmp(names[i].name, name, n) == 0)
                        return names[i].header;
        return HTTP2_REGULAR;
}

/* Decimal digits, at most three; -1: something else. */
static int number_of(const uint8_t *text, size_t n) {
        int v = 0;
        if (n == 0 || n > 3)
                return -1;
        for (size_t i = 0; i < n; i++) {
                if (text[i] < '0' || text[i] > '9')
                        return -1;
                v = 10 * v + text[i] - '0';
        }
        return v;
}

void http2_request_field(struct exchange *x, const struct protocol_options *options, struct http2_fields *fields, enum http2_header header,
                         const struct hpack_field *f) {
        if (http2_header_of_request(header)) {
                if (fields->pseudo & 1u << header)
                        return;
                fields->pseudo |= (uint16_t)(1u << header);
        } else if (header == HTTP2_CONTENT_TYPE) {
                fields->typed = true;
                fields->grpc = http_is_grpc(f->value, f->value_len);
        }
        switch (header) {
        case HTTP2_METHOD:
                exchange_set(x, FIELD_METHOD, f->value, f->value_len);
                break;
        case HTTP2_SCHEME:
                exchange_set(x, FIELD_SCHEME, f->value, f->value_len);
                break;
        case HTTP2_AUTHORITY:
                http_request_authority(x, &fields->seen, f->value, f->value_len);
                break;
        case HTTP2_PATH:
                http_request_target(x, options, &fields->seen, f->value, f->value_len);
                break;
        case HTTP2_PROTOCOL:                       /* RFC 8441 */
                exchange_set(x, FIELD_UPGRADE, f->value, f->value_len);
                break;
        default:
                http_request_field(x, options, &fields->seen, f->name, f->name_len, f->value, f->value_len);
                break;
        }
}

void http2_answer_field(struct http2_fields *fields, enum http2_header header, const struct hpack_field *f) {
        int number = number_of(f->value, f->value_len);
        switch (header) {
        case HTTP2_STATUS:
                fields->status = (uint16_t)(number >= 100 ? number : 0);
                break;
        case HTTP2_CONTENT_TYPE:
                fields->typed = true;
                fields->grpc = http_is_grpc(f->value, f->value_len);
                break;
        case HTTP2_GRPC_STATUS:
                fields->grpc_status = (int16_t)number;
                break;
        default:
                break;
        }
}

void http2_make_rpc(struct exchange *x, bool hidden) {
        static const enum exchange_field of_http[] = { FIELD_METHOD, FIELD_PATH, FIELD_QUERY, FIELD_VERSION };
        char path[EXCHANGE_FIELD_MAX + 1];
        const char *from = exchange_get(x, FIELD_PATH), *none = !from && hidden ? "unknown" : "_OTHER";
        snprintf(path, sizeof(path), "%s", from ? from : "");          /* setting a text may move the others */
        char *slash = strrchr(path, '/');
        bool whole = slash && path[0] == '/' && slash > path + 1 && slash[1] != '\0';
        x->kind = EXCHANGE_RPC;
        exchange_set(x, FIELD_RPC_SERVICE, whole ? path + 1 : none, whole ? (size_t)(slash - path) - 1 : strlen(none));
        exchange_set(x, FIELD_RPC_METHOD, whole ? slash + 1 : none, strlen(whole ? slash + 1 : none));
        for (size_t i = 0; i < TEL_ARRAY_LEN(of_http); i++)
                x->fields[of_http[i]] = 0;
}
