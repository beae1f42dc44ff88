/* SPDX-License-Identifier: Apache-2.0 */
/* Http2: HTTP/2 and gRPC, from the bytes alone. Source: RFC 9113 (sections are of it), and "gRPC over HTTP2" of grpc.io.
 *
 * A stream is one exchange: it begins with the HEADERS frame of the request, is asked when the header block is whole, and ends with the
 * answer's END_STREAM, a RST_STREAM of either side, or a GOAWAY that passes it over. What the request still sends then is ignored, and so
 * are pushed streams. FIELD_ERROR, where the status does not say it:
 *   CANCEL, REFUSED_STREAM, ...   why it was reset, as section 7 names it, _OTHER for what it does not; a GOAWAY refuses
 *   connection_reset              the connection ended without a byte of a final answer
 *   response_ended                it ended within the answer
 *   502, ...                      a gRPC call was answered by a proxy, in HTTP; _OTHER: it has no status at all
 *
 * Memory: 0.6 KiB, a few KiB with tables and streams as they are used, and at most 62 KiB: 2 tables with their strings, 1024 streams.
 *
 * Parts that were not seen:
 * - Joined late. Who asks is told by the first header block: requests have :method, answers :status. The dynamic tables are unknown so far
 *   (hpack.h). A method that is unknown is "_OTHER", a path is left out, service and method of gRPC are "unknown"; an answer whose status
 *   cannot be read is unobserved. That it is gRPC is known when content-type or grpc-status is, or when the request's first DATA frame is
 *   exactly one gRPC message.
 * - A gap within DATA, padding or a frame that says nothing to us is counted, and that is all. A gap within a header block costs what the
 *   block said and what the table held. A gap that may hold heads of frames costs the alignment: the direction waits for a turn or a call that
 *   begins with a frame, or for the head of a DATA or HEADERS frame of a stream that is open, wherever it stands. Streams that were open stay
 *   so until the answer's end is seen. Those that show no sign of life in the answering direction are dropped and counted with its next such
 *   gap, when room is needed, or when the connection ends. */
#include <stdio.h>

#include "beylad/protocols/hpack.h"
#include "beylad/protocols/http2_fields.h"
#include "beylad/protocols/http2_frame.h"
#include "beylad/protocols/http2_streams.h"
#include "beylad/protocols/http_common.h"
#include "libtelemetry/cursor.h"

#define DOUBT_FRAMES 3                             /* in a row must be plausible before what is merely valid is taken, too */
#define SKIP_MIN 512                               /* bytes of a DATA frame worth telling the kernel side not to capture */
#define GRPC_HEAD 5                                /* compressed flag and length before each message */

enum side_state {
        SIDE_FIRST,                                /* nothing came yet: the preface, the first frame, or the middle of an old connection */
        SIDE_PREFACE,
        SIDE_HEAD,
        SIDE_PREFIX,                               /* http2_frame_prefix() */
        SIDE_BODY,
        SIDE_PADDING,
        SIDE_LOST,                                 /* not aligned: until a turn or call that begins with a frame, or a frame of an open stream */
};

enum stream_flag {
        STREAM_UNSURE_IN = 1 << DIRECTION_IN,      /* frames of this direction may have been missed, and none was seen since */
        STREAM_UNSURE_OUT = 1 << DIRECTION_OUT,
        STREAM_ANSWERED = 4,                       /* the final answer's header block was seen */
        STREAM_GUESS = 8,                          /* content-type may be among the headers that are unknown */
        STREAM_HIDDEN = 16,                        /* a part of the answer's headers was missed or is unknown */
        STREAM_TUNNEL = 32,                        /* CONNECT: DATA is no body */
};

/* Section 4.3: HEADERS or PUSH_PROMISE and their CONTINUATION. */
enum block_kind { BLOCK_OPEN, BLOCK_REQUEST, BLOCK_ANSWER, BLOCK_TRAILERS, BLOCK_IGNORED };

struct block {
        bool open;                                 /* END_HEADERS is to come */
        bool broken;                               /* bytes of it are missing */
        bool end_stream;
        uint8_t kind;
        uint32_t stream;
        struct exchange *exchange;                 /* BLOCK_REQUEST: while its stream is open */
        struct http2_fields fields;
};

