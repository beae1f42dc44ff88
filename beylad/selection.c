/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/selection.h"

#include <regex.h>

struct pattern {
        regex_t regex;
        bool set;
};

struct selection {
        struct settings_range ranges[SETTINGS_PORTS_MAX];
        size_t n;
        struct pattern executables, excluded;
};

static int pattern_init(struct pattern *p, const char *text) {
        if (*text == '\0')
                return 0;
        int r = regcomp(&p->regex, text, REG_EXTENDED | REG_NOSUB);
        p->set = r == 0;
        return r == 0 ? 0 : r == REG_ESPACE ? -ENOMEM : -EINVAL;
}

static bool pattern_matches(const struct pattern *p, const char *text) {
        return p->set && regexec(&p->regex, text, 0, NULL, 0) == 0;
}

static int add_ranges(struct selection *l, const char *text) {
        int r;
        struct settings_range range;
        while ((r = settings_range_next(&text, &range)) > 0) {
                if (l->n == TEL_ARRAY_LEN(l->ranges))
                        return -EINVAL;
                l->ranges[l->n++] = range;
        }
        return r;
}

int selection_new(const struct settings *s, struct selection **ret) {
        struct selection *l = calloc(1, sizeof(*l));
        if (!l)
                return -ENOMEM;
        int r = pattern_init(&l->executables, s->executables);
        if (r == 0)
                r = pattern_init(&l->excluded, s->exclude);
        for (size_t i = 0; i < s->open_ports.n && r == 0; i++)
                r = add_ranges(l, s->open_ports.values[i]);
        if (r < 0) {
                selection_free(l);
                return r;
        }
        *ret = l;
        return 0;
}

struct selection *selection_free(struct selection *l) {
        if (!l)
                return NULL;
        if (l->executables.set)
                regfree(&l->executables.regex);
        if (l->excluded.set)
                regfree(&l->excluded.regex);
        free(l);
        return NULL;
}

bool selection_any(const struct selection *l) {
        return l->n > 0 || l->executables.set;
}

bool selection_port(const struct selection *l, uint32_t port) {
        for (size_t i = 0; i < l->n; i++)
                if (port >= l->ranges[i].first && port <= l->ranges[i].last)
                        return true;
        return false;
}

bool selection_executable(const struct selection *l, const char *exe) {
        return pattern_matches(&l->executables, exe);
}

bool selection_excluded(const struct selection *l, const char *exe) {
        return pattern_matches(&l->excluded, exe);
}
