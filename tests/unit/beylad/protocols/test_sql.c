/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/protocols/sql.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

/* "operation|table|text", "-" for what is absent. */
static const char *read_text(const char *in, size_t n, bool whole) {
        static char out[4096];
        struct sql q;
        char *copy = malloc(n + !n);               /* exactly as large, so that a sanitizer sees a read behind it */
        memcpy(copy, in, n);
        sql_read(copy, n, whole, true, &q);
        free(copy);
        snprintf(out, sizeof(out), "%s|%.*s|%.*s", q.operation ? q.operation : "-", q.table_len ? (int)q.table_len : 1, q.table_len ? q.table : "-",
                 (int)q.text_len, q.text);
        return out;
}

struct row {
        const char *in, *out;
};

static void check(const struct row *rows, size_t n) {
        for (size_t i = 0; i < n; i++) {
                const char *got = read_text(rows[i].in, strlen(rows[i].in), true);
                if (strcmp(got, rows[i].out) != 0)
                        print_error("of: %s\n", rows[i].in);
                assert_string_equal(got, rows[i].out);
        }
}

/* What a query does, and to which table first. */
static void test_operation_and_table(void **state) {
        (void)state;
        static const struct row rows[] = {
                { "select * from users", "SELECT|users|select * from users" },
                { "INSERT INTO public.\"User Data\" (a) VALUES (1)", "INSERT|public.\"User Data\"|INSERT INTO public.\"User Data\" (a) VALUES (?)" },
                { "INSERT INTO t(a) VALUES (1)", "INSERT|t|INSERT INTO t(a) VALUES (?)" },
                { "UPDATE ONLY accounts SET b = b + 1", "UPDATE|accounts|UPDATE ONLY accounts SET b = b + ?" },
                { "DELETE FROM a.b.c WHERE x", "DELETE|a.b.c|DELETE FROM a.b.c WHERE x" },
                { "MERGE INTO m USING s ON x", "MERGE|m|MERGE INTO m USING s ON x" },
                { "SELECT 1", "SELECT|-|SELECT ?" },
                { "(SELECT a FROM t)", "SELECT|t|(SELECT a FROM t)" },
                { "SELECT * FROM (SELECT x FROM inner_t) q", "SELECT|inner_t|SELECT * FROM (SELECT x FROM inner_t) q" },
                { "SELECT * FROM (a JOIN b ON x)", "SELECT|a|SELECT * FROM (a JOIN b ON x)" },
                { "SELECT EXTRACT(EPOCH FROM made) FROM t", "SELECT|t|SELECT EXTRACT(EPOCH FROM made) FROM t" },
                { "SELECT a IS DISTINCT FROM b FROM t", "SELECT|t|SELECT a IS DISTINCT FROM b FROM t" },
                { "SELECT * FROM generate_series(1, 3), t", "SELECT|-|SELECT * FROM generate_series(?), t" },
                { "SELECT exists(SELECT 1 FROM e)", "SELECT|e|SELECT exists(SELECT ? FROM e)" },
                { "SELECT * FROM t FOR UPDATE", "SELECT|t|SELECT * FROM t FOR UPDATE" },
                { "SELECT * FROM LATERAL (SELECT 1) x", "SELECT|-|SELECT * FROM LATERAL (SELECT ?) x" },
                { "WITH a AS (SELECT * FROM r) UPDATE t SET x = 1", "UPDATE|r|WITH a AS (SELECT * FROM r) UPDATE t SET x = ?" },
                { "WITH a AS (UPDATE u SET x = 1) SELECT 1", "SELECT|u|WITH a AS (UPDATE u SET x = ?) SELECT ?" },
                { "WITH a(x) AS (VALUES (1)) INSERT INTO t SELECT x FROM a", "INSERT|t|WITH a(x) AS (VALUES (?)) INSERT INTO t SELECT x FROM a" },
                { "WITH broken AS (SELECT 1)", "WITH|-|WITH broken AS (SELECT ?)" },
                { "CREATE TABLE IF NOT EXISTS s.t (a int)", "CREATE|s.t|CREATE TABLE IF NOT EXISTS s.t (a int)" },
                { "CREATE UNIQUE INDEX i ON ONLY t (a)", "CREATE|t|CREATE UNIQUE INDEX i ON ONLY t (a)" },
                { "CREATE FUNCTION f() RETURNS TABLE (a int) AS $$ body $$", "CREATE|-|CREATE FUNCTION f() RETURNS TABLE (a int) AS ?" },
                { "DROP TABLE IF EXISTS t, u", "DROP|t|DROP TABLE IF EXISTS t, u" },
                { "ALTER TABLE t ADD c int", "ALTER|t|ALTER TABLE t ADD c int" },
                { "TRUNCATE TABLE t", "TRUNCATE|t|TRUNCATE TABLE t" },
                { "truncate t", "TRUNCATE|t|truncate t" },
                { "VACUUM FULL t", "VACUUM|t|VACUUM FULL t" },
                { "LOCK TABLE t IN SHARE MODE", "LOCK|t|LOCK TABLE t IN SHARE MODE" },
                { "COPY t (a, b) FROM STDIN", "COPY|t|COPY t (a, b) FROM STDIN" },
                { "COPY (SELECT * FROM t) TO STDOUT", "COPY|t|COPY (SELECT * FROM t) TO STDOUT" },
                { "FETCH 10 FROM cursor_1", "FETCH|-|FETCH ? FROM cursor_1" },
                { "SHOW server_version", "SHOW|-|SHOW server_version" },
                { "begin; update t set a = 1", "BEGIN|-|begin; update t set a = ?" },
                { ";; SELECT a FROM t", "SELECT|t|;; SELECT a FROM t" },
                { "TABLE t", "TABLE|t|TABLE t" },
                { "EXPLAIN ANALYZE SELECT * FROM t", "EXPLAIN|t|EXPLAIN ANALYZE SELECT * FROM t" },
                { "my password", "-|-|my password" },
                { "'x' SELECT a FROM t", "-|-|? SELECT a FROM t" },
                { "", "-|-|" },
                { "SELECT * FROM", "SELECT|-|SELECT * FROM" },
                { "SELECT * FROM a.", "SELECT|-|SELECT * FROM a." },
                { "SELECT * FROM a . b", "SELECT|a.b|SELECT * FROM a . b" },
        };
        check(rows, TEL_ARRAY_LEN(rows));
}

