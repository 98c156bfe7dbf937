/* hostile_peer.c - runs a hostile peer against a host, for a number of mutations.
 *
 *     hostile_peer [mutations [seed [threads]]]
 *
 * Without threads host and peer take turns, and the seed repeats the same run. With threads the peer acts while
 * the host reads. Meanwhile the same host talks to an honest peer, which must always be served correctly. A
 * step that does not end within 20 seconds ends the program. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../c/descriptors.h"
#include "hostile.h"

#define ARENA      ((size_t)1 << 20)
#define PATIENCE   20 /* seconds */
#define HONEST_ACT 64 /* steps from one call to the honest peer to the next */
#define LIFE       4000

static uint64_t seed;

static void on_alarm(int signal) {
    (void)signal;
    static const char text[] = "hostile_peer: the host hangs\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        _exit(3);
    abort();
}

/* ---- the honest peer ---- */

static piso_session *honest_host, *honest_peer;

static void send_integer(piso_session *s, piso_call *call, uint64_t request, int64_t value) {
    piso_writer w;
    piso_writer_init(&w);
    piso_write_int(&w, value);
    int r =
        call ? piso_session_call(s, call, 1, 1, 0, 0, PISO_NO_DEADLINE, &w) : piso_session_reply(s, request, false, &w);
    check(r == 0);
    piso_writer_fini(&w);
}

static uint64_t expect_integer(piso_session *s, piso_event_type type, int64_t value) {
    piso_event event = {.size = sizeof event};
    piso_item item;
    check(piso_session_next(s, &event) == 1 && event.type == type);
    piso_reader r = {event.body, event.body + event.body_size};
    check(piso_read(&r, &item) == 1 && item.kind == PISO_INT && item.as.integer == value);
    piso_event_fini(&event);
    return event.id;
}

static void serve_the_honest(uint64_t step) {
    piso_call call;
    send_integer(honest_host, &call, 0, (int64_t)step);
    uint64_t request = expect_integer(honest_peer, PISO_EVENT_REQUEST, (int64_t)step);
    send_integer(honest_peer, NULL, request, (int64_t)step + 1);
    expect_integer(honest_host, PISO_EVENT_REPLY, (int64_t)step + 1);
}

/* ---- what a session may not leave behind ---- */

#define MAPS_EVERY 256 /* sessions; reading them takes long */

/* count_shared_mappings: counts mappings of memfds; those of the allocator vary. */
static int count_shared_mappings(void) {
    char line[512];
    int n = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    check(maps);
    while (fgets(line, sizeof line, maps))
        n += strstr(line, "/memfd:") != NULL;
    fclose(maps);
    return n;
}

/* ---- meetings ---- */

static _Atomic bool over;

static void *act_for_ever(void *argument) {
    mutator *m = argument;
    while (!atomic_load(&over))
        mutator_act(m);
    return NULL;
}

static void step(host *h) {
    if (h->steps % HONEST_ACT == 0) {
        serve_the_honest(h->steps);
        alarm(PATIENCE);
    }
}

static void take_turns(host *h, mutator *m) {
    for (int i = 0; i < LIFE; i++) {
        mutator_act(m);
        step(h);
        if (host_step(h) != 0)
            break;
    }
    host_finish(h);
}

static void act_at_once(host *h, mutator *m) {
    pthread_t thread;
    atomic_store(&over, false);
    check(pthread_create(&thread, NULL, act_for_ever, m) == 0);
    for (int i = 0; i < LIFE; i++) {
        step(h);
        if (host_step(h) != 0)
            break;
    }
    host_finish(h);
    atomic_store(&over, true);
    check(pthread_join(thread, NULL) == 0);
}

static uint64_t number(int argc, char **argv, int index, uint64_t otherwise) {
    return argc > index ? strtoull(argv[index], NULL, 10) : otherwise;
}

int main(int argc, char **argv) {
    uint64_t mutations = number(argc, argv, 1, 200000), reasons = 0, sessions = 0;
    seed = number(argc, argv, 2, 1);
    bool threads = argc > 3 && strcmp(argv[3], "threads") == 0;
    static char seen[64][200]; /* copies: the session owns the text of a fault in a body */
    printf("hostile_peer %llu %llu %s\n", (unsigned long long)mutations, (unsigned long long)seed,
           threads ? "threads" : "");
    fflush(stdout);
    signal(SIGALRM, on_alarm);
    mutator m;
    host h;
    mutator_init(&m, seed);
    host_init(&h, ~seed);
    check(piso_session_pair(ARENA, &honest_host, &honest_peer) == 0);
    int fds = count_fds(), mappings = count_shared_mappings();
    while (m.mutations < mutations) {
        piso_session *ends[2];
        check(piso_session_pair(ARENA, &ends[0], &ends[1]) == 0);
        sessions++;
        host_meet(&h, piso_session_ref(ends[0]));
        mutator_meet(&m, ends[1]);
        (threads ? act_at_once : take_turns)(&h, &m);
        const char *fault = piso_session_fault(ends[0]);
        bool known = !fault;
        for (uint64_t i = 0; i < reasons && !known; i++)
            known = strcmp(seen[i], fault) == 0;
        if (!known && reasons < 64)
            snprintf(seen[reasons++], sizeof seen[0], "%s", fault);
        piso_session_unref(ends[0]);
        piso_session_unref(ends[1]);
        check(count_fds() == fds);
        check(sessions % MAPS_EVERY || count_shared_mappings() == mappings);
    }
    host_fini(&h);
    mutator_fini(&m);
    piso_session_unref(honest_host);
    piso_session_unref(honest_peer);
    printf("%llu mutations, %llu sessions, %llu steps of the host, %llu events, %llu segments,\n"
           "%llu references received, %llu calls and references to objects of the host\n"
           "reasons given:\n",
           (unsigned long long)m.mutations, (unsigned long long)sessions, (unsigned long long)h.steps,
           (unsigned long long)h.served, (unsigned long long)h.taken, (unsigned long long)h.referred,
           (unsigned long long)h.reached);
    for (uint64_t i = 0; i < reasons; i++)
        printf("  %s\n", seen[i]);
    return h.sum == 1; /* never: it only has to be used */
}
