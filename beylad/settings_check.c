/* SPDX-License-Identifier: Apache-2.0 */
/* What the table of settings cannot say: ports, regular expressions, URLs, names. */
#include <curl/curl.h>
#include <regex.h>

#include "beylad/route.h"
#include "beylad/settings.h"
#include "libtelemetry/utf8.h"

#define REGEX_COPIES_MAX 1000                      /* regcomp(3) copies what stands before {n}; copies of copies take all memory */
#define HEADER_MAX 64                              /* bytes of a header's name: what an attribute's key has room for */
#define CGROUP_MAX 1024                            /* bytes of the path of a cgroup */
#define ENDPOINT_MAX 1024                          /* bytes of a URL */

/* key[i] */
static const char *path_of(char out[static TEL_CONFIG_PATH_MAX], const char *key, size_t i) {
        snprintf(out, TEL_CONFIG_PATH_MAX, "%s[%zu]", key, i);
        return out;
}

/* ---- what is observed ---- */

static int check_ports(const struct tel_config_strings *list, const char *key, struct tel_config_fault *f) {
        char path[TEL_CONFIG_PATH_MAX];
        size_t ranges = 0;
        for (size_t i = 0; i < list->n; i++) {
                const char *at = list->values[i];
                struct settings_range range;
                int r;
                while ((r = settings_range_next(&at, &range)) > 0)
                        if (++ranges > SETTINGS_PORTS_MAX)
                                return tel_config_fail(f, path_of(path, key, i), "more than %d ports and ranges", SETTINGS_PORTS_MAX);
                if (r < 0)
                        return tel_config_fail(f, path_of(path, key, i),
                                               "expected ports from 1 to 65535 and ranges, \"80,8000-8100\", got \"%.60s\"", at);
        }
        return 0;
}

/* Whether the folder is a cgroup, and not the root, is found out where it is opened. */
static int check_inject(const struct settings *s, struct tel_config_fault *f) {
        if (*s->inject.cgroup == '\0')
                return 0;
        if (*s->inject.cgroup != '/' || strlen(s->inject.cgroup) > CGROUP_MAX)
                return tel_config_fail(f, "inject.cgroup", "expected a path from '/' of at most %d bytes, got \"%.100s\"", CGROUP_MAX, s->inject.cgroup);
        if (s->inject.ports.n == 0)
                return tel_config_fail(f, "inject.ports", "expected at least one port with inject.cgroup, got none");
        if (!s->traces.enabled)
                return tel_config_fail(f, "inject.cgroup", "expected traces.enabled with it: a traceparent names a span");
        return 0;
}

/* The largest number in "{n,m}" behind text, 1 where there is none. */
static unsigned long interval_max(const char *text) {
        unsigned long most = 1;
        for (const char *p = text; *p && *p != '}';) {
                char *end;
                unsigned long v = *p >= '0' && *p <= '9' ? strtoul(p, &end, 10) : (end = (char *)p + 1, 0);
                most = TEL_MAX(most, v);
                p = end;
        }
        return most;
}

/* What regcomp(3) would take and this machine would not: nested repetitions, and references back, which search for ever. */
static const char *regex_too_dear(const char *text) {
        unsigned long copies = 1;
        for (const char *p = text; *p; p++) {
                if (*p == '\\' && p[1] >= '1' && p[1] <= '9')
                        return "references like \\1 are not supported";
                if (*p == '\\' && p[1])
                        p++;
                else if (*p == '{' && (copies *= TEL_MIN(interval_max(p + 1), REGEX_COPIES_MAX + 1ul)) > REGEX_COPIES_MAX)
                        return "its {} repeat too often";
        }
        return NULL;
}

static int check_regex(const char *text, const char *key, struct tel_config_fault *f) {
        regex_t regex;
        char error[100];
        if (strlen(text) > SETTINGS_REGEX_MAX)
                return tel_config_fail(f, key, "expected at most %d bytes, got %zu", SETTINGS_REGEX_MAX, strlen(text));
        if (!tel_utf8_valid(text, strlen(text)))   /* from the environment: a document is UTF-8 as a whole */
                return tel_config_fail(f, key, "expected UTF-8");
        const char *dear = regex_too_dear(text);
        if (dear)
                return tel_config_fail(f, key, "\"%.100s\": %s", text, dear);
        int r = regcomp(&regex, text, REG_EXTENDED | REG_NOSUB);
        if (r != 0) {
                regerror(r, &regex, error, sizeof(error));
                return tel_config_fail(f, key, "expected a POSIX extended regular expression, got \"%.100s\": %s", text, error);
        }
        regfree(&regex);
        return 0;
}

/* ---- what is said ---- */

static int check_text(const char *text, const char *key, struct tel_config_fault *f) {
        if (strlen(text) >= SETTINGS_TEXT_MAX)
                return tel_config_fail(f, key, "expected at most %d bytes, got %zu", SETTINGS_TEXT_MAX - 1, strlen(text));
        if (!tel_utf8_valid(text, strlen(text)))   /* likewise */
                return tel_config_fail(f, key, "expected UTF-8");
        return 0;
}

