"""Attempts on sockets: families, kinds, names, options."""

import ctypes
import errno
import fcntl
import os
import socket
import struct
import tempfile

from .tools import attempt, nothing, register

FAMILIES = {
    **{
        "amateur_radio": 3,
        "appletalk": 5,
        "x25": 9,
        "netrom": 6,
        "rose": 11,
        "decnet": 12,
        "keys_of_ipsec": 15,
    },
    **{"rds": 21, "pppox": 24, "llc": 26, "infiniband": 27, "mpls": 28, "can": 29, "tipc": 30},
    **{"bluetooth": 31, "iucv": 32, "rxrpc": 33, "phonet": 35, "radio": 36, "caif": 37, "nfc": 39},
    **{"multiplexor": 41, "qualcomm": 42, "smc": 43, "express_data_path": 44, "mctp": 45},
}


def make_family(target, family):
    """With a type that does not exist: the kernel checks the type before the family."""
    try:
        socket.socket(family, 14).close()
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


for _name, _family in FAMILIES.items():
    register(f"make_a_socket_of_{_name}", make_family, _family)


def make(target, family, kind, protocol):
    socket.socket(family, kind, protocol).close()


INET, INET6, NETLINK = socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK
KINDS = {
    "ping": (INET, socket.SOCK_DGRAM, 1),
    "ping_by_ipv6": (INET6, socket.SOCK_DGRAM, 58),
    "send_raw_ipv6": (INET6, socket.SOCK_RAW, 58),
    "use_multipath_tcp": (INET, socket.SOCK_STREAM, 262),
    "see_frames_without_headers": (socket.AF_PACKET, socket.SOCK_DGRAM, 0),
    "listen_to_devices": (NETLINK, socket.SOCK_RAW, 15),
    "listen_to_the_audit": (NETLINK, socket.SOCK_RAW, 9),
    "list_sockets_of_others": (NETLINK, socket.SOCK_RAW, 4),
    "change_the_firewall": (NETLINK, socket.SOCK_RAW, 12),
    "listen_to_processes": (NETLINK, socket.SOCK_DGRAM, 11),
}
for _name, _kind in KINDS.items():
    register(_name, make, *_kind)


@attempt
def open_by_first_data(target):
    with socket.socket(INET, socket.SOCK_STREAM) as s:
        s.sendto(b"x", 0x20000000, ("127.0.0.1", target["tcp"]))  # MSG_FASTOPEN


@attempt
def connect_by_ipv6(target):
    with socket.socket(INET6, socket.SOCK_STREAM) as s:
        s.connect(("::ffff:127.0.0.1", target["tcp"]))


@attempt
def listen_without_an_address(target):
    with socket.socket(INET, socket.SOCK_STREAM) as s:
        s.listen(1)


@attempt
def send_by_udp_connected(target):
    with socket.socket(INET, socket.SOCK_DGRAM) as s:
        s.connect(("127.0.0.1", target["udp"]))
        s.send(b"x")


@attempt
def connect_by_packets_to_a_daemon(target):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.connect(target["packets"])


@attempt
def connect_by_a_link(target):
    link = tempfile.gettempdir() + "/daemon-" + os.urandom(4).hex()
    os.symlink(target["socket"], link)
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(link)


@attempt
def connect_by_the_root_of_proc(target):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect("/proc/self/root" + target["socket"])


@attempt
def connect_beside_a_path(target):
    folder = os.open(os.path.dirname(target["socket"]), os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(f"/proc/self/fd/{folder}/{os.path.basename(target['socket'])}")
    finally:
        os.close(folder)


@attempt
def send_from_a_pair_with_an_abstract_name(target):
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with a, b:
        a.sendto(b"x", "\0" + target["abstract_datagrams"])


@attempt
def connect_a_pair_again(target):
    """A connected stream socket cannot be connected again; one whose other end is gone might be."""
    with socket.socket(socket.AF_UNIX) as s:
        s.bind("")  # a name that the kernel chooses
        s.connect(target["socket"])


@attempt
def list_interfaces(target):
    """By an ioctl on any socket. In its own network namespace there is a loopback device at most."""
    a, b = socket.socketpair()
    buffer = ctypes.create_string_buffer(4096)
    with a, b:
        request = struct.pack("ixxxxP", len(buffer), ctypes.addressof(buffer))
        fcntl.ioctl(a, 0x8912, request)  # SIOCGIFCONF


@attempt
def switch_an_interface_off(target):
    a, b = socket.socketpair()
    with a, b:
        try:
            fcntl.ioctl(a, 0x8914, b"no-such-device".ljust(40, b"\0"))  # SIOCSIFFLAGS
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise


def option(target, level, name, value):
    a, b = socket.socketpair()
    with a, b:
        try:
            a.setsockopt(level, name, value)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.EBADF, errno.ENODEV, errno.EOPNOTSUPP}:
                raise


NOTHING = struct.pack("i", -1)
OPTIONS = {
    "run_bpf_on_packets": (socket.SOL_SOCKET, 50, NOTHING),
    "choose_a_receiver_by_bpf": (socket.SOL_SOCKET, 52, NOTHING),
    "choose_a_receiver_by_a_program": (socket.SOL_SOCKET, 51, NOTHING * 4),
}
for _name, _option in OPTIONS.items():
    register(_name, option, *_option)


def find_in(target, path, text):
    with open(path) as file:
        if text not in file.read():
            raise nothing("nothing of the host's is there")


@attempt
def list_connections_of_the_host(target):
    find_in(target, "/proc/self/net/tcp", f":{target['tcp']:04X} ")


@attempt
def list_local_sockets_of_the_host(target):
    find_in(target, "/proc/self/net/unix", target["abstract"])


@attempt
def list_connections_by_a_thread(target):
    find_in(target, "/proc/thread-self/net/udp", f":{target['udp']:04X} ")


@attempt
def list_connections_beside_a_path(target):
    folder = os.open("/proc/self/net", os.O_PATH)
    try:
        with open(os.open("tcp", os.O_RDONLY, dir_fd=folder)) as file:
            if f":{target['tcp']:04X} " not in file.read():
                raise nothing("nothing of the host's is there")
    finally:
        os.close(folder)


@attempt
def pretend_to_be_another_process(target):
    """Send a message with the host's credentials."""
    a, b = socket.socketpair()
    with a, b:
        who = struct.pack("3i", target["host"], os.getuid(), os.getgid())
        a.sendmsg([b"x"], [(socket.SOL_SOCKET, 2, who)])
