/* SPDX-License-Identifier: Apache-2.0 */
#include <curl/curl.h>
#include <fcntl.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

#include "collectord/clock.h"
#include "collectord/destinations/transfer.h"
#include "libtelemetry/retry_after.h"

#define TOKEN_FILE_MAX (16u << 10)                 /* bytes of a bearer token: JWTs are a few KB */
#define HANDLES_IDLE_MAX 2                         /* kept ready per endpoint; each holds 64 KB of upload buffer */
#define EYEBALLS_MS 50                             /* head start of one address family before the other is tried as well */
#define DNS_CACHE_S 5                              /* a name that moved is found at the next connection */

struct transfers {
        uv_loop_t *loop;
        CURLM *multi;
        uv_timer_t timer;
        unsigned endpoints;
        bool closing;
};

struct endpoint {
        struct transfers *transfers;
        char *url, *username, *password, *bearer, *bearer_file;
        struct tls_settings tls;
        struct tel_config_map headers;             /* "Name: value" in values */
        struct curl_slist *connect_to;             /* with tls.server_name: the URL holds that name, and this says where it really is */
        long timeout_ms;
        bool loopback;                             /* never through a proxy */
        CURL *idle[HANDLES_IDLE_MAX];
        unsigned n_idle, active;
};

struct transfer {
        struct endpoint *endpoint;
        CURL *easy;
        struct curl_slist *headers;
        const struct body *body;
        size_t piece, offset;                      /* how far the body was read */
        transfer_fn fn;
        void *ctx;
        uint64_t start_ns;
        uint64_t retry_after_ns;
        size_t answer_read;
        size_t answer_bytes;
        uint8_t *answer;                           /* grows to TRANSFER_ANSWER_MAX */
        bool connect_only;
        char error[CURL_ERROR_SIZE];
};

/* ---- curl on the loop ---- */

struct socket_poll {
        uv_poll_t poll;
        struct transfers *transfers;
        curl_socket_t fd;
};

static void drain(struct transfers *t);

static void on_poll(uv_poll_t *handle, int status, int events) {
        struct socket_poll *p = tel_container_of(handle, struct socket_poll, poll);
        struct transfers *t = p->transfers;
        int running, flags = status < 0 ? CURL_CSELECT_ERR : 0;
        flags |= events & UV_READABLE ? CURL_CSELECT_IN : 0;
        flags |= events & UV_WRITABLE ? CURL_CSELECT_OUT : 0;
        curl_multi_socket_action(t->multi, p->fd, flags, &running);
        drain(t);
}

static void on_timer(uv_timer_t *timer) {
        struct transfers *t = tel_container_of(timer, struct transfers, timer);
        int running;
        curl_multi_socket_action(t->multi, CURL_SOCKET_TIMEOUT, 0, &running);
        drain(t);
}

static int on_curl_timer(CURLM *multi, long timeout_ms, void *ctx) {
        struct transfers *t = ctx;
        (void)multi;
        if (timeout_ms < 0 || t->closing)
                return uv_timer_stop(&t->timer);
        return uv_timer_start(&t->timer, on_timer, (uint64_t)timeout_ms, 0);
}

static void poll_closed(uv_handle_t *handle) {
        free(tel_container_of((uv_poll_t *)handle, struct socket_poll, poll));
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx) {
        struct transfers *t = ctx;
        struct socket_poll *p = socket_ctx;
        (void)easy;
        if (what == CURL_POLL_REMOVE) {
                if (p) {
                        uv_poll_stop(&p->poll);
                        uv_close((uv_handle_t *)&p->poll, poll_closed);
                        curl_multi_assign(t->multi, fd, NULL);
                }
                return 0;
        }
        if (!p) {
                p = calloc(1, sizeof(*p));
                if (!p || uv_poll_init(t->loop, &p->poll, fd) < 0) {
                        free(p);
                        return -1;
                }
                p->transfers = t;
                p->fd = fd;
                curl_multi_assign(t->multi, fd, p);
        }
        int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
        return uv_poll_start(&p->poll, events, on_poll) < 0 ? -1 : 0;
}

