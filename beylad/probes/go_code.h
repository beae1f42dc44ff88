/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Go code: what the machine code that Go's compiler made tells: where a function can be probed at little cost, and where the runtime keeps
 * what we want to read. It is there in every binary, stripped or not, and in versions of Go that are newer than we are.
 * All is for x86-64 and the register ABI (Go 1.17 and later). Return probes are not used: Go moves stacks, and a hooked return address with
 * them. May touch: memory only.
 * Source: Go's src/cmd/compile/abi-internal.md (arguments: rax, rbx, rcx, rdi, ...; r14 holds g); src/cmd/internal/obj/x86/obj6.go
 * (stacksplit), src/runtime/proc.go (newproc1), src/runtime/asm_amd64.s (systemstack). */
#include "beylad/probes/uprobe_site.h"

#define GO_READ_SITES_MAX 8                        /* return instructions of a function: 3 were seen */

/* Behind the check that makes the stack grow, which runs twice when it does: arguments are still in their registers there. Where nothing
 * cheap follows, it is the check's own branch: *ret_check, and it counts only when it is not taken (neither CF nor ZF is set).
 * 0, -EBADMSG: this is no function that begins as Go's do, -ENOMEM. */
int go_code_entry(const struct code *code, unsigned arguments, struct uprobe_site *ret, bool *ret_check);

enum go_read_kind {
        GO_READ_COPY,                              /* call of runtime.memmove: rbx is the plaintext, rcx its length */
        GO_READ_READER,                            /* call of bytes.(*Reader).Read: rax is the reader, rcx the length of the buffer */
        GO_READ_RETURN,                            /* return instructions: rax is the length */
};

/* Where the plaintext that crypto/tls.(*Conn).Read hands out can be seen. */
struct go_read {
        enum go_read_kind kind;
        struct uprobe_site sites[GO_READ_SITES_MAX];
        size_t n_sites;
        uint32_t slot;                             /* of the stack pointer there: where the receiver was spilled; the buffer stands behind it */
};

/* memmove, reader_read: addresses of those functions, 0: unknown. 0, -EBADMSG: nothing that can be recognized with certainty, -ENOMEM. */
int go_code_read(const struct code *code, uint64_t memmove, uint64_t reader_read, struct go_read *ret);

/* Offsets of goid and parentGoid in runtime.g, from runtime.newproc1, which copies the one of the caller into the other of the new goroutine
 * (Go 1.21 and later). 0, -ENOENT: it does no such thing, -ENOMEM. */
int go_code_goroutine(const struct code *newproc1, uint32_t *ret_goid, uint32_t *ret_parent);
/* Does the code store 8 bytes at that offset of anything but the stack? */
bool go_code_stores_at(const struct code *code, uint32_t offset);
/* Offset of the 32-bit key that the function loads to delete it from a map of such keys. map_delete: address of runtime.mapdelete_fast32, which
 * has the key in ecx. 0, -ENOENT: it is not called just once, or not so, -ENOMEM. */
int go_code_deleted_key(const struct code *code, uint64_t map_delete, uint32_t *ret);
/* Offset of the running g from the thread's fs base, from a function that loads or stores it (runtime.systemstack). 0, -ENOENT, -ENOMEM. */
int go_code_tls(const struct code *code, int32_t *ret);
