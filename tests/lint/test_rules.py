"""Rules of the project that no general tool knows."""

import ast
import re

from source import ROOT, c_files, name, without_comments

HEADERS = sorted((ROOT / "include").rglob("*.h"))
PACKAGE = sorted((ROOT / "pyisolate").rglob("*.py"))
UNSAFE = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle"}


def imported(source: str) -> set[str]:
    """First components of the absolute imports in Python source."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module.split(".")[0])
    return modules


def test_nothing_unpickles() -> None:
    """The child is not trusted: no format that can run code is ever read."""
    assert {name(path): bad for path in PACKAGE if (bad := imported(path.read_text()) & UNSAFE)} == {}
    pattern = re.compile(r'"(?:_?pickle|marshal|cloudpickle|dill)"|\bPyMarshal_')
    binding = [
        name(path)
        for path in c_files("binding")
        if pattern.search(without_comments(path.read_text(), strings=True))
    ]
    assert not binding


def test_only_the_package_imports_core() -> None:
    pattern = re.compile(
        r"^\s*(?:from pyisolate\._core|import pyisolate\._core|from pyisolate import .*\b_core\b)", re.M
    )
    files = [path for folder in ("examples", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    assert [name(path) for path in files if pattern.search(path.read_text())] == []


def test_public_functions_are_documented() -> None:
    """Each stands in a paragraph of its header that has a comment."""
    bare = [
        function
        for header in HEADERS
        for block in re.split(r"\n\s*\n", header.read_text())
        for function in re.findall(r"^PISO_API [^(;]*?\b(piso_\w+)\(", block, re.MULTILINE)
        if "/*" not in block and not function.startswith("piso_write_")
    ]
    assert not bare


def test_types_are_heap_types() -> None:
    """Static types and single-phase initialisation would share state between interpreters."""
    faults = [
        f"{name(path)}: {match[0]}"
        for path in c_files("binding")
        if (
            match := re.search(
                r"\bstatic\s+PyTypeObject\s+\w+\s*=|\bPyType_Ready\b|\bPyModule_Create\b",
                without_comments(path.read_text()),
            )
        )
    ]
    assert not faults
    assert "PyModuleDef_Init" in (ROOT / "binding/module.c").read_text()


def test_cleared_exceptions_have_a_reason() -> None:
    """PyErr_Clear hides an error: the line, or the one above, says why."""
    faults = []
    for path in c_files("binding"):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines, 1):
            if "PyErr_Clear()" in line and not re.search(r"/\*|\*/", line + lines[max(number - 2, 0)]):
                faults.append(f"{name(path)}:{number}")
    assert not faults


def test_assertions_have_no_side_effects() -> None:
    """They are compiled out of releases."""
    pattern = re.compile(r"\bassert\((?=[^;]*(?:\+\+|--|[^=!<>]=[^=]))[^;]*;")
    faults = [
        f"{name(path)}: {match[0]}"
        for path in c_files("src", "binding")
        if (match := pattern.search(without_comments(path.read_text())))
    ]
    assert not faults


STATIC = re.compile(
    r"\bPTHREAD_(?:MUTEX|RWLOCK|COND|ONCE)_INIT\w*|\bpthread_(?:once|atfork)\(|\bstatic\s+pthread_\w+_t\b"
)
MAY_BE_STATIC = {
    "src/os/fork.c": "it is the table",
    "src/os/fork.h": "it is the table",
    "binding/rpc/thread.c": "libc runs it again in a forked process, and all it does is to make a key",
}


def test_locks_of_the_process_are_in_the_table() -> None:
    """Another one would be held for ever in the child of a fork (src/os/fork.h)."""
    faults = [
        f"{name(path)}: {match[0]}"
        for path in c_files("src", "binding")
        if (match := STATIC.search(without_comments(path.read_text()))) and name(path) not in MAY_BE_STATIC
    ]
    assert not faults


def test_no_property_is_cached_under_a_lock_of_its_class() -> None:
    """That of Python 3.11 is held for ever in the child of a fork, too (pyisolate/_host/forks.py)."""
    assert not [name(path) for path in PACKAGE if "cached_property" in path.read_text()]
