/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Tap: which items of a record somebody wants to see, and how they look on a terminal or as OTLP/JSON. The
 * grammar stands in docs/control.md.
 * May touch: memory only. */
#include "collectord/spool/record.h"
#include "libtelemetry/buf.h"

#define TAP_TERMS_MAX 16                           /* of one filter: each is evaluated for every item */
#define TAP_FILTER_MAX 4096                        /* bytes of all terms; a control line is not longer */
#define TAP_ERROR_MAX 160                          /* bytes of an error text, with its NUL */
#define TAP_VALUE_MAX 256                          /* bytes shown of one value; more is cut and ends in an ellipsis */
#define TAP_BODY_MAX 4096                          /* likewise of a log body: a stack trace should be seen whole */
#define TAP_LINE_MAX (16u << 10)                   /* bytes of a line, after which no further attribute is shown */
#define TAP_JSON_MAX (4u << 20)                    /* bytes of one record as JSON: a record cut at 512 KiB stays below */
#define TAP_MORE 1                                 /* tap_print(): the record is not done */

enum tap_operator { TAP_EQUAL, TAP_NOT_EQUAL, TAP_CONTAINS };

struct tap_term {
        enum tap_operator operator;
        const char *key, *value;                   /* into text */
        size_t value_len;
};
struct tap_filter {
        struct tap_term terms[TAP_TERMS_MAX];      /* all must hold */
        size_t n;
        char text[TAP_FILTER_MAX];
        size_t used;
};

/* Adds one term: key=value, key!=value or key~text. A filter is not copied or moved after the first term: terms
 * point into it.
 * Returns 0, -EINVAL (no operator, empty key) or -E2BIG; reterr (TAP_ERROR_MAX) says what was expected. */
int tap_filter_add(struct tap_filter *f, const char *word, char *reterr);

struct tap_progress {
        size_t item;                               /* of the record: the next to look at; begin with 0 */
        uint64_t lines_left;                       /* end after so many; UINT64_MAX: no bound */
        size_t bytes_soft;                         /* text: pause before the next item once out holds so many; JSON is one line, written whole */
};

/* Appends what passes the filter: in text one line an item, as JSON one Export*ServiceRequest of the record on
 * one line, which can be sent again as it is. The record's body is one that tel_otlp_cut() wrote.
 * Returns 0 (the record is done), TAP_MORE (p says where to go on), -EMSGSIZE (JSON over TAP_JSON_MAX), -EBADMSG,
 * -ENOBUFS or -ENOMEM; out then holds whole lines. */
int tap_print(const struct tap_filter *f, bool json, const struct record *record, struct tap_progress *p,
              struct tel_buf *out);
