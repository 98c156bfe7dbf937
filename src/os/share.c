/* share.c - memory that forked processes can share again after they have touched it.
 *
 * A page that a forked process writes to is copied for good, even if the write is undone at once, as mostly
 * happens with a reference count. About half of an idle extension's own pages are of this kind: their bytes are
 * what they were before the fork. The kernel does not detect that (except by KSM, which is off almost
 * everywhere), and an anonymous page cannot be given back.
 *
 * A page of a private file mapping can be given back: MADV_DONTNEED drops the copy, and the file's page is
 * visible again. So the process that will be forked moves its writable memory into a memfd and maps that
 * privately, at the same addresses. A forked process, once it is idle, drops the copies that equal the memfd.
 * Nobody can write to the memfd any more: it is sealed, and only mapped privately.
 *
 * Both steps require that nobody else writes meanwhile: no other running thread, no signal handler. The kernel
 * itself writes to the thread control block (rseq), which is left alone, as is the stack. So is memory with
 * special properties, for instance memory that a fork must wipe.
 *
 * Moving has two halves. Nothing has changed until everything is copied, and each failure is undone: the
 * process continues as before. From the first mapping on there is no way back, because an mmap that fails may
 * have dropped the previous contents: the process is killed. */
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "os/os.h"

#define MAX_REGIONS 512
#define REGION_MAX  ((size_t)1 << 30)
#define PAGE        ((size_t)4096) /* on machines with other pages nothing is moved */
/* of the memfd, empty: a mapping that is extended (as by realloc) continues there */
#define TAIL        ((off_t)1 << 40)
#define BATCH       ((size_t)512) /* entries of pagemap read at once */
#define PIECE       (BATCH * PAGE)
#define PRESENT     ((uint64_t)1 << 63)
#define SWAPPED     ((uint64_t)1 << 62)
#define OF_A_FILE   ((uint64_t)1 << 61)
#define PLAIN_FLAGS " rd wr mr mw me ac sd nr " /* of a mapping in smaps; other flags mean that it is special */
#define LINE_SIZE   (PATH_MAX + 128)            /* of maps and smaps: addresses, then a path without newlines */
#define SEALS       (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* A line of maps. */
typedef struct mapping {
    char *start;
    size_t size, offset;
    bool writable; /* and private */
    dev_t device;
    ino_t inode; /* 0: anonymous */
    const char *name;
} mapping;

typedef struct region {
    char *start;
    size_t size, offset; /* of its first piece in the memfd */
    bool anonymous;      /* untouched pages are zero */
} region;

/* Written before anything is copied, because this struct is itself in a region. */
static struct {
    region regions[MAX_REGIONS];
    int count;
    size_t size;
    char *view; /* the memfd, to compare with; NULL: nothing was moved, or the memory is settled */
    dev_t device;
    ino_t inode; /* of the memfd */
} shared;

/* in_file: returns where a byte of the region is in the memfd. Between two pieces there is an unused page. */
static size_t in_file(const region *r, size_t at) {
    return r->offset + at + at / PIECE * PAGE;
}

/* ---- choosing memory ---- */

static bool has_only_plain_flags(const char *flags) {
    char flag[3], wanted[5];
    int used;
    while (sscanf(flags, " %2s%n", flag, &used) == 1) {
        snprintf(wanted, sizeof wanted, " %s ", flag);
        if (!strstr(PLAIN_FLAGS, wanted))
            return false;
        flags += used;
    }
    return true;
}

static void add_region(const region *found) {
    const char *own = (const char *)(uintptr_t)pthread_self();
    bool holds_thread = own >= found->start && own < found->start + found->size;
    if (shared.count == MAX_REGIONS || found->size > REGION_MAX || holds_thread)
        return;
    region *r = &shared.regions[shared.count++];
    *r = *found;
    r->offset = shared.size;
    shared.size = in_file(r, found->size) + PAGE;
}

