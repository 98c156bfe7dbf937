/* apply.c - what the child does before any code of the extension runs: sandbox.h, rule 3.
 *
 * The order matters. Control groups cannot be written to inside the namespaces. The namespaces need privileges
 * that later steps drop. The ruleset needs no_new_privs, or else a privilege that is about to be dropped.
 * Limits come when no more descriptors are needed. The filter comes last, since it refuses the calls that the
 * other steps make. */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/os.h"
#include "sandbox/apply.h"
#include "sandbox/blob.h"
#include "sandbox/landlock_abi.h"
#include "sandbox/namespaces.h"
#include "seccomp/filter.h"
#include "seccomp/refusals.h"

#define LAST_CAPABILITY 63 /* the last one that the kernel's sets have room for */
#define LOCKED_BITS                                                                                                    \
    (SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |                  \
     SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED)

#define call(...)                                                                                                      \
    ({                                                                                                                 \
        long r_ = syscall(__VA_ARGS__);                                                                                \
        (int)(r_ < 0 ? -errno : r_);                                                                                   \
    })

PISO__IN_CHILD static bool has(const piso__blob *b, piso_layer layer) {
    return b->layers & PISO__BIT(layer);
}

PISO__IN_CHILD static int set_limits(const piso__blob *b) {
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < b->nlimits; i++) {
        struct rlimit wanted = {.rlim_cur = b->limits[i].soft, .rlim_max = b->limits[i].hard}, is;
        r = call(SYS_prlimit64, 0, b->limits[i].resource, NULL, &is);
        /* a limit that is lower already stays */
        if (wanted.rlim_max > is.rlim_max)
            wanted.rlim_max = is.rlim_max;
        if (wanted.rlim_cur > wanted.rlim_max)
            wanted.rlim_cur = wanted.rlim_max;
        if (r == 0)
            r = call(SYS_prlimit64, 0, b->limits[i].resource, &wanted, NULL);
    }
    return r;
}

/* join: enters the control group of this file. */
PISO__IN_CHILD static int join(const char *path) {
    int fd = call(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return fd;
    int r = call(SYS_write, fd, "0", 1);
    syscall(SYS_close, fd);
    return r < 0 ? r : 0;
}

PISO__IN_CHILD static int join_all(const piso__blob *b) {
    const char *path = piso__blob_at(b, b->groups);
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < b->group_count; i++, path = piso__next_string(path))
        r = join(path);
    return r;
}

/* die_first: makes the kernel kill this process first when memory runs out, and not the host, which may be
 * larger: memory that a process shares and maps nowhere is not counted as its own. Later steps keep the process
 * from undoing it. It is not essential, and there may be no /proc. */
