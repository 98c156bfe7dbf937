/* sessions.c - what concerns all sessions at once, for those who do not know what a session is. */
#include "session.h"

bool core_keeps_fd(const core_codec *c) {
    if (c->value_limit != INT64_MAX)
        return true; /* no host's peer: others may come */
    for (const core_session *s = c->state->sessions; s; s = s->next_session)
        if (s->session != c->session && s->session && piso_session_state(s->session) == 0)
            return true;
    return false;
}

void core_sessions_retire(core_state *state, piso_segment *segment) {
    for (core_session *s = state->sessions; s; s = s->next_session)
        piso_session_retire(s->session, segment);
}

void core_sessions_make_room(core_state *state) {
    for (core_session *s = state->sessions; s; s = s->next_session)
        piso_session_trim(s->session, 0);
}
