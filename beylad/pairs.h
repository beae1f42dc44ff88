/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Pairs: the text of OTEL_RESOURCE_ATTRIBUTES, "service.name=shop,team=a%2Cb": ours, and those of the programs we observe.
 * May touch: the bytes it is given. Whatever they are, what comes out is printable UTF-8 within the bounds.
 * Source: OpenTelemetry specification 1.50, resource SDK, "Specifying resource information via an environment variable"; W3C Baggage 3.2. */
#include "libtelemetry/base.h"

#define PAIRS_TEXT_MAX 256                         /* bytes of a key or value, with its NUL; the rest is cut */

struct pair {
        char key[PAIRS_TEXT_MAX], value[PAIRS_TEXT_MAX];
};

/* The next pair in [*at, end), which moves behind it. What is no pair is passed over. Returns false at the end. */
bool pairs_next(const char **at, const char *end, struct pair *ret);
