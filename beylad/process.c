/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/process.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "beylad/pairs.h"
#include "beylad/runtime.h"
#include "libtelemetry/utf8.h"

#define STAT_MAX 1024                              /* bytes of /proc/PID/stat: 52 numbers and a name of 16 */
#define CGROUP_MAX 8192                            /* of /proc/PID/cgroup: a path of at most 4096 in each line; the first lines say it */
#define ENVIRON_MAX (256u << 10)                   /* of /proc/PID/environ: twice the longest single variable */
#define MAPS_MAX (1u << 20)                        /* of /proc/PID/maps: some 10,000 mappings */
#define CONTAINER_ID 64                            /* hex digits: docker, containerd, cri-o, podman */
#define POD_UID 36                                 /* 8-4-4-4-12; static pods have 32 hex digits without dashes */

/* ---- life ---- */

static struct process *process_new(uint32_t pid) {
        struct process *p = calloc(1, sizeof(*p));
        if (!p)
                return NULL;
        p->pid = pid;
        p->refs = 1;
        return p;
}

struct process *process_ref(struct process *p) {
        p->refs++;
        return p;
}

struct process *process_unref(struct process *p) {
        if (!p || --p->refs > 0)
                return NULL;
        for (size_t i = 0; i < p->n_attributes; i++) {
                free(p->attributes[i].key);
                free(p->attributes[i].value);
        }
        free(p);
        return NULL;
}

static void process_cleanup(struct process **p) {
        process_unref(*p);
}

const char *process_language_name(enum process_language l) {
        /* Semantic conventions, telemetry.sdk.language. */
        static const char *const names[LANGUAGES] = {
                [LANGUAGE_C] = "cpp", [LANGUAGE_GO] = "go", [LANGUAGE_PYTHON] = "python", [LANGUAGE_NODE] = "nodejs", [LANGUAGE_JAVA] = "java",
                [LANGUAGE_RUST] = "rust", [LANGUAGE_RUBY] = "ruby", [LANGUAGE_PHP] = "php", [LANGUAGE_DOTNET] = "dotnet",
        };
        return (unsigned)l < LANGUAGES ? names[l] : NULL;
}

/* ---- attributes ---- */

/* Adds one that is not there yet; an empty value is none. What goes beyond the bound is left out. Returns 0 or -ENOMEM. */
static int attribute_add(struct process *p, const char *key, const char *value) {
        char clean[PROCESS_TEXT_MAX];
        if (*value == '\0' || p->n_attributes == PROCESS_ATTRIBUTES_MAX)
                return 0;
        for (size_t i = 0; i < p->n_attributes; i++)
                if (strcmp(p->attributes[i].key, key) == 0)
                        return 0;
        tel_utf8_printable(clean, sizeof(clean), value, strlen(value));
        struct process_attribute a = { strdup(key), strdup(clean) };
        if (!a.key || !a.value) {
                free(a.key);
                free(a.value);
                return -ENOMEM;
        }
        p->attributes[p->n_attributes++] = a;
        return 0;
}

/* What is added to the resource, from where. */
struct facts {
        const struct process_options *options;
        char service[PROCESS_TEXT_MAX];            /* OTEL_SERVICE_NAME of the process */
        char *pairs;                               /* its OTEL_RESOURCE_ATTRIBUTES, heap; NULL: none */
        char container[CONTAINER_ID + 1], pod[POD_UID + 1];
};

static void facts_done(struct facts *f) {
        free(f->pairs);
}

/* The value of key among the pairs; "" when it is not there. */
static void pairs_find(const struct facts *f, const char *key, struct pair *ret) {
        const char *at = f->pairs, *end = at ? at + strlen(at) : NULL;
        while (at && pairs_next(&at, end, ret))
                if (strcmp(ret->key, key) == 0 && ret->value[0])
                        return;
        ret->value[0] = '\0';
}

/* The first that is not empty. */
static const char *first_of(const char *a, const char *b, const char *c, const char *d) {
        return a && *a ? a : *b ? b : *c ? c : d;
}

