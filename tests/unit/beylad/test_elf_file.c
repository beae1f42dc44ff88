/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/elf_file.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "beylad/maps_file.h"
#include "tests/unit/beylad/image.h"

static struct elf_file *open_image(struct image *m) {
        struct elf_file *f = NULL;
        assert_int_equal(elf_file_new(image_fd(m), &f), 0);
        image_done(m);
        return f;
}

/* ---- symbols ---- */

/* The C library of this very process: what we find in the file is where the linker put it, and its code is the code that runs. */
static void test_a_real_library(void **state) {
        struct maps_file maps;
        struct elf_function f[] = { { .name = "malloc" }, { .name = "no_such_function" }, { .name = "memfd_create" } };
        uintptr_t real = (uintptr_t)dlsym(RTLD_DEFAULT, "memfd_create");
        struct elf_file *elf = NULL;
        uint8_t code[32];
        uint64_t offset;
        (void)state;
        assert_int_equal(maps_file_read("/proc", (uint32_t)getpid(), &maps), 0);
        const struct mapped_file *m = NULL;
        for (size_t i = 0; i < maps.n; i++)
                if (real >= maps.files[i].start && real < maps.files[i].end)
                        m = &maps.files[i];
        assert_non_null(m);
        assert_int_equal(elf_file_new(maps_file_open("/proc", (uint32_t)getpid(), m), &elf), 0);
        assert_int_equal(elf_file_functions(elf, f, TEL_ARRAY_LEN(f)), 2);
        assert_int_equal(f[1].address, 0);
        assert_int_equal(elf_file_offset(elf, f[2].address, &offset), 0);
        assert_int_equal(offset, real - m->start + m->offset);
        assert_int_equal(elf_file_code(elf, f[2].address, code, sizeof(code)), sizeof(code));
        assert_memory_equal(code, (const void *)real, sizeof(code));
        assert_false(elf_file_is_go(elf));
        elf_file_free(elf);
        maps_file_done(&maps);
}

/* A linker lets a name be the end of a longer one, and a table may hold it twice. What is only asked for (undefined) is not there. */
static void test_names(void **state) {
        static const char strings[] = "\0my_SSL_read\0SSL_write\0SSL_write_ex\0SSL_free";
        static const uint32_t names[] = { 4, 13, 23, 36 };
        static const uint64_t addresses[] = { IMAGE_AT + 64, 0, IMAGE_AT + 80, IMAGE_AT + 96 };
        struct elf_function f[] = { { .name = "SSL_read" }, { .name = "SSL_write" }, { .name = "SSL_write_ex" }, { .name = "SSL_free" }, { .name = "read" } };
        struct image m;
        (void)state;
        image_init(&m, ET_DYN);
        image_symbols(&m, true, strings, sizeof(strings), names, addresses, 4);
        struct elf_file *elf = open_image(&m);
        assert_int_equal(elf_file_functions(elf, f, TEL_ARRAY_LEN(f)), 3);
        assert_int_equal(f[0].address, IMAGE_AT + 64);
        assert_int_equal(f[0].size, 16);
        assert_int_equal(f[1].address, 0);
        assert_int_equal(f[2].address, IMAGE_AT + 80);
        assert_int_equal(f[3].address, IMAGE_AT + 96);
        assert_int_equal(f[4].address, 0);
        elf_file_free(elf);
}

/* What the dynamic table does not have is looked for in the full one; the dynamic one wins. */
static void test_both_tables(void **state) {
        static const char strings[] = "\0one\0two";
        static const uint32_t names[] = { 1, 5 };
        static const uint64_t dynamic[] = { IMAGE_AT + 16, 0 }, full[] = { IMAGE_AT + 32, IMAGE_AT + 48 };
        struct elf_function f[] = { { .name = "one" }, { .name = "two" } };
        struct image m;
        (void)state;
        image_init(&m, ET_EXEC);
        image_symbols(&m, false, strings, sizeof(strings), names, full, 2);
        image_symbols(&m, true, strings, sizeof(strings), names, dynamic, 2);
        struct elf_file *elf = open_image(&m);
        assert_int_equal(elf_file_functions(elf, f, 2), 2);
        assert_int_equal(f[0].address, IMAGE_AT + 16);
        assert_int_equal(f[1].address, IMAGE_AT + 48);
        elf_file_free(elf);
}

