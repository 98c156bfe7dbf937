/* meter.h - limits notifications. */
#ifndef BINDING_METER_H
#define BINDING_METER_H

#include "rpc/object.h"

/* core_session_meter_exceeded: counts a notification and returns whether it exceeds the limit. */
bool core_session_meter_exceeded(core_session *s, const piso_event *event);
/* Methods of Session. */
PyObject *core_session_meter(PyObject *self, PyObject *args);
PyObject *core_session_metered(PyObject *self, PyObject *ignored);

#endif