static int attributes_build(struct process *p, const struct facts *f) {
        const struct process_options *o = f->options;
        struct pair name, space, pair;
        char instance[PROCESS_TEXT_MAX], pid[16], base[PROCESS_TEXT_MAX];
        pairs_find(f, "service.name", &name);
        pairs_find(f, "service.namespace", &space);
        snprintf(pid, sizeof(pid), "%u", p->pid);
        snprintf(instance, sizeof(instance), "%.200s:%u", o->host ? o->host : "", p->pid);
        runtime_basename(p->exe, base);
        const char *language = process_language_name(p->language);
        const struct { const char *key, *value; } ours[] = {
                { "service.name", first_of(o->service_name, f->service, name.value, p->name) },
                { "service.namespace", first_of(o->service_namespace, space.value, "", "") },
                { "service.instance.id", instance },   /* always ours: workers that share an environment are still several */
                { "host.name", o->host ? o->host : "" },
                { "process.pid", pid },
                { "process.executable.name", base },
                { "telemetry.sdk.name", "beyla" },         /* what filters for Beyla's telemetry look for */
                { "telemetry.sdk.language", language ? language : "" },
                { "telemetry.distro.name", "beylad" },
                { "telemetry.distro.version", SUITE_VERSION },
                { "container.id", f->container },
                { "k8s.pod.uid", f->pod },
        };
        int r = 0;
        for (size_t i = 0; i < TEL_ARRAY_LEN(ours) && r == 0; i++)
                r = attribute_add(p, ours[i].key, ours[i].value);
        for (const char *at = f->pairs, *end = at ? at + strlen(at) : NULL; at && r == 0 && pairs_next(&at, end, &pair);)
                if (strncmp(pair.key, "telemetry.", 10) != 0)      /* they speak of an SDK that did not make this */
                        r = attribute_add(p, pair.key, pair.value);
        return r;
}

/* ---- what /proc says ---- */

/* A file below dir, at most max bytes and a NUL behind them. Returns its length or -errno. */
static ssize_t file_read(int dir, const char *name, char *out, size_t max) {
        int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
        size_t n = 0;
        ssize_t k = 0;
        if (fd < 0)
                return -errno;
        while (n < max && (k = read(fd, out + n, max - n)) > 0)
                n += (size_t)k;
        int error = errno;
        close(fd);
        if (k < 0)
                return -error;
        out[n] = '\0';
        return (ssize_t)n;
}

/* Fields 2 and 22. The former is a name in parentheses that may hold anything. */
static int read_stat(int dir, uint64_t *ret_start, char ret_comm[static PROCESS_TEXT_MAX]) {
        char text[STAT_MAX + 1];
        ssize_t n = file_read(dir, "stat", text, STAT_MAX);
        if (n < 0)
                return n == -ENOENT ? -ESRCH : (int)n;
        const char *from = strchr(text, '('), *to = strrchr(text, ')'), *at = from ? to : NULL;
        for (int field = 2; at && field < 22; field++)
                at = strchr(at + 1, ' ');
        char *end;
        uint64_t start = at ? strtoull(at + 1, &end, 10) : 0;
        if (!at || end == at + 1)
                return -EBADMSG;
        tel_utf8_printable(ret_comm, PROCESS_TEXT_MAX, from + 1, to > from ? (size_t)(to - from - 1) : 0);
        *ret_start = start;
        return 0;
}

static int read_exe(int dir, char *out, size_t n) {
        static const char deleted[] = " (deleted)";
        ssize_t len = readlinkat(dir, "exe", out, n - 1);
        if (len < 0)                               /* a zombie has none; nor has a thread of the kernel, which is no process of ours either */
                return errno == ENOENT ? -ESRCH : -errno;
        if ((size_t)len >= sizeof(deleted) && memcmp(out + len - (sizeof(deleted) - 1), deleted, sizeof(deleted) - 1) == 0)
                len -= sizeof(deleted) - 1;
        out[len] = '\0';
        return 0;
}

