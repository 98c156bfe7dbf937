/* printable.h - text from the other side, made fit to be shown on a terminal or in a log. */
#ifndef BINDING_PRINTABLE_H
#define BINDING_PRINTABLE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>

/* core_printable: the text with escapes ("\x1b", "\u202e") in the place of what controls a terminal, ends a line, reorders
 * the characters around it, or cannot be written at all (lone surrogates). With `keep_lines` newlines and tabs stay.
 * New reference: the text itself where there is nothing to replace. */
PyObject *core_printable(PyObject *text, bool keep_lines);
/* core_name: a name as part of a line: printable, and of at most `limit` characters: of a longer one the last ones where
 * `keep_end`, else the first ones. New reference. */
PyObject *core_name(PyObject *text, Py_ssize_t limit, bool keep_end);

#endif