int transfers_new(uv_loop_t *loop, struct transfers **ret) {
        if (!(curl_version_info(CURLVERSION_NOW)->features & CURL_VERSION_ASYNCHDNS))
                return -ENOTSUP;                   /* a look-up would stop the loop */
        struct transfers *t = calloc(1, sizeof(*t));
        if (!t)
                return -ENOMEM;
        t->loop = loop;
        t->multi = curl_multi_init();
        if (!t->multi) {
                free(t);
                return -ENOMEM;
        }
        uv_timer_init(loop, &t->timer);
        curl_multi_setopt(t->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
        curl_multi_setopt(t->multi, CURLMOPT_SOCKETDATA, t);
        curl_multi_setopt(t->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
        curl_multi_setopt(t->multi, CURLMOPT_TIMERDATA, t);
        *ret = t;
        return 0;
}

static void transfers_closed(uv_handle_t *handle) {
        free(tel_container_of((uv_timer_t *)handle, struct transfers, timer));
}

struct transfers *transfers_free(struct transfers *t) {
        if (!t)
                return NULL;
        assert(t->endpoints == 0);
        t->closing = true;
        curl_multi_cleanup(t->multi);
        uv_close((uv_handle_t *)&t->timer, transfers_closed);
        return NULL;
}

/* ---- Endpoints ---- */

static bool url_is_loopback(const char *url) {
        bool loopback = false;
        char *host = NULL;
        CURLU *u = curl_url();
        if (u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK && curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK)
                loopback = strcasecmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 || strcmp(host, "[::1]") == 0;
        curl_free(host);
        curl_url_cleanup(u);
        return loopback;
}

static char *copy(const char *s, bool *ok) {
        char *c = s && *s ? strdup(s) : NULL;
        *ok = *ok && (c || !s || !*s);
        return c;
}

static bool copy_headers(struct endpoint *e, const struct tel_config_map *from) {
        if (from->n == 0)
                return true;
        e->headers.values = calloc(from->n, sizeof(char *));
        for (size_t i = 0; e->headers.values && i < from->n; i++)
                if (asprintf(&e->headers.values[e->headers.n], "%s: %s", from->keys[i], from->values[i]) >= 0)
                        e->headers.n++;
        return e->headers.n == from->n;
}

/* curl checks a certificate against the host of the URL and sends it as SNI. With another server_name the URL takes that name, CONNECT_TO leads to the
 * real host, and the Host header keeps it. */
static int use_server_name(struct endpoint *e) {
        char *host = NULL, *port = NULL, *url = NULL, line[600];
        int r = -ENOMEM;
        CURLU *u = curl_url();
        if (!e->tls.server_name) {
                curl_url_cleanup(u);
                return 0;
        }
        if (!u || curl_url_set(u, CURLUPART_URL, e->url, 0) != CURLUE_OK || curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
            curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) != CURLUE_OK ||
            curl_url_set(u, CURLUPART_HOST, e->tls.server_name, 0) != CURLUE_OK || curl_url_get(u, CURLUPART_URL, &url, 0) != CURLUE_OK)
                goto out;
        snprintf(line, sizeof(line), "%.255s:%.8s:%.255s:%.8s", e->tls.server_name, port, host, port);
        e->connect_to = curl_slist_append(NULL, line);
        char **more = realloc(e->headers.values, (e->headers.n + 1) * sizeof(*more));
        if (!more || !e->connect_to)
                goto out;
        e->headers.values = more;
        if (asprintf(&more[e->headers.n], "Host: %s:%s", host, port) < 0)
                goto out;
        e->headers.n++;
        free(e->url);
        e->url = strdup(url);
        r = e->url ? 0 : -ENOMEM;
out:
        curl_free(host);
        curl_free(port);
        curl_free(url);
        curl_url_cleanup(u);
        return r;
}

int endpoint_new(struct transfers *t, const char *url, const struct destination_settings *s, struct endpoint **ret) {
        struct endpoint *e = calloc(1, sizeof(*e));
        bool ok = true;
        if (!e)
                return -ENOMEM;
        e->transfers = t;
        t->endpoints++;
        e->url = copy(url, &ok);
        e->username = copy(s->auth.username, &ok);
        e->password = copy(s->auth.password, &ok);
        e->bearer = copy(s->auth.bearer, &ok);
        e->bearer_file = copy(s->auth.bearer_file, &ok);
        e->tls = (struct tls_settings){ copy(s->tls.ca_file, &ok), copy(s->tls.cert_file, &ok), copy(s->tls.key_file, &ok),
                                        copy(s->tls.server_name, &ok), s->tls.insecure_skip_verify };
        e->timeout_ms = (long)TEL_MAX(s->timeout_ns / TEL_NS_PER_MS, 1ull);
        e->loopback = url_is_loopback(url);
        if (!ok || !copy_headers(e, &s->headers) || use_server_name(e) < 0) {
                endpoint_free(e);
                return -ENOMEM;
        }
        *ret = e;
        return 0;
}

struct endpoint *endpoint_free(struct endpoint *e) {
        if (!e)
                return NULL;
        assert(e->active == 0);
        while (e->n_idle > 0)
                curl_easy_cleanup(e->idle[--e->n_idle]);
        for (size_t i = 0; i < e->headers.n; i++)
                free(e->headers.values[i]);
        free(e->headers.values);
        curl_slist_free_all(e->connect_to);
        char *strings[] = { e->url, e->username, e->password, e->bearer, e->bearer_file, e->tls.ca_file, e->tls.cert_file, e->tls.key_file, e->tls.server_name };
        for (size_t i = 0; i < TEL_ARRAY_LEN(strings); i++)
                free(strings[i]);
        e->transfers->endpoints--;
        free(e);
        return NULL;
}

/* ---- One request ---- */

static size_t on_read(char *to, size_t size, size_t n, void *ctx) {
        struct transfer *t = ctx;
        size_t room = size * n, done = 0;
        while (room > 0 && t->piece < t->body->n) {
                const struct iovec *p = &t->body->pieces[t->piece];
                size_t k = TEL_MIN(room, p->iov_len - t->offset);
                memcpy(to + done, (const char *)p->iov_base + t->offset, k);
                done += k;
                room -= k;
                t->offset += k;
                if (t->offset == p->iov_len) {
                        t->piece++;
                        t->offset = 0;
                }
        }
        return done;
}

/* curl rewinds a body when a kept-alive connection turns out to be closed. */
static int on_seek(void *ctx, curl_off_t offset, int origin) {
        struct transfer *t = ctx;
        if (offset != 0 || origin != SEEK_SET)
                return CURL_SEEKFUNC_CANTSEEK;
        t->piece = 0;
        t->offset = 0;
        return CURL_SEEKFUNC_OK;
}

static size_t on_answer(char *from, size_t size, size_t n, void *ctx) {
        struct transfer *t = ctx;
        size_t got = size * n, keep = TEL_MIN(got, TRANSFER_ANSWER_MAX - t->answer_bytes);
        t->answer_read += got;
        if (t->answer_read > TRANSFER_ANSWER_READ_MAX)
                return 0;                          /* ends the transfer; the status was read */
        if (keep > 0) {
                uint8_t *more = realloc(t->answer, t->answer_bytes + keep);
                if (!more)
                        return 0;
                t->answer = more;
                memcpy(t->answer + t->answer_bytes, from, keep);
                t->answer_bytes += keep;
        }
        return got;
}

static size_t on_header(char *from, size_t size, size_t n, void *ctx) {
        static const char name[] = "retry-after:";
        struct transfer *t = ctx;
        size_t len = size * n;
        if (len > sizeof(name) - 1 && strncasecmp(from, name, sizeof(name) - 1) == 0) {
                char value[128];
                snprintf(value, sizeof(value), "%.*s", (int)TEL_MIN(len - (sizeof(name) - 1), sizeof(value) - 1), from + sizeof(name) - 1);
                t->retry_after_ns = tel_retry_after(value, clock_wall_ns(clock_now_ns()));
        }
        return len;
}

/* "Authorization: Bearer ..." of the token or of the file's contents now. NULL: neither is set. *ret_error: the file's trouble. */
static char *bearer_header(const struct endpoint *e, int *ret_error) {
        char token[TOKEN_FILE_MAX] = "", *header = NULL;
        *ret_error = 0;
        if (!e->bearer && !e->bearer_file)
                return NULL;
        if (e->bearer_file) {
                int fd = open(e->bearer_file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
                ssize_t n = fd < 0 ? -1 : read(fd, token, sizeof(token) - 1);
                if (n < 0)
                        *ret_error = -errno;
                if (fd >= 0)
                        close(fd);
                token[TEL_MAX(n, 0)] = '\0';
                token[strcspn(token, "\r\n")] = '\0';
        }
        if (*ret_error == 0 && asprintf(&header, "Authorization: Bearer %s", e->bearer_file ? token : e->bearer) < 0)
                *ret_error = -ENOMEM;
        explicit_bzero(token, sizeof(token));
        return *ret_error ? NULL : header;
}

static int header_add(struct transfer *t, const char *line) {
        struct curl_slist *more = curl_slist_append(t->headers, line);
        if (!more)
                return -ENOMEM;
        t->headers = more;
        return 0;
}

static int headers_build(struct transfer *t) {
        char line[128];
        int error, r = header_add(t, "Expect:");   /* bodies are under a megabyte: asking first costs a round trip */
        snprintf(line, sizeof(line), "Content-Type: %s", t->body->content_type);
        if (r == 0)
                r = header_add(t, line);
        snprintf(line, sizeof(line), "Content-Encoding: %s", t->body->content_encoding ? t->body->content_encoding : "");
        if (r == 0 && t->body->content_encoding)
                r = header_add(t, line);
        for (size_t i = 0; i < t->endpoint->headers.n && r == 0; i++)
                r = header_add(t, t->endpoint->headers.values[i]);
        TEL_CLEANUP_FREE char *bearer = bearer_header(t->endpoint, &error);
        if (error)
                return error;
        return r == 0 && bearer ? header_add(t, bearer) : r;
}

static void set_tls(CURL *easy, const struct tls_settings *tls) {
        if (tls->ca_file)
                curl_easy_setopt(easy, CURLOPT_CAINFO, tls->ca_file);
        if (tls->cert_file)
                curl_easy_setopt(easy, CURLOPT_SSLCERT, tls->cert_file);
        if (tls->key_file)
                curl_easy_setopt(easy, CURLOPT_SSLKEY, tls->key_file);
        if (tls->insecure_skip_verify) {
                curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
                curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
        }
}

static void set_options(struct transfer *t) {
        CURL *easy = t->easy;
        const struct endpoint *e = t->endpoint;
        curl_easy_reset(easy);
        curl_easy_setopt(easy, CURLOPT_URL, e->url);
        curl_easy_setopt(easy, CURLOPT_PRIVATE, t);
        curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);    /* never wait for a look-up that hangs */
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, e->timeout_ms);
        curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, e->timeout_ms);
        curl_easy_setopt(easy, CURLOPT_HAPPY_EYEBALLS_TIMEOUT_MS, (long)EYEBALLS_MS);
        curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, (long)DNS_CACHE_S);
        curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
        curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, t->error);
        curl_easy_setopt(easy, CURLOPT_USERAGENT, "collectord/" SUITE_VERSION);
        if (e->loopback)
                curl_easy_setopt(easy, CURLOPT_PROXY, "");
        if (e->connect_to)
                curl_easy_setopt(easy, CURLOPT_CONNECT_TO, e->connect_to);
        set_tls(easy, &e->tls);
        if (e->username) {
                curl_easy_setopt(easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
                curl_easy_setopt(easy, CURLOPT_USERNAME, e->username);
                curl_easy_setopt(easy, CURLOPT_PASSWORD, e->password ? e->password : "");
        }
        if (t->connect_only) {
                curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
                return;
        }
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)t->body->bytes);
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, t->headers);
        curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(easy, CURLOPT_READDATA, t);
        curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
        curl_easy_setopt(easy, CURLOPT_SEEKDATA, t);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_answer);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
        curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
        curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
}

