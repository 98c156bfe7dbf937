/* keeper.c - see keeper.h. */
#include "supervisor/keeper.h"

#include "os/os.h"

#define NOTICE_NS INT64_C(20000000) /* orphans that end are reaped in groups: an extension may make thousands */
/* the first pause between checks of killed processes; each further one is twice as long ... */
#define SHORT_NS    INT64_C(500000)
#define LONG_NS     INT64_C(50000000) /* ... up to this */
#define ROUND_NS    INT64_C(5000000)  /* a check that took longer starts another round */
#define LAST_END_NS INT64_C(60000000000)

/* ---- the list ---- */

int piso__keeper_init(piso__keeper *k) {
    *k = (piso__keeper){.signal_fd = -1, .check_ns = -1};
    k->signal_fd = piso__adopt_orphans();
    return k->signal_fd < 0 ? k->signal_fd : 0;
}

void piso__keeper_forget(piso__keeper *k) {
    free(k->children);
    *k = (piso__keeper){.signal_fd = -1, .check_ns = -1};
}

int piso__keeper_reserve(piso__keeper *k) {
    if (k->count < k->room)
        return 0;
    int room = k->room ? k->room * 2 : 16;
    piso__kept *children = realloc(k->children, (size_t)room * sizeof *children);
    if (!children)
        return -ENOMEM;
    k->children = children;
    k->room = room;
    return 0;
}

void piso__keeper_add(piso__keeper *k, pid_t pid) {
    assert(k->count < k->room);
    k->children[k->count++] = (piso__kept){.pid = pid};
}

static piso__kept *find(const piso__keeper *k, pid_t pid) {
    for (int i = 0; i < k->count; i++)
        if (k->children[i].pid == pid)
            return &k->children[i];
    return NULL;
}

static void check_within(piso__keeper *k, int64_t ns) {
    int64_t due = piso_now_ns() + ns;
    if (k->check_ns < 0 || due < k->check_ns)
        k->check_ns = due;
}

static void begin_end(piso__keeper *k, piso__kept *child, bool notify) {
    child->ending = true;
    child->notify = notify;
    child->since_ns = piso_now_ns();
    k->pause_ns = SHORT_NS;
    check_within(k, 0);
}

bool piso__keeper_end(piso__keeper *k, pid_t pid, bool notify) {
    piso__kept *child = find(k, pid);
    if (child)
        begin_end(k, child, notify);
    return child != NULL;
}

void piso__keeper_end_dead(piso__keeper *k) {
    for (int i = 0; i < k->count; i++)
        if (!k->children[i].ending && piso__child_has_ended(k->children[i].pid)) {
            piso__kill_child(k->children[i].pid);
            begin_end(k, &k->children[i], false);
        }
}

int64_t piso__keeper_timeout(const piso__keeper *k) {
    int64_t left = k->check_ns - piso_now_ns();
    return k->check_ns < 0 ? -1 : left > 0 ? left : 0;
}

void piso__keeper_notice(piso__keeper *k) {
    piso__children_clear(k->signal_fd);
    k->pause_ns = SHORT_NS;
    check_within(k, NOTICE_NS);
}

/* ---- orphans ---- */

/* living: returns the namespaces of the children that have not ended. They are determined when the first orphan
 * is checked. */
typedef struct living {
    uint64_t *namespaces;
    int count; /* -1: not determined */
} living;

static void find_living(const piso__keeper *k, living *l) {
    l->count = 0;
    l->namespaces = calloc((size_t)k->count + 1, sizeof *l->namespaces);
    for (int i = 0; l->namespaces && i < k->count; i++)
        if (!k->children[i].ending && piso__mount_namespace(k->children[i].pid, &l->namespaces[l->count]) == 0)
            l->count++;
}

static bool has_extension(const piso__keeper *k, living *l, uint64_t namespace) {
    if (l->count < 0)
        find_living(k, l);
    if (!l->namespaces)
        return true; /* memory is exhausted: the next check tries again */
    for (int i = 0; i < l->count; i++)
        if (l->namespaces[i] == namespace)
            return true;
    return false;
}

