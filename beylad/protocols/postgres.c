/* SPDX-License-Identifier: Apache-2.0 */
/* Postgres: queries and their answers, version 3 of the protocol, simple and extended, pipelined or not. Passwords, values and literals are
 * never kept.
 *
 * What is an exchange:
 * - a simple Query with all its statements, from its first byte to ReadyForQuery;
 * - an Execute, from the first byte of the Parse, Bind or Execute that prepared it to CommandComplete, EmptyQueryResponse, PortalSuspended or
 *   ErrorResponse;
 * - a Parse or Bind without Execute only when the server refuses it: a query that failed;
 * - a FunctionCall.
 * After an ErrorResponse the server passes over what comes before the next Sync: nothing of that is executed, so nothing of it is an exchange,
 * or a loss. Sync, Describe, Close, Terminate and CancelRequest are none either.
 *
 * SSLRequest answered with "S": TLS follows, whose plaintext is a stream of its own and begins with a startup packet. "N": it goes on here.
 * Source: PostgreSQL's documentation, chapter 55 "Frontend/Backend Protocol", 55.2 "Message Flow". */
#include "beylad/protocols/outstanding.h"
#include "beylad/protocols/postgres_statements.h"
#include "beylad/protocols/postgres_wire.h"
#include "libtelemetry/cursor.h"

#define NAMES_KEPT (2 * (STATEMENT_NAME_MAX + 1))  /* bytes of a Bind's or an Execute's body: two names the server tells apart */
#define TARGET_KEPT (2 + STATEMENT_NAME_MAX)       /* of a Close's: what it closes and its name */
#define STARTUP_KEPT 2048                          /* of a startup packet: names and values in any order, in all a few hundred bytes with the drivers we know */
#define ERROR_KEPT 256                             /* of an ErrorResponse: the code is the third field */
#define TAG_KEPT 32                                /* of a CommandComplete */

/* What is outstanding. n of an entry: */
enum postgres_what {
        POSTGRES_QUERY,                            /* statements completed */
        POSTGRES_EXECUTE,                          /* - */
        POSTGRES_FUNCTION,                         /* - */
        POSTGRES_SYNC,                             /* ReadyForQuery to come */
        POSTGRES_STARTUP,                          /* - */
                                                   /* OUTSTANDING_RUN: ReadyForQuery to come */
};


struct postgres {
        struct outstanding out;
        const struct protocol_options *options;
        struct wire ask, answer;
        struct statements *statements;
        struct statement *parsed;                  /* by the last Parse */
        bool typed;                                /* the session has begun: all messages have a type */
        bool negotiating;                          /* SSLRequest or GSSENCRequest was sent: one byte answers it */
        bool off;                                  /* encrypted by GSSAPI, a CancelRequest, or none of ours */
        /* Asking. */
        bool lost;                                 /* bytes are missing: nothing is read up to the next turn */
        bool tentative;                            /* the first message behind missing bytes: if it is none, it never was one */
        bool open;                                 /* the message that is being read is an entry's, */
        bool grouped;                              /* a Parse or Bind began one whose Execute is to come: */
        uint32_t entry;                            /* its name among the outstanding */
        bool failed;                               /* an error was answered: nothing is executed up to the next Sync */
        bool copying;                              /* COPY ... FROM STDIN: Sync is passed over until CopyDone or CopyFail */
        /* Answering. */
        bool late;                                 /* the end of the message being read was not seen */
        uint8_t database_len;
        char database[STATEMENT_NAME_MAX];
};

/* ---- what is asked ---- */

static struct outstanding_entry *ask_entry(struct postgres *p) {
        return p->open || p->grouped ? outstanding_named(&p->out, p->entry) : NULL;
}

/* An entry begins with the message whose first byte is at `at`. */
static void entry_begin(struct postgres *p, enum postgres_what what, const struct chunk *at) {
        struct outstanding_entry *e = outstanding_begin(&p->out, what, at);
        p->entry = outstanding_last_name(&p->out);
        p->open = e;
}

