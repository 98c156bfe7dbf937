/* tables.h - the tables of encoders and decoders. encode.c and decode.c call these tables and know only the built-in
 * types; the folders of types (std/, buffers/, numpy/, torch/, cuda/) fill them. */
#ifndef BINDING_TABLES_H
#define BINDING_TABLES_H

#include "converter.h"

/* core_encoder_entry: encodes the values of exactly one class. Classes that share a function are distinguished by
 * `kind`. encode returns 0 or -1. `direct`: it uses e->references and encodes no nested values; for others
 * e->references is 0. */
typedef struct core_encoder_entry {
    int (*encode)(core_encoder *e, int kind, PyObject *value, const core_path *path);
    int kind;
    bool direct;
} core_encoder_entry;

/* core_fallback: encodes values whose class is in no table. encode returns 1, 0 if it does not handle the value, or
 * -1. */
typedef struct core_fallback {
    int (*encode)(core_encoder *e, PyObject *value, const core_path *path);
    bool direct;
} core_fallback;

/* core_decoder_entry: decodes the ext of one type. */
typedef struct core_decoder_entry {
    PyObject *(*decode)(core_decoder *d, const piso_item *ext);
    uint16_t cost;   /* bytes charged (quota.h), in addition to what the decoder charges itself */
    bool holds;      /* holds other values: sets the weight and handles failed constructors itself */
    bool special;    /* its repr is another package's (core_decoder) */
    bool registered; /* an instance of a registered class */
} core_decoder_entry;

#define CORE_EXT_TYPES (INT8_MAX + 1) /* as many as the wire format has */
#define CORE_FALLBACKS 12
#define CORE_LOADERS   8

struct core_tables {
    PyObject *exact; /* dict: class -> capsule with a core_encoder_entry; NULL: none yet */
    int (*memoryview)(core_encoder *e, PyObject *value, const core_path *path);
    /* instance: encodes an object of a class registered with encode and decode, or with by_ref; `cls` is that class, or
     * a base of the object's that is registered with `subclasses`. 0 or -1 */
    int (*instance)(core_encoder *e, PyObject *value, PyTypeObject *cls, const core_path *path);
    /* reference: sends an object by reference, as a Ref with these methods. 0 or -1. permitted: returns the names of
     * methods as such a tuple; raises for a name that is not a method of the class */
    int (*reference)(core_encoder *e, PyObject *value, PyObject *methods, const core_path *path);
    PyObject *(*permitted)(core_state *state, PyTypeObject *cls, PyObject *methods);
    /* the class in this process for an exception class of another package: new reference, or NULL without an exception;
     * or NULL */
    PyObject *(*error_class)(core_state *state, const char *name);
    core_fallback fallbacks[CORE_FALLBACKS];         /* tried in this order, after `exact` */
    int (*loaders[CORE_LOADERS])(core_state *state); /* run once, before the first use of `exact` */
    core_decoder_entry decoders[CORE_EXT_TYPES];
    bool loaded;
};

int core_tables_init(PyObject *module, core_state *state);
int core_tables_visit(core_state *state, visitproc visit, void *arg);
void core_tables_clear(core_state *state);
void core_tables_free(core_state *state);

/* core_add_type: registers the encoder of a class. The class may be NULL with an exception; the entry must be static.
 * Returns 0 or -1. */
int core_add_type(core_state *state, PyObject *cls, const core_encoder_entry *entry);
/* core_add_fallback, core_add_loader, core_add_decoder: called while the module is initialised. A loader looks up
 * classes of modules that are imported only when the first value that is not built in arrives; a loader that failed is
 * called again. */
void core_add_fallback(core_state *state, core_fallback fallback);
void core_add_loader(core_state *state, int (*load)(core_state *state));
void core_add_decoder(core_state *state, int8_t ext_type, core_decoder_entry entry);

/* core_tables_load: runs the loaders. Returns 0 or -1. */
int core_tables_load(core_state *state);
/* core_encoder_of: returns the encoder of a class's values, or NULL, without an exception. */
const core_encoder_entry *core_encoder_of(core_state *state, PyTypeObject *cls);

#endif
