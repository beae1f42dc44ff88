/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Recording: the events of the kernel side in a file, and back. A replay goes through the same tracer, without root and without a kernel:
 * that is how a user hands in what went wrong, and how parsing is tested.
 * Bytes: "SPOKEREC", u32 version 1, u32 zero, i64 nanoseconds that make boot time real time; then events as in probes/event.h, one after
 * another. Processes stand in PROBE_NOTE events. Host byte order. It holds what the observed programs sent, secrets too: mode 0600.
 * May touch: its file. */
#include <stdio.h>

#include "beylad/probes/event.h"
#include "beylad/process.h"

#define RECORDING_EVENT_MAX (sizeof(struct probe_data) + PROBE_CAPTURE_MAX)
#define RECORDING_PROCESSES_MAX 4096               /* in one file: as many as are observed at once */
#define RECORDING_ERROR_MAX 256

struct recording;

/* Returns 0 or -errno; reterr (RECORDING_ERROR_MAX) names the file. */
int recording_create(const char *path, int64_t real_offset_ns, struct recording **ret, char *reterr);
void recording_event(struct recording *r, const struct probe_head *e);
void recording_process(struct recording *r, const struct process *p, uint64_t now_ns);
/* Writes what is buffered. Returns 0, or -errno of the first write that failed: the file ends before it. */
int recording_close(struct recording *r);

struct tracer;
/* Reads a whole file into t, and releases everything at the end. Returns 0, -errno, or -EBADMSG: not a recording, or cut short; reterr says
 * where. What came before was replayed. */
int recording_replay(FILE *from, const char *name, struct tracer *t, char *reterr);