struct side {
        uint8_t state;
        uint8_t doubt;                             /* frames that must be plausible */
        uint8_t n_bytes, n_message;                /* of the preface, the head or the prefix; of message */
        bool first;                                /* no frame was seen, nor the preface */
        bool uncounted;                            /* the DATA frame's padding is unknown */
        bool ended;
        uint8_t bytes[HTTP2_HEAD];                 /* head or prefix, when it came in pieces */
        uint8_t message[GRPC_HEAD];                /* first bytes of a DATA frame that may be a gRPC message */
        bool message_wanted;
        bool at_call;                              /* SIDE_LOST: what is in bytes began a call */
        bool condemned;                            /* the frame is none: at its end the alignment is lost again */
        struct http2_frame frame;
        uint32_t body, padding;                    /* of the payload, to come */
        struct chunk from;                         /* where the frame began, or the header block; no bytes */
        struct block block;
        struct hpack hpack;
};

struct http2 {
        struct connection *connection;
        const struct protocol_options *options;
        enum exchange_role role;
        bool role_known;                           /* by the preface or a header block, not just by match() */
        bool proven;                               /* a header block was read: it is HTTP/2 */
        uint32_t max_stream;                       /* the newest request; 0: none yet */
        enum direction now;                        /* whose bytes are being read: for the callback */
        struct http2_streams streams;
        struct side sides[DIRECTIONS];
};
static_assert(sizeof(struct http2) <= PROTOCOL_STATE_MAX, "embedded in each connection");

static enum direction asks(const struct http2 *h) {
        return h->role == EXCHANGE_SERVER ? DIRECTION_IN : DIRECTION_OUT;
}

static uint16_t unsure(enum direction d) {
        return d == DIRECTION_IN ? STREAM_UNSURE_IN : STREAM_UNSURE_OUT;
}

/* ---- the end of a stream ---- */

/* Takes the stream out; its exchange is the caller's. */
static struct exchange *stream_take(struct http2 *h, struct http2_stream *s) {
        struct exchange *x = s->exchange;
        struct block *b = &h->sides[asks(h)].block;
        if (b->exchange == x)
                b->exchange = NULL;                /* a reset came before its header block was whole */
        http2_streams_remove(&h->streams, s);
        return x;
}

static void stream_drop(struct http2 *h, struct http2_stream *s, bool counted) {
        exchange_drop(stream_take(h, s), counted);
}

/* The head of the request is whole, or all that will come of it. */
static void request_complete(struct exchange *x) {
        if (!exchange_get(x, FIELD_METHOD))
                exchange_set(x, FIELD_METHOD, "_OTHER", 6);
        const char *method = exchange_get(x, FIELD_METHOD);
        if (!method || strcmp(method, "CONNECT") != 0)
                http_request_scheme(x);
        exchange_set(x, FIELD_VERSION, "2", 1);
}

/* error NULL: the answer is whole. */
static void stream_end(struct http2 *h, struct http2_stream *s, const struct chunk *at, const char *error) {
        uint16_t flags = s->flags, status = s->status;
        char text[8];
        struct exchange *x = stream_take(h, s);
        if (x->state == EXCHANGE_OPEN && status == 0) {        /* its head never was whole, so nobody served it */
                exchange_drop(x, false);
                return;
        }
        if (x->state == EXCHANGE_OPEN) {           /* refused for its size, say */
                request_complete(x);
                exchange_asked(x, at);
        }
        if (x->kind == EXCHANGE_HTTP && status != 0)
                x->status = status;
        if (!error && x->status < 0 && flags & STREAM_HIDDEN)
                x->unobserved = true;
        else if (!error && x->status < 0 && (status == 0 || status == 200))
                error = "_OTHER";                  /* it has no grpc-status, or even no :status */
        else if (!error && x->status < 0) {
                snprintf(text, sizeof(text), "%u", status);            /* a proxy's answer to a gRPC call */
                error = text;
        }
        if (error)
                exchange_set(x, FIELD_ERROR, error, strlen(error));
        exchange_end(x, at);
}

