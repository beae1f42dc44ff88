/* SPDX-License-Identifier: Apache-2.0 */
#include <isa-l/igzip_lib.h>
#include <stdio.h>

#include "collectord/destinations/encode_otlp.h"
#include "collectord/destinations/merge_otlp.h"
#include "libtelemetry/cursor.h"
#include "libtelemetry/otlp.h"
#include "libtelemetry/otlp_json.h"

/* ISA-L's level 1 makes bodies as small as libdeflate's level 1 does in a third of the time: 58.5 and 57.9 bytes a span at 0.21 and 0.63 CPU-s a
 * million, 25.0 and 25.1 bytes a log record at 0.17 and 0.44 (docs/performance.md). Its level 3 costs what libdeflate costs. */
#define GZIP_LEVEL 1
#define GZIP_LEVEL_BYTES ISAL_DEF_LVL1_DEFAULT     /* its tables and tokens */
/* The worst case of one deflate stream: stored blocks of at most 64 KB with five bytes each, and the gzip head and tail. */
#define GZIP_BOUND(n) ((n) + (n) / 65535 * 5 + 5 + 64)
#define SCRATCH_KEEP (2u << 20)                    /* a larger scratch buffer is given back after its batch */
#define JSON_GROWTH 16                             /* JSON of a body is at most so many times its protobuf: each byte of it names a key */

struct encoder {
        struct tel_budget *egress;
        uint8_t *gzip_level;                       /* GZIP_LEVEL_BYTES; allocated with the first body, given back with the encoder */
        uint8_t *scratch;                          /* pieces side by side, and behind them the compressed body until its length is known */
        size_t scratch_bytes;
};

void body_done(struct body *b) {
        free(b->pieces);
        free(b->heads);
        tel_buf_unref(b->own);
        *b = (struct body){ 0 };
}

struct encoder *encoder_new(struct tel_budget *egress) {
        struct encoder *e = calloc(1, sizeof(*e));
        if (!e)
                return NULL;
        e->egress = egress;
        return e;
}

struct encoder *encoder_free(struct encoder *e) {
        if (!e)
                return NULL;
        free(e->gzip_level);
        free(e->scratch);
        free(e);
        return NULL;
}

/* ---- Which bytes ---- */

static bool resource_dropped(const struct destination_settings *d, const struct tel_otlp_resource *r) {
        const struct drop_rule *rules = d->drop.items;
        for (size_t i = 0; i < d->drop.n; i++) {
                size_t len;
                const char *value = tel_otlp_resource_get(r, rules[i].resource, &len);
                if (value && len == strlen(rules[i].equals) && memcmp(value, rules[i].equals, len) == 0)
                        return true;
        }
        return false;
}

static int body_piece(struct body *b, const uint8_t *at, const uint8_t *end) {
        if (at == end)
                return 0;
        b->bytes += (size_t)(end - at);
        struct iovec *last = b->n ? &b->pieces[b->n - 1] : NULL;
        if (last && (const uint8_t *)last->iov_base + last->iov_len == at) {
                last->iov_len += (size_t)(end - at);
                return 0;
        }
        if ((b->n & (b->n - 1)) == 0) {            /* grows at powers of two */
                struct iovec *more = realloc(b->pieces, (b->n ? 2 * b->n : 1) * sizeof(*more));
                if (!more)
                        return -ENOMEM;
                b->pieces = more;
        }
        b->pieces[b->n++] = (struct iovec){ (void *)at, (size_t)(end - at) };
        return 0;
}

/* One record's body, without the resources that a rule drops. */
static int body_add(struct body *b, const struct destination_settings *d, enum tel_signal signal, const uint8_t *at, size_t n) {
        const uint8_t *end = at + n, *from = at, *p = at;
        struct tel_otlp_resource r;
        while (d->drop.n && tel_otlp_resource_next(&p, end, &r)) {
                if (!resource_dropped(d, &r))
                        continue;
                b->filtered += tel_otlp_items(signal, r.at, r.end);
                if (body_piece(b, from, r.at) < 0)
                        return -ENOMEM;
                from = r.end;
        }
        return body_piece(b, from, end);
}

