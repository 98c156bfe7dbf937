/* exceptions.h - what exceptions.c and tracebacks.c share. */
#ifndef BINDING_EXCEPTIONS_H
#define BINDING_EXCEPTIONS_H

#include "convert_internal.h"

/* core_write_traceback: the frames of an exception's traceback, outermost first, as
 * [[file, line, function, source]...]; the last 64 of them. 0 or -1. */
int core_write_traceback(core_encoder *e, PyObject *exception);
/* core_set_traceback: gives an exception a traceback that the ordinary printers show, made of such a list. The
 * peer's file names are marked ("<remote /its/path.py>") and never opened: the source lines were sent along.
 * A malformed list is ignored. */
void core_set_traceback(core_codec *c, PyObject *exception, PyObject *frames);

#endif
