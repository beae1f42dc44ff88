/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <sys/utsname.h>
#include <systemd/sd-id128.h>

#include "collectord/pipeline/identity.h"

#define KEY_HOST "host.name"
#define KEY_INSTANCE "service.instance.id"
enum { FIELD_ATTRIBUTES = 1 };                     /* of Resource */

/* One attribute to be. */
struct pair {
        const char *key, *value;
};

static bool labelled(const struct tel_config_map *labels, const char *key) {
        for (size_t i = 0; i < labels->n; i++)
                if (strcmp(labels->keys[i], key) == 0)
                        return true;
        return false;
}

/* Encodes the pairs side by side and points the attributes at them. */
static int encode(struct identity *i, const struct pair *pairs, size_t n) {
        size_t wire_len = 0, keys_len = 0;
        for (size_t k = 0; k < n; k++) {
                wire_len += tel_otlp_attribute_put(NULL, 0, FIELD_ATTRIBUTES, pairs[k].key, pairs[k].value);
                keys_len += strlen(pairs[k].key) + 1;
        }
        i->wire = malloc(wire_len + 1);            /* there may be none */
        i->keys = malloc(keys_len + 1);
        if (!i->wire || !i->keys)
                return -ENOMEM;
        uint8_t *wire = i->wire;
        char *key = i->keys;
        for (size_t k = 0; k < n; k++) {
                struct tel_otlp_attribute *a = &i->attributes[i->n++];
                size_t key_len = strlen(pairs[k].key);
                *a = (struct tel_otlp_attribute){ .key = key, .key_len = key_len, .wire = wire };
                a->wire_len = tel_otlp_attribute_put(wire, wire_len - (size_t)(wire - i->wire), FIELD_ATTRIBUTES, pairs[k].key, pairs[k].value);
                wire += a->wire_len;
                memcpy(key, pairs[k].key, key_len + 1);
                key += key_len + 1;
        }
        return 0;
}

int identity_init(struct identity *i, const char *host, const char *instance, const struct tel_config_map *labels) {
        struct pair pairs[TEL_OTLP_ADDED_MAX];
        size_t n = 0;
        *i = (struct identity){ 0 };
        if (labels->n > TEL_OTLP_ADDED_MAX - 2)
                return -E2BIG;
        snprintf(i->host, sizeof(i->host), "%s", host);
        snprintf(i->instance, sizeof(i->instance), "%s", instance);
        if (*i->host && !labelled(labels, KEY_HOST))
                pairs[n++] = (struct pair){ KEY_HOST, i->host };
        if (*i->instance && !labelled(labels, KEY_INSTANCE))
                pairs[n++] = (struct pair){ KEY_INSTANCE, i->instance };
        for (size_t k = 0; k < labels->n; k++)
                pairs[n++] = (struct pair){ labels->keys[k], labels->values[k] };
        int r = encode(i, pairs, n);
        if (r < 0)
                identity_done(i);
        return r;
}

void identity_done(struct identity *i) {
        free(i->wire);
        free(i->keys);
        *i = (struct identity){ 0 };
}

/* The first line of text that is neither empty nor a comment, trimmed; hostname(5). */
static bool host_of(FILE *f, char *ret, size_t n) {
        char line[256];
        while (fgets(line, sizeof(line), f)) {
                char *from = line + strspn(line, " \t\r\n");
                from[strcspn(from, " \t\r\n")] = '\0';
                if (*from == '\0' || *from == '#')
                        continue;
                snprintf(ret, n, "%s", from);
                return true;
        }
        return false;
}

void identity_host(char *ret, size_t n) {
        FILE *f = fopen("/etc/hostname", "re");
        bool found = f && host_of(f, ret, n);
        struct utsname u;
        if (f)
                fclose(f);
        if (!found)
                snprintf(ret, n, "%s", uname(&u) == 0 ? u.nodename : "localhost");
}

/* 128-bit FNV-1a. Source: draft-eastlake-fnv, section 5. */
static sd_id128_t hash_of(const char *text) {
        const unsigned __int128 prime = (unsigned __int128)1 << 88 | 0x13b;
        unsigned __int128 h = (unsigned __int128)0x6c62272e07bb0142ull << 64 | 0x62b821756295c58dull;
        sd_id128_t id;
        for (; *text; text++)
                h = (h ^ (uint8_t)*text) * prime;
        for (size_t i = 0; i < sizeof(id.bytes); i++)
                id.bytes[i] = (uint8_t)(h >> (8 * (15 - i)));
        return id;
}

void identity_instance(const char *host, char ret[static 37]) {
        /* Drawn once at random; another value would rename every instance. */
        static const sd_id128_t app = SD_ID128_MAKE(6b, 1c, 0e, 5f, 93, 4d, 4e, 0a, b2, 77, 51, d8, 2f, c6, 09, e3);
        sd_id128_t id = hash_of(host);
        for (size_t i = 0; i < sizeof(id.bytes); i++)
                id.bytes[i] ^= app.bytes[i];
        sd_id128_t with_machine;
        if (sd_id128_get_machine_app_specific(id, &with_machine) >= 0)
                id = with_machine;                 /* cloned images share a host name, or a machine id, seldom both */
        id.bytes[6] = (id.bytes[6] & 0x0f) | 0x40; /* version 4, variant 1: RFC 9562, 5.4 */
        id.bytes[8] = (id.bytes[8] & 0x3f) | 0x80;
        sd_id128_to_uuid_string(id, ret);
}