/* What it was started with, as far as we may see it. */
static int read_environment(int dir, struct facts *f) {
        static const char name[] = "OTEL_SERVICE_NAME=", resource[] = "OTEL_RESOURCE_ATTRIBUTES=";
        TEL_CLEANUP_FREE char *text = malloc(ENVIRON_MAX + 1);
        if (!text)
                return -ENOMEM;
        ssize_t n = file_read(dir, "environ", text, ENVIRON_MAX);
        for (const char *at = text; n > 0 && at < text + n; at += strlen(at) + 1) {
                if (!f->service[0] && strncmp(at, name, sizeof(name) - 1) == 0)
                        tel_utf8_printable(f->service, sizeof(f->service), at + sizeof(name) - 1, strlen(at + sizeof(name) - 1));
                else if (!f->pairs && strncmp(at, resource, sizeof(resource) - 1) == 0 && !(f->pairs = strdup(at + sizeof(resource) - 1)))
                        return -ENOMEM;
        }
        return 0;
}

static bool is_hex(char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* "3f2a...-....", with '_' for '-' in names of systemd units, or 32 digits. Returns whether text begins with one. */
static bool pod_read(const char *text, char out[static POD_UID + 1]) {
        static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
        size_t n = 0, hex = 0;
        while (n < POD_UID && (form[n] == 'x' ? is_hex(text[n]) : text[n] == '-' || text[n] == '_')) {
                out[n] = form[n] == 'x' ? text[n] : '-';
                n++;
        }
        while (is_hex(text[hex]))
                hex++;
        if (n < POD_UID && hex == 32)
                memcpy(out, text, n = hex);
        out[n] = '\0';
        if ((n == POD_UID && !is_hex(text[n])) || n == 32)
                return true;
        out[0] = '\0';
        return false;
}

/* The innermost container: ".../docker-<64 hex>.scope", ".../cri-containerd-<64>.scope", ".../crio-<64>", ".../pod<uid>/<64>". The monitor
 * beside a container ("libpod-conmon-<64>") is not in it. */
static void cgroup_read(const char *text, struct facts *f) {
        for (const char *at = text; *at; at++) {
                if (strncmp(at, "pod", 3) == 0 && at > text && (at[-1] == '/' || at[-1] == '-'))
                        pod_read(at + 3, f->pod);
                if (!is_hex(*at) || (at > text && is_hex(at[-1])))
                        continue;
                size_t n = 0;
                while (is_hex(at[n]))
                        n++;
                bool monitor = at - text >= 7 && memcmp(at - 7, "conmon-", 7) == 0;
                if (n == CONTAINER_ID && !monitor) {
                        memcpy(f->container, at, n);
                        f->container[n] = '\0';
                }
                at += n - 1;
        }
}

static enum process_language read_maps(int dir) {
        char part[16 << 10];
        enum process_language l = LANGUAGE_UNKNOWN;
        int fd = openat(dir, "maps", O_RDONLY | O_CLOEXEC);
        size_t kept = 0, all = 0;
        ssize_t n;
        while (fd >= 0 && all < MAPS_MAX && l == LANGUAGE_UNKNOWN && (n = read(fd, part + kept, sizeof(part) - kept)) > 0) {
                l = runtime_of_maps(part, kept + (size_t)n);
                all += (size_t)n;
                n += (ssize_t)kept;
                kept = TEL_MIN((size_t)n, (size_t)RUNTIME_LIBRARY_MAX);        /* a name may lie across two reads */
                memmove(part, part + (size_t)n - kept, kept);
        }
        if (fd >= 0)
                close(fd);
        return l;
}

static void read_language(int dir, struct process *p) {
        struct runtime_elf elf = { 0 };
        int fd = openat(dir, "exe", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd >= 0) {
                runtime_of_elf(fd, &elf);
                close(fd);
        }
        p->is_32bit = elf.is_32bit;
        p->language = runtime_of_exe(p->exe);
        if (p->language == LANGUAGE_UNKNOWN && elf.language != LANGUAGE_GO && elf.language != LANGUAGE_RUST)
                p->language = read_maps(dir);
        if (p->language == LANGUAGE_UNKNOWN)
                p->language = elf.language;
}

static int read_all(int dir, struct process *p, struct facts *f) {
        char comm[PROCESS_TEXT_MAX], exe[4096], arguments[RUNTIME_ARGUMENTS_MAX + 1], cgroup[CGROUP_MAX + 1];
        int r = read_stat(dir, &p->start_ticks, comm);
        if (r == 0)
                r = read_exe(dir, exe, sizeof(exe));
        if (r < 0)
                return r;
        tel_utf8_printable(p->exe, sizeof(p->exe), exe, strlen(exe));
        read_language(dir, p);
        ssize_t n = file_read(dir, "cmdline", arguments, RUNTIME_ARGUMENTS_MAX);
        runtime_name(exe, comm, arguments, n > 0 ? (size_t)n : 0, p->name);
        if (file_read(dir, "cgroup", cgroup, CGROUP_MAX) > 0)
                cgroup_read(cgroup, f);
        r = read_environment(dir, f);
        return r < 0 ? r : attributes_build(p, f);
}

int process_read(uint32_t pid, const struct process_options *options, struct process **ret) {
        TEL_CLEANUP(process_cleanup) struct process *p = process_new(pid);
        TEL_CLEANUP(facts_done) struct facts f = { .options = options };
        char path[4096];
        if (!p)
                return -ENOMEM;
        snprintf(path, sizeof(path), "%s/%u", options->proc, pid);
        /* All is read below one descriptor, so that a pid that is used again cannot mix two processes. */
        int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0)
                return errno == ENOENT ? -ESRCH : -errno;
        int r = read_all(dir, p, &f);
        close(dir);
        if (r < 0)
                return r;
        *ret = TEL_TAKE(p);
        return 0;
}

