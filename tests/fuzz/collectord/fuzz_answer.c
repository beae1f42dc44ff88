/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of receivers: the body of a 2xx, and Retry-After. */
#include "collectord/destinations/encode_otlp.h"
#include "libtelemetry/retry_after.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        char message[64], header[128];
        uint64_t rejected = 0;
        decode_otlp_answer(data, n, &rejected, message, sizeof(message));
        if (rejected > INT64_MAX || strlen(message) >= sizeof(message))
                abort();
        size_t k = TEL_MIN(n, sizeof(header) - 1);
        memcpy(header, data, k);
        header[k] = '\0';
        if (tel_retry_after(header, 1700000000 * TEL_NS_PER_S) > TEL_RETRY_AFTER_MAX_NS)
                abort();
        return 0;
}
