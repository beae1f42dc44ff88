/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/runtime.h"

#include <elf.h>
#include <unistd.h>

#include "libtelemetry/utf8.h"

#define SECTIONS_MAX 256                           /* looked at: linkers make about 40 */
#define SECTION_NAMES_MAX (16u << 10)              /* bytes of their names */
#define COMMENT_MAX 4096                           /* of .comment: a line for each compiler that took part */
#define COMM_LEN 15                                /* bytes of a thread's name that the kernel keeps */

/* How an interpreter's command line is read. Lists are words between blanks. */
struct interpreter {
        const char *name;                          /* of its executable: this, and behind it digits, dots and dashes only: "python3.11" */
        enum process_language language;
        bool clusters;                             /* "-um x" is "-u -m x" */
        const char *takes;                         /* options whose value is the next word */
        const char *names;                         /* options whose value is what is run */
        const char *code;                          /* options whose value is the program itself: it has no name */
        const char *passes;                        /* words in front of what is run */
        bool classes;                              /* what is run may be "package.Class" */
};
static const struct interpreter interpreters[] = {
        { "python", LANGUAGE_PYTHON, true, " -W -X --check-hash-based-pycs ", " -m ", " -c ", "", false },
        { "pypy", LANGUAGE_PYTHON, true, " -W -X ", " -m ", " -c ", "", false },
        { "node", LANGUAGE_NODE, false, " -r --require --import --loader --experimental-loader -C --conditions --title --icu-data-dir ", "",
          " -e --eval -p --print -pe ", "", false },
        { "nodejs", LANGUAGE_NODE, false, " -r --require --import --loader --experimental-loader ", "", " -e --eval -p --print -pe ", "", false },
        { "bun", LANGUAGE_NODE, false, " -r --preload --cwd -c --config ", "", " -e --eval -p --print ", " run x ", false },
        { "deno", LANGUAGE_NODE, false, " -c --config --import-map --cert ", "", " eval ", " run serve ", false },
        { "java", LANGUAGE_JAVA, false,
          " -cp -classpath --class-path -p --module-path --upgrade-module-path --add-modules --add-exports --add-opens --add-reads "
          "--limit-modules --patch-module --enable-native-access --source ",
          " -jar -m --module ", "", "", true },
        { "ruby", LANGUAGE_RUBY, true, " -r -I -C -E ", "", " -e ", "", false },
        { "php", LANGUAGE_PHP, true, " -S -t -d -c -z ", " -f ", " -r -R -B -E ", "", false },
        { "perl", LANGUAGE_UNKNOWN, true, " -I ", "", " -e -E ", "", false },
        { "dotnet", LANGUAGE_DOTNET, false,
          " --additionalprobingpath --depsfile --runtimeconfig --fx-version --roll-forward ", "", "", " exec ", false },
};

/* ---- names of executables ---- */

static const char *base_of(const char *path) {
        const char *slash = strrchr(path, '/');
        return slash ? slash + 1 : path;
}

static bool ends_with(const char *text, size_t n, const char *end) {
        return n >= strlen(end) && memcmp(text + n - strlen(end), end, strlen(end)) == 0;
}

void runtime_basename(const char *path, char out[static PROCESS_TEXT_MAX]) {
        static const char wrapped[] = "-wrapped";
        const char *base = base_of(path);
        size_t n = strlen(base);
        if (n > sizeof(wrapped) && base[0] == '.' && ends_with(base, n, wrapped)) {
                base++;
                n -= sizeof(wrapped);
        }
        tel_utf8_printable(out, PROCESS_TEXT_MAX, base, n);
}

static const struct interpreter *interpreter_of(const char *exe) {
        char base[PROCESS_TEXT_MAX];
        runtime_basename(exe, base);
        for (size_t i = 0; i < TEL_ARRAY_LEN(interpreters); i++) {
                size_t n = strlen(interpreters[i].name);
                if (strncmp(base, interpreters[i].name, n) == 0 && base[n + strspn(base + n, "0123456789.-")] == '\0')
                        return interpreters + i;
        }
        return NULL;
}

