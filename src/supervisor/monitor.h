/* monitor.h - the thread that watches all children of this process. */
#ifndef PISO_SUPERVISOR_MONITOR_H
#define PISO_SUPERVISOR_MONITOR_H

#include "supervisor/process.h"

/* piso__monitor_watch: takes a reference to `p` and watches it until it has ended. On failure nothing of `p` is
 * watched any more and the caller must reap it. */
int piso__monitor_watch(piso_process *p);
/* piso__monitor_watch_zygote: reads what the zygote sends, until it has ended. */
int piso__monitor_watch_zygote(piso_zygote *z);

#endif
