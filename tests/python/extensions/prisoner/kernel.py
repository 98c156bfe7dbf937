"""Attempts on sockets, other processes, namespaces, interfaces of the kernel, devices and privileges."""

import ctypes
import errno
import fcntl
import os
import resource
import signal
import socket
import struct
import tempfile

from .tools import LOOKED_AT, attempt, call, in_a_child, senseless, temporary

# ---- sockets ----

_listening = []


@attempt
def connect_by_tcp(target):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.connect(("127.0.0.1", target["tcp"]))


@attempt
def listen_by_tcp(target):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.bind(("127.0.0.1", 0))


@attempt
def send_by_udp(target):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"x", ("127.0.0.1", target["udp"]))


@attempt
def make_a_socket_of_ipv6(target):
    socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()


@attempt
def make_a_raw_socket(target):
    socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()


@attempt
def make_a_packet_socket(target):
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


@attempt
def make_a_netlink_socket(target):
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()


@attempt
def make_a_socket_of_the_hypervisor(target):
    make_family(socket.AF_VSOCK)


@attempt
def make_a_socket_of_the_crypto_interface(target):
    make_family(socket.AF_ALG)


@attempt
def make_a_socket_with_a_bit_above(target):
    senseless("socket", (1 << 32) | socket.AF_INET, socket.SOCK_STREAM, 0)


def make_family(family):
    senseless("socket", family, 14, 0)  # a type that does not exist: the kernel checks the family after it


@attempt
def connect_to_a_daemon(target):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.connect(target["socket"])


@attempt
def connect_to_an_abstract_socket(target):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.connect("\0" + target["abstract"])


@attempt
def listen_by_an_abstract_name(target):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    _listening.append(s)
    s.bind("\0" + target["abstract"] + ("" if "taken" in target["abstract"] else "-other"))
    s.listen(1)


@attempt
def send_to_a_daemon(target):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(b"x", target["datagrams"])


@attempt
def send_to_a_daemon_from_a_pair(target):
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with a, b:
        a.sendto(b"x", target["datagrams"])


@attempt
def send_from_a_raw_socket(target):
    with socket.socket(socket.AF_UNIX, socket.SOCK_RAW) as s:
        s.sendto(b"x", target["datagrams"])


@attempt
def send_from_a_raw_pair(target):
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_RAW)
    with a, b:
        a.sendto(b"x", target["datagrams"])


@attempt
def send_a_descriptor_from_a_raw_socket(target):
    rights = struct.pack("i", 0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_RAW) as s:
        s.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], 0, target["datagrams"])


@attempt
def listen_on_an_abstract_name(target):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.bind(f"\0pyisolate-test-{os.urandom(8).hex()}")
        s.listen(1)


@attempt
def run_a_program_on_packets(target):
    program = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 1))
    a, b = socket.socketpair()
    with a, b:
        a.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HxxxxxxP", 1, ctypes.addressof(program)))


@attempt
def put_a_socket_into_a_folder(target):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.bind(target["folder"] + "/socket")


# ---- other processes ----


@attempt
def signal_another(target):
    os.kill(target["victim"], 0)


@attempt
def signal_the_host(target):
    os.kill(target["host"], 0)


@attempt
def signal_a_group(target):
    os.killpg(target["victim"], 0)


@attempt
def signal_a_thread(target):
    call("tgkill", target["victim"], target["victim"], 0)


@attempt
def signal_by_descriptor(target):
    signal.pidfd_send_signal(os.pidfd_open(target["victim"]), 0)


@attempt
def queue_a_signal(target):
    info = (ctypes.c_int * 32)(signal.SIGCONT, 0, -1)
    call("rt_sigqueueinfo", target["victim"], 0, info)


@attempt
def trace_another(target):
    in_a_child(lambda: call("ptrace", 0x4206, target["victim"], 0, 0))  # whose end releases the victim


@attempt
def be_traced(target):
    senseless("ptrace", 9999, 0, 0, 0)


@attempt
def read_foreign_memory(target):
    senseless("process_vm_readv", target["victim"], 0, 0, 0, 0, 1)


