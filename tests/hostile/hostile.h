/* hostile.h - a peer that does whatever it can with the memory that the two processes share, and a host that
 * must withstand it.
 *
 * Both are in one process, so that sanitizers see the host's side and ten million acts take minutes. The
 * hostile side has its own mappings, doorbells and socket, exactly as a child has, and uses nothing else of the
 * host. */
#ifndef PISO_TESTS_HOSTILE_H
#define PISO_TESTS_HOSTILE_H

#include <stdio.h>

#include "session/object.h"

#define check(condition)                                                                                               \
    ((condition) ? (void)0 : (fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition), abort()))

/* ---- chance ---- */

/* hostile_random: splitmix64. The seed determines the whole run, unless threads are used. */
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

#define MEMORIES  64
#define IDS       48 /* of segments; the first is 1 */
#define NOTES     16
#define POOL_GOOD 5
#define POOL_BAD  16

typedef struct remembered {
    uint32_t size;
    uint8_t data[512];
} remembered;

/* notes: some of what the host has sent. */
typedef struct notes {
    uint64_t values[NOTES];
    uint32_t count;
} notes;

typedef struct mutator {
    piso_session *session; /* the child's end: only its channel is used */
    uint64_t random;
    uint64_t mutations;
    uint32_t names; /* that this session has defined */
    bool calm;      /* in this session most acts with segments are valid, so that it lives long */
    uint32_t memory_count;
    remembered memories[MEMORIES]; /* messages that were sent, to be sent again; they outlive the session */

    /* segment_acts.c: descriptors to send, our ids, and what the host has sent about its own */
    int good[POOL_GOOD], bad[POOL_BAD];
    uint64_t bad_sizes[POOL_BAD];
    bool attached[IDS];
    uint64_t sizes[IDS];
    notes theirs, announced, retired, leases; /* theirs: all that it has not retired; announced: not acknowledged */
    notes objects;                            /* ids of the host's that it has sent by reference */
    uint32_t owed;                            /* an id whose packet was sent, but whose frame found the ring full */
} mutator;

void mutator_init(mutator *m, uint64_t seed);
void mutator_fini(mutator *m);
/* mutator_meet: starts on another host. */
void mutator_meet(mutator *m, piso_session *session);
/* mutator_act: performs one act, sometimes of several mutations. */
void mutator_act(mutator *m);

/* mutator_send: puts a message into the ring, valid or not. Returns whether there was room. */
bool mutator_send(mutator *m, const void *data, size_t size);
/* mutator_read: takes the next message of the host. Returns the id if it was a call, else 0. */
uint64_t mutator_read(mutator *m);
/* mutator_note: records what the host sends about its segments, leases and objects. */
void mutator_note(mutator *m, const piso__frame *frame, const uint8_t *spans, const uint8_t *body, size_t body_size);
/* mutator_object: returns an id of an object of the host's, or one like it. */
uint32_t mutator_object(mutator *m);

void act_attach(mutator *m);
void act_attach_wrongly(mutator *m);
void act_retire(mutator *m);
void act_retire_wrongly(mutator *m);
void act_acknowledge(mutator *m);
void act_acknowledge_wrongly(mutator *m);
void act_name(mutator *m);
void act_name_wrongly(mutator *m);
void act_end_leases(mutator *m);
void act_on_memory(mutator *m);
void act_fill_socket(mutator *m);

/* act_refer: sends references, to objects of either side, in a message that may be valid (reference_acts.c). */
void act_refer(mutator *m);

/* ---- the host (host.c) ---- */

#define HOST_CALLS    64
#define HOST_SEGMENTS 4
#define HOST_HELD     16
#define HOST_LEASES   16
#define HOST_OBJECTS  16
#define HOST_GIVEN    256 /* leases of all objects */
#define HOST_REMOTES  32

/* host_object: an object of the host that the peer holds by reference; its address is the cookie of its leases. */
typedef struct host_object {
    uint32_t id, leases; /* leases 0: the peer does not hold it */
} host_object;

/* host_remote: an object of the peer, and its lease. */
typedef struct host_remote {
    uint32_t object;
    uint64_t lease;
} host_remote;

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
    bool shares;                            /* accepts descriptors */
    piso_segment *own[HOST_SEGMENTS];       /* kept from session to session */
    piso_segment *held_segments[HOST_HELD]; /* of the peer's, or that came back from it */
    uint32_t held_segment_count;
    bool leased[HOST_LEASES]; /* given, and not yet returned; its address is the cookie */
    host_object objects[HOST_OBJECTS];
    uint32_t given; /* leases of objects */
    host_remote remotes[HOST_REMOTES];
    uint32_t remote_count;
    uint64_t referred, reached; /* references that were received; calls and references to objects of the host */
    uint64_t steps, served;
    uint64_t taken; /* segments of the peer's that were accessed */
    uint64_t sum;   /* of what was read, so that the compiler keeps the reads */
} host;

/* host_init, host_fini: around all sessions. */
void host_init(host *h, uint64_t seed);
void host_fini(host *h);

void host_meet(host *h, piso_session *session);
/* host_step: does something that a host does. Returns the session's state afterwards. */
int host_step(host *h);
/* host_finish: called when the session has failed or is closed. Checks that each pending call is reported
 * exactly once, and that everything is given back. */
void host_finish(host *h);

#endif
