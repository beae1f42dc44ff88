/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/maps_file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int parse(const char *text, struct maps_file *ret) {
        FILE *in = fmemopen((void *)text, strlen(text), "r");
        assert_non_null(in);
        int r = maps_file_parse(in, ret);
        fclose(in);
        return r;
}

static void test_lines(void **state) {
        struct maps_file m;
        (void)state;
        assert_int_equal(parse("55a4c0a00000-55a4c0a28000 r--p 00000000 fd:01 1311012                    /usr/bin/x\n"
                               "55a4c0a28000-55a4c0aae000 r-xp 00028000 fd:01 1311012                    /usr/bin/x\n"
                               "55a4c0c00000-55a4c0c28000 rw-p 00000000 00:00 0                          [heap]\n"
                               "7f0000000000-7f0000001000 r-xp 00001000 00:2e 7                          /srv/a b/libssl.so.3 (deleted)\n"
                               "7f0000002000-7f0000003000 r-xp 00000000 00:2e 8                          /srv/line\\012feed\n"
                               "7fff00000000-7fff00002000 r-xp 00000000 00:00 0                          [vdso]\n"
                               "7f0000004000-7f0000005000 rwxp 00000000 00:01 9                          /memfd:jit (deleted)\n",
                               &m),
                         0);
        assert_int_equal(m.n, 4);
        assert_false(m.cut);
        assert_string_equal(m.files[0].path, "/usr/bin/x");
        assert_int_equal(m.files[0].start, 0x55a4c0a28000);
        assert_int_equal(m.files[0].end, 0x55a4c0aae000);
        assert_int_equal(m.files[0].offset, 0x28000);
        assert_int_equal(m.files[0].major, 0xfd);
        assert_int_equal(m.files[0].minor, 1);
        assert_int_equal(m.files[0].inode, 1311012);
        assert_false(m.files[0].deleted);
        assert_string_equal(m.files[1].path, "/srv/a b/libssl.so.3");
        assert_true(m.files[1].deleted);
        assert_string_equal(m.files[2].path, "/srv/line\\012feed");
        assert_string_equal(m.files[3].path, "/memfd:jit");
        maps_file_done(&m);
}

/* A file stands there once, with its first executable part; the same inode on another device is another file. */
static void test_a_file_once(void **state) {
        struct maps_file m;
        (void)state;
        assert_int_equal(parse("1000-2000 r-xp 00001000 fd:01 5 /a\n2000-3000 r-xp 00002000 fd:01 5 /a\n3000-4000 r-xp 00000000 fd:02 5 /a\n", &m), 0);
        assert_int_equal(m.n, 2);
        assert_int_equal(m.files[0].start, 0x1000);
        assert_int_equal(m.files[1].minor, 2);
        maps_file_done(&m);
}

static void test_nonsense(void **state) {
        struct maps_file m;
        (void)state;
        assert_int_equal(parse("\n\nx\n1000-2000\n1000-2000 r-xp\n2000-1000 r-xp 0 fd:01 5 /back\n1000-2000 r-xp 0 fd:01 5\n"
                               "1000-2000 r-xp 0 fd:01 5 relative\n1000-2000 rx 0 fd:01 5 /perms\n1000-2000 r-xp 0 fd:01 6  (deleted)\n",
                               &m),
                         0);
        assert_int_equal(m.n, 0);
        maps_file_done(&m);
}

static void test_too_many(void **state) {
        char *text = NULL;
        size_t n;
        FILE *out = open_memstream(&text, &n);
        struct maps_file m;
        (void)state;
        for (unsigned i = 1; i <= MAPS_FILES_MAX + 1; i++)
                fprintf(out, "%x000-%x001 r-xp 00000000 fd:01 %u /lib%u\n", i, i, i, i);
        fclose(out);
        assert_int_equal(parse(text, &m), 0);
        assert_int_equal(m.n, MAPS_FILES_MAX);
        assert_true(m.cut);
        maps_file_done(&m);
        free(text);
}

