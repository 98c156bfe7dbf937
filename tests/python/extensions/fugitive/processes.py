"""Attempts on other processes: the host, one of its programs, another extension."""

import ctypes
import errno
import fcntl
import os
import resource
import signal
import socket
import stat
import struct

from .tools import attempt, call, in_a_child, looked_at, nothing, number, open_for_writing, read, register

READ = [
    *("auxv", "clear_refs", "cwd", "environ", "exe", "fd/0", "fdinfo/0", "io", "limits", "map_files"),
    *("maps", "mem", "mountinfo", "net/unix", "ns/mnt", "ns/net", "ns/user", "pagemap", "root", "smaps"),
    *("stack", "stat", "status", "syscall", "task", "wchan", "cgroup", "cmdline", "comm", "sched"),
]
WRITE = ["clear_refs", "comm", "coredump_filter", "mem", "oom_score_adj", "timerslack_ns", "autogroup"]


def look_into(target, who, name):
    path = f"/proc/{target[who]}/{name}"
    if name in ("map_files", "task", "cwd", "root"):
        os.listdir(path)
    elif name == "clear_refs":
        os.close(os.open(path, os.O_WRONLY))
    elif name in ("mem", "exe", "fd/0", "pagemap") or name.startswith("ns/"):
        os.close(os.open(path, os.O_RDONLY))
    else:
        read(path)


for _name in READ:
    register(f"look_into_{_name.replace('/', '_')}_of_the_host", look_into, "host", _name)
for _name in ("environ", "mem", "maps", "fd/0", "root", "cwd", "cmdline"):
    register(f"look_into_{_name.replace('/', '_')}_of_a_sibling", look_into, "sibling", _name)
for _name in WRITE:
    register(
        f"write_to_{_name}_of_the_host",
        lambda target, name: open_for_writing(f"/proc/{target['host']}/{name}"),
        _name,
    )


@attempt
def look_into_a_thread_of_the_host(target):
    read(f"/proc/{target['host']}/task/{target['host']}/environ")


@attempt
def look_into_the_parent(target):
    read(f"/proc/{os.getppid()}/environ")


# ---- signals ----


@attempt
def signal_a_sibling(target):
    os.kill(target["sibling"], 0)


@attempt
def signal_the_parent(target):
    os.kill(os.getppid(), 0)


@attempt
def signal_the_group_of_the_host(target):
    group = os.getpgid(target["host"])
    if group in (0, 1):
        raise PermissionError(errno.EPERM, "in a container it is outside, 0, or 1: -1 stands for all")
    os.killpg(group, 0)


@attempt
def signal_a_thread_by_its_number(target):
    call(number("tkill"), target["host"], 0)


@attempt
def queue_a_signal_for_a_thread(target):
    info = (ctypes.c_int * 32)(signal.SIGCONT, 0, -1)
    call(number("rt_tgsigqueueinfo"), target["victim"], target["victim"], 0, info)


@attempt
def signal_from_a_child(target):
    in_a_child(lambda: os.kill(target["victim"], 0))


def signal_by_owner(set_owner):
    """The kernel signals the owner of a readable descriptor. The host checks which process died."""
    a, b = socket.socketpair()
    with a, b:
        fcntl.fcntl(a, 10, signal.SIGTERM)  # F_SETSIG
        set_owner(a)
        fcntl.fcntl(a, fcntl.F_SETFL, fcntl.fcntl(a, fcntl.F_GETFL) | os.O_ASYNC)
        b.send(b"x")


@attempt
def kill_by_a_socket(target):
    signal_by_owner(lambda s: fcntl.fcntl(s, fcntl.F_SETOWN, target["prey"]))


@attempt
def kill_by_an_owner_of_a_kind(target):
    signal_by_owner(lambda s: fcntl.fcntl(s, 15, struct.pack("ii", 1, target["prey"])))  # F_SETOWN_EX


@attempt
def kill_by_an_owning_group(target):
    signal_by_owner(lambda s: fcntl.fcntl(s, fcntl.F_SETOWN, -target["prey"]))


@attempt
def kill_by_a_request(target):
    signal_by_owner(lambda s: fcntl.ioctl(s, 0x8901, struct.pack("i", target["prey"])))  # FIOSETOWN


# ---- memory and descriptors ----


@attempt
def read_memory_of_another_by_vector(target):
    buffer = ctypes.create_string_buffer(8)
    here = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)
    looked_at("process_vm_readv", target["victim"], here, 1, here, 1, 0)  # EFAULT: there is nothing there


@attempt
def take_a_descriptor_of_another(target):
    other = call(number("pidfd_open"), target["victim"], 0)
    try:
        os.close(call(number("pidfd_getfd"), other, 0, 0))
    finally:
        os.close(other)


@attempt
def take_a_descriptor_of_a_sibling(target):
    other = call(number("pidfd_open"), target["sibling"], 0)
    try:
        os.close(call(number("pidfd_getfd"), other, 0, 0))
    finally:
        os.close(other)


# ---- descriptors that it has from the start, or opens to see when its host ends ----


def own_descriptors(of):
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if of(os.fstat(int(name)), os.readlink(f"/proc/self/fd/{name}")):
                found.append(int(name))
        except OSError:
            continue  # the descriptor of the listing itself
    if not found:
        raise nothing("it has none")
    return found


def own_folders():
    return own_descriptors(lambda state, path: stat.S_ISDIR(state.st_mode))


def of_processes():
    return own_descriptors(lambda state, path: path == "anon_inode:[pidfd]")


