/* SPDX-License-Identifier: Apache-2.0 */
#include "libtelemetry/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* A table with one key of each type. */
struct rule {
        char *match;
        int64_t weight;
};
struct peer {
        char *name;
        char *url;
        struct tel_config_list rules;
};
struct all {
        bool on;
        int64_t count;
        char *word, *token;
        uint64_t bytes, wait_ns, colors;
        int color;
        struct tel_config_strings users;
        struct tel_config_map labels, headers;
        struct {
                int64_t depth;
        } limits;
        struct tel_config_list rules, peers;
};

static const char *const colors[] = { "red", "green", "blue", NULL };
static const struct tel_config_word never[] = { { "never", UINT64_MAX }, { NULL, 0 } };
static const struct tel_config_key rule_table[] = {
        { .key = "match", .type = TEL_CONFIG_STRING, .offset = offsetof(struct rule, match), .text = "What it is for." },
        { .key = "weight", .type = TEL_CONFIG_INT, .offset = offsetof(struct rule, weight), .fallback = "7", .text = "How much." },
        { .key = NULL },
};
static const struct tel_config_key peer_table[] = {
        { .key = "url", .type = TEL_CONFIG_STRING, .offset = offsetof(struct peer, url), .fallback = "\"\"", .text = "Where." },
        { .key = "rules", .type = TEL_CONFIG_LIST, .offset = offsetof(struct peer, rules), .fallback = "[]", .table = rule_table,
          .size = sizeof(struct rule), .text = "Rules of this peer." },
        { .key = NULL },
};
static const struct tel_config_key limits_table[] = {
        { .key = "depth", .type = TEL_CONFIG_INT, .offset = offsetof(struct all, limits.depth), .fallback = "3", .text = "How deep.", .unit = "levels" },
        { .key = NULL },
};
#define ROW(key_, type_, member_, fallback_) .key = key_, .type = TEL_CONFIG_##type_, .offset = offsetof(struct all, member_), .fallback = fallback_, .text = "The " key_ "."
static const struct tel_config_key table[] = {
        { ROW("on", BOOL, on, "true") },
        { ROW("count", INT, count, "10"), .min = 1, .max = 100 },
        { ROW("word", STRING, word, "\"plain\"") },
        { ROW("token", SECRET, token, "\"\"") },
        { ROW("bytes", SIZE, bytes, "\"64KiB\""), .min = 1000, .max = 1000000000 },
        { ROW("wait", DURATION, wait_ns, "\"never\""), .min = 1000000, .max = 3600000000000, .words = never },
        { ROW("color", ENUM, color, "\"green\""), .names = colors },
        { ROW("colors", ENUMS, colors, "[\"red\"]"), .names = colors },
        { ROW("users", STRINGS, users, "[]"), .n_max = 2 },
        { ROW("labels", MAP, labels, "{}"), .n_max = 2 },
        { ROW("headers", MAP, headers, "{}"), .secret = true },
        { .key = "limits", .type = TEL_CONFIG_OBJECT, .table = limits_table, .text = "Limits." },
        { ROW("rules", LIST, rules, "[]"), .table = rule_table, .size = sizeof(struct rule) },
        { ROW("peers", NAMED, peers, "{}"), .table = peer_table, .size = sizeof(struct peer), .n_max = 2 },
        { .key = NULL },
};

static char folder[] = "/tmp/test_config.XXXXXX";

static void write_file(const char *name, const char *text) {
        char path[256];
        snprintf(path, sizeof(path), "%s/%s", folder, name);
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fputs(text, f);
        fclose(f);
}

static int parse(const char *text, struct all *ret, char *err) {
        *ret = (struct all){ 0 };
        err[0] = '\0';
        return tel_config_parse(table, NULL, "c.json", text, strlen(text), ret, err);
}

/* The document is refused with exactly this text, and what it left behind can be ended. */
static void assert_refused(const char *document, const char *expected) {
        char err[TEL_CONFIG_ERROR_MAX];
        struct all a;
        assert_int_equal(parse(document, &a, err), -EINVAL);
        assert_string_equal(err, expected);
        tel_config_done(table, &a, sizeof(a));
}

static char *print(const struct all *a) {
        char *text = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&text, &n);
        assert_int_equal(tel_config_print(table, a, f), 0);
        fclose(f);
        return text;
}

