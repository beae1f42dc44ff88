/* SPDX-License-Identifier: Apache-2.0 */
#include "libtelemetry/retry_after.h"

#include <curl/curl.h>

uint64_t tel_retry_after(const char *value, uint64_t real_ns) {
        while (*value == ' ' || *value == '\t')
                value++;
        if (*value >= '0' && *value <= '9') {
                char *end;
                errno = 0;
                unsigned long long seconds = strtoull(value, &end, 10);
                if (end[strspn(end, " \t\r\n")] != '\0')
                        return 0;
                return errno || seconds > TEL_RETRY_AFTER_MAX_NS / TEL_NS_PER_S ? TEL_RETRY_AFTER_MAX_NS : seconds * TEL_NS_PER_S;
        }
        time_t at = curl_getdate(value, NULL);
        if (at < 0 || (uint64_t)at <= real_ns / TEL_NS_PER_S)
                return 0;
        return TEL_MIN(((uint64_t)at - real_ns / TEL_NS_PER_S) * TEL_NS_PER_S, TEL_RETRY_AFTER_MAX_NS);
}
