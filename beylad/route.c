/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/route.h"

#include <stdio.h>

#define NAME_MAX_BYTES 30                          /* of a segment that may be a name: what is longer is data */
#define BUCKETS 256                                /* of owners, a power of two */
static_assert(ROUTE_SEGMENTS_MAX * (NAME_MAX_BYTES + 1) + 3 <= ROUTE_MAX, "any learned route fits");

/* ---- Paths ---- */

struct segment {
        const char *at;
        size_t n;
};

/* The segments of a path: empty ones left out, and so is what a ";" leads in (";jsessionid=..."). */
struct path {
        struct segment at[ROUTE_SEGMENTS_MAX];
        size_t n;
        bool more;                                 /* than ROUTE_SEGMENTS_MAX */
        bool slash;                                /* it ends in one */
};

/* Where the path begins: behind scheme and authority of an absolute URL. NULL: it is no path. */
static const char *path_start(const char *path) {
        const char *scheme = *path == '/' ? NULL : strstr(path, "://");
        if (*path == '/')
                return path;
        if (!scheme)
                return NULL;
        return scheme + 3 + strcspn(scheme + 3, "/?#");
}

static void path_split(const char *path, struct path *ret) {
        const char *p = path;
        ret->n = 0;
        ret->more = ret->slash = false;
        while (*p && *p != '?' && *p != '#') {
                if (*p == '/') {
                        ret->slash = true;
                        p++;
                        continue;
                }
                struct segment s = { p, strcspn(p, "/;?#") };
                p += strcspn(p, "/?#");
                if (s.n == 0)
                        continue;
                ret->slash = false;
                if (ret->n == ROUTE_SEGMENTS_MAX) {
                        ret->more = true;
                        return;
                }
                ret->at[ret->n++] = s;
        }
}

/* ---- Patterns ---- */

/* In the order of how specific they are. */
enum part_kind { PART_TEXT, PART_PARAMETER, PART_REST };

struct pattern {
        char text[ROUTE_PATTERN_MAX];
        enum part_kind kinds[ROUTE_SEGMENTS_MAX];
        struct path parts;                         /* points into text */
};

struct patterns {
        struct pattern *at;
        size_t n;
};

static enum part_kind part_kind(const struct segment *s, bool last) {
        bool star = (s->n == 1 && s->at[0] == '*') || (s->n == 2 && memcmp(s->at, "**", 2) == 0);
        bool braces = s->n > 2 && s->at[0] == '{' && s->at[s->n - 1] == '}';
        if (last && (star || (braces && s->n > 5 && memcmp(s->at + s->n - 4, "...}", 4) == 0)))
                return PART_REST;
        return star || braces || (s->n > 1 && s->at[0] == ':') ? PART_PARAMETER : PART_TEXT;
}

static bool pattern_parse(const char *text, struct pattern *ret) {
        size_t n = strnlen(text, ROUTE_PATTERN_MAX);
        if (text[0] != '/' || n == ROUTE_PATTERN_MAX || strpbrk(text, "?#;"))
                return false;
        memcpy(ret->text, text, n + 1);
        path_split(ret->text, &ret->parts);
        for (size_t i = 0; i < ret->parts.n; i++)
                ret->kinds[i] = part_kind(&ret->parts.at[i], i + 1 == ret->parts.n);
        return !ret->parts.more;
}

bool route_pattern_valid(const char *pattern) {
        struct pattern p;
        return pattern_parse(pattern, &p);
}

/* The more specific one first, else the order of the settings, which qsort() would not keep. */
static bool pattern_before(const struct pattern *a, const struct pattern *b) {
        size_t n = TEL_MIN(a->parts.n, b->parts.n);
        for (size_t i = 0; i < n; i++)
                if (a->kinds[i] != b->kinds[i])
                        return a->kinds[i] < b->kinds[i];
        return false;
}

