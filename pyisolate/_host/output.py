"""Passes what an extension writes and logs to the host's `logging`.

Lines of stdout become INFO records and lines of stderr WARNING records of the logger
``pyisolate.extension.<name>``. Records that the extension logs keep their level. The name of their logger is
appended to the name of that logger. The extension is not trusted, so the rate and the size of all records are
bounded. Dropped output is counted, and the count is logged.
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
from .poller import poller

__all__ = ["Output", "extension_logger"]

STDOUT, STDERR = 1, 2
LEVELS = {STDOUT: logging.INFO, STDERR: logging.WARNING}
STREAMS = {STDOUT: "stdout", STDERR: "stderr"}

MAX_LINE = 16 << 10  # characters; longer lines are cut into several
MAX_NAME = 200
RECORD_COST = 256  # bytes that a line or a record counts in addition to its size: the cost of logging it
BURST = 10_000 * RECORD_COST  # bytes that may be logged at once
PER_SECOND = 1_000 * RECORD_COST  # bytes a second that may be logged in the long run
TOTAL_PER_SECOND = 4 * PER_SECOND  # the same, for all extensions together that exceed their quota
MAX_RECORDS = 1_000  # records that wait for the poller's thread
RECORDS_AT_ONCE = 2 * HANDLER_BURST  # records taken at once: twice what the extension's handler sends
RECORDS_PER_SECOND = 2 * HANDLER_PER_SECOND
MAX_EXCESS = 5 * HANDLER_BURST  # records above these limits, which only code past the handler can send
CHUNKS = 8  # chunks of 16 KiB that are read at a time
REPORT_INTERVAL = 1.0  # seconds between messages about dropped output
PAUSES = 0.05, 1.0  # minimum and maximum seconds without reading, after too much output

# Includes line separators, and characters that change the text direction and so disguise the text.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff]")

_ESCAPES = {
    keep: {n: repr(chr(n))[1:-1] for n in range(0x2070) if _CONTROLS.match(chr(n)) and chr(n) not in keep}
    for keep in ("", "\t", "\t\n")
}
"""Translation tables that escape control characters, by the characters that each table keeps."""

_quota = Quota(BURST, PER_SECOND, TOTAL_PER_SECOND)


def extension_logger(name: str) -> logging.Logger:
    """Return the logger of an extension."""
    return logging.getLogger(f"pyisolate.extension.{name}")


def is_shown(logger: logging.Logger, level: int) -> bool:
    """Return whether a record with this level reaches a handler."""
    return logger.isEnabledFor(level) and logger.hasHandlers()


class Output:
    """Read the output of one process until its end.

    `echo`: whether the output is also written unchanged to the host's stdout and stderr. With None, it is if
    `logging` does not show it. `on_end` is called when all output has been read; it is a weak reference.
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
        self._partial_lines = dict.fromkeys(LEVELS, b"")
        self._bytes_lost = dict.fromkeys(LEVELS, 0)
        self._echo_lost = dict.fromkeys(LEVELS, 0)
        self._lines_lost = 0
        self._records: deque[tuple[str, int, str, str | None]] = deque()
        self._lock = threading.Lock()  # guards the next field, to which two threads add
        self._records_lost = 0
        self._reported = -REPORT_INTERVAL
        self._report_scheduled = False
        self._allowance = Allowance(_quota)
        self._excess = 0.0
        self._has_killed = False
        self._excess_updated = time.monotonic()

    def follow(self, session: Session) -> None:
        """Begin to read the output of the session's process, in the poller's thread."""
        self._session = session
        session.meter(CONTROL, "log", RECORDS_AT_ONCE, RECORDS_PER_SECOND)
        self._cookie = poller().follow(self._read)
        session.follow_output(self._cookie)

    # ---- records of the extension's logging ----

    def log(self, *fields: object, **_: object) -> None:
        """Log a record from the extension: (logger name, level, text, traceback text or None, number lost).

        Raises nothing and does not block. Records with another form, and records above the limits, are
        dropped and counted.
        """
        if len(fields) != 5:
            self._count_lost(1)
            return
        name, level, text, trace, lost = fields
        if (
            not (isinstance(name, str) and isinstance(text, str) and isinstance(trace, str | None))
            or not (type(level) is int and 0 <= level <= 1000)
            or not (type(lost) is int and 0 <= lost < 1 << 32)
        ):
            self._count_lost(1)
            return
        is_record = bool(level or text)  # if false, the extension reports only the number of dropped records
        if len(self._records) >= MAX_RECORDS:
            lost, is_record = lost + is_record, False
        if lost:
            self._count_lost(lost)
        if not is_record:
            return
        self._records.append((name[:MAX_NAME], level, text[:MAX_LINE], trace and trace[-MAX_LINE:]))
        if len(self._records) == 1:
            poller().after(0, self._log_records)

    def _count_lost(self, count: int) -> None:
        with self._lock:
            self._records_lost += count

    def _log_records(self) -> None:
        while self._records:
            name, level, text, trace = self._records.popleft()
            if not self._logger.isEnabledFor(level):
                continue
            if not self._allowance.is_left():
                self._count_lost(1)
                continue
            record = self._record(level, _printable(text, keep="\t\n"))
            record.name = f"{self._logger.name}.{_printable(name)}"
            record.exc_text = trace and "    " + _printable(trace, keep="\t\n")
            self._handle(record, record.name, record.exc_text or "", fallback=True)
        self._report_losses()

    # ---- stdout and stderr ----

    def _read(self) -> None:
        session = self._session
        if session is None:
            return
        more = [self._read_stream(session, stream, CHUNKS) for stream in LEVELS]
        # Checked after reading. Reading clears the descriptor; an end after that makes it readable again.
        if session.wait(0) is not None:
            for stream in LEVELS:
                self._read_stream(session, stream, None)
            self._finish(session)
            return
        if any(more) or not self._allowance.is_left():
            least, most = PAUSES
            pause = 0.0 if self._allowance.is_left() else min(max(self._allowance.pause(), least), most)
            session.follow_output(0)
            poller().after(pause, self._resume)
        self._report_losses()

    def _resume(self) -> None:
        if self._session is not None:
            self._session.follow_output(self._cookie)
            self._read()

    def _read_stream(self, session: Session, stream: int, limit: int | None) -> bool:
        """Read at most `limit` chunks of a stream. Return whether there may be more."""
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
        """Log the lines that end in `data`. If the quota is used up, count them without decoding them."""
        waiting = self._partial_lines[stream] + data
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
        self._partial_lines[stream] = rest

    def _is_wanted(self, stream: int) -> bool:
        return not self.echo[stream] or is_shown(self._logger, LEVELS[stream])

    def _log_line(self, stream: int, line: bytes) -> None:
        # A progress bar overwrites its line with carriage returns: only its last state is logged.
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
        poller().unfollow(self._cookie)
        for stream, rest in self._partial_lines.items():
            if rest:
                self._log_line(stream, rest)
        self._log_records()
        self._reported, self._report_scheduled = -REPORT_INTERVAL, False
        self._report_losses()
        self._session = None
        on_end = self._on_end()
        if on_end is not None:
            on_end()

    # ---- limits ----

    def _report_losses(self) -> None:
        if self._session is not None:
            self._count_dropped_records(self._session)
        lost = (*self._bytes_lost.values(), *self._echo_lost.values(), self._lines_lost, self._records_lost)
        if not any(lost) or self._report_scheduled:
            return
        wait = self._reported + REPORT_INTERVAL - time.monotonic()
        if wait > 0:
            self._report_scheduled = True
            poller().after(wait, self._report_later)
            return
        self._reported = time.monotonic()
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

    def _count_dropped_records(self, session: Session) -> None:
        """Count the records that the session dropped before decoding.

        Dropping a record costs the host time too, so an extension that does not stop sending them is killed.
        """
        refused, now = session.metered(), time.monotonic()
        self._count_lost(refused)
        self._excess = max(self._excess - (now - self._excess_updated) * HANDLER_PER_SECOND, 0.0) + refused
        self._excess_updated = now
        if self._excess > MAX_EXCESS and not self._has_killed:
            self._has_killed = True
            why = "it sent log records without end, past the handler that limits them"
            session.explain(why)
            session.kill()
            text = f"extension {self._name!r} was killed: {why}"
            self._handle(self._record(logging.WARNING, text), fallback=True)

    def _report_later(self) -> None:
        self._report_scheduled = False
        self._report_losses()

    # ---- records ----

    def _record(self, level: int, text: str) -> logging.LogRecord:
        record = self._logger.makeRecord(self._logger.name, level, "", 0, "%s", (text,), None)
        record.processName = record.extension = self._name
        record.process = self._session.pid if self._session is not None else None
        return record

    def _handle(self, record: logging.LogRecord, *more: str, fallback: bool) -> None:
        """Pass a record to the logger, and charge its size to the quota.

        `more`: texts of the record in addition to its message. `fallback`: whether warnings are written to
        stderr, as `logging` does, if the host has not configured logging.
        """
        if not self._logger.isEnabledFor(record.levelno):
            return
        if self._logger.hasHandlers():
            self._logger.handle(record)
        elif fallback and logging.lastResort is not None and record.levelno >= logging.lastResort.level:
            logging.lastResort.handle(record)
        else:
            return
        self._allowance.take(RECORD_COST + sum(map(_size, (record.getMessage(), *more))))


def _size(text: str) -> int:
    """Return the number of bytes of the text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


def _printable(text: str, keep: str = "") -> str:
    """Return the text with control characters escaped.

    Lines after the first are indented, so that none of them looks like another record.
    """
    if _CONTROLS.search(text):
        text = text.translate(_ESCAPES[keep])
    return text.replace("\n", "\n    ")
