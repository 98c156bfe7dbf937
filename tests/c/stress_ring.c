/* stress_ring.c - two threads at the two ends of rings, which really sleep and wake. A lost wake-up leaves a
 * thread asleep for good; the watchdog then fails the run. Runs with and without thread sanitizer.
 *
 *     flood      one ring, messages of random sizes as fast as possible: the ring is full again and again, so both
 *                handshakes (there is a message; there is room) happen in every order
 *     ping-pong  two rings, one message in flight: no later message can make up for a lost wake-up
 *
 * usage: stress_ring [messages of the flood, by default 2 million, or 200 thousand under a sanitizer] */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "memory/ring.h"
#include "os/os.h"

#if defined(__has_feature) /* clang's test for a sanitizer */
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SANITIZED
#endif
#elif defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED
#endif

#ifdef SANITIZED
#define DEFAULT_MESSAGES 200000
#else
#define DEFAULT_MESSAGES 2000000
#endif
#define WATCHDOG_NS   ((int64_t)20 * 1000000000)
#define SIZE_MAX_SENT 4000

/* One direction, and the random numbers of one end. The bells are rung for the end in their name. */
typedef struct direction {
    piso__ring_shared *ring;
    int consumer_bell, producer_bell;
} direction;

typedef struct end {
    piso__ring_producer producer;
    piso__ring_consumer consumer;
    direction in, out;
    uint64_t random;
    uint64_t slept_for_message, slept_for_room, saved_by_looking_again;
} end;

static uint64_t messages = DEFAULT_MESSAGES;

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                                    \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

/* patience: how many polls before sleeping, evenly spread over magnitudes. At the upper end both threads stay
 * awake, and one goes to sleep within the nanoseconds in which the other publishes. With 12 bits this test does
 * not detect a missing barrier, with 17 it does. */
#define PATIENCE_BITS 17

static uint64_t patience(end *e) {
    uint64_t random = next_random(&e->random);
    return (random >> 8) % ((uint64_t)1 << random % PATIENCE_BITS);
}

/* dawdle: pauses now and then for a random time, so that the ends meet at every point of the handshakes. */
static void dawdle(end *e) {
    uint64_t random = next_random(&e->random);
    if (random % 8 == 0)
        for (uint64_t i = 0; i < (random >> 8) % 400; i++)
            piso__relax();
}

/* sleep_on: sleeps until the bell rings. */
static void sleep_on(int bell, const char *what) {
    int ready = piso__poll_in(&bell, 1, WATCHDOG_NS);
    if (ready == 0) {
        fprintf(stderr, "lost wake-up: slept for %s until the watchdog barked\n", what);
        exit(1);
    }
    CHECK(ready == 1);
    piso__event_clear(bell);
}

/* ---- messages: number, then bytes that follow from number and size ---- */

static size_t size_of(uint64_t number) {
    uint64_t state = number * 0x9E3779B97F4A7C15u + 1;
    uint64_t random = next_random(&state);
    return sizeof number + (random % 4 ? random >> 8 : (random >> 8) * 64) % (random % 64 ? 64 : SIZE_MAX_SENT);
}

static void make_message(uint8_t *to, uint64_t number, size_t size) {
    memcpy(to, &number, sizeof number);
    memset(to + sizeof number, (int)(number * 7 + size), size - sizeof number);
}

static void send_message(end *e, uint64_t number, size_t size) {
    uint8_t bytes[sizeof number + SIZE_MAX_SENT];
    make_message(bytes, number, size);
    const piso__ring_part parts[2] = {{bytes, sizeof number}, {bytes + sizeof number, size - sizeof number}};
    int r;
    uint64_t polls = patience(e);
    while ((r = piso__ring_send(&e->producer, parts, 2)) < 0) {
        CHECK(r == -EAGAIN);
        if (polls > 0) {
            polls--;
            continue;
        }
        e->slept_for_room++;
        sleep_on(e->out.producer_bell, "room");
        polls = patience(e);
    }
    if (piso__ring_must_wake(&e->producer))
        piso__event_signal(e->out.consumer_bell);
}

/* await_message: polls a little, then sleeps as a session does: publish, arm, check, sleep. Returns the
 * message's size. */
static size_t await_message(end *e) {
    for (;;) {
        for (uint64_t polls = patience(e); polls; polls--) {
            int64_t size = piso__ring_peek(&e->consumer);
            CHECK(size >= 0);
            if (size > 0)
                return (size_t)size;
        }
        if (piso__ring_publish(&e->consumer))
            piso__event_signal(e->in.producer_bell);
        if (piso__ring_arm(&e->consumer)) {
            e->saved_by_looking_again++;
        } else {
            e->slept_for_message++;
            sleep_on(e->in.consumer_bell, "a message");
        }
        piso__ring_disarm(&e->consumer);
    }
}

