/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/probes/go_code.h"

#define GO_CHECK_STEPS 8                           /* instructions before the branch of the stack check: large frames compute first */
#define GO_SPILL_STEPS 32                          /* instructions within which arguments are spilled */
#define GO_STACK_GUARD 16                          /* offset of stackguard0 in runtime.g */
#define GO_G_MAX 1024                              /* bytes of runtime.g, roughly: an offset beyond is none of it */
#define GO_KEY_MAX 1024                            /* of a struct's member that is a map's key, likewise */
#define GO_G_MIN 64                                /* goid lies behind the scheduling state */

/* Is operand i a place in memory at base + displacement, without index? */
static bool memory_at(const cs_insn *insn, unsigned i, unsigned base, int64_t displacement) {
        const cs_x86 *x = &insn->detail->x86;
        return i < x->op_count && x->operands[i].type == X86_OP_MEM && x->operands[i].mem.base == base && x->operands[i].mem.index == X86_REG_INVALID &&
               x->operands[i].mem.segment == X86_REG_INVALID && x->operands[i].mem.disp == displacement;
}

static bool is_register(const cs_insn *insn, unsigned i, unsigned reg) {
        const cs_x86 *x = &insn->detail->x86;
        return i < x->op_count && x->operands[i].type == X86_OP_REG && x->operands[i].reg == reg;
}

static bool is_stack_check(const cs_insn *insn) {
        return insn->id == X86_INS_CMP && (memory_at(insn, 0, X86_REG_R14, GO_STACK_GUARD) || memory_at(insn, 1, X86_REG_R14, GO_STACK_GUARD));
}

/* Walks to the branch of the stack check. */
static bool walk_to_check(struct code_walk *w, unsigned arguments) {
        bool compared = false;
        for (unsigned i = 0; i < GO_CHECK_STEPS && code_walk_next(w); i++) {
                if (compared)
                        return w->insn->id == X86_INS_JBE && code_is_emulated(w->insn);
                compared = is_stack_check(w->insn);
                if (code_writes(w) & (arguments | SITE_RSP))
                        return false;
        }
        return false;
}

int go_code_entry(const struct code *code, unsigned arguments, struct uprobe_site *ret, bool *ret_check) {
        TEL_CLEANUP(code_walk_done) struct code_walk w = { 0 };
        struct uprobe_site check = { 0 };
        int r = code_walk_init(&w, code);
        if (r < 0)
                return r;
        if (!walk_to_check(&w, arguments))
                return -EBADMSG;
        uprobe_site_set(&check, code, w.insn);
        if (code_walk_next(&w) && w.insn->id == X86_INS_PUSH && code_is_emulated(w.insn) &&
            !code_jumps_into(code, check.address, w.insn->address)) {
                uprobe_site_set(ret, code, w.insn);
                *ret_check = false;
                return 0;
        }
        *ret = check;
        *ret_check = true;
        return 0;
}

/* ---- crypto/tls.(*Conn).Read ---- */

/* Spilled arguments lie above the return address, in the order of their registers. What is learned of a function's beginning: */
struct frame {
        uint32_t bytes;                            /* that the stack pointer went down */
        bool first, second;                        /* rax and rbx were spilled */
};

static void frame_read(const struct code *code, struct frame *ret) {
        TEL_CLEANUP(code_walk_done) struct code_walk w = { 0 };
        struct frame f = { 0 };
        if (code_walk_init(&w, code) < 0)
                return;
        for (unsigned i = 0; i < GO_SPILL_STEPS && code_walk_next(&w); i++) {
                const cs_x86 *x = &w.insn->detail->x86;
                if (w.insn->id == X86_INS_PUSH)
                        f.bytes += 8;
                else if (w.insn->id == X86_INS_SUB && is_register(w.insn, 0, X86_REG_RSP) && x->operands[1].type == X86_OP_IMM &&
                         x->operands[1].imm > 0 && x->operands[1].imm < INT16_MAX)
                        f.bytes += (uint32_t)x->operands[1].imm;
                else if (w.insn->id == X86_INS_MOV && memory_at(w.insn, 0, X86_REG_RSP, f.bytes + 8) && is_register(w.insn, 1, X86_REG_RAX))
                        f.first = true;
                else if (w.insn->id == X86_INS_MOV && memory_at(w.insn, 0, X86_REG_RSP, f.bytes + 16) && is_register(w.insn, 1, X86_REG_RBX))
                        f.second = true;
                else if (w.insn->id == X86_INS_CALL)
                        break;
        }
        *ret = f;
}

