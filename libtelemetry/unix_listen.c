/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "libtelemetry/unix_listen.h"

static int fail(char *reterr, const char *path, int error) {
        snprintf(reterr, TEL_UNIX_LISTEN_ERROR_MAX, "socket '%.180s': %s", path,
                 error == EADDRINUSE ? "somebody listens there already" : strerror(error));
        return -error;
}

/* Whether a process answers at the address. */
static bool is_alive(const struct sockaddr_un *address) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool alive = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0;
        if (fd >= 0)
                close(fd);
        return alive;
}

int tel_unix_listen(const char *path, unsigned mode, char *reterr) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        struct stat st;
        if (strlen(path) >= sizeof(address.sun_path))
                return fail(reterr, path, ENAMETOOLONG);
        memcpy(address.sun_path, path, strlen(path) + 1);
        if (lstat(path, &st) == 0) {
                if (!S_ISSOCK(st.st_mode))
                        return fail(reterr, path, EEXIST);
                if (is_alive(&address))
                        return fail(reterr, path, EADDRINUSE);
                if (unlink(path) < 0)
                        return fail(reterr, path, errno);
        }
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return fail(reterr, path, errno);
        /* The mode of the socket file is decided at bind(2), so that no one slips in before a chmod. */
        mode_t before = umask(0777 & ~mode);
        int r = bind(fd, (struct sockaddr *)&address, sizeof(address));
        int error = errno;
        umask(before);
        if (r < 0 || listen(fd, 128) < 0) {
                error = r < 0 ? error : errno;
                close(fd);
                return fail(reterr, path, error);
        }
        return fd;
}
