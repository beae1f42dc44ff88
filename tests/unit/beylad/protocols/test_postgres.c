/* SPDX-License-Identifier: Apache-2.0 */
#include "captured.h"
#include "lossy.h"

#include "beylad/protocols/postgres_statements.h"
#include "libtelemetry/cursor.h"

#define SERVES EXCHANGE_SERVER
#define CALLS EXCHANGE_CLIENT

/* ---- messages ---- */

/* Bytes of the calls of one test; taken from the front, all given back at its end. */
static uint8_t arena[1 << 20];
static size_t arena_used;

static int reset(void **state) {
        (void)state;
        arena_used = 0;
        return 0;
}

/* A call that moves messages: type, body, its length, ...; type -1 ends the list, 0 is a startup packet, 1 bytes as they are. */
static struct call build(int what, ...) {
        struct call c = { .what = what, .bytes = (const char *)arena + arena_used };
        va_list args;
        int type;
        va_start(args, what);
        while ((type = va_arg(args, int)) >= 0) {
                const char *body = va_arg(args, const char *);
                size_t n = va_arg(args, size_t);
                uint8_t *p = arena + arena_used;
                assert_true(arena_used + n + 5 <= sizeof(arena));
                if (type > 1)
                        *p++ = (uint8_t)type;
                if (type != 1) {
                        tel_be32_put(p, (uint32_t)n + 4);
                        p += 4;
                }
                memcpy(p, body, n);
                arena_used = (size_t)(p + n - arena);
        }
        va_end(args);
        c.n = (size_t)((const char *)arena + arena_used - c.bytes);
        return c;
}
#define M(type, body) (type), (body), sizeof(body) - 1
#define ASK(...) build(CALL_IN, __VA_ARGS__, -1)
#define ANSWER(...) build(CALL_OUT, __VA_ARGS__, -1)
#define LATER_ASK(...) build(CALL_OUT, __VA_ARGS__, -1)    /* seen from the client */
#define TALK(role, talk, expected) assert_talk(&protocol_postgres, role, talk, TEL_ARRAY_LEN(talk), expected)

#define QUERY(text) M('Q', text "\0")
#define PARSE(name, text) M('P', name "\0" text "\0\0\0")
#define BIND(portal, name) M('B', portal "\0" name "\0\0\0\0\0\0\0")
#define DESCRIBE M('D', "P\0")
#define EXECUTE(portal) M('E', portal "\0\0\0\0\0")
#define CLOSE(what, name) M('C', what name "\0")
#define SYNC M('S', "")
#define FLUSH M('H', "")
#define READY M('Z', "I")
#define COMPLETE(tag) M('C', tag "\0")
#define PARSED M('1', "")
#define BOUND M('2', "")
#define ROWS M('T', "\0\1a\0\0\0\0\0\0\0\0\0\0\x17\0\4\xff\xff\xff\xff\0\0")
#define ROW M('D', "\0\1\0\0\0\1x")
#define NO_DATA M('n', "")
#define ERROR(code) M('E', "SERROR\0VERROR\0C" code "\0Mduplicate key 'secret'\0\0")
#define FATAL M('E', "SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0")
#define STARTUP M(0, "\0\3\0\0user\0bob\0database\0shop\0application_name\0psql\0\0")
#define AUTHENTICATED M('R', "\0\0\0\0"), M('S', "TimeZone\0UTC\0"), M('K', "\0\0\0\1\0\0\0\2"), READY

/* ---- the protocol ---- */

/* A session from its first byte: the database is known from then on, nothing of the log in is kept. */
static void test_session(void **state) {
        (void)state;
        struct call talk[] = {
                ASK(M(0, "\4\xd2\x16\x2f")), ANSWER(M(1, "N")), ASK(M(0, "\4\xd2\x16\x30")), ANSWER(M(1, "N")), ASK(STARTUP),
                ANSWER(M('R', "\0\0\0\x0aSCRAM-SHA-256\0\0")), ASK(M('p', "SCRAM-SHA-256\0\0\0\0\5n,,n=")), ANSWER(M('R', "\0\0\0\x0br=x")), ASK(M('p', "secret")),
                ANSWER(AUTHENTICATED), ASK(QUERY("SELECT name FROM users WHERE id = 7")), ANSWER(ROWS, ROW, COMPLETE("SELECT 1"), READY), ASK(M('X', "")), SHUT,
        };
        TALK(SERVES, talk, "server db [10,11] operation=SELECT collection=users namespace=shop\n");
        for (size_t i = 0; i < TEL_ARRAY_LEN(talk); i++)
                talk[i].what ^= 1;                 /* in <-> out */
        TALK(CALLS, talk, "client db [10,11] operation=SELECT collection=users namespace=shop\n");
}

/* SSLRequest answered with "S": no longer ours; GSSAPI neither. A CancelRequest is nothing. */
static void test_encrypted(void **state) {
        (void)state;
        struct call tls[] = { ASK(M(0, "\4\xd2\x16\x2f")), ANSWER(M(1, "S")), ASK(M(1, "\x16\3\1\2\0\1\0")), SHUT };
        TALK(SERVES, tls, "");
        struct call gss[] = { ASK(M(0, "\4\xd2\x16\x30")), ANSWER(M(1, "G")), ASK(M(1, "\0\0\0\4\1\2\3\4")), SHUT };
        TALK(SERVES, gss, "");
        struct call cancel[] = { ASK(M(0, "\4\xd2\x16\x2e\0\0\0\1\0\0\0\2")), SHUT };
        TALK(SERVES, cancel, "");
        struct call old[] = { ASK(M(0, "\4\xd2\x16\x2f")), ANSWER(FATAL), SHUT };
        TALK(SERVES, old, "");
}

