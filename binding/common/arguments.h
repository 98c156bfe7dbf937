/* arguments.h - converts arguments of methods to the types of the core. */
#ifndef BINDING_ARGUMENTS_H
#define BINDING_ARGUMENTS_H

#include "state.h"

/* core_string_array: returns the C strings of a list of bytes. The array must be freed with PyMem_Free; the strings
 * live as long as the list. */
const char **core_string_array(PyObject *list);
/* core_encode_list: returns a new list of bytes objects, in the file system encoding. */
PyObject *core_encode_list(PyObject *strings);
/* core_environment_list: returns such a list of "NAME=value", for the items of a mapping. */
PyObject *core_environment_list(PyObject *mapping);
/* core_timeout_from: converts seconds or None to nanoseconds (-1: no timeout). Returns 0, or -1 with an exception. */
int core_timeout_from(PyObject *seconds, int64_t *ret_ns);
/* core_next_slice: gets the nanoseconds to wait before checking for signals; returns false when the time is over. */
bool core_next_slice(int64_t end_ns, int64_t *ret_ns);

#endif
