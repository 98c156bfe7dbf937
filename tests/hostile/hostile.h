/* hostile.h - a peer that does whatever it can with what the two processes share, and a host that must bear it.
 *
 * Both are in one process, so that sanitizers see the host's side and ten million acts take minutes: the hostile side
 * has mappings, doorbells and a socket of its own, exactly as a child has, and uses nothing else of the host. */
#ifndef PISO_TESTS_HOSTILE_H
#define PISO_TESTS_HOSTILE_H

#include <stdio.h>

#include "session/internal.h"

#define check(condition)                                                                                               \
    ((condition) ? (void)0 : (fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition), abort()))

/* ---- chance ---- */

/* hostile_random: splitmix64; the whole run follows from the seed, unless threads are used. */
static inline uint64_t hostile_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline uint32_t hostile_below(uint64_t *state, uint32_t limit) {
    return (uint32_t)((hostile_random(state) >> 32) * limit >> 32);
}

/* ---- the hostile side (mutator.c) ---- */

#define MEMORIES 64

typedef struct remembered {
    uint32_t size;
    uint8_t data[512];
} remembered;

typedef struct mutator {
    piso_session *session; /* the child's end: only its channel is used */
    uint64_t random;
    uint64_t mutations;
    uint32_t names; /* that this session has defined */
    uint32_t memory_count;
    remembered memories[MEMORIES]; /* messages that were sent, to be sent again; they outlive the session */
} mutator;

/* mutator_meet: another host to be hostile to. */
void mutator_meet(mutator *m, piso_session *session);
/* mutator_act: one act, of several mutations at times. */
void mutator_act(mutator *m);

/* ---- the host (host.c) ---- */

#define HOST_CALLS 64

typedef struct host {
    piso_session *session;
    uint64_t random;
    piso_call calls[HOST_CALLS];
    bool pending[HOST_CALLS];
    uint64_t requests[HOST_CALLS]; /* that wait for an answer */
    uint32_t request_count;
    piso_span held[HOST_CALLS]; /* spans of the peer's that were taken */
    uint8_t *held_data[HOST_CALLS];
    uint32_t held_count;
    uint64_t steps, served;
    uint64_t sum; /* of what was read, so that it is read */
} host;

void host_meet(host *h, piso_session *session);
/* host_step: something that a host does. The session's state afterwards. */
int host_step(host *h);
/* host_finish: the session has failed or is closed now: all pending calls are told exactly once; all is given back. */
void host_finish(host *h);

#endif
