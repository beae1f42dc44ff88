/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* ELF file: where functions lie in an executable or a library: by its symbol tables, and for Go by the runtime's own table, which is there
 * in stripped programs too. The file belongs to whoever runs it: nothing in it is believed, it may change while it is read (so it is read,
 * never mapped), and the memory used does not depend on it.
 * May touch: the descriptor it is given.
 * Source: System V ABI, chapters 4 and 5; AMD64 supplement; Go's src/runtime/symtab.go, src/debug/gosym/pclntab.go, src/debug/buildinfo. */
#include "libtelemetry/base.h"

#define ELF_SEGMENTS_MAX 64                        /* program headers looked at: real files have a dozen */
#define ELF_SECTIONS_MAX 512                       /* section headers looked at: real files have forty */
#define ELF_TABLE_BYTES_MAX (256ull << 20)         /* of a table that is searched: browsers stay below 100 MB */
#define ELF_READ_MAX (1ull << 30)                  /* bytes read of one file, however its tables jump about: some 0.3 s */
#define ELF_FUNCTIONS_MAX 32                       /* looked for at once */
#define ELF_NAME_MAX 95                            /* bytes of the name of a function that is looked for: the longest is one of grpc-go, 69 */
#define ELF_GO_VERSION_MAX 48                      /* bytes of Go's version with its NUL: "go1.26.8 X:nodwarf5"; cut there */

struct elf_file;

/* A function that is looked for. name: the caller's; the rest is set when it is found: address 0 otherwise. */
struct elf_function {
        const char *name;
        uint64_t address;                          /* virtual, as linked */
        uint64_t size;                             /* bytes of its code */
};

/* Takes fd when it succeeds. 0, -ENOEXEC: no ELF for 64-bit little-endian, or its headers make no sense; -ENOMEM, -errno of reading. */
int elf_file_new(int fd, struct elf_file **ret);
struct elf_file *elf_file_free(struct elf_file *f);                    /* accepts NULL, returns NULL */
void elf_file_freep(struct elf_file **f);
int elf_file_fd(const struct elf_file *f);
bool elf_file_is_x86_64(const struct elf_file *f);

/* Where the byte at a virtual address lies in the file. 0, or -ENOENT: in no segment that is loaded from it. */
int elf_file_offset(const struct elf_file *f, uint64_t address, uint64_t *ret);
/* Code: at most n bytes of the executable segment that holds address. Returns how many, 0 when there are none. */
size_t elf_file_code(struct elf_file *f, uint64_t address, uint8_t *ret, size_t n);
/* Size and alignment of the thread-local storage; false: there is none. */
bool elf_file_tls(const struct elf_file *f, uint64_t *ret_size, uint64_t *ret_align);

/* Looks for functions in .dynsym, then for those not found in .symtab. Returns how many of n have an address now, or -errno. */
int elf_file_functions(struct elf_file *f, struct elf_function *functions, size_t n);

/* Is it a Go program: it has Go's function table or build information. */
bool elf_file_is_go(const struct elf_file *f);
/* Go's version, "go1.26.8". Returns 0, or -ENOENT: it says none that can be read. */
int elf_file_go_version(struct elf_file *f, char ret[static ELF_GO_VERSION_MAX]);
/* Looks for Go functions by their full names in .gopclntab. Returns how many have an address now, or -errno: -ENOENT no such table,
 * -ENOTSUP one of Go before 1.16 or after what we know, -EBADMSG one that makes no sense. */
int elf_file_go_functions(struct elf_file *f, struct elf_function *functions, size_t n);
