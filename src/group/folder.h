/* folder.h - the folder of one control group: how it is made, emptied and removed, in any hierarchy.
 *
 * Rules:
 *  1. A host has one more folder beside those of its groups, "pyisolate-HOST". The folder is empty, and the
 *     host holds a lock on it while it has any group there. A group's folder is "pyisolate-HOST.ID". So a group
 *     costs its host no descriptor.
 *  2. A group belongs to a dead host if its host's folder is gone or not locked. The sweep kills the processes
 *     in it and removes it. The sweep runs in its own thread, once in each process, and nobody waits for it.
 *  3. A forked process that makes groups has its own host folder. */
#ifndef PISO_GROUP_FOLDER_H
#define PISO_GROUP_FOLDER_H

#include <limits.h>

#include "base/base.h"

typedef struct piso__group_host piso__group_host;

/* piso__group_folder: a folder that nobody else sweeps or removes as long as this process lives. */
typedef struct piso__group_folder {
    piso__group_host *host; /* NULL: not made */
    char path[PATH_MAX];
} piso__group_folder;

/* piso__group_folder_make: makes a new folder. 0 or -errno; *ret_folder is changed on failure too. */
int piso__group_folder_make(const char *parent, piso__group_folder *ret_folder);
/* piso__group_folder_drop: gives up a folder that was removed, or that others will remove. */
void piso__group_folder_drop(piso__group_folder *folder);
/* piso__group_folder_kill: kills the processes in it, without waiting for their end. */
void piso__group_folder_kill(const char *path);
/* piso__group_folder_remove: kills the processes in it, waits some milliseconds for their end, and removes it.
 * False: not removed yet. With `patient` it waits up to a minute. */
bool piso__group_folder_remove(const char *path, bool patient);
/* piso__group_folder_sweep: starts the removal of the folders that dead hosts have left below `parent`, and of
 * the processes in them. */
void piso__group_folder_sweep(const char *parent);

/* ---- files of a folder ---- */

/* piso__group_open: opens the folder for the functions below. Returns a descriptor, or -errno. */
int piso__group_open(const char *path);
/* piso__group_write: writes a text to a file of the folder. 0 or -errno. */
int piso__group_write(int folder, const char *name, const char *text);
/* piso__group_begins: whether a file begins with that text. */
bool piso__group_begins(int folder, const char *name, const char *text);
/* piso__group_number: returns the number behind `word` at the start of a line, or with "" at the start of the
 * file. 0 when there is none. */
uint64_t piso__group_number(int folder, const char *name, const char *word);

#endif
