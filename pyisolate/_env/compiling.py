"""Compiles the modules below a folder. Run as a script, by the host's interpreter with ``-I -S``.

A wheel may contain files that are not Python, that take the compiler minutes, or that crash it. Such a file
is skipped, and Python compiles it at import if it can. Each of n processes compiles every n-th file. A
process that dies is replaced by one that starts after the file that caused it.
"""

import compileall
import contextlib
import mmap
import os
import resource
import stat
import sys

SECONDS = 60  # processor time for one file
MEMORY = 4 << 30
MOST_BYTES = 64 << 20  # of one file


def modules(folder: str) -> list[str]:
    """Return the regular files only: a link may point outside, and reading a pipe might never end."""
    found, folders = [], [folder]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as items:
            for item in items:
                if item.is_dir(follow_symlinks=False):
                    folders.append(item.path)
                elif item.name.endswith(".py"):
                    status = item.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) and status.st_size <= MOST_BYTES:
                        found.append(item.path)
    return sorted(found)


def work(files: list[str], done: memoryview, seconds: float) -> None:
    """Compile the files. `done` counts those that were started."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    for file in files[done[0] :]:
        done[0] += 1
        usage = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(usage.ru_utime + usage.ru_stime + seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit if hard < 0 else min(limit, hard), hard))
        if not os.path.islink(os.path.join(os.path.dirname(file), "__pycache__")):
            with contextlib.suppress(Exception):
                compileall.compile_file(file, quiet=2)


def start(files: list[str], done: memoryview, seconds: float) -> int:
    """Start a process that compiles the files, and return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            work(files, done, seconds)
        finally:
            os._exit(0)
    return pid


def main(folder: str, seconds: float = SECONDS) -> None:
    """Compile the modules below the folder."""
    files = modules(folder)
    number = max(1, min(len(os.sched_getaffinity(0)), len(files)))
    counters = memoryview(mmap.mmap(-1, 8 * number)).cast("Q")
    running: dict[int, int] = {}
    for index in range(number):
        running[start(files[index::number], counters[index : index + 1], seconds)] = index
    while running:
        pid, status = os.wait()
        index = running.pop(pid)
        part, done = files[index::number], counters[index : index + 1]
        if status != 0 and done[0] < len(part):
            running[start(part, done, seconds)] = index


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:]))
