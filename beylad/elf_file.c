/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/elf_file.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define WINDOW_BYTES 65536                         /* read at once: tables are gone through in order */
#define PLACES_MAX 8                               /* of one name in a table of strings: linkers merge them, two were seen */
#define GO_STEP_MAX (1u << 22)                     /* functions of a Go program gone through; the largest known has a tenth */

/* A part of the file in memory. Tables that are gone through side by side have one each. */
struct window {
        uint64_t at;
        size_t n;
        uint8_t bytes[WINDOW_BYTES];
};

struct elf_file {
        int fd;
        uint64_t size;
        uint64_t was_read;                         /* bytes, through windows */
        uint16_t type, machine;
        Elf64_Phdr segments[ELF_SEGMENTS_MAX];
        size_t n_segments;
        Elf64_Shdr sections[ELF_SECTIONS_MAX];
        size_t n_sections;
        const Elf64_Shdr *pclntab, *buildinfo, *module, *text;
        struct window windows[2];
};

/* ---- reading ---- */

static bool within(uint64_t at, uint64_t n, uint64_t size) {
        return n <= size && at <= size - n;
}

static ssize_t read_at(int fd, void *out, size_t n, uint64_t at) {
        size_t done = 0;
        while (done < n) {
                ssize_t r = pread(fd, (uint8_t *)out + done, n - done, (off_t)(at + done));
                if (r < 0 && errno == EINTR)
                        continue;
                if (r < 0)
                        return -errno;
                if (r == 0)
                        break;
                done += (size_t)r;
        }
        return (ssize_t)done;
}

/* n bytes (at most half a window) at an offset of the file, or NULL. Good until the window is asked again. */
static const uint8_t *look(struct elf_file *f, unsigned which, uint64_t at, size_t n) {
        struct window *w = &f->windows[which];
        assert(n <= WINDOW_BYTES / 2);
        if (!within(at, n, f->size))
                return NULL;
        if (at < w->at || !within(at - w->at, n, w->n)) {
                if (f->was_read >= ELF_READ_MAX)
                        return NULL;
                ssize_t r = read_at(f->fd, w->bytes, (size_t)TEL_MIN((uint64_t)WINDOW_BYTES, f->size - at), at);
                w->at = at;
                w->n = r < 0 ? 0 : (size_t)r;
                f->was_read += w->n;
                if (w->n < n)
                        return NULL;               /* it became shorter while we read it */
        }
        return w->bytes + (at - w->at);
}

static uint64_t get64(const uint8_t *p) {
        uint64_t v;
        memcpy(&v, p, sizeof(v));
        return v;
}

static uint32_t get32(const uint8_t *p) {
        uint32_t v;
        memcpy(&v, p, sizeof(v));
        return v;
}

/* ---- headers ---- */

static bool section_named(struct elf_file *f, const Elf64_Shdr *names, const Elf64_Shdr *s, const char *name) {
        size_t n = strlen(name) + 1;
        if (!within(s->sh_name, n, names->sh_size) || names->sh_offset > f->size)
                return false;
        const uint8_t *text = look(f, 0, names->sh_offset + s->sh_name, n);
        return text && memcmp(text, name, n) == 0;
}

static void find_sections(struct elf_file *f, size_t names_index) {
        const Elf64_Shdr *names = names_index < f->n_sections ? &f->sections[names_index] : NULL;
        if (!names || names->sh_type != SHT_STRTAB)
                return;
        for (size_t i = 0; i < f->n_sections; i++) {
                const Elf64_Shdr *s = &f->sections[i];
                if (s->sh_type == SHT_NOBITS || !within(s->sh_offset, s->sh_size, f->size) || s->sh_flags & SHF_COMPRESSED)
                        continue;
                /* Position-independent Go programs before 1.26 have the longer name. */
                if (section_named(f, names, s, ".gopclntab") || section_named(f, names, s, ".data.rel.ro.gopclntab"))
                        f->pclntab = s;
                else if (section_named(f, names, s, ".go.buildinfo"))
                        f->buildinfo = s;
                else if (section_named(f, names, s, ".go.module"))
                        f->module = s;
                else if (section_named(f, names, s, ".text"))
                        f->text = s;
        }
}

