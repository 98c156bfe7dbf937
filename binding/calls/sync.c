/* sync.c - calls from threads that wait without an event loop.
 *
 * The thread polls a little with the GIL, then waits for the session's descriptor without it. Another thread or
 * loop may take the reply from the session meanwhile; it then writes to this thread's own eventfd. Requests of
 * the peer are served while waiting: plain functions in this thread, coroutines on the application's loop if
 * that runs in another thread, else on the service loop. */
#include "session.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "aio.h"

/* A signal that arrives between the check and the wait is seen after this time at the latest. */
#define SIGNAL_CHECK_NS 250000000
#define MAX_POLLS       64
#define ARRIVAL_NS      50000

typedef struct core_wait {
    core_pending pending;
    unsigned long thread;
    int wake_fd;
    bool woken;
} core_wait;

/* ---- a thread's eventfd ---- */

typedef struct thread_event {
    int fd;
    pid_t pid; /* a forked process must not share it with its parent */
} thread_event;

static pthread_key_t thread_key;
static pthread_once_t thread_key_once = PTHREAD_ONCE_INIT;

static void thread_event_free(void *p) {
    close(((thread_event *)p)->fd);
    free(p);
}

static void thread_key_create(void) {
    pthread_key_create(&thread_key, thread_event_free);
}

/* thread_event_fd: this thread's eventfd, or -1 with an exception. */
static int thread_event_fd(void) {
    pthread_once(&thread_key_once, thread_key_create);
    thread_event *e = pthread_getspecific(thread_key);
    if (e && e->pid == getpid())
        return e->fd;
    e = malloc(sizeof *e);
    int fd = e ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
    if (fd < 0) {
        free(e);
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    *e = (thread_event){fd, getpid()};
    pthread_setspecific(thread_key, e);
    return fd;
}

void core_sync_completed(core_pending *pending) {
    core_wait *w = (core_wait *)pending;
    if (w->thread == PyThread_get_thread_ident() || w->woken)
        return;
    w->woken = true;
    if (w->wake_fd >= 0 && eventfd_write(w->wake_fd, 1) < 0)
        return; /* cannot fail: the counter holds at most one */
}

/* ---- waiting ---- */

static bool waiting(const core_wait *w) {
    return w->pending.outcome == CORE_PENDING;
}

static void poll_briefly(core_session *s, core_wait *w, core_pump_context *context) {
    for (int i = 0; i < MAX_POLLS && waiting(w); i++) { /* then the deadline and signals get a look */
        piso_session_poll_begin(s->session);
        int ready = piso_session_spin(s->session);
        ready |= piso_session_poll_end(s->session);
        if (ready <= 0 || core_pump(s, context, 64) == 0)
            return;
    }
}

/* clear: the thread's eventfd must not wake it again. */
static void clear(const core_wait *w) {
    eventfd_t count;
    eventfd_read(w->wake_fd, &count);
}

/* wait_once: sleeps until something happened or the deadline passed. 0 or -1 with an exception. */
static int wait_once(core_session *s, core_wait *w) {
    int64_t timeout = SIGNAL_CHECK_NS, deadline = w->pending.call.deadline_ns;
    if (deadline != PISO_NO_DEADLINE) {
        int64_t left = deadline - piso_now_ns();
        timeout = left < 0 ? 0 : left < timeout ? left : timeout;
    }
    int r;
    s->sync_sleepers++;
    Py_BEGIN_ALLOW_THREADS r = piso_session_wait(s->session, w->wake_fd, timeout);
    Py_END_ALLOW_THREADS s->sync_sleepers--;
    if (r == 2) /* perhaps for an outer call of this thread, which looks for itself when this one has ended */
        clear(w);
    if (deadline != PISO_NO_DEADLINE && piso_now_ns() >= deadline)
        piso_session_expire(s->session);
    if (r < 0 && r != -EINTR) {
        core_session_error(s, r, &w->pending);
        return -1;
    }
    return Py_MakePendingCalls(); /* signals, and what core_raise_later has kept */
}

/* be_served: has the service loop look after the session. 0 or -1. */
static int be_served(core_session *s) {
    PyObject *loop = core_service_loop(s->state);
    core_link *link = loop ? core_link_for_loop(s, loop) : NULL;
    Py_XDECREF(link);
    return link ? 0 : -1;
}

static int wait_for(core_session *s, core_wait *w) {
    core_pump_context context = {.sync = true};
    for (;;) {
        poll_briefly(s, w, &context);
        core_pump_leftovers(s, &context);
        if (!waiting(w))
            return 0;
        if (w->wake_fd < 0 && (w->wake_fd = thread_event_fd()) < 0)
            return -1;
        /* with no loop of the application's, requests that come while nobody waits go to the service loop */
        if (!s->links && !s->closed && be_served(s) < 0)
            return -1;
        if (wait_once(s, w) < 0)
            return -1;
        core_pump(s, &context, 64);
        if (!waiting(w)) {
            core_pump_leftovers(s, &context);
            return 0;
        }
    }
}

/* block_links: marks the loops of this thread as unable to run anything. */
static void block_links(core_session *s, unsigned long thread, int by) {
    for (core_link *link = s->links; link; link = link->next)
        if (link->thread == thread && (by > 0 || link->blocked))
            link->blocked += by; /* a link may have been made meanwhile: it starts unblocked */
}

PyObject *core_sync_call(core_session *s, uint32_t object, uint32_t number, PyObject *name, int64_t timeout_ns,
                         PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    core_wait w = {
        .pending = {.is_sync = true, .name = name, .timeout_ns = timeout_ns},
        .thread = PyThread_get_thread_ident(),
        .wake_fd = -1,
    };
    if (core_send(s, &w.pending, object, number, args, nargs, kwnames) < 0)
        return NULL;
    Py_INCREF(s); /* what is served meanwhile may drop the last reference to it */
    block_links(s, w.thread, 1);
    int r = wait_for(s, &w);
    block_links(s, w.thread, -1);
    PyObject *result = NULL;
    if (r == 0)
        result = core_pending_take(&w.pending);
    else
        piso_session_forget(s->session, &w.pending.call, true);
    while (w.pending.arriving) { /* in another thread, which writes to `w` at the end */
        struct timespec moment = {.tv_nsec = ARRIVAL_NS};
        Py_BEGIN_ALLOW_THREADS nanosleep(&moment, NULL);
        Py_END_ALLOW_THREADS
    }
    if (w.woken)
        clear(&w);
    Py_CLEAR(w.pending.value); /* a reply that came together with the signal */
    Py_DECREF(s);
    return result;
}