/* The first byte of a message. */
static void ask_begun(struct postgres *p, uint8_t type, const struct chunk *at) {
        struct outstanding_entry *last = outstanding_last(&p->out);
        p->open = false;
        switch (type) {
        case 'Q':
        case 'F':
                p->grouped = false;
                entry_begin(p, type == 'Q' ? POSTGRES_QUERY : POSTGRES_FUNCTION, at);
                break;
        case 'P':
        case 'B':
        case 'E':
                if (p->grouped && !ask_entry(p))
                        p->grouped = false;        /* answered already, with an error */
                if (p->grouped)
                        p->open = true;
                else if (!p->failed)
                        entry_begin(p, POSTGRES_EXECUTE, at);
                p->grouped = p->open;
                if (p->open && ask_entry(p))
                        ask_entry(p)->turn = p->out.turn;
                break;
        case 'd':
        case 'c':
        case 'f':
        case 'p':
                if (last)
                        last->turn = p->out.turn;  /* a conversation, not another request */
                break;
        }
}

/* The message that began was none. What it began leaves, unless an earlier message did. */
static void ask_cancel(struct postgres *p) {
        struct outstanding_entry *e = p->open ? outstanding_named(&p->out, p->entry) : NULL;
        p->open = p->grouped = false;
        if (e && e->what != OUTSTANDING_RUN && !e->whole && e == outstanding_last(&p->out)) {
                struct exchange *x = outstanding_pop_last(&p->out);
                if (x)
                        exchange_drop(x, false);
        }
}

static void set_known(const struct postgres *p, struct exchange *x, const struct chunk *at) {
        if (p->database_len > 0)
                exchange_set(x, FIELD_DB_NAMESPACE, p->database, p->database_len);
        if (x->state == EXCHANGE_OPEN)
                exchange_asked(x, at);
}

static void set_statement(const struct postgres *p, struct exchange *x, const struct statement *s) {
        if (s && s->operation)
                exchange_set(x, FIELD_DB_OPERATION, s->operation, strlen(s->operation));
        if (s && s->table_len > 0)
                exchange_set(x, FIELD_DB_COLLECTION, s->bytes, s->table_len);
        if (s && p->options->db_text && s->text_len > 0)
                exchange_set(x, FIELD_DB_TEXT, s->bytes + s->table_len, s->text_len);
}

/* Whether ReadyForQuery came before we heard of what it answers. All that is outstanding ends then. */
static bool answered_early(struct postgres *p, const struct chunk *at) {
        if (!outstanding_take_early(&p->out))
                return false;
        while (p->out.n > 0) {
                bool whole = outstanding_first(&p->out)->whole;
                struct exchange *x = outstanding_pop(&p->out);
                if (x && whole) {
                        x->unobserved = true;
                        exchange_end(x, at);
                } else if (x)
                        exchange_drop(x, false);
        }
        return true;
}

static bool ask_query(struct postgres *p, const struct wire *w, const struct chunk *at) {
        struct outstanding_entry *e = ask_entry(p);
        const uint8_t *nul = w->body_len > 0 ? memchr(w->body, '\0', w->body_len) : NULL;
        struct sql q;
        if (!nul && !w->cut && w->body_len == w->len)
                return false;
        if (!e)
                return true;
        e->whole = true;
        if (e->what == OUTSTANDING_RUN) {
                e->n++;
                return true;
        }
        sql_read(w->body, nul ? (size_t)(nul - w->body) : w->body_len, nul, p->options->db_text, &q);
        if (q.operation)
                exchange_set(e->x, FIELD_DB_OPERATION, q.operation, strlen(q.operation));
        if (q.table_len > 0)
                exchange_set(e->x, FIELD_DB_COLLECTION, q.table, q.table_len);
        if (q.text_len > 0)
                exchange_set(e->x, FIELD_DB_TEXT, q.text, q.text_len);
        set_known(p, e->x, at);
        answered_early(p, at);
        return true;
}

