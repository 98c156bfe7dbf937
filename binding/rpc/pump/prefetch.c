/* prefetch.c - announces new shared memory to peers before it is first sent.
 *
 * The first message that uses a segment waits until its file descriptor has been sent and mapped: about ten times the
 * cost of a later message. A program that allocates shared memory fills it first, so there is time: the tensor or array
 * is sent ahead, as the argument of a call that does nothing (PISO_OBJECT_PREFETCH). The receiver decodes it and caches it,
 * like all shared memory, until its sender retires it; the real send then finds everything mapped.
 *
 * This is a guess, and a wrong one costs both processes some microseconds. Therefore only the sessions that have sent
 * shared memory most recently are used, and a session stops after some values that were not sent, until one is. */
#include "prefetch.h"

#include "codec/torch/torch.h"

#define MOST_SESSIONS 4
#define MOST_UNSENT   16u /* a quarter of the file descriptors in transit: real sends need not wait */

/* is_likely: returns whether this session is likely to be sent a value like `value`. A session that is being
 * deallocated is still in the list. */
static bool is_likely(const core_session *s, bool tensor) {
    return s->codec.shared_at && s->codec.unsent < MOST_UNSENT && !s->closed && Py_REFCNT(s) > 0 &&
           (tensor ? s->codec.share_torch : s->codec.share_numpy);
}

/* likely_sessions: gets at most MOST_SESSIONS, the most recent ones; strong references. */
static int likely_sessions(core_state *state, bool tensor, core_session **ret_sessions) {
    int count = 0;
    for (core_session *s = state->sessions; s; s = s->next_session) {
        if (!is_likely(s, tensor))
            continue;
        int at = count < MOST_SESSIONS ? count++ : MOST_SESSIONS;
        while (at > 0 && ret_sessions[at - 1]->codec.shared_at < s->codec.shared_at) {
            if (at < MOST_SESSIONS)
                ret_sessions[at] = ret_sessions[at - 1];
            at--;
        }
        if (at < MOST_SESSIONS)
            ret_sessions[at] = s;
    }
    for (int i = 0; i < count; i++)
        Py_INCREF(ret_sessions[i]);
    return count;
}

/* send_ahead: sends the value ahead to one session, unless real messages are waiting. */
static void send_ahead(core_session *s, PyObject *value) {
    piso_stats stats = {.size = sizeof stats};
    piso_session_stats(s->session, &stats);
    if (stats.queued)
        return;
    unsigned unsent = s->codec.unsent;
    uint64_t shared_at = s->codec.shared_at;
    piso_writer w;
    piso_writer_init(&w);
    int r = core_encode_call(&s->codec, &w, &value, 1, NULL, NULL);
    s->codec.shared_at = shared_at;
    s->codec.unsent = unsent + 1;
    if (r == 0 && w.nsegments)
        r = piso_session_call(s->session, NULL, PISO_OBJECT_PREFETCH, 0, PISO_CALL_NO_REPLY, 0, PISO_NO_DEADLINE, &w);
    else
        r = -1;
    if (r < 0)
        core_codec_abandon(&s->codec, &w);
    piso_writer_fini(&w);
    PyErr_Clear(); /* the real send will report the error */
}

static PyObject *prefetch(PyObject *module, PyObject *value) {
    core_state *state = core_module_state(module);
    core_session *sessions[MOST_SESSIONS];
    int count = likely_sessions(state, core_torch_is_tensor(state->torch, value), sessions);
    for (int i = 0; i < count; i++) {
        send_ahead(sessions[i], value);
        Py_DECREF(sessions[i]);
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"prefetch", prefetch, METH_O,
     "prefetch(value)\n\nLet peers open a new shared tensor or array before it is first sent."},
    {NULL, NULL, 0, NULL},
};

int core_prefetch_init(PyObject *module, core_state *Py_UNUSED(state)) {
    return PyModule_AddFunctions(module, functions);
}

void core_prefetch_take(core_session *s, piso_event *event) {
    core_arguments a;
    if (core_decode_call(&s->codec, event, &a) == 0)
        core_arguments_clear(&a);
    piso_event_fini(event);
    PyErr_Clear(); /* the real send will report it */
}
