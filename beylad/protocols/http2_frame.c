/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/protocols/http2_frame.h"

#include "libtelemetry/cursor.h"

#define FRAME_SIZE_DEFAULT 16384u                  /* SETTINGS_MAX_FRAME_SIZE: section 6.5.2 */
#define LENGTH_MAX 0xffffffu

enum stream_rule { STREAM_NONE, STREAM_ANY, STREAM_NEEDED };

/* Section 6, by type. */
static const struct {
        uint32_t length_min, length_max;
        uint8_t stream, flags;                     /* enum stream_rule; flags that are defined */
} frame_rules[HTTP2_TYPES] = {
        [HTTP2_DATA] = { 0, LENGTH_MAX, STREAM_NEEDED, HTTP2_END_STREAM | HTTP2_PADDED },
        [HTTP2_HEADERS] = { 0, LENGTH_MAX, STREAM_NEEDED, HTTP2_END_STREAM | HTTP2_END_HEADERS | HTTP2_PADDED | HTTP2_PRIORITIZED },
        [HTTP2_PRIORITY] = { 5, 5, STREAM_NEEDED, 0 },
        [HTTP2_RST_STREAM] = { 4, 4, STREAM_NEEDED, 0 },
        [HTTP2_SETTINGS] = { 0, LENGTH_MAX, STREAM_NONE, HTTP2_ACK },
        [HTTP2_PUSH_PROMISE] = { 4, LENGTH_MAX, STREAM_NEEDED, HTTP2_END_HEADERS | HTTP2_PADDED },
        [HTTP2_PING] = { 8, 8, STREAM_NONE, HTTP2_ACK },
        [HTTP2_GOAWAY] = { 8, LENGTH_MAX, STREAM_NONE, 0 },
        [HTTP2_WINDOW_UPDATE] = { 4, 4, STREAM_ANY, 0 },
        [HTTP2_CONTINUATION] = { 0, LENGTH_MAX, STREAM_NEEDED, HTTP2_END_HEADERS },
};

void http2_frame_parse(const uint8_t head[static HTTP2_HEAD], struct http2_frame *ret) {
        *ret = (struct http2_frame){ .length = (uint32_t)head[0] << 16 | tel_be16_get(head + 1), .type = head[3], .flags = head[4],
                                     .stream = tel_be32_get(head + 5) & INT32_MAX };
}

bool http2_frame_padded(const struct http2_frame *f) {
        return f->flags & HTTP2_PADDED && (f->type == HTTP2_DATA || f->type == HTTP2_HEADERS || f->type == HTTP2_PUSH_PROMISE);
}

uint32_t http2_frame_prefix(const struct http2_frame *f) {
        uint32_t padded = http2_frame_padded(f) ? 1 : 0;
        switch (f->type) {
        case HTTP2_DATA:
                return padded;
        case HTTP2_HEADERS:
                return padded + (f->flags & HTTP2_PRIORITIZED ? 5 : 0);
        case HTTP2_PUSH_PROMISE:
                return padded + 4;
        case HTTP2_RST_STREAM:
                return 4;
        case HTTP2_GOAWAY:
                return 8;
        default:
                return 0;
        }
}

bool http2_frame_valid(const struct http2_frame *f) {
        if (f->type >= HTTP2_TYPES)
                return true;
        if (f->length < frame_rules[f->type].length_min || f->length > frame_rules[f->type].length_max || f->length < http2_frame_prefix(f))
                return false;
        if (f->type == HTTP2_SETTINGS && (f->length % 6 != 0 || (f->flags & HTTP2_ACK && f->length != 0)))
                return false;
        return frame_rules[f->type].stream == STREAM_ANY || (f->stream != 0) == (frame_rules[f->type].stream == STREAM_NEEDED);
}

bool http2_frame_plausible(const uint8_t head[static HTTP2_HEAD], const struct http2_frame *f) {
        if (f->type >= HTTP2_TYPES || f->length > FRAME_SIZE_DEFAULT || head[5] & 0x80 || f->flags & ~frame_rules[f->type].flags)
                return false;
        if (f->type == HTTP2_HEADERS && f->length == http2_frame_prefix(f))
                return false;                      /* no block is empty */
        return http2_frame_valid(f);
}

/* By the first octets of a header block (RFC 7541, section 6): pseudo-headers come first (section 8.3), and their names are in the static
 * table, though gRPC's C core writes them out. What refers to the dynamic table may be any; a sender may resize it before. */
