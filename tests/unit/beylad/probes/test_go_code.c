/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/probes/go_code.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "tests/unit/beylad/probes/assembled.h"

#if defined(__x86_64__)

#define GROW "9: jmp 1b\n"                         /* morestack, then from the beginning */

/* As Go 1.21 and later begin, with a small and with a large frame; as Go 1.17 to 1.20 do; and as 1.16 did. */
ASSEMBLED(entry_121, "1: cmp 16(%r14), %rsp\n jbe 9f\n push %rbp\n mov %rsp, %rbp\n sub $0x60, %rsp\n ret\n" GROW);
ASSEMBLED(entry_large, "1: lea -0xb0(%rsp), %r12\n cmp 16(%r14), %r12\n jbe 9f\n push %rbp\n ret\n" GROW);
ASSEMBLED(entry_117, "1: cmp 16(%r14), %rsp\n jbe 9f\n sub $0x68, %rsp\n mov %rbp, 0x60(%rsp)\n ret\n" GROW);
ASSEMBLED(entry_116, "1: mov %fs:-8, %rcx\n cmp 16(%rcx), %rsp\n jbe 9f\n sub $0x68, %rsp\n ret\n" GROW);
ASSEMBLED(entry_spoiled, "1: mov %rsp, %rax\n cmp 16(%r14), %rsp\n jbe 9f\n push %rbp\n ret\n" GROW);
ASSEMBLED(entry_not_last, "1: cmp 16(%r14), %rsp\n nop\n jbe 9f\n push %rbp\n ret\n" GROW);
ASSEMBLED(entry_inside, "1: cmp 16(%r14), %rsp\n jbe 9f\n 2: push %rbp\n pop %rbp\n jmp 2b\n" GROW);

#define MEMMOVE (ASSEMBLED_AT + 0x1000)
#define READER_READ (ASSEMBLED_AT + 0x2000)
#define BEGIN_121 "1: cmp 16(%r14), %rsp\n jbe 9f\n push %rbp\n mov %rsp, %rbp\n sub $0x58, %rsp\n mov %rax, 0x68(%rsp)\n mov %rbx, 0x70(%rsp)\n"
#define BEGIN_117 "1: cmp 16(%r14), %rsp\n jbe 9f\n sub $0x68, %rsp\n mov %rbp, 0x60(%rsp)\n lea 0x60(%rsp), %rbp\n mov %rax, 0x70(%rsp)\n"
#define BEGIN_NO_SPILL "1: cmp 16(%r14), %rsp\n jbe 9f\n push %rbp\n mov %rsp, %rbp\n sub $0x58, %rsp\n mov %rax, 0x40(%rsp)\n mov %rbx, 0x70(%rsp)\n"
#define CALL(label, to) "call code_" label " + " to "\n"

ASSEMBLED(read_copy, BEGIN_121 CALL("read_copy", "0x300") CALL("read_copy", "0x1000") "add $0x58, %rsp\n pop %rbp\n ret\n ret\n" GROW);
ASSEMBLED(read_old, BEGIN_117 CALL("read_old", "0x1000") "add $0x68, %rsp\n ret\n" GROW);
ASSEMBLED(read_reader, BEGIN_121 CALL("read_reader", "0x2000") "add $0x58, %rsp\n pop %rbp\n ret\n" GROW);
ASSEMBLED(read_twice, BEGIN_121 CALL("read_twice", "0x1000") "ret\n" CALL("read_twice", "0x1000") "ret\n" GROW);
ASSEMBLED(read_both, BEGIN_121 CALL("read_both", "0x1000") "ret\n" CALL("read_both", "0x2000") "ret\n" GROW);
ASSEMBLED(read_no_spill, BEGIN_NO_SPILL CALL("read_no_spill", "0x1000") "ret\n" GROW);
ASSEMBLED(read_many, BEGIN_121 "ret\n ret\n ret\n ret\n ret\n ret\n ret\n ret\n ret\n" GROW);
ASSEMBLED(read_old_returns, BEGIN_117 "ret\n" GROW);

/* runtime.newproc1 of Go 1.26, in part; and the same without its sense. */
ASSEMBLED(newproc, "mov %rcx, 0x40(%rax)\n mov 0x68(%rsp), %rax\n mov 0x98(%rax), %rcx\n mov 0x40(%rsp), %rdx\n mov %rcx, 0x118(%rdx)\n"
                   "mov 0x70(%rsp), %rcx\n mov %rcx, 0x120(%rdx)\n mov %rdx, 0x98(%rdi)\n ret");
