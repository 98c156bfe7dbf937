"""What an extension writes and logs, handed to `logging` of the host.

Lines of stdout arrive as INFO and lines of stderr as WARNING at the logger ``pyisolate.extension.<name>``;
records of `logging` in the extension arrive there with their own level, and with the name of their logger
behind that of this one. The extension is not trusted: all of it is bounded, and what had to be dropped is
counted and told.
"""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Callable
from weakref import WeakMethod

from ._core import Session
from .watching import watcher

__all__ = ["Output", "extension_logger"]

STDOUT, STDERR = 1, 2
LEVELS = {STDOUT: logging.INFO, STDERR: logging.WARNING}
STREAMS = {STDOUT: "stdout", STDERR: "stderr"}

MAX_LINE = 16 << 10  # characters; longer lines are cut into several
MAX_NAME = 200
BURST = 10_000  # lines and records at once
PER_SECOND = 1_000  # and in the long run
MAX_RECORDS = 1_000  # that wait for the watcher's thread
CHUNKS = 8  # read at a time, of 16 KiB each
TELL_EVERY = 1.0  # seconds between messages about what was dropped
PAUSE = 0.05  # seconds without reading, when there were too many lines

# With what ends a line, or turns the direction of text around so that it shows something else than it says.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def extension_logger(name: str) -> logging.Logger:
    """The logger of an extension."""
    return logging.getLogger(f"pyisolate.extension.{name}")


def is_shown(logger: logging.Logger, level: int) -> bool:
    """Whether a record of that level reaches a handler."""
    return logger.isEnabledFor(level) and logger.hasHandlers()


