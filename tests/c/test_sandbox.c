/* test_sandbox.c - a confined child from start to end, in each of the environments of hosts: root, an ordinary
 * user, no capabilities, no namespaces, older kernels. What each layer refuses in detail is tested from Python,
 * where escapes are easier to write (tests/python/sandbox/test_sandbox.py).
 *
 * The child is this program again. Its exit status is 0 when its action succeeded, else errno. */
#include "sandbox/apply.h"
#include "sandbox/plan/prepare.h"
#include "sandbox/sandbox.h"
#include "sandbox_child.h"

#define LONG_ENOUGH INT64_C(30000000000)
#define ALL         ((1U << PISO_LAYERS) - 1)
#define NOBODY      65534

/* ---- the host ---- */

static char folder[] = "/tmp/piso-test-XXXXXX", temp[64], secret[64];
static piso_sandbox_report report;

#define LIMITS(...)                                                                                                    \
    &(const piso_limits) {                                                                                             \
        .size = sizeof(piso_limits), __VA_ARGS__                                                                       \
    }

/* start: returns the child's exit status, minus its signal, or the error of the start if below -4000. */
static int start(piso_sandbox spec, const char *what, const char *argument) {
    const char *const argv[] = {"/proc/self/exe", what, argument, NULL};
    const char *const envp[] = {"ASAN_OPTIONS=detect_leaks=0", NULL};
    spec.temp = temp;
    piso_spawn spawn = {.size = sizeof spawn,
                        .argv = argv,
                        .envp = envp,
                        .name = what,
                        .sandbox = &spec,
                        .report = &report,
                        .echo_stderr = true};
    piso__autoclose int ours = -1, theirs = -1;
    int pair[2];
    piso_process *p;
    assert_int_equal(piso__socketpair(pair), 0);
    ours = pair[0], theirs = pair[1];
    int r = piso__process_spawn(&spawn, theirs, &p);
    if (r < 0)
        return r;
    piso_exit status;
    assert_int_equal(piso_process_wait(p, LONG_ENOUGH, &status), 1);
    piso__process_unref(p);
    return status.signal ? -status.signal : status.code;
}

static const piso_sandbox strict = {0};

/* can_drop_bounding: whether the bounding set can be dropped, which needs a capability that an ordinary user
 * has only in a namespace. Without it no_new_privs keeps the bounding set from granting anything. */
static bool can_drop_bounding(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {0};
    return report.layers[PISO_LAYER_NAMESPACES].active ||
           (syscall(SYS_capget, &header, data) == 0 && data[0].effective & 1U << CAP_SETPCAP);
}

/* expect_confined: checks what must hold in every environment. */
static void expect_confined(piso_sandbox spec) {
    char path[96];
    snprintf(path, sizeof path, "%s/new", temp);
    assert_int_equal(start(spec, "nothing", NULL), 0);
    unlink(path); /* possibly another user's */
    assert_int_equal(start(spec, "write", path), 0);
    int r = start(spec, "read", secret);
    assert_true(r == EACCES || r == ENOENT); /* it does not exist in a private root */
    assert_int_not_equal(start(spec, "write", secret), 0);
    assert_int_not_equal(start(spec, "chmod", secret), 0);
    assert_int_equal(start(spec, "socket", NULL), EPERM);
    int unshared = start(spec, "unshare", NULL);
    assert_true(unshared == EINVAL || unshared == EPERM); /* the other is from outside */
    assert_int_equal(start(spec, "signal", NULL), EPERM);
    assert_int_equal(start(spec, "signal-self", NULL), 0);
    assert_int_equal(start(spec, "capabilities", NULL), 0);
    if (can_drop_bounding())
        assert_int_equal(start(spec, "capabilities", "Bnd"), 0);
    assert_true(report.layers[PISO_LAYER_FILES].active);
    assert_true(report.layers[PISO_LAYER_SYSTEM_CALLS].active);
}

/* in_fork: runs a test in its own process, which may drop its own privileges. A failing assertion ends that
 * process only; the tests that follow run in the host. */
