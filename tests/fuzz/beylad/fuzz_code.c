/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever bytes stand where code should be: a place that is chosen lies in them, on an instruction, and one that is called cheap is one that
 * the kernel emulates. */
#include "beylad/probes/go_code.h"

#define AT 0x401000u
#define MEMMOVE (AT + 0x100)
#define READER_READ (AT + 0x200)

static void check_site(const struct code *code, const struct uprobe_site *s) {
        struct code_walk w;
        assert(s->address >= code->address && s->address - code->address < code->n);
        assert(strnlen(s->text, sizeof(s->text)) < sizeof(s->text) && s->text[0]);
        if (!s->emulated)
                return;
        struct code there = { code->bytes + (s->address - code->address), code->n - (s->address - code->address), s->address };
        assert(code_walk_init(&w, &there) == 0 && code_walk_next(&w) && code_is_emulated(w.insn));
        code_walk_done(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        const struct code code = { data, TEL_MIN(n, (size_t)SITE_CODE_MAX), AT };
        struct uprobe_site s;
        struct go_read read;
        uint32_t goid, parent;
        int32_t tls;
        bool check;
        if (uprobe_site_c(&code, SITE_RDI | SITE_RSI | SITE_RDX, &s) == 0)
                check_site(&code, &s);
        uprobe_site_callee(&code, SITE_RDI);
        if (go_code_entry(&code, SITE_RAX, &s, &check) == 0) {
                check_site(&code, &s);
                assert(s.emulated);
        }
        if (go_code_read(&code, MEMMOVE, READER_READ, &read) == 0) {
                assert(read.n_sites > 0 && read.n_sites <= GO_READ_SITES_MAX && read.slot >= 8);
                for (size_t i = 0; i < read.n_sites; i++)
                        check_site(&code, &read.sites[i]);
        }
        if (go_code_goroutine(&code, &goid, &parent) == 0)
                assert(goid < parent && go_code_stores_at(&code, goid) && go_code_stores_at(&code, parent));
        if (go_code_deleted_key(&code, MEMMOVE, &goid) == 0)
                assert(goid <= 1024);
        if (go_code_tls(&code, &tls) == 0)
                assert(tls < 0);
        return 0;
}