enum process_language runtime_of_exe(const char *exe) {
        const struct interpreter *in = interpreter_of(exe);
        if (in)
                return in->language;
        return strncmp(base_of(exe), "php-fpm", 7) == 0 || strncmp(base_of(exe), "php-cgi", 7) == 0 ? LANGUAGE_PHP : LANGUAGE_UNKNOWN;
}

/* ---- ELF ---- */

static bool read_at(int fd, void *out, size_t n, uint64_t offset) {
        return offset <= INT64_MAX && pread(fd, out, n, (off_t)offset) == (ssize_t)n;
}

/* The compilers leave their names there: "GCC: (Debian 12.2.0-14) 12.2.0", "rustc version 1.75.0". */
static enum process_language language_of_comment(int fd, const Elf64_Shdr *section) {
        char text[COMMENT_MAX];
        size_t n = TEL_MIN(section->sh_size, (uint64_t)sizeof(text));
        if (!read_at(fd, text, n, section->sh_offset))
                return LANGUAGE_UNKNOWN;
        if (memmem(text, n, "rustc", 5))
                return LANGUAGE_RUST;
        return memmem(text, n, "GCC", 3) || memmem(text, n, "clang", 5) ? LANGUAGE_C : LANGUAGE_UNKNOWN;
}

void runtime_of_elf(int fd, struct runtime_elf *ret) {
        Elf64_Ehdr head;
        Elf64_Shdr sections[SECTIONS_MAX];
        char names[SECTION_NAMES_MAX];
        *ret = (struct runtime_elf){ 0 };
        if (!read_at(fd, &head, sizeof(head), 0) || memcmp(head.e_ident, ELFMAG, SELFMAG) != 0)
                return;
        ret->valid = true;
        ret->is_32bit = head.e_ident[EI_CLASS] == ELFCLASS32;
        if (head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_ident[EI_DATA] != ELFDATA2LSB || head.e_shentsize != sizeof(sections[0]))
                return;
        size_t n = TEL_MIN((size_t)head.e_shnum, (size_t)SECTIONS_MAX);
        if (head.e_shstrndx >= n || !read_at(fd, sections, n * sizeof(sections[0]), head.e_shoff))
                return;
        size_t names_n = TEL_MIN(sections[head.e_shstrndx].sh_size, (uint64_t)sizeof(names));
        if (names_n == 0 || !read_at(fd, names, names_n, sections[head.e_shstrndx].sh_offset))
                return;
        names[names_n - 1] = '\0';
        for (size_t i = 0; i < n && ret->language != LANGUAGE_GO; i++) {
                const char *name = sections[i].sh_name < names_n ? names + sections[i].sh_name : "";
                if (strcmp(name, ".go.buildinfo") == 0)
                        ret->language = LANGUAGE_GO;
                else if (strcmp(name, ".comment") == 0)
                        ret->language = language_of_comment(fd, sections + i);
        }
}

/* ---- maps ---- */

enum process_language runtime_of_maps(const char *maps, size_t n) {
        static const struct {
                const char *name;                  /* shorter than RUNTIME_LIBRARY_MAX */
                enum process_language language;
        } libraries[] = {
                { "/libjvm.so", LANGUAGE_JAVA }, { "/libcoreclr.so", LANGUAGE_DOTNET }, { "/libnode.so", LANGUAGE_NODE },
                { "/libpython", LANGUAGE_PYTHON }, { "/libruby", LANGUAGE_RUBY }, { "/libphp", LANGUAGE_PHP },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(libraries); i++)
                if (memmem(maps, n, libraries[i].name, strlen(libraries[i].name)))
                        return libraries[i].language;
        return LANGUAGE_UNKNOWN;
}

/* ---- what an interpreter runs ---- */

/* Command line, read a word at a time. */
struct words {
        const char *at, *end;
};

/* The next word, or NULL. One that was cut off has no NUL and does not count. */
static const char *word_next(struct words *w) {
        const char *word = w->at, *end = word < w->end ? memchr(word, '\0', (size_t)(w->end - word)) : NULL;
        if (!end)
                return NULL;
        w->at = end + 1;
        return word;
}

static bool is_listed(const char *list, const char *word, size_t n) {
        for (const char *at = list; (at = strchr(at, ' ')) && at[1]; at++)
                if (strncmp(at + 1, word, n) == 0 && at[1 + n] == ' ')
                        return true;
        return false;
}

