/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Process: what is known of one observed process: who it is in the resource of its telemetry, and what its runtime is.
 * May touch: process_read() reads below /proc; everything else memory only. */
#include "libtelemetry/base.h"

#define PROCESS_ATTRIBUTES_MAX 24                  /* of its resource: ours and those of its OTEL_RESOURCE_ATTRIBUTES */
#define PROCESS_TEXT_MAX 256                       /* bytes of a name or an attribute's value */

enum process_language {
        LANGUAGE_UNKNOWN, LANGUAGE_C, LANGUAGE_GO, LANGUAGE_PYTHON, LANGUAGE_NODE, LANGUAGE_JAVA, LANGUAGE_RUST, LANGUAGE_RUBY, LANGUAGE_PHP,
        LANGUAGE_DOTNET, LANGUAGES,
};

struct process_attribute {
        char *key, *value;
};

struct process {
        uint32_t pid;
        uint64_t start_ticks;                      /* field 22 of /proc/PID/stat: tells a reused pid */
        char exe[PROCESS_TEXT_MAX];                /* /proc/PID/exe, " (deleted)" removed */
        char name[PROCESS_TEXT_MAX];               /* for people: basename of exe, or of what an interpreter runs */
        enum process_language language;
        struct process_attribute attributes[PROCESS_ATTRIBUTES_MAX];   /* of the resource, service.name first */
        size_t n_attributes;
        uint32_t port;                             /* that it was selected by; 0: by its executable */
        bool is_32bit;                             /* its calls are not those the probes know: nothing of it is observed */
        uint64_t requests;                         /* server exchanges ended, for stats */
        uint64_t encrypted;                        /* connections it had whose plaintext was never seen, for stats */
        uint32_t open_requests, overlaps;          /* context's: server exchanges open by thread; how often one began beside others */
        bool multiplexes;                          /* context's: its threads serve several at once, or each other's */
        unsigned refs;
};

struct process_options {
        const char *proc;                          /* "/proc" */
        const char *service_name;                  /* "": OTEL_SERVICE_NAME of the process, else its name */
        const char *service_namespace;             /* "": none */
        const char *host;                          /* host.name */
};

/* Reads what /proc says. What it says of itself - arguments, environment - may be anything: what is kept is printable UTF-8 within the
 * bounds above. Arguments are looked at for the name alone, since they may hold secrets. Returns 0, -ESRCH (it is gone) or -errno. */
int process_read(uint32_t pid, const struct process_options *options, struct process **ret);
/* Field 22 of its stat alone. Returns 0, -ESRCH or -errno. */
int process_start_ticks(uint32_t pid, const char *proc, uint64_t *ret);
/* Who a child is that was gone before it could be read: its parent, under its own pid. Returns 0 or -ENOMEM. */
int process_copy(const struct process *from, uint32_t pid, struct process **ret);
/* From the "key=value\n" lines of a note, for replay: 0, -EINVAL (no name in it) or -ENOMEM. And the lines of a process, for recording
 * (snprintf-like). */
int process_from_note(uint32_t pid, const char *text, size_t n, struct process **ret);
size_t process_to_note(const struct process *p, char *out, size_t n);
struct process *process_ref(struct process *p);
struct process *process_unref(struct process *p);  /* accepts NULL, returns NULL */
const char *process_language_name(enum process_language l);            /* as telemetry.sdk.language has it: "go", "python", "nodejs", ...; NULL: unknown */
