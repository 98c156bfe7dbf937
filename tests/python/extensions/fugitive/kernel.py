"""Attempts on the kernel: calls, requests, options, instructions."""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import signal

from .tools import MACHINE, attempt, call, in_a_child, looked_at, nothing, number, register

# name: (call, invalid arguments)
CALLS = {
    "load_a_module": ("init_module", (0, 0, 0)),
    "load_a_module_by_descriptor": ("finit_module", (-1, 0, 0xFFFF)),
    "unload_a_module": ("delete_module", (b"does_not_exist", os.O_NONBLOCK)),
    "load_another_kernel": ("kexec_load", (0, 99, 0, 0xFFFF)),
    "load_another_kernel_by_descriptor": ("kexec_file_load", (-1, -1, 0, 0, 0xFFFF)),
    "account_for_processes": ("acct", (b"/does/not/exist",)),
    "stop_swapping": ("swapoff", (b"/does/not/exist",)),
    "set_a_quota": ("quotactl", (0xFFFFFF, 0, 0, 0)),
    "set_a_quota_by_descriptor": ("quotactl_fd", (-1, 0xFFFFFF, 0, 0)),
    "set_a_clock": ("clock_settime", (99, 0)),
    "adjust_a_clock": ("clock_adjtime", (99, 0)),
    "watch_a_file_system": ("fanotify_init", (0xFFFFFF, 0)),
    "mark_a_file_system": ("fanotify_mark", (-1, 0xFFFFFF, 0, -1, 0)),
    "set_a_file_system_up": ("fsconfig", (-1, 99, 0, 0, 0)),
    "mount_a_file_system_that_is_set_up": ("fsmount", (-1, 0xFFFFFF, 0)),
    "look_at_a_file_system_that_is_mounted": ("fspick", (-1, b"", 0xFFFFFF)),
    "clone_a_mount_with_attributes": ("open_tree_attr", (-1, b"", 0xFFFFFFF, 0, 0)),
    "see_a_mount": ("statmount", (0, 0, 0, 0xFFFF)),
    "choose_a_security_module": ("lsm_set_self_attr", (0, 0, 0, 0xFFFF)),
    "request_a_key": ("request_key", (0, 0, 0, 0)),
    "join_a_session_of_keys": ("keyctl", (99, 0, 0, 0, 0)),
    "submit_requests": ("io_submit", (0, 1, 0)),
    "end_requests": ("io_destroy", (0,)),
    "use_ports_of_the_machine": ("ioperm", (1 << 40, 1, 1)),
    "use_all_ports_of_the_machine": ("iopl", (99,)),
    "make_a_segment_of_16_bits": ("modify_ldt", (1, 0, 0)),
}
for _name, (_call, _arguments) in CALLS.items():
    register(_name, lambda target, call, arguments: looked_at(call, *arguments), _call, _arguments)


# ---- numbers that nobody has looked at, and other ways in ----

for _number in (400, 470, 600, (1 << 31) - 1, -2):
    register(
        f"call_number_{str(_number).replace('-', 'minus_')}",
        lambda target, number: looked_at(number, -1, 0, 0, 0, 0, 0),
        _number,
    )

X32 = 1 << 30
for _name, _number in {"getpid": 39, "open": 2, "ptrace": 521, "process_vm_readv": 539}.items():
    register(
        f"call_{_name}_by_x32", lambda target, number: looked_at(X32 | number, 0, 0, 0, 0, 0, 0), _number
    )


def run_code(code):
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    function = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
    return function()


