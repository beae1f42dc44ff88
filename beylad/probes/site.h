/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
#pragma once
/* Site: what a uprobe is told about the place it was put to (its attach cookie), and who may be heard there. A file is probed once for all
 * processes, and the same file may be probed twice under two names (two containers of one image), so each hit asks: does this process use
 * this file under this number? Both sides include this. */
#include <linux/types.h>

#define SITE_USES_MAX 8192u                        /* pairs of a process and a file: two for each target */

/* Key of the map `uses`. Value: __u32 1. */
struct site_use {
        __u32 tgid, file;
};

/* The cookie: file 16 bits, flags 16 bits, slot 32 bits. */
#define SITE_COOKIE(file, flags, slot) ((__u64)(file) | (__u64)(flags) << 16 | (__u64)(slot) << 32)
#define SITE_FILE(cookie) ((__u32)((cookie) & 0xffff))
#define SITE_FLAGS(cookie) ((__u32)((cookie) >> 16 & 0xffff))
#define SITE_SLOT(cookie) ((__u32)((cookie) >> 32))

enum site_flags {
        SITE_OUT = 1,                              /* the function sends; else it receives */
        SITE_LONG = 2,                             /* it returns the length as 64 bits, else as 32 */
        SITE_LENGTH_4 = 4,                         /* it returns whether it worked, and the length goes where argument 4 points, */
        SITE_LENGTH_5 = 8,                         /* or argument 5 */
        SITE_NO_DATA = 16,                         /* a handshake: moves no plaintext */
        SITE_CLIENT = 32,                          /* a session begins: as a client, else as a server */
        SITE_CHECK = 64,                           /* the branch of Go's stack check: runs again after the stack grew */
        SITE_RETURN = 128,                         /* a return instruction of Go */
        SITE_READER = 256,                         /* a call of bytes.(*Reader).Read, else of runtime.memmove */
};
