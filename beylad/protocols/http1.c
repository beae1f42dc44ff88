/* SPDX-License-Identifier: Apache-2.0 */
/* Http1: HTTP/1.0 and 1.1. Source: RFC 9112 (sections are of it), RFC 9110.
 *
 * A request takes its place in a queue with its first byte, and the answers are those of the queue, in order. It is asked when its head is
 * whole, and ends with the last byte of its final answer, whatever of its body is still to come; request_bytes stays unknown then. What
 * never was answered has no status. FIELD_ERROR, where the status does not say it:
 *   connection_reset   the connection ended without a byte of a final answer
 *   response_ended     it ended within the answer, as .NET's HTTP client calls it
 *
 * Bytes that are missing. Within a body, or a chunk, of known length they are just counted, and in an answer that lasts as long as the
 * connection. In a chunked answer the framing is lost: it ends with the last byte seen before the next turn (unobserved, when those bytes
 * themselves are missing). Everywhere else the message they lie in is dropped and counted, and the direction is astray: it waits for a turn.
 *
 * Who counts: a lost call that opened a turn is counted by the kernel side (PROBE_COUNT_LOST_REQUESTS); a parser counts only what it had
 * seen a part of. So bytes that are missing between two requests are not counted here, unless nothing was answered since the first and no
 * turn was lost with them: then they did not open one, and the kernel side did not count.
 *
 * Who answers whom, behind a loss. The places of a queue say it no longer, but turns do: what a program answers in a turn it was asked in
 * the turn before, if the client waits for the answers before it asks again, as all but true pipelining do. A request that is found
 * again puts an end to all older ones. An answer is found again in the first bytes of a turn, and belongs to the newest turn of requests, if
 * as many of these came since the last answer as turns of answers were lost, and one. In doubt it is passed over, and what it may belong to
 * is counted. A connection that was seen to ask on while answers were under way has no such turns: behind a loss its requests
 * are counted until it ends. */
#include "beylad/connection.h"
#include "beylad/protocols/http1_body.h"
#include "beylad/protocols/http1_line.h"
#include "beylad/protocols/http_common.h"

#define HEAD_MAX 65536                             /* bytes of a head: what servers take at most is 8 to 64 KiB */
#define PENDING_MAX 256                            /* requests that wait for answers; above it they are counted, and their answers passed over */
#define TURNS_MAX 1000                             /* counted of those that were lost at once: so that sums fit */
#define PENDING_FEW 4                              /* places embedded: a client without pipelining needs one, behind a loss two */

enum step {
        STEP_START,                                /* between messages; empty lines are passed over (section 2.2) */
        STEP_LINE,
        STEP_FIELDS,
        STEP_BODY,
        STEP_FRAMELESS,                            /* answer of which nobody knows where it ends */
        STEP_ASTRAY,                               /* until the next turn */
        STEP_OFF,                                  /* until the end */
};

/* What is thought of the message that is being read. */
enum trust {
        TRUST_SURE,
        TRUST_DOUBT,                               /* it may be bytes of something else: behind CONNECT or Upgrade, or found again */
        TRUST_FOUND,                               /* the same, and what came before it is not known */
};

enum pending_flag {
        PENDING_HEAD = 1,
        PENDING_CONNECT = 2,
        PENDING_UPGRADE = 4,
        PENDING_EXPECT = 8,
        PENDING_CONTINUED = 16,                    /* 100 was answered */
        PENDING_MIXED = 32,                        /* those behind it, without a place, are not alike */
};

struct pending {
        struct exchange *x;                        /* NULL: its answer is passed over */
        uint32_t turn;                             /* in which the last bytes of the request came */
        uint32_t more;                             /* requests behind it that found no place */
        uint8_t flags;
};

/* One direction. */
struct side {
        uint8_t step, trust;
        uint32_t head_bytes;
        struct http1_line line;
        struct http1_body body;
};

enum leave { LEAVE_NO, LEAVE_UPGRADED, LEAVE_HTTP2 };

struct http1 {
        struct connection *connection;
        const struct protocol_options *options;
        enum exchange_role role;
        struct side request, answer;
        struct pending few[PENDING_FEW], *ring;
        uint32_t room, first, n;

