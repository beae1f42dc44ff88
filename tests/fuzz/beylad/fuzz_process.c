/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever a process says of itself, and whatever a recording says of processes: what is kept is printable UTF-8 within its bounds, and a
 * process that was read from a note is written as a note that reads as the same. */
#include <sys/mman.h>
#include <unistd.h>

#include "beylad/pairs.h"
#include "beylad/runtime.h"
#include "libtelemetry/utf8.h"

static void check_text(const char *text, size_t max) {
        size_t n = strnlen(text, max);
        assert(n < max && tel_utf8_valid(text, n));
        for (size_t i = 0; i < n; i++)
                assert((unsigned char)text[i] >= 0x20 && text[i] != 0x7f);
}

static void check_note(const uint8_t *data, size_t n) {
        static char first[32768], second[32768];
        struct process *a = NULL, *b = NULL;
        if (process_from_note(7, (const char *)data, n, &a) < 0)
                return;
        check_text(a->name, sizeof(a->name));
        check_text(a->exe, sizeof(a->exe));
        assert(a->n_attributes <= PROCESS_ATTRIBUTES_MAX);
        for (size_t i = 0; i < a->n_attributes; i++) {
                check_text(a->attributes[i].key, PROCESS_TEXT_MAX);
                check_text(a->attributes[i].value, PROCESS_TEXT_MAX);
        }
        size_t length = process_to_note(a, first, sizeof(first));
        assert(length < sizeof(first) && process_from_note(7, first, length, &b) == 0);
        assert(process_to_note(b, second, sizeof(second)) == length && strcmp(first, second) == 0);
        process_unref(a);
        process_unref(b);
}

static void check_name(const uint8_t *data, size_t n) {
        static const char *const interpreters[] = { "/bin/python3", "/bin/node", "/bin/java", "/bin/ruby", "/bin/php", "/bin/deno", "/bin/x" };
        char name[PROCESS_TEXT_MAX], exe[PROCESS_TEXT_MAX];
        for (size_t i = 0; i < TEL_ARRAY_LEN(interpreters); i++) {
                runtime_name(interpreters[i], "x", (const char *)data, n, name);
                check_text(name, sizeof(name));
                assert(*name);
        }
        tel_utf8_printable(exe, sizeof(exe), (const char *)data, n);
        runtime_name(exe, exe, (const char *)data, n, name);
        check_text(name, sizeof(name));
        runtime_of_exe(exe);
        runtime_of_maps((const char *)data, n);
}

static void check_pairs(const uint8_t *data, size_t n) {
        const char *at = (const char *)data, *end = at + n, *before = at;
        for (struct pair pair; pairs_next(&at, end, &pair); before = at) {
                assert(at > before && at <= end && pair.key[0]);
                check_text(pair.key, sizeof(pair.key));
                check_text(pair.value, sizeof(pair.value));
        }
}

static void check_elf(const uint8_t *data, size_t n) {
        static int fd = -1;
        struct runtime_elf elf;
        if (fd < 0)
                fd = memfd_create("elf", MFD_CLOEXEC);
        assert(fd >= 0 && ftruncate(fd, 0) == 0 && pwrite(fd, data, n, 0) == (ssize_t)n);
        runtime_of_elf(fd, &elf);
        assert(elf.valid || (!elf.is_32bit && elf.language == LANGUAGE_UNKNOWN));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        check_note(data, n);
        check_name(data, n);
        check_pairs(data, n);
        check_elf(data, n);
        return 0;
}