static int read_headers(struct elf_file *f) {
        Elf64_Ehdr e;
        ssize_t r = read_at(f->fd, &e, sizeof(e), 0);
        if (r < 0)
                return (int)r;
        if (r < (ssize_t)sizeof(e) || memcmp(e.e_ident, ELFMAG, SELFMAG) != 0 || e.e_ident[EI_CLASS] != ELFCLASS64 ||
            e.e_ident[EI_DATA] != ELFDATA2LSB || (e.e_type != ET_EXEC && e.e_type != ET_DYN) || e.e_phentsize != sizeof(Elf64_Phdr))
                return -ENOEXEC;
        f->type = e.e_type;
        f->machine = e.e_machine;
        f->n_segments = TEL_MIN((size_t)e.e_phnum, (size_t)ELF_SEGMENTS_MAX);
        if (!within(e.e_phoff, f->n_segments * sizeof(Elf64_Phdr), f->size))
                return -ENOEXEC;
        r = read_at(f->fd, f->segments, f->n_segments * sizeof(Elf64_Phdr), e.e_phoff);
        if (r < (ssize_t)(f->n_segments * sizeof(Elf64_Phdr)))
                return r < 0 ? (int)r : -ENOEXEC;
        /* Sections are a help, not a condition: without them nothing is found, and that is said. */
        size_t n = TEL_MIN((size_t)e.e_shnum, (size_t)ELF_SECTIONS_MAX);
        if (e.e_shentsize != sizeof(Elf64_Shdr) || !within(e.e_shoff, n * sizeof(Elf64_Shdr), f->size))
                return 0;
        r = read_at(f->fd, f->sections, n * sizeof(Elf64_Shdr), e.e_shoff);
        f->n_sections = r < 0 ? 0 : (size_t)r / sizeof(Elf64_Shdr);
        find_sections(f, e.e_shstrndx);
        return 0;
}

int elf_file_new(int fd, struct elf_file **ret) {
        struct stat st;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -ENOEXEC;
        struct elf_file *f = calloc(1, sizeof(*f));
        if (!f)
                return -ENOMEM;
        f->fd = fd;
        f->size = (uint64_t)st.st_size;
        int r = read_headers(f);
        if (r < 0) {
                free(f);
                return r;
        }
        *ret = f;
        return 0;
}

struct elf_file *elf_file_free(struct elf_file *f) {
        if (f) {
                close(f->fd);
                free(f);
        }
        return NULL;
}

void elf_file_freep(struct elf_file **f) {
        *f = elf_file_free(*f);
}

int elf_file_fd(const struct elf_file *f) {
        return f->fd;
}

bool elf_file_is_x86_64(const struct elf_file *f) {
        return f->machine == EM_X86_64;
}

/* The loaded segment that holds address, and how far into it. */
static const Elf64_Phdr *segment_of(const struct elf_file *f, uint64_t address, uint64_t *ret_into) {
        for (size_t i = 0; i < f->n_segments; i++) {
                const Elf64_Phdr *p = &f->segments[i];
                if (p->p_type != PT_LOAD || address < p->p_vaddr || address - p->p_vaddr >= p->p_filesz ||
                    !within(p->p_offset, p->p_filesz, f->size))
                        continue;
                *ret_into = address - p->p_vaddr;
                return p;
        }
        return NULL;
}

int elf_file_offset(const struct elf_file *f, uint64_t address, uint64_t *ret) {
        uint64_t into;
        const Elf64_Phdr *p = segment_of(f, address, &into);
        if (!p)
                return -ENOENT;
        *ret = p->p_offset + into;
        return 0;
}

size_t elf_file_code(struct elf_file *f, uint64_t address, uint8_t *ret, size_t n) {
        uint64_t into;
        const Elf64_Phdr *p = segment_of(f, address, &into);
        if (!p || !(p->p_flags & PF_X))
                return 0;
        ssize_t r = read_at(f->fd, ret, (size_t)TEL_MIN((uint64_t)n, p->p_filesz - into), p->p_offset + into);
        return r < 0 ? 0 : (size_t)r;
}

bool elf_file_tls(const struct elf_file *f, uint64_t *ret_size, uint64_t *ret_align) {
        for (size_t i = 0; i < f->n_segments; i++)
                if (f->segments[i].p_type == PT_TLS) {
                        *ret_size = f->segments[i].p_memsz;
                        *ret_align = f->segments[i].p_align;
                        return true;
                }
        return false;
}

/* ---- names ---- */

/* Where the names that are looked for lie in a table of strings. A table may hold a name more than once, and as the end of a longer one. */
struct places {
        uint32_t at[ELF_FUNCTIONS_MAX][PLACES_MAX];
        uint8_t n[ELF_FUNCTIONS_MAX];
        uint64_t filter;                           /* bit (place % 64): one of them may be it */
        size_t names;
};