static bool ask_parse(struct postgres *p, const struct wire *w) {
        uint32_t pos = 0, name_len;
        const uint8_t *name, *nul;
        struct sql q;
        p->parsed = statement_unref(p->parsed);
        if (!wire_string(w->body, w->body_len, &pos, &name, &name_len))
                return w->cut || w->body_len < w->len;
        nul = memchr(w->body + pos, '\0', w->body_len - pos);
        sql_read(w->body + pos, (nul ? (size_t)(nul - w->body) : w->body_len) - pos, nul, p->options->db_text, &q);
        p->parsed = statement_new(&q);
        statements_put(&p->statements, STATEMENT_PREPARED, name, name_len, p->parsed);
        return nul || w->cut || w->body_len < w->len;
}

static bool ask_bind(struct postgres *p, const struct wire *w) {
        uint32_t pos = 0, portal_len, name_len;
        const uint8_t *portal, *name;
        struct statement *s = NULL;
        if (!wire_string(w->body, w->body_len, &pos, &portal, &portal_len))
                return w->cut || w->body_len < w->len;
        if (wire_string(w->body, w->body_len, &pos, &name, &name_len))
                s = statements_get(p->statements, STATEMENT_PREPARED, name, name_len);
        else if (!w->cut && w->body_len == w->len)
                return false;
        else if (!w->cut && w->body_len - pos >= STATEMENT_NAME_MAX)   /* longer than what the server tells apart */
                s = statements_get(p->statements, STATEMENT_PREPARED, w->body + pos, w->body_len - pos);
        statements_put(&p->statements, STATEMENT_PORTAL, portal, portal_len, s);
        return true;
}

static bool ask_execute(struct postgres *p, const struct wire *w, const struct chunk *at) {
        struct outstanding_entry *e = ask_entry(p);
        uint32_t pos = 0, portal_len;
        const uint8_t *portal;
        bool named = wire_string(w->body, w->body_len, &pos, &portal, &portal_len);
        if (!named && !w->cut && w->body_len == w->len)
                return false;
        p->grouped = false;
        if (!e)
                return true;
        e->whole = true;
        if (e->what == OUTSTANDING_RUN)
                return true;
        set_statement(p, e->x, named ? statements_get(p->statements, STATEMENT_PORTAL, portal, portal_len) : NULL);
        set_known(p, e->x, at);
        return true;
}

static void ask_close(struct postgres *p, const struct wire *w) {
        uint32_t pos = 1, len;
        const uint8_t *name;
        if (!wire_string(w->body, w->body_len, &pos, &name, &len))
                return;
        if (w->body[0] == 'S')
                statements_put(&p->statements, STATEMENT_PREPARED, name, len, NULL);
        else if (w->body[0] == 'P')
                statements_put(&p->statements, STATEMENT_PORTAL, name, len, NULL);
}

static void ask_sync(struct postgres *p, const struct chunk *at) {
        struct outstanding_entry *e = p->grouped ? ask_entry(p) : NULL, *last;
        if (p->copying)
                return;
        if (e && e->x) {                           /* nothing was executed: an exchange only if it fails */
                set_statement(p, e->x, p->parsed);
                set_known(p, e->x, at);
        }
        p->grouped = p->failed = false;
        if (answered_early(p, at))
                return;
        last = outstanding_last(&p->out);
        if (last && last->what == POSTGRES_SYNC)
                last->n++;
        else if ((last = outstanding_push(&p->out, POSTGRES_SYNC)))
                last->n++;
}

/* The settings that a client begins with: names and values. Only the database's name is looked at. */
static void startup_parameters(struct postgres *p, const struct wire *w) {
        uint32_t pos = 4, name_len, value_len;
        const uint8_t *name, *value;
        while (wire_string(w->body, w->body_len, &pos, &name, &name_len) && name_len > 0 && wire_string(w->body, w->body_len, &pos, &value, &value_len))
                if (name_len == 8 && memcmp(name, "database", 8) == 0) {
                        p->database_len = (uint8_t)TEL_MIN(value_len, (uint32_t)sizeof(p->database));
                        memcpy(p->database, value, p->database_len);
                }
}

