"""Attempts on files: other ways to open, run, change and create them, and folders of the system."""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import shutil
import signal
import subprocess
import sys
import threading

from .tools import attempt, call, looked_at, nothing, number, open_for_writing, read, register, temporary

AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000

# ---- ways to read ----


@attempt
def open_by_structure(target):
    how = (ctypes.c_uint64 * 3)(os.O_RDONLY, 0, 0)
    os.close(call(number("openat2"), AT_FDCWD, target["secret"].encode(), how, 24))


@attempt
def open_out_of_a_root(target):
    """RESOLVE_IN_ROOT, with a path of the host as the root."""
    folder = os.open(target["folder"], os.O_PATH)
    how = (ctypes.c_uint64 * 3)(os.O_RDONLY, 0, 0x10)
    try:
        os.close(call(number("openat2"), folder, b"/secret", how, 24))
    finally:
        os.close(folder)


@attempt
def read_in_a_thread(target):
    found = []

    def run():
        try:
            read(target["secret"])
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if found:
        raise found[0]


@attempt
def read_by_a_program_in_memory(target):
    descriptor = os.memfd_create("cat", 0)
    with open("/bin/cat", "rb") as file:
        os.write(descriptor, file.read())
    path = f"/proc/self/fd/{descriptor}"
    done = subprocess.run([path, target["secret"]], pass_fds=[descriptor], capture_output=True, check=False)
    os.close(descriptor)
    if b"secret" not in done.stdout:
        raise OSError(errno.EACCES, "it could not read")


def read_while(change, path):
    """Succeeds if another file than its own is read while a child changes the target of the path."""
    changes = mmap.mmap(-1, 1)
    pid = os.fork()
    if pid == 0:
        while True:
            change()
            changes[0] = (changes[0] + 1) % 256
    try:
        reads = seen = last = 0
        # On a busy machine the two alternate, and all reads in one time slice find the same target.
        while reads < 1500 or (seen < 100 and reads < 200_000):
            reads += 1
            seen, last = seen + (changes[0] != last), changes[0]
            with contextlib.suppress(OSError):
                if read(path) != b"m":
                    return
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    raise nothing("never")


@attempt
def read_while_a_link_changes(target):
    """A link that alternates between a file of its own and one of the host."""
    mine, link = temporary("mine"), temporary("race")
    with open(mine, "wb") as file:
        file.write(b"mine")

    def change():
        for to in (mine, target["secret"]):
            os.symlink(to, link + "-next")
            os.rename(link + "-next", link)

    os.symlink(mine, link)
    read_while(change, link)


@attempt
def read_while_a_folder_changes(target):
    """A path that alternates between a folder of its own and a link to one of the host."""
    mine = temporary("folder")
    os.mkdir(mine)
    with open(mine + "/secret", "wb") as file:
        file.write(b"mine")
    os.symlink(target["folder"], mine + "-link")

    def change():
        call(number("renameat2"), AT_FDCWD, mine.encode(), AT_FDCWD, (mine + "-link").encode(), 2)

    read_while(change, mine + "/secret")


@attempt
def move_out_by_dots(target):
    """A folder that is moved while it is open, so that its parent changes."""
    below = temporary("deep")
    os.makedirs(below + "/a/b")
    folder = os.open(below + "/a/b", os.O_RDONLY)
    try:
        os.rename(below + "/a/b", below + "/b")
        up = "../" * 30 + target["secret"].lstrip("/")
        os.close(os.open(up, os.O_RDONLY, dir_fd=folder))
    finally:
        os.close(folder)


