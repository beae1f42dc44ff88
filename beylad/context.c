/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/context.h"

#include <netinet/in.h>
#include <sys/random.h>

#include "beylad/sampler.h"

#define BUCKETS 16384u                             /* of each table: about CONTEXT_OPEN_MAX exchanges */
#define ADOPTIONS 1024u                            /* foreign (trace, parent) pairs counted at once; a collision starts the count anew */
#define DEPTH_MAX 64                               /* services that call each other on one host; ends what cannot be a chain */
#define CALLERS_BUCKETS 1024u                      /* of connections that a goroutine has announced to use */
#define CALLERS_WAYS 4u                            /* of each bucket, the latest first: hundreds of connections at once lose none */
#define SERVANTS_MAX 4096u                         /* threads that are known to serve; of two at one place the newer is */

/* The place of one exchange. Lives while the exchange or a child refers to it. */
struct context {
        unsigned refs;
        struct exchange *exchange;                 /* NULL once it was handed on */
        enum exchange_role role;
        bool resolved, sampled;
        uint8_t trace_id[16], span_id[8], parent_span_id[8];   /* trace: valid once resolved, given or wished; parent: once resolved */
        bool given;                                /* client: its ids and sampled are in the request that was sent */
        bool wished;                               /* a client below it has this trace; it has none yet */
        bool split;                                /* its parent is in another trace */
        struct trace_parent foreign;               /* traceparent of the request */
        struct context *parent;                    /* client: the server exchange it belongs to; server: the client at the other end */
        struct context *candidates[CONTEXT_LINKS_MAX];
        size_t n_candidates;
        uint64_t begun_ns;
        struct process *process;                   /* of the connection, referenced while it is in workers */
        uint32_t tgid;
        uint64_t worker;                           /* goid, or tid: who serves it */
        bool by_goroutine;
        bool first;                                /* first request that this goroutine served, as far as we saw, or its only one */
        bool shared;                               /* another was open on the thread meanwhile: a call out may be its late work */
        bool doubtful;                             /* client: its parent is by thread and was not alone in the program, should that run event loops */
        uint32_t overlaps;                         /* of its process when it began */
        bool crowded;                              /* others were open in its process when it began */
        bool in_workers, in_ends;
        struct context *next_worker, *next_end;    /* in their buckets */
        uint64_t end_key;                          /* of the connection's two ends and the request's first byte */
};

struct caller {
        uint64_t connection;
        struct probe_task task;
};

/* Ids need to be unique, and drawing them one by one costs a system call each. */
struct pool {
        uint8_t bytes[2048];
        size_t used;
};

struct contexts {
        struct exchange_sink sink;
        const struct sampler *sampler;
        context_span_fn span;
        void *ctx;
        struct context *workers[BUCKETS];          /* open server exchanges by who serves them */
        struct context *ends[BUCKETS];             /* by end_key, until they are handed on */
        struct exchange *held, **held_tail;        /* ended, in that order */
        struct {
                uint8_t trace_id[16], span_id[8];
                uint64_t first_ns;
                uint32_t n;
        } adoptions[ADOPTIONS];
        struct caller callers[CALLERS_BUCKETS][CALLERS_WAYS];
        struct { uint32_t tgid, tid; } servants[SERVANTS_MAX];
        struct pool pool;
        struct contexts_stats stats;
};

static uint64_t mix(uint64_t v) {
        v ^= v >> 32;
        v *= 0xd6e8feb86659fd93ull;
        v ^= v >> 32;
        v *= 0xd6e8feb86659fd93ull;
        return v ^ v >> 32;
}

static void draw(struct contexts *t, uint8_t *out, size_t n) {
        if (t->pool.used + n > sizeof(t->pool.bytes)) {
                size_t have = 0;
                while (have < sizeof(t->pool.bytes)) {
                        ssize_t r = getrandom(t->pool.bytes + have, TEL_MIN(sizeof(t->pool.bytes) - have, (size_t)256), 0);
                        have += r > 0 ? (size_t)r : 0;     /* only EINTR can come, and 256 bytes are always whole */
                }
                t->pool.used = 0;
        }
        memcpy(out, t->pool.bytes + t->pool.used, n);
        t->pool.used += n;
}

