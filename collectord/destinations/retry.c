/* SPDX-License-Identifier: Apache-2.0 */
#include <curl/curl.h>

#include "collectord/destinations/retry.h"

void retry_failed(struct retry *r, uint64_t now_ns, uint64_t after_ns, uint32_t random) {
        after_ns = TEL_MIN(after_ns, RETRY_AFTER_MAX_NS);
        if (now_ns < r->until_ns) {
                r->until_ns = TEL_MAX(r->until_ns, now_ns + after_ns);
                return;
        }
        r->interval_ns = r->interval_ns ? TEL_MIN(r->interval_ns + r->interval_ns / 2, r->max_ns) : r->initial_ns;
        /* Between half and one and a half of the interval, so that a fleet does not come back in one instant. */
        uint64_t jittered = r->interval_ns / 2 + r->interval_ns / 1024 * (random % 1024);
        r->until_ns = now_ns + TEL_MAX(jittered, after_ns);
}

void retry_succeeded(struct retry *r) {
        r->interval_ns = 0;
        r->until_ns = 0;
}

uint64_t retry_after_parse(const char *value, uint64_t wall_ns) {
        while (*value == ' ' || *value == '\t')
                value++;
        if (*value >= '0' && *value <= '9') {
                char *end;
                errno = 0;
                unsigned long long seconds = strtoull(value, &end, 10);
                while (*end == ' ' || *end == '\t' || *end == '\r' || *end == '\n')
                        end++;
                if (*end != '\0')
                        return 0;
                return errno || seconds > RETRY_AFTER_MAX_NS / TEL_NS_PER_S ? RETRY_AFTER_MAX_NS : seconds * TEL_NS_PER_S;
        }
        time_t at = curl_getdate(value, NULL);
        if (at < 0 || (uint64_t)at <= wall_ns / TEL_NS_PER_S)
                return 0;
        return TEL_MIN(((uint64_t)at - wall_ns / TEL_NS_PER_S) * TEL_NS_PER_S, RETRY_AFTER_MAX_NS);
}
