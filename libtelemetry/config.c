/* SPDX-License-Identifier: Apache-2.0 */
#include "libtelemetry/config.h"

#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdarg.h>

#include "libtelemetry/config_text.h"

/* The state of one load. Documents: the one asked for, then its imports in order. */
struct load {
        struct config_text texts[1 + TEL_CONFIG_IMPORTS_MAX];
        size_t n_texts;
        struct tel_config_path path;               /* of the value at hand */
        char *reterr;
};

static void load_done(struct load *l) {
        for (size_t i = 0; i < l->n_texts; i++)
                config_text_done(l->texts + i);
}

static void strings_free(char **values, size_t n, bool secret) {
        for (size_t i = 0; i < n && values; i++) {
                if (secret && values[i])
                        explicit_bzero(values[i], strlen(values[i]));
                free(values[i]);
        }
        free(values);
}

/* ---- errors ---- */

/* Of the document that knows most of the path; a key that is absent has the place of the object it is absent from. */
static const char *find_place(const struct load *l, const char *path, struct config_place *ret) {
        size_t best = 0;
        const char *name = l->texts[0].name;
        config_text_find(l->texts, "", ret);
        for (size_t i = 0; i < l->n_texts; i++) {
                struct config_place at;
                size_t found = config_text_find(l->texts + i, path, &at);
                if (found > best) {
                        best = found;
                        name = l->texts[i].name;
                        *ret = at;
                }
        }
        return name;
}

static int out_of_memory(struct load *l) {
        snprintf(l->reterr, TEL_CONFIG_ERROR_MAX, "out of memory");
        return -ENOMEM;
}

/* "FILE:LINE:COLUMN: " and the sentence. */
static int fail_at(struct load *l, const char *name, struct config_place at, const char *fmt, ...) TEL_PRINTF(4, 5);
static int fail_at(struct load *l, const char *name, struct config_place at, const char *fmt, ...) {
        int n = snprintf(l->reterr, TEL_CONFIG_ERROR_MAX, "%.200s:%u:%u: ", name, at.line, at.column);
        va_list args;
        va_start(args, fmt);
        vsnprintf(l->reterr + n, TEL_CONFIG_ERROR_MAX - (size_t)n, fmt, args);
        va_end(args);
        return -EINVAL;
}

/* The same for the value at hand, with its key. */
static int fail(struct load *l, const char *fmt, ...) TEL_PRINTF(2, 3);
static int fail(struct load *l, const char *fmt, ...) {
        char text[TEL_CONFIG_ERROR_MAX];
        struct config_place at;
        const char *name = find_place(l, l->path.text, &at);
        va_list args;
        va_start(args, fmt);
        vsnprintf(text, sizeof(text), fmt, args);
        va_end(args);
        if (l->path.len == 0)
                return fail_at(l, name, at, "%s", text);
        return fail_at(l, name, at, "key '%s': %s", l->path.text, text);
}

/* '"gzip", "none"' into out; cut when it is long. */
static const char *quote_names(char *out, size_t size, const char *const *names) {
        size_t len = 0;
        out[0] = '\0';
        for (size_t i = 0; names[i] && len < size; i++)
                len += (size_t)snprintf(out + len, size - len, "%s\"%s\"", i ? ", " : "", names[i]);
        return out;
}

static void expected_text(const struct tel_config_key *k, char *out, size_t size) {
        static const char *const expected[TEL_CONFIG_TYPES] = {
                [TEL_CONFIG_BOOL] = "true or false", [TEL_CONFIG_INT] = "an integer", [TEL_CONFIG_STRING] = "a string",
                [TEL_CONFIG_SECRET] = "a string", [TEL_CONFIG_SIZE] = "a size like \"100MB\"",
                [TEL_CONFIG_DURATION] = "a duration like \"15s\"", [TEL_CONFIG_ENUM] = "one of ", [TEL_CONFIG_STRINGS] = "a list of strings",
                [TEL_CONFIG_ENUMS] = "a list of ", [TEL_CONFIG_MAP] = "an object of strings", [TEL_CONFIG_OBJECT] = "an object",
                [TEL_CONFIG_LIST] = "a list of objects", [TEL_CONFIG_NAMED] = "an object of named objects",
        };
        char names[160] = "";
        if (k->type == TEL_CONFIG_ENUM || k->type == TEL_CONFIG_ENUMS)
                quote_names(names, sizeof(names), k->names);
        int n = snprintf(out, size, "%s%s", expected[k->type], names);
        for (const struct tel_config_word *w = k->words; w && w->word; w++)
                n += snprintf(out + n, size - (size_t)n, " or \"%.20s\"", w->word);
}

