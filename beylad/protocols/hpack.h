/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Hpack: the compressed headers of one direction of an HTTP/2 connection -> names and values. Source: RFC 7541; sections are of it.
 *
 * It listens, so it differs from the decoder of an endpoint in three ways. Bytes come as they were captured and may be cut anywhere: nothing
 * of a block is kept but the string that is being read. When it did not hear the beginning (a connection older than beylad, a gap), what the
 * sender put into its table before is unknown; what it puts there from then on is known, because indices count from the newest (2.3.3). And
 * the table has a bound of ours: entries that only the sender still holds are unknown too. Unknown names and values are NULL, never guesses.
 * The size of the table follows the sender's updates (6.3), which are binding; SETTINGS only limit them, so SETTINGS need not be read.
 * May touch: memory only. */
#include "libtelemetry/base.h"

#define HPACK_TABLE_DEFAULT 4096u                  /* SETTINGS_HEADER_TABLE_SIZE before anyone changes it: RFC 9113, section 6.5.2 */
#define HPACK_TABLE_MAX 8192u                      /* counted as 4.1 does, which is what it takes here; browsers offer 65536, senders use 4096 */
#define HPACK_NAME_MAX 128u                        /* bytes kept of a name: the longest anybody asks for is far below */
#define HPACK_VALUE_MAX 4096u                      /* bytes kept of a value: a path with its query; what is longer is cut */

struct hpack_field {
        const uint8_t *name, *value;               /* NULL: unknown. Valid during the call */
        size_t name_len, value_len;                /* kept, at most the bounds above */
};
typedef void (*hpack_field_fn)(void *ctx, const struct hpack_field *f);

struct hpack_entry;

/* A string that comes in pieces (5.2). */
struct hpack_string {
        uint8_t *bytes;                            /* own memory */
        uint32_t n, room;                          /* kept */
        uint32_t whole;                            /* length when decoded, kept or not */
        bool missing;                              /* no memory: unknown */
};

enum hpack_stage { HPACK_FIELD, HPACK_NUMBER, HPACK_LENGTH, HPACK_STRING };

struct hpack {
        struct hpack_entry **entries;              /* ring, room is a power of two */
        uint32_t room, newest, count;
        uint32_t size, limit;                      /* bytes (4.1), and ours: at most HPACK_TABLE_MAX */
        uint32_t limit_sender;                     /* the sender's; UINT32_MAX: unknown */
        bool partial;                              /* the sender may hold entries behind our last one */
        /* Where the block is. */
        uint8_t stage, after;                      /* enum hpack_stage; after: where the number that is being read began */
        uint8_t form;                              /* of the field: enum form in hpack.c */
        bool fields;                               /* a field was seen in this block: no size update may follow */
        bool in_value, huffman;
        uint8_t shift;                             /* of the next octet of number */
        uint32_t number, name_index;               /* name_index 0: the name is a literal */
        uint32_t left;                             /* encoded bytes of the string to come */
        uint32_t n_bits;                           /* of bits, not yet decoded */
        uint64_t bits;
        struct hpack_string name, value;
};

void hpack_init(struct hpack *h);                  /* an empty table: the connection is seen from its first byte */
void hpack_done(struct hpack *h);
/* Bytes of this direction were missed: the block, if any, is given up, and what the sender's table holds is unknown. */
void hpack_forget(struct hpack *h);
/* The next bytes of a header block. field is called for each that became whole. Returns 0 or -EBADMSG: not HPACK; the table is as unknown
 * as after hpack_forget(), which was called. */
int hpack_data(struct hpack *h, const uint8_t *in, size_t n, hpack_field_fn field, void *ctx);
/* The block ends here. Returns 0 or -EBADMSG: within a field; likewise forgotten. */
int hpack_end(struct hpack *h);