static struct context *context_unref(struct context *c) {
        while (c && --c->refs == 0) {
                struct context *parent = c->parent;
                for (size_t i = 0; i < c->n_candidates; i++)
                        context_unref(c->candidates[i]);
                free(c);
                c = parent;
        }
        return NULL;
}

static struct context *context_ref(struct context *c) {
        c->refs++;
        return c;
}

/* ---- who serves what ---- */

static struct context **worker_bucket(struct contexts *t, uint32_t tgid, uint64_t worker) {
        return &t->workers[mix((uint64_t)tgid << 32 ^ worker) & (BUCKETS - 1)];
}

static bool is_worker(const struct context *c, uint32_t tgid, uint64_t worker, bool by_goroutine) {
        return c->tgid == tgid && c->worker == worker && c->by_goroutine == by_goroutine;
}

static void worker_insert(struct contexts *t, struct context *c) {
        struct context **bucket = worker_bucket(t, c->tgid, c->worker);
        c->next_worker = *bucket;
        *bucket = c;
        c->in_workers = true;
}

static void worker_unlink(struct contexts *t, struct context *c) {
        struct context **at = worker_bucket(t, c->tgid, c->worker);
        while (*at != c)
                at = &(*at)->next_worker;
        *at = c->next_worker;
        c->in_workers = false;
}

static void worker_remove(struct contexts *t, struct context *c) {
        if (!c->in_workers)
                return;
        worker_unlink(t, c);
        if (c->process && !c->by_goroutine)
                c->process->open_requests--;
        c->process = process_unref(c->process);
}

static size_t servant_of(uint32_t tgid, uint32_t tid) {
        return mix((uint64_t)tgid << 32 | tid) & (SERVANTS_MAX - 1);
}

/* Server exchanges open on a goroutine or thread, at most n of them. */
static size_t open_on(struct contexts *t, uint32_t tgid, uint64_t worker, bool by_goroutine, uint64_t now_ns, struct context **ret, size_t n) {
        size_t found = 0;
        for (struct context *c = *worker_bucket(t, tgid, worker); c && found < n; c = c->next_worker)
                if (is_worker(c, tgid, worker, by_goroutine) && c->begun_ns + CONTEXT_AGE_MAX_NS > now_ns)
                        ret[found++] = c;
        return found;
}

/* ---- the two ends of a connection ---- */

static uint64_t end_key(const struct probe_address *client, const struct probe_address *server, uint32_t seq) {
        uint64_t a[5];
        memcpy(a, client->ip, 16);
        memcpy(a + 2, server->ip, 16);
        a[4] = (uint64_t)client->port << 48 | (uint64_t)server->port << 32 | seq;
        uint64_t key = 0;
        for (size_t i = 0; i < TEL_ARRAY_LEN(a); i++)
                key = mix(key ^ a[i]) + i;
        return key | 1;                            /* 0 is no key */
}

static void end_insert(struct contexts *t, struct context *c) {
        struct context **at = &t->ends[c->end_key & (BUCKETS - 1)];
        c->next_end = *at;
        *at = c;
        c->in_ends = true;
}

static void end_remove(struct contexts *t, struct context *c) {
        if (!c->in_ends)
                return;
        struct context **at = &t->ends[c->end_key & (BUCKETS - 1)];
        while (*at != c)
                at = &(*at)->next_end;
        *at = c->next_end;
        c->in_ends = false;
}

/* The server's parent is the client whose request's first byte has the same number at the same two ends. */
static void join(struct contexts *t, struct context *server, struct context *client) {
        if (server->resolved || server->parent || client == server)
                return;
        server->parent = context_ref(client);
        t->stats.joined++;
        /* A client's call is seen when it returns; by then the server may have read what it sent. */
        if (client->exchange && server->exchange && client->exchange->start_ns > server->exchange->start_ns)
                client->exchange->start_ns = server->exchange->start_ns;
}

