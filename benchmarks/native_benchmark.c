/* native_benchmark.c - the same channel that Python uses, C to C: what a call costs without Python.
 *
 * Runs itself a second time as the extension. Every figure is a median over batches; p99 is over single calls.
 * The first row is the floor: two processes that poll one cache line. */
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <piso/piso.h>

extern char **environ;

enum { ECHO, STOP };

static void die(const char *what, int error) {
    fprintf(stderr, "%s: %s\n", what, piso_strerror(error));
    exit(1);
}

static int check(const char *what, int result) {
    if (result < 0)
        die(what, result);
    return result;
}

/* next_event: waits as the binding does: polls, then sleeps. */
static void next_event(piso_session *s, piso_event *event) {
    for (;;) {
        int r = check("next", piso_session_next(s, event));
        if (r > 0)
            return;
        piso_session_poll_begin(s);
        int ready = piso_session_spin(s);
        ready |= piso_session_poll_end(s);
        if (!ready)
            check("wait", piso_session_wait(s, -1, -1));
    }
}

/* ---- the extension: answers every call with an integer ---- */

static int extension_main(void) {
    piso_session *s;
    check("attach", piso_session_attach(atoi(getenv("PISO_FD")), &s));
    for (;;) {
        piso_event event;
        piso_event_init(&event);
        next_event(s, &event);
        if (event.type != PISO_EVENT_REQUEST)
            continue;
        uint64_t id = event.id;
        bool stop = event.object == STOP;
        piso_event_fini(&event);
        piso_writer w;
        piso_writer_init(&w);
        piso_write_int(&w, 1);
        check("reply", piso_session_reply(s, id, false, &w));
        piso_writer_fini(&w);
        if (stop)
            return 0;
    }
}

/* ---- the host ---- */

static int compare(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void report(const char *name, int64_t *samples, int count, double floor_ns) {
    qsort(samples, (size_t)count, sizeof *samples, compare);
    double median = (double)samples[count / 2], p99 = (double)samples[count - 1 - count / 100];
    printf("%-36s %12.2f %12.2f %10.1f\n", name, median / 1e3, p99 / 1e3, floor_ns > 0 ? median / floor_ns : 1.0);
}

static void send_call(piso_session *s, piso_call *call, uint32_t object, uint32_t method, size_t body, size_t buffer) {
    static char text[8192];
    piso_writer w;
    piso_writer_init(&w);
    piso_write_array(&w, 1);
    if (body)
        piso_write_str(&w, text, body);
    else
        piso_write_int(&w, 7);
    if (buffer) {
        static char *source;
        piso_span span;
        void *data;
        if (!source && !(source = calloc(1, 64 << 20)))
            die("calloc", -ENOMEM);
        check("alloc", piso_session_alloc(s, buffer, &span, &data));
        memcpy(data, source, buffer);
        check("span", piso_writer_add_span(&w, &span));
    }
    check("call", piso_session_call(s, call, object, method, 0, 0, PISO_NO_DEADLINE, &w));
    piso_writer_fini(&w);
}

static void await_replies(piso_session *s, int count) {
    piso_event event;
    piso_event_init(&event);
    for (int i = 0; i < count; i++) {
        next_event(s, &event);
        piso_event_fini(&event);
    }
}

static void bench_calls(piso_session *s, const char *name, uint32_t method, size_t body, size_t buffer, int count,
                        unsigned pause_us, double floor_ns) {
    int64_t *samples = calloc((size_t)count, sizeof *samples);
    piso_call call;
    for (int i = -count / 10 - 1; samples && i < count; i++) {
        if (pause_us)
            usleep(pause_us);
        int64_t start = piso_now_ns();
        send_call(s, &call, ECHO, method, body, buffer);
        await_replies(s, 1);
        if (i >= 0)
            samples[i] = piso_now_ns() - start;
    }
    report(name, samples, count, floor_ns);
    free(samples);
}

static void bench_in_flight(piso_session *s, uint32_t method) {
    enum { CALLS = 1000, ROUNDS = 200 };
    static piso_call calls[CALLS];
    int64_t start = piso_now_ns();
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < CALLS; i++)
            send_call(s, &calls[i], ECHO, method, 0, 0);
        await_replies(s, CALLS);
    }
    double seconds = (double)(piso_now_ns() - start) / 1e9;
    printf("%-36s %12.0f calls/s\n", "1,000 in flight", CALLS * ROUNDS / seconds);
}

