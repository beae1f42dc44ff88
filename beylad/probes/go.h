/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Go: what must be known of a Go program to tell its goroutines apart, and the probes that say which goroutine uses a connection of
 * net/http's client pool (the bytes are written by another one), and which one serves a stream of HTTP/2 (they were read by another one).
 * May touch: bpf(2), perf_event_open(2), /proc/PID and the executable. No log lines: what happened is in the report. */
#include "beylad/probes/probes.h"

#define GO_PROGRAMS_MAX 512                        /* executables probed at once */
#define GO_REPORT_MAX 2048                         /* bytes of a report's text with its NUL: a dozen lines */
#define GO_VERSION_MAX 48                          /* "go1.26.8 X:nocoverageredesign": cut there */

struct go_probes;

struct go_report {
        bool go;                                   /* it is a Go program */
        bool goroutines;                           /* target is set: goroutines can be told apart */
        bool attached;                             /* a probe is there (inspect: would be) */
        char version[GO_VERSION_MAX];              /* "go1.26.8"; "" when it is no Go program */
        struct probe_target target;                /* flags, g_tls, g_goid, g_parent; all 0 without goroutines */
        char text[GO_REPORT_MAX];                  /* for people: lines that end in '\n', what is missing begins with "! " */
};

int go_probes_new(const struct probe_maps *maps, struct go_probes **ret, char *reterr);
struct go_probes *go_probes_free(struct go_probes *t);                 /* accepts NULL, returns NULL; detaches all */
/* Looks at pid's executable and probes it once for all processes that run it. The caller sets the target from ret (or adds its flags to
 * what it has). Returns 1: attached, 0: nothing to attach (no Go, too old, no net/http, no gRPC: ret says), or -errno. ret may be NULL. */
int go_probes_attach(struct go_probes *t, uint32_t pid, struct go_report *ret);
void go_probes_detach(struct go_probes *t, uint32_t pid);
/* What attach would do, without doing it. Returns 1, 0 or -errno likewise. */
int go_probes_inspect(uint32_t pid, struct go_report *ret);