/* A simple query is one exchange up to ReadyForQuery, however many statements it has. */
static void test_simple(void **state) {
        (void)state;
        struct call talk[] = {
                ASK(QUERY("BEGIN; UPDATE t SET a = 1; COMMIT")), ANSWER(COMPLETE("BEGIN"), COMPLETE("UPDATE 1"), COMPLETE("COMMIT"), READY),
                ASK(QUERY("INSERT INTO t VALUES ('secret')")), ANSWER(ERROR("23505"), READY),
                ASK(QUERY("")), ANSWER(M('I', ""), READY),
                ASK(QUERY("SELECT 1; SELECT x")), ANSWER(ROWS, ROW, COMPLETE("SELECT 1"), ERROR("42703"), M('Z', "E")),
                ASK(QUERY("LISTEN a")), ANSWER(M('N', "SNOTICE\0VNOTICE\0C00000\0\0"), COMPLETE("LISTEN")), ANSWER(M('A', "\0\0\0\1a\0b\0"), READY),
                ANSWER(M('A', "\0\0\0\1a\0b\0"), M('S', "a\0b\0")),
                ASK(QUERY("strange words")), ANSWER(ERROR("42601"), READY), SHUT,
        };
        TALK(SERVES, talk,
             "server db [0,1] operation=BEGIN batch=3\nserver db [2,3] operation=INSERT collection=t db_status=23505 failed\nserver db [4,5]\n"
             "server db [6,7] operation=SELECT db_status=42703 failed\nserver db [8,10] operation=LISTEN\nserver db [12,13] db_status=42601 failed\n");
}

/* The text, when asked for; never a literal. */
static void test_text(void **state) {
        (void)state;
        static const struct protocol_options options = { .db_text = true };
        struct call talk[] = {
                ASK(QUERY("SELECT * FROM t WHERE a = 'secret' AND b IN (1, 2, 3)")), ANSWER(COMPLETE("SELECT 0"), READY),
                ASK(PARSE("s", "DELETE FROM u WHERE x = $1 AND y = 5"), BIND("", "s"), EXECUTE(""), SYNC), ANSWER(PARSED, BOUND, COMPLETE("DELETE 0"), READY), SHUT,
        };
        assert_talk_options(&protocol_postgres, SERVES, &options, talk, TEL_ARRAY_LEN(talk),
                            "server db [0,1] operation=SELECT collection=t text=SELECT * FROM t WHERE a = ? AND b IN (?)\n"
                            "server db [2,3] operation=DELETE collection=u text=DELETE FROM u WHERE x = ? AND y = ?\n");
}

/* Each Execute is an exchange, from the message that prepared it to its own end; statements are known by name. */
static void test_extended(void **state) {
        (void)state;
        struct call talk[] = {
                ASK(PARSE("s1", "SELECT * FROM a WHERE x = $1"), M('D', "Ss1\0"), SYNC), ANSWER(PARSED, M('t', "\0\1\0\0\0\x17"), ROWS, READY),
                ASK(BIND("", "s1"), DESCRIBE, EXECUTE(""), SYNC), ANSWER(BOUND, ROWS, ROW, COMPLETE("SELECT 1"), READY),
                ASK(PARSE("", "UPDATE b SET x = $1"), BIND("", ""), EXECUTE("")), ASK(SYNC), ANSWER(PARSED, BOUND, COMPLETE("UPDATE 1")), ANSWER(READY),
                ASK(BIND("", "s1"), EXECUTE(""), SYNC), ANSWER(BOUND, M('I', ""), READY),
                ASK(CLOSE("S", "s1"), SYNC), ANSWER(M('3', ""), READY),
                ASK(BIND("", "s1"), EXECUTE(""), SYNC), ANSWER(ERROR("26000"), READY),
                ASK(BIND("", "unseen"), EXECUTE(""), SYNC), ANSWER(BOUND, COMPLETE("INSERT 0 1"), READY), SHUT,
        };
        TALK(SERVES, talk,
             "server db [2,3] operation=SELECT collection=a\nserver db [4,6] operation=UPDATE collection=b\nserver db [8,9] operation=SELECT collection=a\n"
             "server db [12,13] db_status=26000 failed\nserver db [14,15] operation=INSERT\n");
}

/* Names as long as one likes: the server, and we, tell them apart by their first 63 bytes. What is longer than we keep is not taken for another. */
static void test_long_names(void **state) {
        (void)state;
#define TEN "0123456789"
#define SIXTY TEN TEN TEN TEN TEN TEN
        struct call talk[] = {
                ASK(PARSE(SIXTY SIXTY SIXTY, "SELECT 1"), BIND("", SIXTY SIXTY SIXTY), EXECUTE(""), SYNC), ANSWER(PARSED, BOUND, COMPLETE("SELECT 1"), READY),
                ASK(BIND("", SIXTY "abcdef"), EXECUTE(""), SYNC), ANSWER(BOUND, COMPLETE("INSERT 0 1"), READY),
                ASK(BIND(SIXTY SIXTY SIXTY, ""), EXECUTE(SIXTY SIXTY SIXTY), SYNC), ANSWER(BOUND, COMPLETE("UPDATE 1"), READY), SHUT,
        };
        TALK(SERVES, talk, "server db [0,1] operation=SELECT\nserver db [2,3] operation=INSERT\nserver db [4,5] operation=UPDATE\n");
}

