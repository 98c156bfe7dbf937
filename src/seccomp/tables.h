/* tables.h - the system-call filters, one for each machine. tools/filters generates them.
 *
 * In a table LD IMM is a placeholder for the options, JEQ with PISO__FILTER_OWN_PID for the process, and
 * SECCOMP_RET_TRACE with an error for a refusal that the host wants to be notified of. Loaded unchanged, a
 * table refuses. */
#ifndef PISO_SECCOMP_TABLES_H
#define PISO_SECCOMP_TABLES_H

#include <linux/filter.h>
#include <stddef.h>

extern const struct sock_filter piso__filter_x86_64[], piso__filter_aarch64[];
extern const size_t piso__filter_x86_64_count, piso__filter_aarch64_count;

/* The names of system calls by number; NULL where there is no call. */
extern const char *const piso__names_x86_64[], *const piso__names_aarch64[];
extern const size_t piso__names_x86_64_count, piso__names_aarch64_count;

#endif
