/* std.h - values of the standard library's types: the classes, looked up once, and what each file registers. */
#ifndef BINDING_STD_H
#define BINDING_STD_H

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
void core_records_init(core_state *state);

/* core_decode_member: decodes a member of an enum (enums.c). core_encode_member: encodes one. */
PyObject *core_decode_member(core_decoder *d, PyObject *cls, PyObject *key);
int core_encode_member(core_encoder *e, PyObject *value, const core_path *path);

#endif