static int check_patterns(const struct tel_config_strings *list, const char *key, struct tel_config_fault *f) {
        char path[TEL_CONFIG_PATH_MAX];
        for (size_t i = 0; i < list->n; i++) {
                if (!route_pattern_valid(list->values[i]))
                        return tel_config_fail(f, path_of(path, key, i), "expected a path like \"/users/{id}\" or \"/static/*\", of at most %d bytes "
                                               "and %d segments, got \"%.60s\"", ROUTE_PATTERN_MAX - 1, ROUTE_SEGMENTS_MAX, list->values[i]);
        }
        return 0;
}

static int check_headers(const struct settings *s, struct tel_config_fault *f) {
        static const char *const secret[] = { "Authorization", "Proxy-Authorization", "Cookie" };
        char path[TEL_CONFIG_PATH_MAX];
        for (size_t i = 0; i < s->headers.n; i++) {
                const char *name = s->headers.values[i];
                path_of(path, "headers", i);
                if (!tel_config_is_token(name) || strlen(name) > HEADER_MAX)
                        return tel_config_fail(f, path, "expected the name of a header of at most %d bytes, got \"%.100s\"", HEADER_MAX, name);
                for (size_t j = 0; j < TEL_ARRAY_LEN(secret); j++)
                        if (strcasecmp(name, secret[j]) == 0)
                                return tel_config_fail(f, path, "%s holds a secret, which must not become an attribute", secret[j]);
                for (size_t j = 0; j < i; j++)
                        if (strcasecmp(name, s->headers.values[j]) == 0)
                                return tel_config_fail(f, path, "\"%.100s\" stands there twice", name);
        }
        return 0;
}

static int check_sampler(const struct settings *s, struct tel_config_fault *f) {
        double ratio;
        if (settings_sampler_ratio(s->sampler.argument, &ratio) < 0)
                return tel_config_fail(f, "sampler.argument", "expected a number from 0 to 1, like \"0.25\", got \"%.60s\"", s->sampler.argument);
        return 0;
}

/* ---- where it goes ---- */

/* Whether part of url is there. */
static bool url_has(CURLU *url, CURLUPart part) {
        char *text = NULL;
        bool has = curl_url_get(url, part, &text, 0) == CURLUE_OK;
        curl_free(text);
        return has;
}

static const char *url_fault(CURLU *url, const char *text) {
        char *scheme = NULL;
        bool whole = strstr(text, "://") != NULL;
        for (const char *c = text; *c; c++)
                if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f)
                        return "it holds a blank, or a byte that is not ASCII";
        if (curl_url_set(url, CURLUPART_URL, text, whole ? 0 : CURLU_DEFAULT_SCHEME) != CURLUE_OK)
                return "it has no valid host and port";
        bool http = curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK && (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);
        curl_free(scheme);
        if (!http)
                return "it begins neither with http:// nor https://";
        if (url_has(url, CURLUPART_USER) || url_has(url, CURLUPART_PASSWORD))
                return "it holds a user name";
        if (url_has(url, CURLUPART_QUERY) || url_has(url, CURLUPART_FRAGMENT))
                return "it holds a '?' or '#', but /v1/traces is appended";
        return NULL;
}

static int check_endpoint(const struct settings *s, struct tel_config_fault *f) {
        if (*s->otlp_endpoint == '\0')
                return 0;
        if (strlen(s->otlp_endpoint) > ENDPOINT_MAX)
                return tel_config_fail(f, "otlp_endpoint", "expected at most %d bytes, got %zu", ENDPOINT_MAX, strlen(s->otlp_endpoint));
        CURLU *url = curl_url();
        if (!url)
                return tel_config_fail(f, "otlp_endpoint", "out of memory");
        const char *wrong = url_fault(url, s->otlp_endpoint);
        curl_url_cleanup(url);
        if (wrong)                                 /* it may hold a password */
                return tel_config_fail(f, "otlp_endpoint", "expected \"localhost:4318\" or a URL like \"http://localhost:4318\": %s", wrong);
        return 0;
}

int settings_check(const void *in, struct tel_config_fault *reterr) {
        const struct settings *s = in;
        int r = settings_is_default_ports(&s->open_ports) ? 0 : check_ports(&s->open_ports, "open_ports", reterr);
        if (r == 0)
                r = check_ports(&s->inject.ports, "inject.ports", reterr);
        if (r == 0)
                r = check_inject(s, reterr);
        if (r == 0)
                r = check_regex(s->executables, "executables", reterr);
        if (r == 0)
                r = check_regex(s->exclude, "exclude", reterr);
        if (r == 0)
                r = check_text(s->service_name, "service_name", reterr);
        if (r == 0)
                r = check_text(s->service_namespace, "service_namespace", reterr);
        if (r == 0)
                r = check_text(s->host.name, "host.name", reterr);
        if (r == 0)
                r = check_patterns(&s->routes.patterns, "routes.patterns", reterr);
        if (r == 0)
                r = check_patterns(&s->routes.ignored, "routes.ignored", reterr);
        if (r == 0)
                r = check_headers(s, reterr);
        if (r == 0)
                r = check_sampler(s, reterr);
        if (r == 0)
                r = tel_config_check_socket(s->collector, "collector", reterr);
        if (r == 0)
                r = check_endpoint(s, reterr);
        if (r == 0)
                r = tel_config_check_socket(s->listen.control, "listen.control", reterr);
        if (r == 0 && s->proc[0] != '/')
                return tel_config_fail(reterr, "proc", "expected a path from '/', got \"%.100s\"", s->proc);
        return r;
}