/* What stands there instead. A string is shown as the document has it, before ${}, unless it may be secret. */
static const char *got_text(const struct tel_config_key *k, const json_t *v, char *out, size_t size) {
        static const char *const got[] = {
                [JSON_OBJECT] = "an object", [JSON_ARRAY] = "a list", [JSON_STRING] = "a string", [JSON_INTEGER] = "an integer",
                [JSON_REAL] = "a number with a fraction", [JSON_TRUE] = "true", [JSON_FALSE] = "false", [JSON_NULL] = "null",
        };
        snprintf(out, size, "%s", v ? got[json_typeof(v)] : "nothing");
        if (!json_is_string(v) || k->type == TEL_CONFIG_SECRET || (k->type == TEL_CONFIG_MAP && k->secret))
                return out;
        snprintf(out, size, "\"%.60s\"", json_string_value(v));
        for (char *c = out; *c; c++)
                if ((unsigned char)*c < 0x20 || *c == 0x7f)
                        *c = '?';
        return out;
}

/* v: NULL when the key is absent. */
static int fail_expected(struct load *l, const struct tel_config_key *k, const json_t *v) {
        char expected[256], got[80];
        expected_text(k, expected, sizeof(expected));
        return fail(l, "expected %s, got %s", expected, got_text(k, v, got, sizeof(got)));
}

static int fail_bounds(struct load *l, const struct tel_config_key *k, uint64_t v) {
        char min[TEL_CONFIG_VALUE_MAX], max[TEL_CONFIG_VALUE_MAX], got[TEL_CONFIG_VALUE_MAX];
        if (k->type == TEL_CONFIG_INT)
                return fail(l, "expected an integer from %" PRId64 " to %" PRId64 ", got %" PRId64, k->min, k->max, (int64_t)v);
        if (k->type == TEL_CONFIG_SIZE)
                return fail(l, "expected a size from %s to %s, got %s", tel_config_format_size(min, (uint64_t)k->min),
                            tel_config_format_size(max, (uint64_t)k->max), tel_config_format_size(got, v));
        return fail(l, "expected a duration from %s to %s, got %s", tel_config_format_duration(min, (uint64_t)k->min),
                    tel_config_format_duration(max, (uint64_t)k->max), tel_config_format_duration(got, v));
}

/* ---- unknown keys ---- */

#define KEY_MAX 48                                 /* bytes of a key that a guess is made for; the longest in any table has half */

/* Letters to insert, drop, change or swap with a neighbour until a is b (optimal string alignment). */
static unsigned distance(const char *a, const char *b) {
        unsigned d[KEY_MAX + 1][KEY_MAX + 1];
        size_t na = strlen(a), nb = strlen(b);
        if (na > KEY_MAX || nb > KEY_MAX)
                return UINT_MAX;
        for (unsigned i = 0; i <= na; i++)
                d[i][0] = i;
        for (unsigned j = 0; j <= nb; j++)
                d[0][j] = j;
        for (size_t i = 1; i <= na; i++) {
                for (size_t j = 1; j <= nb; j++) {
                        unsigned change = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]), one_more = TEL_MIN(d[i - 1][j], d[i][j - 1]) + 1;
                        d[i][j] = TEL_MIN(change, one_more);
                        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                                d[i][j] = TEL_MIN(d[i][j], d[i - 2][j - 2] + 1);
                }
        }
        return d[na][nb];
}

