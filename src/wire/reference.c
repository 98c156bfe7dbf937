/* reference.c - writes and reads references (piso/reference.h). */
#include <errno.h>

#include "base/structs.h"

static const uint32_t parts[] = {2, 4, 5}; /* of a payload, by kind */

size_t piso_write_reference_begin(piso_writer *w, const piso_reference *reference) {
    piso_reference r;
    if (piso__struct_in(&r, sizeof r, reference) < 0 || r.kind > PISO_REFERENCE_OBJECT) {
        w->error = w->error ? w->error : -EINVAL;
        return 0;
    }
    size_t mark = piso_write_ext_begin(w, PISO_EXT_REFERENCE);
    piso_write_array(w, parts[r.kind]);
    piso_write_int(w, r.kind);
    piso_write_int(w, r.object);
    if (r.kind == PISO_REFERENCE_HOME)
        return mark;
    piso_write_int(w, r.lease);
    piso_write_str(w, r.name, r.name_size);
    if (r.kind == PISO_REFERENCE_OBJECT)
        piso_write_array(w, r.method_count);
    return mark;
}

/* read_number: reads an integer in a range. */
static bool read_number(piso_reader *r, int64_t low, int64_t high, uint32_t *ret) {
    piso_item item;
    if (piso_read(r, &item) != 1 || item.kind != PISO_INT || item.as.integer < low || item.as.integer > high)
        return false;
    *ret = (uint32_t)item.as.integer;
    return true;
}

static bool read_name(piso_reader *r, piso_reference *ret) {
    piso_item item;
    if (piso_read(r, &item) != 1 || item.kind != PISO_STR || item.as.bytes.size > PISO_MAX_REFERENCE_NAME)
        return false;
    ret->name = (const char *)item.as.bytes.data;
    ret->name_size = item.as.bytes.size;
    return true;
}

/* read_methods: checks the names of methods, and leaves the reader before the first. */
static bool read_methods(piso_reader *r, piso_reference *ret) {
    piso_item item;
    if (piso_read(r, &item) != 1 || item.kind != PISO_ARRAY || item.as.count > PISO_MAX_METHODS)
        return false;
    ret->method_count = item.as.count;
    ret->methods = *r;
    for (size_t i = 0; i < ret->method_count; i++)
        if (piso_read(r, &item) != 1 || item.kind != PISO_STR)
            return false;
    return true;
}

int piso_read_reference(const piso_item *ext, piso_reference *ret_reference) {
    piso_reference found = {.size = sizeof found};
    if (ext->kind != PISO_EXT || ext->ext_type != PISO_EXT_REFERENCE)
        return PISO_EPROTO;
    piso_reader r = {ext->as.bytes.data, ext->as.bytes.data + ext->as.bytes.size};
    piso_item array;
    uint32_t kind;
    if (piso_read(&r, &array) != 1 || array.kind != PISO_ARRAY || !read_number(&r, 0, PISO_REFERENCE_OBJECT, &kind) ||
        array.as.count != parts[kind] ||
        !read_number(&r, PISO_OBJECT_REFERENCED, PISO_OBJECT_PREFETCH - 1, &found.object))
        return PISO_EPROTO;
    found.kind = (piso_reference_kind)kind;
    if (kind != PISO_REFERENCE_HOME &&
        (!read_number(&r, 0, PISO_MAX_SPANS - 1, &found.lease) || !read_name(&r, &found)))
        return PISO_EPROTO;
    if ((kind == PISO_REFERENCE_OBJECT && !read_methods(&r, &found)) || r.cursor != r.end)
        return PISO_EPROTO;
    return piso__struct_out(ret_reference, &found, sizeof found);
}
