/* SPDX-License-Identifier: Apache-2.0 */
/* Any file as a recording, through the whole way of an event: connections, all protocols, contexts, routes, spans, metrics, printer. */
#include <stdio.h>

#include "beylad/recording.h"
#include "beylad/tracer.h"

static void on_request(void *ctx, enum tel_frame_kind kind, const uint8_t *body, size_t n, size_t items) {
        (void)ctx, (void)kind, (void)body;
        assert(n > 0 && items > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
        static struct settings settings;
        static FILE *nowhere;
        struct tracer *t = NULL;
        struct tracer_stats s;
        char error[TRACER_ERROR_MAX];
        if (!nowhere) {
                char why[TEL_CONFIG_ERROR_MAX];
                nowhere = fopen("/dev/null", "w");
                if (settings_load(NULL, &settings, why) < 0 || settings_finish(&settings) < 0)
                        abort();
                settings.printer = PRINTER_JSON;
                settings.query = settings.db_text = true;
        }
        FILE *from = n > 0 ? fmemopen((void *)bytes, n, "r") : NULL;
        if (!from)
                return 0;
        if (tracer_new(&(struct tracer_options){ .settings = &settings, .print_to = nowhere, .request = on_request }, &t, error) < 0)
                abort();
        recording_replay(from, "input", t, error);
        tracer_get_stats(t, &s);
        assert(s.contexts.held == 0);              /* the end of a recording releases everything */
        tracer_free(t);
        fclose(from);
        return 0;
}
