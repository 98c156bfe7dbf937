/* writer.c - writes MessagePack, one value at a time, into a growing buffer (piso/values.h). */
#include <string.h>

#include "base/base.h"

#define KEEP_CAPACITY (1u << 20) /* capacity that reset keeps */

void piso_writer_init(piso_writer *w) {
    w->data = w->inline_data;
    w->size = 0;
    w->capacity = PISO_WRITER_INLINE;
    w->error = 0;
    w->nspans = w->span_capacity = w->nsegments = w->segment_capacity = 0;
    w->spans = NULL;
    w->segments = NULL;
}

void piso_writer_fini(piso_writer *w) {
    if (!w)
        return;
    if (w->data != w->inline_data)
        free(w->data);
    free(w->spans);
    free(w->segments);
    piso_writer_init(w);
}

void piso_writer_reset(piso_writer *w) {
    if (w->capacity > KEEP_CAPACITY) {
        piso_writer_fini(w);
        return;
    }
    w->size = 0;
    w->error = 0;
    w->nspans = 0;
}

/* grow: makes room for `more` bytes, or sets the sticky error. */
static bool grow(piso_writer *w, size_t more) {
    if (w->error)
        return false;
    if (more > SIZE_MAX / 4 - w->size) {
        w->error = -EMSGSIZE;
        return false;
    }
    size_t capacity = w->capacity * 2;
    while (capacity < w->size + more)
        capacity *= 2;
    bool is_inline = w->data == w->inline_data;
    uint8_t *data = realloc(is_inline ? NULL : w->data, capacity);
    if (!data) {
        w->error = -ENOMEM;
        return false;
    }
    if (is_inline)
        memcpy(data, w->inline_data, w->size);
    w->data = data;
    w->capacity = capacity;
    return true;
}

/* reserve: returns where to write `size` bytes, or NULL after an error. The bytes count as written. */
static inline uint8_t *reserve(piso_writer *w, size_t size) {
    if (PISO__UNLIKELY(w->error || w->capacity - w->size < size) && !grow(w, size))
        return NULL;
    uint8_t *at = w->data + w->size;
    w->size += size;
    return at;
}

static inline void put_be16(uint8_t *to, uint16_t value) {
    value = __builtin_bswap16(value);
    memcpy(to, &value, sizeof value);
}

static inline void put_be32(uint8_t *to, uint32_t value) {
    value = __builtin_bswap32(value);
    memcpy(to, &value, sizeof value);
}

static inline void put_be64(uint8_t *to, uint64_t value) {
    value = __builtin_bswap64(value);
    memcpy(to, &value, sizeof value);
}

static void put_byte(piso_writer *w, uint8_t byte) {
    uint8_t *to = reserve(w, 1);
    if (to)
        *to = byte;
}

/* put_tagged: writes a type byte and a big-endian number of 1, 2, 4 or 8 bytes. */
static void put_tagged(piso_writer *w, uint8_t tag, uint64_t value, int bytes) {
    uint8_t *to = reserve(w, 1 + (size_t)bytes);
    if (!to)
        return;
    *to++ = tag;
    switch (bytes) {
    case 1:
        *to = (uint8_t)value;
        break;
    case 2:
        put_be16(to, (uint16_t)value);
        break;
    case 4:
        put_be32(to, (uint32_t)value);
        break;
    default:
        put_be64(to, value);
    }
}

void piso_write_nil(piso_writer *w) {
    put_byte(w, 0xc0);
}

void piso_write_bool(piso_writer *w, bool value) {
    put_byte(w, value ? 0xc3 : 0xc2);
}

void piso_write_uint(piso_writer *w, uint64_t value) {
    if (value < 0x80)
        put_byte(w, (uint8_t)value);
    else if (value <= UINT8_MAX)
        put_tagged(w, 0xcc, value, 1);
    else if (value <= UINT16_MAX)
        put_tagged(w, 0xcd, value, 2);
    else if (value <= UINT32_MAX)
        put_tagged(w, 0xce, value, 4);
    else
        put_tagged(w, 0xcf, value, 8);
}

