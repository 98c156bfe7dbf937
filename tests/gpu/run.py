"""Runs the tests in this folder to their end, whatever one of them does.

One that fails, hangs or crashes may leave a GPU's context unusable: those after it run in a fresh process.

    run.py [--results FOLDER] [--minutes N] [--go-on] [arguments of pytest]

FOLDER gets the output of all (tests.txt), what was begun, how it ended, and where a process hung. After N
minutes it stops; with --go-on the next run begins there. -x stops at the first failure.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
ROUNDS = 12
"""Fresh processes; after that, what is left runs in one: it is the same that fails."""
# Not `-m pytest`, which would find the sources in this folder's root instead of what was built.
START = "import sys; sys.path.remove(''); import pytest; sys.exit(pytest.main(sys.argv[1:]))"
SAYS_SO = (0, 1, 5)
"""Exit statuses of pytest: all passed, some failed, none left. Others: it was used wrongly, or died."""


def lines(folder: Path, name: str) -> list[str]:
    file = folder / name
    return file.read_text().splitlines() if file.exists() else []


def run(folder: Path, arguments: list[str], seconds: float) -> int | None:
    """One process: its exit status; None when the time was over. What it prints goes into a file, too."""
    command = [sys.executable, "-c", START, str(HERE), "-v", "-rxXs", "--tb=short", *arguments]
    environ = {**os.environ, "PYISOLATE_GPU_RESULTS": str(folder), "PYTHONUNBUFFERED": "1"}
    end = time.monotonic() + seconds
    with (folder / "tests.txt").open("ab") as file:
        position = file.tell()
        process = subprocess.Popen(command, env=environ, stdout=file, stderr=subprocess.STDOUT)
        with (folder / "tests.txt").open("rb") as reader:
            reader.seek(position)
            while True:
                status = process.poll()
                sys.stdout.write(reader.read().decode(errors="replace"))
                sys.stdout.flush()
                if status is not None:
                    return status
                if time.monotonic() > end:
                    process.kill()
                    process.wait()
                    return None
                time.sleep(0.1)


def forget_last(folder: Path) -> None:
    """The test that was interrupted because the time was over is to be run again."""
    begun = lines(folder, "begun.txt")
    if begun and not any(line.endswith(" " + begun[-1]) for line in lines(folder, "outcomes.txt")):
        (folder / "begun.txt").write_text("".join(test + "\n" for test in begun[:-1]))


def summarise(folder: Path) -> bool:
    """Print what came of the tests; whether all is well."""
    outcomes = dict.fromkeys(lines(folder, "begun.txt"), "died")
    for line in lines(folder, "outcomes.txt"):
        outcome, _, test = line.partition(" ")
        if outcomes.get(test) != "failed":
            outcomes[test] = outcome
    counts = ", ".join(f"{list(outcomes.values()).count(kind)} {kind}" for kind in KINDS)
    print(f"\n==== {counts} ====")
    bad = {test: outcome for test, outcome in outcomes.items() if outcome in ("failed", "died")}
    for test, outcome in bad.items():
        print(f"{outcome}: {test.partition('tests/gpu/')[2] or test}")
    if hung := lines(folder, "hung.txt"):
        print("Where processes hung:", *hung, sep="\n")
    return not bad


KINDS = ("passed", "failed", "died", "xfailed", "skipped")


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the tests of GPUs.", allow_abbrev=False)
    parser.add_argument("--results", type=Path, default=HERE.parents[1] / "build/gpu/results")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--go-on", action="store_true", help="with what the last run has not begun")
    options, arguments = parser.parse_known_args()
    folder = options.results.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for name in () if options.go_on else ("tests.txt", "begun.txt", "outcomes.txt", "hung.txt"):
        (folder / name).unlink(missing_ok=True)
    end = time.monotonic() + options.minutes * 60
    for number in range(ROUNDS + 1):
        only = ["--maxfail=1"] if number < ROUNDS else []
        known = len(lines(folder, "begun.txt"))
        status = run(folder, [*only, *arguments], end - time.monotonic())
        new = len(lines(folder, "begun.txt")) - known
        if status is None:
            print("\nThe time is over: --go-on runs the rest.")
            forget_last(folder)
        elif status not in SAYS_SO and new == 0:
            return status  # it did not come to any test
        if status in (None, 0, 5) or "-x" in arguments or not new:
            break
    good = summarise(folder)
    return 0 if good and status in (0, 5) else 1


if __name__ == "__main__":
    sys.exit(main())
