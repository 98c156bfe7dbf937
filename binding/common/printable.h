/* printable.h - makes text from the peer safe to show on a terminal or in a log. */
#ifndef BINDING_PRINTABLE_H
#define BINDING_PRINTABLE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>

/* core_printable: returns the text with escapes ("\x1b", "\u202e") in place of characters that control a terminal, end
 * a line, reorder the characters around them, or cannot be encoded (lone surrogates). With `keep_lines` newlines and
 * tabs stay. New reference: the text itself where there is nothing to replace. */
PyObject *core_printable(PyObject *text, bool keep_lines);
/* core_name: returns a name as part of a line: printable, and of at most `limit` characters. A longer one is truncated
 * to its last characters where `keep_end`, else to its first ones. New reference. */
PyObject *core_name(PyObject *text, Py_ssize_t limit, bool keep_end);

#endif
