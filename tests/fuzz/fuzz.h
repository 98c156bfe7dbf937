/* fuzz.h - what the fuzz targets share: the entry point, a check that stays in optimised builds, and a walk over values
 * that holds piso_read to its contract. Each target also runs over its corpus without libFuzzer (replay_main.c). */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <string.h>

#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define check(condition) ((condition) ? (void)0 : abort())

/* fuzz_read: piso_read, whose item lies in the bytes that it consumed, and is untouched where there is none. */
static inline int fuzz_read(piso_reader *r, piso_item *ret_item) {
    const uint8_t *start = r->cursor, *end = r->end;
    piso_item untouched;
    memset(&untouched, 0xEE, sizeof untouched);
    memset(ret_item, 0xEE, sizeof *ret_item);
    int result = piso_read(r, ret_item);
    check(r->end == end && r->cursor >= start && r->cursor <= end);
    if (result != 1) {
        check(result == (start == end ? 0 : PISO_EPROTO));
        check(memcmp(ret_item, &untouched, sizeof untouched) == 0);
        return result;
    }
    check(r->cursor > start && ret_item->kind >= PISO_NIL && ret_item->kind <= PISO_EXT);
    if (ret_item->kind == PISO_STR || ret_item->kind == PISO_BIN || ret_item->kind == PISO_EXT)
        check(ret_item->as.bytes.data > start && ret_item->as.bytes.size <= (size_t)(end - ret_item->as.bytes.data) &&
              ret_item->as.bytes.data + ret_item->as.bytes.size == r->cursor);
    else if (ret_item->kind == PISO_ARRAY)
        check(ret_item->as.count <= (size_t)(end - r->cursor));
    else if (ret_item->kind == PISO_MAP)
        check(ret_item->as.count <= (size_t)(end - r->cursor) / 2);
    else if (ret_item->kind == PISO_UINT)
        check(ret_item->as.uinteger > INT64_MAX);
    return 1;
}

/* fuzz_holds_values: extensions whose payload is a value. */
static inline bool fuzz_holds_values(const piso_item *item) {
    return item->kind == PISO_EXT && ((item->ext_type >= PISO_EXT_TUPLE && item->ext_type <= PISO_EXT_FROZENSET) ||
                                      (item->ext_type >= PISO_EXT_COLLECTION && item->ext_type <= PISO_EXT_CONVERTED));
}

static inline int fuzz_copy_value(piso_reader *r, piso_writer *w, int depth);

/* fuzz_copy_content: what is inside of a container, `items` values; an extension's payload is exactly one. */
static inline int fuzz_copy_content(piso_reader *r, piso_writer *w, size_t items, int depth) {
    for (size_t i = 0; i < items; i++) {
        int result = fuzz_copy_value(r, w, depth + 1);
        if (result != 1)
            return result < 0 ? result : PISO_EPROTO;
    }
    return 1;
}

static inline int fuzz_copy_ext(const piso_item *item, piso_writer *w, int depth) {
    if (!fuzz_holds_values(item)) {
        piso_write_ext(w, item->ext_type, item->as.bytes.data, item->as.bytes.size);
        return 1;
    }
    piso_reader payload = {item->as.bytes.data, item->as.bytes.data + item->as.bytes.size};
    size_t mark = piso_write_ext_begin(w, item->ext_type);
    int result = fuzz_copy_content(&payload, w, 1, depth);
    if (result == 1 && payload.cursor != payload.end)
        return PISO_EPROTO;
    piso_write_ext_end(w, mark);
    return result;
}

/* fuzz_copy_value: reads a value with all that it contains and writes it again. 1, 0 at a clean end, or an error. */
static inline int fuzz_copy_value(piso_reader *r, piso_writer *w, int depth) {
    piso_item item;
    int result = depth > PISO_MAX_DEPTH ? PISO_EDEPTH : fuzz_read(r, &item);
    if (result != 1)
        return result;
    switch (item.kind) {
    case PISO_NIL:
        piso_write_nil(w);
        return 1;
    case PISO_BOOL:
        piso_write_bool(w, item.as.boolean);
        return 1;
    case PISO_INT:
        piso_write_int(w, item.as.integer);
        return 1;
    case PISO_UINT:
        piso_write_uint(w, item.as.uinteger);
        return 1;
    case PISO_DOUBLE:
        piso_write_double(w, item.as.real);
        return 1;
    case PISO_STR:
        piso_write_str(w, (const char *)item.as.bytes.data, item.as.bytes.size);
        return 1;
    case PISO_BIN:
        piso_write_bin(w, item.as.bytes.data, item.as.bytes.size);
        return 1;
    case PISO_ARRAY:
        piso_write_array(w, item.as.count);
        return fuzz_copy_content(r, w, item.as.count, depth);
    case PISO_MAP:
        piso_write_map(w, item.as.count);
        return fuzz_copy_content(r, w, 2 * item.as.count, depth);
    default:
        return fuzz_copy_ext(&item, w, depth);
    }
}

#endif
