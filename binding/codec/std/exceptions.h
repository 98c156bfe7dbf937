/* exceptions.h - what the files about exceptions share. */
#ifndef BINDING_EXCEPTIONS_H
#define BINDING_EXCEPTIONS_H

#include "exception_fields.h"

/* ---- what is sent to a confined peer (exceptions_reduce.c) ---- */

/* core_is_sent_whole: whether all of an exception that can cross is sent: to a peer that is not confined, and of a class
 * that is registered, but for traceback, cause and context, which only the first one gets. 1, 0, -1. */
int core_is_sent_whole(core_codec *c, PyObject *exception);
/* core_reduced_args: what is sent as the arguments of another exception, so that the peer's has the same text: a tuple. A
 * class of Python's own keeps numbers and text among its arguments; of what a UnicodeError could not convert no more than
 * the text shows is left. */
PyObject *core_reduced_args(PyObject *exception);
/* core_reduced_attributes: the same for attributes: a dict of those that the text shows. */
PyObject *core_reduced_attributes(PyObject *exception);

/* ---- classes (exception_classes.c) ---- */

typedef enum core_origin { CORE_BUILTIN, CORE_STANDARD, CORE_REGISTERED, CORE_REMOTE } core_origin;
typedef struct core_exception_kind {
    PyObject *cls; /* a reference */
    core_origin origin;
    const core_field *fields; /* that it must have, or NULL */
    bool downgraded;               /* a RemoteError, because the class would end the host's program, or its task */
} core_exception_kind;
/* core_exception_class: what an exception of this name is made of here. 0 or -1. */
int core_exception_class(core_decoder *d, PyObject *name, core_exception_kind *ret_kind);
/* core_remote_class: the subclass of RemoteError for a name. New reference. */
PyObject *core_remote_class(core_state *state, PyObject *name);
/* core_remote_class_charged: the same for a decoder. */
PyObject *core_remote_class_charged(core_decoder *d, PyObject *name);
/* core_exceptions_init: adds exceptions as values. */
void core_exceptions_init(core_state *state);
/* core_exception_classes_init: what a RemoteError needs to be pickled. */
int core_exception_classes_init(PyObject *module, core_state *state);
void core_exceptions_decode_init(core_state *state);

/* ---- tracebacks (tracebacks.c, sources.c) ---- */

/* core_write_traceback: the frames of an exception's traceback, outermost first, as
 * [[file, line, function, source]...]; the last 64 of them. 0 or -1. */
int core_write_traceback(core_encoder *e, PyObject *exception);
/* core_write_no_traceback: a frame that says that there were some. */
int core_write_no_traceback(core_encoder *e);
/* core_read_traceback: such a list as it came: a list of (file, line, function, source), of at most 64. Names are cut and
 * printable. What is no frame is passed over. NULL with an exception. */
PyObject *core_read_traceback(core_decoder *d, piso_reader *r);
/* core_set_traceback: gives an exception a traceback that the ordinary printers show, made of what core_read_traceback
 * returned, or none for NULL. The peer's file names are marked ("<remote /its/path.py>") and never opened: the source
 * lines were sent along. 0, or -1 with an exception. */
int core_set_traceback(core_state *state, PyObject *exception, PyObject *entries);

/* core_encode_exception: an exception with type name, args, notes, cause, context and formatted traceback.
 * Never fails for lack of convertible parts (args that cannot cross are sent as their repr); -1 only when out
 * of memory. */
int core_encode_exception(core_codec *c, piso_writer *w, PyObject *exception);

int core_sources_init(PyObject *module, core_state *state);
/* core_sources_new: an object that keeps lines of source where printers look for them, as long as it lives. */
PyObject *core_sources_new(core_std_state *s);
/* core_sources_add: a line of a file. The name under which it is found, a new reference: the file's, marked; with a number
 * where others have another text for this line of it. */
PyObject *core_sources_add(PyObject *sources, PyObject *file, int line, PyObject *text);

#endif
