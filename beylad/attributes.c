/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/attributes.h"

#include <arpa/inet.h>

#include "beylad/connection.h"
#include "libtelemetry/frame.h"

/* ---- Adding ---- */

/* A constant text and its length, as two arguments. */
#define TEXT(constant) constant, sizeof(constant) - 1

static struct attribute *add(struct attributes *a, const char *key, size_t key_len, enum attribute_type type) {
        assert(a->n < ATTRIBUTES_MAX);
        struct attribute *at = &a->at[a->n++];
        at->key = key;
        at->key_len = (uint16_t)key_len;
        at->type = (uint8_t)type;
        return at;
}

static void add_text(struct attributes *a, const char *key, size_t key_len, const char *text, size_t n) {
        struct attribute *at = add(a, key, key_len, ATTRIBUTE_TEXT);
        at->text = text;
        at->text_len = (uint32_t)n;
}

static void add_int(struct attributes *a, const char *key, size_t key_len, int64_t number) {
        add(a, key, key_len, ATTRIBUTE_INT)->number = number;
}

/* Room for n bytes that live as long as a. */
static char *scratch(struct attributes *a, size_t n) {
        assert(ATTRIBUTES_SCRATCH - a->used >= n);
        char *p = a->scratch + a->used;
        a->used += n;
        return p;
}

static char *copy(char *to, const char *text, size_t n) {
        memcpy(to, text, n);
        return to + n;
}

/* n as its digits. Returns how many. */
static size_t digits(char *out, uint32_t n) {
        char reversed[10];
        size_t k = 0, i = 0;
        do
                reversed[k++] = (char)('0' + n % 10);
        while (n /= 10);
        while (k > 0)
                out[i++] = reversed[--k];
        return i;
}

/* ---- Texts of the exchange, as they are ---- */

#define SERVER (1u << EXCHANGE_SERVER)
#define CLIENT (1u << EXCHANGE_CLIENT)
#define SPAN ATTRIBUTES_SPAN
#define METRIC ATTRIBUTES_METRIC

struct row {
        uint8_t field;                             /* enum exchange_field */
        uint8_t roles, what;                       /* for which roles; in spans, metrics or both */
        uint8_t type;                              /* enum attribute_type: TEXT or TEXTS */
        uint16_t key_len;
        const char *key;
};
#define ROW(field_, roles_, what_, type_, key_) { FIELD_##field_, roles_, what_, ATTRIBUTE_##type_, sizeof(key_) - 1, key_ }

static const struct row http_rows[] = {
        ROW(PATH, SERVER, SPAN, TEXT, "url.path"),
        ROW(QUERY, SERVER, SPAN, TEXT, "url.query"),
        ROW(SCHEME, SERVER, SPAN | METRIC, TEXT, "url.scheme"),
        ROW(ROUTE, SERVER, SPAN | METRIC, TEXT, "http.route"),
        ROW(ROUTE, CLIENT, SPAN, TEXT, "url.template"),
        ROW(VERSION, SERVER | CLIENT, SPAN | METRIC, TEXT, "network.protocol.version"),
        ROW(USER_AGENT, SERVER | CLIENT, SPAN, TEXT, "user_agent.original"),
        ROW(UPGRADE, SERVER | CLIENT, SPAN, TEXTS, "http.response.header.upgrade"),
};
static const struct row rpc_rows[] = {
        ROW(RPC_SERVICE, SERVER | CLIENT, SPAN | METRIC, TEXT, "rpc.service"),
        ROW(RPC_METHOD, SERVER | CLIENT, SPAN | METRIC, TEXT, "rpc.method"),
};
static const struct row db_rows[] = {
        ROW(DB_OPERATION, SERVER | CLIENT, SPAN | METRIC, TEXT, "db.operation.name"),
        ROW(DB_COLLECTION, SERVER | CLIENT, SPAN | METRIC, TEXT, "db.collection.name"),
        ROW(DB_NAMESPACE, SERVER | CLIENT, SPAN | METRIC, TEXT, "db.namespace"),
        ROW(DB_TEXT, SERVER | CLIENT, SPAN, TEXT, "db.query.text"),
        ROW(DB_STATUS, SERVER | CLIENT, SPAN | METRIC, TEXT, "db.response.status_code"),
};
static const struct {
        const struct row *at;
        size_t n;
} rows[] = {
        [EXCHANGE_HTTP] = { http_rows, TEL_ARRAY_LEN(http_rows) },
        [EXCHANGE_RPC] = { rpc_rows, TEL_ARRAY_LEN(rpc_rows) },
        [EXCHANGE_DB] = { db_rows, TEL_ARRAY_LEN(db_rows) },
};

