"""The `logging` handler of an extension's process, which sends records to the host."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress

from .._core import ExtensionDied, ExtensionStopped, ForkedProcessError, PyIsolateError, Session
from .._util.quota import Allowance, Quota

__all__ = ["HostHandler"]

MAX_TEXT = 16 << 10  # characters, like the host's limit
MAX_WAITING = 1_000  # messages that the host has not taken yet
BURST = 10_000  # records at once; the host drops further ones before decoding
PER_SECOND = 1_000  # records a second in the long run

_formatter = logging.Formatter()


class HostHandler(logging.Handler):
    """Send each record as a call without a reply.

    The handler holds no lock and never blocks. It drops and counts records above the limits, records that the
    host does not take in time, and records that are logged while another record is formatted.
    """

    def __init__(self, session: Session, target: int) -> None:
        super().__init__()
        self._session = session
        self._target = target
        self._busy = threading.local()
        self._lost = 0
        self._allowance = Allowance(Quota(BURST, PER_SECOND, PER_SECOND))

    def createLock(self) -> None:
        """Create no lock, because the handler does not need one."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Send the record unless a filter rejects it."""
        if not self._allowance.is_left():
            self._lost += 1
            return False
        self._allowance.take(1)
        accepted = self.filter(record)
        if isinstance(accepted, logging.LogRecord):
            record = accepted
        if accepted:
            self.emit(record)
        return bool(accepted)

    def report_losses(self) -> None:
        """Report to the host how many records were dropped since the last one. Called at the end."""
        lost, self._lost = self._lost, 0
        if lost:
            with suppress(PyIsolateError, MemoryError):
                self._session.notify(self._target, "log", ("", 0, "", None, lost), MAX_WAITING)

    def emit(self, record: logging.LogRecord) -> None:
        """Send the record."""
        if getattr(self._busy, "now", False):
            self._lost += 1
            return
        self._busy.now = True
        try:
            self._send(record)
        except (ExtensionDied, ExtensionStopped):
            pass  # the host has ended
        except ForkedProcessError:
            if logging.lastResort is not None:
                logging.lastResort.handle(record)
        except MemoryError:
            self._lost += 1
        except Exception:
            self.handleError(record)  # writes the error to stderr, as other handlers do
        finally:
            self._busy.now = False

    def _send(self, record: logging.LogRecord) -> None:
        text = record.getMessage()[:MAX_TEXT]
        trace = None
        if record.exc_info and record.exc_info[0] is not None:
            trace = _formatter.formatException(record.exc_info)[-MAX_TEXT:]
        elif record.exc_text:
            trace = record.exc_text[-MAX_TEXT:]
        lost, self._lost = self._lost, 0
        fields = (str(record.name), int(record.levelno), text, trace, lost)
        if not self._session.notify(self._target, "log", fields, MAX_WAITING):
            self._lost += lost + 1
