/* descriptors.h - the descriptors of a session: its doorbells, and closing them after their last use. */
#ifndef PISO_SESSION_DESCRIPTORS_H
#define PISO_SESSION_DESCRIPTORS_H

#include "session/object.h"

/* piso__session_clear_bells: clears the doorbells. */
void piso__session_clear_bells(piso_session *s);
/* piso__session_hang_up: closes the descriptors if the session is disconnected and no thread uses one of them. */
void piso__session_hang_up(piso_session *s);

#endif