/* ---- How they are written ---- */

static int scratch_reserve(struct encoder *e, size_t bytes) {
        if (bytes <= e->scratch_bytes)
                return 0;
        size_t to = tel_align(bytes, 64u << 10);
        free(e->scratch);
        e->scratch = malloc(to);
        e->scratch_bytes = e->scratch ? to : 0;
        return e->scratch ? 0 : -ENOMEM;
}

/* The body in one piece: where it lies, or side by side in scratch, with room behind it. NULL: out of memory. */
static const uint8_t *gather(struct encoder *e, const struct body *b, size_t room) {
        bool joined = b->n == 1;
        if (scratch_reserve(e, (joined ? 0 : b->bytes) + room) < 0)
                return NULL;
        if (joined)
                return b->pieces[0].iov_base;
        size_t at = 0;
        for (size_t i = 0; i < b->n; i++) {
                memcpy(e->scratch + at, b->pieces[i].iov_base, b->pieces[i].iov_len);
                at += b->pieces[i].iov_len;
        }
        return e->scratch;
}

static void scratch_settle(struct encoder *e) {
        if (e->scratch_bytes <= SCRATCH_KEEP)
                return;
        free(e->scratch);
        e->scratch = NULL;
        e->scratch_bytes = 0;
}

/* The body is one buffer of its own from now on. Takes own. */
static int body_own(struct body *b, struct tel_buf *own) {
        free(b->pieces);
        b->pieces = malloc(sizeof(*b->pieces));
        b->n = b->pieces ? 1 : 0;
        if (!b->pieces) {
                tel_buf_unref(own);
                return -ENOMEM;
        }
        tel_buf_unref(b->own);
        b->own = own;
        b->pieces[0] = (struct iovec){ own->data, own->len };
        b->bytes = own->len;
        return 0;
}

/* A buffer on the egress budget; beside it when that is spent and overdraw says so. */
static struct tel_buf *out_new(struct encoder *e, size_t n, bool overdraw) {
        struct tel_buf *out = tel_buf_new(e->egress, n);
        return out || !overdraw ? out : tel_buf_new(NULL, n);
}

static int write_json(struct encoder *e, enum tel_signal signal, bool overdraw, struct body *b) {
        const uint8_t *raw = gather(e, b, 0);
        if (!raw)
                return -ENOMEM;
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = out_new(e, b->bytes * 2, overdraw);
        if (!out)
                return -ENOBUFS;
        int r = tel_otlp_to_json(tel_schema_request(signal), raw, b->bytes, out, b->bytes * JSON_GROWTH + 64);
        if (r < 0)
                return r == -EMSGSIZE ? -ENOBUFS : r;
        tel_buf_trim(out);
        b->content_type = "application/json";
        return body_own(b, TEL_TAKE(out));
}

/* The bytes of a gzip stream written to out; 0 when they do not fit n. */
static size_t deflate_gzip(struct encoder *e, const uint8_t *raw, size_t raw_bytes, uint8_t *out, size_t n) {
        struct isal_zstream stream;
        isal_deflate_init(&stream);
        stream.level = GZIP_LEVEL;
        stream.level_buf = e->gzip_level;
        stream.level_buf_size = GZIP_LEVEL_BYTES;
        stream.gzip_flag = IGZIP_GZIP;
        stream.end_of_stream = 1;
        stream.flush = NO_FLUSH;
        stream.next_in = (uint8_t *)raw;           /* only read: the interface lacks a const */
        stream.avail_in = (uint32_t)raw_bytes;
        stream.next_out = out;
        stream.avail_out = (uint32_t)n;
        bool whole = isal_deflate(&stream) == COMP_OK && stream.internal_state.state == ZSTATE_END;
        return whole ? stream.total_out : 0;
}