static void places_add(struct places *p, size_t name, uint64_t at) {
        if (p->n[name] == PLACES_MAX || at > UINT32_MAX)
                return;
        p->at[name][p->n[name]++] = (uint32_t)at;
        p->filter |= 1ull << (at % 64);
}

/* Which name begins at this place; -1: none. */
static int places_find(const struct places *p, uint32_t at) {
        if (!(p->filter >> (at % 64) & 1))
                return -1;
        for (size_t i = 0; i < p->names; i++)
                for (size_t k = 0; k < p->n[i]; k++)
                        if (p->at[i][k] == at)
                                return (int)i;
        return -1;
}

/* The string that ends (with its NUL) at place end of the table: is it, or does it end in, one of the names? before: bytes that can be seen. */
static void places_check(struct places *p, const struct elf_function *functions, const size_t *lengths, const uint8_t *nul, size_t before,
                         uint64_t end) {
        for (size_t i = 0; i < p->names; i++) {
                size_t n = lengths[i];
                if (n <= before && n <= end && nul[-1] == (uint8_t)functions[i].name[n - 1] && memcmp(nul - n, functions[i].name, n) == 0)
                        places_add(p, i, end - n);
        }
}

/* Goes through the strings at [at, at + size) of the file. */
static int places_read(struct elf_file *f, uint64_t at, uint64_t size, const struct elf_function *functions, size_t n, struct places *ret) {
        size_t lengths[ELF_FUNCTIONS_MAX];
        const size_t step = WINDOW_BYTES / 2 - ELF_NAME_MAX;
        memset(ret, 0, sizeof(*ret));
        ret->names = n;
        for (size_t i = 0; i < n; i++) {
                lengths[i] = strlen(functions[i].name);
                assert(lengths[i] > 0 && lengths[i] <= ELF_NAME_MAX);
        }
        size = TEL_MIN(size, ELF_TABLE_BYTES_MAX);
        for (uint64_t done = 0; done < size;) {
                size_t before = (size_t)TEL_MIN(done, (uint64_t)ELF_NAME_MAX), take = (size_t)TEL_MIN((uint64_t)step, size - done);
                const uint8_t *p = look(f, 0, at + done - before, before + take);
                if (!p)
                        return -EBADMSG;
                for (const uint8_t *from = p + before, *end = from + take, *nul; (nul = memchr(from, 0, (size_t)(end - from))); from = nul + 1)
                        if (nul > p)
                                places_check(ret, functions, lengths, nul, (size_t)(nul - p), done - before + (uint64_t)(nul - p));
                done += take;
        }
        return 0;
}

/* ---- symbols ---- */

static int symbols_search(struct elf_file *f, const Elf64_Shdr *table, struct elf_function *functions, size_t n) {
        struct places places;
        if (table->sh_link >= f->n_sections || table->sh_entsize != sizeof(Elf64_Sym))
                return -EBADMSG;
        const Elf64_Shdr *strings = &f->sections[table->sh_link];
        if (strings->sh_type != SHT_STRTAB || !within(strings->sh_offset, strings->sh_size, f->size) ||
            !within(table->sh_offset, table->sh_size, f->size))
                return -EBADMSG;
        int r = places_read(f, strings->sh_offset, strings->sh_size, functions, n, &places);
        if (r < 0 || !places.filter)
                return r;
        uint64_t count = TEL_MIN(table->sh_size, ELF_TABLE_BYTES_MAX) / sizeof(Elf64_Sym);
        for (uint64_t i = 0; i < count; i++) {
                Elf64_Sym s;
                const uint8_t *p = look(f, 0, table->sh_offset + i * sizeof(s), sizeof(s));
                if (!p)
                        return -EBADMSG;
                memcpy(&s, p, sizeof(s));
                if (ELF64_ST_TYPE(s.st_info) != STT_FUNC || s.st_shndx == SHN_UNDEF || !s.st_value)
                        continue;
                int which = places_find(&places, s.st_name);
                if (which >= 0 && !functions[which].address) {
                        functions[which].address = s.st_value;
                        functions[which].size = s.st_size;
                }
        }
        return 0;
}

static int count_found(const struct elf_function *functions, size_t n) {
        int found = 0;
        for (size_t i = 0; i < n; i++)
                found += functions[i].address != 0;
        return found;
}

