/* paths.h - what a child may access, as names without links, and the root that is made of it.
 *
 * A name is followed to its end, component by component. Links on the way are recorded, so that the name works
 * in the child's root too. A link that a confined process may have put there is not followed, and the path is
 * then ignored. Every result is pinned: the child uses it only if device and inode are the same. */
#ifndef PISO_SANDBOX_PATHS_H
#define PISO_SANDBOX_PATHS_H

#include <sys/stat.h>

#include "base/base.h"

typedef enum piso__use {                      /* the highest use of a name counts */
                         PISO__USE_FOLDER,    /* exists, nothing else */
                         PISO__USE_TERMINALS, /* a folder with its own terminals */
                         PISO__USE_LINK,
                         PISO__USE_LIST,
                         PISO__USE_HIDE,
                         PISO__USE_READ,
                         PISO__USE_PROC, /* its own /proc, with the entries of the host's */
                         PISO__USE_DEVICE,
                         PISO__USE_WRITE,
} piso__use;

typedef struct piso__spot {
    char *path;   /* without links, except for its last name if that is one itself */
    char *target; /* of a link */
    piso__use use;
    bool is_folder;
    uint64_t device, inode;
} piso__spot;

/* piso__paths: all zeros means empty. */
typedef struct piso__paths {
    piso__spot *places;
    size_t count, room;
    char **untrusted; /* without links; links at and below these are not followed */
    size_t untrusted_count;
    char *folder, *real; /* the folder of the last path, as it was named and without links */
} piso__paths;

void piso__paths_fini(piso__paths *p);

/* piso__paths_distrust: from now on no link at or below one of these paths is followed (the lists end with
 * NULL, or are NULL). */
int piso__paths_distrust(piso__paths *p, const char *const *first, const char *const *second);
/* piso__paths_open: adds the place that a path names. Returns its descriptor (O_PATH) and state, or -errno:
 * -ENOENT when it does not exist, -ELOOP when a link on the way is not followed. */
int piso__paths_open(piso__paths *p, const char *path, piso__use use, struct stat *ret_state);
/* piso__paths_add: adds a place that need not exist. */
int piso__paths_add(piso__paths *p, const char *path, piso__use use, const char *target);

/* ---- the root ---- */

typedef enum piso__step_kind {
    PISO__STEP_FOLDER = 1, /* makes a folder */
    PISO__STEP_LIST,       /* makes a folder whose names can be listed */
    PISO__STEP_LINK,       /* makes a link to `target` */
    PISO__STEP_MOUNT,      /* mounts what the host's root has there */
    PISO__STEP_PROC,       /* a /proc that shows only processes that it could trace, its own */
    PISO__STEP_TERMINALS,  /* a file system of terminals */
    PISO__STEP_COVER,      /* an empty folder or file in its place */
} piso__step_kind;

enum {
    PISO__STEP_IS_FOLDER = 1,
    PISO__STEP_WRITABLE = 2,
    PISO__STEP_INSIDE = 4 /* the name exists already */,
    PISO__STEP_PROTECTED = 8 /* read-only inside something writable */
};

typedef struct piso__step {
    uint32_t kind, flags;
    uint32_t path, target; /* strings: offsets in the block */
    uint64_t device, inode;
} piso__step;

/* piso__paths_plan: makes the steps that build a root from the places, which it sorts. `path` of a step is the
 * index of its place; `target` of a folder that is made on the way is how much of its name counts. */
int piso__paths_plan(piso__paths *p, piso__step **ret_steps, size_t *ret_count);

#endif