/* An empty document gives the defaults of the table. */
static void test_defaults(void **state) {
        (void)state;
        char err[TEL_CONFIG_ERROR_MAX];
        struct all a;
        assert_int_equal(parse("{}", &a, err), 0);
        assert_true(a.on);
        assert_int_equal(a.count, 10);
        assert_string_equal(a.word, "plain");
        assert_string_equal(a.token, "");
        assert_int_equal(a.bytes, 65536);
        assert_true(a.wait_ns == UINT64_MAX);
        assert_int_equal(a.color, 1);
        assert_int_equal(a.colors, 1);
        assert_int_equal(a.users.n + a.labels.n + a.rules.n + a.peers.n, 0);
        assert_int_equal(a.limits.depth, 3);
        tel_config_done(table, &a, sizeof(a));
        assert_null(a.word);
        tel_config_done(table, &a, sizeof(a));
        tel_config_done(table, NULL, 0);
}

/* text without its blanks and line ends, so that only what it says is compared. */
static char *squeeze(const char *text) {
        char *out = malloc(strlen(text) + 1), *to = out;
        assert_non_null(out);
        for (; *text; text++)
                if (*text != ' ' && *text != '\n')
                        *to++ = *text;
        *to = '\0';
        return out;
}

/* Canonical: as the printer writes it. No value is the default. */
static const char full[] =
        "{\"on\": false, \"count\": 42, \"word\": \"a $$ b \\\" \xc3\xa9\", \"token\": \"<secret>\", \"bytes\": \"20MiB\", \"wait\": \"90s\",\n"
        " \"color\": \"blue\", \"colors\": [\"green\", \"blue\"], \"users\": [\"ann\", \"$${X}\"], \"labels\": {\"k8s.cluster\": \"x\", \"b\": \"\"},\n"
        " \"headers\": {\"H\": \"<secret>\", \"E\": \"\"}, \"limits\": {\"depth\": -4},\n"
        " \"rules\": [{\"match\": \"m\", \"weight\": 1}, {\"match\": \"\", \"weight\": 2}],\n"
        " \"peers\": {\"one\": {\"url\": \"u\", \"rules\": [{\"match\": \"deep\", \"weight\": 9}]}, \"two-2_B\": {\"url\": \"\", \"rules\": []}}}";

/* What is printed says the same as what was read, and reads back. */
static void test_print_reads_back(void **state) {
        (void)state;
        char err[TEL_CONFIG_ERROR_MAX];
        struct all a, b;
        assert_int_equal(parse(full, &a, err), 0);
        assert_string_equal(a.word, "a $ b \" \xc3\xa9");
        assert_string_equal(a.users.values[1], "${X}");
        assert_int_equal(a.wait_ns, 90 * TEL_NS_PER_S);
        assert_int_equal(a.colors, 6);
        struct peer *one = a.peers.items;
        assert_string_equal(one->name, "one");
        assert_string_equal(((struct rule *)one->rules.items)->match, "deep");
        char *first = print(&a);
        char *want = squeeze(full), *got = squeeze(first);
        assert_string_equal(want, got);
        assert_int_equal(parse(first, &b, err), 0);
        char *second = print(&b);
        assert_string_equal(first, second);
        free(want);
        free(got);
        free(first);
        free(second);
        tel_config_done(table, &a, sizeof(a));
        tel_config_done(table, &b, sizeof(b));
}

/* A secret is in the struct and in no output. */
static void test_secrets_are_not_printed(void **state) {
        (void)state;
        char err[TEL_CONFIG_ERROR_MAX];
        struct all a;
        assert_int_equal(parse("{\"token\": \"hunter2\", \"headers\": {\"A\": \"hunter3\"}}", &a, err), 0);
        assert_string_equal(a.token, "hunter2");
        assert_string_equal(a.headers.values[0], "hunter3");
        char *text = print(&a);
        assert_null(strstr(text, "hunter"));
        assert_non_null(strstr(text, "\"A\": \"<secret>\""));
        free(text);
        tel_config_done(table, &a, sizeof(a));
        assert_refused("{\"token\": 5}", "c.json:1:2: key 'token': expected a string, got an integer");
        assert_refused("{\"headers\": \"hunter2\"}", "c.json:1:2: key 'headers': expected an object of strings, got a string");
        assert_refused("{\"token\": \"hunter2\" \"x\"}", "c.json:1:23: not JSON: '}' expected");
}

