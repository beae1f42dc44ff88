/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Image: small ELF files for tests: one loaded segment that holds the whole file at IMAGE_AT, and the sections that are added.
 *
 *     struct image m;
 *     image_init(&m, ET_EXEC);
 *     image_section(&m, ".text", SHT_PROGBITS, bytes, n);
 *     int fd = image_fd(&m);                    for reading; the caller closes it */
#include <elf.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "libtelemetry/base.h"

#define IMAGE_AT 0x400000u
#define IMAGE_SECTIONS 16
#define IMAGE_BYTES (1u << 20)

struct image {
        uint8_t *bytes;
        size_t n;
        Elf64_Shdr sections[IMAGE_SECTIONS];
        size_t n_sections;
        char names[512];
        size_t names_len;
        uint16_t type;
};

static inline void image_init(struct image *m, uint16_t type) {
        memset(m, 0, sizeof(*m));
        m->bytes = calloc(1, IMAGE_BYTES);
        assert_non_null(m->bytes);
        m->n = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr);
        m->n_sections = 1;                         /* the first is nobody's */
        m->names_len = 1;
        m->type = type;
}

/* Returns the section's index. */
static inline size_t image_section(struct image *m, const char *name, uint32_t type, const void *bytes, size_t n) {
        Elf64_Shdr *s = &m->sections[m->n_sections];
        m->n = tel_align(m->n, 16);
        assert_true(m->n + n < IMAGE_BYTES && m->n_sections < IMAGE_SECTIONS);
        memcpy(m->bytes + m->n, bytes, n);
        *s = (Elf64_Shdr){ .sh_name = (uint32_t)m->names_len, .sh_type = type, .sh_offset = m->n, .sh_addr = IMAGE_AT + m->n, .sh_size = n };
        m->names_len += (size_t)snprintf(m->names + m->names_len, sizeof(m->names) - m->names_len, "%s", name) + 1;
        m->n += n;
        return m->n_sections++;
}

/* Where the section's bytes are, as an address. */
static inline uint64_t image_address(const struct image *m, size_t section) {
        return m->sections[section].sh_addr;
}

/* A table of symbols, each a function of 16 bytes; undefined when its address is 0. Names are offsets in strings. */
static inline void image_symbols(struct image *m, bool dynamic, const char *strings, size_t strings_len, const uint32_t *names, const uint64_t *addresses,
                                 size_t n) {
        Elf64_Sym symbols[32] = { { 0 } };
        assert_true(n < TEL_ARRAY_LEN(symbols));
        for (size_t i = 0; i < n; i++)
                symbols[i + 1] = (Elf64_Sym){ .st_name = names[i], .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), .st_shndx = addresses[i] ? 1 : SHN_UNDEF,
                                              .st_value = addresses[i], .st_size = 16 };
        size_t text = image_section(m, dynamic ? ".dynstr" : ".strtab", SHT_STRTAB, strings, strings_len);
        size_t table = image_section(m, dynamic ? ".dynsym" : ".symtab", dynamic ? SHT_DYNSYM : SHT_SYMTAB, symbols, (n + 1) * sizeof(symbols[0]));
        m->sections[table].sh_link = (uint32_t)text;
        m->sections[table].sh_entsize = sizeof(symbols[0]);
}

/* Writes headers and names; afterwards bytes and n are the file. */
static inline void image_finish(struct image *m) {
        size_t names = image_section(m, ".shstrtab", SHT_STRTAB, m->names, m->names_len + sizeof(".shstrtab"));
        memcpy(m->bytes + m->sections[names].sh_offset, m->names, m->names_len);
        Elf64_Ehdr e = { .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT }, .e_type = m->type, .e_machine = EM_X86_64,
                         .e_version = EV_CURRENT, .e_phoff = sizeof(e), .e_ehsize = sizeof(e), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 1,
                         .e_shentsize = sizeof(Elf64_Shdr), .e_shnum = (uint16_t)m->n_sections, .e_shstrndx = (uint16_t)names };
        m->n = tel_align(m->n, 16);
        e.e_shoff = m->n;
        memcpy(m->bytes + m->n, m->sections, m->n_sections * sizeof(m->sections[0]));
        m->n += m->n_sections * sizeof(m->sections[0]);
        Elf64_Phdr p = { .p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = IMAGE_AT, .p_filesz = m->n, .p_memsz = m->n };
        memcpy(m->bytes, &e, sizeof(e));
        memcpy(m->bytes + sizeof(e), &p, sizeof(p));
}

static inline int image_file(const uint8_t *bytes, size_t n) {
        int fd = memfd_create("image", MFD_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, bytes, n), n);
        return fd;
}

static inline int image_fd(struct image *m) {
        image_finish(m);
        return image_file(m->bytes, m->n);
}

static inline void image_done(struct image *m) {
        free(m->bytes);
}