/* Streams go and are counted: all, or those with one of the flags. */
static void drop_streams(struct http2 *h, uint16_t flags, bool counted) {
        struct http2_stream *s;
        for (uint32_t i = 0; (s = http2_streams_next(&h->streams, &i));)
                if (flags == 0 || s->flags & flags)
                        stream_drop(h, s, counted);
                else
                        i++;
}

/* ---- header blocks ---- */

/* Ids are odd and count up: section 5.1.1. */
static void request_begin(struct http2 *h, struct block *b) {
        h->max_stream = b->stream;
        if (h->streams.count == HTTP2_STREAMS_MAX)
                drop_streams(h, STREAM_UNSURE_IN | STREAM_UNSURE_OUT, true);
        if (h->streams.count == HTTP2_STREAMS_MAX) {
                connection_lost(h->connection, 1);
                return;
        }
        struct exchange *x = exchange_begin(h->connection, EXCHANGE_HTTP, h->role, &h->sides[h->now].from);
        if (!x)
                return;
        if (!http2_streams_add(&h->streams, b->stream, x)) {
                exchange_drop(x, true);
                return;
        }
        x->request_bytes = 0;
        b->exchange = x;
        b->kind = BLOCK_REQUEST;
}

static bool is_new(const struct http2 *h, const struct block *b) {
        return h->role_known && h->now == asks(h) && b->stream % 2 == 1 && b->stream > h->max_stream;
}

/* What a block is shows with its first field whose name is known: pseudo-headers come first (8.3). REGULAR: other fields come, or the end. */
static void block_decide(struct http2 *h, struct block *b, enum http2_header header) {
        bool request = http2_header_of_request(header), answer = header == HTTP2_STATUS;
        if (request || answer) {
                if (!h->role_known)
                        h->role = (h->now == DIRECTION_IN) == request ? EXCHANGE_SERVER : EXCHANGE_CLIENT;
                h->role_known = h->proven = true;
                h->sides[h->now].doubt = 0;
        }
        const struct http2_stream *s = http2_streams_find(&h->streams, b->stream);
        b->kind = BLOCK_IGNORED;
        if (!answer && (request || b->fields.unknown) && is_new(h, b))
                request_begin(h, b);
        else if (!request && s && h->now != asks(h))
                b->kind = answer || (b->fields.unknown && !(s->flags & STREAM_ANSWERED)) ? BLOCK_ANSWER : BLOCK_TRAILERS;
}

static void on_field(void *ctx, const struct hpack_field *f) {
        struct http2 *h = ctx;
        struct block *b = &h->sides[h->now].block;
        if (b->kind == BLOCK_IGNORED)
                return;
        if (!f->name || !f->value) {
                b->fields.unknown = true;
                return;
        }
        enum http2_header header = http2_header_of(f->name, f->name_len);
        if (b->kind == BLOCK_OPEN)
                block_decide(h, b, header);
        if (b->kind == BLOCK_REQUEST && b->exchange)
                http2_request_field(b->exchange, h->options, &b->fields, header, f);
        else if (b->kind == BLOCK_ANSWER || b->kind == BLOCK_TRAILERS)
                http2_answer_field(&b->fields, header, f);
}

static void request_end(struct http2 *h, struct block *b, const struct chunk *at) {
        struct exchange *x = b->exchange;
        struct http2_stream *s = http2_streams_find(&h->streams, b->stream);
        b->exchange = NULL;
        if (!x || !s)
                return;                            /* reset meanwhile */
        request_complete(x);
        const char *method = exchange_get(x, FIELD_METHOD);
        if (method && strcmp(method, "CONNECT") == 0)
                s->flags |= STREAM_TUNNEL;
        if (b->fields.grpc)
                http2_make_rpc(x, b->fields.unknown);
        else if (b->fields.unknown && !b->fields.typed)
                s->flags |= STREAM_GUESS;
        exchange_asked(x, at);
}

