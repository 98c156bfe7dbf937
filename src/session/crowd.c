/* crowd.c - where more processes are awake than there are processors, those that wait take turns.
 *
 * In a chain of calls, extension, host, another extension, one of three processes works and two wait. With two
 * processors, one that waits polls where the one that has something to do ought to run. Sleeping and being woken takes
 * tens of microseconds; giving the processor away while polling takes one switch, 1.5 us.
 *
 * The host counts: those of its threads that poll, and the extensions that do not sleep. It tells these by a word
 * beside their sleeping flag. How often a processor is given away then depends on what that was good for:
 *
 *     nothing     nobody else was there; the next times are left out, twice as many each time
 *     a turn      somebody ran and gave the processor back
 *     too much    somebody ran who does not give it back, a program that computes: not again for a while, which begins
 *                 with a few times what was lost and doubles up to ten seconds, since who sleeps and is woken gets the
 *                 processor sooner than who has given it away. Most such programs run for milliseconds
 *
 * With one processor nobody counts: who waits gives it away at once, until there is nobody who takes it. Two that call
 * each other take 5 us where they slept and woke each other in 20.
 *
 * Of a host and two extensions on two processors, the host needs one for itself, since it has a part in every
 * exchange: an extension that takes turns with the host moves away from it. */
#include "session/internal.h"

#define COUNT_EVERY_NS  100000
#define NOTHING_NS      1000    /* a switch there and back takes longer, the system call alone does not */
#define TOO_MUCH_NS     1000000 /* longer than any of us polls (wait.c), shorter than programs that compute keep it */
#define FIRST_REGRET_NS INT64_C(10000000)
#define MAX_REGRETS     10   /* times that it doubles */
#define FORGIVEN        1000 /* turns in a row that were none too long */
#define PATIENCE        4    /* looks before a turn is given: as long as an answer takes that comes at once */
#define MAX_LEFT_OUT    128
#define LATE_ENOUGH     2  /* waits in a row that ended with a turn: the next ones give theirs at once */
#define TRY_EVERY       16 /* but for one of so many */
#define MAX_TURNS       16 /* in a row on the host's processor */
#define MOVE_EVERY_NS   2000000
#define SHARE_NS        100000

/* The sessions of this process that have spawned theirs. */
static struct {
    pthread_mutex_t lock;
    pthread_once_t once;
    piso_session *first;
    _Atomic int64_t counted_ns; /* 0: count at the next look */
    _Atomic uint32_t crowd;     /* as in the ring */
} host = {.lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT};

/* ---- who is there ---- */

static void before_fork(void) {
    pthread_mutex_lock(&host.lock);
}

static void after_fork(void) {
    pthread_mutex_unlock(&host.lock);
}

static void after_fork_in_child(void) {
    host.first = NULL; /* the parent's */
    pthread_mutex_unlock(&host.lock);
}

static void prepare(void) {
    pthread_atfork(before_fork, after_fork, after_fork_in_child);
}

void piso__crowd_join(piso_session *s) {
    pthread_once(&host.once, prepare);
    s->crowd = &host.crowd;
    pthread_mutex_lock(&host.lock);
    s->next_in_crowd = host.first;
    host.first = s;
    pthread_mutex_unlock(&host.lock);
}

void piso__crowd_leave(piso_session *s) {
    if (piso__session_forked(s))
        return;
    pthread_mutex_lock(&host.lock);
    piso_session **at = &host.first;
    while (*at && *at != s)
        at = &(*at)->next_in_crowd;
    if (*at)
        *at = s->next_in_crowd;
    pthread_mutex_unlock(&host.lock);
}

void piso__crowd_changed(void) {
    atomic_store_explicit(&host.counted_ns, 0, memory_order_relaxed);
}

/* is_awake: the extension works or polls. It may lie: then this side yields for nothing. */
static bool is_awake(const piso_session *s) {
    return atomic_load_explicit(&s->state, memory_order_relaxed) == 0 &&
           !atomic_load_explicit(&s->channel->tx.shared->sleeping, memory_order_relaxed);
}

/* count: how many are awake, and whether any has been told of a crowd. */
static uint32_t count(bool *ret_told) {
    uint32_t awake = 0, polling = 0;
    bool told = false;
    for (piso_session *s = host.first; s; s = s->next_in_crowd) {
        awake += is_awake(s);
        polling += atomic_load_explicit(&s->pollers, memory_order_relaxed);
        told |= s->crowd_told != 0;
    }
    *ret_told = told;
    return awake + (polling ? polling : 1);
}

static void tell(uint32_t crowd) {
    for (piso_session *s = host.first; s; s = s->next_in_crowd)
        if (s->crowd_told != crowd && is_awake(s)) {
            s->crowd_told = crowd;
            atomic_store_explicit(&s->channel->tx.shared->crowd, crowd, memory_order_relaxed);
        }
}

