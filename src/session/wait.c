/* wait.c - polling, sleeping, and how the two agree with the peer's doorbell.
 *
 * The ring's `sleeping` flag is armed whenever somebody sleeps and nobody polls. Each of these ends in a look at
 * the ring after the flag is set, so a message published before is seen and one published after rings:
 *
 *     sleep_begin  counts itself, arms, looks      sleep_end  uncounts, clears the bell, arms for the others
 *     poll_begin   counts itself, disarms          poll_end   uncounts, arms for sleepers if it was the last, looks
 *
 * The first two exclude each other by the lock: otherwise one that disarms because nobody sleeps could do so after
 * another has begun to. The last two do without it: the counts are atomic and change before the flag does, so of two
 * of these the later one finds the other's count, and who disarms is counted as polling until it has armed again. An
 * armed flag too many costs a system call; one too few would lose a wake-up. */
#include <errno.h>

#include "session/internal.h"

#define MAX_BUDGET_NS   50000u
#define MIN_BUDGET_NS   2000u
#define PATIENT_MISSES  4u  /* fruitless polls before the budget shrinks */
#define PROBE_EVERY     64u /* then, each time after so many, a full budget is tried again */
#define EAGER_POLLS     64  /* without a pause between them */
#define POLLS_PER_CLOCK 16
#define CPU_CHECK_NS    1000000000
#define SHORT_SLEEP_NS  100000
#define MAX_MEETINGS    8
#define MOVE_EVERY_NS   2000000
#define PATIENCE_NS     450000 /* besides the budget, for what the peer is writing: some megabytes */

/* probe: a consumer to look at the ring with, without the lock. One that is behind sees a message where there was one:
 * it looks once too often. */
static inline piso__ring_consumer probe(const piso_session *s) {
    return (piso__ring_consumer){
        .shared = s->channel->rx.shared,
        .position = atomic_load_explicit(&s->poll_position, memory_order_relaxed),
    };
}

/* something_else: whether piso_session_next has work that is not a message. */
static inline bool something_else(const piso_session *s) {
    return PISO__UNLIKELY(atomic_load_explicit(&s->attention, memory_order_acquire)) ||
           (s->process && PISO__UNLIKELY(piso__process_ended(s->process))) ||
           (PISO__UNLIKELY(atomic_load_explicit(&s->has_queue, memory_order_relaxed)) &&
            !piso__ring_wants_space(&s->channel->tx));
}

/* is_ready: piso_session_ready, where it is known that this process has the mapping. */
static inline bool is_ready(const piso_session *s) {
    piso__ring_consumer c = probe(s);
    return piso__ring_ready(&c) || something_else(s);
}

bool piso_session_ready(const piso_session *s) {
    return piso__session_forked(s) || is_ready(s);
}

static bool arm(piso_session *s) {
    piso__ring_consumer c = probe(s);
    return piso__ring_arm(&c) || something_else(s);
}

void piso_session_poll_begin(piso_session *s) {
    atomic_fetch_add(&s->pollers, 1);
    if (PISO__UNLIKELY(atomic_load(&s->sleepers)) && !piso__session_forked(s))
        piso__ring_disarm(&s->channel->rx);
}

int piso_session_poll_end(piso_session *s) {
    bool last = atomic_fetch_sub(&s->pollers, 1) == 1;
    if (piso__session_forked(s))
        return 1; /* piso_session_next tells */
    return last && PISO__UNLIKELY(atomic_load(&s->sleepers)) ? arm(s) : is_ready(s);
}

/* ---- spinning ---- */

static void note_hit(piso_session *s) {
    if (atomic_load_explicit(&s->spin_misses, memory_order_relaxed)) {
        atomic_store_explicit(&s->spin_misses, 0, memory_order_relaxed);
        atomic_store_explicit(&s->spin_budget_ns, MAX_BUDGET_NS, memory_order_relaxed);
    }
}

/* note_miss: a peer that takes long, or a machine that is busy: polling only takes its processor away. */
static void note_miss(piso_session *s) {
    uint32_t misses = atomic_fetch_add_explicit(&s->spin_misses, 1, memory_order_relaxed) + 1;
    uint32_t budget = atomic_load_explicit(&s->spin_budget_ns, memory_order_relaxed);
    if (misses % PROBE_EVERY == 0)
        budget = MAX_BUDGET_NS;
    else if (misses >= PATIENT_MISSES)
        budget = budget / 2 > MIN_BUDGET_NS ? budget / 2 : MIN_BUDGET_NS;
    atomic_store_explicit(&s->spin_budget_ns, budget, memory_order_relaxed);
}

/* be_patient: whether the peer is writing a long message, so that the end of polling is put off: to sleep and be woken
 * takes a good part of the time that it takes. Not where polling has been in vain, or keeps the peer from its work. */
static bool be_patient(const piso_session *s, int64_t *end) {
    uint32_t cpu = atomic_load_explicit(&s->channel->rx.shared->coming, memory_order_relaxed);
    if (!cpu || cpu == (uint32_t)(piso__cpu_current() + 1) ||
        atomic_load_explicit(&s->spin_budget_ns, memory_order_relaxed) < MAX_BUDGET_NS)
        return false;
    *end += PATIENCE_NS;
    return true;
}

/* look: polls for a fraction of a microsecond. */
static bool look(piso_session *s) {
    for (int i = 0; i < POLLS_PER_CLOCK; i++) {
        if (is_ready(s))
            return true;
        piso__relax();
    }
    return false;
}

/* clock_and_crowd: the time; in a host, who is awake may be counted. */
static int64_t clock_and_crowd(piso_session *s) {
    int64_t now = piso_now_ns();
    if (s->process)
        piso__crowd_count(s, now);
    return now;
}