/* The answer's header block, or its trailers, are whole or lost. */
static void answer_end(struct http2 *h, struct block *b, const struct chunk *at) {
        const struct http2_fields *f = &b->fields;
        struct http2_stream *s = http2_streams_find(&h->streams, b->stream);
        if (!s)
                return;
        struct exchange *x = s->exchange;
        if (b->kind == BLOCK_ANSWER && f->status >= 100 && f->status < 200 && !b->end_stream)
                return;                            /* the final answer is to come */
        if (b->broken || f->unknown)
                s->flags |= STREAM_HIDDEN;
        if (b->kind == BLOCK_ANSWER && (f->status != 0 || !b->broken)) {
                s->flags |= STREAM_ANSWERED;
                s->status = f->status;
                x->response_bytes = 0;
        }
        exchange_answered(x, &h->sides[h->now].from);
        if (s->flags & STREAM_GUESS && (f->grpc || f->grpc_status >= 0))
                http2_make_rpc(x, true);
        if (f->typed || f->grpc_status >= 0)
                s->flags &= (uint16_t)~STREAM_GUESS;
        if (x->kind == EXCHANGE_RPC && f->grpc_status >= 0)
                x->status = f->grpc_status;
        if (b->end_stream || (s->flags & STREAM_TUNNEL && f->status / 100 == 2))       /* how long a tunnel lasts is no latency */
                stream_end(h, s, at, NULL);
}

static void block_begin(struct http2 *h, struct side *s) {
        struct http2_stream *stream = http2_streams_find(&h->streams, s->frame.stream);
        if (stream)
                stream->flags &= (uint16_t)~unsure(h->now);
        /* A promise is of a pushed stream. */
        s->block = (struct block){ .open = true, .kind = s->frame.type == HTTP2_HEADERS ? BLOCK_OPEN : BLOCK_IGNORED, .stream = s->frame.stream,
                                   .end_stream = s->frame.flags & HTTP2_END_STREAM, .fields.grpc_status = -1 };
}

/* Bytes of the block are missing or wrong: what it said, and what it put into the table, is not known. */
static void block_break(struct http2 *h, struct side *s) {
        struct block *b = &s->block;
        hpack_forget(&s->hpack);
        if (b->broken)
                return;
        b->broken = b->fields.unknown = true;
        if (b->kind == BLOCK_REQUEST && b->exchange)
                stream_drop(h, http2_streams_find(&h->streams, b->stream), true);
        else if (b->kind == BLOCK_OPEN && is_new(h, b)) {
                b->kind = BLOCK_IGNORED;
                if (s->doubt > 0)
                        return;                    /* it may be no block at all */
                h->max_stream = b->stream;
                connection_lost(h->connection, 1);
        }
}

static void block_end(struct http2 *h, struct side *s, const struct chunk *at) {
        struct block *b = &s->block;
        if (!b->broken && hpack_end(&s->hpack) < 0)
                block_break(h, s);                 /* an empty frame behind half a field */
        if (b->kind == BLOCK_OPEN)
                block_decide(h, b, HTTP2_REGULAR);
        b->open = false;
        if (b->kind == BLOCK_REQUEST)
                request_end(h, b, at);
        else if (b->kind == BLOCK_ANSWER || b->kind == BLOCK_TRAILERS)
                answer_end(h, b, at);
}

/* ---- alignment ---- */

/* Where the next frame begins is not known. */
static void side_lose(struct http2 *h, struct side *s, const struct chunk *at) {
        enum direction d = h->now;
        struct http2_stream *stream;
        if (s->block.open)
                block_break(h, s);
        if (s->block.open && s->doubt == 0)
                block_end(h, s, at);               /* its END_STREAM was seen */
        s->block.open = false;
        hpack_forget(&s->hpack);
        s->state = SIDE_LOST;
        s->n_bytes = 0;
        s->at_call = false;
        s->condemned = false;
        if (d != asks(h) && s->doubt == 0)         /* not seen since the last time: their end may have been missed then */
                drop_streams(h, unsure(d), true);
        for (uint32_t i = 0; (stream = http2_streams_next(&h->streams, &i)); i++) {
                stream->flags |= unsure(d);
                if (d == asks(h))
                        stream->exchange->request_bytes = -1;
                else {
                        stream->flags |= STREAM_HIDDEN;
                        stream->exchange->response_bytes = -1;
                }
        }
}