enum option { OPTION_PLAIN, OPTION_RUNS, OPTION_NAMELESS };

/* One word that begins with '-'. OPTION_RUNS: *ret is what is run (NULL: the line ends before it). */
static enum option option_read(const struct interpreter *in, const char *word, struct words *rest, const char **ret) {
        size_t n = strlen(word);
        if (is_listed(in->names, word, n)) {
                *ret = word_next(rest);
                return OPTION_RUNS;
        }
        if (is_listed(in->code, word, n))
                return OPTION_NAMELESS;
        if (is_listed(in->takes, word, n)) {
                word_next(rest);
                return OPTION_PLAIN;
        }
        if (!in->clusters || word[1] == '-')
                return OPTION_PLAIN;
        for (const char *letter = word + 1; *letter; letter++) {
                const char option[] = { '-', *letter };
                bool takes = is_listed(in->takes, option, 2), names = is_listed(in->names, option, 2);
                if (is_listed(in->code, option, 2))
                        return OPTION_NAMELESS;
                if (takes && letter[1] == '\0')
                        word_next(rest);
                if (names)
                        *ret = letter[1] ? letter + 1 : word_next(rest);
                if (takes || names)                /* the rest of the word is its value */
                        return names ? OPTION_RUNS : OPTION_PLAIN;
        }
        return OPTION_PLAIN;
}

/* What the command line behind the interpreter runs, or NULL: code, standard input, nothing. */
static const char *find_run(const struct interpreter *in, struct words *rest) {
        const char *word, *run = NULL;
        while ((word = word_next(rest))) {
                if (strcmp(word, "--") == 0)
                        return word_next(rest);
                if (strcmp(word, "-") == 0)
                        return NULL;
                if (*word == '-') {
                        enum option o = option_read(in, word, rest, &run);
                        if (o != OPTION_PLAIN)
                                return o == OPTION_RUNS ? run : NULL;
                } else if (is_listed(in->code, word, strlen(word)))
                        return NULL;
                else if (*word && !is_listed(in->passes, word, strlen(word)))
                        return word;
        }
        return NULL;
}

/* Servers that write a title over their arguments: "gunicorn: worker [app:app]", "puma 5.6.5 (tcp://0.0.0.0:9292)". */
static bool title_read(const char *first, char out[static PROCESS_TEXT_MAX]) {
        size_t n = strcspn(first, " ");
        bool title = first[n] != '\0' && !memchr(first, '/', n);
        n -= n > 0 && first[n - 1] == ':';
        return title && n > 0 && tel_utf8_printable(out, PROCESS_TEXT_MAX, first, n) > 0;
}

/* A program that is several: /usr/bin/redis-server may lead to redis-check-rdb, and any name to busybox. The kernel's name of the thread and
 * the first argument both say how it was called; each alone says what the program likes. */
static void called_read(const char *comm, const char *first, char out[static PROCESS_TEXT_MAX]) {
        char word[PROCESS_TEXT_MAX], base[PROCESS_TEXT_MAX];
        size_t n = strcspn(first, " "), named = strlen(comm);
        tel_utf8_printable(word, sizeof(word), first, n > 0 && first[n - 1] == ':' ? n - 1 : n);
        runtime_basename(word, base);
        if (named > 0 && strncmp(base, comm, named) == 0 && (base[named] == '\0' || named == COMM_LEN))
                memcpy(out, base, sizeof(base));
}

void runtime_name(const char *exe, const char *comm, const char *arguments, size_t n, char out[static PROCESS_TEXT_MAX]) {
        const struct interpreter *in = interpreter_of(exe);
        struct words words = { arguments, arguments + n };
        const char *first = word_next(&words);
        runtime_basename(exe, out);
        if (!first)
                return;
        if (!in)
                called_read(comm, first, out);
        if (!in || title_read(first, out))
                return;
        const char *run = find_run(in, &words);
        if (!run)
                return;
        bool file = ends_with(run, strlen(run), ".jar") || ends_with(run, strlen(run), ".java");
        const char *dot = in->classes && !file ? strrchr(run, '.') : NULL;
        char name[PROCESS_TEXT_MAX];
        runtime_basename(dot && !strchr(dot, '/') ? dot + 1 : run, name);
        if (*name)
                memcpy(out, name, sizeof(name));
}
