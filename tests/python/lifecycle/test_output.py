"""Output and logs of extensions reach the host's logging, within limits, and its own output if wanted."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paths
import pytest
from processes import run_python

from pyisolate import CallTimeout, Extension, ExtensionDied, _core
from pyisolate._host.output import BURST, MAX_LINE, PER_SECOND, RECORD_COST
from pyisolate._util.quota import Allowance, Quota

LoadFunction = Callable[..., Extension]
LOGGER = "pyisolate.extension.talker"


@pytest.fixture
def talker(load: LoadFunction, caplog: pytest.LogCaptureFixture) -> Extension:
    caplog.set_level(logging.DEBUG, LOGGER)
    return load("talker")


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == LOGGER and r.levelno == level]


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_lines_arrive_with_a_level_for_each_output(
    talker: Extension, caplog: pytest.LogCaptureFixture
) -> None:
    talker.sync.write(out="one\ntwo\n", err="three\n")
    talker.sync.write(out="no end of line")
    talker.stop()
    assert lines(caplog, logging.INFO) == ["one", "two", "no end of line"]
    assert lines(caplog, logging.WARNING) == ["three"]
    record = next(record for record in caplog.records if record.name == LOGGER)
    assert (record.extension, record.stream) == ("talker", "stdout")
    assert record.process != os.getpid()


def test_the_development_mode_has_nothing_to_tell(
    load: LoadFunction, caplog: pytest.LogCaptureFixture
) -> None:
    """Python then warns of unclosed files and deprecated functions."""
    extension = load("talker", env={"PYTHONDEVMODE": "1"})
    assert extension.sync.echo(1) == 1
    extension.stop()
    assert lines(caplog, logging.WARNING) == []


def test_a_printed_line_arrives_at_once(talker: Extension, caplog: pytest.LogCaptureFixture) -> None:
    talker.sync.write(out="now\n")
    assert until(lambda: lines(caplog, logging.INFO) == ["now"])


def test_progress_bars_and_terminal_codes(talker: Extension, caplog: pytest.LogCaptureFixture) -> None:
    talker.sync.write(out="10%\r50%\r100%\n", err="\x1b[31mred\x1b[0m \u00e9\n")
    talker.stop()
    assert lines(caplog, logging.INFO) == ["100%"]
    assert lines(caplog, logging.WARNING) == ["\\x1b[31mred\\x1b[0m \u00e9"]


def test_a_flood_holds_nobody_up_and_is_told(talker: Extension, caplog: pytest.LogCaptureFixture) -> None:
    talker.sync.flood(400_000, 100)
    assert talker.sync.echo(1) == 1
    talker.stop()
    kept = [line for line in lines(caplog, logging.INFO) if line.startswith("x")]
    assert 0 < len(kept) < 400_000
    losses = [line for line in lines(caplog, logging.WARNING) if "dropped" in line]
    assert losses
    assert all("'talker'" in line for line in losses)


def test_very_long_lines_are_cut(talker: Extension, caplog: pytest.LogCaptureFixture) -> None:
    talker.sync.write(out="y" * 50_000 + "\n")
    talker.stop()
    got = lines(caplog, logging.INFO)
    assert "".join(got) == "y" * 50_000
    assert max(map(len, got)) <= 16 << 10


def test_last_words_are_in_the_error_and_in_the_log(
    talker: Extension, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ExtensionDied, match="so long") as caught:
        talker.sync.exit(3)
    assert caught.value.stderr == "so long\n"
    assert until(lambda: lines(caplog, logging.WARNING) == ["so long"])


def test_last_words_control_no_terminal(talker: Extension) -> None:
    with pytest.raises(ExtensionDied) as caught:
        talker.sync.exit(3, "\x1b]0;title\x07\x9b1m\rso long\n")
    assert str(caught.value).endswith("\\x1b]0;title\\x07\\x9b1m\\rso long\n")
    assert caught.value.stderr == "\x1b]0;title\x07\x9b1m\rso long\n"


# ---- logging ----


def child_records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    own = f"{LOGGER}.pyisolate"  # the package's own messages there
    return [r for r in caplog.records if r.name.startswith(f"{LOGGER}.") and r.name != own]


def test_records_keep_level_and_logger(talker: Extension, caplog: pytest.LogCaptureFixture) -> None:
    talker.sync.log(logging.INFO, "%s and %d", "text", 5)
    talker.sync.log(logging.CRITICAL, "worse")
    talker.sync.log_in_thread("elsewhere")
    assert until(lambda: len(child_records(caplog)) == 3)
    assert [(r.levelno, r.name, r.getMessage()) for r in child_records(caplog)] == [
        (logging.INFO, f"{LOGGER}.talker.inner", "text and 5"),
        (logging.CRITICAL, f"{LOGGER}.talker.inner", "worse"),
        (logging.WARNING, f"{LOGGER}.talker.inner", "elsewhere"),
    ]
    assert logging.getLogger().manager.loggerDict.get(f"{LOGGER}.talker.inner") is None  # no logger is made


def test_the_hosts_level_counts(load: LoadFunction, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, LOGGER)
    talker = load("talker")
    talker.sync.log(logging.WARNING, "not wanted")
    talker.sync.log(logging.ERROR, "wanted")
    assert until(lambda: bool(child_records(caplog)))
    assert [record.getMessage() for record in child_records(caplog)] == ["wanted"]


def test_no_record_looks_like_another(talker: Extension, caplog: pytest.LogCaptureFixture) -> None:
    talker.sync.log_as("a\nERROR b", "first\nERROR host: forged\u202e\x1b[2J\u2028x")
    assert until(lambda: bool(child_records(caplog)))
    (record,) = child_records(caplog)
    assert record.name == f"{LOGGER}.a\\nERROR b"
    assert record.getMessage() == "first\n    ERROR host: forged\\u202e\\x1b[2J\\u2028x"


def test_tracebacks_come_along(talker: Extension, caplog: pytest.LogCaptureFixture) -> None:
    talker.sync.log_error()
    assert until(lambda: bool(child_records(caplog)))
    assert "ValueError: the reason" in caplog.text


def test_a_traceback_that_is_text_already_comes_along(
    talker: Extension, caplog: pytest.LogCaptureFixture
) -> None:
    talker.sync.log_prepared("Traceback of another process")
    assert until(lambda: bool(child_records(caplog)))
    assert "Traceback of another process" in caplog.text


def test_logging_while_logging_does_not_recurse(talker: Extension, caplog: pytest.LogCaptureFixture) -> None:
    talker.sync.log_nested()
    talker.sync.log_wrongly()
    talker.sync.log(logging.WARNING, "after")
    assert until(lambda: len(child_records(caplog)) == 2)
    assert [record.getMessage() for record in child_records(caplog)] == ["nested", "after"]
    talker.stop()
    assert any("1 log records" in line for line in lines(caplog, logging.WARNING))
    assert any("TypeError" in line for line in lines(caplog, logging.WARNING))  # the call's usual error


def test_many_records_are_all_there_or_counted(talker: Extension, caplog: pytest.LogCaptureFixture) -> None:
    talker.sync.log_many(50_000)
    assert talker.sync.echo(2) == 2
    talker.stop()
    lost = [int(line.split()[0]) for line in lines(caplog, logging.WARNING) if "log records" in line]
    assert 1_000 <= len(child_records(caplog)) == 50_000 - sum(lost)


def test_records_are_not_trusted(talker: Extension, caplog: pytest.LogCaptureFixture) -> None:
    talker.sync.log_junk()
    assert until(lambda: bool(child_records(caplog)))
    talker.stop()
    (record,) = child_records(caplog)
    assert (record.name, record.getMessage()) == (f"{LOGGER}.\\x1b[31mname", "\\x1b[2Jtext")
    assert any("4 log records" in line for line in lines(caplog, logging.WARNING))


# ---- more than there may be ----


class Counter(logging.Handler):
    """Counts the bytes that a file would get."""

    def __init__(self) -> None:
        super().__init__()
        self.began = time.monotonic()
        self.records = self.bytes = 0
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        self.records += 1
        self.bytes += len(text.encode())
        self.texts.append(text[:100])

    def most(self, per_extension: float, per_second: float) -> float:
        """Return the most that may have arrived until now: the burst, and the rate for each second."""
        return per_extension + (time.monotonic() - self.began + 1) * per_second


@pytest.fixture
def counter() -> Iterator[Counter]:
    made, logger = Counter(), logging.getLogger("pyisolate.extension")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(made)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield made
    logger.removeHandler(made)
    logger.setLevel(level)
    logger.propagate = propagate


@pytest.mark.parametrize("how", ["controls", "newlines", "no newline", "directions"])
def test_what_is_logged_is_bounded_in_bytes_and_lines(
    load: LoadFunction, counter: Counter, tmp_path: Path, how: str
) -> None:
    """However fast the extension writes, its output is read no faster than the limit."""
    file = tmp_path / "written"
    file.write_bytes(bytes(8))
    talker = load("talker", sandbox={"writable_paths": [str(file)]})
    talker.sync.flood_for_ever(how, str(file))
    written = lambda: int.from_bytes(file.read_bytes(), "little")  # noqa: E731
    assert until(lambda: written() > 70 << 20)
    assert any("'talker' were dropped" in text for text in counter.texts)
    assert counter.bytes <= counter.most(BURST, PER_SECOND) + 8 * MAX_LINE
    assert counter.records <= counter.most(BURST / RECORD_COST, PER_SECOND / RECORD_COST) + 8
    assert written() <= counter.most(64 << 20, 8 << 20) + (1 << 20)
    assert talker.sync.echo(1) == 1


def test_those_that_write_too_much_take_nothing_from_others(
    load: LoadFunction, counter: Counter, tmp_path: Path
) -> None:
    for number, how in enumerate(["controls", "newlines", "directions"]):
        file = tmp_path / how
        file.write_bytes(bytes(8))
        flooder = load("talker", name=f"flooder {number}", sandbox={"writable_paths": [str(file)]})
        flooder.sync.flood_for_ever(how, str(file))
    quiet = load("talker")
    for number in range(100):
        quiet.sync.write(out=f"line {number}\n")
    quiet.stop()
    assert [text for text in counter.texts if text.startswith("line")] == [f"line {n}" for n in range(100)]


@pytest.mark.parametrize("text", ["short", "\x1b" * 16_000])
def test_who_goes_round_the_handler_of_records_is_ended(
    load: LoadFunction, counter: Counter, text: str
) -> None:
    """Dropping records without end would also cost the host."""
    talker = load("talker")
    talker.sync.notify_for_ever(text)
    with pytest.raises(ExtensionDied, match="log records without end"):
        talker.sync.wait(600)
    assert counter.records <= counter.most(20_000, 2_000)
    assert counter.bytes <= counter.most(BURST, PER_SECOND) + 8 * MAX_LINE
    assert any("'talker' was killed" in text for text in counter.texts)


def test_notifications_beyond_a_limit_are_dropped_unseen() -> None:
    host, extension = _core.Session.pair(_core.Registry())
    seen: list[Any] = []

    class Control:
        def log(self, value: Any) -> None:
            seen.append(value)

        other = log

    host.register(0, Control())
    host.meter(0, "log", 5.5, 1e-9)
    for number in range(10):
        assert extension.notify(0, "log", (number,), 1000)
        assert extension.notify(0, "other", (number,), 1000)
    assert host.metered() == 0
    with pytest.raises(CallTimeout):  # handles the requests that have arrived
        host.method(1, "nothing", sync=True, timeout=0.05)()
    assert seen == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8, 9]
    assert (host.metered(), host.metered()) == (5, 0)
    with pytest.raises(ValueError, match="at most"):
        host.meter(0, "a" * 17, 1, 1)


def test_who_exceeds_a_quota_shares_with_others_who_do(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    quota = Quota(burst=10, per_second=4, together=6)
    alone, *others = [Allowance(quota) for _ in range(3)]

    def use_up(allowance: Allowance) -> int:
        count = 0
        while allowance.is_left():
            allowance.take(1)
            count += 1
        return count

    assert use_up(alone) == 10
    assert alone.pause() == 0
    now += 1
    assert use_up(alone) == 4
    for second in (1, 2):
        now += 1
        assert [use_up(other) for other in others] == ([10, 10] if second == 1 else [2, 2])
        assert use_up(alone) <= 4
    now += 100
    assert use_up(alone) == 10


# ---- the host's own outputs ----

PROGRAM = """
import logging, sys
from pyisolate import ExtensionBase, ExtensionManager, SandboxMode
{setup}
if __name__ == "__main__":
    manager = ExtensionManager(ExtensionBase, {{"venv_root_path": "venvs"}})
    talker = manager.load_extension({{"name": "talker", "module_path": {path!r},
                                      "sandbox_mode": SandboxMode.DISABLED, **{config}}})
    talker.sync.write(out="to out\\n", err="to err\\n")
    talker.sync.log(logging.WARNING, "a record")
    {end}
