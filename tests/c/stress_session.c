/* stress_session.c - several threads at each end of a session, doing everything at once, as a binding would.
 * Runs with and without thread sanitizer. A waiting thread takes events for all; a wait that nothing ends fails
 * the run.
 *
 *     passing by  one call in flight, to an end where one thread sleeps and another comes and goes: no later message
 *                 makes up for a lost wake-up
 *     storm       nested calls both ways, buffers, large bodies, cancellations, deadlines, floods beyond the ring
 *
 * usage: stress_session [operations of each thread in the storm] */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "session/object.h"

#if defined(__has_feature) /* clang's test for a sanitizer */
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SANITIZED
#endif
#elif defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED
#endif

#ifdef SANITIZED
#define ROUNDS             5000
#define DEFAULT_OPERATIONS 1000
#else
#define ROUNDS             20000
#define DEFAULT_OPERATIONS 10000
#endif
#define WATCHDOG_NS ((int64_t)20 * 1000000000)
#define ARENA_SIZE  ((size_t)256 << 20)
#define THREADS     3 /* at each end */
#define NESTING     4
#define FLOOD       1500
#define LARGE       100000

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                                    \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

enum { ECHO = 1, NEST, BUFFER, LARGE_BODY, HOLD, COUNT }; /* the object of a request: what it asks for */

/* A request that is held until it is cancelled. Different threads may take the two, in any order. */
typedef struct held {
    struct held *next;
    uint64_t request;
} held;

typedef struct end {
    piso_session *session;
    _Atomic uint64_t counted; /* incremented by COUNT requests */
    pthread_mutex_t lock;
    held *held;
} end;

typedef struct worker {
    end *end;
    int bell; /* for calls of this thread that another one has completed */
    uint64_t random;
} worker;

/* One call. Forgotten ones are kept to the end: another thread may have taken the reply already. */
typedef struct waiter {
    piso_call call; /* first */
    struct waiter *next_forgotten;
    _Atomic bool done;
    int bell, outcome; /* outcome: 0, or why it failed */
    int64_t expected;
} waiter;

static end ends[2];
static worker workers[2][THREADS];
static _Atomic int finished;
static _Atomic(waiter *) forgotten;
static int operations = DEFAULT_OPERATIONS;

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

/* ---- sending ---- */

static void write_bytes(piso_writer *w, size_t size, int64_t value) {
    uint8_t bytes[1024];
    memset(bytes, (int)value, sizeof bytes);
    for (size_t left = size; left;) {
        size_t n = left < sizeof bytes ? left : sizeof bytes;
        piso_write_raw(w, bytes, n);
        left -= n;
    }
}

/* write_message: writes the contents of a request and its reply. */
static void write_message(end *e, piso_writer *w, uint32_t object, int64_t value) {
    piso_writer_init(w);
    piso_write_int(w, value);
    if (object == LARGE_BODY)
        write_bytes(w, LARGE, value);
    for (int64_t i = 0; object == BUFFER && i < value % 4 + 1; i++) {
        piso_span span;
        void *data;
        CHECK(piso_session_alloc(e->session, LARGE, &span, &data) == 0);
        memset(data, (int)value, LARGE);
        CHECK(piso_writer_add_span(w, &span) == i);
    }
}

static void send_call(end *e, waiter *waiter, uint32_t object, int64_t value, int64_t deadline_ns) {
    piso_writer w;
    write_message(e, &w, object, value);
    CHECK(piso_session_call(e->session, waiter ? &waiter->call : NULL, object, 0, waiter ? 0 : PISO_CALL_NO_REPLY, 0,
                            deadline_ns, &w) == 0);
    piso_writer_fini(&w);
}

static void send_reply(end *e, uint64_t request, uint32_t object, int64_t value) {
    piso_writer w;
    write_message(e, &w, object, value);
    CHECK(piso_session_reply(e->session, request, false, &w) == 0);
    piso_writer_fini(&w);
}

/* ---- receiving ---- */

