/* copied.h - a test program that runs as other users, copied to where these reach it: root's files may lie in a folder that
 * is root's alone. */
#ifndef PISO_TESTS_COPIED_H
#define PISO_TESTS_COPIED_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/os.h"

#define COPIED "PISO_TEST_COPIED" /* a variable of the copy's process */

/* run_copy: runs a copy of this program, without arguments, and returns its exit status, or 1. */
static int run_copy(void) {
    char path[] = "/tmp/piso-test-program-XXXXXX";
    piso__autoclose int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int to = mkostemp(path, O_CLOEXEC);
    if (from < 0 || to < 0)
        return 1;
    ssize_t n;
    do {
        n = sendfile(to, from, NULL, 1 << 30);
    } while (n > 0);
    bool copied = n == 0 && fchmod(to, 0755) == 0;
    close(to); /* a file that somebody can write to cannot be run */
    pid_t pid = copied ? fork() : -1;
    if (pid == 0) {
        setenv(COPIED, "1", true);
        execl(path, path, NULL);
        _exit(1);
    }
    int status = -1;
    if (pid > 0)
        waitpid(pid, &status, 0);
    unlink(path);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

#endif
