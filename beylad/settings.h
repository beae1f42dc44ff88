/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Settings: the table of keys of beylad's document, and the struct it fills. Each key stands here once.
 * May touch: the configuration file, through libtelemetry/config. The environment's own names come on top in environment.c. */
#include "libtelemetry/client.h"
#include "libtelemetry/config.h"

enum printer { PRINTER_DISABLED, PRINTER_TEXT, PRINTER_JSON };

/* How sockets are watched: the enum of probes/probes.h by the same numbers, because settings know no probes. */
enum technique { TECHNIQUE_AUTO, TECHNIQUE_SOCKET, TECHNIQUE_SYSCALL };

/* What becomes of requests whose path is in routes.ignored. */
enum ignore_mode { IGNORE_ALL, IGNORE_TRACES, IGNORE_METRICS };

/* http.route of a path that no pattern fits. */
enum unmatched_route {
        UNMATCHED_HEURISTIC,                       /* segments that look like data become "*" */
        UNMATCHED_PATH,                            /* the path as it is */
        UNMATCHED_WILDCARD,                        /* "/" and two stars */
        UNMATCHED_UNSET,                           /* none */
};

/* OTEL_TRACES_SAMPLER, OpenTelemetry specification 1.50, SDK environment variables. */
enum sampler_kind {
        SAMPLER_ALWAYS_ON, SAMPLER_ALWAYS_OFF, SAMPLER_RATIO,
        SAMPLER_PARENT_ON, SAMPLER_PARENT_OFF, SAMPLER_PARENT_RATIO,
        SAMPLERS,
};
extern const char *const settings_sampler_names[SAMPLERS + 1];         /* "always_on", ..., "parentbased_traceidratio", NULL */
extern const char *const settings_printer_names[];         /* "disabled", "text", "json", NULL */

#define SETTINGS_PORTS_MAX 256                     /* strings in open_ports, and ranges in all of them: each new listener is held against all */
#define SETTINGS_TEXT_MAX 256                      /* bytes of a name of a service or host: what an attribute of a process holds */
#define SETTINGS_REGEX_MAX 1024                    /* bytes of a regular expression */
#define SETTINGS_COLLECTOR TEL_CLIENT_SOCKET
#define SETTINGS_PATTERNS_MAX 256                  /* of routes: each new path is held against all */
#define SETTINGS_HEADERS_MAX 16                    /* names in the allow list; as many as an exchange keeps */

struct settings {
        struct tel_config_strings open_ports;      /* "80", "8000-8100", "4320,8080". None and no executables: nothing is observed */
        char *executables;                         /* POSIX extended regex, found anywhere in the path of the executable; "": none */
        char *exclude;                             /* likewise: never observed, whatever else says so; "": none */
        char *service_name, *service_namespace;    /* "": each process's own */
        struct {
                char *name;                        /* host.name; "": the one of the kernel */
        } host;
        struct {
                struct tel_config_strings patterns;        /* "/users/{id}", "/users/:id"; a star at the end stands for the rest */
                struct tel_config_strings ignored; /* likewise */
                int ignore_mode;                   /* enum ignore_mode */
                int unmatched;                     /* enum unmatched_route */
                int64_t cardinality;               /* different segments at one place of a path before they are taken for data */
        } routes;
        struct tel_config_strings headers;         /* names of request headers that become attributes; lower case once loaded */
        bool query, db_text;
        struct {
                int name;                          /* enum sampler_kind */
                char *argument;                    /* of the ratio samplers: "0.25"; settings_sampler_ratio() */
        } sampler;
        struct {
                bool enabled;
        } traces;
        struct {
                bool enabled;
                uint64_t interval_ns;              /* between two sends */
                int64_t series;                    /* at once, for all services together */
                uint64_t idle_ns;                  /* a series without a request for so long is forgotten */
        } metrics;
        int printer;                               /* enum printer: spans on stdout */
        char *collector;                           /* frames socket: a path, or a name in the runtime directory; "": off. SETTINGS_COLLECTOR: where
                                                    * tel_client looks without a path */
        char *otlp_endpoint;                       /* base URL, completed: "http://localhost:4318"; "": none. For while collector is off or away */
        struct {
                char *control;                     /* path, or a name in the runtime directory; "": off */
        } listen;
        struct {
                char *cgroup;                      /* folder of a cgroup of version 2; "": off */
                struct tel_config_strings ports;   /* as open_ports */
                bool keep_alive;                   /* every request of a connection; else the first */
        } inject;
        struct {
                int64_t cpu, probe_cpu;            /* percent of one core: beylad itself; its probes in the observed programs. 0: no bound */
                uint64_t period_ns;                /* of one measurement */
        } budget;
        int technique;                             /* enum technique */
        char *proc;                                /* "/proc" */
        int log_level;                             /* enum tel_log_level */
};

extern const struct tel_config_key settings_table[];
/* For tel_config_print_markdown() and tel_config_print_schema(). */
#define SETTINGS_TITLE "Configuration of beylad"
extern const char settings_intro[];
/* The built-in document: every port, to collectord. */
extern const char settings_builtin[];

/* Reads file, or the built-in document when file is NULL, and checks what a table cannot say. What depends on other keys ("default") is
 * resolved by settings_finish() only, because the environment may still change it.
 * Returns 0 or negative; reterr holds TEL_CONFIG_ERROR_MAX bytes. On failure *ret is empty. */
int settings_load(const char *file, struct settings *ret, char *reterr);
int settings_parse(const char *file, const char *text, size_t n, struct settings *ret, char *reterr);
/* Resolves "default" of open_ports, completes otlp_endpoint, makes header names lower case. Returns 0 or -ENOMEM. Twice is once. */
int settings_finish(struct settings *s);
void settings_done(struct settings *s);
/* The tel_config_check of settings_table: ports, regular expressions, addresses, names. In settings_check.c. */
int settings_check(const void *in, struct tel_config_fault *reterr);
/* Makes a list hold one text, a copy, or nothing (NULL). Returns 0 or -ENOMEM. */
int settings_strings_set(struct tel_config_strings *s, const char *text);
/* Whether open_ports is ["default"], which settings_finish() resolves. */
bool settings_is_default_ports(const struct tel_config_strings *ports);

struct settings_range {
        uint32_t first, last;                      /* ports, both included */
};
/* The next range of a text such as "4320, 8000-8100" at *at, which moves behind it. Returns 1, 0 (no more) or -EINVAL (*at is what is wrong). */
int settings_range_next(const char **at, struct settings_range *ret);
/* A bit for each port of a list that was checked: word port / 64, bit port % 64. */
void settings_ports_bits(const struct tel_config_strings *ports, uint64_t ret[static 65536 / 64]);
/* The ratio of SAMPLER_RATIO and SAMPLER_PARENT_RATIO: 0..1; "" is 1. Returns 0 or -EINVAL. */
int settings_sampler_ratio(const char *argument, double *ret);
