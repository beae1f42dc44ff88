/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "telemetryctl/conversation.h"

static const char json_error[] = "{\"error\":", text_error[] = "error: ";

ssize_t conversation_line(char out[static CONVERSATION_LINE_MAX], bool json, char *const *words, size_t n) {
        size_t at = 0;
        if (json)
                at = (size_t)(stpcpy(out, "json") - out);
        for (size_t i = 0; i < n; i++) {
                const char *word = words[i];
                bool quote = *word == '\0' || strpbrk(word, " \t\"'\\") != NULL;
                if (at + 2 * strlen(word) + 5 > CONVERSATION_LINE_MAX)
                        return -E2BIG;
                if (strpbrk(word, "\r\n"))
                        return -EINVAL;
                if (at > 0)
                        out[at++] = ' ';
                if (quote)
                        out[at++] = '"';
                for (; *word; word++) {
                        if (quote && (*word == '"' || *word == '\\'))
                                out[at++] = '\\';
                        out[at++] = *word;
                }
                if (quote)
                        out[at++] = '"';
        }
        out[at++] = '\n';
        return (ssize_t)at;
}

int conversation_open(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        memcpy(address.sun_path, path, strlen(path) + 1);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
                return fd;
        int r = -errno;
        close(fd);
        return r;
}

static int write_all(int fd, const char *bytes, size_t n) {
        while (n > 0) {
                ssize_t k = write(fd, bytes, n);
                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return -errno;
                bytes += k;
                n -= (size_t)k;
        }
        return 0;
}

static int send_all(int fd, const char *bytes, size_t n) {
        while (n > 0) {
                ssize_t k = send(fd, bytes, n, MSG_NOSIGNAL);
                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return -errno;
                bytes += k;
                n -= (size_t)k;
        }
        return 0;
}

/* Only the last line is ever empty, so empty lines are left out wherever they stand. Returns the new length. */
static size_t without_empty_lines(char *bytes, size_t n, char *last) {
        size_t to = 0;
        for (size_t i = 0; i < n; i++) {
                if (bytes[i] != '\n' || *last != '\n')
                        bytes[to++] = bytes[i];
                *last = bytes[i];
        }
        return to;
}

static bool begins_with(const char *bytes, size_t n, const char *prefix) {
        return n >= strlen(prefix) && memcmp(bytes, prefix, strlen(prefix)) == 0;
}

int conversation_run(int fd, const char *line, size_t n, int out) {
        char bytes[64 << 10], last = '\n';
        bool answered = false, error = false;
        if (send_all(fd, line, n) == 0)            /* else the daemon may have said why, before it closed */
                shutdown(fd, SHUT_WR);             /* nothing more to ask: it closes behind the answer */
        for (;;) {
                ssize_t k = read(fd, bytes, sizeof(bytes));
                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0 && !(answered && errno == ECONNRESET))
                        return -errno;
                if (k <= 0)
                        break;
                if (!answered)
                        error = begins_with(bytes, (size_t)k, text_error) || begins_with(bytes, (size_t)k, json_error);
                answered = true;
                int r = write_all(error ? STDERR_FILENO : out, bytes, without_empty_lines(bytes, (size_t)k, &last));
                if (r < 0)
                        return r;
        }
        if (!answered)
                return -ECONNRESET;
        return error ? CONVERSATION_ERROR : CONVERSATION_ANSWERED;
}
