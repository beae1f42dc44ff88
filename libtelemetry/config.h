/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Config: one JSON document (comments // allowed) -> a struct, by one table of keys. The same table gives the defaults, --print-config,
 * docs/config.md and a JSON schema.
 * May touch: the file it is told to read, files and environment variables that values name. Never logs.
 * Every error names file, line, column and key and says what was expected. */
#include <stdio.h>

#include "libtelemetry/base.h"

#define TEL_CONFIG_FILE_MAX (4u << 20)             /* bytes of a document: far above any hand-written or generated one */
#define TEL_CONFIG_STRING_MAX (64u << 10)          /* bytes of a string and of a ${file:}: a CA bundle or a token is far below */
#define TEL_CONFIG_DEPTH_MAX 32                    /* objects and lists inside each other; tables nest six deep */
#define TEL_CONFIG_IMPORTS_MAX 16                  /* documents that one imports: one per concern, not a directory of them */
#define TEL_CONFIG_LIST_MAX 256                    /* entries where a key names no bound of its own */
#define TEL_CONFIG_NAME_MAX 63                     /* bytes of a NAMED key: it becomes a metric label and a word on the control socket */
#define TEL_CONFIG_PATH_MAX 256                    /* bytes of a key path in an error; a longer one is cut */
#define TEL_CONFIG_ERROR_MAX 512

enum tel_config_type {
        TEL_CONFIG_BOOL,                           /* bool */
        TEL_CONFIG_INT,                            /* int64_t, within min..max */
        TEL_CONFIG_STRING,                         /* char *, heap, never NULL once applied */
        TEL_CONFIG_SECRET,                         /* like STRING, printed as "<secret>" */
        TEL_CONFIG_SIZE,                           /* uint64_t bytes: a number, or "100MB" (1000s), "64KiB" (1024s) */
        TEL_CONFIG_DURATION,                       /* uint64_t nanoseconds: "500ms", "15s", "5m", "1h", "7d", "1m30s"; words where the table has them */
        TEL_CONFIG_ENUM,                           /* int: index into names */
        TEL_CONFIG_STRINGS,                        /* struct tel_config_strings: a list of strings */
        TEL_CONFIG_ENUMS,                          /* uint64_t: bit set of indices into names, from a list */
        TEL_CONFIG_MAP,                            /* struct tel_config_map: string -> string; values may be secret */
        TEL_CONFIG_OBJECT,                         /* nested struct, with its own table; absent is the same as {} */
        TEL_CONFIG_LIST,                           /* struct tel_config_list: of nested structs */
        TEL_CONFIG_NAMED,                          /* struct tel_config_list: object whose keys are names; the first member of the nested struct is char *name */
        TEL_CONFIG_TYPES,                          /* how many there are */
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

/* A word that stands for a value no number says: "never". */
struct tel_config_word {
        const char *word;                          /* NULL ends the list */
        uint64_t value;
};

struct tel_config_key {
        const char *key;                           /* NULL ends the table */
        enum tel_config_type type;
        size_t offset;                             /* of the member in its struct */
        const char *fallback;                      /* default, as it would stand in the document ("\"15s\"", "true", "[]"); NULL: required */
        const char *text;                          /* one sentence for docs/config.md */
        const char *unit;                          /* INT: what it counts, "connections"; for the documentation */
        int64_t min, max;                          /* INT, SIZE (bytes), DURATION (ns); both 0: no bound */
        const char *const *names;                  /* ENUM, ENUMS; NULL-terminated */
        const struct tel_config_word *words;       /* DURATION, SIZE: words beside numbers; outside of min..max; NULL: none */
        const struct tel_config_key *table;        /* OBJECT, LIST, NAMED */
        size_t size;                               /* LIST, NAMED: sizeof the nested struct */
        bool secret;                               /* MAP: print values as "<secret>" */
        size_t n_max;                              /* STRINGS, MAP, LIST, NAMED: bound; 0: TEL_CONFIG_LIST_MAX */
};

/* Where a value stands: destinations.local.drop[2].equals. A key that is not a word stands in quotes: host.labels["k8s.cluster"]. */
struct tel_config_path {
        char text[TEL_CONFIG_PATH_MAX];
        size_t len;
};
/* Goes one step down. The way back up is tel_config_path_cut() to the len it had before. */
void tel_config_path_key(struct tel_config_path *p, const char *key, size_t n);
void tel_config_path_index(struct tel_config_path *p, size_t index);
void tel_config_path_cut(struct tel_config_path *p, size_t len);

/* What a table cannot say: two keys that exclude each other, a URL without host. A check looks at the filled struct; for a fault it fills
 * path and text ("needs key_file") and returns -EINVAL, and the parser adds file and line. */
struct tel_config_fault {
        struct tel_config_path path;
        char text[TEL_CONFIG_ERROR_MAX / 2];
};
typedef int (*tel_config_check)(const void *in, struct tel_config_fault *reterr);

/* For checks: returns -EINVAL. path: the whole key path; format: what is wrong with its value, but never the value of a secret. */
TEL_PRINTF(3, 4) int tel_config_fail(struct tel_config_fault *ret, const char *path, const char *format, ...);
/* Whether text can be the path of a socket: from '/', or a name in the runtime directory; "" is well. Returns 0 or -EINVAL. */
int tel_config_check_socket(const char *text, const char *path, struct tel_config_fault *reterr);
/* A token of HTTP, as names of headers are: RFC 9110, section 5.6.2. */
bool tel_config_is_token(const char *text);

/* Reads text into out (already zeroed, of the table's struct), then asks check (NULL: none). file names the document in errors, and its
 * folder is where a relative "import" looks.
 * Strings may hold ${NAME} (environment, unset is an error) and ${file:/path} (contents, trailing newline removed); "$$" is one "$".
 * "import": ["more.json"] at the top merges documents: objects by key; a value that stands in two of them is an error.
 * Returns 0, -EINVAL ("FILE:LINE:COLUMN: key 'a.b': expected ..., got ..."), -ENOMEM; reterr holds TEL_CONFIG_ERROR_MAX bytes and is filled
 * on each. On failure out may be half filled: end it with tel_config_done(). */
int tel_config_parse(const struct tel_config_key *table, tel_config_check check, const char *file, const char *text, size_t n, void *out,
                     char *reterr);
/* tel_config_parse() of a file's contents. Also -errno of the file, named in reterr. Only a regular file is read. */
int tel_config_load(const struct tel_config_key *table, tel_config_check check, const char *file, void *out, char *reterr);
/* Frees every heap member and zeroes the struct of size bytes. */
void tel_config_done(const struct tel_config_key *table, void *out, size_t size);

/* Whether two structs of the table hold the same values; the order of maps and lists counts. */
bool tel_config_equal(const struct tel_config_key *table, const void *a, const void *b);

/* The whole effective document as JSON, secrets hidden; tel_config_parse() reads it back. Returns 0, -ENOMEM or -EIO, like the two below. */
int tel_config_print(const struct tel_config_key *table, const void *in, FILE *to);
/* docs/config.md: title, the caller's intro, then a section per object with a row per key: type, default, bounds, meaning. */
int tel_config_print_markdown(const struct tel_config_key *table, const char *title, const char *intro, FILE *to);
/* JSON Schema draft 2020-12, for editors. */
int tel_config_print_schema(const struct tel_config_key *table, const char *title, FILE *to);

/* The values by themselves, for command lines. Return 0 or -EINVAL. */
int tel_config_parse_size(const char *text, uint64_t *ret);
int tel_config_parse_duration(const char *text, uint64_t *ret_ns);
/* The shortest text that reads back as the same value: "100MB", "64KiB"; "90s", "500ms". A duration is cut to whole milliseconds. */
#define TEL_CONFIG_VALUE_MAX 32                    /* bytes that either needs at most: 20 digits, a unit and the end */
const char *tel_config_format_size(char out[static TEL_CONFIG_VALUE_MAX], uint64_t bytes);
const char *tel_config_format_duration(char out[static TEL_CONFIG_VALUE_MAX], uint64_t ns);
