/* chain_floor.c - the floor of a chain: a token goes from A through H to B and back the same way, between three
 * processes that do nothing else. Median and p99 of the whole way, for each way of waiting:
 *
 *     turns    polling, with sched_yield between polls
 *     sleep    a futex
 *     poll     polling alone: with two processors, until somebody's time slice ends */
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <piso/piso.h>

#define ROUNDS   20000
#define LIMIT_NS INT64_C(2000000000)

enum { TURNS, SLEEP, POLL };             /* ways of waiting */
enum { A_TO_H, H_TO_B, B_TO_H, H_TO_A }; /* mailboxes */

typedef struct mailbox {
    alignas(128) _Atomic uint32_t token;
} mailbox;

static mailbox *mailboxes;
static int way;

static void await(int which, uint32_t token) {
    _Atomic uint32_t *at = &mailboxes[which].token;
    for (uint32_t found; (found = atomic_load(at)) != token;) {
        if (way == TURNS)
            sched_yield();
        else if (way == SLEEP)
            syscall(SYS_futex, at, FUTEX_WAIT, found, NULL, NULL, 0);
    }
}

static void put(int which, uint32_t token) {
    atomic_store(&mailboxes[which].token, token);
    if (way == SLEEP)
        syscall(SYS_futex, &mailboxes[which].token, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* stay_on: keeps this process on one processor; -1: on any. */
static void stay_on(int processor) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor < 0 ? 0 : processor, &set);
    if (processor >= 0 && sched_setaffinity(0, sizeof set, &set) < 0)
        perror("sched_setaffinity");
}

/* start: a process that passes the token on, for ever. */
static pid_t start(int processor, bool is_host) {
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    stay_on(processor);
    for (uint32_t token = 1;; token++) {
        await(is_host ? A_TO_H : H_TO_B, token);
        put(is_host ? H_TO_B : B_TO_H, token);
        if (is_host) {
            await(B_TO_H, token);
            put(H_TO_A, token);
        }
    }
}

static int by_size(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* measure: where A and B are kept, and H. */
static void measure(const char *name, int how, int ends, int host) {
    static int64_t samples[ROUNDS];
    way = how;
    memset(mailboxes, 0, 4 * sizeof *mailboxes);
    pid_t h = start(host, true), b = start(ends, false), a = fork();
    if (h < 0 || b < 0 || a < 0)
        exit(1);
    if (a > 0) {
        while (waitid(P_PID, (id_t)a, NULL, WEXITED) < 0)
            ;
        kill(h, SIGKILL);
        kill(b, SIGKILL);
        return;
    }
    stay_on(ends);
    int count = 0;
    int64_t begin = piso_now_ns();
    for (int64_t now = begin; count < ROUNDS && now - begin < LIMIT_NS; count++) {
        put(A_TO_H, (uint32_t)count + 1);
        await(H_TO_A, (uint32_t)count + 1);
        int64_t then = piso_now_ns();
        samples[count] = then - now;
        now = then;
    }
    qsort(samples, (size_t)count, sizeof *samples, by_size);
    printf("%-44s %10.2f %10.2f\n", name, (double)samples[count / 2] / 1e3, (double)samples[count * 99 / 100] / 1e3);
    fflush(stdout);
    _exit(0);
}

int main(void) {
    mailboxes = mmap(NULL, 4 * sizeof *mailboxes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (mailboxes == MAP_FAILED)
        return 1;
    printf("%-44s %10s %10s\n", "A, H, B, H, A", "median us", "p99 us");
    fflush(stdout);
    measure("turns, A and B on one processor, H on another", TURNS, 0, 1);
    measure("turns, all on one processor", TURNS, 0, 0);
    measure("turns, where the kernel puts them", TURNS, -1, -1);
    measure("sleep, A and B on one processor, H on another", SLEEP, 0, 1);
    measure("sleep, all on one processor", SLEEP, 0, 0);
    measure("sleep, where the kernel puts them", SLEEP, -1, -1);
    measure("poll, where the kernel puts them", POLL, -1, -1);
    return 0;
}
