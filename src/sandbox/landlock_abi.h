/* landlock_abi.h - Landlock as of version 7 of its interface. The headers of a distribution are often older than
 * its kernel, and these numbers never change. */
#ifndef PISO_SANDBOX_LANDLOCK_ABI_H
#define PISO_SANDBOX_LANDLOCK_ABI_H

#include <stdint.h>
#include <sys/syscall.h>

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule       445
#define SYS_landlock_restrict_self  446
#endif

#define LANDLOCK_VERSION_FLAG (1U << 0)
#define LANDLOCK_PATH_BENEATH 1

typedef struct landlock_ruleset_v6 {
    uint64_t handled_fs;
    uint64_t handled_net; /* since 4 */
    uint64_t scoped;      /* since 6 */
} landlock_ruleset_v6;

typedef struct landlock_path_beneath {
    uint64_t allowed;
    int32_t parent_fd;
} __attribute__((packed)) landlock_path_beneath;

#define LANDLOCK_FS_EXECUTE    (UINT64_C(1) << 0)
#define LANDLOCK_FS_WRITE_FILE (UINT64_C(1) << 1)
#define LANDLOCK_FS_READ_FILE  (UINT64_C(1) << 2)
#define LANDLOCK_FS_READ_DIR   (UINT64_C(1) << 3)
#define LANDLOCK_FS_MAKE_CHAR  (UINT64_C(1) << 6)
#define LANDLOCK_FS_MAKE_BLOCK (UINT64_C(1) << 11)
#define LANDLOCK_FS_V1         ((UINT64_C(1) << 13) - 1)
#define LANDLOCK_FS_REFER      (UINT64_C(1) << 13) /* since 2 */
#define LANDLOCK_FS_TRUNCATE   (UINT64_C(1) << 14) /* since 3 */
#define LANDLOCK_FS_IOCTL_DEV  (UINT64_C(1) << 15) /* since 5 */
#define LANDLOCK_NET_BOTH      UINT64_C(3)         /* TCP: bind, connect; since 4 */
#define LANDLOCK_SCOPE_BOTH    UINT64_C(3)         /* abstract sockets, signals; since 6 */

#endif
