/* group_folder.h - the folder of one control group: made, emptied and removed, whatever its hierarchy. */
#ifndef PISO_SANDBOX_GROUP_FOLDER_H
#define PISO_SANDBOX_GROUP_FOLDER_H

#include <limits.h>

#include "base/base.h"

/* piso__group_folder: this process holds a lock on it, so that nobody sweeps it away. */
typedef struct piso__group_folder {
    int fd; /* -1: none */
    char path[PATH_MAX];
} piso__group_folder;

/* piso__group_folder_make: a new one. 0 or -errno; *ret_folder is changed on failure, too. */
int piso__group_folder_make(const char *parent, piso__group_folder *ret_folder);
/* piso__group_folder_drop: of one that nothing has been in. */
void piso__group_folder_drop(piso__group_folder *folder);
/* piso__group_folder_remove: kills what is in it, waits some milliseconds for that to die, and removes it. False: not yet;
 * `patient`: it waits a minute. */
bool piso__group_folder_remove(const piso__group_folder *folder, bool patient);
/* piso__group_folder_sweep: removes the folders that dead hosts have left below `parent`, with what is in them. */
void piso__group_folder_sweep(const char *parent);

/* ---- the files in one ---- */

/* piso__group_write: 0 or -errno. */
int piso__group_write(int folder, const char *name, const char *text);
/* piso__group_begins: whether a file begins with that text. */
bool piso__group_begins(int folder, const char *name, const char *text);
/* piso__group_number: the number behind `word` at the start of a line, or with "" at the start of the file; 0 when there
 * is none. */
uint64_t piso__group_number(int folder, const char *name, const char *word);

#endif
