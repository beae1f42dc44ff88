/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Postgres statements: what the prepared statements and the portals of one connection do, by name; the one used longest ago leaves.
 * May touch: memory only. */
#include "beylad/protocols/sql.h"

#define STATEMENTS_MAX 256                         /* of a connection, portals with them; drivers' own caches hold 100 to 512 */
#define STATEMENT_NAME_MAX 63                      /* bytes the server tells names apart by (NAMEDATALEN) */
#define STATEMENT_TEXT_MAX 512                     /* bytes kept of a text, cut between characters: with STATEMENTS_MAX 200 KB of a connection at worst */

/* What a query does; shared by a statement and its portals. */
struct statement {
        unsigned refs;
        const char *operation;                     /* static; NULL: not known */
        uint16_t table_len, text_len;
        char bytes[];                              /* the table, then the text */
};

/* NULL: out of memory. */
struct statement *statement_new(const struct sql *q);
struct statement *statement_ref(struct statement *s);                  /* accepts NULL */
struct statement *statement_unref(struct statement *s);                /* accepts NULL, returns NULL */

enum statement_kind { STATEMENT_PREPARED, STATEMENT_PORTAL, STATEMENT_KINDS };

struct statements;                                 /* made by the first put; NULL is an empty one */

/* Names s, with a reference of its own, in the place of what had the name. s NULL: the name is forgotten. */
void statements_put(struct statements **t, enum statement_kind kind, const uint8_t *name, size_t n, struct statement *s);
/* What has the name, borrowed; NULL: unknown. */
struct statement *statements_get(struct statements *t, enum statement_kind kind, const uint8_t *name, size_t n);
struct statements *statements_free(struct statements *t);
