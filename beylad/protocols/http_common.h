/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* HTTP common: what HTTP/1 and HTTP/2 do alike with a request: which fields they look for, and what an exchange keeps of them.
 * May touch: the exchange it is given. Sources: RFC 9110 (fields), RFC 9112 section 3.2 (targets), W3C Trace Context section 3.2. */
#include "beylad/exchange.h"
#include "beylad/protocols/protocol.h"

/* Fields that mean something to us. */
enum http_name {
        HTTP_OTHER,
        HTTP_HOST,
        HTTP_USER_AGENT,
        HTTP_TRACEPARENT,
        HTTP_CONTENT_TYPE,
        HTTP_CONTENT_LENGTH,
        HTTP_TRANSFER_ENCODING,
        HTTP_UPGRADE,
        HTTP_EXPECT,
};

/* Which field a name is, whatever its case. */
enum http_name http_name_of(const void *name, size_t n);

/* One field of a request: host, user agent, traceparent, and what the allow list names go into x. Values come without white space around
 * them. *seen is the caller's, 0 before the first field of a request: the first Host counts, and two traceparents count as none.
 * Returns which field it is. */
enum http_name http_request_field(struct exchange *x, const struct protocol_options *options, uint32_t *seen, const void *name, size_t name_len,
                                  const void *value, size_t value_len);

/* The target of a request -> path, and query when settings ask for it. "/a?b", "*", or "http://host/a?b", which also says host and scheme;
 * then *seen has the Host: one in a field does not count (RFC 9112 section 3.2.2). Not for CONNECT, whose target is a host alone. */
void http_request_target(struct exchange *x, const struct protocol_options *options, uint32_t *seen, const void *target, size_t n);

/* The host of a request that names it elsewhere than in Host: CONNECT, :authority. A name and password before an @ are left out. */
void http_request_authority(struct exchange *x, uint32_t *seen, const void *authority, size_t n);

/* "http", or "https" where a TLS library showed us the plaintext; for requests that do not say it themselves. */
void http_request_scheme(struct exchange *x);

/* Whether a content type is that of gRPC: "application/grpc", with "+proto" or parameters behind it; not gRPC-Web. */
bool http_is_grpc(const void *value, size_t n);

/* Bytes of ASCII text, equal but for case; lower is in lower case. */
bool http_equal(const void *bytes, size_t n, const char *lower);