        struct exchange *asking;                   /* whose request is being read; NULL: none, or it has ended */
        uint32_t seen;                             /* of http_request_field() */
        bool current;                              /* the last place of the queue is that of the request being read */
        bool uncounted;                            /* the request being read has no exchange and counts once its head is whole */
        bool unsent;                               /* in doubt: either the body that the last request announced, or a request */

        int status;                                /* of the answer being read */
        bool http2;                                /* it upgrades to h2c */
        uint64_t answer_ns;                        /* its first byte */
        uint64_t answered_ns;                      /* the last byte of any */

        uint32_t turn;                             /* of requests, counted */
        uint32_t turns_asked;                      /* turns of requests since the last byte of an answer */
        uint32_t turns_answered;                   /* turns of answers since the last byte of a request */
        uint32_t turns_needed;                     /* astray: of turns_asked, for the answers to be found again */
        bool asked, answered;                      /* the head of a request, or a status line was seen: it is HTTP */
        bool overlaps;                             /* requests came while older ones were being answered */
        bool blind;                                /* overlaps, and a loss: nobody knows any more which answer is whose */
        uint8_t leave;
};
static_assert(sizeof(struct http1) <= 1024, "embedded in each connection");

/* ---- the queue ---- */

static struct pending *place(struct http1 *h, uint32_t i) {
        return &h->ring[(h->first + i) & (h->room - 1)];
}

static struct pending *newest(struct http1 *h) {
        assert(h->n > 0);
        return place(h, h->n - 1);
}

static bool queue_grow(struct http1 *h) {
        struct pending *ring = h->room < PENDING_MAX ? malloc(2 * h->room * sizeof(*ring)) : NULL;
        if (!ring)
                return false;
        for (uint32_t i = 0; i < h->n; i++)
                ring[i] = *place(h, i);
        if (h->ring != h->few)
                free(h->ring);
        h->ring = ring;
        h->room *= 2;
        h->first = 0;
        return true;
}

/* The oldest leaves. Its exchange is the caller's. */
static struct exchange *queue_pop(struct http1 *h) {
        assert(h->n > 0);
        struct pending *p = place(h, 0);
        struct exchange *x = p->x;
        if (x && x == h->asking)
                h->asking = NULL;
        if (p->more > 0) {
                *p = (struct pending){ .turn = p->turn, .more = p->more - 1, .flags = p->flags & PENDING_MIXED };
                return x;
        }
        h->first++;
        if (--h->n > 0)
                return x;
        h->current = false;
        if (h->ring != h->few) {
                free(h->ring);
                h->ring = h->few;
                h->room = PENDING_FEW;
        }
        h->first = 0;
        return x;
}

/* The oldest leaves, and will be no span. One whose head is not whole yet counts when it is. */
static void queue_drop(struct http1 *h) {
        struct exchange *x = queue_pop(h);
        if (!x)
                return;
        bool asked = x->state != EXCHANGE_OPEN;
        h->uncounted = h->uncounted || !asked;
        exchange_drop(x, asked);
}

static void queue_drop_all(struct http1 *h) {
        while (h->n > 0)
                queue_drop(h);
}

/* ---- ends of exchanges ---- */

static void end_at(struct exchange *x, uint64_t ns) {
        exchange_end(x, &(struct chunk){ .end_ns = ns });
}

/* The oldest ends with the last byte of an answer that was seen; unobserved: there were more. */
static void end_out_of_sight(struct http1 *h, int64_t bytes, bool unobserved) {
        struct exchange *x = queue_pop(h);
        if (!x)
                return;
        x->response_bytes = bytes;
        x->unobserved = unobserved;
        end_at(x, h->answered_ns);
}

static void end_failed(struct exchange *x, const char *error, uint64_t now_ns) {
        exchange_set(x, FIELD_ERROR, error, strlen(error));
        end_at(x, now_ns);
}

/* ---- losses ---- */

/* Answers cannot be followed until requests turned that often. lost: bytes are missing; else they are nobody's we know. */
static void answers_astray(struct http1 *h, uint32_t turns, bool lost) {
        h->answer.step = STEP_ASTRAY;
        h->turns_needed = turns;
        http1_line_reset(&h->answer.line);
        if (!lost || !h->overlaps)
                return;
        h->blind = true;
        queue_drop_all(h);
}

