"""An extension that tries to escape. Each attempt returns "done" or the name of the error that stopped it.

An attempt with invalid arguments is also "done" if the kernel checked them: the call was not refused.
"""

import contextlib
import errno
import fcntl
import os
import resource
import signal
import socket
import subprocess
import tempfile
import threading

from pyisolate import ExtensionBase

from . import files, kernel
from .tools import ATTEMPTS, result_of

__all__ = ["Prisoner", "files", "kernel"]


class Prisoner(ExtensionBase):
    def attempts(self):
        return list(ATTEMPTS)

    def attempt(self, name, target):
        return result_of(name, target)

    def name_a_thread(self):
        """Name a thread as CUDA's driver does. Return its name then, or the name of the error."""
        done, tid = threading.Event(), []
        thread = threading.Thread(target=lambda: (tid.append(threading.get_native_id()), done.wait()))
        thread.start()
        try:
            while not tid:
                pass
            path = f"/proc/self/task/{tid[0]}/comm"
            with open(path, "r+b", buffering=0) as file:
                file.write(b"cuda-named")
            with open(path) as file:
                return file.read().strip()
        except OSError as error:
            return errno.errorcode.get(error.errno, str(error))
        finally:
            done.set()
            thread.join()

    def descriptors(self):
        found = {}
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # the descriptor of the listing itself
                found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        return found

    def environ(self):
        return dict(os.environ)

    def folder(self):
        path = tempfile.gettempdir()
        with open(os.path.join(path, "mine"), "w") as file:
            file.write("x")
        os.makedirs(os.path.join(path, "locked", "below"))
        return path

    def dig(self, depth):
        os.chdir(tempfile.gettempdir())
        for _ in range(depth):
            os.mkdir("deeper")
            os.chdir("deeper")

    def lock_folder(self):
        os.chmod(os.path.join(tempfile.gettempdir(), "locked"), 0)

    def write(self, path, size=1):
        with open(path, "wb") as file:
            for _ in range(max(size >> 16, 1)):
                file.write(b"\0" * min(size, 1 << 16))

    def fill(self, size):
        self.write(os.path.join(tempfile.gettempdir(), "large"), size)

    def allocate(self, size):
        return len(bytearray(size))

    def burn(self):
        while True:
            pass

    def open_many(self, count):
        opened = []
        try:
            for _ in range(count):
                opened.append(os.open("/dev/null", os.O_RDONLY))
        finally:
            for descriptor in opened:
                os.close(descriptor)
        return count

    def fill_sockets(self):
        """As many descriptors in transit as possible, in sockets that stay open."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        self.sockets, count = [], 0
        with contextlib.suppress(OSError):
            while True:
                self.sockets += socket.socketpair()
                self.sockets[-1].setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        socket.send_fds(self.sockets[-1], [b"x"], [0] * 200)
                        count += 200
        return count

    def start_threads(self, count):
        event = threading.Event()
        threads = [threading.Thread(target=event.wait) for _ in range(count)]
        try:
            for thread in threads:
                thread.start()
        finally:
            event.set()
        return count

    def fork_bomb(self, most, leave):
        """Processes that start processes until that is refused, at most most * most. Return the first ones.

        `leave`: each in a session of its own.
        """
        pids = []
        with contextlib.suppress(BlockingIOError):
            while len(pids) < most:
                pid = os.fork()
                if pid == 0:
                    _explode(most, leave)
                pids.append(pid)
        return pids

    def use_device(self, path):
        """Read, write, and send a command that the device does not know."""
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.write(descriptor, os.read(descriptor, 1))
            fcntl.ioctl(descriptor, 0x4600)
        except OSError as error:
            return errno.errorcode[error.errno]
        finally:
            os.close(descriptor)
        return "done"

    def start_program(self, leave):
        return subprocess.Popen(["/bin/sleep", "600"], start_new_session=leave).pid

    def exit(self):
        os._exit(3)

    def enter_group(self, folder):
        with open(os.path.join(folder, "cgroup.procs"), "w") as file:
            file.write("0")

    def use_a_lock_of_multiprocessing(self):
        import multiprocessing

        with multiprocessing.get_context("fork").Lock():
            return True

    def talk_to_itself(self):
        path = os.path.join(tempfile.gettempdir(), "socket")
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
            listener.bind(path)
            listener.listen(1)
            client.connect(path)
            client.sendall(b"hello")
            return listener.accept()[0].recv(5)

    def use_multiprocessing(self, method):
        import multiprocessing

        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool, context.Manager() as manager:
            shared = manager.dict(a=1)
            numbers = pool.map(abs, [-1, 2, -3])
            queue = manager.Queue()
            queue.put("sent")
            return [numbers, dict(shared), queue.get(timeout=60)]

    def load_data(self, workers):
        import torch

        data = torch.utils.data.TensorDataset(torch.arange(8))
        loader = torch.utils.data.DataLoader(data, batch_size=2, num_workers=workers)
        return [batch[0].tolist() for batch in loader]

    def replace_by_link(self, path, target):
        os.rename(path, path + "-aside")
        os.symlink(target, path)

    def limit(self, number):
        return resource.getrlimit(number)

    def run(self, *command):
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def connect(self, port):
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True

    def lock(self, path):
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH)
        return True


def _explode(most, leave):
    try:
        if leave:
            os.setsid()
        for _ in range(most):
            if os.fork() == 0:
                break
    finally:
        while True:
            signal.pause()
