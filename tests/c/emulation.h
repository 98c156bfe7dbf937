/* emulation.h - whether a process emulates the processor of another machine for this program, as qemu-user
 * does.
 *
 * Such an emulator turns every vfork into a fork, so a program that the core starts cannot report that it did
 * not start. It runs no program of the emulated machine. It has no system-call filters, no namespaces and no
 * Landlock. It ignores madvise and limits of the address space, and its page table is not the program's. */
#ifndef PISO_TESTS_EMULATION_H
#define PISO_TESTS_EMULATION_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "skipping.h"

#define EMULATED        "the processor is emulated, and the emulator has nothing of the kind"
#define EXIT_OF_SKIPPED 77 /* of meson: the test was skipped */

/* is_emulated: whether a forked child has a mapping that no forked child has on a real kernel. */
static inline bool is_emulated(void) {
    static int emulated = -1;
    if (emulated < 0) {
        size_t size = (size_t)sysconf(_SC_PAGESIZE);
        unsigned char resident;
        void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        int status = 0;
        madvise(page, size, MADV_DONTFORK);
        pid_t pid = fork();
        if (pid == 0)
            _exit(mincore(page, size, &resident) == 0);
        emulated = pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 1;
        munmap(page, size);
    }
    return emulated;
}

/* need_no_emulation: skips the test on such a machine. */
#define need_no_emulation()                                                                                            \
    do {                                                                                                               \
        if (is_emulated())                                                                                             \
            skip_because(EMULATED);                                                                                    \
    } while (0)

/* leave_if_emulated: skips all tests of a program. For its main. */
#define leave_if_emulated()                                                                                            \
    do {                                                                                                               \
        if (is_emulated()) {                                                                                           \
            puts("skipped: " EMULATED);                                                                                \
            return EXIT_OF_SKIPPED;                                                                                    \
        }                                                                                                              \
    } while (0)

#endif