/* What came is no frame. Returns 0, or -EPROTO: it never was HTTP/2. */
static int side_fail(struct http2 *h, struct side *s, const struct chunk *at) {
        if (h->proven) {
                side_lose(h, s, at);
                return 0;
        }
        drop_streams(h, 0, true);
        return -EPROTO;
}

/* ---- frames ---- */

/* GOAWAY of the side that answers: newer streams were not looked at, and may be asked again elsewhere. */
static void go_away(struct http2 *h, uint32_t last, const struct chunk *at) {
        struct http2_stream *s;
        for (uint32_t i = 0; (s = http2_streams_next(&h->streams, &i));)
                if (s->id > last)
                        stream_end(h, s, at, "REFUSED_STREAM");
                else
                        i++;
}

static void data_begin(struct http2 *h, struct side *s) {
        struct http2_stream *stream = http2_streams_find(&h->streams, s->frame.stream);
        if (!stream)
                return;
        struct exchange *x = stream->exchange;
        stream->flags &= (uint16_t)~unsure(h->now);
        s->n_message = 0;
        s->message_wanted = h->now == asks(h) && stream->flags & STREAM_GUESS && x->request_bytes == 0 && s->body >= GRPC_HEAD;
}

/* The first bytes of a request whose content-type is unknown are there: one message that fills the frame is gRPC. */
static void message_end(struct http2 *h, struct side *s) {
        struct http2_stream *stream = http2_streams_find(&h->streams, s->frame.stream);
        uint32_t payload = s->frame.length - http2_frame_prefix(&s->frame) - s->padding;
        s->message_wanted = false;
        if (!stream || !(stream->flags & STREAM_GUESS) || s->message[0] > 1 || tel_be32_get(s->message + 1) != payload - GRPC_HEAD)
                return;
        http2_make_rpc(stream->exchange, true);
        stream->flags &= (uint16_t)~STREAM_GUESS;
}

static void data_count(struct http2 *h, struct side *s, uint64_t n, const struct chunk *at) {
        struct http2_stream *stream = http2_streams_find(&h->streams, s->frame.stream);
        if (!stream)
                return;
        struct exchange *x = stream->exchange;
        bool asking = h->now == asks(h);
        int64_t *bytes = asking ? &x->request_bytes : &x->response_bytes;
        if (!asking)
                exchange_answered(x, at);
        if (s->uncounted)
                *bytes = -1;
        else if (*bytes >= 0)
                *bytes += (int64_t)n;
}

static void payload_end(struct http2 *h, struct side *s, const struct chunk *at) {
        struct http2_stream *stream;
        s->state = SIDE_HEAD;
        s->n_bytes = 0;
        if (s->condemned) {
                side_lose(h, s, at);
                return;
        }
        switch (s->frame.type) {
        case HTTP2_DATA:
                if (s->frame.flags & HTTP2_END_STREAM && h->now != asks(h) && (stream = http2_streams_find(&h->streams, s->frame.stream)))
                        stream_end(h, stream, at, NULL);
                break;
        case HTTP2_HEADERS:
        case HTTP2_PUSH_PROMISE:
        case HTTP2_CONTINUATION:
                if (s->frame.flags & HTTP2_END_HEADERS)
                        block_end(h, s, at);
                break;
        default:
                break;
        }
}

/* Goes on from parts of the payload that have no bytes left. */
static void payload_step(struct http2 *h, struct side *s, const struct chunk *at) {
        if (s->state == SIDE_BODY && s->body == 0)
                s->state = SIDE_PADDING;
        if (s->state == SIDE_PADDING && s->padding == 0)
                payload_end(h, s, at);
}

static bool is_block(const struct side *s) {
        return s->frame.type == HTTP2_HEADERS || s->frame.type == HTTP2_PUSH_PROMISE || s->frame.type == HTTP2_CONTINUATION;
}