static int64_t check_message(piso_event *event) {
    piso_reader reader = {event->body, event->body + event->body_size};
    piso_item item;
    CHECK(piso_read(&reader, &item) == 1 && item.kind == PISO_INT);
    int64_t value = item.as.integer;
    for (const uint8_t *byte = reader.cursor; byte < reader.end; byte++)
        CHECK(*byte == (uint8_t)value);
    CHECK(reader.cursor == reader.end || reader.end - reader.cursor == LARGE);
    for (uint32_t i = 0; i < event->nspans; i += 2) { /* the others are released with the event */
        piso_span span;
        const uint8_t *bytes = piso_event_take_span(event, i, &span);
        CHECK(bytes && span.length == LARGE && bytes[0] == (uint8_t)value && bytes[LARGE - 1] == (uint8_t)value);
        piso_session_release(event->session, &span);
    }
    return value;
}

static int64_t call(worker *me, uint32_t object, int64_t value);

/* meet: a request to be held, or its cancellation. The second of the two answers. */
static void meet(end *e, uint64_t request) {
    pthread_mutex_lock(&e->lock);
    held **at = &e->held;
    while (*at && (*at)->request != request)
        at = &(*at)->next;
    held *first = *at;
    if (first) {
        *at = first->next;
    } else {
        held *h = malloc(sizeof *h);
        CHECK(h);
        *h = (held){.next = e->held, .request = request};
        e->held = h;
    }
    pthread_mutex_unlock(&e->lock);
    if (first)
        send_reply(e, request, ECHO, 0);
    free(first);
}

static void handle_request(worker *me, piso_event *event) {
    uint64_t id = event->id;
    uint32_t object = event->object;
    int64_t value = check_message(event);
    piso_event_fini(event);
    if (object == NEST && value > 0)
        CHECK(call(me, NEST, value - 1) == value - 1);
    if (object == HOLD)
        meet(me->end, id);
    else if (object == COUNT)
        atomic_fetch_add(&me->end->counted, 1);
    else
        send_reply(me->end, id, object, value);
}

static void complete(worker *me, piso_event *event) {
    waiter *waiter = (struct waiter *)event->call;
    if (event->type == PISO_EVENT_REPLY)
        CHECK(check_message(event) == waiter->expected);
    waiter->outcome = event->type == PISO_EVENT_REPLY ? 0 : event->error;
    piso_event_fini(event);
    int bell = waiter->bell;
    atomic_store(&waiter->done, true); /* it may be freed from here on */
    if (bell != me->bell)
        piso__event_signal(bell);
}

/* pump: takes some events. False when there was none. */
static bool pump(worker *me) {
    piso_event event;
    piso_event_init(&event);
    int taken = 0, r;
    while (taken < 8 && (r = piso_session_next(me->end->session, &event)) != 0) {
        CHECK(r == 1);
        taken++;
        if (event.type == PISO_EVENT_REQUEST)
            handle_request(me, &event);
        else if (event.type == PISO_EVENT_CANCEL)
            meet(me->end, event.id);
        else
            complete(me, &event);
    }
    return taken > 0;
}

/* pause_until: polls, then sleeps until an event comes or the time has passed. */
static void pause_until(worker *me, int64_t deadline_ns) {
    piso_session *s = me->end->session;
    piso_session_poll_begin(s);
    int ready = piso_session_spin(s);
    ready |= piso_session_poll_end(s);
    if (ready)
        return;
    bool watched = deadline_ns == PISO_NO_DEADLINE;
    int64_t left = watched ? WATCHDOG_NS : deadline_ns - piso_now_ns();
    int r = piso_session_wait(s, me->bell, left > 0 ? left : 0);
    CHECK(r >= 0 || r == -EINTR);
    if (r == 0 && watched) {
        fprintf(stderr, "lost wake-up: slept until the watchdog barked\n");
        exit(1);
    }
    if (r == 2)
        piso__event_clear(me->bell);
}

static void wait_for(worker *me, waiter *waiter, int64_t deadline_ns) {
    while (!atomic_load(&waiter->done)) {
        if (deadline_ns != PISO_NO_DEADLINE && piso_now_ns() >= deadline_ns)
            piso_session_expire(me->end->session);
        if (!pump(me) && !atomic_load(&waiter->done))
            pause_until(me, deadline_ns);
    }
}

