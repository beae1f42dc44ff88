/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Http2 fields: what the header fields of requests and answers say to an exchange, and what makes it a gRPC call.
 * May touch: the exchange it is given. Sources: RFC 9113, section 8.3, and "gRPC over HTTP2" of grpc.io. */
#include "beylad/exchange.h"
#include "beylad/protocols/hpack.h"
#include "beylad/protocols/protocol.h"

enum http2_header {
        HTTP2_REGULAR,
        HTTP2_METHOD, HTTP2_SCHEME, HTTP2_AUTHORITY, HTTP2_PATH, HTTP2_PROTOCOL,       /* pseudo-headers of requests */
        HTTP2_STATUS,                              /* of answers */
        HTTP2_CONTENT_TYPE, HTTP2_GRPC_STATUS,
};

/* What was heard in one header block. */
struct http2_fields {
        bool unknown;                              /* a name or value that was not seen when it came into the table */
        bool typed, grpc;                          /* content-type is known, and it is gRPC's */
        uint16_t status;                           /* 0: none */
        int16_t grpc_status;                       /* -1: none */
        uint16_t pseudo;                           /* bits of enum http2_header: the first of each counts */
        uint32_t seen;                             /* http_common's */
};

/* The name is known. */
enum http2_header http2_header_of(const uint8_t *name, size_t n);
static inline bool http2_header_of_request(enum http2_header header) {
        return header >= HTTP2_METHOD && header <= HTTP2_PROTOCOL;
}

/* One field of a request into x; name and value are known. */
void http2_request_field(struct exchange *x, const struct protocol_options *options, struct http2_fields *fields, enum http2_header header,
                         const struct hpack_field *f);
/* One of an answer or its trailers. */
void http2_answer_field(struct http2_fields *fields, enum http2_header header, const struct hpack_field *f);
/* x is a gRPC call: its path, "/package.Service/Method", becomes service and method, and what is HTTP's is left out but for
 * where it went. hidden: a path that is not there may be an unknown field. */
void http2_make_rpc(struct exchange *x, bool hidden);
