/* landlock.c - which files can be opened, run, made and removed, and the rules on TCP and signals.
 *
 * A rule belongs to an inode and covers everything below it. So a path that a link names, or that is in a
 * folder which does not exist yet, cannot be accessed by another name. The child adds the rules that the host
 * cannot write, because they are for objects that only the child has (its own /proc entry, its private mounts). */
#include "sandbox/landlock.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/cgroup.h"
#include "os/os.h"
#include "sandbox/landlock_abi.h"

/* Programs and libraries, and what they read at start-up. No configuration that may contain a secret or a
 * user's name; not all of /usr, where applications keep theirs. */
static const char *const system_paths[] = {
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/bin",
    "/usr/share",
    "/usr/include",
    "/usr/local/include",
    "/usr/local/lib",
    "/lib",
    "/lib32",
    "/lib64",
    "/bin",
    "/sbin/ldconfig", /* ctypes runs it to find a library */
    "/sbin/ldconfig.real",
    "/usr/sbin/ldconfig",
    "/usr/sbin/ldconfig.real",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/os-release", /* a link into /usr/lib */
    "/etc/debian_version",
    "/etc/lsb-release",
    "/etc/redhat-release",
    "/etc/mime.types",
    "/etc/fonts",
    "/etc/nsswitch.conf",
    "/etc/gitconfig",
    "/etc/ssl/openssl.cnf",
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/etc/ca-certificates",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/loadavg",
    "/proc/uptime",
    "/proc/filesystems",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/cap_last_cap",
    "/proc/sys/kernel/random",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/kernel/mm/transparent_hugepage",
    NULL,
};

/* lies_in: whether a path is one of the folders or inside one, whatever links lead there. */
static bool lies_in(const char *path, const char *const *folders) {
    char real[PATH_MAX], folder[PATH_MAX];
    if (!realpath(path, real))
        return false;
    for (; folders && *folders; folders++) {
        size_t n = realpath(*folders, folder) ? strlen(folder) : 0;
        if (n > 0 && strncmp(real, folder, n) == 0 && (real[n] == '\0' || real[n] == '/' || n == 1))
            return true;
    }
    return false;
}

int piso__landlock_hides(const piso_sandbox *spec, char *why, size_t size) {
    for (const char *const *path = spec->hidden; path && *path; path++) {
        const char *where = lies_in(*path, spec->writable) ? "that can be written to"
                            : lies_in(*path, system_paths) ? "of the system's programs"
                                                           : NULL;
        if (where) {
            snprintf(why, size,
                     "a path in a folder %s can be excluded only with namespaces and without 'local_sockets': %s",
                     where, *path);
            return PISO_ESANDBOX;
        }
    }
    return 0;
}

static const char *const network_paths[] = {
    "/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/gai.conf", "/etc/services", "/etc/protocols", NULL,
};

/* Read by drivers of graphics processors. */
static const char *const device_paths[] = {
    "/proc/driver/nvidia",
    "/proc/driver/nvidia-uvm",
    "/proc/modules",
    "/proc/devices",
    "/sys/module",
    "/sys/class",
    "/sys/bus/pci",
    "/sys/devices",
    "/etc/OpenCL",
    "/etc/vulkan",
    "/usr/local/cuda",
    "/usr/local/nvidia",
    NULL,
};

static const char *const common_devices[] = {
    "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", NULL,
};

typedef struct rights {
    uint64_t read, list, write, device; /* rights for the kinds of lists in the spec */
} rights;

/* Rights that a rule on a file may give, as opposed to one on a folder. */
#define ON_FILES                                                                                                       \
    (LANDLOCK_FS_EXECUTE | LANDLOCK_FS_WRITE_FILE | LANDLOCK_FS_READ_FILE | LANDLOCK_FS_TRUNCATE |                     \
     LANDLOCK_FS_IOCTL_DEV)

static uint64_t handled_fs(int version) {
    return LANDLOCK_FS_V1 | (version >= 2 ? LANDLOCK_FS_REFER : 0) | (version >= 3 ? LANDLOCK_FS_TRUNCATE : 0) |
           (version >= 5 ? LANDLOCK_FS_IOCTL_DEV : 0);
}

int piso__landlock_newest = 7;

