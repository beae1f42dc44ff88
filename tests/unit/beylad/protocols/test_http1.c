/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/beylad/protocols/harness.h"

struct talk {
        const char *name;
        enum exchange_role role;
        const struct call *calls;
        size_t n;
        const char *expected;
};
#define TALK(name, role, expected, ...) \
        { name, EXCHANGE_##role, (const struct call[]){ __VA_ARGS__ }, TEL_ARRAY_LEN(((const struct call[]){ __VA_ARGS__ })), expected }

/* Every split of each. */
static void assert_talks(const struct talk *talks, size_t n) {
        static const char *const headers[] = { "x-request-id", "content-type", NULL };
        static const struct protocol_options options = { .headers = headers, .query = true };
        for (size_t i = 0; i < n; i++) {
                print_message("%s\n", talks[i].name);
                assert_talk_options(&protocol_http1, talks[i].role, &options, talks[i].calls, talks[i].n, talks[i].expected);
        }
}

#define GET(path) "GET " path " HTTP/1.1\r\n\r\n"
#define OK(text) "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" text
#define EMPTY(status) "HTTP/1.1 " status "\r\nContent-Length: 0\r\n\r\n"
#define CHUNKED "Transfer-Encoding: chunked\r\n\r\n"
#define SPAN(method, path, rest) "method=" method " path=" path " scheme=http version=1.1" rest "\n"
#define GOT(status, calls, path, bytes) "server http " status " [" calls "] " SPAN("GET", path, " request=0 response=" bytes)

/* What a request says about itself. */
static void test_requests(void **state) {
        const struct talk talks[] = {
                TALK("every field", SERVER,
                     "server http 200 [0,1] method=GET path=/a/b query=x=1&y=%20 host=shop:8080 scheme=http version=1.1 agent=curl/8.1 "
                     "x-request-id:7 content-type:text/a request=0 response=2\n",
                     IN("GET /a/b?x=1&y=%20 HTTP/1.1\r\nHost: shop:8080\r\nUser-Agent:curl/8.1\r\nX-Request-ID: \t7 \t\r\nCookie: a=b\r\n"
                        "Content-Type: text/a\r\n\r\n"), OUT(OK("ok"))),
                TALK("a client asks by OUT", CLIENT, "client http 200 [0,1] " SPAN("GET", "/", " request=0 response=2"), OUT(GET("/")),
                     IN(OK("ok"))),
                TALK("HTTP/1.0", SERVER, "server http 200 [0,2] method=GET path=/ scheme=http version=1.0 request=0 response=5\n",
                     IN("GET / HTTP/1.0\r\n\r\n"), OUT("HTTP/1.0 200 OK\r\n\r\nhel"), OUT("lo"), SHUT),
                TALK("names in any case, values without space", SERVER,
                     "server http 200 [0,1] method=POST path=/ host=h scheme=http version=1.1 request=3 response=2\n",
                     IN("POST / HTTP/1.1\r\nHOST:h\r\ncontent-LENGTH:3\r\n\r\nabc"), OUT("HTTP/1.1 200 OK\r\ncontent-length:2\r\n\r\nok")),
                TALK("lines end with LF alone", SERVER,
                     "server http 200 [0,1] method=GET path=/ host=h scheme=http version=1.1 request=0 response=2\n",
                     IN("GET / HTTP/1.1\nHost: h\n\n"), OUT("HTTP/1.1 200 OK\nContent-Length: 2\n\nok")),
                TALK("empty lines before a request", SERVER,
                     "server http 200 [0,1] " SPAN("POST", "/", " request=1 response=2")
                     GOT("200", "2,3", "/2", "2"),
                     IN("\r\nPOST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx\r\n"), OUT(OK("ok")), IN("\r\n\n" GET("/2")), OUT(OK("ok"))),
                TALK("folded lines", SERVER,
                     "server http 200 [0,1] method=POST path=/ scheme=http version=1.1 agent=a   b request=3 response=2\n",
                     IN("POST / HTTP/1.1\r\nUser-Agent: a\r\n b\r\nContent-Length:\r\n\t3\r\n\r\nabc"), OUT(OK("ok"))),
                TALK("white space before the first field", SERVER, GOT("200", "0,1", "/", "2"),
                     IN("GET / HTTP/1.1\r\n Host: evil\r\n\r\n"), OUT(OK("ok"))),
                TALK("lines that are no fields", SERVER,
                     "server http 400 [0,1] method=GET path=/ host=h scheme=http version=1.1 request=0 response=0\n",
                     IN("GET / HTTP/1.1\r\nnonsense\r\n: empty\r\nHost : h\r\n\r\n"), OUT(EMPTY("400 Bad Request"))),
                TALK("the first of two hosts", SERVER,
                     "server http 200 [0,1] method=GET path=/ host=a scheme=http version=1.1 request=0 response=2\n",
                     IN("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), OUT(OK("ok"))),
                TALK("an absolute target counts, not its Host; no passwords", SERVER,
                     "server http 200 [0,1] method=GET path=/p query=q host=real:1 scheme=https version=1.1 request=0 response=2\n",
                     IN("GET https://me:secret@real:1/p?q HTTP/1.1\r\nHost: other\r\n\r\n"), OUT(OK("ok"))),
                TALK("an absolute target without a path", SERVER,
                     "server http 200 [0,1] method=GET path=/ query=q host=h scheme=http version=1.1 request=0 response=2\n",
                     IN("GET http://h?q HTTP/1.1\r\n\r\n"), OUT(OK("ok"))),
                TALK("asterisk", SERVER,
                     "server http 200 [0,1] method=OPTIONS path=* host=h scheme=http version=1.1 request=0 response=2\n",
                     IN("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"), OUT(OK("ok"))),
                TALK("other methods", SERVER, "server http 207 [0,1] " SPAN("PROPFIND", "/dav", " request=0 response=0"),
                     IN("PROPFIND /dav HTTP/1.1\r\n\r\n"), OUT("HTTP/1.1 207 Multi-Status\r\nContent-Length: 0\r\n\r\n")),
                TALK("bytes that are not UTF-8", SERVER, GOT("200", "0,1", "/long-enough-not-to-look-wrong/\xc3\xa4??", "2"),
                     IN("GET /long-enough-not-to-look-wrong/\xc3\xa4\xff\x01 HTTP/1.1\r\n\r\n"), OUT(OK("ok"))),
                TALK("an allowed header twice", SERVER,
                     "server http 200 [0,1] method=GET path=/ scheme=http version=1.1 x-request-id:1 x-request-id:2 request=0 response=2\n",
                     IN("GET / HTTP/1.1\r\nX-Request-Id: 1\r\nx-request-id: 2\r\n\r\n"), OUT(OK("ok"))),
                TALK("traceparent", SERVER, "server http 200 [0,1] " SPAN("GET", "/", " request=0 response=2 parent=0a..31"),
                     IN("GET / HTTP/1.1\r\nTraceParent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n"), OUT(OK("ok"))),
                TALK("two traceparents are none", SERVER, GOT("200", "0,1", "/", "2"),
                     IN("GET / HTTP/1.1\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
                        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203332-01\r\n\r\n"), OUT(OK("ok"))),
        };
        (void)state;
        assert_talks(talks, TEL_ARRAY_LEN(talks));
}

/* How long the body of a request is, and what becomes of one that does not come. */
static void test_request_bodies(void **state) {
        const struct talk talks[] = {
                TALK("in several calls", SERVER, "server http 200 [0,3] " SPAN("PUT", "/", " request=6 response=2"),
                     IN("PUT / HTTP/1.1\r\nContent-Length: 6\r\n\r\n"), IN("abc"), IN("def"), OUT(OK("ok"))),
                TALK("chunked, with extensions and trailers", SERVER,
                     "server http 200 [0,2] " SPAN("POST", "/", " request=11 response=2") GOT("200", "3,4", "/2", "2"),
                     IN("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked ;q=1\r\nContent-Length: 3\r\n\r\n5;a=\"b\";c\r\nhello\r\n"),
                     IN("6 \r\n world\r\n000\r\nTrailer: x\r\n folded\r\n\r\n"), OUT(OK("ok")), IN(GET("/2")), OUT(OK("ok"))),
                TALK("chunks with LF alone", SERVER, "server http 200 [0,1] " SPAN("POST", "/", " request=19 response=2"),
                     IN("POST / HTTP/1.1\r\nTransfer-Encoding: CHUNKED\r\n\r\nA\n0123456789\n9\n012345678\n0\n\n"), OUT(OK("ok"))),
                TALK("100-continue", SERVER, "server http 201 [0,3] " SPAN("PUT", "/", " request=3 response=0"),
                     IN("PUT / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n"), OUT("HTTP/1.1 100 Continue\r\n\r\n"),
                     IN("abc"),
                     OUT(EMPTY("201 Created"))),
                TALK("100-continue, and an answer before the body", SERVER,
                     "server http 413 [0,2] " SPAN("PUT", "/", " response=0") GOT("200", "5,6", "/2", "2"),
                     IN("PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 18\r\n\r\n"), OUT("HTTP/1.1 100 Continue\r\n\r\n"),
                     OUT(EMPTY("413 Large")), IN("GET /x HTTP/1.1\r\n"), IN("\r"), IN(GET("/2")), OUT(OK("ok"))),
                TALK("100-continue refused: the body is not sent", SERVER,
                     "server http 417 [0,1] " SPAN("PUT", "/", " response=0") GOT("200", "2,3", "/2", "2"),
                     IN("PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 30\r\n\r\n"), OUT(EMPTY("417 No")),
                     IN(GET("/2")), OUT(OK("ok"))),
                TALK("100-continue refused: the body is sent all the same", SERVER,
                     "server http 417 [0,1] " SPAN("PUT", "/", " response=0") GOT("200", "3,4", "/2", "2"),
                     IN("PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 12\r\n\r\n"), OUT(EMPTY("417 No")),
                     IN("GET it, now!"), IN(GET("/2")), OUT(OK("ok"))),
                TALK("100-continue refused: a body of capitals, and noise", SERVER, "server http 417 [0,1] " SPAN("PUT", "/", " response=0")
                     "lost 1\n",
                     IN("PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"), OUT(EMPTY("417 No")),
                     IN("AB"), IN("\x01\x02")),
                TALK("100-continue refused: neither chunks", SERVER,
                     "server http 417 [0,1] " SPAN("PUT", "/", " response=0") GOT("200", "2,3", "/2", "2"),
                     IN("PUT / HTTP/1.1\r\nExpect: 100-continue\r\n" CHUNKED), OUT(EMPTY("417 No")),
                     IN(GET("/2")), OUT(OK("ok"))),
                TALK("100-continue refused: chunks all the same", SERVER,
                     "server http 417 [0,1] " SPAN("PUT", "/", " response=0") GOT("200", "3,4", "/2", "2"),
                     IN("PUT / HTTP/1.1\r\nExpect: 100-continue\r\n" CHUNKED), OUT(EMPTY("417 No")),
                     IN("A\r\nGET /HTTP/\r\n0\r\n\r\n"), IN(GET("/2")), OUT(OK("ok"))),
                TALK("answered before the body is whole: the rest is still its body", SERVER,
                     "server http 413 [0,1] " SPAN("PUT", "/", " response=0") GOT("200", "3,4", "/2", "2"),
                     IN("PUT / HTTP/1.1\r\nContent-Length: 19\r\n\r\n"), OUT(EMPTY("413 Too Large")),
                     IN("GET /x HTTP/1.1\r\n\r\n"), IN(GET("/2")), OUT(OK("ok"))),
                TALK("the same length three times", SERVER, "server http 200 [0,1] " SPAN("POST", "/", " request=3 response=2"),
                     IN("POST / HTTP/1.1\r\nContent-Length: 3, 3\r\nContent-Length: 3\r\n\r\nabc"), OUT(OK("ok"))),
                TALK("two lengths: who knows where the next one begins", SERVER,
                     "server http 400 [0,1] " SPAN("POST", "/", " response=0") GOT("200", "2,3", "/2", "2"),
                     IN("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcGET /no HTTP/1.1\r\n\r\n"),
                     OUT(EMPTY("400 Bad Request")), IN(GET("/2")), OUT(OK("ok"))),
                TALK("a length that is no number", SERVER, "server http 400 [0,1] " SPAN("POST", "/", " response=0"),
                     IN("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\nabc"), OUT(EMPTY("400 Bad Request"))),
                TALK("a length of twenty digits", SERVER, "server http 413 [0,1] " SPAN("POST", "/", " response=0"),
                     IN("POST / HTTP/1.1\r\nContent-Length: 18446744073709551617\r\n\r\na"), OUT(EMPTY("413 No"))),
                TALK("chunked is not the last coding", SERVER, "server http 400 [0,1] " SPAN("POST", "/", " response=0"),
                     IN("POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\nabc"), OUT(EMPTY("400 Bad Request"))),
                TALK("a chunk size that is none", SERVER,
                     "server http 400 [0,1] " SPAN("POST", "/", " response=0") GOT("200", "2,3", "/2", "2"),
                     IN("POST / HTTP/1.1\r\n" CHUNKED "5\r\nhello\r\nzz\r\n"), OUT(EMPTY("400 Bad Request")),
                     IN(GET("/2")), OUT(OK("ok"))),
                TALK("a chunk size of seventeen digits", SERVER, "server http 400 [0,1] " SPAN("POST", "/", " response=0"),
                     IN("POST / HTTP/1.1\r\n" CHUNKED "10000000000000005\r\nhello\r\n"),
                     OUT(EMPTY("400 Bad Request"))),
        };
        (void)state;
        assert_talks(talks, TEL_ARRAY_LEN(talks));
}

/* Where an answer ends. */
static void test_answers(void **state) {
        const struct talk talks[] = {
                TALK("keep-alive", SERVER,
                     GOT("200", "0,1", "/1", "2") GOT("200", "2,3", "/2", "2"),
                     IN(GET("/1")), OUT(OK("ok")), IN(GET("/2")), OUT(OK("ok")), SHUT),
                TALK("head and body in calls of their own", SERVER, GOT("200", "0,3", "/", "4"),
                     IN(GET("/")), OUT("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"), OUT("ab"), OUT("cd"), OUT("too much")),
                TALK("HEAD has no body", SERVER,
                     "server http 200 [0,1] " SPAN("HEAD", "/1", " request=0 response=0") GOT("200", "2,3", "/2", "2"),
                     IN("HEAD /1 HTTP/1.1\r\n\r\n"), OUT("HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n"), IN(GET("/2")), OUT(OK("ok"))),
                TALK("204 and 304 have none", SERVER,
                     GOT("204", "0,1", "/1", "0") GOT("304", "2,3", "/2", "0"),
                     IN(GET("/1")), OUT("HTTP/1.1 204 No\r\n" CHUNKED), IN(GET("/2")),
                     OUT("HTTP/1.1 304 Same\r\nContent-Length: 2000\r\n\r\n")),
                TALK("chunked", SERVER,
                     GOT("200", "0,3", "/1", "8") GOT("200", "4,5", "/2", "2"),
                     IN(GET("/1")), OUT("HTTP/1.1 200 OK\r\n" CHUNKED "3\r\nabc\r\n"), OUT("00005;x\r\ndefgh\r\n"),
                     OUT("0\r\nA: b\r\n\r\n"),
                     IN(GET("/2")), OUT(OK("ok"))),
                TALK("no length: until the end", SERVER, GOT("200", "0,2", "/", "12"),
                     IN(GET("/")), OUT("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 "), OUT("200"), END_OUT, END_IN),
                TALK("another coding: until the end", SERVER, GOT("200", "0,1", "/", "3"),
                     IN(GET("/")), OUT("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 1\r\n\r\nabc"), SHUT),
                TALK("identity is no coding", SERVER, GOT("200", "0,1", "/", "3"),
                     IN(GET("/")), OUT("HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc")),
                TALK("two lengths: until the next turn", SERVER,
                     "server http 200 [0,2] " SPAN("GET", "/1", " request=0") GOT("200", "3,4", "/2", "2"),
                     IN(GET("/1")), OUT("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc"), OUT("d"), IN(GET("/2")),
                     OUT(OK("ok"))),
                TALK("interim answers", CLIENT, "client http 200 [0,3] " SPAN("GET", "/", " request=0 response=2"),
                     OUT(GET("/")), IN("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"), IN("HTTP/1.1 102 Processing\r\n\r\n"),
                     IN(OK("ok"))),
                TALK("a status line without a reason", SERVER, GOT("404", "0,1", "/", "0"),
                     IN(GET("/")), OUT("HTTP/1.1 404\r\nno field\r\nContent-Length: 0\r\n\r\n")),
                TALK("a request that was not seen", SERVER, GOT("200", "1,2", "/2", "2"),
                     OUT(OK("ok")), IN(GET("/2")), OUT(OK("ok"))),
                TALK("half a request is answered", SERVER, "server http 408 [0,1] " SPAN("GET", "/", " response=0"),
                     IN("GET / HTTP/1.1\r\nHost:"), OUT(EMPTY("408 Timeout")), SHUT),
                TALK("half a request line is answered", SERVER, "lost 1\n",
                     IN("GET /way"), OUT(EMPTY("408 Timeout")), SHUT),
        };
        (void)state;
        assert_talks(talks, TEL_ARRAY_LEN(talks));
}

#define GET6 GET("/1") GET("/2") GET("/3") GET("/4") GET("/5") GET("/6")
#define OK6 OK("ok") OK("ok") OK("ok") OK("ok") OK("ok") OK("ok")
#define SIX(calls) \
        GOT("200", calls, "/1", "2") GOT("200", calls, "/2", "2") GOT("200", calls, "/3", "2") GOT("200", calls, "/4", "2") \
        GOT("200", calls, "/5", "2") GOT("200", calls, "/6", "2")

static void test_pipelining(void **state) {
        const struct talk talks[] = {
                TALK("answers in order", SERVER,
                     GOT("201", "0,1", "/1", "1") "server http 202 [0,1] " SPAN("HEAD", "/2", " request=0 response=0")
                     "server http 203 [0,2] " SPAN("POST", "/3", " request=2 response=0") GOT("200", "3,4", "/4", "2"),
                     IN(GET("/1") "HEAD /2 HTTP/1.1\r\n\r\nPOST /3 HTTP/1.1\r\nContent-Length: 2\r\n\r\nab"),
                     OUT("HTTP/1.1 201 A\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 202 B\r\nContent-Length: 100\r\n\r\n"),
                     OUT(EMPTY("203 C")), IN(GET("/4")), OUT(OK("ok"))),
                TALK("more than there are places, and again", SERVER, SIX("0,1") SIX("2,3") SIX("4,5"),
                     IN(GET6), OUT(OK6), IN(GET6), OUT(OK6), IN(GET6), OUT(OK6)),
                TALK("the next request during an answer", SERVER,
                     GOT("200", "0,3", "/1", "2") GOT("200", "2,3", "/2", "2"),
                     IN(GET("/1")), OUT("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no"), IN(GET("/2")), OUT("k" OK("ok"))),
                TALK("the end comes before the answers", SERVER,
                     GOT("200", "0,1", "/1", "2")
                     "server http [0,3] " SPAN("GET", "/2", " error=connection_reset request=0"),
                     IN(GET("/1") GET("/2")), OUT(OK("ok")), END_IN, END_OUT),
        };
        (void)state;
        assert_talks(talks, TEL_ARRAY_LEN(talks));
}

static void test_ends(void **state) {
        const struct talk talks[] = {
                TALK("no answer", CLIENT, "client http [0,1] " SPAN("GET", "/", " error=connection_reset request=0"), OUT(GET("/")), SHUT),
                TALK("no answer but interim ones", CLIENT, "client http [0,2] " SPAN("GET", "/", " error=connection_reset request=0"),
                     OUT(GET("/")), IN("HTTP/1.1 103 Early Hints\r\n\r\n"), SHUT),
                TALK("half closed: still answered", SERVER, GOT("200", "0,2", "/", "2"),
                     IN(GET("/")), END_IN, OUT(OK("ok")), END_OUT),
                TALK("within a status line", SERVER, "server http [0,3] " SPAN("GET", "/", " error=response_ended request=0"),
                     IN(GET("/")), OUT("HTTP/1.1 2"), SHUT),
                TALK("within the first of two status lines", SERVER,
                     "server http [0,3] " SPAN("GET", "/1", " error=response_ended request=0")
                     "server http [0,3] " SPAN("GET", "/2", " error=connection_reset request=0"),
                     IN(GET("/1") GET("/2")), OUT("HTTP/1.1 2"), SHUT),
                TALK("within the head of an answer", SERVER, "server http 200 [0,3] " SPAN("GET", "/", " error=response_ended request=0"),
                     IN(GET("/")), OUT("HTTP/1.1 200 Oh\r\nCont"), SHUT),
                TALK("within a body", SERVER, "server http 200 [0,3] " SPAN("GET", "/", " error=response_ended request=0 response=3"),
                     IN(GET("/")), OUT("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc"), SHUT),
                TALK("within the first of two answers", SERVER,
                     "server http 200 [0,3] " SPAN("GET", "/1", " error=response_ended request=0 response=3")
                     "server http [0,3] " SPAN("GET", "/2", " error=connection_reset request=0"),
                     IN(GET("/1") GET("/2")), OUT("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc"), SHUT),
                TALK("within chunks", SERVER, "server http 200 [0,3] " SPAN("GET", "/", " error=response_ended request=0 response=3"),
                     IN(GET("/")), OUT("HTTP/1.1 200 OK\r\n" CHUNKED "3\r\nabc\r\n0\r\n"), SHUT),
                TALK("within a request's body", SERVER, "server http [0,2] " SPAN("POST", "/", " error=connection_reset"),
                     IN("POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc"), END_IN, END_OUT),
                TALK("within a request's head: nobody could answer", SERVER, "", IN("GET / HTTP/1.1\r\nHost: a"), SHUT),
                TALK("within a request line", SERVER, "", IN("GE"), SHUT),
                TALK("requests behind the last answer", SERVER, GOT("200", "0,1", "/1", "2"),
                     IN(GET("/1")), OUT(OK("ok")), END_OUT, IN(GET("/2")), END_IN),
                TALK("nothing at all", SERVER, "", SHUT),
        };
        (void)state;
        assert_talks(talks, TEL_ARRAY_LEN(talks));
}

static void test_bad_input(void **state) {
        const struct talk talks[] = {
                TALK("no HTTP after all: what was asked is counted", SERVER, "lost 1\n", IN(GET("/")), OUT("250 well\r\n"), IN(GET("/2")),
                     OUT(OK("ok"))),
                TALK("no version", SERVER, "", IN("CWD /there/where/it/is/longer/than/can/be/told\r\n"), OUT("250 well\r\n")),
                TALK("noise behind a good request", SERVER,
                     GOT("200", "0,1", "/", "2") "lost 1\nserver http 200 [4,5] " SPAN("GET", "/2", " request=0 response=2"),
                     IN(GET("/")), OUT(OK("ok")), IN("\x16\x03\x01 noise\r\n"), OUT(EMPTY("400 Bad")), IN(GET("/2")), OUT(OK("ok"))),
                TALK("noise instead of a second answer", SERVER,
                     GOT("200", "0,1", "/", "2") "lost 1\nserver http 200 [4,5] " SPAN("GET", "/3", " request=0 response=2"),
                     IN(GET("/")), OUT(OK("ok")), IN(GET("/2")), OUT("HTTP/1.1 OK\r\n\r\n"), IN(GET("/3")), OUT(OK("ok"))),
                TALK("a status of four digits", SERVER, "lost 1\n", IN(GET("/")), OUT("HTTP/1.1 2000 OK\r\n\r\n")),
                TALK("chunks that do not end", SERVER,
                     "server http 200 [0,1] " SPAN("GET", "/1", " request=0") GOT("200", "2,3", "/2", "2"),
                     IN(GET("/1")), OUT("HTTP/1.1 200 OK\r\n" CHUNKED "3\r\nabcd\r\n0\r\n\r\n"), IN(GET("/2")), OUT(OK("ok"))),
                TALK("a body that HEAD must not have", SERVER,
                     "server http 200 [0,1] " SPAN("HEAD", "/1", " request=0 response=0") GOT("200", "2,3", "/2", "2"),
                     IN("HEAD /1 HTTP/1.1\r\n\r\n"), OUT(OK("ok")), IN(GET("/2")), OUT(OK("ok"))),
        };
        (void)state;
        assert_talks(talks, TEL_ARRAY_LEN(talks));
}

/* The last run's, byte by byte: what the connection was told. */
static void assert_leaves(const struct call *calls, size_t n, bool upgraded, const struct protocol *switched) {
        static const char *const none[] = { NULL };
        static const struct protocol_options options = { .headers = none };
        struct harness *h = calloc(1, sizeof(*h));
        for (int bytewise = 0; bytewise < 2; bytewise++) {
                harness_run(h, &protocol_http1, EXCHANGE_SERVER, &options, calls, n, n, 0, bytewise);
                assert_int_equal(h->upgraded, upgraded);
                assert_ptr_equal(h->switched, switched);
        }
        free(h);
}

static void test_upgrades(void **state) {
        static const char websocket[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
        const struct talk talks[] = {
                TALK("websocket", SERVER, "server http 101 [0,1] " SPAN("GET", "/ws", " upgrade=websocket request=0 response=0"),
                     IN("GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"),
                     OUT("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x02hi"),
                     IN("\x81\x82zzzzhi"), SHUT),
                TALK("frames before the 101 are no requests", SERVER, "server http 101 [0,2] " SPAN("GET", "/ws",
                     " upgrade=websocket request=0 response=0"),
                     IN("GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"), IN("\x81\x82zzzzhi"),
                     OUT("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")),
                TALK("an upgrade that the server ignores", SERVER,
                     GOT("200", "0,1", "/", "2") GOT("200", "2,3", "/2", "2"),
                     IN("GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n"), OUT(OK("ok")), IN(GET("/2")), OUT(OK("ok"))),
                TALK("requests behind an upgrade are lost", SERVER,
                     "server http 101 [0,1] " SPAN("GET", "/ws", " upgrade=x request=0 response=0") "lost 1\n",
                     IN("GET /ws HTTP/1.1\r\nUpgrade: x\r\n\r\n" GET("/2")), OUT("HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n")),
                TALK("CONNECT", CLIENT, "client http 200 [0,1] method=CONNECT host=db:5432 version=1.1 request=0 response=0\n",
                     OUT("CONNECT db:5432 HTTP/1.1\r\nHost: proxy\r\n\r\n"), IN("HTTP/1.1 200 Connected\r\nContent-Length: 7\r\n\r\n"),
                     OUT("\x16\x03\x01"), SHUT),
                TALK("CONNECT refused", SERVER,
                     "server http 403 [0,1] method=CONNECT host=db:5432 version=1.1 request=0 response=2\n"
                     GOT("200", "2,3", "/", "2"),
                     IN("CONNECT db:5432 HTTP/1.1\r\n\r\n"), OUT("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"), IN(GET("/")),
                     OUT(OK("ok"))),
        };
        (void)state;
        assert_talks(talks, TEL_ARRAY_LEN(talks));
        assert_leaves((const struct call[]){ IN(GET("/")), { CALL_OUT, websocket, sizeof(websocket) - 1 } }, 2, true, NULL);
        assert_leaves((const struct call[]){ IN("GET / HTTP/1.1\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n\r\n"),
                                             OUT("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
                                                     IN("PRI * HTTP/2.0") },
                      3, false, &protocol_http2);
        assert_leaves((const struct call[]){ IN("CONNECT a:1 HTTP/1.1\r\n\r\n"), OUT("HTTP/1.1 200 Well\r\n\r\n") }, 2, true, NULL);
        assert_leaves((const struct call[]){ IN(GET("/")), OUT(OK("ok")) }, 2, false, NULL);
}

/* A message longer than anybody takes. `head` and what fills it up to n bytes, then `end`. */
static char *filled(const char *head, char with, size_t n, const char *end) {
        char *text = malloc(n + strlen(end) + 1);
        memset(text, with, n);
        memcpy(text, head, strlen(head));
        strcpy(text + n, end);
        return text;
}

static void assert_long(const char *request, const char *answer, const char *expected) {
        static const char *const none[] = { NULL };
        static const struct protocol_options options = { .headers = none, .query = true };
        const struct call calls[] = { { CALL_IN, request, strlen(request) }, { CALL_OUT, answer, strlen(answer) }, IN(GET("/2")),
                OUT(OK("ok")) };
        struct harness *h = calloc(1, sizeof(*h));
        size_t pieces[] = { SIZE_MAX, 1, 7, 1000, 2304, 16384 };
        for (size_t i = 0; i < TEL_ARRAY_LEN(pieces); i++) {
                harness_start(h, &protocol_http1, EXCHANGE_SERVER, &options);
                for (size_t k = 0; k < TEL_ARRAY_LEN(calls); k++)
                        harness_call(h, &calls[k], k, true, pieces[i], pieces[i]);
                harness_finish(h);
                assert_string_equal(h->text, expected);
        }
        free(h);
}

static void test_bounds(void **state) {
        static const char next[] = "server http 200 [2,3] method=GET path=/2 scheme=http version=1.1 request=0 response=2\n";
        char expected[8192], path[1025], query[1025];
        (void)state;
        memset(path, 'p', 1024);
        memset(query, 'q', 1024);
        path[0] = '/';
        path[1024] = query[1024] = '\0';

        TEL_CLEANUP_FREE char *target = filled("GET /", 'p', 6000, " HTTP/1.1\r\n\r\n"), *both = filled("GET /?", 'q', 5000,
                "?x HTTP/1.1\r\n\r\n");
        snprintf(expected, sizeof(expected), "server http 200 [0,1] method=GET path=%s scheme=http version=1.1 request=0 response=2\n%s",
                path, next);
        assert_long(target, OK("ok"), expected);
        snprintf(expected, sizeof(expected),
                "server http 200 [0,1] method=GET path=/ query=%s scheme=http version=1.1 request=0 response=2\n%s", query, next);
        assert_long(both, OK("ok"), expected);

        TEL_CLEANUP_FREE char *value = filled("GET / HTTP/1.1\r\nUser-Agent: ", 'q', 9000, "\r\nHost: h\r\n\r\n");
        snprintf(expected, sizeof(expected),
                "server http 200 [0,1] method=GET path=/ host=h scheme=http version=1.1 agent=%s request=0 response=2\n%s", query, next);
        assert_long(value, OK("ok"), expected);

        TEL_CLEANUP_FREE char *full = filled("GET / HTTP/1.1\r\nX: ", 'q', 65536 - 4, "\r\n\r\n"), *over = filled("GET / HTTP/1.1\r\nX: ",
                'q', 65536 - 3, "\r\n\r\n");
        snprintf(expected, sizeof(expected), "server http 431 [0,1] method=GET path=/ scheme=http version=1.1 request=0 response=0\n%s",
                next);
        assert_long(full, EMPTY("431 Large"), expected);
        snprintf(expected, sizeof(expected), "server http 431 [0,1] method=GET path=/ scheme=http version=1.1 response=0\n%s", next);
        assert_long(over, EMPTY("431 Large"), expected);

        TEL_CLEANUP_FREE char *answer = filled("HTTP/1.1 200 OK\r\nX: ", 'q', 70000, "\r\nContent-Length: 2\r\n\r\nok");
        snprintf(expected, sizeof(expected), "server http 200 [0,1] method=GET path=/ scheme=http version=1.1 request=0\n%s", next);
        assert_long(GET("/"), answer, expected);
        TEL_CLEANUP_FREE char *trailers = filled("HTTP/1.1 200 OK\r\n" CHUNKED "0\r\nX: ", 'q', 70000, "\r\n\r\n");
        assert_long(GET("/"), trailers, expected);
        TEL_CLEANUP_FREE char *interim = filled("HTTP/1.1 103 Early\r\nX: ", 'q', 70000, "\r\n\r\n" OK("ok"));
        snprintf(expected, sizeof(expected), "lost 1\n%s", next);
        assert_long(GET("/"), interim, expected);
        /* A request line without an end: it is counted, because what it asked is not known. */
        TEL_CLEANUP_FREE char *line = filled("GET /", 'p', 70000, " HTTP/1.1\r\n\r\n");
        snprintf(expected, sizeof(expected),
                "server http 200 [0,1] method=GET path=/1 scheme=http version=1.1 request=0 response=2\nlost 1\n");
        const struct call calls[] = { IN(GET("/1")), OUT(OK("ok")), { CALL_IN, line, strlen(line) }, OUT(EMPTY("414 Long")) };
        static const char *const none[] = { NULL };
        struct harness *h = calloc(1, sizeof(*h));
        for (int bytewise = 0; bytewise < 2; bytewise++) {
                harness_run(h, &protocol_http1, EXCHANGE_SERVER, &(struct protocol_options){ .headers = none }, calls, TEL_ARRAY_LEN(calls),
                        99, 0, bytewise);
                assert_string_equal(h->text, expected);
        }
        free(h);
}

static unsigned lines_of(const char *text, const char *begin) {
        unsigned n = 0;
        for (; *text; text = strchr(text, '\n') + 1)
                n += strncmp(text, begin, strlen(begin)) == 0;
        return n;
}

/* More requests than places, in one turn: those that find none are counted, the answers of the others are still theirs. */
static void test_pipelining_bound(void **state) {
        static const char *const none[] = { NULL };
        static const struct protocol_options options = { .headers = none };
        char *requests = calloc(300, 64), *answers = calloc(301, 64), last[64];
        struct harness *h = calloc(1, sizeof(*h));
        (void)state;
        for (unsigned i = 0; i < 300; i++) {
                sprintf(requests + strlen(requests), "GET /%u HTTP/1.1\r\n\r\n", i);
                sprintf(answers + strlen(answers), "HTTP/1.1 %u OK\r\nContent-Length: 1\r\n\r\nx", 400 + i);
        }
        strcat(requests, "GET /300 HTTP/1.1\r\nHo");     /* and bytes of the last one are missing */
        const struct call calls[] = { { CALL_IN, requests, strlen(requests) }, GAP_IN(9), { CALL_OUT, answers, strlen(answers) },
                IN(GET("/end")),
                                      OUT(OK("ok")), SHUT };
        for (int bytewise = 0; bytewise < 2; bytewise++) {
                harness_run(h, &protocol_http1, EXCHANGE_SERVER, &options, calls, TEL_ARRAY_LEN(calls), 99, 0, bytewise);
                assert_int_equal(lines_of(h->text, "server"), 257);
                assert_int_equal(lines_of(h->text, "lost 1\n"), 45);
                for (unsigned i = 0; i < 256; i++) {
                        sprintf(last, "server http %u [0,2] method=GET path=/%u ", 400 + i, i);
                        assert_int_equal(lines_of(h->text, last), 1);
                }
                assert_int_equal(lines_of(h->text, "server http 200 [3,4] method=GET path=/end"), 1);
        }
        free(h);
        free(requests);
        free(answers);
}

/* Among those without a place is a HEAD: where its answer ends cannot be known, so no more answers are matched in that turn. */
static void test_pipelining_bound_mixed(void **state) {
        static const char *const none[] = { NULL };
        static const struct protocol_options options = { .headers = none };
        char *requests = calloc(301, 64), *answers = calloc(301, 64);
        struct harness *h = calloc(1, sizeof(*h));
        (void)state;
        for (unsigned i = 0; i < 300; i++) {
                sprintf(requests + strlen(requests), "%s /%u HTTP/1.1\r\n\r\n", i == 280 ? "HEAD" : "GET", i);
                sprintf(answers + strlen(answers), "HTTP/1.1 %u OK\r\nContent-Length: 1\r\n\r\n%s", 400 + i, i == 280 ? "" : "x");
        }
        const struct call calls[] = { { CALL_IN, requests, strlen(requests) }, { CALL_OUT, answers, strlen(answers) }, IN(GET("/end")),
                OUT(OK("ok")), SHUT };
        for (int bytewise = 0; bytewise < 2; bytewise++) {
                harness_run(h, &protocol_http1, EXCHANGE_SERVER, &options, calls, TEL_ARRAY_LEN(calls), 99, 0, bytewise);
                assert_int_equal(lines_of(h->text, "server"), 257);
                assert_int_equal(lines_of(h->text, "lost 1\n"), 44);
                assert_int_equal(lines_of(h->text, "server http 200 [2,3] method=GET path=/end"), 1);
        }
        free(h);
        free(requests);
        free(answers);
}

/* ---- bytes that are missing ---- */

/* In place: calls of which no byte could be read, and those that moved more bytes than are captured. */
static void test_gaps_in_place(void **state) {
        const struct talk talks[] = {
                TALK("within bodies of known length", SERVER, "server http 200 [0,5] " SPAN("POST", "/", " request=10000 response=5000"),
                     IN("POST / HTTP/1.1\r\nContent-Length: 10000\r\n\r\nabc"), GAP_IN(9990), IN("abcdefg"),
                     OUT("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"),
                     OUT("abcd"), GAP_OUT(4996)),
                TALK("an answer's last bytes, then the next", SERVER,
                     GOT("200", "0,2", "/1", "5000") GOT("200", "3,4", "/2", "2"),
                     IN(GET("/1")), OUT("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"), GAP_OUT(5000), IN(GET("/2")), OUT(OK("ok"))),
                TALK("within a chunk", SERVER, GOT("200", "0,3", "/", "4096"),
                     IN(GET("/")), OUT("HTTP/1.1 200 OK\r\n" CHUNKED "1000\r\n"), GAP_OUT(4096), OUT("\r\n0\r\n\r\n")),
                TALK("within an answer until the end", SERVER, GOT("200", "0,2", "/", "4097"),
                     IN(GET("/")), OUT("HTTP/1.1 200 OK\r\n\r\nx"), GAP_OUT(4096), SHUT),
                TALK("more than a chunk: until the next turn", SERVER,
                     "server http 200 [0,3] " SPAN("GET", "/1", " request=0") GOT("200", "4,5", "/2", "2"),
                     IN(GET("/1")), OUT("HTTP/1.1 200 OK\r\n" CHUNKED "3\r\nab"), GAP_OUT(3), OUT("3\r\nabc\r\n0\r\n\r\n"),
                     IN(GET("/2")), OUT(OK("ok"))),
                TALK("more than a chunk: until the end", SERVER, "server http 200 [0,3] " SPAN("GET", "/1", " request=0"),
                     IN(GET("/1")), OUT("HTTP/1.1 200 OK\r\n" CHUNKED "3\r\nab"), GAP_OUT(3), OUT("x"), SHUT),
                TALK("a request's chunks", SERVER,
                     "server http 200 [0,3] " SPAN("POST", "/1", " response=2") GOT("200", "4,5", "/2", "2"),
                     IN("POST /1 HTTP/1.1\r\n" CHUNKED "3\r\nab"), GAP_IN(30), IN("3\r\nabc\r\n0\r\n\r\n"), OUT(OK("ok")),
                     IN(GET("/2")), OUT(OK("ok"))),
                TALK("within a request's head", SERVER, "lost 1\nserver http 200 [4,5] " SPAN("GET", "/2", " request=0 response=2"),
                     IN("GET /1 HTTP/1.1\r\nHost: "), GAP_IN(30), IN("User-Agent: x\r\n\r\n"), OUT(OK("ok")), IN(GET("/2")), OUT(OK("ok"))),
                TALK("within a request line", SERVER, "lost 1\nserver http 200 [4,5] " SPAN("GET", "/2", " request=0 response=2"),
                     IN("GET"), GAP_IN(30), IN("x HTTP/1.1\r\n\r\n"), OUT(OK("no")), IN(GET("/2")), OUT(OK("ok"))),
                TALK("within what is surely a request, behind a loss", SERVER, "lost 1\nserver http 200 [5,6] " SPAN("GET", "/2",
                     " request=0 response=2"),
                     GAP_IN(9), OUT(OK("no")), IN("GET /"), GAP_IN(30), OUT(OK("no")), IN(GET("/2")), OUT(OK("ok"))),
                TALK("within what may be one", SERVER, GOT("200", "5,6", "/2", "2"),
                     GAP_IN(9), OUT(OK("no")), IN("GET"), GAP_IN(30), OUT(OK("no")), IN(GET("/2")), OUT(OK("ok"))),
                TALK("within an answer's head", SERVER, "lost 1\nserver http 200 [4,5] " SPAN("GET", "/2", " request=0 response=2"),
                     IN(GET("/1")), OUT("HTTP/1.1 200 OK\r\nContent-"), GAP_OUT(10), OUT("\r\n\r\nok"), IN(GET("/2")), OUT(OK("ok"))),
                TALK("an answer's first bytes", SERVER, "lost 1\nserver http 200 [3,4] " SPAN("GET", "/2", " request=0 response=2"),
                     IN(GET("/1")), GAP_OUT(10), OUT("ength: 2\r\n\r\nok"), IN(GET("/2")), OUT(OK("ok"))),
                TALK("an answer, and it ends", SERVER, "lost 1\n", IN(GET("/1")), GAP_OUT(40), SHUT),
                TALK("a request that opens a turn is not ours to count", SERVER, GOT("200", "2,3", "/2", "2"),
                     GAP_IN(40), OUT(OK("ok")), IN(GET("/2")), OUT(OK("ok"))),
                TALK("one that does not is", SERVER,
                     "lost 1\nserver http 200 [0,2] " SPAN("GET", "/1", " request=0 response=2") GOT("200", "4,5", "/3", "2"),
                     IN(GET("/1")), GAP_IN(40), OUT(OK("ok")), OUT(OK("no")), IN(GET("/3")), OUT(OK("ok"))),
                TALK("the rest of a body and more", SERVER,
                     "lost 1\nserver http 200 [0,2] " SPAN("POST", "/1", " request=9 response=2") GOT("200", "4,5", "/3", "2"),
                     IN("POST /1 HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc"), GAP_IN(40), OUT(OK("ok")), OUT(OK("no")), IN(GET("/3")),
                     OUT(OK("ok"))),
                TALK("answers to a turn of several", SERVER,
                     GOT("200", "0,1", "/1", "2") "lost 1\nlost 1\nserver http 200 [4,5] " SPAN("GET", "/4", " request=0 response=2"),
                     IN(GET("/1") GET("/2") GET("/3")), OUT(OK("ok")), GAP_OUT(40), OUT(OK("no")), IN(GET("/4")), OUT(OK("ok"))),
                TALK("a chunked answer of several", SERVER, "lost 1\nlost 1\nserver http 200 [4,5] " SPAN("GET", "/4",
                     " request=0 response=2"),
                     IN(GET("/1") GET("/2")), OUT("HTTP/1.1 200 OK\r\n" CHUNKED "3\r\n"), GAP_OUT(40), OUT(OK("no")),
                     IN(GET("/4")), OUT(OK("ok"))),
                TALK("true pipelining: nobody knows any more", SERVER,
                     GOT("200", "0,3", "/1", "2") "lost 1\nlost 1\nlost 1\n",
                     IN(GET("/1")), OUT("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no"), IN(GET("/2") GET("/3")), OUT("k"), GAP_OUT(40),
                     OUT(OK("no")),
                     IN(GET("/4")), OUT(OK("no")), IN("GET /5")),
        };
        (void)state;
        assert_talks(talks, TEL_ARRAY_LEN(talks));
}

/* Behind a loss: what is found again, and what looks so and is not. */
static void test_found_again(void **state) {
        const struct talk talks[] = {
                TALK("true pipelining, within a head", SERVER, "lost 1\nlost 1\nlost 1\n",
                     IN(GET("/1")), OUT("HTTP/1.1 200 OK\r\nCont"), IN(GET("/2")), OUT("ent-"), GAP_OUT(9), IN(GET("/3")), OUT(OK("no"))),
                TALK("a request found again, in a long line", SERVER,
                     GOT("200", "2,3", "/a/path/that/is/longer/than/what/tells/a/request", "2"),
                     GAP_IN(40), OUT(OK("ok")), IN(GET("/a/path/that/is/longer/than/what/tells/a/request")), OUT(OK("ok"))),
                TALK("what may begin a request is answered", SERVER, GOT("200", "4,5", "/3", "2"),
                     GAP_IN(40), OUT(OK("ok")), IN("GE"), OUT(OK("no")), IN(GET("/3")), OUT(OK("ok"))),
                TALK("what may begin a request ends with its turn", SERVER,
                     GOT("200", "0,1", "/1", "2") GOT("200", "6,7", "/3", "2"),
                     IN(GET("/1")), OUT(OK("ok")), GAP_IN(40), OUT(OK("no")), IN("GE"), OUT("zz"), IN(GET("/3")), OUT(OK("ok"))),
                TALK("what may begin an answer ends with its turn", SERVER, "lost 1\nlost 1\nserver http 200 [4,5] " SPAN("GET", "/3",
                     " request=0 response=2"),
                     IN(GET("/1")), GAP_OUT(10), IN(GET("/2")), OUT("HT"), IN(GET("/3")), OUT(OK("ok"))),
                TALK("an answer found again that is none", SERVER, "lost 1\nlost 1\nserver http 200 [4,5] " SPAN("GET", "/3",
                     " request=0 response=2"),
                     IN(GET("/1")), GAP_OUT(10), IN(GET("/2")), OUT("no answer"), IN(GET("/3")), OUT(OK("ok"))),
                TALK("the rest of an answer without an end", SERVER, "server http 200 [0,1] " SPAN("POST", "/", " request=5 unobserved"),
                     IN("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab"), OUT("HTTP/1.1 200 OK\r\n" CHUNKED "zz"), IN("cde"), GAP_OUT(5)),
                TALK("behind the end", SERVER, GOT("200", "0,1", "/", "2"),
                     IN(GET("/")), OUT(OK("ok")), END_OUT, GAP_IN(9), GAP_OUT(9), IN(GET("/2"))),
        };
        (void)state;
        assert_talks(talks, TEL_ARRAY_LEN(talks));
}

/* What a connection gives the protocol when calls are lost: a gap where the next call of that direction shows that bytes are missing. The
 * kernel side has counted what opened a turn of requests. Each path ends with the status that answers it. */
struct loss {
        struct harness *h;
        unsigned spans, lost, kernel;
        unsigned bodies;                           /* of the kernel side's: behind a 100 a body opens a turn, too, and it does not know */
        unsigned behind;                           /* requests that were lost in one call with another: it counts one */
        bool wrong;                                /* an answer was given to another's request */
};

static unsigned requests_in(const char *bytes) {
        unsigned n = 0;
        for (; (bytes = strstr(bytes, " /")); bytes++)
                n++;
        return n;
}

static void run_with_losses(struct loss *l, enum exchange_role role, const struct call *calls, size_t n, unsigned missing, size_t piece) {
        static const char *const none[] = { NULL };
        static const struct protocol_options options = { .headers = none };
        size_t gap[DIRECTIONS] = { 0 };
        uint32_t turns[DIRECTIONS] = { 0 };
        int truly = -1, seen = -1;
        bool started = false;
        l->kernel = l->bodies = l->behind = 0;
        harness_start(l->h, &protocol_http1, role, &options);
        for (size_t i = 0; i < n; i++) {
                bool ending = calls[i].what == CALL_END_IN || calls[i].what == CALL_END_OUT;
                enum direction d = harness_direction(&calls[i]);
                bool turn = truly != (int)d;
                if (ending) {
                        harness_call(l->h, &calls[i], i, false, SIZE_MAX, SIZE_MAX);
                        continue;
                }
                truly = (int)d;
                if (missing >> i & 1) {
                        gap[d] += calls[i].n;
                        turns[d] += turn;
                        if (turn && d == (role == EXCHANGE_SERVER ? DIRECTION_IN : DIRECTION_OUT)) {
                                unsigned requests = requests_in(calls[i].bytes);
                                l->kernel++;
                                l->bodies += requests == 0;
                                l->behind += requests > 1 ? requests - 1 : 0;
                        }
                        continue;
                }
                turn = turn || seen != (int)d;
                seen = (int)d;
                enum protocol_match m = protocol_http1.match((const uint8_t *)calls[i].bytes, calls[i].n);
                started = started || (turn && (m == MATCH_REQUEST || m == MATCH_ANSWER));
                const struct call before = { d == DIRECTION_IN ? CALL_GAP_IN : CALL_GAP_OUT, NULL, gap[d] };
                l->h->turns_lost = turns[d];
                if (started && gap[d] > 0)
                        harness_call(l->h, &before, i, turn, SIZE_MAX, SIZE_MAX);
                gap[d] = turns[d] = 0;
                if (started)
                        harness_call(l->h, &calls[i], i, turn, piece, piece);
        }
        harness_finish(l->h);
        l->spans = lines_of(l->h->text, role == EXCHANGE_SERVER ? "server" : "client");
        l->lost = lines_of(l->h->text, "lost 1\n");
        l->wrong = false;
        for (const char *line = l->h->text; *line; line = strchr(line, '\n') + 1) {
                unsigned status, asked;
                if (sscanf(line, "%*s http %u [%*u,%*u] method=%*s path=/%u", &status, &asked) == 2)
                        l->wrong = l->wrong || status != asked;
        }
}

#define ANSWER(status, text, n) "HTTP/1.1 " status " X\r\nContent-Length: " n "\r\n\r\n" text

struct conversation {
        const char *name;
        const struct call *calls;
        size_t n;
        unsigned requests;
};
#define CONVERSATION(name, requests, ...) \
        { name, (const struct call[]){ __VA_ARGS__ }, TEL_ARRAY_LEN(((const struct call[]){ __VA_ARGS__ })), requests }
#define CONVERSATIONS \
        { \
                CONVERSATION("one call each", 4, IN(GET("/201")), OUT(ANSWER("201", "ab", "2")), IN(GET("/202")), OUT(EMPTY("202 X")), \
                             IN(GET("/203")), OUT(ANSWER("203", "ab", "2")), IN(GET("/205")), OUT(ANSWER("205", "ab", "2")), SHUT), \
                CONVERSATION("several calls each", 3, IN("GET /201 HT"), IN("TP/1.1\r\nHost: a\r\n"), IN("Accept: b\r\n\r\n"), \
                             OUT("HTTP/1.1 201 OK\r\nContent"), \
                             OUT("-Length: 6\r\n\r\nab"), OUT("cd"), OUT("ef"), IN("POST /202 HTTP/1.1\r\nContent-Length: 5\r\n\r\nab"), \
                             IN("cde"), \
                             OUT("HTTP/1.1 202 OK\r\nContent-Length: 3\r\n\r\n"), OUT("abc"), IN("GET /203 HTTP/1.1\r\n"), IN("\r\n"), \
                             OUT(EMPTY("203 X")), SHUT), \
                CONVERSATION("chunks", 3, IN("POST /201 HTTP/1.1\r\n" CHUNKED "3\r\nabc\r\n"), IN("3\r\nabc\r\n"), IN("0\r\n\r\n"), \
                             OUT("HTTP/1.1 201 A\r\n" CHUNKED), \
                             OUT("4\r\nabcd\r\n"), OUT("0\r\n\r\n"), IN("POST /202 HTTP/1.1\r\n" CHUNKED), IN("1\r\na\r\n0\r\n\r\n"), \
                             OUT("HTTP/1.1 202 A\r\n" CHUNKED "5\r\nab"), OUT("cde\r\n0\r\n\r\n"), IN(GET("/203")), OUT(ANSWER("203", "a", \
                             "1")), SHUT), \
                CONVERSATION("without bodies", 4, IN("HEAD /201 HTTP/1.1\r\n\r\n"), OUT("HTTP/1.1 201 A\r\nContent-Length: 500\r\n\r\n"), \
                             IN(GET("/204")), \
                             OUT("HTTP/1.1 204 B\r\n\r\n"), IN(GET("/304")), OUT("HTTP/1.1 304 C\r\nContent-Length: 9\r\n\r\n"), \
                             IN("HEAD /205 HTTP/1.1\r\n\r\n"), \
                             OUT("HTTP/1.1 205 D\r\n" CHUNKED), SHUT), \
                CONVERSATION("100-continue", 3, IN("PUT /201 HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"), \
                             OUT("HTTP/1.1 100 Continue\r\n\r\n"), \
                             IN("abc"), OUT(EMPTY("201 X")), IN("PUT /202 HTTP/1.1\r\nExpect: 100-continue\r\n" CHUNKED), \
                             OUT("HTTP/1.1 100 Continue\r\n\r\n"), \
                             IN("3\r\nabc\r\n"), IN("0\r\n\r\n"), OUT(ANSWER("202", "a", "1")), IN(GET("/203")), OUT(ANSWER("203", "a", \
                             "1")), SHUT), \
                CONVERSATION("until the end", 2, IN(GET("/201")), OUT(EMPTY("201 X")), IN("GET /202 HTTP/1.0\r\n\r\n"), \
                             OUT("HTTP/1.0 202 X\r\n\r\n"), OUT("abc"), \
                             OUT("def"), SHUT), \
                CONVERSATION("a turn of several", 5, IN(GET("/201") GET("/202") GET("/203")), OUT(ANSWER("201", "a", "1")), \
                             OUT(EMPTY("202 X")), \
                             OUT(ANSWER("203", "ab", "2")), IN(GET("/205")), OUT(EMPTY("205 X")), IN(GET("/206")), OUT(EMPTY("206 X")), \
                             SHUT), \
                CONVERSATION("true pipelining", 3, IN(GET("/201")), OUT("HTTP/1.1 201 A\r\nContent-Length: 3\r\n\r\na"), IN(GET("/202")), \
                             OUT("b"), \
                             IN(GET("/203")), OUT("c" EMPTY("202 X")), OUT(EMPTY("203 X")), SHUT) \
        }

/* Whatever single call is lost: each request is a span, or counted, once; and no request has another's answer. */
static void test_one_call_lost(void **state) {
        const struct conversation c[] = CONVERSATIONS;
        struct loss l = { .h = calloc(1, sizeof(*l.h)) };
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(c); i++) {
                run_with_losses(&l, EXCHANGE_SERVER, c[i].calls, c[i].n, 0, SIZE_MAX);
                assert_int_equal(l.spans, c[i].requests);
                assert_int_equal(l.lost + l.kernel, 0);
                for (size_t k = 0; k < c[i].n; k++) {
                        char whole[4096];
                        run_with_losses(&l, EXCHANGE_SERVER, c[i].calls, c[i].n, 1u << k, SIZE_MAX);
                        if (l.wrong || l.spans + l.lost + l.kernel != c[i].requests + l.bodies - l.behind)
                                print_error("%s, without call %zu: %u spans, %u + %u lost\n%s", c[i].name, k, l.spans, l.lost, l.kernel,
                                        l.h->text);
                        assert_false(l.wrong);
                        assert_int_equal(l.spans + l.lost + l.kernel, c[i].requests + l.bodies - l.behind);
                        strcpy(whole, l.h->text);
                        run_with_losses(&l, EXCHANGE_SERVER, c[i].calls, c[i].n, 1u << k, 1);
                        assert_string_equal(l.h->text, whole);
                }
        }
        free(l.h);
}

/* What becomes of those whose calls are lost. */
static void test_lost_calls(void **state) {
        const struct conversation c[] = CONVERSATIONS;
        static const struct {
                unsigned conversation, missing;
                const char *expected;
        } rows[] = {
                /* A request: its answer is passed over. */
                { 0, 1u << 2, GOT("201", "0,1", "/201", "2") GOT("203", "4,5", "/203", "2")
                              GOT("205", "6,7", "/205", "2") },
                /* An answer, noticed when the next one comes. */
                { 0, 1u << 3, GOT("201", "0,1", "/201", "2") "lost 1\n"
                              GOT("203", "4,5", "/203", "2") GOT("205", "6,7", "/205", "2") },
                /* A request and its answer. */
                { 0, 3u << 2, GOT("201", "0,1", "/201", "2") GOT("203", "4,5", "/203", "2")
                              GOT("205", "6,7", "/205", "2") },
                /* An answer and the next request: what is seen then belongs to neither. */
                { 0, 3u << 3, GOT("201", "0,1", "/201", "2") "lost 1\nserver http 205 [6,7] " SPAN("GET", "/205",
                        " request=0 response=2") },
                /* So it is when an earlier request was lost, too. */
                { 0, 1u << 0 | 3u << 3, "lost 1\nserver http 205 [6,7] " SPAN("GET", "/205", " request=0 response=2") },
                /* The last answer: nobody noticed. */
                { 0, 1u << 7, GOT("201", "0,1", "/201", "2") GOT("202", "2,3", "/202", "0")
                              GOT("203", "4,5", "/203", "2") "server http [6,9] " SPAN("GET", "/205",
                                      " error=connection_reset request=0") },
                /* The last two: who asked again had been answered. */
                { 0, 1u << 5 | 1u << 7, GOT("201", "0,1", "/201", "2")
                                        GOT("202", "2,3", "/202", "0") "lost 1\n"
                                        "server http [6,9] " SPAN("GET", "/205", " error=connection_reset request=0") },
                /* The end of a body: its length is known, when it ended is not. */
                { 1, 1u << 6, "server http 201 [0,5] method=GET path=/201 host=a scheme=http version=1.1 request=0 response=6 unobserved\n"
                              "server http 202 [7,10] " SPAN("POST", "/202", " request=5 response=3") GOT("203", "11,13", "/203", "0") },
                /* The end of a request's body: it had been answered. */
                { 1, 1u << 8, "server http 201 [0,6] method=GET path=/201 host=a scheme=http version=1.1 request=0 response=6\n"
                              "server http 202 [7,10] " SPAN("POST", "/202", " response=3") GOT("203", "11,13", "/203", "0") },
                /* The last chunks of an answer. */
                { 2, 1u << 5, "server http 201 [0,4] " SPAN("POST", "/201", " request=6 unobserved") "server http 202 [6,9] " SPAN("POST",
                        "/202", " request=1 response=5")
                              GOT("203", "10,11", "/203", "1") },
                /* Chunks in its midst. */
                { 2, 1u << 4, "server http 201 [0,5] " SPAN("POST", "/201", " request=6") "server http 202 [6,9] " SPAN("POST", "/202",
                        " request=1 response=5")
                              GOT("203", "10,11", "/203", "1") },
                /* The last chunks, and all of the last answer. */
                { 2, 1u << 9 | 1u << 11, "server http 201 [0,5] " SPAN("POST", "/201", " request=6 response=4") "server http 202 [6,8] "
                        SPAN("POST", "/202", " request=1 unobserved")
                                         "server http [10,13] " SPAN("GET", "/203", " error=connection_reset request=0") },
                /* One that nobody waited for, among others. */
                { 7, 1u << 2, "lost 1\nlost 1\n" },
        };
        struct loss l = { .h = calloc(1, sizeof(*l.h)) };
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++) {
                run_with_losses(&l, EXCHANGE_SERVER, c[rows[i].conversation].calls, c[rows[i].conversation].n, rows[i].missing, SIZE_MAX);
                assert_string_equal(l.h->text, rows[i].expected);
        }
        free(l.h);
}

/* Nor has it with any four lost, in either role, and nothing is counted twice. */
static void test_more_calls_lost(void **state) {
        const struct conversation c[] = CONVERSATIONS;
        struct loss l = { .h = calloc(1, sizeof(*l.h)) };
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(c); i++) {
                struct call turned[32];
                for (size_t k = 0; k < c[i].n; k++) {
                        turned[k] = c[i].calls[k];
                        turned[k].what ^= 1;       /* IN and OUT are neighbours */
                }
                for (unsigned missing = 0; missing < 1u << (c[i].n - 2); missing++) {
                        if (__builtin_popcount(missing) > 4)
                                continue;
                        run_with_losses(&l, EXCHANGE_SERVER, c[i].calls, c[i].n, missing, SIZE_MAX);
                        unsigned spans = l.spans, lost = l.lost;
                        assert_false(l.wrong);
                        assert_true(l.spans + l.lost + l.kernel <= c[i].requests + l.bodies);
                        /* With one call for each, nothing can hide. */
                        if (i == 0)
                                assert_int_equal(l.spans + l.lost + l.kernel, c[i].requests);
                        run_with_losses(&l, EXCHANGE_CLIENT, turned, c[i].n, missing, SIZE_MAX);
                        assert_false(l.wrong);
                        assert_int_equal(l.spans, spans);
                        assert_int_equal(l.lost, lost);
                }
        }
        free(l.h);
}

/* ---- the rest ---- */

static void test_match(void **state) {
        static const struct {
                const char *bytes;
                enum protocol_match expected;
        } rows[] = {
                { "GET / HTTP/1.1\r\n", MATCH_REQUEST }, { "GET /", MATCH_REQUEST }, { "\r\n\nGET /", MATCH_REQUEST }, { "POST https://",
                        MATCH_REQUEST },
                { "GET HTTP://a", MATCH_REQUEST }, { "OPTIONS * HTTP/1.1", MATCH_REQUEST }, { "CONNECT [::1]:1", MATCH_REQUEST },
                        { "CONNECT a", MATCH_REQUEST },
                { "UPDATEREDIRECTREF /", MATCH_REQUEST }, { "M-SEARCH * HTTP/1.1", MATCH_REQUEST }, { "GET /\xc3\xa4", MATCH_REQUEST },
                { "HTTP/1.1 200 OK", MATCH_ANSWER }, { "HTTP/1.0 404", MATCH_ANSWER },
                { "", MATCH_MORE }, { "G", MATCH_MORE }, { "GET", MATCH_MORE }, { "GET ", MATCH_MORE }, { "GET http:", MATCH_MORE },
                        { "HEAD", MATCH_MORE },
                { "HTT", MATCH_MORE }, { "HTTP/1.", MATCH_MORE }, { "HTTP/1.1 20", MATCH_MORE }, { "\r\n", MATCH_MORE }, { "OPTIONS *",
                        MATCH_MORE },
                { "*3\r\n$3\r\nSET\r\n", MATCH_NO }, { "+OK\r\n", MATCH_NO }, { "PING\r\n", MATCH_NO }, { "GET key\r\n", MATCH_NO },
                        { "GET /key\r\n", MATCH_NO },
                { "PRI * HTTP/2.0\r\n\r\nSM", MATCH_NO }, { "\x16\x03\x01\x02", MATCH_NO }, { "HTTP/2 200", MATCH_NO }, { "HTTP/1.1 OK",
                        MATCH_NO },
                { "get / HTTP/1.1", MATCH_NO }, { "GO /", MATCH_NO }, { "GET  /", MATCH_NO }, { "GET /\x01\x02", MATCH_NO },
                        { "GET / RTSP/1.0\r\n", MATCH_NO },
                { "OPTIONS rtsp://a", MATCH_NO }, { "MAIL FROM:<a>", MATCH_NO }, { "OPTIONS *x", MATCH_NO }, { "GET / HTTP/2.0\r\n",
                        MATCH_NO },
                { "AAAAAAAAAAAAAAAAAAAAA /", MATCH_NO }, { "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nGET /",
                        MATCH_NO },
                { "SSH-2.0-OpenSSH", MATCH_NO }, { "\xff\xfe", MATCH_NO },
        };
        static const uint8_t startup[] = { 0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f };
        (void)state;
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++) {
                if (protocol_http1.match((const uint8_t *)rows[i].bytes, strlen(rows[i].bytes)) != rows[i].expected)
                        print_error("%s\n", rows[i].bytes);
                assert_int_equal(protocol_http1.match((const uint8_t *)rows[i].bytes, strlen(rows[i].bytes)), rows[i].expected);
                /* What is told of the first bytes stands with more of them, and that many are enough. */
                enum protocol_match told = MATCH_MORE;
                for (size_t n = 0; n <= strlen(rows[i].bytes); n++) {
                        enum protocol_match m = protocol_http1.match((const uint8_t *)rows[i].bytes, n);
                        assert_true(told != MATCH_NO || m == MATCH_NO);
                        assert_true(m != MATCH_MORE || n < PROTOCOL_MATCH_MAX);
                        told = m;
                }
        }
        assert_int_equal(protocol_http1.match(startup, sizeof(startup)), MATCH_NO);
}

/* What the kernel side need not capture: bodies, but not what frames them. */
static void test_skip(void **state) {
        static const char *const none[] = { NULL };
        static const struct protocol_options options = { .headers = none };
        static const struct {
                struct call call;
                uint64_t in, out;                  /* afterwards */
        } rows[] = {
                { IN("POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\nabc"), 99997, 0 },
                { GAP_IN(99990), 7, 0 },
                { IN("defghij"), 0, 0 },
                { OUT("HTTP/1.1 200 OK\r\n" CHUNKED "100"), 0, 0 },
                { OUT("\r\nabc"), 0, 253 },
                { GAP_OUT(253), 0, 0 },
                { OUT("\r\n0\r\n\r\n"), 0, 0 },
                { IN("GET / HTTP/1.0\r\n\r\n"), 0, 0 },
                { OUT("HTTP/1.0 200 OK\r\n\r\n"), 0, 1ull << 40 },
        };
        struct harness *h = calloc(1, sizeof(*h));
        (void)state;
        harness_start(h, &protocol_http1, EXCHANGE_SERVER, &options);
        for (size_t i = 0; i < TEL_ARRAY_LEN(rows); i++) {
                harness_call(h, &rows[i].call, i, true, SIZE_MAX, SIZE_MAX);
                assert_int_equal((protocol_http1.skip)(h->state, DIRECTION_IN), rows[i].in);
                assert_int_equal((protocol_http1.skip)(h->state, DIRECTION_OUT), rows[i].out);
        }
        harness_finish(h);
        assert_int_equal(lines_of(h->text,
                "server http 200 [0,6] method=POST path=/ scheme=http version=1.1 request=100000 response=256\n"), 1);
        free(h);
}

/* What the sink hears besides: where a request began, when it was asked, when its answer began. */
struct times {
        uint32_t seq[2];
        uint64_t asked_ns[2], answer_ns[2], start_ns[2];
        unsigned begun, asked, ended;
};

static bool times_begun(void *ctx, struct exchange *x, const struct chunk *at) {
        struct times *t = ctx;
        t->seq[t->begun] = x->seq;
        assert_true(x->has_seq);
        assert_int_equal(at->seq, x->seq);
        assert_memory_equal(at->data, "GET ", 4);
        t->start_ns[t->begun++] = x->start_ns;
        return true;
}

static void times_asked(void *ctx, struct exchange *x, const struct chunk *at) {
        struct times *t = ctx;
        assert_string_equal(exchange_get(x, FIELD_METHOD), "GET");
        t->asked_ns[t->asked++] = at->end_ns;
}

static void times_ended(void *ctx, struct exchange *x) {
        struct times *t = ctx;
        t->answer_ns[t->ended++] = x->answer_ns;
        exchange_free(x);
}

static void times_dropped(void *ctx, struct exchange *x, bool counted) {
        (void)ctx, (void)x, (void)counted;
        fail();
}

static void feed(void *state, enum direction d, const char *bytes, uint64_t start_ns, uint32_t seq, bool turn) {
        const struct chunk k = { .direction = d, .data = (const uint8_t *)bytes, .n = strlen(bytes), .start_ns = start_ns,
                .end_ns = start_ns + 5,
                                 .turn = turn, .seq = seq, .has_seq = true };
        assert_int_equal(protocol_http1.data(state, &k), 0);
}

static void test_times(void **state) {
        static const char *const none[] = { NULL };
        static const struct protocol_options options = { .headers = none };
        struct times t = { 0 };
        const struct exchange_sink sink = { .ctx = &t, .begun = times_begun, .asked = times_asked, .ended = times_ended,
                .dropped = times_dropped };
        struct connection c = { .sink = &sink, .refs = 1, .tls = TLS_PLAIN };
        void *s = calloc(1, protocol_http1.size);
        (void)state;
        protocol_http1.start(s, &c, &options, EXCHANGE_SERVER);
        feed(s, DIRECTION_IN, GET("/1") "GET /2 HT", 100, 5000, true);
        feed(s, DIRECTION_IN, "TP/1.1\r\n\r\n", 200, 5026, false);
        feed(s, DIRECTION_OUT, "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 2", 300, 1, true);
        feed(s, DIRECTION_OUT, "00 OK\r\n", 400, 1, false);
        feed(s, DIRECTION_OUT, "Content-Length: 0\r\n\r\n", 500, 1, false);
        feed(s, DIRECTION_OUT, OK("ok"), 600, 1, false);
        assert_int_equal(t.ended, 2);
        assert_int_equal(t.seq[0], 5000);
        assert_int_equal(t.seq[1], 5019);
        assert_int_equal(t.start_ns[1], 105);
        assert_int_equal(t.asked_ns[0], 105);
        assert_int_equal(t.asked_ns[1], 205);
        assert_int_equal(t.answer_ns[0], 305);
        assert_int_equal(t.answer_ns[1], 605);
        protocol_http1.done(s);
        free(s);
}

/* Over a bound of the sink's, or without memory, a request has no exchange: its answer is passed over, and the next one finds its own. */
static bool refuse_first(void *ctx, struct exchange *x, const struct chunk *at) {
        struct harness *h = ctx;
        (void)x, (void)at;
        h->open++;
        return h->connection->last_ns > HARNESS_NS * 2;
}

static void test_refused_by_sink(void **state) {
        static const char *const none[] = { NULL };
        static const struct protocol_options options = { .headers = none };
        static const struct call head[] = { IN("HEAD /1 HTTP/1.1\r\n\r\n"), OUT("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n") };
        static const struct call endless[] = { IN(GET("/1")), OUT("HTTP/1.1 200 OK\r\n" CHUNKED "zz") };
        static const struct call connect[] = { IN("CONNECT a:1 HTTP/1.1\r\nExpect: x\r\n\r\n"), OUT(EMPTY("404 No")) };
        static const struct call *const firsts[] = { head, endless, connect };
        static const struct call then[] = { IN(GET("/2")), OUT(OK("ok")), SHUT };
        struct harness *h = calloc(1, sizeof(*h));
        (void)state;
        for (size_t k = 0; k < TEL_ARRAY_LEN(firsts); k++) {
                harness_start(h, &protocol_http1, EXCHANGE_SERVER, &options);
                h->sink.begun = refuse_first;
                for (size_t i = 0; i < 2 + TEL_ARRAY_LEN(then); i++)
                        harness_call(h, i < 2 ? &firsts[k][i] : &then[i - 2], i, true, SIZE_MAX, SIZE_MAX);
                harness_finish(h);
                assert_string_equal(h->text,
                        "lost 1\nserver http 200 [2,3] method=GET path=/2 scheme=http version=1.1 request=0 response=2\n");
        }
        free(h);
}

/* A connection that is forgotten: what is open goes uncounted. */
static void test_done_while_open(void **state) {
        static const char *const none[] = { NULL };
        static const struct protocol_options options = { .headers = none };
        static const struct call calls[] = { IN(GET("/1") GET("/2") GET("/3") GET("/4") GET("/5") "GET /6"),
                OUT("HTTP/1.1 200 OK\r\nCont") };
        struct harness *h = calloc(1, sizeof(*h));
        (void)state;
        harness_run(h, &protocol_http1, EXCHANGE_SERVER, &options, calls, TEL_ARRAY_LEN(calls), 99, 0, false);
        assert_string_equal(h->text, "");
        free(h);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_requests), cmocka_unit_test(test_request_bodies), cmocka_unit_test(test_answers),
                        cmocka_unit_test(test_pipelining),
                cmocka_unit_test(test_ends), cmocka_unit_test(test_bad_input), cmocka_unit_test(test_upgrades),
                        cmocka_unit_test(test_bounds),
                cmocka_unit_test(test_pipelining_bound), cmocka_unit_test(test_pipelining_bound_mixed),
                        cmocka_unit_test(test_gaps_in_place), cmocka_unit_test(test_found_again),
                cmocka_unit_test(test_one_call_lost), cmocka_unit_test(test_lost_calls), cmocka_unit_test(test_more_calls_lost),
                        cmocka_unit_test(test_match), cmocka_unit_test(test_skip),
                cmocka_unit_test(test_times), cmocka_unit_test(test_refused_by_sink), cmocka_unit_test(test_done_while_open),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
