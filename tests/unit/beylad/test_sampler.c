/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <cmocka.h>

#include "beylad/sampler.h"

static void unhex(const char *text, uint8_t out[static 16]) {
        for (size_t i = 0; i < 16; i++)
                assert_int_equal(sscanf(text + 2 * i, "%2hhx", &out[i]), 1);
}

static bool decide(enum sampler_kind kind, double ratio, const char *trace_id, const bool *parent) {
        struct sampler s;
        uint8_t id[16];
        sampler_init(&s, kind, ratio);
        unhex(trace_id, id);
        return sampler_decide(&s, id, parent);
}

/* The answers of the OpenTelemetry SDK for Python, 1.45: random ids, and those on both sides of the bound. */
static void test_ratio_as_the_sdk(void **state) {
        static const struct {
                double ratio;
                const char *trace_id;
                bool sampled;
        } rows[] = {
                { 0.0, "6513270e269e0d37f2a74de452e6b438", false }, { 0.0, "36f675cc81e74ef50000000000000000", false },
                { 0.01, "6b0d549b6f03675a1600a35a099950d8", false }, { 0.01, "f28c105d1fb17c23028f5c28f5c28f5e", true },
                { 0.01, "a170b33839263059028f5c28f5c28f60", false }, { 0.25, "8e81973e0becd7b03898d190f9ebdacc", true },
                { 0.25, "2217beaddbc496cb3ffffffffffffffe", true }, { 0.25, "6b4cb2424a23d5964000000000000000", false },
                { 0.5, "922766581e27a1c08a6a63ec24ede6a4", false }, { 0.5, "923a736994e3bf911a61dbe22e44158b", true },
                { 0.5, "301850c5a38fd5477ffffffffffffffe", true }, { 0.5, "18f135d25f5572038000000000000000", false },
                { 0.999, "7731af10506bf2efffbe76c8b43957fe", true }, { 0.999, "ec66a78795e761d1ffbe76c8b4395800", false },
                { 1.0, "7ebff20686734721ffffffffffffffff", true }, { 1.0, "57ee05cde00902c70000000000000000", true },
        };
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++) {
                assert_int_equal(decide(SAMPLER_RATIO, rows[i].ratio, rows[i].trace_id, NULL), rows[i].sampled);
                assert_int_equal(decide(SAMPLER_PARENT_RATIO, rows[i].ratio, rows[i].trace_id, NULL), rows[i].sampled);
        }
        assert_true(decide(SAMPLER_RATIO, 7, "000000000000000000000000000000ff", NULL));
        assert_false(decide(SAMPLER_RATIO, -1, "00000000000000000000000000000000", NULL));
        assert_false(decide(SAMPLER_RATIO, (double)NAN, "00000000000000000000000000000000", NULL));
}

/* What a lower ratio takes, every higher one takes, and the share is about what was asked for. */
static void test_ratio_nested(void **state) {
        unsigned taken[11] = { 0 };
        uint64_t random = 88172645463325252ull;
        (void)state;
        for (unsigned n = 0; n < 20000; n++) {
                uint8_t id[16] = { 1 };
                bool before = false;
                random ^= random << 13, random ^= random >> 7, random ^= random << 17;
                memcpy(id + 8, &random, 8);
                for (unsigned i = 0; i <= 10; i++) {
                        struct sampler s;
                        sampler_init(&s, SAMPLER_RATIO, i / 10.0);
                        bool now = sampler_decide(&s, id, NULL);
                        assert_true(now || !before);
                        before = now;
                        taken[i] += now;
                }
        }
        for (unsigned i = 0; i <= 10; i++)
                assert_in_range(taken[i] + 300, i * 2000, i * 2000 + 600);
}

/* A parent decides for those that ask it, and for no others. */
static void test_parent(void **state) {
        static const struct {
                enum sampler_kind kind;
                bool root, sampled, unsampled;
        } rows[] = {
                { SAMPLER_ALWAYS_ON, true, true, true }, { SAMPLER_ALWAYS_OFF, false, false, false }, { SAMPLER_RATIO, false, false, false },
                { SAMPLER_PARENT_ON, true, true, false }, { SAMPLER_PARENT_OFF, false, true, false }, { SAMPLER_PARENT_RATIO, false, true, false },
        };
        static const char id[] = "0000000000000000ffffffffffffffff";
        const bool yes = true, no = false;
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++) {
                assert_int_equal(decide(rows[i].kind, 0.5, id, NULL), rows[i].root);
                assert_int_equal(decide(rows[i].kind, 0.5, id, &yes), rows[i].sampled);
                assert_int_equal(decide(rows[i].kind, 0.5, id, &no), rows[i].unsampled);
        }
}

/* The kernel side decides by the same rules, whatever the sampler. */
static void test_rules_are_the_same(void **state) {
        uint64_t random = 88172645463325252ull;
        (void)state;
        for (int kind = 0; kind < SAMPLERS; kind++)
                for (unsigned n = 0; n < 3000; n++) {
                        struct probe_inject_rules rules = { 0 };
                        struct sampler s;
                        uint8_t id[16] = { 1 };
                        bool parent = n % 3 == 2;
                        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
                        memcpy(id + 8, &random, 8);
                        sampler_init(&s, (enum sampler_kind)kind, n % 11 / 10.0);
                        sampler_rules(&s, &rules);
                        assert_int_equal(probe_is_sampled(&rules, id, (int)(n % 3) - 1), sampler_decide(&s, id, n % 3 ? &parent : NULL));
                }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_ratio_as_the_sdk),
                cmocka_unit_test(test_ratio_nested),
                cmocka_unit_test(test_parent),
                cmocka_unit_test(test_rules_are_the_same),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