/* A portal read in parts: each Execute is an exchange; two portals are told apart. */
static void test_portals(void **state) {
        (void)state;
        struct call talk[] = {
                ASK(PARSE("", "SELECT * FROM a"), BIND("c1", ""), EXECUTE("c1"), PARSE("", "SELECT * FROM b"), BIND("c2", ""), EXECUTE("c2"), FLUSH),
                ANSWER(PARSED, BOUND, ROW, M('s', ""), PARSED, BOUND, ROW, M('s', "")),
                ASK(EXECUTE("c1"), CLOSE("P", "c2"), SYNC), ANSWER(ROW, COMPLETE("SELECT 2"), M('3', ""), READY),
                ASK(EXECUTE("c2"), SYNC), ANSWER(ERROR("34000"), READY), SHUT,
        };
        TALK(SERVES, talk,
             "server db [0,1] operation=SELECT collection=a\nserver db [0,1] operation=SELECT collection=b\nserver db [2,3] operation=SELECT collection=a\n"
             "server db [4,5] db_status=34000 failed\n");
}

/* Many Executes before one Sync; an error ends the one it belongs to, and what stands behind it was never executed. */
static void test_pipeline(void **state) {
        (void)state;
        struct call talk[] = {
                ASK(PARSE("s", "INSERT INTO t VALUES ($1)"), BIND("", "s"), EXECUTE(""), BIND("", "s"), EXECUTE(""), BIND("", "s"), EXECUTE(""), SYNC),
                ANSWER(PARSED, BOUND, COMPLETE("INSERT 0 1"), BOUND, COMPLETE("INSERT 0 1")), ANSWER(BOUND, COMPLETE("INSERT 0 1"), READY),
                ASK(BIND("", "s"), EXECUTE(""), BIND("", "s"), EXECUTE(""), BIND("", "s"), EXECUTE(""), SYNC, BIND("", "s"), EXECUTE(""), SYNC),
                ANSWER(BOUND, COMPLETE("INSERT 0 1"), ERROR("23505"), READY, BOUND, COMPLETE("INSERT 0 1"), READY), SHUT,
        };
        TALK(SERVES, talk,
             "server db [0,1] operation=INSERT collection=t\nserver db [0,1] operation=INSERT collection=t\nserver db [0,2] operation=INSERT collection=t\n"
             "server db [3,4] operation=INSERT collection=t\nserver db [3,4] operation=INSERT collection=t db_status=23505 failed\n"
             "server db [3,4] operation=INSERT collection=t\n");
        struct call streamed[] = {                 /* the error comes before all was sent */
                ASK(PARSE("", "SELEC"), FLUSH), ANSWER(ERROR("42601")), ASK(BIND("", ""), EXECUTE("")), ASK(EXECUTE("")), ASK(SYNC), ANSWER(READY),
                ASK(PARSE("", "SELECT 1"), BIND("", ""), EXECUTE(""), SYNC), ANSWER(PARSED, BOUND, COMPLETE("SELECT 1"), READY), SHUT,
        };
        TALK(SERVES, streamed, "server db [0,1] db_status=42601 failed\nserver db [6,7] operation=SELECT\n");
}

/* A Parse that is not executed is an exchange only when it is refused. */
static void test_parse_alone(void **state) {
        (void)state;
        struct call talk[] = {
                ASK(PARSE("a", "SELECT * FROM missing"), M('D', "Sa\0"), SYNC), ANSWER(ERROR("42P01"), READY),
                ASK(PARSE("b", "SELECT * FROM t"), SYNC), ANSWER(PARSED, READY), ASK(SYNC), ANSWER(READY), ASK(SYNC, SYNC), ANSWER(READY, READY),
                ASK(PARSE("d", "SELECT * FROM gone"), FLUSH), ANSWER(ERROR("42P01")), ASK(SYNC), ANSWER(READY),
                ASK(PARSE("c", "SELECT * FROM t"), FLUSH), ANSWER(PARSED), SHUT,
        };
        TALK(SERVES, talk, "server db [0,1] operation=SELECT collection=missing db_status=42P01 failed\n"
                           "server db [8,9] operation=SELECT collection=gone db_status=42P01 failed\n");
}

/* COPY in both directions, simple and extended; the Sync that libpq sends too early is passed over. */
static void test_copy(void **state) {
        (void)state;
        struct call talk[] = {
                ASK(QUERY("COPY t FROM STDIN")), ANSWER(M('G', "\0\0\1\0\0")), ASK(M('d', "1\n"), M('d', "S\0\0\0\4")), ASK(M('c', "")), ANSWER(COMPLETE("COPY 2"), READY),
                ASK(QUERY("COPY t TO STDOUT")), ANSWER(M('H', "\0\0\1\0\0"), M('d', "1\n")), ANSWER(M('d', "2\n"), M('c', ""), COMPLETE("COPY 2"), READY),
                ASK(PARSE("", "COPY u FROM STDIN"), BIND("", ""), EXECUTE(""), SYNC), ANSWER(PARSED, BOUND, M('G', "\0\0\1\0\0")), ASK(M('d', "1\n"), SYNC),
                ASK(M('c', ""), SYNC), ANSWER(COMPLETE("COPY 1"), READY),
                ASK(QUERY("COPY t FROM STDIN")), ANSWER(M('G', "\0\0\1\0\0")), ASK(M('d', "x\n")), ASK(M('f', "no more\0")), ANSWER(ERROR("57014"), READY),
                ASK(QUERY("SELECT 1")), ANSWER(COMPLETE("SELECT 1"), READY), SHUT,
        };
        TALK(SERVES, talk,
             "server db [0,4] operation=COPY collection=t\nserver db [5,7] operation=COPY collection=t\nserver db [8,12] operation=COPY collection=u\n"
             "server db [13,17] operation=COPY collection=t db_status=57014 failed\nserver db [18,19] operation=SELECT\n");
        /* The Sync behind the last data counts, so that its ReadyForQuery is not taken for that of the next query. */
        struct call next[] = {
                ASK(PARSE("", "COPY u FROM STDIN"), BIND("", ""), EXECUTE("")), ANSWER(PARSED, BOUND, M('G', "\0\0\1\0\0")),
                ASK(M('d', "1\n"), M('c', ""), SYNC, QUERY("SELECT 1")), ANSWER(COMPLETE("COPY 1"), READY), ANSWER(COMPLETE("SELECT 1"), READY), SHUT,
        };
        TALK(SERVES, next, "server db [0,3] operation=COPY collection=u\nserver db [2,4] operation=SELECT\n");
        struct call replication[] = {
                ASK(QUERY("START_REPLICATION 0/0")), ANSWER(M('W', "\0\0\0")), ANSWER(M('d', "w")), ASK(M('d', "r")), ANSWER(M('d', "w")), ASK(M('c', "")),
                ANSWER(M('c', ""), COMPLETE("START_STREAMING"), READY), ASK(QUERY("SELECT 1")), ANSWER(COMPLETE("SELECT 1"), READY), SHUT,
        };
        TALK(SERVES, replication, "server db [0,1] operation=START_REPLICATION\nserver db [7,8] operation=SELECT\n");
}

