/* filter.c - the system calls that an extension may make, as a program for seccomp.
 *
 * A call that is not permitted is refused. The rules are in tools/filters/filter_rules.py. The tables generated
 * from them are one program with all permissions, which tests its options; this file inserts the options. */
#include "seccomp/filter.h"

#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "seccomp/tables.h"

/* The tables load the low 32 bits of arguments from where they are on a little-endian machine. */
#if defined(__x86_64__) && !defined(__ILP32__)
#define TABLE piso__filter_x86_64
#define COUNT piso__filter_x86_64_count
#define NAMES piso__names_x86_64
#define NAMED piso__names_x86_64_count
#elif defined(__AARCH64EL__) && !defined(__ILP32__)
#define TABLE piso__filter_aarch64
#define COUNT piso__filter_aarch64_count
#define NAMES piso__names_aarch64
#define NAMED piso__names_aarch64_count
#endif

/* as_bits: returns the options as bits, in the order of filter_rules.OPTIONS. */
static uint32_t as_bits(piso__filter_options o) {
    const bool options[] = {o.network,      o.local_sockets, o.own_sockets,  o.private_ipc,
                            o.private_disk, o.private_root,  o.own_signals,  o.own_group,
                            o.no_holes,     o.devices,       o.no_truncation};
    uint32_t bits = 0;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        bits |= (uint32_t)options[i] << i;
    return bits;
}

int piso__filter_probe(void) {
    /* a kernel with filters fails here, since there is no program */
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL) == 0)
        return 0;
    return errno == ENOSYS || errno == EINVAL || errno == EPERM ? -errno : 0;
}

#ifdef TABLE

int piso__filter_build(piso__filter_options options, struct sock_filter **ret_program) {
    struct sock_filter *program = malloc(COUNT * sizeof *program);
    if (!program)
        return -ENOMEM;
    uint32_t bits = as_bits(options);
    for (size_t i = 0; i < COUNT; i++) {
        program[i] = TABLE[i];
        if (program[i].code == (BPF_LD | BPF_IMM))
            program[i].k = bits;
        else if (program[i].code == (BPF_RET | BPF_K) && (program[i].k & SECCOMP_RET_ACTION) == SECCOMP_RET_TRACE)
            program[i].k = SECCOMP_RET_USER_NOTIF | (program[i].k & SECCOMP_RET_DATA);
    }
    *ret_program = program;
    return (int)COUNT;
}

const char *piso__filter_name(uint32_t number) {
    return number < NAMED ? NAMES[number] : NULL;
}

#else

int piso__filter_build(piso__filter_options options, struct sock_filter **ret_program) {
    (void)ret_program;
    (void)as_bits(options);
    return -ENOSYS;
}

const char *piso__filter_name(uint32_t number) {
    (void)number;
    return NULL;
}

#endif
