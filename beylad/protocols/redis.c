/* SPDX-License-Identifier: Apache-2.0 */
/* Redis: commands and their answers, RESP2 and RESP3, pipelined or not. Each command is an exchange of its own; answers come in the order of
 * the commands. Keys, values and passwords are never kept: of a command only its name is.
 *
 * No exchanges: answers nobody asked for (pushes, messages of subscriptions, MONITOR's lines), and what passes on a replication link.
 * Source: redis.io, "Redis serialization protocol specification", "Redis Pub/Sub", "CLIENT REPLY". */
#include <stdio.h>

#include "beylad/protocols/outstanding.h"
#include "beylad/protocols/redis_commands.h"
#include "beylad/protocols/redis_match.h"
#include "beylad/protocols/resp.h"

#define ARGS_KEPT 3                                /* CLIENT REPLY OFF */
#define ARGS_MAX (1u << 30)                        /* of a command; more than a redis-server takes (1,048,576, later INT_MAX) */
#define INLINE_MAX 65536                           /* bytes of a command without RESP: PROTO_INLINE_MAX_SIZE of redis-server */
#define TEXT_ARGS_MAX 16                           /* "?" written; a longer list says no more */
#define DATABASE_NONE (-1)

enum ask_state { ASK_START, ASK_COUNT, ASK_DOLLAR, ASK_LENGTH, ASK_BODY, ASK_INLINE, ASK_LOST };
enum reply { REPLY_ON, REPLY_OFF, REPLY_SKIP };

/* The command that is being read. */
struct ask {
        enum ask_state state;
        bool open;                                 /* its first byte was read: it has an entry, which may have been answered since */
        bool tentative;                            /* the first one behind missing bytes: if it is none, it never was one */
        uint32_t entry;                            /* its name among the outstanding */
        uint64_t args, arg;                        /* how many it has; which one is being read */
        uint64_t want;                             /* arguments whose text is needed */
        uint64_t left;                             /* bytes of the argument, with its CRLF */
        struct resp_number number;
        const struct redis_command *command;       /* NULL: not known, or not yet */
        bool in_word;                              /* inline: an argument has begun */
        uint8_t quote, last;
        uint32_t bytes;                            /* inline: of the line */
        uint8_t len[ARGS_KEPT];                    /* REDIS_NAME_MAX + 1: longer, or not all of it was seen */
        char text[ARGS_KEPT][REDIS_NAME_MAX + 1];
};

struct redis {
        struct outstanding out;
        const struct protocol_options *options;
        struct ask ask;
        struct resp answer;
        bool locked;                               /* a whole command or an answer to one was seen: what is lost now was Redis */
        bool off;                                  /* a replication link, or none of ours */
        bool subscribed, monitoring;               /* messages come unasked */
        enum reply reply;
        int64_t database, queued_database;         /* selected; inside MULTI */
};

/* ---- what is known of a command ---- */

static struct outstanding_entry *ask_entry(struct redis *r) {
        return r->ask.open ? outstanding_named(&r->out, r->ask.entry) : NULL;
}

/* The first byte of a command. */
static void ask_begin(struct redis *r, const struct chunk *at, size_t used) {
        struct ask *a = &r->ask;
        struct chunk here = chunk_at(at, used);
        struct outstanding_entry *e = outstanding_begin(&r->out, REDIS_PLAIN, &here);
        if (e && e->what == OUTSTANDING_RUN)
                e->n++;
        a->open = e;
        a->entry = outstanding_last_name(&r->out);
        a->arg = a->args = 0;
        a->want = 1;
        a->command = NULL;
        memset(a->len, 0, sizeof(a->len));
}

/* It was none, or one that nobody executes. */
static void ask_cancel(struct redis *r) {
        struct outstanding_entry *e = ask_entry(r);
        r->ask.open = false;
        if (!e || (e->what == OUTSTANDING_RUN && --e->n > 0))
                return;
        struct exchange *x = outstanding_pop_last(&r->out);
        if (x)
                exchange_drop(x, false);
}

/* The text of a kept argument in upper case; "" when it cannot be a name. */
static const char *ask_fold(struct ask *a, size_t i) {
        char *s = a->text[i];
        size_t n = a->len[i] > REDIS_NAME_MAX ? 0 : a->len[i];
        for (size_t k = 0; k < n; k++)
                s[k] = (char)(s[k] >= 'a' && s[k] <= 'z' ? s[k] - 0x20 : s[k]);
        s[redis_is_name(s, n) ? n : 0] = '\0';
        return s;
}

