/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/connection.h"

#include <sys/socket.h>

#define HELD_MAX PROTOCOL_MATCH_MAX                /* first bytes of a turn kept until the protocol is known */
#define SWEEP_MAX 1024                             /* connections looked at in one sweep: some 50 us */
#define SKIP_MIN 4096                              /* bytes worth telling the kernel side that they need not be captured */
#define TCP_CLOSE 7

/* Bytes of one direction, of what the socket carried or of TLS's plaintext. */
struct stream {
        uint64_t next;                             /* offset that should come next */
        uint32_t next_seq;                         /* TCP sequence number, likewise */
        uint32_t turn;                             /* probe_data.turn of its latest event */
        bool begun, ended;
        bool within_call;                          /* more events of its latest call are to come */
        uint64_t told;                             /* skip that the kernel side was told */
};

/* What the table keeps beside the public part. */
struct entry {
        struct connection c;                       /* first */
        struct connections *table;
        struct entry *next_hash;
        struct entry *older, *newer;               /* by last use */
        bool in_table, ignored;
        struct stream streams[DIRECTIONS];
        int last_direction;                        /* -1: none yet */
        uint8_t tries;
        const struct protocol *switch_to;
        struct {
                uint8_t bytes[HELD_MAX];
                size_t n;
                struct chunk at;                   /* of the first byte */
        } held;                                    /* of an undecided turn */
        void *state;                               /* of c.protocol */
};

struct connections {
        struct connections_options options;
        struct entry **buckets;
        size_t n_buckets, n;
        struct entry *oldest, *newest;
        struct connections_stats stats;
};

static struct entry *entry_of(struct connection *c) {
        return tel_container_of(c, struct entry, c);
}

struct connection *connection_ref(struct connection *c) {
        c->refs++;
        return c;
}

struct connection *connection_unref(struct connection *c) {
        if (!c || --c->refs > 0)
                return NULL;
        process_unref(c->process);
        free(c);                                   /* the public part is the first member of an entry */
        return NULL;
}

/* ---- table ---- */

static size_t bucket_of(const struct connections *t, uint64_t id) {
        return (size_t)(id * 0x9e3779b97f4a7c15ull >> 40) & (t->n_buckets - 1);
}

struct connections *connections_new(const struct connections_options *options) {
        struct connections *t = calloc(1, sizeof(*t));
        if (!t)
                return NULL;
        t->options = *options;
        t->n_buckets = CONNECTIONS_MAX;
        t->buckets = calloc(t->n_buckets, sizeof(t->buckets[0]));
        if (!t->buckets) {
                free(t);
                return NULL;
        }
        return t;
}

static void age_remove(struct connections *t, struct entry *e) {
        *(e->older ? &e->older->newer : &t->oldest) = e->newer;
        *(e->newer ? &e->newer->older : &t->newest) = e->older;
        e->older = e->newer = NULL;
}

static void age_append(struct connections *t, struct entry *e) {
        e->older = t->newest;
        e->newer = NULL;
        *(t->newest ? &t->newest->newer : &t->oldest) = e;
        t->newest = e;
}

static struct entry *find(struct connections *t, uint64_t id) {
        struct entry *e = t->buckets[bucket_of(t, id)];
        while (e && e->c.id != id)
                e = e->next_hash;
        return e;
}

struct connection *connections_find(struct connections *t, uint64_t id) {
        struct entry *e = find(t, id);
        return e ? &e->c : NULL;
}

struct exchange *connections_find_stream(struct connections *t, uint64_t id, uint32_t stream) {
        const struct entry *e = find(t, id);
        return e && e->state && e->c.protocol->stream ? e->c.protocol->stream(e->state, stream) : NULL;
}

static void parser_end(struct entry *e) {
        if (!e->state)
                return;
        e->c.protocol->done(e->state);
        free(e->state);
        e->state = NULL;
        e->c.protocol = NULL;
}

/* Forgets a connection; its open exchanges ended before, or end uncounted here. */
static void forget(struct connections *t, struct entry *e) {
        struct entry **at = &t->buckets[bucket_of(t, e->c.id)];
        while (*at != e)
                at = &(*at)->next_hash;
        *at = e->next_hash;
        age_remove(t, e);
        t->n--;
        e->in_table = false;
        parser_end(e);
        if (t->options.gone)
                t->options.gone(t->options.ctx, e->c.id);
        connection_unref(&e->c);
}

static void finish(struct connections *t, struct entry *e, uint64_t now_ns) {
        for (int d = 0; d < DIRECTIONS; d++)
                if (!e->streams[d].ended && e->state) {
                        e->streams[d].ended = true;
                        e->c.protocol->end(e->state, d, now_ns);
                }
        forget(t, e);
}

