/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever file a process runs: what is found in it lies in it, and looking takes neither long nor memory. */
#include <sys/mman.h>
#include <unistd.h>

#include "beylad/elf_file.h"

static void check_place(struct elf_file *f, const struct elf_function *at, size_t n) {
        uint64_t offset;
        uint8_t code[64];
        if (elf_file_offset(f, at->address, &offset) == 0)
                assert(offset < n);
        assert(elf_file_code(f, at->address, code, sizeof(code)) <= sizeof(code));
}

static void check_found(struct elf_file *f, int found, const struct elf_function *functions, size_t n_functions, size_t n) {
        int with_address = 0;
        for (size_t i = 0; i < n_functions; i++) {
                with_address += functions[i].address != 0;
                check_place(f, &functions[i], n);
        }
        assert(found < 0 || found == with_address);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        struct elf_function c[] = { { .name = "SSL_read" }, { .name = "SSL_write_ex" }, { .name = "read" }, { .name = "gnutls_record_recv" } };
        struct elf_function go[] = { { .name = "runtime.newproc1" }, { .name = "main.main" }, { .name = "crypto/tls.(*Conn).Read" } };
        char version[ELF_GO_VERSION_MAX];
        uint64_t size, align;
        struct elf_file *f;
        int fd = memfd_create("elf", MFD_CLOEXEC);
        assert(fd >= 0 && write(fd, data, n) == (ssize_t)n);
        if (elf_file_new(fd, &f) < 0) {
                close(fd);
                return 0;
        }
        check_found(f, elf_file_functions(f, c, TEL_ARRAY_LEN(c)), c, TEL_ARRAY_LEN(c), n);
        check_found(f, elf_file_go_functions(f, go, TEL_ARRAY_LEN(go)), go, TEL_ARRAY_LEN(go), n);
        if (elf_file_go_version(f, version) == 0)
                assert(version[0] && strnlen(version, sizeof(version)) < sizeof(version));
        elf_file_tls(f, &size, &align);
        elf_file_free(f);
        return 0;
}
