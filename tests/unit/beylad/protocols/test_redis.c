/* SPDX-License-Identifier: Apache-2.0 */
#include "captured.h"
#include "lossy.h"

#include "beylad/protocols/outstanding.h"

#define TALK(role, talk, expected) assert_talk(&protocol_redis, role, talk, TEL_ARRAY_LEN(talk), expected)
#define SERVES EXCHANGE_SERVER
#define CALLS EXCHANGE_CLIENT
#define GET_A "*2\r\n$3\r\nGET\r\n$1\r\na\r\n"
#define GET_B "*2\r\n$3\r\nget\r\n$1\r\nb\r\n"
#define SET_A "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5\r\nhello\r\n"
#define PING "*1\r\n$4\r\nPING\r\n"

/* One command, one answer, seen from either end; the command's name is in upper case, nothing else of it is kept. */
static void test_single(void **state) {
        (void)state;
        static const struct call served[] = { IN(SET_A), OUT("+OK\r\n"), IN(GET_B), OUT("$5\r\nhello\r\n"), IN(GET_A), OUT("$-1\r\n"), SHUT };
        static const struct call called[] = { OUT(SET_A), IN("+OK\r\n"), OUT(GET_B), IN("$5\r\nhello\r\n"), OUT(GET_A), IN("$-1\r\n"), SHUT };
        TALK(SERVES, served, "server db [0,1] operation=SET\nserver db [2,3] operation=GET\nserver db [4,5] operation=GET\n");
        TALK(CALLS, called, "client db [0,1] operation=SET\nclient db [2,3] operation=GET\nclient db [4,5] operation=GET\n");
}

/* Each command of a pipeline is an exchange; answers come in order, in as many calls as the server likes. */
static void test_pipeline(void **state) {
        (void)state;
        static const struct call talk[] = { IN(SET_A GET_A), IN("*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n"), OUT("+OK\r\n$5\r\nhel"), OUT("lo\r\n"), OUT(":1\r\n"), SHUT };
        TALK(SERVES, talk, "server db [0,2] operation=SET\nserver db [0,3] operation=GET\nserver db [1,4] operation=INCR\n");
}

/* Requests may come before all answers went: still in order. */
static void test_overlapping(void **state) {
        (void)state;
        static const struct call talk[] = { IN(GET_A GET_B), OUT("$1\r\n1\r\n"), IN(PING), OUT("$1\r\n2\r\n"), OUT("+PONG\r\n"), SHUT };
        TALK(SERVES, talk, "server db [0,1] operation=GET\nserver db [0,3] operation=GET\nserver db [2,4] operation=PING\n");
}