/* Nobody knows where the answer that is being read ends. turns: for answers_astray(). */
static void answer_frameless(struct http1 *h, uint32_t turns) {
        http1_line_reset(&h->answer.line);
        bool alone = place(h, 0)->more == 0 && (h->n == 1 || place(h, 0)->turn != place(h, 1)->turn);
        if (!alone || h->overlaps) {               /* the others are answered in the same turn */
                queue_drop_all(h);
                answers_astray(h, turns, true);
        } else if (h->turns_asked > 0) {
                end_out_of_sight(h, -1, true);
                answers_astray(h, turns, true);
        } else
                h->answer.step = STEP_FRAMELESS;
}

/* The request that is being read is none, or cannot be read on. */
static void request_discard(struct http1 *h, bool counted) {
        struct exchange *x = h->asking;
        h->request.step = STEP_ASTRAY;
        h->unsent = false;
        http1_line_reset(&h->request.line);
        if (h->uncounted && counted)
                connection_lost(h->connection, 1);
        if (h->current && !(x && x->state != EXCHANGE_OPEN)) {         /* what is being answered already stays */
                struct pending *p = newest(h);
                p->x = p->more > 0 ? p->x : NULL;
                if (p->more > 0)
                        p->more--;
                else if (h->n > 1 || h->answer.step == STEP_START || h->answer.step == STEP_ASTRAY)
                        h->n--;
                if (x)
                        exchange_drop(x, counted);
        }
        h->asking = NULL;
        h->current = h->uncounted = false;
}

/* Returns -EPROTO. */
static int not_http(struct http1 *h) {
        request_discard(h, false);
        queue_drop_all(h);
        h->request.step = h->answer.step = STEP_OFF;
        return -EPROTO;
}

/* ---- requests ---- */

static void request_begin(struct http1 *h, const struct chunk *at, size_t used) {
        struct side *s = &h->request;
        s->step = STEP_LINE;
        s->head_bytes = 0;
        h->seen = 0;
        h->asking = NULL;
        h->uncounted = h->blind;
        h->current = !h->blind;
        if (h->blind)
                return;
        if (h->n == h->room && !queue_grow(h)) {
                h->uncounted = true;
                newest(h)->more++;
                return;
        }
        struct chunk begin = chunk_at(at, used);
        h->asking = exchange_begin(h->connection, EXCHANGE_HTTP, h->role, &begin);
        h->n++;
        *newest(h) = (struct pending){ .x = h->asking, .turn = h->turn };
}

static void request_flag(struct http1 *h, uint8_t flag) {
        if (h->current)
                newest(h)->flags |= h->uncounted ? PENDING_MIXED : flag;
}

/* A request behind a loss. What is older was answered out of sight, or will not be found. */
static void request_found(struct http1 *h) {
        h->request.trust = TRUST_DOUBT;
        while (h->n > (h->current && !h->uncounted ? 1u : 0u))
                queue_drop(h);
        answers_astray(h, h->answer.step == STEP_ASTRAY ? h->turns_needed : 1, true);
}

static bool text_is(struct http1_text t, const char *text) {
        return t.n == strlen(text) && memcmp(t.bytes, text, t.n) == 0;
}

/* Returns 0, or -EPROTO when it is none. */
static int request_line(struct http1 *h, struct http1_text line) {
        struct http1_request_line l;
        int r = http1_request_line_parse(line, h->request.line.cut, &l);
        if (r < 0)
                return r;
        if (h->request.trust == TRUST_FOUND)
                request_found(h);
        http1_body_reset(&h->request.body);
        h->unsent = false;
        bool connect = text_is(l.method, "CONNECT");
        if (connect || text_is(l.method, "HEAD"))
                request_flag(h, connect ? PENDING_CONNECT : PENDING_HEAD);
        struct exchange *x = h->asking;
        if (!x)
                return 0;
        exchange_set(x, FIELD_METHOD, l.method.bytes, l.method.n);
        if (connect)
                http_request_authority(x, &h->seen, l.target.bytes, l.target.n);
        else {
                http_request_target(x, h->options, &h->seen, l.target.bytes, l.target.n);
                http_request_scheme(x);
        }
        exchange_set(x, FIELD_VERSION, l.version.bytes, l.version.n);
        return 0;
}

