/* folder.h - the folder of one control group: made, emptied and removed, whatever its hierarchy.
 *
 * Rules:
 *  1. A host has one more folder beside those of its groups, "pyisolate-HOST", in which nothing is, and holds a lock on
 *     it as long as it has any group there. A group's folder is "pyisolate-HOST.NUMBER". So a group costs its host no
 *     descriptor.
 *  2. A group whose host's folder is gone, or not locked, is that of a host that died: the sweep ends what is in it and
 *     removes it. The sweep runs in a thread of its own, once in each process, and waits for nobody.
 *  3. A forked process has a folder of its own, if it makes groups. */
#ifndef PISO_GROUP_FOLDER_H
#define PISO_GROUP_FOLDER_H

#include <limits.h>

#include "base/base.h"

typedef struct piso__group_host piso__group_host;

/* piso__group_folder: neither swept nor removed by others as long as this process lives. */
typedef struct piso__group_folder {
    piso__group_host *host; /* NULL: it has not been made */
    char path[PATH_MAX];
} piso__group_folder;

/* piso__group_folder_make: a new one. 0 or -errno; *ret_folder is changed on failure, too. */
int piso__group_folder_make(const char *parent, piso__group_folder *ret_folder);
/* piso__group_folder_drop: lets go of one that has been removed, or is left to others. */
void piso__group_folder_drop(piso__group_folder *folder);
/* piso__group_folder_kill: kills what is in it, without waiting for that to die. */
void piso__group_folder_kill(const char *path);
/* piso__group_folder_remove: kills what is in it, waits some milliseconds for that to die, and removes it. False: not yet;
 * `patient`: it waits a minute. */
bool piso__group_folder_remove(const char *path, bool patient);
/* piso__group_folder_sweep: has the folders removed that dead hosts have left below `parent`, with what is in them. */
void piso__group_folder_sweep(const char *parent);

/* ---- the files in one ---- */

/* piso__group_open: for the functions below. A descriptor, or -errno. */
int piso__group_open(const char *path);
/* piso__group_write: 0 or -errno. */
int piso__group_write(int folder, const char *name, const char *text);
/* piso__group_begins: whether a file begins with that text. */
bool piso__group_begins(int folder, const char *name, const char *text);
/* piso__group_number: the number behind `word` at the start of a line, or with "" at the start of the file; 0 when there
 * is none. */
uint64_t piso__group_number(int folder, const char *name, const char *word);

#endif
