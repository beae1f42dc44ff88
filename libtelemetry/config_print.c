/* SPDX-License-Identifier: Apache-2.0 */
#include "libtelemetry/config.h"

#include <inttypes.h>
#include <jansson.h>

static int json_finish(json_t *doc, FILE *to) {
        if (!doc)
                return -ENOMEM;
        if (json_dumpf(doc, to, JSON_INDENT(2)) < 0 || fputc('\n', to) == EOF)
                return -EIO;
        return 0;
}

/* Puts value, which it takes, under key. Returns false when either is out of memory. */
static bool put(json_t *object, const char *key, json_t *value) {
        return value && json_object_set_new(object, key, value) == 0;
}

/* ---- the effective document ---- */

/* With "$$" for each "$", so that what ${} brought in is not taken for another one. */
static json_t *string_json(const char *s) {
        if (!s)
                s = "";
        if (!strchr(s, '$'))
                return json_string(s);
        TEL_CLEANUP_FREE char *doubled = malloc(2 * strlen(s) + 1);
        if (!doubled)
                return NULL;
        char *to = doubled;
        for (; *s; s++) {
                if (*s == '$')
                        *to++ = '$';
                *to++ = *s;
        }
        *to = '\0';
        return json_string(doubled);
}

/* An empty one stays visible as such: it means that none is set. */
static json_t *secret_json(const char *s) {
        return json_string(s && *s ? "<secret>" : "");
}

static json_t *quantity_json(const struct tel_config_key *k, uint64_t v) {
        char text[TEL_CONFIG_VALUE_MAX];
        for (const struct tel_config_word *w = k->words; w && w->word; w++)
                if (w->value == v)
                        return json_string(w->word);
        return json_string(k->type == TEL_CONFIG_SIZE ? tel_config_format_size(text, v) : tel_config_format_duration(text, v));
}

static json_t *names_json(const struct tel_config_key *k, uint64_t bits) {
        json_auto_t *list = json_array();
        for (unsigned i = 0; list && k->names[i]; i++)
                if ((bits & 1ull << i) && json_array_append_new(list, json_string(k->names[i])) < 0)
                        return NULL;
        return TEL_TAKE(list);
}

static json_t *strings_json(const struct tel_config_strings *s) {
        json_auto_t *list = json_array();
        for (size_t i = 0; list && i < s->n; i++)
                if (json_array_append_new(list, string_json(s->values[i])) < 0)
                        return NULL;
        return TEL_TAKE(list);
}

static json_t *map_json(const struct tel_config_key *k, const struct tel_config_map *m) {
        json_auto_t *object = json_object();
        for (size_t i = 0; object && i < m->n; i++)
                if (!put(object, m->keys[i], k->secret ? secret_json(m->values[i]) : string_json(m->values[i])))
                        return NULL;
        return TEL_TAKE(object);
}

static json_t *table_json(const struct tel_config_key *table, const void *base);

static json_t *list_json(const struct tel_config_key *k, const struct tel_config_list *l) {
        json_auto_t *list = json_array();
        for (size_t i = 0; list && i < l->n; i++)
                if (json_array_append_new(list, table_json(k->table, (char *)l->items + i * k->size)) < 0)
                        return NULL;
        return TEL_TAKE(list);
}

static json_t *named_json(const struct tel_config_key *k, const struct tel_config_list *l) {
        json_auto_t *object = json_object();
        for (size_t i = 0; object && i < l->n; i++) {
                const char *item = (const char *)l->items + i * k->size;
                if (!put(object, *(char *const *)item, table_json(k->table, item)))
                        return NULL;
        }
        return TEL_TAKE(object);
}

static json_t *value_json(const struct tel_config_key *k, const void *member) {
        switch (k->type) {
        case TEL_CONFIG_BOOL:
                return json_boolean(*(const bool *)member);
        case TEL_CONFIG_INT:
                return json_integer(*(const int64_t *)member);
        case TEL_CONFIG_STRING:
                return string_json(*(char *const *)member);
        case TEL_CONFIG_SECRET:
                return secret_json(*(char *const *)member);
        case TEL_CONFIG_SIZE:
        case TEL_CONFIG_DURATION:
                return quantity_json(k, *(const uint64_t *)member);
        case TEL_CONFIG_ENUM:
                return json_string(k->names[*(const int *)member]);
        case TEL_CONFIG_STRINGS:
                return strings_json(member);
        case TEL_CONFIG_ENUMS:
                return names_json(k, *(const uint64_t *)member);
        case TEL_CONFIG_MAP:
                return map_json(k, member);
        case TEL_CONFIG_OBJECT:
                return table_json(k->table, member);
        case TEL_CONFIG_LIST:
                return list_json(k, member);
        case TEL_CONFIG_NAMED:
                return named_json(k, member);
        case TEL_CONFIG_TYPES:
                break;
        }
        assert(!"a type of the table");
        return NULL;
}

