/* SPDX-License-Identifier: Dual BSD/GPL */
#pragma once
/* Frames: follows the frames of HTTP/2 through the calls of a connection, so that of a call of any length all is captured but the payload of
 * DATA: a stream of large bodies hides no HEADERS, and costs little. Source: RFC 9113, 3.4 (preface), 4.1 (frame header), 6.1 (DATA).
 * May touch: the state and the bytes it is given. Included by *.bpf.c only. */
#include "beylad/probes/kernel.h"

#include "beylad/probes/event.h"

#define FRAME_HEADER 9u
#define FRAME_DATA 0
#define FRAME_HEADERS 1
#define FRAME_SETTINGS 4
#define FRAME_PADDED 8                             /* the padding's length is the payload's first byte, and wanted */
#define FRAME_SKIP_MIN 512u                        /* a shorter payload costs less captured than passed over: that ends an event */
#define FRAMES_PREFACE 24u                         /* bytes: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" */

static __always_inline bool frames_are_followed(const struct probe_frames *f) {
        return f->state == PROBE_FRAMES_ASKS || f->state == PROBE_FRAMES_ANSWERS;
}

/* How many of the next n bytes belong together; n > 0. */
static __always_inline __u32 frames_piece(const struct probe_frames *f, __u32 n) {
        __u32 most = f->skip ? f->skip : f->copy ? f->copy : FRAME_HEADER - f->have;
        return n < most ? n : most;
}

static __always_inline bool frames_is_preface(const __u8 *h) {
        return h[0] == 'P' && h[1] == 'R' && h[2] == 'I' && h[3] == ' ' && h[4] == '*' && h[5] == ' ' && h[6] == 'H' && h[7] == 'T' && h[8] == 'T';
}

/* Nine bytes are whole: a frame's header, or what the direction begins with. A client begins with the preface, a server with SETTINGS.
 * Returns whether they begin a request. */
static __always_inline bool frames_header(struct probe_frames *f) {
        const __u8 *h = f->header;
        __u32 length = h[0] << 16 | h[1] << 8 | h[2];
        f->have = 0;
        if (f->state == PROBE_FRAMES_FIRST) {
                bool preface = frames_is_preface(h);
                bool settings = h[3] == FRAME_SETTINGS && !(h[5] | h[6] | h[7] | h[8]) && length < 16384;
                f->state = preface ? PROBE_FRAMES_ASKS : settings ? PROBE_FRAMES_ANSWERS : PROBE_FRAMES_NONE;
                f->copy = preface ? FRAMES_PREFACE - FRAME_HEADER : length;
                return false;
        }
        if (h[3] == FRAME_DATA && !(h[4] & FRAME_PADDED) && length >= FRAME_SKIP_MIN)
                f->skip = length;
        else
                f->copy = length;
        return h[3] == FRAME_HEADERS && f->state == PROBE_FRAMES_ASKS;
}

/* n captured bytes at p, as many as frames_piece() said or fewer. Returns as frames_header(). */
static __always_inline bool frames_captured(struct probe_frames *f, const __u8 *p, __u32 n) {
        if (f->copy) {
                f->copy -= n;
                return false;
        }
        for (__u32 i = 0; i < FRAME_HEADER && i < n; i++)
                f->header[(f->have + i) & 15] = p[i];
        f->have += n;
        return f->have >= FRAME_HEADER && frames_header(f);
}
