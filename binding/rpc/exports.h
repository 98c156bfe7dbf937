/* exports.h - the objects of this process that the peer may call: those that were registered under an id, and exports,
 * which the peer was sent by reference. */
#ifndef BINDING_EXPORTS_H
#define BINDING_EXPORTS_H

#include "object.h"

/* core_export: an object that the peer holds. It ends with its last lease, or with the session. */
typedef struct core_export {
    core_leased leased;    /* first: the cookie of each lease */
    core_session *session; /* borrowed: it owns this */
    PyObject *key;
    PyObject *object;  /* NULL: the session was cleared */
    PyObject *methods; /* tuple of the names that may be called; NULL: it is a function */
    uint32_t id, leases;
} core_export;

/* core_export_lease: adds a lease of the object to a message. `key` identifies it among the session's exports: the
 * same key must mean the same object and methods. Returns the index of the span and sets ret_id, or -1 with an
 * exception. */
int core_export_lease(core_session *s, piso_writer *w, PyObject *key, PyObject *object, PyObject *methods,
                      uint32_t *ret_id);
/* core_export_find: returns the export with an id, which may be any; NULL, without an exception, if there is none. */
core_export *core_export_find(core_session *s, uint32_t id);
/* core_object_find: returns the object registered under an id, borrowed, or NULL without an exception. */
PyObject *core_object_find(core_session *s, uint32_t id);

#define CORE_NOT_A_METHOD "%R is not a method of %.200s" /* a message: the name, and the name of the class */
/* core_method_of: returns what a class defines under a name if that is a function, written in Python or C, as the class
 * wraps it; borrowed. NULL, without an exception, for anything else: a property would be evaluated. */
PyObject *core_method_of(PyTypeObject *type, PyObject *name);
/* core_method_bind: binds what core_method_of has found to an object: a new reference, or NULL with an exception. */
PyObject *core_method_bind(PyObject *found, PyObject *object);

int core_exports_init(PyObject *module, core_state *state);
int core_objects_visit(core_session *s, visitproc visit, void *arg);
/* core_objects_clear: drops the objects, as the garbage collector asks. core_objects_fini: frees everything, once no
 * event of the session is taken any more. */
void core_objects_clear(core_session *s);
void core_objects_fini(core_session *s);

/* Methods of Session. */
PyObject *core_session_register(PyObject *self, PyObject *args);
PyObject *core_session_unregister(PyObject *self, PyObject *id_object);

#endif
