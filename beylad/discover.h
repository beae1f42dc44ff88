/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Discover: which processes are observed. Finds those that run already by the kernel's list of listeners, and then hears of each new
 * listener, fork, exec and exit; nothing is polled. A process that cannot be observed is left alone, named once, and tried again.
 * May touch: /proc, the probes' maps, the log. */
#include "beylad/probes/go.h"
#include "beylad/probes/probes.h"
#include "beylad/probes/tls.h"
#include "beylad/process.h"
#include "beylad/selection.h"

#define DISCOVER_PENDING_MAX 4096                  /* executed programs that wait to be looked at; more: all processes are looked at */
#define DISCOVER_EXEC_NS (20 * TEL_NS_PER_MS)      /* after an exec: its name is settled, and what systemd handed it is open */
#define DISCOVER_RETRY_MIN_NS (5 * TEL_NS_PER_S)
#define DISCOVER_RETRY_MAX_NS (300 * TEL_NS_PER_S)

struct discover;

struct discover_options {
        struct probes *probes;
        struct tls_probes *tls;                    /* NULL: not there */
        struct go_probes *go;                      /* NULL: not there */
        const struct process_options *process;
        /* found: observed from now on. ended: of a found one; its connections are finished then. Both borrow p. */
        void (*found)(void *ctx, struct process *p);
        void (*ended)(void *ctx, struct process *p);
        void *ctx;
};

/* selection: replaced by discover_select(). */
struct discover *discover_new(const struct discover_options *options);
struct discover *discover_free(struct discover *d);
/* Another selection (borrowed until the next): all processes are looked at, those that no longer belong are left. Returns 0 or -errno. */
int discover_select(struct discover *d, const struct selection *selection, uint64_t now_ns);
/* on: nothing is observed until it is off again; then discover_step() is due, which looks at all processes. */
void discover_pause(struct discover *d, bool on, uint64_t now_ns);
/* What lost events would have said: processes that are gone or run something else are left. Now and then. Returns whether there were any:
 * then discover_step() is due. */
bool discover_check(struct discover *d, uint64_t now_ns);
void discover_event(struct discover *d, const struct probe_process *e, uint64_t now_ns);
/* The observed process, or NULL. For each event; an event of a process we have not heard of tells of it. */
struct process *discover_find(struct discover *d, uint32_t pid, uint64_t now_ns);
/* Ciphertext passes and no plaintext: a TLS library may have been mapped since. */
void discover_tls_wanted(struct discover *d, uint32_t pid, uint64_t now_ns);
/* Does what is due. Returns when it wants to be called again, UINT64_MAX: not of itself. */
uint64_t discover_step(struct discover *d, uint64_t now_ns);

/* For status: each observed process with what its attachment said. */
typedef void (*discover_each_fn)(void *ctx, const struct process *p, const char *tls, const char *go);
void discover_each(struct discover *d, discover_each_fn each, void *ctx);
size_t discover_count(const struct discover *d);
