"""The messages and actions of `make` on a machine that lacks a tool, simulated with a PATH of stand-ins."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import paths
import pytest

ROOT = paths.ROOT
SCRIPT = ROOT / "tools/install-packages"
TOOLS = ["cat", "cp", "env", "find", "grep", "make", "mktemp", "rm", "sed", "sh", "sort", "tr", "true"]
BUILD = "gcc libc6-dev python3 python3-dev python3-venv"
ALL = "clang gcc libc6-dev libclang-rt-dev libcmocka-dev pkg-config python3 python3-dev python3-venv spin"
WORKS = {
    "python3": 'echo "python3.11 system"',
    "cc": "cat >/dev/null",
    "pkg-config": "true",
    "clang": "cat >/dev/null",
    "spin": "true",
}
"""The answers with which the script finds everything."""

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, TOOLS)), reason=f"one of these is not here: {', '.join(TOOLS)}"
)


class Machine:
    """A folder of programs: the usual ones, and stand-ins of one line of sh."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.log = folder / "log"
        self.bin.mkdir()
        for name in TOOLS:
            found = shutil.which(name)
            assert found
            (self.bin / name).symlink_to(found)
        self.has(id="echo 1000", **{"dpkg-query": "false", "apt-get": f"echo apt-get $* >>{self.log}"})

    def has(self, **programs: str) -> None:
        for name, line in programs.items():
            path = self.bin / name
            path.unlink(missing_ok=True)
            path.write_text(f"#!/bin/sh\n{line}\n")
            path.chmod(0o755)

    def run(self, *command: str | Path, cwd: Path = ROOT, **environ: str) -> tuple[int, str, str]:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={"PATH": str(self.bin), **environ},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def installed(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def commands(text: str) -> list[str]:
    """Return the lines that the user can copy."""
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


def test_nothing_is_said_where_nothing_is_missing(machine: Machine) -> None:
    machine.has(**WORKS)
    assert machine.run(SCRIPT, "all") == (0, "", "")
    assert not machine.installed()


@pytest.mark.parametrize(("what", "packages"), [("build", BUILD), ("all", ALL)])
@pytest.mark.parametrize(("sudo", "prefix"), [(None, "su"), ("false", "sudo sh")])
def test_who_may_not_install_is_told_one_command(
    machine: Machine, what: str, packages: str, sudo: str | None, prefix: str
) -> None:
    if sudo:
        machine.has(sudo=sudo)
    status, _, said = machine.run(SCRIPT, what)
    assert status != 0
    assert commands(said) == [
        f"{prefix} -c 'apt-get update; apt-get install -y --no-install-recommends {packages}'"
    ]
    assert not machine.installed()


def test_libraries_of_another_machine_need_its_architecture(machine: Machine) -> None:
    machine.has(**{**WORKS, "pkg-config": '[ -z "$PKG_CONFIG_LIBDIR" ]'})
    status, _, said = machine.run(SCRIPT, "build aarch64")
    assert status != 0
    assert commands(said) == [
        "su -c 'dpkg --add-architecture arm64; apt-get update; apt-get install -y --no-install-recommends "
        "gcc-aarch64-linux-gnu libc6-dev-arm64-cross libcmocka-dev:arm64 qemu-user'"
    ]


def test_musl_is_looked_for(machine: Machine) -> None:
    machine.has(**WORKS)
    assert "install -y --no-install-recommends musl-tools" in machine.run(SCRIPT, "build musl")[2]
    machine.has(**{"musl-gcc": "cat >/dev/null"})
    assert machine.run(SCRIPT, "build musl") == (0, "", "")


def test_another_system_is_told_what_it_can_have(machine: Machine) -> None:
    machine.has(**WORKS, uname="echo Darwin")
    status, _, said = machine.run(SCRIPT, "build", "make build")
    assert status != 0
    assert "make build needs Linux, and this is Darwin" in said
    assert "pip install ." in said


@pytest.mark.parametrize("programs", [{"id": "echo 0"}, {"sudo": '[ "$1" = -n ] && shift; exec "$@"'}])
def test_who_may_install_installs(machine: Machine, programs: dict[str, str]) -> None:
    source = machine.bin.parent / "source"
    source.mkdir()
    for name, line in WORKS.items():
        (source / name).write_text(f"#!/bin/sh\n{line}\n")
        (source / name).chmod(0o755)
    brings = f'echo apt-get $* >>{machine.log}; [ "$1" != install ] || cp {source}/* {machine.bin}'
    machine.has(**programs, **{"apt-get": brings})
    status, _, said = machine.run(SCRIPT, "build")
    assert (status, said) == (0, "")
    assert machine.installed().splitlines() == [
        "apt-get update",
        f"apt-get install -y --no-install-recommends {BUILD}",
    ]


def test_what_apt_does_not_bring_is_told(machine: Machine) -> None:
    machine.has(id="echo 0")
    status, _, said = machine.run(SCRIPT, "build")
    assert status != 0
    assert "still missing" in said
    assert "a C compiler" in said


@pytest.mark.parametrize(
    ("broken", "packages"),
    [
        ({"python3": 'echo "python3.11 system ensurepip"'}, "python3.11 python3.11-dev python3.11-venv"),
        (
            {"python3": 'echo "python3.13 system /usr/include/python3.13/Python.h"'},
            "python3.13 python3.13-dev python3.13-venv",
        ),
        ({"cc": "false"}, "gcc libc6-dev"),
    ],
)
def test_only_what_is_missing_is_named(machine: Machine, broken: dict[str, str], packages: str) -> None:
    machine.has(**{**WORKS, **broken})
    status, _, said = machine.run(SCRIPT, "build")
    assert status != 0
    assert commands(said)[0].endswith(f"--no-install-recommends {packages}'")


@pytest.mark.parametrize(
    ("python", "line", "expected"),
    [
        ("/opt/python3", 'echo "python3.12 own /opt/include/Python.h"', "without /opt/include/Python.h"),
        (
            "/opt/python3",
            'echo "old cpython 3.9"',
            "3.10 or later with the GIL, and .*python3 is cpython 3.9",
        ),
        (
            "/opt/python3",
            'echo "old free-threaded 3.14"',
            "with the GIL, and .*python3 is free-threaded 3.14",
        ),
        ("/opt/python3", "echo shim >&2; exit 127", r"does not run \(shim\)"),
        ("/opt/python3", None, "/python3 was not found;"),
    ],
)
def test_an_own_python_needs_no_package(
    machine: Machine, tmp_path: Path, python: str, line: str | None, expected: str
) -> None:
    machine.has(**WORKS, **{"python3.11": "true"})
    own = tmp_path / "own" / "python3"
    own.parent.mkdir()
    if line:
        own.write_text(f"#!/bin/sh\n{line}\n")
        own.chmod(0o755)
    status, _, said = machine.run(SCRIPT, "build", "make bench", PYTHON=str(own))
    assert status != 0
    assert re.search(expected, said)
    assert "run: make bench PYTHON=python3.11" in said
    assert not commands(said)


def test_other_systems_are_told_what_is_needed(machine: Machine) -> None:
    (machine.bin / "apt-get").unlink()
    status, _, said = machine.run(SCRIPT, "build")
    assert status != 0
    assert "python3, a C compiler" in said
    assert not commands(said)


@pytest.mark.parametrize("target", ["bench", "build", "test", "test-asan", "lint"])
def test_make_looks_before_it_makes_anything(machine: Machine, tmp_path: Path, target: str) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "tools").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", checkout)
    shutil.copy(SCRIPT, checkout / "tools")
    machine.has(python3=WORKS["python3"])
    status, _, said = machine.run("make", target, cwd=checkout)
    assert status != 0
    assert len(commands(said)) == 1
    assert sorted(os.listdir(checkout)) == ["Makefile", "tools"]
