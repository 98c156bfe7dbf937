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
 * armed flag too many costs a system call; one too few would lose a wake-up.
 *
 * How long a wait polls is one rule. A wait polls if waits like it have been worth that lately, else it sleeps at once. It
 * polls for two microseconds, in which most answers come, then up to 20 us, and yields its processor between two looks,
 * so that whoever it waits for can run there. Where the peer had to be woken, it polls up to 100 us, twice what that
 * takes, without yielding: the peer is to run elsewhere. When a processor that was yielded comes back late, somebody computes
 * there: no wait of this process yields for 32 times as long as that took. Each side notes on which processor it waits;
 * where both are on one, polling without yielding would be in vain, so for that time it sleeps at once. A child that has met
 * its host on one processor eight times in a row moves to another one. */
#include <errno.h>

#include "session/leases.h"
#include "session/send.h"
#include "session/wait.h"

#define FIRST_POLL_NS      2000   /* polled in any case: most answers come by then */
#define POLL_NS            20000  /* polled at most, and only if it has been worth it */
#define WAKE_NS            100000 /* the same, where the peer had to be woken */
#define YIELD_LATE_NS      100000 /* the processor was given to somebody who computes */
#define BACKOFF_FACTOR     32     /* then no wait of this process yields for so many times as long */
#define SWITCH_NS          1000   /* a switch to somebody else and back takes longer */
#define MISSES_UNTIL_SLEEP 4      /* waits in a row that polled in vain, until the next ones sleep at once */
#define PROBE_EVERY        64     /* but for one of so many */
#define UNPAUSED_CHECKS    64     /* without a pause between them */
#define CHECKS_PER_CLOCK   16
#define CPU_CHECK_NS       1000000000
#define LARGE_MESSAGE_NS   450000  /* besides, for a large message that the peer is writing */
#define SHORT_SLEEP_NS     100000  /* a longer one says nothing of where the peer runs */
#define COLOCATED_WAITS    8       /* on one processor, until the child leaves it */
#define MIGRATE_EVERY_NS   2000000 /* at most: it takes as long as some meetings */

/* Until when somebody is taken to compute where this process waits. */
static _Atomic int64_t oversubscribed_until_ns;

/* probe: a consumer to look at the ring with, without the lock. One that is behind sees a message where there was one:
 * it looks once too often. */
static inline piso__ring_consumer probe(const piso_session *s) {
    return (piso__ring_consumer){
        .shared = s->channel->rx.shared,
        .position = atomic_load_explicit(&s->poll_position, memory_order_relaxed),
    };
}

/* something_else: whether piso_session_next has work that is not a message. */
static inline bool has_other_work(const piso_session *s) {
    return PISO__UNLIKELY(atomic_load_explicit(&s->attention, memory_order_acquire)) ||
           (s->process && PISO__UNLIKELY(piso__process_ended(s->process))) ||
           (PISO__UNLIKELY(atomic_load_explicit(&s->has_queue, memory_order_relaxed)) &&
            !piso__ring_wants_space(&s->channel->tx));
}

/* is_ready: piso_session_ready, where it is known that this process has the mapping. */
static inline bool is_ready(const piso_session *s) {
    piso__ring_consumer c = probe(s);
    return piso__ring_ready(&c) || has_other_work(s);
}

bool piso_session_ready(const piso_session *s) {
    return piso__session_forked(s) || is_ready(s);
}