/* No literal and no comment is left, however it is written. */
static void test_literals(void **state) {
        (void)state;
        static const struct row rows[] = {
                { "SELECT 'it''s', E'a\\'b', $$c$$, $t$d $$ '$t$, B'1', x'ff', N'n', U&'\\0041'", "SELECT|-|SELECT ?" },
                { "SELECT a FROM t WHERE b = 'x' AND c=1.5e-3 AND d = -7 AND e = .5", "SELECT|t|SELECT a FROM t WHERE b = ? AND c=? AND d = ? AND e = ?" },
                { "SELECT a-1, b - 2, (c)-3", "SELECT|-|SELECT a-?, b - ?, (c)-?" },
                { "SELECT 0x1F, 1_000, 5e, 1.", "SELECT|-|SELECT ?" },
                { "SELECT t1.c2 FROM t1", "SELECT|t1|SELECT t1.c2 FROM t1" },
                { "SELECT * FROM t WHERE a = $1 AND b IN ($2, $3,$4)", "SELECT|t|SELECT * FROM t WHERE a = ? AND b IN (?)" },
                { "SELECT * FROM t WHERE a IN (1,2,-3)", "SELECT|t|SELECT * FROM t WHERE a IN (?)" },
                { "SELECT ARRAY[1, 2], NULL, true", "SELECT|-|SELECT ARRAY[?], NULL, true" },
                { "INSERT INTO t VALUES (1, 'a'), (2, 'b'),(3, 'c')", "INSERT|t|INSERT INTO t VALUES (?)" },
                { "INSERT INTO t VALUES (1, NULL), (2, NULL)", "INSERT|t|INSERT INTO t VALUES (?, NULL), (?, NULL)" },
                { "SELECT a -- secret 'x\n FROM /* secret /* nested */ secret */ t", "SELECT|t|SELECT a FROM t" },
                { "  SELECT\n\t1  ;  ", "SELECT|-|SELECT ? ;" },
                { "SELECT \"a\"\"b\", U&\"c\" FROM \"T\"", "SELECT|\"T\"|SELECT \"a\"\"b\", U&\"c\" FROM \"T\"" },
                { "SELECT 'unterminated secret", "SELECT|-|SELECT ?" },
                { "SELECT E'unterminated \\", "SELECT|-|SELECT ?" },
                { "SELECT $q$ unterminated $", "SELECT|-|SELECT ?" },
                { "SELECT /* unterminated", "SELECT|-|SELECT" },
                { "SELECT a$b$c FROM t", "SELECT|t|SELECT a$b$c FROM t" },
                { "SELECT '2020-01-01'::date, a::int", "SELECT|-|SELECT ?::date, a::int" },
                { "ALTER USER bob PASSWORD 'secret'", "ALTER|-|ALTER USER bob PASSWORD ?" },
                { "SELECT j->'k' ? 'x', 1", "SELECT|-|SELECT j->? ? ?" },
                { "SELECT $ 1", "SELECT|-|SELECT $ ?" },
        };
        check(rows, TEL_ARRAY_LEN(rows));
}