PISO__IN_CHILD static void die_first(void) {
    int fd = call(SYS_openat, AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    syscall(SYS_write, fd, "1000", 4);
    syscall(SYS_close, fd);
}

PISO__IN_CHILD static int add_rule(int ruleset, const char *path, uint64_t allowed) {
    int fd = call(SYS_openat, AT_FDCWD, path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    landlock_path_beneath rule = {.allowed = allowed, .parent_fd = fd};
    int r = call(SYS_landlock_add_rule, ruleset, LANDLOCK_PATH_BENEATH, &rule, 0);
    syscall(SYS_close, fd);
    return r;
}

/* add_lists: adds rules for folders of its root that contain only what is permitted, and for its terminals. */
PISO__IN_CHILD static int add_lists(const piso__blob *b, int ruleset) {
    const piso__step *steps = piso__blob_at(b, b->steps);
    int r = 0;
    for (uint32_t i = 0; r == 0 && b->list_access && i < b->step_count; i++)
        if (steps[i].kind == PISO__STEP_LIST || steps[i].kind == PISO__STEP_TERMINALS)
            r = add_rule(ruleset, piso__blob_at(b, steps[i].path),
                         steps[i].kind == PISO__STEP_LIST ? b->list_access : b->device_access);
    return r;
}

/* add_own_entry: adds rules for its entry in /proc, whole or in parts: Landlock has no rule that removes
 * something from a folder. The names there are no secret. Those of threads cannot be listed in advance: what
 * they can read is lost with the network, unless a driver needs it. */
PISO__IN_CHILD static int add_own_entry(const piso__blob *b, int ruleset) {
    if (!b->hides_network)
        return add_rule(ruleset, b->own_proc ? "/proc" : "/proc/self", b->read_access);
    int r = add_rule(ruleset, "/proc/self", b->read_access & LANDLOCK_FS_READ_DIR);
    for (const char *const *path = piso__own_files; r == 0 && *path; path++)
        r = add_rule(ruleset, *path, b->read_access & LANDLOCK_FS_READ_FILE);
    return r == 0 && b->thread_access ? add_rule(ruleset, PISO__THREADS, b->read_access) : r;
}

/* restrict_files: adds the rules that only the child can write: for its entry in /proc, which is not that of
 * the process that prepared the sandbox, and for the file systems that it has mounted. */
PISO__IN_CHILD static int restrict_files(const piso__blob *b, int ruleset_fd) {
    int r = add_lists(b, ruleset_fd);
    if (r == 0 && b->read_access)
        r = add_own_entry(b, ruleset_fd);
    if (r == 0 && b->thread_access)
        r = add_rule(ruleset_fd, PISO__THREADS, b->thread_access);
    if (r == 0 && b->write_access && has(b, PISO_LAYER_NAMESPACES))
        r = add_rule(ruleset_fd, "/dev/shm", b->write_access);
    if (r == 0 && b->write_access && b->temp && b->temp_size)
        r = add_rule(ruleset_fd, piso__blob_at(b, b->temp), b->write_access);
    return r == 0 ? call(SYS_landlock_restrict_self, ruleset_fd, 0) : r;
}

/* restrict_by: applies the ruleset that is in the socket. */
PISO__IN_CHILD static int restrict_by(const piso__blob *b, int fd) {
    int ruleset_fd = piso__refusals_take_ruleset(fd);
    int r = ruleset_fd < 0 ? ruleset_fd : restrict_files(b, ruleset_fd);
    if (ruleset_fd >= 0)
        syscall(SYS_close, ruleset_fd);
    return r;
}

/* drop_capabilities: drops all capabilities and the ways to get them back. Only a process with CAP_SETPCAP can
 * change bounding set and secure bits; one without it has nothing to lose. */
PISO__IN_CHILD static int drop_capabilities(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[2] = {{0}};
    for (int capability = 0; capability <= LAST_CAPABILITY; capability++)
        if (syscall(SYS_prctl, PR_CAPBSET_DROP, capability, 0, 0, 0) < 0)
            break; /* beyond the kernel's last one, or not permitted at all */
    syscall(SYS_prctl, PR_SET_SECUREBITS, LOCKED_BITS, 0, 0, 0);
    syscall(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return call(SYS_capset, &header, none);
}

PISO__IN_CHILD static int load_filter(const piso__blob *b, int fd) {
    struct sock_filter *program = piso__blob_at(b, b->filter);
    uint32_t self = (uint32_t)syscall(SYS_getpid);
    for (uint32_t i = 0; i < b->filter_count; i++)
        if (program[i].k == PISO__FILTER_OWN_PID && BPF_CLASS(program[i].code) == BPF_JMP)
            program[i].k = self;
    return piso__refusals_load(fd, program, b->filter_count);
}

PISO__IN_CHILD int piso__sandbox_apply(void *sandbox, int fd) {
    piso__sandbox *s = sandbox;
    const piso__blob *b = s->blob;
    int r = 0;
    s->failed_layer = PISO_LAYER_LIMITS;
    if ((r = join_all(b)) < 0)
        return r;
    if (has(b, PISO_LAYER_LIMITS))
        die_first();
    s->failed_layer = PISO_LAYER_NAMESPACES;
    if (has(b, PISO_LAYER_NAMESPACES) && (r = piso__namespaces_enter(b)) < 0)
        return r;
    s->failed_layer = PISO_LAYER_PRIVILEGES;
    if ((r = call(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) < 0)
        return r;
    s->failed_layer = PISO_LAYER_FILES;
    if (b->has_ruleset && (r = restrict_by(b, fd)) < 0)
        return r;
    s->failed_layer = PISO_LAYER_PRIVILEGES;
    if (has(b, PISO_LAYER_PRIVILEGES) && (r = drop_capabilities()) < 0)
        return r;
    s->failed_layer = PISO_LAYER_LIMITS;
    if (has(b, PISO_LAYER_LIMITS) && (r = set_limits(b)) < 0)
        return r;
    s->failed_layer = PISO_LAYER_SYSTEM_CALLS;
    if (b->filter_count && (r = load_filter(b, fd)) < 0)
        return r;
    return 0;
}
