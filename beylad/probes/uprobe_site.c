/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/probes/uprobe_site.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>

/* ---- the disassembler ---- */

#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)
#define CAPSTONE_NAME "libcapstone.so." STRING(CS_API_MAJOR)

static struct {
        void *handle;
        __typeof__(cs_open) *open;
        __typeof__(cs_close) *close;
        __typeof__(cs_option) *option;
        __typeof__(cs_malloc) *malloc;
        __typeof__(cs_free) *free;
        __typeof__(cs_disasm_iter) *disasm_iter;
        __typeof__(cs_regs_access) *regs_access;
} capstone;

/* A name of the library, as a function of the type that its header declares. */
#define LOAD(name) ((*(void **)&capstone.name = dlsym(capstone.handle, "cs_" #name)) != NULL)

static int library_open(void) {
        if (capstone.handle)
                return 0;
        capstone.handle = dlopen(CAPSTONE_NAME, RTLD_NOW | RTLD_LOCAL);
        if (!capstone.handle)                      /* where the build found it */
                capstone.handle = dlopen(CAPSTONE_FOLDER "/" CAPSTONE_NAME, RTLD_NOW | RTLD_LOCAL);
        if (!capstone.handle)
                return -ELIBACC;
        if (LOAD(open) && LOAD(close) && LOAD(option) && LOAD(malloc) && LOAD(free) && LOAD(disasm_iter) && LOAD(regs_access))
                return 0;
        code_library_close();
        return -ELIBACC;
}

void code_library_close(void) {
        if (capstone.handle)
                dlclose(capstone.handle);
        memset(&capstone, 0, sizeof(capstone));
}

/* ---- walking ---- */

int code_walk_init(struct code_walk *w, const struct code *code) {
        *w = (struct code_walk){ .next = code->bytes, .left = code->n, .address = code->address };
        int r = library_open();
        if (r < 0)
                return r;
        if (capstone.open(CS_ARCH_X86, CS_MODE_64, &w->engine) != CS_ERR_OK)
                return -ENOMEM;
        if (capstone.option(w->engine, CS_OPT_DETAIL, CS_OPT_ON) == CS_ERR_OK)
                w->insn = capstone.malloc(w->engine);
        if (!w->insn) {
                code_walk_done(w);
                return -ENOMEM;
        }
        return 0;
}

bool code_walk_next(struct code_walk *w) {
        return w->left && capstone.disasm_iter(w->engine, &w->next, &w->left, &w->address, w->insn);
}

void code_walk_done(struct code_walk *w) {
        if (w->insn)
                capstone.free(w->insn, 1);
        if (w->engine)
                capstone.close(&w->engine);
        *w = (struct code_walk){ 0 };
}

/* ---- instructions ---- */

bool code_is_emulated(const cs_insn *insn) {
        const uint8_t *b = insn->bytes;
        switch (insn->size) {
        case 1:
                return b[0] == 0x90 || (b[0] >= 0x50 && b[0] <= 0x57);
        case 2:
                return b[0] == 0xeb || (b[0] >= 0x70 && b[0] <= 0x7f) || (b[0] == 0x41 && b[1] >= 0x50 && b[1] <= 0x57);
        case 5:
                return b[0] == 0xe8 || b[0] == 0xe9;
        case 6:
                return b[0] == 0x0f && b[1] >= 0x80 && b[1] <= 0x8f;
        default:
                return false;
        }
}

static unsigned whole_register(unsigned part) {
        switch (part) {
        case X86_REG_RAX: case X86_REG_EAX: case X86_REG_AX: case X86_REG_AL: case X86_REG_AH:
                return SITE_RAX;
        case X86_REG_RBX: case X86_REG_EBX: case X86_REG_BX: case X86_REG_BL: case X86_REG_BH:
                return SITE_RBX;
        case X86_REG_RCX: case X86_REG_ECX: case X86_REG_CX: case X86_REG_CL: case X86_REG_CH:
                return SITE_RCX;
        case X86_REG_RDX: case X86_REG_EDX: case X86_REG_DX: case X86_REG_DL: case X86_REG_DH:
                return SITE_RDX;
        case X86_REG_RSI: case X86_REG_ESI: case X86_REG_SI: case X86_REG_SIL:
                return SITE_RSI;
        case X86_REG_RDI: case X86_REG_EDI: case X86_REG_DI: case X86_REG_DIL:
                return SITE_RDI;
        case X86_REG_R8: case X86_REG_R8D: case X86_REG_R8W: case X86_REG_R8B:
                return SITE_R8;
        case X86_REG_RSP: case X86_REG_ESP: case X86_REG_SP: case X86_REG_SPL:
                return SITE_RSP;
        default:
                return 0;
        }
}

