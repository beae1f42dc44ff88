/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* TLS: the plaintext of programs that encrypt, from uprobes on their TLS library: OpenSSL (libssl.so, or built into the executable as in
 * Node), GnuTLS and Go's crypto/tls. A library is probed once, whoever uses it: the links carry its number, and the kernel side knows
 * which process uses which library by which number.
 * May touch: bpf(2), perf_event_open(2), /proc/PID and the ELF files mapped there. No log lines: what happened is in the report. Nothing
 * is written into a process, and everything ends with ours. */
#include "beylad/probes/probes.h"

#define TLS_LIBRARIES_MAX 512                      /* files probed at once: each Go program is one, a container image brings its own libssl */
#define TLS_REPORT_MAX 4096                        /* bytes of a report's text with its NUL: some twenty functions, a line each */

struct tls_probes;

/* What was found, for people: lines that end in '\n'; those that find no room are left out.
 *   /usr/lib/x86_64-linux-gnu/libssl.so.3: OpenSSL, 10 of 11 functions
 *     SSL_read, SSL_read_ex: push r13 at +0, emulated of what both call
 *     SSL_do_handshake: push rbx at +0, emulated
 *   ! /usr/bin/x: a uprobe of SSL_read at offset 0x35120: Permission denied
 *   ? /usr/bin/y: BoringSSL is built in and its functions have no names: what it encrypts is not seen
 * "emulated" costs each call 0.6 to 0.9 us, its return another 0.4; "single-stepped: dear" 10 to 20 us, as measured on
 * two virtual machines. */
struct tls_report {
        uint32_t libraries;                        /* of the process that are (inspect: would be) probed */
        uint32_t failed;                           /* that should be and are not: their lines begin with "! " */
        uint32_t unseen;                           /* inspect only: files with a TLS library built in whose functions have no names; "? " */
        char text[TLS_REPORT_MAX];
};

/* Loads the programs; nothing is attached. maps: shared with the sockets probe. On failure -errno and reterr (PROBE_ERROR_MAX). */
int tls_probes_new(const struct probe_maps *maps, struct tls_probes **ret, char *reterr);
struct tls_probes *tls_probes_free(struct tls_probes *t);              /* accepts NULL, returns NULL; detaches all */
/* Probes every TLS library that pid has mapped now. May be called again when it may have mapped more: adds what is new, and pid counts once
 * for each library. Returns how many libraries of pid are probed in all, or -errno when nothing could be looked at (-ESRCH: it is gone) or
 * when none of several could be attached; a library that fails is left with no probe at all and has its line. ret may be NULL. */
int tls_probes_attach(struct tls_probes *t, uint32_t pid, struct tls_report *ret);
/* pid ended or is no longer observed: its sessions are forgotten, and libraries that nobody else uses are left. Unknown pids do nothing. */
void tls_probes_detach(struct tls_probes *t, uint32_t pid);
/* What attach would do, without doing it; t is not needed. Returns how many libraries, or -errno. */
int tls_probes_inspect(uint32_t pid, struct tls_report *ret);

struct tls_probes_stats {
        uint32_t libraries, processes, sites;      /* attached now: files, users of them, uprobes and uretprobes */
};
void tls_probes_get_stats(const struct tls_probes *t, struct tls_probes_stats *ret);