static void request_field(struct http1 *h, struct http1_text line) {
        struct http1_text name, value;
        if (http1_field_parse(line, &name, &value) < 0)
                return;
        enum http_name id = h->asking ? http_request_field(h->asking, h->options, &h->seen, name.bytes, name.n, value.bytes, value.n)
                                      : http_name_of(name.bytes, name.n);
        switch (id) {
        case HTTP_CONTENT_LENGTH:
                http1_body_length(&h->request.body, value);
                break;
        case HTTP_TRANSFER_ENCODING:
                http1_body_codings(&h->request.body, value);
                break;
        case HTTP_UPGRADE:
                request_flag(h, PENDING_UPGRADE);
                break;
        case HTTP_EXPECT:
                if (http_equal(value.bytes, value.n, "100-continue"))
                        request_flag(h, PENDING_EXPECT);
                break;
        default:
                break;
        }
}

/* All of the request came, or known: what its bytes are. */
static void request_whole(struct http1 *h, bool known) {
        bool tunnel = h->current && newest(h)->flags & (PENDING_CONNECT | PENDING_UPGRADE);
        if (h->asking && known)
                h->asking->request_bytes = (int64_t)h->request.body.bytes;
        h->asking = NULL;
        h->current = false;
        h->request.step = known ? STEP_START : STEP_ASTRAY;
        h->request.trust = tunnel ? TRUST_DOUBT : TRUST_SURE;
}

/* cut: not the whole of it, and more will not be read. */
static void request_head_whole(struct http1 *h, const struct chunk *at, bool cut) {
        struct side *s = &h->request;
        s->trust = TRUST_SURE;
        h->asked = true;
        if (h->uncounted)
                connection_lost(h->connection, 1);
        h->uncounted = false;
        if (h->asking && h->asking->state == EXCHANGE_OPEN)
                exchange_asked(h->asking, at);
        enum http1_body_kind kind = cut ? BODY_UNKNOWN : http1_body_begin(&s->body, true);
        if (kind == BODY_NONE || kind == BODY_UNKNOWN)
                request_whole(h, kind == BODY_NONE);       /* what is unknown the server has to refuse */
        else
                s->step = STEP_BODY;
}

static int request_bad(struct http1 *h) {
        bool sure = h->request.trust == TRUST_SURE;
        if (sure && !h->asked && !h->answered)
                return not_http(h);
        request_discard(h, sure);                  /* whoever asks so is answered 400 */
        return 0;
}

/* ---- answers ---- */

static void answer_begin(struct http1 *h, const struct chunk *at) {
        struct side *s = &h->answer;
        if (h->n == 0 || (!place(h, 0)->x && place(h, 0)->flags & PENDING_MIXED)) {
                queue_drop_all(h);
                answers_astray(h, 1, false);
                return;
        }
        s->step = STEP_LINE;
        s->head_bytes = 0;
        http1_body_reset(&s->body);
        h->answer_ns = at->end_ns;
        h->http2 = false;
}

/* A final answer to a request whose head is not whole: to half a request (408), or the rest of it was not seen. */
static void answer_early(struct http1 *h, const struct chunk *at) {
        struct exchange *x = place(h, 0)->x;
        if (exchange_get(x, FIELD_METHOD)) {
                exchange_asked(x, at);
                return;
        }
        exchange_drop(x, h->request.trust == TRUST_SURE);
        place(h, 0)->x = h->asking = NULL;
        if (h->request.trust != TRUST_SURE)
                request_discard(h, false);
}

/* Returns 0, or -EPROTO when it is none. */
static int answer_line(struct http1 *h, struct http1_text line, const struct chunk *at) {
        int status = http1_status_line_parse(line);
        if (status < 0)
                return status;
        h->status = status;
        h->answered = true;
        h->answer.trust = TRUST_SURE;
        if (status == 100)
                place(h, 0)->flags |= PENDING_CONTINUED;
        if (status < 200 && status != 101)
                return 0;
        if (place(h, 0)->x && place(h, 0)->x->state == EXCHANGE_OPEN)
                answer_early(h, at);
        struct exchange *x = h->n > 0 ? place(h, 0)->x : NULL;
        if (x) {
                x->status = status;
                exchange_answered(x, &(struct chunk){ .end_ns = h->answer_ns });
        }
        return 0;
}

