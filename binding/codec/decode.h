/* decode.h - decoding: what decoders of types call to read a value and its parts. */
#ifndef BINDING_DECODE_H
#define BINDING_DECODE_H

#include "quota.h"

/* CORE_NESTED: of functions that decode what may contain itself. They are not to be made into one: a tuple in a tuple would
 * take the C stack that an exception needs. */
#define CORE_NESTED __attribute__((noinline))

/* core_decode: the next value; NULL with an exception when there is none. */
PyObject *core_decode(core_decoder *d, piso_reader *r);
/* core_decode_next: an item of many: the next value, unless the message has become too expensive. */
static inline PyObject *core_decode_next(core_decoder *d, piso_reader *r) {
    return d->left < 0 && !core_charge_more(d) ? NULL : core_decode(d, r);
}
/* core_decode_item: the value that begins with an item that was read. */
PyObject *core_decode_item(core_decoder *d, piso_reader *r, const piso_item *item);
/* core_read: the next item of that kind. 0 or -1. */
int core_read(core_decoder *d, piso_reader *r, piso_kind kind, piso_item *ret_item);
/* core_read_array: opens the payload of an ext that holds one array of `count` items. 0 or -1. */
int core_read_array(core_decoder *d, const piso_item *ext, size_t count, piso_reader *ret_reader);

/* Characters of the name of an attribute. Python may keep it as long as the class, so it is not to be large. */
#define CORE_MAX_ATTRIBUTE 200

/* core_check_payload_end: `value`, which was read from a payload, and which is taken; NULL when that goes on behind it. */
PyObject *core_check_payload_end(core_decoder *d, const piso_reader *r, PyObject *value);

/* core_constructor: makes values of one name in an ext that holds [name, part...]. */
#define CORE_PARTS 3
typedef struct core_constructor {
    const char *name;
    size_t parts; /* behind the name, at most CORE_PARTS */
    PyObject *(*make)(core_decoder *d, PyObject **parts);
} core_constructor;
/* core_decode_constructed: what the maker of the ext's name makes of its parts, which it has to check. */
PyObject *core_decode_constructed(core_decoder *d, const piso_item *ext, const core_constructor *constructors, size_t count);

/* core_data: bytes where bytes stand. `owner` is an object with a writable buffer over them: a Lease, or a new
 * bytearray for inline data. */
PyObject *core_decode_data(core_decoder *d, piso_reader *r, size_t *ret_size);
/* core_take_span: the bytes behind EXT_BUFFER, to be released by the caller with piso_session_release. */
const void *core_take_span(core_decoder *d, const piso_item *ext, piso_span *ret_span);

#endif
