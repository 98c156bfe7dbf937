/* segment.c - see segment.h. */
#include "memory/segment.h"

#include "memory/budget.h"
#include "os/cgroup.h"
#include "os/os.h"

/* The lock guards the table, and that a segment found in it has not lost its last reference. A forked process keeps the
 * entries of its parent's segments, which it never finds and never frees. */
PISO__STATIC_LOCK(lock, PISO__PLACE_SEGMENTS);
static struct {
    piso_segment **segments; /* by index; NULL: free */
    uint32_t capacity;
} table;

/* free_index: one that no segment has, with room for it in the table. Needs the lock. UINT32_MAX: no memory. */
static uint32_t free_index(void) {
    for (uint32_t i = 0; i < table.capacity; i++)
        if (!table.segments[i])
            return i;
    uint32_t capacity = table.capacity ? table.capacity * 2 : 64;
    piso_segment **segments = reallocarray(table.segments, capacity, sizeof *segments);
    if (!segments)
        return UINT32_MAX;
    for (uint32_t i = table.capacity; i < capacity; i++)
        segments[i] = NULL;
    uint32_t first = table.capacity;
    table.segments = segments;
    table.capacity = capacity;
    return first;
}

/* find: a reference to the segment of this process with the inode, or NULL. Needs the lock. */
static piso_segment *find(uint64_t inode) {
    for (uint32_t i = 0; i < table.capacity; i++) {
        piso_segment *s = table.segments[i];
        if (s && s->inode == inode && s->fork_generation == piso__fork_generation())
            return piso_segment_ref(s);
    }
    return NULL;
}

/* enter: makes an object for a descriptor, which is taken on success. Needs the lock. */
static int enter(int fd, uint64_t size, uint64_t inode, piso_segment **ret_segment) {
    piso_segment *s = calloc(1, sizeof *s);
    uint32_t index = s ? free_index() : UINT32_MAX;
    if (index == UINT32_MAX) {
        free(s);
        return -ENOMEM;
    }
    s->references = 1;
    s->index = index;
    s->fork_generation = piso__fork_generation();
    s->fd = fd;
    s->size = size;
    s->inode = inode;
    table.segments[index] = s;
    *ret_segment = s;
    return 0;
}

/* create: without regard to the budget. */
static int create(uint64_t size, piso_segment **ret_segment) {
    piso__autoclose int fd = piso__memfd_create("piso-segment", size);
    if (fd < 0)
        return fd;
    uint64_t inode;
    int r = piso__allocate(fd, size);
    if (r == 0)
        r = piso__fd_inode(fd, &inode);
    if (r < 0)
        return r == -ENOSPC ? -ENOMEM : r;
    piso__fd_make_room(fd);
    piso__lock_take(&lock);
    r = enter(fd, size, inode, ret_segment);
    piso__lock_give(&lock);
    if (r == 0)
        piso__fd_steal(&fd);
    return r;
}

int piso_segment_create(uint64_t size, piso_segment **ret_segment) {
    if (size == 0 || size > INT64_MAX)
        return -EINVAL;
    int r = piso__budget_take(size);
    if (r < 0)
        return r;
    piso_segment *segment;
    r = create(size, &segment);
    if (r < 0) {
        piso__budget_give(size);
        return r;
    }
    segment->made = true;
    segment->budgeted = size;
    *ret_segment = segment;
    return 0;
}

int piso__segment_budget(piso_segment *segment) {
    if (!segment->made || atomic_load(&segment->budgeted))
        return 0;
    int r = piso__budget_take(segment->size);
    if (r == 0)
        piso__budget_give(atomic_exchange(&segment->budgeted, segment->size)); /* another session has been faster */
    return r;
}

void piso__segment_unbudget(piso_segment *segment) {
    piso__budget_give(atomic_exchange(&segment->budgeted, 0));
}

int piso__segment_adopt(int fd, uint64_t size, piso_segment **ret_segment) {
    piso__autoclose int owned = fd;
    uint64_t inode;
    if (size == 0 || piso__memfd_check(fd, size) < 0 || piso__fd_inode(fd, &inode) < 0)
        return PISO_EPROTO;
    /* reading it would take as much memory of ours */
    if (piso__memfd_backed(fd) < size || (piso__memory_is_strict() && piso__memfd_has_hole(fd, 0, size)))
        return PISO_EPROTO;
    piso__fd_make_room(fd);
    piso__lock_take(&lock);
    piso_segment *known = find(inode);
    int r = known ? 0 : enter(fd, size, inode, ret_segment);
    piso__lock_give(&lock);
    if (known)
        *ret_segment = known;
    else if (r == 0)
        piso__fd_steal(&owned);
    return r;
}

piso_segment *piso_segment_ref(piso_segment *segment) {
    atomic_fetch_add_explicit(&segment->references, 1, memory_order_relaxed);
    return segment;
}

piso_segment *piso_segment_unref(piso_segment *segment) {
    if (!segment || segment->fork_generation != piso__fork_generation())
        return NULL;
    uint32_t count = atomic_load_explicit(&segment->references, memory_order_relaxed);
    while (count > 1)
        if (atomic_compare_exchange_weak_explicit(&segment->references, &count, count - 1, memory_order_release,
                                                  memory_order_relaxed))
            return NULL;
    piso__lock_take(&lock); /* the last one goes under the lock: the table may be giving out another */
    bool last = atomic_fetch_sub_explicit(&segment->references, 1, memory_order_acq_rel) == 1;
    if (last)
        table.segments[segment->index] = NULL;
    piso__lock_give(&lock);
    if (last) {
        piso__segment_unbudget(segment);
        piso__fd_close(segment->fd);
        free(segment);
    }
    return NULL;
}

int piso_segment_fd(const piso_segment *segment) {
    return segment->fd;
}

uint64_t piso_segment_size(const piso_segment *segment) {
    return segment->size;
}

void **piso_segment_cell(piso_segment *segment) {
    return &segment->cell;
}
