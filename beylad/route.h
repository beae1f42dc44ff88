/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Routes: a path -> its http.route, which must have few values. The patterns of the settings first; what fits none has segments that look
 * like data replaced by "*", and where one place of a path shows more than a few different segments, that place becomes "*", too.
 * May touch: memory only; it learns from the paths it is asked for.
 *
 * Patterns: "/users/{id}" and "/users/:id" stand for one segment, and so does "*"; a "*" or "**" at the end stands for one or more. Where
 * several fit, the most specific wins: from the left, a text before a parameter before a "*" at the end. */
#include "beylad/settings.h"

#define ROUTE_MAX 512                              /* bytes of a route, with its NUL; what is longer ends in a "*" */
#define ROUTE_PATTERN_MAX 256                      /* bytes of a pattern */
#define ROUTE_SEGMENTS_MAX 16                      /* of a pattern or a learned route; the path may have more, they become one "*" */
#define ROUTE_DISTINCT_MAX 100                     /* learned routes of one owner; the next one is "/" "*" */
#define ROUTE_CHILDREN_MAX 10                      /* default: different segments at one place, as Beyla's max_path_segment_cardinality */
#define ROUTE_KEEP 100                             /* a segment asked for so often stays when its place becomes "*": an API has more than ten
                                                    * resources, but no user has so many requests before the eleventh user comes */
#define ROUTE_NODES_MAX 1024                       /* segments learned of one owner: 100 routes of ten */
#define ROUTE_OWNERS_MAX 256                       /* owners with learned routes; the one quiet longest goes */

struct routes;

struct routes_options {
        const char *const *patterns;               /* at most SETTINGS_PATTERNS_MAX; copied */
        size_t n_patterns;
        const char *const *ignored;                /* likewise */
        size_t n_ignored;
        enum ignore_mode ignore_mode;
        enum unmatched_route unmatched;
        size_t children_max;                       /* 0: ROUTE_CHILDREN_MAX */
};

/* Returns 0, -ENOMEM, or -EINVAL: reterr (ROUTE_PATTERN_MAX + 64 bytes) names the pattern that is none. */
int routes_new(const struct routes_options *options, struct routes **ret, char *reterr);
struct routes *routes_free(struct routes *r);      /* accepts NULL */

/* Whether pattern is one, for a check of settings: begins with "/" and holds to the bounds. */
bool route_pattern_valid(const char *pattern);

/* The route of path for owner, any number that tells processes (or services) apart. Writes it to out, n >= ROUTE_MAX bytes, with a NUL.
 * Returns its length; 0: it has none (UNMATCHED_UNSET, or the path is none: "*", "host:443", an absolute URL is cut to its path). */
size_t route_of(struct routes *r, uint64_t owner, const char *path, char *out, size_t n);

enum route_ignored { ROUTE_IGNORE_TRACES = 1, ROUTE_IGNORE_METRICS = 2 };
/* What path is left out of: bits of enum route_ignored, 0: of nothing. */
unsigned route_ignored(const struct routes *r, const char *path);
