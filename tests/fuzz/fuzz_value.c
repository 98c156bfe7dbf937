/* fuzz_value.c - any bytes as a sequence of values: read, written again, read again. Both readings are the same values,
 * and writing the second gives the same bytes: the writer has one form for a value. */
#include "fuzz.h"

/* copy_values: the values up to the first that is not whole, which leaves nothing behind. Returns their size. */
static size_t copy_values(const uint8_t *data, size_t size, piso_writer *w) {
    piso_reader r = {data, data + size};
    for (;;) {
        const uint8_t *start = r.cursor;
        size_t written = w->size;
        int result = fuzz_copy_value(&r, w, 0);
        check(w->error == 0);
        if (result == 1)
            continue;
        check(result == 0 || result == PISO_EPROTO || result == PISO_EDEPTH);
        w->size = written;
        return (size_t)(start - data);
    }
}

/* check_same_item: all but the form. Doubles are compared by their bits: a NaN is not equal to itself. */
static void check_same_item(const piso_item *a, const piso_item *b) {
    check(a->kind == b->kind);
    switch (a->kind) {
    case PISO_NIL:
        break;
    case PISO_BOOL:
        check(a->as.boolean == b->as.boolean);
        break;
    case PISO_INT:
    case PISO_UINT:
        check(a->as.uinteger == b->as.uinteger);
        break;
    case PISO_DOUBLE:
        check(memcmp(&a->as.real, &b->as.real, sizeof a->as.real) == 0);
        break;
    case PISO_ARRAY:
    case PISO_MAP:
        check(a->as.count == b->as.count);
        break;
    case PISO_EXT:
        check(a->ext_type == b->ext_type);
        if (fuzz_holds_values(a))
            break; /* compared value by value */
        __attribute__((fallthrough));
    default:
        check(a->as.bytes.size == b->as.bytes.size);
        check(memcmp(a->as.bytes.data, b->as.bytes.data, a->as.bytes.size) == 0);
    }
}

/* check_same: two encodings hold the same items, one after another; containers are not entered by reading, so depth is
 * not needed, except for extensions. */
static void check_same(piso_reader a, piso_reader b) {
    piso_item left, right;
    int result;
    while ((result = fuzz_read(&a, &left)) == 1) {
        check(fuzz_read(&b, &right) == 1);
        check_same_item(&left, &right);
        if (fuzz_holds_values(&left))
            check_same((piso_reader){left.as.bytes.data, left.as.bytes.data + left.as.bytes.size},
                       (piso_reader){right.as.bytes.data, right.as.bytes.data + right.as.bytes.size});
    }
    check(result == 0 && fuzz_read(&b, &right) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    piso_writer first, second;
    piso_writer_init(&first);
    piso_writer_init(&second);
    size_t whole = copy_values(data, size, &first);
    check_same((piso_reader){data, data + whole}, (piso_reader){first.data, first.data + first.size});
    check(copy_values(first.data, first.size, &second) == first.size);
    check(second.size == first.size && memcmp(second.data, first.data, first.size) == 0);
    piso_writer_fini(&first);
    piso_writer_fini(&second);
    return 0;
}
