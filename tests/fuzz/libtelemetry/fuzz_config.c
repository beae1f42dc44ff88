/* SPDX-License-Identifier: Apache-2.0 */
/* A document of any bytes is read or refused with a text; what is read prints, and what is printed reads back the same. */
#include "libtelemetry/config.h"

struct inner {
        char *name;
        char *text;
        uint64_t wait_ns;
};
struct outer {
        bool on;
        int64_t count;
        char *text, *secret;
        uint64_t bytes, wait_ns, set;
        int choice;
        struct tel_config_strings strings;
        struct tel_config_map map;
        struct tel_config_list list, named;
};

static const char *const names[] = { "one", "two", NULL };
static const struct tel_config_word words[] = { { "never", UINT64_MAX }, { NULL, 0 } };
static const struct tel_config_key inner_table[] = {
        { .key = "text", .type = TEL_CONFIG_STRING, .offset = offsetof(struct inner, text), .text = "" },
        { .key = "wait", .type = TEL_CONFIG_DURATION, .offset = offsetof(struct inner, wait_ns), .fallback = "\"1s\"", .text = "" },
        { .key = NULL },
};
#define ROW(key_, type_, member_, fallback_) .key = key_, .type = TEL_CONFIG_##type_, .offset = offsetof(struct outer, member_), .fallback = fallback_, .text = ""
static const struct tel_config_key table[] = {
        { ROW("on", BOOL, on, "true") },
        { ROW("count", INT, count, "1"), .min = -5, .max = 100 },
        { ROW("text", STRING, text, "\"\"") },
        { ROW("secret", SECRET, secret, "\"\"") },
        { ROW("bytes", SIZE, bytes, "0") },
        { ROW("wait", DURATION, wait_ns, "\"never\""), .words = words },
        { ROW("choice", ENUM, choice, "\"two\""), .names = names },
        { ROW("set", ENUMS, set, "[]"), .names = names },
        { ROW("strings", STRINGS, strings, "[]"), .n_max = 8 },
        { ROW("map", MAP, map, "{}"), .n_max = 8 },
        { ROW("list", LIST, list, "[]"), .table = inner_table, .size = sizeof(struct inner) },
        { ROW("named", NAMED, named, "{}"), .table = inner_table, .size = sizeof(struct inner) },
        { .key = NULL },
};

static char *print(const struct outer *o) {
        char *text = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&text, &n);
        assert(f && tel_config_print(table, o, f) == 0);
        fclose(f);
        return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        char err[TEL_CONFIG_ERROR_MAX] = "";
        struct outer a = { 0 }, b = { 0 };
        int r = tel_config_parse(table, NULL, "fuzz.json", (const char *)data, n, &a, err);
        if (r == 0) {
                char *first = print(&a);
                assert(tel_config_parse(table, NULL, "printed.json", first, strlen(first), &b, err) == 0);
                char *second = print(&b);
                assert(strcmp(first, second) == 0);
                free(first);
                free(second);
        } else {
                assert(*err && strlen(err) < sizeof(err));
        }
        tel_config_done(table, &a, sizeof(a));
        tel_config_done(table, &b, sizeof(b));
        return 0;
}
