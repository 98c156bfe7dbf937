/* segment.h - memory shared by descriptor, one object for each in a process (piso.h: shared segments).
 *
 * The table knows all segments of the process, so that memory which comes back by another way is recognised by its
 * inode. Each has a small index, unique among those that live, for arrays kept beside the table. Thread-safe. In a
 * process forked from the one that made them, objects are left alone. */
#ifndef PISO_MEMORY_SEGMENT_H
#define PISO_MEMORY_SEGMENT_H

#include "base/base.h"

/* How many segments that one peer has brought are alive, whoever uses them: also those that it has taken back. */
typedef struct piso__share {
    _Atomic uint32_t references, segments;
} piso__share;

/* piso__share_new: with one reference, or NULL. piso__share_unref: takes NULL. */
piso__share *piso__share_new(void);
void piso__share_unref(piso__share *share);

struct piso_segment {
    _Atomic uint32_t references;
    uint32_t index, fork_generation;
    _Atomic int
        fd; /* -1: it has been mapped, and is not needed any more; sessions look at it without the caller's lock */
    uint64_t size, inode;
    struct piso_segment *next;  /* in the table */
    void *data;                 /* where it is mapped, or NULL; the caller's lock guards it */
    bool made;                  /* by this process */
    _Atomic uint64_t charged;   /* bytes of this process's budget */
    void *cell;                 /* the caller's */
    piso__share *share;         /* a reference to that which it is counted in, or NULL */
    _Atomic uint32_t last_span; /* where it stands in the message that it was last added to: a hint */
};

/* piso__segment_adopt: the segment behind a descriptor that came from elsewhere, which is taken (closed also on
 * failure): the one that is known already, or a new one, which is counted in `share` as long as it lives; that may be
 * NULL. PISO_EPROTO when it is no sealed memory of that size, or not all of it is there. */
int piso__segment_adopt(int fd, uint64_t size, piso__share *share, piso_segment **ret_segment);
/* piso__segment_limit: how many segments this process may have: half of its mappings (vm.max_map_count), since a process
 * that has none left cannot even allocate memory. */
uint32_t piso__segment_limit(void);
/* piso__segment_charge: counts it among what this process has, if it was made here and is not counted: 0 or -EDQUOT.
 * piso__segment_uncharge: nobody here uses it any more, but it lives until the peer has heard of that. */
int piso__segment_charge(piso_segment *segment);
void piso__segment_uncharge(piso_segment *segment);

#endif
