/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/probes/tls_marks.h"

#include <unistd.h>

#define WINDOW (64u << 10)                         /* bytes looked at at once */
#define MARK_MAX 16                                /* bytes of the longest mark */

enum mark { SOURCE, BORING, RUSTLS, MARKS };

/* OpenSSL and its descendants name their source files where they report errors; the crates of Rust do where they panic. libcrypto has neither. */
static const char marks[MARKS][MARK_MAX] = { [SOURCE] = "ssl/ssl_lib.c", [BORING] = "BoringSSL", [RUSTLS] = "/rustls-" };

/* Each mark that lies in a window. */
static unsigned marks_in(const char *window, size_t n) {
        unsigned found = 0;
        for (size_t i = 0; i < MARKS; i++)
                if (memmem(window, n, marks[i], strlen(marks[i])))
                        found |= 1u << i;
        return found;
}

static const char *name_of(unsigned found) {
        if (found & 1u << SOURCE)
                return found & 1u << BORING ? "BoringSSL" : "OpenSSL";
        return found & 1u << RUSTLS ? "rustls" : NULL;
}

const char *tls_marks_find(int fd, uint64_t *left) {
        char window[WINDOW];
        size_t kept = 0;                           /* bytes of the last window that may begin a mark */
        unsigned found = 0;
        off_t at = 0;
        while (*left > 0) {
                size_t room = TEL_MIN(sizeof(window) - kept, *left);
                ssize_t n = pread(fd, window + kept, room, at);
                if (n <= 0)
                        break;
                at += n;
                *left -= (uint64_t)n;
                size_t filled = kept + (size_t)n;
                found |= marks_in(window, filled);
                kept = TEL_MIN(filled, (size_t)MARK_MAX - 1);
                memmove(window, window + filled - kept, kept);
        }
        return name_of(found);
}
