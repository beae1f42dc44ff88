/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Exchange: one request and its answer, whatever the protocol. Protocols fill it, context gives it its place in a trace, span and red
 * write it out.
 * May touch: memory only. Times are CLOCK_BOOTTIME nanoseconds. */
#include "libtelemetry/base.h"

struct connection;
struct chunk;
struct protocol;

enum exchange_kind { EXCHANGE_HTTP, EXCHANGE_RPC, EXCHANGE_DB };
enum exchange_role { EXCHANGE_SERVER, EXCHANGE_CLIENT };    /* of the observed program */

/* Texts of an exchange. span.c has a row for each: which attribute it becomes. */
enum exchange_field {
        FIELD_METHOD,                              /* HTTP: "GET" */
        FIELD_PATH,                                /* HTTP: "/a/b", without query; percent escapes as they came */
        FIELD_QUERY,                               /* HTTP: behind the "?"; only kept when settings ask for it */
        FIELD_HOST,                                /* HTTP: Host or :authority, with port if given */
        FIELD_SCHEME,                              /* "http" or "https" */
        FIELD_VERSION,                             /* HTTP: "1.0", "1.1", "2" */
        FIELD_ROUTE,                               /* HTTP: low-cardinality path, set by context when the exchange ends */
        FIELD_USER_AGENT,
        FIELD_UPGRADE,                             /* HTTP 101: the protocol upgraded to */
        FIELD_RPC_SERVICE, FIELD_RPC_METHOD,       /* gRPC: of /package.Service/Method; "unknown" when the header table was not seen */
        FIELD_DB_OPERATION,                        /* "SELECT", "GET", "PIPELINE" */
        FIELD_DB_COLLECTION,                       /* table */
        FIELD_DB_NAMESPACE,                        /* database name or number */
        FIELD_DB_TEXT,                             /* query with every literal replaced by ? */
        FIELD_DB_STATUS,                           /* error code as the database gives it: "42P01", "WRONGTYPE" */
        FIELD_ERROR,                               /* error.type where the status does not say it: "timeout", "connection_reset", "_OTHER" */
        EXCHANGE_FIELDS,
};
#define EXCHANGE_FIELD_MAX 1024                    /* bytes kept of one text, cut between characters; longer paths are attacks or data */
#define EXCHANGE_HEADERS_MAX 16                    /* allowed headers kept of one exchange */

/* W3C Trace Context, section 3.2 (traceparent). */
struct trace_parent {
        uint8_t trace_id[16], span_id[8];
        bool sampled, present;
};

/* The ids that the kernel side wrote into a request on its way out, which its span therefore has. */
struct injected {
        uint8_t trace_id[16], span_id[8];
        uint32_t seq;                              /* TCP sequence number of the request's first byte */
        bool sampled, present;
};

enum exchange_state { EXCHANGE_OPEN, EXCHANGE_ASKED, EXCHANGE_ENDED };

struct exchange {
        struct connection *connection;             /* referenced until exchange_free() */
        const struct protocol *protocol;           /* that it was spoken in; the connection may have gone on to another. NULL in tests */
        enum exchange_kind kind;
        enum exchange_role role;
        enum exchange_state state;
        uint64_t start_ns;                         /* server: first byte of the request was read; client: the call that sent it began */
        uint64_t answer_ns;                        /* first byte of the answer; 0: none yet */
        uint64_t end_ns;                           /* last byte of the answer */
        int64_t request_bytes, response_bytes;     /* of the bodies, as they were on the wire; -1: unknown */
        int status;                                /* HTTP status or gRPC status code; -1: no answer was seen */
        bool failed;                               /* DB: the answer was an error */
        bool unobserved;                           /* the answer ended out of sight: no status, duration up to the last byte seen */
        uint32_t batch;                            /* DB: operations in it, when more than 1 */
        struct trace_parent parent;                /* from the request's headers */
        struct injected injected;                  /* client */
        uint32_t seq;                              /* TCP sequence number of the request's first byte */
        bool has_seq;
        struct context *context;                   /* owned by context.c */
        struct exchange *next;                     /* for the owner's lists: protocol while open, context after */
        uint32_t fields[EXCHANGE_FIELDS];          /* 1 + offset in text; 0: absent */
        uint32_t headers[EXCHANGE_HEADERS_MAX];    /* likewise: "name\0value\0" */
        uint32_t n_headers;
        char *text;                                /* all texts, each ends with a NUL */
        uint32_t text_len, text_room;
};

/* Who hears of exchanges: context.c in the daemon, a list in tests. A connection names it. */
struct exchange_sink {
        void *ctx;
        bool (*begun)(void *ctx, struct exchange *x, const struct chunk *at);     /* false: over a bound; x ends, counted */
        void (*asked)(void *ctx, struct exchange *x, const struct chunk *at);
        void (*ended)(void *ctx, struct exchange *x);                             /* takes x */
        void (*dropped)(void *ctx, struct exchange *x, bool counted);             /* x is freed behind it */
        void (*lost)(void *ctx, struct connection *c, uint64_t n);
};

/* Life, called by protocols. `at` is the chunk whose bytes are being read.
 * begin: the first byte of a request. NULL: over a bound or out of memory, counted as lost by begin itself; the protocol goes on without.
 * asked: the head of the request is whole; method, path, parent are set. Parents are looked for now.
 * answered: first byte of the (final) answer; optional, once.
 * end: the last byte of the answer; takes x. at NULL: the connection ended, the last chunk of it counts.
 * drop: it will not become a span; takes x. counted: a request of the program that is lost from sight. */
struct exchange *exchange_begin(struct connection *c, enum exchange_kind kind, enum exchange_role role, const struct chunk *at);
void exchange_asked(struct exchange *x, const struct chunk *at);
void exchange_answered(struct exchange *x, const struct chunk *at);
void exchange_end(struct exchange *x, const struct chunk *at);
void exchange_drop(struct exchange *x, bool counted);

/* Sets a text; bytes that are not UTF-8 become '?', controls too. n may be 0. Returns 0 or -ENOMEM (the text stays absent). */
int exchange_set(struct exchange *x, enum exchange_field field, const void *bytes, size_t n);
/* The text, or NULL. Valid until the next set. */
const char *exchange_get(const struct exchange *x, enum exchange_field field);
/* A header that the allow list names. */
void exchange_add_header(struct exchange *x, const void *name, size_t name_len, const void *value, size_t value_len);
/* "00-<32 hex>-<16 hex>-<2 hex>" -> x->parent, when valid: version 00 or a longer later one, ids not all zero. */
void exchange_set_traceparent(struct exchange *x, const void *value, size_t n);
/* Frees without any callback. Accepts NULL, returns NULL. */
struct exchange *exchange_free(struct exchange *x);