static int write_gzip(struct encoder *e, bool overdraw, struct body *b) {
        size_t bound = GZIP_BOUND(b->bytes), at = b->n == 1 ? 0 : b->bytes;
        if (!e->gzip_level)
                e->gzip_level = malloc(GZIP_LEVEL_BYTES);
        const uint8_t *raw = e->gzip_level ? gather(e, b, bound) : NULL;
        if (!raw || bound > UINT32_MAX)
                return -ENOMEM;
        size_t n = deflate_gzip(e, raw, b->bytes, e->scratch + at, bound);
        assert(n > 0);                             /* the bound is enough for any input */
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *out = out_new(e, n, overdraw);
        if (!out)
                return -ENOBUFS;
        memcpy(out->data, e->scratch + at, n);
        out->len = n;
        b->content_encoding = "gzip";
        return body_own(b, TEL_TAKE(out));
}

static void body_donep(struct body *b) {
        body_done(b);
}

int encode_otlp(struct encoder *e, const struct destination_settings *settings, const struct batch *batch, bool overdraw,
                struct body *ret) {
        TEL_CLEANUP(body_donep) struct body b = { .content_type = "application/x-protobuf" };
        enum tel_signal signal = reader_signal(batch->reader);
        int r = 0;
        for (size_t i = 0; i < batch->n && r == 0; i++) {
                const struct record *record = batch->parts[i].record;
                r = batch->own ? body_add(&b, settings, signal, batch->own->data, batch->own->len)
                               : body_add(&b, settings, signal, record->body, record->body_bytes);
        }
        if (r == 0)
                r = merge_otlp(&b);
        b.items = batch->items - b.filtered;
        b.raw_bytes = b.bytes;
        if (r == 0 && b.bytes > 0 && settings->encoding == OTLP_ENCODING_JSON)
                r = write_json(e, signal, overdraw, &b);
        if (r == 0 && b.bytes > 0 && settings->compression == COMPRESSION_GZIP)
                r = write_gzip(e, overdraw, &b);
        scratch_settle(e);
        if (r < 0)
                return r;
        *ret = b;
        b = (struct body){ 0 };
        return 0;
}

/* ---- Splitting one record ---- */

/* Records of the cut alternate into two buffers: the first ones up to half of the items, then the rest. */
struct halves {
        struct tel_buf *half[2];
        uint64_t items[2], want;
        struct tel_budget *egress;
};

static int halves_space(void *ctx, const struct tel_otlp_record *record, uint8_t **ret) {
        struct halves *h = ctx;
        unsigned i = h->items[0] >= h->want ? 1 : 0;
        if (!h->half[i])
                h->half[i] = tel_buf_new(h->egress, 0);
        if (!h->half[i])
                return -ENOBUFS;
        int r = tel_buf_reserve(h->half[i], record->bytes, SIZE_MAX / 2);
        if (r < 0)
                return r;
        *ret = h->half[i]->data + h->half[i]->len;
        h->half[i]->len += record->bytes;
        h->items[i] += record->items;
        return 0;
}

int encode_otlp_halves(const struct batch *batch, struct tel_buf **ret_first, uint64_t *ret_items_first, struct tel_buf **ret_second) {
        assert(batch->n == 1);
        const struct record *record = batch->parts[0].record;
        const uint8_t *body = batch->own ? batch->own->data : record->body;
        size_t n = batch->own ? batch->own->len : record->body_bytes;
        if (batch->items < 2)
                return -EINVAL;
        struct halves h = { .want = batch->items / 2 };    /* beside the egress budget: copies of one record */
        struct tel_otlp_result result;
        struct tel_otlp_limits limits = { .items_max = (batch->items + 1) / 2, .bytes_max = SIZE_MAX / 2 };
        int r = tel_otlp_cut(reader_signal(batch->reader), body, n, NULL, 0, &limits, halves_space, &h, &result);
        if (r == 0 && (!h.half[0] || !h.half[1]))
                r = -EINVAL;                       /* one metric with many points is one unit */
        if (r < 0) {
                tel_buf_unref(h.half[0]);
                tel_buf_unref(h.half[1]);
                return r;
        }
        *ret_first = h.half[0];
        *ret_items_first = h.items[0];
        *ret_second = h.half[1];
        return 0;
}