static bool ask_has_subcommand(const struct ask *a) {
        return a->command && (a->command->what == REDIS_CONTAINER || a->command->what == REDIS_CLIENT) && a->arg > 1;
}

/* The name is whole. Returns whether this can be a command. */
static bool ask_name_known(struct redis *r) {
        struct ask *a = &r->ask;
        const char *name = ask_fold(a, 0);
        bool module = strchr(name, '.') != NULL;
        a->command = redis_command_find(name);
        if (a->command)
                a->want = a->command->what == REDIS_CLIENT ? 3 : a->command->what == REDIS_CONTAINER || a->command->what == REDIS_SELECT ? 2 : 1;
        if (a->state == ASK_INLINE)                /* many protocols are lines of words */
                return r->locked ? a->command || module : strcmp(name, "PING") == 0;
        return !a->tentative || module || (a->command && redis_command_takes(a->command, a->args));
}

/* All that is needed of the command was read; more arguments may come. */
static void ask_head_known(struct redis *r, const struct chunk *at) {
        struct ask *a = &r->ask;
        struct outstanding_entry *e = ask_entry(r);
        if (!e || e->what == OUTSTANDING_RUN)
                return;
        e->what = a->command ? (uint8_t)a->command->what : REDIS_PLAIN;
        if (a->text[0][0] && ask_has_subcommand(a) && ask_fold(a, 1)[0]) {
                char both[2 * REDIS_NAME_MAX + 2], *p = stpcpy(both, a->text[0]);
                *p++ = ' ';
                p = stpcpy(p, a->text[1]);
                exchange_set(e->x, FIELD_DB_OPERATION, both, (size_t)(p - both));
        } else if (a->text[0][0])
                exchange_set(e->x, FIELD_DB_OPERATION, a->text[0], strlen(a->text[0]));
        exchange_asked(e->x, at);
}

/* "SET ? ?" */
static void ask_set_text(struct redis *r, struct exchange *x) {
        const char *operation = exchange_get(x, FIELD_DB_OPERATION);
        char text[2 * REDIS_NAME_MAX + 2 * TEXT_ARGS_MAX + 8], *p;
        if (!operation)
                return;
        uint64_t args = r->ask.args - 1 - (strchr(operation, ' ') != NULL);
        p = stpcpy(text, operation);
        for (uint64_t i = 0; i < TEL_MIN(args, (uint64_t)TEXT_ARGS_MAX); i++)
                p = stpcpy(p, " ?");
        exchange_set(x, FIELD_DB_TEXT, text, (size_t)(p - text));
}

/* What an answer to it will mean. */
static uint32_t ask_note(const struct ask *a, enum redis_what what) {
        if (what == REDIS_SUBSCRIBE)
                return a->args > 2 ? (uint32_t)a->args - 1 : 1;
        if (what != REDIS_SELECT || a->len[1] == 0 || a->len[1] > 9)
                return UINT32_MAX;
        uint32_t number = 0;
        for (size_t i = 0; i < a->len[1]; i++) {
                if (a->text[1][i] < '0' || a->text[1][i] > '9')
                        return UINT32_MAX;
                number = 10 * number + (uint32_t)(a->text[1][i] - '0');
        }
        return number;
}

/* Whether this command is answered, and what CLIENT REPLY makes of the next ones. */
static bool ask_is_answered(struct redis *r) {
        struct ask *a = &r->ask;
        bool answered = r->reply == REPLY_ON;
        if (r->reply == REPLY_SKIP || (a->command && a->command->what == REDIS_RESET)) {
                answered = r->reply != REPLY_SKIP;
                r->reply = REPLY_ON;
        }
        if (!a->command || a->command->what != REDIS_CLIENT || a->args != 3 || strcmp(ask_fold(a, 1), "REPLY") != 0)
                return answered;
        const char *mode = ask_fold(a, 2);
        if (strcmp(mode, "ON") == 0) {
                r->reply = REPLY_ON;
                return true;
        }
        if (strcmp(mode, "OFF") == 0)
                r->reply = REPLY_OFF;
        else if (strcmp(mode, "SKIP") == 0 && answered)
                r->reply = REPLY_SKIP;
        else
                return answered;
        return false;
}

