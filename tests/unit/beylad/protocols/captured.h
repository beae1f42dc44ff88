/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Captured: conversations of tests/fixtures, their format is described there, go through a protocol as the server and as the client see them:
 * whole and byte by byte the same exchanges must come out, and as many of each operation as the server counted itself. */
#include "harness.h"
#include "libtelemetry/cursor.h"

#define CAPTURED_BYTES_MAX 65536
#define CAPTURED_CALLS_MAX 512

struct captured {
        uint8_t bytes[CAPTURED_BYTES_MAX];
        struct call calls[CAPTURED_CALLS_MAX];     /* of one connection */
        size_t n;
        char text[HARNESS_TEXT_MAX];               /* of all connections */
        size_t used;
};

/* tests/fixtures/<name>; this file stands in tests/unit/beylad/protocols. */
static inline size_t captured_load(struct captured *c, const char *name) {
        char path[4096];
        size_t folder = (size_t)(strrchr(__FILE__, '/') - __FILE__);
        snprintf(path, sizeof(path), "%.*s/../../../fixtures/%s", (int)folder, __FILE__, name);
        FILE *f = fopen(path, "rb");
        assert_non_null(f);
        size_t n = fread(c->bytes, 1, sizeof(c->bytes), f);
        fclose(f);
        assert_in_range(n, 1, sizeof(c->bytes) - 1);
        return n;
}

static inline void captured_connection(struct captured *c, const struct protocol *p, enum exchange_role role) {
        static const char *const none[] = { NULL };
        static const struct protocol_options options = { .headers = none };
        struct harness *h = calloc(1, sizeof(*h));
        char *whole;
        if (role == EXCHANGE_CLIENT)
                for (size_t i = 0; i < c->n; i++)
                        c->calls[i].what ^= 1;     /* in <-> out */
        harness_run(h, p, role, &options, c->calls, c->n, c->n, 0, false);
        whole = strdup(h->text);
        harness_run(h, p, role, &options, c->calls, c->n, c->n, 0, true);
        assert_string_equal(h->text, whole);
        assert_true(c->used + strlen(whole) < sizeof(c->text));
        c->used += (size_t)snprintf(c->text + c->used, sizeof(c->text) - c->used, "%s", whole);
        free(whole);
        free(h);
        c->n = 0;
}

static inline void captured_run(struct captured *c, const struct protocol *p, enum exchange_role role, size_t n) {
        static const char letters[] = "io--eE";    /* in the order of what a call is */
        c->n = c->used = 0;
        c->text[0] = '\0';
        for (size_t at = 0; at < n;) {
                size_t len = tel_be16_get(c->bytes + at + 1);
                const char *letter = strchr(letters, c->bytes[at]);
                if (c->bytes[at] == 'n' && c->n > 0)
                        captured_connection(c, p, role);
                if (c->bytes[at] != 'n') {
                        assert_true(letter && c->n < CAPTURED_CALLS_MAX && at + 3 + len <= n);
                        bool ends = letter - letters >= CALL_END_IN;
                        c->calls[c->n++] = (struct call){ (int)(letter - letters), ends ? NULL : (const char *)c->bytes + at + 3, len };
                }
                at += 3 + len;
        }
        captured_connection(c, p, role);
}

static inline unsigned captured_count(const struct captured *c, const char *what) {
        unsigned n = 0;
        for (const char *at = c->text; (at = strstr(at, what)); at++)
                n++;
        return n;
}

struct captured_count {
        const char *operation;                     /* "": of all exchanges; "failed": of those that failed; NULL: the list ends */
        unsigned n;
};

static inline void assert_captured(const struct protocol *p, const char *name, const struct captured_count *counts) {
        struct captured *c = calloc(1, sizeof(*c));
        size_t n = captured_load(c, name);
        for (int role = 0; role < 2; role++) {
                captured_run(c, p, role ? EXCHANGE_CLIENT : EXCHANGE_SERVER, n);
                assert_int_equal(captured_count(c, "lost "), 0);
                assert_int_equal(captured_count(c, " unobserved"), 0);
                for (const struct captured_count *k = counts; k->operation; k++) {
                        char what[64];
                        if (strcmp(k->operation, "failed") == 0)
                                snprintf(what, sizeof(what), " failed");
                        else if (k->operation[0])
                                snprintf(what, sizeof(what), " operation=%s", k->operation);
                        else
                                snprintf(what, sizeof(what), "\n");
                        if (captured_count(c, what) != k->n)
                                print_error("%s: %s\n%s", name, k->operation, c->text);
                        assert_int_equal(captured_count(c, what), k->n);
                }
        }
        free(c);
}