static int patterns_read(const char *const *texts, size_t n, struct patterns *ret, char *reterr) {
        if (n > SETTINGS_PATTERNS_MAX) {
                snprintf(reterr, ROUTE_PATTERN_MAX + 64, "%zu patterns: at most %d", n, SETTINGS_PATTERNS_MAX);
                return -EINVAL;
        }
        ret->at = calloc(n ? n : 1, sizeof(*ret->at));
        if (!ret->at)
                return -ENOMEM;
        for (; ret->n < n; ret->n++) {
                struct pattern p;
                size_t to = ret->n;
                if (!pattern_parse(texts[ret->n], &p)) {
                        snprintf(reterr, ROUTE_PATTERN_MAX + 64, "pattern '%.*s': expected \"/\" and at most %d segments", ROUTE_PATTERN_MAX - 1,
                                 texts[ret->n], ROUTE_SEGMENTS_MAX);
                        return -EINVAL;
                }
                for (; to > 0 && pattern_before(&p, &ret->at[to - 1]); to--)
                        pattern_parse(ret->at[to - 1].text, &ret->at[to]);     /* not copied: its parts point into itself */
                pattern_parse(p.text, &ret->at[to]);
        }
        return 0;
}

static bool pattern_matches(const struct pattern *p, const struct path *path) {
        for (size_t i = 0; i < p->parts.n; i++) {
                const struct segment *want = &p->parts.at[i];
                if (i == path->n)
                        return false;
                if (p->kinds[i] == PART_REST)
                        return true;
                if (p->kinds[i] == PART_TEXT && (want->n != path->at[i].n || memcmp(want->at, path->at[i].at, want->n) != 0))
                        return false;
        }
        return p->parts.n == path->n && !path->more;
}

static const struct pattern *patterns_match(const struct patterns *p, const struct path *path) {
        for (size_t i = 0; i < p->n; i++)
                if (pattern_matches(&p->at[i], path))
                        return &p->at[i];
        return NULL;
}

/* ---- What looks like data ---- */

static bool is_digit(char c) {
        return c >= '0' && c <= '9';
}

