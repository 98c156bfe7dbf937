/* fork.c - see fork.h. */
#include "os/fork.h"

static _Atomic uint32_t generation;

/* The gate guards the table, and makes forks of several threads wait for each other. */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static piso__lock *places[PISO__PLACES];

static void before_fork(void) {
    pthread_mutex_lock(&gate);
    for (int i = 0; i < PISO__PLACES; i++)
        if (places[i] && !places[i]->anew)
            pthread_mutex_lock(&places[i]->mutex);
}

static void give_all(void) {
    for (int i = PISO__PLACES; i-- > 0;)
        if (places[i] && !places[i]->anew)
            pthread_mutex_unlock(&places[i]->mutex);
    pthread_mutex_unlock(&gate);
}

static void in_child(void) {
    atomic_fetch_add_explicit(&generation, 1, memory_order_relaxed);
    for (int i = 0; i < PISO__PLACES; i++) {
        if (places[i] && places[i]->anew)
            pthread_mutex_init(&places[i]->mutex, NULL);
        if (places[i] && places[i]->in_child)
            places[i]->in_child();
    }
    give_all();
}

__attribute__((constructor)) static void watch_forks(void) {
    pthread_atfork(before_fork, give_all, in_child);
}

void piso__lock_enter(piso__lock *lock, piso__place place) {
    pthread_mutex_lock(&gate);
    assert(!places[place]);
    places[place] = lock;
    pthread_mutex_unlock(&gate);
}

piso__lock *piso__lock_at(piso__place place) {
    return places[place];
}

void piso__lock_take(piso__lock *lock) {
    pthread_mutex_lock(&lock->mutex);
}

void piso__lock_give(piso__lock *lock) {
    pthread_mutex_unlock(&lock->mutex);
}

uint32_t piso__fork_generation(void) {
    return atomic_load_explicit(&generation, memory_order_relaxed);
}

uint32_t piso_fork_generation(void) {
    return piso__fork_generation();
}

/* In a finding: the fork generation plus one, above the value. */

bool piso__finding_get(const piso__finding *f, int *ret_value) {
    uint64_t found = atomic_load_explicit(f, memory_order_acquire);
    if (found >> 32 != (uint64_t)piso__fork_generation() + 1)
        return false;
    *ret_value = (int)(uint32_t)found;
    return true;
}

void piso__finding_set(piso__finding *f, int value) {
    uint64_t found = ((uint64_t)piso__fork_generation() + 1) << 32 | (uint32_t)value;
    atomic_store_explicit(f, found, memory_order_release);
}
