/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Probes: the kernel side of sockets and processes: loads the families one by one (what the kernel refuses is named, the others go on),
 * joins their maps, reads the ring. TLS libraries and Go have probes of their own (tls.h, go.h), which use the same maps.
 * May touch: bpf(2), the clock. Everything ends with the process: no probe is pinned. */
#include <bpf/libbpf.h>

#include "beylad/probes/event.h"
#include "libtelemetry/base.h"

#define PROBE_ERROR_MAX 256                        /* bytes of an error text, with its NUL */

/* The shared maps by descriptor; -1: not there. The names are those of shared.bpf.h. */
struct probe_maps {
        int events, targets, verdicts, ports, counters, sockets, threads, sessions, pending, shuts, switches;
};

/* Before an object is loaded: its maps that have a shared name become the shared ones (those that are -1 are made by it). Returns 0 or -errno. */
int probe_share(struct bpf_object *object, const struct probe_maps *maps);

enum probe_family { FAMILY_SOCKETS, FAMILY_PROCESS, FAMILY_URING, PROBE_FAMILIES };
const char *probe_family_name(enum probe_family f);

/* How the sockets are seen. Both tell the same events. */
enum probe_technique {
        PROBE_TECHNIQUE_AUTO,                      /* the first of those below that this kernel takes */
        PROBE_TECHNIQUE_SOCKET,                    /* hooks inside of sockets: other programs pay next to nothing */
        PROBE_TECHNIQUE_SYSCALL,                   /* the end of every system call, for kernels before 6.3 */
};

struct probes;

struct probe_counters {
        uint64_t values[PROBE_COUNTERS];           /* by enum probe_counter, all CPUs */
        uint64_t missed;                           /* runs of programs the kernel skipped */
        uint64_t run_ns, runs;                     /* of all programs, while bpf statistics are on; else 0 */
        uint64_t map_bytes;                        /* of the shared maps, as the kernel accounts them */
};

/* One event; e is borrowed for the call. */
typedef void (*probes_event_fn)(void *ctx, const struct probe_head *e);

/* Loads what can be loaded. FAMILY_SOCKETS and FAMILY_PROCESS are needed: without them -errno and reterr (PROBE_ERROR_MAX) with the kernel's
 * reason and what to do. Nothing is observed until a target is set. */
int probes_new(enum probe_technique technique, probes_event_fn event, void *ctx, struct probes **ret, char *reterr);
struct probes *probes_free(struct probes *p);
/* How a family fares: "tp_btf sock_*_length", or why it is not there. */
const char *probes_family_text(const struct probes *p, enum probe_family f);
bool probes_family_works(const struct probes *p, enum probe_family f);
const struct probe_maps *probes_maps(const struct probes *p);

int probes_target_set(struct probes *p, uint32_t tgid, const struct probe_target *t);
/* Returns 0 or -ENOENT. */
int probes_target_get(struct probes *p, uint32_t tgid, struct probe_target *ret);
void probes_target_remove(struct probes *p, uint32_t tgid);
void probes_verdict_set(struct probes *p, uint64_t connection, const struct probe_verdict *v);
void probes_verdict_remove(struct probes *p, uint64_t connection);
void probes_port_add(struct probes *p, uint32_t netns, uint32_t port);     /* somebody listened there before us */
void probes_capture_max(struct probes *p, uint32_t bytes);
/* For loops: readable when the ring wants to be read. */
int probes_fd(const struct probes *p);
/* Hands on what is in the ring, at most PROBES_TURN_MAX events, so that the loop gets its turn. Returns how many. An event of a pipelining
 * client holds dozens of requests: a turn must fit CONTEXT_HELD_MAX. When it is empty, the ends of connections that found it full, too. */
#define PROBES_TURN_MAX 256u
unsigned probes_consume(struct probes *p);
/* The next event shall wake: call when the ring has been empty for a while, then consume once more. */
void probes_sleep(struct probes *p);
/* The kernel measures BPF programs (run_ns) while this descriptor is open; some 20 ns for each run. -errno: it may not. */
int probes_measure(void);
void probes_get_counters(struct probes *p, struct probe_counters *ret);

/* Every listening TCP socket of every process, or of one (tgid 0: all), from the kernel's own tables. */
typedef void (*probes_found_fn)(void *ctx, const struct probe_found *f);
int probes_find_listeners(struct probes *p, uint32_t tgid, probes_found_fn found, void *ctx);