piso__landlock piso__landlock_probe(void) {
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION_FLAG);
    if (version > piso__landlock_newest)
        version = piso__landlock_newest;
    return version > 0 ? (piso__landlock){.version = (int)version} : (piso__landlock){.error = errno};
}

/* Under memory pressure the kernel drops the inodes of /proc and makes new ones, to which no rule belongs. An
 * inode that somebody holds open stays, so this process holds them for its whole life. The list only grows, at
 * its front. */
#define PINS_MAX 32
typedef struct pinned {
    struct pinned *next;
    int fd, count; /* count: pins from this one to the end of the list */
    char path[64];
} pinned;
static _Atomic(pinned *) pins;

static bool is_pinned(const pinned *first, const char *path) {
    while (first && strcmp(first->path, path) != 0)
        first = first->next;
    return first != NULL;
}

/* pin: keeps a path below /proc open. When there is no room it does not. */
static void pin(const char *path) {
    if (strncmp(path, "/proc/", 6) != 0 || strlen(path) >= sizeof((pinned *)NULL)->path)
        return;
    pinned *first = atomic_load_explicit(&pins, memory_order_acquire);
    if (is_pinned(first, path) || (first && first->count == PINS_MAX))
        return;
    pinned *p = malloc(sizeof *p);
    if (!p)
        return;
    strcpy(p->path, path);
    p->fd = open(path, O_PATH | O_CLOEXEC);
    do {
        p->next = first;
        p->count = first ? first->count + 1 : 1;
        if (p->fd < 0 || is_pinned(first, path) || p->count > PINS_MAX) { /* another thread was faster */
            piso__fd_close(p->fd);
            free(p);
            return;
        }
    } while (!atomic_compare_exchange_weak_explicit(&pins, &first, p, memory_order_acq_rel, memory_order_acquire));
}

/* adding: where permitted paths are added. */
typedef struct adding {
    int ruleset; /* -1: no rules on files */
    piso__paths *paths;
} adding;

/* add: adds the place of a path, if it exists, and a rule for it. */
static int add(adding to, const char *path, piso__use use, uint64_t allowed) {
    struct stat st;
    pin(path);
    piso__autoclose int fd = piso__paths_open(to.paths, path, use, &st);
    if (fd < 0)
        return fd == -ENOMEM || fd == -EMFILE || fd == -ENFILE ? fd : 0;
    if (!S_ISDIR(st.st_mode))
        allowed &= ON_FILES;
    landlock_path_beneath rule = {.allowed = allowed, .parent_fd = fd};
    if (to.ruleset < 0 || allowed == 0 ||
        syscall(SYS_landlock_add_rule, to.ruleset, LANDLOCK_PATH_BENEATH, &rule, 0) == 0)
        return 0;
    return errno == EBADFD ? 0 : -errno; /* EBADFD: a file without a place, such as a pipe; it needs no rule */
}

static int add_all(adding to, const char *const *paths, piso__use use, uint64_t allowed) {
    int r = 0;
    for (; r == 0 && paths && *paths; paths++)
        r = add(to, *paths, use, allowed);
    return r;
}

static int add_system(adding to, const piso_sandbox *spec, uint64_t allowed) {
    int r = add_all(to, system_paths, PISO__USE_READ, allowed);
    if (r == 0 && spec->network)
        r = add_all(to, network_paths, PISO__USE_READ, allowed);
    if (r == 0 && spec->devices && spec->devices[0])
        r = add_all(to, device_paths, PISO__USE_READ, allowed);
    return r;
}

/* add_group: permits reading what a control group's folder says about limits and usage, for programs that ask
 * how much they may use. Not its processes, and not what is below it. */
static void add_group(const char *folder, void *argument) {
    static const char *const names[] = {"cpu.max",
                                        "cpu.cfs_quota_us",
                                        "cpu.cfs_period_us",
                                        "memory.max",
                                        "memory.limit_in_bytes",
                                        "memory.usage_in_bytes",
                                        "memory.current",
                                        "memory.stat"};
    char path[PATH_MAX + 32];
    const adding *to = argument;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        if (access(path, F_OK) == 0)
            add(*to, path, PISO__USE_READ, LANDLOCK_FS_READ_FILE); /* if this fails, programs cannot ask */
    }
}