static struct entry *entry_new(struct connections *t, uint64_t id, struct process *process) {
        if (t->n >= CONNECTIONS_MAX) {
                t->stats.evicted++;
                t->oldest->c.abandoned = true;
                finish(t, t->oldest, t->oldest->c.last_ns);
        }
        struct entry *e = calloc(1, sizeof(*e));
        if (!e)
                return NULL;
        e->table = t;
        e->c = (struct connection){ .sink = t->options.sink, .id = id, .process = process_ref(process), .refs = 1 };
        e->last_direction = -1;
        e->in_table = true;
        size_t b = bucket_of(t, id);
        e->next_hash = t->buckets[b];
        t->buckets[b] = e;
        age_append(t, e);
        t->n++;
        t->stats.opened++;
        return e;
}

struct connections *connections_free(struct connections *t) {
        if (!t)
                return NULL;
        while (t->oldest)
                forget(t, t->oldest);
        free(t->buckets);
        free(t);
        return NULL;
}

void connections_open(struct connections *t, struct process *process, const struct probe_open *o) {
        struct entry *e = find(t, o->connection);
        if (!e && (!process || !(e = entry_new(t, o->connection, process))))
                return;
        e->c.local = o->local;
        e->c.remote = o->remote;
        e->c.family = o->family;
        e->c.netns = o->netns;
        e->c.peer = o->peer;
        e->c.whole = o->head.flags & PROBE_WHOLE;
        e->c.passive = o->head.flags & PROBE_PASSIVE;
}

void connections_inject(struct connections *t, struct process *process, const struct probe_inject *i) {
        struct entry *e = find(t, i->connection);
        if (!e && (!process || !(e = entry_new(t, i->connection, process))))
                return;
        e->c.injected = (struct injected){ .seq = i->seq, .sampled = i->head.flags & PROBE_INJECT_SAMPLED, .present = true };
        memcpy(e->c.injected.trace_id, i->trace_id, sizeof(i->trace_id));
        memcpy(e->c.injected.span_id, i->span_id, sizeof(i->span_id));
}

/* ---- parsing ---- */

static void verdict(struct entry *e) {
        struct connections *t = e->table;
        struct probe_verdict v = { .skip_in = e->streams[DIRECTION_IN].told, .skip_out = e->streams[DIRECTION_OUT].told, .ignore = e->ignored };
        if (t->options.verdict)
                t->options.verdict(t->options.ctx, e->c.id, &v);
}

void connection_upgraded(struct connection *c) {
        /* The parser is still running: it is ended when it returns. */
        entry_of(c)->ignored = true;
}

void connection_lost(struct connection *c, uint64_t n) {
        c->sink->lost(c->sink->ctx, c, n);
}

void connection_switch(struct connection *c, const struct protocol *to) {
        entry_of(c)->switch_to = to;
}

static bool parser_start(struct entry *e, const struct protocol *p, enum exchange_role role) {
        assert(p->size <= PROTOCOL_STATE_MAX);
        e->state = calloc(1, p->size);
        if (!e->state)
                return false;
        e->c.protocol = p;
        p->start(e->state, &e->c, e->table->options.protocol_options, role);
        return true;
}

/* What a parser asked for while it ran. */
static void after_parser(struct entry *e, enum direction d, int r) {
        enum exchange_role role = d == DIRECTION_IN ? EXCHANGE_SERVER : EXCHANGE_CLIENT;
        if (e->ignored) {
                parser_end(e);
                verdict(e);
        } else if (r < 0)
                parser_end(e);                     /* looked at anew at the next turn */
        else if (e->switch_to) {
                const struct protocol *to = e->switch_to;
                /* An answer announced it: requests come from the other side. */
                role = role == EXCHANGE_SERVER ? EXCHANGE_CLIENT : EXCHANGE_SERVER;
                e->switch_to = NULL;
                parser_end(e);
                parser_start(e, to, role);
        } else if (e->c.protocol->skip) {
                struct stream *s = &e->streams[d];
                uint64_t skip = e->c.protocol->skip(e->state, d);
                if (skip >= SKIP_MIN && s->next + skip > s->told + SKIP_MIN) {
                        s->told = s->next + skip;
                        verdict(e);
                }
        }
}

static void feed(struct entry *e, const struct chunk *k) {
        int r = e->c.protocol->data(e->state, k);
        after_parser(e, k->direction, r);
}