/* An error names itself in its first word. */
static void test_errors(void **state) {
        (void)state;
        static const struct call talk[] = {
                IN(GET_A), OUT("-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
                IN(GET_A), OUT("-MOVED 3999 127.0.0.1:6381\r\n"),
                IN(GET_A), OUT("-LOADING\r\n"),
                IN(GET_A), OUT("!21\r\nSYNTAX invalid syntax\r\n"),
                IN(GET_A), OUT("-words of a script\r\n"),
                IN("*1\r\n$8\r\nhunter22\r\n"), OUT("-ERR unknown command 'hunter22', with args beginning with: \r\n"),
                IN("*2\r\n$6\r\nCONFIG\r\n$8\r\nhunter22\r\n"), OUT("-ERR unknown subcommand 'hunter22'. Try CONFIG HELP.\r\n"), SHUT,
        };
        TALK(SERVES, talk,
             "server db [0,1] operation=GET db_status=WRONGTYPE failed\n"
             "server db [2,3] operation=GET db_status=MOVED failed\n"
             "server db [4,5] operation=GET db_status=LOADING failed\n"
             "server db [6,7] operation=GET db_status=SYNTAX failed\n"
             "server db [8,9] operation=GET failed\n"
             "server db [10,11] db_status=ERR failed\n"
             "server db [12,13] operation=CONFIG db_status=ERR failed\n");
}

/* Commands with subcommands have both words as their name. */
static void test_names(void **state) {
        (void)state;
        static const struct call talk[] = {
                IN("*3\r\n$6\r\nconfig\r\n$3\r\nget\r\n$4\r\nsave\r\n"), OUT("*2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
                IN("*2\r\n$6\r\nCLIENT\r\n$8\r\nNO-EVICT\r\n"), OUT("+OK\r\n"),
                IN("*4\r\n$6\r\nCLIENT\r\n$7\r\nSETINFO\r\n$8\r\nLIB-NAME\r\n$8\r\nredis-py\r\n"), OUT("+OK\r\n"),
                IN("*1\r\n$7\r\nCOMMAND\r\n"), OUT("*0\r\n"),
                IN("*2\r\n$9\r\nFT.SEARCH\r\n$1\r\nx\r\n"), OUT("*1\r\n:0\r\n"),
                IN("*2\r\n$6\r\n\0\1\2xyz\r\n$1\r\nx\r\n"), OUT("-ERR unknown command\r\n"),
                IN("*1\r\n$33\r\nABCDEFGHIJABCDEFGHIJABCDEFGHIJABC\r\n"), OUT("-ERR unknown command\r\n"),
                IN("*3\r\n$4\r\nAUTH\r\n$3\r\nbob\r\n$6\r\nsecret\r\n"), OUT("+OK\r\n"), SHUT,
        };
        TALK(SERVES, talk,
             "server db [0,1] operation=CONFIG GET\nserver db [2,3] operation=CLIENT NO-EVICT\nserver db [4,5] operation=CLIENT SETINFO\n"
             "server db [6,7] operation=COMMAND\nserver db [8,9] operation=FT.SEARCH\nserver db [10,11] db_status=ERR failed\n"
             "server db [12,13] db_status=ERR failed\nserver db [14,15] operation=AUTH\n");
}

/* The text has a ? for each argument, and only when asked for. */
static void test_text(void **state) {
        (void)state;
        static const struct protocol_options options = { .db_text = true };
        static const struct call talk[] = {
                IN(SET_A), OUT("+OK\r\n"), IN("*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$4\r\nsave\r\n"), OUT("*0\r\n"), IN(PING), OUT("+PONG\r\n"),
                IN("SET \"a b\" 'c'\r\n"), OUT("+OK\r\n"),
                IN("*19\r\n$3\r\nDEL\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n"
                   "$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n"), OUT(":1\r\n"), SHUT,
        };
        assert_talk_options(&protocol_redis, SERVES, &options, talk, TEL_ARRAY_LEN(talk),
                            "server db [0,1] operation=SET text=SET ? ?\nserver db [2,3] operation=CONFIG GET text=CONFIG GET ?\n"
                            "server db [4,5] operation=PING text=PING\nserver db [6,7] operation=SET text=SET ? ?\n"
                            "server db [8,9] operation=DEL text=DEL ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ?\n");
}

#define SELECT(n) "*2\r\n$6\r\nSELECT\r\n$1\r\n" #n "\r\n"

/* The database is known once a SELECT succeeded, also within a pipeline or a transaction. */
static void test_namespace(void **state) {
        (void)state;
        static const struct call plain[] = {
                IN(GET_A), OUT("$-1\r\n"), IN(SELECT(5) GET_A), OUT("+OK\r\n$-1\r\n"), IN(SELECT(9)), OUT("-ERR DB index is out of range\r\n"),
                IN(GET_A), OUT("$-1\r\n"), IN("*1\r\n$5\r\nRESET\r\n"), OUT("+RESET\r\n"), SHUT,
        };
        TALK(SERVES, plain,
             "server db [0,1] operation=GET\nserver db [2,3] operation=SELECT namespace=5\nserver db [2,3] operation=GET namespace=5\n"
             "server db [4,5] operation=SELECT namespace=5 db_status=ERR failed\nserver db [6,7] operation=GET namespace=5\n"
             "server db [8,9] operation=RESET namespace=0\n");
        static const struct call queued[] = {
                IN("*1\r\n$5\r\nMULTI\r\n"), OUT("+OK\r\n"), IN(SELECT(3)), OUT("+QUEUED\r\n"), IN(GET_A), OUT("+QUEUED\r\n"),
                IN("*1\r\n$4\r\nEXEC\r\n"), OUT("*2\r\n+OK\r\n-WRONGTYPE x\r\n"), IN(GET_A), OUT("$-1\r\n"),
                IN("*1\r\n$5\r\nMULTI\r\n" SELECT(4) "*1\r\n$4\r\nEXEC\r\n" PING), OUT("+OK\r\n+QUEUED\r\n*-1\r\n+PONG\r\n"),
                IN("*1\r\n$5\r\nMULTI\r\n" SELECT(5) "*1\r\n$7\r\nDISCARD\r\n"), OUT("+OK\r\n+QUEUED\r\n+OK\r\n"),
                IN("*1\r\n$5\r\nMULTI\r\n" PING "*1\r\n$4\r\nEXEC\r\n"), OUT("+OK\r\n+QUEUED\r\n*1\r\n+PONG\r\n"), SHUT,
        };
        TALK(SERVES, queued,
             "server db [0,1] operation=MULTI\nserver db [2,3] operation=SELECT\nserver db [4,5] operation=GET\n"
             "server db [6,7] operation=EXEC namespace=3\nserver db [8,9] operation=GET namespace=3\n"
             "server db [10,11] operation=MULTI namespace=3\nserver db [10,11] operation=SELECT namespace=3\n"
             "server db [10,11] operation=EXEC namespace=3\nserver db [10,11] operation=PING namespace=3\n"
             "server db [12,13] operation=MULTI namespace=3\nserver db [12,13] operation=SELECT namespace=3\n"
             "server db [12,13] operation=DISCARD namespace=3\nserver db [14,15] operation=MULTI namespace=3\n"
             "server db [14,15] operation=PING namespace=3\nserver db [14,15] operation=EXEC namespace=3\n");
}

/* Every kind of value, nested and streamed, is one answer. */
static void test_values(void **state) {
        (void)state;
        static const char *const values[] = {
                "+OK\r\n", ":-1\r\n", "$0\r\n\r\n", "$5\r\na\r\n+b\r\n", "*0\r\n", "*-1\r\n", "*2\r\n*1\r\n:1\r\n*2\r\n$1\r\na\r\n*0\r\n", "_\r\n", "#t\r\n",
                ",1.5e3\r\n", ",inf\r\n", "(349999999999999999999999999999999999\r\n", "=7\r\ntxt:abc\r\n", "%2\r\n+a\r\n:1\r\n+b\r\n%1\r\n+c\r\n:2\r\n",
                "~2\r\n+a\r\n#f\r\n", "|1\r\n+ttl\r\n:3600\r\n*1\r\n|1\r\n+x\r\n*2\r\n:1\r\n:2\r\n+a\r\n", "|0\r\n+OK\r\n", "$?\r\n;4\r\nabcd\r\n;1\r\n.\r\n;0\r\n",
                "*?\r\n:1\r\n*?\r\n$?\r\n;0\r\n.\r\n%?\r\n+a\r\n:1\r\n.\r\n|1\r\n+x\r\n+y\r\n:2\r\n.\r\n", "*1\r\n-ERR inside\r\n",
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(values); i++) {
                struct call talk[] = { IN(PING GET_A), { CALL_OUT, values[i], strlen(values[i]) }, OUT("+OK\r\n"), SHUT };
                print_message("%s", values[i]);
                TALK(SERVES, talk, "server db [0,1] operation=PING\nserver db [0,2] operation=GET\n");
        }
}

/* What is no RESP ends it; what is open was seen, and is counted. */
static void test_not_resp(void **state) {
        (void)state;
        static const char *const answers[] = {
                "HTTP/1.1 200 OK\r\n", "+OK\r\r", "$x\r\n", "$-2\r\n", "$99999999999999999999\r\n", "*-1x\r\n", "_x\r\n", ".\r\n", ";1\r\na\r\n", "$?\r\n+a\r\n",
                ":?\r\n", "*1\r\n>1\r\n", ":\r\n", "$1\r\nab\r\n", "*1\r\n.\r\n", "*9999999999999\r\n", "~-1\r\n", "*?\r\n*1\r\n.\r\n",
                "|1\r\n|1\r\n|1\r\n|1\r\n|1\r\n|1\r\n|1\r\n|1\r\n|1\r\n",
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(answers); i++) {
                struct call talk[] = { IN(PING), { CALL_OUT, answers[i], strlen(answers[i]) }, IN(GET_A), OUT("+OK\r\n"), SHUT };
                print_message("%s", answers[i]);
                TALK(SERVES, talk, "lost 1\n");
        }
        static const char *const asks[] = {
                "*x\r\n", "*1\r\n:1\r\n", "*1\r\n$-1\r\n", "*1\r\n$?\r\n", "*?\r\n", "*9999999999\r\n", "*1\r\n$4\r\nPINGx\r\n", "$4\r\nPING\r\n", "USER bob\r\n",
                "\1\2", "*1\r\n$4\r\nPING\r\r",
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(asks); i++) {
                struct call talk[] = { IN(GET_A), { CALL_IN, asks[i], strlen(asks[i]) }, OUT("+OK\r\n"), SHUT };
                print_message("%s", asks[i]);
                TALK(SERVES, talk, "lost 1\n");
        }
        /* It never was Redis: nothing is counted. */
        static const struct call nats[] = { IN("PING\r\n"), OUT("PONG\r\n"), SHUT };
        TALK(SERVES, nats, "");
        static const struct call pop3[] = { OUT("+OK\r\n"), IN("USER bob\r\n"), OUT("+OK\r\n"), SHUT };
        TALK(SERVES, pop3, "");
}

/* What people type: words in a line. Empty lines and empty arrays are no commands. */
static void test_inline(void **state) {
        (void)state;
        static const struct call talk[] = {
                IN("PING\r\n"), OUT("+PONG\r\n"), IN("\r\n\n*0\r\n*-1\r\nset a \"b c\\\" d\" \n"), OUT("+OK\r\n"), IN("config get save\r\n" GET_A),
                OUT("*0\r\n$-1\r\n"), IN("quit\r\n"), OUT("+OK\r\n"), SHUT,
        };
        TALK(SERVES, talk,
             "server db [0,1] operation=PING\nserver db [2,3] operation=SET\nserver db [4,5] operation=CONFIG GET\nserver db [4,5] operation=GET\n"
             "server db [6,7] operation=QUIT\n");
}

#define SUBSCRIBE "*3\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n$1\r\nb\r\n"
#define CONFIRM(kind, channel, n) kind "\r\n$9\r\nsubscribe\r\n$1\r\n" channel "\r\n:" n "\r\n"

/* A subscription ends with its last confirmation; messages are nobody's answer. RESP2 sends arrays. */
static void test_subscribe(void **state) {
        (void)state;
        static const struct call resp2[] = {
                IN(SUBSCRIBE), OUT(CONFIRM("*3", "a", "1")), OUT("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n" CONFIRM("*3", "b", "2")),
                OUT("*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$1\r\na\r\n$2\r\nhi\r\n"), IN(PING),
                OUT("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n"), IN("*1\r\n$11\r\nUNSUBSCRIBE\r\n"),
                OUT("*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:0\r\n"),
                IN("*4\r\n$6\r\nLRANGE\r\n$1\r\na\r\n$1\r\n0\r\n$1\r\n1\r\n"), OUT("*1\r\n$7\r\nmessage\r\n"), SHUT,
        };
        TALK(SERVES, resp2,
             "server db [0,2] operation=SUBSCRIBE\nserver db [4,5] operation=PING\nserver db [6,7] operation=UNSUBSCRIBE\nserver db [8,9] operation=LRANGE\n");
        static const struct call resp3[] = {
                OUT("*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"), IN("%1\r\n$5\r\nproto\r\n:3\r\n"), OUT(SUBSCRIBE GET_A),
                IN(CONFIRM(">3", "a", "1") CONFIRM(">3", "b", "2") ">3\r\n+message\r\n+a\r\n+x\r\n$-1\r\n"), IN(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n"),
                OUT(GET_A), IN(">3\r\n+message\r\n+a\r\n+x\r\n*2\r\n$7\r\nmessage\r\n+x\r\n"), SHUT,
        };
        TALK(CALLS, resp3,
             "client db [0,1] operation=HELLO\nclient db [2,3] operation=SUBSCRIBE\nclient db [2,3] operation=GET\nclient db [5,6] operation=GET\n");
        /* Each push in a call of its own, and the answers in theirs: none is taken for the other. */
        static const struct call apart[] = {
                OUT(SUBSCRIBE), IN(CONFIRM(">3", "a", "1")), IN(CONFIRM(">3", "b", "2")), OUT(GET_A), IN(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n"),
                IN(">3\r\n+message\r\n+a\r\n+x\r\n"), IN("$-1\r\n"), SHUT,
        };
        TALK(CALLS, apart, "client db [0,2] operation=SUBSCRIBE\nclient db [3,6] operation=GET\n");
        static const struct call refused[] = { IN(SUBSCRIBE PING), OUT("-NOPERM no\r\n+PONG\r\n"), SHUT };
        TALK(SERVES, refused, "server db [0,1] operation=SUBSCRIBE db_status=NOPERM failed\nserver db [0,1] operation=PING\n");
}

/* MONITOR and a replication link: what follows is not for us. */
static void test_streams(void **state) {
        (void)state;
        static const struct call monitor[] = {
                IN("*1\r\n$7\r\nMONITOR\r\n"), OUT("+OK\r\n+1339518083.107412 [0 127.0.0.1:60866] \"keys\" \"*\"\r\n"),
                OUT("+1339518087.877697 [0 127.0.0.1:60866] \"dbsize\"\r\n"), IN("*1\r\n$4\r\nQUIT\r\n"), OUT("+1.1 [0 lua] \"x\"\r\n"), OUT("+OK\r\n"), SHUT,
        };
        TALK(SERVES, monitor, "server db [0,1] operation=MONITOR\nserver db [3,5] operation=QUIT\n");
        static const struct call replica[] = {
                IN("*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n"), OUT("+FULLRESYNC 8de1787ba490483314a4d30f1c628bc5025eb761 0\r\n$3\r\nRDB*3\r\n$3\r\nSET\r\n"),
                IN("*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$1\r\n1\r\n"), SHUT,
        };
        TALK(SERVES, replica, "server db [0,1] operation=PSYNC\n");
        static const struct call goes_on[] = {         /* where it left off: commands come as answers, and acknowledgements as commands */
                IN("*3\r\n$5\r\nPSYNC\r\n$3\r\nabc\r\n$1\r\n7\r\n"), OUT("+CONTINUE\r\n"), OUT(PING SET_A),
                IN("*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$2\r\n21\r\n"), OUT(PING), SHUT,
        };
        TALK(SERVES, goes_on, "server db [0,1] operation=PSYNC\n");
}

#define REPLY(n, mode) "*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$" #n "\r\n" mode "\r\n"

/* Commands that are not answered end with their last byte, and say that no end was seen. */
static void test_reply_off(void **state) {
        (void)state;
        static const struct call talk[] = {
                IN(REPLY(4, "SKIP") GET_A GET_B), OUT("$1\r\nb\r\n"), IN(REPLY(3, "off") GET_A), IN(GET_B REPLY(2, "ON")), OUT("+OK\r\n"), IN(PING),
                OUT("+PONG\r\n"), IN(REPLY(3, "OFF")), OUT("-NOPERM no\r\n"), IN(PING), OUT("+PONG\r\n"), IN(REPLY(3, "OFF") "*1\r\n$5\r\nRESET\r\n"),
                OUT("+RESET\r\n"), SHUT,
        };
        TALK(SERVES, talk,
             "server db [0,0] operation=CLIENT REPLY unobserved\nserver db [0,0] operation=GET unobserved\nserver db [0,1] operation=GET\n"
             "server db [2,2] operation=CLIENT REPLY unobserved\nserver db [2,2] operation=GET unobserved\nserver db [3,3] operation=GET unobserved\n"
             "server db [3,4] operation=CLIENT REPLY\nserver db [5,6] operation=PING\nserver db [7,7] operation=CLIENT REPLY unobserved\n"
             "server db [9,10] operation=PING\nserver db [11,11] operation=CLIENT REPLY unobserved\nserver db [11,12] operation=RESET namespace=0\n");
}

/* The end of a connection: the one who owes an answer left first, or the one who asked did, or the command never was whole. */
static void test_ends(void **state) {
        (void)state;
        static const struct call server_left[] = { IN(GET_A GET_B), OUT("$1\r\n1"), END_OUT, END_IN };
        TALK(SERVES, server_left, "server db [0,1] operation=GET unobserved\nserver db [0,2] operation=GET error=_OTHER failed\n");
        static const struct call client_left[] = { IN("*3\r\n$5\r\nBLPOP\r\n$1\r\na\r\n$1\r\n0\r\n"), END_IN, END_OUT };
        TALK(SERVES, client_left, "server db [0,0] operation=BLPOP unobserved\n");
        static const struct call half_closed[] = { IN(PING), END_IN, OUT("+PONG\r\n"), END_OUT };
        TALK(SERVES, half_closed, "server db [0,2] operation=PING\n");
        static const struct call partial[] = { IN(PING "*2\r\n$3\r\nGET\r\n"), OUT("+PONG\r\n"), SHUT };
        TALK(SERVES, partial, "server db [0,1] operation=PING\n");
        static const struct call refused[] = { IN("*1000000000\r\n$3\r\nGET\r\n"), OUT("-ERR Protocol error: invalid multibulk length\r\n"), SHUT };
        TALK(SERVES, refused, "server db [0,1] operation=GET db_status=ERR failed\n");
        static const struct call missing[] = { IN(GET_A), GAP_OUT(1), END_OUT, END_IN };       /* it may have been answered */
        TALK(SERVES, missing, "server db [0,1] operation=GET unobserved\n");
        static const struct call skipped[] = { IN(GET_A), OUT("$9\r\n"), GAP_OUT(11), IN(GET_A), END_OUT, END_IN };      /* nothing was missed here */
        TALK(SERVES, skipped, "server db [0,2] operation=GET\nserver db [3,4] operation=GET error=_OTHER failed\n");
        static const struct call called_late[] = { OUT(PING), IN("+PONG\r\n"), END_IN, OUT(PING), END_OUT };
        TALK(CALLS, called_late, "client db [0,1] operation=PING\nclient db [3,3] operation=PING error=_OTHER failed\n");
}

/* Joined in the middle: answers to what was not seen are passed over and not counted; so are messages. */
static void test_joined_late(void **state) {
        (void)state;
        static const struct call talk[] = { OUT("+OK\r\n"), OUT("$3\r\nabc\r\n"), IN(GET_A), OUT("$-1\r\n"), SHUT };
        TALK(SERVES, talk, "server db [2,3] operation=GET\n");
        static const struct call messages[] = { IN("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n"), OUT(PING),
                                                IN("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n"), SHUT };
        TALK(CALLS, messages, "client db [1,2] operation=PING\n");
}

/* Bytes that nobody captured, in the middle of a value or an argument: only their number matters. */
static void test_gap_in_string(void **state) {
        (void)state;
        static const struct call talk[] = {
                IN("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$10000\r\nxx"), GAP_IN(9000), IN("y"), GAP_IN(999), IN(GET_A), OUT("+OK\r\n$20000\r\n"), GAP_OUT(20001), OUT("\n"), IN(PING),
                OUT("+PO"), OUT("NG\r\n"), SHUT,
        };
        TALK(SERVES, talk, "server db [0,5] operation=SET\nserver db [4,7] operation=GET\nserver db [8,10] operation=PING\n");
        static const struct call ended[] = { IN(GET_A), OUT("$1000\r\n"), GAP_OUT(1002), IN(GET_A), OUT("$1000\r\nx"), IN(PING), GAP_OUT(1001), OUT("+PONG\r\n"), SHUT };
        TALK(SERVES, ended, "server db [0,2] operation=GET\nserver db [3,4] operation=GET unobserved\nserver db [5,7] operation=PING\n");
        static const struct call name[] = { IN("*2\r\n$3\r\nG"), GAP_IN(1), IN("T\r\n$1\r\na\r\n"), OUT("$-1\r\n"), SHUT };
        TALK(SERVES, name, "server db [0,3]\n");
        static const struct call database[] = { IN("*2\r\n$6\r\nSELECT\r\n$1\r\n"), GAP_IN(1), IN("\r\n"), OUT("+OK\r\n"), SHUT };
        TALK(SERVES, database, "server db [0,3] operation=SELECT\n");
}

/* How much of what comes need not be captured. */
static void test_skip(void **state) {
        (void)state;
        struct lossy l;
        struct lossy_parser made = lossy_start(&l, &protocol_redis, SERVES);
        void *s = made.state;
        uint64_t (*left)(const void *, enum direction) = protocol_redis.skip;      /* cmocka has a macro of that name */
        static const char set[] = "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$10000\r\nx", select[] = "*2\r\n$6\r\nSELECT\r\n$100\r\n";
        struct chunk at = { .direction = DIRECTION_IN, .data = (const uint8_t *)set, .n = sizeof(set) - 1 };
        assert_int_equal(left(s, DIRECTION_IN), 0);
        protocol_redis.data(s, &at);
        assert_int_equal(left(s, DIRECTION_IN), 10001);
        assert_int_equal(left(s, DIRECTION_OUT), 0);
        protocol_redis.gap(s, &(struct chunk){ .direction = DIRECTION_IN }, 10001);
        assert_int_equal(left(s, DIRECTION_IN), 0);
        at = (struct chunk){ .direction = DIRECTION_OUT, .data = (const uint8_t *)"$500\r\n", .n = 6 };
        protocol_redis.data(s, &at);
        assert_int_equal(left(s, DIRECTION_OUT), 502);
        at = (struct chunk){ .direction = DIRECTION_IN, .data = (const uint8_t *)select, .n = sizeof(select) - 1 };
        protocol_redis.data(s, &at);
        assert_int_equal(left(s, DIRECTION_IN), 0);     /* an argument whose text is needed */
        lossy_finish(&l, &protocol_redis, made);
}

/* Elsewhere: what was seen in part is answered or counted, and the next turn is read again. */
static void test_gap(void **state) {
        (void)state;
        /* The rest of a command, then its answer: known from that. */
        static const struct call half_command[] = { IN("*2\r\n$3\r\nGE"), GAP_IN(9), OUT("$1\r\n1\r\n"), IN(PING), OUT("+PONG\r\n"), SHUT };
        TALK(SERVES, half_command, "server db [0,2]\nserver db [3,4] operation=PING\n");
        static const struct call before_answer[] = { IN("*3\r\n$3\r\nGET\r\n"), GAP_IN(70), OUT("$1\r\n1\r\n"), IN(PING), OUT("+PONG\r\n"), SHUT };
        TALK(SERVES, before_answer, "server db [0,2] operation=GET\nserver db [3,4] operation=PING\n");
        /* A command that opens a turn is counted by the kernel side; what follows in that turn is not read. */
        static const struct call opener[] = { IN(PING), OUT("+PONG\r\n"), GAP_IN(22), IN(GET_A), OUT("$1\r\n1\r\n"), IN(PING), OUT("+PONG\r\n"), SHUT };
        TALK(SERVES, opener, "server db [0,1] operation=PING\nserver db [5,6] operation=PING\n");
        /* Amid a pipeline: how many commands nobody knows; at least one. What follows is read again when the next turn begins. */
        static const struct call amid[] = { IN(GET_A), GAP_IN(100), IN(GET_B), OUT("$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n"), IN(PING), OUT("+PONG\r\n"), SHUT };
        TALK(SERVES, amid, "lost 1\nserver db [0,3] operation=GET\nserver db [4,5] operation=PING\n");
        /* A whole answer, and two commands that could both be the one it was for. */
        static const struct call answer[] = { IN(GET_A), OUT("$1\r\n1\r\n"), IN(GET_B), IN(PING), GAP_OUT(7), OUT("+PONG\r\n"), SHUT };
        TALK(SERVES, answer, "server db [0,1] operation=GET\nlost 1\nlost 1\n");
        /* Parts of an answer of unknown length: it lasts until the next turn. */
        static const struct call part[] = { IN(GET_A), OUT("*3\r\n:1\r\n"), GAP_OUT(4), OUT(":3\r\n"), IN(PING), OUT("+PONG\r\n"), SHUT };
        TALK(SERVES, part, "server db [0,3] operation=GET unobserved\nserver db [4,5] operation=PING\n");
        static const struct call head[] = { IN(GET_A), GAP_OUT(8), OUT("\r\n3\r\n"), IN(PING), OUT("+PONG\r\n"), SHUT };
        TALK(SERVES, head, "server db [0,2] operation=GET unobserved\nserver db [3,4] operation=PING\n");
        static const struct call tail[] = { IN(GET_A), OUT("*3\r\n:1\r\n"), IN(PING), GAP_OUT(8), OUT("+PONG\r\n"), SHUT };
        TALK(SERVES, tail, "server db [0,1] operation=GET unobserved\nserver db [2,4] operation=PING\n");
        /* Several outstanding, their answers lost track of: the first was seen in part, the others are counted. */
        static const struct call several[] = { IN(GET_A GET_B PING), OUT("*3\r\n:1\r\n"), GAP_OUT(40), OUT("+PONG\r\n"), IN(PING), OUT("+PONG\r\n"), SHUT };
        TALK(SERVES, several, "server db [0,3] operation=GET unobserved\nlost 1\nlost 1\nserver db [4,5] operation=PING\n");
        /* The same where commands overlap: nothing is certain any more until the next turn. */
        static const struct call overlap[] = {
                IN(GET_A GET_B), OUT("$1\r\n1\r\n"), IN(PING), OUT("$1\r\n2\r\n"), OUT("+PONG\r\n"), IN(GET_A), GAP_OUT(7), OUT("$1\r\n2\r\n"), IN(PING), OUT("+PONG\r\n"), SHUT,
        };
        TALK(SERVES, overlap,
             "server db [0,1] operation=GET\nserver db [0,3] operation=GET\nserver db [2,4] operation=PING\n"
             "server db [5,7] operation=GET unobserved\nserver db [8,9] operation=PING\n");
        /* What looks like a command amid a value must be one that exists. */
        static const struct call mimic[] = { IN(PING), GAP_IN(50), OUT("+PONG\r\n"), IN("*2\r\n$3\r\nfoo\r\n$3\r\nbar\r\n"), OUT("*0\r\n"), IN(PING), OUT("+PONG\r\n"), SHUT };
        TALK(SERVES, mimic, "lost 1\nserver db [0,2] operation=PING\nserver db [5,6] operation=PING\n");
}

/* Commands one by one, in one call or several: spans and counted losses are the commands, whichever call is lost. */
static void test_any_call_lost(void **state) {
        (void)state;
        static const struct call calls[] = {
                IN(GET_A), OUT("$1\r\n1\r\n"),
                IN("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$20\r\n0123"), IN("456789"), IN("0123456789\r\n"), OUT("+OK\r\n"),
                IN("*2\r\n$3\r\nG"), IN("ET\r\n$1\r\na\r\n"), OUT("$20\r\n0123456789"), OUT("0123456789"), OUT("\r\n"),
                IN("*4\r\n$6\r\nLRANGE\r\n$1\r\na\r\n"), IN("$1\r\n0\r\n$1\r\n9\r\n"), OUT("*3\r\n$1\r\na\r\n"), OUT("$1\r\nb\r\n"), OUT("$1\r\nc\r\n"),
                IN(PING), OUT("+PO"), OUT("NG\r\n"), IN(GET_B), OUT("-ERR x\r\n"), IN(PING), OUT("+PONG\r\n"),
        };
        assert_any_call_lost(&protocol_redis, calls, TEL_ARRAY_LEN(calls), 7);
}

/* Pipelines, one after the other: whichever call is lost, the last command gets its own answer, and no more is counted than was asked. */
static void test_pipeline_call_lost(void **state) {
        (void)state;
        static const struct call calls[] = {
                IN(GET_A GET_B), IN(PING GET_A), OUT("$1\r\n1\r\n$1\r\n2\r\n"), OUT("+PONG\r\n$1\r\n"), OUT("1\r\n"),
                IN(GET_A GET_B), OUT("$1\r\n1\r\n"), OUT("$1\r\n2\r\n"), IN(PING), OUT("+PONG\r\n"), IN(PING), OUT("+PONG\r\n"),
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(calls) - 4; i++) {
                struct lossy l;
                lossy_run(&l, &protocol_redis, SERVES, calls, TEL_ARRAY_LEN(calls), i);
                assert_in_range(l.spans + l.lost, 5, 8);
                assert_true(l.spans >= 4);
                assert_int_equal(l.start_ns, 11 * HARNESS_NS + 500);
                assert_int_equal(l.end_ns, 12 * HARNESS_NS + 500);
        }
}

/* A thread that reads may be quicker than the one that writes: the answer shows before its command does. The next ones are not put off by that;
 * when it goes on and on, it was something else. */
static void test_answer_before_command(void **state) {
        (void)state;
        struct lossy l;
        struct lossy_parser made = lossy_start(&l, &protocol_redis, CALLS);
        struct chunk ask = { .direction = DIRECTION_OUT, .data = (const uint8_t *)PING, .n = sizeof(PING) - 1 };
        struct chunk answer = { .direction = DIRECTION_IN, .data = (const uint8_t *)"+PONG\r\n", .n = 7 };
        for (uint64_t i = 1; i < 10; i++) {
                bool early = i % 3 == 0;
                ask.start_ns = ask.end_ns = 1000 * i + (early ? 500 : 100);
                answer.start_ns = answer.end_ns = 1000 * i + 300;
                protocol_redis.data(made.state, early ? &answer : &ask);
                protocol_redis.data(made.state, early ? &ask : &answer);
                assert_int_equal(l.spans, i);
                assert_int_equal(l.end_ns - l.start_ns, early ? 0 : 200);
        }
        protocol_redis.data(made.state, &answer);
        for (int i = 1; i < OUTSTANDING_EARLY_MAX; i++) {
                protocol_redis.data(made.state, &ask);
                assert_int_equal(l.open, 0);
                protocol_redis.data(made.state, &answer);
        }
        protocol_redis.data(made.state, &ask);
        assert_int_equal(l.open, 1);
        protocol_redis.data(made.state, &answer);
        assert_int_equal(l.open, 0);
        lossy_finish(&l, &protocol_redis, made);
}

/* More outstanding than are kept: counted, their answers passed over, and what comes after is followed again. */
static void test_bound(void **state) {
        (void)state;
        enum { MANY = 5000 };
        struct lossy l;
        struct call calls[] = { { CALL_IN, NULL, 0 }, { CALL_OUT, NULL, 0 }, IN(GET_A), OUT("$-1\r\n") };
        char *asks = malloc(MANY * (sizeof(PING) - 1)), *answers = malloc(MANY * 7);
        for (size_t i = 0; i < MANY; i++) {
                memcpy(asks + i * (sizeof(PING) - 1), PING, sizeof(PING) - 1);
                memcpy(answers + i * 7, "+PONG\r\n", 7);
        }
        calls[0].bytes = asks;
        calls[0].n = MANY * (sizeof(PING) - 1);
        calls[1].bytes = answers;
        calls[1].n = MANY * 7;
        lossy_run(&l, &protocol_redis, SERVES, calls, TEL_ARRAY_LEN(calls), SIZE_MAX);
        assert_int_equal(l.spans, 4095 + 1);
        assert_int_equal(l.lost, MANY - 4095);
        free(asks);
        free(answers);
}

/* Told from others by its first bytes, in pieces too. */
static void test_match(void **state) {
        (void)state;
        static const struct {
                const char *bytes;
                enum protocol_match match;
        } rows[] = {
                { PING, MATCH_REQUEST }, { GET_A, MATCH_REQUEST }, { "*2\r\n$3\r\nget\r\n", MATCH_REQUEST }, { "*3\r\n$9\r\nFT.SEARCH", MATCH_REQUEST },
                { "*2\r\n$3\r\nfoo\r\n", MATCH_NO }, { "*3\r\n$3\r\nGET\r\n", MATCH_NO }, { "*2\r\n$20\r\n(((((", MATCH_NO }, { "*3\r\n$7\r\nmessage\r\n", MATCH_NO },
                { "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", MATCH_NO }, { "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n$1\r\nb", MATCH_REQUEST },
                { "*3\r\n$9\r\nsubscribe\r\n", MATCH_MORE },
                { "*2\r\n$9\r\nsubscribe\r\n", MATCH_REQUEST }, { "*4\r\n$4\r\ntype\r\n", MATCH_NO },
                { "*1\r\n:1\r\n", MATCH_ANSWER }, { "*0\r\n", MATCH_ANSWER }, { "*-1\r\n", MATCH_ANSWER }, { "* OK IMAP4 ready\r\n", MATCH_NO },
                { "+OK\r\n", MATCH_ANSWER }, { "+OK\r\n$3\r\n", MATCH_ANSWER }, { "+OK\r\nPONG\r\n", MATCH_NO }, { "+OK POP3 ready\r\n", MATCH_NO },
                { "+PONG\r\n", MATCH_ANSWER }, { "+QUEUED\r\n", MATCH_ANSWER }, { ":12\r\n", MATCH_ANSWER }, { ":irc.example 001 a\r\n", MATCH_NO },
                { "-ERR unknown command", MATCH_ANSWER }, { "-WRONGTYPE Operation against a key holding", MATCH_ANSWER }, { "-x\r\n", MATCH_NO },
                { "$5\r\nhello\r\n", MATCH_ANSWER }, { "$-1\r\n", MATCH_ANSWER }, { "_\r\n", MATCH_ANSWER }, { "#t\r\n", MATCH_ANSWER }, { "#x\r\n", MATCH_NO },
                { "%2\r\n$6\r\nserver\r\n", MATCH_ANSWER }, { ">3\r\n$7\r\nmessage\r\n", MATCH_ANSWER }, { ",1.5\r\n", MATCH_NO },
                { "PING\r\n", MATCH_REQUEST }, { "ping\r\n", MATCH_REQUEST }, { "PING\r\nPING\r\nPI", MATCH_REQUEST }, { "PING\r\nPONG\r\n", MATCH_NO }, { "PInG\r\n", MATCH_NO },
                { "GET / HTTP/1.1\r\n", MATCH_NO }, { "POST / HTTP/1.1\r\n", MATCH_NO }, { "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", MATCH_NO },
                { "HTTP/1.1 200 OK\r\n", MATCH_NO }, { "\x16\x03\x01", MATCH_NO }, { "Q", MATCH_NO }, { "INFO {\"server_id\"", MATCH_NO }, { "220 mail", MATCH_NO },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++) {
                size_t n = strlen(rows[i].bytes);
                bool told = false;
                for (size_t k = 1; k <= n && !told; k++) {
                        enum protocol_match m = protocol_redis.match((const uint8_t *)rows[i].bytes, k);
                        told = m == MATCH_NO;
                        assert_true(!told || rows[i].match == MATCH_NO);
                }
                print_message("%s\n", rows[i].bytes);
                assert_int_equal(protocol_redis.match((const uint8_t *)rows[i].bytes, n), rows[i].match);
        }
        uint8_t longest[PROTOCOL_MATCH_MAX];
        static const char *const begins[] = { "*100000000000", "$", "-", "+", "*2\r\n$16\r\n", "%", "-ERR" };
        for (size_t i = 0; i < TEL_ARRAY_LEN(begins); i++)
                for (int c = 0; c < 256; c++) {
                        memset(longest, c, sizeof(longest));
                        memcpy(longest, begins[i], strlen(begins[i]));
                        assert_int_not_equal(protocol_redis.match(longest, sizeof(longest)), MATCH_MORE);
                }
}

/* What real clients said: as many commands as the server counted. */
static void test_captured(void **state) {
        (void)state;
        static const struct captured_count benchmark[] = { { "", 98 }, { "SET", 32 }, { "GET", 32 }, { "INCR", 32 }, { "CONFIG GET", 2 }, { "failed", 0 }, { NULL, 0 } };
        assert_captured(&protocol_redis, "redis/benchmark.talk", benchmark);
        static const struct captured_count cli[] = {
                { "", 20 }, { "SET", 2 }, { "GET", 3 }, { "INCR", 1 }, { "SELECT", 2 }, { "HELLO", 2 }, { "EVAL", 1 }, { "HGETALL", 1 }, { "CLIENT GETNAME", 1 },
                { "EXEC", 1 }, { "failed", 1 }, { NULL, 0 },
        };
        assert_captured(&protocol_redis, "redis/cli.talk", cli);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_single),
                cmocka_unit_test(test_pipeline),
                cmocka_unit_test(test_overlapping),
                cmocka_unit_test(test_errors),
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_text),
                cmocka_unit_test(test_namespace),
                cmocka_unit_test(test_values),
                cmocka_unit_test(test_not_resp),
                cmocka_unit_test(test_inline),
                cmocka_unit_test(test_subscribe),
                cmocka_unit_test(test_streams),
                cmocka_unit_test(test_reply_off),
                cmocka_unit_test(test_ends),
                cmocka_unit_test(test_joined_late),
                cmocka_unit_test(test_gap_in_string),
                cmocka_unit_test(test_skip),
                cmocka_unit_test(test_gap),
                cmocka_unit_test(test_any_call_lost),
                cmocka_unit_test(test_pipeline_call_lost),
                cmocka_unit_test(test_answer_before_command),
                cmocka_unit_test(test_bound),
                cmocka_unit_test(test_match),
                cmocka_unit_test(test_captured),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