def any_of(descriptors, use):
    """Succeeds if one of them succeeds; otherwise the last error counts."""
    for count, descriptor in enumerate(descriptors, 1):
        try:
            return use(descriptor)
        except OSError:
            if count == len(descriptors):
                raise


@attempt
def leave_by_a_folder_that_it_holds(target):
    def leave(folder):
        for path in ("../../../etc/shadow", f"../{target['host']}/environ", "root/etc/shadow", "cwd/.."):
            try:
                return os.close(os.open(path, os.O_RDONLY, dir_fd=folder))
            except OSError as error:
                last = error
        raise last

    any_of(own_folders(), leave)


@attempt
def signal_by_a_descriptor_that_it_holds(target):
    any_of(of_processes(), lambda fd: signal.pidfd_send_signal(fd, 0))


@attempt
def take_by_a_descriptor_that_it_holds(target):
    any_of(of_processes(), lambda fd: os.close(call(number("pidfd_getfd"), fd, 0, 0)))


@attempt
def join_by_a_descriptor_that_it_holds(target):
    any_of(of_processes(), lambda fd: in_a_child(lambda: call(number("setns"), fd, 0x08000000)))


@attempt
def ask_a_descriptor_that_it_holds(target):
    """PIDFD_GET_INFO, for the id of its control group."""
    any_of(of_processes(), lambda fd: fcntl.ioctl(fd, 0xC040FF0B, struct.pack("Q56x", 4)))


@attempt
def get_descriptors_by_the_sockets_that_it_holds(target):
    """Descriptors that the host has sent, and that were not received."""

    def receive(descriptor):
        with socket.socket(fileno=os.dup(descriptor)) as s:
            room, flags = socket.CMSG_LEN(400), socket.MSG_PEEK | socket.MSG_DONTWAIT
            _, found, _, _ = s.recvmsg(1 << 16, room, flags)
        if not any(kind == socket.SCM_RIGHTS for _, kind, _ in found):
            raise nothing("there are none")

    any_of(own_descriptors(lambda state, path: stat.S_ISSOCK(state.st_mode)), receive)


@attempt
def advise_on_memory_of_another(target):
    looked_at("process_madvise", -1, 0, 0, 0, 0)


@attempt
def reap_memory_of_another(target):
    looked_at("process_mrelease", -1, 0)


@attempt
def find_locks_of_another(target):
    head, size = ctypes.c_void_p(), ctypes.c_size_t()
    call(number("get_robust_list"), target["victim"], ctypes.byref(head), ctypes.byref(size))


@attempt
def find_pages_of_another(target):
    call(number("move_pages"), target["victim"], 0, 0, 0, 0, 0)


@attempt
def trace_the_host(target):
    in_a_child(lambda: call(number("ptrace"), 0x4206, target["victim"], 0, 0))


@attempt
def trace_a_sibling(target):
    in_a_child(lambda: call(number("ptrace"), 0x4206, target["sibling"], 0, 0))


@attempt
def trace_a_child(target):
    """A tracer could change the arguments of calls after they were checked."""

    def be_traced():
        call(number("ptrace"), 0, 0, 0, 0)

    in_a_child(be_traced)


@attempt
def measure_another(target):
    attributes = (ctypes.c_uint32 * 32)(1, 128)
    descriptor = call(number("perf_event_open"), attributes, target["victim"], -1, -1, 0)
    os.close(descriptor)


# ---- time of processors and disks ----


@attempt
def schedule_another_by_structure(target):
    attributes = (ctypes.c_uint32 * 14)(56)
    call(number("sched_setattr"), target["victim"], attributes, 0)


@attempt
def schedule_parameters_of_another(target):
    os.sched_setparam(target["victim"], os.sched_param(0))


@attempt
def slow_the_host_down(target):
    os.setpriority(os.PRIO_PROCESS, target["host"], os.getpriority(os.PRIO_PROCESS, 0))


@attempt
def slow_a_group_down(target):
    os.setpriority(os.PRIO_PGRP, target["victim"], 19)


@attempt
def slow_a_sibling_down(target):
    os.setpriority(os.PRIO_PROCESS, target["sibling"], os.getpriority(os.PRIO_PROCESS, 0))


@attempt
def limit_another_for_good(target):
    resource.prlimit(target["victim"], resource.RLIMIT_CORE, (0, 0))


@attempt
def come_first(target):
    """A real-time priority of its own: no other process would run on that processor."""
    in_a_child(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))


@attempt
def be_nice_to_itself(target):
    in_a_child(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5))


@attempt
def lift_the_limit_of_descriptors(target):
    """To a namespace of the host."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, target["descriptors"]))
    except ValueError:
        raise OSError(errno.EPERM, "no higher limit") from None


@attempt
def make_others_be_killed_first(target):
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("-900")


# ---- groups and namespaces ----


NAMESPACES = {
    **{"network": 0x40000000, "processes": 0x20000000, "ipc": 0x08000000, "names": 0x04000000},
    **{"groups": 0x02000000, "times": 0x80, "everything": 0x7E020080},
}
for _name, _flag in NAMESPACES.items():
    register(
        f"make_a_namespace_of_{_name}",
        lambda target, flag: in_a_child(lambda: call(number("unshare"), flag)),
        _flag,
    )


@attempt
def join_namespaces_by_a_process(target):
    other = call(number("pidfd_open"), target["victim"], 0)
    try:
        in_a_child(lambda: call(number("setns"), other, 0x08000000))
    finally:
        os.close(other)


@attempt
def start_in_a_foreign_group(target):
    """clone3 can start a child in another control group."""
    looked_at(435, 0, 88)
