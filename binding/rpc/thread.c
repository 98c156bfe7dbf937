/* thread.c - see thread.h. */
#include "thread.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- inboxes ---- */

void core_inbox_init(core_inbox *inbox) {
    *inbox = (core_inbox){.end = &inbox->first};
}

/* move_event: the event itself contains the body of a small message. */
static void move_event(piso_event *to, const piso_event *from) {
    *to = *from;
    to->parent = NULL; /* it may have ended before it is used */
    if (from->body == from->inline_body)
        to->body = to->inline_body;
}

int core_inbox_put(core_inbox *inbox, struct core_session *s, piso_event *event, PyObject *origin) {
    core_item *item = malloc(sizeof *item);
    if (!item)
        return -1;
    item->next = NULL;
    item->session = (struct core_session *)Py_NewRef((PyObject *)s);
    item->origin = Py_XNewRef(origin);
    move_event(&item->event, event);
    event->nspans = 0;
    event->heap = NULL;
    *inbox->end = item;
    inbox->end = &item->next;
    inbox->count++;
    return 0;
}

core_item *core_inbox_take(core_inbox *inbox) {
    core_item *item = inbox->first;
    if (!item)
        return NULL;
    inbox->first = item->next;
    if (!inbox->first)
        inbox->end = &inbox->first;
    inbox->count--;
    return item;
}

void core_item_free(core_item *item) {
    piso_event_fini(&item->event);
    Py_DECREF((PyObject *)item->session);
    Py_XDECREF(item->origin);
    free(item);
}

/* ---- threads ---- */

static pthread_key_t key;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;

core_thread *core_thread_ref(core_thread *t) {
    atomic_fetch_add(&t->references, 1);
    return t;
}

core_thread *core_thread_unref(core_thread *t) {
    if (!t || atomic_fetch_sub(&t->references, 1) != 1)
        return NULL;
    if (t->wake_fd >= 0)
        close(t->wake_fd);
    free(t);
    return NULL;
}

/* thread_ended: called without the GIL. The thread does not wait, so its inbox is empty. */
static void thread_ended(void *t) {
    core_thread_unref(t);
}

static void make_key(void) {
    pthread_key_create(&key, thread_ended);
}

static core_thread *thread_new(void) {
    core_thread *t = calloc(1, sizeof *t);
    if (!t) {
        PyErr_NoMemory();
        return NULL;
    }
    t->references = 1;
    t->ident = PyThread_get_thread_ident();
    t->generation = piso_fork_generation();
    t->wake_fd = -1;
    core_inbox_init(&t->inbox);
    pthread_setspecific(key, t);
    return t;
}

core_thread *core_thread_existing(void) {
    pthread_once(&key_once, make_key);
    core_thread *t = pthread_getspecific(key);
    return t && t->generation == piso_fork_generation() ? t : NULL;
}

core_thread *core_thread_here(void) {
    core_thread *t = core_thread_existing();
    return t ? t : thread_new();
}

int core_thread_fd(core_thread *t) {
    if (t->wake_fd < 0 && (t->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        PyErr_SetFromErrno(PyExc_OSError);
    return t->wake_fd;
}

void core_thread_wake(core_thread *t) {
    if (t->wake_fd >= 0 && eventfd_write(t->wake_fd, 1) < 0)
        return; /* it is readable already */
}

void core_thread_clear_wake(core_thread *t) {
    eventfd_t count;
    if (t->wake_fd >= 0 && eventfd_read(t->wake_fd, &count) < 0)
        return; /* it was not readable */
}

void core_thread_task_ready(core_thread *t, core_thread **slot) {
    if (!t || *slot)
        return;
    *slot = core_thread_ref(t);
    t->ready_tasks++;
}

void core_thread_task_ran(core_thread **slot) {
    if (!*slot)
        return;
    (*slot)->ready_tasks--;
    *slot = core_thread_unref(*slot);
}