void piso_write_int(piso_writer *w, int64_t value) {
    if (value >= 0)
        piso_write_uint(w, (uint64_t)value);
    else if (value >= -32)
        put_byte(w, (uint8_t)value);
    else if (value >= INT8_MIN)
        put_tagged(w, 0xd0, (uint64_t)value, 1);
    else if (value >= INT16_MIN)
        put_tagged(w, 0xd1, (uint64_t)value, 2);
    else if (value >= INT32_MIN)
        put_tagged(w, 0xd2, (uint64_t)value, 4);
    else
        put_tagged(w, 0xd3, (uint64_t)value, 8);
}

void piso_write_double(piso_writer *w, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_tagged(w, 0xcb, bits, 8);
}

void piso_write_raw(piso_writer *w, const void *data, size_t size) {
    uint8_t *to = reserve(w, size);
    if (to && size)
        memcpy(to, data, size);
}

/* too_long: whether a length or count does not fit 32 bits; sets the error. */
static bool too_long(piso_writer *w, size_t size) {
    if (size <= UINT32_MAX)
        return false;
    if (!w->error)
        w->error = -EMSGSIZE;
    return true;
}

void piso_write_str(piso_writer *w, const char *utf8, size_t size) {
    if (too_long(w, size))
        return;
    if (size < 32)
        put_byte(w, (uint8_t)(0xa0 | size));
    else if (size <= UINT8_MAX)
        put_tagged(w, 0xd9, size, 1);
    else if (size <= UINT16_MAX)
        put_tagged(w, 0xda, size, 2);
    else
        put_tagged(w, 0xdb, size, 4);
    piso_write_raw(w, utf8, size);
}

void piso_write_bin(piso_writer *w, const void *data, size_t size) {
    if (too_long(w, size))
        return;
    if (size <= UINT8_MAX)
        put_tagged(w, 0xc4, size, 1);
    else if (size <= UINT16_MAX)
        put_tagged(w, 0xc5, size, 2);
    else
        put_tagged(w, 0xc6, size, 4);
    piso_write_raw(w, data, size);
}

void piso_write_array(piso_writer *w, size_t count) {
    if (too_long(w, count))
        return;
    if (count < 16)
        put_byte(w, (uint8_t)(0x90 | count));
    else if (count <= UINT16_MAX)
        put_tagged(w, 0xdc, count, 2);
    else
        put_tagged(w, 0xdd, count, 4);
}

void piso_write_map(piso_writer *w, size_t count) {
    if (too_long(w, count))
        return;
    if (count < 16)
        put_byte(w, (uint8_t)(0x80 | count));
    else if (count <= UINT16_MAX)
        put_tagged(w, 0xde, count, 2);
    else
        put_tagged(w, 0xdf, count, 4);
}

void piso_write_ext(piso_writer *w, int8_t type, const void *data, size_t size) {
    if (too_long(w, size))
        return;
    if (size == 1 || size == 2 || size == 4 || size == 8 || size == 16)
        put_byte(w, (uint8_t)(0xd4 + __builtin_ctzll(size)));
    else if (size <= UINT8_MAX)
        put_tagged(w, 0xc7, size, 1);
    else if (size <= UINT16_MAX)
        put_tagged(w, 0xc8, size, 2);
    else
        put_tagged(w, 0xc9, size, 4);
    put_byte(w, (uint8_t)type);
    piso_write_raw(w, data, size);
}

size_t piso_write_ext_begin(piso_writer *w, int8_t type) {
    put_tagged(w, 0xc9, 0, 4);
    put_byte(w, (uint8_t)type);
    return w->size;
}

void piso_write_ext_end(piso_writer *w, size_t mark) {
    if (w->error || too_long(w, w->size - mark))
        return;
    put_be32(w->data + mark - 5, (uint32_t)(w->size - mark));
}

int piso_writer_add_span(piso_writer *w, const piso_span *span) {
    if (w->error)
        return w->error;
    if (w->nspans == PISO_MAX_SPANS)
        return w->error = -EMSGSIZE;
    if (w->nspans == w->span_capacity) {
        uint32_t capacity = w->span_capacity ? w->span_capacity * 2 : 4;
        piso_span *spans = reallocarray(w->spans, capacity, sizeof *spans);
        if (!spans)
            return w->error = -ENOMEM;
        w->spans = spans;
        w->span_capacity = capacity;
    }
    w->spans[w->nspans] = *span;
    return (int)w->nspans++;
}