static void test_function_call(void **state) {
        (void)state;
        struct call talk[] = { ASK(M('F', "\0\0\0\1\0\0\0\0\0\0")), ANSWER(M('V', "\xff\xff\xff\xff"), READY), SHUT };
        TALK(SERVES, talk, "server db [0,1]\n");
}

/* The connection ends: with the server's last word, without it, or because the client left. */
static void test_ends(void **state) {
        (void)state;
        struct call fatal[] = { ASK(QUERY("SELECT pg_sleep(9)")), ANSWER(FATAL), END_OUT, END_IN };
        TALK(SERVES, fatal, "server db [0,1] operation=SELECT db_status=57P01 failed\n");
        struct call idle[] = { ASK(QUERY("SELECT 1")), ANSWER(COMPLETE("SELECT 1"), READY), ANSWER(FATAL), SHUT };
        TALK(SERVES, idle, "server db [0,1] operation=SELECT\n");
        struct call crash[] = { ASK(QUERY("SELECT 1")), END_OUT, END_IN };
        TALK(SERVES, crash, "server db [0,1] operation=SELECT error=_OTHER failed\n");
        struct call client[] = { ASK(QUERY("SELECT 1")), END_IN, END_OUT };
        TALK(SERVES, client, "server db [0,0] operation=SELECT unobserved\n");
        struct call amid[] = { ASK(QUERY("SELECT 1")), ANSWER(ROWS, ROW), END_OUT, END_IN };
        TALK(SERVES, amid, "server db [0,1] operation=SELECT unobserved\n");
        struct call partial[] = { ASK(M(1, "Q\0\0\0\x20SELECT")), SHUT };
        TALK(SERVES, partial, "");
        struct call grouped[] = { ASK(PARSE("", "SELECT 1"), BIND("", "")), SHUT };
        TALK(SERVES, grouped, "");
        struct call failed[] = { ASK(PARSE("", "SELECT x"), BIND("", ""), EXECUTE(""), EXECUTE(""), SYNC), ANSWER(ERROR("42703")), SHUT };
        TALK(SERVES, failed, "server db [0,1] operation=SELECT db_status=42703 failed\n");
}

/* What is no message ends it, and what was open is counted. */
static void test_not_postgres(void **state) {
        (void)state;
        static const struct { const char *bytes; size_t n; } bad[] = {
#define B(bytes) { bytes, sizeof(bytes) - 1 }
                B("\x16\3\1\2\0"), B("Q\0\0\0\3"), B("Q\x7f\0\0\0"), B("S\0\0\0\5x"), B("\0\0\0\x08\0\3\0\0"), B("Q\0\0\0\5x"), B("!\0\0\0\4"), B("P\0\0\0\x08xxxx"),
                B("E\0\0\0\x09xxxxx"), B("B\0\0\0\x0cxxxxxxxx"),
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(bad); i++) {
                struct call talk[] = { ASK(QUERY("SELECT 1")), { CALL_IN, bad[i].bytes, bad[i].n }, ASK(QUERY("SELECT 2")), ANSWER(COMPLETE("SELECT 1"), READY), SHUT };
                TALK(SERVES, talk, "lost 1\n");
        }
        static const struct { const char *bytes; size_t n; } bad_answers[] = { B("\0\0\0\0\4"), B("Z\0\0\0\4"), B("1\0\0\0\5x"), B("Q\0\0\0\5x"), B("T\0\0\0\3") };
        for (size_t i = 0; i < TEL_ARRAY_LEN(bad_answers); i++) {
                struct call talk[] = { ASK(QUERY("SELECT 1")), { CALL_OUT, bad_answers[i].bytes, bad_answers[i].n }, ANSWER(READY), SHUT };
                TALK(SERVES, talk, "lost 1\n");
        }
}

/* Joined in the middle: answers to what was not seen are passed over. */
static void test_joined_late(void **state) {
        (void)state;
        struct call talk[] = {
                ANSWER(ROW, COMPLETE("SELECT 1"), READY), ASK(BIND("", "s"), EXECUTE(""), SYNC), ANSWER(BOUND, COMPLETE("SELECT 1"), READY),
                ASK(BIND("", "s"), EXECUTE(""), SYNC), ANSWER(BOUND, M('s', ""), READY), SHUT,
        };
        TALK(SERVES, talk, "server db [1,2] operation=SELECT\nserver db [3,4]\n");
}

