/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/probes/uprobe_site.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "tests/unit/beylad/probes/assembled.h"

#if defined(__x86_64__)

#define THREE (SITE_RDI | SITE_RSI | SITE_RDX)

ASSEMBLED(push, "push %rbx\n mov %rdi, %rbx\n pop %rbx\n ret");
ASSEMBLED(push_high, "push %r15\n pop %r15\n ret");
ASSEMBLED(pad, "endbr64\n push %rbp\n pop %rbp\n ret");
ASSEMBLED(pad_sub, "endbr64\n sub $8, %rsp\n add $8, %rsp\n ret");
ASSEMBLED(sub, "sub $24, %rsp\n test %edx, %edx\n js 1f\n add $24, %rsp\n 1: ret");
ASSEMBLED(null_check, "test %rdi, %rdi\n je 1f\n push %r13\n pop %r13\n 1: ret");
ASSEMBLED(argument_first, "mov %rcx, %rdx\n push %rbx\n pop %rbx\n ret");
ASSEMBLED(part_of_argument, "mov $1, %sil\n push %rbx\n pop %rbx\n ret");
ASSEMBLED(other_register, "mov %rcx, %rax\n push %rbx\n pop %rbx\n ret");
ASSEMBLED(tail_jump, "xor %r8d, %r8d\n xor %ecx, %ecx\n jmp . + 100");
ASSEMBLED(loops_back, "mov %rdi, %rax\n 1: push %rbx\n pop %rbx\n dec %rax\n jne 1b\n ret");
ASSEMBLED(ends_at_once, "ret\n push %rbx");
ASSEMBLED(wide_jump, ".byte 0x66\n jmp . + 100\n ret");
ASSEMBLED(wrapper, "sub $8, %rsp\n call . + 0x200\n xor %edx, %edx\n add $8, %rsp\n ret");
ASSEMBLED(wrapper_checks, "sub $24, %rsp\n mov %fs:40, %rax\n mov %rax, 8(%rsp)\n xor %eax, %eax\n test %edx, %edx\n js 1f\n mov %rsp, %rcx\n"
                          "movslq %edx, %rdx\n call . + 0x200\n 1: add $24, %rsp\n ret");
ASSEMBLED(wrapper_spoils, "sub $8, %rsp\n xor %ecx, %ecx\n call . + 0x200\n add $8, %rsp\n ret");
ASSEMBLED(wrapper_jumps, "sub $8, %rsp\n jmp 1f\n 1: call . + 0x200\n ret");
ASSEMBLED(wrapper_pointer, "sub $8, %rsp\n call *%rax\n add $8, %rsp\n ret");
ASSEMBLED(nonsense, ".byte 0x06, 0x06, 0x06");

static void expect(const struct code *code, unsigned offset, bool emulated, const char *text) {
        struct uprobe_site s;
        assert_int_equal(uprobe_site_c(code, THREE, &s), 0);
        assert_int_equal(s.address - code->address, offset);
        assert_int_equal(s.emulated, emulated);
        assert_string_equal(s.text, text);
}
#define EXPECT(name, ...)                        \
        do {                                     \
                struct code c_ = CODE_OF(name);  \
                expect(&c_, __VA_ARGS__);        \
        } while (0)

/* The first instruction that the kernel emulates is taken, if stack pointer and arguments are still those of the entry. */
static void test_cheap_places(void **state) {
        (void)state;
        EXPECT(push, 0, true, "push rbx at +0, emulated");
        EXPECT(push_high, 0, true, "push r15 at +0, emulated");
        EXPECT(pad, 4, true, "push rbp at +4, emulated");
        EXPECT(null_check, 3, true, "je 0x401009 at +3, emulated");
        EXPECT(other_register, 3, true, "push rbx at +3, emulated");
        EXPECT(tail_jump, 5, true, "jmp 0x401069 at +5, emulated");
}

