"""docs/wire-format.md names every method of the control objects and every key of `load`, and no other."""

from __future__ import annotations

import ast
import re

import pytest
from source import ROOT

_TEXT = (ROOT / "docs" / "wire-format.md").read_text()
_HEADER = (ROOT / "include" / "piso" / "protocol.h").read_text()


def class_named(name: str) -> ast.ClassDef:
    """The definition of a class of the package, which has one of that name."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "pyisolate").rglob("*.py")]
    (found,) = (
        node
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name == name
    )
    return found


def rows(heading: str) -> list[str]:
    """What the first cells name of the table whose head, or the text before it, begins like this."""
    start = _TEXT.index(heading)
    table = re.search(r"^\|[ -]*---.*\n((?:\|.*\n)*)", _TEXT[start:], re.MULTILINE)
    assert table is not None
    return [key for row in table[1].splitlines() for key in re.findall(r"`(\w+)`", row.split("|")[1])]


@pytest.mark.parametrize(
    ("heading", "name"),
    [("| both sides |", "Control"), ("| the child |", "ChildControl"), ("| the host |", "HostControl")],
)
def test_methods_of_control_objects(heading: str, name: str) -> None:
    methods = [
        node.name
        for node in class_named(name).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_")
    ]
    assert sorted(rows(heading)) == sorted(methods)
    assert set(methods) <= set(re.findall(r'PISO_METHOD_\w+ +"(\w+)"', _HEADER))


def test_keys_of_load() -> None:
    keys = [
        node.target.id
        for node in class_named("LoadRequest").body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    assert sorted(rows("The request of **`load`**")) == sorted(keys)


def test_keys_of_exceptions() -> None:
    keys = re.findall(r'PISO_EXCEPTION_\w+ +"(\w+)"', _HEADER)
    assert sorted(keys) == sorted(rows("The payload of **EXCEPTION**"))