/* This process: its own executable is there, and what is opened is that file. */
static void test_own(void **state) {
        struct maps_file m;
        struct stat exe, opened;
        bool found = false;
        (void)state;
        assert_int_equal(stat("/proc/self/exe", &exe), 0);
        assert_int_equal(maps_file_read("/proc", (uint32_t)getpid(), &m), 0);
        for (size_t i = 0; i < m.n; i++) {
                if (m.files[i].inode != exe.st_ino)
                        continue;
                int fd = maps_file_open("/proc", (uint32_t)getpid(), &m.files[i]);
                assert_true(fd >= 0);
                assert_int_equal(fstat(fd, &opened), 0);
                assert_int_equal(opened.st_ino, exe.st_ino);
                assert_int_equal(opened.st_dev, exe.st_dev);
                close(fd);
                found = true;
        }
        assert_true(found);
        maps_file_done(&m);
}

static void test_gone(void **state) {
        struct maps_file m;
        (void)state;
        assert_int_equal(maps_file_read("/proc", 0x7fffffff, &m), -ESRCH);
}

/* Where map_files cannot be followed, the path inside the process's root is taken, but only while it is the same file, and a regular one. */
static void test_by_path(void **state) {
        char proc[] = "/tmp/maps.XXXXXX", path[128];
        struct stat st;
        int fd;
        (void)state;
        assert_non_null(mkdtemp(proc));
        static const char *const folders[] = { "7", "7/root", "7/root/lib" };
        for (size_t i = 0; i < TEL_ARRAY_LEN(folders); i++) {
                snprintf(path, sizeof(path), "%s/%s", proc, folders[i]);
                assert_int_equal(mkdir(path, 0755), 0);
        }
        snprintf(path, sizeof(path), "%s/7/root/lib/x.so", proc);
        fd = open(path, O_CREAT | O_WRONLY, 0644);
        assert_int_equal(fstat(fd, &st), 0);
        close(fd);
        char name[] = "/lib/x.so", fifo_name[] = "/lib/fifo";
        struct mapped_file file = { .start = 0x1000, .end = 0x2000, .inode = st.st_ino, .path = name };
        fd = maps_file_open(proc, 7, &file);
        assert_true(fd >= 0);
        close(fd);
        file.inode++;
        assert_int_equal(maps_file_open(proc, 7, &file), -ESTALE);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(maps_file_open(proc, 7, &file), -ENOENT);
        snprintf(path, sizeof(path), "%s/7/root/lib/fifo", proc);
        assert_int_equal(mkfifo(path, 0644), 0);
        file.path = fifo_name;
        assert_int_equal(maps_file_open(proc, 7, &file), -ENOEXEC);
        assert_int_equal(unlink(path), 0);
        for (size_t i = TEL_ARRAY_LEN(folders); i-- > 0;) {
                snprintf(path, sizeof(path), "%s/%s", proc, folders[i]);
                assert_int_equal(rmdir(path), 0);
        }
        assert_int_equal(rmdir(proc), 0);
}

/* A library that was replaced while it runs: as root, what is opened is the one that runs. */
static void test_deleted(void **state) {
        char path[] = "/tmp/maps.XXXXXX";
        int fd = mkstemp(path);
        struct maps_file m;
        struct stat st;
        (void)state;
        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, 4096), 0);
        void *at = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
        assert_int_equal(unlink(path), 0);
        if (at == MAP_FAILED || geteuid() != 0) {  /* /tmp may be mounted noexec */
                close(fd);
                skip();
        }
        assert_int_equal(fstat(fd, &st), 0);
        close(fd);
        assert_int_equal(maps_file_read("/proc", (uint32_t)getpid(), &m), 0);
        bool found = false;
        for (size_t i = 0; i < m.n; i++) {
                struct stat opened;
                if (strcmp(m.files[i].path, path) != 0)
                        continue;
                assert_true(m.files[i].deleted);
                fd = maps_file_open("/proc", (uint32_t)getpid(), &m.files[i]);
                if (fd == -ENOENT)                 /* root without CAP_CHECKPOINT_RESTORE */
                        continue;
                assert_int_equal(fstat(fd, &opened), 0);
                assert_int_equal(opened.st_ino, st.st_ino);
                close(fd);
                found = true;
        }
        munmap(at, 4096);
        maps_file_done(&m);
        if (!found)
                skip();
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_lines),
                cmocka_unit_test(test_a_file_once),
                cmocka_unit_test(test_nonsense),
                cmocka_unit_test(test_too_many),
                cmocka_unit_test(test_own),
                cmocka_unit_test(test_gone),
                cmocka_unit_test(test_by_path),
                cmocka_unit_test(test_deleted),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