static bool parse_mapping(const char *line, mapping *ret_mapping) {
    unsigned long start, end, offset, inode;
    unsigned major, minor;
    char permissions[5];
    int name = 0;
    if (sscanf(line, "%lx-%lx %4s %lx %x:%x %lu %n", &start, &end, permissions, &offset, &major, &minor, &inode,
               &name) != 7)
        return false;
    *ret_mapping = (mapping){
        .start = (char *)start,
        .size = end - start,
        .offset = offset,
        .writable = strcmp(permissions, "rw-p") == 0,
        .device = makedev(major, minor),
        .inode = inode,
        .name = line + name,
    };
    return true;
}

/* find_regions: finds mappings that are private, writable and plain. */
static int find_regions(void) {
    FILE *smaps = fopen("/proc/self/smaps", "re");
    if (!smaps)
        return -errno;
    char line[LINE_SIZE];
    mapping found;
    region candidate = {.size = 0};
    shared.count = 0;
    shared.size = 0;
    while (fgets(line, sizeof line, smaps)) {
        if (parse_mapping(line, &found)) {
            bool wanted = found.writable && strncmp(found.name, "[stack", 6) != 0;
            candidate = (region){found.start, wanted ? found.size : 0, 0, found.inode == 0};
        } else if (strncmp(line, "VmFlags:", 8) == 0 && candidate.size && has_only_plain_flags(line + 8)) {
            add_region(&candidate);
        }
    }
    fclose(smaps);
    return shared.count ? 0 : -ENOENT;
}

/* ---- moving, before the fork ---- */

static int write_all(int fd, const char *from, size_t size, size_t offset) {
    while (size) {
        ssize_t n = pwrite(fd, from, size, (off_t)offset);
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        from += n;
        offset += (size_t)n;
        size -= (size_t)n;
    }
    return 0;
}

/* read_entries: reads pagemap for `count` pages from `start` on. */
static bool read_entries(int pagemap, const char *start, uint64_t *entries, size_t count) {
    off_t at = (off_t)((uintptr_t)start / PAGE * sizeof *entries);
    return pread(pagemap, entries, count * sizeof *entries, at) == (ssize_t)(count * sizeof *entries);
}

/* copy_piece: copies the touched pages among up to BATCH pages. */
static int copy_piece(int fd, int pagemap, const region *r, size_t at) {
    uint64_t entries[BATCH];
    size_t count = (r->size - at) / PAGE < BATCH ? (r->size - at) / PAGE : BATCH, end;
    if (!r->anonymous)
        return write_all(fd, r->start + at, count * PAGE, in_file(r, at));
    if (!read_entries(pagemap, r->start + at, entries, count))
        return -EIO;
    for (size_t i = 0; i < count; i = end + 1) {
        for (end = i; end < count && entries[end] & (PRESENT | SWAPPED);)
            end++;
        int e = write_all(fd, r->start + at + i * PAGE, (end - i) * PAGE, in_file(r, at) + i * PAGE);
        if (e < 0)
            return e;
    }
    return 0;
}

/* touch: enters the memfd's pages in this process's page table too. The kernel counts a page as owned by a
 * process that alone maps it, which would be the first child. */
static void touch(int fd, char *start, size_t size, size_t offset) {
    off_t end = (off_t)(offset + size), at = (off_t)offset, hole;
    while ((at = lseek(fd, at, SEEK_DATA)) >= 0 && at < end) {
        hole = lseek(fd, at, SEEK_HOLE);
        for (; at < hole && at < end; at += (off_t)PAGE)
            (void)*(volatile char *)(start + ((size_t)at - offset));
    }
}

/* end_process: kills the process without using its memory, of which a part may be gone. */
static void end_process(void) {
    static const char words[] = "the memory of this process could not be moved, so it ends\n";
    (void)!write(STDERR_FILENO, words, sizeof words - 1);
    for (;;)
        kill(getpid(), SIGKILL);
}

/* map_region: maps the region in pieces. A fork copies the page tables of those mappings that were written to.
 * The zygote writes to few pages, but to some of every large mapping. */
static void map_region(int fd, const region *r) {
    int flags = MAP_PRIVATE | MAP_FIXED;
    for (size_t at = 0; at < r->size; at += PIECE) {
        size_t size = r->size - at < PIECE ? r->size - at : PIECE, offset = in_file(r, at);
        if (mmap(r->start + at, size, PROT_READ | PROT_WRITE, flags, fd, (off_t)offset) == MAP_FAILED)
            end_process();
        touch(fd, r->start + at, size, offset);
    }
}