static void transfer_free(struct transfer *t) {
        struct endpoint *e = t->endpoint;
        if (t->easy) {
                if (!t->connect_only && e->n_idle < HANDLES_IDLE_MAX)
                        e->idle[e->n_idle++] = t->easy;
                else
                        curl_easy_cleanup(t->easy);
        }
        curl_slist_free_all(t->headers);
        free(t->answer);
        e->active--;
        free(t);
}

static int start(struct endpoint *e, const struct body *body, transfer_fn fn, void *ctx, struct transfer **ret) {
        struct transfer *t = calloc(1, sizeof(*t));
        if (!t)
                return -ENOMEM;
        *t = (struct transfer){ .endpoint = e, .body = body, .fn = fn, .ctx = ctx, .connect_only = !body, .start_ns = clock_now_ns() };
        e->active++;
        t->easy = body && e->n_idle > 0 ? e->idle[--e->n_idle] : curl_easy_init();
        int r = t->easy ? 0 : -ENOMEM;
        if (r == 0 && body)
                r = headers_build(t);
        if (r == 0) {
                set_options(t);
                r = curl_multi_add_handle(e->transfers->multi, t->easy) == CURLM_OK ? 0 : -ENOMEM;
        }
        if (r < 0) {
                transfer_free(t);
                return r;
        }
        *ret = t;
        return 0;
}

