/* SPDX-License-Identifier: Apache-2.0 */
/* Conversations of a PostgreSQL server or its client. */
#include "talk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        talk_check(&protocol_postgres, data, n);
        return 0;
}