static void find_other_end(struct contexts *t, struct context *c) {
        const struct exchange *x = c->exchange;
        const struct connection *k = x->connection;
        if (!x->has_seq || (k->family != AF_INET && k->family != AF_INET6))
                return;
        bool server = x->role == EXCHANGE_SERVER;
        c->end_key = end_key(server ? &k->remote : &k->local, server ? &k->local : &k->remote, x->seq);
        for (struct context *o = t->ends[c->end_key & (BUCKETS - 1)]; o; o = o->next_end)
                if (o->end_key == c->end_key && o->role != c->role) {
                        join(t, server ? c : o, server ? o : c);
                        break;
                }
        end_insert(t, c);
}

/* ---- parents of clients ---- */

void contexts_caller(struct contexts *t, const struct probe_task *task, uint64_t connection) {
        struct caller *bucket = t->callers[mix(connection) & (CALLERS_BUCKETS - 1)];
        size_t i = 0;
        while (i < CALLERS_WAYS - 1 && bucket[i].connection != 0 && bucket[i].connection != connection)
                i++;
        memmove(bucket + 1, bucket, i * sizeof(*bucket));
        bucket[0] = (struct caller){ connection, *task };
}

/* Who has announced to use the connection, once for each announcement; else ret stays. */
static void caller_take(struct contexts *t, uint64_t connection, struct probe_task *ret) {
        struct caller *bucket = t->callers[mix(connection) & (CALLERS_BUCKETS - 1)];
        for (size_t i = 0; connection != 0 && i < CALLERS_WAYS; i++)
                if (bucket[i].connection == connection) {
                        *ret = bucket[i].task;
                        memmove(bucket + i, bucket + i + 1, (CALLERS_WAYS - 1 - i) * sizeof(*bucket));
                        bucket[CALLERS_WAYS - 1] = (struct caller){ 0 };
                        return;
                }
}

/* The trace that c has for another reason than its parent; NULL: none. */
static const uint8_t *own_trace(const struct context *c) {
        return c->given || c->resolved ? c->trace_id : c->foreign.present ? c->foreign.trace_id : c->wished ? c->trace_id : NULL;
}

/* Those above c have this trace, unless one of them has another. */
static void wish_above(struct context *c, const uint8_t trace_id[static 16]) {
        struct context *end = c->parent;
        for (unsigned depth = 0; end && !own_trace(end); end = end->parent)
                if (depth++ == DEPTH_MAX)
                        return;
        if (end && memcmp(own_trace(end), trace_id, 16) != 0)
                return;
        for (c = c->parent; c != end; c = c->parent) {
                c->wished = true;
                memcpy(c->trace_id, trace_id, 16);
        }
}

/* What is sent for c has this trace. */
static void wish(struct context *c, const uint8_t trace_id[static 16]) {
        if (!c || own_trace(c))
                return;
        c->wished = true;
        memcpy(c->trace_id, trace_id, 16);
        wish_above(c, trace_id);
}

void contexts_serve(const struct connection *c, const uint8_t trace_id[static 16]) {
        wish(c->serving, trace_id);
}

static void set_parent(struct contexts *t, struct context *c, struct context **found, size_t n, bool certain) {
        if (n == 1 && certain) {
                c->parent = context_ref(found[0]);
                return;
        }
        if (n == 0)
                return;
        t->stats.ambiguous++;
        for (size_t i = 0; i < n; i++)
                c->candidates[c->n_candidates++] = context_ref(found[i]);
}

/* A goroutine that the serving one started may outlive the request it was started for, so that only the first request of the serving
 * goroutine is certain to be the one. One that writes a request of HTTP/2 was started for it by the goroutine that waits for its answer:
 * source: Go's net/http, http2ClientConn.roundTrip; that of grpc-go writes for all and was started by none that serves. */
