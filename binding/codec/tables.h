/* tables.h - who encodes and who decodes what. encode.c and decode.c call these tables and know no type but the built-in
 * ones; the folders of types (std/, buffers/, numpy/, torch/, cuda/) fill them. */
#ifndef BINDING_TABLES_H
#define BINDING_TABLES_H

#include "converter.h"

/* core_encoder_entry: encodes the values of exactly one class. `kind` is passed on, so that classes can share a function.
 * 0 or -1. `direct`: it looks at e->references and encodes no other values; for others that is 0. */
typedef struct core_encoder_entry {
    int (*encode)(core_encoder *e, int kind, PyObject *value, const core_path *path);
    int kind;
    bool direct;
} core_encoder_entry;

/* core_fallback: encodes values that are not known by their class alone. 1; 0: it is none of its values; -1. */
typedef struct core_fallback {
    int (*encode)(core_encoder *e, PyObject *value, const core_path *path);
    bool direct;
} core_fallback;

/* core_decoder_entry: decodes an ext of one type. */
typedef struct core_decoder_entry {
    PyObject *(*decode)(core_decoder *d, const piso_item *ext);
    uint16_t cost;   /* what it takes here (quota.h), beside what is counted where it is made */
    bool holds;      /* other values: it says itself what it weighs, and what its constructor refuses */
    bool special;    /* another package makes text of it (core_decoder) */
    bool registered; /* an instance of a registered class */
} core_decoder_entry;

#define CORE_EXT_TYPES (INT8_MAX + 1) /* all that the wire can name */
#define CORE_FALLBACKS 8
#define CORE_LOADERS   4

struct core_tables {
    PyObject *exact; /* dict: class -> capsule with a core_encoder_entry; NULL until core_tables_load */
    int (*memoryview)(core_encoder *e, PyObject *value, const core_path *path);
    /* what an exception class of another package is here: a new reference, or NULL without an exception; or NULL */
    PyObject *(*error_class)(core_state *state, const char *name);
    core_fallback fallbacks[CORE_FALLBACKS];         /* asked in this order, after `exact` */
    int (*loaders[CORE_LOADERS])(core_state *state); /* run once, before the first look at `exact` */
    core_decoder_entry decoders[CORE_EXT_TYPES];
    bool loaded;
};

int core_tables_init(PyObject *module, core_state *state);
int core_tables_visit(core_state *state, visitproc visit, void *arg);
void core_tables_clear(core_state *state);
void core_tables_free(core_state *state);

/* core_add_type: a class, which may be NULL with an exception, and who encodes its values; the entry has to be static. 0
 * or -1. */
int core_add_type(core_state *state, PyObject *cls, const core_encoder_entry *entry);
/* core_add_fallback, core_add_loader, core_add_decoder: while the module is made. A loader looks the classes up of modules
 * that are imported only when a value comes that is not built in; one that has failed is called again. */
void core_add_fallback(core_state *state, core_fallback fallback);
void core_add_loader(core_state *state, int (*load)(core_state *state));
void core_add_decoder(core_state *state, int8_t ext_type, core_decoder_entry entry);

/* core_tables_load: runs the loaders. 0 or -1. */
int core_tables_load(core_state *state);
/* core_encoder_of: of values of this class; NULL, with an exception where something failed. */
const core_encoder_entry *core_encoder_of(core_state *state, PyTypeObject *cls);

#endif
