/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Postgres wire: the messages of PostgreSQL's protocol, version 3: where one begins and ends, which lengths it may have, and how a
 * connection is told from others by its first bytes.
 * Source: PostgreSQL's documentation, chapter 55 "Frontend/Backend Protocol", 55.7 "Message Formats".
 * May touch: memory only. */
#include "beylad/protocols/protocol.h"

#define WIRE_HEAD 5                                /* type and length; a startup packet has no type */
#define WIRE_BODY_MAX 0x3fffffffu                  /* bytes; the server takes no more (PQ_LARGE_MESSAGE_LIMIT) */
#define WIRE_STARTUP_MAX 10000u                    /* bytes; likewise (MAX_STARTUP_PACKET_LENGTH) */
#define WIRE_STARTUP '\0'                          /* our type of a startup packet */

enum wire_code { WIRE_CANCEL = 80877102, WIRE_SSL = 80877103, WIRE_GSSENC = 80877104, WIRE_VERSION_3 = 3 << 16 };

enum wire_result { WIRE_MORE, WIRE_DONE, WIRE_BAD };

/* The message that is being read in one direction. */
struct wire {
        uint8_t head[WIRE_HEAD];
        uint8_t head_len;                          /* bytes of it that came; 0: between two messages */
        uint8_t type;                              /* once head_len > 0 */
        bool cut;                                  /* bytes of the body that are wanted were not captured */
        uint32_t len, left;                        /* bytes of the body; those to come, once the head is whole */
        uint32_t want;                             /* bytes from its beginning that are kept */
        const uint8_t *body;                       /* WIRE_DONE: body_len bytes; at most want, fewer when cut */
        uint32_t body_len;
        uint8_t *kept;                             /* where they are when they did not come at once; NULL: nowhere yet */
};

/* How many bytes of a body to keep; UINT32_MAX: no message has this type and length. */
typedef uint32_t (*wire_want_fn)(uint8_t type, uint32_t len);

/* The first byte of a message was read: its type, or WIRE_STARTUP and the first byte of a startup packet's length, which is 0 as well. */
void wire_begin(struct wire *w, uint8_t type);
/* Reads from *p, which is moved, up to the end of the message. After WIRE_DONE call wire_next(). */
enum wire_result wire_read(struct wire *w, const uint8_t **p, const uint8_t *end, wire_want_fn want);
/* bytes <= w->left of the body that nobody captured. WIRE_MORE or WIRE_DONE. */
enum wire_result wire_skip(struct wire *w, uint32_t bytes);
/* Ready for the next message; frees what was kept. */
void wire_next(struct wire *w);
static inline bool wire_in_body(const struct wire *w) {
        return w->head_len == WIRE_HEAD;
}

/* The string at *pos, without its NUL, and *pos is moved behind that. false: it does not end in the n bytes. */
bool wire_string(const uint8_t *body, uint32_t n, uint32_t *pos, const uint8_t **ret, uint32_t *ret_len);
/* Whether a message may have this length, by its type. */
bool wire_ask_fits(uint8_t type, uint32_t len);
bool wire_answer_fits(uint8_t type, uint32_t len);
/* Whether the first bytes of a body, n of len, are what such a message of the frontend begins with. MATCH_NO, MATCH_MORE or MATCH_REQUEST. */
enum protocol_match wire_match_ask(uint8_t type, uint32_t len, const uint8_t *body, size_t n);
/* struct protocol's match. */
enum protocol_match wire_match(const uint8_t *data, size_t n);
