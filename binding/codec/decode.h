/* decode.h - the functions with which decoders of types read a value and its parts. */
#ifndef BINDING_DECODE_H
#define BINDING_DECODE_H

#include "quota.h"

/* CORE_NESTED: an attribute for functions that decode nested values. They must not be inlined into one: a tuple in a
 * tuple would then use the C stack that an exception needs. */
#define CORE_NESTED __attribute__((noinline))

/* core_decode: decodes the next value; returns NULL with an exception when there is none. */
PyObject *core_decode(core_decoder *d, piso_reader *r);
/* core_decode_next: decodes the next item of a container, unless the message has become too expensive. */
static inline PyObject *core_decode_next(core_decoder *d, piso_reader *r) {
    return d->left < 0 && !core_charge_more(d) ? NULL : core_decode(d, r);
}
/* core_decode_item: decodes the value that begins with an item that has been read. */
PyObject *core_decode_item(core_decoder *d, piso_reader *r, const piso_item *item);
/* core_decode_key: the same for an item that is likely to come again, such as a key of a map (common/key_cache.h). */
PyObject *core_decode_key(core_decoder *d, piso_reader *r, const piso_item *item);
/* core_read: reads the next item, which must be of that kind. Returns 0 or -1. */
int core_read(core_decoder *d, piso_reader *r, piso_kind kind, piso_item *ret_item);
/* core_read_array: opens the payload of an ext that holds one array of `count` items. Returns 0 or -1. */
int core_read_array(core_decoder *d, const piso_item *ext, size_t count, piso_reader *ret_reader);

/* Characters of an attribute's name. Python may keep the name as long as the class, so the limit is small. */
#define CORE_MAX_ATTRIBUTE 200

/* core_check_payload_end: returns `value`, which was read from a payload and whose reference is stolen; NULL with an
 * exception when bytes follow it. */
PyObject *core_check_payload_end(core_decoder *d, const piso_reader *r, PyObject *value);

/* core_constructor: creates the values of one name in an ext that holds [name, part...]. */
#define CORE_PARTS 3
typedef struct core_constructor {
    const char *name;
    size_t parts; /* after the name, at most CORE_PARTS */
    PyObject *(*make)(core_decoder *d, PyObject **parts);
} core_constructor;
/* core_decode_constructed: calls the constructor that the ext names with its parts, which the constructor must check.
 * It is in one of the lists; the last constructor of a list has no name, and the last list is NULL. */
PyObject *core_decode_constructed(core_decoder *d, const piso_item *ext, const core_constructor *const *lists);

/* core_decode_data: decodes bytes. Returns a new reference to an object with a writable buffer: a BufferRef, or a
 * bytearray for inline data. */
PyObject *core_decode_data(core_decoder *d, piso_reader *r, size_t *ret_size);
/* core_take_span: returns the bytes of an EXT_BUFFER. The caller must release the span with piso_session_release. */
const void *core_take_span(core_decoder *d, const piso_item *ext, piso_span *ret_span);

#endif
