/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/socket.h>
#include <unistd.h>

#include "collectord/http/linger.h"

struct lingering {
        struct lingering *previous, *next;
        struct lingers *all;                       /* NULL: closing */
        uv_poll_t poll;
        uv_timer_t timer;
        int fd;
        unsigned handles;                          /* that have not closed yet */
        size_t dropped;                            /* bytes */
};

static void on_closed(uv_handle_t *handle) {
        struct lingering *l = handle->data;
        if (--l->handles == 0)
                free(l);
}

static void linger_end(struct lingering *l) {
        if (!l->all)
                return;
        if (l->previous)
                l->previous->next = l->next;
        else
                l->all->first = l->next;
        if (l->next)
                l->next->previous = l->previous;
        l->all->n--;
        l->all = NULL;
        uv_close((uv_handle_t *)&l->poll, on_closed);
        uv_close((uv_handle_t *)&l->timer, on_closed);
        close(l->fd);                              /* after uv_close(), which takes it out of the loop */
}

static void on_timer(uv_timer_t *timer) {
        linger_end(timer->data);
}

static void on_readable(uv_poll_t *poll, int status, int events) {
        static uint8_t sink[64 << 10];             /* never looked at */
        struct lingering *l = poll->data;
        (void)events;
        if (status < 0) {
                linger_end(l);
                return;
        }
        ssize_t n = recv(l->fd, sink, sizeof(sink), MSG_DONTWAIT);
        if (n > 0)
                l->dropped += (size_t)n;
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) || l->dropped > LINGER_BYTES_MAX)
                linger_end(l);
}

void linger_begin(struct lingers *all, uv_loop_t *loop, int fd) {
        shutdown(fd, SHUT_WR);
        struct lingering *l = all->n < LINGER_MAX ? calloc(1, sizeof(*l)) : NULL;
        if (!l || uv_poll_init(loop, &l->poll, fd) < 0) {
                free(l);
                close(fd);
                return;
        }
        uv_timer_init(loop, &l->timer);
        l->poll.data = l->timer.data = l;
        l->handles = 2;
        l->fd = fd;
        l->all = all;
        l->next = all->first;
        if (l->next)
                l->next->previous = l;
        all->first = l;
        all->n++;
        if (uv_poll_start(&l->poll, UV_READABLE | UV_DISCONNECT, on_readable) < 0 ||
            uv_timer_start(&l->timer, on_timer, LINGER_NS / TEL_NS_PER_MS, 0) < 0)
                linger_end(l);
}

void lingers_done(struct lingers *all) {
        while (all->first)
                linger_end(all->first);
}
