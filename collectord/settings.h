/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Settings: the table of keys of collectord's document, and the struct it fills. Each key stands here once.
 * May touch: the configuration file, through libtelemetry/config. */
#include "libtelemetry/config.h"
#include "libtelemetry/otlp_schema.h"

/* Where a record came in; the words of `from`. One bit each in settings. */
enum source_kind {
        SOURCE_OTLP,                               /* "otlp": the OTLP listeners */
        SOURCE_FRAMES,                             /* "frames": the frame socket, frames and lines */
        SOURCE_KINDS,
};
extern const char *const source_kind_names[SOURCE_KINDS + 1];

enum compression {
        COMPRESSION_NONE,
        COMPRESSION_GZIP,
        COMPRESSION_DEFAULT,                       /* "default", in the document only: settings_parse() makes it one of the others */
};
enum destination_type { DESTINATION_OTLP, DESTINATION_NULL };
enum otlp_encoding { OTLP_ENCODING_PROTOBUF, OTLP_ENCODING_JSON };

#define SETTINGS_DESTINATIONS_MAX 64               /* each has a reader per signal, and trimming looks at every reader */

struct batch_settings {
        int64_t items;                             /* send once so many wait */
        int64_t max_items;                         /* of one request; 0: no limit */
        uint64_t max_bytes;                        /* of one request before compression */
        uint64_t timeout_ns;                       /* or once the oldest waited so long; SETTINGS_BY_SIGNAL: settings_batch_timeout(); 0: at once */
};
struct retry_settings {
        uint64_t initial_ns, max_ns;
        uint64_t give_up_ns;                       /* UINT64_MAX: "never": what cannot be sent waits in the spool */
};
struct lag_settings {
        uint64_t bytes, age_ns;                    /* 0: no bound */
};
struct auth_settings {
        char *username, *password;                 /* basic */
        char *bearer, *bearer_file;
};
struct tls_settings {
        char *ca_file, *cert_file, *key_file, *server_name;
        bool insecure_skip_verify;
};
struct drop_rule {
        char *resource;                            /* key of a resource attribute */
        char *equals;                              /* its string value */
};
#define SETTINGS_BY_SIGNAL (UINT64_MAX - 1)        /* durations whose default depends on the signal: written "default" */
#define SETTINGS_BY_PLACE (UINT64_MAX - 2)         /* likewise on whether the URL names this machine; settings_parse() resolves it */
#define SETTINGS_NEVER UINT64_MAX                  /* retry.give_up: written "never" */

struct destination_settings {
        char *name;                                /* the key in "destinations" */
        int type;                                  /* enum destination_type */
        char *url;                                 /* base; /v1/<signal> is appended once */
        char *urls[TEL_SIGNALS];                   /* traces_url, metrics_url, logs_url: whole URLs of their own; "" or NULL (profiles): from url */
        bool enabled;
        uint64_t signals;                          /* bits of enum tel_signal (traces, metrics, logs) */
        uint64_t from;                             /* bits of enum source_kind */
        int compression;                           /* enum compression */
        int encoding;                              /* enum otlp_encoding */
        struct tel_config_map headers;             /* values are secret */
        struct auth_settings auth;
        struct tls_settings tls;
        uint64_t timeout_ns;                       /* of one request, answer included */
        struct batch_settings batch;
        struct retry_settings retry;
        int64_t in_flight;                         /* requests at once, per signal */
        uint64_t max_age_ns;                       /* older records are given up; 0: none */
        struct lag_settings max_lag;
        bool anchor;                               /* sources wait for it before they forget */
        struct tel_config_list drop;               /* of struct drop_rule */
};

struct settings {
        struct {
                char *name;                        /* "": /etc/hostname */
                struct tel_config_map labels;      /* added to every resource that lacks them */
        } host;
        struct {
                char *otlp_http, *web;             /* ADDRESS:PORT, "" : off */
                char *frames, *control;            /* path, or a name in the runtime directory, "" : off */
                int64_t otlp_connections;          /* at once */
                uint64_t otlp_idle_ns;             /* a connection without progress is closed */
                uint64_t otlp_body_bytes;          /* of one request, before and after decompression */
                int64_t frames_connections;
                struct tel_config_strings frames_users;    /* user names that may write, beside root, our own and the socket's group */
        } listen;
        struct tel_config_list destinations;       /* of struct destination_settings */
        struct {
                uint64_t memory, history, ingest, egress;  /* bytes */
        } buffer;
        uint64_t stop_timeout_ns;                  /* what is unsent then is given up */
        int log_level;                             /* enum tel_log_level */
};

extern const struct tel_config_key settings_table[];
/* For tel_config_print_markdown() and tel_config_print_schema(). */
#define SETTINGS_TITLE "Configuration of collectord"
extern const char settings_intro[];

/* The built-in document: local consumer on 4320, nothing remote. */
extern const char settings_builtin[];

/* Reads file, or the built-in document when file is NULL, and checks what a table cannot say (urls, clashes, addresses).
 * Returns 0 or negative; reterr holds TEL_CONFIG_ERROR_MAX bytes. On failure *ret is empty. */
int settings_load(const char *file, struct settings *ret, char *reterr);
int settings_parse(const char *file, const char *text, size_t n, struct settings *ret, char *reterr);
void settings_done(struct settings *s);
/* The tel_config_check of settings_table: what two keys say together, URLs, addresses, header names. In settings_check.c. */
int settings_check(const void *in, struct tel_config_fault *reterr);
/* Whether a destination is what it was, name and all. */
bool settings_destination_equal(const struct destination_settings *a, const struct destination_settings *b);
/* Whether every URL that d uses names this host: localhost, 127.*, [::1]. Such a destination is not compressed by default. */
bool settings_is_local(const struct destination_settings *d);
/* batch.timeout_ns with SETTINGS_BY_SIGNAL resolved: traces 2 s, metrics and logs 10 s. */
uint64_t settings_batch_timeout(const struct destination_settings *d, enum tel_signal signal);
/* "127.0.0.1:4318", "[::1]:4318", "localhost:4318", ":4318" -> host (no brackets; "": every address) and port (0: any free one).
 * Returns 0 or -EINVAL. */
int settings_address(const char *text, char *ret_host, size_t n, uint16_t *ret_port);
