/* arena.c - see arena.h. A binary tree of blocks. The nodes are made when a block is first split.
 *
 *     64 GiB  [ largest: order of the largest free block below ]
 *              /                    \
 *     32 GiB  [ ]                   [ ]     a leaf is one block, used or free
 *
 * Allocation descends to the leftmost block that fits. Nodes of freed blocks stay, so that the same size is
 * found again without splitting; they are merged only when a larger block is needed there. Each leaf has a
 * watermark: how many bytes from its start are backed by memory. */
#include "memory/arena.h"

#include "memory/quota.h"
#include "os/os.h"

#define MAX_ORDERS 48
#define NO_ORDER   (-1)

typedef struct node {
    struct node *children; /* two, or NULL for a leaf */
    uint64_t watermark;    /* of a leaf: bytes backed by memory */
    uint64_t size;         /* of a used leaf: bytes that stay backed; 0: free */
    uint32_t generation;   /* of a used leaf */
    bool lent;             /* of a used leaf: whether the receiver has it */
    int8_t order;
    int8_t largest; /* order of the largest free block in this subtree, or NO_ORDER */
} node;

struct piso__arena {
    int fd;      /* -1: frozen */
    uint64_t at; /* where the arena begins in the file */
    uint8_t *base;
    uint64_t live, committed;
    uint64_t block; /* bytes in a block of order 0 */
    uint32_t generation;
    node root;
};

static inline uint64_t block_size(const piso__arena *a, int order) {
    return a->block << order;
}

/* order_of: the order of the smallest block that holds so many bytes. */
static inline int order_of(const piso__arena *a, uint64_t size) {
    return size > a->block ? 64 - __builtin_clzll((size - 1) / a->block) : 0;
}

static inline bool is_free(const node *n) {
    return n->largest == n->order;
}

/* update: recomputes `largest` of an inner node. Two free halves count as one free block. */
static void update(node *n) {
    const node *left = &n->children[0], *right = &n->children[1];
    if (is_free(left) && is_free(right))
        n->largest = n->order;
    else
        n->largest = left->largest > right->largest ? left->largest : right->largest;
}

int piso__arena_new(int fd, uint64_t offset, void *base, uint64_t size, piso__arena **ret_arena) {
    return piso__arena_new_paged(fd, offset, base, size, piso__page_size(), ret_arena);
}

int piso__arena_new_paged(int fd, uint64_t offset, void *base, uint64_t size, uint64_t page, piso__arena **ret_arena) {
    uint64_t block = page > PISO__ARENA_BLOCK ? page : PISO__ARENA_BLOCK;
    if (size < block || (size & (size - 1)) != 0 || offset % block != 0)
        return -EINVAL;
    piso__arena *a = calloc(1, sizeof *a);
    if (!a)
        return -ENOMEM;
    a->fd = fd;
    a->at = offset;
    a->base = base;
    a->block = block;
    a->root.order = a->root.largest = (int8_t)order_of(a, size);
    *ret_arena = a;
    return 0;
}

static void free_children(node *n) {
    if (!n->children)
        return;
    free_children(&n->children[0]);
    free_children(&n->children[1]);
    free(n->children);
    n->children = NULL;
}

piso__arena *piso__arena_free(piso__arena *a) {
    if (a) {
        free_children(&a->root);
        piso__quota_uncharge(a->committed);
    }
    free(a);
    return NULL;
}

void piso__arena_freeze(piso__arena *a) {
    a->fd = -1;
}

/* punch: removes the pages of a range. */
static int punch(const piso__arena *a, uint64_t offset, uint64_t size) {
    return a->fd < 0 ? -EBADF : piso__punch(a->fd, a->at + offset, size);
}

/* uncommit: counts pages that were given back to the system. */
static void uncommit(piso__arena *a, uint64_t size) {
    a->committed -= size;
    piso__quota_uncharge(size);
}

/* split: turns a free leaf into two free halves. */
static int split(const piso__arena *a, node *n) {
    node *children = calloc(2, sizeof *children);
    if (!children)
        return -ENOMEM;
    uint64_t half = block_size(a, n->order - 1);
    for (int i = 0; i < 2; i++)
        children[i].order = children[i].largest = (int8_t)(n->order - 1);
    children[0].watermark = n->watermark < half ? n->watermark : half;
    children[1].watermark = n->watermark - children[0].watermark;
    n->children = children;
    n->watermark = 0;
    return 0;
}

/* merge: turns the free node at `offset` into a leaf. One watermark cannot describe a gap between those of the
 * two halves, so in that case the upper half's memory is given back. */
static void merge(piso__arena *a, node *n, uint64_t offset) {
    if (!n->children)
        return;
    node *left = &n->children[0], *right = &n->children[1];
    uint64_t half = block_size(a, left->order);
    merge(a, left, offset);
    merge(a, right, offset + half);
    if (left->watermark < half && right->watermark > 0) {
        punch(a, offset + half, right->watermark);
        uncommit(a, right->watermark);
        right->watermark = 0;
    }
    n->watermark = left->watermark + right->watermark;
    free(n->children);
    n->children = NULL;
}

/* commit: backs the first `size` bytes of a free leaf with memory. */
static int commit(piso__arena *a, node *n, uint64_t offset, uint64_t size) {
    if (size <= n->watermark)
        return 0;
    if (a->fd < 0)
        return -EBADF;
    uint64_t more = size - n->watermark;
    int r = piso__quota_charge(more);
    if (r < 0)
        return r;
    r = piso__populate(a->fd, a->base - a->at, a->at + offset + n->watermark, more);
    if (r < 0) {
        piso__quota_uncharge(more);
        return r == -ENOSPC ? -ENOMEM : r;
    }
    a->committed += more;
    n->watermark = size;
    return 0;
}

