/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/output_http.h"

#include <curl/curl.h>
#include <poll.h>
#include <stdio.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>

#include "libtelemetry/cursor.h"
#include "libtelemetry/retry_after.h"

#define SOCKETS_MAX 16                             /* of one post, waited for without the loop: two address families and curl's resolver */

struct socket_poll {
        uv_poll_t poll;
        struct socket_poll *next;
        struct output_http *http;
        curl_socket_t fd;
        int what;                                  /* CURL_POLL_IN, CURL_POLL_OUT or both */
};

struct output_http {
        uv_loop_t *loop;
        uv_timer_t timer;
        CURLM *multi;
        CURL *easy;
        struct curl_slist *headers;
        struct socket_poll *polls;
        uint64_t timer_due_ns;                     /* of curl; UINT64_MAX: none */
        char *traces_url, *metrics_url;
        bool loopback;                             /* never through a proxy */
        output_http_fn fn;
        void *ctx;
        bool busy, closing;
        uint64_t until_ns, interval_ns;
        uint64_t retry_after_ns;                   /* of the answer that is coming in */
        size_t answer_read, answer_len;
        uint8_t answer[OUTPUT_HTTP_ANSWER_MAX];
        char error[CURL_ERROR_SIZE];
};

/* ---- curl on the loop ---- */

static void drain(struct output_http *h);

static void act(struct output_http *h, curl_socket_t fd, int flags) {
        int running;
        curl_multi_socket_action(h->multi, fd, flags, &running);
        drain(h);
}

static void on_poll(uv_poll_t *handle, int status, int events) {
        struct socket_poll *p = tel_container_of(handle, struct socket_poll, poll);
        int flags = status < 0 ? CURL_CSELECT_ERR : 0;
        flags |= events & UV_READABLE ? CURL_CSELECT_IN : 0;
        flags |= events & UV_WRITABLE ? CURL_CSELECT_OUT : 0;
        act(p->http, p->fd, flags);
}

static void on_timer(uv_timer_t *timer) {
        struct output_http *h = tel_container_of(timer, struct output_http, timer);
        h->timer_due_ns = UINT64_MAX;
        act(h, CURL_SOCKET_TIMEOUT, 0);
}

static int on_curl_timer(CURLM *multi, long timeout_ms, void *ctx) {
        struct output_http *h = ctx;
        (void)multi;
        if (timeout_ms < 0 || h->closing) {
                h->timer_due_ns = UINT64_MAX;
                return uv_timer_stop(&h->timer);
        }
        h->timer_due_ns = uv_hrtime() + (uint64_t)timeout_ms * TEL_NS_PER_MS;
        uv_update_time(h->loop);                   /* the loop may not have run for long */
        return uv_timer_start(&h->timer, on_timer, (uint64_t)timeout_ms, 0);
}

static void poll_closed(uv_handle_t *handle) {
        free(tel_container_of((uv_poll_t *)handle, struct socket_poll, poll));
}

static void poll_remove(struct output_http *h, struct socket_poll *p) {
        struct socket_poll **at = &h->polls;
        while (*at != p)
                at = &(*at)->next;
        *at = p->next;
        uv_poll_stop(&p->poll);
        uv_close((uv_handle_t *)&p->poll, poll_closed);
        curl_multi_assign(h->multi, p->fd, NULL);
}

static struct socket_poll *poll_add(struct output_http *h, curl_socket_t fd) {
        struct socket_poll *p = calloc(1, sizeof(*p));
        if (!p || uv_poll_init(h->loop, &p->poll, fd) < 0) {
                free(p);
                return NULL;
        }
        p->http = h;
        p->fd = fd;
        p->next = h->polls;
        h->polls = p;
        curl_multi_assign(h->multi, fd, p);
        return p;
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx) {
        struct output_http *h = ctx;
        struct socket_poll *p = socket_ctx;
        (void)easy;
        if (what == CURL_POLL_REMOVE) {
                if (p)
                        poll_remove(h, p);
                return 0;
        }
        if (!p)
                p = poll_add(h, fd);
        if (!p)
                return -1;
        p->what = what;
        int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
        return uv_poll_start(&p->poll, events, on_poll) < 0 ? -1 : 0;
}