static int fail_unknown(struct load *l, const struct tel_config_key *table, const char *key) {
        const char *near = NULL;
        unsigned best = UINT_MAX;
        struct config_place at;
        const char *name;
        for (const struct tel_config_key *k = table; k->key; k++) {
                unsigned d = distance(key, k->key);
                if (d < best) {
                        best = d;
                        near = k->key;
                }
        }
        tel_config_path_key(&l->path, key, strlen(key));
        name = find_place(l, l->path.text, &at);
        size_t slip = near ? TEL_MIN(strlen(key), strlen(near)) / 3 : 0;           /* a third of it is wrong: still the same word */
        if (near && best <= TEL_MAX(slip, 1u))
                return fail_at(l, name, at, "unknown key '%s', did you mean '%s'?", l->path.text, near);
        return fail_at(l, name, at, "unknown key '%s'", l->path.text);
}

/* Keys of the top that belong to the reader: they stand in no table. */
static bool is_own_key(const struct load *l, const char *key) {
        return l->path.len == 0 && (strcmp(key, "import") == 0 || strcmp(key, "$schema") == 0);
}

static int check_known(struct load *l, const struct tel_config_key *table, json_t *object) {
        const char *key;
        json_t *v;
        json_object_foreach(object, key, v) {
                const struct tel_config_key *k = table;
                while (k->key && strcmp(k->key, key) != 0)
                        k++;
                if (!k->key && !is_own_key(l, key))
                        return fail_unknown(l, table, key);
        }
        return 0;
}

/* ---- values: apply_x() checks v and fills the member, which is zero before ---- */

static int apply_table(struct load *l, const struct tel_config_key *table, json_t *object, void *base);

static int string_of(struct load *l, const struct tel_config_key *k, const json_t *v, char **ret) {
        char why[CONFIG_WHY_MAX];
        if (!json_is_string(v))
                return fail_expected(l, k, v);
        int r = config_expand(json_string_value(v), ret, why);
        if (r == -ENOMEM)
                return out_of_memory(l);
        return r < 0 ? fail(l, "%s", why) : 0;
}

static int too_many(struct load *l, const struct tel_config_key *k, size_t n) {
        size_t max = k->n_max ? k->n_max : TEL_CONFIG_LIST_MAX;
        return n > max ? fail(l, "expected at most %zu entries, got %zu", max, n) : 0;
}

static int apply_bool(struct load *l, const struct tel_config_key *k, json_t *v, void *member) {
        if (!json_is_boolean(v))
                return fail_expected(l, k, v);
        *(bool *)member = json_is_true(v);
        return 0;
}

static int apply_int(struct load *l, const struct tel_config_key *k, json_t *v, void *member) {
        if (!json_is_integer(v))
                return fail_expected(l, k, v);
        int64_t n = json_integer_value(v);
        if ((k->min || k->max) && (n < k->min || n > k->max))
                return fail_bounds(l, k, (uint64_t)n);
        *(int64_t *)member = n;
        return 0;
}

static int apply_string(struct load *l, const struct tel_config_key *k, json_t *v, void *member) {
        return string_of(l, k, v, member);
}

/* SIZE and DURATION. */
static int apply_quantity(struct load *l, const struct tel_config_key *k, json_t *v, void *member) {
        TEL_CLEANUP_FREE char *text = NULL;
        uint64_t n = 0;
        int r = 0;
        if (k->type == TEL_CONFIG_SIZE && json_is_integer(v) && json_integer_value(v) >= 0) {
                n = (uint64_t)json_integer_value(v);
        } else {
                if (!json_is_string(v))
                        return fail_expected(l, k, v);
                r = string_of(l, k, v, &text);
                if (r < 0)
                        return r;
                for (const struct tel_config_word *w = k->words; w && w->word; w++) {
                        if (strcmp(w->word, text) == 0) {
                                *(uint64_t *)member = w->value;
                                return 0;
                        }
                }
                r = k->type == TEL_CONFIG_SIZE ? tel_config_parse_size(text, &n) : tel_config_parse_duration(text, &n);
        }
        if (r < 0)
                return fail_expected(l, k, v);
        if ((k->min || k->max) && (n < (uint64_t)k->min || n > (uint64_t)k->max))
                return fail_bounds(l, k, n);
        *(uint64_t *)member = n;
        return 0;
}

