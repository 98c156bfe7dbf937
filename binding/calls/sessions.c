/* sessions.c - what concerns all sessions at once, for those who do not know what a session is. */
#include "session.h"

void core_sessions_retire(core_state *state, piso_segment *segment) {
    for (core_session *s = state->sessions; s; s = s->next_session)
        piso_session_retire(s->session, segment);
}

void core_sessions_make_room(core_state *state) {
    for (core_session *s = state->sessions; s; s = s->next_session)
        piso_session_trim(s->session, 0);
}
