/* std.h - values of the standard library's types: the classes, looked up once, and what each file registers. */
#ifndef BINDING_STD_H
#define BINDING_STD_H

#include "codec/decode.h"
#include "codec/tables.h"

struct core_std_state {
    /* NULL until a value arrives that is not built in */
    PyObject *decimal, *uuid; /* classes */
    PyObject *paths;          /* name -> class of pathlib */
    PyObject *timezone, *zone_info, *timedelta;
    PyObject *counter, *defaultdict, *deque;
    /* never NULL */
    PyObject *remote_classes; /* type name -> subclass of RemoteError made for it */
    PyObject *source_files;   /* dict: name -> SourceFile, of tracebacks that exist (sources.c) */
    PyTypeObject *source_file_type, *sources_type;
};

/* core_std_init: registers this folder. */
int core_std_init(PyObject *module, core_state *state);
int core_std_visit(core_state *state, visitproc visit, void *arg);
void core_std_clear(core_state *state);
void core_std_free(core_state *state);

void core_scalars_init(core_state *state);
void core_collections_init(core_state *state);
void core_library_init(core_state *state);
void core_records_init(core_state *state);

/* ---- COLLECTION (collections.c, library.c) ---- */

extern const core_constructor core_library[];
/* core_is_short: returns whether a number has at most 8192 bits, so that it is divided quickly: 1, 0 or -1. */
int core_is_short(PyObject *number);
/* core_write_attributes: writes the instance's __dict__. core_set_attributes: sets it; returns 0 or -1. */
int core_write_attributes(core_encoder *e, PyObject *value, const core_path *path);
int core_set_attributes(core_decoder *d, PyObject *value, PyObject *attributes);
/* core_write_constructed: begins [name, part...], and returns the mark for piso_write_ext_end. */
size_t core_write_constructed(core_encoder *e, const core_constructor *constructor);

/* ---- time zones (scalars.c) ---- */

/* core_encode_timezone: writes the offset in microseconds east, or, if the timezone has a name, [microseconds, name].
 * core_make_timezone: makes one; `name` may be NULL. */
int core_encode_timezone(core_encoder *e, PyObject *zone);
PyObject *core_make_timezone(core_decoder *d, int64_t microseconds, PyObject *name);

/* ---- enums (enums.c) ---- */
/* core_decode_member: decodes a member of an enum (enums.c). core_encode_member: encodes one. */
PyObject *core_decode_member(core_decoder *d, PyObject *cls, PyObject *key);
int core_encode_member(core_encoder *e, PyObject *value, const core_path *path);

#endif