static void add_texts(struct attributes *a, const struct exchange *x, enum attributes_of what) {
        unsigned role = 1u << x->role;
        for (size_t i = 0; i < rows[x->kind].n; i++) {
                const struct row *r = &rows[x->kind].at[i];
                const char *text = r->roles & role && r->what & what ? exchange_get(x, r->field) : NULL;
                if (!text)
                        continue;
                struct attribute *at = add(a, r->key, r->key_len, r->type);
                at->text = text;
                at->text_len = (uint32_t)strlen(text);
        }
}

/* ---- Method and status ---- */

/* Those the conventions call known: RFC 9110, PATCH of RFC 5789, QUERY. Case matters. */
static bool method_known(const char *m, size_t n) {
        static const char known[][8] = { "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY" };
        if (n >= sizeof(known[0]))
                return false;
        for (size_t i = 0; i < TEL_ARRAY_LEN(known); i++)
                if (memcmp(known[i], m, n + 1) == 0)
                        return true;
        return false;
}

static void add_method(struct attributes *a, const struct exchange *x, enum attributes_of what) {
        const char *m = exchange_get(x, FIELD_METHOD);
        size_t n = m ? strlen(m) : 0;
        if (m && method_known(m, n)) {
                add_text(a, TEXT("http.request.method"), m, n);
                return;
        }
        add_text(a, TEXT("http.request.method"), TEXT("_OTHER"));
        if (m && what & SPAN)
                add_text(a, TEXT("http.request.method_original"), m, n);
}

/* Whether the exchange is an error by the conventions. An answer that nobody saw is no error that we know of. */
static bool exchange_failed(const struct exchange *x) {
        if (exchange_get(x, FIELD_ERROR))
                return true;                       /* no answer, or the rest of it did not come */
        if (x->kind == EXCHANGE_DB)
                return x->failed;
        if (x->status < 0)
                return false;
        if (x->kind == EXCHANGE_HTTP)
                return x->status >= (x->role == EXCHANGE_SERVER ? 500 : 400);
        if (x->role == EXCHANGE_CLIENT)
                return x->status != 0;
        switch (x->status) {
        case 2: case 4: case 12: case 13: case 14: case 15:        /* gRPC: what is the server's fault. Names are below */
                return true;
        default:
                return false;
        }
}

/* Source: gRPC, doc/statuscodes.md. */
static const char *grpc_name(int status) {
        static const char *const names[] = {
                "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
                "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
                "UNAUTHENTICATED",
        };
        return status >= 0 && (size_t)status < TEL_ARRAY_LEN(names) ? names[status] : NULL;
}

static void add_error(struct attributes *a, const struct exchange *x) {
        const char *type = exchange_get(x, FIELD_ERROR);
        if (!type && !a->failed)
                return;
        if (!type && x->kind == EXCHANGE_RPC)
                type = grpc_name(x->status);
        if (!type && x->kind == EXCHANGE_DB) {
                type = exchange_get(x, FIELD_DB_STATUS);
                type = type ? type : "_OTHER";
        }
        if (type) {
                add_text(a, TEXT("error.type"), type, strlen(type));
                return;
        }
        char *status = scratch(a, 10);
        add_text(a, TEXT("error.type"), status, digits(status, (uint32_t)x->status));
}

/* ---- Addresses ---- */

size_t attributes_address(const uint8_t ip[static 16], char *out) {
        static const uint8_t mapped[12] = { [10] = 0xff, 0xff };
        size_t n = 0;
        if (memcmp(ip, mapped, sizeof(mapped)) != 0) {
                inet_ntop(AF_INET6, ip, out, INET6_ADDRSTRLEN);
                return strlen(out);
        }
        for (size_t i = 12; i < 16; i++) {
                n += digits(out + n, ip[i]);
                out[n++] = '.';
        }
        out[--n] = '\0';
        return n;
}

/* An address with its key, and its port with its own. */
static void add_end(struct attributes *a, const char *key, size_t key_len, const char *port_key, size_t port_key_len,
                    const struct probe_address *end) {
        char *text = scratch(a, INET6_ADDRSTRLEN);
        add_text(a, key, key_len, text, attributes_address(end->ip, text));
        if (end->port)
                add_int(a, port_key, port_key_len, end->port);
}