struct found {
        struct go_read copies, readers, returns;
};

static void found_add(struct go_read *g, const struct code *code, const cs_insn *insn) {
        if (g->n_sites < GO_READ_SITES_MAX)
                uprobe_site_set(&g->sites[g->n_sites], code, insn);
        g->n_sites++;
}

int go_code_read(const struct code *code, uint64_t memmove, uint64_t reader_read, struct go_read *ret) {
        TEL_CLEANUP(code_walk_done) struct code_walk w = { 0 };
        struct found found = { .copies.kind = GO_READ_COPY, .readers.kind = GO_READ_READER, .returns.kind = GO_READ_RETURN };
        struct frame frame = { 0 };
        struct uprobe_site entry;
        bool check;
        int r = go_code_entry(code, SITE_RAX | SITE_RBX | SITE_RCX, &entry, &check);
        if (r < 0)
                return r;
        frame_read(code, &frame);
        if (!frame.first)
                return -EBADMSG;
        r = code_walk_init(&w, code);
        if (r < 0)
                return r;
        while (code_walk_next(&w)) {
                uint64_t target = w.insn->id == X86_INS_CALL && code_is_emulated(w.insn) ? code_target(w.insn) : 0;
                if (target && target == memmove)
                        found_add(&found.copies, code, w.insn);
                else if (target && target == reader_read)
                        found_add(&found.readers, code, w.insn);
                else if (w.insn->id == X86_INS_RET)
                        found_add(&found.returns, code, w.insn);
        }
        /* Two of a kind: the compiler does something we do not know. */
        if (found.copies.n_sites + found.readers.n_sites == 1) {
                *ret = found.copies.n_sites ? found.copies : found.readers;
                ret->slot = frame.bytes + 8;
                return 0;
        }
        if (!frame.second || !found.returns.n_sites || found.returns.n_sites > GO_READ_SITES_MAX)
                return -EBADMSG;
        *ret = found.returns;
        ret->slot = 8;
        return 0;
}

/* ---- runtime ---- */

/* A move of 8 bytes between a register and memory of something that is not the stack. */
static bool moves(const cs_insn *insn, unsigned memory, unsigned *ret_reg, uint32_t *ret_offset) {
        const cs_x86 *x = &insn->detail->x86;
        if (insn->id != X86_INS_MOV || x->op_count != 2 || x->operands[memory].type != X86_OP_MEM || x->operands[memory].size != 8 ||
            x->operands[1 - memory].type != X86_OP_REG)
                return false;
        const x86_op_mem *m = &x->operands[memory].mem;
        if (m->base == X86_REG_INVALID || m->base == X86_REG_RSP || m->base == X86_REG_RIP || m->index != X86_REG_INVALID ||
            m->segment != X86_REG_INVALID || m->disp < GO_G_MIN || m->disp > GO_G_MAX || m->disp % 8)
                return false;
        *ret_reg = x->operands[1 - memory].reg;
        *ret_offset = (uint32_t)m->disp;
        return true;
}

/* Offsets that the code stores 8 bytes at, as bits: offset / 8. */
struct stored {
        uint64_t bits[GO_G_MAX / 8 / 64 + 1];
};

static bool is_stored(const struct stored *s, uint32_t offset) {
        return s->bits[offset / 8 / 64] >> (offset / 8 % 64) & 1;
}

static int stored_read(const struct code *code, struct stored *ret) {
        TEL_CLEANUP(code_walk_done) struct code_walk w = { 0 };
        unsigned reg;
        uint32_t at;
        *ret = (struct stored){ 0 };
        int r = code_walk_init(&w, code);
        if (r < 0)
                return r;
        while (code_walk_next(&w))
                if (moves(w.insn, 0, &reg, &at))
                        ret->bits[at / 8 / 64] |= 1ull << (at / 8 % 64);
        return 0;
}

