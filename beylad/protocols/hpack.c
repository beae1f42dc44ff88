/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/protocols/hpack.h"

#define STRING_MAX (1u << 24)                      /* of a length on the wire: as much as one frame may carry; more is no HPACK */
#define ENTRY_OVERHEAD 32u                         /* section 4.1 */
#define STATIC_COUNT 61u
#define ROOM_FIRST 16u                             /* entries: what a client that always asks the same puts in */

enum form { FORM_INDEXED, FORM_INSERT, FORM_SIZE, FORM_LITERAL };

/* ---- Huffman code, section 5.2 and appendix B ---- */

/* Bits of each symbol's code, the last is EOS. The codes themselves follow: they are canonical, in the order of length, then of symbol. */
#define SYMBOLS 257u
#define SYMBOL_EOS 256u
#define CODE_MAX 30u
#define SHORT_BITS 8u                              /* codes up to here are looked up; all that is common in headers is among them */
static const uint8_t code_bits[SYMBOLS] = {
        13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
        6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
        13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
        15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
        20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
        22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
        26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
        20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
        30,
};
static struct {
        struct { uint8_t symbol, bits; } shorts[1u << SHORT_BITS];     /* by the next bits; bits 0: the code is longer */
        uint32_t first[CODE_MAX + 1], n[CODE_MAX + 1], offset[CODE_MAX + 1];   /* by length: first code, how many, the first one's place below */
        uint16_t symbols[SYMBOLS];                 /* in the order of their codes */
} huffman;

__attribute__((constructor)) static void huffman_build(void) {
        uint32_t code = 0, at = 0;
        for (uint32_t bits = 1; bits <= CODE_MAX; bits++) {
                code <<= 1;
                huffman.first[bits] = code;
                huffman.offset[bits] = at;
                for (uint32_t s = 0; s < SYMBOLS; s++) {
                        if (code_bits[s] != bits)
                                continue;
                        for (uint32_t i = 0; bits <= SHORT_BITS && i < 1u << (SHORT_BITS - bits); i++) {
                                huffman.shorts[code << (SHORT_BITS - bits) | i].symbol = (uint8_t)s;
                                huffman.shorts[code << (SHORT_BITS - bits) | i].bits = (uint8_t)bits;
                        }
                        huffman.symbols[at++] = (uint16_t)s;
                        code++;
                }
                huffman.n[bits] = code - huffman.first[bits];
        }
}

/* The symbol whose code is longer than SHORT_BITS and begins next, its CODE_MAX bits. Every pattern begins some code, so one is found. */
static uint32_t huffman_long(uint32_t next, uint32_t *ret_bits) {
        for (uint32_t bits = SHORT_BITS + 1;; bits++) {
                uint32_t of_length = (next >> (CODE_MAX - bits)) - huffman.first[bits];
                if (of_length < huffman.n[bits]) {
                        *ret_bits = bits;
                        return huffman.symbols[huffman.offset[bits] + of_length];
                }
        }
}

/* ---- strings ---- */

static void string_reset(struct hpack_string *s) {
        s->n = s->whole = 0;
        s->missing = false;
}

/* Room for more bytes, as far as max goes. */
static void string_reserve(struct hpack_string *s, size_t more, size_t max) {
        size_t need = TEL_MIN(s->n + more, max);
        if (need <= s->room)
                return;
        size_t room = TEL_MIN(TEL_MAX(tel_align(need, 64), (size_t)2 * s->room), max);
        uint8_t *bytes = realloc(s->bytes, room);
        if (!bytes) {
                s->missing = true;
                return;
        }
        s->bytes = bytes;
        s->room = (uint32_t)room;
}

static void string_append(struct hpack_string *s, const uint8_t *in, size_t n, size_t max) {
        string_reserve(s, n, max);
        size_t kept = TEL_MIN(n, (size_t)(s->room - s->n));
        if (kept > 0)
                memcpy(s->bytes + s->n, in, kept);
        s->n += (uint32_t)kept;
        s->whole += (uint32_t)n;
}

