/* SPDX-License-Identifier: Apache-2.0 */
/* Conversations of a redis-server or its client. */
#include "talk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        talk_check(&protocol_redis, data, n);
        return 0;
}