static bool arm(piso_session *s) {
    piso__ring_consumer c = probe(s);
    return piso__ring_arm(&c) || has_other_work(s);
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

/* ---- on which processor ---- */

/* may_run_apart: whether there is a processor for each side. */
static bool may_run_apart(const piso_session *s) {
    return atomic_load_explicit(&s->processors, memory_order_relaxed) > 1;
}

/* processor_here: as the ring has it: one more than its number. */
static uint32_t processor_here(void) {
    return (uint32_t)(piso__cpu_current() + 1);
}

/* note_processor: tells the peer where this side waits. */
static void note_processor(piso_session *s) {
    uint32_t cpu = processor_here();
    _Atomic uint32_t *slot = &s->channel->rx.shared->waits_on;
    if (atomic_load_explicit(slot, memory_order_relaxed) != cpu)
        atomic_store_explicit(slot, cpu, memory_order_relaxed);
}

/* is_beside_peer: whether the peer has last waited on this processor, so that it cannot run while this side polls. */
static bool is_beside_peer(const piso_session *s) {
    uint32_t cpu = atomic_load_explicit(&s->channel->tx.shared->waits_on, memory_order_relaxed);
    return cpu && cpu == processor_here();
}

/* shares_processor: whether the peer can only run while this side does not. */
static bool shares_processor(const piso_session *s) {
    return !may_run_apart(s) || is_beside_peer(s);
}

/* note_meeting: a wait has ended with a message, and whether the peer sent it from this processor. The kernel puts two that
 * wake each other on one processor and leaves them there, although another is idle: so the child moves away. */
static void note_colocation(piso_session *s, bool met, int64_t now) {
    uint32_t colocated = met ? atomic_load_explicit(&s->colocated, memory_order_relaxed) + 1 : 0;
    bool migrates = colocated >= COLOCATED_WAITS &&
                    now - atomic_load_explicit(&s->migrated_ns, memory_order_relaxed) >= MIGRATE_EVERY_NS;
    atomic_store_explicit(&s->colocated, migrates ? 0 : colocated, memory_order_relaxed);
    if (!migrates || s->process || !may_run_apart(s))
        return;
    atomic_store_explicit(&s->migrated_ns, now, memory_order_relaxed);
    atomic_store_explicit(&s->misses[0], 0, memory_order_relaxed);
    piso__cpu_leave();
}

/* ---- polling ---- */

/* look: for a fraction of a microsecond, or once where nothing can come meanwhile. */
static bool check(piso_session *s) {
    bool ready = is_ready(s);
    int checks = shares_processor(s) ? 1 : CHECKS_PER_CLOCK;
    for (int i = 1; i < checks && !ready; i++) {
        piso__relax();
        ready = is_ready(s);
    }
    return ready;
}

static bool check_all(piso_session *const *sessions, int count) {
    bool ready = check(sessions[0]);
    for (int i = 1; i < count && !ready; i++)
        ready = is_ready(sessions[i]);
    return ready;
}

/* has_rung: whether the peer had to be woken, and has sent nothing since. */
static bool has_rung(const piso_session *s) {
    return atomic_load_explicit(&s->rang, memory_order_relaxed);
}

/* misses_of: of waits like this one, which say whether it is worth polling. */
static _Atomic uint32_t *misses_of(piso_session *s) {
    return &s->misses[has_rung(s)];
}

static void note_result(_Atomic uint32_t *misses, bool came) {
    uint32_t more = came ? 0 : atomic_load_explicit(misses, memory_order_relaxed) + 1;
    atomic_store_explicit(misses, more, memory_order_relaxed);
}

static bool polls_in_vain(piso_session *s) {
    return atomic_load_explicit(misses_of(s), memory_order_relaxed) >= MISSES_UNTIL_SLEEP;
}

int piso_session_look(piso_session *s) {
    if (piso__session_forked(s) || is_ready(s))
        return 1; /* without a wait, which says nothing of polling */
    bool came = false;
    note_processor(s);
    if (shares_processor(s))
        return false;
    for (int i = 1; i < UNPAUSED_CHECKS && !came; i++)
        came = is_ready(s);
    if (!came && !has_rung(s) && !polls_in_vain(s)) {
        int64_t end = piso_now_ns() + FIRST_POLL_NS;
        do
            came = check(s);
        while (!came && piso_now_ns() < end);
    }
    if (came)
        note_result(misses_of(s), true);
    return came;
}

static bool is_oversubscribed(int64_t now) {
    return now < atomic_load_explicit(&oversubscribed_until_ns, memory_order_relaxed);
}

/* is_worth: whether to poll for what this session waits for. */
static bool is_worth_polling(piso_session *s, int64_t now) {
    if (has_rung(s) && !may_run_apart(s))
        return false;
    if (shares_processor(s) && is_oversubscribed(now))
        return false;
    if (!polls_in_vain(s))
        return true;
    return (atomic_fetch_add_explicit(misses_of(s), 1, memory_order_relaxed) + 1) % PROBE_EVERY == 0;
}

/* be_patient: whether the peer is writing a large message, so that the end of polling is put off: to sleep and be woken
 * takes a good part of the time that this takes. Not where polling keeps the peer from its work. */
static bool extend_for_large(const piso_session *s, int64_t *end) {
    uint32_t cpu = atomic_load_explicit(&s->channel->rx.shared->coming, memory_order_relaxed);
    if (!cpu || cpu == processor_here())
        return false;
    *end += LARGE_MESSAGE_NS;
    return true;
}

/* give_way: lets somebody else have the processor. False if there is no point in going on: somebody kept it, or, with one
 * processor, nobody wants it, so the peer sleeps. */
static bool yield_processor(piso_session *s, int64_t now) {
    piso__cpu_yield();
    int64_t after = piso_now_ns(), took = after - now;
    atomic_fetch_add_explicit(&s->yields, 1, memory_order_relaxed);
    if (took > YIELD_LATE_NS)
        atomic_store_explicit(&oversubscribed_until_ns, after + BACKOFF_FACTOR * took, memory_order_relaxed);
    return took <= YIELD_LATE_NS && (may_run_apart(s) || took > SWITCH_NS);
}

int piso_sessions_poll(piso_session *const *sessions, int count) {
    piso_session *s = sessions[0];
    if (piso__session_forked(s))
        return 1;
    int64_t now = piso_now_ns(), end = now + (has_rung(s) ? WAKE_NS : POLL_NS);
    if (!is_worth_polling(s, now))
        return check_all(sessions, count);
    _Atomic uint32_t *misses = misses_of(s);
    bool came, extended = false, more = true, yielded = false;
    while (!(came = check_all(sessions, count)) && more) {
        yielded = !has_rung(s) && !is_oversubscribed(now);
        more = !yielded || yield_processor(s, now);
        now = piso_now_ns();
        if (now >= end && more)
            more = !extended && (extended = extend_for_large(s, &end));
    }
    if (!came || is_ready(s)) /* what another session brings says nothing of this one */
        note_result(misses, came);
    if (came)
        note_colocation(s, yielded && is_beside_peer(s), now);
    return came;
}

int piso_session_spin(piso_session *s) {
    return piso_session_look(s) || piso_sessions_poll(&s, 1);
}

/* check_cpus: whether polling makes sense at all; looked at again before sleeping, once a second at most. */
static void check_cpus(piso_session *s) {
    int64_t now = piso_now_ns();
    if (now - atomic_load_explicit(&s->cpu_checked_ns, memory_order_relaxed) < CPU_CHECK_NS)
        return;
    atomic_store_explicit(&s->cpu_checked_ns, now, memory_order_relaxed);
    atomic_store_explicit(&s->processors, (uint32_t)piso__cpu_count(), memory_order_relaxed);
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
    if (!s->process && !ready)
        s->slept_ns = piso_now_ns();
    piso__session_unlock(s);
    return ready;
}

void piso__session_silence(piso_session *s) {
    if (!piso__channel_silence(s->channel)) /* or it would wake everybody for ever */
        piso__epoll_remove(s->epoll_fd, s->channel->bell);
}

static void note_sleep(piso_session *s) {
    int64_t now = piso_now_ns();
    note_colocation(s, now - s->slept_ns < SHORT_SLEEP_NS && is_beside_peer(s), now);
}

/* look_at_socket: woken for no other reason: the peer may have hung up. A process of ours tells by itself. */
static void check_socket(piso_session *s) {
    if (!s->process && piso__wait_end(-1, s->channel->socket_fd, 0) > 0) {
        s->peer_gone = true;
        atomic_store_explicit(&s->attention, true, memory_order_release);
    }
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
        check_socket(s);
    else if (!s->process)
        note_sleep(s);
    piso__session_hang_up(s);
    piso__session_unlock(s);
}

void piso_session_nudge(piso_session *s) {
    if (piso__session_forked(s))
        return;
    piso__session_lock(s);
    piso__channel_ring_self(s->channel);
    piso__session_unlock(s);
}

int piso_session_fd(piso_session *s) {
    int fd = atomic_load_explicit(&s->epoll_fd, memory_order_relaxed);
    return piso__session_forked(s) ? PISO_EFORKED : fd < 0 ? PISO_ECLOSED : fd;
}

/* sleep: until one of the sessions, all of which have begun to sleep, or the extra descriptor is readable. */
static int sleep_on(piso_session *const *sessions, int count, int extra_fd, int64_t timeout_ns) {
    int fds[PISO_SESSIONS_MAX + 1];
    for (int i = 0; i < count; i++)
        fds[i] = sessions[i]->epoll_fd;
    fds[count] = extra_fd;
    int r = piso__poll_in(fds, count + 1, timeout_ns);
    return r <= 0 ? r : r & ((1 << count) - 1) ? 1 : 2;
}

static int sessions_wait(piso_session *const *sessions, int count, int extra_fd, int64_t timeout_ns, bool then_poll) {
    int r = 0, begun = 0;
    while (begun < count && r == 0) {
        r = piso_session_sleep_begin(sessions[begun]);
        begun += r >= 0;
    }
    if (r == 0)
        r = sleep_on(sessions, count, extra_fd, timeout_ns);
    for (int i = 0; i < count && then_poll; i++)
        piso_session_poll_begin(sessions[i]);
    while (begun > 0)
        piso_session_sleep_end(sessions[--begun]);
    return r;
}

int piso_sessions_wait(piso_session *const *sessions, int count, int extra_fd, int64_t timeout_ns) {
    return sessions_wait(sessions, count, extra_fd, timeout_ns, false);
}

int piso_session_wait_polled(piso_session *s, int extra_fd, int64_t timeout_ns) {
    return sessions_wait(&s, 1, extra_fd, timeout_ns, true);
}

int piso_session_wait(piso_session *s, int extra_fd, int64_t timeout_ns) {
    return piso_sessions_wait(&s, 1, extra_fd, timeout_ns);
}
