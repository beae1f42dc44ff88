/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/process.h"

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "beylad/runtime.h"
#include "libtelemetry/utf8.h"

#define PID 4711
#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static char proc[] = "/tmp/beylad.proc.XXXXXX";
static const struct process_options plain = { .proc = proc, .service_name = "", .service_namespace = "", .host = "h1" };

static void put(const char *name, const char *bytes, size_t n) {
        char path[128];
        snprintf(path, sizeof(path), "%s/%d/%s", proc, PID, name);
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, bytes, n), n);
        close(fd);
}
#define PUT(name, literal) put(name, literal, sizeof(literal) - 1)

static void put_exe(const char *target) {
        char path[128];
        snprintf(path, sizeof(path), "%s/%d/exe", proc, PID);
        unlink(path);
        assert_int_equal(symlink(target, path), 0);
}

/* An ordinary process, for each test to change. */
static void put_ordinary(void) {
        PUT("stat", "4711 (a) b (c) S 1 4711 4711 0 -1 4194560 5 6 7 8 9 10 11 12 20 0 1 0 987654 0 0\n");
        PUT("cmdline", "/usr/bin/shop\0--password=geheim\0");
        PUT("environ", "PATH=/bin\0LANG=C\0");
        PUT("cgroup", "0::/system.slice/shop.service\n");
        PUT("maps", "");
        put_exe("/usr/bin/shop");
}

static int setup(void **state) {
        char path[128];
        (void)state;
        strcpy(strrchr(proc, '.'), ".XXXXXX");
        if (!mkdtemp(proc))
                return -1;
        snprintf(path, sizeof(path), "%s/%d", proc, PID);
        if (mkdir(path, 0755) < 0)
                return -1;
        put_ordinary();
        return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        (void)st, (void)type, (void)ftw;
        return remove(path);
}