/* update_path: updates the nodes from the bottom up, until one does not change. */
static void update_path(node **path, int length) {
    while (length > 0) {
        node *n = path[--length];
        int8_t before = n->largest;
        update(n);
        if (n->largest == before)
            return;
    }
}

/* find_leaf: descends to the leftmost free block of `order` and splits on the way. The caller knows that there
 * is one. */
static int find_leaf(piso__arena *a, int order, node **path, int *ret_length, node **ret_leaf, uint64_t *ret_offset) {
    node *n = &a->root;
    uint64_t offset = 0;
    int length = 0, r = 0;
    while (n->order > order) {
        if (!n->children && (r = split(a, n)) < 0)
            break;
        path[length++] = n;
        bool right = n->children[0].largest < order;
        n = &n->children[right];
        offset += right ? block_size(a, n->order) : 0;
    }
    *ret_length = length;
    if (r < 0)
        return r;
    merge(a, n, offset);
    *ret_leaf = n;
    *ret_offset = offset;
    return 0;
}

int piso__arena_alloc(piso__arena *a, uint64_t size, piso_span *ret_span, void **ret_data) {
    uint64_t backed = size ? piso__align_up(size, a->block) : a->block;
    if (backed < size || backed > block_size(a, a->root.order))
        return -ENOMEM;
    int order = order_of(a, backed);
    if (a->root.largest < order)
        return -ENOMEM;
    node *path[MAX_ORDERS], *leaf;
    uint64_t offset;
    int length, r = find_leaf(a, order, path, &length, &leaf, &offset);
    if (r == 0)
        r = commit(a, leaf, offset, backed);
    if (r < 0) /* a split block is two free halves and a merged one is free, so `largest` has changed in no node */
        return r;
    if (++a->generation == 0)
        a->generation = 1;
    leaf->size = backed;
    leaf->generation = a->generation;
    leaf->lent = false;
    leaf->largest = NO_ORDER;
    a->live += backed;
    update_path(path, length);
    *ret_span = (piso_span){.generation = a->generation, .offset = offset, .length = size};
    *ret_data = a->base + offset;
    return 0;
}

/* find_block: returns the used leaf of this span, or NULL. `path` gets the nodes above it. */
static node *find_block(piso__arena *a, uint64_t offset, uint32_t generation, node **path, int *ret_length) {
    if (offset >= block_size(a, a->root.order))
        return NULL;
    node *n = &a->root;
    uint64_t start = 0;
    int length = 0;
    while (n->children) {
        path[length++] = n;
        uint64_t half = block_size(a, n->order - 1);
        bool right = offset >= start + half;
        n = &n->children[right];
        start += right ? half : 0;
    }
    *ret_length = length;
    return n->size > 0 && start == offset && n->generation == generation ? n : NULL;
}

int piso__arena_release(piso__arena *a, uint64_t offset, uint32_t generation) {
    node *path[MAX_ORDERS];
    int length;
    node *n = find_block(a, offset, generation, path, &length);
    if (!n)
        return -ESTALE;
    a->live -= n->size;
    n->size = 0;
    n->largest = n->order;
    update_path(path, length);
    return 0;
}

int piso__arena_lend(piso__arena *a, uint64_t offset, uint32_t generation) {
    node *path[MAX_ORDERS];
    int length;
    node *n = find_block(a, offset, generation, path, &length);
    if (!n || n->lent)
        return -ESTALE;
    n->lent = true;
    return 0;
}

int piso__arena_take_back(piso__arena *a, uint64_t offset, uint32_t generation, uint64_t size) {
    node *path[MAX_ORDERS];
    int length;
    node *n = find_block(a, offset, generation, path, &length);
    if (!n || !n->lent || size > n->size)
        return -ESTALE;
    n->lent = false;
    return 0;
}

void *piso__arena_at(const piso__arena *a, uint64_t offset) {
    return a->base + offset;
}

/* trim: gives back the memory of free leaves, highest first, until `excess` bytes are released. */
static void trim(piso__arena *a, node *n, uint64_t offset, uint64_t *excess) {
    if (*excess == 0)
        return;
    if (n->children) {
        trim(a, &n->children[1], offset + block_size(a, n->order - 1), excess);
        trim(a, &n->children[0], offset, excess);
        return;
    }
    if (n->watermark <= n->size)
        return;
    uint64_t surplus = n->watermark - n->size, taken = surplus < *excess ? surplus : *excess;
    taken = piso__align_up(taken, a->block);
    if (punch(a, offset + n->watermark - taken, taken) < 0)
        return;
    n->watermark -= taken;
    uncommit(a, taken);
    *excess -= taken < *excess ? taken : *excess;
}

void piso__arena_trim(piso__arena *a, uint64_t keep_bytes) {
    uint64_t spare = a->committed - a->live;
    uint64_t excess = spare > keep_bytes ? spare - keep_bytes : 0;
    trim(a, &a->root, 0, &excess);
    if (a->live == 0 && a->committed == 0)
        free_children(&a->root);
}

uint64_t piso__arena_live(const piso__arena *a) {
    return a->live;
}

uint64_t piso__arena_committed(const piso__arena *a) {
    return a->committed;
}

bool piso__arena_check(const piso__arena_view *view, const piso_span *span) {
    return span->segment == 0 && span->length > 0 && (span->offset & 63) == 0 && span->offset < view->size &&
           span->length <= view->size - span->offset;
}
