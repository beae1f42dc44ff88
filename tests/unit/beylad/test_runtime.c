/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/runtime.h"

#include <elf.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

/* arguments: words between '|', each gets its NUL. */
static const char *name_of(const char *exe, const char *comm, const char *arguments) {
        static char out[PROCESS_TEXT_MAX];
        char text[1024];
        size_t n = strlen(arguments);
        memcpy(text, arguments, n + 1);
        for (size_t i = 0; i < n; i++)
                text[i] = text[i] == '|' ? '\0' : text[i];
        runtime_name(exe, comm, text, n ? n + 1 : 0, out);
        return out;
}

static void test_names(void **state) {
        (void)state;
        static const char *const cases[][3] = {
                { "/usr/sbin/nginx", "nginx: master process /usr/sbin/nginx", "nginx" },
                { "/usr/bin/python3.11", "", "python3.11" },
                { "/usr/bin/python3.11", "python3", "python3.11" },
                { "/usr/bin/python3.11", "python3|-m|http.server|8000", "http.server" },
                { "/usr/bin/python3.11", "python3|-mhttp.server", "http.server" },
                { "/usr/bin/python3.11", "python3|-um|http.server", "http.server" },
                { "/usr/bin/python3.11", "python3|-X|dev|-W|error|-u|/srv/app.py|--port|80", "app.py" },
                { "/usr/bin/python3.11", "python3|--check-hash-based-pycs|always|app.py", "app.py" },
                { "/usr/bin/python3.11", "python3|-uX|dev|-Wignore|app.py", "app.py" },
                { "/usr/bin/python3.11", "/srv/venv/bin/python|/srv/venv/bin/gunicorn|app:app|-w|4", "gunicorn" },
                { "/usr/bin/python3.11", "gunicorn: worker [app:app]", "gunicorn" },
                { "/usr/bin/python3.11", ": worker", "python3.11" },
                { "/usr/bin/python3.11", " worker", "python3.11" },
                { "/usr/bin/python3.11", "python3|-c|import os; os.system('secret')", "python3.11" },
                { "/usr/bin/python3.11", "python3|-Ic|secret", "python3.11" },
                { "/usr/bin/python3.11", "python3|-", "python3.11" },
                { "/usr/bin/python3.11", "python3|-m", "python3.11" },
                { "/usr/bin/python3.11", "python3|--|-x.py", "-x.py" },
                { "/nix/store/0abc-gunicorn/bin/.gunicorn-wrapped", "x", "gunicorn" },
                { "/nix/store/0abc/bin/python3.11", "python3.11|/nix/store/1-i3pm/bin/.i3pm-wrapped", "i3pm" },
                { "/usr/bin/-wrapped", "", "-wrapped" },
                { "/usr/bin/.-wrapped", "", ".-wrapped" },
                { "/usr/bin/node", "node|--max-old-space-size=100|-r|dotenv/config|/srv/server.js", "server.js" },
                { "/usr/bin/node", "node|--eval|secret", "node" },
                { "/usr/bin/node", "next-server (v14.1.0)", "next-server" },
                { "/usr/bin/node", "node|--|server.js", "server.js" },
                { "/usr/local/bin/bun", "bun|run|index.ts", "index.ts" },
                { "/usr/bin/deno", "deno|run|-A|main.ts", "main.ts" },
                { "/usr/bin/deno", "deno|eval|secret", "deno" },
                { "/usr/lib/jvm/bin/java", "java|-Xmx1g|-Dpw=secret|-cp|/a.jar:/b.jar|com.example.shop.Main|x", "Main" },
                { "/usr/lib/jvm/bin/java", "java|-jar|/opt/shop-1.2.jar|--port=80", "shop-1.2.jar" },
                { "/usr/lib/jvm/bin/java", "java|--module-path|/m|-m|shop/com.example.Web", "Web" },
                { "/usr/lib/jvm/bin/java", "java|-m|shop.web", "web" },
                { "/usr/lib/jvm/bin/java", "java|-jar", "java" },
                { "/usr/lib/jvm/bin/java", "java|src/Shop.java", "Shop.java" },
                { "/usr/bin/ruby3.1", "ruby|-I|lib|-w|bin/rails|server", "rails" },
                { "/usr/bin/ruby3.1", "puma 5.6.5 (tcp://0.0.0.0:9292) [shop]", "puma" },
                { "/usr/bin/php8.2", "php|-S|0.0.0.0:80|-t|public", "php8.2" },
                { "/usr/bin/php8.2", "php|-d|a=b|-f|x/worker.php", "worker.php" },
                { "/usr/bin/php8.2", "php|artisan|serve", "artisan" },
                { "/usr/sbin/php-fpm8.2", "php-fpm: pool www", "php-fpm8.2" },
                { "/usr/bin/perl", "perl|-w|-I|lib|app.psgi", "app.psgi" },
                { "/usr/bin/perl", "perl|-ne|secret", "perl" },
                { "/usr/share/dotnet/dotnet", "dotnet|exec|/srv/Shop.dll", "Shop.dll" },
                { "/usr/bin/pythonista", "pythonista|x.py", "pythonista" },        /* no interpreter of ours */
                { "/usr/bin/node_exporter", "node_exporter|x.js", "node_exporter" },
                { "/usr/bin/python3.11", "python3|/srv/a\nb\x1b.py", "a?b?.py" },
                { "/usr/bin/python3.11", "python3|/srv/", "python3.11" },
                { "", "", "" },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++)
                if (strcmp(name_of(cases[i][0], "", cases[i][1]), cases[i][2]) != 0)
                        fail_msg("%s, %s: %s, expected %s", cases[i][0], cases[i][1], name_of(cases[i][0], "", cases[i][1]), cases[i][2]);
        char out[PROCESS_TEXT_MAX];
        runtime_name("/usr/bin/python3", "python3", "python3\0/srv/app.p", 18, out);      /* cut in the word: it is not known */
        assert_string_equal(out, "python3");
        runtime_name("/usr/bin/python3", "python3", "python3\0-m\0", 11, out);
        assert_string_equal(out, "python3");
}