/* The protocol by the first bytes. Returns MATCH_MORE when they are too few. */
static enum protocol_match match(struct entry *e, const uint8_t *bytes, size_t n, const struct protocol **ret) {
        enum protocol_match open = MATCH_NO;
        for (const struct protocol *const *p = e->table->options.protocols; *p; p++) {
                enum protocol_match m = (*p)->match(bytes, n);
                if (m == MATCH_REQUEST || m == MATCH_ANSWER) {
                        *ret = *p;
                        return m;
                }
                if (m == MATCH_MORE)
                        open = MATCH_MORE;
        }
        return open;
}

static void give_up(struct entry *e) {
        e->held.n = 0;
        if (++e->tries < CONNECTION_TRIES)
                return;
        e->table->stats.unknown++;
        e->ignored = true;
        verdict(e);
}

/* The first bytes of a turn of a connection whose protocol is not known. */
static void detect(struct entry *e, const struct chunk *k) {
        const struct protocol *p = NULL;
        size_t held = e->held.n;
        if (k->turn)
                held = 0;
        else if (held == 0)
                return;                            /* in the midst of a turn that matched nothing */
        if (held == 0)
                e->held.at = *k;
        size_t more = TEL_MIN(k->n, HELD_MAX - held);
        memcpy(e->held.bytes + held, k->data, more);
        e->held.n = held + more;
        enum protocol_match m = match(e, e->held.bytes, e->held.n, &p);
        if (m == MATCH_MORE && e->held.n < HELD_MAX)
                return;
        if (m == MATCH_NO || m == MATCH_MORE) {
                give_up(e);
                return;
        }
        bool received = k->direction == DIRECTION_IN;
        if (!parser_start(e, p, (m == MATCH_REQUEST) == received ? EXCHANGE_SERVER : EXCHANGE_CLIENT))
                return;
        if (held > 0) {                            /* what came before this chunk, as of the call that brought its first byte */
                struct chunk before = e->held.at;
                before.data = e->held.bytes;
                before.n = held;
                feed(e, &before);
        }
        e->held.n = 0;
        if (e->state) {
                struct chunk rest = *k;
                rest.turn = held == 0;
                feed(e, &rest);
        }
}

static void gap(struct entry *e, const struct chunk *k, bool turn, uint64_t bytes) {
        struct chunk at = *k;
        at.data = NULL;
        at.n = 0;
        at.turn = turn;                            /* what is missing opened one */
        e->held.n = 0;
        if (e->state) {
                e->c.protocol->gap(e->state, &at, bytes);
                after_parser(e, k->direction, 0);
        }
}

static void end_stream(struct entry *e, enum direction d, uint64_t now_ns) {
        if (e->streams[d].ended)
                return;
        e->streams[d].ended = true;
        if (e->state) {
                e->c.protocol->end(e->state, d, now_ns);
                after_parser(e, d, 0);
        }
}

/* by: 1 or -1. Counts a connection, and its process, as one of which only ciphertext is seen. */
static void count_encrypted(struct entry *e, int by) {
        e->table->stats.encrypted += (uint64_t)by;
        if (e->c.process)
                e->c.process->encrypted += (uint64_t)by;
}

/* Which bytes count: once a library shows plaintext, what the socket carries is ciphertext. Returns false for bytes that do not count. */
static bool takes(struct entry *e, const struct probe_data *d) {
        if (d->head.flags & PROBE_CIPHER && e->c.tls == TLS_NO) {
                e->c.tls = TLS_SEEN;
                count_encrypted(e, 1);
        }
        if (d->head.flags & PROBE_PLAIN && e->c.tls != TLS_PLAIN) {
                if (e->c.tls == TLS_SEEN)
                        count_encrypted(e, -1);
                e->c.tls = TLS_PLAIN;
                parser_end(e);
                e->held.n = 0;
                e->last_direction = -1;
                e->streams[0] = e->streams[1] = (struct stream){ 0 };
        }
        return e->c.tls == TLS_NO || (e->c.tls == TLS_PLAIN && d->head.flags & PROBE_PLAIN);
}

/* Bytes between the last event of a direction and this one: events that were lost, by the kernel side's count; and what the program took
 * by a call that nobody sees (splice from a socket), by TCP's. On sending, another thread's call may have moved TCP's count already. */
static uint64_t missing_before(const struct stream *s, const struct probe_data *d) {
        if (d->offset > s->next)
                return d->offset - s->next;
        if (!s->begun)
                return 0;
        uint32_t unseen = d->seq - s->next_seq;
        bool received = !(d->head.flags & PROBE_OUT);
        return received && d->head.flags & PROBE_SEQ && d->offset == s->next && unseen < 1u << 30 ? unseen : 0;
}

