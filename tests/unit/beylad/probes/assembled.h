/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Assembled: machine code for the tests of what reads it, written as assembly (AT&T, x86-64).
 *
 *     ASSEMBLED(simple, "push %rbx\n ret");
 *     struct code code = CODE_OF(simple);       its address is ASSEMBLED_AT, whatever the linker made of it */
#include "beylad/probes/uprobe_site.h"

#define ASSEMBLED_AT 0x401000u

#define ASSEMBLED(name, text)                                                                                             \
        __asm__(".pushsection .rodata\n.globl code_" #name "\ncode_" #name ":\n" text "\n.globl code_" #name "_end\n"     \
                "code_" #name "_end:\n.popsection\n");                                                                    \
        extern const uint8_t code_##name[], code_##name##_end[]

#define CODE_OF(name) ((struct code){ code_##name, (size_t)(code_##name##_end - code_##name), ASSEMBLED_AT })