/* "shop:8080", "[::1]:8080", "shop" -> the name, and the port or 0. */
static const char *host_split(const char *host, size_t *ret_len, uint32_t *ret_port) {
        const char *end = host + strlen(host), *colon = strrchr(host, ':'), *bracket = strrchr(host, ']');
        uint32_t port = 0;
        if (colon && (!bracket || colon > bracket) && (bracket || memchr(host, ':', (size_t)(colon - host)) == NULL)) {
                for (const char *p = colon + 1; p < end && port <= UINT16_MAX; p++)
                        port = *p >= '0' && *p <= '9' ? port * 10 + (uint32_t)(*p - '0') : UINT16_MAX + 1;
                end = colon;
        }
        if (*host == '[' && bracket && bracket + 1 == end) {
                host++;
                end--;
        }
        *ret_len = (size_t)(end - host);
        *ret_port = port <= UINT16_MAX ? port : 0;
        return host;
}

/* Host or :authority, without a user and password that should not be there; NULL: there is none. */
static const char *host_of(const struct exchange *x) {
        const char *host = exchange_get(x, FIELD_HOST), *at = host ? strrchr(host, '@') : NULL;
        host = at ? at + 1 : host;
        return host && *host ? host : NULL;
}

static bool https(const struct exchange *x) {
        const char *scheme = exchange_get(x, FIELD_SCHEME);
        return scheme && strcmp(scheme, "https") == 0;
}

/* server.address and server.port: what the request calls the server, else its end of the connection. In metrics a server's name is left out,
 * because any client may make one up; its port stays. */
static void add_server(struct attributes *a, const struct exchange *x, enum attributes_of what) {
        const struct connection *c = x->connection;
        bool server = x->role == EXCHANGE_SERVER, ip = c->family == AF_INET || c->family == AF_INET6;
        const struct probe_address *end = server ? &c->local : &c->remote;
        const char *host = host_of(x);
        size_t n = 0;
        uint32_t port = 0;
        if (server && what & METRIC) {
                if (ip && end->port)
                        add_int(a, TEXT("server.port"), end->port);
                return;
        }
        if (host)
                host = host_split(host, &n, &port);
        if (n == 0) {
                if (ip)
                        add_end(a, TEXT("server.address"), TEXT("server.port"), end);
                return;
        }
        if (port == 0 && server && ip)
                port = end->port;                  /* the one that was really connected to; a proxy in front may have another */
        if (port == 0 && !server)
                port = https(x) ? 443 : 80;        /* of a URL without one: RFC 9110, section 4.2 */
        add_text(a, TEXT("server.address"), host, n);
        if (port)
                add_int(a, TEXT("server.port"), port);
}

static void add_peer(struct attributes *a, const struct exchange *x) {
        const struct connection *c = x->connection;
        if (c->family == AF_UNIX)
                add_text(a, TEXT("network.transport"), TEXT("unix"));
        else if (c->family == 0)
                return;
        else if (x->role == EXCHANGE_SERVER)
                add_end(a, TEXT("client.address"), TEXT("client.port"), &c->remote);
        else
                add_end(a, TEXT("network.peer.address"), TEXT("network.peer.port"), &c->remote);
}

/* ---- What is put together ---- */

/* The other end as a URL has it: "192.0.2.1:8080", "[2001:db8::1]:8080". */
static char *put_remote(char *p, const struct connection *c) {
        char ip[INET6_ADDRSTRLEN];
        size_t n = attributes_address(c->remote.ip, ip);
        bool brackets = memchr(ip, ':', n) != NULL;
        if (brackets)
                *p++ = '[';
        p = copy(p, ip, n);
        if (brackets)
                *p++ = ']';
        *p++ = ':';
        return p + digits(p, c->remote.port);
}

