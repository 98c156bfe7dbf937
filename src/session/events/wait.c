/* wait.c - polling and sleeping, and their handshake with the peer's doorbell.
 *
 * The ring's `sleeping` flag is armed while a thread sleeps and none polls. Each of the following checks the
 * ring after it has set the flag. So a message published before is seen, and one published after rings the
 * doorbell:
 *
 *     sleep_begin  counts itself, arms, checks     sleep_end  uncounts, clears the bell, arms for the others
 *     poll_begin   counts itself, disarms          poll_end   uncounts, arms for sleepers if it was the last, checks
 *
 * The lock makes the first two exclude each other: otherwise a thread that disarms because nobody sleeps could
 * do so after another has begun to sleep. The last two work without it. The counts are atomic and change before
 * the flag does, so the later of two such operations sees the other's count, and a thread that disarms counts
 * as polling until it has armed again. One armed flag too many costs a system call; one too few would lose a
 * wake-up.
 *
 * One rule determines how long a wait polls. A wait polls if similar waits have lately succeeded by polling,
 * else it sleeps at once. It polls for two microseconds, in which most replies come, then up to 20 us, and
 * yields its processor between two checks, so that the peer can run there. Where the peer had to be woken it
 * polls up to 100 us, twice the time of a wake-up, without yielding: the peer must run on another processor.
 *
 * Oversubscription: when a yielded processor comes back late, another thread computes on it. Back-off: no wait
 * of this process then yields for 32 times as long as that took.
 *
 * Colocation: each side notes on which processor it waits. While both wait on the same one, polling without
 * yielding would be in vain, so during a back-off such a wait sleeps at once. A child whose waits were
 * colocated with its host's eight times in a row migrates to another processor. */
#include <errno.h>

#include "session/descriptors.h"
#include "session/leases.h"
#include "session/send.h"

#define FIRST_POLL_NS      2000   /* always polled: most replies come by then */
#define POLL_NS            20000  /* polled at most, and only if it has paid off */
#define WAKE_NS            100000 /* the same, where the peer had to be woken */
#define YIELD_LATE_NS      100000 /* a yield that takes longer shows that another thread computes here */
#define BACKOFF_FACTOR     32     /* no wait of this process yields for so many times as long */
#define SWITCH_NS          1000   /* a switch to another thread and back takes longer */
#define MISSES_UNTIL_SLEEP 4      /* waits in a row that polled in vain, until the next ones sleep at once */
#define PROBE_EVERY        64     /* one of so many polls all the same */
#define UNPAUSED_CHECKS    64     /* without a pause between them */
#define CHECKS_PER_CLOCK   16
#define CPU_CHECK_NS       1000000000
#define LARGE_MESSAGE_NS   450000  /* additional time for a large message that the peer is writing */
#define SHORT_SLEEP_NS     100000  /* a longer sleep does not show where the peer runs */
#define COLOCATED_WAITS    8       /* in a row, until the child migrates */
#define MIGRATE_EVERY_NS   2000000 /* at most: a migration takes as long as some colocated waits */

/* Until then the processors of this process are considered oversubscribed. */
static _Atomic int64_t oversubscribed_until_ns;

/* probe: returns a consumer that checks the ring without the lock. A stale one finds a message where there was
 * one, which costs an extra check. */
static inline piso__ring_consumer probe(const piso_session *s) {
    return (piso__ring_consumer){
        .shared = s->channel->rx.shared,
        .position = atomic_load_explicit(&s->poll_position, memory_order_relaxed),
    };
}

/* has_other_work: whether piso_session_next has work that is not a message. */
static inline bool has_other_work(const piso_session *s) {
    return PISO__UNLIKELY(atomic_load_explicit(&s->attention, memory_order_acquire)) ||
           (s->process && PISO__UNLIKELY(piso__process_ended(s->process))) ||
           (PISO__UNLIKELY(atomic_load_explicit(&s->has_queue, memory_order_relaxed)) &&
            !piso__ring_wants_space(&s->channel->tx));
}

/* is_ready: piso_session_ready for a process that is known to have the mapping. */
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
        return 1; /* piso_session_next reports the fork */
    return last && PISO__UNLIKELY(atomic_load(&s->sleepers)) ? arm(s) : is_ready(s);
}

/* ---- processors ---- */

/* may_run_apart: whether there is a processor for each side. */
static bool may_run_apart(const piso_session *s) {
    return atomic_load_explicit(&s->processors, memory_order_relaxed) > 1;
}

/* processor_here: returns the current processor as the ring stores it, plus one. */
static uint32_t processor_here(void) {
    return (uint32_t)(piso__cpu_current() + 1);
}

