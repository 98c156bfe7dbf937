/* segment.c - see segment.h. */
#include "memory/segment.h"

#include "memory/quota.h"
#include "os/cgroup.h"
#include "os/os.h"

#define USUAL_MAPPINGS 65530u

/* The lock guards the table. It also ensures that a segment found in the table has not lost its last reference.
 * A forked process keeps the entries of its parent's segments; it never finds them and never frees them. */
PISO__STATIC_LOCK(lock, PISO__PLACE_SEGMENTS);
static struct {
    piso_segment **segments; /* by index; NULL: free */
    piso_segment **buckets;  /* linked lists, by inode */
    uint32_t capacity;       /* of both arrays; a power of two, or 0 */
    uint32_t count, lowest_free;
} table;

uint32_t piso__segment_limit(void) {
    static _Atomic uint32_t known;
    uint32_t limit = atomic_load_explicit(&known, memory_order_relaxed);
    if (limit)
        return limit;
    char text[32];
    unsigned long mappings =
        piso__read_text("/proc/sys/vm/max_map_count", text, sizeof text) ? strtoul(text, NULL, 10) : USUAL_MAPPINGS;
    limit = mappings < 2 ? 1 : mappings / 2 < UINT32_MAX / 2 ? (uint32_t)(mappings / 2) : UINT32_MAX / 2;
    atomic_store_explicit(&known, limit, memory_order_relaxed);
    return limit;
}

static piso_segment **bucket_of(uint64_t inode) {
    return &table.buckets[(inode * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (table.capacity - 1)];
}

static void link_segment(piso_segment *s) {
    piso_segment **bucket = bucket_of(s->inode);
    s->next = *bucket;
    *bucket = s;
}

static void unlink_segment(piso_segment *s) {
    piso_segment **at = bucket_of(s->inode);
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
}

/* grow: doubles the table. Needs the lock. 0 or -ENOMEM. */
static int grow(void) {
    uint32_t capacity = table.capacity ? table.capacity * 2 : 64;
    piso_segment **segments = reallocarray(table.segments, capacity, sizeof *segments);
    if (!segments)
        return -ENOMEM;
    table.segments = segments;
    piso_segment **buckets = calloc(capacity, sizeof *buckets);
    if (!buckets)
        return -ENOMEM;
    for (uint32_t i = table.capacity; i < capacity; i++)
        segments[i] = NULL;
    free(table.buckets);
    table.buckets = buckets;
    table.capacity = capacity;
    for (uint32_t i = 0; i < capacity; i++)
        if (segments[i])
            link_segment(segments[i]);
    return 0;
}

/* free_index: returns an index that no segment has, and makes room for it in the table. Needs the lock.
 * UINT32_MAX when memory is exhausted. */
static uint32_t free_index(void) {
    uint32_t index = table.lowest_free;
    while (index < table.capacity && table.segments[index])
        index++;
    table.lowest_free = index;
    return index < table.capacity || grow() == 0 ? index : UINT32_MAX;
}

/* find: returns a new reference to this process's segment with the inode, or NULL. Needs the lock. */
static piso_segment *find(uint64_t inode) {
    for (piso_segment *s = table.capacity ? *bucket_of(inode) : NULL; s; s = s->next)
        if (s->inode == inode && s->fork_generation == piso__fork_generation())
            return piso_segment_ref(s);
    return NULL;
}

/* enter: makes an object for a descriptor, which it takes on success. Needs the lock. */
static int enter(int fd, uint64_t size, uint64_t inode, piso_segment **ret_segment) {
    if (table.count >= piso__segment_limit())
        return -ENOBUFS;
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
    table.lowest_free = index + 1;
    table.count++;
    link_segment(s);
    *ret_segment = s;
    return 0;
}

/* leave: removes a segment from the table. Needs the lock. */
static void leave(piso_segment *s) {
    table.segments[s->index] = NULL;
    unlink_segment(s);
    table.count--;
    if (s->index < table.lowest_free)
        table.lowest_free = s->index;
}

/* create: makes a segment without charging the quota. */
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
    int r = piso__quota_charge(size);
    if (r < 0)
        return r;
    piso_segment *segment;
    r = create(size, &segment);
    if (r < 0) {
        piso__quota_uncharge(size);
        return r;
    }
    segment->made = true;
    segment->charged = size;
    *ret_segment = segment;
    return 0;
}