/* The last byte of the command. */
static void ask_done(struct redis *r, const struct chunk *at) {
        struct ask *a = &r->ask;
        bool answered = ask_is_answered(r);
        struct outstanding_entry *e = ask_entry(r);
        r->locked = r->locked || a->state != ASK_INLINE;
        a->state = ASK_START;
        a->open = a->tentative = false;
        if (!e)
                return;
        e->whole = true;
        if (e->what == OUTSTANDING_RUN) {
                if (a->command && a->command->what == REDIS_SELECT)
                        r->database = DATABASE_NONE;
                if (!answered && --e->n == 0)
                        outstanding_pop_last(&r->out);
                return;
        }
        e->n = ask_note(a, e->what);
        if (r->options->db_text)
                ask_set_text(r, e->x);
        if (!answered || outstanding_take_early(&r->out)) {
                struct exchange *x = outstanding_pop_last(&r->out);
                x->unobserved = true;
                exchange_end(x, at);
        }
}

/* ---- reading commands ---- */

static void ask_keep(struct ask *a, const uint8_t *p, size_t n) {
        if (a->arg >= a->want || n == 0)
                return;
        size_t room = (size_t)(REDIS_NAME_MAX - TEL_MIN(a->len[a->arg], (uint8_t)REDIS_NAME_MAX));
        memcpy(a->text[a->arg] + REDIS_NAME_MAX - room, p, TEL_MIN(n, room));
        a->len[a->arg] = (uint8_t)TEL_MIN(a->len[a->arg] + n, (size_t)REDIS_NAME_MAX + 1);
}

/* The last byte of an argument. */
static bool ask_arg_done(struct redis *r, const struct chunk *at) {
        struct ask *a = &r->ask;
        a->arg++;
        if (a->arg == 1 && !ask_name_known(r))
                return false;
        if (a->state == ASK_INLINE)
                return true;
        if (a->arg == TEL_MIN(a->want, a->args))
                ask_head_known(r, at);
        a->state = ASK_DOLLAR;
        if (a->arg == a->args)
                ask_done(r, at);
        return true;
}

static bool ask_body(struct redis *r, const struct chunk *at, const uint8_t **p, const uint8_t *end) {
        struct ask *a = &r->ask;
        if (a->left > 2) {
                size_t n = (size_t)TEL_MIN((uint64_t)(end - *p), a->left - 2);
                ask_keep(a, *p, n);
                *p += n;
                a->left -= n;
        }
        for (; a->left <= 2 && *p < end; (*p)++) {
                if (**p != (a->left == 2 ? '\r' : '\n'))
                        return false;
                if (--a->left == 0) {
                        (*p)++;
                        return ask_arg_done(r, at);
                }
        }
        return true;
}

/* "PING\r\n", as people type it: words between blanks, in quotes if need be. */
static bool ask_inline(struct redis *r, const struct chunk *at, const uint8_t **p, const uint8_t *end) {
        struct ask *a = &r->ask;
        while (*p < end) {
                uint8_t c = *(*p)++, last = a->last;
                a->last = c;
                if (++a->bytes > INLINE_MAX)
                        return false;
                bool blank = c == '\n' || (!a->quote && (c == ' ' || c == '\t' || c == '\r'));
                if (!blank) {
                        if (!a->quote && (c == '"' || c == '\''))
                                a->quote = c;
                        else if (c == a->quote && last != '\\')
                                a->quote = '\0';
                        else
                                ask_keep(a, &c, 1);
                        a->in_word = true;
                } else if (a->in_word) {
                        a->in_word = false;
                        if (!ask_arg_done(r, at))
                                return false;
                }
                if (c == '\n') {
                        a->args = a->arg;
                        ask_head_known(r, at);
                        ask_done(r, at);
                        return true;
                }
        }
        return true;
}

/* Between two commands. */
static bool ask_start(struct redis *r, const struct chunk *at, const uint8_t **p) {
        struct ask *a = &r->ask;
        uint8_t c = **p;
        if (c == '*') {
                ask_begin(r, at, (size_t)(*p - at->data));
                a->state = ASK_COUNT;
                a->number = (struct resp_number){ 0 };
                (*p)++;
        } else if (c == '\r' || c == '\n')         /* an empty inline command: passed over by the server, too */
                (*p)++;
        else if (((c | 0x20) >= 'a' && (c | 0x20) <= 'z') && !a->tentative) {
                ask_begin(r, at, (size_t)(*p - at->data));
                a->state = ASK_INLINE;
                a->in_word = false;
                a->quote = a->last = '\0';
                a->bytes = 0;
        } else
                return false;
        return true;
}