static json_t *table_json(const struct tel_config_key *table, const void *base) {
        json_auto_t *object = json_object();
        for (const struct tel_config_key *k = table; object && k->key; k++)
                if (!put(object, k->key, value_json(k, (const char *)base + k->offset)))
                        return NULL;
        return TEL_TAKE(object);
}

int tel_config_print(const struct tel_config_key *table, const void *in, FILE *to) {
        json_auto_t *doc = table_json(table, in);
        return json_finish(doc, to);
}

/* ---- docs/config.md ---- */

static bool has_table(const struct tel_config_key *k) {
        return k->type == TEL_CONFIG_OBJECT || k->type == TEL_CONFIG_LIST || k->type == TEL_CONFIG_NAMED;
}

/* The path of a nested table in headings: listen, destinations.NAME, destinations.NAME.drop[]. */
static struct tel_config_path section_path(const struct tel_config_path *in, const struct tel_config_key *k) {
        struct tel_config_path p = *in;
        tel_config_path_key(&p, k->key, strlen(k->key));
        if (k->type == TEL_CONFIG_NAMED)
                tel_config_path_key(&p, "NAME", strlen("NAME"));
        int n = k->type == TEL_CONFIG_LIST ? snprintf(p.text + p.len, sizeof(p.text) - p.len, "[]") : 0;
        p.len += n > 0 && (size_t)n < sizeof(p.text) - p.len ? (size_t)n : 0;
        return p;
}

/* As renderers make anchors of headings: lower case, dots and brackets left out. */
static void print_anchor(const char *heading, FILE *to) {
        for (; *heading; heading++)
                if (!strchr(".[]", *heading))
                        fputc(*heading >= 'A' && *heading <= 'Z' ? *heading | 0x20 : *heading, to);
}

static void print_names(const struct tel_config_key *k, FILE *to) {
        for (size_t i = 0; k->names[i]; i++)
                fprintf(to, "%s`\"%s\"`", i ? ", " : "", k->names[i]);
}

static void print_type(const struct tel_config_path *in, const struct tel_config_key *k, FILE *to) {
        static const char *const types[TEL_CONFIG_TYPES] = {
                [TEL_CONFIG_BOOL] = "true or false", [TEL_CONFIG_INT] = "integer", [TEL_CONFIG_STRING] = "string",
                [TEL_CONFIG_SECRET] = "string, secret", [TEL_CONFIG_SIZE] = "size", [TEL_CONFIG_DURATION] = "duration",
                [TEL_CONFIG_ENUM] = "one of ", [TEL_CONFIG_STRINGS] = "list of strings", [TEL_CONFIG_ENUMS] = "list of ",
                [TEL_CONFIG_MAP] = "object of strings", [TEL_CONFIG_OBJECT] = "object", [TEL_CONFIG_LIST] = "list of objects",
                [TEL_CONFIG_NAMED] = "objects by name",
        };
        if (has_table(k)) {
                struct tel_config_path section = section_path(in, k);
                fprintf(to, "[%s](#", types[k->type]);
                print_anchor(section.text, to);
                fputc(')', to);
                return;
        }
        fputs(types[k->type], to);
        if (k->names)
                print_names(k, to);
        if (k->unit)
                fprintf(to, ", %s", k->unit);
        if (k->type == TEL_CONFIG_MAP && k->secret)
                fputs(", secret", to);
        for (const struct tel_config_word *w = k->words; w && w->word; w++)
                fprintf(to, " or `\"%s\"`", w->word);
}

static bool is_counted(const struct tel_config_key *k) {
        return k->type == TEL_CONFIG_STRINGS || k->type == TEL_CONFIG_MAP || k->type == TEL_CONFIG_LIST || k->type == TEL_CONFIG_NAMED;
}