/* Bytes that nobody captured, within a message: only their number matters. */
static void test_gap_in_message(void **state) {
        (void)state;
        struct call talk[] = {
                ASK(M(1, "Q\0\0\x27\x1cSELECT '")), GAP_IN(9998), ASK(M(1, "'\0")), ANSWER(M(1, "T\0\0\4\4")), GAP_OUT(1024), ANSWER(M(1, "D\0\0\x03\xec\0")),
                GAP_OUT(999), ANSWER(COMPLETE("SELECT 1"), READY), ASK(QUERY("SELECT 2")), ANSWER(COMPLETE("SELECT 1"), READY), SHUT,
        };
        TALK(SERVES, talk, "server db [0,7] operation=SELECT\nserver db [8,9] operation=SELECT\n");
        struct call tail_lost[] = { ASK(QUERY("SELECT 1")), ANSWER(COMPLETE("SELECT 1"), M(1, "Z\0\0\0\5")), ASK(QUERY("SELECT 2")), GAP_OUT(1),
                                    ANSWER(COMPLETE("SELECT 1"), READY), SHUT };
        TALK(SERVES, tail_lost, "server db [0,1] operation=SELECT unobserved\nserver db [2,4] operation=SELECT\n");
}

/* Elsewhere: what was seen in part is answered or counted, and the next turn is read again. */
static void test_gap(void **state) {
        (void)state;
        struct call half[] = { ASK(M(1, "Q\0\0")), GAP_IN(20), ANSWER(COMPLETE("SELECT 1"), READY), ASK(QUERY("DELETE FROM t")), ANSWER(COMPLETE("DELETE 1"), READY), SHUT };
        TALK(SERVES, half, "server db [0,2] operation=SELECT\nserver db [3,4] operation=DELETE collection=t\n");
        struct call unit[] = { ASK(PARSE("", "SELECT 1"), BIND("", "")), GAP_IN(15), ANSWER(PARSED, BOUND, COMPLETE("SELECT 1"), READY), ASK(QUERY("DELETE FROM t")),
                               ANSWER(COMPLETE("DELETE 1"), READY), SHUT };
        TALK(SERVES, unit, "server db [0,2] operation=SELECT\nserver db [3,4] operation=DELETE collection=t\n");
        struct call sync[] = { ASK(PARSE("", "SELECT 1"), BIND("", ""), EXECUTE("")), GAP_IN(5), ANSWER(PARSED, BOUND, COMPLETE("SELECT 1"), READY), ASK(QUERY("SELECT 2")),
                               ANSWER(COMPLETE("SELECT 1"), READY), SHUT };
        TALK(SERVES, sync, "server db [0,2] operation=SELECT\nserver db [3,4] operation=SELECT\n");
        struct call two[] = { ASK(QUERY("SELECT 1")), GAP_IN(30), ASK(QUERY("SELECT 3")), ANSWER(COMPLETE("SELECT 1"), READY, COMPLETE("SELECT 1"), READY),
                              ASK(QUERY("SELECT 4")), ANSWER(COMPLETE("SELECT 1"), READY), SHUT };
        TALK(SERVES, two, "lost 1\nserver db [0,3] operation=SELECT\nserver db [4,5] operation=SELECT\n");
        struct call rows[] = { ASK(QUERY("SELECT 1")), ANSWER(ROWS, ROW), GAP_OUT(500), ANSWER(M(1, "\0\0\1x"), ROW, COMPLETE("SELECT 9")), ANSWER(READY),
                               ASK(QUERY("SELECT 2")), ANSWER(COMPLETE("SELECT 1"), READY), SHUT };
        TALK(SERVES, rows, "server db [0,4] operation=SELECT unobserved\nserver db [5,6] operation=SELECT\n");
        struct call mimic[] = { ASK(QUERY("SELECT 1")), GAP_IN(40), ANSWER(COMPLETE("SELECT 1"), READY), ASK(M(1, "P\0\0\0\x20\1\2\3\4\0xxxxxxxxxxxxxxxxxxxxxxxxxxx")),
                                ANSWER(ERROR("42601"), READY), ASK(QUERY("SELECT 2")), ANSWER(COMPLETE("SELECT 1"), READY), SHUT };
        TALK(SERVES, mimic, "lost 1\nserver db [0,2] operation=SELECT\nserver db [5,6] operation=SELECT\n");
}

/* How much of what comes need not be captured. */
static void test_skip(void **state) {
        (void)state;
        struct lossy l;
        struct lossy_parser made = lossy_start(&l, &protocol_postgres, SERVES);
        void *s = made.state;
        uint64_t (*left)(const void *, enum direction) = protocol_postgres.skip;   /* cmocka has a macro of that name */
        static const char row[] = "D\0\0\4\4x", query[] = "Q\0\1\0\0SELECT", password[] = "p\0\0\1\0secret";
        struct chunk at = { .direction = DIRECTION_OUT, .data = (const uint8_t *)row, .n = sizeof(row) - 1 };
        assert_int_equal(left(s, DIRECTION_OUT), 0);
        protocol_postgres.data(s, &at);
        assert_int_equal(left(s, DIRECTION_OUT), 1023);
        assert_int_equal(left(s, DIRECTION_IN), 0);
        at = (struct chunk){ .direction = DIRECTION_IN, .data = (const uint8_t *)password, .n = sizeof(password) - 1 };
        protocol_postgres.data(s, &at);
        assert_int_equal(left(s, DIRECTION_IN), 246);
        protocol_postgres.gap(s, &(struct chunk){ .direction = DIRECTION_IN }, 246);
        at = (struct chunk){ .direction = DIRECTION_IN, .data = (const uint8_t *)query, .n = sizeof(query) - 1 };
        protocol_postgres.data(s, &at);
        assert_int_equal(left(s, DIRECTION_IN), 0);                    /* its first 4 KiB are wanted */
        protocol_postgres.gap(s, &(struct chunk){ .direction = DIRECTION_IN }, 1);
        assert_int_equal(left(s, DIRECTION_IN), 65536 - 4 - 6 - 1);    /* what is behind missing bytes is not */
        lossy_finish(&l, &protocol_postgres, made);
}