ASSEMBLED(newproc_other_value, "mov 0x98(%rax), %rcx\n mov %rsi, 0x118(%rdx)\n mov %rdx, 0x98(%rdi)\n ret");
ASSEMBLED(newproc_never_stored, "mov 0x98(%rax), %rcx\n mov %rcx, 0x118(%rdx)\n ret");
ASSEMBLED(newproc_stack, "mov 0x98(%rsp), %rcx\n mov %rcx, 0x118(%rdx)\n mov %rdx, 0x98(%rsp)\n ret");
ASSEMBLED(newproc_late, "mov 0x98(%rax), %rcx\n nop\n nop\n nop\n nop\n nop\n mov %rcx, 0x118(%rdx)\n mov %rdx, 0x98(%rdi)\n ret");
ASSEMBLED(newproc_half, "mov 0x98(%rax), %ecx\n mov %ecx, 0x118(%rdx)\n mov %rdx, 0x98(%rdi)\n ret");

#define MAP_DELETE (ASSEMBLED_AT + 0x3000)
/* grpc-go's deleteStream, in part; older compilers use other registers; and the same without its sense. */
ASSEMBLED(key, "mov 0x6c(%rbx), %ecx\n mov %rdx, %rbx\n " CALL("key", "0x1000") "mov 0x40(%rsp), %rdx\n mov 0x70(%rdx), %ecx\n lea 0x100(%rip), %rax\n"
               CALL("key", "0x3000") "mov 0x10(%rax), %ecx\n ret");
ASSEMBLED(key_first, "mov (%rdi), %ecx\n" CALL("key_first", "0x3000") "ret");
ASSEMBLED(key_changed, "mov 0x70(%rdx), %ecx\n add $1, %ecx\n" CALL("key_changed", "0x3000") "ret");
ASSEMBLED(key_spoiled, "mov 0x70(%rdx), %ecx\n" CALL("key_spoiled", "0x1000") CALL("key_spoiled", "0x3000") "ret");
ASSEMBLED(key_wide, "mov 0x70(%rdx), %rcx\n" CALL("key_wide", "0x3000") "ret");
ASSEMBLED(key_stack, "mov 0x70(%rsp), %ecx\n" CALL("key_stack", "0x3000") "ret");
ASSEMBLED(key_index, "mov 0x70(%rdx,%rax,4), %ecx\n" CALL("key_index", "0x3000") "ret");
ASSEMBLED(key_far, "mov 0x7000(%rdx), %ecx\n" CALL("key_far", "0x3000") "ret");
ASSEMBLED(key_twice, "mov 0x70(%rdx), %ecx\n" CALL("key_twice", "0x3000") "mov 0x70(%rdx), %ecx\n" CALL("key_twice", "0x3000") "ret");
ASSEMBLED(key_never, "mov 0x70(%rdx), %ecx\n" CALL("key_never", "0x1000") "ret");

ASSEMBLED(tls_direct, "mov 16(%rsp), %rdi\n mov %fs:0xfffffffffffffff8, %rax\n ret");
ASSEMBLED(tls_register, "mov $0xffffffffffffffe0, %rcx\n mov %fs:(%rcx), %rax\n ret");
ASSEMBLED(tls_unknown, "mov 0x100(%rip), %rcx\n mov %fs:(%rcx), %rax\n ret");
ASSEMBLED(tls_changed, "mov $0xffffffffffffffe0, %rcx\n add $8, %rcx\n mov %fs:(%rcx), %rax\n ret");
ASSEMBLED(tls_canary, "mov %fs:40, %rax\n ret");
ASSEMBLED(tls_none, "push %rbp\n pop %rbp\n ret");

#define ALL (SITE_RAX | SITE_RBX | SITE_RCX | SITE_RDI)

static void expect_entry(const struct code *code, unsigned offset, bool check) {
        struct uprobe_site s;
        bool got;
        assert_int_equal(go_code_entry(code, ALL, &s, &got), 0);
        assert_int_equal(s.address - code->address, offset);
        assert_true(s.emulated);
        assert_int_equal(got, check);
}

/* Behind the check of the stack, or at its branch: what is before it runs twice when the stack grows. */
static void test_entry(void **state) {
        struct code c121 = CODE_OF(entry_121), large = CODE_OF(entry_large), c117 = CODE_OF(entry_117), inside = CODE_OF(entry_inside);
        (void)state;
        expect_entry(&c121, 6, false);
        expect_entry(&large, 14, false);
        expect_entry(&c117, 4, true);
        expect_entry(&inside, 4, true);
}

static void test_entry_of_no_go_function(void **state) {
        struct code codes[] = { CODE_OF(entry_116), CODE_OF(entry_spoiled), CODE_OF(entry_not_last), CODE_OF(tls_none), { code_entry_121, 4, 0 } };
        struct uprobe_site s;
        bool check;
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(codes); i++)
                assert_int_equal(go_code_entry(&codes[i], ALL, &s, &check), -EBADMSG);
}