static bool ask_startup(struct postgres *p, const struct wire *w) {
        if (w->body_len < 4)
                return w->cut;
        uint32_t code = tel_be32_get(w->body);
        if (code == WIRE_SSL || code == WIRE_GSSENC)
                p->negotiating = true;
        else if (code == WIRE_CANCEL)
                p->off = true;
        else if (code >> 16 == 3) {
                startup_parameters(p, w);
                p->typed = true;
                p->negotiating = false;
                outstanding_push(&p->out, POSTGRES_STARTUP);
        } else
                return false;
        return true;
}

/* A whole message. Returns whether it can be one. */
static bool ask_message(struct postgres *p, const struct chunk *at) {
        const struct wire *w = &p->ask;
        struct outstanding_entry *e;
        if (p->tentative && wire_match_ask(w->type, w->len, w->body, w->body_len) != MATCH_REQUEST && w->type != 'S' && w->type != 'F')
                return false;
        switch (w->type) {
        case WIRE_STARTUP:
                return ask_startup(p, w);
        case 'Q':
                return ask_query(p, w, at);
        case 'P':
                return ask_parse(p, w);
        case 'B':
                return ask_bind(p, w);
        case 'E':
                return ask_execute(p, w, at);
        case 'C':
                ask_close(p, w);
                break;
        case 'S':
                ask_sync(p, at);
                break;
        case 'F':
                e = ask_entry(p);
                if (e && e->what == OUTSTANDING_RUN)
                        e->n++;
                else if (e)
                        set_known(p, e->x, at);
                if (e)
                        e->whole = true;
                break;
        case 'c':
        case 'f':
                p->copying = false;
                break;
        }
        return true;
}

/* How much of a body is needed. Of those that hold passwords and values nothing is. */
static uint32_t ask_wants(uint8_t type, uint32_t len) {
        if (!wire_ask_fits(type, len))
                return UINT32_MAX;
        switch (type) {
        case WIRE_STARTUP:
                return STARTUP_KEPT;
        case 'Q':
                return SQL_READ_MAX + 1;
        case 'P':
                return STATEMENT_NAME_MAX + 1 + SQL_READ_MAX + 1;
        case 'B':
        case 'E':
                return NAMES_KEPT;
        case 'C':
        case 'D':
                return TARGET_KEPT;
        default:
                return 0;
        }
}

static bool ask_read(struct postgres *p, const struct chunk *at) {
        const uint8_t *b = at->data, *end = b + at->n;
        struct wire *w = &p->ask;
        while (b < end && !p->off) {
                if (w->head_len == 0) {
                        struct chunk here = chunk_at(at, (size_t)(b - at->data));
                        p->typed = p->typed || *b != WIRE_STARTUP;
                        if (p->typed && *b == WIRE_STARTUP)
                                return false;
                        ask_begun(p, *b, &here);
                        wire_begin(w, *b++);
                }
                enum wire_result r = wire_read(w, &b, end, ask_wants);
                if (r == WIRE_BAD || (r == WIRE_DONE && !ask_message(p, at)))
                        return false;
                if (r == WIRE_DONE) {
                        wire_next(w);
                        p->open = p->tentative = false;
                }
        }
        return true;
}

/* ---- what is answered ---- */

static void finish(const struct postgres *p, struct exchange *x, const struct chunk *at) {
        if (p->late)
                x->unobserved = true;
        exchange_end(x, at);
}

/* The code of an error, SQLSTATE: five digits and capitals. */
static void set_failed(struct exchange *x, const struct wire *w) {
        uint32_t pos = 0, len;
        const uint8_t *field;
        if (x->failed)
                return;
        x->failed = true;
        while (wire_string(w->body, w->body_len, &pos, &field, &len) && len > 0)
                if (field[0] == 'C' && len == 6)
                        exchange_set(x, FIELD_DB_STATUS, field + 1, 5);
}

