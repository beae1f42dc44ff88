/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Inflate: bodies that came compressed, into a counted buffer, never past a bound.
 * May touch: memory only.
 * Source: RFC 1952 (gzip, several members allowed, nothing else behind them), RFC 1950 (zlib), RFC 8878 (zstd frames). */
#include "libtelemetry/buf.h"

enum content_coding { CODING_IDENTITY, CODING_GZIP, CODING_ZSTD, CODING_DEFLATE, CODING_UNKNOWN };

/* What the header says (NULL: identity), or gzip when the body begins with 1f 8b whatever it says. */
enum content_coding content_coding_of(const char *header, const uint8_t *body, size_t n);

/* gzip, zstd or deflate, which means zlib's format (RFC 9110, 8.4.1.2). Never allocates more than max bytes for the result.
 * Returns 0, -EBADMSG (malformed, cut short, or something behind the end), -EMSGSIZE (more than max bytes, or says so; a zstd window over
 * 8 MB), -ENOBUFS (over the budget), -ENOMEM, -EINVAL (another coding). */
int inflate_body(enum content_coding coding, const uint8_t *body, size_t n, size_t max, struct tel_budget *budget, struct tel_buf **ret);