static void answer_field(struct http1 *h, struct http1_text line) {
        struct http1_text name, value;
        if (http1_field_parse(line, &name, &value) < 0)
                return;
        struct exchange *x = place(h, 0)->x;
        switch (http_name_of(name.bytes, name.n)) {
        case HTTP_CONTENT_LENGTH:
                http1_body_length(&h->answer.body, value);
                break;
        case HTTP_TRANSFER_ENCODING:
                http1_body_codings(&h->answer.body, value);
                break;
        case HTTP_UPGRADE:
                h->http2 = http_equal(value.bytes, value.n, "h2c");
                if (x && h->status == 101)
                        exchange_set(x, FIELD_UPGRADE, value.bytes, value.n);
                break;
        default:
                break;
        }
}

/* The last byte of an answer, at ns. */
static void answer_whole(struct http1 *h, uint64_t ns, bool unobserved) {
        struct pending *p = place(h, 0);
        /* A client that is answered at once need not send the body it announced (RFC 9110 section 10.1.1). */
        bool unsent = h->current && h->n == 1 && p->flags & PENDING_EXPECT && !(p->flags & PENDING_CONTINUED) && h->request.step == STEP_BODY &&
                      h->request.body.bytes == 0;
        struct exchange *x = queue_pop(h);
        h->answer.step = STEP_START;
        if (unsent) {
                h->request.step = STEP_START;
                h->request.trust = TRUST_DOUBT;
                h->unsent = true;
        }
        if (!x)
                return;
        x->response_bytes = (int64_t)h->answer.body.bytes;
        x->unobserved = unobserved;
        end_at(x, ns);
}

static void answer_upgrades(struct http1 *h, const struct chunk *at) {
        bool http2 = h->status == 101 && h->http2;
        answer_whole(h, at->end_ns, false);
        queue_drop_all(h);
        h->request.step = h->answer.step = STEP_OFF;
        h->leave = http2 ? LEAVE_HTTP2 : LEAVE_UPGRADED;
}

/* Section 6.3: how long the body is. */
static void answer_head_whole(struct http1 *h, const struct chunk *at) {
        struct side *s = &h->answer;
        uint8_t flags = place(h, 0)->flags;
        if (h->status == 101 || (flags & PENDING_CONNECT && h->status / 100 == 2))
                answer_upgrades(h, at);
        else if (h->status < 200)
                s->step = STEP_START;
        else if (flags & PENDING_HEAD || h->status == 204 || h->status == 304)
                answer_whole(h, at->end_ns, false);
        else if (http1_body_begin(&s->body, false) == BODY_NONE)
                answer_whole(h, at->end_ns, false);
        else if (s->body.kind == BODY_UNKNOWN)
                answer_frameless(h, 1);
        else
                s->step = STEP_BODY;
}

static int answer_bad(struct http1 *h) {
        if (!h->answered && h->answer.trust == TRUST_SURE)
                return not_http(h);
        queue_drop_all(h);
        answers_astray(h, 1, false);
        return 0;
}

/* ---- both directions ---- */

/* A head that is longer than anybody takes. */
static int head_too_long(struct http1 *h, struct side *s, const struct chunk *at) {
        bool asking = s == &h->request;
        if (s->step == STEP_LINE || (!asking && h->status < 200 && h->status != 101))
                return asking ? request_bad(h) : answer_bad(h);
        http1_line_reset(&s->line);
        if (asking)
                request_head_whole(h, at, true);
        else
                answer_frameless(h, 1);
        return 0;
}

/* Whether what may be a request cannot be one, with the bytes that come now. */
static bool refuted(const struct side *s, const uint8_t *data, size_t n) {
        uint8_t first[PROTOCOL_MATCH_MAX];
        if (s->line.n >= sizeof(first))
                return false;
        size_t more = TEL_MIN(n, sizeof(first) - s->line.n);
        if (s->line.n > 0)
                memcpy(first, s->line.buffer, s->line.n);
        memcpy(first + s->line.n, data, more);
        return http1_match(first, s->line.n + more) == MATCH_NO;
}

