/* SPDX-License-Identifier: Apache-2.0 */
#include "libtelemetry/frame.h"

#include <pb_decode.h>
#include <pb_encode.h>
#include <pthread.h>

#include "libtelemetry/cursor.h"
#include "libtelemetry/utf8.h"
#include "proto/frame.pb.h"

static_assert(telemetry_frame_Hello_size <= TEL_FRAME_SMALL_MAX, "HELLO fits");
static_assert(telemetry_frame_Status_size <= TEL_FRAME_SMALL_MAX, "STATUS fits");
static_assert(telemetry_frame_Error_size <= TEL_FRAME_SMALL_MAX, "ERROR fits");

static const uint8_t magic[4] = { 'T', 'L', 'M', 'F' };

/* ---- CRC-32C ---- */

#define CRC32C_POLYNOMIAL 0x82f63b78u              /* 0x1edc6f41, reflected */

/* crc_table[k][b]: the CRC of byte b with k zero bytes behind it, so that eight bytes cost eight look-ups and no chain between them. */
static uint32_t crc_table[8][256];

static void crc_table_fill(void) {
        for (uint32_t b = 0; b < 256; b++) {
                uint32_t c = b;
                for (int bit = 0; bit < 8; bit++)
                        c = c >> 1 ^ (c & 1 ? CRC32C_POLYNOMIAL : 0);
                crc_table[0][b] = c;
        }
        for (int k = 1; k < 8; k++)
                for (uint32_t b = 0; b < 256; b++)
                        crc_table[k][b] = crc_table[k - 1][b] >> 8 ^ crc_table[0][crc_table[k - 1][b] & 0xff];
}

uint32_t tel_crc32c_portable(uint32_t crc, const void *bytes, size_t n) {
        static pthread_once_t once = PTHREAD_ONCE_INIT;        /* filled at first need: most CPUs never need it */
        pthread_once(&once, crc_table_fill);
        const uint8_t *p = bytes;
        uint32_t c = ~crc;
        for (; n >= 8; n -= 8, p += 8) {
                uint64_t v = tel_le64_get(p) ^ c;
                c = 0;
                for (int k = 0; k < 8; k++)
                        c ^= crc_table[7 - k][v >> 8 * k & 0xff];
        }
        for (; n > 0; n--)
                c = c >> 8 ^ crc_table[0][(c ^ *p++) & 0xff];
        return ~c;
}

#ifdef __x86_64__
__attribute__((target("sse4.2")))
static uint32_t crc32c_sse42(uint32_t crc, const void *bytes, size_t n) {
        const uint8_t *p = bytes;
        uint64_t c = (uint32_t)~crc;
        for (; n >= 8; n -= 8, p += 8)
                c = __builtin_ia32_crc32di(c, tel_le64_get(p));
        uint32_t last = (uint32_t)c;
        for (; n > 0; n--)
                last = __builtin_ia32_crc32qi(last, *p++);
        return ~last;
}
#endif

uint32_t tel_crc32c(uint32_t crc, const void *bytes, size_t n) {
#ifdef __x86_64__
        if (__builtin_cpu_supports("sse4.2"))
                return crc32c_sse42(crc, bytes, n);
#endif
        return tel_crc32c_portable(crc, bytes, n);
}

/* ---- Head ---- */

void tel_frame_head(uint8_t out[static TEL_FRAME_HEAD], uint8_t kind, uint64_t sequence, const void *body, uint32_t len) {
        memcpy(out, magic, sizeof(magic));
        out[4] = TEL_FRAME_VERSION;
        out[5] = kind;
        tel_be16_put(out + 6, 0);
        tel_be32_put(out + 8, len);
        tel_be32_put(out + 12, tel_crc32c(0, body, len));
        tel_be64_put(out + 16, sequence);
}

static uint32_t body_max(uint8_t kind) {
        switch (kind) {
        case TEL_FRAME_ACK:
        case TEL_FRAME_BYE:
                return 0;
        case TEL_FRAME_HELLO:
        case TEL_FRAME_STATUS:
        case TEL_FRAME_ERROR:
                return TEL_FRAME_SMALL_MAX;
        default:
                return TEL_FRAME_BODY_MAX;
        }
}