@attempt
def write_foreign_memory(target):
    senseless("process_vm_writev", target["victim"], 0, 0, 0, 0, 1)


@attempt
def take_a_descriptor(target):
    senseless("pidfd_getfd", -1, 0, 0)


@attempt
def compare_with_another(target):
    senseless("kcmp", os.getpid(), os.getpid(), 99, 0, 0)


@attempt
def limit_another(target):
    limits = (ctypes.c_uint64 * 2)()
    call("prlimit64", target["victim"], 7, 0, limits)


@attempt
def move_another_to_a_processor(target):
    os.sched_setaffinity(target["victim"], os.sched_getaffinity(0))


@attempt
def slow_another_down(target):
    os.setpriority(os.PRIO_PROCESS, target["victim"], 19)


@attempt
def slow_the_user_down(target):
    try:
        call("setpriority", 99, 1, 0)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


@attempt
def make_the_user_wait_for_disks(target):
    call("ioprio_set", 3, 0, 0)  # all processes of the user; unchanged


@attempt
def make_another_wait_for_disks(target):
    call("ioprio_set", 1, target["victim"], 0)


@attempt
def schedule_another(target):
    os.sched_setscheduler(target["victim"], os.SCHED_OTHER, os.sched_param(0))


@attempt
def move_pages_of_another(target):
    senseless("migrate_pages", target["victim"], 1 << 40, 0, 0)


@attempt
def attach_shared_memory(target):
    call("shmget", target["shm_key"], 1, 0)


@attempt
def open_a_message_queue(target):
    call("mq_open", target["queue"].encode(), os.O_RDONLY, 0, 0)


# ---- namespaces and mounts ----


@attempt
def make_a_user_namespace(target):
    unshare_in_a_child(0x10000000)


@attempt
def make_a_mount_namespace(target):
    unshare_in_a_child(0x00020000)


def unshare_in_a_child(flags):
    in_a_child(lambda: call("unshare", flags))


