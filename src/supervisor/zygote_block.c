/* zygote_block.c - the request for a forked child, as one block of memory: an environment's size is not
 * limited, but a packet's is.
 *
 * A header, the prepared sandbox if there is one, then strings, each with its NUL: name, cwd (or nothing),
 * arguments, environment. The descriptor comes from the host, which the zygote trusts; lengths are checked all
 * the same. */
#include <string.h>

#include "os/os.h"
#include "supervisor/zygote.h"

typedef struct block_failure {
    int32_t error, layer;
} block_failure;
typedef struct block_header {
    block_failure failure; /* written by the child */
    uint32_t arguments, variables, has_cwd, execute, sandbox_size;
} block_header;

static const char channel_variable[] = "PISO_FD=3";
static_assert(PISO__SPAWN_FD == 3, "the text above says so");

static bool is_channel(const char *variable) {
    return strncmp(variable, "PISO_FD=", 8) == 0;
}

/* put: appends a string; only counts its bytes when `to` is NULL. */
static void put(char *to, size_t *size, const char *text) {
    size_t length = strlen(text) + 1;
    if (to)
        memcpy(to + *size, text, length);
    *size += length;
}

/* fill: writes the block's bytes, or only counts them. */
static size_t fill(char *to, const piso_spawn *spawn, const void *sandbox, size_t sandbox_size) {
    block_header header = {.has_cwd = spawn->cwd != NULL,
                           .execute = spawn->execute,
                           .variables = 1,
                           .sandbox_size = (uint32_t)sandbox_size};
    size_t size = sizeof header + sandbox_size;
    if (to && sandbox_size)
        memcpy(to + sizeof header, sandbox, sandbox_size);
    put(to, &size, spawn->name);
    if (spawn->cwd)
        put(to, &size, spawn->cwd);
    for (; spawn->argv[header.arguments]; header.arguments++)
        put(to, &size, spawn->argv[header.arguments]);
    for (const char *const *variable = spawn->envp; *variable; variable++) {
        if (is_channel(*variable))
            continue;
        put(to, &size, *variable);
        header.variables++;
    }
    put(to, &size, channel_variable);
    if (to)
        memcpy(to, &header, sizeof header);
    return size;
}

int piso__fork_block_new(const piso_spawn *spawn, const piso__sandbox *sandbox) {
    size_t sandbox_size = 0;
    const void *bytes = sandbox ? piso__sandbox_export(sandbox, &sandbox_size) : NULL;
    size_t size = fill(NULL, spawn, bytes, sandbox_size);
    piso__autoclose int fd = piso__memfd_create("piso-fork", size);
    if (fd < 0)
        return fd;
    void *base;
    int r = piso__map(fd, size, true, true, &base);
    if (r < 0)
        return r;
    r = piso__populate(fd, base, 0, size);
    if (r == 0)
        fill(base, spawn, bytes, sandbox_size);
    piso__unmap(base, size);
    return r < 0 ? r : piso__fd_steal(&fd);
}

/* take: returns the next string of the block, or NULL. */
static const char *take(const char **cursor, const char *end) {
    const char *text = *cursor, *nul = text < end ? memchr(text, 0, (size_t)(end - text)) : NULL;
    if (nul)
        *cursor = nul + 1;
    return nul ? text : NULL;
}

/* take_strings: reads `count` strings into a list that ends with NULL. */
static bool take_strings(const char **list, uint32_t count, const char **cursor, const char *end) {
    for (uint32_t i = 0; i < count; i++)
        if (!(list[i] = take(cursor, end)))
            return false;
    list[count] = NULL;
    return true;
}

/* parse: reads the block, which `fork` has already. The lists are one allocation, at argv. */
static int parse(piso_fork *fork, const char **ret_cwd) {
    block_header header;
    if (fork->block_size < sizeof header)
        return PISO_EPROTO;
    memcpy(&header, fork->block, sizeof header);
    if (header.sandbox_size > fork->block_size - sizeof header)
        return PISO_EPROTO;
    fork->sandbox = (char *)fork->block + sizeof header;
    fork->sandbox_size = header.sandbox_size;
    fork->execute = header.execute;
    const char *cursor = (char *)fork->block + sizeof header + header.sandbox_size;
    const char *end = (char *)fork->block + fork->block_size;
    if (header.arguments > fork->block_size || header.variables > fork->block_size)
        return PISO_EPROTO;
    piso__autofree const char **lists = calloc((size_t)header.arguments + header.variables + 2, sizeof *lists);
    if (!lists)
        return -ENOMEM;
    const char **variables = lists + header.arguments + 1, *cwd = NULL, *name = take(&cursor, end);
    if (!name || (header.has_cwd && !(cwd = take(&cursor, end))) ||
        !take_strings(lists, header.arguments, &cursor, end) ||
        !take_strings(variables, header.variables, &cursor, end))
        return PISO_EPROTO;
    fork->name = name;
    fork->envp = variables;
    fork->argv = piso__steal_pointer(&lists);
    *ret_cwd = cwd;
    return 0;
}

int piso__fork_block_read(int fd, piso_fork *ret_fork, const char **ret_cwd) {
    int64_t size = piso__memfd_size(fd);
    if (size < 0)
        return (int)size;
    piso_fork fork = {.size = sizeof fork, .block_size = (size_t)size};
    int r = piso__memfd_check(fd, fork.block_size);
    if (r == 0)
        r = piso__map(fd, fork.block_size, false, false, &fork.block);
    if (r < 0)
        return r;
    r = parse(&fork, ret_cwd);
    if (r < 0)
        piso__unmap(fork.block, fork.block_size);
    else
        *ret_fork = fork;
    return r;
}

void piso__fork_block_fail(int fd, int error, int layer) {
    const block_failure failure = {.error = error, .layer = layer};
    piso__write_at(fd, &failure, sizeof failure, offsetof(block_header, failure));
}

int piso__fork_block_failure(int fd, int *ret_layer) {
    block_failure failure = {0};
    if (piso__read_at(fd, &failure, sizeof failure, offsetof(block_header, failure)) != sizeof failure)
        return PISO_EPROTO;
    *ret_layer = failure.layer;
    return failure.error;
}

void piso_fork_fini(piso_fork *fork) {
    if (!fork || fork->size < sizeof *fork)
        return;
    free((void *)fork->argv);
    piso__unmap(fork->block, fork->block_size);
    *fork = (piso_fork){.size = fork->size};
}
