"""Builds and tests PyIsolate with Pythons other than that of .venv.

    tools/test-pythons [--ends | --oldest-numpy] [PYTHON…]

PYTHON is a path or a name such as python3.12. Without one, the Pythons of pyenv and on PATH are used, one of
each version; with --ends only the oldest and the newest of them. Each has an environment, a build and a run
of the quick tests (below), under build/pythons; pip needs an index for that. An unsupported Python must
report that when it imports the package. A Python that was found, not named, and for which pip finds no
packages is not tried. The last lines are a table; the logs have the details of failures.

With --oldest-numpy the tests of values, arrays and tensors run instead, with PyTorch and the oldest supported
NumPy: in the named Pythons, or in that of .venv, or in the newest for which that NumPy exists.

WERROR=1: warnings of the C compiler are errors.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "pythons"
VERSIONS = [(3, minor) for minor in range(10, 16)]
"""The supported versions."""
SECONDS = 900
"""Time limit for the tests of one Python."""
OLDEST_NUMPY = "1.26"
LAST_WITH_IT = (3, 12)
"""The newest Python for which that NumPy has wheels."""
FOLDERS_OF_ARRAYS = ["tensors", "values"]

# Not installed: tests that need them are skipped.
WITHOUT = "ruff,mypy,clang-format,nvidia,matplotlib,gunicorn,uvicorn,pytest-xdist,jupyter-client,ipykernel"

# Tests that depend on the kernel, hardware or network rather than on the version of Python, and long tests.
FOLDERS_LEFT_OUT = ["sandbox"]
NOT_LEFT_OUT = ["containers"]
"""Tests in these folders that are run nevertheless."""
LEFT_OUT = [
    *(
        "build_phases",
        "environment",
        "exclusion",
        "origins",
        "repositories",
        "rmtree",
        "source_builds",
        "unpacking",
    ),
    *(
        "cuda_copies",
        "cuda_header",
        "cuda_shared",
        "descriptors",
        "gpu_rehearsal",
        "memory_freed",
        "memory_full",
    ),
    *(
        "c_library",
        "examples",
        "guide",
        "install",
        "install_packages",
        "platforms",
        "programs",
        "pythons_tool",
    ),
    *(
        "fork_users",
        "hidden_modules",
        "kills",
        "output",
        "poller",
        "soak",
        "stop",
        "stopped",
        "supervision",
        "workers",
    ),
    *(
        "many_values",
        "mistakes_errors",
        "mistakes_paths",
        "mistakes_start",
        "open_calls",
        "prefetch",
        "shared_limit",
    ),
    *("value_bounds", "zygote_life"),
]
LONG = [
    *("hundred", "nothing_is_kept", "at_random", "threads_may_do_anything", "ways_to_fork", "damaged"),
    *("a_later_exception", "the_cache_may_be", "cannot_go_on_awaiting", "is_closed_in_each_of_them"),
    *("without_the_core", "versions_of_one_package"),
]

AT_ONCE = 2
"""Pythons that are tried at the same time, each in a folder of its own."""
NOT_TRIED = "not tried"

QUESTION = """
import json, sys
print(json.dumps({
    "version": list(sys.version_info[:2]), "full": sys.version.split()[0], "prefix": sys.base_prefix,
    "implementation": sys.implementation.name, "path": sys.executable,
    "free-threaded": "free-threading build" in sys.version,
}))
"""


@dataclass
class Python:
    """A working interpreter."""

    path: str
    version: tuple[int, int]
    full: str
    implementation: str
    free_threaded: bool
    oldest_numpy: bool = False
    """Whether to test with the oldest NumPy."""

    @property
    def name(self) -> str:
        """The name of its folder, and in the table."""
        name = f"{self.version[0]}.{self.version[1]}" + "t" * self.free_threaded
        name += f"-numpy{OLDEST_NUMPY}" * self.oldest_numpy
        return name if self.implementation == "cpython" else f"{self.implementation}{name}"

    @property
    def supported(self) -> bool:
        return self.implementation == "cpython" and not self.free_threaded and self.version >= VERSIONS[0]


@dataclass
class Result:
    python: Python
    built: str
    tests: str
    seconds: float

    @property
    def good(self) -> bool:
        return "FAILED" not in self.built + self.tests

    @property
    def tried(self) -> bool:
        return self.built != NOT_TRIED


def ask(path: str) -> Python | None:
    """Return what a Python reports about itself; None if the program is not a working Python."""
    try:
        done = subprocess.run([path, "-I", "-c", QUESTION], capture_output=True, text=True, timeout=60)
        answer = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return Python(
        answer["path"],
        tuple(answer["version"]),
        answer["full"],
        answer["implementation"],
        answer["free-threaded"],
    )


def candidates() -> Iterable[str]:
    """Iterate over paths of possible interpreters, the preferred one of each version first."""
    names = [f"python{major}.{minor}{flag}" for major, minor in VERSIONS for flag in ("", "t")]
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from map(str, sorted(root.glob("versions/*/bin/python"), reverse=True))
    for name in [*names, "pypy3", "python3"]:
        if path := shutil.which(name):
            yield path


def find(paths: Iterable[str]) -> list[Python]:
    """Return one Python of each kind and version, in order, without those that are too old."""
    found: dict[str, Python] = {}
    for path in paths:
        python = ask(path)
        if python is not None and python.version >= VERSIONS[0]:
            found.setdefault(python.name, python)
    return sorted(found.values(), key=lambda python: (python.version, python.name))


def without_the_usual(pythons: list[Python], ends: bool) -> list[Python]:
    """Remove the Python of .venv, for which `make test` runs all tests; with `ends` keep first and last."""
    usual = ask(str(ROOT / ".venv" / "bin" / "python"))
    others = [python for python in pythons if usual is None or python.name != usual.name]
    supported = [python for python in others if python.supported]
    if not ends or len(supported) < 3:
        return others
    return [python for python in others if python in (supported[0], supported[-1]) or not python.supported]


def with_oldest_numpy(pythons: list[Python]) -> list[Python]:
    """Return the Python of .venv if that NumPy exists for it, else the newest with it, if any."""
    usual = ask(str(ROOT / ".venv" / "bin" / "python"))
    able = [
        replace(python, oldest_numpy=True)
        for python in [*pythons, usual]
        if python is not None and python.supported and python.version <= LAST_WITH_IT
    ]
    return able[-1:]


def run(command: Sequence[str | Path], log: Path, python: Path, seconds: float = SECONDS) -> str:
    """Run a command and append its output to the log. Return "" or what went wrong."""
    environ = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
    with log.open("a") as file:
        file.write(f"\n$ {' '.join(map(str, command))}\n")
        file.flush()
        streams = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": file}
        try:
            status = subprocess.call(command, cwd=ROOT, env=environ, timeout=seconds, **streams)
        except subprocess.TimeoutExpired:
            return f"not finished after {seconds:.0f} s"
    return f"status {status}" if status else ""


def equip(python: Python, environment: Path, log: Path) -> str:
    """Create an environment with what building and testing need. Return "" or what went wrong."""
    program = environment / "bin" / "python"
    install = [program, "-m", "pip", "install", "--quiet"]
    without = WITHOUT if python.oldest_numpy else f"{WITHOUT},torch"
    groups = ["dev", "test", "bench", *([] if python.oldest_numpy else ["converters"])]
    extras = [program, "tools/install_extras.py", f"--without={without}", *groups]
    numpy = ["--only-binary=numpy", f"numpy=={OLDEST_NUMPY}.*"]
    return (
        ("" if program.exists() else run([python.path, "-m", "venv", environment], log, program))
        or run([*install, "pip>=23.1"], log, program)  # accepts several settings
        or run(extras, log, program)
        or (run([*install, *numpy], log, program) if python.oldest_numpy else "")
    )


def build(python: Python, environment: Path, log: Path) -> str:
    """Build the package and install it into the environment. Return "" or what went wrong."""
    program = environment / "bin" / "python"
    options = ["-Doptimization=1", "-Db_lto=false", "-Db_ndebug=false"]
    options += ["-Dwerror=true"] if os.environ.get("WERROR") == "1" else []
    settings = [f"--config-settings=setup-args={option}" for option in options]
    settings += [f"--config-settings=build-dir={FOLDER / python.name / 'build'}"]
    install = [program, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps"]
    return run([*install, "--force-reinstall", *settings, "."], log, program)


def is_tested(folder: str, name: str, python: Python) -> bool:
    """Return whether the test file with this name in this folder is run."""
    if name in LEFT_OUT or (python.oldest_numpy and folder not in FOLDERS_OF_ARRAYS):
        return False
    return folder not in FOLDERS_LEFT_OUT or name in NOT_LEFT_OUT


def test(python: Python, environment: Path, log: Path) -> str:
    """Run the tests and return the result, from pytest's last line."""
    files = sorted(
        path
        for path in (ROOT / "tests" / "python").rglob("test_*.py")
        if is_tested(path.parent.name, path.stem.removeprefix("test_"), python)
    )
    chosen = ["-k", " and ".join(f"not {word}" for word in LONG)]
    program = environment / "bin" / "pytest"
    fault = run([program, "-q", "-p", "no:cacheprovider", "--timeout=100", *chosen, *files], log, program)
    output = log.read_text(errors="replace")
    lines = re.findall(r"^.*\b\d+ (?:passed|failed|errors?)\b.*$", output, re.MULTILINE)
    counts = lines[-1].strip("= ").partition(" in ")[0] if lines else ""
    return f"FAILED ({fault}) {counts}".strip() if fault else counts


