/* SPDX-License-Identifier: Apache-2.0 */
/* An environment of any strings, a line each, is taken or refused with a text; what is taken prints as a document that is taken, and globs
 * are regular expressions. */
#include "beylad/environment.h"

#include <regex.h>

#define STRINGS_MAX 64

static void on_warning(void *ctx, const char *name, const char *why) {
        (void)ctx;
        assert(*name && *why);
}

static void check_glob(const char *glob) {
        char regex[SETTINGS_REGEX_MAX + 1];
        regex_t r;
        if (strlen(glob) > 100 || environment_glob(glob, regex, sizeof(regex)) < 0)
                return;
        assert(regex[0] == '^' && regex[strlen(regex) - 1] == '$');
        if (regcomp(&r, regex, REG_EXTENDED | REG_NOSUB) == 0)         /* not so "[z-a]" */
                regfree(&r);
}

static void check_settings(struct settings *s) {
        struct settings again;
        char err[TEL_CONFIG_ERROR_MAX], *text = NULL;
        size_t n = 0;
        assert(settings_finish(s) == 0);
        FILE *f = open_memstream(&text, &n);
        assert(f && tel_config_print(settings_table, s, f) == 0);
        fclose(f);
        assert(settings_parse("printed.json", text, n, &again, err) == 0);
        assert(settings_finish(&again) == 0 && tel_config_equal(settings_table, s, &again));
        settings_done(&again);
        free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        char *text = strndup((const char *)data, n), *env[STRINGS_MAX + 1] = { NULL }, *rest = text, err[TEL_CONFIG_ERROR_MAX] = "";
        struct settings s;
        for (size_t i = 0; i < STRINGS_MAX && rest; i++)
                env[i] = strsep(&rest, "\n");
        assert(settings_load(NULL, &s, err) == 0);
        if (environment_apply(env, &s, on_warning, NULL, err) == 0)
                check_settings(&s);
        else
                assert(*err && strlen(err) < sizeof(err));
        settings_done(&s);
        if (env[0])
                check_glob(env[0]);
        free(text);
        return 0;
}
