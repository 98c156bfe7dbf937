/* thread.h - what the binding knows of a thread: the synchronous waits that it is in, the event loops that it runs, and
 * the requests that it has been handed because only it may run them. Everything here needs the GIL. */
#ifndef BINDING_THREAD_H
#define BINDING_THREAD_H

#include "common/state.h"

struct core_session;
struct core_link;
struct core_wait;

/* Requests that wait for a thread or a loop, in order. */
typedef struct core_item {
    struct core_item *next;
    struct core_session *session; /* a reference */
    piso_event event;
} core_item;
typedef struct core_inbox {
    core_item *first, **end;
    unsigned count;
} core_inbox;

void core_inbox_init(core_inbox *inbox);
/* core_inbox_put: takes what the event holds. 0; -1 without an exception: no memory, and it is still the caller's. */
int core_inbox_put(core_inbox *inbox, struct core_session *s, piso_event *event);
/* core_inbox_take: the first one, to be freed with core_item_free, which ends its event; or NULL. */
core_item *core_inbox_take(core_inbox *inbox);
void core_item_free(core_item *item);

#define CORE_MAX_NESTING 32 /* requests that a thread runs in its waits, one in another */

/* A plain function that the thread runs to answer a request, on its stack. */
typedef struct core_answer {
    struct core_session *session; /* borrowed */
    uint64_t id;
    struct core_answer *outer;
} core_answer;

/* One for each thread that has waited, or has run a loop that waits. Counted, since a link can outlive its thread. */
typedef struct core_thread {
    _Atomic unsigned references;
    unsigned long ident;
    unsigned generation;    /* a forked process must not share the descriptor with its parent */
    int wake_fd;            /* eventfd, or -1: not made yet */
    core_inbox inbox;       /* empty unless the thread waits */
    struct core_wait *wait; /* the innermost synchronous wait (sync.c) */
    core_answer *answers;   /* the innermost; NULL: none, or a coroutine */
    unsigned nested;        /* requests that it runs while it waits, one in another */
    struct core_link *links;
    bool polled;  /* in vain, since one of its loops has last had a turn */
    unsigned ready_tasks; /* tasks of its loops that can go on as soon as the loop has a turn, as far as we know */
} core_thread;

/* core_thread_here: that of the running thread, borrowed. NULL with an exception: no memory. */
core_thread *core_thread_here(void);
/* core_thread_existing: the same, or NULL, without an exception, if there is none yet. */
core_thread *core_thread_existing(void);
core_thread *core_thread_ref(core_thread *t);
core_thread *core_thread_unref(core_thread *t); /* takes NULL, returns NULL */
/* core_thread_task_ready: a task can go on, which `slot` stands for until core_thread_task_ran. Both do
 * nothing where it does, or does not, already. */
void core_thread_task_ready(core_thread *t, core_thread **slot);
void core_thread_task_ran(core_thread **slot);
/* core_thread_fd: its eventfd, -1 with an exception. core_thread_wake, _calm: makes it readable, and not readable. */
int core_thread_fd(core_thread *t);
void core_thread_wake(core_thread *t);
void core_thread_clear_wake(core_thread *t);

#endif
