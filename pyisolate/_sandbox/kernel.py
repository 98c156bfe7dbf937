"""Checks that the kernel has what PyIsolate needs. Old kernels and some containers lack it."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
from collections.abc import Callable

__all__ = ["missing_calls"]


def _seal() -> None:
    descriptor = os.memfd_create("pyisolate-probe", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    finally:
        os.close(descriptor)


def _open_process() -> None:
    descriptor = os.pidfd_open(os.getpid())
    try:
        signal.pidfd_send_signal(descriptor, 0)
    finally:
        os.close(descriptor)


def _pair() -> None:
    for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET):
        end.close()


_NEEDED: dict[str, Callable[[], None]] = {
    "sealed memory (memfd_create, F_ADD_SEALS: since Linux 3.17)": _seal,
    "descriptors of processes (pidfd_open, pidfd_send_signal: since Linux 5.3)": _open_process,
    "Unix sockets that keep packets apart (SOCK_SEQPACKET)": _pair,
}


def missing_calls() -> list[str]:
    """Return the needed features that are missing, because the kernel lacks the system calls or a container
    forbids them."""
    missing = []
    for name, use in _NEEDED.items():
        try:
            use()
        except OSError as error:
            missing.append(f"{name}: {error.strerror}")
    return missing