/* What was executed, as the server names it: for statements we did not see prepared. */
static void set_tag(struct exchange *x, const struct wire *w) {
        uint32_t n = 0;
        while (n < w->body_len && w->body[n] >= 'A' && w->body[n] <= 'Z')
                n++;
        if (n > 0 && n < w->body_len && (w->body[n] == ' ' || w->body[n] == '\0') && !exchange_get(x, FIELD_DB_OPERATION))
                exchange_set(x, FIELD_DB_OPERATION, w->body, n);
}

static struct exchange *pop_answered(struct postgres *p) {
        p->out.overlaps = p->out.overlaps || outstanding_first(&p->out)->turn != p->out.turn;
        return outstanding_pop(&p->out);
}

static void answer_complete(struct postgres *p, const struct wire *w, const struct chunk *at) {
        struct outstanding_entry *e = outstanding_first(&p->out);
        p->copying = false;
        if (!e || !e->x || (e->what != POSTGRES_QUERY && e->what != POSTGRES_EXECUTE))
                return;
        if (w->type == 'C')
                set_tag(e->x, w);
        if (e->what == POSTGRES_QUERY)
                e->n++;
        else
                finish(p, pop_answered(p), at);
}

static void answer_error(struct postgres *p, const struct wire *w, const struct chunk *at) {
        struct outstanding_entry *e = outstanding_first(&p->out);
        p->copying = false;
        if (e && e->x && e->what != POSTGRES_EXECUTE)
                set_failed(e->x, w);
        if (!e || e->what != POSTGRES_EXECUTE)
                return;
        bool whole = e->whole;
        struct exchange *x = pop_answered(p);
        set_failed(x, w);
        if (!whole && !exchange_get(x, FIELD_DB_OPERATION))
                set_statement(p, x, p->parsed);    /* refused before it was executed */
        set_known(p, x, at);
        finish(p, x, at);
        /* The others up to Sync are not executed; those that were not even sent yet will not be. */
        while ((e = outstanding_first(&p->out)) && e->what == POSTGRES_EXECUTE)
                if ((x = outstanding_pop(&p->out)))
                        exchange_drop(x, false);
        p->failed = !e;
}

static void answer_ready(struct postgres *p, const struct chunk *at) {
        struct outstanding_entry *e;
        p->copying = false;
        p->typed = true;
        if (p->out.n == 0)
                outstanding_early(&p->out);
        while ((e = outstanding_first(&p->out))) {
                if ((e->what == POSTGRES_SYNC || e->what == OUTSTANDING_RUN) && e->n > 1) {
                        e->n--;
                        return;
                }
                bool last = e->what != POSTGRES_EXECUTE && (e->what != OUTSTANDING_RUN || e->n == 1), whole = e->whole;
                uint32_t batch = e->what == POSTGRES_QUERY ? e->n : 0;
                struct exchange *x = pop_answered(p);
                if (x && last) {
                        x->batch = batch > 1 ? batch : 0;
                        set_known(p, x, at);
                        finish(p, x, at);
                } else if (x)
                        exchange_drop(x, whole);
                if (last)
                        return;
        }
}

/* The server takes data now. A Sync sent before it said so was passed over. */
static void answer_copies_in(struct postgres *p) {
        struct outstanding_entry *e;
        p->copying = true;
        while ((e = outstanding_last(&p->out)) && e->what == POSTGRES_SYNC && p->out.n > 1)
                outstanding_pop_last(&p->out);
}

/* A replication stream: what was asked is answered, and the stream has no end. */
static void answer_copies_both(struct postgres *p, const struct chunk *at) {
        struct outstanding_entry *e = outstanding_first(&p->out);
        if (e && e->x) {
                set_known(p, e->x, at);
                finish(p, TEL_TAKE(e->x), at);
        }
}

