/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Page: the figures of the daemon as one HTML page, without any other file. It renews itself every two seconds.
 * May touch: the stream it is given. What it shows are the objects of collectord/report.h. */
#include <jansson.h>
#include <stdio.h>

struct page_parts {                                /* borrowed */
        const json_t *status, *destinations, *sources, *lost;
};
void page_put(const struct page_parts *parts, FILE *to);
