"""Reports on the process that it runs in."""

import asyncio
import ctypes
import gc
import importlib
import json
import locale
import logging
import multiprocessing
import os
import random
import signal
import site
import subprocess
import sys
import threading
import time

from pyisolate import ExtensionBase
from pyisolate._core import settle_memory


def square(number):
    return number * number


class Probe(ExtensionBase):
    async def on_module_loaded(self, module):
        self.given_back = settle_memory() if "PROBE_SETTLE" in os.environ else None
        self.main_thread = threading.current_thread() is threading.main_thread()

    def process(self):
        """Return what must not depend on how the process was started."""
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        return {
            "argv": sys.argv,
            "orig_argv": sys.orig_argv[:4],
            "executable": sys.executable,
            "prefix": sys.prefix,
            "base_prefix": sys.base_prefix,
            "path": sys.path,
            "hooks": [getattr(hook, "__name__", type(hook).__name__) for hook in sys.meta_path],
            "site": [site.ENABLE_USER_SITE, site.USER_BASE, site.USER_SITE, site.PREFIXES],
            "flags": str(sys.flags),
            "cwd": os.getcwd(),
            "environ": {name: value for name, value in os.environ.items() if name != "PISO_FD"},
            "environ of a program": json.loads(
                subprocess.run(
                    [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"],
                    stdout=subprocess.PIPE,
                    check=True,
                ).stdout
            ),
            "blocked": sorted(int(number) for number in blocked),
            "handlers": {
                number.name: getattr(signal.getsignal(number), "name", "a function")
                for number in signal.Signals
            },
            "leads its group": os.getpgrp() == os.getpid(),
            "stdin": os.readlink("/proc/self/fd/0"),
            "line buffering": [sys.stdout.line_buffering, sys.stderr.line_buffering],
            "gc": [gc.isenabled(), gc.get_threshold()],
            "loggers": [logging.getLogger().level, len(logging.getLogger().handlers)],
            "main": self.main_thread,
            "locale": [locale.setlocale(locale.LC_ALL), locale.getpreferredencoding(False)],
            "umask": [os.umask(0o22), os.umask(0o22)][0],
            "helpers": [name in dir(__builtins__) or name in __builtins__ for name in ("exit", "help")],
        }

    def evaluate(self, text):
        return eval(text)

    def pages_given_back(self):
        return self.given_back

    def descriptors(self):
        return {name: os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")[:-1]}

    def ids(self):
        return os.getpid(), os.getppid()

    def title(self):
        with open("/proc/self/cmdline", "rb") as file:
            return file.read().rstrip(b"\0").decode()

    def numbers(self, module):
        """Return random numbers of a library's global generator."""
        if module == "random":
            return [random.random() for _ in range(3)]
        library = importlib.import_module(module)
        return library.random.rand(3).tolist() if module == "numpy" else library.rand(3).tolist()

    def version(self, module):
        library = importlib.import_module(module)
        return library.__version__

    def file(self, module):
        return importlib.import_module(module).__file__

    def loaded(self, module):
        return module in sys.modules

    def threads(self):
        found = []
        threads = [threading.Thread(target=lambda n=n: found.append(square(n))) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(found)

    async def in_thread(self):
        return await asyncio.to_thread(square, 7)

    async def subprocess(self):
        process = await asyncio.create_subprocess_exec("echo", "hello", stdout=subprocess.PIPE)
        return (await process.communicate())[0].decode()

    def multiprocessing(self, method):
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            return pool.map(abs, range(-4, 0))

    def blas(self, size):
        numpy = importlib.import_module("numpy")
        matrix = numpy.ones((size, size))
        return float((matrix @ matrix)[0, 0])

    def torch_threads(self):
        torch = importlib.import_module("torch")
        torch.set_num_threads(2)
        matrix = torch.ones(400, 400)
        return torch.get_num_threads(), float((matrix @ matrix)[0, 0])

    def torch_loader(self):
        data = importlib.import_module("torch.utils.data")
        return sorted(int(value) for batch in data.DataLoader(range(8), num_workers=2) for value in batch)

    def busy(self, seconds):
        time.sleep(seconds)

    def crash(self, number):
        print("last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), number)
        time.sleep(10)

    def segfault(self):
        ctypes.string_at(0)

    def child_that_stays(self):
        return subprocess.Popen(["sleep", "1000"]).pid
