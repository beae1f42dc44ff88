/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Base: the few macros every file leans on.
 * May touch: nothing. Header only. */
#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define TEL_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
/* Each argument is evaluated once. The counter keeps nested ones from shadowing each other. */
#define TEL_MIN(a, b) TEL_LESSER_(a, b, __COUNTER__)
#define TEL_MAX(a, b) TEL_GREATER_(a, b, __COUNTER__)
#define TEL_LESSER_(a, b, id) TEL_LESSER__(a, b, id)
#define TEL_GREATER_(a, b, id) TEL_GREATER__(a, b, id)
#define TEL_LESSER__(a, b, id) ({ __auto_type a_##id = (a); __auto_type b_##id = (b); a_##id < b_##id ? a_##id : b_##id; })
#define TEL_GREATER__(a, b, id) ({ __auto_type a_##id = (a); __auto_type b_##id = (b); a_##id > b_##id ? a_##id : b_##id; })
#define tel_container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

/* TEL_CLEANUP(fn) type x: calls fn(&x) when x leaves its scope. TEL_CLEANUP_FREE: free() of a heap pointer. */
#define TEL_CLEANUP(fn) __attribute__((cleanup(fn)))
#define TEL_CLEANUP_FREE TEL_CLEANUP(tel_freep)
/* Takes a pointer out of a variable so that its clean-up finds NULL. */
#define TEL_TAKE(p) ({ __auto_type p_ = (p); (p) = NULL; p_; })
#define TEL_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

#define TEL_NS_PER_MS 1000000ull
#define TEL_NS_PER_S 1000000000ull

static inline void tel_freep(void *p) {
        free(*(void **)p);
}

/* Length rounded up to a multiple of to, a power of two. */
static inline size_t tel_align(size_t n, size_t to) {
        return (n + to - 1) & ~(to - 1);
}

/* a + b, or the largest number when that does not fit. */
static inline uint64_t tel_add_sat(uint64_t a, uint64_t b) {
        return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}