typedef enum fate { LIVES, DIES, IS_DYING } fate;

/* fate_of: decides about an orphan. A dying one has left its namespace already. Its children are not the
 * zygote's yet, and may be those of a living extension: its group is left alone. */
static fate fate_of(const piso__keeper *k, living *l, pid_t pid) {
    uint64_t namespace;
    int r = piso__mount_namespace(pid, &namespace);
    if (r == -ENOENT)
        return IS_DYING;
    bool lives = r < 0 ? !piso__has_no_new_privileges(pid) : has_extension(k, l, namespace);
    return lives ? LIVES : DIES;
}

/* note_ended: notes which children had ended before the list of orphans is read, so that it has theirs. */
static void note_ended(const piso__keeper *k) {
    for (int i = 0; i < k->count; i++)
        k->children[i].ended = k->children[i].ending && piso__child_has_ended(k->children[i].pid);
}

/* kill_orphans: kills orphans once. Returns how many must be checked again; one that has ended counts, because
 * its own children may have become the zygote's after the list was read. */
static int kill_orphans(const piso__keeper *k) {
    piso__autofree pid_t *pids = NULL;
    living l = {.count = -1};
    note_ended(k);
    int count = piso__children(&pids), left = 0;
    for (int i = 0; i < count; i++) {
        piso_exit status;
        if (find(k, pids[i]))
            continue;
        if (piso__reap_child(pids[i], &status) != 0) {
            left++;
            continue;
        }
        fate f = fate_of(k, &l, pids[i]);
        if (f == DIES)
            piso__kill_child(pids[i]);
        left += f != LIVES;
    }
    free(l.namespaces);
    return left;
}

/* reap: reaps the children that are ending, once what they left behind is gone or takes too long. Returns how
 * many remain. */
static int reap(piso__keeper *k, bool clean, piso__keeper_reaped *reaped, void *argument) {
    int remaining = 0;
    for (int i = k->count; i-- > 0;) {
        piso__kept child = k->children[i];
        piso_exit status = {.code = -1};
        if (!child.ending)
            continue;
        bool due = child.ended && (clean || piso_now_ns() - child.since_ns > PISO__KEEPER_PATIENCE_NS);
        int r = due ? piso__reap_child(child.pid, &status) : 0;
        if (r == 0) {
            remaining++;
            continue;
        }
        k->children[i] = k->children[--k->count];
        if (child.notify)
            reaped(argument, child.pid, r, &status);
    }
    return remaining;
}

void piso__keeper_check(piso__keeper *k, piso__keeper_reaped *reaped, void *argument) {
    int64_t start_ns = piso_now_ns(), took_ns;
    int left;
    while ((left = kill_orphans(k)) > 0 && piso_now_ns() - start_ns < ROUND_NS)
        piso__cpu_yield(); /* lets the killed processes run; then others become known */
    took_ns = piso_now_ns() - start_ns;
    k->check_ns = -1;
    if (reap(k, left == 0, reaped, argument) + left == 0)
        return;
    check_within(k, k->pause_ns > took_ns ? k->pause_ns : took_ns); /* the host gets half of the time */
    k->pause_ns = k->pause_ns * 2 < LONG_NS ? k->pause_ns * 2 : LONG_NS;
}

void piso__keeper_end_all(piso__keeper *k) {
    int64_t end_ns = piso_now_ns() + LAST_END_NS;
    for (int i = 0; i < k->count; i++) {
        piso__kill_child(k->children[i].pid);
        begin_end(k, &k->children[i], false);
    }
    k->pause_ns = SHORT_NS;
    do {
        piso__keeper_check(k, NULL, NULL);
        int64_t pause = piso__keeper_timeout(k);
        if (pause >= 0)
            piso__poll_in(NULL, 0, pause);
    } while (k->check_ns >= 0 && piso_now_ns() < end_ns);
}