/* A return cannot be hooked where the stack moved, an argument cannot be seen where it is overwritten, even in part: then it is the entry. */
static void test_dear_places(void **state) {
        (void)state;
        EXPECT(sub, 0, false, "sub rsp, 0x18 at +0, single-stepped: dear");
        EXPECT(pad_sub, 0, false, "endbr64 at +0, single-stepped: dear");
        EXPECT(argument_first, 0, false, "mov rdx, rcx at +0, single-stepped: dear");
        EXPECT(part_of_argument, 0, false, "mov sil, 1 at +0, single-stepped: dear");
        EXPECT(ends_at_once, 0, false, "ret at +0, single-stepped: dear");
}

/* What a jump leads back to runs more than once in a call. */
static void test_loops_are_no_place(void **state) {
        (void)state;
        EXPECT(loops_back, 0, false, "mov rax, rdi at +0, single-stepped: dear");
        struct code code = CODE_OF(loops_back);
        assert_true(code_jumps_into(&code, ASSEMBLED_AT, ASSEMBLED_AT + 3));
        assert_false(code_jumps_into(&code, ASSEMBLED_AT + 3, ASSEMBLED_AT + 4));
        assert_false(code_jumps_into(&code, ASSEMBLED_AT, ASSEMBLED_AT));
}

/* The kernel refuses a branch with an operand-size prefix; a place on it would fail to attach. */
static void test_prefixed_branch_is_not_emulated(void **state) {
        struct code code = CODE_OF(wide_jump);
        struct uprobe_site s;
        (void)state;
        assert_int_equal(uprobe_site_c(&code, THREE, &s), 0);
        assert_false(s.emulated);
}

static void test_no_code(void **state) {
        struct code code = CODE_OF(nonsense), empty = { code_push, 0, ASSEMBLED_AT };
        struct uprobe_site s;
        (void)state;
        assert_int_equal(uprobe_site_c(&code, THREE, &s), -EBADMSG);
        assert_int_equal(uprobe_site_c(&empty, THREE, &s), -EBADMSG);
        assert_int_equal(uprobe_site_callee(&empty, THREE), 0);
}

/* A wrapper's inner function is known if the arguments that matter reach it untouched, past checks that fail. */
static void test_callee(void **state) {
        struct code plain = CODE_OF(wrapper), checks = CODE_OF(wrapper_checks), spoils = CODE_OF(wrapper_spoils);
        struct code jumps = CODE_OF(wrapper_jumps), pointer = CODE_OF(wrapper_pointer);
        (void)state;
        assert_int_equal(uprobe_site_callee(&plain, THREE | SITE_RCX), ASSEMBLED_AT + 4 + 0x200);
        assert_int_equal(uprobe_site_callee(&checks, SITE_RDI | SITE_RSI), ASSEMBLED_AT + 0x1e + 0x200);
        assert_int_equal(uprobe_site_callee(&checks, SITE_RDI | SITE_RSI | SITE_RCX), 0);
        assert_int_equal(uprobe_site_callee(&spoils, THREE | SITE_RCX), 0);
        assert_int_not_equal(uprobe_site_callee(&spoils, THREE), 0);
        assert_int_equal(uprobe_site_callee(&jumps, THREE), 0);
        assert_int_equal(uprobe_site_callee(&pointer, THREE), 0);
}

/* After the library was let go of, the next walk loads it again. */
static void test_library_comes_back(void **state) {
        (void)state;
        code_library_close();
        EXPECT(push, 0, true, "push rbx at +0, emulated");
        code_library_close();
        code_library_close();
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_cheap_places),
                cmocka_unit_test(test_dear_places),
                cmocka_unit_test(test_loops_are_no_place),
                cmocka_unit_test(test_prefixed_branch_is_not_emulated),
                cmocka_unit_test(test_no_code),
                cmocka_unit_test(test_callee),
                cmocka_unit_test(test_library_comes_back),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}

#else
int main(void) {
        return 0;                                  /* the code that is read, and written here, is x86-64's */
}
#endif