/* spin_in_crowd: the rest of a wait. By itself, so that the loop in which small calls wait stays small. */
__attribute__((noinline)) static bool spin_in_crowd(piso_session *s, int64_t now, int64_t end) {
    piso__turn turn = {0};
    bool came;
    do {
        now = piso__crowd_yield(s, &turn, now);
        came = look(s);
    } while (!came && (now = clock_and_crowd(s)) < end);
    if (turn.taken)
        piso__crowd_end_wait(s, &turn, came);
    return came;
}

int piso_session_spin(piso_session *s) {
    if (piso__session_forked(s))
        return 1;
    for (int i = 0; i < EAGER_POLLS; i++)
        if (is_ready(s)) {
            note_hit(s);
            return 1;
        }
    if (atomic_load_explicit(&s->processors, memory_order_relaxed) < 2)
        return piso__crowd_share(s, is_ready);
    int64_t now = piso_now_ns(), end = now + atomic_load_explicit(&s->spin_budget_ns, memory_order_relaxed);
    bool came, patient = false;
    do
        came = piso__crowd_is_there(s) ? spin_in_crowd(s, now, end) : look(s);
    while (!came && ((now = clock_and_crowd(s)) < end || (!patient && (patient = be_patient(s, &end)))));
    if (came)
        note_hit(s);
    else
        note_miss(s);
    return came;
}

/* check_cpus: whether polling makes sense at all; looked at again before sleeping, once a second at most. */
static void check_cpus(piso_session *s) {
    int64_t now = piso_now_ns();
    if (now - atomic_load_explicit(&s->cpu_checked_ns, memory_order_relaxed) < CPU_CHECK_NS)
        return;
    atomic_store_explicit(&s->cpu_checked_ns, now, memory_order_relaxed);
    atomic_store_explicit(&s->processors, (uint32_t)piso__cpu_count(), memory_order_relaxed);
}

/* part_from_peer: the kernel likes to wake a process on the processor of the one that rang. Two that call each other
 * all the time then take turns on one processor, where polling cannot help, while another one idles. After some
 * short sleeps in a row that ended like this, the child moves away. */
static void part_from_peer(piso_session *s) {
    int64_t now = piso_now_ns();
    uint32_t bell_cpu = atomic_load_explicit(&s->channel->rx.shared->bell_cpu, memory_order_relaxed);
    bool met = now - s->slept_ns < SHORT_SLEEP_NS && bell_cpu == (uint32_t)(piso__cpu_current() + 1);
    s->cpu_meetings = met ? s->cpu_meetings + 1 : 0;
    if (s->cpu_meetings < MAX_MEETINGS || now - s->moved_ns < MOVE_EVERY_NS)
        return;
    s->cpu_meetings = 0;
    s->moved_ns = now;
    piso__cpu_leave();
    atomic_store_explicit(&s->spin_budget_ns, MAX_BUDGET_NS, memory_order_relaxed);
}

/* ---- sleeping ---- */

int piso_session_sleep_begin(piso_session *s) {
    if (piso__session_forked(s))
        return PISO_EFORKED;
    check_cpus(s);
    piso__session_lock(s);
    piso__session_flush_releases(s);
    piso__session_flush_queue(s);
    if (piso__ring_publish(&s->channel->rx)) {
        s->stats.doorbells_rung++;
        piso__bell_ring(s->channel->bell);
    }
    atomic_fetch_add(&s->sleepers, 1);
    bool ready = arm(s);
    if (s->may_move && !ready)
        s->slept_ns = piso_now_ns();
    piso__session_unlock(s);
    return ready;
}

void piso__session_silence(piso_session *s) {
    if (!piso__channel_silence(s->channel)) /* or it would wake everybody for ever */
        piso__epoll_remove(s->epoll_fd, s->channel->bell);
}

/* look_at_socket: woken for no other reason: the peer may have hung up. A process of ours tells by itself. */
static void look_at_socket(piso_session *s) {
    if (!s->process && piso__wait_end(-1, s->channel->socket_fd, 0) > 0) {
        s->peer_gone = true;
        atomic_store_explicit(&s->attention, true, memory_order_release);
    }
}

void piso_session_sleep_end(piso_session *s) {
    if (piso__session_forked(s))
        return;
    piso__session_lock(s);
    bool others = atomic_fetch_sub(&s->sleepers, 1) > 1;
    piso__session_silence(s);
    if (!others)
        piso__ring_disarm(&s->channel->rx);
    else if (atomic_load(&s->state) != 0)
        piso__channel_ring_self(s->channel); /* the next one hears of the failure */
    else if (atomic_load(&s->pollers) == 0 && arm(s))
        piso__channel_ring_self(s->channel); /* what is there already may be theirs, and they slept through it */
    if (!is_ready(s))
        look_at_socket(s);
    if (s->may_move && !others && atomic_load_explicit(&s->processors, memory_order_relaxed) > 1)
        part_from_peer(s);
    piso__session_unlock(s);
}

int piso_session_fd(piso_session *s) {
    return piso__session_forked(s) ? PISO_EFORKED : s->epoll_fd;
}

int piso_session_wait(piso_session *s, int extra_fd, int64_t timeout_ns) {
    int r = piso_session_sleep_begin(s);
    if (r < 0)
        return r;
    if (r == 0) {
        int fds[2] = {s->epoll_fd, extra_fd};
        r = piso__poll_in(fds, 2, timeout_ns);
        r = r < 0 ? r : r & 1 ? 1 : r;
    }
    piso_session_sleep_end(s);
    return r;
}
