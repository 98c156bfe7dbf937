/* memfd.c - anonymous shared memory: sealed so that it cannot shrink under a mapping, sparse until it is used. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "os/cgroup.h"
#include "os/os.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define LARGE   ((uint64_t)16 << 20)
#define RESERVE (2 * LARGE)
#define SEALS   (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

uint64_t piso__page_size(void) {
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

int piso__memfd_create(const char *name, uint64_t size) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && size > limit.rlim_cur)
        return -EFBIG; /* ftruncate would also raise SIGXFSZ */
    piso__autoclose int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)size) < 0 || fcntl(fd, F_ADD_SEALS, SEALS) < 0)
        return -errno;
    return piso__fd_steal(&fd);
}

int piso__memfd_check(int fd, uint64_t size) {
    int seals = fcntl(fd, F_GET_SEALS); /* fails for anything but a memfd */
    struct stat st;
    struct statfs fs;
    if (seals < 0 || (seals & ~F_SEAL_EXEC) != SEALS || fstat(fd, &st) < 0 || (uint64_t)st.st_size != size)
        return -EPROTO;
    /* With huge pages a touch can find none left, even if there was one before. Their inodes also have separate
     * numbers. */
    if (fstatfs(fd, &fs) < 0 || fs.f_type != TMPFS_MAGIC || (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDWR)
        return -EPROTO;
    return 0;
}

int64_t piso__memfd_size(int fd) {
    struct stat st;
    return fstat(fd, &st) < 0 ? -errno : st.st_size;
}

uint64_t piso__memfd_backed(int fd) {
    struct stat st;
    return fstat(fd, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}

bool piso__memfd_has_hole(int fd, uint64_t offset, uint64_t size) {
    off_t hole = lseek(fd, (off_t)offset, SEEK_HOLE);
    return hole < 0 || (uint64_t)hole < offset + size;
}

int piso__map(int fd, uint64_t size, bool writable, bool dontfork, void **ret_base) {
    void *base = mmap(NULL, size, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (base == MAP_FAILED)
        return -errno;
    madvise(base, size, MADV_DONTDUMP);
    if (dontfork)
        madvise(base, size, MADV_DONTFORK);
    *ret_base = base;
    return 0;
}

void piso__unmap(void *base, uint64_t size) {
    if (base)
        munmap(base, size);
}

/* has_room: whether the memory is really available. The kernel would not refuse it, but kill processes. The
 * check costs as much as a few hundred pages, so it is made once for LARGE bytes, in one request or many.
 * RESERVE is what the next requests may take before the next check, and as much again for other needs of the
 * processes. */
static bool has_room(uint64_t size) {
    static _Atomic uint64_t taken; /* since the last check */
    if (size < LARGE && atomic_fetch_add_explicit(&taken, size, memory_order_relaxed) + size < LARGE)
        return true;
    uint64_t available = piso__memory_available();
    if (available < RESERVE || size > available - RESERVE)
        return false; /* and the next request is checked again */
    atomic_store_explicit(&taken, 0, memory_order_relaxed);
    return true;
}

static int allocate(int fd, uint64_t offset, uint64_t size) {
    if (!has_room(size))
        return -ENOMEM;
    while (fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

/* touch: writes to each page what it already holds. SEEK_HOLE reports a page that was allocated but never
 * written as a hole. Without this nobody could tell the two apart. */
static void touch(uint8_t *base, uint64_t size) {
    uint64_t page = piso__page_size();
    for (uint64_t at = 0; at < size; at += page)
        __atomic_fetch_or(base + at, 0, __ATOMIC_RELAXED);
}

/* enter: enters the pages, which exist now, in the page table. This only makes later accesses faster, unless
 * the receiver checks whether the pages exist. Before Linux 5.14 only writing enters them. */
static void enter(uint8_t *base, uint64_t size) {
    madvise(base, size, MADV_POPULATE_WRITE);
    if (piso__memory_is_strict())
        touch(base, size);
}

int piso__allocate(int fd, uint64_t size) {
    int r = allocate(fd, 0, size);
    if (r < 0 || !piso__memory_is_strict())
        return r;
    void *base = NULL;
    if ((r = piso__map(fd, size, true, true, &base)) < 0)
        return r;
    enter(base, size);
    piso__unmap(base, size);
    return 0;
}

int piso__populate(int fd, void *base, uint64_t offset, uint64_t size) {
    int r = allocate(fd, offset, size);
    if (r == 0)
        enter((uint8_t *)base + offset, size);
    return r;
}

int piso__punch(int fd, uint64_t offset, uint64_t size) {
    int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    return fallocate(fd, mode, (off_t)offset, (off_t)size) < 0 ? -errno : 0;
}
