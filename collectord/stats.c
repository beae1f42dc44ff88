/* SPDX-License-Identifier: Apache-2.0 */
#include "collectord/stats.h"

struct stats stats;

const char *const transport_names[TRANSPORTS] = { "http", "frames", "lines" };
const unsigned stats_http_codes[STATS_HTTP_CODES] = { 0, 200, 400, 404, 405, 408, 411, 413, 415, 429, 500, 503 };

void stats_http_code(unsigned code) {
        size_t i = STATS_HTTP_CODES - 1;
        while (i > 0 && stats_http_codes[i] != code)
                i--;
        stats.http_codes[i]++;
}