/* Decodes until the bits that are left make no whole code. Returns 0 or -EBADMSG: EOS is in it. */
static int string_append_huffman(struct hpack *h, struct hpack_string *s, const uint8_t *in, size_t n, size_t max) {
        const uint8_t *end = in + n;
        uint64_t bits = h->bits;
        uint32_t have = h->n_bits, kept = s->n, whole = s->whole;
        string_reserve(s, (n * 8 + have) / 5, max);
        for (;;) {
                while (have <= 56 && in < end) {
                        bits = bits << 8 | *in++;
                        have += 8;
                }
                /* Behind the last bit there are ones: they can only make a code longer than what is there, which then is not whole. */
                uint64_t filled = have >= CODE_MAX ? bits >> (have - CODE_MAX) : bits << (CODE_MAX - have) | ((1u << (CODE_MAX - have)) - 1);
                uint32_t next = (uint32_t)filled & ((1u << CODE_MAX) - 1);
                uint32_t first = next >> (CODE_MAX - SHORT_BITS), symbol = huffman.shorts[first].symbol, length = huffman.shorts[first].bits;
                if (length == 0)
                        symbol = huffman_long(next, &length);
                if (length > have)
                        break;
                if (symbol == SYMBOL_EOS)
                        return -EBADMSG;
                have -= length;
                if (kept < s->room)
                        s->bytes[kept++] = (uint8_t)symbol;
                whole++;
        }
        h->bits = bits;
        h->n_bits = have;
        s->n = kept;
        s->whole = whole;
        return 0;
}

/* ---- tables, section 2.3 and appendix A ---- */

#define E(name, value) { name, value, sizeof(name) - 1, sizeof(value) - 1 }
static const struct {
        const char *name, *value;
        uint8_t name_len, value_len;
} table_static[1 + STATIC_COUNT] = {
        { NULL, NULL, 0, 0 }, E(":authority", ""), E(":method", "GET"), E(":method", "POST"), E(":path", "/"), E(":path", "/index.html"),
        E(":scheme", "http"), E(":scheme", "https"), E(":status", "200"), E(":status", "204"), E(":status", "206"), E(":status", "304"),
        E(":status", "400"), E(":status", "404"), E(":status", "500"), E("accept-charset", ""), E("accept-encoding", "gzip, deflate"),
        E("accept-language", ""), E("accept-ranges", ""), E("accept", ""), E("access-control-allow-origin", ""), E("age", ""), E("allow", ""),
        E("authorization", ""), E("cache-control", ""), E("content-disposition", ""), E("content-encoding", ""), E("content-language", ""),
        E("content-length", ""), E("content-location", ""), E("content-range", ""), E("content-type", ""), E("cookie", ""), E("date", ""),
        E("etag", ""), E("expect", ""), E("expires", ""), E("from", ""), E("host", ""), E("if-match", ""), E("if-modified-since", ""),
        E("if-none-match", ""), E("if-range", ""), E("if-unmodified-since", ""), E("last-modified", ""), E("link", ""), E("location", ""),
        E("max-forwards", ""), E("proxy-authenticate", ""), E("proxy-authorization", ""), E("range", ""), E("referer", ""), E("refresh", ""),
        E("retry-after", ""), E("server", ""), E("set-cookie", ""), E("strict-transport-security", ""), E("transfer-encoding", ""),
        E("user-agent", ""), E("vary", ""), E("via", ""), E("www-authenticate", ""),
};
#undef E

/* What the sender inserted. Lengths may be larger than what is kept. */
struct hpack_entry {
        uint32_t charged;                          /* to the size of the table */
        uint32_t name_whole;
        uint16_t name_len, value_len;              /* kept in text */
        bool name_known, value_known;
        uint8_t text[];
};

static struct hpack_entry *entry_new(const struct hpack_field *f, uint32_t name_whole, uint32_t charged, bool keep) {
        size_t name_len = keep && f->name ? f->name_len : 0, value_len = keep && f->value ? f->value_len : 0;
        struct hpack_entry *e = malloc(sizeof(*e) + name_len + value_len);
        if (!e)
                return NULL;
        *e = (struct hpack_entry){ .charged = charged, .name_whole = name_whole, .name_len = (uint16_t)name_len, .value_len = (uint16_t)value_len,
                                   .name_known = keep && f->name, .value_known = keep && f->value };
        if (name_len > 0)
                memcpy(e->text, f->name, name_len);
        if (value_len > 0)
                memcpy(e->text + name_len, f->value, value_len);
        return e;
}

static struct hpack_entry **table_at(const struct hpack *h, uint32_t from_newest) {
        return &h->entries[(h->newest - from_newest) & (h->room - 1)];
}

static void table_clear(struct hpack *h) {
        while (h->count > 0)
                free(*table_at(h, --h->count));
        h->size = 0;
}

/* Section 4.3 and 4.4: the oldest go until `more` bytes fit. Where the bound is the sender's, it let go of all that is older, too. */
static void table_evict(struct hpack *h, uint32_t more) {
        while (h->count > 0 && h->size + more > h->limit) {
                struct hpack_entry *e = *table_at(h, --h->count);
                h->size -= e->charged;
                h->partial = h->limit < h->limit_sender;
                free(e);
        }
}