static int teardown(void **state) {
        (void)state;
        return nftw(proc, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static struct process *read_good(const struct process_options *options) {
        struct process *p = NULL;
        assert_int_equal(process_read(PID, options, &p), 0);
        return p;
}

static const char *get(const struct process *p, const char *key) {
        const char *found = NULL;
        for (size_t i = 0; i < p->n_attributes; i++)
                if (strcmp(p->attributes[i].key, key) == 0) {
                        assert_null(found);                    /* a key stands once */
                        found = p->attributes[i].value;
                }
        return found;
}

static void assert_attribute(const struct process *p, const char *key, const char *expected) {
        const char *value = get(p, key);
        if (expected ? !value || strcmp(value, expected) != 0 : value != NULL)
                fail_msg("%s: '%s', expected '%s'", key, value ? value : "(none)", expected ? expected : "(none)");
}

static void test_ordinary(void **state) {
        (void)state;
        struct process *p = read_good(&plain);
        assert_int_equal(p->pid, PID);
        assert_int_equal(p->start_ticks, 987654);
        assert_string_equal(p->exe, "/usr/bin/shop");
        assert_string_equal(p->name, "shop");
        assert_int_equal(p->language, LANGUAGE_UNKNOWN);
        assert_string_equal(p->attributes[0].key, "service.name");
        assert_attribute(p, "service.name", "shop");
        assert_attribute(p, "service.namespace", NULL);
        assert_attribute(p, "service.instance.id", "h1:4711");
        assert_attribute(p, "host.name", "h1");
        assert_attribute(p, "process.pid", "4711");
        assert_attribute(p, "process.executable.name", "shop");
        assert_attribute(p, "telemetry.sdk.name", "beyla");
        assert_attribute(p, "telemetry.sdk.language", NULL);
        assert_attribute(p, "telemetry.distro.name", "beylad");
        assert_attribute(p, "telemetry.distro.version", SUITE_VERSION);
        assert_attribute(p, "container.id", NULL);
        assert_attribute(p, "k8s.pod.uid", NULL);
        for (size_t i = 0; i < p->n_attributes; i++)           /* arguments may hold secrets */
                assert_null(strstr(p->attributes[i].value, "geheim"));
        assert_ptr_equal(process_ref(p), p);
        assert_null(process_unref(p));
        assert_string_equal(p->name, "shop");
        process_unref(p);
        assert_null(process_unref(NULL));
}

/* Settings before OTEL_SERVICE_NAME before OTEL_RESOURCE_ATTRIBUTES before the name. */
static void test_service_name(void **state) {
        (void)state;
        struct process_options named = plain;
        PUT("environ", "OTEL_RESOURCE_ATTRIBUTES=service.name=a%20b,service.namespace=n,team=web\0X=y\0");
        struct process *p = read_good(&plain);
        assert_attribute(p, "service.name", "a b");
        assert_attribute(p, "service.namespace", "n");
        assert_attribute(p, "team", "web");
        process_unref(p);
        PUT("environ", "OTEL_SERVICE_NAME=otel\0OTEL_RESOURCE_ATTRIBUTES=service.name=a\0OTEL_SERVICE_NAME=second\0");
        p = read_good(&plain);
        assert_attribute(p, "service.name", "otel");
        process_unref(p);
        named.service_name = "ours";
        named.service_namespace = "our space";
        p = read_good(&named);
        assert_attribute(p, "service.name", "ours");
        assert_attribute(p, "service.namespace", "our space");
        process_unref(p);
        PUT("environ", "OTEL_SERVICE_NAME=\0OTEL_RESOURCE_ATTRIBUTES=service.name=,x=");
        p = read_good(&plain);
        assert_attribute(p, "service.name", "shop");
        assert_attribute(p, "x", NULL);
        process_unref(p);
}

/* What a process says of itself cannot replace what we know, nor be more than the bound. */
static void test_hostile_environment(void **state) {
        (void)state;
        PUT("environ", "OTEL_RESOURCE_ATTRIBUTES=telemetry.sdk.name=other,telemetry.auto.version=1,process.pid=1,service.instance.id=x,a=%ff\x1b,"
                       "b=1,b=2,\xff=c,container.id=mine");
        struct process *p = read_good(&plain);
        assert_attribute(p, "telemetry.sdk.name", "beyla");
        assert_attribute(p, "telemetry.auto.version", NULL);
        assert_attribute(p, "process.pid", "4711");
        assert_attribute(p, "service.instance.id", "h1:4711");
        assert_attribute(p, "a", "??");
        assert_attribute(p, "b", "1");
        assert_attribute(p, "?", "c");
        assert_attribute(p, "container.id", "mine");           /* the cgroup does not say */
        process_unref(p);
        char *large = malloc(400000);
        size_t n = (size_t)sprintf(large, "OTEL_RESOURCE_ATTRIBUTES=");
        for (unsigned i = 0; n < 390000; i++)
                n += (size_t)sprintf(large + n, "key%u=%0300u,", i, i);
        put("environ", large, n);
        free(large);
        p = read_good(&plain);
        assert_int_equal(p->n_attributes, PROCESS_ATTRIBUTES_MAX);
        assert_int_equal(strlen(get(p, "key0")), PROCESS_TEXT_MAX - 1);
        process_unref(p);
}

static void test_cgroups(void **state) {
        (void)state;
        static const struct { const char *cgroup, *container, *pod; } cases[] = {
                { "0::/\n", NULL, NULL },
                { "0::/system.slice/docker-" ID ".scope\n", ID, NULL },
                { "12:cpu:/docker/" ID "\n1:name=systemd:/docker/" ID "\n", ID, NULL },
                { "0::/machine.slice/libpod-" ID ".scope/container\n", ID, NULL },
                { "0::/machine.slice/libpod-conmon-" ID ".scope\n", NULL, NULL },
                { "0::/kubepods.slice/kubepods-besteffort-pod3f2a1b4c_1111_2222_3333_444455556666.slice/cri-containerd-" ID ".scope\n",
                  ID, "3f2a1b4c-1111-2222-3333-444455556666" },
                { "0::/kubepods/burstable/pod3f2a1b4c-1111-2222-3333-444455556666/crio-" ID "\n", ID, "3f2a1b4c-1111-2222-3333-444455556666" },
                { "0::/kubepods/podfedcba9876543210fedcba9876543210/" ID "\n", ID, "fedcba9876543210fedcba9876543210" },
                { "0::/system.slice:cri-containerd:" ID "\n", ID, NULL },
                { "0::/docker/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/docker/" ID "\n", ID, NULL },
                { "0::/x/" ID "0\n", NULL, NULL },             /* 65 digits are no id */
                { "0::/podman.service/pod3f2a1b4c-1111\n", NULL, NULL },
                { "0::/pod3f2a1b4c-1111-2222-3333-4444555566667", NULL, NULL },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(cases); i++) {
                put("cgroup", cases[i].cgroup, strlen(cases[i].cgroup));
                struct process *p = read_good(&plain);
                assert_attribute(p, "container.id", cases[i].container);
                assert_attribute(p, "k8s.pod.uid", cases[i].pod);
                process_unref(p);
        }
}

static void test_interpreter(void **state) {
        (void)state;
        PUT("cmdline", "python3\0-m\0http.server\0");
        put_exe("/usr/bin/python3.11 (deleted)");
        struct process *p = read_good(&plain);
        assert_string_equal(p->exe, "/usr/bin/python3.11");
        assert_string_equal(p->name, "http.server");
        assert_int_equal(p->language, LANGUAGE_PYTHON);
        assert_attribute(p, "service.name", "http.server");
        assert_attribute(p, "process.executable.name", "python3.11");
        assert_attribute(p, "telemetry.sdk.language", "python");
        process_unref(p);
        put_exe("/usr/bin/uwsgi");                             /* an interpreter inside */
        char maps[40000];
        memset(maps, 'x', sizeof(maps));
        for (size_t at = 16380; at < 16400; at++) {            /* wherever the reads part it */
                memset(maps, 'x', sizeof(maps));
                memcpy(maps + at, "/libpython3", 11);
                put("maps", maps, sizeof(maps));
                p = read_good(&plain);
                assert_int_equal(p->language, LANGUAGE_PYTHON);
                process_unref(p);
        }
}

static void test_gone_and_damaged(void **state) {
        (void)state;
        struct process *p = NULL;
        char path[128];
        assert_int_equal(process_read(PID + 1, &plain, &p), -ESRCH);
        PUT("stat", "4711 (x) S 1 2 3\n");
        assert_int_equal(process_read(PID, &plain, &p), -EBADMSG);
        PUT("stat", "");
        assert_int_equal(process_read(PID, &plain, &p), -EBADMSG);
        put_ordinary();
        snprintf(path, sizeof(path), "%s/%d/exe", proc, PID);
        unlink(path);
        assert_int_equal(process_read(PID, &plain, &p), -ESRCH);       /* a zombie */
        assert_null(p);
        put_exe("/a/\xff\n/\x01shop");
        static const char *const others[] = { "cmdline", "environ", "cgroup", "maps" };
        for (size_t i = 0; i < TEL_ARRAY_LEN(others); i++) {
                snprintf(path, sizeof(path), "%s/%d/%s", proc, PID, others[i]);
                unlink(path);
        }
        p = read_good(&plain);                                 /* all of them may be forbidden */
        assert_string_equal(p->exe, "/a/?" "?/?shop");
        assert_string_equal(p->name, "?shop");
        process_unref(p);
}

/* The one process that is surely there; and a child that is no more. */
static void test_real(void **state) {
        (void)state;
        struct process_options options = plain;
        struct process *p = NULL;
        options.proc = "/proc";
        assert_int_equal(process_read((uint32_t)getpid(), &options, &p), 0);
        assert_int_equal(p->language, LANGUAGE_C);
        assert_attribute(p, "telemetry.sdk.language", "cpp");
        assert_non_null(strstr(p->name, "test_process"));
        assert_true(p->start_ticks > 0);
        assert_false(p->is_32bit);
        process_unref(p);
        pid_t child = fork();
        if (child == 0)
                _exit(0);
        siginfo_t info;
        assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
        assert_int_equal(process_read((uint32_t)child, &options, &p), -ESRCH);     /* a zombie */
        waitpid(child, NULL, 0);
        assert_int_equal(process_read((uint32_t)child, &options, &p), -ESRCH);
}

static void test_notes(void **state) {
        (void)state;
        char note[16384], again[16384], small[20];
        struct process *q = NULL;
        PUT("environ", "OTEL_RESOURCE_ATTRIBUTES=a%3Db=c%2Cd=%25e%20,%20f%20=%20g%20,u=%C3%A9\0");
        PUT("cgroup", "0::/docker/" ID "\n");
        put_exe("/usr/bin/node");
        struct process *p = read_good(&plain);
        p->port = 8080;
        p->is_32bit = true;
        memset(p->name, 'n', sizeof(p->name) - 1);             /* the longest there are */
        memset(p->exe, 'e', sizeof(p->exe) - 1);
        p->name[sizeof(p->name) - 1] = p->exe[sizeof(p->exe) - 1] = '\0';
        assert_attribute(p, "a=b", "c,d=%e ");
        size_t n = process_to_note(p, note, sizeof(note));
        assert_int_equal(n, strlen(note));
        assert_int_equal(process_from_note(PID, note, n, &q), 0);
        assert_string_equal(q->exe, p->exe);
        assert_string_equal(q->name, p->name);
        assert_int_equal(q->language, LANGUAGE_NODE);
        assert_int_equal(q->start_ticks, p->start_ticks);
        assert_int_equal(q->port, 8080);
        assert_true(q->is_32bit);
        assert_int_equal(q->n_attributes, p->n_attributes);
        for (size_t i = 0; i < p->n_attributes; i++) {
                assert_string_equal(q->attributes[i].key, p->attributes[i].key);
                assert_string_equal(q->attributes[i].value, p->attributes[i].value);
        }
        assert_int_equal(process_to_note(q, again, sizeof(again)), n);
        assert_string_equal(again, note);
        for (size_t room = 0; room <= sizeof(small); room++) { /* as snprintf(3) */
                memset(small, 'x', sizeof(small));
                assert_int_equal(process_to_note(q, small, room), n);
                if (room > 0) {
                        assert_int_equal(strlen(small), room - 1);
                        assert_memory_equal(small, note, room - 1);
                }
        }
        process_unref(p);
        process_unref(q);
}

static const char *value_of(const struct process *p, const char *key) {
        for (size_t i = 0; i < p->n_attributes; i++)
                if (strcmp(p->attributes[i].key, key) == 0)
                        return p->attributes[i].value;
        return "";
}

/* A fork that was gone before it could be read is its parent but for its number. */
static void test_copy(void **state) {
        (void)state;
        struct process *p = NULL, *q = NULL;
        static const char note[] = "name=shop\nexe=/usr/bin/shop\nlanguage=python\nbits=32\nattribute=service.name=shop\nattribute=process.pid=7\n"
                                   "attribute=service.instance.id=a:7:7\nattribute=team=7\n";
        assert_int_equal(process_from_note(7, note, sizeof(note) - 1, &p), 0);
        assert_int_equal(process_copy(p, 4711, &q), 0);
        assert_int_equal(q->pid, 4711);
        assert_string_equal(q->name, "shop");
        assert_string_equal(q->exe, "/usr/bin/shop");
        assert_int_equal(q->language, LANGUAGE_PYTHON);
        assert_true(q->is_32bit);
        assert_string_equal(value_of(q, "service.name"), "shop");
        assert_string_equal(value_of(q, "process.pid"), "4711");
        assert_string_equal(value_of(q, "service.instance.id"), "a:7:4711");
        assert_string_equal(value_of(q, "team"), "7");
        process_unref(p);
        process_unref(q);
}

static void test_notes_damaged(void **state) {
        (void)state;
        struct process *p = NULL;
        static const char hostile[] = "name=a\x1b\xff" "b\0c\nexe\n=\nlanguage=cobol\nattribute=\nattribute=x\nattribute=k=v\nattribute=k=w\n"
                                      "start=99999999999999999999\nport=-1\nfuture=1\nattributeattributeattribute=1\nbits=32";
        assert_int_equal(process_from_note(1, "", 0, &p), -EINVAL);
        assert_int_equal(process_from_note(1, "exe=/x\n", 7, &p), -EINVAL);
        assert_int_equal(process_from_note(1, hostile, sizeof(hostile) - 1, &p), 0);
        assert_string_equal(p->name, "a??b?c");
        assert_int_equal(p->language, LANGUAGE_UNKNOWN);
        assert_int_equal(p->n_attributes, 1);
        assert_attribute(p, "k", "v");
        assert_true(p->is_32bit);
        process_unref(p);
        char *large = malloc(100000);
        size_t n = (size_t)sprintf(large, "name=x\n");
        for (unsigned i = 0; n < 90000; i++)
                n += (size_t)sprintf(large + n, "attribute=k%u=%0400u\n", i, i);
        assert_int_equal(process_from_note(1, large, n, &p), 0);
        assert_int_equal(p->n_attributes, PROCESS_ATTRIBUTES_MAX);
        process_unref(p);
        free(large);
}

static void test_language_names(void **state) {
        (void)state;
        assert_null(process_language_name(LANGUAGE_UNKNOWN));
        assert_null(process_language_name(LANGUAGES));
        assert_null(process_language_name((enum process_language)-1));
        for (int l = LANGUAGE_UNKNOWN + 1; l < LANGUAGES; l++)
                assert_non_null(process_language_name((enum process_language)l));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_ordinary), TEST(test_service_name), TEST(test_hostile_environment), TEST(test_cgroups), TEST(test_interpreter),
                TEST(test_gone_and_damaged), TEST(test_real), TEST(test_notes), TEST(test_copy), TEST(test_notes_damaged), TEST(test_language_names),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
