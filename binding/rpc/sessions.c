/* sessions.c - operations on all sessions, for the layers below, which do not know the type Session (core_peers). */
#include "sessions.h"

static bool has_others(core_state *state, const piso_session *session) {
    for (const core_session *s = state->sessions; s; s = s->next_session)
        if (s->session != session && s->session && piso_session_state(s->session) == 0)
            return true;
    return false;
}

static void retire(core_state *state, piso_segment *segment) {
    for (core_session *s = state->sessions; s; s = s->next_session)
        piso_session_retire(s->session, segment);
}

static void make_room(core_state *state) {
    for (core_session *s = state->sessions; s; s = s->next_session)
        piso_session_trim(s->session, 0);
}

static const core_peers peers = {.make_room = make_room, .retire = retire, .has_others = has_others};

int core_sessions_init(PyObject *Py_UNUSED(module), core_state *state) {
    state->peers = &peers;
    return 0;
}
