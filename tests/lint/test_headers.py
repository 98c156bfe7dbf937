"""The public header: parts that can be used one by one, and that say the same version as the build."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from source import ROOT, includes

HEADERS = sorted((ROOT / "include" / "piso").glob("*.h"))
LANGUAGES = [("cc", "c", "c11"), ("c++", "c++", "c++11")]


@pytest.mark.parametrize(("compiler", "language", "standard"), LANGUAGES, ids=["c", "c++"])
@pytest.mark.parametrize("header", HEADERS, ids=lambda path: path.name)
def test_each_header_compiles_alone(header: Path, compiler: str, language: str, standard: str) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"there is no {compiler}")
    command = [compiler, f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]
    # twice, so that guards are tried as well
    text = f'#include "piso/{header.name}"\n' * 2
    command += ["-I", str(ROOT / "include"), "-x", language, "-"]
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr


def test_headers_are_short() -> None:
    assert {path.name for path in HEADERS if path.read_text().count("\n") >= 200} == set()


def test_piso_includes_every_part() -> None:
    whole = ROOT / "include" / "piso" / "piso.h"
    parts = {f"piso/{path.name}" for path in HEADERS if path != whole}
    assert {file for _, file in includes(whole.read_text())} == parts


def test_every_header_is_installed() -> None:
    listed = re.findall(r"include/piso/(\w+\.h)'", (ROOT / "src" / "meson.build").read_text())
    assert listed == [path.name for path in HEADERS]


def test_version_is_that_of_the_build() -> None:
    text = (ROOT / "include" / "piso" / "version.h").read_text()
    build = re.search(r"^  version: '([\d.]+)'", (ROOT / "meson.build").read_text(), re.MULTILINE)
    assert build is not None
    parts = [re.search(rf"PISO_VERSION_{part}\s+(\d+)", text) for part in ("MAJOR", "MINOR", "PATCH")]
    assert ".".join(part[1] for part in parts if part) == build[1]
    assert f'PISO_VERSION       "{build[1]}"' in text


def test_every_public_function_is_exported_by_name() -> None:
    declared = {
        function
        for path in HEADERS
        for function in re.findall(r"^PISO_API[^;]*?\b(piso_\w+)\(", path.read_text(), re.MULTILINE)
    }
    exported = re.findall(r"^ {4}(piso_[\w*]+);$", (ROOT / "src" / "libpiso.map").read_text(), re.MULTILINE)
    assert exported == sorted(exported)
    patterns = [name.removesuffix("*") for name in exported if name.endswith("*")]
    assert {name for name in declared if not name.startswith(tuple(patterns))} == {
        name for name in exported if not name.endswith("*")
    }