/* Queries one by one, in one call or several: spans and counted losses are the queries, whichever call is lost. */
static void test_any_call_lost(void **state) {
        (void)state;
        struct call calls[] = {
                ASK(QUERY("SELECT 1")), ANSWER(ROWS, ROW, COMPLETE("SELECT 1"), READY),
                ASK(M(1, "Q\0\0\0\x1cSELECT 'aaaa")), ASK(M(1, "aaaaaaaaaa'\0")), ANSWER(ROWS, ROW), ANSWER(ROW, ROW), ANSWER(COMPLETE("SELECT 3"), READY),
                ASK(PARSE("s", "SELECT 1")), ASK(BIND("", "s"), DESCRIBE), ASK(EXECUTE("")), ASK(SYNC), ANSWER(PARSED, BOUND), ANSWER(ROWS, ROW),
                ANSWER(COMPLETE("SELECT 1")), ANSWER(READY),
                ASK(BIND("", "s"), EXECUTE(""), SYNC), ANSWER(BOUND, COMPLETE("SELECT 1"), READY),
                ASK(BIND("", "s"), EXECUTE(""), SYNC), ANSWER(ERROR("23505")), ANSWER(READY),
                ASK(QUERY("INSERT INTO t VALUES (1)")), ANSWER(ERROR("23505"), READY), ASK(QUERY("SELECT 2")), ANSWER(COMPLETE("SELECT 1"), READY),
        };
        assert_any_call_lost(&protocol_postgres, calls, TEL_ARRAY_LEN(calls), 7);
}

/* ReadyForQuery shows before the query that it answers. */
static void test_answer_before_query(void **state) {
        (void)state;
        struct lossy l;
        struct lossy_parser made = lossy_start(&l, &protocol_postgres, CALLS);
        struct call asks[] = { LATER_ASK(QUERY("SELECT 1")), LATER_ASK(PARSE("", "SELECT 1"), BIND("", ""), EXECUTE(""), SYNC) };
        struct call answers[] = { ANSWER(COMPLETE("SELECT 1"), READY), ANSWER(PARSED, BOUND, COMPLETE("SELECT 1"), READY) };
        for (uint64_t i = 1; i < 12; i++) {
                bool early = i % 3 == 0;
                struct call *a = &asks[i / 3 % 2], *b = &answers[i / 3 % 2];
                struct chunk ask = { .direction = DIRECTION_OUT, .data = (const uint8_t *)a->bytes, .n = a->n, .start_ns = 1000 * i + (early ? 500 : 100), .end_ns = 1000 * i + (early ? 500 : 100) };
                struct chunk answer = { .direction = DIRECTION_IN, .data = (const uint8_t *)b->bytes, .n = b->n, .start_ns = 1000 * i + 200, .end_ns = 1000 * i + 300 };
                protocol_postgres.data(made.state, early ? &answer : &ask);
                protocol_postgres.data(made.state, early ? &ask : &answer);
                assert_int_equal(l.spans, i);
        }
        lossy_finish(&l, &protocol_postgres, made);
}

/* More outstanding than are kept: counted, and what comes after their Sync is followed again. */
static void test_bound(void **state) {
        (void)state;
        enum { MANY = 5000 };
        struct lossy l;
        struct call calls[] = { { CALL_IN, NULL, 0 }, { CALL_OUT, NULL, 0 }, ASK(BIND("", ""), EXECUTE(""), SYNC), ANSWER(BOUND, COMPLETE("SELECT 1"), READY) };
        calls[0] = build(CALL_IN, PARSE("", "SELECT 1"), BIND("", ""), -1);
        for (size_t i = 0; i < MANY; i++)
                calls[0].n += build(CALL_IN, EXECUTE(""), -1).n;
        calls[0].n += build(CALL_IN, SYNC, SYNC, SYNC, -1).n;
        calls[1] = build(CALL_OUT, PARSED, BOUND, -1);
        for (size_t i = 0; i < MANY; i++)
                calls[1].n += build(CALL_OUT, COMPLETE("SELECT 1"), -1).n;
        calls[1].n += build(CALL_OUT, READY, READY, READY, -1).n;
        lossy_run(&l, &protocol_postgres, SERVES, calls, TEL_ARRAY_LEN(calls), SIZE_MAX);
        assert_int_equal(l.spans, 4095 + 1);
        assert_int_equal(l.lost, MANY - 4095);
}