void output_http_wait(struct output_http *h, int timeout_ms) {
        struct pollfd fds[SOCKETS_MAX];
        nfds_t n = 0;
        uint64_t now_ns = uv_hrtime();
        if (h->timer_due_ns != UINT64_MAX) {
                uint64_t left_ms = h->timer_due_ns > now_ns ? (h->timer_due_ns - now_ns) / TEL_NS_PER_MS + 1 : 0;
                timeout_ms = (int)TEL_MIN((uint64_t)TEL_MAX(timeout_ms, 0), left_ms);
        }
        for (struct socket_poll *p = h->polls; p && n < SOCKETS_MAX; p = p->next) {
                short events = (short)((p->what & CURL_POLL_IN ? POLLIN : 0) | (p->what & CURL_POLL_OUT ? POLLOUT : 0));
                fds[n++] = (struct pollfd){ .fd = p->fd, .events = events };
        }
        poll(fds, n, timeout_ms);
        for (nfds_t i = 0; i < n; i++) {
                int flags = (fds[i].revents & POLLIN ? CURL_CSELECT_IN : 0) | (fds[i].revents & POLLOUT ? CURL_CSELECT_OUT : 0) |
                            (fds[i].revents & (POLLERR | POLLHUP | POLLNVAL) ? CURL_CSELECT_ERR : 0);
                if (flags)
                        act(h, fds[i].fd, flags);
        }
        if (h->timer_due_ns <= uv_hrtime()) {
                h->timer_due_ns = UINT64_MAX;
                act(h, CURL_SOCKET_TIMEOUT, 0);
        }
}

/* ---- Begin and end ---- */

static int url_put(CURLU *u, enum tel_frame_kind kind, char *out) {
        char *path = NULL, *url = NULL, whole[OUTPUT_HTTP_URL_MAX];
        int r = -EINVAL;
        if (curl_url_get(u, CURLUPART_PATH, &path, 0) != CURLUE_OK)
                return r;
        size_t n = strlen(path);
        while (n > 0 && path[n - 1] == '/')
                n--;
        if (n < sizeof(whole) - 16) {
                snprintf(whole, sizeof(whole), "%.*s/v1/%s", (int)n, path, kind == TEL_FRAME_METRICS ? "metrics" : "traces");
                if (curl_url_set(u, CURLUPART_PATH, whole, 0) == CURLUE_OK && curl_url_get(u, CURLUPART_URL, &url, 0) == CURLUE_OK &&
                    strlen(url) < OUTPUT_HTTP_URL_MAX) {
                        strcpy(out, url);
                        r = 0;
                }
        }
        curl_free(path);
        curl_free(url);
        return r;
}