/* ---- Answers ---- */

static void answer_protobuf(const uint8_t *p, const uint8_t *end, uint64_t *rejected, char *message, size_t size) {
        enum { FIELD_PARTIAL_SUCCESS = 1, FIELD_REJECTED = 1, FIELD_MESSAGE = 2 };
        struct tel_field f, g;
        for (; p < end && tel_field_get(p, end, &f) == 0; p = f.end) {
                if (f.number != FIELD_PARTIAL_SUCCESS || f.wire != TEL_WIRE_BYTES)
                        continue;
                for (const uint8_t *q = f.at; q < f.end && tel_field_get(q, f.end, &g) == 0; q = g.end) {
                        if (g.number == FIELD_REJECTED && g.wire == TEL_WIRE_VARINT)
                                *rejected = g.value > INT64_MAX ? 0 : g.value;
                        else if (g.number == FIELD_MESSAGE && g.wire == TEL_WIRE_BYTES)
                                snprintf(message, size, "%.*s", (int)TEL_MIN(g.value, (uint64_t)size), (const char *)g.at);
                }
        }
}

static void answer_json(const char *text, size_t n, uint64_t *rejected, char *message, size_t size) {
        struct tel_json j;
        bool inside = false;
        tel_json_init(&j, text, n);
        for (enum tel_json_token t; (t = tel_json_next(&j)) != TEL_JSON_END && t != TEL_JSON_ERROR;) {
                if (t == TEL_JSON_OBJECT_END)
                        inside = false;
                if (t != TEL_JSON_KEY)
                        continue;
                bool is_rejected = tel_json_key_is(&j, "rejectedSpans") || tel_json_key_is(&j, "rejectedDataPoints") ||
                                   tel_json_key_is(&j, "rejectedLogRecords");
                bool is_message = tel_json_key_is(&j, "errorMessage"), is_partial = tel_json_key_is(&j, "partialSuccess");
                t = tel_json_next(&j);
                if (is_partial && t == TEL_JSON_OBJECT)
                        inside = true;
                else if (inside && is_rejected && (t == TEL_JSON_NUMBER || t == TEL_JSON_STRING)) {
                        bool negative;
                        uint64_t magnitude;
                        /* An int64: what is none counts nothing, as in protobuf. */
                        bool fits = tel_json_integer(j.text, j.len, &negative, &magnitude) == 0 && !negative && magnitude <= INT64_MAX;
                        *rejected = fits ? magnitude : 0;
                } else if (inside && is_message && t == TEL_JSON_STRING && j.len < size) {
                        ssize_t len = tel_json_unescape(j.text, j.len, message);
                        message[len > 0 ? len : 0] = '\0';
                } else if (tel_json_skip(&j, t) < 0)
                        return;
        }
}

void decode_otlp_answer(const uint8_t *answer, size_t n, uint64_t *ret_rejected, char *ret_message, size_t message_size) {
        *ret_rejected = 0;
        ret_message[0] = '\0';
        size_t blank = 0;
        while (blank < n && (answer[blank] == ' ' || answer[blank] == '\n' || answer[blank] == '\r' || answer[blank] == '\t'))
                blank++;
        if (blank < n && answer[blank] == '{')
                answer_json((const char *)answer, n, ret_rejected, ret_message, message_size);
        else
                answer_protobuf(answer, answer + n, ret_rejected, ret_message, message_size);
        for (char *c = ret_message; *c; c++)       /* it goes into a log line */
                if ((unsigned char)*c < 0x20 || *c == 0x7f)
                        *c = ' ';
}
