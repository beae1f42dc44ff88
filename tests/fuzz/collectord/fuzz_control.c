/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket's input: command lines, and taps with any filter over any OTLP that the door would let in.
 * Input: a line, a newline, then a request body; the body's signal is that of the first byte of the line. */
#include <stdio.h>

#include "collectord/control/verbs.h"
#include "libtelemetry/otlp.h"
#include "libtelemetry/otlp_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct tap_request request;

struct cut {
        struct record *records[16];
        size_t n;
        enum tel_signal signal;
};

static int on_record(void *ctx, const struct tel_otlp_record *record, uint8_t **ret_space) {
        struct cut *c = ctx;
        if (c->n == TEL_ARRAY_LEN(c->records))
                return -ENOBUFS;
        struct record *r = calloc(1, sizeof(*r) + record->bytes);
        if (!r)
                return -ENOMEM;
        r->received_ns = 1700000000 * TEL_NS_PER_S;
        r->body_bytes = (uint32_t)record->bytes;
        r->items = (uint32_t)record->items;
        r->signal = (uint8_t)c->signal;
        r->encoding = RECORD_OTLP;
        c->records[c->n++] = r;
        *ret_space = r->body;
        return 0;
}

/* Text is whole lines without anything a terminal would obey, however often it pauses; JSON reads back as what it
 * was made from. */
static void print(const struct record *r) {
        struct tel_buf *out = tel_buf_new(NULL, 64), *back = tel_buf_new(NULL, 64);
        struct tap_progress p = { .lines_left = UINT64_MAX, .bytes_soft = 1 };
        int rc;
        while ((rc = tap_print(&request.filter, false, r, &p, out)) == TAP_MORE)
                p.bytes_soft = out->len + 1;
        assert(rc == 0);
        assert(out->len == 0 || out->data[out->len - 1] == '\n');
        for (size_t i = 0; i < out->len; i++)
                assert(out->data[i] >= ' ' || out->data[i] == '\n');
        out->len = 0;
        rc = tap_print(&request.filter, true, r, &p, out);
        assert(rc == 0 || rc == -EMSGSIZE);
        if (rc == 0 && out->len > 0) {
                char error[TEL_OTLP_ERROR_MAX];
                assert(memchr(out->data, '\n', out->len) == out->data + out->len - 1);
                rc = tel_otlp_from_json(r->signal, (const char *)out->data, out->len, back, 64 << 20, error);
                if (rc == 0 && request.filter.n == 0)
                        assert(tel_otlp_items(r->signal, back->data, back->data + back->len) == r->items);
        }
        tel_buf_unref(out);
        tel_buf_unref(back);
}

static bool says_reload(const char *line) {
        char bare[4096];
        size_t n = 0;
        for (; *line; line++)
                if (!strchr("\"'\\", *line))
                        bare[n++] = *line;
        bare[n] = '\0';
        return strstr(bare, "reload") != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        static struct daemon d;
        char line[4096], *text = NULL;
        size_t length = 0, bytes = 0;
        const uint8_t *end = memchr(data, '\n', n);
        length = TEL_MIN(end ? (size_t)(end - data) : n, sizeof(line) - 1);
        memcpy(line, data, length);
        line[length] = '\0';
        if (says_reload(line))
                return 0;                          /* needs a running daemon */
        struct cut c = { .signal = length > 0 ? (enum tel_signal)((uint8_t)line[0] % 3) : TEL_TRACES };
        FILE *out = open_memstream(&text, &bytes);
        memset(&request, 0, sizeof(request));
        if (!out)
                return 0;
        int r = verbs_run(&d, line, 1700000000 * TEL_NS_PER_S, out, &request);
        fclose(out);
        assert((r == VERBS_TAP) == (bytes == 0) || r == 0);
        assert(bytes == 0 || text[bytes - 1] == '\n');
        free(text);
        if (r != VERBS_TAP)
                memset(&request, 0, sizeof(request));
        struct tel_otlp_limits limits = { RECORD_ITEMS_MAX, RECORD_BYTES_MAX };
        struct tel_otlp_result result;
        if (end && tel_otlp_cut(c.signal, end + 1, (size_t)(data + n - end - 1), NULL, 0, &limits, on_record, &c,
                                &result) == 0)
                for (size_t i = 0; i < c.n; i++)
                        print(c.records[i]);
        for (size_t i = 0; i < c.n; i++)
                free(c.records[i]);
        return 0;
}
