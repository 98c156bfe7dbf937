/* thread.h - the state of a thread: its synchronous waits, the event loops that it runs, and the requests that were
 * handed to it because only it may run them. Everything here needs the GIL. */
#ifndef BINDING_THREAD_H
#define BINDING_THREAD_H

#include "common/state.h"

struct core_session;
struct core_link;
struct core_wait;

/* Requests that wait for a thread or a loop, in order. */
typedef struct core_item {
    struct core_item *next;
    struct core_session *session; /* strong */
    PyObject *origin;             /* strong or NULL: core_pending.origin of the call in whose handler it was made */
    piso_event event;
} core_item;
typedef struct core_inbox {
    core_item *first, **end;
    unsigned count;
} core_inbox;

void core_inbox_init(core_inbox *inbox);
/* core_inbox_put: takes the contents of the event. Returns 0; -1 without an exception when out of memory, and then the
 * event is still the caller's. */
int core_inbox_put(core_inbox *inbox, struct core_session *s, piso_event *event, PyObject *origin);
/* core_inbox_take: returns the first item or NULL. The caller must free it with core_item_free, which ends its
 * event. */
core_item *core_inbox_take(core_inbox *inbox);
void core_item_free(core_item *item);

#define CORE_MAX_NESTING 32 /* nested requests that a thread runs while it waits */

/* A plain function that the thread runs, on its stack, to answer a request. */
typedef struct core_answer {
    struct core_session *session; /* borrowed */
    uint64_t id;
    int64_t deadline_ns;
    PyObject *origin;  /* borrowed, or NULL (rpc/request.h) */
    PyObject *request; /* its Request, once the function has made a call; strong */
    struct core_answer *outer;
} core_answer;

/* One for each thread that has waited, or has run a loop that waits. Reference counted, because a link can outlive its
 * thread; the count is atomic, because the end of a thread drops a reference without the GIL. */
typedef struct core_thread {
    _Atomic unsigned references;
    unsigned long ident;
    unsigned generation;    /* of the process: a forked one must not share the eventfd with its parent */
    int wake_fd;            /* eventfd, or -1: not created yet */
    core_inbox inbox;       /* empty unless the thread waits */
    struct core_wait *wait; /* the innermost synchronous wait (pump/sync.c) */
    core_answer *answers;   /* the innermost; NULL: none, or a coroutine */
    unsigned nested;        /* nested requests that it runs while it waits */
    struct core_link *links;
    bool polled;          /* without success since the last iteration of one of its loops */
    unsigned ready_tasks; /* known tasks of its loops that run in the loop's next iteration */
} core_thread;

/* core_thread_here: returns the running thread's entry, borrowed. NULL with an exception when out of memory. */
core_thread *core_thread_here(void);
/* core_thread_existing: the same, or NULL, without an exception, if there is no entry yet. */
core_thread *core_thread_existing(void);
core_thread *core_thread_ref(core_thread *t);
core_thread *core_thread_unref(core_thread *t); /* accepts NULL, returns NULL */
/* core_thread_task_ready: counts a task that is ready to run, and sets `slot` until core_thread_task_ran, which
 * uncounts it. Calls that repeat the slot's state do nothing. */
void core_thread_task_ready(core_thread *t, core_thread **slot);
void core_thread_task_ran(core_thread **slot);
/* core_thread_fd: returns its eventfd, -1 with an exception. core_thread_wake: makes it readable.
 * core_thread_clear_wake: makes it not readable. */
int core_thread_fd(core_thread *t);
void core_thread_wake(core_thread *t);
void core_thread_clear_wake(core_thread *t);

/* core_pump_context: describes the caller of core_pump. `link`: the link of the loop that runs in this thread now, or
 * NULL. `in_task`: the caller is a task that awaits, so a task may be current, which handlers must not see. `waits`:
 * the caller is a thread that waits synchronously. */
typedef struct core_pump_context {
    core_thread *thread;
    struct core_link *link;
    bool in_task, waits;
    bool polls;   /* a wait has left the session polled, until the first event is taken (core_pump_end_poll) */
    bool started; /* output: the loop of this thread has a new task */
} core_pump_context;

#endif