/* ---- what a thread does ---- */

static waiter *waiter_new(worker *me, int64_t expected) {
    waiter *w = calloc(1, sizeof *w);
    CHECK(w);
    w->bell = me->bell;
    w->expected = expected;
    return w;
}

static int64_t call(worker *me, uint32_t object, int64_t value) {
    waiter *w = waiter_new(me, value);
    send_call(me->end, w, object, value, PISO_NO_DEADLINE);
    wait_for(me, w, PISO_NO_DEADLINE);
    CHECK(w->outcome == 0);
    free(w);
    return value;
}

static void keep_forgotten(waiter *w) {
    w->next_forgotten = atomic_load(&forgotten);
    while (!atomic_compare_exchange_weak(&forgotten, &w->next_forgotten, w))
        ;
}

/* give_up: cancels a call that is held, or forgets one that may be answered at any moment. */
static void give_up(worker *me, bool is_held) {
    waiter *w = waiter_new(me, 5);
    send_call(me->end, w, is_held ? HOLD : BUFFER, 5, PISO_NO_DEADLINE);
    for (uint64_t polls = next_random(&me->random) % 2000; polls; polls--)
        piso__relax();
    piso_session_forget(me->end->session, &w->call, is_held);
    keep_forgotten(w);
}

/* run_late: makes a call that nobody answers in time. */
static void run_late(worker *me) {
    waiter *w = waiter_new(me, 0);
    int64_t deadline = piso_now_ns() + (int64_t)(next_random(&me->random) % 200000);
    send_call(me->end, w, HOLD, 0, deadline);
    wait_for(me, w, deadline);
    CHECK(w->outcome == -ETIMEDOUT);
    free(w);
}

static void operate(worker *me) {
    uint64_t random = next_random(&me->random);
    int64_t value = (int64_t)(random >> 8 & 127);
    switch (random % 16) {
    case 0:
        for (int i = 0; i < FLOOD; i++)
            send_call(me->end, NULL, COUNT, 1, PISO_NO_DEADLINE);
        break;
    case 1:
        run_late(me);
        break;
    case 2:
    case 3:
        give_up(me, random % 2);
        break;
    case 4:
        call(me, LARGE_BODY, value);
        break;
    case 5:
    case 6:
        call(me, BUFFER, value);
        break;
    case 7:
    case 8:
    case 9:
        call(me, NEST, value % NESTING);
        break;
    default:
        call(me, ECHO, value);
    }
}

static void *storm_main(void *argument) {
    worker *me = argument;
    for (int i = 0; i < operations; i++)
        operate(me);
    atomic_fetch_add(&finished, 1);
    while (atomic_load(&finished) < 2 * THREADS) /* the other threads need this one */
        if (!pump(me))
            pause_until(me, piso_now_ns() + 1000000);
    return NULL;
}

/* ---- ends ---- */

static void make_worker(worker *w, end *e, uint64_t seed) {
    *w = (worker){.end = e, .bell = piso__event_create(), .random = seed * 0x9E3779B97F4A7C15u};
    CHECK(w->bell >= 0);
}

/* open_ends: with one processor, waiting threads yield it instead of polling. */
static void open_ends(uint32_t processors) {
    CHECK(piso_session_pair(ARENA_SIZE, &ends[0].session, &ends[1].session) == 0);
    for (int i = 0; i < 2; i++) {
        atomic_store(&ends[i].session->processors, processors);
        atomic_store(&ends[i].session->cpu_checked_ns, INT64_MAX); /* and is not changed any more */
        pthread_mutex_init(&ends[i].lock, NULL);
        for (int j = 0; j < THREADS; j++)
            make_worker(&workers[i][j], &ends[i], (uint64_t)(i * THREADS + j + 1));
    }
}

/* settle: handles what is still under way after the threads have ended. Releases are no events: one more round
 * takes those that the last round has sent. */
static void settle(void) {
    for (int quiet = 0; quiet < 2; quiet++)
        for (int i = 0; i < 2; i++) {
            piso_session_flush(ends[i].session);
            if (pump(&workers[i][0]))
                quiet = 0;
        }
}