/* The prefix is whole. prefix NULL: it was missed. */
static int prefix_end(struct http2 *h, struct side *s, const uint8_t *prefix, const struct chunk *at) {
        struct http2_stream *stream;
        s->state = SIDE_BODY;
        s->message_wanted = false;
        s->uncounted = !prefix;
        if (prefix && http2_frame_padded(&s->frame)) {
                if (prefix[0] > s->body)           /* section 6.1 */
                        return side_fail(h, s, at);
                s->padding = prefix[0];
                s->body -= prefix[0];
        }
        switch (s->frame.type) {
        case HTTP2_DATA:
                data_begin(h, s);
                break;
        case HTTP2_HEADERS:
        case HTTP2_PUSH_PROMISE:
                block_begin(h, s);
                break;
        case HTTP2_RST_STREAM:
                stream = http2_streams_find(&h->streams, s->frame.stream);
                if (stream)
                        stream_end(h, stream, at, prefix ? http2_error_name(tel_be32_get(prefix)) : "_OTHER");
                break;
        case HTTP2_GOAWAY:
                if (prefix && h->now != asks(h))
                        go_away(h, tel_be32_get(prefix) & INT32_MAX, at);
                break;
        default:
                break;
        }
        payload_step(h, s, at);
        return 0;
}

static int head_end(struct http2 *h, struct side *s, const uint8_t *head, const struct chunk *at) {
        struct http2_frame *f = &s->frame;
        http2_frame_parse(head, f);
        if (s->doubt > 0) {
                if (!http2_frame_plausible(head, f))
                        return side_fail(h, s, at);
                s->doubt--;
        }
        if (s->first && f->type == HTTP2_SETTINGS && !(f->flags & HTTP2_ACK))
                s->doubt = 0;                      /* section 3.4: a connection begins so */
        else if (s->first)
                hpack_forget(&s->hpack);
        s->first = false;
        bool goes_on = f->type == HTTP2_CONTINUATION;
        if (!http2_frame_valid(f) || goes_on != s->block.open || (goes_on && f->stream != s->block.stream))
                return side_fail(h, s, at);
        uint32_t prefix = http2_frame_prefix(f);
        s->n_bytes = 0;
        s->body = f->length - prefix;
        s->padding = 0;
        s->state = SIDE_PREFIX;
        return prefix > 0 ? 0 : prefix_end(h, s, head, at);
}

/* Collects a head or prefix of `need` bytes. Returns it when it is whole: in the chunk, if it is there in one piece. */
static const uint8_t *collect(struct side *s, uint32_t need, const struct chunk *at, size_t *used) {
        const uint8_t *in = at->data + *used;
        size_t n = TEL_MIN(at->n - *used, (size_t)(need - s->n_bytes));
        *used += n;
        if (n == need)
                return in;
        memcpy(s->bytes + s->n_bytes, in, n);
        s->n_bytes += (uint8_t)n;
        return s->n_bytes == need ? s->bytes : NULL;
}

/* The next n bytes of a header block. */
static int block_data(struct http2 *h, struct side *s, const uint8_t *in, uint32_t n) {
        bool last = n == s->body && s->frame.flags & HTTP2_END_HEADERS;
        int r = hpack_data(&s->hpack, in, n, on_field, h);
        return r == 0 && last ? hpack_end(&s->hpack) : r;
}

static int body_data(struct http2 *h, struct side *s, const uint8_t *in, uint32_t n, const struct chunk *at) {
        if (s->frame.type == HTTP2_DATA) {
                for (uint32_t i = 0; s->message_wanted && i < n; i++) {
                        s->message[s->n_message++] = in[i];
                        if (s->n_message == GRPC_HEAD)
                                message_end(h, s);
                }
                data_count(h, s, n, at);
        } else if (is_block(s) && !s->block.broken && block_data(h, s, in, n) < 0) {
                if (!h->proven)
                        return side_fail(h, s, at);
                s->condemned = s->doubt > 0;
                block_break(h, s);
        }
        s->body -= n;
        payload_step(h, s, at);
        return 0;
}

static int preface_data(struct http2 *h, struct side *s, const struct chunk *at, size_t *used) {
        if (at->data[(*used)++] != (uint8_t)HTTP2_PREFACE[s->n_bytes++])
                return side_fail(h, s, at);
        if (s->n_bytes < HTTP2_PREFACE_LEN)
                return 0;
        if (!h->role_known)
                h->role = h->now == DIRECTION_IN ? EXCHANGE_SERVER : EXCHANGE_CLIENT;
        h->role_known = h->proven = true;
        s->n_bytes = 0;
        s->state = SIDE_HEAD;
        return 0;
}

