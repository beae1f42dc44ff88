/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Uprobe site: on which instruction of a function a probe is put. The kernel replaces it by a breakpoint. Some instructions it then emulates
 * (push, nop, jmp, jcc, call: 0.6 us were measured); all others it executes out of line with a second trap (10 us). So the first cheap one
 * is taken before which nothing happened to what the probe wants to see. A probe of which the return is wanted needs the return address on
 * top of the stack: that is where the kernel hooks it.
 * May touch: memory, and the library that disassembles. The code is somebody else's: it may be anything.
 * Source: Linux arch/x86/kernel/uprobes.c, branch_setup_ops() and push_setup_ops(). */
#include <capstone/capstone.h>

#include "libtelemetry/base.h"

#define SITE_CODE_MAX 16384                        /* bytes of a function that are looked at; what is longer is looked at in part */
#define SITE_STEPS 8                               /* instructions of a function among which its place is sought */
#define SITE_TEXT_MAX 96                           /* bytes of the text, with its NUL */

/* Machine code of one function (x86-64). */
struct code {
        const uint8_t *bytes;
        size_t n;
        uint64_t address;                          /* of the first byte, as linked */
};

enum site_register {
        SITE_RAX = 1, SITE_RBX = 2, SITE_RCX = 4, SITE_RDX = 8, SITE_RSI = 16, SITE_RDI = 32, SITE_R8 = 64, SITE_RSP = 128,
};

struct uprobe_site {
        uint64_t address;                          /* of the instruction, as linked */
        bool emulated;                             /* else single-stepped */
        char text[SITE_TEXT_MAX];                  /* "push r15 at +2, emulated" */
};

/* Goes through code, an instruction at a time. */
struct code_walk {
        csh engine;
        cs_insn *insn;                             /* the current one; its detail is filled */
        const uint8_t *next;
        size_t left;
        uint64_t address;
};

int code_walk_init(struct code_walk *w, const struct code *code);      /* 0, -ENOMEM, or -ELIBACC: no disassembler */
bool code_walk_next(struct code_walk *w);          /* false: the end, or bytes that are no instruction */
void code_walk_done(struct code_walk *w);          /* accepts one that is all zero */

/* The disassembler takes 5 MB while it is loaded: the first walk loads it, this lets go of it. No walk may be under way. */
void code_library_close(void);

/* What the current instruction does. */
bool code_is_emulated(const cs_insn *insn);        /* by the kernel, at a breakpoint */
unsigned code_writes(const struct code_walk *w);   /* enum site_register, any part of them */
bool code_is_branch(const cs_insn *insn);          /* jmp or jcc */
bool code_ends(const cs_insn *insn);               /* what follows is not always executed next: a branch, a call or a return */
uint64_t code_target(const cs_insn *insn);         /* of a direct branch or call; 0: none */

void uprobe_site_set(struct uprobe_site *s, const struct code *code, const cs_insn *insn);
/* A jump in the code leads to an address behind from, up to and with to: what stands there is executed more than once a call. */
bool code_jumps_into(const struct code *code, uint64_t from, uint64_t to);

/* For a C function: a place where the arguments in registers (enum site_register) and the stack pointer are those of its entry, so that both
 * the call and its return can be probed there. With nothing cheap it is the entry. 0, -EBADMSG: no code, -ENOMEM. */
int uprobe_site_c(const struct code *code, unsigned arguments, struct uprobe_site *ret);
/* The function that code hands its untouched arguments to first of all; 0: there is none among the first instructions. */
uint64_t uprobe_site_callee(const struct code *code, unsigned arguments);
