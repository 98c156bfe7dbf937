/* reply.c - the reply to a request: a result, or an exception. */
#include <errno.h>

#include "codec/gpu.h"
#include "codec/std/exceptions.h"
#include "common/interruption.h"
#include "reply.h"
#include "rpc/hooks.h"
#include "rpc/request.h"

#define MAX_UNANSWERED_ERRORS 10 /* for each session: errors of calls without a reply that are reported */

/* interrupt_program: a KeyboardInterrupt in the host's main thread is meant for the host's program, whichever request
 * was being handled. */
static void interrupt_program(core_session *s, PyObject *exception) {
    bool is_main = core_is_main_thread();
    if (is_main && piso_session_process(s->session) && PyErr_GivenExceptionMatches(exception, PyExc_KeyboardInterrupt))
        core_keep_interruption(s->state, exception);
}

void core_exit_forked(core_session *s, bool failed) {
    PyObject *error = failed ? core_fetch_exception() : Py_NewRef(Py_None);
    if (s->fork_hook) /* does not return, unless it fails */
        Py_XDECREF(PyObject_CallOneArg(s->fork_hook, error));
    else if (failed)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    if (PyErr_Occurred())
        PyErr_PrintEx(0); /* for SystemExit this ends the process */
    Py_Exit(failed);
}

bool core_check_forked(core_session *s, bool failed) {
    if (piso_session_state(s->session) != PISO_EFORKED)
        return false;
    if (failed || s->fork_hook)
        core_exit_forked(s, failed);
    return true;
}

/* report_unsent: the reply to a request could not be sent, for lack of a file descriptor, of shared memory, or of
 * memory; without a reply the caller would wait for ever. An error without a traceback fits into the message itself. */
static void report_unsent(core_session *s, uint64_t request, int why) {
    if (why == -ENOENT || piso_session_state(s->session) != 0)
        return; /* nobody waits for it any more */
    core_raise(s->state, why, "sending the answer");
    PyObject *error = core_fetch_exception();
    piso_writer w;
    piso_writer_init(&w);
    if (core_encode_exception(&s->codec, &w, error) < 0 || piso_session_reply(s->session, request, true, &w) < 0)
        core_codec_abandon(&s->codec, &w);
    piso_writer_fini(&w);
    Py_XDECREF(error);
}

void core_reply(core_session *s, uint64_t request, PyObject *result) {
    bool failed = result == NULL;
    if (core_check_forked(s, failed))
        return;
    PyObject *type = NULL, *value = NULL, *traceback = NULL;
    core_open_request *open = core_open_request_find(s, request);
    if (open)
        core_request_answered(s, open);
    if (failed) {
        PyErr_Fetch(&type, &value, &traceback);
        PyErr_NormalizeException(&type, &value, &traceback);
        if (traceback)
            PyException_SetTraceback(value, traceback);
        core_session_annotate(s, value);
        interrupt_program(s, value);
    }
    piso_writer w;
    piso_writer_init(&w);
    uint64_t sends = s->codec.gpu.sends;
    if (!failed && request && core_encode_value(&s->codec, &w, result, "result") < 0) {
        core_codec_abandon(&s->codec, &w);
        PyErr_Fetch(&type, &value, &traceback);
        PyErr_NormalizeException(&type, &value, &traceback);
        interrupt_program(s, value);
        failed = true;
    }
    int r = 0;
    if (request) {
        bool buffers = false;
        if (s->codec.gpu.recalled && s->codec.gpu.sends == sends)
            s->state->gpu->synchronize(&s->codec);
        if (failed)
            r = core_encode_exception(&s->codec, &w, value);
        if (r == 0) {
            buffers = w.nspans > 0 || w.size > PISO_INLINE_BODY;
            r = piso_session_reply(s->session, request, failed, &w);
        }
        PyErr_Clear(); /* out of memory while encoding an error */
        if (r < 0) {
            core_codec_abandon(&s->codec, &w);
            report_unsent(s, request, r == -1 ? -ENOMEM : r);
            PyErr_Clear(); /* that could not be reported either */
        } else if (buffers) {
            s->on->buffers_sent(s);
        }
    } else if (failed && s->unanswered_errors < MAX_UNANSWERED_ERRORS) { /* otherwise the peer could flood stderr */
        s->unanswered_errors++;
        PyErr_Restore(Py_NewRef(type), Py_NewRef(value), Py_XNewRef(traceback));
        PyErr_WriteUnraisable(s->name);
    }
    piso_writer_fini(&w);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
}

void core_refuse(core_session *s, piso_event *event) {
    uint64_t request = event->flags & PISO_CALL_NO_REPLY ? 0 : event->id;
    piso_event_fini(event);
    core_reply(s, request, NULL);
}