/* Statements by name: the one used longest ago leaves when there are too many; names are told apart by their first 63 bytes. */
static void test_statements(void **state) {
        (void)state;
        struct statements *t = NULL;
        struct sql q;
        char name[100];
        sql_read("SELECT a FROM t", 15, true, true, &q);
        struct statement *s = statement_new(&q), *other = statement_new(&q);
        assert_null(statements_get(t, STATEMENT_PREPARED, (const uint8_t *)"x", 1));
        statements_put(&t, STATEMENT_PREPARED, (const uint8_t *)"x", 1, NULL);
        assert_null(t);
        for (int i = 0; i < STATEMENTS_MAX; i++)
                statements_put(&t, STATEMENT_PREPARED, (uint8_t *)name, (size_t)snprintf(name, sizeof(name), "s%d", i), s);
        assert_ptr_equal(statements_get(t, STATEMENT_PREPARED, (const uint8_t *)"s0", 2), s);
        assert_null(statements_get(t, STATEMENT_PORTAL, (const uint8_t *)"s0", 2));
        statements_put(&t, STATEMENT_PORTAL, (const uint8_t *)"p", 1, other);
        assert_ptr_equal(statements_get(t, STATEMENT_PREPARED, (const uint8_t *)"s0", 2), s);
        assert_null(statements_get(t, STATEMENT_PREPARED, (const uint8_t *)"s1", 2));
        assert_ptr_equal(statements_get(t, STATEMENT_PREPARED, (const uint8_t *)"s2", 2), s);
        statements_put(&t, STATEMENT_PREPARED, (const uint8_t *)"s2", 2, other);
        assert_ptr_equal(statements_get(t, STATEMENT_PREPARED, (const uint8_t *)"s2", 2), other);
        statements_put(&t, STATEMENT_PREPARED, (const uint8_t *)"s2", 2, NULL);
        assert_null(statements_get(t, STATEMENT_PREPARED, (const uint8_t *)"s2", 2));
        memset(name, 'n', sizeof(name));
        statements_put(&t, STATEMENT_PREPARED, (uint8_t *)name, 100, s);
        assert_ptr_equal(statements_get(t, STATEMENT_PREPARED, (uint8_t *)name, 63), s);
        assert_null(statements_get(t, STATEMENT_PREPARED, (uint8_t *)name, 62));
        statements_put(&t, STATEMENT_PORTAL, (const uint8_t *)"", 0, s);
        assert_ptr_equal(statements_get(t, STATEMENT_PORTAL, (const uint8_t *)"", 0), s);
        statement_unref(s);
        statement_unref(other);
        statements_free(t);
}