static void expect_read(const struct code *code, enum go_read_kind kind, size_t n, uint32_t slot) {
        struct go_read r;
        assert_int_equal(go_code_read(code, MEMMOVE, READER_READ, &r), 0);
        assert_int_equal(r.kind, kind);
        assert_int_equal(r.n_sites, n);
        assert_int_equal(r.slot, slot);
        for (size_t i = 0; i < n; i++)
                assert_int_equal(code->bytes[r.sites[i].address - code->address], kind == GO_READ_RETURN ? 0xc3 : 0xe8);
}

/* The one call that copies, and where the receiver was spilled: above the return address, so a word above the frame. */
static void test_read(void **state) {
        struct code copy = CODE_OF(read_copy), old = CODE_OF(read_old), reader = CODE_OF(read_reader);
        (void)state;
        expect_read(&copy, GO_READ_COPY, 1, 0x68);
        expect_read(&old, GO_READ_COPY, 1, 0x70);
        expect_read(&reader, GO_READ_READER, 1, 0x68);
}

/* Two calls that may copy: none is certain, so the returns are taken. */
static void test_read_uncertain(void **state) {
        struct code twice = CODE_OF(read_twice), both = CODE_OF(read_both);
        (void)state;
        expect_read(&twice, GO_READ_RETURN, 2, 8);
        expect_read(&both, GO_READ_RETURN, 2, 8);
}

/* Without the receiver, or at a return without the buffer, nothing can be told of the bytes. */
static void test_read_refused(void **state) {
        struct code codes[] = { CODE_OF(read_no_spill), CODE_OF(read_many), CODE_OF(read_old_returns), CODE_OF(entry_116) };
        struct go_read r;
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(codes); i++)
                assert_int_equal(go_code_read(&codes[i], MEMMOVE, READER_READ, &r), -EBADMSG);
}

static void test_goroutine(void **state) {
        struct code good = CODE_OF(newproc);
        struct code bad[] = { CODE_OF(newproc_other_value), CODE_OF(newproc_never_stored), CODE_OF(newproc_stack), CODE_OF(newproc_late),
                              CODE_OF(newproc_half) };
        uint32_t goid = 0, parent = 0;
        (void)state;
        assert_int_equal(go_code_goroutine(&good, &goid, &parent), 0);
        assert_int_equal(goid, 152);
        assert_int_equal(parent, 280);
        for (size_t i = 0; i < TEL_ARRAY_LEN(bad); i++)
                assert_int_equal(go_code_goroutine(&bad[i], &goid, &parent), -ENOENT);
        assert_true(go_code_stores_at(&good, 152));
        assert_false(go_code_stores_at(&good, 160));
        assert_false(go_code_stores_at(&bad[1], 152));
        assert_false(go_code_stores_at(&good, UINT32_MAX));
}

static void test_deleted_key(void **state) {
        (void)state;
        struct code good = CODE_OF(key), first = CODE_OF(key_first);
        struct code bad[] = { CODE_OF(key_changed), CODE_OF(key_spoiled), CODE_OF(key_wide), CODE_OF(key_stack), CODE_OF(key_index), CODE_OF(key_far),
                              CODE_OF(key_twice), CODE_OF(key_never) };
        uint32_t offset = 1;
        assert_int_equal(go_code_deleted_key(&good, MAP_DELETE, &offset), 0);
        assert_int_equal(offset, 0x70);
        assert_int_equal(go_code_deleted_key(&first, MAP_DELETE, &offset), 0);
        assert_int_equal(offset, 0);
        for (size_t i = 0; i < TEL_ARRAY_LEN(bad); i++)
                assert_int_equal(go_code_deleted_key(&bad[i], MAP_DELETE, &offset), -ENOENT);
        assert_int_equal(go_code_deleted_key(&good, 0, &offset), -ENOENT);
}

static void test_tls(void **state) {
        struct code direct = CODE_OF(tls_direct), by_register = CODE_OF(tls_register);
        struct code bad[] = { CODE_OF(tls_unknown), CODE_OF(tls_changed), CODE_OF(tls_canary), CODE_OF(tls_none) };
        int32_t offset = 0;
        (void)state;
        assert_int_equal(go_code_tls(&direct, &offset), 0);
        assert_int_equal(offset, -8);
        assert_int_equal(go_code_tls(&by_register, &offset), 0);
        assert_int_equal(offset, -32);
        for (size_t i = 0; i < TEL_ARRAY_LEN(bad); i++)
                assert_int_equal(go_code_tls(&bad[i], &offset), -ENOENT);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_entry),
                cmocka_unit_test(test_entry_of_no_go_function),
                cmocka_unit_test(test_read),
                cmocka_unit_test(test_read_uncertain),
                cmocka_unit_test(test_read_refused),
                cmocka_unit_test(test_goroutine),
                cmocka_unit_test(test_deleted_key),
                cmocka_unit_test(test_tls),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}

#else
int main(void) {
        return 0;                                  /* the code that is read, and written here, is x86-64's */
}
#endif