/* Turns of d's direction that opened since its latest event, d's own left out. The kernel side counts turns to receive: between each two
 * lies one to send, and where the program asks one comes before all. */
static uint32_t turns_before(const struct entry *e, const struct stream *s, const struct probe_data *d) {
        bool asks = d->head.flags & PROBE_OUT && !e->c.passive;
        uint32_t before = s->begun ? s->turn : asks ? UINT32_MAX : 0, opens = !!(d->head.flags & PROBE_TURN);
        uint32_t lost = d->turn - before - opens;
        return lost < 1u << 31 ? lost : 0;
}

void connections_data(struct connections *t, struct process *process, const struct probe_data *d, const uint8_t *captured) {
        struct entry *e = find(t, d->connection);
        if (!process || (!e && !(e = entry_new(t, d->connection, process))))
                return;
        age_remove(t, e);
        age_append(t, e);
        enum direction way = d->head.flags & PROBE_OUT ? DIRECTION_OUT : DIRECTION_IN;
        struct stream *s = &e->streams[way];
        if (d->head.flags & PROBE_EOF) {
                end_stream(e, way, d->head.time_ns);
                return;
        }
        if (e->ignored || s->ended || !takes(e, d))
                return;
        if (e->c.process != process) {             /* accepted by one process, served by another */
                process_unref(e->c.process);
                e->c.process = process_ref(process);
        }
        struct chunk k = { .direction = way, .data = captured, .n = d->captured, .start_ns = d->start_ns, .end_ns = d->head.time_ns,
                           .tid = d->head.tid, .work = d->task.work, .work_parent = d->task.parent,
                           .seq = d->seq, .has_seq = d->head.flags & PROBE_SEQ };
        /* The kernel side may have seen a turn whose other half never came. */
        k.turn = e->last_direction != (int)way || d->head.flags & PROBE_TURN;
        uint64_t missing = missing_before(s, d);
        k.opens_call = d->head.flags & PROBE_TURN || (!s->within_call && missing == 0);
        s->within_call = !(d->head.flags & PROBE_END);
        k.turns_lost = turns_before(e, s, d);
        s->turn = d->turn;
        if (missing > 0) {
                k.turn = d->head.flags & PROBE_TURN;       /* behind a gap the kernel side alone knows */
                t->stats.gaps++;
                t->stats.gap_bytes += missing;
                s->next = d->offset;               /* for skip: how far the parser is */
                gap(e, &k, k.turns_lost > 0, missing);
        }
        s->begun = true;
        s->next = d->offset + d->captured;
        s->next_seq = d->seq + d->bytes;
        /* Nothing of the call that opened a turn could be read: the kernel side counted it, too. */
        k.turns_lost = d->captured == 0 && d->head.flags & PROBE_TURN && d->head.flags & PROBE_UNREADABLE;
        e->last_direction = (int)way;
        e->c.last_ns = k.end_ns;
        if (k.n > 0) {
                if (e->state)
                        feed(e, &k);
                else if (!e->ignored)
                        detect(e, &k);
                k.turn = k.opens_call = false;
        }
        s->next = d->offset + d->bytes;
        if (d->bytes > d->captured && !e->ignored) {
                k.seq += d->captured;
                gap(e, &k, k.turn, d->bytes - d->captured);
        }
}

void connections_shut(struct connections *t, const struct probe_shut *e) {
        struct entry *at = find(t, e->connection);
        if (!at)
                return;
        if (e->state == TCP_CLOSE)
                finish(t, at, e->head.time_ns);
        else
                end_stream(at, DIRECTION_OUT, e->head.time_ns);
}

void connections_drop_process(struct connections *t, const struct process *process, uint64_t now_ns) {
        for (struct entry *e = t->oldest, *next; e; e = next) {
                next = e->newer;
                if (e->c.process == process)
                        finish(t, e, now_ns);
        }
}

void connections_sweep(struct connections *t, uint64_t now_ns, uint64_t idle_ns) {
        struct entry *next;
        unsigned seen = 0;
        for (struct entry *e = t->oldest; e && seen < SWEEP_MAX && e->c.last_ns + idle_ns < now_ns; e = next, seen++) {
                next = e->newer;
                /* The end of a TCP connection is told, and its addresses are told once. */
                bool told = e->c.family == AF_INET || e->c.family == AF_INET6;
                if (told && e->c.last_ns + 12 * idle_ns >= now_ns)
                        continue;
                e->c.abandoned = true;             /* an answer that ended with the connection ended with its last byte, as far as we know */
                finish(t, e, e->c.last_ns);
        }
}

void connections_get_stats(const struct connections *t, struct connections_stats *ret) {
        *ret = t->stats;
        ret->open = t->n;
}