/* copy_regions: copies all regions and seals the copies. */
static int copy_regions(int fd, int pagemap) {
    for (int i = 0; i < shared.count; i++)
        for (size_t at = 0; at < shared.regions[i].size; at += PIECE) {
            int r = copy_piece(fd, pagemap, &shared.regions[i], at);
            if (r < 0)
                return r;
        }
    return fcntl(fd, F_ADD_SEALS, SEALS) < 0 ? -errno : 0;
}

/* move: copies everything, then maps the copies. In between it writes to nothing but the stack. */
static int move(int fd, int pagemap) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = copy_regions(fd, pagemap);
    if (r == 0)
        for (int i = 0; i < shared.count; i++)
            map_region(fd, &shared.regions[i]);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return r;
}

/* make_file: makes the memfd for all regions. */
static int make_file(void) {
    off_t size = (off_t)shared.size + TAIL;
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < (rlim_t)size)
        return -EFBIG; /* the kernel would also raise a signal for that */
    piso__autoclose int fd = memfd_create("piso-zygote", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct stat status;
    if (fd < 0 || ftruncate(fd, size) < 0 || fstat(fd, &status) < 0)
        return -errno;
    shared.device = status.st_dev;
    shared.inode = status.st_ino;
    return piso__fd_steal(&fd);
}

int piso__memory_share(void) {
    if (shared.view || (size_t)sysconf(_SC_PAGESIZE) != PAGE)
        return -EINVAL;
    int r = find_regions();
    if (r < 0)
        return r;
    piso__autoclose int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pagemap < 0)
        return -errno;
    piso__autoclose int fd = make_file();
    if (fd < 0)
        return fd;
    void *view = mmap(NULL, shared.size, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
    if (view == MAP_FAILED)
        return -errno;
    shared.view = view;
    r = move(fd, pagemap);
    if (r < 0) {
        munmap(view, shared.size);
        shared.view = NULL;
    }
    return r;
}

/* ---- giving back, after the fork ---- */

/* give_back_run: gives back the run of copies, from page `i` of the entries on, that equal the memfd. Returns
 * the number of pages in the run. */
static size_t give_back_run(const uint64_t *entries, size_t i, size_t count, char *pages, const char *original) {
    size_t end = i;
    while (end < count && (entries[end] & PRESENT) && !(entries[end] & OF_A_FILE) &&
           memcmp(pages + end * PAGE, original + end * PAGE, PAGE) == 0)
        end++;
    if (end > i)
        madvise(pages + i * PAGE, (end - i) * PAGE, MADV_DONTNEED);
    return end - i;
}

/* give_back_mapping: gives back the pages of one mapping of the memfd. */
static int give_back_mapping(int pagemap, const mapping *m) {
    uint64_t entries[BATCH];
    int given = 0;
    for (size_t at = 0; at < m->size; at += BATCH * PAGE) {
        size_t count = (m->size - at) / PAGE < BATCH ? (m->size - at) / PAGE : BATCH;
        if (!read_entries(pagemap, m->start + at, entries, count))
            return given;
        for (size_t i = 0, run; i < count; i += run ? run : 1) {
            run = give_back_run(entries, i, count, m->start + at, shared.view + m->offset + at);
            given += (int)run;
        }
    }
    return given;
}

/* give_back: gives back what is still mapped where it was. A process may have unmapped memory since and used
 * the addresses for something else, which must not be lost. */
static int give_back(FILE *maps, int pagemap) {
    char line[LINE_SIZE];
    mapping m;
    int given = 0;
    while (fgets(line, sizeof line, maps))
        if (parse_mapping(line, &m) && m.writable && m.inode == shared.inode && m.device == shared.device &&
            m.offset <= shared.size && m.size <= shared.size - m.offset)
            given += give_back_mapping(pagemap, &m);
    return given;
}

int piso__memory_settle(int own_threads) {
    if (!shared.view)
        return 0;
    int given = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    piso__autoclose int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (maps && pagemap >= 0 && piso__thread_count() <= own_threads)
        given = give_back(maps, pagemap);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (maps)
        fclose(maps);
    munmap(shared.view, shared.size);
    shared.view = NULL;
    return given;
}
