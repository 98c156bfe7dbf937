/* iteration.c - the work of a link in one iteration of its loop. */
#include "iteration.h"
#include "closing.h"
#include "handler.h"
#include "link.h"
#include "parked.h"
#include "polling.h"
#include "rpc/pump/pump.h"
#include "scheduling.h"

#define PUMP_LIMIT 256
#define SLICE_NS   1000000 /* how long one callback may handle requests before the loop continues */

/* is_done: returns whether the service loop, on a session with another home, has nothing left to do for it. */
static bool is_done(const core_link *link) {
    return core_link_is_service(link) && link->session && link->session->links != link && !link->parked &&
           !link->suspended && !link->inbox.first && !link->finished && !link->held;
}

/* core_link_run: handles the available events, polls briefly, then sleeps. */
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
    core_polled polled = CORE_POLLED_NOTHING;
    for (;;) {
        core_handlers_answer(link);
        int handled = core_run_inbox(&link->inbox, &context, PUMP_LIMIT) + core_pump(s, &context, PUMP_LIMIT);
        if (!link->alive || !link->session || s->closed)
            break;
        /* ready tasks run first; a busy peer must not starve the loop */
        bool yields = thread->ready_tasks || context.started || link->finished || link->inbox.first;
        if (yields || (rounds++ + handled > 0 && piso_now_ns() > slice_end)) {
            link->yielded = yields;
            core_link_rearm(link);
            break;
        }
        if (handled || polled || polls || link->polls_requests)
            polled = core_links_poll(s, thread, false);
        if (polled)
            continue;
        if (link->rearm_scheduled)
            break; /* while other threads had the GIL */
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