/* What is wrong with the first n bytes of a head; 0 when nothing is. Bytes that did not come yet are zero in head: they make flags and
 * length no larger than they will be, so what is refused here would be refused whatever follows. */
static enum tel_frame_error head_check(const uint8_t head[static TEL_FRAME_HEAD], size_t n) {
        if (memcmp(head, magic, TEL_MIN(n, sizeof(magic))) != 0)
                return TEL_FRAME_ERROR_MAGIC;
        if (n > 4 && head[4] != TEL_FRAME_VERSION)
                return TEL_FRAME_ERROR_VERSION;
        if (n > 5 && (head[5] < TEL_FRAME_HELLO || head[5] > TEL_FRAME_BYE))
                return TEL_FRAME_ERROR_KIND;
        if (tel_be16_get(head + 6) != 0)
                return TEL_FRAME_ERROR_FLAGS;
        if (tel_be32_get(head + 8) > body_max(head[5]))
                return TEL_FRAME_ERROR_LENGTH;
        return 0;
}

int tel_frame_parse(const uint8_t *in, size_t n, struct tel_frame *ret, enum tel_frame_error *reterr_error) {
        if (n == 0)
                return TEL_FRAME_MORE;
        uint8_t head[TEL_FRAME_HEAD] = { 0 };
        memcpy(head, in, TEL_MIN(n, sizeof(head)));
        enum tel_frame_error e = head_check(head, n);
        if (e != 0) {
                *reterr_error = e;
                return -EBADMSG;
        }
        if (n < TEL_FRAME_HEAD)
                return TEL_FRAME_MORE;
        struct tel_frame f = { .kind = head[5], .len = tel_be32_get(head + 8), .sequence = tel_be64_get(head + 16) };
        if (n - TEL_FRAME_HEAD < f.len) {
                *ret = f;
                return TEL_FRAME_MORE;
        }
        f.body = in + TEL_FRAME_HEAD;
        if (tel_crc32c(0, f.body, f.len) != tel_be32_get(head + 12)) {
                *reterr_error = TEL_FRAME_ERROR_CHECKSUM;
                return -EBADMSG;
        }
        *ret = f;
        return 0;
}

const char *tel_frame_error_name(enum tel_frame_error e) {
        static const char *const names[TEL_FRAME_ERRORS] = {
                [TEL_FRAME_ERROR_MAGIC] = "bad magic",
                [TEL_FRAME_ERROR_VERSION] = "unknown version",
                [TEL_FRAME_ERROR_KIND] = "unexpected kind",
                [TEL_FRAME_ERROR_FLAGS] = "unknown flags",
                [TEL_FRAME_ERROR_LENGTH] = "too long",
                [TEL_FRAME_ERROR_CHECKSUM] = "checksum mismatch",
                [TEL_FRAME_ERROR_SEQUENCE] = "sequence out of order",
                [TEL_FRAME_ERROR_HELLO] = "bad hello",
                [TEL_FRAME_ERROR_BODY] = "malformed body",
                [TEL_FRAME_ERROR_PEER] = "peer not allowed",
                [TEL_FRAME_ERROR_LIMIT] = "too many connections",
                [TEL_FRAME_ERROR_SHORT] = "short frame",
        };
        return (unsigned)e < TEL_FRAME_ERRORS && names[e] ? names[e] : "unknown error";
}

/* ---- Bodies ---- */

size_t tel_frame_text(char *out, size_t n, const char *text, size_t text_max) {
        const uint8_t *p = (const uint8_t *)text, *end = p + strnlen(text, text_max);
        size_t len = 0;
        while (p < end) {
                size_t k = tel_utf8_sequence(p, end);
                if (len + TEL_MAX(k, 1u) >= n)
                        break;
                if (k == 0)
                        out[len++] = '?';
                else
                        memcpy(out + len, p, k);
                len += k;
                p += TEL_MAX(k, 1u);
        }
        out[len] = '\0';
        return len;
}

/* A bounded string of ours into the message's array of the same size, so that no encoder can write what a decoder refuses. */
#define TEXT_PUT(to, from) ({ static_assert(sizeof(to) == sizeof(from), "same bound"); tel_frame_text(to, sizeof(to), from, sizeof(from)); })
#define TEXT_GET(to, from) ({ static_assert(sizeof(to) == sizeof(from), "same bound"); memcpy(to, from, sizeof(from)); })