int elf_file_functions(struct elf_file *f, struct elf_function *functions, size_t n) {
        static const uint32_t tables[] = { SHT_DYNSYM, SHT_SYMTAB };
        assert(n <= ELF_FUNCTIONS_MAX);
        for (size_t i = 0; i < n; i++)
                functions[i].address = functions[i].size = 0;
        for (size_t t = 0; t < TEL_ARRAY_LEN(tables); t++)
                for (size_t i = 0; i < f->n_sections; i++)
                        if (f->sections[i].sh_type == tables[t] && count_found(functions, n) < (int)n) {
                                int r = symbols_search(f, &f->sections[i], functions, n);
                                if (r < 0)
                                        return r;
                                break;             /* a file has one of each */
                        }
        return count_found(functions, n);
}

/* ---- Go ---- */

/* A pointer in the data of the file. Position-independent files have it in their relocations only. */
static int pointer_at(struct elf_file *f, uint64_t address, uint64_t *ret) {
        uint64_t at;
        for (size_t i = 0; i < f->n_sections && f->type == ET_DYN; i++) {
                const Elf64_Shdr *s = &f->sections[i];
                if (s->sh_type != SHT_RELA || s->sh_entsize != sizeof(Elf64_Rela) || !within(s->sh_offset, s->sh_size, f->size))
                        continue;
                for (uint64_t k = 0; k < TEL_MIN(s->sh_size, ELF_TABLE_BYTES_MAX) / sizeof(Elf64_Rela); k++) {
                        Elf64_Rela rela;
                        const uint8_t *p = look(f, 1, s->sh_offset + k * sizeof(rela), sizeof(rela));
                        if (!p)
                                return -EBADMSG;
                        memcpy(&rela, p, sizeof(rela));
                        if (rela.r_offset == address && ELF64_R_TYPE(rela.r_info) == R_X86_64_RELATIVE) {
                                *ret = (uint64_t)rela.r_addend;
                                return 0;
                        }
                }
        }
        int r = elf_file_offset(f, address, &at);
        const uint8_t *p = r < 0 ? NULL : look(f, 1, at, sizeof(uint64_t));
        if (!p)
                return r < 0 ? r : -EBADMSG;
        *ret = get64(p);
        return 0;
}

bool elf_file_is_go(const struct elf_file *f) {
        return f->pclntab || f->buildinfo;
}

static void version_copy(char ret[static ELF_GO_VERSION_MAX], const uint8_t *text, size_t n) {
        size_t i;
        n = TEL_MIN(n, (size_t)ELF_GO_VERSION_MAX - 1);
        for (i = 0; i < n && text[i] >= ' ' && text[i] < 0x7f; i++)
                ret[i] = (char)text[i];
        ret[i] = '\0';
}

int elf_file_go_version(struct elf_file *f, char ret[static ELF_GO_VERSION_MAX]) {
        static const char magic[] = "\xff Go buildinf:";
        uint64_t at, n, header;
        if (!f->buildinfo || f->buildinfo->sh_size < 32)
                return -ENOENT;
        const uint8_t *p = look(f, 0, f->buildinfo->sh_offset, 32);
        if (!p || memcmp(p, magic, sizeof(magic) - 1) != 0)
                return -ENOENT;
        if (p[15] & 2) {                           /* since Go 1.18: the string itself, its length before it */
                p = look(f, 0, f->buildinfo->sh_offset + 32, 1);
                if (!p || (n = *p) > 127 || !within(33, n, f->buildinfo->sh_size) || !(p = look(f, 0, f->buildinfo->sh_offset + 33, (size_t)n)))
                        return -ENOENT;
                version_copy(ret, p, (size_t)n);
                return ret[0] ? 0 : -ENOENT;
        }
        if (p[14] != sizeof(uint64_t) || p[15] & 1)
                return -ENOENT;
        /* Before: a pointer to a Go string, which is a pointer and a length. */
        if (pointer_at(f, f->buildinfo->sh_addr + 16, &header) < 0 || pointer_at(f, header, &at) < 0 || pointer_at(f, header + 8, &n) < 0 ||
            n > 127 || elf_file_offset(f, at, &at) < 0 || !(p = look(f, 0, at, (size_t)n)))
                return -ENOENT;
        version_copy(ret, p, (size_t)n);
        return ret[0] ? 0 : -ENOENT;
}