static int name_of(struct load *l, const struct tel_config_key *k, json_t *v, int *ret) {
        TEL_CLEANUP_FREE char *text = NULL;
        int r = string_of(l, k, v, &text);
        if (r < 0)
                return r;
        for (int i = 0; k->names[i]; i++) {
                if (strcmp(k->names[i], text) == 0) {
                        *ret = i;
                        return 0;
                }
        }
        return fail_expected(l, k, v);
}

static int apply_enum(struct load *l, const struct tel_config_key *k, json_t *v, void *member) {
        return name_of(l, k, v, member);
}

static int apply_enums(struct load *l, const struct tel_config_key *k, json_t *v, void *member) {
        uint64_t bits = 0;
        size_t at, len = l->path.len;
        json_t *item;
        if (!json_is_array(v))
                return fail_expected(l, k, v);
        json_array_foreach(v, at, item) {
                int bit = 0;
                tel_config_path_index(&l->path, at);
                int r = name_of(l, &(struct tel_config_key){ .type = TEL_CONFIG_ENUM, .names = k->names }, item, &bit);
                if (r < 0)
                        return r;
                if (bits & 1ull << bit)
                        return fail(l, "\"%s\" stands in the list twice", k->names[bit]);
                bits |= 1ull << bit;
                tel_config_path_cut(&l->path, len);
        }
        *(uint64_t *)member = bits;
        return 0;
}

static int apply_strings(struct load *l, const struct tel_config_key *k, json_t *v, void *member) {
        struct tel_config_strings *to = member;
        size_t at, len = l->path.len;
        json_t *item;
        if (!json_is_array(v))
                return fail_expected(l, k, v);
        int r = too_many(l, k, json_array_size(v));
        if (r < 0 || json_array_size(v) == 0)
                return r;
        to->values = calloc(json_array_size(v), sizeof(*to->values));
        if (!to->values)
                return out_of_memory(l);
        json_array_foreach(v, at, item) {
                tel_config_path_index(&l->path, at);
                r = string_of(l, &(struct tel_config_key){ .type = TEL_CONFIG_STRING }, item, to->values + at);
                if (r < 0)
                        return r;
                to->n = at + 1;
                tel_config_path_cut(&l->path, len);
        }
        return 0;
}

static int apply_map(struct load *l, const struct tel_config_key *k, json_t *v, void *member) {
        struct tel_config_map *to = member;
        size_t len = l->path.len;
        const char *key;
        json_t *item;
        if (!json_is_object(v))
                return fail_expected(l, k, v);
        int r = too_many(l, k, json_object_size(v));
        if (r < 0 || json_object_size(v) == 0)
                return r;
        to->keys = calloc(json_object_size(v), sizeof(*to->keys));
        to->values = calloc(json_object_size(v), sizeof(*to->values));
        if (!to->keys || !to->values)
                return out_of_memory(l);
        json_object_foreach(v, key, item) {
                struct tel_config_key value = { .type = k->secret ? TEL_CONFIG_SECRET : TEL_CONFIG_STRING };
                tel_config_path_key(&l->path, key, strlen(key));
                size_t i = to->n++;                /* counted first: the end frees what is half there */
                to->keys[i] = strdup(key);
                if (!to->keys[i])
                        return out_of_memory(l);
                r = string_of(l, &value, item, to->values + i);
                if (r < 0)
                        return r;
                tel_config_path_cut(&l->path, len);
        }
        return 0;
}

static int apply_object(struct load *l, const struct tel_config_key *k, json_t *v, void *member) {
        if (!json_is_object(v))
                return fail_expected(l, k, v);
        return apply_table(l, k->table, v, member);
}

