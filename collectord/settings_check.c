/* SPDX-License-Identifier: Apache-2.0 */
/* What the table of settings cannot say: keys that need or exclude each other, and strings with a grammar of their own. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>

#include "collectord/settings.h"

#define HOST_MAX 254                               /* bytes of a host with its end; DNS names have at most 253 */

struct url {
        char host[HOST_MAX];                       /* no brackets */
        uint16_t port;
        bool https;
        const char *path;                          /* "" or from '/', '?' or '#'; borrowed */
};

/* destinations.NAME.key */
static const char *path_of(char out[static TEL_CONFIG_PATH_MAX], const struct destination_settings *d, const char *key) {
        snprintf(out, TEL_CONFIG_PATH_MAX, "destinations.%s.%s", d->name, key);
        return out;
}

/* ---- addresses and URLs ---- */

static bool is_host_byte(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

static bool is_host(const char *host, bool in_brackets) {
        struct in6_addr address;
        if (in_brackets)
                return inet_pton(AF_INET6, host, &address) == 1;
        while (is_host_byte(*host))
                host++;
        return *host == '\0';
}

/* "host:port", "[v6]:port", "host"; n bytes. ret_port: -1 where there is none. Returns 0 or -EINVAL. */
static int host_port(const char *text, size_t n, char ret_host[static HOST_MAX], int *ret_port) {
        const char *end = text + n, *host = text, *host_end, *colon;
        bool brackets = n > 0 && text[0] == '[';
        if (brackets) {
                host++;
                host_end = memchr(text, ']', n);
                colon = host_end ? host_end + 1 : NULL;
                if (!host_end || (colon < end && *colon != ':'))
                        return -EINVAL;
        } else {
                colon = memchr(text, ':', n);
                colon = colon ? colon : end;
                host_end = colon;
        }
        size_t len = (size_t)(host_end - host);
        if (len >= HOST_MAX)
                return -EINVAL;
        memcpy(ret_host, host, len);
        ret_host[len] = '\0';
        if (!is_host(ret_host, brackets))
                return -EINVAL;
        *ret_port = -1;
        if (colon == end)
                return 0;
        int port = 0;
        size_t digits = (size_t)(end - colon) - 1;
        for (size_t i = 0; i < digits; i++) {
                if (colon[1 + i] < '0' || colon[1 + i] > '9' || i >= 5)
                        return -EINVAL;
                port = port * 10 + (colon[1 + i] - '0');
        }
        if (digits == 0 || port > UINT16_MAX)
                return -EINVAL;
        *ret_port = port;
        return 0;
}

int settings_address(const char *text, char *ret_host, size_t n, uint16_t *ret_port) {
        char host[HOST_MAX];
        int port;
        if (host_port(text, strlen(text), host, &port) < 0 || port < 0 || strlen(host) >= n)
                return -EINVAL;
        strcpy(ret_host, host);
        *ret_port = (uint16_t)port;
        return 0;
}

/* Returns NULL, or what is wrong with text. */
static const char *url_read(const char *text, struct url *ret) {
        struct url u = { .https = strncasecmp(text, "https://", 8) == 0 };
        int port;
        if (!u.https && strncasecmp(text, "http://", 7) != 0)
                return "expected a URL that begins with http:// or https://";
        for (const char *c = text; *c; c++)
                if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f)
                        return "the URL holds a blank, or a byte that is not ASCII; write it as %XX";
        const char *authority = text + (u.https ? 8 : 7);
        size_t n = strcspn(authority, "/?#");
        u.path = authority + n;
        if (memchr(authority, '@', n))
                return "the URL holds a user name; use auth.username and auth.password";
        if (n == 0 || *authority == ':')
                return "the URL has no host";
        if (host_port(authority, n, u.host, &port) < 0 || port == 0)
                return "the URL has no valid host and port";
        if (strchr(u.path, '#'))
                return "the URL holds a '#', which is never sent";
        u.port = port > 0 ? (uint16_t)port : u.https ? 443 : 80;
        *ret = u;
        return NULL;
}

static bool is_local_host(const char *host) {
        struct in_addr v4;
        struct in6_addr v6;
        if (inet_pton(AF_INET, host, &v4) == 1)
                return ntohl(v4.s_addr) >> 24 == 127;
        if (inet_pton(AF_INET6, host, &v6) == 1)
                return IN6_IS_ADDR_LOOPBACK(&v6);
        return strcasecmp(host, "localhost") == 0;
}