/* It is none; it may be the body that was announced. */
static void request_refuted(struct http1 *h) {
        struct side *s = &h->request;
        struct http1_line seen = s->line;
        enum http1_body_result r = HTTP1_BODY_MORE;
        bool unsent = h->unsent;
        size_t used;
        s->line = (struct http1_line){ 0 };
        request_discard(h, false);
        if (unsent) {
                s->step = STEP_BODY;
                if (seen.n > 0)
                        r = http1_body_read(&s->body, seen.buffer, seen.n, &used);
                if (r != HTTP1_BODY_MORE)
                        request_whole(h, r == HTTP1_BODY_WHOLE);
        }
        http1_line_reset(&seen);
}

/* Lines of a head. */
static int read_head(struct http1 *h, struct side *s, const struct chunk *at, size_t *used) {
        bool asking = s == &h->request;
        struct http1_text line;
        if (asking && s->step == STEP_LINE && s->trust != TRUST_SURE && refuted(s, at->data + *used, at->n - *used)) {
                request_refuted(h);
                return 0;
        }
        size_t taken = http1_line_take(&s->line, at->data + *used, at->n - *used, s->step == STEP_FIELDS, &line);
        int r = 0;
        *used += taken;
        s->head_bytes += (uint32_t)TEL_MIN(taken, (size_t)HEAD_MAX + 1);
        if (s->head_bytes > HEAD_MAX)
                return head_too_long(h, s, at);
        if (!line.bytes) {
                if (s->step == STEP_LINE && http1_match(s->line.buffer, s->line.n) == MATCH_NO)
                        r = -EPROTO;
        } else if (s->step == STEP_LINE) {
                r = asking ? request_line(h, line) : answer_line(h, line, at);
                s->step = r < 0 || s->step != STEP_LINE ? s->step : STEP_FIELDS;
        } else if (line.n == 0)
                asking ? request_head_whole(h, at, false) : answer_head_whole(h, at);
        else
                asking ? request_field(h, line) : answer_field(h, line);
        if (line.bytes)
                http1_line_reset(&s->line);
        return r < 0 ? asking ? request_bad(h) : answer_bad(h) : 0;
}

/* What a body came to. */
static void body_read(struct http1 *h, struct side *s, const struct chunk *at, enum http1_body_result r) {
        bool asking = s == &h->request;
        if (r == HTTP1_BODY_WHOLE)
                asking ? request_whole(h, true) : answer_whole(h, at->end_ns, false);
        else if (r == HTTP1_BODY_LOST)
                asking ? request_whole(h, false) : answer_frameless(h, 1);
}

static int side_read(struct http1 *h, struct side *s, const struct chunk *at) {
        int r = 0;
        size_t taken;
        for (size_t used = 0; used < at->n && r == 0;) {
                switch (s->step) {
                case STEP_START:
                        if (at->data[used] == '\r' || at->data[used] == '\n')
                                used++;
                        else if (s == &h->request && s->trust != TRUST_SURE && refuted(s, at->data + used, at->n - used))
                                request_refuted(h);
                        else if (s == &h->request)
                                request_begin(h, at, used);
                        else
                                answer_begin(h, at);
                        break;
                case STEP_LINE:
                case STEP_FIELDS:
                        r = read_head(h, s, at, &used);
                        break;
                case STEP_BODY:
                        body_read(h, s, at, http1_body_read(&s->body, at->data + used, at->n - used, &taken));
                        used += taken;
                        break;
                default:
                        return 0;
                }
        }
        return r;
}

/* Before bytes of requests are read: what a turn says. */
static void requests_turn(struct http1 *h, bool turn) {
        struct side *s = &h->request;
        h->turns_answered = 0;
        if (!turn)
                return;
        h->turn++;
        h->turns_asked++;
        if (s->step == STEP_LINE && s->trust != TRUST_SURE)
                request_discard(h, false);
        if (s->step != STEP_START && s->step != STEP_ASTRAY) {
                if (h->current && newest(h)->more == 0)
                        newest(h)->turn = h->turn;
                return;
        }
        if (h->answer.step == STEP_FRAMELESS) {
                end_out_of_sight(h, -1, false);
                answers_astray(h, 1, true);
        } else if (h->answer.step == STEP_ASTRAY)
                queue_drop_all(h);                 /* their answers went by */
        if (s->step == STEP_ASTRAY) {
                s->step = STEP_START;
                s->trust = TRUST_FOUND;
        }
}

