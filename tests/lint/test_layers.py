"""The layering of the core: includes and calls go down, never sideways, up or round.

That of the binding: test_binding_layers.py.
"""

import re
from pathlib import Path

import pytest
from source import ROOT, c_files, find_cycle, functions, includes, name, without_comments

LAYERS = {
    "base": 0,
    "os": 1,
    "wire": 1,
    "gpu": 2,
    "group": 2,
    "memory": 2,
    "seccomp": 2,
    "channel": 3,
    "sandbox": 3,
    "sandbox/plan": 4,
    "supervisor": 5,
    "session": 6,
    "session/events": 7,
}
PUBLIC = "piso/piso.h"  # which includes the other public ones
STANDARD = {"stdbool.h", "stddef.h", "stdint.h"}


def folder_of(path: Path) -> str:
    return path.parent.relative_to(ROOT / "src").as_posix()


def fault(folder: str, bracket: bool, file: str) -> str | None:
    """What is wrong with an include in src/`folder`, or None."""
    target = Path(file).parent.as_posix() if "/" in file else folder
    if bracket or file == PUBLIC or target == folder:
        return None
    if target not in LAYERS:
        return f"{file} is in no layer"
    if LAYERS[target] > LAYERS[folder]:
        return f"{file} is above {folder}"
    if LAYERS[target] == LAYERS[folder]:
        return f"{file} is beside {folder}"
    return None


@pytest.mark.parametrize(
    ("folder", "file", "expected"),
    [
        ("wire", "channel/channel.h", "above"),
        ("wire", "os/os.h", "beside"),
        ("base", "pyobject/x.h", "no layer"),
        ("session", "wire/frame.h", None),
        ("session", "session/events/x.h", "above"),
        ("wire", "frame.h", None),
        ("base", PUBLIC, None),
    ],
)
def test_the_rule_itself(folder: str, file: str, expected: str | None) -> None:
    found = fault(folder, False, file)
    assert found is None if expected is None else expected in (found or "")


def test_every_folder_is_a_layer() -> None:
    assert {folder_of(path) for path in c_files("src")} <= LAYERS.keys()


def test_includes_go_down() -> None:
    faults = [
        f"{name(path)}: {wrong}"
        for path in c_files("src")
        for bracket, file in includes(path.read_text())
        if (wrong := fault(folder_of(path), bracket, file))
    ]
    assert not faults


def test_cycles_are_found() -> None:
    assert find_cycle({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]
    assert find_cycle({"a": ["b", "c"], "b": ["c"], "c": []}) is None


def resolve(path: Path, file: str) -> str | None:
    """The repository's file behind an #include "file" in `path`."""
    for folder in (path.parent, ROOT / "src", ROOT / "binding", ROOT / "include"):
        if (folder / file).is_file():
            return name((folder / file).resolve())
    return None


def test_headers_have_no_cycle() -> None:
    graph = {
        name(path): [
            target
            for bracket, file in includes(path.read_text())
            if not bracket and (target := resolve(path, file))
        ]
        for path in c_files("include", "src", "binding")
        if path.suffix == ".h"
    }
    assert find_cycle(graph) is None


_DATA = re.compile(r"^(?:const |_Atomic |\w+ )*\*?(piso_\w+)(?:\[\w*\])* ?[=;]", re.MULTILINE)


def uses(folder: Path) -> dict[str, list[str]]:
    """For each file of a layer those beside it whose functions or variables it names."""
    texts = {path: without_comments(path.read_text()) for path in sorted(folder.glob("*.c"))}
    owners = {
        function: path
        for path, text in texts.items()
        for function, _, _ in functions(text)
        if "piso_" in function
    }
    owners |= {variable: path for path, text in texts.items() for variable in _DATA.findall(text)}
    return {
        name(path): sorted(
            {
                name(owner)
                for word in set(re.findall(r"\bpiso_\w+", text))
                if (owner := owners.get(word, path)) != path
            }
        )
        for path, text in texts.items()
    }


@pytest.mark.parametrize("layer", LAYERS)
def test_files_of_a_layer_do_not_use_each_other_in_circles(layer: str) -> None:
    assert find_cycle(uses(ROOT / "src" / layer)) is None


def test_uses_are_found() -> None:
    found = uses(ROOT / "src" / "session")
    assert "src/session/send.c" in found["src/session/segments.c"]
    assert "src/session/send.c" in found["src/session/names.c"]
    assert "src/session/bodies.c" in found["src/session/calls.c"]  # by a function
    assert "src/session/bodies.c" in found["src/session/backlog.c"]
    assert "src/seccomp/tables.c" in uses(ROOT / "src" / "seccomp")["src/seccomp/filter.c"]  # by a variable


def test_public_header_needs_only_the_standard_library() -> None:
    own = {path.relative_to(ROOT / "include").as_posix() for path in c_files("include")}
    for path in c_files("include"):
        assert {file for _, file in includes(path.read_text())} <= STANDARD | own
