/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include "beylad/protocols/http2_frame.h"
#include "beylad/protocols/http2_streams.h"
#include "tests/fixtures/http2/captures.h"

/* ---- Frames as text ----
 * "H/5/1 82 84 41#shop:80; D/1/1 @hello": the type's letter, flags (hex) and stream; then the payload: hex, "#text" with its length before it as
 * HPACK has it, "@text" alone, "*9" that many zeros. "PRI" is the preface; "raw" has a payload only. */

static uint8_t arena[1 << 20];
static size_t arena_used;

static int arena_reset(void **state) {
        (void)state;
        arena_used = 0;
        return 0;
}

static void put(const void *bytes, size_t n) {
        assert_true(arena_used + n <= sizeof(arena));
        memcpy(arena + arena_used, bytes, n);
        arena_used += n;
}

static void put_payload(char *text) {
        char *rest = NULL;
        for (char *word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
                while (*word != '\0' && *word != '#' && *word != '@' && *word != '*') {
                        unsigned v;
                        assert_int_equal(sscanf(word, "%2x", &v), 1);
                        put(&(uint8_t){ (uint8_t)v }, 1);
                        word += 2;
                }
                while (*word == '#') {
                        size_t n = strcspn(++word, "#");
                        assert_true(n < 127);
                        put(&(uint8_t){ (uint8_t)n }, 1);
                        put(word, n);
                        word += n;
                }
                if (*word == '*')
                        for (long n = strtol(word + 1, NULL, 10); n > 0; n--)
                                put("", 1);
                else if (*word != '\0')
                        put(word + 1, strlen(word + 1));
        }
}