/* Told from others by its first bytes, in pieces too. */
static void test_match(void **state) {
        (void)state;
        struct row {
                struct call bytes;
                enum protocol_match match;
        };
        struct row rows[] = {
                { ASK(STARTUP), MATCH_REQUEST }, { ASK(M(0, "\4\xd2\x16\x2f")), MATCH_REQUEST }, { ASK(M(0, "\4\xd2\x16\x30")), MATCH_REQUEST },
                { ASK(M(0, "\4\xd2\x16\x2e\0\0\0\1\0\0\0\2")), MATCH_REQUEST }, { ASK(M(0, "\4\xd2\x16\x31")), MATCH_NO }, { ASK(M(0, "\0\3\0\0\1\2\3\4\5\6")), MATCH_NO },
                { ASK(QUERY("SELECT 1")), MATCH_REQUEST }, { ASK(QUERY("SELECT a_long_column, another_long_column FROM t")), MATCH_REQUEST },
                { ASK(QUERY("")), MATCH_REQUEST }, { ASK(QUERY("-- ping")), MATCH_REQUEST }, { ASK(M('Q', "SELECT 1")), MATCH_NO }, { ASK(M('Q', "\1\2\3\4\5\0")), MATCH_NO },
                { ASK(M('Q', "SEL\0ECT 1\0")), MATCH_NO }, { ASK(PARSE("", "SELECT 1"), SYNC), MATCH_REQUEST }, { ASK(PARSE("stmtcache_0123456789abcdef0123456789abcdef", "SELECT 1")), MATCH_REQUEST },
                { ASK(BIND("", ""), EXECUTE("")), MATCH_REQUEST }, { ASK(EXECUTE(""), SYNC), MATCH_REQUEST }, { ASK(EXECUTE("S_1"), SYNC), MATCH_REQUEST },
                { ASK(M('D', "SS_1\0"), SYNC), MATCH_REQUEST }, { ASK(CLOSE("S", "S_1"), SYNC), MATCH_REQUEST }, { ASK(CLOSE("S", "ab"), SYNC), MATCH_REQUEST },
                { ASK(SYNC), MATCH_NO }, { ASK(M('X', "")), MATCH_NO }, { ASK(M('p', "secret")), MATCH_NO }, { ASK(M('d', "SELECT 1")), MATCH_NO },
                { ANSWER(READY), MATCH_ANSWER }, { ANSWER(PARSED, BOUND), MATCH_ANSWER }, { ANSWER(BOUND, NO_DATA), MATCH_ANSWER }, { ANSWER(COMPLETE("BEGIN"), READY), MATCH_ANSWER },
                { ANSWER(COMPLETE("SELECT 1"), READY), MATCH_ANSWER }, { ANSWER(ROWS, ROW), MATCH_ANSWER }, { ANSWER(ERROR("42601")), MATCH_ANSWER },
                { ANSWER(M('N', "SWARNUNG\0VWARNING\0C01000\0\0")), MATCH_ANSWER }, { ANSWER(M('R', "\0\0\0\0")), MATCH_ANSWER }, { ANSWER(M('R', "\1\0\0\0")), MATCH_NO },
                { ANSWER(M('t', "\0\1\0\0\0\x17")), MATCH_ANSWER }, { ANSWER(M('G', "\0\0\1\0\0")), MATCH_ANSWER }, { ANSWER(M('Z', "X")), MATCH_NO },
                { ASK(M(1, "POST / HTTP/1.1\r\n")), MATCH_NO }, { ASK(M(1, "PUT /a HTTP/1.1\r\n")), MATCH_NO }, { ASK(M(1, "CONNECT a:1 HTTP/1.1\r\n")), MATCH_NO },
                { ASK(M(1, "DELETE / HTTP/1.1\r\n")), MATCH_NO }, { ASK(M(1, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")), MATCH_NO }, { ASK(M(1, "HTTP/1.1 200 OK\r\n")), MATCH_NO },
                { ASK(M(1, "\0\0\x12\4\0\0\0\0\0\0\3\0\0\0\x64")), MATCH_NO }, { ASK(M(1, "\0\0\0\4\1\0\0\0\0")), MATCH_NO }, { ASK(M(1, "\0\0\x08\6\0\0\0\0\0")), MATCH_NO },
                { ASK(M(1, "*1\r\n$4\r\nPING\r\n")), MATCH_NO }, { ASK(M(1, "+OK\r\n")), MATCH_NO }, { ASK(M(1, "$3\r\nabc\r\n")), MATCH_NO }, { ASK(M(1, "-ERR x\r\n")), MATCH_NO },
                { ASK(M(1, "\x16\3\1\2\0\1\0\1\xfc\3\3")), MATCH_NO }, { ASK(M(1, "\x51\0\0\0\3SELECT 1")), MATCH_NO }, { ASK(M(1, "Z\0\0\1\5abcdefghijklmnopqrstuvwxyz0123")), MATCH_NO },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++) {
                const uint8_t *bytes = (const uint8_t *)rows[i].bytes.bytes;
                size_t n = TEL_MIN(rows[i].bytes.n, (size_t)PROTOCOL_MATCH_MAX);
                bool none = false;
                for (size_t k = 1; k <= n; k++) {
                        uint8_t *copy = malloc(k);
                        memcpy(copy, bytes, k);
                        none = none || protocol_postgres.match(copy, k) == MATCH_NO;
                        free(copy);
                        if (none && rows[i].match != MATCH_NO)
                                print_error("row %zu at byte %zu\n", i, k);
                        assert_true(!none || rows[i].match == MATCH_NO);
                }
                if (protocol_postgres.match(bytes, n) != rows[i].match)
                        print_error("row %zu\n", i);
                assert_int_equal(protocol_postgres.match(bytes, n), rows[i].match);
        }
        uint8_t longest[PROTOCOL_MATCH_MAX];
        for (int type = 0; type < 256; type++)
                for (int fill = 0; fill < 256; fill++) {
                        memset(longest, fill, sizeof(longest));
                        longest[0] = (uint8_t)type;
                        longest[1] = 0;
                        assert_int_not_equal(protocol_postgres.match(longest, sizeof(longest)), MATCH_MORE);
                }
}

/* What real clients said: as many statements as the server logged. */
static void test_captured(void **state) {
        (void)state;
        static const struct captured_count psql[] = {
                { "", 15 }, { "SELECT", 5 }, { "CREATE", 1 }, { "INSERT", 2 }, { "UPDATE", 1 }, { "DELETE", 1 }, { "COPY", 2 }, { "BEGIN", 1 }, { "ROLLBACK", 1 },
                { "DROP", 1 }, { "failed", 2 }, { NULL, 0 },
        };
        assert_captured(&protocol_postgres, "postgres/psql.talk", psql);
        static const struct captured_count pgbench[] = { { "", 16 }, { "SELECT", 4 }, { "UPDATE", 6 }, { "INSERT", 2 }, { "BEGIN", 2 }, { "END", 2 }, { "failed", 0 }, { NULL, 0 } };
        assert_captured(&protocol_postgres, "postgres/pgbench.talk", pgbench);
        static const struct captured_count pipeline[] = { { "", 9 }, { "SELECT", 6 }, { "UPDATE", 3 }, { "failed", 0 }, { NULL, 0 } };
        assert_captured(&protocol_postgres, "postgres/pipeline.talk", pipeline);
        static const struct captured_count pgx[] = { { "", 9 }, { "CREATE", 1 }, { "INSERT", 4 }, { "SELECT", 2 }, { "COPY", 1 }, { "DROP", 1 }, { "failed", 2 }, { NULL, 0 } };
        assert_captured(&protocol_postgres, "postgres/pgx.talk", pgx);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(test_session, reset),
                cmocka_unit_test_setup(test_encrypted, reset),
                cmocka_unit_test_setup(test_simple, reset),
                cmocka_unit_test_setup(test_text, reset),
                cmocka_unit_test_setup(test_extended, reset),
                cmocka_unit_test_setup(test_long_names, reset),
                cmocka_unit_test_setup(test_portals, reset),
                cmocka_unit_test_setup(test_pipeline, reset),
                cmocka_unit_test_setup(test_parse_alone, reset),
                cmocka_unit_test_setup(test_copy, reset),
                cmocka_unit_test_setup(test_function_call, reset),
                cmocka_unit_test_setup(test_ends, reset),
                cmocka_unit_test_setup(test_not_postgres, reset),
                cmocka_unit_test_setup(test_joined_late, reset),
                cmocka_unit_test_setup(test_gap_in_message, reset),
                cmocka_unit_test_setup(test_gap, reset),
                cmocka_unit_test_setup(test_skip, reset),
                cmocka_unit_test_setup(test_any_call_lost, reset),
                cmocka_unit_test_setup(test_answer_before_query, reset),
                cmocka_unit_test_setup(test_bound, reset),
                cmocka_unit_test(test_statements),
                cmocka_unit_test_setup(test_match, reset),
                cmocka_unit_test(test_captured),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