static void find_parent_by_goroutine(struct contexts *t, struct context *c, const struct probe_task *task, uint64_t now_ns) {
        struct context *found[CONTEXT_LINKS_MAX];
        size_t n = open_on(t, c->tgid, task->work, true, now_ns, found, TEL_ARRAY_LEN(found));
        if (n > 0 || task->parent == 0) {
                set_parent(t, c, found, n, true);
                return;
        }
        n = open_on(t, c->tgid, task->parent, true, now_ns, found, TEL_ARRAY_LEN(found));
        set_parent(t, c, found, n, n == 1 && (found[0]->first || c->exchange->protocol == &protocol_http2));
}

/* Whether no other request was open in its process since it began. */
static bool is_alone(const struct context *c) {
        return !c->process || (!c->crowded && c->overlaps == c->process->overlaps);
}

static bool is_multiplexing(const struct process *p) {
        return p && p->multiplexes;
}

/* A thread that served several at once may call out for one that is answered already, so that only one that had the thread to itself is
 * certain to be the one. A program whose threads serve several at once runs event loops, which may hand work to each other: there only one
 * that had the whole program to itself is. So does one whose serving threads call out while they serve nobody and others do. It may show
 * later that it is such a program: resolve() looks again. */
static void find_parent_by_thread(struct contexts *t, struct context *c, const struct chunk *at) {
        struct context *found[CONTEXT_LINKS_MAX];
        struct process *p = c->exchange->connection->process;
        size_t n = open_on(t, c->tgid, at->tid, false, at->end_ns, found, TEL_ARRAY_LEN(found)), s = servant_of(c->tgid, at->tid);
        if (n == 0 && p && p->open_requests > 0 && t->servants[s].tgid == c->tgid && t->servants[s].tid == at->tid)
                p->multiplexes = true;
        set_parent(t, c, found, n, n == 1 && !found[0]->shared && (!is_multiplexing(p) || is_alone(found[0])));
        c->doubtful = c->parent && !is_alone(c->parent);
}

static void find_parent(struct contexts *t, struct context *c, const struct chunk *at) {
        struct probe_task task = { at->work, at->work_parent };
        caller_take(t, c->exchange->connection->id, &task);    /* the goroutine that asked, not the one that writes for it */
        if (task.work)
                find_parent_by_goroutine(t, c, &task, at->end_ns);
        else
                find_parent_by_thread(t, c, at);
}

static void give(struct contexts *t, struct context *c, const struct injected *i) {
        c->given = true;
        c->sampled = i->sampled;
        memcpy(c->trace_id, i->trace_id, sizeof(c->trace_id));
        memcpy(c->span_id, i->span_id, sizeof(c->span_id));
        wish(c->parent, c->trace_id);
        t->stats.injected++;
}

/* ---- the sink ---- */

static bool on_begun(void *ctx, struct exchange *x, const struct chunk *at) {
        struct contexts *t = ctx;
        struct context *c = t->stats.open < CONTEXT_OPEN_MAX ? calloc(1, sizeof(*c)) : NULL;
        if (!c)
                return false;
        c->refs = 1;
        c->exchange = x;
        c->role = x->role;
        c->begun_ns = at->end_ns;
        c->tgid = x->connection->process ? x->connection->process->pid : 0;
        draw(t, c->span_id, sizeof(c->span_id));
        x->context = c;
        t->stats.open++;
        find_other_end(t, c);
        if (x->role == EXCHANGE_CLIENT)
                find_parent(t, c, at);
        if (x->injected.present)
                give(t, c, &x->injected);
        return true;
}

static void on_asked(void *ctx, struct exchange *x, const struct chunk *at) {
        struct contexts *t = ctx;
        struct context *c = x->context;
        c->foreign = x->parent;
        if (x->role != EXCHANGE_SERVER)
                return;
        /* Who read the end of the head serves it: Go reads the first byte of a next request on another goroutine. */
        c->by_goroutine = at->work != 0;
        c->worker = c->by_goroutine ? at->work : at->tid;
        c->first = x->connection->whole && !x->connection->served;
        x->connection->served = true;
        x->connection->serving = c;
        for (struct context *o = *worker_bucket(t, c->tgid, c->worker); o; o = o->next_worker)
                if (is_worker(o, c->tgid, c->worker, c->by_goroutine))
                        o->shared = c->shared = true;
        if (!c->by_goroutine) {
                size_t s = servant_of(c->tgid, at->tid);
                t->servants[s].tgid = c->tgid;
                t->servants[s].tid = at->tid;
        }
        c->process = x->connection->process ? process_ref(x->connection->process) : NULL;
        if (c->process && !c->by_goroutine) {
                struct process *p = c->process;
                p->multiplexes = p->multiplexes || c->shared;
                c->crowded = p->open_requests++ > 0;
                c->overlaps = p->overlaps += c->crowded;
        }
        worker_insert(t, c);
}

