/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Sql: the text of a query -> what it does, to which table, and the text without its literals.
 * Source: PostgreSQL's documentation, "SQL Syntax", 4.1 Lexical Structure; strings as with standard_conforming_strings, its default since 9.1.
 * Time is linear in the text, whatever it is. May touch: memory only, and allocates none. */
#include "libtelemetry/base.h"

#define SQL_READ_MAX 4096                          /* bytes looked at: verb and first table stand before that in all but generated monsters */
#define SQL_TABLE_MAX 208                          /* bytes kept: three quoted names of 63 bytes (NAMEDATALEN) with dots and room; longer: no table */
#define SQL_TEXT_MAX 1024                          /* bytes kept, cut between tokens: as many as an exchange keeps of a text */

struct sql {
        const char *operation;                     /* static: "SELECT"; of the first statement; the main verb behind WITH. NULL: no verb we know */
        size_t table_len;                          /* 0: none */
        size_t text_len;
        char table[SQL_TABLE_MAX];                 /* as written: schema."Table" */
        char text[SQL_TEXT_MAX];                   /* comments gone, white space one blank, literals and $n as ?, neighbouring ?, ? as one */
};

/* n: bytes there are, SQL_READ_MAX of them are looked at. whole: there are no more; else a last word may be cut, and is not used.
 * keep_text: fill text, too. Texts do not end with a NUL. */
void sql_read(const void *bytes, size_t n, bool whole, bool keep_text, struct sql *ret);
