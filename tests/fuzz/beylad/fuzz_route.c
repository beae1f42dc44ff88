/* SPDX-License-Identifier: Apache-2.0 */
/* Routes for any paths: lines of the input; the first two are patterns, one of them of what is ignored. A route is a path of few bytes,
 * ASCII where it was learned, never has a query, and of each owner there are few. */
#include "beylad/route.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define OWNERS 2
/* Places close one after the other, each once, and what was named below becomes "*": so there may have been several times as many as at once. */
#define DISTINCT_EVER (20 * ROUTE_DISTINCT_MAX)

static uint64_t seen[OWNERS][DISTINCT_EVER];
static size_t n_seen[OWNERS];

static void see(unsigned owner, const char *route, size_t n) {
        uint64_t h = 1469598103934665603ull;
        for (size_t i = 0; i < n; i++)
                h = (h ^ (uint8_t)route[i]) * 1099511628211ull;
        for (size_t i = 0; i < n_seen[owner]; i++)
                if (seen[owner][i] == h)
                        return;
        if (n_seen[owner] == DISTINCT_EVER)
                abort();
        seen[owner][n_seen[owner]++] = h;
}

static bool line(const uint8_t **data, const uint8_t *end, char *out, size_t room) {
        size_t n = 0;
        if (*data == end)
                return false;
        for (; *data < end && **data != '\n'; (*data)++)
                if (n < room - 1 && **data)
                        out[n++] = (char)**data;
        out[n] = '\0';
        *data += *data < end;
        return true;
}

static void check(struct routes *r, unsigned owner, const char *path, enum unmatched_route unmatched) {
        char out[ROUTE_MAX];
        size_t n = route_of(r, owner, path, out, sizeof(out));
        if (n >= sizeof(out) || strlen(out) != n || (n > 0 && (out[0] != '/' || strpbrk(out, "?#"))))
                abort();
        if (unmatched != UNMATCHED_HEURISTIC)
                return;
        for (size_t i = 0; i < n; i++)
                if ((uint8_t)out[i] <= ' ' || (uint8_t)out[i] >= 0x7f)
                        abort();
        see(owner, out, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        char pattern[512] = "", ignored[512] = "", path[1200], error[ROUTE_PATTERN_MAX + 64];
        const uint8_t *end = data + n;
        struct routes *r = NULL, *plain = NULL;
        if (n < 1 || !line(&data, end, pattern, sizeof(pattern)) || !line(&data, end, ignored, sizeof(ignored)))
                return 0;
        enum unmatched_route unmatched = (unsigned char)pattern[0] % 4;
        const char *patterns = pattern + (*pattern != '\0'), *others = ignored;
        struct routes_options o = { .patterns = &patterns, .n_patterns = 1, .ignored = &others, .n_ignored = 1, .unmatched = unmatched };
        int rc = routes_new(&o, &r, error);
        if ((rc == 0) != (route_pattern_valid(patterns) && route_pattern_valid(others)))
                abort();
        rc = routes_new(&(struct routes_options){ 0 }, &plain, error);
        if (rc < 0)
                abort();
        memset(n_seen, 0, sizeof(n_seen));
        for (unsigned i = 0; line(&data, end, path, sizeof(path)); i++) {
                check(plain, i % OWNERS, path, UNMATCHED_HEURISTIC);
                if (!r)
                        continue;
                check(r, i % OWNERS, path, UNMATCHED_UNSET);
                if (route_ignored(r, path) > 3)
                        abort();
        }
        routes_free(r);
        routes_free(plain);
        return 0;
}
