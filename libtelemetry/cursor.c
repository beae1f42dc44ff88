/* SPDX-License-Identifier: Apache-2.0 */
#include "libtelemetry/cursor.h"

const uint8_t *tel_varint_get_slow(const uint8_t *p, const uint8_t *end, uint64_t *ret) {
        uint64_t v = 0;
        for (unsigned shift = 0; shift < 70 && p < end; shift += 7) {
                uint8_t b = *p++;
                if (shift == 63 && b > 1)
                        return NULL;               /* bits past the 64th */
                v |= (uint64_t)(b & 0x7f) << shift;
                if (!(b & 0x80)) {
                        *ret = v;
                        return p;
                }
        }
        return NULL;
}

int tel_field_get(const uint8_t *p, const uint8_t *end, struct tel_field *ret) {
        uint64_t tag, value;
        p = tel_varint_get(p, end, &tag);
        if (!p || tag >> 3 == 0 || tag > UINT32_MAX)
                return -EBADMSG;
        struct tel_field f = { .number = (uint32_t)(tag >> 3), .wire = (enum tel_wire)(tag & 7) };
        switch (f.wire) {
        case TEL_WIRE_VARINT:
                f.at = p;
                p = tel_varint_get(p, end, &f.value);
                if (!p)
                        return -EBADMSG;
                f.end = p;
                break;
        case TEL_WIRE_FIXED64:
                if (end - p < 8)
                        return -EBADMSG;
                f.at = p;
                f.value = tel_le64_get(p);
                f.end = p + 8;
                break;
        case TEL_WIRE_FIXED32:
                if (end - p < 4)
                        return -EBADMSG;
                f.at = p;
                f.value = tel_le32_get(p);
                f.end = p + 4;
                break;
        case TEL_WIRE_BYTES:
                p = tel_varint_get(p, end, &value);
                if (!p || value > (uint64_t)(end - p))
                        return -EBADMSG;
                f.at = p;
                f.value = value;
                f.end = p + value;
                break;
        default:
                return -EBADMSG;
        }
        *ret = f;
        return 0;
}