/* A text that goes on out of sight: its last word may be half a word and is not used. */
static void test_cut(void **state) {
        (void)state;
        static const struct row rows[] = {
                { "SELECT * FROM user", "SELECT|-|SELECT * FROM" },
                { "SELECT * FROM users ", "SELECT|users|SELECT * FROM users" },
                { "SELECT * FROM users WHER", "SELECT|users|SELECT * FROM users" },
                { "SELECT * FROM public.", "SELECT|-|SELECT * FROM public." },
                { "SELECT * FROM public.use", "SELECT|-|SELECT * FROM public." },
                { "SELECT * FROM \"use", "SELECT|-|SELECT * FROM" },
                { "SELECT * FROM t WHERE a = 'sec", "SELECT|t|SELECT * FROM t WHERE a = ?" },
                { "SEL", "-|-|" },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++)
                assert_string_equal(read_text(rows[i].in, strlen(rows[i].in), false), rows[i].out);
}

/* Bounds: the text ends between tokens, a table longer than any real one is none, only the first SQL_READ_MAX bytes count. */
static void test_bounds(void **state) {
        (void)state;
        char in[3 * SQL_READ_MAX];
        struct sql q;
        int n = snprintf(in, sizeof(in), "SELECT ");
        while (n < 2000)
                n += snprintf(in + n, sizeof(in) - (size_t)n, "column_%d + ", n);
        sql_read(in, (size_t)n, true, true, &q);
        assert_in_range(q.text_len, SQL_TEXT_MAX - 16, SQL_TEXT_MAX);
        assert_memory_equal(q.text, in, q.text_len);
        assert_true(in[q.text_len] == ' ' || in[q.text_len - 1] == ' ');

        n = snprintf(in, sizeof(in), "SELECT 1 FROM %0*d", SQL_TABLE_MAX + 1, 0);
        memset(in + 14, 'a', SQL_TABLE_MAX + 1);
        sql_read(in, (size_t)n, true, false, &q);
        assert_int_equal(q.table_len, 0);
        sql_read(in, (size_t)n - 1, true, false, &q);
        assert_int_equal(q.table_len, SQL_TABLE_MAX);
        assert_int_equal(q.text_len, 0);

        memset(in, ' ', sizeof(in));
        memcpy(in, "SELECT", 6);
        memcpy(in + SQL_READ_MAX, "FROM t ", 7);
        sql_read(in, sizeof(in), true, true, &q);
        assert_int_equal(q.table_len, 0);
        memcpy(in + SQL_READ_MAX - 8, "FROM t ", 7);
        sql_read(in, sizeof(in), true, true, &q);
        assert_int_equal(q.table_len, 1);
}

/* The worst texts we could think of take no longer than a plain one: a quadratic search would take seconds. */
static void test_linear_time(void **state) {
        (void)state;
        static const char *const bad[] = { "$", "$a$", "/*", "'", "((((", "E'\\", "$a$b", "--", "FROM ", "a.", "?,", "1,", "(1),", "\"\"" };
        char in[SQL_READ_MAX];
        struct sql q;
        struct timespec from, to;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
        for (int round = 0; round < 100; round++)
                for (size_t i = 0; i < TEL_ARRAY_LEN(bad); i++) {
                        for (size_t at = 0; at < sizeof(in); at++)
                                in[at] = at < 7 ? "SELECT "[at] : bad[i][at % strlen(bad[i])];
                        sql_read(in, sizeof(in), true, true, &q);
                        assert_string_equal(q.operation ? q.operation : "-", "SELECT");
                }
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
        assert_true(to.tv_sec - from.tv_sec < 3);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_operation_and_table),
                cmocka_unit_test(test_literals),
                cmocka_unit_test(test_cut),
                cmocka_unit_test(test_bounds),
                cmocka_unit_test(test_linear_time),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
