/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Protocol: bytes of one connection, in both directions -> exchanges. To add one: write protocols/<name>.c, and a row in table.c.
 * Implementations touch memory only and know no socket, clock or process. Whatever bytes come, they keep to their bounds and never fail:
 * what they cannot follow they drop and count, and they lock on again where a message can only begin.
 * Splitting the bytes of a direction anywhere must give the same exchanges: tests/unit/beylad/protocols/harness.h tries every split. */
#include "beylad/exchange.h"

enum direction { DIRECTION_IN, DIRECTION_OUT, DIRECTIONS };  /* the observed program received; it sent */

/* Bytes that one call moved. */
struct chunk {
        enum direction direction;
        const uint8_t *data;                       /* borrowed until the call returns */
        size_t n;
        uint64_t start_ns, end_ns;                 /* of the call */
        bool turn;                                 /* the first of this direction after the other one, or of the connection */
        bool opens_call;                           /* data[0] is the first byte that a call moved; false where that is not known */
        uint32_t tid;
        uint64_t work, work_parent;                /* goroutine and the one that started it; 0: unknown */
        uint32_t seq;                              /* TCP sequence number of data[0], when has_seq */
        bool has_seq;
        uint32_t turns_lost;                       /* of a gap: turns of this direction that opened in it, whose first call never came. The kernel
                                                    * side counted them, where this direction carries requests */
};

enum protocol_match {
        MATCH_NO,                                  /* cannot be a message of this protocol */
        MATCH_MORE,                                /* well so far; says so for at most PROTOCOL_MATCH_MAX bytes */
        MATCH_REQUEST,                             /* a request begins here: whoever received it serves */
        MATCH_ANSWER,                              /* an answer begins here: its request was not seen */
};
#define PROTOCOL_MATCH_MAX 32                      /* bytes that must be enough to tell */

/* What the settings ask of parsers; shared by all, never changes while a connection lives. */
struct protocol_options {
        const char *const *headers;                /* allowed header names, lower case, NULL-terminated */
        bool query;                                /* keep query strings */
        bool db_text;                              /* keep sanitized query texts */
};

struct protocol {
        const char *name;                          /* "http/1.1", "redis": shown by stats and explain */
        size_t size;                               /* of its state, at most PROTOCOL_STATE_MAX; zeroed before start */
        /* The first bytes of a turn. Tried in the order of the table; the first that says REQUEST or ANSWER gets the connection. */
        enum protocol_match (*match)(const uint8_t *data, size_t n);
        void (*start)(void *state, struct connection *c, const struct protocol_options *options, enum exchange_role role);
        /* Bytes in order, without gaps. Returns 0, or -EPROTO: this is not the protocol after all; the connection is looked at anew at its
         * next turn. Open exchanges were dropped (counted) before. */
        int (*data)(void *state, const struct chunk *at);
        /* bytes of a direction that nobody captured, in place. Within a body of known length they are just that; elsewhere what they may
         * have held is dropped. at has n 0 and data NULL. */
        void (*gap)(void *state, const struct chunk *at, uint64_t bytes);
        /* The direction will carry no more (IN: the peer's FIN was read; OUT: shutdown or close). Both come when the connection ends; after
         * the second no exchange is open. */
        void (*end)(void *state, enum direction direction, uint64_t now_ns);
        /* How many of the coming bytes of a direction it does not need to see, only their count (the rest of a body of known length). NULL: none. */
        uint64_t (*skip)(const void *state, enum direction direction);
        void (*done)(void *state);                 /* frees what the state holds, and open exchanges, uncounted */
        /* The open exchange of that stream, or NULL. NULL: it has no streams. */
        struct exchange *(*stream)(const void *state, uint32_t id);
};
#define PROTOCOL_STATE_MAX 4096                    /* bytes embedded in each connection; what is larger is allocated and bounded by the protocol */

extern const struct protocol *const protocol_table[];      /* NULL-terminated, in the order of trial */
extern const struct protocol protocol_http1, protocol_http2, protocol_redis, protocol_postgres;

/* Offered by connection.c: where a chunk's byte is when data was consumed up to it. Protocols that parse several messages in one chunk pass
 * this to exchange_begin(), so that seq names the message's own first byte. */
static inline struct chunk chunk_at(const struct chunk *c, size_t used) {
        struct chunk at = *c;
        at.data += used;
        at.n -= used;
        at.seq += (uint32_t)used;
        return at;
}

/* The bytes are no longer of this protocol (101 Switching Protocols, CONNECT): the connection is ignored from here on. */
void connection_upgraded(struct connection *c);
/* Requests that were lost from sight without an exchange: n of them, or at least one when n is not known. */
void connection_lost(struct connection *c, uint64_t n);
/* Another protocol goes on here (h2c upgrade, PostgreSQL's SSLRequest answered 'N'). Takes effect with the next chunk. */
void connection_switch(struct connection *c, const struct protocol *to);
