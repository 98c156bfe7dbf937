/* reader.c - reads MessagePack, one item at a time, from bytes that come from the peer (piso/values.h). Every
 * length and count is checked against the remaining bytes before it is used. */
#include <string.h>

#include "base/base.h"

static inline size_t left(const piso_reader *r) {
    return (size_t)(r->end - r->cursor);
}

/* get_number: reads a big-endian number of 1, 2, 4 or 8 bytes. False when truncated. */
static bool get_number(piso_reader *r, size_t bytes, uint64_t *ret_value) {
    if (left(r) < bytes)
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | r->cursor[i];
    r->cursor += bytes;
    *ret_value = value;
    return true;
}

static int set_uint(piso_item *item, uint64_t value) {
    item->kind = value > INT64_MAX ? PISO_UINT : PISO_INT;
    item->as.uinteger = value; /* shares its bytes with `integer` */
    return 1;
}

static int set_int(piso_item *item, int64_t value) {
    item->kind = PISO_INT;
    item->as.integer = value;
    return 1;
}

static int read_bytes(piso_reader *r, piso_kind kind, uint64_t size, piso_item *ret_item) {
    if (size > left(r))
        return PISO_EPROTO;
    ret_item->kind = kind;
    ret_item->as.bytes.data = r->cursor;
    ret_item->as.bytes.size = (size_t)size;
    r->cursor += size;
    return 1;
}

/* read_count: each item of a container takes at least one byte. */
static int read_count(piso_reader *r, piso_kind kind, uint64_t count, piso_item *ret_item) {
    if (count * (kind == PISO_MAP ? 2 : 1) > left(r))
        return PISO_EPROTO;
    ret_item->kind = kind;
    ret_item->as.count = (size_t)count;
    return 1;
}

static int read_ext(piso_reader *r, uint64_t size, piso_item *ret_item) {
    uint64_t type;
    if (!get_number(r, 1, &type) || read_bytes(r, PISO_EXT, size, ret_item) < 0)
        return PISO_EPROTO;
    ret_item->ext_type = (int8_t)type; /* set last, so that a failed read does not change the item */
    return 1;
}

static int read_float(piso_reader *r, size_t bytes, piso_item *ret_item) {
    uint64_t bits;
    if (!get_number(r, bytes, &bits))
        return PISO_EPROTO;
    ret_item->kind = PISO_DOUBLE;
    if (bytes == 8) {
        memcpy(&ret_item->as.real, &bits, 8);
    } else {
        float single;
        uint32_t bits32 = (uint32_t)bits;
        memcpy(&single, &bits32, 4);
        ret_item->as.real = single;
    }
    return 1;
}

static int read_number(piso_reader *r, uint8_t tag, piso_item *ret_item) {
    uint64_t value;
    size_t bytes = (size_t)1 << (tag & 3);
    if (!get_number(r, bytes, &value))
        return PISO_EPROTO;
    if (tag <= 0xcf)
        return set_uint(ret_item, value);
    int shift = 64 - 8 * (int)bytes; /* extends the sign */
    return set_int(ret_item, (int64_t)(value << shift) >> shift);
}

/* read_sized: reads types whose tag is followed by a length of 1, 2 or 4 bytes. */
static int read_sized(piso_reader *r, uint8_t tag, piso_item *ret_item) {
    static const uint8_t length_bytes[] = {
        [0xc4 - 0xc4] = 1, [0xc5 - 0xc4] = 2, [0xc6 - 0xc4] = 4, [0xc7 - 0xc4] = 1, [0xc8 - 0xc4] = 2,
        [0xc9 - 0xc4] = 4, [0xd9 - 0xc4] = 1, [0xda - 0xc4] = 2, [0xdb - 0xc4] = 4, [0xdc - 0xc4] = 2,
        [0xdd - 0xc4] = 4, [0xde - 0xc4] = 2, [0xdf - 0xc4] = 4,
    };
    uint64_t size;
    if (!get_number(r, length_bytes[tag - 0xc4], &size))
        return PISO_EPROTO;
    if (tag <= 0xc6)
        return read_bytes(r, PISO_BIN, size, ret_item);
    if (tag <= 0xc9)
        return read_ext(r, size, ret_item);
    if (tag <= 0xdb)
        return read_bytes(r, PISO_STR, size, ret_item);
    return read_count(r, tag <= 0xdd ? PISO_ARRAY : PISO_MAP, size, ret_item);
}

int piso_read(piso_reader *r, piso_item *ret_item) {
    if (r->cursor == r->end)
        return 0;
    uint8_t tag = *r->cursor++;
    if (tag < 0x80)
        return set_int(ret_item, tag);
    if (tag < 0x90)
        return read_count(r, PISO_MAP, tag & 0x0f, ret_item);
    if (tag < 0xa0)
        return read_count(r, PISO_ARRAY, tag & 0x0f, ret_item);
    if (tag < 0xc0)
        return read_bytes(r, PISO_STR, tag & 0x1f, ret_item);
    if (tag >= 0xe0)
        return set_int(ret_item, (int8_t)tag);
    switch (tag) {
    case 0xc0:
        ret_item->kind = PISO_NIL;
        return 1;
    case 0xc1: /* never used */
        return PISO_EPROTO;
    case 0xc2:
    case 0xc3:
        ret_item->kind = PISO_BOOL;
        ret_item->as.boolean = tag == 0xc3;
        return 1;
    case 0xca:
    case 0xcb:
        return read_float(r, tag == 0xca ? 4 : 8, ret_item);
    default:
        if (tag >= 0xcc && tag <= 0xd3)
            return read_number(r, tag, ret_item);
        if (tag >= 0xd4 && tag <= 0xd8)
            return read_ext(r, (uint64_t)1 << (tag - 0xd4), ret_item);
        return read_sized(r, tag, ret_item);
    }
}