def enter_by_code(code):
    """In a child: either it is killed, or the call fails."""
    if MACHINE:
        raise OSError(errno.ENOSYS, "no such instruction on this machine")
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os._exit(0 if run_code(code) == os.getpid() else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise OSError(errno.EPERM if code == -signal.SIGSYS else errno.ENOSYS, f"ended with {code}")


@attempt
def call_as_a_program_of_32_bits(target):
    enter_by_code(b"\xb8\x14\0\0\0\xcd\x80\x48\x98\xc3")  # mov eax, 20 (getpid); int 0x80; cdqe; ret


# ---- requests ----

REQUESTS = {
    "take_over_the_console": 0x541D,
    "change_the_speed_of_a_line": 0x5423,
    "put_into_the_foreground": 0x5410,
    "hang_up": 0x5437,
    "resize_the_terminal": 0x5414,
    "lock_a_pseudo_terminal": 0x40045431,
    "open_the_other_end_of_a_terminal": 0x5441,
    "make_a_terminal_exclusive": 0x540C,
    "drain_a_terminal": 0x5409,
    "map_the_keyboard": 0x4B47,
    "set_the_mode_of_the_console": 0x4B3A,
    "switch_the_console": 0x5606,
    "program_a_function_key": 0x4B49,
    "freeze_a_file_system": 0xC0045877,
    "trim_a_file_system": 0xC0185879,
    "encrypt_a_folder": 0x800C6613,
    "add_a_key_of_a_file_system": 0xC0506617,
    "protect_a_file_by_hashes": 0x40806685,
    "make_a_volume": 0x5000940E,
    "write_to_a_disk_below": 0x125D,
    "find_blocks_of_a_file": 0x1,
    "find_the_owner_of_a_namespace": 0xB702,
    "find_the_user_of_a_namespace": 0xB701,
    "make_a_network_interface": 0x400454CA,
    "make_a_virtual_machine": 0xAE01,
    "attach_a_disk_to_a_file": 0x4C00,
    "send_a_scsi_command": 0x2285,
    "listen_to_calls_of_others": 0xC0502100,
    "route_packets": 0x890B,
    "bridge_packets": 0x89A0,
    "be_signalled_by_a_socket": 0x8901,
}


def request(target, code):
    try:
        call(number("ioctl"), -1, code, 0)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise


for _name, _request in REQUESTS.items():
    register(_name, request, _request)

# ---- options of processes ----

OPTIONS = {
    "keep_capabilities": (8, 1),
    "change_secure_bits": (28, 1),
    "flush_for_disks": (57, 1),
    "stop_counting_events": (31,),
    "share_a_core_with_another": (62, 2),
}
for _name, _option in OPTIONS.items():
    register(
        _name,
        lambda target, option: in_a_child(
            lambda: call(number("prctl"), *option, *([target["victim"]] if option[0] == 62 else []), 0, 0, 0)
        ),
        _option,
    )


def set_capabilities(inheritable):
    """All permitted capabilities, and one bit in the lower half of the inheritable ones."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    call(number("capget"), header, sets)
    sets[2] |= inheritable
    sets[0] |= inheritable
    call(number("capset"), header, sets)


@attempt
def take_a_capability(target):
    in_a_child(lambda: set_capabilities(1 << 13))


@attempt
def raise_an_ambient_capability(target):
    def be():
        set_capabilities(1 << 13)
        call(number("prctl"), 47, 2, 13, 0, 0)

    in_a_child(be)


@attempt
def set_a_project(target):
    """Set the attributes of a readable file to those that it has."""
    attributes = ctypes.create_string_buffer(28)
    descriptor = os.open(__file__, os.O_RDONLY)
    try:
        call(number("ioctl"), descriptor, 0x801C581F, attributes)
        call(number("ioctl"), descriptor, 0x401C5820, attributes)
    finally:
        os.close(descriptor)


@attempt
def name_the_host(target):
    in_a_child(lambda: looked_at("sethostname", 0, 1 << 20))


@attempt
def name_the_domain(target):
    in_a_child(lambda: looked_at("setdomainname", 0, 1 << 20))


@attempt
def set_the_time(target):
    looked_at("settimeofday", -1, 0)


@attempt
def adjust_the_time(target):
    looked_at("adjtimex", -1)


@attempt
def join_a_group(target):
    in_a_child(lambda: os.setgroups([0, 4, 6]))


@attempt
def become_root(target):
    """After being another user: root's privileges that would be left."""

    def be():
        os.setresuid(12345, 12345, 0)
        os.setuid(0)

    in_a_child(be)


@attempt
def gain_by_a_program(target):
    """Whether a program with the set-user-id bit would change the user."""
    if call(number("prctl"), 39, 0, 0, 0, 0) == 1:  # PR_GET_NO_NEW_PRIVS
        raise OSError(errno.EPERM, "no new privileges")


@attempt
def fill_pipes_of_the_user(target):
    """Of pipes the kernel counts pages for each user: beyond it all of the user's pipes get small."""
    pipes = []
    try:
        for _ in range(80):
            pipes += os.pipe()
            fcntl.fcntl(pipes[-1], 1031, 1 << 20)  # F_SETPIPE_SZ
    finally:
        for descriptor in pipes:
            os.close(descriptor)


@attempt
def keep_a_file_of_the_host(target):
    """By a descriptor that it has inherited."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == target["project"] + "/.env":
                return
    raise nothing("no descriptor of the host's files")
