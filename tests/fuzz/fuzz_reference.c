/* fuzz_reference.c - any bytes as the payload of a reference. What is accepted is within the limits, can be written
 * again, and is then read as the same. */
#include "fuzz.h"

/* read: reads the payload, and checks what the reader promises. Returns whether it is a reference. */
static bool read_reference(const uint8_t *data, size_t size, piso_reference *ret) {
    piso_item item = {.kind = PISO_EXT, .ext_type = PISO_EXT_REFERENCE, .as.bytes = {data, size}};
    *ret = (piso_reference){.size = sizeof *ret};
    int r = piso_read_reference(&item, ret);
    check(r == 0 || r == PISO_EPROTO);
    if (r < 0)
        return false;
    check(ret->object >= PISO_OBJECT_REFERENCED && ret->object != PISO_OBJECT_PREFETCH);
    check(ret->kind <= PISO_REFERENCE_OBJECT && ret->lease < PISO_MAX_SPANS);
    check(ret->name_size <= PISO_MAX_REFERENCE_NAME && ret->method_count <= PISO_MAX_METHODS);
    check(ret->kind == PISO_REFERENCE_OBJECT || ret->method_count == 0);
    check(ret->kind != PISO_REFERENCE_HOME || ret->name_size == 0);
    if (ret->name_size)
        check((const uint8_t *)ret->name >= data && (const uint8_t *)ret->name + ret->name_size <= data + size);
    return true;
}

static void next_name(piso_reader *r, piso_item *ret) {
    check(fuzz_read(r, ret) == 1 && ret->kind == PISO_STR);
}

/* write: writes what was read. */
static void write_reference(piso_writer *w, const piso_reference *reference) {
    size_t mark = piso_write_reference_begin(w, reference);
    piso_reader methods = reference->methods;
    piso_item name;
    for (size_t i = 0; i < reference->method_count; i++) {
        next_name(&methods, &name);
        piso_write_str(w, (const char *)name.as.bytes.data, name.as.bytes.size);
    }
    piso_write_ext_end(w, mark);
    check(w->error == 0);
}

static void check_same(const piso_reference *a, const piso_reference *b) {
    check(a->kind == b->kind && a->object == b->object && a->lease == b->lease);
    check(a->name_size == b->name_size && a->method_count == b->method_count);
    check(a->name_size == 0 || memcmp(a->name, b->name, a->name_size) == 0);
    piso_reader left = a->methods, right = b->methods;
    piso_item name, other;
    for (size_t i = 0; i < a->method_count; i++) {
        next_name(&left, &name);
        next_name(&right, &other);
        check(name.as.bytes.size == other.as.bytes.size);
        check(memcmp(name.as.bytes.data, other.as.bytes.data, name.as.bytes.size) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    piso_reference first, second;
    if (!read_reference(data, size, &first))
        return 0;
    piso_writer w;
    piso_writer_init(&w);
    write_reference(&w, &first);
    piso_reader r = {w.data, w.data + w.size};
    piso_item item;
    check(piso_read(&r, &item) == 1 && r.cursor == r.end && item.kind == PISO_EXT);
    check(read_reference(item.as.bytes.data, item.as.bytes.size, &second));
    check_same(&first, &second);
    piso_writer_fini(&w);
    return 0;
}