static int apply_list(struct load *l, const struct tel_config_key *k, json_t *v, void *member) {
        struct tel_config_list *to = member;
        size_t at, len = l->path.len;
        json_t *item;
        if (!json_is_array(v))
                return fail_expected(l, k, v);
        int r = too_many(l, k, json_array_size(v));
        if (r < 0 || json_array_size(v) == 0)
                return r;
        to->items = calloc(json_array_size(v), k->size);
        if (!to->items)
                return out_of_memory(l);
        to->n = json_array_size(v);
        json_array_foreach(v, at, item) {
                tel_config_path_index(&l->path, at);
                r = apply_object(l, &(struct tel_config_key){ .type = TEL_CONFIG_OBJECT, .table = k->table }, item,
                                 (char *)to->items + at * k->size);
                if (r < 0)
                        return r;
                tel_config_path_cut(&l->path, len);
        }
        return 0;
}

static bool is_name(const char *s) {
        size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
        return n > 0 && n <= TEL_CONFIG_NAME_MAX && s[n] == '\0';
}

static int apply_named(struct load *l, const struct tel_config_key *k, json_t *v, void *member) {
        struct tel_config_list *to = member;
        size_t at = 0, len = l->path.len;
        const char *name;
        json_t *item;
        if (!json_is_object(v))
                return fail_expected(l, k, v);
        int r = too_many(l, k, json_object_size(v));
        if (r < 0 || json_object_size(v) == 0)
                return r;
        to->items = calloc(json_object_size(v), k->size);
        if (!to->items)
                return out_of_memory(l);
        to->n = json_object_size(v);
        json_object_foreach(v, name, item) {
                char *base = (char *)to->items + at++ * k->size;
                tel_config_path_key(&l->path, name, strlen(name));
                if (!is_name(name))
                        return fail(l, "expected a name of 1 to %d letters, digits, '_' and '-'", TEL_CONFIG_NAME_MAX);
                *(char **)base = strdup(name);
                if (!*(char **)base)
                        return out_of_memory(l);
                r = apply_object(l, &(struct tel_config_key){ .type = TEL_CONFIG_OBJECT, .table = k->table }, item, base);
                if (r < 0)
                        return r;
                tel_config_path_cut(&l->path, len);
        }
        return 0;
}

static int (*const apply[TEL_CONFIG_TYPES])(struct load *l, const struct tel_config_key *k, json_t *v, void *member) = {
        [TEL_CONFIG_BOOL] = apply_bool,         [TEL_CONFIG_INT] = apply_int,       [TEL_CONFIG_STRING] = apply_string,
        [TEL_CONFIG_SECRET] = apply_string,     [TEL_CONFIG_SIZE] = apply_quantity, [TEL_CONFIG_DURATION] = apply_quantity,
        [TEL_CONFIG_ENUM] = apply_enum,         [TEL_CONFIG_ENUMS] = apply_enums,   [TEL_CONFIG_STRINGS] = apply_strings,
        [TEL_CONFIG_MAP] = apply_map,           [TEL_CONFIG_OBJECT] = apply_object, [TEL_CONFIG_LIST] = apply_list,
        [TEL_CONFIG_NAMED] = apply_named,
};

static int apply_key(struct load *l, const struct tel_config_key *k, json_t *v, void *member) {
        json_auto_t *fallback = NULL;
        json_error_t e = { 0 };
        if (!v) {
                const char *text = k->type == TEL_CONFIG_OBJECT ? "{}" : k->fallback;
                if (!text)
                        return fail_expected(l, k, NULL);
                fallback = json_loads(text, JSON_DECODE_ANY, &e);
                if (!fallback && json_error_code(&e) == json_error_out_of_memory)
                        return out_of_memory(l);
                assert(fallback);                  /* the table is ours */
                v = fallback;
        }
        return apply[k->type](l, k, v, member);
}

static int apply_table(struct load *l, const struct tel_config_key *table, json_t *object, void *base) {
        int r = check_known(l, table, object);
        for (const struct tel_config_key *k = table; r == 0 && k->key; k++) {
                size_t len = l->path.len;
                tel_config_path_key(&l->path, k->key, strlen(k->key));
                r = apply_key(l, k, json_object_get(object, k->key), (char *)base + k->offset);
                if (r == 0)
                        tel_config_path_cut(&l->path, len);
        }
        return r;
}

/* ---- documents ---- */