static bool text_valid(const char *text) {
        return tel_utf8_valid(text, strlen(text));
}

static size_t small_put(uint8_t *out, const pb_msgdesc_t *fields, const void *message) {
        pb_ostream_t s = pb_ostream_from_buffer(out, TEL_FRAME_SMALL_MAX);
        bool done = pb_encode(&s, fields, message);
        assert(done);                              /* it fits by the assertions on top, and nothing else can fail */
        return s.bytes_written;
}

static bool small_get(const uint8_t *body, size_t n, const pb_msgdesc_t *fields, void *message) {
        pb_istream_t s = pb_istream_from_buffer(body, n);
        return pb_decode(&s, fields, message);
}

size_t tel_frame_hello_put(uint8_t out[static TEL_FRAME_SMALL_MAX], const struct tel_frame_hello *h) {
        telemetry_frame_Hello m = { .pid = h->pid };
        TEXT_PUT(m.name, h->name);
        TEXT_PUT(m.version, h->version);
        TEXT_PUT(m.host, h->host);
        memcpy(m.epoch, h->epoch, sizeof(m.epoch));
        return small_put(out, telemetry_frame_Hello_fields, &m);
}

int tel_frame_hello_get(const uint8_t *body, size_t n, struct tel_frame_hello *ret) {
        static const uint8_t no_epoch[TEL_FRAME_EPOCH];
        telemetry_frame_Hello m = telemetry_frame_Hello_init_zero;
        if (!small_get(body, n, telemetry_frame_Hello_fields, &m))
                return -EBADMSG;
        if (!m.name[0] || memcmp(m.epoch, no_epoch, sizeof(no_epoch)) == 0)
                return -EBADMSG;                   /* without them nobody can be told from another */
        if (!text_valid(m.name) || !text_valid(m.version) || !text_valid(m.host))
                return -EBADMSG;
        struct tel_frame_hello h = { .pid = m.pid };
        TEXT_GET(h.name, m.name);
        TEXT_GET(h.version, m.version);
        TEXT_GET(h.host, m.host);
        memcpy(h.epoch, m.epoch, sizeof(h.epoch));
        *ret = h;
        return 0;
}

size_t tel_frame_status_put(uint8_t out[static TEL_FRAME_SMALL_MAX], const struct tel_frame_status *s) {
        telemetry_frame_Status m = {
                .dropped_frames = s->dropped_frames, .dropped_bytes = s->dropped_bytes,
                .waiting_frames = s->waiting_frames, .waiting_bytes = s->waiting_bytes,
        };
        TEXT_PUT(m.text, s->text);
        return small_put(out, telemetry_frame_Status_fields, &m);
}

int tel_frame_status_get(const uint8_t *body, size_t n, struct tel_frame_status *ret) {
        telemetry_frame_Status m = telemetry_frame_Status_init_zero;
        if (!small_get(body, n, telemetry_frame_Status_fields, &m) || !text_valid(m.text))
                return -EBADMSG;
        ret->dropped_frames = m.dropped_frames;
        ret->dropped_bytes = m.dropped_bytes;
        ret->waiting_frames = m.waiting_frames;
        ret->waiting_bytes = m.waiting_bytes;
        TEXT_GET(ret->text, m.text);
        return 0;
}

size_t tel_frame_error_put(uint8_t out[static TEL_FRAME_SMALL_MAX], const struct tel_frame_error_body *e) {
        telemetry_frame_Error m = { .code = e->code, .sequence = e->sequence };
        TEXT_PUT(m.text, e->text);
        return small_put(out, telemetry_frame_Error_fields, &m);
}

int tel_frame_error_get(const uint8_t *body, size_t n, struct tel_frame_error_body *ret) {
        telemetry_frame_Error m = telemetry_frame_Error_init_zero;
        if (!small_get(body, n, telemetry_frame_Error_fields, &m) || !text_valid(m.text))
                return -EBADMSG;
        ret->code = m.code;
        ret->sequence = m.sequence;
        TEXT_GET(ret->text, m.text);
        return 0;
}
