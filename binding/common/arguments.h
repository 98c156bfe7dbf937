/* arguments.h - arguments of methods as the core takes them. */
#ifndef BINDING_ARGUMENTS_H
#define BINDING_ARGUMENTS_H

#include "state.h"

/* core_string_array: C strings of a list of bytes; the strings live as long as the list. Freed with PyMem_Free. */
const char **core_string_array(PyObject *list);
/* core_encode_list: a new list of bytes objects in the file system's encoding. */
PyObject *core_encode_list(PyObject *strings);
/* core_environment_list: such a list of "NAME=value" for each item of a mapping. */
PyObject *core_environment_list(PyObject *mapping);
/* core_timeout_from: seconds or None to nanoseconds (-1: none). 0, or -1 with an exception. */
int core_timeout_from(PyObject *seconds, int64_t *ret_ns);
/* core_next_slice: how long to wait before looking for signals; false when the time is over. */
bool core_next_slice(int64_t end_ns, int64_t *ret_ns);

#endif
