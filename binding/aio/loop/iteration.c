/* iteration.c - what a link does in one iteration of its loop. */
#include "iteration.h"
#include "closing.h"
#include "handler.h"
#include "link.h"
#include "parked.h"
#include "polling.h"
#include "scheduling.h"

#define PUMP_LIMIT 256
#define SLICE_NS   1000000 /* how long one callback may serve requests before the loop gets its turn */

/* is_done: the service loop, which serves a session that has another home, has nothing to do for it any more. */
static bool is_done(const core_link *link) {
    return core_link_is_service(link) && link->session && link->session->links != link && !link->parked &&
           !link->suspended && !link->inbox.first && !link->finished && !link->held;
}

/* core_link_run: the loop's turn: handle what is there, poll a little, sleep. */
void core_link_run(core_link *link) {
    core_session *s = link->session;
    core_thread *thread = link->home;
    bool polls = link->yielded;
    link->yielded = false;
    if (thread && !polls)
        thread->polled = false;
    core_link_wake(link);
    if (link->unscheduled)
        core_link_schedule_rest(link);
    if (!s || !link->alive || !thread)
        return;
    Py_INCREF(s);
    Py_INCREF(link);
    core_thread_ref(thread);
    int64_t slice_end = piso_now_ns() + SLICE_NS;
    core_pump_context context = {.link = link, .thread = thread};
    int rounds = 0;
    for (;;) {
        core_handlers_answer(link);
        int handled = core_run_inbox(&link->inbox, &context, PUMP_LIMIT) + core_pump(s, &context, PUMP_LIMIT);
        if (!link->alive || !link->session || s->closed)
            break;
        /* tasks that can go on come first; a busy peer must not starve the loop */
        bool yields = thread->ready_tasks || context.started || link->finished || link->inbox.first;
        if (yields || (rounds++ + handled > 0 && piso_now_ns() > slice_end)) {
            link->yielded = yields;
            core_link_rearm(link);
            break;
        }
        if ((handled || polls || link->polls_requests) && core_links_poll(s, thread))
            continue;
        if (link->rearm_scheduled)
            break; /* while others had the GIL */
        if (is_done(link)) {
            core_link_stop(link);
            break;
        }
        int r = piso_session_sleep_begin(link->handle);
        link->asleep = true;
        if (link->session)
            link->session->loops_asleep++;
        if (r <= 0)
            break;
        core_link_wake(link);
    }
    core_thread_unref(thread);
    Py_DECREF(link);
    Py_DECREF(s);
}
