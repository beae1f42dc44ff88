/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/red.h"

#include "beylad/connection.h"

/* Numbers of metrics.proto. */
enum { REQUEST_RESOURCE_METRICS = 1, RESOURCE_SCOPE_METRICS = 2, SCOPE_METRICS = 2 };
enum { METRIC_NAME = 1, METRIC_DESCRIPTION, METRIC_UNIT, METRIC_HISTOGRAM = 9 };
enum { HISTOGRAM_POINTS = 1, HISTOGRAM_TEMPORALITY };
enum { POINT_START = 2, POINT_TIME, POINT_COUNT, POINT_SUM, POINT_COUNTS, POINT_BOUNDS, POINT_ATTRIBUTES = 9 };
enum { TEMPORALITY_CUMULATIVE = 2 };

#define KEY_MAX 1024u                              /* bytes of a series' key; what is longer is counted as overflow */
#define WIRE_MAX 2048u                             /* bytes of its attributes on the wire: the key's texts, and at most 12 names */
#define POINT_MAX (WIRE_MAX + 512)
#define CLOSING_MAX (ATTRIBUTES_RESOURCE_MAX + 512)    /* what still comes in front of the points */
#define INSTRUMENTS 3                              /* of one kind and role, at most */
#define BOUNDS_MAX 15

/* ---- Instruments ---- */

struct bounds {
        double at[BOUNDS_MAX];                     /* as they are written */
        uint64_t whole[BOUNDS_MAX];                /* in the unit that is measured in: nanoseconds, bytes */
        size_t n;
        double unit;                               /* of what is measured in one of what is written */
};
#define MS TEL_NS_PER_MS
static const struct bounds duration_bounds = {
        { 0, .005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10 },
        { 0, 5 * MS, 10 * MS, 25 * MS, 50 * MS, 75 * MS, 100 * MS, 250 * MS, 500 * MS, 750 * MS, 1000 * MS, 2500 * MS, 5000 * MS, 7500 * MS,
          10000 * MS }, 15, 1e9,
};
static const struct bounds size_bounds = {
        { 0, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192 }, { 0, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192 }, 10, 1,
};

struct instrument {
        const char *name, *unit, *description;
        const struct bounds *bounds;
};
/* By family_of(). The first one is the duration, then the sizes of request and response. */
static const struct instrument instruments[][INSTRUMENTS] = {
        [2 * EXCHANGE_HTTP + EXCHANGE_SERVER] = {
                { "http.server.request.duration", "s", "Duration of HTTP server requests.", &duration_bounds },
                { "http.server.request.body.size", "By", "Size of HTTP server request bodies.", &size_bounds },
                { "http.server.response.body.size", "By", "Size of HTTP server response bodies.", &size_bounds },
        },
        [2 * EXCHANGE_HTTP + EXCHANGE_CLIENT] = {
                { "http.client.request.duration", "s", "Duration of HTTP client requests.", &duration_bounds },
                { "http.client.request.body.size", "By", "Size of HTTP client request bodies.", &size_bounds },
                { "http.client.response.body.size", "By", "Size of HTTP client response bodies.", &size_bounds },
        },
        [2 * EXCHANGE_RPC + EXCHANGE_SERVER] = {
                { "rpc.server.duration", "s", "Duration of inbound remote procedure calls.", &duration_bounds },
        },
        [2 * EXCHANGE_RPC + EXCHANGE_CLIENT] = {
                { "rpc.client.duration", "s", "Duration of outbound remote procedure calls.", &duration_bounds },
        },
        [2 * EXCHANGE_DB + EXCHANGE_SERVER] = {
                { "db.server.operation.duration", "s", "Duration of database server operations.", &duration_bounds },
        },
        [2 * EXCHANGE_DB + EXCHANGE_CLIENT] = {
                { "db.client.operation.duration", "s", "Duration of database client operations.", &duration_bounds },
        },
};

static unsigned family_of(const struct exchange *x) {
        return 2u * x->kind + x->role;
}

/* ---- Series ---- */

struct histogram {
        uint64_t counts[BOUNDS_MAX + 1];
        uint64_t sum;
};

struct series {
        struct process *process;                   /* referenced; NULL: none */
        uint64_t hash;
        uint64_t start_ns;                         /* realtime */
        uint64_t last_ns;                          /* boot time of the last exchange */
        bool unsent;                               /* counted since the last request */
        uint8_t family;
        struct histogram histograms[INSTRUMENTS];
        uint32_t key_len, wire_len;
        uint8_t bytes[];                           /* the key, then the attributes as fields of a data point */
};