/* A program that is several has the name that both its thread and its first argument have. */
static void test_called(void **state) {
        (void)state;
        static const char *const cases[][4] = {
                { "/usr/bin/redis-check-rdb", "redis-server", "redis-server *:6379", "redis-server" },
                { "/usr/bin/redis-check-rdb", "redis-server", "/usr/bin/redis-server|--port|1", "redis-server" },
                { "/bin/busybox", "httpd", "httpd|-f", "httpd" },
                { "/usr/bin/x", "a-name-of-fifte", "a-name-of-fifteen-and-more|x", "a-name-of-fifteen-and-more" },
                { "/usr/bin/x", "short", "shorter|x", "x" },
                { "/usr/bin/x", "worker", "x|y", "x" },        /* only the thread says so */
                { "/usr/bin/x", "x", "y|z", "x" },             /* only the argument does */
                { "/usr/bin/bash", "bash", "-bash", "bash" },
                { "/usr/sbin/nginx", "nginx", "nginx: worker process", "nginx" },
                { "/usr/bin/x", "", "", "x" },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++)
                assert_string_equal(name_of(cases[i][0], cases[i][1], cases[i][2]), cases[i][3]);
}

static void test_languages(void **state) {
        (void)state;
        static const struct { const char *exe; enum process_language language; } cases[] = {
                { "/usr/bin/python3", LANGUAGE_PYTHON }, { "/usr/bin/python3.11-dbg", LANGUAGE_UNKNOWN }, { "/usr/bin/pypy3", LANGUAGE_PYTHON },
                { "/usr/bin/node", LANGUAGE_NODE }, { "node", LANGUAGE_NODE }, { "/x/java", LANGUAGE_JAVA }, { "/x/ruby3.1", LANGUAGE_RUBY },
                { "/x/php8.2", LANGUAGE_PHP }, { "/x/php-fpm8.2", LANGUAGE_PHP }, { "/x/dotnet", LANGUAGE_DOTNET }, { "/x/nginx", LANGUAGE_UNKNOWN },
                { "/usr/bin/perl", LANGUAGE_UNKNOWN }, { "/usr/bin/", LANGUAGE_UNKNOWN }, { "", LANGUAGE_UNKNOWN },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++)
                assert_int_equal(runtime_of_exe(cases[i].exe), cases[i].language);
        static const char maps[] = "7f00-7f01 r-xp 00000000 fe:00 12 /usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0\n";
        assert_int_equal(runtime_of_maps(maps, sizeof(maps) - 1), LANGUAGE_PYTHON);
        assert_int_equal(runtime_of_maps(maps, 50), LANGUAGE_UNKNOWN);
        assert_int_equal(runtime_of_maps("/x/server/libjvm.so\n", 20), LANGUAGE_JAVA);
        assert_int_equal(runtime_of_maps("", 0), LANGUAGE_UNKNOWN);
}