def refusal(python: Python, log: Path) -> str:
    """Import the sources with an unsupported Python: that must raise an ImportError with the reason."""
    command = [python.path, "-c", "import pyisolate"]
    stderr = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS).stderr
    log.write_text(stderr)
    last = (stderr.strip().splitlines() or ["nothing"])[-1]
    good = last.startswith("ImportError: PyIsolate ")
    return "refused, as expected" if good else f"FAILED to refuse: {last}"


def examine(python: Python) -> Result:
    folder = FOLDER / python.name
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    log.unlink(missing_ok=True)
    begin = time.monotonic()
    if not python.supported:
        return Result(python, "-", refusal(python, log), time.monotonic() - begin)
    if fault := equip(python, folder / "venv", log):
        return Result(python, NOT_TRIED, f"no environment: {fault}", time.monotonic() - begin)
    built = build(python, folder / "venv", log)
    tests = "-" if built else test(python, folder / "venv", log)
    return Result(python, f"FAILED ({built})" if built else "built", tests, time.monotonic() - begin)


def show(results: Iterable[Result], missing: Sequence[str]) -> None:
    for result in results:
        python = result.python
        columns = f"{python.name:14} {python.full:12} {result.built:8} {result.seconds:5.0f} s"
        print(f"{columns}  {result.tests}  {python.path}")
        if not (result.good and result.tried):
            print(f"           log: {FOLDER / python.name / 'log'}")
    if missing:
        print(f"not found: {', '.join(missing)}; install them with pyenv or the system's packages")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="test-pythons", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ends", action="store_true", help="only the oldest and the newest")
    parser.add_argument("--oldest-numpy", action="store_true", help="arrays and tensors with that NumPy")
    parser.add_argument("pythons", nargs="*", metavar="PYTHON")
    options = parser.parse_args(arguments)
    missing: list[str] = []
    if options.pythons:
        named = [(text, ask(shutil.which(text) or text)) for text in options.pythons]
        if wrong := [text for text, python in named if python is None]:
            print(f"test-pythons: not working Pythons: {', '.join(wrong)}", file=sys.stderr)
            return 2
        pythons = [
            replace(python, oldest_numpy=options.oldest_numpy) for _, python in named if python is not None
        ]
    elif options.oldest_numpy:
        pythons = with_oldest_numpy(find(candidates()))
        missing = [] if pythons else [f"a Python for which NumPy {OLDEST_NUMPY} exists"]
    else:
        found = find(candidates())
        missing = [
            f"{major}.{minor}"
            for major, minor in VERSIONS
            if not any(python.supported and python.version == (major, minor) for python in found)
        ]
        pythons = without_the_usual(found, options.ends)
    results = []
    with ThreadPoolExecutor(min(AT_ONCE, len(os.sched_getaffinity(0)))) as pool:
        for python, result in zip(pythons, pool.map(examine, pythons), strict=True):
            print(f"== {python.name}: {python.path}", flush=True)
            results.append(result)
            if result.good and result.tried:
                continue
            print("".join((FOLDER / python.name / "log").read_text(errors="replace").splitlines(True)[-60:]))
    show(results, missing)
    enough = all(result.tried for result in results) or not options.pythons
    return 0 if enough and all(result.good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