/* url.full of a client. What stands before a "@" is a password: conventions, url.full. */
static void add_url(struct attributes *a, const struct exchange *x) {
        const char *path = exchange_get(x, FIELD_PATH), *host = host_of(x), *query = exchange_get(x, FIELD_QUERY);
        const char *rest = path && *path != '/' ? strstr(path, "://") : NULL;
        char *url, *p;
        bool ip = x->connection->family == AF_INET || x->connection->family == AF_INET6;
        if (!path || (*path != '/' && !rest) || (!rest && !host && !ip))
                return;                            /* "host:443" of CONNECT and "*" of OPTIONS are no URLs */
        p = url = scratch(a, strlen("https://REDACTED:REDACTED@") + 3 * (size_t)EXCHANGE_FIELD_MAX + 1);
        if (rest) {
                size_t authority = strcspn(rest + 3, "/?#");
                const char *at = memrchr(rest + 3, '@', authority);
                p = copy(p, path, (size_t)(rest + 3 - path));
                p = at ? copy(p, TEXT("REDACTED:REDACTED@")) : p;
                path = at ? at + 1 : rest + 3;
        } else {
                p = https(x) ? copy(p, TEXT("https://")) : copy(p, TEXT("http://"));
                p = host ? copy(p, host, strlen(host)) : put_remote(p, x->connection);
        }
        p = copy(p, path, strlen(path));
        if (query) {
                *p++ = '?';
                p = copy(p, query, strlen(query));
        }
        add_text(a, TEXT("url.full"), url, (size_t)(p - url));
}

static struct attribute *find(struct attributes *a, const char *key, size_t key_len) {
        for (size_t i = 0; i < a->n; i++)
                if (a->at[i].key_len == key_len && memcmp(a->at[i].key, key, key_len) == 0)
                        return &a->at[i];
        return NULL;
}

const struct attribute *attributes_find(const struct attributes *a, const char *key) {
        return find((struct attributes *)a, key, strlen(key));
}

/* A header that comes twice has its values joined, as RFC 9110 (section 5.3) lets any recipient do: keys are unique. */
static void add_header(struct attributes *a, const char *prefix, size_t prefix_len, const char *name, const char *value) {
        size_t name_len = strlen(name), n = strlen(value);
        if (name_len > ATTRIBUTES_HEADER_MAX)
                return;
        char *key = scratch(a, prefix_len + name_len), *p = copy(key, prefix, prefix_len);
        for (size_t i = 0; i < name_len; i++)
                *p++ = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] | 0x20 : name[i]);
        struct attribute *at = find(a, key, (size_t)(p - key));
        if (!at) {
                at = add(a, key, (size_t)(p - key), ATTRIBUTE_TEXTS);
                at->text = value;
                at->text_len = (uint32_t)n;
                return;
        }
        size_t both = at->text_len + 2 + n;
        if (both > EXCHANGE_FIELD_MAX)
                return;
        char *text = scratch(a, both);
        copy(copy(copy(text, at->text, at->text_len), ", ", 2), value, n);
        at->text = text;
        at->text_len = (uint32_t)both;
}

static void add_headers(struct attributes *a, const struct exchange *x) {
        for (size_t i = 0; i < x->n_headers; i++) {
                const char *name = x->text + x->headers[i] - 1, *value = name + strlen(name) + 1;
                if (x->kind == EXCHANGE_HTTP)
                        add_header(a, TEXT("http.request.header."), name, value);
                else if (x->kind == EXCHANGE_RPC)
                        add_header(a, TEXT("rpc.grpc.request.metadata."), name, value);
        }
}

/* first + between + second, of which either may be NULL; fallback when both are. */
static void set_name(struct attributes *a, const char *first, const char *between, const char *second, const char *fallback) {
        if (!first || !second) {
                a->name = first ? first : second ? second : fallback;
                a->name_len = strlen(a->name);
                return;
        }
        size_t first_len = strlen(first), between_len = strlen(between), second_len = strlen(second);
        char *name = scratch(a, first_len + between_len + second_len);
        copy(copy(copy(name, first, first_len), between, between_len), second, second_len);
        a->name = name;
        a->name_len = first_len + between_len + second_len;
}

static void name_span(struct attributes *a, const struct exchange *x) {
        const char *method = exchange_get(x, FIELD_METHOD);
        const struct protocol *protocol = x->protocol;
        switch (x->kind) {
        case EXCHANGE_HTTP:
                method = method && method_known(method, strlen(method)) ? method : "HTTP";
                set_name(a, method, " ", exchange_get(x, FIELD_ROUTE), NULL);
                return;
        case EXCHANGE_RPC:
                set_name(a, exchange_get(x, FIELD_RPC_SERVICE), "/", exchange_get(x, FIELD_RPC_METHOD), "grpc");
                return;
        case EXCHANGE_DB:
                set_name(a, exchange_get(x, FIELD_DB_OPERATION), " ", exchange_get(x, FIELD_DB_COLLECTION), protocol ? protocol->name : "db");
                return;
        }
}

/* ---- All of it ---- */

