"""Counts the instructions of a small call with valgrind: the same from run to run, even on a busy machine.

    python tools/instructions.py [--calls 2000] [--top 25] [--coroutine]

An extension's end of a session runs under callgrind, first answering calls, then making them. A short run is
subtracted from a longer one, so that start and end cancel out. The other side is not slowed down and sleeps
between messages, so each message may ring a doorbell, which takes about 100 of the instructions. Needs
valgrind; without debug information of Python some names are missing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile

from tabulate import tabulate

from pyisolate._core import Registry, Session

SMALL_ARENA = 1 << 26
"""Arenas of the usual size do not fit into the address space under valgrind."""

_LINE = re.compile(r"^\s*([\d,]+) \(\s*[\d.]+%\)\s+(?:\S*?/)?([^/\s:]+):(\S+)")


class Echo:
    """The object whose methods are called, on either side."""

    def echo(self, value: object) -> object:
        return value

    async def aecho(self, value: object) -> object:
        return value


class Child(Echo):
    def __init__(self, session: Session) -> None:
        self._session = session

    async def ask(self, name: str, calls: int) -> None:
        """Call the host `calls` times, one after another."""
        echo = self._session.method(1, name)
        for _ in range(calls):
            await echo(1)

    def end(self) -> None:
        asyncio.get_running_loop().call_later(0.1, self._session.close)


async def serve() -> None:
    """Run the child's end of the session."""
    session = Session.attach(int(os.environ["PISO_FD"]), Registry())
    session.register(1, Child(session))
    await session.serve()


async def use(session: Session, asks: bool, name: str, calls: int) -> None:
    """Run the host's end of the session."""
    if asks:
        await session.method(1, "ask")(name, calls)
    else:
        echo = session.method(1, name)
        for _ in range(calls):
            await echo(1)
    await session.method(1, "end")()


def count(folder: str, asks: bool, name: str, calls: int) -> dict[tuple[str, str], int]:
    """Count instructions by (inclusive or self, function) of a child that makes or answers `calls` calls."""
    counts = f"{folder}/{'ask' if asks else 'answer'}-{calls}"
    session = Session.spawn(
        [
            *(str(shutil.which("valgrind")), "--tool=callgrind", f"--callgrind-out-file={counts}"),
            *(sys.executable, __file__, "--child"),
        ],
        {**os.environ, "PYTHONHASHSEED": "0"},  # the same start in each run
        name="counted",
        registry=Registry(),
        arena_size=SMALL_ARENA,
        echo_stderr=False,
    )
    session.handshake(180)
    session.register(1, Echo())
    asyncio.run(use(session, asks, name, calls))
    if session.wait(60) != 0:
        raise RuntimeError(f"the child failed:\n{session.stderr()}")
    found: dict[tuple[str, str], int] = {}
    for kind, option in (("self", "no"), ("inclusive", "yes")):
        text = subprocess.run(
            ["callgrind_annotate", f"--inclusive={option}", "--threshold=100", "--auto=no", counts],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for line in text.splitlines():
            if match := _LINE.match(line):
                key, number = (kind, match[3].split("'")[0]), int(match[1].replace(",", ""))
                found[key] = (
                    max(found.get(key, 0), number) if kind == "inclusive" else found.get(key, 0) + number
                )
    return found


def table(folder: str, asks: bool, name: str, calls: int, top: int) -> str:
    short, long = count(folder, asks, name, calls // 4), count(folder, asks, name, calls)
    each = {key: (long[key] - short.get(key, 0)) / (calls - calls // 4) for key in long}
    names = sorted({name for _, name in each}, key=lambda name: -each.get(("inclusive", name), 0))
    ours = [
        name for name in names if name.startswith(("core_", "piso_")) or each.get(("self", name), 0) >= 20
    ]
    rows = [(name, each.get(("inclusive", name), 0), each.get(("self", name), 0)) for name in ours[:top]]
    return tabulate(rows, headers=["Function", "With what it calls", "Itself"], floatfmt=".0f")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--top", type=int, default=25, metavar="ROWS")
    parser.add_argument("--coroutine", action="store_true", help="call an async method")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        asyncio.run(serve())
        return 0
    if not shutil.which("callgrind_annotate"):
        print("valgrind is missing (Debian: apt-get install valgrind)", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        for asks in (False, True):
            print(f"\nInstructions of an extension for each call that it {'makes' if asks else 'answers'}\n")
            name = "aecho" if options.coroutine else "echo"
            print(table(folder, asks, name, options.calls, options.top), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