static void print_bounds(const struct tel_config_key *k, FILE *to) {
        char min[TEL_CONFIG_VALUE_MAX], max[TEL_CONFIG_VALUE_MAX];
        if (is_counted(k))
                fprintf(to, "at most %zu", k->n_max ? k->n_max : TEL_CONFIG_LIST_MAX);
        else if (!k->min && !k->max)
                return;
        else if (k->type == TEL_CONFIG_INT)
                fprintf(to, "%" PRId64 " to %" PRId64, k->min, k->max);
        else if (k->type == TEL_CONFIG_SIZE)
                fprintf(to, "%s to %s", tel_config_format_size(min, (uint64_t)k->min), tel_config_format_size(max, (uint64_t)k->max));
        else
                fprintf(to, "%s to %s", tel_config_format_duration(min, (uint64_t)k->min), tel_config_format_duration(max, (uint64_t)k->max));
}

/* A bar would end the cell. */
static void print_cell(const char *text, FILE *to) {
        for (; *text; text++)
                fprintf(to, *text == '|' ? "\\%c" : "%c", *text);
}

static void print_section(const struct tel_config_path *path, const struct tel_config_key *table, FILE *to) {
        fputs("\n| Key | Type | Default | Bounds | Meaning |\n|---|---|---|---|---|\n", to);
        for (const struct tel_config_key *k = table; k->key; k++) {
                fprintf(to, "| `%s` | ", k->key);
                print_type(path, k, to);
                if (k->fallback) {
                        fputs(" | `", to);
                        print_cell(k->fallback, to);
                        fputs("` | ", to);
                } else
                        fputs(k->type == TEL_CONFIG_OBJECT ? " |  | " : " | required | ", to);
                print_bounds(k, to);
                fputs(" | ", to);
                print_cell(k->text, to);
                fputs(" |\n", to);
        }
        for (const struct tel_config_key *k = table; k->key; k++) {
                if (!has_table(k))
                        continue;
                struct tel_config_path section = section_path(path, k);
                fprintf(to, "\n## %s\n%s\n", section.text, k->text);
                print_section(&section, k->table, to);
        }
}

static const char values_text[] =
        "\n## Values\n"
        "The document is JSON (UTF-8). `//` starts a comment that ends with its line. A key that is not listed here, or that stands twice, is an\n"
        "error; every error names file, line, column and key.\n\n"
        "| Type | Written as |\n|---|---|\n"
        "| size | bytes as an integer, or `\"100MB\"`: `B KB MB GB TB` count in thousands, `KiB MiB GiB TiB` in 1024s |\n"
        "| duration | `\"500ms\"`, `\"15s\"`, `\"5m\"`, `\"1h\"`, `\"7d\"`, or several from large to small: `\"1h30m\"` |\n"
        "| secret | a string that no output shows: `--print-config` writes `\"<secret>\"` |\n\n"
        "Inside any string `${NAME}` is replaced by the environment variable, which must be set but may be empty, and `${file:/path}` by the\n"
        "contents of a file, without the newline at its end. `$$` is a literal `$`.\n\n"
        "Two keys may stand at the top of every document: `\"$schema\"`, for editors, is ignored; `\"import\": [\"more.json\"]` merges at most 16\n"
        "other documents, named relative to the one that imports. Objects merge key by key; a value that stands in two documents is an error\n"
        "that names both places. An imported document imports no more.\n";

int tel_config_print_markdown(const struct tel_config_key *table, const char *title, const char *intro, FILE *to) {
        struct tel_config_path top = { 0 };
        fprintf(to, "# %s\n%s%s\n## Top level\n", title, intro ? intro : "", values_text);
        print_section(&top, table, to);
        return ferror(to) ? -EIO : 0;
}

/* ---- JSON schema ---- */

/* Any string may hold ${}, whose value an editor cannot know. */
#define EXPANDED "\\$\\{"
#define NAME_PATTERN "^[A-Za-z0-9_-]{1,63}$"       /* TEL_CONFIG_NAME_MAX */

static bool put_pattern(json_t *o, const struct tel_config_key *k) {
        char text[512];
        const char *number = k->type == TEL_CONFIG_SIZE ? "\\d+(B|[kKMGT]B|[KMGT]iB)?" : "(\\d+(d|h|ms|m|s))+|0";
        int n = snprintf(text, sizeof(text), "^(%s", number);
        for (const struct tel_config_word *w = k->words; w && w->word; w++)
                n += snprintf(text + n, sizeof(text) - (size_t)n, "|%.20s", w->word);
        snprintf(text + n, sizeof(text) - (size_t)n, ")$|%s", EXPANDED);
        return put(o, "pattern", json_string(text));
}

static json_t *names_schema(const struct tel_config_key *k) {
        json_auto_t *list = json_array();
        for (size_t i = 0; list && k->names[i]; i++)
                if (json_array_append_new(list, json_string(k->names[i])) < 0)
                        return NULL;
        return list ? json_pack("{s:[{s:O},{s:s,s:s}]}", "anyOf", "enum", list, "type", "string", "pattern", EXPANDED) : NULL;
}

