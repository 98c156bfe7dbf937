/* beacon.c - see os.h. At most 500 epolls can watch one file and be watched themselves, as by an event loop;
 * the kernel refuses more. So every few hundred users share a new pair. */
#include <sys/eventfd.h>

#include "os/os.h"

#define USERS_MAX 200
#define PAIRS_MAX 512

/* There is room for 100,000 users, more than the system has processes. Free pairs have no user. */
static struct {
    piso__beacon_pair pair;
    int users;
} pairs[PAIRS_MAX];

/* close_in_child: closes the pairs, because the parent's epolls watch the same files. */
static void close_in_child(void) {
    for (int i = 0; i < PAIRS_MAX; i++)
        if (pairs[i].users) {
            piso__fd_close(pairs[i].pair.rung);
            piso__fd_close(pairs[i].pair.ended);
            pairs[i].users = 0;
        }
}

PISO__STATIC_LOCK(lock, PISO__PLACE_BEACON, .in_child = close_in_child);

static int always_readable(void) {
    int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

/* make: makes a pair. Needs the lock. 0 or -errno. */
static int make(piso__beacon_pair *pair) {
    piso__autoclose int rung = always_readable(), ended = always_readable();
    if (rung < 0 || ended < 0)
        return rung < 0 ? rung : ended;
    *pair = (piso__beacon_pair){piso__fd_steal(&rung), piso__fd_steal(&ended)};
    return 0;
}

/* choose: returns a pair with room for one more user, one in use if possible. Needs the lock. */
static int choose(void) {
    int chosen = -1;
    for (int i = 0; i < PAIRS_MAX; i++)
        if (pairs[i].users < USERS_MAX && (chosen < 0 || (pairs[i].users && !pairs[chosen].users)))
            chosen = i;
    return chosen;
}

int piso__beacon_take(piso__beacon_pair *ret_pair) {
    piso__lock_take(&lock);
    int i = choose(), r = i < 0 ? -EMFILE : pairs[i].users ? 0 : make(&pairs[i].pair);
    if (r == 0) {
        pairs[i].users++;
        *ret_pair = pairs[i].pair;
    }
    piso__lock_give(&lock);
    return r;
}

void piso__beacon_give(const piso__beacon_pair *pair) {
    piso__lock_take(&lock);
    for (int i = 0; i < PAIRS_MAX; i++)
        if (pairs[i].users && pairs[i].pair.rung == pair->rung && --pairs[i].users == 0) {
            piso__fd_close(pair->rung);
            piso__fd_close(pair->ended);
            break;
        }
    piso__lock_give(&lock);
}
