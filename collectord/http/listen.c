/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "collectord/http/listen.h"
#include "collectord/settings.h"

union address {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage storage;
};

static int fail(int r, const char *name, const char *what, const char *why, char *reterr, size_t n) {
        snprintf(reterr, n, "listen %s: %s: %s", name, what, why);
        return r;
}

/* Returns false when host is a name: we never wait for a resolver. */
static bool address_of(const char *host, uint16_t port, union address *ret, socklen_t *ret_len) {
        *ret = (union address){ 0 };
        if (strcasecmp(host, "localhost") == 0)
                host = "127.0.0.1";
        if (inet_pton(AF_INET, host, &ret->v4.sin_addr) == 1) {
                ret->v4.sin_family = AF_INET;
                ret->v4.sin_port = htons(port);
                *ret_len = sizeof(ret->v4);
                return true;
        }
        *ret = (union address){ 0 };
        if (*host != '\0' && inet_pton(AF_INET6, host, &ret->v6.sin6_addr) != 1)
                return false;
        ret->v6.sin6_family = AF_INET6;            /* for the empty host: in6addr_any is all zero */
        ret->v6.sin6_port = htons(port);
        *ret_len = sizeof(ret->v6);
        return true;
}

static int socket_bind(const union address *a, socklen_t len, bool both) {
        int fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        int on = 1, off = 0;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));     /* a restart does not wait for the connections of the last run */
        if (both)
                setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
        if (bind(fd, &a->any, len) < 0 || listen(fd, SOMAXCONN) < 0) {
                int r = -errno;
                close(fd);
                return r;
        }
        return fd;
}

/* A socket that was handed over: stream, listening. */
static int socket_check(int fd) {
        int listening = 0, type = 0;
        socklen_t n = sizeof(int), m = sizeof(int);
        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) < 0 || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &m) < 0)
                return -errno;
        if (!listening || type != SOCK_STREAM)
                return -EINVAL;
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
                return -errno;
        return 0;
}

int http_listen(const char *name, const char *address, int fd, int *ret_fd, char *reterr, size_t n) {
        if (fd >= 0) {
                int r = socket_check(fd);
                if (r < 0)
                        return fail(r, name, "the descriptor handed over", "not a listening stream socket", reterr, n);
                *ret_fd = fd;
                return 0;
        }
        char host[INET6_ADDRSTRLEN + 16];
        uint16_t port;
        union address a;
        socklen_t len;
        if (settings_address(address, host, sizeof(host), &port) < 0 || !address_of(host, port, &a, &len))
                return fail(-EINVAL, name, address, "expected ADDRESS:PORT with a numeric address or localhost", reterr, n);
        fd = socket_bind(&a, len, *host == '\0');
        if (*host == '\0' && (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL)) {      /* a kernel without IPv6 */
                address_of("0.0.0.0", port, &a, &len);
                fd = socket_bind(&a, len, false);
        }
        if (fd < 0)
                return fail(fd, name, address, uv_strerror(fd), reterr, n);
        *ret_fd = fd;
        return 0;
}

uint16_t http_listen_port(int fd) {
        union address a = { 0 };
        socklen_t len = sizeof(a);
        if (getsockname(fd, &a.any, &len) < 0)
                return 0;
        return a.any.sa_family == AF_INET ? ntohs(a.v4.sin_port) : a.any.sa_family == AF_INET6 ? ntohs(a.v6.sin6_port) : 0;
}