static void from_here(struct side *s, const struct chunk *at, size_t used) {
        s->from = chunk_at(at, used);
        s->from.data = NULL;
        s->from.n = 0;
}

/* Whether a stream that is open has a frame here, one that ends nothing: of bytes that are no head, one in 2^40 looks so. */
static bool is_found(const struct http2 *h, const uint8_t head[static HTTP2_HEAD]) {
        struct http2_frame f;
        http2_frame_parse(head, &f);
        if ((f.type != HTTP2_DATA || f.flags != 0) && (f.type != HTTP2_HEADERS || f.flags != HTTP2_END_HEADERS))
                return false;
        return f.length > 0 && http2_frame_plausible(head, &f) && http2_streams_find(&h->streams, f.stream);
}

/* Most senders write whole frames: what begins a call need not be of a stream that is open. */
static bool is_begun(const struct side *s) {
        struct http2_frame f;
        http2_frame_parse(s->bytes, &f);
        return s->at_call && http2_frame_plausible(s->bytes, &f);
}

/* Looks for a frame in bytes that are not aligned. A length that is plausible begins with 0. */
static int side_search(struct http2 *h, struct side *s, const struct chunk *at, size_t *used) {
        while (*used < at->n && (h->streams.count > 0 || s->at_call)) {
                if (s->n_bytes == 0) {
                        const uint8_t *zero = memchr(at->data + *used, 0, at->n - *used);
                        s->at_call = s->at_call && zero == at->data + *used;
                        *used = zero ? (size_t)(zero - at->data) : at->n;
                        if (!zero)
                                break;
                }
                s->bytes[s->n_bytes++] = at->data[(*used)++];
                if (s->n_bytes < HTTP2_HEAD)
                        continue;
                if (is_begun(s) || is_found(h, s->bytes)) {
                        s->doubt = DOUBT_FRAMES;
                        from_here(s, at, *used);
                        return head_end(h, s, s->bytes, at);
                }
                s->at_call = false;
                const uint8_t *zero = memchr(s->bytes + 1, 0, HTTP2_HEAD - 1);
                s->n_bytes = zero ? (uint8_t)(s->bytes + HTTP2_HEAD - zero) : 0;
                memmove(s->bytes, s->bytes + HTTP2_HEAD - s->n_bytes, s->n_bytes);
        }
        if (h->streams.count == 0 && !s->at_call) {
                s->n_bytes = 0;
                *used = at->n;
        }
        return 0;
}

static int side_data(struct http2 *h, struct side *s, const struct chunk *at, size_t *used) {
        const uint8_t *whole;
        uint32_t n;
        switch ((enum side_state)s->state) {
        case SIDE_FIRST:
                s->first = at->data[*used] != HTTP2_PREFACE[0];
                s->doubt = s->first ? DOUBT_FRAMES : 0;
                s->state = s->first ? SIDE_HEAD : SIDE_PREFACE;
                return 0;
        case SIDE_PREFACE:
                return preface_data(h, s, at, used);
        case SIDE_HEAD:
                if (s->n_bytes == 0 && !s->block.open)
                        from_here(s, at, *used);
                whole = collect(s, HTTP2_HEAD, at, used);
                return whole ? head_end(h, s, whole, at) : 0;
        case SIDE_PREFIX:
                whole = collect(s, http2_frame_prefix(&s->frame), at, used);
                return whole ? prefix_end(h, s, whole, at) : 0;
        case SIDE_BODY:
                n = (uint32_t)TEL_MIN(at->n - *used, (size_t)s->body);
                *used += n;
                return body_data(h, s, at->data + *used - n, n, at);
        case SIDE_PADDING:
                n = (uint32_t)TEL_MIN(at->n - *used, (size_t)s->padding);
                *used += n;
                s->padding -= n;
                payload_step(h, s, at);
                return 0;
        case SIDE_LOST:
                return side_search(h, s, at, used);
        }
        return -EPROTO;
}