"""


def run_program(
    tmp_path: Path, setup: str = "", config: str = "{}", end: str = "talker.stop()"
) -> tuple[list[str], list[str]]:
    """Return the lines of stdout and stderr of a program that loads the extension `talker`."""
    extensions = paths.EXTENSIONS
    source = PROGRAM.format(setup=setup, path=str(extensions / "talker"), config=config, end=end)
    (tmp_path / "program.py").write_text(source)
    done = run_python(["program.py"], tmp_path)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr.splitlines()


def test_without_logging_output_is_passed_on(tmp_path: Path) -> None:
    out, err = run_program(tmp_path)
    assert out == ["to out"]
    assert sorted(err) == ["a record", "to err"]


def test_with_logging_output_is_logged_alone(tmp_path: Path) -> None:
    setup = "logging.basicConfig(level=logging.INFO, format='%(levelname)s %(name)s %(message)s')"
    out, err = run_program(tmp_path, setup)
    assert out == []
    assert sorted(err) == [
        f"INFO {LOGGER} to out",
        f"WARNING {LOGGER} to err",
        f"WARNING {LOGGER}.talker.inner a record",
    ]


@pytest.mark.parametrize(("echo", "expected"), [(True, ["to out"]), (False, [])])
def test_echo_can_be_chosen(tmp_path: Path, echo: bool, expected: list[str]) -> None:
    out, _ = run_program(tmp_path, config=repr({"echo_output": echo}))
    assert out == expected


@pytest.mark.parametrize("end", ["pass", "sys.exit()", "talker.sync.flood(100000, 10)"])
def test_the_host_ends_in_order_with_its_extensions_output(tmp_path: Path, end: str) -> None:
    out, err = run_program(tmp_path, end=end)
    assert out[0] == "to out"
    assert sorted(err)[:2] == ["a record", "to err"]
    assert not any("Traceback" in line or "Fatal" in line for line in err)


def test_what_is_echoed_is_bounded_and_told(tmp_path: Path) -> None:
    """An extension that writes without end would fill the disk behind the host's stdout."""
    began = time.monotonic()
    out, err = run_program(tmp_path, end="talker.sync.flood(400_000, 100); talker.stop()")
    most = (4 << 20) + (time.monotonic() - began + 1) * (256 << 10)
    assert 1 << 20 < sum(len(line) + 1 for line in out) <= most
    assert any("bytes of echoed stdout of extension 'talker' were dropped" in line for line in err)
