/* exceptions.h - shared by the files about exceptions. */
#ifndef BINDING_EXCEPTIONS_H
#define BINDING_EXCEPTIONS_H

#include "exception_fields.h"

/* ---- sending to a confined peer (exceptions_reduce.c) ---- */

/* core_is_sent_whole: returns whether all parts of an exception that can be sent are sent: to a peer that is not
 * confined, and for registered classes. Traceback, cause and context are sent only to a peer that is not confined. */
bool core_is_sent_whole(core_codec *c, PyObject *exception);
/* core_reduced_args: returns the arguments that are sent for other exceptions, so that the peer's exception has the
 * same text: a tuple. A built-in class keeps the numbers and text among its arguments; of the object that a
 * UnicodeError could not convert, only the part that the text shows is kept. */
PyObject *core_reduced_args(PyObject *exception);
/* core_reduced_attributes: the same for attributes: returns a dict of those that the text shows. */
PyObject *core_reduced_attributes(PyObject *exception);

/* core_is_builtin_exception: returns whether a class is one of the builtins module. */
bool core_is_builtin_exception(PyTypeObject *type);

/* ---- classes (exception_classes.c) ---- */

typedef enum core_origin { CORE_BUILTIN, CORE_STANDARD, CORE_REGISTERED, CORE_REMOTE } core_origin;
typedef struct core_exception_kind {
    PyObject *cls; /* strong */
    core_origin origin;
    const core_field *fields; /* that it must have, or NULL */
    bool downgraded;          /* a RemoteError, because the class would end the host's program, or its task */
} core_exception_kind;
/* core_exception_class: gets the class for an exception of this name. Returns 0 or -1. */
int core_exception_class(core_decoder *d, PyObject *name, core_exception_kind *ret_kind);
/* core_remote_class: returns the subclass of RemoteError for a name. New reference. */
PyObject *core_remote_class(core_state *state, PyObject *name);
/* core_remote_class_charged: the same, charged to a decoder. */
PyObject *core_remote_class_charged(core_decoder *d, PyObject *name);
/* core_set_text: sets the text of a RemoteError, where that is not made of its arguments. Returns 0, or -1 with an
 * exception. */
int core_set_text(PyObject *error, PyObject *text);
/* core_exceptions_init: registers exceptions as values. */
void core_exceptions_init(core_state *state);
/* core_exception_classes_init: adds methods of RemoteError, and the function that pickle needs for one. */
int core_exception_classes_init(PyObject *module, core_state *state);
void core_exceptions_decode_init(core_state *state);

/* ---- tracebacks (tracebacks.c, sources.c) ---- */

/* core_write_traceback: writes the frames of an exception's traceback, outermost first, as [[file, line, function,
 * source]...]; the last 64 of them. Returns 0 or -1. */
int core_write_traceback(core_encoder *e, PyObject *exception);
/* core_write_no_traceback: writes a frame that says that the traceback was omitted. */
int core_write_no_traceback(core_encoder *e);
/* core_read_traceback: reads such a list, and returns a list of (file, line, function, source), of at most 64. Names
 * are truncated and printable. Items that are not frames are skipped. NULL with an exception. */
PyObject *core_read_traceback(core_decoder *d, piso_reader *r);
/* core_set_traceback: gives an exception a traceback that the ordinary printers show, built from what
 * core_read_traceback returned, or none for NULL. The peer's file names are marked ("<remote /its/path.py>") and never
 * opened: the source lines were sent with them. Returns 0, or -1 with an exception. */
int core_set_traceback(core_state *state, PyObject *exception, PyObject *entries);

/* core_encode_exception: encodes an exception with type name, args, notes, cause, context and traceback. Never fails
 * because a part cannot be sent (such args are sent as their repr); returns -1 only when out of memory. */
int core_encode_exception(core_codec *c, piso_writer *w, PyObject *exception);

int core_sources_init(PyObject *module, core_state *state);
/* core_sources_new: returns an object that keeps source lines in linecache, as long as it lives. */
PyObject *core_sources_new(core_std_state *s);
/* core_sources_add: adds a line of a file. Returns the name under which printers find it, a new reference: the marked
 * file name, with a number where other exceptions have another text for this line. */
PyObject *core_sources_add(PyObject *sources, PyObject *file, int line, PyObject *text);

#endif