static void add_kind(struct attributes *a, const struct exchange *x, enum attributes_of what) {
        switch (x->kind) {
        case EXCHANGE_HTTP:
                add_method(a, x, what);
                if (x->status >= 0)
                        add_int(a, TEXT("http.response.status_code"), x->status);
                if (what & SPAN && x->role == EXCHANGE_CLIENT)
                        add_url(a, x);
                if (what & SPAN && x->request_bytes >= 0)
                        add_int(a, TEXT("http.request.body.size"), x->request_bytes);
                if (what & SPAN && x->response_bytes >= 0)
                        add_int(a, TEXT("http.response.body.size"), x->response_bytes);
                return;
        case EXCHANGE_RPC:
                add_text(a, TEXT("rpc.system"), TEXT("grpc"));
                if (x->status >= 0)
                        add_int(a, TEXT("rpc.grpc.status_code"), x->status);
                return;
        case EXCHANGE_DB:
                if (x->protocol)
                        add_text(a, TEXT("db.system.name"), x->protocol->name, strlen(x->protocol->name));
                if (what & SPAN && x->batch > 1)
                        add_int(a, TEXT("db.operation.batch.size"), x->batch);
                return;
        }
}

void attributes_of(const struct exchange *x, enum attributes_of what, struct attributes *ret) {
        ret->n = 0;
        ret->used = 0;
        ret->name = NULL;
        ret->name_len = 0;
        ret->failed = exchange_failed(x);
        add_kind(ret, x, what);
        add_texts(ret, x, what);
        add_error(ret, x);
        add_server(ret, x, what);
        if (x->unobserved)
                add(ret, TEXT("beylad.unobserved"), ATTRIBUTE_BOOL)->number = true;
        if (!(what & SPAN))
                return;
        add_peer(ret, x);
        add_headers(ret, x);
        name_span(ret, x);
}

/* ---- Encoding ---- */

void attributes_put(const struct attributes *a, struct tel_writer *w, uint32_t number) {
        for (size_t i = a->n; i-- > 0;) {
                const struct attribute *at = &a->at[i];
                switch ((enum attribute_type)at->type) {
                case ATTRIBUTE_TEXT:
                        tel_writer_attribute_text(w, number, at->key, at->key_len, at->text, at->text_len);
                        break;
                case ATTRIBUTE_INT:
                        tel_writer_attribute_int(w, number, at->key, at->key_len, at->number);
                        break;
                case ATTRIBUTE_BOOL:
                        tel_writer_attribute_bool(w, number, at->key, at->key_len, at->number != 0);
                        break;
                case ATTRIBUTE_TEXTS:
                        tel_writer_attribute_texts(w, number, at->key, at->key_len, at->text, at->text_len);
                        break;
                }
        }
}

/* process.pid is an integer by the conventions; a process keeps all of its attributes as texts. */
static bool attribute_is_pid(const char *key, const char *value) {
        return strcmp(key, "process.pid") == 0 && *value && strlen(value) <= 10 && strspn(value, "0123456789") == strlen(value);
}

void attributes_put_resource(const struct process *p, struct tel_writer *w) {
        char key[PROCESS_TEXT_MAX], value[2 * PROCESS_TEXT_MAX];
        size_t begin = tel_writer_begin(w);
        for (size_t i = p ? p->n_attributes : 0; i-- > 0;) {
                const struct process_attribute *at = &p->attributes[i];
                size_t key_len = tel_frame_text(key, sizeof(key), at->key, SIZE_MAX);
                size_t n = tel_frame_text(value, sizeof(value), at->value, SIZE_MAX);
                if (attribute_is_pid(key, value))
                        tel_writer_attribute_int(w, 1, key, key_len, strtoll(value, NULL, 10));
                else
                        tel_writer_attribute_text(w, 1, key, key_len, value, n);
        }
        tel_writer_end(w, 1, begin);
}

const char *attributes_resource_get(const struct process *p, const char *key) {
        for (size_t i = 0; p && i < p->n_attributes; i++)
                if (strcmp(p->attributes[i].key, key) == 0)
                        return p->attributes[i].value;
        return NULL;
}

void attributes_put_scope(struct tel_writer *w) {
        size_t begin = tel_writer_begin(w);
        tel_writer_bytes(w, 2, TEXT(SUITE_VERSION));
        tel_writer_bytes(w, 1, TEXT("beylad"));
        tel_writer_end(w, 1, begin);
}