static void put_frame(char *text) {
        static const char letters[] = "DHYRSUPGWCX";       /* by type, with Y PRIORITY, U PUSH_PROMISE; X is none that we know */
        unsigned flags, stream;
        int used = 0;
        while (*text == ' ')
                text++;
        if (*text == '\0')
                return;
        if (strncmp(text, "PRI", 3) == 0) {
                put(HTTP2_PREFACE, HTTP2_PREFACE_LEN);
                return;
        }
        if (strncmp(text, "raw", 3) == 0) {
                put_payload(text + 3);
                return;
        }
        const char *letter = strchr(letters, *text);
        assert_non_null(letter);
        assert_int_equal(sscanf(text + 1, "/%x/%u%n", &flags, &stream, &used), 2);
        size_t head = arena_used;
        put("\0\0\0\0\0\0\0\0", HTTP2_HEAD);
        put_payload(text + 1 + used);
        size_t n = arena_used - head - HTTP2_HEAD;
        memcpy(arena + head, (uint8_t[]){ (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n, (uint8_t)(letter - letters), (uint8_t)flags,
                                          (uint8_t)(stream >> 24), (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream },
                                                  HTTP2_HEAD);
}

static struct call wire(int what, const char *frames) {
        size_t begin = arena_used;
        char *text = strdup(frames), *rest = NULL;
        for (char *frame = strtok_r(text, ";", &rest); frame; frame = strtok_r(NULL, ";", &rest))
                put_frame(frame);
        free(text);
        return (struct call){ what, (const char *)arena + begin, arena_used - begin };
}
#define FROM(frames) wire(CALL_IN, frames)
#define TO(frames) wire(CALL_OUT, frames)

#define assert_server(talk, expected) assert_talk(&protocol_http2, EXCHANGE_SERVER, talk, TEL_ARRAY_LEN(talk), expected)
#define assert_client(talk, expected) assert_talk(&protocol_http2, EXCHANGE_CLIENT, talk, TEL_ARRAY_LEN(talk), expected)

#define HELLO "PRI; S/0/0 000300000064; "
#define HELLO_BACK "S/0/0 000500004000; S/1/0; "
#define GET "82 86 84 41#shop:80 "                 /* inserts :authority */
#define GET_SAID "method=GET path=/ host=shop:80 scheme=http version=2"
#define CALL_CART "83 86 44#/shop.Cart/Add 41#shop:80 5f#application/grpc+proto 40#te#trailers "
#define CART_SAID "host=shop:80 scheme=http service=shop.Cart rpc=Add"
#define GRPC_OK "88 5f#application/grpc+proto "
#define STATUS_0 "40#grpc-status#0 40#grpc-message#"
#define MESSAGE "00 00000003 @abc"

/* ---- Whole conversations ---- */

/* A request, an answer with a body; the second time by the header table. */
static void test_get(void **state) {
        (void)state;
        const struct call talk[] = {
                FROM(HELLO "H/5/1 " GET "7a#curl/8"), TO(HELLO_BACK "H/4/1 88 5f#text/plain; D/1/1 @hello"),
                FROM("S/1/0; H/5/3 82 86 04#/a/b?c=d bf be"), TO("H/5/3 8d"), SHUT,
        };
        assert_server(talk, "server http 200 [0,1] " GET_SAID " agent=curl/8 request=0 response=5\n"
                            "server http 404 [2,3] method=GET path=/a/b host=shop:80 scheme=http version=2 agent=curl/8 request=0 response=0\n");
}

static void test_client(void **state) {
        (void)state;
        const struct call talk[] = {
                TO(HELLO "H/4/1 83 87 44#/up 41#shop; D/0/1 @body; D/1/1 @rest"), FROM(HELLO_BACK), FROM("H/4/1 88; D/1/1 @ok"), SHUT,
        };
        assert_client(talk, "client http 200 [0,2] method=POST path=/up host=shop scheme=https version=2 request=8 response=2\n");
}

/* Unary gRPC, twice: literally, then everything from the table. */
static void test_grpc(void **state) {
        (void)state;
        const struct call talk[] = {
                FROM(HELLO "H/4/1 " CALL_CART "; D/1/1 " MESSAGE), TO(HELLO_BACK "H/4/1 " GRPC_OK "; D/0/1 " MESSAGE "; H/5/1 " STATUS_0),
                FROM("H/4/3 83 86 c1 c0 bf be; D/1/3 " MESSAGE), TO("H/4/3 88 c0; D/0/3 " MESSAGE "; H/5/3 bf be"), SHUT,
        };
        assert_server(talk, "server rpc 0 [0,1] " CART_SAID " request=8 response=8\n"
                            "server rpc 0 [2,3] " CART_SAID " request=8 response=8\n");
}

/* The status of gRPC: trailers alone, an error, none at all, a proxy's answer, an odd one; gRPC-Web is HTTP. */
static void test_grpc_status(void **state) {
        (void)state;
        const struct call only[] = { TO(HELLO "H/4/1 " CALL_CART "; D/1/1 " MESSAGE), FROM(HELLO_BACK "H/5/1 " GRPC_OK "40#grpc-status#12") };
        assert_client(only, "client rpc 12 [0,1] " CART_SAID " request=8 response=0\n");
        const struct call none[] = { FROM(HELLO "H/5/1 " CALL_CART), TO(HELLO_BACK "H/4/1 " GRPC_OK "; D/1/1 " MESSAGE) };
        assert_server(none, "server rpc [0,1] " CART_SAID " error=_OTHER request=0 response=8\n");
        const struct call proxy[] = { TO(HELLO "H/5/1 " CALL_CART), FROM(HELLO_BACK "H/4/1 48#502 5f#text/html; D/1/1 @sorry") };
        assert_client(proxy, "client rpc [0,1] " CART_SAID " error=502 request=0 response=5\n");
        const struct call odd[] = { TO(HELLO "H/5/1 " CALL_CART), FROM(HELLO_BACK "H/5/1 88 40#grpc-status#x") };
        assert_client(odd, "client rpc [0,1] " CART_SAID " error=_OTHER request=0 response=0\n");
        const struct call web[] = { FROM(HELLO "H/5/1 83 86 44#/s.S/M 5f#application/grpc-web+proto"), TO("H/5/1 88 40#grpc-status#3") };
        assert_server(web, "server http 200 [0,1] method=POST path=/s.S/M scheme=http version=2 request=0 response=0\n");
        const struct call path[] = { FROM(HELLO "H/5/1 83 86 44#/nomethod 5f#application/grpc; H/5/3 83 86 5f#application/grpc"),
                                     TO("H/5/1 88 40#grpc-status#12; H/5/3 88 be") };
        assert_server(path, "server rpc 12 [0,1] scheme=http service=_OTHER rpc=_OTHER request=0 response=0\n"
                            "server rpc 12 [0,1] scheme=http service=_OTHER rpc=_OTHER request=0 response=0\n");
}

/* Streams of messages in both directions: one exchange, from the first byte to the trailers. */
static void test_streaming(void **state) {
        (void)state;
        const struct call talk[] = {
                FROM(HELLO "H/4/1 " CALL_CART), TO(HELLO_BACK "H/4/1 " GRPC_OK), FROM("D/0/1 " MESSAGE), TO("D/0/1 " MESSAGE "; W/0/0 00000008"),
                FROM("D/0/1 " MESSAGE), FROM("D/1/1"), TO("D/0/1 " MESSAGE "; P/0/0 0102030405060708"), TO("D/0/1 " MESSAGE),
                TO("H/5/1 " STATUS_0), SHUT,
        };
        assert_server(talk, "server rpc 0 [0,8] " CART_SAID " request=16 response=24\n");
}

/* Streams in any order, frames of theirs in turns. */
static void test_interleaved(void **state) {
        (void)state;
        const struct call talk[] = {
                FROM(HELLO "H/5/1 " GET "; H/4/3 83 86 04#/b be; H/5/5 82 86 04#/c be"), TO(HELLO_BACK "H/4/5 88"), FROM("D/0/3 @12"),
                TO("H/4/1 8d; D/0/5 @cc; D/0/1 @a; D/1/5 @c"), FROM("D/1/3 @34"), TO("H/5/3 89; D/1/1 @aa"), SHUT,
        };
        assert_server(talk, "server http 200 [0,3] method=GET path=/c host=shop:80 scheme=http version=2 request=0 response=3\n"
                            "server http 204 [0,5] method=POST path=/b host=shop:80 scheme=http version=2 request=4 response=0\n"
                            "server http 404 [0,5] " GET_SAID " request=0 response=3\n");
}

/* A header block in three frames, cut in its fields; END_STREAM is on the first. */
static void test_continuation(void **state) {
        (void)state;
        const struct call talk[] = {
                FROM(HELLO "H/1/1 82 86 84 41 07 @sho; C/0/1 @p:80 7a 06; C/4/1 @curl/8"),
                TO(HELLO_BACK "H/0/1 88 5f 0a @text; C/4/1 @/plain; D/1/1 @hello"),
                FROM("H/1/3 82 86; C/4/3 84 bf be"), TO("H/1/3 88; C/0/3; C/4/3 be"),
        };
        assert_server(talk, "server http 200 [0,1] " GET_SAID " agent=curl/8 request=0 response=5\n"
                            "server http 200 [2,3] " GET_SAID " agent=curl/8 request=0 response=0\n");
}

/* Padding is no body; priorities are in front of the block. */
static void test_padding(void **state) {
        (void)state;
        const struct call talk[] = {
                FROM(HELLO "Y/0/7 00000000 10; H/2c/1 03 00000000ff " GET "*3; D/9/1 05 @data *5"),
                TO(HELLO_BACK "H/c/1 01 88 00; D/8/1 00 @abc; D/8/1 04 *4; D/9/1 02 @d *2"), FROM("H/25/3 80000001 00 82 86 84 be"),
                TO("H/d/3 00 88"),
        };
        assert_server(talk, "server http 200 [0,1] " GET_SAID " request=4 response=4\n"
                            "server http 200 [2,3] " GET_SAID " request=0 response=0\n");
}

/* Who cancels is not told, but why is. What comes for a stream afterwards is ignored, but its headers count for the table. */
static void test_reset(void **state) {
        (void)state;
        const struct call talk[] = {
                FROM(HELLO "H/5/1 " GET "; H/4/3 82 86 84 be; H/5/5 " CALL_CART "; H/5/7 82 86 84 c0; H/5/9 82 86 84 c0"),
                TO(HELLO_BACK "H/4/1 88"), FROM("R/0/1 00000008"), TO("R/0/3 00000007; D/1/1 @late; H/4/1 88 5f#text/plain; H/4/5 " GRPC_OK),
                FROM("R/0/5 00000008; R/0/7 00000000"), TO("R/0/9 77777777; R/0/9 00000002"), SHUT,
        };
        assert_server(talk, "server http 200 [0,2] " GET_SAID " error=CANCEL request=0 response=0\n"
                            "server http [0,3] " GET_SAID " error=REFUSED_STREAM request=0\n"
                            "server rpc [0,4] " CART_SAID " error=CANCEL request=0 response=0\n"
                            "server http [0,4] " GET_SAID " error=_OTHER request=0\n"
                            "server http [0,5] " GET_SAID " error=_OTHER request=0\n");
}

/* What GOAWAY passes over was not served; what it includes goes on. A client's says nothing of its own streams. */
static void test_go_away(void **state) {
        (void)state;
        const struct call talk[] = {
                TO(HELLO "H/5/1 " GET "; H/5/3 82 86 84 be; H/5/5 82 86 84 be"), FROM(HELLO_BACK "G/0/0 7fffffff 00000000 @soon"),
                FROM("G/0/0 00000001 00000000"), TO("G/0/0 00000000 00000000"), FROM("H/5/1 88"), SHUT,
        };
        assert_client(talk, "client http [0,2] " GET_SAID " error=REFUSED_STREAM request=0\n"
                            "client http [0,2] " GET_SAID " error=REFUSED_STREAM request=0\n"
                            "client http 200 [0,4] " GET_SAID " request=0 response=0\n");
}

/* Pushed streams are ignored, but their headers count for the table. */
static void test_push(void **state) {
        (void)state;
        const struct call talk[] = {
                TO(HELLO "H/5/1 " GET), FROM(HELLO_BACK "U/0/1 00000002 82 86 44#/pushed; C/4/1 41#shop:80; U/c/1 02 00000004 82 86 84 be *2"),
                FROM("H/4/2 88 5f#text/plain; D/1/2 @pushed; H/4/1 88 be; D/1/1 @own"), SHUT,
        };
        assert_client(talk, "client http 200 [0,2] " GET_SAID " request=0 response=3\n");
}

/* 103 and 100 come before the answer; only the final one begins it. */
static void test_interim(void **state) {
        (void)state;
        const struct call talk[] = {
                FROM(HELLO "H/4/1 83 86 84 41#shop:80"), TO(HELLO_BACK "H/4/1 48#103 40#link#x"), TO("H/4/1 08#100"), FROM("D/1/1 @x"),
                TO("H/5/1 89"),
        };
        assert_server(talk, "server http 204 [0,4] method=POST path=/ host=shop:80 scheme=http version=2 request=1 response=0\n");
        const struct call alone[] = { FROM(HELLO "H/5/1 " GET), TO(HELLO_BACK "H/4/1 48#103"), FROM("R/0/1 00000008") };
        assert_server(alone, "server http [0,2] " GET_SAID " error=CANCEL request=0\n");
}

/* The answer is whole before the request is: that is the end. Trailers of a request say nothing. */
static void test_early_answer(void **state) {
        (void)state;
        const struct call talk[] = {
                FROM(HELLO "H/4/1 83 86 84 41#shop:80; D/0/1 @some; H/4/3 83 86 84 be"),
                TO(HELLO_BACK "H/4/1 48#413; D/1/1 @big; R/0/1 00000000"),
                FROM("D/0/1 @more; D/1/1 @last; D/0/3 @x; H/5/3 40#sum#1"), TO("H/5/3 88"), SHUT,
        };
        assert_server(talk, "server http 413 [0,1] method=POST path=/ host=shop:80 scheme=http version=2 request=4 response=3\n"
                            "server http 200 [0,3] method=POST path=/ host=shop:80 scheme=http version=2 request=1 response=0\n");
}

/* A tunnel ends with the answer that opens it: CONNECT, and WebSocket over HTTP/2. One that is refused has a body. */
static void test_tunnels(void **state) {
        (void)state;
        const struct call talk[] = {
                FROM(HELLO "H/4/1 02#CONNECT 41#db:5432; H/4/3 02#CONNECT 00#:protocol#websocket 87 04#/chat 01#shop; H/4/5 02#CONNECT be"),
                TO(HELLO_BACK "H/4/1 88; H/4/3 88; H/4/5 48#403; D/1/5 @no"), FROM("D/0/1 @bytes"), TO("D/1/1 @bytes; D/1/3 @bytes"), SHUT,
        };
        assert_server(talk, "server http 200 [0,1] method=CONNECT host=db:5432 version=2 request=0 response=0\n"
                            "server http 200 [0,1] method=CONNECT path=/chat host=shop scheme=https version=2 upgrade=websocket request=0 response=0\n"
                            "server http 403 [0,1] method=CONNECT host=db:5432 version=2 request=0 response=2\n");
}

/* The answer comes before the head of the request is whole: it was too large. A reset without an answer says that nobody served it. */
static void test_early_end(void **state) {
        (void)state;
        const struct call talk[] = {
                FROM(HELLO "H/1/1 82 86"), TO(HELLO_BACK "H/5/1 48#431"), FROM("C/4/1 84; H/0/3 82 86"), TO("R/0/3 00000001"),
                FROM("C/4/3 84 40#a#1; H/5/5 82 86 84 be"),
                TO("H/5/5 89"), SHUT,
        };
        assert_server(talk, "server http 431 [0,1] method=GET scheme=http version=2 request=0 response=0\n"
                            "server http 204 [4,5] method=GET path=/ scheme=http version=2 request=0 response=0\n");
}

/* What settings ask for, and the caller's trace. A field that comes again does not count. */
static void test_options(void **state) {
        (void)state;
        static const char *const headers[] = { "x-tenant", "content-type", NULL };
        static const struct protocol_options options = { .headers = headers, .query = true };
        const struct call talk[] = {
                FROM(HELLO "H/5/1 82 86 44#/a?b=1 44#/z 41#shop 5f#text/x 00#x-tenant#t 00#x-other#o 42#PUT"
                     " 00#traceparent#00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
                TO("H/5/1 88 00#x-tenant#answer"),
        };
        assert_talk_options(&protocol_http2, EXCHANGE_SERVER, &options, talk, TEL_ARRAY_LEN(talk),
                            "server http 200 [0,1] method=GET path=/a query=b=1 host=shop scheme=http version=2 content-type:text/x x-tenant:t"
                            " request=0 response=0 parent=0a..31\n");
}

/* Frames that say nothing, of any length, and types that nobody knows. */
static void test_other_frames(void **state) {
        (void)state;
        const struct call talk[] = {
                FROM(HELLO "X/ff/77 *300; W/0/0 7fffffff; P/1/0 *8; H/5/1 " GET "; X/0/0; Y/0/1 00000000 00; W/0/1 00000001"),
                TO(HELLO_BACK "X/4/1 @H; S/0/0 000100010000 000600004000; H/5/1 88"), SHUT,
        };
        assert_server(talk, "server http 200 [0,1] " GET_SAID " request=0 response=0\n");
}

/* ---- What programs really say ---- */

static void test_captures(void **state) {
        (void)state;
#define GO "host=shop scheme=http agent=t grpc-go/1.85.0 service=shop.Cart rpc="
#define GO_HTTP " host=shop scheme=http version=2 agent=Go-http-client/2.0 "
#define PYTHON "host=shop scheme=http agent=t grpc-python/1.85.1 grpc-c/58.0.0 (linux; chttp2) service=shop.Cart rpc="
#define NGINX " host=127.0.0.1:46385 scheme=http version=2 agent=nghttp2/1.52.0 request=0 "
#define NODE " host=127.0.0.1:38883 scheme=http version=2 "
        assert_server(capture_go_grpc, "server rpc 0 [4,7] " GO "Add request=6 response=16 parent=0a..31\n"
                                       "server rpc 0 [8,11] " GO "Add request=6 response=16 parent=0a..31\n"
                                       "server rpc 5 [14,15] " GO "Fail request=6 response=0\n"
                                       "server rpc 0 [16,17] " GO "List request=6 response=48\n"
                                       "server rpc [18,21] " GO "Wait error=CANCEL request=6\n");
        assert_server(capture_go_http, "server http 200 [6,12] method=GET path=/a" GO_HTTP "request=0 response=8\n"
                                       "server http 200 [13,16] method=GET path=/a" GO_HTTP "request=0 response=8\n"
                                       "server http 200 [17,22] method=POST path=/up" GO_HTTP "request=18 response=9\n"
                                       "server http 404 [23,27] method=PUT path=/missing" GO_HTTP "request=1 response=0\n");
        assert_server(capture_python_grpc, "server rpc 0 [2,5] " PYTHON "Add request=6 response=10\n"
                                           "server rpc 0 [6,8] " PYTHON "Add request=6 response=10\n"
                                           "server rpc 0 [9,12] " PYTHON "List request=6 response=12\n"
                                           "server rpc 12 [13,14] " PYTHON "None request=6 response=0\n");
        assert_server(capture_nginx, "server http 200 [0,1] method=GET path=/f.txt" NGINX "response=12\n"
                                     "server http 404 [0,1] method=GET path=/nothing" NGINX "response=153\n"
                                     "server http 201 [0,1] method=GET path=/add" NGINX "response=4\n");
        assert_server(capture_node, "server http 404 [0,3] method=PUT path=/missing" NODE "request=9 response=0\n"
                                    "server http 200 [0,4] method=GET path=/a" NODE "request=0 response=11\n"
                                    "server http 200 [0,4] method=GET path=/a" NODE "request=0 response=11\n"
                                    "server http 200 [5,7] method=GET path=/a" NODE "request=0 response=11\n");
}

/* The same, heard from the second request on: what only the tables of before can tell is unknown, the rest is exact. */
static void test_captures_late(void **state) {
        (void)state;
        assert_talk(&protocol_http2, EXCHANGE_SERVER, capture_go_grpc + 8, TEL_ARRAY_LEN(capture_go_grpc) - 8,
                    "server rpc [0,3] scheme=http service=unknown rpc=unknown request=6 response=16 unobserved\n"
                    "server rpc [6,7] scheme=http service=shop.Cart rpc=Fail request=6 response=0 unobserved\n"
                    "server rpc [8,9] scheme=http service=shop.Cart rpc=List request=6 response=48 unobserved\n"
                    "server rpc [10,13] scheme=http service=shop.Cart rpc=Wait error=CANCEL request=6\n");
        assert_talk(&protocol_http2, EXCHANGE_CLIENT, capture_python_grpc + 6, TEL_ARRAY_LEN(capture_python_grpc) - 6,
                    "server rpc [0,2] scheme=http service=unknown rpc=unknown request=6 response=10 unobserved\n"
                    "server rpc [3,6] scheme=http service=shop.Cart rpc=List request=6 response=12 unobserved\n"
                    "server rpc 12 [7,8] scheme=http service=shop.Cart rpc=None request=6 response=0\n");
}

/* ---- The end of the connection ---- */

/* What is open fails when no more answers can come, not when no more requests can. A head that never was whole is no request. */
static void test_connection_ends(void **state) {
        (void)state;
        const struct call server[] = {
                FROM(HELLO "H/5/1 " GET "; H/5/3 82 86 84 be; H/5/5 " CALL_CART), TO(HELLO_BACK "H/4/3 88; D/0/3 @par; H/4/5 " GRPC_OK),
                FROM("H/1/7 82 86 84"),
                END_IN, TO("D/0/3 @t"), END_OUT,
        };
        assert_server(server, "server rpc [0,5] " CART_SAID " error=response_ended request=0 response=0\n"      /* in no order: there is none */
                              "server http 200 [0,5] " GET_SAID " error=response_ended request=0 response=4\n"
                              "server http [0,5] " GET_SAID " error=connection_reset request=0\n");
        const struct call client[] = { TO(HELLO "H/5/1 " GET), FROM(HELLO_BACK), END_IN, TO("H/5/3 82 86 84 be"), END_OUT };
        assert_client(client, "client http [0,2] " GET_SAID " error=connection_reset request=0\n"
                              "client http [3,4] " GET_SAID " error=connection_reset request=0\n");
}

/* ---- Older than beylad ---- */

#define ASKED_LATE "scheme=http version=2"

/* What refers to the table of before is unknown, what does not is exact; a new entry can be referred to. */
static void test_late(void **state) {
        (void)state;
        const struct call talk[] = {
                FROM("H/5/7 82 86 84 be"), TO("H/4/7 88 bf; D/1/7 @ok"), FROM("H/5/9 82 86 c4 bf"), TO("H/5/9 c5"),
                FROM("H/5/11 c6 86 04#/put 41#shop:80"), TO("H/4/11 8d be; D/1/11 @no"), FROM("H/5/13 82 86 84 be; H/5/15 82 86 84 bf"),
                TO("H/5/13 89; H/5/15 89 5f#text/x"), SHUT,
        };
        assert_server(talk, "server http 200 [0,1] method=GET path=/ " ASKED_LATE " request=0 response=2\n"
                            "server http [2,3] method=GET " ASKED_LATE " request=0 response=0 unobserved\n"
                            "server http 404 [4,5] method=_OTHER path=/put host=shop:80 " ASKED_LATE " request=0 response=2\n"
                            "server http 204 [6,7] " GET_SAID " request=0 response=0\n"
                            "server http 204 [6,7] method=GET path=/ " ASKED_LATE " request=0 response=0\n");
}

#define UNKNOWN_POST "83 86 c1 c0 bf be"

/* That it is gRPC shows in a content-type that is known, in the request's first message, in the answer's type or in its status. */
static void test_late_grpc(void **state) {
        (void)state;
        const struct call typed[] = { FROM("H/4/7 83 86 c1 c0 5f#application/grpc; D/1/7 " MESSAGE),
                TO("H/4/7 88 c0; D/0/7 " MESSAGE "; H/5/7 bf be") };
        assert_server(typed, "server rpc [0,1] scheme=http service=unknown rpc=unknown request=8 response=8 unobserved\n");
        const struct call path[] = { FROM("H/4/7 83 86 04#/shop.Cart/Add c0 bf be; D/1/7 " MESSAGE), TO("H/4/7 88 c0; H/5/7 40#grpc-status#5") };
        assert_server(path, "server rpc 5 [0,1] scheme=http service=shop.Cart rpc=Add request=8 response=0\n");
        const struct call message[] = { FROM("H/4/7 " UNKNOWN_POST "; D/8/7 02 " MESSAGE " *2; D/1/7"), TO("H/4/7 88 c0; H/5/7 bf be") };
        assert_server(message, "server rpc [0,1] scheme=http service=unknown rpc=unknown request=8 response=0 unobserved\n");
        const struct call answer[] = { FROM("H/5/7 " UNKNOWN_POST), TO("H/4/7 88 5f#application/grpc; H/5/7 bf c1") };
        assert_server(answer, "server rpc [0,1] scheme=http service=unknown rpc=unknown request=0 response=0 unobserved\n");
        const struct call status[] = { FROM("H/5/7 " UNKNOWN_POST), TO("H/4/7 88 be; H/5/7 40#grpc-status#0") };
        assert_server(status, "server rpc 0 [0,1] scheme=http service=unknown rpc=unknown request=0 response=0\n");
        const struct call other[] = { FROM("H/4/7 " UNKNOWN_POST "; D/1/7 00 00000004 @abc"), TO("H/4/7 88 c0; D/1/7 " MESSAGE) };
        assert_server(other, "server http 200 [0,1] method=POST " ASKED_LATE " request=8 response=8\n");
        const struct call hidden[] = { FROM("H/4/7 " UNKNOWN_POST "; raw 000008 00 01 00000007 00"), GAP_IN(2), FROM("raw 00 00 00 03 @a"),
                TO("H/5/7 88") };
        assert_server(hidden, "server http 200 [0,3] method=POST " ASKED_LATE " request=8 response=0\n");
        const struct call text[] = { FROM("H/5/7 " UNKNOWN_POST), TO("H/4/7 88 5f#text/plain; H/5/7 40#grpc-status#0") };
        assert_server(text, "server http 200 [0,1] method=POST " ASKED_LATE " request=0 response=0\n");
}

/* match() may have taken answers for requests, or seen none of both: the first header block tells. */
static void test_late_role(void **state) {
        (void)state;
        const struct call server[] = { FROM("W/0/0 00000010; P/0/0 *8; H/5/7 82 86 84 be"), TO("H/5/7 88"), SHUT };
        assert_client(server, "server http 200 [0,1] method=GET path=/ " ASKED_LATE " request=0 response=0\n");
        const struct call client[] = { FROM("D/0/5 " MESSAGE "; H/5/5 8d"), TO("H/5/7 82 86 84 be"), FROM("H/5/7 88"), SHUT };
        assert_server(client, "client http 200 [1,2] method=GET path=/ " ASKED_LATE " request=0 response=0\n");
        /* A server's first bytes may come before the client's: both tables are known then. */
        const struct call whole[] = {
                TO(HELLO_BACK), FROM(HELLO "H/5/1 " GET), TO("H/5/1 88 5f#text/x; R/0/1 00000000"), FROM("H/5/3 82 86 84 be"),
                TO("H/5/3 88 be"), SHUT,
        };
        assert_client(whole, "server http 200 [1,2] " GET_SAID " request=0 response=0\n"
                             "server http 200 [3,4] " GET_SAID " request=0 response=0\n");
}

/* Answers, trailers and resets of streams that began before say nothing; neither do ids that cannot be new. */
static void test_late_strangers(void **state) {
        (void)state;
        const struct call talk[] = {
                TO("H/4/5 88; D/1/5 @old"), FROM("R/0/3 00000008; H/5/3 00#sum#1; H/5/7 " GET), TO("H/5/1 00#grpc-status#0; H/5/7 88"),
                FROM("H/5/5 82 86 84; H/5/8 82 86 84; H/5/7 82 86 84"), TO("H/5/5 88; H/5/8 88"), SHUT,
        };
        assert_server(talk, "server http 200 [1,2] " GET_SAID " request=0 response=0\n");
}

/* ---- Gaps ---- */

#define OTHER_SAID "method=GET path=/x " ASKED_LATE        /* of what comes after the table is lost */

/* In a body, in padding, in a frame that says nothing: nothing is lost but sight. */
static void test_gap_in_payload(void **state) {
        (void)state;
        const struct call talk[] = {
                FROM(HELLO "H/4/1 " GET "; raw 00000a 00 01 00000001 @abc"), GAP_IN(7), FROM("X/0/0; raw 000008 06 00 00000000 @s"), GAP_IN(7),
                FROM("H/4/3 83 86 84 be; raw 00000a 00 08 00000003 04 @ab"), GAP_IN(6), FROM("raw 00; D/1/3 @z"),
                TO(HELLO_BACK "H/4/1 88; raw 00000a 00 01 00000001 @ab"), GAP_OUT(8), TO("H/5/3 8d"), SHUT,
        };
        assert_server(talk, "server http 200 [0,8] " GET_SAID " request=10 response=10\n"
                            "server http 404 [4,9] method=POST path=/ host=shop:80 scheme=http version=2 request=6 response=0\n");
}

/* How much of a frame is padding was missed: the body's size is unknown, the rest is not. Nor is why a stream was reset. */
static void test_gap_in_prefix(void **state) {
        (void)state;
        const struct call talk[] = {
                FROM(HELLO "H/4/1 " GET "; raw 00000a 00 09 00000001"), GAP_IN(9),
                FROM("raw 00; H/5/3 82 86 84 be; raw 000004 03 00 00000003 00"), GAP_IN(2),
                FROM("raw 00"), TO(HELLO_BACK "H/5/1 88"), SHUT,
        };
        assert_server(talk, "server http [2,3] " GET_SAID " error=_OTHER request=0\n"
                            "server http 200 [0,5] " GET_SAID " response=0\n");
}

/* In the header block of a request: it is lost, and with it what the table held. */
static void test_gap_in_request(void **state) {
        (void)state;
        const struct call talk[] = {
                FROM(HELLO "H/5/1 " GET "; raw 000004 01 05 00000003 82 86"), GAP_IN(1),
                FROM("raw be; H/5/5 82 86 04#/x be; raw 000004 01 05 00000007"), GAP_IN(4),
                FROM("H/5/9 " GET "; H/5/11 82 86 84 be; H/1/13 82 86; raw 000004 09 04 0000000d 84"), GAP_IN(3),
                TO(HELLO_BACK "H/5/1 88; H/5/3 88; H/5/5 88; H/5/7 88; H/5/9 88; H/5/11 88; H/5/13 88"), SHUT,
        };
        assert_server(talk, "lost 1\nlost 1\nlost 1\n"
                            "server http 200 [0,6] " GET_SAID " request=0 response=0\n"
                            "server http 200 [2,6] " OTHER_SAID " request=0 response=0\n"
                            "server http 200 [4,6] " GET_SAID " request=0 response=0\n"
                            "server http 200 [4,6] " GET_SAID " request=0 response=0\n");
}

/* In the header block of an answer or its trailers: END_STREAM was seen, so it ends; the status may be hidden. */
static void test_gap_in_answer(void **state) {
        (void)state;
        const struct call talk[] = {
                FROM(HELLO "H/5/1 " GET "; H/5/3 82 86 84 be; H/5/5 " CALL_CART "; H/5/7 82 86 84 c0; H/5/9 " CALL_CART),
                TO(HELLO_BACK "H/4/1 88 5f#text/x; H/4/5 " GRPC_OK "; raw 000003 01 05 00000003 88"), GAP_OUT(2),
                TO("raw 000009 01 05 00000005 40"), GAP_OUT(8), TO("H/5/1 be; raw 000004 01 04 00000007 88"), GAP_OUT(3), TO("D/1/7 @x"),
                TO("H/4/9 88; raw 000020 01 01 00000009"), GAP_OUT(100), SHUT,
        };
        assert_server(talk, "server http 200 [0,2] " GET_SAID " request=0 response=0\n"
                            "server rpc [0,4] " CART_SAID " request=0 response=0 unobserved\n"
                            "server http 200 [0,5] " GET_SAID " request=0 response=0\n"
                            "server http 200 [0,7] " GET_SAID " request=0 response=1\n"
                            "server rpc [0,9] " CART_SAID " request=0 response=0 unobserved\n");
}

/* Heads of frames may be in it: the next turn that begins with a frame is where it goes on. What is open stays open. */
static void test_gap_between(void **state) {
        (void)state;
        const struct call talk[] = {
                FROM(HELLO "H/4/1 83 86 84 41#shop:80; raw 00000a 00 00 00000001 @ab"), GAP_IN(20), FROM("D/0/1 @abc"),
                TO(HELLO_BACK "H/4/1 88; D/0/1 @a"),
                FROM("D/1/1 @x; H/5/5 82 86 04#/x be"), TO("D/1/1 @b; H/5/5 88"), SHUT,
        };
        assert_server(talk, "server http 200 [0,5] method=POST path=/ host=shop:80 scheme=http version=2 response=2\n"
                            "server http 200 [4,5] " OTHER_SAID " request=0 response=0\n");
}

/* A turn that does not begin with a frame is passed over; within a frame's head, too, the alignment is lost. */
static void test_gap_misaligned(void **state) {
        (void)state;
        const struct call talk[] = {
                FROM(HELLO "H/5/1 " GET "; raw 0000"), GAP_IN(1), TO(HELLO_BACK "H/4/1 88"), FROM("raw @abcdefghij; H/5/3 " GET), TO("D/0/1 @a"),
                FROM("raw 000000 01 00 00000005; H/5/3 " GET), TO("D/0/1 @a"), FROM("raw 000001 0b 00 00000005 00; H/5/3 " GET), TO("D/0/1 @a"),
                FROM("raw 000002 01 05 00000007 ff ff; H/5/9 " GET), TO("D/0/1 @a"), FROM("X/0/0"), TO("D/0/1 @a"),
                FROM("W/0/0 00000001; H/5/11 " GET "; X/0/0; H/5/13 82 86 84 be"), TO("D/1/1 @a; H/5/11 8d; H/5/13 8e"), SHUT,
        };
        assert_server(talk, "server http 200 [0,14] " GET_SAID " response=6\n"
                            "server http 404 [13,14] " GET_SAID " request=0 response=0\n"
                            "server http 500 [13,14] " GET_SAID " request=0 response=0\n");
}

/* In the midst of a turn a frame of an open stream is found between bytes of others, whatever they look like. */
static void test_gap_found(void **state) {
        (void)state;
        static const char *const between[] = {
                "raw @rest-of-it", "raw *40", "raw 000002", "raw 000001 00 00 000000", "raw 000004 00 01 00000001 @abc",
                "raw 000004 01 05 00000001 88 *3",
                "raw 000004 01 04 00000001 ff *3", "raw 000400 00 00 00000009", "raw 000001 00 00 80000001 @x",
                "raw 000003 00 00 00000001 @abc 000000 07 00",
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(between); i++) {
                char out[256];
                arena_used = 0;
                snprintf(out, sizeof(out), "%s; D/0/3 @ab; D/0/3 @ab; D/1/3 @c; H/4/1 88; W/0/0 00000010; D/1/1 @d", between[i]);
                const struct call talk[] = {
                        FROM(HELLO "H/5/1 " GET "; H/5/3 82 86 84 be"), TO(HELLO_BACK "H/4/3 88; raw 004000 00 00 00000003 @part"),
                        GAP_OUT(20000), TO(out), SHUT,
                };
                assert_server(talk, "server http 200 [0,3] " GET_SAID " request=0\n"
                                    "server http 200 [0,3] " GET_SAID " request=0 response=1\n");
        }
}

/* A call of the same turn that begins with a frame is where it goes on, too: Node writes the ends of all answers so, behind the answers. One
 * that begins with anything else is not. */
static void test_gap_and_a_call(void **state) {
        (void)state;
        const struct call talk[] = {
                FROM(HELLO "H/5/1 " GET "; H/5/3 82 86 84 be; H/5/5 82 86 84 be"), TO(HELLO_BACK "H/4/1 88; D/0/1 @ab; H/4/3 8d; raw 000400 00 00 00000003"),
                GAP_OUT(3000), TO("raw @rest"), TO("raw @x 000000 00 01 00000001"), TO("D/1/1; D/1/3; D/1/5"),
                FROM("H/5/7 82 86 84 be"), TO("H/5/7 88"), SHUT,
        };
        assert_server(talk, "server http 200 [0,5] " GET_SAID " request=0\n"
                            "server http 404 [0,5] " GET_SAID " request=0\n"
                            "server http [0,5] " GET_SAID " request=0 unobserved\n"
                            "server http 200 [6,7] " GET_SAID " request=0 response=0\n");
        const struct call none_open[] = {
                FROM(HELLO "H/5/1 " GET "; raw @x"), GAP_IN(30), FROM("raw @x"), FROM("H/5/3 82 86 04#/x be"), TO(HELLO_BACK "H/5/1 88; H/5/3 8d"), SHUT,
        };
        assert_server(none_open, "server http 200 [0,4] " GET_SAID " response=0\n"
                                 "server http 404 [3,4] " OTHER_SAID " request=0 response=0\n");
}

/* Answers are missing: a stream that shows again ends when it ends, one whose status was missed is unobserved, the others are dropped with the next
 * gap, or with the connection. */
static void test_gap_of_answers(void **state) {
        (void)state;
        const struct call talk[] = {
                FROM(HELLO "H/5/1 " GET "; H/5/3 82 86 84 be; H/5/5 82 86 84 be; H/5/7 82 86 84 be"), TO(HELLO_BACK "H/4/1 88; D/0/1 @ab"),
                GAP_OUT(100),
                FROM("H/5/9 82 86 84 be"), TO("D/1/1 @c; D/0/3 @d; H/4/7 88"), FROM("W/0/0 00000001"), TO("D/1/3 @e; D/0/7 @f"), GAP_OUT(50),
                FROM("W/0/0 00000001"),
                TO("D/1/7 @g; H/5/9 8d"), SHUT,
        };
        assert_server(talk, "server http 200 [0,4] " GET_SAID " request=0\n"
                            "server http [0,6] " GET_SAID " request=0 unobserved\n"
                            "lost 1\n"
                            "server http 200 [0,9] " GET_SAID " request=0\n"
                            "server http 404 [3,9] " GET_SAID " request=0 response=0\n");
        const struct call alive[] = {
                FROM(HELLO "H/5/1 " GET "; H/5/3 82 86 84 be; H/5/5 82 86 84 be"), TO(HELLO_BACK "H/4/1 88; H/4/3 88"), GAP_OUT(100),
                FROM("W/0/0 00000001"),
                TO("D/0/1 @x; H/5/5 8d; X/0/0"), GAP_OUT(100), FROM("W/0/0 00000001"), TO("H/1/1 be; X/0/0"), FROM("W/0/0 00000001"),
                TO("D/1/1 @x"), SHUT,
        };
        assert_server(alive, "server http 404 [0,4] " GET_SAID " request=0 response=0\n"
                             "lost 1\n"
                             "server http 200 [0,9] " GET_SAID " request=0\n");
        const struct call end[] = { FROM(HELLO "H/5/1 " GET), GAP_OUT(100), SHUT };
        assert_server(end, "lost 1\n");
}

/* Before the preface, or within it: as if joined late. */
static void test_gap_first(void **state) {
        (void)state;
        const struct call first[] = { GAP_IN(50), TO("H/4/1 88 5f#text/x"), FROM("H/5/3 82 86 04#/x be"), TO("H/5/3 88 be"), SHUT };
        assert_server(first, "server http 200 [2,3] " OTHER_SAID " request=0 response=0\n");
        const struct call within[] = { FROM("raw @PRI"), GAP_IN(50), TO(HELLO_BACK), FROM("H/5/3 82 86 04#/x be"), TO("H/5/3 88"), SHUT };
        assert_server(within, "server http 200 [3,4] " OTHER_SAID " request=0 response=0\n");
}

/* ---- What is no HTTP/2 ---- */

/* A peer that breaks the rules costs its own direction until the next turn. */
static void test_broken_rules(void **state) {
        (void)state;
        static const char *const bad[] = {
                "D/8/1 06 @short", "D/8/1", "H/8/3 05 82 84", "H/20/3 00000000", "D/0/0 @x", "H/5/0 82", "C/4/3 82", "H/1/0 82",
                "R/0/0 00000008", "R/0/3 000000",
                "S/0/1", "S/0/0 00", "S/1/0 000300000064", "P/0/0 00", "P/0/1 *8", "G/0/0 00000000", "G/0/1 *8", "W/0/0 000000", "Y/0/3 00",
                "Y/0/0 *5",
                "U/4/1 00", "H/1/1; D/0/1 @x", "H/1/1; C/4/5", "H/1/1; P/0/0 *8", "H/1/1; X/0/0",
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(bad); i++) {
                char first[256];
                arena_used = 0;
                snprintf(first, sizeof(first), HELLO "H/5/1 " GET "; %s; H/5/3 " GET, bad[i]);
                const struct call talk[] = { FROM(first), TO("S/0/0; H/5/1 88"), FROM("H/5/5 " GET), TO("H/5/5 88"), SHUT };
                assert_server(talk, "server http 200 [0,1] " GET_SAID " response=0\n"
                                    "server http 200 [2,3] " GET_SAID " request=0 response=0\n");
        }
}

/* A block that is no HPACK costs its request and the table, not the alignment. */
static void test_broken_block(void **state) {
        (void)state;
        static const char *const bad[] = {
                "H/5/3 82 80", "H/5/3 82 fe", "H/5/3 82 20", "H/5/3 82 40", "H/5/3 82 00 81 ff 81", "H/5/3 82 44 ff ff ff ff ff 7f",
                "H/5/3 82 04 85 ff ff ff ff ff", "H/1/3 82 04; C/4/3", "H/1/3 82; C/0/3 80; C/4/3 84", "H/5/3 80",
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(bad); i++) {
                char first[256];
                arena_used = 0;
                snprintf(first, sizeof(first), HELLO "H/5/1 " GET "; %s; H/5/5 82 86 04#/x be", bad[i]);
                const struct call talk[] = { FROM(first), TO("S/0/0; H/5/1 88; H/5/3 88; H/5/5 88") };
                assert_server(talk, "lost 1\n"
                                    "server http 200 [0,1] " GET_SAID " request=0 response=0\n"
                                    "server http 200 [0,1] " OTHER_SAID " request=0 response=0\n");
        }
}

/* Before any header block was read it is given up: the connection is looked at anew. */
static void test_not_http2(void **state) {
        (void)state;
        static const char *const bad[] = {
                "raw @PRI-*-HTTP/3", "raw @GET", "raw 000000 01 05 00000001", "D/9/1 @x", "H/5/1 80", "H/4/1; C/0/1", "X/0/0",
                "W/0/0 00000001; raw @+OK",
                "S/0/0; S/0/0 00", "raw 000000 04 00 80000000",
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(bad); i++) {
                char first[256];
                arena_used = 0;
                snprintf(first, sizeof(first), "%s; H/5/3 " GET, bad[i]);
                const struct call talk[] = { FROM(first), TO("H/5/3 88"), FROM("H/5/5 " GET), SHUT };
                assert_server(talk, "");
        }
}

static enum protocol_match match(const char *frames) {
        struct call c = FROM(frames);
        enum protocol_match whole = protocol_http2.match((const uint8_t *)c.bytes, c.n);
        /* Fewer bytes do not say the contrary, and no byte behind the ones that count is needed. */
        for (size_t n = 0; n < c.n; n++) {
                uint8_t *copy = malloc(n + 1);
                memcpy(copy, c.bytes, n);
                enum protocol_match part = protocol_http2.match(copy, n);
                assert_true(part == whole || part == MATCH_MORE);
                assert_true(n < PROTOCOL_MATCH_MAX || part == whole);
                free(copy);
        }
        return whole;
}

static void test_match(void **state) {
        (void)state;
        static const char *const requests[] = {
                "PRI", HELLO, "H/5/1 82", "H/25/9 00000000ff 82 86", "H/2d/9 03 00000000ff 83 86 *3", "H/4/7 83 86 c1 c0 bf be",
                "H/5/7 41#shop", "H/5/7 44#/",
                "H/5/7 04#/", "H/5/7 87", "H/5/7 be", "H/5/7 fe", "H/5/7 3fe11f 82", "H/5/7 40#:path#/", "H/5/7 00 85 b9 58",
                 "W/0/0 00000010; H/5/7 82", "P/1/0 *8; H/5/7 82",
                "W/0/0 00000010; P/0/0 *8; H/4/7 82", "W/0/0 00000010; W/0/3 00000010; D/0/3 @x", "R/0/5 00000008; H/4/7 82",
                "D/0/5 " MESSAGE, "D/1/5 01 00000000",
                "S/1/0; H/5/1 82", "W/0/0 00000010; D/0/5 00 00000009 @123456789",
        };
        static const char *const answers[] = { "S/0/0 000300000064", "S/0/0", "H/4/1 88", "H/5/1 48#302", "H/4/7 0e#302", "P/0/0 *8; H/4/7 8d" };
        static const char *const nothing[] = {
                "raw @GET", "raw @*1", "raw @+OK", "raw @PRIVMSG", "raw 16030100", "raw 170303000000000000", "raw 00000054 00030000 @user",
                "raw 00000008 04d2162f", "raw 00000010 04d2162e *8", "raw 52 00000008 00000000", "raw 4a0000000a @8.0.33",
                "raw 0000002a 0012 0003 00000001 0007",
                "raw *32", "raw ffffffffffffffffff", "H/5/2 82", "H/5/0 82", "H/5/1", "H/7/1 82", "D/0/5 @hello", "D/0/5 00 00000004 @abc",
                "C/4/1 82", "U/4/1 00000002 82",
                "G/0/0 *8", "Y/0/1 *5", "W/0/0 000010", "W/1/0 00000010", "P/0/1 *8", "S/0/1", "S/1/0 000300000064", "X/0/0", "H/5/1 80",
                "H/5/1 8f", "H/5/1 40#te#x",
                "H/5/1 0f00", "H/5/7 10#te#x", "H/5/1 50#gzip", "raw 004001 01 05 00000001 82", "raw 000001 01 05 80000001 82",
                "W/0/0 00000010; H/5/2 82", "D/8/5 00 " MESSAGE,
        };
        static const char *const more[] = { "raw @PRI", "raw 00", "raw 0000", "raw 000004 08 00 00000000 0000", "S/1/0", "W/0/0 00000010",
                "raw 000009 01 05 00000001" };
        for (size_t i = 0; i < TEL_ARRAY_LEN(requests); i++)
                if (match(requests[i]) != MATCH_REQUEST)
                        fail_msg("no request: %s", requests[i]);
        for (size_t i = 0; i < TEL_ARRAY_LEN(answers); i++)
                if (match(answers[i]) != MATCH_ANSWER)
                        fail_msg("no answer: %s", answers[i]);
        for (size_t i = 0; i < TEL_ARRAY_LEN(nothing); i++)
                if (match(nothing[i]) != MATCH_NO)
                        fail_msg("it is something: %s", nothing[i]);
        for (size_t i = 0; i < TEL_ARRAY_LEN(more); i++)
                if (match(more[i]) != MATCH_MORE)
                        fail_msg("it is decided: %s", more[i]);
}

/* ---- Bounds ---- */

static const struct protocol_options plain = { .headers = (const char *const[]){ NULL } };

/* More streams than the bound are counted and passed over; when some end there is room again. */
static void test_streams_bound(void **state) {
        (void)state;
        struct harness *h = calloc(1, sizeof(*h));
        struct call talk[4];
        size_t begin = arena_used;
        FROM(HELLO);
        for (unsigned i = 0; i < HTTP2_STREAMS_MAX + 2; i++) {
                char frame[64];
                snprintf(frame, sizeof(frame), "H/5/%u 82 86 04#/%u", 2 * i + 1, i);
                FROM(frame);
        }
        talk[0] = (struct call){ CALL_IN, (const char *)arena + begin, arena_used - begin };
        talk[1] = TO(HELLO_BACK "H/5/1 88; H/5/2047 88; H/5/2049 88; H/5/2051 88");
        talk[2] = FROM("H/5/2053 82 86 04#/again");
        talk[3] = TO("H/5/2053 88");
        for (int bytewise = 0; bytewise < 2; bytewise++) {
                harness_run(h, &protocol_http2, EXCHANGE_SERVER, &plain, talk, 4, 4, 0, bytewise);
                assert_string_equal(h->text, "lost 1\nlost 1\n"
                                             "server http 200 [0,1] method=GET path=/0 scheme=http version=2 request=0 response=0\n"
                                             "server http 200 [0,1] method=GET path=/1023 scheme=http version=2 request=0 response=0\n"
                                             "server http 200 [2,3] method=GET path=/again scheme=http version=2 request=0 response=0\n");
        }
        free(h);
}

/* Those that gaps left in doubt make room for new ones. */
static void test_streams_bound_unsure(void **state) {
        (void)state;
        struct harness *h = calloc(1, sizeof(*h));
        struct call talk[4] = { [1] = GAP_OUT(100) };
        size_t begin = arena_used, lines = 0;
        FROM(HELLO);
        for (unsigned i = 0; i < HTTP2_STREAMS_MAX; i++) {
                char frame[64];
                snprintf(frame, sizeof(frame), "H/5/%u 82 86 84", 2 * i + 1);
                FROM(frame);
        }
        talk[0] = (struct call){ CALL_IN, (const char *)arena + begin, arena_used - begin };
        talk[2] = FROM("H/5/2049 82 86 04#/new");
        talk[3] = TO("H/5/2049 88");
        harness_run(h, &protocol_http2, EXCHANGE_SERVER, &plain, talk, 4, 4, 0, false);
        for (const char *p = h->text; strncmp(p, "lost 1\n", 7) == 0; p += 7)
                lines++;
        assert_int_equal(lines, HTTP2_STREAMS_MAX);
        assert_string_equal(h->text + 7 * lines, "server http 200 [2,3] method=GET path=/new scheme=http version=2 request=0 response=0\n");
        free(h);
}

static bool refuse(void *ctx, struct exchange *x, const struct chunk *at) {
        (void)ctx, (void)x, (void)at;
        return false;
}

/* Who hears of exchanges has no room: they are passed over, and what comes for them is nothing. */
static void test_refused(void **state) {
        (void)state;
        struct harness *h = calloc(1, sizeof(*h));
        const struct call talk[] = { FROM(HELLO "H/4/1 " GET "; D/1/1 @x"), TO(HELLO_BACK "H/4/1 88; D/1/1 @x"), SHUT };
        harness_start(h, &protocol_http2, EXCHANGE_SERVER, &plain);
        h->sink.begun = refuse;
        h->open = 1;                               /* it counts none as begun, but one as dropped */
        for (size_t i = 0; i < TEL_ARRAY_LEN(talk); i++)
                harness_call(h, &talk[i], i, true, SIZE_MAX, SIZE_MAX);
        assert_string_equal(h->text, "lost 1\n");
        harness_finish(h);
        free(h);
}

/* Headers without end: no memory grows with them, long texts are cut, and the stream goes on. */
static void test_long_block(void **state) {
        (void)state;
        struct harness *h = calloc(1, sizeof(*h));
        size_t begin = arena_used;
        char expected[EXCHANGE_FIELD_MAX + 256] = "server http 200 [0,1] method=GET path=/", *p = expected + strlen(expected);
        FROM(HELLO "H/1/1 82 86");
        FROM("raw 004000 09 00 00000001 04 7f 838001 @/");         /* :path of 127 + 16387 = 16514 bytes; 135 are in the next frame */
        for (unsigned i = 0; i < 16378; i++)
                put("p", 1);
        memset(p, 'p', EXCHANGE_FIELD_MAX - 1);
        strcpy(p + EXCHANGE_FIELD_MAX - 1, " scheme=http version=2 request=0 response=0\n");
        FROM("C/0/1 *0");
        FROM("raw 000087 09 00 00000001");
        for (unsigned i = 0; i < 0x87; i++)
                put("p", 1);
        for (unsigned i = 0; i < 20; i++) {
                FROM("raw 004000 09 00 00000001");
                for (unsigned f = 0; f < 16384 / 4; f++)
                        put("\x40\x01" "a\x00", 4);
        }
        FROM("C/4/1 84 82");
        struct call talk[2] = { { CALL_IN, (const char *)arena + begin, arena_used - begin } };
        talk[1] = TO("S/0/0; H/5/1 88");
        for (int bytewise = 0; bytewise < 2; bytewise++) {
                harness_run(h, &protocol_http2, EXCHANGE_SERVER, &plain, talk, 2, 2, 0, bytewise);
                assert_string_equal(h->text, expected);
        }
        free(h);
}

/* The rest of a large DATA frame need not be captured: not its padding either, but the next head. */
static void test_skip(void **state) {
        (void)state;
        static const struct { const char *frames; uint64_t skip; } rows[] = {
                { "", 0 }, { "raw 002000 00 00 00000001", 8192 }, { "raw 002000 00 01 00000001 @abc", 8189 }, { "raw 002000 00 08 00000001", 0 },
                { "raw 002000 00 08 00000001 09 @abc", 8188 }, { "raw 002000 00 08 00000001 ff *7937 @a", 0 }, { "raw 000200 00 00 00000001", 0 },
                { "raw 002000 01 05 00000003", 0 }, { "raw 002000 0b 00 00000000", 0 },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++) {
                struct harness h = { .used = 0 };
                struct exchange_sink sink = { &h, harness_begun, harness_asked, harness_ended, harness_dropped, harness_lost };
                struct connection *c = calloc(1, sizeof(*c));
                void *http2 = calloc(1, protocol_http2.size);
                char text[256];
                c->sink = &sink;
                c->refs = 1;
                protocol_http2.start(http2, c, &plain, EXCHANGE_SERVER);
                snprintf(text, sizeof(text), HELLO "H/4/1 " GET "; %s", rows[i].frames);
                struct call in = FROM(text);
                struct chunk at = { .direction = DIRECTION_IN, .data = (const uint8_t *)in.bytes, .n = in.n, .turn = true };
                assert_int_equal(protocol_http2.data(http2, &at), 0);
                assert_int_equal((protocol_http2.skip)(http2, DIRECTION_IN), rows[i].skip);      /* cmocka has a macro of this name */
                assert_int_equal((protocol_http2.skip)(http2, DIRECTION_OUT), 0);
                protocol_http2.done(http2);
                free(http2);
                connection_unref(c);
        }
}

/* The table of streams against a plain list: what is in is found, what is out is not, and all are passed once. */
static void test_streams(void **state) {
        (void)state;
        struct http2_streams s = { 0 };
        bool in[4096] = { false };
        uint32_t random = 1, n = 0;
        for (unsigned round = 0; round < 20000; round++) {
                random = random * 1664525 + 1013904223;
                uint32_t id = 1 + (random >> 10) % 4095;
                struct http2_stream *stream = http2_streams_find(&s, id);
                assert_int_equal(stream != NULL, in[id]);
                if (stream) {
                        assert_int_equal(stream->id, id);
                        http2_streams_remove(&s, stream);
                        n--;
                } else if (!http2_streams_add(&s, id, NULL)) {
                        assert_int_equal(n, HTTP2_STREAMS_MAX);
                        continue;
                } else
                        n++;
                in[id] = !in[id];
                assert_int_equal(s.count, n);
                assert_true(n <= HTTP2_STREAMS_MAX);
        }
        uint32_t i = 0, seen = 0;
        for (struct http2_stream *at; (at = http2_streams_next(&s, &i)); i++, seen++)
                assert_true(in[at->id]);
        assert_int_equal(seen, n);
        assert_true(n > 900);
        i = 0;
        for (struct http2_stream *at; (at = http2_streams_next(&s, &i)); seen--)
                http2_streams_remove(&s, at);
        assert_int_equal(seen, 0);
        assert_int_equal(s.count, 0);
        http2_streams_done(&s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(test_get, arena_reset),
                cmocka_unit_test_setup(test_client, arena_reset),
                cmocka_unit_test_setup(test_grpc, arena_reset),
                cmocka_unit_test_setup(test_grpc_status, arena_reset),
                cmocka_unit_test_setup(test_streaming, arena_reset),
                cmocka_unit_test_setup(test_interleaved, arena_reset),
                cmocka_unit_test_setup(test_continuation, arena_reset),
                cmocka_unit_test_setup(test_padding, arena_reset),
                cmocka_unit_test_setup(test_reset, arena_reset),
                cmocka_unit_test_setup(test_go_away, arena_reset),
                cmocka_unit_test_setup(test_push, arena_reset),
                cmocka_unit_test_setup(test_interim, arena_reset),
                cmocka_unit_test_setup(test_early_answer, arena_reset),
                cmocka_unit_test_setup(test_tunnels, arena_reset),
                cmocka_unit_test_setup(test_early_end, arena_reset),
                cmocka_unit_test_setup(test_options, arena_reset),
                cmocka_unit_test_setup(test_other_frames, arena_reset),
                cmocka_unit_test_setup(test_captures, arena_reset),
                cmocka_unit_test_setup(test_captures_late, arena_reset),
                cmocka_unit_test_setup(test_connection_ends, arena_reset),
                cmocka_unit_test_setup(test_late, arena_reset),
                cmocka_unit_test_setup(test_late_grpc, arena_reset),
                cmocka_unit_test_setup(test_late_role, arena_reset),
                cmocka_unit_test_setup(test_late_strangers, arena_reset),
                cmocka_unit_test_setup(test_gap_in_payload, arena_reset),
                cmocka_unit_test_setup(test_gap_in_prefix, arena_reset),
                cmocka_unit_test_setup(test_gap_in_request, arena_reset),
                cmocka_unit_test_setup(test_gap_in_answer, arena_reset),
                cmocka_unit_test_setup(test_gap_between, arena_reset),
                cmocka_unit_test_setup(test_gap_misaligned, arena_reset),
                cmocka_unit_test_setup(test_gap_found, arena_reset), cmocka_unit_test_setup(test_gap_and_a_call, arena_reset),
                cmocka_unit_test_setup(test_gap_of_answers, arena_reset),
                cmocka_unit_test_setup(test_gap_first, arena_reset),
                cmocka_unit_test_setup(test_broken_rules, arena_reset),
                cmocka_unit_test_setup(test_broken_block, arena_reset),
                cmocka_unit_test_setup(test_not_http2, arena_reset),
                cmocka_unit_test_setup(test_match, arena_reset),
                cmocka_unit_test_setup(test_streams_bound, arena_reset),
                cmocka_unit_test_setup(test_streams_bound_unsure, arena_reset),
                cmocka_unit_test_setup(test_refused, arena_reset),
                cmocka_unit_test_setup(test_long_block, arena_reset),
                cmocka_unit_test_setup(test_skip, arena_reset),
                cmocka_unit_test_setup(test_streams, arena_reset),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