/* A key that stands twice in one object: named with both places, which jansson's own message lacks. */
static int fail_duplicate(struct load *l, const struct config_text *t, size_t offset) {
        struct config_place second, first;
        struct tel_config_path path;
        config_text_before(t, offset, &path, &second);
        config_text_find(t, path.text, &first);
        return fail_at(l, t->name, second, "key '%s' stands in line %u already", path.text, first.line);
}

/* text as one more document of l, and as *ret. */
static int document_parse(struct load *l, const char *file, const char *text, size_t n, json_t **ret) {
        struct config_text *t = l->texts + l->n_texts;
        struct config_place at;
        json_error_t e = { 0 };
        char why[CONFIG_WHY_MAX];
        int r = config_text_init(t, file, text, n, &at, why);
        if (r < 0)
                return r == -ENOMEM ? out_of_memory(l) : fail_at(l, file, at, "%s", why);
        l->n_texts++;
        json_auto_t *doc = json_loadb(t->text, t->len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
        if (!doc && json_error_code(&e) == json_error_out_of_memory)
                return out_of_memory(l);
        if (!doc && json_error_code(&e) == json_error_duplicate_key)
                return fail_duplicate(l, t, (size_t)TEL_MAX(e.position, 0));
        if (!doc) {
                char *near = strstr(e.text, " near '");
                if (near)
                        *near = '\0';              /* what stands there may be a secret */
                at = (struct config_place){ (unsigned)TEL_MAX(e.line, 1), (unsigned)TEL_MAX(e.column, 1) };
                return fail_at(l, t->name, at, "not JSON: %s", e.text);
        }
        if (!json_is_object(doc)) {
                char got[80];
                config_text_find(t, "", &at);
                return fail_at(l, t->name, at, "expected an object, got %s",
                               got_text(&(struct tel_config_key){ .type = TEL_CONFIG_SECRET }, doc, got, sizeof(got)));
        }
        *ret = TEL_TAKE(doc);
        return 0;
}

/* Joins from, the last document of l, into into: objects key by key. No value overrides another, in whichever order files come. */
static int merge(struct load *l, json_t *into, json_t *from) {
        size_t len = l->path.len;
        const char *key;
        json_t *v;
        json_object_foreach(from, key, v) {
                json_t *have = json_object_get(into, key);
                int r = 0;
                tel_config_path_key(&l->path, key, strlen(key));
                if (!have) {
                        r = json_object_set(into, key, v) < 0 ? out_of_memory(l) : 0;
                } else if (json_is_object(have) && json_is_object(v)) {
                        r = merge(l, have, v);
                } else {
                        struct config_place at, other_at;
                        const struct config_text *t = l->texts + l->n_texts - 1;
                        config_text_find(t, l->path.text, &at);
                        l->n_texts--;              /* look in the others only */
                        const char *other = find_place(l, l->path.text, &other_at);
                        l->n_texts++;
                        r = fail_at(l, t->name, at, "key '%s' stands in %.100s:%u already", l->path.text, other, other_at.line);
                }
                if (r < 0)
                        return r;
                tel_config_path_cut(&l->path, len);
        }
        return 0;
}

static int import_one(struct load *l, json_t *root, const char *name) {
        json_auto_t *doc = NULL;
        TEL_CLEANUP_FREE char *text = NULL;
        TEL_CLEANUP_FREE char *path = NULL;
        char why[CONFIG_WHY_MAX];
        size_t n = 0;
        const char *slash = name[0] == '/' ? NULL : strrchr(l->texts[0].name, '/');
        int folder = slash ? (int)(slash + 1 - l->texts[0].name) : 0;
        if (asprintf(&path, "%.*s%s", folder, l->texts[0].name, name) < 0) {
                path = NULL;
                return out_of_memory(l);
        }
        int r = config_file_read(path, TEL_CONFIG_FILE_MAX, &text, &n, why);
        if (r < 0)
                return r == -ENOMEM ? out_of_memory(l) : fail(l, "cannot read '%.200s': %s", path, why);
        r = document_parse(l, path, text, n, &doc);
        if (r < 0)
                return r;
        json_object_del(doc, "$schema");           /* each document may have its own */
        if (json_object_get(doc, "import")) {
                struct config_place at;
                config_text_find(l->texts + l->n_texts - 1, "import", &at);
                return fail_at(l, path, at, "key 'import': a document that is imported imports no more");
        }
        struct tel_config_path here = l->path;
        l->path = (struct tel_config_path){ 0 };
        r = merge(l, root, doc);
        l->path = here;
        return r;
}

static int import_all(struct load *l, json_t *root) {
        struct tel_config_key key = { .type = TEL_CONFIG_STRINGS, .n_max = TEL_CONFIG_IMPORTS_MAX };
        struct tel_config_strings names = { 0 };
        json_t *v = json_object_get(root, "import");
        if (!v)
                return 0;
        tel_config_path_key(&l->path, "import", strlen("import"));
        size_t len = l->path.len;
        int r = apply_strings(l, &key, v, &names);
        for (size_t i = 0; i < names.n && r == 0; i++) {
                tel_config_path_index(&l->path, i);
                r = import_one(l, root, names.values[i]);
                tel_config_path_cut(&l->path, len);
        }
        strings_free(names.values, names.n, false);
        tel_config_path_cut(&l->path, 0);
        return r;
}

int tel_config_parse(const struct tel_config_key *table, tel_config_check check, const char *file, const char *text, size_t n, void *out,
                     char *reterr) {
        TEL_CLEANUP(load_done) struct load l = { .reterr = reterr };
        json_auto_t *root = NULL;
        struct tel_config_fault fault = { 0 };
        int r = document_parse(&l, file, text, n, &root);
        if (r == 0)
                r = import_all(&l, root);
        if (r == 0)
                r = apply_table(&l, table, root, out);
        if (r < 0 || !check)
                return r;
        r = check(out, &fault);
        if (r == -ENOMEM)
                return out_of_memory(&l);
        l.path = fault.path;
        return r < 0 ? fail(&l, "%s", fault.text) : 0;
}

int tel_config_load(const struct tel_config_key *table, tel_config_check check, const char *file, void *out, char *reterr) {
        TEL_CLEANUP_FREE char *text = NULL;
        char why[CONFIG_WHY_MAX];
        size_t n = 0;
        int r = config_file_read(file, TEL_CONFIG_FILE_MAX, &text, &n, why);
        if (r < 0) {
                snprintf(reterr, TEL_CONFIG_ERROR_MAX, "%.200s: %s", file, why);
                return r;
        }
        return tel_config_parse(table, check, file, text, n, out, reterr);
}

/* ---- the end ---- */

static void members_done(const struct tel_config_key *table, void *base);

static void items_done(const struct tel_config_key *k, struct tel_config_list *list) {
        for (size_t i = 0; i < list->n && list->items; i++) {
                char *item = (char *)list->items + i * k->size;
                if (k->type == TEL_CONFIG_NAMED)
                        free(*(char **)item);
                members_done(k->table, item);
        }
        free(list->items);
}

static void members_done(const struct tel_config_key *table, void *base) {
        for (const struct tel_config_key *k = table; k->key; k++) {
                void *member = (char *)base + k->offset;
                if (k->type == TEL_CONFIG_SECRET && *(char **)member)
                        explicit_bzero(*(char **)member, strlen(*(char **)member));
                if (k->type == TEL_CONFIG_STRING || k->type == TEL_CONFIG_SECRET) {
                        free(*(char **)member);
                } else if (k->type == TEL_CONFIG_STRINGS) {
                        struct tel_config_strings *s = member;
                        strings_free(s->values, s->n, false);
                } else if (k->type == TEL_CONFIG_MAP) {
                        struct tel_config_map *m = member;
                        strings_free(m->keys, m->n, false);
                        strings_free(m->values, m->n, k->secret);
                } else if (k->type == TEL_CONFIG_OBJECT) {
                        members_done(k->table, member);
                } else if (k->type == TEL_CONFIG_LIST || k->type == TEL_CONFIG_NAMED) {
                        items_done(k, member);
                }
        }
}

void tel_config_done(const struct tel_config_key *table, void *out, size_t size) {
        if (!out)
                return;
        members_done(table, out);
        memset(out, 0, size);
}
