/* SPDX-License-Identifier: Apache-2.0 */
#include "libtelemetry/config.h"

static bool text_equal(const char *a, const char *b) {
        return a == b || (a && b && strcmp(a, b) == 0);
}

static bool texts_equal(char *const *a, char *const *b, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (!text_equal(a[i], b[i]))
                        return false;
        return true;
}

static bool items_equal(const struct tel_config_key *k, const struct tel_config_list *a, const struct tel_config_list *b) {
        if (a->n != b->n)
                return false;
        for (size_t i = 0; i < a->n; i++) {
                const char *x = (const char *)a->items + i * k->size, *y = (const char *)b->items + i * k->size;
                if ((k->type == TEL_CONFIG_NAMED && !text_equal(*(char *const *)x, *(char *const *)y)) || !tel_config_equal(k->table, x, y))
                        return false;
        }
        return true;
}

static bool member_equal(const struct tel_config_key *k, const void *a, const void *b) {
        switch (k->type) {
        case TEL_CONFIG_BOOL:
                return *(const bool *)a == *(const bool *)b;
        case TEL_CONFIG_ENUM:
                return *(const int *)a == *(const int *)b;
        case TEL_CONFIG_INT: case TEL_CONFIG_SIZE: case TEL_CONFIG_DURATION: case TEL_CONFIG_ENUMS:
                return memcmp(a, b, sizeof(uint64_t)) == 0;
        case TEL_CONFIG_STRING: case TEL_CONFIG_SECRET:
                return text_equal(*(char *const *)a, *(char *const *)b);
        case TEL_CONFIG_STRINGS: {
                const struct tel_config_strings *x = a, *y = b;
                return x->n == y->n && texts_equal(x->values, y->values, x->n);
        }
        case TEL_CONFIG_MAP: {
                const struct tel_config_map *x = a, *y = b;
                return x->n == y->n && texts_equal(x->keys, y->keys, x->n) && texts_equal(x->values, y->values, x->n);
        }
        case TEL_CONFIG_OBJECT:
                return tel_config_equal(k->table, a, b);
        case TEL_CONFIG_LIST: case TEL_CONFIG_NAMED:
                return items_equal(k, a, b);
        case TEL_CONFIG_TYPES:
                break;
        }
        return false;
}

bool tel_config_equal(const struct tel_config_key *table, const void *a, const void *b) {
        for (const struct tel_config_key *k = table; k->key; k++)
                if (!member_equal(k, (const char *)a + k->offset, (const char *)b + k->offset))
                        return false;
        return true;
}