static void look_around(uint32_t processors) {
    bool told;
    uint32_t crowd = count(&told) > processors ? (uint32_t)(piso__cpu_current() + 1) : 0;
    atomic_store_explicit(&host.crowd, crowd, memory_order_relaxed);
    if (crowd || told)
        tell(crowd);
}

void piso__crowd_count(piso_session *s, int64_t now) {
    if (now - atomic_load_explicit(&host.counted_ns, memory_order_relaxed) < COUNT_EVERY_NS ||
        pthread_mutex_trylock(&host.lock) != 0)
        return;
    atomic_store_explicit(&host.counted_ns, now, memory_order_relaxed);
    look_around(atomic_load_explicit(&s->processors, memory_order_relaxed));
    pthread_mutex_unlock(&host.lock);
}

/* ---- turns ---- */

/* part_from_host: `crowd` says where it is. */
static void part_from_host(piso__turns *t, uint32_t crowd, int64_t now) {
    t->with_host = crowd == (uint32_t)(piso__cpu_current() + 1) ? t->with_host + 1 : 0;
    if (t->with_host < MAX_TURNS || now - t->moved_ns < MOVE_EVERY_NS)
        return;
    t->with_host = 0;
    t->moved_ns = now;
    piso__cpu_leave();
}

/* enter: the first look of a wait. False when another thread of this session takes turns: one is enough. */
static bool enter(piso_session *s, piso__turn *turn) {
    piso__turns *t = &s->turns;
    if (atomic_exchange_explicit(&t->taken, true, memory_order_acquire))
        return false;
    turn->taken = true;
    turn->for_answer = atomic_load_explicit(&s->sent_call, memory_order_relaxed);
    turn->patient = t->late[turn->for_answer] < LATE_ENOUGH || ++t->waits % TRY_EVERY == 0;
    turn->looks = turn->patient ? 0 : PATIENCE;
    return true;
}

static bool is_due(piso__turns *t, piso__turn *turn, int64_t now) {
    bool left_out = t->left_out < t->leave_out;
    t->left_out += left_out;
    bool early = turn->looks < PATIENCE;
    turn->looks += early;
    return !left_out && !early && now >= t->not_before_ns;
}

/* weigh: a turn that somebody took; false if it was too much. */
static bool weigh(piso__turns *t, int64_t took, int64_t now) {
    if (took > TOO_MUCH_NS) {
        t->not_before_ns = now + (FIRST_REGRET_NS << t->regrets);
        t->regrets += t->regrets < MAX_REGRETS;
        t->forgiven = 0;
        return false;
    }
    if (++t->forgiven == FORGIVEN)
        t->regrets = 0;
    return true;
}

/* judge: what the last one was good for. */
static void judge(piso_session *s, piso__turn *turn, uint32_t crowd, int64_t took, int64_t now) {
    piso__turns *t = &s->turns;
    turn->looks = 0;
    t->left_out = 0;
    if (took < NOTHING_NS) {
        t->leave_out = t->leave_out ? t->leave_out * 2 : PATIENCE;
        if (t->leave_out > MAX_LEFT_OUT)
            t->leave_out = MAX_LEFT_OUT;
        return;
    }
    t->leave_out = 0;
    turn->given = true;
    if (weigh(t, took, now) && s->may_move)
        part_from_host(t, crowd, now);
}

int64_t piso__crowd_yield(piso_session *s, piso__turn *turn, int64_t now) {
    uint32_t crowd = atomic_load_explicit(s->crowd, memory_order_relaxed);
    if (!crowd || (!turn->taken && !enter(s, turn)) || !is_due(&s->turns, turn, now))
        return now;
    atomic_fetch_add_explicit(&s->turns.count, 1, memory_order_relaxed);
    piso__cpu_yield();
    int64_t after = piso_now_ns();
    judge(s, turn, crowd, after - now, after);
    return after;
}

bool piso__crowd_share(piso_session *s, bool (*is_ready)(const piso_session *)) {
    piso__turns *t = &s->turns;
    if (atomic_exchange_explicit(&t->taken, true, memory_order_acquire))
        return false;
    int64_t now = piso_now_ns(), end = now + SHARE_NS;
    bool came = false, anybody = now >= t->not_before_ns;
    while (anybody && !came && now < end) {
        atomic_fetch_add_explicit(&t->count, 1, memory_order_relaxed);
        piso__cpu_yield();
        int64_t after = piso_now_ns();
        came = is_ready(s);
        anybody = after - now >= NOTHING_NS;
        if (anybody)
            weigh(t, after - now, after);
        now = after;
    }
    atomic_store_explicit(&t->taken, false, memory_order_release);
    return came;
}

void piso__crowd_end_wait(piso_session *s, piso__turn *turn, bool came) {
    uint32_t *late = &s->turns.late[turn->for_answer];
    if (came && !turn->given)
        *late = 0;
    else if (came && turn->patient && *late < LATE_ENOUGH)
        ++*late;
    atomic_store_explicit(&s->turns.taken, false, memory_order_release);
}
