/* SPDX-License-Identifier: Apache-2.0 */
/* Any line on the control socket has an answer: lines without an empty one among them, printable, and JSON where that was asked for. */
#include <jansson.h>

#include "beylad/control.h"
#include "libtelemetry/line_server.h"
#include "libtelemetry/utf8.h"

static void answer(void *ctx, bool json, FILE *to) {
        (void)ctx;
        fputs(json ? "{\"a\":1}\n" : "a 1\n", to);
}

static void explain(void *ctx, uint32_t pid, bool json, FILE *to) {
        assert(pid > 0 && pid <= INT32_MAX);
        if (pid % 2)
                tel_line_error(to, json, "no process %u", pid);
        else
                answer(ctx, json, to);
}

static int reload(void *ctx, char *reterr) {
        (void)ctx;
        strcpy(reterr, "c.json:1:1: no\n\nsuch \"key\"");
        return -EINVAL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        static const struct control_verbs verbs = { .status = answer, .stats = answer, .processes = answer, .explain = explain, .reload = reload };
        char line[CONTROL_LINE_MAX + 1], *text = NULL;
        size_t len = 0;
        n = TEL_MIN(n, (size_t)CONTROL_LINE_MAX);
        for (size_t i = 0; i < n; i++)                         /* newlines part lines before this */
                line[i] = data[i] == '\n' ? ' ' : (char)data[i];
        line[n] = '\0';
        bool json = strncmp(line, "json ", 5) == 0 && strlen(line) == n;
        FILE *to = open_memstream(&text, &len);
        assert(to);
        control_run(&verbs, line, n, to);
        fclose(to);
        assert(len > 1 && text[0] != '\n' && text[len - 1] == '\n' && !strstr(text, "\n\n") && tel_utf8_valid(text, len));
        for (char *rest = text, *row; json && *(row = strsep(&rest, "\n"));) {
                json_t *o = json_loads(row, 0, NULL);
                assert(json_is_object(o));
                json_decref(o);
        }
        free(text);
        return 0;
}