void contexts_handler(struct contexts *t, const struct probe_task *task, struct exchange *x) {
        struct context *c = x->context;
        if (!task->work || !c || !c->in_workers || !c->by_goroutine)
                return;
        worker_unlink(t, c);
        c->worker = task->work;
        c->first = true;
        worker_insert(t, c);
}

static void hand_on_oldest(struct contexts *t);

static void serving_end(struct exchange *x) {
        if (x->connection->serving == x->context)
                x->connection->serving = NULL;
}

static void on_ended(void *ctx, struct exchange *x) {
        struct contexts *t = ctx;
        serving_end(x);
        worker_remove(t, x->context);
        t->stats.open--;
        t->stats.held++;
        x->next = NULL;
        *t->held_tail = x;
        t->held_tail = &x->next;
        if (t->stats.held > CONTEXT_HELD_MAX)
                hand_on_oldest(t);                 /* it may miss its other end; a lost span would be worse */
}

static void on_dropped(void *ctx, struct exchange *x, bool counted) {
        struct contexts *t = ctx;
        struct context *c = x->context;
        t->stats.lost += counted;
        if (!c)
                return;
        serving_end(x);
        worker_remove(t, c);
        end_remove(t, c);
        c->exchange = NULL;
        t->stats.open--;
        x->context = context_unref(c);
}

static void on_lost(void *ctx, struct connection *c, uint64_t n) {
        struct contexts *t = ctx;
        (void)c;
        t->stats.lost += n;
}

struct contexts *contexts_new(const struct sampler *sampler, context_span_fn span, void *ctx) {
        struct contexts *t = calloc(1, sizeof(*t));
        if (!t)
                return NULL;
        t->sink = (struct exchange_sink){ t, on_begun, on_asked, on_ended, on_dropped, on_lost };
        t->sampler = sampler;
        t->span = span;
        t->ctx = ctx;
        t->held_tail = &t->held;
        t->pool.used = sizeof(t->pool.bytes);
        return t;
}

const struct exchange_sink *contexts_sink(struct contexts *t) {
        return &t->sink;
}

/* ---- handing on ---- */

/* Whether another span may join this foreign parent: a traceparent that is used again and again would make one giant trace. */
static bool may_adopt(struct contexts *t, const struct trace_parent *p, uint64_t now_ns) {
        uint64_t key[3];
        memcpy(key, p->trace_id, 16);
        memcpy(key + 2, p->span_id, 8);
        size_t i = mix(key[0] ^ mix(key[1]) ^ key[2]) & (ADOPTIONS - 1);
        if (memcmp(t->adoptions[i].trace_id, p->trace_id, 16) != 0 || memcmp(t->adoptions[i].span_id, p->span_id, 8) != 0) {
                memcpy(t->adoptions[i].trace_id, p->trace_id, 16);
                memcpy(t->adoptions[i].span_id, p->span_id, 8);
                t->adoptions[i].first_ns = now_ns;
                t->adoptions[i].n = 0;
        }
        return ++t->adoptions[i].n <= CONTEXT_ADOPT_MAX && t->adoptions[i].first_ns + CONTEXT_AGE_MAX_NS > now_ns;
}

static void resolve(struct contexts *t, struct context *c, unsigned depth);