/* A table of strings is read in parts: a name is found wherever the cut is. */
static void test_name_at_every_cut(void **state) {
        static char strings[70000];
        static const uint64_t address = IMAGE_AT + 16;
        (void)state;
        for (uint32_t at = 32768 - 63 - 16; at < 32768 + 16; at++) {
                struct elf_function f = { .name = "gnutls_record_recv" };
                struct image m;
                memset(strings, 'x', sizeof(strings));
                strings[0] = strings[at - 1] = strings[sizeof(strings) - 1] = '\0';
                strcpy(strings + at, f.name);
                image_init(&m, ET_EXEC);
                image_symbols(&m, true, strings, sizeof(strings), &at, &address, 1);
                struct elf_file *elf = open_image(&m);
                assert_int_equal(elf_file_functions(elf, &f, 1), 1);
                assert_int_equal(f.address, address);
                elf_file_free(elf);
        }
}

static void test_addresses_outside(void **state) {
        struct image m;
        uint64_t offset;
        uint8_t byte;
        (void)state;
        image_init(&m, ET_EXEC);
        struct elf_file *elf = open_image(&m);
        assert_int_equal(elf_file_offset(elf, IMAGE_AT, &offset), 0);
        assert_int_equal(offset, 0);
        assert_int_equal(elf_file_offset(elf, IMAGE_AT - 1, &offset), -ENOENT);
        assert_int_equal(elf_file_offset(elf, UINT64_MAX, &offset), -ENOENT);
        assert_int_equal(elf_file_code(elf, IMAGE_AT + IMAGE_BYTES, &byte, 1), 0);
        elf_file_free(elf);
}

/* ---- Go ---- */

static void put(uint8_t *to, uint64_t value, size_t n) {
        memcpy(to, &value, n);
}

static const char go_names[] = "runtime.memmove\0crypto/tls.(*Conn).Read\0main.main";
static const uint32_t go_places[] = { 0, 16, 40 };

/* A function table of three functions at text + 0x100, 0x200 and 0x340; the code ends at 0x400. */
static size_t pclntab(uint8_t *out, uint32_t magic, uint64_t text_in_header) {
        bool wide = magic == 0xfffffffa;
        size_t row = wide ? 16 : 8, names = 72, functions = names + tel_align(sizeof(go_names), 8), word = wide ? 24 : 32;
        static const uint32_t offsets[] = { 0x100, 0x200, 0x340, 0x400 };
        memset(out, 0, 512);
        put(out, magic, 4);
        out[6] = 1;
        out[7] = 8;
        put(out + 8, 3, 8);
        if (!wide)
                put(out + 24, text_in_header, 8);
        put(out + word, names, 8);
        put(out + word + 8, names + sizeof(go_names), 8);
        put(out + word + 32, functions, 8);
        memcpy(out + names, go_names, sizeof(go_names));
        size_t description = 4 * row;
        for (size_t i = 0; i < 4; i++) {
                uint8_t *p = out + functions + i * row;
                put(p, (wide ? text_in_header : 0) + offsets[i], row / 2);
                put(p + row / 2, i < 3 ? description + i * 24 : 0, row / 2);
                if (i < 3)
                        put(out + functions + description + i * 24 + (wide ? 8 : 4), go_places[i], 4);
        }
        return functions + description + 3 * 24 + 8;
}

static void expect_functions(struct elf_file *elf, uint64_t text) {
        struct elf_function f[] = { { .name = "crypto/tls.(*Conn).Read" }, { .name = "main.main" }, { .name = "tls.(*Conn).Read" } };
        assert_true(elf_file_is_go(elf));
        assert_int_equal(elf_file_go_functions(elf, f, TEL_ARRAY_LEN(f)), 2);
        assert_int_equal(f[0].address, text + 0x200);
        assert_int_equal(f[0].size, 0x140);
        assert_int_equal(f[1].address, text + 0x340);
        assert_int_equal(f[1].size, 0xc0);
        assert_int_equal(f[2].address, 0);         /* the end of a name is not a name here */
        elf_file_free(elf);
}

/* Go 1.17 has addresses; 1.20 has offsets from the start of the code, which is in the header. */
static void test_go_tables(void **state) {
        static const uint32_t magics[] = { 0xfffffffa, 0xfffffff0, 0xfffffff1 };
        uint8_t table[512];
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(magics); i++) {
                struct image m;
                image_init(&m, ET_EXEC);
                image_section(&m, ".gopclntab", SHT_PROGBITS, table, pclntab(table, magics[i], 0x401000));
                expect_functions(open_image(&m), 0x401000);
        }
}

/* Since Go 1.26 the start of the code stands in the module's data alone; without that, it is the section .text. */
static void test_go_126(void **state) {
        uint8_t table[512], module[592] = { 0 };
        (void)state;
        for (int with_module = 0; with_module < 2; with_module++) {
                struct image m;
                image_init(&m, ET_EXEC);
                size_t text = image_section(&m, ".text", SHT_PROGBITS, "\xc3", 1);
                image_section(&m, ".gopclntab", SHT_PROGBITS, table, pclntab(table, 0xfffffff1, 0));
                put(module + 176, 0x402340, 8);
                if (with_module)
                        image_section(&m, ".go.module", SHT_PROGBITS, module, sizeof(module));
                uint64_t expected = with_module ? 0x402340 : image_address(&m, text);
                expect_functions(open_image(&m), expected);
        }
}