int transfer_start(struct endpoint *e, const struct body *body, transfer_fn fn, void *ctx, struct transfer **ret) {
        return start(e, body, fn, ctx, ret);
}

int transfer_connect(struct endpoint *e, transfer_fn fn, void *ctx, struct transfer **ret) {
        return start(e, NULL, fn, ctx, ret);
}

void transfer_cancel(struct transfer *t) {
        curl_multi_remove_handle(t->endpoint->transfers->multi, t->easy);
        transfer_free(t);
}

/* ---- What came of it ---- */

static enum outcome outcome_of(unsigned status) {
        switch (status) {
        case 200 ... 299:
                return OUTCOME_SENT;
        case 429: case 502: case 503: case 504:
                return OUTCOME_RETRY;
        case 400: case 413:
                return OUTCOME_SPLIT;
        default:
                return OUTCOME_REFUSED;
        }
}

static void finish(struct transfer *t, CURLcode code) {
        long status = 0;
        curl_off_t sent = 0;
        curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
        bool too_long = code == CURLE_WRITE_ERROR && t->answer_read > TRANSFER_ANSWER_READ_MAX;
        struct transfer_result result = {
                .status = (unsigned)status, .retry_after_ns = t->retry_after_ns, .answer = t->answer, .answer_bytes = t->answer_bytes,
                .wire_bytes = (size_t)sent, .took_ns = clock_now_ns() - t->start_ns,
        };
        /* A final answer may come before the body was read (413): it counts although the sending failed. */
        bool answered = code == CURLE_OK || too_long || (code == CURLE_SEND_ERROR && status >= 400);
        if (t->connect_only && code == CURLE_OK)
                result.outcome = OUTCOME_SENT;
        else if (answered) {
                result.outcome = outcome_of(result.status);
                snprintf(result.text, sizeof(result.text), "HTTP %u", result.status);
        } else {
                result.outcome = OUTCOME_RETRY;
                snprintf(result.text, sizeof(result.text), "%.*s", TRANSFER_TEXT - 1, t->error[0] ? t->error : curl_easy_strerror(code));
        }
        curl_multi_remove_handle(t->endpoint->transfers->multi, t->easy);
        transfer_fn fn = t->fn;
        void *ctx = t->ctx;
        uint8_t *answer = TEL_TAKE(t->answer);
        transfer_free(t);
        fn(ctx, &result);
        free(answer);
}

static void drain(struct transfers *t) {
        CURLMsg *msg;
        int left;
        while ((msg = curl_multi_info_read(t->multi, &left))) {
                struct transfer *transfer;
                if (msg->msg != CURLMSG_DONE)
                        continue;
                CURLcode code = msg->data.result;
                curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &transfer);
                finish(transfer, code);
        }
}