/* ---- notes ---- */

struct note {
        char *out;
        size_t room, len;                          /* len: what it takes; it may be more than room */
};

static void note_put(struct note *n, const char *bytes, size_t len) {
        for (size_t i = 0; i < len; i++, n->len++)
                if (n->len + 1 < n->room)
                        n->out[n->len] = bytes[i];
}

/* What pairs_next() would take for itself is written as %XX. */
static void note_put_escaped(struct note *n, const char *text) {
        for (; *text; text++) {
                char escaped[4];
                if (strchr(",=% ", *text)) {
                        snprintf(escaped, sizeof(escaped), "%%%02X", (unsigned char)*text);
                        note_put(n, escaped, 3);
                } else
                        note_put(n, text, 1);
        }
}

static void note_put_line(struct note *n, const char *key, const char *value) {
        note_put(n, key, strlen(key));
        note_put(n, "=", 1);
        note_put(n, value, strlen(value));
        note_put(n, "\n", 1);
}

size_t process_to_note(const struct process *p, char *out, size_t n) {
        struct note note = { .out = out, .room = n };
        char start[24], port[16];
        const char *language = process_language_name(p->language);
        snprintf(start, sizeof(start), "%llu", (unsigned long long)p->start_ticks);
        snprintf(port, sizeof(port), "%u", p->port);
        note_put_line(&note, "name", p->name);
        note_put_line(&note, "exe", p->exe);
        note_put_line(&note, "start", start);
        note_put_line(&note, "port", port);
        note_put_line(&note, "bits", p->is_32bit ? "32" : "64");
        if (language)
                note_put_line(&note, "language", language);
        for (size_t i = 0; i < p->n_attributes; i++) {
                note_put(&note, "attribute=", 10);
                note_put_escaped(&note, p->attributes[i].key);
                note_put(&note, "=", 1);
                note_put_escaped(&note, p->attributes[i].value);
                note_put(&note, "\n", 1);
        }
        if (n > 0)
                out[TEL_MIN(note.len, n - 1)] = '\0';
        return note.len;
}

static enum process_language language_of_name(const char *name) {
        for (int l = 0; l < LANGUAGES; l++)
                if (process_language_name((enum process_language)l) && strcmp(process_language_name((enum process_language)l), name) == 0)
                        return (enum process_language)l;
        return LANGUAGE_UNKNOWN;
}

