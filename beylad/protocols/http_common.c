/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/protocols/http_common.h"

#include "beylad/connection.h"

static uint8_t lower_of(uint8_t c) {
        return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

bool http_equal(const void *bytes, size_t n, const char *lower) {
        const uint8_t *b = bytes;
        for (size_t i = 0; i < n; i++)
                if (lower[i] == '\0' || lower_of(b[i]) != (uint8_t)lower[i])
                        return false;
        return lower[n] == '\0';
}

enum http_name http_name_of(const void *name, size_t n) {
        static const struct {
                const char *text;
                enum http_name name;
        } by_length[] = {                          /* no two of one length begin alike */
                [4] = { "host", HTTP_HOST },
                [6] = { "expect", HTTP_EXPECT },
                [7] = { "upgrade", HTTP_UPGRADE },
                [10] = { "user-agent", HTTP_USER_AGENT },
                [11] = { "traceparent", HTTP_TRACEPARENT },
                [12] = { "content-type", HTTP_CONTENT_TYPE },
                [14] = { "content-length", HTTP_CONTENT_LENGTH },
                [17] = { "transfer-encoding", HTTP_TRANSFER_ENCODING },
        };
        if (n >= TEL_ARRAY_LEN(by_length) || !by_length[n].text || !http_equal(name, n, by_length[n].text))
                return HTTP_OTHER;
        return by_length[n].name;
}

/* Fields seen of a request; the bits of *seen. */
#define SEEN(name) (1u << (name))

enum http_name http_request_field(struct exchange *x, const struct protocol_options *options, uint32_t *seen, const void *name, size_t name_len,
                                  const void *value, size_t value_len) {
        enum http_name id = http_name_of(name, name_len);
        bool again = *seen & SEEN(id);
        *seen |= SEEN(id);
        if (id == HTTP_HOST && !again)
                exchange_set(x, FIELD_HOST, value, value_len);
        else if (id == HTTP_USER_AGENT && !again)
                exchange_set(x, FIELD_USER_AGENT, value, value_len);
        else if (id == HTTP_TRACEPARENT && !again)
                exchange_set_traceparent(x, value, value_len);
        else if (id == HTTP_TRACEPARENT)
                x->parent = (struct trace_parent){ 0 };    /* two callers claim it: neither is believed */
        for (const char *const *allowed = options->headers; *allowed; allowed++)
                if (http_equal(name, name_len, *allowed))
                        exchange_add_header(x, *allowed, name_len, value, value_len);
        return id;
}

void http_request_authority(struct exchange *x, uint32_t *seen, const void *authority, size_t n) {
        const uint8_t *a = authority, *at = memrchr(a, '@', n);
        size_t user = at ? (size_t)(at - a) + 1 : 0;
        *seen |= SEEN(HTTP_HOST);
        exchange_set(x, FIELD_HOST, a + user, n - user);
}

/* Bytes of "scheme://" at the beginning of an absolute target; 0: it is none. */
static size_t scheme_of(const uint8_t *t, size_t n) {
        size_t i = 0;
        while (i < n && ((t[i] | 0x20) >= 'a' && (t[i] | 0x20) <= 'z'))
                i++;
        return i > 0 && n - i >= 3 && memcmp(t + i, "://", 3) == 0 ? i + 3 : 0;
}

void http_request_target(struct exchange *x, const struct protocol_options *options, uint32_t *seen, const void *target, size_t n) {
        const uint8_t *t = target, *end = t + n;
        size_t scheme = scheme_of(t, n);
        if (scheme > 0) {
                const uint8_t *from = t + scheme;
                if (http_equal(t, scheme - 3, "https"))
                        exchange_set(x, FIELD_SCHEME, "https", 5);
                else if (http_equal(t, scheme - 3, "http"))
                        exchange_set(x, FIELD_SCHEME, "http", 4);
                for (t = from; t < end && *t != '/' && *t != '?'; t++)
                        ;
                http_request_authority(x, seen, from, (size_t)(t - from));
        }
        const uint8_t *query = memchr(t, '?', (size_t)(end - t));
        size_t path = (size_t)((query ? query : end) - t);
        exchange_set(x, FIELD_PATH, path > 0 ? (const void *)t : "/", TEL_MAX(path, (size_t)1));
        if (query && options->query)
                exchange_set(x, FIELD_QUERY, query + 1, (size_t)(end - query) - 1);
}

void http_request_scheme(struct exchange *x) {
        bool tls = x->connection->tls == TLS_PLAIN;
        if (!exchange_get(x, FIELD_SCHEME))
                exchange_set(x, FIELD_SCHEME, tls ? "https" : "http", tls ? 5 : 4);
}

bool http_is_grpc(const void *value, size_t n) {
        static const char grpc[] = "application/grpc";
        size_t len = sizeof(grpc) - 1;
        const uint8_t *v = value;
        return n >= len && http_equal(v, len, grpc) && (n == len || v[len] == '+' || v[len] == ';' || v[len] == ' ' || v[len] == '\t');
}