/* bench_copy: one warm copy, what large rows are compared to. */
static void bench_copy(const char *name, size_t size, int count, double floor_ns) {
    char *from = calloc(1, size), *to = calloc(1, size);
    int64_t *samples = calloc((size_t)count, sizeof *samples);
    if (!from || !to || !samples)
        die("calloc", -ENOMEM);
    memset(from, 1, size);
    memset(to, 1, size);
    for (int i = 0; i < count; i++) {
        int64_t start = piso_now_ns();
        memcpy(to, from, size);
        __asm__ volatile("" : : "r"(to) : "memory");
        samples[i] = piso_now_ns() - start;
    }
    report(name, samples, count, floor_ns);
    free(from);
    free(to);
    free(samples);
}

/* bench_floor: median round trip of two processes that poll one cache line. */
static double bench_floor(void) {
    enum { ROUNDS = 200000, BATCH = 100 };
    static int64_t samples[ROUNDS / BATCH];
    _Atomic uint32_t *line = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (line == MAP_FAILED)
        die("mmap", -errno);
    pid_t child = fork();
    if (child < 0)
        die("fork", -errno);
    if (child == 0) {
        for (uint32_t i = 0; i < ROUNDS; i++) {
            while (atomic_load_explicit(line, memory_order_acquire) != 2 * i + 1)
                ;
            atomic_store_explicit(line, 2 * i + 2, memory_order_release);
        }
        _exit(0);
    }
    int64_t start = piso_now_ns();
    for (uint32_t i = 0; i < ROUNDS; i++) {
        atomic_store_explicit(line, 2 * i + 1, memory_order_release);
        while (atomic_load_explicit(line, memory_order_acquire) != 2 * i + 2)
            ;
        if ((i + 1) % BATCH == 0) {
            int64_t now = piso_now_ns();
            samples[i / BATCH] = (now - start) / BATCH;
            start = now;
        }
    }
    waitpid(child, NULL, 0);
    report("floor: one cache line", samples, ROUNDS / BATCH, 0);
    return (double)samples[ROUNDS / BATCH / 2];
}

static int host_main(const char *program) {
    printf("%-36s %12s %12s %10s\n", "", "median us", "p99 us", "x floor");
    double floor_ns = bench_floor();
    const char *argv[] = {program, "extension", NULL};
    piso_spawn spawn = {.size = sizeof spawn,
                        .argv = argv,
                        .envp = (const char *const *)environ,
                        .name = "native",
                        .echo_stderr = true};
    piso_session *s;
    check("spawn", piso_session_spawn(&spawn, &s));
    check("handshake", piso_session_handshake(s, -1));
    uint32_t method;
    check("intern", piso_session_intern(s, "echo", 4, &method));
    bench_calls(s, "small call", method, 0, 0, 200000, 0, floor_ns);
    bench_calls(s, "110-byte string", method, 110, 0, 200000, 0, floor_ns);
    bench_calls(s, "4,000-byte string", method, 4000, 0, 50000, 0, floor_ns);
    bench_calls(s, "small call, both sides asleep", method, 0, 0, 500, 2000, floor_ns);
    bench_in_flight(s, method);
    bench_calls(s, "8 MB buffer", method, 0, 8 << 20, 200, 0, floor_ns);
    bench_copy("  one warm copy of 8 MB", 8 << 20, 200, floor_ns);
    bench_calls(s, "50 MB buffer", method, 0, 50 << 20, 50, 0, floor_ns);
    bench_copy("  one warm copy of 50 MB", 50 << 20, 50, floor_ns);
    piso_call call;
    send_call(s, &call, STOP, method, 0, 0);
    await_replies(s, 1);
    piso_stats stats = {.size = sizeof stats};
    piso_session_stats(s, &stats);
    printf("doorbells rung by the host: %llu\n", (unsigned long long)stats.doorbells_rung);
    piso_session_unref(s);
    return 0;
}

int main(int argc, char **argv) {
    return argc > 1 && strcmp(argv[1], "extension") == 0 ? extension_main() : host_main("/proc/self/exe");
}