/* One line, "key=value". Keys that are not known are passed over: a later version may write them. */
static int note_line(struct process *p, const char *line, size_t n) {
        const char *equals = memchr(line, '=', n);
        char key[16], value[PROCESS_TEXT_MAX];
        struct pair pair;
        if (!equals || (size_t)(equals - line) >= sizeof(key))
                return 0;
        const char *rest = equals + 1, *end = line + n;
        tel_utf8_printable(key, sizeof(key), line, (size_t)(equals - line));
        if (strcmp(key, "attribute") == 0)
                return pairs_next(&rest, end, &pair) ? attribute_add(p, pair.key, pair.value) : 0;
        tel_utf8_printable(value, sizeof(value), rest, (size_t)(end - rest));
        if (strcmp(key, "name") == 0)
                memcpy(p->name, value, sizeof(value));
        else if (strcmp(key, "exe") == 0)
                memcpy(p->exe, value, sizeof(value));
        else if (strcmp(key, "start") == 0)
                p->start_ticks = strtoull(value, NULL, 10);
        else if (strcmp(key, "port") == 0)
                p->port = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(key, "bits") == 0)
                p->is_32bit = strcmp(value, "32") == 0;
        else if (strcmp(key, "language") == 0)
                p->language = language_of_name(value);
        return 0;
}

int process_start_ticks(uint32_t pid, const char *proc, uint64_t *ret) {
        char path[300], comm[PROCESS_TEXT_MAX];
        snprintf(path, sizeof(path), "%s/%u", proc, pid);
        int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0)
                return errno == ENOENT ? -ESRCH : -errno;
        int r = read_stat(dir, ret, comm);
        close(dir);
        return r;
}

/* Puts another pid where the old one stands: behind the last colon of service.instance.id, and alone in process.pid. */
static int attribute_set_pid(struct process_attribute *a, uint32_t pid) {
        char value[PROCESS_TEXT_MAX];
        const char *colon = strrchr(a->value, ':');
        int prefix = colon ? (int)(colon - a->value) + 1 : 0;
        snprintf(value, sizeof(value), "%.*s%u", TEL_MIN(prefix, PROCESS_TEXT_MAX - 16), a->value, pid);
        char *copy = strdup(value);
        if (!copy)
                return -ENOMEM;
        free(a->value);
        a->value = copy;
        return 0;
}

int process_copy(const struct process *from, uint32_t pid, struct process **ret) {
        TEL_CLEANUP(process_cleanup) struct process *p = process_new(pid);
        int r = p ? 0 : -ENOMEM;
        if (p) {
                memcpy(p->exe, from->exe, sizeof(p->exe));
                memcpy(p->name, from->name, sizeof(p->name));
                p->language = from->language;
                p->is_32bit = from->is_32bit;
        }
        for (size_t i = 0; r == 0 && i < from->n_attributes; i++) {
                const char *key = from->attributes[i].key;
                size_t before = p->n_attributes;
                r = attribute_add(p, key, from->attributes[i].value);
                if (r == 0 && p->n_attributes > before && (strcmp(key, "process.pid") == 0 || strcmp(key, "service.instance.id") == 0))
                        r = attribute_set_pid(&p->attributes[before], pid);
        }
        if (r == 0)
                *ret = TEL_TAKE(p);
        return r;
}

int process_from_note(uint32_t pid, const char *text, size_t n, struct process **ret) {
        TEL_CLEANUP(process_cleanup) struct process *p = process_new(pid);
        const char *end = text + n;
        if (!p)
                return -ENOMEM;
        while (text < end) {
                const char *newline = memchr(text, '\n', (size_t)(end - text)), *to = newline ? newline : end;
                int r = note_line(p, text, (size_t)(to - text));
                if (r < 0)
                        return r;
                text = newline ? newline + 1 : end;
        }
        if (p->name[0] == '\0')
                return -EINVAL;
        *ret = TEL_TAKE(p);
        return 0;
}