static bool ask_count_known(struct redis *r) {
        struct ask *a = &r->ask;
        if (a->number.streamed || a->number.value > ARGS_MAX)
                return false;
        if (a->number.value > 0 && !a->number.negative) {
                a->args = a->number.value;
                a->state = ASK_DOLLAR;
        } else {                                   /* "*0": likewise passed over */
                ask_cancel(r);
                a->state = ASK_START;
        }
        return true;
}

static bool ask_read(struct redis *r, const struct chunk *at) {
        struct ask *a = &r->ask;
        const uint8_t *p = at->data, *end = p + at->n;
        enum resp_result done;
        bool good = true;
        while (good && p < end)
                switch (a->state) {
                case ASK_START:
                        good = ask_start(r, at, &p);
                        break;
                case ASK_COUNT:
                        done = resp_number_read(&a->number, &p, end);
                        good = done != RESP_BAD && (done == RESP_MORE || ask_count_known(r));
                        break;
                case ASK_DOLLAR:
                        good = *p++ == '$';
                        a->state = ASK_LENGTH;
                        a->number = (struct resp_number){ 0 };
                        break;
                case ASK_LENGTH:
                        done = resp_number_read(&a->number, &p, end);
                        good = done != RESP_BAD && !a->number.negative && !a->number.streamed && a->number.value <= RESP_BYTES_MAX;
                        if (good && done == RESP_DONE) {
                                a->left = a->number.value + 2;
                                a->state = ASK_BODY;
                        }
                        break;
                case ASK_BODY:
                        good = ask_body(r, at, &p, end);
                        break;
                case ASK_INLINE:
                        good = ask_inline(r, at, &p, end);
                        break;
                case ASK_LOST:
                        return true;
                }
        return good;
}

/* ---- answers ---- */

static void finish(struct redis *r, struct exchange *x, const struct chunk *at) {
        char number[24];
        if (x->state == EXCHANGE_OPEN)             /* refused before all of it was there */
                exchange_asked(x, at);
        if (r->database != DATABASE_NONE)
                exchange_set(x, FIELD_DB_NAMESPACE, number, (size_t)snprintf(number, sizeof(number), "%lld", (long long)r->database));
        exchange_end(x, at);
}

/* "WRONGTYPE Operation against a key holding the wrong kind of value": the first word names the error. What the server does not know as a
 * command may be anything somebody typed, a password too: then no name is kept. */
static void answer_failed(const struct resp *a, struct exchange *x) {
        size_t n = 0;
        while (n < a->word_len && a->word[n] != ' ')
                n++;
        x->failed = true;
        if (n < RESP_WORD_MAX && redis_is_name(a->word, n))
                exchange_set(x, FIELD_DB_STATUS, a->word, n);
        const char *operation = exchange_get(x, FIELD_DB_OPERATION);
        if (!operation)
                return;
        if (resp_begins(a, "ERR unknown command"))
                x->fields[FIELD_DB_OPERATION] = x->fields[FIELD_DB_TEXT] = 0;
        else if (resp_begins(a, "ERR unknown subcommand") || resp_begins(a, "ERR Unknown subcommand")) {
                char name[REDIS_NAME_MAX];
                n = strcspn(operation, " ");
                memcpy(name, operation, n);
                exchange_set(x, FIELD_DB_OPERATION, name, n);
                x->fields[FIELD_DB_TEXT] = 0;
        }
}

/* What the answer to such a command changes. */
static void answer_meant(struct redis *r, const struct outstanding_entry *e) {
        const struct resp *a = &r->answer;
        switch (e->what) {
        case REDIS_SELECT:
                if (resp_is(a, "QUEUED"))
                        r->queued_database = e->n == UINT32_MAX ? DATABASE_NONE : (int64_t)e->n;
                else
                        r->database = e->n == UINT32_MAX ? DATABASE_NONE : (int64_t)e->n;
                break;
        case REDIS_EXEC:
                if (!a->null && r->queued_database != DATABASE_NONE)
                        r->database = r->queued_database;
                r->queued_database = DATABASE_NONE;
                break;
        case REDIS_DISCARD:
                r->queued_database = DATABASE_NONE;
                break;
        case REDIS_RESET:
                r->database = 0;
                r->queued_database = DATABASE_NONE;
                r->subscribed = r->monitoring = false;
                break;
        case REDIS_MONITOR:
                r->monitoring = true;
                break;
        case REDIS_SYNC:
                r->off = true;
                connection_upgraded(r->out.connection);
                break;
        }
}