static void answer_message(struct postgres *p, const struct chunk *at) {
        const struct wire *w = &p->answer;
        p->out.answer_tentative = false;
        switch (w->type) {
        case 'C':
        case 'I':
        case 's':
                answer_complete(p, w, at);
                break;
        case 'E':
                answer_error(p, w, at);
                break;
        case 'Z':
                answer_ready(p, at);
                break;
        case 'G':
                answer_copies_in(p);
                break;
        case 'W':
                answer_copies_both(p, at);
                break;
        }
}

static uint32_t answer_wants(uint8_t type, uint32_t len) {
        if (!wire_answer_fits(type, len))
                return UINT32_MAX;
        return type == 'E' ? ERROR_KEPT : type == 'C' ? TAG_KEPT : 0;
}

/* The first byte of a message; those that come at any time answer nothing. */
static void answer_begun(struct postgres *p, uint8_t type, const struct chunk *at) {
        struct outstanding_entry *e = outstanding_first(&p->out);
        if (e && e->x && memchr("123ntTDCEIsGHWVZdc", type, 18))
                exchange_answered(e->x, at);
}

/* The one byte that answers SSLRequest and GSSENCRequest. Returns false: TLS follows ("S"), or something else. */
static bool answer_negotiated(struct postgres *p, uint8_t byte) {
        p->negotiating = false;
        if (byte == 'G') {                         /* GSSAPI: nobody shows us the plaintext */
                p->off = true;
                connection_upgraded(p->out.connection);
        }
        return byte == 'G' || byte == 'N';
}

static bool answer_read(struct postgres *p, const struct chunk *at) {
        const uint8_t *b = at->data, *end = b + at->n;
        struct wire *w = &p->answer;
        while (b < end && !p->off) {
                if (p->negotiating && *b != 'E') { /* "E": a server too old to know the request says so in a message */
                        if (!answer_negotiated(p, *b++))
                                return false;
                        continue;
                }
                p->negotiating = false;
                if (w->head_len == 0) {
                        answer_begun(p, *b, at);
                        wire_begin(w, *b++);
                        if (w->type == WIRE_STARTUP)
                                return false;
                }
                enum wire_result r = wire_read(w, &b, end, answer_wants);
                if (r == WIRE_BAD)
                        return false;
                if (r == WIRE_DONE) {
                        answer_message(p, at);
                        wire_next(w);
                }
        }
        return true;
}

/* ---- the protocol ---- */

static void postgres_start(void *state, struct connection *c, const struct protocol_options *options, enum exchange_role role) {
        struct postgres *p = state;
        outstanding_init(&p->out, c, role);
        p->options = options;
}

static int give_up(struct postgres *p) {
        outstanding_drop(&p->out, true);
        p->off = true;
        return -EPROTO;
}

static int ask_data(struct postgres *p, const struct chunk *at, bool turn) {
        if (turn)
                outstanding_settle(&p->out);
        if (p->lost) {
                if (!turn)
                        return 0;
                p->lost = false;
                p->tentative = p->typed;
        }
        if (ask_read(p, at))
                return 0;
        ask_cancel(p);
        wire_next(&p->ask);
        if (!p->tentative)
                return give_up(p);
        p->tentative = false;
        p->lost = true;
        return 0;
}

static int answer_data(struct postgres *p, const struct chunk *at, bool turn) {
        if (outstanding_answers_found(&p->out, turn))
                wire_next(&p->answer);
        bool good = p->out.answer_state == ANSWER_LOST || answer_read(p, at);
        p->out.seen_ns = at->end_ns;
        if (good)
                return 0;
        if (!p->out.answer_tentative)
                return give_up(p);
        wire_next(&p->answer);
        outstanding_answers_lost(&p->out);
        return 0;
}

static int postgres_data(void *state, const struct chunk *at) {
        struct postgres *p = state;
        bool turn = outstanding_turn(&p->out, at);
        if (p->off || (p->out.asks_ended && p->out.answers_ended))
                return 0;
        return at->direction == outstanding_asks(&p->out) ? ask_data(p, at, turn) : answer_data(p, at, turn);
}

