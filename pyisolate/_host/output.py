"""What an extension writes and logs, handed to `logging` of the host.

Lines of stdout arrive as INFO and lines of stderr as WARNING at the logger ``pyisolate.extension.<name>``;
records of `logging` in the extension arrive there with their own level, and with the name of their logger
behind that of this one. The extension is not trusted: all of it is bounded, and what had to be dropped is
counted and told.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from weakref import WeakMethod

from .._child.log_handler import BURST as HANDLER_BURST
from .._child.log_handler import PER_SECOND as HANDLER_PER_SECOND
from .._core import Session
from .._rpc.connection import CONTROL
from .._util.quota import Allowance, Quota
from .poller import watcher

__all__ = ["Output", "extension_logger"]

STDOUT, STDERR = 1, 2
LEVELS = {STDOUT: logging.INFO, STDERR: logging.WARNING}
STREAMS = {STDOUT: "stdout", STDERR: "stderr"}

MAX_LINE = 16 << 10  # characters; longer lines are cut into several
MAX_NAME = 200
RECORD = 256  # bytes that a line or a record counts as, besides its own: that is what it costs to log one
BURST = 10_000 * RECORD  # bytes at once, as they are logged
PER_SECOND = 1_000 * RECORD  # and in the long run
TOGETHER = 4 * PER_SECOND  # those of all extensions that write more
MAX_RECORDS = 1_000  # that wait for the watcher's thread
RECORDS_AT_ONCE = 2 * HANDLER_BURST  # taken from an extension: what its own handler would send, and more
RECORDS_PER_SECOND = 2 * HANDLER_PER_SECOND
TOO_MANY = 5 * HANDLER_BURST  # records beyond that which its own handler would not have sent
CHUNKS = 8  # read at a time, of 16 KiB each
TELL_EVERY = 1.0  # seconds between messages about what was dropped
PAUSES = 0.05, 1.0  # seconds without reading, at least and at most, when there was too much

# With what ends a line, or turns the direction of text around so that it shows something else than it says.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff]")

_ESCAPES = {
    keep: {n: repr(chr(n))[1:-1] for n in range(0x2070) if _CONTROLS.match(chr(n)) and chr(n) not in keep}
    for keep in ("", "\t", "\t\n")
}
"""By what is kept: numbers of the others, and what is written instead."""

_quota = Quota(BURST, PER_SECOND, TOGETHER)


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
        self._cookie = 0
        self._rests = dict.fromkeys(LEVELS, b"")
        self._bytes_lost = dict.fromkeys(LEVELS, 0)
        self._echo_lost = dict.fromkeys(LEVELS, 0)
        self._lines_lost = 0
        self._records: deque[tuple[str, int, str, str | None]] = deque()
        self._lock = threading.Lock()  # guards the next one, which two threads count; held for an addition
        self._records_lost = 0
        self._told = -TELL_EVERY
        self._will_tell = False
        self._allowance = Allowance(_quota)
        self._excess = 0.0
        self._has_killed = False
        self._counted = time.monotonic()

    def follow(self, session: Session) -> None:
        """Begin to read the output of the session's process."""
        self._session = session
        session.meter(CONTROL, "log", RECORDS_AT_ONCE, RECORDS_PER_SECOND)
        self._cookie = watcher().follow(self._read)
        session.follow_output(self._cookie)

    # ---- records of the extension's logging ----

    def log(self, *fields: object, **_: object) -> None:
        """Take a record from the extension: (logger name, level, text, traceback text or None, number lost).

        Nothing is raised and nothing waits: what does not have this form, or is too much, is counted.
        """
        if len(fields) != 5:
            self._lose(1)
            return
        name, level, text, trace, lost = fields
        if (
            not (isinstance(name, str) and isinstance(text, str) and isinstance(trace, str | None))
            or not (type(level) is int and 0 <= level <= 1000)
            or not (type(lost) is int and 0 <= lost < 1 << 32)
        ):
            self._lose(1)
            return
        is_record = bool(level or text)  # else it tells how many it has dropped, and nothing else
        if len(self._records) >= MAX_RECORDS:
            lost, is_record = lost + is_record, False
        if lost:
            self._lose(lost)
        if not is_record:
            return
        self._records.append((name[:MAX_NAME], level, text[:MAX_LINE], trace and trace[-MAX_LINE:]))
        if len(self._records) == 1:
            watcher().after(0, self._log_records)

    def _lose(self, count: int) -> None:
        with self._lock:
            self._records_lost += count

    def _log_records(self) -> None:
        while self._records:
            name, level, text, trace = self._records.popleft()
            if not self._logger.isEnabledFor(level):
                continue
            if not self._allowance.is_left():
                self._lose(1)
                continue
            record = self._record(level, _printable(text, keep="\t\n"))
            record.name = f"{self._logger.name}.{_printable(name)}"
            record.exc_text = trace and "    " + _printable(trace, keep="\t\n")
            self._handle(record, record.name, record.exc_text or "", fallback=True)
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
        if any(more) or not self._allowance.is_left():
            least, most = PAUSES
            pause = 0.0 if self._allowance.is_left() else min(max(self._allowance.pause(), least), most)
            session.follow_output(0)
            watcher().after(pause, self._resume)
        self._tell_losses()

    def _resume(self) -> None:
        if self._session is not None:
            self._session.follow_output(self._cookie)
            self._read()

    def _read_stream(self, session: Session, stream: int, limit: int | None) -> bool:
        """Whether there is more."""
        count = 0
        wanted = self._is_wanted(stream)
        if self.echo[stream]:
            self._echo_lost[stream] += session.echo_dropped(stream)
        while limit is None or count < limit:
            data, dropped = session.read_output(stream)
            if wanted:
                self._feed(stream, data)
                self._bytes_lost[stream] += dropped
            if not data:
                return False
            count += 1
        return True

    def _feed(self, stream: int, data: bytes) -> None:
        """Log the lines that end here. When nothing more may be logged they are counted, not looked at."""
        waiting = self._rests[stream] + data
        start = 0
        while self._allowance.is_left():
            end = waiting.find(b"\n", start)
            if end < 0:
                break
            self._log_line(stream, waiting[start:end])
            start = end + 1
        else:
            end = waiting.rfind(b"\n", start)
            self._lines_lost += waiting.count(b"\n", start)
            start = end + 1 if end >= 0 else start
        rest = waiting[start:]
        while len(rest) > MAX_LINE:
            self._log_line(stream, rest[:MAX_LINE])
            rest = rest[MAX_LINE:]
        self._rests[stream] = rest

    def _is_wanted(self, stream: int) -> bool:
        return not self.echo[stream] or is_shown(self._logger, LEVELS[stream])

    def _log_line(self, stream: int, line: bytes) -> None:
        # of a progress bar, which goes back to the line's start again and again, the last state
        shown = line.rstrip(b"\r").rpartition(b"\r")[2]
        text = shown.decode(errors="replace")
        for start in range(0, max(len(text), 1), MAX_LINE):
            if not self._allowance.is_left():
                self._lines_lost += 1
                return
            record = self._record(LEVELS[stream], _printable(text[start : start + MAX_LINE], keep="\t"))
            record.stream = STREAMS[stream]
            self._handle(record, fallback=not self.echo[stream])

    def _finish(self, session: Session) -> None:
        session.follow_output(0)
        watcher().unfollow(self._cookie)
        for stream, rest in self._rests.items():
            if rest:
                self._log_line(stream, rest)
        self._log_records()
        self._told, self._will_tell = -TELL_EVERY, False
        self._tell_losses()
        self._session = None
        on_end = self._on_end()
        if on_end is not None:
            on_end()

    # ---- limits ----

    def _tell_losses(self) -> None:
        if self._session is not None:
            self._count_refused(self._session)
        lost = (*self._bytes_lost.values(), *self._echo_lost.values(), self._lines_lost, self._records_lost)
        if not any(lost) or self._will_tell:
            return
        wait = self._told + TELL_EVERY - time.monotonic()
        if wait > 0:
            self._will_tell = True
            watcher().after(wait, self._tell_later)
            return
        self._told = time.monotonic()
        losses = [f"{n} bytes of {STREAMS[stream]}" for stream, n in self._bytes_lost.items() if n]
        losses += [f"{n} bytes of echoed {STREAMS[stream]}" for stream, n in self._echo_lost.items() if n]
        losses += [f"{self._lines_lost} lines"] if self._lines_lost else []
        with self._lock:
            records, self._records_lost = self._records_lost, 0
        losses += [f"{records} log records"] if records else []
        self._bytes_lost = dict.fromkeys(LEVELS, 0)
        self._echo_lost = dict.fromkeys(LEVELS, 0)
        self._lines_lost = 0
        text = f"{' and '.join(losses)} of extension {self._name!r} were dropped: there was too much at once"
        self._handle(self._record(logging.WARNING, text), fallback=True)

    def _count_refused(self, session: Session) -> None:
        """Add the records that were dropped unseen. To drop them without end would cost the host even so."""
        refused, now = session.metered(), time.monotonic()
        self._lose(refused)
        self._excess = max(self._excess - (now - self._counted) * HANDLER_PER_SECOND, 0.0) + refused
        self._counted = now
        if self._excess > TOO_MANY and not self._has_killed:
            self._has_killed = True
            why = "it sent log records without end, past the handler that limits them"
            session.explain(why)
            session.kill()
            text = f"extension {self._name!r} was killed: {why}"
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

    def _handle(self, record: logging.LogRecord, *more: str, fallback: bool) -> None:
        """`fallback`: where the host has not set up logging, warnings go to its stderr, as usual.

        `more`: what is logged besides the text.
        """
        if not self._logger.isEnabledFor(record.levelno):
            return
        if self._logger.hasHandlers():
            self._logger.handle(record)
        elif fallback and logging.lastResort is not None and record.levelno >= logging.lastResort.level:
            logging.lastResort.handle(record)
        else:
            return
        self._allowance.take(RECORD + sum(map(_size, (record.getMessage(), *more))))


def _size(text: str) -> int:
    """Bytes of the text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


def _printable(text: str, keep: str = "") -> str:
    """The text without what would control a terminal. Lines after the first are indented: none looks like
    another record."""
    if _CONTROLS.search(text):
        text = text.translate(_ESCAPES[keep])
    return text.replace("\n", "\n    ")