int piso__segment_charge(piso_segment *segment) {
    if (!segment->made || atomic_load(&segment->charged))
        return 0;
    int r = piso__quota_charge(segment->size);
    if (r == 0)
        piso__quota_uncharge(atomic_exchange(&segment->charged, segment->size)); /* another session was faster */
    return r;
}

void piso__segment_uncharge(piso_segment *segment) {
    piso__quota_uncharge(atomic_exchange(&segment->charged, 0));
}

piso__share *piso__share_new(void) {
    piso__share *share = calloc(1, sizeof *share);
    if (share)
        share->references = 1;
    return share;
}

void piso__share_unref(piso__share *share) {
    if (share && atomic_fetch_sub(&share->references, 1) == 1)
        free(share);
}

/* count_in: counts a new segment in `share`. Nobody else knows the segment yet. */
static void count_in(piso__share *share, piso_segment *segment) {
    if (!share)
        return;
    atomic_fetch_add(&share->references, 1);
    atomic_fetch_add(&share->segments, 1);
    segment->share = share;
}

static void count_out(const piso_segment *segment) {
    if (segment->share)
        atomic_fetch_sub(&segment->share->segments, 1);
    piso__share_unref(segment->share);
}

int piso__segment_adopt(int fd, uint64_t size, piso__share *share, piso_segment **ret_segment) {
    piso__autoclose int owned = fd;
    uint64_t inode;
    if (size == 0 || piso__memfd_check(fd, size) < 0 || piso__fd_inode(fd, &inode) < 0)
        return PISO_EPROTO;
    /* reading a hole would allocate memory of this process */
    if (piso__memfd_backed(fd) < size || (piso__memory_is_strict() && piso__memfd_has_hole(fd, 0, size)))
        return PISO_EPROTO;
    piso__fd_make_room(fd);
    piso__lock_take(&lock);
    piso_segment *known = find(inode);
    int r = known ? 0 : enter(fd, size, inode, ret_segment);
    if (!known && r == 0)
        count_in(share, *ret_segment);
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
    /* the last reference is dropped under the lock, since the table may be giving out another */
    piso__lock_take(&lock);
    bool last = atomic_fetch_sub_explicit(&segment->references, 1, memory_order_acq_rel) == 1;
    if (last)
        leave(segment);
    piso__lock_give(&lock);
    if (last) {
        piso__segment_uncharge(segment);
        count_out(segment);
        piso__unmap(segment->data, segment->size);
        piso__fd_close(segment->fd);
        free(segment);
    }
    return NULL;
}

uint32_t piso_segment_limit(void) {
    return piso__segment_limit();
}

int piso_segment_fd(const piso_segment *segment) {
    return segment->fd;
}

int piso_segment_map(piso_segment *segment, bool keep_fd, void **ret_data) {
    void *data = segment->data;
    int r = data ? 0 : segment->fd < 0 ? -EBADF : piso__map(segment->fd, segment->size, true, false, &data);
    if (r < 0)
        return r;
    segment->data = *ret_data = data;
    if (!keep_fd && !segment->made)
        piso__fd_close(atomic_exchange(&segment->fd, -1));
    return 0;
}

void piso_segment_unmap(piso_segment *segment) {
    if (segment->fd < 0)
        return; /* the sessions may have to map it, which needs the descriptor */
    piso__unmap(segment->data, segment->size);
    segment->data = NULL;
}

uint64_t piso_segment_size(const piso_segment *segment) {
    return segment->size;
}

void **piso_segment_cell(piso_segment *segment) {
    return &segment->cell;
}