/* Each error says where, which key, what was expected and what is there. */
static void test_errors(void **state) {
        (void)state;
        static const struct {
                const char *document, *error;
        } rows[] = {
                { "", "c.json:1:1: not JSON: unexpected token near end of file" },
                { "[]", "c.json:1:1: expected an object, got a list" },
                { "\n  7", "c.json:2:3: expected an object, got an integer" },
                { "{}\n}", "c.json:2:1: not JSON: end of file expected" },
                { "{ # no\n}", "c.json:1:3: '#' does not start a comment, use '//'" },
                { "{\n /* no */ }", "c.json:2:2: '/*' does not start a comment, use '//' on each line" },
                { "{\"count\":\n \"five\"}", "c.json:1:2: key 'count': expected an integer, got \"five\"" },
                { "{\n // x\n \"count\": 5.5}", "c.json:3:2: key 'count': expected an integer, got a number with a fraction" },
                { "{\"count\": 0}", "c.json:1:2: key 'count': expected an integer from 1 to 100, got 0" },
                { "{\"on\": \"yes\"}", "c.json:1:2: key 'on': expected true or false, got \"yes\"" },
                { "{\"on\": null}", "c.json:1:2: key 'on': expected true or false, got null" },
                { "{\"word\": true}", "c.json:1:2: key 'word': expected a string, got true" },
                { "{\"bytes\": \"64 MB\"}", "c.json:1:2: key 'bytes': expected a size like \"100MB\", got \"64 MB\"" },
                { "{\"bytes\": -1}", "c.json:1:2: key 'bytes': expected a size like \"100MB\", got an integer" },
                { "{\"bytes\": 999}", "c.json:1:2: key 'bytes': expected a size from 1KB to 1GB, got 999B" },
                { "{\"wait\": 15}", "c.json:1:2: key 'wait': expected a duration like \"15s\" or \"never\", got an integer" },
                { "{\"wait\": \"15\"}", "c.json:1:2: key 'wait': expected a duration like \"15s\" or \"never\", got \"15\"" },
                { "{\"wait\": \"2h\"}", "c.json:1:2: key 'wait': expected a duration from 1ms to 1h, got 2h" },
                { "{\"color\": \"pink\"}", "c.json:1:2: key 'color': expected one of \"red\", \"green\", \"blue\", got \"pink\"" },
                { "{\"colors\": [\"red\",\n\"pink\"]}", "c.json:2:1: key 'colors[1]': expected one of \"red\", \"green\", \"blue\", got \"pink\"" },
                { "{\"colors\": [\"red\", \"red\"]}", "c.json:1:20: key 'colors[1]': \"red\" stands in the list twice" },
                { "{\"colors\": {}}", "c.json:1:2: key 'colors': expected a list of \"red\", \"green\", \"blue\", got an object" },
                { "{\"users\": [\"a\", 1]}", "c.json:1:17: key 'users[1]': expected a string, got an integer" },
                { "{\"users\": [\"a\", \"b\", \"c\"]}", "c.json:1:2: key 'users': expected at most 2 entries, got 3" },
                { "{\"labels\": {\n\"a.b\": 1}}", "c.json:2:1: key 'labels[\"a.b\"]': expected a string, got an integer" },
                { "{\"limits\": []}", "c.json:1:2: key 'limits': expected an object, got a list" },
                { "{\"limits\": {\"depht\": 1}}", "c.json:1:13: unknown key 'limits.depht', did you mean 'depth'?" },
                { "{\n\n\"colour\": 1}", "c.json:3:1: unknown key 'colour', did you mean 'color'?" },
                { "{\"elephant\": 1}", "c.json:1:2: unknown key 'elephant'" },
                { "{\"rules\": [\n {\"match\": \"a\"},\n {\"weight\": 1}]}", "c.json:3:2: key 'rules[1].match': expected a string, got nothing" },
                { "{\"peers\": {\"a\": {\"rules\": [{}, {\"match\": \"\"}]}}}", "c.json:1:28: key 'peers.a.rules[0].match': expected a string, got nothing" },
                { "{\"peers\": {\"a\": {\"rules\": [{\"match\":\"\"},\n{\"match\": {}}]}}}", "c.json:2:2: key 'peers.a.rules[1].match': expected a string, got an object" },
                { "{\"peers\": {\"a b\": {}}}", "c.json:1:12: key 'peers[\"a b\"]': expected a name of 1 to 63 letters, digits, '_' and '-'" },
                { "{\"count\": 1,\n \"limits\": {\"depth\": 1,\n  \"depth\": 2}}", "c.json:3:3: key 'limits.depth' stands in line 2 already" },
                { "{\"a\": 1, \"b\": {\"a\": 1},\n\"a\": 2}", "c.json:2:1: key 'a' stands in line 1 already" },
                { "{\"word\": \"${NO_SUCH_NAME}\"}", "c.json:1:2: key 'word': environment variable 'NO_SUCH_NAME' is not set" },
                { "{\"word\": \"${\"}", "c.json:1:2: key 'word': '${' lacks its '}'; a literal '$' is written '$$'" },
                { "{\"word\": \"${a b}\"}", "c.json:1:2: key 'word': expected ${NAME} or ${file:/path}, got '${a b}'" },
                { "{\"word\": \"${file:/no/such}\"}", "c.json:1:2: key 'word': cannot read '/no/such': No such file or directory" },
                { "{\"word\": \"${file:/dev/zero}\"}", "c.json:1:2: key 'word': cannot read '/dev/zero': not a regular file" },
                { "{\"import\": \"x\"}", "c.json:1:2: key 'import': expected a list of strings, got \"x\"" },
                { "{\"import\": [\"/no/such\"]}", "c.json:1:13: key 'import[0]': cannot read '/no/such': No such file or directory" },
                { "{\"limits\": {\"import\": []}}", "c.json:1:13: unknown key 'limits.import'" },
                { "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "c.json:1:33: too many objects and lists inside each other" },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++)
                assert_refused(rows[i].document, rows[i].error);
}

/* Comments end with their line, and do not begin inside a string. */
static void test_comments(void **state) {
        (void)state;
        char err[TEL_CONFIG_ERROR_MAX];
        struct all a;
        assert_int_equal(parse("// head {\n{ \"word\": \"http://x # \\\" // y\", // tail \" {\n \"count\": 2 }\n// end", &a, err), 0);
        assert_string_equal(a.word, "http://x # \" // y");
        assert_int_equal(a.count, 2);
        tel_config_done(table, &a, sizeof(a));
}

/* ${} is replaced once, in strings of every kind; an empty variable is allowed. */
static void test_expansion(void **state) {
        (void)state;
        char err[TEL_CONFIG_ERROR_MAX], document[1024];
        struct all a;
        setenv("TEST_CONFIG_A", "${TEST_CONFIG_B}", 1);
        setenv("TEST_CONFIG_EMPTY", "", 1);
        setenv("TEST_CONFIG_WAIT", "5m", 1);
        write_file("token", "s3cret\n");
        snprintf(document, sizeof(document),
                 "{\"word\": \"<${TEST_CONFIG_A}${TEST_CONFIG_EMPTY}> $$ $x $\", \"token\": \"${file:%s/token}\", \"wait\": \"${TEST_CONFIG_WAIT}\","
                 " \"labels\": {\"${TEST_CONFIG_A}\": \"$${TEST_CONFIG_A}\"}}", folder);
        assert_int_equal(parse(document, &a, err), 0);
        assert_string_equal(a.word, "<${TEST_CONFIG_B}> $ $x $");
        assert_string_equal(a.token, "s3cret");
        assert_int_equal(a.wait_ns, 300 * TEL_NS_PER_S);
        assert_string_equal(a.labels.keys[0], "${TEST_CONFIG_A}");
        assert_string_equal(a.labels.values[0], "${TEST_CONFIG_A}");
        tel_config_done(table, &a, sizeof(a));
        setenv("TEST_CONFIG_A", "\xff", 1);
        assert_refused("{\"word\": \"${TEST_CONFIG_A}\"}", "c.json:1:2: key 'word': environment variable 'TEST_CONFIG_A' is not UTF-8 text");
}

/* A file above the bound is refused, not cut. */
static void test_large_file(void **state) {
        (void)state;
        char err[TEL_CONFIG_ERROR_MAX], document[256];
        struct all a;
        char *big = malloc(TEL_CONFIG_STRING_MAX + 2);
        memset(big, 'x', TEL_CONFIG_STRING_MAX + 1);
        big[TEL_CONFIG_STRING_MAX + 1] = '\0';
        write_file("big", big);
        snprintf(document, sizeof(document), "{\"word\": \"${file:%s/big}\"}", folder);
        assert_int_equal(parse(document, &a, err), -EINVAL);
        assert_non_null(strstr(err, "/big': more than 65536 bytes"));
        tel_config_done(table, &a, sizeof(a));
        big[TEL_CONFIG_STRING_MAX] = '\0';
        write_file("big", big);
        assert_int_equal(parse(document, &a, err), 0);
        assert_int_equal(strlen(a.word), TEL_CONFIG_STRING_MAX);
        tel_config_done(table, &a, sizeof(a));
        free(big);
}

static int load(const char *name, struct all *ret, char *err) {
        char path[256];
        snprintf(path, sizeof(path), "%s/%s", folder, name);
        *ret = (struct all){ 0 };
        return tel_config_load(table, NULL, path, ret, err);
}

static void assert_load_refused(const char *name, int code, const char *expected) {
        char err[TEL_CONFIG_ERROR_MAX], want[TEL_CONFIG_ERROR_MAX];
        struct all a;
        assert_int_equal(load(name, &a, err), code);
        snprintf(want, sizeof(want), "%s/%s", folder, expected);
        assert_string_equal(err, want);
        tel_config_done(table, &a, sizeof(a));
}

/* Imports merge objects, and a value that stands in two documents names both. */
static void test_import(void **state) {
        (void)state;
        char err[TEL_CONFIG_ERROR_MAX], want[TEL_CONFIG_ERROR_MAX];
        struct all a;
        write_file("main.json", "{ \"$schema\": \"s\", \"import\": [\"one.json\", \"two.json\"],\n \"peers\": {\"a\": {}}, \"limits\": {} }");
        write_file("one.json", "{ \"$schema\": \"s\", \"count\": 3, \"peers\": {\n\"b\": {\"url\": \"B\"}} }");
        write_file("two.json", "{ \"peers\": {\"a\": {\"url\": \"A\"}}, \"limits\": {\"depth\": 8} }");
        assert_int_equal(load("main.json", &a, err), 0);
        assert_int_equal(a.count, 3);
        assert_int_equal(a.limits.depth, 8);
        assert_int_equal(a.peers.n, 2);
        assert_string_equal(((struct peer *)a.peers.items)[0].url, "A");
        assert_string_equal(((struct peer *)a.peers.items)[1].name, "b");
        tel_config_done(table, &a, sizeof(a));

        write_file("two.json", "{\n \"peers\": {\n  \"b\": {\"url\": 1}} }");
        snprintf(want, sizeof(want), "two.json:3:9: key 'peers.b.url' stands in %s/one.json:2 already", folder);
        assert_load_refused("main.json", -EINVAL, want);
        write_file("two.json", "{\n \"peers\": {\n  \"a\": {\"url\": 1}} }");
        assert_load_refused("main.json", -EINVAL, "two.json:3:9: key 'peers.a.url': expected a string, got an integer");
        write_file("two.json", "{\n \"import\": [] }");
        assert_load_refused("main.json", -EINVAL, "two.json:2:2: key 'import': a document that is imported imports no more");
        write_file("two.json", "{ nonsense");
        assert_load_refused("main.json", -EINVAL, "two.json:1:10: not JSON: string or '}' expected");
        assert_load_refused("none.json", -ENOENT, "none.json: No such file or directory");
        assert_load_refused(".", -EINVAL, ".: not a regular file");
}

static int check_count(const void *in, struct tel_config_fault *reterr) {
        const struct all *a = in;
        if (a->count == 10)
                return 0;
        tel_config_path_key(&reterr->path, "peers", 5);
        tel_config_path_key(&reterr->path, "x", 1);
        tel_config_path_key(&reterr->path, "url", 3);
        snprintf(reterr->text, sizeof(reterr->text), "needs another count");
        return -EINVAL;
}

/* A check's fault gets the line of its key, or of the nearest object around a key that is absent. */
static void test_check(void **state) {
        (void)state;
        static const char absent[] = "{\"count\": 5, \"peers\": {\n \"x\": {}}}", good[] = "{}";
        char err[TEL_CONFIG_ERROR_MAX];
        struct all a = { 0 };
        assert_int_equal(tel_config_parse(table, check_count, "c.json", absent, strlen(absent), &a, err), -EINVAL);
        assert_string_equal(err, "c.json:2:2: key 'peers.x.url': needs another count");
        tel_config_done(table, &a, sizeof(a));
        assert_int_equal(tel_config_parse(table, check_count, "c.json", good, strlen(good), &a, err), 0);
        tel_config_done(table, &a, sizeof(a));
}

/* What the checks of the daemons share. A path that is too long is cut. */
static void test_check_helpers(void **state) {
        (void)state;
        struct tel_config_fault f = { 0 };
        char longest[TEL_CONFIG_PATH_MAX + 10];
        memset(longest, 'k', sizeof(longest));
        longest[sizeof(longest) - 1] = '\0';
        assert_int_equal(tel_config_fail(&f, "a.b", "expected %d, got '%s'", 7, "x"), -EINVAL);
        assert_string_equal(f.path.text, "a.b");
        assert_int_equal(f.path.len, 3);
        assert_string_equal(f.text, "expected 7, got 'x'");
        assert_int_equal(tel_config_fail(&f, longest, "long"), -EINVAL);
        assert_int_equal(f.path.len, TEL_CONFIG_PATH_MAX - 1);
        assert_int_equal(strlen(f.path.text), f.path.len);

        assert_int_equal(tel_config_check_socket("", "s", &f), 0);
        assert_int_equal(tel_config_check_socket("frames.sock", "s", &f), 0);
        longest[0] = '/';
        longest[107] = '\0';
        assert_int_equal(tel_config_check_socket(longest, "s", &f), 0);
        longest[107] = 'k';
        longest[108] = '\0';
        assert_int_equal(tel_config_check_socket(longest, "s", &f), -EINVAL);
        assert_string_equal(f.text, "expected a path of at most 107 bytes, which is all a socket's address holds, got 108");
        assert_int_equal(tel_config_check_socket("run/frames.sock", "s", &f), -EINVAL);
        assert_string_equal(f.text, "expected a path from '/' or a name without '/', got \"run/frames.sock\"");

        assert_true(tel_config_is_token("X-Request-Id"));
        assert_false(tel_config_is_token(""));
        assert_false(tel_config_is_token("two words"));
        assert_false(tel_config_is_token("a:"));
}

/* A path that is too long for the error is cut, and its line is still found. */
static void test_long_key(void **state) {
        (void)state;
        char err[TEL_CONFIG_ERROR_MAX], document[1024];
        struct all a;
        snprintf(document, sizeof(document), "{\"labels\": {\n\"%0700d\": 1}}", 0);
        assert_int_equal(parse(document, &a, err), -EINVAL);
        assert_memory_equal(err, "c.json:2:1: key 'labels.000", 27);
        assert_non_null(strstr(err, "expected a string"));
        tel_config_done(table, &a, sizeof(a));
}

static void test_sizes_and_durations(void **state) {
        (void)state;
        static const struct {
                const char *text;
                uint64_t value;
                const char *printed;               /* NULL: refused */
        } sizes[] = {
                { "0", 0, "0B" }, { "17", 17, "17B" }, { "1kB", 1000, "1KB" }, { "64KiB", 65536, "64KiB" }, { "1000KB", 1000000, "1MB" },
                { "100MB", 100000000, "100MB" }, { "8388607TiB", 8388607ull << 40, "8388607TiB" }, { "9223372036854775807", INT64_MAX, "9223372036854775807B" },
                { "", 0, NULL }, { "MB", 0, NULL }, { "1 MB", 0, NULL }, { "1mb", 0, NULL }, { "-1", 0, NULL }, { "1.5MB", 0, NULL },
                { "1MBx", 0, NULL }, { "8388608TiB", 0, NULL }, { "9223372036854775808", 0, NULL },
        }, durations[] = {
                { "0", 0, "0s" }, { "0s", 0, "0s" }, { "500ms", 500000000, "500ms" }, { "15s", 15 * TEL_NS_PER_S, "15s" },
                { "1m30s", 90 * TEL_NS_PER_S, "90s" }, { "7d", 604800 * TEL_NS_PER_S, "7d" }, { "1d1ms", 86400 * TEL_NS_PER_S + 1000000, "86400001ms" },
                { "106751d", 106751ull * 86400 * TEL_NS_PER_S, "106751d" },
                { "", 0, NULL }, { "15", 0, NULL }, { "s", 0, NULL }, { "15S", 0, NULL }, { "15 s", 0, NULL }, { "-5s", 0, NULL }, { "1s1m", 0, NULL },
                { "1s1s", 0, NULL }, { "106752d", 0, NULL }, { "99999999999999999999s", 0, NULL }, { "1us", 0, NULL }, { "1.5s", 0, NULL },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(sizes); i++) {
                uint64_t v = 0;
                char out[TEL_CONFIG_VALUE_MAX];
                assert_int_equal(tel_config_parse_size(sizes[i].text, &v), sizes[i].printed ? 0 : -EINVAL);
                assert_true(v == sizes[i].value);
                if (sizes[i].printed)
                        assert_string_equal(tel_config_format_size(out, v), sizes[i].printed);
        }
        for (size_t i = 0; i < TEL_ARRAY_LEN(durations); i++) {
                uint64_t v = 0;
                char out[TEL_CONFIG_VALUE_MAX];
                assert_int_equal(tel_config_parse_duration(durations[i].text, &v), durations[i].printed ? 0 : -EINVAL);
                assert_true(v == durations[i].value);
                if (durations[i].printed)
                        assert_string_equal(tel_config_format_duration(out, v), durations[i].printed);
        }
}

/* A bar in a default or a sentence does not end the cell. */
static void test_documentation_bars(void **state) {
        (void)state;
        static const struct tel_config_key bars[] = {
                { .key = "regex", .type = TEL_CONFIG_STRING, .fallback = "\"(a|b)$\"", .text = "One|other." }, { .key = NULL },
        };
        char *text = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&text, &n);
        assert_int_equal(tel_config_print_markdown(bars, "Title", "", f), 0);
        fclose(f);
        assert_non_null(strstr(text, "| `regex` | string | `\"(a\\|b)$\"` |  | One\\|other. |\n"));
        free(text);
}

/* The page has a section per table; the schema knows every key. */
static void test_documentation(void **state) {
        (void)state;
        char *text = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&text, &n);
        assert_int_equal(tel_config_print_markdown(table, "Title", "Intro.\n", f), 0);
        fclose(f);
        assert_memory_equal(text, "# Title\nIntro.\n", 15);
        assert_non_null(strstr(text, "\n## peers.NAME.rules[]\nRules of this peer.\n"));
        assert_non_null(strstr(text, "| `match` | string | required |  | What it is for. |"));
        assert_non_null(strstr(text, "| `wait` | duration or `\"never\"` | `\"never\"` | 1ms to 1h | The wait. |"));
        assert_non_null(strstr(text, "| `rules` | [list of objects](#peersnamerules) | `[]` | at most 256 |"));
        free(text);
        f = open_memstream(&text, &n);
        assert_int_equal(tel_config_print_schema(table, "Title", f), 0);
        fclose(f);
        for (const struct tel_config_key *k = table; k->key; k++) {
                char key[64];
                snprintf(key, sizeof(key), "\n    \"%s\": {", k->key);
                assert_non_null(strstr(text, key));
                assert_non_null(strstr(text, k->text));
        }
        assert_non_null(strstr(text, "\n    \"import\": {"));
        free(text);
}

static int setup(void **state) {
        (void)state;
        return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state) {
        (void)state;
        static const char *const names[] = { "main.json", "one.json", "two.json", "token", "big" };
        for (size_t i = 0; i < TEL_ARRAY_LEN(names); i++) {
                char path[256];
                snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
                unlink(path);
        }
        return rmdir(folder);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_defaults), cmocka_unit_test(test_print_reads_back), cmocka_unit_test(test_secrets_are_not_printed),
                cmocka_unit_test(test_errors), cmocka_unit_test(test_comments), cmocka_unit_test(test_expansion),
                cmocka_unit_test(test_large_file), cmocka_unit_test(test_import), cmocka_unit_test(test_check),
                cmocka_unit_test(test_check_helpers), cmocka_unit_test(test_long_key),
                cmocka_unit_test(test_sizes_and_durations), cmocka_unit_test(test_documentation), cmocka_unit_test(test_documentation_bars),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
