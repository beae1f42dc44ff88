/* SPDX-License-Identifier: Apache-2.0 */
/* Settings of any bytes are taken or refused with a text; what is taken prints as a document that is taken again. */
#include "collectord/settings.h"

static char *print(const struct settings *s) {
        char *text = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&text, &n);
        assert(f && tel_config_print(settings_table, s, f) == 0);
        fclose(f);
        return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        char err[TEL_CONFIG_ERROR_MAX] = "";
        struct settings a, b;
        if (settings_parse("fuzz.json", (const char *)data, n, &a, err) < 0) {
                assert(*err && strlen(err) < sizeof(err));
                return 0;
        }
        char *first = print(&a);
        assert(settings_parse("printed.json", first, strlen(first), &b, err) == 0);
        char *second = print(&b);
        assert(strcmp(first, second) == 0);
        free(first);
        free(second);
        settings_done(&a);
        settings_done(&b);
        return 0;
}