struct red {
        size_t series_max, n, mask;
        uint64_t idle_ns;
        struct red_stats stats;
        struct series **slots;                     /* by hash, open addressing, at most half full; mask + 1 of them */
        struct series **all;                       /* n of them */
        uint8_t buffer[RED_BYTES_MAX];
};

struct red *red_new(const struct red_options *options) {
        struct red *r = malloc(sizeof(*r));        /* not zeroed: of the buffer only what is used ever costs memory */
        if (!r)
                return NULL;
        memset(r, 0, offsetof(struct red, buffer));
        r->series_max = options->series_max ? options->series_max : RED_SERIES_MAX;
        r->idle_ns = options->idle_ns ? options->idle_ns : RED_IDLE_NS;
        size_t most = r->series_max + RED_OVERFLOW_MAX, slots = 1;
        while (slots < 2 * most)
                slots *= 2;
        r->mask = slots - 1;
        r->slots = calloc(slots, sizeof(*r->slots));
        r->all = calloc(most, sizeof(*r->all));
        return r->slots && r->all ? r : red_free(r);
}

static void series_free(struct series *s) {
        process_unref(s->process);
        free(s);
}

struct red *red_free(struct red *r) {
        if (!r)
                return NULL;
        for (size_t i = 0; i < r->n; i++)
                series_free(r->all[i]);
        free(r->slots);
        free(r->all);
        free(r);
        return NULL;
}

/* What tells series apart, and its length; 0: it is too long. The addresses of the attributes' names stand for them: they are constants. */
static size_t key_put(uint8_t out[static KEY_MAX], const struct exchange *x, const struct attributes *a, bool overflow) {
        struct { const struct process *process; uint64_t family; } head = { x->connection->process, family_of(x) | (overflow ? 256u : 0u) };
        size_t n = sizeof(head);
        memcpy(out, &head, sizeof(head));
        for (size_t i = 0; i < (overflow ? 0 : a->n); i++) {
                const struct attribute *at = &a->at[i];
                struct { const char *key; uint64_t value; } part = { at->key, at->type == ATTRIBUTE_TEXT ? at->text_len : (uint64_t)at->number };
                size_t text = at->type == ATTRIBUTE_TEXT ? at->text_len : 0;
                if (KEY_MAX - n < sizeof(part) + text)
                        return 0;
                memcpy(out + n, &part, sizeof(part));
                if (text > 0)
                        memcpy(out + n + sizeof(part), at->text, text);
                n += sizeof(part) + text;
        }
        return n;
}

/* Eight bytes at a time; seeded with an address, which no peer knows, so that none can choose texts that fall into one slot. */
static uint64_t hash_of(const struct red *r, const uint8_t *key, size_t n) {
        uint64_t h = (uint64_t)(uintptr_t)r ^ n, part;
        for (; n >= 8; key += 8, n -= 8) {
                memcpy(&part, key, 8);
                h = (h ^ part) * 0x9e3779b97f4a7c15ull;
                h ^= h >> 32;
        }
        part = 0;
        memcpy(&part, key, n);
        h = (h ^ part) * 0x9e3779b97f4a7c15ull;
        return h ^ h >> 29;
}

static struct series *find(const struct red *r, uint64_t hash, const uint8_t *key, size_t n) {
        for (size_t i = hash & r->mask; r->slots[i]; i = (i + 1) & r->mask) {
                struct series *s = r->slots[i];
                if (s->hash == hash && s->key_len == n && memcmp(s->bytes, key, n) == 0)
                        return s;
        }
        return NULL;
}

static void slot_put(struct red *r, struct series *s) {
        size_t i = s->hash & r->mask;
        while (r->slots[i])
                i = (i + 1) & r->mask;
        r->slots[i] = s;
}

/* a NULL: the overflow series of its process and family. */
static struct series *series_new(struct red *r, const struct exchange *x, const struct attributes *a, uint64_t hash, const uint8_t *key,
                                 size_t key_len) {
        uint8_t wire[WIRE_MAX];
        struct tel_writer w;
        tel_writer_init(&w, wire, sizeof(wire));
        if (a)
                attributes_put(a, &w, POINT_ATTRIBUTES);
        else
                tel_writer_attribute_bool(&w, POINT_ATTRIBUTES, "otel.metric.overflow", 20, true);
        assert(!w.full);
        struct series *s = calloc(1, sizeof(*s) + key_len + tel_writer_len(&w));
        if (!s)
                return NULL;
        s->process = x->connection->process ? process_ref(x->connection->process) : NULL;
        s->hash = hash;
        s->family = (uint8_t)family_of(x);
        s->key_len = (uint32_t)key_len;
        s->wire_len = (uint32_t)tel_writer_len(&w);
        memcpy(s->bytes, key, key_len);
        memcpy(s->bytes + key_len, w.at, s->wire_len);
        r->all[r->n++] = s;
        slot_put(r, s);
        return s;
}

