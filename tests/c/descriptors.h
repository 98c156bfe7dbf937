/* descriptors.h - descriptors as a hostile peer would send them, and a count of those that a test leaves open. */
#ifndef PISO_TESTS_DESCRIPTORS_H
#define PISO_TESTS_DESCRIPTORS_H

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* open_again: opens the same file with other rights; closes `fd`. */
static inline int open_again(int fd, int flags) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = open(path, flags | O_CLOEXEC);
    close(fd);
    return again;
}

static inline int count_fds(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

#endif
