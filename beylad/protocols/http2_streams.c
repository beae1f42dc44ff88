/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/protocols/http2_streams.h"

#define ROOM_FIRST 16u

static uint32_t place_of(const struct http2_streams *s, uint32_t id) {
        return (id * 2654435769u >> 16) & (s->room - 1);       /* Fibonacci hashing: ids are odd and count up */
}

struct http2_stream *http2_streams_find(const struct http2_streams *s, uint32_t id) {
        if (s->count == 0)
                return NULL;
        for (uint32_t i = place_of(s, id); s->places[i].id != 0; i = (i + 1) & (s->room - 1))
                if (s->places[i].id == id)
                        return &s->places[i];
        return NULL;
}

static struct http2_stream *put(struct http2_streams *s, const struct http2_stream *stream) {
        uint32_t i = place_of(s, stream->id);
        while (s->places[i].id != 0)
                i = (i + 1) & (s->room - 1);
        s->places[i] = *stream;
        return &s->places[i];
}

struct http2_stream *http2_streams_add(struct http2_streams *s, uint32_t id, struct exchange *x) {
        if (s->count == HTTP2_STREAMS_MAX)
                return NULL;
        if (2 * (s->count + 1) > s->room) {
                struct http2_streams larger = { .room = s->room ? 2 * s->room : ROOM_FIRST, .count = s->count };
                larger.places = calloc(larger.room, sizeof(larger.places[0]));
                if (!larger.places)
                        return NULL;
                for (uint32_t i = 0; i < s->room; i++)
                        if (s->places[i].id != 0)
                                put(&larger, &s->places[i]);
                free(s->places);
                *s = larger;
        }
        s->count++;
        return put(s, &(struct http2_stream){ .id = id, .exchange = x });
}

void http2_streams_remove(struct http2_streams *s, struct http2_stream *stream) {
        uint32_t mask = s->room - 1, hole = (uint32_t)(stream - s->places);
        /* Those behind that would not be found any more move up. */
        for (uint32_t i = (hole + 1) & mask; s->places[i].id != 0; i = (i + 1) & mask) {
                uint32_t home = place_of(s, s->places[i].id);
                if (((i - home) & mask) < ((i - hole) & mask))
                        continue;
                s->places[hole] = s->places[i];
                hole = i;
        }
        s->places[hole] = (struct http2_stream){ 0 };
        s->count--;
}

struct http2_stream *http2_streams_next(const struct http2_streams *s, uint32_t *i) {
        for (; s->count > 0 && *i < s->room; ++*i)
                if (s->places[*i].id != 0)
                        return &s->places[*i];
        return NULL;
}

void http2_streams_done(struct http2_streams *s) {
        free(s->places);
        *s = (struct http2_streams){ 0 };
}