/* What .gopclntab says of itself. Offsets are from its beginning. */
struct pclntab {
        uint64_t at, size;                         /* in the file */
        bool wide;                                 /* Go 1.16 and 1.17: addresses are whole, and 8 bytes long */
        uint64_t text;                             /* else: the address they count from */
        uint64_t n_functions, names, names_end, functions;
};

/* Since Go 1.26 the table does not say where the code begins; the module's data, a section of its own, does: its 22nd word. */
static int text_start(struct elf_file *f, uint64_t in_table, uint64_t *ret) {
        if (in_table) {
                *ret = in_table;
                return 0;
        }
        if (f->module && pointer_at(f, f->module->sh_addr + 22 * sizeof(uint64_t), ret) == 0 && *ret)
                return 0;
        if (!f->text)
                return -EBADMSG;
        *ret = f->text->sh_addr;
        return 0;
}

static int pclntab_read(struct elf_file *f, struct pclntab *ret) {
        struct pclntab t = { .at = f->pclntab->sh_offset, .size = f->pclntab->sh_size };
        uint8_t head[72];
        const uint8_t *p = t.size < sizeof(head) ? NULL : look(f, 0, t.at, sizeof(head));
        if (!p)
                return -EBADMSG;
        memcpy(head, p, sizeof(head));
        uint32_t magic = get32(head);
        if (magic == 0xfffffffb)
                return -ENOTSUP;                   /* Go 1.2 to 1.15 */
        t.wide = magic == 0xfffffffa;
        if (!t.wide && magic != 0xfffffff0 && magic != 0xfffffff1)
                return -ENOTSUP;
        if (head[7] != sizeof(uint64_t))
                return -EBADMSG;
        size_t word = t.wide ? 24 : 32;            /* behind the counts, and since 1.18 the start of the code */
        t.n_functions = get64(head + 8);
        t.names = get64(head + word);
        t.names_end = get64(head + word + 8);
        t.functions = get64(head + word + 32);
        if (t.n_functions > GO_STEP_MAX || t.names > t.names_end || t.names_end > t.size || t.functions > t.size ||
            !within(t.functions, (t.n_functions + 1) * (t.wide ? 16 : 8), t.size))
                return -EBADMSG;
        int r = 0;
        if (!t.wide) {
                uint64_t in_table = get64(head + 24);
                if (f->type == ET_DYN && pointer_at(f, f->pclntab->sh_addr + 24, &in_table) < 0)
                        in_table = 0;
                r = text_start(f, in_table, &t.text);
        }
        if (r == 0)
                *ret = t;
        return r;
}

/* Address of the function in row i, and where its description lies. The row behind the last has the end of the code. */
static bool pclntab_row(struct elf_file *f, const struct pclntab *t, uint64_t i, uint64_t *ret_address, uint64_t *ret_description) {
        size_t row = t->wide ? 16 : 8;
        const uint8_t *p = look(f, 0, t->at + t->functions + i * row, row);
        if (!p)
                return false;
        *ret_address = t->wide ? get64(p) : t->text + get32(p);
        *ret_description = t->wide ? get64(p + 8) : get32(p + 4);
        return true;
}

int elf_file_go_functions(struct elf_file *f, struct elf_function *functions, size_t n) {
        struct pclntab t;
        struct places places;
        assert(n <= ELF_FUNCTIONS_MAX);
        for (size_t i = 0; i < n; i++)
                functions[i].address = functions[i].size = 0;
        if (!f->pclntab)
                return -ENOENT;
        int r = pclntab_read(f, &t);
        if (r == 0)
                r = places_read(f, t.at + t.names, t.names_end - t.names, functions, n, &places);
        if (r < 0)
                return r;
        for (uint64_t i = 0; i < t.n_functions && places.filter && count_found(functions, n) < (int)n; i++) {
                uint64_t address, description, next = 0, unused;
                if (!pclntab_row(f, &t, i, &address, &description))
                        return -EBADMSG;
                if (description > t.size - t.functions)
                        return -EBADMSG;
                /* In front of the name's place: the address again, 8 bytes or 4. */
                const uint8_t *p = look(f, 1, t.at + t.functions + description + (t.wide ? 8 : 4), sizeof(uint32_t));
                if (!p)
                        return -EBADMSG;
                int which = places_find(&places, get32(p));
                if (which < 0 || functions[which].address || !address)
                        continue;
                if (!pclntab_row(f, &t, i + 1, &next, &unused))
                        return -EBADMSG;
                functions[which].address = address;
                functions[which].size = next > address ? next - address : 0;
        }
        return count_found(functions, n);
}