/* ---- ELF files made by hand ---- */

struct file {
        Elf64_Ehdr head;
        char names[48];
        char comment[64];
        Elf64_Shdr sections[3];                    /* the empty one, the names, and one to look at */
};

static struct file file_make(const char *section, const char *comment) {
        struct file f = { .head = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT }, .e_shoff = offsetof(struct file, sections),
                                    .e_shentsize = sizeof(Elf64_Shdr), .e_shnum = 3, .e_shstrndx = 1 } };
        memcpy(f.names + 1, section, strlen(section));
        memcpy(f.comment, comment, strlen(comment));
        f.sections[1] = (Elf64_Shdr){ .sh_offset = offsetof(struct file, names), .sh_size = sizeof(f.names) };
        f.sections[2] = (Elf64_Shdr){ .sh_name = 1, .sh_offset = offsetof(struct file, comment), .sh_size = sizeof(f.comment) };
        return f;
}

static struct runtime_elf look(const void *bytes, size_t n) {
        struct runtime_elf elf;
        int fd = memfd_create("elf", 0);
        assert_int_equal(write(fd, bytes, n), n);
        runtime_of_elf(fd, &elf);
        close(fd);
        return elf;
}

static void test_elf(void **state) {
        (void)state;
        static const struct { const char *section, *comment; enum process_language language; } cases[] = {
                { ".go.buildinfo", "", LANGUAGE_GO },
                { ".comment", "GCC: (Debian 12.2.0-14) 12.2.0\0rustc version 1.75.0", LANGUAGE_C },
                { ".comment", "rustc version 1.75.0 (GCC too)", LANGUAGE_RUST },
                { ".comment", "Debian clang version 14.0.6", LANGUAGE_C },
                { ".comment", "something", LANGUAGE_UNKNOWN },
                { ".text", "GCC:", LANGUAGE_UNKNOWN },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++) {
                struct file f = file_make(cases[i].section, cases[i].comment);
                struct runtime_elf elf = look(&f, sizeof(f));
                assert_true(elf.valid);
                assert_false(elf.is_32bit);
                assert_int_equal(elf.language, cases[i].language);
        }
        struct file f = file_make(".go.buildinfo", "");
        f.head.e_ident[EI_CLASS] = ELFCLASS32;
        assert_true(look(&f, sizeof(f)).is_32bit);
        int own = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        struct runtime_elf elf;
        runtime_of_elf(own, &elf);
        close(own);
        assert_true(elf.valid);
        assert_int_equal(elf.language, LANGUAGE_C);
}

/* Files that are none, cut short anywhere, or whose numbers lead nowhere. */
static void test_elf_damaged(void **state) {
        (void)state;
        struct file f = file_make(".go.buildinfo", "");
        for (size_t n = 0; n < sizeof(f); n += 7)
                assert_int_equal(look(&f, n).language, LANGUAGE_UNKNOWN);
        assert_false(look("#!/bin/sh\n", 10).valid);
        static const struct { size_t at, n; } numbers[] = {
                { offsetof(struct file, head.e_shoff), 8 }, { offsetof(struct file, head.e_shnum), 2 }, { offsetof(struct file, head.e_shstrndx), 2 },
                { offsetof(struct file, head.e_shentsize), 2 }, { offsetof(struct file, sections[1].sh_offset), 8 },
                { offsetof(struct file, sections[1].sh_size), 8 }, { offsetof(struct file, sections[2].sh_name), 4 },
                { offsetof(struct file, sections[2].sh_offset), 8 }, { offsetof(struct file, sections[2].sh_size), 8 },
        };
        static const uint64_t values[] = { 0, 1, 255, 0x7fffffff, 0xffffffff, UINT64_MAX, (uint64_t)INT64_MAX + 1 };
        for (size_t i = 0; i < TEL_ARRAY_LEN(numbers); i++)
                for (size_t j = 0; j < TEL_ARRAY_LEN(values); j++)
                        for (int comment = 0; comment < 2; comment++) {
                                f = file_make(comment ? ".comment" : ".go.buildinfo", "GCC");
                                memcpy((char *)&f + numbers[i].at, &values[j], numbers[i].n);
                                look(&f, sizeof(f));           /* the sanitizers watch */
                        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names), cmocka_unit_test(test_called), cmocka_unit_test(test_languages), cmocka_unit_test(test_elf),
                cmocka_unit_test(test_elf_damaged),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
