/* descriptors.c - clears the doorbells of a session, and closes its descriptors when nobody uses them any more. */
#include "session/descriptors.h"

void piso__session_clear_bells(piso_session *s) {
    if (!piso__channel_clear_bells(s->channel)) /* or it would wake everybody for ever */
        piso__epoll_remove(s->epoll_fd, s->channel->bell);
}

void piso__session_hang_up(piso_session *s) {
    if (PISO__LIKELY(!s->disconnected) || s->fd_users || atomic_load(&s->sleepers) || atomic_load(&s->hung_up))
        return;
    if (s->process)
        piso__process_on_end(s->process, -1, -1);
    s->epoll_fd = -1;
    piso__channel_hang_up(s->channel);
    atomic_store_explicit(&s->hung_up, 1, memory_order_release);
    piso__word_wake(&s->hung_up);
}