static bool table_grow(struct hpack *h) {
        if (h->count < h->room)
                return true;
        uint32_t room = h->room ? 2 * h->room : ROOM_FIRST;
        struct hpack_entry **entries = malloc(room * sizeof(struct hpack_entry *));
        if (!entries)
                return false;
        for (uint32_t i = 0; i < h->count; i++)
                entries[h->count - 1 - i] = *table_at(h, i);
        free(h->entries);
        h->entries = entries;
        h->room = room;
        h->newest = h->count - 1;
        return true;
}

static void table_insert(struct hpack *h, const struct hpack_field *f, uint32_t name_whole, uint32_t value_whole) {
        uint32_t size = name_whole + value_whole + ENTRY_OVERHEAD;
        if (size > h->limit_sender) {              /* section 4.4: that empties the table and is not an error */
                table_clear(h);
                h->partial = false;
                return;
        }
        /* What only the sender's table has room for takes its place in ours, so that indices stay right, but not its text. */
        struct hpack_entry *e = entry_new(f, name_whole, TEL_MIN(size, h->limit), size <= h->limit);   /* f may point into what is evicted */
        table_evict(h, TEL_MIN(size, h->limit));
        if (!e || !table_grow(h)) {
                free(e);
                table_clear(h);
                h->partial = true;
                return;
        }
        h->newest = (h->newest + 1) & (h->room - 1);
        h->entries[h->newest] = e;
        h->count++;
        h->size += e->charged;
}

/* Name and value at an index. Returns 0 or -EBADMSG: there is no such entry. */
static int table_get(const struct hpack *h, uint32_t index, struct hpack_field *ret, uint32_t *ret_name_whole) {
        *ret = (struct hpack_field){ 0 };
        *ret_name_whole = 0;
        if (index == 0)
                return -EBADMSG;
        if (index <= STATIC_COUNT) {
                *ret = (struct hpack_field){ (const uint8_t *)table_static[index].name, (const uint8_t *)table_static[index].value,
                                             table_static[index].name_len, table_static[index].value_len };
                *ret_name_whole = table_static[index].name_len;
                return 0;
        }
        index -= STATIC_COUNT + 1;
        if (index >= h->count)
                return h->partial ? 0 : -EBADMSG;
        const struct hpack_entry *e = *table_at(h, index);
        *ret = (struct hpack_field){ e->name_known ? e->text : NULL, e->value_known ? e->text + e->name_len : NULL, e->name_len, e->value_len };
        *ret_name_whole = e->name_whole;
        return 0;
}

static void table_resize(struct hpack *h, uint32_t limit) {
        h->limit_sender = limit;
        h->limit = TEL_MIN(limit, HPACK_TABLE_MAX);
        table_evict(h, 0);
        if (limit == 0)
                h->partial = false;
}

/* ---- fields, section 6 ---- */

struct listener {
        hpack_field_fn field;
        void *ctx;
};

/* The value is whole, and with it the field. */
static int field_end(struct hpack *h, const uint8_t *value, uint32_t value_len, uint32_t value_whole, const struct listener *to) {
        struct hpack_field f = { h->name.missing ? NULL : h->name.n ? h->name.bytes : (const uint8_t *)"", NULL, h->name.n, 0 };
        uint32_t name_whole = h->name.whole;
        h->stage = HPACK_FIELD;
        if (h->name_index > 0 && table_get(h, h->name_index, &f, &name_whole) < 0)
                return -EBADMSG;
        f.value = value;
        f.value_len = value_len;
        to->field(to->ctx, &f);
        if (h->form == FORM_INSERT)
                table_insert(h, &f, name_whole, value_whole);
        return 0;
}

static int string_end(struct hpack *h, const struct listener *to) {
        if (h->huffman) {
                uint64_t padding = (1u << (h->n_bits & 7)) - 1;
                if (h->n_bits > 7 || (h->bits & padding) != padding)   /* section 5.2: the first bits of EOS, fewer than 8 */
                        return -EBADMSG;
        }
        if (h->in_value)
                return field_end(h, h->value.missing ? NULL : h->value.n ? h->value.bytes : (const uint8_t *)"", h->value.n, h->value.whole, to);
        h->in_value = true;
        h->stage = HPACK_LENGTH;
        return 0;
}

static int string_data(struct hpack *h, const uint8_t *in, uint32_t n, const struct listener *to) {
        struct hpack_string *s = h->in_value ? &h->value : &h->name;
        size_t max = h->in_value ? HPACK_VALUE_MAX : HPACK_NAME_MAX;
        h->left -= n;
        if (h->huffman) {
                if (string_append_huffman(h, s, in, n, max) < 0)
                        return -EBADMSG;
        } else if (h->in_value && h->left == 0 && s->whole == 0)
                return field_end(h, in, TEL_MIN(n, HPACK_VALUE_MAX), n, to);   /* in one piece: it need not be copied */
        else
                string_append(s, in, n, max);
        return h->left == 0 ? string_end(h, to) : 0;
}

