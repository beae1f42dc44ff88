/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Body: the bytes of one request out, as pieces that lie where they are (in pinned records) or in one buffer of its own.
 * May touch: memory only. */
#include <sys/uio.h>

#include "libtelemetry/buf.h"

struct body {
        struct iovec *pieces;                      /* heap array; the bytes are borrowed from the batch, or from own */
        size_t n;
        size_t bytes;                              /* sum of the pieces */
        size_t raw_bytes;                          /* before compression */
        uint8_t *heads;                            /* heap; heads that merging wrote, pieces may lie in it */
        struct tel_buf *own;                       /* NULL: the pieces lie in the batch */
        const char *content_type;                  /* constants */
        const char *content_encoding;              /* NULL: none */
        uint64_t items;                            /* what is in it */
        uint64_t filtered;                         /* items of the batch that the destination's rules left out */
};

void body_done(struct body *b);
