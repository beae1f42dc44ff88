/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Config: one JSON document (comments // allowed) -> a struct, by one table of keys. The same table gives the defaults, --print-config,
 * docs/config.md and a JSON schema.
 * May touch: the file it is told to read, files and environment variables that values name. Never logs.
 * Every error names file, line and key and says what was expected. */
#include <stdio.h>

#include "libtelemetry/base.h"

#define TEL_CONFIG_FILE_MAX (4u << 20)             /* bytes of a document: far above any hand-written or generated one */
#define TEL_CONFIG_ERROR_MAX 512

enum tel_config_type {
        TEL_CONFIG_BOOL,                           /* bool */
        TEL_CONFIG_INT,                            /* int64_t, within min..max */
        TEL_CONFIG_STRING,                         /* char *, heap, never NULL once applied */
        TEL_CONFIG_SECRET,                         /* like STRING, printed as "<secret>" */
        TEL_CONFIG_SIZE,                           /* uint64_t bytes: a number, or "100MB" (1000s), "64KiB" (1024s) */
        TEL_CONFIG_DURATION,                       /* uint64_t nanoseconds: "500ms", "15s", "5m", "1h", "7d"; words where the table has them */
        TEL_CONFIG_ENUM,                           /* int: index into names */
        TEL_CONFIG_STRINGS,                        /* struct tel_config_strings: a list of strings */
        TEL_CONFIG_ENUMS,                          /* uint64_t: bit set of indices into names, from a list */
        TEL_CONFIG_MAP,                            /* struct tel_config_map: string -> string; values may be secret */
        TEL_CONFIG_OBJECT,                         /* nested struct, with its own table */
        TEL_CONFIG_LIST,                           /* struct tel_config_list: of nested structs */
        TEL_CONFIG_NAMED,                          /* struct tel_config_list: object whose keys are names; the first member of the nested struct is char *name */
};

struct tel_config_strings {
        char **values;
        size_t n;
};
struct tel_config_map {
        char **keys, **values;
        size_t n;
};
struct tel_config_list {
        void *items;                               /* n structs of the nested table's size */
        size_t n;
};

struct tel_config_key {
        const char *key;                           /* NULL ends the table */
        enum tel_config_type type;
        size_t offset;                             /* of the member in its struct */
        const char *fallback;                      /* default, as it would stand in the document ("\"15s\"", "true", "[]"); NULL: required */
        const char *text;                          /* one sentence for docs/config.md */
        int64_t min, max;                          /* INT, SIZE (bytes), DURATION (ns); both 0: no bound */
        const char *const *names;                  /* ENUM, ENUMS; NULL-terminated */
        const struct tel_config_key *table;        /* OBJECT, LIST, NAMED */
        size_t size;                               /* OBJECT, LIST, NAMED: sizeof the nested struct */
        bool secret;                               /* MAP: print values as "<secret>" */
        size_t n_max;                              /* STRINGS, MAP, LIST, NAMED: bound; 0: 256 */
};

/* Reads text into out (already zeroed, of the table's struct). file names the document in errors.
 * Strings may hold ${NAME} (environment, unset is an error) and ${file:/path} (contents, trailing newline removed).
 * Returns 0, -EINVAL (reterr filled: "FILE:LINE: key 'a.b': expected ..., got ..."), -ENOMEM. On failure out may be half filled: end it with tel_config_done(). */
int tel_config_parse(const struct tel_config_key *table, const char *file, const char *text, size_t n, void *out, char *reterr);
/* tel_config_parse() of a file's contents. Also -errno of the file, named in reterr. */
int tel_config_load(const struct tel_config_key *table, const char *file, void *out, char *reterr);
/* Frees every heap member and zeroes the struct of size bytes. */
void tel_config_done(const struct tel_config_key *table, void *out, size_t size);

/* The whole effective document as JSON, secrets hidden. */
int tel_config_print(const struct tel_config_key *table, const void *in, FILE *to);
/* docs/config.md: a section per object, a table row per key: type, unit, default, meaning. */
int tel_config_print_markdown(const struct tel_config_key *table, const char *title, FILE *to);
/* JSON Schema draft 2020-12, for editors. */
int tel_config_print_schema(const struct tel_config_key *table, const char *title, FILE *to);

/* The values by themselves, for command lines. Return 0 or -EINVAL. */
int tel_config_parse_size(const char *text, uint64_t *ret);
int tel_config_parse_duration(const char *text, uint64_t *ret_ns);
