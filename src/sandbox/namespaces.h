/* namespaces.h - the namespaces of a child, and which of them this system permits. */
#ifndef PISO_SANDBOX_NAMESPACES_H
#define PISO_SANDBOX_NAMESPACES_H

#include "sandbox/blob.h"

/* piso__namespaces_probe: 0 when this process may make the namespaces, else -errno. Tried once in a process. */
int piso__namespaces_probe(void);
/* piso__root_probe: the same for namespaces with their own root. */
int piso__root_probe(void);
/* piso__proc_probe: the same for their own /proc. */
int piso__proc_probe(void);
/* piso__namespaces_enter: called in the child. 0 or -errno. */
int piso__namespaces_enter(const piso__blob *blob);

#endif