static bool is_every_host(const char *host) {
        return *host == '\0' || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

/* The URL that signal uses; NULL where none is set. */
static const char *url_of(const struct destination_settings *d, enum tel_signal signal) {
        const char *own = d->urls[signal];
        if (own && *own)
                return own;
        return d->url && *d->url ? d->url : NULL;
}

bool settings_is_local(const struct destination_settings *d) {
        bool any = false;
        for (enum tel_signal s = 0; s < TEL_SIGNALS; s++) {
                struct url u;
                const char *text = d->signals & 1ull << s ? url_of(d, s) : NULL;
                if (!text)
                        continue;
                if (url_read(text, &u) || !is_local_host(u.host))
                        return false;
                any = true;
        }
        return any;
}

/* ---- listen ---- */

static int check_address(const char *text, const char *path, char host[static HOST_MAX], uint16_t *ret_port, struct tel_config_fault *f) {
        *ret_port = 0;
        if (*text == '\0' || settings_address(text, host, HOST_MAX, ret_port) == 0)
                return 0;
        return tel_config_fail(f, path, "expected an address like \"127.0.0.1:4318\", \"[::1]:4318\" or \":4318\", got \"%.100s\"", text);
}

static int check_listen(const struct settings *s, struct tel_config_fault *f) {
        char otlp[HOST_MAX] = "", web[HOST_MAX] = "";
        uint16_t otlp_port, web_port;
        int r = check_address(s->listen.otlp_http, "listen.otlp_http", otlp, &otlp_port, f);
        if (r == 0)
                r = check_address(s->listen.web, "listen.web", web, &web_port, f);
        if (r == 0)
                r = tel_config_check_socket(s->listen.frames, "listen.frames", f);
        if (r == 0)
                r = tel_config_check_socket(s->listen.control, "listen.control", f);
        if (r < 0)
                return r;
        bool same_host = strcasecmp(otlp, web) == 0 || is_every_host(otlp) || is_every_host(web) ||
                         (is_local_host(otlp) && is_local_host(web));
        if (otlp_port > 0 && otlp_port == web_port && same_host)
                return tel_config_fail(f, "listen.web", "port %u is taken by listen.otlp_http", web_port);
        if (*s->listen.frames && strcmp(s->listen.frames, s->listen.control) == 0)
                return tel_config_fail(f, "listen.control", "\"%.100s\" is taken by listen.frames", s->listen.control);
        for (size_t i = 0; i < s->listen.frames_users.n; i++) {
                char path[TEL_CONFIG_PATH_MAX];
                snprintf(path, sizeof(path), "listen.frames_users[%zu]", i);
                if (*s->listen.frames_users.values[i] == '\0')
                        return tel_config_fail(f, path, "expected the name of a user, got \"\"");
        }
        return 0;
}

static int check_host(const struct settings *s, struct tel_config_fault *f) {
        for (size_t i = 0; i < s->host.labels.n; i++)
                if (*s->host.labels.keys[i] == '\0')
                        return tel_config_fail(f, "host.labels[\"\"]", "expected a name of an attribute");
        return 0;
}

/* ---- buffer ---- */

static int check_buffer(const struct settings *s, struct tel_config_fault *f) {
        char a[TEL_CONFIG_VALUE_MAX], b[TEL_CONFIG_VALUE_MAX];
        if (s->buffer.history > s->buffer.memory)
                return tel_config_fail(f, "buffer.history", "%s is more than buffer.memory, %s", tel_config_format_size(a, s->buffer.history),
                                       tel_config_format_size(b, s->buffer.memory));
        if (s->buffer.ingest < s->listen.otlp_body_bytes)      /* else the largest request could never be received */
                return tel_config_fail(f, "buffer.ingest", "%s is less than listen.otlp_body, %s", tel_config_format_size(a, s->buffer.ingest),
                                       tel_config_format_size(b, s->listen.otlp_body_bytes));
        return 0;
}

/* ---- destinations ---- */

static const struct {
        enum tel_signal signal;
        const char *key;
} url_keys[] = { { TEL_TRACES, "traces_url" }, { TEL_METRICS, "metrics_url" }, { TEL_LOGS, "logs_url" } };

/* A URL that leads back to our own listener: each record would be received again for ever. */
static bool is_own(const struct settings *s, const struct url *u) {
        char host[HOST_MAX];
        uint16_t port;
        if (*s->listen.otlp_http == '\0' || settings_address(s->listen.otlp_http, host, sizeof(host), &port) < 0 || port != u->port)
                return false;
        return strcasecmp(host, u->host) == 0 || (is_local_host(u->host) && (is_local_host(host) || is_every_host(host)));
}

static int check_url(const struct settings *s, const struct destination_settings *d, const char *key, const char *text,
                     struct tel_config_fault *f) {
        char path[TEL_CONFIG_PATH_MAX];
        struct url u;
        if (!text || *text == '\0')
                return 0;
        const char *wrong = url_read(text, &u);
        path_of(path, d, key);
        if (wrong)
                return tel_config_fail(f, path, "%s", wrong);
        if (text == d->url && strchr(u.path, '?'))
                return tel_config_fail(f, path, "a base URL has no '?', since /v1/traces and the like are appended; "
                                                "use traces_url, metrics_url, logs_url");
        if (d->enabled && is_own(s, &u))
                return tel_config_fail(f, path, "leads back to listen.otlp_http, %.60s", s->listen.otlp_http);
        return 0;
}

static int check_urls(const struct settings *s, const struct destination_settings *d, struct tel_config_fault *f) {
        char path[TEL_CONFIG_PATH_MAX];
        if (d->type == DESTINATION_NULL)
                return 0;
        int r = check_url(s, d, "url", d->url, f);
        for (size_t i = 0; i < TEL_ARRAY_LEN(url_keys) && r == 0; i++) {
                r = check_url(s, d, url_keys[i].key, d->urls[url_keys[i].signal], f);
                if (r == 0 && (d->signals & 1ull << url_keys[i].signal) && !url_of(d, url_keys[i].signal))
                        return tel_config_fail(f, path_of(path, d, "url"), "expected a URL, or one in %s for signal \"%s\"", url_keys[i].key,
                                               tel_signal_name(url_keys[i].signal));
        }
        return r;
}

/* RFC 9110, section 5.5: anything but control bytes, the tab excepted. A CR LF would begin a header of its own. */
static bool is_field_value(const char *s) {
        for (; *s; s++)
                if (((unsigned char)*s < 0x20 && *s != '\t') || *s == 0x7f)
                        return false;
        return true;
}

static bool has_auth(const struct destination_settings *d) {
        return *d->auth.username || *d->auth.bearer || *d->auth.bearer_file;
}

static int check_header(const struct destination_settings *d, size_t i, struct tel_config_fault *f) {
        static const char *const ours[] = { "Content-Type", "Content-Length", "Content-Encoding", "Transfer-Encoding", "Connection" };
        const char *name = d->headers.keys[i];
        struct tel_config_path path = { 0 };
        char before[TEL_CONFIG_PATH_MAX];
        path.len = strlen(strcpy(path.text, path_of(before, d, "headers")));
        tel_config_path_key(&path, name, strlen(name));
        if (!tel_config_is_token(name))
                return tel_config_fail(f, path.text, "expected the name of a header: letters, digits and !#$%%&'*+-.^_`|~");
        if (!is_field_value(d->headers.values[i]))
                return tel_config_fail(f, path.text, "the value holds a line break or another control byte");
        for (size_t j = 0; j < TEL_ARRAY_LEN(ours); j++)
                if (strcasecmp(name, ours[j]) == 0)
                        return tel_config_fail(f, path.text, "this header follows from the other keys");
        if (strcasecmp(name, "Authorization") == 0 && has_auth(d))
                return tel_config_fail(f, path.text, "excludes auth, which sets this header too");
        for (size_t j = 0; j < i; j++)
                if (strcasecmp(name, d->headers.keys[j]) == 0)
                        return tel_config_fail(f, path.text, "is the same header as '%.100s'", d->headers.keys[j]);
        return 0;
}

static int check_auth(const struct destination_settings *d, struct tel_config_fault *f) {
        const struct auth_settings *a = &d->auth;
        char path[TEL_CONFIG_PATH_MAX];
        if (*a->bearer && *a->bearer_file)
                return tel_config_fail(f, path_of(path, d, "auth.bearer_file"), "excludes bearer: one token only");
        if (*a->username && *a->bearer)
                return tel_config_fail(f, path_of(path, d, "auth.username"), "excludes bearer: basic or bearer, not both");
        if (*a->username && *a->bearer_file)
                return tel_config_fail(f, path_of(path, d, "auth.username"), "excludes bearer_file: basic or bearer, not both");
        if (*a->password && !*a->username)
                return tel_config_fail(f, path_of(path, d, "auth.password"), "needs username");
        if (strchr(a->username, ':'))              /* RFC 7617, section 2 */
                return tel_config_fail(f, path_of(path, d, "auth.username"), "a user name of basic authentication holds no ':'");
        if (!is_field_value(a->username))
                return tel_config_fail(f, path_of(path, d, "auth.username"), "holds a line break or another control byte");
        if (!is_field_value(a->password))
                return tel_config_fail(f, path_of(path, d, "auth.password"), "holds a line break or another control byte");
        if (!is_field_value(a->bearer))
                return tel_config_fail(f, path_of(path, d, "auth.bearer"), "holds a line break or another control byte");
        return 0;
}

static int check_limits(const struct settings *s, const struct destination_settings *d, struct tel_config_fault *f) {
        char path[TEL_CONFIG_PATH_MAX], a[TEL_CONFIG_VALUE_MAX], b[TEL_CONFIG_VALUE_MAX];
        if (*d->tls.cert_file && !*d->tls.key_file)
                return tel_config_fail(f, path_of(path, d, "tls.cert_file"), "needs key_file");
        if (*d->tls.key_file && !*d->tls.cert_file)
                return tel_config_fail(f, path_of(path, d, "tls.key_file"), "needs cert_file");
        if (d->batch.max_items > 0 && d->batch.max_items < d->batch.items)
                return tel_config_fail(f, path_of(path, d, "batch.max_items"), "%" PRId64 " is less than batch.items, %" PRId64, d->batch.max_items,
                                       d->batch.items);
        if (d->batch.max_bytes > s->buffer.egress)             /* else a full request could never be sent */
                return tel_config_fail(f, path_of(path, d, "batch.max_bytes"), "%s is more than buffer.egress, %s",
                                       tel_config_format_size(a, d->batch.max_bytes), tel_config_format_size(b, s->buffer.egress));
        if (d->retry.max_ns < d->retry.initial_ns && d->retry.initial_ns != SETTINGS_BY_PLACE)
                return tel_config_fail(f, path_of(path, d, "retry.max"), "%s is less than retry.initial, %s",
                                       tel_config_format_duration(a, d->retry.max_ns), tel_config_format_duration(b, d->retry.initial_ns));
        return 0;
}

static int check_destination(const struct settings *s, const struct destination_settings *d, struct tel_config_fault *f) {
        char path[TEL_CONFIG_PATH_MAX];
        const struct drop_rule *rules = d->drop.items;
        if (d->signals == 0)
                return tel_config_fail(f, path_of(path, d, "signals"), "names no signal; to send nothing use \"enabled\": false");
        if (d->from == 0)
                return tel_config_fail(f, path_of(path, d, "from"), "names no source; to send nothing use \"enabled\": false");
        int r = check_urls(s, d, f);
        for (size_t i = 0; i < d->headers.n && r == 0; i++)
                r = check_header(d, i, f);
        if (r == 0)
                r = check_auth(d, f);
        if (r == 0)
                r = check_limits(s, d, f);
        for (size_t i = 0; i < d->drop.n && r == 0; i++) {
                char key[48];
                snprintf(key, sizeof(key), "drop[%zu].resource", i);
                if (*rules[i].resource == '\0')
                        return tel_config_fail(f, path_of(path, d, key), "expected the name of a resource attribute, got \"\"");
        }
        return r;
}

int settings_check(const void *in, struct tel_config_fault *reterr) {
        const struct settings *s = in;
        const struct destination_settings *all = s->destinations.items;
        int r = check_listen(s, reterr);
        if (r == 0)
                r = check_host(s, reterr);
        if (r == 0)
                r = check_buffer(s, reterr);
        for (size_t i = 0; i < s->destinations.n && r == 0; i++)
                r = check_destination(s, all + i, reterr);
        return r;
}