/* A message of a subscription, or the confirmation of one. Returns false when an array is neither. */
static bool answer_pushed(struct redis *r, const struct chunk *at) {
        static const char *const messages[] = { "message", "pmessage", "smessage" };
        static const char *const confirmations[] = { "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe" };
        const struct resp *a = &r->answer;
        bool push = a->top == '>';
        for (size_t i = 0; i < TEL_ARRAY_LEN(messages); i++)
                if (resp_is(a, messages[i])) {
                        r->subscribed = !push;     /* RESP3 tells pushes from answers; RESP2 does not */
                        return true;
                }
        for (size_t i = 0; i < TEL_ARRAY_LEN(confirmations); i++) {
                if (!resp_is(a, confirmations[i]))
                        continue;
                struct outstanding_entry *e = outstanding_first(&r->out);
                r->subscribed = !push && (i < 3 || a->integer > 0);
                if (e && e->what == REDIS_SUBSCRIBE) {
                        exchange_answered(e->x, at);
                        if (--e->n == 0)
                                finish(r, outstanding_pop(&r->out), at);
                }
                return true;
        }
        return push;
}

/* The last byte of an answer; unobserved: it was not seen. */
static void answer_done(struct redis *r, const struct chunk *at, bool unobserved) {
        const struct resp *a = &r->answer;
        struct outstanding_entry *e = outstanding_first(&r->out);
        r->out.answer_tentative = false;
        if ((a->watch && answer_pushed(r, at)) || (r->monitoring && a->top == '+' && a->word_len > 0 && a->word[0] >= '0' && a->word[0] <= '9'))
                return;
        if (!e) {
                if (r->reply == REPLY_OFF)
                        r->reply = REPLY_ON;       /* it answers although it should not: CLIENT REPLY OFF was refused */
                outstanding_early(&r->out);
                return;
        }
        r->locked = true;
        r->out.overlaps = r->out.overlaps || e->turn != r->out.turn;
        if (e->what == OUTSTANDING_RUN) {
                if (--e->n == 0)
                        outstanding_pop(&r->out);
                return;
        }
        bool failed = a->top == '-' || a->top == '!';
        if (!failed)
                answer_meant(r, e);
        struct exchange *x = outstanding_pop(&r->out);
        if (failed)
                answer_failed(a, x);
        x->unobserved = unobserved;
        finish(r, x, at);
}

/* The first byte of an answer. */
static void answer_begun(struct redis *r, const struct chunk *at) {
        struct resp *a = &r->answer;
        struct outstanding_entry *e = outstanding_first(&r->out);
        a->watch = a->top == '>' || (a->top == '*' && (r->subscribed || !e || e->what == REDIS_SUBSCRIBE));
        if (e && e->x && !a->watch && !(r->monitoring && a->top == '+'))
                exchange_answered(e->x, at);
}

static bool answer_read(struct redis *r, const struct chunk *at) {
        const uint8_t *p = at->data, *end = p + at->n;
        enum resp_result result;
        while (!r->off && (result = resp_read(&r->answer, &p, end)) != RESP_MORE) {
                if (result == RESP_BAD)
                        return false;
                if (result == RESP_BEGUN)
                        answer_begun(r, at);
                else
                        answer_done(r, at, false);
        }
        return true;
}

/* ---- the protocol ---- */

static void redis_start(void *state, struct connection *c, const struct protocol_options *options, enum exchange_role role) {
        struct redis *r = state;
        outstanding_init(&r->out, c, role);
        r->options = options;
        r->database = r->queued_database = DATABASE_NONE;
        resp_reset(&r->answer);
}

static int give_up(struct redis *r) {
        outstanding_drop(&r->out, r->locked);
        r->off = true;
        return -EPROTO;
}

static int ask_data(struct redis *r, const struct chunk *at, bool turn) {
        struct ask *a = &r->ask;
        if (turn)
                outstanding_settle(&r->out);
        if (a->state == ASK_LOST) {
                if (!turn)
                        return 0;
                a->state = ASK_START;
                a->tentative = true;
        }
        if (ask_read(r, at))
                return 0;
        if (!a->tentative) {
                if (a->open)
                        ask_cancel(r);
                return give_up(r);
        }
        ask_cancel(r);
        a->state = ASK_LOST;
        a->tentative = false;
        return 0;
}

