"""What a zygote does before it forks, so that its children copy little of its memory.

Each page that a child writes to is copied for it, also when only a reference was counted. So what is filled
in on first use is there before the fork; what a child allocates lies together on new pages; and together lies
what it writes to in any case: the interpreter counts in the code that it runs.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import json
import os
import re
import site
import sys
from collections.abc import Callable, Iterable
from types import CodeType, FunctionType

from . import child

__all__ = ["warm_up"]

_kept: list[object] = []
"""Never freed."""


def warm_up(start: Callable[[], None]) -> None:
    """Make this process ready to be forked. The collector is off; a collection writes to every object.

    `start`: what a child does first; it runs in a child only.
    """
    _clear_type_cache()  # each entry that a child replaces would let go of a name somewhere
    _rehearse()
    _gather_code(_code_that_runs(start))
    gc.collect()
    _fill_gaps()
    gc.freeze()


def _clear_type_cache() -> None:
    clear = getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache
    clear()


def _rehearse() -> None:
    """Do once what every child does, so that what it fills in on first use is there, and shared."""
    asyncio.run(child.rehearse())
    importlib.util.find_spec("pyisolate_looks_through_the_path")
    site.setquit()
    site.setcopyright()
    site.sethelper()


# ---- code ----


def _code_that_runs(start: Callable[[], None]) -> set[int]:
    """Identities of the code that a child runs, of one that tells them and ends.

    Libraries with threads stop them before a fork: those of OpenBLAS are gone after this one, for good.
    """
    reader, writer = os.pipe()
    seen: set[int] = set()
    sys.setprofile(lambda frame, _event, _argument: seen.add(id(frame.f_code)))  # also what runs at the fork
    pid = os.fork()
    if pid == 0:
        try:
            start()
            asyncio.run(child.rehearse())
            sys.setprofile(None)
            with os.fdopen(writer, "w") as file:
                json.dump(list(seen), file)
        finally:
            os._exit(0)
    sys.setprofile(None)
    os.close(writer)
    with os.fdopen(reader) as file:
        found = file.read()
    os.waitpid(pid, 0)
    return set(json.loads(found or "[]"))


def _gather_code(wanted: set[int]) -> None:
    """Give the functions with this code a copy of it; the copies lie together.

    Of functions of the standard library and ours; others may have marked their code.
    """
    for module in (site, child):
        wanted.update(id(value.__code__) for value in vars(module).values() if type(value) is FunctionType)
    functions = [
        found
        for found in gc.get_objects()
        if type(found) is FunctionType and id(found.__code__) in wanted and _is_known(found)
    ]
    _kept.append([function.__code__ for function in functions])  # else the copies take the places of these
    _fill_gaps()
    copies: dict[int, CodeType] = {}
    for function in functions:
        function.__code__ = _copied(function.__code__, wanted, copies)


def _is_known(function: FunctionType) -> bool:
    name = (function.__module__ or "").partition(".")[0]
    return name in sys.stdlib_module_names or name == __package__


def _copied(code: CodeType, wanted: set[int], copies: dict[int, CodeType]) -> CodeType:
    if id(code) not in copies:
        inner = [
            _copied(value, wanted, copies) if isinstance(value, CodeType) and id(value) in wanted else value
            for value in code.co_consts
        ]
        copies[id(code)] = code.replace(co_consts=tuple(inner))
    return copies[id(code)]


# ---- gaps ----


def _fill_gaps() -> None:
    """Take the free blocks of pages that hold something already: children allocate elsewhere."""
    for _ in range(2):  # what the first one needs leaves gaps, too
        filling: list[object] = []
        _kept.append(filling)
        for size, free in _free_blocks():
            if size < sys.getsizeof(b""):
                filling.append([object() if size <= 16 else float(n) for n in range(free)])
            else:
                filling.append([bytes(size - sys.getsizeof(b"")) for _ in range(free)])


def _free_blocks() -> Iterable[tuple[int, int]]:
    """(size, count) of the free blocks of the interpreter's allocator; it tells stderr only."""
    stderr = os.dup(2)
    with open(os.memfd_create("debugmallocstats"), "r+b") as file:
        try:
            os.dup2(file.fileno(), 2)
            sys._debugmallocstats()
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        file.seek(0)
        table = re.findall(rb"^ +\d+ +(\d+) +\d+ +\d+ +(\d+)$", file.read(), re.MULTILINE)
    return [(int(size), int(free)) for size, free in table]