static enum protocol_match match_block(const uint8_t *block, size_t n) {
        uint8_t octet = block[0], index = octet & 0x80 ? octet & 0x7f : octet & 0x40 ? octet & 0x3f : octet & 0x0f;
        if (octet >> 5 == 1)                       /* size update */
                return MATCH_REQUEST;
        if (index >= 1 && index <= 7)              /* :authority, :method, :path, :scheme */
                return MATCH_REQUEST;
        if (index >= 8 && index <= 14)             /* :status */
                return MATCH_ANSWER;
        if (octet & 0xc0 && index > 61)
                return MATCH_REQUEST;
        if (index > 0 || octet & 0x80)
                return MATCH_NO;
        if (n < 3)
                return MATCH_MORE;
        /* A name that begins with a colon, which is 1011100 in Huffman code. */
        return (block[1] & 0x80 ? block[2] >> 1 == 0x5c : block[2] == ':') ? MATCH_REQUEST : MATCH_NO;
}

/* The frame at `used` decides. MATCH_MORE: it is one that says nothing, or its bytes that do are not there. */
static enum protocol_match match_frame(const struct http2_frame *f, const uint8_t *data, size_t used, size_t n) {
        size_t payload = used + HTTP2_HEAD, block = payload + http2_frame_prefix(f);
        switch (f->type) {
        case HTTP2_SETTINGS:                       /* a client's stand behind its preface */
                return f->flags & HTTP2_ACK ? MATCH_MORE : used == 0 ? MATCH_ANSWER : MATCH_REQUEST;
        case HTTP2_HEADERS:
                if (f->stream % 2 == 0)
                        return MATCH_NO;
                return block < n ? match_block(data + block, n - block) : MATCH_MORE;
        case HTTP2_DATA:
                /* A gRPC message that fills the frame: a compressed flag and its length (gRPC over HTTP/2, "Length-Prefixed-Message"). */
                if (f->stream % 2 == 0 || f->flags & HTTP2_PADDED || f->length < 5)
                        return MATCH_NO;
                if (payload + 5 > n)
                        return MATCH_MORE;
                return data[payload] <= 1 && tel_be32_get(data + payload + 1) == f->length - 5 ? MATCH_REQUEST : MATCH_NO;
        case HTTP2_PING:
        case HTTP2_WINDOW_UPDATE:
        case HTTP2_RST_STREAM:
                return MATCH_MORE;
        default:
                return MATCH_NO;
        }
}

/* Whether fewer bytes than a head may become a plausible one. */
static bool may_begin(const uint8_t *data, size_t n) {
        uint8_t head[HTTP2_HEAD] = { 0 };
        struct http2_frame f;
        memcpy(head, data, n);
        if (n < 4)
                return n == 0 || data[0] == 0;
        http2_frame_parse(head, &f);
        f.stream = f.type < HTTP2_TYPES && frame_rules[f.type].stream == STREAM_NEEDED;
        return http2_frame_plausible(head, &f);
}

enum protocol_match http2_match(const uint8_t *data, size_t n) {
        n = TEL_MIN(n, (size_t)PROTOCOL_MATCH_MAX);
        if (n == 0)
                return MATCH_MORE;
        if (memcmp(data, HTTP2_PREFACE, TEL_MIN(n, HTTP2_PREFACE_LEN)) == 0)
                return n < HTTP2_PREFACE_LEN ? MATCH_MORE : MATCH_REQUEST;
        for (size_t used = 0;;) {
                struct http2_frame f;
                if (n - used < HTTP2_HEAD)
                        return !may_begin(data + used, n - used) ? MATCH_NO : n < PROTOCOL_MATCH_MAX ? MATCH_MORE : MATCH_REQUEST;
                http2_frame_parse(data + used, &f);
                if (!http2_frame_plausible(data + used, &f))
                        return MATCH_NO;
                enum protocol_match match = match_frame(&f, data, used, n);
                if (match != MATCH_MORE || used + HTTP2_HEAD + f.length >= n)
                        return match == MATCH_MORE && n == PROTOCOL_MATCH_MAX ? MATCH_REQUEST : match;
                used += HTTP2_HEAD + f.length;
        }
}

const char *http2_error_name(uint32_t code) {
        static const char *const names[] = {
                "_OTHER", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR",
                "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
        };
        return code < TEL_ARRAY_LEN(names) ? names[code] : "_OTHER";
}
