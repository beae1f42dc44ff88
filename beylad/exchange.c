/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/exchange.h"

#include "beylad/connection.h"
#include "libtelemetry/utf8.h"

/* The kernel side tells of it before the bytes of the call, and TCP counts what it put in. One that does not fit is of a call that failed. */
static void take_injected(struct exchange *x) {
        struct injected *i = &x->connection->injected;
        if (!i->present || x->role != EXCHANGE_CLIENT || !x->has_seq || x->seq != i->seq + PROBE_INJECT_BYTES)
                return;
        x->injected = *i;
        x->seq = i->seq;
        i->present = false;
}

struct exchange *exchange_begin(struct connection *c, enum exchange_kind kind, enum exchange_role role, const struct chunk *at) {
        struct exchange *x = calloc(1, sizeof(*x));
        if (!x) {
                c->sink->lost(c->sink->ctx, c, 1);
                return NULL;
        }
        x->connection = connection_ref(c);
        x->protocol = c->protocol;
        x->kind = kind;
        x->role = role;
        x->start_ns = role == EXCHANGE_SERVER ? at->end_ns : at->start_ns;
        x->request_bytes = x->response_bytes = -1;
        x->status = -1;
        x->seq = at->seq;
        x->has_seq = at->has_seq;
        take_injected(x);
        c->open_exchanges++;
        if (!c->sink->begun(c->sink->ctx, x, at)) {
                exchange_drop(x, true);
                return NULL;
        }
        return x;
}

void exchange_asked(struct exchange *x, const struct chunk *at) {
        assert(x->state == EXCHANGE_OPEN);
        x->state = EXCHANGE_ASKED;
        x->connection->sink->asked(x->connection->sink->ctx, x, at);
}

void exchange_answered(struct exchange *x, const struct chunk *at) {
        if (x->answer_ns == 0)
                x->answer_ns = at->end_ns;
}

static void leave(struct exchange *x) {
        assert(x->connection->open_exchanges > 0);
        x->connection->open_exchanges--;
}

void exchange_end(struct exchange *x, const struct chunk *at) {
        const struct exchange_sink *sink = x->connection->sink;
        assert(x->state != EXCHANGE_ENDED);
        x->state = EXCHANGE_ENDED;
        x->end_ns = TEL_MAX(at ? at->end_ns : x->connection->last_ns, x->start_ns);
        if (x->connection->abandoned) {            /* we look away; what becomes of it is not the program's failure */
                x->fields[FIELD_ERROR] = 0;
                x->unobserved = true;
        }
        leave(x);
        sink->ended(sink->ctx, x);
}

void exchange_drop(struct exchange *x, bool counted) {
        const struct exchange_sink *sink = x->connection->sink;
        leave(x);
        sink->dropped(sink->ctx, x, counted);
        exchange_free(x);
}

/* ---- texts ---- */

/* Room for n bytes and a NUL; the place is written by the caller. Returns its offset or -ENOMEM. */
static int64_t reserve(struct exchange *x, size_t n) {
        if (x->text_room - x->text_len < n + 1) {
                uint32_t room = (uint32_t)TEL_MAX(tel_align(x->text_len + n + 1, 64), (size_t)TEL_MAX(2 * x->text_room, 128u));
                char *text = realloc(x->text, room);
                if (!text)
                        return -ENOMEM;
                x->text = text;
                x->text_room = room;
        }
        return x->text_len;
}

/* Copies what makes at most EXCHANGE_FIELD_MAX bytes of printable UTF-8, cut between characters. Returns where they are, or -ENOMEM. */
static int64_t keep(struct exchange *x, const void *bytes, size_t n) {
        size_t room = TEL_MIN(n, (size_t)EXCHANGE_FIELD_MAX);
        int64_t at = reserve(x, room);
        if (at >= 0)
                x->text_len += (uint32_t)tel_utf8_printable(x->text + at, room + 1, bytes, n) + 1;
        return at;
}

int exchange_set(struct exchange *x, enum exchange_field field, const void *bytes, size_t n) {
        int64_t at = keep(x, bytes, n);
        if (at < 0)
                return (int)at;
        x->fields[field] = (uint32_t)at + 1;
        return 0;
}

const char *exchange_get(const struct exchange *x, enum exchange_field field) {
        return x->fields[field] ? x->text + x->fields[field] - 1 : NULL;
}

void exchange_add_header(struct exchange *x, const void *name, size_t name_len, const void *value, size_t value_len) {
        if (x->n_headers == EXCHANGE_HEADERS_MAX)
                return;
        int64_t at = keep(x, name, name_len);
        if (at < 0 || keep(x, value, value_len) < 0)
                return;
        x->headers[x->n_headers++] = (uint32_t)at + 1;
}

/* ---- traceparent ---- */

static int hex(uint8_t c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;           /* upper case is invalid: section 3.2.2.1 */
}

/* n bytes from 2n digits. Returns whether all are digits; ret_zero: whether all bytes are 0. */
static bool unhex(const uint8_t *in, uint8_t *out, size_t n, bool *ret_zero) {
        *ret_zero = true;
        for (size_t i = 0; i < n; i++) {
                int high = hex(in[2 * i]), low = hex(in[2 * i + 1]);
                if (high < 0 || low < 0)
                        return false;
                out[i] = (uint8_t)(high << 4 | low);
                *ret_zero = *ret_zero && out[i] == 0;
        }
        return true;
}

void exchange_set_traceparent(struct exchange *x, const void *value, size_t n) {
        const uint8_t *v = value;
        struct trace_parent p = { .present = true };
        uint8_t version, flags;
        bool zero, zero_trace, zero_span;
        if (n < 55 || !unhex(v, &version, 1, &zero) || version == 0xff || v[2] != '-' || v[35] != '-' || v[52] != '-')
                return;
        if ((version == 0 && n != 55) || (n > 55 && v[55] != '-'))
                return;
        if (!unhex(v + 3, p.trace_id, 16, &zero_trace) || !unhex(v + 36, p.span_id, 8, &zero_span) || !unhex(v + 53, &flags, 1, &zero))
                return;
        if (zero_trace || zero_span)
                return;
        p.sampled = flags & 1;
        x->parent = p;
}

struct exchange *exchange_free(struct exchange *x) {
        if (!x)
                return NULL;
        connection_unref(x->connection);
        free(x->text);
        free(x);
        return NULL;
}
