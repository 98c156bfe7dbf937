"""Write the tables of the sandbox's filter, src/seccomp/tables.c, from the rules.

    python3 tools/filters/generate_filters.py

Needs libseccomp.so.2, which knows the numbers of system calls on each machine. Neither building nor running
does. It does not make the programs: it cannot express a call that is permitted with some arguments and has an
error of its own with others.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import filter_rules as rules
from filter_program import Instruction, compile_filter

TABLES = Path(__file__).resolve().parents[2] / "src" / "seccomp" / "tables.c"
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH_..., which libseccomp names them by, too."""

_HEAD = """\
/* tables.c - made by tools/filters/generate_filters.py from the rules beside it; not to be edited.
 *
 * The first number of each instruction is its code, then come two jumps and its value. */
#include "seccomp/tables.h"

/* clang-format off */
"""
_IN_A_LINE = 5


class Numbers:
    """The numbers of system calls. Raises OSError where there is no libseccomp."""

    def __init__(self) -> None:
        library = ctypes.CDLL("libseccomp.so.2")
        self._resolve, self._name = (
            library.seccomp_syscall_resolve_name_arch,
            library.seccomp_syscall_resolve_num_arch,
        )
        self._name.restype = ctypes.c_void_p
        self._free = ctypes.CDLL(None).free
        self._free.argtypes = [ctypes.c_void_p]

    def name(self, number: int, machine: str) -> str | None:
        """Of the call with this number."""
        found = self._name(ctypes.c_uint32(ARCHITECTURES[machine]), number)
        if not found:
            return None
        try:
            return ctypes.string_at(found).decode()
        finally:
            self._free(found)

    def of(self, name: str, machine: str) -> int | None:
        """None: this machine has no such call. Raises ValueError for a name that no machine knows."""
        if name in rules.NUMBERS:
            only, number = rules.NUMBERS[name]
            return number if only in ("", machine) else None
        number = self._resolve(ctypes.c_uint32(ARCHITECTURES[machine]), name.encode())
        if number == -1:
            raise ValueError(f"there is no system call {name!r}")
        return number if number >= 0 else None


def make_program(machine: str, numbers: Numbers) -> list[Instruction]:
    """The filter for a machine."""
    permitted = {numbers.of(name, machine) for name in rules.PERMITTED} - {None}
    checked = {numbers.of(name, machine): found for name, found in rules.CHECKED.items()}
    return compile_filter(
        ARCHITECTURES[machine],
        {number for number in permitted if number is not None},
        {number: found for number, found in checked.items() if number is not None},
        rules.UNKNOWN,
        rules.OPTIONS,
    )


LAST_NAMED = 449
"""Later calls have names here only if the rules name them: what libseccomp knows depends on its version."""


def make_names(machine: str, numbers: Numbers) -> list[str | None]:
    """The names of calls by number."""
    named = {number: name for number in range(LAST_NAMED + 1) if (name := numbers.name(number, machine))}
    for name in rules.NUMBERS:
        number = numbers.of(name, machine)
        if number is not None:
            named[number] = name
    return [named.get(number) for number in range(max(named) + 1)]


def render() -> str:
    """The text of the file with all tables."""
    numbers = Numbers()
    text = _HEAD
    for machine in ARCHITECTURES:
        text += "".join(_table(machine, make_program(machine, numbers)))
        text += "".join(_names(machine, make_names(machine, numbers)))
    return text


def _table(machine: str, program: list[Instruction]) -> Iterator[str]:
    yield f"\nconst struct sock_filter piso__filter_{machine}[] = {{\n"
    for start in range(0, len(program), _IN_A_LINE):
        line = program[start : start + _IN_A_LINE]
        yield "    " + " ".join(f"{{0x{c:02x}, {y}, {n}, 0x{k:x}}}," for c, y, n, k in line) + "\n"
    yield "};\n"
    yield f"const size_t piso__filter_{machine}_count = {len(program)};\n"


def _names(machine: str, names: list[str | None]) -> Iterator[str]:
    yield f"\nconst char *const piso__names_{machine}[] = {{\n"
    for start in range(0, len(names), _IN_A_LINE):
        line = names[start : start + _IN_A_LINE]
        yield "    " + " ".join(f'"{name}",' if name else "NULL," for name in line) + "\n"
    yield "};\n"
    yield f"const size_t piso__names_{machine}_count = {len(names)};\n"


if __name__ == "__main__":
    TABLES.write_text(render())
    print(f"{TABLES}: {TABLES.read_text().count('{0x')} instructions")