class Output:
    """Reads the output of one process until its end.

    `echo`: whether the output also goes to the host's own stdout and stderr as it is; None: where `logging`
    would not show it. `on_end` is called when all has been read; its object is not kept alive.
    """

    def __init__(self, name: str, echo: bool | None, on_end: WeakMethod[Callable[[], None]]) -> None:
        self._name = name
        self._logger = extension_logger(name)
        self.echo = {
            stream: not is_shown(self._logger, level) if echo is None else echo
            for stream, level in LEVELS.items()
        }
        self._on_end = on_end
        self._session: Session | None = None
        self._rests = dict.fromkeys(LEVELS, b"")
        self._bytes_lost = dict.fromkeys(LEVELS, 0)
        self._lines_lost = 0
        self._records: deque[tuple[str, int, str, str | None]] = deque()
        self._records_lost = 0
        self._told = -TELL_EVERY
        self._will_tell = False
        self._tokens = float(BURST)
        self._filled = time.monotonic()

    def follow(self, session: Session) -> None:
        """Begin to read the output of the session's process."""
        self._session = session
        watcher().add_reader(session.output_fd(), self._read)

    # ---- records of the extension's logging ----

    def log(self, *fields: object, **_: object) -> None:
        """Take a record from the extension: (logger name, level, text, traceback text or None, number lost).

        Nothing is raised and nothing waits: what does not have this form, or is too much, is counted.
        """
        if len(fields) != 5 or len(self._records) >= MAX_RECORDS:
            self._records_lost += 1
            return
        name, level, text, trace, lost = fields
        if (
            not (isinstance(name, str) and isinstance(text, str) and isinstance(trace, str | None))
            or not (type(level) is int and 0 <= level <= 1000)
            or not (type(lost) is int and 0 <= lost < 1 << 32)
        ):
            self._records_lost += 1
            return
        self._records_lost += lost
        self._records.append((name[:MAX_NAME], level, text[:MAX_LINE], trace and trace[-MAX_LINE:]))
        if len(self._records) == 1:
            watcher().after(0, self._log_records)

    def _log_records(self) -> None:
        while self._records:
            name, level, text, trace = self._records.popleft()
            if not self._take():
                self._records_lost += 1
            elif self._logger.isEnabledFor(level):
                record = self._record(level, _printable(text, keep="\t\n"))
                record.name = f"{self._logger.name}.{_printable(name)}"
                record.exc_text = trace and "    " + _printable(trace, keep="\t\n")
                self._handle(record, fallback=True)
        self._tell_losses()

    # ---- stdout and stderr ----

    def _read(self) -> None:
        session = self._session
        if session is None:
            return
        more = [self._read_stream(session, stream, CHUNKS) for stream in LEVELS]
        # asked after reading, which makes the descriptor forget: a later end makes it readable again
        if session.wait(0) is not None:
            for stream in LEVELS:
                self._read_stream(session, stream, None)
            self._finish(session)
            return
        if any(more) or self._tokens < 1:
            fd = session.output_fd()
            watcher().remove_reader(fd)
            watcher().after(PAUSE if self._tokens < 1 else 0, self._resume)
        self._tell_losses()

    def _resume(self) -> None:
        if self._session is not None:
            watcher().add_reader(self._session.output_fd(), self._read)
            self._read()

    def _read_stream(self, session: Session, stream: int, limit: int | None) -> bool:
        """Whether there is more."""
        count = 0
        while limit is None or count < limit:
            data, dropped = session.read_output(stream)
            self._feed(stream, data)
            self._bytes_lost[stream] += dropped if self._is_wanted(stream) else 0
            if not data:
                return False
            count += 1
        return True

    def _feed(self, stream: int, data: bytes) -> None:
        lines = (self._rests[stream] + data).split(b"\n")
        rest = lines.pop()
        while len(rest) > MAX_LINE:
            lines.append(rest[:MAX_LINE])
            rest = rest[MAX_LINE:]
        self._rests[stream] = rest
        for line in lines:
            self._log_line(stream, line)

    def _is_wanted(self, stream: int) -> bool:
        return not self.echo[stream] or is_shown(self._logger, LEVELS[stream])

    def _log_line(self, stream: int, line: bytes) -> None:
        if not self._is_wanted(stream):
            return
        if not self._take():
            self._lines_lost += 1
            return
        # of a progress bar, which goes back to the line's start again and again, the last state
        text = line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace")
        for start in range(0, max(len(text), 1), MAX_LINE):
            record = self._record(LEVELS[stream], _printable(text[start : start + MAX_LINE], keep="\t"))
            record.stream = STREAMS[stream]
            self._handle(record, fallback=not self.echo[stream])

    def _finish(self, session: Session) -> None:
        watcher().remove_reader(session.output_fd())
        self._session = None
        for stream, rest in self._rests.items():
            if rest:
                self._log_line(stream, rest)
        self._told, self._will_tell = -TELL_EVERY, False
        self._tell_losses()
        on_end = self._on_end()
        if on_end is not None:
            on_end()

    # ---- limits ----

    def _take(self) -> bool:
        """Whether one more line may be logged now."""
        if self._tokens < 1:
            now = time.monotonic()
            self._tokens = min(BURST, self._tokens + (now - self._filled) * PER_SECOND)
            self._filled = now
            if self._tokens < 1:
                return False
        self._tokens -= 1
        return True

    def _tell_losses(self) -> None:
        if not (any(self._bytes_lost.values()) or self._lines_lost or self._records_lost) or self._will_tell:
            return
        wait = self._told + TELL_EVERY - time.monotonic()
        if wait > 0:
            self._will_tell = True
            watcher().after(wait, self._tell_later)
            return
        self._told = time.monotonic()
        losses = [
            f"{count} bytes of {STREAMS[stream]}" for stream, count in self._bytes_lost.items() if count
        ]
        if self._lines_lost:
            losses.append(f"{self._lines_lost} lines")
        if self._records_lost:
            losses.append(f"{self._records_lost} log records")
        self._bytes_lost = dict.fromkeys(LEVELS, 0)
        self._lines_lost = self._records_lost = 0
        text = f"{' and '.join(losses)} of extension {self._name!r} were dropped: there was too much at once"
        self._handle(self._record(logging.WARNING, text), fallback=True)

    def _tell_later(self) -> None:
        self._will_tell = False
        self._tell_losses()

    # ---- records ----

    def _record(self, level: int, text: str) -> logging.LogRecord:
        record = self._logger.makeRecord(self._logger.name, level, "", 0, "%s", (text,), None)
        record.processName = record.extension = self._name
        record.process = self._session.pid if self._session is not None else None
        return record

    def _handle(self, record: logging.LogRecord, *, fallback: bool) -> None:
        """`fallback`: where the host has not set up logging, warnings go to its stderr, as usual."""
        if not self._logger.isEnabledFor(record.levelno):
            return
        if self._logger.hasHandlers():
            self._logger.handle(record)
        elif fallback and logging.lastResort is not None and record.levelno >= logging.lastResort.level:
            logging.lastResort.handle(record)


def _printable(text: str, keep: str = "") -> str:
    """The text without what would control a terminal. Lines after the first are indented: none looks like
    another record."""
    clean = _CONTROLS.sub(lambda match: match[0] if match[0] in keep else repr(match[0])[1:-1], text)
    return clean.replace("\n", "\n    ")
