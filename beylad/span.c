/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/span.h"

#include "beylad/connection.h"

/* Numbers of trace.proto. */
enum { REQUEST_RESOURCE_SPANS = 1, RESOURCE_SCOPE_SPANS = 2, SCOPE_SPANS = 2 };
enum { SPAN_TRACE_ID = 1, SPAN_ID, SPAN_PARENT_ID = 4, SPAN_NAME, SPAN_KIND, SPAN_START, SPAN_END, SPAN_ATTRIBUTES, SPAN_LINKS = 13,
       SPAN_STATUS = 15, SPAN_FLAGS };
enum { LINK_TRACE_ID = 1, LINK_SPAN_ID, LINK_ATTRIBUTES = 4 };
enum { STATUS_CODE = 3, STATUS_ERROR = 2 };
enum { KIND_SERVER = 2, KIND_CLIENT = 3 };

/* Heads of ResourceSpans and ScopeSpans, and the scope, around the spans of one process. */
#define SEGMENT_HEADS 64

/* A span as it lies in parts; the chain goes from the last one of a process to its first, as the writer needs them. */
struct part {
        uint32_t at, len;
        int32_t before;                            /* of the same process; -1: none */
};

/* The spans of one process. */
struct segment {
        struct process *process;                   /* referenced, so that no other one takes its address meanwhile; NULL: none */
        struct part resource;                      /* encoded as the first span came */
        int32_t last;
};

struct spans {
        struct spans_options options;
        struct tel_writer parts_writer;
        size_t n_parts, n_segments;
        size_t bytes;                              /* the request would have */
        size_t current;                            /* segment of the last span */
        struct segment segments[SPANS_PROCESSES_MAX];
        struct part parts[SPANS_MAX];
        uint8_t buffer[SPANS_BYTES_MAX];           /* spans and resources in the order they came */
        uint8_t request[SPANS_BYTES_MAX];          /* and in their places */
};

/* ---- One span ---- */

static void put_links(const struct span *s, struct tel_writer *w) {
        for (size_t i = s->n_links; i-- > 0;) {
                size_t begin = tel_writer_begin(w);
                if (s->links[i].other_trace)
                        tel_writer_attribute_text(w, LINK_ATTRIBUTES, "beylad.parent", 13, "other_trace", 11);
                else
                        tel_writer_attribute_text(w, LINK_ATTRIBUTES, "beylad.parent", 13, "ambiguous", 9);
                tel_writer_bytes(w, LINK_SPAN_ID, s->links[i].span_id, sizeof(s->links[i].span_id));
                tel_writer_bytes(w, LINK_TRACE_ID, s->links[i].trace_id, sizeof(s->links[i].trace_id));
                tel_writer_end(w, SPAN_LINKS, begin);
        }
}

void span_put(const struct span *s, int64_t real_offset_ns, struct tel_writer *w) {
        static const uint8_t none[sizeof(s->parent_span_id)];
        const struct exchange *x = s->exchange;
        struct attributes a;
        attributes_of(x, ATTRIBUTES_SPAN, &a);
        size_t begin = tel_writer_begin(w);
        tel_writer_fixed32(w, SPAN_FLAGS, s->sampled);
        if (a.failed) {
                size_t status = tel_writer_begin(w);
                tel_writer_varint(w, STATUS_CODE, STATUS_ERROR);
                tel_writer_end(w, SPAN_STATUS, status);
        }
        put_links(s, w);
        attributes_put(&a, w, SPAN_ATTRIBUTES);
        tel_writer_fixed64(w, SPAN_END, x->end_ns + (uint64_t)real_offset_ns);
        tel_writer_fixed64(w, SPAN_START, x->start_ns + (uint64_t)real_offset_ns);
        tel_writer_varint(w, SPAN_KIND, x->role == EXCHANGE_SERVER ? KIND_SERVER : KIND_CLIENT);
        tel_writer_bytes(w, SPAN_NAME, a.name, a.name_len);
        if (memcmp(s->parent_span_id, none, sizeof(none)) != 0)
                tel_writer_bytes(w, SPAN_PARENT_ID, s->parent_span_id, sizeof(s->parent_span_id));
        tel_writer_bytes(w, SPAN_ID, s->span_id, sizeof(s->span_id));
        tel_writer_bytes(w, SPAN_TRACE_ID, s->trace_id, sizeof(s->trace_id));
        tel_writer_end(w, SCOPE_SPANS, begin);
}