/* ---- the protocol ---- */

static void http2_start(void *state, struct connection *c, const struct protocol_options *options, enum exchange_role role) {
        struct http2 *h = state;
        h->connection = c;
        h->options = options;
        h->role = role;
        hpack_init(&h->sides[DIRECTION_IN].hpack);
        hpack_init(&h->sides[DIRECTION_OUT].hpack);
}

static int http2_data(void *state, const struct chunk *at) {
        struct http2 *h = state;
        struct side *s = &h->sides[at->direction];
        int r = 0;
        h->now = at->direction;
        if (s->state == SIDE_LOST && at->turn && at->n > 0) {
                s->state = SIDE_HEAD;
                s->n_bytes = 0;
                s->doubt = DOUBT_FRAMES;
        } else if (s->state == SIDE_LOST && at->opens_call && at->n > 0) {
                s->n_bytes = 0;
                s->at_call = true;
        }
        for (size_t used = 0; used < at->n && r == 0;)
                r = side_data(h, s, at, &used);
        return r;
}

static void http2_gap(void *state, const struct chunk *at, uint64_t bytes) {
        struct http2 *h = state;
        struct side *s = &h->sides[at->direction];
        h->now = at->direction;
        if (bytes > 0 && s->state == SIDE_PREFIX) {
                s->body += http2_frame_prefix(&s->frame) - s->n_bytes;
                prefix_end(h, s, NULL, at);
        }
        while (bytes > 0 && (s->state == SIDE_BODY || s->state == SIDE_PADDING)) {
                uint32_t *left = s->state == SIDE_BODY ? &s->body : &s->padding;
                uint32_t n = (uint32_t)TEL_MIN(bytes, (uint64_t)*left);
                s->message_wanted = false;
                if (s->state == SIDE_BODY && s->frame.type == HTTP2_DATA)
                        data_count(h, s, n, at);
                else if (s->state == SIDE_BODY && is_block(s))
                        block_break(h, s);
                *left -= n;
                bytes -= n;
                payload_step(h, s, at);
        }
        if (bytes > 0 && s->state != SIDE_LOST)
                side_lose(h, s, at);
        if (bytes > 0) {
                s->n_bytes = 0;
                s->at_call = false;
        }
}

static void http2_end(void *state, enum direction direction, uint64_t now_ns) {
        struct http2 *h = state;
        const struct chunk now = { .direction = direction, .end_ns = now_ns };
        struct http2_stream *s;
        uint32_t i = 0;
        h->sides[direction].ended = true;
        if (direction == asks(h) && !h->sides[!direction].ended)
                return;                            /* answers may come */
        drop_streams(h, STREAM_UNSURE_IN | STREAM_UNSURE_OUT, true);
        while ((s = http2_streams_next(&h->streams, &i)))
                stream_end(h, s, &now, s->exchange->answer_ns ? "response_ended" : "connection_reset");
}

static uint64_t http2_skip(const void *state, enum direction direction) {
        const struct side *s = &((const struct http2 *)state)->sides[direction];
        bool payload = s->state == SIDE_BODY || s->state == SIDE_PADDING;
        uint64_t left = (uint64_t)s->body + s->padding;
        return payload && s->frame.type == HTTP2_DATA && !s->message_wanted && left > SKIP_MIN ? left : 0;
}

static struct exchange *http2_stream(const void *state, uint32_t id) {
        const struct http2_stream *s = http2_streams_find(&((const struct http2 *)state)->streams, id);
        return s ? s->exchange : NULL;
}

static void http2_done(void *state) {
        struct http2 *h = state;
        drop_streams(h, 0, false);
        http2_streams_done(&h->streams);
        hpack_done(&h->sides[DIRECTION_IN].hpack);
        hpack_done(&h->sides[DIRECTION_OUT].hpack);
}

const struct protocol protocol_http2 = {
        .name = "http/2",
        .size = sizeof(struct http2),
        .match = http2_match,
        .start = http2_start,
        .data = http2_data,
        .gap = http2_gap,
        .end = http2_end,
        .skip = http2_skip,
        .done = http2_done,
        .stream = http2_stream,
};