static int answer_data(struct redis *r, const struct chunk *at, bool turn) {
        if (outstanding_answers_found(&r->out, turn))
                resp_reset(&r->answer);
        bool good = r->out.answer_state == ANSWER_LOST || answer_read(r, at);
        r->out.seen_ns = at->end_ns;
        if (good)
                return 0;
        if (!r->out.answer_tentative)
                return give_up(r);
        outstanding_answers_lost(&r->out);
        return 0;
}

static int redis_data(void *state, const struct chunk *at) {
        struct redis *r = state;
        bool turn = outstanding_turn(&r->out, at);
        if (r->off || (r->out.asks_ended && r->out.answers_ended))
                return 0;
        return at->direction == outstanding_asks(&r->out) ? ask_data(r, at, turn) : answer_data(r, at, turn);
}

static void ask_gap(struct redis *r, const struct chunk *at, bool turn, uint64_t bytes) {
        struct ask *a = &r->ask;
        if (turn)
                outstanding_settle(&r->out);
        struct outstanding_entry *e = ask_entry(r);
        if (a->state == ASK_BODY && bytes <= a->left) {
                if (a->arg < a->want && a->left > 2)
                        a->len[a->arg] = REDIS_NAME_MAX + 1;
                a->left -= bytes;
                if (a->left == 0)
                        ask_arg_done(r, at);
                return;
        }
        outstanding_missing(&r->out);
        if (a->open && a->tentative)
                ask_cancel(r);
        else if (e && e->x) {                      /* the rest of it was sent, too: it will be answered */
                if (e->x->state == EXCHANGE_OPEN)
                        exchange_asked(e->x, at);
                e->whole = true;
        } else if (!a->open && !turn && a->state != ASK_LOST)
                connection_lost(r->out.connection, 1);     /* at least; what opens a turn is counted where it was lost */
        a->open = a->tentative = false;
        a->state = ASK_LOST;
}

static void answer_gap(struct redis *r, const struct chunk *at, bool turn, uint64_t bytes) {
        struct chunk seen = { .end_ns = r->out.seen_ns };
        if (r->out.answer_state == ANSWER_READ && bytes > 0 && bytes <= resp_left(&r->answer)) {
                /* When others spoke since, these bytes came before them: when, nobody knows. */
                if (resp_skip(&r->answer, bytes) == RESP_DONE)
                        answer_done(r, turn ? &seen : at, turn);
                return;
        }
        outstanding_answers_gap(&r->out, turn);
}

static void redis_gap(void *state, const struct chunk *at, uint64_t bytes) {
        struct redis *r = state;
        bool turn = outstanding_turn(&r->out, at);
        if (r->off)
                return;
        if (at->direction == outstanding_asks(&r->out))
                ask_gap(r, at, turn, bytes);
        else
                answer_gap(r, at, turn, bytes);
}

static void redis_end(void *state, enum direction direction, uint64_t now_ns) {
        struct redis *r = state;
        struct outstanding_entry *e = ask_entry(r);
        if (direction != outstanding_asks(&r->out))
                outstanding_settle(&r->out);
        else {
                if (e && !e->whole)
                        ask_cancel(r);             /* never sent as a whole */
                r->ask.open = false;
                r->ask.state = ASK_LOST;
        }
        outstanding_end(&r->out, direction, now_ns);
}

static uint64_t redis_skip(const void *state, enum direction direction) {
        const struct redis *r = state;
        const struct ask *a = &r->ask;
        if (r->off)
                return 0;
        if (direction == outstanding_asks(&r->out))
                return a->state == ASK_BODY && a->arg >= a->want ? a->left : 0;
        return r->out.answer_state == ANSWER_READ && !r->answer.keep ? resp_left(&r->answer) : 0;
}

static void redis_done(void *state) {
        struct redis *r = state;
        outstanding_done(&r->out);
}

const struct protocol protocol_redis = {
        .name = "redis",
        .size = sizeof(struct redis),
        .match = redis_match,
        .start = redis_start,
        .data = redis_data,
        .gap = redis_gap,
        .end = redis_end,
        .skip = redis_skip,
        .done = redis_done,
};