static json_t *table_schema(const struct tel_config_key *table);

static bool put_limits(json_t *o, const struct tel_config_key *k) {
        json_int_t n = (json_int_t)(k->n_max ? k->n_max : TEL_CONFIG_LIST_MAX);
        if (is_counted(k))
                return put(o, k->type == TEL_CONFIG_STRINGS || k->type == TEL_CONFIG_LIST ? "maxItems" : "maxProperties", json_integer(n));
        if (k->type != TEL_CONFIG_INT || (!k->min && !k->max))
                return true;
        return put(o, "minimum", json_integer(k->min)) && put(o, "maximum", json_integer(k->max));
}

/* The schema of a value by its type. */
static json_t *type_schema(const struct tel_config_key *k) {
        switch (k->type) {
        case TEL_CONFIG_BOOL:
                return json_pack("{s:s}", "type", "boolean");
        case TEL_CONFIG_INT:
                return json_pack("{s:s}", "type", "integer");
        case TEL_CONFIG_STRING:
        case TEL_CONFIG_SECRET:
        case TEL_CONFIG_DURATION:
                return json_pack("{s:s}", "type", "string");
        case TEL_CONFIG_SIZE:
                return json_pack("{s:[s,s],s:i}", "type", "string", "integer", "minimum", 0);
        case TEL_CONFIG_ENUM:
                return names_schema(k);
        case TEL_CONFIG_STRINGS:
                return json_pack("{s:s,s:{s:s}}", "type", "array", "items", "type", "string");
        case TEL_CONFIG_ENUMS:
                return json_pack("{s:s,s:b,s:o}", "type", "array", "uniqueItems", 1, "items", names_schema(k));
        case TEL_CONFIG_MAP:
                return json_pack("{s:s,s:{s:s}}", "type", "object", "additionalProperties", "type", "string");
        case TEL_CONFIG_OBJECT:
                return table_schema(k->table);
        case TEL_CONFIG_LIST:
                return json_pack("{s:s,s:o}", "type", "array", "items", table_schema(k->table));
        case TEL_CONFIG_NAMED:
                return json_pack("{s:s,s:{s:s},s:o}", "type", "object", "propertyNames", "pattern", NAME_PATTERN,
                                 "additionalProperties", table_schema(k->table));
        case TEL_CONFIG_TYPES:
                break;
        }
        assert(!"a type of the table");
        return NULL;
}

static json_t *key_schema(const struct tel_config_key *k) {
        json_auto_t *o = type_schema(k);
        if (!o || !put(o, "description", json_string(k->text)) || !put_limits(o, k))
                return NULL;
        if ((k->type == TEL_CONFIG_SIZE || k->type == TEL_CONFIG_DURATION) && !put_pattern(o, k))
                return NULL;
        if (k->fallback && !put(o, "default", json_loads(k->fallback, JSON_DECODE_ANY, NULL)))
                return NULL;
        return TEL_TAKE(o);
}

static json_t *table_schema(const struct tel_config_key *table) {
        json_auto_t *properties = json_object();
        json_auto_t *required = json_array();
        if (!properties || !required)
                return NULL;
        for (const struct tel_config_key *k = table; k->key; k++) {
                if (!put(properties, k->key, key_schema(k)))
                        return NULL;
                if (!k->fallback && k->type != TEL_CONFIG_OBJECT && json_array_append_new(required, json_string(k->key)) < 0)
                        return NULL;
        }
        return json_pack("{s:s,s:b,s:O,s:O}", "type", "object", "additionalProperties", 0, "properties", properties, "required", required);
}

int tel_config_print_schema(const struct tel_config_key *table, const char *title, FILE *to) {
        json_auto_t *body = table_schema(table);
        json_auto_t *doc = json_pack("{s:s,s:s}", "$schema", "https://json-schema.org/draft/2020-12/schema", "title", title);
        if (!body || !doc || json_object_update(doc, body) < 0)
                return -ENOMEM;
        json_t *properties = json_object_get(doc, "properties");
        if (!put(properties, "$schema", json_pack("{s:s,s:s}", "type", "string", "description", "For editors; ignored.")) ||
            !put(properties, "import", json_pack("{s:s,s:{s:s},s:i,s:s}", "type", "array", "items", "type", "string", "maxItems",
                                                 TEL_CONFIG_IMPORTS_MAX, "description", "Other documents to merge into this one.")))
                return -ENOMEM;
        return json_finish(doc, to);
}
