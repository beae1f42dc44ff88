/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Frame: one record on the frame socket. docs/protocol.md shows the bytes.
 * May touch: the bytes it is given.
 *
 * Head, 24 bytes, network byte order: "TLMF" . u8 version 1 . u8 kind . u16 flags 0 . u32 body length . u32 CRC-32C of the body .
 * u64 sequence. Then the body.
 * CRC-32C: RFC 3720 appendix B.4 (Castagnoli, reflected, initial and final all ones). */
#include "libtelemetry/buf.h"

#define TEL_FRAME_HEAD 24
#define TEL_FRAME_VERSION 1
#define TEL_FRAME_BODY_MAX (16u << 20)             /* no export request of an SDK comes near; a receiver holds at most one such body a peer */
#define TEL_FRAME_MORE 1                           /* tel_frame_parse(): well so far, not whole yet */
#define TEL_FRAME_EPOCH 16                         /* bytes of a producer's random epoch */

enum tel_frame_kind {
        TEL_FRAME_HELLO = 1,                       /* proto/frame.proto Hello: the first frame of a producer */
        TEL_FRAME_TRACES = 2,                      /* ExportTraceServiceRequest */
        TEL_FRAME_METRICS = 3,                     /* ExportMetricsServiceRequest */
        TEL_FRAME_LOGS = 4,                        /* ExportLogsServiceRequest */
        TEL_FRAME_PROFILE = 5,                     /* proto/frame.proto Profile */
        TEL_FRAME_STATUS = 6,                      /* proto/frame.proto Status */
        TEL_FRAME_ACK = 7,                         /* no body; sequence: everything up to here is in the spool, or was there before */
        TEL_FRAME_ERROR = 8,                       /* proto/frame.proto Error; the connection closes behind it */
        TEL_FRAME_BYE = 9,                         /* no body: an orderly end */
};

/* Numbers of the ERROR frame. They are part of the protocol: never renumbered. */
enum tel_frame_error {
        TEL_FRAME_ERROR_MAGIC = 1,                 /* not "TLMF" */
        TEL_FRAME_ERROR_VERSION = 2,
        TEL_FRAME_ERROR_KIND = 3,                  /* unknown, or not one a producer may send */
        TEL_FRAME_ERROR_FLAGS = 4,                 /* not zero */
        TEL_FRAME_ERROR_LENGTH = 5,                /* over TEL_FRAME_BODY_MAX */
        TEL_FRAME_ERROR_CHECKSUM = 6,
        TEL_FRAME_ERROR_SEQUENCE = 7,              /* not above the last one of this connection */
        TEL_FRAME_ERROR_HELLO = 8,                 /* no HELLO first, a second one, or a malformed one */
        TEL_FRAME_ERROR_BODY = 9,                  /* the body of this kind is malformed */
        TEL_FRAME_ERROR_PEER = 10,                 /* this user may not write here */
        TEL_FRAME_ERROR_LIMIT = 11,                /* too many connections or producers */
        TEL_FRAME_ERROR_SHORT = 12,                /* the connection ended inside a frame (counted only), or the frame took too long to come */
        TEL_FRAME_ERRORS,
};

struct tel_frame {
        uint8_t kind;
        uint32_t len;
        uint64_t sequence;                         /* of TRACES to PROFILE: from 1, rising within an epoch; of ACK: see there; else 0 */
        const uint8_t *body;                       /* borrowed: points into the bytes that were parsed */
};

uint32_t tel_crc32c(uint32_t crc, const void *bytes, size_t n);        /* start with 0 */
/* The same without the CPU's own instruction: what runs where there is none, and what tests compare with. */
uint32_t tel_crc32c_portable(uint32_t crc, const void *bytes, size_t n);

/* Writes the head for a body. */
void tel_frame_head(uint8_t out[static TEL_FRAME_HEAD], uint8_t kind, uint64_t sequence, const void *body, uint32_t len);
/* The first frame in in[0..n). Returns 0, TEL_FRAME_MORE, or -EBADMSG: drop the peer, *reterr_error says why. Refuses at the first byte
 * that cannot be right, before waiting for a body; HELLO, STATUS and ERROR hold at most TEL_FRAME_SMALL_MAX bytes, ACK and BYE none. With
 * TEL_FRAME_MORE and a whole head (n >= TEL_FRAME_HEAD) all but ret->body is set, so the caller knows what comes. */
int tel_frame_parse(const uint8_t *in, size_t n, struct tel_frame *ret, enum tel_frame_error *reterr_error);
/* "bad magic", "checksum mismatch", ...: what the ERROR frame says and the counters are labelled with. */
const char *tel_frame_error_name(enum tel_frame_error e);

/* Bodies of the small messages, by nanopb. Strings are bounded by proto/frame.options. */
struct tel_frame_hello {
        char name[64], version[32], host[256];
        uint32_t pid;
        uint8_t epoch[TEL_FRAME_EPOCH];
};
struct tel_frame_status {
        uint64_t dropped_frames, dropped_bytes;    /* given up by the producer since its start, unacknowledged and over its backlog */
        uint64_t waiting_frames, waiting_bytes;
        char text[512];                            /* the producer's own words: state, what it sees */
};
struct tel_frame_error_body {
        uint32_t code;                             /* enum tel_frame_error */
        uint64_t sequence;                         /* the frame it speaks of; 0: none */
        char text[256];
};
#define TEL_FRAME_SMALL_MAX 1024                   /* bytes of any of these bodies: Status has 558 at most, the rest is for later fields */
/* Encoders return the body's length in out; what is not UTF-8 in a text becomes '?'. Decoders return 0 or -EBADMSG: malformed, a text over
 * its bound or not UTF-8, a HELLO without name or epoch. */
size_t tel_frame_hello_put(uint8_t out[static TEL_FRAME_SMALL_MAX], const struct tel_frame_hello *h);
int tel_frame_hello_get(const uint8_t *body, size_t n, struct tel_frame_hello *ret);
size_t tel_frame_status_put(uint8_t out[static TEL_FRAME_SMALL_MAX], const struct tel_frame_status *s);
int tel_frame_status_get(const uint8_t *body, size_t n, struct tel_frame_status *ret);
size_t tel_frame_error_put(uint8_t out[static TEL_FRAME_SMALL_MAX], const struct tel_frame_error_body *e);
int tel_frame_error_get(const uint8_t *body, size_t n, struct tel_frame_error_body *ret);
/* Copies a text of at most text_max bytes into out[0..n), cut between characters, with '?' for what is not UTF-8 and a NUL behind. Returns
 * its length. For the texts above: what they hold comes from host names, arguments and error messages. */
size_t tel_frame_text(char *out, size_t n, const char *text, size_t text_max);
