/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of queries: what is kept stays in its bounds, no quote of a literal is left, and reading what was kept finds the same verb. */
#include "beylad/protocols/sql.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        struct sql q, again;
        if (n == 0)
                return 0;
        bool whole = data[0] & 1;
        sql_read(data + 1, n - 1, whole, true, &q);
        if (q.table_len > SQL_TABLE_MAX || q.text_len > SQL_TEXT_MAX)
                abort();
        /* Quotes are left only around and in quoted names. */
        bool name = false;
        for (size_t i = 0; i < q.text_len; i++) {
                name ^= q.text[i] == '"';
                if (q.text[i] == '\'' && !name)
                        abort();
        }
        sql_read(q.text, q.text_len, whole, true, &again);
        if (q.operation && q.text_len < SQL_TEXT_MAX / 2 && whole && (!again.operation || strcmp(q.operation, again.operation) != 0))
                abort();
        sql_read(data + 1, n - 1, whole, false, &again);
        if (again.operation != q.operation || again.table_len != q.table_len || memcmp(again.table, q.table, q.table_len) != 0 || again.text_len != 0)
                abort();
        return 0;
}
