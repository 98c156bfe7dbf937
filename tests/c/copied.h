/* copied.h - runs a test program as other users, from a copy that they can access: root's files may be in a
 * folder that only root can enter. */
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

#define COPIED "PISO_TEST_COPIED" /* an environment variable of the copy's process */

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
    close(to); /* a file that is open for writing cannot be executed */
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