/* Whether bytes that are missing between two messages, in the midst of a turn, held a request: not when they go on with what is open anyway. */
static bool holds_request(struct postgres *p) {
        const struct outstanding_entry *last = outstanding_last(&p->out);
        if (!p->typed || p->copying || p->grouped || p->lost)
                return false;
        return !last || last->what == POSTGRES_QUERY || last->what == POSTGRES_FUNCTION || last->what == POSTGRES_SYNC;
}

static void ask_gap(struct postgres *p, const struct chunk *at, bool turn, uint64_t bytes) {
        struct wire *w = &p->ask;
        if (turn)
                outstanding_settle(&p->out);
        struct outstanding_entry *e = ask_entry(p);
        if (wire_in_body(w) && bytes <= w->left) {
                if (wire_skip(w, (uint32_t)bytes) == WIRE_DONE) {
                        ask_message(p, at);
                        wire_next(w);
                        p->open = p->tentative = false;
                }
                return;
        }
        outstanding_missing(&p->out);
        if (w->head_len > 0 && p->tentative)
                ask_cancel(p);
        else if (e && e->x && e->what != POSTGRES_EXECUTE) {           /* the rest of it was sent, too: it will be answered */
                set_known(p, e->x, at);
                e->whole = true;
        } else if (w->head_len == 0 && !turn && holds_request(p))
                connection_lost(p->out.connection, 1);     /* at least; what opens a turn is counted where it was lost */
        wire_next(w);
        p->open = p->grouped = p->tentative = p->failed = false;
        p->lost = true;
}

static void answer_gap(struct postgres *p, const struct chunk *at, bool turn, uint64_t bytes) {
        struct wire *w = &p->answer;
        struct chunk seen = { .end_ns = p->out.seen_ns };
        if (p->out.answer_state == ANSWER_READ && wire_in_body(w) && bytes > 0 && bytes <= w->left) {
                if (wire_skip(w, (uint32_t)bytes) == WIRE_DONE) {
                        p->late = turn;            /* others spoke since: these bytes came before that, when, nobody knows */
                        answer_message(p, turn ? &seen : at);
                        p->late = false;
                        wire_next(w);
                }
                return;
        }
        outstanding_answers_gap(&p->out, turn);
        wire_next(w);
        p->negotiating = p->copying = false;
}

static void postgres_gap(void *state, const struct chunk *at, uint64_t bytes) {
        struct postgres *p = state;
        bool turn = outstanding_turn(&p->out, at);
        if (p->off)
                return;
        if (at->direction == outstanding_asks(&p->out))
                ask_gap(p, at, turn, bytes);
        else
                answer_gap(p, at, turn, bytes);
}

static void postgres_end(void *state, enum direction direction, uint64_t now_ns) {
        struct postgres *p = state;
        if (direction != outstanding_asks(&p->out))
                outstanding_settle(&p->out);
        else {
                if (p->open)
                        ask_cancel(p);             /* never sent as a whole */
                wire_next(&p->ask);
                p->grouped = false;
                p->lost = true;
        }
        outstanding_end(&p->out, direction, now_ns);
}

static uint64_t postgres_skip(const void *state, enum direction direction) {
        const struct postgres *p = state;
        bool asks = direction == outstanding_asks(&p->out);
        const struct wire *w = asks ? &p->ask : &p->answer;
        if (p->off || !wire_in_body(w) || (w->body_len < w->want && !w->cut) || (asks ? p->lost : p->out.answer_state != ANSWER_READ))
                return 0;
        return w->left;
}

static void postgres_done(void *state) {
        struct postgres *p = state;
        outstanding_done(&p->out);
        wire_next(&p->ask);
        wire_next(&p->answer);
        p->parsed = statement_unref(p->parsed);
        p->statements = statements_free(p->statements);
}

const struct protocol protocol_postgres = {
        .name = "postgresql",
        .size = sizeof(struct postgres),
        .match = wire_match,
        .start = postgres_start,
        .data = postgres_data,
        .gap = postgres_gap,
        .end = postgres_end,
        .skip = postgres_skip,
        .done = postgres_done,
};
