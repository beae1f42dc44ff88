/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Identity: the attributes that every resource receives where it lacks them: host.name, service.instance.id, the configured labels.
 * May touch: memory; identity_host() and identity_instance() read /etc/hostname and the machine id.
 * Source: OpenTelemetry semantic conventions, resource: host.name, service.instance.id; machine-id(5): the id itself must not leave the host. */
#include "collectord/settings.h"
#include "libtelemetry/otlp.h"

struct identity {
        uint8_t *wire;                             /* the encoded attributes, one after the other; heap */
        char *keys;                                /* heap */
        struct tel_otlp_attribute attributes[TEL_OTLP_ADDED_MAX];
        size_t n;
        char host[256], instance[37];              /* as they are sent */
};

/* host, instance: heap-free strings. labels: at most TEL_OTLP_ADDED_MAX - 2. A label named host.name or service.instance.id takes the place of ours.
 * Returns 0, -E2BIG or -ENOMEM. */
int identity_init(struct identity *i, const char *host, const char *instance, const struct tel_config_map *labels);
void identity_done(struct identity *i);

/* The host's name: /etc/hostname trimmed, else uname(2). */
void identity_host(char *ret, size_t n);
/* A UUID of this machine and host name: the same after a restart, another on every host, and not the machine id. */
void identity_instance(const char *host, char ret[static 37]);