unsigned code_writes(const struct code_walk *w) {
        cs_regs read, written;
        uint8_t n_read = 0, n_written = 0;
        unsigned all = 0;
        if (capstone.regs_access(w->engine, w->insn, read, &n_read, written, &n_written) != CS_ERR_OK)
                return ~0u;                        /* not known: everything */
        for (uint8_t i = 0; i < n_written; i++)
                all |= whole_register(written[i]);
        return all;
}

static bool is_call(const cs_insn *insn) {
        return insn->id == X86_INS_CALL || insn->id == X86_INS_LCALL;
}

bool code_is_branch(const cs_insn *insn) {
        for (uint8_t i = 0; i < insn->detail->groups_count; i++)
                if (insn->detail->groups[i] == CS_GRP_JUMP)
                        return true;
        return insn->id == X86_INS_JMP || insn->id == X86_INS_LJMP;
}

bool code_ends(const cs_insn *insn) {
        for (uint8_t i = 0; i < insn->detail->groups_count; i++)
                if (insn->detail->groups[i] == CS_GRP_RET || insn->detail->groups[i] == CS_GRP_IRET || insn->detail->groups[i] == CS_GRP_INT)
                        return true;
        return is_call(insn) || code_is_branch(insn) || insn->id == X86_INS_HLT || insn->id == X86_INS_UD2;
}

uint64_t code_target(const cs_insn *insn) {
        const cs_x86 *x = &insn->detail->x86;
        if ((!is_call(insn) && !code_is_branch(insn)) || x->op_count != 1 || x->operands[0].type != X86_OP_IMM)
                return 0;
        return (uint64_t)x->operands[0].imm;
}

void uprobe_site_set(struct uprobe_site *s, const struct code *code, const cs_insn *insn) {
        s->address = insn->address;
        s->emulated = code_is_emulated(insn);
        snprintf(s->text, sizeof(s->text), "%.16s%s%.32s at +%" PRIu64 ", %s", insn->mnemonic, insn->op_str[0] ? " " : "", insn->op_str,
                 insn->address - code->address, s->emulated ? "emulated" : "single-stepped: dear");
}

bool code_jumps_into(const struct code *code, uint64_t from, uint64_t to) {
        TEL_CLEANUP(code_walk_done) struct code_walk w = { 0 };
        if (to <= from)
                return false;
        if (code_walk_init(&w, code) < 0)
                return true;                       /* not known: that is no yes */
        while (code_walk_next(&w))
                if (code_is_branch(w.insn) && code_target(w.insn) > from && code_target(w.insn) <= to)
                        return true;
        return false;
}

/* ---- places ---- */

/* Programs built for control-flow enforcement begin so; this capstone does not know it. */
static size_t landing_pad(const struct code *code) {
        static const uint8_t endbr64[] = { 0xf3, 0x0f, 0x1e, 0xfa };
        return code->n > sizeof(endbr64) && memcmp(code->bytes, endbr64, sizeof(endbr64)) == 0 ? sizeof(endbr64) : 0;
}

static struct code behind_pad(const struct code *code) {
        size_t pad = landing_pad(code);
        return (struct code){ code->bytes + pad, code->n - pad, code->address + pad };
}

int uprobe_site_c(const struct code *code, unsigned arguments, struct uprobe_site *ret) {
        TEL_CLEANUP(code_walk_done) struct code_walk w = { 0 };
        struct code body = behind_pad(code);
        struct uprobe_site entry = { .address = code->address };
        int r = code_walk_init(&w, &body);
        if (r < 0)
                return r;
        for (unsigned i = 0; i < SITE_STEPS && code_walk_next(&w); i++) {
                if (i == 0) {
                        uprobe_site_set(&entry, code, w.insn);
                        entry.address = code->address;
                        if (body.address != code->address) {
                                entry.emulated = false;
                                snprintf(entry.text, sizeof(entry.text), "endbr64 at +0, single-stepped: dear");
                        }
                }
                if (code_is_emulated(w.insn) && !code_jumps_into(&body, code->address, w.insn->address)) {
                        uprobe_site_set(ret, code, w.insn);
                        return 0;
                }
                if (code_ends(w.insn) || code_writes(&w) & (arguments | SITE_RSP))
                        break;
        }
        if (!entry.text[0])
                return -EBADMSG;
        *ret = entry;
        return 0;
}

uint64_t uprobe_site_callee(const struct code *code, unsigned arguments) {
        TEL_CLEANUP(code_walk_done) struct code_walk w = { 0 };
        struct code body = behind_pad(code);
        if (code_walk_init(&w, &body) < 0)
                return 0;
        for (unsigned i = 0; i < SITE_STEPS + 4 && code_walk_next(&w); i++) {
                if (is_call(w.insn))
                        return code_target(w.insn);
                /* What branches away is a check of an argument that fails; what follows is the way on. */
                if (code_writes(&w) & arguments || (code_ends(w.insn) && (!code_is_branch(w.insn) || w.insn->id == X86_INS_JMP)))
                        return 0;
        }
        return 0;
}