/* Returns whether the parent decides. own: the trace that c has for another reason. */
static bool resolve_by_parent(struct contexts *t, struct context *c, const uint8_t *own, unsigned depth) {
        if (!c->parent || depth >= DEPTH_MAX)
                return false;
        if (c->given || c->wished)
                wish_above(c, c->trace_id);
        resolve(t, c->parent, depth + 1);
        /* A proxy hands the header on as it came; then what is known here is nearer than what the header names. */
        if (own && memcmp(own, c->parent->trace_id, 16) != 0) {
                c->split = c->given || (c->wished && !c->foreign.present);
                t->stats.split += c->split;
                return false;
        }
        memcpy(c->trace_id, c->parent->trace_id, 16);
        memcpy(c->parent_span_id, c->parent->span_id, 8);
        c->sampled = c->given ? c->sampled : c->parent->sampled;
        return true;
}

/* What made the parent certain may not hold any more. */
static void doubt(struct contexts *t, struct context *c) {
        if (!c->doubtful || !c->exchange || !is_multiplexing(c->exchange->connection->process))
                return;
        c->candidates[c->n_candidates++] = c->parent;
        c->parent = NULL;
        t->stats.ambiguous++;
}

/* Fixes trace and parent, those above it first: from then on nothing joins above it. */
static void resolve(struct contexts *t, struct context *c, unsigned depth) {
        if (c->resolved)
                return;
        const uint8_t *own = own_trace(c);
        c->resolved = true;
        doubt(t, c);
        const bool *sampled = NULL;
        bool inherited;
        if (resolve_by_parent(t, c, own, depth) || c->given)
                return;
        if (c->foreign.present && may_adopt(t, &c->foreign, c->begun_ns)) {
                memcpy(c->trace_id, c->foreign.trace_id, 16);
                memcpy(c->parent_span_id, c->foreign.span_id, 8);
                inherited = c->foreign.sampled;
                sampled = &inherited;
                t->stats.adopted += c->role == EXCHANGE_SERVER;
        } else if (!c->wished || c->foreign.present)
                draw(t, c->trace_id, 16);
        c->sampled = sampler_decide(t->sampler, c->trace_id, sampled);
}

/* Links to what may be the parent, or is it in another trace. */
static void link_to(struct contexts *t, struct span *s, struct context *to, bool other_trace) {
        struct span_link *l = &s->links[s->n_links++];
        resolve(t, to, 0);
        memcpy(l->trace_id, to->trace_id, 16);
        memcpy(l->span_id, to->span_id, 8);
        l->other_trace = other_trace;
}

static void hand_on(struct contexts *t, struct exchange *x) {
        struct context *c = x->context;
        struct span s = { .exchange = x };
        resolve(t, c, 0);
        memcpy(s.trace_id, c->trace_id, 16);
        memcpy(s.span_id, c->span_id, 8);
        memcpy(s.parent_span_id, c->parent_span_id, 8);
        s.sampled = c->sampled;
        for (size_t i = 0; i < c->n_candidates; i++)
                link_to(t, &s, c->candidates[i], false);
        if (c->split)                              /* then it has a parent, and no candidates */
                link_to(t, &s, c->parent, true);
        t->stats.spans++;
        *(x->role == EXCHANGE_SERVER ? &t->stats.servers : &t->stats.clients) += 1;
        t->span(t->ctx, &s);
        end_remove(t, c);
        c->exchange = NULL;
        x->context = context_unref(c);
        exchange_free(x);
}

static void hand_on_oldest(struct contexts *t) {
        struct exchange *x = t->held;
        t->held = x->next;
        if (!t->held)
                t->held_tail = &t->held;
        t->stats.held--;
        hand_on(t, x);
}

void contexts_release(struct contexts *t, uint64_t now_ns) {
        while (t->held && (now_ns == UINT64_MAX || t->held->end_ns + CONTEXT_HOLD_NS <= now_ns))
                hand_on_oldest(t);
}

struct contexts *contexts_free(struct contexts *t) {
        if (!t)
                return NULL;
        for (struct exchange *x; (x = t->held) != NULL;) {
                t->held = x->next;
                end_remove(t, x->context);
                x->context = context_unref(x->context);
                exchange_free(x);
        }
        free(t);
        return NULL;
}

void contexts_get_stats(const struct contexts *t, struct contexts_stats *ret) {
        *ret = t->stats;
}
