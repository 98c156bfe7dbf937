/* segment.h - memory shared by descriptor, with one object per segment in a process (piso/segment.h).
 *
 * The table knows all segments of the process. It recognises memory that comes back by another way by its
 * inode. Each segment has a small index, unique among live ones, for arrays kept beside the table. Thread-safe.
 * A process forked from the one that made the objects does not touch them. */
#ifndef PISO_MEMORY_SEGMENT_H
#define PISO_MEMORY_SEGMENT_H

#include "base/base.h"

/* Counts the live segments that one peer has brought, whoever uses them and whether or not the peer has retired
 * them. */
typedef struct piso__share {
    _Atomic uint32_t references, segments;
} piso__share;

/* piso__share_new: returns a share with one reference, or NULL. piso__share_unref takes NULL. */
piso__share *piso__share_new(void);
void piso__share_unref(piso__share *share);

struct piso_segment {
    _Atomic uint32_t references;
    uint32_t index, fork_generation;
    _Atomic int fd; /* -1: mapped, and no longer needed; sessions read it without the caller's lock */
    uint64_t size, inode;
    struct piso_segment *next;  /* in the table */
    void *data;                 /* address of the mapping, or NULL; guarded by the caller's lock */
    bool made;                  /* by this process */
    _Atomic uint64_t charged;   /* bytes charged to this process's quota */
    void *cell;                 /* for the caller's use */
    piso__share *share;         /* a reference to the share that counts it, or NULL */
    _Atomic uint32_t last_span; /* a hint: its index in the message that it was last added to */
};

/* piso__segment_adopt: takes a descriptor from elsewhere (also on failure, when it is closed) and returns its
 * segment: the known one for this memory, or a new one. A new one is counted in `share`, which may be NULL,
 * until it is freed. PISO_EPROTO when the descriptor is not sealed memory of that size, or the memory has
 * holes. */
int piso__segment_adopt(int fd, uint64_t size, piso__share *share, piso_segment **ret_segment);
/* piso__segment_limit: returns how many segments this process may have: half of its mappings
 * (vm.max_map_count), since a process without free mappings cannot even allocate memory. */
uint32_t piso__segment_limit(void);
/* piso__segment_charge: charges the quota with a segment that was made here and is not charged yet. 0 or
 * -EDQUOT. piso__segment_uncharge: takes the charge back when nobody here uses the segment any more, although
 * it exists until the peer has acknowledged its end. */
int piso__segment_charge(piso_segment *segment);
void piso__segment_uncharge(piso_segment *segment);

#endif
