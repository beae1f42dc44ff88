/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <linux/bpf.h>
#include <sys/mman.h>
#include <unistd.h>

#include "beylad/probes/ring.h"

#define RECORD_MAX 1000u

/* The kernel's end, on a file with the layout of the map: a page of the reader's place, a page of the writer's, the data. */
static struct kernel {
        int fd;
        size_t page, bytes;
        unsigned long *consumed, *produced;
        uint8_t *data;
        unsigned next, expected, stop_at;          /* records are numbered */
} k;

static int setup(void **state) {
        (void)state;
        memset(&k, 0, sizeof(k));
        k.page = (size_t)sysconf(_SC_PAGESIZE);
        k.bytes = k.page;
        k.fd = memfd_create("ring", MFD_CLOEXEC);
        assert_int_equal(ftruncate(k.fd, (off_t)(2 * k.page + k.bytes)), 0);
        uint8_t *all = mmap(NULL, 2 * k.page + k.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, k.fd, 0);
        assert_ptr_not_equal(all, MAP_FAILED);
        k.consumed = (unsigned long *)all;
        k.produced = (unsigned long *)(all + k.page);
        k.data = all + 2 * k.page;
        return 0;
}

static int teardown(void **state) {
        (void)state;
        munmap(k.consumed, 2 * k.page + k.bytes);
        close(k.fd);
        return 0;
}

static uint32_t *header_write(size_t n, uint32_t bits) {
        uint32_t *header = (uint32_t *)(k.data + (*k.produced & (k.bytes - 1)));
        assert_true(*k.produced + BPF_RINGBUF_HDR_SZ + n - *k.consumed <= k.bytes);
        header[0] = (uint32_t)n | bits;
        return header;
}

/* A record of n bytes that are all the low byte of its number. Returns false when there is no room. */
static bool put(size_t n, uint32_t bits) {
        if (*k.produced + BPF_RINGBUF_HDR_SZ + n + 8 - *k.consumed > k.bytes)
                return false;
        header_write(n, bits);
        for (size_t i = 0; i < n; i++)
                k.data[(*k.produced + BPF_RINGBUF_HDR_SZ + i) & (k.bytes - 1)] = (uint8_t)k.next;
        k.next += !bits;
        *k.produced += (BPF_RINGBUF_HDR_SZ + n + 7) & ~7ul;
        return true;
}

static bool on_record(void *ctx, const void *data, size_t n) {
        const uint8_t *bytes = data;
        size_t *total = ctx;
        assert_int_equal((uintptr_t)data % 8, 0);
        for (size_t i = 0; i < n; i++)
                assert_int_equal(bytes[i], (uint8_t)k.expected);
        k.expected++;
        *total += n;
        return k.expected != k.stop_at;
}

/* Sizes that reach over the end at every offset that can be. */
static void test_all_offsets(void **state) {
        struct ring *r;
        size_t sent = 0, total = 0;
        (void)state;
        assert_int_equal(ring_new(k.fd, k.bytes, RECORD_MAX, &r), 0);
        for (unsigned i = 0; i < 3000; i++) {
                size_t n = (i * 37) % (RECORD_MAX + 1);
                if (put(n, 0)) {
                        sent += n;
                        continue;
                }
                ring_consume(r, on_record, &total);
                assert_int_equal(*k.consumed, *k.produced);
                assert_int_equal(k.expected, k.next);
                i--;
        }
        ring_consume(r, on_record, &total);
        assert_int_equal(total, sent);
        assert_int_equal(k.expected, 3000);
        ring_free(r);
}

static void test_order(void **state) {
        struct ring *r;
        size_t total = 0;
        (void)state;
        assert_int_equal(ring_new(k.fd, k.bytes, RECORD_MAX, &r), 0);
        assert_true(put(10, 0));
        assert_true(put(20, BPF_RINGBUF_DISCARD_BIT));
        assert_true(put(30, 0));
        uint32_t *busy = header_write(40, BPF_RINGBUF_BUSY_BIT);
        assert_true(put(40, BPF_RINGBUF_BUSY_BIT));
        ring_consume(r, on_record, &total);
        assert_int_equal(total, 40);               /* it stops at what is being written */
        unsigned long there = *k.consumed;
        ring_consume(r, on_record, &total);
        assert_int_equal(*k.consumed, there);
        memset(busy + 2, (int)k.next++, 40);
        *busy = 40;
        ring_consume(r, on_record, &total);
        assert_int_equal(total, 80);
        assert_true(put(RECORD_MAX + 1, BPF_RINGBUF_BUSY_BIT));
        *(uint32_t *)(k.data + (*k.consumed & (k.bytes - 1))) = RECORD_MAX + 1;        /* longer than what it may be: passed over */
        for (unsigned i = 0; i < 3; i++)
                assert_true(put(8, 0));
        k.stop_at = k.expected + 2;
        ring_consume(r, on_record, &total);
        assert_int_equal(total, 96);               /* the reader has enough */
        ring_consume(r, on_record, &total);
        assert_int_equal(total, 104);
        assert_int_equal(*k.consumed, *k.produced);
        ring_free(r);
}

static void test_refused(void **state) {
        struct ring *r = NULL;
        (void)state;
        assert_int_equal(ring_new(k.fd, k.bytes + 1, RECORD_MAX, &r), -EINVAL);
        assert_int_equal(ring_new(k.fd, 0, RECORD_MAX, &r), -EINVAL);
        assert_int_equal(ring_new(-1, k.bytes, RECORD_MAX, &r), -EBADF);
        assert_null(r);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_all_offsets, setup, teardown),
                cmocka_unit_test_setup_teardown(test_order, setup, teardown),
                cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
