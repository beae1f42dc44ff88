/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/protocols/redis_match.h"

#include "beylad/protocols/redis_commands.h"
#include "beylad/protocols/resp.h"

/* Behind "subscribe", with two more elements: a second channel comes, or the number that ends a confirmation. */
static enum protocol_match match_subscription(const uint8_t *p, const uint8_t *end, enum protocol_match more) {
        struct resp_number len = { 0 };
        if (end - p < 3)
                return more;
        if (memcmp(p, "\r\n$", 3) != 0)
                return MATCH_NO;
        p += 3;
        enum resp_result result = resp_number_read(&len, &p, end);
        if (result == RESP_BAD || len.negative || len.streamed)
                return MATCH_NO;
        if (result == RESP_MORE || (uint64_t)(end - p) <= len.value + 2)
                return more;
        return p[len.value + 2] == '$' ? MATCH_REQUEST : MATCH_NO;
}

/* A command with a name we know, and as many arguments as that takes: an array in an answer looks alike. */
static enum protocol_match match_command(const uint8_t *data, size_t n) {
        const uint8_t *p = data + 1, *end = data + n;
        struct resp_number args = { 0 }, len = { 0 };
        enum protocol_match more = n < PROTOCOL_MATCH_MAX ? MATCH_MORE : MATCH_NO;
        char name[PROTOCOL_MATCH_MAX + 1];
        enum resp_result result = resp_number_read(&args, &p, end);
        if (result == RESP_BAD || args.negative || args.streamed || (result == RESP_DONE && args.value == 0))
                return MATCH_NO;
        if (result == RESP_MORE || p == end)
                return more;
        if (*p++ != '$')
                return MATCH_NO;
        result = resp_number_read(&len, &p, end);
        if (result != RESP_DONE)
                return result == RESP_BAD ? MATCH_NO : more;
        if (len.negative || len.streamed || len.value < 2 || len.value > REDIS_NAME_MAX)
                return MATCH_NO;
        size_t here = TEL_MIN((size_t)(end - p), (size_t)len.value), i;
        bool module = false;
        for (i = 0; i < here; i++) {
                name[i] = (char)(p[i] >= 'a' && p[i] <= 'z' ? p[i] - 0x20 : p[i]);
                module = module || p[i] == '.';
        }
        name[i] = '\0';
        if (i > 0 && !redis_is_name(name, i))
                return MATCH_NO;
        if (i < len.value)
                return more;
        const struct redis_command *c = redis_command_find(name);
        if (c && c->what == REDIS_SUBSCRIBE && args.value == 3)
                return match_subscription(p + len.value, end, more);
        return module || (c && redis_command_takes(c, args.value)) ? MATCH_REQUEST : MATCH_NO;
}

/* "-ERR ", "-WRONGTYPE ": the line may be longer than what there is of it. */
static enum protocol_match match_error(const struct resp *r, enum protocol_match more) {
        size_t n = 0;
        while (n < r->word_len && r->word[n] != ' ')
                n++;
        if (n > 0 && !redis_is_name(r->word, n))
                return MATCH_NO;
        return n == r->word_len ? more : n >= 3 ? MATCH_ANSWER : MATCH_NO;
}

/* "+OK", ":1", "$5": whole lines only. Of simple strings those that POP3, IRC and others do not send in this form. */
static enum protocol_match match_answer(const uint8_t *data, size_t n) {
        static const char *const words[] = { "OK", "PONG", "QUEUED" };
        const uint8_t *p = data, *end = data + n, *line = memchr(data, '\n', n);
        enum protocol_match more = n < PROTOCOL_MATCH_MAX ? MATCH_MORE : MATCH_NO;
        struct resp r;
        enum resp_result result;
        resp_reset(&r);
        while ((result = resp_read(&r, &p, end)) == RESP_BEGUN)
                ;
        if (result == RESP_BAD || r.top == ',' || r.top == '(')
                return MATCH_NO;
        if (r.top == '-')
                return match_error(&r, more);
        if (!line || (r.top == '*' && line + 1 == end && data[1] != '0' && data[1] != '-'))
                return more;
        if (r.top == '*' && line + 1 < end && line[1] == '$')
                return MATCH_NO;                   /* an array of strings may as well be a command we do not know */
        if (r.top == '#')
                return n >= 4 && line == data + 3 && (data[1] == 't' || data[1] == 'f') ? MATCH_ANSWER : MATCH_NO;
        if (r.top != '+')
                return MATCH_ANSWER;
        for (size_t i = 0; i < TEL_ARRAY_LEN(words); i++)
                if (resp_is(&r, words[i]) && (line + 1 == end || memchr("+-:$*_#%~>", line[1], 10)))
                        return MATCH_ANSWER;
        return MATCH_NO;
}

/* Nothing but "PING", as one who looks whether the server lives types it: once or several times. */
static enum protocol_match match_ping(const uint8_t *data, size_t n) {
        static const char upper[] = "PING\r\n", lower[] = "ping\r\n";
        const char *ping = data[0] == 'P' ? upper : lower;
        for (size_t i = 0; i < n; i++)
                if (data[i] != (uint8_t)ping[i % 6])
                        return MATCH_NO;
        return n < 6 ? MATCH_MORE : MATCH_REQUEST;
}

enum protocol_match redis_match(const uint8_t *data, size_t n) {
        if (n == 0)
                return MATCH_MORE;
        if (data[0] == 'P' || data[0] == 'p')
                return match_ping(data, n);
        enum protocol_match m = data[0] == '*' ? match_command(data, n) : MATCH_NO;
        return m == MATCH_NO ? match_answer(data, n) : m;
}
