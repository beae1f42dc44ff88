/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Record: the unit of everything after the door. A head and an immutable body, side by side in a segment.
 * May touch: nothing; a layout. */
#include "libtelemetry/base.h"
#include "libtelemetry/otlp_schema.h"

#define RECORD_ITEMS_MAX 1000                      /* of one record; a request body is cut at the door (design, section 3) */
#define RECORD_BYTES_MAX (512u << 10)              /* likewise; a single larger item travels alone */

enum record_encoding {
        RECORD_OTLP = 1,                           /* an Export*ServiceRequest; records join by concatenation */
};

/* The layout is fixed-width, so that a file can hold it as it is. */
struct record {
        uint64_t sequence;                         /* in its spool: from 1, without gaps */
        uint64_t received_ns;                      /* realtime, at the door */
        uint64_t time_min_ns, time_max_ns;         /* realtime, of its items; 0 when they carry none */
        uint64_t source_position;                  /* where a pulled source can read it again; 0: pushed, it cannot */
        uint32_t body_bytes;
        uint32_t items;                            /* spans, log records, data points */
        uint32_t producer;                         /* which connection or instance of its source */
        uint8_t signal;                            /* enum tel_signal */
        uint8_t encoding;                          /* enum record_encoding */
        uint8_t source;                            /* enum source_kind: the words of `from` */
        uint8_t zero;
        uint8_t body[];
};

/* Bytes a record takes in a segment. */
static inline size_t record_size(size_t body_bytes) {
        return tel_align(sizeof(struct record) + body_bytes, 8);
}