/* Before bytes of answers are read, likewise. */
static void answers_turn(struct http1 *h, bool turn) {
        struct side *s = &h->answer;
        h->turns_answered += turn;
        if (s->step == STEP_LINE && s->trust != TRUST_SURE && turn)
                answers_astray(h, 1, false);
        if (s->step != STEP_ASTRAY) {
                if (s->step != STEP_FRAMELESS && h->n > 1 && place(h, 0)->turn != newest(h)->turn)
                        h->overlaps = true;
                return;
        }
        bool found = turn && !h->blind && h->turns_asked >= h->turns_needed;
        while (h->n > 0 && !(found && place(h, 0)->turn == h->turn))
                queue_drop(h);
        h->turns_needed = 1;
        if (h->n == 0)
                return;
        s->step = STEP_START;
        s->trust = TRUST_DOUBT;
}

/* ---- what the connection calls ---- */

static void http1_start(void *state, struct connection *c, const struct protocol_options *options, enum exchange_role role) {
        struct http1 *h = state;
        h->connection = c;
        h->options = options;
        h->role = role;
        h->ring = h->few;
        h->room = PENDING_FEW;
        h->turns_needed = 1;
}

static bool asks(const struct http1 *h, enum direction d) {
        return d == (h->role == EXCHANGE_SERVER ? DIRECTION_IN : DIRECTION_OUT);
}

static int http1_data(void *state, const struct chunk *at) {
        struct http1 *h = state;
        bool asking = asks(h, at->direction);
        struct side *s = asking ? &h->request : &h->answer;
        if (at->n == 0 || s->step == STEP_OFF)
                return 0;
        if (asking)
                requests_turn(h, at->turn);
        else {
                answers_turn(h, at->turn);
                h->turns_asked = 0;
        }
        int r = side_read(h, s, at);
        if (!asking)
                h->answered_ns = at->end_ns;
        struct connection *c = h->connection;
        enum leave leave = h->leave;
        h->leave = LEAVE_NO;
        if (leave == LEAVE_UPGRADED)
                connection_upgraded(c);
        else if (leave == LEAVE_HTTP2)
                connection_switch(c, &protocol_http2);
        return r;
}

/* Turns of requests that opened in a gap: those behind the answers that were seen came since. */
static void requests_turned(struct http1 *h, uint32_t turns) {
        if (h->turn > 0 && h->turns_answered > 0 && turns + 1 > h->turns_answered)
                h->turns_asked += turns + 1 - h->turns_answered;
}

static void requests_gap(struct http1 *h, const struct chunk *at, uint64_t bytes) {
        struct side *s = &h->request;
        uint64_t over = bytes;
        uint32_t turns = TEL_MIN(at->turns_lost, (uint32_t)TURNS_MAX);
        if (s->step == STEP_BODY) {
                enum http1_body_result r = http1_body_miss(&s->body, bytes, &over);
                if (r != HTTP1_BODY_MORE)
                        request_whole(h, r == HTTP1_BODY_WHOLE);
                if (r != HTTP1_BODY_WHOLE || over == 0) {
                        requests_turned(h, turns);
                        return;
                }
        }
        if (s->step == STEP_LINE || s->step == STEP_FIELDS)
                request_discard(h, s->trust == TRUST_SURE || s->step == STEP_FIELDS || http1_match(s->line.buffer, s->line.n) == MATCH_REQUEST);
        else if (s->step == STEP_START) {
                if (h->turns_answered == 0 && h->turn > 0 && turns == 0)
                        connection_lost(h->connection, 1);
                turns = TEL_MAX(turns, 1u);        /* of a call that came, without its bytes */
                s->step = STEP_ASTRAY;
        }
        requests_turned(h, turns);
}