int output_http_url(const char *endpoint, enum tel_frame_kind kind, char *out) {
        char text[OUTPUT_HTTP_URL_MAX], *scheme = NULL;
        int r = -EINVAL;
        CURLU *u = curl_url();
        int n = snprintf(text, sizeof(text), "%s%s", strstr(endpoint, "://") ? "" : "http://", endpoint);
        if (u && n > 0 && (size_t)n < sizeof(text) && curl_url_set(u, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK &&
            curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK && (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0))
                r = url_put(u, kind, out);
        curl_free(scheme);
        curl_url_cleanup(u);
        return r;
}

static bool url_is_loopback(const char *url) {
        char *host = NULL;
        CURLU *u = curl_url();
        bool loopback = u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK && curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                        (strcasecmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 || strcmp(host, "[::1]") == 0);
        curl_free(host);
        curl_url_cleanup(u);
        return loopback;
}

static int urls_set(struct output_http *h, const char *endpoint) {
        char url[OUTPUT_HTTP_URL_MAX];
        int r = output_http_url(endpoint, TEL_FRAME_TRACES, url);
        if (r < 0)
                return r;
        h->loopback = url_is_loopback(url);
        h->traces_url = strdup(url);
        r = output_http_url(endpoint, TEL_FRAME_METRICS, url);
        if (r < 0)
                return r;
        h->metrics_url = strdup(url);
        return h->traces_url && h->metrics_url ? 0 : -ENOMEM;
}

static int headers_set(struct output_http *h) {
        /* Bodies are under a megabyte: asking first ("Expect: 100-continue") costs a round trip. */
        static const char *const lines[] = { "Content-Type: application/x-protobuf", "Expect:" };
        for (size_t i = 0; i < TEL_ARRAY_LEN(lines); i++) {
                struct curl_slist *more = curl_slist_append(h->headers, lines[i]);
                if (!more)
                        return -ENOMEM;
                h->headers = more;
        }
        return 0;
}

int output_http_new(uv_loop_t *loop, const char *endpoint, output_http_fn fn, void *ctx, struct output_http **ret) {
        if (!(curl_version_info(CURLVERSION_NOW)->features & CURL_VERSION_ASYNCHDNS))
                return -ENOTSUP;
        struct output_http *h = calloc(1, sizeof(*h));
        if (!h)
                return -ENOMEM;
        h->loop = loop;
        h->fn = fn;
        h->ctx = ctx;
        h->timer_due_ns = UINT64_MAX;
        uv_timer_init(loop, &h->timer);
        h->multi = curl_multi_init();
        h->easy = curl_easy_init();
        int r = h->multi && h->easy ? urls_set(h, endpoint) : -ENOMEM;
        if (r == 0)
                r = headers_set(h);
        if (r < 0) {
                output_http_free(h);
                return r;
        }
        curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
        curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
        curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
        curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
        *ret = h;
        return 0;
}

static void http_closed(uv_handle_t *handle) {
        free(tel_container_of((uv_timer_t *)handle, struct output_http, timer));
}

struct output_http *output_http_free(struct output_http *h) {
        if (!h)
                return NULL;
        h->closing = true;
        if (h->busy)
                curl_multi_remove_handle(h->multi, h->easy);
        curl_easy_cleanup(h->easy);
        curl_multi_cleanup(h->multi);
        curl_slist_free_all(h->headers);
        free(h->traces_url);
        free(h->metrics_url);
        uv_close((uv_handle_t *)&h->timer, http_closed);
        return NULL;
}

/* ---- One request ---- */

static size_t on_header(char *from, size_t size, size_t n, void *ctx) {
        static const char name[] = "retry-after:";
        struct output_http *h = ctx;
        size_t len = size * n;
        if (len > sizeof(name) - 1 && strncasecmp(from, name, sizeof(name) - 1) == 0) {
                char value[128];
                struct timespec now;
                clock_gettime(CLOCK_REALTIME, &now);
                snprintf(value, sizeof(value), "%.*s", (int)TEL_MIN(len - (sizeof(name) - 1), sizeof(value) - 1), from + sizeof(name) - 1);
                h->retry_after_ns = tel_retry_after(value, (uint64_t)now.tv_sec * TEL_NS_PER_S);
        }
        return len;
}

static size_t on_answer(char *from, size_t size, size_t n, void *ctx) {
        struct output_http *h = ctx;
        size_t got = size * n, keep = TEL_MIN(got, sizeof(h->answer) - h->answer_len);
        memcpy(h->answer + h->answer_len, from, keep);
        h->answer_len += keep;
        h->answer_read += got;
        return h->answer_read > OUTPUT_HTTP_ANSWER_READ_MAX ? 0 : got;         /* 0 ends the transfer; the status was read */
}

int output_http_post(struct output_http *h, enum tel_frame_kind kind, const void *body, size_t n) {
        CURL *easy = h->easy;
        assert(!h->busy);
        h->retry_after_ns = 0;
        h->answer_read = h->answer_len = 0;
        h->error[0] = '\0';
        curl_easy_reset(easy);
        curl_easy_setopt(easy, CURLOPT_URL, kind == TEL_FRAME_METRICS ? h->metrics_url : h->traces_url);
        curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);    /* never wait for a look-up that hangs */
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)OUTPUT_HTTP_TIMEOUT_MS);
        curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)OUTPUT_HTTP_TIMEOUT_MS);
        curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
        curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, h->error);
        curl_easy_setopt(easy, CURLOPT_USERAGENT, "beylad/" SUITE_VERSION);
        if (h->loopback)
                curl_easy_setopt(easy, CURLOPT_PROXY, "");
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, h->headers);
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);  /* not copied */
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)n);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_answer);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, h);
        curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
        curl_easy_setopt(easy, CURLOPT_HEADERDATA, h);
        if (curl_multi_add_handle(h->multi, easy) != CURLM_OK)
                return -ENOMEM;
        h->busy = true;
        return 0;
}

