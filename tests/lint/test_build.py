"""Sources are listed by name in meson.build files; none may be forgotten."""

import re
from pathlib import Path

import pytest
from source import ROOT, name


def listed(build: Path) -> set[str]:
    return set(re.findall(r"'([^'\n]+)'", build.read_text()))


@pytest.mark.parametrize(
    ("folder", "pattern", "suffix"),
    [
        ("src", "**/*.c", True),
        ("binding", "**/*.c", True),
        ("pyisolate", "**/*.py*", True),
        ("tests/c", "test_*.c", False),
        ("tests/c", "stress_*.c", False),
        ("tests/fuzz", "fuzz_*.c", False),
        ("tests/hostile", "*.c", True),
        ("benchmarks", "*.c", True),
    ],
)
def test_every_file_is_listed(folder: str, pattern: str, suffix: bool) -> None:
    base = ROOT / folder
    names = listed(base / "meson.build")
    files = [path for path in base.glob(pattern) if path.suffix != ".pyc"]
    forgotten = [
        name(path)
        for path in files
        if path.relative_to(base).as_posix().removesuffix("" if suffix else ".c") not in names
    ]
    assert not forgotten
