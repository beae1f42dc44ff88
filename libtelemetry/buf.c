/* SPDX-License-Identifier: Apache-2.0 */
#include "libtelemetry/buf.h"

bool tel_budget_charge(struct tel_budget *b, size_t bytes) {
        if (!b)
                return true;
        if (bytes > SIZE_MAX - b->used || (b->limit && b->used + bytes > b->limit))
                return false;
        b->used += bytes;
        b->peak = TEL_MAX(b->peak, b->used);
        return true;
}

void tel_budget_credit(struct tel_budget *b, size_t bytes) {
        if (!b)
                return;
        assert(b->used >= bytes);
        b->used -= bytes;
}

struct tel_buf *tel_buf_new(struct tel_budget *budget, size_t capacity) {
        TEL_CLEANUP(tel_buf_unrefp) struct tel_buf *b = calloc(1, sizeof(*b));
        if (!b)
                return NULL;
        b->refs = 1;
        if (!tel_budget_charge(budget, sizeof(*b)))
                return NULL;
        b->budget = budget;
        if (capacity && tel_buf_reserve(b, capacity, capacity) < 0)
                return NULL;
        return TEL_TAKE(b);
}

struct tel_buf *tel_buf_ref(struct tel_buf *b) {
        if (b) {
                assert(b->refs > 0);
                b->refs++;
        }
        return b;
}

struct tel_buf *tel_buf_unref(struct tel_buf *b) {
        if (!b)
                return NULL;
        assert(b->refs > 0);
        if (--b->refs > 0)
                return NULL;
        if (b->budget)
                tel_budget_credit(b->budget, sizeof(*b) + b->capacity);
        free(b->data);
        free(b);
        return NULL;
}

int tel_buf_reserve(struct tel_buf *b, size_t more, size_t max) {
        assert(b->refs == 1);
        if (more > max || b->len > max - more)
                return -EMSGSIZE;
        size_t need = b->len + more;
        if (need <= b->capacity)
                return 0;
        /* Doubling keeps the copies linear; the first allocation is exact, because the caller often knows the length. */
        size_t to = TEL_MAX(need, b->capacity * 2);
        to = b->capacity ? TEL_MIN(to, max) : need;
        if (!tel_budget_charge(b->budget, to - b->capacity)) {
                to = need;
                if (!tel_budget_charge(b->budget, to - b->capacity))
                        return -ENOBUFS;
        }
        uint8_t *data = realloc(b->data, to);
        if (!data) {
                tel_budget_credit(b->budget, to - b->capacity);
                return -ENOMEM;
        }
        b->data = data;
        b->capacity = to;
        return 0;
}

int tel_buf_append(struct tel_buf *b, const void *bytes, size_t n, size_t max) {
        if (n == 0)
                return 0;
        int r = tel_buf_reserve(b, n, max);
        if (r < 0)
                return r;
        memcpy(b->data + b->len, bytes, n);
        b->len += n;
        return 0;
}

void tel_buf_trim(struct tel_buf *b) {
        assert(b->refs == 1);
        if (b->len == b->capacity)
                return;
        uint8_t *data = b->len ? realloc(b->data, b->len) : NULL;
        if (b->len && !data)
                return;                            /* the old block is still whole */
        if (!b->len)
                free(b->data);
        tel_budget_credit(b->budget, b->capacity - b->len);
        b->data = data;
        b->capacity = b->len;
}