/* The series of these attributes, or of what came too late. NULL: there is none. */
static struct series *series_of(struct red *r, const struct exchange *x, const struct attributes *a) {
        uint8_t key[KEY_MAX];
        size_t n = key_put(key, x, a, false);
        uint64_t hash = n ? hash_of(r, key, n) : 0;
        struct series *s = n ? find(r, hash, key, n) : NULL;
        if (s)
                return s;
        if (n && r->n < r->series_max)
                return series_new(r, x, a, hash, key, n);
        n = key_put(key, x, a, true);
        hash = hash_of(r, key, n);
        s = find(r, hash, key, n);
        if (!s && r->n < r->series_max + RED_OVERFLOW_MAX)
                s = series_new(r, x, NULL, hash, key, n);
        r->stats.overflowed += s != NULL;
        return s;
}

static void histogram_add(struct histogram *h, const struct bounds *b, uint64_t value) {
        size_t i = 0;
        while (i < b->n && value > b->whole[i])    /* upper bounds are inclusive */
                i++;
        h->counts[i]++;
        h->sum += value;
}

void red_observe(struct red *r, const struct exchange *x, int64_t real_offset_ns) {
        struct attributes a;
        attributes_of(x, ATTRIBUTES_METRIC, &a);
        struct series *s = series_of(r, x, &a);
        if (!s) {
                r->stats.lost++;
                return;
        }
        if (s->start_ns == 0)
                s->start_ns = x->start_ns + (uint64_t)real_offset_ns;
        s->last_ns = TEL_MAX(s->last_ns, x->end_ns);
        s->unsent = true;
        histogram_add(&s->histograms[0], &duration_bounds, x->end_ns - x->start_ns);
        if (x->kind != EXCHANGE_HTTP)
                return;
        if (x->request_bytes >= 0)
                histogram_add(&s->histograms[1], &size_bounds, (uint64_t)x->request_bytes);
        if (x->response_bytes >= 0)
                histogram_add(&s->histograms[2], &size_bounds, (uint64_t)x->response_bytes);
}

/* ---- The requests ---- */

/* What is written now, from the back: points, in front of them their metric, in front of those their resource. */
struct encoder {
        struct red *red;
        red_fn fn;
        void *ctx;
        uint64_t now_ns;                           /* realtime */
        struct tel_writer w;
        size_t points;                             /* in the request */
        const struct series *resource;             /* whose process the open ResourceMetrics is for; NULL: none is open */
        const struct instrument *instrument;       /* of the open Metric; NULL: none is open */
        size_t resource_begin, scope_begin, metric_begin, histogram_begin;
};

static void metric_close(struct encoder *e) {
        if (!e->instrument)
                return;
        tel_writer_end(&e->w, METRIC_HISTOGRAM, e->histogram_begin);
        tel_writer_text(&e->w, METRIC_UNIT, e->instrument->unit);
        tel_writer_text(&e->w, METRIC_DESCRIPTION, e->instrument->description);
        tel_writer_text(&e->w, METRIC_NAME, e->instrument->name);
        tel_writer_end(&e->w, SCOPE_METRICS, e->metric_begin);
        e->instrument = NULL;
}

static void resource_close(struct encoder *e) {
        metric_close(e);
        if (!e->resource)
                return;
        attributes_put_scope(&e->w);
        tel_writer_end(&e->w, RESOURCE_SCOPE_METRICS, e->scope_begin);
        attributes_put_resource(e->resource->process, &e->w);
        tel_writer_end(&e->w, REQUEST_RESOURCE_METRICS, e->resource_begin);
        e->resource = NULL;
}

static void request_flush(struct encoder *e) {
        resource_close(e);
        assert(!e->w.full);                        /* request_open_for() kept CLOSING_MAX free */
        if (e->points > 0)
                e->fn(e->ctx, e->w.at, tel_writer_len(&e->w), e->points);
        tel_writer_init(&e->w, e->red->buffer, sizeof(e->red->buffer));
        e->points = 0;
}

