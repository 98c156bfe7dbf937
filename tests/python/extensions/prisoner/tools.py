"""Functions for attempts."""

import ctypes
import errno
import os
import tempfile

from .numbers import number_of

LIBC = ctypes.CDLL(None, use_errno=True)

ATTEMPTS = {}
LOOKED_AT = {
    *(errno.EINVAL, errno.EFAULT, errno.EBADF, errno.ENOTTY, errno.E2BIG, errno.ENOENT, errno.ENODEV),
    *(errno.ESRCH, errno.ENOKEY, errno.EAGAIN),
}


def attempt(function):
    ATTEMPTS[function.__name__] = function
    return function


def call(name, *arguments):
    """Make a system call."""
    number = number_of(name) if isinstance(name, str) else name
    result = LIBC.syscall(
        ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)
    )
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def senseless(name, *arguments):
    """Make a system call with invalid arguments: it is done if the kernel checked them."""
    try:
        call(name, *arguments)
    except OSError as error:
        if error.errno not in LOOKED_AT:
            raise


def read(path):
    with open(path, "rb") as file:
        return file.read(1)


def open_for_writing(path):
    os.close(os.open(path, os.O_WRONLY))


def temporary(name):
    return os.path.join(tempfile.gettempdir(), f"{name}-{os.urandom(4).hex()}")


def in_a_child(function):
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            function()
        except OSError as error:
            code = error.errno
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise OSError(code, os.strerror(code))


def result_of(name, target):
    """Make one attempt. Return "done", or the name of the error that stopped it."""
    try:
        ATTEMPTS[name](target)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    except Exception as error:  # a bug of the test
        return repr(error)
    return "done"
