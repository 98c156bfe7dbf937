/* intake.h - messages on their way from the ring to piso_session_next. Needs the lock. */
#ifndef PISO_SESSION_INTAKE_H
#define PISO_SESSION_INTAKE_H

#include "session/object.h"

/* piso__intake_next: copies the next message into the scratch buffer. Returns its size, 0, or an error. */
int64_t piso__intake_next(piso_session *s);

#endif
