/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Report text: the objects of report.h for people. Aligned tables, human units; no line is empty, so that an
 * empty one can end an answer.
 * May touch: the stream it is given. */
#include <jansson.h>
#include <stdio.h>

#include "libtelemetry/base.h"

void report_text_status(const json_t *status, FILE *to);
void report_text_destinations(const json_t *destinations, FILE *to);
void report_text_sources(const json_t *sources, FILE *to);
void report_text_lost(const json_t *lost, FILE *to);

/* One value as people read it; "-" for null. The units are those of 1000. */
#define REPORT_HUMAN_MAX 32
const char *report_bytes(char out[static REPORT_HUMAN_MAX], const json_t *bytes);      /* "12.3 MB" */
const char *report_age(char out[static REPORT_HUMAN_MAX], const json_t *seconds);      /* "3m12s" */
const char *report_count(char out[static REPORT_HUMAN_MAX], const json_t *n);          /* "12,345" */
const char *report_rate(char out[static REPORT_HUMAN_MAX], const json_t *per_second);  /* "1.2/s" */
/* "12 buffer_full, 3 max_lag", or "-". */
#define REPORT_REASONS_MAX 256                     /* nine reasons of at most 28 bytes */
const char *report_reasons(char out[static REPORT_REASONS_MAX], const json_t *dropped_by);
/* The string, or "-" when it is null. */
const char *report_string(const json_t *s);
