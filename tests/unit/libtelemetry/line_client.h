/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Line client: a peer of a line server on the same thread; the server's loop turns while the client listens. Included after cmocka.h. */
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "libtelemetry/base.h"

static int line_client(const char *path) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        memcpy(a.sun_path, path, strlen(path) + 1);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
        return fd;
}

static void line_tell(int fd, const char *bytes, size_t n) {
        assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), n);
}

/* Everything until the server closes, or has ended so many answers. Returns how many bytes; text holds the first of them. */
static size_t line_hear(uv_loop_t *loop, int fd, unsigned answers, char *text, size_t room) {
        size_t n = 0;
        char before = '\n';
        for (uint64_t until = uv_hrtime() + 20 * TEL_NS_PER_S; answers > 0;) {
                char part[4096];
                assert_true(uv_hrtime() < until);
                uv_run(loop, UV_RUN_NOWAIT);
                ssize_t k = read(fd, part, sizeof(part));
                if (k == 0 || (k < 0 && errno != EAGAIN))
                        break;
                for (ssize_t i = 0; i < k; i++, n++) {
                        if (n + 1 < room)
                                text[n] = part[i];
                        answers -= before == '\n' && part[i] == '\n';
                        before = part[i];
                }
        }
        text[TEL_MIN(n, room - 1)] = '\0';
        return n;
}
