/* emulation.h - whether the processor of this program is emulated by a process of another machine, as qemu-user does.
 *
 * Such an emulator makes a fork of every vfork, so that a program which the core starts cannot say that it did not start;
 * it runs no program of the emulated machine, and knows no filters of system calls, namespaces, or Landlock; it ignores
 * madvise and limits of address space, and its page table is not the program's. */
#ifndef PISO_TESTS_EMULATION_H
#define PISO_TESTS_EMULATION_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "skipping.h"

#define EMULATED        "the processor is emulated, and the emulator has nothing of the kind"
#define EXIT_OF_SKIPPED 77 /* for meson */

/* is_emulated: whether a forked child has a mapping that no forked child has on any kernel. */
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

/* leave_if_emulated: the same for all tests of a program; in its main. */
#define leave_if_emulated()                                                                                            \
    do {                                                                                                               \
        if (is_emulated()) {                                                                                           \
            puts("skipped: " EMULATED);                                                                                \
            return EXIT_OF_SKIPPED;                                                                                    \
        }                                                                                                              \
    } while (0)

#endif
