/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/recording.h"

#include <fcntl.h>
#include <unistd.h>

#include "beylad/tracer.h"

#define MAGIC "SPOKEREC"
#define NOTE_MAX 8192                              /* bytes of a process's lines */
#define RELEASE_NS (20 * TEL_NS_PER_MS)            /* of a recording's own time between two releases, about as the daemon does */

struct header {
        char magic[8];
        uint32_t version, zero;
        int64_t real_offset_ns;
};

struct recording {
        FILE *file;
        int error;
};

int recording_create(const char *path, int64_t real_offset_ns, struct recording **ret, char *reterr) {
        struct header h = { .version = 1, .real_offset_ns = real_offset_ns };
        struct recording *r = calloc(1, sizeof(*r));
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (r && fd >= 0)
                r->file = fdopen(fd, "w");
        if (!r || !r->file) {
                int error = r ? errno : ENOMEM;
                if (fd >= 0)
                        close(fd);
                free(r);
                snprintf(reterr, RECORDING_ERROR_MAX, "recording '%.150s': %s", path, strerror(error));
                return -error;
        }
        memcpy(h.magic, MAGIC, sizeof(h.magic));
        fwrite(&h, sizeof(h), 1, r->file);
        *ret = r;
        return 0;
}

static void append(struct recording *r, const void *bytes, size_t n) {
        if (r->error == 0 && fwrite(bytes, 1, n, r->file) != n)
                r->error = -errno;
}

void recording_event(struct recording *r, const struct probe_head *e) {
        append(r, e, e->size);
}

void recording_process(struct recording *r, const struct process *p, uint64_t now_ns) {
        char text[NOTE_MAX];
        size_t n = process_to_note(p, text, sizeof(text));
        n = TEL_MIN(n, sizeof(text) - 1);
        struct probe_note note = { .head = { .kind = PROBE_NOTE, .tgid = p->pid, .size = (uint32_t)(sizeof(note) + n), .time_ns = now_ns } };
        append(r, &note, sizeof(note));
        append(r, text, n);
}

int recording_close(struct recording *r) {
        if (!r)
                return 0;
        int error = r->error;
        if (fclose(r->file) != 0 && error == 0)
                error = -errno;
        free(r);
        return error;
}

/* ---- replay ---- */

union probe_buffer {
        struct probe_head head;
        uint8_t bytes[RECORDING_EVENT_MAX];
};

struct replay {
        struct tracer *tracer;
        struct process *processes[RECORDING_PROCESSES_MAX];
        size_t n;
};

static struct process **find(struct replay *r, uint32_t pid) {
        for (size_t i = r->n; i > 0; i--)          /* the latest are asked for most */
                if (r->processes[i - 1]->pid == pid)
                        return &r->processes[i - 1];
        return NULL;
}

static void forget(struct replay *r, struct process **at, uint64_t now_ns) {
        tracer_process_ended(r->tracer, *at, now_ns);
        process_unref(*at);
        *at = r->processes[--r->n];
}

static void on_note(struct replay *r, const struct probe_head *e) {
        struct process *p = NULL, **known = find(r, e->tgid);
        if (process_from_note(e->tgid, (const char *)(e + 1), e->size - sizeof(*e), &p) < 0)
                return;
        if (known)
                forget(r, known, e->time_ns);
        if (r->n == RECORDING_PROCESSES_MAX)
                forget(r, &r->processes[0], e->time_ns);
        r->processes[r->n++] = p;
}

static void on_process(struct replay *r, const struct probe_process *e) {
        struct process **known = find(r, e->head.tgid);
        if (known && (e->what == PROBE_EXIT || e->what == PROBE_EXEC))
                forget(r, known, e->head.time_ns);
}

static void on_event(struct replay *r, const struct probe_head *e) {
        if (e->kind == PROBE_NOTE)
                on_note(r, e);
        else if (e->kind == PROBE_PROCESS) {
                if (e->size >= sizeof(struct probe_process))
                        on_process(r, (const struct probe_process *)e);
        } else {
                struct process **p = find(r, e->tgid);
                tracer_event(r->tracer, p ? *p : NULL, e);
        }
}

/* Reads one event into buffer, with a NUL behind it. Returns 1, 0 at the end, -EBADMSG. */
static int read_event(FILE *from, union probe_buffer *b) {
        size_t n = fread(&b->head, 1, sizeof(b->head), from);
        if (n == 0)
                return ferror(from) ? -EIO : 0;
        if (n < sizeof(b->head) || b->head.size < sizeof(b->head) || b->head.size > RECORDING_EVENT_MAX)
                return -EBADMSG;
        size_t rest = b->head.size - sizeof(b->head);
        return fread(b->bytes + sizeof(b->head), 1, rest, from) == rest ? 1 : -EBADMSG;
}

int recording_replay(FILE *from, const char *name, struct tracer *t, char *reterr) {
        struct header h;
        struct replay *r = calloc(1, sizeof(*r));
        union probe_buffer *b = calloc(1, sizeof(*b));
        uint64_t released = 0;
        int got = -ENOMEM;
        if (!r || !b)
                goto out;
        r->tracer = t;
        got = -EBADMSG;
        if (fread(&h, sizeof(h), 1, from) != 1 || memcmp(h.magic, MAGIC, sizeof(h.magic)) != 0 || h.version != 1) {
                snprintf(reterr, RECORDING_ERROR_MAX, "'%.150s' is no recording of this version: expected '" MAGIC "', version 1, at its beginning", name);
                goto out;
        }
        while ((got = read_event(from, b)) > 0) {
                on_event(r, &b->head);
                if (b->head.time_ns > released + RELEASE_NS) {
                        released = b->head.time_ns;
                        tracer_release(t, released, h.real_offset_ns);
                }
        }
        if (got < 0)
                snprintf(reterr, RECORDING_ERROR_MAX, "'%.150s', byte %ld: an event that is cut short or none", name, ftell(from));
        while (r->n > 0)
                forget(r, &r->processes[r->n - 1], released);
        tracer_release(t, UINT64_MAX, h.real_offset_ns);
        tracer_metrics(t, released, h.real_offset_ns);
out:
        free(b);
        free(r);
        return got;
}