/* ---- The request ---- */

static void spans_reset(struct spans *b) {
        for (size_t i = 0; i < b->n_segments; i++)
                process_unref(b->segments[i].process);
        tel_writer_init(&b->parts_writer, b->buffer, sizeof(b->buffer));
        b->n_parts = b->n_segments = b->bytes = b->current = 0;
}

struct spans *spans_new(const struct spans_options *options) {
        struct spans *b = malloc(sizeof(*b));      /* not zeroed: of the two buffers only what is used ever costs memory */
        if (!b)
                return NULL;
        b->options = *options;
        b->n_segments = 0;
        spans_reset(b);
        return b;
}

struct spans *spans_free(struct spans *b) {
        if (!b)
                return NULL;
        spans_reset(b);
        free(b);
        return NULL;
}

static void put_part(const struct spans *b, const struct part *p, struct tel_writer *w) {
        tel_writer_raw(w, b->buffer + p->at, p->len);
}

static void put_segment(const struct spans *b, const struct segment *s, struct tel_writer *w) {
        size_t resource_spans = tel_writer_begin(w), scope_spans = tel_writer_begin(w);
        for (int32_t i = s->last; i >= 0; i = b->parts[i].before)
                put_part(b, &b->parts[i], w);
        attributes_put_scope(w);
        tel_writer_end(w, RESOURCE_SCOPE_SPANS, scope_spans);
        put_part(b, &s->resource, w);
        tel_writer_end(w, REQUEST_RESOURCE_SPANS, resource_spans);
}

void spans_finish(struct spans *b) {
        struct tel_writer w;
        if (b->n_parts == 0)
                return;
        tel_writer_init(&w, b->request, sizeof(b->request));
        for (size_t i = b->n_segments; i-- > 0;)
                put_segment(b, &b->segments[i], &w);
        assert(!w.full);                           /* spans_add() counted every byte */
        size_t n = b->n_parts;
        spans_reset(b);
        b->options.fn(b->options.ctx, w.at, tel_writer_len(&w), n);
}

size_t spans_waiting(const struct spans *b) {
        return b->n_parts;
}

/* The segment of a process, b->n_segments when it has none. */
static size_t segment_of(const struct spans *b, const struct process *p) {
        if (b->n_segments > 0 && b->segments[b->current].process == p)
                return b->current;
        for (size_t i = 0; i < b->n_segments; i++)
                if (b->segments[i].process == p)
                        return i;
        return b->n_segments;
}

static struct part part_of(const struct spans *b, size_t before) {
        return (struct part){ (uint32_t)(b->parts_writer.at - b->buffer), (uint32_t)(tel_writer_len(&b->parts_writer) - before), -1 };
}

/* Returns false, and adds nothing, when the request would be too large. */
static bool spans_try(struct spans *b, const struct span *s, int64_t real_offset_ns) {
        struct process *p = s->exchange->connection->process;
        struct tel_writer *w = &b->parts_writer, kept = *w;
        size_t at = segment_of(b, p), before = tel_writer_len(w), bytes = b->bytes;
        struct segment *segment = &b->segments[at];
        if (b->n_parts == SPANS_MAX || at == SPANS_PROCESSES_MAX)
                return false;
        if (at == b->n_segments) {
                attributes_put_resource(p, w);
                *segment = (struct segment){ .resource = part_of(b, before), .last = -1 };
                bytes += SEGMENT_HEADS;
        }
        size_t span_before = tel_writer_len(w);
        span_put(s, real_offset_ns, w);
        bytes += tel_writer_len(w) - before;
        if (w->full || bytes > SPANS_BYTES_MAX) {
                *w = kept;
                return false;
        }
        if (at == b->n_segments) {
                segment->process = p ? process_ref(p) : NULL;
                b->n_segments++;
        }
        b->bytes = bytes;
        b->current = at;
        b->parts[b->n_parts] = part_of(b, span_before);
        b->parts[b->n_parts].before = segment->last;
        segment->last = (int32_t)b->n_parts++;
        return true;
}

void spans_add(struct spans *b, const struct span *s, int64_t real_offset_ns) {
        if (spans_try(b, s, real_offset_ns))
                return;
        spans_finish(b);
        bool added = spans_try(b, s, real_offset_ns);
        assert(added);                             /* one span has at most EXCHANGE_FIELD_MAX bytes of each text */
}
