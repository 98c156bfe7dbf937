/* named.h - exts that hold a name and a value. */
#ifndef BINDING_NAMED_H
#define BINDING_NAMED_H

#include "codec/decode.h"

/* core_write_named: writes the ext [name, value]. Returns 0 or -1. */
int core_write_named(core_encoder *e, int8_t ext_type, PyObject *name, PyObject *value, const core_path *path);
/* core_read_name: opens the payload of such an ext and reads the name. New reference. */
PyObject *core_read_name(core_decoder *d, const piso_item *ext, piso_reader *ret_reader);
/* core_read_named: reads the value after the name, and checks that nothing follows. New reference. */
PyObject *core_read_named(core_decoder *d, piso_reader *r);

#endif
