"""Which folder of the package may use which, and that no modules use each other in a circle.

Imports inside functions and for type checkers count, too.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from source import ROOT, find_cycle

PACKAGE = ROOT / "pyisolate"
PUBLIC = ""  # the modules beside the folders
USES: dict[str, set[str]] = {
    "_util": set(),
    PUBLIC: {"_util"},
    "_rpc": {PUBLIC, "_util"},
    "_env": {PUBLIC, "_util"},
    "_settings": {PUBLIC, "_util", "_env"},
    "_sandbox": {PUBLIC, "_util", "_env", "_settings"},
    "_child": {PUBLIC, "_util", "_rpc"},
    "_zygote": {PUBLIC, "_util", "_rpc", "_child"},
    "_host": {PUBLIC, "_util", "_rpc", "_env", "_settings", "_sandbox", "_child"},
}
"""Each folder with those that it may use besides itself. All may use ``_core``, the compiled module."""
STANDALONE = {"_env.build_extension", "_zygote.prewarm_extension", "_child.programs.sitecustomize"}
"""Run by themselves: as extensions, which import the package as others' do, and as a program."""


def modules() -> dict[str, Path]:
    """The modules of the package by name; not the package itself, which offers names of all folders."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name and name not in STANDALONE:
            found[name] = path
    return found


MODULES = modules()


def folder_of(module: str) -> str:
    return module.split(".")[0] if module.startswith("_") and module != "_core" else PUBLIC


def imported(module: str, text: str) -> Iterator[str]:
    """The modules of the package that a module's text imports."""
    package = module.split(".")[:-1]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) + 1 - node.level] + (node.module or "").split(".")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pyisolate":
            base = (node.module or "").split(".")[1:]
        elif isinstance(node, ast.Import):
            yield from (
                name.name.partition(".")[2] for name in node.names if name.name.startswith("pyisolate.")
            )
            continue
        else:
            continue
        prefix = ".".join(filter(None, base))
        for alias in node.names:
            whole = f"{prefix}.{alias.name}".lstrip(".")
            yield whole if whole in MODULES else prefix or whole


def graph() -> dict[str, list[str]]:
    return {
        module: sorted(
            {target for target in imported(module, path.read_text()) if target in MODULES} - {module}
        )
        for module, path in MODULES.items()
    }


@pytest.mark.parametrize(
    ("module", "text", "expected"),
    [
        ("_host.process", "from ..errors import X", ["errors"]),
        ("_host.process", "from . import launch", ["_host.launch"]),
        ("_host.process", "from .._util.rmtree import x", ["_util.rmtree"]),
        ("_host.process", "def f():\n    from .._env import builder", ["_env.builder"]),
        ("tensors", "from ._util import rmtree", ["_util.rmtree"]),
        ("_host.floor", "import pyisolate._env.builder", ["_env.builder"]),
        ("_host.floor", "from pyisolate._env import builder", ["_env.builder"]),
        ("_host.floor", "from pyisolate import ExtensionBase", ["ExtensionBase"]),
    ],
)
def test_imports_are_found(module: str, text: str, expected: list[str]) -> None:
    assert list(imported(module, text)) == expected


def test_every_folder_has_its_place() -> None:
    assert {folder_of(module) for module in MODULES} == USES.keys()


def test_imports_go_where_they_may() -> None:
    faults = [
        f"{module} imports {target}"
        for module, targets in graph().items()
        for target in targets
        if folder_of(target) not in USES[folder_of(module)] | {folder_of(module)}
    ]
    assert not faults


def test_folders_are_in_layers() -> None:
    assert find_cycle({folder: sorted(uses) for folder, uses in USES.items()}) is None


def test_modules_do_not_use_each_other_in_circles() -> None:
    assert find_cycle(graph()) is None


@pytest.mark.parametrize("folder", sorted(USES))
def test_folders_are_small_and_say_what_they_hold(folder: str) -> None:
    files = [path for path in (PACKAGE / folder).iterdir() if path.suffix in (".py", ".pyi")]
    assert len(files) <= 20
    docstring = ast.get_docstring(ast.parse((PACKAGE / folder / "__init__.py").read_text()))
    assert docstring
    if folder:
        assert len(docstring.splitlines()) <= 4
        assert "Uses" in docstring