@attempt
def clone_into_a_namespace(target):
    pid = call("clone", 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@attempt
def clone_by_structure(target):
    senseless("clone3", 0, 0)


@attempt
def join_a_namespace(target):
    senseless("setns", -1, 0)


@attempt
def mount_a_file_system(target):
    folder = temporary("mount")
    os.mkdir(folder)
    call("mount", b"none", folder.encode(), b"tmpfs", 0, 0)


@attempt
def unmount(target):
    senseless("umount2", 0, 0xFFFF)


@attempt
def change_the_root(target):
    senseless("chroot", b"/does/not/exist")


@attempt
def pivot_the_root(target):
    senseless("pivot_root", b"/does/not/exist", b"/does/not/exist")


@attempt
def open_a_file_system(target):
    senseless("fsopen", b"nothing", 0xFFFF)


@attempt
def clone_a_mount(target):
    senseless("open_tree", -1, b"", 0xFFFFFFF)


@attempt
def move_a_mount(target):
    senseless("move_mount", -1, 0, -1, 0, 0xFFFFFF)


@attempt
def change_a_mount(target):
    senseless("mount_setattr", -1, 0, 0xFFFFFF, 0, 0)


# ---- interfaces of the kernel ----


@attempt
def use_io_uring(target):
    senseless("io_uring_setup", 1, 0)


@attempt
def enter_io_uring(target):
    senseless("io_uring_enter", -1, 0, 0, 0, 0, 0)


@attempt
def register_with_io_uring(target):
    senseless("io_uring_register", -1, 99, 0, 0)


@attempt
def load_bpf(target):
    senseless("bpf", 0, 0, 1 << 20)


@attempt
def count_events(target):
    senseless("perf_event_open", 0, -1, -1, -1, 1 << 30)


@attempt
def handle_page_faults(target):
    senseless("userfaultfd", 0x7FFFFFFF)


@attempt
def add_a_key(target):
    senseless("add_key", 0, 0, 0, 0, 0)


@attempt
def read_keys(target):
    senseless("keyctl", 11, 0, 0, 0, 0)


@attempt
def change_the_personality(target):
    call("personality", 0x0040000)


@attempt
def swap_to_a_file(target):
    senseless("swapon", b"/does/not/exist", 0x7FFFFFF)


@attempt
def restart_the_machine(target):
    senseless("reboot", 1, 2, 3, 0)


@attempt
def read_the_log_of_the_kernel(target):
    call("syslog", 10, 0, 0)


@attempt
def type_into_the_terminal(target):
    terminal(0x5412)


@attempt
def type_with_a_bit_above(target):
    terminal((1 << 32) | 0x5412)


@attempt
def paste_into_the_terminal(target):
    terminal(0x541C)


@attempt
def take_over_the_terminal(target):
    terminal(0x540E)


@attempt
def stop_the_terminal(target):
    terminal(0x540A)


@attempt
def change_the_terminal(target):
    terminal(0x5402)


def terminal(request):
    try:
        call("ioctl", -1, request, b"x")
    except OSError as error:
        if error.errno != errno.EBADF:
            raise


@attempt
def use_up_asynchronous_requests(target):
    senseless("io_setup", 0, 0)


@attempt
def see_what_others_read(target):
    senseless(451, -1, 0, 0, 0)  # cachestat


@attempt
def list_mounts(target):
    senseless(458, 0, 0, 0, 0)


@attempt
def call_what_is_new(target):
    senseless(467, -1, 0, 0xFFFF, 0, 0, 0)


# ---- what a process does to those who share files and counters with it ----


@attempt
def make_others_wait_for_a_file(target):
    lease(fcntl.F_SETLEASE, fcntl.F_WRLCK)


@attempt
def watch_a_folder_by_signals(target):
    descriptor = os.open(tempfile.gettempdir(), os.O_RDONLY)
    fcntl.fcntl(descriptor, fcntl.F_NOTIFY, 0)


def lease(request, kind):
    path = temporary("leased")
    open(path, "x").close()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.fcntl(descriptor, request, kind)
    except OSError as error:
        if error.errno not in LOOKED_AT - {errno.EINVAL}:
            raise
    finally:
        os.close(descriptor)


@attempt
def use_up_the_instances_of_inotify(target):
    opened = []
    try:
        while len(opened) < 32:  # of the 128 that a user has by default
            opened.append(call("inotify_init1", 0))
    finally:
        for descriptor in opened:
            os.close(descriptor)


@attempt
def give_the_host_a_child(target):
    """A child of this process does it, so that this process becomes the parent."""

    def be_forked():
        if call("clone", 0x8000 | signal.SIGCHLD, 0, 0, 0, 0) == 0:  # CLONE_PARENT
            os._exit(0)

    in_a_child(be_forked)
    os.waitpid(-1, 0)


@attempt
def change_flags_of_a_file(target):
    flags = ctypes.c_long()
    descriptor = os.open(__file__, os.O_RDONLY)
    call("ioctl", descriptor, 0x80086601, ctypes.byref(flags))
    call("ioctl", descriptor, 0x40086602, ctypes.byref(flags))  # those that it has already


@attempt
def make_a_closing_host_wait(target):
    a, b = socket.socketpair()
    with a, b:
        a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
        if not struct.unpack("ii", a.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))[0]:
            raise OSError(errno.EPERM, "it does nothing")


@attempt
def fill_the_sockets_of_the_user(target):
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] <= target["descriptors"] // 2:
        raise OSError(errno.EPERM, "half of the host's descriptors")


# ---- devices ----


@attempt
def open_a_terminal(target):
    os.close(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY))


@attempt
def open_fuse(target):
    os.close(os.open("/dev/fuse", os.O_RDWR))


# ---- privileges and descriptors ----


@attempt
def keep_a_capability(target):
    with open("/proc/self/status") as file:
        held = next(line for line in file if line.startswith("CapEff")).split()[1]
    if int(held, 16) == 0:
        raise OSError(errno.EPERM, "no capabilities")


@attempt
def become_another_user(target):
    in_a_child(lambda: os.setuid(12345))