@attempt
def load_a_library_of_the_host(target):
    done = subprocess.run(
        [sys.executable, "-c", f"import ctypes; ctypes.CDLL({target['library']!r})"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise OSError(errno.EACCES, done.stderr)


@attempt
def run_a_program_by_its_descriptor(target):
    descriptor = os.open(target["program"], os.O_PATH)
    pid = os.fork()
    if pid == 0:
        try:
            call(number("execveat"), descriptor, b"", 0, 0, AT_EMPTY_PATH)
        except OSError as error:
            os._exit(error.errno)
    os.close(descriptor)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise OSError(abs(code), "not run")


@attempt
def run_a_program_by_the_loader(target):
    loader = next(path for path in LOADERS if os.path.exists(path))
    if subprocess.run([loader, target["program"]], capture_output=True, check=False).returncode:
        raise OSError(errno.EACCES, "not run")


LOADERS = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-x86_64.so.1"]


@attempt
def run_a_script_of_the_host(target):
    if subprocess.run([sys.executable, target["script"]], capture_output=True, check=False).returncode:
        raise OSError(errno.EACCES, "not run")


@attempt
def find_out_a_handle(target):
    looked_at("name_to_handle_at", -1, b"", 0, 0, 0x7FFF)


# ---- the host's project ----

PROJECT = [".env", ".git/config", ".hidden/token", "certs/key.pem", "certs/.hidden/x", "settings.json"]
PROJECT += ["instance/app.db", "uploads/photo", "notes"]

for _name in PROJECT:
    register(
        f"read_{_name.replace('/', '_').replace('.', '_').strip('_')}_of_the_project",
        lambda target, name: read(f"{target['project']}/{name}"),
        _name,
    )


@attempt
def change_a_module_of_the_project(target):
    open_for_writing(target["project"] + "/module.py")


@attempt
def plant_bytecode_in_the_project(target):
    os.mkdir(target["project"] + "/__pycache__")


@attempt
def plant_a_module_in_the_project(target):
    open(target["project"] + "/json.py", "x").close()


@attempt
def read_where_the_host_works(target):
    read(os.path.join("/proc/self/cwd", ".env"))


# ---- ways to change ----


@attempt
def exchange_a_file(target):
    mine = temporary("mine")
    open(mine, "x").close()
    call(number("renameat2"), AT_FDCWD, mine.encode(), AT_FDCWD, target["secret"].encode(), 2)


@attempt
def plant_a_hard_link(target):
    mine = temporary("mine")
    open(mine, "x").close()
    os.link(mine, target["folder"] + "/linked")


@attempt
def plant_a_link(target):
    os.symlink("/etc/shadow", target["folder"] + "/link")


@attempt
def plant_a_file_without_a_name(target):
    os.close(os.open(target["folder"], os.O_TMPFILE | os.O_RDWR, 0o600))


@attempt
def truncate_while_opening(target):
    os.close(os.open(target["secret"], os.O_RDONLY | os.O_TRUNC))


@attempt
def truncate_what_it_can_read(target):
    """Landlock restricts truncation since version 3. A file opened for reading only can be truncated, too."""
    os.close(os.open(target["project"] + "/package/__init__.py", os.O_RDONLY | os.O_TRUNC))
    if os.path.getsize(target["project"] + "/package/__init__.py"):
        raise nothing("not truncated")


@attempt
def truncate_without_reading(target):
    """Opened for neither reading nor writing: Landlock has no right for that."""
    os.close(os.open(target["secret"], os.O_ACCMODE | os.O_TRUNC))
    if os.path.getsize(target["secret"]):
        raise nothing("not truncated")


@attempt
def truncate_by_structure(target):
    how = (ctypes.c_uint64 * 3)(os.O_RDONLY | os.O_TRUNC, 0, 0)
    path = target["project"] + "/package/__init__.py"
    os.close(call(number("openat2"), AT_FDCWD, path.encode(), how, 24))
    if os.path.getsize(path):
        raise nothing("not truncated")


@attempt
def make_while_opening(target):
    os.close(os.open(target["folder"] + "/created", os.O_RDONLY | os.O_CREAT, 0o600))


@attempt
def move_a_folder_of_the_host(target):
    os.rename(target["folder"] + "/empty", target["folder"] + "/moved")


@attempt
def change_a_mode_by_a_descriptor(target):
    descriptor = os.open(target["secret"], os.O_PATH)
    try:
        os.chmod(f"/proc/self/fd/{descriptor}", 0o666)
    finally:
        os.close(descriptor)


@attempt
def change_a_mode_with_flags(target):
    call(number("fchmodat2"), AT_FDCWD, target["secret"].encode(), 0o666, 0x100)


@attempt
def change_an_owner_of_a_link(target):
    os.lchown(target["secret"], os.getuid(), os.getgid())


@attempt
def change_times_of_a_folder(target):
    os.utime(target["folder"], (1, 1))


@attempt
def change_rights_by_a_list(target):
    entries = (
        b"\x02\0\0\0" + b"\x01\0\6\0\xff\xff\xff\xff\x04\0\6\0\xff\xff\xff\xff\x20\0\6\0\xff\xff\xff\xff"
    )
    os.setxattr(target["secret"], "system.posix_acl_access", entries)


@attempt
def remove_an_attribute(target):
    try:
        os.removexattr(target["secret"], "user.none")
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise


@attempt
def set_an_attribute_by_structure(target):
    value = ctypes.create_string_buffer(b"1")
    arguments = (ctypes.c_uint64 * 2)(ctypes.addressof(value), 1)
    call(number("setxattrat"), AT_FDCWD, target["secret"].encode(), 0, b"user.mine", arguments, 16)


@attempt
def remove_an_attribute_by_structure(target):
    try:
        call(number("removexattrat"), AT_FDCWD, target["secret"].encode(), 0, b"user.none")
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise


@attempt
def set_attributes_of_a_file_system(target):
    looked_at("file_setattr", -1, b"", 0, 0, 0xFFFF)


@attempt
def lock_a_file_of_the_host(target):
    with open(target["secret"]) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@attempt
def change_the_systems_programs(target):
    open_for_writing(os.path.realpath(shutil.which("cat") or "/bin/cat"))


@attempt
def plant_a_package(target):
    import pyisolate

    path = os.path.dirname(pyisolate.__file__) + "/planted.py"
    open(path, "x").close()
    os.unlink(path)


# ---- places of the system ----

READ = {
    "shadow": "/etc/shadow",
    "group": "/etc/group",
    "fstab": "/etc/fstab",
    "hostname": "/etc/hostname",
    "hosts": "/etc/hosts",
    "machine_id": "/etc/machine-id",
    "ssh_host": "/etc/ssh",
    "environment": "/etc/environment",
    "logs": "/var/log",
    "spool": "/var/spool",
    "libraries_of_dpkg": "/var/lib",
    "runtime": "/run",
    "boot": "/boot",
    "srv": "/srv",
    "mnt": "/mnt",
    "temporary_files": "/var/tmp",
    "symbols_of_the_kernel": "/proc/kallsyms",
    "command_of_the_kernel": "/proc/cmdline",
    "memory_of_the_kernel": "/proc/kcore",
    "configuration_of_the_kernel": "/proc/config.gz",
    "messages_of_the_kernel": "/proc/kmsg",
    "keys_of_the_kernel": "/proc/keys",
    "timers": "/proc/timer_list",
    "interrupts": "/proc/interrupts",
    "addresses_of_memory": "/proc/iomem",
    "partitions": "/proc/partitions",
    "locks": "/proc/locks",
    "disks": "/proc/diskstats",
    "swap": "/proc/swaps",
    "system_v_memory": "/proc/sysvipc/shm",
    "pressure": "/proc/pressure/memory",
    "name_of_the_host": "/proc/sys/kernel/hostname",
    "seed_of_the_kernel": "/proc/sys/net/ipv4/tcp_fastopen_key",
    "firmware": "/sys/firmware",
    "tracing": "/sys/kernel/tracing",
    "debugging": "/sys/kernel/debug",
    "block_devices": "/sys/block",
    "network_devices": "/sys/class/net",
    "modules": "/sys/module",
}


def look(target, path):
    if os.path.isdir(path):
        os.listdir(path)
    else:
        if os.path.samestat(os.stat(path), os.stat("/dev/null")):
            raise nothing("a container has covered it")
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, "rb", buffering=0) as file:
            file.read(1)  # empty if others have read all messages of the kernel


for _name, _path in READ.items():
    register(f"read_{_name}", look, _path)

WRITE = {
    "sysrq": "/proc/sysrq-trigger",
    "modprobe": "/proc/sys/kernel/modprobe",
    "printing": "/proc/sys/kernel/printk",
    "binary_formats": "/proc/sys/fs/binfmt_misc/register",
    "caches": "/proc/sys/vm/drop_caches",
    "overcommit": "/proc/sys/vm/overcommit_memory",
    "random_numbers": "/proc/sys/kernel/randomize_va_space",
    "tracing_of_others": "/proc/sys/kernel/yama/ptrace_scope",
    "next_number": "/proc/sys/kernel/ns_last_pid",
    "limits_of_namespaces": "/proc/sys/user/max_user_namespaces",
    "forwarding": "/proc/sys/net/ipv4/ip_forward",
    "own_users": "/proc/self/uid_map",
    "own_groups": "/proc/self/setgroups",
    "events_of_devices": "/sys/kernel/uevent_helper",
    "power": "/sys/power/state",
    "processors": "/sys/devices/system/cpu/cpu0/online",
    "huge_pages": "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
}
for _name, _path in WRITE.items():
    register(f"write_to_{_name}", lambda target, path: open_for_writing(path), _path)

DEVICES = ["mem", "port", "kmsg", "kvm", "vda", "sda", "loop-control", "loop0", "net/tun", "vsock", "tty"]
DEVICES += ["tty0", "console", "hwrng", "cpu_dma_latency", "userfaultfd", "autofs"]
for _name in DEVICES:
    register(
        f"open_{_name.replace('/', '_').replace('-', '_')}",
        lambda target, name: os.close(os.open("/dev/" + name, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)),
        _name,
    )


@attempt
def list_devices(target):
    if not {"null", "zero", "full", "random", "urandom", "shm", "fd"} < set(os.listdir("/dev")):
        raise nothing("those only that it may use")


def groups():
    for folder, names, files in os.walk("/sys/fs/cgroup"):
        del names[20:]
        if folder.count("/") < 7:
            yield folder, files


@attempt
def leave_its_control_group(target):
    for folder, files in groups():
        if "cgroup.procs" in files:
            open_for_writing(folder + "/cgroup.procs")
            return
    raise nothing("no control groups")


@attempt
def run_a_program_when_a_group_is_empty(target):
    for folder, files in groups():
        if "release_agent" in files:
            open_for_writing(folder + "/release_agent")
            return
    raise nothing("no control groups of version 1")


@attempt
def make_a_control_group(target):
    for folder, files in groups():
        if "cgroup.procs" in files:
            path = f"{folder}/pyisolate-attempt-{os.getpid()}"
            os.mkdir(path)
            os.rmdir(path)
            return
    raise nothing("no control groups")