/* Position-independent: the pointers are in the relocations. */
static void test_go_relocated(void **state) {
        uint8_t table[512], module[592] = { 0 };
        (void)state;
        for (int old = 0; old < 2; old++) {
                struct image m;
                image_init(&m, ET_DYN);
                size_t in_table = image_section(&m, old ? ".data.rel.ro.gopclntab" : ".gopclntab", SHT_PROGBITS, table, pclntab(table, 0xfffffff1, 0));
                size_t in_module = old ? 0 : image_section(&m, ".go.module", SHT_PROGBITS, module, sizeof(module));
                Elf64_Rela rela[] = {
                        { .r_offset = 8, .r_info = ELF64_R_INFO(0, R_X86_64_RELATIVE), .r_addend = 1 },
                        { .r_offset = old ? image_address(&m, in_table) + 24 : image_address(&m, in_module) + 176,
                          .r_info = ELF64_R_INFO(0, R_X86_64_RELATIVE), .r_addend = 0x7000 },
                };
                size_t at = image_section(&m, ".rela.dyn", SHT_RELA, rela, sizeof(rela));
                m.sections[at].sh_entsize = sizeof(rela[0]);
                expect_functions(open_image(&m), 0x7000);
        }
}

static void test_go_versions(void **state) {
        static const char inline_form[] = "\xff Go buildinf:\x08\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x08go1.26.8\x04path";
        uint8_t pointer_form[32] = "\xff Go buildinf:\x08\0", string[24] = { 0 };
        char version[ELF_GO_VERSION_MAX];
        struct image m;
        (void)state;
        image_init(&m, ET_EXEC);
        image_section(&m, ".go.buildinfo", SHT_PROGBITS, inline_form, sizeof(inline_form));
        struct elf_file *elf = open_image(&m);
        assert_int_equal(elf_file_go_version(elf, version), 0);
        assert_string_equal(version, "go1.26.8");
        elf_file_free(elf);

        image_init(&m, ET_EXEC);
        size_t text = image_section(&m, ".rodata", SHT_PROGBITS, "go1.17.13trash", 14);
        put(string, image_address(&m, text), 8);
        put(string + 8, 9, 8);
        size_t at = image_section(&m, ".data", SHT_PROGBITS, string, sizeof(string));
        put(pointer_form + 16, image_address(&m, at), 8);
        image_section(&m, ".go.buildinfo", SHT_PROGBITS, pointer_form, sizeof(pointer_form));
        elf = open_image(&m);
        assert_int_equal(elf_file_go_version(elf, version), 0);
        assert_string_equal(version, "go1.17.13");
        elf_file_free(elf);
}

/* ---- what is no such file ---- */

static void test_no_elf(void **state) {
        struct elf_file *elf = NULL;
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC), text = image_file((const uint8_t *)"#!/bin/sh\n", 10);
        (void)state;
        assert_int_equal(elf_file_new(null, &elf), -ENOEXEC);
        assert_int_equal(elf_file_new(text, &elf), -ENOEXEC);
        assert_int_equal(elf_file_new(-1, &elf), -EBADF);
        close(null);
        close(text);
        assert_null(elf_file_free(NULL));
}

static void test_go_tables_we_do_not_know(void **state) {
        struct elf_function f = { .name = "main.main" };
        uint8_t table[512];
        struct image m;
        struct elf_file *elf;
        (void)state;
        static const struct { uint32_t magic; size_t size; int expected; } cases[] = {
                { 0xfffffffb, 512, -ENOTSUP }, { 0xffffffee, 512, -ENOTSUP }, { 0xfffffff1, 71, -EBADMSG }, { 0xfffffff1, 150, -EBADMSG },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++) {
                image_init(&m, ET_EXEC);
                pclntab(table, cases[i].magic, 0x401000);
                image_section(&m, ".gopclntab", SHT_PROGBITS, table, cases[i].size);
                elf = open_image(&m);
                assert_int_equal(elf_file_go_functions(elf, &f, 1), cases[i].expected);
                elf_file_free(elf);
        }
        image_init(&m, ET_EXEC);
        elf = open_image(&m);
        assert_int_equal(elf_file_go_functions(elf, &f, 1), -ENOENT);
        elf_file_free(elf);
}