static bool is_letter(char c) {
        return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

static size_t skip_digits(const struct segment *s, size_t i) {
        while (i < s->n && is_digit(s->at[i]))
                i++;
        return i;
}

/* "v1", "v2.1", "v1beta1", "v2alpha": names, whatever digits they have. */
static bool is_version(const struct segment *s) {
        static const char *const stages[] = { "alpha", "beta", "rc", "preview" };
        size_t i = 1;
        if (s->n < 2 || (s->at[0] | 0x20) != 'v' || !is_digit(s->at[1]))
                return false;
        while (i < s->n && (is_digit(s->at[i]) || s->at[i] == '.'))
                i++;
        for (size_t k = 0; k < TEL_ARRAY_LEN(stages); k++)
                if (s->n - i >= strlen(stages[k]) && memcmp(s->at + i, stages[k], strlen(stages[k])) == 0)
                        return skip_digits(s, i + strlen(stages[k])) == s->n;
        return i == s->n && i <= 8;
}

struct letters {
        size_t digits, letters, hex, runs;         /* runs: of digits */
        bool vowel, strange, at_sign, numbered;    /* strange: no byte of a name; numbered: "item-42" */
};

static struct letters letters_of(const struct segment *s) {
        struct letters l = { 0 };
        for (size_t i = 0; i < s->n; i++) {
                char c = s->at[i];
                bool begins = i == 0 || !is_digit(s->at[i - 1]);
                l.at_sign = l.at_sign || (c == '@' && i > 0);
                l.strange = l.strange || (uint8_t)c >= 0x7f || (uint8_t)c <= 0x20 || strchr("%=,+!$&'()|\"<>\\^`{}[]*", c);
                l.hex += is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
                l.letters += is_letter(c);
                l.vowel = l.vowel || (is_letter(c) && strchr("aeiouy", c | 0x20));
                if (!is_digit(c))
                        continue;
                l.digits++;
                l.runs += begins;
                size_t end = begins ? skip_digits(s, i) : i;
                if (begins && i > 0 && strchr("-_.", s->at[i - 1]) && end - i >= 2 && (end == s->n || strchr("-_.", s->at[end])))
                        l.numbered = true;
        }
        return l;
}

/* Whether a segment is an id, a date, an address, a token: something that a client chose, not the program. Where this is wrong, the bound on
 * different segments of a place still holds. */
static bool is_data(const struct segment *s) {
        if (s->n > NAME_MAX_BYTES || skip_digits(s, 0) == s->n)
                return true;
        struct letters l = letters_of(s);
        if (l.strange || l.at_sign)
                return true;
        if (l.digits == 0)
                return l.letters >= 8 && !l.vowel;
        if (is_version(s))
                return false;
        if (l.letters == 0)
                return true;                       /* "42", "2024-01-31", "10.0.0.1" */
        if (l.hex == s->n && s->n >= 8)
                return true;
        return l.digits >= 4 || l.numbered || (l.runs >= 2 && s->n >= 8);
}

/* ---- What was learned ---- */

/* A segment at its place. The "*" of a place is a child like the others, but is not counted among them. */
struct node {
        struct node *next, *children, *star;
        uint32_t hits;
        uint16_t n_children;
        bool closed;                               /* had too many different ones: a new one is "*" */
        bool route, route_slash;                   /* a path ended here; and one with a "/" behind it */
        uint8_t n;
        char text[NAME_MAX_BYTES];
};

struct owner {
        struct owner *next;
        uint64_t id, used;
        size_t n_nodes, n_routes;
        struct node root;
};

struct routes {
        struct patterns patterns, ignored;
        enum ignore_mode ignore_mode;
        enum unmatched_route unmatched;
        size_t children_max;
        struct owner *buckets[BUCKETS];
        size_t n_owners;
        uint64_t uses;
};

/* Frees what is below at, and counts it off. */
static void children_free(struct owner *o, struct node *at);

static void node_free(struct owner *o, struct node *at) {
        if (!at)
                return;
        children_free(o, at);
        o->n_nodes--;
        o->n_routes -= at->route + at->route_slash;
        free(at);
}

static void children_free(struct owner *o, struct node *at) {
        while (at->children) {
                struct node *child = at->children;
                at->children = child->next;
                node_free(o, child);
        }
        node_free(o, at->star);
        at->star = NULL;
        at->n_children = 0;
}

static struct node *node_new(struct owner *o, const char *text, size_t n) {
        bool room = o->n_nodes < ROUTE_NODES_MAX && o->n_routes < ROUTE_DISTINCT_MAX;
        struct node *at = room ? calloc(1, sizeof(*at)) : NULL;
        if (!at)
                return NULL;
        at->n = (uint8_t)n;
        memcpy(at->text, text, n);
        o->n_nodes++;
        return at;
}

static struct node *star_of(struct owner *o, struct node *at) {
        if (!at->star)
                at->star = node_new(o, "*", 1);
        return at->star;
}

/* The place has too many different segments: those that few asked for are data. */
static void node_close(struct owner *o, struct node *at) {
        at->closed = true;
        for (struct node **child = &at->children; *child;) {
                struct node *c = *child;
                if (c->hits >= ROUTE_KEEP) {
                        child = &c->next;
                        continue;
                }
                *child = c->next;
                node_free(o, c);
                at->n_children--;
        }
}

/* One segment down. NULL: there is no room to learn it. */
static struct node *node_step(const struct routes *r, struct owner *o, struct node *at, const struct segment *s) {
        for (struct node *child = at->children; child; child = child->next)
                if (child->n == s->n && memcmp(child->text, s->at, s->n) == 0) {
                        child->hits += child->hits < UINT32_MAX;
                        return child;
                }
        if (is_data(s))                            /* asked last: no child is, and it costs most */
                return star_of(o, at);
        if (!at->closed && at->n_children >= r->children_max)
                node_close(o, at);
        if (at->closed)
                return star_of(o, at);
        struct node *child = node_new(o, s->at, s->n);
        if (!child)
                return NULL;
        child->hits = 1;
        child->next = at->children;
        at->children = child;
        at->n_children++;
        return child;
}

static struct owner *owner_free(struct owner *o) {
        struct owner *next = o->next;
        children_free(o, &o->root);
        free(o);
        return next;
}

static struct owner **bucket_of(struct routes *r, uint64_t id) {
        return &r->buckets[(id * 0x9e3779b97f4a7c15ull) >> 56];
}

static void owner_evict(struct routes *r) {
        struct owner **oldest = NULL;
        for (size_t i = 0; i < BUCKETS; i++)
                for (struct owner **o = &r->buckets[i]; *o; o = &(*o)->next)
                        if (!oldest || (*o)->used < (*oldest)->used)
                                oldest = o;
        *oldest = owner_free(*oldest);
        r->n_owners--;
}

static struct owner *owner_of(struct routes *r, uint64_t id) {
        struct owner **bucket = bucket_of(r, id), *o = *bucket;
        while (o && o->id != id)
                o = o->next;
        if (!o) {
                if (r->n_owners == ROUTE_OWNERS_MAX)
                        owner_evict(r);
                o = calloc(1, sizeof(*o));
                if (!o)
                        return NULL;
                o->id = id;
                o->next = *bucket;
                *bucket = o;
                r->n_owners++;
        }
        o->used = ++r->uses;
        return o;
}

static size_t append(char *out, size_t at, const char *text, size_t n) {
        memcpy(out + at, text, n);
        out[at + n] = '\0';
        return at + n;
}

static size_t route_learned(struct routes *r, struct owner *o, const struct path *path, char *out) {
        struct node *at = &o->root;
        size_t n = 0;
        for (size_t i = 0; i < path->n; i++) {
                at = node_step(r, o, at, &path->at[i]);
                if (!at)
                        return append(out, 0, "/*", 2);
                n = append(out, append(out, n, "/", 1), at->text, at->n);
        }
        if (path->more)
                n = append(out, n, "/*", 2);
        bool *known = path->slash ? &at->route_slash : &at->route;
        if (!*known && o->n_routes == ROUTE_DISTINCT_MAX)
                return append(out, 0, "/*", 2);
        o->n_routes += at != &o->root && !*known;
        *known = true;
        return path->slash ? append(out, n, "/", 1) : n;
}

/* ---- Routes ---- */

int routes_new(const struct routes_options *options, struct routes **ret, char *reterr) {
        struct routes *r = calloc(1, sizeof(*r));
        if (!r)
                return -ENOMEM;
        r->ignore_mode = options->ignore_mode;
        r->unmatched = options->unmatched;
        r->children_max = options->children_max ? TEL_MIN(options->children_max, (size_t)ROUTE_NODES_MAX) : ROUTE_CHILDREN_MAX;
        int e = patterns_read(options->patterns, options->n_patterns, &r->patterns, reterr);
        if (e == 0)
                e = patterns_read(options->ignored, options->n_ignored, &r->ignored, reterr);
        if (e < 0) {
                routes_free(r);
                return e;
        }
        *ret = r;
        return 0;
}

struct routes *routes_free(struct routes *r) {
        if (!r)
                return NULL;
        for (size_t i = 0; i < BUCKETS; i++)
                while (r->buckets[i])
                        r->buckets[i] = owner_free(r->buckets[i]);
        free(r->patterns.at);
        free(r->ignored.at);
        free(r);
        return NULL;
}

/* The path as it is, without what is behind it; a long one ends in a "*" behind its last whole segment. */
static size_t route_path(const char *path, char *out) {
        size_t n = strcspn(path, "?#");
        if (n == 0)
                return append(out, 0, "/", 1);
        if (n < ROUTE_MAX)
                return append(out, 0, path, n);
        for (n = ROUTE_MAX - 3; n > 0 && path[n] != '/'; n--)
                ;
        return append(out, append(out, 0, path, n), "/*", 2);
}

size_t route_of(struct routes *r, uint64_t owner, const char *path, char *out, size_t n) {
        struct path split;
        assert(n >= ROUTE_MAX);
        out[0] = '\0';
        path = path_start(path);
        if (!path)
                return 0;
        path_split(path, &split);
        const struct pattern *p = patterns_match(&r->patterns, &split);
        if (p)
                return append(out, 0, p->text, strlen(p->text));
        switch (r->unmatched) {
        case UNMATCHED_UNSET:
                return 0;
        case UNMATCHED_WILDCARD:
                return append(out, 0, "/**", 3);
        case UNMATCHED_PATH:
                return route_path(path, out);
        case UNMATCHED_HEURISTIC:
                break;
        }
        if (split.n == 0)
                return append(out, 0, "/", 1);
        struct owner *o = owner_of(r, owner);
        return o ? route_learned(r, o, &split, out) : append(out, 0, "/*", 2);
}

unsigned route_ignored(const struct routes *r, const char *path) {
        static const unsigned left_out[] = {
                [IGNORE_ALL] = ROUTE_IGNORE_TRACES | ROUTE_IGNORE_METRICS, [IGNORE_TRACES] = ROUTE_IGNORE_TRACES,
                [IGNORE_METRICS] = ROUTE_IGNORE_METRICS,
        };
        struct path split;
        path = r->ignored.n > 0 ? path_start(path) : NULL;
        if (!path)
                return 0;
        path_split(path, &split);
        return patterns_match(&r->ignored, &split) ? left_out[r->ignore_mode] : 0;
}
