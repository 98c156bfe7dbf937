"""Attempts on files, links, /proc and /sys."""

import errno
import os
import subprocess
import sys
import tempfile

from .tools import attempt, call, open_for_writing, read, senseless, temporary

# ---- files ----


@attempt
def read_a_file(target):
    read(target["secret"])


@attempt
def read_the_users(target):
    read("/etc/passwd")


@attempt
def list_a_folder(target):
    os.listdir(target["folder"])


@attempt
def list_the_root(target):
    os.listdir("/")


@attempt
def list_the_home(target):
    os.listdir(target["home"])


@attempt
def write_a_file(target):
    with open(target["secret"], "a") as file:
        file.write("x")


@attempt
def overwrite_the_interpreter(target):
    open_for_writing(os.path.realpath(os.__file__))


@attempt
def change_own_code(target):
    open_for_writing(__file__)


@attempt
def make_a_file(target):
    open(target["folder"] + "/new", "x").close()


@attempt
def make_a_folder(target):
    os.mkdir(target["folder"] + "/new")


@attempt
def remove_a_file(target):
    os.unlink(target["secret"])


@attempt
def remove_a_folder(target):
    os.rmdir(target["folder"] + "/empty")


@attempt
def steal_a_file(target):
    os.rename(target["secret"], temporary("stolen"))


@attempt
def plant_a_file(target):
    mine = temporary("mine")
    open(mine, "x").close()
    os.rename(mine, target["folder"] + "/planted")


@attempt
def truncate_a_file(target):
    os.truncate(target["secret"], 0)


@attempt
def read_through_a_link(target):
    link = temporary("link")
    os.symlink(target["secret"], link)
    read(link)


@attempt
def list_through_a_link(target):
    link = temporary("link")
    os.symlink(target["folder"], link)
    os.listdir(link)


@attempt
def read_through_a_hard_link(target):
    link = temporary("link")
    os.link(target["secret"], link)
    read(link)


@attempt
def read_through_dots(target):
    depth = tempfile.gettempdir().count("/")
    read(tempfile.gettempdir() + "/.." * depth + target["secret"])


@attempt
def read_from_the_root_of_proc(target):
    read("/proc/self/root" + target["secret"])


@attempt
def reopen_a_path(target):
    descriptor = os.open(target["secret"], os.O_PATH)
    read(f"/proc/self/fd/{descriptor}")


@attempt
def open_beside_a_path(target):
    folder = os.open(target["folder"], os.O_PATH)
    os.close(os.open("secret", os.O_RDONLY, dir_fd=folder))


@attempt
def read_in_a_child(target):
    code = f"import sys\ntry: open({target['secret']!r})\nexcept OSError as e: sys.exit(e.errno)"
    returned = subprocess.run([sys.executable, "-c", code], check=False).returncode
    if returned:
        raise OSError(returned, "in a child")


@attempt
def run_a_program(target):
    subprocess.run([target["program"]], check=True)


@attempt
def change_a_mode(target):
    os.chmod(target["secret"], 0o666)


@attempt
def leave_a_program_of_its_owner(target):
    path = os.path.join(tempfile.mkdtemp(), "program")
    open(path, "w").close()
    os.chmod(path, 0o4755)


@attempt
def change_a_mode_by_number(target):
    call("fchmodat", -100, target["secret"].encode(), 0o666)


@attempt
def change_an_owner(target):
    os.chown(target["secret"], os.getuid(), os.getgid())


@attempt
def change_times(target):
    os.utime(target["secret"], (0, 0))


@attempt
def change_attributes(target):
    os.setxattr(target["secret"], "user.mine", b"1")


@attempt
def make_a_pipe(target):
    os.mkfifo(target["folder"] + "/pipe")


@attempt
def make_a_device(target):
    os.mknod(temporary("null"), 0o600 | 0o020000, os.makedev(1, 3))


@attempt
def watch_a_folder(target):
    descriptor = call("inotify_init1", 0)
    try:
        call("inotify_add_watch", descriptor, target["folder"].encode(), 0xFFF)
    finally:
        os.close(descriptor)


@attempt
def open_by_handle(target):
    senseless("open_by_handle_at", -1, 0, 0)


@attempt
def list_shared_memory(target):
    read(target["shared_memory"])


# ---- /proc and /sys ----


@attempt
def read_environment_of_another(target):
    read(f"/proc/{target['victim']}/environ")


@attempt
def read_memory_of_another(target):
    os.close(os.open(f"/proc/{target['victim']}/mem", os.O_RDONLY))


@attempt
def read_map_of_another(target):
    read(f"/proc/{target['victim']}/maps")


@attempt
def read_command_of_another(target):
    read(f"/proc/{target['victim']}/cmdline")


@attempt
def read_status_of_another(target):
    read(f"/proc/{target['victim']}/status")


@attempt
def list_descriptors_of_another(target):
    os.listdir(f"/proc/{target['victim']}/fd")


@attempt
def enter_the_root_of_another(target):
    read(f"/proc/{target['victim']}/root{target['secret']}")


@attempt
def list_processes(target):
    if str(target["victim"]) not in os.listdir("/proc"):
        raise PermissionError(errno.EPERM, "not listed")


@attempt
def sacrifice_another(target):
    open_for_writing(f"/proc/{target['victim']}/oom_score_adj")


@attempt
def change_the_core_pattern(target):
    open_for_writing("/proc/sys/kernel/core_pattern")


@attempt
def change_the_kernel(target):
    open_for_writing("/sys/kernel/mm/transparent_hugepage/enabled")