bool output_http_busy(const struct output_http *h) {
        return h->busy;
}

uint64_t output_http_until_ns(const struct output_http *h) {
        return h->until_ns;
}

/* ---- What came of it ---- */

static enum output_http_outcome outcome_of(unsigned status) {
        switch (status) {
        case 200 ... 299:
                return OUTPUT_HTTP_SENT;
        case 429: case 502: case 503: case 504:
                return OUTPUT_HTTP_RETRY;
        default:
                return OUTPUT_HTTP_REFUSED;
        }
}

/* Items that the answer says were not taken: Export*ServiceResponse.partial_success.rejected_*, both of them field 1. Other bytes: 0. */
static uint64_t rejected_items(const uint8_t *at, const uint8_t *end) {
        struct tel_field f;
        while (at < end && tel_field_get(at, end, &f) == 0) {
                if (f.number == 1 && f.wire == TEL_WIRE_VARINT)
                        return f.value;
                at = f.number == 1 && f.wire == TEL_WIRE_BYTES ? f.at : f.end;         /* into the message; its first field is the count */
        }
        return 0;
}

static void pause_set(struct output_http *h, enum output_http_outcome outcome) {
        uint32_t random = 512;
        if (outcome == OUTPUT_HTTP_SENT || outcome == OUTPUT_HTTP_REFUSED) {
                h->interval_ns = h->until_ns = 0;
                return;
        }
        h->interval_ns = h->interval_ns ? TEL_MIN(2 * h->interval_ns, OUTPUT_HTTP_RETRY_MAX_NS) : OUTPUT_HTTP_RETRY_MIN_NS;
        (void)!getrandom(&random, sizeof(random), GRND_NONBLOCK);
        /* Between half of it and all: a fleet does not come back in one instant. */
        uint64_t wait_ns = h->interval_ns / 2 + h->interval_ns / 2 / 1024 * (random % 1024);
        h->until_ns = uv_hrtime() + TEL_MAX(wait_ns, h->retry_after_ns);
}

static void finish(struct output_http *h, CURLcode code) {
        struct output_http_result result = { .outcome = OUTPUT_HTTP_RETRY };
        long status = 0, asked = 0;
        curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_getinfo(h->easy, CURLINFO_REQUEST_SIZE, &asked);
        bool too_long = code == CURLE_WRITE_ERROR && h->answer_read > OUTPUT_HTTP_ANSWER_READ_MAX;
        /* A final answer may come before the body was read (413): it counts although the sending failed. */
        if (code == CURLE_OK || too_long || (code == CURLE_SEND_ERROR && status >= 400)) {
                result.status = (unsigned)status;
                result.outcome = outcome_of(result.status);
                snprintf(result.text, sizeof(result.text), "HTTP %u", result.status);
                if (result.outcome == OUTPUT_HTTP_SENT)
                        result.rejected = rejected_items(h->answer, h->answer + h->answer_len);
        } else {
                result.outcome = asked == 0 ? OUTPUT_HTTP_UNREACHED : OUTPUT_HTTP_RETRY;
                snprintf(result.text, sizeof(result.text), "%.*s", OUTPUT_HTTP_TEXT - 1, h->error[0] ? h->error : curl_easy_strerror(code));
        }
        curl_multi_remove_handle(h->multi, h->easy);
        h->busy = false;
        pause_set(h, result.outcome);
        h->fn(h->ctx, &result);
}

static void drain(struct output_http *h) {
        CURLMsg *msg;
        int left;
        while ((msg = curl_multi_info_read(h->multi, &left)))
                if (msg->msg == CURLMSG_DONE)
                        finish(h, msg->data.result);
}