/* A table that claims more functions than it can hold is not gone through. */
static void test_go_table_that_lies(void **state) {
        struct elf_function f = { .name = "main.main" };
        uint8_t table[512];
        static const uint64_t counts[] = { 1ull << 60, 1u << 20, UINT64_MAX };
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(counts); i++) {
                struct image m;
                size_t n = pclntab(table, 0xfffffff1, 0x401000);
                put(table + 8, counts[i], 8);
                image_init(&m, ET_EXEC);
                image_section(&m, ".gopclntab", SHT_PROGBITS, table, n);
                struct elf_file *elf = open_image(&m);
                assert_int_equal(elf_file_go_functions(elf, &f, 1), -EBADMSG);
                elf_file_free(elf);
        }
}

/* A table whose descriptions lie far from each other would have us read the file a million times over. */
static void test_go_table_that_jumps(void **state) {
        enum { ROWS = 1 << 20, FUNCTIONS = 1 << 20, BYTES = 64 << 20 };
        struct elf_function f = { .name = "main.main" };
        uint8_t table[512];
        struct image m;
        struct elf_file *elf;
        (void)state;
        size_t n = pclntab(table, 0xfffffff1, 0x401000);
        put(table + 8, ROWS, 8);
        put(table + 64, FUNCTIONS, 8);
        image_init(&m, ET_EXEC);
        size_t at = image_section(&m, ".gopclntab", SHT_PROGBITS, table, n);
        uint64_t offset = m.sections[at].sh_offset;
        m.sections[at].sh_size = BYTES - offset;
        int fd = image_fd(&m);
        assert_int_equal(ftruncate(fd, BYTES), 0);
        uint32_t *rows = calloc(ROWS, 8);
        assert_non_null(rows);
        for (size_t i = 0; i < ROWS; i++) {        /* all of them runtime.memmove: main.main is looked for to the end */
                rows[2 * i] = (uint32_t)i * 16;
                rows[2 * i + 1] = (i % 2 ? 40u : 20u) << 20;
        }
        assert_int_equal(pwrite(fd, rows, ROWS * 8, (off_t)(offset + FUNCTIONS)), ROWS * 8);
        free(rows);
        image_done(&m);
        assert_int_equal(elf_file_new(fd, &elf), 0);
        assert_int_equal(elf_file_go_functions(elf, &f, 1), -EBADMSG);
        elf_file_free(elf);
}

/* Cut anywhere, the file gives what is left or an error, and no byte behind its end is read. */
static void test_cut_everywhere(void **state) {
        static const char strings[] = "\0SSL_read";
        static const uint32_t name = 1;
        static const uint64_t address = IMAGE_AT + 16;
        uint8_t table[512];
        char version[ELF_GO_VERSION_MAX];
        struct image m;
        (void)state;
        image_init(&m, ET_EXEC);
        image_section(&m, ".gopclntab", SHT_PROGBITS, table, pclntab(table, 0xfffffff1, 0x401000));
        image_symbols(&m, true, strings, sizeof(strings), &name, &address, 1);
        image_finish(&m);
        for (size_t n = 0; n < m.n; n++) {
                struct elf_function f = { .name = "SSL_read" };
                struct elf_file *elf = NULL;
                int fd = image_file(m.bytes, n);
                if (elf_file_new(fd, &elf) < 0) {
                        close(fd);
                        continue;
                }
                assert_true(elf_file_functions(elf, &f, 1) <= 1);
                elf_file_go_functions(elf, &f, 1);
                elf_file_go_version(elf, version);
                elf_file_free(elf);
        }
        image_done(&m);
}

/* The owner shortens the file after we looked at its size. */
static void test_file_that_shrinks(void **state) {
        static const char strings[] = "\0SSL_read";
        static const uint32_t name = 1;
        static const uint64_t address = IMAGE_AT + 16;
        struct elf_function f = { .name = "SSL_read" };
        struct image m;
        uint8_t code[16];
        (void)state;
        image_init(&m, ET_EXEC);
        image_symbols(&m, true, strings, sizeof(strings), &name, &address, 1);
        struct elf_file *elf = open_image(&m);
        assert_int_equal(ftruncate(elf_file_fd(elf), 10), 0);
        assert_int_equal(elf_file_functions(elf, &f, 1), -EBADMSG);
        assert_int_equal(elf_file_code(elf, IMAGE_AT + 64, code, sizeof(code)), 0);
        elf_file_free(elf);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_real_library),
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_both_tables),
                cmocka_unit_test(test_name_at_every_cut),
                cmocka_unit_test(test_addresses_outside),
                cmocka_unit_test(test_go_tables),
                cmocka_unit_test(test_go_126),
                cmocka_unit_test(test_go_relocated),
                cmocka_unit_test(test_go_versions),
                cmocka_unit_test(test_no_elf),
                cmocka_unit_test(test_go_tables_we_do_not_know),
                cmocka_unit_test(test_go_table_that_lies),
                cmocka_unit_test(test_go_table_that_jumps),
                cmocka_unit_test(test_cut_everywhere),
                cmocka_unit_test(test_file_that_shrinks),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
