/* SPDX-License-Identifier: Apache-2.0 */
/* What the checks of the daemons' settings share. */
#include <stdarg.h>
#include <stdio.h>
#include <sys/un.h>

#include "libtelemetry/config.h"

int tel_config_fail(struct tel_config_fault *ret, const char *path, const char *format, ...) {
        va_list args;
        int n = snprintf(ret->path.text, sizeof(ret->path.text), "%s", path);
        ret->path.len = TEL_MIN((size_t)n, sizeof(ret->path.text) - 1);
        va_start(args, format);
        vsnprintf(ret->text, sizeof(ret->text), format, args);
        va_end(args);
        return -EINVAL;
}

int tel_config_check_socket(const char *text, const char *path, struct tel_config_fault *reterr) {
        const size_t max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;
        if (strlen(text) > max)
                return tel_config_fail(reterr, path, "expected a path of at most %zu bytes, which is all a socket's address holds, got %zu", max,
                                       strlen(text));
        if (*text != '\0' && *text != '/' && strchr(text, '/'))
                return tel_config_fail(reterr, path, "expected a path from '/' or a name without '/', got \"%.100s\"", text);
        return 0;
}

bool tel_config_is_token(const char *text) {
        size_t n = strspn(text, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
        return n > 0 && text[n] == '\0';
}