static void add_groups(adding to, const piso__group *group) {
    struct stat st;
    const char *path;
    piso__fd_close(piso__paths_open(to.paths, "/sys/fs/cgroup", PISO__USE_READ, &st)); /* its place, without a rule */
    for (int i = 0; group && (path = piso__group_path(group, i)); i++)
        add_group(path, &to);
    piso__cgroup_walk("cpu", add_group, &to);
    piso__cgroup_walk("memory", add_group, &to);
}

static int add_files(adding to, const piso_sandbox *spec, const char *program, const piso__group *group, rights allow) {
    int r = add_system(to, spec, allow.read);
    add_groups(to, group);
    if (r == 0)
        r = add(to, program, PISO__USE_READ, allow.read);
    if (r == 0)
        r = add_all(to, spec->readable, PISO__USE_READ, allow.read);
    if (r == 0)
        r = add_all(to, spec->listed, PISO__USE_LIST, allow.list);
    if (r == 0)
        r = add_all(to, spec->writable, PISO__USE_WRITE, allow.write);
    if (r == 0 && spec->temp)
        r = add(to, spec->temp, PISO__USE_WRITE, allow.write);
    if (r == 0)
        r = add_all(to, common_devices, PISO__USE_DEVICE, allow.device & ~LANDLOCK_FS_IOCTL_DEV);
    if (r == 0)
        r = add_all(to, spec->devices, PISO__USE_DEVICE, allow.device);
    return r == 0 ? add_all(to, spec->hidden, PISO__USE_HIDE, 0) : r;
}

int piso__landlock_ruleset(const piso_sandbox *spec, const char *program, const piso__group *group, uint32_t layers,
                           piso__landlock landlock, piso__blob *blob, piso__paths *paths, int *ret_fd) {
    landlock_ruleset_v6 attributes = {0};
    if (layers & PISO__BIT(PISO_LAYER_FILES))
        attributes.handled_fs = handled_fs(landlock.version);
    if (layers & PISO__BIT(PISO_LAYER_NETWORK) && landlock.version >= PISO__LANDLOCK_NETWORK)
        attributes.handled_net = LANDLOCK_NET_BOTH;
    if (layers & PISO__BIT(PISO_LAYER_SIGNALS) && landlock.version >= PISO__LANDLOCK_SIGNALS)
        attributes.scoped = LANDLOCK_SCOPE_BOTH;
    if (!attributes.handled_fs && !attributes.handled_net && !attributes.scoped)
        return add_files((adding){-1, paths}, spec, program, group, (rights){0});
    size_t size = landlock.version >= PISO__LANDLOCK_SIGNALS   ? sizeof attributes
                  : landlock.version >= PISO__LANDLOCK_NETWORK ? offsetof(landlock_ruleset_v6, scoped)
                                                               : offsetof(landlock_ruleset_v6, handled_net);
    piso__autoclose int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attributes, size, 0);
    if (ruleset < 0)
        return -errno;
    uint64_t all = attributes.handled_fs;
    rights allow = {
        .read = all & (LANDLOCK_FS_EXECUTE | LANDLOCK_FS_READ_FILE | LANDLOCK_FS_READ_DIR),
        .list = all & LANDLOCK_FS_READ_DIR,
        .write = all & ~(LANDLOCK_FS_MAKE_CHAR | LANDLOCK_FS_MAKE_BLOCK | LANDLOCK_FS_IOCTL_DEV),
        .device = all & (LANDLOCK_FS_READ_FILE | LANDLOCK_FS_WRITE_FILE | LANDLOCK_FS_READ_DIR | LANDLOCK_FS_IOCTL_DEV),
    };
    blob->read_access = allow.read;
    blob->write_access = allow.write;
    /* CUDA's driver sets names of its threads through files in /proc/self/task, and does not start if it cannot */
    if (spec->devices && spec->devices[0])
        blob->thread_access = all & (LANDLOCK_FS_WRITE_FILE | LANDLOCK_FS_TRUNCATE);
    blob->list_access = allow.list;
    blob->device_access = allow.device;
    int r = add_files((adding){all ? ruleset : -1, paths}, spec, program, group, allow);
    if (r == 0)
        *ret_fd = piso__fd_steal(&ruleset);
    return r;
}