static void in_fork(void (*test)(void)) {
    pid_t pid = fork();
    if (pid == 0) {
        setenv("CMOCKA_TEST_ABORT", "1", 1);
        test();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void as_we_are(void **state) {
    (void)state;
    expect_confined(strict);
    assert_int_equal(report.layers[PISO_LAYER_NAMESPACES].active, piso__namespaces_probe() == 0);
}

static void become_nobody(void) {
    assert_int_equal(setgroups(0, NULL), 0);
    assert_int_equal(setresgid(NOBODY, NOBODY, NOBODY), 0);
    assert_int_equal(setresuid(NOBODY, NOBODY, NOBODY), 0);
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* as after an exec: /proc/self is this user's */
}

static void ordinary_user_body(void) {
    assert_int_equal(chown(folder, NOBODY, NOBODY) | chown(temp, NOBODY, NOBODY) | chown(secret, NOBODY, NOBODY), 0);
    become_nobody();
    expect_confined(strict);
}

static void ordinary_user(void **state) {
    (void)state;
    if (geteuid() != 0)
        skip_because("only root can become another user; as_we_are is that user's test");
    in_fork(ordinary_user_body);
    assert_int_equal(chown(folder, 0, 0) | chown(temp, 0, 0) | chown(secret, 0, 0), 0);
}

static void no_capabilities_body(void) {
    for (int capability = 0; capability < 64; capability++)
        prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {0};
    assert_int_equal(syscall(SYS_capset, &header, none), 0);
    expect_confined(strict);
}

static void container_without_capabilities(void **state) {
    (void)state;
    in_fork(no_capabilities_body);
}

/* forbid: makes this system call fail from now on. */
static void forbid(uint32_t call, uint32_t error) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

/* Simulates a container's filter, or a kernel that forbids namespaces. */
static void no_namespaces_body(void) {
    forbid(SYS_unshare, EPERM);
    expect_confined(strict);
    assert_false(report.layers[PISO_LAYER_NAMESPACES].active);
    assert_non_null(strstr(report.layers[PISO_LAYER_NAMESPACES].detail, "not permitted"));
    piso_sandbox spec = {.limits = LIMITS(.temp_size = 1 << 20)};
    assert_int_equal(start(spec, "nothing", NULL), PISO_ESANDBOX);
    assert_non_null(strstr(report.layers[PISO_LAYER_LIMITS].detail, "temporary space"));
}

static void namespaces_forbidden(void **state) {
    (void)state;
    in_fork(no_namespaces_body);
}

/* Simulates a kernel with Landlock switched off. */
static void no_landlock_body(void) {
    forbid(SYS_landlock_create_ruleset, EOPNOTSUPP);
    assert_int_equal(start(strict, "nothing", NULL), PISO_ESANDBOX);
    for (piso_layer layer = 0; layer < PISO_LAYERS; layer++)
        assert_true(!report.layers[layer].active && (layer == PISO_LAYER_FILES) == !!report.layers[layer].detail[0]);
    assert_non_null(strstr(report.layers[PISO_LAYER_FILES].detail, "'lsm='"));
}

static void what_is_missing_is_told(void **state) {
    (void)state;
    in_fork(no_landlock_body);
}

static void failure_body(void) {
    assert_int_equal(piso__namespaces_probe(), 0);
    forbid(SYS_unshare, EPERM);
    assert_int_equal(start(strict, "nothing", NULL), PISO_ESANDBOX);
    assert_non_null(strstr(report.layers[PISO_LAYER_NAMESPACES].detail, "could not be applied"));
    assert_false(report.layers[PISO_LAYER_FILES].active);
}

/* A step that fails in the child ends the start, and the report names the layer. */
static void failure_in_the_child_is_told(void **state) {
    (void)state;
    if (piso__namespaces_probe() < 0)
        skip_because("this process can make no namespaces, so they cannot fail later");
    in_fork(failure_body);
}

/* The layers of Landlock in the order of their versions. */
static void old_kernels(void **state) {
    (void)state;
    for (int version = 1; version <= 7; version++) {
        piso__landlock_newest = version;
        expect_confined(strict);
        expect_confined((piso_sandbox){.omit = PISO__BIT(PISO_LAYER_NAMESPACES)});
        if (version < PISO__LANDLOCK_SIGNALS)
            assert_int_equal(start(strict, "join-group", NULL), EPERM);
    }
}

static void holes_are_refused_where_they_are_dangerous(void **state) {
    (void)state;
    for (int strict_memory = 0; strict_memory < 2; strict_memory++) {
        piso__strict_memory = strict_memory;
        assert_int_equal(start(strict, "punch", NULL), strict_memory ? EOPNOTSUPP : 0);
        assert_int_equal(start(strict, "remove", NULL), strict_memory ? EINVAL : 0);
        expect_confined(strict);
    }
    piso__strict_memory = -1;
}

static void an_extension_has_fewer_descriptors_than_its_host(void **state) {
    (void)state;
    char share[32];
    snprintf(share, sizeof share, "%llu", (unsigned long long)piso__fd_share());
    assert_int_equal(start(strict, "fewer-files", share), 0);
}

static void an_extension_dies_before_its_host(void **state) {
    (void)state;
    const piso_sandbox no_namespaces = {.omit = PISO__BIT(PISO_LAYER_NAMESPACES)};
    int r = start(strict, "dies-first", NULL);
    assert_true(r == EACCES || r == EROFS); /* it can see that, and not change it */
    assert_int_equal(start(no_namespaces, "dies-first", NULL), EACCES);
}

static void nothing_holds_without_its_layer(void **state) {
    (void)state;
    const piso_sandbox only_root = {.omit = PISO__BIT(PISO_LAYER_FILES) | PISO__BIT(PISO_LAYER_SYSTEM_CALLS)};
    if (piso__root_probe() == 0)
        assert_int_equal(start(only_root, "read", secret), ENOENT);
    const piso_sandbox open_files = {.omit = PISO__BIT(PISO_LAYER_FILES) | PISO__BIT(PISO_LAYER_NAMESPACES) |
                                             PISO__BIT(PISO_LAYER_SYSTEM_CALLS)};
    assert_int_equal(start(open_files, "read", secret), 0);
    assert_int_equal(start(open_files, "chmod", secret), 0);
    assert_int_equal(start((piso_sandbox){.omit = PISO__BIT(PISO_LAYER_SIGNALS)}, "signal", NULL), 0);
    assert_int_equal(start((piso_sandbox){.omit = PISO__BIT(PISO_LAYER_SYSTEM_CALLS)}, "socket", NULL), 0);
    assert_int_equal(start((piso_sandbox){.omit = ALL}, "write", secret), 0);
    assert_string_equal(report.layers[PISO_LAYER_FILES].detail, "left out on request");
}

static void lists_are_kept(void **state) {
    (void)state;
    const char *const one[] = {secret, "/does/not/exist", NULL};
    assert_int_equal(start((piso_sandbox){.readable = one}, "read", secret), 0);
    assert_int_equal(start((piso_sandbox){.readable = one}, "write", secret),
                     piso__namespaces_probe() ? EACCES : EROFS);
    assert_int_equal(start((piso_sandbox){.writable = one}, "write", secret), 0);
    assert_int_equal(start((piso_sandbox){.network = true}, "socket", NULL), 0);
    int refused = start(strict, "read", "/dev/ptmx");
    assert_true(refused == EACCES || refused == ENOENT);
    const char *const device[] = {"/dev/ptmx", NULL};
    piso__autoclose int here = open(device[0], O_RDONLY | O_CLOEXEC); /* fails without a file system of terminals */
    assert_int_equal(start((piso_sandbox){.devices = device}, "read", device[0]), here < 0 ? errno : 0);
}

static void limits_are_kept(void **state) {
    (void)state;
    char path[96];
    snprintf(path, sizeof path, "%s/large", temp);
    assert_int_equal(start(strict, "memory", NULL), 0);
#ifndef __SANITIZE_ADDRESS__ /* whose own memory takes terabytes */
    assert_int_equal(start((piso_sandbox){.limits = LIMITS(.memory = 256 << 20)}, "memory", NULL), ENOMEM);
#endif
    assert_int_equal(start((piso_sandbox){.limits = LIMITS(.cpu_seconds = 1)}, "burn", NULL), -SIGXCPU);
    assert_int_equal(start(strict, "fill", path), 0);
    assert_int_equal(start((piso_sandbox){.limits = LIMITS(.file_size = 1 << 20)}, "fill", path), EFBIG);
    assert_int_equal(start(strict, "descriptors", NULL), 0);
    assert_int_equal(start((piso_sandbox){.limits = LIMITS(.open_files = 8)}, "descriptors", NULL), EMFILE);
    if (piso__namespaces_probe() == 0)
        assert_int_equal(start((piso_sandbox){.limits = LIMITS(.temp_size = 1 << 20)}, "fill", path), ENOSPC);
}

/* expect_counted: with namespaces, in which the kernel counts a user's processes from 0, or with a control
 * group. */
static void expect_counted(void) {
    assert_int_equal(start((piso_sandbox){.limits = LIMITS(.processes = 1)}, "fork", NULL), EAGAIN);
    assert_int_equal(start((piso_sandbox){.limits = LIMITS(.processes = 2)}, "fork", NULL), 0);
}

static bool has_group(void) {
    return strstr(report.layers[PISO_LAYER_LIMITS].detail, "control group");
}

static void processes_are_counted(void **state) {
    (void)state;
    int r = start((piso_sandbox){.limits = LIMITS(.processes = 1)}, "fork", NULL);
    assert_true(r == EAGAIN || r == PISO_ESANDBOX); /* never: not reported, and not counted */
    if (r == EAGAIN && (has_group() || piso__namespaces_probe() == 0))
        expect_counted();
}

static void processes_of_a_user_body(void) {
    assert_int_equal(chown(folder, NOBODY, NOBODY) | chown(temp, NOBODY, NOBODY), 0);
    become_nobody();
    expect_counted();
    assert_false(has_group());
}

static void processes_of_a_user(void **state) {
    (void)state;
    if (geteuid() != 0 || piso__namespaces_probe() < 0)
        skip_because("this needs root, and namespaces, in which a user's processes are counted from 0");
    in_fork(processes_of_a_user_body);
    assert_int_equal(chown(folder, 0, 0) | chown(temp, 0, 0), 0);
}

static void put(const char *path, const char *text) {
    piso__autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

/* The root of a container is another user outside: the kernel counts its processes. */
static void processes_of_a_containers_root_body(void) {
    assert_int_equal(chown(folder, NOBODY, NOBODY) | chown(temp, NOBODY, NOBODY), 0);
    become_nobody();
    assert_int_equal(unshare(CLONE_NEWUSER), 0);
    put("/proc/self/uid_map", "0 65534 1");
    put("/proc/self/setgroups", "deny");
    put("/proc/self/gid_map", "0 65534 1");
    assert_int_equal(geteuid(), 0);
    expect_counted();
    assert_false(has_group());
}

static void processes_of_a_containers_root(void **state) {
    (void)state;
    if (geteuid() != 0 || piso__namespaces_probe() < 0)
        skip_because("this needs root, and namespaces to make such a container of");
    in_fork(processes_of_a_containers_root_body);
    assert_int_equal(chown(folder, 0, 0) | chown(temp, 0, 0), 0);
}

/* without_groups_body: simulates a container whose control groups are mounted read-only. */
static void without_groups_body(void) {
#ifdef SYS_mkdir
    forbid(SYS_mkdir, EROFS);
#endif
    forbid(SYS_mkdirat, EROFS);
    assert_int_equal(start((piso_sandbox){.limits = LIMITS(.processes = 1)}, "fork", NULL), PISO_ESANDBOX);
    const char *detail = report.layers[PISO_LAYER_LIMITS].detail;
    assert_false(report.layers[PISO_LAYER_LIMITS].active);
    assert_non_null(strstr(detail, "'processes' of root"));
    assert_non_null(strstr(detail, "run as another user or make /sys/fs/cgroup writable")); /* not cut */
    assert_int_equal(start(strict, "fork", NULL), 0);
}

static void a_limit_that_cannot_hold_is_told(void **state) {
    (void)state;
    if (geteuid() != 0 || piso__kernel_counts_processes())
        skip_because("the kernel's own limit holds for this user");
    in_fork(without_groups_body);
}

static void prepared_sandbox_can_be_sent(void **state) {
    (void)state;
    piso__sandbox *s, *copy = NULL;
    size_t size;
    piso_sandbox spec = {.temp = temp};
    assert_int_equal(piso__sandbox_prepare(&spec, "/proc/self/exe", &s, &report), 0);
    const void *data = piso__sandbox_export(s, &size);
    int sent = piso__fd_dup(piso__sandbox_fd(s));
    assert_true(sent >= 0);
    for (size_t cut = 0; cut < size; cut += 7)
        assert_int_equal(piso__sandbox_import(data, cut, sent, &copy), -EPROTO);
    assert_int_equal(piso__sandbox_import(data, size, sent, &copy), 0);
    piso__sandbox_free(s);
    pid_t pid = fork();
    if (pid == 0) {
        if (piso__sandbox_apply(copy, piso__sandbox_fd(copy)) < 0)
            _exit(1);
        _exit(open(secret, O_RDONLY) < 0 && (errno == EACCES || errno == ENOENT) && socket(AF_INET, SOCK_STREAM, 0) < 0
                  ? 0
                  : 2);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    piso__sandbox_free(copy);
}

static void machine_without_filter_is_told(void **state) {
    (void)state;
    assert_int_equal(start(strict, "nothing", NULL), PISO_ESANDBOX);
    assert_non_null(strstr(report.layers[PISO_LAYER_SYSTEM_CALLS].detail, "this machine"));
    assert_int_equal(start((piso_sandbox){.omit = PISO__BIT(PISO_LAYER_SYSTEM_CALLS)}, "nothing", NULL), 0);
}

static bool has_filter(void) {
    struct sock_filter *program = NULL;
    int r = piso__filter_build((piso__filter_options){0}, &program);
    free(program);
    return r > 0;
}

static int make_folder(void **state) {
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(temp, sizeof temp, "%s/temp", folder);
    snprintf(secret, sizeof secret, "%s/secret", folder);
    return mkdir(temp, 0700) < 0 || try_write(secret) ? -1 : 0;
}

static int remove_folder(void **state) {
    (void)state;
    char path[96];
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", temp, i ? "large" : "new");
        unlink(path);
    }
    unlink(secret);
    rmdir(temp);
    return rmdir(folder);
}

int main(int argc, char **argv) {
    if (argc > 1)
        return child_main(argv[1], argv[2]);
    if (geteuid() == 0 && !getenv(COPIED))
        return run_copy();
    leave_if_emulated();
    if (getpgrp() == 0) /* its group has no number in this PID namespace, so nobody could try to join it */
        setpgid(0, 0);
    const struct CMUnitTest without[] = {cmocka_unit_test(machine_without_filter_is_told)};
    if (!has_filter())
        return cmocka_run_group_tests(without, make_folder, remove_folder);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_we_are),
        cmocka_unit_test(ordinary_user),
        cmocka_unit_test(container_without_capabilities),
        cmocka_unit_test(namespaces_forbidden),
        cmocka_unit_test(what_is_missing_is_told),
        cmocka_unit_test(failure_in_the_child_is_told),
        cmocka_unit_test(old_kernels),
        cmocka_unit_test(holes_are_refused_where_they_are_dangerous),
        cmocka_unit_test(an_extension_dies_before_its_host),
        cmocka_unit_test(an_extension_has_fewer_descriptors_than_its_host),
        cmocka_unit_test(nothing_holds_without_its_layer),
        cmocka_unit_test(lists_are_kept),
        cmocka_unit_test(limits_are_kept),
        cmocka_unit_test(processes_are_counted),
        cmocka_unit_test(processes_of_a_user),
        cmocka_unit_test(processes_of_a_containers_root),
        cmocka_unit_test(a_limit_that_cannot_hold_is_told),
        cmocka_unit_test(prepared_sandbox_can_be_sent),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
