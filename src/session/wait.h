/* wait.h - the part of waiting that the end of a session needs. */
#ifndef PISO_SESSION_WAIT_H
#define PISO_SESSION_WAIT_H

#include "session/object.h"

/* piso__session_clear_bells: clears the doorbells. */
void piso__session_clear_bells(piso_session *s);
/* piso__session_hang_up: closes the descriptors if the session is disconnected and no thread uses one of them. */
void piso__session_hang_up(piso_session *s);

#endif