bool go_code_stores_at(const struct code *code, uint32_t offset) {
        struct stored stored;
        return offset <= GO_G_MAX && stored_read(code, &stored) == 0 && is_stored(&stored, offset);
}

int go_code_goroutine(const struct code *newproc1, uint32_t *ret_goid, uint32_t *ret_parent) {
        TEL_CLEANUP(code_walk_done) struct code_walk w = { 0 };
        struct stored stored;
        uint32_t loaded = 0, at;
        unsigned reg = X86_REG_INVALID, moved, age = 0;
        int r = stored_read(newproc1, &stored);
        if (r == 0)
                r = code_walk_init(&w, newproc1);
        if (r < 0)
                return r;
        /* The value of one offset goes into another, larger one, at once; later the goid of the new goroutine is stored at the first. */
        for (; code_walk_next(&w); age++) {
                if (moves(w.insn, 1, &moved, &at)) {
                        reg = moved;
                        loaded = at;
                        age = 0;
                } else if (loaded && age <= 3 && moves(w.insn, 0, &moved, &at) && moved == reg && at > loaded && is_stored(&stored, loaded)) {
                        *ret_goid = loaded;
                        *ret_parent = at;
                        return 0;
                }
        }
        return -ENOENT;
}

int go_code_deleted_key(const struct code *code, uint64_t map_delete, uint32_t *ret) {
        TEL_CLEANUP(code_walk_done) struct code_walk w = { 0 };
        int64_t loaded = -1, found = -1;
        unsigned calls = 0;
        int r = code_walk_init(&w, code);
        if (r < 0)
                return r;
        while (map_delete && code_walk_next(&w)) {
                const cs_x86 *x = &w.insn->detail->x86;
                if (w.insn->id == X86_INS_CALL && code_is_emulated(w.insn)) {
                        if (code_target(w.insn) == map_delete && ++calls == 1)
                                found = loaded;
                        loaded = -1;
                } else if (w.insn->id == X86_INS_MOV && is_register(w.insn, 0, X86_REG_ECX) && x->operands[1].type == X86_OP_MEM &&
                           memory_at(w.insn, 1, x->operands[1].mem.base, x->operands[1].mem.disp) && x->operands[1].mem.base != X86_REG_RSP &&
                           x->operands[1].mem.base != X86_REG_RIP)
                        loaded = x->operands[1].mem.disp;
                else if (code_writes(&w) & SITE_RCX)
                        loaded = -1;
        }
        if (calls != 1 || found < 0 || found > GO_KEY_MAX)
                return -ENOENT;
        *ret = (uint32_t)found;
        return 0;
}

int go_code_tls(const struct code *code, int32_t *ret) {
        TEL_CLEANUP(code_walk_done) struct code_walk w = { 0 };
        unsigned reg = X86_REG_INVALID;
        int64_t value = 0;
        int r = code_walk_init(&w, code);
        if (r < 0)
                return r;
        while (code_walk_next(&w)) {
                const cs_x86 *x = &w.insn->detail->x86;
                for (uint8_t i = 0; i < x->op_count; i++) {
                        const x86_op_mem *m = &x->operands[i].mem;
                        if (x->operands[i].type != X86_OP_MEM || m->segment != X86_REG_FS || m->index != X86_REG_INVALID)
                                continue;
                        /* The offset is in the instruction, or in a register that was just set to it (position-independent programs). */
                        int64_t offset = m->disp + (m->base == X86_REG_INVALID ? 0 : m->base == reg ? value : INT16_MAX);
                        if (offset >= 0 || offset < INT16_MIN)
                                return -ENOENT;
                        *ret = (int32_t)offset;
                        return 0;
                }
                reg = X86_REG_INVALID;
                if ((w.insn->id == X86_INS_MOV || w.insn->id == X86_INS_MOVABS) && x->op_count == 2 && x->operands[0].type == X86_OP_REG &&
                    x->operands[1].type == X86_OP_IMM) {
                        reg = x->operands[0].reg;
                        value = x->operands[1].imm;
                }
        }
        return -ENOENT;
}