/* note_processor: shows the peer where this side waits. */
static void note_processor(piso_session *s) {
    uint32_t cpu = processor_here();
    _Atomic uint32_t *slot = &s->channel->rx.shared->waits_on;
    if (atomic_load_explicit(slot, memory_order_relaxed) != cpu)
        atomic_store_explicit(slot, cpu, memory_order_relaxed);
}

/* is_beside_peer: whether the peer last waited on this processor, so that it cannot run while this side polls. */
static bool is_beside_peer(const piso_session *s) {
    uint32_t cpu = atomic_load_explicit(&s->channel->tx.shared->waits_on, memory_order_relaxed);
    return cpu && cpu == processor_here();
}

/* shares_processor: whether the peer can only run while this side does not. */
static bool shares_processor(const piso_session *s) {
    return !may_run_apart(s) || is_beside_peer(s);
}

/* note_colocation: called when a wait has ended with a message; `met`: the peer sent it from this processor.
 * The kernel puts two threads that wake each other on one processor and leaves them there, although another is
 * idle. So the child migrates. */
static void note_colocation(piso_session *s, bool met, int64_t now) {
    uint32_t colocated = met ? atomic_load_explicit(&s->colocated, memory_order_relaxed) + 1 : 0;
    bool migrates = colocated >= COLOCATED_WAITS &&
                    now - atomic_load_explicit(&s->migrated_ns, memory_order_relaxed) >= MIGRATE_EVERY_NS;
    atomic_store_explicit(&s->colocated, migrates ? 0 : colocated, memory_order_relaxed);
    if (!migrates || s->process || !may_run_apart(s))
        return;
    atomic_store_explicit(&s->migrated_ns, now, memory_order_relaxed);
    atomic_store_explicit(&s->misses[0], 0, memory_order_relaxed);
    piso__cpu_migrate();
}

/* ---- polling ---- */

/* check: polls for a fraction of a microsecond, or checks once where nothing can come in the meantime. */
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

/* has_rung: whether the peer had to be woken and has sent nothing since. */
static bool has_rung(const piso_session *s) {
    return atomic_load_explicit(&s->rang, memory_order_relaxed);
}

/* misses_of: returns the counter for waits like this one, which shows whether polling pays off. */
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
        return 1; /* no wait, so this says nothing about polling */
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

/* is_worth_polling: whether to poll for this session. */
static bool is_worth_polling(piso_session *s, int64_t now) {
    if (has_rung(s) && !may_run_apart(s))
        return false;
    if (shares_processor(s) && is_oversubscribed(now))
        return false;
    if (!polls_in_vain(s))
        return true;
    return (atomic_fetch_add_explicit(misses_of(s), 1, memory_order_relaxed) + 1) % PROBE_EVERY == 0;
}

/* extend_for_large: whether the peer is writing a large message; polling is then extended, because sleeping and
 * waking takes a good part of the time that the writing takes. Not where polling keeps the peer from running. */
static bool extend_for_large(const piso_session *s, int64_t *end) {
    uint32_t cpu = atomic_load_explicit(&s->channel->rx.shared->coming, memory_order_relaxed);
    if (!cpu || cpu == processor_here())
        return false;
    *end += LARGE_MESSAGE_NS;
    return true;
}

/* yield_processor: lets another thread run. Returns false if polling should stop: another thread kept the
 * processor, or, with one processor, nobody wants it, so the peer sleeps. */
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
    if (!came || is_ready(s)) /* an event of another session says nothing about this one */
        note_result(misses, came);
    if (came)
        note_colocation(s, yielded && is_beside_peer(s), now);
    return came;
}

int piso_session_spin(piso_session *s) {
    return piso_session_look(s) || piso_sessions_poll(&s, 1);
}

/* check_cpus: counts the processors, to find out whether polling makes sense at all; before sleeping, once a
 * second at most. */
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

static void note_sleep(piso_session *s) {
    int64_t now = piso_now_ns();
    note_colocation(s, now - s->slept_ns < SHORT_SLEEP_NS && is_beside_peer(s), now);
}

/* check_socket: called after a wake-up without another reason: the peer may have hung up. The end of a process
 * of ours is reported otherwise. */
static void check_socket(piso_session *s) {
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
    piso__session_clear_bells(s);
    if (!others)
        piso__ring_disarm(&s->channel->rx);
    else if (atomic_load(&s->state) != 0)
        piso__channel_ring_self(s->channel); /* the next thread learns of the failure */
    else if (atomic_load(&s->pollers) == 0 && arm(s))
        /* messages that are there may be for the others, which slept through them */
        piso__channel_ring_self(s->channel);
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

/* sleep_on: waits until one of the sessions, all of which have begun to sleep, or the extra descriptor is
 * readable. */
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
