/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Attributes: what an exchange is called, whether it failed, and which attributes it has, by the conventions. The one place that knows
 * their names: the OTLP encoding, the printer and the metrics all go through here, so they cannot differ.
 * May touch: memory only.
 * Source: OpenTelemetry semantic conventions 1.37: http (stable), database (stable), general network attributes. RPC: 1.37 as well, rpc.system,
 * rpc.service, rpc.method and rpc.grpc.status_code, which dashboards and Beyla use; later versions rename them. */
#include "beylad/exchange.h"
#include "libtelemetry/writer.h"

struct process;

enum attribute_type { ATTRIBUTE_TEXT, ATTRIBUTE_INT, ATTRIBUTE_BOOL, ATTRIBUTE_TEXTS /* a list with one text */ };

struct attribute {
        const char *key, *text;                    /* UTF-8; constants, texts of the exchange, or in scratch */
        uint16_t key_len;
        uint8_t type;                              /* enum attribute_type */
        uint32_t text_len;
        int64_t number;                            /* INT, BOOL */
};

#define ATTRIBUTES_MAX 48                          /* EXCHANGE_HEADERS_MAX and at most 30 others */
#define ATTRIBUTES_HEADER_MAX 64                   /* bytes of a header's name; the allow list is written by hand */
/* Texts that are put together: url.full of three texts, a name of two, addresses and codes, keys of headers, values of headers that came
 * more than once. Only what is used of it is ever touched. */
#define ATTRIBUTES_SCRATCH (5 * (EXCHANGE_FIELD_MAX + 16) + 256 + EXCHANGE_HEADERS_MAX * (ATTRIBUTES_HEADER_MAX + 32 + EXCHANGE_FIELD_MAX + 2))

enum attributes_of {
        ATTRIBUTES_SPAN = 1,                       /* everything, and the name */
        ATTRIBUTES_METRIC = 2,                     /* what has few values, for series; no name */
};

struct attributes {
        const char *name;                          /* of the span: "GET /users/{id}", "GET", "shop.Cart/Add", "SELECT orders" */
        size_t name_len;
        bool failed;                               /* span status ERROR; else it stays unset: nobody but the program can say OK */
        size_t n;
        struct attribute at[ATTRIBUTES_MAX];
        size_t used;                               /* of scratch */
        char scratch[ATTRIBUTES_SCRATCH];
};

/* Fills *ret; it borrows the exchange's texts, so it ends with the exchange. */
void attributes_of(const struct exchange *x, enum attributes_of what, struct attributes *ret);
/* The attribute with this key, or NULL. */
const struct attribute *attributes_find(const struct attributes *a, const char *key);
/* Appends attributes as field number of their parent, in order (writers go backwards). */
void attributes_put(const struct attributes *a, struct tel_writer *w, uint32_t number);
/* The Resource of a process as field 1 of its parent; p NULL: an empty one. What is not UTF-8 becomes '?'. */
void attributes_put_resource(const struct process *p, struct tel_writer *w);
#define ATTRIBUTES_RESOURCE_MAX (24u << 10)        /* bytes of it: 24 attributes of twice PROCESS_TEXT_MAX, and as much again to spare */
/* The value of a resource's attribute, or NULL. p may be NULL. */
const char *attributes_resource_get(const struct process *p, const char *key);
/* The InstrumentationScope as field 1 of its parent: "beylad" and our version. */
void attributes_put_scope(struct tel_writer *w);
/* "192.0.2.1" of ::ffff:192.0.2.1, else as RFC 5952 has it. out: 46 bytes. Returns its length. */
size_t attributes_address(const uint8_t ip[static 16], char *out);