static void request_open_for(struct encoder *e, const struct series *s, const struct instrument *instrument) {
        if (tel_writer_room(&e->w) < POINT_MAX + CLOSING_MAX)
                request_flush(e);
        if (e->resource && e->resource->process != s->process) {
                resource_close(e);
                if (tel_writer_room(&e->w) < POINT_MAX + CLOSING_MAX)
                        request_flush(e);
        }
        if (e->instrument && e->instrument != instrument)
                metric_close(e);
        if (!e->resource) {
                e->resource = s;
                e->resource_begin = e->scope_begin = tel_writer_begin(&e->w);
        }
        if (!e->instrument) {
                e->instrument = instrument;
                e->metric_begin = e->histogram_begin = tel_writer_begin(&e->w);
                tel_writer_varint(&e->w, HISTOGRAM_TEMPORALITY, TEMPORALITY_CUMULATIVE);
        }
}

static void put_point(struct encoder *e, const struct series *s, const struct instrument *instrument, const struct histogram *h) {
        const struct bounds *b = instrument->bounds;
        uint64_t count = 0;
        for (size_t i = 0; i <= b->n; i++)
                count += h->counts[i];
        if (count == 0)
                return;                            /* sizes that were never known */
        request_open_for(e, s, instrument);
        size_t point = tel_writer_begin(&e->w);
        tel_writer_raw(&e->w, s->bytes + s->key_len, s->wire_len);
        tel_writer_bytes(&e->w, POINT_BOUNDS, b->at, b->n * sizeof(b->at[0]));         /* packed; doubles and counts lie little-endian */
        tel_writer_bytes(&e->w, POINT_COUNTS, h->counts, (b->n + 1) * sizeof(h->counts[0]));
        tel_writer_double(&e->w, POINT_SUM, (double)h->sum / b->unit);
        tel_writer_fixed64(&e->w, POINT_COUNT, count);
        tel_writer_fixed64(&e->w, POINT_TIME, TEL_MAX(e->now_ns, s->start_ns));
        tel_writer_fixed64(&e->w, POINT_START, s->start_ns);
        tel_writer_end(&e->w, HISTOGRAM_POINTS, point);
        e->points++;
}

static int series_compare(const void *a, const void *b) {
        const struct series *x = *(struct series *const *)a, *y = *(struct series *const *)b;
        if (x->process != y->process)
                return x->process < y->process ? -1 : 1;
        return (int)x->family - (int)y->family;
}

/* Takes out what is idle. A series goes only once its last count was sent. */
static void red_sweep(struct red *r, uint64_t now_ns) {
        size_t kept = 0;
        for (size_t i = 0; i < r->n; i++) {
                struct series *s = r->all[i];
                if (!s->unsent && now_ns > s->last_ns && now_ns - s->last_ns > r->idle_ns) {
                        series_free(s);
                        r->stats.forgotten++;
                } else
                        r->all[kept++] = s;
        }
        if (kept == r->n)
                return;
        r->n = kept;
        memset(r->slots, 0, (r->mask + 1) * sizeof(*r->slots));
        for (size_t i = 0; i < kept; i++)
                slot_put(r, r->all[i]);
}

void red_encode(struct red *r, uint64_t now_ns, int64_t real_offset_ns, red_fn fn, void *ctx) {
        struct encoder e = { .red = r, .fn = fn, .ctx = ctx, .now_ns = now_ns + (uint64_t)real_offset_ns };
        red_sweep(r, now_ns);
        qsort(r->all, r->n, sizeof(*r->all), series_compare);
        tel_writer_init(&e.w, r->buffer, sizeof(r->buffer));
        for (size_t end = r->n, begin; end > 0; end = begin) {         /* a run: the series of one process and family */
                for (begin = end; begin > 0 && series_compare(&r->all[begin - 1], &r->all[end - 1]) == 0; begin--)
                        ;
                for (size_t k = 0; k < INSTRUMENTS && instruments[r->all[begin]->family][k].name; k++)
                        for (size_t i = end; i-- > begin;) {
                                put_point(&e, r->all[i], &instruments[r->all[i]->family][k], &r->all[i]->histograms[k]);
                                r->all[i]->unsent = false;
                        }
        }
        request_flush(&e);
}

void red_get_stats(const struct red *r, struct red_stats *ret) {
        *ret = r->stats;
        ret->series = r->n;
}
