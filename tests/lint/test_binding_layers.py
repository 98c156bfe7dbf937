"""The layering of binding/: folders use each other downwards only, and files in no circle.

By what they include, and by which .c file defines a function or table that another one names.
"""

import re
from pathlib import Path

import pytest
from source import ROOT, c_files, find_cycle, functions, includes, name, without_comments

LAYERS = {
    "common": 0,
    "codec": 1,
    "codec/std": 2,
    "codec/buffers": 2,
    "codec/custom": 2,
    "codec/numpy": 3,
    "codec/torch": 3,
    "codec/cuda": 4,
    "rpc": 5,
    "rpc/pump": 6,
    "rpc/types": 7,
    "references": 8,
    "process": 8,
    "aio": 8,
    "aio/loop": 9,
    "aio/calls": 10,
    ".": 11,
}
"""Of each folder; those of the same layer do not use each other."""
PUBLIC = "piso/piso.h"  # which includes the other public ones
MOST_FILES = 20
BINDING = ROOT / "binding"
GPU = {"codec/cuda", "binding/gpu.c"}

_TABLE = re.compile(r"^(?!static|extern|typedef|#)\w[\w *]*?\b(core_\w+)(?:\[\w*\])?\s*=", re.MULTILINE)
"""The definition of a table or variable that other files see."""


def folder_of(path: Path) -> str:
    return path.parent.relative_to(BINDING).as_posix()


def fault(folder: str, target: str) -> str | None:
    """What is wrong with a use of something in folder `target` by `folder`, or None."""
    if target == folder:
        return None
    if target not in LAYERS:
        return "is neither the binding's nor the public header"
    if LAYERS[target] == LAYERS[folder]:
        return f"is beside {folder}"
    return f"is above {folder}" if LAYERS[target] > LAYERS[folder] else None


@pytest.mark.parametrize(
    ("folder", "target", "expected"),
    [
        ("codec", "rpc", "above"),
        ("codec", "codec/std", "above"),
        ("codec/numpy", "codec/torch", "beside"),
        ("aio", "process", "beside"),
        ("codec", "memory", "neither"),
        ("codec/std", "codec", None),
        ("rpc", "codec/torch", None),
        (".", "aio", None),
    ],
)
def test_the_rule_itself(folder: str, target: str, expected: str | None) -> None:
    found = fault(folder, target)
    assert found is None if expected is None else expected in (found or "")


def test_every_folder_has_a_layer_and_few_files() -> None:
    files = [folder_of(path) for path in c_files("binding")]
    assert set(files) == LAYERS.keys()
    assert {folder: files.count(folder) for folder in LAYERS if files.count(folder) > MOST_FILES} == {}


def test_includes_go_down() -> None:
    faults = []
    for path in c_files("binding"):
        folder = folder_of(path)
        for bracket, file in includes(path.read_text()):
            if bracket or file == PUBLIC:
                continue
            target = Path(file).parent.as_posix() if "/" in file else folder
            if wrong := fault(folder, target):
                faults.append(f"{name(path)}: {file} {wrong}")
    assert faults == []


def uses() -> dict[Path, list[Path]]:
    """For each .c file the others of which it names a function or table."""
    texts = {path: without_comments(path.read_text()) for path in c_files("binding") if path.suffix == ".c"}
    owners: dict[str, list[Path]] = {}
    for path, text in texts.items():
        for defined in {f for f, _, _ in functions(text) if f.startswith("core_")} | set(
            _TABLE.findall(text)
        ):
            owners.setdefault(defined, []).append(path)
    return {
        path: sorted(
            {
                owner
                for word in set(re.findall(r"\bcore_\w+", text))
                if path not in owners.get(word, [])
                for owner in owners.get(word, [])
            }
        )
        for path, text in texts.items()
    }


def test_files_do_not_use_each_other_in_circles() -> None:
    graph = {name(path): [name(owner) for owner in owners] for path, owners in uses().items()}
    assert find_cycle(graph) is None


def test_uses_go_down() -> None:
    faults = [
        f"{name(path)}: {name(owner)} {wrong}"
        for path, owners in uses().items()
        for owner in owners
        if (wrong := fault(folder_of(path), folder_of(owner)))
    ]
    assert faults == []


def test_uses_are_found() -> None:
    found = uses()
    assert BINDING / "codec/tables.c" in found[BINDING / "codec/encode.c"]
    assert BINDING / "rpc/pump/pump.c" in found[BINDING / "rpc/pump/sync.c"]
    assert (
        BINDING / "codec/std/exception_fields.c" in found[BINDING / "codec/std/exception_classes.c"]
    )  # a table


def test_only_the_part_for_gpus_calls_the_core_for_gpus() -> None:
    """The build option `gpu` leaves both out."""
    faults = [
        name(path)
        for path in c_files("binding")
        if re.search(r"\bpiso_cuda_\w+", without_comments(path.read_text()))
        and folder_of(path) not in GPU
        and name(path) not in GPU
    ]
    assert faults == []
    build = (BINDING / "meson.build").read_text()
    assert build.index("get_option('gpu')") < build.index("codec/cuda")
