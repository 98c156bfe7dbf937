/* wait.h - what waiting has to do with a session's end. */
#ifndef PISO_SESSION_WAIT_H
#define PISO_SESSION_WAIT_H

#include "session/object.h"

/* piso__session_silence: forgets rings of the doorbells. */
void piso__session_silence(piso_session *s);
/* piso__session_hang_up: closes the descriptors if the session is disconnected and nobody waits for one of them. */
void piso__session_hang_up(piso_session *s);

#endif
