/* SPDX-License-Identifier: Apache-2.0 */
#include "libtelemetry/config.h"

#include <inttypes.h>

struct unit {
        const char *name;
        uint64_t value;
};
static const struct unit size_units[] = {          /* from the largest: the first that divides a value is how it is printed */
        { "TiB", 1ull << 40 }, { "TB", 1000000000000ull }, { "GiB", 1ull << 30 }, { "GB", 1000000000ull },
        { "MiB", 1ull << 20 }, { "MB", 1000000ull }, { "KiB", 1ull << 10 }, { "KB", 1000ull }, { "kB", 1000ull }, { "B", 1 },
};
static const struct unit duration_units[] = {
        { "d", 86400 * TEL_NS_PER_S }, { "h", 3600 * TEL_NS_PER_S }, { "m", 60 * TEL_NS_PER_S }, { "s", TEL_NS_PER_S },
        { "ms", TEL_NS_PER_MS },
};

/* Digits at *at, as far as they go. The largest value is INT64_MAX, so that bounds are signed and words lie above. */
static int digits_read(const char **at, uint64_t *ret) {
        const char *p = *at;
        uint64_t v = 0;
        if (*p < '0' || *p > '9')
                return -EINVAL;
        for (; *p >= '0' && *p <= '9'; p++) {
                unsigned digit = (unsigned)(*p - '0');
                if (v > ((uint64_t)INT64_MAX - digit) / 10)
                        return -EINVAL;
                v = v * 10 + digit;
        }
        *at = p;
        *ret = v;
        return 0;
}

/* The unit whose name is exactly the letters at *at. */
static const struct unit *unit_read(const struct unit *units, size_t n, const char **at) {
        size_t len = 0;
        while (((*at)[len] | 0x20) >= 'a' && ((*at)[len] | 0x20) <= 'z')
                len++;
        for (size_t i = 0; i < n; i++) {
                if (strlen(units[i].name) != len || strncmp(units[i].name, *at, len) != 0)
                        continue;
                *at += len;
                return units + i;
        }
        return NULL;
}

int tel_config_parse_size(const char *text, uint64_t *ret) {
        uint64_t v;
        if (digits_read(&text, &v) < 0)
                return -EINVAL;
        if (*text) {
                const struct unit *u = unit_read(size_units, TEL_ARRAY_LEN(size_units), &text);
                if (!u || *text || v > INT64_MAX / u->value)
                        return -EINVAL;
                v *= u->value;
        }
        *ret = v;
        return 0;
}

int tel_config_parse_duration(const char *text, uint64_t *ret_ns) {
        const struct unit *before = NULL;
        uint64_t sum = 0, v;
        if (strcmp(text, "0") == 0) {
                *ret_ns = 0;
                return 0;
        }
        do {                                       /* "1h30m": each unit smaller than the one before, so none stands twice */
                if (digits_read(&text, &v) < 0)
                        return -EINVAL;
                const struct unit *u = unit_read(duration_units, TEL_ARRAY_LEN(duration_units), &text);
                if (!u || (before && u <= before) || v > (INT64_MAX - sum) / u->value)
                        return -EINVAL;
                sum += v * u->value;
                before = u;
        } while (*text);
        *ret_ns = sum;
        return 0;
}

static const char *format(char *out, const struct unit *units, size_t n, uint64_t v) {
        size_t i = 0;
        while (i < n - 1 && (v == 0 || v % units[i].value != 0))
                i++;
        snprintf(out, TEL_CONFIG_VALUE_MAX, "%" PRIu64 "%s", v / units[i].value, units[i].name);
        return out;
}

const char *tel_config_format_size(char out[static TEL_CONFIG_VALUE_MAX], uint64_t bytes) {
        return format(out, size_units, TEL_ARRAY_LEN(size_units), bytes);
}

const char *tel_config_format_duration(char out[static TEL_CONFIG_VALUE_MAX], uint64_t ns) {
        if (ns == 0)
                return strcpy(out, "0s");
        return format(out, duration_units, TEL_ARRAY_LEN(duration_units), ns);
}
