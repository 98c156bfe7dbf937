"""Writes and logs, hangs and dies."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time

import host_side

from pyisolate import ExtensionBase

log = logging.getLogger("talker.inner")


class Nested:
    """An object that logs while it is converted to text."""

    def __str__(self):
        log.warning("from within")
        return "nested"


class Talker(ExtensionBase):
    async def on_module_loaded(self, module):
        file = os.environ.get("TALKER_FAILS_WITH")
        if file and os.path.exists(file):
            raise RuntimeError("not this time")
        self.array = None

    def write(self, out="", err=""):
        print(out, end="")
        sys.stdout.flush()
        print(err, end="", file=sys.stderr, flush=True)

    def flood(self, lines, width):
        line = "x" * width + "\n"
        for _ in range(lines):
            sys.stdout.write(line)
        sys.stdout.flush()

    def log(self, level, text, *args):
        log.log(level, text, *args)

    def flood_for_ever(self, how, file):
        """Write in a thread; the file contains the number of bytes written so far."""
        text, stream = {
            "controls": (b"\x1b" * 1000 + b"\n", 1),
            "newlines": (b"\n" * 1000, 1),
            "no newline": (b"x" * 1000, 1),
            "directions": ("\u202e".encode() * 300 + b"\n", 2),
        }[how]

        def run():
            written = 0
            with open(file, "r+b", buffering=0) as count:
                while True:
                    written += os.write(stream, text * 60)
                    os.pwrite(count.fileno(), written.to_bytes(8, "little"), 0)

        threading.Thread(target=run, daemon=True).start()

    def notify_for_ever(self, text):
        notify = self._link.session.notify

        def run():
            while True:
                notify(0, "log", ("name", 30, text, None, 0), 1000)

        threading.Thread(target=run, daemon=True).start()

    def log_many(self, count):
        for number in range(count):
            log.warning("number %d", number)

    def log_error(self):
        try:
            raise ValueError("the reason")
        except ValueError:
            log.exception("it failed")

    def log_prepared(self, trace):
        """Log a record as it comes from another process, with the traceback as text."""
        record = log.makeRecord(log.name, logging.ERROR, "file", 1, "it failed", (), None)
        record.exc_text = trace
        log.handle(record)

    def log_nested(self):
        log.warning("%s", Nested())

    def log_wrongly(self):
        log.warning("%d", "no number")

    def log_in_thread(self, text):
        thread = threading.Thread(target=log.warning, args=(text,))
        thread.start()
        thread.join()

    def log_junk(self):
        notify = self._link.session.notify
        for fields in ((), ("a", "b", "c", None, 0), ("a", 10**30, "c", None, 0), ("a", True, "c", None, 0)):
            notify(0, "log", fields, 100)
        notify(0, "log", ("\x1b[31mname", 30, "\x1b[2Jtext", None, 0), 100)

    def echo(self, value):
        return value

    def pid(self):
        return os.getpid()

    def block(self, seconds):
        time.sleep(seconds)

    async def wait(self, seconds):
        await asyncio.sleep(seconds)

    def exit(self, status, words="so long\n"):
        print(words, end="", file=sys.stderr, flush=True)
        os._exit(status)

    def log_as(self, name, text):
        logging.getLogger(name).warning(text)

    def start_program(self):
        return subprocess.Popen(["sleep", "600"]).pid

    def keep(self, array):
        self.array = array

    async def count(self):
        return await host_side.Counter().add(1)

    def wait_for_host(self, seconds):
        return host_side.Slow().sync.wait(seconds)

    def tell(self, payload):
        self.emit_event("told", payload)

    def offer(self):
        self.register_callee(host_side.Board(), "board")
