"""Attempts on resources of others: variables, temporary folders, environments, named memory and queues."""

import contextlib
import ctypes
import fcntl
import os
import sys

from .tools import attempt, call, nothing, number, open_for_writing, read

# ---- secrets ----


def holds(data, target):
    if not all(half.encode() in data for half in target["halves"]):
        raise nothing("no secret is there")


@attempt
def find_a_secret_in_variables(target):
    holds("\n".join(os.environ.values()).encode(), target)


@attempt
def find_a_secret_in_variables_of_libc(target):
    environ = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
    values = []
    while environ[len(values)]:
        values.append(environ[len(values)])
    holds(b"\n".join(values), target)


@attempt
def find_a_secret_in_its_start(target):
    with open("/proc/self/environ", "rb") as file:
        holds(file.read(), target)


@attempt
def find_a_secret_in_its_arguments(target):
    with open("/proc/self/cmdline", "rb") as file:
        holds(file.read() + repr(sys.argv + sys.orig_argv).encode(), target)


@attempt
def find_a_secret_of_a_child(target):
    with os.popen("env") as file:
        holds(file.read().encode(), target)


@attempt
def find_a_secret_in_its_memory(target):
    """Search memory that was inherited by a fork. The mark is given in two halves, so that the search does
    not find its own argument."""
    first, second = (half.encode() for half in target["halves"])
    with open("/proc/self/maps") as file:
        areas = [line.split() for line in file]
    for area in areas:
        if not area[1].startswith("rw") or (len(area) > 5 and area[5] in ("[vvar]", "[vsyscall]")):
            continue
        start, end = (int(text, 16) for text in area[0].split("-"))
        with contextlib.suppress(OSError), open("/proc/self/mem", "rb") as memory:
            memory.seek(start)
            data = memory.read(min(end - start, 1 << 26))
            at = data.find(first)
            while at >= 0:
                if data[at + len(first) :].startswith(second):
                    return
                at = data.find(first, at + 1)
    raise nothing("no secret is there")


# ---- other extensions ----


@attempt
def list_the_folder_of_a_sibling(target):
    os.listdir(target["sibling_folder"])


@attempt
def read_from_the_folder_of_a_sibling(target):
    read(target["sibling_folder"] + "/mine")


@attempt
def write_to_the_folder_of_a_sibling(target):
    open(target["sibling_folder"] + f"/planted-{os.getpid()}", "x").close()


@attempt
def list_folders_of_all(target):
    os.listdir(os.path.dirname(target["sibling_folder"]))


@attempt
def list_environments(target):
    os.listdir(target["venvs"])


@attempt
def read_from_another_environment(target):
    read(target["venvs"] + "/other/pyvenv.cfg")


@attempt
def change_another_environment(target):
    open_for_writing(target["venvs"] + "/other/pyvenv.cfg")


@attempt
def lock_another_environment(target):
    with open(target["venvs"] + "/other.lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


# ---- System V and POSIX ----


@attempt
def find_a_semaphore(target):
    call(number("semget"), target["sem_key"], 1, 0)


@attempt
def find_a_queue(target):
    call(number("msgget"), target["msg_key"], 0)


@attempt
def look_at_a_segment(target):
    buffer = ctypes.create_string_buffer(256)
    call(number("shmctl"), target["shm_id"], 2, buffer)  # IPC_STAT


@attempt
def remove_a_segment(target):
    call(number("shmctl"), target["spare_shm_id"], 0, 0)


@attempt
def list_segments(target):
    buffer = ctypes.create_string_buffer(256)
    if call(number("shmctl"), 0, 14, buffer) < 0 or not int.from_bytes(buffer.raw[:4], sys.byteorder):
        raise nothing("there are none")


@attempt
def remove_a_message_queue(target):
    call(number("mq_unlink"), target["spare_queue"].encode())


@attempt
def list_message_queues(target):
    if target["queue"] not in os.listdir("/dev/mqueue"):
        raise nothing("not that of the host")


@attempt
def remove_shared_memory(target):
    os.unlink(target["spare_memory"])


@attempt
def list_names_of_shared_memory(target):
    if os.path.basename(target["shared_memory"]) not in os.listdir("/dev/shm"):
        raise nothing("not that of the host")


@attempt
def fill_shared_memory_of_all(target):
    with open("/dev/shm/pyisolate-planted", "w"):
        pass
    os.unlink("/dev/shm/pyisolate-planted")
    if os.stat("/dev/shm").st_dev == target["shm_device"]:
        return
    raise nothing("its own")