static void answers_gap(struct http1 *h, const struct chunk *at, uint64_t bytes) {
        struct side *s = &h->answer;
        bool late = h->turns_asked > 0;            /* it is noticed now, and was before the last requests */
        uint64_t over = 0, answered_ns = late ? h->answered_ns : at->end_ns;
        enum http1_body_result r = s->step == STEP_BODY ? http1_body_miss(&s->body, bytes, &over) : HTTP1_BODY_LOST;
        uint32_t lost = TEL_MIN(at->turns_lost, (uint32_t)TURNS_MAX), turns = 1 + lost;
        h->turns_answered += lost;
        if (r == HTTP1_BODY_WHOLE)
                answer_whole(h, answered_ns, late);
        if (r == HTTP1_BODY_LOST || over > 0) {
                if (s->step == STEP_LINE || s->step == STEP_FIELDS) {
                        queue_drop(h);
                        answers_astray(h, turns, true);
                } else if (s->step == STEP_START)
                        answers_astray(h, late ? TEL_MAX(turns, 2u) : turns, true);
                else if (s->step == STEP_ASTRAY)
                        h->turns_needed = TEL_MAX(h->turns_needed + lost, late ? 2u : 1u);
                else if (s->step == STEP_BODY)
                        answer_frameless(h, turns);
                else if (late) {
                        end_out_of_sight(h, -1, true);
                        answers_astray(h, turns, true);
                }
        }
        h->answered_ns = answered_ns;
}

static void http1_gap(void *state, const struct chunk *at, uint64_t bytes) {
        struct http1 *h = state;
        if (h->request.step == STEP_OFF)
                return;
        if (asks(h, at->direction))
                requests_gap(h, at, bytes);
        else
                answers_gap(h, at, bytes);
}

/* The oldest ends without all of its answer. */
static void end_unanswered(struct http1 *h, bool lost, const char *error, uint64_t now_ns) {
        struct exchange *x = queue_pop(h);
        if (x && x->state == EXCHANGE_OPEN)
                exchange_drop(x, false);           /* half a request */
        else if (x && lost)
                exchange_drop(x, true);
        else if (x)
                end_failed(x, error, now_ns);
}

/* No more answers come. The oldest may be under way. */
static void answers_end(struct http1 *h, uint64_t now_ns) {
        const struct side *s = &h->answer;
        uint8_t step = s->step;
        bool body = step == STEP_BODY, final = body || (step == STEP_FIELDS && (h->status >= 200 || h->status == 101));
        while (h->n > 0) {
                struct pending *p = place(h, 0);
                bool passed = p->turn != newest(h)->turn && !h->overlaps;      /* who asked again had all of the answer */
                if (step == STEP_FRAMELESS || (body && s->body.kind == BODY_CLOSE))
                        end_out_of_sight(h, body ? (int64_t)s->body.bytes : -1, false);
                else if (final && passed)
                        end_out_of_sight(h, body && s->body.kind == BODY_LENGTH ? (int64_t)s->body.length : -1, true);
                else {
                        if (body && p->x)
                                p->x->response_bytes = (int64_t)s->body.bytes;
                        bool lost = passed || (step == STEP_ASTRAY && h->turns_asked < h->turns_needed);
                        end_unanswered(h, lost, final || step == STEP_LINE ? "response_ended" : "connection_reset", now_ns);
                }
                step = step == STEP_ASTRAY ? STEP_ASTRAY : STEP_START;
                body = final = false;
        }
}

static void http1_end(void *state, enum direction direction, uint64_t now_ns) {
        struct http1 *h = state;
        if (asks(h, direction))
                return;                            /* who sends no more requests may still be answered */
        answers_end(h, now_ns);
        h->request.step = h->answer.step = STEP_OFF;       /* what is still asked nobody can answer */
}

static uint64_t http1_skip(const void *state, enum direction direction) {
        const struct http1 *h = state;
        const struct side *s = asks(h, direction) ? &h->request : &h->answer;
        return s->step == STEP_BODY ? http1_body_rest(&s->body) : 0;
}

static void http1_done(void *state) {
        struct http1 *h = state;
        while (h->n > 0) {
                struct exchange *x = queue_pop(h);
                if (x)
                        exchange_drop(x, false);
        }
        http1_line_reset(&h->request.line);
        http1_line_reset(&h->answer.line);
}

const struct protocol protocol_http1 = {
        .name = "http/1.1",
        .size = sizeof(struct http1),
        .match = http1_match,
        .start = http1_start,
        .data = http1_data,
        .gap = http1_gap,
        .end = http1_end,
        .skip = http1_skip,
        .done = http1_done,
};