/* The number that began at h->after is whole. */
static int number_end(struct hpack *h, const struct listener *to) {
        struct hpack_field f;
        uint32_t name_whole;
        if (h->after == HPACK_LENGTH) {
                if (h->number > STRING_MAX)
                        return -EBADMSG;
                h->left = h->number;
                h->n_bits = 0;
                h->stage = HPACK_STRING;
                return h->left == 0 ? string_end(h, to) : 0;
        }
        h->stage = HPACK_FIELD;
        switch ((enum form)h->form) {
        case FORM_SIZE:
                if (h->fields)                     /* section 4.2: only at the beginning of a block */
                        return -EBADMSG;
                table_resize(h, h->number);
                return 0;
        case FORM_INDEXED:
                h->fields = true;
                if (table_get(h, h->number, &f, &name_whole) < 0)
                        return -EBADMSG;
                to->field(to->ctx, &f);
                return 0;
        case FORM_INSERT:
        case FORM_LITERAL:
                h->fields = true;
                h->name_index = h->number;
                h->in_value = h->number > 0;
                h->stage = HPACK_LENGTH;
                string_reset(&h->name);
                string_reset(&h->value);
                return 0;
        }
        return -EBADMSG;
}

/* Section 5.1. */
static int number_begin(struct hpack *h, uint8_t octet, unsigned prefix, const struct listener *to) {
        uint32_t max = (1u << prefix) - 1;
        h->after = h->stage;
        h->number = octet & max;
        if (h->number < max)
                return number_end(h, to);
        h->shift = 0;
        h->stage = HPACK_NUMBER;
        return 0;
}

static int number_more(struct hpack *h, uint8_t octet, const struct listener *to) {
        uint64_t number = h->number + ((uint64_t)(octet & 0x7f) << h->shift);
        if (h->shift > 28 || number > UINT32_MAX)
                return -EBADMSG;
        h->number = (uint32_t)number;
        h->shift += 7;
        return octet & 0x80 ? 0 : number_end(h, to);
}

static int field_begin(struct hpack *h, uint8_t octet, const struct listener *to) {
        static const struct { uint8_t form, prefix; } forms[8] = {     /* by the three high bits; the last two literals: 6.2.2, 6.2.3 */
                [4] = { FORM_INDEXED, 7 }, [5] = { FORM_INDEXED, 7 }, [6] = { FORM_INDEXED, 7 }, [7] = { FORM_INDEXED, 7 },
                [2] = { FORM_INSERT, 6 }, [3] = { FORM_INSERT, 6 }, [1] = { FORM_SIZE, 5 }, [0] = { FORM_LITERAL, 4 },
        };
        h->form = forms[octet >> 5].form;
        return number_begin(h, octet, forms[octet >> 5].prefix, to);
}

int hpack_data(struct hpack *h, const uint8_t *in, size_t n, hpack_field_fn field, void *ctx) {
        const struct listener to = { field, ctx };
        const uint8_t *end = in + n;
        int r = 0;
        while (in < end && r == 0)
                switch ((enum hpack_stage)h->stage) {
                case HPACK_FIELD:
                        r = field_begin(h, *in++, &to);
                        break;
                case HPACK_NUMBER:
                        r = number_more(h, *in++, &to);
                        break;
                case HPACK_LENGTH:
                        h->huffman = *in & 0x80;
                        r = number_begin(h, *in++, 7, &to);
                        break;
                case HPACK_STRING: {
                        uint32_t piece = (uint32_t)TEL_MIN((size_t)(end - in), (size_t)h->left);
                        r = string_data(h, in, piece, &to);
                        in += piece;
                        break;
                }
                }
        if (r < 0)
                hpack_forget(h);
        return r;
}

int hpack_end(struct hpack *h) {
        h->fields = false;
        if (h->stage == HPACK_FIELD)
                return 0;
        hpack_forget(h);
        return -EBADMSG;
}

void hpack_init(struct hpack *h) {
        *h = (struct hpack){ .limit = HPACK_TABLE_DEFAULT, .limit_sender = HPACK_TABLE_DEFAULT };
}

void hpack_forget(struct hpack *h) {
        table_clear(h);
        h->limit = HPACK_TABLE_MAX;
        h->limit_sender = UINT32_MAX;
        h->partial = true;
        h->stage = HPACK_FIELD;
        h->fields = false;
}

void hpack_done(struct hpack *h) {
        table_clear(h);
        free(h->entries);
        free(h->name.bytes);
        free(h->value.bytes);
        *h = (struct hpack){ 0 };
}