static void take_message(end *e, uint64_t number, size_t expected_size) {
    uint8_t taken[sizeof number + SIZE_MAX_SENT + PISO__RING_CHUNK], expected[sizeof number + SIZE_MAX_SENT];
    bool wake;
    size_t size = await_message(e);
    CHECK(size == expected_size);
    CHECK(piso__ring_take(&e->consumer, taken, size, &wake) == 0);
    make_message(expected, number, size);
    CHECK(memcmp(taken, expected, size) == 0);
    if (wake)
        piso__event_signal(e->in.producer_bell);
}

/* ---- the two runs ---- */

/* The flood has phases. At the start of each one end pauses until the other sleeps: in even phases the producer
 * until the ring is empty, in odd ones the consumer until it is full. */
#define PHASE 5000

static void stop_until(_Atomic uint32_t *flag) {
    int64_t end = piso_now_ns() + WATCHDOG_NS;
    while (!atomic_load_explicit(flag, memory_order_relaxed)) {
        CHECK(piso_now_ns() < end);
        sched_yield();
    }
}

static void *flood_consumer(void *argument) {
    end *e = argument;
    for (uint64_t i = 0; i < messages; i++) {
        if (i % (2 * PHASE) == PHASE)
            stop_until(&e->in.ring->want_space);
        if (i / PHASE % 2)
            dawdle(e);
        take_message(e, i, size_of(i));
    }
    return NULL;
}

static void flood_producer(end *e) {
    for (uint64_t i = 0; i < messages; i++) {
        if (i % (2 * PHASE) == 0)
            stop_until(&e->out.ring->sleeping);
        if (i / PHASE % 2 == 0)
            dawdle(e);
        send_message(e, i, size_of(i));
    }
}

static uint64_t round_trips(void) {
    return messages / 10;
}

static void *echo(void *argument) {
    end *e = argument;
    for (uint64_t i = 0; i < round_trips(); i++) {
        take_message(e, i, size_of(i));
        dawdle(e);
        send_message(e, i, size_of(i));
    }
    return NULL;
}

static void ping(end *e) {
    for (uint64_t i = 0; i < round_trips(); i++) {
        dawdle(e);
        send_message(e, i, size_of(i));
        take_message(e, i, size_of(i));
    }
}

static void init_end(end *e, direction in, direction out, uint64_t seed) {
    *e = (end){.in = in, .out = out, .random = seed};
    piso__ring_consumer_init(&e->consumer, in.ring);
    piso__ring_producer_init(&e->producer, out.ring);
}

static void run(const char *name, void *(*other)(void *), void (*own)(end *)) {
    direction directions[2];
    for (int i = 0; i < 2; i++) {
        directions[i].ring = aligned_alloc(PISO__CACHE_LINE, sizeof *directions[i].ring);
        CHECK(directions[i].ring);
        memset(directions[i].ring, 0, sizeof *directions[i].ring);
        CHECK((directions[i].consumer_bell = piso__event_create()) >= 0);
        CHECK((directions[i].producer_bell = piso__event_create()) >= 0);
    }
    end ends[2];
    init_end(&ends[0], directions[1], directions[0], 88172645463325252u);
    init_end(&ends[1], directions[0], directions[1], 3935559000370003845u);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, other, &ends[1]) == 0);
    own(&ends[0]);
    CHECK(pthread_join(thread, NULL) == 0);

    uint64_t for_message = ends[0].slept_for_message + ends[1].slept_for_message;
    uint64_t for_room = ends[0].slept_for_room + ends[1].slept_for_room;
    uint64_t saved = ends[0].saved_by_looking_again + ends[1].saved_by_looking_again;
    printf("%s: slept %llu times for a message, %llu for room, did not %llu times\n", name,
           (unsigned long long)for_message, (unsigned long long)for_room, (unsigned long long)saved);
    CHECK(for_message > 0); /* otherwise nothing was tested */
    CHECK(for_room > 0 || own != flood_producer);
    for (int i = 0; i < 2; i++) {
        free(directions[i].ring);
        piso__fd_close(directions[i].consumer_bell);
        piso__fd_close(directions[i].producer_bell);
    }
}

int main(int argc, char **argv) {
    if (argc > 1)
        messages = strtoull(argv[1], NULL, 10);
    messages = (messages / (2 * PHASE) + 1) * 2 * PHASE; /* the last phase is complete */
    run("flood", flood_consumer, flood_producer);
    run("ping-pong", echo, ping);
    return 0;
}