static void check_nothing_left(end *e) {
    piso_stats stats = {.size = sizeof stats};
    piso_session_stats(e->session, &stats);
    CHECK(stats.queued == 0);
    CHECK(stats.spans_held == 0);
    CHECK(stats.arena_live == 0);
    CHECK(e->held == NULL);
    CHECK(e->session->calls.live == 0);
    printf("  calls sent %llu, doorbells rung %llu\n", (unsigned long long)stats.calls_sent,
           (unsigned long long)stats.doorbells_rung);
}

static void close_ends(void) {
    settle();
    for (int i = 0; i < 2; i++) {
        check_nothing_left(&ends[i]);
        ends[i].session = piso_session_unref(ends[i].session);
        pthread_mutex_destroy(&ends[i].lock);
        for (int j = 0; j < THREADS; j++)
            piso__fd_close(workers[i][j].bell);
    }
    for (waiter *w = atomic_load(&forgotten), *next; w; w = next) {
        next = w->next_forgotten;
        free(w);
    }
    atomic_store(&forgotten, NULL);
}

/* ---- the storm ---- */

static void storm(uint32_t processors) {
    pthread_t threads[2 * THREADS];
    printf("storm, %u processors\n", processors);
    open_ends(processors);
    for (int i = 0; i < 2; i++)
        atomic_store(&ends[i].counted, 0);
    atomic_store(&finished, 0);
    for (int i = 0; i < 2 * THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, storm_main, &workers[i % 2][i / 2]) == 0);
    for (int i = 0; i < 2 * THREADS; i++)
        pthread_join(threads[i], NULL);
    settle();
    CHECK((atomic_load(&ends[0].counted) + atomic_load(&ends[1].counted)) % FLOOD == 0);
    close_ends();
}

/* ---- passing by ---- */

static _Atomic int round_started, round_passed;

static void dawdle(worker *me) {
    uint64_t random = next_random(&me->random);
    for (uint64_t polls = random % 16 ? random >> 8 & 31 : random >> 8 & 1023; polls; polls--)
        piso__relax();
}

static void *serve_main(void *argument) {
    worker *me = argument;
    while (!atomic_load(&finished))
        if (!pump(me))
            pause_until(me, PISO_NO_DEADLINE);
    return NULL;
}

/* pass_by_main: between two calls, polls or goes to sleep for a moment, again and again, until the server goes
 * to sleep in the middle of it. It does not repair what it breaks: the next call detects it. */
static void *pass_by_main(void *argument) {
    worker *me = argument;
    piso_session *s = me->end->session;
    for (int round = 1; round <= ROUNDS; round++) {
        while (atomic_load(&round_started) < round)
            sched_yield();
        do {
            dawdle(me);
            if (round % 2) {
                piso_session_poll_begin(s);
                dawdle(me);
                piso_session_poll_end(s);
            } else {
                CHECK(piso_session_wait(s, -1, 0) >= 0);
            }
            pump(me);
        } while (atomic_load(&s->sleepers) == 0);
        atomic_store(&round_passed, round);
    }
    return NULL;
}

static void passing_by(uint32_t processors) {
    pthread_t threads[2];
    worker *me = &workers[1][0];
    printf("passing by, %u processors\n", processors);
    open_ends(processors);
    atomic_store(&finished, 0);
    atomic_store(&round_started, 0);
    atomic_store(&round_passed, 0);
    CHECK(pthread_create(&threads[0], NULL, serve_main, &workers[0][0]) == 0);
    CHECK(pthread_create(&threads[1], NULL, pass_by_main, &workers[0][1]) == 0);
    for (int round = 1; round <= ROUNDS; round++) {
        call(me, ECHO, round % 100);
        atomic_store(&round_started, round);
        while (atomic_load(&round_passed) < round)
            sched_yield();
    }
    atomic_store(&finished, 1);
    piso__event_signal(workers[0][0].bell);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    close_ends();
}

int main(int argc, char **argv) {
    if (argc > 1)
        operations = atoi(argv[1]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (uint32_t processors = 1; processors <= 2; processors++) {
        passing_by(processors);
        storm(processors);
    }
    return 0;
}
